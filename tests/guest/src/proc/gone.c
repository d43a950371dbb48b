// What do files of a process tell that were opened before it was waited for?
#include "../harness.h"

TEST(files_of_a_process_that_is_gone_say_so) {
    static const char *const names[] = {"stat", "status", "cmdline", "maps", "comm", "limits", "statm", "environ", "oom_score",
                                        "oom_score_adj", "wchan", "smaps", "cgroup", "sessionid", "loginuid", "schedstat",
                                        "uid_map", "gid_map", "setgroups"};
    enum { COUNT = sizeof names / sizeof *names };
    int files[COUNT];
    pid_t child = IN_CHILD(pause());
    for (int at = 0; at < COUNT; at++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/%s", child, names[at]);
        files[at] = open(path, O_RDONLY);
    }
    CHECK_OK(kill(child, SIGKILL));
    siginfo_t info;
    // A zombie has them still.
    CHECK_OK(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    char byte;
    CHECK_EQ(pread(files[0], &byte, 1, 0), 1);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    for (int at = 0; at < COUNT; at++)
        row("%s: %d", names[at], files[at] == -1 ? -1 : pread(files[at], &byte, 1, 0) >= 0 ? 0 : errno);
}
