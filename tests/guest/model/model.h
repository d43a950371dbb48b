// What the generators share: chance that a seed decides, and how a result is told.
#pragma once
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
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
