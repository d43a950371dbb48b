// Is a bad pointer EFAULT, call by call, rather than a death or a success?
#include "../harness.h"
#include <sys/socket.h>
#include <sys/stat.h>

// A page that is mapped and may not be touched; its neighbours below and above are not mapped.
static void *bad_page(void) {
    static char *page;
    if (!page) {
        page = mmap(NULL, 3 * GUEST_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(page != MAP_FAILED);
        CHECK_OK(munmap(page, GUEST_PAGE));
        CHECK_OK(munmap(page + 2 * GUEST_PAGE, GUEST_PAGE));
        page += GUEST_PAGE;
    }
    return page;
}

// Each call is tried with a page without permission, an unmapped address, null's neighbour and the kernel's half.
#define FAULTS(call, ...)                                                                          \
    TEST(bad_pointer_to_##call##_is_efault) {                                                      \
        void *bads[] = {bad_page(), (char *)bad_page() + GUEST_PAGE, (void *)16,                   \
                        (void *)0xffff800000000000};                                               \
        int file = CHECK_OK(open("f", O_CREAT | O_RDWR, 0644)), ends[2], pair[2];                  \
        CHECK_EQ(write(file, "content", 7), 7);                                                    \
        CHECK_EQ(lseek(file, 0, SEEK_SET), 0);                                                     \
        CHECK_OK(pipe(ends));                                                                      \
        CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));                                       \
        CHECK_EQ(write(pair[1], "x", 1), 1);                                                       \
        CHECK_EQ(write(ends[1], "x", 1), 1);                                                       \
        for (int at = 0; at < 4; at++) {                                                           \
            void *bad = bads[at];                                                                  \
            CHECK_ERR(syscall(SYS_##call, __VA_ARGS__), EFAULT);                                   \
        }                                                                                          \
    }

FAULTS(read, ends[0], bad, 8)
FAULTS(write, ends[1], bad, 8)
FAULTS(open, bad, O_RDONLY)
FAULTS(openat, AT_FDCWD, bad, O_RDONLY)
FAULTS(stat, bad, &ends)
FAULTS(fstat, file, bad)
FAULTS(newfstatat, AT_FDCWD, "f", bad, 0)
FAULTS(statx, AT_FDCWD, "f", 0, 0x7ff, bad)
FAULTS(readv, ends[0], bad, 1)
FAULTS(writev, ends[1], bad, 1)
FAULTS(pread64, file, bad, 8, 0)
FAULTS(pwrite64, file, bad, 8, 0)
FAULTS(access, bad, 0)
FAULTS(pipe, bad)
FAULTS(getcwd, bad, 4096)
FAULTS(chdir, bad)
FAULTS(rename, bad, "g")
FAULTS(mkdir, bad, 0755)
FAULTS(rmdir, bad)
FAULTS(unlink, bad)
FAULTS(symlink, "x", bad)
FAULTS(link, bad, "g")
FAULTS(readlink, "/proc/self", bad, 8)
FAULTS(chmod, bad, 0644)
FAULTS(truncate, bad, 0)
FAULTS(statfs, "f", bad)
FAULTS(getdents64, CHECK_OK(open(".", O_RDONLY)), bad, 4096)
FAULTS(utimensat, AT_FDCWD, "f", bad, 0)
FAULTS(uname, bad)
FAULTS(sysinfo, bad)
FAULTS(times, bad)
FAULTS(getrusage, 0, bad)
FAULTS(getrlimit, RLIMIT_NOFILE, bad)
FAULTS(setrlimit, RLIMIT_NOFILE, bad)
FAULTS(clock_gettime, CLOCK_PROCESS_CPUTIME_ID, bad)
FAULTS(nanosleep, bad, NULL)
FAULTS(setitimer, 0, bad, NULL)
FAULTS(getitimer, 0, bad)
FAULTS(timer_create, CLOCK_MONOTONIC, bad, &ends)
FAULTS(getrandom, bad, 8, 0)
FAULTS(getgroups, 8, (syscall(SYS_setgroups, 1, (int[]){5}), bad))
FAULTS(setgroups, 1, bad)
FAULTS(getresuid, bad, bad, bad)
FAULTS(capget, bad, NULL)
FAULTS(rt_sigaction, SIGUSR1, bad, NULL, 8)
FAULTS(rt_sigprocmask, SIG_BLOCK, bad, NULL, 8)
FAULTS(rt_sigpending, bad, 8)
FAULTS(rt_sigtimedwait, bad, NULL, NULL, 8)
FAULTS(rt_sigsuspend, bad, 8)
FAULTS(sigaltstack, bad, NULL)
FAULTS(wait4, IN_CHILD(_exit(0)), bad, 0, NULL)
FAULTS(execve, bad, NULL, NULL)
FAULTS(futex, bad, 0, 0, NULL, NULL, 0)
FAULTS(poll, bad, 1, 0)
FAULTS(ppoll, NULL, 0, bad, NULL, 8)
FAULTS(select, 1, bad, NULL, NULL, NULL)
FAULTS(epoll_ctl, CHECK_OK(syscall(SYS_epoll_create1, 0)), 1, ends[0], bad)
FAULTS(sendto, pair[0], bad, 8, 0, NULL, 0)
FAULTS(recvfrom, pair[0], bad, 8, 0, NULL, NULL)
FAULTS(sendmsg, pair[0], bad, 0)
FAULTS(recvmsg, pair[0], bad, 0)
FAULTS(connect, CHECK_OK(socket(AF_UNIX, SOCK_STREAM, 0)), bad, 16)
FAULTS(bind, CHECK_OK(socket(AF_UNIX, SOCK_STREAM, 0)), bad, 16)
FAULTS(getsockname, pair[0], bad, bad)
FAULTS(setsockopt, pair[0], SOL_SOCKET, SO_RCVBUF, bad, 4)
FAULTS(getsockopt, pair[0], SOL_SOCKET, SO_RCVBUF, bad, bad)
FAULTS(socketpair, AF_UNIX, SOCK_STREAM, 0, bad)
FAULTS(ioctl, ends[0], 0x541b, bad)
FAULTS(fcntl, file, F_SETLK, bad)
FAULTS(sendfile, ends[1], file, bad, 4)
FAULTS(prctl, 15, bad, 0, 0, 0)
FAULTS(arch_prctl, 0x1003, bad)
FAULTS(sched_getaffinity, 0, 8, bad)
FAULTS(memfd_create, bad, 0)
FAULTS(getxattr, bad, "user.x", NULL, 0)
FAULTS(mincore, (uintptr_t)&bads & -GUEST_PAGE, GUEST_PAGE, bad)
FAULTS(sethostname, bad, 4)
FAULTS(sched_setparam, 0, bad)
