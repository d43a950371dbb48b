// Does a program's processor state survive system calls, signals and fork, and may a handler change it?
#include "../harness.h"
#include <setjmp.h>
#include <ucontext.h>

static volatile int hits;
static siginfo_t last;
static sigjmp_buf back;

static void hit(int number) {
    (void)number;
    hits++;
}

static void note_and_jump(int number, siginfo_t *info, void *context) {
    (void)context;
    last = *info;
    siglongjmp(back, number);
}

static void disturb(int number) {
    // Overwrite what the interrupted code holds in vector registers and flags.
    double value = number;
    __asm__ volatile("vzeroall" ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                     "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    __asm__ volatile("fninit\n\tfldl %0\n\tfstp %%st" : : "m"(value));
    hits++;
}

static void tick_every_millisecond(void (*handler)(int)) {
    catch_signal(SIGALRM, handler, SA_RESTART);
    struct itimerval every = {{0, 1000}, {0, 1000}};
    CHECK_OK(setitimer(ITIMER_REAL, &every, NULL));
}

static void make_pattern(unsigned char *bytes, size_t size, int seed) {
    for (size_t at = 0; at < size; at++)
        bytes[at] = (unsigned char)(at * 7 + seed);
}

// Loads every vector register of a width, makes the call (number < 0: spins), stores them again.
#define VECTOR_ROUND(name, load, store)                                                                              \
    static void name(const unsigned char *in, unsigned char *out, long number) {                                      \
        long result, spin = 200000;                                                                                   \
        __asm__ volatile(load "test %[number], %[number]\n\tjs 1f\n\tmov %[number], %%rax\n\tsyscall\n\t"              \
                              "jmp 2f\n1:\n\tdec %[spin]\n\tjnz 1b\n2:\n\t" store                                     \
                         : "=&a"(result), [spin] "+&r"(spin)                                                           \
                         : [in] "r"(in), [out] "r"(out), [number] "r"(number)                                          \
                         : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",     \
                           "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                      \
    }

#define LOAD1(move, reg, at) move " " at "(%[in]), %%" reg "\n\t"
#define STORE1(move, reg, at) move " %%" reg ", " at "(%[out])\n\t"

VECTOR_ROUND(round_sse,
             LOAD1("movups", "xmm0", "0") LOAD1("movups", "xmm1", "16") LOAD1("movups", "xmm7", "32")
                 LOAD1("movups", "xmm8", "48") LOAD1("movups", "xmm14", "64") LOAD1("movups", "xmm15", "80"),
             STORE1("movups", "xmm0", "0") STORE1("movups", "xmm1", "16") STORE1("movups", "xmm7", "32")
                 STORE1("movups", "xmm8", "48") STORE1("movups", "xmm14", "64") STORE1("movups", "xmm15", "80"))

VECTOR_ROUND(round_avx,
             LOAD1("vmovups", "ymm0", "0") LOAD1("vmovups", "ymm1", "32") LOAD1("vmovups", "ymm7", "64")
                 LOAD1("vmovups", "ymm8", "96") LOAD1("vmovups", "ymm14", "128") LOAD1("vmovups", "ymm15", "160"),
             STORE1("vmovups", "ymm0", "0") STORE1("vmovups", "ymm1", "32") STORE1("vmovups", "ymm7", "64")
                 STORE1("vmovups", "ymm8", "96") STORE1("vmovups", "ymm14", "128") STORE1("vmovups", "ymm15", "160")
                     "vzeroupper\n\t")

VECTOR_ROUND(round_avx512,
             LOAD1("vmovups", "zmm0", "0") LOAD1("vmovups", "zmm15", "64") LOAD1("vmovups", "zmm16", "128")
                 LOAD1("vmovups", "zmm31", "192") LOAD1("kmovw", "k1", "256") LOAD1("kmovw", "k7", "258"),
             STORE1("vmovups", "zmm0", "0") STORE1("vmovups", "zmm15", "64") STORE1("vmovups", "zmm16", "128")
                 STORE1("vmovups", "zmm31", "192") STORE1("kmovw", "k1", "256") STORE1("kmovw", "k7", "258")
                     "vzeroupper\n\t")

typedef void vector_round(const unsigned char *in, unsigned char *out, long number);

// Rounds of system calls and of spinning in user code, with and without signals hitting them.
static void check_vectors(vector_round *round, size_t size, long number, int rounds) {
    unsigned char in[260], out[260];
    for (int at = 0; at < rounds; at++) {
        make_pattern(in, sizeof in, at);
        memset(out, 0, sizeof out);
        round(in, out, number);
        if (memcmp(in, out, size) != 0)
            guest_fail(__FILE__, __LINE__, "vector registers changed in round %d, call %ld, %d signals", at, number, hits);
    }
}

// On a processor without the extension there is nothing that could be lost.
static bool has_avx(void) { return __builtin_cpu_supports("avx"); }
static bool has_avx512(void) { return __builtin_cpu_supports("avx512f"); }

TEST(sse_state_survives_system_calls) {
    check_vectors(round_sse, 96, SYS_getppid, 500);
    check_vectors(round_sse, 96, SYS_sched_yield, 500);
}

TEST(avx_state_survives_system_calls) {
    if (has_avx()) {
        check_vectors(round_avx, 192, SYS_getppid, 500);
        check_vectors(round_avx, 192, 9999, 500);
    }
}

TEST(avx512_state_survives_system_calls) {
    if (has_avx512()) {
        check_vectors(round_avx512, 260, SYS_getppid, 500);
        check_vectors(round_avx512, 260, SYS_sched_yield, 500);
    }
}

TEST(sse_state_survives_signals) {
    tick_every_millisecond(has_avx() ? disturb : hit);
    while (hits < 50)
        check_vectors(round_sse, 96, -1, 5);
}

TEST(avx_state_survives_signals) {
    if (!has_avx())
        return;
    tick_every_millisecond(disturb);
    while (hits < 50)
        check_vectors(round_avx, 192, -1, 5);
    check_vectors(round_avx, 192, SYS_getppid, 2000);
}

TEST(avx512_state_survives_signals) {
    if (!has_avx512())
        return;
    tick_every_millisecond(disturb);
    while (hits < 50)
        check_vectors(round_avx512, 260, -1, 5);
    check_vectors(round_avx512, 260, SYS_getppid, 2000);
}

static volatile int failures;
static void *vectors_in_thread(void *argument) {
    unsigned char in[260], out[260];
    int seed = (int)(long)argument;
    for (int at = 0; at < 2000; at++) {
        make_pattern(in, sizeof in, seed + at);
        if (has_avx512()) {
            round_avx512(in, out, at % 2 ? SYS_sched_yield : SYS_getppid);
            failures += memcmp(in, out, 260) != 0;
        } else {
            round_sse(in, out, at % 2 ? SYS_sched_yield : SYS_getppid);
            failures += memcmp(in, out, 96) != 0;
        }
    }
    return NULL;
}

TEST(vector_state_is_per_thread) {
    pthread_t threads[4];
    for (long at = 0; at < 4; at++)
        CHECK_EQ(pthread_create(&threads[at], NULL, vectors_in_thread, (void *)(at * 50)), 0);
    for (int at = 0; at < 4; at++)
        CHECK_EQ(pthread_join(threads[at], NULL), 0);
    CHECK_EQ(failures, 0);
}

TEST(vector_state_is_copied_by_fork) {
    for (int round = 0; round < 10; round++) {
        unsigned char in[260], out[260] = {0};
        make_pattern(in, sizeof in, round);
        pid_t parent = getpid();
        if (has_avx512())
            round_avx512(in, out, SYS_fork);
        else
            round_sse(in, out, SYS_fork);
        size_t size = has_avx512() ? 260 : 96;
        bool same = memcmp(in, out, size) == 0;
        if (getpid() != parent)
            _exit(same ? 0 : 1);
        CHECK(same);
        int status = -1;
        CHECK(wait(&status) > 0);
        CHECK_EQ(status, 0);
    }
}

TEST(x87_state_and_control_words_survive) {
    unsigned short control = 0x0f7f, got = 0; // round to zero, extended precision
    unsigned mxcsr = 0x7f80, got_mxcsr = 0;
    double value = 1.0 / 3, after = 0;
    tick_every_millisecond(has_avx() ? disturb : hit);
    while (hits < 20) {
        long spin = 1000000;
        __asm__ volatile("fldcw %[control]\n\tldmxcsr %[mxcsr]\n\tfldl %[value]\n\tmov $110, %%eax\n\tsyscall\n"
                         "1:\n\tdec %[spin]\n\tjnz 1b\n\tfstpl %[after]\n\tfnstcw %[got]\n\tstmxcsr %[got_mxcsr]"
                         : [after] "=m"(after), [got] "=m"(got), [got_mxcsr] "=m"(got_mxcsr), [spin] "+r"(spin)
                         : [control] "m"(control), [mxcsr] "m"(mxcsr), [value] "m"(value)
                         : "rax", "rcx", "r11", "memory", "st");
        CHECK_EQ(got, control);
        CHECK_EQ(got_mxcsr, mxcsr);
        CHECK(after == value);
    }
}

TEST(signal_interrupts_a_user_space_spin_loop) {
    catch_signal(SIGUSR1, hit, 0);
    pid_t parent = getpid();
    pid_t pid = IN_CHILD(sleep_ms(20); kill(parent, SIGUSR1));
    while (hits == 0)
        ;
    CHECK_EXITS(pid, 0);
}

TEST(red_zone_survives_a_signal) {
    tick_every_millisecond(hit);
    while (hits < 30) {
        long bad = 0, spin = 1000000;
        __asm__ volatile("movq $77, -8(%%rsp)\n\tmovq $88, -120(%%rsp)\n"
                         "1:\n\tdec %1\n\tjnz 1b\n\t"
                         "cmpq $77, -8(%%rsp)\n\tjne 2f\n\tcmpq $88, -120(%%rsp)\n\tje 3f\n"
                         "2:\n\tmov $1, %0\n3:"
                         : "+r"(bad), "+r"(spin) : : "memory", "cc");
        CHECK_EQ(bad, 0);
    }
}

TEST(general_registers_and_flags_survive_a_signal) {
    tick_every_millisecond(hit);
    while (hits < 30) {
        long bad = 1;
        __asm__ volatile("mov $0x11, %%rbx\n\tmov $0x22, %%rcx\n\tmov $0x33, %%rdx\n\tmov $0x44, %%rsi\n\t"
                         "mov $0x55, %%rdi\n\tmov $0x66, %%r8\n\tmov $0x77, %%r11\n\tmov $0x88, %%r15\n\t"
                         "mov $1000000, %%rax\n1:\n\tdec %%rax\n\tjnz 1b\n\t"
                         "add %%rcx, %%rbx\n\tadd %%rdx, %%rbx\n\tadd %%rsi, %%rbx\n\tadd %%rdi, %%rbx\n\t"
                         "add %%r8, %%rbx\n\tadd %%r11, %%rbx\n\tadd %%r15, %%rbx\n\t"
                         "sub $0x264, %%rbx\n\tmov %%rbx, %0"
                         : "=r"(bad) : : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r11", "r15", "cc");
        CHECK_EQ(bad, 0);
    }
}

TEST(divide_by_zero_is_sigfpe_intdiv) {
    catch_siginfo(SIGFPE, note_and_jump, 0);
    if (sigsetjmp(back, 1) == 0)
        __asm__ volatile("xor %%edx, %%edx\n\tmov $1, %%eax\n\txor %%ecx, %%ecx\n\tdivl %%ecx"
                         ::: "eax", "ecx", "edx", "cc");
    CHECK_EQ(last.si_signo, SIGFPE);
    CHECK_EQ(last.si_code, FPE_INTDIV);
    CHECK(last.si_addr != NULL);
}

TEST(unmasked_sse_exception_is_sigfpe_fltdiv) {
    catch_siginfo(SIGFPE, note_and_jump, 0);
    if (sigsetjmp(back, 1) == 0) {
        unsigned mxcsr = 0x1f80 & ~0x200u;
        volatile double one = 1, zero = 0, result;
        __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
        result = one / zero;
        (void)result;
    }
    CHECK_EQ(last.si_signo, SIGFPE);
    CHECK_EQ(last.si_code, FPE_FLTDIV);
}

TEST(undefined_instruction_is_sigill) {
    catch_siginfo(SIGILL, note_and_jump, 0);
    if (sigsetjmp(back, 1) == 0)
        __asm__ volatile("ud2");
    CHECK_EQ(last.si_signo, SIGILL);
    CHECK_EQ(last.si_code, ILL_ILLOPN);
    CHECK(*(unsigned char *)last.si_addr == 0x0f);
}

TEST(privileged_instruction_is_sigsegv_from_the_kernel) {
    catch_siginfo(SIGSEGV, note_and_jump, 0);
    if (sigsetjmp(back, 1) == 0)
        __asm__ volatile("hlt");
    CHECK_EQ(last.si_signo, SIGSEGV);
    CHECK_EQ(last.si_code, SI_KERNEL);
}

static greg_t trap_ip;
static void note_trap(int number, siginfo_t *info, void *context) {
    (void)number;
    last = *info;
    trap_ip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100L;
    hits++;
}

TEST(breakpoint_is_sigtrap_after_the_instruction) {
    catch_siginfo(SIGTRAP, note_trap, 0);
    unsigned long after;
    __asm__ volatile("lea 1f(%%rip), %0\n\tint3\n1:" : "=&r"(after));
    CHECK_EQ(hits, 1);
    CHECK_EQ(trap_ip, after);
    CHECK_EQ(last.si_code, SI_KERNEL);
}

TEST(trap_flag_single_steps_with_sigtrap) {
    catch_siginfo(SIGTRAP, note_trap, 0);
    __asm__ volatile("sub $128, %%rsp\n\tpushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\tnop\n\tnop\n\tadd $128, %%rsp"
                     ::: "memory", "cc");
    CHECK_EQ(hits, 1);
    CHECK_EQ(last.si_code, TRAP_TRACE);
}

static void skip_two(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    registers[REG_RIP] += 2; // ud2
    registers[REG_RBX] = 0x5eed;
    hits++;
}

TEST(handler_may_change_registers_of_the_interrupted_code) {
    catch_siginfo(SIGILL, skip_two, 0);
    unsigned long value = 1;
    __asm__ volatile("ud2" : "+b"(value));
    CHECK_EQ(value, 0x5eed);
    CHECK_EQ(hits, 1);
}

static void change_vector(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    struct _libc_fpstate *state = ((ucontext_t *)context)->uc_mcontext.fpregs;
    state->_xmm[3].element[0] = 0xabcd;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

TEST(handler_may_change_vector_registers_of_the_interrupted_code) {
    catch_siginfo(SIGILL, change_vector, 0);
    unsigned value = 0;
    __asm__ volatile("pxor %%xmm3, %%xmm3\n\tud2\n\tmovd %%xmm3, %0" : "=r"(value) : : "xmm3");
    CHECK_EQ(value, 0xabcd);
}

static void change_mask(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGUSR2);
}

TEST(handler_may_change_the_mask_that_is_restored) {
    catch_siginfo(SIGUSR1, change_mask, 0);
    raise(SIGUSR1);
    sigset_t mask;
    CHECK_OK(sigprocmask(SIG_SETMASK, NULL, &mask));
    CHECK(sigismember(&mask, SIGUSR2));
}

static volatile unsigned long handler_flags;
static void note_flags(int number, siginfo_t *info, void *context) {
    handler_flags = __builtin_ia32_readeflags_u64();
    skip_two(number, info, context);
}

TEST(handler_starts_with_a_clear_direction_flag_and_restores_it) {
    catch_siginfo(SIGILL, note_flags, 0);
    unsigned long value = 0, after;
    __asm__ volatile("std\n\tud2\n\tpushfq\n\tpop %1\n\tcld" : "+b"(value), "=r"(after) : : "memory", "cc");
    CHECK_EQ(value, 0x5eed);
    CHECK_EQ(handler_flags & 0x400, 0);
    CHECK_EQ(after & 0x400, 0x400);
}

static ucontext_t main_context, other_context;
static void other_function(void) { hits = 42; }

TEST(swapcontext_switches_stacks) {
    static char stack[65536];
    CHECK_OK(getcontext(&other_context));
    other_context.uc_stack.ss_sp = stack;
    other_context.uc_stack.ss_size = sizeof stack;
    other_context.uc_link = &main_context;
    makecontext(&other_context, other_function, 0);
    CHECK_OK(swapcontext(&main_context, &other_context));
    CHECK_EQ(hits, 42);
}

TEST(signal_storm_during_system_calls_loses_nothing) {
    int ends[2];
    CHECK_OK(pipe(ends));
    tick_every_millisecond(hit);
    long sent = 0;
    while (hits < 100) {
        long back_value = -1;
        CHECK_EQ(write(ends[1], &sent, sizeof sent), (ssize_t)sizeof sent);
        CHECK_EQ(read(ends[0], &back_value, sizeof back_value), (ssize_t)sizeof back_value);
        CHECK_EQ(back_value, sent);
        sent++;
    }
}
