//! Descriptors: close(2), dup(2), fcntl(2), ioctl(2), flock(2), close_range(2).

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::fcntl::*;
use abi::ioctl::{FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX, FIONREAD};
use alloc::sync::Arc;
use mm::user::UserPtr;
use task::limits::Resource;
use vfs::descriptor::{CloseOnExec, CloseRange};
use vfs::file::SignalOwner;
use vfs::{File, FileKind};

/// close(2). Errors: `EBADF`, `EIO`, `EINTR`.
pub fn close(context: &mut Context<'_>, fd: Fd) -> Result<usize> {
    context.task.open_files()?.close(fd.0).map(|()| 0)
}

/// close_range(2). Errors: `EINVAL`, `ENOMEM`.
pub fn close_range(context: &mut Context<'_>, first: u32, last: u32, flags: u32) -> Result<usize> {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & UNSHARE != 0 {
        let own = context.task.open_files()?.fork()?;
        drop(context.task.replace_files(Some(own)));
    }
    let what = if flags & CLOEXEC != 0 { CloseRange::SetCloseOnExec } else { CloseRange::Close };
    context.task.open_files()?.close_range(first, last, what);
    Ok(0)
}

/// dup(2). Errors: `EBADF`, `EMFILE`, `ENOMEM`.
pub fn dup(context: &mut Context<'_>, fd: Fd) -> Result<usize> {
    duplicate(context, fd, 0, CloseOnExec::No)
}

fn duplicate(context: &Context<'_>, fd: Fd, least: u32, close_on_exec: CloseOnExec) -> Result<usize> {
    let limit = context.descriptor_limit();
    context.task.open_files()?.duplicate(fd.0, least, limit, close_on_exec).map(|fd| fd as usize)
}

/// dup2(2). Errors: `EBADF`, `EMFILE`, `ENOMEM`.
pub fn dup2(context: &mut Context<'_>, old: Fd, new: Fd) -> Result<usize> {
    if old == new {
        context.file(old)?;
        return Ok(new.0 as usize);
    }
    let limit = context.descriptor_limit();
    context.task.open_files()?.duplicate_to(old.0, new.0, limit, CloseOnExec::No).map(|fd| fd as usize)
}

/// dup3(2). Errors: `EBADF`, `EINVAL`, `EMFILE`, `ENOMEM`.
pub fn dup3(context: &mut Context<'_>, old: Fd, new: Fd, flags: u32) -> Result<usize> {
    if flags & !O_CLOEXEC != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    let close_on_exec = if flags & O_CLOEXEC != 0 { CloseOnExec::Yes } else { CloseOnExec::No };
    let limit = context.descriptor_limit();
    context.task.open_files()?.duplicate_to(old.0, new.0, limit, close_on_exec).map(|fd| fd as usize)
}

/// fcntl(2). Errors: `EBADF`, `EINVAL` for a command there is not; else as the command says.
pub fn fcntl(context: &mut Context<'_>, fd: Fd, command: u32, argument: u64) -> Result<usize> {
    let files = context.task.open_files()?;
    let file = files.get(fd.0)?;
    let on_place = matches!(command, F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL);
    if file.is_place() && !on_place {
        return Err(Errno::EBADF);
    }
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let least = u32::try_from(argument).map_err(|_| Errno::EINVAL)?;
            if u64::from(least) >= context.task.process().limits().soft(Resource::OpenFiles) {
                return Err(Errno::EINVAL);
            }
            let close = if command == F_DUPFD_CLOEXEC { CloseOnExec::Yes } else { CloseOnExec::No };
            duplicate(context, fd, least, close)
        }
        F_GETFD => Ok(if files.close_on_exec(fd.0)? == CloseOnExec::Yes { FD_CLOEXEC as usize } else { 0 }),
        F_SETFD => {
            let close = if argument as u32 & FD_CLOEXEC != 0 { CloseOnExec::Yes } else { CloseOnExec::No };
            context.task.open_files()?.set_close_on_exec(fd.0, close).map(|()| 0)
        }
        F_GETFL => Ok(file.flags().bits() as usize),
        F_SETFL => file.set_flags(OpenFlags::from_bits_truncate(argument as u32)).map(|()| 0),
        F_GETPIPE_SZ => Ok(pipe_of(&file)?.size()),
        F_SETPIPE_SZ => pipe_of(&file)?.set_size(argument as u32 as usize, &context.credentials()),
        F_GETOWN | F_SETOWN | F_GETOWN_EX | F_SETOWN_EX | F_GETSIG | F_SETSIG => {
            fcntl_owner(context, &file, command, argument)
        }
        F_GET_SEALS => Ok(seals_of(&file)?.get() as usize),
        F_ADD_SEALS => {
            let seals = seals_of(&file)?;
            file.check_writable().map_err(|_| Errno::EPERM)?;
            seals.add(file.inode()?, argument as u32).map(|()| 0)
        }
        _ => fcntl_locks(context, fd, &file, command, argument),
    }
}

fn pipe_of(file: &File) -> Result<&ipc::pipe::PipeEnd> {
    file.operations_as::<ipc::pipe::PipeEnd>().ok_or(Errno::EBADF)
}

/// Who is told by signals. Errors: `EFAULT`, `EINVAL`, `ESRCH`.
fn fcntl_owner(context: &Context<'_>, file: &File, command: u32, argument: u64) -> Result<usize> {
    match command {
        F_GETOWN => Ok(file.signal_owner().as_number() as isize as usize),
        F_SETOWN => set_owner(context, file, SignalOwner::from_number(argument as i32)?),
        F_GETOWN_EX => {
            let (kind, pid) = file.signal_owner().as_kind_and_id();
            UserPtr::new(argument as usize).write(&FOwnerEx { kind, pid }).map(|()| 0)
        }
        F_SETOWN_EX => {
            let FOwnerEx { kind, pid } = UserPtr::new(argument as usize).read()?;
            set_owner(context, file, SignalOwner::from_kind_and_id(kind, pid)?)
        }
        F_GETSIG => Ok(file.signal_owner().signal as usize),
        F_SETSIG => {
            let signal = u32::try_from(argument).ok().filter(|signal| *signal <= 64).ok_or(Errno::EINVAL)?;
            file.set_signal_owner(SignalOwner { signal, ..file.signal_owner() });
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `F_SETOWN`: who is told is noted, though no file here tells anybody yet. Errors: `ESRCH`.
fn set_owner(context: &Context<'_>, file: &File, owner: SignalOwner) -> Result<usize> {
    let namespace = context.task.process().namespace().clone();
    let exists = owner.id == 0 || namespace.find(owner.id).is_some();
    if !exists {
        return Err(Errno::ESRCH);
    }
    file.set_signal_owner(SignalOwner { signal: file.signal_owner().signal, ..owner });
    Ok(0)
}

fn seals_of(file: &File) -> Result<&vfs::Seals> {
    file.inode()?.operations().seals().ok_or(Errno::EINVAL)
}

/// The lock commands, and who is told of SIGIO. Errors: `EAGAIN`, `EBADF`, `EDEADLK`, `EINVAL`, `ENOLCK`, `EINTR`.
fn fcntl_locks(
    context: &Context<'_>,
    fd: Fd,
    file: &Arc<File>,
    command: u32,
    argument: u64,
) -> Result<usize> {
    let pointer = UserPtr::<Flock>::new(argument as usize);
    let owner = vfs::locks::Owner::Process {
        table: context.task.open_files()?.id(),
        process: context.task.process_id(),
    };
    match command {
        F_GETLK => vfs::locks::get_posix(file, owner, pointer.read()?).and_then(|lock| pointer.write(&lock)),
        F_SETLK | F_SETLKW => {
            let wait = if command == F_SETLKW { vfs::locks::Blocking::Yes } else { vfs::locks::Blocking::No };
            let lock = pointer.read()?;
            vfs::locks::set_posix(file, owner, lock, wait)?;
            // Another thread may have closed the descriptor meanwhile, before there was this lock to take away.
            if context.file(fd).is_ok_and(|now| Arc::ptr_eq(&now, file)) {
                return Ok(0);
            }
            let unlock = Flock { l_type: F_UNLCK as i16, ..lock };
            vfs::locks::set_posix(file, owner, unlock, vfs::locks::Blocking::No)?;
            return Err(Errno::EBADF);
        }
        F_OFD_GETLK => {
            let lock = vfs::locks::get_posix(file, vfs::locks::Owner::description(file), pointer.read()?)?;
            pointer.write(&lock)
        }
        F_OFD_SETLK | F_OFD_SETLKW => {
            let wait =
                if command == F_OFD_SETLKW { vfs::locks::Blocking::Yes } else { vfs::locks::Blocking::No };
            let lock = pointer.read()?;
            if lock.l_pid != 0 {
                return Err(Errno::EINVAL);
            }
            vfs::locks::set_posix(file, vfs::locks::Owner::description(file), lock, wait)
        }
        _ => return Err(Errno::EINVAL),
    }
    .map(|()| 0)
}

/// flock(2). Errors: `EBADF`, `EINTR`, `EINVAL`, `EWOULDBLOCK`.
pub fn flock(context: &mut Context<'_>, fd: Fd, operation: u32) -> Result<usize> {
    let file = context.file(fd)?;
    if file.is_place() {
        return Err(Errno::EBADF);
    }
    vfs::locks::flock(&file, operation).map(|()| 0)
}

/// ioctl(2): the few that concern every description, those of file systems, then the file's own. Errors: `EBADF`, `ENOTTY`, `EFAULT`, ….
pub fn ioctl(context: &mut Context<'_>, fd: Fd, command: u32, argument: usize) -> Result<usize> {
    let file = context.file(fd)?;
    if file.is_place() {
        return Err(Errno::EBADF);
    }
    let files = || context.task.open_files();
    match command {
        FIOCLEX => files()?.set_close_on_exec(fd.0, CloseOnExec::Yes).map(|()| 0),
        FIONCLEX => files()?.set_close_on_exec(fd.0, CloseOnExec::No).map(|()| 0),
        FIONBIO => {
            let on: i32 = UserPtr::new(argument).read()?;
            file.set_nonblocking(on != 0);
            Ok(0)
        }
        FIOASYNC => {
            let _on: i32 = UserPtr::new(argument).read()?;
            Err(Errno::ENOTTY)
        }
        FIONREAD if file.inode()?.kind() == FileKind::Regular && file.is_seekable() => {
            let left = file.inode()?.size().saturating_sub(file.position());
            UserPtr::new(argument).write(&i32::try_from(left).unwrap_or(i32::MAX))?;
            Ok(0)
        }
        _ => match vfs::control::ioctl(&file, command, argument, &context.credentials())? {
            Some(answer) => Ok(answer),
            None => file.operations().ioctl(&file, command, argument),
        },
    }
}
