// What if a guest forks until it may not?
#include "hostile.h"

enum { CHILDREN_MAX = 600 };

static void bomb(long limit) {
    struct rlimit processes = {(rlim_t)limit, (rlim_t)limit};
    setrlimit(RLIMIT_NPROC, &processes);
    drop_root(65532);
    // Every child forks on; the group is killed from outside when the time is up.
    for (int at = 0; at < CHILDREN_MAX; at++)
        fork();
    pause();
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    for (long limit = 50; limit <= 400; limit *= 2) {
        in_child(bomb, limit);
        progress("bomb under a limit of", limit);
    }
    pid_t pids[CHILDREN_MAX];
    long made = 0;
    while (made < CHILDREN_MAX && (pids[made] = fork()) != -1) {
        if (pids[made] == 0) {
            pause();
            _exit(0);
        }
        made++;
    }
    progress("children at once", made);
    for (long at = 0; at < made; at++)
        kill(pids[at], SIGKILL);
    for (long at = 0; at < made; at++)
        waitpid(pids[at], NULL, 0);
    return 0;
}
