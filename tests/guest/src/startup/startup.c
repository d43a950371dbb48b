// What does a program find when it starts? Arguments, environment, auxiliary vector, stack, heap, vDSO.
#include "../harness.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

extern char **environ;
static uintptr_t stack_at_start;

__attribute__((constructor)) static void remember_stack(void) {
    stack_at_start = (uintptr_t)__builtin_frame_address(0);
}

HELPER(print_args) {
    // "a", "", "b c" and an environment of exactly two.
    if (argc != 3 || strcmp(argv[0], "a") || strcmp(argv[1], "") || strcmp(argv[2], "b c") || argv[3])
        return 1;
    if (!environ[0] || !environ[1] || environ[2])
        return 2;
    return strcmp(environ[0], "ONE=1") || strcmp(environ[1], "TWO=") ? 3 : 0;
}

TEST(execve_passes_arguments_and_environment) {
    char *arguments[] = {(char *)self_path(), "--helper", "print_args", "a", "", "b c", NULL};
    char *environment[] = {"ONE=1", "TWO=", NULL};
    pid_t pid = IN_CHILD(execve(self_path(), arguments, environment));
    CHECK_EXITS(pid, 0);
}

HELPER(empty_environment) { return environ[0] != NULL; }

TEST(execve_with_null_environment_gives_an_empty_one) {
    char *arguments[] = {(char *)self_path(), "--helper", "empty_environment", NULL};
    pid_t pid = IN_CHILD(syscall(SYS_execve, self_path(), arguments, NULL));
    CHECK_EXITS(pid, 0);
}

HELPER(entry_stack) {
    // argv, its strings, environ and the auxiliary vector lie in this order above the first stack pointer.
    uintptr_t argv_at = (uintptr_t)(argv - 3);
    if ((argv_at - 8) % 16)
        return 1;
    if (*(long *)(argv_at - 8) != argc + 3)
        return 2;
    if ((uintptr_t)environ != argv_at + (argc + 3 + 1) * 8)
        return 3;
    char **end = environ;
    while (*end)
        end++;
    Elf64_auxv_t *vector = (Elf64_auxv_t *)(end + 1);
    for (; vector->a_type != AT_NULL; vector++)
        if (vector->a_type == AT_PAGESZ)
            return vector->a_un.a_val == 4096 ? 0 : 4;
    return 5;
}

TEST(entry_stack_is_aligned_and_laid_out_as_the_abi_says) { CHECK_EXITS(spawn_helper("entry_stack", "x"), 0); }

TEST(auxv_pagesz_is_4096) { CHECK_EQ(getauxval(AT_PAGESZ), 4096); }

TEST(auxv_clktck_is_100) { CHECK_EQ(getauxval(AT_CLKTCK), 100); }

TEST(auxv_random_points_at_sixteen_bytes_that_differ_between_runs) {
    const unsigned char *bytes = (const unsigned char *)getauxval(AT_RANDOM);
    CHECK(bytes != NULL);
    int zeroes = 0;
    for (int at = 0; at < 16; at++)
        zeroes += bytes[at] == 0;
    CHECK(zeroes < 8);
}

HELPER(random_bytes) {
    const char *bytes = (const char *)getauxval(AT_RANDOM);
    return write(STDOUT_FILENO, bytes, 16) == 16 ? 0 : 1;
}

TEST(auxv_random_is_new_in_every_program) {
    char bytes[2][16];
    for (int run = 0; run < 2; run++) {
        int ends[2];
        CHECK_OK(pipe(ends));
        pid_t pid = IN_CHILD(dup2(ends[1], 1);
                             execl(self_path(), self_path(), "--helper", "random_bytes", NULL));
        CHECK_EXITS(pid, 0);
        CHECK_EQ(read(ends[0], bytes[run], 16), 16);
        close(ends[0]);
        close(ends[1]);
    }
    CHECK(memcmp(bytes[0], bytes[1], 16) != 0);
}

TEST(auxv_execfn_names_the_program) {
    const char *name = (const char *)getauxval(AT_EXECFN);
    CHECK(name != NULL);
    CHECK(strrchr(name, '/') != NULL);
    CHECK_STR(strrchr(name, '/'), strrchr(self_path(), '/'));
}

TEST(auxv_phdr_holds_the_programs_headers) {
    const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
    CHECK(headers != NULL);
    CHECK_EQ(getauxval(AT_PHENT), sizeof(Elf64_Phdr));
    bool load = false;
    for (unsigned long at = 0; at < getauxval(AT_PHNUM); at++)
        load |= headers[at].p_type == PT_LOAD;
    CHECK(load);
}

TEST(auxv_entry_lies_in_executable_memory) {
    unsigned long entry = getauxval(AT_ENTRY);
    CHECK(entry != 0);
    CHECK(*(volatile unsigned char *)entry != 0);
}

TEST(auxv_ids_are_those_of_the_process) {
    CHECK_EQ(getauxval(AT_UID), getuid());
    CHECK_EQ(getauxval(AT_EUID), geteuid());
    CHECK_EQ(getauxval(AT_GID), getgid());
    CHECK_EQ(getauxval(AT_EGID), getegid());
    CHECK_EQ(getauxval(AT_SECURE), 0);
}

TEST(auxv_platform_is_x86_64) {
    const char *platform = (const char *)getauxval(AT_PLATFORM);
    CHECK(platform != NULL);
    CHECK_STR(platform, "x86_64");
}

TEST(auxv_hwcap_lists_features_that_cpuid_has) {
    // Not by getauxval: a static glibc answers AT_HWCAP with bits of its own.
    char **end = environ;
    while (*end)
        end++;
    unsigned hwcap = 0;
    for (Elf64_auxv_t *vector = (Elf64_auxv_t *)(end + 1); vector->a_type != AT_NULL; vector++)
        if (vector->a_type == AT_HWCAP)
            hwcap = vector->a_un.a_val;
    unsigned a = 1, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    CHECK(hwcap & (1u << 26)); // SSE2
    CHECK_EQ(hwcap & ~d, 0);
}

TEST(vdso_is_an_elf_image_with_clock_gettime) {
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)getauxval(AT_SYSINFO_EHDR);
    CHECK(header != NULL);
    CHECK(memcmp(header->e_ident, ELFMAG, SELFMAG) == 0);
    CHECK_EQ(header->e_machine, EM_X86_64);
    bool found = false;
    for (const char *at = (const char *)header; at < (const char *)header + 4000; at++)
        found |= !memcmp(at, "__vdso_clock_gettime", 20);
    CHECK(found);
}

TEST(vdso_clock_agrees_with_the_system_call) {
    for (int clock = CLOCK_REALTIME; clock <= CLOCK_MONOTONIC; clock++) {
        struct timespec before, middle, after;
        CHECK_OK(syscall(SYS_clock_gettime, clock, &before));
        CHECK_OK(clock_gettime(clock, &middle));
        CHECK_OK(syscall(SYS_clock_gettime, clock, &after));
        long long first = before.tv_sec * 1000000000LL + before.tv_nsec;
        long long second = middle.tv_sec * 1000000000LL + middle.tv_nsec;
        long long third = after.tv_sec * 1000000000LL + after.tv_nsec;
        CHECK(first <= second + 1000000);
        CHECK(second <= third + 1000000);
    }
}

TEST(brk_grows_zeroed_memory_and_shrinks) {
    char *start = (char *)CHECK_OK((long)sbrk(0));
    CHECK_EQ((long)sbrk(3 * GUEST_PAGE), (long)start);
    for (int at = 0; at < 3 * GUEST_PAGE; at++)
        CHECK_EQ(start[at], 0);
    memset(start, 7, 3 * GUEST_PAGE);
    CHECK_EQ((long)sbrk(-3 * GUEST_PAGE), (long)(start + 3 * GUEST_PAGE));
    CHECK_EQ((long)sbrk(0), (long)start);
    CHECK_EQ((long)sbrk(3 * GUEST_PAGE), (long)start);
    char *page = (char *)(((uintptr_t)start + GUEST_PAGE - 1) & -GUEST_PAGE);
    CHECK_EQ(page[GUEST_PAGE], 0);
}

TEST(brk_system_call_returns_the_old_break_on_failure) {
    long now = syscall(SYS_brk, 0);
    CHECK(now > 0);
    CHECK_EQ(syscall(SYS_brk, -1L), now);
    CHECK_EQ(syscall(SYS_brk, 4096), now);
}

TEST(stack_lies_near_the_top_of_the_address_space) {
    CHECK(stack_at_start > 0x700000000000);
    CHECK(stack_at_start < 0x800000000000);
}

TEST(standard_descriptors_are_open) {
    for (int fd = 0; fd < 3; fd++)
        CHECK_OK(fcntl(fd, F_GETFD));
}

TEST(fs_base_is_set_by_arch_prctl_and_kept) {
    unsigned long base = 0;
    CHECK_OK(syscall(SYS_arch_prctl, 0x1003, &base)); // ARCH_GET_FS
    CHECK_EQ(base, *(unsigned long *)(base)); // glibc: the thread control block points at itself
    unsigned long gs = 0;
    static char block[64] = "gs";
    CHECK_OK(syscall(SYS_arch_prctl, 0x1001, block)); // ARCH_SET_GS
    CHECK_OK(syscall(SYS_arch_prctl, 0x1004, &gs));
    CHECK_EQ(gs, (unsigned long)block);
    char first;
    sched_yield();
    getppid();
    __asm__ volatile("movb %%gs:0, %0" : "=r"(first));
    CHECK_EQ(first, 'g');
}

TEST(direction_flag_and_segments_are_clean_at_a_system_call) {
    long result;
    unsigned long flags;
    __asm__ volatile("syscall\n\tpushfq\n\tpop %1" : "=a"(result), "=r"(flags)
                     : "a"(SYS_getpid) : "rcx", "r11", "memory");
    CHECK_EQ(result, getpid());
    CHECK_EQ(flags & (1 << 10), 0);
}

TEST(system_call_keeps_every_register_but_rax_rcx_r11) {
    register unsigned long r8 __asm__("r8") = 0x88, r9 __asm__("r9") = 0x99, r10 __asm__("r10") = 0xaa;
    register unsigned long r12 __asm__("r12") = 0xcc, r13 __asm__("r13") = 0xdd, r14 __asm__("r14") = 0xee;
    register unsigned long r15 __asm__("r15") = 0xff;
    unsigned long di = 0x11, si = 0x22, dx = 0x33, bx = 0x44, ax = SYS_getppid;
    __asm__ volatile("syscall"
                     : "+a"(ax), "+D"(di), "+S"(si), "+d"(dx), "+b"(bx), "+r"(r8), "+r"(r9), "+r"(r10),
                       "+r"(r12), "+r"(r13), "+r"(r14), "+r"(r15)
                     :
                     : "rcx", "r11", "memory");
    unsigned long copy[] = {r8, r9, r10, r12, r13, r14, r15, di, si, dx, bx};
    unsigned long want[] = {0x88, 0x99, 0xaa, 0xcc, 0xdd, 0xee, 0xff, 0x11, 0x22, 0x33, 0x44};
    for (int at = 0; at < 11; at++)
        CHECK_EQ(copy[at], want[at]);
    CHECK_EQ(ax, getppid());
}
