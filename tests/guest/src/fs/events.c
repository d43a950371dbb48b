// What is told by inotify(7) of each call, and in which order; what else the random sequences of model/files.c found to differ.
#include "../harness.h"
#include <linux/falloc.h>
#include <setjmp.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

static int events;

static void watch_here(void) {
    events = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    CHECK_OK(events);
    CHECK_OK(inotify_add_watch(events, ".", IN_ALL_EVENTS));
}

// What has been told since the last time must be this: mask in hexadecimal and name, one after the other.
static void told(const char *wanted) {
    char text[1024] = "", bytes[4096] __attribute__((aligned(8)));
    ssize_t got = read(events, bytes, sizeof bytes);
    for (ssize_t at = 0; at < got;) {
        struct inotify_event *event = (struct inotify_event *)(bytes + at);
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%x:%s", used ? " " : "", event->mask, event->len ? event->name : "");
        at += (ssize_t)(sizeof *event + event->len);
    }
    if (strcmp(text, wanted) != 0) guest_fail(__FILE__, __LINE__, "told \"%s\", not \"%s\"", text, wanted);
}

static int make(const char *name, mode_t mode) {
    int fd = open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    CHECK_OK(fd);
    CHECK_EQ(write(fd, "0123456789", 10), 10);
    CHECK_OK(fchmod(fd, mode));
    return fd;
}

TEST(a_file_is_open_before_it_is_emptied) {
    close(make("a", 0644));
    watch_here();
    int fd = open("a", O_WRONLY | O_TRUNC | O_CREAT, 0644);
    CHECK_OK(fd);
    told("20:a 2:a");
    close(fd);
    told("8:a");
}

TEST(vectors_tell_of_reading_nothing) {
    int fd = make("a", 0644);
    watch_here();
    char byte[4];
    struct iovec piece = {byte, sizeof byte}, none = {byte, 0};
    CHECK_EQ(read(fd, byte, 1), 0);
    told("");
    CHECK_EQ(readv(fd, &piece, 1), 0);
    told("1:a");
    CHECK_EQ(readv(fd, &none, 1), 0);
    told("1:a");
    CHECK_EQ(writev(fd, &none, 1), 0);
    told("");
}

TEST(sizes_and_set_id_bits_that_go_are_one_event) {
    int fd = make("a", 0644);
    watch_here();
    CHECK_OK(fchmod(fd, 04755));
    told("4:a");
    // Whoever may keep the bits keeps them; an ordinary user does not.
    pid_t kid = fork();
    if (kid == 0) {
        CHECK_OK(fchown(fd, 1000, 1000));
        CHECK_OK(fchmod(fd, 04755));
        CHECK_OK(setresgid(1000, 1000, 1000));
        CHECK_OK(setresuid(1000, 1000, 1000));
        CHECK_OK(ftruncate(fd, 5));
        CHECK_OK(fchmod(fd, 04755));
        CHECK_EQ(pwrite(fd, "x", 1, 0), 1);
        CHECK_OK(fchmod(fd, 04755));
        CHECK_OK(fallocate(fd, 0, 0, 8192));
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(kid, &status, 0), kid);
    CHECK_EQ(status, 0);
    char text[1024] = "", bytes[4096] __attribute__((aligned(8)));
    ssize_t got = read(events, bytes, sizeof bytes);
    for (ssize_t at = 0; at < got;) {
        struct inotify_event *event = (struct inotify_event *)(bytes + at);
        snprintf(text + strlen(text), sizeof text - strlen(text), " %x", event->mask);
        at += (ssize_t)(sizeof *event + event->len);
    }
    // chown and chmod; ftruncate; chmod and write's own; ...
    CHECK(strncmp(text, " 4 6 4 2 4", 10) == 0);
}

TEST(attributes_tell_what_has_been_set) {
    close(make("a", 0644));
    watch_here();
    CHECK_OK(chown("a", -1, -1));
    told("");
    struct timespec when[2] = {{1, 0}, {2, 0}};
    CHECK_OK(utimensat(AT_FDCWD, "a", when, 0));
    told("4:a");
    when[0].tv_nsec = UTIME_OMIT;
    CHECK_OK(utimensat(AT_FDCWD, "a", when, 0));
    told("2:a");
    when[0].tv_nsec = 0, when[1].tv_nsec = UTIME_OMIT;
    CHECK_OK(utimensat(AT_FDCWD, "a", when, 0));
    told("1:a");
    CHECK_OK(setxattr("a", "user.x", "1", 1, 0));
    told("4:a");
    CHECK_OK(removexattr("a", "user.x"));
    told("4:a");
}

TEST(a_new_link_is_told_to_the_file_first) {
    close(make("a", 0644));
    watch_here();
    CHECK_OK(inotify_add_watch(events, "a", IN_ALL_EVENTS));
    CHECK_OK(link("a", "b"));
    told("4: 100:b");
}

TEST(copies_tell_once) {
    int from = make("a", 0644), to = make("b", 0644);
    CHECK_OK(ftruncate(from, 400000));
    watch_here();
    off_t zero = 0;
    CHECK_EQ(sendfile(to, from, &zero, 400000), 400000);
    told("1:a 2:b");
    zero = 0;
    CHECK_EQ(copy_file_range(from, &zero, to, NULL, 400000, 0), 400000);
    told("1:a 2:b");
}

TEST(a_program_is_opened_and_read) {
    int fd = make("a", 0755);
    watch_here();
    CHECK_ERR(execl("./a", "a", NULL), ETXTBSY);
    told("20:a 10:a");
    close(fd);
    told("8:a");
    CHECK_ERR(execl("./a", "a", NULL), ENOEXEC);
    told("20:a 1:a 10:a");
}

TEST(what_goes_through_a_fifo_is_not_told_to_its_directory) {
    CHECK_OK(mkfifo("p", 0600));
    int fd = open("p", O_RDWR | O_NONBLOCK);
    CHECK_OK(fd);
    watch_here();
    char byte;
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(read(fd, &byte, 1), 1);
    told("");
    CHECK_OK(inotify_add_watch(events, "p", IN_ALL_EVENTS));
    CHECK_EQ(write(fd, "x", 1), 1);
    told("2:");
}

TEST(what_must_be_new_does_not_show_nofollow) {
    int fd = open("a", O_CREAT | O_EXCL | O_RDWR, 0600);
    CHECK_OK(fd);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NOFOLLOW, 0);
    CHECK_OK(symlink("nowhere", "b"));
    CHECK_ERR(open("b", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
}

TEST(a_place_is_asked_for_before_the_mode) {
    CHECK_OK(mkfifo("p", 0600));
    int fd = open("p", O_RDONLY | O_NONBLOCK);
    char byte;
    struct iovec piece = {&byte, 1};
    CHECK_ERR(pwrite(fd, "x", 1, 0), ESPIPE);
    CHECK_ERR(pwritev(fd, &piece, 1, 0), ESPIPE);
    int file = open("a", O_CREAT | O_WRONLY, 0600);
    CHECK_ERR(pread(file, &byte, 1, 0), EBADF);
}

TEST(copy_file_range_asks_in_order) {
    CHECK_OK(mkfifo("p", 0600));
    int fifo = open("p", O_WRONLY | O_NONBLOCK | O_CREAT, 0600);
    fifo = open("p", O_RDONLY | O_NONBLOCK);
    int file = make("a", 0644), reading = open("a", O_RDONLY), here = open(".", O_RDONLY);
    CHECK_ERR(copy_file_range(file, NULL, fifo, NULL, 1, 0), EINVAL);
    CHECK_ERR(copy_file_range(file, NULL, here, NULL, 1, 0), EISDIR);
    CHECK_ERR(copy_file_range(file, NULL, reading, NULL, 1, 0), EBADF);
    // A limit holds for copying nothing, too.
    signal(SIGXFSZ, SIG_IGN);
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){4, RLIM_INFINITY}));
    off_t end = 10, beyond = 4;
    CHECK_ERR(copy_file_range(file, &end, file, &beyond, 5, 0), EFBIG);
}

TEST(a_fork_has_not_opened_what_its_parent_has) {
    int fd = make("a", 0666);
    CHECK_OK(fchmodat(AT_FDCWD, ".", 0777, 0));
    CHECK_OK(setresgid(1000, 1000, 1000));
    CHECK_OK(setresuid(1000, 1000, 1000));
    close(fd);
    fd = open("a", O_RDWR);
    int path = open("a", O_PATH);
    // fs.protected_hardlinks does not mind: it may be read and written.
    CHECK_OK(linkat(fd, "", AT_FDCWD, "b", AT_EMPTY_PATH));
    CHECK_OK(linkat(path, "", AT_FDCWD, "c", AT_EMPTY_PATH));
    pid_t kid = fork();
    if (kid == 0) {
        CHECK_ERR(linkat(fd, "", AT_FDCWD, "d", AT_EMPTY_PATH), ENOENT);
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(kid, &status, 0), kid);
    CHECK_EQ(status, 0);
}

static void tick(void) { usleep(30000); }

static bool is_read_by(void (*call)(int), int flags) {
    struct stat before, after;
    int fd = open("a", flags);
    CHECK_OK(fd);
    tick();
    // Now a read would show.
    CHECK_OK(fchmod(fd, 0600));
    CHECK_OK(fstat(fd, &before));
    tick();
    call(fd);
    CHECK_OK(fstat(fd, &after));
    close(fd);
    return before.st_atim.tv_sec != after.st_atim.tv_sec || before.st_atim.tv_nsec != after.st_atim.tv_nsec;
}

static void maps(int fd) { CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED); }
static void maps_writable(int fd) { CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) != MAP_FAILED); }

TEST(mapping_is_an_access) {
    close(make("a", 0600));
    CHECK(is_read_by(maps, O_RDONLY));
    CHECK(is_read_by(maps_writable, O_RDWR));
    CHECK(!is_read_by(maps, O_RDONLY | O_NOATIME));
}

static void reads(int fd) {
    char byte;
    CHECK_EQ(read(fd, &byte, 1), 1);
}

static void reads_quietly(int fd) {
    CHECK_OK(fcntl(fd, F_SETFL, O_NOATIME));
    reads(fd);
}

TEST(reading_is_no_access_if_nobody_is_to_know) {
    close(make("a", 0600));
    CHECK(is_read_by(reads, O_RDONLY));
    CHECK(!is_read_by(reads, O_RDONLY | O_NOATIME));
    CHECK(!is_read_by(reads_quietly, O_RDWR));
}

TEST(following_a_link_is_an_access) {
    struct stat before, after;
    CHECK_OK(symlink(".", "l"));
    for (int i = 0; i < 2; i++) {
        tick();
        CHECK_OK(lchown("l", 0, 0));
        CHECK_OK(lstat("l", &before));
        tick();
        CHECK_OK(access("l/l", F_OK));
        CHECK_OK(lstat("l", &after));
        CHECK(before.st_atim.tv_sec != after.st_atim.tv_sec || before.st_atim.tv_nsec != after.st_atim.tv_nsec);
    }
}

static sigjmp_buf fault;
static void on_fault(int number) { siglongjmp(fault, number); }

// A store to what may only be read is SIGSEGV, also where the file has no page any more.
TEST(a_store_behind_the_end_of_a_read_only_mapping_ends) {
    static const char *const places[] = {"a", "/dev/shm/events-behind"};
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    for (size_t i = 0; i < 2; i++) {
        int fd = open(places[i], O_CREAT | O_RDWR | O_TRUNC, 0600);
        CHECK_OK(fd);
        CHECK_OK(ftruncate(fd, 3 * GUEST_PAGE));
        for (volatile int shared = 0; shared < 2; shared++) {
            volatile char *at = mmap(NULL, 3 * GUEST_PAGE, PROT_READ, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
            CHECK(at != MAP_FAILED);
            for (volatile int is_cut = 0; is_cut < 2; is_cut++) {
                CHECK_OK(ftruncate(fd, is_cut ? 0 : 3 * GUEST_PAGE));
                volatile int number = sigsetjmp(fault, 1);
                if (number == 0) at[2 * GUEST_PAGE] = 1;
                CHECK_EQ(number, SIGSEGV);
                number = sigsetjmp(fault, 1);
                if (number == 0) (void)at[2 * GUEST_PAGE];
                CHECK_EQ(number, is_cut ? SIGBUS : 0);
            }
        }
        CHECK_OK(unlink(places[i]));
        close(fd);
    }
}

TEST(a_write_beyond_the_limit_takes_no_set_id_bit) {
    struct stat st;
    int fd = make("a", 04755);
    signal(SIGXFSZ, SIG_IGN);
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){10, RLIM_INFINITY}));
    CHECK_OK(fchown(fd, 1000, 1000));
    CHECK_OK(fchmod(fd, 04755));
    CHECK_OK(setresgid(1000, 1000, 1000));
    CHECK_OK(setresuid(1000, 1000, 1000));
    CHECK_ERR(pwrite(fd, "xx", 2, 10), EFBIG);
    CHECK_ERR(write(fd, "xx", 2), EFBIG);
    CHECK_OK(fcntl(fd, F_SETFL, O_APPEND));
    CHECK_ERR(pwrite(fd, "xx", 2, 0), EFBIG);
    CHECK_OK(fstat(fd, &st));
    CHECK_EQ(st.st_mode & 07777, 04755);
}

TEST(a_fifo_open_for_appending_takes_a_file) {
    CHECK_OK(mkfifo("p", 0600));
    int fifo = open("p", O_RDWR | O_NONBLOCK | O_APPEND), fd = make("a", 0644);
    off_t zero = 0;
    CHECK_EQ(sendfile(fifo, fd, &zero, 10), 10);
}

TEST(a_splice_into_a_file_is_told_once) {
    close(make("a", 0644));
    watch_here();
    CHECK_OK(inotify_add_watch(events, "a", IN_ALL_EVENTS));
    int fd = open("a", O_WRONLY), ends[2];
    told("20:a 20:");
    CHECK_OK(pipe(ends));
    for (int i = 0; i < 2; i++) {
        loff_t at = 3;
        CHECK_EQ(write(ends[1], "abc", 3), 3);
        CHECK_EQ(splice(ends[0], NULL, fd, i ? &at : NULL, 3, 0), 3);
        told("2:a 2:");
    }
}

// On tmpfs: a size that is the same is a change of the file if it has pages.
TEST(a_size_that_was_the_same_moves_times_where_there_are_pages) {
    int fd = memfd_create("x", 0);
    char path[64];
    struct stat before, after;
    snprintf(path, sizeof path, "/proc/self/fd/%d", CHECK_OK(fd));
    for (int written = 0; written < 2; written++) {
        if (written) CHECK_EQ(write(fd, "x", 1), 1);
        CHECK_OK(fstat(fd, &before));
        usleep(20000);
        CHECK_OK(truncate(path, written));
        CHECK_OK(fstat(fd, &after));
        CHECK_EQ(before.st_mtim.tv_nsec != after.st_mtim.tv_nsec, written);
        CHECK_EQ(before.st_ctim.tv_nsec != after.st_ctim.tv_nsec, written);
    }
}
