// Is what is counted true? Blocks of files in memory, holes and pages written through a mapping among them; what a process has
// read and written; the standard streams as files.
#include "../harness.h"
#include <sys/sendfile.h>
#include <sys/statvfs.h>

static long blocks_of(int fd) {
    struct stat now;
    CHECK_OK(fstat(fd, &now));
    return now.st_blocks;
}

static int new_in_memory(void) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "/dev/shm/counted-%d", getpid());
    int fd = CHECK_OK(open(path, O_RDWR | O_CREAT | O_EXCL, 0600));
    CHECK_OK(unlink(path));
    return fd;
}

TEST(counted_blocks_of_memory_are_pages_that_exist) {
    static const long sizes[] = {100, 8192, 16384, 100000};
    for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) {
        int fd = new_in_memory();
        CHECK_OK(ftruncate(fd, sizes[n]));
        CHECK_EQ(blocks_of(fd), 0);
        CHECK_EQ(pwrite(fd, "x", 1, sizes[n]), 1);
        CHECK_EQ(blocks_of(fd), 8);
        CHECK_EQ(pwrite(fd, "x", 1, 0), 1);
        CHECK_EQ(blocks_of(fd), sizes[n] < GUEST_PAGE ? 8 : 16);
        CHECK_OK(ftruncate(fd, 1));
        CHECK_EQ(blocks_of(fd), 8);
        CHECK_OK(ftruncate(fd, 0));
        CHECK_EQ(blocks_of(fd), 0);
        CHECK_OK(close(fd));
    }
}

TEST(counted_holes_of_a_small_file_in_memory_are_found) {
    int fd = new_in_memory();
    CHECK_EQ(pwrite(fd, "x", 1, 2 * GUEST_PAGE + 5), 1);
    CHECK_EQ(lseek(fd, 0, SEEK_DATA), 2 * GUEST_PAGE);
    CHECK_EQ(lseek(fd, 0, SEEK_HOLE), 0);
    CHECK_EQ(lseek(fd, 2 * GUEST_PAGE, SEEK_HOLE), 2 * GUEST_PAGE + 6);
    CHECK_OK(ftruncate(fd, 4 * GUEST_PAGE));
    CHECK_EQ(lseek(fd, 2 * GUEST_PAGE, SEEK_HOLE), 3 * GUEST_PAGE);
    CHECK_ERR(lseek(fd, 3 * GUEST_PAGE, SEEK_DATA), ENXIO);
    // It grows, and keeps them.
    CHECK_EQ(pwrite(fd, "y", 1, 20 * GUEST_PAGE), 1);
    CHECK_EQ(lseek(fd, 0, SEEK_DATA), 2 * GUEST_PAGE);
    CHECK_EQ(lseek(fd, 3 * GUEST_PAGE, SEEK_DATA), 20 * GUEST_PAGE);
    CHECK_EQ(blocks_of(fd), 16);
    char back;
    CHECK_EQ(pread(fd, &back, 1, 2 * GUEST_PAGE + 5), 1);
    CHECK_EQ(back, 'x');
}

TEST(counted_pages_written_through_a_mapping) {
    int fd = new_in_memory();
    struct statvfs before, after;
    CHECK_OK(statvfs("/dev/shm", &before));
    CHECK_OK(ftruncate(fd, 1000 * GUEST_PAGE));
    char *map = mmap(NULL, 1000 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    CHECK_EQ(blocks_of(fd), 0);
    for (int page = 0; page < 500; page++) map[2 * page * GUEST_PAGE] = 1;
    CHECK_EQ(blocks_of(fd), 500 * 8);
    CHECK_OK(statvfs("/dev/shm", &after));
    CHECK((long)(before.f_bfree - after.f_bfree) >= 400);
    CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100 * GUEST_PAGE));
    CHECK_EQ(blocks_of(fd), 450 * 8);
    CHECK_OK(munmap(map, 1000 * GUEST_PAGE));
    CHECK_OK(close(fd));
    CHECK_OK(statvfs("/dev/shm", &after));
    CHECK(labs((long)(before.f_bfree - after.f_bfree)) <= 100);
}

struct io {
    long long rchar, wchar, syscr, syscw, write_bytes;
};

static struct io io_of(const char *path) {
    char text[1000];
    struct io io;
    read_file(path, text, sizeof text);
    long long read_bytes;
    CHECK_EQ(sscanf(text, "rchar: %lld\nwchar: %lld\nsyscr: %lld\nsyscw: %lld\nread_bytes: %lld\nwrite_bytes: %lld\n",
                    &io.rchar, &io.wchar, &io.syscr, &io.syscw, &read_bytes, &io.write_bytes),
             6);
    return io;
}

static void *write_in_a_thread(void *fd) {
    CHECK_EQ(pwrite(*(int *)fd, "0123456789", 10, 0), 10);
    return NULL;
}

TEST(counted_reads_and_writes) {
    static char bytes[5000];
    struct iovec piece = {bytes, 700};
    off_t from = 0;
    int fd = CHECK_OK(open("f", O_RDWR | O_CREAT, 0600)), out = CHECK_OK(open("out", O_WRONLY | O_CREAT, 0600));
    // Asking costs the same each time.
    struct io first = io_of("/proc/self/io"), base = io_of("/proc/self/io");
    long long asked = base.rchar - first.rchar, asks = base.syscr - first.syscr;
    CHECK(asks > 0);
    CHECK_EQ(write(fd, bytes, 5000), 5000);
    CHECK_EQ(pwritev(fd, &piece, 1, 0), 700);
    CHECK_EQ(pread(fd, bytes, 1000, 0), 1000);
    CHECK_EQ(sendfile(out, fd, &from, 300), 300);
    CHECK_EQ(read(fd, bytes, 10), 0);
    struct io now = io_of("/proc/self/io");
    CHECK_EQ(now.wchar - base.wchar, 5000 + 700 + 300);
    CHECK_EQ(now.syscw - base.syscw, 3);
    CHECK_EQ(now.syscr - base.syscr - asks, 3);
    CHECK(now.rchar - base.rchar - asked - 1300 >= 0 && now.rchar - base.rchar - asked - 1300 < 20);
    CHECK(now.write_bytes > base.write_bytes);
    // A thread that has ended, and a child that has been waited for.
    base = io_of("/proc/self/io");
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, write_in_a_thread, &fd), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EXITS(IN_CHILD(CHECK_EQ(pwrite(fd, bytes, 2000, 0), 2000)), 0);
    now = io_of("/proc/self/io");
    CHECK_EQ(now.wchar - base.wchar, 2010);
    CHECK_EQ(now.syscw - base.syscw, 2);
}

TEST(counted_streams_are_opened_again_by_name) {
    static const char *const names[] = {"/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"};
    for (int stream = 0; stream < 3; stream++) {
        struct stat by_file, by_name;
        CHECK_OK(fstat(stream, &by_file));
        CHECK_OK(stat(names[stream], &by_name));
        CHECK_EQ(by_name.st_ino, by_file.st_ino);
        int fd = CHECK_OK(open(names[stream], (stream == 0 ? O_RDONLY : O_WRONLY) | O_NONBLOCK));
        CHECK_OK(fstat(fd, &by_name));
        CHECK_EQ(by_name.st_ino, by_file.st_ino);
        CHECK_EQ(by_name.st_mode & S_IFMT, by_file.st_mode & S_IFMT);
        // A description of its own: its flags are not the other's.
        CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
        CHECK(!(fcntl(stream, F_GETFL) & O_NONBLOCK));
        CHECK_OK(close(fd));
    }
}
