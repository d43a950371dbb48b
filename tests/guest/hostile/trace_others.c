// May an ordinary user trace, read or write the processes of others, or find the stub's keeper?
#include "hostile.h"
#include <sys/ptrace.h>
#include <sys/uio.h>

static void attack(long parent) {
    drop_root(65531);
    static char bytes[64];
    struct iovec local = {bytes, sizeof bytes}, remote = {(void *)STUB_START, sizeof bytes};
    long taken = 0;
    for (pid_t pid = 0; pid < 2000; pid++) {
        if (pid == getpid())
            continue;
        taken += ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0;
        taken += ptrace((enum __ptrace_request)0x4206, pid, NULL, NULL) == 0; // PTRACE_SEIZE
        taken += syscall(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 0) > 0;
        taken += syscall(SYS_process_vm_writev, pid, &local, 1, &remote, 1, 0) > 0;
        if (pid > 0 && pid != parent && kill(pid, SIGSTOP) == 0)
            taken++;
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/mem", pid);
        taken += open(path, O_RDWR) != -1;
    }
    _exit(taken > 100 ? 100 : (int)taken);
}

static void trace_me(long argument) {
    (void)argument;
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGTRAP);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    int status = in_child(attack, getppid());
    progress("processes of others taken (wait status)", status);
    in_child(trace_me, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}
