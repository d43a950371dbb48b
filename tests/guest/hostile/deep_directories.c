// What if a guest nests directories, links and names beyond every length?
#include "hostile.h"

enum { DEPTH = 2000 };

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    char directory[] = "/tmp/deep.XXXXXX", name[256];
    if (!mkdtemp(directory) || chdir(directory) == -1)
        return 1;
    memset(name, 'd', 200);
    name[200] = 0;
    long depth = 0;
    while (depth < DEPTH && mkdir(name, 0755) == 0 && chdir(name) == 0)
        depth++;
    progress("depth", depth);
    static char path[2 << 20];
    if (syscall(SYS_getcwd, path, sizeof path) == -1)
        progress("getcwd says errno", errno);
    if (symlink(".", "s") == 0) {
        for (int at = 0; at < 2000; at++)
            memcpy(path + 2 * at, "s/", 2);
        path[4000] = 0;
        close(open(path, O_RDONLY));
    }
    unlink("s");
    for (; depth > 0; depth--)
        if (chdir("..") == -1 || rmdir(name) == -1)
            break;
    progress("left", depth);
    rmdir(directory);
    return 0;
}
