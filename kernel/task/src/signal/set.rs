//! Signal numbers and sets of them.
//!
//! [`Signal`] is a number that is known to be valid (1 to 64), [`SignalSet`] is the 64-bit mask that user
//! programs pass as `sigset_t` (bit n-1 is signal n). Everything here is pure data; see signal(7).

use core::num::NonZeroU8;

/// A valid signal number, 1 to 64.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Signal(NonZeroU8);

macro_rules! signals {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        impl Signal {
            $(#[doc = $doc] pub const $name: Signal = Signal(NonZeroU8::new($number).unwrap());)*

            /// The name with its `SIG` prefix, for messages; real-time signals are all `SIGRT`.
            pub const fn name(self) -> &'static str {
                match self.0.get() {
                    $($number => stringify!($name),)*
                    _ => "SIGRT",
                }
            }
        }
    };
}

signals! {
    SIGHUP = 1, "The terminal hung up.";
    SIGINT = 2, "Interrupt from the keyboard.";
    SIGQUIT = 3, "Quit from the keyboard.";
    SIGILL = 4, "Illegal instruction.";
    SIGTRAP = 5, "Trace or breakpoint trap.";
    SIGABRT = 6, "abort(3).";
    SIGBUS = 7, "Bus error: memory that has no backing.";
    SIGFPE = 8, "Arithmetic error.";
    SIGKILL = 9, "Kill: cannot be caught, blocked or ignored.";
    SIGUSR1 = 10, "User-defined 1.";
    SIGSEGV = 11, "Invalid memory reference.";
    SIGUSR2 = 12, "User-defined 2.";
    SIGPIPE = 13, "Write to a pipe without readers.";
    SIGALRM = 14, "alarm(2), ITIMER_REAL.";
    SIGTERM = 15, "Polite request to end.";
    SIGSTKFLT = 16, "Unused; kept for numbering.";
    SIGCHLD = 17, "A child stopped, continued or ended.";
    SIGCONT = 18, "Continue.";
    SIGSTOP = 19, "Stop: cannot be caught, blocked or ignored.";
    SIGTSTP = 20, "Stop from the keyboard.";
    SIGTTIN = 21, "Background read from the terminal.";
    SIGTTOU = 22, "Background write to the terminal.";
    SIGURG = 23, "Urgent data on a socket.";
    SIGXCPU = 24, "RLIMIT_CPU passed.";
    SIGXFSZ = 25, "RLIMIT_FSIZE passed.";
    SIGVTALRM = 26, "ITIMER_VIRTUAL.";
    SIGPROF = 27, "ITIMER_PROF.";
    SIGWINCH = 28, "The window changed its size.";
    SIGIO = 29, "Input or output is possible.";
    SIGPWR = 30, "Power failure.";
    SIGSYS = 31, "Bad system call.";
}

impl core::fmt::Debug for Signal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl Signal {
    /// How many signals there are.
    pub const COUNT: usize = 64;
    /// The first real-time signal as the kernel counts (glibc keeps two for itself).
    pub const FIRST_REAL_TIME: u8 = 32;

    /// The signal with this number; `None` outside 1 to 64.
    pub const fn new(number: i32) -> Option<Signal> {
        if number < 1 || number > 64 {
            return None;
        }
        match NonZeroU8::new(number as u8) {
            Some(n) => Some(Signal(n)),
            None => None,
        }
    }

    /// The number, 1 to 64.
    pub const fn number(self) -> i32 {
        self.0.get() as i32
    }

    /// The index in tables, 0 to 63.
    pub const fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    /// Whether several instances queue up (signals 32 to 64).
    pub const fn is_real_time(self) -> bool {
        self.0.get() >= Self::FIRST_REAL_TIME
    }

    /// What the signal does when it has no handler (signal(7), "Standard signals").
    pub const fn default_action(self) -> DefaultAction {
        match self {
            Signal::SIGCHLD | Signal::SIGURG | Signal::SIGWINCH => DefaultAction::Ignore,
            Signal::SIGCONT => DefaultAction::Continue,
            Signal::SIGSTOP | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU => DefaultAction::Stop,
            Signal::SIGQUIT
            | Signal::SIGILL
            | Signal::SIGTRAP
            | Signal::SIGABRT
            | Signal::SIGBUS
            | Signal::SIGFPE
            | Signal::SIGSEGV
            | Signal::SIGXCPU
            | Signal::SIGXFSZ
            | Signal::SIGSYS => DefaultAction::CoreDump,
            _ => DefaultAction::Terminate,
        }
    }
}

/// What happens to a process when a signal without a handler is delivered.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum DefaultAction {
    /// The process ends.
    Terminate,
    /// The process ends, and its status says that it dumped core.
    CoreDump,
    /// Nothing.
    Ignore,
    /// All threads stop.
    Stop,
    /// A stopped process goes on; that happens when the signal is sent, so delivery does nothing.
    Continue,
}

/// A set of signals, laid out as the kernel's `sigset_t`.
#[derive(Copy, Clone, Eq, PartialEq, Default)]
pub struct SignalSet(u64);

impl core::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl SignalSet {
    /// No signal.
    pub const EMPTY: SignalSet = SignalSet(0);
    /// Every signal.
    pub const ALL: SignalSet = SignalSet(u64::MAX);
    /// SIGKILL and SIGSTOP: they can be neither blocked, caught nor ignored.
    pub const UNBLOCKABLE: SignalSet = SignalSet::of(&[Signal::SIGKILL, Signal::SIGSTOP]);
    /// The signals that stop a process by default.
    pub const STOP: SignalSet =
        SignalSet::of(&[Signal::SIGSTOP, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU]);
    /// Signals caused by the running instruction: they are delivered before all others.
    pub const SYNCHRONOUS: SignalSet = SignalSet::of(&[
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGTRAP,
        Signal::SIGFPE,
        Signal::SIGSYS,
    ]);

    /// The set of the signals listed.
    pub const fn of(signals: &[Signal]) -> SignalSet {
        let mut bits = 0;
        let mut i = 0;
        while i < signals.len() {
            bits |= 1 << signals[i].index();
            i += 1;
        }
        SignalSet(bits)
    }

    /// The set a user program passed.
    pub const fn from_bits(bits: u64) -> SignalSet {
        SignalSet(bits)
    }

    /// The set as a user program sees it.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether no signal is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `signal` is in it.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & (1 << signal.index()) != 0
    }

    /// Adds `signal`.
    pub const fn insert(&mut self, signal: Signal) {
        self.0 |= 1 << signal.index();
    }

    /// Takes `signal` out.
    pub const fn remove(&mut self, signal: Signal) {
        self.0 &= !(1 << signal.index());
    }

    /// The set without SIGKILL and SIGSTOP, as every mask is stored.
    pub const fn blockable(self) -> SignalSet {
        self.without(SignalSet::UNBLOCKABLE)
    }

    /// The signals in either set.
    pub const fn union(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 | other.0)
    }

    /// The signals in both sets.
    pub const fn intersection(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 & other.0)
    }

    /// The signals of this set that are not in the other.
    pub const fn without(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 & !other.0)
    }

    /// The signals that are not in this set.
    pub const fn complement(self) -> SignalSet {
        SignalSet(!self.0)
    }

    /// The signal that is delivered first: a synchronous one, else the lowest number.
    pub const fn first_to_deliver(self) -> Option<Signal> {
        let synchronous = self.0 & SignalSet::SYNCHRONOUS.0;
        let bits = if synchronous != 0 { synchronous } else { self.0 };
        if bits == 0 { None } else { Signal::new(bits.trailing_zeros() as i32 + 1) }
    }

    /// The signals in ascending order.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        let mut bits = self.0;
        core::iter::from_fn(move || {
            if bits == 0 {
                return None;
            }
            let index = bits.trailing_zeros();
            bits &= bits - 1;
            Signal::new(index as i32 + 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_checked() {
        assert_eq!(Signal::new(0), None);
        assert_eq!(Signal::new(65), None);
        assert_eq!(Signal::new(64).map(Signal::number), Some(64));
        assert_eq!(Signal::new(-1), None);
    }

    #[test]
    fn synchronous_signals_come_first() {
        let mut set = SignalSet::of(&[Signal::SIGHUP, Signal::SIGSEGV, Signal::SIGUSR1]);
        assert_eq!(set.first_to_deliver(), Some(Signal::SIGSEGV));
        set.remove(Signal::SIGSEGV);
        assert_eq!(set.first_to_deliver(), Some(Signal::SIGHUP));
    }

    #[test]
    fn masks_never_hold_the_unblockable() {
        assert!(!SignalSet::ALL.blockable().contains(Signal::SIGKILL));
        assert!(!SignalSet::ALL.blockable().contains(Signal::SIGSTOP));
        assert_eq!(SignalSet::ALL.blockable().iter().count(), 62);
    }
}
