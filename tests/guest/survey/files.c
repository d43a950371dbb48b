// Flags, commands and modes of calls on files and descriptors.
#include "survey.h"
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <mqueue.h>

SPACE(open, "openat2: flags", BITS, 0, 32, EACH_ALONE) {
    struct open_how how = {.flags = value};
    const char *path = "survey-file";
    close(some_file());
    if ((value & O_TMPFILE) == O_TMPFILE) {
        how.flags |= O_RDWR;
        path = ".";
    } else if (value & O_DIRECTORY) {
        path = ".";
    }
    // The C library's __O_TMPFILE has O_DIRECTORY in it.
    if (value & (O_CREAT | 020000000))
        how.mode = 0600;
    return TAKES(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how));
}

SPACE(resolve, "openat2: resolve", BITS, 0, 64, EACH_ALONE) {
    close(some_file());
    struct open_how how = {.flags = O_RDONLY, .resolve = value};
    return TAKES(syscall(SYS_openat2, AT_FDCWD, "survey-file", &how, sizeof how));
}

SPACE(fcntl, "fcntl: commands", NUMBERS, 0, 1100, EACH_ALONE) {
    // Locks ask for the type in a short at the beginning; a pipe's size and descriptors are small numbers.
    static char buffer[256];
    int pipe_ends[2], kinds[4] = {some_file(), some_directory(), memfd_create("m", MFD_ALLOW_SEALING), -1};
    if (pipe(pipe_ends) != 0)
        exit(2);
    kinds[3] = pipe_ends[0];
    unsigned long arguments[] = {0, (unsigned long)buffer, 4096, kinds[0], F_UNLCK, DN_MODIFY};
    for (size_t kind = 0; kind < 4; kind++)
        for (size_t at = 0; at < sizeof arguments / sizeof arguments[0]; at++)
            if (TAKES(syscall(SYS_fcntl, kinds[kind], value, arguments[at])))
                return true;
    return false;
}

// LINUX: F_SETFL ignores what it does not know; what it has taken is read back.
SPACE(setfl, "fcntl: F_SETFL", NAMED, 0, 0, EACH_ALONE) {
    int ends[2];
    if (pipe(ends) != 0)
        exit(2);
    int file = some_file();
    int kept = fcntl(file, F_SETFL, value) == 0 && (fcntl(file, F_GETFL) & value) == value;
    return kept || (fcntl(ends[0], F_SETFL, value) == 0 && (fcntl(ends[0], F_GETFL) & value) == value);
}

SPACE(seals, "fcntl: seals", BITS, 0, 32, EACH_ALONE) {
    int file = memfd_create("m", MFD_ALLOW_SEALING);
    return TAKES(fcntl(file, F_ADD_SEALS, value)) && (fcntl(file, F_GET_SEALS) & value) == value;
}

SPACE(lseek, "lseek: whence", NUMBERS, 0, 64, TOGETHER) {
    int file = some_file();
    (void)!pwrite(file, "abc", 3, 0);
    bool is_taken = TAKES(lseek(file, 0, value));
    close(file);
    return is_taken;
}

SPACE(flock, "flock: operations", BITS, 0, 32, EACH_ALONE) {
    return TAKES(flock(some_file(), value == LOCK_NB ? LOCK_SH | LOCK_NB : value));
}

SPACE(statx_flags, "statx: flags", BITS, 0, 32, TOGETHER) {
    char buffer[256];
    close(some_file());
    return TAKES(syscall(SYS_statx, AT_FDCWD, "survey-file", value, 0x7ff, buffer));
}

// What is answered, not what may be asked: unknown bits may be asked by anybody.
SPACE(statx_mask, "statx: mask", BITS, 0, 32, TOGETHER) {
    uint32_t buffer[64];
    close(some_file());
    return TAKES(syscall(SYS_statx, AT_FDCWD, "survey-file", 0, value, buffer)) && (buffer[0] & value) != 0;
}

SPACE(statx_attributes, "statx: attributes", BITS, 0, 64, TOGETHER) {
    uint64_t buffer[32];
    close(some_file());
    return TAKES(syscall(SYS_statx, AT_FDCWD, "survey-file", 0, 0x7ff, buffer)) &&
           (buffer[7] & value) != 0; // stx_attributes_mask
}

SPACE(newfstatat, "newfstatat: flags", BITS, 0, 32, TOGETHER) {
    struct stat status;
    close(some_file());
    return TAKES(syscall(SYS_newfstatat, AT_FDCWD, "survey-file", &status, value));
}

SPACE(faccessat2, "faccessat2: flags", BITS, 0, 32, TOGETHER) {
    close(some_file());
    return TAKES(syscall(SYS_faccessat2, AT_FDCWD, "survey-file", R_OK, value));
}

SPACE(faccessat_mode, "faccessat2: mode", BITS, 0, 32, TOGETHER) {
    return TAKES(syscall(SYS_faccessat2, AT_FDCWD, ".", value, 0));
}

SPACE(fchmodat2, "fchmodat2: flags", BITS, 0, 32, TOGETHER) {
    close(some_file());
    return TAKES(syscall(452 /* fchmodat2 */, AT_FDCWD, "survey-file", 0600, value));
}

SPACE(fchownat, "fchownat: flags", BITS, 0, 32, TOGETHER) {
    close(some_file());
    return TAKES(syscall(SYS_fchownat, AT_FDCWD, "survey-file", -1, -1, value));
}

SPACE(utimensat, "utimensat: flags", BITS, 0, 32, TOGETHER) {
    close(some_file());
    return TAKES(syscall(SYS_utimensat, AT_FDCWD, "survey-file", NULL, value));
}

SPACE(linkat, "linkat: flags", BITS, 0, 32, TOGETHER) {
    close(some_file());
    unlink("survey-link");
    bool is_taken = TAKES(syscall(SYS_linkat, AT_FDCWD, "survey-file", AT_FDCWD, "survey-link", value));
    unlink("survey-link");
    return is_taken;
}

SPACE(unlinkat, "unlinkat: flags", BITS, 0, 32, TOGETHER) {
    mkdir("survey-gone", 0700);
    bool is_taken = TAKES(syscall(SYS_unlinkat, AT_FDCWD, "survey-gone", value));
    rmdir("survey-gone");
    return is_taken;
}

SPACE(renameat2, "renameat2: flags", BITS, 0, 32, TOGETHER) {
    close(some_file());
    unlink("survey-new");
    if (value == 2) // RENAME_EXCHANGE
        close(open("survey-new", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    bool is_taken = TAKES(syscall(SYS_renameat2, AT_FDCWD, "survey-file", AT_FDCWD, "survey-new", value));
    unlink("survey-new");
    return is_taken;
}

SPACE(execveat, "execveat: flags", BITS, 0, 32, EACH_ALONE) {
    // A path that is no program tells flags apart before anything else happens.
    close(some_file());
    fchmod(some_file(), 0700);
    char *const none[] = {NULL};
    syscall(SYS_execveat, AT_FDCWD, "survey-file", none, none, value);
    return errno == ENOEXEC;
}

SPACE(name_to_handle, "name_to_handle_at: flags", BITS, 0, 32, TOGETHER) {
    char handle[256] = {64};
    int mount;
    close(some_file());
    return TAKES(syscall(SYS_name_to_handle_at, AT_FDCWD, "survey-file", handle, &mount, value));
}

SPACE(setxattr, "setxattr: flags", BITS, 0, 32, TOGETHER) {
    int file = open(".", O_TMPFILE | O_RDWR, 0600);
    if (value == XATTR_REPLACE)
        fsetxattr(file, "trusted.survey", "x", 1, 0);
    bool is_taken = TAKES(fsetxattr(file, "trusted.survey", "x", 1, value));
    close(file);
    return is_taken;
}

SPACE(fallocate, "fallocate: modes", BITS, 0, 32, EACH_ALONE) {
    int file = some_file();
    unsigned long mode = value & 2 ? value | 1 : value; // PUNCH_HOLE with KEEP_SIZE
    if (ftruncate(file, 1 << 20) != 0)
        exit(2);
    return TAKES(syscall(SYS_fallocate, file, mode, 4096, 4096));
}

SPACE(copy_file_range, "copy_file_range: flags", BITS, 0, 32, TOGETHER) {
    int file = some_file(), copy = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    bool is_taken = TAKES(syscall(SYS_copy_file_range, file, NULL, copy, NULL, 1, value));
    close(file);
    close(copy);
    return is_taken;
}

SPACE(splice, "splice, tee, vmsplice: flags", BITS, 0, 32, TOGETHER) {
    int from[2], to[2];
    if (pipe(from) != 0 || pipe(to) != 0 || write(from[1], "ab", 2) != 2)
        exit(2);
    struct iovec piece = {"x", 1};
    bool is_taken = TAKES(splice(from[0], NULL, to[1], NULL, 1, value)) ||
                    TAKES(tee(from[0], to[1], 1, value)) || TAKES(vmsplice(to[1], &piece, 1, value));
    for (int at = 0; at < 2; at++) {
        close(from[at]);
        close(to[at]);
    }
    return is_taken;
}

SPACE(sync_file_range, "sync_file_range: flags", BITS, 0, 32, TOGETHER) {
    int file = some_file();
    bool is_taken = TAKES(sync_file_range(file, 0, 0, value));
    close(file);
    return is_taken;
}

SPACE(preadv2, "preadv2: flags", BITS, 0, 32, TOGETHER) {
    char byte;
    struct iovec piece = {&byte, 1};
    int file = some_file();
    bool is_taken = TAKES(preadv2(file, &piece, 1, 0, value));
    close(file);
    return is_taken;
}

SPACE(pwritev2, "pwritev2: flags", BITS, 0, 32, TOGETHER) {
    struct iovec piece = {"x", 1};
    int file = some_file();
    bool is_taken = TAKES(pwritev2(file, &piece, 1, 0, value));
    close(file);
    return is_taken;
}

SPACE(fadvise, "posix_fadvise: advice", NUMBERS, 0, 64, TOGETHER) {
    int file = some_file();
    bool is_taken = TAKES(syscall(SYS_fadvise64, file, 0L, 0L, value));
    close(file);
    return is_taken;
}

// LINUX: mount(2) ignores what it does not know.
SPACE(mount, "mount: flags", NAMED, 0, 0, EACH_ALONE) {
    mkdir("survey-mount", 0700);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, 0x4c000, NULL) != 0) // MS_REC, MS_PRIVATE
        return false;
    bool alone = value & (MS_BIND | MS_MOVE | MS_REMOUNT);
    bool spreads = value & (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE);
    if (value & (MS_REMOUNT | MS_MOVE) || spreads)
        mount("none", "survey-mount", "tmpfs", 0, NULL);
    if (spreads)
        return TAKES(mount("none", "survey-mount", NULL, value, NULL));
    mkdir("survey-place", 0700);
    const char *from = value & MS_MOVE ? "survey-mount" : ".";
    const char *to = value & MS_MOVE ? "survey-place" : "survey-mount";
    return TAKES(mount(from, to, alone ? NULL : "tmpfs", value, NULL));
}

SPACE(umount2, "umount2: flags", BITS, 0, 32, EACH_ALONE) {
    mkdir("survey-mount", 0700);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, 0x4c000, NULL) != 0 ||
        mount("none", "survey-mount", "tmpfs", 0, NULL) != 0)
        return false;
    errno = 0;
    // MNT_EXPIRE has marked it.
    return TAKES(umount2("survey-mount", value)) || errno == EAGAIN;
}

SPACE(memfd, "memfd_create: flags", BITS, 0, 32, TOGETHER) {
    int file = memfd_create("m", value);
    close(file);
    return file != -1;
}

SPACE(eventfd, "eventfd2: flags", BITS, 0, 32, TOGETHER) {
    int file = syscall(SYS_eventfd2, 0, value);
    close(file);
    return file != -1;
}

SPACE(signalfd, "signalfd4: flags", BITS, 0, 32, TOGETHER) {
    unsigned long mask = 0;
    int file = syscall(SYS_signalfd4, -1, &mask, sizeof mask, value);
    close(file);
    return file != -1;
}

SPACE(timerfd, "timerfd_create: flags", BITS, 0, 32, TOGETHER) {
    int file = syscall(SYS_timerfd_create, CLOCK_MONOTONIC, value);
    close(file);
    return file != -1;
}

SPACE(timerfd_settime, "timerfd_settime: flags", BITS, 0, 32, TOGETHER) {
    int file = syscall(SYS_timerfd_create, CLOCK_REALTIME, 0);
    struct itimerspec when = {.it_value = {1L << 32, 0}};
    // LINUX: TFD_TIMER_CANCEL_ON_SET is for absolute times.
    bool is_taken = TAKES(syscall(SYS_timerfd_settime, file, value == 2 ? 3 : value, &when, NULL));
    close(file);
    return is_taken;
}

SPACE(inotify_init1, "inotify_init1: flags", BITS, 0, 32, TOGETHER) {
    int file = syscall(SYS_inotify_init1, value);
    close(file);
    return file != -1;
}

SPACE(inotify, "inotify_add_watch: mask", BITS, 0, 32, TOGETHER) {
    int watcher = inotify_init1(0);
    unsigned long mask = value & 0xfff ? value : value | IN_MODIFY;
    if (value & IN_MASK_ADD)
        inotify_add_watch(watcher, ".", IN_OPEN);
    bool is_taken = TAKES(syscall(SYS_inotify_add_watch, watcher, ".", mask));
    close(watcher);
    return is_taken;
}

SPACE(pipe2, "pipe2: flags", BITS, 0, 32, TOGETHER) {
    int ends[2] = {-1, -1};
    bool is_taken = TAKES(syscall(SYS_pipe2, ends, value));
    close(ends[0]);
    close(ends[1]);
    return is_taken;
}

SPACE(dup3, "dup3: flags", BITS, 0, 32, TOGETHER) { return TAKES(syscall(SYS_dup3, 1, 200, value)); }

SPACE(close_range, "close_range: flags", BITS, 0, 32, EACH_ALONE) {
    return TAKES(syscall(SYS_close_range, 1000, 1001, value));
}

SPACE(getrandom, "getrandom: flags", BITS, 0, 32, TOGETHER) {
    char byte;
    return TAKES(syscall(SYS_getrandom, &byte, 1, value));
}

SPACE(epoll_create, "epoll_create1: flags", BITS, 0, 32, TOGETHER) {
    int file = syscall(SYS_epoll_create1, value);
    close(file);
    return file != -1;
}

SPACE(epoll_ctl, "epoll_ctl: operations", NUMBERS, 0, 64, TOGETHER) {
    int ends[2], epoll = epoll_create1(0);
    if (pipe(ends) != 0)
        exit(2);
    struct epoll_event event = {.events = EPOLLIN};
    if (value != EPOLL_CTL_ADD)
        epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
    bool is_taken = TAKES(epoll_ctl(epoll, value, ends[0], &event));
    close(epoll);
    close(ends[0]);
    close(ends[1]);
    return is_taken;
}

// LINUX: epoll_ctl(2) ignores what it does not know, but not beside EPOLLEXCLUSIVE.
SPACE(epoll_events, "epoll_ctl: events", NAMED, 0, 0, TOGETHER) {
    int ends[2], epoll = epoll_create1(0);
    if (pipe(ends) != 0)
        exit(2);
    struct epoll_event event = {.events = value};
    bool is_taken = TAKES(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event));
    close(epoll);
    close(ends[0]);
    close(ends[1]);
    return is_taken;
}

SPACE(mq_open, "mq_open: flags", NAMED, 0, 0, EACH_ALONE) {
    mqd_t queue = mq_open("/survey", O_RDWR | O_CREAT, 0600, NULL);
    if (queue == -1)
        return false;
    if (value & O_EXCL)
        mq_unlink("/survey");
    bool is_taken = TAKES(mq_open("/survey", O_RDWR | O_CREAT | value, 0600, NULL));
    mq_unlink("/survey");
    return is_taken;
}
