// Is what a process uses counted where Linux counts it? Time in system calls, switches, and what comes to a parent.
#include "../harness.h"
#include <sys/times.h>

static double seconds(struct timeval time) { return time.tv_sec + time.tv_usec / 1e6; }

// Works in the kernel until it has used so much system time; answers how long that took at most.
static void work_in_kernel(double system) {
    static char bytes[1 << 20];
    int zero = CHECK_OK(open("/dev/zero", O_RDONLY));
    struct rusage usage;
    do {
        for (int round = 0; round < 8; round++)
            CHECK_EQ(read(zero, bytes, sizeof bytes), (ssize_t)sizeof bytes);
        CHECK_OK(getrusage(RUSAGE_SELF, &usage));
    } while (seconds(usage.ru_stime) < system);
    CHECK_OK(close(zero));
}

static long stat_field(const char *path, int number) {
    static char text[4096];
    read_file(path, text, sizeof text);
    char *at = strrchr(text, ')');
    at = at ? at + 2 : text;
    for (int field = at == text ? 1 : 3; field < number; field++)
        at = strpbrk(at, " ") + strspn(strpbrk(at, " "), " ");
    return atol(at);
}

TEST(time_in_system_calls_is_the_systems) {
    long before = stat_field("/proc/stat", 4);
    work_in_kernel(0.3);
    struct tms times_used;
    times(&times_used);
    CHECK(times_used.tms_stime >= 29);
    CHECK(stat_field("/proc/self/stat", 15) >= 29);
    CHECK(stat_field("/proc/stat", 4) - before >= 15);
}

TEST(time_in_the_guest_is_the_users) {
    struct rusage before, after;
    CHECK_OK(getrusage(RUSAGE_SELF, &before));
    do {
        be_busy(10000000);
        CHECK_OK(getrusage(RUSAGE_SELF, &after));
    } while (seconds(after.ru_utime) - seconds(before.ru_utime) < 0.3);
    CHECK(seconds(after.ru_stime) - seconds(before.ru_stime) < 0.15);
}

TEST(a_threads_time_in_system_calls_is_its_own) {
    struct rusage thread, process;
    work_in_kernel(0.1);
    CHECK_OK(getrusage(RUSAGE_THREAD, &thread));
    CHECK_OK(getrusage(RUSAGE_SELF, &process));
    CHECK(seconds(thread.ru_stime) >= 0.09);
    CHECK(seconds(thread.ru_stime) <= seconds(process.ru_stime) + 0.01);
}

static void *work_in_thread(void *argument) {
    work_in_kernel(0.2);
    return argument;
}

TEST(what_a_thread_used_stays_its_processs) {
    pthread_t thread;
    struct rusage usage;
    CHECK_EQ(pthread_create(&thread, NULL, work_in_thread, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_OK(getrusage(RUSAGE_SELF, &usage));
    CHECK(seconds(usage.ru_stime) >= 0.19);
}

TEST(what_a_child_used_comes_to_its_parent) {
    struct rusage usage;
    pid_t child = IN_CHILD(work_in_kernel(0.2));
    int status;
    CHECK_EQ(wait4(child, &status, 0, &usage), child);
    CHECK_EQ(status, 0);
    CHECK(seconds(usage.ru_stime) >= 0.19);
    CHECK_OK(getrusage(RUSAGE_CHILDREN, &usage));
    CHECK(seconds(usage.ru_stime) >= 0.19);
}

// What getrusage tells, in nanoseconds; it leaves out less than a microsecond of each of its two parts.
static int64_t used(int who) {
    struct rusage usage;
    CHECK_OK(getrusage(who, &usage));
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000L +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000L;
}

static int64_t clock_ns(clockid_t clock) {
    struct timespec time;
    CHECK_OK(clock_gettime(clock, &time));
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

// One account, asked in two ways, after work of the guest's and of the kernel's.
static void clock_is_the_account(clockid_t clock, int who) {
    const int64_t rounding = 2000;
    work_in_kernel(0.05);
    be_busy(1000000);
    int64_t before = used(who), between = clock_ns(clock), after = used(who);
    CHECK(before <= between + rounding);
    CHECK(between <= after + rounding);
}

TEST(a_processs_clock_tells_what_getrusage_tells) { clock_is_the_account(CLOCK_PROCESS_CPUTIME_ID, RUSAGE_SELF); }

TEST(a_threads_clock_tells_what_getrusage_tells) { clock_is_the_account(CLOCK_THREAD_CPUTIME_ID, RUSAGE_THREAD); }

TEST(who_sleeps_switches) {
    struct rusage before, after, thread;
    CHECK_OK(getrusage(RUSAGE_SELF, &before));
    for (int round = 0; round < 20; round++)
        sleep_ms(1);
    CHECK_OK(getrusage(RUSAGE_SELF, &after));
    CHECK_OK(getrusage(RUSAGE_THREAD, &thread));
    CHECK(after.ru_nvcsw - before.ru_nvcsw >= 20);
    CHECK(thread.ru_nvcsw >= 20);
    static char text[8192];
    read_file("/proc/self/status", text, sizeof text);
    char *line = strstr(text, "\nvoluntary_ctxt_switches:\t");
    CHECK(line && atol(line + 26) >= 20);
}
