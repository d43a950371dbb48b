// Does code that is made, changed, copied or entered sideways run as written? (A sandbox may rewrite call sites.)
#include "../harness.h"

enum { ENTRY = 0, SYSCALL_AT = 5 };

// mov $39,%eax (getpid); syscall; ret: the pattern that a sandbox rewrites.
static const unsigned char getpid_code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
// mov $imm,%eax; ret
static const unsigned char constant_code[] = {0xb8, 1, 0, 0, 0, 0xc3};

typedef long (*code)(void);

static unsigned char *map_code(int protection) {
    void *at = mmap(NULL, 2 * GUEST_PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static unsigned char *rwx_with(const unsigned char *bytes, size_t length) {
    unsigned char *at = map_code(PROT_READ | PROT_WRITE | PROT_EXEC);
    memcpy(at, bytes, length);
    return at;
}

// Enters the code at its `syscall` instruction with the number already in rax.
static long enter_at_syscall(unsigned char *at, long number) {
    long result;
    __asm__ volatile("sub $128, %%rsp\n\tcall *%2\n\tadd $128, %%rsp"
                     : "=a"(result) : "a"(number), "r"(at + SYSCALL_AT) : "rcx", "r11", "memory");
    return result;
}

TEST(written_code_runs_in_an_rwx_page) {
    CHECK_EQ(((code)rwx_with(constant_code, sizeof constant_code))(), 1);
}

TEST(rewritten_function_runs_the_new_code) {
    unsigned char *at = rwx_with(constant_code, sizeof constant_code);
    for (int value = 0; value < 200; value++) {
        at[1] = (unsigned char)value;
        CHECK_EQ(((code)at)(), value);
    }
}

TEST(mprotect_flip_from_writable_to_executable_runs) {
    unsigned char *at = map_code(PROT_READ | PROT_WRITE);
    for (int value = 0; value < 50; value++) {
        CHECK_OK(mprotect(at, GUEST_PAGE, PROT_READ | PROT_WRITE));
        memcpy(at, constant_code, sizeof constant_code);
        at[1] = (unsigned char)value;
        CHECK_OK(mprotect(at, GUEST_PAGE, PROT_READ | PROT_EXEC));
        CHECK_EQ(((code)at)(), value);
    }
}

TEST(system_call_site_answers_a_thousand_times) {
    code run = (code)rwx_with(getpid_code, sizeof getpid_code);
    for (int round = 0; round < 1000; round++)
        CHECK_EQ(run(), getpid());
}

// cmpb $1,flag(%rip); jne other; xor %eax,%eax; syscall; ret; other: mov $39,%eax; syscall; ret; flag: as read(2) is in the C library.
enum { TEST_AT = 0, TEST_LENGTH = 7, XOR_AT = 9, READ_AT = 11, OTHER_AT = 14, FLAG_AT = 24 };
static const unsigned char read_code[] = {0x80, 0x3d, FLAG_AT - TEST_LENGTH, 0, 0, 0, 1, 0x75, OTHER_AT - XOR_AT, 0x31, 0xc0, 0x0f,
                                          0x05, 0xc3, 0xb8, 39,   0,    0,   0, 0x0f, 0x05, 0xc3, 0x90, 0x90, 1};

typedef long (*read_like)(int fd, void *buffer, size_t length);

TEST(call_site_behind_a_test_and_a_jump_does_both) {
    unsigned char *at = rwx_with(read_code, sizeof read_code);
    for (int round = 0; round < 100; round++) {
        CHECK_EQ(((read_like)at)(-1, NULL, 0), -EBADF);
        at[FLAG_AT] = 2;
        CHECK_EQ(((read_like)at)(-1, NULL, 0), getpid());
        at[FLAG_AT] = 1;
        CHECK_EQ(((read_like)(at + XOR_AT))(-1, NULL, 0), -EBADF);
        CHECK_EQ(((read_like)(at + OTHER_AT))(-1, NULL, 0), getpid());
    }
}

// Executable code that the program cannot write: this is what a sandbox dares to rewrite.
static unsigned char *rx_with(const unsigned char *bytes, size_t length) {
    unsigned char *at = map_code(PROT_READ | PROT_WRITE);
    memcpy(at, bytes, length);
    CHECK_OK(mprotect(at, GUEST_PAGE, PROT_READ | PROT_EXEC));
    return at;
}

TEST(call_site_in_read_only_code_answers_however_it_is_entered) {
    unsigned char *at = rx_with(getpid_code, sizeof getpid_code);
    unsigned char *reader = rx_with(read_code, sizeof read_code);
    for (int round = 0; round < 100; round++) {
        CHECK_EQ(((code)at)(), getpid());
        CHECK_EQ(enter_at_syscall(at, SYS_getppid), getppid());
        CHECK_EQ(((read_like)reader)(-1, NULL, 0), -EBADF);
        CHECK_EQ(((read_like)(reader + XOR_AT))(-1, NULL, 0), -EBADF);
        CHECK_EQ(((read_like)(reader + OTHER_AT))(-1, NULL, 0), getpid());
    }
    pid_t pid = IN_CHILD(for (int round = 0; round < 20; round++) {
        CHECK_EQ(((code)at)(), syscall(SYS_getpid));
        CHECK_EQ(((read_like)reader)(-1, NULL, 0), -EBADF);
    });
    CHECK_EXITS(pid, 0);
}

// mov 8(%rsp),%rax; syscall; ret: the number is known at the call only, as in syscall(3).
static const unsigned char stack_code[] = {0x48, 0x8b, 0x44, 0x24, 0x08, 0x0f, 0x05, 0xc3};

static long call_with_number_on_the_stack(unsigned char *at, long number) {
    long result;
    __asm__ volatile("sub $128, %%rsp\n\tpush %1\n\tcall *%2\n\tadd $136, %%rsp"
                     : "=a"(result) : "r"(number), "r"(at), "D"(0L), "S"(0L), "d"(0L) : "rcx", "r11", "memory");
    return result;
}

TEST(call_site_with_a_number_from_memory_makes_every_call) {
    unsigned char *at = rx_with(stack_code, sizeof stack_code);
    for (int round = 0; round < 100; round++) {
        CHECK_EQ(call_with_number_on_the_stack(at, SYS_getpid), getpid());
        CHECK_EQ(call_with_number_on_the_stack(at, SYS_getppid), getppid());
        CHECK_EQ(call_with_number_on_the_stack(at, SYS_futex), -EFAULT);
        CHECK_EQ(call_with_number_on_the_stack(at, 20000), -ENOSYS);
    }
}

static unsigned char *faulting_site;
static volatile long fault_at;
static void note_where(int number, siginfo_t *info, void *context) {
    (void)number;
    fault_at = (long)info->si_addr;
    ucontext_t *state = context;
    CHECK_EQ(state->uc_mcontext.gregs[REG_RIP], (long)faulting_site);
    // Once more, with an address that can be read.
    state->uc_mcontext.gregs[REG_RDI] = state->uc_mcontext.gregs[REG_RSP];
}

// mov 0x100(%rdi),%rdx; xor %eax,%eax; add $39,%al; syscall; ret
static const unsigned char loading_code[] = {0x48, 0x8b, 0x97, 0, 1, 0, 0, 0x31, 0xc0, 0x04, 39, 0x0f, 0x05, 0xc3};

TEST(fault_at_a_known_call_site_is_reported_at_its_own_address) {
    faulting_site = rx_with(loading_code, sizeof loading_code);
    struct sigaction action = {.sa_sigaction = note_where, .sa_flags = SA_SIGINFO};
    CHECK_OK(sigaction(SIGSEGV, &action, NULL));
    static char room[0x200];
    for (int round = 0; round < 50; round++)
        CHECK_EQ(((read_like)faulting_site)((int)(long)0, NULL, 0), getpid());
    CHECK_EQ(fault_at, 0x100);
    for (int round = 0; round < 50; round++)
        CHECK_EQ(((long (*)(void *))faulting_site)(room), getpid());
    fault_at = 0;
    CHECK_EQ(((long (*)(void *))faulting_site)(NULL), getpid());
    CHECK_EQ(fault_at, 0x100);
}

static code shared_site;
static void *call_site_often(void *argument) {
    long want = getpid();
    (void)argument;
    for (int round = 0; round < 1000; round++)
        if (shared_site() != want)
            return (void *)1;
    return NULL;
}

TEST(system_call_site_answers_in_many_threads_at_once) {
    for (int site = 0; site < 10; site++) {
        shared_site = (code)rwx_with(getpid_code, sizeof getpid_code);
        pthread_t threads[4];
        for (int at = 0; at < 4; at++)
            CHECK_EQ(pthread_create(&threads[at], NULL, call_site_often, NULL), 0);
        for (int at = 0; at < 4; at++) {
            void *wrong;
            CHECK_EQ(pthread_join(threads[at], &wrong), 0);
            CHECK(wrong == NULL);
        }
    }
}

TEST(jump_to_the_syscall_instruction_itself_works) {
    unsigned char *at = rwx_with(getpid_code, sizeof getpid_code);
    for (int round = 0; round < 100; round++) {
        CHECK_EQ(((code)at)(), getpid());
        CHECK_EQ(enter_at_syscall(at, SYS_getpid), getpid());
        CHECK_EQ(enter_at_syscall(at, SYS_getppid), getppid());
    }
}

TEST(syscall_instruction_with_another_number_at_a_known_site_works) {
    unsigned char *at = rwx_with(getpid_code, sizeof getpid_code);
    CHECK_EQ(((code)at)(), getpid());
    CHECK_EQ(enter_at_syscall(at, 9999), -ENOSYS);
    CHECK_EQ(((code)at)(), getpid());
}

TEST(copied_call_site_works_at_its_new_address) {
    unsigned char *at = rwx_with(getpid_code, sizeof getpid_code);
    for (int round = 0; round < 20; round++)
        CHECK_EQ(((code)at)(), getpid());
    unsigned char *copy = map_code(PROT_READ | PROT_WRITE);
    memcpy(copy + 100, at, sizeof getpid_code);
    CHECK_OK(mprotect(copy, GUEST_PAGE, PROT_READ | PROT_EXEC));
    for (int round = 0; round < 20; round++)
        CHECK_EQ(((code)(copy + 100))(), getpid());
}

TEST(moved_call_site_works_at_its_new_address) {
    unsigned char *at = rwx_with(getpid_code, sizeof getpid_code);
    for (int round = 0; round < 20; round++)
        CHECK_EQ(((code)at)(), getpid());
    unsigned char *target = map_code(PROT_NONE);
    void *moved = mremap(at, GUEST_PAGE, GUEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    CHECK(moved == target);
    for (int round = 0; round < 20; round++)
        CHECK_EQ(((code)target)(), getpid());
}

TEST(page_unmapped_and_mapped_again_runs_the_new_code) {
    unsigned char *at = rwx_with(getpid_code, sizeof getpid_code);
    for (int round = 0; round < 20; round++)
        CHECK_EQ(((code)at)(), getpid());
    CHECK_OK(munmap(at, GUEST_PAGE));
    CHECK(mmap(at, GUEST_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
    CHECK_EQ(at[0], 0);
    memcpy(at, constant_code, sizeof constant_code);
    CHECK_EQ(((code)at)(), 1);
}

TEST(known_call_site_overwritten_runs_the_new_code) {
    unsigned char *at = rwx_with(getpid_code, sizeof getpid_code);
    for (int round = 0; round < 20; round++)
        CHECK_EQ(((code)at)(), getpid());
    memcpy(at, constant_code, sizeof constant_code);
    CHECK_EQ(((code)at)(), 1);
    memcpy(at, getpid_code, sizeof getpid_code);
    CHECK_EQ(((code)at)(), getpid());
    at[1] = SYS_getppid;
    CHECK_EQ(((code)at)(), getppid());
}

TEST(madvise_dontneed_drops_written_code) {
    unsigned char *at = rwx_with(getpid_code, sizeof getpid_code);
    for (int round = 0; round < 20; round++)
        CHECK_EQ(((code)at)(), getpid());
    CHECK_OK(madvise(at, GUEST_PAGE, MADV_DONTNEED));
    for (size_t offset = 0; offset < 16; offset++)
        CHECK_EQ(at[offset], 0);
}

TEST(call_site_across_a_page_boundary_works) {
    unsigned char *at = map_code(PROT_READ | PROT_WRITE | PROT_EXEC);
    for (int before = 1; before < 8; before++) {
        unsigned char *site = at + GUEST_PAGE - before;
        memset(at, 0x90, 2 * GUEST_PAGE);
        memcpy(site, getpid_code, sizeof getpid_code);
        for (int round = 0; round < 20; round++)
            CHECK_EQ(((code)site)(), getpid());
    }
}

TEST(call_site_works_in_the_child_after_fork) {
    code run = (code)rwx_with(getpid_code, sizeof getpid_code);
    for (int round = 0; round < 20; round++)
        CHECK_EQ(run(), getpid());
    pid_t pid = IN_CHILD(for (int round = 0; round < 20; round++) CHECK_EQ(run(), syscall(SYS_getpid)));
    CHECK_EXITS(pid, 0);
    CHECK_EQ(run(), getpid());
}

TEST(code_page_of_a_mapped_file_is_not_changed_in_the_file) {
    int fd = CHECK_OK(open("code", O_CREAT | O_RDWR, 0755));
    CHECK_EQ(write(fd, getpid_code, sizeof getpid_code), (ssize_t)sizeof getpid_code);
    void *at = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    CHECK(at != MAP_FAILED);
    for (int round = 0; round < 20; round++)
        CHECK_EQ(((code)at)(), getpid());
    unsigned char bytes[sizeof getpid_code];
    CHECK_EQ(pread(fd, bytes, sizeof bytes, 0), (ssize_t)sizeof bytes);
    CHECK(memcmp(bytes, getpid_code, sizeof bytes) == 0);
}

TEST(call_site_in_a_shared_file_mapping_works_and_keeps_the_file) {
    int fd = CHECK_OK(memfd_create("code", 0));
    CHECK_EQ(write(fd, getpid_code, sizeof getpid_code), (ssize_t)sizeof getpid_code);
    void *at = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    for (int round = 0; round < 20; round++)
        CHECK_EQ(((code)at)(), getpid());
    unsigned char bytes[sizeof getpid_code];
    CHECK_EQ(pread(fd, bytes, sizeof bytes, 0), (ssize_t)sizeof bytes);
    CHECK(memcmp(bytes, getpid_code, sizeof bytes) == 0);
}

TEST(read_only_call_site_answers_in_threads_that_come_while_it_gets_busy) {
    for (int site = 0; site < 10; site++) {
        shared_site = (code)rx_with(getpid_code, sizeof getpid_code);
        pthread_t threads[4];
        for (int at = 0; at < 4; at++)
            CHECK_EQ(pthread_create(&threads[at], NULL, call_site_often, NULL), 0);
        for (int at = 0; at < 4; at++) {
            void *wrong;
            CHECK_EQ(pthread_join(threads[at], &wrong), 0);
            CHECK(wrong == NULL);
        }
    }
}

static volatile int ticks;
static void count_tick(int number) {
    (void)number;
    ticks++;
}

TEST(signals_may_hit_a_busy_call_site) {
    code run = (code)rwx_with(getpid_code, sizeof getpid_code);
    catch_signal(SIGALRM, count_tick, 0);
    struct itimerval every = {{0, 500}, {0, 500}};
    CHECK_OK(setitimer(ITIMER_REAL, &every, NULL));
    long want = getpid();
    while (ticks < 100)
        CHECK_EQ(run(), want);
    struct itimerval never = {{0, 0}, {0, 0}};
    CHECK_OK(setitimer(ITIMER_REAL, &never, NULL));
}

TEST(signals_may_hit_a_busy_read_only_call_site) {
    unsigned char *reader = rx_with(read_code, sizeof read_code);
    code run = (code)rx_with(getpid_code, sizeof getpid_code);
    catch_signal(SIGALRM, count_tick, 0);
    struct itimerval every = {{0, 500}, {0, 500}};
    CHECK_OK(setitimer(ITIMER_REAL, &every, NULL));
    long want = getpid();
    ticks = 0;
    while (ticks < 100) {
        CHECK_EQ(run(), want);
        CHECK_EQ(((read_like)reader)(-1, NULL, 0), -EBADF);
    }
    struct itimerval never = {{0, 0}, {0, 0}};
    CHECK_OK(setitimer(ITIMER_REAL, &never, NULL));
}

TEST(restarted_call_of_a_busy_site_goes_on_waiting) {
    int ends[2];
    char byte = 0;
    unsigned char *reader = rx_with(read_code, sizeof read_code);
    for (int round = 0; round < 50; round++)
        CHECK_EQ(((read_like)reader)(-1, NULL, 0), -EBADF);
    CHECK_OK(pipe(ends));
    catch_signal(SIGALRM, count_tick, SA_RESTART);
    ticks = 0;
    pid_t pid = IN_CHILD(usleep(50000); CHECK_EQ(write(ends[1], "x", 1), 1));
    struct itimerval soon = {{0, 0}, {0, 10000}};
    CHECK_OK(setitimer(ITIMER_REAL, &soon, NULL));
    CHECK_EQ(((read_like)reader)(ends[0], &byte, 1), 1);
    CHECK_EQ(byte, 'x');
    CHECK_EQ(ticks, 1);
    CHECK_EXITS(pid, 0);
}

TEST(red_zone_survives_a_system_call) {
    long result, below;
    __asm__ volatile("movq $0x1234567, -8(%%rsp)\n\tmovq $0x7654321, -128(%%rsp)\n\t"
                     "mov $39, %%eax\n\tsyscall\n\t"
                     "movq -8(%%rsp), %1\n\taddq -128(%%rsp), %1"
                     : "=&a"(result), "=&r"(below) : : "rcx", "r11", "memory");
    CHECK_EQ(result, getpid());
    CHECK_EQ(below, 0x1234567 + 0x7654321);
}

TEST(system_call_with_a_wild_stack_pointer_works) {
    // No stack is needed to enter the kernel: rsp may be anything.
    for (int round = 0; round < 20; round++) {
        long result;
        __asm__ volatile("mov %%rsp, %%rbx\n\tmov $0x10, %%rsp\n\tmov $39, %%eax\n\tsyscall\n\tmov %%rbx, %%rsp"
                         : "=&a"(result) : : "rbx", "rcx", "r11", "memory");
        CHECK_EQ(result, getpid());
    }
}

TEST(unknown_bits_above_eax_in_the_number_are_enosys) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(0x100000000L + 20000) : "rcx", "r11", "memory");
    CHECK_EQ(result, -ENOSYS);
}
