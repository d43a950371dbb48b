// What does a bad access look like to the program? Signal, code and address, and going on after repair.
#include "../harness.h"
#include <setjmp.h>
#include <ucontext.h>

static sigjmp_buf back;
static siginfo_t caught;
static volatile int faults;

static void jump_back(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    caught = *info;
    siglongjmp(back, 1);
}

static void check_fault(volatile char *at, bool writes, int number, int code) {
    catch_siginfo(number, jump_back, 0);
    memset(&caught, 0, sizeof caught);
    if (sigsetjmp(back, 1) == 0) {
        if (writes)
            *at = 1;
        else
            (void)*at;
    }
    CHECK_EQ(caught.si_signo, number);
    CHECK_EQ(caught.si_code, code);
    CHECK_EQ((uintptr_t)caught.si_addr, (uintptr_t)at);
}

static char *map_with(int protection, int length) {
    char *at = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

TEST(read_of_unmapped_memory_is_segv_maperr) {
    char *at = map_with(PROT_READ, GUEST_PAGE);
    CHECK_OK(munmap(at, GUEST_PAGE));
    check_fault(at + 17, false, SIGSEGV, SEGV_MAPERR);
}

TEST(null_pointer_write_is_segv_maperr_at_its_address) { check_fault((char *)8, true, SIGSEGV, SEGV_MAPERR); }

TEST(write_to_a_read_only_page_is_segv_accerr) {
    check_fault(map_with(PROT_READ, GUEST_PAGE) + 100, true, SIGSEGV, SEGV_ACCERR);
}

TEST(read_of_a_prot_none_page_is_segv_accerr) {
    check_fault(map_with(PROT_NONE, GUEST_PAGE) + 4095, false, SIGSEGV, SEGV_ACCERR);
}

TEST(jump_to_a_page_without_exec_is_segv_accerr) {
    char *at = map_with(PROT_READ | PROT_WRITE, GUEST_PAGE);
    at[0] = (char)0xc3;
    catch_siginfo(SIGSEGV, jump_back, 0);
    if (sigsetjmp(back, 1) == 0)
        ((void (*)(void))at)();
    CHECK_EQ(caught.si_code, SEGV_ACCERR);
    CHECK_EQ((uintptr_t)caught.si_addr, (uintptr_t)at);
}

TEST(non_canonical_access_is_segv_from_the_kernel_without_address) {
    catch_siginfo(SIGSEGV, jump_back, 0);
    if (sigsetjmp(back, 1) == 0)
        *(volatile char *)0x8000000000000000 = 1;
    CHECK_EQ(caught.si_signo, SIGSEGV);
    CHECK_EQ(caught.si_code, SI_KERNEL);
    CHECK_EQ((uintptr_t)caught.si_addr, 0);
}

TEST(access_beyond_the_end_of_a_mapped_file_is_sigbus_adrerr) {
    make_file("f", "short");
    int fd = CHECK_OK(open("f", O_RDWR));
    char *at = mmap(NULL, 2 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    CHECK_EQ(at[5], 0);
    check_fault(at + GUEST_PAGE, false, SIGBUS, BUS_ADRERR);
}

TEST(truncation_makes_a_mapped_page_sigbus) {
    int fd = CHECK_OK(memfd_create("m", 0));
    CHECK_OK(ftruncate(fd, 2 * GUEST_PAGE));
    char *at = mmap(NULL, 2 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    at[GUEST_PAGE] = 1;
    CHECK_OK(ftruncate(fd, GUEST_PAGE));
    check_fault(at + GUEST_PAGE, false, SIGBUS, BUS_ADRERR);
    CHECK_OK(ftruncate(fd, 2 * GUEST_PAGE));
    CHECK_EQ(at[GUEST_PAGE], 0);
}

TEST(uncaught_segv_kills_with_sigsegv) {
    pid_t pid = IN_CHILD(*(volatile int *)16 = 1);
    CHECK_KILLED(pid, SIGSEGV);
}

TEST(blocked_segv_kills_all_the_same) {
    pid_t pid = IN_CHILD(catch_siginfo(SIGSEGV, jump_back, 0); block_signal(SIGSEGV); *(volatile int *)16 = 1);
    CHECK_KILLED(pid, SIGSEGV);
}

TEST(ignored_segv_kills_all_the_same) {
    pid_t pid = IN_CHILD(signal(SIGSEGV, SIG_IGN); *(volatile int *)16 = 1);
    CHECK_KILLED(pid, SIGSEGV);
}

static void repair(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    faults++;
    mprotect((void *)((uintptr_t)info->si_addr & -GUEST_PAGE), GUEST_PAGE, PROT_READ | PROT_WRITE);
}

TEST(handler_that_repairs_the_page_resumes_the_access) {
    char *at = map_with(PROT_NONE, 8 * GUEST_PAGE);
    catch_siginfo(SIGSEGV, repair, 0);
    for (int page = 0; page < 8; page++)
        at[page * GUEST_PAGE] = (char)page;
    CHECK_EQ(faults, 8);
    CHECK_EQ(at[7 * GUEST_PAGE], 7);
}

static void note_context(int number, siginfo_t *info, void *context) {
    const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    if (registers[REG_CR2] == (greg_t)(uintptr_t)info->si_addr && registers[REG_TRAPNO] == 14)
        faults = 100 + (int)(registers[REG_ERR] & 7);
    siglongjmp(back, 1);
}

TEST(fault_context_holds_cr2_trapno_and_error_code) {
    char *at = map_with(PROT_READ, GUEST_PAGE);
    (void)*(volatile char *)at;
    catch_siginfo(SIGSEGV, note_context, 0);
    if (sigsetjmp(back, 1) == 0)
        *(volatile char *)at = 1;
    CHECK_EQ(faults, 107); // user, write, protection
}

static void *fault_in_thread(void *argument) {
    *(volatile char *)argument = 1;
    return NULL;
}

static volatile pid_t fault_tid;
static void repair_and_note(int number, siginfo_t *info, void *context) {
    fault_tid = (pid_t)syscall(SYS_gettid);
    repair(number, info, context);
}

TEST(fault_is_delivered_to_the_faulting_thread) {
    char *at = map_with(PROT_NONE, GUEST_PAGE);
    catch_siginfo(SIGSEGV, repair_and_note, 0);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fault_in_thread, at), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(faults, 1);
    CHECK(fault_tid != 0 && fault_tid != getpid());
}

TEST(kernel_reads_up_to_the_fault_and_returns_what_fits) {
    char *at = map_with(PROT_READ | PROT_WRITE, 2 * GUEST_PAGE);
    CHECK_OK(mprotect(at + GUEST_PAGE, GUEST_PAGE, PROT_NONE));
    memset(at, 'z', GUEST_PAGE);
    int fd = CHECK_OK(open("f", O_CREAT | O_RDWR, 0644));
    CHECK_EQ(write(fd, at + GUEST_PAGE - 10, 20), 10);
    CHECK_ERR(write(fd, at + GUEST_PAGE, 20), EFAULT);
}

TEST(process_vm_readv_reads_the_childs_memory) {
    static char secret[] = "parent's";
    struct gate ready;
    struct gate done;
    gate_init(&ready);
    gate_init(&done);
    pid_t pid = IN_CHILD(strcpy(secret, "child's"); gate_open(&ready); gate_wait(&done));
    gate_wait(&ready);
    char copy[9] = "";
    struct iovec local = {copy, 8}, remote = {secret, 8};
    CHECK_EQ(process_vm_readv(pid, &local, 1, &remote, 1, 0), 8);
    CHECK_STR(copy, "child's");
    gate_open(&done);
    CHECK_EXITS(pid, 0);
}
