// What if areas grow in many threads at once, towards each other, below what is taken away and given back meanwhile, and into the stub?
#include "hostile.h"

#define PLACE 0x100000000000UL

enum { THREADS = 6, PAGES = 4096 };

static __thread sigjmp_buf back;
static _Atomic long grown, refused;

static void jump_back(int number) {
    (void)number;
    siglongjmp(back, 1);
}

static void store(unsigned long at) {
    if (sigsetjmp(back, 1) == 0) {
        *(volatile char *)at = 1;
        grown++;
    } else {
        refused++;
    }
}

static void *grow(void *number) {
    uint64_t state = random_start() + (unsigned long)number;
    while (is_time_left()) {
        unsigned long at = PLACE + random_next(&state) % PAGES * PAGE;
        size_t length = (1 + random_next(&state) % 64) * PAGE;
        switch (random_next(&state) % 8) {
        case 0:
            mmap((void *)at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
            break;
        case 1:
            munmap((void *)at, length * 8);
            break;
        case 2:
            mprotect((void *)at, length, random_next(&state) % 2 ? PROT_NONE : PROT_READ | PROT_WRITE | PROT_GROWSDOWN);
            break;
        case 3:
            mremap((void *)at, length, length * 2, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(PLACE + random_next(&state) % PAGES * PAGE));
            break;
        case 4:
            madvise((void *)at, length, random_next(&state) % 2 ? MADV_DONTFORK : MADV_WIPEONFORK);
            mlock((void *)at, length);
            break;
        default:
            store(at);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    struct sigaction action = {.sa_handler = jump_back, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    // Above the stub and below it: what is the stub's is nobody's to grow into.
    static const unsigned long ends[] = {STUB_END, STUB_END + 300 * PAGE, GUARD_START, STUB_START, 0x10000, 0x11000};
    for (size_t at = 0; at < sizeof ends / sizeof *ends; at++) {
        void *area = mmap((void *)ends[at], PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, -1, 0);
        for (unsigned long below = 1; area != MAP_FAILED && below <= 1 << 20; below *= 2)
            store(ends[at] - below * PAGE);
    }
    // As far as there is no limit.
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_STACK, &limit);
    mmap((void *)(PLACE * 4), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN | MAP_NORESERVE, -1, 0);
    for (unsigned long below = 1; below < 1UL << 34; below *= 2)
        store(PLACE * 4 - below * PAGE);
    munmap((void *)PLACE, PLACE * 3 + PAGE);
    pthread_t threads[THREADS];
    for (unsigned long at = 0; at < THREADS; at++)
        pthread_create(&threads[at], NULL, grow, (void *)at);
    while (is_time_left()) {
        pid_t child = fork();
        if (child == 0) {
            store(PLACE + 100 * PAGE);
            _exit(0);
        }
        if (child > 0)
            waitpid(child, NULL, 0);
    }
    for (int at = 0; at < THREADS; at++)
        pthread_join(threads[at], NULL);
    progress("stores that worked", grown);
    progress("stores that were refused", refused);
    return 0;
}
