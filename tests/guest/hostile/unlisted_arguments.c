// What is not on the lists of the stub's filter (stub/filter.rs): asked for from the guest's own code and at the stub's own `syscall`
// instructions. From its own code each must fail as on a kernel without it; what the stub's does with it is the thread's own harm.
#include "hostile.h"
#include <linux/futex.h>

enum { SITES_MAX = 512, MERGEABLE = 12, COLLAPSE = 25, HWPOISON = 100, SOFT_OFFLINE = 101, GUARD = 102, GROWSDOWN = 0x100 };
static char *sites[SITES_MAX];
static long site_count;
static char *page;
static unsigned words[4];

struct question {
    long number, args[6];
};

static void collect(char *at) {
    if (!can_read(at))
        return;
    for (unsigned long byte = 0; byte + 1 < PAGE && site_count < SITES_MAX; byte++)
        if (at[byte] == 0x0f && at[byte + 1] == 0x05)
            sites[site_count++] = at + byte;
}

static struct question questions[64];
static long question_count;
static void ask(long number, long a, long b, long c, long d, long e, long f) {
    questions[question_count++] = (struct question){number, {a, b, c, d, e, f}};
}

static void make_questions(void) {
    long at = (long)page, word = (long)&words[0], other = (long)&words[1];
    static const long advices[] = {5, 6, 7, MERGEABLE, 13, COLLAPSE, 26, HWPOISON, SOFT_OFFLINE, GUARD, 103, -1, 1L << 20};
    for (unsigned each = 0; each < sizeof advices / sizeof *advices; each++)
        ask(SYS_madvise, at, PAGE, advices[each], 0, 0, 0);
    static const long operations[] = {2, FUTEX_CMP_REQUEUE_PI, FUTEX_WAIT_REQUEUE_PI, FUTEX_WAIT | FUTEX_CLOCK_REALTIME,
                                      FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 14, 15, 0x200, 0x80000000};
    for (unsigned each = 0; each < sizeof operations / sizeof *operations; each++) {
        ask(SYS_futex, word, operations[each], 1, 1, other, 0);
        ask(SYS_futex, word, operations[each] | FUTEX_PRIVATE_FLAG, 1, 1, other, 0);
    }
    // futex_waitv, futex_wake, futex_wait, futex_requeue
    for (long number = 449; number <= 456; number = number == 449 ? 454 : number + 1)
        ask(number, word, 1, 2, 0, 1, 0);
    ask(SYS_mremap, at, PAGE, 2 * PAGE, 8, 0, 0);
    ask(SYS_mremap, at, PAGE, 2 * PAGE, 1L << 40, 0, 0);
    ask(SYS_mprotect, at, PAGE, 0x10, 0, 0, 0);
}

static void jump(long packed) {
    // Most wait for an order that nobody gives.
    ualarm(30000, 0);
    const struct question *question = &questions[packed % question_count];
    register long r10 __asm__("r10") = question->args[3], r8 __asm__("r8") = question->args[4], r9 __asm__("r9") = question->args[5];
    __asm__ volatile("push $0\n\tjmp *%1"
                     : : "a"(question->number), "r"(sites[packed / question_count]), "D"(question->args[0]),
                       "S"(question->args[1]), "d"(question->args[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
}

// Stacks that grow by themselves are the kernel's to grow: mapped by the stub's own call, one must not be the host's.
static void grow(long site) {
    char *place = page + 64 * PAGE;
    struct question mapping = {SYS_mmap, {(long)place, PAGE, 3, 0x32 | GROWSDOWN, -1, 0}};
    questions[0] = mapping;
    jump(site * question_count);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    catch_probe_faults();
    page = mmap(NULL, 256 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(page, 1, 256 * PAGE);
    make_questions();
    for (long at = 0; at < question_count; at++) {
        const struct question *one = &questions[at];
        if (syscall(one->number, one->args[0], one->args[1], one->args[2], one->args[3], one->args[4], one->args[5]) != -1) {
            printf("  call %ld (%#lx, %#lx, %#lx, %#lx) was answered\n", one->number, one->args[0], one->args[1],
                   one->args[2], one->args[3]);
            return 1;
        }
    }
    progress("questions that the kernel refused", question_count);
    each_stub_page(collect);
    progress("syscall instructions in the stub's region", site_count);
    long jumps = 0, died = 0;
    for (; jumps < site_count * question_count && is_time_left(); jumps++)
        died += in_child(jump, jumps) != 0;
    for (long site = 0; site < site_count && is_time_left(); site++)
        died += in_child(grow, site) != 0;
    progress("jumps", jumps);
    progress("children that died of one", died);
    return 0;
}
