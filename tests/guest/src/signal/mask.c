// Does a program that changes its signal mask often, from one place, have the mask that it asked for, and get every signal in time?
#include "../harness.h"
#include <pthread.h>
#include <stdatomic.h>

// More changes than any place needs to be made cheaper.
enum { OFTEN = 40 };

static _Atomic int hits;
static _Atomic int done;

static void hit(int number) {
    (void)number;
    hits++;
}

// One place in the code for all calls of a test.
static __attribute__((noinline)) long change(int how, const void *set, void *old, size_t size) {
    long result;
    register long r10 __asm__("r10") = (long)size;
    __asm__ volatile("movl $14, %%eax\n\tsyscall"
                     : "=&a"(result)
                     : "D"((long)how), "S"(set), "d"(old), "r"(r10)
                     : "rcx", "r11", "memory", "cc");
    return result;
}

static unsigned long bit(int signal) { return 1UL << (signal - 1); }

static void warm_up(void) {
    unsigned long set = 0;
    for (int i = 0; i < OFTEN; i++)
        CHECK_EQ(change(SIG_BLOCK, &set, NULL, 8), 0);
}

static unsigned long current_mask(void) {
    unsigned long mask = 0;
    CHECK_EQ(change(SIG_SETMASK, NULL, &mask, 8), 0);
    return mask;
}

TEST(mask_changed_often_is_what_was_asked_for) {
    warm_up();
    unsigned long old, set = bit(SIGUSR1) | bit(SIGUSR2) | bit(SIGKILL) | bit(SIGSTOP) | bit(64);
    CHECK_EQ(change(SIG_SETMASK, &set, NULL, 8), 0);
    CHECK_EQ(current_mask(), bit(SIGUSR1) | bit(SIGUSR2) | bit(64));
    set = bit(SIGHUP);
    CHECK_EQ(change(SIG_BLOCK, &set, &old, 8), 0);
    CHECK_EQ(old, bit(SIGUSR1) | bit(SIGUSR2) | bit(64));
    set = bit(SIGUSR1) | bit(SIGTERM);
    CHECK_EQ(change(SIG_UNBLOCK, &set, &set, 8), 0);
    CHECK_EQ(set, bit(SIGHUP) | bit(SIGUSR1) | bit(SIGUSR2) | bit(64));
    CHECK_EQ(current_mask(), bit(SIGHUP) | bit(SIGUSR2) | bit(64));
}

TEST(mask_change_with_wrong_arguments_fails) {
    warm_up();
    unsigned long set = bit(SIGUSR1), old;
    CHECK_EQ(change(3, &set, NULL, 8), -EINVAL);
    CHECK_EQ(change(-1, &set, NULL, 8), -EINVAL);
    CHECK_EQ(change(SIG_BLOCK, &set, NULL, 4), -EINVAL);
    CHECK_EQ(change(SIG_BLOCK, &set, NULL, 16), -EINVAL);
    CHECK_EQ(change(SIG_BLOCK, (void *)8, NULL, 8), -EFAULT);
    CHECK_EQ(current_mask(), 0);
    // The kind is not looked at without a set; the mask has changed when the old one cannot be written.
    CHECK_EQ(change(77, NULL, &old, 8), 0);
    CHECK_EQ(change(SIG_BLOCK, &set, (void *)8, 8), -EFAULT);
    CHECK_EQ(current_mask(), bit(SIGUSR1));
    CHECK_EQ(change(SIG_SETMASK, NULL, (void *)8, 8), -EFAULT);
}

TEST(blocked_signal_comes_before_the_call_that_unblocks_it_returns) {
    catch_signal(SIGUSR1, hit, 0);
    unsigned long set = bit(SIGUSR1);
    for (int i = 1; i <= OFTEN; i++) {
        CHECK_EQ(change(SIG_BLOCK, &set, NULL, 8), 0);
        CHECK_OK(kill(getpid(), SIGUSR1));
        CHECK_EQ(hits, i - 1);
        CHECK_EQ(change(SIG_UNBLOCK, &set, NULL, 8), 0);
        CHECK_EQ(hits, i);
    }
}

TEST(handler_runs_with_its_mask_and_gives_back_the_one_before) {
    catch_signal(SIGUSR2, hit, 0);
    warm_up();
    unsigned long set = bit(SIGUSR1) | bit(SIGHUP);
    CHECK_EQ(change(SIG_SETMASK, &set, NULL, 8), 0);
    CHECK_OK(raise(SIGUSR2));
    CHECK_EQ(hits, 1);
    CHECK_EQ(current_mask(), bit(SIGUSR1) | bit(SIGHUP));
}

TEST(ignored_signal_that_is_blocked_waits_all_the_same) {
    warm_up();
    unsigned long set = bit(SIGCHLD);
    CHECK_EQ(change(SIG_BLOCK, &set, NULL, 8), 0);
    pid_t child = fork();
    CHECK_OK(child);
    if (child == 0)
        _exit(0);
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    CHECK_EQ(sigwaitinfo(&chld, NULL), SIGCHLD);
    CHECK_EQ(waitpid(child, NULL, 0), child);
}

TEST(mask_changed_often_goes_to_children_and_threads) {
    warm_up();
    unsigned long set = bit(SIGUSR2);
    CHECK_EQ(change(SIG_BLOCK, &set, NULL, 8), 0);
    pid_t child = fork();
    CHECK_OK(child);
    if (child == 0)
        _exit(current_mask() == bit(SIGUSR2) ? 0 : 1);
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    child = fork();
    CHECK_OK(child);
    if (child == 0) {
        execlp("grep", "grep", "-q", "^SigBlk:.*0000000000000800$", "/proc/self/status", (char *)NULL);
        _exit(127);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static void *send_to_thread(void *target) {
    for (int i = 0; i < 2000; i++) {
        int before = hits;
        CHECK_EQ(pthread_kill(*(pthread_t *)target, SIGUSR1), 0);
        while (hits == before)
            sched_yield();
    }
    done = 1;
    return NULL;
}

TEST(signal_to_a_thread_that_blocks_and_unblocks_is_never_late) {
    catch_signal(SIGUSR1, hit, SA_RESTART);
    warm_up();
    pthread_t self = pthread_self(), sender;
    CHECK_EQ(pthread_create(&sender, NULL, send_to_thread, &self), 0);
    unsigned long set = bit(SIGUSR1);
    while (!done) {
        CHECK_EQ(change(SIG_BLOCK, &set, NULL, 8), 0);
        int before = hits;
        be_busy(100);
        CHECK_EQ(hits, before);
        CHECK_EQ(change(SIG_UNBLOCK, &set, NULL, 8), 0);
        // Here it spins without a call for a while: what came meanwhile must come in.
        be_busy(100);
    }
    CHECK_EQ(pthread_join(sender, NULL), 0);
    CHECK_EQ(hits, 2000);
}

static void *toggle(void *unused) {
    (void)unused;
    unsigned long set = bit(SIGUSR1);
    while (!done) {
        CHECK_EQ(change(SIG_BLOCK, &set, NULL, 8), 0);
        be_busy(50);
        CHECK_EQ(change(SIG_UNBLOCK, &set, NULL, 8), 0);
    }
    return NULL;
}

TEST(signal_to_a_process_finds_the_thread_that_does_not_block_it) {
    catch_signal(SIGUSR1, hit, SA_RESTART);
    warm_up();
    unsigned long set = bit(SIGUSR1);
    pthread_t togglers[2];
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&togglers[i], NULL, toggle, NULL), 0);
    CHECK_EQ(change(SIG_BLOCK, &set, NULL, 8), 0);
    for (int i = 1; i <= 1000; i++) {
        CHECK_OK(kill(getpid(), SIGUSR1));
        while (hits < i)
            sched_yield();
    }
    done = 1;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(togglers[i], NULL), 0);
    CHECK_EQ(hits, 1000);
}

static pthread_mutex_t locks[3];

static void *die_with_lock(void *lock) {
    CHECK_EQ(pthread_mutex_lock(lock), 0);
    return NULL;
}

TEST(robust_locks_of_many_threads_are_left_behind) {
    pthread_mutexattr_t robust;
    CHECK_EQ(pthread_mutexattr_init(&robust), 0);
    CHECK_EQ(pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST), 0);
    for (int i = 0; i < OFTEN; i++) {
        pthread_mutex_t *lock = &locks[i % 3];
        CHECK_EQ(pthread_mutex_init(lock, &robust), 0);
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, die_with_lock, lock), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(pthread_mutex_lock(lock), EOWNERDEAD);
        CHECK_EQ(pthread_mutex_consistent(lock), 0);
        CHECK_EQ(pthread_mutex_unlock(lock), 0);
        CHECK_EQ(pthread_mutex_destroy(lock), 0);
    }
}

static void *fork_and_look(void *unused) {
    (void)unused;
    pid_t child = fork();
    CHECK_OK(child);
    if (child == 0)
        _exit(sched_getcpu() < 0);
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    return NULL;
}

TEST(restartable_sequences_of_many_threads_and_of_what_they_fork) {
    for (int i = 0; i < OFTEN; i++) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, fork_and_look, NULL), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
}
