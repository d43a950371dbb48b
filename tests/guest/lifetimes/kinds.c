// Does what a guest makes and destroys come back? `kinds CYCLES [KIND]`: each kind makes and destroys objects, first some to
// fill what is filled once, then CYCLES more. Before and after these it says so, with what two file systems have in use,
// and waits for a byte: whoever reads it counts from outside. A kind's function is one cycle.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define KINDS_MAX 100
#define BLOCK 16384

struct kind {
    const char *name;
    void (*cycle)(long);
    int share; // One of so many of the cycles that are asked for.
};

static struct kind kinds[KINDS_MAX];
static int kinds_made;
static const char *running = "";
static char block[1 << 17], path[4096];

#define KIND(kind_name, one_of)                                                                    \
    static void kind_##kind_name(long i);                                                          \
    __attribute__((constructor)) static void add_##kind_name(void) {                               \
        kinds[kinds_made++] = (struct kind){#kind_name, kind_##kind_name, one_of};                 \
    }                                                                                              \
    static void kind_##kind_name(long i __attribute__((unused)))

#define OK(call)                                                                                   \
    __extension__({                                                                                \
        long ok_value = (long)(call);                                                              \
        if (ok_value == -1) {                                                                      \
            fprintf(stderr, "%s: %s: %s\n", running, #call, strerror(errno));                      \
            exit(1);                                                                               \
        }                                                                                          \
        ok_value;                                                                                  \
    })

static const char *named(const char *format, long i) {
    snprintf(path, sizeof path, format, i);
    return path;
}

static int filled(const char *name) {
    int fd = (int)OK(open(name, O_CREAT | O_RDWR, 0600));
    OK(write(fd, block, BLOCK));
    return fd;
}

static void wait_for(pid_t child) { OK(waitpid(child, NULL, 0)); }

// Names, on the container's tree (the working directory) and in memory.

KIND(removed_file, 1) {
    close(filled(named("f%ld", i)));
    OK(unlink(path));
}
KIND(removed_file_in_memory, 1) {
    close(filled(named("/dev/shm/f%ld", i)));
    OK(unlink(path));
}
KIND(removed_while_open, 1) {
    int fd = filled(named("o%ld", i));
    OK(unlink(path));
    close(fd);
}
KIND(removed_while_mapped, 1) {
    int fd = filled(named(i & 1 ? "m%ld" : "/dev/shm/m%ld", i));
    char *map = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    OK(unlink(path));
    map[0] = 1;
    OK(munmap(map, BLOCK));
}
KIND(replaced_file, 1) {
    close(filled("new"));
    OK(rename("new", "old"));
    close(filled("/dev/shm/new"));
    OK(rename("/dev/shm/new", "/dev/shm/old"));
}
KIND(swapped_files, 2) {
    close(filled("x"));
    close(filled("y"));
    OK(syscall(SYS_renameat2, AT_FDCWD, "x", AT_FDCWD, "y", 2));
    OK(unlink("x"));
    OK(unlink("y"));
}
KIND(nameless_file, 1) {
    int fd = (int)OK(open(i & 1 ? "." : "/dev/shm", O_TMPFILE | O_RDWR, 0600));
    OK(write(fd, block, BLOCK));
    close(fd);
}
KIND(second_name, 2) {
    close(filled(named("a%ld", i)));
    OK(link(path, "b"));
    OK(unlink(path));
    OK(unlink("b"));
}
KIND(directory, 1) {
    OK(mkdir(named("d%ld", i), 0700));
    access(strcat(path, "/none"), F_OK);
    OK(rmdir(named("d%ld", i)));
}
KIND(directory_in_memory, 1) {
    OK(mkdir(named("/dev/shm/d%ld", i), 0700));
    access(strcat(path, "/none"), F_OK);
    OK(rmdir(named("/dev/shm/d%ld", i)));
}
KIND(symbolic_link, 1) {
    OK(symlink("target", named(i & 1 ? "s%ld" : "/dev/shm/s%ld", i)));
    OK(unlink(path));
}
KIND(fifo, 1) {
    OK(mkfifo(named("p%ld", i), 0600));
    int fd = (int)OK(open(path, O_RDWR));
    OK(unlink(path));
    close(fd);
}
KIND(absent_names, 1) { access(named("/dev/shm/no-such-file-%ld", i), F_OK), access(named("none-%ld", i), F_OK); }
KIND(working_directory_removed, 4) {
    pid_t child = (pid_t)OK(fork());
    if (child == 0) {
        OK(mkdir(named("/tmp/cwd%ld", i), 0700));
        OK(chdir(path));
        OK(rmdir(path));
        _exit(0);
    }
    wait_for(child);
}
KIND(attributes, 1) {
    close(filled("/dev/shm/xattr"));
    OK(setxattr("/dev/shm/xattr", "trusted.a", block, 4096, 0));
    OK(unlink("/dev/shm/xattr"));
}
KIND(holes_and_truncation, 1) {
    int fd = filled("/dev/shm/holes");
    OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BLOCK));
    OK(write(fd, block, BLOCK));
    OK(ftruncate(fd, 0));
    close(fd);
    OK(unlink("/dev/shm/holes"));
}
KIND(mounts, 4) {
    mkdir("/tmp/mnt", 0700);
    OK(mount("none", "/tmp/mnt", "tmpfs", 0, NULL));
    close(filled("/tmp/mnt/f"));
    OK(mkdir("/tmp/mnt/d", 0700));
    OK(umount2("/tmp/mnt", i & 1 ? MNT_DETACH : 0));
}
KIND(bind_mounts, 4) {
    mkdir("/tmp/mnt", 0700);
    OK(mount("/dev/shm", "/tmp/mnt", NULL, MS_BIND, NULL));
    OK(umount("/tmp/mnt"));
}
KIND(mount_namespaces, 4) {
    pid_t child = (pid_t)OK(fork());
    if (child == 0) {
        OK(unshare(CLONE_NEWNS));
        mkdir("/tmp/mnt", 0700);
        OK(mount("none", "/tmp/mnt", "tmpfs", 0, NULL));
        close(filled("/tmp/mnt/f"));
        _exit(0);
    }
    wait_for(child);
}

// Locks and watches.

KIND(locks, 1) {
    int fd = filled("/dev/shm/lock");
    struct flock range = {.l_type = F_WRLCK, .l_start = i, .l_len = 1};
    OK(fcntl(fd, F_SETLK, &range));
    OK(flock(fd, LOCK_EX));
    close(fd);
    OK(unlink("/dev/shm/lock"));
}
KIND(watches, 1) {
    static int fd = -1;
    if (fd < 0)
        fd = (int)OK(inotify_init1(IN_NONBLOCK));
    close(filled("watched"));
    OK(inotify_add_watch(fd, "watched", IN_ALL_EVENTS));
    OK(unlink("watched"));
    while (read(fd, block, sizeof block) > 0)
        ;
}
KIND(watch_instances, 1) {
    int fd = (int)OK(inotify_init1(IN_NONBLOCK));
    OK(inotify_add_watch(fd, ".", IN_ALL_EVENTS));
    close(filled("told"));
    close(fd);
    OK(unlink("told"));
}
KIND(watch_of_what_is_unmounted, 4) {
    static int fd = -1;
    if (fd < 0)
        fd = (int)OK(inotify_init1(IN_NONBLOCK));
    mkdir("/tmp/mnt", 0700);
    OK(mount("none", "/tmp/mnt", "tmpfs", 0, NULL));
    OK(inotify_add_watch(fd, "/tmp/mnt", IN_ALL_EVENTS));
    OK(umount("/tmp/mnt"));
    while (read(fd, block, sizeof block) > 0)
        ;
}

// Descriptors without a name.

KIND(pipes, 1) {
    int ends[2];
    OK(pipe(ends));
    OK(write(ends[1], block, 60000));
    close(ends[0]);
    close(ends[1]);
}
KIND(splices, 1) {
    int ends[2], file = filled("/dev/shm/splice");
    loff_t at = 0;
    OK(pipe(ends));
    OK(splice(file, &at, ends[1], NULL, BLOCK, 0));
    close(ends[0]);
    close(ends[1]);
    close(file);
    OK(unlink("/dev/shm/splice"));
}
KIND(memory_files, 1) {
    int fd = (int)OK(memfd_create("m", 0));
    OK(write(fd, block, BLOCK));
    char *map = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    map[0] = 1;
    OK(munmap(map, BLOCK));
}
KIND(event_files, 1) {
    sigset_t set;
    sigemptyset(&set);
    struct itimerspec in = {.it_value.tv_sec = 1000};
    int event = (int)OK(eventfd(1, 0)), timer = (int)OK(timerfd_create(CLOCK_MONOTONIC, 0));
    int signals = (int)OK(signalfd(-1, &set, 0)), poll = (int)OK(epoll_create1(0));
    int upper = (int)OK(epoll_create1(0));
    struct epoll_event interest = {.events = EPOLLIN};
    OK(timerfd_settime(timer, 0, &in, NULL));
    OK(epoll_ctl(poll, EPOLL_CTL_ADD, event, &interest));
    OK(epoll_ctl(poll, EPOLL_CTL_ADD, timer, &interest));
    OK(epoll_ctl(upper, EPOLL_CTL_ADD, poll, &interest));
    close(event), close(timer), close(signals), close(poll), close(upper);
}
KIND(terminals, 2) {
    char name[64];
    int master = (int)OK(open("/dev/ptmx", O_RDWR | O_NOCTTY));
    OK(grantpt(master));
    OK(unlockpt(master));
    OK(ptsname_r(master, name, sizeof name));
    int slave = (int)OK(open(name, O_RDWR | O_NOCTTY));
    OK(write(master, "text\n", 5));
    close(slave);
    close(master);
}

// Sockets.

static void send_descriptors(int socket, const int *fds, size_t count) {
    char control[CMSG_SPACE(4 * sizeof(int))] = {0};
    struct iovec vector = {"x", 1};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    OK(sendmsg(socket, &message, MSG_DONTWAIT));
}
KIND(tcp, 2) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    struct linger now = {1, 0};
    int listener = (int)OK(socket(AF_INET, SOCK_STREAM, 0)), client = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
    OK(bind(listener, (void *)&at, sizeof at));
    OK(getsockname(listener, (void *)&at, &length));
    OK(listen(listener, 4));
    OK(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    OK(connect(client, (void *)&at, sizeof at));
    OK(write(client, block, 5000));
    if (i & 1)
        close((int)OK(accept(listener, NULL, NULL)));
    close(client);
    close(listener);
}
KIND(udp, 2) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int fd = (int)OK(socket(AF_INET, SOCK_DGRAM, 0));
    OK(bind(fd, (void *)&at, sizeof at));
    OK(getsockname(fd, (void *)&at, &length));
    OK(sendto(fd, block, 5000, 0, (void *)&at, length));
    close(fd);
}
KIND(bound_unix_sockets, 1) {
    struct sockaddr_un at = {AF_UNIX, {0}};
    snprintf(at.sun_path, sizeof at.sun_path, "/tmp/u%ld", i);
    int listener = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0)), client = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(bind(listener, (void *)&at, sizeof at));
    OK(listen(listener, 4));
    OK(connect(client, (void *)&at, sizeof at));
    OK(write(client, block, 5000));
    OK(unlink(at.sun_path));
    close(listener);
    close(client);
}
KIND(abstract_unix_sockets, 1) {
    struct sockaddr_un at = {AF_UNIX, {0}};
    snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "a%ld", i);
    int bound = (int)OK(socket(AF_UNIX, SOCK_DGRAM, 0)), other = (int)OK(socket(AF_UNIX, SOCK_DGRAM, 0));
    OK(bind(bound, (void *)&at, sizeof at));
    OK(sendto(other, block, 5000, 0, (void *)&at, sizeof at));
    close(bound);
    close(other);
}
KIND(descriptors_in_flight, 1) {
    int pair[2], other[2], sent[2] = {(int)OK(memfd_create("m", 0)), (int)OK(eventfd(0, 0))};
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, other));
    OK(write(sent[0], block, BLOCK));
    send_descriptors(pair[0], sent, 2);
    send_descriptors(pair[0], &other[1], 1);
    send_descriptors(other[0], &pair[1], 1);
    close(sent[0]), close(sent[1]), close(pair[0]), close(pair[1]), close(other[0]), close(other[1]);
}
KIND(netlink, 1) { close((int)OK(socket(AF_NETLINK, SOCK_RAW, 0))); }

// IPC.

KIND(system_v, 1) {
    int segment = (int)OK(shmget(IPC_PRIVATE, BLOCK, IPC_CREAT | 0600));
    int queue = (int)OK(msgget(IPC_PRIVATE, IPC_CREAT | 0600)), set = (int)OK(semget(IPC_PRIVATE, 4, IPC_CREAT | 0600));
    struct sembuf up = {0, 1, SEM_UNDO};
    char *at = (char *)OK(shmat(segment, NULL, 0));
    at[0] = 1;
    *(long *)(void *)block = 1;
    OK(msgsnd(queue, block, 4000, 0));
    OK(semop(set, &up, 1));
    OK(shmctl(segment, IPC_RMID, NULL));
    OK(shmdt(at));
    OK(msgctl(queue, IPC_RMID, NULL));
    OK(semctl(set, 0, IPC_RMID));
}
KIND(posix_queues, 1) {
    mqd_t queue = (mqd_t)OK(mq_open(named("/q%ld", i), O_CREAT | O_RDWR, 0600, NULL));
    OK(mq_send(queue, block, 4000, 0));
    OK(mq_unlink(path));
    OK(mq_close(queue));
}

// Bursts, each larger than the one before: what one has left in the sentry's heap does not serve the next.
KIND(bursts_of_system_v_messages, 40) {
    enum { MORE = 18, MOST = 4000 };
    static int queues[MOST];
    long many = i * MORE < MOST ? i * MORE : MOST;
    *(long *)(void *)block = 1;
    for (long n = 0; n < many; n++) {
        queues[n] = (int)OK(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
        for (int message = 0; message < 16; message++)
            OK(msgsnd(queues[n], block, 1000, 0));
    }
    for (long n = 0; n < many; n++)
        OK(msgctl(queues[n], IPC_RMID, NULL));
}
KIND(bursts_of_posix_messages, 40) {
    enum { MORE = 5, MOST = 200 };
    static mqd_t queues[MOST];
    long many = i * MORE < MOST ? i * MORE : MOST;
    OK(setrlimit(RLIMIT_MSGQUEUE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}));
    for (long n = 0; n < many; n++) {
        queues[n] = (mqd_t)OK(mq_open(named("/b%ld", n), O_CREAT | O_RDWR, 0600, NULL));
        for (int message = 0; message < 10; message++)
            OK(mq_send(queues[n], block, 8000, 0));
        OK(mq_unlink(path));
    }
    for (long n = 0; n < many; n++)
        OK(mq_close(queues[n]));
}

// Memory.

KIND(mappings, 1) {
    char *map = mmap(NULL, 1 << 18, PROT_READ | PROT_WRITE, (i & 1 ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
    for (int page = 0; page < 64; page++)
        map[page * 4096] = 1;
    OK(mprotect(map + 4096, 4096, PROT_READ));
    OK(mprotect(map + 4096, 4096, PROT_READ | PROT_WRITE));
    OK(munmap(map + 8192, 4096));
    OK(munmap(map, 1 << 18));
    map = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    map = mremap(map, 1 << 16, 1 << 17, MREMAP_MAYMOVE);
    OK(munmap(map, 1 << 17));
}

// Timers and signals.

KIND(timers, 1) {
    timer_t timer;
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    struct itimerspec in = {.it_value.tv_sec = 1000};
    OK(timer_create(CLOCK_MONOTONIC, &none, &timer));
    OK(timer_settime(timer, 0, &in, NULL));
    OK(timer_delete(timer));
}
KIND(queued_signals, 4) {
    pid_t child = (pid_t)OK(fork());
    if (child == 0) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        for (int signal = 0; signal < 50; signal++)
            sigqueue(getpid(), SIGRTMIN, (union sigval){0});
        _exit(0);
    }
    wait_for(child);
}

// Processes and threads, and what /proc shows of them.

static void *nothing(void *unused) { return unused; }
KIND(threads, 2) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, nothing, NULL) == 0)
        pthread_join(thread, NULL);
}
KIND(processes, 2) {
    pid_t child = (pid_t)OK(fork());
    if (child == 0)
        _exit(0);
    wait_for(child);
}
KIND(programs, 4) {
    pid_t child = vfork();
    if (child == 0) {
        execl("/proc/self/exe", "kinds", "0", NULL);
        _exit(1);
    }
    wait_for(child);
}
KIND(looked_at_processes, 4) {
    char name[64];
    pid_t child = (pid_t)OK(fork());
    if (child == 0)
        for (;;)
            pause();
    int handle = (int)OK(syscall(SYS_pidfd_open, child, 0));
    for (size_t at = 0; at < 5; at++) {
        snprintf(name, sizeof name, "/proc/%d/%s", child,
                 (const char *[]){"status", "stat", "fd/0", "ns/mnt", "task"}[at]);
        struct stat unused;
        stat(name, &unused);
    }
    OK(kill(child, SIGKILL));
    wait_for(child);
    close(handle);
}
KIND(looked_at_descriptors, 2) {
    int fd = (int)OK(memfd_create("m", 0));
    OK(write(fd, block, BLOCK));
    close((int)OK(open(named("/proc/self/fd/%ld", fd), O_RDONLY)));
    close((int)OK(open(named("/proc/self/fdinfo/%ld", fd), O_RDONLY)));
    close((int)OK(open("/proc/self/ns/mnt", O_RDONLY)));
    close(fd);
}
KIND(orphans, 4) {
    pid_t child = (pid_t)OK(fork());
    if (child == 0) {
        if (fork() == 0)
            _exit(0);
        _exit(0);
    }
    wait_for(child);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

static void mark(const char *what) {
    char byte;
    struct statfs memory;
    OK(statfs("/dev/shm", &memory));
    printf("%s %s %ld %ld\n", running, what, (long)(memory.f_blocks - memory.f_bfree) * 4,
           (long)(memory.f_files - memory.f_ffree));
    fflush(stdout);
    if (read(STDIN_FILENO, &byte, 1) != 1)
        exit(1);
}

int main(int count, char **arguments) {
    long cycles = count > 1 ? atol(arguments[1]) : 0;
    if (cycles == 0)
        return 0;
    alarm(300); // Longest that all kinds together may take.
    mkdir("/tmp/kinds", 0700);
    OK(chdir("/tmp/kinds"));
    for (struct kind *kind = kinds; kind < kinds + kinds_made; kind++) {
        if (count > 2 && strcmp(arguments[2], kind->name) != 0)
            continue;
        running = kind->name;
        long own = cycles / kind->share, i = 0;
        while (i < own / 2)
            kind->cycle(i++);
        mark("before");
        while (i < own / 2 + own)
            kind->cycle(i++);
        mark("after");
    }
    return 0;
}
