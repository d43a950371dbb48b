// How are the registered tests run? One forked child each, watched by an alarm in the parent; see harness.h.
#include "harness.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <stdarg.h>
#include <sys/prctl.h>

enum { TESTS_MAX = 400, HELPERS_MAX = 64, WATCHDOG_S = 20, REPORT_FD = 300, REPORT_MAX = 600 };

static struct { const char *name; guest_test *run; } tests[TESTS_MAX];
static struct { const char *name; guest_helper *run; } helpers[HELPERS_MAX];
static int test_count, helper_count;
static int report_fd = STDERR_FILENO;
static char own_path[PATH_MAX];

void guest_register(const char *name, guest_test *run) {
    if (test_count == TESTS_MAX)
        abort();
    tests[test_count].name = name;
    tests[test_count++].run = run;
}

void guest_register_helper(const char *name, guest_helper *run) {
    if (helper_count == HELPERS_MAX)
        abort();
    helpers[helper_count].name = name;
    helpers[helper_count++].run = run;
}

void guest_fail(const char *file, int line, const char *format, ...) {
    char text[REPORT_MAX];
    const char *base = strrchr(file, '/');
    int length = snprintf(text, sizeof text, "%s:%d: ", base ? base + 1 : file, line);
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(text + length, sizeof text - length, format, arguments);
    va_end(arguments);
    length += more;
    if (length > (int)sizeof text - 1)
        length = sizeof text - 1;
    for (int at = 0; at < length; at++)
        if (text[at] == '\n')
            text[at] = ' ';
    text[length] = '\n';
    if (write(report_fd, text, length + 1) < 0)
        _exit(99);
    _exit(1);
}

void guest_check_exits(const char *file, int line, pid_t pid, int code) {
    int status = 0;
    pid_t got;
    while ((got = waitpid(pid, &status, 0)) == -1 && errno == EINTR)
        ;
    if (got != pid)
        guest_fail(file, line, "waitpid(%d) is %d (errno %d)", pid, got, errno);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
        guest_fail(file, line, "child status is 0x%x, want exit code %d", status, code);
}

void guest_check_killed(const char *file, int line, pid_t pid, int signal_number) {
    int status = 0;
    pid_t got;
    while ((got = waitpid(pid, &status, 0)) == -1 && errno == EINTR)
        ;
    if (got != pid)
        guest_fail(file, line, "waitpid(%d) is %d (errno %d)", pid, got, errno);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != signal_number)
        guest_fail(file, line, "child status is 0x%x, want death by signal %d", status, signal_number);
}

void gate_init(struct gate *gate) { CHECK_OK(pipe2(gate->ends, O_CLOEXEC)); }

void gate_open(struct gate *gate) { CHECK_EQ(write(gate->ends[1], "g", 1), 1); }

void gate_wait(struct gate *gate) {
    char byte;
    ssize_t got;
    while ((got = read(gate->ends[0], &byte, 1)) == -1 && errno == EINTR)
        ;
    CHECK_EQ(got, 1);
}

const char *self_path(void) { return own_path; }

pid_t spawn_helper(const char *name, const char *argument) {
    pid_t pid = fork();
    if (pid == 0) {
        execl(own_path, own_path, "--helper", name, argument, NULL);
        _exit(127);
    }
    CHECK(pid > 0);
    return pid;
}

void wait_for_state(pid_t pid, char state) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (;;) {
        read_file(path, text, sizeof text);
        char *after_name = strrchr(text, ')');
        CHECK(after_name != NULL);
        if (after_name[2] == state)
            return;
        sleep_ms(2);
    }
}

long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void sleep_ms(int milliseconds) {
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    while (nanosleep(&left, &left) == -1 && errno == EINTR)
        ;
}

void make_file(const char *path, const char *content) {
    int fd = CHECK_OK(open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644));
    CHECK_EQ(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    CHECK_OK(close(fd));
}

size_t read_file(const char *path, char *buffer, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1)
        guest_fail(__FILE__, __LINE__, "open %s: errno %d (%s)", path, errno, strerror(errno));
    size_t done = 0;
    while (done < size - 1) {
        ssize_t got = CHECK_OK(read(fd, buffer + done, size - 1 - done));
        if (got == 0)
            break;
        done += got;
    }
    buffer[done] = 0;
    close(fd);
    return done;
}

void catch_signal(int signal_number, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    CHECK_OK(sigaction(signal_number, &action, NULL));
}

void catch_siginfo(int signal_number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    CHECK_OK(sigaction(signal_number, &action, NULL));
}

void block_signal(int signal_number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_number);
    CHECK_OK(sigprocmask(SIG_BLOCK, &set, NULL));
}

void become_nobody(void) {
    CHECK_OK(syscall(SYS_setgroups, 0, NULL));
    CHECK_OK(syscall(SYS_setresgid, 65534, 65534, 65534));
    CHECK_OK(syscall(SYS_setresuid, 65534, 65534, 65534));
}

static void remove_tree(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd == -1 ? NULL : fdopendir(fd);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (unlinkat(fd, entry->d_name, 0) == -1)
            remove_tree(fd, entry->d_name);
    }
    if (dir)
        closedir(dir);
    unlinkat(parent, name, AT_REMOVEDIR);
}

static void make_home(char *path, size_t size) {
    const char *base = getenv("TMPDIR");
    snprintf(path, size, "%s/gt.%d", base && *base ? base : "/tmp", getpid());
    // A test that needs a directory fails by itself; one that needs none may run before files work at all.
    if (mkdir(path, 0755) == -1 || chdir(path) == -1)
        fprintf(stderr, "%s: errno %d; tests run in the current directory\n", path, errno);
}

static void ignore_alarm(int signal_number) { (void)signal_number; }

static void run_child(int index, int report[2]) {
    setpgid(0, 0);
    report_fd = fcntl(report[1], F_DUPFD_CLOEXEC, REPORT_FD);
    close(report[0]);
    close(report[1]);
    if (report_fd == -1)
        report_fd = STDERR_FILENO;
    signal(SIGALRM, SIG_DFL);
    char home[PATH_MAX];
    make_home(home, sizeof home);
    tests[index].run();
    _exit(0);
}

// Whether the test passed; its line is printed.
static bool run_forked(int index) {
    int report[2];
    if (pipe2(report, O_CLOEXEC | O_NONBLOCK) == -1)
        guest_fail(__FILE__, __LINE__, "pipe: errno %d", errno);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        run_child(index, report);
    if (pid == -1)
        guest_fail(__FILE__, __LINE__, "fork: errno %d", errno);
    setpgid(pid, pid);
    int status = 0;
    alarm(WATCHDOG_S);
    pid_t got = waitpid(pid, &status, 0);
    bool late = got == -1 && errno == EINTR;
    alarm(0);
    kill(-pid, SIGKILL);
    if (late) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
    while (waitpid(-pid, NULL, 0) > 0)
        ;
    char text[REPORT_MAX + 1] = "";
    ssize_t length = read(report[0], text, REPORT_MAX);
    close(report[0]);
    close(report[1]);
    text[length > 0 ? length : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    char name[64];
    const char *base = getenv("TMPDIR");
    snprintf(name, sizeof name, "gt.%d", pid);
    int parent = open(base && *base ? base : "/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent != -1) {
        remove_tree(parent, name);
        close(parent);
    }
    if (late)
        printf("not ok %s: no end after %d s%s%s\n", tests[index].name, WATCHDOG_S, *text ? "; " : "", text);
    else if (*text)
        printf("not ok %s: %s\n", tests[index].name, text);
    else if (status != 0)
        printf("not ok %s: ended with wait status 0x%x\n", tests[index].name, status);
    else
        printf("ok %s\n", tests[index].name);
    return !late && !*text && status == 0;
}

static bool run_here(int index) {
    alarm(WATCHDOG_S);
    char home[PATH_MAX];
    make_home(home, sizeof home);
    tests[index].run();
    if (chdir("/") == 0)
        remove_tree(AT_FDCWD, home);
    printf("ok %s\n", tests[index].name);
    return true;
}

static bool wanted(const char *name, int argc, char **argv) {
    bool any = false;
    for (int at = 1; at < argc; at++) {
        if (argv[at][0] == '-')
            continue;
        any = true;
        if (!strcmp(argv[at], name))
            return true;
    }
    return !any;
}

static void find_own_path(const char *first) {
    ssize_t length = readlink("/proc/self/exe", own_path, sizeof own_path - 1);
    if (length > 0)
        own_path[length] = 0;
    else if (!realpath(first, own_path))
        snprintf(own_path, sizeof own_path, "%s", first);
}

void be_busy(int rounds) {
    for (volatile int round = 0; round < rounds; round++)
        ;
}

void row(const char *format, ...) {
    char text[REPORT_MAX] = "= ";
    va_list arguments;
    va_start(arguments, format);
    int length = 2 + vsnprintf(text + 2, sizeof text - 3, format, arguments);
    va_end(arguments);
    text[length++] = '\n';
    // At once: it may be a child that tells.
    if (write(STDOUT_FILENO, text, length) != length)
        guest_fail(__FILE__, __LINE__, "tell a row: errno %d", errno);
}

void local_tcp_pair(int pair[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_OK(bind(listener, (struct sockaddr *)&address, sizeof address));
    CHECK_OK(listen(listener, 5));
    CHECK_OK(getsockname(listener, (struct sockaddr *)&address, &length));
    pair[0] = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_OK(connect(pair[0], (struct sockaddr *)&address, sizeof address));
    pair[1] = (int)CHECK_OK(accept(listener, NULL, NULL));
    CHECK_OK(close(listener));
}

void expect_event(int epoll, uint32_t events, uint64_t data) {
    struct epoll_event event = {0, {.u64 = 0}};
    CHECK_EQ(epoll_wait(epoll, &event, 1, WAKE_MS), 1);
    CHECK_EQ(event.events, events);
    CHECK_EQ(event.data.u64, data);
}

void expect_no_event(int epoll) {
    struct epoll_event event;
    CHECK_EQ(epoll_wait(epoll, &event, 1, 30), 0);
}

int main(int argc, char **argv) {
    find_own_path(argv[0]);
    if (argc >= 3 && !strcmp(argv[1], "--helper")) {
        for (int at = 0; at < helper_count; at++)
            if (!strcmp(helpers[at].name, argv[2]))
                return helpers[at].run(argc - 3, argv + 3);
        return 126;
    }
    bool in_process = argc > 1 && !strcmp(argv[1], "--no-fork");
    if (argc > 1 && !strcmp(argv[1], "--list")) {
        for (int at = 0; at < test_count; at++)
            puts(tests[at].name);
        return 0;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    umask(022);
    if (!in_process) {
        struct sigaction action = {.sa_handler = ignore_alarm};
        sigaction(SIGALRM, &action, NULL);
    }
    int passed = 0, failed = 0;
    for (int at = 0; at < test_count; at++) {
        if (!wanted(tests[at].name, argc, argv))
            continue;
        if (in_process ? run_here(at) : run_forked(at))
            passed++;
        else
            failed++;
    }
    const char *area = strrchr(own_path, '/');
    printf("# %s: %d passed, %d failed\n", area ? area + 1 : own_path, passed, failed);
    return failed != 0 || passed == 0;
}
