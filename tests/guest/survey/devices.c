// ioctl(2): every number of two bytes on every kind of file, and the coded ones that the list names.
#include "survey.h"
#include <pty.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

// The argument is a place with room, a number, or nothing. What is not known is not tried again.
static bool asks(int file, unsigned long command) {
    static unsigned long place[1024];
    memset(place, 0, sizeof place);
    if (TAKES(ioctl(file, command, place)))
        return true;
    if (errno == ENODEV) {
        strcpy((char *)place, "lo");
        if (TAKES(ioctl(file, command, place)))
            return true;
    }
    bool is_unknown = errno == ENOTTY || errno == EINVAL;
    return !is_unknown && (TAKES(ioctl(file, command, 0)) || TAKES(ioctl(file, command, 1)));
}

#define IOCTLS(name, title, make)                                                                  \
    SPACE(ioctl_##name, "ioctl: " title, NUMBERS, 0, 0x10000, TOGETHER) {                          \
        static int file = -1;                                                                      \
        if (file == -1) {                                                                          \
            signal(SIGIO, SIG_IGN);                                                                \
            file = (make);                                                                         \
        }                                                                                          \
        return asks(file, value);                                                                  \
    }

static int terminal(int side) {
    static int ends[2] = {-1, -1};
    setsid();
    signal(SIGHUP, SIG_IGN);
    if (openpty(&ends[0], &ends[1], NULL, NULL, NULL) != 0)
        exit(2);
    ioctl(ends[1], TIOCSCTTY, 0);
    signal(SIGTTOU, SIG_IGN);
    return ends[side];
}

static int end_of_pipe(void) {
    int ends[2];
    return pipe(ends) == 0 ? ends[0] : -1;
}

IOCTLS(file, "regular files", some_file())
IOCTLS(directory, "directories", some_directory())
IOCTLS(pipe, "pipes", end_of_pipe())
IOCTLS(tty, "terminals", terminal(1))
IOCTLS(ptmx, "masters of terminals", terminal(0))
IOCTLS(unix, "unix sockets", socket(AF_UNIX, SOCK_STREAM, 0))
IOCTLS(inet, "inet sockets", socket(AF_INET, SOCK_DGRAM, 0))
IOCTLS(tcp, "TCP sockets", socket(AF_INET, SOCK_STREAM, 0))
IOCTLS(netlink, "netlink sockets", socket(AF_NETLINK, SOCK_RAW, 0))
IOCTLS(inotify, "inotify", inotify_init1(0))
IOCTLS(epoll, "epoll", epoll_create1(0))
IOCTLS(timer, "timerfd", timerfd_create(CLOCK_MONOTONIC, 0))
IOCTLS(pidfd, "pidfd", syscall(SYS_pidfd_open, getpid(), 0))
IOCTLS(null, "/dev/null", open("/dev/null", O_RDWR))
IOCTLS(random, "/dev/random", open("/dev/random", O_RDWR))
IOCTLS(namespace, "namespaces", open("/proc/self/ns/uts", O_RDONLY))
