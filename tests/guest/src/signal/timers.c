// Do timers fire, once or again, and with what? alarm, setitimer, timer_create.
#include "../harness.h"

static volatile int hits;
static siginfo_t last;

static void note(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    last = *info;
    hits++;
}

static void wait_for_hits(int count) {
    while (hits < count)
        sleep_ms(1);
}

TEST(alarm_fires_and_tells_what_was_left) {
    CHECK_EQ(alarm(100), 0);
    unsigned left = alarm(1);
    CHECK(left == 100 || left == 99);
    catch_siginfo(SIGALRM, note, 0);
    CHECK_ERR(pause(), EINTR);
    CHECK_EQ(last.si_signo, SIGALRM);
    CHECK_EQ(alarm(0), 0);
}

TEST(itimer_real_fires_again_and_again) {
    catch_siginfo(SIGALRM, note, 0);
    struct itimerval every = {{0, 2000}, {0, 1000}}, now;
    CHECK_OK(setitimer(ITIMER_REAL, &every, NULL));
    wait_for_hits(5);
    CHECK_OK(getitimer(ITIMER_REAL, &now));
    CHECK_EQ(now.it_interval.tv_usec, 2000);
    CHECK_ERR(setitimer(99, &every, NULL), EINVAL);
    every.it_value.tv_usec = 1000000;
    CHECK_ERR(setitimer(ITIMER_REAL, &every, NULL), EINVAL);
}

TEST(itimer_virtual_counts_user_time) {
    catch_siginfo(SIGVTALRM, note, 0);
    struct itimerval once = {{0, 0}, {0, 20000}};
    CHECK_OK(setitimer(ITIMER_VIRTUAL, &once, NULL));
    sleep_ms(60);
    CHECK_EQ(hits, 0);
    while (hits == 0)
        ;
    CHECK_EQ(last.si_signo, SIGVTALRM);
}

TEST(itimer_prof_fires_in_a_busy_loop) {
    catch_siginfo(SIGPROF, note, 0);
    struct itimerval every = {{0, 10000}, {0, 10000}};
    CHECK_OK(setitimer(ITIMER_PROF, &every, NULL));
    while (hits < 3)
        getppid();
}

TEST(fork_child_has_no_alarm) {
    alarm(100);
    pid_t pid = IN_CHILD(CHECK_EQ(alarm(0), 0));
    CHECK_EXITS(pid, 0);
    CHECK(alarm(0) > 0);
}

TEST(posix_timer_sends_its_value) {
    catch_siginfo(SIGRTMIN + 2, note, 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2};
    event.sigev_value.sival_int = 4711;
    timer_t timer;
    CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    CHECK_OK(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1000000}}, NULL));
    wait_for_hits(1);
    CHECK_EQ(last.si_code, SI_TIMER);
    CHECK_EQ(last.si_value.sival_int, 4711);
    struct itimerspec now;
    CHECK_OK(timer_gettime(timer, &now));
    CHECK_EQ(now.it_value.tv_nsec + now.it_value.tv_sec, 0);
    CHECK_OK(timer_delete(timer));
    CHECK_ERR(timer_delete(timer), EINVAL);
}

TEST(posix_timer_counts_overruns_while_blocked) {
    block_signal(SIGUSR1);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    timer_t timer;
    CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    CHECK_OK(timer_settime(timer, 0, &(struct itimerspec){{0, 1000000}, {0, 1000000}}, NULL));
    sleep_ms(50);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    siginfo_t info;
    CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
    CHECK(info.si_overrun >= 10);
    CHECK_OK(timer_getoverrun(timer));
}

TEST(posix_timer_absolute_time_in_the_past_fires_at_once) {
    catch_siginfo(SIGUSR1, note, 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    timer_t timer;
    CHECK_OK(timer_create(CLOCK_REALTIME, &event, &timer));
    CHECK_OK(timer_settime(timer, TIMER_ABSTIME, &(struct itimerspec){{0, 0}, {1, 0}}, NULL));
    wait_for_hits(1);
    CHECK_ERR(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, -1}}, NULL), EINVAL);
}

TEST(posix_timer_on_a_bad_clock_is_einval) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    timer_t timer;
    CHECK_ERR(timer_create(999, &event, &timer), EINVAL);
    event.sigev_signo = 200;
    CHECK_ERR(timer_create(CLOCK_MONOTONIC, &event, &timer), EINVAL);
}

static atomic_int thread_hits;
static void on_thread(union sigval value) { atomic_fetch_add(&thread_hits, value.sival_int); }

TEST(posix_timer_may_notify_by_thread) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread};
    event.sigev_value.sival_int = 3;
    timer_t timer;
    CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    CHECK_OK(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1000000}}, NULL));
    while (thread_hits == 0)
        sleep_ms(1);
    CHECK_EQ(thread_hits, 3);
}

// Each clock between two readings by the vDSO: the call must lie between them.
TEST(a_clock_is_the_same_by_the_call_and_by_the_vdso) {
    clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_TAI};
    for (size_t at = 0; at < sizeof clocks / sizeof *clocks; at++) {
        struct timespec before, call, after;
        for (int round = 0; round < 50; round++) {
            CHECK_OK(clock_gettime(clocks[at], &before));
            CHECK_OK(syscall(SYS_clock_gettime, clocks[at], &call));
            CHECK_OK(clock_gettime(clocks[at], &after));
            int64_t first = before.tv_sec * 1000000000LL + before.tv_nsec, last = after.tv_sec * 1000000000LL + after.tv_nsec;
            int64_t between = call.tv_sec * 1000000000LL + call.tv_nsec;
            if (between < first || between > last)
                guest_fail(__FILE__, __LINE__, "clock %d: %lld, %lld, %lld", clocks[at], (long long)first,
                           (long long)between, (long long)last);
        }
    }
}
