// What if mounts are stacked and nested without end, and symbolic links lead on and on?
#include "hostile.h"
#include <sys/mount.h>

static char directory[] = "/tmp/mounts.XXXXXX";

static void mounts(long how) {
    char path[4096];
    long made = 0;
    snprintf(path, sizeof path, "%s/a", directory);
    mkdir(path, 0755);
    for (double start = seconds_now(); made < 20000 && seconds_now() - start < 2; made++) {
        if (how == 0 && mount(directory, path, NULL, MS_BIND | MS_REC, NULL) == -1)
            break;
        if (how == 1 && mount("none", path, "tmpfs", 0, "size=4k") == -1)
            break;
        if (how == 2) {
            if (mount("none", path, "tmpfs", 0, NULL) == -1 || strlen(path) > sizeof path - 8)
                break;
            strcat(path, "/a");
            mkdir(path, 0755);
        }
    }
    close(open(path, O_RDONLY));
    for (long at = 0; at < made + 1; at++)
        umount2(path, MNT_DETACH);
    umount2(directory, MNT_DETACH);
}

static void links(long length) {
    char name[64], target[64];
    for (long at = 0; at < length; at++) {
        snprintf(name, sizeof name, "l%ld", at);
        snprintf(target, sizeof target, "l%ld/../l%ld", (at + 1) % length, (at + 1) % length);
        unlink(name);
        if (symlink(target, name) == -1)
            break;
    }
    struct stat status;
    for (int at = 0; at < 20; at++) {
        close(open("l0", O_RDONLY));
        close(open("l0/l0/l0/l0/l0/l0", O_CREAT | O_RDWR, 0600));
        stat("l0/x", &status);
        rename("l0/x", "l1/y");
    }
    for (long at = 0; at < length; at++) {
        snprintf(name, sizeof name, "l%ld", at);
        unlink(name);
    }
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    if (!mkdtemp(directory) || chdir(directory) == -1)
        return 1;
    for (long how = 0; how < 3; how++)
        progress("mounts, wait status", in_child(mounts, how));
    for (long length = 2; length <= 2000; length *= 10)
        progress("links, wait status", in_child(links, length));
    if (chdir("/") == 0)
        rmdir(directory);
    return 0;
}
