// Who is ready? poll, select and epoll over pipes and eventfds; pipes themselves; inotify.
#include "../harness.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/select.h>

static void make_pipe(int ends[2], int flags) { CHECK_OK(pipe2(ends, flags)); }

static volatile int hits;
static void hit(int number) {
    (void)number;
    hits++;
}

TEST(poll_tells_readable_writable_and_hangup) {
    int ends[2];
    make_pipe(ends, 0);
    struct pollfd pollers[2] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}};
    CHECK_EQ(poll(pollers, 2, 0), 1);
    CHECK_EQ(pollers[0].revents, 0);
    CHECK_EQ(pollers[1].revents, POLLOUT);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(poll(pollers, 1, -1), 1);
    CHECK_EQ(pollers[0].revents, POLLIN);
    CHECK_OK(close(ends[1]));
    CHECK_EQ(poll(pollers, 1, -1), 1);
    CHECK_EQ(pollers[0].revents, POLLIN | POLLHUP);
    char byte;
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    CHECK_EQ(poll(pollers, 1, -1), 1);
    CHECK_EQ(pollers[0].revents, POLLHUP);
}

TEST(poll_of_a_pipe_without_reader_is_pollerr) {
    int ends[2];
    make_pipe(ends, 0);
    CHECK_OK(close(ends[0]));
    struct pollfd poller = {ends[1], POLLOUT, 0};
    CHECK_EQ(poll(&poller, 1, 0), 1);
    CHECK_EQ(poller.revents, POLLOUT | POLLERR);
}

TEST(poll_of_a_closed_descriptor_is_pollnval_and_negative_is_skipped) {
    struct pollfd pollers[2] = {{250, POLLIN, 0}, {-1, POLLIN, 77}};
    CHECK_EQ(poll(pollers, 2, 1000), 1);
    CHECK_EQ(pollers[0].revents, POLLNVAL);
    CHECK_EQ(pollers[1].revents, 0);
}

TEST(poll_times_out) {
    long long start = now_ns();
    CHECK_EQ(poll(NULL, 0, 20), 0);
    CHECK(now_ns() - start >= 20000000);
}

TEST(poll_of_a_regular_file_is_always_ready) {
    int fd = CHECK_OK(open("f", O_CREAT | O_RDWR, 0644));
    struct pollfd poller = {fd, POLLIN | POLLOUT, 0};
    CHECK_EQ(poll(&poller, 1, -1), 1);
    CHECK_EQ(poller.revents, POLLIN | POLLOUT);
}

TEST(poll_wakes_when_another_process_writes) {
    int ends[2];
    make_pipe(ends, 0);
    pid_t parent = getpid();
    pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); CHECK_EQ(write(ends[1], "x", 1), 1));
    struct pollfd poller = {ends[0], POLLIN, 0};
    CHECK_EQ(poll(&poller, 1, -1), 1);
    CHECK_EXITS(pid, 0);
}

TEST(poll_is_eintr_even_with_sa_restart) {
    catch_signal(SIGUSR1, hit, SA_RESTART);
    pid_t parent = getpid();
    pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); kill(parent, SIGUSR1));
    CHECK_ERR(poll(NULL, 0, -1), EINTR);
    CHECK_EXITS(pid, 0);
}

TEST(ppoll_lets_a_blocked_signal_in) {
    catch_signal(SIGUSR1, hit, 0);
    block_signal(SIGUSR1);
    raise(SIGUSR1);
    sigset_t none, mask;
    sigemptyset(&none);
    CHECK_ERR(ppoll(NULL, 0, &(struct timespec){10, 0}, &none), EINTR);
    CHECK_EQ(hits, 1);
    CHECK_OK(sigprocmask(SIG_SETMASK, NULL, &mask));
    CHECK(sigismember(&mask, SIGUSR1));
}

TEST(poll_of_too_many_descriptors_is_einval) {
    struct rlimit limit = {10, 10};
    static struct pollfd pollers[11];
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
    CHECK_ERR(poll(pollers, 11, 0), EINVAL);
}

TEST(select_marks_ready_descriptors) {
    int ends[2];
    make_pipe(ends, 0);
    fd_set readers, writers;
    FD_ZERO(&readers);
    FD_ZERO(&writers);
    FD_SET(ends[0], &readers);
    FD_SET(ends[1], &writers);
    struct timeval zero = {0, 0};
    CHECK_EQ(select(ends[1] + 1, &readers, &writers, NULL, &zero), 1);
    CHECK(!FD_ISSET(ends[0], &readers));
    CHECK(FD_ISSET(ends[1], &writers));
    CHECK_EQ(write(ends[1], "x", 1), 1);
    FD_SET(ends[0], &readers);
    CHECK_EQ(select(ends[1] + 1, &readers, &writers, NULL, NULL), 2);
}

TEST(select_of_a_closed_descriptor_is_ebadf) {
    fd_set readers;
    FD_ZERO(&readers);
    FD_SET(250, &readers);
    CHECK_ERR(select(251, &readers, NULL, NULL, NULL), EBADF);
    CHECK_ERR(select(-1, NULL, NULL, NULL, NULL), EINVAL);
}

TEST(select_writes_back_the_time_left) {
    struct timeval time = {0, 20000};
    CHECK_EQ(select(0, NULL, NULL, NULL, &time), 0);
    CHECK_EQ(time.tv_sec, 0);
    CHECK_EQ(time.tv_usec, 0);
}

TEST(pselect_applies_its_mask) {
    catch_signal(SIGUSR1, hit, 0);
    block_signal(SIGUSR1);
    raise(SIGUSR1);
    sigset_t none;
    sigemptyset(&none);
    CHECK_ERR(pselect(0, NULL, NULL, NULL, &(struct timespec){10, 0}, &none), EINTR);
    CHECK_EQ(hits, 1);
}

static int epoll_with(int fd, uint32_t events) {
    int epoll = CHECK_OK(epoll_create1(EPOLL_CLOEXEC));
    struct epoll_event event = {events, {.fd = fd}};
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    return epoll;
}

TEST(epoll_level_triggered_reports_again) {
    int ends[2];
    make_pipe(ends, 0);
    int epoll = epoll_with(ends[0], EPOLLIN);
    struct epoll_event event;
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    for (int round = 0; round < 3; round++) {
        CHECK_EQ(epoll_wait(epoll, &event, 1, -1), 1);
        CHECK_EQ(event.events, EPOLLIN);
        CHECK_EQ(event.data.fd, ends[0]);
    }
}

TEST(epoll_edge_triggered_reports_once_per_write) {
    int ends[2];
    make_pipe(ends, 0);
    int epoll = epoll_with(ends[0], EPOLLIN | EPOLLET);
    struct epoll_event event;
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(epoll_wait(epoll, &event, 1, -1), 1);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
    CHECK_EQ(write(ends[1], "y", 1), 1);
    CHECK_EQ(epoll_wait(epoll, &event, 1, -1), 1);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
}

TEST(epoll_oneshot_needs_rearming) {
    int ends[2];
    make_pipe(ends, 0);
    int epoll = epoll_with(ends[0], EPOLLIN | EPOLLONESHOT);
    struct epoll_event event = {EPOLLIN | EPOLLONESHOT, {.fd = ends[0]}};
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(epoll_wait(epoll, &event, 1, -1), 1);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
    event.events = EPOLLIN | EPOLLONESHOT;
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], &event));
    CHECK_EQ(epoll_wait(epoll, &event, 1, -1), 1);
}

TEST(epoll_ctl_errors) {
    int ends[2];
    make_pipe(ends, 0);
    int epoll = epoll_with(ends[0], EPOLLIN);
    struct epoll_event event = {EPOLLIN, {.fd = 0}};
    CHECK_ERR(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event), EEXIST);
    CHECK_ERR(epoll_ctl(epoll, EPOLL_CTL_MOD, ends[1], &event), ENOENT);
    CHECK_ERR(epoll_ctl(epoll, EPOLL_CTL_DEL, ends[1], NULL), ENOENT);
    CHECK_ERR(epoll_ctl(epoll, EPOLL_CTL_ADD, 250, &event), EBADF);
    CHECK_ERR(epoll_ctl(ends[0], EPOLL_CTL_ADD, ends[1], &event), EINVAL);
    CHECK_ERR(epoll_ctl(epoll, EPOLL_CTL_ADD, epoll, &event), EINVAL);
    int file = CHECK_OK(open("f", O_CREAT | O_RDWR, 0644));
    CHECK_ERR(epoll_ctl(epoll, EPOLL_CTL_ADD, file, &event), EPERM);
    CHECK_ERR(epoll_create(0), EINVAL);
}

TEST(epoll_wait_errors) {
    int epoll = CHECK_OK(epoll_create1(0));
    struct epoll_event event;
    CHECK_ERR(epoll_wait(epoll, &event, 0, 0), EINVAL);
    CHECK_ERR(epoll_wait(0x7000, &event, 1, 0), EBADF);
    int ends[2];
    make_pipe(ends, 0);
    CHECK_ERR(epoll_wait(ends[0], &event, 1, 0), EINVAL);
}

TEST(epoll_reports_hangup_unasked) {
    int ends[2];
    make_pipe(ends, 0);
    int epoll = epoll_with(ends[0], 0);
    struct epoll_event event;
    CHECK_OK(close(ends[1]));
    CHECK_EQ(epoll_wait(epoll, &event, 1, -1), 1);
    CHECK_EQ(event.events, EPOLLHUP);
}

TEST(epoll_nests) {
    int ends[2];
    make_pipe(ends, 0);
    int inner = epoll_with(ends[0], EPOLLIN);
    int outer = epoll_with(inner, EPOLLIN);
    struct epoll_event event;
    CHECK_EQ(epoll_wait(outer, &event, 1, 0), 0);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(epoll_wait(outer, &event, 1, -1), 1);
    CHECK_EQ(event.data.fd, inner);
    struct epoll_event again = {EPOLLIN, {.fd = 0}};
    CHECK_ERR(epoll_ctl(inner, EPOLL_CTL_ADD, outer, &again), ELOOP);
}

TEST(epoll_forgets_a_closed_descriptor) {
    int ends[2];
    make_pipe(ends, 0);
    int epoll = epoll_with(ends[0], EPOLLIN);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_OK(close(ends[0]));
    struct epoll_event event;
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
}

TEST(epoll_keeps_reporting_while_a_duplicate_is_open) {
    int ends[2];
    make_pipe(ends, 0);
    int epoll = epoll_with(ends[0], EPOLLIN);
    CHECK_OK(dup(ends[0]));
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_OK(close(ends[0]));
    struct epoll_event event;
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 1);
}

static void *write_later(void *argument) {
    sleep_ms(20);
    return (void *)(long)write(*(int *)argument, "x", 1);
}

TEST(epoll_wait_wakes_for_a_thread) {
    int ends[2];
    make_pipe(ends, 0);
    int epoll = epoll_with(ends[0], EPOLLIN);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, write_later, &ends[1]), 0);
    struct epoll_event event;
    CHECK_EQ(epoll_wait(epoll, &event, 1, -1), 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(epoll_reports_many_descriptors_in_turn) {
    int epoll = CHECK_OK(epoll_create1(0)), fds[50];
    for (int at = 0; at < 50; at++) {
        fds[at] = CHECK_OK(eventfd(1, 0));
        struct epoll_event event = {EPOLLIN, {.u32 = (uint32_t)at}};
        CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[at], &event));
    }
    bool seen[50] = {false};
    struct epoll_event events[10];
    for (int round = 0; round < 5; round++) {
        CHECK_EQ(epoll_wait(epoll, events, 10, 0), 10);
        for (int at = 0; at < 10; at++)
            seen[events[at].data.u32] = true;
    }
    for (int at = 0; at < 50; at++)
        CHECK(seen[at]);
}

TEST(epoll_pwait_applies_its_mask) {
    catch_signal(SIGUSR1, hit, 0);
    block_signal(SIGUSR1);
    raise(SIGUSR1);
    sigset_t none;
    sigemptyset(&none);
    struct epoll_event event;
    CHECK_ERR(epoll_pwait((int)CHECK_OK(epoll_create1(0)), &event, 1, 10000, &none), EINTR);
    CHECK_EQ(hits, 1);
}

TEST(pipe_read_returns_what_is_there_and_zero_at_the_end) {
    int ends[2];
    char bytes[16];
    make_pipe(ends, 0);
    CHECK_EQ(write(ends[1], "hello", 5), 5);
    CHECK_EQ(read(ends[0], bytes, 3), 3);
    CHECK_EQ(read(ends[0], bytes, 16), 2);
    CHECK_OK(close(ends[1]));
    CHECK_EQ(read(ends[0], bytes, 16), 0);
}

TEST(pipe_nonblock_is_eagain_when_empty_and_when_full) {
    int ends[2];
    static char block[4096];
    make_pipe(ends, O_NONBLOCK);
    CHECK_ERR(read(ends[0], block, 1), EAGAIN);
    long total = 0;
    ssize_t done;
    while ((done = write(ends[1], block, sizeof block)) > 0)
        total += done;
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(total, fcntl(ends[0], F_GETPIPE_SZ));
    CHECK_ERR(write(ends[1], block, 1), EAGAIN);
    CHECK_EQ(read(ends[0], block, sizeof block), (ssize_t)sizeof block);
    CHECK_EQ(write(ends[1], block, sizeof block), (ssize_t)sizeof block);
}

TEST(pipe_write_of_more_than_fits_blocks_until_read) {
    int ends[2];
    static char block[300000], got[300000];
    make_pipe(ends, 0);
    for (size_t at = 0; at < sizeof block; at++)
        block[at] = (char)(at / 97);
    pid_t pid = IN_CHILD(CHECK_EQ(write(ends[1], block, sizeof block), (ssize_t)sizeof block));
    CHECK_OK(close(ends[1]));
    size_t done = 0;
    while (done < sizeof got)
        done += CHECK_OK(read(ends[0], got + done, sizeof got - done));
    CHECK(memcmp(block, got, sizeof got) == 0);
    CHECK_EXITS(pid, 0);
}

TEST(pipe_writes_up_to_pipe_buf_are_atomic) {
    int ends[2];
    make_pipe(ends, 0);
    pid_t pids[4];
    for (int child = 0; child < 4; child++)
        pids[child] = IN_CHILD({
            char block[PIPE_BUF];
            memset(block, 'a' + child, sizeof block);
            for (int round = 0; round < 50; round++)
                CHECK_EQ(write(ends[1], block, sizeof block), PIPE_BUF);
        });
    CHECK_OK(close(ends[1]));
    for (int round = 0; round < 200; round++) {
        char block[PIPE_BUF];
        for (size_t done = 0; done < sizeof block;)
            done += CHECK_OK(read(ends[0], block + done, sizeof block - done));
        for (int at = 1; at < PIPE_BUF; at++)
            CHECK(block[at] == block[0]);
    }
    for (int child = 0; child < 4; child++)
        CHECK_EXITS(pids[child], 0);
}

TEST(pipe_size_can_be_changed) {
    int ends[2];
    make_pipe(ends, 0);
    CHECK_EQ(fcntl(ends[0], F_GETPIPE_SZ), 65536);
    CHECK_EQ(fcntl(ends[1], F_SETPIPE_SZ, 5000), 8192);
    CHECK_EQ(fcntl(ends[0], F_GETPIPE_SZ), 8192);
    static char block[8192];
    CHECK_EQ(write(ends[1], block, 8192), 8192);
    CHECK_ERR(fcntl(ends[1], F_SETPIPE_SZ, 4096), EBUSY);
}

TEST(pipe_of_a_bad_pointer_or_flag_is_refused) {
    int ends[2];
    CHECK_ERR(syscall(SYS_pipe2, 8, 0), EFAULT);
    CHECK_ERR(pipe2(ends, 0x7), EINVAL);
    make_pipe(ends, 0);
    CHECK_ERR(read(ends[1], ends, 1), EBADF);
    CHECK_ERR(write(ends[0], ends, 1), EBADF);
    CHECK_ERR(lseek(ends[0], 0, SEEK_SET), ESPIPE);
    CHECK_ERR(pread(ends[0], ends, 1, 0), ESPIPE);
}

TEST(fionread_counts_bytes_in_a_pipe) {
    int ends[2], count = -1;
    make_pipe(ends, 0);
    CHECK_EQ(write(ends[1], "12345", 5), 5);
    CHECK_OK(ioctl(ends[0], FIONREAD, &count));
    CHECK_EQ(count, 5);
}

TEST(packet_pipe_keeps_boundaries) {
    int ends[2];
    char bytes[16];
    make_pipe(ends, O_DIRECT);
    CHECK_EQ(write(ends[1], "one", 3), 3);
    CHECK_EQ(write(ends[1], "three", 5), 5);
    CHECK_EQ(read(ends[0], bytes, 16), 3);
    CHECK_EQ(read(ends[0], bytes, 2), 2);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(read(ends[0], bytes, 16), 1);
}

TEST(splice_moves_between_file_and_pipe) {
    int ends[2];
    char bytes[16] = "";
    make_pipe(ends, 0);
    make_file("f", "0123456789");
    int from = CHECK_OK(open("f", O_RDONLY)), to = CHECK_OK(open("g", O_CREAT | O_RDWR, 0644));
    loff_t offset = 2;
    CHECK_EQ(splice(from, &offset, ends[1], NULL, 5, 0), 5);
    CHECK_EQ(offset, 7);
    CHECK_EQ(splice(ends[0], NULL, to, NULL, 5, 0), 5);
    CHECK_EQ(pread(to, bytes, 16, 0), 5);
    CHECK_STR(bytes, "23456");
    CHECK_ERR(splice(from, NULL, to, NULL, 5, 0), EINVAL);
}

TEST(tee_copies_without_consuming) {
    int first[2], second[2];
    char bytes[16] = "";
    make_pipe(first, 0);
    make_pipe(second, 0);
    CHECK_EQ(write(first[1], "tee", 3), 3);
    CHECK_EQ(tee(first[0], second[1], 10, 0), 3);
    CHECK_EQ(read(first[0], bytes, 16), 3);
    CHECK_EQ(read(second[0], bytes, 16), 3);
    CHECK_STR(bytes, "tee");
}

TEST(vmsplice_fills_a_pipe_from_memory) {
    int ends[2];
    char bytes[16] = "";
    make_pipe(ends, 0);
    struct iovec vector = {"spliced", 7};
    CHECK_EQ(vmsplice(ends[1], &vector, 1, 0), 7);
    CHECK_EQ(read(ends[0], bytes, 16), 7);
    CHECK_STR(bytes, "spliced");
}

// The next event of an inotify descriptor; its name is copied.
static uint32_t next_event(int fd, char *name) {
    static char buffer[4096] __attribute__((aligned(8)));
    static ssize_t length, at;
    if (at == length) {
        length = CHECK_OK(read(fd, buffer, sizeof buffer));
        at = 0;
    }
    struct inotify_event *event = (struct inotify_event *)(buffer + at);
    at += (ssize_t)sizeof *event + event->len;
    strcpy(name, event->len ? event->name : "");
    return event->mask;
}

TEST(inotify_reports_create_write_rename_and_delete) {
    int fd = CHECK_OK(inotify_init1(IN_NONBLOCK));
    char name[NAME_MAX + 1];
    CHECK_ERR(read(fd, name, sizeof name), EAGAIN);
    CHECK_OK(inotify_add_watch(fd, ".", IN_CREATE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE));
    make_file("f", "x");
    CHECK_OK(rename("f", "g"));
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(unlink("g"));
    CHECK_EQ(next_event(fd, name), IN_CREATE);
    CHECK_STR(name, "f");
    CHECK_EQ(next_event(fd, name), IN_MODIFY);
    CHECK_EQ(next_event(fd, name), IN_MOVED_FROM);
    CHECK_EQ(next_event(fd, name), IN_MOVED_TO);
    CHECK_STR(name, "g");
    CHECK_EQ(next_event(fd, name), IN_CREATE | IN_ISDIR);
    CHECK_EQ(next_event(fd, name), IN_DELETE);
    CHECK_STR(name, "g");
}

TEST(inotify_watch_ends_with_its_file) {
    int fd = CHECK_OK(inotify_init1(IN_NONBLOCK));
    char name[NAME_MAX + 1];
    make_file("f", "x");
    int watch = CHECK_OK(inotify_add_watch(fd, "f", IN_DELETE_SELF));
    CHECK_OK(unlink("f"));
    CHECK_EQ(next_event(fd, name), IN_DELETE_SELF);
    CHECK_EQ(next_event(fd, name), IN_IGNORED);
    CHECK_ERR(inotify_rm_watch(fd, watch), EINVAL);
    CHECK_ERR(inotify_add_watch(fd, "none", IN_CREATE), ENOENT);
}
