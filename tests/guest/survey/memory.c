// Flags and advice of calls on memory.
#include "survey.h"
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

enum { PAGE = 4096 };

static void *some_pages(void) {
    return mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

// What has no name is asked as MAP_SHARED_VALIDATE does: with the older types Linux ignores it.
SPACE(mmap, "mmap: flags", BITS, 4, 32, EACH_ALONE) {
    int file = some_file();
    if (ftruncate(file, 4 * PAGE) != 0)
        exit(2);
    void *hint = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (value == MAP_FIXED_NOREPLACE)
        munmap(hint, 4 * PAGE);
    if (value == MAP_SHARED || value == MAP_PRIVATE || value == MAP_SHARED_VALIDATE)
        return mmap(NULL, PAGE, PROT_READ, value, file, 0) != MAP_FAILED;
    if (value == 8) // MAP_DROPPABLE, a type
        return mmap(NULL, PAGE, PROT_READ, value | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
    if (value == MAP_HUGETLB)
        return mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0) !=
               MAP_FAILED;
    // LINUX: MAP_FIXED_NOREPLACE is no flag of MAP_SHARED_VALIDATE.
    bool is_old = value & (MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE | 0x4000000);
    unsigned long flags = value | (is_old ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED_VALIDATE);
    void *got = mmap(hint, PAGE, PROT_READ | PROT_WRITE, flags, is_old ? -1 : file, 0);
    return got != MAP_FAILED;
}

SPACE(mprotect, "mprotect: protection", BITS, 0, 32, EACH_ALONE) {
    void *page = some_pages();
    if (value == PROT_GROWSDOWN) // Only of an area that grows.
        page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
    return TAKES(mprotect(page, PAGE, value));
}

SPACE(mremap, "mremap: flags", BITS, 0, 32, EACH_ALONE) {
    char *pages = some_pages();
    unsigned long flags = value == MREMAP_MAYMOVE ? value : value | MREMAP_MAYMOVE;
    size_t len = value == 4 ? 2 * PAGE : PAGE; // MREMAP_DONTUNMAP keeps the length.
    return mremap(pages, 2 * PAGE, len, flags, pages + 3 * PAGE) != MAP_FAILED;
}

SPACE(madvise, "madvise: advice", NUMBERS, 0, 200, EACH_ALONE) {
    char *pages = some_pages();
    if (value == MADV_REMOVE)
        pages = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(pages, 1, 4 * PAGE);
    if (value == 25) { // MADV_COLLAPSE
        pages = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(pages, 1, 8 << 20);
        return TAKES(madvise(pages, 8 << 20, value));
    }
    return TAKES(madvise(pages, PAGE, value));
}

SPACE(msync, "msync: flags", BITS, 0, 32, TOGETHER) {
    void *page = some_pages();
    bool is_taken = TAKES(msync(page, PAGE, value));
    munmap(page, 4 * PAGE);
    return is_taken;
}

SPACE(mlock2, "mlock2: flags", BITS, 0, 32, EACH_ALONE) { return TAKES(syscall(SYS_mlock2, some_pages(), PAGE, value)); }

SPACE(mlockall, "mlockall: flags", BITS, 0, 32, EACH_ALONE) {
    return TAKES(mlockall(value == MCL_ONFAULT ? value | MCL_FUTURE : value));
}

SPACE(mseal, "mseal: flags", BITS, 0, 64, EACH_ALONE) { return TAKES(syscall(462 /* mseal */, some_pages(), (long)PAGE, value)); }

SPACE(mbind_modes, "set_mempolicy: modes", NUMBERS, 0, 16, EACH_ALONE) {
    unsigned long nodes = 1;
    bool bare = value == 0 || value == 4; // MPOL_DEFAULT, MPOL_LOCAL
    return TAKES(syscall(SYS_set_mempolicy, value, bare ? NULL : &nodes, bare ? 0 : 64));
}

SPACE(mbind_flags, "mbind: flags", BITS, 0, 32, EACH_ALONE) {
    unsigned long nodes = 1;
    return TAKES(syscall(SYS_mbind, some_pages(), (long)PAGE, 2L, &nodes, 64L, value));
}

SPACE(get_mempolicy, "get_mempolicy: flags", BITS, 0, 32, EACH_ALONE) {
    int mode;
    unsigned long nodes[16];
    void *page = value & 2 ? some_pages() : NULL; // MPOL_F_ADDR
    if (value == 4)
        return TAKES(syscall(SYS_get_mempolicy, NULL, nodes, 1024L, NULL, value));
    return TAKES(syscall(SYS_get_mempolicy, &mode, NULL, 0L, page, value));
}

SPACE(shmget, "shmget: flags", NAMED, 0, 0, EACH_ALONE) {
    int id = shmget(IPC_PRIVATE, 2 << 20, IPC_CREAT | 0600 | value);
    shmctl(id, IPC_RMID, NULL);
    return id != -1;
}

SPACE(shmat, "shmat: flags", NAMED, 0, 0, EACH_ALONE) {
    int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
    void *at = value == SHM_REMAP ? some_pages() : NULL;
    void *got = shmat(id, at, value);
    shmctl(id, IPC_RMID, NULL);
    return got != (void *)-1;
}

SPACE(shmctl, "shmctl: commands", NUMBERS, 0, 64, EACH_ALONE) {
    char buffer[512];
    int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
    if (value == IPC_SET)
        shmctl(id, IPC_STAT, (void *)buffer);
    bool is_taken = TAKES(syscall(SYS_shmctl, id, value, buffer));
    for (int index = 0; !is_taken && index < 64; index++)
        is_taken = TAKES(syscall(SYS_shmctl, index, value, buffer)); // SHM_STAT names an index.
    shmctl(id, IPC_RMID, NULL);
    return is_taken;
}

SPACE(semctl, "semctl: commands", NUMBERS, 0, 64, EACH_ALONE) {
    static char buffer[512];
    int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    if (value == IPC_SET)
        semctl(id, 0, IPC_STAT, buffer);
    bool is_taken = TAKES(syscall(SYS_semctl, id, 0, value, buffer)) || TAKES(syscall(SYS_semctl, id, 0, value, 0));
    for (int index = 0; !is_taken && index < 64; index++)
        is_taken = TAKES(syscall(SYS_semctl, index, 0, value, buffer));
    semctl(id, 0, IPC_RMID);
    return is_taken;
}

SPACE(semop, "semop: flags", NAMED, 0, 0, EACH_ALONE) {
    int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    struct sembuf operation = {0, 1, value};
    bool is_taken = TAKES(semop(id, &operation, 1));
    semctl(id, 0, IPC_RMID);
    return is_taken;
}

SPACE(msgctl, "msgctl: commands", NUMBERS, 0, 64, EACH_ALONE) {
    char buffer[512];
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    if (value == IPC_SET)
        msgctl(id, IPC_STAT, (void *)buffer);
    bool is_taken = TAKES(syscall(SYS_msgctl, id, value, buffer));
    for (int index = 0; !is_taken && index < 64; index++)
        is_taken = TAKES(syscall(SYS_msgctl, index, value, buffer));
    msgctl(id, IPC_RMID, NULL);
    return is_taken;
}

SPACE(msgrcv, "msgrcv: flags", NAMED, 0, 0, EACH_ALONE) {
    struct {
        long type;
        char text[8];
    } message = {1, "text"};
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    msgsnd(id, &message, sizeof message.text, 0);
    unsigned long flags = value == MSG_COPY ? value | IPC_NOWAIT : value;
    long type = value == MSG_COPY ? 0 : value == MSG_EXCEPT ? 2 : 1;
    size_t room = value == MSG_NOERROR ? 1 : sizeof message.text;
    bool is_taken = TAKES(msgrcv(id, &message, room, type, flags));
    msgctl(id, IPC_RMID, NULL);
    return is_taken;
}
