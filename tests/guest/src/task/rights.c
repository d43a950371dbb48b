// Does anybody get more rights than Linux gives? Set-user-ID programs and who looks into them, /proc/PID of others,
// file capabilities, what exec hides.
#include "../harness.h"
#include <linux/capability.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/xattr.h>

enum { USER = 1000 };

static void become(uid_t user) {
    CHECK_OK(syscall(SYS_setgroups, 0, NULL));
    CHECK_OK(syscall(SYS_setresgid, user, user, user));
    CHECK_OK(syscall(SYS_setresuid, user, user, user));
    // Who has changed users is hidden until it says otherwise.
    CHECK_OK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static void copy_of_self(const char *path, mode_t mode) {
    int from = CHECK_OK(open(self_path(), O_RDONLY)), to = CHECK_OK(open(path, O_CREAT | O_WRONLY, 0700));
    static char bytes[1 << 16];
    for (ssize_t n; (n = CHECK_OK(read(from, bytes, sizeof bytes))) > 0;)
        CHECK_EQ(write(to, bytes, n), n);
    CHECK_OK(fchmod(to, mode));
    CHECK_OK(close(from));
    CHECK_OK(close(to));
}

static int proc_open(pid_t pid, const char *name, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return open(path, flags);
}

static volatile char belief[32] = "what the file says";

HELPER(keep_a_secret) {
    char byte;
    ssize_t n = read(0, &byte, 1);
    return geteuid() == 0 && n == 1 && !strcmp((const char *)belief, "what the file says") ? 0 : 42;
}

static void exec_copy(const char *helper) {
    execl("./copy", "copy", "--helper", helper, NULL);
    _exit(127);
}

TEST(mem_opened_before_a_set_user_id_exec_stays_with_the_old_memory) {
    copy_of_self("copy", 04755);
    struct gate go, seen;
    gate_init(&go);
    gate_init(&seen);
    int line[2];
    CHECK_OK(pipe(line));
    pid_t attacker = IN_CHILD(
        become(USER);
        pid_t child = IN_CHILD(gate_wait(&go); dup2(line[0], 0); exec_copy("keep_a_secret"));
        int mem = CHECK_OK(proc_open(child, "mem", O_RDWR)), maps = CHECK_OK(proc_open(child, "maps", O_RDONLY));
        int environment = CHECK_OK(proc_open(child, "environ", O_RDONLY));
        char text[64];
        CHECK_EQ(pread(mem, text, 4, (off_t)&belief), 4);
        gate_open(&go);
        // Until it runs as root it can be opened.
        for (int again; (again = proc_open(child, "mem", O_RDONLY)) != -1;)
            CHECK_OK(close(again));
        CHECK_EQ(errno, EACCES);
        CHECK_EQ(pread(mem, text, 4, (off_t)&belief), 0);
        CHECK_EQ(pwrite(mem, "evil", 5, (off_t)&belief), 0);
        CHECK_EQ(read(maps, text, sizeof text), 0);
        CHECK_EQ(read(environment, text, sizeof text), 0);
        CHECK_EQ(write(line[1], "x", 1), 1);
        CHECK_EXITS(child, 0));
    CHECK_EXITS(attacker, 0);
}

TEST(no_look_meets_a_set_user_id_program_with_its_callers_rights) {
    enum { EXECS = 60 };
    copy_of_self("copy", 04755);
    int line[2];
    CHECK_OK(pipe(line));
    for (int at = 0; at < EXECS; at++)
        CHECK_EQ(write(line[1], "x", 1), 1);
    pid_t attacker = IN_CHILD(
        become(USER);
        for (int at = 0; at < EXECS; at++) {
            strcpy((char *)belief, "what the caller says");
            pid_t child = IN_CHILD(dup2(line[0], 0); exec_copy("keep_a_secret"));
            char text[19] = "";
            struct iovec here = {text, 18}, there = {(void *)belief, 18};
            while (process_vm_readv(child, &here, 1, &there, 1, 0) == 18)
                if (!strcmp(text, "what the file says"))
                    _exit(1);
            int mem = proc_open(child, "mem", O_RDWR);
            CHECK(mem == -1 || pread(mem, text, 18, (off_t)&belief) <= 0);
            CHECK_EXITS(child, 0);
        });
    CHECK_EXITS(attacker, 0);
}

HELPER(open_a_secret) {
    char text[8];
    int fd = open("secret", O_RDONLY);
    return fd == 20 || (fd != -1 && dup2(fd, 20) == 20) ? (int)read(0, text, 1) != 1 : 1;
}

TEST(descriptors_of_a_set_user_id_program_are_not_handed_out) {
    enum { EXECS = 40 };
    copy_of_self("copy", 04755);
    make_file("secret", "of root");
    CHECK_OK(chmod("secret", 0600));
    int line[2];
    CHECK_OK(pipe(line));
    for (int at = 0; at < EXECS; at++)
        CHECK_EQ(write(line[1], "x", 1), 1);
    pid_t attacker = IN_CHILD(
        become(USER);
        for (int at = 0; at < EXECS; at++) {
            pid_t child = IN_CHILD(dup2(line[0], 0); exec_copy("open_a_secret"));
            int pidfd = CHECK_OK(syscall(SYS_pidfd_open, child, 0));
            do
                CHECK_EQ(syscall(SYS_pidfd_getfd, pidfd, 20, 0), -1);
            while (errno == EBADF);
            CHECK(errno == EPERM || errno == ESRCH);
            CHECK_OK(close(pidfd));
            CHECK_EXITS(child, 0);
        });
    CHECK_EXITS(attacker, 0);
}

TEST(links_of_another_users_process_lead_nowhere) {
    CHECK_OK(mkdir("locked", 0700));
    CHECK_OK(mkdir("locked/inner", 0777));
    make_file("locked/inner/file", "x");
    struct gate there;
    gate_init(&there);
    pid_t root = IN_CHILD(CHECK_OK(chdir("locked/inner")); gate_open(&there); pause());
    gate_wait(&there);
    pid_t user = IN_CHILD(
        become(USER);
        static const char *const links[] = {"cwd", "root", "exe", "ns/mnt", "ns/pid", "ns/user", "ns/net"};
        char target[64]; char path[64];
        for (unsigned at = 0; at < sizeof links / sizeof *links; at++)
            for (int of_thread = 0; of_thread < 2; of_thread++) {
                if (of_thread)
                    snprintf(path, sizeof path, "/proc/%d/task/%d/%s", root, root, links[at]);
                else
                    snprintf(path, sizeof path, "/proc/%d/%s", root, links[at]);
                CHECK_ERR(readlink(path, target, sizeof target), EACCES);
                CHECK_ERR(open(path, O_RDONLY), EACCES);
                CHECK_ERR(open(path, O_PATH), EACCES);
                CHECK_ERR(access(path, F_OK), EACCES);
            }
        CHECK_ERR(proc_open(root, "cwd/file", O_RDONLY), EACCES);
        CHECK_ERR(proc_open(root, "root/etc", O_RDONLY), EACCES);
        snprintf(path, sizeof path, "/proc/%d/cwd", root);
        CHECK_ERR(chdir(path), EACCES);
        snprintf(path, sizeof path, "/proc/%d/fd", root);
        CHECK_ERR(open(path, O_RDONLY), EACCES));
    CHECK_EXITS(user, 0);
    CHECK_OK(kill(root, SIGKILL));
    CHECK_KILLED(root, SIGKILL);
}

TEST(a_process_that_dropped_root_reaches_its_own_descriptors) {
    CHECK_OK(setgid(USER));
    CHECK_OK(setuid(USER));
    CHECK_EQ(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    struct stat status;
    CHECK_OK(stat("/proc/self/fd", &status));
    CHECK_EQ(status.st_uid, 0);
    CHECK_OK(stat("/proc/self", &status));
    CHECK_EQ(status.st_uid, USER);
    CHECK_OK(close(CHECK_OK(open("/proc/self/fd", O_RDONLY))));
    CHECK_OK(stat("/proc/self/fd/0", &status));
    CHECK_OK(stat("/proc/self/fdinfo/0", &status));
    CHECK_ERR(open("/proc/self/environ", O_RDONLY), EACCES);
    CHECK_ERR(open("/proc/self/mem", O_RDONLY), EACCES);
    CHECK_OK(close(CHECK_OK(open("/proc/self/maps", O_RDONLY))));
}

TEST(stat_tells_addresses_to_those_alone_who_may_look) {
    pid_t root = IN_CHILD(pause());
    pid_t user = IN_CHILD(
        become(USER);
        char text[512]; int at = 1;
        int fd = CHECK_OK(proc_open(root, "stat", O_RDONLY));
        CHECK(read(fd, text, sizeof text) > 0);
        char *field = strtok(strrchr(text, ')'), " \n");
        for (at = 2; field; field = strtok(NULL, " \n"), at++) {
            bool is_hidden = (at >= 28 && at <= 30) || (at >= 45 && at <= 51);
            CHECK(!is_hidden || !strcmp(field, "0"));
            CHECK((at != 26 && at != 27) || !strcmp(field, "1"));
        });
    CHECK_EXITS(user, 0);
    CHECK_OK(kill(root, SIGKILL));
    CHECK_KILLED(root, SIGKILL);
}

HELPER(say_dumpable) { return 10 + prctl(PR_GET_DUMPABLE, 0, 0, 0, 0); }

static void expect_exec(const char *helper, int status) {
    CHECK_EXITS(IN_CHILD(exec_copy(helper)), status);
}

TEST(exec_hides_what_may_not_be_read_or_has_gained) {
    copy_of_self("copy", 0711);
    CHECK_EXITS(IN_CHILD(become(USER); exec_copy("say_dumpable")), 10);
    CHECK_EXITS(IN_CHILD(exec_copy("say_dumpable")), 11);
    CHECK_OK(chmod("copy", 0755));
    CHECK_EXITS(IN_CHILD(become(USER); exec_copy("say_dumpable")), 11);
    CHECK_OK(chmod("copy", 04755));
    CHECK_EXITS(IN_CHILD(become(USER); exec_copy("say_dumpable")), 10);
    CHECK_OK(chown("copy", USER, 0));
    CHECK_OK(chmod("copy", 04755));
    // Of the same user: nothing is gained.
    CHECK_EXITS(IN_CHILD(become(USER); exec_copy("say_dumpable")), 11);
    CHECK_OK(chmod("copy", 0755));
    CHECK_EXITS(IN_CHILD(CHECK_OK(setresuid(-1, USER, -1)); exec_copy("say_dumpable")), 10);
}

static struct vfs_cap_data file_capabilities(uint32_t bits, bool is_effective) {
    struct vfs_cap_data data = {.magic_etc = VFS_CAP_REVISION_2 | (is_effective ? VFS_CAP_FLAGS_EFFECTIVE : 0)};
    data.data[0].permitted = bits;
    return data;
}

static void give_capabilities(const char *path, uint32_t bits, bool is_effective) {
    struct vfs_cap_data data = file_capabilities(bits, is_effective);
    CHECK_OK(setxattr(path, "security.capability", &data, sizeof data, 0));
}

static void mount_private_tmpfs(void) {
    CHECK_OK(mkdir("m", 0755));
    CHECK_OK(unshare(CLONE_NEWNS));
    CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    CHECK_OK(mount("tmpfs", "m", "tmpfs", 0, "size=64m,mode=0755"));
    CHECK_OK(chdir("m"));
}

static uint32_t own_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    CHECK_OK(syscall(SYS_capget, &header, data));
    return data[0].effective & data[0].permitted;
}

static void have_capabilities(uint32_t bits) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{bits, bits, 0}};
    CHECK_OK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
    CHECK_OK(syscall(SYS_setgroups, 0, NULL));
    CHECK_OK(syscall(SYS_setresgid, USER, USER, USER));
    CHECK_OK(syscall(SYS_setresuid, USER, USER, USER));
    CHECK_OK(syscall(SYS_capset, &header, data));
}

// Chown, kill and net_raw, which every container has.
#define BIT(capability) (1u << (capability))
enum { CHOWN = BIT(CAP_CHOWN), KILL = BIT(CAP_KILL) };

HELPER(say_capabilities) {
    uint32_t own = own_capabilities();
    return 10 + !!(own & CHOWN) + 2 * !!(own & KILL) + 4 * !!(own & ~(CHOWN | KILL));
}

TEST(file_capabilities_under_no_new_privs_are_those_that_the_process_has) {
    mount_private_tmpfs();
    copy_of_self("copy", 0755);
    give_capabilities("copy", CHOWN | KILL, true);
    CHECK_EXITS(IN_CHILD(become(USER); exec_copy("say_capabilities")), 13);
    CHECK_EXITS(IN_CHILD(become(USER); CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
                         exec_copy("say_capabilities")), 10);
    CHECK_EXITS(IN_CHILD(have_capabilities(CHOWN); CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
                         exec_copy("say_capabilities")), 11);
    CHECK_EXITS(IN_CHILD(have_capabilities(CHOWN | KILL); CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
                         exec_copy("say_capabilities")), 13);
}

TEST(a_file_whose_capabilities_cannot_all_be_had_does_not_run) {
    mount_private_tmpfs();
    copy_of_self("copy", 0755);
    give_capabilities("copy", CHOWN | KILL, true);
    pid_t pid = IN_CHILD(
        CHECK_OK(prctl(PR_CAPBSET_DROP, CAP_KILL, 0, 0, 0));
        CHECK_ERR(execl("./copy", "copy", "--helper", "say_capabilities", NULL), EPERM);
        give_capabilities("copy", CHOWN | KILL, false);
        become(USER);
        exec_copy("say_capabilities"));
    // Permitted, but not effective.
    CHECK_EXITS(pid, 10);
    CHECK_ERR(setxattr("copy", "security.capability", "\0\0\0\x02\1", 5, 0), EINVAL);
}

TEST(content_that_is_written_loses_its_file_capabilities) {
    mount_private_tmpfs();
    make_file("f", "some text");
    CHECK_OK(chmod("f", 0666));
    struct vfs_cap_data data;
    give_capabilities("f", CHOWN, true);
    CHECK_EQ(getxattr("f", "security.capability", &data, sizeof data), (ssize_t)sizeof data);
    int fd = CHECK_OK(open("f", O_WRONLY));
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_ERR(getxattr("f", "security.capability", &data, sizeof data), ENODATA);
    give_capabilities("f", CHOWN, true);
    CHECK_OK(ftruncate(fd, 1));
    CHECK_ERR(getxattr("f", "security.capability", &data, sizeof data), ENODATA);
    give_capabilities("f", CHOWN, true);
    CHECK_OK(chown("f", 5, 5));
    CHECK_ERR(getxattr("f", "security.capability", &data, sizeof data), ENODATA);
}

TEST(a_set_user_id_program_that_shares_its_root_gains_nothing) {
    copy_of_self("copy", 04755);
    pid_t sharing = IN_CHILD(
        become(USER);
        struct gate go;
        gate_init(&go);
        pid_t child = (pid_t)CHECK_OK(syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0));
        if (child == 0)
            exec_copy("say_users");
        CHECK_EXITS(child, 11));
    CHECK_EXITS(sharing, 0);
    CHECK_EXITS(IN_CHILD(become(USER); exec_copy("say_users")), 10);
}

HELPER(say_users) { return 10 + (geteuid() != 0); }

TEST(exec_by_a_user_who_acts_as_another_is_secure) {
    copy_of_self("copy", 0755);
    expect_exec("say_secure", 10);
    CHECK_EXITS(IN_CHILD(CHECK_OK(setresuid(USER, USER + 1, -1)); exec_copy("say_secure")), 11);
}

HELPER(say_secure) { return 10 + (int)getauxval(AT_SECURE); }

TEST(oom_score_adj_goes_back_to_where_a_privileged_process_left_it) {
    char text[16];
    read_file("/proc/self/oom_score_adj", text, sizeof text);
    int start = atoi(text);
    pid_t pid = IN_CHILD(
        CHECK_OK(setresuid(-1, USER, -1));
        CHECK_OK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
        int fd = CHECK_OK(open("/proc/self/oom_score_adj", O_WRONLY));
        CHECK_EQ(write(fd, "700", 3), 3);
        int length = snprintf(text, sizeof text, "%d", start);
        CHECK_EQ(write(fd, text, length), length);
        length = snprintf(text, sizeof text, "%d", start - 1);
        CHECK_ERR(write(fd, text, length), EACCES));
    CHECK_EXITS(pid, 0);
}
