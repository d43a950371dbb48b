// What is known about a file, who may change it, and who may use it?
#include "../harness.h"
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static struct stat status_of(const char *path) {
    struct stat status;
    CHECK_OK(lstat(path, &status));
    return status;
}

// A directory that anyone may write to, with the test inside it.
static void open_to_all(void) { CHECK_OK(chmod(".", 0777)); }

TEST(stat_tells_type_size_links_and_owner) {
    make_file("f", "12345");
    struct stat status = status_of("f");
    CHECK_EQ(status.st_mode, S_IFREG | 0644);
    CHECK_EQ(status.st_size, 5);
    CHECK_EQ(status.st_nlink, 1);
    CHECK_EQ(status.st_uid, 0);
    CHECK_EQ(status.st_gid, 0);
    CHECK(status.st_blksize > 0);
    CHECK(status.st_ino != 0);
}

TEST(stat_errors) {
    struct stat status;
    make_file("f", "x");
    CHECK_ERR(stat("none", &status), ENOENT);
    CHECK_ERR(stat("f/g", &status), ENOTDIR);
    CHECK_ERR(fstat(250, &status), EBADF);
    CHECK_ERR(fstatat(AT_FDCWD, "", &status, 0), ENOENT);
    CHECK_ERR(fstatat(AT_FDCWD, "f", &status, 0x80000), EINVAL);
    CHECK_OK(fstatat((int)CHECK_OK(open("f", O_RDONLY)), "", &status, AT_EMPTY_PATH));
}

TEST(statx_agrees_with_stat_and_knows_the_birth_or_says_not) {
    make_file("f", "12345");
    struct stat status = status_of("f");
    struct statx more;
    CHECK_OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &more));
    CHECK_EQ(more.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    CHECK_EQ(more.stx_size, 5);
    CHECK_EQ(more.stx_ino, status.st_ino);
    CHECK_EQ(more.stx_mode, status.st_mode);
    CHECK_EQ(makedev(more.stx_dev_major, more.stx_dev_minor), status.st_dev);
    CHECK_EQ(more.stx_mtime.tv_nsec, status.st_mtim.tv_nsec);
    if (more.stx_mask & STATX_BTIME)
        CHECK(more.stx_btime.tv_sec <= more.stx_mtime.tv_sec);
    CHECK_ERR(statx(AT_FDCWD, "f", 0, 0x80000000, &more), EINVAL);
}

static long long mtime_ns(const char *path) {
    struct stat status = status_of(path);
    return status.st_mtim.tv_sec * 1000000000LL + status.st_mtim.tv_nsec;
}

TEST(write_moves_mtime_and_chmod_only_ctime) {
    make_file("f", "x");
    CHECK_OK(utimensat(AT_FDCWD, "f", (struct timespec[2]){{100, 5}, {200, 7}}, 0));
    struct stat status = status_of("f");
    CHECK_EQ(status.st_atim.tv_sec, 100);
    CHECK_EQ(mtime_ns("f"), 200000000007);
    CHECK(status.st_ctim.tv_sec > 1000000);
    CHECK_OK(chmod("f", 0600));
    CHECK_EQ(mtime_ns("f"), 200000000007);
    int fd = CHECK_OK(open("f", O_WRONLY));
    CHECK_EQ(write(fd, "y", 1), 1);
    CHECK_OK(close(fd));
    CHECK(mtime_ns("f") > 200000000007);
}

TEST(creating_an_entry_moves_the_directorys_mtime) {
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(utimensat(AT_FDCWD, "d", (struct timespec[2]){{1, 0}, {1, 0}}, 0));
    make_file("d/f", "x");
    CHECK(mtime_ns("d") > 1000000000);
}

TEST(utimensat_now_omit_and_symlinks) {
    make_file("f", "x");
    CHECK_OK(symlink("f", "s"));
    CHECK_OK(utimensat(AT_FDCWD, "f", (struct timespec[2]){{10, 0}, {20, 0}}, 0));
    CHECK_OK(utimensat(AT_FDCWD, "f", (struct timespec[2]){{0, UTIME_OMIT}, {0, UTIME_NOW}}, 0));
    struct stat status = status_of("f");
    CHECK_EQ(status.st_atim.tv_sec, 10);
    CHECK(status.st_mtim.tv_sec > 1000000);
    CHECK_OK(utimensat(AT_FDCWD, "s", (struct timespec[2]){{30, 0}, {30, 0}}, AT_SYMLINK_NOFOLLOW));
    CHECK_EQ(status_of("s").st_mtim.tv_sec, 30);
    CHECK(status_of("f").st_mtim.tv_sec != 30);
    CHECK_ERR(utimensat(AT_FDCWD, "f", (struct timespec[2]){{0, 1000000000}, {0, 0}}, 0), EINVAL);
    CHECK_OK(futimens((int)CHECK_OK(open("f", O_RDONLY)), NULL));
}

TEST(chmod_and_its_kin_change_the_mode) {
    make_file("f", "x");
    CHECK_OK(chmod("f", 07421));
    CHECK_EQ(status_of("f").st_mode & 07777, 07421);
    CHECK_OK(fchmod((int)CHECK_OK(open("f", O_RDONLY)), 0640));
    CHECK_OK(fchmodat(AT_FDCWD, "f", 0600, 0));
    CHECK_EQ(status_of("f").st_mode & 07777, 0600);
    CHECK_ERR(chmod("none", 0600), ENOENT);
}

TEST(chmod_by_a_stranger_is_eperm) {
    make_file("f", "x");
    pid_t pid = IN_CHILD(become_nobody(); CHECK_ERR(chmod("f", 0777), EPERM);
                         CHECK_ERR(chown("f", 65534, 65534), EPERM);
                         CHECK_ERR(utimensat(AT_FDCWD, "f", (struct timespec[2]){{1, 0}, {1, 0}}, 0), EPERM);
                         CHECK_ERR(utimensat(AT_FDCWD, "f", NULL, 0), EACCES));
    CHECK_EXITS(pid, 0);
}

TEST(chown_changes_owner_and_minus_one_keeps) {
    make_file("f", "x");
    CHECK_OK(chown("f", 11, 22));
    CHECK_OK(chown("f", -1, 33));
    CHECK_EQ(status_of("f").st_uid, 11);
    CHECK_EQ(status_of("f").st_gid, 33);
    CHECK_OK(symlink("f", "s"));
    CHECK_OK(lchown("s", 44, 44));
    CHECK_EQ(status_of("s").st_uid, 44);
    CHECK_EQ(status_of("f").st_uid, 11);
}

TEST(chown_clears_set_id_bits) {
    make_file("f", "x");
    CHECK_OK(chmod("f", 06755));
    CHECK_OK(chown("f", 11, 22));
    CHECK_EQ(status_of("f").st_mode & 07777, 0755);
}

TEST(write_by_a_user_clears_set_id_bits) {
    make_file("f", "x");
    CHECK_OK(chmod("f", 06777));
    int fd = CHECK_OK(open("f", O_WRONLY));
    pid_t pid = IN_CHILD(become_nobody(); CHECK_EQ(write(fd, "y", 1), 1));
    CHECK_EXITS(pid, 0);
    CHECK_EQ(status_of("f").st_mode & 07777, 0777);
}

TEST(owner_may_give_a_file_to_an_own_group_only) {
    make_file("f", "x");
    CHECK_OK(chown("f", 1000, 1000));
    gid_t groups[] = {2000};
    CHECK_OK(syscall(SYS_setgroups, 1, groups));
    CHECK_OK(setresgid(1000, 1000, 1000));
    CHECK_OK(setresuid(1000, 1000, 1000));
    CHECK_OK(chown("f", -1, 2000));
    CHECK_ERR(chown("f", -1, 3000), EPERM);
    CHECK_ERR(chown("f", 1001, -1), EPERM);
}

TEST(permission_bits_bind_a_user) {
    make_file("owner", "x");
    make_file("group", "x");
    make_file("other", "x");
    CHECK_OK(chmod("owner", 0600));
    CHECK_OK(chmod("group", 0040));
    CHECK_OK(chown("group", 0, 65534));
    CHECK_OK(chmod("other", 0004));
    pid_t pid = IN_CHILD({
        become_nobody();
        CHECK_ERR(open("owner", O_RDONLY), EACCES);
        CHECK_OK(open("group", O_RDONLY));
        CHECK_ERR(open("group", O_WRONLY), EACCES);
        CHECK_OK(open("other", O_RDONLY));
        CHECK_ERR(open("other", O_RDWR), EACCES);
    });
    CHECK_EXITS(pid, 0);
}

TEST(owner_without_read_bit_is_refused_though_others_may) {
    make_file("f", "x");
    CHECK_OK(chown("f", 65534, 65534));
    CHECK_OK(chmod("f", 0044));
    pid_t pid = IN_CHILD(become_nobody(); CHECK_ERR(open("f", O_RDONLY), EACCES); CHECK_OK(chmod("f", 0400));
                         CHECK_OK(open("f", O_RDONLY)));
    CHECK_EXITS(pid, 0);
}

TEST(root_overrides_permissions_but_needs_an_execute_bit) {
    make_file("f", "#!/x\n");
    CHECK_OK(chmod("f", 0));
    CHECK_OK(open("f", O_RDWR));
    CHECK_ERR(access("f", X_OK), EACCES);
    CHECK_OK(chmod("f", 0001));
    CHECK_OK(access("f", X_OK));
}

TEST(directory_without_search_permission_hides_its_content) {
    CHECK_OK(mkdir("d", 0755));
    make_file("d/f", "x");
    CHECK_OK(chmod("d", 0744));
    pid_t pid = IN_CHILD({
        become_nobody();
        CHECK_ERR(access("d/f", F_OK), EACCES);
        CHECK_ERR(chdir("d"), EACCES);
        CHECK_OK(open("d", O_RDONLY));
    });
    CHECK_EXITS(pid, 0);
}

TEST(directory_without_write_permission_refuses_changes) {
    make_file("f", "x");
    pid_t pid = IN_CHILD({
        become_nobody();
        CHECK_ERR(open("g", O_CREAT | O_RDWR, 0644), EACCES);
        CHECK_ERR(unlink("f"), EACCES);
        CHECK_ERR(rename("f", "g"), EACCES);
        CHECK_ERR(mkdir("d", 0755), EACCES);
        CHECK_ERR(symlink("f", "s"), EACCES);
    });
    CHECK_EXITS(pid, 0);
}

TEST(sticky_directory_lets_only_owners_remove) {
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(chmod("d", 01777));
    make_file("d/roots", "x");
    CHECK_OK(chmod("d/roots", 0666));
    pid_t pid = IN_CHILD({
        become_nobody();
        make_file("d/mine", "x");
        CHECK_ERR(unlink("d/roots"), EPERM);
        CHECK_ERR(rename("d/roots", "d/other"), EPERM);
        CHECK_OK(unlink("d/mine"));
    });
    CHECK_EXITS(pid, 0);
}

TEST(setgid_directory_passes_its_group_on) {
    CHECK_OK(mkdir("d", 0755));
    CHECK_OK(chown("d", 0, 555));
    CHECK_OK(chmod("d", 02777));
    make_file("d/f", "x");
    CHECK_OK(mkdir("d/sub", 0755));
    CHECK_EQ(status_of("d/f").st_gid, 555);
    CHECK_EQ(status_of("d/sub").st_gid, 555);
    CHECK_EQ(status_of("d/sub").st_mode & 07777, 02755);
}

TEST(new_files_belong_to_the_effective_user) {
    open_to_all();
    pid_t pid = IN_CHILD(become_nobody(); make_file("f", "x"));
    CHECK_EXITS(pid, 0);
    CHECK_EQ(status_of("f").st_uid, 65534);
    CHECK_EQ(status_of("f").st_gid, 65534);
}

TEST(access_uses_the_real_user_and_faccessat_may_use_the_effective) {
    make_file("f", "x");
    CHECK_OK(chmod("f", 0600));
    pid_t pid = IN_CHILD({
        CHECK_OK(setresuid(65534, 0, 0));
        CHECK_ERR(access("f", R_OK), EACCES);
        CHECK_OK(syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, AT_EACCESS));
    });
    CHECK_EXITS(pid, 0);
    CHECK_ERR(access("f", 0x80), EINVAL);
    CHECK_ERR(access("none", F_OK), ENOENT);
}

TEST(user_xattrs_are_set_listed_read_and_removed) {
    make_file("f", "x");
    char value[16] = "";
    CHECK_OK(setxattr("f", "user.one", "first", 5, 0));
    CHECK_EQ(getxattr("f", "user.one", NULL, 0), 5);
    CHECK_EQ(getxattr("f", "user.one", value, sizeof value), 5);
    CHECK_STR(value, "first");
    CHECK_ERR(getxattr("f", "user.one", value, 2), ERANGE);
    char names[64] = "";
    CHECK_EQ(listxattr("f", names, sizeof names), 9);
    CHECK_STR(names, "user.one");
    CHECK_ERR(setxattr("f", "user.one", "x", 1, XATTR_CREATE), EEXIST);
    CHECK_ERR(setxattr("f", "user.two", "x", 1, XATTR_REPLACE), ENODATA);
    CHECK_OK(removexattr("f", "user.one"));
    CHECK_ERR(getxattr("f", "user.one", value, sizeof value), ENODATA);
    CHECK_ERR(setxattr("f", "strange.name", "x", 1, 0), EOPNOTSUPP);
}

TEST(tmpfs_can_be_mounted_and_unmounted) {
    CHECK_OK(mkdir("m", 0755));
    make_file("m/below", "x");
    pid_t pid = IN_CHILD({
        CHECK_OK(unshare(CLONE_NEWNS));
        CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
        CHECK_OK(mount("tmpfs", "m", "tmpfs", 0, "size=1m,mode=0700"));
        CHECK_ERR(access("m/below", F_OK), ENOENT);
        make_file("m/f", "x");
        struct stat inside = status_of("m/f");
        struct stat outside = status_of(".");
        CHECK(inside.st_dev != outside.st_dev);
        CHECK_ERR(link("m/f", "g"), EXDEV);
        CHECK_ERR(rename("m/f", "g"), EXDEV);
        CHECK_ERR(rmdir("m"), EBUSY);
        int fd = CHECK_OK(open("m/f", O_RDONLY));
        CHECK_ERR(umount("m"), EBUSY);
        CHECK_OK(close(fd));
        CHECK_OK(umount("m"));
        CHECK_OK(access("m/below", F_OK));
        CHECK_ERR(umount("m"), EINVAL);
    });
    CHECK_EXITS(pid, 0);
}

TEST(tmpfs_size_limit_is_enospc) {
    CHECK_OK(mkdir("m", 0755));
    pid_t pid = IN_CHILD({
        static char block[65536];
        CHECK_OK(unshare(CLONE_NEWNS));
        CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
        CHECK_OK(mount("tmpfs", "m", "tmpfs", 0, "size=256k"));
        int fd = CHECK_OK(open("m/f", O_CREAT | O_WRONLY, 0644));
        long total = 0;
        ssize_t done;
        while ((done = write(fd, block, sizeof block)) > 0)
            total += done;
        CHECK_EQ(errno, ENOSPC);
        CHECK_EQ(total, 256 << 10);
    });
    CHECK_EXITS(pid, 0);
}

TEST(bind_mount_shows_a_directory_elsewhere_and_may_be_read_only) {
    CHECK_OK(mkdir("a", 0755));
    CHECK_OK(mkdir("b", 0755));
    make_file("a/f", "x");
    pid_t pid = IN_CHILD({
        CHECK_OK(unshare(CLONE_NEWNS));
        CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
        CHECK_OK(mount("a", "b", NULL, MS_BIND, NULL));
        CHECK_OK(access("b/f", F_OK));
        CHECK_OK(mount(NULL, "b", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
        CHECK_ERR(open("b/f", O_WRONLY), EROFS);
        CHECK_ERR(mkdir("b/d", 0755), EROFS);
        CHECK_OK(open("a/f", O_WRONLY));
    });
    CHECK_EXITS(pid, 0);
}

TEST(mount_by_a_user_is_eperm) {
    CHECK_OK(mkdir("m", 0755));
    pid_t pid = IN_CHILD(become_nobody(); CHECK_ERR(mount("t", "m", "tmpfs", 0, NULL), EPERM);
                         CHECK_ERR(umount("/"), EPERM));
    CHECK_EXITS(pid, 0);
}
