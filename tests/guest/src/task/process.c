// How do processes begin, end and wait for each other?
#include "../harness.h"
#include <linux/sched.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/times.h>

TEST(fork_returns_zero_in_the_child_and_the_pid_in_the_parent) {
    pid_t self = getpid();
    pid_t pid = IN_CHILD(CHECK_EQ(getppid(), self); CHECK(getpid() != self));
    CHECK(pid != self);
    CHECK_EXITS(pid, 0);
}

TEST(exit_code_is_the_low_eight_bits) {
    pid_t pid = IN_CHILD(_exit(0x1ff));
    CHECK_EXITS(pid, 0xff);
}

TEST(vfork_shares_memory_and_suspends_the_parent) {
    volatile int seen = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        seen = 42;
        _exit(3);
    }
    CHECK_EQ(seen, 42);
    CHECK_EXITS(pid, 3);
}

TEST(vfork_child_may_exec) {
    pid_t pid = vfork();
    if (pid == 0) {
        execl(self_path(), self_path(), "--helper", "exit_with", "5", NULL);
        _exit(127);
    }
    CHECK_EXITS(pid, 5);
}

HELPER(exit_with) { return atoi(argv[0]); }

HELPER(open_after_spawn) { return fcntl(77, F_GETFD) == -1 ? 1 : 0; }

TEST(posix_spawn_runs_file_actions) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    CHECK_EQ(posix_spawn_file_actions_addopen(&actions, 77, "/dev/null", O_RDONLY, 0), 0);
    char *arguments[] = {(char *)self_path(), "--helper", "open_after_spawn", NULL};
    pid_t pid;
    CHECK_EQ(posix_spawn(&pid, self_path(), &actions, NULL, arguments, environ), 0);
    CHECK_EXITS(pid, 0);
}

TEST(posix_spawn_of_a_missing_program_is_enoent) {
    char *arguments[] = {"none", NULL};
    pid_t pid;
    CHECK_EQ(posix_spawn(&pid, "./none", NULL, NULL, arguments, environ), ENOENT);
}

static int on_own_stack(void *argument) {
    *(int *)argument = getpid();
    return 9;
}

TEST(clone_with_vm_runs_on_its_own_stack) {
    static char stack[65536] __attribute__((aligned(16)));
    int seen = 0;
    pid_t pid = CHECK_OK(clone(on_own_stack, stack + sizeof stack, CLONE_VM | SIGCHLD, &seen));
    CHECK_EXITS(pid, 9);
    CHECK_EQ(seen, pid);
}

TEST(clone_files_shares_the_descriptor_table) {
    pid_t pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(dup2(1, 88) == 88 ? 0 : 1);
    CHECK_EXITS(pid, 0);
    CHECK_OK(fcntl(88, F_GETFD));
}

TEST(clone_fs_shares_the_working_directory_and_umask) {
    CHECK_OK(mkdir("d", 0755));
    pid_t pid = syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        umask(077);
        _exit(chdir("d") == 0 ? 0 : 1);
    }
    CHECK_EXITS(pid, 0);
    CHECK_OK(access("../d", F_OK));
    CHECK_EQ(umask(022), 077);
}

TEST(clone_parent_settid_and_child_settid_store_the_tid) {
    static pid_t parent_tid, child_tid;
    pid_t pid = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, 0, &parent_tid, &child_tid, 0);
    if (pid == 0)
        _exit(child_tid == getpid() ? 0 : 1);
    CHECK_EXITS(pid, 0);
    CHECK_EQ(parent_tid, pid);
    CHECK_EQ(child_tid, 0);
}

TEST(clone_thread_without_vm_and_sighand_is_einval) {
    CHECK_ERR(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0), EINVAL);
    CHECK_ERR(syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0), EINVAL);
}

TEST(clone3_forks_and_stores_the_parents_tid) {
    pid_t stored = 0;
    struct clone_args arguments = {.flags = CLONE_PARENT_SETTID, .parent_tid = (uintptr_t)&stored, .exit_signal = SIGCHLD};
    pid_t pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0)
        _exit(4);
    CHECK_EXITS(pid, 4);
    CHECK_EQ(stored, pid);
}

TEST(clone3_with_bad_arguments_is_einval) {
    struct clone_args arguments = {.exit_signal = SIGCHLD, .stack = 0x1000};
    CHECK_ERR(syscall(SYS_clone3, &arguments, sizeof arguments), EINVAL);
    CHECK_ERR(syscall(SYS_clone3, &arguments, 8), EINVAL);
}

TEST(exit_signal_other_than_sigchld_needs_wclone) {
    pid_t pid = syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (pid == 0)
        _exit(6);
    int status;
    CHECK_ERR(waitpid(pid, &status, 0), ECHILD);
    CHECK_EQ(waitpid(pid, &status, __WCLONE), pid);
    CHECK_EQ(WEXITSTATUS(status), 6);
}

TEST(wait_without_children_is_echild) { CHECK_ERR(wait(NULL), ECHILD); }

TEST(waitpid_of_a_stranger_is_echild) { CHECK_ERR(waitpid(getpid(), NULL, 0), ECHILD); }

TEST(wait4_with_unknown_options_is_einval) { CHECK_ERR(wait4(-1, NULL, 0x10, NULL), EINVAL); }

TEST(wnohang_returns_zero_while_the_child_runs) {
    struct gate gate;
    gate_init(&gate);
    pid_t pid = IN_CHILD(gate_wait(&gate));
    CHECK_EQ(waitpid(pid, NULL, WNOHANG), 0);
    gate_open(&gate);
    CHECK_EXITS(pid, 0);
    CHECK_ERR(waitpid(pid, NULL, WNOHANG), ECHILD);
}

TEST(waitid_wnowait_leaves_the_child_to_be_waited_for) {
    pid_t pid = IN_CHILD(_exit(11));
    siginfo_t info;
    for (int round = 0; round < 2; round++) {
        memset(&info, 0, sizeof info);
        CHECK_OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
        CHECK_EQ(info.si_pid, pid);
        CHECK_EQ(info.si_code, CLD_EXITED);
        CHECK_EQ(info.si_status, 11);
        CHECK_EQ(info.si_signo, SIGCHLD);
    }
    CHECK_EXITS(pid, 11);
}

TEST(waitid_nohang_without_news_clears_the_pid) {
    struct gate gate;
    gate_init(&gate);
    pid_t pid = IN_CHILD(gate_wait(&gate));
    siginfo_t info;
    memset(&info, 0xff, sizeof info);
    CHECK_OK(waitid(P_PID, pid, &info, WEXITED | WNOHANG));
    CHECK_EQ(info.si_pid, 0);
    CHECK_EQ(info.si_signo, 0);
    gate_open(&gate);
    CHECK_EXITS(pid, 0);
}

TEST(waitid_without_event_kinds_is_einval) {
    siginfo_t info;
    CHECK_ERR(waitid(P_ALL, 0, &info, WNOHANG), EINVAL);
    CHECK_ERR(waitid((idtype_t)99, 0, &info, WEXITED), EINVAL);
}

TEST(waitid_tells_a_death_by_signal) {
    pid_t pid = IN_CHILD(pause());
    CHECK_OK(kill(pid, SIGKILL));
    siginfo_t info;
    CHECK_OK(waitid(P_PID, pid, &info, WEXITED));
    CHECK_EQ(info.si_code, CLD_KILLED);
    CHECK_EQ(info.si_status, SIGKILL);
}

TEST(wuntraced_and_wcontinued_report_stop_and_continue) {
    pid_t pid = IN_CHILD(for (;;) pause());
    int status;
    CHECK_OK(kill(pid, SIGSTOP));
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    CHECK_EQ(WSTOPSIG(status), SIGSTOP);
    CHECK_EQ(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
    CHECK_OK(kill(pid, SIGCONT));
    CHECK_EQ(waitpid(pid, &status, WCONTINUED), pid);
    CHECK(WIFCONTINUED(status));
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_KILLED(pid, SIGKILL);
}

TEST(waitpid_zero_waits_for_the_own_group_only) {
    pid_t other = IN_CHILD(setpgid(0, 0); pause());
    CHECK_OK(setpgid(other, other));
    pid_t own = IN_CHILD(_exit(1));
    int status;
    CHECK_EQ(waitpid(0, &status, 0), own);
    CHECK_ERR(waitpid(0, &status, 0), ECHILD);
    CHECK_OK(kill(other, SIGKILL));
    CHECK_EQ(waitpid(-other, &status, 0), other);
}

TEST(wait4_fills_the_childs_usage) {
    pid_t pid = IN_CHILD({
        clock_t until = clock() + CLOCKS_PER_SEC / 20;
        while (clock() < until)
            ;
    });
    struct rusage usage;
    CHECK_EQ(wait4(pid, NULL, 0, &usage), pid);
    CHECK(usage.ru_utime.tv_sec * 1000000L + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec > 20000);
}

TEST(orphan_is_adopted_by_the_subreaper) {
    CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    int set = 0;
    CHECK_OK(prctl(PR_GET_CHILD_SUBREAPER, &set, 0, 0, 0));
    CHECK_EQ(set, 1);
    pid_t self = getpid();
    struct gate gate;
    gate_init(&gate);
    pid_t middle = IN_CHILD({
        IN_CHILD(gate_wait(&gate); CHECK_EQ(getppid(), self); _exit(21));
    });
    CHECK_EXITS(middle, 0);
    gate_open(&gate);
    int status;
    CHECK(wait(&status) > 0);
    CHECK_EQ(WEXITSTATUS(status), 21);
}

TEST(orphan_without_subreaper_gets_another_parent) {
    struct gate gate;
    struct gate told;
    gate_init(&gate);
    gate_init(&told);
    pid_t middle = IN_CHILD({
        pid_t parent = getpid();
        IN_CHILD(gate_wait(&gate); CHECK(getppid() != parent); gate_open(&told));
    });
    CHECK_EXITS(middle, 0);
    gate_open(&gate);
    gate_wait(&told);
}

TEST(pdeathsig_is_sent_when_the_parent_dies) {
    CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    struct gate ready;
    gate_init(&ready);
    pid_t middle = IN_CHILD({
        IN_CHILD(prctl(PR_SET_PDEATHSIG, SIGTERM); gate_open(&ready); pause());
        gate_wait(&ready);
    });
    CHECK_EXITS(middle, 0);
    int status;
    CHECK(wait(&status) > 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

TEST(zombie_can_be_signalled_until_waited_for) {
    pid_t pid = IN_CHILD();
    wait_for_state(pid, 'Z');
    CHECK_OK(kill(pid, 0));
    CHECK_EXITS(pid, 0);
    CHECK_ERR(kill(pid, 0), ESRCH);
}

TEST(setpgid_makes_and_joins_groups) {
    struct gate gate;
    gate_init(&gate);
    pid_t first = IN_CHILD(gate_wait(&gate));
    pid_t second = IN_CHILD(gate_wait(&gate));
    CHECK_OK(setpgid(first, 0));
    CHECK_EQ(getpgid(first), first);
    CHECK_OK(setpgid(second, first));
    CHECK_EQ(getpgid(second), first);
    CHECK_ERR(setpgid(getppid(), 0), ESRCH);
    CHECK_ERR(setpgid(second, -1), EINVAL);
    CHECK_ERR(setpgid(second, 999999), EPERM);
    gate_open(&gate);
    gate_open(&gate);
    CHECK_EXITS(first, 0);
    CHECK_EXITS(second, 0);
}

TEST(setpgid_of_a_child_after_exec_is_eacces) {
    int ends[2];
    CHECK_OK(pipe(ends));
    pid_t pid = IN_CHILD(dup2(ends[1], 1); execl(self_path(), self_path(), "--helper", "say_and_wait", NULL));
    char byte;
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    CHECK_ERR(setpgid(pid, 0), EACCES);
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_KILLED(pid, SIGKILL);
}

HELPER(say_and_wait) {
    if (write(1, "x", 1) == 1)
        pause();
    return 0;
}

TEST(setsid_makes_a_session_and_is_eperm_for_a_leader) {
    CHECK_ERR(setsid(), EPERM);
    pid_t pid = IN_CHILD({
        CHECK_EQ(setsid(), getpid());
        CHECK_EQ(getsid(0), getpid());
        CHECK_EQ(getpgrp(), getpid());
        CHECK_ERR(setsid(), EPERM);
        CHECK_ERR(open("/dev/tty", O_RDWR), ENXIO);
    });
    CHECK_EXITS(pid, 0);
}

TEST(getsid_and_getpgid_of_nobody_are_esrch) {
    CHECK_ERR(getsid(4000000), ESRCH);
    CHECK_ERR(getpgid(4000000), ESRCH);
}

TEST(prctl_name_is_cut_at_fifteen_and_shown_in_proc) {
    char name[17] = "", text[64];
    CHECK_OK(prctl(PR_SET_NAME, "a-name-that-is-too-long"));
    CHECK_OK(prctl(PR_GET_NAME, name));
    CHECK_STR(name, "a-name-that-is-");
    read_file("/proc/self/comm", text, sizeof text);
    CHECK_STR(text, "a-name-that-is-\n");
}

TEST(prctl_of_an_unknown_option_is_einval) { CHECK_ERR(prctl(99999, 0, 0, 0, 0), EINVAL); }

TEST(no_new_privs_can_be_set_but_not_cleared) {
    CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    CHECK_ERR(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    pid_t pid = IN_CHILD(CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1));
    CHECK_EXITS(pid, 0);
}

TEST(pidfd_polls_readable_when_the_process_ends_and_sends_signals) {
    pid_t pid = IN_CHILD(pause());
    int fd = CHECK_OK(syscall(SYS_pidfd_open, pid, 0));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_OK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    siginfo_t info;
    CHECK_OK(waitid((idtype_t)3, fd, &info, WEXITED)); // P_PIDFD
    CHECK_EQ(info.si_pid, pid);
    CHECK_ERR(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
}

TEST(pidfd_send_signal_takes_a_directory_of_proc) {
    pid_t pid = IN_CHILD(pause());
    char path[64];
    snprintf(path, sizeof path, "/proc/%d", pid);
    int fd = CHECK_OK(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int other = CHECK_OK(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int bare = CHECK_OK(open(path, O_PATH | O_CLOEXEC));
    snprintf(path, sizeof path, "/proc/%d/task/%d", pid, pid);
    int thread = CHECK_OK(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    CHECK_ERR(syscall(SYS_pidfd_send_signal, other, SIGKILL, NULL, 0), EBADF);
    CHECK_ERR(syscall(SYS_pidfd_send_signal, thread, SIGKILL, NULL, 0), EBADF);
    CHECK_ERR(syscall(SYS_pidfd_send_signal, bare, SIGKILL, NULL, 0), EBADF);
    CHECK_OK(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    CHECK_OK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    CHECK_KILLED(pid, SIGKILL);
    CHECK_ERR(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
}

TEST(forty_children_in_turn_and_at_once) {
    pid_t pids[40];
    for (int at = 0; at < 40; at++)
        pids[at] = IN_CHILD(_exit(at));
    for (int at = 39; at >= 0; at--)
        CHECK_EXITS(pids[at], at);
}

TEST(fork_shares_file_offsets) {
    make_file("f", "abcdef");
    int fd = CHECK_OK(open("f", O_RDONLY));
    char bytes[3];
    pid_t pid = IN_CHILD(CHECK_EQ(read(fd, bytes, 2), 2));
    CHECK_EXITS(pid, 0);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 2);
}

TEST(times_and_getrusage_count_the_children) {
    pid_t pid = IN_CHILD({
        clock_t until = clock() + CLOCKS_PER_SEC / 20;
        while (clock() < until)
            ;
    });
    CHECK_EXITS(pid, 0);
    struct tms ticks;
    CHECK_OK(times(&ticks));
    CHECK(ticks.tms_cutime + ticks.tms_cstime > 0);
    struct rusage usage;
    CHECK_OK(getrusage(RUSAGE_CHILDREN, &usage));
    CHECK(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec + usage.ru_utime.tv_sec > 0);
    CHECK_ERR(getrusage(77, &usage), EINVAL);
}
