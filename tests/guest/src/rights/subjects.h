// Who asks? A plain user, another one, root without capabilities, and a user with each capability alone. What they are
// answered is printed as rows, which the runner compares with the host's.
#pragma once
#include "../harness.h"
#include <linux/capability.h>
#include <sys/prctl.h>

enum { USER = 1000, OTHER = 1001, SUBJECTS = 3 + CAP_LAST_CAP + 1 };

// Becomes the subject in this process and says its name; false if this process cannot.
static inline bool become_subject(int subject, char name[16]) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {0}, sets[2];
    uid_t uid = subject == 1 ? OTHER : subject == 2 ? 0 : USER;
    int capability = subject - 3;
    CHECK_OK(syscall(SYS_capget, &header, sets));
    if (capability >= 0 && !(sets[capability / 32].permitted >> (capability % 32) & 1))
        return false;
    if (capability >= 0)
        none[capability / 32].effective = none[capability / 32].permitted = 1u << (capability % 32);
    CHECK_OK(syscall(SYS_setgroups, 0, NULL));
    CHECK_OK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
    CHECK_OK(syscall(SYS_setresgid, uid, uid, uid));
    CHECK_OK(syscall(SYS_setresuid, uid, uid, uid));
    CHECK_OK(syscall(SYS_capset, &header, none));
    CHECK_OK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
    if (capability >= 0)
        snprintf(name, 16, "capability %u", (unsigned)capability % 64);
    else
        strcpy(name, subject == 0 ? "user" : subject == 1 ? "other" : "bare root");
    return true;
}

static char asking[16];

// One answer: the error's name, or what `value` says. What is not there gives rights to nobody: `-` equals anything.
static inline void tell(const char *question, long result, const char *value) {
    int error = errno;
    const char *answer = result == -1 ? strerrorname_np(error) : value;
    row("%s, %s: %s", question, asking, answer ? answer : "?");
}

static inline void tell_if_served(const char *question, long result) {
    bool is_absent = result == -1 && (errno == ENOSYS || errno == ENOENT || errno == EOPNOTSUPP || errno == EAFNOSUPPORT);
    if (is_absent)
        row("%s, %s: -", question, asking);
    else
        tell(question, result, "ok");
}

#define ASK(call)                                                                                  \
    do {                                                                                           \
        errno = 0;                                                                                 \
        tell(#call, (long)(call), "ok");                                                           \
    } while (0)
#define ASK_IF_SERVED(call)                                                                        \
    do {                                                                                           \
        errno = 0;                                                                                 \
        tell_if_served(#call, (long)(call));                                                       \
    } while (0)
