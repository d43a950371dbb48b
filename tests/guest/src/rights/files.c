// What may whom do to a file? Every operation on a node and on a directory, asked by every subject, of files of root and of
// the user's own, in the container's tree and in a tmpfs. Each is asked of a file of its own.
#include "subjects.h"
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

static const struct kind {
    const char *name;
    uid_t uid;
    gid_t gid;
    mode_t mode;
} kinds[] = {
    {"root 600", 0, 0, 0600},          {"root 644", 0, 0, 0644},          {"root 666", 0, 0, 0666},
    {"root 711", 0, 0, 0711},          {"root:user 640", 0, USER, 0640},  {"root:user 606", 0, USER, 0606},
    {"root:user 6775", 0, USER, 06775}, {"root 4777", 0, 0, 04777},       {"root 2767", 0, 0, 02767},
    {"user 600", USER, USER, 0600},    {"user 477", USER, USER, 0477},    {"user 6755", USER, USER, 06755},
    {"user:root 2755", USER, 0, 02755}, {"user 000", USER, USER, 0},
};
static const struct kind folders[] = {
    {"root/ 755", 0, 0, 0755},   {"root/ 777", 0, 0, 0777},      {"root/ 1777", 0, 0, 01777}, {"root/ 2777", 0, 0, 02777},
    {"root/ 744", 0, 0, 0744},   {"root/ 711", 0, 0, 0711},      {"root/ 733", 0, 0, 0733},   {"user/ 700", USER, USER, 0700},
    {"user/ 1777", USER, USER, 01777}, {"user/ 500", USER, USER, 0500},
};

static void make(const char *path, const struct kind *kind, bool is_folder) {
    if (is_folder) {
        CHECK_OK(mkdir(path, 0700));
    } else {
        make_file(path, "#!/no/such/interpreter\n");
    }
    CHECK_OK(chown(path, kind->uid, kind->gid));
    CHECK_OK(chmod(path, kind->mode));
}

static char path[64], question[96];

static const char *on(const char *what, const struct kind *kind) {
    snprintf(question, sizeof question, "%s %s", what, kind->name);
    return question;
}

// What is left of owner and bits.
static void tell_mode(const char *what, const struct kind *kind) {
    struct stat status;
    if (stat(path, &status) == 0)
        row("after %s %s, %s: %o %d %d", what, kind->name, asking, status.st_mode & 07777, status.st_uid, status.st_gid);
}

// One file for each question; the parent makes them, since the subject may not.
enum { FILES = 16 };

static void next_file(void) {
    static int count;
    snprintf(path, sizeof path, "f%d", count++);
}

static void make_files(const struct kind *kind) {
    char name[32];
    for (int at = 0; at < FILES; at++) {
        snprintf(name, sizeof name, "f%d", at);
        make(name, kind, false);
    }
}

static void remove_files(void) {
    char name[32];
    for (int at = 0; at < FILES; at++) {
        snprintf(name, sizeof name, "f%d", at);
        CHECK_OK(unlink(name));
    }
}

// `path` is a file that nothing has been done to.
#define ON_FRESH(...)                                                                              \
    do {                                                                                           \
        next_file();                                                                               \
        __VA_ARGS__;                                                                               \
    } while (0)

static void ask_opens(const struct kind *kind) {
    static const struct { const char *name; int flags; } ways[] = {
        {"open r", O_RDONLY},           {"open w", O_WRONLY},         {"open rw", O_RDWR},      {"open path", O_PATH},
        {"open noatime", O_RDONLY | O_NOATIME}, {"open append", O_WRONLY | O_APPEND}, {"open creat", O_RDWR | O_CREAT},
        {"open excl", O_RDWR | O_CREAT | O_EXCL}, {"open directory", O_RDONLY | O_DIRECTORY},
    };
    for (unsigned at = 0; at < sizeof ways / sizeof *ways; at++) {
        int fd = open(path, ways[at].flags, 0666);
        tell(on(ways[at].name, kind), fd, "ok");
        close(fd);
    }
    static const struct { const char *name; int mode; } rights[] = {
        {"access r", R_OK}, {"access w", W_OK}, {"access x", X_OK}, {"access rw", R_OK | W_OK}, {"access f", F_OK}};
    for (unsigned at = 0; at < sizeof rights / sizeof *rights; at++) {
        tell(on(rights[at].name, kind), access(path, rights[at].mode), "ok");
        tell(on(rights[at].name, kind), syscall(SYS_faccessat2, AT_FDCWD, path, rights[at].mode, AT_EACCESS), "ok effective");
    }
    char value[8];
    tell(on("getxattr user.", kind), getxattr(path, "user.x", value, sizeof value), "ok");
    tell(on("getxattr trusted.", kind), getxattr(path, "trusted.x", value, sizeof value), "ok");
    tell(on("listxattr", kind), listxattr(path, NULL, 0), "ok");
    int events = inotify_init();
    tell(on("watch", kind), inotify_add_watch(events, path, IN_MODIFY), "ok");
    close(events);
    char *none[] = {NULL};
    tell(on("execve", kind), execve(path, none, none), "ok");
}

static void ask_attributes(const struct kind *kind) {
    const struct timespec times[2] = {{1, 1}, {1, 1}}, now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
    ON_FRESH(tell(on("chmod", kind), chmod(path, 0666), "ok"));
    ON_FRESH(tell(on("chmod 6777", kind), chmod(path, 06777), "ok"); tell_mode("chmod 6777", kind));
    ON_FRESH(tell(on("chown self", kind), chown(path, geteuid(), -1), "ok"); tell_mode("chown self", kind));
    ON_FRESH(tell(on("chown none", kind), chown(path, -1, -1), "ok"); tell_mode("chown none", kind));
    ON_FRESH(tell(on("chgrp own", kind), chown(path, -1, getegid()), "ok"); tell_mode("chgrp own", kind));
    ON_FRESH(tell(on("chgrp other", kind), chown(path, -1, 77), "ok"));
    ON_FRESH(tell(on("chown other", kind), chown(path, 77, -1), "ok"));
    ON_FRESH(tell(on("utimes", kind), utimensat(AT_FDCWD, path, times, 0), "ok"));
    ON_FRESH(tell(on("touch", kind), utimensat(AT_FDCWD, path, now, 0), "ok"));
    ON_FRESH(tell(on("truncate", kind), truncate(path, 3), "ok"); tell_mode("truncate", kind));
    ON_FRESH(int fd = open(path, O_WRONLY); tell(on("write", kind), write(fd, "x", 1), "ok");
               tell_mode("write", kind));
    ON_FRESH(int fd = open(path, O_WRONLY | O_TRUNC); tell(on("open trunc", kind), fd, "ok");
               tell_mode("open trunc", kind));
    ON_FRESH(tell(on("setxattr user.", kind), setxattr(path, "user.x", "1", 1, 0), "ok");
               tell(on("removexattr user.", kind), removexattr(path, "user.x"), "ok"));
    ON_FRESH(int fd = open(path, O_RDONLY); tell(on("fchmod of readable", kind), fchmod(fd, 0600), "ok");
               tell(on("ftruncate of readable", kind), ftruncate(fd, 0), "ok"));
    ON_FRESH(int fd = open(path, O_PATH); char name[32]; snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
               tell(on("reopen rw", kind), open(name, O_RDWR), "ok"));
}

// It has to do with files; of the other capabilities one kind tells that they have not.
static bool is_about_files(int subject) {
    switch (subject - 3) {
    case CAP_KILL: return false;
    case CAP_SYS_CHROOT: case CAP_SYS_ADMIN: case CAP_LINUX_IMMUTABLE: case CAP_MKNOD: case CAP_SETFCAP: return true;
    default: return subject - 3 <= CAP_SETUID;
    }
}

static void ask_files(int first, int end) {
    for (int subject = first; subject < end; subject++)
        for (unsigned at = 0; at < (is_about_files(subject) ? sizeof kinds / sizeof *kinds : 1); at++) {
            make_files(&kinds[at]);
            pid_t asker = IN_CHILD(if (become_subject(subject, asking)) {
                next_file();
                ask_opens(&kinds[at]);
                ask_attributes(&kinds[at]);
            });
            CHECK_EXITS(asker, 0);
            remove_files();
        }
}

static void ask_in_folder(const struct kind *kind, const char *folder) {
    char entries[512], name[96];
#define IN_FOLDER(what, file, call)                                                                \
    do {                                                                                           \
        snprintf(name, sizeof name, "%s/%s", folder, file);                                       \
        errno = 0;                                                                                 \
        tell(on(what, kind), call, "ok");                                                          \
    } while (0)
    int fd = open(folder, O_RDONLY | O_DIRECTORY);
    tell(on("open", kind), fd, "ok");
    tell(on("list", kind), syscall(SYS_getdents64, fd, entries, sizeof entries), "ok");
    close(fd);
    struct stat status;
    IN_FOLDER("stat in", "root", stat(name, &status));
    IN_FOLDER("stat absent in", "absent", stat(name, &status));
    IN_FOLDER("make in", "new", open(name, O_CREAT | O_WRONLY, 0666));
    IN_FOLDER("mkdir in", "newdir", mkdir(name, 0777));
    if (stat(name, &status) == 0)
        row("after mkdir in %s, %s: %o %d %d", kind->name, asking, status.st_mode & 07777, status.st_uid, status.st_gid);
    IN_FOLDER("mkfifo in", "fifo", mkfifo(name, 0666));
    IN_FOLDER("set-group-ID file in", "setgid", open(name, O_CREAT | O_WRONLY, 02777));
    if (stat(name, &status) == 0)
        row("after set-group-ID file in %s, %s: %o %d %d", kind->name, asking, status.st_mode & 07777, status.st_uid,
            status.st_gid);
    IN_FOLDER("symlink in", "link", symlink("root", name));
    IN_FOLDER("hard link of one's own in", "hard", link("own", name));
    IN_FOLDER("unlink root's in", "root", unlink(name));
    IN_FOLDER("unlink user's in", "user", unlink(name));
    IN_FOLDER("rmdir root's in", "rootdir", rmdir(name));
    IN_FOLDER("rmdir other's in", "otherdir", rmdir(name));
    char other[96];
    snprintf(other, sizeof other, "%s/moved", folder);
    IN_FOLDER("rename root's in", "root2", rename(name, other));
    snprintf(other, sizeof other, "%s/user2", folder);
    IN_FOLDER("rename over user's in", "other", rename(name, other));
    IN_FOLDER("O_TMPFILE in", "", open(folder, O_TMPFILE | O_RDWR, 0666));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
    IN_FOLDER("bind in", "socket", bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/listener", folder);
    IN_FOLDER("connect in", "", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
    tell(on("setxattr of", kind), setxattr(folder, "user.x", "1", 1, 0), "ok");
    tell(on("chmod of", kind), chmod(folder, kind->mode), "ok");
    tell(on("chdir", kind), chdir(folder), "ok");
    tell(on("chroot", kind), chroot("."), "ok");
}

static void fill(const char *folder) {
    static const struct kind root = {"", 0, 0, 0644}, user = {"", USER, USER, 0644}, other = {"", OTHER, OTHER, 0644};
    static const struct { const char *name; const struct kind *kind; bool is_folder; } entries[] = {
        {"root", &root, false}, {"root2", &root, false}, {"user", &user, false},    {"user2", &user, false},
        {"other", &other, false}, {"rootdir", &root, true}, {"otherdir", &other, true}};
    char name[96];
    for (unsigned at = 0; at < sizeof entries / sizeof *entries; at++) {
        snprintf(name, sizeof name, "%s/%s", folder, entries[at].name);
        make(name, entries[at].kind, entries[at].is_folder);
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/listener", folder);
    int listener = CHECK_OK(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_OK(bind(listener, (struct sockaddr *)&address, sizeof address));
    CHECK_OK(chmod(address.sun_path, 0644));
    CHECK_OK(listen(listener, 1));
    CHECK_OK(close(listener));
}

static void ask_folders(void) {
    static int count;
    umask(0);
    for (int subject = 0; subject < SUBJECTS; subject++)
        for (unsigned at = 0; at < (is_about_files(subject) ? sizeof folders / sizeof *folders : 1); at++) {
            char folder[32];
            snprintf(folder, sizeof folder, "d%d", count++);
            CHECK_OK(mkdir(folder, 0700));
            fill(folder);
            static const struct kind own = {"", USER, USER, 0644};
            make("own", &own, false);
            CHECK_OK(chown(folder, folders[at].uid, folders[at].gid));
            CHECK_OK(chmod(folder, folders[at].mode));
            CHECK_EXITS(IN_CHILD(if (become_subject(subject, asking)) ask_in_folder(&folders[at], folder)), 0);
            CHECK_OK(unlink("own"));
        }
}

static void enter_tmpfs(void) {
    CHECK_OK(mkdir("m", 0755));
    CHECK_OK(unshare(CLONE_NEWNS));
    CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    CHECK_OK(mount("tmpfs", "m", "tmpfs", 0, "mode=0755"));
    CHECK_OK(chdir("m"));
}

// In parts, since each has so much time.
enum { USERS = 3, HALF = USERS + CAP_FSETID };
TEST(operations_on_files_by_users) { ask_files(0, USERS); }
TEST(operations_on_files_by_capabilities_of_files) { ask_files(USERS, HALF); }
TEST(operations_on_files_by_other_capabilities) { ask_files(HALF, SUBJECTS); }
TEST(operations_on_files_of_a_tmpfs_by_users) { enter_tmpfs(); ask_files(0, USERS); }
TEST(operations_on_files_of_a_tmpfs_by_capabilities_of_files) { enter_tmpfs(); ask_files(USERS, HALF); }
TEST(operations_on_files_of_a_tmpfs_by_other_capabilities) { enter_tmpfs(); ask_files(HALF, SUBJECTS); }
TEST(operations_in_directories) { ask_folders(); }
TEST(operations_in_directories_of_a_tmpfs) { enter_tmpfs(); ask_folders(); }
