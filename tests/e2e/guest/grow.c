// How much can be made of one kind of thing? Makes it in several processes until it is refused or the number of MiB asked for is there,
// keeps all of it until its input ends, and says "KIND: N MiB, ERROR". Without arguments: lists the kinds.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { CHILDREN = 24, MIB = 1 << 20, NAME = 400 };
static char chunk[MIB];
static long made, number; // bytes in this process, objects in this process

static const char *name_of(const char *kind) {
    static char name[NAME];
    snprintf(name, sizeof name, "/dev/%s-%d-%ld-%0200d", kind, getpid(), number++, 1);
    return name;
}

// Writes until there is no room; answers how much.
static long fill(int fd, size_t at_once) {
    long all = 0;
    for (ssize_t n; (n = write(fd, chunk, at_once)) > 0;)
        all += n;
    return all;
}

static int some(long bytes) {
    made += bytes;
    return bytes > 0 ? 0 : -1;
}

// Each makes a little more and answers 0, or -1 if it is refused.
static int pipes(void) {
    int ends[2];
    if (pipe2(ends, O_NONBLOCK) == -1)
        return -1;
    fcntl(ends[1], F_SETPIPE_SZ, MIB);
    return some(fill(ends[1], MIB));
}
static int sockets_of(int type, size_t at_once) {
    int ends[2], big = 1 << 30;
    if (socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, ends) == -1)
        return -1;
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
    return some(fill(ends[0], at_once));
}
static int streams(void) { return sockets_of(SOCK_STREAM, 65536); }
static int datagrams(void) {
    long before = made;
    int result = sockets_of(SOCK_DGRAM, 1);
    made += (made - before) * 768;
    return result;
}
static int written(int fd, int writes, size_t each) {
    if (fd == -1)
        return -1;
    for (int i = 0; i < writes; i++) {
        ssize_t n = write(fd, chunk, each);
        if (n <= 0)
            return -1;
        made += n;
    }
    return 0;
}
static int made_file(const char *kind) { return open(name_of(kind), O_CREAT | O_RDWR, 0600); }
static int closed(int fd, int result) {
    close(fd);
    return result;
}
static int tmpfs(void) {
    int fd = made_file("t");
    return closed(fd, written(fd, 8, MIB));
}
static int small_files(void) {
    int fd = made_file("s");
    return closed(fd, written(fd, 1, 16384));
}
static int empty_files(void) {
    int fd = made_file("e");
    return fd == -1 ? -1 : closed(fd, some(500));
}
static int enlarged_files(void) {
    int fd = made_file("g");
    return fd == -1 || ftruncate(fd, 16384) == -1 ? -1 : closed(fd, some(16384));
}
static int sparse_files(void) {
    int fd = made_file("h");
    return fd == -1 || ftruncate(fd, 20000) == -1 ? -1 : closed(fd, some(2000));
}
static int memory_files(void) { return written(memfd_create("m", 0), 8, MIB); }
static int volumes(void) {
    char path[NAME];
    snprintf(path, sizeof path, "/memory/%d-%ld", getpid(), number++);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    return closed(fd, written(fd, 8, MIB));
}
static int symbolic_links(void) {
    static char target[4000];
    memset(target, 'x', sizeof target - 1);
    return symlink(target, name_of("l")) == -1 ? -1 : some(sizeof target);
}
static int attributes(void) {
    static int fd = -1;
    char name[64];
    if (number % 100 == 0)
        fd = closed(fd, made_file("x"));
    snprintf(name, sizeof name, "user.%ld", number++);
    return fsetxattr(fd, name, chunk, 60000, 0) == -1 ? -1 : some(60000);
}
static int epoll_items(void) {
    static int events[500], count;
    while (count < 500)
        if ((events[count++] = eventfd(0, 0)) == -1)
            return -1;
    int fd = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {EPOLLIN | EPOLLET, {.u64 = i}};
        if (epoll_ctl(fd, EPOLL_CTL_ADD, events[i], &event) == -1)
            return -1;
        made += 200;
    }
    return 0;
}
static int messages(void) {
    struct { long type; char text[8192]; } message = {.type = 1};
    int queue = msgget(IPC_PRIVATE, 0600);
    if (queue == -1)
        return -1;
    long before = made;
    while (msgsnd(queue, &message, sizeof message.text, IPC_NOWAIT) == 0)
        made += sizeof message.text;
    return made > before ? 0 : -1;
}
static int semaphores(void) { return semget(IPC_PRIVATE, 4000, 0600) == -1 ? -1 : some(4000 * 16); }
static int undone(void) {
    enum { AT_ONCE = 500 };
    static int set = -1;
    struct sembuf each[AT_ONCE];
    if (number % 4000 == 0 && (set = semget(IPC_PRIVATE, 4000, 0600)) == -1)
        return -1;
    for (int i = 0; i < AT_ONCE; i++)
        each[i] = (struct sembuf){number++ % 4000, 1, SEM_UNDO};
    return semop(set, each, AT_ONCE) == -1 ? -1 : some(64 * AT_ONCE);
}
static int segments(void) {
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    return id == -1 ? -1 : some(4096);
}
static int signals(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    return sigqueue(getpid(), SIGRTMIN + 1, (union sigval){0}) == -1 ? -1 : some(128);
}
static int timers(void) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    return timer_create(CLOCK_MONOTONIC, &event, &timer) == -1 ? -1 : some(300);
}
static int watch_events(void) {
    enum { QUEUES = 4, ROUNDS = 5400 }; // three events each: a queue has 16384
    static char from[NAME], to[2 * NAME];
    static int rounds;
    if (rounds++ % ROUNDS == 0) {
        snprintf(from, sizeof from, "%s", name_of("d"));
        if (mkdir(from, 0700) == -1)
            return -1;
        for (int i = 0; i < QUEUES; i++)
            if (inotify_add_watch(inotify_init1(IN_NONBLOCK), from, IN_ALL_EVENTS) == -1)
                return -1;
        snprintf(to, sizeof to, "%s/%0240d", from, 1);
        close(open(to, O_CREAT, 0600));
    }
    // Two kinds in turn: an event that repeats the last one is not queued.
    return chmod(to, 0600) == -1 || closed(open(to, O_RDONLY), 0) ? -1 : some(3 * QUEUES * 300);
}
static int mappings(void) {
    static char *at = (char *)0x300000000000;
    int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    return mmap(at += 8192, 4096, PROT_READ, kind, -1, 0) == MAP_FAILED ? -1 : some(250);
}
static int locks(void) {
    static int fd = -1;
    if (fd == -1)
        fd = made_file("k");
    struct flock lock = {.l_type = F_WRLCK, .l_start = 2 * number++, .l_len = 1};
    return fcntl(fd, F_SETLK, &lock) == -1 || number > 4000 ? -1 : some(100);
}
static int descriptor_tables(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    return number++ || dup2(0, (int)limit.rlim_cur - 1) == -1 ? -1 : some(16 * (long)limit.rlim_cur);
}
static int open_files(void) { return eventfd(0, 0) == -1 ? -1 : some(900); }
static int terminals(void) {
    int fd = posix_openpt(O_RDWR | O_NOCTTY);
    return fd == -1 ? -1 : some(40000);
}
static int answers(void) {
    struct { struct { unsigned len; unsigned short type, flags; unsigned seq, pid; } head; char family[4]; } ask = {{20, 18, 0x301, 1, 0}, {0}};
    int fd = socket(AF_NETLINK, SOCK_RAW, 0);
    if (fd == -1)
        return -1;
    long before = made;
    for (int i = 0; i < 1000 && send(fd, &ask, sizeof ask, 0) > 0; i++)
        made += 1500;
    return made > before ? 0 : -1;
}
static int connections(void) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof place;
    int listener = socket(AF_INET, SOCK_STREAM, 0), out = socket(AF_INET, SOCK_STREAM, 0);
    if (out == -1 || bind(listener, (void *)&place, len) == -1 || listen(listener, 1) == -1)
        return -1;
    getsockname(listener, (void *)&place, &len);
    if (connect(out, (void *)&place, len) == -1)
        return -1;
    fcntl(out, F_SETFL, O_NONBLOCK);
    return closed(listener, some(fill(out, 65536)));
}

static const struct kind { const char *name; int (*more)(void); } kinds[] = {
    {"pipes", pipes}, {"streams", streams}, {"datagrams", datagrams}, {"tmpfs", tmpfs}, {"small-files", small_files},
    {"empty-files", empty_files}, {"enlarged-files", enlarged_files}, {"sparse-files", sparse_files}, {"memory-files", memory_files},
    {"symbolic-links", symbolic_links}, {"attributes", attributes}, {"epoll-items", epoll_items}, {"messages", messages},
    {"semaphores", semaphores}, {"undone", undone}, {"segments", segments}, {"signals", signals}, {"timers", timers},
    {"watch-events", watch_events}, {"mappings", mappings}, {"locks", locks}, {"descriptor-tables", descriptor_tables},
    {"open-files", open_files}, {"terminals", terminals}, {"answers", answers}, {"connections", connections},
    {"volumes-in-memory", volumes},
};

// What another container of the pod has left in the namespace would count against the namespace's own limits.
static void remove_sets(void) {
    struct seminfo info;
    struct semid_ds set;
    union { void *buffer; } to_info = {&info}, to_set = {&set};
    int last = semctl(0, 0, SEM_INFO, to_info);
    for (int at = 0; at <= last; at++) {
        int id = semctl(at, 0, SEM_STAT, to_set);
        if (id != -1)
            semctl(id, 0, IPC_RMID);
    }
}

int main(int argc, char **argv) {
    const struct kind *kind = kinds, *end = kinds + sizeof kinds / sizeof *kinds;
    for (; kind < end && (argc < 3 || strcmp(kind->name, argv[1])); kind++)
        if (argc < 3)
            puts(kind->name);
    if (kind == end)
        return argc < 3 ? 0 : 2;
    memset(chunk, 'x', sizeof chunk);
    remove_sets();
    long wanted = atol(argv[2]) * MIB, all = 0;
    int gate[2], error = 0;
    // Not told through a pipe: there may be no memory for its buffer.
    struct { volatile long made, error, done; } *told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pipe(gate) == -1 || told == MAP_FAILED)
        return 3;
    for (int i = 0; i < CHILDREN && all < wanted; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            close(gate[1]);
            errno = 0;
            while (made < wanted / 6 && kind->more() == 0)
                continue;
            told[i].made = made;
            told[i].error = made < wanted / 6 ? errno : 0;
            told[i].done = 1;
            char byte;
            _exit(read(gate[0], &byte, 1) != 0);
        }
        if (pid == -1) {
            error = errno;
            break;
        }
        while (!told[i].done && waitpid(pid, NULL, WNOHANG) == 0)
            usleep(2000);
        if (!told[i].done) {
            printf("%s: a process has ended\n", kind->name);
            return 4;
        }
        all += told[i].made;
        error = told[i].error ? (int)told[i].error : error;
        if (told[i].made == 0)
            break;
    }
    printf("%s: %ld MiB, %s\n", kind->name, all / MIB, error ? strerrorname_np(error) : "enough");
    fflush(stdout);
    for (char byte; read(0, &byte, 1) > 0;)
        continue;
    return 0;
}
