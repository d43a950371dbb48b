// By which route could memory of the guest's come to lie over the stub? Every one that places or moves memory, aimed at its
// edges and its middle; afterwards the process must still be able to make calls.
#include "hostile.h"
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/shm.h>

static const uint64_t places[] = {GUARD_START - PAGE, GUARD_START, STUB_START - PAGE, STUB_START, STUB_START + PAGE,
                                  STUB_START + 0x100000, STUB_START + 0x10000000, STUB_END - PAGE, STUB_END - 2 * PAGE};
enum { PLACES = sizeof places / sizeof *places };
static long taken;

// Whatever the call answers: nothing of the guest's may be there now.
static void must_not_be(const void *got, const void *wanted, size_t length) {
    uint64_t start = (uint64_t)got;
    if (got != MAP_FAILED && start < STUB_END && start + length > STUB_START)
        taken++;
    (void)wanted;
}

static void attack(long round) {
    int shared = shmget(IPC_PRIVATE, 64 * PAGE, IPC_CREAT | 0600);
    int file = open("/proc/self/exe", O_RDONLY);
    int pages = (int)syscall(SYS_memfd_create, "m", 0);
    if (pages == -1 || ftruncate(pages, 1 << 20) == -1)
        _exit(2);
    for (int at = 0; at < PLACES; at++) {
        void *place = (void *)places[at];
        size_t length = PAGE << (2 * round);
        const int extra[] = {MAP_FIXED, 0x100000 /* MAP_FIXED_NOREPLACE */, 0, MAP_FIXED | MAP_GROWSDOWN, MAP_FIXED | MAP_POPULATE};
        for (unsigned long how = 0; how < sizeof extra / sizeof *extra; how++) {
            must_not_be(mmap(place, length, 7, MAP_PRIVATE | MAP_ANONYMOUS | extra[how], -1, 0), place, length);
            must_not_be(mmap(place, length, 1, MAP_PRIVATE | extra[how], file, 0), place, length);
            must_not_be(mmap(place, length, 3, MAP_SHARED | extra[how], pages, 0), place, length);
        }
        must_not_be(shmat(shared, place, SHM_REMAP), place, length);
        must_not_be(shmat(shared, place, SHM_RND), place, length);
        void *own = mmap(NULL, 4 * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must_not_be(mremap(own, PAGE, length, MREMAP_MAYMOVE | MREMAP_FIXED, place), place, length);
        must_not_be(mremap(own, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | 4, place), place, length);
        must_not_be(mremap(place, length, 2 * length, MREMAP_MAYMOVE), place, length);
        must_not_be(mremap(place, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, own), place, 0);
        mprotect(place, length, 7);
        syscall(SYS_pkey_mprotect, place, length, 7, -1);
        syscall(SYS_remap_file_pages, place, length, 0, 0, 0);
        syscall(SYS_mlock2, place, length, 1);
        syscall(462 /* mseal */, place, length, 0);
        for (int advice = 0; advice < 26; advice++)
            madvise(place, length, advice);
        must_not_be((void *)syscall(SYS_brk, place), place, 0);
        prctl(PR_SET_MM, PR_SET_MM_BRK, place, 0, 0);
        prctl(PR_SET_MM, PR_SET_MM_START_STACK, place, 0, 0);
        munmap(place, length);
        // A stack that grows down into it.
        char *below = mmap((void *)(STUB_END + PAGE), PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
        if (below != MAP_FAILED) {
            if (fork() == 0) {
                below[-1] = 1;
                below[-(long)PAGE - 1] = 1;
                _exit(0);
            }
            munmap(below, PAGE);
        }
    }
    shmctl(shared, IPC_RMID, NULL);
    // All around it, whatever is there: nothing is, and that is no fault.
    if (munmap((void *)0x600000000000, 0x100000000000) == -1)
        _exit(3);
    _exit(taken > 0 ? 1 : getppid() > 0 ? 0 : 4);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    for (long round = 0; round < 6; round++) {
        int status = in_child(attack, round);
        progress("wait status", status);
        if (status != 0)
            return 1;
    }
    return 0;
}
