// Has /proc the shape of Linux's: link counts, sizes, modes, columns, headings, units? Each is what a native run shows, too.
#include "../harness.h"
#include <sys/prctl.h>
#include <sys/sysinfo.h>

static char text[1 << 18];

static nlink_t links(const char *path) {
    struct stat attributes;
    CHECK_OK(stat(path, &attributes));
    return attributes.st_nlink;
}

static int subdirectories(const char *path) {
    DIR *dir = opendir(path);
    CHECK(dir != NULL);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_type == DT_DIR && strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    closedir(dir);
    return count;
}

static struct gate stay;

static void *wait_there(void *argument) {
    gate_wait(&stay);
    return argument;
}

TEST(threads_are_counted_in_the_links_of_task) {
    CHECK_EQ(links("/proc/self/task"), 3);
    // As browsers ask whether they have one thread.
    int proc = CHECK_OK(open("/proc", O_DIRECTORY | O_PATH));
    struct stat attributes;
    CHECK_OK(fstatat(proc, "self/task/", &attributes, 0));
    CHECK_EQ(attributes.st_nlink, 3);
    gate_init(&stay);
    pthread_t threads[4];
    for (int at = 0; at < 4; at++)
        CHECK_EQ(pthread_create(&threads[at], NULL, wait_there, NULL), 0);
    CHECK_EQ(links("/proc/self/task"), 7);
    for (int at = 0; at < 4; at++)
        gate_open(&stay);
    for (int at = 0; at < 4; at++)
        CHECK_EQ(pthread_join(threads[at], NULL), 0);
    while (links("/proc/self/task") != 3)
        sleep_ms(2);
}

TEST(processes_are_counted_in_the_links_of_proc) {
    // Others come and go on the host: at least those that are ours.
    int children = 5;
    pid_t pids[5];
    nlink_t before = links("/proc");
    gate_init(&stay);
    for (int at = 0; at < children; at++)
        pids[at] = IN_CHILD(gate_wait(&stay));
    CHECK(links("/proc") + 200 > before + children);
    CHECK((int)links("/proc") >= 2 + children);
    for (int at = 0; at < children; at++)
        gate_open(&stay);
    for (int at = 0; at < children; at++)
        CHECK_EXITS(pids[at], 0);
}

TEST(a_process_directory_counts_its_subdirectories) {
    CHECK_EQ(links("/proc/self/"), 2 + subdirectories("/proc/self"));
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d", getpid());
    CHECK_EQ(links(path), 2 + subdirectories(path));
    CHECK_EQ(links("/proc/self/fd"), 2);
    CHECK_EQ(links("/proc/self/fdinfo"), 2);
    CHECK_EQ(links("/proc/self/ns"), 2);
}

TEST(other_directories_count_theirs) {
    static const char *const paths[] = {"/proc/fs", "/proc/tty", "/proc/sysvipc", "/sys", "/sys/devices", "/sys/devices/system/cpu"};
    for (size_t at = 0; at < sizeof paths / sizeof *paths; at++)
        if ((int)links(paths[at]) != 2 + subdirectories(paths[at]))
            guest_fail(__FILE__, __LINE__, "%s has %d links and %d directories", paths[at], (int)links(paths[at]),
                       subdirectories(paths[at]));
}

TEST(the_size_of_fd_is_the_number_of_descriptors) {
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    struct stat attributes;
    CHECK_OK(stat("/proc/self/fd", &attributes));
    CHECK_EQ(attributes.st_size, count);
    CHECK_OK(dup(0));
    CHECK_OK(stat("/proc/self/fd", &attributes));
    CHECK_EQ(attributes.st_size, count + 1);
    CHECK_OK(stat("/proc/self/fdinfo", &attributes));
    CHECK_EQ(attributes.st_size, 0);
}

TEST(files_of_a_process_have_their_modes) {
    static const struct { const char *name; mode_t mode; } files[] = {
        {"attr", S_IFDIR | 0555},     {"autogroup", S_IFREG | 0644},      {"auxv", S_IFREG | 0400},
        {"cgroup", S_IFREG | 0444},   {"cmdline", S_IFREG | 0444},        {"comm", S_IFREG | 0644},
        {"cpuset", S_IFREG | 0444},   {"environ", S_IFREG | 0400},        {"exe", S_IFLNK | 0777},
        {"fd", S_IFDIR | 0500},       {"fdinfo", S_IFDIR | 0555},         {"io", S_IFREG | 0400},
        {"limits", S_IFREG | 0444},   {"maps", S_IFREG | 0444},           {"mem", S_IFREG | 0600},
        {"mountinfo", S_IFREG | 0444}, {"mountstats", S_IFREG | 0400},    {"ns", S_IFDIR | 0511},
        {"numa_maps", S_IFREG | 0444}, {"oom_score", S_IFREG | 0444},     {"oom_score_adj", S_IFREG | 0644},
        {"personality", S_IFREG | 0400}, {"projid_map", S_IFREG | 0644},  {"root", S_IFLNK | 0777},
        {"sched", S_IFREG | 0644},    {"schedstat", S_IFREG | 0444},      {"smaps", S_IFREG | 0444},
        {"stack", S_IFREG | 0400},    {"stat", S_IFREG | 0444},           {"statm", S_IFREG | 0444},
        {"status", S_IFREG | 0444},   {"syscall", S_IFREG | 0400},        {"task", S_IFDIR | 0555},
        {"timers", S_IFREG | 0444},   {"timerslack_ns", S_IFREG | 0666},  {"uid_map", S_IFREG | 0644},
        {"wchan", S_IFREG | 0444},
    };
    for (size_t at = 0; at < sizeof files / sizeof *files; at++) {
        char path[64];
        struct stat attributes;
        snprintf(path, sizeof path, "/proc/self/%s", files[at].name);
        if (lstat(path, &attributes) == -1)
            guest_fail(__FILE__, __LINE__, "%s: errno %d", path, errno);
        if (attributes.st_mode != files[at].mode)
            guest_fail(__FILE__, __LINE__, "%s: mode 0%o, want 0%o", path, attributes.st_mode, files[at].mode);
        if (S_ISREG(attributes.st_mode) && (attributes.st_size || attributes.st_blocks || attributes.st_nlink != 1))
            guest_fail(__FILE__, __LINE__, "%s: size %ld, %ld blocks, %ld links", path, (long)attributes.st_size,
                       (long)attributes.st_blocks, (long)attributes.st_nlink);
    }
}

static int words(const char *line) {
    int count = 0;
    for (const char *at = line; *at && *at != '\n';) {
        at += strspn(at, " \t");
        if (!*at || *at == '\n')
            break;
        count++;
        at += strcspn(at, " \t\n");
    }
    return count;
}

TEST(files_have_as_many_columns) {
    read_file("/proc/self/stat", text, sizeof text);
    CHECK_EQ(words(strrchr(text, ')') + 2), 50);
    read_file("/proc/self/statm", text, sizeof text);
    CHECK_EQ(words(text), 7);
    read_file("/proc/uptime", text, sizeof text);
    CHECK_EQ(words(text), 2);
    read_file("/proc/loadavg", text, sizeof text);
    CHECK_EQ(words(text), 5);
    read_file("/proc/stat", text, sizeof text);
    CHECK_EQ(words(text), 11);
    read_file("/proc/self/schedstat", text, sizeof text);
    CHECK_EQ(words(text), 3);
    read_file("/proc/self/mounts", text, sizeof text);
    CHECK_EQ(words(text), 6);
}

static void expect_head(const char *path, const char *head) {
    read_file(path, text, sizeof text);
    if (strncmp(text, head, strlen(head)))
        guest_fail(__FILE__, __LINE__, "%s begins with \"%.160s\"", path, text);
}

TEST(files_of_the_network_have_their_headings) {
    char wide[200];
    snprintf(wide, sizeof wide, "%-149s\n",
             "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode");
    expect_head("/proc/net/tcp", wide);
    snprintf(wide, sizeof wide, "%-127s\n",
             "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref "
             "pointer drops");
    expect_head("/proc/net/udp", wide);
    expect_head("/proc/net/tcp6", "  sl  local_address                         remote_address                        st "
                                  "tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n");
    expect_head("/proc/net/udp6", "  sl  local_address                         remote_address                        st "
                                  "tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n");
    expect_head("/proc/net/raw", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
                                 "timeout inode ref pointer drops\n");
    expect_head("/proc/net/unix", "Num       RefCount Protocol Flags    Type St Inode Path\n");
    expect_head("/proc/net/dev", "Inter-|   Receive                                                |  Transmit\n"
                                 " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets "
                                 "errs drop fifo colls carrier compressed\n");
    expect_head("/proc/net/arp", "IP address       HW type     Flags       HW address            Mask     Device\n");
    expect_head("/proc/net/netlink", "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    "
                                     "Inode\n");
    expect_head("/proc/net/snmp", "Ip: Forwarding DefaultTTL InReceives ");
    expect_head("/proc/net/sockstat6", "TCP6: inuse ");
    expect_head("/proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
}

TEST(status_has_its_lines_in_their_order) {
    static const char *const names[] = {
        "Name", "Umask", "State", "Tgid", "Ngid", "Pid", "PPid", "TracerPid", "Uid", "Gid", "FDSize", "Groups", "NStgid",
        "NSpid", "NSpgid", "NSsid", "VmPeak", "VmSize", "VmLck", "VmPin", "VmHWM", "VmRSS", "RssAnon", "RssFile",
        "RssShmem", "VmData", "VmStk", "VmExe", "VmLib", "VmPTE", "VmSwap", "CoreDumping", "THP_enabled", "Threads",
        "SigQ", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
        "NoNewPrivs", "Seccomp", "Seccomp_filters", "Cpus_allowed", "Cpus_allowed_list", "Mems_allowed",
        "Mems_allowed_list", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches",
    };
    read_file("/proc/self/status", text, sizeof text);
    char *at = text;
    for (size_t name = 0; name < sizeof names / sizeof *names; name++) {
        char line[64];
        snprintf(line, sizeof line, "\n%s:\t", names[name]);
        char *found = name ? strstr(at, line) : text;
        if (!found)
            guest_fail(__FILE__, __LINE__, "no %s after %.20s", names[name], at);
        at = found;
    }
}

TEST(meminfo_counts_in_kib) {
    FILE *file = fopen("/proc/meminfo", "r");
    char line[200];
    CHECK(file && fgets(line, sizeof line, file));
    long total;
    CHECK_EQ(sscanf(line, "MemTotal:%ld kB", &total), 1);
    CHECK_EQ(strlen(line), 28);
    struct sysinfo info;
    CHECK_OK(sysinfo(&info));
    CHECK_EQ(total, (long)(info.totalram * info.mem_unit / 1024));
    fclose(file);
}

static long long clock_ms(clockid_t clock) {
    struct timespec now;
    CHECK_OK(clock_gettime(clock, &now));
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

TEST(uptime_is_the_boot_clock) {
    long long before = clock_ms(CLOCK_BOOTTIME);
    double uptime;
    read_file("/proc/uptime", text, sizeof text);
    CHECK_EQ(sscanf(text, "%lf", &uptime), 1);
    struct sysinfo info;
    CHECK_OK(sysinfo(&info));
    long long after = clock_ms(CLOCK_BOOTTIME);
    CHECK(uptime * 1000 >= before - 20 && uptime * 1000 <= after + 20);
    CHECK(info.uptime >= before / 1000 - 1 && info.uptime <= after / 1000 + 1);
}

TEST(the_time_of_boot_is_now_without_the_uptime) {
    read_file("/proc/stat", text, sizeof text);
    char *line = strstr(text, "\nbtime ");
    CHECK(line != NULL);
    long long boot = atoll(line + 7), now = (clock_ms(CLOCK_REALTIME) - clock_ms(CLOCK_BOOTTIME)) / 1000;
    CHECK(boot >= now - 2 && boot <= now + 2);
}

TEST(a_process_starts_at_a_time_of_the_boot_clock) {
    long long before = clock_ms(CLOCK_BOOTTIME);
    struct gate done;
    gate_init(&done);
    pid_t child = IN_CHILD(gate_wait(&done));
    long long after = clock_ms(CLOCK_BOOTTIME);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    read_file(path, text, sizeof text);
    char *at = strrchr(text, ')') + 2;
    for (int field = 3; field < 22; field++)
        at = strchr(at, ' ') + 1;
    long long start = atoll(at) * 1000 / sysconf(_SC_CLK_TCK);
    CHECK(start >= before - 20 && start <= after + 20);
    gate_open(&done);
    CHECK_EXITS(child, 0);
}

// Its arguments' area, and the environment's after it.
static char *arguments, *arguments_end, *environment_end;

static void find_areas(char **argv) {
    extern char **environ;
    int last = 0;
    while (argv[last + 1])
        last++;
    arguments = argv[0];
    arguments_end = argv[last] + strlen(argv[last]) + 1;
    last = 0;
    while (environ[last + 1])
        last++;
    environment_end = environ[last] + strlen(environ[last]) + 1;
}

HELPER(titles) {
    find_areas(argv - 3);
    CHECK(environment_end - arguments > 300);
    char shown[8192];
    size_t room = environment_end - arguments;
    memset(arguments, 0, room);
    memset(arguments, 't', 200);
    CHECK_EQ(read_file("/proc/self/cmdline", shown, sizeof shown), 201);
    CHECK_EQ(strspn(shown, "t"), 200);
    // No zero at all: up to the environment's end.
    memset(arguments, 'u', room);
    CHECK_EQ(read_file("/proc/self/cmdline", shown, sizeof shown), room < 4096 ? room : 4096);
    // A title that fits leaves the area as long as it was.
    memset(arguments, 0, room);
    strcpy(arguments, "short");
    CHECK_EQ(read_file("/proc/self/cmdline", shown, sizeof shown), (size_t)(arguments_end - arguments));
    CHECK_STR(shown, "short");
    return 0;
}

TEST(a_long_title_goes_on_into_the_environment) {
    char padding[500];
    memset(padding, 'p', sizeof padding - 1);
    padding[sizeof padding - 1] = 0;
    CHECK_OK(setenv("PADDING", padding, 1));
    CHECK_EXITS(spawn_helper("titles", "x"), 0);
}

TEST(children_are_listed_by_the_thread_that_has_them) {
    struct gate done;
    gate_init(&done);
    pid_t child = IN_CHILD(gate_wait(&done));
    char path[64], want[32];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    snprintf(want, sizeof want, "%d ", child);
    read_file(path, text, sizeof text);
    CHECK_STR(text, want);
    gate_open(&done);
    CHECK_EXITS(child, 0);
    CHECK_EQ(read_file(path, text, sizeof text), 0);
}
