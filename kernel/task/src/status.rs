//! How a process or thread ended or changed, and how wait(2) encodes it. Pure data.

use crate::signal::Signal;
use crate::signal::code;

/// How a process ended.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ExitStatus {
    /// exit(2) with the low eight bits of the status.
    Exited(u8),
    /// Killed by a signal.
    Killed(Signal),
    /// Killed by a signal whose default action dumps core. No file is written; only the flag is set,
    /// as on a Linux with `RLIMIT_CORE` above 0 and a core_pattern that discards.
    Dumped(Signal),
}

impl ExitStatus {
    /// The status word of wait(2).
    pub const fn wait_status(self) -> i32 {
        match self {
            ExitStatus::Exited(value) => (value as i32) << 8,
            ExitStatus::Killed(signal) => signal.number(),
            ExitStatus::Dumped(signal) => signal.number() | 0x80,
        }
    }

    /// `si_code` and `si_status` of SIGCHLD and waitid(2).
    pub const fn signal_fields(self) -> (i32, i32) {
        match self {
            ExitStatus::Exited(value) => (code::CLD_EXITED, value as i32),
            ExitStatus::Killed(signal) => (code::CLD_KILLED, signal.number()),
            ExitStatus::Dumped(signal) => (code::CLD_DUMPED, signal.number()),
        }
    }

    /// A number that fits an atomic; 0 stays free for "still running".
    pub(crate) const fn pack(self) -> u32 {
        self.wait_status() as u32 | 0x1_0000
    }

    /// The inverse of [`ExitStatus::pack`].
    pub(crate) const fn unpack(word: u32) -> Option<ExitStatus> {
        if word & 0x1_0000 == 0 {
            return None;
        }
        match Signal::new((word & 0x7f) as i32) {
            None => Some(ExitStatus::Exited((word >> 8) as u8)),
            Some(signal) if word & 0x80 != 0 => Some(ExitStatus::Dumped(signal)),
            Some(signal) => Some(ExitStatus::Killed(signal)),
        }
    }
}

/// A change of a child that wait(2) reports.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ChildEvent {
    /// It ended.
    Ended(ExitStatus),
    /// It stopped by this signal.
    Stopped(Signal),
    /// SIGCONT made it go on.
    Continued,
}

impl ChildEvent {
    /// The status word of wait(2).
    pub const fn wait_status(self) -> i32 {
        match self {
            ChildEvent::Ended(status) => status.wait_status(),
            ChildEvent::Stopped(signal) => signal.number() << 8 | 0x7f,
            ChildEvent::Continued => 0xffff,
        }
    }

    /// `si_code` and `si_status`.
    pub const fn signal_fields(self) -> (i32, i32) {
        match self {
            ChildEvent::Ended(status) => status.signal_fields(),
            ChildEvent::Stopped(signal) => (code::CLD_STOPPED, signal.number()),
            ChildEvent::Continued => (code::CLD_CONTINUED, Signal::SIGCONT.number()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_macros_in_wait_h() {
        assert_eq!(ExitStatus::Exited(3).wait_status(), 0x300);
        assert_eq!(ExitStatus::Killed(Signal::SIGKILL).wait_status(), 9);
        assert_eq!(ExitStatus::Dumped(Signal::SIGSEGV).wait_status(), 0x8b);
        assert_eq!(ChildEvent::Stopped(Signal::SIGTSTP).wait_status(), 0x147f);
        assert_eq!(ChildEvent::Continued.wait_status(), 0xffff);
    }

    #[test]
    fn packing_is_lossless() {
        for number in 1..=64 {
            let signal = Signal::new(number).unwrap();
            for status in [ExitStatus::Killed(signal), ExitStatus::Dumped(signal)] {
                assert_eq!(ExitStatus::unpack(status.pack()), Some(status));
            }
        }
        for value in 0..=255 {
            let status = ExitStatus::Exited(value);
            assert_eq!(ExitStatus::unpack(status.pack()), Some(status));
        }
        assert_eq!(ExitStatus::unpack(0), None);
    }
}
