// Is epoll_ctl made when it has answered? Each behaviour first calls it often from one place, so that whatever makes it
// cheap there is at work (with us: calls put off until the next one that comes to the kernel, decision 0012).
#include "../harness.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define WARM 100

// The one place.
static __attribute__((noinline)) int control(int epoll, int operation, int fd, struct epoll_event *event) {
    return epoll_ctl(epoll, operation, fd, event);
}

static int set(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {events, {.u64 = data}};
    int result = control(epoll, operation, fd, &event);
    event.events = 0; // it has been read
    event.data.u64 = 77;
    __asm__ volatile("" : : "m"(event));
    return result;
}

static void warm(int epoll, int fd) {
    for (int round = 0; round < WARM; round++)
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, fd, EPOLLIN, 1));
}

// A new instance that watches `fd`, called often.
static int warmed(int fd) {
    int epoll = CHECK_OK(epoll_create1(0));
    CHECK_OK(set(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
    warm(epoll, fd);
    return epoll;
}

static int ready_file(void) { return CHECK_OK(eventfd(1, EFD_NONBLOCK)); }

static unsigned random_number(void) {
    static unsigned state = 12345;
    state = state * 1103515245u + 12345u;
    return state >> 16;
}

enum { FILES = 6 };

// What epoll_wait must say of always-writable, never-readable files.
static void compare(int epoll, const bool *is_there, const uint32_t *events, const uint64_t *data) {
    struct epoll_event found[FILES + 1];
    bool is_seen[FILES] = {false};
    int count = CHECK_OK(epoll_wait(epoll, found, FILES + 1, 0));
    for (int n = 0; n < count; n++) {
        int which = found[n].data.u64 & 7;
        CHECK(which < FILES && !is_seen[which]);
        is_seen[which] = true;
        CHECK_EQ(found[n].data.u64, data[which]);
        CHECK_EQ(found[n].events, EPOLLOUT);
    }
    for (int which = 0; which < FILES; which++)
        CHECK_EQ(is_seen[which], is_there[which] && (events[which] & EPOLLOUT) != 0);
}

TEST(epoll_ctl_many_answers_and_what_they_come_to) {
    int files[FILES], pair[2];
    for (int n = 0; n < FILES; n += 2) {
        if (n == 0)
            local_tcp_pair(pair);
        else
            CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        files[n] = pair[0], files[n + 1] = pair[1];
    }
    int epoll = CHECK_OK(epoll_create1(0));
    bool is_there[FILES] = {false};
    uint32_t events[FILES] = {0};
    uint64_t data[FILES] = {0};
    for (int round = 0; round < 20000; round++) {
        int which = random_number() % FILES, operation = 1 + random_number() % 3;
        uint32_t wanted = random_number() % 2 ? EPOLLOUT : EPOLLIN;
        uint64_t word = (uint64_t)which | (uint64_t)round << 3 | 1ull << 60;
        bool ends_well = is_there[which] == (operation != EPOLL_CTL_ADD);
        errno = 0;
        int result = set(epoll, operation, files[which], wanted, word);
        if (!ends_well) {
            CHECK_EQ(result, -1);
            CHECK_EQ(errno, operation == EPOLL_CTL_ADD ? EEXIST : ENOENT);
        } else {
            CHECK_EQ(result, 0);
            is_there[which] = operation != EPOLL_CTL_DEL;
            events[which] = wanted, data[which] = word;
        }
        if (random_number() % 8 == 0)
            compare(epoll, is_there, events, data);
    }
}

TEST(epoll_ctl_refusals_are_those_of_a_call_that_is_made) {
    int file = ready_file(), epoll = warmed(file);
    make_file("plain", "x");
    int plain = CHECK_OK(open("plain", O_RDONLY)), other = CHECK_OK(epoll_create1(0));
    for (int round = 0; round < 50; round++) {
        CHECK_ERR(set(epoll, EPOLL_CTL_ADD, file, EPOLLIN, 2), EEXIST);
        CHECK_ERR(set(epoll, EPOLL_CTL_MOD, 900, EPOLLIN, 2), EBADF);
        CHECK_ERR(set(epoll, EPOLL_CTL_DEL, -1, EPOLLIN, 2), EBADF);
        CHECK_ERR(set(epoll, EPOLL_CTL_MOD, 5000, EPOLLIN, 2), EBADF);
        CHECK_ERR(set(901, EPOLL_CTL_MOD, file, EPOLLIN, 2), EBADF);
        CHECK_ERR(set(epoll, EPOLL_CTL_ADD, plain, EPOLLIN, 2), EPERM);
        CHECK_ERR(set(epoll, EPOLL_CTL_ADD, epoll, EPOLLIN, 2), EINVAL);
        CHECK_ERR(set(file, EPOLL_CTL_ADD, epoll, EPOLLIN, 2), EINVAL);
        CHECK_ERR(set(epoll, 0, file, EPOLLIN, 2), EINVAL);
        CHECK_ERR(set(epoll, 4, file, EPOLLIN, 2), EINVAL);
        CHECK_ERR(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN | EPOLLEXCLUSIVE, 2), EINVAL);
        CHECK_ERR(set(other, EPOLL_CTL_MOD, file, EPOLLIN, 2), ENOENT);
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, 3));
        CHECK_OK(set(epoll, EPOLL_CTL_DEL, file, EPOLLIN, 3));
        CHECK_ERR(set(epoll, EPOLL_CTL_DEL, file, EPOLLIN, 3), ENOENT);
        CHECK_ERR(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, 3), ENOENT);
        CHECK_OK(set(epoll, EPOLL_CTL_ADD, file, EPOLLIN, 4));
    }
    expect_event(epoll, EPOLLIN, 4);
    CHECK_OK(set(other, EPOLL_CTL_ADD, epoll, EPOLLIN, 5));
    CHECK_ERR(set(epoll, EPOLL_CTL_ADD, other, EPOLLIN, 5), ELOOP);
    expect_event(other, EPOLLIN, 5);
}

TEST(epoll_ctl_event_that_cannot_be_read_is_efault_and_changes_nothing) {
    int file = ready_file(), epoll = warmed(file);
    char *pages = mmap(NULL, 2 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    CHECK_OK(munmap(pages + GUEST_PAGE, GUEST_PAGE));
    char *end = pages + GUEST_PAGE;
    warm(epoll, file);
    for (int short_by = 1; short_by <= 12; short_by++) {
        CHECK_ERR(control(epoll, EPOLL_CTL_MOD, file, (struct epoll_event *)(end - 12 + short_by)), EFAULT);
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, 1));
    }
    CHECK_ERR(control(epoll, EPOLL_CTL_MOD, file, NULL), EFAULT);
    CHECK_ERR(control(epoll, EPOLL_CTL_MOD, file, (struct epoll_event *)0x7fffffffffffff00ul), EFAULT);
    expect_event(epoll, EPOLLIN, 1);
    struct epoll_event event = {EPOLLIN, {.u64 = 0x123456789abcdef0}};
    memcpy(end - 12, &event, 12);
    CHECK_OK(control(epoll, EPOLL_CTL_MOD, file, (struct epoll_event *)(end - 12)));
    expect_event(epoll, EPOLLIN, 0x123456789abcdef0);
    CHECK_OK(control(epoll, EPOLL_CTL_DEL, file, NULL));
    expect_no_event(epoll);
}

static void rearm(int epoll, int file) {
    for (int round = 0; round < 3; round++) {
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN | EPOLLONESHOT, 2));
        expect_event(epoll, EPOLLIN, 2);
        expect_no_event(epoll);
        CHECK_OK(set(epoll, EPOLL_CTL_DEL, file, 0, 0));
        CHECK_OK(set(epoll, EPOLL_CTL_ADD, file, EPOLLIN | EPOLLONESHOT, 3));
        expect_event(epoll, EPOLLIN, 3);
        expect_no_event(epoll);
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN | EPOLLET, 4));
        expect_event(epoll, EPOLLIN, 4);
        expect_no_event(epoll);
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN | EPOLLET, 5));
        expect_event(epoll, EPOLLIN, 5);
        CHECK_OK(set(epoll, EPOLL_CTL_DEL, file, 0, 0));
        CHECK_OK(set(epoll, EPOLL_CTL_ADD, file, EPOLLIN | EPOLLET, 6));
        expect_event(epoll, EPOLLIN, 6);
        expect_no_event(epoll);
        CHECK_OK(set(epoll, EPOLL_CTL_DEL, file, 0, 0));
        CHECK_OK(set(epoll, EPOLL_CTL_ADD, file, EPOLLIN, 7));
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, 0, 8));
        expect_no_event(epoll);
    }
}

TEST(epoll_ctl_rearms_oneshot_and_edge) {
    int file = ready_file();
    rearm(warmed(file), file);
    int pair[2];
    local_tcp_pair(pair);
    CHECK_EQ(write(pair[1], "x", 1), 1);
    rearm(warmed(pair[0]), pair[0]);
}

TEST(epoll_ctl_then_close_and_a_new_file_at_the_number) {
    int file = ready_file(), epoll = warmed(file);
    for (int round = 0; round < 3; round++) {
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, 2));
        CHECK_OK(close(file));
        expect_no_event(epoll);
        CHECK_ERR(set(epoll, EPOLL_CTL_DEL, file, 0, 0), EBADF);
        CHECK_EQ(ready_file(), file);
        CHECK_ERR(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, 3), ENOENT);
        CHECK_OK(set(epoll, EPOLL_CTL_ADD, file, EPOLLIN, 4));
        warm(epoll, file);
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, 5));
        int other = ready_file();
        CHECK_EQ(dup2(other, file), file);
        CHECK_OK(close(other));
        CHECK_ERR(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, 6), ENOENT);
        expect_no_event(epoll);
        CHECK_OK(set(epoll, EPOLL_CTL_ADD, file, EPOLLIN, 7));
        warm(epoll, file);
    }
    // The instance itself.
    CHECK_OK(close(epoll));
    CHECK_ERR(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, 8), EBADF);
    CHECK_EQ(epoll_create1(0), epoll);
    CHECK_ERR(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, 8), ENOENT);
    CHECK_OK(set(epoll, EPOLL_CTL_ADD, file, EPOLLIN, 9));
    expect_event(epoll, EPOLLIN, 9);
}

// For what must be seen without another call: these two make none.
struct shared {
    atomic_int begun, done;
    int fd;
};

static struct shared *share(void) {
    void *page = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    return page;
}

static void spin_until(atomic_int *word) {
    for (long rounds = 0; atomic_load(word) == 0; rounds++) {
        if (rounds > 20000000000)
            guest_fail(__FILE__, __LINE__, "it never came");
        __builtin_ia32_pause();
    }
}

static void wait_for(struct shared *shared, int epoll, uint64_t data) {
    atomic_store(&shared->begun, 1);
    expect_event(epoll, EPOLLIN, data);
    atomic_store(&shared->done, 1);
}

// Makes the file heard of, and sees that who waits hears it with no further call of ours.
static void tell(struct shared *shared, int epoll, int file, uint64_t data) {
    spin_until(&shared->begun);
    CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, data));
    spin_until(&shared->done);
}

TEST(epoll_ctl_is_seen_by_a_child_that_waits) {
    struct shared *shared = share();
    int file = ready_file(), epoll = warmed(file);
    CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, 0, 2));
    pid_t child = IN_CHILD(wait_for(shared, epoll, 3));
    tell(shared, epoll, file, 3);
    CHECK_EXITS(child, 0);
    // With the child gone it is ours alone again.
    warm(epoll, file);
    expect_event(epoll, EPOLLIN, 1);
    CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, 4));
    CHECK_EXITS(IN_CHILD(expect_event(epoll, EPOLLIN, 4)), 0);
}

struct waiter {
    struct shared *shared;
    int epoll;
};

static void *wait_in_thread(void *argument) {
    struct waiter *waiter = argument;
    wait_for(waiter->shared, waiter->epoll, 3);
    return NULL;
}

TEST(epoll_ctl_is_seen_by_a_thread_that_waits) {
    int file = ready_file(), epoll = warmed(file);
    for (int round = 0; round < 5; round++) {
        struct waiter waiter = {share(), epoll};
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, 0, 2));
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, wait_in_thread, &waiter), 0);
        tell(waiter.shared, epoll, file, 3);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        warm(epoll, file);
    }
}

TEST(epoll_ctl_is_seen_through_an_instance_that_watches) {
    struct shared *shared = share();
    int outer = CHECK_OK(epoll_create1(0)), file = ready_file();
    pid_t child = IN_CHILD(wait_for(shared, outer, 9));
    int inner = warmed(file);
    CHECK_OK(set(inner, EPOLL_CTL_MOD, file, 0, 2));
    struct epoll_event event = {EPOLLIN, {.u64 = 9}};
    CHECK_OK(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event));
    sleep_ms(20);
    tell(shared, inner, file, 3);
    CHECK_EXITS(child, 0);
}

static void send_fd(int socket, int fd) {
    char byte = 0;
    struct iovec piece = {&byte, 1};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control_data = {0};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    message.msg_control = &control_data, message.msg_controllen = sizeof control_data;
    control_data.head = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control_data.head), &fd, sizeof fd);
    CHECK_EQ(sendmsg(socket, &message, 0), 1);
}

static int receive_fd(int socket) {
    char byte;
    struct iovec piece = {&byte, 1};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control_data;
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    message.msg_control = &control_data, message.msg_controllen = sizeof control_data;
    CHECK_EQ(recvmsg(socket, &message, 0), 1);
    int fd;
    memcpy(&fd, CMSG_DATA(&control_data.head), sizeof fd);
    return fd;
}

TEST(epoll_ctl_is_seen_by_who_was_sent_the_instance) {
    struct shared *shared = share();
    int sockets[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
    pid_t child = IN_CHILD(wait_for(shared, receive_fd(sockets[1]), 3));
    int file = ready_file(), epoll = warmed(file);
    CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, 0, 2));
    send_fd(sockets[0], epoll);
    tell(shared, epoll, file, 3);
    CHECK_EXITS(child, 0);
}

TEST(epoll_ctl_is_seen_by_who_took_the_instance) {
    struct shared *shared = share();
    pid_t parent = getpid();
    struct gate gate;
    gate_init(&gate);
    pid_t child = IN_CHILD({
        gate_wait(&gate);
        int parent_fd = CHECK_OK(syscall(SYS_pidfd_open, parent, 0));
        int epoll = CHECK_OK(syscall(SYS_pidfd_getfd, parent_fd, shared->fd, 0));
        wait_for(shared, epoll, 3);
    });
    int file = ready_file(), epoll = warmed(file);
    CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, 0, 2));
    shared->fd = epoll;
    gate_open(&gate);
    for (int round = 0; round < 5; round++)
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, 0, 2));
    tell(shared, epoll, file, 3);
    CHECK_EXITS(child, 0);
}

TEST(epoll_ctl_lasts_over_exec) {
    int file = ready_file(), epoll = warmed(file);
    pid_t child = IN_CHILD({
        warm(epoll, file);
        char text[40];
        snprintf(text, sizeof text, "%d", epoll);
        CHECK_OK(set(epoll, EPOLL_CTL_MOD, file, EPOLLIN, 41));
        execl(self_path(), self_path(), "--helper", "epoll_after_exec", text, NULL);
        _exit(9);
    });
    CHECK_EXITS(child, 0);
}

HELPER(epoll_after_exec) {
    int epoll = atoi(argv[0]);
    expect_event(epoll, EPOLLIN, 41);
    CHECK_ERR(set(epoll, EPOLL_CTL_ADD, epoll, EPOLLIN, 1), EINVAL);
    return argc == 1 ? 0 : 1;
}

static int the_epoll, their_file;
static volatile sig_atomic_t ticks;

static void tick(int number) {
    (void)number;
    int saved = errno;
    if (set(the_epoll, EPOLL_CTL_MOD, their_file, EPOLLIN, 5) != 0 ||
        set(the_epoll, EPOLL_CTL_DEL, their_file, 0, 0) != 0 ||
        set(the_epoll, EPOLL_CTL_ADD, their_file, EPOLLIN, 6) != 0)
        _exit(7);
    ticks = ticks + 1;
    errno = saved;
}

TEST(epoll_ctl_interrupted_anywhere_happens_once) {
    int file = ready_file();
    their_file = ready_file();
    the_epoll = warmed(file);
    CHECK_OK(set(the_epoll, EPOLL_CTL_ADD, their_file, EPOLLIN, 6));
    catch_signal(SIGALRM, tick, 0);
    struct itimerval often = {{0, 1000}, {0, 1000}};
    CHECK_OK(setitimer(ITIMER_REAL, &often, NULL));
    for (long round = 0; round < 1000 || ticks < 300; round++) {
        CHECK_OK(set(the_epoll, EPOLL_CTL_DEL, file, 0, 0));
        CHECK_OK(set(the_epoll, EPOLL_CTL_ADD, file, EPOLLIN, 7));
        CHECK_OK(set(the_epoll, EPOLL_CTL_MOD, file, EPOLLIN, 8));
    }
    struct itimerval never = {{0, 0}, {0, 0}};
    CHECK_OK(setitimer(ITIMER_REAL, &never, NULL));
    struct epoll_event found[3];
    CHECK_EQ(epoll_wait(the_epoll, found, 3, 0), 2);
    CHECK_EQ(found[0].data.u64 + found[1].data.u64, 14);
}
