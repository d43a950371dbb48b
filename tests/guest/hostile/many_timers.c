// What if a guest sets thousands of timers of every kind, all of which expire as often as they may?
#include "hostile.h"
#include <sys/epoll.h>
#include <sys/timerfd.h>

enum { TIMERS = 4096 };

static void attack(long kind) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGRTMIN, SIG_IGN);
    int all = epoll_create1(0), made = 0;
    for (; made < TIMERS; made++) {
        struct itimerspec often = {{0, 1}, {0, 1 + made}};
        if (kind < 3) {
            struct sigevent event = {.sigev_notify = kind == 0 ? SIGEV_NONE : SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
            timer_t timer;
            if (timer_create(kind == 2 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &event, &timer) == -1)
                break;
            timer_settime(timer, 0, &often, NULL);
        } else {
            int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
            struct epoll_event event = {EPOLLIN, {.fd = fd}};
            if (fd == -1)
                break;
            timerfd_settime(fd, 0, &often, NULL);
            epoll_ctl(all, EPOLL_CTL_ADD, fd, &event);
        }
    }
    double start = seconds_now();
    while (seconds_now() - start < 2) {
        struct epoll_event events[64];
        epoll_wait(all, events, 64, 1);
    }
    _exit(made > 255 ? 255 : made);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    for (long kind = 0; kind < 4; kind++)
        progress("timers (wait status)", in_child(attack, kind));
    return 0;
}
