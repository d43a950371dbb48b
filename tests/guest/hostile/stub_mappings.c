// What if a guest maps, unmaps, protects, moves and advises memory in and around the stub's region?
#include "hostile.h"

static uint64_t seed;

static void *random_address(void) {
    uint64_t value = random_next(&seed);
    switch (value % 4) {
    case 0:
        return (void *)STUB_START;
    case 1:
        return (void *)(STUB_START - 16 * PAGE + (value >> 8) % 64 * PAGE);
    case 2:
        return (void *)(STUB_END - 32 * PAGE + (value >> 8) % 64 * PAGE);
    default:
        return (void *)(STUB_START + (value >> 8) % ((STUB_END - STUB_START) / PAGE) * PAGE);
    }
}

static void attack(long round) {
    seed = random_start() * (uint64_t)(round + 1);
    for (int at = 0; at < 500; at++) {
        void *address = random_address();
        uint64_t value = random_next(&seed);
        size_t length = value % 5 == 0 ? STUB_END - STUB_START : (1 + value % 200) * PAGE;
        int protection = (int)(value >> 16) & 7;
        switch ((value >> 32) % 8) {
        case 0:
            mmap(address, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            break;
        case 1:
            mmap(address, length, protection, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            break;
        case 2:
            munmap(address, length);
            break;
        case 3:
            mprotect(address, length, protection);
            break;
        case 4:
            mremap(address, length, length + PAGE, MREMAP_MAYMOVE);
            break;
        case 5: {
            void *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            mremap(own, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, address);
            break;
        }
        case 6:
            madvise(address, length, (int)(value >> 20) % 26);
            break;
        default:
            // What the kernel is to fill in for the guest.
            syscall(SYS_getrandom, address, 64, 0);
            syscall(SYS_mincore, address, PAGE, address);
        }
    }
    // From below, over everything that is there.
    munmap((void *)0x10000, 0x7ffffffe0000);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    enum { ROUNDS = 100 };
    long died = 0, round = 0;
    for (; round < ROUNDS && is_time_left(); round++)
        died += in_child(attack, round) != 0;
    progress("rounds", round);
    progress("children that died", died);
    return 0;
}
