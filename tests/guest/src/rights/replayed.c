// What others' kernels in user space forgot to ask: public faults of 2026 (an audit of gVisor's of June among them), one behaviour each.
// docs/guides/exploited-elsewhere.md has the list.
#include "../harness.h"
#include <grp.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/xattr.h>

// gVisor #13511.
TEST(a_user_makes_no_mount_namespace_by_clone) {
    CHECK_EXITS(IN_CHILD(become_nobody();
                         for (int flag = 0; flag < 2; flag++) {
                             errno = 0;
                             long child = syscall(SYS_clone, (flag ? CLONE_NEWUTS : CLONE_NEWNS) | SIGCHLD, NULL, NULL, NULL, 0);
                             if (child == 0)
                                 _exit(0);
                             CHECK(child == -1 && errno == EPERM);
                         }
                         CHECK_ERR(unshare(CLONE_NEWNS), EPERM)),
                0);
}

// gVisor #14191: segments; the same of the two other kinds.
TEST(objects_of_system_v_are_their_owners_to_remove) {
    int segment = CHECK_OK(shmget(IPC_PRIVATE, GUEST_PAGE, IPC_CREAT | 0666));
    int set = CHECK_OK(semget(IPC_PRIVATE, 1, IPC_CREAT | 0666)), queue = CHECK_OK(msgget(IPC_PRIVATE, IPC_CREAT | 0666));
    CHECK_EXITS(IN_CHILD(become_nobody(); struct shmid_ds status; struct msqid_ds messages; struct semid_ds values;
                         CHECK_OK(shmctl(segment, IPC_STAT, &status)); CHECK_OK(msgctl(queue, IPC_STAT, &messages));
                         CHECK_OK(semctl(set, 0, IPC_STAT, &values));
                         CHECK_ERR(shmctl(segment, IPC_RMID, NULL), EPERM); CHECK_ERR(shmctl(segment, IPC_SET, &status), EPERM);
                         CHECK_ERR(semctl(set, 0, IPC_RMID), EPERM); CHECK_ERR(semctl(set, 0, IPC_SET, &values), EPERM);
                         CHECK_ERR(msgctl(queue, IPC_RMID, NULL), EPERM); CHECK_ERR(msgctl(queue, IPC_SET, &messages), EPERM)),
                0);
    CHECK_OK(shmctl(segment, IPC_RMID, NULL));
    CHECK_OK(semctl(set, 0, IPC_RMID));
    CHECK_OK(msgctl(queue, IPC_RMID, NULL));
}

// gVisor #13513.
TEST(attributes_on_a_read_only_mount_stay) {
    if (unshare(CLONE_NEWNS) != 0)
        return;
    CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    CHECK_OK(mkdir("here", 0755));
    CHECK_OK(mount("none", "here", "tmpfs", 0, NULL));
    make_file("here/file", "x");
    CHECK_OK(setxattr("here/file", "trusted.old", "1", 1, 0));
    int fd = CHECK_OK(open("here/file", O_RDONLY));
    CHECK_OK(mount("none", "here", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
    CHECK_ERR(setxattr("here/file", "trusted.new", "1", 1, 0), EROFS);
    CHECK_ERR(fsetxattr(fd, "trusted.new", "1", 1, 0), EROFS);
    CHECK_ERR(removexattr("here/file", "trusted.old"), EROFS);
    CHECK_ERR(fremovexattr(fd, "trusted.old"), EROFS);
    CHECK_ERR(chmod("here/file", 0700), EROFS);
    CHECK_ERR(fchmod(fd, 0700), EROFS);
    CHECK_ERR(futimens(fd, NULL), EROFS);
    char value;
    CHECK_EQ(getxattr("here/file", "trusted.old", &value, 1), 1);
}

static void tell_ids(const char *what, int result) {
    uid_t real, effective, saved;
    CHECK_OK(getresuid(&real, &effective, &saved));
    row("%s: %d, %u %u %u", what, result == 0 ? 0 : errno, real, effective, saved);
}

// gVisor's audit: setreuid(2) and its kin take only ids that the caller has.
TEST(ids_are_taken_from_those_that_one_has) {
    static const uid_t ids[] = {-1, 1, 2, 3, 4};
    for (size_t real = 0; real < 5; real++)
        for (size_t effective = 0; effective < 5; effective++) {
            pid_t child = IN_CHILD(char what[64]; CHECK_OK(setresuid(1, 2, 3));
                                   sprintf(what, "setreuid %d %d", (int)ids[real], (int)ids[effective]);
                                   tell_ids(what, syscall(SYS_setreuid, ids[real], ids[effective])));
            CHECK_EXITS(child, 0);
            child = IN_CHILD(char what[64]; CHECK_OK(setresgid(1, 2, 3)); CHECK_OK(setresuid(1, 1, 1));
                             sprintf(what, "setregid %d %d", (int)ids[real], (int)ids[effective]);
                             int result = syscall(SYS_setregid, ids[real], ids[effective]) == 0 ? 0 : errno; gid_t a; gid_t b; gid_t c;
                             CHECK_OK(getresgid(&a, &b, &c)); row("%s: %d, %u %u %u", what, result, a, b, c));
            CHECK_EXITS(child, 0);
        }
}

// gVisor's audit: the length of mincore(2) has no bound but the address space.
TEST(lengths_that_reach_beyond_memory_are_refused) {
    char *page = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const unsigned long lengths[] = {1UL << 40, 1UL << 46, 1UL << 47, 1UL << 62, ~0UL, ~0UL - 4095, -(unsigned long)4096};
    for (size_t at = 0; at < sizeof lengths / sizeof *lengths; at++) {
        row("mincore %zu: %d", at, syscall(SYS_mincore, page, lengths[at], page) == 0 ? 0 : errno);
        row("mlock %zu: %d", at, mlock(page, lengths[at]) == 0 ? 0 : errno);
        row("mprotect %zu: %d", at, mprotect(page, lengths[at], PROT_READ) == 0 ? 0 : errno);
        row("msync %zu: %d", at, msync(page, lengths[at], MS_ASYNC) == 0 ? 0 : errno);
        CHECK_OK(mprotect(page, GUEST_PAGE, PROT_READ | PROT_WRITE));
    }
}

// Of asterinas #3518.
TEST(a_root_is_changed_with_the_capability_alone) {
    CHECK_OK(mkdir("root", 0777));
    CHECK_EXITS(IN_CHILD(become_nobody(); CHECK_ERR(chroot("root"), EPERM)), 0);
    CHECK_EXITS(IN_CHILD(CHECK_OK(chroot("root")); CHECK_OK(chdir("/"))), 0);
}
