//! What a process does with each signal: the table that `rt_sigaction` changes.
//!
//! [`Action`] is one entry, [`ActionTable`] the 64 of them. Threads share a table (CLONE_SIGHAND); the shared
//! holder with its lock is [`super::SignalHandlers`]. Pure data.

use super::set::{DefaultAction, Signal, SignalSet};

/// `sa_flags` (sigaction(2)).
pub mod flags {
    /// No SIGCHLD when children stop.
    pub const SA_NOCLDSTOP: u64 = 1;
    /// Children do not become zombies.
    pub const SA_NOCLDWAIT: u64 = 2;
    /// The handler takes three arguments (all frames carry them on x86-64).
    pub const SA_SIGINFO: u64 = 4;
    /// Ask which flags the kernel knows.
    pub const SA_UNSUPPORTED: u64 = 0x400;
    /// `si_addr` keeps tag bits.
    pub const SA_EXPOSE_TAGBITS: u64 = 0x800;
    /// `sa_restorer` is set.
    pub const SA_RESTORER: u64 = 0x0400_0000;
    /// Use the alternate stack.
    pub const SA_ONSTACK: u64 = 0x0800_0000;
    /// Restart interrupted calls.
    pub const SA_RESTART: u64 = 0x1000_0000;
    /// Do not block the signal while its handler runs.
    pub const SA_NODEFER: u64 = 0x4000_0000;
    /// Reset to the default when the handler starts.
    pub const SA_RESETHAND: u64 = 0x8000_0000;
    /// Every flag this kernel knows; the others are cleared on the way in (sigaction(2), "Dynamically probing").
    pub const KNOWN: u64 = SA_NOCLDSTOP
        | SA_NOCLDWAIT
        | SA_SIGINFO
        | SA_EXPOSE_TAGBITS
        | SA_RESTORER
        | SA_ONSTACK
        | SA_RESTART
        | SA_NODEFER
        | SA_RESETHAND;
}

const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;

/// What to do with one signal. The fields are those of the kernel's `struct sigaction`.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Action {
    /// Address of the handler, or `SIG_DFL` (0) or `SIG_IGN` (1).
    pub handler: u64,
    /// [`flags`].
    pub flags: u64,
    /// Where the handler returns to (`SA_RESTORER`).
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: SignalSet,
}

/// What an action means for delivery.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Disposition {
    /// Do what the signal does by itself.
    Default(DefaultAction),
    /// Drop it.
    Ignore,
    /// Call the program's handler.
    Handle,
}

impl Action {
    /// The action every signal has at first.
    pub const DEFAULT: Action = Action { handler: SIG_DFL, flags: 0, restorer: 0, mask: SignalSet::EMPTY };
    /// The signal is ignored.
    pub const IGNORE: Action = Action { handler: SIG_IGN, ..Action::DEFAULT };
    /// Size of the structure programs pass.
    pub const SIZE: usize = 32;

    /// Reads `struct sigaction` as the kernel defines it (handler, flags, restorer, mask).
    pub fn from_words(words: [u64; 4]) -> Action {
        Action {
            handler: words[0],
            flags: words[1] & flags::KNOWN,
            restorer: words[2],
            mask: SignalSet::from_bits(words[3]).blockable(),
        }
    }

    /// The structure as programs read it.
    pub fn to_words(&self) -> [u64; 4] {
        [self.handler, self.flags, self.restorer, self.mask.bits()]
    }

    /// Whether `flag` is set.
    pub const fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// What delivery does.
    pub const fn disposition(&self, signal: Signal) -> Disposition {
        match self.handler {
            SIG_DFL => Disposition::Default(signal.default_action()),
            SIG_IGN => Disposition::Ignore,
            _ => Disposition::Handle,
        }
    }

    /// Whether the program said `SIG_IGN`.
    pub const fn is_explicitly_ignored(&self) -> bool {
        self.handler == SIG_IGN
    }

    /// Whether the signal would do nothing: ignored, or ignored by default.
    pub const fn discards(&self, signal: Signal) -> bool {
        matches!(self.disposition(signal), Disposition::Ignore | Disposition::Default(DefaultAction::Ignore))
    }
}

/// The actions of all signals.
#[derive(Clone, Debug)]
pub struct ActionTable {
    actions: [Action; Signal::COUNT],
}

impl Default for ActionTable {
    fn default() -> Self {
        ActionTable { actions: [Action::DEFAULT; Signal::COUNT] }
    }
}

impl ActionTable {
    /// The action of `signal`.
    pub fn get(&self, signal: Signal) -> Action {
        self.actions[signal.index()]
    }

    /// Replaces the action of `signal`, returns the old one.
    pub fn set(&mut self, signal: Signal, action: Action) -> Action {
        core::mem::replace(&mut self.actions[signal.index()], action)
    }

    /// exec(2): handlers become the default, ignored signals stay ignored.
    pub fn reset_for_exec(&mut self) {
        for action in &mut self.actions {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = Action { handler, ..Action::DEFAULT };
        }
    }

    /// CLONE_CLEAR_SIGHAND: all handlers become the default; ignored signals stay ignored.
    pub fn clear_handlers(&mut self) {
        self.reset_for_exec();
    }

    /// The signals a program ignores and the ones it catches, for `/proc/PID/status`.
    pub fn ignored_and_caught(&self) -> (SignalSet, SignalSet) {
        let (mut ignored, mut caught) = (SignalSet::EMPTY, SignalSet::EMPTY);
        for signal in SignalSet::ALL.iter() {
            match self.get(signal).handler {
                SIG_DFL => {}
                SIG_IGN => ignored.insert(signal),
                _ => caught.insert(signal),
            }
        }
        (ignored, caught)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_keeps_only_what_is_ignored() {
        let mut table = ActionTable::default();
        table.set(Signal::SIGINT, Action { handler: 0x4000, flags: flags::SA_RESTART, ..Action::DEFAULT });
        table.set(Signal::SIGHUP, Action { handler: 1, ..Action::DEFAULT });
        table.reset_for_exec();
        assert_eq!(table.get(Signal::SIGINT), Action::DEFAULT);
        assert!(table.get(Signal::SIGHUP).is_explicitly_ignored());
    }

    #[test]
    fn unknown_flags_are_cleared_and_the_mask_is_blockable() {
        let action = Action::from_words([0x1000, u64::MAX, 0, u64::MAX]);
        assert_eq!(action.flags, flags::KNOWN);
        assert!(!action.mask.contains(Signal::SIGKILL));
        assert!(!action.has(flags::SA_UNSUPPORTED));
    }

    #[test]
    fn sigchld_is_discarded_by_default() {
        assert!(Action::DEFAULT.discards(Signal::SIGCHLD));
        assert!(!Action::DEFAULT.discards(Signal::SIGTERM));
        assert!(!Action::DEFAULT.discards(Signal::SIGCONT));
    }
}
