// Is what is set for another thread also so for it?
#include "../harness.h"

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
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_TAI};
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
