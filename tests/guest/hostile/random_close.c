// What if threads close, duplicate and reopen descriptors at random under each other's feet?
#include "hostile.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static void *act(void *argument) {
    uint64_t seed = random_start() * (uint64_t)(1 + (long)argument);
    char bytes[256];
    double start = seconds_now();
    while (seconds_now() - start < 2) {
        uint64_t value = random_next(&seed);
        int fd = (int)(value >> 8) % 64, pair[2];
        struct pollfd poller = {fd, POLLIN | POLLOUT, 0};
        struct epoll_event event = {EPOLLIN | EPOLLET, {.fd = fd}};
        switch (value % 12) {
        case 0: case 1: close(fd); break;
        case 2: dup2(fd, (int)(value >> 20) % 64); break;
        case 3: (void)!pipe2(pair, O_NONBLOCK); break;
        case 4: socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair); break;
        case 5: open("/dev/zero", O_RDWR); break;
        case 6: eventfd(1, EFD_NONBLOCK); break;
        case 7: epoll_create1(0); break;
        case 8: epoll_ctl(fd, EPOLL_CTL_ADD, (int)(value >> 20) % 64, &event); break;
        case 9: poll(&poller, 1, 1); break;
        case 10: fcntl(fd, F_SETFL, O_NONBLOCK); (void)!read(fd, bytes, sizeof bytes); break;
        default: (void)!write(fd, bytes, 16);
        }
    }
    return NULL;
}

static void attack(long round) {
    // Pipes lose their readers all the time: the attack would end at once.
    signal(SIGPIPE, SIG_IGN);
    pthread_t thread;
    close(STDIN_FILENO);
    for (long at = 0; at < 4; at++)
        pthread_create(&thread, NULL, act, (void *)(round * 10 + at));
    act((void *)(round * 10 + 9));
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    // The children's output must not reach the test's.
    for (long round = 0; round < 6; round++) {
        fflush(stdout);
        int out = dup(STDOUT_FILENO), null = open("/dev/null", O_RDWR);
        dup2(null, STDOUT_FILENO);
        fcntl(out, F_SETFD, FD_CLOEXEC);
        int high = fcntl(out, F_DUPFD_CLOEXEC, 100);
        close(out);
        close(null);
        in_child(attack, round);
        dup2(high, STDOUT_FILENO);
        close(high);
        progress("round", round);
    }
    return 0;
}
