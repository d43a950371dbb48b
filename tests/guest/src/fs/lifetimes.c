// When does what an object holds go? With its last name and its last user. Space and nodes are counted on a tmpfs of the
// test's own, as nobody else uses it.
#include "../harness.h"
#include <sys/mount.h>
#include <sys/vfs.h>

#define MIB (1L << 20)

static void own_tmpfs(void) {
    CHECK_OK(unshare(CLONE_NEWNS));
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    CHECK_OK(mkdir("m", 0755));
    CHECK_OK(mount("none", "m", "tmpfs", 0, "size=16m"));
    CHECK_OK(chdir("m"));
}

static struct statfs usage(void) {
    struct statfs now;
    CHECK_OK(statfs(".", &now));
    return now;
}

#define CHECK_UNCHANGED(before)                                                                    \
    do {                                                                                           \
        struct statfs after = usage();                                                             \
        CHECK_EQ(after.f_bfree, (before).f_bfree);                                                 \
        CHECK_EQ(after.f_ffree, (before).f_ffree);                                                 \
    } while (0)

static int fill(const char *path, long size) {
    static char block[MIB];
    int fd = CHECK_OK(open(path, O_CREAT | O_RDWR, 0600));
    for (long done = 0; done < size; done += MIB)
        CHECK_EQ(write(fd, block, MIB), MIB);
    return fd;
}

TEST(removed_files_give_their_space_back) {
    own_tmpfs();
    struct statfs before = usage();
    for (int round = 0; round < 8; round++) {
        close(fill("f", 12 * MIB));
        CHECK_OK(unlink("f"));
        CHECK_UNCHANGED(before);
    }
}

TEST(replaced_files_give_their_space_back) {
    own_tmpfs();
    struct statfs before = usage();
    for (int round = 0; round < 8; round++) {
        close(fill("new", 7 * MIB));
        CHECK_OK(rename("new", "old"));
    }
    CHECK_OK(unlink("old"));
    CHECK_UNCHANGED(before);
}

TEST(swapped_files_give_their_space_back_when_they_go) {
    own_tmpfs();
    struct statfs before = usage();
    for (int round = 0; round < 4; round++) {
        close(fill("a", 7 * MIB));
        close(fill("b", 5 * MIB));
        CHECK_OK(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 2));
        CHECK_OK(unlink("a"));
        CHECK_EQ(usage().f_bfree, before.f_bfree - 7 * MIB / GUEST_PAGE);
        CHECK_OK(unlink("b"));
        CHECK_UNCHANGED(before);
    }
}

TEST(a_removed_file_that_is_open_or_mapped_gives_its_space_back_at_its_end) {
    own_tmpfs();
    struct statfs before = usage();
    int fd = fill("f", 4 * MIB);
    char *map = mmap(NULL, MIB, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    CHECK_OK(unlink("f"));
    CHECK_EQ(usage().f_bfree, before.f_bfree - 4 * MIB / GUEST_PAGE);
    CHECK_OK(close(fd));
    CHECK_EQ(usage().f_bfree, before.f_bfree - 4 * MIB / GUEST_PAGE);
    CHECK_OK(munmap(map, MIB));
    CHECK_UNCHANGED(before);
}

TEST(nameless_files_and_second_names_give_their_space_back) {
    own_tmpfs();
    struct statfs before = usage();
    for (int round = 0; round < 8; round++) {
        int fd = CHECK_OK(open(".", O_TMPFILE | O_RDWR, 0600));
        CHECK_OK(ftruncate(fd, 8 * MIB));
        CHECK_OK(fallocate(fd, 0, 0, 8 * MIB));
        CHECK_OK(close(fd));
        close(fill("a", 8 * MIB));
        CHECK_OK(link("a", "b"));
        CHECK_OK(unlink("a"));
        CHECK_EQ(usage().f_bfree, before.f_bfree - 8 * MIB / GUEST_PAGE);
        CHECK_OK(unlink("b"));
        CHECK_UNCHANGED(before);
    }
}

TEST(removed_directories_links_fifos_and_sockets_give_their_nodes_back) {
    own_tmpfs();
    char name[NAME_MAX + 1];
    struct statfs before = usage();
    for (int round = 0; round < 200; round++) {
        CHECK_OK(mkdir("d", 0755));
        snprintf(name, sizeof name, "d/none-%d", round);
        CHECK_ERR(access(name, F_OK), ENOENT);
        CHECK_OK(symlink("target", "d/s"));
        CHECK_OK(mkfifo("d/p", 0600));
        CHECK_OK(mknod("d/u", S_IFSOCK | 0600, 0));
        CHECK_OK(unlink("d/s"));
        CHECK_OK(unlink("d/p"));
        CHECK_OK(unlink("d/u"));
        CHECK_OK(rmdir("d"));
    }
    CHECK_UNCHANGED(before);
}
