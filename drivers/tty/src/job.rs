//! What terminals ask about processes: sessions, process groups and their signals.
//!
//! [`JobControl`] is the question, [`set_job_control`] registers who answers (tests register their own); [`TaskJobControl`]
//! answers from `task`. Groups and sessions are numbers of the root pid namespace; programs see those of their own.
//! Nothing here is called with a terminal's spinlock held, because the process tree is locked below.

use crate::tty::Tty;
use abi::{Errno, Result};
use alloc::sync::Arc;
use machine::sync::Once;
use security::{Capability, Credentials};
use task::job::{BackgroundAccess, Steal};
use task::process::TREE;
use task::signal::{Signal, SignalInfo};
use task::tree::Number;

/// The answers that job control needs. "The caller" is the running thread's process.
pub trait JobControl: Send + Sync {
    /// Is this the caller's controlling terminal?
    fn controls_caller(&self, tty: &Arc<Tty>) -> bool;
    /// The caller's controlling terminal.
    fn terminal_of_caller(&self) -> Option<Arc<Tty>>;
    /// The caller's session; 0 for a kernel thread.
    fn session_of_caller(&self) -> Number;
    /// Does the caller lead a session without a terminal?
    fn caller_may_acquire(&self) -> bool;
    /// Makes `tty`, which controls session `current`, the caller's terminal; gives session and foreground group.
    /// Errors: `EPERM`.
    fn acquire(&self, tty: &Arc<Tty>, current: Number, steal: Steal) -> Result<(Number, Number)>;
    /// The caller's session gives up its terminal. Errors: `ENOTTY`.
    fn give_up(&self) -> Result<()>;
    /// May the caller access a terminal with this session and foreground group now? Sends the signal if not.
    /// Errors: `ERESTARTSYS`, `EIO`.
    fn check_background(&self, session: Number, foreground: Number, access: BackgroundAccess) -> Result<()>;
    /// Sends a kernel signal to a group.
    fn signal_group(&self, group: Number, signal: Signal);
    /// The terminal of this session hung up.
    fn hang_up(&self, session: Number);
    /// The caller's number for a group or session.
    fn number_for_caller(&self, number: Number) -> i32;
    /// The group that the caller calls by this number.
    fn find_group(&self, number: i32) -> Option<Number>;
    /// The session of a group.
    fn session_of_group(&self, group: Number) -> Option<Number>;
    /// The caller's credentials.
    fn credentials(&self) -> Option<Arc<Credentials>>;

    /// Has the caller this capability in the initial user namespace?
    fn caller_has(&self, capability: Capability) -> bool {
        self.credentials()
            .is_some_and(|credentials| credentials.capable(security::initial_namespace(), capability))
    }
}

static JOB_CONTROL: Once<&'static dyn JobControl> = Once::new();

/// Sets who answers; once. Gives `false` if that was done before.
pub fn set_job_control(answers: &'static dyn JobControl) -> bool {
    JOB_CONTROL.set(answers).is_ok()
}

/// Who answers.
pub fn job_control() -> &'static dyn JobControl {
    JOB_CONTROL.get().copied().unwrap_or(&TaskJobControl)
}

/// Answers from the process tree.
pub struct TaskJobControl;

impl JobControl for TaskJobControl {
    fn controls_caller(&self, tty: &Arc<Tty>) -> bool {
        let session = self.session_of_caller();
        session != 0 && tty.session_and_foreground().0 == session
    }

    fn terminal_of_caller(&self) -> Option<Arc<Tty>> {
        Tty::of_session(self.session_of_caller())
    }

    fn session_of_caller(&self) -> Number {
        let session = |task: &task::Task| TREE.lock().session_of(task.process().number());
        task::task::with_current(session).flatten().unwrap_or(0)
    }

    fn caller_may_acquire(&self) -> bool {
        let leads = task::task::with_current(|task| task::job::leads_session(task.process()));
        leads == Some(true) && self.terminal_of_caller().is_none()
    }

    fn acquire(&self, tty: &Arc<Tty>, current: Number, steal: Steal) -> Result<(Number, Number)> {
        let terminal: Arc<dyn task::job::ControllingTerminal> = tty.clone();
        task::task::with_current(|task| {
            task::job::set_controlling_terminal(task.process(), &terminal, current, steal)
        })
        .unwrap_or(Err(Errno::EPERM))
    }

    fn give_up(&self) -> Result<()> {
        task::task::with_current(|task| task::job::give_up_terminal(task.process()))
            .unwrap_or(Err(Errno::ENOTTY))
    }

    fn check_background(&self, session: Number, foreground: Number, access: BackgroundAccess) -> Result<()> {
        task::task::with_current(|task| task::job::check_background(task, session, foreground, access))
            .unwrap_or(Ok(()))
    }

    fn signal_group(&self, group: Number, signal: Signal) {
        // A group that has just ended needs no signal.
        let _ = task::signal::send::to_group(group, &SignalInfo::from_kernel(signal));
    }

    fn hang_up(&self, session: Number) {
        task::job::hang_up(session);
    }

    fn number_for_caller(&self, number: Number) -> i32 {
        task::task::with_current(|task| task::job::number_in(number, task.process().namespace()))
            .unwrap_or(number as i32)
    }

    fn find_group(&self, number: i32) -> Option<Number> {
        task::task::with_current(|task| task::job::find_group(task, number))?
    }

    fn session_of_group(&self, group: Number) -> Option<Number> {
        task::job::session_of_group(group)
    }

    fn credentials(&self) -> Option<Arc<Credentials>> {
        task::task::with_current(|task| task.credentials())
    }
}
