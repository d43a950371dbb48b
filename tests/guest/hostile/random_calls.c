// Does any system call number with any arguments bring the kernel down? Every number from 0 to 600 with random
// arguments, in children that may die. As an ordinary user, and as root where root may not lawfully harm its neighbours.
#include "hostile.h"

enum { NUMBERS = 601, ROUNDS = 2, AT_ONCE = 12 };
static char buffer[65536];
static uint64_t seed;

// Calls by which root may end, slow, trace or unmount its neighbours: that would prove nothing.
static const int lawful_harm[] = {
    SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal, SYS_pidfd_getfd,
    SYS_ptrace, SYS_process_vm_writev, SYS_prlimit64, SYS_setpriority, SYS_ioprio_set, SYS_sched_setaffinity,
    SYS_sched_setscheduler, SYS_sched_setparam, SYS_sched_setattr, SYS_migrate_pages, SYS_move_pages, SYS_reboot,
    SYS_kexec_load, SYS_kexec_file_load, SYS_umount2, SYS_pivot_root, SYS_mount, SYS_move_mount, SYS_swapon, SYS_swapoff,
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex,
    SYS_clock_adjtime, SYS_syslog, SYS_acct, SYS_ioperm, SYS_iopl, SYS_quotactl, SYS_process_madvise,
    SYS_process_mrelease, SYS_vhangup, SYS_bpf, 442 /* mount_setattr */};

static long random_argument(void) {
    uint64_t value = random_next(&seed);
    switch (value % 9) {
    case 0:
        return 0;
    case 1:
        return -1;
    case 2:
        return (long)(value >> 8) % 64;
    case 3:
        return (long)(value >> 8) % 65536;
    case 4:
        return (long)(uintptr_t)(buffer + (value >> 8) % sizeof buffer);
    case 5:
        return (long)(uintptr_t)buffer;
    case 6:
        return (long)(STUB_START + (value >> 8) % (1 << 24));
    case 7:
        return (long)(1UL << ((value >> 8) % 64));
    default:
        return (long)value;
    }
}

static void call(long number) {
    for (int at = 0; at < 16; at++)
        dup(open("/dev/null", O_RDWR));
    for (size_t at = 0; at < sizeof buffer; at++)
        buffer[at] = (char)random_next(&seed);
    pid_t self = getpid();
    for (int at = 0; at < 20; at++) {
        syscall(number, random_argument(), random_argument(), random_argument(), random_argument(), random_argument(),
                random_argument());
        // What fork and its kin made goes no further: the bomb is another program.
        if (getpid() != self)
            _exit(0);
    }
}

static void call_as_user(long number) {
    drop_root(65533);
    call(number);
}

// Children that are on their way. Many calls wait for what never comes, so that each has little time, and several go at once.
static pid_t running[AT_ONCE];
static double started[AT_ONCE];
static long died;

// Ends what has had its time; answers a free place once there is one, or -1 when all have ended.
static int reap(bool all) {
    for (;;) {
        int free = -1, busy = 0;
        for (int at = 0; at < AT_ONCE; at++) {
            int status;
            if (running[at] > 0 && seconds_now() - started[at] > 0.5) {
                kill(-running[at], SIGKILL);
                kill(running[at], SIGKILL);
            }
            if (running[at] > 0 && waitpid(running[at], &status, WNOHANG) == running[at]) {
                kill(-running[at], SIGKILL);
                died += status != 0;
                running[at] = 0;
            }
            busy += running[at] > 0;
            if (running[at] <= 0)
                free = at;
        }
        if (all ? busy == 0 : free != -1)
            return free;
        usleep(1000);
    }
}

static void begin(void (*attack)(long), long number) {
    int at = reap(false);
    started[at] = seconds_now();
    running[at] = fork();
    if (running[at] != 0)
        return;
    setpgid(0, 0);
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    attack(number);
    _exit(0);
}

static bool harms_lawfully(long number) {
    for (size_t at = 0; at < sizeof lawful_harm / sizeof *lawful_harm; at++)
        if (lawful_harm[at] == number)
            return true;
    return false;
}

int main(int argc, char **argv) {
    require_sandbox(argc, argv);
    char directory[] = "/tmp/random.XXXXXX";
    if (!mkdtemp(directory) || chdir(directory) == -1)
        perror(directory);
    chmod(directory, 0777);
    fflush(stdout);
    long tried = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (long number = 0; number < NUMBERS && is_time_left(); number++, tried++) {
            seed = random_start() ^ (uint64_t)(number * 1000 + round);
            begin(call_as_user, number);
            if (!harms_lawfully(number))
                begin(call, number);
        }
    }
    reap(true);
    progress("numbers tried", tried);
    progress("children that died", died);
    if (chdir("/") == -1 || rmdir(directory) == -1)
        progress("directory left behind, errno", errno);
    return 0;
}
