//! Futexes with priority inheritance: `FUTEX_LOCK_PI`, `FUTEX_TRYLOCK_PI`, `FUTEX_UNLOCK_PI`.
//!
//! The word holds the owner's thread id, plus `FUTEX_WAITERS` when somebody sleeps. The kernel knows, for each word
//! that is waited for, who owns it and who waits. The owner runs with at least the priority of its most urgent
//! waiter; if it waits for another such lock itself, so does that one's owner, and so on. Unlocking hands the lock to
//! the most urgent waiter by writing its id into the word.
//!
//! One lock guards all of it: contention of priority-inheriting locks is rare, chains cross words, and this way the
//! chain is consistent. Thread ids come from `task` through [`PiThreads`]. An owner that dies leaves its locks to
//! their first waiters ([`release_owned`]), who find `FUTEX_OWNER_DIED` set.
//!
//! Locks: `STATE`, then whatever waking and boosting take.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::errno::{Errno, Result};
use abi::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};
use machine::sync::{Once, SpinLock, WakeReason};
use machine::user;
use mm::FutexKey;
use sched::{Priority, Thread};

use super::table::Waiter;
use super::{Word, touch_writable};

/// What `task` knows of thread ids.
pub trait PiThreads: Send + Sync {
    /// The current thread's id, as its user space knows it.
    fn current_id(&self) -> u32;
    /// The thread that the current one knows by this id. `None`: there is none, or it is exiting.
    fn find(&self, id: u32) -> Option<Arc<Thread>>;
}

static THREADS: Once<&'static dyn PiThreads> = Once::new();

/// Registers [`PiThreads`]; once. Without it the operations give `ENOSYS`.
pub fn register_threads(threads: &'static dyn PiThreads) -> bool {
    THREADS.set(threads).is_ok()
}

fn threads() -> Result<&'static dyn PiThreads> {
    THREADS.get().copied().ok_or(Errno::ENOSYS)
}

/// Longest chain of owners that is followed.
const CHAIN_LIMIT: usize = 1024;
/// The waiter got the lock, and the word says so already.
const GRANTED: u32 = 1;
/// The owner died: the waiter got the lock and must write the word itself.
const INHERITED: u32 = 2;

struct PiWaiter {
    waiter: Arc<Waiter>,
    id: u32,
}

/// A word that somebody waits for.
struct Contended {
    owner: Arc<Thread>,
    owner_id: u32,
    /// In order of arrival.
    waiters: Vec<PiWaiter>,
}

impl Contended {
    fn top_priority(&self) -> Priority {
        let priorities = self.waiters.iter().map(|entry| entry.waiter.thread().effective_priority());
        priorities.max().unwrap_or(Priority::FAIR)
    }

    /// Takes out the most urgent waiter, the first among equals.
    fn take_top(&mut self) -> Option<PiWaiter> {
        let top = self.top_priority();
        let index =
            self.waiters.iter().position(|entry| entry.waiter.thread().effective_priority() == top)?;
        Some(self.waiters.remove(index))
    }
}

type ThreadKey = usize;

fn thread_key(thread: &Arc<Thread>) -> ThreadKey {
    Arc::as_ptr(thread) as ThreadKey
}

struct State {
    contended: BTreeMap<FutexKey, Contended>,
    /// Which contended words a thread owns.
    owned: BTreeMap<(ThreadKey, FutexKey), ()>,
    /// Which word a thread waits for.
    blocked: BTreeMap<ThreadKey, FutexKey>,
}

static STATE: SpinLock<State> =
    SpinLock::new(State { contended: BTreeMap::new(), owned: BTreeMap::new(), blocked: BTreeMap::new() });

const LOWEST_KEY: FutexKey = FutexKey::Private { space: 0, address: 0 };

impl State {
    /// The contended words of a thread.
    fn words_of(&self, owner: &Arc<Thread>) -> impl Iterator<Item = FutexKey> + '_ {
        let owner = thread_key(owner);
        self.owned
            .range((owner, LOWEST_KEY)..)
            .map(|((thread, key), ())| (*thread, *key))
            .take_while(move |(thread, _)| *thread == owner)
            .map(|(_, key)| key)
    }

    /// Gives a thread the priority it inherits now, and what follows from that along the chain.
    fn propagate(&self, thread: &Arc<Thread>) {
        let mut thread = thread.clone();
        for _ in 0..CHAIN_LIMIT {
            let inherited = self
                .words_of(&thread)
                .filter_map(|key| self.contended.get(&key))
                .map(Contended::top_priority)
                .max();
            let before = thread.effective_priority();
            thread.boost(inherited.filter(|priority| *priority > Priority::FAIR));
            if thread.effective_priority() == before {
                return;
            }
            let next = self.blocked.get(&thread_key(&thread)).and_then(|key| self.contended.get(key));
            match next {
                Some(word) => thread = word.owner.clone(),
                None => return,
            }
        }
    }

    /// Whether `owner` waits, over any number of locks, for one that `thread` owns.
    fn would_deadlock(&self, owner: &Arc<Thread>, thread: &Arc<Thread>) -> bool {
        let mut owner = owner;
        for _ in 0..CHAIN_LIMIT {
            if Arc::ptr_eq(owner, thread) {
                return true;
            }
            let next = self.blocked.get(&thread_key(owner)).and_then(|key| self.contended.get(key));
            match next {
                Some(word) => owner = &word.owner,
                None => return false,
            }
        }
        true
    }

    /// Adds a waiter to a word that `owner` has.
    fn block(
        &mut self,
        key: FutexKey,
        owner: Arc<Thread>,
        owner_id: u32,
        waiter: &Arc<Waiter>,
        id: u32,
    ) -> Result<()> {
        let word = self.contended.entry(key).or_insert_with(|| Contended {
            owner: owner.clone(),
            owner_id,
            waiters: Vec::new(),
        });
        if word.owner_id != owner_id {
            return Err(Errno::EINVAL);
        }
        if word.waiters.try_reserve(1).is_err() {
            self.forget_if_free(key);
            return Err(Errno::ENOMEM);
        }
        word.waiters.push(PiWaiter { waiter: waiter.clone(), id });
        let owner = word.owner.clone();
        self.owned.insert((thread_key(&owner), key), ());
        self.blocked.insert(thread_key(waiter.thread()), key);
        self.propagate(&owner);
        Ok(())
    }

    /// Drops a word that nobody waits for any more.
    fn forget_if_free(&mut self, key: FutexKey) {
        let free = self.contended.get(&key).is_some_and(|word| word.waiters.is_empty());
        if free && let Some(word) = self.contended.remove(&key) {
            self.owned.remove(&(thread_key(&word.owner), key));
            self.propagate(&word.owner);
        }
    }

    /// A waiter gives up. `false`: it was given the lock already.
    fn give_up(&mut self, key: FutexKey, waiter: &Arc<Waiter>) -> bool {
        let Some(word) = self.contended.get_mut(&key) else { return false };
        let Some(index) = word.waiters.iter().position(|entry| Arc::ptr_eq(&entry.waiter, waiter)) else {
            return false;
        };
        word.waiters.remove(index);
        let owner = word.owner.clone();
        self.blocked.remove(&thread_key(waiter.thread()));
        self.forget_if_free(key);
        self.propagate(&owner);
        true
    }

    /// Makes the most urgent waiter the owner; the waiter, to be woken.
    fn hand_over(&mut self, key: FutexKey) -> Option<Arc<Waiter>> {
        let word = self.contended.get_mut(&key)?;
        let next = word.take_top()?;
        let old = core::mem::replace(&mut word.owner, next.waiter.thread().clone());
        word.owner_id = next.id;
        self.owned.remove(&(thread_key(&old), key));
        self.owned.insert((thread_key(next.waiter.thread()), key), ());
        self.blocked.remove(&thread_key(next.waiter.thread()));
        self.forget_if_free(key);
        self.propagate(&old);
        self.propagate(next.waiter.thread());
        Some(next.waiter)
    }
}

/// Whether to sleep when the lock is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// `FUTEX_LOCK_PI`.
    Wait,
    /// `FUTEX_TRYLOCK_PI`.
    Try,
}

/// What one look at the word under the lock led to.
enum Step {
    Locked,
    Queued,
    Retry,
    Fault,
}

/// Takes the lock.
///
/// # Errors
/// `EDEADLK`: the caller has it, or a circle of owners would form. `EAGAIN`: it is taken ([`Attempt::Try`]). `ESRCH`: its
/// owner does not exist. `EINVAL`: the word and the kernel disagree about the owner. `ETIMEDOUT`; `ERESTARTNOINTR`: a
/// signal. `EFAULT`, `ENOMEM`, `ENOSYS`.
pub fn lock(word: Word<'_>, attempt: Attempt, deadline_ns: Option<u64>) -> Result<()> {
    let threads = threads()?;
    let key = word.key()?;
    let waiter = Waiter::new(key);
    loop {
        let step = try_lock(&word, key, &waiter, attempt, threads)?;
        match step {
            Step::Locked => return Ok(()),
            Step::Queued => break,
            Step::Retry => {}
            Step::Fault => touch_writable(&word)?,
        }
    }
    let reason = waiter.sleep(deadline_ns);
    if reason != WakeReason::Woken && STATE.lock().give_up(key, &waiter) {
        return Err(if reason == WakeReason::TimedOut { Errno::ETIMEDOUT } else { Errno::ERESTARTNOINTR });
    }
    // The waker is about to say how, if it has not yet.
    let how = loop {
        match waiter.woken_with() {
            Some(how) => break how,
            None => drop(sched::park(None, machine::sync::WaitKind::Uninterruptible)),
        }
    };
    if how == INHERITED { take_inherited(&word, key, threads.current_id()) } else { Ok(()) }
}

fn try_lock(
    word: &Word<'_>,
    key: FutexKey,
    waiter: &Arc<Waiter>,
    attempt: Attempt,
    threads: &dyn PiThreads,
) -> Result<Step> {
    let own_id = threads.current_id();
    let Ok(value) = word.load() else { return Ok(Step::Fault) };
    let owner_id = value & FUTEX_TID_MASK;
    if owner_id == own_id {
        return Err(Errno::EDEADLK);
    }
    let owner = if owner_id == 0 { None } else { threads.find(owner_id) };
    let mut state = STATE.lock();
    if owner_id == 0 {
        let waiters = if state.contended.contains_key(&key) { FUTEX_WAITERS } else { 0 };
        let new = own_id | value & FUTEX_OWNER_DIED | waiters;
        return Ok(exchange(word, value, new, Step::Locked));
    }
    if attempt == Attempt::Try {
        return Err(Errno::EAGAIN);
    }
    let owner = owner.ok_or(Errno::ESRCH)?;
    if state.would_deadlock(&owner, waiter.thread()) {
        return Err(Errno::EDEADLK);
    }
    // The exchange also checks that the word did not change since it was read.
    match exchange(word, value, value | FUTEX_WAITERS, Step::Queued) {
        Step::Queued => {
            state.block(key, owner, owner_id, waiter, own_id)?;
            Ok(Step::Queued)
        }
        other => Ok(other),
    }
}

fn exchange(word: &Word<'_>, old: u32, new: u32, done: Step) -> Step {
    match user::compare_exchange_u32(word.address(), old, new) {
        Ok(seen) if seen == old => done,
        Ok(_) => Step::Retry,
        Err(_) => Step::Fault,
    }
}

/// The owner died and left the lock to the caller: writes that into the word.
fn take_inherited(word: &Word<'_>, key: FutexKey, own_id: u32) -> Result<()> {
    let waiters = if STATE.lock().contended.contains_key(&key) { FUTEX_WAITERS } else { 0 };
    user::fetch_update_u32(word.address(), |_| own_id | FUTEX_OWNER_DIED | waiters)
        .map(|_| ())
        .map_err(|_| Errno::EFAULT)
}

/// Releases the lock, to the most urgent waiter if there is one.
///
/// # Errors
/// `EPERM`: the caller does not have it. `EFAULT`, `ENOSYS`.
pub fn unlock(word: Word<'_>) -> Result<()> {
    let own_id = threads()?.current_id();
    let key = word.key()?;
    loop {
        let step = {
            let mut state = STATE.lock();
            match word.load() {
                Err(_) => Step::Fault,
                Ok(value) if value & FUTEX_TID_MASK != own_id => return Err(Errno::EPERM),
                Ok(value) => try_unlock(&mut state, &word, key, value, own_id),
            }
        };
        match step {
            Step::Locked | Step::Queued => return Ok(()),
            Step::Retry => {}
            Step::Fault => touch_writable(&word)?,
        }
    }
}

fn try_unlock(state: &mut State, word: &Word<'_>, key: FutexKey, value: u32, own_id: u32) -> Step {
    let next = state.contended.get(&key).filter(|known| known.owner_id == own_id).and_then(|known| {
        let top = known.top_priority();
        let heir = known.waiters.iter().find(|entry| entry.waiter.thread().effective_priority() == top)?;
        Some((heir.id, known.waiters.len() > 1))
    });
    let Some((id, more)) = next else { return exchange(word, value, 0, Step::Locked) };
    let new = id | if more { FUTEX_WAITERS } else { 0 };
    let step = exchange(word, value, new, Step::Locked);
    if matches!(step, Step::Locked)
        && let Some(waiter) = state.hand_over(key)
    {
        waiter.wake(GRANTED);
    }
    step
}

/// The current thread exits: what it owns goes to whoever waits for it.
pub fn release_owned() {
    let thread = sched::current_arc();
    loop {
        let mut state = STATE.lock();
        let key = state.words_of(&thread).next();
        let Some(key) = key else { return };
        match state.hand_over(key) {
            Some(waiter) => waiter.wake(INHERITED),
            None => state.forget_if_free(key),
        }
    }
}
