// What do flags and numbers of calls on processes, threads, signals and time do? Compared with the host.
#include "../harness.h"
#include <asm/prctl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/ioprio.h>
#include <linux/membarrier.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

static long raw_clone(unsigned long flags, int *parent_tid, int *child_tid) {
    return syscall(SYS_clone, flags, NULL, parent_tid, child_tid, 0);
}

TEST(flags_of_new_processes) {
    int parent_tid = 0, child_tid = 0, pidfd = -1;
    long child = raw_clone(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, &parent_tid, &child_tid);
    if (child == 0)
        _exit(child_tid == getpid() ? 0 : 1);
    CHECK_EQ(parent_tid, child);
    CHECK_EXITS(child, 0);
    child = raw_clone(CLONE_PIDFD | CLONE_UNTRACED | CLONE_PTRACE | CLONE_IO | SIGCHLD, &pidfd, NULL);
    if (child == 0)
        _exit(3);
    siginfo_t info;
    CHECK_OK(waitid(P_PIDFD, pidfd, &info, WEXITED | __WALL));
    CHECK(info.si_pid == child && info.si_status == 3);
    int ends[2];
    char byte;
    CHECK_OK(pipe2(ends, O_NONBLOCK));
    child = raw_clone(CLONE_VFORK | SIGCHLD, NULL, NULL);
    if (child == 0) {
        sleep_ms(20);
        _exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
    }
    // The parent goes on when the child has ended: what that has written is there.
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    CHECK_EXITS(child, 0);
    child = fork();
    if (child == 0) {
        long sibling = raw_clone(CLONE_PARENT | SIGCHLD, NULL, NULL);
        if (sibling == 0)
            _exit(7);
        CHECK_ERR(waitpid(sibling, NULL, 0), ECHILD);
        _exit(0);
    }
    int status, sevens = 0;
    for (int at = 0; at < 2; at++)
        sevens += wait(&status) > 0 && WEXITSTATUS(status) == 7;
    CHECK_EQ(sevens, 1);
    catch_signal(SIGUSR1, SIG_IGN, 0);
    struct clone_args_ { unsigned long flags, pidfd, child_tid, parent_tid, exit_signal, stack, size, tls; } args = {
        .flags = 1UL << 32 /* CLONE_CLEAR_SIGHAND */, .exit_signal = SIGCHLD};
    catch_signal(SIGUSR2, (void (*)(int))exit, 0);
    child = syscall(SYS_clone3, &args, sizeof args);
    if (child == 0) {
        struct sigaction one, two;
        sigaction(SIGUSR1, NULL, &one);
        sigaction(SIGUSR2, NULL, &two);
        _exit(one.sa_handler == SIG_IGN && two.sa_handler == SIG_DFL ? 0 : 1);
    }
    CHECK_EXITS(child, 0);
}

static void *nothing(void *argument) { return argument; }

TEST(a_thread_has_a_base_and_a_word_that_is_cleared) {
    // pthread_create: CLONE_SETTLS, CLONE_CHILD_CLEARTID, CLONE_SYSVSEM.
    pthread_t thread;
    int token;
    void *got = NULL;
    CHECK_EQ(pthread_create(&thread, NULL, nothing, &token), 0);
    CHECK_EQ(pthread_join(thread, &got), 0);
    CHECK(got == &token);
    unsigned long fs = 0, gs = 1;
    CHECK_OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
    CHECK_OK(syscall(SYS_arch_prctl, ARCH_SET_FS, fs));
    CHECK_OK(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x1000UL));
    CHECK_OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
    CHECK_EQ(gs, 0x1000);
    row("ARCH_GET_CPUID: %ld", syscall(SYS_arch_prctl, ARCH_GET_CPUID, 0));
    int *word = NULL;
    CHECK_OK(prctl(PR_GET_TID_ADDRESS, &word));
    CHECK(word != NULL);
    row("PR_GET_SECCOMP: %d", prctl(PR_GET_SECCOMP));
    row("PR_CAP_AMBIENT: %d", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0));
}

TEST(kinds_of_waiting) {
    pid_t child = IN_CHILD(CHECK_OK(setpgid(0, 0)); _exit(5));
    siginfo_t info;
    CHECK_OK(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    CHECK_OK(waitid(P_PGID, child, &info, WEXITED));
    CHECK_EQ(info.si_status, 5);
    int fd = CHECK_OK(syscall(SYS_pidfd_open, child = IN_CHILD(pause()), O_NONBLOCK /* PIDFD_NONBLOCK */));
    CHECK_ERR(waitid(P_PIDFD, fd, &info, WEXITED), EAGAIN);
    CHECK_OK(kill(child, SIGKILL));
    CHECK_EQ(waitpid(child, NULL, __WALL), child);
}

TEST(limits_are_told_as_they_were_set) {
    static const struct { const char *name; int resource; } resources[] = {
        {"RLIMIT_DATA", RLIMIT_DATA}, {"RLIMIT_LOCKS", RLIMIT_LOCKS}, {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK}, {"RLIMIT_NICE", RLIMIT_NICE},
        {"RLIMIT_RSS", RLIMIT_RSS}, {"RLIMIT_RTPRIO", RLIMIT_RTPRIO}, {"RLIMIT_RTTIME", RLIMIT_RTTIME}, {"RLIMIT_STACK", RLIMIT_STACK},
        {"RLIMIT_CORE", RLIMIT_CORE}, {"RLIMIT_FSIZE", RLIMIT_FSIZE}, {"RLIMIT_AS", RLIMIT_AS},
    };
    for (size_t at = 0; at < sizeof resources / sizeof *resources; at++) {
        struct rlimit limit, kept;
        CHECK_OK(getrlimit(resources[at].resource, &limit));
        rlim_t wanted = limit.rlim_max == 0 ? 0 : resources[at].resource == RLIMIT_DATA || resources[at].resource == RLIMIT_AS ? 1UL << 32 : 1 << 20;
        limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        CHECK_OK(setrlimit(resources[at].resource, &limit));
        CHECK_OK(getrlimit(resources[at].resource, &kept));
        CHECK_EQ(kept.rlim_cur, limit.rlim_cur);
    }
    // The one of data is kept by brk(2) and private writable mappings.
    struct rlimit none = {1 << 20, RLIM_INFINITY};
    CHECK_EXITS(IN_CHILD(CHECK_OK(setrlimit(RLIMIT_DATA, &none));
                         CHECK(mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)),
                0);
}

TEST(schedules_are_told_as_they_were_set) {
    CHECK_EXITS(IN_CHILD(CHECK_OK(setpgid(0, 0)); CHECK_OK(setpriority(PRIO_PGRP, 0, 5)); CHECK_EQ(getpriority(PRIO_PROCESS, 0), 5)), 0);
    CHECK_EXITS(IN_CHILD(CHECK_OK(setresuid(54321, 54321, 54321)); CHECK_OK(setpriority(PRIO_USER, 54321, 6)); CHECK_EQ(getpriority(PRIO_USER, 0), 6)), 0);
    static const int classes[] = {IOPRIO_CLASS_NONE, IOPRIO_CLASS_RT, IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE};
    for (int at = 0; at < 4; at++) {
        int value = classes[at] << 13 | (at == 1 || at == 2 ? 4 : 0);
        row("ioprio class %d: %ld", at, syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) == 0 ? 0L : (long)errno);
        row("ioprio told %d: %lx", at, syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0));
    }
    CHECK_EXITS(IN_CHILD(CHECK_OK(setpgid(0, 0)); CHECK_OK(syscall(SYS_ioprio_set, IOPRIO_WHO_PGRP, 0, 2 << 13 | 5));
                         CHECK_EQ(syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0), 2 << 13 | 5)), 0);
    CHECK_EXITS(IN_CHILD(CHECK_OK(setresuid(54322, 54322, 54322)); CHECK_OK(syscall(SYS_ioprio_set, IOPRIO_WHO_USER, 54322, 2 << 13 | 6));
                         CHECK_EQ(syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0), 2 << 13 | 6)), 0);
    static const int policies[] = {SCHED_OTHER, SCHED_BATCH, SCHED_IDLE};
    struct sched_param parameter = {0};
    for (int at = 0; at < 3; at++) {
        CHECK_OK(syscall(SYS_sched_setscheduler, 0, policies[at], &parameter));
        CHECK_EQ(sched_getscheduler(0), policies[at]);
    }
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t times[3]; } told,
        attributes = {.size = 48, .flags = 1 /* SCHED_FLAG_RESET_ON_FORK */, .nice = 3};
    CHECK_OK(syscall(SYS_sched_setattr, 0, &attributes, 0));
    CHECK_OK(syscall(SYS_sched_getattr, 0, &told, sizeof told, 0));
    CHECK(told.flags == 1 && told.nice == 3);
}

TEST(personalities_are_done_or_refused) {
    struct utsname names;
    CHECK_OK(personality(PER_LINUX32));
    CHECK_OK(uname(&names));
    CHECK_STR(names.machine, "i686");
    CHECK_OK(personality(UNAME26));
    CHECK_OK(uname(&names));
    CHECK_STR(names.machine, "x86_64");
    CHECK(strncmp(names.release, "2.6.", 4) == 0 && atoi(names.release + 4) >= 60);
    static const unsigned long kept[] = {ADDR_NO_RANDOMIZE, ADDR_LIMIT_32BIT, ADDR_LIMIT_3GB, FDPIC_FUNCPTRS, SHORT_INODE, WHOLE_SECONDS};
    for (size_t at = 0; at < sizeof kept / sizeof *kept; at++) {
        CHECK_OK(personality(kept[at]));
        CHECK_EQ(personality(0xffffffff), kept[at]);
    }
    if (personality(READ_IMPLIES_EXEC) != -1) {
        CHECK(mmap((void *)0x700000000, GUEST_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED);
        char text[65536];
        read_file("/proc/self/maps", text, sizeof text);
        CHECK(strstr(text, "700000000-700001000 r-xp") != NULL);
    }
    if (personality(STICKY_TIMEOUTS) != -1) {
        struct timeval limit = {0, 1000};
        CHECK_OK(select(0, NULL, NULL, NULL, &limit));
        CHECK_EQ(limit.tv_usec, 1000);
    }
}

TEST(barriers_are_registered_before_they_are_used) {
    static const int commands[][2] = {
        {MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, MEMBARRIER_CMD_GLOBAL_EXPEDITED},
        {MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, MEMBARRIER_CMD_PRIVATE_EXPEDITED},
        {MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE},
        {MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ},
    };
    for (int at = 0; at < 4; at++) {
        long before = syscall(SYS_membarrier, commands[at][1], 0, 0) == 0 ? 0 : errno;
        long registered = syscall(SYS_membarrier, commands[at][0], 0, 0) == 0 ? 0 : errno;
        long after = syscall(SYS_membarrier, commands[at][1], 0, 0) == 0 ? 0 : errno;
        // The sandbox has registered for itself that code may change: who asks without is served as well.
        row("membarrier %d: %ld %ld %ld", at, at == 2 ? 0 : before, registered, after);
    }
    CHECK_OK(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0));
    enum { MEMBARRIER_GET_REGISTRATIONS = 0x200 };
    row("MEMBARRIER_GET_REGISTRATIONS: %lx", syscall(SYS_membarrier, MEMBARRIER_GET_REGISTRATIONS, 0, 0));
}

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
static volatile int on_stack, disarmed;
static char other_stack[65536];

static void look(int number) {
    (void)number;
    char here;
    stack_t now;
    on_stack = &here >= other_stack && &here < other_stack + sizeof other_stack;
    sigaltstack(NULL, &now);
    disarmed = now.ss_flags & SS_DISABLE;
}

TEST(stacks_and_flags_of_handlers) {
    catch_signal(SIGUSR1, look, SA_ONSTACK);
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack}, now;
    CHECK_OK(sigaltstack(&stack, NULL));
    raise(SIGUSR1);
    CHECK(on_stack && !disarmed);
    stack.ss_flags = SS_AUTODISARM;
    CHECK_OK(sigaltstack(&stack, NULL));
    raise(SIGUSR1);
    CHECK(on_stack && disarmed);
    CHECK_OK(sigaltstack(NULL, &now));
    CHECK_EQ((unsigned)now.ss_flags & ~SS_ONSTACK, (unsigned)SS_AUTODISARM);
    stack.ss_flags = SS_ONSTACK;
    CHECK_OK(sigaltstack(&stack, NULL));
    enum { SA_RESTORER = 0x04000000, SA_EXPOSE_TAGBITS = 0x800, SA_UNSUPPORTED = 0x400 };
    struct { void *handler; unsigned long flags, restorer, mask; } action = {
        SIG_IGN, SA_RESTORER | SA_EXPOSE_TAGBITS | SA_UNSUPPORTED, 0, 0}, kept;
    CHECK_OK(syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 8));
    CHECK_OK(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &kept, 8));
    row("flags: %lx", kept.flags);
}

static uint32_t word, other;
static long futex(uint32_t *at, int operation, uint32_t value, void *limit, uint32_t *second, uint32_t third) {
    return syscall(SYS_futex, at, operation, value, limit, second, third);
}

static void *wait_on_the_word(void *set) {
    while (futex(&word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, (uint32_t)(uintptr_t)set) != 0 && word == 0)
        ;
    return NULL;
}

TEST(operations_on_futexes) {
    pid_t me = syscall(SYS_gettid);
    CHECK_OK(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    CHECK_EQ(word, me);
    CHECK_ERR(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), EDEADLK);
    CHECK_OK(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    CHECK_EQ(word, 0);
    CHECK_OK(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    CHECK_OK(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    CHECK_OK(futex(&word, FUTEX_LOCK_PI2, 0, NULL, NULL, 0));
    CHECK_OK(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    pthread_t threads[2];
    for (uintptr_t at = 0; at < 2; at++)
        CHECK_EQ(pthread_create(&threads[at], NULL, wait_on_the_word, (void *)(at + 1)), 0);
    // Each waits for a bit of its own; the one of the other wakes it not.
    while (futex(&word, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 0, (void *)2, &other, 0) < 0)
        ;
    int moved = 0;
    while (moved < 2) {
        long more = futex(&word, FUTEX_REQUEUE | FUTEX_PRIVATE_FLAG, 0, (void *)2, &other, 0);
        CHECK(more >= 0);
        moved = futex(&other, FUTEX_REQUEUE | FUTEX_PRIVATE_FLAG, 0, (void *)2, &word, 0);
        sched_yield();
    }
    word = 1;
    int woken = 0;
    while (woken < 1)
        woken += futex(&word, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, 2, NULL, NULL, 1);
    CHECK_EQ(woken, 1);
    while (woken < 2)
        woken += futex(&other, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, (void *)1, &word,
                       FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, (word & 0xfff)));
    for (int at = 0; at < 2; at++)
        CHECK_EQ(pthread_join(threads[at], NULL), 0);
    CHECK(word >= 2);
}

TEST(clocks_of_timers) {
    static const struct { const char *name; clockid_t clock; } clocks[] = {
        {"CLOCK_REALTIME", CLOCK_REALTIME}, {"CLOCK_MONOTONIC", CLOCK_MONOTONIC}, {"CLOCK_BOOTTIME", CLOCK_BOOTTIME},
        {"CLOCK_TAI", CLOCK_TAI}, {"CLOCK_PROCESS_CPUTIME_ID", CLOCK_PROCESS_CPUTIME_ID},
        {"CLOCK_THREAD_CPUTIME_ID", CLOCK_THREAD_CPUTIME_ID},
    };
    block_signal(SIGUSR1);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    for (size_t at = 0; at < sizeof clocks / sizeof *clocks; at++) {
        // SIGEV_THREAD_ID: to this thread and no other.
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
        ((int *)&event)[4] = syscall(SYS_gettid);
        int timer;
        struct itimerspec soon = {.it_value = {0, 1000000}};
        CHECK_OK(syscall(SYS_timer_create, clocks[at].clock, &event, &timer));
        CHECK_OK(syscall(SYS_timer_settime, timer, 0, &soon, NULL));
        siginfo_t info;
        struct timespec none = {0, 0};
        while (sigtimedwait(&set, &info, &none) == -1)
            be_busy(1000);
        CHECK_EQ(info.si_code, SI_TIMER);
        CHECK_OK(syscall(SYS_timer_delete, timer));
    }
}

TEST(kinds_of_notification) {
    static const int kinds[] = {SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD};
    for (int at = 0; at < 3; at++) {
        struct sigevent event = {.sigev_notify = kinds[at], .sigev_signo = SIGUSR1};
        int timer;
        CHECK_OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer));
    }
}

TEST(what_a_single_thread_has_for_itself_is_unshared_at_once) {
    static const struct { const char *name; int flag; } flags[] = {
        {"CLONE_FILES", CLONE_FILES}, {"CLONE_FS", CLONE_FS}, {"CLONE_SIGHAND", CLONE_SIGHAND}, {"CLONE_THREAD", CLONE_THREAD},
        {"CLONE_VM", CLONE_VM}, {"CLONE_SYSVSEM", CLONE_SYSVSEM},
    };
    for (size_t at = 0; at < sizeof flags / sizeof *flags; at++)
        row("unshare %s: %d", flags[at].name, unshare(flags[at].flag) == 0 ? 0 : errno);
    // A kernel without Yama knows nothing of it.
    CHECK(prctl(PR_SET_PTRACER, getppid()) == 0 || errno == EINVAL);
}

TEST(the_kernels_log_is_read) {
    enum { SYSLOG_ACTION_READ_ALL = 3, SYSLOG_ACTION_SIZE_UNREAD = 9, SYSLOG_ACTION_SIZE_BUFFER = 10 };
    static char text[1 << 16];
    CHECK(syscall(SYS_syslog, SYSLOG_ACTION_SIZE_BUFFER, NULL, 0) > 0);
    if (syscall(SYS_syslog, SYSLOG_ACTION_SIZE_UNREAD, NULL, 0) >= 0)
        CHECK(syscall(SYS_syslog, SYSLOG_ACTION_READ_ALL, text, sizeof text) > 0);
}
