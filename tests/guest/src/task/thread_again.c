// What does a thread find that begins just after another has ended? A kernel may give it what the other had used.
#include "../harness.h"
#include <xmmintrin.h>
#include <sys/prctl.h>
#include <sys/rseq.h>

enum { LIVES = 24 };

struct seen {
    unsigned rounding;
    int cpus;
    int blocked;
    int stack_flags;
    char name[16];
    long robust_head;
};

static void look(struct seen *seen) {
    cpu_set_t cpus;
    sigset_t mask;
    stack_t stack;
    size_t len;
    seen->rounding = _MM_GET_ROUNDING_MODE();
    CHECK_OK(sched_getaffinity(0, sizeof cpus, &cpus));
    seen->cpus = CPU_COUNT(&cpus);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    seen->blocked = sigismember(&mask, SIGUSR1);
    CHECK_OK(sigaltstack(NULL, &stack));
    seen->stack_flags = stack.ss_flags;
    CHECK_OK(prctl(PR_GET_NAME, seen->name));
    CHECK_OK(syscall(SYS_get_robust_list, 0, &seen->robust_head, &len));
}

static void *change_everything(void *argument) {
    static _Thread_local char stack_room[16384];
    look(argument);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    stack_t stack = {.ss_sp = stack_room, .ss_size = sizeof stack_room};
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    _MM_SET_ROUNDING_MODE(_MM_ROUND_UP);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &mask, NULL), 0);
    CHECK_OK(sigaltstack(&stack, NULL));
    CHECK_OK(prctl(PR_SET_NAME, "changed"));
    // Only every third, so that there are threads, too, that differ in nothing but what is the guest's own.
    static atomic_int lives;
    if (atomic_fetch_add(&lives, 1) % 3 == 2) CHECK_OK(sched_setaffinity(0, sizeof one, &one));
    return NULL;
}

TEST(nothing_of_the_last_thread_is_left_for_the_next) {
    struct seen mine = {0};
    look(&mine);
    for (int life = 0; life < LIVES; life++) {
        struct seen theirs = {0};
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, change_everything, &theirs), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(theirs.rounding, mine.rounding);
        CHECK_EQ(theirs.cpus, mine.cpus);
        CHECK_EQ(theirs.blocked, 0);
        CHECK_EQ(theirs.stack_flags, SS_DISABLE);
        CHECK_STR(theirs.name, mine.name);
    }
}

static void *round_as_told(void *argument) {
    *(unsigned *)argument = _MM_GET_ROUNDING_MODE();
    return NULL;
}

TEST(a_thread_begins_with_its_parents_floating_point_state) {
    static const unsigned modes[] = {_MM_ROUND_NEAREST, _MM_ROUND_UP, _MM_ROUND_DOWN, _MM_ROUND_TOWARD_ZERO};
    for (int life = 0; life < LIVES; life++) {
        unsigned theirs = 1;
        pthread_t thread;
        _MM_SET_ROUNDING_MODE(modes[life % 4]);
        CHECK_EQ(pthread_create(&thread, NULL, round_as_told, &theirs), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(theirs, modes[life % 4]);
    }
}

// The kernel keeps `cpu_id` of a registered area up to date: the C library has registered one for each thread.
static void *cpu_by_sequence(void *argument) {
    struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
    for (int look = 0; look < 100; look++) {
        CHECK(area->cpu_id < 1024);
        sched_yield();
    }
    return argument;
}

TEST(every_thread_has_restartable_sequences_of_its_own) {
    if (__rseq_size == 0) return;
    for (int life = 0; life < LIVES; life++) {
        pthread_t threads[4];
        for (int at = 0; at < 4; at++) CHECK_EQ(pthread_create(&threads[at], NULL, cpu_by_sequence, NULL), 0);
        for (int at = 0; at < 4; at++) CHECK_EQ(pthread_join(threads[at], NULL), 0);
    }
}

static atomic_int rings;
static void ring(int signo) {
    (void)signo;
    atomic_fetch_add(&rings, 1);
}

static void *nothing(void *argument) { return argument; }

TEST(signals_disturb_neither_beginning_nor_end) {
    struct sigaction action = {.sa_handler = ring, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 500}, {0, 500}};
    CHECK_OK(sigaction(SIGALRM, &action, NULL));
    CHECK_OK(setitimer(ITIMER_REAL, &often, NULL));
    for (long life = 0; life < 500; life++) {
        pthread_t thread;
        void *result;
        CHECK_EQ(pthread_create(&thread, NULL, nothing, (void *)life), 0);
        CHECK_EQ(pthread_join(thread, &result), 0);
        CHECK_EQ((long)result, life);
    }
    struct itimerval never = {0};
    CHECK_OK(setitimer(ITIMER_REAL, &never, NULL));
    CHECK(rings > 0);
}

static atomic_int told;
static void note_thread(int signo) {
    (void)signo;
    atomic_store(&told, (int)syscall(SYS_gettid));
}

static void *wait_to_be_told(void *argument) {
    atomic_store((atomic_int *)argument, (int)syscall(SYS_gettid));
    while (atomic_load(&told) == 0) sched_yield();
    return NULL;
}

TEST(a_signal_to_a_thread_reaches_that_thread_and_no_earlier_one) {
    struct sigaction action = {.sa_handler = note_thread};
    CHECK_OK(sigaction(SIGUSR2, &action, NULL));
    for (int life = 0; life < LIVES; life++) {
        atomic_int tid = 0;
        pthread_t thread;
        told = 0;
        CHECK_EQ(pthread_create(&thread, NULL, wait_to_be_told, &tid), 0);
        while (atomic_load(&tid) == 0) sched_yield();
        CHECK_EQ(pthread_kill(thread, SIGUSR2), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(atomic_load(&told), atomic_load(&tid));
    }
}

static void some_lives(void) {
    for (int life = 0; life < LIVES; life++) {
        pthread_t threads[3];
        for (int at = 0; at < 3; at++) CHECK_EQ(pthread_create(&threads[at], NULL, nothing, NULL), 0);
        for (int at = 0; at < 3; at++) CHECK_EQ(pthread_join(threads[at], NULL), 0);
    }
}

TEST(a_child_makes_threads_of_its_own_and_so_does_its_parent_after_it) {
    some_lives();
    for (int child = 0; child < 5; child++) {
        pid_t pid = CHECK_OK(fork());
        if (pid == 0) {
            some_lives();
            _exit(7);
        }
        some_lives();
        CHECK_EXITS(pid, 7);
    }
}

static void *wait_for_the_end(void *argument) {
    pause();
    return argument;
}

// Most of its threads have ended, one waits for ever: the process must end all the same.
TEST(a_process_ends_whatever_its_threads_have_been) {
    for (int child = 0; child < 5; child++) {
        pid_t pid = CHECK_OK(fork());
        if (pid == 0) {
            pthread_t thread;
            some_lives();
            CHECK_EQ(pthread_create(&thread, NULL, wait_for_the_end, NULL), 0);
            _exit(child);
        }
        CHECK_EXITS(pid, child);
    }
}

static long long thread_time(void) {
    struct timespec time;
    CHECK_OK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time));
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void *work_and_tell(void *argument) {
    *(long long *)argument = thread_time();
    while (thread_time() < 20000000LL) {}
    struct rusage usage;
    CHECK_OK(getrusage(RUSAGE_THREAD, &usage));
    CHECK(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec < 1);
    return NULL;
}

TEST(a_threads_time_begins_with_it) {
    for (int life = 0; life < 5; life++) {
        long long begun = -1;
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, work_and_tell, &begun), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK(begun >= 0 && begun < 10000000LL);
    }
}
