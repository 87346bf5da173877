//! `signalfd` flags and the structure read from one.

/// Close on exec.
pub const SFD_CLOEXEC: u32 = 0o2000000;
/// Do not block.
pub const SFD_NONBLOCK: u32 = 0o4000;

abi_struct! {
    /// `struct signalfd_siginfo`.
    pub struct SignalfdSiginfo: 128 {
        /// Signal number.
        pub ssi_signo: u32,
        /// Unused.
        pub ssi_errno: i32,
        /// `SI_*` and the like.
        pub ssi_code: i32,
        /// Sender.
        pub ssi_pid: u32,
        /// Sender's user.
        pub ssi_uid: u32,
        /// Descriptor (SIGIO).
        pub ssi_fd: i32,
        /// Timer id.
        pub ssi_tid: u32,
        /// Band (SIGIO).
        pub ssi_band: u32,
        /// Timer overruns.
        pub ssi_overrun: u32,
        /// Trap number.
        pub ssi_trapno: u32,
        /// Exit status or signal (SIGCHLD).
        pub ssi_status: i32,
        /// Integer sent.
        pub ssi_int: i32,
        /// Pointer sent.
        pub ssi_ptr: u64,
        /// User time (SIGCHLD).
        pub ssi_utime: u64,
        /// System time (SIGCHLD).
        pub ssi_stime: u64,
        /// Fault address.
        pub ssi_addr: u64,
        /// Least significant bit of the address (SIGBUS).
        pub ssi_addr_lsb: u16,
        /// Explicit padding.
        pub pad2: u16,
        /// System call (SIGSYS).
        pub ssi_syscall: i32,
        /// Its address.
        pub ssi_call_addr: u64,
        /// Its architecture.
        pub ssi_arch: u32,
        /// Explicit padding.
        pub pad: [u8; 28],
    }
}
