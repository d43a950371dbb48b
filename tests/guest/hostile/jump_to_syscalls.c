// Is there a `syscall` instruction outside the program's own text that does more for a jump than it should? Jumps to
// every one in the executable mappings and in the stub's region, with calls that a stub must not make.
#include "hostile.h"

enum { SITES_MAX = 4096 };
static char *sites[SITES_MAX];
static long site_count;

static void collect(char *page) {
    if (!can_read(page))
        return;
    for (unsigned long at = 0; at + 1 < PAGE && site_count < SITES_MAX; at++)
        if (page[at] == 0x0f && page[at + 1] == 0x05)
            sites[site_count++] = page + at;
}

static void collect_mappings(const char *own_path) {
    char line[512], path[256];
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char bits[8];
        path[0] = 0;
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &start, &end, bits, path) < 3)
            continue;
        if (bits[2] != 'x' || !strcmp(path, own_path) || start > 0x7fffffffffff)
            continue;
        for (unsigned long at = start; at < end; at += PAGE)
            collect((char *)at);
    }
    if (maps)
        fclose(maps);
}

static const long numbers[] = {SYS_open, SYS_openat, SYS_socket, SYS_mmap, SYS_mprotect, SYS_execve, SYS_ptrace,
                               SYS_fork, SYS_kill, SYS_process_vm_readv, SYS_exit_group, SYS_munmap, 9999};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static void die(int number) { _exit(100 + number); }

static void jump(long packed) {
    int deadly[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGSYS, SIGFPE};
    static char stack[65536];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&other, NULL);
    for (int at = 0; at < 6; at++) {
        struct sigaction action = {.sa_handler = die, .sa_flags = SA_ONSTACK};
        sigaction(deadly[at], &action, NULL);
    }
    long number = numbers[packed % NUMBERS];
    char *site = sites[packed / NUMBERS];
    static const char path[] = "/etc/passwd";
    __asm__ volatile("mov $0, %%r8\n\tmov $0, %%r9\n\tmov $0x22, %%r10\n\tpush $0\n\tjmp *%1"
                     : : "a"(number), "r"(site), "D"(number == SYS_kill ? (const char *)-999999 : path), "S"(4096L), "d"(7L)
                     : "rcx", "r8", "r9", "r10", "r11", "memory");
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    char own[4096] = "";
    if (readlink("/proc/self/exe", own, sizeof own - 1) == -1)
        perror("own path");
    catch_probe_faults();
    collect_mappings(own);
    progress("syscall instructions in foreign mappings", site_count);
    each_stub_page(collect);
    progress("with those of the stub's region", site_count);
    long died = 0, jumps = 0;
    double start = seconds_now();
    for (long packed = 0; packed < site_count * NUMBERS && seconds_now() - start < 30; packed++, jumps++)
        died += in_child(jump, packed) != 0;
    progress("jumps", jumps);
    progress("children that died of one", died);
    return 0;
}
