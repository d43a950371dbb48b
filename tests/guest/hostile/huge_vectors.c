// What if lists of buffers are too many, too long, overlapping, wrapping around, or somewhere else by the time they are used?
#include "hostile.h"
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

enum { PIECES = 4096 };
static struct iovec pieces[PIECES];
static uint64_t seed;

static void fill(void) {
    static char buffer[65536];
    for (int at = 0; at < PIECES; at++) {
        uint64_t value = random_next(&seed);
        static const unsigned long lengths[] = {0, 1, PAGE, 65536, 1UL << 31, 1UL << 40, 1UL << 63, ~0UL};
        pieces[at].iov_len = lengths[value % 8];
        pieces[at].iov_base = value % 3 == 0 ? buffer + value % 60000
                              : value % 3 == 1 ? (void *)(STUB_START + (value >> 8) % (1 << 28))
                                               : (void *)(value >> 4);
    }
}

static void *change(void *argument) {
    for (;;)
        fill();
    return argument;
}

static void attack(long round) {
    seed = random_start() * (uint64_t)(round + 1);
    fill();
    pthread_t thread;
    if (round % 2)
        pthread_create(&thread, NULL, change, NULL);
    int ends[2], pair[2];
    int file = (int)syscall(SYS_memfd_create, "m", 0);
    if (pipe2(ends, O_NONBLOCK) == -1 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) == -1)
        _exit(1);
    static const unsigned long counts[] = {0, 1, 2, 16, 1024, 1025, PIECES, 1UL << 31, ~0UL};
    for (unsigned at = 0; at < 200; at++) {
        unsigned long count = counts[random_next(&seed) % 9];
        int fd = (int[]){ends[0], ends[1], file, pair[0], pair[1]}[random_next(&seed) % 5];
        syscall(SYS_readv, fd, pieces, count);
        syscall(SYS_writev, fd, pieces, count);
        syscall(SYS_preadv2, fd, pieces, count, random_next(&seed), 0, 0);
        syscall(SYS_pwritev2, fd, pieces, count, random_next(&seed) % 2 ? -1 : 4096, 0, 0);
        syscall(SYS_process_vm_readv, getpid(), pieces, count, pieces + 7, count, 0);
        syscall(SYS_process_vm_writev, getpid(), pieces, count, pieces + 7, count, 0);
        syscall(SYS_vmsplice, ends[1], pieces, count, 2);
        syscall(SYS_process_madvise, -1, pieces, count, 4, 0);
        struct msghdr message = {.msg_name = pieces[0].iov_base, .msg_namelen = (socklen_t)pieces[0].iov_len, .msg_iov = pieces,
                                 .msg_iovlen = count, .msg_control = pieces[1].iov_base, .msg_controllen = pieces[1].iov_len};
        syscall(SYS_sendmsg, fd, &message, MSG_DONTWAIT);
        syscall(SYS_recvmsg, fd, &message, MSG_DONTWAIT);
        struct mmsghdr many[4] = {{message, 0}, {message, 0}, {message, 0}, {message, 0}};
        syscall(SYS_sendmmsg, fd, many, count, MSG_DONTWAIT);
        syscall(SYS_recvmmsg, fd, many, count, MSG_DONTWAIT, NULL);
    }
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    long round = 0, died = 0;
    for (; round < 12 && is_time_left(); round++)
        died += in_child(attack, round) != 0;
    progress("rounds", round);
    progress("children that died", died);
    return 0;
}
