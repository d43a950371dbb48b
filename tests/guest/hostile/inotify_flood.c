// What if a guest watches everything, makes events faster than anybody reads them, and never reads?
#include "hostile.h"
#include <sys/inotify.h>

static void attack(long round) {
    char directory[] = "/tmp/inotify.XXXXXX", name[320];
    if (!mkdtemp(directory) || chdir(directory) == -1)
        _exit(1);
    int watchers[200], made = 0;
    for (; made < 200; made++) {
        watchers[made] = inotify_init1(IN_NONBLOCK);
        if (watchers[made] == -1 || inotify_add_watch(watchers[made], ".", IN_ALL_EVENTS) == -1)
            break;
    }
    memset(name, 'n', sizeof name);
    name[255] = 0;
    long events = 0;
    for (double start = seconds_now(); seconds_now() - start < 2; events++) {
        snprintf(name, 16, "%ld", events % 100);
        if (round == 1)
            name[strlen(name)] = 'n';
        close(open(name, O_CREAT | O_RDWR, 0600));
        unlink(name);
        if (round == 2 && made > 0) {
            int watch = inotify_add_watch(watchers[events % made], ".", IN_ALL_EVENTS | IN_MASK_ADD);
            inotify_rm_watch(watchers[events % made], watch);
        }
    }
    if (chdir("/") == 0)
        rmdir(directory);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    for (long round = 0; round < 3; round++)
        progress("wait status", in_child(attack, round));
    return 0;
}
