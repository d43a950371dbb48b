// What does a guest test look like? TEST(name) { ... } registers one named behaviour; CHECK and its kin end the
// test with "file:line: why" when Linux would have done otherwise. HELPER(name) registers a program that a test
// starts by execve (spawn_helper). Every test runs in a fresh process, in a fresh empty directory, as the leader of a
// process group of its own; what it leaves behind is killed and removed by harness.c.
#pragma once
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GUEST_PAGE 4096L

typedef void guest_test(void);
typedef int guest_helper(int argc, char **argv);

void guest_register(const char *name, guest_test *run);
void guest_register_helper(const char *name, guest_helper *run);
_Noreturn void guest_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define TEST(name)                                                                                 \
    static void test_##name(void);                                                                 \
    __attribute__((constructor)) static void register_##name(void) {                               \
        guest_register(#name, test_##name);                                                        \
    }                                                                                              \
    static void test_##name(void)

#define HELPER(name)                                                                               \
    static int helper_##name(int argc, char **argv);                                               \
    __attribute__((constructor)) static void register_helper_##name(void) {                        \
        guest_register_helper(#name, helper_##name);                                               \
    }                                                                                              \
    static int helper_##name(int argc __attribute__((unused)), char **argv __attribute__((unused)))

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            guest_fail(__FILE__, __LINE__, "%s is false (errno %d)", #condition, errno);           \
    } while (0)

#define CHECK_EQ(left, right)                                                                      \
    do {                                                                                           \
        long long left_value = (long long)(left), right_value = (long long)(right);                \
        if (left_value != right_value)                                                             \
            guest_fail(__FILE__, __LINE__, "%s is %lld, want %s = %lld (errno %d)", #left,         \
                       left_value, #right, right_value, errno);                                    \
    } while (0)

// The value of a call that must not return -1.
#define CHECK_OK(call)                                                                             \
    __extension__({                                                                                \
        errno = 0;                                                                                 \
        long long ok_value = (long long)(call);                                                    \
        if (ok_value == -1)                                                                        \
            guest_fail(__FILE__, __LINE__, "%s: errno %d (%s)", #call, errno, strerror(errno));    \
        ok_value;                                                                                  \
    })

#define CHECK_ERR(call, want)                                                                      \
    do {                                                                                           \
        errno = 0;                                                                                 \
        long long err_value = (long long)(call);                                                   \
        int err_number = errno;                                                                    \
        if (err_value != -1)                                                                       \
            guest_fail(__FILE__, __LINE__, "%s is %lld, want %s", #call, err_value, #want);        \
        if (err_number != (want))                                                                  \
            guest_fail(__FILE__, __LINE__, "%s: errno %d (%s), want %s", #call, err_number,        \
                       strerror(err_number), #want);                                               \
    } while (0)

#define CHECK_STR(left, right)                                                                     \
    do {                                                                                           \
        const char *left_text = (left), *right_text = (right);                                     \
        if (strcmp(left_text, right_text) != 0)                                                    \
            guest_fail(__FILE__, __LINE__, "%s is \"%s\", want \"%s\"", #left, left_text,          \
                       right_text);                                                                \
    } while (0)

#define CHECK_EXITS(pid, code) guest_check_exits(__FILE__, __LINE__, (pid), (code))
#define CHECK_KILLED(pid, signal) guest_check_killed(__FILE__, __LINE__, (pid), (signal))

void guest_check_exits(const char *file, int line, pid_t pid, int code);
void guest_check_killed(const char *file, int line, pid_t pid, int signal_number);

// Runs the block in a child that exits 0 at its end; the value is the child's pid.
#define IN_CHILD(...)                                                                              \
    __extension__({                                                                                \
        pid_t child_pid = fork();                                                                  \
        if (child_pid == -1)                                                                       \
            guest_fail(__FILE__, __LINE__, "fork: errno %d", errno);                               \
        if (child_pid == 0) {                                                                      \
            __VA_ARGS__;                                                                           \
            _exit(0);                                                                              \
        }                                                                                          \
        child_pid;                                                                                 \
    })

// A one-way signal between processes, or threads: wait returns when the other side has opened it, or is gone.
struct gate {
    int ends[2];
};
void gate_init(struct gate *gate);
void gate_open(struct gate *gate);
void gate_wait(struct gate *gate);

// The absolute path of this program, and how it is started as one of its helpers.
const char *self_path(void);
pid_t spawn_helper(const char *name, const char *argument);

// Waits until `pid` is in `state` (the letter of /proc/PID/stat), for what can only be seen from outside: it blocks.
void wait_for_state(pid_t pid, char state);
long long now_ns(void);
void sleep_ms(int milliseconds);
// A new file with this content, relative to the test's own directory.
void make_file(const char *path, const char *content);
// Reads a whole small file; the result is terminated by a zero.
size_t read_file(const char *path, char *buffer, size_t size);
void catch_signal(int signal_number, void (*handler)(int), int flags);
void catch_siginfo(int signal_number, void (*handler)(int, siginfo_t *, void *), int flags);
void block_signal(int signal_number);
void become_nobody(void);
// Makes no call for so many rounds.
void be_busy(int rounds);
// A question and what it was answered, "question: answer": the runner compares the answers in a sandbox with the host's.
// The answer `-` stands for what this kernel does not have, and equals any.
void row(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Long enough for a wake-up on a busy machine, short enough to fail by.
#define WAKE_MS 20000
// A connection over the loopback: the client's end and the server's.
void local_tcp_pair(int pair[2]);
// One event, and this one, comes in time; none comes.
void expect_event(int epoll, uint32_t events, uint64_t data);
void expect_no_event(int epoll);
