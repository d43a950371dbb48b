// What if a process executes a program while its other threads write over the stub's pages, map, unmap, fork and signal?
#include "hostile.h"

enum { THREADS = 4 };
static const char *self;

static void *fire(void *argument) {
    uint64_t seed = random_start() * (uint64_t)(1 + (long)argument);
    for (;;) {
        uint64_t value = random_next(&seed);
        char *slot = (char *)STUB_START + 0x10001000 + (value >> 8) % THREADS * 0x10000;
        switch (value % 6) {
        case 0: case 1: case 2:
            *(volatile uint32_t *)(slot + (value >> 20) % 64 * 4) = (uint32_t)(value >> 32) % 8;
            break;
        case 3:
            mmap(NULL, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            break;
        case 4:
            kill(getpid(), SIGCONT);
            break;
        default:
            if (syscall(SYS_vfork) == 0)
                syscall(SYS_exit, 0);
        }
    }
    return NULL;
}

static void attack(long threads) {
    pthread_t thread;
    for (long at = 0; at < threads; at++)
        pthread_create(&thread, NULL, fire, (void *)at);
    usleep(2000);
    execl(self, self, "again", NULL);
    _exit(1);
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "again"))
        return 0;
    require_sandbox(argc, argv);
    self = argv[0];
    long died = 0, round = 0;
    for (; round < 60 && is_time_left(); round++)
        died += in_child(attack, round % (THREADS + 1)) != 0;
    progress("executions", round);
    progress("of them died", died);
    return 0;
}
