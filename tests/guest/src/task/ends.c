// How do processes and threads end, and who learns of it? Death signals, orphaned groups, statuses, waits.
#include "../harness.h"
#include <sys/prctl.h>

static volatile sig_atomic_t heard;
static volatile pid_t heard_from;
static volatile int heard_code;

static void hear(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    heard = signal_number;
    heard_from = info->si_pid;
    heard_code = info->si_code;
}

struct forked {
    struct gate ready;
    pid_t child;
};

static void *fork_and_end(void *argument) {
    struct forked *forked = argument;
    forked->child = fork();
    if (forked->child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        gate_open(&forked->ready);
        pause();
        _exit(0);
    }
    gate_wait(&forked->ready);
    return NULL;
}

TEST(a_death_signal_comes_when_the_thread_that_forked_ends) {
    struct forked forked;
    gate_init(&forked.ready);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fork_and_end, &forked), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_KILLED(forked.child, SIGKILL);
}

static void *end_at_once(void *argument) { return argument; }

TEST(a_death_signal_does_not_come_when_another_thread_ends) {
    struct gate ready, done;
    gate_init(&ready);
    gate_init(&done);
    pid_t child = IN_CHILD({
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        gate_open(&ready);
        gate_wait(&done);
        _exit(3);
    });
    gate_wait(&ready);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, end_at_once, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    gate_open(&done);
    CHECK_EXITS(child, 3);
}

TEST(a_death_signal_tells_who_has_died) {
    struct gate ready, told;
    gate_init(&ready);
    gate_init(&told);
    CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
    pid_t middle = IN_CHILD({
        pid_t parent = getpid();
        IN_CHILD({
            catch_siginfo(SIGUSR1, hear, 0);
            block_signal(SIGUSR1);
            prctl(PR_SET_PDEATHSIG, SIGUSR1);
            gate_open(&ready);
            sigset_t none;
            sigemptyset(&none);
            while (!heard)
                sigsuspend(&none);
            if (heard_from == parent && heard_code == SI_USER)
                gate_open(&told);
        });
        gate_wait(&ready);
    });
    CHECK_EXITS(middle, 0);
    CHECK_OK(close(told.ends[1]));
    gate_wait(&told);
}

static void *fork_child(void *argument) {
    *(pid_t *)argument = fork();
    if (*(pid_t *)argument == 0)
        _exit(5);
    return NULL;
}

TEST(a_wait_without_threads_sees_only_the_callers_own_children) {
    pid_t child = IN_CHILD(_exit(4));
    pid_t of_thread;
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fork_child, &of_thread), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    // Once the thread has ended, its child is one of a thread that lives on.
    int status;
    while (waitpid(of_thread, &status, __WNOTHREAD) != of_thread)
        CHECK_EQ(errno, ECHILD);
    CHECK_EQ(WEXITSTATUS(status), 5);
    CHECK_EXITS(child, 4);
}

static pid_t hold_child;
static struct gate hold_ready, hold_done;

static void *fork_and_stay(void *argument) {
    hold_child = fork();
    if (hold_child == 0)
        _exit(6);
    gate_open(&hold_ready);
    gate_wait(&hold_done);
    return argument;
}

TEST(a_wait_without_threads_does_not_see_another_threads_children) {
    gate_init(&hold_ready);
    gate_init(&hold_done);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fork_and_stay, NULL), 0);
    gate_wait(&hold_ready);
    CHECK_ERR(waitpid(hold_child, NULL, __WNOTHREAD), ECHILD);
    CHECK_EXITS(hold_child, 6);
    gate_open(&hold_done);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

TEST(a_wait_for_stops_alone_is_none_for_a_zombie) {
    siginfo_t info;
    pid_t child = IN_CHILD(_exit(1));
    CHECK_OK(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    CHECK_ERR(waitid(P_PID, child, &info, WSTOPPED), ECHILD);
    CHECK_ERR(waitid(P_PID, child, &info, WCONTINUED | WNOHANG), ECHILD);
    CHECK_ERR(waitid(P_ALL, 0, &info, WSTOPPED | WCONTINUED), ECHILD);
    CHECK_EXITS(child, 1);
}

static void *exit_later(void *argument) {
    wait_for_state(getpid(), 'Z');
    syscall(SYS_exit, 5);
    return argument;
}

TEST(a_process_ends_with_what_its_last_thread_says) {
    pid_t child = IN_CHILD({
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, exit_later, NULL), 0);
        syscall(SYS_exit, 3);
    });
    CHECK_EXITS(child, 5);
}

TEST(a_death_without_a_core_file_says_so) {
    struct rlimit none = {0, 0};
    CHECK_OK(setrlimit(RLIMIT_CORE, &none));
    pid_t child = IN_CHILD(signal(SIGABRT, SIG_DFL); abort());
    siginfo_t info = {0};
    CHECK_OK(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    CHECK_EQ(info.si_code, CLD_KILLED);
    CHECK_EQ(info.si_status, SIGABRT);
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(!WCOREDUMP(status));
}

// Stops a child of the process that leaves it; answers its pid through the pipe.
static pid_t leave_a_stopped_child(bool group) {
    int told[2];
    CHECK_OK(pipe(told));
    pid_t middle = IN_CHILD({
        if (group)
            setpgid(0, 0);
        catch_siginfo(SIGHUP, hear, 0);
        pid_t stopped = IN_CHILD({
            if (group)
                setpgid(0, 0);
            signal(SIGHUP, SIG_DFL);
            raise(SIGSTOP);
            _exit(9);
        });
        int status;
        CHECK_EQ(waitpid(stopped, &status, WUNTRACED), stopped);
        CHECK(WIFSTOPPED(status));
        CHECK_EQ(write(told[1], &stopped, sizeof stopped), (ssize_t)sizeof stopped);
    });
    pid_t stopped;
    CHECK_EQ(read(told[0], &stopped, sizeof stopped), (ssize_t)sizeof stopped);
    CHECK_EXITS(middle, 0);
    return stopped;
}

TEST(nobody_is_hung_up_when_a_process_leaves_a_stopped_child_in_its_own_group) {
    CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
    catch_siginfo(SIGHUP, hear, 0);
    pid_t stopped = leave_a_stopped_child(false);
    sleep_ms(50);
    CHECK_EQ(heard, 0);
    wait_for_state(stopped, 'T');
    CHECK_OK(kill(stopped, SIGKILL));
    CHECK_KILLED(stopped, SIGKILL);
}

TEST(a_stopped_group_that_is_orphaned_is_hung_up_and_goes_on) {
    CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
    int told[2];
    CHECK_OK(pipe(told));
    // Whoever adopts it is of another session, and so could not continue it.
    pid_t leader = IN_CHILD({
        CHECK_OK(setsid());
        pid_t stopped = leave_a_stopped_child(true);
        CHECK_EQ(write(told[1], &stopped, sizeof stopped), (ssize_t)sizeof stopped);
    });
    CHECK_EXITS(leader, 0);
    pid_t stopped;
    CHECK_EQ(read(told[0], &stopped, sizeof stopped), (ssize_t)sizeof stopped);
    CHECK_KILLED(stopped, SIGHUP);
}
