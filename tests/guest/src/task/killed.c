// Does a process end that is killed in the middle of one call without an end, or of many without a pause? Each way works on data that
// costs no memory; the harness' own watchdog tells a process that lives on.
#include "../harness.h"
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

enum { PIECE = 1 << 20, PIECES = 1024 };
static const size_t MOST = 0x7ffff000;
// Of the first call, shared with the parent.
static atomic_int *begun;

static char *piece(void) {
    static char *at;
    if (!at) at = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at;
}

// A gigabyte and more, all of it the same piece.
static struct iovec *pieces(void) {
    static struct iovec all[PIECES];
    for (int n = 0; n < PIECES; n++) all[n] = (struct iovec){piece(), PIECE};
    return all;
}

static int sparse(const char *name) {
    int fd = CHECK_OK(open(name, O_CREAT | O_RDWR | O_TRUNC, 0600));
    CHECK_OK(unlink(name));
    CHECK_OK(ftruncate(fd, 1L << 36));
    return fd;
}

static int device(const char *path) { return CHECK_OK(open(path, O_RDWR | O_NOCTTY)); }

static int master(void) {
    int fd = device("/dev/ptmx"), unlocked = 0;
    CHECK_OK(ioctl(fd, TIOCSPTLCK, &unlocked));
    return fd;
}

// The child works without an end; it is killed a little later, and that is what it ends by.
static void killed_while(void (*work)(void)) {
    begun = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(begun != MAP_FAILED);
    for (int round = 0; round < 3; round++) {
        atomic_store(begun, 0);
        pid_t pid = CHECK_OK(fork());
        if (pid == 0) {
            work();
            _exit(1);
        }
        while (!atomic_load(begun)) sched_yield();
        nanosleep(&(struct timespec){.tv_nsec = 5000000L * (round * 10 + 1)}, NULL);
        CHECK_OK(kill(pid, SIGKILL));
        CHECK_KILLED(pid, SIGKILL);
    }
}

#define KILLED_WHILE(name, prepare, call)                                                                              \
    static void work_##name(void) {                                                                                    \
        prepare;                                                                                                       \
        atomic_store(begun, 1);                                                                                        \
        for (;;) (void)!(call);                                                                                        \
    }                                                                                                                  \
    TEST(killed_while_##name) { killed_while(work_##name); }

KILLED_WHILE(it_sends_zeroes_to_a_terminal, int to = master(); int from = device("/dev/zero"), sendfile(to, from, NULL, MOST))
KILLED_WHILE(it_writes_to_a_terminal, int to = master(), writev(to, pieces(), PIECES))
KILLED_WHILE(it_sends_zeroes_to_nowhere, int to = device("/dev/null"); int from = device("/dev/zero"), sendfile(to, from, NULL, MOST))
KILLED_WHILE(it_reads_zeroes, int from = device("/dev/zero"), readv(from, pieces(), PIECES))
KILLED_WHILE(it_reads_random_bytes, int from = device("/dev/urandom"), readv(from, pieces(), PIECES))
KILLED_WHILE(it_gets_random_bytes, piece(), getrandom(piece(), PIECE, 0))
KILLED_WHILE(it_writes_to_nowhere, int to = device("/dev/null"), writev(to, pieces(), PIECES))
KILLED_WHILE(it_sends_a_hole_in_memory, int to = device("/dev/null"); int from = sparse("/dev/shm/killed"); off_t at,
             (at = 0, sendfile(to, from, &at, MOST)))
KILLED_WHILE(it_sends_a_hole_of_a_file, int to = device("/dev/null"); int from = sparse("killed"); off_t at,
             (at = 0, sendfile(to, from, &at, MOST)))
KILLED_WHILE(it_reads_a_hole_in_memory, int from = sparse("/dev/shm/killed"), preadv(from, pieces(), PIECES, 0))
KILLED_WHILE(it_reads_a_hole_of_a_file, int from = sparse("killed"), preadv(from, pieces(), PIECES, 0))
KILLED_WHILE(it_copies_memory_of_itself, pid_t self = getpid(), process_vm_readv(self, pieces(), 64, pieces(), 64, 0))
KILLED_WHILE(it_forks, , (fork() == 0 ? (_exit(0), 0) : waitpid(-1, NULL, WNOHANG)))
KILLED_WHILE(it_makes_mappings, , (mmap(NULL, GUEST_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 0))

// Somebody takes what is sent, as fast as it comes.
static void work_streams(void) {
    int ends[2], from = device("/dev/zero");
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    if (fork() == 0) {
        CHECK_OK(close(ends[0]));
        while (recv(ends[1], piece(), PIECE, 0) > 0) {
        }
        _exit(0);
    }
    CHECK_OK(close(ends[1]));
    atomic_store(begun, 1);
    for (;;) (void)!sendfile(ends[0], from, NULL, MOST);
}

TEST(killed_while_it_sends_zeroes_to_a_reader) { killed_while(work_streams); }

static void work_pipes(void) {
    int ends[2], from = sparse("/dev/shm/killed"), to = device("/dev/null");
    CHECK_OK(pipe(ends));
    if (fork() == 0) {
        CHECK_OK(close(ends[1]));
        while (splice(ends[0], NULL, to, NULL, MOST, 0) > 0) {
        }
        _exit(0);
    }
    CHECK_OK(close(ends[0]));
    atomic_store(begun, 1);
    for (;;) {
        off_t at = 0;
        (void)!splice(from, &at, ends[1], NULL, MOST, 0);
    }
}

TEST(killed_while_it_splices_to_a_reader) { killed_while(work_pipes); }

static void work_proc(void) {
    for (long n = 0; n < 2000; n++)
        mmap((char *)0x300000000000 + n * 2 * GUEST_PAGE, GUEST_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    int fd = CHECK_OK(open("/proc/self/smaps", O_RDONLY));
    atomic_store(begun, 1);
    for (;;) (void)!pread(fd, piece(), PIECE, 0);
}

TEST(killed_while_it_reads_about_its_mappings) { killed_while(work_proc); }
