// What takes of a tmpfs's space? Nodes, further names and attributes of `nr_inodes`, long targets of links of `size`; all of it is given back.
#include "../harness.h"
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

enum { BLOCKS = 16, NODES = 20 };

static void enter(void) {
    CHECK_OK(unshare(CLONE_NEWNS));
    CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    CHECK_OK(mkdir("m", 0700));
    CHECK_OK(mount("none", "m", "tmpfs", 0, "size=64k,nr_inodes=20"));
    CHECK_OK(chdir("m"));
}

// Blocks and nodes in use; the root is one of the latter.
static void check_used(long blocks, long nodes) {
    struct statfs now;
    CHECK_OK(statfs(".", &now));
    CHECK_EQ(now.f_blocks, BLOCKS);
    CHECK_EQ(now.f_files, NODES);
    CHECK_EQ(now.f_blocks - now.f_bfree, blocks);
    CHECK_EQ(now.f_files - now.f_ffree, nodes);
}

static long link_of(const char *name, size_t length) {
    char target[PATH_MAX] = "";
    memset(target, 'x', length);
    if (symlink(target, name) == -1)
        return -1;
    struct stat stat_of;
    CHECK_OK(lstat(name, &stat_of));
    CHECK_EQ(stat_of.st_size, length);
    return stat_of.st_blocks;
}

TEST(space_for_nodes_is_taken_by_each_name_and_given_back) {
    enter();
    check_used(0, 1);
    CHECK_OK(close(CHECK_OK(open("f", O_CREAT | O_WRONLY, 0600))));
    CHECK_OK(mkdir("d", 0700));
    check_used(0, 3);
    CHECK_OK(link("f", "again"));
    check_used(0, 4);
    CHECK_OK(rename("f", "d/other"));
    check_used(0, 4);
    CHECK_OK(link("again", "more"));
    CHECK_OK(mkfifo("fifo", 0600));
    CHECK_OK(rename("fifo", "more"));
    check_used(0, 5);
    CHECK_OK(unlink("again"));
    CHECK_OK(unlink("more"));
    CHECK_OK(unlink("d/other"));
    CHECK_OK(rmdir("d"));
    check_used(0, 1);
    char name[16];
    for (int n = 1; n < NODES; n++) {
        snprintf(name, sizeof name, "n%d", n);
        CHECK_OK(mkdir(name, 0700));
    }
    CHECK_ERR(mkdir("one-more", 0700), ENOSPC);
    CHECK_OK(rmdir("n1"));
    CHECK_OK(symlink("n2", "one-more"));
    CHECK_ERR(link("one-more", "and-another"), ENOSPC);
    check_used(0, NODES);
}

TEST(space_of_a_long_target_of_a_symbolic_link_is_a_page) {
    enter();
    CHECK_EQ(link_of("short", 127), 0);
    check_used(0, 2);
    CHECK_EQ(link_of("long", 128), 8);
    check_used(1, 3);
    char name[16];
    int made = 0;
    for (; made < NODES; made++) {
        snprintf(name, sizeof name, "l%d", made);
        if (link_of(name, 1000) == -1)
            break;
    }
    CHECK_EQ(errno, ENOSPC);
    CHECK_EQ(made, BLOCKS - 1);
    check_used(BLOCKS, 3 + BLOCKS - 1);
    CHECK_OK(unlink("long"));
    check_used(BLOCKS - 1, 2 + BLOCKS - 1);
    CHECK_EQ(link_of("long", 4000), 8);
}

TEST(space_of_attributes_is_that_of_nodes) {
    static char value[30000];
    static const char *const names[] = {"user.a", "trusted.a", "security.a"};
    enter();
    CHECK_OK(close(CHECK_OK(open("f", O_CREAT | O_WRONLY, 0600))));
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        // Kernels before 6.6 know no attributes of users here.
        CHECK_OK(setxattr("f", names[n], value, 3000, 0));
        check_used(0, 5 + 3 * (long)n);
    }
    CHECK_ERR(setxattr("f", "user.b", value, sizeof value, 0), ENOSPC);
    CHECK_OK(setxattr("f", "user.a", value, 100, XATTR_REPLACE));
    check_used(0, 9);
    CHECK_ERR(setxattr("f", "user.a", value, 100, XATTR_CREATE), EEXIST);
    CHECK_OK(removexattr("f", "trusted.a"));
    check_used(0, 6);
    CHECK_OK(unlink("f"));
    check_used(0, 1);
}
