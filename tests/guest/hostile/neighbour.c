// Does a bystander go on while another process of the same sandbox attacks? Starts the hostile program, works with
// files, pipes, memory and children beside it, looks at the attacker as `ps` does, and goes on after it has ended, however it
// ended. Says every few seconds that it lives: a silent neighbour hangs.
#include "hostile.h"
#include <dirent.h>

enum { ROUNDS_AFTER = 200, HOSTILE_MAX_S = 45, HEARTBEAT_S = 5 };
// A round takes milliseconds; this long it takes only if somebody else's doing holds it up.
enum { ROUND_MAX_S = 15 };

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

// Reading about a process needs locks of that process: the attacker must not be able to keep them.
static void look_at(pid_t pid) {
    static const char *const names[] = {"stat", "status", "maps", "statm", "cmdline"};
    static char bytes[65536];
    char path[64];
    for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, names[at]);
        int fd = open(path, O_RDONLY);
        if (fd == -1)
            continue;
        while (read(fd, bytes, sizeof bytes) > 0)
            continue;
        close(fd);
    }
}

// A few at a time: a bomb has hundreds of processes.
enum { LOOKS = 6 };
static void look_at_some(long skipped) {
    DIR *all = opendir("/proc");
    if (!all)
        fail("/proc");
    int looks = 0;
    for (struct dirent *entry; looks < LOOKS && (entry = readdir(all));)
        if (atoi(entry->d_name) > 0 && (skipped-- <= 0 || atoi(entry->d_name) < 8)) {
            look_at(atoi(entry->d_name));
            looks++;
        }
    closedir(all);
}

// The clock of one round: how long was the longest, and was it too long?
static double longest, round_start, heartbeat;

static void begin_round(void) { round_start = seconds_now(); }

static void end_round(const char *what, long rounds) {
    double now = seconds_now();
    if (now - round_start > longest)
        longest = now - round_start;
    if (longest > ROUND_MAX_S) {
        printf("not ok neighbour: held up for %.1f s (%s)\n# neighbour\n", longest, what);
        _exit(1);
    }
    if (now - heartbeat > HEARTBEAT_S) {
        printf("  neighbour lives: %ld rounds %s, the longest took %.3f s\n", rounds, what, longest);
        heartbeat = now;
    }
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

static void heard(int number) { (void)number; }

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2)
        return 2;
    // It is the init of a container whose orphans signal their parent, and one that obeys signals. A handler ends with exec.
    signal(SIGUSR1, heard);
    pid_t hostile = fork();
    if (hostile == 0) {
        setsid();
        execl(argv[1], argv[1], "in-a-sandbox", NULL);
        _exit(127);
    }
    double start = heartbeat = seconds_now();
    long before = 0, after = 0;
    int status = 0;
    pid_t ended;
    while ((ended = waitpid(hostile, &status, WNOHANG)) == 0) {
        begin_round();
        work(before++);
        work_with_child(true);
        if (before % 16 == 0)
            look_at_some(before / 16 % 100);
        end_round("beside it", before);
        if (seconds_now() - start > HOSTILE_MAX_S) {
            kill(hostile, SIGKILL);
            kill(-hostile, SIGKILL);
        }
        usleep(1000);
    }
    double ended_at = seconds_now();
    if (ended != hostile)
        fail("wait for the hostile program");
    kill(-hostile, SIGKILL);
    for (; after < ROUNDS_AFTER; after++) {
        begin_round();
        work(after);
        work_with_child(after < 20);
        end_round("after it", after);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        errno = ENOEXEC;
        fail("the hostile program did not start");
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        printf("not ok neighbour: the hostile program got through: exit code %d\n# neighbour\n", WEXITSTATUS(status));
        return 1;
    }
    printf("  hostile program ended with wait status 0x%x after %.1f s; %ld rounds beside it, %ld after, the longest %.3f s\n",
           status, ended_at - start, before, after, longest);
    printf("ok neighbour\n# neighbour\n");
    return 0;
}
