// What do the everyday operations of a process cost, seen from inside? Prints "NAME NANOSECONDS" per line: the
// median of several batches, each long enough for the clock. Arguments pick operations; none means all.
// Static, no dependencies: the same file runs natively and in every sandbox.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define TOUCH_PAGES 1024
#define BATCH_NS 15000000.0
#define BATCHES 7

static const char *self;
static const char *existing = "/etc/passwd";

static void die(const char *what) {
    fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

// Each operation runs `n` times and returns the nanoseconds that count.
typedef double (*operation)(long n);

static double null_call(long n) {
    double begun = now();
    for (long i = 0; i < n; i++) syscall(SYS_close, -1);
    return now() - begun;
}

static double get_pid(long n) {
    double begun = now();
    for (long i = 0; i < n; i++) getpid();
    return now() - begun;
}

static double pread_page(long n) {
    static char page[PAGE];
    int fd = open(self, O_RDONLY);
    if (fd < 0) die("open");
    double begun = now();
    for (long i = 0; i < n; i++)
        if (pread(fd, page, PAGE, (i % 64) * PAGE) != PAGE) die("pread");
    double took = now() - begun;
    close(fd);
    return took;
}

// A file of our own, `size` bytes long, that goes with its descriptor.
static int scratch_file(long size) {
    char path[] = "/tmp/bench-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || unlink(path) || ftruncate(fd, size)) die(path);
    return fd;
}

static double transfer(long n, long size, int writes) {
    char *bytes = malloc(size);
    int fd = scratch_file(size);
    memset(bytes, 1, size);
    if (pwrite(fd, bytes, size, 0) != size) die("pwrite");
    double begun = now();
    for (long i = 0; i < n; i++)
        if ((writes ? pwrite(fd, bytes, size, 0) : pread(fd, bytes, size, 0)) != size) die("transfer");
    double took = now() - begun;
    close(fd);
    free(bytes);
    return took;
}

static double pwrite_page(long n) { return transfer(n, PAGE, 1); }
static double pread_64k(long n) { return transfer(n, 64 << 10, 0); }
static double pwrite_64k(long n) { return transfer(n, 64 << 10, 1); }
static double pread_1m(long n) { return transfer(n, 1 << 20, 0); }
static double pwrite_1m(long n) { return transfer(n, 1 << 20, 1); }

static double list_thousand(long n) {
    static char entries[32 << 10];
    char directory[] = "/tmp/bench-XXXXXX", name[64];
    if (!mkdtemp(directory)) die(directory);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "%s/file-%04d", directory, i);
        close(open(name, O_CREAT | O_WRONLY, 0600));
    }
    int fd = open(directory, O_RDONLY | O_DIRECTORY);
    if (fd < 0) die(directory);
    double begun = now();
    for (long i = 0; i < n; i++) {
        lseek(fd, 0, SEEK_SET);
        while (syscall(SYS_getdents64, fd, entries, sizeof entries) > 0) {}
    }
    double took = now() - begun;
    close(fd);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "%s/file-%04d", directory, i);
        unlink(name);
    }
    rmdir(directory);
    return took;
}

static double open_close(long n) {
    double begun = now();
    for (long i = 0; i < n; i++) {
        int fd = open(existing, O_RDONLY);
        if (fd < 0) die("open");
        close(fd);
    }
    return now() - begun;
}

static double stat_file(long n) {
    struct stat st;
    double begun = now();
    for (long i = 0; i < n; i++)
        if (stat(existing, &st)) die("stat");
    return now() - begun;
}

static double pipe_write_read(long n) {
    int ends[2];
    char byte = 'x';
    if (pipe(ends)) die("pipe");
    double begun = now();
    for (long i = 0; i < n; i++)
        if (write(ends[1], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1) die("pipe");
    double took = now() - begun;
    close(ends[0]);
    close(ends[1]);
    return took;
}

// A byte to a child process and one back: here through `here[0]` and `here[1]`, there likewise; may be one and the same.
static double ping_pong(long n, const int here[2], const int there[2]) {
    char byte = 'x';
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        close(here[0]);
        close(here[1]);
        while (read(there[0], &byte, 1) == 1)
            if (write(there[1], &byte, 1) != 1) break;
        _exit(0);
    }
    close(there[0]);
    close(there[1]);
    // The first time counts the child's start.
    double begun = 0;
    for (long i = -1; i < n; i++) {
        if (i == 0) begun = now();
        if (write(here[1], &byte, 1) != 1 || read(here[0], &byte, 1) != 1) die("ping-pong");
    }
    double took = now() - begun;
    close(here[0]);
    close(here[1]);
    waitpid(child, NULL, 0);
    return took;
}

static double pipe_ping_pong(long n) {
    int out[2], back[2];
    if (pipe(out) || pipe(back)) die("pipe");
    return ping_pong(n, (int[]){back[0], out[1]}, (int[]){out[0], back[1]});
}

static double unix_ping_pong(long n) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) die("socketpair");
    return ping_pong(n, (int[]){pair[0], pair[0]}, (int[]){pair[1], pair[1]});
}

static void tcp_pair(int pair[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1)) die("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &length)) die("getsockname");
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(pair[0], (struct sockaddr *)&address, length)) die("connect");
    pair[1] = accept(listener, NULL, NULL);
    if (pair[1] < 0) die("accept");
    close(listener);
    for (int i = 0; i < 2; i++) setsockopt(pair[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static double tcp_ping_pong(long n) {
    int pair[2];
    tcp_pair(pair);
    return ping_pong(n, (int[]){pair[0], pair[0]}, (int[]){pair[1], pair[1]});
}

// 64 KiB at a time to a child that reads as fast as it can.
static double tcp_send_64k(long n) {
    static char bytes[1 << 16];
    int pair[2];
    tcp_pair(pair);
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        close(pair[0]);
        while (read(pair[1], bytes, sizeof bytes) > 0) {}
        _exit(0);
    }
    close(pair[1]);
    double begun = now();
    for (long i = 0; i < n; i++)
        if (write(pair[0], bytes, sizeof bytes) != sizeof bytes) die("write");
    // Until the other side has read it all.
    shutdown(pair[0], SHUT_WR);
    if (read(pair[0], bytes, 1) != 0) die("read");
    double took = now() - begun;
    close(pair[0]);
    waitpid(child, NULL, 0);
    return took;
}

static uint32_t turn;

// As the C library's own locks call it, not through syscall(3).
static long futex(uint32_t *word, long operation, long value) {
    long result;
    register void *timeout __asm__("r10") = NULL;
    __asm__ volatile("movl $202, %%eax\n\tsyscall"
                     : "=a"(result)
                     : "D"(word), "S"(operation), "d"(value), "r"(timeout)
                     : "rcx", "r11", "memory");
    return result;
}

static void wait_for_turn(uint32_t mine) {
    uint32_t seen;
    while ((seen = __atomic_load_n(&turn, __ATOMIC_ACQUIRE)) != mine)
        futex(&turn, FUTEX_WAIT_PRIVATE, seen);
}

static void give_turn(uint32_t theirs) {
    __atomic_store_n(&turn, theirs, __ATOMIC_RELEASE);
    futex(&turn, FUTEX_WAKE_PRIVATE, 1);
}

static void *partner(void *rounds) {
    for (long i = 0; i < (long)rounds; i++) {
        wait_for_turn(1);
        give_turn(0);
    }
    return NULL;
}

static double futex_ping_pong(long n) {
    pthread_t thread;
    turn = 0;
    if (pthread_create(&thread, NULL, partner, (void *)n)) die("pthread_create");
    double begun = now();
    for (long i = 0; i < n; i++) {
        give_turn(1);
        wait_for_turn(0);
    }
    double took = now() - begun;
    pthread_join(thread, NULL);
    return took;
}

static double first_touch(long n) {
    double took = 0;
    for (long done = 0; done < n; done += TOUCH_PAGES) {
        char *area = mmap(NULL, TOUCH_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED) die("mmap");
        madvise(area, TOUCH_PAGES * PAGE, MADV_NOHUGEPAGE);
        long pages = n - done < TOUCH_PAGES ? n - done : TOUCH_PAGES;
        double begun = now();
        for (long i = 0; i < pages; i++) ((volatile char *)area)[i * PAGE] = 1;
        took += now() - begun;
        munmap(area, TOUCH_PAGES * PAGE);
    }
    return took;
}

static double map_touch_unmap(long n) {
    double begun = now();
    for (long i = 0; i < n; i++) {
        volatile char *area = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED) die("mmap");
        for (int page = 0; page < 16; page++) area[page * PAGE] = 1;
        munmap((void *)area, 16 * PAGE);
    }
    return now() - begun;
}

static double fork_exit_wait(long n) {
    double begun = now();
    for (long i = 0; i < n; i++) {
        pid_t child = fork();
        if (child < 0) die("fork");
        if (child == 0) _exit(0);
        if (waitpid(child, NULL, 0) != child) die("waitpid");
    }
    return now() - begun;
}

static double spawn_and_wait(long n, char *const argv[]) {
    static char *const environment[] = {"PATH=/usr/bin:/bin", NULL};
    double begun = now();
    for (long i = 0; i < n; i++) {
        pid_t child;
        int status;
        // posix_spawn is vfork and exec in the C library.
        if (posix_spawn(&child, argv[0], NULL, NULL, argv, environment)) die(argv[0]);
        if (waitpid(child, &status, 0) != child || status != 0) die(argv[0]);
    }
    return now() - begun;
}

static double vfork_exec_wait(long n) {
    char *const argv[] = {(char *)self, "--true", NULL};
    return spawn_and_wait(n, argv);
}

static double python_start(long n) {
    char *const argv[] = {"/usr/bin/python3", "-c", "pass", NULL};
    return spawn_and_wait(n, argv);
}

static void *nothing(void *unused) { return unused; }

static double thread_create_join(long n) {
    double begun = now();
    for (long i = 0; i < n; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, nothing, NULL)) die("pthread_create");
        pthread_join(thread, NULL);
    }
    return now() - begun;
}

static const struct {
    const char *name;
    operation run;
} operations[] = {
    {"null-call", null_call},
    {"getpid", get_pid},
    {"pread-4k", pread_page},
    {"pwrite-4k", pwrite_page},
    {"pread-64k", pread_64k},
    {"pwrite-64k", pwrite_64k},
    {"pread-1m", pread_1m},
    {"pwrite-1m", pwrite_1m},
    {"getdents-1000", list_thousand},
    {"open-close", open_close},
    {"stat", stat_file},
    {"pipe-write-read", pipe_write_read},
    {"pipe-ping-pong", pipe_ping_pong},
    {"unix-ping-pong", unix_ping_pong},
    {"tcp-ping-pong", tcp_ping_pong},
    {"tcp-send-64k", tcp_send_64k},
    {"futex-ping-pong", futex_ping_pong},
    {"first-touch-page", first_touch},
    {"mmap-touch-munmap-64k", map_touch_unmap},
    {"fork-exit-wait", fork_exit_wait},
    {"vfork-exec-wait", vfork_exec_wait},
    {"thread-create-join", thread_create_join},
    {"python-start", python_start},
};

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double measure(operation run) {
    long n = 1;
    double took = run(1);
    while (took < BATCH_NS / 4 && n < 1L << 24) {
        n *= 2;
        took = run(n);
    }
    n = (long)(n * BATCH_NS / took);
    if (n < 1) n = 1;
    double each[BATCHES];
    for (int i = 0; i < BATCHES; i++) each[i] = run(n) / n;
    qsort(each, BATCHES, sizeof each[0], by_value);
    return each[BATCHES / 2];
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--true") == 0) return 0;
    self = argv[0];
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        int wanted = argc == 1;
        for (int a = 1; a < argc; a++) wanted |= strcmp(argv[a], operations[i].name) == 0;
        if (!wanted) continue;
        printf("%s %.0f\n", operations[i].name, measure(operations[i].run));
        fflush(stdout);
    }
    return 0;
}
