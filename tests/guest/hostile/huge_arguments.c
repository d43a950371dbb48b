// What if a guest executes programs with arguments that are too many, too long, or not there?
#include "hostile.h"

static const char *self;

static void many(long count) {
    char **arguments = calloc((size_t)count + 1, sizeof *arguments);
    for (long at = 0; at < count; at++)
        arguments[at] = "argument";
    execve(self, arguments, arguments);
    _exit(errno == E2BIG ? 0 : 1);
}

static void long_ones(long length) {
    char *text = malloc((size_t)length + 1);
    memset(text, 'a', (size_t)length);
    text[length] = 0;
    char *arguments[] = {text, text, text, NULL};
    execve(self, arguments, arguments);
    _exit(errno == E2BIG ? 0 : 1);
}

static void wild(long round) {
    uint64_t seed = random_start() * (uint64_t)(round + 1);
    char **arguments = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned long at = 0; at < PAGE / sizeof *arguments; at++)
        arguments[at] = random_next(&seed) % 2 ? "x" : (char *)(random_next(&seed) >> 16);
    // Without an end: the next page is not there.
    syscall(SYS_execve, self, arguments, arguments);
    syscall(SYS_execve, arguments, arguments, arguments);
    syscall(SYS_execve, self, STUB_START, STUB_START);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    self = argv[0];
    long failed = 0;
    for (long count = 1000; count <= 4000000; count *= 4)
        failed += in_child(many, count) != 0;
    for (long length = 1000; length <= 64000000; length *= 4)
        failed += in_child(long_ones, length) != 0;
    for (long round = 0; round < 50; round++)
        in_child(wild, round);
    progress("executions that ended in another way", failed);
    return 0;
}
