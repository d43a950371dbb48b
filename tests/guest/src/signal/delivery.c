// When, where and with what does a signal arrive? Masks, handlers, queues, stacks, restart.
#include "../harness.h"
#include <setjmp.h>
#include <sys/signalfd.h>
#include <ucontext.h>

static volatile int hits;
static volatile int order[16];
static siginfo_t last;

static void hit(int number) { order[hits++ % 16] = number; }

static void note(int number, siginfo_t *info, void *context) {
    (void)context;
    last = *info;
    order[hits++ % 16] = number;
}

static sigset_t set_of(int first, int second) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, first);
    if (second)
        sigaddset(&set, second);
    return set;
}

TEST(raise_runs_the_handler_before_it_returns) {
    catch_signal(SIGUSR1, hit, 0);
    CHECK_OK(raise(SIGUSR1));
    CHECK_EQ(hits, 1);
    CHECK_OK(kill(getpid(), SIGUSR1));
    CHECK_EQ(hits, 2);
}

TEST(sigaction_returns_the_old_action) {
    catch_signal(SIGUSR1, hit, SA_RESTART | SA_NODEFER);
    struct sigaction old;
    CHECK_OK(sigaction(SIGUSR1, NULL, &old));
    CHECK(old.sa_handler == hit);
    CHECK_EQ(old.sa_flags & (SA_RESTART | SA_NODEFER | SA_RESETHAND), SA_RESTART | SA_NODEFER);
}

TEST(sigaction_of_kill_stop_or_nonsense_is_einval) {
    struct sigaction action = {.sa_handler = hit};
    CHECK_ERR(sigaction(SIGKILL, &action, NULL), EINVAL);
    CHECK_ERR(sigaction(SIGSTOP, &action, NULL), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigaction, 65, NULL, NULL, 8), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigaction, 0, NULL, NULL, 8), EINVAL);
    CHECK_ERR(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4), EINVAL);
}

TEST(kill_checks_its_arguments) {
    CHECK_OK(kill(getpid(), 0));
    CHECK_ERR(kill(getpid(), 65), EINVAL);
    CHECK_ERR(kill(4000000, SIGTERM), ESRCH);
    CHECK_ERR(kill(-4000000, SIGTERM), ESRCH);
}

TEST(blocked_signal_stays_pending_until_unblocked) {
    catch_signal(SIGUSR1, hit, 0);
    block_signal(SIGUSR1);
    raise(SIGUSR1);
    sigset_t pending, set = set_of(SIGUSR1, 0);
    CHECK_OK(sigpending(&pending));
    CHECK(sigismember(&pending, SIGUSR1));
    CHECK_EQ(hits, 0);
    CHECK_OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
    CHECK_EQ(hits, 1);
    CHECK_OK(sigpending(&pending));
    CHECK(!sigismember(&pending, SIGUSR1));
}

TEST(kill_and_stop_cannot_be_blocked) {
    sigset_t all, mask;
    sigfillset(&all);
    CHECK_OK(sigprocmask(SIG_SETMASK, &all, NULL));
    CHECK_OK(sigprocmask(SIG_SETMASK, NULL, &mask));
    CHECK(!sigismember(&mask, SIGKILL));
    CHECK(!sigismember(&mask, SIGSTOP));
    CHECK(sigismember(&mask, SIGTERM));
    CHECK_ERR(syscall(SYS_rt_sigprocmask, 99, &all, NULL, 8), EINVAL);
}

TEST(standard_signal_pending_twice_is_delivered_once) {
    catch_signal(SIGUSR1, hit, 0);
    block_signal(SIGUSR1);
    raise(SIGUSR1);
    raise(SIGUSR1);
    sigset_t set = set_of(SIGUSR1, 0);
    CHECK_OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
    CHECK_EQ(hits, 1);
}

TEST(realtime_signals_queue_in_order_with_their_values) {
    sigset_t set = set_of(SIGRTMIN, SIGRTMIN + 1);
    CHECK_OK(sigprocmask(SIG_BLOCK, &set, NULL));
    for (int at = 0; at < 3; at++)
        CHECK_OK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 10 + at}));
    CHECK_OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 1}));
    int want[] = {1, 10, 11, 12};
    for (int at = 0; at < 4; at++) {
        siginfo_t info;
        CHECK_OK(sigtimedwait(&set, &info, &(struct timespec){0, 0}));
        CHECK_EQ(info.si_value.sival_int, want[at]);
        CHECK_EQ(info.si_code, SI_QUEUE);
    }
    CHECK_ERR(sigtimedwait(&set, NULL, &(struct timespec){0, 0}), EAGAIN);
}

TEST(lowest_numbered_pending_signal_is_delivered_first) {
    // Handlers nest, so the one that runs first to its end is the one delivered last: blocked by sa_mask here.
    struct sigaction action = {.sa_handler = hit};
    sigfillset(&action.sa_mask);
    sigset_t set = set_of(SIGRTMIN, SIGRTMIN + 5);
    CHECK_OK(sigaction(SIGRTMIN, &action, NULL));
    CHECK_OK(sigaction(SIGRTMIN + 5, &action, NULL));
    CHECK_OK(sigprocmask(SIG_BLOCK, &set, NULL));
    raise(SIGRTMIN + 5);
    raise(SIGRTMIN);
    CHECK_OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
    CHECK_EQ(hits, 2);
    CHECK_EQ(order[0], SIGRTMIN);
    CHECK_EQ(order[1], SIGRTMIN + 5);
}

TEST(siginfo_of_kill_holds_sender) {
    catch_siginfo(SIGUSR1, note, 0);
    pid_t self = getpid();
    pid_t pid = IN_CHILD(CHECK_OK(setuid(1000)); (void)self; CHECK_ERR(kill(self, SIGUSR1), EPERM));
    CHECK_EXITS(pid, 0);
    pid = IN_CHILD(kill(self, SIGUSR1));
    CHECK_EXITS(pid, 0);
    CHECK_EQ(last.si_signo, SIGUSR1);
    CHECK_EQ(last.si_code, SI_USER);
    CHECK_EQ(last.si_pid, pid);
    CHECK_EQ(last.si_uid, 0);
}

TEST(siginfo_of_tgkill_is_si_tkill) {
    catch_siginfo(SIGUSR1, note, 0);
    CHECK_OK(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1));
    CHECK_EQ(last.si_code, SI_TKILL);
    CHECK_EQ(last.si_pid, getpid());
}

TEST(sigqueue_carries_a_pointer_to_a_handler) {
    catch_siginfo(SIGUSR2, note, 0);
    CHECK_OK(sigqueue(getpid(), SIGUSR2, (union sigval){.sival_ptr = &last}));
    CHECK(last.si_value.sival_ptr == &last);
    CHECK_EQ(last.si_code, SI_QUEUE);
}

TEST(sigqueueinfo_may_not_forge_si_user_for_others) {
    siginfo_t info = {.si_code = SI_USER};
    struct gate gate;
    gate_init(&gate);
    pid_t pid = IN_CHILD(gate_wait(&gate));
    CHECK_ERR(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info), EPERM);
    gate_open(&gate);
    CHECK_EXITS(pid, 0);
}

TEST(siginfo_of_sigchld_tells_pid_and_status) {
    catch_siginfo(SIGCHLD, note, 0);
    pid_t pid = IN_CHILD(_exit(12));
    while (hits == 0)
        sleep_ms(1);
    CHECK_EQ(last.si_pid, pid);
    CHECK_EQ(last.si_code, CLD_EXITED);
    CHECK_EQ(last.si_status, 12);
    CHECK_EXITS(pid, 12);
}

TEST(sigchld_on_stop_and_continue_unless_nocldstop) {
    catch_siginfo(SIGCHLD, note, 0);
    pid_t pid = IN_CHILD(for (;;) pause());
    CHECK_OK(kill(pid, SIGSTOP));
    while (hits < 1)
        sleep_ms(1);
    CHECK_EQ(last.si_code, CLD_STOPPED);
    CHECK_OK(kill(pid, SIGCONT));
    while (hits < 2)
        sleep_ms(1);
    CHECK_EQ(last.si_code, CLD_CONTINUED);
    catch_siginfo(SIGCHLD, note, SA_NOCLDSTOP);
    int status;
    CHECK_OK(kill(pid, SIGSTOP));
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK_EQ(hits, 2);
    CHECK_OK(kill(pid, SIGKILL));
    CHECK_KILLED(pid, SIGKILL);
}

TEST(ignored_sigchld_reaps_children) {
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = IN_CHILD();
    CHECK_ERR(waitpid(pid, NULL, 0), ECHILD);
}

TEST(sa_nocldwait_reaps_children) {
    catch_signal(SIGCHLD, hit, SA_NOCLDWAIT | SA_RESTART);
    pid_t pid = IN_CHILD();
    CHECK_ERR(waitpid(pid, NULL, 0), ECHILD);
}

static sigset_t mask_inside;
static void note_mask(int number) {
    (void)number;
    sigprocmask(SIG_SETMASK, NULL, &mask_inside);
}

TEST(handler_mask_blocks_the_signal_itself_and_sa_mask) {
    struct sigaction action = {.sa_handler = note_mask, .sa_mask = set_of(SIGUSR2, 0)};
    CHECK_OK(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    CHECK(sigismember(&mask_inside, SIGUSR1));
    CHECK(sigismember(&mask_inside, SIGUSR2));
    CHECK(!sigismember(&mask_inside, SIGTERM));
    sigset_t after;
    CHECK_OK(sigprocmask(SIG_SETMASK, NULL, &after));
    CHECK(!sigismember(&after, SIGUSR1));
    CHECK(!sigismember(&after, SIGUSR2));
}

static void nest(int number) {
    if (++hits < 5)
        raise(number);
    order[hits % 16]++;
}

TEST(sa_nodefer_lets_the_handler_nest) {
    catch_signal(SIGUSR1, nest, SA_NODEFER);
    raise(SIGUSR1);
    CHECK_EQ(hits, 5);
    CHECK_EQ(order[5], 5);
}

static volatile int depth, deepest;
static void measure_depth(int number) {
    depth++;
    if (depth > deepest)
        deepest = depth;
    if (hits++ == 0)
        raise(number);
    depth--;
}

TEST(without_nodefer_the_second_signal_waits_for_the_handler) {
    catch_signal(SIGUSR1, measure_depth, 0);
    raise(SIGUSR1);
    CHECK_EQ(hits, 2);
    CHECK_EQ(deepest, 1);
}

TEST(sa_resethand_catches_once) {
    pid_t pid = IN_CHILD(catch_signal(SIGUSR1, hit, SA_RESETHAND); raise(SIGUSR1); CHECK_EQ(hits, 1); raise(SIGUSR1));
    CHECK_KILLED(pid, SIGUSR1);
}

static void send_second(int number) {
    order[hits++ % 16] = number;
    if (number == SIGUSR1)
        raise(SIGUSR2);
    order[hits++ % 16] = -number;
}

TEST(handler_may_be_interrupted_by_another_signal) {
    catch_signal(SIGUSR1, send_second, 0);
    catch_signal(SIGUSR2, send_second, 0);
    raise(SIGUSR1);
    int want[] = {SIGUSR1, SIGUSR2, -SIGUSR2, -SIGUSR1};
    for (int at = 0; at < 4; at++)
        CHECK_EQ(order[at], want[at]);
}

TEST(sigsuspend_waits_with_the_given_mask_and_restores_the_old) {
    catch_signal(SIGUSR1, hit, 0);
    block_signal(SIGUSR1);
    raise(SIGUSR1);
    sigset_t none, mask;
    sigemptyset(&none);
    CHECK_ERR(sigsuspend(&none), EINTR);
    CHECK_EQ(hits, 1);
    CHECK_OK(sigprocmask(SIG_SETMASK, NULL, &mask));
    CHECK(sigismember(&mask, SIGUSR1));
}

TEST(sigwaitinfo_takes_the_signal_without_the_handler) {
    catch_signal(SIGUSR1, hit, 0);
    block_signal(SIGUSR1);
    pid_t self = getpid();
    pid_t pid = IN_CHILD(wait_for_state(self, 'S'); kill(self, SIGUSR1));
    sigset_t set = set_of(SIGUSR1, 0);
    siginfo_t info;
    CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
    CHECK_EQ(info.si_pid, pid);
    CHECK_EQ(hits, 0);
    CHECK_EXITS(pid, 0);
}

TEST(sigtimedwait_times_out_with_eagain_and_checks_its_time) {
    sigset_t set = set_of(SIGUSR1, 0);
    block_signal(SIGUSR1);
    long long start = now_ns();
    CHECK_ERR(sigtimedwait(&set, NULL, &(struct timespec){0, 20000000}), EAGAIN);
    CHECK(now_ns() - start >= 20000000);
    CHECK_ERR(sigtimedwait(&set, NULL, &(struct timespec){0, 1000000000}), EINVAL);
}

TEST(sigtimedwait_interrupted_by_another_signal_is_eintr) {
    catch_signal(SIGUSR2, hit, SA_RESTART);
    block_signal(SIGUSR1);
    pid_t self = getpid();
    pid_t pid = IN_CHILD(wait_for_state(self, 'S'); kill(self, SIGUSR2));
    sigset_t set = set_of(SIGUSR1, 0);
    CHECK_ERR(sigtimedwait(&set, NULL, &(struct timespec){10, 0}), EINTR);
    CHECK_EXITS(pid, 0);
}

TEST(signalfd_reads_pending_signals) {
    sigset_t set = set_of(SIGUSR1, SIGRTMIN);
    CHECK_OK(sigprocmask(SIG_BLOCK, &set, NULL));
    int fd = CHECK_OK(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    struct signalfd_siginfo info[3];
    CHECK_ERR(read(fd, info, sizeof info), EAGAIN);
    raise(SIGUSR1);
    CHECK_OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 99}));
    CHECK_EQ(read(fd, info, sizeof info), (ssize_t)(2 * sizeof info[0]));
    CHECK_EQ(info[0].ssi_signo, SIGUSR1);
    CHECK_EQ(info[0].ssi_pid, getpid());
    CHECK_EQ((int)info[1].ssi_signo, SIGRTMIN);
    CHECK_EQ(info[1].ssi_int, 99);
    CHECK_ERR(read(fd, info, 10), EINVAL);
}

// A child that signals its parent once the parent sleeps, and writes to the pipe afterwards.
static pid_t signal_then_write(int number, int fd) {
    pid_t parent = getpid();
    return IN_CHILD(wait_for_state(parent, 'S'); kill(parent, number); sleep_ms(20); (void)!write(fd, "w", 1));
}

TEST(read_of_a_pipe_without_sa_restart_is_eintr) {
    int ends[2];
    char byte;
    CHECK_OK(pipe(ends));
    catch_signal(SIGUSR1, hit, 0);
    pid_t pid = signal_then_write(SIGUSR1, ends[1]);
    CHECK_ERR(read(ends[0], &byte, 1), EINTR);
    CHECK_EQ(hits, 1);
    CHECK_EXITS(pid, 0);
}

TEST(read_of_a_pipe_with_sa_restart_goes_on) {
    int ends[2];
    char byte;
    CHECK_OK(pipe(ends));
    catch_signal(SIGUSR1, hit, SA_RESTART);
    pid_t pid = signal_then_write(SIGUSR1, ends[1]);
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    CHECK_EQ(hits, 1);
    CHECK_EXITS(pid, 0);
}

TEST(ignored_signal_does_not_interrupt_a_read) {
    int ends[2];
    char byte;
    CHECK_OK(pipe(ends));
    signal(SIGUSR1, SIG_IGN);
    pid_t pid = signal_then_write(SIGUSR1, ends[1]);
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    CHECK_EXITS(pid, 0);
}

TEST(waitpid_with_sa_restart_goes_on) {
    catch_signal(SIGUSR1, hit, SA_RESTART);
    pid_t parent = getpid();
    pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); kill(parent, SIGUSR1); sleep_ms(20); _exit(3));
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(hits, 1);
}

TEST(nanosleep_is_eintr_even_with_sa_restart_and_tells_the_rest) {
    catch_signal(SIGUSR1, hit, SA_RESTART);
    pid_t parent = getpid();
    pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); kill(parent, SIGUSR1));
    struct timespec rest = {0, 0};
    CHECK_ERR(nanosleep(&(struct timespec){15, 0}, &rest), EINTR);
    CHECK(rest.tv_sec >= 1 && rest.tv_sec <= 15); // LINUX: the timer's slack counts as left
    CHECK_EXITS(pid, 0);
}

TEST(stop_and_continue_do_not_interrupt_nanosleep) {
    pid_t pid = IN_CHILD(long long start = now_ns(); CHECK_OK(nanosleep(&(struct timespec){0, 200000000}, NULL));
                         CHECK(now_ns() - start >= 200000000));
    wait_for_state(pid, 'S');
    CHECK_OK(kill(pid, SIGSTOP));
    int status;
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK_OK(kill(pid, SIGCONT));
    CHECK_EXITS(pid, 0);
}

TEST(pause_returns_eintr_after_a_handler) {
    catch_signal(SIGUSR1, hit, SA_RESTART);
    pid_t parent = getpid();
    pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); kill(parent, SIGUSR1));
    CHECK_ERR(pause(), EINTR);
    CHECK_EXITS(pid, 0);
}

static char other_stack[65536];
static void *volatile handler_stack;
static void note_stack(int number) {
    (void)number;
    handler_stack = __builtin_frame_address(0);
}

TEST(sigaltstack_carries_handlers_with_sa_onstack) {
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack}, now;
    CHECK_OK(sigaltstack(&stack, NULL));
    catch_signal(SIGUSR1, note_stack, SA_ONSTACK);
    raise(SIGUSR1);
    CHECK((char *)handler_stack > other_stack && (char *)handler_stack < other_stack + sizeof other_stack);
    catch_signal(SIGUSR1, note_stack, 0);
    raise(SIGUSR1);
    CHECK(!((char *)handler_stack > other_stack && (char *)handler_stack < other_stack + sizeof other_stack));
    CHECK_OK(sigaltstack(NULL, &now));
    CHECK_EQ(now.ss_flags, 0);
    CHECK(now.ss_sp == other_stack);
}

TEST(sigaltstack_checks_its_arguments) {
    stack_t small = {.ss_sp = other_stack, .ss_size = 100};
    CHECK_ERR(sigaltstack(&small, NULL), ENOMEM);
    stack_t odd = {.ss_sp = other_stack, .ss_size = sizeof other_stack, .ss_flags = 0x55};
    CHECK_ERR(sigaltstack(&odd, NULL), EINVAL);
    stack_t off = {.ss_flags = SS_DISABLE}, now;
    CHECK_OK(sigaltstack(&off, NULL));
    CHECK_OK(sigaltstack(NULL, &now));
    CHECK_EQ(now.ss_flags, SS_DISABLE);
}

static sigjmp_buf back;
static void jump(int number) {
    hits++;
    siglongjmp(back, number);
}

static void overflow(int depth_left) {
    volatile char frame[4096];
    frame[0] = 1;
    if (depth_left > 0)
        overflow(depth_left - frame[0]);
    frame[1] = 2;
}

TEST(stack_overflow_is_caught_on_the_alternate_stack) {
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    CHECK_OK(sigaltstack(&stack, NULL));
    catch_signal(SIGSEGV, jump, SA_ONSTACK);
    if (sigsetjmp(back, 1) == 0)
        overflow(INT_MAX);
    CHECK_EQ(hits, 1);
}

TEST(siglongjmp_out_of_a_handler_restores_the_mask) {
    catch_signal(SIGUSR1, jump, 0);
    for (int round = 0; round < 10; round++)
        if (sigsetjmp(back, 1) == 0)
            raise(SIGUSR1);
    CHECK_EQ(hits, 10);
}

TEST(fork_child_keeps_handlers_and_has_nothing_pending) {
    catch_signal(SIGUSR1, hit, 0);
    block_signal(SIGUSR1);
    raise(SIGUSR1);
    pid_t pid = IN_CHILD({
        sigset_t pending, set = set_of(SIGUSR1, 0);
        sigpending(&pending);
        CHECK(!sigismember(&pending, SIGUSR1));
        raise(SIGUSR1);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        CHECK_EQ(hits, 1);
    });
    CHECK_EXITS(pid, 0);
}

TEST(kill_of_a_group_reaches_all_its_members) {
    pid_t first = IN_CHILD(setpgid(0, 0); pause());
    CHECK_OK(setpgid(first, first));
    pid_t second = IN_CHILD(pause());
    CHECK_OK(setpgid(second, first));
    CHECK_OK(kill(-first, SIGTERM));
    CHECK_KILLED(first, SIGTERM);
    CHECK_KILLED(second, SIGTERM);
}

TEST(sigpipe_kills_and_ignored_sigpipe_is_epipe) {
    int ends[2];
    CHECK_OK(pipe(ends));
    CHECK_OK(close(ends[0]));
    pid_t pid = IN_CHILD((void)!write(ends[1], "x", 1));
    CHECK_KILLED(pid, SIGPIPE);
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERR(write(ends[1], "x", 1), EPIPE);
}

TEST(abort_kills_even_when_sigabrt_is_ignored) {
    pid_t pid = IN_CHILD(signal(SIGABRT, SIG_IGN); abort());
    CHECK_KILLED(pid, SIGABRT);
}

TEST(default_actions_ignore_or_kill) {
    raise(SIGURG);
    raise(SIGWINCH);
    raise(SIGCHLD);
    raise(SIGCONT);
    int deadly[] = {SIGHUP, SIGINT, SIGTERM, SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGIO, SIGPWR, 40};
    for (size_t at = 0; at < sizeof deadly / sizeof *deadly; at++) {
        pid_t pid = IN_CHILD(raise(deadly[at]));
        CHECK_KILLED(pid, deadly[at]);
    }
}

TEST(setting_a_pending_signal_to_ignore_discards_it) {
    catch_signal(SIGUSR1, hit, 0);
    block_signal(SIGUSR1);
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_IGN);
    sigset_t pending;
    CHECK_OK(sigpending(&pending));
    CHECK(!sigismember(&pending, SIGUSR1));
}

TEST(sigcont_discards_pending_stops) {
    block_signal(SIGTSTP);
    raise(SIGTSTP);
    raise(SIGCONT);
    sigset_t pending;
    CHECK_OK(sigpending(&pending));
    CHECK(!sigismember(&pending, SIGTSTP));
}

static void *thread_waits(void *argument) {
    sigset_t set = set_of(SIGUSR1, 0);
    int number = 0;
    sigwait(&set, &number);
    *(int *)argument = number;
    return NULL;
}

TEST(pthread_kill_reaches_that_thread) {
    block_signal(SIGUSR1);
    pthread_t thread;
    int number = 0;
    CHECK_EQ(pthread_create(&thread, NULL, thread_waits, &number), 0);
    CHECK_EQ(pthread_kill(thread, SIGUSR1), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(number, SIGUSR1);
}

static volatile pid_t handler_tid;
static void note_tid(int number) {
    (void)number;
    handler_tid = (pid_t)syscall(SYS_gettid);
}

static void *unblock_and_spin(void *argument) {
    sigset_t set = set_of(SIGUSR1, 0);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    *(pid_t *)argument = (pid_t)syscall(SYS_gettid);
    while (handler_tid == 0)
        ;
    return NULL;
}

TEST(process_signal_goes_to_a_thread_that_does_not_block_it) {
    catch_signal(SIGUSR1, note_tid, 0);
    block_signal(SIGUSR1);
    pthread_t thread;
    pid_t tid = 0;
    CHECK_EQ(pthread_create(&thread, NULL, unblock_and_spin, &tid), 0);
    CHECK_OK(kill(getpid(), SIGUSR1));
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(handler_tid, tid);
}
