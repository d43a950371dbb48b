// Random sequences of memory calls by up to three processes, as a transcript that is the same wherever Linux is.
//
//   memory WHERE DIRECTORY FIRST COUNT STEPS
//
// WHERE means nothing here; a file to be mapped is made in DIRECTORY. A coordinator makes every choice; workers do one step at a time, in their
// main thread, in a second thread, or in a child that shares their memory. All calls are about an arena of fixed addresses, which are told in pages
// from its start. After a step its result is told, and the worker's mappings in the arena where they have changed; now and then the contents of
// everything that is mapped, too.
//
// Left out, since Linux does not say what comes of it, or each version says something else:
// - the place of a mapping that has no place of its own in the arena: told as `elsewhere`, and unmapped at once
// - which neighbours are one mapping: that depends on who has touched which page first, and how they came to be alike, so they are told as one;
//   with that, the number of a segment's attachments
// - pages in the page cache (mincore of files), pages of which a child has a copy, resident sizes, areas that are accounted (`ac`)
// - execute-only memory and protection keys, which not every processor has; MADV_MERGEABLE, COLLAPSE, GUARD_INSTALL, which not every kernel has
// - what MADV_FREE leaves until the page is written: it is written at once
// - page 0, which some may map; /dev/zero from anywhere but its start, where Linux makes the memory too short
// - bytes that are copied onto themselves
// - what /proc/PID/mem does in spite of an area's protection, remap_file_pages, and the kernel's own touch of what could grow: known differences (docs/guides/differences.md)
// - MREMAP_DONTUNMAP of what is locked, which 6.18 counts as locked for ever
// - moves that span several mappings (since 6.17), and bytes behind the end of a file within its last page
#include "model.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define ARENA 0x100000000000ul

enum {
    WORKERS = 3,
    NEAR = 32,       // pages of the arena that most calls are about
    FAR = 600,       // where areas that grow begin, far enough above for their guard
    FAR_PAGES = 24,
    ARENA_PAGES = 700,
    FILE_PAGES = 12,
    RANGES = 60,     // mappings of one worker that are told
    BEGIN = 6,       // steps that map something, so that there is something
    BOUNCE = 8,      // pages of a worker's buffer outside of the arena
};

enum call {
    MMAP, MUNMAP, MPROTECT, MREMAP, BRK, MADVISE, MSYNC, MINCORE, MLOCK, MUNLOCK, MLOCKALL, MUNLOCKALL, LIMIT, TOUCH, SHMAT, SHMDT, VM_READ, VM_WRITE,
    MEM_READ, MEM_WRITE, READ, WRITE, TRUNCATE, PUNCH, SEAL, PKEY, SEAL_MEMORY, FORK, EXIT, HASH, CALLS
};
enum via { MAIN, THREAD, VFORK, CLONE, VIAS };

// Files by their index in `files`.
enum { DATA, DATA_READ, DATA_WRITE, MEMORY, MEMORY_READ, ZERO, PIPE_IN, PIPE_OUT, FILES };
static const char *const file_names[] = {"data", "data-r", "data-w", "memfd", "memfd-r", "zero", "pipe-r", "pipe-w", "none"};

struct range {
    unsigned short start, pages;
};

// What a worker is asked for, and what it answers.
struct order {
    int call, via;
    long n[7];
    int ranges;
    struct range range[RANGES];
};
struct answer {
    long result;
    int error, signal, code;
    long fault;
    unsigned sum[RANGES];
    unsigned char incore[NEAR];
};

static int ends[WORKERS][2]; // [0] the coordinator's
static pid_t pids[WORKERS];
static int files[FILES + 1], segments[2];
static unsigned long heap;
static char data_path[PATH_MAX], bounce[(BOUNCE + 1) * 4096] __attribute__((aligned(4096)));
static char helper_stack[1 << 16] __attribute__((aligned(16)));

// ---- A worker ----

static sigjmp_buf back;
static volatile int caught_signal, caught_code;
static volatile unsigned long caught_at;

static void caught(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    caught_signal = signal_number;
    caught_code = info->si_code;
    caught_at = (unsigned long)info->si_addr;
    siglongjmp(back, 1);
}

// Everything in the arena that can be read, a sum for each range.
static void sum_up(const struct order *order, struct answer *answer) {
    for (int at = 0; at < order->ranges; at++) {
        volatile unsigned sum = 0;
        for (volatile int page = 0; page < order->range[at].pages; page++) {
            const unsigned long *words = (void *)(ARENA + (order->range[at].start + page) * PAGE);
            if (sigsetjmp(back, 1)) {
                sum = sum * 31 + (unsigned)(caught_signal * 100 + caught_code);
                continue;
            }
            unsigned of_page = 0;
            for (size_t word = 0; word < PAGE / sizeof *words; word++)
                of_page = of_page * 31 + (unsigned)(words[word] ^ words[word] >> 32);
            sum = sum * 31 + of_page;
        }
        answer->sum[at] = sum;
    }
}

static void touch(const struct order *order, struct answer *answer) {
    volatile unsigned long *at = (void *)order->n[0];
    if (sigsetjmp(back, 1)) {
        answer->signal = caught_signal;
        answer->code = caught_code;
        answer->fault = (long)caught_at;
        return;
    }
    answer->result = order->n[1] ? (*at = (unsigned long)order->n[2], 0) : (long)(*at & 0xffff);
}

static void fill_bounce(long length, long from) {
    for (long at = 0; at < length; at++)
        bounce[at] = (char)(from + at / 64);
}

static unsigned sum_of_bounce(long length) {
    unsigned sum = 0;
    for (long at = 0; at < length; at++)
        sum = sum * 31 + (unsigned char)bounce[at];
    return sum;
}

static bool is_in_arena(unsigned long at) { return at >= ARENA && at < ARENA + ARENA_PAGES * PAGE; }

// What has no place of its own goes.
static long placed(long at, long length, bool is_segment) {
    if (at == -1 || is_in_arena((unsigned long)at))
        return at == -1 ? -1 : (long)(((unsigned long)at - ARENA) / PAGE);
    int error = errno;
    if (is_segment)
        shmdt((void *)at);
    else
        munmap((void *)at, (size_t)length);
    errno = error;
    return -2;
}

static long advise(const long *n) {
    long result = madvise((void *)n[0], (size_t)n[1], (int)n[2]);
    int error = errno;
    if (n[2] == MADV_FREE && result == 0)
        for (volatile unsigned long at = (unsigned long)n[0]; at < (unsigned long)(n[0] + n[1]); at += PAGE)
            if (sigsetjmp(back, 1) == 0)
                memset((void *)at, 7, PAGE);
    errno = error;
    return result;
}

static long limit(const long *n) {
    struct rlimit limits;
    getrlimit((int)n[0], &limits);
    unsigned long base = 0;
    // Relative to what is used: the rest of the process is not the same everywhere.
    if (n[1] >= 0 && (n[0] == RLIMIT_AS || n[0] == RLIMIT_DATA)) {
        char text[4096];
        int fd = open("/proc/self/status", O_RDONLY);
        ssize_t got = read(fd, text, sizeof text - 1);
        close(fd);
        text[got > 0 ? got : 0] = 0;
        const char *name = n[0] == RLIMIT_AS ? "\nVmSize:" : "\nVmData:", *line = strstr(text, name);
        base = line ? strtoul(line + strlen(name), NULL, 10) << 10 : 0;
    }
    limits.rlim_cur = n[1] < 0 ? limits.rlim_max : base + (unsigned long)n[1];
    return setrlimit((int)n[0], &limits);
}

static long other_memory(const struct order *order, struct answer *answer) {
    const long *n = order->n;
    bool writes = order->call == VM_WRITE;
    struct iovec here = {n[3] ? (void *)n[3] : bounce, (size_t)n[2]}, there = {(void *)n[1], (size_t)n[2]};
    if (writes && !n[3])
        fill_bounce(n[2], n[4]);
    long result = writes ? process_vm_writev((pid_t)n[0], &here, 1, &there, 1, 0) : process_vm_readv((pid_t)n[0], &here, 1, &there, 1, 0);
    if (!writes && !n[3] && result > 0)
        answer->sum[0] = sum_of_bounce(result);
    return result;
}

static long memory_file(const struct order *order, struct answer *answer) {
    const long *n = order->n;
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/mem", n[0]);
    int fd = open(path, O_RDWR);
    if (fd == -1)
        return -1;
    if (order->call == MEM_WRITE)
        fill_bounce(n[2], n[4]);
    long result = order->call == MEM_WRITE ? pwrite(fd, bounce, (size_t)n[2], n[1]) : pread(fd, bounce, (size_t)n[2], n[1]);
    int error = errno;
    if (order->call == MEM_READ && result > 0)
        answer->sum[0] = sum_of_bounce(result);
    close(fd);
    errno = error;
    return result;
}

// A file ends with a page: what lies behind its end in the last one is left out.
static void fill_up(int file) {
    struct stat status;
    int error = errno;
    if (file <= DATA_WRITE && fstat(files[file], &status) == 0 && status.st_size % (long)PAGE)
        if (ftruncate(files[DATA], (long)((status.st_size + PAGE - 1) / PAGE * PAGE)))
            errno = error;
    errno = error;
}

static long transfer(const struct order *order, struct answer *answer) {
    const long *n = order->n;
    int fd = files[n[0]];
    bool is_pipe = n[0] == PIPE_IN || n[0] == PIPE_OUT;
    if (order->call == READ) {
        if (is_pipe) {
            fill_bounce(n[4], n[5]);
            answer->sum[1] = (unsigned)write(files[PIPE_OUT], bounce, (size_t)n[4]);
        }
        long result = is_pipe ? read(fd, (void *)n[1], (size_t)n[2]) : pread(fd, (void *)n[1], (size_t)n[2], n[3]);
        int error = errno;
        if (is_pipe)
            answer->sum[2] = (unsigned)read(fd, bounce, sizeof bounce);
        errno = error;
        return result;
    }
    long result = is_pipe ? write(fd, (void *)n[1], (size_t)n[2]) : pwrite(fd, (void *)n[1], (size_t)n[2], n[3]);
    int error = errno;
    if (is_pipe) {
        ssize_t got = read(files[PIPE_IN], bounce, sizeof bounce);
        answer->sum[0] = got > 0 ? sum_of_bounce(got) : 0;
        answer->sum[1] = (unsigned)got;
    }
    fill_up((int)n[0]);
    errno = error;
    return result;
}

static long serve_call(const struct order *order, struct answer *answer) {
    const long *n = order->n;
    void *at = (void *)n[0];
    size_t length = (size_t)n[1];
    switch (order->call) {
    case MMAP:
        return placed((long)mmap(at, length, (int)n[2], (int)n[3], files[n[4]], n[5]), n[1], false);
    case MUNMAP:
        return munmap(at, length);
    case MPROTECT:
        return mprotect(at, length, (int)n[2]);
    case MREMAP:
        return placed(syscall(SYS_mremap, at, length, n[2], n[3], n[4]), n[2], false);
    case BRK: {
        unsigned long end = (unsigned long)syscall(SYS_brk, heap + (unsigned long)n[0]);
        if (sigsetjmp(back, 1) == 0 && end > heap)
            *(volatile char *)(end - 1) = (char)(*(volatile char *)(end - 1) + 1);
        return (long)(end - heap);
    }
    case MADVISE:
        return advise(n);
    case MSYNC:
        return msync(at, length, (int)n[2]);
    case MINCORE:
        return syscall(SYS_mincore, at, length, n[2] ? (unsigned char *)n[2] : answer->incore);
    case MLOCK:
        return n[2] ? syscall(SYS_mlock2, at, length, n[2] - 1) : mlock(at, length);
    case MUNLOCK:
        return munlock(at, length);
    case MLOCKALL:
        return mlockall((int)n[0]);
    case MUNLOCKALL:
        return munlockall();
    case LIMIT:
        return limit(n);
    case SHMAT:
        return placed((long)shmat(segments[n[1]], at, (int)n[2]), 0, true);
    case SHMDT:
        return shmdt(at);
    case VM_READ:
    case VM_WRITE:
        return other_memory(order, answer);
    case MEM_READ:
    case MEM_WRITE:
        return memory_file(order, answer);
    case READ:
    case WRITE:
        return transfer(order, answer);
    case TRUNCATE:
        return ftruncate(files[n[0]], n[1]);
    case PUNCH:
        return fallocate(files[n[0]], (int)n[3], n[1], n[2]);
    case SEAL:
        return n[1] ? fcntl(files[n[0]], F_ADD_SEALS, n[1]) : fcntl(files[n[0]], F_GET_SEALS);
    case PKEY:
        return syscall(SYS_pkey_mprotect, at, length, n[2], n[3]);
    default:
        return syscall(462, at, length, n[2]); // mseal(2)
    }
}

static const struct order *helped_order;
static struct answer *helped_answer;

static int help(void *nothing) {
    (void)nothing;
    struct answer *answer = helped_answer;
    errno = 0;
    if (helped_order->call == TOUCH)
        touch(helped_order, answer);
    else if (helped_order->call == HASH)
        sum_up(helped_order, answer);
    else
        answer->result = serve_call(helped_order, answer);
    answer->error = errno;
    return 0;
}

// By a thread, or by a child in the same memory.
static void have_helped(int via) {
    static volatile int thread_id;
    int flags = via == THREAD ? CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID
                : via == VFORK ? CLONE_VM | CLONE_VFORK | SIGCHLD
                               : CLONE_VM | SIGCHLD;
    thread_id = 1;
    pid_t helper = clone(help, helper_stack + sizeof helper_stack, flags, NULL, NULL, NULL, &thread_id);
    if (helper == -1) {
        helped_answer->result = -3;
        return;
    }
    if (via != THREAD) {
        while (waitpid(helper, NULL, 0) == -1 && errno == EINTR)
            ;
        return;
    }
    while (thread_id)
        syscall(SYS_futex, &thread_id, 0, 1, NULL, NULL, 0);
}

static void work(int place) {
    static struct order order;
    static struct answer answer;
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    for (;;) {
        if (recv(ends[place][1], &order, sizeof order, 0) != sizeof order)
            _exit(99);
        memset(&answer, 0, sizeof answer);
        helped_order = &order;
        helped_answer = &answer;
        // It answers before it ends, so that whoever takes its place gets the next order.
        if (order.call == EXIT) {
            answer.result = 0;
        } else if (order.call == FORK) {
            answer.result = fork();
            answer.error = errno;
            if (answer.result == 0) {
                place = (int)order.n[0];
                continue;
            }
        } else if (order.via == MAIN) {
            help(NULL);
        } else {
            have_helped(order.via);
        }
        if (send(ends[place][1], &answer, sizeof answer, MSG_NOSIGNAL) != sizeof answer || order.call == EXIT)
            _exit(98);
    }
}

// ---- The coordinator ----

struct area {
    unsigned long start, end, offset;
    char mode[8], flags[64], name[64];
};
struct layout {
    int count;
    struct area areas[RANGES];
};
static struct layout seen[WORKERS];

// Of `VmFlags`, those that calls set. A file's own (`sf`), accounting and what a kernel's configuration adds are left out.
static void note_flags(struct area *area, const char *line) {
    static const char *const told[] = {"sh", "mw", "ms", "gd", "lo", "lf", "sr", "rr", "dc", "dd", "wf", "nr", "sl"};
    for (size_t at = 0; at < sizeof told / sizeof *told; at++) {
        char word[8];
        snprintf(word, sizeof word, " %s", told[at]);
        if (strstr(line, word))
            strcat(area->flags, word);
    }
}

static bool is_one(const struct area *first, const struct area *second) {
    bool goes_on = !*first->name || !strcmp(first->name, "zero") || second->offset == first->offset + (first->end - first->start);
    return goes_on && first->end == second->start && !strcmp(first->mode, second->mode) && !strcmp(first->flags, second->flags) &&
           !strcmp(first->name, second->name);
}

static void look(int place, struct layout *layout) {
    static char text[1 << 16];
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/smaps", pids[place]);
    layout->count = 0;
    int fd = open(path, O_RDONLY);
    size_t length = 0;
    for (ssize_t got; length < sizeof text - 1 && (got = read(fd, text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)got;
    close(fd);
    text[length] = 0;
    struct area *area = NULL;
    char *saved;
    for (char *line = strtok_r(text, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
        struct area next = {0};
        unsigned long inode;
        int at = 0;
        if (sscanf(line, "%lx-%lx %7s %lx %*s %lu %n", &next.start, &next.end, next.mode, &next.offset, &inode, &at) >= 5) {
            const char *name = at ? strrchr(line + at, '/') : NULL;
            snprintf(next.name, sizeof next.name, "%s", name ? name + 1 : at ? line + at : "");
            area = NULL;
            if (is_in_arena(next.start) && layout->count < RANGES) {
                area = &layout->areas[layout->count++];
                *area = next;
            }
        } else if (area && strncmp(line, "VmFlags:", 8) == 0) {
            note_flags(area, line);
            if (layout->count > 1 && is_one(area - 1, area)) {
                (area - 1)->end = area->end;
                layout->count--;
            }
            area = NULL;
        }
    }
}

static bool is_same(const struct layout *first, const struct layout *second) {
    return first->count == second->count && !memcmp(first->areas, second->areas, (size_t)first->count * sizeof *first->areas);
}

static void show_layout(int place) {
    static struct layout now;
    look(place, &now);
    if (is_same(&now, &seen[place]))
        return;
    seen[place] = now;
    printf("\n   maps %d:", place);
    for (int at = 0; at < now.count; at++) {
        const struct area *area = &now.areas[at];
        printf(" | %ld-%ld %s%s", (area->start - ARENA) / PAGE, (area->end - ARENA) / PAGE, area->mode, area->flags);
        if (*area->name)
            printf(" %s", area->name);
        if (*area->name && strcmp(area->name, "zero"))
            printf("+%ld", area->offset / PAGE);
    }
}

static bool ask(int place, struct order *order, struct answer *answer) {
    return send(ends[place][0], order, sizeof *order, MSG_NOSIGNAL) == sizeof *order && recv(ends[place][0], answer, sizeof *answer, 0) == sizeof *answer;
}

static void show_contents(int place) {
    static struct order order;
    static struct answer answer;
    order.call = HASH;
    order.via = MAIN;
    order.ranges = 0;
    for (int at = 0; at < seen[place].count; at++) {
        const struct area *area = &seen[place].areas[at];
        if (area->mode[0] == 'r')
            order.range[order.ranges++] =
                (struct range){(unsigned short)((area->start - ARENA) / PAGE), (unsigned short)((area->end - area->start) / PAGE)};
    }
    if (!ask(place, &order, &answer)) {
        printf("\n   %d is gone", place);
        return;
    }
    printf("\n   sums %d:", place);
    for (int at = 0; at < order.ranges; at++)
        printf(" %d:%x", order.range[at].start, answer.sum[at]);
}

static void show_files(void) {
    static const int shown[] = {DATA, MEMORY};
    static char page[4096];
    for (int at = 0; at < 2; at++) {
        unsigned sum = 0;
        struct stat status;
        fstat(files[shown[at]], &status);
        for (long from = 0; from < status.st_size; from += (long)PAGE) {
            ssize_t got = pread(files[shown[at]], page, PAGE, from);
            for (ssize_t byte = 0; byte < got; byte++)
                sum = sum * 31 + (unsigned char)page[byte];
        }
        printf("\n   %s: %ld bytes, sum %x", file_names[shown[at]], (long)status.st_size, sum);
    }
    for (int at = 0; at < 2; at++) {
        struct shmid_ds status;
        if (shmctl(segments[at], IPC_STAT, &status) == 0)
            printf("\n   segment %d: %s", at, status.shm_nattch ? "attached" : "not attached");
    }
}

// Mostly something of what is mapped, or near it.
static struct range any_range(int place) {
    if (seen[place].count && dice(5)) {
        const struct area *area = &seen[place].areas[dice((uint32_t)seen[place].count)];
        unsigned start = (unsigned)((area->start - ARENA) / PAGE), pages = (unsigned)((area->end - area->start) / PAGE);
        if (dice(3) == 0)
            return (struct range){(unsigned short)start, (unsigned short)pages};
        unsigned skip = dice(pages < 8 ? pages : 8);
        return (struct range){(unsigned short)(start + skip), (unsigned short)(1 + dice(pages - skip + 1 < 8 ? pages - skip + 1 : 8))};
    }
    bool is_far = dice(6) == 0;
    unsigned start = is_far ? FAR + dice(FAR_PAGES) : dice(NEAR);
    return (struct range){(unsigned short)start, (unsigned short)(1 + dice(7))};
}

static long address(unsigned page) { return (long)(ARENA + page * PAGE); }

// Sometimes wrong in one of the usual ways.
static long wrong_address(long at) { return dice(40) ? at : dice(2) ? at + 100 : (long)0x7ffffffff000; }
static long wrong_length(long length) { return dice(40) ? length : dice(3) ? length - 100 : dice(3) ? 0 : dice(2) ? -4096 : -100; }

// What a range is called: its pages, or an address that is none of the arena's.
static void tell_place(long at, long length) {
    if (is_in_arena((unsigned long)at) && at % (long)PAGE == 0)
        printf(" %ld", (long)(((unsigned long)at - ARENA) / PAGE));
    else if (is_in_arena((unsigned long)at))
        printf(" %ld.%ld", (long)(((unsigned long)at - ARENA) / PAGE), at % (long)PAGE);
    else
        printf(" %lx", at);
    if (length >= 0 && length % (long)PAGE == 0)
        printf("+%ld", length / (long)PAGE);
    else if (length != LONG_MIN)
        printf("+%ldb", length);
}

static int any_prot(void) {
    static const int prots[] = {PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_READ, PROT_NONE,
                                PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC};
    return prots[dice(sizeof prots / sizeof *prots)];
}

static int any_worker(void) {
    unsigned from = dice(WORKERS);
    for (unsigned at = 0; at < WORKERS; at++)
        if (pids[(from + at) % WORKERS])
            return (int)((from + at) % WORKERS);
    return -1;
}

static void choose_mmap(int place, struct order *order) {
    struct range range = any_range(place);
    static const int extras[] = {MAP_NORESERVE, MAP_POPULATE, MAP_LOCKED, MAP_STACK, MAP_POPULATE | MAP_NONBLOCK, MAP_DENYWRITE};
    long *n = order->n;
    int kind = dice(4) == 0 ? MAP_SHARED : MAP_PRIVATE;
    int fixed = dice(4) ? MAP_FIXED : dice(2) ? MAP_FIXED_NOREPLACE : 0;
    n[0] = address(range.start);
    n[1] = range.pages * (long)PAGE;
    n[2] = any_prot();
    n[3] = kind | fixed | (dice(5) ? 0 : extras[dice(sizeof extras / sizeof *extras)]);
    n[4] = FILES;
    n[5] = 0;
    if (dice(5) < 2) {
        n[3] |= MAP_ANONYMOUS;
        if (dice(6) == 0) {
            n[3] |= MAP_GROWSDOWN;
            n[0] = address(FAR + 4 + dice(FAR_PAGES - 8));
        }
    } else {
        static const int mapped[] = {DATA, DATA, MEMORY, MEMORY, MEMORY, DATA_READ, MEMORY_READ, DATA_WRITE, ZERO, PIPE_IN, FILES};
        n[4] = mapped[dice(sizeof mapped / sizeof *mapped)];
        // Whether pipes lie on a file system without programs is each version's own.
        if (n[4] == PIPE_IN)
            n[2] &= ~PROT_EXEC;
        n[5] = n[4] == ZERO ? 0 : (long)(dice(10) * PAGE);
        if (kind == MAP_PRIVATE && dice(2))
            n[3] = (n[3] & ~MAP_PRIVATE) | MAP_SHARED;
        if (dice(20) == 0)
            n[3] |= MAP_GROWSDOWN;
        if (dice(20) == 0)
            n[5] += 100;
    }
    if (dice(25) == 0) {
        static const int wrong[] = {MAP_SHARED, MAP_SHARED_VALIDATE, MAP_TYPE, 0x800000};
        n[3] = (n[3] & ~(dice(2) ? MAP_TYPE : 0)) ^ wrong[dice(4)];
    }
    n[0] = wrong_address(n[0]);
    n[1] = wrong_length(n[1]);
    printf("mmap");
    tell_place(n[0], n[1]);
    printf(" prot %lx flags %lx %s", n[2], n[3], file_names[n[4]]);
    tell_place((long)ARENA + n[5], LONG_MIN);
}

static bool is_in_one_area(int place, const struct range *range) {
    unsigned long start = (unsigned long)address(range->start);
    for (int at = 0; at < seen[place].count; at++)
        if (seen[place].areas[at].start <= start && start < seen[place].areas[at].end)
            return start + range->pages * PAGE <= seen[place].areas[at].end;
    return true;
}

static bool is_locked(int place, const struct range *range) {
    unsigned long start = (unsigned long)address(range->start);
    for (int at = 0; at < seen[place].count; at++)
        if (seen[place].areas[at].start <= start && start < seen[place].areas[at].end && strstr(seen[place].areas[at].flags, "lo"))
            return true;
    return false;
}

static void choose_mremap(int place, struct order *order) {
    struct range range = any_range(place);
    static const int modes[] = {0, 0, MREMAP_MAYMOVE, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED,
                                MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP};
    long *n = order->n;
    n[0] = address(range.start);
    n[1] = range.pages * (long)PAGE;
    n[3] = dice(30) ? modes[dice(sizeof modes / sizeof *modes)] : (int)dice(16);
    if (is_locked(place, &range))
        n[3] &= ~MREMAP_DONTUNMAP;
    n[2] = dice(3) == 0 ? n[1] : (1 + (long)dice(8)) * (long)PAGE;
    n[4] = n[3] & MREMAP_FIXED ? address(dice(6) ? dice(NEAR) : FAR + dice(FAR_PAGES)) : 0;
    // What is told as one may be several, which grow or stay not together.
    if (n[1] < n[2] || n[3] & MREMAP_DONTUNMAP)
        n[1] = (long)PAGE;
    if (n[3] & MREMAP_DONTUNMAP && dice(8))
        n[2] = n[1];
    if (dice(8) == 0)
        n[1] = 0;
    else if (n[1] == n[2] && !is_in_one_area(place, &range))
        n[2] += (long)PAGE;
    if (n[1] < n[2] && n[1])
        n[1] = (long)PAGE;
    if (n[1] > n[2] && n[3] & MREMAP_FIXED)
        n[2] = (long)PAGE;
    n[0] = wrong_address(n[0]);
    n[1] = wrong_length(n[1]);
    n[2] = wrong_length(n[2]);
    n[4] = n[4] ? wrong_address(n[4]) : 0;
    printf("mremap");
    tell_place(n[0], n[1]);
    printf(" to");
    tell_place(n[4], n[2]);
    printf(" flags %lx", n[3]);
}

static bool is_anonymous(int place, const struct range *range) {
    unsigned long start = (unsigned long)address(range->start), end = start + range->pages * PAGE;
    for (int at = 0; at < seen[place].count; at++)
        if (seen[place].areas[at].start < end && start < seen[place].areas[at].end && *seen[place].areas[at].name)
            return false;
    return true;
}

static void choose_advice(int place, struct order *order) {
    static const struct {
        int number;
        const char *name;
    } advices[] = {{MADV_NORMAL, "NORMAL"}, {MADV_RANDOM, "RANDOM"}, {MADV_SEQUENTIAL, "SEQUENTIAL"}, {MADV_WILLNEED, "WILLNEED"},
                   {MADV_DONTNEED, "DONTNEED"}, {MADV_DONTNEED, "DONTNEED"}, {MADV_FREE, "FREE"}, {MADV_REMOVE, "REMOVE"}, {MADV_REMOVE, "REMOVE"},
                   {MADV_DONTFORK, "DONTFORK"}, {MADV_DOFORK, "DOFORK"}, {MADV_WIPEONFORK, "WIPEONFORK"}, {MADV_KEEPONFORK, "KEEPONFORK"},
                   {MADV_DONTDUMP, "DONTDUMP"}, {MADV_DODUMP, "DODUMP"}, {MADV_COLD, "COLD"}, {MADV_PAGEOUT, "PAGEOUT"},
                   {MADV_POPULATE_READ, "POPULATE_READ"}, {MADV_POPULATE_WRITE, "POPULATE_WRITE"}, {24, "DONTNEED_LOCKED"}, {5, "5"}, {1000, "1000"}};
    struct range range = any_range(place);
    int which = (int)dice(sizeof advices / sizeof *advices);
    long *n = order->n;
    n[0] = wrong_address(address(range.start));
    n[1] = wrong_length(range.pages * (long)PAGE);
    n[2] = advices[which].number;
    printf("madvise");
    tell_place(n[0], n[1]);
    printf(" %s", advices[which].name);
}

static void choose_limit(struct order *order) {
    static const struct {
        int number;
        const char *name;
    } limits[] = {{RLIMIT_AS, "AS"}, {RLIMIT_DATA, "DATA"}, {RLIMIT_MEMLOCK, "MEMLOCK"}, {RLIMIT_MEMLOCK, "MEMLOCK"}, {RLIMIT_STACK, "STACK"}};
    int which = (int)dice(5);
    order->n[0] = limits[which].number;
    order->n[1] = dice(2) ? -1 : (long)(dice(12) * PAGE);
    // Room for the stack that is there, and no more than what it is given at first.
    if (order->n[0] == RLIMIT_STACK)
        order->n[1] = order->n[1] < 0 ? 8 << 20 : order->n[1] + 64 * (long)PAGE;
    printf("setrlimit %s %ld", limits[which].name, order->n[1] < 0 ? -1 : order->n[1] / (long)PAGE);
}

static void choose_segment(int place, struct order *order) {
    static const int flags[] = {0, SHM_RDONLY, SHM_REMAP, SHM_REMAP | SHM_RDONLY, SHM_RND, SHM_EXEC};
    order->n[0] = dice(12) ? address(any_range(place).start) + (dice(8) ? 0 : 100) : 0;
    order->n[1] = dice(2);
    order->n[2] = flags[dice(6)];
    printf("shmat %ld", order->n[1]);
    tell_place(order->n[0], LONG_MIN);
    printf(" flags %lx", order->n[2]);
}

static void choose_detach(int place, struct order *order) {
    order->n[0] = address(any_range(place).start);
    for (int at = 0; at < seen[place].count && dice(6); at++)
        if (strstr(seen[place].areas[at].name, "SYSV") && dice(2))
            order->n[0] = (long)seen[place].areas[at].start;
    printf("shmdt");
    tell_place(order->n[0], LONG_MIN);
}

// Nothing in a range is of a file of this name, so that nothing is copied onto itself, and nothing makes an area grow.
static bool is_apart(int place, const char *name, unsigned long start, unsigned long end) {
    for (int at = 0; at < seen[place].count; at++) {
        const struct area *area = &seen[place].areas[at];
        if (area->start < end && start < area->end && *area->name && !strncmp(area->name, name, strlen(name)))
            return false;
        if (strstr(area->flags, "gd") && start < area->start)
            return false;
    }
    return true;
}

// What is mapped in a range can be read and written.
static bool may_all(int place, unsigned long start, unsigned long end) {
    for (int at = 0; at < seen[place].count; at++) {
        const struct area *area = &seen[place].areas[at];
        if (area->start < end && start < area->end && strncmp(area->mode, "rw", 2))
            return false;
    }
    return true;
}

static void choose_other(int place, int other, struct order *order) {
    static const char *const names[] = {"process_vm_readv", "process_vm_writev", "pread mem", "pwrite mem"};
    struct range range = any_range(other);
    long *n = order->n;
    n[0] = pids[other];
    n[1] = address(range.start) + (dice(3) ? 0 : (long)dice(PAGE));
    n[2] = (range.pages < BOUNCE ? range.pages : BOUNCE - 1) * (long)PAGE - (dice(3) ? 0 : (long)dice(PAGE));
    n[3] = dice(4) || order->call > VM_WRITE ? 0 : address(any_range(place).start);
    n[4] = (long)dice(256);
    if (n[3] && (place == other || !is_apart(place, "", (unsigned long)n[3], (unsigned long)(n[3] + n[2]))))
        n[3] = 0;
    // Elsewhere /proc/PID/mem does more than the process itself may.
    if (order->call >= MEM_READ && (!is_apart(other, "data", (unsigned long)n[1], (unsigned long)(n[1] + n[2])) ||
                                    !is_apart(other, "memfd", (unsigned long)n[1], (unsigned long)(n[1] + n[2])) || !may_all(other, (unsigned long)n[1], (unsigned long)(n[1] + n[2]))))
        order->call -= MEM_READ - VM_READ;
    printf("%s of %d", names[order->call - VM_READ], other);
    tell_place(n[1], n[2]);
    if (n[3])
        tell_place(n[3], LONG_MIN);
}

static bool choose_transfer(int place, struct order *order) {
    static const int sources[] = {DATA, MEMORY, DATA_READ, MEMORY_READ, PIPE_IN, PIPE_IN}, sinks[] = {DATA, MEMORY, DATA_WRITE, MEMORY, PIPE_OUT, PIPE_OUT};
    struct range range = any_range(place);
    long *n = order->n;
    n[0] = order->call == READ ? sources[dice(6)] : sinks[dice(6)];
    n[1] = address(range.start) + (dice(3) ? 0 : (long)dice(PAGE));
    n[2] = (range.pages < BOUNCE ? range.pages : BOUNCE - 1) * (long)PAGE - (dice(3) ? 0 : (long)dice(PAGE));
    n[3] = (long)(dice(6) * PAGE);
    n[4] = (1 + (long)dice(BOUNCE)) * (long)PAGE - (dice(3) ? 0 : (long)dice(PAGE));
    n[5] = (long)dice(256);
    // A write behind the end that fails may leave the file longer than it was.
    struct stat status;
    if (order->call == WRITE && n[0] <= MEMORY && fstat(files[n[0]], &status) == 0 && n[3] > status.st_size)
        n[3] = 0;
    if (!is_apart(place, n[0] <= DATA_WRITE ? "data" : n[0] <= MEMORY_READ ? "memfd" : "none", (unsigned long)n[1], (unsigned long)(n[1] + n[2])))
        return false;
    printf("%s %s", order->call == READ ? "read" : "write", file_names[n[0]]);
    tell_place(n[1], n[2]);
    printf(" at %ld", n[3] / (long)PAGE);
    return true;
}

static void choose_file(struct order *order) {
    static const int any[] = {DATA, MEMORY, MEMORY, DATA_READ, MEMORY_READ};
    long *n = order->n;
    n[0] = any[dice(5)];
    if (order->call == TRUNCATE) {
        n[1] = (long)(dice(FILE_PAGES + 3) * PAGE) - (n[0] == MEMORY && dice(3) == 0 ? 1000 : 0);
        printf("ftruncate %s %ld", file_names[n[0]], n[1]);
    } else if (order->call == PUNCH) {
        n[1] = (long)(dice(10) * PAGE);
        n[2] = (1 + (long)dice(4)) * (long)PAGE;
        n[3] = dice(3) ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : 0;
        printf("fallocate %s %ld+%ld mode %lx", file_names[n[0]], n[1] / (long)PAGE, n[2] / (long)PAGE, n[3]);
    } else {
        static const int seals[] = {0, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL};
        n[0] = dice(6) ? MEMORY : n[0];
        n[1] = seals[dice(dice(3) ? 5 : 6)];
        printf("seal %s %lx", file_names[n[0]], n[1]);
    }
}

static void choose_touch(int place, struct order *order) {
    struct range range = any_range(place);
    long *n = order->n;
    n[0] = address(range.start) + (dice(3) ? (long)(dice(range.pages) * PAGE) : -(long)PAGE) + (dice(2) ? 0 : 4088);
    // Below an area that grows.
    for (int at = 0; at < seen[place].count; at++)
        if (strstr(seen[place].areas[at].flags, "gd") && dice(2))
            n[0] = (long)(seen[place].areas[at].start - (dice(4) ? 1 + dice(6) : 1 + dice(500)) * PAGE) + 8;
    if (n[0] < (long)ARENA)
        n[0] = (long)ARENA;
    n[1] = dice(3) > 0;
    n[2] = (long)dice(1 << 30);
    printf("%s", n[1] ? "store" : "load");
    tell_place(n[0], LONG_MIN);
}

static bool is_beginning(int place, unsigned long start) {
    for (int at = 0; at < seen[place].count; at++)
        if (seen[place].areas[at].start == start)
            return true;
    return false;
}

// Calls on a range and a number.
static void choose_simple(int place, struct order *order) {
    static const int syncs[] = {MS_SYNC, MS_ASYNC, MS_SYNC | MS_INVALIDATE, MS_INVALIDATE, MS_SYNC | MS_ASYNC, 0, 8};
    static const int keys[] = {-1, -1, 77, -5};
    struct range range = any_range(place);
    long *n = order->n;
    n[0] = wrong_address(address(range.start));
    n[1] = wrong_length(range.pages * (long)PAGE);
    switch (order->call) {
    case MUNMAP:
        printf("munmap");
        break;
    case MPROTECT:
        n[2] = any_prot() | (dice(12) ? 0 : PROT_GROWSDOWN) | (dice(30) ? 0 : PROT_GROWSUP) | (dice(30) ? 0 : 0x100);
        // What is told as one may be several, of which it would reach to the first one's beginning only.
        if (!is_beginning(place, (unsigned long)n[0]))
            n[2] &= ~PROT_GROWSDOWN;
        printf("mprotect %lx", n[2]);
        break;
    case MSYNC:
        n[2] = syncs[dice(7)];
        printf("msync %lx", n[2]);
        break;
    case MINCORE:
        if (!is_anonymous(place, &range) || range.pages > NEAR || place != 0)
            n[0] += 1;
        n[2] = dice(4) ? 0 : address(any_range(place).start);
        if (!is_apart(place, "", (unsigned long)n[2], (unsigned long)n[2] + 1))
            n[2] = 0;
        printf("mincore");
        break;
    case MLOCK:
        n[2] = (long)dice(3) + (dice(8) == 0);
        printf("mlock %ld", n[2]);
        break;
    case MUNLOCK:
        printf("munlock");
        break;
    case PKEY:
        n[2] = any_prot();
        n[3] = keys[dice(4)];
        printf("pkey_mprotect %lx %ld", n[2], n[3]);
        break;
    default:
        n[2] = dice(8) == 0;
        printf("mseal %ld", n[2]);
    }
    tell_place(n[0], n[1]);
}

static enum call any_call(void) {
    static const struct {
        enum call call;
        int weight;
    } weights[] = {{MMAP, 130}, {MUNMAP, 35}, {MPROTECT, 60}, {MREMAP, 80}, {BRK, 12}, {MADVISE, 80}, {MSYNC, 15}, {MINCORE, 15}, {MLOCK, 25},
                   {MUNLOCK, 12}, {MLOCKALL, 6}, {MUNLOCKALL, 4}, {LIMIT, 20}, {TOUCH, 200}, {SHMAT, 30}, {SHMDT, 15}, {VM_READ, 20}, {VM_WRITE, 25},
                   {MEM_READ, 15}, {MEM_WRITE, 20}, {READ, 40}, {WRITE, 35}, {TRUNCATE, 20}, {PUNCH, 15}, {SEAL, 10}, {PKEY, 8},
                   {SEAL_MEMORY, 2}, {FORK, 30}, {EXIT, 10}};
    int sum = 0;
    for (size_t at = 0; at < sizeof weights / sizeof *weights; at++)
        sum += weights[at].weight;
    int left = (int)dice((uint32_t)sum);
    for (size_t at = 0; at < sizeof weights / sizeof *weights; at++)
        if ((left -= weights[at].weight) < 0)
            return weights[at].call;
    return TOUCH;
}

static bool choose(int place, struct order *order) {
    switch (order->call) {
    case MMAP:
        choose_mmap(place, order);
        break;
    case MREMAP:
        choose_mremap(place, order);
        break;
    case BRK:
        order->n[0] = (long)dice(20 * PAGE) * (dice(12) ? 1 : -1);
        printf("brk %ld", order->n[0]);
        break;
    case MADVISE:
        choose_advice(place, order);
        break;
    case MLOCKALL: {
        static const int flags[] = {MCL_CURRENT, MCL_FUTURE, MCL_CURRENT | MCL_FUTURE, MCL_CURRENT | MCL_ONFAULT, MCL_FUTURE | MCL_ONFAULT, MCL_ONFAULT, 0, 8};
        order->n[0] = flags[dice(8)];
        printf("mlockall %lx", order->n[0]);
        break;
    }
    case MUNLOCKALL:
        printf("munlockall");
        break;
    case LIMIT:
        choose_limit(order);
        break;
    case TOUCH:
        choose_touch(place, order);
        break;
    case SHMAT:
        choose_segment(place, order);
        break;
    case SHMDT:
        choose_detach(place, order);
        break;
    case VM_READ:
    case VM_WRITE:
    case MEM_READ:
    case MEM_WRITE:
        choose_other(place, any_worker(), order);
        break;
    case READ:
    case WRITE:
        return choose_transfer(place, order);
    case TRUNCATE:
    case PUNCH:
    case SEAL:
        choose_file(order);
        break;
    case FORK:
        for (int at = 0; at < WORKERS; at++)
            if (!pids[at]) {
                order->n[0] = at;
                printf("fork %d", at);
                return true;
            }
        return false;
    case EXIT:
        printf("exit");
        return place != 0;
    default:
        choose_simple(place, order);
    }
    return true;
}

static void tell_answer(const struct order *order, const struct answer *answer) {
    if (answer->signal) {
        printf(" = signal %d code %d at", answer->signal, answer->code);
        tell_place(answer->fault, LONG_MIN);
    } else if (answer->result == -2) {
        printf(" = elsewhere");
    } else if (order->call == FORK && answer->result > 0) {
        printf(" = a child");
    } else {
        tell_result(answer->result, answer->error);
    }
    switch (order->call) {
    case MINCORE:
        for (long at = 0; answer->result == 0 && !order->n[2] && at < (order->n[1] + (long)PAGE - 1) / (long)PAGE && at < NEAR; at++)
            printf("%s%d", at ? "" : " ", answer->incore[at] & 1);
        break;
    case READ:
    case WRITE:
        if (order->n[0] == PIPE_IN || order->n[0] == PIPE_OUT)
            printf(" pipe %x %d %d", answer->sum[0], (int)answer->sum[1], (int)answer->sum[2]);
        break;
    case VM_READ:
    case MEM_READ:
        printf(" sum %x", answer->sum[0]);
        break;
    default:
        break;
    }
}

// Until its memory is gone: whoever's child it is, nobody waits for it before the sequence ends.
static void wait_for_end(pid_t pid) {
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (;;) {
        int fd = open(path, O_RDONLY);
        ssize_t got = fd == -1 ? -1 : read(fd, text, sizeof text - 1);
        close(fd);
        text[got > 0 ? got : 0] = 0;
        if (got <= 0 || strstr(text, ") Z "))
            return;
        usleep(200);
    }
}

static void step(bool is_first) {
    static struct order order;
    static struct answer answer;
    int place = any_worker();
    memset(&order, 0, sizeof order);
    order.call = is_first ? MMAP : any_call();
    order.via = dice(3) ? MAIN : (int)dice(VIAS);
    printf("%d%c: ", place, "mtvc"[order.via]);
    if (!choose(place, &order)) {
        printf(" not now\n");
        return;
    }
    if (!ask(place, &order, &answer) || order.call == EXIT) {
        printf(order.call == EXIT ? "\n" : " = the worker is gone\n");
        wait_for_end(pids[place]);
        pids[place] = 0;
        return;
    }
    tell_answer(&order, &answer);
    if (order.call == FORK && answer.result > 0) {
        pids[order.n[0]] = (pid_t)answer.result;
        seen[order.n[0]].count = -1;
        show_layout((int)order.n[0]);
    }
    show_layout(place);
    if (dice(6) == 0)
        show_contents(place);
    printf("\n");
}

static void show_all(void) {
    printf("all:");
    for (int place = 0; place < WORKERS; place++)
        if (pids[place]) {
            show_layout(place);
            show_contents(place);
        }
    show_files();
    printf("\n");
}

static void fill_file(int fd, unsigned from) {
    static char page[4096];
    for (unsigned at = 0; at < FILE_PAGES; at++) {
        for (unsigned byte = 0; byte < PAGE; byte++)
            page[byte] = (char)(from + at * 7 + byte / 128);
        if (pwrite(fd, page, PAGE, (long)(at * PAGE)) != (ssize_t)PAGE)
            _exit(97);
    }
}

static int open_again(int fd, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags);
}

static void open_files(void) {
    int ends_of_pipe[2];
    unlink(data_path);
    files[DATA] = open(data_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    files[DATA_READ] = open(data_path, O_RDONLY);
    files[DATA_WRITE] = open(data_path, O_WRONLY);
    files[MEMORY] = memfd_create("model", MFD_ALLOW_SEALING);
    files[ZERO] = open("/dev/zero", O_RDWR);
    if (pipe2(ends_of_pipe, O_NONBLOCK))
        _exit(96);
    files[PIPE_IN] = ends_of_pipe[0];
    files[PIPE_OUT] = ends_of_pipe[1];
    files[FILES] = -1;
    fill_file(files[DATA], 1);
    fill_file(files[MEMORY], 101);
    files[MEMORY_READ] = open_again(files[MEMORY], O_RDONLY);
    segments[0] = shmget(IPC_PRIVATE, 4 * PAGE, IPC_CREAT | 0600);
    segments[1] = shmget(IPC_PRIVATE, 2 * PAGE + 100, IPC_CREAT | 0600);
}

static void close_files(void) {
    for (int at = 0; at < FILES; at++)
        close(files[at]);
    for (int at = 0; at < 2; at++)
        shmctl(segments[at], IPC_RMID, NULL);
    unlink(data_path);
}

// Without CAP_IPC_LOCK limits count.
static void drop_lock(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) == 0) {
        data[0].effective &= ~(1u << CAP_IPC_LOCK);
        data[0].permitted &= ~(1u << CAP_IPC_LOCK);
        syscall(SYS_capset, &header, data);
    }
}

static void begin(bool may_lock) {
    open_files();
    memset(seen, 0, sizeof seen);
    pid_t first = fork();
    if (first == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        // As much of its stack as it will ever use, so that it does not grow later on.
        char deep[100 << 10];
        memset(deep, 1, sizeof deep);
        __asm__ volatile("" : : "r"(deep) : "memory");
        heap = (unsigned long)syscall(SYS_brk, 0);
        if (!may_lock)
            drop_lock();
        work(0);
    }
    pids[0] = first;
}

static void end_all(void) {
    for (int at = 0; at < WORKERS; at++)
        if (pids[at])
            kill(pids[at], SIGKILL);
    while (waitpid(-1, NULL, __WALL) > 0)
        ;
    memset(pids, 0, sizeof pids);
    char left[sizeof(struct order)];
    for (int at = 0; at < WORKERS; at++)
        for (int end = 0; end < 2; end++)
            while (recv(ends[at][end], left, sizeof left, MSG_DONTWAIT) > 0)
                ;
    close_files();
}

static void sequence(unsigned seed, int steps) {
    printf("== %u\n", seed);
    fflush(stdout);
    begin_dice(seed);
    begin(dice(3) == 0);
    for (int at = 0; at < steps; at++) {
        if (any_worker() == -1)
            break;
        step(at < BEGIN);
        if (at % 10 == 9)
            show_all();
    }
    end_all();
}

int main(int argc, char **argv) {
    if (argc != 6)
        return 2;
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    mkdir(argv[2], 0700);
    snprintf(data_path, sizeof data_path, "%s/data", argv[2]);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (int at = 0; at < WORKERS; at++)
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends[at]))
            return 3;
    return run_sequences(argv + 3, sequence);
}
