//! How interrupted system calls go on (signal(7), "Interruption of system calls").
//!
//! A call that a signal interrupts returns one of four errors that programs never see; [`decide`] says what becomes of
//! it, depending on whether a handler runs. Calls with a relative timeout leave a [`RestartBlock`], so that
//! `restart_syscall` sleeps the rest only. Pure.

use abi::errno::Errno;

/// What `restart_syscall` goes on with. Times are those of [`machine::time::now_ns`].
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum RestartBlock {
    /// Nothing: `restart_syscall` fails with EINTR.
    #[default]
    None,
    /// nanosleep, clock_nanosleep.
    Sleep {
        /// `CLOCK_*`.
        clock: i32,
        /// When to wake.
        deadline_ns: u64,
        /// Where the rest goes when it is interrupted again; 0 for nowhere.
        remaining: usize,
    },
    /// poll.
    Poll {
        /// The array.
        descriptors: usize,
        /// Its length.
        count: u32,
        /// When to give up.
        deadline_ns: Option<u64>,
    },
    /// FUTEX_WAIT with a relative timeout.
    Futex {
        /// The word.
        address: usize,
        /// What it has to hold.
        value: u32,
        /// When to give up.
        deadline_ns: u64,
        /// The operation with its flags.
        operation: u32,
        /// The bits to wait for.
        bitset: u32,
    },
}

/// What to do with an interrupted call.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Nothing special: the result stays.
    Keep,
    /// The program sees EINTR.
    Interrupted,
    /// The same call again.
    Repeat,
    /// Call `restart_syscall` instead.
    RestartSyscall,
}

/// What happens while the signal is handled.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Handler {
    /// No handler runs: the signal was ignored, or did something by default.
    None,
    /// A handler with `SA_RESTART` runs.
    Restarting,
    /// A handler without it runs.
    Interrupting,
}

/// Decides on a call whose result register holds `result`.
pub fn decide(result: i64, handler: Handler) -> Decision {
    let is = |errno: Errno| result == -i64::from(errno.code());
    if is(Errno::ERESTARTNOINTR) {
        return Decision::Repeat;
    }
    if is(Errno::ERESTARTSYS) {
        return if handler == Handler::Interrupting { Decision::Interrupted } else { Decision::Repeat };
    }
    if is(Errno::ERESTARTNOHAND) {
        return if handler == Handler::None { Decision::Repeat } else { Decision::Interrupted };
    }
    if is(Errno::ERESTART_RESTARTBLOCK) {
        return if handler == Handler::None { Decision::RestartSyscall } else { Decision::Interrupted };
    }
    Decision::Keep
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: Errno, handler: Handler) -> Decision {
        decide(-i64::from(errno.code()), handler)
    }

    #[test]
    fn the_table_of_signal_7() {
        assert_eq!(of(Errno::ERESTARTSYS, Handler::Restarting), Decision::Repeat);
        assert_eq!(of(Errno::ERESTARTSYS, Handler::Interrupting), Decision::Interrupted);
        assert_eq!(of(Errno::ERESTARTSYS, Handler::None), Decision::Repeat);
        assert_eq!(of(Errno::ERESTARTNOHAND, Handler::Restarting), Decision::Interrupted);
        assert_eq!(of(Errno::ERESTARTNOHAND, Handler::None), Decision::Repeat);
        assert_eq!(of(Errno::ERESTARTNOINTR, Handler::Interrupting), Decision::Repeat);
        assert_eq!(of(Errno::ERESTART_RESTARTBLOCK, Handler::None), Decision::RestartSyscall);
        assert_eq!(of(Errno::ERESTART_RESTARTBLOCK, Handler::Restarting), Decision::Interrupted);
        assert_eq!(of(Errno::EINTR, Handler::None), Decision::Keep);
        assert_eq!(decide(7, Handler::Interrupting), Decision::Keep);
    }
}
