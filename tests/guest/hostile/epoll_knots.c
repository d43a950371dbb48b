// What if epoll instances watch each other in circles, chains and stars while their threads wait on all of them?
#include "hostile.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

enum { KNOTS = 200 };
static int knots[KNOTS];
static int event_fd;

static void *tie(void *argument) {
    uint64_t seed = random_start() * (uint64_t)(1 + (long)argument);
    for (;;) {
        uint64_t value = random_next(&seed);
        int from = knots[value % KNOTS], to = (value >> 8) % 8 == 0 ? event_fd : knots[(value >> 16) % KNOTS];
        struct epoll_event event = {EPOLLIN | ((value >> 24) % 2 ? EPOLLET : 0) | ((value >> 25) % 8 ? 0 : EPOLLONESHOT),
                                    {.fd = to}};
        struct epoll_event got[8];
        struct pollfd poller = {from, POLLIN, 0};
        switch ((value >> 28) % 8) {
        case 0: case 1: case 2: epoll_ctl(from, EPOLL_CTL_ADD, to, &event); break;
        case 3: epoll_ctl(from, EPOLL_CTL_MOD, to, &event); break;
        case 4: epoll_ctl(from, EPOLL_CTL_DEL, to, &event); break;
        case 5: epoll_wait(from, got, 8, 0); break;
        case 6: poll(&poller, 1, 0); break;
        default: eventfd_write(event_fd, 1);
        }
    }
    return NULL;
}

static void attack(long round) {
    event_fd = eventfd(0, EFD_NONBLOCK);
    for (int at = 0; at < KNOTS; at++)
        knots[at] = epoll_create1(0);
    if (round == 0) {
        // A chain, as deep as it may be, and then its two ends tied together.
        struct epoll_event event = {EPOLLIN, {.fd = 0}};
        for (int at = 1; at < KNOTS; at++)
            epoll_ctl(knots[at], EPOLL_CTL_ADD, knots[at - 1], &event);
        epoll_ctl(knots[0], EPOLL_CTL_ADD, knots[KNOTS - 1], &event);
        epoll_ctl(knots[0], EPOLL_CTL_ADD, knots[0], &event);
        for (int at = 0; at < KNOTS; at++)
            epoll_ctl(knots[at], EPOLL_CTL_ADD, event_fd, &event);
        eventfd_write(event_fd, 1);
        epoll_wait(knots[KNOTS - 1], &event, 1, 0);
    }
    pthread_t thread;
    for (long at = 0; at < 3; at++)
        pthread_create(&thread, NULL, tie, (void *)(round * 3 + at));
    usleep(1500000);
    // Closed under their feet.
    for (int at = 0; at < KNOTS; at++)
        close(knots[at]);
    _exit(0);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    for (long round = 0; round < 4 && is_time_left(); round++)
        progress("wait status", in_child(attack, round));
    return 0;
}
