// Is what a file is said to be true at once? Sizes, links and times are asked right after each way to change them, for a
// file that was asked about before and for one that never was, on the container's own tree and in memory.
#include "../harness.h"
#include <sys/sendfile.h>

static const char *const places[] = {".", "/dev/shm"};
#define PLACES (sizeof places / sizeof places[0])

static const char longer[] = "this is the first, longer content";

// A file that was made and written here, and that nobody has asked about.
static void never_asked(const char *path) {
    unlink(path);
    int fd = CHECK_OK(open(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
    CHECK_EQ(write(fd, longer, sizeof longer - 1), sizeof longer - 1);
    CHECK_OK(close(fd));
}

static void path_in(char *path, size_t place, const char *name) {
    snprintf(path, PATH_MAX, "%s/%s-%d", places[place], name, getpid());
}

static long size_of(const char *path) {
    struct stat stat_of;
    CHECK_OK(stat(path, &stat_of));
    return stat_of.st_size;
}

TEST(size_of_a_file_that_was_never_asked_about_does_not_keep_it_from_being_cut) {
    static const int flags[] = {O_WRONLY | O_TRUNC, O_WRONLY | O_CREAT | O_TRUNC, O_RDWR | O_CREAT | O_TRUNC,
                                O_RDONLY | O_TRUNC, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND};
    char path[PATH_MAX], other[PATH_MAX], content[100];
    for (size_t place = 0; place < PLACES; place++)
        for (size_t n = 0; n < sizeof flags / sizeof flags[0]; n++)
            for (int way = 0; way < 3; way++) {
                path_in(path, place, "cut");
                path_in(other, place, "cut-too");
                never_asked(path);
                const char *by = path;
                if (way == 1) {
                    CHECK_OK(link(path, other));
                    by = other;
                } else if (way == 2) {
                    CHECK_OK(rename(path, other));
                    CHECK_OK(rename(other, path));
                }
                int fd = CHECK_OK(open(by, flags[n], 0644));
                if ((flags[n] & O_ACCMODE) != O_RDONLY) CHECK_EQ(write(fd, "abc", 3), 3);
                long want = (flags[n] & O_ACCMODE) != O_RDONLY ? 3 : 0;
                CHECK_EQ(lseek(fd, 0, SEEK_END), want);
                CHECK_OK(close(fd));
                CHECK_EQ(read_file(path, content, sizeof content), want);
                CHECK_EQ(size_of(path), want);
                if (way == 1) CHECK_OK(unlink(other));
                CHECK_OK(unlink(path));
            }
}

enum way { WRITE, PWRITE, APPEND, WRITEV, TRUNCATE, FTRUNCATE, FALLOCATE, SENDFILE, SPLICE, COPY, MAPPED, WAYS };

static void change(enum way way, const char *path, int fd, int source) {
    struct iovec piece = {"0123456789", 10};
    loff_t from = 0, to = 90;
    switch (way) {
    case WRITE: CHECK_EQ(lseek(fd, 90, SEEK_SET), 90); CHECK_EQ(write(fd, "0123456789", 10), 10); break;
    case PWRITE: CHECK_EQ(pwrite(fd, "0123456789", 10, 90), 10); break;
    case APPEND: CHECK_OK(ftruncate(fd, 90)); CHECK_EQ(pwritev2(fd, &piece, 1, -1, RWF_APPEND), 10); break;
    case WRITEV: CHECK_EQ(lseek(fd, 90, SEEK_SET), 90); CHECK_EQ(writev(fd, &piece, 1), 10); break;
    case TRUNCATE: CHECK_OK(truncate(path, 100)); break;
    case FTRUNCATE: CHECK_OK(ftruncate(fd, 100)); break;
    case FALLOCATE: CHECK_OK(fallocate(fd, 0, 0, 100)); break;
    case SENDFILE:
        CHECK_EQ(lseek(fd, 90, SEEK_SET), 90);
        CHECK_EQ(sendfile(fd, source, &from, 10), 10);
        break;
    case SPLICE: {
        int ends[2];
        CHECK_OK(pipe(ends));
        CHECK_EQ(write(ends[1], "0123456789", 10), 10);
        CHECK_EQ(splice(ends[0], NULL, fd, &to, 10, 0), 10);
        close(ends[0]);
        close(ends[1]);
        break;
    }
    case COPY: CHECK_EQ(copy_file_range(source, &from, fd, &to, 10, 0), 10); break;
    case MAPPED: {
        CHECK_OK(ftruncate(fd, 100));
        char *map = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(map != MAP_FAILED);
        map[99] = 'x';
        CHECK_OK(munmap(map, GUEST_PAGE));
        break;
    }
    case WAYS: break;
    }
}

// Each way twice: what was learned after the first must not be taken for true after the second.
TEST(size_is_true_after_each_way_to_change_it) {
    char path[PATH_MAX], source_path[PATH_MAX];
    for (size_t place = 0; place < PLACES; place++)
        for (enum way way = WRITE; way < WAYS; way++)
            for (int asked = 0; asked < 2; asked++) {
                path_in(path, place, "size");
                path_in(source_path, place, "source");
                never_asked(path);
                never_asked(source_path);
                int fd = CHECK_OK(open(path, O_RDWR)), source = CHECK_OK(open(source_path, O_RDONLY));
                struct stat by_name, by_file;
                for (int round = 0; round < 2; round++) {
                    if (asked) CHECK(size_of(path) != 100);
                    change(way, path, fd, source);
                    CHECK_OK(stat(path, &by_name));
                    CHECK_OK(fstat(fd, &by_file));
                    if (by_name.st_size != 100 || by_file.st_size != 100)
                        guest_fail(__FILE__, __LINE__, "way %d, asked %d, round %d: %ld and %ld bytes", way, asked,
                                   round, (long)by_name.st_size, (long)by_file.st_size);
                    CHECK_EQ(lseek(fd, 0, SEEK_END), 100);
                    CHECK_OK(ftruncate(fd, round));
                }
                CHECK_OK(close(fd));
                CHECK_OK(close(source));
                CHECK_OK(unlink(path));
                CHECK_OK(unlink(source_path));
            }
}

TEST(size_limit_looks_at_the_size_of_now) {
    char path[PATH_MAX];
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {20, RLIM_INFINITY};
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}));
    for (size_t place = 0; place < PLACES; place++) {
        path_in(path, place, "limit");
        never_asked(path);
        CHECK_OK(setrlimit(RLIMIT_FSIZE, &limit));
        // It is longer than the limit already, and may become shorter, but not longer again.
        CHECK_OK(truncate(path, 25));
        CHECK_ERR(truncate(path, 30), EFBIG);
        CHECK_OK(truncate(path, 5));
        CHECK_OK(truncate(path, 20));
        CHECK_ERR(truncate(path, 21), EFBIG);
        CHECK_OK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}));
        CHECK_OK(unlink(path));
    }
}

TEST(size_is_true_while_another_process_writes) {
    char path[PATH_MAX];
    for (size_t place = 0; place < PLACES; place++) {
        path_in(path, place, "two");
        never_asked(path);
        int fd = CHECK_OK(open(path, O_RDWR | O_TRUNC));
        int told[2];
        CHECK_OK(pipe(told));
        pid_t child = IN_CHILD({
            for (int n = 0; n < 2000; n++) {
                CHECK_EQ(pwrite(fd, "x", 1, n), 1);
                CHECK_EQ(write(told[1], &n, sizeof n), sizeof n);
            }
        });
        close(told[1]);
        for (int n; read(told[0], &n, sizeof n) == sizeof n;) CHECK(size_of(path) > n);
        CHECK_EXITS(child, 0);
        close(told[0]);
        CHECK_EQ(size_of(path), 2000);
        CHECK_OK(unlink(path));
    }
}

TEST(size_of_nothing_cut_to_nothing_moves_the_times) {
    char path[PATH_MAX];
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    struct stat after;
    for (size_t place = 0; place < PLACES; place++) {
        path_in(path, place, "times");
        CHECK_OK(close(CHECK_OK(open(path, O_WRONLY | O_CREAT, 0644))));
        CHECK_OK(utimensat(AT_FDCWD, path, old, 0));
        CHECK_OK(close(CHECK_OK(open(path, O_WRONLY | O_TRUNC))));
        CHECK_OK(stat(path, &after));
        CHECK(after.st_mtim.tv_sec > 1000);
        CHECK_OK(unlink(path));
    }
}

TEST(size_links_are_true_after_each_name_that_comes_or_goes) {
    struct stat by_file;
    never_asked("one");
    int fd = CHECK_OK(open("one", O_RDONLY));
    CHECK_OK(link("one", "two"));
    CHECK_OK(fstat(fd, &by_file));
    CHECK_EQ(by_file.st_nlink, 2);
    CHECK_OK(unlink("one"));
    CHECK_OK(fstat(fd, &by_file));
    CHECK_EQ(by_file.st_nlink, 1);
    never_asked("three");
    CHECK_OK(rename("three", "two"));
    CHECK_OK(fstat(fd, &by_file));
    CHECK_EQ(by_file.st_nlink, 0);
    CHECK_EQ(by_file.st_size, sizeof longer - 1);
}
