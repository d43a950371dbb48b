// What do /dev, terminals and /proc hold?
#include "../harness.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

TEST(dev_null_swallows_and_is_empty) {
    int fd = CHECK_OK(open("/dev/null", O_RDWR));
    char byte;
    struct stat status;
    CHECK_EQ(write(fd, "gone", 4), 4);
    CHECK_EQ(read(fd, &byte, 1), 0);
    CHECK_OK(fstat(fd, &status));
    CHECK(S_ISCHR(status.st_mode));
    CHECK_EQ(status.st_rdev, makedev(1, 3));
}

TEST(dev_zero_reads_zeroes_and_maps) {
    int fd = CHECK_OK(open("/dev/zero", O_RDWR));
    char bytes[16] = "xxxxxxxxxxxxxxx";
    CHECK_EQ(read(fd, bytes, 16), 16);
    for (int at = 0; at < 16; at++)
        CHECK_EQ(bytes[at], 0);
    char *at = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(at != MAP_FAILED);
    CHECK_EQ(at[100], 0);
    at[100] = 1;
}

TEST(dev_full_is_enospc) {
    int fd = CHECK_OK(open("/dev/full", O_RDWR));
    char byte = 'x';
    CHECK_ERR(write(fd, "x", 1), ENOSPC);
    CHECK_EQ(read(fd, &byte, 1), 1);
    CHECK_EQ(byte, 0);
}

TEST(dev_random_and_urandom_differ_every_time) {
    const char *paths[] = {"/dev/random", "/dev/urandom"};
    for (int at = 0; at < 2; at++) {
        int fd = CHECK_OK(open(paths[at], O_RDONLY));
        char first[32], second[32];
        CHECK_EQ(read(fd, first, 32), 32);
        CHECK_EQ(read(fd, second, 32), 32);
        CHECK(memcmp(first, second, 32) != 0);
    }
}

TEST(seeking_on_devices_without_contents_answers_zero) {
    const char *paths[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"};
    for (int at = 0; at < 4; at++) {
        int fd = CHECK_OK(open(paths[at], O_RDWR));
        char bytes[16];
        CHECK(read(fd, bytes, sizeof bytes) >= 0);
        CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
        CHECK_EQ(lseek(fd, 4096, SEEK_SET), 0);
        CHECK_EQ(lseek(fd, -7, SEEK_CUR), 0);
        CHECK_EQ(lseek(fd, 7, SEEK_END), 0);
        CHECK_EQ(lseek(fd, 7, SEEK_DATA), 0);
        CHECK_ERR(lseek(fd, 0, 99), EINVAL);
    }
}

TEST(dev_fd_names_the_own_descriptors) {
    make_file("f", "through /dev/fd");
    int fd = CHECK_OK(open("f", O_RDONLY));
    char path[64], text[32];
    snprintf(path, sizeof path, "/dev/fd/%d", fd);
    read_file(path, text, sizeof text);
    CHECK_STR(text, "through /dev/fd");
}

TEST(dev_shm_takes_files) {
    char path[64], text[8];
    snprintf(path, sizeof path, "/dev/shm/gt.%d", getpid());
    make_file(path, "shm");
    read_file(path, text, sizeof text);
    CHECK_STR(text, "shm");
    CHECK_OK(unlink(path));
}

static int open_terminal(int *terminal) {
    int master = CHECK_OK(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    CHECK_OK(grantpt(master));
    CHECK_OK(unlockpt(master));
    char name[64];
    CHECK_EQ(ptsname_r(master, name, sizeof name), 0);
    *terminal = CHECK_OK(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
    return master;
}

static void read_exactly(int fd, const char *want) {
    char text[64] = "";
    size_t done = 0, length = strlen(want);
    while (done < length)
        done += CHECK_OK(read(fd, text + done, length - done));
    CHECK_STR(text, want);
}

TEST(terminal_echoes_and_turns_newline_into_crlf) {
    int terminal, master = open_terminal(&terminal);
    CHECK(isatty(terminal));
    CHECK_EQ(write(master, "ab\n", 3), 3);
    read_exactly(master, "ab\r\n");
    read_exactly(terminal, "ab\n");
    CHECK_EQ(write(terminal, "out\n", 4), 4);
    read_exactly(master, "out\r\n");
}

TEST(canonical_terminal_gives_whole_lines_and_erases) {
    int terminal, master = open_terminal(&terminal);
    struct pollfd poller = {terminal, POLLIN, 0};
    CHECK_EQ(write(master, "ax\177b", 4), 4);
    CHECK_EQ(poll(&poller, 1, 50), 0);
    CHECK_EQ(write(master, "c\n", 2), 2);
    CHECK_EQ(poll(&poller, 1, 5000), 1);
    char text[16] = "";
    CHECK_EQ(read(terminal, text, sizeof text), 4);
    CHECK_STR(text, "abc\n");
    CHECK_EQ(write(master, "kill\025ok\n", 8), 8);
    memset(text, 0, sizeof text);
    CHECK_EQ(read(terminal, text, sizeof text), 3);
    CHECK_STR(text, "ok\n");
}

TEST(control_d_ends_a_line_or_the_input) {
    int terminal, master = open_terminal(&terminal);
    char text[16] = "";
    CHECK_EQ(write(master, "ab\004", 3), 3);
    CHECK_EQ(read(terminal, text, sizeof text), 2);
    CHECK_EQ(write(master, "\004", 1), 1);
    CHECK_EQ(read(terminal, text, sizeof text), 0);
}

TEST(raw_terminal_passes_bytes_through) {
    int terminal, master = open_terminal(&terminal);
    struct termios settings;
    CHECK_OK(tcgetattr(terminal, &settings));
    CHECK(settings.c_lflag & ICANON);
    cfmakeraw(&settings);
    CHECK_OK(tcsetattr(terminal, TCSANOW, &settings));
    CHECK_EQ(write(master, "\003\r\004", 3), 3);
    char text[8] = "";
    size_t done = 0;
    while (done < 3)
        done += CHECK_OK(read(terminal, text + done, sizeof text - done));
    CHECK_STR(text, "\003\r\004");
    CHECK_EQ(write(terminal, "\n", 1), 1);
    CHECK_EQ(read(master, text, sizeof text), 1);
}

// struct termio of <asm/termios.h>, which does not go with <termios.h>.
struct old_settings {
    unsigned short iflag, oflag, cflag, lflag;
    unsigned char line, cc[8];
};

static void check_old_settings(int fd) {
    struct termios settings;
    struct old_settings old;
    CHECK_OK(tcgetattr(fd, &settings));
    settings.c_lflag |= EXTPROC; // in the half that `old` does not have
    settings.c_cc[VSUSP] = 3;
    CHECK_OK(tcsetattr(fd, TCSANOW, &settings));
    CHECK_OK(ioctl(fd, TCGETA, &old));
    CHECK_EQ(old.lflag, settings.c_lflag & 0xffff);
    CHECK_EQ(old.cflag, settings.c_cflag & 0xffff);
    CHECK_EQ(old.cc[VINTR], settings.c_cc[VINTR]);
    old.lflag &= ~ECHO;
    old.cc[VINTR] = 9;
    const unsigned long requests[] = {TCSETA, TCSETAW, TCSETAF};
    for (int at = 0; at < 3; at++) {
        old.cc[VQUIT] = 20 + at;
        CHECK_OK(ioctl(fd, requests[at], &old));
        CHECK_OK(tcgetattr(fd, &settings));
        CHECK_EQ(settings.c_cc[VQUIT], 20 + at);
    }
    CHECK_EQ(settings.c_lflag & (ECHO | EXTPROC), EXTPROC);
    CHECK_EQ(settings.c_cc[VINTR], 9);
    CHECK_EQ(settings.c_cc[VSUSP], 3);
    CHECK_ERR(ioctl(fd, TCGETA, 1), EFAULT);
    CHECK_ERR(ioctl(fd, TCSETA, 1), EFAULT);
}

TEST(old_terminal_settings_are_the_low_half_of_the_new) {
    int terminal, master = open_terminal(&terminal);
    check_old_settings(terminal);
    check_old_settings(master);
}

TEST(terminal_without_reader_side_is_eio_and_hangup) {
    int terminal, master = open_terminal(&terminal);
    CHECK_OK(close(terminal));
    char byte;
    CHECK_ERR(read(master, &byte, 1), EIO);
    struct pollfd poller = {master, POLLIN, 0};
    CHECK_EQ(poll(&poller, 1, 0), 1);
    CHECK(poller.revents & POLLHUP);
}

TEST(window_size_is_kept) {
    int terminal, master = open_terminal(&terminal);
    struct winsize size = {.ws_row = 33, .ws_col = 111}, got;
    CHECK_OK(ioctl(master, TIOCSWINSZ, &size));
    CHECK_OK(ioctl(terminal, TIOCGWINSZ, &got));
    CHECK_EQ(got.ws_row, 33);
    CHECK_EQ(got.ws_col, 111);
    int ends[2];
    CHECK_OK(pipe(ends));
    CHECK_ERR(ioctl(ends[0], TIOCGWINSZ, &got), ENOTTY);
}

// A child that leads a session with `terminal` as its controlling terminal and runs the rest of the block.
static void take_terminal(int terminal) {
    CHECK_OK(setsid());
    CHECK_OK(ioctl(terminal, TIOCSCTTY, 0));
}

static volatile int caught;
static void note(int number) { caught = number; }

static void expect_signal(int number) {
    while (caught != number)
        sleep_ms(1);
    caught = 0;
}

TEST(control_keys_signal_the_foreground_group) {
    int terminal, master = open_terminal(&terminal);
    struct gate ready;
    struct gate next;
    gate_init(&ready);
    gate_init(&next);
    pid_t pid = IN_CHILD({
        take_terminal(terminal);
        catch_signal(SIGINT, note, SA_RESTART);
        catch_signal(SIGQUIT, note, SA_RESTART);
        gate_open(&ready);
        expect_signal(SIGINT);
        gate_open(&ready);
        expect_signal(SIGQUIT);
    });
    gate_wait(&ready);
    CHECK_EQ(write(master, "\003", 1), 1);
    gate_wait(&ready);
    CHECK_EQ(write(master, "\034", 1), 1);
    CHECK_EXITS(pid, 0);
}

TEST(new_window_size_sends_sigwinch) {
    int terminal, master = open_terminal(&terminal);
    struct gate ready;
    gate_init(&ready);
    pid_t pid = IN_CHILD(take_terminal(terminal); catch_signal(SIGWINCH, note, SA_RESTART); gate_open(&ready);
                         expect_signal(SIGWINCH));
    gate_wait(&ready);
    struct winsize size = {.ws_row = 10, .ws_col = 20};
    CHECK_OK(ioctl(master, TIOCSWINSZ, &size));
    CHECK_EXITS(pid, 0);
}

TEST(hangup_of_the_terminal_sends_sighup) {
    int terminal, master = open_terminal(&terminal);
    struct gate ready;
    gate_init(&ready);
    pid_t pid = IN_CHILD(close(master); take_terminal(terminal); gate_open(&ready); for (;;) pause());
    gate_wait(&ready);
    CHECK_OK(close(master));
    CHECK_KILLED(pid, SIGHUP);
}

TEST(controlling_terminal_opens_as_dev_tty) {
    int terminal, master = open_terminal(&terminal);
    pid_t pid = IN_CHILD({
        take_terminal(terminal);
        int tty = CHECK_OK(open("/dev/tty", O_RDWR));
        CHECK_EQ(tcgetpgrp(tty), getpgrp());
        CHECK_EQ(tcgetsid(tty), getpid());
        CHECK_EQ(write(tty, "tty", 3), 3);
    });
    read_exactly(master, "tty");
    CHECK_EXITS(pid, 0);
}

TEST(background_read_stops_with_sigttin) {
    int terminal, master = open_terminal(&terminal);
    CHECK(master > 0);
    pid_t pid = IN_CHILD({
        take_terminal(terminal);
        char byte;
        pid_t background = IN_CHILD(setpgid(0, 0); (void)!read(terminal, &byte, 1));
        int status;
        CHECK_EQ(waitpid(background, &status, WUNTRACED), background);
        CHECK(WIFSTOPPED(status));
        CHECK_EQ(WSTOPSIG(status), SIGTTIN);
        CHECK_OK(kill(background, SIGKILL));
    });
    CHECK_EXITS(pid, 0);
}

TEST(tcsetpgrp_moves_the_foreground) {
    int terminal, master = open_terminal(&terminal);
    struct gate ready;
    gate_init(&ready);
    pid_t pid = IN_CHILD({
        take_terminal(terminal);
        struct gate moved;
        gate_init(&moved);
        pid_t job = IN_CHILD(gate_wait(&moved); pause());
        CHECK_OK(setpgid(job, job));
        CHECK_OK(tcsetpgrp(terminal, job));
        CHECK_EQ(tcgetpgrp(terminal), job);
        gate_open(&moved);
        gate_open(&ready);
        CHECK_KILLED(job, SIGINT);
    });
    gate_wait(&ready);
    CHECK_EQ(write(master, "\003", 1), 1);
    CHECK_EXITS(pid, 0);
}

TEST(proc_self_is_the_own_process) {
    char target[64] = "", want[16];
    CHECK_OK(readlink("/proc/self", target, sizeof target - 1));
    snprintf(want, sizeof want, "%d", getpid());
    CHECK_STR(target, want);
    memset(target, 0, sizeof target);
    CHECK_OK(readlink("/proc/thread-self", target, sizeof target - 1));
    CHECK(strstr(target, "/task/") != NULL);
}

TEST(proc_exe_cwd_and_root_are_links) {
    char target[PATH_MAX] = "", here[PATH_MAX];
    CHECK_OK(readlink("/proc/self/exe", target, sizeof target - 1));
    CHECK_STR(target, self_path());
    memset(target, 0, sizeof target);
    CHECK_OK(readlink("/proc/self/cwd", target, sizeof target - 1));
    CHECK(getcwd(here, sizeof here) != NULL);
    CHECK_STR(target, here);
    memset(target, 0, sizeof target);
    CHECK_OK(readlink("/proc/self/root", target, sizeof target - 1));
    CHECK_STR(target, "/");
}

TEST(proc_fd_lists_descriptors_and_reopens_them) {
    make_file("f", "again");
    int fd = CHECK_OK(open("f", O_RDONLY)), found = 0;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir != NULL);
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL)
        found |= atoi(entry->d_name) == fd;
    CHECK(found);
    char path[64], text[16];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    lseek(fd, 3, SEEK_SET);
    read_file(path, text, sizeof text);
    CHECK_STR(text, "again");
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    char info[512];
    read_file(path, info, sizeof info);
    CHECK(strstr(info, "pos:\t3\n") != NULL);
}

TEST(proc_cmdline_and_environ_hold_zero_terminated_strings) {
    int ends[2];
    CHECK_OK(pipe(ends));
    char *arguments[] = {"name", "--helper", "wait_here", "", "last", NULL};
    char *environment[] = {"KEY=value", NULL};
    pid_t pid = IN_CHILD(dup2(ends[1], 1); execve(self_path(), arguments, environment));
    char byte, path[64], text[256];
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    static const char want[] = "name\0--helper\0wait_here\0\0last";
    CHECK_EQ(read_file(path, text, sizeof text), sizeof want);
    CHECK(memcmp(text, want, sizeof want) == 0);
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    CHECK_EQ(read_file(path, text, sizeof text), 10);
    CHECK_STR(text, "KEY=value");
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_KILLED(pid, SIGKILL);
}

HELPER(wait_here) {
    if (write(1, "x", 1) == 1)
        pause();
    return 0;
}

TEST(proc_stat_of_a_process_holds_its_ids) {
    char text[1024];
    int pid, parent, group, session;
    char state;
    read_file("/proc/self/stat", text, sizeof text);
    CHECK(strstr(text, "(fs) ") != NULL);
    CHECK_EQ(sscanf(text, "%d (fs) %c %d %d %d", &pid, &state, &parent, &group, &session), 5);
    CHECK_EQ(pid, getpid());
    CHECK_EQ(state, 'R');
    CHECK_EQ(parent, getppid());
    CHECK_EQ(group, getpgrp());
    int fields = 1;
    for (char *at = text; *at; at++)
        fields += *at == ' ';
    CHECK(fields >= 52);
}

static atomic_int worker_tid, worker_stop;

static void *spin_or_wait(void *how) {
    CHECK_OK(prctl(PR_SET_NAME, how ? "spinner" : "waiter"));
    worker_tid = (int)syscall(SYS_gettid);
    if (!how)
        syscall(SYS_futex, &worker_stop, 128, 0, NULL, NULL, 0);
    while (!worker_stop)
        ;
    return NULL;
}

// Name, state, and user plus system time in ticks.
static void thread_stat(const char *format, int tid, char *name, char *state, long *ticks) {
    char path[64], text[1024];
    snprintf(path, sizeof path, format, tid);
    read_file(path, text, sizeof text);
    long user, system;
    CHECK_EQ(sscanf(strchr(text, '('), "(%15[^)]) %c %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %ld %ld", name,
                    state, &user, &system),
             4);
    *ticks = user + system;
}

TEST(proc_shows_a_threads_own_name_and_state) {
    char name[16], state;
    long ticks;
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, spin_or_wait, NULL), 0);
    while (!worker_tid)
        ;
    wait_for_state(worker_tid, 'S');
    thread_stat("/proc/self/task/%d/stat", worker_tid, name, &state, &ticks);
    CHECK_STR(name, "waiter");
    CHECK_EQ(state, 'S');
    thread_stat("/proc/%d/stat", worker_tid, name, &state, &ticks);
    CHECK_STR(name, "waiter");
    thread_stat("/proc/%d/stat", getpid(), name, &state, &ticks);
    CHECK_STR(name, "fs");
    CHECK_EQ(state, 'R');
    worker_stop = 1;
    syscall(SYS_futex, &worker_stop, 129, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(proc_shows_the_time_of_a_thread_that_makes_no_call) {
    char name[16], state;
    long before, after, waits = 0;
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, spin_or_wait, (void *)1), 0);
    while (!worker_tid)
        sleep_ms(1);
    thread_stat("/proc/self/task/%d/stat", worker_tid, name, &state, &before);
    do {
        sleep_ms(20);
        thread_stat("/proc/self/task/%d/stat", worker_tid, name, &state, &after);
    } while (after < before + 5 && waits++ < 500);
    CHECK(after >= before + 5);
    thread_stat("/proc/self/task/%d/stat", getpid(), name, &state, &before);
    CHECK(before < after);
    worker_stop = 1;
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(proc_stat_of_processors_goes_on_when_processes_end) {
    static char text[65536];
    long before, after;
    pid_t pid = IN_CHILD({
        clock_t until = clock() + CLOCKS_PER_SEC / 10;
        while (clock() < until)
            ;
    });
    siginfo_t info;
    CHECK_OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
    read_file("/proc/stat", text, sizeof text);
    CHECK_EQ(sscanf(text, "cpu %ld", &before), 1);
    CHECK_EXITS(pid, 0);
    read_file("/proc/stat", text, sizeof text);
    CHECK_EQ(sscanf(text, "cpu %ld", &after), 1);
    CHECK(before >= 5 && after >= before);
}

TEST(proc_lists_the_processes_and_forgets_the_dead) {
    char path[32], other[32];
    pid_t pid = IN_CHILD(pause());
    snprintf(path, sizeof path, "%d", pid);
    snprintf(other, sizeof other, "/proc/%d/stat", pid);
    DIR *dir = opendir("/proc");
    bool found = false;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL)
        found |= !strcmp(entry->d_name, path);
    CHECK(found);
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_KILLED(pid, SIGKILL);
    CHECK_ERR(open(other, O_RDONLY), ENOENT);
    CHECK_ERR(open("/proc/self/none", O_RDONLY), ENOENT);
}

TEST(proc_meminfo_has_total_free_and_available) {
    static char text[16384];
    read_file("/proc/meminfo", text, sizeof text);
    const char *keys[] = {"MemTotal:", "MemFree:", "MemAvailable:", "SwapTotal:", "Cached:"};
    for (int at = 0; at < 5; at++)
        CHECK(strstr(text, keys[at]) != NULL);
    long total;
    CHECK_EQ(sscanf(text, "MemTotal: %ld kB", &total), 1);
    CHECK(total > 1000);
}

TEST(proc_cpuinfo_has_one_block_per_processor) {
    static char text[262144];
    read_file("/proc/cpuinfo", text, sizeof text);
    long count = 0;
    for (char *at = text; (at = strstr(at, "processor\t:")) != NULL; at++)
        count++;
    CHECK_EQ(count, sysconf(_SC_NPROCESSORS_ONLN));
    CHECK(strstr(text, "flags\t\t: ") != NULL);
    CHECK(strstr(text, " sse2 ") != NULL);
}

TEST(proc_uptime_stat_and_loadavg_are_readable) {
    static char text[65536];
    double up, idle;
    read_file("/proc/uptime", text, sizeof text);
    CHECK_EQ(sscanf(text, "%lf %lf", &up, &idle), 2);
    CHECK(up > 0);
    read_file("/proc/stat", text, sizeof text);
    CHECK(strncmp(text, "cpu ", 4) == 0);
    CHECK(strstr(text, "\nbtime ") != NULL);
    CHECK(strstr(text, "\ncpu0 ") != NULL);
    read_file("/proc/loadavg", text, sizeof text);
    double load;
    CHECK_EQ(sscanf(text, "%lf", &load), 1);
}

TEST(proc_mounts_lists_the_root_and_proc) {
    static char text[65536];
    read_file("/proc/self/mounts", text, sizeof text);
    CHECK(strstr(text, " / ") != NULL);
    CHECK(strstr(text, " /proc proc ") != NULL);
    read_file("/proc/self/mountinfo", text, sizeof text);
    CHECK(strstr(text, " / / ") != NULL);
    CHECK(strstr(text, " - proc ") != NULL);
    read_file("/proc/filesystems", text, sizeof text);
    CHECK(strstr(text, "nodev\ttmpfs\n") != NULL);
}

TEST(proc_sys_kernel_basics_are_readable) {
    char text[256];
    read_file("/proc/sys/kernel/ostype", text, sizeof text);
    CHECK_STR(text, "Linux\n");
    const char *paths[] = {"/proc/sys/kernel/osrelease", "/proc/sys/kernel/hostname", "/proc/sys/kernel/pid_max",
                           "/proc/sys/kernel/random/boot_id", "/proc/sys/vm/overcommit_memory",
                           "/proc/sys/kernel/cap_last_cap", "/proc/sys/fs/file-max", "/proc/version"};
    for (size_t at = 0; at < sizeof paths / sizeof *paths; at++)
        CHECK(read_file(paths[at], text, sizeof text) > 0);
    char first[64], second[64];
    read_file("/proc/sys/kernel/random/uuid", first, sizeof first);
    read_file("/proc/sys/kernel/random/uuid", second, sizeof second);
    CHECK(strcmp(first, second) != 0);
}

TEST(proc_statm_and_limits_are_readable) {
    char text[4096];
    long size, resident;
    read_file("/proc/self/statm", text, sizeof text);
    CHECK_EQ(sscanf(text, "%ld %ld", &size, &resident), 2);
    CHECK(size >= resident && resident > 0);
    struct rlimit limit = {321, 654};
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
    read_file("/proc/self/limits", text, sizeof text);
    char *line = strstr(text, "Max open files");
    CHECK(line != NULL);
    CHECK(strstr(line, "321") != NULL && strstr(line, "654") != NULL);
}

TEST(proc_mem_reads_the_own_memory) {
    static char secret[] = "in memory";
    char text[16] = "";
    int fd = CHECK_OK(open("/proc/self/mem", O_RDWR));
    CHECK_EQ(pread(fd, text, sizeof secret, (off_t)(uintptr_t)secret), (ssize_t)sizeof secret);
    CHECK_STR(text, "in memory");
    CHECK_EQ(pwrite(fd, "IN", 2, (off_t)(uintptr_t)secret), 2);
    CHECK_STR(secret, "IN memory");
}

TEST(proc_ns_links_name_the_namespaces) {
    char target[64] = "";
    CHECK_OK(readlink("/proc/self/ns/pid", target, sizeof target - 1));
    CHECK(strncmp(target, "pid:[", 5) == 0);
}

TEST(proc_ns_files_have_the_number_in_their_link) {
    const char *names[] = {"ipc", "mnt", "net", "pid", "user", "uts"};
    for (int at = 0; at < 6; at++) {
        char path[64], link[64] = "", again[64] = "", want[64], byte;
        struct stat status, opened;
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[at]);
        CHECK(readlink(path, link, sizeof link - 1) > 0);
        CHECK_OK(stat(path, &status));
        snprintf(want, sizeof want, "%s:[%lu]", names[at], (unsigned long)status.st_ino);
        CHECK_STR(link, want);
        CHECK(S_ISREG(status.st_mode));
        int fd = CHECK_OK(open(path, O_RDONLY | O_CLOEXEC));
        CHECK_OK(fstat(fd, &opened));
        CHECK(opened.st_ino == status.st_ino && opened.st_dev == status.st_dev);
        CHECK_ERR(read(fd, &byte, 1), EINVAL);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        CHECK(readlink(path, again, sizeof again - 1) > 0);
        CHECK_STR(again, want);
    }
    CHECK_ERR(open("/proc/self/ns/net", O_RDWR), EPERM);
}

TEST(loginuid_is_set_as_a_login_does_and_inherited) {
    if (access("/proc/self/loginuid", F_OK) != 0)
        return;
    pid_t child = CHECK_OK(fork());
    if (child == 0) {
        char text[32] = "";
        int fd = CHECK_OK(open("/proc/self/loginuid", O_RDWR | O_NOFOLLOW));
        CHECK(read(fd, text, sizeof text - 1) > 0);
        CHECK_OK(ftruncate(fd, 0));
        CHECK_EQ(pwrite(fd, "1000", 4, 0), 4);
        close(fd);
        pid_t grandchild = CHECK_OK(fork());
        fd = CHECK_OK(open("/proc/self/loginuid", O_RDONLY));
        memset(text, 0, sizeof text);
        CHECK_EQ(read(fd, text, sizeof text - 1), 4);
        CHECK_EQ(strcmp(text, "1000"), 0);
        if (grandchild == 0)
            _exit(0);
        int status;
        CHECK_EQ(waitpid(grandchild, &status, 0), grandchild);
        _exit(status != 0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}
