// Do bytes arrive whole whatever their number, and how far does a transfer get whose memory is bad? Sizes go over all
// that a sandbox may treat differently, and each several times, for it may learn what a thread is up to.
#include "../harness.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum { ROUNDS = 8, LARGEST = 300000 };
static const int sizes[] = {1, 100, 2048, 2049, 3500, 4096, 5000, 8192, 8193, 20000, 65536, 65537, 70000, LARGEST};
#define SIZES (sizeof sizes / sizeof sizes[0])

static unsigned char byte_at(long at) {
    return (unsigned char)(at * 31 + at / 251);
}

static void fill(unsigned char *bytes, long size, long from) {
    for (long at = 0; at < size; at++) bytes[at] = byte_at(from + at);
}

static void check_bytes(const unsigned char *bytes, long size, long from) {
    for (long at = 0; at < size; at++)
        if (bytes[at] != byte_at(from + at)) guest_fail(__FILE__, __LINE__, "byte %ld of %ld is wrong", at, size);
}

static int file_of(const char *path, long size) {
    unsigned char *bytes = malloc(size);
    fill(bytes, size, 0);
    int fd = CHECK_OK(open(path, O_RDWR | O_CREAT | O_TRUNC, 0600));
    CHECK_EQ(write(fd, bytes, size), size);
    free(bytes);
    return fd;
}

// Ends where `size` bytes of memory end; behind them there is nothing.
static unsigned char *brink(long size) {
    long len = (size + GUEST_PAGE - 1) / GUEST_PAGE * GUEST_PAGE;
    unsigned char *at = mmap(NULL, len + GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    CHECK_OK(munmap(at + len, GUEST_PAGE));
    return at + len - size;
}

static void files_of_all_sizes(const char *path) {
    int fd = file_of(path, LARGEST);
    unsigned char *bytes = malloc(LARGEST + 1);
    for (size_t n = 0; n < SIZES; n++)
        for (int round = 0; round < ROUNDS; round++) {
            long size = sizes[n], from = round * 3;
            long want = size < LARGEST - from ? size : LARGEST - from;
            memset(bytes, 0x5a, LARGEST + 1);
            CHECK_EQ(pread(fd, bytes, size, from), want);
            check_bytes(bytes, want, from);
            CHECK_EQ(bytes[want], 0x5a);
            fill(bytes, size, round);
            CHECK_EQ(pwrite(fd, bytes, size, 0), size);
            memset(bytes, 0, size);
            CHECK_EQ(pread(fd, bytes, size, 0), size);
            check_bytes(bytes, size, round);
            fill(bytes, size, 0);
            CHECK_EQ(pwrite(fd, bytes, size, 0), size);
        }
}

TEST(transfer_of_any_size_is_whole_in_a_file) {
    files_of_all_sizes("f");
}

TEST(transfer_of_any_size_is_whole_in_memory) {
    files_of_all_sizes("/dev/shm/guest-transfer");
    CHECK_OK(unlink("/dev/shm/guest-transfer"));
}

static void read_all(int fd, unsigned char *bytes, long size) {
    for (long done = 0; done < size;) {
        ssize_t n = CHECK_OK(read(fd, bytes + done, size - done));
        CHECK(n > 0);
        done += n;
    }
}

static void through(int in, int out) {
    unsigned char *bytes = malloc(LARGEST);
    pid_t child = IN_CHILD({
        for (size_t n = 0; n < SIZES; n++)
            for (int round = 0; round < ROUNDS; round++) {
                fill(bytes, sizes[n], round);
                CHECK_EQ(write(in, bytes, sizes[n]), sizes[n]);
            }
    });
    for (size_t n = 0; n < SIZES; n++)
        for (int round = 0; round < ROUNDS; round++) {
            read_all(out, bytes, sizes[n]);
            check_bytes(bytes, sizes[n], round);
        }
    CHECK_EXITS(child, 0);
}

TEST(transfer_of_any_size_is_whole_in_a_pipe) {
    int ends[2];
    CHECK_OK(pipe(ends));
    through(ends[1], ends[0]);
}

TEST(transfer_of_any_size_is_whole_in_a_unix_socket) {
    int ends[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    through(ends[1], ends[0]);
}

TEST(transfer_of_any_size_is_whole_in_a_tcp_socket) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0)), client = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_OK(bind(listener, (struct sockaddr *)&address, len));
    CHECK_OK(listen(listener, 1));
    CHECK_OK(getsockname(listener, (struct sockaddr *)&address, &len));
    CHECK_OK(connect(client, (struct sockaddr *)&address, len));
    through(client, (int)CHECK_OK(accept(listener, NULL, NULL)));
}

TEST(transfer_of_datagrams_of_any_size_is_whole) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = CHECK_OK(socket(AF_INET, SOCK_DGRAM, 0));
    CHECK_OK(bind(fd, (struct sockaddr *)&address, len));
    CHECK_OK(getsockname(fd, (struct sockaddr *)&address, &len));
    unsigned char *bytes = malloc(LARGEST);
    for (size_t n = 0; n < SIZES && sizes[n] < 65000; n++)
        for (int round = 0; round < ROUNDS; round++) {
            fill(bytes, sizes[n], round);
            CHECK_EQ(sendto(fd, bytes, sizes[n], 0, (struct sockaddr *)&address, len), sizes[n]);
            memset(bytes, 0, sizes[n]);
            CHECK_EQ(recv(fd, bytes, sizes[n], MSG_PEEK), sizes[n]);
            check_bytes(bytes, sizes[n], round);
            // What does not fit is cut, and told.
            CHECK_EQ(recv(fd, bytes, sizes[n] / 2, MSG_TRUNC), sizes[n]);
        }
}

TEST(read_up_to_an_unmapped_page_stops_there) {
    int fd = file_of("f", LARGEST);
    for (size_t n = 0; n < SIZES; n++)
        for (int round = 0; round < ROUNDS; round++) {
            long size = sizes[n], there = size - size / 3;
            unsigned char *at = brink(there);
            CHECK_EQ(pread(fd, at, size, 7), there < LARGEST - 7 ? there : LARGEST - 7);
            check_bytes(at, there < LARGEST - 7 ? there : LARGEST - 7, 7);
            // The position moves as far as the bytes did.
            CHECK_EQ(lseek(fd, 5, SEEK_SET), 5);
            CHECK_EQ(read(fd, at, size), there);
            CHECK_EQ(lseek(fd, 0, SEEK_CUR), 5 + there);
        }
}

TEST(write_up_to_an_unmapped_page_stops_there) {
    int fd = CHECK_OK(open("f", O_RDWR | O_CREAT, 0600));
    unsigned char *back = malloc(LARGEST);
    for (size_t n = 0; n < SIZES; n++)
        for (int round = 0; round < ROUNDS; round++) {
            long size = sizes[n], there = size - size / 3;
            unsigned char *at = brink(there);
            fill(at, there, round);
            CHECK_OK(ftruncate(fd, 0));
            CHECK_EQ(pwrite(fd, at, size, 0), there);
            CHECK_EQ(pread(fd, back, LARGEST, 0), there);
            check_bytes(back, there, round);
        }
}

TEST(read_into_memory_that_cannot_be_written_is_efault) {
    int fd = file_of("f", LARGEST);
    unsigned char *at = mmap(NULL, LARGEST, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t n = 0; n < SIZES; n++)
        for (int round = 0; round < ROUNDS; round++) {
            CHECK_OK(lseek(fd, 3, SEEK_SET));
            CHECK_ERR(read(fd, at, sizes[n]), EFAULT);
            CHECK_EQ(lseek(fd, 0, SEEK_CUR), 3);
        }
}

TEST(read_into_a_mapping_stops_at_the_end_of_its_file) {
    int fd = file_of("f", LARGEST), flags[] = {MAP_PRIVATE, MAP_SHARED};
    for (int n = 0; n < 2; n++)
        for (int round = 0; round < ROUNDS; round++) {
            int small = file_of("small", 5000);
            unsigned char *at = mmap(NULL, 16 * GUEST_PAGE, PROT_READ | PROT_WRITE, flags[n], small, 0);
            CHECK(at != MAP_FAILED);
            // The file has two pages.
            CHECK_EQ(pread(fd, at + 100, 10000, 0), 2 * GUEST_PAGE - 100);
            check_bytes(at + 100, 2 * GUEST_PAGE - 100, 0);
            CHECK_ERR(pread(fd, at + 2 * GUEST_PAGE, 6000, 0), EFAULT);
            CHECK_ERR(pread(fd, at + 3 * GUEST_PAGE, 10, 0), EFAULT);
            CHECK_OK(munmap(at, 16 * GUEST_PAGE));
        }
}

TEST(readv_stops_at_a_hole) {
    int fd = file_of("f", LARGEST);
    for (int round = 0; round < ROUNDS; round++) {
        unsigned char *first = brink(5000), *last = brink(5000);
        struct iovec pieces[] = {{first, 3000}, {first + 3000, 3000}, {last, 5000}};
        CHECK_EQ(preadv(fd, pieces, 3, 0), 5000);
        check_bytes(first, 5000, 0);
        pieces[1] = (struct iovec){NULL, 0};
        CHECK_EQ(preadv(fd, pieces, 3, 0), 8000);
        check_bytes(last, 5000, 3000);
    }
}

TEST(writev_stops_at_a_hole) {
    int fd = CHECK_OK(open("f", O_RDWR | O_CREAT, 0600));
    unsigned char *back = malloc(LARGEST);
    for (int round = 0; round < ROUNDS; round++) {
        unsigned char *first = brink(5000);
        fill(first, 5000, round);
        struct iovec pieces[] = {{first, 3000}, {first + 3000, 3000}, {first, 1000}};
        CHECK_EQ(pwritev(fd, pieces, 3, 0), 5000);
        CHECK_EQ(pread(fd, back, 5000, 0), 5000);
        check_bytes(back, 5000, round);
    }
}

TEST(writev_of_many_pieces_is_in_order) {
    int counts[] = {1, 2, 63, 64, 65, 200}, lens[] = {1, 30, 33, 1000, 1500};
    int fd = CHECK_OK(open("f", O_RDWR | O_CREAT, 0600));
    unsigned char *bytes = malloc(LARGEST), *back = malloc(LARGEST);
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
        for (size_t l = 0; l < sizeof lens / sizeof lens[0]; l++)
            for (int round = 0; round < ROUNDS; round++) {
                struct iovec pieces[200];
                long total = (long)counts[c] * lens[l];
                fill(bytes, total, round);
                for (int n = 0; n < counts[c]; n++)
                    pieces[n] = (struct iovec){bytes + (long)n * lens[l], lens[l]};
                CHECK_EQ(pwritev(fd, pieces, counts[c], 0), total);
                // The same into pieces from the last to the first.
                for (int n = 0; n < counts[c]; n++)
                    pieces[n] = (struct iovec){back + (long)(counts[c] - 1 - n) * lens[l], lens[l]};
                CHECK_EQ(preadv(fd, pieces, counts[c], 0), total);
                for (int n = 0; n < counts[c]; n++)
                    CHECK(memcmp(pieces[n].iov_base, bytes + (long)n * lens[l], lens[l]) == 0);
            }
}

TEST(vectors_whose_pieces_overlap_are_read_and_written_in_order) {
    int fd = CHECK_OK(open("f", O_RDWR | O_CREAT, 0600));
    for (int round = 0; round < ROUNDS; round++) {
        char bytes[9000], want[9000];
        memset(bytes, 'a', sizeof bytes);
        memcpy(bytes, "0123456789", 10);
        struct iovec pieces[] = {{bytes, 4000}, {bytes, 4000}, {bytes + 5, 5}, {bytes, 10}};
        CHECK_EQ(pwritev(fd, pieces, 4, 0), 8015);
        CHECK_EQ(pread(fd, want, sizeof want, 0), 8015);
        CHECK(memcmp(want, bytes, 4000) == 0 && memcmp(want + 4000, bytes, 4000) == 0);
        CHECK(memcmp(want + 8000, "567890123456789", 15) == 0);
        // Where two pieces lie on one another, the later one wins.
        struct iovec in[] = {{bytes, 5000}, {bytes + 2000, 3000}};
        CHECK_EQ(preadv(fd, in, 2, 0), 8000);
        CHECK(memcmp(bytes, want, 2000) == 0 && memcmp(bytes + 2000, want + 5000, 3000) == 0);
    }
}

TEST(append_of_seventy_kib_is_at_the_end) {
    int fd = CHECK_OK(open("f", O_RDWR | O_CREAT | O_APPEND, 0600));
    enum { SIZE = 70 << 10 };
    unsigned char *bytes = malloc(SIZE);
    for (int round = 0; round < ROUNDS; round++) {
        fill(bytes, SIZE, round);
        CHECK_OK(lseek(fd, 1, SEEK_SET));
        CHECK_EQ(write(fd, bytes, SIZE), SIZE);
        CHECK_EQ(lseek(fd, 0, SEEK_CUR), (round + 1L) * SIZE);
        CHECK_EQ(write(fd, bytes, 0), 0);
        CHECK_EQ(pread(fd, bytes, SIZE, (long)round * SIZE), SIZE);
        check_bytes(bytes, SIZE, round);
    }
}

static int shared_file;

static void *reader(void *argument) {
    long from = (long)argument * 1000;
    unsigned char *bytes = malloc(50000);
    for (int round = 0; round < 150; round++) {
        memset(bytes, 0, 50000);
        CHECK_EQ(pread(shared_file, bytes, 50000, from), 50000);
        check_bytes(bytes, 50000, from);
    }
    free(bytes);
    return NULL;
}

TEST(large_reads_of_several_threads_do_not_mix) {
    shared_file = file_of("f", LARGEST);
    pthread_t threads[4];
    for (long n = 0; n < 4; n++) CHECK_EQ(pthread_create(&threads[n], NULL, reader, (void *)n), 0);
    for (int n = 0; n < 4; n++) pthread_join(threads[n], NULL);
    // Others come after them.
    for (long n = 0; n < 4; n++) CHECK_EQ(pthread_create(&threads[n], NULL, reader, (void *)n), 0);
    for (int n = 0; n < 4; n++) pthread_join(threads[n], NULL);
}

TEST(fork_after_a_large_read_has_its_bytes) {
    int fd = file_of("f", LARGEST);
    unsigned char *bytes = malloc(60000);
    pthread_t thread;
    shared_file = fd;
    CHECK_EQ(pthread_create(&thread, NULL, reader, (void *)1), 0);
    for (int round = 0; round < 12; round++) {
        memset(bytes, 0, 60000);
        CHECK_EQ(pread(fd, bytes, 60000, round), 60000);
        pid_t child = IN_CHILD({
            check_bytes(bytes, 60000, round);
            CHECK_EQ(pread(fd, bytes, 60000, round + 1), 60000);
            check_bytes(bytes, 60000, round + 1);
        });
        CHECK_EXITS(child, 0);
        check_bytes(bytes, 60000, round);
    }
    pthread_join(thread, NULL);
}

static volatile sig_atomic_t alarms;

static void count_alarm(int number __attribute__((unused))) {
    char text[3000];
    // A large result of the handler's own must not disturb that of the call.
    CHECK(readlink("/proc/self/exe", text, sizeof text) > 0);
    alarms++;
}

TEST(signals_do_not_disturb_large_transfers) {
    int fd = file_of("f", LARGEST), ends[2];
    CHECK_OK(pipe(ends));
    catch_signal(SIGALRM, count_alarm, SA_RESTART);
    struct itimerval often = {{0, 700}, {0, 700}}, never = {{0, 0}, {0, 0}};
    CHECK_OK(setitimer(ITIMER_REAL, &often, NULL));
    unsigned char *bytes = malloc(60000);
    for (int round = 0; round < 20000 && (round < 200 || alarms < 50); round++) {
        memset(bytes, 0, 60000);
        CHECK_EQ(pread(fd, bytes, 60000, round % 1000), 60000);
        check_bytes(bytes, 60000, round % 1000);
        CHECK_EQ(write(ends[1], bytes, 60000), 60000);
        memset(bytes, 0, 60000);
        read_all(ends[0], bytes, 60000);
        check_bytes(bytes, 60000, round % 1000);
    }
    CHECK_OK(setitimer(ITIMER_REAL, &never, NULL));
    CHECK(alarms > 0);
}

TEST(write_that_waits_long_for_room_sends_the_right_bytes) {
    int ends[2];
    CHECK_OK(pipe(ends));
    unsigned char *bytes = malloc(60000);
    pid_t child = IN_CHILD({
        for (int round = 0; round < 6; round++) {
            fill(bytes, 60000, round);
            CHECK_EQ(write(ends[1], bytes, 60000), 60000);
        }
    });
    for (int round = 0; round < 6; round++) {
        // Longer than a sandbox may keep copies of what waits.
        sleep_ms(150);
        read_all(ends[0], bytes, 60000);
        check_bytes(bytes, 60000, round);
    }
    CHECK_EXITS(child, 0);
}

TEST(recv_waitall_that_waits_long_gets_the_right_bytes) {
    int ends[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    unsigned char *bytes = malloc(60000);
    pid_t child = IN_CHILD({
        fill(bytes, 60000, 0);
        for (int part = 0; part < 4; part++) {
            CHECK_EQ(write(ends[1], bytes + part * 15000, 15000), 15000);
            sleep_ms(150);
        }
    });
    CHECK_EQ(recv(ends[0], bytes, 60000, MSG_WAITALL), 60000);
    check_bytes(bytes, 60000, 0);
    CHECK_EXITS(child, 0);
}

TEST(read_into_the_stack_below_all_that_was_used) {
    int fd = file_of("f", LARGEST);
    unsigned char bytes[200000];
    CHECK_EQ(pread(fd, bytes, 60000, 0), 60000);
    check_bytes(bytes, 60000, 0);
    CHECK_EQ(pread(fd, bytes + 100000, 5000, 0), 5000);
    check_bytes(bytes + 100000, 5000, 0);
}
