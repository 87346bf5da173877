//! Descriptors that are made from nothing: pipe(2), eventfd(2), timerfd_create(2), signalfd(2).
//!
//! Decoding; the objects are in crate `ipc`.

use crate::decode::Context;
use abi::errno::{Errno, Result};
use abi::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE};
use abi::fcntl::{O_CLOEXEC, O_DIRECT, O_NONBLOCK, OpenFlags};
use ipc::eventfd::{EventFd, Reading};
use mm::user::UserPtr;
use vfs::descriptor::CloseOnExec;
use vfs::{File, anonymous};

/// pipe(2). Errors: `EFAULT`, `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn pipe(context: &mut Context<'_>, descriptors: UserPtr<[i32; 2]>) -> Result<usize> {
    pipe2(context, descriptors, 0)
}

/// pipe2(2). Errors: as [`pipe`], `EINVAL`.
pub fn pipe2(context: &mut Context<'_>, descriptors: UserPtr<[i32; 2]>, flags: u32) -> Result<usize> {
    if flags & !(O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let close_on_exec = close_on_exec(flags);
    let status = OpenFlags::from_bits_truncate(flags & (O_NONBLOCK | O_DIRECT));
    let credentials = context.credentials();
    let place = anonymous::new_pipe_place(&credentials)?;
    let (reader, writer) = ipc::pipe::create()?;
    let reader = File::new(place.clone(), reader, status, &credentials);
    let writer = File::new(place, writer, status | OpenFlags::WRONLY, &credentials);
    let files = context.task.open_files()?;
    let limit = context.descriptor_limit();
    let first = files.reserve(0, limit, close_on_exec)?;
    let second = files.reserve(0, limit, close_on_exec)?;
    descriptors.write(&[first.descriptor(), second.descriptor()])?;
    first.install(reader);
    second.install(writer);
    Ok(0)
}

fn close_on_exec(flags: u32) -> CloseOnExec {
    if flags & O_CLOEXEC != 0 { CloseOnExec::Yes } else { CloseOnExec::No }
}

/// The status flags of an event descriptor: it is read and written.
fn status_flags(flags: u32) -> OpenFlags {
    OpenFlags::RDWR | OpenFlags::from_bits_truncate(flags & O_NONBLOCK)
}

/// eventfd(2). Errors: `EMFILE`, `ENOMEM`.
pub fn eventfd(context: &mut Context<'_>, initial: u32) -> Result<usize> {
    eventfd2(context, initial, 0)
}

/// eventfd2(2). Errors: as [`eventfd`], `EINVAL`.
pub fn eventfd2(context: &mut Context<'_>, initial: u32, flags: u32) -> Result<usize> {
    if flags & !(EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let reading = if flags & EFD_SEMAPHORE != 0 { Reading::One } else { Reading::All };
    let event = EventFd::new(u64::from(initial), reading);
    let file = anonymous::new_file("eventfd", event, status_flags(flags), &context.credentials())?;
    context.install(file, close_on_exec(flags))
}
