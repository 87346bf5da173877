//! Making tasks: clone(2), clone3(2), fork(2), vfork(2).
//!
//! [`clone`] checks the flags as Linux does, builds a complete child that nobody can see, and then publishes it under the locks of
//! the process tree and its process: a signal to the process group either reaches the child too or makes the
//! call start over. Until that point every failure undoes itself by dropping what was built.

use crate::namespaces::Namespaces;
use crate::namespaces::switch::{self, ChildSet};
use crate::pid::{Pid, PidNamespace};
use crate::process::{Process, ProcessParts, StopState, TREE};
use crate::signal::{AlternateStack, Signal, SignalHandlers};
use crate::task::{Task, TaskParts, VforkCompletion};
use crate::users::TaskCharge;
use abi::clone::CloneFlags;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicUsize, Ordering};
use machine::user::{UserBases, UserRegisters};
use security::{Capability, Credentials};
use vfs::FsContext;

/// Most levels that clone3's `set_tid` may name (`MAX_PID_NS_LEVEL`).
pub const MAX_NAMESPACE_LEVELS: usize = 32;
/// Most tasks in the system; `/proc/sys/kernel/threads-max`.
static MAX_TASKS: AtomicUsize = AtomicUsize::new(1 << 20);
static TASKS: AtomicUsize = AtomicUsize::new(0);

/// One task's share of the count of all tasks; given back when dropped.
pub struct Counted(());

impl Counted {
    /// Counts one task more.
    ///
    /// # Errors
    /// EAGAIN: there are `threads-max` already.
    pub fn new() -> Result<Counted> {
        let counted = Counted(());
        if TASKS.fetch_add(1, Ordering::Relaxed) >= MAX_TASKS.load(Ordering::Relaxed) {
            return Err(Errno::EAGAIN);
        }
        Ok(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        TASKS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many tasks there are.
pub fn task_count() -> usize {
    TASKS.load(Ordering::Relaxed)
}

/// The most tasks there may be.
pub fn max_tasks() -> usize {
    MAX_TASKS.load(Ordering::Relaxed)
}

/// As many tasks as have their kernel stacks in an eighth of memory (Linux's rule for `threads-max`).
pub fn default_max_tasks() -> usize {
    machine::memory::stats().total_pages * machine::PAGE_SIZE / (8 * machine::thread::STACK_BYTES)
}

/// Sets the most tasks there may be, within Linux's bounds for `threads-max`.
pub fn set_max_tasks(value: usize) {
    MAX_TASKS.store(value.clamp(20, 0x3fff_ffff), Ordering::Relaxed);
}

/// What clone3(2) is told. Addresses are the program's; 0 is none.
#[derive(Clone, Debug, Default)]
pub struct CloneArguments {
    /// What to share and do: [`CloneFlags`].
    pub flags: u64,
    /// Where the pidfd's number goes.
    pub pidfd: usize,
    /// Where the thread id goes in the child, and is cleared at its end.
    pub child_tid: usize,
    /// Where it goes in the parent.
    pub parent_tid: usize,
    /// What the parent is sent when the child ends; 0 for nothing.
    pub exit_signal: u64,
    /// The child's stack pointer; 0 keeps the parent's.
    pub stack: u64,
    /// The child's thread pointer (CLONE_SETTLS).
    pub tls: u64,
    /// Descriptor of a control group (CLONE_INTO_CGROUP, which is refused).
    pub cgroup: u64,
    /// Wanted thread ids, innermost namespace first.
    pub set_tid: ArrayVec<i32, MAX_NAMESPACE_LEVELS>,
}

impl CloneArguments {
    fn known_flags(&self) -> Result<CloneFlags> {
        CloneFlags::from_bits(self.flags).ok_or(Errno::EINVAL)
    }

    fn has(&self, flag: CloneFlags) -> bool {
        self.flags & flag.bits() == flag.bits()
    }
}

/// Control groups: refused as Linux without them does.
const UNSUPPORTED: CloneFlags = CloneFlags::INTO_CGROUP;

/// The flag rules of clone(2).
///
/// # Errors
/// EINVAL: a combination that makes no sense.
pub fn check_flags(flags: CloneFlags, exit_signal: u64) -> Result<()> {
    let has = |flag| flags.contains(flag);
    let wrong = flags.intersects(UNSUPPORTED)
        || (has(CloneFlags::THREAD) && !has(CloneFlags::SIGHAND))
        || (has(CloneFlags::SIGHAND) && !has(CloneFlags::VM))
        || (has(CloneFlags::SIGHAND) && has(CloneFlags::CLEAR_SIGHAND))
        || (has(CloneFlags::PIDFD) && has(CloneFlags::DETACHED))
        || (has(CloneFlags::FS) && flags.intersects(CloneFlags::NEWNS | CloneFlags::NEWUSER))
        || (has(CloneFlags::THREAD) && flags.intersects(CloneFlags::NEWUSER | CloneFlags::NEWPID))
        || (has(CloneFlags::SYSVSEM) && has(CloneFlags::NEWIPC))
        || exit_signal > Signal::COUNT as u64;
    if wrong { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Makes a child of the running task, whose registers are `registers`; gives its id as the caller sees it.
///
/// # Errors
/// EINVAL, EAGAIN (limits), ENOMEM, EPERM (`set_tid`), EEXIST, ERESTARTNOINTR (a signal came first).
pub fn clone(task: &Arc<Task>, registers: &UserRegisters, arguments: &CloneArguments) -> Result<i32> {
    check_flags(arguments.known_flags()?, arguments.exit_signal)?;
    let has = |flag| arguments.has(flag);
    if has(CloneFlags::PARENT) && task.process().is_init() {
        return Err(Errno::EINVAL);
    }
    let current = task.live_namespaces()?;
    let elsewhere = !Arc::ptr_eq(&current.pid_for_children, task.process().namespace());
    if has(CloneFlags::THREAD) && elsewhere {
        return Err(Errno::EINVAL);
    }
    if !has(CloneFlags::THREAD) && crate::signal::calls::signal_pending() {
        return Err(Errno::ERESTARTNOINTR);
    }
    let charge = charge_user(task)?;
    let fs = task.file_system()?;
    let fs = if has(CloneFlags::FS) { fs } else { fs.fork() };
    let set = switch::for_child(task, arguments.known_flags()?, &fs)?;
    let pid_namespace = &set.namespaces.pid_for_children;
    check_wanted_ids(pid_namespace, &set.credentials, &arguments.set_tid)?;
    let pid = Pid::new(pid_namespace, &arguments.set_tid)?;
    let unpublished = ReleaseUnlessPublished { pid: Some(pid.clone()) };
    let child = build(task, &pid, charge, fs, set, arguments)?;
    let thread = make_thread(task, &child, registers, arguments)?;
    let vfork = has(CloneFlags::VFORK).then(|| Arc::new(VforkCompletion::default()));
    *child.vfork.lock() = vfork.clone();
    let number = pid.number_in(task.process().namespace());
    let outcome = announce(task, &pid, arguments, number).and_then(|pidfd| {
        let published = publish(task, &child, arguments);
        pidfd.finish(task, &published);
        published
    });
    if let Err(error) = outcome {
        thread.abandon();
        return Err(error);
    }
    unpublished.published();
    thread.start();
    if let Some(completion) = vfork {
        completion.wait();
    }
    Ok(number)
}

/// clone3(2), `set_tid`: choosing ids needs a capability in the owner of each namespace where one is chosen.
///
/// # Errors
/// EPERM.
fn check_wanted_ids(innermost: &Arc<PidNamespace>, credentials: &Credentials, wanted: &[i32]) -> Result<()> {
    let mut at = Some(innermost);
    for _ in wanted {
        // More ids than namespaces: `Pid::new` says so.
        let Some(namespace) = at else { break };
        let owner = namespace.head().owner();
        if !credentials.capable(owner, Capability::CheckpointRestore)
            && !credentials.capable(owner, Capability::SysAdmin)
        {
            return Err(Errno::EPERM);
        }
        at = namespace.parent();
    }
    Ok(())
}

/// Gives a pid back when the child does not come to life.
struct ReleaseUnlessPublished {
    pid: Option<Arc<Pid>>,
}

impl ReleaseUnlessPublished {
    fn published(mut self) {
        self.pid = None;
    }
}

impl Drop for ReleaseUnlessPublished {
    fn drop(&mut self) {
        if let Some(pid) = &self.pid {
            pid.set_task(alloc::sync::Weak::new());
            pid.set_process(alloc::sync::Weak::new());
            pid.release();
        }
    }
}

/// RLIMIT_NPROC (getrlimit(2)): root and administrators are not held to it.
fn charge_user(task: &Task) -> Result<TaskCharge> {
    let account = task.account();
    let limit = task.process().limits().soft(crate::limits::Resource::Processes);
    let credentials = task.credentials();
    let exempt = credentials.ruid == security::Kuid::ROOT
        || security::capable_anywhere_above(&credentials, Capability::SysResource)
        || security::capable_anywhere_above(&credentials, Capability::SysAdmin);
    if account.tasks() as u64 >= limit && !exempt {
        return Err(Errno::EAGAIN);
    }
    Ok(TaskCharge::new(account))
}

/// Builds the child's task, and its process unless it is a thread.
fn build(
    task: &Arc<Task>,
    pid: &Arc<Pid>,
    charge: TaskCharge,
    fs: Arc<FsContext>,
    set: ChildSet,
    arguments: &CloneArguments,
) -> Result<Arc<Task>> {
    let has = |flag| arguments.has(flag);
    let files = task.open_files()?;
    let files = if has(CloneFlags::FILES) { files } else { files.fork()? };
    let process = if has(CloneFlags::THREAD) {
        task.process().clone()
    } else {
        build_process(task, pid, &set.namespaces, arguments)?
    };
    let keeps_stack = !has(CloneFlags::VM) || has(CloneFlags::VFORK);
    let child = Task::new(TaskParts {
        process,
        pid: pid.clone(),
        blocked: task.blocked(),
        credentials: child_credentials(set.credentials, arguments),
        charge,
        files,
        fs,
        namespaces: set.namespaces,
        alternate_stack: if keeps_stack { task.alternate_stack() } else { AlternateStack::NONE },
        rseq: if has(CloneFlags::VM) { None } else { *task.rseq.lock() },
        settings: task.settings(),
        counted: Counted::new()?,
    });
    if has(CloneFlags::CHILD_CLEARTID) {
        child.set_clear_child_tid(arguments.child_tid);
    }
    Ok(child)
}

/// Threads share one object; a process gets its own, so that processes on other CPUs do not count references in the same
/// cache line.
fn child_credentials(credentials: Arc<Credentials>, arguments: &CloneArguments) -> Arc<Credentials> {
    if arguments.has(CloneFlags::THREAD) { credentials } else { Arc::new(Credentials::clone(&credentials)) }
}

fn build_process(
    task: &Task,
    pid: &Arc<Pid>,
    namespaces: &Namespaces,
    arguments: &CloneArguments,
) -> Result<Arc<Process>> {
    let has = |flag| arguments.has(flag);
    let parent = task.process();
    let space = parent.space().ok_or(Errno::ESRCH)?;
    let space = if has(CloneFlags::VM) { space } else { space.fork()? };
    if !Arc::ptr_eq(&namespaces.time, &task.live_namespaces()?.time) {
        crate::vdso::follow_clocks(&space, &namespaces.time)?;
    }
    let process = Process::new(ProcessParts {
        pid: pid.clone(),
        namespace: namespaces.pid_for_children.clone(),
        space: Some(space),
        executable: parent.executable(),
        handlers: child_handlers(parent, arguments),
        account: task.account(),
        exit_signal: arguments.exit_signal as u32,
        limits: parent.limits(),
        real_user: task.credentials().ruid,
    });
    process.set_oom_score_adjustment(parent.oom_score_adjustment());
    process.set_oom_score_adjustment_min(parent.oom_score_adjustment_min());
    process.set_dumpable(parent.dumpable());
    process.set_personality(parent.personality());
    process.set_huge_pages_disabled(parent.huge_pages_disabled());
    let membarrier = parent.membarrier_state().load(Ordering::Relaxed);
    process.membarrier_state().store(membarrier, Ordering::Relaxed);
    Ok(process)
}

fn child_handlers(parent: &Process, arguments: &CloneArguments) -> Arc<SignalHandlers> {
    let handlers = parent.handlers();
    if arguments.has(CloneFlags::SIGHAND) {
        return handlers;
    }
    let copy = handlers.duplicate();
    if arguments.has(CloneFlags::CLEAR_SIGHAND) {
        copy.update(|table| table.clear_handlers());
    }
    copy
}

/// Makes the scheduler's thread, with a copy of the registers and the floating-point state.
fn make_thread(
    task: &Arc<Task>,
    child: &Arc<Task>,
    registers: &UserRegisters,
    arguments: &CloneArguments,
) -> Result<Arc<sched::Thread>> {
    let mut copy = *registers;
    copy.rax = 0;
    copy.orig_rax = u64::MAX;
    if arguments.stack != 0 {
        copy.rsp = arguments.stack;
    }
    let set_tid = arguments.has(CloneFlags::CHILD_SETTID).then_some(arguments.child_tid);
    let parent = task.thread();
    let name = parent.name();
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    let mine = child.clone();
    let entry = Box::new(move || {
        if let Some(address) = set_tid {
            let _ = machine::user::write_value(address, &mine.thread_id());
        }
        crate::run::run(mine, copy);
    });
    let extension: Arc<dyn core::any::Any + Send + Sync> = child.clone();
    let thread = sched::Thread::create("", parent.child_options(), Some(extension), entry)?;
    thread.set_name(name.get(..length).unwrap_or(&[]));
    if let (Some(new), Some(current)) = (thread.kernel(), parent.kernel()) {
        new.copy_user_state_from(&current).map_err(|_| Errno::ENOMEM)?;
        if arguments.has(CloneFlags::SETTLS) {
            let bases = UserBases { fs: arguments.tls, ..new.bases() };
            new.set_bases(bases).map_err(|_| Errno::EPERM)?;
        }
    }
    thread.set_page_table(child.process().space().map(|space| space.page_table().clone()));
    child.set_thread(&thread);
    Ok(thread)
}

/// A pidfd that is reserved but not visible yet.
struct PendingPidFd(Option<crate::pidfd::Reserved>);

impl PendingPidFd {
    fn finish(self, task: &Task, published: &Result<()>) {
        if let Some(reserved) = self.0 {
            reserved.finish(task, published.is_ok());
        }
    }
}

/// Writes what the parent is to find in its memory, before the child can run.
fn announce(task: &Task, pid: &Arc<Pid>, arguments: &CloneArguments, number: i32) -> Result<PendingPidFd> {
    let mut reserved = None;
    if arguments.has(CloneFlags::PIDFD) {
        let descriptor = crate::pidfd::reserve(task, pid)?;
        if let Err(fault) = machine::user::write_value(arguments.pidfd, &descriptor.number()) {
            descriptor.finish(task, false);
            return Err(fault.into());
        }
        reserved = Some(descriptor);
    }
    if arguments.has(CloneFlags::PARENT_SETTID) {
        // As Linux: a bad address here does not stop the child.
        let _ = machine::user::write_value(arguments.parent_tid, &number);
    }
    Ok(PendingPidFd(reserved))
}

/// Makes the child visible to everybody.
fn publish(task: &Task, child: &Arc<Task>, arguments: &CloneArguments) -> Result<()> {
    if arguments.has(CloneFlags::THREAD) {
        return publish_thread(task, child);
    }
    let parent = task.process();
    let process = child.process();
    let mut tree = TREE.lock();
    // Checked under the tree's lock: who signals the group holds it.
    if crate::signal::calls::signal_pending() {
        return Err(Errno::ERESTARTNOINTR);
    }
    let siblings = arguments.has(CloneFlags::PARENT);
    let owner = if siblings { tree.parent_number(parent.number()) } else { parent.number() };
    if siblings {
        process.exit_signal.store(parent.exit_signal.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    // Who closes a namespace to kill everybody in it holds the tree, too.
    if process.namespace().is_closed() {
        return Err(Errno::ENOMEM);
    }
    add_thread(&mut process.shared.lock(), child)?;
    if let Some(owner) = tree.get(owner) {
        process.note_parent(owner);
    }
    let inserted = tree.insert_child(process.number(), owner, parent.number(), process.clone());
    match &inserted {
        Err(_) => process.shared.lock().threads.clear(),
        Ok(()) if process.is_init() => process.namespace().set_init(process.number()),
        Ok(()) => {}
    }
    inserted
}

fn publish_thread(task: &Task, child: &Arc<Task>) -> Result<()> {
    let process = task.process();
    let mut shared = process.shared.lock();
    if shared.group_exit.is_some() || shared.exec_owner.is_some() {
        return Err(Errno::ERESTARTNOINTR);
    }
    add_thread(&mut shared, child)?;
    if let StopState::Stopping { signal, remaining } = shared.stop {
        shared.stop = StopState::Stopping { signal, remaining: remaining + 1 };
    }
    if shared.stop.is_active() {
        child.interrupt();
    }
    Ok(())
}

pub(crate) fn add_thread(shared: &mut crate::process::Shared, child: &Arc<Task>) -> Result<()> {
    shared.threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    child.place.store(shared.threads.len(), Ordering::Relaxed);
    shared.threads.push(child.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_as_the_manual_says() {
        assert_eq!(check_flags(CloneFlags::empty(), 17), Ok(()));
        assert_eq!(check_flags(CloneFlags::THREAD, 0), Err(Errno::EINVAL));
        assert_eq!(check_flags(CloneFlags::SIGHAND, 0), Err(Errno::EINVAL));
        let thread = CloneFlags::THREAD | CloneFlags::SIGHAND | CloneFlags::VM;
        assert_eq!(check_flags(thread, 0), Ok(()));
        assert_eq!(check_flags(CloneFlags::NEWNET, 17), Ok(()));
        assert_eq!(check_flags(CloneFlags::NEWNS | CloneFlags::FS, 17), Err(Errno::EINVAL));
        assert_eq!(check_flags(thread | CloneFlags::NEWPID, 17), Err(Errno::EINVAL));
        assert_eq!(check_flags(CloneFlags::empty(), 65), Err(Errno::EINVAL));
    }
}
