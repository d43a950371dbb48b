// What does execve keep, what does it reset, and what does it refuse?
#include "../harness.h"

static void run(const char *path, char *const arguments[]) {
    execve(path, arguments, environ);
    _exit(100 + errno % 100);
}

static void make_program(const char *path, const char *content, mode_t mode) {
    make_file(path, content);
    CHECK_OK(chmod(path, mode));
}

TEST(execve_of_a_missing_file_is_enoent) {
    char *arguments[] = {"x", NULL};
    CHECK_ERR(execve("missing", arguments, environ), ENOENT);
    CHECK_ERR(execve("", arguments, environ), ENOENT);
}

TEST(execve_of_a_directory_is_eacces) {
    char *arguments[] = {"x", NULL};
    CHECK_ERR(execve(".", arguments, environ), EACCES);
}

TEST(execve_without_execute_permission_is_eacces) {
    char *arguments[] = {"x", NULL};
    make_program("f", "#!/bin/true\n", 0644);
    CHECK_ERR(execve("f", arguments, environ), EACCES);
}

TEST(execve_through_a_file_is_enotdir) {
    char *arguments[] = {"x", NULL};
    make_program("f", "x", 0755);
    CHECK_ERR(execve("f/g", arguments, environ), ENOTDIR);
}

TEST(execve_of_text_or_an_empty_file_is_enoexec) {
    char *arguments[] = {"x", NULL};
    make_program("text", "just text\n", 0755);
    CHECK_ERR(execve("text", arguments, environ), ENOEXEC);
    make_program("empty", "", 0755);
    CHECK_ERR(execve("empty", arguments, environ), ENOEXEC);
}

TEST(execve_of_a_truncated_elf_is_enoexec) {
    char *arguments[] = {"x", NULL};
    make_program("elf", "\177ELF\002\001\001", 0755);
    CHECK_ERR(execve("elf", arguments, environ), ENOEXEC);
}

TEST(execve_of_a_file_open_for_writing_is_etxtbsy) {
    char *arguments[] = {"x", NULL};
    make_program("f", "#!/bin/true\n", 0755);
    int fd = CHECK_OK(open("f", O_WRONLY | O_CLOEXEC));
    CHECK_ERR(execve("f", arguments, environ), ETXTBSY);
    CHECK_OK(close(fd));
}

TEST(execve_with_a_bad_pointer_is_efault) {
    CHECK_ERR(syscall(SYS_execve, (void *)8, NULL, NULL), EFAULT);
    CHECK_ERR(syscall(SYS_execve, self_path(), (void *)8, NULL), EFAULT);
}

TEST(execve_with_too_long_an_argument_is_e2big) {
    enum { LONG = 32 * 4096 };
    char *text = malloc(LONG + 1);
    memset(text, 'a', LONG);
    text[LONG] = 0;
    char *arguments[] = {"x", text, NULL};
    CHECK_ERR(execve(self_path(), arguments, environ), E2BIG);
}

TEST(execve_with_too_many_arguments_is_e2big) {
    enum { COUNT = 60000 };
    char **arguments = calloc(COUNT + 1, sizeof *arguments);
    char *text = malloc(1001);
    memset(text, 'a', 1000);
    text[1000] = 0;
    for (int at = 0; at < COUNT; at++)
        arguments[at] = text;
    CHECK_ERR(execve(self_path(), arguments, environ), E2BIG);
}

HELPER(count_bytes) { return argc == 41 && strlen(argv[40]) == 20000 ? 0 : 1; }

TEST(execve_passes_eight_hundred_kilobytes_of_arguments) {
    char *arguments[45] = {(char *)self_path(), "--helper", "count_bytes"};
    char *text = malloc(20001);
    memset(text, 'b', 20000);
    text[20000] = 0;
    for (int at = 0; at < 41; at++)
        arguments[3 + at] = text;
    pid_t pid = IN_CHILD(run(self_path(), arguments));
    CHECK_EXITS(pid, 0);
}

TEST(script_arguments_are_interpreter_option_script_rest) {
    char text[PATH_MAX + 64];
    snprintf(text, sizeof text, "#!%s --helper\n", self_path());
    // argv: PROGRAM, "--helper", "exit_with_argv", "7": the helper's name is the script's path.
    make_program("exit_with_argv", text, 0755);
    char *arguments[] = {"replaced", "7", NULL};
    pid_t pid = IN_CHILD(run("exit_with_argv", arguments));
    CHECK_EXITS(pid, 7);
}

HELPER(exit_with_argv) { return argc == 1 ? atoi(argv[0]) : 99; }

TEST(script_option_is_one_argument_without_outer_blanks) {
    // "#!  ./show \t a b  \n" makes ./show's arguments "a b", "script", "one"; ./show in turn is a script whose
    // interpreter is this program.
    char text[PATH_MAX + 64];
    snprintf(text, sizeof text, "#!%s --helper\n", self_path());
    make_program("show_option", text, 0755);
    make_program("script", "#!  show_option \t a b  \nrest\n", 0755);
    char *arguments[] = {"replaced", "one", NULL};
    pid_t pid = IN_CHILD(run("script", arguments));
    CHECK_EXITS(pid, 34);
}

HELPER(show_option) {
    return argc == 3 && !strcmp(argv[0], "a b") && !strcmp(argv[1], "script") && !strcmp(argv[2], "one") ? 34 : 1;
}

TEST(script_with_a_missing_interpreter_is_enoent) {
    char *arguments[] = {"x", NULL};
    make_program("f", "#!/no/such/interpreter\n", 0755);
    CHECK_ERR(execve("f", arguments, environ), ENOENT);
}

TEST(scripts_nested_too_deeply_are_eloop) {
    char *arguments[] = {"x", NULL}, name[8], text[16];
    for (int at = 0; at < 8; at++) {
        snprintf(name, sizeof name, "s%d", at);
        snprintf(text, sizeof text, "#!./s%d\n", at + 1);
        make_program(name, text, 0755);
    }
    make_program("s8", "#!/bin/true\n", 0755);
    CHECK_ERR(execve("s0", arguments, environ), ELOOP);
}

HELPER(descriptors) { return fcntl(60, F_GETFD) == 0 && fcntl(61, F_GETFD) == -1 && errno == EBADF ? 0 : 1; }

TEST(execve_closes_only_cloexec_descriptors) {
    CHECK_OK(dup2(1, 60));
    CHECK_OK(dup3(1, 61, O_CLOEXEC));
    CHECK_EXITS(spawn_helper("descriptors", "x"), 0);
}

HELPER(signals_after_exec) {
    struct sigaction handled, ignored;
    sigaction(SIGUSR1, NULL, &handled);
    sigaction(SIGUSR2, NULL, &ignored);
    sigset_t mask, pending;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    sigpending(&pending);
    if (handled.sa_handler != SIG_DFL)
        return 1;
    if (ignored.sa_handler != SIG_IGN)
        return 2;
    if (!sigismember(&mask, SIGTERM) || sigismember(&mask, SIGHUP))
        return 3;
    return sigismember(&pending, SIGTERM) ? 0 : 4;
}

static void do_nothing(int number) { (void)number; }

TEST(execve_resets_handlers_and_keeps_ignored_mask_and_pending) {
    pid_t pid = IN_CHILD({
        catch_signal(SIGUSR1, do_nothing, 0);
        signal(SIGUSR2, SIG_IGN);
        block_signal(SIGTERM);
        raise(SIGTERM);
        execl(self_path(), self_path(), "--helper", "signals_after_exec", NULL);
    });
    CHECK_EXITS(pid, 0);
}

HELPER(state_after_exec) {
    char cwd[PATH_MAX];
    if (getpid() != atoi(argv[0]) || umask(0) != 027)
        return 1;
    if (!getcwd(cwd, sizeof cwd) || strcmp(strrchr(cwd, '/'), "/sub"))
        return 2;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur != 123)
        return 3;
    return alarm(0) > 0 ? 0 : 4;
}

TEST(execve_keeps_pid_directory_umask_limits_and_alarm) {
    pid_t pid = IN_CHILD({
        char text[16];
        struct rlimit limit;
        snprintf(text, sizeof text, "%d", getpid());
        CHECK_OK(mkdir("sub", 0755));
        CHECK_OK(chdir("sub"));
        umask(027);
        CHECK_OK(getrlimit(RLIMIT_NOFILE, &limit));
        limit.rlim_cur = 123;
        CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
        alarm(15);
        execl(self_path(), self_path(), "--helper", "state_after_exec", text, NULL);
    });
    CHECK_EXITS(pid, 0);
}

TEST(execve_drops_memory_mappings) {
    void *at = mmap(NULL, GUEST_PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char text[32];
    snprintf(text, sizeof text, "%lx", (unsigned long)at);
    CHECK_EXITS(spawn_helper("is_unmapped", text), 0);
}

HELPER(is_unmapped) {
    // Something else may lie there by now, but not a shared anonymous page.
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof line, maps))
        if (!strncmp(line, argv[0], strlen(argv[0])) && strstr(line, "r--s"))
            return 1;
    return maps ? 0 : 2;
}

HELPER(comm_is) {
    char text[64];
    read_file("/proc/self/comm", text, sizeof text);
    text[strcspn(text, "\n")] = 0;
    return strcmp(text, argv[0]) ? 1 : 0;
}

TEST(execve_names_the_process_after_the_file) {
    CHECK_OK(symlink(self_path(), "a-very-long-program-name"));
    pid_t pid = IN_CHILD(execl("a-very-long-program-name", "x", "--helper", "comm_is", "a-very-long-pro", NULL));
    CHECK_EXITS(pid, 0);
}

TEST(execveat_runs_a_descriptor_with_an_empty_path) {
    int fd = CHECK_OK(open(self_path(), O_PATH | O_CLOEXEC));
    char *arguments[] = {"x", "--helper", "exit_with_argv", "41", NULL};
    pid_t pid = IN_CHILD(syscall(SYS_execveat, fd, "", arguments, environ, AT_EMPTY_PATH));
    CHECK_EXITS(pid, 41);
}

TEST(execveat_of_a_symlink_with_nofollow_is_eloop) {
    char *arguments[] = {"x", NULL};
    CHECK_OK(symlink(self_path(), "link"));
    CHECK_ERR(syscall(SYS_execveat, AT_FDCWD, "link", arguments, environ, AT_SYMLINK_NOFOLLOW), ELOOP);
}

TEST(set_user_id_program_changes_the_effective_user) {
    // A script's bit does not count; a program's does.
    char copy[65536];
    int from = CHECK_OK(open(self_path(), O_RDONLY));
    int to = CHECK_OK(open("suid", O_CREAT | O_WRONLY, 0755));
    ssize_t got;
    while ((got = CHECK_OK(read(from, copy, sizeof copy))) > 0)
        CHECK_EQ(write(to, copy, got), got);
    CHECK_OK(close(to));
    CHECK_OK(chown("suid", 1234, 0));
    CHECK_OK(chmod("suid", 04755));
    pid_t pid = IN_CHILD(become_nobody(); execl("suid", "suid", "--helper", "euid_is", "1234", NULL));
    CHECK_EXITS(pid, 0);
}

HELPER(euid_is) { return geteuid() == (uid_t)atoi(argv[0]) && getuid() == 65534 ? 0 : 1; }
