//! Signals: what is pending where, who is sent what, and what happens on the way back to the program.
//!
//! | file | what |
//! |---|---|
//! | [`set`], [`info`], [`queue`], [`action`] | pure data: numbers and masks, siginfo, pending queues, actions |
//! | [`send`] | putting a signal on a queue: permission, ignored ones, stop and continue, waking a thread |
//! | [`deliver`] | taking signals on the way to user mode: default actions, group stop, handlers |
//! | [`frame`] | the frame a handler runs on, and `rt_sigreturn` |
//! | [`calls`] | the bodies of the signal system calls |
//!
//! A process has one queue for signals that any thread may take ([`crate::process::Shared`]), a thread has its own. Locks:
//! the process's `shared` (interrupt-safe: timers send signals), then a thread's `own`, then the action table, then the
//! scheduler's. A thread's mask is written by that thread only, under its `own` lock.

pub mod action;
pub mod calls;
pub mod deliver;
pub(crate) mod descriptor;
pub mod frame;
pub mod info;
pub mod queue;
pub mod send;
pub mod set;

pub use action::{Action, ActionTable, Disposition};
pub use info::{Cause, SIGINFO_SIZE, SignalInfo, code};
pub use queue::{PendingSignals, Pushed};
pub use set::{DefaultAction, Signal, SignalSet};

use alloc::sync::Arc;
use machine::sync::IrqSpinLock;

/// A table of actions that threads, and processes cloned with CLONE_SIGHAND, share.
#[derive(Default)]
pub struct SignalHandlers {
    table: IrqSpinLock<ActionTable>,
}

impl SignalHandlers {
    /// A private copy.
    pub fn duplicate(&self) -> Arc<SignalHandlers> {
        Arc::new(SignalHandlers { table: IrqSpinLock::new(self.table.lock().clone()) })
    }

    /// The action of `signal`.
    pub fn get(&self, signal: Signal) -> Action {
        self.table.lock().get(signal)
    }

    /// Replaces the action of `signal`, returns the old one.
    pub fn set(&self, signal: Signal, action: Action) -> Action {
        self.table.lock().set(signal, action)
    }

    /// Changes the table as a whole.
    pub(crate) fn update(&self, change: impl FnOnce(&mut ActionTable)) {
        change(&mut self.table.lock());
    }

    /// Ignored and caught signals, for `/proc/PID/status`.
    pub fn ignored_and_caught(&self) -> (SignalSet, SignalSet) {
        self.table.lock().ignored_and_caught()
    }
}

/// The alternate signal stack of a thread (sigaltstack(2)).
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct AlternateStack {
    /// Lowest address.
    pub address: u64,
    /// Bytes; 0 when there is none.
    pub size: u64,
    /// `SS_AUTODISARM`, or 0.
    pub flags: u32,
}

/// Flags of sigaltstack(2).
pub const SS_ONSTACK: u32 = 1;
/// There is no alternate stack.
pub const SS_DISABLE: u32 = 2;
/// Forget the stack while a handler runs on it.
pub const SS_AUTODISARM: u32 = 1 << 31;
/// Smallest alternate stack (`MINSIGSTKSZ`).
pub const MIN_STACK_SIZE: u64 = 2048;

impl AlternateStack {
    /// No alternate stack.
    pub const NONE: AlternateStack = AlternateStack { address: 0, size: 0, flags: 0 };

    /// Whether a program whose stack pointer is `stack_pointer` runs on it.
    pub fn contains(&self, stack_pointer: u64) -> bool {
        self.flags & SS_AUTODISARM == 0
            && stack_pointer > self.address
            && stack_pointer - self.address <= self.size
    }

    /// `ss_flags` as sigaltstack reports them.
    pub fn reported_flags(&self, stack_pointer: u64) -> u32 {
        let state = if self.size == 0 {
            SS_DISABLE
        } else if self.contains(stack_pointer) {
            SS_ONSTACK
        } else {
            0
        };
        state | (self.flags & SS_AUTODISARM)
    }
}
