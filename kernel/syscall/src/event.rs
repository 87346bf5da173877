//! Descriptors that are made from nothing: pipe(2), eventfd(2), timerfd_create(2), signalfd(2), epoll_create(2).
//!
//! Decoding; the objects are in crate `ipc`.

use crate::decode::{Context, Fd};
use crate::poll::with_mask;
use crate::signal::read_set;
use crate::time::deadline_after;
use crate::time::machine_ns;
use abi::epoll::{EPOLL_CLOEXEC, EPOLL_CTL_DEL, EpollEvent};
use abi::errno::{Errno, Result};
use abi::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE};
use abi::fcntl::{O_CLOEXEC, O_DIRECT, O_NONBLOCK, OpenFlags};
use abi::signalfd::{SFD_CLOEXEC, SFD_NONBLOCK};
use abi::time::{CLOCK_BOOTTIME_ALARM, CLOCK_REALTIME_ALARM, Itimerspec, Timespec};
use abi::timerfd::{TFD_CLOEXEC, TFD_NONBLOCK, TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET};
use alloc::sync::Arc;
use ipc::epoll::{Control, Epoll};
use ipc::eventfd::{EventFd, Reading};
use ipc::signalfd::SignalFd;
use ipc::timerfd::{Clock, Setting, Start, TimerFd};
use mm::user::UserPtr;
use security::Capability;
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
    // So that it can be opened once more, through /proc/PID/fd.
    place.inode()?.attached(|| reader.pipe().clone());
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

/// signalfd(2). Errors: as [`signalfd4`].
pub fn signalfd(context: &mut Context<'_>, fd: Fd, mask: UserPtr<u64>, size: usize) -> Result<usize> {
    signalfd4(context, fd, mask, size, 0)
}

/// signalfd4(2): a new descriptor if `fd` is -1, else another mask for that one.
///
/// Errors: `EINVAL` (flags, size, not a signalfd), `EBADF`, `EFAULT`, `EMFILE`, `ENOMEM`.
pub fn signalfd4(
    context: &mut Context<'_>,
    fd: Fd,
    mask: UserPtr<u64>,
    size: usize,
    flags: u32,
) -> Result<usize> {
    if flags & !(SFD_CLOEXEC | SFD_NONBLOCK) != 0 || size != size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    let mask = mask.read()?;
    if fd.0 != -1 {
        let file = context.file(fd)?;
        file.operations_as::<SignalFd>().ok_or(Errno::EINVAL)?.set_mask(mask);
        return Ok(fd.0 as usize);
    }
    let file =
        anonymous::new_file("signalfd", SignalFd::new(mask)?, status_flags(flags), &context.credentials())?;
    context.install(file, close_on_exec(flags))
}

/// timerfd_create(2). Errors: `EINVAL`, `EPERM` (alarm clocks), `EMFILE`, `ENOMEM`.
pub fn timerfd_create(context: &mut Context<'_>, clock: i32, flags: u32) -> Result<usize> {
    if flags & !(TFD_CLOEXEC | TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let alarm = clock as u32 == CLOCK_REALTIME_ALARM || clock as u32 == CLOCK_BOOTTIME_ALARM;
    let clock = Clock::from_linux(clock)?;
    if alarm {
        context.require_global(Capability::WakeAlarm)?;
    }
    let file =
        anonymous::new_file("timerfd", TimerFd::new(clock)?, status_flags(flags), &context.credentials())?;
    context.install(file, close_on_exec(flags))
}

fn to_itimerspec(setting: Setting) -> Itimerspec {
    Itimerspec {
        it_interval: Timespec::from_nanoseconds(setting.interval_ns),
        it_value: Timespec::from_nanoseconds(setting.value_ns),
    }
}

/// timerfd_settime(2). Errors: `EINVAL` (flags, time, not a timer), `EBADF`, `EFAULT`, `ECANCELED`.
pub fn timerfd_settime(
    context: &mut Context<'_>,
    fd: Fd,
    flags: u32,
    new: UserPtr<Itimerspec>,
    old: UserPtr<Itimerspec>,
) -> Result<usize> {
    let start = match (flags & TFD_TIMER_ABSTIME != 0, flags & TFD_TIMER_CANCEL_ON_SET != 0) {
        _ if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 => return Err(Errno::EINVAL),
        (true, true) => Start::AbsoluteCancelOnSet,
        (true, false) => Start::Absolute,
        (false, _) => Start::Relative,
    };
    let new = new.read()?;
    let mut setting =
        Setting { value_ns: new.it_value.to_nanoseconds()?, interval_ns: new.it_interval.to_nanoseconds()? };
    let file = context.file(fd)?;
    let timer = file.operations_as::<TimerFd>().ok_or(Errno::EINVAL)?;
    if setting.value_ns != 0 && !matches!(start, Start::Relative) {
        // 0 would stop it; what is over fires at once.
        setting.value_ns = machine_ns(context, timer.clock_number(), setting.value_ns)?.max(1);
    }
    let before = timer.set(setting, start)?;
    old.write_optional(&to_itimerspec(before))?;
    Ok(0)
}

/// timerfd_gettime(2). Errors: `EINVAL` (not a timer), `EBADF`, `EFAULT`.
pub fn timerfd_gettime(context: &mut Context<'_>, fd: Fd, value: UserPtr<Itimerspec>) -> Result<usize> {
    let file = context.file(fd)?;
    let setting = file.operations_as::<TimerFd>().ok_or(Errno::EINVAL)?.setting();
    value.write(&to_itimerspec(setting))?;
    Ok(0)
}

/// epoll_create(2): the size only has to be positive. Errors: `EINVAL`, `EMFILE`, `ENOMEM`.
pub fn epoll_create(context: &mut Context<'_>, size: i32) -> Result<usize> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    epoll_create1(context, 0)
}

/// epoll_create1(2). Errors: `EINVAL`, `EMFILE`, `ENOMEM`.
pub fn epoll_create1(context: &mut Context<'_>, flags: u32) -> Result<usize> {
    if flags & !EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let credentials = context.credentials();
    let epoll = Epoll::new(credentials.ruid.0);
    let file = anonymous::new_file("eventpoll", epoll, OpenFlags::RDWR, &credentials)?;
    context.install(file, close_on_exec(flags))
}

/// epoll_ctl(2). Errors: `EBADF`, `EEXIST`, `EINVAL`, `ELOOP`, `ENOENT`, `ENOMEM`, `ENOSPC`, `EPERM`, `EFAULT`.
pub fn epoll_ctl(
    context: &mut Context<'_>,
    epoll: Fd,
    operation: i32,
    fd: Fd,
    event: UserPtr<EpollEvent>,
) -> Result<usize> {
    // Linux reads the event and looks both files up before it looks at the operation.
    let event = if operation == EPOLL_CTL_DEL as i32 { EpollEvent::default() } else { event.read()? };
    let file = context.file(epoll)?;
    let target = context.file(fd)?;
    if !target.operations().can_poll() {
        return Err(Errno::EPERM);
    }
    let epoll = file.operations_as::<Epoll>().ok_or(Errno::EINVAL)?;
    if Arc::ptr_eq(&file, &target) {
        return Err(Errno::EINVAL);
    }
    epoll.control(Control::from_linux(operation)?, fd.0, &target, event)?;
    Ok(0)
}

/// The most events one wait may ask for (epoll_wait(2)): their array must fit an `int`.
const EVENTS_MAX: i32 = i32::MAX / size_of::<EpollEvent>() as i32;

fn wait_for_events(
    context: &Context<'_>,
    epoll: Fd,
    events: UserPtr<EpollEvent>,
    limit: i32,
    deadline_ns: Option<u64>,
) -> Result<usize> {
    if limit <= 0 || limit > EVENTS_MAX {
        return Err(Errno::EINVAL);
    }
    let file = context.file(epoll)?;
    let epoll = file.operations_as::<Epoll>().ok_or(Errno::EINVAL)?;
    let mut index = 0;
    epoll.wait(limit as usize, deadline_ns, |event| {
        events.element(index).write(&event)?;
        index += 1;
        Ok(())
    })
}

/// A timeout in milliseconds, negative for none, as a deadline.
fn deadline_of(timeout_ms: i32) -> Option<u64> {
    let timeout_ns = u64::try_from(timeout_ms).ok()? * 1_000_000;
    Some(machine::time::now_ns().saturating_add(timeout_ns))
}

/// epoll_wait(2). Errors: `EBADF`, `EFAULT`, `EINTR`, `EINVAL`.
pub fn epoll_wait(
    context: &mut Context<'_>,
    epoll: Fd,
    events: UserPtr<EpollEvent>,
    limit: i32,
    timeout_ms: i32,
) -> Result<usize> {
    wait_for_events(context, epoll, events, limit, deadline_of(timeout_ms))
}

/// epoll_pwait(2): with a signal mask for the time of waiting. Errors: as [`epoll_wait`].
pub fn epoll_pwait(
    context: &mut Context<'_>,
    epoll: Fd,
    events: UserPtr<EpollEvent>,
    limit: i32,
    timeout_ms: i32,
    mask: UserPtr<u64>,
    size: usize,
) -> Result<usize> {
    wait_with_mask(context, epoll, events, limit, deadline_of(timeout_ms), mask, size)
}

/// epoll_pwait2(2): the timeout is a `struct timespec`. Errors: as [`epoll_wait`].
pub fn epoll_pwait2(
    context: &mut Context<'_>,
    epoll: Fd,
    events: UserPtr<EpollEvent>,
    limit: i32,
    timeout: UserPtr<Timespec>,
    mask: UserPtr<u64>,
    size: usize,
) -> Result<usize> {
    let deadline_ns = deadline_after(timeout)?;
    wait_with_mask(context, epoll, events, limit, deadline_ns, mask, size)
}

fn wait_with_mask(
    context: &mut Context<'_>,
    epoll: Fd,
    events: UserPtr<EpollEvent>,
    limit: i32,
    deadline_ns: Option<u64>,
    mask: UserPtr<u64>,
    size: usize,
) -> Result<usize> {
    let mask = if mask.is_null() { None } else { read_set(mask, size)? };
    if mask.is_none() {
        return wait_for_events(context, epoll, events, limit, deadline_ns);
    }
    with_mask(context, mask, |context| wait_for_events(context, epoll, events, limit, deadline_ns))
}
