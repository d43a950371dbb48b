// A thread's %gs base: set by a call or by the instruction, it is the thread's own over everything that enters the kernel.
#include "../harness.h"
#include <linux/futex.h>
#include <sys/auxv.h>
#include <ucontext.h>

enum { SET_GS = 0x1001, GET_GS = 0x1004, MANY = 40 };

static unsigned long areas[8][4];

static unsigned long get_base(void) {
    unsigned long base = 1;
    CHECK_OK(syscall(SYS_arch_prctl, GET_GS, &base));
    return base;
}
static void set_base(const void *base) { CHECK_OK(syscall(SYS_arch_prctl, SET_GS, base)); }
static unsigned long second_word(void) {
    unsigned long word;
    __asm__ volatile("movq %%gs:8, %0" : "=r"(word));
    return word;
}
static bool has_instructions(void) { return getauxval(AT_HWCAP2) & 2; }
static unsigned long read_base(void) {
    unsigned long base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}
static void write_base(const void *base) { __asm__ volatile("wrgsbase %0" : : "r"(base) : "memory"); }

// Calls by which a thread enters the kernel often enough that any way of entering it will have been used.
static void enter_often(void) {
    int word = 0;
    struct timespec now;
    for (int at = 0; at < MANY; at++) {
        getppid();
        CHECK_OK(syscall(SYS_getpid));
        CHECK_OK(syscall(SYS_gettid));
        sched_yield();
        CHECK_OK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now));
        CHECK_ERR(syscall(SYS_futex, &word, FUTEX_WAIT, 1, NULL), EAGAIN);
        CHECK_ERR(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &(struct timespec){0, 1000}), ETIMEDOUT);
        CHECK_OK(syscall(SYS_futex, &word, FUTEX_WAKE, 1));
        CHECK_ERR(close(-1), EBADF);
        sigset_t mask;
        CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &mask));
        CHECK(mmap(NULL, GUEST_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    }
}

TEST(gs_base_is_zero_at_first_and_then_what_was_set) {
    CHECK_EQ(get_base(), 0);
    areas[0][1] = 77;
    set_base(areas[0]);
    CHECK_EQ(get_base(), (unsigned long)areas[0]);
    CHECK_EQ(second_word(), 77);
    set_base(NULL);
    CHECK_EQ(get_base(), 0);
    CHECK_ERR(syscall(SYS_arch_prctl, SET_GS, 1UL << 62), EPERM);
    CHECK_ERR(syscall(SYS_arch_prctl, GET_GS, 8), EFAULT);
}

TEST(gs_base_is_kept_over_calls) {
    enter_often();
    areas[0][1] = 77;
    set_base(areas[0]);
    enter_often();
    CHECK_EQ(get_base(), (unsigned long)areas[0]);
    CHECK_EQ(second_word(), 77);
    CHECK_EQ(areas[0][0] | areas[0][2] | areas[0][3], 0);
    set_base(NULL);
    enter_often();
    CHECK_EQ(get_base(), 0);
}

TEST(gs_base_that_an_instruction_set_is_kept_over_calls) {
    if (!has_instructions())
        return;
    enter_often();
    // Much more than the kernel may think it may write to behind it.
    static char wide[3][65536];
    for (int at = 0; at < 3; at++) {
        write_base(wide[at]);
        enter_often();
        CHECK_EQ(read_base(), (unsigned long)wide[at]);
        CHECK_EQ(get_base(), (unsigned long)wide[at]);
        for (size_t byte = 0; byte < sizeof wide[at]; byte++)
            CHECK_EQ(wide[at][byte], 0);
    }
    // To where nothing is, and nothing can be.
    const void *others[] = {(void *)0x10, (void *)0x7fffffffe000, (void *)0x550000000000};
    for (int at = 0; at < 3; at++) {
        write_base(others[at]);
        enter_often();
        CHECK_EQ(read_base(), (unsigned long)others[at]);
    }
    write_base(NULL);
    enter_often();
    CHECK_EQ(get_base(), 0);
}

static volatile unsigned long in_handler;
static void on_signal(int number) {
    (void)number;
    in_handler = get_base();
    enter_often();
}
static void on_fault(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    in_handler = get_base();
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

TEST(gs_base_is_kept_in_handlers_and_after_them) {
    areas[0][1] = 77;
    set_base(areas[0]);
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
    CHECK_EQ(in_handler, (unsigned long)areas[0]);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    CHECK_OK(sigaction(SIGILL, &action, NULL));
    in_handler = 0;
    __asm__ volatile("ud2");
    CHECK_EQ(in_handler, (unsigned long)areas[0]);
    CHECK_EQ(get_base(), (unsigned long)areas[0]);
    CHECK_EQ(second_word(), 77);
}

static void *of_thread(void *argument) {
    unsigned long *area = argument;
    CHECK_EQ(get_base(), (unsigned long)areas[0]);
    set_base(area);
    enter_often();
    CHECK_EQ(get_base(), (unsigned long)area);
    CHECK_EQ(second_word(), area[1]);
    return NULL;
}

TEST(gs_base_is_a_threads_own_and_begins_as_its_makers) {
    areas[0][1] = 100;
    set_base(areas[0]);
    // Twice: the second time they may be made of what the first have left.
    for (int round = 0; round < 2; round++) {
        pthread_t threads[7];
        for (long at = 1; at < 8; at++) {
            areas[at][1] = 100 + (unsigned long)at;
            CHECK_EQ(pthread_create(&threads[at - 1], NULL, of_thread, areas[at]), 0);
        }
        for (int at = 0; at < 7; at++)
            pthread_join(threads[at], NULL);
        CHECK_EQ(second_word(), 100);
    }
    set_base(NULL);
    areas[0][1] = 0;
}

static void *without_base(void *unused) {
    (void)unused;
    CHECK_EQ(get_base(), 0);
    return NULL;
}

TEST(a_thread_after_one_with_a_gs_base_begins_without) {
    for (int round = 0; round < 4; round++) {
        pthread_t thread;
        set_base(areas[0]);
        CHECK_EQ(pthread_create(&thread, NULL, of_thread, areas[1]), 0);
        pthread_join(thread, NULL);
        set_base(NULL);
        CHECK_EQ(pthread_create(&thread, NULL, without_base, NULL), 0);
        pthread_join(thread, NULL);
    }
}

HELPER(tell_gs_base) { return get_base() == 0 ? 0 : 1; }

TEST(a_child_has_the_gs_base_and_a_new_program_has_none) {
    areas[0][1] = 77;
    set_base(areas[0]);
    CHECK_EXITS(IN_CHILD(CHECK_EQ(second_word(), 77); enter_often(); CHECK_EQ(second_word(), 77)), 0);
    pid_t pid = vfork();
    if (pid == 0)
        _exit(get_base() == (unsigned long)areas[0] && second_word() == 77 ? 0 : 1);
    CHECK_EXITS(pid, 0);
    pid = spawn_helper("tell_gs_base", NULL);
    CHECK_EXITS(pid, 0);
    CHECK_EQ(second_word(), 77);
}

static atomic_uint handled;
static void count(int number) {
    (void)number;
    atomic_fetch_add(&handled, 1);
}
static atomic_bool is_over;
static void *with_base(void *argument) {
    unsigned long *area = argument;
    int word = 0;
    bool by_instruction = has_instructions();
    for (long round = 0; !atomic_load(&is_over); round++) {
        unsigned long *base = round % 3 ? area : NULL;
        if (by_instruction && round % 2)
            write_base(base);
        else
            set_base(base);
        if (base)
            CHECK_EQ(second_word(), area[1]);
        getppid();
        CHECK_EQ(syscall(SYS_futex, &word, FUTEX_WAKE, 1), 0);
        CHECK_EQ(get_base(), (unsigned long)base);
        syscall(SYS_futex, &word, FUTEX_WAIT, 0, &(struct timespec){0, 100000});
        CHECK_EQ(get_base(), (unsigned long)base);
    }
    return NULL;
}

TEST(gs_base_survives_a_storm_of_signals) {
    signal(SIGUSR1, count);
    pthread_t threads[2];
    for (long at = 0; at < 2; at++) {
        areas[at][1] = 100 + (unsigned long)at;
        CHECK_EQ(pthread_create(&threads[at], NULL, with_base, areas[at]), 0);
    }
    while (atomic_load(&handled) < 1000) {
        pthread_kill(threads[0], SIGUSR1);
        pthread_kill(threads[1], SIGUSR1);
        usleep(50);
    }
    atomic_store(&is_over, true);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
}
