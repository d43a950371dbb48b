// When does what an object holds go? With its last name and its last user. Space and nodes are counted on a tmpfs of the
// test's own, as nobody else uses it.
#include "../harness.h"
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
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

// Which watch tells what: one letter for each watch, one word for each event, in their order.
static struct watched {
    int fd, wd[4];
    char told[1024];
} watched;

static void watch(int index, const char *path) {
    if (index == 0)
        watched.fd = CHECK_OK(inotify_init1(IN_NONBLOCK));
    watched.wd[index] = CHECK_OK(inotify_add_watch(watched.fd, path, IN_ALL_EVENTS));
}

static const char *told(void) {
    static const struct {
        uint32_t bit;
        const char *word;
    } words[] = {{IN_ACCESS, "access"},           {IN_MODIFY, "modify"},
                 {IN_ATTRIB, "attrib"},           {IN_CLOSE_WRITE, "closed-w"},
                 {IN_CLOSE_NOWRITE, "closed-r"},  {IN_OPEN, "open"},
                 {IN_MOVED_FROM, "from"},         {IN_MOVED_TO, "to"},
                 {IN_CREATE, "create"},           {IN_DELETE, "delete"},
                 {IN_DELETE_SELF, "delete-self"}, {IN_MOVE_SELF, "move-self"},
                 {IN_UNMOUNT, "unmount"},         {IN_IGNORED, "ignored"},
                 {IN_ISDIR, "dir"}};
    static char buffer[8192] __attribute__((aligned(8)));
    ssize_t length = read(watched.fd, buffer, sizeof buffer);
    watched.told[0] = 0;
    for (ssize_t at = 0; at < length;) {
        struct inotify_event *event = (struct inotify_event *)(buffer + at);
        at += (ssize_t)sizeof *event + event->len;
        size_t end = strlen(watched.told);
        int index = 0;
        while (index < 3 && watched.wd[index] != event->wd)
            index++;
        end += (size_t)sprintf(watched.told + end, "%s%d", end ? " " : "", index);
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (event->mask & words[i].bit)
                end += (size_t)sprintf(watched.told + end, ":%s", words[i].word);
    }
    return watched.told;
}

TEST(a_watch_tells_of_the_end_at_the_last_close_of_an_unlinked_file) {
    make_file("f", "x");
    int fd = CHECK_OK(open("f", O_RDWR));
    watch(0, ".");
    watch(1, "f");
    CHECK_OK(unlink("f"));
    CHECK_STR(told(), "1:attrib 0:delete");
    CHECK_EQ(write(fd, "y", 1), 1);
    CHECK_STR(told(), "0:modify 1:modify");
    CHECK_OK(close(fd));
    CHECK_STR(told(), "0:closed-w 1:closed-w 1:delete-self 1:ignored");
    CHECK_ERR(inotify_rm_watch(watched.fd, watched.wd[1]), EINVAL);
}

TEST(a_watch_tells_of_the_end_of_a_file_that_nobody_uses_at_once) {
    make_file("f", "x");
    CHECK_OK(mkdir("d", 0755));
    watch(0, ".");
    watch(1, "f");
    watch(2, "d");
    CHECK_OK(unlink("f"));
    CHECK_STR(told(), "1:attrib 1:delete-self 1:ignored 0:delete");
    CHECK_OK(rmdir("d"));
    CHECK_STR(told(), "2:delete-self 2:ignored 0:delete:dir");
}

TEST(a_watch_on_an_open_directory_ends_when_that_is_closed) {
    CHECK_OK(mkdir("d", 0755));
    int fd = CHECK_OK(open("d", O_RDONLY | O_DIRECTORY));
    watch(0, "d");
    CHECK_OK(rmdir("d"));
    CHECK_STR(told(), "");
    CHECK_OK(close(fd));
    CHECK_STR(told(), "0:closed-r:dir 0:delete-self 0:ignored");
}

TEST(a_watch_lives_as_long_as_a_second_name) {
    make_file("a", "x");
    CHECK_OK(link("a", "b"));
    watch(0, "a");
    CHECK_OK(unlink("a"));
    CHECK_STR(told(), "0:attrib");
    CHECK_OK(unlink("b"));
    CHECK_STR(told(), "0:attrib 0:delete-self 0:ignored");
}

TEST(a_watch_tells_of_replacing_and_swapping) {
    make_file("a", "x");
    make_file("b", "y");
    watch(0, ".");
    watch(1, "a");
    watch(2, "b");
    CHECK_OK(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 2));
    CHECK_STR(told(), "0:from 0:to 1:move-self 0:from 0:to 2:move-self");
    CHECK_OK(rename("a", "b"));
    CHECK_STR(told(), "0:from 0:to 1:attrib 2:move-self 1:delete-self 1:ignored");
    int fd = CHECK_OK(open("b", O_RDONLY));
    make_file("c", "z");
    told();
    CHECK_OK(rename("c", "b"));
    CHECK_STR(told(), "0:from 0:to 2:attrib");
    CHECK_OK(close(fd));
    CHECK_STR(told(), "0:closed-r 2:closed-r 2:delete-self 2:ignored");
}

TEST(a_mapping_of_an_unlinked_file_is_a_user_too) {
    make_file("f", "x");
    int fd = CHECK_OK(open("f", O_RDONLY));
    char *map = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    watch(0, "f");
    CHECK_OK(unlink("f"));
    CHECK_OK(close(fd));
    CHECK_STR(told(), "0:attrib");
    CHECK_OK(munmap(map, 1));
    CHECK_STR(told(), "0:closed-r 0:delete-self 0:ignored");
}

TEST(a_watch_is_told_of_the_end_of_its_file_system) {
    own_tmpfs();
    CHECK_OK(mkdir("d", 0755));
    watch(0, "d");
    CHECK_OK(chdir(".."));
    CHECK_OK(umount("m"));
    CHECK_STR(told(), "0:unmount:dir 0:ignored");
    CHECK_ERR(inotify_rm_watch(watched.fd, watched.wd[0]), EINVAL);
}

TEST(changes_of_length_are_told) {
    make_file("f", "text");
    int fd = CHECK_OK(open("f", O_RDWR));
    watch(0, "f");
    CHECK_OK(ftruncate(fd, 2));
    CHECK_STR(told(), "0:modify");
    CHECK_OK(truncate("f", 1));
    CHECK_STR(told(), "0:modify");
    CHECK_OK(fallocate(fd, 0, 0, 10));
    CHECK_STR(told(), "0:modify");
    CHECK_OK(close(CHECK_OK(open("f", O_WRONLY | O_TRUNC))));
    CHECK(strstr(told(), "0:modify"));
}

TEST(transfers_and_listings_are_told) {
    make_file("a", "text");
    make_file("b", "");
    CHECK_OK(mkdir("d", 0755));
    int a = CHECK_OK(open("a", O_RDONLY)), b = CHECK_OK(open("b", O_WRONLY)), d = CHECK_OK(open("d", O_RDONLY));
    char buffer[4096];
    int ends[2];
    CHECK_OK(pipe(ends));
    watch(0, "a");
    watch(1, "b");
    watch(2, "d");
    CHECK_EQ(sendfile(b, a, NULL, 4), 4);
    CHECK_STR(told(), "0:access 1:modify");
    loff_t from = 0;
    CHECK_EQ(copy_file_range(a, &from, b, NULL, 4, 0), 4);
    CHECK_STR(told(), "0:access 1:modify");
    from = 0;
    CHECK_EQ(splice(a, &from, ends[1], NULL, 4, 0), 4);
    CHECK_STR(told(), "0:access");
    CHECK_EQ(splice(ends[0], NULL, b, NULL, 4, 0), 4);
    CHECK_STR(told(), "1:modify");
    CHECK_EQ(pread(a, buffer, 4, 4), 0);
    CHECK_STR(told(), "");
    CHECK(syscall(SYS_getdents64, d, buffer, sizeof buffer) > 0);
    CHECK_STR(told(), "2:access:dir");
}

TEST(a_watch_may_decline_what_happens_to_unlinked_files) {
    make_file("f", "x");
    int fd = CHECK_OK(open("f", O_WRONLY));
    watch(0, ".");
    CHECK_OK(inotify_add_watch(watched.fd, ".", IN_MODIFY | IN_EXCL_UNLINK));
    CHECK_EQ(write(fd, "y", 1), 1);
    CHECK_STR(told(), "0:modify");
    CHECK_OK(unlink("f"));
    CHECK_EQ(write(fd, "y", 1), 1);
    CHECK_STR(told(), "");
}
