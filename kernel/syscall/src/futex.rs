//! futex(2), futex_waitv(2), set_robust_list(2), get_robust_list(2).
//!
//! Decoding; the queues are in `ipc::futex`.

use crate::decode::Context;
use crate::time::deadline_after;
use abi::errno::{Errno, Result};
use abi::futex::{
    FUTEX_BITSET_MATCH_ANY, FUTEX_CLOCK_REALTIME, FUTEX_CMD_MASK, FUTEX_CMP_REQUEUE, FUTEX_CMP_REQUEUE_PI,
    FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_PRIVATE_FLAG, FUTEX_REQUEUE, FUTEX_TRYLOCK_PI, FUTEX_UNLOCK_PI,
    FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_WAITV_MAX, FUTEX_WAKE, FUTEX_WAKE_BITSET,
    FUTEX_WAKE_OP, FUTEX2_PRIVATE, FUTEX2_SIZE_MASK, FUTEX2_SIZE_U32, FutexWaitv, RobustListHead,
};
use abi::time::{CLOCK_MONOTONIC, CLOCK_REALTIME, Timespec};
use alloc::vec::Vec;
use ipc::futex::{self, Scope, Word, pi};
use mm::user::{UserPtr, UserSlice};
use task::restart::RestartBlock;

/// futex(2). Errors: `EAGAIN`, `EFAULT`, `EINTR`, `EINVAL`, `ENOSYS`, `ETIMEDOUT`, `ENOMEM`.
pub fn futex(
    context: &mut Context<'_>,
    address: usize,
    operation: u32,
    value: u32,
    timeout: usize,
    second: usize,
    value3: u32,
) -> Result<usize> {
    let scope = scope_of(operation & FUTEX_PRIVATE_FLAG != 0);
    let command = operation & FUTEX_CMD_MASK as u32;
    let realtime = operation & FUTEX_CLOCK_REALTIME != 0;
    let takes_clock =
        matches!(command, FUTEX_WAIT | FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2);
    if realtime && !takes_clock {
        return Err(Errno::ENOSYS);
    }
    let space = context.address_space()?;
    let word = Word::new(&space, address, scope)?;
    // The fourth argument is a pointer for the waiting commands and a count for the others.
    let count = |number: usize| usize::try_from(number as i32).map_err(|_| Errno::EINVAL);
    let wake_count = (value as i32).max(1) as usize;
    match command {
        FUTEX_WAIT => {
            let deadline = deadline_after(UserPtr::new(timeout))?;
            wait(context, address, operation, value, FUTEX_BITSET_MATCH_ANY, deadline)
        }
        // An absolute timeout needs no restart block: the same call again waits for the same moment.
        FUTEX_WAIT_BITSET => {
            let deadline = absolute_deadline(UserPtr::new(timeout), realtime)?;
            futex::wait(word, value, deadline, value3).map(|()| 0)
        }
        FUTEX_WAKE => futex::wake(word, wake_count, FUTEX_BITSET_MATCH_ANY),
        FUTEX_WAKE_BITSET => futex::wake(word, wake_count, value3),
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE => {
            let expected = (command == FUTEX_CMP_REQUEUE).then_some(value3);
            let target = Word::new(&space, second, scope)?;
            futex::requeue(word, target, count(value as usize)?, count(timeout)?, expected)
        }
        FUTEX_WAKE_OP => {
            let other = Word::new(&space, second, scope)?;
            futex::wake_op(word, other, wake_count, (timeout as i32).max(1) as usize, value3)
        }
        FUTEX_LOCK_PI => {
            let deadline = absolute_deadline(UserPtr::new(timeout), true)?;
            pi::lock(word, pi::Attempt::Wait, deadline).map(|()| 0)
        }
        FUTEX_LOCK_PI2 => {
            let deadline = absolute_deadline(UserPtr::new(timeout), realtime)?;
            pi::lock(word, pi::Attempt::Wait, deadline).map(|()| 0)
        }
        FUTEX_TRYLOCK_PI => pi::lock(word, pi::Attempt::Try, None).map(|()| 0),
        FUTEX_UNLOCK_PI => pi::unlock(word).map(|()| 0),
        FUTEX_WAIT_REQUEUE_PI => {
            let lock = Word::new(&space, second, scope)?;
            let deadline = absolute_deadline(UserPtr::new(timeout), realtime)?;
            pi::wait_requeue(word, lock, value, deadline).map(|()| 0)
        }
        FUTEX_CMP_REQUEUE_PI => {
            let lock = Word::new(&space, second, scope)?;
            if value != 1 {
                return Err(Errno::EINVAL);
            }
            pi::requeue(word, lock, value3, count(timeout)?)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn scope_of(private: bool) -> Scope {
    if private { Scope::Private } else { Scope::Shared }
}

/// An absolute timeout as a monotonic deadline. Errors: `EFAULT`, `EINVAL`.
fn absolute_deadline(timeout: UserPtr<Timespec>, realtime: bool) -> Result<Option<u64>> {
    let Some(timeout) = timeout.optional() else { return Ok(None) };
    let ns = timeout.read()?.to_nanoseconds()?;
    Ok(Some(if realtime { sched::clock::realtime_to_monotonic_ns(ns) } else { ns }))
}

/// FUTEX_WAIT: with a timeout, a stop and SIGCONT make it wait only for what is left.
fn wait(
    context: &mut Context<'_>,
    address: usize,
    operation: u32,
    value: u32,
    bitset: u32,
    deadline: Option<u64>,
) -> Result<usize> {
    let space = context.address_space()?;
    let word = Word::new(&space, address, scope_of(operation & FUTEX_PRIVATE_FLAG != 0))?;
    let result = futex::wait(word, value, deadline, bitset);
    match (result, deadline) {
        (Err(Errno::ERESTARTSYS), Some(deadline_ns)) => {
            context.task.set_restart(RestartBlock::Futex { address, value, deadline_ns, operation, bitset });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        (result, _) => result.map(|()| 0),
    }
}

/// Goes on with a FUTEX_WAIT that was interrupted; restart_syscall(2) comes here.
pub fn restart_wait(
    context: &mut Context<'_>,
    address: usize,
    value: u32,
    deadline_ns: u64,
    operation: u32,
    bitset: u32,
) -> Result<usize> {
    wait(context, address, operation, value, bitset, Some(deadline_ns))
}

/// futex_waitv(2): the index of the woken word. Errors: as [`futex()`].
pub fn futex_waitv(
    context: &mut Context<'_>,
    words: UserPtr<FutexWaitv>,
    count: u32,
    flags: u32,
    timeout: UserPtr<Timespec>,
    clock: i32,
) -> Result<usize> {
    if flags != 0 || count == 0 || count > FUTEX_WAITV_MAX || words.is_null() {
        return Err(Errno::EINVAL);
    }
    let deadline = match clock as u32 {
        CLOCK_MONOTONIC => absolute_deadline(timeout, false)?,
        CLOCK_REALTIME => absolute_deadline(timeout, true)?,
        _ if timeout.is_null() => None,
        _ => return Err(Errno::EINVAL),
    };
    let space = context.address_space()?;
    let mut decoded = Vec::new();
    for word in UserSlice::new(words, count as usize).read_to_vec()? {
        if word.flags & !(FUTEX2_PRIVATE | FUTEX2_SIZE_MASK) != 0
            || word.flags & FUTEX2_SIZE_MASK != FUTEX2_SIZE_U32
            || word.reserved != 0
        {
            return Err(Errno::EINVAL);
        }
        let scope = scope_of(word.flags & FUTEX2_PRIVATE != 0);
        decoded.push((Word::new(&space, word.uaddr as usize, scope)?, word.val as u32));
    }
    futex::wait_any(&decoded, deadline)
}

/// set_robust_list(2). Errors: `EINVAL` for a wrong size.
pub fn set_robust_list(context: &mut Context<'_>, head: usize, size: usize) -> Result<usize> {
    if size != size_of::<RobustListHead>() {
        return Err(Errno::EINVAL);
    }
    context.task.set_robust_list(head);
    Ok(0)
}

/// get_robust_list(2). Errors: `ESRCH`, `EPERM`, `EFAULT`.
pub fn get_robust_list(
    context: &mut Context<'_>,
    pid: i32,
    head: UserPtr<usize>,
    size: UserPtr<usize>,
) -> Result<usize> {
    let target = if pid == 0 { context.task.clone() } else { context.find_task(pid)? };
    let (own, other) = (context.credentials(), target.credentials());
    if own.ruid != other.ruid && !own.capable(&other.user_namespace, security::Capability::SysPtrace) {
        return Err(Errno::EPERM);
    }
    size.write(&size_of::<RobustListHead>())?;
    head.write(&target.robust_list())?;
    Ok(0)
}
