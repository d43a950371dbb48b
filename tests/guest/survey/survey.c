// Tells of every value of every space whether this kernel takes it: "title: name taken", "title: name refused",
// "title: 0x10 taken"; unnamed values that are refused are not told. See survey.h.
#include "survey.h"
#include <signal.h>
#include <sys/wait.h>

enum { SPACES_MAX = 160, WATCHDOG_S = 20 };

static const struct space *spaces[SPACES_MAX];
static int space_count;

void survey_register(const struct space *space) {
    if (space_count == SPACES_MAX)
        abort();
    spaces[space_count++] = space;
}

int some_file(void) {
    int file = open("survey-file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file == -1) {
        perror("survey-file");
        exit(2);
    }
    return file;
}

int some_directory(void) { return open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

// In a process of its own, since values change the one that tries them. One that is killed has been taken by the call.
static bool taken_alone(const struct space *space, unsigned long value) {
    int end[2];
    if (pipe2(end, O_CLOEXEC) != 0)
        exit(2);
    pid_t child = fork();
    if (child == -1)
        exit(2);
    if (child == 0) {
        setpgid(0, 0);
        signal(SIGALRM, SIG_DFL);
        alarm(WATCHDOG_S);
        char answer = space->try(value) ? 'y' : 'n';
        (void)!write(end[1], &answer, 1);
        _exit(0);
    }
    close(end[1]);
    char answer = 'y';
    ssize_t got = read(end[0], &answer, 1);
    close(end[0]);
    kill(-child, SIGKILL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    if (got != 1)
        fprintf(stderr, "%s: 0x%lx ended the process\n", space->title, value);
    return answer == 'y';
}

static bool taken(const struct space *space, unsigned long value) {
    return space->company == TOGETHER ? space->try(value) : taken_alone(space, value);
}

// A bit that is only known as a part of another value has no name to be missed.
static bool is_named(const struct space *space, unsigned long value) {
    for (size_t at = 0; at < named_count; at++) {
        if (strcmp(named_values[at].title, space->title) != 0)
            continue;
        if (named_values[at].value == value)
            return true;
        if (space->candidates == BITS && (named_values[at].value & value) != 0)
            return true;
    }
    return false;
}

static void survey(const struct space *space) {
    for (size_t at = 0; at < named_count; at++) {
        const struct named *named = &named_values[at];
        if (strcmp(named->title, space->title) == 0)
            printf("%s: %s %s\n", space->title, named->name,
                   taken(space, named->value) ? "taken" : "refused");
    }
    if (space->candidates == NAMED)
        return;
    for (unsigned long at = space->first; at < space->end; at++) {
        unsigned long value = space->candidates == BITS ? 1UL << at : at;
        if (!is_named(space, value) && taken(space, value))
            printf("%s: 0x%lx taken\n", space->title, value);
    }
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2 || argc > 3 || chdir(argv[1]) != 0) {
        fprintf(stderr, "usage: survey DIRECTORY [TITLE]\n");
        return 2;
    }
    for (int at = 0; at < space_count; at++) {
        if (argc == 3 && strstr(spaces[at]->title, argv[2]) == NULL)
            continue;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            survey(spaces[at]);
            fflush(stdout);
            _exit(0);
        }
        int status = 1;
        if (waitpid(child, &status, 0) != child || status != 0)
            printf("%s: the survey broke, status 0x%x\n", spaces[at]->title, status);
        printf("%s: surveyed\n", spaces[at]->title);
    }
    printf("# done\n");
    return 0;
}
