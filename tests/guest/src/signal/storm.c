// Signals that come while a thread waits: which calls go on, and which end? Every kind of wait, with a handler that has SA_RESTART, with one that
// has not, and with a stop that has no handler at all. signal(7) has the rules; the table below is Linux's answer, proven on the host.
#include "../harness.h"
#include <arpa/inet.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

// What the two processes share.
struct shared {
    atomic_uint word, waiting, handled;
    sem_t posted;
    pthread_mutex_t lock;
};
static struct shared *shared;
static int pipe_ends[2], full[2], unix_ends[2], packets[2], streams[2], listener, datagrams, events, timer, epoll;
static int semaphore, messages, lock_file, range_file, open_range_file, watched;
static mqd_t queue;
static char block[65536];
static pid_t kid;
static const char wait_name[] = "fifo-in", write_name[] = "fifo-out";

static void on_signal(int number) {
    (void)number;
    atomic_fetch_add(&shared->handled, 1);
}

static long futex(int op, unsigned value, const struct timespec *limit) {
    long result = syscall(SYS_futex, &shared->word, op, value, limit, NULL, FUTEX_BITSET_MATCH_ANY);
    // Made again just after the word has changed, a wait finds what it waits for.
    return result == -1 && errno == EAGAIN && atomic_load(&shared->word) != value ? 0 : result;
}

// The waits: 0 if what was waited for came, else -1 and errno. They wait once; what they wait for is not there until released.
static long waits_read(void) { return read(pipe_ends[0], block, 1) == 1 ? 0 : -1; }
static void frees_read(void) { CHECK_EQ(write(pipe_ends[1], "x", 1), 1); }
static long waits_readv(void) {
    struct iovec piece = {block, 1};
    return readv(pipe_ends[0], &piece, 1) == 1 ? 0 : -1;
}
static long waits_write(void) { return write(full[1], block, 4096) == 4096 ? 0 : -1; }
static void frees_write(void) { CHECK_OK(read(full[0], block, sizeof block)); }
static long waits_recv(void) { return recv(unix_ends[0], block, 1, 0) == 1 ? 0 : -1; }
static void frees_recv(void) { CHECK_EQ(send(unix_ends[1], "x", 1, 0), 1); }
static long waits_recvmsg(void) {
    struct iovec piece = {block, 8};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    return recvmsg(packets[0], &message, 0) == 3 ? 0 : -1;
}
static void frees_recvmsg(void) { CHECK_EQ(send(packets[1], "abc", 3, 0), 3); }
static long waits_tcp(void) { return recv(streams[0], block, 1, 0) == 1 ? 0 : -1; }
static void frees_tcp(void) { CHECK_EQ(send(streams[1], "x", 1, 0), 1); }
static long waits_udp(void) { return recv(datagrams, block, 8, 0) == 2 ? 0 : -1; }
static void frees_udp(void) {
    struct sockaddr_in place;
    socklen_t len = sizeof place;
    CHECK_OK(getsockname(datagrams, (struct sockaddr *)&place, &len));
    CHECK_EQ(sendto(datagrams, "xy", 2, 0, (struct sockaddr *)&place, len), 2);
}
static long waits_recv_limited(void) {
    struct timeval limit = {100, 0};
    CHECK_OK(setsockopt(unix_ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    return waits_recv();
}
static long waits_accept(void) { return accept(listener, NULL, NULL) >= 0 ? 0 : -1; }
static void frees_accept(void) {
    struct sockaddr_in place;
    socklen_t len = sizeof place;
    CHECK_OK(getsockname(listener, (struct sockaddr *)&place, &len));
    CHECK_OK(connect(CHECK_OK(socket(AF_INET, SOCK_STREAM, 0)), (struct sockaddr *)&place, len));
}
// A child of its own, which lasts until it is released.
static long waits_waitpid(void) { return waitpid(kid, NULL, 0) == kid ? 0 : -1; }
static long waits_waitid(void) { return waitid(P_PID, (id_t)kid, NULL, WEXITED); }
static void frees_child(void) { CHECK_EQ(write(pipe_ends[1], "x", 1), 1); }
static long waits_futex(void) { return futex(FUTEX_WAIT, 0, NULL); }
static long waits_futex_bitset(void) { return futex(FUTEX_WAIT_BITSET, 0, NULL); }
static void frees_futex(void) {
    atomic_store(&shared->word, 1);
    CHECK_OK(futex(FUTEX_WAKE, INT_MAX, NULL));
}
static long waits_futex_long(void) { return futex(FUTEX_WAIT, 0, &(struct timespec){100, 0}); }
static long waits_futex_until(void) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += 100;
    return futex(FUTEX_WAIT_BITSET, 0, &end);
}
static long waits_futex_until_date(void) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 100;
    return futex(FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &end);
}
static long waits_sem(void) { return sem_wait(&shared->posted); }
static long waits_sem_limited(void) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 100;
    return sem_timedwait(&shared->posted, &end);
}
static void frees_sem(void) { CHECK_OK(sem_post(&shared->posted)); }
static long waits_mutex(void) {
    int wrong = pthread_mutex_lock(&shared->lock);
    errno = wrong;
    return wrong ? -1 : 0;
}
static void frees_mutex(void) { CHECK_EQ(pthread_mutex_unlock(&shared->lock), 0); }
static long waits_flock(void) { return flock(CHECK_OK(open("flock", O_RDWR)), LOCK_EX); }
static void frees_flock(void) { CHECK_OK(flock(lock_file, LOCK_UN)); }
static long waits_setlkw(void) {
    struct flock range = {.l_type = F_WRLCK};
    return fcntl(CHECK_OK(open("range", O_RDWR)), F_SETLKW, &range);
}
static void frees_setlkw(void) {
    struct flock range = {.l_type = F_UNLCK};
    CHECK_OK(fcntl(range_file, F_SETLK, &range));
}
static long waits_ofd_setlkw(void) {
    struct flock range = {.l_type = F_WRLCK};
    return fcntl(CHECK_OK(open("open-range", O_RDWR)), F_OFD_SETLKW, &range);
}
static void frees_ofd_setlkw(void) {
    struct flock range = {.l_type = F_UNLCK};
    CHECK_OK(fcntl(open_range_file, F_OFD_SETLK, &range));
}
static long waits_open_in(void) { return open(wait_name, O_RDONLY) >= 0 ? 0 : -1; }
static void frees_open_in(void) { CHECK_OK(open(wait_name, O_WRONLY)); }
static long waits_open_out(void) { return open(write_name, O_WRONLY) >= 0 ? 0 : -1; }
static void frees_open_out(void) { CHECK_OK(open(write_name, O_RDONLY | O_NONBLOCK)); }
static long waits_nanosleep(void) { return nanosleep(&(struct timespec){100, 0}, NULL); }
static long waits_clock_nanosleep(void) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += 100;
    errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
    return errno ? -1 : 0;
}
static long waits_poll(void) {
    struct pollfd one = {.fd = pipe_ends[0], .events = POLLIN};
    return poll(&one, 1, -1) == 1 ? 0 : -1;
}
static long waits_poll_limited(void) {
    struct pollfd one = {.fd = pipe_ends[0], .events = POLLIN};
    return poll(&one, 1, 100000) == 1 ? 0 : -1;
}
static long waits_ppoll(void) {
    struct pollfd one = {.fd = pipe_ends[0], .events = POLLIN};
    return ppoll(&one, 1, &(struct timespec){100, 0}, NULL) == 1 ? 0 : -1;
}
static long waits_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pipe_ends[0], &set);
    return select(pipe_ends[0] + 1, &set, NULL, NULL, &(struct timeval){100, 0}) == 1 ? 0 : -1;
}
static long waits_pselect(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pipe_ends[0], &set);
    return pselect(pipe_ends[0] + 1, &set, NULL, NULL, NULL, NULL) == 1 ? 0 : -1;
}
static long waits_epoll(void) {
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, -1) == 1 ? 0 : -1;
}
static long waits_pause(void) { return pause(); }
static long waits_sigsuspend(void) {
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
}
static long waits_sigtimedwait(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return sigtimedwait(&set, NULL, &(struct timespec){100, 0}) == SIGUSR2 ? 0 : -1;
}
static long waits_semop(void) { return semop(semaphore, &(struct sembuf){0, -1, 0}, 1); }
static void frees_semop(void) { CHECK_OK(semop(semaphore, &(struct sembuf){0, 1, 0}, 1)); }
struct letter {
    long kind;
    char text[8];
};
static long waits_msgrcv(void) {
    struct letter letter;
    return msgrcv(messages, &letter, sizeof letter.text, 0, 0) >= 0 ? 0 : -1;
}
static void frees_msgrcv(void) { CHECK_OK(msgsnd(messages, &(struct letter){1, "x"}, 1, 0)); }
static long waits_mq(void) { return mq_receive(queue, block, sizeof block, NULL) >= 0 ? 0 : -1; }
static void frees_mq(void) { CHECK_OK(mq_send(queue, "x", 1, 0)); }
static long waits_eventfd(void) { return read(events, block, 8) == 8 ? 0 : -1; }
static void frees_eventfd(void) { CHECK_EQ(write(events, &(uint64_t){1}, 8), 8); }
static long waits_timerfd(void) { return read(timer, block, 8) == 8 ? 0 : -1; }
static void frees_timerfd(void) {
    CHECK_OK(timerfd_settime(timer, 0, &(struct itimerspec){.it_value = {0, 1}}, NULL));
}
static long waits_inotify(void) { return read(watched, block, sizeof block) > 0 ? 0 : -1; }
static void frees_inotify(void) { CHECK_OK(close(CHECK_OK(open("seen", O_CREAT | O_WRONLY, 0600)))); }
static long waits_splice(void) { return splice(pipe_ends[0], NULL, full[1], NULL, 1, 0) == 1 ? 0 : -1; }
static void frees_splice(void) {
    frees_write();
    frees_read();
}
static long waits_tee(void) { return tee(pipe_ends[0], full[1], 1, 0) == 1 ? 0 : -1; }

// What the handler's flag decides, and what a stop without a handler comes to.
enum end { GOES_ON, ENDS };
static const struct wait {
    const char *name;
    long (*waits)(void);
    void (*frees)(void); // NULL: nothing does
    enum end with_restart, after_stop, without_restart;
} list[] = {
    {"read", waits_read, frees_read, GOES_ON, GOES_ON, ENDS},
    {"readv", waits_readv, frees_read, GOES_ON, GOES_ON, ENDS},
    {"write", waits_write, frees_write, GOES_ON, GOES_ON, ENDS},
    {"recv", waits_recv, frees_recv, GOES_ON, GOES_ON, ENDS},
    {"recv with a limit", waits_recv_limited, frees_recv, ENDS, ENDS, ENDS},
    {"recvmsg", waits_recvmsg, frees_recvmsg, GOES_ON, GOES_ON, ENDS},
    {"recv of tcp", waits_tcp, frees_tcp, GOES_ON, GOES_ON, ENDS},
    {"recv of udp", waits_udp, frees_udp, GOES_ON, GOES_ON, ENDS},
    {"accept", waits_accept, frees_accept, GOES_ON, GOES_ON, ENDS},
    {"waitpid", waits_waitpid, frees_child, GOES_ON, GOES_ON, ENDS},
    {"waitid", waits_waitid, frees_child, GOES_ON, GOES_ON, ENDS},
    {"FUTEX_WAIT", waits_futex, frees_futex, GOES_ON, GOES_ON, ENDS},
    {"FUTEX_WAIT_BITSET", waits_futex_bitset, frees_futex, GOES_ON, GOES_ON, ENDS},
    {"FUTEX_WAIT with a limit", waits_futex_long, frees_futex, ENDS, GOES_ON, ENDS},
    {"FUTEX_WAIT_BITSET with a limit", waits_futex_until, frees_futex, ENDS, GOES_ON, ENDS},
    {"FUTEX_WAIT_BITSET until a date", waits_futex_until_date, frees_futex, ENDS, GOES_ON, ENDS},
    {"sem_wait", waits_sem, frees_sem, GOES_ON, GOES_ON, ENDS},
    {"sem_timedwait", waits_sem_limited, frees_sem, ENDS, GOES_ON, ENDS},
    {"mutex", waits_mutex, frees_mutex, GOES_ON, GOES_ON, GOES_ON},
    {"flock", waits_flock, frees_flock, GOES_ON, GOES_ON, ENDS},
    {"F_SETLKW", waits_setlkw, frees_setlkw, GOES_ON, GOES_ON, ENDS},
    {"F_OFD_SETLKW", waits_ofd_setlkw, frees_ofd_setlkw, GOES_ON, GOES_ON, ENDS},
    {"open of a FIFO to read", waits_open_in, frees_open_in, GOES_ON, GOES_ON, ENDS},
    {"open of a FIFO to write", waits_open_out, frees_open_out, GOES_ON, GOES_ON, ENDS},
    {"nanosleep", waits_nanosleep, NULL, ENDS, GOES_ON, ENDS},
    {"clock_nanosleep", waits_clock_nanosleep, NULL, ENDS, GOES_ON, ENDS},
    {"poll", waits_poll, frees_read, ENDS, GOES_ON, ENDS},
    {"poll with a limit", waits_poll_limited, frees_read, ENDS, GOES_ON, ENDS},
    {"ppoll", waits_ppoll, frees_read, ENDS, GOES_ON, ENDS},
    {"select", waits_select, frees_read, ENDS, GOES_ON, ENDS},
    {"pselect", waits_pselect, frees_read, ENDS, GOES_ON, ENDS},
    {"epoll_wait", waits_epoll, frees_read, ENDS, ENDS, ENDS},
    {"pause", waits_pause, NULL, ENDS, GOES_ON, ENDS},
    {"sigsuspend", waits_sigsuspend, NULL, ENDS, GOES_ON, ENDS},
    {"sigtimedwait", waits_sigtimedwait, NULL, ENDS, ENDS, ENDS},
    {"semop", waits_semop, frees_semop, ENDS, ENDS, ENDS},
    {"msgrcv", waits_msgrcv, frees_msgrcv, ENDS, GOES_ON, ENDS},
    {"mq_receive", waits_mq, frees_mq, GOES_ON, GOES_ON, ENDS},
    {"read of an eventfd", waits_eventfd, frees_eventfd, GOES_ON, GOES_ON, ENDS},
    {"read of a timerfd", waits_timerfd, frees_timerfd, GOES_ON, GOES_ON, ENDS},
    {"read of an inotify", waits_inotify, frees_inotify, GOES_ON, GOES_ON, ENDS},
    {"splice", waits_splice, frees_splice, GOES_ON, GOES_ON, ENDS},
    {"tee", waits_tee, frees_splice, GOES_ON, GOES_ON, ENDS},
};
enum { WAITS = sizeof list / sizeof *list, SIGNALS = 60 };

static void make_streams(void) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof place;
    listener = (int)CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_OK(bind(listener, (struct sockaddr *)&place, len));
    CHECK_OK(listen(listener, 5));
    CHECK_OK(getsockname(listener, (struct sockaddr *)&place, &len));
    streams[0] = (int)CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_OK(connect(streams[0], (struct sockaddr *)&place, len));
    streams[1] = (int)CHECK_OK(accept(listener, NULL, NULL));
    datagrams = (int)CHECK_OK(socket(AF_INET, SOCK_DGRAM, 0));
    place.sin_port = 0;
    CHECK_OK(bind(datagrams, (struct sockaddr *)&place, len));
}

static void make_locks(void) {
    struct flock range = {.l_type = F_WRLCK};
    lock_file = (int)CHECK_OK(open("flock", O_RDWR | O_CREAT, 0600));
    CHECK_OK(flock(lock_file, LOCK_EX));
    range_file = (int)CHECK_OK(open("range", O_RDWR | O_CREAT, 0600));
    CHECK_OK(fcntl(range_file, F_SETLK, &range));
    open_range_file = (int)CHECK_OK(open("open-range", O_RDWR | O_CREAT, 0600));
    CHECK_OK(fcntl(open_range_file, F_OFD_SETLK, &range));
    unlink(wait_name);
    unlink(write_name);
    CHECK_OK(mkfifo(wait_name, 0600));
    CHECK_OK(mkfifo(write_name, 0600));
}

static void make_queues(void) {
    semaphore = (int)CHECK_OK(semget(IPC_PRIVATE, 1, 0600));
    messages = (int)CHECK_OK(msgget(IPC_PRIVATE, 0600));
    char name[32];
    snprintf(name, sizeof name, "/storm-%d", getpid());
    queue = mq_open(name, O_RDWR | O_CREAT, 0600, NULL);
    CHECK(queue != (mqd_t)-1);
    CHECK_OK(mq_unlink(name));
}

// All that is waited for, new for each wait: nothing is ready.
static void make_all(void) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    CHECK_OK(sem_init(&shared->posted, 1, 0));
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->lock, &kind);
    pthread_mutex_lock(&shared->lock);
    CHECK_OK(pipe(pipe_ends));
    CHECK_OK(pipe2(full, O_NONBLOCK));
    while (write(full[1], block, 4096) > 0)
        ;
    CHECK_OK(fcntl(full[1], F_SETFL, 0));
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, unix_ends));
    CHECK_OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
    make_streams();
    make_locks();
    make_queues();
    events = (int)CHECK_OK(eventfd(0, 0));
    timer = (int)CHECK_OK(timerfd_create(CLOCK_MONOTONIC, 0));
    epoll = (int)CHECK_OK(epoll_create1(0));
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_ends[0], &(struct epoll_event){.events = EPOLLIN}));
    watched = (int)CHECK_OK(inotify_init1(0));
    CHECK_OK(inotify_add_watch(watched, ".", IN_CREATE));
}

static void unmake_all(void) {
    semctl(semaphore, 0, IPC_RMID);
    msgctl(messages, IPC_RMID, NULL);
    unlink("seen");
    for (int fd = 3; fd < 64; fd++)
        close(fd);
    munmap(shared, sizeof *shared);
}

// The process that waits, and tells by its end how the wait came out: 0 or an errno.
static pid_t start_waiter(const struct wait *wait, int flags) {
    return IN_CHILD({
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
        CHECK_OK(sigaction(SIGUSR1, &action, NULL));
        if (wait->frees == frees_child) {
            // It must not outlive the waiter: it has all of its locks.
            kid = IN_CHILD(signal(SIGUSR1, SIG_IGN), prctl(PR_SET_PDEATHSIG, SIGKILL),
                           (void)!read(pipe_ends[0], block, 1));
        }
        atomic_store(&shared->waiting, 1);
        _exit(wait->waits() == 0 ? 0 : errno);
    });
}

static bool has_ended(pid_t pid) {
    siginfo_t info = {0};
    CHECK_OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT));
    return info.si_pid == pid;
}

// A wait that `ends` is disturbed until it has; another one often, and then released.
static void see_out(const struct wait *wait, pid_t pid, enum end end, void (*disturb)(pid_t), const char *what) {
    while (!atomic_load(&shared->waiting))
        sched_yield();
    usleep(2000);
    for (int at = 0; (end == ENDS || at < SIGNALS) && !has_ended(pid); at++) {
        disturb(pid);
        usleep(at < SIGNALS / 2 ? 300 : 3000);
    }
    if (end == GOES_ON && has_ended(pid)) {
        int status;
        waitpid(pid, &status, 0);
        guest_fail(__FILE__, __LINE__, "%s ended by %s: status %#x", wait->name, what, status);
    }
    int want = EINTR;
    if (end == GOES_ON && wait->frees) {
        wait->frees();
        want = 0;
    } else if (end == GOES_ON) {
        kill(pid, SIGUSR1);
    }
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != want)
        guest_fail(__FILE__, __LINE__, "%s after %s: status %#x, want %d", wait->name, what, status, want);
}

static void send_signal(pid_t pid) { kill(pid, SIGUSR1); }
static void stop_and_go(pid_t pid) {
    CHECK_OK(kill(pid, SIGSTOP));
    siginfo_t info;
    CHECK_OK(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WEXITED | WNOWAIT));
    kill(pid, SIGCONT);
}

static void each_wait(int first, int flags, bool has_handler) {
    for (int at = first; at < WAITS; at += 3) {
        const struct wait *wait = &list[at];
        make_all();
        pid_t pid = start_waiter(wait, flags);
        if (!has_handler)
            see_out(wait, pid, wait->after_stop, stop_and_go, "a stop");
        else if (flags & SA_RESTART)
            see_out(wait, pid, wait->with_restart, send_signal, "a handler with SA_RESTART");
        else
            see_out(wait, pid, wait->without_restart, send_signal, "a handler without SA_RESTART");
        unmake_all();
    }
}

TEST(waits_go_on_after_a_handler_with_sa_restart_1) { each_wait(0, SA_RESTART, true); }
TEST(waits_go_on_after_a_handler_with_sa_restart_2) { each_wait(1, SA_RESTART, true); }
TEST(waits_go_on_after_a_handler_with_sa_restart_3) { each_wait(2, SA_RESTART, true); }
TEST(waits_end_after_a_handler_without_sa_restart_1) { each_wait(0, 0, true); }
TEST(waits_end_after_a_handler_without_sa_restart_2) { each_wait(1, 0, true); }
TEST(waits_end_after_a_handler_without_sa_restart_3) { each_wait(2, 0, true); }
TEST(waits_go_on_after_a_stop_without_a_handler_1) { each_wait(0, 0, false); }
TEST(waits_go_on_after_a_stop_without_a_handler_2) { each_wait(1, 0, false); }
TEST(waits_go_on_after_a_stop_without_a_handler_3) { each_wait(2, 0, false); }

TEST(a_futex_wait_with_a_limit_comes_to_its_end_however_often_it_is_stopped) {
    // If each stop began it anew, it would never end.
    make_all();
    pid_t pid = IN_CHILD({
        atomic_store(&shared->waiting, 1);
        CHECK_ERR(futex(FUTEX_WAIT, 0, &(struct timespec){0, 400000000}), ETIMEDOUT);
    });
    while (!atomic_load(&shared->waiting))
        sched_yield();
    while (!has_ended(pid)) {
        stop_and_go(pid);
        usleep(20000);
    }
    CHECK_EXITS(pid, 0);
}

// Never waits, so never EINTR.
static atomic_bool is_over;
static atomic_uint second;
static void never(const char *name, long result) {
    if (result < 0)
        guest_fail(__FILE__, __LINE__, "%s: errno %d after %u signals", name, errno, atomic_load(&shared->handled));
}

static void *calls_that_do_not_wait(void *unused) {
    (void)unused;
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct epoll_event event = {.events = EPOLLIN};
    struct timespec now;
    struct stat stat_of;
    sigset_t none;
    sigemptyset(&none);
    int set = FUTEX_OP(FUTEX_OP_SET, 1, FUTEX_OP_CMP_EQ, 0);
    unsigned *word = (unsigned *)&shared->word, *other = (unsigned *)&second;
    while (!atomic_load(&is_over)) {
        never("FUTEX_WAKE", syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0));
        never("shared FUTEX_WAKE", syscall(SYS_futex, word, FUTEX_WAKE, 1, 0, 0, 0));
        never("FUTEX_WAKE_BITSET", syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, 1, 0, 0, -1));
        never("FUTEX_WAKE_OP", syscall(SYS_futex, word, FUTEX_WAKE_OP_PRIVATE, 1, 1, other, set));
        never("FUTEX_REQUEUE", syscall(SYS_futex, word, FUTEX_REQUEUE_PRIVATE, 1, 1, other, 0));
        never("FUTEX_CMP_REQUEUE", syscall(SYS_futex, word, FUTEX_CMP_REQUEUE_PRIVATE, 1, 1, other, 0));
        never("sched_yield", sched_yield());
        never("clock_gettime", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now));
        never("clock_gettime of the thread", syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &now));
        never("gettimeofday", syscall(SYS_gettimeofday, &now, 0));
        never("getppid", syscall(SYS_getppid));
        never("getcpu", syscall(SYS_getcpu, &set, 0, 0));
        set = FUTEX_OP(FUTEX_OP_SET, 1, FUTEX_OP_CMP_EQ, 0);
        never("rt_sigprocmask", sigprocmask(SIG_BLOCK, &none, NULL));
        never("write", write(pipe_ends[1], "x", 1));
        never("poll", syscall(SYS_poll, &(struct pollfd){.fd = pipe_ends[0], .events = POLLIN}, 1, -1) - 1);
        never("read", read(pipe_ends[0], block, 1));
        never("mprotect", mprotect(page, 4096, PROT_READ));
        never("mprotect", mprotect(page, 4096, PROT_READ | PROT_WRITE));
        never("madvise", madvise(page, 4096, MADV_DONTNEED));
        never("mremap", mremap(page, 8192, 8192, 0) == MAP_FAILED ? -1 : 0);
        void *more = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        never("mmap", more == MAP_FAILED ? -1 : 0);
        never("munmap", munmap(more, 4096));
        void *file = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, lock_file, 0);
        never("mmap of a file", file == MAP_FAILED ? -1 : 0);
        never("munmap", munmap(file, 4096));
        never("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_MOD, pipe_ends[0], &event));
        never("epoll_wait", epoll_wait(epoll, &event, 1, 0));
        never("stat", stat("/", &stat_of));
        void *nobody = NULL;
        never("set_robust_list", syscall(SYS_get_robust_list, 0, &nobody, &(size_t){0}));
    }
    return NULL;
}

TEST(calls_that_do_not_wait_are_never_interrupted) {
    make_all();
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
        CHECK_OK(sigaction(SIGUSR1, &action, NULL));
        pthread_t thread;
        atomic_store(&is_over, false);
        CHECK_EQ(pthread_create(&thread, NULL, calls_that_do_not_wait, NULL), 0);
        unsigned before = atomic_load(&shared->handled);
        while (atomic_load(&shared->handled) - before < 400) {
            pthread_kill(thread, SIGUSR1);
            for (volatile int at = 0; at < 3000; at++)
                ;
        }
        atomic_store(&is_over, true);
        pthread_join(thread, NULL);
    }
}
