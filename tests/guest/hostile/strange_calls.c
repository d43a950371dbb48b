// Does any call that has been the way into kernels give a guest anything? Programs for the kernel, rings, keys, tracing, faults
// served by users: each with arguments that are right, so that it goes as far as it can.
#include "hostile.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static void filters(long unused) {
    (void)unused;
    // A filter may only be the guest's own affair; one that refuses all must not reach the kernel's own orders to the stub.
    static struct sock_filter refuse[] = {{BPF_RET, 0, 0, SECCOMP_RET_ERRNO | 1}};
    static struct sock_filter trap[] = {{BPF_RET, 0, 0, SECCOMP_RET_TRAP}};
    static struct sock_filter endless[] = {{BPF_JMP | BPF_JA, 0, 0, 0xffffffff}};
    struct sock_fprog programs[] = {{1, endless}, {0, refuse}, {65535, refuse}, {1, (void *)STUB_START}, {1, trap}, {1, refuse}};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    for (unsigned long at = 0; at < sizeof programs / sizeof *programs; at++) {
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &programs[at]);
        for (unsigned long flags = 0; flags < 64; flags++)
            syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &programs[at]);
        mmap(NULL, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    fork();
}

static void keys(long unused) {
    (void)unused;
    for (long operation = 0; operation < 34; operation++)
        for (long key = -8; key < 8; key++)
            syscall(SYS_keyctl, operation, key, STUB_START, 4096, 0);
    for (int at = 0; at < 1000; at++)
        syscall(SYS_add_key, "user", "name", "payload", 7, -2);
    syscall(SYS_request_key, "user", "name", "info", -2);
}

static void programs(long unused) {
    (void)unused;
    static uint64_t attributes[16] = {1, 4, 4, 16};
    for (long command = 0; command < 40; command++)
        for (unsigned long size = 0; size <= sizeof attributes; size += 8)
            syscall(SYS_bpf, command, attributes, size);
    static uint32_t event[32] = {0, 128};
    for (uint32_t type = 0; type < 6; type++) {
        event[0] = type;
        syscall(SYS_perf_event_open, event, 0, -1, -1, 0);
        syscall(SYS_perf_event_open, event, -1, 0, -1, 0);
    }
}

static void rings(long unused) {
    (void)unused;
    static uint32_t parameters[30];
    for (uint32_t flags = 0; flags < 1 << 16; flags = flags * 2 + 1) {
        parameters[2] = flags;
        long fd = syscall(SYS_io_uring_setup, 64, parameters);
        for (long operation = 0; operation < 32; operation++)
            syscall(SYS_io_uring_register, fd, operation, STUB_START, 16);
        syscall(SYS_io_uring_enter, fd, 64, 0, 1, NULL, 0);
    }
    unsigned long context = 0;
    for (int at = 0; at < 100; at++)
        syscall(SYS_io_setup, 65536, &context);
}

static void faults(long unused) {
    (void)unused;
    for (long flags = 0; flags < 1 << 12; flags = flags * 2 + 1) {
        long fd = syscall(SYS_userfaultfd, flags);
        if (fd >= 0)
            _exit(1);
    }
    for (long number = 424; number < 480; number++)
        syscall(number, STUB_START, PAGE, STUB_START, PAGE, 0, 0);
}

static void tracing(long unused) {
    (void)unused;
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        for (;;)
            getppid();
    }
    waitpid(pid, NULL, __WALL | WUNTRACED);
    char bytes[4096] = "";
    struct iovec piece = {bytes, sizeof bytes};
    for (long request = 0; request < 64; request++) {
        ptrace((enum __ptrace_request)request, pid, STUB_START, bytes);
        ptrace((enum __ptrace_request)(0x4200 + request % 32), pid, 0x202, &piece);
        ptrace((enum __ptrace_request)request, pid, 15 * 8, STUB_START);
        kill(pid, SIGCONT);
    }
    kill(pid, SIGKILL);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    void (*const attacks[])(long) = {filters, keys, programs, rings, faults, tracing};
    for (unsigned long at = 0; at < sizeof attacks / sizeof *attacks; at++)
        progress("wait status", in_child(attacks[at], 0));
    return WEXITSTATUS(in_child(faults, 0));
}
