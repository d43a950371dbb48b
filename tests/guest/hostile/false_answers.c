// What if a thread answers for its siblings, and for the stub's agent? It writes the words of the hand-over pages and of the
// agent's answer page that the sentry reads, while the others do what needs orders: mapping, threads, forks, signals, execs.
#include "hostile.h"

enum { SLOTS_MAX = 64, AGENT_ANSWERS = 0x101000, SLOTS = 0x10000000, SLOT_SIZE = 0x20000, HANDOVER = 0x1000 };
// Offsets in a hand-over page: STATE KIND READY TID_WORD SELF RESULT FRAME SIGNO PREFETCH_LEN PREFETCH_ADDR PENDING CPU.
static const int words[] = {0x00, 0x04, 0x08, 0x0c, 0x10, 0x20, 0x28, 0x30, 0xe8, 0xf0, 0xf8, 0xfc};
enum { WORDS = sizeof words / sizeof *words };
static char *slots[SLOTS_MAX];
static long slot_count;
static char *answers;

static void find_pages(void) {
    catch_probe_faults();
    answers = can_write((char *)STUB_START + AGENT_ANSWERS) ? (char *)STUB_START + AGENT_ANSWERS : NULL;
    slot_count = 0;
    for (long slot = 0; slot < SLOTS_MAX; slot++) {
        char *page = (char *)STUB_START + SLOTS + slot * SLOT_SIZE + HANDOVER;
        if (can_write(page))
            slots[slot_count++] = page;
    }
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
}

static void *answer_falsely(void *argument) {
    uint64_t seed = random_start() * (uint64_t)(1 + (long)argument);
    long kind = (long)argument;
    for (;;) {
        uint64_t value = random_next(&seed);
        if (answers && kind % 3 != 0) {
            // DONE and RESULT of the agent: always late, always early, or somebody else's process.
            ((volatile uint32_t *)answers)[0] = kind % 3 == 1 ? 0 : (uint32_t)(value % 8);
            ((volatile uint64_t *)answers)[1] = kind % 2 ? value % 64 : value;
        }
        if (slot_count > 0 && kind % 2 == 0) {
            char *page = slots[value % (uint64_t)slot_count];
            *(volatile uint32_t *)(page + words[(value >> 8) % WORDS]) = (uint32_t)(value >> 16) % 8;
            *(volatile uint64_t *)(page + 0x28) = STUB_START + SLOTS + (value >> 20) % (1 << 20);
        }
    }
    return NULL;
}

static void *nothing(void *argument) { return argument; }

static void attack(long kind) {
    find_pages();
    pthread_t liar, thread;
    pthread_create(&liar, NULL, answer_falsely, (void *)kind);
    for (int round = 0;; round++) {
        char *memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory != MAP_FAILED) {
            mprotect(memory, 8 * PAGE, PROT_READ);
            mremap(memory, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
        }
        int fd = open("/proc/self/exe", O_RDONLY);
        mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
        close(fd);
        if (pthread_create(&thread, NULL, nothing, NULL) == 0)
            pthread_join(thread, NULL);
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        if (pid > 0)
            waitpid(pid, NULL, 0);
        kill(getpid(), SIGCONT);
        if (round == 50)
            execl("/proc/self/exe", "x", NULL);
    }
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    long died = 0, kind = 0;
    for (; kind < 24 && is_time_left(); kind++)
        died += in_child(attack, kind) != 0;
    progress("ways to lie", kind);
    progress("children that died", died);
    return 0;
}
