// What the generators share: chance that a seed decides, and how a result is told.
#pragma once
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static inline void begin_dice(uint32_t seed) { state = seed * 0x9e3779b97f4a7c15ull + 1; }

static inline uint32_t dice(uint32_t sides) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 11) % sides);
}

static inline void tell_result(long result, int error) {
    if (result == -1)
        printf(" = -%s", strerrorname_np(error));
    else
        printf(" = %ld", result);
}

// What the runner asks for: FIRST[,FIRST...] COUNT STEPS. Each sequence tells its seed itself; the last line says that none is missing.
static inline int run_sequences(char **wanted, void (*sequence)(unsigned seed, int steps)) {
    unsigned count = (unsigned)strtoul(wanted[1], NULL, 10);
    for (char *at = wanted[0]; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        unsigned first = (unsigned)strtoul(at, NULL, 10);
        for (unsigned seed = first; seed < first + count; seed++)
            sequence(seed, atoi(wanted[2]));
    }
    printf("# done\n");
    return fflush(stdout) != 0;
}
