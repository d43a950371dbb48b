// What do calls answer when the storage is full or fails? One line a question, `question: answer`; the host's own answers are the
// measure. Arguments: the kind of the storage, and the directory it is mounted at.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PAGE 4096L
static const char *dir;
static char block[1 << 16];

static char *in(const char *name) {
    static char paths[8][300];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, 300, "%s/%s", dir, name);
    return path;
}

static void tell(const char *question, const char *answer) { printf("%s: %s\n", question, answer); }

static void tell_result(const char *question, long result) {
    char answer[40];
    if (result == -1)
        snprintf(answer, sizeof answer, "%s", strerrorname_np(errno));
    else
        snprintf(answer, sizeof answer, "%ld", result);
    tell(question, answer);
}

#define ASK(question, call)                                                                                                \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        tell_result(question, (long)(call));                                                                           \
    } while (0)

static sigjmp_buf back;
static siginfo_t last;
static void on_signal(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    last = *info;
    siglongjmp(back, 1);
}

// Writes a byte through a shared mapping of the page at `offset`, or reads one.
static void touch(const char *question, int fd, off_t offset, bool writes) {
    volatile char *page = mmap(NULL, PAGE, writes ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, offset);
    if (page == MAP_FAILED) {
        tell_result(question, -1);
        return;
    }
    char answer[60] = "ok";
    if (sigsetjmp(back, 1) == 0) {
        if (writes)
            page[7] = 'm';
        else
            (void)page[7];
    } else {
        bool is_there = last.si_addr == page + 7;
        snprintf(answer, sizeof answer, "%s, code %d, %s", sigabbrev_np(last.si_signo), last.si_code,
                 is_there ? "at the byte" : "elsewhere");
    }
    tell(question, answer);
    munmap((void *)page, PAGE);
}

// Writes until there is an error; answers how much.
static long fill(int fd, size_t piece) {
    long total = 0;
    for (;;) {
        ssize_t put = write(fd, block, piece);
        if (put < 0) {
            int error = errno;
            struct stat stat;
            fstat(fd, &stat);
            tell("the size is what was written", stat.st_size == total ? "yes" : "no");
            errno = error;
            return total;
        }
        total += put;
    }
}

static void full(void) {
    int sparse = open(in("sparse"), O_CREAT | O_RDWR, 0644);
    ASK("ftruncate beyond the storage", ftruncate(sparse, 64 << 20));
    int small = open(in("small"), O_CREAT | O_RDWR, 0644);
    ASK("write while there is room", write(small, block, 100));
    mkdir(in("folder"), 0755);
    int all = open(in("all"), O_CREAT | O_RDWR, 0644);
    ASK("fallocate beyond the room", fallocate(all, 0, 0, 1 << 30));
    ftruncate(all, 0);
    fill(all, sizeof block);
    tell("write until it is full", strerrorname_np(errno));
    // What is left of the last blocks.
    int rest = open(in("rest"), O_CREAT | O_RDWR, 0644);
    if (rest >= 0) {
        fill(rest, 512);
        tell("write small pieces until it is full", strerrorname_np(errno));
    }
    ASK("write", write(all, block, sizeof block));
    ASK("pwrite into a hole", pwrite(sparse, block, sizeof block, 8 << 20));
    ASK("pwrite over what is there", pwrite(all, block, 4096, 0));
    struct iovec pieces[2] = {{block, sizeof block}, {block, sizeof block}};
    ASK("writev", writev(all, pieces, 2));
    ASK("fallocate", fallocate(sparse, 0, 16 << 20, 1 << 20));
    ASK("fallocate, keeping the size", fallocate(all, FALLOC_FL_KEEP_SIZE, 32 << 20, 1 << 20));
    ASK("posix_fallocate", posix_fallocate(sparse, 24 << 20, 1 << 20));
    int append = open(in("all"), O_WRONLY | O_APPEND);
    ASK("write at the end", write(append, block, sizeof block));
    int synced = open(in("all"), O_WRONLY | O_DSYNC);
    ASK("write with O_DSYNC", pwrite(synced, block, sizeof block, 48 << 20));
    int source = memfd_create("source", 0), ends[2];
    write(source, block, sizeof block);
    off_t from = 0, to = 40 << 20;
    lseek(all, 0, SEEK_END);
    ASK("sendfile", sendfile(all, source, &from, sizeof block));
    from = 0;
    ASK("copy_file_range", syscall(SYS_copy_file_range, all, &from, sparse, &to, sizeof block, 0));
    pipe(ends);
    write(ends[1], block, 8192);
    to = 44 << 20;
    ASK("splice", splice(ends[0], NULL, sparse, &to, 8192, 0));
    touch("a write through a mapping of a hole", sparse, 12 << 20, true);
    touch("a write through a mapping of what is there", all, 0, true);
    touch("a read through a mapping of a hole", sparse, 13 << 20, false);
    char long_target[400];
    memset(long_target, 't', 399), long_target[399] = 0;
    ASK("symlink with a long target", symlink(long_target, in("link")));
    ASK("mkdir", mkdir(in("more"), 0755));
    ASK("ftruncate to more", ftruncate(small, 32 << 20));
    ASK("fsync", fsync(all));
    ASK("fdatasync of the sparse one", fdatasync(sparse));
    int folder = open(dir, O_DIRECTORY);
    ASK("fsync of the directory", fsync(folder));
    ASK("syncfs", syncfs(folder));
    ASK("close", close(all));
    ASK("truncate gives room", truncate(in("all"), 100));
    ASK("write into that room", pwrite(small, block, 4096, 0));
    touch("a write through a mapping into that room", sparse, 12 << 20, true);
    ASK("unlink", unlink(in("all")));
    ASK("close of the last", close(small));
}

// Two descriptors of a file whose bytes cannot be written back; each of them is told once.
static void written_back(const char *name, bool by_mapping) {
    printf("# %s%s\n", name, by_mapping ? ", by a mapping" : "");
    int first = open(in(name), O_RDWR | O_CREAT, 0644), second = open(in(name), O_RDWR), reader = open(in(name), O_RDONLY);
    int copy = dup(first);
    if (by_mapping) {
        ftruncate(first, 64 * PAGE);
        char *pages = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, first, 0);
        memset(pages, 'm', 64 * PAGE);
        ASK("msync", msync(pages, 64 * PAGE, MS_SYNC));
        ASK("msync again", msync(pages, 64 * PAGE, MS_SYNC));
        munmap(pages, 64 * PAGE);
    } else {
        ASK("write", write(first, block, sizeof block));
    }
    ASK("fsync", fsync(first));
    ASK("fsync again", fsync(first));
    ASK("fsync of its copy", fsync(copy));
    ASK("fdatasync of another", fdatasync(second));
    ASK("fsync of another again", fsync(second));
    ASK("fsync of one that reads", fsync(reader));
    ASK("fsync of one that reads again", fsync(reader));
    int late = open(in(name), O_RDWR);
    ASK("fsync of one that came later", fsync(late));
    pid_t child = fork();
    if (child == 0)
        _exit(fsync(first) ? errno : 0);
    int status;
    waitpid(child, &status, 0);
    ASK("fsync in a child", WEXITSTATUS(status));
    ASK("write once more", pwrite(second, block, sizeof block, 0));
    ASK("fsync of the late one", fsync(late));
    ASK("fsync of the second", fsync(second));
    ASK("close of the first", close(first));
    ASK("close of its copy", close(copy));
    ASK("close of the second", close(second));
    ASK("close of the late one", close(late));
    ASK("close of one that reads", close(reader));
    int synced = open(in(name), O_RDWR | O_SYNC);
    ASK("write with O_SYNC", pwrite(synced, block, 4096, 0));
    ASK("pwritev2 with RWF_DSYNC", pwritev2(synced, &(struct iovec){block, 4096}, 1, 0, RWF_DSYNC));
    ASK("fsync of it", fsync(synced));
    ASK("close of it", close(synced));
}

// Files that fail at one kind of call each, which stands in their names.
static void failing(void) {
    int folder = open(dir, O_DIRECTORY);
    ASK("fsync of the directory", fsync(folder));
    ASK("fdatasync of the directory", fdatasync(folder));
    ASK("close of the directory", close(folder));
    const char *names[] = {"none-0",      "write-EIO",     "write-EDQUOT",  "write-ENOSPC",    "flush-EIO", "flush-EDQUOT",
                           "flush-ENOSPC", "fsync-EIO", "fsync-EDQUOT", "read-EIO",   "fallocate-ENOSPC", "fallocate-EDQUOT",
                           "truncate-EIO"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        printf("# %s\n", names[i]);
        int fd = open(in(names[i]), O_RDWR), other = open(in(names[i]), O_RDWR), append = open(in(names[i]), O_WRONLY | O_APPEND);
        ASK("read", read(fd, block, 4096));
        ASK("pread beyond the end", pread(fd, block, 4096, 1 << 20));
        ASK("write", write(fd, block, 4096));
        ASK("a large write", write(fd, block, sizeof block));
        ASK("write at the end", write(append, block, 100));
        struct stat stat;
        fstat(fd, &stat);
        ASK("size", stat.st_size);
        ASK("fsync", fsync(fd));
        ASK("fdatasync of another", fdatasync(other));
        ASK("fallocate", fallocate(fd, 0, 0, 1 << 18));
        ASK("ftruncate", ftruncate(fd, 3 * PAGE));
        ASK("truncate", truncate(in(names[i]), 2 * PAGE));
        int copy = dup(fd), reader = open(in(names[i]), O_RDONLY);
        touch("a read through a mapping", fd, PAGE, false);
        touch("a write through a mapping", fd, 0, true);
        ASK("close of a copy", close(copy));
        ASK("close", close(fd));
        ASK("close again", close(fd));
        ASK("close of one that reads", close(reader));
        ASK("dup2 over another", dup2(append, other) == other);
        ASK("close_range", close_range(append, append, 0));
        ASK("close of what was dup2ed", close(other));
        int truncated = open(in(names[i]), O_RDWR | O_TRUNC);
        ASK("open with O_TRUNC", truncated == -1 ? -1 : 0);
        ASK("close of it", close(truncated));
    }
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    memset(block, 'b', sizeof block);
    dir = argv[2];
    if (!strcmp(argv[1], "full")) {
        full();
    } else if (!strcmp(argv[1], "failing")) {
        failing();
    } else {
        written_back("write-EIO", false);
        written_back("write-EIO", true);
    }
    puts("# end");
    return 0;
}
