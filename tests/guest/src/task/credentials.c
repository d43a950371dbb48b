// Who is the process, and what may it do? Users, groups, capabilities, limits, priorities, /proc/self/status.
#include "../harness.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>

static void capabilities(struct __user_cap_data_struct data[2]) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    CHECK_OK(syscall(SYS_capget, &header, data));
}

static bool has_effective(int capability) {
    struct __user_cap_data_struct data[2];
    capabilities(data);
    return data[capability / 32].effective >> (capability % 32) & 1;
}

TEST(root_setuid_sets_all_three_users) {
    CHECK_OK(setuid(1000));
    uid_t real, effective, saved;
    CHECK_OK(getresuid(&real, &effective, &saved));
    CHECK_EQ(real, 1000);
    CHECK_EQ(effective, 1000);
    CHECK_EQ(saved, 1000);
    CHECK_ERR(setuid(0), EPERM);
}

TEST(setresuid_lets_a_user_return_to_the_saved_one) {
    CHECK_OK(setresuid(1000, 1001, 1002));
    CHECK_OK(setresuid(-1, 1002, -1));
    CHECK_EQ(geteuid(), 1002);
    CHECK_OK(setresuid(-1, 1000, -1));
    CHECK_ERR(setresuid(-1, 1001, -1), EPERM);
    CHECK_ERR(setresuid(0, -1, -1), EPERM);
}

TEST(seteuid_drops_and_regains_effective_capabilities) {
    CHECK(has_effective(CAP_CHOWN));
    CHECK_OK(seteuid(1000));
    CHECK(!has_effective(CAP_CHOWN));
    CHECK_OK(seteuid(0));
    CHECK(has_effective(CAP_CHOWN));
}

TEST(setuid_of_root_to_a_user_drops_all_capabilities) {
    CHECK_OK(setuid(1000));
    struct __user_cap_data_struct data[2];
    capabilities(data);
    CHECK_EQ(data[0].permitted | data[1].permitted | data[0].effective | data[1].effective, 0);
}

TEST(keepcaps_keeps_permitted_capabilities_over_setuid) {
    CHECK_OK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
    CHECK_OK(setuid(1000));
    struct __user_cap_data_struct data[2];
    capabilities(data);
    CHECK(data[0].permitted != 0);
    CHECK_EQ(data[0].effective, 0);
}

TEST(setreuid_and_setregid_swap) {
    CHECK_OK(setregid(10, 20));
    CHECK_OK(setregid(20, 10));
    CHECK_EQ(getgid(), 20);
    CHECK_EQ(getegid(), 10);
    CHECK_OK(setreuid(1000, 2000));
    CHECK_OK(setreuid(2000, 1000));
    CHECK_EQ(getuid(), 2000);
    CHECK_EQ(geteuid(), 1000);
}

TEST(setgid_as_a_user_is_eperm) {
    become_nobody();
    CHECK_ERR(setgid(0), EPERM);
    CHECK_ERR(setgroups(0, NULL), EPERM);
    CHECK_OK(setgid(65534));
}

TEST(setgroups_and_getgroups_agree) {
    gid_t set[] = {7, 5, 9}, got[8];
    CHECK_OK(setgroups(3, set));
    CHECK_EQ(getgroups(0, NULL), 3);
    CHECK_EQ(getgroups(8, got), 3);
    int sum = got[0] + got[1] + got[2];
    CHECK_EQ(sum, 21);
    CHECK_ERR(getgroups(2, got), EINVAL);
    CHECK_ERR(setgroups(65537, set), EINVAL);
}

TEST(setfsuid_returns_the_previous_value) {
    CHECK_EQ(syscall(SYS_setfsuid, 1000), 0);
    CHECK_EQ(syscall(SYS_setfsuid, -1), 1000);
    CHECK_EQ(syscall(SYS_setfsuid, 0), 1000);
}

TEST(capset_drops_and_cannot_regain) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    capabilities(data);
    data[0].effective &= ~(1u << CAP_CHOWN);
    data[0].permitted &= ~(1u << CAP_CHOWN);
    CHECK_OK(syscall(SYS_capset, &header, data));
    make_file("f", "x");
    CHECK_ERR(chown("f", 1000, 1000), EPERM);
    data[0].permitted |= 1u << CAP_CHOWN;
    CHECK_ERR(syscall(SYS_capset, &header, data), EPERM);
}

TEST(capget_with_an_unknown_version_tells_the_right_one) {
    struct __user_cap_header_struct header = {0x1234, 0};
    struct __user_cap_data_struct data[2];
    CHECK_ERR(syscall(SYS_capget, &header, data), EINVAL);
    CHECK_EQ(header.version, _LINUX_CAPABILITY_VERSION_3);
}

TEST(bounding_set_can_be_read_and_dropped) {
    CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_NET_RAW, 0, 0, 0), 1);
    CHECK_OK(prctl(PR_CAPBSET_DROP, CAP_NET_RAW, 0, 0, 0));
    CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_NET_RAW, 0, 0, 0), 0);
    CHECK_ERR(prctl(PR_CAPBSET_READ, 63, 0, 0, 0), EINVAL);
}

TEST(user_may_not_signal_another_user) {
    pid_t pid = IN_CHILD(pause());
    pid_t user = IN_CHILD(become_nobody(); CHECK_ERR(kill(pid, SIGTERM), EPERM));
    CHECK_EXITS(user, 0);
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_KILLED(pid, SIGKILL);
}

TEST(umask_is_nine_bits_and_returns_the_old_one) {
    CHECK_EQ(umask(07777), 022);
    CHECK_EQ(umask(0), 0777);
}

TEST(rlimit_above_the_hard_one_is_einval_or_eperm) {
    struct rlimit limit = {50, 40};
    CHECK_ERR(setrlimit(RLIMIT_NOFILE, &limit), EINVAL);
    become_nobody();
    CHECK_OK(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_max++;
    CHECK_ERR(setrlimit(RLIMIT_NOFILE, &limit), EPERM);
    CHECK_ERR(getrlimit((__rlimit_resource_t)99, &limit), EINVAL);
}

TEST(rlimit_nofile_bounds_new_descriptors) {
    struct rlimit limit = {10, 100};
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
    int fd;
    while ((fd = open("/", O_RDONLY)) != -1)
        CHECK(fd < 10);
    CHECK_EQ(errno, EMFILE);
    CHECK_ERR(dup2(0, 10), EBADF);
    CHECK_ERR(fcntl(0, F_DUPFD, 10), EINVAL);
}

TEST(rlimit_fsize_raises_sigxfsz_and_efbig) {
    struct rlimit limit = {100, 100};
    int fd = CHECK_OK(open("f", O_CREAT | O_WRONLY, 0644));
    pid_t pid = IN_CHILD(CHECK_OK(setrlimit(RLIMIT_FSIZE, &limit)); (void)!pwrite(fd, "x", 1, 200));
    CHECK_KILLED(pid, SIGXFSZ);
    signal(SIGXFSZ, SIG_IGN);
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &limit));
    CHECK_EQ(pwrite(fd, "12345678", 8, 96), 4);
    CHECK_ERR(pwrite(fd, "x", 1, 100), EFBIG);
}

TEST(rlimit_is_inherited_by_fork) {
    struct rlimit limit = {333, 444};
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
    pid_t pid = IN_CHILD(CHECK_OK(getrlimit(RLIMIT_NOFILE, &limit)); CHECK_EQ(limit.rlim_cur, 333);
                         CHECK_EQ(limit.rlim_max, 444));
    CHECK_EXITS(pid, 0);
}

TEST(prlimit_changes_another_process) {
    struct gate gate;
    gate_init(&gate);
    struct rlimit limit = {55, 66}, old;
    pid_t pid = IN_CHILD(gate_wait(&gate); CHECK_OK(getrlimit(RLIMIT_NOFILE, &limit)); CHECK_EQ(limit.rlim_cur, 77));
    struct rlimit want = {77, 88};
    CHECK_OK(prlimit(pid, RLIMIT_NOFILE, &want, &old));
    CHECK(old.rlim_cur != 77);
    gate_open(&gate);
    CHECK_EXITS(pid, 0);
}

TEST(rlimit_nproc_makes_fork_eagain_for_a_user) {
    struct rlimit limit = {1, 1};
    pid_t pid = IN_CHILD({
        CHECK_OK(setrlimit(RLIMIT_NPROC, &limit));
        CHECK_OK(setgid(23456));
        CHECK_OK(setuid(23456));
        CHECK_ERR(fork(), EAGAIN);
    });
    CHECK_EXITS(pid, 0);
}

TEST(nice_adds_up_and_a_user_may_not_lower_it) {
    CHECK_EQ(nice(3), 3);
    CHECK_EQ(nice(2), 5);
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 5);
    CHECK_EQ(syscall(SYS_getpriority, PRIO_PROCESS, 0), 15);
    become_nobody();
    CHECK_ERR(setpriority(PRIO_PROCESS, 0, 1), EACCES);
    CHECK_ERR(getpriority(99, 0), EINVAL);
    CHECK_ERR(getpriority(PRIO_PROCESS, 4000000), ESRCH);
}

static long status_field(const char *name, const char *format) {
    char text[8192], key[64];
    read_file("/proc/self/status", text, sizeof text);
    snprintf(key, sizeof key, "\n%s:\t", name);
    char *at = strstr(text, key);
    CHECK(at != NULL);
    long value = -1;
    CHECK_EQ(sscanf(at + strlen(key), format, &value), 1);
    return value;
}

TEST(proc_status_shows_ids) {
    CHECK_EQ(status_field("Pid", "%ld"), getpid());
    CHECK_EQ(status_field("Tgid", "%ld"), getpid());
    CHECK_EQ(status_field("PPid", "%ld"), getppid());
    CHECK_EQ(status_field("TracerPid", "%ld"), 0);
    CHECK_OK(setresuid(11, 12, 13));
    CHECK_EQ(status_field("Uid", "%ld"), 11);
    CHECK_EQ(status_field("Uid", "%*d %ld"), 12);
    CHECK_EQ(status_field("Uid", "%*d %*d %ld"), 13);
}

TEST(proc_status_shows_signal_masks) {
    block_signal(SIGUSR1);
    signal(SIGUSR2, SIG_IGN);
    raise(SIGUSR1);
    CHECK_EQ(status_field("SigBlk", "%lx"), 1L << (SIGUSR1 - 1));
    CHECK(status_field("SigIgn", "%lx") & 1L << (SIGUSR2 - 1));
    CHECK(status_field("SigPnd", "%lx") & 1L << (SIGUSR1 - 1));
    (void)status_field("ShdPnd", "%lx");
    (void)status_field("SigCgt", "%lx");
}

TEST(proc_status_shows_capabilities) {
    struct __user_cap_data_struct data[2];
    capabilities(data);
    CHECK_EQ(status_field("CapEff", "%lx"), (long)((uint64_t)data[1].effective << 32 | data[0].effective));
    CHECK_EQ(status_field("CapPrm", "%lx"), (long)((uint64_t)data[1].permitted << 32 | data[0].permitted));
}

TEST(proc_status_shows_memory) {
    long before = status_field("VmSize", "%ld");
    CHECK(mmap(NULL, 64 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    CHECK(status_field("VmSize", "%ld") >= before + (64 << 10));
    CHECK(status_field("VmRSS", "%ld") > 0);
}

// The host counts in batches of 64 pages a processor, and pages of its own: figures are near, not equal.
static bool is_near(long value, long want) {
    return value >= want - 2048 && value <= want + 2048;
}

TEST(resident_size_follows_what_is_touched_and_given_back) {
    const long kib = 32 << 10;
    long before = status_field("VmRSS", "%ld"), anonymous = status_field("RssAnon", "%ld");
    char *memory = mmap(NULL, (size_t)kib << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(is_near(status_field("VmRSS", "%ld"), before));
    memset(memory, 1, (size_t)kib << 10);
    CHECK(is_near(status_field("VmRSS", "%ld"), before + kib));
    CHECK(is_near(status_field("RssAnon", "%ld"), anonymous + kib));
    CHECK(status_field("VmHWM", "%ld") >= before + kib - 2048);
    CHECK_OK(madvise(memory, (size_t)kib << 9, MADV_DONTNEED));
    CHECK(is_near(status_field("VmRSS", "%ld"), before + kib / 2));
    CHECK_OK(munmap(memory, (size_t)kib << 10));
    CHECK(is_near(status_field("VmRSS", "%ld"), before));
    CHECK(status_field("VmHWM", "%ld") >= before + kib - 2048);
}

TEST(resident_size_of_a_large_area_is_near) {
    const size_t size = 4UL << 30, touched = 48 << 20;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK_OK(madvise(memory, size, MADV_NOHUGEPAGE));
    long before = status_field("VmRSS", "%ld");
    memset(memory + (1 << 30), 1, touched);
    CHECK(is_near(status_field("VmRSS", "%ld"), before + (long)(touched >> 10)));
}

TEST(resident_size_counts_mapped_files_and_shared_memory) {
    const size_t size = 16 << 20;
    long file = status_field("RssFile", "%ld"), shared = status_field("RssShmem", "%ld");
    int fd = (int)CHECK_OK(open("data", O_RDWR | O_CREAT, 0600));
    CHECK_OK(ftruncate(fd, (off_t)size));
    char *memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(memory != MAP_FAILED);
    for (size_t at = 0; at < size; at += (size_t)GUEST_PAGE)
        CHECK_EQ(((volatile char *)memory)[at], 0);
    // On a tmpfs they are of the other kind.
    long now = status_field("RssFile", "%ld") + status_field("RssShmem", "%ld");
    CHECK(is_near(now, file + shared + (long)(size >> 10)));
    char *anonymous = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(anonymous != MAP_FAILED);
    shared = status_field("RssShmem", "%ld");
    memset(anonymous, 1, size);
    CHECK(is_near(status_field("RssShmem", "%ld"), shared + (long)(size >> 10)));
}

TEST(smaps_says_what_of_a_mapping_is_resident) {
    static char text[1 << 18];
    char *memory = mmap(NULL, 64 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK_OK(madvise(memory, 64 * GUEST_PAGE, MADV_NOHUGEPAGE));
    CHECK_OK(mprotect(memory, GUEST_PAGE, PROT_READ));
    memory += GUEST_PAGE;
    memset(memory, 1, 5 * GUEST_PAGE);
    char start[32];
    snprintf(start, sizeof start, "\n%lx-", (unsigned long)memory);
    read_file("/proc/self/smaps", text, sizeof text);
    char *line = strstr(text, start);
    CHECK(line != NULL);
    long resident, anonymous;
    CHECK_EQ(sscanf(strstr(line, "\nRss:"), "\nRss: %ld kB", &resident), 1);
    CHECK_EQ(sscanf(strstr(line, "\nAnonymous:"), "\nAnonymous: %ld kB", &anonymous), 1);
    CHECK_EQ(resident, 20);
    CHECK_EQ(anonymous, 20);
}

TEST(rusage_tells_the_largest_resident_size_of_the_process_and_its_children) {
    const long kib = 48 << 10;
    struct rusage usage;
    CHECK_OK(getrusage(RUSAGE_SELF, &usage));
    long before = usage.ru_maxrss;
    CHECK(before > 0 && before < kib);
    CHECK_OK(getrusage(RUSAGE_CHILDREN, &usage));
    CHECK_EQ(usage.ru_maxrss, 0);
    pid_t pid = IN_CHILD({
        char *memory = mmap(NULL, (size_t)kib << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(memory, 1, (size_t)kib << 10);
        munmap(memory, (size_t)kib << 10);
        CHECK_OK(getrusage(RUSAGE_SELF, &usage));
        CHECK(usage.ru_maxrss >= kib);
    });
    int status;
    CHECK_EQ(wait4(pid, &status, 0, &usage), pid);
    CHECK_EQ(status, 0);
    CHECK(usage.ru_maxrss >= kib && usage.ru_maxrss <= kib + before + 4096);
    CHECK_OK(getrusage(RUSAGE_CHILDREN, &usage));
    CHECK(usage.ru_maxrss >= kib);
    CHECK_OK(getrusage(RUSAGE_SELF, &usage));
    CHECK(usage.ru_maxrss < kib);
}

TEST(proc_status_shows_the_umask) {
    umask(0137);
    CHECK_EQ(status_field("Umask", "%lo"), 0137);
}
