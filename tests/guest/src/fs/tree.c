// What do names do? Links, directories, renames, path walks, listings.
#include "../harness.h"
#include <sys/statfs.h>
#include <sys/sysmacros.h>

TEST(mkdir_and_rmdir) {
    struct stat status;
    CHECK_OK(mkdir("d", 0777));
    CHECK_OK(stat("d", &status));
    CHECK_EQ(status.st_mode, S_IFDIR | 0755);
    CHECK_ERR(mkdir("d", 0777), EEXIST);
    CHECK_ERR(mkdir("none/d", 0777), ENOENT);
    make_file("d/f", "x");
    CHECK_ERR(rmdir("d"), ENOTEMPTY);
    CHECK_ERR(rmdir("d/f"), ENOTDIR);
    CHECK_OK(unlink("d/f"));
    CHECK_OK(rmdir("d/"));
    CHECK_ERR(rmdir("d"), ENOENT);
    CHECK_ERR(rmdir("."), EINVAL);
}

TEST(directory_link_count_follows_its_subdirectories) {
    struct stat status;
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(mkdir("d/a", 0755));
    CHECK_OK(mkdir("d/b", 0755));
    CHECK_OK(stat("d", &status));
    CHECK_EQ(status.st_nlink, 4);
}

TEST(unlink_of_a_directory_is_eisdir) {
    CHECK_OK(mkdir("d", 0755));
    CHECK_ERR(unlink("d"), EISDIR);
    CHECK_ERR(unlink("none"), ENOENT);
    CHECK_OK(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
    CHECK_ERR(unlinkat(AT_FDCWD, "d", 0x10), EINVAL);
}

TEST(hard_link_shares_the_inode) {
    struct stat first, second;
    make_file("f", "shared");
    CHECK_OK(link("f", "g"));
    CHECK_OK(stat("f", &first));
    CHECK_OK(stat("g", &second));
    CHECK_EQ(first.st_ino, second.st_ino);
    CHECK_EQ(first.st_nlink, 2);
    CHECK_OK(unlink("f"));
    CHECK_OK(stat("g", &second));
    CHECK_EQ(second.st_nlink, 1);
    CHECK_ERR(link("none", "h"), ENOENT);
    make_file("h", "x");
    CHECK_ERR(link("g", "h"), EEXIST);
    CHECK_ERR(link(".", "i"), EPERM);
}

TEST(link_does_not_follow_a_symlink_unless_asked) {
    struct stat status;
    make_file("f", "x");
    CHECK_OK(symlink("f", "s"));
    CHECK_OK(link("s", "t"));
    CHECK_OK(lstat("t", &status));
    CHECK(S_ISLNK(status.st_mode));
    CHECK_OK(linkat(AT_FDCWD, "s", AT_FDCWD, "u", AT_SYMLINK_FOLLOW));
    CHECK_OK(lstat("u", &status));
    CHECK(S_ISREG(status.st_mode));
}

TEST(symlink_and_readlink) {
    char text[8] = "";
    struct stat status;
    CHECK_OK(symlink("target/path", "s"));
    CHECK_EQ(readlink("s", text, 6), 6);
    CHECK(memcmp(text, "target", 6) == 0);
    CHECK_OK(lstat("s", &status));
    CHECK_EQ(status.st_size, 11);
    CHECK_EQ(status.st_mode, S_IFLNK | 0777);
    CHECK_ERR(stat("s", &status), ENOENT);
    CHECK_ERR(symlink("x", "s"), EEXIST);
    CHECK_ERR(symlink("", "t"), ENOENT);
    make_file("f", "x");
    CHECK_ERR(readlink("f", text, 8), EINVAL);
    CHECK_ERR(readlink("s", text, 0), EINVAL);
}

TEST(symlink_in_the_middle_of_a_path_is_followed) {
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(mkdir("d/e", 0755));
    make_file("d/e/f", "x");
    CHECK_OK(symlink("d/e", "s"));
    CHECK_OK(symlink("../e/f", "d/e/up"));
    CHECK_OK(access("s/f", F_OK));
    CHECK_OK(access("s/up", F_OK));
    CHECK_OK(access("s/../e/./up", F_OK));
    CHECK_OK(access("s//f", F_OK));
}

TEST(symlink_loop_is_eloop) {
    CHECK_OK(symlink("b", "a"));
    CHECK_OK(symlink("a", "b"));
    CHECK_ERR(open("a", O_RDONLY), ELOOP);
    CHECK_ERR(access("a/x", F_OK), ELOOP);
}

TEST(forty_symlinks_resolve_and_one_more_is_eloop) {
    char from[16], to[16];
    make_file("s0", "end");
    for (int at = 1; at <= 41; at++) {
        snprintf(from, sizeof from, "s%d", at);
        snprintf(to, sizeof to, "s%d", at - 1);
        CHECK_OK(symlink(to, from));
    }
    CHECK_OK(access("s40", F_OK));
    CHECK_ERR(access("s41", F_OK), ELOOP);
}

TEST(name_of_255_bytes_works_and_256_is_enametoolong) {
    char name[300];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    make_file(name, "x");
    CHECK_OK(unlink(name));
    name[255] = 'n';
    name[256] = 0;
    CHECK_ERR(open(name, O_CREAT | O_RDWR, 0644), ENAMETOOLONG);
}

TEST(path_of_4096_bytes_is_enametoolong) {
    static char path[4200];
    for (int at = 0; at < 4194; at += 2)
        memcpy(path + at, "./", 2);
    path[4094] = '.';
    path[4095] = 0;
    CHECK_OK(access(path, F_OK));
    path[4095] = '/';
    path[4096] = 0;
    CHECK_ERR(access(path, F_OK), ENAMETOOLONG);
}

TEST(rename_replaces_a_file) {
    char text[16];
    make_file("a", "new");
    make_file("b", "old");
    int old = CHECK_OK(open("b", O_RDONLY));
    CHECK_OK(rename("a", "b"));
    read_file("b", text, sizeof text);
    CHECK_STR(text, "new");
    CHECK_ERR(access("a", F_OK), ENOENT);
    CHECK_EQ(read(old, text, 3), 3);
    CHECK(memcmp(text, "old", 3) == 0);
}

TEST(rename_errors) {
    make_file("f", "x");
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(mkdir("full", 0755));
    make_file("full/x", "x");
    CHECK_ERR(rename("none", "g"), ENOENT);
    CHECK_ERR(rename("f", "d"), EISDIR);
    CHECK_ERR(rename("d", "f"), ENOTDIR);
    CHECK_ERR(rename("d", "full"), ENOTEMPTY);
    CHECK_ERR(rename("full", "full/sub"), EINVAL);
    CHECK_ERR(rename(".", "g"), EBUSY);
    CHECK_OK(rename("full", "d"));
    CHECK_OK(access("d/x", F_OK));
}

TEST(rename_of_two_links_to_one_file_does_nothing) {
    make_file("a", "x");
    CHECK_OK(link("a", "b"));
    CHECK_OK(rename("a", "b"));
    CHECK_OK(access("a", F_OK));
    CHECK_OK(access("b", F_OK));
}

TEST(renameat2_noreplace_and_exchange) {
    char text[8];
    make_file("a", "A");
    make_file("b", "B");
    CHECK_ERR(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
    CHECK_OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE));
    read_file("a", text, sizeof text);
    CHECK_STR(text, "B");
    CHECK_OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
    CHECK_ERR(renameat2(AT_FDCWD, "b", AT_FDCWD, "none", RENAME_EXCHANGE), ENOENT);
    CHECK_ERR(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
}

TEST(rename_moves_an_open_directory) {
    CHECK_OK(mkdir("a", 0755));
    CHECK_OK(mkdir("b", 0755));
    CHECK_OK(mkdir("a/d", 0755));
    int fd = CHECK_OK(open("a/d", O_RDONLY));
    CHECK_OK(rename("a/d", "b/e"));
    int file = CHECK_OK(openat(fd, "f", O_CREAT | O_RDWR, 0644));
    CHECK_OK(close(file));
    CHECK_OK(access("b/e/f", F_OK));
}

TEST(openat_resolves_against_its_directory) {
    CHECK_OK(mkdir("d", 0755));
    make_file("d/f", "x");
    make_file("g", "x");
    int dir = CHECK_OK(open("d", O_RDONLY)), file = CHECK_OK(open("g", O_RDONLY));
    CHECK_OK(openat(dir, "f", O_RDONLY));
    CHECK_OK(openat(dir, "../g", O_RDONLY));
    CHECK_OK(openat(-1, "/", O_RDONLY));
    CHECK_ERR(openat(-1, "f", O_RDONLY), EBADF);
    CHECK_ERR(openat(file, "f", O_RDONLY), ENOTDIR);
}

TEST(openat2_beneath_refuses_to_leave) {
    struct { uint64_t flags, mode, resolve; } how = {O_RDONLY, 0, 0x08}; // RESOLVE_BENEATH
    CHECK_OK(mkdir("d", 0755));
    make_file("d/f", "x");
    int dir = CHECK_OK(open("d", O_RDONLY));
    CHECK_OK(syscall(SYS_openat2, dir, "f", &how, sizeof how));
    CHECK_ERR(syscall(SYS_openat2, dir, "../d/f", &how, sizeof how), EXDEV);
    CHECK_ERR(syscall(SYS_openat2, dir, "/etc", &how, sizeof how), EXDEV);
    how.resolve = 0x04; // RESOLVE_NO_SYMLINKS
    CHECK_OK(symlink("f", "d/s"));
    CHECK_ERR(syscall(SYS_openat2, dir, "s", &how, sizeof how), ELOOP);
    CHECK_ERR(syscall(SYS_openat2, dir, "f", &how, 8), EINVAL);
}

TEST(getdents64_lists_every_name_once) {
    char name[16];
    bool seen[300] = {false};
    CHECK_OK(mkdir("d", 0755));
    for (int at = 0; at < 300; at++) {
        snprintf(name, sizeof name, "d/%d", at);
        make_file(name, "");
    }
    int fd = CHECK_OK(open("d", O_RDONLY | O_DIRECTORY)), dots = 0, count = 0;
    char buffer[1024];
    long length;
    while ((length = CHECK_OK(syscall(SYS_getdents64, fd, buffer, sizeof buffer))) > 0) {
        for (long at = 0; at < length;) {
            struct dirent64 *entry = (struct dirent64 *)(buffer + at);
            at += entry->d_reclen;
            if (entry->d_name[0] == '.') {
                CHECK_EQ(entry->d_type, DT_DIR);
                dots++;
                continue;
            }
            CHECK(!seen[atoi(entry->d_name)]);
            seen[atoi(entry->d_name)] = true;
            count++;
        }
    }
    CHECK_EQ(dots, 2);
    CHECK_EQ(count, 300);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    CHECK(syscall(SYS_getdents64, fd, buffer, sizeof buffer) > 0);
}

// The names in a directory, read from its beginning, without the dots: as one string, in the order of the alphabet.
static const char *names_from_the_beginning(DIR *dir) {
    static char all[256];
    bool seen[128] = {false};
    struct dirent *entry;
    rewinddir(dir);
    while ((entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.') {
            CHECK(entry->d_name[1] == '\0' && !seen[entry->d_name[0] & 127]);
            seen[entry->d_name[0] & 127] = true;
        }
    int length = 0;
    for (int letter = 0; letter < 128; letter++)
        if (seen[letter])
            all[length++] = (char)letter;
    all[length] = '\0';
    return all;
}

TEST(a_listing_from_the_beginning_shows_every_change) {
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(mkdir("e", 0755));
    make_file("d/a", "");
    make_file("f", "");
    DIR *dir = opendir("d"), *other = opendir("e");
    CHECK(dir != NULL && other != NULL);
    CHECK_STR(names_from_the_beginning(dir), "a");
    CHECK_STR(names_from_the_beginning(other), "");
    make_file("d/b", "");
    CHECK_STR(names_from_the_beginning(dir), "ab");
    CHECK_OK(mkdir("d/c", 0755));
    CHECK_OK(link("f", "d/g"));
    CHECK_STR(names_from_the_beginning(dir), "abcg");
    CHECK_OK(unlink("d/a"));
    CHECK_OK(rename("d/b", "e/h"));
    CHECK_STR(names_from_the_beginning(dir), "cg");
    CHECK_STR(names_from_the_beginning(other), "h");
    CHECK_OK(rmdir("d/c"));
    CHECK_OK(symlink("x", "d/s"));
    CHECK_OK(mkfifo("d/t", 0644));
    CHECK_OK(rename("d/g", "d/z"));
    CHECK_STR(names_from_the_beginning(dir), "stz");
    CHECK_OK(syscall(SYS_renameat2, AT_FDCWD, "d/s", AT_FDCWD, "e/h", 2)); // RENAME_EXCHANGE
    CHECK_STR(names_from_the_beginning(dir), "stz");
    int fd = CHECK_OK(open("e", O_TMPFILE | O_RDWR, 0600));
    CHECK_STR(names_from_the_beginning(other), "h");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK_OK(linkat(AT_FDCWD, path, AT_FDCWD, "e/k", AT_SYMLINK_FOLLOW));
    CHECK_STR(names_from_the_beginning(other), "hk");
}

TEST(names_can_be_removed_while_they_are_listed) {
    char name[16], buffer[1024];
    CHECK_OK(mkdir("d", 0755));
    for (int at = 0; at < 300; at++) {
        snprintf(name, sizeof name, "d/%d", at);
        make_file(name, "");
    }
    int fd = CHECK_OK(open("d", O_RDONLY | O_DIRECTORY)), count = 0;
    long length;
    while ((length = CHECK_OK(syscall(SYS_getdents64, fd, buffer, sizeof buffer))) > 0) {
        for (long at = 0; at < length;) {
            struct dirent64 *entry = (struct dirent64 *)(buffer + at);
            at += entry->d_reclen;
            if (entry->d_name[0] == '.')
                continue;
            CHECK_OK(unlinkat(fd, entry->d_name, 0));
            count++;
        }
    }
    CHECK_EQ(count, 300);
    CHECK_OK(rmdir("d"));
}

TEST(getdents64_errors) {
    char buffer[1024];
    make_file("f", "x");
    CHECK_ERR(syscall(SYS_getdents64, (int)CHECK_OK(open("f", O_RDONLY)), buffer, sizeof buffer), ENOTDIR);
    CHECK_ERR(syscall(SYS_getdents64, (int)CHECK_OK(open(".", O_RDONLY)), buffer, 1), EINVAL);
    CHECK_ERR(syscall(SYS_getdents64, 250, buffer, sizeof buffer), EBADF);
}

TEST(directory_entries_tell_their_type_and_inode) {
    make_file("file", "x");
    CHECK_OK(mkdir("dir", 0755));
    CHECK_OK(symlink("x", "link"));
    CHECK_OK(mkfifo("fifo", 0644));
    DIR *dir = opendir(".");
    CHECK(dir != NULL);
    struct dirent *entry;
    int matched = 0;
    while ((entry = readdir(dir)) != NULL) {
        struct stat status;
        CHECK_OK(lstat(entry->d_name, &status));
        if (strcmp(entry->d_name, "..") != 0)
            CHECK_EQ(entry->d_ino, status.st_ino);
        CHECK_EQ(entry->d_type, IFTODT(status.st_mode));
        matched++;
    }
    CHECK_EQ(matched, 6);
}

TEST(seekdir_returns_to_a_remembered_place) {
    char name[16];
    for (int at = 0; at < 50; at++) {
        snprintf(name, sizeof name, "%d", at);
        make_file(name, "");
    }
    DIR *dir = opendir(".");
    for (int at = 0; at < 20; at++)
        CHECK(readdir(dir) != NULL);
    long place = telldir(dir);
    char next[256];
    strcpy(next, readdir(dir)->d_name);
    while (readdir(dir))
        ;
    seekdir(dir, place);
    CHECK_STR(readdir(dir)->d_name, next);
}

TEST(chdir_and_getcwd) {
    char here[PATH_MAX], there[PATH_MAX];
    CHECK(getcwd(here, sizeof here) != NULL);
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(chdir("d"));
    CHECK(getcwd(there, sizeof there) != NULL);
    strcat(here, "/d");
    CHECK_STR(there, here);
    char small[2];
    CHECK_ERR(syscall(SYS_getcwd, small, sizeof small), ERANGE);
    CHECK_ERR(chdir("none"), ENOENT);
    make_file("f", "x");
    CHECK_ERR(chdir("f"), ENOTDIR);
    CHECK_OK(fchdir((int)CHECK_OK(open("..", O_RDONLY))));
    CHECK_OK(access("d", F_OK));
}

TEST(getcwd_of_a_deleted_directory_is_enoent) {
    char path[PATH_MAX];
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(chdir("d"));
    CHECK_OK(rmdir("../d"));
    CHECK_ERR(syscall(SYS_getcwd, path, sizeof path), ENOENT);
    CHECK_ERR(open("f", O_CREAT | O_RDWR, 0644), ENOENT);
    CHECK_OK(chdir(".."));
}

TEST(chroot_bounds_the_walk) {
    CHECK_OK(mkdir("jail", 0755));
    make_file("jail/inside", "x");
    pid_t pid = IN_CHILD({
        CHECK_OK(chroot("jail"));
        CHECK_OK(chdir("/"));
        CHECK_OK(access("/inside", F_OK));
        CHECK_OK(access("/../../inside", F_OK));
        CHECK_ERR(access("/jail", F_OK), ENOENT);
        char path[64];
        CHECK(getcwd(path, sizeof path) != NULL);
        CHECK_STR(path, "/");
    });
    CHECK_EXITS(pid, 0);
    CHECK_ERR(chroot("none"), ENOENT);
    pid = IN_CHILD(become_nobody(); CHECK_ERR(chroot("."), EPERM));
    CHECK_EXITS(pid, 0);
}

TEST(fifo_joins_a_reader_and_a_writer) {
    CHECK_OK(mkfifo("fifo", 0600));
    struct stat status;
    CHECK_OK(stat("fifo", &status));
    CHECK(S_ISFIFO(status.st_mode));
    CHECK_ERR(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    pid_t pid = IN_CHILD(int fd = CHECK_OK(open("fifo", O_WRONLY)); CHECK_EQ(write(fd, "through", 7), 7));
    int fd = CHECK_OK(open("fifo", O_RDONLY));
    char text[16] = "";
    CHECK_EQ(read(fd, text, sizeof text), 7);
    CHECK_STR(text, "through");
    CHECK_EQ(read(fd, text, sizeof text), 0);
    CHECK_EXITS(pid, 0);
    CHECK_OK(open("fifo", O_RDONLY | O_NONBLOCK));
}

TEST(mknod_makes_files_and_a_user_may_not_make_devices) {
    struct stat status;
    CHECK_OK(mknod("f", S_IFREG | 0600, 0));
    CHECK_OK(stat("f", &status));
    CHECK(S_ISREG(status.st_mode));
    CHECK_ERR(mknod("f", S_IFREG | 0600, 0), EEXIST);
    CHECK_OK(chmod(".", 0777));
    pid_t pid = IN_CHILD(become_nobody(); CHECK_ERR(mknod("dev", S_IFCHR | 0600, makedev(1, 3)), EPERM));
    CHECK_EXITS(pid, 0);
}

TEST(statfs_tells_block_and_name_sizes) {
    struct statfs status;
    CHECK_OK(statfs(".", &status));
    CHECK(status.f_bsize > 0);
    CHECK(status.f_blocks >= status.f_bfree);
    CHECK_EQ(status.f_namelen, 255);
    CHECK_OK(statfs("/proc", &status));
    CHECK_EQ(status.f_type, 0x9fa0);
    CHECK_ERR(statfs("none", &status), ENOENT);
}

TEST(deep_directories_can_be_made_and_removed) {
    for (int depth = 0; depth < 200; depth++) {
        CHECK_OK(mkdir("deep", 0755));
        CHECK_OK(chdir("deep"));
    }
    char path[PATH_MAX];
    CHECK(getcwd(path, sizeof path) != NULL);
    CHECK(strlen(path) > 1000);
    for (int depth = 0; depth < 200; depth++) {
        CHECK_OK(chdir(".."));
        CHECK_OK(rmdir("deep"));
    }
}

TEST(long_symlink_target_is_kept) {
    char target[4096], back[4096] = "";
    memset(target, 't', sizeof target);
    target[4000] = 0;
    CHECK_OK(symlink(target, "s"));
    CHECK_EQ(readlink("s", back, sizeof back), 4000);
    CHECK_STR(back, target);
}
