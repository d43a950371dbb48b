// What if a guest makes threads until it may not, and dies with all of them at work?
#include "hostile.h"

enum { THREADS_MAX = 3000 };

static void *busy(void *argument) {
    (void)argument;
    for (;;) {
        getppid();
        usleep(1000);
    }
    return NULL;
}

static long threads_made;

static void bomb(long count) {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    pthread_t thread;
    while (threads_made < count && pthread_create(&thread, &small, busy, NULL) == 0)
        threads_made++;
    _exit(threads_made == count ? 0 : 1);
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    for (long count = 100; count <= THREADS_MAX; count *= 2) {
        int status = in_child(bomb, count);
        progress("threads tried", count);
        progress("wait status", status);
    }
    return 0;
}
