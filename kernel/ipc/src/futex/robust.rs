//! Robust futexes: what is done for the locks that a thread still holds when it dies.
//!
//! The thread keeps a linked list of its locks in user memory and told the kernel where (set_robust_list(2)). At exit
//! the kernel walks it, marks each word that carries the thread's id with `FUTEX_OWNER_DIED`, and wakes one waiter.
//! Everything in the list is untrusted: the walk is bounded and gives up at the first fault.

use abi::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, ROBUST_LIST_LIMIT, RobustListHead};
use machine::user;
use mm::AddressSpace;

use super::{MATCH_ANY, Scope, Word, table};

/// A pointer in the list: bit 0 says that the lock inherits priorities.
#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    inherits: bool,
}

impl Entry {
    fn decode(pointer: u64) -> Self {
        Self { address: pointer & !1, inherits: pointer & 1 != 0 }
    }
}

/// Walks the robust list at `head` for the current thread, whose id user space knows as `tid`. With the dying thread's
/// address space still active.
pub fn release(space: &AddressSpace, head: usize, tid: u32) {
    let Ok(list) = user::read_value::<RobustListHead>(head) else { return };
    let pending = Entry::decode(list.list_op_pending);
    let mut entry = Entry::decode(list.list);
    for _ in 0..ROBUST_LIST_LIMIT {
        if entry.address == head as u64 {
            break;
        }
        // The next pointer is read first: the lock may be freed by another thread as soon as it is released.
        let next = user::read_value::<u64>(entry.address as usize);
        if entry.address != pending.address && !release_one(space, entry, list.futex_offset, tid, Pending::No)
        {
            return;
        }
        let Ok(next) = next else { return };
        entry = Entry::decode(next);
        sched::schedule_if_needed();
    }
    if pending.address != 0 {
        release_one(space, pending, list.futex_offset, tid, Pending::Yes);
    }
}

/// Whether the lock was just being taken or released.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    No,
    Yes,
}

/// Releases one lock, if the thread has it. `false`: the walk should stop.
fn release_one(space: &AddressSpace, entry: Entry, offset: i64, tid: u32, pending: Pending) -> bool {
    let address = entry.address.wrapping_add_signed(offset) as usize;
    let Ok(word) = Word::new(space, address, Scope::Shared) else { return false };
    let Ok(mut value) = user::read_u32_atomic(address) else { return false };
    loop {
        if pending == Pending::Yes && !entry.inherits && value == 0 {
            // Unlocked in user space, but died before the wake-up that it owed.
            wake_one(&word);
            return true;
        }
        if value & FUTEX_TID_MASK != tid {
            return true;
        }
        let new = value & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        match user::compare_exchange_u32(address, value, new) {
            Ok(seen) if seen == value => break,
            Ok(seen) => value = seen,
            Err(_) => return false,
        }
    }
    if !entry.inherits && value & FUTEX_WAITERS != 0 {
        wake_one(&word);
    }
    true
}

/// Wakes one waiter, whether it waits with or without `FUTEX_PRIVATE_FLAG`: for private memory the keys are equal.
fn wake_one(word: &Word<'_>) {
    if let Ok(key) = word.key() {
        // Who waits to be moved to a lock is not woken by this.
        let _ = table::wake(key, 1, MATCH_ANY);
    }
}
