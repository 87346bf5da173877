//! Fast user-space locks: futex(2), futex_waitv(2), and what an exiting thread owes to its robust list.
//!
//! A futex is a 32-bit word in user memory. Locking it without contention is done in user space; the kernel only
//! keeps, by *key*, the queue of those who wait. The key is the address in one address space (private), or the
//! place in the page cache behind a shared mapping ([`mm::FutexKey`]).
//!
//! * `table`: the queues. * `pi`: priority inheritance. * `robust`: exit.
//!
//! The word is read while the queue's lock is held, with preemption off, where a missing page cannot be brought in:
//! then the lock is released, the page is touched, and the operation starts again ([`touch`]).
//!
//! Errors are futex(2)'s. Interrupted waits give `ERESTARTSYS`; the caller, who knows the timeout, turns it into
//! `ERESTART_RESTARTBLOCK` where the rest of a relative timeout counts. Deadlines are of [`machine::time::now_ns`].

pub mod pi;
pub mod robust;
mod table;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::errno::{Errno, Result};
use abi::futex::{
    FUTEX_OP_ADD, FUTEX_OP_ANDN, FUTEX_OP_CMP_EQ, FUTEX_OP_CMP_GE, FUTEX_OP_CMP_GT, FUTEX_OP_CMP_LE,
    FUTEX_OP_CMP_LT, FUTEX_OP_CMP_NE, FUTEX_OP_OPARG_SHIFT, FUTEX_OP_OR, FUTEX_OP_SET, FUTEX_OP_XOR,
    FUTEX_WAITV_MAX,
};
use machine::user::{self, Fault};
use mm::{AddressSpace, FutexKey};
use sched::tree::Pile;

use table::Waiter;

/// Every waiter.
pub const MATCH_ANY: u32 = u32::MAX;

/// Whether a futex can be shared with other address spaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// `FUTEX_PRIVATE_FLAG`: threads of one process only; no look at the mapping.
    Private,
    /// Whoever has the memory mapped.
    Shared,
}

/// A futex word in the current address space.
#[derive(Clone, Copy)]
pub struct Word<'a> {
    space: &'a AddressSpace,
    address: usize,
    scope: Scope,
}

impl<'a> Word<'a> {
    /// The word at `address` of `space`, which must be the current one.
    ///
    /// # Errors
    /// `EINVAL`: not aligned.
    pub fn new(space: &'a AddressSpace, address: usize, scope: Scope) -> Result<Self> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        Ok(Self { space, address, scope })
    }

    /// Its address.
    pub fn address(&self) -> usize {
        self.address
    }

    /// # Errors
    /// `EFAULT`.
    fn key(&self) -> Result<FutexKey> {
        match self.scope {
            Scope::Private => self.space.private_futex_key(self.address),
            Scope::Shared => self.space.futex_key(self.address),
        }
    }

    fn load(&self) -> core::result::Result<u32, Fault> {
        user::read_u32_atomic(self.address)
    }

    /// Whether the word is as expected, for a check under a lock.
    fn expect(&self, expected: u32) -> core::result::Result<(), Option<Errno>> {
        match self.load() {
            Ok(value) if value == expected => Ok(()),
            Ok(_) => Err(Some(Errno::EAGAIN)),
            Err(Fault) => Err(None),
        }
    }
}

/// Brings the word's page in for reading.
///
/// # Errors
/// `EFAULT`.
fn touch(word: &Word<'_>) -> Result<()> {
    word.load().map(|_| ()).map_err(|Fault| Errno::EFAULT)
}

/// Brings the word's page in for writing, without changing it.
///
/// # Errors
/// `EFAULT`.
fn touch_writable(word: &Word<'_>) -> Result<()> {
    user::fetch_update_u32(word.address, |value| value).map(|_| ()).map_err(|Fault| Errno::EFAULT)
}

/// `FUTEX_WAIT`, `FUTEX_WAIT_BITSET`: sleeps if the word has the expected value, until woken.
///
/// # Errors
/// `EAGAIN`: another value. `EINVAL`: an empty bitset. `ETIMEDOUT`, `ERESTARTSYS`, `EFAULT`.
pub fn wait(word: Word<'_>, expected: u32, deadline_ns: Option<u64>, bitset: u32) -> Result<()> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let key = word.key()?;
    let waiter = Waiter::new(key);
    queue_waiter(&word, key, &waiter, expected, bitset)?;
    let reason = waiter.sleep(deadline_ns);
    table::conclude(&waiter, reason)
}

fn queue_waiter(
    word: &Word<'_>,
    key: FutexKey,
    waiter: &Arc<Waiter>,
    expected: u32,
    bitset: u32,
) -> Result<()> {
    let mut node = table::node_for(waiter, bitset);
    loop {
        match table::queue_if(key, node, || word.expect(expected)) {
            Ok(()) => return Ok(()),
            Err((_, Some(error))) => return Err(error),
            Err((back, None)) => node = back,
        }
        touch(word)?;
    }
}

/// `FUTEX_WAKE`, `FUTEX_WAKE_BITSET`: wakes up to `count` waiters (at least one, as Linux does); how many.
///
/// # Errors
/// `EINVAL`: an empty bitset. `EFAULT`.
pub fn wake(word: Word<'_>, count: usize, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let key = word.key()?;
    let _sync = sched::sync_wakes();
    table::wake(key, count.max(1), bitset)
}

/// `FUTEX_REQUEUE`, `FUTEX_CMP_REQUEUE`: wakes up to `wake_count` waiters of `from` and lets up to `requeue_count` more
/// wait at `to`; how many in all.
///
/// # Errors
/// `EAGAIN`: `from` has not the expected value. `EINVAL`: who waits there waits to be moved to a lock. `EFAULT`.
pub fn requeue(
    from: Word<'_>,
    to: Word<'_>,
    wake_count: usize,
    requeue_count: usize,
    expected: Option<u32>,
) -> Result<usize> {
    let (from_key, to_key) = (from.key()?, to.key()?);
    loop {
        let mut pair = table::lock_pair(&from_key, &to_key);
        match expected.map_or(Ok(()), |expected| from.expect(expected)) {
            Ok(()) => {}
            Err(Some(error)) => return Err(error),
            Err(None) => {
                drop(pair);
                touch(&from)?;
                continue;
            }
        }
        if pair.first().waits_for_lock(from_key) {
            return Err(Errno::EINVAL);
        }
        let mut woken = Pile::new();
        let mut moving = Pile::new();
        let mut number = pair.first().take(from_key, wake_count, MATCH_ANY, &mut woken);
        number += pair.first().take(from_key, requeue_count, MATCH_ANY, &mut moving);
        let mut moving = moving.reversed();
        while let Some(node) = moving.pop() {
            pair.second().insert(node, to_key);
        }
        drop(pair);
        table::wake_all(woken);
        return Ok(number);
    }
}

/// What `FUTEX_WAKE_OP` does to the second word, and what it then asks of the old value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct WakeOperation {
    operation: u32,
    argument: u32,
    comparison: u32,
    comparand: i32,
}

impl WakeOperation {
    /// # Errors
    /// `ENOSYS`: an unknown operation. (An unknown comparison is found when it is due: [`Self::holds`].)
    fn decode(encoded: u32) -> Result<Self> {
        let sign_extend = |value: u32| ((value << 20) as i32) >> 20;
        let operation = encoded >> 28 & 0xf;
        let mut argument = sign_extend(encoded >> 12 & 0xfff) as u32;
        if operation & FUTEX_OP_OPARG_SHIFT != 0 {
            argument = 1u32.wrapping_shl(argument);
        }
        let decoded = Self {
            operation: operation & !FUTEX_OP_OPARG_SHIFT,
            argument,
            comparison: encoded >> 24 & 0xf,
            comparand: sign_extend(encoded & 0xfff),
        };
        if decoded.operation > FUTEX_OP_XOR {
            return Err(Errno::ENOSYS);
        }
        Ok(decoded)
    }

    fn apply(&self, value: u32) -> u32 {
        match self.operation {
            FUTEX_OP_SET => self.argument,
            FUTEX_OP_ADD => value.wrapping_add(self.argument),
            FUTEX_OP_OR => value | self.argument,
            FUTEX_OP_ANDN => value & !self.argument,
            _ => value ^ self.argument,
        }
    }

    /// # Errors
    /// `ENOSYS`: an unknown comparison.
    fn holds(&self, old: u32) -> Result<bool> {
        let old = old as i32;
        Ok(match self.comparison {
            FUTEX_OP_CMP_EQ => old == self.comparand,
            FUTEX_OP_CMP_NE => old != self.comparand,
            FUTEX_OP_CMP_LT => old < self.comparand,
            FUTEX_OP_CMP_LE => old <= self.comparand,
            FUTEX_OP_CMP_GT => old > self.comparand,
            FUTEX_OP_CMP_GE => old >= self.comparand,
            _ => return Err(Errno::ENOSYS),
        })
    }
}

/// `FUTEX_WAKE_OP`: changes `second`, wakes up to `first_count` at `first`, and up to `second_count` at `second` if its
/// old value compares as `encoded` says; how many in all.
///
/// # Errors
/// `ENOSYS`: an unknown operation; or an unknown comparison, after the word was changed, as on Linux. `EFAULT`.
pub fn wake_op(
    first: Word<'_>,
    second: Word<'_>,
    first_count: usize,
    second_count: usize,
    encoded: u32,
) -> Result<usize> {
    let operation = WakeOperation::decode(encoded)?;
    let (first_key, second_key) = (first.key()?, second.key()?);
    loop {
        let mut pair = table::lock_pair(&first_key, &second_key);
        let Ok(old) = user::fetch_update_u32(second.address, |value| operation.apply(value)) else {
            drop(pair);
            touch_writable(&second)?;
            continue;
        };
        let also_second = operation.holds(old)?;
        if pair.first().waits_for_lock(first_key) || also_second && pair.second().waits_for_lock(second_key) {
            return Err(Errno::EINVAL);
        }
        let mut woken = Pile::new();
        let mut number = pair.first().take(first_key, first_count.max(1), MATCH_ANY, &mut woken);
        if also_second {
            number += pair.second().take(second_key, second_count.max(1), MATCH_ANY, &mut woken);
        }
        drop(pair);
        table::wake_all(woken);
        return Ok(number);
    }
}

/// futex_waitv(2): sleeps until one of the words is woken; which one.
///
/// # Errors
/// `EAGAIN`: one has not the value expected. `EINVAL`: none, or more than 128. `ETIMEDOUT`, `ERESTARTSYS`, `EFAULT`,
/// `ENOMEM`.
pub fn wait_any(words: &[(Word<'_>, u32)], deadline_ns: Option<u64>) -> Result<usize> {
    if words.is_empty() || words.len() > FUTEX_WAITV_MAX as usize {
        return Err(Errno::EINVAL);
    }
    let mut waiters = Vec::new();
    waiters.try_reserve_exact(words.len()).map_err(|_| Errno::ENOMEM)?;
    let queued = queue_all(words, &mut waiters);
    let reason = match queued {
        Ok(()) => sleep_any(&waiters, deadline_ns),
        Err(_) => machine::sync::WakeReason::Woken,
    };
    let mut woken = None;
    for (index, waiter) in waiters.iter().enumerate() {
        if !table::unqueue(waiter) && woken.is_none() {
            woken = Some(index);
        }
    }
    match (woken, queued, reason) {
        (Some(index), ..) => Ok(index),
        (None, Err(error), _) => Err(error),
        (None, _, machine::sync::WakeReason::TimedOut) => Err(Errno::ETIMEDOUT),
        (None, ..) => Err(Errno::ERESTARTSYS),
    }
}

fn queue_all(words: &[(Word<'_>, u32)], waiters: &mut Vec<Arc<Waiter>>) -> Result<()> {
    for (word, expected) in words {
        let key = word.key()?;
        let waiter = Waiter::new(key);
        queue_waiter(word, key, &waiter, *expected, MATCH_ANY)?;
        waiters.push(waiter);
    }
    Ok(())
}

fn sleep_any(waiters: &[Arc<Waiter>], deadline_ns: Option<u64>) -> machine::sync::WakeReason {
    use machine::sync::{WaitKind, WakeReason};
    loop {
        if waiters.iter().any(|waiter| waiter.woken_with().is_some()) {
            return WakeReason::Woken;
        }
        match sched::park(deadline_ns, WaitKind::Interruptible) {
            WakeReason::Woken => core::sync::atomic::fence(Ordering::Acquire),
            reason => return reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(operation: u32, comparison: u32, argument: u32, comparand: u32) -> u32 {
        operation << 28 | comparison << 24 | (argument & 0xfff) << 12 | comparand & 0xfff
    }

    #[test]
    fn wake_operations() {
        let decode = |operation, argument| WakeOperation::decode(encode(operation, 0, argument, 0)).unwrap();
        assert_eq!(decode(FUTEX_OP_SET, 7).apply(1), 7);
        assert_eq!(decode(FUTEX_OP_ADD, 0xfff).apply(1), 0, "the argument is signed");
        assert_eq!(decode(FUTEX_OP_OR, 6).apply(1), 7);
        assert_eq!(decode(FUTEX_OP_ANDN, 3).apply(7), 4);
        assert_eq!(decode(FUTEX_OP_XOR, 5).apply(4), 1);
        assert_eq!(decode(FUTEX_OP_SET | FUTEX_OP_OPARG_SHIFT, 4).apply(0), 16);
        assert_eq!(WakeOperation::decode(encode(5, 0, 0, 0)), Err(Errno::ENOSYS));
    }

    #[test]
    fn wake_comparisons() {
        let holds = |comparison, comparand, old: i32| {
            WakeOperation::decode(encode(0, comparison, 0, comparand)).unwrap().holds(old as u32).unwrap()
        };
        assert!(holds(FUTEX_OP_CMP_EQ, 5, 5) && !holds(FUTEX_OP_CMP_EQ, 5, 6));
        assert!(holds(FUTEX_OP_CMP_NE, 5, 6));
        assert!(holds(FUTEX_OP_CMP_LT, 0, -1) && !holds(FUTEX_OP_CMP_LT, 0, 0));
        assert!(holds(FUTEX_OP_CMP_LE, 0xfff, -1));
        assert!(holds(FUTEX_OP_CMP_GT, 0xfff, 0) && holds(FUTEX_OP_CMP_GE, 3, 3));
        let unknown = WakeOperation::decode(encode(0, 6, 0, 0)).unwrap();
        assert_eq!(unknown.holds(0), Err(Errno::ENOSYS));
    }
}
