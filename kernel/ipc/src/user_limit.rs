//! Limits on what a user may have in the kernel through descriptors: watches of inotify and epoll.
//!
//! Key type: [`UserLimit`]: a setting that `/proc/sys/fs` shows, and what each user has of it. Locks: the counts' spinlock, a leaf.

use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicUsize, Ordering};
use machine::sync::SpinLock;

/// How many of something one user may have.
pub struct UserLimit {
    /// The largest number: not set, the default counts.
    setting: AtomicUsize,
    default: fn() -> usize,
    error: Errno,
    used: SpinLock<BTreeMap<u32, usize>>,
}

impl UserLimit {
    /// A limit with this default; `error` is for those who reach it.
    pub(crate) const fn new(default: fn() -> usize, error: Errno) -> UserLimit {
        UserLimit {
            setting: AtomicUsize::new(usize::MAX),
            default,
            error,
            used: SpinLock::new(BTreeMap::new()),
        }
    }

    /// What it is.
    pub fn get(&self) -> usize {
        match self.setting.load(Ordering::Relaxed) {
            usize::MAX => (self.default)(),
            setting => setting,
        }
    }

    /// Sets it. Errors: `EINVAL` beyond an `int`, which it is on Linux.
    pub fn set(&self, value: usize) -> Result<()> {
        i32::try_from(value).map_err(|_| Errno::EINVAL)?;
        self.setting.store(value, Ordering::Relaxed);
        Ok(())
    }

    /// Counts one more for the user (a kernel's id). Errors: the limit's, if the user has that many.
    pub(crate) fn charge(&self, user: u32) -> Result<()> {
        let mut used = self.used.lock();
        let count = used.get(&user).copied().unwrap_or(0);
        if count >= self.get() {
            return Err(self.error);
        }
        used.insert(user, count + 1);
        Ok(())
    }

    /// Takes one back.
    pub(crate) fn give_back(&self, user: u32) {
        let mut used = self.used.lock();
        match used.get_mut(&user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(used.remove(&user)),
        }
    }
}

/// As many things of `bytes` bytes as fit in some percent of the memory.
pub(crate) fn share_of_memory(percent: u64, bytes: u64) -> usize {
    (mm::stats::meminfo().total * 1024 / 100 * percent / bytes) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_counted_apart() {
        let limit = UserLimit::new(|| 2, Errno::ENOSPC);
        limit.charge(1).unwrap();
        limit.charge(1).unwrap();
        assert_eq!(limit.charge(1), Err(Errno::ENOSPC));
        limit.charge(2).unwrap();
        limit.give_back(1);
        limit.charge(1).unwrap();
        limit.set(1).unwrap();
        assert_eq!(limit.charge(2), Err(Errno::ENOSPC));
        limit.give_back(2);
        assert_eq!(limit.used.lock().len(), 1);
        assert_eq!(limit.set(usize::MAX), Err(Errno::EINVAL));
    }
}
