// Flags, options and numbers of calls on processes, threads, signals and time.
#include "survey.h"
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

SPACE(clone3, "clone3: flags", BITS, 8, 64, EACH_ALONE) {
    int pidfd = 0, tid = 0;
    static char stack[65536] __attribute__((aligned(16)));
    struct clone_args args = {.flags = value, .exit_signal = SIGCHLD};
    if (value == CLONE_SIGHAND)
        args.flags |= CLONE_VM;
    if (value == CLONE_THREAD)
        args.flags |= CLONE_VM | CLONE_SIGHAND;
    if (value & (CLONE_THREAD | CLONE_PARENT))
        args.exit_signal = 0;
    args.pidfd = (unsigned long)&pidfd;
    args.parent_tid = args.child_tid = (unsigned long)&tid;
    if (value == CLONE_SETTLS) {
        unsigned long base = 0;
        syscall(SYS_arch_prctl, 0x1003, &base); // ARCH_GET_FS
        args.tls = base;
    }
    if (value == CLONE_INTO_CGROUP)
        args.cgroup = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY);
    if (args.flags & CLONE_VM) {
        // The child returns on its parent's memory: it only leaves, and by another way than a return.
        args.stack = (unsigned long)stack;
        args.stack_size = sizeof stack;
    }
    register long result __asm__("rax") = SYS_clone3;
    register void *a __asm__("rdi") = &args;
    register size_t size __asm__("rsi") = sizeof args;
    __asm__ volatile("syscall\n\ttest %%eax, %%eax\n\tjnz 1f\n\tmov $60, %%eax\n\txor %%edi, %%edi\n\tsyscall\n1:"
                     : "+r"(result), "+r"(a)
                     : "r"(size)
                     : "rcx", "r11", "memory");
    return result > 0;
}

SPACE(unshare, "unshare: flags", BITS, 0, 32, EACH_ALONE) { return TAKES(unshare(value)); }

SPACE(setns, "setns: types", NAMED, 0, 0, EACH_ALONE) {
    static const char *const kinds[] = {"mnt", "uts", "ipc", "net", "pid", "user", "cgroup", "time"};
    for (size_t at = 0; at < 8; at++) {
        char path[32];
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[at]);
        if (TAKES(setns(open(path, O_RDONLY | O_CLOEXEC), value)))
            return true;
    }
    return false;
}

SPACE(prctl, "prctl: options", NUMBERS, 0, 100, EACH_ALONE) {
    static long buffer[64];
    // What each may ask for: nothing, one, a place, a second argument.
    unsigned long arguments[][2] = {{0, 0}, {1, 0}, {2, 0}, {(unsigned long)buffer, 0}, {1, 13}, {4, 0}, {0x100, 0}};
    for (size_t at = 0; at < sizeof arguments / sizeof arguments[0]; at++) {
        errno = 0;
        if (TAKES(prctl(value, arguments[at][0], arguments[at][1], 0, 0)))
            return true;
    }
    return false;
}

SPACE(arch_prctl, "arch_prctl: codes", NUMBERS, 0x1000, 0x5010, EACH_ALONE) {
    unsigned long place = 0, fs = 0;
    syscall(SYS_arch_prctl, 0x1003, &fs);
    if (value == 0x1002) // ARCH_SET_FS: this thread needs it.
        return TAKES(syscall(SYS_arch_prctl, value, fs));
    return TAKES(syscall(SYS_arch_prctl, value, &place)) || TAKES(syscall(SYS_arch_prctl, value, 0)) ||
           TAKES(syscall(SYS_arch_prctl, value, 1));
}

SPACE(rlimits, "setrlimit: resources", NUMBERS, 0, 32, EACH_ALONE) {
    struct rlimit limit;
    return TAKES(syscall(SYS_getrlimit, value, &limit)) && TAKES(syscall(SYS_setrlimit, value, &limit));
}

SPACE(priority, "setpriority: which", NUMBERS, 0, 16, EACH_ALONE) { return TAKES(setpriority(value, 0, 0)); }

SPACE(ioprio, "ioprio_set: which", NUMBERS, 0, 16, EACH_ALONE) {
    int who = value == 3 ? 0 : value == 2 ? getpgrp() : 0;
    return TAKES(syscall(SYS_ioprio_set, value, who, 2 << 13 | 4));
}

SPACE(ioprio_class, "ioprio_set: classes", NUMBERS, 0, 8, EACH_ALONE) {
    return TAKES(syscall(SYS_ioprio_set, 1, 0, value << 13 | (value == 1 || value == 2 ? 4 : 0)));
}

SPACE(policies, "sched_setscheduler: policies", NUMBERS, 0, 32, EACH_ALONE) {
    struct sched_param parameter = {.sched_priority = value == SCHED_FIFO || value == SCHED_RR};
    return TAKES(syscall(SYS_sched_setscheduler, 0, value, &parameter));
}

SPACE(sched_flags, "sched_setattr: flags", BITS, 0, 64, EACH_ALONE) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = 48, .flags = value};
    return TAKES(syscall(SYS_sched_setattr, 0, &attributes, 0));
}

// LINUX: personality(2) keeps whatever it is given.
SPACE(personality, "personality: values", NAMED, 0, 0, EACH_ALONE) {
    return TAKES(personality(value)) && (unsigned long)personality(0xffffffff) == value;
}

SPACE(rusage, "getrusage: who", NUMBERS, 0, 16, TOGETHER) {
    struct rusage usage;
    return TAKES(syscall(SYS_getrusage, value, &usage)) || TAKES(syscall(SYS_getrusage, -value, &usage));
}

SPACE(kcmp, "kcmp: types", NUMBERS, 0, 16, TOGETHER) {
    unsigned int slot[3] = {0, 0, 0};
    return TAKES(syscall(SYS_kcmp, getpid(), getpid(), value, 0, value == 7 ? (unsigned long)slot : 0));
}

SPACE(membarrier, "membarrier: commands", BITS, 0, 32, EACH_ALONE) {
    // A thread registers before it asks: a command's registration is the next bit, or the one after.
    syscall(SYS_membarrier, value << 1, 0, 0);
    return TAKES(syscall(SYS_membarrier, value, 0, 0));
}

SPACE(seccomp, "seccomp: operations", NUMBERS, 0, 16, EACH_ALONE) {
    unsigned int action = 0x7fff0000;
    char sizes[16];
    return TAKES(syscall(SYS_seccomp, value, 0, value == 2 ? (void *)&action : value == 3 ? (void *)sizes : NULL));
}

// A child that goes on, so that there is always something to wait for.
static void keep_a_child(void) {
    if (fork() == 0)
        for (;;)
            pause();
}

SPACE(wait_options, "waitid: options", BITS, 0, 32, EACH_ALONE) {
    keep_a_child();
    siginfo_t info;
    unsigned long events = value & (WEXITED | WSTOPPED | WCONTINUED) ? 0 : WEXITED;
    return TAKES(syscall(SYS_waitid, P_ALL, 0, &info, value | events | WNOHANG, NULL));
}

SPACE(wait4_options, "wait4: options", BITS, 0, 32, EACH_ALONE) {
    keep_a_child();
    return TAKES(syscall(SYS_wait4, -1, NULL, value | WNOHANG, NULL));
}

SPACE(wait_kinds, "waitid: kinds", NUMBERS, 0, 16, EACH_ALONE) {
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    siginfo_t info;
    int who = value == P_PGID ? getpgrp() : value == 3 ? (int)syscall(SYS_pidfd_open, child, 0) : child;
    return TAKES(syscall(SYS_waitid, value, who, &info, WEXITED, NULL));
}

SPACE(pidfd_open, "pidfd_open: flags", BITS, 0, 32, TOGETHER) {
    int file = syscall(SYS_pidfd_open, getpid(), value);
    close(file);
    return file != -1;
}

SPACE(pidfd_send, "pidfd_send_signal: flags", BITS, 0, 32, EACH_ALONE) {
    int file = syscall(SYS_pidfd_open, getpid(), 0);
    return TAKES(syscall(SYS_pidfd_send_signal, file, 0, NULL, value));
}

// LINUX: sigaction(2) takes all, and clears what it does not know.
SPACE(sigaction, "sigaction: flags", BITS, 0, 32, EACH_ALONE) {
    struct {
        void *handler;
        unsigned long flags, restorer, mask;
    } action = {.handler = SIG_IGN, .flags = value}, kept = {0};
    return TAKES(syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 8)) &&
           TAKES(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &kept, 8)) && (kept.flags & value) != 0;
}

SPACE(sigaltstack, "sigaltstack: flags", BITS, 0, 32, EACH_ALONE) {
    static char stack[65536];
    stack_t wanted = {.ss_sp = stack, .ss_flags = value, .ss_size = sizeof stack};
    return TAKES(syscall(SYS_sigaltstack, &wanted, NULL));
}

SPACE(sigprocmask, "sigprocmask: how", NUMBERS, 0, 16, EACH_ALONE) {
    unsigned long mask = 0;
    return TAKES(syscall(SYS_rt_sigprocmask, value, &mask, NULL, 8));
}

// A wait that has nothing to wait for answers at once, and a command that is not known ENOSYS.
SPACE(futex, "futex: operations", NUMBERS, 0, 32, EACH_ALONE) {
    static uint32_t word[2];
    struct timespec when = {0, 1};
    unsigned long third = value == FUTEX_REQUEUE || value == FUTEX_CMP_REQUEUE || value == FUTEX_WAKE_OP ||
                                  value == FUTEX_CMP_REQUEUE_PI
                              ? 1
                              : (unsigned long)&when;
    if (value == FUTEX_UNLOCK_PI)
        word[0] = syscall(SYS_gettid);
    unsigned long expected = value == FUTEX_CMP_REQUEUE || value == FUTEX_CMP_REQUEUE_PI ? 0 : 1;
    unsigned long count = value == FUTEX_WAIT || value == FUTEX_WAIT_BITSET || value == FUTEX_WAIT_REQUEUE_PI ? 5 : 1;
    errno = 0;
    long result = syscall(SYS_futex, word, value, count, third, word + 1,
                          value == FUTEX_CMP_REQUEUE || value == FUTEX_CMP_REQUEUE_PI ? expected : 1);
    return result != -1 || errno == EAGAIN || errno == ETIMEDOUT;
}

SPACE(futex_flags, "futex: flags", BITS, 7, 32, EACH_ALONE) {
    static uint32_t word;
    errno = 0;
    struct timespec when = {0, 1};
    syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | value, 5, &when, NULL, 1);
    return errno == EAGAIN;
}

SPACE(clock_gettime, "clock_gettime: clocks", NUMBERS, 0, 32, TOGETHER) {
    struct timespec now;
    // CLOCK_*_ALARM: whether the machine can be woken is the host's affair.
    if (value == 8 || value == 9)
        return false;
    return TAKES(syscall(SYS_clock_gettime, value, &now));
}

SPACE(clock_nanosleep, "clock_nanosleep: clocks", NUMBERS, 0, 32, EACH_ALONE) {
    struct timespec when = {0, 1};
    return syscall(SYS_clock_nanosleep, value, 0, &when, NULL) == 0;
}

SPACE(timer_create, "timer_create: clocks", NUMBERS, 0, 32, EACH_ALONE) {
    int timer;
    return TAKES(syscall(SYS_timer_create, value, NULL, &timer));
}

SPACE(timerfd_clocks, "timerfd_create: clocks", NUMBERS, 0, 32, TOGETHER) {
    int file = syscall(SYS_timerfd_create, value, 0);
    close(file);
    return file != -1;
}

SPACE(sigev, "timer_create: notification", NUMBERS, 0, 16, EACH_ALONE) {
    struct sigevent event = {.sigev_notify = value, .sigev_signo = SIGUSR1};
    ((int *)&event)[4] = syscall(SYS_gettid);
    int timer;
    return TAKES(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer));
}

SPACE(itimer, "setitimer: which", NUMBERS, 0, 16, EACH_ALONE) {
    struct itimerval none = {0};
    return TAKES(setitimer(value, &none, NULL));
}

SPACE(syslog, "syslog: actions", NUMBERS, 0, 16, EACH_ALONE) {
    char buffer[64];
    return TAKES(syscall(SYS_syslog, value, buffer, value == 8 ? 4 : (int)sizeof buffer));
}

SPACE(adjtimex, "adjtimex: modes", BITS, 0, 32, EACH_ALONE) {
    unsigned int words[64] = {value};
    return TAKES(syscall(SYS_adjtimex, words));
}
