// What if processes fork inside signal handlers, and stop, continue and kill each other as fast as they can?
#include "hostile.h"
#include <sys/time.h>

enum { PROCESSES = 12 };

static volatile int depth;
static void fork_in_handler(int number) {
    (void)number;
    if (depth > 2)
        return;
    depth++;
    if (fork() == 0) {
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
    depth--;
}

static void forks(long unused) {
    (void)unused;
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_NODEFER};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGCHLD, &action, NULL);
    struct itimerval often = {{0, 500}, {0, 500}};
    setitimer(ITIMER_REAL, &often, NULL);
    double start = seconds_now();
    while (seconds_now() - start < 2)
        getppid();
    _exit(0);
}

// Everybody stops, continues and kills everybody: those who die are replaced.
static void storm(long unused) {
    (void)unused;
    pid_t pids[PROCESSES] = {0};
    uint64_t seed = random_start();
    double start = seconds_now();
    while (seconds_now() - start < 2) {
        uint64_t value = random_next(&seed);
        int at = (int)(value % PROCESSES);
        if (pids[at] <= 0) {
            pids[at] = fork();
            if (pids[at] == 0) {
                pthread_t thread;
                pthread_create(&thread, NULL, (void *(*)(void *))(void *)pause, NULL);
                for (;;) {
                    kill(getpid(), SIGSTOP);
                    munmap(mmap(NULL, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE);
                    if (fork() == 0)
                        _exit(0);
                }
            }
            continue;
        }
        static const int numbers[] = {SIGSTOP, SIGCONT, SIGCONT, SIGTSTP, SIGTTIN, SIGCONT, SIGKILL, SIGUSR2};
        kill(pids[at], numbers[(value >> 8) % 8]);
        if (waitpid(pids[at], NULL, WNOHANG) == pids[at])
            pids[at] = 0;
    }
    for (int at = 0; at < PROCESSES; at++) {
        if (pids[at] <= 0)
            continue;
        kill(pids[at], SIGSTOP);
        kill(pids[at], SIGKILL);
        waitpid(pids[at], NULL, 0);
    }
    _exit(0);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    for (int round = 0; round < 3 && is_time_left(); round++) {
        progress("forks in handlers, wait status", in_child(forks, 0));
        progress("stop and kill storm, wait status", in_child(storm, 0));
    }
    return 0;
}
