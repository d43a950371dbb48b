// Whose are files with POSIX access lists to use? `acl make DIR` makes files and directories with lists, on the host; `acl ask DIR` asks
// as several users, and prints what each may. The answers in a sandbox, where DIR is a volume, are those of the host.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct entry {
    uint16_t tag, perm;
    uint32_t id;
};

static const struct {
    const char *name;
    int is_dir, owner, count;
    struct entry list[7];
} things[] = {
    {"user", 0, 0, 5, {{USER_OBJ, 6, -1}, {USER, 6, 1001}, {GROUP_OBJ, 0, -1}, {MASK, 6, -1}, {OTHER, 0, -1}}},
    {"masked", 0, 0, 5, {{USER_OBJ, 6, -1}, {USER, 6, 1001}, {GROUP_OBJ, 6, -1}, {MASK, 4, -1}, {OTHER, 0, -1}}},
    {"group", 0, 0, 5, {{USER_OBJ, 6, -1}, {GROUP_OBJ, 0, -1}, {GROUP, 6, 2002}, {MASK, 7, -1}, {OTHER, 0, -1}}},
    {"denied", 0, 0, 5, {{USER_OBJ, 6, -1}, {USER, 0, 1001}, {GROUP_OBJ, 6, -1}, {MASK, 7, -1}, {OTHER, 6, -1}}},
    {"group-denied", 0, 0, 5, {{USER_OBJ, 6, -1}, {GROUP_OBJ, 6, -1}, {GROUP, 0, 2002}, {MASK, 7, -1}, {OTHER, 6, -1}}},
    {"owned", 0, 1001, 5, {{USER_OBJ, 4, -1}, {USER, 6, 1002}, {GROUP_OBJ, 0, -1}, {MASK, 6, -1}, {OTHER, 0, -1}}},
    {"two-groups", 0, 0, 6, {{USER_OBJ, 6, -1}, {GROUP_OBJ, 0, -1}, {GROUP, 4, 2002}, {GROUP, 2, 2003}, {MASK, 7, -1}, {OTHER, 0, -1}}},
    {"run", 0, 0, 5, {{USER_OBJ, 6, -1}, {USER, 5, 1001}, {GROUP_OBJ, 0, -1}, {MASK, 5, -1}, {OTHER, 4, -1}}},
    {"dir", 1, 0, 5, {{USER_OBJ, 7, -1}, {USER, 7, 1001}, {GROUP_OBJ, 0, -1}, {MASK, 7, -1}, {OTHER, 0, -1}}},
    {"dir-seen", 1, 0, 5, {{USER_OBJ, 7, -1}, {USER, 5, 1001}, {GROUP_OBJ, 0, -1}, {MASK, 7, -1}, {OTHER, 1, -1}}},
    {"dir-group", 1, 0, 5, {{USER_OBJ, 7, -1}, {GROUP_OBJ, 0, -1}, {GROUP, 7, 2002}, {MASK, 5, -1}, {OTHER, 0, -1}}},
};
enum { THINGS = sizeof things / sizeof *things };

static const struct {
    uid_t uid;
    gid_t gid, more;
} users[] = {{0, 0, 0}, {1001, 1001, 1001}, {1002, 1002, 1002}, {3000, 2002, 2002}, {3000, 3000, 2002}, {3000, 2002, 2003}, {3000, 3000, 3000}};

static void must(int result, const char *what) {
    if (result != 0) {
        perror(what);
        exit(1);
    }
}

static void make(void) {
    umask(0);
    for (int at = 0; at < THINGS; at++) {
        if (things[at].is_dir)
            must(mkdir(things[at].name, 0755), things[at].name);
        else
            must(close(open(things[at].name, O_CREAT | O_EXCL | O_RDWR, 0644)), things[at].name);
        must(chown(things[at].name, things[at].owner, 0), "chown");
        struct {
            uint32_t version;
            struct entry list[7];
        } value = {.version = 2};
        memcpy(value.list, things[at].list, sizeof value.list);
        size_t size = sizeof(uint32_t) + things[at].count * sizeof(struct entry);
        must(setxattr(things[at].name, "system.posix_acl_access", &value, size, 0), "setxattr");
    }
}

static int outcome(int result) { return result == -1 ? errno : 0; }

static void tell(int user, const char *name, const char *what, int answer) {
    printf("%u/%u+%u %s %s: %d\n", users[user].uid, users[user].gid, users[user].more, name, what, answer);
}

static void ask(int user) {
    for (int at = 0; at < THINGS; at++) {
        const char *name = things[at].name;
        char path[64];
        for (int mode = 1; mode < 8; mode++) {
            snprintf(path, sizeof path, "access %d", mode);
            tell(user, name, path, outcome(faccessat(AT_FDCWD, name, mode, AT_EACCESS)));
        }
        tell(user, name, "read", outcome(open(name, O_RDONLY)));
        tell(user, name, "chmod", outcome(users[user].uid == 0 ? 0 : chmod(name, 0777)));
        if (!things[at].is_dir) {
            tell(user, name, "write", outcome(open(name, O_WRONLY)));
            tell(user, name, "both", outcome(open(name, O_RDWR)));
            continue;
        }
        snprintf(path, sizeof path, "%s/nothing", name);
        tell(user, name, "look", outcome(access(path, F_OK)));
        snprintf(path, sizeof path, "%s/new", name);
        tell(user, name, "make", outcome(open(path, O_CREAT | O_EXCL | O_RDWR, 0600)));
        tell(user, name, "remove", outcome(unlink(path)));
        tell(user, name, "enter", outcome(chdir(name)) ? 1 : (chdir(".."), 0));
    }
}

int main(int argc, char **argv) {
    if (argc != 3 || chdir(argv[2]) != 0)
        return 2;
    if (strcmp(argv[1], "make") == 0) {
        make();
        return 0;
    }
    for (int user = 0; user < (int)(sizeof users / sizeof *users); user++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            must(setgroups(1, &users[user].more), "setgroups");
            must(setresgid(users[user].gid, users[user].gid, users[user].gid), "setresgid");
            must(setresuid(users[user].uid, users[user].uid, users[user].uid), "setresuid");
            ask(user);
            fflush(stdout);
            _exit(0);
        }
        int status = 1;
        if (waitpid(child, &status, 0) != child || status != 0)
            return 1;
    }
    printf("# done\n");
    return 0;
}
