// What may whom do to a process, and what is it told of it? Every file of /proc/PID and every call that names a process,
// asked by every subject, of a process of root, of the user's own, and of one that hides what it was.
#include "subjects.h"
#include <linux/ioprio.h>
#include <sys/prctl.h>

enum { OF_ROOT, OF_USER, HIDDEN };
static char known[32] = "what is in its memory";

static const char *const files[] = {
    "auxv", "cgroup", "cmdline", "comm", "coredump_filter", "environ", "fdinfo/0", "gid_map", "io", "limits", "loginuid",
    "maps", "mountinfo", "mounts", "mountstats", "oom_adj", "oom_score", "oom_score_adj", "personality", "schedstat",
    "sessionid", "setgroups", "smaps", "smaps_rollup", "stat", "statm", "status", "timerslack_ns", "uid_map", "wchan",
    "arch_status", "attr/current", "autogroup", "children", "clear_refs", "cpuset", "numa_maps", "pagemap", "patch_state",
    "projid_map", "sched", "seccomp_cache", "stack", "syscall", "timens_offsets", "timers",
};
static const char *const directories[] = {".", "fd", "fdinfo", "map_files", "net", "ns", "attr"};
static const char *const links[] = {"cwd",    "root",   "exe",     "fd/0",   "ns/cgroup", "ns/ipc",
                                    "ns/mnt", "ns/net", "ns/pid", "ns/time", "ns/user",   "ns/uts"};

static bool is_there(const char *path) {
    struct stat status;
    return lstat(path, &status) == 0 || errno != ENOENT;
}

// The folder may have a file that the other kernel was built without.
static void ask_path(const char *question, const char *path, long result) {
    if (!is_there(path))
        row("%s, %s: -", question, asking);
    else
        tell(question, result, "ok");
}

static void ask_files(const char *folder, const char *what) {
    char path[96], question[96], byte;
    for (unsigned at = 0; at < sizeof files / sizeof *files; at++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[at]);
        snprintf(question, sizeof question, "read %s%s", what, files[at]);
        int fd = open(path, O_RDONLY | O_NONBLOCK);
        long result = fd == -1 ? -1 : read(fd, &byte, 1);
        ask_path(question, path, result);
        close(fd);
        snprintf(question, sizeof question, "open for writing %s%s", what, files[at]);
        fd = open(path, O_WRONLY);
        ask_path(question, path, fd);
        close(fd);
        struct stat status;
        char mode[40] = "-";
        if (lstat(path, &status) == 0)
            snprintf(mode, sizeof mode, "%o %d %d", status.st_mode, status.st_uid, status.st_gid);
        if (asking[0] == 'u')
            row("attributes of %s%s: %s", what, files[at], mode);
    }
    for (unsigned at = 0; at < sizeof directories / sizeof *directories; at++) {
        snprintf(path, sizeof path, "%s/%s", folder, directories[at]);
        snprintf(question, sizeof question, "list %s%s", what, directories[at]);
        int fd = open(path, O_RDONLY | O_DIRECTORY);
        char entries[512];
        ask_path(question, path, fd == -1 ? -1 : syscall(SYS_getdents64, fd, entries, sizeof entries));
        close(fd);
    }
    for (unsigned at = 0; at < sizeof links / sizeof *links; at++) {
        char target[256];
        snprintf(path, sizeof path, "%s/%s", folder, links[at]);
        snprintf(question, sizeof question, "readlink %s%s", what, links[at]);
        tell(question, readlink(path, target, sizeof target), "ok");
        snprintf(question, sizeof question, "follow %s%s", what, links[at]);
        struct stat status;
        tell(question, stat(path, &status), "ok");
    }
}

static void ask_memory(const char *folder, const char *what) {
    char path[96], question[96], text[8] = "what is";
    snprintf(path, sizeof path, "%s/mem", folder);
    for (int flags = O_RDONLY; flags <= O_RDWR; flags++) {
        int fd = open(path, flags);
        snprintf(question, sizeof question, "open %smem %d", what, flags);
        tell(question, fd, "ok");
        if (fd != -1 && flags != O_WRONLY) {
            snprintf(question, sizeof question, "read %smem %d", what, flags);
            tell(question, pread(fd, text, 7, (off_t)known), "ok");
        }
        close(fd);
    }
}

static void write_text(const char *folder, const char *file, const char *text) {
    char path[96], question[96];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    snprintf(question, sizeof question, "write %s to %s", text, file);
    int fd = open(path, O_WRONLY);
    ask_path(question, path, fd == -1 ? -1 : write(fd, text, strlen(text)));
    close(fd);
}

// Whether fields 26 to 29 and 45 to 51, which are addresses, are told.
static void ask_stat(const char *folder) {
    char path[96], text[600] = "";
    snprintf(path, sizeof path, "%s/stat", folder);
    read_file(path, text, sizeof text);
    int at = 2, shown = 0;
    for (char *field = strtok(strrchr(text, ')'), " "); field; field = strtok(NULL, " "), at++)
        shown += ((at >= 26 && at <= 28) || (at >= 45 && at <= 50)) && strlen(field) > 3;
    row("addresses in stat, %s: %s", asking, shown ? "shown" : "hidden");
}

static void ask_signals(pid_t pid) {
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    ASK(kill(pid, 0));
    ASK(kill(pid, SIGUSR1));
    ASK(kill(pid, SIGCONT));
    ASK(syscall(SYS_tkill, pid, SIGUSR1));
    ASK(syscall(SYS_tgkill, pid, pid, SIGUSR1));
    ASK(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info));
    ASK(syscall(SYS_rt_tgsigqueueinfo, pid, pid, SIGUSR1, &info));
    info.si_code = SI_USER;
    ASK(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info));
    info.si_code = SI_TKILL;
    ASK(syscall(SYS_rt_tgsigqueueinfo, pid, pid, SIGUSR1, &info));
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    tell("pidfd_open", pidfd, "ok");
    ASK(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
    ASK(syscall(SYS_pidfd_send_signal, pidfd, SIGUSR1, NULL, 0));
    ASK(syscall(SYS_pidfd_getfd, pidfd, 0, 0));
    struct iovec there = {known, sizeof known};
    ASK_IF_SERVED(syscall(SYS_process_madvise, pidfd, &there, 1, MADV_COLD, 0));
    close(pidfd);
}

static void ask_scheduling(pid_t pid) {
    cpu_set_t processors;
    struct sched_param param = {0};
    struct timespec interval;
    char attributes[48];
    ASK(sched_getaffinity(pid, sizeof processors, &processors));
    ASK(sched_setaffinity(pid, sizeof processors, &processors));
    ASK(sched_getscheduler(pid));
    ASK(sched_getparam(pid, &param));
    ASK(sched_setparam(pid, &param));
    ASK(sched_setscheduler(pid, SCHED_BATCH, &param));
    ASK(sched_rr_get_interval(pid, &interval));
    ASK(syscall(SYS_sched_getattr, pid, attributes, sizeof attributes, 0));
    ASK(syscall(SYS_sched_setattr, pid, attributes, 0));
    errno = 0;
    ASK(getpriority(PRIO_PROCESS, pid) == -1 && errno ? -1 : 0);
    ASK(setpriority(PRIO_PROCESS, pid, 5));
    ASK(setpriority(PRIO_PROCESS, pid, -5));
    ASK(syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, pid));
    ASK(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 4)));
    ASK(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)));
}

static void ask_others(pid_t pid) {
    char here[8];
    struct iovec local = {here, 7}, remote = {known, 7};
    struct rlimit limit;
    struct timespec time;
    void *head;
    size_t length;
    ASK(process_vm_readv(pid, &local, 1, &remote, 1, 0));
    ASK(process_vm_writev(pid, &local, 1, &remote, 1, 0));
    ASK_IF_SERVED(syscall(SYS_kcmp, pid, pid, 0, 0, 0));
    ASK(prlimit(pid, RLIMIT_NOFILE, NULL, &limit));
    ASK(prlimit(pid, RLIMIT_CORE, &(struct rlimit){0, 0}, NULL));
    ASK(prlimit(pid, RLIMIT_CORE, &(struct rlimit){1, 1}, NULL));
    ASK_IF_SERVED(syscall(SYS_migrate_pages, pid, 64, &(long){1}, &(long){1}));
    ASK_IF_SERVED(syscall(SYS_move_pages, pid, 0, NULL, NULL, NULL, 0));
    ASK_IF_SERVED(syscall(SYS_get_robust_list, pid, &head, &length));
    ASK(getpgid(pid));
    ASK(getsid(pid));
    ASK(setpgid(pid, pid));
    ASK(syscall(SYS_clock_gettime, (~(long)pid << 3) | 2, &time));
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, pid};
    struct __user_cap_data_struct sets[2];
    ASK(syscall(SYS_capget, &header, sets));
    ASK(syscall(SYS_capset, &header, sets));
}

static void target(int kind, struct gate *ready) {
    // A session of its own: SIGCONT is for everybody's.
    CHECK_OK(setsid());
    signal(SIGUSR1, SIG_IGN);
    if (kind != OF_ROOT) {
        CHECK_OK(syscall(SYS_setgroups, 0, NULL));
        CHECK_OK(setresgid(USER, USER, USER));
        CHECK_OK(setresuid(USER, USER, USER));
        CHECK_OK(prctl(PR_SET_DUMPABLE, kind == OF_USER, 0, 0, 0));
    }
    gate_open(ready);
    for (;;)
        pause();
}

static void ask_of(int kind, void (*ask)(pid_t)) {
    for (int subject = 0; subject < SUBJECTS; subject++) {
        struct gate ready;
        gate_init(&ready);
        pid_t pid = IN_CHILD(target(kind, &ready));
        gate_wait(&ready);
        pid_t asker = IN_CHILD(if (become_subject(subject, asking)) ask(pid));
        CHECK_EXITS(asker, 0);
        CHECK_OK(kill(pid, SIGKILL));
        CHECK_KILLED(pid, SIGKILL);
        close(ready.ends[0]);
        close(ready.ends[1]);
    }
}

static void ask_calls(pid_t pid) {
    ask_signals(pid);
    ask_scheduling(pid);
    ask_others(pid);
}

static void ask_proc(pid_t pid) {
    char folder[64];
    snprintf(folder, sizeof folder, "/proc/%d", pid);
    ask_files(folder, "");
    ask_memory(folder, "");
    ask_stat(folder);
    write_text(folder, "comm", "name");
    write_text(folder, "oom_score_adj", "500");
    write_text(folder, "oom_score_adj", "400");
    write_text(folder, "timerslack_ns", "60000");
}

static void ask_thread(pid_t pid) {
    char folder[64];
    snprintf(folder, sizeof folder, "/proc/%d/task/%d", pid, pid);
    ask_files(folder, "task/TID/");
    ask_memory(folder, "task/TID/");
}

TEST(calls_that_name_a_process_of_root) { ask_of(OF_ROOT, ask_calls); }
TEST(calls_that_name_a_process_of_the_user) { ask_of(OF_USER, ask_calls); }
TEST(calls_that_name_a_hidden_process) { ask_of(HIDDEN, ask_calls); }
TEST(proc_files_of_a_process_of_root) { ask_of(OF_ROOT, ask_proc); }
TEST(proc_files_of_a_process_of_the_user) { ask_of(OF_USER, ask_proc); }
TEST(proc_files_of_a_hidden_process) { ask_of(HIDDEN, ask_proc); }
TEST(proc_files_of_a_thread_of_root) { ask_of(OF_ROOT, ask_thread); }
TEST(proc_files_of_a_thread_of_the_user) { ask_of(OF_USER, ask_thread); }
TEST(proc_files_of_a_hidden_thread) { ask_of(HIDDEN, ask_thread); }
