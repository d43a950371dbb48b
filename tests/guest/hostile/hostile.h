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
#define STUB_START 0x680000000000UL
#define STUB_END 0x680100000000UL
#define PAGE 4096UL

static inline void require_sandbox(int argc, char **argv) {
    if (argc != 2 || strcmp(argv[1], "in-a-sandbox")) {
        fprintf(stderr, "%s: attacks the kernel it runs on; say `in-a-sandbox` if it may\n", argv[0]);
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
