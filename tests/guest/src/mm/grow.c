// Which areas grow when something below them is touched, how far, and what is below then?
#include "../harness.h"
#include <setjmp.h>

// Far from everything else: an area that grows wants a gap below it.
#define PLACE 0x100000000000ul
#define GAP 256

static sigjmp_buf back;
static siginfo_t caught;

static void jump_back(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    caught = *info;
    siglongjmp(back, 1);
}

static char *page(long number) { return (char *)(PLACE + number * GUEST_PAGE); }

static void map(long first, long pages, int protection, int flags) {
    char *at = mmap(page(first), pages * GUEST_PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0);
    CHECK_EQ((uintptr_t)at, (uintptr_t)page(first));
}

// 0, or the code of the SIGSEGV that came, at this very address.
static int store(long number) {
    catch_siginfo(SIGSEGV, jump_back, 0);
    if (sigsetjmp(back, 1) == 0) {
        *(volatile char *)page(number) = 1;
        return 0;
    }
    CHECK_EQ((uintptr_t)caught.si_addr, (uintptr_t)page(number));
    return caught.si_code;
}

static bool is_mapped(long number) {
    unsigned char resident;
    return mincore(page(number), GUEST_PAGE, &resident) == 0;
}

TEST(area_that_grows_reaches_down_to_what_is_touched) {
    map(1000, 2, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
    CHECK(!is_mapped(999));
    CHECK_EQ(store(990), 0);
    CHECK(is_mapped(990) && is_mapped(999) && !is_mapped(989));
    CHECK_EQ(page(995)[7], 0);
    CHECK_EQ(store(700), 0);
    CHECK(is_mapped(700) && is_mapped(1001));
}

TEST(area_without_the_flag_does_not_grow) {
    map(1000, 2, PROT_READ | PROT_WRITE, MAP_STACK);
    CHECK_EQ(store(999), SEGV_MAPERR);
    CHECK(!is_mapped(999));
}

TEST(area_that_is_not_writable_grows_and_is_not_writable) {
    map(1000, 2, PROT_READ, MAP_GROWSDOWN);
    CHECK_EQ(*(volatile char *)page(998), 0);
    CHECK_EQ(store(990), SEGV_ACCERR);
    CHECK(is_mapped(990));
}

TEST(area_grows_as_far_as_the_stack_limit) {
    struct rlimit limit = {128 * GUEST_PAGE, 128 * GUEST_PAGE};
    map(1000, 2, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
    CHECK_OK(setrlimit(RLIMIT_STACK, &limit));
    CHECK_EQ(store(1002 - 129), SEGV_MAPERR);
    CHECK(!is_mapped(999));
    CHECK_EQ(store(1002 - 128), 0);
}

TEST(area_keeps_its_distance_from_what_is_below) {
    map(100, 1, PROT_READ, 0);
    map(1000, 2, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
    CHECK_EQ(store(101 + GAP - 1), SEGV_MAPERR);
    CHECK_EQ(store(101 + GAP), 0);
    CHECK_EQ(store(101 + GAP - 1), SEGV_MAPERR);
}

TEST(area_grows_up_to_what_nobody_may_touch) {
    map(900, 1, PROT_NONE, 0);
    map(1000, 2, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
    CHECK_EQ(store(901), 0);
    CHECK_EQ(store(900), SEGV_ACCERR);
}

TEST(growth_counts_against_the_limit_of_address_space) {
    map(1000, 2, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
    unsigned long used;
    char text[256];
    read_file("/proc/self/statm", text, sizeof text);
    CHECK_EQ(sscanf(text, "%lu", &used), 1);
    struct rlimit limit = {(used + 10) * GUEST_PAGE, RLIM_INFINITY};
    CHECK_OK(setrlimit(RLIMIT_AS, &limit));
    CHECK_EQ(store(1000 - 11), SEGV_MAPERR);
    CHECK_EQ(store(1000 - 10), 0);
    CHECK_EQ(store(1000 - 11), SEGV_MAPERR);
}

TEST(what_grows_is_never_shared_and_no_files) {
    make_file("file", "some text");
    int fd = CHECK_OK(open("file", O_RDWR));
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0), EINVAL);
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_READ, MAP_PRIVATE | MAP_GROWSDOWN, fd, 0), EINVAL);
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_READ, MAP_SHARED | MAP_GROWSDOWN, fd, 0), EINVAL);
}

TEST(mprotect_reaches_down_to_where_the_area_begins) {
    map(1000, 4, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
    map(2000, 4, PROT_READ | PROT_WRITE, 0);
    CHECK_EQ(store(990), 0);
    CHECK_OK(mprotect(page(1002), GUEST_PAGE, PROT_READ | PROT_GROWSDOWN));
    CHECK_EQ(store(990), SEGV_ACCERR);
    CHECK_EQ(store(1002), SEGV_ACCERR);
    CHECK_EQ(store(1003), 0);
    CHECK_ERR(mprotect(page(2002), GUEST_PAGE, PROT_READ | PROT_GROWSDOWN), EINVAL);
}

TEST(what_has_grown_goes_with_the_rest_to_a_child) {
    map(1000, 2, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
    CHECK_OK(madvise(page(1000), 2 * GUEST_PAGE, MADV_WIPEONFORK));
    map(3000, 2, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
    CHECK_OK(madvise(page(3000), 2 * GUEST_PAGE, MADV_DONTFORK));
    CHECK_EQ(store(990), 0);
    CHECK_EQ(store(2990), 0);
    pid_t child = IN_CHILD({
        CHECK_EQ(*page(990), 0);
        CHECK(!is_mapped(2990) && !is_mapped(3000));
        // Its own grows, too.
        CHECK_EQ(store(980), 0);
    });
    CHECK_EXITS(child, 0);
    CHECK_EQ(*page(990), 1);
    CHECK(!is_mapped(980));
}

static int deep(void *depth) {
    volatile char frame[3000];
    frame[0] = 1;
    long left = (long)depth;
    return left == 0 ? 0 : deep((void *)(left - 1)) + frame[0] - 1;
}

TEST(stack_of_a_thread_may_grow) {
    map(5000, 2, PROT_READ | PROT_WRITE, MAP_GROWSDOWN | MAP_STACK);
    pid_t child = CHECK_OK(clone(deep, page(5002), CLONE_VM | SIGCHLD, (void *)500l));
    CHECK_EXITS(child, 0);
    CHECK(is_mapped(4700));
}

static void *touch_down(void *first) {
    for (long at = 2999 - (long)first; at >= 2400; at -= 4)
        *(volatile char *)page(at) = 1;
    return NULL;
}

TEST(many_threads_make_one_area_grow) {
    map(3000, 2, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
    pthread_t threads[4];
    for (long at = 0; at < 4; at++)
        CHECK_EQ(pthread_create(&threads[at], NULL, touch_down, (void *)at), 0);
    for (int at = 0; at < 4; at++)
        CHECK_EQ(pthread_join(threads[at], NULL), 0);
    for (long at = 2400; at < 3000; at++)
        CHECK_EQ(*page(at), 1);
}
