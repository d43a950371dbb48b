// What does the operator hear of a guest that is killed for leaving the protocol? One line with the reason: the runner looks for
// these among what the sandbox says.
// TOLD systrap: (no_protocol) killed: its stub
// TOLD systrap: kind 77
// TOLD systrap: (no_protocol) killed: a thread of its stub has left
#include "hostile.h"

enum { SLOTS = 0x10000000, HANDOVER = 0x1000, KIND = 4 };
// The first thread's hand-over page.
#define PAGE_OF_FIRST ((char *)STUB_START + SLOTS + HANDOVER)
static char *site;

static void collect(char *page) {
    if (site || !can_read(page))
        return;
    for (unsigned long at = 0; at + 1 < PAGE && !site; at++)
        if (page[at] == 0x0f && page[at + 1] == 0x05)
            site = page + at;
}

static void *scribble(void *argument) {
    for (;;)
        *(volatile uint32_t *)(PAGE_OF_FIRST + KIND) = 77;
    return argument;
}

// Its requests are of a kind that there is not.
static void unknown_kind(void) {
    char *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, scribble, NULL);
    for (;;)
        mprotect(memory, PAGE, PROT_READ);
}

static void *sleep_long(void *argument) {
    for (;;)
        pause();
    return argument;
}

// One thread ends by the stub's own `exit`, and the other does not.
static void leave(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, sleep_long, NULL);
    __asm__ volatile("jmp *%0" : : "r"(site), "a"((long)SYS_exit), "D"(0L) : "rcx", "r11", "memory");
}

static void until_killed(void (*attack)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        attack();
        _exit(0);
    }
    int status = 0;
    for (double start = seconds_now(); waitpid(pid, &status, WNOHANG) == 0; usleep(5000))
        if (seconds_now() - start > 10)
            kill(pid, SIGKILL);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    catch_probe_faults();
    each_stub_page(collect);
    bool has_page = can_write(PAGE_OF_FIRST);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    progress("writable hand-over pages", has_page);
    if (has_page)
        until_killed(unknown_kind);
    if (site)
        until_killed(leave);
    return 0;
}
