//! A process: what all threads of a thread group share.
//!
//! [`Process`] lives from fork to the moment its parent reaps it. [`Shared`] is its state that signals, stopping and
//! exiting change; [`TREE`] says how processes are related. A [`crate::Task`] is one thread of it.
//!
//! Locks, outermost first: [`TREE`] (plain spinlock, thread context only), `shared` (interrupt-safe), a task's `own`,
//! leaves (`space`, `executable`, `limits`, `usage`). Never take `TREE` with `shared` held.

use crate::job::ControllingTerminal;
use crate::limits::{Authority, Limit, Limits, Resource};
use crate::pid::{self, Pid, PidNamespace};
use crate::signal::{PendingSignals, Signal, SignalHandlers};
use crate::status::{ChildEvent, ExitStatus};
use crate::task::Task;
use crate::timers::ProcessTimers;
use crate::tree::{Number, Tree};
use crate::usage::{self, Usage, UsageSums};
use crate::users::UserAccount;
use abi::errno::Result;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use machine::sync::{IrqSpinLock, SpinLock, WaitQueue};
use mm::AddressSpace;
use security::Kuid;
use vfs::file::Program;

/// How processes are related.
pub type ProcessTree = Tree<Arc<Process>, Arc<dyn ControllingTerminal>>;

/// The one tree of all processes.
pub static TREE: SpinLock<ProcessTree> = SpinLock::new(Tree::new());

/// The number of the first process.
pub const INIT: Number = 1;

/// A thread group.
pub struct Process {
    pid: Arc<Pid>,
    number: Number,
    /// It has number 1 in its pid namespace.
    is_init: bool,
    started_ns: u64,
    namespace: Arc<PidNamespace>,
    space: SpinLock<Option<Arc<AddressSpace>>>,
    executable: SpinLock<Option<Arc<Program>>>,
    pub(crate) shared: IrqSpinLock<Shared>,
    /// Parents wait here for their children.
    pub(crate) child_wait: WaitQueue,
    /// Stopped threads wait here to go on.
    pub(crate) stop_wait: WaitQueue,
    /// Who calls exec waits here until the other threads are gone.
    pub(crate) thread_wait: WaitQueue,
    /// Woken for every signal that is queued: readers of a signalfd.
    pub(crate) signal_wait: Arc<WaitQueue>,
    /// What the parent is sent at the end; 0 = nothing.
    pub(crate) exit_signal: AtomicU32,
    /// [`ExitStatus::pack`], 0 while it lives.
    exit_status: AtomicU32,
    limits: IrqSpinLock<Limits>,
    pub(crate) usage: IrqSpinLock<UsageSums>,
    pub(crate) timers: ProcessTimers,
    oom_score_adjustment: AtomicI32,
    oom_score_adjustment_min: AtomicI32,
    dumpable: AtomicU32,
    personality: AtomicU32,
    huge_pages_disabled: AtomicU32,
    membarrier: AtomicU32,
    /// What is still shown of a zombie.
    remains: SpinLock<Remains>,
    real_user: AtomicU32,
    /// What getppid(2) says, so that it takes no lock. Written under [`TREE`].
    parent_number: AtomicI32,
    /// Self, to hand out counted references.
    myself: Weak<Process>,
}

/// What `ps` and wait(2) still show of a process without threads.
#[derive(Copy, Clone, Default)]
struct Remains {
    name: [u8; 16],
}

/// The state of a process that signals change.
pub struct Shared {
    /// Signals for any thread.
    pub(crate) pending: PendingSignals,
    /// What the process does with signals.
    pub(crate) handlers: Arc<SignalHandlers>,
    /// The live threads; a task knows its place.
    pub(crate) threads: Vec<Arc<Task>>,
    /// Set when all threads have to end.
    pub(crate) group_exit: Option<ExitStatus>,
    /// Number of the thread that calls exec: the others end.
    pub(crate) exec_owner: Option<Number>,
    /// Job control.
    pub(crate) stop: StopState,
    /// What a thread on its way to user mode must tell the parent.
    pub(crate) notify: Option<ChildEvent>,
    /// Changes that wait(2) has not reported.
    pub(crate) report: Report,
    /// Whose limit the queued signals count against.
    pub(crate) account: Arc<UserAccount>,
}

/// Where a process is in job control.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum StopState {
    /// It runs.
    Running,
    /// A stop signal was taken; this many threads have not stopped yet.
    Stopping {
        /// The signal.
        signal: Signal,
        /// Threads that still run.
        remaining: usize,
    },
    /// All threads stopped.
    Stopped(Signal),
}

impl StopState {
    /// Whether threads have to stop.
    pub fn is_active(&self) -> bool {
        !matches!(self, StopState::Running)
    }
}

/// A change that wait(2) can still report.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Stopped by this signal (WUNTRACED).
    pub stopped: Option<Signal>,
    /// Continued (WCONTINUED).
    pub continued: bool,
}

/// What a new process starts with.
pub(crate) struct ProcessParts {
    pub pid: Arc<Pid>,
    pub namespace: Arc<PidNamespace>,
    pub space: Option<Arc<AddressSpace>>,
    pub executable: Option<Arc<Program>>,
    pub handlers: Arc<SignalHandlers>,
    pub account: Arc<UserAccount>,
    pub exit_signal: u32,
    pub limits: Limits,
    pub real_user: Kuid,
}

impl Process {
    pub(crate) fn new(parts: ProcessParts) -> Arc<Process> {
        Arc::new_cyclic(|myself| {
            parts.pid.set_process(myself.clone());
            Process {
                number: parts.pid.number(),
                is_init: parts.pid.number_in(&parts.namespace) == 1,
                pid: parts.pid,
                started_ns: machine::time::now_ns(),
                namespace: parts.namespace,
                space: SpinLock::new(parts.space),
                executable: SpinLock::new(parts.executable),
                shared: IrqSpinLock::new(Shared {
                    pending: PendingSignals::new(),
                    handlers: parts.handlers,
                    threads: Vec::new(),
                    group_exit: None,
                    exec_owner: None,
                    stop: StopState::Running,
                    notify: None,
                    report: Report::default(),
                    account: parts.account,
                }),
                child_wait: WaitQueue::new(),
                stop_wait: WaitQueue::new(),
                thread_wait: WaitQueue::new(),
                signal_wait: Arc::new(WaitQueue::new()),
                exit_signal: AtomicU32::new(parts.exit_signal),
                exit_status: AtomicU32::new(0),
                limits: IrqSpinLock::new(parts.limits),
                usage: IrqSpinLock::new(UsageSums::default()),
                timers: ProcessTimers::new(myself.clone()),
                oom_score_adjustment: AtomicI32::new(0),
                oom_score_adjustment_min: AtomicI32::new(0),
                dumpable: AtomicU32::new(1),
                personality: AtomicU32::new(0),
                huge_pages_disabled: AtomicU32::new(0),
                membarrier: AtomicU32::new(0),
                remains: SpinLock::new(Remains::default()),
                real_user: AtomicU32::new(parts.real_user.0),
                parent_number: AtomicI32::new(0),
                myself: myself.clone(),
            }
        })
    }

    /// Its id.
    pub fn pid(&self) -> &Arc<Pid> {
        &self.pid
    }

    /// Its number in the root namespace.
    pub fn number(&self) -> Number {
        self.number
    }

    /// Its number as a program in `namespace` sees it; 0 when it does not.
    pub fn number_in(&self, namespace: &PidNamespace) -> i32 {
        self.pid.number_in(namespace)
    }

    /// The namespace its own ids are from.
    pub fn namespace(&self) -> &Arc<PidNamespace> {
        &self.namespace
    }

    /// When it was made, on the clock of [`machine::time::now_ns`].
    pub fn start_time_ns(&self) -> u64 {
        self.started_ns
    }

    /// A counted reference to itself.
    pub fn arc(&self) -> Option<Arc<Process>> {
        self.myself.upgrade()
    }

    /// Whether it is the first process of its pid namespace, which default actions do not harm.
    pub fn is_init(&self) -> bool {
        self.is_init
    }

    /// Whether it is the machine's first process.
    pub fn is_global_init(&self) -> bool {
        self.number == INIT
    }

    /// Its memory; `None` once it has ended.
    pub fn space(&self) -> Option<Arc<AddressSpace>> {
        self.space.lock().clone()
    }

    pub(crate) fn replace_space(&self, space: Option<Arc<AddressSpace>>) -> Option<Arc<AddressSpace>> {
        core::mem::replace(&mut *self.space.lock(), space)
    }

    /// The file it runs (`/proc/PID/exe`).
    pub fn executable(&self) -> Option<Arc<Program>> {
        self.executable.lock().clone()
    }

    pub(crate) fn replace_executable(&self, file: Option<Arc<Program>>) -> Option<Arc<Program>> {
        core::mem::replace(&mut *self.executable.lock(), file)
    }

    /// Its signal actions.
    pub fn handlers(&self) -> Arc<SignalHandlers> {
        self.shared.lock().handlers.clone()
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        *self.limits.lock()
    }

    /// Changes its limits under their lock.
    pub fn with_limits<R>(&self, change: impl FnOnce(&mut Limits) -> R) -> R {
        change(&mut self.limits.lock())
    }

    /// The leading thread, or any other when that has ended.
    pub fn leader(&self) -> Option<Arc<Task>> {
        let shared = self.shared.lock();
        let leader = shared.threads.iter().find(|task| task.number() == self.number);
        leader.or(shared.threads.first()).cloned()
    }

    /// Number of live threads.
    pub fn thread_count(&self) -> usize {
        self.shared.lock().threads.len()
    }

    /// Calls `f` for each live thread. Not with any lock of this crate held.
    pub fn threads(&self) -> Vec<Arc<Task>> {
        loop {
            let wanted = self.thread_count() + 4;
            let mut list = Vec::new();
            if list.try_reserve(wanted).is_err() {
                return list;
            }
            let shared = self.shared.lock();
            if shared.threads.len() <= list.capacity() {
                list.extend(shared.threads.iter().cloned());
                drop(shared);
                return list;
            }
        }
    }

    /// How it ended, once all its threads have.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        ExitStatus::unpack(self.exit_status.load(Ordering::Acquire))
    }

    /// Whether it has ended and waits to be reaped.
    pub fn is_zombie(&self) -> bool {
        self.exit_status().is_some()
    }

    pub(crate) fn set_exit_status(&self, status: ExitStatus) {
        self.exit_status.store(status.pack(), Ordering::Release);
    }

    /// The name of its leading thread, also when that has ended.
    pub fn name(&self) -> [u8; 16] {
        match self.leader() {
            Some(leader) => leader.name(),
            None => self.remains.lock().name,
        }
    }

    pub(crate) fn remember(&self, name: [u8; 16]) {
        self.remains.lock().name = name;
    }

    /// Its real user.
    pub fn real_user(&self) -> Kuid {
        Kuid(self.real_user.load(Ordering::Relaxed))
    }

    pub(crate) fn set_real_user(&self, user: Kuid) {
        self.real_user.store(user.0, Ordering::Relaxed);
    }

    /// The status it will end with, when it is ending.
    pub fn group_exit(&self) -> Option<ExitStatus> {
        self.shared.lock().group_exit
    }

    /// Where it is in job control.
    pub fn stop_state(&self) -> StopState {
        self.shared.lock().stop
    }

    /// `/proc/PID/oom_score_adj`, -1000 to 1000.
    pub fn oom_score_adjustment(&self) -> i32 {
        self.oom_score_adjustment.load(Ordering::Relaxed)
    }

    /// Sets it; also the floor for unprivileged changes when the caller is privileged (proc_pid_oom_score_adj(5)).
    pub fn set_oom_score_adjustment(&self, value: i32) {
        self.oom_score_adjustment.store(value.clamp(-1000, 1000), Ordering::Relaxed);
    }

    /// The lowest value an unprivileged writer may set.
    pub fn oom_score_adjustment_min(&self) -> i32 {
        self.oom_score_adjustment_min.load(Ordering::Relaxed)
    }

    /// Sets the lowest value.
    pub fn set_oom_score_adjustment_min(&self, value: i32) {
        self.oom_score_adjustment_min.store(value, Ordering::Relaxed);
    }

    /// PR_GET_DUMPABLE: 0 no, 1 yes, 2 only by root.
    pub fn dumpable(&self) -> u8 {
        self.dumpable.load(Ordering::Relaxed) as u8
    }

    /// PR_SET_DUMPABLE.
    pub fn set_dumpable(&self, value: u8) {
        self.dumpable.store(u32::from(value), Ordering::Relaxed);
    }

    /// personality(2); one for all threads, where Linux has one for each.
    pub fn personality(&self) -> u32 {
        self.personality.load(Ordering::Relaxed)
    }

    /// Sets personality(2).
    pub fn set_personality(&self, value: u32) {
        self.personality.store(value, Ordering::Relaxed);
    }

    /// PR_GET_THP_DISABLE: whether it asked for no huge pages. (There are none.)
    pub fn huge_pages_disabled(&self) -> bool {
        self.huge_pages_disabled.load(Ordering::Relaxed) != 0
    }

    /// PR_SET_THP_DISABLE.
    pub fn set_huge_pages_disabled(&self, disabled: bool) {
        self.huge_pages_disabled.store(u32::from(disabled), Ordering::Relaxed);
    }

    /// PR_SET_CHILD_SUBREAPER.
    pub fn set_child_subreaper(&self, subreaper: bool) {
        TREE.lock().set_subreaper(self.number, subreaper);
    }

    /// PR_GET_CHILD_SUBREAPER.
    pub fn is_child_subreaper(&self) -> bool {
        TREE.lock().is_subreaper(self.number)
    }

    /// getrusage(2), RUSAGE_SELF.
    pub fn usage(&self) -> Usage {
        usage::of_process_with_memory(self)
    }

    /// getrusage(2), RUSAGE_CHILDREN.
    pub fn children_usage(&self) -> Usage {
        usage::of_children(self)
    }

    /// Processor time of all its threads, ended ones too.
    pub fn cpu_time_ns(&self) -> u64 {
        usage::of_process(self).cpu_time_ns()
    }

    /// A soft limit.
    pub fn limit(&self, resource: Resource) -> u64 {
        self.limits.lock().soft(resource)
    }

    /// Sets a limit; `may_raise` says that the caller has CAP_SYS_RESOURCE.
    ///
    /// # Errors
    /// EINVAL, EPERM, ENOMEM.
    pub fn set_limit(&self, resource: Resource, limit: Limit, may_raise: bool) -> Result<()> {
        let authority = if may_raise { Authority::SystemResource } else { Authority::Ordinary };
        self.limits.lock().set(resource, limit, authority, crate::calls::max_open_files())?;
        if resource == Resource::Cpu {
            self.timers.watch_cpu_limit(limit.soft)?;
        }
        Ok(())
    }

    /// Calls `visit` with each live thread; no lock is held.
    pub fn for_each_task(&self, visit: &mut dyn FnMut(&Arc<Task>)) {
        for task in &self.threads() {
            visit(task);
        }
    }

    /// Its process group as it sees it itself.
    pub fn pgid_for_user(&self) -> i32 {
        crate::job::number_in(self.group(), &self.namespace)
    }

    /// Registered membarrier(2) commands.
    pub(crate) fn membarrier_state(&self) -> &AtomicU32 {
        &self.membarrier
    }

    /// The parent's number in the process's own namespace, as getppid(2) gives it; 0 if it cannot be seen from there.
    #[inline]
    pub fn parent_number(&self) -> i32 {
        self.parent_number.load(Ordering::Relaxed)
    }

    /// It has this parent from now on. Called with [`TREE`] locked.
    pub(crate) fn note_parent(&self, parent: &Process) {
        self.parent_number.store(parent.number_in(&self.namespace), Ordering::Relaxed);
    }

    /// The parent's number as a program in `namespace` sees it.
    pub fn parent_number_in(&self, namespace: &PidNamespace) -> i32 {
        let tree = TREE.lock();
        tree.parent(self.number).map_or(0, |parent| parent.number_in(namespace))
    }

    /// The parent.
    pub fn parent(&self) -> Option<Arc<Process>> {
        TREE.lock().parent(self.number).cloned()
    }

    /// Number of its process group in the root namespace; 0 when reaped.
    pub fn group(&self) -> Number {
        TREE.lock().group_of(self.number).unwrap_or(0)
    }

    /// Number of its session in the root namespace; 0 when reaped.
    pub fn session(&self) -> Number {
        TREE.lock().session_of(self.number).unwrap_or(0)
    }

    /// The terminal that controls its session.
    pub fn controlling_terminal(&self) -> Option<Arc<dyn ControllingTerminal>> {
        let tree = TREE.lock();
        let session = tree.session_of(self.number)?;
        tree.terminal(session).cloned()
    }
}

/// The first process, once it runs.
pub fn init_process() -> Option<Arc<Process>> {
    pid::root().find_process(INIT as i32)
}

/// How many processes there are, with zombies.
pub fn count() -> usize {
    TREE.lock().len()
}

/// Calls `visit` with every thread of the machine; no lock is held.
pub fn for_each_task(visit: &mut dyn FnMut(&Arc<Task>)) {
    let mut from = 1;
    while let Some((number, process)) = pid::root().next_process(from) {
        from = number + 1;
        process.for_each_task(visit);
    }
}

/// Calls `visit` with every process that the caller sees; no lock is held.
pub fn for_each_process(task: &Task, visit: &mut dyn FnMut(&Arc<Process>)) {
    let namespace = task.process().namespace();
    let mut from = 1;
    while let Some((number, process)) = namespace.next_process(from) {
        from = number + 1;
        visit(&process);
    }
}

/// Calls `visit` with every member of a process group, which the caller knows by `group`; no lock is held.
///
/// # Errors
/// ESRCH: no such group.
pub fn for_each_in_group(task: &Task, group: i32, visit: &mut dyn FnMut(&Arc<Process>)) -> Result<()> {
    let wanted = crate::job::find_group(task, group).ok_or(abi::errno::Errno::ESRCH)?;
    for_each_process(task, &mut |process| {
        if process.group() == wanted {
            visit(process);
        }
    });
    Ok(())
}
