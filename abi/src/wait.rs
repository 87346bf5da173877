//! `wait` options, id types and the status word.

pub use linux_raw_sys::general::{
    P_ALL, P_PGID, P_PID, P_PIDFD, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WSTOPPED, WUNTRACED,
};

use bitflags::bitflags;

/// Children made by `clone` with another exit signal than SIGCHLD too.
pub const __WALL: u32 = 0x4000_0000;
/// Only children of this thread.
pub const __WNOTHREAD: u32 = 0x2000_0000;
/// Only `clone` children.
pub const __WCLONE: u32 = 0x8000_0000;

bitflags! {
    /// Options of `wait4(2)` and `waitid(2)`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct WaitOptions: u32 {
        /// Do not block.
        const NOHANG = WNOHANG;
        /// Stopped children (`WSTOPPED` in `waitid`).
        const UNTRACED = WUNTRACED;
        /// Children that ended.
        const EXITED = WEXITED;
        /// Children continued by SIGCONT.
        const CONTINUED = WCONTINUED;
        /// Leave the child waitable.
        const NOWAIT = WNOWAIT;
        /// Only children of this thread.
        const NOTHREAD = __WNOTHREAD;
        /// All children.
        const ALL = __WALL;
        /// Only `clone` children.
        const CLONE = __WCLONE;
    }
}

/// The status word of a process that called `exit(code)`.
pub const fn status_exited(code: u8) -> i32 {
    (code as i32) << 8
}

/// The status word of a process that signal `signal` killed, with or without a core dump.
pub const fn status_signaled(signal: u32, core: CoreDump) -> i32 {
    (signal & 0x7f) as i32 | if matches!(core, CoreDump::Written) { 0x80 } else { 0 }
}

/// The status word of a process that signal `signal` stopped.
pub const fn status_stopped(signal: u32) -> i32 {
    ((signal as i32) << 8) | 0x7f
}

/// The status word of a process that was continued.
pub const STATUS_CONTINUED: i32 = 0xffff;

/// Whether a core dump was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreDump {
    /// None.
    None,
    /// Yes.
    Written,
}
