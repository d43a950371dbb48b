// Is what is set for another thread also so for it?
#include "../harness.h"
#include <linux/prctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>

static _Atomic int want_cpu = -1, wrong, stop;

static void *watch_cpu(void *argument) {
    (void)argument;
    while (!stop) {
        int wanted = want_cpu;
        if (wanted >= 0 && sched_getcpu() != wanted && want_cpu == wanted)
            wrong++;
    }
    return NULL;
}

TEST(a_thread_that_another_binds_to_a_processor_moves_there) {
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        return;
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, watch_cpu, NULL), 0);
    for (int round = 0; round < 10; round++) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(round % 2, &set);
        want_cpu = -1;
        CHECK_EQ(pthread_setaffinity_np(thread, sizeof set, &set), 0);
        CHECK_EQ(pthread_getaffinity_np(thread, sizeof set, &set), 0);
        CHECK(CPU_ISSET(round % 2, &set) && CPU_COUNT(&set) == 1);
        // It moves soon; from then on it stays.
        want_cpu = round % 2;
        sleep_ms(20);
        wrong = 0;
        sleep_ms(20);
        CHECK_EQ(wrong, 0);
    }
    stop = 1;
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(clocks_without_timers_say_so) {
    timer_t timer;
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    struct timespec moment = {0, 1000};
    CHECK_ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC_RAW, &none, &timer), EOPNOTSUPP);
    CHECK_ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC_COARSE, &none, &timer), EOPNOTSUPP);
    CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC_RAW, 0, &moment, NULL), EOPNOTSUPP);
    CHECK_OK(syscall(SYS_timer_create, CLOCK_TAI, &none, &timer));
    CHECK_OK(syscall(SYS_timer_create, CLOCK_BOOTTIME, &none, &timer));
}

TEST(a_clock_is_the_same_by_call_and_by_vdso) {
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME,
                                       CLOCK_TAI, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE};
    for (size_t at = 0; at < sizeof clocks / sizeof *clocks; at++) {
        struct timespec before, called, after;
        CHECK_OK(clock_gettime(clocks[at], &before));
        CHECK_OK(syscall(SYS_clock_gettime, clocks[at], &called));
        CHECK_OK(clock_gettime(clocks[at], &after));
        long long one = before.tv_sec * 1000000000LL + before.tv_nsec, two = called.tv_sec * 1000000000LL + called.tv_nsec,
                  three = after.tv_sec * 1000000000LL + after.tv_nsec;
        if (two < one || two > three)
            guest_fail(__FILE__, __LINE__, "clock %d: %lld, then %lld by call, then %lld", clocks[at], one, two, three);
    }
}

static long told(int option, bool is_direct) {
    int value = -1;
    return is_direct ? prctl(option, 0, 0, 0, 0) : prctl(option, &value, 0, 0, 0) == -1 ? -1 : value;
}

TEST(what_prctl_takes_it_tells) {
    static const struct { int set, get; long value; bool is_direct; } options[] = {
        {PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, SIGUSR1, false}, {PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, 0, false},
        {PR_SET_DUMPABLE, PR_GET_DUMPABLE, 0, true},          {PR_SET_DUMPABLE, PR_GET_DUMPABLE, 1, true},
        {PR_SET_KEEPCAPS, PR_GET_KEEPCAPS, 1, true},          {PR_SET_KEEPCAPS, PR_GET_KEEPCAPS, 0, true},
        {PR_SET_TIMING, PR_GET_TIMING, 1, true},              {PR_SET_TSC, PR_GET_TSC, PR_TSC_ENABLE, false},
        {PR_SET_SECUREBITS, PR_GET_SECUREBITS, 0x15, true},   {PR_SET_TIMERSLACK, PR_GET_TIMERSLACK, 12345, true},
        {PR_SET_THP_DISABLE, PR_GET_THP_DISABLE, 1, true},    {PR_SET_THP_DISABLE, PR_GET_THP_DISABLE, 0, true},
        {PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER, 1, false}, {PR_SET_IO_FLUSHER, PR_GET_IO_FLUSHER, 1, true},
        {67, 68, 1, true},
    };
    for (size_t at = 0; at < sizeof options / sizeof *options; at++)
        if (prctl(options[at].set, options[at].value, 0, 0, 0) == 0 &&
            told(options[at].get, options[at].is_direct) != options[at].value)
            guest_fail(__FILE__, __LINE__, "prctl %d takes %ld and tells %ld", options[at].set, options[at].value,
                       told(options[at].get, options[at].is_direct));
}

TEST(huge_pages_stay_switched_off_for_children_and_programs) {
    CHECK_OK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
    CHECK_EXITS(IN_CHILD(CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1)), 0);
}

TEST(what_limits_take_they_tell) {
    for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
        struct rlimit before, now;
        CHECK_OK(getrlimit(resource, &before));
        struct rlimit wanted = {before.rlim_max > 5000 ? 5000 : before.rlim_max, before.rlim_max};
        CHECK_OK(setrlimit(resource, &wanted));
        CHECK_OK(getrlimit(resource, &now));
        CHECK_EQ(now.rlim_cur, wanted.rlim_cur);
        CHECK_OK(setrlimit(resource, &before));
    }
}

TEST(policies_that_are_taken_are_told) {
    for (int policy = 0; policy < 8; policy++) {
        struct sched_param parameter = {policy == SCHED_FIFO || policy == SCHED_RR ? 5 : 0};
        if (sched_setscheduler(0, policy, &parameter) == -1)
            continue;
        CHECK_EQ(sched_getscheduler(0), policy);
        struct sched_param now;
        CHECK_OK(sched_getparam(0, &now));
        CHECK_EQ(now.sched_priority, parameter.sched_priority);
        parameter.sched_priority = 0;
        CHECK_OK(sched_setscheduler(0, SCHED_OTHER, &parameter));
    }
    struct sched_param none = {0};
    CHECK_ERR(sched_setscheduler(0, 6, &none), EINVAL);
}

TEST(a_policy_is_reset_for_a_child_if_asked) {
    struct sched_param parameter = {5};
    CHECK_OK(sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameter));
    CHECK_EQ(sched_getscheduler(0), SCHED_FIFO | SCHED_RESET_ON_FORK);
    CHECK_EXITS(IN_CHILD(CHECK_EQ(sched_getscheduler(0), SCHED_OTHER)), 0);
    parameter.sched_priority = 0;
    CHECK_OK(sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &parameter));
    CHECK_OK(setpriority(PRIO_PROCESS, 0, -5));
    CHECK_EXITS(IN_CHILD(CHECK_EQ(getpriority(PRIO_PROCESS, 0), 0)), 0);
}

TEST(attributes_of_scheduling_that_are_taken_are_told) {
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t times[3]; uint32_t clamps[2]; }
        wanted = {.size = 56, .flags = 0x60, .clamps = {100, 500}}, now = {.size = 56};
    if (syscall(SYS_sched_setattr, 0, &wanted, 0) == 0) {
        CHECK_OK(syscall(SYS_sched_getattr, 0, &now, 56, 0));
        CHECK_EQ(now.clamps[0], 100);
        CHECK_EQ(now.clamps[1], 500);
    } else {
        CHECK_EQ(errno, EOPNOTSUPP);
    }
}

TEST(flags_of_actions_that_are_unknown_are_not_told) {
    struct { void *handler; unsigned long flags; void *restorer; unsigned long mask; } action, now;
    for (int bit = 0; bit < 32; bit++) {
        static const unsigned long known = 0xdc000807ul;
        unsigned long wanted = 1ul << bit | 0x04000000ul;
        memset(&action, 0, sizeof action);
        action.handler = SIG_IGN;
        action.flags = wanted;
        action.restorer = (void *)0x1234;
        CHECK_OK(syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 8));
        CHECK_OK(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &now, 8));
        CHECK_EQ(now.flags, wanted & known);
    }
}

TEST(hints_that_are_taken_are_told) {
    make_file("file", "x");
    int fd = CHECK_OK(open("file", O_RDWR));
    uint64_t hint = 2, now = 99;
    if (fcntl(fd, F_SET_RW_HINT, &hint) == 0) {
        CHECK_OK(fcntl(fd, F_GET_RW_HINT, &now));
        CHECK_EQ(now, 2);
    }
}

TEST(flags_of_mounts_that_are_taken_are_told) {
    static const struct { unsigned long flag; const char *told; } flags[] = {
        {MS_RDONLY, "ro,relatime"},     {MS_NOSUID, "rw,nosuid,relatime"},   {MS_NODEV, "rw,nodev,relatime"},
        {MS_NOEXEC, "rw,noexec,relatime"}, {MS_SYNCHRONOUS, "rw,sync,relatime"}, {MS_DIRSYNC, "rw,dirsync,relatime"},
        {MS_NOATIME, "rw,noatime"},     {MS_NODIRATIME, "rw,nodiratime,relatime"}, {MS_STRICTATIME, "rw"},
        {MS_LAZYTIME, "rw,lazytime,relatime"},
    };
    CHECK_OK(unshare(CLONE_NEWNS));
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    CHECK_OK(mkdir("there", 0755));
    char place[PATH_MAX + 10], text[1 << 15];
    CHECK(getcwd(place, PATH_MAX) != NULL);
    strcat(place, "/there tmpfs ");
    for (size_t at = 0; at < sizeof flags / sizeof *flags; at++) {
        CHECK_OK(mount("none", "there", "tmpfs", flags[at].flag, NULL));
        read_file("/proc/self/mounts", text, sizeof text);
        char *found = strstr(text, place);
        CHECK(found != NULL);
        found += strlen(place);
        size_t length = strlen(flags[at].told);
        if (strncmp(found, flags[at].told, length) || !strchr(" ,", found[length]))
            guest_fail(__FILE__, __LINE__, "flag %lx is told as %.60s", flags[at].flag, found);
        CHECK_OK(umount("there"));
    }
}
