// Does a bystander go on while another process of the same sandbox attacks? Starts the hostile program, works with
// files, pipes, memory and children beside it, and goes on after it has ended, however it ended.
#include "hostile.h"

enum { ROUNDS_AFTER = 200, HOSTILE_MAX_S = 60 };

static void fail(const char *what) {
    printf("not ok neighbour: %s: errno %d (%s)\n# neighbour\n", what, errno, strerror(errno));
    fflush(stdout);
    _exit(1);
}

static void work(long round) {
    char path[64], text[32], back[32] = "";
    snprintf(path, sizeof path, "/tmp/neighbour.%d", getpid());
    int length = snprintf(text, sizeof text, "round %ld", round);
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    if (fd == -1 || write(fd, text, length) != length || pread(fd, back, sizeof back, 0) != length)
        fail("file");
    if (strcmp(text, back) || close(fd) == -1 || unlink(path) == -1)
        fail("file content");
    int ends[2];
    if (pipe(ends) == -1 || write(ends[1], text, length) != length || read(ends[0], back, length) != length)
        fail("pipe");
    close(ends[0]);
    close(ends[1]);
    char *memory = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    memset(memory, 1, 64 * PAGE);
    munmap(memory, 64 * PAGE);
}

static void work_with_child(bool may_be_refused) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(7);
    int status = 0;
    if (pid == -1 && may_be_refused)
        return;
    if (pid == -1 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
        fail("child");
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2)
        return 2;
    pid_t hostile = fork();
    if (hostile == 0) {
        setsid();
        execl(argv[1], argv[1], "in-a-sandbox", NULL);
        _exit(127);
    }
    double start = seconds_now();
    long before = 0, after = 0;
    int status = 0;
    pid_t ended;
    while ((ended = waitpid(hostile, &status, WNOHANG)) == 0) {
        work(before++);
        work_with_child(true);
        if (seconds_now() - start > HOSTILE_MAX_S) {
            kill(hostile, SIGKILL);
            kill(-hostile, SIGKILL);
        }
        usleep(1000);
    }
    if (ended != hostile)
        fail("wait for the hostile program");
    kill(-hostile, SIGKILL);
    for (; after < ROUNDS_AFTER; after++) {
        work(after);
        work_with_child(after < 20);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        errno = ENOEXEC;
        fail("the hostile program did not start");
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        printf("not ok neighbour: the hostile program got through: exit code %d\n# neighbour\n", WEXITSTATUS(status));
        return 1;
    }
    printf("  hostile program ended with wait status 0x%x; %ld rounds beside it, %ld after\n", status, before, after);
    printf("ok neighbour\n# neighbour\n");
    return 0;
}
