// Do threads and processes meet? Futexes, the pthread objects built on them, eventfd, timerfd.
#include "../harness.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

static long futex(void *word, int op, int value, const struct timespec *time, void *second, int third) {
    return syscall(SYS_futex, word, op, value, time, second, third);
}

static atomic_int word, other, woken;

TEST(futex_wait_with_another_value_is_eagain) { CHECK_ERR(futex(&word, FUTEX_WAIT_PRIVATE, 5, NULL, NULL, 0), EAGAIN); }

TEST(futex_wait_times_out) {
    struct timespec time = {0, 20000000};
    long long start = now_ns();
    CHECK_ERR(futex(&word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0), ETIMEDOUT);
    CHECK(now_ns() - start >= 20000000);
}

TEST(futex_wait_bitset_takes_an_absolute_time) {
    struct timespec time;
    CHECK_OK(clock_gettime(CLOCK_MONOTONIC, &time));
    time.tv_nsec += 20000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000;
    }
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &time, NULL, -1), ETIMEDOUT);
    struct timespec past = {1, 0};
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &past, NULL, -1), ETIMEDOUT);
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &past, NULL, -1), ETIMEDOUT);
}

TEST(futex_with_bad_arguments_is_einval_or_efault) {
    CHECK_ERR(futex((char *)&word + 1, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EINVAL);
    CHECK_ERR(futex((void *)8, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EFAULT);
    CHECK_ERR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 0), EINVAL);
    struct timespec bad = {0, 1000000000};
    CHECK_ERR(futex(&word, FUTEX_WAIT_PRIVATE, 0, &bad, NULL, 0), EINVAL);
    CHECK_ERR(futex(&word, 99, 0, NULL, NULL, 0), ENOSYS);
}

TEST(futex_wake_of_nobody_is_zero) { CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 0); }

static pid_t waiter_tids[8];
static atomic_int waiting;
static void *wait_on_word(void *argument) {
    long at = (long)argument;
    waiter_tids[at] = (pid_t)syscall(SYS_gettid);
    waiting++;
    while (futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 1 << at) == -1 && errno == EINTR)
        ;
    woken |= 1 << at;
    return NULL;
}

// Starts `count` threads that wait on `word`, thread N with bit N, and lets them fall asleep.
static void start_waiters(pthread_t *threads, int count) {
    for (long at = 0; at < count; at++)
        CHECK_EQ(pthread_create(&threads[at], NULL, wait_on_word, (void *)at), 0);
    while (waiting < count)
        sleep_ms(1);
    for (int at = 0; at < count; at++)
        wait_for_state(waiter_tids[at], 'S');
    sleep_ms(20); // asleep is not yet queued: the state may be that of a wait before
}

TEST(futex_wake_wakes_as_many_as_asked) {
    pthread_t threads[4];
    start_waiters(threads, 4);
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 1);
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 3);
    for (int at = 0; at < 4; at++)
        CHECK_EQ(pthread_join(threads[at], NULL), 0);
}

TEST(futex_wake_bitset_wakes_only_matching_waiters) {
    pthread_t threads[4];
    start_waiters(threads, 4);
    CHECK_EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, 1 << 2), 1);
    CHECK_EQ(pthread_join(threads[2], NULL), 0);
    CHECK_EQ(woken, 1 << 2);
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 3);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    pthread_join(threads[3], NULL);
}

TEST(futex_requeue_moves_waiters_to_the_other_word) {
    pthread_t threads[4];
    start_waiters(threads, 4);
    CHECK_ERR(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10L, &other, 5), EAGAIN);
    CHECK_EQ(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10L, &other, 0), 4);
    CHECK_EQ(futex(&word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 0);
    CHECK_EQ(futex(&other, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 3);
    for (int at = 0; at < 4; at++)
        CHECK_EQ(pthread_join(threads[at], NULL), 0);
}

TEST(futex_wake_op_changes_the_second_word) {
    other = 7;
    CHECK_EQ(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1L, &other, FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 7)), 0);
    CHECK_EQ(other, 12);
}

TEST(shared_futex_wakes_a_process_through_shared_memory) {
    atomic_int *shared = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    pid_t pid = IN_CHILD(while (*shared == 0) futex(shared, FUTEX_WAIT, 0, NULL, NULL, 0); CHECK_EQ(*shared, 1));
    wait_for_state(pid, 'S');
    *shared = 1;
    CHECK_OK(futex(shared, FUTEX_WAKE, 1, NULL, NULL, 0));
    CHECK_EXITS(pid, 0);
}

TEST(shared_futex_in_a_file_works_at_different_addresses) {
    int fd = CHECK_OK(memfd_create("m", 0));
    CHECK_OK(ftruncate(fd, GUEST_PAGE));
    atomic_int *first = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pid_t pid = IN_CHILD({
        atomic_int *second = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(second != first);
        while (*second == 0)
            futex(second, FUTEX_WAIT, 0, NULL, NULL, 0);
    });
    wait_for_state(pid, 'S');
    *first = 1;
    CHECK_OK(futex(first, FUTEX_WAKE, INT_MAX, NULL, NULL, 0));
    CHECK_EXITS(pid, 0);
}

static volatile int hits;
static void hit(int number) {
    (void)number;
    hits++;
}

TEST(futex_wait_without_sa_restart_is_eintr) {
    catch_signal(SIGUSR1, hit, 0);
    pid_t parent = getpid();
    pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); kill(parent, SIGUSR1));
    CHECK_ERR(futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EINTR);
    CHECK_EXITS(pid, 0);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static long total;
static void *add_under_lock(void *argument) {
    for (int at = 0; at < 20000; at++) {
        pthread_mutex_lock(&mutex);
        total++;
        pthread_mutex_unlock(&mutex);
    }
    return argument;
}

TEST(mutex_excludes_many_threads) {
    pthread_t threads[6];
    for (int at = 0; at < 6; at++)
        CHECK_EQ(pthread_create(&threads[at], NULL, add_under_lock, NULL), 0);
    for (int at = 0; at < 6; at++)
        CHECK_EQ(pthread_join(threads[at], NULL), 0);
    CHECK_EQ(total, 6 * 20000);
}

static int turn;
static void *take_turns(void *argument) {
    int own = (int)(long)argument;
    for (int at = 0; at < 500; at++) {
        pthread_mutex_lock(&mutex);
        while (turn != own)
            pthread_cond_wait(&condition, &mutex);
        turn = 1 - own;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

TEST(condition_variable_passes_turns) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, take_turns, (void *)1L), 0);
    take_turns((void *)0L);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(turn, 0);
}

TEST(condition_variable_times_out) {
    struct timespec past = {1, 0};
    pthread_mutex_lock(&mutex);
    CHECK_EQ(pthread_cond_timedwait(&condition, &mutex, &past), ETIMEDOUT);
    CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
}

static pthread_mutex_t *shared_mutex(int robust, int protocol) {
    pthread_mutex_t *shared = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    CHECK_EQ(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED), 0);
    CHECK_EQ(pthread_mutexattr_setrobust(&attributes, robust), 0);
    CHECK_EQ(pthread_mutexattr_setprotocol(&attributes, protocol), 0);
    CHECK_EQ(pthread_mutex_init(shared, &attributes), 0);
    return shared;
}

TEST(process_shared_mutex_excludes_processes) {
    pthread_mutex_t *shared = shared_mutex(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    volatile long *sum = (long *)(shared + 1);
    pid_t pids[3];
    for (int child = 0; child < 3; child++)
        pids[child] = IN_CHILD(for (int at = 0; at < 5000; at++) {
            pthread_mutex_lock(shared);
            *sum += 1;
            pthread_mutex_unlock(shared);
        });
    for (int child = 0; child < 3; child++)
        CHECK_EXITS(pids[child], 0);
    CHECK_EQ(*sum, 15000);
}

TEST(robust_mutex_of_a_dead_process_is_eownerdead) {
    pthread_mutex_t *shared = shared_mutex(PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    pid_t pid = IN_CHILD(pthread_mutex_lock(shared); _exit(0));
    CHECK_EXITS(pid, 0);
    CHECK_EQ(pthread_mutex_lock(shared), EOWNERDEAD);
    CHECK_EQ(pthread_mutex_consistent(shared), 0);
    CHECK_EQ(pthread_mutex_unlock(shared), 0);
    CHECK_EQ(pthread_mutex_lock(shared), 0);
}

static void *lock_and_leave(void *argument) {
    pthread_mutex_lock(argument);
    return NULL;
}

TEST(robust_mutex_of_a_dead_thread_is_eownerdead) {
    pthread_mutex_t *shared = shared_mutex(PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, lock_and_leave, shared), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(pthread_mutex_lock(shared), EOWNERDEAD);
}

TEST(robust_mutex_wakes_a_waiter_when_the_owner_is_killed) {
    pthread_mutex_t *shared = shared_mutex(PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    struct gate locked;
    gate_init(&locked);
    pid_t owner = IN_CHILD(pthread_mutex_lock(shared); gate_open(&locked); pause());
    gate_wait(&locked);
    pid_t waiter = IN_CHILD(CHECK_EQ(pthread_mutex_lock(shared), EOWNERDEAD));
    wait_for_state(waiter, 'S');
    CHECK_OK(kill(owner, SIGKILL));
    CHECK_KILLED(owner, SIGKILL);
    CHECK_EXITS(waiter, 0);
}

TEST(priority_inheriting_mutex_excludes_processes) {
    pthread_mutex_t *shared = shared_mutex(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
    CHECK_EQ(pthread_mutex_lock(shared), 0);
    pid_t pid = IN_CHILD(CHECK_EQ(pthread_mutex_trylock(shared), EBUSY); CHECK_EQ(pthread_mutex_lock(shared), 0);
                         CHECK_EQ(pthread_mutex_unlock(shared), 0));
    wait_for_state(pid, 'S');
    CHECK_EQ(pthread_mutex_unlock(shared), 0);
    CHECK_EXITS(pid, 0);
}

static uint32_t pi_word;

static long pi(uint32_t *word, int operation, const struct timespec *until) {
    return syscall(SYS_futex, word, operation, 0, until, NULL, 0);
}

TEST(pi_futex_is_taken_and_given_back_by_the_kernel) {
    uint32_t me = (uint32_t)syscall(SYS_gettid);
    CHECK_OK(pi(&pi_word, FUTEX_LOCK_PI_PRIVATE, NULL));
    CHECK_EQ(pi_word & FUTEX_TID_MASK, me);
    CHECK_ERR(pi(&pi_word, FUTEX_LOCK_PI_PRIVATE, NULL), EDEADLK);
    CHECK_ERR(pi(&pi_word, FUTEX_TRYLOCK_PI_PRIVATE, NULL), EDEADLK);
    CHECK_OK(pi(&pi_word, FUTEX_UNLOCK_PI_PRIVATE, NULL));
    CHECK_EQ(pi_word, 0);
    CHECK_ERR(pi(&pi_word, FUTEX_UNLOCK_PI_PRIVATE, NULL), EPERM);
    CHECK_OK(pi(&pi_word, FUTEX_TRYLOCK_PI_PRIVATE, NULL));
    CHECK_OK(pi(&pi_word, FUTEX_UNLOCK_PI_PRIVATE, NULL));
}

TEST(pi_futex_errors_are_those_of_the_man_page) {
    CHECK_ERR(pi((uint32_t *)((char *)&pi_word + 1), FUTEX_LOCK_PI_PRIVATE, NULL), EINVAL);
    CHECK_ERR(pi((uint32_t *)8, FUTEX_LOCK_PI_PRIVATE, NULL), EFAULT);
    pi_word = 0x3ffffff0;
    CHECK_ERR(pi(&pi_word, FUTEX_LOCK_PI_PRIVATE, NULL), ESRCH);
    pi_word = 0;
    CHECK_ERR(pi(&pi_word, FUTEX_LOCK_PI_PRIVATE, &(struct timespec){0, 1000000000}), EINVAL);
}

static void *hold_pi_word(void *gate) {
    CHECK_OK(pi(&pi_word, FUTEX_LOCK_PI_PRIVATE, NULL));
    gate_open(gate);
    sleep_ms(150);
    CHECK_OK(pi(&pi_word, FUTEX_UNLOCK_PI_PRIVATE, NULL));
    return NULL;
}

TEST(pi_futex_is_waited_for_until_its_time) {
    struct gate gate;
    gate_init(&gate);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, hold_pi_word, &gate), 0);
    gate_wait(&gate);
    struct timespec until;
    CHECK_OK(clock_gettime(CLOCK_REALTIME, &until));
    until.tv_nsec += 20000000;
    if (until.tv_nsec >= 1000000000)
        until.tv_sec++, until.tv_nsec -= 1000000000;
    CHECK_ERR(pi(&pi_word, FUTEX_TRYLOCK_PI_PRIVATE, NULL), EAGAIN);
    CHECK_ERR(pi(&pi_word, FUTEX_LOCK_PI_PRIVATE, &until), ETIMEDOUT);
    CHECK_OK(pi(&pi_word, FUTEX_LOCK_PI_PRIVATE, NULL));
    CHECK_EQ(pi_word & FUTEX_TID_MASK, syscall(SYS_gettid));
    CHECK_OK(pi(&pi_word, FUTEX_UNLOCK_PI_PRIVATE, NULL));
    CHECK_EQ(pi_word, 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static pthread_mutex_t pi_mutex;
static long pi_count;

static void *count_under_pi(void *rounds) {
    for (long at = 0; at < (long)rounds; at++) {
        CHECK_EQ(pthread_mutex_lock(&pi_mutex), 0);
        long seen = pi_count;
        if (at % 16 == 0)
            sched_yield();
        pi_count = seen + 1;
        CHECK_EQ(pthread_mutex_unlock(&pi_mutex), 0);
    }
    return NULL;
}

TEST(priority_inheriting_mutex_excludes_threads) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    CHECK_EQ(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT), 0);
    CHECK_EQ(pthread_mutex_init(&pi_mutex, &attributes), 0);
    pthread_t threads[4];
    for (int at = 0; at < 4; at++)
        CHECK_EQ(pthread_create(&threads[at], NULL, count_under_pi, (void *)2000), 0);
    for (int at = 0; at < 4; at++)
        CHECK_EQ(pthread_join(threads[at], NULL), 0);
    CHECK_EQ(pi_count, 8000);
}

TEST(robust_priority_inheriting_mutex_tells_of_its_owners_death) {
    pthread_mutex_t *shared = shared_mutex(PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_INHERIT);
    struct gate gate;
    gate_init(&gate);
    pid_t owner = IN_CHILD({
        CHECK_EQ(pthread_mutex_lock(shared), 0);
        gate_open(&gate);
        pause();
    });
    gate_wait(&gate);
    pid_t waiter = IN_CHILD({
        CHECK_EQ(pthread_mutex_lock(shared), EOWNERDEAD);
        CHECK_EQ(pthread_mutex_consistent(shared), 0);
        CHECK_EQ(pthread_mutex_unlock(shared), 0);
    });
    wait_for_state(waiter, 'S');
    CHECK_OK(kill(owner, SIGKILL));
    CHECK_KILLED(owner, SIGKILL);
    CHECK_EXITS(waiter, 0);
    CHECK_EQ(pthread_mutex_lock(shared), 0);
    CHECK_EQ(pthread_mutex_unlock(shared), 0);
}

static void ignore_signal(int number __attribute__((unused))) {}

TEST(priority_inheriting_mutex_survives_signals) {
    catch_signal(SIGUSR1, ignore_signal, SA_RESTART);
    pthread_mutex_t *shared = shared_mutex(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
    CHECK_EQ(pthread_mutex_lock(shared), 0);
    pid_t pid = IN_CHILD(CHECK_EQ(pthread_mutex_lock(shared), 0); CHECK_EQ(pthread_mutex_unlock(shared), 0));
    wait_for_state(pid, 'S');
    for (int at = 0; at < 3; at++) {
        CHECK_OK(kill(pid, SIGUSR1));
        sleep_ms(5);
    }
    CHECK_EQ(pthread_mutex_unlock(shared), 0);
    CHECK_EXITS(pid, 0);
}

TEST(set_tid_address_returns_the_tid) { CHECK_EQ(syscall(SYS_set_tid_address, &word), syscall(SYS_gettid)); }

TEST(robust_list_can_be_read_back) {
    void *head = NULL;
    size_t length = 0;
    CHECK_OK(syscall(SYS_get_robust_list, 0, &head, &length));
    CHECK(head != NULL);
    CHECK_EQ(length, 24);
    CHECK_ERR(syscall(SYS_set_robust_list, head, 1), EINVAL);
}

TEST(eventfd_adds_up_and_is_reset_by_read) {
    int fd = CHECK_OK(eventfd(3, EFD_NONBLOCK));
    uint64_t value = 4;
    CHECK_EQ(write(fd, &value, 8), 8);
    CHECK_EQ(read(fd, &value, 8), 8);
    CHECK_EQ(value, 7);
    CHECK_ERR(read(fd, &value, 8), EAGAIN);
    CHECK_ERR(read(fd, &value, 4), EINVAL);
    value = UINT64_MAX;
    CHECK_ERR(write(fd, &value, 8), EINVAL);
    value = UINT64_MAX - 1;
    CHECK_EQ(write(fd, &value, 8), 8);
    value = 1;
    CHECK_ERR(write(fd, &value, 8), EAGAIN);
}

TEST(eventfd_semaphore_counts_down) {
    int fd = CHECK_OK(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
    uint64_t value;
    for (int at = 0; at < 2; at++) {
        CHECK_EQ(read(fd, &value, 8), 8);
        CHECK_EQ(value, 1);
    }
    CHECK_ERR(read(fd, &value, 8), EAGAIN);
}

TEST(eventfd_read_blocks_until_written) {
    int fd = CHECK_OK(eventfd(0, 0));
    pid_t parent = getpid();
    uint64_t value = 5;
    pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); CHECK_EQ(write(fd, &value, 8), 8));
    value = 0;
    CHECK_EQ(read(fd, &value, 8), 8);
    CHECK_EQ(value, 5);
    CHECK_EXITS(pid, 0);
}

TEST(timerfd_counts_expirations_and_polls) {
    int fd = CHECK_OK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    uint64_t count;
    CHECK_ERR(read(fd, &count, 8), EAGAIN);
    CHECK_OK(timerfd_settime(fd, 0, &(struct itimerspec){{0, 1000000}, {0, 1000000}}, NULL));
    struct pollfd poller = {fd, POLLIN, 0};
    CHECK_EQ(poll(&poller, 1, 10000), 1);
    sleep_ms(10);
    CHECK_EQ(read(fd, &count, 8), 8);
    CHECK(count >= 5);
    struct itimerspec now;
    CHECK_OK(timerfd_gettime(fd, &now));
    CHECK_EQ(now.it_interval.tv_nsec, 1000000);
}

TEST(timerfd_absolute_time_in_the_past_expires_at_once) {
    int fd = CHECK_OK(timerfd_create(CLOCK_REALTIME, 0));
    CHECK_OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &(struct itimerspec){{0, 0}, {1, 0}}, NULL));
    uint64_t count = 0;
    CHECK_EQ(read(fd, &count, 8), 8);
    CHECK_EQ(count, 1);
    CHECK_ERR(timerfd_create(99, 0), EINVAL);
    CHECK_ERR(timerfd_settime(0, 0, &(struct itimerspec){{0, 0}, {1, 0}}, NULL), EINVAL);
}

TEST(rseq_area_holds_the_cpu_number) {
    extern const ptrdiff_t __rseq_offset __attribute__((weak));
    extern const unsigned __rseq_size __attribute__((weak));
    if (!&__rseq_size || __rseq_size == 0)
        return; // not registered: allowed
    char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
    for (int round = 0; round < 100; round++) {
        unsigned cpu = *(volatile unsigned *)(area + 4);
        CHECK((int)cpu >= 0);
        CHECK((long)cpu < sysconf(_SC_NPROCESSORS_CONF));
        sched_yield();
    }
}

static long raw_futex_wait(uint32_t *at, uint32_t value, const struct timespec *timeout) {
    long result;
    register const struct timespec *limit __asm__("r10") = timeout;
    __asm__ volatile("movl $202, %%eax\n\tsyscall"
                     : "=a"(result) : "D"(at), "S"(FUTEX_WAIT_PRIVATE), "d"(value), "r"(limit)
                     : "rcx", "r11", "memory");
    return result;
}

TEST(futex_wait_of_a_busy_site_tells_every_error_as_before) {
    static uint32_t here = 7;
    struct timespec soon = {0, 1000}, wrong = {0, 2000000000};
    for (int round = 0; round < 60; round++) {
        CHECK_EQ(raw_futex_wait(&here, 8, NULL), -EAGAIN);
        CHECK_EQ(raw_futex_wait(&here, 7, &soon), -ETIMEDOUT);
        CHECK_EQ(raw_futex_wait(&here, 8, &wrong), -EINVAL);
        CHECK_EQ(raw_futex_wait((uint32_t *)((char *)&here + 1), 8, NULL), -EINVAL);
        CHECK_EQ(raw_futex_wait(NULL, 8, NULL), -EFAULT);
    }
}

static uint32_t turns;
static void *answer_turns(void *rounds) {
    for (uint32_t turn = 0; turn < 2 * (uint32_t)(long)rounds; turn += 2) {
        while (__atomic_load_n(&turns, __ATOMIC_ACQUIRE) != turn + 1)
            raw_futex_wait(&turns, turn, NULL);
        __atomic_store_n(&turns, turn + 2, __ATOMIC_RELEASE);
        syscall(SYS_futex, &turns, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return NULL;
}

static volatile int is_over;
static void *signal_until_over(void *waiter) {
    while (!is_over) {
        pthread_kill(*(pthread_t *)waiter, SIGUSR1);
        usleep(200);
    }
    return NULL;
}

// The wait at which a platform looks at the site is one of them.
TEST(futex_wait_of_a_busy_site_is_interrupted_every_time) {
    static int never;
    pthread_t self = pthread_self(), thread;
    catch_signal(SIGUSR1, hit, 0);
    CHECK_EQ(pthread_create(&thread, NULL, signal_until_over, &self), 0);
    for (int at = 0; at < 200; at++)
        CHECK_ERR(futex(&never, FUTEX_WAIT_PRIVATE, 0, &(struct timespec){3, 0}, NULL, 0), EINTR);
    is_over = 1;
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(futex_waits_of_a_busy_site_lose_no_wake_up) {
    enum { ROUNDS = 3000 };
    pthread_t thread;
    turns = 0;
    CHECK_EQ(pthread_create(&thread, NULL, answer_turns, (void *)ROUNDS), 0);
    for (uint32_t turn = 0; turn < 2 * ROUNDS; turn += 2) {
        // Now and then so late that the other has given up watching.
        if (turn % 500 == 0)
            usleep(1000);
        __atomic_store_n(&turns, turn + 1, __ATOMIC_RELEASE);
        syscall(SYS_futex, &turns, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        while (__atomic_load_n(&turns, __ATOMIC_ACQUIRE) != turn + 2)
            raw_futex_wait(&turns, turn + 1, NULL);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(a_process_whose_rseq_area_is_gone_ends_by_sigsegv) {
    extern const ptrdiff_t __rseq_offset __attribute__((weak));
    extern const unsigned __rseq_size __attribute__((weak));
    enum { UNREGISTER = 1, SIGNATURE = 0x53053053, SIZE = 32 };
    pid_t pid = IN_CHILD({
        if (&__rseq_size && __rseq_size != 0) {
            char *own = (char *)__builtin_thread_pointer() + __rseq_offset;
            CHECK_OK(syscall(SYS_rseq, own, SIZE, UNREGISTER, SIGNATURE));
        }
        char *page = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK_OK(syscall(SYS_rseq, page, SIZE, 0, SIGNATURE));
        CHECK_OK(munmap(page, GUEST_PAGE));
        for (;;)
            usleep(1000);
    });
    CHECK_KILLED(pid, SIGSEGV);
}
