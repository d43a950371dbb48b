// Can what is mapped for reading only be written after all? A user maps everything that can be mapped so: a file of root's in
// a tmpfs, a System V segment, sealed memfds, a file of the container; then makes the host's own mprotect, madvise and mremap
// on it, from every syscall instruction of the stub, and writes. Nobody else may see a byte of it.
#include "hostile.h"
#include <sys/ipc.h>
#include <sys/shm.h>

enum { SITES_MAX = 512, PLACES_MAX = 8 };
static char *sites[SITES_MAX];
static long site_count;
static const char text[] = "what root has written";

static void collect(char *page) {
    if (!can_read(page))
        return;
    for (unsigned long at = 0; at + 1 < PAGE && site_count < SITES_MAX; at++)
        if (page[at] == 0x0f && page[at + 1] == 0x05)
            sites[site_count++] = page + at;
}

static char *places[PLACES_MAX];
static int place_count;

static void add(void *place) {
    if (place != MAP_FAILED)
        places[place_count++] = place;
}

static void fall(int number) { _exit(number == SIGSEGV ? 0 : 1); }

// The call is made at `site`; what comes after it there is not ours, so that the process may well die of it: the write is
// then tried by a handler.
static char *victim;
static void write_and_leave(int number) {
    (void)number;
    signal(SIGSEGV, fall);
    signal(SIGBUS, fall);
    memcpy(victim, "OWNED", 5);
    _exit(0);
}

static const struct { long number, third; } calls[] = {
    {SYS_mprotect, PROT_READ | PROT_WRITE}, {SYS_madvise, MADV_REMOVE}, {SYS_madvise, MADV_POPULATE_WRITE}, {SYS_mremap, 8192}};
enum { CALLS = sizeof calls / sizeof *calls };

static void attack(long packed) {
    static char stack[65536];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&other, NULL);
    int deadly[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGSYS, SIGFPE, SIGALRM};
    for (int at = 0; at < 7; at++) {
        struct sigaction action = {.sa_handler = write_and_leave, .sa_flags = SA_ONSTACK | SA_NODEFER};
        sigaction(deadly[at], &action, NULL);
    }
    long call = packed % CALLS;
    victim = places[packed / CALLS % place_count];
    __asm__ volatile("mov $1, %%r10\n\tpush $0\n\tjmp *%1"
                     : : "a"(calls[call].number), "r"(sites[packed / CALLS / place_count]), "D"(victim), "S"(4096L),
                         "d"(calls[call].third)
                     : "rcx", "r10", "r11", "memory");
}

static void be_user(int segment, int sealed, int future, const char *path) {
    drop_root(1000);
    int file = open(path, O_RDONLY);
    add(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0));
    add(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, open("/etc/passwd", O_RDONLY), 0));
    add(shmat(segment, NULL, SHM_RDONLY));
    add(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, sealed, 0));
    add(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, future, 0));
    progress("places", place_count);
    catch_probe_faults();
    each_stub_page(collect);
    progress("syscall instructions", site_count);
    for (long packed = 0; packed < site_count * place_count * CALLS && is_time_left(); packed++)
        in_child(attack, packed);
    // Without jumping: whatever the kernel itself lets through.
    for (int at = 0; at < place_count; at++)
        if (mprotect(places[at], PAGE, PROT_READ | PROT_WRITE) == 0)
            memcpy(places[at], "OWNED", 5);
    _exit(0);
}

static int sealed_memfd(int seal) {
    int fd = memfd_create("sealed", MFD_ALLOW_SEALING);
    if (write(fd, text, sizeof text) != sizeof text || fcntl(fd, F_ADD_SEALS, seal) == -1)
        perror("seal");
    return fd;
}

static bool is_kept(const char *what, const char *at) {
    bool kept = !strcmp(at, text);
    if (!kept)
        printf("%s was written: %s\n", what, at);
    return kept;
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    const char *path = "/dev/shm/of-root";
    int file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0644);
    if (write(file, text, sizeof text) != sizeof text)
        return 1;
    int segment = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0644);
    char *mine = shmat(segment, NULL, 0);
    strcpy(mine, text);
    int sealed = sealed_memfd(F_SEAL_WRITE), future = sealed_memfd(F_SEAL_FUTURE_WRITE);
    pid_t user = fork();
    if (user == 0)
        be_user(segment, sealed, future, path);
    waitpid(user, NULL, 0);
    char of_file[64] = "", of_sealed[64] = "", of_future[64] = "";
    bool read_all = pread(file, of_file, 63, 0) > 0 && pread(sealed, of_sealed, 63, 0) > 0 && pread(future, of_future, 63, 0) > 0;
    bool kept = read_all && is_kept("file", of_file) && is_kept("sealed memfd", of_sealed) &&
                is_kept("memfd sealed for the future", of_future) && is_kept("segment", mine);
    unlink(path);
    shmctl(segment, IPC_RMID, NULL);
    if (!kept)
        _exit(3);
    return 0;
}
