// What do flags and advice of calls on memory, and commands of System V objects, do? Compared with the host.
#include "../harness.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

enum { MPOL_DEFAULT_, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED_MANY, MPOL_DEFAULT = 0 };
enum { MPOL_F_NODE = 1, MPOL_F_ADDR = 2, MPOL_F_MEMS_ALLOWED = 4, MPOL_MF_STRICT = 1, MPOL_MF_MOVE = 2, MPOL_MF_MOVE_ALL = 4 };
enum { MPOL_F_NUMA_BALANCING = 1 << 13, MPOL_F_RELATIVE_NODES = 1 << 14, MPOL_F_STATIC_NODES = 1 << 15 };

static char *pages(int count) {
    char *place = mmap(NULL, count * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(place != MAP_FAILED);
    return place;
}

// Whether a mapping's line of VmFlags in smaps has a word.
static int has_flag(const void *place, const char *word) {
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[1024];
    int is_there = 0, found = 0;
    unsigned long start, end;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            is_there = start <= (unsigned long)place && (unsigned long)place < end;
        else if (is_there && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, word) != NULL;
    }
    fclose(file);
    return found;
}

static long locked_kib(void) {
    char text[8192], *line;
    read_file("/proc/self/status", text, sizeof text);
    CHECK((line = strstr(text, "VmLck:")) != NULL);
    return atol(line + 6);
}

static int resident(void *place, int count) {
    unsigned char seen[64];
    CHECK_OK(mincore(place, count * GUEST_PAGE, seen));
    int sum = 0;
    for (int at = 0; at < count; at++)
        sum += seen[at] & 1;
    return sum;
}

TEST(flags_of_mappings) {
    make_file("file", "abc");
    int fd = CHECK_OK(open("file", O_RDWR));
    void *low = mmap(NULL, GUEST_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK((unsigned long)low < 1UL << 32);
    char *locked = mmap(NULL, 2 * GUEST_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
    CHECK(locked != MAP_FAILED);
    CHECK_EQ(locked_kib(), 8);
    void *filled = mmap(NULL, 2 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    CHECK_EQ(resident(filled, 2), 2);
    static const struct { const char *name; int flag; } flags[] = {
        {"MAP_STACK", MAP_STACK}, {"MAP_NONBLOCK", MAP_NONBLOCK}, {"MAP_DENYWRITE", MAP_DENYWRITE},
        {"MAP_EXECUTABLE", MAP_EXECUTABLE}, {"MAP_NORESERVE", MAP_NORESERVE}, {"MAP_UNINITIALIZED", 0x4000000},
        {"unknown", (int)0x80000000}, {"MAP_FIXED_NOREPLACE", 0x100000}, {"MAP_HUGE_1GB", 30 << 26},
    };
    for (size_t at = 0; at < sizeof flags / sizeof *flags; at++) {
        void *free_place = pages(1);
        CHECK_OK(munmap(free_place, GUEST_PAGE));
        void *place = mmap(free_place, GUEST_PAGE, PROT_READ, MAP_SHARED_VALIDATE | flags[at].flag, fd, 0);
        row("shared with %s: %d", flags[at].name, place == MAP_FAILED ? errno : 0);
        place = mmap(free_place, GUEST_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | flags[at].flag, -1, 0);
        row("private with %s: %d", flags[at].name, place == MAP_FAILED ? errno : 0);
    }
    CHECK_OK(mprotect(low, GUEST_PAGE, PROT_READ | 8 /* PROT_SEM */));
    CHECK_ERR(mprotect(low, GUEST_PAGE, PROT_READ | 16), EINVAL);
}

TEST(a_moved_mapping_may_leave_its_place_empty) {
    char *from = pages(2);
    from[0] = 'x';
    char *to = mremap(from, 2 * GUEST_PAGE, 2 * GUEST_PAGE, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */, 0);
    CHECK(to != MAP_FAILED && to != from);
    CHECK_EQ(to[0], 'x');
    CHECK_EQ(from[0], 0);
}

TEST(advice_that_changes_a_mapping) {
    static const struct { const char *name; int advice, opposite; const char *flag; } pairs[] = {
        {"MADV_DONTDUMP", MADV_DONTDUMP, MADV_DODUMP, "dd"}, {"MADV_DONTFORK", MADV_DONTFORK, MADV_DOFORK, "dc"},
        {"MADV_WIPEONFORK", MADV_WIPEONFORK, MADV_KEEPONFORK, "wf"},
    };
    for (size_t at = 0; at < sizeof pairs / sizeof *pairs; at++) {
        char *place = pages(2);
        CHECK_OK(madvise(place, GUEST_PAGE, pairs[at].advice));
        CHECK(has_flag(place, pairs[at].flag));
        CHECK_OK(madvise(place, GUEST_PAGE, pairs[at].opposite));
        CHECK(!has_flag(place, pairs[at].flag));
    }
    char *place = pages(2);
    if (madvise(place, GUEST_PAGE, MADV_HUGEPAGE) == 0) {
        CHECK(has_flag(place, "hg"));
        CHECK_OK(madvise(place, GUEST_PAGE, MADV_NOHUGEPAGE));
        CHECK(has_flag(place, "nh") && !has_flag(place, "hg"));
    }
    char *forked = pages(1);
    forked[0] = 'x';
    CHECK_OK(madvise(forked, GUEST_PAGE, MADV_WIPEONFORK));
    CHECK_OK(madvise(forked, GUEST_PAGE, MADV_KEEPONFORK));
    CHECK_EXITS(IN_CHILD(CHECK_EQ(forked[0], 'x')), 0);
    CHECK_OK(madvise(forked, GUEST_PAGE, MADV_DONTFORK));
    CHECK_KILLED(IN_CHILD(signal(SIGSEGV, SIG_DFL); CHECK_EQ(forked[0], 'x')), SIGSEGV);
    CHECK_OK(madvise(forked, GUEST_PAGE, MADV_DOFORK));
    CHECK_EXITS(IN_CHILD(CHECK_EQ(forked[0], 'x')), 0);
}

TEST(advice_that_takes_and_gives_pages) {
    char *place = pages(4);
    CHECK_EQ(resident(place, 4), 0);
    CHECK_OK(madvise(place, GUEST_PAGE, MADV_POPULATE_READ));
    CHECK_OK(madvise(place + GUEST_PAGE, GUEST_PAGE, MADV_POPULATE_WRITE));
    CHECK_EQ(resident(place, 4), 2);
    memset(place, 'x', 4 * GUEST_PAGE);
    CHECK_OK(madvise(place, GUEST_PAGE, MADV_DONTNEED));
    CHECK_EQ(place[0], 0);
    CHECK_OK(mlock(place + GUEST_PAGE, GUEST_PAGE));
    CHECK_ERR(madvise(place + GUEST_PAGE, GUEST_PAGE, MADV_DONTNEED), EINVAL);
    CHECK_OK(madvise(place + GUEST_PAGE, GUEST_PAGE, 24 /* MADV_DONTNEED_LOCKED */));
    CHECK_EQ(place[GUEST_PAGE], 0);
    // Freed pages are as they were, or empty.
    CHECK_OK(madvise(place + 2 * GUEST_PAGE, GUEST_PAGE, MADV_FREE));
    CHECK(place[2 * GUEST_PAGE] == 'x' || place[2 * GUEST_PAGE] == 0);
    char *shared = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared[0] = 'x';
    CHECK_OK(madvise(shared, GUEST_PAGE, MADV_REMOVE));
    CHECK_EQ(shared[0], 0);
    CHECK_OK(msync(shared, GUEST_PAGE, MS_SYNC | MS_INVALIDATE));
}

TEST(locks_of_memory) {
    char *place = pages(4);
    CHECK_OK(syscall(SYS_mlock2, place, 2 * GUEST_PAGE, MLOCK_ONFAULT));
    CHECK_EQ(locked_kib(), 8);
    CHECK_EQ(resident(place, 2), 0);
    CHECK_OK(munlock(place, 2 * GUEST_PAGE));
    CHECK_OK(mlockall(MCL_FUTURE | MCL_ONFAULT));
    char *later = pages(4);
    CHECK_EQ(locked_kib(), 16);
    CHECK_EQ(resident(later, 4), 0);
    CHECK_OK(mlockall(MCL_CURRENT));
    CHECK_EQ(resident(later, 4), 4);
    CHECK(locked_kib() > 16);
    CHECK_OK(munlockall());
    CHECK_EQ(locked_kib(), 0);
}

static void tell_policy(const char *title, void *place, int flags) {
    int mode = -1;
    unsigned long nodes[16] = {0};
    long result = syscall(SYS_get_mempolicy, &mode, nodes, 1024L, place, flags);
    row("%s: %ld %x %lx", title, result == 0 ? 0L : (long)errno, mode, nodes[0]);
}

TEST(memory_policies_are_told_as_they_were_set) {
    unsigned long node = 1;
    static const struct { const char *name; int mode, has_node; } policies[] = {
        {"MPOL_DEFAULT", MPOL_DEFAULT, 0}, {"MPOL_PREFERRED", MPOL_PREFERRED, 1}, {"none preferred", MPOL_PREFERRED, 0},
        {"MPOL_BIND", MPOL_BIND, 1}, {"nowhere", MPOL_BIND, 0}, {"MPOL_INTERLEAVE", MPOL_INTERLEAVE, 1},
        {"MPOL_LOCAL", MPOL_LOCAL, 0}, {"local with a node", MPOL_LOCAL, 1}, {"MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY, 1},
        {"MPOL_F_STATIC_NODES", MPOL_BIND | MPOL_F_STATIC_NODES, 1},
        {"MPOL_F_RELATIVE_NODES", MPOL_INTERLEAVE | MPOL_F_RELATIVE_NODES, 1},
        {"MPOL_F_NUMA_BALANCING", MPOL_BIND | MPOL_F_NUMA_BALANCING, 1},
        {"both", MPOL_BIND | MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES, 1}, {"default with a node", MPOL_DEFAULT, 1},
    };
    static const int binding[] = {0, MPOL_MF_STRICT, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL};
    // A kernel that was made without it answers so, to all of it.
    int has_numa = syscall(SYS_get_mempolicy, NULL, NULL, 0L, NULL, 0) == 0;
    for (size_t at = 0; has_numa && at < sizeof policies / sizeof *policies; at++) {
        unsigned long *mask = policies[at].has_node ? &node : NULL;
        char *place = pages(3);
        long set = syscall(SYS_set_mempolicy, policies[at].mode, mask, mask ? 64L : 0L);
        row("set %s: %d", policies[at].name, set == 0 ? 0 : errno);
        tell_policy(policies[at].name, NULL, 0);
        CHECK_OK(syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0L));
        long bound = syscall(SYS_mbind, place + GUEST_PAGE, GUEST_PAGE, policies[at].mode, mask, mask ? 64L : 0L, binding[at % 4]);
        row("bind %s: %d", policies[at].name, bound == 0 ? 0 : errno);
        tell_policy(policies[at].name, place + GUEST_PAGE, MPOL_F_ADDR);
        tell_policy("beside it", place, MPOL_F_ADDR);
        tell_policy("node of it", place + GUEST_PAGE, MPOL_F_ADDR | MPOL_F_NODE);
    }
    if (has_numa) {
        tell_policy("MPOL_F_MEMS_ALLOWED", NULL, MPOL_F_MEMS_ALLOWED);
        tell_policy("MPOL_F_NODE", NULL, MPOL_F_NODE);
        CHECK_OK(syscall(SYS_set_mempolicy, MPOL_BIND, &node, 64L));
        CHECK_EXITS(IN_CHILD(tell_policy("child", NULL, 0)), 0);
    }
}

TEST(segments_of_system_v) {
    key_t key = 0x5eed0000 + getpid();
    int named = CHECK_OK(shmget(key, 1, IPC_CREAT | IPC_EXCL | 0600));
    CHECK_ERR(shmget(key, 1, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
    CHECK_OK(shmctl(named, IPC_RMID, NULL));
    int id = CHECK_OK(shmget(IPC_PRIVATE, 2 * GUEST_PAGE, IPC_CREAT | SHM_NORESERVE | 0600));
    char *place = shmat(id, NULL, 0), *reader = shmat(id, NULL, SHM_RDONLY);
    CHECK(place != (void *)-1 && reader != (void *)-1);
    place[0] = 'x';
    CHECK_EQ(reader[0], 'x');
    CHECK_KILLED(IN_CHILD(signal(SIGSEGV, SIG_DFL); reader[0] = 'y'), SIGSEGV);
    char *rounded = shmat(id, pages(4) + GUEST_PAGE + 9, SHM_RND | SHM_REMAP);
    CHECK(rounded != (void *)-1 && (unsigned long)rounded % GUEST_PAGE == 0);
    CHECK(shmat(id, NULL, SHM_EXEC) != (void *)-1);
    struct shmid_ds told;
    CHECK_OK(shmctl(id, IPC_STAT, &told));
    row("attached: %lu, mode %o, size %zu", (unsigned long)told.shm_nattch, told.shm_perm.mode, told.shm_segsz);
    told.shm_perm.mode = 0640;
    CHECK_OK(shmctl(id, IPC_SET, &told));
    CHECK_OK(shmctl(id, SHM_LOCK, NULL));
    CHECK_OK(shmctl(id, IPC_STAT, &told));
    row("locked: %o", told.shm_perm.mode);
    CHECK_OK(shmctl(id, SHM_UNLOCK, NULL));
    CHECK_OK(shmctl(id, IPC_STAT, &told));
    row("unlocked: %o", told.shm_perm.mode);
    struct shminfo limits;
    struct shm_info used;
    int highest = CHECK_OK(shmctl(0, IPC_INFO, (void *)&limits));
    CHECK_EQ(CHECK_OK(shmctl(0, SHM_INFO, (void *)&used)), highest);
    int found = 0;
    for (int index = 0; index <= highest; index++)
        found += shmctl(index, SHM_STAT, &told) == id && shmctl(index, 15 /* SHM_STAT_ANY */, &told) == id;
    CHECK_EQ(found, 1);
    CHECK_OK(shmctl(id, IPC_RMID, NULL));
}

TEST(semaphores_of_system_v) {
    int id = CHECK_OK(semget(IPC_PRIVATE, 2, IPC_CREAT | 0600));
    unsigned short values[2] = {3, 4}, told[2];
    struct semid_ds status;
    CHECK_OK(semctl(id, 0, SETALL, values));
    CHECK_OK(semctl(id, 1, SETVAL, 7));
    CHECK_OK(semctl(id, 0, GETALL, told));
    CHECK(told[0] == 3 && told[1] == 7);
    CHECK_EQ(semctl(id, 1, GETVAL), 7);
    CHECK_EQ(semctl(id, 1, GETPID), getpid());
    CHECK_EQ(semctl(id, 0, GETNCNT) + semctl(id, 0, GETZCNT), 0);
    struct sembuf take = {0, -9, IPC_NOWAIT}, give = {0, 2, SEM_UNDO};
    CHECK_ERR(semop(id, &take, 1), EAGAIN);
    CHECK_EXITS(IN_CHILD(CHECK_OK(semop(id, &give, 1)); CHECK_EQ(semctl(id, 0, GETVAL), 5)), 0);
    CHECK_EQ(semctl(id, 0, GETVAL), 3);
    CHECK_EXITS(IN_CHILD(CHECK_OK(semop(id, &give, 1)); CHECK_OK(unshare(CLONE_SYSVSEM)); CHECK_EQ(semctl(id, 0, GETVAL), 3)), 0);
    CHECK_OK(semctl(id, 0, IPC_STAT, &status));
    CHECK_EQ(status.sem_nsems, 2);
    status.sem_perm.mode = 0640;
    CHECK_OK(semctl(id, 0, IPC_SET, &status));
    struct seminfo limits;
    int highest = CHECK_OK(semctl(0, 0, IPC_INFO, &limits));
    CHECK_EQ(CHECK_OK(semctl(0, 0, SEM_INFO, &limits)), highest);
    int found = 0;
    for (int index = 0; index <= highest; index++)
        found += semctl(index, 0, SEM_STAT, &status) == id && semctl(index, 0, 20 /* SEM_STAT_ANY */, &status) == id;
    CHECK_EQ(found, 1);
    CHECK_OK(semctl(id, 0, IPC_RMID));
    CHECK_ERR(semctl(id, 0, IPC_STAT, &status), EINVAL);
}

TEST(messages_of_system_v) {
    struct { long type; char text[8]; } message = {1, "one"}, got;
    int id = CHECK_OK(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
    CHECK_OK(msgsnd(id, &message, 8, IPC_NOWAIT));
    message.type = 2;
    CHECK_OK(msgsnd(id, &message, 8, 0));
    CHECK_ERR(msgrcv(id, &got, 2, 1, IPC_NOWAIT), E2BIG);
    CHECK_EQ(msgrcv(id, &got, 8, 1, MSG_EXCEPT), 8);
    CHECK_EQ(got.type, 2);
    long copied = msgrcv(id, &got, 8, 0, MSG_COPY | IPC_NOWAIT);
    row("MSG_COPY: %ld", copied == -1 ? -(long)errno : copied);
    CHECK_EQ(msgrcv(id, &got, 2, 1, MSG_NOERROR), 2);
    CHECK_ERR(msgrcv(id, &got, 8, 1, IPC_NOWAIT), ENOMSG);
    struct msqid_ds status;
    CHECK_OK(msgctl(id, IPC_STAT, &status));
    CHECK_EQ(status.msg_qnum, 0);
    status.msg_qbytes /= 2;
    CHECK_OK(msgctl(id, IPC_SET, &status));
    struct msginfo limits;
    int highest = CHECK_OK(msgctl(0, IPC_INFO, (void *)&limits));
    CHECK_EQ(CHECK_OK(msgctl(0, MSG_INFO, (void *)&limits)), highest);
    int found = 0;
    for (int index = 0; index <= highest; index++)
        found += msgctl(index, MSG_STAT, &status) == id && msgctl(index, 13 /* MSG_STAT_ANY */, &status) == id;
    CHECK_EQ(found, 1);
    CHECK_OK(msgctl(id, IPC_RMID, NULL));
}
