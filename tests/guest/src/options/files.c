// What do flags and requests of calls on files do? Compared with the host.
#include "../harness.h"
#include <linux/openat2.h>
#include <mqueue.h>
#include <poll.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static int memfd(unsigned flags) { return syscall(SYS_memfd_create, "m", flags); }

TEST(requests_that_every_file_answers) {
    int pair[2], ends[2];
    CHECK_OK(pipe(ends));
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    make_file("file", "abc");
    int kinds[] = {open("file", O_RDWR), open(".", O_RDONLY), ends[0], pair[0], socket(AF_INET, SOCK_STREAM, 0),
                   socket(AF_NETLINK, SOCK_RAW, 0), inotify_init1(0), epoll_create1(0), timerfd_create(CLOCK_MONOTONIC, 0),
                   syscall(SYS_pidfd_open, getpid(), 0), open("/dev/null", O_RDWR), open("/dev/random", O_RDWR),
                   open("/proc/self/ns/uts", O_RDONLY), open("/dev/ptmx", O_RDWR | O_NOCTTY), socket(AF_INET, SOCK_DGRAM, 0)};
    for (size_t at = 0; at < sizeof kinds / sizeof *kinds; at++) {
        int on = 1, off = 0;
        CHECK(kinds[at] != -1);
        CHECK_OK(ioctl(kinds[at], FIOCLEX));
        CHECK_EQ(fcntl(kinds[at], F_GETFD), FD_CLOEXEC);
        CHECK_OK(ioctl(kinds[at], FIONCLEX));
        CHECK_EQ(fcntl(kinds[at], F_GETFD), 0);
        CHECK_OK(ioctl(kinds[at], FIONBIO, &on));
        CHECK(fcntl(kinds[at], F_GETFL) & O_NONBLOCK);
        CHECK_OK(ioctl(kinds[at], FIONBIO, &off));
        CHECK(!(fcntl(kinds[at], F_GETFL) & O_NONBLOCK));
        CHECK_OK(ioctl(kinds[at], FIOASYNC, &off));
        // Who has no fasync on Linux may have it here, and the other way round.
        if (at >= 7 && at != 10 && at < 13)
            continue;
        int can = ioctl(kinds[at], FIOASYNC, &on);
        row("FIOASYNC of kind %zu: %d %d", at, can, !!(fcntl(kinds[at], F_GETFL) & O_ASYNC));
    }
    int size = 0, left = 0;
    CHECK_OK(ioctl(kinds[0], 2 /* FIGETBSZ */, &size));
    CHECK(size >= 512);
    CHECK_OK(ioctl(kinds[0], FIONREAD, &left));
    CHECK_EQ(left, 3);
}

TEST(flags_that_a_file_is_opened_with) {
    static const struct { const char *name; int flag; } flags[] = {
        {"O_APPEND", O_APPEND}, {"O_ASYNC", O_ASYNC}, {"O_DIRECT", O_DIRECT}, {"O_DSYNC", O_DSYNC}, {"O_SYNC", O_SYNC},
        {"O_NOATIME", O_NOATIME}, {"O_NOCTTY", O_NOCTTY}, {"O_NOFOLLOW", O_NOFOLLOW}, {"O_NONBLOCK", O_NONBLOCK},
        {"O_CLOEXEC", O_CLOEXEC}, {"O_TRUNC", O_TRUNC}, {"O_LARGEFILE", 0100000}, {"O_PATH", O_PATH},
    };
    make_file("file", "abc");
    for (size_t at = 0; at < sizeof flags / sizeof *flags; at++) {
        int fd = CHECK_OK(open("file", O_RDWR | flags[at].flag));
        // LINUX: O_LARGEFILE is forced and told; it means nothing here.
        row("%s: %o %d", flags[at].name, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
        CHECK_OK(close(fd));
    }
    int fd = CHECK_OK(open("file", O_RDWR));
    for (size_t at = 0; at < sizeof flags / sizeof *flags; at++) {
        CHECK_OK(fcntl(fd, F_SETFL, flags[at].flag));
        row("F_SETFL %s: %o", flags[at].name, fcntl(fd, F_GETFL));
    }
}

TEST(ways_of_resolving_a_path) {
    CHECK_OK(mkdir("dir", 0700));
    CHECK_OK(mkdir("dir/below", 0700));
    CHECK_OK(symlink("/below", "dir/absolute"));
    CHECK_OK(symlink("below", "dir/relative"));
    CHECK_OK(symlink("..", "dir/up"));
    CHECK_OK(symlink("/proc/self/cwd", "dir/magic"));
    int dir = CHECK_OK(open("dir", O_RDONLY | O_DIRECTORY));
    static const char *const paths[] = {"below", "/below", "absolute", "relative", "up", "magic", "../dir/below"};
    for (unsigned long resolve = 0; resolve <= RESOLVE_IN_ROOT; resolve = resolve ? resolve << 1 : RESOLVE_NO_XDEV)
        for (size_t at = 0; at < sizeof paths / sizeof *paths; at++) {
            struct open_how how = {.flags = O_PATH, .resolve = resolve};
            // Where the test's directory is a mount's root is its place's affair.
            if (resolve == RESOLVE_NO_XDEV && at != 0 && at != 3)
                continue;
            long fd = syscall(SYS_openat2, dir, paths[at], &how, sizeof how);
            row("resolve %lx %s: %d", resolve, paths[at], fd >= 0 ? 0 : errno);
        }
    CHECK_EQ(RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH, 14);
}

TEST(flags_of_calls_that_look_at_files) {
    make_file("file", "abc");
    CHECK_OK(symlink("file", "link"));
    int fd = CHECK_OK(open("file", O_RDWR));
    static const int flags[] = {0, AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC};
    for (size_t at = 0; at < sizeof flags / sizeof *flags; at++) {
        struct statx told;
        CHECK_OK(statx(AT_FDCWD, "link", flags[at], STATX_BASIC_STATS, &told));
        row("statx %x: %o %llu %u", flags[at], told.stx_mode, (unsigned long long)told.stx_size, told.stx_nlink);
        struct stat status;
        int result = fstatat(AT_FDCWD, "link", &status, flags[at]);
        row("newfstatat %x: %d %o", flags[at], result == 0 ? 0 : errno, result == 0 ? status.st_mode : 0);
    }
    struct statx told;
    struct stat status;
    CHECK_OK(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &told));
    CHECK_OK(fstat(fd, &status));
    static const int masks[] = {STATX_TYPE, STATX_MODE, STATX_NLINK, STATX_UID, STATX_GID, STATX_ATIME, STATX_MTIME,
                                STATX_CTIME, STATX_INO, STATX_SIZE, STATX_BLOCKS, STATX_MNT_ID};
    for (size_t at = 0; at < sizeof masks / sizeof *masks; at++)
        CHECK(told.stx_mask & masks[at]);
    CHECK(told.stx_mode == status.st_mode && told.stx_nlink == status.st_nlink && told.stx_uid == status.st_uid);
    CHECK(told.stx_gid == status.st_gid && told.stx_ino == status.st_ino && told.stx_blocks == (unsigned long)status.st_blocks);
    CHECK_EQ(told.stx_atime.tv_sec, status.st_atim.tv_sec);
    CHECK_EQ(told.stx_mtime.tv_nsec, status.st_mtim.tv_nsec);
    CHECK_EQ(told.stx_ctime.tv_nsec, status.st_ctim.tv_nsec);
    CHECK_OK(statx(AT_FDCWD, "/proc", 0, STATX_BASIC_STATS, &told));
    CHECK(told.stx_attributes & STATX_ATTR_MOUNT_ROOT);
    for (int mode = F_OK; mode <= (R_OK | W_OK | X_OK); mode++)
        row("faccessat2 %d: %d", mode, faccessat(AT_FDCWD, "file", mode, AT_EACCESS) == 0 ? 0 : errno);
    CHECK_OK(symlink("nowhere", "dangling"));
    CHECK_OK(syscall(SYS_faccessat2, AT_FDCWD, "dangling", F_OK, AT_SYMLINK_NOFOLLOW));
    CHECK_ERR(syscall(452 /* fchmodat2 */, AT_FDCWD, "link", 0700, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    CHECK_OK(fchownat(AT_FDCWD, "dangling", -1, -1, AT_SYMLINK_NOFOLLOW));
    CHECK_OK(utimensat(fd, "", NULL, AT_EMPTY_PATH));
}

TEST(flags_of_memory_files) {
    static const unsigned flags[] = {0, MFD_CLOEXEC, MFD_ALLOW_SEALING, 8 /* MFD_NOEXEC_SEAL */, 16 /* MFD_EXEC */};
    for (size_t at = 0; at < sizeof flags / sizeof *flags; at++) {
        int fd = CHECK_OK(memfd(flags[at]));
        struct stat status;
        CHECK_OK(fstat(fd, &status));
        row("memfd %x: %o %x %d", flags[at], status.st_mode, fcntl(fd, F_GET_SEALS), fcntl(fd, F_GETFD));
    }
    int fd = CHECK_OK(memfd(MFD_ALLOW_SEALING));
    CHECK_OK(ftruncate(fd, GUEST_PAGE));
    char *before = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(before != MAP_FAILED);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    before[0] = 'x';
    CHECK_ERR(write(fd, "a", 1), EPERM);
    CHECK(mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    fd = CHECK_OK(memfd(MFD_ALLOW_SEALING));
    CHECK_OK(fchmod(fd, 0700));
    CHECK_OK(fcntl(fd, F_ADD_SEALS, 0x20)); // F_SEAL_EXEC
    CHECK_ERR(fchmod(fd, 0600), EPERM);
}

TEST(commands_about_descriptors) {
    make_file("file", "abc");
    int fd = CHECK_OK(open("file", O_RDWR)), same = CHECK_OK(dup(fd)), other = CHECK_OK(open("file", O_RDWR));
    row("F_DUPFD_QUERY: %d %d", fcntl(fd, 1027, same), fcntl(fd, 1027, other));
    CHECK_EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 5};
    CHECK_OK(fcntl(fd, F_OFD_SETLKW, &lock));
    lock = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1};
    CHECK_OK(fcntl(other, F_OFD_GETLK, &lock));
    CHECK(lock.l_type == F_WRLCK && lock.l_pid == -1 && lock.l_len == 5);
    CHECK_EQ(fcntl(epoll_create1(EPOLL_CLOEXEC), F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(eventfd(0, EFD_CLOEXEC), F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC), F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(inotify_init1(IN_CLOEXEC), F_GETFD), FD_CLOEXEC);
    pid_t child = IN_CHILD(CHECK_OK(syscall(SYS_close_range, 3, ~0U, 2 /* CLOSE_RANGE_UNSHARE */));
                           CHECK_ERR(fcntl(fd, F_GETFD), EBADF));
    CHECK_EQ(waitpid(child, NULL, 0), child);
    mqd_t queue = CHECK_OK(mq_open("/commands", O_CREAT | O_RDWR | O_CLOEXEC, 0600, NULL));
    CHECK_OK(mq_unlink("/commands"));
    CHECK_EQ(fcntl(queue, F_GETFD), FD_CLOEXEC);
    char byte;
    CHECK_EQ(getrandom(&byte, 1, GRND_RANDOM | GRND_NONBLOCK), 1);
    CHECK_EQ(getrandom(&byte, 1, GRND_INSECURE), 1);
}

TEST(flags_of_single_transfers) {
    make_file("file", "abc");
    int fd = CHECK_OK(open("file", O_RDWR));
    static const struct { const char *name; int flag; } flags[] = {
        {"RWF_DSYNC", RWF_DSYNC}, {"RWF_SYNC", RWF_SYNC}, {"RWF_HIPRI", RWF_HIPRI}, {"RWF_APPEND", RWF_APPEND}};
    for (size_t at = 0; at < sizeof flags / sizeof *flags; at++) {
        char bytes[8] = "xy";
        struct iovec piece = {bytes, 2};
        row("pwritev2 %s: %zd", flags[at].name, pwritev2(fd, &piece, 1, 0, flags[at].flag));
        row("preadv2 %s: %zd", flags[at].name, preadv2(fd, &piece, 1, 0, flags[at].flag));
        struct stat status;
        CHECK_OK(fstat(fd, &status));
        row("size after %s: %ld", flags[at].name, (long)status.st_size);
    }
    int ends[2];
    char byte;
    struct iovec piece = {&byte, 1};
    CHECK_OK(pipe(ends));
    CHECK_ERR(preadv2(ends[0], &piece, 1, -1, RWF_NOWAIT), EAGAIN);
    CHECK_EQ(write(ends[1], "a", 1), 1);
    CHECK_EQ(preadv2(ends[0], &piece, 1, -1, RWF_NOWAIT), 1);
    CHECK_OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
    CHECK_ERR(splice(ends[0], NULL, fd, NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
    static const unsigned hints[] = {SPLICE_F_MOVE, SPLICE_F_MORE, SPLICE_F_GIFT};
    for (size_t at = 0; at < sizeof hints / sizeof *hints; at++) {
        CHECK_EQ(write(ends[1], "a", 1), 1);
        CHECK_EQ(splice(ends[0], NULL, fd, NULL, 1, hints[at]), 1);
    }
}

// What is mounted at a place, as mountinfo tells its options.
static void tell_mount(const char *title, const char *place) {
    char line[4096], found[256] = "none";
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (fgets(line, sizeof line, file)) {
        char point[512], options[256];
        if (sscanf(line, "%*s %*s %*s %*s %511s %255s", point, options) == 2) {
            size_t len = strlen(point), tail = strlen(place);
            if (len > tail && point[len - tail - 1] == '/' && strcmp(point + len - tail, place) == 0)
                strcpy(found, options);
        }
    }
    fclose(file);
    row("%s: %s", title, found);
}

TEST(flags_of_mounts) {
    if (unshare(CLONE_NEWNS) != 0)
        return;
    CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    CHECK_OK(mkdir("here", 0755));
    CHECK_OK(mkdir("there", 0755));
    static const struct { const char *name; unsigned long flag; } flags[] = {
        {"MS_RDONLY", MS_RDONLY}, {"MS_NOSUID", MS_NOSUID}, {"MS_NODEV", MS_NODEV}, {"MS_NOEXEC", MS_NOEXEC},
        {"MS_NOATIME", MS_NOATIME}, {"MS_NODIRATIME", MS_NODIRATIME}, {"MS_RELATIME", MS_RELATIME},
        {"MS_STRICTATIME", MS_STRICTATIME}, {"MS_SILENT", MS_SILENT}, {"MS_NOSYMFOLLOW", 256},
    };
    for (size_t at = 0; at < sizeof flags / sizeof *flags; at++) {
        CHECK_OK(mount("none", "here", "tmpfs", flags[at].flag, NULL));
        tell_mount(flags[at].name, "here");
        CHECK_OK(umount2("here", MNT_FORCE));
    }
    CHECK_OK(mount("none", "here", "tmpfs", 256, NULL));
    CHECK_OK(symlink("nothing", "here/link"));
    CHECK_ERR(open("here/link", O_RDONLY), ELOOP);
    CHECK_OK(mount("here", "there", NULL, MS_MOVE, NULL));
    tell_mount("moved from", "here");
    tell_mount("moved to", "there");
    CHECK_OK(mount("none", "there", NULL, MS_SLAVE, NULL));
    int inside = CHECK_OK(open("there", O_RDONLY | O_DIRECTORY));
    CHECK_ERR(umount2("there", 0), EBUSY);
    CHECK_OK(umount2("there", MNT_DETACH));
    tell_mount("detached", "there");
    CHECK_OK(openat(inside, "new", O_CREAT | O_RDWR, 0600));
    CHECK_OK(mount("none", "here", "tmpfs", 0, NULL));
    CHECK_ERR(umount2("here", MNT_EXPIRE), EAGAIN);
    CHECK_OK(close(CHECK_OK(open("here", O_RDONLY))));
    CHECK_ERR(umount2("here", MNT_EXPIRE), EAGAIN);
    CHECK_OK(umount2("here", MNT_EXPIRE));
    CHECK_OK(symlink("here", "link"));
    CHECK_OK(mount("none", "here", "tmpfs", 0, NULL));
    CHECK_ERR(umount2("link", UMOUNT_NOFOLLOW), EINVAL);
    CHECK_OK(umount2("link", 0));
}

// Linux has peers that share what is mounted; here there are none, and nobody is told otherwise.
TEST(what_would_share_mounts_is_refused_or_done) {
    if (unshare(CLONE_NEWNS) != 0)
        return;
    CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    CHECK_OK(mkdir("one", 0755));
    CHECK_OK(mkdir("two", 0755));
    CHECK_OK(mount("none", "one", "tmpfs", 0, NULL));
    if (mount("none", "one", NULL, MS_SHARED, NULL) == 0) {
        CHECK_OK(mount("one", "two", NULL, MS_BIND, NULL));
        CHECK_OK(mkdir("one/below", 0755));
        CHECK_OK(mount("none", "one/below", "tmpfs", 0, NULL));
        make_file("one/below/file", "x");
        CHECK_OK(access("two/below/file", F_OK));
    }
    if (mount("none", "one", NULL, MS_UNBINDABLE, NULL) == 0)
        CHECK_ERR(mount("one", "two", NULL, MS_BIND, NULL), EINVAL);
}

static void tell_events(const char *title, int watcher) {
    char buffer[4096] __attribute__((aligned(8))), text[400] = "";
    ssize_t got = read(watcher, buffer, sizeof buffer);
    for (ssize_t at = 0; at < got;) {
        struct inotify_event *event = (void *)(buffer + at);
        sprintf(text + strlen(text), " %x", event->mask);
        at += sizeof *event + event->len;
    }
    row("%s: %s", title, text);
}

TEST(masks_of_watches) {
    CHECK_OK(mkdir("dir", 0700));
    make_file("dir/file", "abc");
    CHECK_OK(symlink("dir", "link"));
    int watcher = CHECK_OK(inotify_init1(IN_NONBLOCK));
    CHECK_ERR(inotify_add_watch(watcher, "dir/file", IN_OPEN | IN_ONLYDIR), ENOTDIR);
    CHECK_ERR(inotify_add_watch(watcher, "dir", IN_OPEN | 0x10000), EINVAL);
    CHECK_ERR(inotify_add_watch(watcher, "dir", 0), EINVAL);
    int first = CHECK_OK(inotify_add_watch(watcher, "link", IN_OPEN | IN_DONT_FOLLOW));
    CHECK(CHECK_OK(inotify_add_watch(watcher, "dir", IN_CREATE)) != first);
    CHECK_ERR(inotify_add_watch(watcher, "dir", IN_OPEN | IN_MASK_CREATE), EEXIST);
    CHECK_OK(inotify_add_watch(watcher, "dir", IN_DELETE | IN_MASK_ADD));
    make_file("dir/new", "");
    CHECK_OK(unlink("dir/new"));
    tell_events("IN_MASK_ADD", watcher);
    int once = CHECK_OK(inotify_init1(IN_NONBLOCK));
    CHECK_OK(inotify_add_watch(once, "dir/file", IN_OPEN | IN_ONESHOT));
    for (int times = 0; times < 2; times++)
        CHECK_OK(close(CHECK_OK(open("dir/file", O_RDONLY))));
    tell_events("IN_ONESHOT", once);
    int all = CHECK_OK(inotify_init1(IN_NONBLOCK));
    CHECK_OK(inotify_add_watch(all, "dir/file", IN_ALL_EVENTS));
    int fd = CHECK_OK(open("dir/file", O_RDWR));
    char byte;
    CHECK_EQ(read(fd, &byte, 1), 1);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_OK(fchmod(fd, 0640));
    CHECK_OK(close(fd));
    CHECK_OK(rename("dir/file", "dir/moved"));
    tell_events("IN_ACCESS IN_MODIFY IN_ATTRIB IN_MOVE_SELF", all);
    CHECK_OK(inotify_add_watch(all, "dir/moved", IN_ISDIR));
    CHECK_OK(inotify_add_watch(all, "dir/moved", IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED));
}

TEST(requests_of_terminals) {
    int master, slave, told = -1;
    CHECK_OK(openpty(&master, &slave, NULL, NULL, NULL));
    struct termios settings, kept;
    CHECK_OK(ioctl(slave, TCGETS, &settings));
    settings.c_cc[VMIN] = 7;
    static const unsigned long setters[] = {TCSETS, TCSETSW, TCSETSF};
    for (int at = 0; at < 3; at++) {
        settings.c_cc[VMIN]++;
        CHECK_OK(ioctl(slave, setters[at], &settings));
        CHECK_OK(ioctl(master, TCGETS, &kept));
        CHECK_EQ(kept.c_cc[VMIN], settings.c_cc[VMIN]);
    }
    CHECK_OK(ioctl(slave, TCSBRK, 0));
    CHECK_OK(ioctl(slave, TCSBRKP, 0));
    CHECK_OK(ioctl(slave, TIOCGETD, &told));
    CHECK_EQ(told, 0);
    CHECK_OK(ioctl(slave, TIOCOUTQ, &told));
    row("TIOCOUTQ: %d", told);
    unsigned number;
    CHECK_OK(ioctl(master, TIOCGPTN, &number));
    int locked = 1;
    CHECK_OK(ioctl(master, TIOCSPTLCK, &locked));
    CHECK_OK(ioctl(master, TIOCGPTLCK, &told));
    CHECK_EQ(told, 1);
    locked = 0;
    CHECK_OK(ioctl(master, TIOCSPTLCK, &locked));
    CHECK_OK(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
    int on = 1;
    CHECK_OK(ioctl(master, TIOCPKT, &on));
    CHECK_OK(ioctl(master, TIOCGPKT, &told));
    CHECK_EQ(told, 1);
    CHECK_OK(ioctl(slave, TCXONC, TCOOFF));
    CHECK_OK(ioctl(slave, TCXONC, TCOON));
    CHECK_OK(ioctl(slave, TCFLSH, TCIOFLUSH));
}

TEST(a_terminal_controls_a_session) {
    int master, slave, told = -1;
    CHECK_OK(openpty(&master, &slave, NULL, NULL, NULL));
    pid_t child = fork();
    if (child == 0) {
        CHECK_OK(setsid());
        CHECK_OK(ioctl(slave, TIOCSCTTY, 0));
        CHECK_OK(ioctl(slave, TIOCGSID, &told));
        CHECK_EQ(told, getpid());
        CHECK_OK(ioctl(slave, TIOCGPGRP, &told));
        CHECK_EQ(told, getpid());
        CHECK_OK(ioctl(slave, TIOCSPGRP, &told));
        signal(SIGHUP, SIG_IGN);
        signal(SIGCONT, SIG_IGN);
        CHECK_OK(ioctl(slave, TIOCNOTTY));
        CHECK_ERR(ioctl(slave, TIOCGPGRP, &told), ENOTTY);
        _exit(0);
    }
    CHECK_EXITS(child, 0);
}

TEST(an_exclusive_terminal_is_opened_by_nobody_else) {
    int master, slave, told = -1;
    CHECK_OK(openpty(&master, &slave, NULL, NULL, NULL));
    char name[64];
    CHECK_EQ(ttyname_r(slave, name, sizeof name), 0);
    CHECK_OK(chmod(name, 0666));
    CHECK_OK(ioctl(slave, TIOCEXCL));
    CHECK_OK(ioctl(slave, 0x80045440 /* TIOCGEXCL */, &told));
    CHECK_EQ(told, 1);
    pid_t child = IN_CHILD(become_nobody(); CHECK_ERR(open(name, O_RDWR | O_NOCTTY), EBUSY));
    CHECK_EXITS(child, 0);
    CHECK_OK(ioctl(slave, TIOCNXCL));
    child = IN_CHILD(become_nobody(); CHECK_OK(open(name, O_RDWR | O_NOCTTY)));
    CHECK_EXITS(child, 0);
}

TEST(events_that_are_asked_for) {
    static const struct { const char *name; unsigned event; } events[] = {
        {"EPOLLIN", EPOLLIN}, {"EPOLLPRI", EPOLLPRI}, {"EPOLLOUT", EPOLLOUT}, {"EPOLLERR", EPOLLERR},
        {"EPOLLHUP", EPOLLHUP}, {"EPOLLRDNORM", EPOLLRDNORM}, {"EPOLLRDBAND", EPOLLRDBAND},
        {"EPOLLWRNORM", EPOLLWRNORM}, {"EPOLLWRBAND", EPOLLWRBAND}, {"EPOLLMSG", EPOLLMSG},
        {"EPOLLRDHUP", EPOLLRDHUP}, {"EPOLLWAKEUP", EPOLLWAKEUP | EPOLLIN},
    };
    int pair[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_EQ(write(pair[0], "x", 1), 1);
    for (size_t at = 0; at < sizeof events / sizeof *events; at++) {
        int epoll = CHECK_OK(epoll_create1(0));
        struct epoll_event event = {.events = events[at].event}, got = {0};
        CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, pair[1], &event));
        int count = epoll_wait(epoll, &got, 1, 0);
        row("%s: %d %x", events[at].name, count, got.events);
    }
    int ends[2];
    struct epoll_event event = {.events = 0}, got = {0};
    CHECK_OK(pipe(ends));
    CHECK_OK(close(ends[0]));
    int epoll = CHECK_OK(epoll_create1(0));
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[1], &event));
    CHECK_EQ(epoll_wait(epoll, &got, 1, 0), 1);
    CHECK(got.events & EPOLLERR);
}
