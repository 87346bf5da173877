//! What one real user has in use, for the limits that count per user (RLIMIT_NPROC, RLIMIT_SIGPENDING).
//!
//! [`UserAccount`] is shared by all tasks of the user; the table of accounts has one spinlock (leaf) and is asked
//! only when a task changes its real user id.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicUsize, Ordering};
use machine::sync::SpinLock;
use security::Kuid;

/// Counters of one user.
#[derive(Debug, Default)]
pub struct UserAccount {
    tasks: AtomicUsize,
    signals: AtomicUsize,
}

static ACCOUNTS: SpinLock<BTreeMap<u32, Weak<UserAccount>>> = SpinLock::new(BTreeMap::new());

impl UserAccount {
    /// The account of `user`, made when it is the first.
    pub fn of(user: Kuid) -> Arc<UserAccount> {
        let mut accounts = ACCOUNTS.lock();
        if let Some(account) = accounts.get(&user.0).and_then(Weak::upgrade) {
            return account;
        }
        accounts.retain(|_, account| account.strong_count() > 0);
        let account = Arc::new(UserAccount::default());
        accounts.insert(user.0, Arc::downgrade(&account));
        account
    }

    /// Threads and processes of the user.
    pub fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }

    /// Queued signals of the user.
    pub fn signals(&self) -> usize {
        self.signals.load(Ordering::Relaxed)
    }

    pub(crate) fn add_signals(&self, count: usize) {
        self.signals.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn remove_signals(&self, count: usize) {
        self.signals.fetch_sub(count, Ordering::Relaxed);
    }
}

/// One task's place in its user's count; given back when dropped.
#[derive(Debug)]
pub struct TaskCharge(Arc<UserAccount>);

impl TaskCharge {
    /// Counts one more task of `account`.
    pub fn new(account: Arc<UserAccount>) -> TaskCharge {
        account.tasks.fetch_add(1, Ordering::Relaxed);
        TaskCharge(account)
    }

    /// The account it counts in.
    pub fn account(&self) -> &Arc<UserAccount> {
        &self.0
    }
}

impl Drop for TaskCharge {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::Relaxed);
    }
}
