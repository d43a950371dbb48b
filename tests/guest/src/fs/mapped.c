// What does a page of a tmpfs take that is filled through a mapping, and what if there is no room for it?
#include "../harness.h"
#include <linux/futex.h>
#include <setjmp.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/statfs.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

// The file system is of PAGES pages; MUCH does not fit, PAGES does.
enum { PAGES = 64, MUCH = 4096 };

static sigjmp_buf back;
static siginfo_t told;

static void on_fault(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number, (void)context;
    told = *info;
    siglongjmp(back, 1);
}

static void enter(void) {
    CHECK_OK(unshare(CLONE_NEWNS));
    CHECK_OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    CHECK_OK(mkdir("m", 0700));
    CHECK_OK(mount("none", "m", "tmpfs", 0, "size=256k"));
    CHECK_OK(chdir("m"));
    catch_siginfo(SIGBUS, on_fault, SA_NODEFER);
    catch_siginfo(SIGSEGV, on_fault, SA_NODEFER);
}

static long used(void) {
    struct statfs now;
    CHECK_OK(statfs(".", &now));
    CHECK_EQ(now.f_blocks, PAGES);
    return (long)(now.f_blocks - now.f_bfree);
}

static long pages_of(int fd) {
    struct stat now;
    CHECK_OK(fstat(fd, &now));
    return now.st_blocks / 8;
}

static int sparse(const char *name, long pages) {
    int fd = CHECK_OK(open(name, O_CREAT | O_RDWR, 0600));
    CHECK_OK(ftruncate(fd, pages * GUEST_PAGE));
    return fd;
}

static char *map_of(int fd, long pages, int prot, int flags) {
    char *start = mmap(NULL, pages * GUEST_PAGE, prot, flags, fd, 0);
    CHECK(start != MAP_FAILED);
    return start;
}

// 0, or the signal that it was. SIGBUS is BUS_ADRERR, and names the place.
static int store(volatile char *at) {
    if (sigsetjmp(back, 1) == 0) {
        *at = 1;
        return 0;
    }
    CHECK(told.si_addr == at);
    CHECK(told.si_signo != SIGBUS || told.si_code == BUS_ADRERR);
    return told.si_signo;
}

static int load(volatile char *at) {
    if (sigsetjmp(back, 1) == 0) {
        (void)*at;
        return 0;
    }
    CHECK(told.si_addr == at);
    CHECK(told.si_signo != SIGBUS || told.si_code == BUS_ADRERR);
    return told.si_signo;
}

static void fill(const char *name, long pages) {
    int fd = CHECK_OK(open(name, O_CREAT | O_WRONLY | O_TRUNC, 0600));
    for (long page = 0; page < pages; page++) {
        char bytes[GUEST_PAGE];
        memset(bytes, 7, sizeof bytes);
        CHECK_EQ(write(fd, bytes, sizeof bytes), sizeof bytes);
    }
    CHECK_OK(close(fd));
}

static void stores_reach(long mapped, int step) {
    enter();
    int fd = sparse("f", mapped);
    char *start = map_of(fd, mapped, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK_EQ(used(), 0);
    for (long page = 0; page < PAGES; page++) {
        CHECK_EQ(store(start + page * step * GUEST_PAGE + 5), 0);
        CHECK_EQ(pages_of(fd), page + 1);
    }
    CHECK_EQ(used(), PAGES);
    if (mapped > PAGES) {
        CHECK_EQ(store(start + PAGES * step * GUEST_PAGE + 5), SIGBUS);
        CHECK_EQ(load(start + PAGES * step * GUEST_PAGE), SIGBUS);
    }
    CHECK_EQ(store(start), 0);
    CHECK_EQ(pages_of(fd), PAGES);
    char byte = 'x';
    int other = CHECK_OK(open("other", O_CREAT | O_RDWR, 0600));
    CHECK_ERR(write(other, &byte, 1), ENOSPC);
    CHECK_EQ(pread(fd, &byte, 1, 5), 1);
    CHECK_EQ(byte, 1);
}

TEST(stores_fill_a_file_system_that_the_file_fits_into) {
    stores_reach(PAGES, 1);
}

TEST(a_store_beyond_the_size_of_the_file_system_is_a_bus_error) {
    stores_reach(MUCH, 1);
}

TEST(a_store_beyond_the_size_of_the_file_system_is_a_bus_error_wherever_in_the_file) {
    stores_reach(MUCH, 37);
}

TEST(loads_of_holes_fill_them_and_are_a_bus_error_beyond_the_size) {
    enter();
    int fd = sparse("f", MUCH);
    for (int private = 0; private < 2; private++) {
        char *start = map_of(fd, MUCH, PROT_READ, private ? MAP_PRIVATE : MAP_SHARED);
        for (long page = 0; page < PAGES; page++)
            CHECK_EQ(load(start + page * GUEST_PAGE), 0);
        CHECK_EQ(pages_of(fd), PAGES);
        CHECK_EQ(load(start + PAGES * GUEST_PAGE), SIGBUS);
        CHECK_EQ(store(start), SIGSEGV);
        CHECK_OK(munmap(start, MUCH * GUEST_PAGE));
        CHECK_OK(ftruncate(fd, 0));
        CHECK_EQ(used(), 0);
        CHECK_OK(ftruncate(fd, MUCH * GUEST_PAGE));
    }
}

static void room_is_for_whom_comes_first(long mapped) {
    enter();
    int fd = sparse("f", mapped);
    char *start = map_of(fd, mapped, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK_EQ(used(), 0);
    fill("other", PAGES);
    CHECK_EQ(store(start), SIGBUS);
    CHECK_EQ(load(start), SIGBUS);
    CHECK_EQ(used(), PAGES);
    CHECK_OK(truncate("other", (PAGES - 3) * GUEST_PAGE));
    for (long page = 0; page < 3; page++)
        CHECK_EQ(store(start + 2 * page * GUEST_PAGE), 0);
    CHECK_EQ(store(start + 6 * GUEST_PAGE), SIGBUS);
    CHECK_OK(unlink("other"));
    CHECK_EQ(used(), 3);
    CHECK_EQ(store(start + 6 * GUEST_PAGE), 0);
    CHECK_EQ(used(), 4);
}

TEST(what_is_mapped_and_not_touched_is_left_for_others) {
    room_is_for_whom_comes_first(PAGES);
}

TEST(what_is_mapped_and_does_not_fit_is_left_for_others) {
    room_is_for_whom_comes_first(MUCH);
}

TEST(two_mappings_that_fit_one_by_one_share_what_there_is) {
    enter();
    int one = sparse("one", PAGES), two = sparse("two", PAGES);
    char *first = map_of(one, PAGES, PROT_READ | PROT_WRITE, MAP_SHARED);
    char *second = map_of(two, PAGES, PROT_READ | PROT_WRITE, MAP_SHARED);
    for (long page = 0; page < PAGES / 2; page++) {
        CHECK_EQ(store(first + page * GUEST_PAGE), 0);
        CHECK_EQ(store(second + page * GUEST_PAGE), 0);
    }
    CHECK_EQ(store(first + PAGES / 2 * GUEST_PAGE), SIGBUS);
    CHECK_EQ(store(second + PAGES / 2 * GUEST_PAGE), SIGBUS);
    CHECK_OK(munmap(first, PAGES * GUEST_PAGE));
    CHECK_EQ(store(second + PAGES / 2 * GUEST_PAGE), SIGBUS);
    CHECK_OK(close(one));
    CHECK_OK(unlink("one"));
    CHECK_EQ(store(second + PAGES / 2 * GUEST_PAGE), 0);
    CHECK_EQ(used(), PAGES / 2 + 1);
}

// How pages are taken out of a file.
enum { CUT, PUNCH, REMOVE, WAYS };

static void take_out(int way, int fd, char *start, long first, long count) {
    if (way == CUT) {
        struct stat now;
        CHECK_OK(fstat(fd, &now));
        CHECK_OK(ftruncate(fd, first * GUEST_PAGE));
        CHECK_OK(ftruncate(fd, now.st_size));
    } else if (way == PUNCH)
        CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first * GUEST_PAGE, count * GUEST_PAGE));
    else
        CHECK_OK(madvise(start + first * GUEST_PAGE, count * GUEST_PAGE, MADV_REMOVE));
}

static void taken_out(long mapped) {
    enter();
    int fd = sparse("f", mapped);
    char *start = map_of(fd, mapped, PROT_READ | PROT_WRITE, MAP_SHARED);
    for (int way = 0; way < WAYS; way++) {
        for (long page = 0; page < PAGES; page++)
            CHECK_EQ(store(start + page * GUEST_PAGE), 0);
        take_out(way, fd, start, 32, 32);
        CHECK_EQ(pages_of(fd), 32);
        CHECK_EQ(used(), 32);
        fill("other", 32);
        CHECK_EQ(store(start + 32 * GUEST_PAGE), SIGBUS);
        CHECK_EQ(load(start + 40 * GUEST_PAGE), SIGBUS);
        CHECK_EQ(load(start + 31 * GUEST_PAGE), 0);
        CHECK_EQ(start[31 * GUEST_PAGE], 1);
        CHECK_OK(unlink("other"));
        CHECK_EQ(load(start + 40 * GUEST_PAGE), 0);
        CHECK_EQ(start[40 * GUEST_PAGE], 0);
        CHECK_EQ(used(), 33);
        take_out(way, fd, start, 0, 64);
        CHECK_EQ(used(), 0);
    }
}

TEST(pages_that_are_taken_out_need_room_again) {
    taken_out(PAGES);
}

TEST(pages_that_are_taken_out_of_a_large_file_need_room_again) {
    taken_out(MUCH);
}

static void others_see(long mapped) {
    enter();
    int fd = sparse("f", mapped);
    char *start = map_of(fd, mapped, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK_EQ(store(start), 0);
    struct gate has_touched, is_taken;
    gate_init(&has_touched);
    gate_init(&is_taken);
    pid_t heir = IN_CHILD({
        char *own = map_of(fd, mapped, PROT_READ | PROT_WRITE, MAP_SHARED);
        CHECK_EQ(own[0], 1);
        for (long page = 0; page < 8; page++)
            CHECK_EQ(store((page % 2 ? own : start) + page * GUEST_PAGE), 0);
        gate_open(&has_touched);
        gate_wait(&is_taken);
        CHECK_EQ(store(own + 1 * GUEST_PAGE), SIGBUS);
        CHECK_EQ(store(start + 2 * GUEST_PAGE), SIGBUS);
        CHECK_EQ(store(own + 40 * GUEST_PAGE), SIGBUS);
        CHECK_EQ(load(start), 0);
    });
    gate_wait(&has_touched);
    CHECK_EQ(used(), 8);
    CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, GUEST_PAGE, 7 * GUEST_PAGE));
    fill("other", PAGES - 1);
    gate_open(&is_taken);
    CHECK_EXITS(heir, 0);
    CHECK_EQ(used(), PAGES);
}

TEST(pages_are_taken_from_other_processes_as_well) {
    others_see(PAGES);
}

TEST(pages_of_a_large_file_are_taken_from_other_processes_as_well) {
    others_see(MUCH);
}

TEST(a_file_that_grows_beyond_the_file_system_under_a_mapping_is_limited) {
    enter();
    int fd = sparse("f", 4);
    char *start = map_of(fd, MUCH, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK_EQ(store(start + 3 * GUEST_PAGE), 0);
    CHECK_EQ(store(start + 4 * GUEST_PAGE), SIGBUS);
    CHECK_OK(ftruncate(fd, MUCH * GUEST_PAGE));
    for (long page = 4; page < PAGES + 3; page++)
        CHECK_EQ(store(start + page * GUEST_PAGE), 0);
    CHECK_EQ(store(start + (PAGES + 3) * GUEST_PAGE), SIGBUS);
    CHECK_OK(ftruncate(fd, 2 * GUEST_PAGE + 10));
    CHECK_EQ(store(start + 3 * GUEST_PAGE), SIGBUS);
    CHECK_EQ(store(start + 2 * GUEST_PAGE + 100), 0);
    CHECK_EQ(pwrite(fd, "x", 1, (MUCH - 1) * GUEST_PAGE), 1);
    CHECK_EQ(used(), 2);
    for (long page = 3; page < PAGES + 1; page++)
        CHECK_EQ(store(start + page * GUEST_PAGE), 0);
    CHECK_EQ(store(start + (PAGES + 1) * GUEST_PAGE), SIGBUS);
}

TEST(the_rest_of_the_last_page_is_zero_and_behind_it_is_nothing) {
    enter();
    int fd = CHECK_OK(open("f", O_CREAT | O_RDWR, 0600));
    CHECK_EQ(write(fd, "abc", 3), 3);
    char *start = map_of(fd, 3, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK_EQ(start[2], 'c');
    CHECK_EQ(start[3], 0);
    CHECK_EQ(store(start + GUEST_PAGE - 1), 0);
    CHECK_EQ(load(start + GUEST_PAGE), SIGBUS);
    CHECK_OK(ftruncate(fd, 1));
    CHECK_OK(ftruncate(fd, GUEST_PAGE + 1));
    CHECK_EQ(start[0], 'a');
    CHECK_EQ(start[2], 0);
    CHECK_EQ(start[GUEST_PAGE - 1], 0);
    CHECK_EQ(store(start + GUEST_PAGE + 100), 0);
    CHECK_EQ(load(start + 2 * GUEST_PAGE), SIGBUS);
    CHECK_EQ(used(), 2);
}

// Calls that touch pages for the caller. They answer what they answer where there is room, and EFAULT or less than all beyond it.
static void calls(bool is_full) {
    enter();
    int fd = sparse("f", MUCH), pipe_ends[2], zero = CHECK_OK(open("/dev/zero", O_RDONLY));
    char *start = map_of(fd, MUCH, PROT_READ | PROT_WRITE, MAP_SHARED), bytes[2 * GUEST_PAGE];
    memset(bytes, 9, sizeof bytes);
    CHECK_OK(pipe(pipe_ends));
    if (is_full)
        fill("other", PAGES);
    long page = 1;
    char *at = start;
#define NEXT (at = start + 2 * GUEST_PAGE * page++)
#define TOUCHES(call, value, error)                                                                                                        \
    do {                                                                                                                                   \
        NEXT;                                                                                                                              \
        if (is_full)                                                                                                                       \
            CHECK_ERR(call, error);                                                                                                        \
        else                                                                                                                               \
            CHECK_EQ(call, value);                                                                                                         \
        CHECK_EQ(used(), is_full ? PAGES : page - 1);                                                                                      \
    } while (0)
    TOUCHES(read(zero, at, 100), 100, EFAULT);
    TOUCHES(pread(zero, at + 8, 8, 0), 8, EFAULT);
    TOUCHES(write(pipe_ends[1], at, 10), 10, EFAULT);
    struct iovec local = {bytes, 8}, remote = {0};
    TOUCHES((remote = (struct iovec){at, 8}, process_vm_writev(getpid(), &local, 1, &remote, 1, 0)), 8, EFAULT);
    TOUCHES((remote = (struct iovec){at, 8}, process_vm_readv(getpid(), &local, 1, &remote, 1, 0)), 8, EFAULT);
    int memory = CHECK_OK(open("/proc/self/mem", O_RDWR));
    TOUCHES(pwrite(memory, bytes, 8, (off_t)(uintptr_t)at), 8, EIO);
    TOUCHES(pread(memory, bytes, 8, (off_t)(uintptr_t)at), 8, EIO);
    struct stat now;
    TOUCHES(syscall(SYS_newfstatat, AT_FDCWD, "f", at, 0), 0, EFAULT);
    CHECK_OK(fstat(fd, &now));
    TOUCHES(syscall(SYS_uname, at), 0, EFAULT);
    struct timespec brief = {0, 1000};
    TOUCHES(syscall(SYS_nanosleep, at, NULL), 0, EFAULT);
    TOUCHES(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, at, 8), 0, EFAULT);
    TOUCHES(mincore(start, GUEST_PAGE, (unsigned char *)at), 0, EFAULT);
    NEXT;
    CHECK_ERR(syscall(SYS_futex, at, FUTEX_WAIT, 0, &brief, NULL, 0), is_full ? EFAULT : ETIMEDOUT);
    CHECK_EQ(used(), is_full ? PAGES : page - 1);
    // A transfer that comes to a page without room tells how far it came.
    if (!is_full) {
        fill("other", PAGES - used() - 1);
        NEXT;
        CHECK_EQ(read(zero, at, 2 * GUEST_PAGE), GUEST_PAGE);
        CHECK_EQ(used(), PAGES);
        NEXT;
        CHECK_ERR(read(zero, at, 2 * GUEST_PAGE), EFAULT);
    }
}

TEST(calls_fill_pages_as_stores_do) {
    calls(false);
}

TEST(calls_on_a_full_file_system_find_no_page) {
    calls(true);
}

TEST(another_process_fills_pages_of_a_mapping) {
    enter();
    int fd = sparse("f", MUCH);
    char *start = map_of(fd, MUCH, PROT_READ | PROT_WRITE, MAP_SHARED);
    pid_t child = IN_CHILD(pause());
    char bytes[4 * GUEST_PAGE];
    memset(bytes, 3, sizeof bytes);
    struct iovec local = {bytes, sizeof bytes}, remote = {start + GUEST_PAGE, sizeof bytes};
    CHECK_EQ(process_vm_writev(child, &local, 1, &remote, 1, 0), sizeof bytes);
    CHECK_EQ(used(), 4);
    CHECK_EQ(start[4 * GUEST_PAGE + 1], 3);
    fill("other", PAGES - 6);
    remote.iov_base = start + 10 * GUEST_PAGE;
    CHECK_EQ(process_vm_writev(child, &local, 1, &remote, 1, 0), 2 * GUEST_PAGE);
    CHECK_ERR(process_vm_writev(child, &local, 1, &(struct iovec){start, sizeof bytes}, 1, 0), EFAULT);
    CHECK_OK(kill(child, SIGKILL));
    CHECK_KILLED(child, SIGKILL);
}

TEST(pages_are_brought_in_as_far_as_there_is_room) {
    enter();
    int fd = sparse("f", MUCH);
    char *start = map_of(fd, MUCH, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK_OK(madvise(start, 4 * GUEST_PAGE, MADV_POPULATE_WRITE));
    CHECK_EQ(used(), 4);
    CHECK_OK(madvise(start + 4 * GUEST_PAGE, 4 * GUEST_PAGE, MADV_POPULATE_READ));
    CHECK_OK(mlock(start + 8 * GUEST_PAGE, 4 * GUEST_PAGE));
    CHECK_EQ(used(), 12);
    CHECK_OK(munlock(start + 8 * GUEST_PAGE, 4 * GUEST_PAGE));
    fill("other", PAGES - 14);
    CHECK_ERR(madvise(start + 12 * GUEST_PAGE, 8 * GUEST_PAGE, MADV_POPULATE_WRITE), EFAULT);
    CHECK_EQ(used(), PAGES);
    CHECK_ERR(mlock(start + 100 * GUEST_PAGE, GUEST_PAGE), ENOMEM);
    CHECK_OK(unlink("other"));
    CHECK_EQ(used(), 14);
    char *whole = map_of(fd, MUCH, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE);
    CHECK_EQ(used(), PAGES);
    CHECK_EQ(store(whole + (MUCH - 1) * GUEST_PAGE), SIGBUS);
}

TEST(a_mapping_that_is_changed_or_moved_stays_limited) {
    enter();
    int fd = sparse("f", MUCH);
    char *start = map_of(fd, MUCH / 2, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK_EQ(store(start), 0);
    CHECK_EQ(store(start + 2 * GUEST_PAGE), 0);
    CHECK_OK(mprotect(start, 4 * GUEST_PAGE, PROT_READ));
    CHECK_EQ(store(start), SIGSEGV);
    CHECK_EQ(store(start + GUEST_PAGE), SIGSEGV);
    CHECK_EQ(load(start), 0);
    CHECK_EQ(load(start + GUEST_PAGE), 0);
    CHECK_EQ(used(), 3);
    CHECK_OK(mprotect(start, 4 * GUEST_PAGE, PROT_NONE));
    CHECK_EQ(load(start), SIGSEGV);
    CHECK_OK(mprotect(start, 4 * GUEST_PAGE, PROT_READ | PROT_WRITE));
    CHECK_EQ(start[0], 1);
    CHECK_EQ(store(start + 3 * GUEST_PAGE), 0);
    char *moved = mremap(start, MUCH / 2 * GUEST_PAGE, MUCH * GUEST_PAGE, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED);
    CHECK_EQ(moved[2 * GUEST_PAGE], 1);
    CHECK_OK(munmap(moved + 8 * GUEST_PAGE, GUEST_PAGE));
    for (long page = 9; page < 9 + PAGES - 4; page++)
        CHECK_EQ(store(moved + page * GUEST_PAGE), 0);
    CHECK_EQ(store(moved + (MUCH - 1) * GUEST_PAGE), SIGBUS);
    char *part = mremap(moved + 9 * GUEST_PAGE, 4 * GUEST_PAGE, 4 * GUEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moved);
    CHECK(part == moved);
    CHECK_EQ(part[0], 1);
    CHECK_EQ(store(part + 5 * GUEST_PAGE), SIGBUS);
    CHECK_EQ(used(), PAGES);
}

static void *store_many(void *argument) {
    char *start = argument;
    for (long page = 0; page < PAGES / 2; page++)
        start[page * GUEST_PAGE + 9]++;
    return NULL;
}

TEST(threads_fill_the_same_pages_at_once) {
    enter();
    int fd = sparse("f", MUCH);
    char *start = map_of(fd, MUCH, PROT_READ | PROT_WRITE, MAP_SHARED);
    pthread_t threads[4];
    for (int n = 0; n < 4; n++)
        CHECK_EQ(pthread_create(&threads[n], NULL, store_many, start + n / 2 * (PAGES / 2) * GUEST_PAGE), 0);
    for (int n = 0; n < 4; n++)
        CHECK_EQ(pthread_join(threads[n], NULL), 0);
    CHECK_EQ(pages_of(fd), PAGES);
    CHECK_EQ(store(start + PAGES * GUEST_PAGE), SIGBUS);
}

TEST(a_private_mapping_keeps_its_own_bytes_when_the_file_has_no_room) {
    enter();
    int fd = sparse("f", MUCH);
    char *start = map_of(fd, MUCH, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    CHECK_EQ(store(start), 0);
    CHECK_EQ(used(), 1);
    fill("other", PAGES - 1);
    CHECK_EQ(store(start + 1), 0);
    CHECK_EQ(store(start + GUEST_PAGE), SIGBUS);
    char byte;
    CHECK_EQ(pread(fd, &byte, 1, 0), 1);
    CHECK_EQ(byte, 0);
    CHECK_EQ(start[0], 1);
}

// Memory that is in no file system with a size.
TEST(other_shared_memory_has_no_size_but_its_own) {
    int fd = CHECK_OK(memfd_create("m", 0));
    CHECK_OK(ftruncate(fd, MUCH * GUEST_PAGE));
    char *start = map_of(fd, MUCH, PROT_READ | PROT_WRITE, MAP_SHARED);
    catch_siginfo(SIGBUS, on_fault, SA_NODEFER);
    for (long page = 0; page < 2 * PAGES; page++)
        CHECK_EQ(store(start + 2 * page * GUEST_PAGE), 0);
    CHECK_EQ(pages_of(fd), 2 * PAGES);
    CHECK_OK(madvise(start, 2 * PAGES * GUEST_PAGE, MADV_REMOVE));
    CHECK_EQ(pages_of(fd), PAGES);
    CHECK_OK(ftruncate(fd, GUEST_PAGE));
    CHECK_EQ(store(start + GUEST_PAGE), SIGBUS);
    CHECK_EQ(pages_of(fd), 0);
    int id = CHECK_OK(shmget(IPC_PRIVATE, PAGES * GUEST_PAGE - 1, 0600));
    char *segment = shmat(id, NULL, 0);
    CHECK(segment != (void *)-1);
    CHECK_OK(shmctl(id, IPC_RMID, NULL));
    CHECK_EQ(store(segment + PAGES * GUEST_PAGE - 1), 0);
    CHECK_OK(shmdt(segment));
    char *anonymous = mmap(NULL, PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(anonymous != MAP_FAILED);
    char *longer = mremap(anonymous, PAGES * GUEST_PAGE, 2 * PAGES * GUEST_PAGE, MREMAP_MAYMOVE);
    CHECK(longer != MAP_FAILED);
    CHECK_EQ(store(longer + PAGES * GUEST_PAGE - 1), 0);
    CHECK_EQ(store(longer + PAGES * GUEST_PAGE), SIGBUS);
}

// What a file takes after each of these calls.
TEST(blocks_of_a_file_are_those_that_it_takes) {
    enter();
    static const struct { char what; long offset, length; } steps[] = {
        {'k', 0, 8192},    {'w', 0, 100},    {'w', 100, 5000}, {'w', 20000, 1},  {'k', 40000, 9000}, {'w', 45000, 10}, {'t', 41000, 0},
        {'t', 60000, 0},   {'w', 59999, 1},  {'p', 0, 4096},   {'p', 100, 8000}, {'w', 50, 1},       {'t', 1, 0},      {'t', 0, 0},
        {'w', 0, 70000},   {'w', 70000, 50}, {'p', 8192, 100}, {'w', 8192, 1},   {'t', 65536, 0},    {'t', 65537, 0},  {'w', 65536, 1},
        {'k', 0, 100000},  {'t', 65537, 0},  {'t', 65536, 0},  {'f', 0, 80000},  {'w', 79000, 4000}, {'t', 10, 0},     {'f', 30000, 10},
        {'w', 10, 40000},  {'t', 0, 0},      {'k', 4096, 1},   {'w', 0, 1},      {'w', 1, 4095},     {'t', 4096, 0},   {'w', 4095, 2},
        {'p', 0, 1 << 20}, {'w', 3, 3},
    };
    static char bytes[1 << 17];
    memset(bytes, 5, sizeof bytes);
    int fd = CHECK_OK(open("f", O_CREAT | O_RDWR, 0600));
    for (size_t at = 0; at < sizeof steps / sizeof *steps; at++) {
        long offset = steps[at].offset, length = steps[at].length;
        switch (steps[at].what) {
        case 'w': CHECK_EQ(pwrite(fd, bytes, length, offset), length); break;
        case 't': CHECK_OK(ftruncate(fd, offset)); break;
        case 'k': CHECK_OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, length)); break;
        case 'f': CHECK_OK(fallocate(fd, 0, offset, length)); break;
        default: CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
        }
        struct stat now;
        CHECK_OK(fstat(fd, &now));
        CHECK_EQ(used(), now.st_blocks / 8);
        row("step %zu %c %ld %ld: size %ld blocks %ld", at, steps[at].what, offset, length, (long)now.st_size, (long)now.st_blocks);
    }
}

TEST(room_that_was_allocated_before_is_there_when_the_file_system_is_full) {
    enter();
    int fd = CHECK_OK(open("f", O_CREAT | O_RDWR, 0600));
    CHECK_OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 16 * GUEST_PAGE));
    fill("other", PAGES - 16);
    static char bytes[17 * GUEST_PAGE];
    CHECK_EQ(pwrite(fd, bytes, 4 * GUEST_PAGE, 2 * GUEST_PAGE), 4 * GUEST_PAGE);
    CHECK_EQ(pwrite(fd, bytes, 17 * GUEST_PAGE, 0), 16 * GUEST_PAGE);
    CHECK_EQ(pages_of(fd), 16);
    CHECK_OK(ftruncate(fd, 0));
    CHECK_ERR(fallocate(fd, 0, 0, 17 * GUEST_PAGE), ENOSPC);
    CHECK_EQ(pages_of(fd), 0);
    CHECK_OK(fallocate(fd, 0, 0, 8 * GUEST_PAGE));
    CHECK_OK(ftruncate(fd, MUCH * GUEST_PAGE));
    char *start = map_of(fd, MUCH, PROT_READ | PROT_WRITE, MAP_SHARED);
    fill("other", PAGES - 8);
    for (long page = 0; page < 8; page++)
        CHECK_EQ(store(start + page * GUEST_PAGE), 0);
    CHECK_EQ(store(start + 8 * GUEST_PAGE), SIGBUS);
    CHECK_EQ(start[0], 1);
    CHECK_EQ(used(), PAGES);
}
