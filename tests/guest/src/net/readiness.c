// Who is ready, where sockets of the host and the kernel's own files are waited for together? epoll, poll, select.
#include "../harness.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>

static void control(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {events, {.u64 = data}};
    CHECK_OK(epoll_ctl(epoll, operation, fd, &event));
}

static int watching(int fd, uint32_t events, uint64_t data) {
    int epoll = CHECK_OK(epoll_create1(0));
    control(epoll, EPOLL_CTL_ADD, fd, events, data);
    return epoll;
}

static void put(int fd, const char *text) { CHECK_EQ(write(fd, text, strlen(text)), strlen(text)); }

static void take(int fd, size_t count) {
    char bytes[64];
    CHECK_EQ(read(fd, bytes, count), count);
}

TEST(epoll_level_triggered_socket_reports_until_read) {
    int pair[2];
    local_tcp_pair(pair);
    int epoll = watching(pair[0], EPOLLIN, UINT64_MAX);
    expect_no_event(epoll);
    put(pair[1], "abcd");
    expect_event(epoll, EPOLLIN, UINT64_MAX);
    take(pair[0], 2);
    expect_event(epoll, EPOLLIN, UINT64_MAX);
    take(pair[0], 2);
    expect_no_event(epoll);
}

TEST(epoll_edge_triggered_socket_is_silent_about_the_rest_of_a_partial_read) {
    int pair[2];
    local_tcp_pair(pair);
    int epoll = watching(pair[0], EPOLLIN | EPOLLET, 1);
    put(pair[1], "abcd");
    expect_event(epoll, EPOLLIN, 1);
    take(pair[0], 2);
    expect_no_event(epoll);
    put(pair[1], "e");
    expect_event(epoll, EPOLLIN, 1);
    take(pair[0], 3);
    expect_no_event(epoll);
}

TEST(epoll_edge_triggered_socket_reports_again_after_mod) {
    int pair[2];
    local_tcp_pair(pair);
    int epoll = watching(pair[0], EPOLLIN | EPOLLET, 1);
    put(pair[1], "a");
    expect_event(epoll, EPOLLIN, 1);
    expect_no_event(epoll);
    control(epoll, EPOLL_CTL_MOD, pair[0], EPOLLIN | EPOLLET, 2);
    expect_event(epoll, EPOLLIN, 2);
}

TEST(epoll_oneshot_socket_needs_rearming) {
    int pair[2];
    local_tcp_pair(pair);
    int epoll = watching(pair[0], EPOLLIN | EPOLLONESHOT, 1);
    put(pair[1], "a");
    expect_event(epoll, EPOLLIN, 1);
    put(pair[1], "b");
    expect_no_event(epoll);
    control(epoll, EPOLL_CTL_MOD, pair[0], EPOLLIN | EPOLLONESHOT, 2);
    expect_event(epoll, EPOLLIN, 2);
    expect_no_event(epoll);
}

TEST(epoll_exclusive_socket_reports_and_cannot_be_modified) {
    int pair[2];
    local_tcp_pair(pair);
    int epoll = watching(pair[0], EPOLLIN | EPOLLEXCLUSIVE, 1);
    struct epoll_event event = {EPOLLIN, {.u64 = 2}};
    CHECK_ERR(epoll_ctl(epoll, EPOLL_CTL_MOD, pair[0], &event), EINVAL);
    put(pair[1], "a");
    expect_event(epoll, EPOLLIN, 1);
}

TEST(epoll_socket_is_writable_again_when_the_peer_has_read) {
    int pair[2];
    static char bytes[1 << 16];
    local_tcp_pair(pair);
    CHECK_OK(fcntl(pair[0], F_SETFL, O_NONBLOCK));
    CHECK_OK(fcntl(pair[1], F_SETFL, O_NONBLOCK));
    int epoll = watching(pair[0], EPOLLOUT, 1);
    expect_event(epoll, EPOLLOUT, 1);
    while (write(pair[0], bytes, sizeof bytes) > 0) {}
    CHECK_EQ(errno, EAGAIN);
    struct epoll_event event;
    int ready;
    // What is on its way may still make room.
    while ((ready = CHECK_OK(epoll_wait(epoll, &event, 1, 100))) == 1)
        while (write(pair[0], bytes, sizeof bytes) > 0) {}
    CHECK_EQ(ready, 0);
    long long deadline = now_ns() + WAKE_MS * 1000000LL;
    do {
        while (read(pair[1], bytes, sizeof bytes) > 0) {}
        CHECK(now_ns() < deadline);
    } while (epoll_wait(epoll, &event, 1, 1) == 0);
    CHECK_EQ(event.events, EPOLLOUT);
}

TEST(epoll_socket_reports_half_close_and_hangup) {
    int pair[2];
    local_tcp_pair(pair);
    int epoll = watching(pair[0], EPOLLIN | EPOLLRDHUP, 1);
    CHECK_OK(shutdown(pair[1], SHUT_WR));
    expect_event(epoll, EPOLLIN | EPOLLRDHUP, 1);
    control(epoll, EPOLL_CTL_MOD, pair[0], 0, 2);
    expect_no_event(epoll);
    CHECK_OK(shutdown(pair[0], SHUT_WR));
    expect_event(epoll, EPOLLHUP, 2);
}

TEST(epoll_duplicates_of_a_socket_are_watched_apart) {
    int pair[2];
    local_tcp_pair(pair);
    int copy = CHECK_OK(dup(pair[0]));
    int epoll = watching(pair[0], EPOLLIN, 1);
    control(epoll, EPOLL_CTL_ADD, copy, EPOLLIN, 2);
    struct epoll_event event = {EPOLLIN, {.u64 = 3}};
    CHECK_ERR(epoll_ctl(epoll, EPOLL_CTL_ADD, copy, &event), EEXIST);
    put(pair[1], "a");
    struct epoll_event events[3];
    CHECK_EQ(epoll_wait(epoll, events, 3, WAKE_MS), 2);
    CHECK_EQ(events[0].data.u64 + events[1].data.u64, 3);
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_DEL, pair[0], NULL));
    CHECK_ERR(epoll_ctl(epoll, EPOLL_CTL_DEL, pair[0], NULL), ENOENT);
    expect_event(epoll, EPOLLIN, 2);
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_DEL, copy, NULL));
    expect_no_event(epoll);
    control(epoll, EPOLL_CTL_ADD, pair[0], EPOLLIN, 4);
    expect_event(epoll, EPOLLIN, 4);
}

TEST(epoll_forgets_a_socket_with_its_last_descriptor) {
    int pair[2];
    local_tcp_pair(pair);
    int copy = CHECK_OK(dup(pair[0]));
    int epoll = watching(pair[0], EPOLLIN, 1);
    put(pair[1], "a");
    CHECK_OK(close(pair[0]));
    expect_event(epoll, EPOLLIN, 1);
    CHECK_OK(close(copy));
    expect_no_event(epoll);
}

struct waiter {
    int epoll;
    int count;
    struct epoll_event event;
};

static void *wait_for_one(void *argument) {
    struct waiter *waiter = argument;
    waiter->count = epoll_wait(waiter->epoll, &waiter->event, 1, WAKE_MS);
    return NULL;
}

static pthread_t start_waiter(struct waiter *waiter, int epoll) {
    pthread_t thread;
    waiter->epoll = epoll;
    CHECK_EQ(pthread_create(&thread, NULL, wait_for_one, waiter), 0);
    sleep_ms(30);
    return thread;
}

static void check_waiter(struct waiter *waiter, pthread_t thread, uint64_t data) {
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(waiter->count, 1);
    CHECK_EQ(waiter->event.data.u64, data);
}

TEST(epoll_ctl_mod_wakes_a_waiter) {
    int pair[2];
    struct waiter waiter;
    local_tcp_pair(pair);
    put(pair[1], "a");
    int epoll = watching(pair[0], 0, 1);
    pthread_t thread = start_waiter(&waiter, epoll);
    control(epoll, EPOLL_CTL_MOD, pair[0], EPOLLIN, 2);
    check_waiter(&waiter, thread, 2);
}

TEST(epoll_ctl_add_of_a_socket_wakes_a_waiter_of_an_empty_instance) {
    int pair[2];
    struct waiter waiter;
    local_tcp_pair(pair);
    put(pair[1], "a");
    int epoll = CHECK_OK(epoll_create1(0));
    pthread_t thread = start_waiter(&waiter, epoll);
    control(epoll, EPOLL_CTL_ADD, pair[0], EPOLLIN, 1);
    check_waiter(&waiter, thread, 1);
}

TEST(epoll_waiter_hears_of_a_socket_added_meanwhile) {
    int pair[2], event = CHECK_OK(eventfd(0, 0));
    struct waiter waiter;
    local_tcp_pair(pair);
    int epoll = watching(event, EPOLLIN, 1);
    pthread_t thread = start_waiter(&waiter, epoll);
    control(epoll, EPOLL_CTL_ADD, pair[0], EPOLLIN, 2);
    sleep_ms(30);
    put(pair[1], "a");
    check_waiter(&waiter, thread, 2);
}

TEST(epoll_waiter_on_sockets_hears_of_an_eventfd) {
    int pair[2], event = CHECK_OK(eventfd(0, 0));
    struct waiter waiter;
    local_tcp_pair(pair);
    int epoll = watching(pair[0], EPOLLIN, 1);
    control(epoll, EPOLL_CTL_ADD, event, EPOLLIN, 2);
    for (int round = 0; round < 3; round++) {
        uint64_t one = 1;
        pthread_t thread = start_waiter(&waiter, epoll);
        CHECK_EQ(write(event, &one, 8), 8);
        check_waiter(&waiter, thread, 2);
        CHECK_EQ(read(event, &one, 8), 8);
        thread = start_waiter(&waiter, epoll);
        put(pair[1], "a");
        check_waiter(&waiter, thread, 1);
        take(pair[0], 1);
    }
}

TEST(epoll_socket_closed_while_waited_for_is_silent) {
    int pair[2], event = CHECK_OK(eventfd(0, 0));
    struct waiter waiter;
    local_tcp_pair(pair);
    int epoll = watching(pair[0], EPOLLIN, 1);
    control(epoll, EPOLL_CTL_ADD, event, EPOLLIN, 2);
    pthread_t thread = start_waiter(&waiter, epoll);
    uint64_t one = 1;
    CHECK_OK(close(pair[0]));
    sleep_ms(30);
    CHECK_EQ(write(event, &one, 8), 8);
    check_waiter(&waiter, thread, 2);
}

TEST(epoll_wakes_each_of_several_waiters) {
    int pairs[3][2];
    struct waiter waiters[3];
    pthread_t threads[3];
    int epoll = CHECK_OK(epoll_create1(0));
    for (int at = 0; at < 3; at++) {
        local_tcp_pair(pairs[at]);
        control(epoll, EPOLL_CTL_ADD, pairs[at][0], EPOLLIN | EPOLLET, 1 << at);
        threads[at] = start_waiter(&waiters[at], epoll);
    }
    uint64_t seen = 0;
    for (int at = 0; at < 3; at++) put(pairs[at][1], "a");
    for (int at = 0; at < 3; at++) {
        CHECK_EQ(pthread_join(threads[at], NULL), 0);
        CHECK_EQ(waiters[at].count, 1);
        seen |= waiters[at].event.data.u64;
    }
    CHECK_EQ(seen, 7);
}

TEST(epoll_reports_sockets_and_own_files_in_turn) {
    int pair[2], event = CHECK_OK(eventfd(1, 0));
    local_tcp_pair(pair);
    int epoll = watching(pair[0], EPOLLIN, 1);
    control(epoll, EPOLL_CTL_ADD, event, EPOLLIN, 2);
    put(pair[1], "a");
    uint64_t seen = 0;
    for (int round = 0; round < 8; round++) {
        struct epoll_event found;
        CHECK_EQ(epoll_wait(epoll, &found, 1, WAKE_MS), 1);
        seen |= found.data.u64;
    }
    CHECK_EQ(seen, 3);
    struct epoll_event both[4];
    CHECK_EQ(epoll_wait(epoll, both, 4, 0), 2);
    CHECK_EQ(both[0].data.u64 + both[1].data.u64, 3);
}

TEST(epoll_of_an_epoll_of_sockets_is_readable_with_them) {
    int pair[2], late[2];
    local_tcp_pair(pair);
    local_tcp_pair(late);
    int inner = watching(pair[0], EPOLLIN, 1);
    int outer = watching(inner, EPOLLIN, 2);
    int empty = CHECK_OK(epoll_create1(0));
    control(outer, EPOLL_CTL_ADD, empty, EPOLLIN, 3);
    expect_no_event(outer);
    put(pair[1], "a");
    expect_event(outer, EPOLLIN, 2);
    expect_event(outer, EPOLLIN, 2);
    struct pollfd poller = {inner, POLLIN, 0};
    CHECK_EQ(poll(&poller, 1, 0), 1);
    take(pair[0], 1);
    CHECK_EQ(poll(&poller, 1, 0), 0);
    expect_no_event(outer);
    control(empty, EPOLL_CTL_ADD, late[0], EPOLLIN, 4);
    struct waiter waiter;
    pthread_t thread = start_waiter(&waiter, outer);
    put(late[1], "b");
    check_waiter(&waiter, thread, 3);
}

TEST(epoll_wait_on_sockets_times_out) {
    int pair[2];
    local_tcp_pair(pair);
    int epoll = watching(pair[0], EPOLLIN, 1);
    struct epoll_event event;
    for (int milliseconds = 1; milliseconds < 30; milliseconds += 9) {
        long long start = now_ns();
        CHECK_EQ(epoll_wait(epoll, &event, 1, milliseconds), 0);
        CHECK(now_ns() - start >= milliseconds * 1000000LL);
    }
}

static volatile int hits;
static void hit(int number) {
    (void)number;
    hits++;
}

TEST(epoll_wait_on_sockets_is_ended_by_a_signal) {
    int pair[2];
    local_tcp_pair(pair);
    int epoll = watching(pair[0], EPOLLIN, 1);
    catch_signal(SIGUSR1, hit, SA_RESTART);
    pid_t parent = getpid();
    pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); kill(parent, SIGUSR1));
    struct epoll_event event;
    CHECK_ERR(epoll_wait(epoll, &event, 1, WAKE_MS), EINTR);
    CHECK_EQ(hits, 1);
    CHECK_EXITS(pid, 0);
}

TEST(read_of_a_socket_is_restarted_or_ended_by_a_signal) {
    int pair[2];
    char byte;
    local_tcp_pair(pair);
    pid_t parent = getpid();
    catch_signal(SIGUSR1, hit, SA_RESTART);
    pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); kill(parent, SIGUSR1); sleep_ms(30); put(pair[1], "a"));
    CHECK_EQ(read(pair[0], &byte, 1), 1);
    CHECK_EQ(hits, 1);
    CHECK_EXITS(pid, 0);
    catch_signal(SIGUSR1, hit, 0);
    pid = IN_CHILD(wait_for_state(parent, 'S'); kill(parent, SIGUSR1));
    CHECK_ERR(read(pair[0], &byte, 1), EINTR);
    CHECK_EXITS(pid, 0);
}

static void *shut_later(void *fd) {
    sleep_ms(30);
    return (void *)(long)shutdown(*(int *)fd, SHUT_RDWR);
}

TEST(shutdown_ends_a_read_that_waits) {
    int pair[2];
    char byte;
    pthread_t thread;
    local_tcp_pair(pair);
    CHECK_EQ(pthread_create(&thread, NULL, shut_later, &pair[0]), 0);
    CHECK_EQ(read(pair[0], &byte, 1), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(peek_with_waitall_waits_for_all) {
    int pair[2];
    char bytes[4];
    local_tcp_pair(pair);
    put(pair[1], "ab");
    pid_t parent = getpid();
    pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); put(pair[1], "cd"));
    CHECK_EQ(recv(pair[0], bytes, 4, MSG_PEEK | MSG_WAITALL), 4);
    CHECK_EXITS(pid, 0);
}

TEST(poll_and_select_wait_for_sockets_and_pipes_at_once) {
    int pair[2], ends[2];
    pid_t parent = getpid();
    local_tcp_pair(pair);
    CHECK_OK(pipe(ends));
    struct pollfd pollers[3] = {{ends[0], POLLIN, 0}, {-1, POLLIN, 0}, {pair[0], POLLIN, 0}};
    for (int at = 0; at < 3; at += 2) {
        int fd = at == 0 ? ends[1] : pair[1];
        pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); put(fd, "x"));
        CHECK_EQ(poll(pollers, 3, WAKE_MS), 1);
        CHECK_EQ(pollers[at].revents, POLLIN);
        CHECK_EQ(pollers[2 - at].revents, 0);
        CHECK_EXITS(pid, 0);
        take(pollers[at].fd, 1);
        pid = IN_CHILD(wait_for_state(parent, 'S'); put(fd, "x"));
        fd_set set;
        FD_ZERO(&set);
        FD_SET(ends[0], &set);
        FD_SET(pair[0], &set);
        struct timeval timeout = {WAKE_MS / 1000, 0};
        CHECK_EQ(select(FD_SETSIZE, &set, NULL, NULL, &timeout), 1);
        CHECK(FD_ISSET(pollers[at].fd, &set));
        CHECK_EXITS(pid, 0);
        take(pollers[at].fd, 1);
    }
}
