// What if sockets carry descriptors of sockets that carry descriptors, in chains and circles, and nobody ever takes them out?
#include "hostile.h"
#include <sys/epoll.h>
#include <sys/socket.h>

static bool send_fd(int through, const int *fds, int count) {
    char byte = 0, control[CMSG_SPACE(253 * sizeof(int))] = "";
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = CMSG_SPACE((size_t)count * sizeof(int))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    memcpy(CMSG_DATA(head), fds, (size_t)count * sizeof(int));
    return sendmsg(through, &message, MSG_DONTWAIT) == 1;
}

// Each pair goes into the one before it, and the last into the first.
static void circle(long length) {
    int first[2], last[2], next[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, first) == -1)
        _exit(1);
    memcpy(last, first, sizeof first);
    for (long at = 0; at < length; at++) {
        if (socketpair(AF_UNIX, SOCK_DGRAM, 0, next) == -1)
            break;
        send_fd(next[0], last, 2);
        if (at > 0) {
            close(last[0]);
            close(last[1]);
        }
        memcpy(last, next, sizeof next);
    }
    send_fd(first[0], last, 2);
    send_fd(first[1], first, 2);
    // A chain this long is taken down link by link when the process ends.
}

static void itself(long unused) {
    (void)unused;
    for (int round = 0; round < 2000; round++) {
        int pair[2], all = epoll_create1(0);
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == -1)
            break;
        struct epoll_event event = {EPOLLIN, {.fd = 0}};
        epoll_ctl(all, EPOLL_CTL_ADD, pair[0], &event);
        int fds[3] = {pair[0], pair[1], all};
        send_fd(pair[0], fds, 3);
        send_fd(pair[1], fds, 3);
        close(pair[0]);
        close(pair[1]);
        close(all);
    }
}

static void flood(long count) {
    int pair[2], fds[253];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == -1)
        _exit(1);
    for (int at = 0; at < 253; at++)
        fds[at] = pair[at % 2];
    for (long sent = 0; sent < count; sent++)
        if (!send_fd(pair[0], fds, 253))
            break;
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    for (long length = 1; length <= 100000 && is_time_left(); length *= 10)
        progress("circle, wait status", in_child(circle, length));
    progress("in themselves, wait status", in_child(itself, 0));
    progress("flood, wait status", in_child(flood, 10000));
    return 0;
}
