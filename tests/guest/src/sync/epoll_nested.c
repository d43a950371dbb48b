// An epoll instance that watches another one, which watches sockets (files that the host keeps).
#include "../harness.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static int watch(int epoll, int fd, unsigned events) {
    struct epoll_event event = {events, {.u64 = (unsigned)fd}};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static int collect(int epoll, int timeout) {
    struct epoll_event events[8];
    return epoll_wait(epoll, events, 8, timeout);
}

static volatile int writer_fd;
static void *write_later(void *unused) {
    (void)unused;
    usleep(20000);
    return (void *)(long)write(writer_fd, "x", 1);
}

// The waiting thread sleeps in the outer one before the packet comes.
static void wakes_through(int levels, int is_late) {
    int pair[2], epolls[4];
    local_tcp_pair(pair);
    for (int i = 0; i < levels; i++) {
        epolls[i] = CHECK_OK(epoll_create1(0));
        // A file that comes when somebody watches already, and one that was there before.
        if (i == 0 && !is_late) CHECK_OK(watch(epolls[0], pair[0], EPOLLIN));
        if (i > 0) CHECK_OK(watch(epolls[i], epolls[i - 1], EPOLLIN));
    }
    int outer = epolls[levels - 1];
    CHECK_EQ(collect(outer, 0), 0);
    if (is_late) CHECK_OK(watch(epolls[0], pair[0], EPOLLIN));
    writer_fd = pair[1];
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, write_later, NULL), 0);
    CHECK_EQ(collect(outer, -1), 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(collect(outer, 0), 1);
    CHECK_EQ(collect(epolls[0], 0), 1);
    char byte;
    CHECK_EQ(read(pair[0], &byte, 1), 1);
    CHECK_EQ(collect(outer, 0), 0);
    for (int i = 0; i < levels; i++) CHECK_OK(close(epolls[i]));
    CHECK_OK(close(pair[0]));
    CHECK_OK(close(pair[1]));
}

TEST(a_socket_wakes_who_waits_for_an_instance_of_an_instance) { wakes_through(2, 0); }

TEST(three_instances_deep) { wakes_through(3, 0); }

TEST(a_socket_added_to_a_watched_instance_wakes_too) { wakes_through(2, 1); }

TEST(poll_of_an_instance_is_woken_by_its_sockets) {
    int pair[2];
    local_tcp_pair(pair);
    int inner = CHECK_OK(epoll_create1(0));
    CHECK_OK(watch(inner, pair[0], EPOLLIN));
    struct pollfd poller = {inner, POLLIN, 0};
    CHECK_EQ(poll(&poller, 1, 0), 0);
    writer_fd = pair[1];
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, write_later, NULL), 0);
    CHECK_EQ(poll(&poller, 1, -1), 1);
    CHECK_EQ(poller.revents, POLLIN);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(a_oneshot_that_is_armed_again_is_told_through_the_outer_instance) {
    int pair[2];
    local_tcp_pair(pair);
    int inner = CHECK_OK(epoll_create1(0)), outer = CHECK_OK(epoll_create1(0));
    CHECK_OK(watch(inner, pair[0], EPOLLIN | EPOLLONESHOT));
    CHECK_OK(watch(outer, inner, EPOLLIN | EPOLLET));
    CHECK_EQ(write(pair[1], "x", 1), 1);
    CHECK_EQ(collect(outer, -1), 1);
    CHECK_EQ(collect(inner, -1), 1);
    CHECK_EQ(collect(inner, 0), 0);
    CHECK_EQ(collect(outer, 0), 0);
    struct epoll_event again = {EPOLLIN | EPOLLONESHOT, {.u64 = 0}};
    CHECK_OK(epoll_ctl(inner, EPOLL_CTL_MOD, pair[0], &again));
    CHECK_EQ(collect(outer, -1), 1);
    CHECK_EQ(collect(inner, 0), 1);
}

TEST(a_socket_that_was_removed_wakes_nobody) {
    int pair[2];
    local_tcp_pair(pair);
    int inner = CHECK_OK(epoll_create1(0)), outer = CHECK_OK(epoll_create1(0));
    CHECK_OK(watch(inner, pair[0], EPOLLIN));
    CHECK_OK(watch(outer, inner, EPOLLIN));
    CHECK_OK(epoll_ctl(inner, EPOLL_CTL_DEL, pair[0], NULL));
    CHECK_EQ(write(pair[1], "x", 1), 1);
    char byte;
    CHECK_EQ(recv(pair[0], &byte, 1, MSG_PEEK), 1);
    CHECK_EQ(collect(outer, 0), 0);
    // The instances end in either order.
    CHECK_OK(watch(inner, pair[0], EPOLLIN));
    CHECK_EQ(collect(outer, 0), 1);
    CHECK_OK(close(inner));
    CHECK_EQ(collect(outer, 0), 0);
}

TEST(what_was_written_is_found_at_once_through_the_outer_instance) {
    int inner = CHECK_OK(epoll_create1(0)), outer = CHECK_OK(epoll_create1(0));
    CHECK_OK(watch(outer, inner, EPOLLIN));
    for (int i = 0; i < 200; i++) {
        int pair[2];
        local_tcp_pair(pair);
        CHECK_OK(watch(inner, pair[0], EPOLLIN));
        CHECK_EQ(collect(outer, 0), 0);
        CHECK_EQ(write(pair[1], "x", 1), 1);
        CHECK_EQ(collect(outer, 0), 1);
        char byte;
        CHECK_EQ(read(pair[0], &byte, 1), 1);
        CHECK_EQ(collect(outer, 0), 0);
        close(pair[0]);
        close(pair[1]);
    }
}
