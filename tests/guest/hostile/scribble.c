// What if another thread writes rubbish over every page of the stub's region that a guest can write, while this one
// makes calls? The attacker may die; nobody else may.
#include "hostile.h"

enum { PAGES_MAX = 8192, ROUNDS = 20 };
static char *pages[PAGES_MAX];
static long page_count;
static uint64_t seed;

static void collect(char *page) {
    if (page_count < PAGES_MAX && can_write(page))
        pages[page_count++] = page;
}

static void *scribble(void *argument) {
    (void)argument;
    for (;;) {
        char *page = pages[random_next(&seed) % (uint64_t)page_count];
        uint64_t offset = random_next(&seed) % (PAGE / 8), value = random_next(&seed);
        // Whole words, small numbers and single bytes: each upsets other checks.
        switch (value % 3) {
        case 0:
            ((volatile uint64_t *)page)[offset] = value;
            break;
        case 1:
            ((volatile uint64_t *)page)[offset] = value >> 56;
            break;
        default:
            page[offset] = (char)value;
        }
    }
    return NULL;
}

static void attack(long round) {
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    seed = random_start() * (uint64_t)(round + 1);
    pthread_t thread;
    if (page_count > 0)
        pthread_create(&thread, NULL, scribble, NULL);
    int ends[2];
    char bytes[64] = "";
    if (pipe(ends) == -1)
        _exit(1);
    double start = seconds_now();
    while (seconds_now() - start < 1) {
        getppid();
        if (write(ends[1], bytes, sizeof bytes) > 0)
            (void)!read(ends[0], bytes, sizeof bytes);
        munmap(mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4 * PAGE);
        close(open("/proc/self/status", O_RDONLY));
        syscall(9999);
    }
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    catch_probe_faults();
    each_stub_page(collect);
    progress("writable pages in the stub's region", page_count);
    long died = 0;
    for (long round = 0; round < ROUNDS; round++)
        died += in_child(attack, round) != 0;
    progress("rounds", ROUNDS);
    progress("children that died", died);
    return 0;
}
