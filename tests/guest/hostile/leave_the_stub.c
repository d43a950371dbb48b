// What if a guest thread leaves the protocol for good: ends itself by the stub's own `exit`, blocks every signal by the stub's own
// signal return and then runs or sleeps for ever, or makes notifications of its own? Whoever does so must still be killed
// and waited for, and must not hold up who looks at it.
#include "hostile.h"
#include <linux/futex.h>
#include <ucontext.h>

enum { SITES_MAX = 512, NOTIFY_NR = 0x7fff };
static char *sites[SITES_MAX];
static long site_count;

static void collect(char *page) {
    if (!can_read(page))
        return;
    for (unsigned long at = 0; at + 1 < PAGE && site_count < SITES_MAX; at++)
        if (page[at] == 0x0f && page[at + 1] == 0x05)
            sites[site_count++] = page + at;
}

static void die(int number) { _exit(100 + number); }

static void die_of_faults(void) {
    static char stack[65536];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&other, NULL);
    int deadly[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGSYS, SIGFPE};
    for (int at = 0; at < 6; at++) {
        struct sigaction action = {.sa_handler = die, .sa_flags = SA_ONSTACK};
        sigaction(deadly[at], &action, NULL);
    }
}

// Goes on in the stub's code at `site` with these registers. What follows the instruction runs too, whatever it does.
static void jump(char *site, long number, unsigned long first, unsigned long second, unsigned long third) {
    __asm__ volatile("mov $0, %%r8\n\tmov $0, %%r9\n\tmov $0x32, %%r10\n\tjmp *%1"
                     : : "a"(number), "r"(site), "D"(first), "S"(second), "d"(third)
                     : "rcx", "r8", "r9", "r10", "r11", "memory");
}

static void *sleep_long(void *argument) {
    for (;;)
        pause();
    return argument;
}

// The stub's thread ends, its siblings do not.
static void exit_alone(long site) {
    pthread_t thread;
    pthread_create(&thread, NULL, sleep_long, NULL);
    jump(sites[site], SYS_exit, 0, 0, 0);
}

static void *exit_in_thread(void *site) {
    jump(site, SYS_exit, 0, 0, 0);
    return NULL;
}

static void exit_as_sibling(long site) {
    pthread_t thread;
    pthread_create(&thread, NULL, exit_in_thread, sites[site]);
    usleep(100000);
    // Kernel work that wants all threads, and a join that never comes.
    pthread_join(thread, NULL);
}

// Everything blocked that can be, by a frame of our own; then nothing but the guest's code.
static volatile uint32_t word;
static void spin(void) {
    for (;;)
        continue;
}
static void sleep_natively(void) {
    for (;;)
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void block_all(char *site, void (*then)(void)) {
    static char stack[65536];
    static ucontext_t frame;
    memset(&frame, 0, sizeof frame);
    frame.uc_mcontext.gregs[REG_RIP] = (greg_t)then;
    frame.uc_mcontext.gregs[REG_RSP] = (greg_t)(stack + sizeof stack - 8);
    frame.uc_mcontext.gregs[REG_CSGSFS] = 0x33;
    frame.uc_mcontext.gregs[REG_EFL] = 0x202;
    memset(&frame.uc_sigmask, 0xff, sizeof frame.uc_sigmask);
    __asm__ volatile("mov %0, %%rsp\n\tjmp *%1" : : "r"(&frame), "r"(site), "a"(15L) : "memory");
}

static void deaf_and_running(long site) { block_all(sites[site], spin); }
static void deaf_and_asleep(long site) { block_all(sites[site], sleep_natively); }

static void notify(long packed) {
    static const unsigned long values[] = {0, 1, 3, 4, 0x7fff, STUB_START, STUB_START + 0x10001000, ~0UL, 1UL << 63};
    enum { VALUES = sizeof values / sizeof *values };
    char *site = sites[packed % site_count];
    uint64_t seed = random_start() * (uint64_t)(packed + 1);
    jump(site, NOTIFY_NR, values[random_next(&seed) % VALUES], values[random_next(&seed) % VALUES],
         values[random_next(&seed) % VALUES]);
}

// Memory calls from the stub's own code: on the stub itself, on nothing, on everything.
static void memory_calls(long packed) {
    static const long numbers[] = {SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_msync, SYS_mincore, SYS_mmap,
                                   SYS_close, SYS_clone, SYS_seccomp, SYS_rt_sigprocmask, SYS_recvmsg, SYS_sigaltstack,
                                   SYS_rseq, SYS_membarrier};
    static const unsigned long places[] = {0, 0x10000, GUARD_START - PAGE, GUARD_START, STUB_START - PAGE, STUB_START, STUB_START + 0x100000,
                                           STUB_START + 0x10000000, STUB_END - PAGE, STUB_END, 0x7ffffffff000};
    static const unsigned long lengths[] = {0, 1, PAGE, 0x10000, STUB_END - STUB_START, CALL_MAX, CALL_MAX + PAGE, CALL_MAX + 2 * PAGE, 1UL << 47, ~0UL};
    uint64_t seed = random_start() * (uint64_t)(packed + 1);
    long number = numbers[random_next(&seed) % (sizeof numbers / sizeof *numbers)];
    jump(sites[random_next(&seed) % (uint64_t)site_count], number,
         number == SYS_close ? random_next(&seed) % 16 : places[random_next(&seed) % (sizeof places / sizeof *places)],
         lengths[random_next(&seed) % (sizeof lengths / sizeof *lengths)], random_next(&seed) % 32);
}

// The child is killed after a moment; it must be gone soon after that.
static void killed(void (*attack)(long), long argument, const char *what) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        die_of_faults();
        attack(argument);
        _exit(0);
    }
    int status = 0;
    double start = seconds_now();
    while (waitpid(pid, &status, WNOHANG) == 0) {
        double since = seconds_now() - start;
        if (since > 0.1)
            kill(pid, SIGKILL);
        if (since > 30) {
            printf("  a killed process is still there: %s\n", what);
            exit(1);
        }
        usleep(5000);
    }
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    catch_probe_faults();
    each_stub_page(collect);
    progress("syscall instructions in the stub", site_count);
    if (site_count == 0)
        return 0;
    long at[] = {0, site_count / 2, site_count - 1};
    for (int which = 0; which < 3 && is_time_left(); which++) {
        killed(exit_alone, at[which], "its only busy thread has ended");
        killed(exit_as_sibling, at[which], "a thread of it has ended");
        progress("threads that left, round", which);
    }
    killed(deaf_and_running, at[1], "deaf and running");
    killed(deaf_and_asleep, at[2], "deaf and asleep");
    long tried = 0;
    for (; tried < 300 && is_time_left(); tried++) {
        killed(notify, tried, "notification");
        killed(memory_calls, tried, "memory call");
    }
    progress("notifications and memory calls", tried);
    return 0;
}
