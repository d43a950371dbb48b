// What is asked before memory is locked, mapped, moved or protected, in which order, and what has been done when it is refused half-way?
#include "../harness.h"
#include <sys/prctl.h>
#include <linux/capability.h>
#include <sys/shm.h>

#define PLACE 0x100000000000ul

static char *page(long number) { return (char *)(PLACE + number * GUEST_PAGE); }

static void map(long first, long pages, int protection, int flags, int fd) {
    char *at = mmap(page(first), pages * GUEST_PAGE, protection, MAP_FIXED | flags, fd, 0);
    CHECK_EQ((uintptr_t)at, (uintptr_t)page(first));
}

static void map_private(long first, long pages, int protection) { map(first, pages, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1); }

// The flag is in the `VmFlags` of what is mapped there.
static bool has_flag(long number, const char *flag) {
    char line[512], word[8];
    bool is_there = false, answer = false;
    snprintf(word, sizeof word, " %s ", flag);
    FILE *smaps = fopen("/proc/self/smaps", "re");
    CHECK(smaps != NULL);
    while (fgets(line, sizeof line, smaps)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            is_there = start <= (uintptr_t)page(number) && (uintptr_t)page(number) < end;
        if (is_there && !strncmp(line, "VmFlags:", 8)) {
            line[strcspn(line, "\n")] = ' ';
            answer = strstr(line, word) != NULL;
        }
    }
    fclose(smaps);
    return answer;
}

static void limit_locks(long pages) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    CHECK_OK(syscall(SYS_capget, &header, data));
    data[0].effective &= ~(1u << CAP_IPC_LOCK);
    CHECK_OK(syscall(SYS_capset, &header, data));
    struct rlimit limit;
    CHECK_OK(getrlimit(RLIMIT_MEMLOCK, &limit));
    limit.rlim_cur = pages * GUEST_PAGE;
    CHECK_OK(setrlimit(RLIMIT_MEMLOCK, &limit));
}

static int make_memory(int pages) {
    int fd = CHECK_OK(memfd_create("memory", MFD_ALLOW_SEALING));
    CHECK_OK(ftruncate(fd, pages * GUEST_PAGE));
    for (int at = 0; at < pages; at++)
        CHECK_EQ(pwrite(fd, &at, sizeof at, at * GUEST_PAGE), sizeof at);
    return fd;
}

static int read_only(int fd) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return (int)CHECK_OK(open(path, O_RDONLY));
}

TEST(mlock_locks_up_to_the_first_hole) {
    map_private(0, 2, PROT_READ);
    map_private(3, 1, PROT_READ);
    CHECK_ERR(mlock(page(0), 4 * GUEST_PAGE), ENOMEM);
    CHECK(has_flag(0, "lo") && has_flag(1, "lo") && !has_flag(3, "lo"));
    CHECK_ERR(munlock(page(1), 3 * GUEST_PAGE), ENOMEM);
    CHECK(has_flag(0, "lo") && !has_flag(1, "lo"));
}

TEST(mlock_of_what_nobody_may_touch_is_enomem_and_holds) {
    map_private(0, 2, PROT_NONE);
    CHECK_ERR(mlock(page(0), GUEST_PAGE), ENOMEM);
    CHECK(has_flag(0, "lo") && !has_flag(1, "lo"));
    CHECK_OK(syscall(SYS_mlock2, page(1), GUEST_PAGE, 1));
    CHECK(has_flag(1, "lo") && has_flag(1, "lf"));
    CHECK_OK(munlock(page(0), 2 * GUEST_PAGE));
    CHECK(!has_flag(1, "lo") && !has_flag(1, "lf"));
}

TEST(mlock_counts_what_is_not_mapped_and_nothing_twice) {
    map_private(0, 8, PROT_READ);
    limit_locks(4);
    CHECK_OK(mlock(page(0), 4 * GUEST_PAGE));
    CHECK_OK(mlock(page(1), 3 * GUEST_PAGE));
    CHECK_ERR(mlock(page(3), 2 * GUEST_PAGE), ENOMEM);
    CHECK_OK(munlock(page(0), 4 * GUEST_PAGE));
    CHECK_ERR(mlock(page(7), 5 * GUEST_PAGE), ENOMEM);
    CHECK(!has_flag(7, "lo"));
    CHECK_ERR(mlock(page(7), 4 * GUEST_PAGE), ENOMEM);
    CHECK(has_flag(7, "lo"));
}

TEST(map_locked_is_refused_before_the_file_is_looked_at) {
    int fd = read_only(make_memory(1));
    limit_locks(1);
    CHECK_ERR((long)mmap(NULL, 2 * GUEST_PAGE, PROT_WRITE, MAP_SHARED | MAP_LOCKED, fd, 0), EAGAIN);
    limit_locks(0);
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_WRITE, MAP_SHARED | MAP_LOCKED, fd, 0), EPERM);
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
}

TEST(map_fixed_noreplace_is_refused_before_the_file_is_looked_at) {
    int fd = read_only(make_memory(1));
    map_private(0, 1, PROT_READ);
    CHECK_ERR((long)mmap(page(0), GUEST_PAGE, PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0), EEXIST);
    CHECK_ERR((long)mmap(page(0), GUEST_PAGE, PROT_WRITE, MAP_TYPE | MAP_FIXED_NOREPLACE, fd, 0), EEXIST);
    CHECK_ERR((long)mmap(page(1), GUEST_PAGE, PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0), EACCES);
}

TEST(mlockall_of_the_future_locks_what_is_mapped_later) {
    CHECK_OK(mlockall(MCL_FUTURE | MCL_ONFAULT));
    map_private(0, 1, PROT_READ);
    CHECK(has_flag(0, "lo") && has_flag(0, "lf"));
    CHECK_OK(mlockall(MCL_FUTURE));
    map_private(2, 1, PROT_READ);
    CHECK(has_flag(2, "lo") && !has_flag(2, "lf"));
    unsigned char resident = 0;
    CHECK_OK(mincore(page(2), GUEST_PAGE, &resident));
    CHECK_EQ(resident & 1, 1);
    CHECK_OK(munlockall());
    map_private(4, 1, PROT_READ);
    CHECK(!has_flag(0, "lo") && !has_flag(4, "lo"));
}

TEST(private_writable_files_count_as_data) {
    int fd = make_memory(8);
    char text[4096];
    read_file("/proc/self/status", text, sizeof text);
    unsigned long used = strtoul(strstr(text, "\nVmData:") + 8, NULL, 10) << 10;
    struct rlimit limit = {used + 4 * GUEST_PAGE, RLIM_INFINITY};
    CHECK_OK(setrlimit(RLIMIT_DATA, &limit));
    CHECK_ERR((long)mmap(NULL, 8 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), ENOMEM);
    CHECK_OK((long)mmap(NULL, 8 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    map(0, 8, PROT_READ, MAP_PRIVATE, fd);
    CHECK_ERR(mprotect(page(0), 8 * GUEST_PAGE, PROT_READ | PROT_WRITE), ENOMEM);
    CHECK_OK(mprotect(page(0), 2 * GUEST_PAGE, PROT_READ | PROT_WRITE));
}

TEST(mprotect_changes_what_lies_before_the_one_that_refuses) {
    int fd = read_only(make_memory(1));
    map_private(0, 1, PROT_READ);
    map(1, 1, PROT_READ, MAP_SHARED, fd);
    CHECK_ERR(mprotect(page(0), 2 * GUEST_PAGE, PROT_READ | PROT_WRITE), EACCES);
    *page(0) = 1;
    CHECK(!has_flag(1, "wr"));
    CHECK_ERR(mprotect(page(10), GUEST_PAGE, PROT_READ), ENOMEM);
}

TEST(old_length_0_makes_another_of_what_can_only_be_read) {
    int memory = make_memory(4), fd = read_only(memory);
    map(0, 4, PROT_READ, MAP_SHARED, fd);
    CHECK_OK(syscall(SYS_mremap, page(1), 0, 2 * GUEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page(10)));
    CHECK_EQ(*page(10), 1);
    CHECK_EQ(*page(11), 2);
    char *elsewhere = mremap(page(3), 0, GUEST_PAGE, MREMAP_MAYMOVE);
    CHECK(elsewhere != MAP_FAILED);
    CHECK_EQ(pwrite(memory, "x", 1, 3 * GUEST_PAGE), 1);
    CHECK_EQ(*elsewhere, 'x');
    CHECK_ERR(mprotect(elsewhere, GUEST_PAGE, PROT_READ | PROT_WRITE), EACCES);
    CHECK_ERR((long)mremap(page(0), 0, GUEST_PAGE, 0), ENOMEM);
}

TEST(old_length_0_makes_another_of_what_is_sealed) {
    int fd = make_memory(4);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    map(0, 4, PROT_READ, MAP_SHARED, fd);
    CHECK_OK(syscall(SYS_mremap, page(2), 0, GUEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page(10)));
    CHECK_EQ(*page(10), 2);
    CHECK_ERR(mprotect(page(10), GUEST_PAGE, PROT_READ | PROT_WRITE), EACCES);
}

TEST(old_length_0_makes_another_of_a_segment_that_can_only_be_read) {
    int id = (int)CHECK_OK(shmget(IPC_PRIVATE, 3 * GUEST_PAGE, IPC_CREAT | 0600));
    char *all = shmat(id, NULL, 0);
    CHECK(all != (void *)-1);
    CHECK_EQ((uintptr_t)shmat(id, page(0), SHM_RDONLY), (uintptr_t)page(0));
    CHECK_OK(syscall(SYS_mremap, page(1), 0, GUEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page(10)));
    all[GUEST_PAGE] = 'y';
    CHECK_EQ(*page(10), 'y');
    struct shmid_ds status;
    CHECK_OK(shmctl(id, IPC_STAT, &status));
    CHECK_EQ(status.shm_nattch, 3);
    CHECK_OK(shmctl(id, IPC_RMID, NULL));
}

TEST(old_length_0_of_private_memory_is_einval) {
    int fd = make_memory(2);
    map_private(0, 1, PROT_READ);
    map(2, 1, PROT_READ, MAP_PRIVATE, fd);
    CHECK_ERR((long)mremap(page(0), 0, GUEST_PAGE, MREMAP_MAYMOVE), EINVAL);
    CHECK_ERR((long)mremap(page(2), 0, GUEST_PAGE, MREMAP_MAYMOVE), EINVAL);
}

TEST(lengths_that_wrap_around_are_none) {
    map(0, 2, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1);
    map_private(4, 2, PROT_READ);
    size_t almost = (size_t)-100;
    CHECK_OK(msync(page(0), almost, MS_SYNC));
    CHECK_ERR(madvise(page(0), almost, MADV_NORMAL), EINVAL);
    CHECK_ERR(mprotect(page(0), almost, PROT_READ), ENOMEM);
    CHECK_ERR(munmap(page(0), almost), EINVAL);
    CHECK_ERR((long)mremap(page(4), almost, GUEST_PAGE, MREMAP_MAYMOVE), EINVAL);
    CHECK_OK(syscall(SYS_mremap, page(0), almost, GUEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page(10)));
    CHECK_ERR((long)mremap(page(0), GUEST_PAGE, almost, MREMAP_MAYMOVE), EINVAL);
}

TEST(mremap_shrinks_over_several_mappings) {
    map_private(0, 2, PROT_READ);
    map_private(2, 2, PROT_NONE);
    CHECK_EQ((uintptr_t)mremap(page(0), 4 * GUEST_PAGE, GUEST_PAGE, 0), (uintptr_t)page(0));
    unsigned char resident[4];
    CHECK_OK(mincore(page(0), GUEST_PAGE, resident));
    CHECK_ERR(mincore(page(1), GUEST_PAGE, resident), ENOMEM);
    CHECK_ERR(mincore(page(3), GUEST_PAGE, resident), ENOMEM);
}

TEST(mremap_that_is_refused_leaves_its_target) {
    map_private(0, 1, PROT_READ);
    map_private(10, 2, PROT_READ | PROT_WRITE);
    *page(10) = 5;
    CHECK_ERR(syscall(SYS_mremap, page(0), 2 * GUEST_PAGE, 3 * GUEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page(10)), EFAULT);
    CHECK_EQ(*page(10), 5);
}

TEST(advice_on_order_of_reading_is_told_back) {
    map_private(0, 4, PROT_READ);
    CHECK_OK(madvise(page(1), GUEST_PAGE, MADV_RANDOM));
    CHECK_OK(madvise(page(2), GUEST_PAGE, MADV_SEQUENTIAL));
    CHECK(has_flag(1, "rr") && !has_flag(1, "sr") && !has_flag(0, "rr"));
    CHECK(has_flag(2, "sr") && !has_flag(2, "rr"));
    CHECK_OK(madvise(page(0), 4 * GUEST_PAGE, MADV_NORMAL));
    CHECK(!has_flag(1, "rr") && !has_flag(2, "sr"));
}

TEST(pipe_takes_and_gives_whole_pages_before_a_fault) {
    int ends[2];
    static char buffer[8 * 4096];
    CHECK_OK(pipe2(ends, O_NONBLOCK));
    map_private(0, 2, PROT_READ | PROT_WRITE);
    CHECK_EQ(write(ends[1], page(0) + 1000, 3 * GUEST_PAGE), GUEST_PAGE);
    CHECK_EQ(read(ends[0], buffer, sizeof buffer), GUEST_PAGE);
    CHECK_ERR(write(ends[1], page(1) + 1000, 2 * GUEST_PAGE), EFAULT);
    CHECK_ERR(read(ends[0], buffer, sizeof buffer), EAGAIN);
    CHECK_EQ(write(ends[1], buffer, 3 * GUEST_PAGE), 3 * GUEST_PAGE);
    CHECK_ERR(read(ends[0], page(1) + 1000, 3 * GUEST_PAGE), EFAULT);
    CHECK_EQ(read(ends[0], page(0) + 1000, 3 * GUEST_PAGE), GUEST_PAGE);
    CHECK_EQ(read(ends[0], buffer, sizeof buffer), 2 * GUEST_PAGE);
}

TEST(pipe_keeps_what_a_short_read_could_not_put_down) {
    int ends[2], fd = make_memory(2);
    char buffer[200];
    CHECK_OK(pipe2(ends, O_NONBLOCK));
    map(0, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
    CHECK_OK(ftruncate(fd, GUEST_PAGE));
    memset(buffer, 'k', sizeof buffer);
    CHECK_EQ(write(ends[1], buffer, 100), 100);
    CHECK_ERR(read(ends[0], page(1), 100), EFAULT);
    CHECK_EQ(read(ends[0], buffer, sizeof buffer), 100);
}

TEST(read_into_a_shared_mapping_that_has_grown_beyond_its_memory_is_efault) {
    int ends[2];
    static char buffer[3 * 4096];
    CHECK_OK(pipe2(ends, O_NONBLOCK));
    map(0, 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    CHECK_EQ((uintptr_t)mremap(page(0), GUEST_PAGE, 3 * GUEST_PAGE, 0), (uintptr_t)page(0));
    CHECK_EQ(write(ends[1], buffer, sizeof buffer), sizeof buffer);
    CHECK_ERR(read(ends[0], page(1), GUEST_PAGE), EFAULT);
    CHECK_EQ(read(ends[0], page(0), sizeof buffer), GUEST_PAGE);
    CHECK_EQ(read(ends[0], buffer, sizeof buffer), 2 * GUEST_PAGE);
}

TEST(seal_against_growth_refuses_the_page_that_would_grow) {
    static char buffer[3 * 4096];
    int fd = make_memory(2);
    CHECK_OK(ftruncate(fd, GUEST_PAGE + 1000));
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    CHECK_EQ(pwrite(fd, buffer, sizeof buffer, 0), GUEST_PAGE);
    CHECK_ERR(pwrite(fd, buffer, 2000, GUEST_PAGE), EPERM);
    CHECK_EQ(pwrite(fd, buffer, 1000, GUEST_PAGE), 1000);
}

TEST(locked_memory_that_becomes_writable_comes_in) {
    map_private(0, 1, PROT_NONE);
    CHECK_ERR(mlock(page(0), GUEST_PAGE), ENOMEM);
    unsigned char resident = 0;
    CHECK_OK(mprotect(page(0), GUEST_PAGE, PROT_READ | PROT_WRITE));
    CHECK_OK(mincore(page(0), GUEST_PAGE, &resident));
    CHECK_EQ(resident & 1, 1);
}

TEST(mlock_of_nothing_succeeds_wherever) {
    map_private(0, 1, PROT_NONE);
    CHECK_OK(mlock(page(0), 0));
    CHECK_OK(mlock(page(10), 0));
}

TEST(shmdt_finds_an_attachment_whose_first_page_is_gone) {
    int id = (int)CHECK_OK(shmget(IPC_PRIVATE, 3 * GUEST_PAGE, IPC_CREAT | 0600));
    CHECK_EQ((uintptr_t)shmat(id, page(0), 0), (uintptr_t)page(0));
    map_private(0, 1, PROT_READ);
    CHECK_OK(shmdt(page(0)));
    struct shmid_ds status;
    CHECK_OK(shmctl(id, IPC_STAT, &status));
    CHECK_EQ(status.shm_nattch, 0);
    CHECK_EQ(*page(0), 0);
    CHECK_OK(shmctl(id, IPC_RMID, NULL));
}
