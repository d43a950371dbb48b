// Who sees a write? Private and shared maps, files, memfd and its seals.
#include "../harness.h"

static char *map_fd(int fd, int flags, int length) {
    char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static int file_with(const char *content) {
    make_file("f", content);
    return (int)CHECK_OK(open("f", O_RDWR | O_CLOEXEC));
}

TEST(private_memory_is_copied_on_write_after_fork) {
    char *at = map_fd(-1, MAP_PRIVATE | MAP_ANONYMOUS, GUEST_PAGE);
    strcpy(at, "parent");
    pid_t pid = IN_CHILD(CHECK_STR(at, "parent"); strcpy(at, "child"));
    CHECK_EXITS(pid, 0);
    CHECK_STR(at, "parent");
}

TEST(parents_write_after_fork_is_invisible_to_the_child) {
    char *at = map_fd(-1, MAP_PRIVATE | MAP_ANONYMOUS, GUEST_PAGE);
    struct gate gate;
    gate_init(&gate);
    strcpy(at, "before");
    pid_t pid = IN_CHILD(gate_wait(&gate); CHECK_STR(at, "before"));
    strcpy(at, "after");
    gate_open(&gate);
    CHECK_EXITS(pid, 0);
}

TEST(shared_anonymous_memory_is_shared_with_the_child) {
    char *at = map_fd(-1, MAP_SHARED | MAP_ANONYMOUS, GUEST_PAGE);
    strcpy(at, "parent");
    pid_t pid = IN_CHILD(CHECK_STR(at, "parent"); strcpy(at, "child"));
    CHECK_EXITS(pid, 0);
    CHECK_STR(at, "child");
}

TEST(shared_anonymous_memory_is_shared_with_the_grandchild) {
    char *at = map_fd(-1, MAP_SHARED | MAP_ANONYMOUS, 4 * GUEST_PAGE);
    pid_t pid = IN_CHILD({
        pid_t inner = IN_CHILD(at[3 * GUEST_PAGE] = 42);
        CHECK_EXITS(inner, 0);
    });
    CHECK_EXITS(pid, 0);
    CHECK_EQ(at[3 * GUEST_PAGE], 42);
}

TEST(private_file_map_write_does_not_reach_the_file) {
    int fd = file_with("content");
    char *at = map_fd(fd, MAP_PRIVATE, GUEST_PAGE);
    at[0] = 'X';
    char text[32];
    read_file("f", text, sizeof text);
    CHECK_STR(text, "content");
    CHECK_STR(at, "Xontent");
}

TEST(shared_file_map_write_is_seen_by_read) {
    int fd = file_with("content");
    char *at = map_fd(fd, MAP_SHARED, GUEST_PAGE);
    at[0] = 'X';
    CHECK_OK(msync(at, GUEST_PAGE, MS_SYNC));
    char text[32];
    read_file("f", text, sizeof text);
    CHECK_STR(text, "Xontent");
}

TEST(write_is_seen_by_a_shared_file_map) {
    int fd = file_with("content");
    char *at = map_fd(fd, MAP_SHARED, GUEST_PAGE);
    CHECK_EQ(pwrite(fd, "Y", 1, 1), 1);
    CHECK_STR(at, "cYntent");
}

TEST(mapping_outlives_its_descriptor_and_its_name) {
    int fd = file_with("still here");
    char *at = map_fd(fd, MAP_SHARED, GUEST_PAGE);
    CHECK_OK(close(fd));
    CHECK_OK(unlink("f"));
    CHECK_STR(at, "still here");
    at[0] = 'S';
}

TEST(rest_of_the_last_page_of_a_file_reads_as_zero) {
    int fd = file_with("abc");
    char *at = map_fd(fd, MAP_SHARED, GUEST_PAGE);
    for (int offset = 3; offset < GUEST_PAGE; offset++)
        CHECK(at[offset] == 0);
}

TEST(file_grown_under_a_mapping_becomes_accessible) {
    int fd = file_with("abc");
    char *at = map_fd(fd, MAP_SHARED, 2 * GUEST_PAGE);
    CHECK_OK(ftruncate(fd, 2 * GUEST_PAGE));
    at[GUEST_PAGE] = 'n';
    char byte;
    CHECK_EQ(pread(fd, &byte, 1, GUEST_PAGE), 1);
    CHECK_EQ(byte, 'n');
}

TEST(two_processes_share_a_mapped_file) {
    int fd = file_with("0000");
    struct gate gate;
    gate_init(&gate);
    pid_t pid = IN_CHILD(char *at = map_fd((int)CHECK_OK(open("f", O_RDWR)), MAP_SHARED, GUEST_PAGE);
                         gate_wait(&gate); CHECK_EQ(at[1], '1'); at[2] = '2');
    char *at = map_fd(fd, MAP_SHARED, GUEST_PAGE);
    at[1] = '1';
    gate_open(&gate);
    CHECK_EXITS(pid, 0);
    CHECK_STR(at, "0120");
}

TEST(msync_checks_its_arguments) {
    char *at = map_fd(file_with("abc"), MAP_SHARED, GUEST_PAGE);
    CHECK_ERR(msync(at + 1, GUEST_PAGE, MS_SYNC), EINVAL);
    CHECK_ERR(msync(at, GUEST_PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    CHECK_OK(msync(at, GUEST_PAGE, MS_ASYNC));
    CHECK_OK(munmap(at, GUEST_PAGE));
    CHECK_ERR(msync(at, GUEST_PAGE, MS_SYNC), ENOMEM);
}

TEST(memfd_is_a_file_without_a_name) {
    int fd = CHECK_OK(memfd_create("thing", MFD_CLOEXEC));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_OK(ftruncate(fd, 100));
    struct stat status;
    CHECK_OK(fstat(fd, &status));
    CHECK_EQ(status.st_size, 100);
    CHECK(S_ISREG(status.st_mode));
    char path[64], target[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK_OK(readlink(path, target, sizeof target - 1));
    CHECK_STR(target, "/memfd:thing (deleted)");
}

TEST(memfd_map_is_shared_through_an_inherited_descriptor) {
    int fd = CHECK_OK(memfd_create("m", 0));
    CHECK_OK(ftruncate(fd, GUEST_PAGE));
    pid_t pid = IN_CHILD(strcpy(map_fd(fd, MAP_SHARED, GUEST_PAGE), "by the child"));
    CHECK_EXITS(pid, 0);
    CHECK_STR(map_fd(fd, MAP_SHARED, GUEST_PAGE), "by the child");
}

TEST(memfd_seals_forbid_write_grow_and_shrink) {
    int fd = CHECK_OK(memfd_create("m", MFD_ALLOW_SEALING));
    CHECK_OK(ftruncate(fd, GUEST_PAGE));
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
    CHECK_ERR(ftruncate(fd, 2 * GUEST_PAGE), EPERM);
    CHECK_ERR(ftruncate(fd, 0), EPERM);
    CHECK_EQ(pwrite(fd, "a", 1, 0), 1);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    CHECK_ERR(pwrite(fd, "a", 1, 0), EPERM);
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EPERM);
    CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE);
}

TEST(memfd_seal_write_with_a_writable_map_is_ebusy) {
    int fd = CHECK_OK(memfd_create("m", MFD_ALLOW_SEALING));
    CHECK_OK(ftruncate(fd, GUEST_PAGE));
    char *at = map_fd(fd, MAP_SHARED, GUEST_PAGE);
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    CHECK_OK(munmap(at, GUEST_PAGE));
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
}

TEST(memfd_without_allow_sealing_is_sealed_against_seals) {
    int fd = CHECK_OK(memfd_create("m", 0));
    CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
    CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
}

TEST(seals_on_an_ordinary_file_are_einval) {
    CHECK_ERR(fcntl(file_with("x"), F_GET_SEALS), EINVAL);
}

TEST(shm_open_segment_is_shared_by_name) {
    char name[64];
    snprintf(name, sizeof name, "/gt-%d", getpid());
    int fd = CHECK_OK(shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600));
    CHECK_OK(ftruncate(fd, GUEST_PAGE));
    pid_t pid = IN_CHILD(int other = CHECK_OK(shm_open(name, O_RDWR, 0));
                         strcpy(map_fd(other, MAP_SHARED, GUEST_PAGE), "shm"));
    CHECK_EXITS(pid, 0);
    CHECK_STR(map_fd(fd, MAP_SHARED, GUEST_PAGE), "shm");
    CHECK_OK(shm_unlink(name));
    CHECK_ERR(shm_open(name, O_RDWR, 0), ENOENT);
}
