// What do the hostile guests share? Progress lines, a clock to stop by, random numbers, and the word that admits that
// this is a sandbox: without it they refuse to run, for they are there to do harm.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Where the systrap platform keeps what it needs in a guest's address space.
#define GUARD_START 0x550000000000UL
#define STUB_START 0x554000000000UL
#define STUB_END 0x554100000000UL
#define CALL_MAX (STUB_START - GUARD_START)
#define PAGE 4096UL

static inline void require_sandbox(int argc, char **argv) {
    if (argc != 2 || strcmp(argv[1], "in-a-sandbox")) {
        fputs("this program attacks the kernel it runs on; say `in-a-sandbox` if it may\n", stderr);
        exit(2);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
}

static inline void progress(const char *what, long count) { printf("  %s: %ld\n", what, count); }

static inline double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// xorshift: the same attack every time, so that what it finds can be found again.
static inline uint64_t random_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline uint64_t random_start(void) { return 0x9e3779b97f4a7c15UL; }

// An attack goes on for so long, however slow the machine and the platform are: what counts is the neighbour's life.
enum { ATTACK_MAX_S = 6 };

static inline bool is_time_left(void) {
    static double start;
    if (start == 0)
        start = seconds_now();
    return seconds_now() - start < ATTACK_MAX_S;
}

// Runs `attack` in a child that may die of it, and is killed if it goes on for too long.
static inline int in_child(void (*attack)(long), long argument) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGALRM, SIG_DFL);
        alarm(3);
        attack(argument);
        _exit(0);
    }
    if (pid == -1)
        return -1;
    int status = 0;
    double start = seconds_now();
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (seconds_now() - start > 4) {
            kill(-pid, SIGKILL);
            kill(pid, SIGKILL);
        }
        usleep(500);
    }
    kill(-pid, SIGKILL);
    return status;
}

static inline void drop_root(uid_t user) {
    syscall(SYS_setgroups, 0, NULL);
    syscall(SYS_setresgid, user, user, user);
    // As root the attack would prove nothing, or too much.
    if (syscall(SYS_setresuid, user, user, user) != 0)
        _exit(125);
}

static sigjmp_buf probe_back;
static inline void probe_fault(int number) { siglongjmp(probe_back, number); }

static inline void catch_probe_faults(void) {
    struct sigaction action = {.sa_handler = probe_fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

static inline bool can_read(const volatile char *at) {
    if (sigsetjmp(probe_back, 1))
        return false;
    (void)*at;
    return true;
}

static inline bool can_write(volatile char *at) {
    if (sigsetjmp(probe_back, 1))
        return false;
    *at = *at;
    return true;
}

// Calls `visit` for pages of the stub's region: the first 32 MiB and the last 1 MiB page by page, the rest by samples.
static inline void each_stub_page(void (*visit)(char *page)) {
    for (uint64_t at = STUB_START; at < STUB_END;) {
        visit((char *)at);
        bool dense = at < STUB_START + (32UL << 20) || at >= STUB_END - (1UL << 20);
        at += dense ? PAGE : 1UL << 20;
    }
}
