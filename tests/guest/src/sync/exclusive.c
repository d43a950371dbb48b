// Whom does an event wake that several epoll instances watch exclusively, as the workers of a web server do?
#include "../harness.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

enum { WORKERS = 4 };

static int awake_count(int *awake) { return __atomic_load_n(awake, __ATOMIC_SEQ_CST); }

static void expect_new_worker(int watched, void (*make_event)(void)) {
    int *awake = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t workers[WORKERS];
    for (int at = 0; at < WORKERS; at++)
        workers[at] = IN_CHILD({
            int epoll = CHECK_OK(epoll_create1(0));
            struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE};
            CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, watched, &event));
            CHECK_EQ(epoll_wait(epoll, &event, 1, -1), 1);
            __atomic_add_fetch(awake, 1, __ATOMIC_SEQ_CST);
            // At work, and what it was told of is still there.
            for (;;)
                pause();
        });
    for (int at = 0; at < WORKERS; at++)
        wait_for_state(workers[at], 'S');
    for (int at = 0; at < WORKERS; at++) {
        make_event();
        while (awake_count(awake) < at + 1)
            sleep_ms(1);
        for (int worker = 0; worker < WORKERS; worker++)
            wait_for_state(workers[worker], 'S');
    }
    for (int at = 0; at < WORKERS; at++) {
        CHECK_OK(kill(workers[at], SIGKILL));
        CHECK_KILLED(workers[at], SIGKILL);
    }
}

static int ends[2];
static void write_byte(void) { CHECK_EQ(write(ends[1], "x", 1), 1); }

TEST(an_event_of_a_pipe_wakes_an_instance_in_which_somebody_waits) {
    CHECK_OK(pipe(ends));
    expect_new_worker(ends[0], write_byte);
}

static void count_up(void) { CHECK_OK(eventfd_write(ends[0], 1)); }

TEST(an_event_of_an_eventfd_wakes_an_instance_in_which_somebody_waits) {
    ends[0] = CHECK_OK(eventfd(0, 0));
    expect_new_worker(ends[0], count_up);
}
