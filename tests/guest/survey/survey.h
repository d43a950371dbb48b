// Which values does a kernel take? SPACE(name, title, ...) registers a set of values of one argument, and the function that
// tries one: it returns true when the call has taken it. Each value is tried in a process of its own (EACH_ALONE), or
// all of a large set in one (TOGETHER). `title` is the first column of the list that the answers are compared with.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef bool trial(unsigned long value);

enum candidates {
    NAMED,   // Only what the list names: Linux ignores what it does not know.
    BITS,    // And each single bit below `end`.
    NUMBERS, // And each number from `first` to `end` - 1.
};
enum company { EACH_ALONE, TOGETHER };

struct space {
    const char *title;
    trial *try;
    enum candidates candidates;
    unsigned long first, end;
    enum company company;
};
void survey_register(const struct space *space);

#define SPACE(name, title, candidates, first, end, company)                                        \
    static bool try_##name(unsigned long value);                                                   \
    __attribute__((constructor)) static void register_##name(void) {                               \
        static const struct space space = {title, try_##name, candidates, first, end, company};    \
        survey_register(&space);                                                                   \
    }                                                                                              \
    static bool try_##name(unsigned long value __attribute__((unused)))

// The values that the list names; written by the test that runs this.
struct named {
    const char *title, *name;
    unsigned long value;
};
extern const struct named named_values[];
extern const size_t named_count;

// An empty regular file, open for both; a directory.
int some_file(void);
int some_directory(void);
// The call's success.
#define TAKES(call) ((long)(call) != -1)
