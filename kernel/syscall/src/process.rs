//! Processes and threads: clone(2), fork(2), execve(2), exit(2), wait4(2), ids, sessions and groups, pidfds, rseq(2).
//!
//! Decoding; the work and its locks are in crate `task`.

use crate::decode::{Context, Fd};
use crate::extensible;
use crate::limits::usage_to_user;
use abi::clone::{
    CLONE_ARGS_SIZE_VER0, CLONE_DETACHED, CLONE_NEWTIME, CLONE_PARENT_SETTID, CLONE_PIDFD, CLONE_VFORK,
    CLONE_VM, CloneArgs,
};
use abi::errno::{Errno, Result};
use abi::resource::Rusage;
use abi::wait::{P_ALL, P_PGID, P_PID, P_PIDFD, WaitOptions};
use arrayvec::ArrayVec;
use mm::user::{UserPtr, UserSlice, UserString};
use task::exec::Opened;
use task::exec::arguments::{MAX_STRING, Strings, total_limit};
use task::fork::CloneArguments;
use task::limits::Resource;
use task::namespaces::switch;
use task::signal::Signal;
use task::wait::{WaitRequest, WaitTarget};

/// getpid(2).
pub fn getpid(context: &mut Context<'_>) -> Result<usize> {
    Ok(context.task.process_id() as usize)
}

/// gettid(2).
pub fn gettid(context: &mut Context<'_>) -> Result<usize> {
    Ok(context.task.thread_id() as usize)
}

/// getppid(2).
pub fn getppid(context: &mut Context<'_>) -> Result<usize> {
    Ok(context.task.process().parent_number() as usize)
}

/// getpgid(2). Errors: `ESRCH`.
pub fn getpgid(context: &mut Context<'_>, pid: i32) -> Result<usize> {
    task::job::getpgid(context.task, pid).map(|group| group as usize)
}

/// getpgrp(2).
pub fn getpgrp(context: &mut Context<'_>) -> Result<usize> {
    getpgid(context, 0)
}

/// setpgid(2). Errors: `EINVAL`, `EPERM`, `ESRCH`, `EACCES`.
pub fn setpgid(context: &mut Context<'_>, pid: i32, group: i32) -> Result<usize> {
    task::job::setpgid(context.task, pid, group).map(|()| 0)
}

/// getsid(2). Errors: `ESRCH`.
pub fn getsid(context: &mut Context<'_>, pid: i32) -> Result<usize> {
    task::job::getsid(context.task, pid).map(|session| session as usize)
}

/// setsid(2). Errors: `EPERM`.
pub fn setsid(context: &mut Context<'_>) -> Result<usize> {
    task::job::setsid(context.task).map(|session| session as usize)
}

/// set_tid_address(2).
pub fn set_tid_address(context: &mut Context<'_>, address: usize) -> Result<usize> {
    context.task.set_clear_child_tid(address);
    Ok(context.task.thread_id() as usize)
}

/// fork(2). Errors: `EAGAIN`, `ENOMEM`.
pub fn fork(context: &mut Context<'_>) -> Result<usize> {
    let arguments =
        CloneArguments { exit_signal: Signal::SIGCHLD.number() as u64, ..CloneArguments::default() };
    start(context, &arguments)
}

/// vfork(2). Errors: `EAGAIN`, `ENOMEM`.
pub fn vfork(context: &mut Context<'_>) -> Result<usize> {
    let flags = u64::from(CLONE_VM | CLONE_VFORK);
    let exit_signal = Signal::SIGCHLD.number() as u64;
    start(context, &CloneArguments { flags, exit_signal, ..CloneArguments::default() })
}

/// clone(2): the exit signal is the low byte of the flags. Errors: `EINVAL`, `EAGAIN`, `ENOMEM`, `EPERM`.
pub fn clone(
    context: &mut Context<'_>,
    flags: u64,
    stack: u64,
    parent_tid: usize,
    child_tid: usize,
    tls: u64,
) -> Result<usize> {
    const EXIT_SIGNAL: u64 = 0xff;
    let flags = flags & 0xffff_ffff;
    let both = u64::from(CLONE_PIDFD | CLONE_PARENT_SETTID);
    if flags & both == both {
        return Err(Errno::EINVAL);
    }
    let arguments = CloneArguments {
        flags: flags & !EXIT_SIGNAL,
        exit_signal: flags & EXIT_SIGNAL,
        stack,
        parent_tid,
        // CLONE_PIDFD puts the descriptor where CLONE_PARENT_SETTID would put the id; clone(2) allows only one of them.
        pidfd: parent_tid,
        child_tid,
        tls,
        ..CloneArguments::default()
    };
    start(context, &arguments)
}

/// clone3(2). Errors: `EINVAL`, `E2BIG`, `EFAULT`, `EAGAIN`, `ENOMEM`, `EPERM`, `EEXIST`.
pub fn clone3(context: &mut Context<'_>, arguments: usize, size: usize) -> Result<usize> {
    let given: CloneArgs = extensible::read_sized(arguments, size, CLONE_ARGS_SIZE_VER0 as usize)?;
    let mut set_tid = ArrayVec::new();
    if given.set_tid_size > set_tid.capacity() as u64 || (given.set_tid == 0) != (given.set_tid_size == 0) {
        return Err(Errno::EINVAL);
    }
    for index in 0..given.set_tid_size as usize {
        let pid: i32 = UserPtr::new(given.set_tid as usize).element(index).read()?;
        set_tid.push(pid);
    }
    // Of the flags of clone(2), the ignored one and the signal in the low byte are not for this call; a bit of that byte
    // asks for a time namespace here.
    if given.flags & (u64::from(CLONE_DETACHED) | 0xff & !u64::from(CLONE_NEWTIME)) != 0 {
        return Err(Errno::EINVAL);
    }
    if (given.stack == 0) != (given.stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    let converted = CloneArguments {
        flags: given.flags,
        exit_signal: given.exit_signal,
        pidfd: given.pidfd as usize,
        child_tid: given.child_tid as usize,
        parent_tid: given.parent_tid as usize,
        stack: given.stack.checked_add(given.stack_size).ok_or(Errno::EINVAL)?,
        tls: given.tls,
        cgroup: given.cgroup,
        set_tid,
    };
    start(context, &converted)
}

/// unshare(2). Errors: `EINVAL`, `EPERM`, `ENOSPC`, `ENOMEM`.
pub fn unshare(context: &mut Context<'_>, flags: u64) -> Result<usize> {
    switch::unshare(context.task, flags).map(|()| 0)
}

/// setns(2). Errors: `EBADF`, `EINVAL`, `EPERM`, `ESRCH`, `EUSERS`, `ENOMEM`.
pub fn setns(context: &mut Context<'_>, descriptor: Fd, flags: i32) -> Result<usize> {
    switch::setns(context.task, descriptor.0, u64::from(flags as u32)).map(|()| 0)
}

fn start(context: &Context<'_>, arguments: &CloneArguments) -> Result<usize> {
    task::fork::clone(context.task, context.registers, arguments).map(|pid| pid as usize)
}

/// Collects an array of strings that ends with a null pointer. Errors: `EFAULT`, `E2BIG`, `ENOMEM`.
fn strings(array: UserPtr<usize>, limit: usize) -> Result<Strings> {
    let mut all = Strings::new();
    if array.is_null() {
        return Ok(all);
    }
    for index in 0.. {
        let address = array.element(index).read()?;
        if address == 0 {
            break;
        }
        let string = UserString::new(address).read(MAX_STRING).map_err(|error| match error {
            Errno::ENAMETOOLONG => Errno::E2BIG,
            other => other,
        })?;
        all.push(&string)?;
        if all.cost() > limit {
            return Err(Errno::E2BIG);
        }
    }
    Ok(all)
}

/// execve(2): see [`execveat`].
pub fn execve(
    context: &mut Context<'_>,
    path: UserString,
    arguments: UserPtr<usize>,
    environment: UserPtr<usize>,
) -> Result<usize> {
    execute(context, None, path, arguments, environment, 0)
}

/// execveat(2). Errors: `EACCES`, `E2BIG`, `EFAULT`, `EINVAL`, `ELOOP`, `ENOENT`, `ENOEXEC`, `ENOMEM`, `ENOTDIR`, `EPERM`, ….
pub fn execveat(
    context: &mut Context<'_>,
    directory: Fd,
    path: UserString,
    arguments: UserPtr<usize>,
    environment: UserPtr<usize>,
    flags: u32,
) -> Result<usize> {
    execute(context, Some(directory.0), path, arguments, environment, flags)
}

fn execute(
    context: &mut Context<'_>,
    directory: Option<i32>,
    path: UserString,
    arguments: UserPtr<usize>,
    environment: UserPtr<usize>,
    flags: u32,
) -> Result<usize> {
    let path = path.read(vfs::PATH_MAX)?;
    let opened = Opened::new(context.task, directory, &path, flags)?;
    let limit = total_limit(context.task.process().limits().soft(Resource::Stack));
    let arguments = strings(arguments, limit)?;
    let environment = strings(environment, limit.saturating_sub(arguments.cost()))?;
    task::exec::execve(context.task, context.registers, opened, arguments, environment)?;
    // The registers are those of the new program; its `rax` must survive the return path.
    Ok(context.registers.rax as usize)
}

/// exit(2): marks the thread; it ends on its way back to user mode.
pub fn exit(context: &mut Context<'_>, status: i32) -> Result<usize> {
    task::exit::exit_thread(context.task, status);
    Ok(0)
}

/// exit_group(2): marks all threads of the process.
pub fn exit_group(context: &mut Context<'_>, status: i32) -> Result<usize> {
    task::exit::exit_group(context.task, status);
    Ok(0)
}

/// Which kinds of children a wait is about (`__WNOTHREAD`, `__WCLONE`, `__WALL`).
const KINDS: WaitOptions = WaitOptions::NOTHREAD.union(WaitOptions::CLONE).union(WaitOptions::ALL);

/// wait4(2). Errors: `ECHILD`, `EINVAL`, `EINTR`, `ESRCH`, `EFAULT`.
pub fn wait4(
    context: &mut Context<'_>,
    pid: i32,
    status: UserPtr<i32>,
    options: u32,
    usage: UserPtr<Rusage>,
) -> Result<usize> {
    let known = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED | KINDS;
    let options =
        WaitOptions::from_bits(options).filter(|asked| known.contains(*asked)).ok_or(Errno::EINVAL)?;
    let target = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => WaitTarget::Any,
        0 => WaitTarget::Group(0),
        pid if pid < 0 => WaitTarget::Group(-pid),
        pid => WaitTarget::Pid(pid),
    };
    let request = WaitRequest { target, options: (options | WaitOptions::EXITED).bits() };
    match task::wait::wait(context.task, &request)? {
        None => Ok(0),
        Some(result) => {
            status.write_optional(&result.event.wait_status())?;
            usage.write_optional(&usage_to_user(&result.usage))?;
            Ok(result.pid as usize)
        }
    }
}

/// waitid(2). Errors: `ECHILD`, `EINVAL`, `EINTR`, `EBADF`, `EFAULT`.
pub fn waitid(
    context: &mut Context<'_>,
    kind: i32,
    id: i32,
    info: UserPtr<[u8; 128]>,
    options: u32,
    usage: UserPtr<Rusage>,
) -> Result<usize> {
    let options = WaitOptions::from_bits(options).ok_or(Errno::EINVAL)?;
    let target = match kind as u32 {
        P_ALL => WaitTarget::Any,
        P_PID if id > 0 => WaitTarget::Pid(id),
        P_PGID if id >= 0 => WaitTarget::Group(id),
        P_PIDFD if id >= 0 => WaitTarget::PidFd(id),
        _ => return Err(Errno::EINVAL),
    };
    let result = task::wait::wait(context.task, &WaitRequest { target, options: options.bits() })?;
    if let Some(result) = &result {
        usage.write_optional(&usage_to_user(&result.usage))?;
    }
    if let Some(info) = info.optional() {
        let bytes = result.map_or([0; 128], |result| result.signal_info().to_bytes());
        // Only the fields that waitid(2) names are written; the rest of the structure stays as it was.
        const WRITTEN: usize = 28;
        UserSlice::new(info.offset_bytes::<u8>(0), WRITTEN)
            .write_from(bytes.get(..WRITTEN).unwrap_or_default())?;
    }
    Ok(0)
}

/// pidfd_open(2). Errors: `EINVAL`, `ESRCH`, `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn pidfd_open(context: &mut Context<'_>, pid: i32, flags: u32) -> Result<usize> {
    task::pidfd::open(context.task, pid, flags).map(|fd| fd as usize)
}

/// pidfd_getfd(2). Errors: `EBADF`, `EINVAL`, `EMFILE`, `EPERM`, `ESRCH`.
pub fn pidfd_getfd(context: &mut Context<'_>, pidfd: Fd, fd: Fd, flags: u32) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    task::pidfd::getfd(context.task, pidfd.0, fd.0).map(|fd| fd as usize)
}

/// rseq(2). Errors: `EINVAL`, `EPERM`, `EBUSY`, `EFAULT`.
pub fn rseq(
    context: &mut Context<'_>,
    address: usize,
    len: u32,
    flags: u32,
    signature: u32,
) -> Result<usize> {
    task::rseq::register(context.task, address, len, flags, signature).map(|()| 0)
}
