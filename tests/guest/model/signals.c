// Random sequences of fork, kill, setpgid, setsid, stops and waits, as a transcript that is the same wherever Linux is.
//
//   signals WHERE DIRECTORY FIRST COUNT STEPS
//
// WHERE and DIRECTORY mean nothing here. A coordinator makes every choice; up to WORKERS processes do one step at a time. After each step
// it waits until nobody runs and no signal is on its way; then it prints the call, its result, and of every process the state, group,
// session, parent, what waits, and how often its handlers have run. Processes are named by their place, not by their number.
#include "model.h"
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 7, HANDLED = 3 };

enum call { FORK, EXIT, SETPGID, SETSID, KILL, BLOCK, ACTION, WAIT, DEATH_SIGNAL, SUBREAPER, CALLS };

// What a worker is asked for, and what it answers.
struct order {
    int call, n[3];
};
struct answer {
    long result;
    int error, n[2];
};

// What all processes see: handlers' counts by place.
static struct {
    volatile int heard[WORKERS][65];
} *shared;

static int ends[WORKERS][2]; // [0] the coordinator's
static pid_t pids[WORKERS];  // 0: free, or has been waited for
static int me;

static const int sent[] = {SIGUSR1, SIGUSR1, SIGHUP,  SIGTERM, SIGSTOP, SIGSTOP, SIGTSTP, SIGTTIN, SIGUSR1,
                           SIGCONT, SIGCONT, SIGCONT, SIGKILL, SIGCHLD, 0,       34, SIGPIPE, SIGALRM};

static int any_signal(void) { return sent[dice(sizeof sent / sizeof *sent)]; }

// In every other sequence parents may ignore SIGCHLD: there no group is killed, for who of it ends first would be seen.
static bool may_ignore_children;

static int group_signal(void) {
    static const int harmless[] = {0, SIGSTOP, SIGCONT, SIGCHLD, SIGTSTP, SIGTTIN};
    return may_ignore_children ? harmless[dice(sizeof harmless / sizeof *harmless)] : any_signal();
}

static void hear(int signal_number) { shared->heard[me][signal_number]++; }

static void act(int signal_number, int how) {
    struct sigaction action = {.sa_handler = how == 0 ? SIG_DFL : how == 1 ? SIG_IGN : hear, .sa_flags = SA_RESTART};
    if (how == 3)
        action.sa_flags |= SA_NOCLDSTOP;
    if (how == 4)
        action.sa_flags |= SA_NOCLDWAIT;
    sigaction(signal_number, &action, NULL);
}

static int place_of(pid_t pid) {
    for (int at = 0; at < WORKERS; at++)
        if (pids[at] == pid && pid)
            return at;
    return -1;
}

static struct answer serve(const struct order *order);

static void work(int place) {
    me = place;
    struct order order;
    for (;;) {
        ssize_t got = recv(ends[me][1], &order, sizeof order, 0);
        if (got == -1 && errno == EINTR)
            continue;
        if (got != sizeof order)
            _exit(99);
        errno = 0;
        struct answer answer = serve(&order);
        while (send(ends[me][1], &answer, sizeof answer, MSG_NOSIGNAL) == -1 && errno == EINTR)
            ;
    }
}

// `n` are pids: the coordinator alone knows places.
static struct answer serve(const struct order *order) {
    struct answer answer = {0};
    sigset_t set;
    switch (order->call) {
    case FORK:
        answer.result = fork();
        if (answer.result == 0)
            work(order->n[0]);
        break;
    case EXIT:
        _exit(order->n[0]);
    case SETPGID:
        answer.result = setpgid(order->n[0], order->n[1]);
        break;
    case SETSID:
        answer.result = setsid() == -1 ? -1 : 0;
        break;
    case KILL:
        answer.result = kill(order->n[0], order->n[1]);
        break;
    case BLOCK:
        sigemptyset(&set);
        sigaddset(&set, order->n[0]);
        answer.result = sigprocmask(order->n[1] ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
        break;
    case ACTION:
        act(order->n[0], order->n[1]);
        break;
    case WAIT: {
        int status = 0;
        answer.result = waitpid(order->n[0], &status, order->n[1] | WNOHANG);
        answer.n[0] = status;
        break;
    }
    case DEATH_SIGNAL:
        answer.result = prctl(PR_SET_PDEATHSIG, order->n[0]);
        break;
    default:
        answer.result = prctl(PR_SET_CHILD_SUBREAPER, order->n[0]);
    }
    answer.error = errno;
    return answer;
}

struct seen {
    char state;
    pid_t parent, group, session;
    uint64_t waits, blocked;
};

static bool look(pid_t pid, struct seen *seen) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    if (fd == -1)
        return false;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0)
        return false;
    text[got] = 0;
    char *at = strrchr(text, ')');
    if (!at || sscanf(at + 2, "%c %d %d %d", &seen->state, &seen->parent, &seen->group, &seen->session) != 4)
        return false;
    seen->waits = seen->blocked = 0;
    if (seen->state == 'Z')
        return true;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    fd = open(path, O_RDONLY);
    if (fd == -1)
        return false;
    got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0)
        return false;
    text[got] = 0;
    unsigned long long own = 0, common = 0, blocked = 0;
    if ((at = strstr(text, "\nSigPnd:")))
        sscanf(at, "\nSigPnd: %llx ShdPnd: %llx SigBlk: %llx", &own, &common, &blocked);
    seen->waits = own | common;
    seen->blocked = blocked;
    return true;
}

// Until nobody runs and nothing is on its way, twice in a row. What a stopped process has waiting, waits.
static void settle(void) {
    struct timespec moment = {0, 300000};
    for (int calm = 0; calm < 2;) {
        bool busy = false;
        for (int at = 0; at < WORKERS; at++) {
            struct seen seen;
            if (!pids[at] || !look(pids[at], &seen))
                continue;
            busy |= seen.state != 'S' && seen.state != 'T' && seen.state != 'Z';
            busy |= seen.state == 'S' && (seen.waits & ~seen.blocked);
        }
        calm = busy ? 0 : calm + 1;
        nanosleep(&moment, NULL);
    }
}

static void show(void) {
    for (int at = 0; at < WORKERS; at++) {
        struct seen seen;
        if (!pids[at] || !look(pids[at], &seen))
            continue;
        printf(" | %d %c parent %d group %d session %d", at, seen.state, place_of(seen.parent), place_of(seen.group),
               place_of(seen.session));
        if (seen.waits)
            printf(" waits %llx", (unsigned long long)seen.waits);
        // What the dying have heard depends on who was first.
        for (int signal_number = 1; signal_number < 65 && seen.state != 'Z'; signal_number++)
            if (shared->heard[at][signal_number])
                printf(" heard %d:%d", signal_number, shared->heard[at][signal_number]);
    }
    printf("\n");
}

static void told_status(pid_t pid, int status) {
    int place = place_of(pid);
    printf(" = %d", place);
    if (pid <= 0)
        return;
    if (WIFEXITED(status))
        printf(" exited %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        printf(" killed %d", WTERMSIG(status));
    else if (WIFSTOPPED(status))
        printf(" stopped %d", WSTOPSIG(status));
    else
        printf(" continued");
    if (place != -1 && (WIFEXITED(status) || WIFSIGNALED(status)))
        pids[place] = 0;
}

// Whoever could take an order now; -1: nobody.
static int ready_worker(void) {
    int from = dice(WORKERS);
    for (int at = 0; at < WORKERS; at++) {
        struct seen seen;
        int place = (from + at) % WORKERS;
        if (pids[place] && look(pids[place], &seen) && seen.state == 'S')
            return place;
    }
    return -1;
}

static int any_worker(void) {
    int from = dice(WORKERS);
    for (int at = 0; at < WORKERS; at++)
        if (pids[(from + at) % WORKERS])
            return (from + at) % WORKERS;
    return -1;
}

static bool order_and_hear(int place, struct order order, struct answer *answer) {
    if (send(ends[place][0], &order, sizeof order, MSG_NOSIGNAL) != sizeof order)
        return false;
    for (;;) {
        ssize_t got = recv(ends[place][0], answer, sizeof *answer, MSG_DONTWAIT);
        if (got == sizeof *answer)
            return true;
        struct seen seen;
        // It has stopped or ended itself: its answer is taken when it goes on.
        if (!look(pids[place], &seen) || seen.state == 'Z' || seen.state == 'T')
            return recv(ends[place][0], answer, sizeof *answer, MSG_DONTWAIT) == sizeof *answer;
        struct timespec moment = {0, 100000};
        nanosleep(&moment, NULL);
    }
}

static void drain(int place) {
    struct answer answer;
    while (recv(ends[place][0], &answer, sizeof answer, MSG_DONTWAIT) > 0)
        ;
    struct order order;
    while (recv(ends[place][1], &order, sizeof order, MSG_DONTWAIT) > 0)
        ;
}

static int free_place(void) {
    for (int at = 0; at < WORKERS; at++)
        if (!pids[at])
            return at;
    return -1;
}

static void order_step(int place) {
    struct order order = {.call = dice(4) ? dice(CALLS) : FORK};
    struct answer answer;
    int other = any_worker(), third = any_worker();
    int into = free_place();
    drain(place);
    switch (order.call) {
    case FORK:
        if (into == -1)
            return;
        drain(into);
        memset((void *)shared->heard[into], 0, sizeof shared->heard[into]);
        order.n[0] = into;
        printf("%d: fork %d", place, into);
        break;
    case EXIT:
        if (place == 0 || dice(2))
            return;
        order.n[0] = dice(200);
        printf("%d: exit %d", place, order.n[0]);
        break;
    case SETPGID:
        order.n[0] = dice(2) ? 0 : pids[other];
        order.n[1] = dice(2) ? 0 : pids[third];
        printf("%d: setpgid %d %d", place, order.n[0] ? other : -1, order.n[1] ? third : -1);
        break;
    case SETSID:
        if (dice(2))
            return;
        printf("%d: setsid", place);
        break;
    case KILL:
        order.n[0] = dice(3) ? pids[other] : dice(2) ? -pids[other] : 0;
        order.n[1] = order.n[0] > 0 ? any_signal() : group_signal();
        printf("%d: kill %s%d %d", place, order.n[0] < 0 ? "-" : "", order.n[0] ? other : -1, order.n[1]);
        break;
    case BLOCK:
        order.n[0] = any_signal();
        order.n[1] = dice(2);
        if (!order.n[0])
            return;
        printf("%d: %s %d", place, order.n[1] ? "block" : "unblock", order.n[0]);
        break;
    case ACTION:
        order.n[0] = any_signal();
        order.n[1] = order.n[0] == SIGCHLD && may_ignore_children ? (int)dice(5) : (int)dice(3);
        if (order.n[0] == SIGCHLD && order.n[1] == 1 && !may_ignore_children)
            order.n[1] = 3;
        if (!order.n[0])
            return;
        printf("%d: action %d %d", place, order.n[0], order.n[1]);
        break;
    case WAIT:
        order.n[0] = dice(2) ? -1 : dice(2) ? pids[other] : -pids[other];
        order.n[1] = (dice(2) ? WUNTRACED : 0) | (dice(2) ? WCONTINUED : 0);
        printf("%d: wait %s%d %x", place, order.n[0] < -1 ? "-" : "", order.n[0] == -1 ? -1 : other, order.n[1]);
        break;
    case DEATH_SIGNAL:
        order.n[0] = dice(2) ? any_signal() : SIGUSR1;
        printf("%d: death signal %d", place, order.n[0]);
        break;
    default:
        order.n[0] = dice(2);
        printf("%d: subreaper %d", place, order.n[0]);
    }
    if (!order_and_hear(place, order, &answer)) {
        printf(" = nothing");
        // Whether a fork came about is not known otherwise.
        return;
    }
    if (order.call == WAIT && answer.result > 0) {
        told_status((pid_t)answer.result, answer.n[0]);
    } else if (order.call == FORK && answer.result > 0) {
        pids[into] = (pid_t)answer.result;
        printf(" = a child");
    } else {
        tell_result(answer.result, answer.error);
    }
}

static void own_step(void) {
    int other = any_worker();
    if (dice(3) == 0) {
        int status = 0, flags = WNOHANG | (dice(2) ? WUNTRACED : 0) | (dice(2) ? WCONTINUED : 0);
        printf("wait %x", flags);
        pid_t pid = waitpid(-1, &status, flags);
        if (pid > 0)
            told_status(pid, status);
        else
            tell_result(pid, errno);
        return;
    }
    bool is_group = dice(4) == 0;
    int signal_number = is_group ? group_signal() : any_signal();
    struct seen seen;
    // The coordinator's own group is to be left alone.
    if (is_group && look(pids[other], &seen) && place_of(seen.group) == -1 && seen.group == getpgrp())
        is_group = false;
    printf("kill %s%d %d", is_group ? "-" : "", other, signal_number);
    long result = kill(is_group ? -pids[other] : pids[other], signal_number);
    tell_result(result, errno);
}

// What it leaves that nobody has waited for, whoever's it is.
static void end_all(void) {
    for (int at = 0; at < WORKERS; at++)
        if (pids[at])
            kill(pids[at], SIGKILL);
    while (waitpid(-1, NULL, __WALL) > 0)
        ;
    memset(pids, 0, sizeof pids);
}

// Processes that were reaped without anybody's wait (SIGCHLD ignored) free their places.
static void forget_gone(void) {
    for (int at = 0; at < WORKERS; at++)
        if (pids[at] && kill(pids[at], 0) == -1 && errno == ESRCH)
            pids[at] = 0;
}

// The first of all workers, leader of a session of its own; most of what comes does not end it.
static void begin(void) {
    drain(0);
    memset((void *)shared->heard[0], 0, sizeof shared->heard[0]);
    uint32_t handled = dice(1 << 10);
    pid_t root = fork();
    if (root == 0) {
        static const int signals[] = {SIGUSR1, SIGHUP, SIGTERM, 34, SIGPIPE, SIGALRM, SIGTSTP, SIGCONT};
        for (size_t at = 0; at < sizeof signals / sizeof *signals; at++)
            if (handled >> at & 1 || at < 4)
                act(signals[at], 2);
        setsid();
        work(0);
    }
    pids[0] = root;
    settle();
}

static void sequence(unsigned seed, int steps) {
    printf("== %u\n", seed);
    fflush(stdout);
    begin_dice(seed);
    memset((void *)shared, 0, sizeof *shared);
    may_ignore_children = seed % 2;
    for (int at = 0; at < WORKERS; at++)
        drain(at);
    for (int at = 0; at < steps; at++) {
        if (any_worker() == -1)
            begin();
        int place = dice(3) ? ready_worker() : -1;
        if (place == -1)
            own_step();
        else
            order_step(place);
        settle();
        forget_gone();
        show();
    }
    end_all();
}

int main(int argc, char **argv) {
    if (argc != 6)
        return 2;
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);
    for (int at = 0; at < WORKERS; at++)
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends[at]))
            return 3;
    return run_sequences(argv + 3, sequence);
}
