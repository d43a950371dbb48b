// Random sequences of calls on pipes and pairs of sockets, as a transcript that is the same wherever Linux is.
//
//   pipes WHERE DIRECTORY FIRST COUNT STEPS
//
// WHERE and DIRECTORY mean nothing here. Sequence SEED prints `== SEED`, then a line for each step: the call, its result and errno, and what
// all descriptors are ready for afterwards, by poll and by an edge-triggered epoll instance.
// A call that would wait is called out of it by a timer: EINTR, or what it had done by then.
#include "model.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SLOTS = 8, BUFFER = 1 << 17, SMALL = 900, UNREAD_MAX = 24 };

static int slots[SLOTS], epoll;
// Messages that sockets of this sequence hold at most: how much more fits is the accounting of each kernel's own.
static int sent;
// A socket would not take something: Linux wakes who watches it by allocating and freeing, which is its own affair.
static bool in_vain;
static char buffer[BUFFER];

static void ignore(int signal_number) { (void)signal_number; }

static bool is_socket(int fd) {
    int type;
    socklen_t length = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0;
}

static int free_slot(void) {
    for (int at = 0; at < SLOTS; at++)
        if (slots[at] == -1)
            return at;
    return -1;
}

static int used_slot(void) {
    int from = dice(SLOTS);
    for (int at = 0; at < SLOTS; at++)
        if (slots[(from + at) % SLOTS] != -1)
            return (from + at) % SLOTS;
    return -1;
}

static void watch(int slot) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u32 = slot | is_socket(slots[slot]) << 8};
    epoll_ctl(epoll, EPOLL_CTL_ADD, slots[slot], &event);
}

static void keep(int slot, int fd) {
    slots[slot] = fd;
    watch(slot);
}

// Sums up what was read, so that a wrong byte shows.
static unsigned sum(size_t length) {
    unsigned value = 0;
    for (size_t at = 0; at < length; at++)
        value = value * 31 + (unsigned char)buffer[at];
    return value % 10000;
}

static void fill(size_t length) {
    unsigned start = dice(256);
    for (size_t at = 0; at < length; at++)
        buffer[at] = (char)(start + at);
}

static void told(long result) {
    in_vain = result == -1;
    tell_result(result, errno);
}

static void make(void) {
    int first = free_slot(), ends[2];
    if (first == -1)
        return;
    slots[first] = -2;
    int second = free_slot();
    slots[first] = -1;
    if (second == -1)
        return;
    static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    int flags = dice(3) ? O_NONBLOCK : 0, kind = dice(6);
    if (kind < 3) {
        printf("pipe %d %d flags %o", first, second, flags);
        told(pipe2(ends, flags));
    } else {
        printf("pair %d %d type %d flags %o", first, second, kinds[kind - 3], flags);
        told(socketpair(AF_UNIX, kinds[kind - 3] | flags, 0, ends));
    }
    keep(first, ends[0]);
    keep(second, ends[1]);
}

static size_t length_for(int fd) {
    if (is_socket(fd))
        return 1 + dice(SMALL);
    static const size_t lengths[] = {1, 10, 100, 4095, 4096, 4097, 8192, 65536, 65537, 100000};
    return lengths[dice(sizeof lengths / sizeof *lengths)];
}

static void write_to(int slot) {
    int fd = slots[slot];
    size_t length = length_for(fd);
    if (is_socket(fd) && ++sent > UNREAD_MAX)
        return;
    fill(length);
    if (dice(3)) {
        printf("write %d %zu", slot, length);
        told(write(fd, buffer, length));
    } else {
        struct iovec parts[2] = {{buffer, length / 2}, {buffer + length / 2, length - length / 2}};
        printf("writev %d %zu", slot, length);
        told(writev(fd, parts, 2));
    }
}

static void read_from(int slot) {
    static const size_t lengths[] = {0, 1, 50, 1000, 4096, 70000};
    size_t length = lengths[dice(sizeof lengths / sizeof *lengths)];
    printf("read %d %zu", slot, length);
    ssize_t got = read(slots[slot], buffer, length);
    told(got);
    if (got > 0)
        printf(" sum %u", sum(got));
}

static void receive(int slot) {
    static const int flags[] = {0, MSG_PEEK, MSG_DONTWAIT, MSG_TRUNC, MSG_PEEK | MSG_TRUNC, MSG_WAITALL};
    int flag = flags[dice(sizeof flags / sizeof *flags)];
    size_t length = 1 + dice(1200);
    struct iovec bytes = {buffer, length};
    char control[256];
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    printf("recvmsg %d %zu flags %x", slot, length, flag);
    ssize_t got = recvmsg(slots[slot], &message, flag | MSG_CMSG_CLOEXEC);
    told(got);
    if (got < 0)
        return;
    printf(" flags %x sum %u", message.msg_flags & ~MSG_CMSG_CLOEXEC, sum((size_t)got < length ? (size_t)got : length));
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_type != SCM_RIGHTS)
            continue;
        int count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int at = 0; at < count; at++) {
            int fd, into = free_slot();
            memcpy(&fd, CMSG_DATA(header) + at * sizeof fd, sizeof fd);
            printf(" got %d", into);
            if (into == -1)
                close(fd);
            else
                keep(into, fd);
        }
    }
}

static void send_to(int slot) {
    int with = dice(2) ? used_slot() : -1;
    char control[CMSG_SPACE(sizeof(int))] = {0};
    size_t length = 1 + dice(SMALL);
    struct iovec bytes = {buffer, length};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    // A socket in its own queue, or in each other's, is for another test.
    if (with != -1 && !is_socket(slots[with])) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &slots[with], sizeof(int));
    } else {
        with = -1;
    }
    if (++sent > UNREAD_MAX)
        return;
    fill(length);
    int flags = dice(3) ? MSG_NOSIGNAL : MSG_NOSIGNAL | MSG_DONTWAIT;
    printf("sendmsg %d %zu with %d flags %x", slot, length, with, flags);
    told(sendmsg(slots[slot], &message, flags));
}

static void move_bytes(int from, int to) {
    static const size_t lengths[] = {1, 100, 5000, 65536};
    size_t length = lengths[dice(4)];
    unsigned flags = dice(2) ? SPLICE_F_NONBLOCK : 0;
    if (is_socket(slots[to]) && (length > 5000 || (sent += 8) > UNREAD_MAX))
        return;
    bool is_tee = dice(4) == 0;
    printf("%s %d %d %zu flags %x", is_tee ? "tee" : "splice", from, to, length, flags);
    told(is_tee ? tee(slots[from], slots[to], length, flags) : splice(slots[from], NULL, slots[to], NULL, length, flags));
}

static void tell(int slot) {
    int value = -1;
    int fd = slots[slot];
    switch (dice(4)) {
    case 0:
        printf("FIONREAD %d", slot);
        told(ioctl(fd, FIONREAD, &value) == -1 ? -1 : value);
        break;
    case 1:
        printf("F_GETFL %d", slot);
        told(fcntl(fd, F_GETFL));
        break;
    case 2:
        printf("F_GETPIPE_SZ %d", slot);
        told(fcntl(fd, F_GETPIPE_SZ));
        break;
    default: {
        socklen_t length = sizeof value;
        printf("SO_ERROR %d", slot);
        told(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length) == -1 ? -1 : value);
    }
    }
}

static void step(void) {
    int slot = used_slot(), other = used_slot(), free = free_slot();
    uint32_t what = dice(100);
    if (slot == -1 || what < 12) {
        make();
    } else if (what < 32) {
        write_to(slot);
    } else if (what < 52) {
        read_from(slot);
    } else if (what < 60) {
        is_socket(slots[slot]) ? send_to(slot) : write_to(slot);
    } else if (what < 70) {
        receive(slot);
    } else if (what < 76) {
        move_bytes(slot, other);
    } else if (what < 80) {
        int how = dice(3);
        printf("shutdown %d %d", slot, how);
        told(shutdown(slots[slot], how));
    } else if (what < 86) {
        printf("close %d", slot);
        told(close(slots[slot]));
        slots[slot] = -1;
    } else if (what < 90) {
        if (free != -1) {
            printf("dup %d to %d", slot, free);
            keep(free, dup(slots[slot]));
        }
    } else if (what < 94) {
        int flags = fcntl(slots[slot], F_GETFL) ^ O_NONBLOCK;
        printf("O_NONBLOCK %d %o", slot, flags & O_NONBLOCK);
        told(fcntl(slots[slot], F_SETFL, flags));
    } else {
        tell(slot);
    }
}

static void show_ready(void) {
    struct pollfd polled[SLOTS];
    struct epoll_event events[SLOTS];
    unsigned by_slot[SLOTS] = {0};
    for (int at = 0; at < SLOTS; at++)
        polled[at] = (struct pollfd){slots[at], POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
    poll(polled, SLOTS, 0);
    int count = epoll_wait(epoll, events, SLOTS, 0);
    // When a socket tells that it can be written to is each kernel's own, as long as it is told.
    for (int at = 0; at < count; at++) {
        bool by_socket = events[at].data.u32 >> 8;
        if (!(by_socket && in_vain))
            by_slot[events[at].data.u32 & 0xff] |= events[at].events & ~(by_socket ? EPOLLOUT : 0);
    }
    printf(" |");
    for (int at = 0; at < SLOTS; at++)
        if (slots[at] != -1)
            printf(" %x", (unsigned)polled[at].revents);
    printf(" |");
    for (int at = 0; at < SLOTS; at++)
        if (by_slot[at])
            printf(" %d:%x", at, by_slot[at]);
    printf("\n");
}

static void sequence(uint32_t seed, int steps) {
    printf("== %u\n", seed);
    begin_dice(seed);
    sent = 0;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int at = 0; at < SLOTS; at++)
        slots[at] = -1;
    for (int at = 0; at < steps; at++) {
        step();
        show_ready();
    }
    for (int at = 0; at < SLOTS; at++)
        if (slots[at] != -1)
            close(slots[at]);
    close(epoll);
}

int main(int argc, char **argv) {
    if (argc != 6)
        return 2;
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    // Again and again: one may come before the call that is to be interrupted has begun.
    struct itimerval often = {{0, 8000}, {0, 8000}};
    setitimer(ITIMER_REAL, &often, NULL);
    return run_sequences(argv + 3, sequence);
}
