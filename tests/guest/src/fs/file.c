// What do open, read, write, seek and their kin do to one file?
#include "../harness.h"
#include <sys/file.h>
#include <sys/sendfile.h>

static int open_with(const char *content) {
    make_file("f", content);
    return (int)CHECK_OK(open("f", O_RDWR | O_CLOEXEC));
}

static void check_content(const char *path, const char *want) {
    char text[256];
    read_file(path, text, sizeof text);
    CHECK_STR(text, want);
}

TEST(open_of_a_missing_file_is_enoent) {
    CHECK_ERR(open("none", O_RDONLY), ENOENT);
    CHECK_ERR(open("", O_RDONLY), ENOENT);
    CHECK_ERR(open("none/f", O_CREAT | O_RDWR, 0644), ENOENT);
}

TEST(open_returns_the_lowest_free_descriptor) {
    int first = CHECK_OK(open("/", O_RDONLY)), second = CHECK_OK(open("/", O_RDONLY));
    CHECK_EQ(second, first + 1);
    CHECK_OK(close(first));
    CHECK_EQ(open("/", O_RDONLY), first);
}

TEST(open_creat_excl_of_an_existing_file_is_eexist) {
    make_file("f", "x");
    CHECK_ERR(open("f", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
    CHECK_OK(symlink("nowhere", "dangling"));
    CHECK_ERR(open("dangling", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
    CHECK_OK(open("dangling", O_CREAT | O_RDWR, 0644));
    CHECK_OK(access("nowhere", F_OK));
}

TEST(open_creat_applies_mode_and_umask) {
    umask(027);
    int fd = CHECK_OK(open("f", O_CREAT | O_RDWR, 0666));
    struct stat status;
    CHECK_OK(fstat(fd, &status));
    CHECK_EQ(status.st_mode, S_IFREG | 0640);
}

TEST(open_trunc_empties_the_file) {
    make_file("f", "content");
    CHECK_OK(open("f", O_WRONLY | O_TRUNC));
    check_content("f", "");
}

TEST(open_append_writes_at_the_end) {
    make_file("f", "one");
    int fd = CHECK_OK(open("f", O_WRONLY | O_APPEND));
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    CHECK_EQ(write(fd, "two", 3), 3);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 6);
    check_content("f", "onetwo");
}

TEST(open_directory_flag_on_a_file_is_enotdir) {
    make_file("f", "x");
    CHECK_ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_ERR(open("f/", O_RDONLY), ENOTDIR);
    CHECK_ERR(open("f/g", O_RDONLY), ENOTDIR);
}

TEST(open_of_a_directory_for_writing_is_eisdir) {
    CHECK_ERR(open(".", O_WRONLY), EISDIR);
    CHECK_ERR(open(".", O_CREAT | O_RDONLY, 0644), EISDIR);
    int fd = CHECK_OK(open(".", O_RDONLY));
    char byte;
    CHECK_ERR(read(fd, &byte, 1), EISDIR);
}

TEST(open_nofollow_of_a_symlink_is_eloop) {
    make_file("f", "x");
    CHECK_OK(symlink("f", "link"));
    CHECK_ERR(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK_OK(open("link", O_PATH | O_NOFOLLOW));
}

TEST(open_tmpfile_has_no_name_until_linked) {
    int fd = CHECK_OK(open(".", O_TMPFILE | O_RDWR, 0600));
    CHECK_EQ(write(fd, "temporary", 9), 9);
    struct stat status;
    CHECK_OK(fstat(fd, &status));
    CHECK_EQ(status.st_nlink, 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK_OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    check_content("named", "temporary");
}

TEST(open_tmpfile_with_excl_never_gets_a_name) {
    char path[64];
    int fd = CHECK_OK(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK_ERR(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW), ENOENT);
    CHECK_ERR(access("named", F_OK), ENOENT);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(lseek(fd, 0, SEEK_END), 1);
}

TEST(open_tmpfile_takes_mode_and_umask_and_can_be_linked_by_its_descriptor) {
    umask(022);
    int fd = CHECK_OK(open(".", O_TMPFILE | O_WRONLY, 0666));
    struct stat status;
    CHECK_OK(fstat(fd, &status));
    CHECK_EQ(status.st_mode, S_IFREG | 0644);
    CHECK_OK(fchmod(fd, 0640));
    CHECK_OK(linkat(fd, "", AT_FDCWD, "one", AT_EMPTY_PATH));
    CHECK_OK(fstat(fd, &status));
    CHECK_EQ(status.st_nlink, 1);
    CHECK_EQ(status.st_mode, S_IFREG | 0640);
    CHECK_OK(link("one", "two"));
    CHECK_EQ(write(fd, "late", 4), 4);
    CHECK_OK(unlink("one"));
    check_content("two", "late");
    CHECK_OK(unlink("two"));
    CHECK_ERR(linkat(fd, "", AT_FDCWD, "again", AT_EMPTY_PATH), ENOENT);
}

TEST(open_tmpfile_needs_a_directory_and_a_writable_mode) {
    make_file("f", "x");
    CHECK_ERR(open("f", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
    CHECK_ERR(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
    CHECK_ERR(open("none", O_TMPFILE | O_RDWR, 0600), ENOENT);
}

TEST(path_descriptor_cannot_be_read_but_named) {
    make_file("f", "x");
    int fd = CHECK_OK(open("f", O_PATH));
    char byte;
    struct stat status;
    CHECK_ERR(read(fd, &byte, 1), EBADF);
    CHECK_ERR(write(fd, "x", 1), EBADF);
    CHECK_ERR(fchmod(fd, 0600), EBADF);
    CHECK_OK(fstat(fd, &status));
    CHECK_EQ(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
    int dir = CHECK_OK(open(".", O_PATH));
    CHECK_OK(openat(dir, "f", O_RDONLY));
}

TEST(read_at_eof_returns_zero) {
    int fd = open_with("ab");
    char bytes[8];
    CHECK_EQ(read(fd, bytes, 8), 2);
    CHECK_EQ(read(fd, bytes, 8), 0);
    CHECK_EQ(pread(fd, bytes, 8, 100), 0);
}

TEST(read_and_write_need_the_right_mode) {
    char byte = 'x';
    make_file("f", "x");
    CHECK_ERR(write((int)CHECK_OK(open("f", O_RDONLY)), &byte, 1), EBADF);
    CHECK_ERR(read((int)CHECK_OK(open("f", O_WRONLY)), &byte, 1), EBADF);
    CHECK_ERR(read(250, &byte, 1), EBADF);
    CHECK_ERR(close(250), EBADF);
}

TEST(pread_and_pwrite_leave_the_offset) {
    int fd = open_with("0123456789");
    char bytes[4] = "";
    CHECK_EQ(pread(fd, bytes, 3, 4), 3);
    CHECK_STR(bytes, "456");
    CHECK_EQ(pwrite(fd, "XY", 2, 1), 2);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    check_content("f", "0XY3456789");
    CHECK_ERR(pread(fd, bytes, 1, -1), EINVAL);
}

TEST(write_beyond_the_end_leaves_a_hole_of_zeroes) {
    int fd = open_with("a");
    char bytes[6];
    CHECK_EQ(pwrite(fd, "z", 1, 5), 1);
    CHECK_EQ(pread(fd, bytes, 6, 0), 6);
    CHECK(memcmp(bytes, "a\0\0\0\0z", 6) == 0);
}

TEST(readv_and_writev_go_through_the_vectors_in_order) {
    int fd = open_with("");
    struct iovec out[3] = {{"one", 3}, {"", 0}, {"two", 3}};
    CHECK_EQ(writev(fd, out, 3), 6);
    char first[3] = "", second[8] = "";
    struct iovec in[2] = {{first, 2}, {second, 7}};
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    CHECK_EQ(readv(fd, in, 2), 6);
    CHECK_STR(first, "on");
    CHECK_STR(second, "etwo");
}

TEST(vectors_beyond_the_limits_are_einval) {
    static struct iovec many[1025];
    int fd = open_with("x");
    CHECK_ERR(readv(fd, many, 1025), EINVAL);
    CHECK_ERR(syscall(SYS_readv, fd, many, -1), EINVAL);
    CHECK_EQ(readv(fd, many, 1024), 0);
    struct iovec negative = {many, (size_t)-1};
    CHECK_ERR(readv(fd, &negative, 1), EINVAL);
}

TEST(preadv2_and_pwritev2_take_flags_and_offsets) {
    int fd = open_with("abc");
    char bytes[4] = "";
    struct iovec in = {bytes, 3}, out = {"def", 3};
    CHECK_EQ(pwritev2(fd, &out, 1, 0, RWF_APPEND), 3);
    CHECK_EQ(preadv2(fd, &in, 1, 3, 0), 3);
    CHECK_STR(bytes, "def");
    CHECK_EQ(preadv2(fd, &in, 1, -1, 0), 3);
    CHECK_STR(bytes, "abc");
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 3);
    CHECK_ERR(preadv2(fd, &in, 1, 0, 0x40000000), EOPNOTSUPP);
}

TEST(lseek_moves_and_refuses_negative_offsets) {
    int fd = open_with("0123456789");
    CHECK_EQ(lseek(fd, 3, SEEK_SET), 3);
    CHECK_EQ(lseek(fd, 2, SEEK_CUR), 5);
    CHECK_EQ(lseek(fd, -1, SEEK_END), 9);
    CHECK_EQ(lseek(fd, 100, SEEK_SET), 100);
    CHECK_ERR(lseek(fd, -1, SEEK_SET), EINVAL);
    CHECK_ERR(lseek(fd, 0, 99), EINVAL);
}

TEST(lseek_finds_holes_and_data) {
    int fd = open_with("");
    CHECK_OK(ftruncate(fd, 1 << 20));
    CHECK_EQ(pwrite(fd, "data", 4, 512 << 10), 4);
    CHECK_EQ(lseek(fd, 0, SEEK_HOLE), 0);
    CHECK_EQ(lseek(fd, 0, SEEK_DATA), 512 << 10);
    CHECK_EQ(lseek(fd, 512 << 10, SEEK_HOLE), (512 << 10) + 4096);
    CHECK_ERR(lseek(fd, 600 << 10, SEEK_DATA), ENXIO);
    CHECK_ERR(lseek(fd, 1 << 20, SEEK_HOLE), ENXIO);
}

TEST(truncate_shrinks_and_grows_with_zeroes) {
    int fd = open_with("abcdef");
    char bytes[8];
    CHECK_OK(ftruncate(fd, 3));
    CHECK_OK(ftruncate(fd, 8));
    CHECK_EQ(pread(fd, bytes, 8, 0), 8);
    CHECK(memcmp(bytes, "abc\0\0\0\0\0", 8) == 0);
    CHECK_OK(truncate("f", 1));
    check_content("f", "a");
    CHECK_ERR(ftruncate(fd, -1), EINVAL);
    CHECK_ERR(truncate("none", 0), ENOENT);
    CHECK_ERR(truncate(".", 0), EISDIR);
    CHECK_ERR(ftruncate((int)CHECK_OK(open("f", O_RDONLY)), 0), EINVAL);
}

TEST(fallocate_grows_keeps_and_punches) {
    int fd = open_with("abc");
    struct stat status;
    CHECK_OK(fallocate(fd, 0, 0, 8192));
    CHECK_OK(fstat(fd, &status));
    CHECK_EQ(status.st_size, 8192);
    CHECK_OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 16384));
    CHECK_OK(fstat(fd, &status));
    CHECK_EQ(status.st_size, 8192);
    CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    char byte = 'x';
    CHECK_EQ(pread(fd, &byte, 1, 0), 1);
    CHECK_EQ(byte, 0);
    CHECK_ERR(fallocate(fd, 0, 0, 0), EINVAL);
    CHECK_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
}

TEST(unlinked_file_lives_while_open) {
    int fd = open_with("alive");
    CHECK_OK(unlink("f"));
    CHECK_ERR(access("f", F_OK), ENOENT);
    char bytes[8] = "";
    struct stat status;
    CHECK_EQ(read(fd, bytes, 8), 5);
    CHECK_STR(bytes, "alive");
    CHECK_OK(fstat(fd, &status));
    CHECK_EQ(status.st_nlink, 0);
    char path[64], target[PATH_MAX] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK_OK(readlink(path, target, sizeof target - 1));
    CHECK(strstr(target, "/f (deleted)") != NULL);
}

TEST(dup_shares_the_offset_and_open_does_not) {
    int fd = open_with("0123456789");
    int twin = CHECK_OK(dup(fd)), other = CHECK_OK(open("f", O_RDONLY));
    CHECK_EQ(lseek(fd, 5, SEEK_SET), 5);
    CHECK_EQ(lseek(twin, 0, SEEK_CUR), 5);
    CHECK_EQ(lseek(other, 0, SEEK_CUR), 0);
}

TEST(dup2_replaces_and_dup3_refuses_the_same) {
    int fd = open_with("x"), target = CHECK_OK(open("/", O_RDONLY));
    CHECK_EQ(dup2(fd, target), target);
    char byte;
    CHECK_EQ(read(target, &byte, 1), 1);
    CHECK_EQ(dup2(fd, fd), fd);
    CHECK_ERR(dup3(fd, fd, 0), EINVAL);
    CHECK_ERR(dup2(250, 5), EBADF);
    CHECK_ERR(dup2(fd, -1), EBADF);
    CHECK_EQ(dup3(fd, 40, O_CLOEXEC), 40);
    CHECK_EQ(fcntl(40, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl((int)CHECK_OK(dup(40)), F_GETFD), 0);
}

TEST(fcntl_dupfd_takes_the_first_free_from_its_argument) {
    int fd = open_with("x");
    CHECK_EQ(fcntl(fd, F_DUPFD, 100), 100);
    CHECK_EQ(fcntl(fd, F_DUPFD_CLOEXEC, 100), 101);
    CHECK_EQ(fcntl(101, F_GETFD), FD_CLOEXEC);
    CHECK_ERR(fcntl(fd, F_DUPFD, -1), EINVAL);
    CHECK_ERR(fcntl(fd, 9999), EINVAL);
    CHECK_ERR(fcntl(250, F_GETFD), EBADF);
}

TEST(fcntl_status_flags_are_shared_by_duplicates) {
    int fd = open_with("x"), twin = CHECK_OK(dup(fd));
    CHECK_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_RDWR);
    CHECK_OK(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK | O_WRONLY));
    CHECK_EQ(fcntl(twin, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_RDWR | O_APPEND | O_NONBLOCK);
    CHECK_OK(fcntl(fd, F_SETFD, FD_CLOEXEC));
    CHECK_EQ(fcntl(twin, F_GETFD), 0);
}

TEST(close_range_closes_or_marks) {
    for (int fd = 50; fd < 60; fd++)
        CHECK_OK(dup2(0, fd));
    CHECK_OK(syscall(SYS_close_range, 50, 54, 0));
    CHECK_ERR(fcntl(52, F_GETFD), EBADF);
    CHECK_OK(syscall(SYS_close_range, 55, 59, 4)); // CLOSE_RANGE_CLOEXEC
    CHECK_EQ(fcntl(57, F_GETFD), FD_CLOEXEC);
    CHECK_ERR(syscall(SYS_close_range, 5, 4, 0), EINVAL);
}

static struct flock lock_of(short type, off_t start, off_t length) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

TEST(record_lock_excludes_another_process) {
    int fd = open_with("0123456789");
    struct flock lock = lock_of(F_WRLCK, 2, 4);
    CHECK_OK(fcntl(fd, F_SETLK, &lock));
    pid_t parent = getpid();
    pid_t pid = IN_CHILD({
        int own = CHECK_OK(open("f", O_RDWR));
        struct flock wanted = lock_of(F_WRLCK, 4, 10), clear = lock_of(F_WRLCK, 6, 10);
        CHECK_ERR(fcntl(own, F_SETLK, &wanted), EAGAIN);
        CHECK_OK(fcntl(own, F_GETLK, &wanted));
        CHECK_EQ(wanted.l_type, F_WRLCK);
        CHECK_EQ(wanted.l_pid, parent);
        CHECK_EQ(wanted.l_start, 2);
        CHECK_EQ(wanted.l_len, 4);
        CHECK_OK(fcntl(own, F_SETLK, &clear));
    });
    CHECK_EXITS(pid, 0);
}

TEST(record_locks_for_reading_are_shared_and_do_not_exclude_the_owner) {
    int fd = open_with("x");
    struct flock lock = lock_of(F_RDLCK, 0, 0);
    CHECK_OK(fcntl(fd, F_SETLK, &lock));
    pid_t pid = IN_CHILD(struct flock own = lock_of(F_RDLCK, 0, 0); CHECK_OK(fcntl(fd, F_SETLK, &own));
                         own.l_type = F_WRLCK; CHECK_ERR(fcntl(fd, F_SETLK, &own), EAGAIN));
    CHECK_EXITS(pid, 0);
    lock.l_type = F_WRLCK;
    CHECK_OK(fcntl(fd, F_SETLK, &lock));
}

TEST(record_lock_is_dropped_when_any_descriptor_of_the_file_closes) {
    int fd = open_with("x");
    struct flock lock = lock_of(F_WRLCK, 0, 0);
    CHECK_OK(fcntl(fd, F_SETLK, &lock));
    CHECK_OK(close((int)CHECK_OK(open("f", O_RDONLY))));
    pid_t pid = IN_CHILD(struct flock own = lock_of(F_WRLCK, 0, 0); CHECK_OK(fcntl(fd, F_SETLK, &own)));
    CHECK_EXITS(pid, 0);
}

TEST(record_lock_waits_until_the_owner_unlocks) {
    int fd = open_with("x");
    struct flock lock = lock_of(F_WRLCK, 0, 0);
    CHECK_OK(fcntl(fd, F_SETLK, &lock));
    pid_t pid = IN_CHILD(struct flock own = lock_of(F_WRLCK, 0, 0); CHECK_OK(fcntl(fd, F_SETLKW, &own)));
    wait_for_state(pid, 'S');
    CHECK_EQ(waitpid(pid, NULL, WNOHANG), 0);
    lock.l_type = F_UNLCK;
    CHECK_OK(fcntl(fd, F_SETLK, &lock));
    CHECK_EXITS(pid, 0);
}

TEST(open_file_description_locks_exclude_within_a_process) {
    int fd = open_with("x"), other = CHECK_OK(open("f", O_RDWR));
    struct flock lock = lock_of(F_WRLCK, 0, 0);
    CHECK_OK(fcntl(fd, F_OFD_SETLK, &lock));
    CHECK_ERR(fcntl(other, F_OFD_SETLK, &lock), EAGAIN);
    int twin = CHECK_OK(dup(fd));
    CHECK_OK(close(fd));
    CHECK_ERR(fcntl(other, F_OFD_SETLK, &lock), EAGAIN);
    CHECK_OK(close(twin));
    CHECK_OK(fcntl(other, F_OFD_SETLK, &lock));
}

TEST(flock_excludes_by_open_file) {
    int fd = open_with("x"), other = CHECK_OK(open("f", O_RDONLY));
    CHECK_OK(flock(fd, LOCK_EX));
    CHECK_ERR(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK_ERR(flock(other, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    CHECK_OK(flock(fd, LOCK_SH));
    CHECK_OK(flock(other, LOCK_SH | LOCK_NB));
    CHECK_OK(flock(other, LOCK_UN));
    CHECK_ERR(flock(fd, 0), EINVAL);
}

TEST(flock_is_shared_with_the_child_and_waits_for_a_stranger) {
    int fd = open_with("x");
    CHECK_OK(flock(fd, LOCK_EX));
    pid_t pid = IN_CHILD(CHECK_OK(flock(fd, LOCK_EX | LOCK_NB));
                         int own = CHECK_OK(open("f", O_RDONLY)); CHECK_OK(flock(own, LOCK_EX)));
    wait_for_state(pid, 'S');
    CHECK_OK(flock(fd, LOCK_UN));
    CHECK_EXITS(pid, 0);
}

TEST(sendfile_copies_and_moves_the_offset) {
    int from = open_with("0123456789"), to = CHECK_OK(open("g", O_CREAT | O_RDWR, 0644));
    off_t offset = 3;
    CHECK_EQ(sendfile(to, from, &offset, 4), 4);
    CHECK_EQ(offset, 7);
    CHECK_EQ(lseek(from, 0, SEEK_CUR), 0);
    CHECK_EQ(sendfile(to, from, NULL, 100), 10);
    check_content("g", "34560123456789");
    CHECK_ERR(sendfile(250, from, NULL, 1), EBADF);
}

TEST(copy_file_range_copies_between_files) {
    int from = open_with("0123456789"), to = CHECK_OK(open("g", O_CREAT | O_RDWR, 0644));
    off_t in = 2, out = 1;
    CHECK_EQ(copy_file_range(from, &in, to, &out, 5, 0), 5);
    CHECK_EQ(in, 7);
    CHECK_EQ(out, 6);
    char bytes[8] = "";
    CHECK_EQ(pread(to, bytes, 8, 1), 5);
    CHECK_STR(bytes, "23456");
    CHECK_ERR(copy_file_range(from, NULL, to, NULL, 1, 7), EINVAL);
}

TEST(fsync_fdatasync_and_sync_succeed) {
    int fd = open_with("x");
    CHECK_OK(fsync(fd));
    CHECK_OK(fdatasync(fd));
    CHECK_OK(sync_file_range(fd, 0, 0, 0));
    int ends[2];
    CHECK_OK(pipe(ends));
    CHECK_ERR(fsync(ends[0]), EINVAL);
    CHECK_ERR(fsync(250), EBADF);
    CHECK_OK(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
    CHECK_OK(readahead(fd, 0, 10));
}

// What each folder answers is its file system's to say: what has nothing to keep refuses.
TEST(a_directory_is_synced_where_its_file_system_keeps_something) {
    const char *folders[] = {".", "/tmp", "/dev", "/dev/shm", "/dev/pts", "/proc", "/proc/self", "/proc/self/fd", "/proc/sys/kernel"};
    for (unsigned i = 0; i < sizeof folders / sizeof *folders; i++) {
        int folder = CHECK_OK(open(folders[i], O_RDONLY | O_DIRECTORY));
        int synced = fsync(folder), error = errno;
        row("fsync of %s: %s", folders[i], synced ? strerrorname_np(error) : "ok");
        synced = fdatasync(folder), error = errno;
        row("fdatasync of %s: %s", folders[i], synced ? strerrorname_np(error) : "ok");
        CHECK_OK(close(folder));
    }
    int path = CHECK_OK(open(".", O_PATH));
    CHECK_ERR(fsync(path), EBADF);
}

TEST(large_file_offsets_work) {
    int fd = open_with("");
    off_t far = (5L << 30) + 123;
    CHECK_EQ(pwrite(fd, "far", 3, far), 3);
    struct stat status;
    CHECK_OK(fstat(fd, &status));
    CHECK_EQ(status.st_size, far + 3);
    CHECK(status.st_blocks * 512 < 1 << 20);
    char bytes[4] = "";
    CHECK_EQ(pread(fd, bytes, 3, far), 3);
    CHECK_STR(bytes, "far");
}

TEST(truncation_is_seen_by_another_descriptor) {
    int fd = open_with("0123456789"), other = CHECK_OK(open("f", O_RDONLY));
    char bytes[16];
    CHECK_EQ(read(other, bytes, 5), 5);
    CHECK_OK(ftruncate(fd, 3));
    CHECK_EQ(read(other, bytes, 5), 0);
    struct stat status;
    CHECK_OK(fstat(other, &status));
    CHECK_EQ(status.st_size, 3);
}

TEST(megabyte_is_written_and_read_back) {
    enum { SIZE = 3 << 20 };
    char *out = malloc(SIZE), *in = malloc(SIZE);
    for (int at = 0; at < SIZE; at++)
        out[at] = (char)(at * 31 + at / 4096);
    int fd = open_with("");
    CHECK_EQ(write(fd, out, SIZE), SIZE);
    CHECK_EQ(pread(fd, in, SIZE, 0), SIZE);
    CHECK(memcmp(in, out, SIZE) == 0);
}
