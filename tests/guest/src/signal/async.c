// Is the owner of a file told by a signal that it has become ready (O_ASYNC, F_SETOWN, F_SETSIG)?
#include "../harness.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static volatile sig_atomic_t heard, code, fd_told, band;

static void hear(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    heard = signal_number;
    code = info->si_code;
    fd_told = info->si_fd;
    band = (int)info->si_band;
}

static void wait_for(int signal_number) {
    sigset_t none;
    sigemptyset(&none);
    while (heard != signal_number)
        sigsuspend(&none);
    heard = 0;
}

static void tell_me(int fd, int signal_number) {
    block_signal(SIGIO);
    block_signal(SIGRTMIN);
    catch_siginfo(SIGIO, hear, 0);
    catch_siginfo(SIGRTMIN, hear, 0);
    CHECK_OK(fcntl(fd, F_SETOWN, getpid()));
    if (signal_number)
        CHECK_OK(fcntl(fd, F_SETSIG, signal_number));
    CHECK_OK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC));
    CHECK(fcntl(fd, F_GETFL) & O_ASYNC);
}

TEST(the_owner_of_a_pipe_is_told_that_bytes_have_come) {
    int ends[2];
    CHECK_OK(pipe(ends));
    tell_me(ends[0], 0);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    wait_for(SIGIO);
}

TEST(the_owner_of_a_socket_is_told_that_bytes_have_come) {
    int pair[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    tell_me(pair[0], 0);
    CHECK_EQ(write(pair[1], "x", 1), 1);
    wait_for(SIGIO);
}

TEST(the_owner_of_a_host_socket_is_told_that_bytes_have_come) {
    int pair[2];
    local_tcp_pair(pair);
    tell_me(pair[0], 0);
    CHECK_EQ(write(pair[1], "x", 1), 1);
    wait_for(SIGIO);
}

TEST(a_signal_of_ones_own_tells_which_file_and_what) {
    int ends[2];
    CHECK_OK(pipe(ends));
    tell_me(ends[0], SIGRTMIN);
    CHECK_EQ(fcntl(ends[0], F_GETSIG), SIGRTMIN);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    wait_for(SIGRTMIN);
    CHECK_EQ(code, POLL_IN);
    CHECK_EQ(fd_told, ends[0]);
    CHECK_EQ(band & 0x41, 0x41);
}

TEST(nobody_is_told_once_it_is_switched_off) {
    int ends[2];
    CHECK_OK(pipe(ends));
    tell_me(ends[0], 0);
    CHECK_OK(fcntl(ends[0], F_SETFL, fcntl(ends[0], F_GETFL) & ~O_ASYNC));
    CHECK_EQ(fcntl(ends[0], F_GETFL) & O_ASYNC, 0);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    sleep_ms(20);
    sigset_t waiting;
    sigpending(&waiting);
    CHECK(!sigismember(&waiting, SIGIO));
}

TEST(a_file_that_is_always_ready_is_not_asynchronous) {
    make_file("file", "x");
    int fd = CHECK_OK(open("file", O_RDWR));
    CHECK_OK(fcntl(fd, F_SETFL, O_ASYNC));
    CHECK_EQ(fcntl(fd, F_GETFL) & O_ASYNC, 0);
}

TEST(the_owner_of_a_file_is_told_back) {
    int ends[2];
    CHECK_OK(pipe(ends));
    CHECK_OK(fcntl(ends[0], F_SETOWN, getpid()));
    CHECK_EQ(fcntl(ends[0], F_GETOWN), getpid());
    CHECK_OK(fcntl(ends[0], F_SETOWN, -getpgrp()));
    struct f_owner_ex owner;
    CHECK_OK(fcntl(ends[0], F_GETOWN_EX, &owner));
    CHECK_EQ(owner.type, F_OWNER_PGRP);
    CHECK_EQ(owner.pid, getpgrp());
    owner = (struct f_owner_ex){F_OWNER_TID, (pid_t)syscall(SYS_gettid)};
    CHECK_OK(fcntl(ends[0], F_SETOWN_EX, &owner));
    owner = (struct f_owner_ex){9, 9};
    CHECK_OK(fcntl(ends[0], F_GETOWN_EX, &owner));
    CHECK_EQ(owner.type, F_OWNER_TID);
    CHECK_EQ(owner.pid, syscall(SYS_gettid));
    CHECK_ERR(fcntl(ends[0], F_SETOWN, 999999), ESRCH);
    CHECK_ERR(fcntl(ends[0], F_SETSIG, 99), EINVAL);
    CHECK_EQ(fcntl(ends[0], F_GETSIG), 0);
}
