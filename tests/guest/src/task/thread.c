// What do threads share, and how do they end?
#include "../harness.h"
#include <linux/futex.h>

static atomic_int counter;

static void *count(void *argument) {
    atomic_fetch_add(&counter, 1);
    return argument;
}

TEST(thousand_threads_in_turn) {
    for (long at = 0; at < 1000; at++) {
        pthread_t thread;
        void *result;
        CHECK_EQ(pthread_create(&thread, NULL, count, (void *)at), 0);
        CHECK_EQ(pthread_join(thread, &result), 0);
        CHECK_EQ((long)result, at);
    }
    CHECK_EQ(counter, 1000);
}

static pthread_barrier_t barrier;
static void *meet(void *argument) {
    atomic_fetch_add(&counter, 1);
    pthread_barrier_wait(&barrier);
    return argument;
}

TEST(five_hundred_threads_at_once) {
    enum { THREADS = 500 };
    static pthread_t threads[THREADS];
    pthread_attr_t small;
    pthread_attr_init(&small);
    CHECK_EQ(pthread_attr_setstacksize(&small, 65536), 0);
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, THREADS + 1), 0);
    for (int at = 0; at < THREADS; at++)
        CHECK_EQ(pthread_create(&threads[at], &small, meet, NULL), 0);
    pthread_barrier_wait(&barrier);
    CHECK_EQ(counter, THREADS);
    for (int at = 0; at < THREADS; at++)
        CHECK_EQ(pthread_join(threads[at], NULL), 0);
}

static void *note_ids(void *argument) {
    long *ids = argument;
    ids[0] = getpid();
    ids[1] = syscall(SYS_gettid);
    ids[2] = getppid();
    return NULL;
}

TEST(thread_shares_the_pid_and_has_its_own_tid) {
    long ids[3];
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, note_ids, ids), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(ids[0], getpid());
    CHECK(ids[1] != getpid());
    CHECK_EQ(ids[2], getppid());
}

static _Thread_local int local = 5;
static void *change_local(void *argument) {
    *(int *)argument = local;
    local = 6;
    return NULL;
}

TEST(thread_local_storage_is_per_thread) {
    int seen = 0;
    pthread_t thread;
    local = 7;
    CHECK_EQ(pthread_create(&thread, NULL, change_local, &seen), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(seen, 5);
    CHECK_EQ(local, 7);
}

static void *sleep_forever(void *argument) {
    for (;;)
        pause();
    return argument;
}

static void *end_the_process(void *argument) {
    (void)argument;
    _exit(17);
}

TEST(exit_group_from_a_thread_ends_all_threads) {
    pid_t pid = IN_CHILD({
        pthread_t thread;
        for (int at = 0; at < 5; at++)
            CHECK_EQ(pthread_create(&thread, NULL, sleep_forever, NULL), 0);
        CHECK_EQ(pthread_create(&thread, NULL, end_the_process, NULL), 0);
        sleep_forever(NULL);
    });
    CHECK_EXITS(pid, 17);
}

static void *spin(void *argument) {
    for (volatile long at = 0;; at++)
        ;
    return argument;
}

TEST(exit_group_ends_threads_that_spin_in_user_code) {
    pid_t pid = IN_CHILD({
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, spin, NULL), 0);
        CHECK_EQ(pthread_create(&thread, NULL, spin, NULL), 0);
        sleep_ms(20);
        _exit(18);
    });
    CHECK_EXITS(pid, 18);
}

static void *exit_later(void *argument) {
    sleep_ms(30);
    _exit((int)(long)argument);
}

TEST(process_lives_on_when_its_first_thread_exits) {
    pid_t pid = IN_CHILD({
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, exit_later, (void *)19L), 0);
        syscall(SYS_exit, 3);
    });
    CHECK_EXITS(pid, 19);
}

TEST(kill_ends_a_process_of_many_threads) {
    struct gate ready;
    gate_init(&ready);
    pid_t pid = IN_CHILD({
        pthread_t thread;
        for (int at = 0; at < 10; at++)
            CHECK_EQ(pthread_create(&thread, NULL, at % 2 ? spin : sleep_forever, NULL), 0);
        gate_open(&ready);
        sleep_forever(NULL);
    });
    gate_wait(&ready);
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_KILLED(pid, SIGKILL);
}

static void *exec_now(void *argument) {
    execl(self_path(), self_path(), "--helper", "check_leader", (char *)argument, NULL);
    _exit(127);
}

HELPER(check_leader) {
    return getpid() == atoi(argv[0]) && syscall(SYS_gettid) == getpid() ? 23 : 1;
}

TEST(exec_from_a_thread_keeps_the_pid_and_ends_the_others) {
    pid_t pid = IN_CHILD({
        char text[16];
        snprintf(text, sizeof text, "%d", getpid());
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, spin, NULL), 0);
        CHECK_EQ(pthread_create(&thread, NULL, exec_now, text), 0);
        sleep_forever(NULL);
    });
    CHECK_EXITS(pid, 23);
}

static void *fork_here(void *argument) {
    *(pid_t *)argument = fork();
    if (*(pid_t *)argument == 0) {
        // The forking thread is the only one in the child, and is its leader.
        DIR *tasks = opendir("/proc/self/task");
        int count = 0;
        while (tasks && readdir(tasks))
            count++;
        _exit(count == 3 && syscall(SYS_gettid) == getpid() ? 29 : 1);
    }
    return NULL;
}

TEST(fork_in_a_thread_copies_only_that_thread) {
    pthread_t thread;
    pid_t pid = -1;
    CHECK_EQ(pthread_create(&thread, NULL, fork_here, &pid), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EXITS(pid, 29);
}

static void *wait_for_child(void *argument) {
    int status;
    return (void *)(long)(waitpid(*(pid_t *)argument, &status, 0) == *(pid_t *)argument && WEXITSTATUS(status) == 31);
}

TEST(any_thread_may_wait_for_a_child) {
    pid_t pid = IN_CHILD(_exit(31));
    pthread_t thread;
    void *good;
    CHECK_EQ(pthread_create(&thread, NULL, wait_for_child, &pid), 0);
    CHECK_EQ(pthread_join(thread, &good), 0);
    CHECK_EQ((long)good, 1);
}

TEST(tgkill_of_a_foreign_thread_group_is_esrch) {
    CHECK_ERR(syscall(SYS_tgkill, getppid(), getpid(), 0), ESRCH);
    CHECK_ERR(syscall(SYS_tgkill, -1, getpid(), 0), EINVAL);
    CHECK_OK(syscall(SYS_tgkill, getpid(), getpid(), 0));
}

static void *cancel_me(void *argument) {
    sleep_forever(NULL);
    return argument;
}

TEST(cancelled_thread_joins_as_cancelled) {
    pthread_t thread;
    void *result;
    CHECK_EQ(pthread_create(&thread, NULL, cancel_me, NULL), 0);
    CHECK_EQ(pthread_cancel(thread), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK(result == PTHREAD_CANCELED);
}

TEST(proc_task_lists_the_threads) {
    pthread_t thread;
    for (int at = 0; at < 3; at++)
        CHECK_EQ(pthread_create(&thread, NULL, sleep_forever, NULL), 0);
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    int entries = 0;
    struct dirent *entry;
    while ((entry = readdir(tasks)) != NULL)
        entries += entry->d_name[0] != '.';
    CHECK_EQ(entries, 4);
    char text[4096];
    read_file("/proc/self/status", text, sizeof text);
    CHECK(strstr(text, "\nThreads:\t4\n") != NULL);
}

TEST(affinity_can_be_read_and_set_to_one_cpu) {
    cpu_set_t before, one, after;
    CHECK_OK(sched_getaffinity(0, sizeof before, &before));
    CHECK(CPU_COUNT(&before) >= 1);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_OK(sched_setaffinity(0, sizeof one, &one));
    CHECK_OK(sched_getaffinity(0, sizeof after, &after));
    CHECK(CPU_EQUAL(&one, &after));
    CPU_ZERO(&one);
    CHECK_ERR(sched_setaffinity(0, sizeof one, &one), EINVAL);
    CHECK_ERR(syscall(SYS_sched_getaffinity, 0, 1, &after), EINVAL);
}

TEST(scheduler_of_a_new_process_is_other) {
    struct sched_param parameter;
    CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
    CHECK_OK(sched_getparam(0, &parameter));
    CHECK_EQ(parameter.sched_priority, 0);
    CHECK_EQ(sched_get_priority_max(SCHED_FIFO), 99);
    CHECK_OK(sched_yield());
}
