// Does every way to change what is in a file do what Linux does with each change? A table: ways by properties, on the
// container's own tree and in memory. A way that goes round what the others go through shows in its row.
#include "../harness.h"
#include <poll.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

static const char *const places[] = {".", "/dev/shm"};
#define PLACES (sizeof places / sizeof places[0])

enum way {
    WRITE,
    PWRITE,
    WRITEV,
    PWRITEV2,
    APPEND,
    RWF_APPENDED,
    SENDFILE,
    SPLICE,
    SPLICE_AT,
    COPY,
    TRUNCATE,
    FTRUNCATE,
    OPEN_TRUNC,
    FALLOCATE,
    PUNCH,
    WAYS
};
static const char *const names[WAYS] = {"write",    "pwrite",    "writev",          "pwritev2", "O_APPEND",
                                        "RWF_APPEND", "sendfile", "splice",          "splice at", "copy_file_range",
                                        "truncate", "ftruncate", "O_TRUNC", "fallocate", "punch a hole"};

enum { OLD = 4096, NEW = 8192 };

// The file has OLD bytes; afterwards NEW, if the way makes it longer. -1 and errno as the call has it.
static long change(enum way way, const char *path, const char *source_path) {
    static char bytes[NEW - OLD];
    struct iovec piece = {bytes, sizeof bytes};
    loff_t from = 0, to = OLD;
    int source = CHECK_OK(open(source_path, O_RDONLY)), ends[2];
    int fd = way == OPEN_TRUNC ? open(path, O_RDWR | O_TRUNC) : open(path, O_RDWR | (way == APPEND ? O_APPEND : 0));
    if (fd == -1) return -1;
    long result = 0;
    CHECK_EQ(lseek(fd, way == APPEND ? 0 : OLD, SEEK_SET), way == APPEND ? 0 : OLD);
    switch (way) {
    case WRITE: case APPEND: result = write(fd, bytes, sizeof bytes); break;
    case PWRITE: result = pwrite(fd, bytes, sizeof bytes, OLD); break;
    case WRITEV: result = writev(fd, &piece, 1); break;
    case PWRITEV2: result = pwritev2(fd, &piece, 1, OLD, 0); break;
    case RWF_APPENDED: result = pwritev2(fd, &piece, 1, 0, RWF_APPEND); break;
    case SENDFILE: result = sendfile(fd, source, &from, sizeof bytes); break;
    case SPLICE: case SPLICE_AT:
        CHECK_OK(pipe(ends));
        CHECK_EQ(write(ends[1], bytes, sizeof bytes), sizeof bytes);
        result = splice(ends[0], NULL, fd, way == SPLICE_AT ? &to : NULL, sizeof bytes, 0);
        close(ends[0]);
        close(ends[1]);
        break;
    case COPY: result = copy_file_range(source, &from, fd, &to, sizeof bytes, 0); break;
    case TRUNCATE: result = truncate(path, NEW); break;
    case FTRUNCATE: result = ftruncate(fd, NEW); break;
    case FALLOCATE: result = fallocate(fd, 0, 0, NEW); break;
    case PUNCH: result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, OLD); break;
    case OPEN_TRUNC: case WAYS: break;
    }
    int why = errno;
    CHECK_OK(close(fd));
    CHECK_OK(close(source));
    errno = why;
    return result;
}

static bool lengthens(enum way way) {
    return way != OPEN_TRUNC && way != PUNCH;
}

static void fresh(char *path, size_t place, const char *name, mode_t mode) {
    static char bytes[OLD];
    snprintf(path, PATH_MAX, "%s/%s-%d", places[place], name, getpid());
    unlink(path);
    int fd = CHECK_OK(open(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
    CHECK_EQ(write(fd, bytes, OLD), OLD);
    CHECK_OK(fchmod(fd, mode));
    CHECK_OK(close(fd));
}

static struct stat stat_of(const char *path) {
    struct stat now;
    CHECK_OK(stat(path, &now));
    return now;
}

static void mode_becomes(mode_t before, mode_t after, bool by_root) {
    char path[PATH_MAX], source[PATH_MAX];
    for (size_t place = 0; place < PLACES; place++) {
        fresh(source, place, "source", 0644);
        for (enum way way = WRITE; way < WAYS; way++) {
            fresh(path, place, "file", 0644);
            CHECK_OK(chmod(path, before));
            if (by_root)
                CHECK(change(way, path, source) >= 0);
            else {
                CHECK_OK(chown(path, 0, 0));
                CHECK_OK(chmod(path, before));
                CHECK_EXITS(IN_CHILD({
                                become_nobody();
                                if (change(way, path, source) < 0)
                                    guest_fail(__FILE__, __LINE__, "%s: errno %d", names[way], errno);
                            }),
                            0);
            }
            mode_t now = stat_of(path).st_mode & 07777;
            if (now != after)
                guest_fail(__FILE__, __LINE__, "%s in %s: mode %o became %o, not %o", names[way], places[place], before,
                           now, after);
        }
        CHECK_OK(unlink(path));
        CHECK_OK(unlink(source));
    }
}

TEST(content_changed_by_others_takes_set_user_id_away) {
    mode_becomes(04777, 0777, false);
}

TEST(content_changed_by_others_takes_set_group_id_away) {
    mode_becomes(02777, 0777, false);
}

TEST(content_changed_by_others_takes_set_group_id_without_execution_away) {
    mode_becomes(02767, 0767, false);
}

TEST(content_changed_by_root_keeps_set_id_bits) {
    mode_becomes(06755, 06755, true);
}

// In memory alone: the gofer sets no attribute of that name.
TEST(content_changed_takes_file_capabilities_away) {
    static const unsigned char capability[20] = {1, 0, 0, 2, 0, 0x20, 0, 0};
    char path[PATH_MAX], source[PATH_MAX], value[20];
    fresh(source, 1, "source", 0644);
    for (enum way way = WRITE; way < WAYS; way++) {
        fresh(path, 1, "file", 0755);
        CHECK_OK(setxattr(path, "security.capability", capability, sizeof capability, 0));
        CHECK(change(way, path, source) >= 0);
        if (getxattr(path, "security.capability", value, sizeof value) > 0)
            guest_fail(__FILE__, __LINE__, "%s: capabilities are still there", names[way]);
    }
    CHECK_OK(unlink(path));
    CHECK_OK(unlink(source));
}

static volatile sig_atomic_t over;
static void count_over(int signal_number) {
    (void)signal_number;
    over++;
}

static void set_limit(rlim_t limit) {
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, RLIM_INFINITY}));
}

TEST(content_does_not_grow_beyond_the_limit) {
    char path[PATH_MAX], source[PATH_MAX];
    catch_signal(SIGXFSZ, count_over, 0);
    for (size_t place = 0; place < PLACES; place++) {
        fresh(source, place, "source", 0644);
        for (enum way way = WRITE; way < WAYS; way++) {
            if (!lengthens(way)) continue;
            bool is_resize = way == TRUNCATE || way == FTRUNCATE || way == FALLOCATE;
            // At the limit: refused, with a signal.
            fresh(path, place, "file", 0644);
            over = 0;
            set_limit(OLD);
            errno = 0;
            long result = change(way, path, source);
            int why = errno;
            set_limit(RLIM_INFINITY);
            if (result != -1 || why != EFBIG || over != 1 || stat_of(path).st_size != OLD)
                guest_fail(__FILE__, __LINE__, "%s in %s at the limit: %ld, errno %d, %d signals, %ld bytes", names[way],
                           places[place], result, why, (int)over, (long)stat_of(path).st_size);
            // Across it: as much as there is room for, without one.
            over = 0;
            set_limit(OLD + 100);
            errno = 0;
            result = change(way, path, source);
            why = errno;
            set_limit(RLIM_INFINITY);
            bool good = is_resize ? result == -1 && why == EFBIG && over == 1 && stat_of(path).st_size == OLD
                                  : result == 100 && stat_of(path).st_size == OLD + 100;
            if (!good)
                guest_fail(__FILE__, __LINE__, "%s in %s across the limit: %ld, errno %d, %d signals, %ld bytes",
                           names[way], places[place], result, why, (int)over, (long)stat_of(path).st_size);
            CHECK_OK(unlink(path));
        }
        CHECK_OK(unlink(source));
    }
}

TEST(content_changed_is_told_to_those_who_watch) {
    char path[PATH_MAX], source[PATH_MAX], events[4096];
    for (size_t place = 0; place < PLACES; place++) {
        fresh(source, place, "source", 0644);
        for (enum way way = WRITE; way < WAYS; way++) {
            fresh(path, place, "file", 0644);
            int watcher = CHECK_OK(inotify_init1(IN_NONBLOCK));
            CHECK_OK(inotify_add_watch(watcher, path, IN_MODIFY));
            CHECK(change(way, path, source) >= 0);
            if (read(watcher, events, sizeof events) <= 0)
                guest_fail(__FILE__, __LINE__, "%s in %s: nothing told", names[way], places[place]);
            CHECK_OK(close(watcher));
            CHECK_OK(unlink(path));
        }
        CHECK_OK(unlink(source));
    }
}

TEST(content_changed_moves_the_times) {
    char path[PATH_MAX], source[PATH_MAX];
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    for (size_t place = 0; place < PLACES; place++) {
        fresh(source, place, "source", 0644);
        for (enum way way = WRITE; way < WAYS; way++) {
            fresh(path, place, "file", 0644);
            CHECK_OK(utimensat(AT_FDCWD, path, old, 0));
            CHECK(change(way, path, source) >= 0);
            if (stat_of(path).st_mtim.tv_sec == 1000)
                guest_fail(__FILE__, __LINE__, "%s in %s: the time of change is the old one", names[way], places[place]);
            CHECK_OK(unlink(path));
        }
        CHECK_OK(unlink(source));
    }
}

TEST(content_of_no_bytes_changes_nothing) {
    char path[PATH_MAX];
    struct timespec old[2] = {{1000, 0}, {1000, 0}};
    for (size_t place = 0; place < PLACES; place++) {
        fresh(path, place, "file", 0644);
        CHECK_OK(chmod(path, 06777));
        CHECK_OK(utimensat(AT_FDCWD, path, old, 0));
        CHECK_EXITS(IN_CHILD({
                        become_nobody();
                        int fd = CHECK_OK(open(path, O_RDWR | O_APPEND));
                        CHECK_EQ(lseek(fd, 5, SEEK_SET), 5);
                        CHECK_EQ(write(fd, "", 0), 0);
                        CHECK_EQ(lseek(fd, 0, SEEK_CUR), 5);
                        CHECK_EQ(pwrite(fd, "", 0, 100000), 0);
                    }),
                    0);
        CHECK_EQ(stat_of(path).st_mode & 07777, 06777);
        CHECK_EQ(stat_of(path).st_mtim.tv_sec, 1000);
        CHECK_EQ(stat_of(path).st_size, OLD);
        CHECK_OK(unlink(path));
    }
}

TEST(content_set_id_bits_given_at_birth_stay) {
    struct stat now;
    umask(0);
    int fd = CHECK_OK(open("born", O_RDWR | O_CREAT | O_EXCL, 07755));
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_OK(fstat(fd, &now));
    CHECK_EQ(now.st_mode & 07777, 07755);
    int nameless = CHECK_OK(open(".", O_TMPFILE | O_RDWR, 07755));
    CHECK_OK(fstat(nameless, &now));
    CHECK_EQ(now.st_mode & 07777, 07755);
    CHECK_EQ(write(nameless, "x", 1), 1);
    CHECK_OK(fstat(nameless, &now));
    CHECK_EQ(now.st_mode & 07777, 07755);
}

TEST(content_appended_leaves_the_position_at_its_own_end) {
    char path[PATH_MAX];
    for (size_t place = 0; place < PLACES; place++) {
        fresh(path, place, "file", 0644);
        CHECK_OK(truncate(path, 0));
        // Others append at the same time: each write ends where the position says, where the bytes are.
        pid_t other = IN_CHILD({
            int theirs = CHECK_OK(open(path, O_WRONLY | O_APPEND));
            for (int n = 0; n < 3000; n++) CHECK_EQ(write(theirs, "other!!", 7), 7);
        });
        int fd = CHECK_OK(open(path, O_RDWR | O_APPEND));
        for (int n = 0; n < 1000; n++) {
            char back[8] = {0};
            CHECK_EQ(write(fd, "mine-it", 7), 7);
            off_t end = CHECK_OK(lseek(fd, 0, SEEK_CUR));
            CHECK_EQ(pread(fd, back, 7, end - 7), 7);
            CHECK_STR(back, "mine-it");
        }
        CHECK_EXITS(other, 0);
        CHECK_EQ(stat_of(path).st_size, 4000 * 7);
        CHECK_OK(unlink(path));
    }
}

static void copy_of_self(const char *path) {
    static char bytes[1 << 16];
    unlink(path);
    int from = CHECK_OK(open("/proc/self/exe", O_RDONLY)), to = CHECK_OK(open(path, O_WRONLY | O_CREAT | O_EXCL, 0755));
    for (ssize_t n; (n = CHECK_OK(read(from, bytes, sizeof bytes))) > 0;) CHECK_EQ(write(to, bytes, n), n);
    CHECK_OK(close(from));
    CHECK_OK(close(to));
}

static int run_program(const char *path) {
    pid_t child = fork();
    if (child == 0) {
        execl(path, path, "--list", NULL);
        _exit(errno);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

TEST(content_of_a_running_program_is_not_written) {
    char path[PATH_MAX], byte;
    int out = CHECK_OK(open("/dev/null", O_WRONLY));
    CHECK_OK(dup2(out, 1));
    // Nothing is run from memory here, which is mounted without execution.
    for (size_t place = 0; place < 1; place++) {
        snprintf(path, sizeof path, "%s/busy-%d", places[place], getpid());
        copy_of_self(path);
        CHECK_EQ(run_program(path), 0);
        // Open for writing: it does not start; for reading, or mapped, it does.
        int fd = CHECK_OK(open(path, O_WRONLY));
        CHECK_EQ(run_program(path), ETXTBSY);
        int second = CHECK_OK(dup(fd));
        CHECK_OK(close(fd));
        CHECK_EQ(run_program(path), ETXTBSY);
        CHECK_OK(close(second));
        fd = CHECK_OK(open(path, O_RDWR));
        char *map = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(map != MAP_FAILED);
        CHECK_OK(close(fd));
        CHECK_EQ(run_program(path), ETXTBSY);
        CHECK_OK(munmap(map, GUEST_PAGE));
        CHECK_EQ(run_program(path), 0);
        // It runs, its child too: nobody writes to it, whatever the way.
        int started[2], go_on[2];
        CHECK_OK(pipe(started));
        CHECK_OK(pipe(go_on));
        pid_t child = fork();
        if (child == 0) {
            dup2(started[1], 100);
            dup2(go_on[0], 101);
            close(go_on[1]);
            execl(path, path, "--helper", "wait_for_word", NULL);
            _exit(errno);
        }
        CHECK_EQ(read(started[0], &byte, 1), 1);
        CHECK_ERR(open(path, O_WRONLY), ETXTBSY);
        CHECK_ERR(open(path, O_RDWR), ETXTBSY);
        CHECK_ERR(open(path, O_RDONLY | O_TRUNC), ETXTBSY);
        CHECK_ERR(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755), ETXTBSY);
        CHECK_ERR(truncate(path, 0), ETXTBSY);
        CHECK_OK(chmod(path, 0700));
        CHECK_OK(close(CHECK_OK(open(path, O_RDONLY))));
        CHECK_EQ(write(go_on[1], "x", 1), 1);
        // A zombie runs nothing.
        wait_for_state(child, 'Z');
        CHECK_OK(close(CHECK_OK(open(path, O_WRONLY))));
        CHECK_EXITS(child, 0);
        for (int end = 0; end < 2; end++) {
            CHECK_OK(close(started[end]));
            CHECK_OK(close(go_on[end]));
        }
        CHECK_OK(unlink(path));
    }
}

HELPER(wait_for_word) {
    char byte;
    pid_t child = fork();
    if (child == 0) _exit(write(100, "x", 1) == 1 && read(101, &byte, 1) == 1 ? 0 : 1);
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

TEST(content_of_a_script_behind_a_descriptor_that_closes_is_out_of_reach) {
    char *const arguments[] = {"script", NULL}, *const environment[] = {NULL};
    int kept = CHECK_OK(syscall(SYS_memfd_create, "script", 0));
    CHECK_EQ(write(kept, "#!/bin/sh\nexit 7\n", 17), 17);
    int closes = CHECK_OK(fcntl(kept, F_DUPFD_CLOEXEC, 0));
    pid_t child = fork();
    if (child == 0) {
        syscall(SYS_execveat, closes, "", arguments, environment, AT_EMPTY_PATH);
        _exit(errno == ENOENT ? 0 : 1);
    }
    CHECK_EXITS(child, 0);
    child = fork();
    if (child == 0) {
        syscall(SYS_execveat, kept, "", arguments, environment, AT_EMPTY_PATH);
        _exit(errno);
    }
    CHECK_EXITS(child, 7);
}

TEST(content_sealed_against_execution_stays_so) {
    enum { NOEXEC_SEAL = 8 };
    struct stat now;
    int fd = CHECK_OK(syscall(SYS_memfd_create, "data", NOEXEC_SEAL));
    CHECK_OK(fstat(fd, &now));
    CHECK_EQ(now.st_mode & 0777, 0666);
    CHECK_ERR(fchmod(fd, 0777), EPERM);
    CHECK_ERR(fchmod(fd, 0667), EPERM);
    CHECK_OK(fchmod(fd, 0600));
    CHECK_OK(fstat(fd, &now));
    CHECK_EQ(now.st_mode & 0777, 0600);
}

TEST(content_without_a_name_gets_one_from_whoever_opened_it) {
    CHECK_OK(chmod(".", 0777));
    struct stat now;
    CHECK_EXITS(IN_CHILD({
                    become_nobody();
                    int fd = CHECK_OK(open(".", O_TMPFILE | O_RDWR, 0600));
                    CHECK_OK(linkat(fd, "", AT_FDCWD, "named", AT_EMPTY_PATH));
                    CHECK_EQ(fcntl(fd, F_GETFL) & (O_TMPFILE | O_ACCMODE), O_TMPFILE | O_RDWR);
                }),
                0);
    CHECK_OK(stat("named", &now));
    CHECK_EQ(now.st_nlink, 1);
    // With other credentials than those it was opened with, it is out of reach.
    int fd = CHECK_OK(open("named", O_RDONLY));
    CHECK_EXITS(IN_CHILD({
                    become_nobody();
                    CHECK_ERR(linkat(fd, "", AT_FDCWD, "other", AT_EMPTY_PATH), ENOENT);
                }),
                0);
}

TEST(content_written_is_told_at_the_last_close) {
    char events[4096];
    make_file("watched", "x");
    int watcher = CHECK_OK(inotify_init1(IN_NONBLOCK));
    CHECK_OK(inotify_add_watch(watcher, "watched", IN_CLOSE_WRITE | IN_CLOSE_NOWRITE));
    int fd = CHECK_OK(open("watched", O_RDWR));
    int second = CHECK_OK(dup(fd));
    char *map = mmap(NULL, GUEST_PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    CHECK_OK(close(fd));
    CHECK_ERR(read(watcher, events, sizeof events), EAGAIN);
    CHECK_OK(close(second));
    // The mapping still has it open.
    CHECK_ERR(read(watcher, events, sizeof events), EAGAIN);
    CHECK_OK(munmap(map, GUEST_PAGE));
    CHECK(read(watcher, events, sizeof events) > 0);
    CHECK_EQ(((struct inotify_event *)events)->mask, IN_CLOSE_WRITE);
    CHECK_OK(close(CHECK_OK(open("watched", O_PATH))));
    CHECK_ERR(read(watcher, events, sizeof events), EAGAIN);
}
