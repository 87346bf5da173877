//! Signals: numbers, actions, `siginfo`, signal stacks and the x86-64 signal frame.
//!
//! [`SigSet`], [`SigInfo`], [`SigAction`] and the frame types are laid out as x86-64 Linux does. Signals are
//! numbered from 1; bit `n - 1` of a set is signal `n`.

pub use linux_raw_sys::general::{
    BUS_ADRALN, BUS_ADRERR, BUS_MCEERR_AO, BUS_MCEERR_AR, BUS_OBJERR, CLD_CONTINUED, CLD_DUMPED, CLD_EXITED,
    CLD_KILLED, CLD_STOPPED, CLD_TRAPPED, EMT_TAGOVF, FPE_CONDTRAP, FPE_FLTDIV, FPE_FLTINV, FPE_FLTOVF,
    FPE_FLTRES, FPE_FLTSUB, FPE_FLTUND, FPE_FLTUNK, FPE_INTDIV, FPE_INTOVF, ILL_BADIADDR, ILL_BADSTK,
    ILL_COPROC, ILL_ILLADR, ILL_ILLOPC, ILL_ILLOPN, ILL_ILLTRP, ILL_PRVOPC, ILL_PRVREG, POLL_ERR, POLL_HUP,
    POLL_IN, POLL_MSG, POLL_OUT, POLL_PRI, SA_EXPOSE_TAGBITS, SA_NOCLDSTOP, SA_NOCLDWAIT, SA_NODEFER,
    SA_NOMASK, SA_ONESHOT, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_SIGINFO, SA_UNSUPPORTED, SEGV_ACCADI,
    SEGV_ACCERR, SEGV_ADIDERR, SEGV_ADIPERR, SEGV_BNDERR, SEGV_CPERR, SEGV_MAPERR, SEGV_MTEAERR,
    SEGV_MTESERR, SEGV_PKUERR, SI_ASYNCNL, SI_DETHREAD, SI_MAX_SIZE, SIGABRT, SIGALRM, SIGBUS, SIGCHLD,
    SIGCONT, SIGEV_MAX_SIZE, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGIO, SIGIOT, SIGKILL, SIGPIPE, SIGPOLL,
    SIGPROF, SIGPWR, SIGQUIT, SIGSEGV, SIGSTKFLT, SIGSTKSZ, SIGSTOP, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP,
    SIGTTIN, SIGTTOU, SIGUNUSED, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
    SS_FLAG_BITS, SYS_SECCOMP, TRAP_BRANCH, TRAP_BRKPT, TRAP_HWBKPT, TRAP_PERF, TRAP_PERF_FLAG_ASYNC,
    TRAP_TRACE, TRAP_UNK,
};

use zerocopy::IntoBytes;

/// Number of signals.
pub const NSIG: u32 = 64;
/// The first real-time signal.
pub const SIGRTMIN: u32 = 32;
/// The last real-time signal.
pub const SIGRTMAX: u32 = 64;
/// `sa_handler`: the default action.
pub const SIG_DFL: u64 = 0;
/// `sa_handler`: ignore.
pub const SIG_IGN: u64 = 1;
/// `sigprocmask`: add to the mask.
pub const SIG_BLOCK: u32 = 0;
/// `sigprocmask`: take from the mask.
pub const SIG_UNBLOCK: u32 = 1;
/// `sigprocmask`: replace the mask.
pub const SIG_SETMASK: u32 = 2;
/// `sa_flags`: the restorer is set.
pub const SA_RESTORER: u32 = 0x0400_0000;
/// `si_code`: from `kill(2)`.
pub const SI_USER: i32 = 0;
/// `si_code`: from the kernel.
pub const SI_KERNEL: i32 = 0x80;
/// `si_code`: from `sigqueue(3)`.
pub const SI_QUEUE: i32 = -1;
/// `si_code`: from a timer.
pub const SI_TIMER: i32 = -2;
/// `si_code`: from a message queue.
pub const SI_MESGQ: i32 = -3;
/// `si_code`: from asynchronous I/O.
pub const SI_ASYNCIO: i32 = -4;
/// `si_code`: from SIGIO.
pub const SI_SIGIO: i32 = -5;
/// `si_code`: from `tkill(2)`.
pub const SI_TKILL: i32 = -6;
/// `ss_flags`: the thread is on the stack.
pub const SS_ONSTACK: u32 = 1;
/// `ss_flags`: no alternate stack.
pub const SS_DISABLE: u32 = 2;
/// `ss_flags`: disarm on delivery.
pub const SS_AUTODISARM: u32 = 1 << 31;
/// Least size of an alternate stack.
pub const MINSIGSTKSZ: usize = 2048;
/// `sigev_notify`: a signal to the process.
pub const SIGEV_SIGNAL: u32 = 0;
/// `sigev_notify`: nothing.
pub const SIGEV_NONE: u32 = 1;
/// `sigev_notify`: a thread (done by the C library).
pub const SIGEV_THREAD: u32 = 2;
/// `sigev_notify`: a signal to one thread.
pub const SIGEV_THREAD_ID: u32 = 4;

abi_struct! {
    /// A set of signals, `sigset_t` of the kernel.
    #[derive(PartialEq, Eq)]
    pub struct SigSet: 8 {
        /// Bit `n - 1` is signal `n`.
        pub bits: u64,
    }
}

impl SigSet {
    /// No signal.
    pub const EMPTY: Self = Self { bits: 0 };
    /// Every signal.
    pub const FULL: Self = Self { bits: u64::MAX };

    /// The set of one signal; empty if there is no signal `signal`.
    pub const fn of(signal: u32) -> Self {
        if signal >= 1 && signal <= NSIG { Self { bits: 1 << (signal - 1) } } else { Self::EMPTY }
    }

    /// Is `signal` in it?
    pub const fn contains(self, signal: u32) -> bool {
        self.bits & Self::of(signal).bits != 0
    }

    /// Puts `signal` in.
    pub const fn insert(&mut self, signal: u32) {
        self.bits |= Self::of(signal).bits;
    }

    /// Takes `signal` out.
    pub const fn remove(&mut self, signal: u32) {
        self.bits &= !Self::of(signal).bits;
    }

    /// In either.
    pub const fn union(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits }
    }

    /// In both.
    pub const fn intersection(self, other: Self) -> Self {
        Self { bits: self.bits & other.bits }
    }

    /// In this and not in the other.
    pub const fn difference(self, other: Self) -> Self {
        Self { bits: self.bits & !other.bits }
    }

    /// Not in this.
    pub const fn complement(self) -> Self {
        Self { bits: !self.bits }
    }

    /// Is it empty?
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// The lowest signal in it.
    pub const fn first(self) -> Option<u32> {
        if self.bits == 0 { None } else { Some(self.bits.trailing_zeros() + 1) }
    }

    /// The signals in it, ascending.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (1..=NSIG).filter(move |signal| self.contains(*signal))
    }
}

abi_struct! {
    /// The kernel's `struct sigaction` of `rt_sigaction(2)`.
    #[derive(PartialEq, Eq)]
    pub struct SigAction: 32 {
        /// `SIG_DFL`, `SIG_IGN` or an address.
        pub sa_handler: u64,
        /// `SA_*`.
        pub sa_flags: u64,
        /// Where the handler returns to.
        pub sa_restorer: u64,
        /// Blocked while the handler runs.
        pub sa_mask: SigSet,
    }
}

abi_struct! {
    /// `stack_t`.
    #[derive(PartialEq, Eq)]
    pub struct StackT: 24 {
        /// Lowest address.
        pub ss_sp: u64,
        /// `SS_*`.
        pub ss_flags: u32,
        /// Explicit padding.
        pub pad: u32,
        /// Bytes.
        pub ss_size: u64,
    }
}

abi_struct! {
    /// `struct sigevent`.
    pub struct SigEvent: 64 {
        /// Value to deliver.
        pub sigev_value: u64,
        /// Signal.
        pub sigev_signo: u32,
        /// `SIGEV_*`.
        pub sigev_notify: u32,
        /// Thread, for `SIGEV_THREAD_ID`.
        pub sigev_notify_thread_id: i32,
        /// The rest of the union.
        pub rest: [u32; 11],
    }
}

/// `siginfo_t`: 128 bytes, a header and a union. The union is kept as words; the constructors fill it and
/// the accessors read it for the kinds they are named after.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
)]
#[repr(C)]
pub struct SigInfo {
    /// Signal.
    pub si_signo: i32,
    /// An errno, nearly always 0.
    pub si_errno: i32,
    /// `SI_*`, `CLD_*`, `SEGV_*`, ...
    pub si_code: i32,
    /// Explicit padding.
    pub pad: u32,
    /// The union, 14 words.
    pub fields: [u64; 14],
}
const _: () = assert!(size_of::<SigInfo>() == 128);

impl Default for SigInfo {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl core::fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SigInfo")
            .field("si_signo", &self.si_signo)
            .field("si_code", &self.si_code)
            .field("fields", &&self.fields[..4])
            .finish()
    }
}

/// Joins two 32-bit fields as they lie in memory.
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl SigInfo {
    /// Signal `signal` with `code` and nothing more.
    pub const fn new(signal: u32, code: i32) -> Self {
        Self { si_signo: signal as i32, si_errno: 0, si_code: code, pad: 0, fields: [0; 14] }
    }

    /// From `kill(2)` (`SI_USER`) or `tkill(2)` (`SI_TKILL`).
    pub const fn kill(signal: u32, code: i32, pid: i32, uid: u32) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = pair(pid as u32, uid);
        info
    }

    /// From the kernel, without more to say (`SI_KERNEL`).
    pub const fn kernel(signal: u32) -> Self {
        Self::new(signal, SI_KERNEL)
    }

    /// From `rt_sigqueueinfo(2)`: with a value.
    pub const fn queue(signal: u32, code: i32, pid: i32, uid: u32, value: u64) -> Self {
        let mut info = Self::kill(signal, code, pid, uid);
        info.fields[1] = value;
        info
    }

    /// SIGCHLD: `code` is `CLD_*`, `status` an exit code or signal, times in units of 1/USER_HZ second.
    pub const fn child(code: i32, pid: i32, uid: u32, status: i32, utime: i64, stime: i64) -> Self {
        let mut info = Self::kill(SIGCHLD, code, pid, uid);
        info.fields[1] = pair(status as u32, 0);
        info.fields[2] = utime as u64;
        info.fields[3] = stime as u64;
        info
    }

    /// A fault (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP) at `address`.
    pub const fn fault(signal: u32, code: i32, address: u64) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = address;
        info
    }

    /// A protection key fault: as [`SigInfo::fault`] with the key.
    pub const fn fault_protection_key(address: u64, key: u32) -> Self {
        let mut info = Self::fault(SIGSEGV, SEGV_PKUERR as i32, address);
        info.fields[2] = key as u64;
        info
    }

    /// A memory error: as [`SigInfo::fault`] with the least significant bit of the address.
    pub const fn fault_memory_error(code: i32, address: u64, least_bit: u16) -> Self {
        let mut info = Self::fault(SIGBUS, code, address);
        info.fields[1] = least_bit as u64;
        info
    }

    /// A POSIX timer expired (`SI_TIMER`).
    pub const fn timer(signal: u32, timer_id: i32, overrun: i32, value: u64) -> Self {
        let mut info = Self::new(signal, SI_TIMER);
        info.fields[0] = pair(timer_id as u32, overrun as u32);
        info.fields[1] = value;
        info
    }

    /// SIGIO with a descriptor: `code` is `POLL_*`.
    pub const fn poll(signal: u32, code: i32, band: i64, fd: i32) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = band as u64;
        info.fields[1] = pair(fd as u32, 0);
        info
    }

    /// SIGSYS from seccomp: `errno` is the filter's data.
    pub const fn seccomp(call_address: u64, number: i32, architecture: u32, errno: i32) -> Self {
        let mut info = Self::new(SIGSYS, 1);
        info.si_errno = errno;
        info.fields[0] = call_address;
        info.fields[1] = pair(number as u32, architecture);
        info
    }

    /// The signal, as a number from 1.
    pub const fn signal(&self) -> u32 {
        self.si_signo as u32
    }

    /// Sender (kill, queue, child).
    pub const fn pid(&self) -> i32 {
        self.fields[0] as i32
    }

    /// Sender's user (kill, queue, child).
    pub const fn uid(&self) -> u32 {
        (self.fields[0] >> 32) as u32
    }

    /// Exit code or signal (child).
    pub const fn status(&self) -> i32 {
        self.fields[1] as i32
    }

    /// The value sent (queue, timer).
    pub const fn value(&self) -> u64 {
        self.fields[1]
    }

    /// User and system time, units of 1/USER_HZ second (child).
    pub const fn times(&self) -> (i64, i64) {
        (self.fields[2] as i64, self.fields[3] as i64)
    }

    /// Fault address (fault).
    pub const fn address(&self) -> u64 {
        self.fields[0]
    }

    /// Timer id and overrun count (timer).
    pub const fn timer_overrun(&self) -> (i32, i32) {
        (self.fields[0] as i32, (self.fields[0] >> 32) as i32)
    }

    /// Sets the overrun count (timer), which is known at delivery only.
    pub const fn set_timer_overrun(&mut self, overrun: i32) {
        self.fields[0] = pair(self.fields[0] as u32, overrun as u32);
    }

    /// Band and descriptor (poll).
    pub const fn band_fd(&self) -> (i64, i32) {
        (self.fields[0] as i64, self.fields[1] as i32)
    }

    /// The 128 bytes.
    pub fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

abi_struct! {
    /// `struct sigcontext` of x86-64.
    pub struct SigContext: 256 {
        /// r8.
        pub r8: u64,
        /// r9.
        pub r9: u64,
        /// r10.
        pub r10: u64,
        /// r11.
        pub r11: u64,
        /// r12.
        pub r12: u64,
        /// r13.
        pub r13: u64,
        /// r14.
        pub r14: u64,
        /// r15.
        pub r15: u64,
        /// rdi.
        pub rdi: u64,
        /// rsi.
        pub rsi: u64,
        /// rbp.
        pub rbp: u64,
        /// rbx.
        pub rbx: u64,
        /// rdx.
        pub rdx: u64,
        /// rax.
        pub rax: u64,
        /// rcx.
        pub rcx: u64,
        /// rsp.
        pub rsp: u64,
        /// rip.
        pub rip: u64,
        /// rflags.
        pub eflags: u64,
        /// cs.
        pub cs: u16,
        /// Unused.
        pub gs: u16,
        /// Unused.
        pub fs: u16,
        /// ss.
        pub ss: u16,
        /// Error code of the exception.
        pub err: u64,
        /// Its number.
        pub trapno: u64,
        /// The low word of the old mask.
        pub oldmask: u64,
        /// Fault address.
        pub cr2: u64,
        /// Address of the floating point state, or 0.
        pub fpstate: u64,
        /// Reserved.
        pub reserved1: [u64; 8],
    }
}

/// `uc_flags`: the floating point state has an XSAVE header.
pub const UC_FP_XSTATE: u64 = 1;
/// `uc_flags`: ss is saved.
pub const UC_SIGCONTEXT_SS: u64 = 2;
/// `uc_flags`: ss is restored as it is.
pub const UC_STRICT_RESTORE_SS: u64 = 4;

abi_struct! {
    /// `struct ucontext` as the kernel writes it.
    pub struct Ucontext: 304 {
        /// `UC_*`.
        pub uc_flags: u64,
        /// 0.
        pub uc_link: u64,
        /// The alternate stack.
        pub uc_stack: StackT,
        /// Registers.
        pub uc_mcontext: SigContext,
        /// The mask to restore.
        pub uc_sigmask: SigSet,
    }
}

abi_struct! {
    /// The frame that a signal handler finds at its stack pointer.
    pub struct RtSigframe: 440 {
        /// Return address: the restorer.
        pub pretcode: u64,
        /// Third argument of the handler.
        pub uc: Ucontext,
        /// Second argument of the handler.
        pub info: SigInfo,
    }
}

/// First magic number of the software part of the floating point state.
pub const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
/// The number that ends the floating point state.
pub const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Size of the legacy floating point state, bytes.
pub const FPSTATE_SIZE: usize = 512;
/// Where the software bytes are in it.
pub const FPSTATE_SW_BYTES_OFFSET: usize = 464;

abi_struct! {
    /// `struct _fpx_sw_bytes`, the last 48 bytes of the legacy floating point state.
    pub struct FpxSwBytes: 48 {
        /// [`FP_XSTATE_MAGIC1`] if extended state follows.
        pub magic1: u32,
        /// Size of all with the closing magic number.
        pub extended_size: u32,
        /// Components.
        pub xfeatures: u64,
        /// Size of the XSAVE area.
        pub xstate_size: u32,
        /// Reserved.
        pub padding: [u32; 7],
    }
}
