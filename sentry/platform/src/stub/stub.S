// The code that runs in every stub, on the guest's own threads and on the agent. x86-64, Intel syntax, position
// independent, no data of its own but constants. It is copied to STUB_BASE; see layout.rs for the pages it uses.
//
// Guest code can jump to any byte of this. No line of it is a boundary: the filters are (filter.rs).
// It never touches FP or vector registers, so that they hold the guest's values across a call.

.pushsection .rodata.rvisor_stub, "a", @progbits
.balign 4096
.globl rvisor_stub_start
rvisor_stub_start:

// ---------------------------------------------------------------------------------------------------------------
// The agent: runs the sentry's orders. Uses no stack and trusts no page that the guest can write.
// r12 = its orders (guest: read only), r13 = its answers, r14d = last order done.
// ---------------------------------------------------------------------------------------------------------------
.globl rvisor_stub_agent
rvisor_stub_agent:
    mov eax, [r12 + {A_SEQ}]
    cmp eax, r14d
    jne 1f
    mov eax, 202                        // futex(seq, FUTEX_WAIT, last done, no time limit)
    mov rdi, r12
    xor esi, esi
    mov edx, r14d
    xor r10d, r10d
    syscall
    jmp rvisor_stub_agent
1:  mov r14d, eax
    mov eax, [r12 + {A_OP}]
    cmp eax, {OP_THREAD}
    je agent_thread
    cmp eax, {OP_FORK}
    je agent_fork
    mov rax, [r12 + {A_CALL_NR}]
    mov rdi, [r12 + {A_CALL_ARGS}]
    mov rsi, [r12 + {A_CALL_ARGS} + 8]
    mov rdx, [r12 + {A_CALL_ARGS} + 16]
    mov r10, [r12 + {A_CALL_ARGS} + 24]
    mov r8, [r12 + {A_CALL_ARGS} + 32]
    mov r9, [r12 + {A_CALL_ARGS} + 40]
    syscall
agent_done:
    mov [r13 + {A_RESULT}], rax
    mov [r13 + {A_DONE}], r14d
    mov eax, 202                        // futex(done, FUTEX_WAKE, 1)
    lea rdi, [r13 + {A_DONE}]
    mov esi, 1
    mov edx, 1
    syscall
    jmp rvisor_stub_agent

agent_thread:                           // map the slot's pages if need be, then clone a guest thread
    mov r15, [r12 + {A_SLOT}]
    cmp qword ptr [r12 + {A_MAP}], 0
    je 1f
    mov eax, 9
    mov rdi, r15
    mov esi, 0x1000
    mov edx, 1
    mov r10d, 0x11
    mov r8d, {ARENA_FD}
    mov r9, [r12 + {A_RO_OFFSET}]
    syscall
    test rax, rax
    js agent_done
    mov eax, 9
    lea rdi, [r15 + {RW}]
    mov esi, {RW_SIZE}
    mov edx, 3
    mov r10d, 0x11
    mov r8d, {ARENA_FD}
    mov r9, [r12 + {A_RW_OFFSET}]
    syscall
    test rax, rax
    js agent_done
1:  mov eax, 56
    mov rdi, [r12 + {A_CLONE_FLAGS}]
    lea rsi, [r15 + {SIGNAL_STACK}]
    xor edx, edx
    lea r10, [r15 + {RW} + {TID_WORD}]
    xor r8d, r8d
    syscall
    test rax, rax
    jnz agent_done
    jmp thread_start

agent_fork:                             // a copy of this process; in it, fresh pages for its agent
    mov rbp, [r12 + {A_AGENT_RO_OFFSET}]
    mov r15, [r12 + {A_AGENT_RW_OFFSET}]
    mov eax, 56
    mov rdi, [r12 + {A_CLONE_FLAGS}]
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    syscall
    test rax, rax
    jnz agent_done
    mov eax, 11                         // munmap all slots
    movabs rdi, {SLOTS_BASE}
    mov esi, {SLOTS_SPAN}
    syscall
    mov eax, 9
    mov rdi, r12
    mov esi, 0x1000
    mov edx, 1
    mov r10d, 0x11
    mov r8d, {ARENA_FD}
    mov r9, rbp
    syscall
    cmp rax, r12
    jne stub_die
    mov eax, 9
    mov rdi, r13
    mov esi, 0x1000
    mov edx, 3
    mov r10d, 0x11
    mov r8d, {ARENA_FD}
    mov r9, r15
    syscall
    cmp rax, r13
    jne stub_die
    xor r14d, r14d
    jmp rvisor_stub_agent

stub_die:
    mov eax, 231
    mov edi, 1
    syscall
    jmp stub_die

// ---------------------------------------------------------------------------------------------------------------
// A guest thread's first steps. r15 = its slot.
// ---------------------------------------------------------------------------------------------------------------
thread_start:
    lea rbx, [r15 + {RW}]
    cmp dword ptr [r15 + {RO_START_FLAGS}], -1
    je traced_start
    wrgsbase rbx
    mov [rbx + {SELF}], rbx
    mov eax, 131                        // sigaltstack
    lea rdi, [r15 + {RO_SIGALTSTACK}]
    xor esi, esi
    syscall
    mov eax, 14                         // rt_sigprocmask(SIG_SETMASK, nothing blocked)
    mov edi, 2
    lea rsi, [r15 + {RO_SIGSET}]
    xor edx, edx
    mov r10d, 8
    syscall
    mov eax, 317                        // seccomp(SET_MODE_FILTER, NEW_LISTENER and more)
    mov edi, 1
    mov esi, [r15 + {RO_START_FLAGS}]
    lea rdx, [r15 + {RO_FPROG}]
    syscall
    mov [rbx + {RESULT}], rax
    mov dword ptr [rbx + {READY}], 1
    mov eax, 202
    lea rdi, [rbx + {READY}]
    mov esi, 1
    mov edx, 1
    syscall
    lea rsp, [rbx + 0x2000]
    mov dword ptr [rbx + {KIND}], {KIND_START}
    call exchange
    jmp exit_begin

// A guest thread that will be traced: no filter of its own, no use of %gs. Sleeps whenever nobody traces it.
traced_start:
    mov eax, 14                         // rt_sigprocmask(SIG_SETMASK, nothing blocked)
    mov edi, 2
    lea rsi, [r15 + {RO_SIGSET}]
    xor edx, edx
    mov r10d, 8
    syscall
    mov dword ptr [rbx + {READY}], 1
    mov eax, 202
    lea rdi, [rbx + {READY}]
    mov esi, 1
    mov edx, 1
    syscall
.globl rvisor_stub_park
rvisor_stub_park:
    mov eax, 202                        // futex(a word that stays 0, FUTEX_WAIT, 0, no time limit)
    lea rdi, [r15 + {RO_MODE}]
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    syscall
    jmp rvisor_stub_park

// ---------------------------------------------------------------------------------------------------------------
// Calls from rewritten call sites come here: rax = number, rcx = where to go on, r11 free, all else the guest's.
// The sentry can roll a thread back from here to the original `syscall` at rcx - 2 (or on behind it, if it has been answered).
//
// %gs is the stub's until the guest sets a base of its own (ARCH_SET_GS, or wrgsbase, which nobody sees). So each entry looks first whose
// it is: the upper half of an address in the stub region tells. With the guest's the call is made by the original `syscall`: the signal
// handler finds the slot by its stack.
// ---------------------------------------------------------------------------------------------------------------
// Changes r11 and flags. All instructions have one length: entries.rs knows it.
.macro own_gs
    rdgsbase r11
    shr r11, 32
    cmp r11d, {STUB_HIGH}
    je 99f
    sub rcx, 2
    jmp rcx
99:
.endm
// The same without a change of flags; r11 = rcx.
.macro own_gs_flags_kept
    mov r11, rcx
    rdgsbase rcx
    bswap rcx
    lea ecx, [rcx - {STUB_HIGH_SWAPPED}]
    jrcxz 99f
    lea rcx, [r11 - 2]
    jmp rcx
99:
.endm
.globl rvisor_stub_rollback_begin
rvisor_stub_rollback_begin:
.balign 16
.globl rvisor_stub_getpid
rvisor_stub_getpid:
    own_gs
    mov eax, gs:[{IDENTITY} + 0]
    jmp rcx
.balign 16
.globl rvisor_stub_gettid
rvisor_stub_gettid:
    own_gs
    mov eax, gs:[{IDENTITY} + 4]
    jmp rcx
.balign 16
.globl rvisor_stub_getppid
rvisor_stub_getppid:
    own_gs
    mov eax, gs:[{IDENTITY} + 8]
    jmp rcx
.balign 16
.globl rvisor_stub_getuid
rvisor_stub_getuid:
    own_gs
    mov eax, gs:[{IDENTITY} + 12]
    jmp rcx
.balign 16
.globl rvisor_stub_geteuid
rvisor_stub_geteuid:
    own_gs
    mov eax, gs:[{IDENTITY} + 16]
    jmp rcx
.balign 16
.globl rvisor_stub_getgid
rvisor_stub_getgid:
    own_gs
    mov eax, gs:[{IDENTITY} + 20]
    jmp rcx
.balign 16
.globl rvisor_stub_getegid
rvisor_stub_getegid:
    own_gs
    mov eax, gs:[{IDENTITY} + 24]
    jmp rcx
.balign 16
.globl rvisor_stub_sigmask
rvisor_stub_sigmask:                    // rt_sigprocmask: the mask is ours to change, as long as no signal waits
    own_gs
    mov gs:[{NATIVE_RET}], rcx
    cmp r10, 8
    jne state_slow
    cmp dword ptr gs:[{SIGNALS_WAIT}], 0
    jne state_slow
    mov r11, gs:[{BLOCKED}]
    mov rcx, r11
    test rsi, rsi
    jz 4f
sigmask_read:
    mov rcx, [rsi]
    cmp edi, 1
    jb 1f
    je 2f
    cmp edi, 2                          // SIG_SETMASK
    jne state_slow
    jmp 3f
1:  or rcx, r11                         // SIG_BLOCK
    jmp 3f
2:  not rcx                             // SIG_UNBLOCK
    and rcx, r11
3:  and rcx, {BLOCKABLE}
4:  test rdx, rdx
    jz 5f
sigmask_write:
    mov [rdx], r11
5:  xchg gs:[{BLOCKED}], rcx            // now, and before the look: whoever sends sets the one and then looks at the other
.globl rvisor_stub_sigmask_done
rvisor_stub_sigmask_done:
    mov rcx, gs:[{NATIVE_RET}]
    xor eax, eax
    cmp dword ptr gs:[{SIGNALS_WAIT}], 0
    jne 6f
    jmp rcx
6:  mov dword ptr gs:[{KIND}], {KIND_INTERRUPTED}
    jmp slow_save                       // to the kernel, as if interrupted behind the call
.balign 16
.globl rvisor_stub_robust_list
rvisor_stub_robust_list:                // set_robust_list
    own_gs
    mov gs:[{NATIVE_RET}], rcx
    cmp rsi, 24
    jne state_slow
    mov gs:[{ROBUST_LIST}], rdi
    xor eax, eax
.globl rvisor_stub_robust_list_done
rvisor_stub_robust_list_done:
    jmp rcx
.balign 16
.globl rvisor_stub_rseq
rvisor_stub_rseq:                       // the host keeps it; we keep what it was told
    own_gs
    mov gs:[{NATIVE_RET}], rcx
    test edx, edx
    jnz state_slow
    test rdi, rdi
    jz state_slow
    cmp qword ptr gs:[{RSEQ_ADDR}], 0
    jne state_slow
    mov gs:[{RSEQ_LEN}], esi
    mov gs:[{RSEQ_SIGNATURE}], r10d
    mov gs:[{RSEQ_ADDR}], rdi
    syscall
.globl rvisor_stub_rseq_after
rvisor_stub_rseq_after:
    mov rcx, gs:[{NATIVE_RET}]
    test eax, eax
    jz 1f
    mov qword ptr gs:[{RSEQ_ADDR}], 0
1:  jmp rcx
.globl rvisor_stub_state_slow
rvisor_stub_state_slow:
state_slow:                             // not for us, after all
    mov rcx, gs:[{NATIVE_RET}]
    jmp slow
.balign 16
.globl rvisor_stub_any
rvisor_stub_any:                        // the number is only known now. No instruction here changes flags; r11 = where to go on
    own_gs_flags_kept
    mov eax, eax
    lea rcx, [rax - 202]
    jrcxz 1f
    mov rcx, r11
    jmp slow
1:  mov rcx, r11
    jmp rvisor_stub_futex
.balign 16
.globl rvisor_stub_futex
rvisor_stub_futex:                      // a wait watches its word for a while first: as if the call had begun later
    own_gs
    mov gs:[{NATIVE_RET}], rcx
    mov gs:[{NATIVE_NR}], eax
    mov r11d, esi
    and r11d, -385                      // less FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME
    jz 2f                               // FUTEX_WAIT
    cmp r11d, 9                         // FUTEX_WAIT_BITSET
    jne rvisor_stub_native_syscall
    jmp 1f
2:  test r10, r10
    jz 1f
    mov r11, rdx                        // its limit is a length of time: if it is interrupted, the sentry must know how much is left
.globl rvisor_stub_futex_clock
rvisor_stub_futex_clock:
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov gs:[{WAIT_BEGAN}], rax
    mov rdx, r11
.globl rvisor_stub_futex_clock_end
rvisor_stub_futex_clock_end:
    mov eax, 202
1:  mov r11d, gs:[{FUTEX_ROUNDS}]
    test r11d, r11d
    jz rvisor_stub_native_syscall
    cmp dword ptr gs:[{FUTEX_SKIP}], 0
    jne 4f
futex_look:
    mov ecx, [rdi]
    cmp ecx, edx
    jne 3f
    pause
    dec r11d
    jnz futex_look
    mov ecx, gs:[{FUTEX_FAILURES}]      // in vain: none for the next 2^n waits
    cmp ecx, {FUTEX_FAILURES_MAX}
    adc ecx, 0
    mov gs:[{FUTEX_FAILURES}], ecx
    mov r11d, 1
    shl r11d, cl
    mov gs:[{FUTEX_SKIP}], r11d
    jmp rvisor_stub_native_syscall
3:  mov dword ptr gs:[{FUTEX_FAILURES}], 0
    jmp rvisor_stub_native_syscall
4:  dec dword ptr gs:[{FUTEX_SKIP}]
    jmp rvisor_stub_native_syscall
// epoll_ctl: a call whose answer is certain is put into the queue, which the sentry empties before anything else (systrap/queue.rs).
// A descriptor is registered if its newest call in the queue says so, or else if the order page does.
.balign 16
.globl rvisor_stub_epoll_ctl
rvisor_stub_epoll_ctl:
    own_gs
    mov gs:[{NATIVE_RET}], rcx
    mov r11d, gs:[{QUEUE_LEN}]
    cmp r11d, gs:[{QUEUE_ROOM}]
    jae rvisor_stub_epoll_slow
    cmp edi, gs:[{QUEUE_EPFD}]
    jne rvisor_stub_epoll_slow
    cmp edx, {QUEUE_FDS_MAX}
    jae rvisor_stub_epoll_slow
    lea eax, [rsi - 1]
    cmp eax, 3                          // ADD, DEL, MOD
    jae rvisor_stub_epoll_slow
    shl r11d, {QUEUE_SHIFT}
    mov ecx, r11d
1:  sub ecx, {QUEUE_SIZE}
    js 2f
    cmp gs:[rcx + {QUEUE_FD}], edx
    jne 1b
    cmp dword ptr gs:[rcx + {QUEUE_OPERATION}], 2
    jne 3f
    cmp esi, 1                          // it is not registered, but was: only ADD is certain
    jne rvisor_stub_epoll_slow
    jmp epoll_read
2:  mov eax, edx
    shr eax, 5
    mov eax, gs:[rax * 4 + {QUEUE_FDS}]
    bt eax, edx
    jnc rvisor_stub_epoll_slow
3:  cmp esi, 1                          // it is registered: DEL and MOD are certain
    je rvisor_stub_epoll_slow
    cmp esi, 2
    je 4f
epoll_read:
    mov rcx, [r10]
epoll_read_end:
    mov eax, [r10 + 8]
    bt ecx, 28                          // EPOLLEXCLUSIVE has rules of its own
    jc rvisor_stub_epoll_slow
    mov gs:[r11 + {QUEUE_EVENT}], rcx
    mov gs:[r11 + {QUEUE_EVENT} + 8], eax
4:  mov gs:[r11 + {QUEUE_ADDR}], r10
    mov gs:[r11 + {QUEUE_OPERATION}], esi
    mov gs:[r11 + {QUEUE_FD}], edx
    inc dword ptr gs:[{QUEUE_LEN}]      // from here on it has been made
.globl rvisor_stub_epoll_made
rvisor_stub_epoll_made:
    mov rcx, gs:[{NATIVE_RET}]
    xor eax, eax
    jmp rcx
.globl rvisor_stub_epoll_slow
rvisor_stub_epoll_slow:
    mov eax, 233
    jmp rvisor_stub_state_slow
.balign 16
.globl rvisor_stub_native
rvisor_stub_native:                     // let through: the host serves it
    own_gs
    mov gs:[{NATIVE_RET}], rcx
    mov gs:[{NATIVE_NR}], eax
.globl rvisor_stub_native_syscall
rvisor_stub_native_syscall:
    syscall
.globl rvisor_stub_native_after
rvisor_stub_native_after:
    cmp eax, -14                        // EFAULT: a page that the guest may not fill by itself? The sentry looks
    je native_again
    mov rcx, gs:[{NATIVE_RET}]
    jmp rcx
.globl rvisor_stub_native_end
rvisor_stub_native_end:

.balign 16
.globl rvisor_stub_slow
rvisor_stub_slow:
    own_gs_flags_kept
    mov rcx, r11
slow:
    mov dword ptr gs:[{KIND}], {KIND_SYSCALL}
slow_save:
    mov gs:[{REGS} + 56], rsp
    mov gs:[{REGS} + 8], rbx
    mov rbx, gs:[{SELF}]
    lea rsp, [rbx + 0x2000]
    pushfq
    pop qword ptr [rbx + {REGS} + 136]
    mov [rbx + {REGS} + 0], rax
    mov [rbx + {REGS} + 160], rax
    mov [rbx + {REGS} + 16], rcx
    mov [rbx + {REGS} + 128], rcx
    mov [rbx + {REGS} + 24], rdx
    mov [rbx + {REGS} + 32], rsi
    mov [rbx + {REGS} + 40], rdi
    mov [rbx + {REGS} + 48], rbp
    mov [rbx + {REGS} + 64], r8
    mov [rbx + {REGS} + 72], r9
    mov [rbx + {REGS} + 80], r10
    mov [rbx + {REGS} + 88], r11
    mov [rbx + {REGS} + 96], r12
    mov [rbx + {REGS} + 104], r13
    mov [rbx + {REGS} + 112], r14
    mov [rbx + {REGS} + 120], r15
    rdfsbase rcx
    mov [rbx + {REGS} + 144], rcx
    cmp dword ptr [rbx + {KIND}], {KIND_SYSCALL}
    jne 1f
    mov r8d, eax
    mov r9, rdi
    mov r10, rsi
    mov r11, rdx
    call prefetch
1:  call exchange

// Back to the guest with the registers in the page. May be begun again at any instruction: it only reads the page.
exit_begin:
    cmp dword ptr [rbx + {PENDING}], 0
    jne exit_interrupted
    lea rsp, [rbx + {REGS} + 136]
    popfq
    mov rax, [rbx + {REGS} + 0]
    mov rcx, [rbx + {REGS} + 16]
    mov rdx, [rbx + {REGS} + 24]
    mov rsi, [rbx + {REGS} + 32]
    mov rdi, [rbx + {REGS} + 40]
    mov rbp, [rbx + {REGS} + 48]
    mov r8, [rbx + {REGS} + 64]
    mov r9, [rbx + {REGS} + 72]
    mov r10, [rbx + {REGS} + 80]
    mov r11, [rbx + {REGS} + 88]
    mov r12, [rbx + {REGS} + 96]
    mov r13, [rbx + {REGS} + 104]
    mov r14, [rbx + {REGS} + 112]
    mov r15, [rbx + {REGS} + 120]
    mov rsp, [rbx + {REGS} + 56]
    mov rbx, [rbx + {REGS} + 8]
    jmp qword ptr gs:[{REGS} + 128]
exit_end:

exit_interrupted:
    mov rbx, gs:[{SELF}]
    lea rsp, [rbx + 0x2000]
    mov dword ptr [rbx + {PENDING}], 0
    mov dword ptr [rbx + {KIND}], {KIND_INTERRUPTED}
    call exchange
    jmp exit_begin

native_again:
    mov eax, gs:[{NATIVE_NR}]
    mov rcx, gs:[{NATIVE_RET}]
    jmp slow

// ---------------------------------------------------------------------------------------------------------------
// Copies an argument into the page, or into the bulk window. rbx = page, r8d = number, r9 r10 r11 = first three
// arguments, the fourth is among the registers in the page. What cannot be read ends the copy: the sentry looks for itself, and finds the same.
// ---------------------------------------------------------------------------------------------------------------
prefetch:
    mov qword ptr [rbx + {PREFETCH_LEN}], 0
    mov qword ptr [rbx + {PREFETCH_PLACE}], 0   // and GATHER_PLACE
    mov qword ptr [rbx + {GATHER_LEN}], 0
    cmp dword ptr [rbx - {RW} + {RO_PREFETCH}], 0
    je 9f
    cmp r8d, 511
    ja 9f
    lea rax, [rip + rvisor_stub_prefetch_table]
    movzx r8d, byte ptr [rax + r8]      // how, from here on
    test r8d, r8d
    jz 9f
    cld
    lea rdi, [rbx + {PREFETCH_DATA}]
    mov rsi, r9
    mov ecx, {PREFETCH_PATH}
    cmp r8d, 1
    je 5f
    cmp r8d, {PREFETCH_EXTENDED}
    je 7f
    cmp r8d, 5
    je 4f
    cmp r8d, 10
    je 3f
    cmp r8d, 9
    je 8f
    mov rsi, r10
    cmp r8d, 2
    je 5f
    cmp r8d, 6
    je 4f
    mov rcx, r11
    cmp r8d, 3
    je 1f
    cmp rcx, {PREFETCH_IOVECS}
    ja 9f
    shl rcx, 4
    jmp 6f
1:  cmp rcx, {PREFETCH_MAX}
    jbe 6f
    mov eax, [rbx - {RW} + {RO_BULK_LIMIT}]
    cmp rcx, rax
    ja 2f
    mov dword ptr [rbx + {PREFETCH_PLACE}], {PLACE_BULK}
    lea rdi, [rbx + {BULK}]
    jmp 6f
2:  mov dword ptr [rbx + {PREFETCH_PLACE}], {PLACE_TOO_LONG}
    mov [rbx + {PREFETCH_LEN}], rcx
    ret
3:  mov rcx, r10
    cmp rcx, {PREFETCH_POLLS}
    ja 9f
    shl rcx, 3
    jmp 6f
8:  mov rsi, [rbx + {REGS} + 80]
4:  mov ecx, 32
6:  test rsi, rsi
    jz 9f
    mov [rbx + {PREFETCH_ADDR}], rsi
    mov rdx, rdi
    jmp prefetch_begin
7:  mov eax, -1
    mov edx, -1
    xsave64 [rbx + {XSAVE}]
    ret
5:  mov [rbx + {PREFETCH_ADDR}], rsi
    mov rdx, rdi
    jmp prefetch_string
prefetch_begin:
    rep movsb
    jmp prefetch_done
prefetch_string:
    mov al, [rsi]
    mov [rdi], al
    inc rsi
    inc rdi
    test al, al
    jz prefetch_done
    dec ecx
    jnz prefetch_string
prefetch_done:
    sub rdi, rdx
    mov [rbx + {PREFETCH_LEN}], rdi
    cmp r8d, 7
    jne 9f
    shl r11, 4                          // all elements are there
    cmp rdi, r11
    jne 9f
    mov rdx, rdi
    shr edx, 4
    jz 9f
    lea r9, [rbx + {PREFETCH_DATA}]
    xor ecx, ecx                        // the sum of their lengths
    xor eax, eax
1:  mov r10, [r9 + rax + 8]
    add rcx, r10
    jc 9f
    add rax, 16
    cmp rax, rdi
    jb 1b
    lea rdi, [rbx + {GATHER_DATA}]
    cmp rcx, {PREFETCH_MAX}
    jbe 3f
    mov eax, [rbx - {RW} + {RO_BULK_LIMIT}]
    cmp rcx, rax
    ja 2f
    mov dword ptr [rbx + {GATHER_PLACE}], {PLACE_BULK}
    lea rdi, [rbx + {BULK}]
    jmp 3f
2:  mov dword ptr [rbx + {GATHER_PLACE}], {PLACE_TOO_LONG}
    mov [rbx + {GATHER_LEN}], rcx
    ret
3:  mov r10, rdi
    lea r11, [rdi + rcx]                // the elements may have been changed meanwhile: never beyond this
4:  mov rsi, [r9]
    mov rcx, [r9 + 8]
    mov rax, r11
    sub rax, rdi
    cmp rcx, rax
    ja gather_done
gather_begin:
    rep movsb
gather_end:
    add r9, 16
    dec edx
    jnz 4b
gather_done:
    sub rdi, r10
    mov [rbx + {GATHER_LEN}], rdi
9:  ret

// ---------------------------------------------------------------------------------------------------------------
// Posts what is in the page, waits for the answer, runs orders, returns when told to resume. rbx = page;
// clobbers all but rbx, rbp, rsp, r12 to r15.
// ---------------------------------------------------------------------------------------------------------------
exchange:
.globl rvisor_stub_rdpid
rvisor_stub_rdpid:
    rdpid rax
    mov [rbx + {CPU}], eax
    cmp dword ptr [rbx - {RW} + {RO_MODE}], 0
    je 3f
    mov ecx, [rbx - {RW} + {RO_SPIN}]
    mov dword ptr [rbx + {STATE}], {REQUEST}
1:  cmp dword ptr [rbx + {STATE}], {RESPONSE}
    je 5f
    pause
    dec ecx
    jnz 1b
    mov eax, {REQUEST}
    mov ecx, {REQUEST_ASLEEP}
    lock cmpxchg dword ptr [rbx + {STATE}], ecx
    jne 5f
    jmp 4f
3:  mov dword ptr [rbx + {STATE}], {REQUEST_ASLEEP}
4:  mov eax, {NOTIFY_NR}
    syscall
    cmp rax, -38                        // nobody listens any more: the sentry is gone
    je stub_die
    cmp dword ptr [rbx + {STATE}], {RESPONSE}
    jne 4b
5:  mov dword ptr [rbx + {STATE}], {GUEST}
    mov eax, [rbx - {RW} + {RO_ORDER}]
    cmp eax, {ORDER_RESUME}
    je run_writes
    cmp eax, {ORDER_CALL}
    je run_call
    cmp eax, {ORDER_CALL_AND_CLOSE}
    je run_call
    cmp eax, {ORDER_FLUSH}
    je run_writes
    cmp eax, {ORDER_STEPS}
    je run_steps
    cmp eax, {ORDER_SAVE}
    je run_save
    cmp eax, {ORDER_WAIT}
    je run_call
    mov eax, 60                         // exit this thread
    xor edi, edi
    syscall
    jmp stub_die
run_done:
    mov dword ptr [rbx + {KIND}], {KIND_DONE}
    jmp exchange
run_call:
    mov rax, [rbx - {RW} + {RO_CALL_NR}]
    mov rdi, [rbx - {RW} + {RO_CALL_ARGS}]
    mov rsi, [rbx - {RW} + {RO_CALL_ARGS} + 8]
    mov rdx, [rbx - {RW} + {RO_CALL_ARGS} + 16]
    mov r10, [rbx - {RW} + {RO_CALL_ARGS} + 24]
    mov r8, [rbx - {RW} + {RO_CALL_ARGS} + 32]
    mov r9, [rbx - {RW} + {RO_CALL_ARGS} + 40]
    cmp dword ptr [rbx - {RW} + {RO_ORDER}], {ORDER_WAIT}
    je wait_begin
    syscall
    mov [rbx + {RESULT}], rax
    cmp dword ptr [rbx - {RW} + {RO_ORDER}], {ORDER_CALL_AND_CLOSE}
    jne run_done
    mov eax, 3
    mov edi, {PASSED_FD}
    syscall
    jmp run_done
wait_begin:                             // an interrupt from here to the call goes on below
    cmp dword ptr [rbx + {PENDING}], 0
    jne wait_interrupted
wait_call:
    syscall
    mov [rbx + {RESULT}], rax
    jmp run_done
wait_interrupted:
    mov dword ptr [rbx + {PENDING}], 0
    mov qword ptr [rbx + {RESULT}], -4  // EINTR
    jmp run_done
run_steps:                              // calls of three arguments (or -1: copies), until the first that fails
    mov r8d, [rbx - {RW} + {RO_STEPS}]
    lea r9, [rbx - {RW} + {RO_WRITE_DATA}]
    cld
1:  xor eax, eax
    test r8d, r8d
    jz 3f
    mov rax, [r9]
    mov rdi, [r9 + 8]
    mov rsi, [r9 + 16]
    mov rdx, [r9 + 24]
    test rax, rax
    js 2f
    syscall
    test rax, rax
    js 3f
    jmp 4f
2:  mov rcx, rdx
steps_begin:
    rep movsb
steps_end:
4:  add r9, 32
    dec r8d
    jmp 1b
3:  mov [rbx + {RESULT}], rax
    jmp run_done
run_save:
    mov eax, -1
    mov edx, -1
    xsave64 [rbx + {XSAVE}]
    jmp run_done
run_writes:
    mov r8d, [rbx - {RW} + {RO_WRITES}]
    lea r9, [rbx - {RW} + {RO_WRITE_DATA}]
    lea r11, [rbx + {BULK}]
    cld
1:  test r8d, r8d
    jz 2f
    mov rdi, [r9]
    mov rcx, [r9 + 8]
    lea rsi, [r9 + 16]
    mov r10, rcx
    btr rcx, {IN_BULK_BIT}
    jnc write_begin
    mov rsi, r11                        // the next bytes of the bulk window
    add r11, rcx
    xor r10d, r10d
write_begin:
    rep movsb
write_end:
    add r10, 23
    and r10, -8
    add r9, r10
    dec r8d
    jmp 1b
2:  cmp dword ptr [rbx - {RW} + {RO_ORDER}], {ORDER_FLUSH}
    je run_done
    mov ecx, [rbx - {RW} + {RO_FLAGS}]
    test ecx, ecx
    jnz run_flags
    ret
run_flags:
    test ecx, {FLAG_CALL}
    jz 3f
    mov rax, [rbx - {RW} + {RO_CALL_NR}]
    mov rdi, [rbx - {RW} + {RO_CALL_ARGS}]
    mov rsi, [rbx - {RW} + {RO_CALL_ARGS} + 8]
    mov rdx, [rbx - {RW} + {RO_CALL_ARGS} + 16]
    mov r10, [rbx - {RW} + {RO_CALL_ARGS} + 24]
    mov r8, [rbx - {RW} + {RO_CALL_ARGS} + 32]
    mov r9, [rbx - {RW} + {RO_CALL_ARGS} + 40]
    syscall
    mov [rbx + {RESULT}], rax
    test rax, rax
    jnz run_done
    mov ecx, [rbx - {RW} + {RO_FLAGS}]
3:  test ecx, {FLAG_FS_BASE}
    jz 1f
    mov rax, [rbx - {RW} + {RO_FS_BASE}]
    wrfsbase rax
1:  test ecx, {FLAG_GS_BASE}            // only on the way to a signal return, which does without %gs
    jz 1f
    mov rax, [rbx - {RW} + {RO_GS_BASE}]
    wrgsbase rax
1:  test ecx, {FLAG_EXTENDED}
    jz 2f
    mov eax, -1
    mov edx, -1
    xrstor64 [rbx + {XSAVE}]
2:  ret
write_fault:
    mov dword ptr [rbx + {KIND}], {KIND_COPY_FAULT}
    jmp exchange
exchange_end:

// The way to guest code with a %gs of its own, for a thread whose registers are in the page: it has them all by now, and this signal puts
// them into a frame, from which they can be loaded without %gs.
.globl rvisor_stub_gate
rvisor_stub_gate:
    ud2

// ---------------------------------------------------------------------------------------------------------------
// Signals, on the slot's signal stack: calls that no rewritten site made, faults, and the sentry's interrupts.
// ---------------------------------------------------------------------------------------------------------------
// A fault at the one instruction goes on at the other. Changes rcx.
.macro fault_at place, onward
    lea rcx, [rip + \place]
    cmp rax, rcx
    lea rcx, [rip + \onward]
    je signal_fault
.endm
.globl rvisor_stub_signal
rvisor_stub_signal:
    mov rax, [rdx + 168]                // where it came from
    mov rbx, rsp
    and rbx, -{SLOT_SIZE}
    add rbx, {RW}
    fault_at futex_look, rvisor_stub_native_syscall
    fault_at epoll_read, rvisor_stub_epoll_slow
    fault_at epoll_read_end, rvisor_stub_epoll_slow
    fault_at sigmask_read, rvisor_stub_state_slow
    fault_at sigmask_write, rvisor_stub_state_slow
    lea rcx, [rip + rvisor_stub_slow]
    cmp rax, rcx
    jb signal_post
    lea rcx, [rip + exchange_end]
    cmp rax, rcx
    jae signal_post
    cmp edi, {SIGURG}
    je signal_interrupt
    lea rcx, [rip + write_begin]
    cmp rax, rcx
    jb 1f
    lea rcx, [rip + write_end]
    cmp rax, rcx
    jae 1f
    lea rcx, [rip + write_fault]
    jmp signal_redirect
1:  lea rcx, [rip + steps_begin]
    cmp rax, rcx
    jb 1f
    lea rcx, [rip + steps_end]
    cmp rax, rcx
    jae 1f
    lea rcx, [rip + write_fault]
    jmp signal_redirect
1:  lea rcx, [rip + prefetch_begin]
    cmp rax, rcx
    jb signal_post
    lea rcx, [rip + prefetch_done]
    cmp rax, rcx
    jb signal_redirect
    lea rcx, [rip + gather_begin]
    cmp rax, rcx
    jb signal_post
    lea rcx, [rip + gather_end]
    cmp rax, rcx
    jae signal_post
    lea rcx, [rip + gather_done]
signal_redirect:
    mov [rdx + 168], rcx
signal_return:
    add rsp, 8
    mov eax, 15
    syscall
    jmp stub_die
signal_fault:                           // memory that cannot be used: whoever serves the call finds the same, and says so
    cmp edi, {SIGURG}
    je signal_post
    jmp signal_redirect
signal_interrupt:
    lea rcx, [rip + exit_begin]
    cmp rax, rcx
    jb 1f
    lea rcx, [rip + exit_end]
    cmp rax, rcx
    jae 1f
    lea rcx, [rip + exit_interrupted]
    jmp signal_redirect
1:  lea rcx, [rip + wait_begin]
    cmp rax, rcx
    jb 1f
    lea rcx, [rip + wait_call]
    cmp rax, rcx
    ja 1f
    lea rcx, [rip + wait_interrupted]
    jmp signal_redirect
1:  mov dword ptr [rbx + {PENDING}], 1
    jmp signal_return
signal_post:
    cmp edi, {SIGSYS}
    jne signal_tell
    cmp dword ptr [rdx + 144], 202      // a futex wait that trapped only so that its site is seen ...
    jne signal_tell
    mov ecx, [rdx + 112]
    and ecx, -129                       // exactly those that the filter lets the stub make, or it would come here for ever
    jz 1f
    cmp ecx, 9
    je 1f
    cmp ecx, 0x109
    jne signal_tell
1:  cmp dword ptr [rbx - {RW} + {RO_FUTEX_NATIVE}], 0
    je signal_tell
    rdgsbase rcx                        // without %gs the sentry waits for it
    cmp rcx, rbx
    jne signal_tell
    inc dword ptr [rbx + {FUTEX_SEEN}]  // ... by the sentry now and then; else it goes where a rewritten site would have gone
    test dword ptr [rbx + {FUTEX_SEEN}], {FUTEX_UNSEEN}
    jz signal_tell
    mov rax, [rdx + 168]
    mov [rdx + 152], rax
    lea rcx, [rip + rvisor_stub_futex]
    jmp signal_redirect
signal_tell:
    mov [rbx + {FRAME}], rsp
    mov edi, edi
    mov [rbx + {SIGNO}], rdi
    rdfsbase rax
    mov [rbx + {REGS} + 144], rax
    rdgsbase rax
    mov [rbx + {REGS} + 152], rax
    mov dword ptr [rbx + {KIND}], {KIND_TRAP}
    mov r12, rsp
    cmp edi, {SIGSYS}
    mov qword ptr [rbx + {PREFETCH_LEN}], 0
    jne 1f
    mov r8d, [rdx + 144]
    mov r9, [rdx + 104]
    mov r10, [rdx + 56]
    mov [rbx + {REGS} + 80], r10
    mov r10, [rdx + 112]
    mov r11, [rdx + 136]
    call prefetch
1:  call exchange
    lea rsp, [r12 + 8]
    mov eax, 15
    syscall
    jmp stub_die
.globl rvisor_stub_restorer
rvisor_stub_restorer:
    mov eax, 15
    syscall
    jmp stub_die

// ---------------------------------------------------------------------------------------------------------------
// The template's first steps: unmap the sentry's memory around what stays, then be an agent.
// rsi: pairs of (start, length) until a zero length, then the filter as struct sock_fprog; they lie in the answer page.
// ---------------------------------------------------------------------------------------------------------------
.globl rvisor_stub_template
rvisor_stub_template:
    mov rbp, rsi
1:  mov rdi, [rbp]
    mov rsi, [rbp + 8]
    add rbp, 16
    test rsi, rsi
    jz 2f
    mov eax, 11
    syscall
    jmp 1b
2:  mov eax, 317                        // seccomp(SET_MODE_FILTER): the agent's own filter
    mov edi, 1
    xor esi, esi
    mov rdx, rbp
    syscall
    test rax, rax
    jnz stub_die
    xor r14d, r14d
    jmp rvisor_stub_agent

.balign 64
.globl rvisor_stub_prefetch_table
rvisor_stub_prefetch_table:
    .fill 512, 1, 0
.globl rvisor_stub_end
rvisor_stub_end:
.popsection
