// Do limits that a process sets on itself bite, with Linux's signal or errno? Processor time, waiting signals, message queues.
#include "../harness.h"
#include <mqueue.h>

static void limit(int resource, rlim_t soft, rlim_t hard) {
    struct rlimit limits = {soft, hard};
    CHECK_OK(setrlimit(resource, &limits));
}

static void become(unsigned uid) {
    CHECK_OK(syscall(SYS_setresgid, uid, uid, uid));
    CHECK_OK(syscall(SYS_setresuid, uid, uid, uid));
}

static void spin(void) {
    for (volatile long round = 0;; round++)
        ;
}

static void *spin_in_thread(void *argument) {
    spin();
    return argument;
}

static volatile sig_atomic_t warnings;
static void count_warning(int signal_number) {
    (void)signal_number;
    warnings++;
}

TEST(processor_time_beyond_the_soft_limit_ends_a_process) {
    pid_t child = IN_CHILD(limit(RLIMIT_CPU, 1, 5); spin());
    CHECK_KILLED(child, SIGXCPU);
}

TEST(all_threads_count_for_the_limit_of_processor_time) {
    pid_t child = IN_CHILD({
        limit(RLIMIT_CPU, 1, 5);
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, spin_in_thread, NULL), 0);
        pause();
    });
    CHECK_KILLED(child, SIGXCPU);
}

TEST(processor_time_beyond_the_hard_limit_ends_whoever_ignores_the_warning) {
    pid_t child = IN_CHILD(signal(SIGXCPU, SIG_IGN); limit(RLIMIT_CPU, 1, 2); spin());
    CHECK_KILLED(child, SIGKILL);
}

TEST(a_warning_of_processor_time_moves_the_limit_by_a_second) {
    pid_t child = IN_CHILD({
        catch_signal(SIGXCPU, count_warning, 0);
        limit(RLIMIT_CPU, 1, 20);
        while (warnings < 1)
            ;
        struct rlimit now;
        CHECK_OK(getrlimit(RLIMIT_CPU, &now));
        CHECK_EQ(now.rlim_cur, 2);
        CHECK_EQ(now.rlim_max, 20);
    });
    CHECK_EXITS(child, 0);
}

TEST(a_limit_of_processor_time_is_inherited_and_begins_anew) {
    pid_t child = IN_CHILD({
        limit(RLIMIT_CPU, 1, 5);
        pid_t grandchild = IN_CHILD(spin());
        CHECK_KILLED(grandchild, SIGXCPU);
    });
    CHECK_EXITS(child, 0);
}

TEST(no_processor_time_at_all_is_over_soon) {
    pid_t child = IN_CHILD({
        limit(RLIMIT_CPU, 0, 5);
        struct rlimit now;
        CHECK_OK(getrlimit(RLIMIT_CPU, &now));
        CHECK_EQ(now.rlim_cur, 0);
        spin();
    });
    CHECK_KILLED(child, SIGXCPU);
}

TEST(a_limit_of_processor_time_may_be_the_end_of_time) {
    struct rlimit now;
    limit(RLIMIT_CPU, RLIM_INFINITY - 1, RLIM_INFINITY);
    CHECK_OK(getrlimit(RLIMIT_CPU, &now));
    CHECK_EQ(now.rlim_cur, RLIM_INFINITY - 1);
    limit(RLIMIT_CPU, RLIM_INFINITY / 1000000000 + 1, RLIM_INFINITY - 1);
    CHECK_EXITS(IN_CHILD(be_busy(1000)), 0);
}

// How many of 100 signals with a value are taken for that process.
static int queue_signals(pid_t target) {
    int count = 0;
    while (count < 100 && sigqueue(target, SIGRTMIN, (union sigval){0}) == 0)
        count++;
    if (count < 100)
        CHECK_EQ(errno, EAGAIN);
    return count;
}

TEST(waiting_signals_are_limited_to_the_letter) {
    become(54324);
    block_signal(SIGRTMIN);
    limit(RLIMIT_SIGPENDING, 10, 10);
    CHECK_EQ(queue_signals(getpid()), 10);
    // What is taken makes room.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    CHECK_EQ(sigwaitinfo(&set, NULL), SIGRTMIN);
    CHECK_EQ(queue_signals(getpid()), 1);
}

TEST(waiting_signals_are_limited_for_a_user_not_for_a_process) {
    become(54325);
    block_signal(SIGRTMIN);
    limit(RLIMIT_SIGPENDING, 10, 10);
    struct gate ready, done;
    gate_init(&ready);
    gate_init(&done);
    pid_t child = IN_CHILD({
        CHECK_EQ(queue_signals(getpid()), 10);
        gate_open(&ready);
        gate_wait(&done);
    });
    gate_wait(&ready);
    CHECK_EQ(queue_signals(getpid()), 0);
    gate_open(&done);
    CHECK_EXITS(child, 0);
    CHECK_EQ(queue_signals(getpid()), 10);
}

TEST(a_plain_signal_comes_though_the_limit_is_reached) {
    become(54326);
    block_signal(SIGRTMIN);
    block_signal(SIGUSR1);
    limit(RLIMIT_SIGPENDING, 0, 0);
    CHECK_EQ(queue_signals(getpid()), 0);
    CHECK_OK(kill(getpid(), SIGUSR1));
    CHECK_OK(kill(getpid(), SIGRTMIN));
    sigset_t set;
    sigpending(&set);
    CHECK(sigismember(&set, SIGUSR1) && sigismember(&set, SIGRTMIN));
}

static mqd_t make_queue(int number, long messages) {
    char name[64];
    snprintf(name, sizeof name, "/limits.%d.%d", getpid(), number);
    struct mq_attr size = {.mq_maxmsg = messages, .mq_msgsize = 8192};
    mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &size);
    int why = errno;
    if (queue != (mqd_t)-1)
        mq_unlink(name);
    errno = why;
    return queue;
}

TEST(message_queues_are_limited_by_their_bytes) {
    become(54327);
    // LINUX: ten messages of 8192 bytes, and two structures of 48 bytes for each.
    limit(RLIMIT_MSGQUEUE, 2 * 10 * (8192 + 96), 2 * 10 * (8192 + 96));
    mqd_t first = make_queue(1, 10), second = make_queue(2, 10);
    CHECK(first != (mqd_t)-1 && second != (mqd_t)-1);
    CHECK_ERR(make_queue(3, 1), EMFILE);
    // A name is not a queue: it is counted until its last descriptor goes.
    CHECK_OK(mq_close(first));
    CHECK(make_queue(4, 10) != (mqd_t)-1);
}

TEST(a_small_limit_leaves_no_message_queue) {
    become(54328);
    limit(RLIMIT_MSGQUEUE, 10000, 10000);
    CHECK_ERR(make_queue(1, 10), EMFILE);
}
