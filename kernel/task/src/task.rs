//! A task: one thread of a program, as the kernel knows it.
//!
//! [`Task`] hangs off the scheduler's [`sched::Thread`] and belongs to a [`Process`]. What Linux lets threads
//! share or not by `clone` flags (files, file-system context) is here as counted references; what a thread group always
//! shares is in the process. The running thread's task is passed by reference through the loop in [`crate::run`];
//! [`with_current`] is for code that is called from below, such as the page-fault hook.
//!
//! Locks: `own` (interrupt-safe, after the process's `shared`), the others are leaves.

use crate::namespaces::Namespaces;
use crate::pid::Pid;
use crate::process::Process;
use crate::restart::RestartBlock;
use crate::rseq::RseqRegistration;
use crate::signal::{AlternateStack, PendingSignals, SignalSet};
use crate::tree::Number;
use crate::usage::{TaskCounters, Times};
use crate::users::TaskCharge;
use abi::errno::Result;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use machine::sync::{IrqSpinLock, Once, SpinLock, WaitQueue};
use sched::Thread;
use security::Credentials;
use vfs::{DescriptorTable, File, FsContext};

/// One thread of a program.
pub struct Task {
    /// Set before anybody else sees the task.
    thread: Once<Arc<Thread>>,
    process: Arc<Process>,
    number: AtomicU32,
    pid: SpinLock<Arc<Pid>>,
    /// Its place in the list of its process's threads.
    pub(crate) place: AtomicUsize,
    pub(crate) own: IrqSpinLock<Own>,
    /// Blocked signals: read by anybody, written by the task under `own`.
    blocked: AtomicU64,
    /// Signals it waits for in sigtimedwait although they are blocked.
    pub(crate) waiting_for: AtomicU64,
    credentials: SpinLock<Arc<Credentials>>,
    charge: SpinLock<TaskCharge>,
    files: SpinLock<Option<Arc<DescriptorTable>>>,
    fs: SpinLock<Option<Arc<FsContext>>>,
    namespaces: SpinLock<Option<Arc<Namespaces>>>,
    alternate_stack: SpinLock<AlternateStack>,
    restart: SpinLock<RestartBlock>,
    /// Zeroed and woken when the thread ends (set_tid_address(2)).
    clear_child_tid: AtomicUsize,
    robust_list: AtomicUsize,
    /// What the parent sleeps on until a vfork child has its own memory.
    pub(crate) vfork: SpinLock<Option<Arc<VforkCompletion>>>,
    pub(crate) rseq: SpinLock<Option<RseqRegistration>>,
    pub(crate) has_rseq: AtomicBool,
    /// Set when user mode was left in a way that rseq must hear of; and at birth, because the parent's CPU stands there.
    pub(crate) rseq_event: AtomicBool,
    pub(crate) counters: TaskCounters,
    parent_death_signal: AtomicU32,
    timer_slack_ns: AtomicU64,
    io_priority: AtomicU32,
    login_user: AtomicU32,
    memory_failure: AtomicU32,
    pub(crate) ending: AtomicBool,
    exit_value: AtomicU32,
    last_trap: SpinLock<Trap>,
    /// This task's share of the count of all tasks.
    _counted: crate::fork::Counted,
}

/// The last exception of a thread, for its signal frames.
#[derive(Copy, Clone, Debug, Default)]
pub struct Trap {
    /// The processor's number of it.
    pub vector: u64,
    /// Its error code.
    pub error_code: u64,
    /// The address of a page fault.
    pub address: u64,
}

/// The part of a task that others change: its queue and its thread.
pub struct Own {
    /// Signals for this thread alone.
    pub(crate) pending: PendingSignals,
    /// It has stopped, or been counted as stopped, for the process's current stop.
    pub(crate) stop_counted: bool,
    /// The mask to go back to after the next handler (sigsuspend, ppoll).
    pub(crate) saved_mask: Option<SignalSet>,
}

/// Tells a parent in vfork(2) that its child has called exec or ended.
#[derive(Default)]
pub struct VforkCompletion {
    done: AtomicBool,
    queue: WaitQueue,
}

impl VforkCompletion {
    /// The child is done with the parent's memory.
    pub fn complete(&self) {
        self.done.store(true, Ordering::Release);
        self.queue.wake_all();
    }

    /// Sleeps until then; a fatal signal ends the sleep (and the parent).
    pub fn wait(&self) {
        let done = || self.done.load(Ordering::Acquire).then_some(());
        let _ = self.queue.wait_until(machine::sync::WaitKind::Killable, None, done);
    }
}

/// What a new task starts with.
pub(crate) struct TaskParts {
    pub process: Arc<Process>,
    pub pid: Arc<Pid>,
    pub blocked: SignalSet,
    pub credentials: Arc<Credentials>,
    pub charge: TaskCharge,
    pub files: Arc<DescriptorTable>,
    pub fs: Arc<FsContext>,
    pub namespaces: Arc<Namespaces>,
    pub alternate_stack: AlternateStack,
    pub rseq: Option<RseqRegistration>,
    pub settings: Settings,
    pub counted: crate::fork::Counted,
}

/// Settings that a thread keeps for itself and its children start with.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Settings {
    pub timer_slack_ns: u64,
    pub io_priority: u32,
    pub login_user: u32,
    pub memory_failure: u32,
}

/// `/proc/PID/loginuid` of who has not logged in.
pub const NO_LOGIN: u32 = u32::MAX;
/// How late timers may be by default (prctl(2), `PR_SET_TIMERSLACK`).
pub const TIMER_SLACK_NS: u64 = 50_000;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            timer_slack_ns: TIMER_SLACK_NS,
            io_priority: 0,
            login_user: NO_LOGIN,
            memory_failure: abi::prctl::PR_MCE_KILL_DEFAULT,
        }
    }
}

impl Task {
    pub(crate) fn new(parts: TaskParts) -> Arc<Task> {
        let task = Arc::new(Task {
            thread: Once::new(),
            process: parts.process,
            number: AtomicU32::new(parts.pid.number()),
            pid: SpinLock::new(parts.pid.clone()),
            place: AtomicUsize::new(0),
            own: IrqSpinLock::new(Own {
                pending: PendingSignals::new(),
                stop_counted: false,
                saved_mask: None,
            }),
            blocked: AtomicU64::new(parts.blocked.bits()),
            waiting_for: AtomicU64::new(0),
            credentials: SpinLock::new(parts.credentials),
            charge: SpinLock::new(parts.charge),
            files: SpinLock::new(Some(parts.files)),
            fs: SpinLock::new(Some(parts.fs)),
            namespaces: SpinLock::new(Some(parts.namespaces)),
            alternate_stack: SpinLock::new(parts.alternate_stack),
            restart: SpinLock::new(RestartBlock::None),
            clear_child_tid: AtomicUsize::new(0),
            robust_list: AtomicUsize::new(0),
            vfork: SpinLock::new(None),
            rseq: SpinLock::new(parts.rseq),
            has_rseq: AtomicBool::new(parts.rseq.is_some()),
            rseq_event: AtomicBool::new(parts.rseq.is_some()),
            counters: TaskCounters::default(),
            parent_death_signal: AtomicU32::new(0),
            timer_slack_ns: AtomicU64::new(parts.settings.timer_slack_ns),
            io_priority: AtomicU32::new(parts.settings.io_priority),
            login_user: AtomicU32::new(parts.settings.login_user),
            memory_failure: AtomicU32::new(parts.settings.memory_failure),
            ending: AtomicBool::new(false),
            exit_value: AtomicU32::new(0),
            last_trap: SpinLock::new(Trap::default()),
            _counted: parts.counted,
        });
        parts.pid.set_task(Arc::downgrade(&task));
        task
    }

    /// Its process.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Its thread id in the root namespace.
    pub fn number(&self) -> Number {
        self.number.load(Ordering::Relaxed)
    }

    /// Its id.
    pub fn pid(&self) -> Arc<Pid> {
        self.pid.lock().clone()
    }

    /// Its thread id as it sees it itself (gettid(2)).
    pub fn thread_id(&self) -> i32 {
        if self.process.namespace().level() == 0 {
            return self.number() as i32;
        }
        self.pid.lock().number_in(self.process.namespace())
    }

    /// Its process id as it sees it itself (getpid(2)).
    pub fn process_id(&self) -> i32 {
        self.process.number_in(self.process.namespace())
    }

    /// Changes the running task's credentials by a rule that makes new ones of the old.
    ///
    /// # Errors
    /// Those of `change`; nothing has changed then. ENOMEM.
    pub fn change_credentials(&self, change: impl FnOnce(&Credentials) -> Result<Credentials>) -> Result<()> {
        let new = change(&self.credentials())?;
        self.set_credentials(Arc::new(new));
        Ok(())
    }

    /// Its thread id as it sees it itself; another name of [`Task::thread_id`].
    pub fn tid_for_user(&self) -> i32 {
        self.thread_id()
    }

    pub(crate) fn take_pid(&self, pid: Arc<Pid>) -> Arc<Pid> {
        self.number.store(pid.number(), Ordering::Relaxed);
        core::mem::replace(&mut *self.pid.lock(), pid)
    }

    /// Whether it is the thread that the process is named after.
    pub fn is_leader(&self) -> bool {
        self.number() == self.process.number()
    }

    /// The scheduler's thread.
    pub fn thread(&self) -> &Arc<Thread> {
        match self.thread.get() {
            Some(thread) => thread,
            None => unreachable!("a task gets its thread before anybody sees it"),
        }
    }

    pub(crate) fn set_thread(&self, thread: &Arc<Thread>) {
        let _ = self.thread.set(thread.clone());
    }

    /// Blocked signals.
    pub fn blocked(&self) -> SignalSet {
        SignalSet::from_bits(self.blocked.load(Ordering::Relaxed))
    }

    pub(crate) fn store_blocked(&self, set: SignalSet) {
        self.blocked.store(set.blockable().bits(), Ordering::Relaxed);
    }

    /// Signals pending for this thread alone.
    pub fn own_pending(&self) -> SignalSet {
        self.own.lock().pending.set()
    }

    /// Who it is.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    /// Makes it somebody else: only for the task itself.
    pub fn set_credentials(&self, credentials: Arc<Credentials>) {
        let new_user = credentials.ruid;
        let old = core::mem::replace(&mut *self.credentials.lock(), credentials);
        if old.ruid != new_user {
            if self.is_leader() {
                self.process.set_real_user(new_user);
            }
            self.move_charge(new_user);
        }
    }

    pub(crate) fn set_rseq(&self, registration: Option<RseqRegistration>) {
        *self.rseq.lock() = registration;
        self.has_rseq.store(registration.is_some(), Ordering::Relaxed);
    }

    /// The last exception it caused.
    pub fn last_trap(&self) -> Trap {
        *self.last_trap.lock()
    }

    pub(crate) fn set_last_trap(&self, trap: Trap) {
        *self.last_trap.lock() = trap;
    }

    pub(crate) fn set_exit_value(&self, value: u8) {
        self.exit_value.store(u32::from(value), Ordering::Relaxed);
    }

    pub(crate) fn exit_value(&self) -> u8 {
        self.exit_value.load(Ordering::Relaxed) as u8
    }

    /// The account of its real user.
    pub fn account(&self) -> Arc<crate::users::UserAccount> {
        self.charge.lock().account().clone()
    }

    fn move_charge(&self, user: security::Kuid) {
        let account = crate::users::UserAccount::of(user);
        let old = core::mem::replace(&mut *self.charge.lock(), TaskCharge::new(account.clone()));
        drop(old);
        let mut shared = self.process.shared.lock();
        let queued = shared.pending.instances();
        account.add_signals(queued);
        let old = core::mem::replace(&mut shared.account, account);
        old.remove_signals(queued);
        drop(shared);
    }

    /// The descriptor table; `None` once it has ended.
    pub fn files(&self) -> Option<Arc<DescriptorTable>> {
        self.files.lock().clone()
    }

    /// The descriptor table of a running task.
    ///
    /// # Errors
    /// EBADF when the task has ended: no descriptor is open any more.
    pub fn open_files(&self) -> Result<Arc<DescriptorTable>> {
        self.files().ok_or(abi::errno::Errno::EBADF)
    }

    /// What a descriptor of a running task refers to, without counting a user of the table.
    ///
    /// # Errors
    /// EBADF when it is not open.
    #[inline]
    pub fn open_file(&self, descriptor: i32) -> Result<Arc<File>> {
        self.files.lock().as_ref().ok_or(abi::errno::Errno::EBADF)?.get(descriptor)
    }

    /// Replaces the descriptor table; the old one is closed when its last user drops it.
    pub fn replace_files(&self, files: Option<Arc<DescriptorTable>>) -> Option<Arc<DescriptorTable>> {
        core::mem::replace(&mut *self.files.lock(), files)
    }

    /// Root, working directory and umask; `None` once it has ended.
    pub fn fs(&self) -> Option<Arc<FsContext>> {
        self.fs.lock().clone()
    }

    /// The file-system context of a running task.
    ///
    /// # Errors
    /// ENOENT when the task has ended: it is nowhere.
    pub fn file_system(&self) -> Result<Arc<FsContext>> {
        self.fs().ok_or(abi::errno::Errno::ENOENT)
    }

    /// Replaces root, working directory and umask.
    pub fn replace_fs(&self, fs: Option<Arc<FsContext>>) -> Option<Arc<FsContext>> {
        core::mem::replace(&mut *self.fs.lock(), fs)
    }

    /// Its namespaces.
    ///
    /// # Errors
    /// ENOENT when the task has ended: it is in none.
    pub fn live_namespaces(&self) -> Result<Arc<Namespaces>> {
        self.namespaces.lock().clone().ok_or(abi::errno::Errno::ENOENT)
    }

    /// Moves it to other namespaces. Thread context: the last user of a namespace may have to sleep.
    pub fn set_namespaces(&self, namespaces: Arc<Namespaces>) {
        let old = self.namespaces.lock().replace(namespaces);
        drop(old);
    }

    /// Takes it out of all namespaces at its end.
    pub(crate) fn leave_namespaces(&self) {
        let old = self.namespaces.lock().take();
        drop(old);
    }

    /// Its alternate signal stack.
    pub fn alternate_stack(&self) -> AlternateStack {
        *self.alternate_stack.lock()
    }

    pub(crate) fn set_alternate_stack(&self, stack: AlternateStack) {
        *self.alternate_stack.lock() = stack;
    }

    /// How `restart_syscall` goes on with the interrupted call; taking it leaves nothing.
    pub fn take_restart(&self) -> RestartBlock {
        core::mem::replace(&mut *self.restart.lock(), RestartBlock::None)
    }

    /// Says how `restart_syscall` goes on; the caller then returns `ERESTART_RESTARTBLOCK`.
    pub fn set_restart(&self, block: RestartBlock) {
        *self.restart.lock() = block;
    }

    /// set_tid_address(2); 0 for none.
    pub fn set_clear_child_tid(&self, address: usize) {
        self.clear_child_tid.store(address, Ordering::Relaxed);
    }

    /// The address to zero at the end; 0 for none.
    pub fn clear_child_tid(&self) -> usize {
        self.clear_child_tid.load(Ordering::Relaxed)
    }

    /// set_robust_list(2): the head of the list of futexes held; 0 for none.
    pub fn set_robust_list(&self, head: usize) {
        self.robust_list.store(head, Ordering::Relaxed);
    }

    /// get_robust_list(2).
    pub fn robust_list(&self) -> usize {
        self.robust_list.load(Ordering::Relaxed)
    }

    /// PR_GET_PDEATHSIG; 0 for none.
    pub fn parent_death_signal(&self) -> i32 {
        self.parent_death_signal.load(Ordering::Relaxed) as i32
    }

    /// PR_SET_PDEATHSIG; 0 for none.
    ///
    /// # Errors
    /// EINVAL: no such signal.
    pub fn set_parent_death_signal(&self, signal: i32) -> Result<()> {
        let known = signal == 0 || crate::signal::Signal::new(signal).is_some();
        let signal = u32::try_from(signal).ok().filter(|_| known).ok_or(abi::errno::Errno::EINVAL)?;
        self.parent_death_signal.store(signal, Ordering::Relaxed);
        Ok(())
    }

    /// PR_GET_TIMERSLACK.
    pub fn timer_slack_ns(&self) -> u64 {
        self.timer_slack_ns.load(Ordering::Relaxed)
    }

    /// PR_SET_TIMERSLACK; 0 for the default.
    pub fn set_timer_slack_ns(&self, value: u64) {
        let value = if value == 0 { TIMER_SLACK_NS } else { value };
        self.timer_slack_ns.store(value, Ordering::Relaxed);
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            timer_slack_ns: self.timer_slack_ns(),
            io_priority: self.io_priority(),
            login_user: self.login_user(),
            memory_failure: self.memory_failure_policy(),
        }
    }

    /// ioprio_get(2): the class in the bits from 13 on, 0 for none of its own.
    pub fn io_priority(&self) -> u32 {
        self.io_priority.load(Ordering::Relaxed)
    }

    /// ioprio_set(2), checked by the caller.
    pub fn set_io_priority(&self, value: u32) {
        self.io_priority.store(value, Ordering::Relaxed);
    }

    /// `/proc/PID/loginuid`, or [`NO_LOGIN`].
    pub fn login_user(&self) -> u32 {
        self.login_user.load(Ordering::Relaxed)
    }

    /// Sets `/proc/PID/loginuid`.
    pub fn set_login_user(&self, user: u32) {
        self.login_user.store(user, Ordering::Relaxed);
    }

    /// PR_MCE_KILL_GET: `PR_MCE_KILL_EARLY`, `_LATE` or `_DEFAULT`.
    pub fn memory_failure_policy(&self) -> u32 {
        self.memory_failure.load(Ordering::Relaxed)
    }

    /// PR_MCE_KILL.
    pub fn set_memory_failure_policy(&self, policy: u32) {
        self.memory_failure.store(policy, Ordering::Relaxed);
    }

    /// What it has done, counted.
    #[inline]
    pub fn counters(&self) -> &TaskCounters {
        &self.counters
    }

    /// Processor time used so far.
    pub fn times(&self) -> Times {
        let times = self.thread().times();
        Times { user_ns: times.user_ns, system_ns: times.system_ns }
    }

    /// Processor time used so far, in all.
    pub fn cpu_time_ns(&self) -> u64 {
        self.times().total_ns()
    }

    /// getrusage(2), RUSAGE_THREAD.
    pub fn usage(&self) -> crate::usage::Usage {
        let mut usage = crate::usage::of_task(self);
        usage.peak_rss_kib = self.process.usage().peak_rss_kib;
        usage
    }

    /// The name of at most 15 bytes that `ps` shows.
    pub fn name(&self) -> [u8; 16] {
        self.thread().name()
    }

    /// Whether it has begun to end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Makes an interruptible sleep end and user mode be left, so that signals are looked at.
    pub(crate) fn interrupt(&self) {
        self.thread().interrupt();
    }

    /// The same for killable sleeps: the task has to end.
    pub(crate) fn kill(&self) {
        self.thread().kill();
    }
}

/// Calls `f` with the running thread's task; `None` on a kernel thread.
pub fn with_current<R>(f: impl FnOnce(&Task) -> R) -> Option<R> {
    let thread = sched::try_current()?;
    thread.extension::<Task>().map(f)
}
