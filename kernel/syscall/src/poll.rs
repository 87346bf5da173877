//! Waiting for many files: poll(2), ppoll(2), select(2), pselect6(2).
//!
//! The loop is `vfs::poll`; here are the arrays in user memory, the timeouts and the temporary signal masks.

use crate::decode::Context;
use crate::signal::read_set;
use crate::time::deadline_after;
use abi::errno::{Errno, Result};
use abi::poll::{PollEvents, Pollfd};
use abi::time::{NSEC_PER_SEC, Timespec, Timeval};
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::user::{UserPtr, UserSlice};
use task::limits::Resource;
use task::restart::RestartBlock;
use task::signal::{SignalSet, calls};
use vfs::poll::{poll_file, poll_files};
use vfs::{File, PollTable};

/// poll(2): a timeout in milliseconds, negative for none. Errors: `EFAULT`, `EINTR`, `EINVAL`, `ENOMEM`.
pub fn poll(context: &mut Context<'_>, array: UserPtr<Pollfd>, count: u32, timeout_ms: i32) -> Result<usize> {
    let timeout = u64::try_from(timeout_ms).ok().map(|ms| ms * 1_000_000);
    let deadline = timeout.map(|ns| machine::time::now_ns().saturating_add(ns));
    restart_poll(context, array, count, deadline)
}

/// poll(2) with a deadline; also how an interrupted one goes on.
pub fn restart_poll(
    context: &mut Context<'_>,
    array: UserPtr<Pollfd>,
    count: u32,
    deadline_ns: Option<u64>,
) -> Result<usize> {
    poll_array(context, array, count, deadline_ns).map_err(|error| match error {
        Errno::EINTR => {
            let descriptors = array.address();
            context.task.set_restart(RestartBlock::Poll { descriptors, count, deadline_ns });
            Errno::ERESTART_RESTARTBLOCK
        }
        other => other,
    })
}

/// ppoll(2): the time left is written back. Errors: as [`poll`].
pub fn ppoll(
    context: &mut Context<'_>,
    array: UserPtr<Pollfd>,
    count: u32,
    timeout: UserPtr<Timespec>,
    mask: UserPtr<u64>,
    size: usize,
) -> Result<usize> {
    let deadline = deadline_after(timeout)?;
    let mask = if mask.is_null() { None } else { read_set(mask, size)? };
    let result = with_mask(context, mask, |context| poll_array(context, array, count, deadline));
    write_back(timeout, deadline);
    result
}

/// Runs a wait with a temporary signal mask, which stays for the handler if a signal ended the wait (ppoll(2)).
pub fn with_mask(
    context: &mut Context<'_>,
    mask: Option<SignalSet>,
    wait: impl FnOnce(&mut Context<'_>) -> Result<usize>,
) -> Result<usize> {
    let Some(mask) = mask else {
        return wait(context).map_err(no_restart);
    };
    calls::set_temporary_mask(context.task, mask);
    let result = wait(context);
    if result != Err(Errno::EINTR) {
        calls::restore_mask(context.task);
    }
    result.map_err(no_restart)
}

/// A wait that a signal ended is started again only if no handler ran.
fn no_restart(error: Errno) -> Errno {
    if error == Errno::EINTR { Errno::ERESTARTNOHAND } else { error }
}

/// Tells the program how much of its timeout is left; that it cannot be told is no error (ppoll(2), "C library/kernel differences").
fn write_back(timeout: UserPtr<Timespec>, deadline: Option<u64>) {
    if let Some(deadline) = deadline {
        let left = deadline.saturating_sub(machine::time::now_ns());
        let _ = timeout.write_optional(&Timespec::from_nanoseconds(left));
    }
}

fn poll_array(
    context: &Context<'_>,
    array: UserPtr<Pollfd>,
    count: u32,
    deadline_ns: Option<u64>,
) -> Result<usize> {
    if u64::from(count) > context.task.process().limits().soft(Resource::OpenFiles) {
        return Err(Errno::EINVAL);
    }
    let slice = UserSlice::new(array, count as usize);
    let mut entries = slice.read_to_vec()?;
    let mut files: Vec<Option<Arc<File>>> = Vec::new();
    files.try_reserve_exact(entries.len()).map_err(|_| Errno::ENOMEM)?;
    files.extend(entries.iter().map(|entry| context.file_number(entry.fd).ok()));
    let ready = poll_files(deadline_ns, |table| {
        let mut ready = 0;
        for (entry, file) in entries.iter_mut().zip(&files) {
            entry.revents = look(entry, file.as_deref(), table).bits() as u16;
            ready += usize::from(entry.revents != 0);
        }
        Ok(ready)
    })?;
    for (index, entry) in entries.iter().enumerate() {
        array.element(index).offset_bytes::<u16>(6).write(&entry.revents)?;
    }
    Ok(ready)
}

/// One entry's events: none for a negative number, `NVAL` for one that is not open or a place only.
fn look(entry: &Pollfd, file: Option<&File>, table: &mut PollTable<'_>) -> PollEvents {
    match file {
        _ if entry.fd < 0 => PollEvents::empty(),
        None => PollEvents::NVAL,
        Some(file) if file.is_place() => PollEvents::NVAL,
        Some(file) => poll_file(file, PollEvents::from_bits_retain(u32::from(entry.events)), table),
    }
}

/// The three sets of select(2), as words.
struct Sets {
    asked: [Vec<u64>; 3],
    found: [Vec<u64>; 3],
}

/// What each set of select(2) waits for (select(2), "Correspondence between select() and poll() notifications").
fn meaning() -> [PollEvents; 3] {
    [
        PollEvents::READABLE | PollEvents::RDBAND | PollEvents::HUP | PollEvents::ERR,
        PollEvents::WRITABLE | PollEvents::WRBAND | PollEvents::ERR,
        PollEvents::PRI,
    ]
}

fn read_sets(count: usize, sets: [UserPtr<u64>; 3]) -> Result<Sets> {
    let words = count.div_ceil(64);
    let mut asked = [const { Vec::new() }; 3];
    for (asked, set) in asked.iter_mut().zip(sets) {
        *asked = match set.optional() {
            Some(set) => UserSlice::new(set, words).read_to_vec()?,
            None => zeros(words)?,
        };
        if let Some(last) = asked.last_mut().filter(|_| !count.is_multiple_of(64)) {
            *last &= (1 << (count % 64)) - 1;
        }
    }
    Ok(Sets { asked, found: [zeros(words)?, zeros(words)?, zeros(words)?] })
}

/// That many words. Errors: `ENOMEM`.
fn zeros(words: usize) -> Result<Vec<u64>> {
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(words).map_err(|_| Errno::ENOMEM)?;
    zeros.resize(words, 0);
    Ok(zeros)
}

impl Sets {
    fn wanted(&self, fd: usize) -> PollEvents {
        let bit = |words: &Vec<u64>| words.get(fd / 64).is_some_and(|word| word >> (fd % 64) & 1 != 0);
        let pairs = self.asked.iter().zip(meaning());
        pairs.filter(|(words, _)| bit(words)).fold(PollEvents::empty(), |all, (_, events)| all | events)
    }

    fn note(&mut self, fd: usize, events: PollEvents) -> usize {
        let mut count = 0;
        for ((found, asked), meant) in self.found.iter_mut().zip(&self.asked).zip(meaning()) {
            let asked = asked.get(fd / 64).is_some_and(|word| word >> (fd % 64) & 1 != 0);
            if asked
                && events.intersects(meant)
                && let Some(word) = found.get_mut(fd / 64)
            {
                *word |= 1 << (fd % 64);
                count += 1;
            }
        }
        count
    }
}

/// The common part of select(2) and pselect6(2).
fn select_sets(
    context: &Context<'_>,
    count: i32,
    pointers: [UserPtr<u64>; 3],
    deadline_ns: Option<u64>,
) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let limit = context.task.process().limits().soft(Resource::OpenFiles).max(1024) as usize;
    let count = count.min(limit);
    let mut sets = read_sets(count, pointers)?;
    let mut files: Vec<(usize, Arc<File>)> = Vec::new();
    for fd in 0..count {
        if !sets.wanted(fd).is_empty() {
            files.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            files.push((fd, context.file_number(fd as i32)?));
        }
    }
    let ready = poll_files(deadline_ns, |table| {
        let mut ready = 0;
        for (fd, file) in &files {
            let events = poll_file(file, sets.wanted(*fd), table);
            ready += sets.note(*fd, events);
        }
        Ok(ready)
    })?;
    for (found, pointer) in sets.found.iter().zip(pointers) {
        if !pointer.is_null() {
            UserSlice::new(pointer, found.len()).write_from(found)?;
        }
    }
    Ok(ready)
}

/// select(2): the time left is written back, as Linux does. Errors: `EBADF`, `EINTR`, `EINVAL`, `ENOMEM`, `EFAULT`.
pub fn select(
    context: &mut Context<'_>,
    count: i32,
    read: UserPtr<u64>,
    write: UserPtr<u64>,
    except: UserPtr<u64>,
    timeout: UserPtr<Timeval>,
) -> Result<usize> {
    let deadline = match timeout.optional().map(UserPtr::read).transpose()? {
        None => None,
        Some(Timeval { tv_sec, tv_usec }) => {
            // Unlike elsewhere, more than a second of microseconds is taken.
            let seconds = u64::try_from(tv_sec).map_err(|_| Errno::EINVAL)?;
            let microseconds = u64::try_from(tv_usec).map_err(|_| Errno::EINVAL)?;
            let ns = seconds.saturating_mul(NSEC_PER_SEC).saturating_add(microseconds.saturating_mul(1000));
            Some(machine::time::now_ns().saturating_add(ns))
        }
    };
    let result = select_sets(context, count, [read, write, except], deadline).map_err(no_restart);
    if let Some(deadline) = deadline {
        let left = deadline.saturating_sub(machine::time::now_ns());
        let _ = timeout.write_optional(&Timeval::from_nanoseconds(left));
    }
    result
}

/// pselect6(2): the last argument points to the mask's address and size. Errors: as [`select`].
pub fn pselect6(
    context: &mut Context<'_>,
    count: i32,
    read: UserPtr<u64>,
    write: UserPtr<u64>,
    except: UserPtr<u64>,
    timeout: UserPtr<Timespec>,
    mask: UserPtr<[u64; 2]>,
) -> Result<usize> {
    let deadline = deadline_after(timeout)?;
    let mask = match mask.optional().map(UserPtr::read).transpose()? {
        Some([address, size]) if address != 0 => read_set(UserPtr::new(address as usize), size as usize)?,
        _ => None,
    };
    let sets = [read, write, except];
    let result = with_mask(context, mask, |context| select_sets(context, count, sets, deadline));
    write_back(timeout, deadline);
    result
}
