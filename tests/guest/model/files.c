// Random sequences of file calls by three processes, as a transcript that is the same wherever Linux is.
//
//   files WHERE DIRECTORY FIRST COUNT STEPS [keep]
//   files describe DIRECTORY SEED,SEED,...
//
// WHERE: `bind` (DIRECTORY/two becomes a second mount of DIRECTORY/one), `tmpfs` and `overlay` (the same with one of
// these on DIRECTORY/one), `given` (both are mounts already). FIRST: one seed or several, as `4,10,65`; COUNT sequences
// from each of them on are made. Sequence SEED is made in DIRECTORY/one/s and prints
// `== SEED`, then a line for each step: who, which call, result, errno, and what can be seen afterwards of the files
// it was about. What it made is described once more at its end, and removed, or kept as DIRECTORY/one/SEED: then
// `describe` tells what somebody else sees of it.
// A coordinator makes every choice; workers do one step at a time, so nothing depends on who is faster.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "model.h"

enum { WORKERS = 3, SLOTS = 5, MAPS = 2, NAMES = 4, LINE = 4096, BUFFER = 1 << 17 };

// What the coordinator asks of a worker. The meaning of `n` is the step's own.
struct step {
    uint32_t kind;
    uint32_t path[2];
    uint32_t slot[2];
    uint32_t n[6];
};

static char base[PATH_MAX];
static bool is_tmpfs, is_timed, is_kept, is_watched, is_twice;
static int links[WORKERS][2]; // [0] the coordinator's end, [1] the worker's
static int me;
static int slots[SLOTS];
static struct {
    char *at;
    size_t length;
    int prot;
} maps[MAPS];
static int events = -1;
static pid_t program; // that runs, a child of this worker
static char line[LINE];
static size_t used;
static char buffer[BUFFER];
static sigjmp_buf fault;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line + used, sizeof line - used, format, list);
    va_end(list);
    if (n > 0) used = used + n < sizeof line ? used + n : sizeof line - 1;
}

_Noreturn static void die(const char *what) {
    printf("BROKEN %s: %s\n", what, strerror(errno));
    fflush(stdout);
    _exit(2);
}

static uint32_t hash(const void *bytes, size_t length) {
    const unsigned char *at = bytes;
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < length; i++) h = (h ^ at[i]) * 16777619u;
    return h;
}

static const char *const names[NAMES] = {"a", "b", "c", "d"};
static const char *const folders[8] = {"", "", "", "", "", "d/", "sub/", "sub/"};

// A path by number: bit 0 through which mount, bits 1 to 3 in which directory, then the name.
static const char *path_of(uint32_t number, char *out) {
    const char *folder = folders[number >> 1 & 7];
    if (number & 1)
        snprintf(out, PATH_MAX, "%.2000s/two/s/%s%s", base, folder, names[(number >> 4) % NAMES]);
    else
        snprintf(out, PATH_MAX, "%s%s", folder, names[(number >> 4) % NAMES]);
    return out;
}

static const char *short_path(uint32_t number) {
    static char texts[2][64];
    static int next;
    char *out = texts[next ^= 1];
    snprintf(out, 64, "%s%s%s", number & 1 ? "2:" : "", folders[number >> 1 & 7],
             names[(number >> 4) % NAMES]);
    return out;
}

// ---- What can be seen of a file

struct times {
    struct timespec a, m, c;
    bool known;
};

static struct times times_of(const struct stat *st) {
    return (struct times){st->st_atim, st->st_mtim, st->st_ctim, true};
}

static bool differs(struct timespec x, struct timespec y) { return x.tv_sec != y.tv_sec || x.tv_nsec != y.tv_nsec; }

static void say_stat(const struct stat *st) {
    say(" {%06o %u:%u", st->st_mode, st->st_uid, st->st_gid);
    // Sizes and links of directories are each file system's own.
    if (!S_ISDIR(st->st_mode)) {
        say(" links %lu size %lld", (unsigned long)st->st_nlink, (long long)st->st_size);
        if (is_tmpfs && S_ISREG(st->st_mode)) say(" blocks %lld", (long long)st->st_blocks);
    }
    say("}");
}

static void say_times(struct times before, const struct stat *now) {
    if (!is_timed || !before.known || S_ISDIR(now->st_mode)) return;
    struct times after = times_of(now);
    say(" [%s%s%s]", differs(before.a, after.a) ? "a" : "", differs(before.m, after.m) ? "m" : "",
        differs(before.c, after.c) ? "c" : "");
}

static struct times path_times(uint32_t number) {
    char path[PATH_MAX];
    struct stat st;
    return is_timed && lstat(path_of(number, path), &st) == 0 ? times_of(&st) : (struct times){0};
}

static struct times slot_times(uint32_t slot) {
    struct stat st;
    return is_timed && fstat(slots[slot], &st) == 0 ? times_of(&st) : (struct times){0};
}

static void see_path(uint32_t number, struct times before) {
    char path[PATH_MAX];
    struct stat st;
    if (lstat(path_of(number, path), &st) != 0) {
        say(" %s: %s", short_path(number), strerrorname_np(errno));
        return;
    }
    say(" %s:", short_path(number));
    say_stat(&st);
    say_times(before, &st);
}

// The name by which a descriptor's file is known, and whether that is one still.
static void see_name(uint32_t slot) {
    char link[64], target[PATH_MAX];
    // Names in a volume that is mounted twice: see `sequence`.
    if (is_kept && is_twice) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", slots[slot]);
    ssize_t length = readlink(link, target, sizeof target - 1);
    target[length > 0 ? length : 0] = 0;
    const char *name = strrchr(target, '/') ? strrchr(target, '/') + 1 : target;
    // A file that never had a name is told as its node's number.
    if (name[0] == '#') name = strchr(name, ' ') ? "# (deleted)" : "#";
    say(" \"%s\"", name);
}

static void see_slot(uint32_t slot, struct times before) {
    struct stat st;
    if (fstat(slots[slot], &st) != 0) {
        say(" fd: %s", strerrorname_np(errno));
        return;
    }
    say(" fd:");
    see_name(slot);
    say_stat(&st);
    say_times(before, &st);
    if (S_ISREG(st.st_mode)) {
        errno = 0;
        long long at = lseek(slots[slot], 0, SEEK_CUR);
        if (at < 0)
            say(" at %s", strerrorname_np(errno));
        else
            say(" at %lld", at);
    }
}

static long long result(long long value) {
    if (value < 0)
        say(" = %s;", strerrorname_np(errno));
    else
        say(" = %lld;", value);
    return value;
}

// ---- The steps

static const uint32_t lengths[] = {0, 1, 5, 100, 4095, 4096, 5000, 20000, 70000};
static const uint32_t offsets[] = {0, 0, 1, 10, 4095, 4096, 8192, 12288, 50000, 131072};
#define PICK(table, n) ((table)[(n) % (sizeof(table) / sizeof *(table))])

static void fill(uint32_t length, uint32_t seed) {
    for (uint32_t i = 0; i < length; i++) buffer[i] = (char)('a' + (seed + i / 7) % 26);
}

static void put_slot(uint32_t slot, int fd) {
    if (slots[slot] >= 0) close(slots[slot]);
    slots[slot] = fd;
}

static void do_open(const struct step *s) {
    static const int modes[] = {O_RDWR, O_RDWR, O_RDWR, O_WRONLY, O_RDONLY};
    static const int extras[] = {0, 0, O_CREAT, O_CREAT, O_CREAT, O_CREAT | O_TRUNC, O_TRUNC, O_CREAT | O_EXCL,
                                 O_APPEND, O_CREAT | O_APPEND, O_CREAT | O_TRUNC | O_APPEND, O_NOFOLLOW, O_DIRECTORY, O_PATH};
    static const int created[] = {0644, 0666, 0600, 0444, 04755, 02775, 0777};
    char path[PATH_MAX];
    int flags = PICK(modes, s->n[0]) | PICK(extras, s->n[1]);
    // Whoever has nothing open makes something.
    bool has_none = true;
    for (int i = 0; i < SLOTS; i++) has_none &= slots[i] < 0;
    if (has_none && s->n[3] % 4) flags = O_RDWR | O_CREAT;
    if (flags & (O_DIRECTORY | O_PATH)) flags &= ~O_ACCMODE;
    struct times before = path_times(s->path[0]);
    say("open %s %o %o", short_path(s->path[0]), flags, PICK(created, s->n[2]));
    // A fifo would block: non-blocking, with the same answer everywhere.
    int fd = open(path_of(s->path[0], path), flags | O_NONBLOCK | O_CLOEXEC, PICK(created, s->n[2]));
    result(fd < 0 ? fd : 0);
    if (fd >= 0) put_slot(s->slot[0], fd);
    see_path(s->path[0], before);
}

static void do_tmpfile(const struct step *s) {
    say("tmpfile");
    int fd = open(s->n[0] & 1 ? "." : "sub", O_TMPFILE | O_CLOEXEC | O_RDWR | (s->n[1] % 4 ? 0 : O_EXCL), s->n[2] & 1 ? 0600 : 07755);
    result(fd < 0 ? fd : 0);
    if (fd >= 0) {
        put_slot(s->slot[0], fd);
        see_slot(s->slot[0], (struct times){0});
    }
}

static void do_reopen(const struct step *s) {
    char link[64];
    static const int flags[] = {O_RDONLY, O_RDWR, O_WRONLY | O_TRUNC, O_RDWR | O_APPEND, O_WRONLY};
    snprintf(link, sizeof link, "/proc/self/fd/%d", slots[s->slot[0]]);
    say("reopen %d %o", s->slot[0], PICK(flags, s->n[0]));
    struct stat st;
    if (slots[s->slot[0]] < 0 || fstat(slots[s->slot[0]], &st) != 0 || !S_ISREG(st.st_mode)) {
        say(" no file");
        return;
    }
    struct times before = slot_times(s->slot[0]);
    int fd = open(link, PICK(flags, s->n[0]) | O_CLOEXEC);
    result(fd < 0 ? fd : 0);
    if (fd >= 0) put_slot(s->slot[1], fd);
    see_slot(s->slot[0], before);
}

static void do_close(const struct step *s) {
    say("close %d", s->slot[0]);
    result(close(slots[s->slot[0]]));
    slots[s->slot[0]] = -1;
}

static void do_dup(const struct step *s) {
    say("dup %d %d", s->slot[0], s->slot[1]);
    int fd = fcntl(slots[s->slot[0]], F_DUPFD_CLOEXEC, 3);
    result(fd < 0 ? fd : 0);
    if (fd >= 0) put_slot(s->slot[1], fd);
}

static void do_write(const struct step *s) {
    uint32_t length = PICK(lengths, s->n[0]), offset = PICK(offsets, s->n[1]);
    int fd = slots[s->slot[0]];
    struct times before = slot_times(s->slot[0]);
    fill(length, s->n[2]);
    struct iovec parts[2] = {{buffer, length / 3}, {buffer + length / 3, length - length / 3}};
    switch (s->n[3] % 5) {
    case 0:
    case 1: say("write %d %u", s->slot[0], length); result(write(fd, buffer, length)); break;
    case 2: say("pwrite %d %u %u", s->slot[0], length, offset); result(pwrite(fd, buffer, length, offset)); break;
    case 3: say("writev %d %u", s->slot[0], length); result(writev(fd, parts, 2)); break;
    case 4:
        say("pwritev2 %d %u %u append", s->slot[0], length, offset);
        result(pwritev2(fd, parts, 2, offset, RWF_APPEND));
        break;
    }
    see_slot(s->slot[0], before);
}

static void do_read(const struct step *s) {
    uint32_t length = PICK(lengths, s->n[0]), offset = PICK(offsets, s->n[1]);
    int fd = slots[s->slot[0]];
    struct times before = slot_times(s->slot[0]);
    struct iovec parts[2] = {{buffer, length / 3}, {buffer + length / 3, length - length / 3}};
    long long got = -1;
    memset(buffer, 0, length);
    switch (s->n[3] % 4) {
    case 0:
    case 1: say("read %d %u", s->slot[0], length); got = result(read(fd, buffer, length)); break;
    case 2: say("pread %d %u %u", s->slot[0], length, offset); got = result(pread(fd, buffer, length, offset)); break;
    case 3: say("preadv %d %u %u", s->slot[0], length, offset); got = result(preadv(fd, parts, 2, offset)); break;
    }
    if (got > 0) say(" #%08x", hash(buffer, got));
    see_slot(s->slot[0], before);
}

static void do_seek(const struct step *s) {
    static const int whences[] = {SEEK_SET, SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE};
    int whence = PICK(whences, s->n[0]);
    long long offset = (long long)PICK(offsets, s->n[1]) - (s->n[2] % 4 == 0 ? 6000 : 0);
    struct stat st;
    // Where data lies is the file system's own matter, but for memory.
    if (!is_tmpfs && whence >= SEEK_DATA) whence = SEEK_END;
    // What a directory's positions are, too.
    if (fstat(slots[s->slot[0]], &st) == 0 && S_ISDIR(st.st_mode)) whence = SEEK_SET, offset = 0;
    say("lseek %d %lld %d", s->slot[0], offset, whence);
    result(lseek(slots[s->slot[0]], offset, whence));
}

static void do_truncate(const struct step *s) {
    char path[PATH_MAX];
    long long length = PICK(offsets, s->n[0]);
    if (s->n[1] % 2) {
        struct times before = slot_times(s->slot[0]);
        say("ftruncate %d %lld", s->slot[0], length);
        result(ftruncate(slots[s->slot[0]], length));
        see_slot(s->slot[0], before);
    } else {
        struct times before = path_times(s->path[0]);
        say("truncate %s %lld", short_path(s->path[0]), length);
        result(truncate(path_of(s->path[0], path), length));
        see_path(s->path[0], before);
    }
}

static void do_fallocate(const struct step *s) {
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_PUNCH_HOLE, 0};
    uint32_t offset = PICK(offsets, s->n[1]), length = PICK(lengths, s->n[2]);
    int mode = PICK(modes, s->n[0]);
    struct times before = slot_times(s->slot[0]);
    say("fallocate %d %x %u %u", s->slot[0], mode, offset, length);
    long long done = result(fallocate(slots[s->slot[0]], mode, offset, length));
    // Whether the times move of a file that is not changed after all is each file system's own.
    see_slot(s->slot[0], done == 0 || is_tmpfs ? before : (struct times){0});
}

static void do_rename(const struct step *s) {
    static const unsigned flags[] = {0, 0, 0, 1 /* NOREPLACE */, 2 /* EXCHANGE */};
    char from[PATH_MAX], to[PATH_MAX];
    struct times before = path_times(s->path[0]);
    say("rename %s %s %u", short_path(s->path[0]), short_path(s->path[1]), PICK(flags, s->n[0]));
    result(syscall(SYS_renameat2, AT_FDCWD, path_of(s->path[0], from), AT_FDCWD, path_of(s->path[1], to),
                   PICK(flags, s->n[0])));
    see_path(s->path[0], (struct times){0});
    see_path(s->path[1], before);
}

static void do_link(const struct step *s) {
    char from[PATH_MAX], to[PATH_MAX];
    if (s->n[0] % 3 == 0 && slots[s->slot[0]] >= 0) {
        struct times before = slot_times(s->slot[0]);
        snprintf(from, sizeof from, "/proc/self/fd/%d", slots[s->slot[0]]);
        say("linkat fd %d %s", s->slot[0], short_path(s->path[1]));
        if (s->n[1] % 2)
            result(linkat(AT_FDCWD, from, AT_FDCWD, path_of(s->path[1], to), AT_SYMLINK_FOLLOW));
        else
            result(linkat(slots[s->slot[0]], "", AT_FDCWD, path_of(s->path[1], to), AT_EMPTY_PATH));
        see_slot(s->slot[0], before);
    } else {
        struct times before = path_times(s->path[0]);
        say("link %s %s", short_path(s->path[0]), short_path(s->path[1]));
        result(link(path_of(s->path[0], from), path_of(s->path[1], to)));
        see_path(s->path[0], before);
    }
    see_path(s->path[1], (struct times){0});
}

static void do_unlink(const struct step *s) {
    char path[PATH_MAX];
    struct times before = slots[s->slot[0]] >= 0 ? slot_times(s->slot[0]) : (struct times){0};
    say("unlink %s", short_path(s->path[0]));
    result(unlink(path_of(s->path[0], path)));
    see_path(s->path[0], (struct times){0});
    if (slots[s->slot[0]] >= 0) see_slot(s->slot[0], before);
}

static void do_directory(const struct step *s) {
    char path[PATH_MAX];
    if (s->n[0] % 3) {
        say("mkdir %s", short_path(s->path[0]));
        result(mkdir(path_of(s->path[0], path), s->n[1] & 1 ? 0777 : 02755));
    } else {
        say("rmdir %s", short_path(s->path[0]));
        result(rmdir(path_of(s->path[0], path)));
    }
    see_path(s->path[0], (struct times){0});
}

static void do_symlink(const struct step *s) {
    static const char *const targets[] = {"a", "sub/b", "../s/c", "nowhere", "d", "b"};
    char path[PATH_MAX], target[PATH_MAX];
    if (s->n[0] % 2) {
        say("symlink %s %s", PICK(targets, s->n[1]), short_path(s->path[0]));
        result(symlink(PICK(targets, s->n[1]), path_of(s->path[0], path)));
        see_path(s->path[0], (struct times){0});
    } else {
        say("readlink %s", short_path(s->path[0]));
        long long length = result(readlink(path_of(s->path[0], path), target, sizeof target - 1));
        if (length >= 0) say(" \"%.*s\"", (int)length, target);
    }
}

static void do_mknod(const struct step *s) {
    char path[PATH_MAX];
    static const mode_t kinds[] = {S_IFIFO | 0644, S_IFREG | 0640, S_IFSOCK | 0600};
    say("mknod %s %o", short_path(s->path[0]), PICK(kinds, s->n[0]));
    result(mknod(path_of(s->path[0], path), PICK(kinds, s->n[0]), 0));
    see_path(s->path[0], (struct times){0});
}

static void do_attributes(const struct step *s) {
    char path[PATH_MAX];
    static const mode_t modes[] = {0644, 0600, 0666, 0444, 04755, 02755, 06777, 02644, 0000, 01777};
    struct times before = path_times(s->path[0]);
    struct timespec when[2] = {{1000 + s->n[2] % 5, 500}, {2000 + s->n[2] % 7, 700}};
    switch (s->n[0] % 5) {
    case 0:
    case 1:
        say("chmod %s %o", short_path(s->path[0]), PICK(modes, s->n[1]));
        result(chmod(path_of(s->path[0], path), PICK(modes, s->n[1])));
        break;
    case 2:
        say("chown %s %d %d", short_path(s->path[0]), s->n[1] & 1 ? 1000 : 0, s->n[1] & 2 ? 1000 : -1);
        result(lchown(path_of(s->path[0], path), s->n[1] & 1 ? 1000 : 0, s->n[1] & 2 ? 1000 : (gid_t)-1));
        break;
    case 3:
        say("utimens %s", short_path(s->path[0]));
        if (s->n[1] % 4 == 0) when[0].tv_nsec = UTIME_OMIT;
        if (s->n[1] % 4 == 1) when[1].tv_nsec = UTIME_NOW;
        result(utimensat(AT_FDCWD, path_of(s->path[0], path), when, AT_SYMLINK_NOFOLLOW));
        break;
    case 4:
        say("fchmod %d %o", s->slot[0], PICK(modes, s->n[1]));
        result(fchmod(slots[s->slot[0]], PICK(modes, s->n[1])));
        see_slot(s->slot[0], (struct times){0});
        return;
    }
    see_path(s->path[0], before);
}

static void do_xattr(const struct step *s) {
    static const char *const keys[] = {"user.one", "user.two"};
    char path[PATH_MAX], list[256];
    struct times before = path_times(s->path[0]);
    uint32_t length = PICK(lengths, s->n[2]) % 300;
    path_of(s->path[0], path);
    switch (s->n[0] % 4) {
    case 0:
    case 1:
        say("setxattr %s %s %u %u", short_path(s->path[0]), PICK(keys, s->n[1]), length, s->n[3] % 3);
        fill(length, s->n[2]);
        result(lsetxattr(path, PICK(keys, s->n[1]), buffer, length, (int)(s->n[3] % 3)));
        break;
    case 2: {
        say("getxattr %s %s", short_path(s->path[0]), PICK(keys, s->n[1]));
        long long got = result(lgetxattr(path, PICK(keys, s->n[1]), buffer, 1000));
        if (got > 0) say(" #%08x", hash(buffer, got));
        break;
    }
    case 3:
        say("removexattr %s %s", short_path(s->path[0]), PICK(keys, s->n[1]));
        result(lremovexattr(path, PICK(keys, s->n[1])));
        break;
    }
    long long listed = llistxattr(path, list, sizeof list);
    int ours = 0;
    for (long long i = 0; i < listed; i += (long long)strlen(list + i) + 1) ours += strncmp(list + i, "user.", 5) == 0;
    say(" keys %d", listed < 0 ? -1 : ours);
    see_path(s->path[0], before);
}

static void do_map(const struct step *s) {
    uint32_t map = s->n[0] % MAPS, offset = s->n[1] % 3 == 0 ? 4096 : 0;
    int prot = s->n[2] % 4 ? PROT_READ | PROT_WRITE : PROT_READ, flags = s->n[3] % 3 ? MAP_SHARED : MAP_PRIVATE;
    say("mmap %d %u %d %d", s->slot[0], offset, prot, flags);
    if (maps[map].at) munmap(maps[map].at, maps[map].length);
    maps[map].at = NULL;
    char *at = mmap(NULL, 4096 * 3, prot, flags, slots[s->slot[0]], offset);
    result(at == MAP_FAILED ? -1 : 0);
    if (at != MAP_FAILED) maps[map].at = at, maps[map].length = 4096 * 3, maps[map].prot = prot;
}

static void on_fault(int signal) { siglongjmp(fault, signal); }

static void touch(const struct step *s, char *at, uint32_t length) {
    switch (s->n[3] % 5) {
    case 0:
    case 1:
        fill(length, s->n[2]);
        memcpy(at, buffer, length);
        break;
    case 2:
    case 3: say(" #%08x", hash(at, length)); break;
    case 4: result(msync(maps[s->n[0] % MAPS].at, 4096 * 3, MS_SYNC)); break;
    }
}

static void do_memory(const struct step *s) {
    static const char *const ways[] = {"store", "store", "load", "load", "msync"};
    uint32_t map = s->n[0] % MAPS;
    volatile uint32_t offset = PICK(offsets, s->n[1]) % 12288, length = PICK(lengths, s->n[2]) % 4000;
    if (length > 12288 - offset) length = 12288 - offset;
    if (!maps[map].at) {
        say("memory: no map");
        return;
    }
    // Without an error code, as a tracer is, whether it was a store is found out by reading there, which fills a hole of a tmpfs.
    if (is_tmpfs && maps[map].prot == PROT_READ && s->n[3] % 5 < 2) {
        say("memory: only to be read");
        return;
    }
    say("%s %u %u", ways[s->n[3] % 5], offset, length);
    int signal = sigsetjmp(fault, 1);
    if (signal == 0)
        touch(s, maps[map].at + offset, length);
    else
        say(" = signal %d", signal);
}

static void do_unmap(const struct step *s) {
    uint32_t map = s->n[0] % MAPS;
    say("munmap");
    if (maps[map].at) result(munmap(maps[map].at, maps[map].length));
    maps[map].at = NULL;
}

static void do_copy(const struct step *s) {
    int from = slots[s->slot[0]], to = slots[s->slot[1]];
    uint32_t length = PICK(lengths, s->n[0]);
    off_t offset = PICK(offsets, s->n[1]), *in = s->n[2] % 2 ? &offset : NULL;
    struct times before = slot_times(s->slot[1]);
    int ends[2];
    struct stat one, other;
    uint32_t way = s->n[3] % 3;
    // What is in a pipe are the file's own pages: written to the same file they change on their way.
    if (fstat(from, &one) == 0 && fstat(to, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino) way = 1;
    switch (way) {
    case 0:
        say("sendfile %d %d %u %lld", s->slot[1], s->slot[0], length, in ? (long long)offset : -1);
        result(sendfile(to, from, in, length));
        break;
    case 1:
        say("copy_file_range %d %d %u %lld", s->slot[0], s->slot[1], length, in ? (long long)offset : -1);
        result(copy_file_range(from, in, to, NULL, length, 0));
        break;
    case 2:
        say("splice %d %d %u %lld", s->slot[0], s->slot[1], length, in ? (long long)offset : -1);
        if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) die("pipe");
        long long moved = splice(from, in, ends[1], NULL, length > 4096 ? 4096 : length, SPLICE_F_NONBLOCK);
        result(moved);
        if (moved > 0) result(splice(ends[0], NULL, to, NULL, moved, SPLICE_F_NONBLOCK));
        close(ends[0]);
        close(ends[1]);
        break;
    }
    if (in) say(" offset %lld", (long long)offset);
    if (from >= 0) see_slot(s->slot[0], (struct times){0});
    see_slot(s->slot[1], before);
}

static void do_lock(const struct step *s) {
    static const short types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
    struct flock lock = {.l_type = PICK(types, s->n[0]), .l_whence = SEEK_SET,
                         .l_start = PICK(offsets, s->n[1]), .l_len = PICK(lengths, s->n[2])};
    int fd = slots[s->slot[0]];
    switch (s->n[3] % 4) {
    case 0: say("setlk %d %d", s->slot[0], lock.l_type); result(fcntl(fd, F_SETLK, &lock)); break;
    case 1: say("ofd_setlk %d %d", s->slot[0], lock.l_type); result(fcntl(fd, F_OFD_SETLK, &lock)); break;
    case 2:
        say("getlk %d %d", s->slot[0], lock.l_type);
        if (result(fcntl(fd, F_GETLK, &lock)) == 0) {
            say(" type %d", lock.l_type);
            if (lock.l_type != F_UNLCK) say(" %lld+%lld", (long long)lock.l_start, (long long)lock.l_len);
        }
        break;
    case 3: {
        static const int whole[] = {LOCK_SH, LOCK_EX, LOCK_UN};
        say("flock %d %d", s->slot[0], PICK(whole, s->n[0]));
        result(flock(fd, PICK(whole, s->n[0]) | LOCK_NB));
        break;
    }
    }
}

static void do_flags(const struct step *s) {
    static const int flags[] = {0, O_APPEND, O_NOATIME};
    int fd = slots[s->slot[0]];
    // Always non-blocking: a fifo's end must not hold its worker up.
    say("setfl %d %o", s->slot[0], PICK(flags, s->n[0]));
    result(fcntl(fd, F_SETFL, PICK(flags, s->n[0]) | O_NONBLOCK));
    int now = fcntl(fd, F_GETFL);
    if (now >= 0) say(" %o", now & ~(O_LARGEFILE | 0100000));
}

static int by_name(const void *one, const void *other) { return strcmp(one, other); }

static void do_list(const struct step *s) {
    static const char *const listed[] = {".", "sub", "d"};
    const char *folder = PICK(listed, s->n[0]);
    char found[32][64];
    size_t count = 0;
    say("list %s", folder);
    DIR *dir = opendir(folder);
    if (!dir) {
        result(-1);
        return;
    }
    for (struct dirent *entry; count < 32 && (entry = readdir(dir));) {
        struct stat st;
        if (entry->d_name[0] == '.') continue;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) st.st_ino = 0;
        snprintf(found[count++], 64, "%.40s/%d%s", entry->d_name, entry->d_type, st.st_ino == entry->d_ino ? "" : "!");
    }
    closedir(dir);
    qsort(found, count, 64, by_name);
    for (size_t i = 0; i < count; i++) say(" %s", found[i]);
}

static void do_watch(const struct step *s) {
    char path[PATH_MAX];
    if (!is_watched) {
        say("watch");
        return;
    }
    if (events < 0) events = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    say("watch %s", s->n[0] % 2 ? "." : short_path(s->path[0]));
    result(inotify_add_watch(events, s->n[0] % 2 ? "." : path_of(s->path[0], path), IN_ALL_EVENTS) < 0 ? -1 : 0);
}

static void do_events(const struct step *s) {
    (void)s;
    say("events");
    if (events < 0) return;
    long long got = read(events, buffer, 16384);
    for (long long at = 0; at < got;) {
        struct inotify_event *event = (struct inotify_event *)(buffer + at);
        // A file that never had a name is told as its node's number.
        const char *name = event->len == 0 ? "" : event->name[0] == '#' ? "#" : event->name;
        say(" %x%s%s", event->mask, event->len ? ":" : "", name);
        at += (long long)(sizeof *event + event->len);
    }
}

static void do_limit(const struct step *s) {
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = s->n[0] % 2 ? RLIM_INFINITY : 10000;
    say("limit %lld", (long long)limit.rlim_cur);
    result(setrlimit(RLIMIT_FSIZE, &limit));
}

static void stop_program(void) {
    if (!program) return;
    kill(program, SIGKILL);
    waitpid(program, NULL, 0);
    program = 0;
}

// A program that does nothing but wait: `pause` in a loop.
static const uint64_t waiting[] = {
    0x00010102464c457f, 0, 0x00000001003e0002, 0x400078, 64, 0, 0x0038004000000000, 1, // ELF header
    0x0000000500000001, 0, 0x400000, 0x400000, sizeof(uint64_t) * 16, sizeof(uint64_t) * 16, 0x1000, // to be mapped
    0x00f9eb050f58226a, // push 34; pop rax; syscall; jmp back
};

// Writes the program, starts it, does both, or ends it. Whatever else is in a file cannot be run.
static void do_program(const struct step *s) {
    char path[PATH_MAX];
    struct times before = path_times(s->path[0]);
    if (is_kept && is_twice) {
        say("program");
        return;
    }
    if (s->n[0] % 4 == 0) {
        say("stop");
        stop_program();
    }
    if (s->n[0] % 4 == 1 || s->n[0] % 4 == 2) {
        say("program %s", short_path(s->path[0]));
        int fd = open(path_of(s->path[0], path), O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC, 0755);
        result(fd < 0 ? fd : 0);
        if (fd >= 0) {
            result(write(fd, waiting, sizeof waiting));
            close(fd);
        }
    }
    if (s->n[0] % 4 >= 2) {
        say(" execve %s", short_path(s->path[0]));
        stop_program();
        int ends[2], told = 0;
        if (pipe2(ends, O_CLOEXEC) != 0) die("pipe");
        // The highest, so that all others have been closed by when it is.
        int high = fcntl(ends[1], F_DUPFD_CLOEXEC, 100);
        close(ends[1]);
        program = fork();
        if (program == 0) {
            execve(path_of(s->path[0], path), (char *[]){"program", NULL}, (char *[]){NULL});
            told = errno;
            _exit(write(high, &told, sizeof told) != sizeof told);
        }
        close(high);
        if (read(ends[0], &told, sizeof told) != 0) stop_program();
        close(ends[0]);
        errno = told;
        result(told ? -1 : 0);
    }
    see_path(s->path[0], before);
}

static void do_access(const struct step *s) {
    char path[PATH_MAX];
    say("access %s %u", short_path(s->path[0]), s->n[0] % 8);
    result(faccessat(AT_FDCWD, path_of(s->path[0], path), (int)(s->n[0] % 8), AT_EACCESS));
    struct stat st;
    if (stat(path, &st) == 0) say_stat(&st);
}

static void do_sync(const struct step *s) {
    say("fsync %d", s->slot[0]);
    result(s->n[0] % 2 ? fsync(slots[s->slot[0]]) : fdatasync(slots[s->slot[0]]));
}

static const struct {
    void (*run)(const struct step *);
    int weight;
} kinds[] = {
    {do_open, 20},   {do_write, 16},      {do_read, 8},    {do_truncate, 6},   {do_rename, 6},  {do_link, 5},
    {do_unlink, 6},  {do_directory, 3},   {do_symlink, 3}, {do_attributes, 6}, {do_xattr, 3},   {do_map, 4},
    {do_memory, 6},  {do_unmap, 1},       {do_copy, 9},    {do_lock, 3},       {do_flags, 2},   {do_list, 3},
    {do_watch, 2},   {do_events, 4},      {do_limit, 1},   {do_access, 2},     {do_sync, 1},    {do_seek, 4},
    {do_close, 4},   {do_dup, 3},         {do_tmpfile, 3}, {do_reopen, 3},     {do_fallocate, 4}, {do_mknod, 2},
    {do_program, 3},
};
enum { KINDS = sizeof kinds / sizeof *kinds, FORK = KINDS, LEAVE, EVENTS };

// ---- Workers

static void answer(void) {
    if (write(links[me][1], line, used) != (ssize_t)used) _exit(3);
    used = 0;
}

// A copy of this worker takes the place of worker `other`, which has ended by then.
static void become(int other) {
    say("fork to %d", other);
    pid_t pid = fork();
    if (pid < 0) result(-1);
    if (pid != 0) {
        answer();
        return;
    }
    me = other;
    used = 0;
    program = 0;
}

// What a step wants of a descriptor.
enum want { OPEN, READABLE, WRITABLE, BOTH };

static bool suits(uint32_t slot, enum want want) {
    int flags = fcntl(slots[slot], F_GETFL);
    if (flags < 0 || want == OPEN) return flags >= 0;
    struct stat st;
    bool is_readable = (flags & O_ACCMODE) != O_WRONLY, is_writable = (flags & O_ACCMODE) != O_RDONLY;
    if (flags & O_PATH || fstat(slots[slot], &st) != 0 || S_ISDIR(st.st_mode)) return false;
    // Reading from an empty file is seldom of interest.
    if (want == READABLE) return is_readable && st.st_size > 0;
    return is_writable && (want == WRITABLE || is_readable);
}

// The next slot that suits; of the rest, the next that is open.
static void choose_slot(uint32_t *slot, enum want want) {
    for (enum want at = want;; at = OPEN) {
        for (uint32_t i = 0; i < SLOTS; i++)
            if (suits((*slot + i) % SLOTS, at)) {
                *slot = (*slot + i) % SLOTS;
                return;
            }
        if (at == OPEN) return;
    }
}

static void choose_slots(struct step *s) {
    void (*run)(const struct step *) = kinds[s->kind].run;
    enum want wants[2] = {OPEN, OPEN};
    if (run == do_open || run == do_tmpfile) return;
    if (run == do_read) wants[0] = READABLE;
    if (run == do_write || run == do_truncate || run == do_fallocate) wants[0] = WRITABLE;
    if (run == do_map) wants[0] = BOTH;
    if (run == do_copy) wants[0] = READABLE, wants[1] = WRITABLE;
    // Now and then it is one that does not, which has its own answer.
    for (int i = 0; i < 2; i++) choose_slot(&s->slot[i], s->n[5] % 4 ? wants[i] : OPEN);
}

static _Noreturn void work(void) {
    struct step s;
    for (;;) {
        ssize_t got = read(links[me][1], &s, sizeof s);
        if (got != sizeof s) {
            stop_program();
            _exit(0);
        }
        if (s.kind == EVENTS) {
            do_events(&s);
            answer();
            continue;
        }
        if (s.kind == LEAVE) {
            say("exit");
            // Before the answer, so that what closing does has been done when the next step begins.
            for (int i = 0; i < SLOTS; i++) put_slot((uint32_t)i, -1);
            for (int i = 0; i < MAPS; i++)
                if (maps[i].at) munmap(maps[i].at, maps[i].length);
            if (events >= 0) close(events);
            stop_program();
            answer();
            _exit(0);
        }
        if (s.kind == FORK) {
            become((int)s.n[0]);
            continue;
        }
        if (is_timed) usleep(5000);
        choose_slots(&s);
        kinds[s.kind].run(&s);
        answer();
    }
}

static void start(int worker) {
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    me = worker;
    for (int i = 0; i < WORKERS; i++) close(links[i][0]);
    for (int i = 0; i < SLOTS; i++) slots[i] = -1;
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGBUS, on_fault);
    signal(SIGSEGV, on_fault);
    // The last one is an ordinary user.
    if (worker == WORKERS - 1 && (setresgid(1000, 1000, 1000) != 0 || setresuid(1000, 1000, 1000) != 0)) _exit(4);
    work();
}

// ---- The coordinator

static void ask(int worker, const struct step *s, int number) {
    static char reply[LINE];
    if (write(links[worker][0], s, sizeof *s) != sizeof *s) die("ask");
    ssize_t got = read(links[worker][0], reply, sizeof reply);
    if (got < 0) die("answer");
    printf("%d w%d %.*s\n", number, worker, (int)got, reply);
}

enum { FIRST_OPENS = 8, FIRST_WRITES = 3 };

// The first steps make something that the others can be about.
static uint32_t choose_kind(int number) {
    if (number < FIRST_OPENS + FIRST_WRITES) return number < FIRST_OPENS ? 0 : 1;
    int total = 0, at;
    for (int i = 0; i < KINDS; i++) total += kinds[i].weight;
    at = (int)dice((uint32_t)total + 2);
    for (int i = 0; i < KINDS; i++)
        if ((at -= kinds[i].weight) < 0) return (uint32_t)i;
    return FORK;
}

static void describe(const char *path, const char *shown, int depth) {
    struct stat st;
    char list[512], target[PATH_MAX];
    if (lstat(path, &st) != 0) return;
    used = 0;
    say("end %s", shown);
    say_stat(&st);
    if (S_ISREG(st.st_mode)) {
        int fd = open(path, O_RDONLY | O_NOATIME);
        uint32_t h = 0;
        for (ssize_t got; fd >= 0 && (got = read(fd, buffer, sizeof buffer)) > 0;) h = h * 31 + hash(buffer, got);
        if (fd >= 0) close(fd);
        say(" #%08x", h);
    }
    if (S_ISLNK(st.st_mode)) {
        ssize_t got = readlink(path, target, sizeof target);
        say(" -> %.*s", (int)got, target);
    }
    long long listed = llistxattr(path, list, sizeof list);
    uint32_t sum = 0;
    for (long long i = 0; i < listed; i += (long long)strlen(list + i) + 1)
        if (strncmp(list + i, "user.", 5) == 0) {
            ssize_t got = lgetxattr(path, list + i, buffer, 4096);
            sum += hash(list + i, strlen(list + i)) ^ hash(buffer, got > 0 ? got : 0);
        }
    if (sum) say(" attributes %08x", sum);
    printf("%.*s\n", (int)used, line);
    used = 0;
    if (!S_ISDIR(st.st_mode) || depth > 6) return;
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char below[PATH_MAX], name[PATH_MAX];
        if (entries[i]->d_name[0] != '.') {
            snprintf(below, sizeof below, "%.2000s/%.255s", path, entries[i]->d_name);
            snprintf(name, sizeof name, "%.2000s/%.255s", shown, entries[i]->d_name);
            describe(below, name, depth + 1);
        }
        free(entries[i]);
    }
    if (count >= 0) free(entries);
}

static void remove_all(const char *path) {
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char below[PATH_MAX];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(below, sizeof below, "%.2000s/%.255s", path, entry->d_name);
        if (unlink(below) != 0) remove_all(below);
    }
    if (dir) closedir(dir);
    if (rmdir(path) != 0 && errno != ENOENT) die("remove what a sequence made");
}

static void sequence(uint32_t seed, int steps) {
    char root[PATH_MAX];
    state = 0x9e3779b97f4a7c15ull * (seed + 1);
    for (int i = 0; i < 8; i++) dice(2);
    is_timed = seed % 16 == 0;
    // A volume that is mounted twice is two file systems of the sandbox: what is renamed in one has its old name in the
    // other's events, and what is open in one can be run in the other. So such sequences have two mounts, or events and programs.
    is_watched = !is_kept || seed % 3 != 0;
    is_twice = !is_kept || seed % 3 == 0;
    printf("== %u\n", seed);
    snprintf(root, sizeof root, "%.2000s/one/s", base);
    if (mkdir(root, 0777) != 0 || chmod(root, 0777) != 0 || chdir(root) != 0) die(root);
    if (mkdir("sub", 0777) != 0 || chmod("sub", 0777) != 0) die("sub");
    for (int i = 0; i < WORKERS; i++)
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, links[i]) != 0) die("socketpair");
    fflush(stdout);
    for (int i = 0; i < WORKERS; i++) start(i);
    for (int number = 0; number < steps; number++) {
        struct step s = {.kind = choose_kind(number)};
        int worker = (int)dice(WORKERS);
        for (int i = 0; i < 2; i++) s.path[i] = dice(1 << 10), s.slot[i] = dice(SLOTS);
        // The second mount one time in four.
        for (int i = 0; i < 2; i++)
            if (dice(4) || !is_twice) s.path[i] &= ~1u;
        for (int i = 0; i < 6; i++) s.n[i] = dice(1 << 16);
        if (number < FIRST_OPENS && number % 4) {
            // For reading and writing, made if it is not there, where there is a directory: see do_open.
            s.n[0] = 0, s.n[1] = 2;
            if (s.path[0] >> 1 & 4) s.path[0] ^= 8;
        }
        if (s.kind == FORK) {
            int other = (worker + 1 + (int)dice(WORKERS - 1)) % WORKERS;
            struct step leave = {.kind = LEAVE};
            ask(other, &leave, number);
            s.n[0] = (uint32_t)other;
        }
        ask(worker, &s, number);
    }
    // What nobody has asked for yet; then what the end of one tells the others.
    for (int i = 0; i < WORKERS; i++) ask(i, &(struct step){.kind = EVENTS}, steps);
    for (int i = 0; i < WORKERS; i++) {
        ask(i, &(struct step){.kind = LEAVE}, steps);
        for (int other = i + 1; other < WORKERS; other++) ask(other, &(struct step){.kind = EVENTS}, steps);
    }
    for (int i = 0; i < WORKERS; i++) close(links[i][0]), close(links[i][1]);
    while (waitpid(-1, NULL, 0) > 0) {}
    describe(root, "s", 0);
    if (chdir("/") != 0) die("chdir");
    if (is_kept) {
        char kept[PATH_MAX];
        snprintf(kept, sizeof kept, "%.2000s/one/%u", base, seed);
        if (rename(root, kept) != 0) die("keep what a sequence made");
    } else {
        remove_all(root);
    }
    fflush(stdout);
}

// Mounts what WHERE asks for, in a mount namespace of this process's own.
static void prepare(const char *where, const char *one, const char *two) {
    if (!strcmp(where, "given")) return;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) die("unshare");
    mkdir(base, 0777);
    if (!strcmp(where, "overlay")) {
        static char options[PATH_MAX * 4];
        if (mount("tmpfs", base, "tmpfs", 0, "mode=755") != 0 || chdir(base) != 0) die("mount tmpfs");
        mkdir("lower", 0755), mkdir("upper", 0755), mkdir("work", 0755), mkdir("one", 0755), mkdir("two", 0755);
        snprintf(options, sizeof options, "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", base, base, base);
        if (mount("overlay", one, "overlay", 0, options) != 0) die("mount overlay");
    }
    mkdir(one, 0777), mkdir(two, 0777);
    if (is_tmpfs && mount("tmpfs", one, "tmpfs", 0, "size=64m") != 0) die("mount tmpfs");
    if (mount(one, two, NULL, MS_BIND, NULL) != 0) die("bind");
}

int main(int argc, char **argv) {
    static char out[1 << 16], one[PATH_MAX], two[PATH_MAX];
    setvbuf(stdout, out, _IOFBF, sizeof out);
    umask(022);
    if (argc == 4 && !strcmp(argv[1], "describe")) {
        for (char *seed = strtok(argv[3], ","); seed; seed = strtok(NULL, ",")) {
            printf("== %s\n", seed);
            snprintf(one, sizeof one, "%.2000s/%.20s", argv[2], seed);
            describe(one, "", 0);
        }
        return 0;
    }
    if (argc < 6) {
        fprintf(stderr, "usage: files bind|tmpfs|overlay|given DIRECTORY FIRST COUNT STEPS [keep]\n");
        return 2;
    }
    snprintf(base, sizeof base, "%.2000s", argv[2]);
    snprintf(one, sizeof one, "%.2000s/one", base);
    snprintf(two, sizeof two, "%.2000s/two", base);
    is_tmpfs = !strcmp(argv[1], "tmpfs");
    is_kept = argc > 6;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prepare(argv[1], one, two);
    return run_sequences(argv + 3, sequence);
}
