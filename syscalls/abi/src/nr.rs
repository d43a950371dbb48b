//! System call numbers of x86-64.
//!
//! Source: `arch/x86/entry/syscalls/syscall_64.tbl`.

/// `read(2)`.
pub const READ: u64 = 0;
/// `write(2)`.
pub const WRITE: u64 = 1;
/// `open(2)`.
pub const OPEN: u64 = 2;
/// `close(2)`.
pub const CLOSE: u64 = 3;
/// `stat(2)`.
pub const STAT: u64 = 4;
/// `fstat(2)`.
pub const FSTAT: u64 = 5;
/// `lstat(2)`.
pub const LSTAT: u64 = 6;
/// `poll(2)`.
pub const POLL: u64 = 7;
/// `lseek(2)`.
pub const LSEEK: u64 = 8;
/// `mmap(2)`.
pub const MMAP: u64 = 9;
/// `mprotect(2)`.
pub const MPROTECT: u64 = 10;
/// `munmap(2)`.
pub const MUNMAP: u64 = 11;
/// `brk(2)`.
pub const BRK: u64 = 12;
/// `rt_sigaction(2)`.
pub const RT_SIGACTION: u64 = 13;
/// `rt_sigprocmask(2)`.
pub const RT_SIGPROCMASK: u64 = 14;
/// `rt_sigreturn(2)`.
pub const RT_SIGRETURN: u64 = 15;
/// `ioctl(2)`.
pub const IOCTL: u64 = 16;
/// `pread64(2)`.
pub const PREAD64: u64 = 17;
/// `pwrite64(2)`.
pub const PWRITE64: u64 = 18;
/// `readv(2)`.
pub const READV: u64 = 19;
/// `writev(2)`.
pub const WRITEV: u64 = 20;
/// `access(2)`.
pub const ACCESS: u64 = 21;
/// `pipe(2)`.
pub const PIPE: u64 = 22;
/// `select(2)`.
pub const SELECT: u64 = 23;
/// `sched_yield(2)`.
pub const SCHED_YIELD: u64 = 24;
/// `mremap(2)`.
pub const MREMAP: u64 = 25;
/// `msync(2)`.
pub const MSYNC: u64 = 26;
/// `mincore(2)`.
pub const MINCORE: u64 = 27;
/// `madvise(2)`.
pub const MADVISE: u64 = 28;
/// `shmget(2)`.
pub const SHMGET: u64 = 29;
/// `shmat(2)`.
pub const SHMAT: u64 = 30;
/// `shmctl(2)`.
pub const SHMCTL: u64 = 31;
/// `dup(2)`.
pub const DUP: u64 = 32;
/// `dup2(2)`.
pub const DUP2: u64 = 33;
/// `pause(2)`.
pub const PAUSE: u64 = 34;
/// `nanosleep(2)`.
pub const NANOSLEEP: u64 = 35;
/// `getitimer(2)`.
pub const GETITIMER: u64 = 36;
/// `alarm(2)`.
pub const ALARM: u64 = 37;
/// `setitimer(2)`.
pub const SETITIMER: u64 = 38;
/// `getpid(2)`.
pub const GETPID: u64 = 39;
/// `sendfile(2)`.
pub const SENDFILE: u64 = 40;
/// `socket(2)`.
pub const SOCKET: u64 = 41;
/// `connect(2)`.
pub const CONNECT: u64 = 42;
/// `accept(2)`.
pub const ACCEPT: u64 = 43;
/// `sendto(2)`.
pub const SENDTO: u64 = 44;
/// `recvfrom(2)`.
pub const RECVFROM: u64 = 45;
/// `sendmsg(2)`.
pub const SENDMSG: u64 = 46;
/// `recvmsg(2)`.
pub const RECVMSG: u64 = 47;
/// `shutdown(2)`.
pub const SHUTDOWN: u64 = 48;
/// `bind(2)`.
pub const BIND: u64 = 49;
/// `listen(2)`.
pub const LISTEN: u64 = 50;
/// `getsockname(2)`.
pub const GETSOCKNAME: u64 = 51;
/// `getpeername(2)`.
pub const GETPEERNAME: u64 = 52;
/// `socketpair(2)`.
pub const SOCKETPAIR: u64 = 53;
/// `setsockopt(2)`.
pub const SETSOCKOPT: u64 = 54;
/// `getsockopt(2)`.
pub const GETSOCKOPT: u64 = 55;
/// `clone(2)`.
pub const CLONE: u64 = 56;
/// `fork(2)`.
pub const FORK: u64 = 57;
/// `vfork(2)`.
pub const VFORK: u64 = 58;
/// `execve(2)`.
pub const EXECVE: u64 = 59;
/// `exit(2)`.
pub const EXIT: u64 = 60;
/// `wait4(2)`.
pub const WAIT4: u64 = 61;
/// `kill(2)`.
pub const KILL: u64 = 62;
/// `uname(2)`.
pub const UNAME: u64 = 63;
/// `semget(2)`.
pub const SEMGET: u64 = 64;
/// `semop(2)`.
pub const SEMOP: u64 = 65;
/// `semctl(2)`.
pub const SEMCTL: u64 = 66;
/// `shmdt(2)`.
pub const SHMDT: u64 = 67;
/// `msgget(2)`.
pub const MSGGET: u64 = 68;
/// `msgsnd(2)`.
pub const MSGSND: u64 = 69;
/// `msgrcv(2)`.
pub const MSGRCV: u64 = 70;
/// `msgctl(2)`.
pub const MSGCTL: u64 = 71;
/// `fcntl(2)`.
pub const FCNTL: u64 = 72;
/// `flock(2)`.
pub const FLOCK: u64 = 73;
/// `fsync(2)`.
pub const FSYNC: u64 = 74;
/// `fdatasync(2)`.
pub const FDATASYNC: u64 = 75;
/// `truncate(2)`.
pub const TRUNCATE: u64 = 76;
/// `ftruncate(2)`.
pub const FTRUNCATE: u64 = 77;
/// `getdents(2)`.
pub const GETDENTS: u64 = 78;
/// `getcwd(2)`.
pub const GETCWD: u64 = 79;
/// `chdir(2)`.
pub const CHDIR: u64 = 80;
/// `fchdir(2)`.
pub const FCHDIR: u64 = 81;
/// `rename(2)`.
pub const RENAME: u64 = 82;
/// `mkdir(2)`.
pub const MKDIR: u64 = 83;
/// `rmdir(2)`.
pub const RMDIR: u64 = 84;
/// `creat(2)`.
pub const CREAT: u64 = 85;
/// `link(2)`.
pub const LINK: u64 = 86;
/// `unlink(2)`.
pub const UNLINK: u64 = 87;
/// `symlink(2)`.
pub const SYMLINK: u64 = 88;
/// `readlink(2)`.
pub const READLINK: u64 = 89;
/// `chmod(2)`.
pub const CHMOD: u64 = 90;
/// `fchmod(2)`.
pub const FCHMOD: u64 = 91;
/// `chown(2)`.
pub const CHOWN: u64 = 92;
/// `fchown(2)`.
pub const FCHOWN: u64 = 93;
/// `lchown(2)`.
pub const LCHOWN: u64 = 94;
/// `umask(2)`.
pub const UMASK: u64 = 95;
/// `gettimeofday(2)`.
pub const GETTIMEOFDAY: u64 = 96;
/// `getrlimit(2)`.
pub const GETRLIMIT: u64 = 97;
/// `getrusage(2)`.
pub const GETRUSAGE: u64 = 98;
/// `sysinfo(2)`.
pub const SYSINFO: u64 = 99;
/// `times(2)`.
pub const TIMES: u64 = 100;
/// `ptrace(2)`.
pub const PTRACE: u64 = 101;
/// `getuid(2)`.
pub const GETUID: u64 = 102;
/// `syslog(2)`.
pub const SYSLOG: u64 = 103;
/// `getgid(2)`.
pub const GETGID: u64 = 104;
/// `setuid(2)`.
pub const SETUID: u64 = 105;
/// `setgid(2)`.
pub const SETGID: u64 = 106;
/// `geteuid(2)`.
pub const GETEUID: u64 = 107;
/// `getegid(2)`.
pub const GETEGID: u64 = 108;
/// `setpgid(2)`.
pub const SETPGID: u64 = 109;
/// `getppid(2)`.
pub const GETPPID: u64 = 110;
/// `getpgrp(2)`.
pub const GETPGRP: u64 = 111;
/// `setsid(2)`.
pub const SETSID: u64 = 112;
/// `setreuid(2)`.
pub const SETREUID: u64 = 113;
/// `setregid(2)`.
pub const SETREGID: u64 = 114;
/// `getgroups(2)`.
pub const GETGROUPS: u64 = 115;
/// `setgroups(2)`.
pub const SETGROUPS: u64 = 116;
/// `setresuid(2)`.
pub const SETRESUID: u64 = 117;
/// `getresuid(2)`.
pub const GETRESUID: u64 = 118;
/// `setresgid(2)`.
pub const SETRESGID: u64 = 119;
/// `getresgid(2)`.
pub const GETRESGID: u64 = 120;
/// `getpgid(2)`.
pub const GETPGID: u64 = 121;
/// `setfsuid(2)`.
pub const SETFSUID: u64 = 122;
/// `setfsgid(2)`.
pub const SETFSGID: u64 = 123;
/// `getsid(2)`.
pub const GETSID: u64 = 124;
/// `capget(2)`.
pub const CAPGET: u64 = 125;
/// `capset(2)`.
pub const CAPSET: u64 = 126;
/// `rt_sigpending(2)`.
pub const RT_SIGPENDING: u64 = 127;
/// `rt_sigtimedwait(2)`.
pub const RT_SIGTIMEDWAIT: u64 = 128;
/// `rt_sigqueueinfo(2)`.
pub const RT_SIGQUEUEINFO: u64 = 129;
/// `rt_sigsuspend(2)`.
pub const RT_SIGSUSPEND: u64 = 130;
/// `sigaltstack(2)`.
pub const SIGALTSTACK: u64 = 131;
/// `utime(2)`.
pub const UTIME: u64 = 132;
/// `mknod(2)`.
pub const MKNOD: u64 = 133;
/// `uselib(2)`.
pub const USELIB: u64 = 134;
/// `personality(2)`.
pub const PERSONALITY: u64 = 135;
/// `ustat(2)`.
pub const USTAT: u64 = 136;
/// `statfs(2)`.
pub const STATFS: u64 = 137;
/// `fstatfs(2)`.
pub const FSTATFS: u64 = 138;
/// `sysfs(2)`.
pub const SYSFS: u64 = 139;
/// `getpriority(2)`.
pub const GETPRIORITY: u64 = 140;
/// `setpriority(2)`.
pub const SETPRIORITY: u64 = 141;
/// `sched_setparam(2)`.
pub const SCHED_SETPARAM: u64 = 142;
/// `sched_getparam(2)`.
pub const SCHED_GETPARAM: u64 = 143;
/// `sched_setscheduler(2)`.
pub const SCHED_SETSCHEDULER: u64 = 144;
/// `sched_getscheduler(2)`.
pub const SCHED_GETSCHEDULER: u64 = 145;
/// `sched_get_priority_max(2)`.
pub const SCHED_GET_PRIORITY_MAX: u64 = 146;
/// `sched_get_priority_min(2)`.
pub const SCHED_GET_PRIORITY_MIN: u64 = 147;
/// `sched_rr_get_interval(2)`.
pub const SCHED_RR_GET_INTERVAL: u64 = 148;
/// `mlock(2)`.
pub const MLOCK: u64 = 149;
/// `munlock(2)`.
pub const MUNLOCK: u64 = 150;
/// `mlockall(2)`.
pub const MLOCKALL: u64 = 151;
/// `munlockall(2)`.
pub const MUNLOCKALL: u64 = 152;
/// `vhangup(2)`.
pub const VHANGUP: u64 = 153;
/// `modify_ldt(2)`.
pub const MODIFY_LDT: u64 = 154;
/// `pivot_root(2)`.
pub const PIVOT_ROOT: u64 = 155;
/// `_sysctl(2)`.
pub const _SYSCTL: u64 = 156;
/// `prctl(2)`.
pub const PRCTL: u64 = 157;
/// `arch_prctl(2)`.
pub const ARCH_PRCTL: u64 = 158;
/// `adjtimex(2)`.
pub const ADJTIMEX: u64 = 159;
/// `setrlimit(2)`.
pub const SETRLIMIT: u64 = 160;
/// `chroot(2)`.
pub const CHROOT: u64 = 161;
/// `sync(2)`.
pub const SYNC: u64 = 162;
/// `acct(2)`.
pub const ACCT: u64 = 163;
/// `settimeofday(2)`.
pub const SETTIMEOFDAY: u64 = 164;
/// `mount(2)`.
pub const MOUNT: u64 = 165;
/// `umount2(2)`.
pub const UMOUNT2: u64 = 166;
/// `swapon(2)`.
pub const SWAPON: u64 = 167;
/// `swapoff(2)`.
pub const SWAPOFF: u64 = 168;
/// `reboot(2)`.
pub const REBOOT: u64 = 169;
/// `sethostname(2)`.
pub const SETHOSTNAME: u64 = 170;
/// `setdomainname(2)`.
pub const SETDOMAINNAME: u64 = 171;
/// `iopl(2)`.
pub const IOPL: u64 = 172;
/// `ioperm(2)`.
pub const IOPERM: u64 = 173;
/// `create_module(2)`.
pub const CREATE_MODULE: u64 = 174;
/// `init_module(2)`.
pub const INIT_MODULE: u64 = 175;
/// `delete_module(2)`.
pub const DELETE_MODULE: u64 = 176;
/// `get_kernel_syms(2)`.
pub const GET_KERNEL_SYMS: u64 = 177;
/// `query_module(2)`.
pub const QUERY_MODULE: u64 = 178;
/// `quotactl(2)`.
pub const QUOTACTL: u64 = 179;
/// `nfsservctl(2)`.
pub const NFSSERVCTL: u64 = 180;
/// `getpmsg(2)`.
pub const GETPMSG: u64 = 181;
/// `putpmsg(2)`.
pub const PUTPMSG: u64 = 182;
/// `afs_syscall(2)`.
pub const AFS_SYSCALL: u64 = 183;
/// `tuxcall(2)`.
pub const TUXCALL: u64 = 184;
/// `security(2)`.
pub const SECURITY: u64 = 185;
/// `gettid(2)`.
pub const GETTID: u64 = 186;
/// `readahead(2)`.
pub const READAHEAD: u64 = 187;
/// `setxattr(2)`.
pub const SETXATTR: u64 = 188;
/// `lsetxattr(2)`.
pub const LSETXATTR: u64 = 189;
/// `fsetxattr(2)`.
pub const FSETXATTR: u64 = 190;
/// `getxattr(2)`.
pub const GETXATTR: u64 = 191;
/// `lgetxattr(2)`.
pub const LGETXATTR: u64 = 192;
/// `fgetxattr(2)`.
pub const FGETXATTR: u64 = 193;
/// `listxattr(2)`.
pub const LISTXATTR: u64 = 194;
/// `llistxattr(2)`.
pub const LLISTXATTR: u64 = 195;
/// `flistxattr(2)`.
pub const FLISTXATTR: u64 = 196;
/// `removexattr(2)`.
pub const REMOVEXATTR: u64 = 197;
/// `lremovexattr(2)`.
pub const LREMOVEXATTR: u64 = 198;
/// `fremovexattr(2)`.
pub const FREMOVEXATTR: u64 = 199;
/// `tkill(2)`.
pub const TKILL: u64 = 200;
/// `time(2)`.
pub const TIME: u64 = 201;
/// `futex(2)`.
pub const FUTEX: u64 = 202;
/// `sched_setaffinity(2)`.
pub const SCHED_SETAFFINITY: u64 = 203;
/// `sched_getaffinity(2)`.
pub const SCHED_GETAFFINITY: u64 = 204;
/// `set_thread_area(2)`.
pub const SET_THREAD_AREA: u64 = 205;
/// `io_setup(2)`.
pub const IO_SETUP: u64 = 206;
/// `io_destroy(2)`.
pub const IO_DESTROY: u64 = 207;
/// `io_getevents(2)`.
pub const IO_GETEVENTS: u64 = 208;
/// `io_submit(2)`.
pub const IO_SUBMIT: u64 = 209;
/// `io_cancel(2)`.
pub const IO_CANCEL: u64 = 210;
/// `get_thread_area(2)`.
pub const GET_THREAD_AREA: u64 = 211;
/// `lookup_dcookie(2)`.
pub const LOOKUP_DCOOKIE: u64 = 212;
/// `epoll_create(2)`.
pub const EPOLL_CREATE: u64 = 213;
/// `epoll_ctl_old(2)`.
pub const EPOLL_CTL_OLD: u64 = 214;
/// `epoll_wait_old(2)`.
pub const EPOLL_WAIT_OLD: u64 = 215;
/// `remap_file_pages(2)`.
pub const REMAP_FILE_PAGES: u64 = 216;
/// `getdents64(2)`.
pub const GETDENTS64: u64 = 217;
/// `set_tid_address(2)`.
pub const SET_TID_ADDRESS: u64 = 218;
/// `restart_syscall(2)`.
pub const RESTART_SYSCALL: u64 = 219;
/// `semtimedop(2)`.
pub const SEMTIMEDOP: u64 = 220;
/// `fadvise64(2)`.
pub const FADVISE64: u64 = 221;
/// `timer_create(2)`.
pub const TIMER_CREATE: u64 = 222;
/// `timer_settime(2)`.
pub const TIMER_SETTIME: u64 = 223;
/// `timer_gettime(2)`.
pub const TIMER_GETTIME: u64 = 224;
/// `timer_getoverrun(2)`.
pub const TIMER_GETOVERRUN: u64 = 225;
/// `timer_delete(2)`.
pub const TIMER_DELETE: u64 = 226;
/// `clock_settime(2)`.
pub const CLOCK_SETTIME: u64 = 227;
/// `clock_gettime(2)`.
pub const CLOCK_GETTIME: u64 = 228;
/// `clock_getres(2)`.
pub const CLOCK_GETRES: u64 = 229;
/// `clock_nanosleep(2)`.
pub const CLOCK_NANOSLEEP: u64 = 230;
/// `exit_group(2)`.
pub const EXIT_GROUP: u64 = 231;
/// `epoll_wait(2)`.
pub const EPOLL_WAIT: u64 = 232;
/// `epoll_ctl(2)`.
pub const EPOLL_CTL: u64 = 233;
/// `tgkill(2)`.
pub const TGKILL: u64 = 234;
/// `utimes(2)`.
pub const UTIMES: u64 = 235;
/// `vserver(2)`.
pub const VSERVER: u64 = 236;
/// `mbind(2)`.
pub const MBIND: u64 = 237;
/// `set_mempolicy(2)`.
pub const SET_MEMPOLICY: u64 = 238;
/// `get_mempolicy(2)`.
pub const GET_MEMPOLICY: u64 = 239;
/// `mq_open(2)`.
pub const MQ_OPEN: u64 = 240;
/// `mq_unlink(2)`.
pub const MQ_UNLINK: u64 = 241;
/// `mq_timedsend(2)`.
pub const MQ_TIMEDSEND: u64 = 242;
/// `mq_timedreceive(2)`.
pub const MQ_TIMEDRECEIVE: u64 = 243;
/// `mq_notify(2)`.
pub const MQ_NOTIFY: u64 = 244;
/// `mq_getsetattr(2)`.
pub const MQ_GETSETATTR: u64 = 245;
/// `kexec_load(2)`.
pub const KEXEC_LOAD: u64 = 246;
/// `waitid(2)`.
pub const WAITID: u64 = 247;
/// `add_key(2)`.
pub const ADD_KEY: u64 = 248;
/// `request_key(2)`.
pub const REQUEST_KEY: u64 = 249;
/// `keyctl(2)`.
pub const KEYCTL: u64 = 250;
/// `ioprio_set(2)`.
pub const IOPRIO_SET: u64 = 251;
/// `ioprio_get(2)`.
pub const IOPRIO_GET: u64 = 252;
/// `inotify_init(2)`.
pub const INOTIFY_INIT: u64 = 253;
/// `inotify_add_watch(2)`.
pub const INOTIFY_ADD_WATCH: u64 = 254;
/// `inotify_rm_watch(2)`.
pub const INOTIFY_RM_WATCH: u64 = 255;
/// `migrate_pages(2)`.
pub const MIGRATE_PAGES: u64 = 256;
/// `openat(2)`.
pub const OPENAT: u64 = 257;
/// `mkdirat(2)`.
pub const MKDIRAT: u64 = 258;
/// `mknodat(2)`.
pub const MKNODAT: u64 = 259;
/// `fchownat(2)`.
pub const FCHOWNAT: u64 = 260;
/// `futimesat(2)`.
pub const FUTIMESAT: u64 = 261;
/// `newfstatat(2)`.
pub const NEWFSTATAT: u64 = 262;
/// `unlinkat(2)`.
pub const UNLINKAT: u64 = 263;
/// `renameat(2)`.
pub const RENAMEAT: u64 = 264;
/// `linkat(2)`.
pub const LINKAT: u64 = 265;
/// `symlinkat(2)`.
pub const SYMLINKAT: u64 = 266;
/// `readlinkat(2)`.
pub const READLINKAT: u64 = 267;
/// `fchmodat(2)`.
pub const FCHMODAT: u64 = 268;
/// `faccessat(2)`.
pub const FACCESSAT: u64 = 269;
/// `pselect6(2)`.
pub const PSELECT6: u64 = 270;
/// `ppoll(2)`.
pub const PPOLL: u64 = 271;
/// `unshare(2)`.
pub const UNSHARE: u64 = 272;
/// `set_robust_list(2)`.
pub const SET_ROBUST_LIST: u64 = 273;
/// `get_robust_list(2)`.
pub const GET_ROBUST_LIST: u64 = 274;
/// `splice(2)`.
pub const SPLICE: u64 = 275;
/// `tee(2)`.
pub const TEE: u64 = 276;
/// `sync_file_range(2)`.
pub const SYNC_FILE_RANGE: u64 = 277;
/// `vmsplice(2)`.
pub const VMSPLICE: u64 = 278;
/// `move_pages(2)`.
pub const MOVE_PAGES: u64 = 279;
/// `utimensat(2)`.
pub const UTIMENSAT: u64 = 280;
/// `epoll_pwait(2)`.
pub const EPOLL_PWAIT: u64 = 281;
/// `signalfd(2)`.
pub const SIGNALFD: u64 = 282;
/// `timerfd_create(2)`.
pub const TIMERFD_CREATE: u64 = 283;
/// `eventfd(2)`.
pub const EVENTFD: u64 = 284;
/// `fallocate(2)`.
pub const FALLOCATE: u64 = 285;
/// `timerfd_settime(2)`.
pub const TIMERFD_SETTIME: u64 = 286;
/// `timerfd_gettime(2)`.
pub const TIMERFD_GETTIME: u64 = 287;
/// `accept4(2)`.
pub const ACCEPT4: u64 = 288;
/// `signalfd4(2)`.
pub const SIGNALFD4: u64 = 289;
/// `eventfd2(2)`.
pub const EVENTFD2: u64 = 290;
/// `epoll_create1(2)`.
pub const EPOLL_CREATE1: u64 = 291;
/// `dup3(2)`.
pub const DUP3: u64 = 292;
/// `pipe2(2)`.
pub const PIPE2: u64 = 293;
/// `inotify_init1(2)`.
pub const INOTIFY_INIT1: u64 = 294;
/// `preadv(2)`.
pub const PREADV: u64 = 295;
/// `pwritev(2)`.
pub const PWRITEV: u64 = 296;
/// `rt_tgsigqueueinfo(2)`.
pub const RT_TGSIGQUEUEINFO: u64 = 297;
/// `perf_event_open(2)`.
pub const PERF_EVENT_OPEN: u64 = 298;
/// `recvmmsg(2)`.
pub const RECVMMSG: u64 = 299;
/// `fanotify_init(2)`.
pub const FANOTIFY_INIT: u64 = 300;
/// `fanotify_mark(2)`.
pub const FANOTIFY_MARK: u64 = 301;
/// `prlimit64(2)`.
pub const PRLIMIT64: u64 = 302;
/// `name_to_handle_at(2)`.
pub const NAME_TO_HANDLE_AT: u64 = 303;
/// `open_by_handle_at(2)`.
pub const OPEN_BY_HANDLE_AT: u64 = 304;
/// `clock_adjtime(2)`.
pub const CLOCK_ADJTIME: u64 = 305;
/// `syncfs(2)`.
pub const SYNCFS: u64 = 306;
/// `sendmmsg(2)`.
pub const SENDMMSG: u64 = 307;
/// `setns(2)`.
pub const SETNS: u64 = 308;
/// `getcpu(2)`.
pub const GETCPU: u64 = 309;
/// `process_vm_readv(2)`.
pub const PROCESS_VM_READV: u64 = 310;
/// `process_vm_writev(2)`.
pub const PROCESS_VM_WRITEV: u64 = 311;
/// `kcmp(2)`.
pub const KCMP: u64 = 312;
/// `finit_module(2)`.
pub const FINIT_MODULE: u64 = 313;
/// `sched_setattr(2)`.
pub const SCHED_SETATTR: u64 = 314;
/// `sched_getattr(2)`.
pub const SCHED_GETATTR: u64 = 315;
/// `renameat2(2)`.
pub const RENAMEAT2: u64 = 316;
/// `seccomp(2)`.
pub const SECCOMP: u64 = 317;
/// `getrandom(2)`.
pub const GETRANDOM: u64 = 318;
/// `memfd_create(2)`.
pub const MEMFD_CREATE: u64 = 319;
/// `kexec_file_load(2)`.
pub const KEXEC_FILE_LOAD: u64 = 320;
/// `bpf(2)`.
pub const BPF: u64 = 321;
/// `execveat(2)`.
pub const EXECVEAT: u64 = 322;
/// `userfaultfd(2)`.
pub const USERFAULTFD: u64 = 323;
/// `membarrier(2)`.
pub const MEMBARRIER: u64 = 324;
/// `mlock2(2)`.
pub const MLOCK2: u64 = 325;
/// `copy_file_range(2)`.
pub const COPY_FILE_RANGE: u64 = 326;
/// `preadv2(2)`.
pub const PREADV2: u64 = 327;
/// `pwritev2(2)`.
pub const PWRITEV2: u64 = 328;
/// `pkey_mprotect(2)`.
pub const PKEY_MPROTECT: u64 = 329;
/// `pkey_alloc(2)`.
pub const PKEY_ALLOC: u64 = 330;
/// `pkey_free(2)`.
pub const PKEY_FREE: u64 = 331;
/// `statx(2)`.
pub const STATX: u64 = 332;
/// `io_pgetevents(2)`.
pub const IO_PGETEVENTS: u64 = 333;
/// `rseq(2)`.
pub const RSEQ: u64 = 334;
/// `pidfd_send_signal(2)`.
pub const PIDFD_SEND_SIGNAL: u64 = 424;
/// `io_uring_setup(2)`.
pub const IO_URING_SETUP: u64 = 425;
/// `io_uring_enter(2)`.
pub const IO_URING_ENTER: u64 = 426;
/// `io_uring_register(2)`.
pub const IO_URING_REGISTER: u64 = 427;
/// `open_tree(2)`.
pub const OPEN_TREE: u64 = 428;
/// `move_mount(2)`.
pub const MOVE_MOUNT: u64 = 429;
/// `fsopen(2)`.
pub const FSOPEN: u64 = 430;
/// `fsconfig(2)`.
pub const FSCONFIG: u64 = 431;
/// `fsmount(2)`.
pub const FSMOUNT: u64 = 432;
/// `fspick(2)`.
pub const FSPICK: u64 = 433;
/// `pidfd_open(2)`.
pub const PIDFD_OPEN: u64 = 434;
/// `clone3(2)`.
pub const CLONE3: u64 = 435;
/// `close_range(2)`.
pub const CLOSE_RANGE: u64 = 436;
/// `openat2(2)`.
pub const OPENAT2: u64 = 437;
/// `pidfd_getfd(2)`.
pub const PIDFD_GETFD: u64 = 438;
/// `faccessat2(2)`.
pub const FACCESSAT2: u64 = 439;
/// `process_madvise(2)`.
pub const PROCESS_MADVISE: u64 = 440;
/// `epoll_pwait2(2)`.
pub const EPOLL_PWAIT2: u64 = 441;
/// `mount_setattr(2)`.
pub const MOUNT_SETATTR: u64 = 442;
/// `quotactl_fd(2)`.
pub const QUOTACTL_FD: u64 = 443;
/// `landlock_create_ruleset(2)`.
pub const LANDLOCK_CREATE_RULESET: u64 = 444;
/// `landlock_add_rule(2)`.
pub const LANDLOCK_ADD_RULE: u64 = 445;
/// `landlock_restrict_self(2)`.
pub const LANDLOCK_RESTRICT_SELF: u64 = 446;
/// `memfd_secret(2)`.
pub const MEMFD_SECRET: u64 = 447;
/// `process_mrelease(2)`.
pub const PROCESS_MRELEASE: u64 = 448;
/// `futex_waitv(2)`.
pub const FUTEX_WAITV: u64 = 449;
/// `set_mempolicy_home_node(2)`.
pub const SET_MEMPOLICY_HOME_NODE: u64 = 450;
/// `cachestat(2)`.
pub const CACHESTAT: u64 = 451;
/// `fchmodat2(2)`.
pub const FCHMODAT2: u64 = 452;
/// `map_shadow_stack(2)`.
pub const MAP_SHADOW_STACK: u64 = 453;
/// `futex_wake(2)`.
pub const FUTEX_WAKE: u64 = 454;
/// `futex_wait(2)`.
pub const FUTEX_WAIT: u64 = 455;
/// `futex_requeue(2)`.
pub const FUTEX_REQUEUE: u64 = 456;
/// `statmount(2)`.
pub const STATMOUNT: u64 = 457;
/// `listmount(2)`.
pub const LISTMOUNT: u64 = 458;
/// `lsm_get_self_attr(2)`.
pub const LSM_GET_SELF_ATTR: u64 = 459;
/// `lsm_set_self_attr(2)`.
pub const LSM_SET_SELF_ATTR: u64 = 460;
/// `lsm_list_modules(2)`.
pub const LSM_LIST_MODULES: u64 = 461;
/// `mseal(2)`.
pub const MSEAL: u64 = 462;

/// One past the highest number listed here.
pub const LIMIT: u64 = 463;
