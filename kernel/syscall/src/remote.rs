//! Other processes' memory and kinship: process_vm_readv(2), process_vm_writev(2), process_madvise(2), process_mrelease(2),
//! kcmp(2).
//!
//! Who may look at whom is ptrace(2)'s rule, `task::pidfd::may_trace`. Bytes go through one page of kernel memory, between
//! `mm::AddressSpace::read_remote` and the caller's own buffers; no lock is held over both.

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::kcmp::{KCMP_FILE, KCMP_FILES, KCMP_FS, KCMP_IO, KCMP_SIGHAND, KCMP_SYSVSEM, KCMP_VM};
use abi::mman::{MADV_COLD, MADV_COLLAPSE, MADV_DONTNEED, MADV_PAGEOUT, MADV_WILLNEED};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;
use machine::PAGE_SIZE;
use machine::sync::Once;
use mm::io::{IoReader, IoWriter, UserReader, UserWriter};
use mm::user::{IOV_MAX, IoVec, UserBuffer, UserPtr, UserSlice};
use mm::{AddressSpace, RemoteAccess};
use security::Capability;
use task::{Process, Task};

/// The memory of the process that thread `pid` is of, for one who may trace it. Errors: `ESRCH`, `EPERM`.
fn memory_of(context: &Context<'_>, pid: i32) -> Result<Arc<AddressSpace>> {
    let target = if pid == 0 { return Err(Errno::ESRCH) } else { context.find_task(pid)? };
    task::pidfd::may_trace(context.task, &target)?;
    target.process().space().ok_or(Errno::ESRCH)
}

/// The pieces of the other process that a call names. Errors: `EINVAL` for too many or too long ones, `EFAULT`, `ENOMEM`.
fn pieces(vector: UserPtr<IoVec>, count: usize) -> Result<Vec<IoVec>> {
    if count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let pieces = UserSlice::new(vector, count).read_to_vec()?;
    if pieces.iter().any(|piece| piece.len > isize::MAX as usize) {
        return Err(Errno::EINVAL);
    }
    Ok(pieces)
}

/// Calls `copy` for each part of the pieces that lies in one page, until one is short: how many bytes were moved.
/// Errors: that of the first part if nothing was moved.
fn for_each_part(pieces: &[IoVec], mut copy: impl FnMut(usize, usize) -> Result<usize>) -> Result<usize> {
    let mut total = 0;
    for piece in pieces {
        let mut done = 0;
        while done < piece.len {
            let address = piece.address.wrapping_add(done);
            let wanted = (PAGE_SIZE - address % PAGE_SIZE).min(piece.len - done);
            match copy(address, wanted) {
                Ok(moved) => {
                    (done, total) = (done + moved, total + moved);
                    if moved < wanted {
                        return Ok(total);
                    }
                }
                Err(_) if total > 0 => return Ok(total),
                Err(error) => return Err(error),
            }
            if total > 0 && sched::current().signal_pending.load(core::sync::atomic::Ordering::Relaxed) {
                return Ok(total);
            }
        }
    }
    Ok(total)
}

/// process_vm_readv(2): the bytes moved. Errors: `EFAULT`, `EINVAL`, `ENOMEM`, `EPERM`, `ESRCH`.
pub fn process_vm_readv(
    context: &mut Context<'_>,
    pid: i32,
    local: UserPtr<IoVec>,
    local_count: usize,
    remote: UserPtr<IoVec>,
    remote_count: usize,
    flags: u64,
) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mut to = UserWriter(UserBuffer::from_iovec(local, local_count)?);
    if to.remaining() == 0 {
        return Ok(0);
    }
    let remote = pieces(remote, remote_count)?;
    let space = memory_of(context, pid)?;
    let mut page = page_buffer()?;
    for_each_part(&remote, |address, wanted| {
        let part = page.get_mut(..wanted.min(to.remaining())).unwrap_or_default();
        let read = space.read_remote(address, part, RemoteAccess::Checked)?;
        to.write_bytes(part.get(..read).unwrap_or_default())
    })
}

/// process_vm_writev(2): the bytes moved. Errors: as [`process_vm_readv`].
pub fn process_vm_writev(
    context: &mut Context<'_>,
    pid: i32,
    local: UserPtr<IoVec>,
    local_count: usize,
    remote: UserPtr<IoVec>,
    remote_count: usize,
    flags: u64,
) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mut from = UserReader(UserBuffer::from_iovec(local, local_count)?);
    if from.remaining() == 0 {
        return Ok(0);
    }
    let remote = pieces(remote, remote_count)?;
    let space = memory_of(context, pid)?;
    let mut page = page_buffer()?;
    for_each_part(&remote, |address, wanted| {
        let part = page.get_mut(..wanted.min(from.remaining())).unwrap_or_default();
        let read = from.read_bytes(part)?;
        space.write_remote(address, part.get(..read).unwrap_or_default(), RemoteAccess::Checked)
    })
}

fn page_buffer() -> Result<Vec<u8>> {
    let mut page = Vec::new();
    page.try_reserve_exact(PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
    page.resize(PAGE_SIZE, 0);
    Ok(page)
}

/// The process that a pidfd stands for. Errors: `EBADF`, `ESRCH`.
fn process_of(context: &Context<'_>, pidfd: Fd) -> Result<Arc<Process>> {
    task::pidfd::find(context.task, pidfd.0)?.process().ok_or(Errno::ESRCH)
}

/// process_madvise(2): the bytes advised about. Errors: `EBADF`, `EFAULT`, `EINVAL`, `ENOMEM`, `EPERM`, `ESRCH`.
pub fn process_madvise(
    context: &mut Context<'_>,
    pidfd: Fd,
    vector: UserPtr<IoVec>,
    count: usize,
    advice: i32,
    flags: u32,
) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let ranges = pieces(vector, count)?;
    let process = process_of(context, pidfd)?;
    let own = Arc::ptr_eq(&process, context.task.process());
    // Of another process only what does not change what it sees.
    if !own && !matches!(advice as u32, MADV_COLD | MADV_PAGEOUT | MADV_WILLNEED | MADV_COLLAPSE) {
        return Err(Errno::EINVAL);
    }
    let target = process.leader().ok_or(Errno::ESRCH)?;
    task::pidfd::may_trace(context.task, &target)?;
    if !own {
        context.require(Capability::SysNice)?;
    }
    let space = process.space().ok_or(Errno::ESRCH)?;
    let mut total = 0;
    for range in &ranges {
        match space.madvise(range.address, range.len, advice as u32) {
            Ok(()) => total += range.len,
            Err(_) if total > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// process_mrelease(2): frees the private memory of a process that is being killed, without waiting for its threads.
/// Errors: `EBADF`, `EINVAL` for flags and for a process that is not dying, `ESRCH` when its memory is gone.
pub fn process_mrelease(context: &mut Context<'_>, pidfd: Fd, flags: u32) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let process = process_of(context, pidfd)?;
    let space = process.space().ok_or(Errno::ESRCH)?;
    if process.group_exit().is_none() {
        return Err(Errno::EINVAL);
    }
    for (range, vma) in space.snapshot().iter() {
        if !vma.is_shared() {
            // What cannot be freed now is when the last thread ends.
            let _ = space.madvise(range.start, range.end - range.start, MADV_DONTNEED);
        }
    }
    Ok(0)
}

/// The thread that one number of kcmp(2) names. Errors: `ESRCH`, `EPERM`.
fn compared(context: &Context<'_>, pid: i32) -> Result<Arc<Task>> {
    let target = if pid == 0 { return Err(Errno::ESRCH) } else { context.find_task(pid)? };
    task::pidfd::may_trace(context.task, &target)?;
    Ok(target)
}

/// An order of addresses that does not tell them: the same for the life of the system.
fn order(first: usize, second: usize) -> usize {
    static SECRET: Once<[u64; 2]> = Once::new();
    let [mask, factor] = *SECRET.get_or_init(|| {
        let mut bytes = [0; 16];
        machine::random::fill(&mut bytes);
        let [low, high] = [0, 8].map(|at| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        });
        [low, high | 1]
    });
    let hidden = |address: usize| (address as u64 ^ mask).wrapping_mul(factor);
    match hidden(first).cmp(&hidden(second)) {
        Ordering::Equal => 0,
        Ordering::Less => 1,
        Ordering::Greater => 2,
    }
}

/// kcmp(2): 0 if both threads have the same of a kind, 1 and 2 for an order among those that differ. Errors: `EBADF`,
/// `EINVAL`, `EPERM`, `ESRCH`; `EOPNOTSUPP` for files in an epoll set.
pub fn kcmp(
    context: &mut Context<'_>,
    first: i32,
    second: i32,
    kind: u32,
    first_index: u64,
    second_index: u64,
) -> Result<usize> {
    let (first, second) = (compared(context, first)?, compared(context, second)?);
    fn place<T: ?Sized>(of: Option<Arc<T>>) -> usize {
        of.map_or(0, |shared| Arc::as_ptr(&shared).cast::<()>() as usize)
    }
    let file = |task: &Task, index: u64| {
        let fd = i32::try_from(index).map_err(|_| Errno::EBADF)?;
        task.files().ok_or(Errno::EBADF)?.get(fd).map(|file| place(Some(file)))
    };
    let both = |of: &dyn Fn(&Task) -> usize| order(of(&first), of(&second));
    Ok(match kind {
        KCMP_FILE => order(file(&first, first_index)?, file(&second, second_index)?),
        KCMP_VM => both(&|task| place(task.process().space())),
        KCMP_FILES => both(&|task| place(task.files())),
        KCMP_FS => both(&|task| place(task.fs())),
        KCMP_SIGHAND => both(&|task| place(Some(task.process().handlers()))),
        // Nobody has a context of input and output, or a list of semaphore undos: all have the same, none.
        KCMP_IO | KCMP_SYSVSEM => 0,
        abi::kcmp::KCMP_EPOLL_TFD => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    })
}
