// What if a guest takes every descriptor it can get, of every kind, in many processes?
#include "hostile.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static void exhaust(long kind) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int pair[2], result = 0;
    for (long made = 0; made < 30000 && result != -1; made++) {
        switch (kind % 9) {
        case 0: result = open("/dev/null", O_RDONLY); break;
        case 1: result = pipe(pair); break;
        case 2: result = socketpair(AF_UNIX, SOCK_STREAM, 0, pair); break;
        case 3: result = eventfd(0, 0); break;
        case 4: result = epoll_create1(0); break;
        case 5: result = timerfd_create(CLOCK_MONOTONIC, 0); break;
        case 6: result = open("/proc/self/status", O_RDONLY); break;
        case 7: result = socket(AF_INET, SOCK_STREAM, 0); break;
        default: result = (int)syscall(SYS_memfd_create, "m", 0);
        }
    }
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    for (long kind = 0; kind < 9; kind++) {
        int status = in_child(exhaust, kind);
        progress("kind", kind);
        progress("wait status", status);
    }
    return 0;
}
