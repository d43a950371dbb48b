// What does the system say about itself and the time?
#include "../harness.h"
#include <cpuid.h>
#include <sys/klog.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/timex.h>
#include <sys/utsname.h>

TEST(uname_is_a_linux_on_x86_64) {
    struct utsname name;
    int major, minor;
    CHECK_OK(uname(&name));
    CHECK_STR(name.sysname, "Linux");
    CHECK_STR(name.machine, "x86_64");
    CHECK_EQ(sscanf(name.release, "%d.%d", &major, &minor), 2);
    CHECK(major >= 4);
}

TEST(uname_agrees_with_proc) {
    struct utsname name;
    char text[128];
    CHECK_OK(uname(&name));
    read_file("/proc/sys/kernel/osrelease", text, sizeof text);
    text[strcspn(text, "\n")] = 0;
    CHECK_STR(text, name.release);
    read_file("/proc/sys/kernel/hostname", text, sizeof text);
    text[strcspn(text, "\n")] = 0;
    CHECK_STR(text, name.nodename);
}

TEST(sethostname_is_seen_in_a_new_namespace_only_by_its_processes) {
    char before[65], after[65];
    CHECK_OK(gethostname(before, sizeof before));
    pid_t pid = IN_CHILD({
        CHECK_OK(unshare(CLONE_NEWUTS));
        CHECK_OK(sethostname("renamed", 7));
        CHECK_OK(gethostname(after, sizeof after));
        CHECK_STR(after, "renamed");
        CHECK_ERR(syscall(SYS_sethostname, "x", 65), EINVAL);
    });
    CHECK_EXITS(pid, 0);
    CHECK_OK(gethostname(after, sizeof after));
    CHECK_STR(after, before);
}

static int rename_and_compare(void *before) {
    char now[65], text[80];
    CHECK_OK(gethostname(now, sizeof now));
    CHECK_STR(now, before);
    CHECK_OK(sethostname("cloned", 6));
    CHECK_OK(setdomainname("example", 7));
    read_file("/proc/sys/kernel/hostname", text, sizeof text);
    CHECK_STR(text, "cloned\n");
    CHECK_EXITS(IN_CHILD(CHECK_OK(gethostname(now, sizeof now)); CHECK_STR(now, "cloned")), 0);
    return 0;
}

TEST(clone_with_newuts_begins_with_a_copy_of_the_names) {
    static char stack[1 << 16] __attribute__((aligned(16)));
    char before[65], after[65], ours[64] = "", theirs[64] = "", path[64];
    CHECK_OK(gethostname(before, sizeof before));
    pid_t pid = CHECK_OK(clone(rename_and_compare, stack + sizeof stack, CLONE_NEWUTS | SIGCHLD, before));
    CHECK_EXITS(pid, 0);
    CHECK_OK(gethostname(after, sizeof after));
    CHECK_STR(after, before);
    pid = IN_CHILD({
        CHECK_OK(unshare(CLONE_NEWUTS));
        pause();
    });
    CHECK_OK(readlink("/proc/self/ns/uts", ours, sizeof ours - 1));
    snprintf(path, sizeof path, "/proc/%d/ns/uts", pid);
    wait_for_state(pid, 'S');
    CHECK_OK(readlink(path, theirs, sizeof theirs - 1));
    CHECK(strncmp(theirs, "uts:[", 5) == 0 && strcmp(ours, theirs) != 0);
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_KILLED(pid, SIGKILL);
}

TEST(new_namespaces_need_the_capability) {
    become_nobody();
    CHECK_ERR(unshare(CLONE_NEWUTS), EPERM);
    CHECK_ERR(unshare(CLONE_NEWNS), EPERM);
    CHECK_ERR(syscall(SYS_clone, CLONE_NEWUTS | SIGCHLD, 0, NULL, NULL, 0), EPERM);
    CHECK_ERR(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, NULL, NULL, 0), EINVAL);
}

TEST(sethostname_by_a_user_is_eperm) {
    become_nobody();
    CHECK_ERR(sethostname("x", 1), EPERM);
}

TEST(sysinfo_is_plausible) {
    struct sysinfo info;
    CHECK_OK(sysinfo(&info));
    CHECK(info.totalram > 0 && info.totalram >= info.freeram);
    CHECK(info.procs > 0);
    CHECK(info.mem_unit > 0);
    CHECK(info.uptime >= 0);
}

TEST(getrandom_fills_and_checks_flags) {
    unsigned char first[64] = {0}, second[64] = {0};
    CHECK_EQ(getrandom(first, 64, 0), 64);
    CHECK_EQ(getrandom(second, 64, GRND_NONBLOCK), 64);
    CHECK(memcmp(first, second, 64) != 0);
    CHECK_EQ(getrandom(first, 0, 0), 0);
    CHECK_ERR(getrandom(first, 64, 0x100), EINVAL);
}

static long long clock_ns(clockid_t clock) {
    struct timespec now;
    CHECK_OK(clock_gettime(clock, &now));
    CHECK(now.tv_nsec >= 0 && now.tv_nsec < 1000000000);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

TEST(every_clock_answers_and_goes_forward) {
    clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                          CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};
    for (size_t at = 0; at < sizeof clocks / sizeof *clocks; at++) {
        long long before = clock_ns(clocks[at]);
        for (int round = 0; round < 1000; round++)
            CHECK(clock_ns(clocks[at]) >= before);
        struct timespec resolution;
        CHECK_OK(clock_getres(clocks[at], &resolution));
        CHECK(resolution.tv_nsec > 0 && resolution.tv_nsec <= 10000000);
    }
}

TEST(unknown_clock_is_einval) {
    struct timespec now;
    CHECK_ERR(syscall(SYS_clock_gettime, 999, &now), EINVAL);
    CHECK_ERR(syscall(SYS_clock_getres, 999, &now), EINVAL);
    CHECK_ERR(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &now, NULL), EOPNOTSUPP);
}

TEST(monotonic_goes_on_over_a_sleep) {
    long long before = clock_ns(CLOCK_MONOTONIC);
    CHECK_OK(nanosleep(&(struct timespec){0, 30000000}, NULL));
    CHECK(clock_ns(CLOCK_MONOTONIC) - before >= 30000000);
}

TEST(thread_cpu_time_stands_still_in_a_sleep) {
    long long before = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    sleep_ms(200);
    CHECK(clock_ns(CLOCK_THREAD_CPUTIME_ID) - before < 150000000);
    clock_t until = clock() + CLOCKS_PER_SEC / 20;
    while (clock() < until)
        ;
    CHECK(clock_ns(CLOCK_THREAD_CPUTIME_ID) - before >= 40000000);
}

TEST(clock_nanosleep_absolute_and_relative) {
    struct timespec time;
    CHECK_OK(clock_gettime(CLOCK_MONOTONIC, &time));
    long long start = time.tv_sec * 1000000000LL + time.tv_nsec, wake = start + 30000000;
    time = (struct timespec){wake / 1000000000, wake % 1000000000};
    CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL), 0);
    CHECK(clock_ns(CLOCK_MONOTONIC) >= wake);
    CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL), 0);
    start = clock_ns(CLOCK_REALTIME);
    CHECK_EQ(clock_nanosleep(CLOCK_REALTIME, 0, &(struct timespec){0, 10000000}, NULL), 0);
    CHECK(clock_ns(CLOCK_REALTIME) - start >= 9000000);
}

TEST(nanosleep_checks_its_time) {
    CHECK_ERR(nanosleep(&(struct timespec){0, 1000000000}, NULL), EINVAL);
    CHECK_ERR(nanosleep(&(struct timespec){0, -1}, NULL), EINVAL);
    CHECK_ERR(nanosleep(&(struct timespec){-1, 0}, NULL), EINVAL);
    CHECK_OK(nanosleep(&(struct timespec){0, 0}, NULL));
}

TEST(time_and_gettimeofday_agree_with_the_clock) {
    struct timeval now;
    long long before = clock_ns(CLOCK_REALTIME) / 1000000000;
    CHECK_OK(gettimeofday(&now, NULL));
    time_t seconds = time(NULL), raw = syscall(SYS_time, NULL);
    CHECK(now.tv_sec >= before - 1 && now.tv_sec <= before + 5);
    CHECK(seconds >= before - 1 && seconds <= before + 5);
    CHECK(raw >= before - 1 && raw <= before + 5);
}

TEST(clock_settime_by_a_user_is_eperm) {
    become_nobody();
    struct timespec now;
    CHECK_OK(clock_gettime(CLOCK_REALTIME, &now));
    CHECK_ERR(clock_settime(CLOCK_REALTIME, &now), EPERM);
}

TEST(clock_of_another_process_can_be_read) {
    clockid_t clock;
    pid_t pid = IN_CHILD(for (;;) ;);
    CHECK_EQ(clock_getcpuclockid(pid, &clock), 0);
    while (clock_ns(clock) < 1000000)
        sleep_ms(1);
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_KILLED(pid, SIGKILL);
}

TEST(getcpu_is_a_processor_of_the_affinity_mask) {
    unsigned cpu = ~0u, node = ~0u;
    cpu_set_t set;
    CHECK_OK(sched_getaffinity(0, sizeof set, &set));
    CHECK_OK(syscall(SYS_getcpu, &cpu, &node, NULL));
    CHECK(CPU_ISSET(cpu, &set));
    int now = sched_getcpu();
    CHECK(now >= 0 && CPU_ISSET(now, &set));
}

TEST(sysconf_counts_processors) {
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    CHECK(sysconf(_SC_NPROCESSORS_CONF) >= sysconf(_SC_NPROCESSORS_ONLN));
    CHECK(sysconf(_SC_PHYS_PAGES) > 0);
}

static void read_set(const char *path, cpu_set_t *set) {
    char text[4096];
    CPU_ZERO(set);
    read_file(path, text, sizeof text);
    for (char *at = text, *end; *at >= '0' && *at <= '9'; at = *end == ',' ? end + 1 : end) {
        long first = strtol(at, &end, 10), last = *end == '-' ? strtol(end + 1, &end, 10) : first;
        for (long cpu = first; cpu <= last; cpu++)
            CPU_SET(cpu, set);
    }
}

// A mask as it is written beside a list: words of 32 bits, the highest first.
static void check_mask(const char *path, const cpu_set_t *want) {
    char text[4096];
    size_t length = read_file(path, text, sizeof text), bit = 0;
    CHECK(length > 0 && text[length - 1] == '\n');
    cpu_set_t got;
    CPU_ZERO(&got);
    for (size_t at = length - 1; at-- > 0;) {
        if (text[at] == ',')
            continue;
        int digit = text[at] <= '9' ? text[at] - '0' : text[at] - 'a' + 10;
        for (int low = 0; low < 4; low++, bit++)
            if (digit >> low & 1)
                CPU_SET(bit, &got);
    }
    CHECK(CPU_EQUAL(&got, want));
}

TEST(sysfs_lists_the_processors_that_may_be_used) {
    cpu_set_t allowed, online, set;
    CHECK_OK(sched_getaffinity(0, sizeof allowed, &allowed));
    read_set("/sys/devices/system/cpu/online", &online);
    CPU_AND(&set, &allowed, &online);
    CHECK(CPU_EQUAL(&set, &allowed));
    read_set("/sys/devices/system/cpu/possible", &set);
    CPU_AND(&set, &set, &online);
    CHECK(CPU_EQUAL(&set, &online));
    CHECK_EQ(sysconf(_SC_NPROCESSORS_ONLN), CPU_COUNT(&online));
    read_set("/sys/devices/system/node/node0/cpulist", &set);
    check_mask("/sys/devices/system/node/node0/cpumap", &set);
    const char *names[] = {"core_cpus", "thread_siblings", "core_siblings", "package_cpus"};
    for (int at = 0; at < 4; at++) {
        char path[128];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/topology/%s_list", names[at]);
        read_set(path, &set);
        CHECK(CPU_ISSET(0, &set));
        path[strlen(path) - strlen("_list")] = 0;
        check_mask(path, &set);
    }
}

TEST(sysfs_describes_caches_as_cpuid_does) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(4, 0, &a, &b, &c, &d) || (a & 31) == 0)
        return;
    char text[64];
    read_file("/sys/devices/system/cpu/cpu0/cache/index0/level", text, sizeof text);
    CHECK_EQ(atoi(text), (a >> 5) & 7);
    read_file("/sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size", text, sizeof text);
    CHECK_EQ(atoi(text), (b & 0xfff) + 1);
    read_file("/sys/devices/system/cpu/cpu0/cache/index0/size", text, sizeof text);
    long long bytes = ((b & 0xfff) + 1LL) * ((b >> 12 & 0x3ff) + 1) * ((b >> 22) + 1) * (c + 1LL);
    CHECK_EQ(atoll(text), bytes >> 10);
    read_file("/sys/devices/system/cpu/cpu0/cache/index0/type", text, sizeof text);
    CHECK_STR(text, (a & 31) == 1 ? "Data\n" : (a & 31) == 2 ? "Instruction\n" : "Unified\n");
}

TEST(sysfs_node_has_the_memory_of_meminfo) {
    char text[8192], *at;
    long long total = 0, node = 0;
    read_file("/proc/meminfo", text, sizeof text);
    CHECK((at = strstr(text, "MemTotal:")) != NULL);
    total = atoll(at + 9);
    read_file("/sys/devices/system/node/node0/meminfo", text, sizeof text);
    CHECK((at = strstr(text, "Node 0 MemTotal:")) != NULL);
    node = atoll(at + 16);
    CHECK(node > 0 && node <= total);
    read_file("/sys/devices/system/node/node0/distance", text, sizeof text);
    CHECK_EQ(atoi(text), 10);
}

TEST(personality_is_linux_and_is_kept) {
    CHECK_EQ(personality(0xffffffff), PER_LINUX);
    CHECK_EQ(personality(ADDR_NO_RANDOMIZE), PER_LINUX);
    CHECK_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE);
    pid_t pid = IN_CHILD(CHECK_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE));
    CHECK_EXITS(pid, 0);
}

TEST(ioprio_can_be_set_and_read) {
    int none = CHECK_OK(syscall(SYS_ioprio_get, 1, 0));
    CHECK(none >= 0);
    CHECK_OK(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6)); // best effort, 6
    CHECK_EQ(syscall(SYS_ioprio_get, 1, 0), 2 << 13 | 6);
    CHECK_ERR(syscall(SYS_ioprio_get, 99, 0), EINVAL);
}

TEST(syslog_is_readable) {
    static char text[65536];
    CHECK(klogctl(10, NULL, 0) > 0); // the size of the buffer
    CHECK_OK(klogctl(3, text, sizeof text - 1));
    CHECK_ERR(klogctl(99, NULL, 0), EINVAL);
}

TEST(adjtimex_can_be_read) {
    struct timex state = {.modes = 0};
    CHECK(adjtimex(&state) >= 0);
    CHECK(state.tick > 0);
}

TEST(unknown_system_calls_are_enosys) {
    long numbers[] = {350, 400, 423, 600, 1000, 4095, 100000, 0x7fffffff, -1, -2, 0x40000000 - 1};
    for (size_t at = 0; at < sizeof numbers / sizeof *numbers; at++)
        CHECK_ERR(syscall(numbers[at], 1, 2, 3, 4, 5, 6), ENOSYS);
}

TEST(obsolete_system_calls_are_enosys) {
    long numbers[] = {SYS_create_module, SYS_get_kernel_syms, SYS_query_module, SYS_nfsservctl,
                      SYS_getpmsg, SYS_putpmsg, SYS_afs_syscall, SYS_tuxcall, SYS_security, SYS_vserver,
                      SYS_epoll_ctl_old, SYS_epoll_wait_old};
    for (size_t at = 0; at < sizeof numbers / sizeof *numbers; at++)
        CHECK_ERR(syscall(numbers[at], 0, 0, 0, 0, 0, 0), ENOSYS);
}

TEST(sysv_shared_memory_is_shared_and_goes_when_removed) {
    int id = CHECK_OK(syscall(SYS_shmget, 0, 8192, 01600)); // IPC_PRIVATE, IPC_CREAT
    char *at = (char *)CHECK_OK(syscall(SYS_shmat, id, NULL, 0));
    CHECK_OK(syscall(SYS_shmctl, id, 0, NULL)); // IPC_RMID
    strcpy(at, "parent");
    pid_t pid = IN_CHILD(strcpy(at + 4096, "child"));
    CHECK_EXITS(pid, 0);
    CHECK_STR(at + 4096, "child");
    CHECK_OK(syscall(SYS_shmdt, at));
    CHECK_ERR(syscall(SYS_shmat, id, NULL, 0), EINVAL);
}

TEST(membarrier_tells_its_commands) {
    long commands = CHECK_OK(syscall(SYS_membarrier, 0, 0, 0));
    CHECK(commands & 1); // MEMBARRIER_CMD_GLOBAL
    CHECK_ERR(syscall(SYS_membarrier, 0x40000000, 0, 0), EINVAL);
}
