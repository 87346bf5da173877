//! Descriptors that stand for processes: pidfd_open(2), pidfd_getfd(2), CLONE_PIDFD.
//!
//! A [`PidFd`] keeps the [`Pid`], not the process: it stays valid and simply finds nothing once the process is reaped. It polls readable
//! when the process has ended.

use crate::pid::Pid;
use crate::task::Task;
use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use abi::poll::PollEvents;
use alloc::sync::Arc;
use vfs::{CloseOnExec, File, FileOperations, PollTable, SeekFrom};

/// The operations of a pidfd.
pub struct PidFd {
    pid: Arc<Pid>,
}

/// pidfd_open(2): non-blocking waits.
pub const PIDFD_NONBLOCK: u32 = 0o4000;

impl FileOperations for PidFd {
    /// Unlike a stream's, `pread` is tried, and finds that there is nothing to read.
    fn seek(&self, _file: &File, _from: SeekFrom, _current: u64) -> Result<u64> {
        Err(Errno::ESPIPE)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(self.pid.ended_queue());
        match self.pid.process() {
            Some(process) if !process.is_zombie() => PollEvents::empty(),
            Some(_) => PollEvents::IN | PollEvents::RDNORM,
            None => PollEvents::IN | PollEvents::RDNORM | PollEvents::HUP,
        }
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        if self.pid.process().is_none() {
            return writeln!(out, "Pid:\t-1\nNSpid:\t-1");
        }
        let reader = crate::task::with_current(|task| task.process().namespace().clone());
        let reader = reader.unwrap_or_else(|| crate::pid::root().clone());
        let number = self.pid.number_in(&reader);
        // What the reader does not see has no number for it, and none further in.
        let numbers = if number == 0 { alloc::vec![0] } else { self.pid.numbers_from(&reader) };
        write!(out, "Pid:\t{number}\nNSpid:")?;
        numbers.iter().try_for_each(|number| write!(out, "\t{number}"))?;
        writeln!(out)
    }
}

/// The id that an open file stands for.
///
/// # Errors
/// EBADF: not a pidfd.
pub fn pid_of(file: &File) -> Result<Arc<Pid>> {
    file.operations_as::<PidFd>().map(|descriptor| descriptor.pid.clone()).ok_or(Errno::EBADF)
}

/// The id that descriptor `number` of the caller stands for.
///
/// # Errors
/// EBADF: not open, or not a pidfd.
pub fn find(task: &Task, number: i32) -> Result<Arc<Pid>> {
    pid_of(&*task.open_files()?.get(number)?)
}

fn descriptor_limit(task: &Task) -> u64 {
    task.process().limits().soft(crate::limits::Resource::OpenFiles)
}

fn new_file(task: &Task, pid: &Arc<Pid>, flags: OpenFlags) -> Result<Arc<File>> {
    let operations = Arc::new(PidFd { pid: pid.clone() });
    vfs::anonymous::new_file("pidfd", operations, OpenFlags::RDWR | flags, &task.credentials())
}

/// A description of this process, for a descriptor that comes with a socket's message.
pub(crate) fn file_of(task: &Task, pid: &Arc<Pid>) -> Result<Arc<File>> {
    new_file(task, pid, OpenFlags::empty())
}

/// pidfd_open(2).
///
/// # Errors
/// EINVAL: bad flags or not a process. ESRCH, EMFILE, ENOMEM.
pub fn open(task: &Task, pid: i32, flags: u32) -> Result<i32> {
    if flags & !PIDFD_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let pid = task.process().namespace().find(pid).ok_or(Errno::ESRCH)?;
    if pid.process().is_none() {
        // A thread that does not lead its process: Linux says so by ENOENT.
        return Err(if pid.task().is_some() { Errno::ENOENT } else { Errno::ESRCH });
    }
    let mode = if flags & PIDFD_NONBLOCK != 0 { OpenFlags::NONBLOCK } else { OpenFlags::empty() };
    let file = new_file(task, &pid, mode)?;
    task.open_files()?.install(file, CloseOnExec::Yes, descriptor_limit(task))
}

/// pidfd_getfd(2): a copy of another process's descriptor.
///
/// # Errors
/// EBADF, ESRCH, EPERM: the caller could not trace that process.
pub fn getfd(task: &Task, number: i32, target: i32) -> Result<i32> {
    let pid = find(task, number)?;
    let process = pid.process().ok_or(Errno::ESRCH)?;
    let other = process.leader().ok_or(Errno::ESRCH)?;
    may_trace(task, &other)?;
    let file = other.files().ok_or(Errno::ESRCH)?.get(target)?;
    task.open_files()?.install(file, CloseOnExec::Yes, descriptor_limit(task))
}

/// The rule of ptrace(2), "Ptrace access mode checking", for real access.
///
/// # Errors
/// EPERM.
pub fn may_trace(task: &Task, target: &Task) -> Result<()> {
    if Arc::ptr_eq(task.process(), target.process()) {
        return Ok(());
    }
    let (from, to) = (task.credentials(), target.credentials());
    let same = [to.ruid, to.euid, to.suid].iter().all(|user| *user == from.ruid)
        && [to.rgid, to.egid, to.sgid].iter().all(|group| *group == from.rgid)
        && Arc::ptr_eq(&from.user_namespace, &to.user_namespace)
        && to.permitted.is_subset_of(from.permitted);
    let allowed = same && target.process().dumpable() == 1;
    if allowed || from.capable(&to.user_namespace, security::Capability::SysPtrace) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// A pidfd for a child that is not born yet.
pub(crate) struct Reserved {
    number: i32,
}

/// Makes a pidfd for clone; undone by [`Reserved::finish`] when the child fails.
pub(crate) fn reserve(task: &Task, pid: &Arc<Pid>) -> Result<Reserved> {
    let file = new_file(task, pid, OpenFlags::empty())?;
    let number = task.open_files()?.install(file, CloseOnExec::Yes, descriptor_limit(task))?;
    Ok(Reserved { number })
}

impl Reserved {
    pub(crate) fn number(&self) -> i32 {
        self.number
    }

    pub(crate) fn finish(self, task: &Task, born: bool) {
        if !born && let Ok(files) = task.open_files() {
            let _ = files.close(self.number);
        }
    }
}
