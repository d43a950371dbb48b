// What if a guest waits on, wakes and requeues the words by which the stub and the sentry meet?
#include "hostile.h"
#include <linux/futex.h>

static const uint64_t places[] = {STUB_START, STUB_START + 0x100000, STUB_START + 0x101000, STUB_START + 0x101008,
                                  STUB_START + 0x10000000, STUB_START + 0x10000004, STUB_START + 0x10001000,
                                  STUB_START + 0x10001008, STUB_START + 0x1000100c, STUB_START + 0x10011000,
                                  STUB_START + 0x1001100c, STUB_END - 4, 0x7ffffffff000, 4};
enum { PLACES = sizeof places / sizeof *places };

static void *use(void *argument) {
    uint64_t seed = random_start() * (uint64_t)(1 + (long)argument);
    struct timespec soon = {0, 1000000};
    for (;;) {
        uint64_t value = random_next(&seed);
        uint32_t *place = (uint32_t *)places[value % PLACES];
        uint32_t *other = (uint32_t *)places[(value >> 8) % PLACES];
        int operation = (int)((value >> 16) % 14) | ((value >> 24) % 4) << 7;
        // Waits have an end, and every other value they wait for is likely the one that is there.
        syscall(SYS_futex, place, operation, (value >> 32) % 4, operation % 128 == FUTEX_WAIT ? (long)&soon : 1000, other,
                (value >> 36) % 4 ? -1 : 0);
    }
    return NULL;
}

static void *wait_for_ever(void *place) {
    for (uint32_t expected = 0; expected < 8; expected++)
        syscall(SYS_futex, place, FUTEX_WAIT, expected, NULL, NULL, 0);
    return NULL;
}

static void attack(long round) {
    pthread_t thread;
    for (long at = 0; at < 4; at++)
        pthread_create(&thread, NULL, use, (void *)(round * 4 + at));
    for (int at = 0; at < PLACES; at++)
        pthread_create(&thread, NULL, wait_for_ever, (void *)places[at]);
    double start = seconds_now();
    while (seconds_now() - start < 1) {
        if (pthread_create(&thread, NULL, wait_for_ever, (void *)places[0]) == 0)
            pthread_detach(thread);
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        waitpid(pid, NULL, 0);
    }
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    long round = 0;
    for (; round < 8 && is_time_left(); round++)
        in_child(attack, round);
    progress("rounds", round);
    return 0;
}
