//! Futexes with priority inheritance: `FUTEX_LOCK_PI`, `FUTEX_TRYLOCK_PI`, `FUTEX_UNLOCK_PI`, `FUTEX_WAIT_REQUEUE_PI`,
//! `FUTEX_CMP_REQUEUE_PI`.
//!
//! The word holds the owner's thread id, plus `FUTEX_WAITERS` when somebody sleeps. The kernel knows, for each word
//! that is waited for, who owns it and who waits. The owner runs with at least the priority of its most urgent
//! waiter; if it waits for another such lock itself, so does that one's owner, and so on. Unlocking hands the lock to
//! the most urgent waiter by writing its id into the word.
//!
//! What is known of a word is a [`Contended`] in a bucket by its key; what is known of a thread (the contended words it
//! owns, the one it waits for) is a [`Record`] in a shard by its address. Both are sorted, so that every step costs a
//! logarithm. A chain of owners is followed one link at a time ([`adjust_chain`]) with no lock held in between: each step
//! computes what holds from what it finds, so that steps that meet come to the same end. A waiter looks for a circle after
//! it has queued itself: of those who close one, the last surely sees it.
//!
//! Thread ids come from `task` through [`PiThreads`]. An owner that dies leaves its locks to their first waiters
//! ([`release_owned`]), who find `FUTEX_OWNER_DIED` set.
//!
//! Locks: a bucket of words, then a shard of records, then whatever boosting takes; never two of a kind. Threads are woken
//! and chains followed after all are released.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::cmp::Reverse;

use abi::errno::{Errno, Result};
use abi::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};
use machine::sync::{Once, SpinLock, SpinLockGuard, WakeReason};
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

/// A waiter's place among those of its word: 99 - real-time priority, then its turn.
type Urgency = (u8, u64);

fn patience_of(thread: &Thread) -> u8 {
    99 - thread.effective_priority().level().min(99)
}

struct PiWaiter {
    waiter: Arc<Waiter>,
    id: u32,
}

/// A word that somebody waits for.
struct Contended {
    owner: Arc<Thread>,
    owner_id: u32,
    /// The most urgent first. Never empty between two holds of the bucket's lock.
    waiters: BTreeMap<Urgency, PiWaiter>,
    next_turn: u64,
}

impl Contended {
    fn top_priority(&self) -> Option<Priority> {
        self.waiters.keys().next().map(|(patience, _)| Priority::realtime(99 - patience))
    }
}

/// What one thread has to do with contended words. There is one only while there is something in it.
#[derive(Default)]
struct Record {
    /// The contended words that it owns, each with the priority of its first waiter.
    owned: BTreeMap<FutexKey, Priority>,
    /// The same, sorted: what it inherits is the first.
    by_priority: BTreeSet<(Reverse<Priority>, FutexKey)>,
    /// The word that it waits for, and its place there.
    blocked: Option<(FutexKey, Urgency)>,
}

type Words = BTreeMap<FutexKey, Contended>;
type Records = BTreeMap<usize, Record>;

const SHARDS: usize = 64;
static WORDS: [SpinLock<Words>; SHARDS] = [const { SpinLock::new(Words::new()) }; SHARDS];
static RECORDS: [SpinLock<Records>; SHARDS] = [const { SpinLock::new(Records::new()) }; SHARDS];

fn shard<T>(all: &'static [SpinLock<T>; SHARDS], index: usize) -> SpinLockGuard<'static, T> {
    let [first, ..] = all;
    all.get(index % SHARDS).unwrap_or(first).lock()
}

fn words(key: &FutexKey) -> SpinLockGuard<'static, Words> {
    shard(&WORDS, super::table::index_of(key, SHARDS))
}

/// Calls with the thread's record, which is dropped if nothing is left in it.
fn with_record<R>(thread: &Arc<Thread>, call: impl FnOnce(&mut Record) -> R) -> R {
    let key = Arc::as_ptr(thread) as usize;
    // Threads are far bigger than a cache line.
    let mut records = shard(&RECORDS, key >> 8);
    let record = records.entry(key).or_default();
    let result = call(record);
    if record.owned.is_empty() && record.blocked.is_none() {
        records.remove(&key);
    }
    result
}

fn blocked_on(thread: &Arc<Thread>) -> Option<(FutexKey, Urgency)> {
    with_record(thread, |record| record.blocked)
}

/// A thread whose priority has changed and which waits for a word: the next link of a chain.
type Link = Option<(Arc<Thread>, FutexKey)>;

/// Notes the priority of the first waiter of a word that `owner` has (`None`: nobody waits any more) and gives the owner
/// what it inherits now. With the word's bucket locked.
fn set_inherited(owner: &Arc<Thread>, key: FutexKey, top: Option<Priority>) -> Link {
    with_record(owner, |record| {
        if let Some(old) = record.owned.remove(&key) {
            record.by_priority.remove(&(Reverse(old), key));
        }
        if let Some(top) = top {
            record.owned.insert(key, top);
            record.by_priority.insert((Reverse(top), key));
        }
        let inherited = record.by_priority.first().map(|(Reverse(priority), _)| *priority);
        let before = owner.effective_priority();
        owner.boost(inherited.filter(|priority| *priority > Priority::FAIR));
        let changed = owner.effective_priority() != before;
        record.blocked.filter(|_| changed).map(|(key, _)| (owner.clone(), key))
    })
}

/// Moves a thread to the place in its queue that its priority now asks for, tells the owner of that word, and so on.
fn adjust_chain(mut link: Link) {
    for _ in 0..CHAIN_LIMIT {
        let Some((thread, key)) = link else { return };
        link = adjust_one(&thread, key);
    }
}

fn adjust_one(thread: &Arc<Thread>, key: FutexKey) -> Link {
    let mut words = words(&key);
    let word = words.get_mut(&key)?;
    let moved = with_record(thread, |record| {
        let (_, old) = record.blocked.filter(|(blocked, _)| *blocked == key)?;
        let new = (patience_of(thread), old.1);
        record.blocked = Some((key, new));
        (new != old).then_some((old, new))
    });
    let (old, new) = moved?;
    let entry = word.waiters.remove(&old)?;
    word.waiters.insert(new, entry);
    set_inherited(&word.owner, key, word.top_priority())
}

/// The running or another thread's own priority was changed: whoever owns the lock it waits for must know.
pub fn priority_changed(thread: &Arc<Thread>) {
    let link = blocked_on(thread).map(|(key, _)| (thread.clone(), key));
    adjust_chain(link);
}

/// Whether `owner` waits, over any number of locks, for one that `thread` owns. Too long a chain counts as a circle.
fn is_circle(owner: &Arc<Thread>, thread: &Arc<Thread>) -> bool {
    let mut owner = owner.clone();
    for _ in 0..CHAIN_LIMIT {
        if Arc::ptr_eq(&owner, thread) {
            return true;
        }
        let Some((key, _)) = blocked_on(&owner) else { return false };
        let Some(next) = words(&key).get(&key).map(|word| word.owner.clone()) else { return false };
        owner = next;
    }
    true
}

/// Adds a waiter to a word that `owner` has.
///
/// # Errors
/// `EINVAL`: the kernel knows another owner.
fn enqueue(
    words: &mut Words,
    key: FutexKey,
    owner: &Arc<Thread>,
    owner_id: u32,
    waiter: PiWaiter,
) -> Result<Link> {
    let word = words.entry(key).or_insert_with(|| Contended {
        owner: owner.clone(),
        owner_id,
        waiters: BTreeMap::new(),
        next_turn: 0,
    });
    if word.owner_id != owner_id {
        return Err(Errno::EINVAL);
    }
    word.next_turn += 1;
    let thread = waiter.waiter.thread().clone();
    let urgency = (patience_of(&thread), word.next_turn);
    word.waiters.insert(urgency, waiter);
    with_record(&thread, |record| record.blocked = Some((key, urgency)));
    Ok(set_inherited(&word.owner, key, word.top_priority()))
}

/// A waiter gives up. `false`: it was given the lock already (or never waited).
fn give_up(key: FutexKey, waiter: &Arc<Waiter>) -> bool {
    let mut words = words(&key);
    let Some(word) = words.get_mut(&key) else { return false };
    let place = blocked_on(waiter.thread()).filter(|(blocked, _)| *blocked == key);
    let Some((_, urgency)) = place else { return false };
    if !word.waiters.get(&urgency).is_some_and(|entry| Arc::ptr_eq(&entry.waiter, waiter)) {
        return false;
    }
    word.waiters.remove(&urgency);
    with_record(waiter.thread(), |record| record.blocked = None);
    let link = set_inherited(&word.owner, key, word.top_priority());
    if word.waiters.is_empty() {
        words.remove(&key);
    }
    drop(words);
    adjust_chain(link);
    true
}

/// Makes the most urgent waiter the owner; the waiter, to be woken. Neither owner waits for anything, so no chain begins here.
fn hand_over(words: &mut Words, key: FutexKey) -> Option<Arc<Waiter>> {
    let word = words.get_mut(&key)?;
    let (_, next) = word.waiters.pop_first()?;
    let heir = next.waiter.thread().clone();
    with_record(&heir, |record| record.blocked = None);
    let old = core::mem::replace(&mut word.owner, heir.clone());
    word.owner_id = next.id;
    let top = word.top_priority();
    if top.is_none() {
        words.remove(&key);
    }
    set_inherited(&old, key, None);
    set_inherited(&heir, key, top);
    Some(next.waiter)
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
        let step = try_lock(&word, key, &waiter, threads.current_id(), attempt, threads)?;
        match step {
            Step::Locked => return Ok(()),
            Step::Queued => break,
            Step::Retry => {}
            Step::Fault => touch_writable(&word)?,
        }
    }
    let reason = waiter.sleep(deadline_ns);
    if reason != WakeReason::Woken && give_up(key, &waiter) {
        return Err(if reason == WakeReason::TimedOut { Errno::ETIMEDOUT } else { Errno::ERESTARTNOINTR });
    }
    take_over(&word, key, &waiter, threads.current_id())
}

/// The caller has been given the lock, or is about to be told so.
fn take_over(word: &Word<'_>, key: FutexKey, waiter: &Waiter, own_id: u32) -> Result<()> {
    let how = loop {
        match waiter.woken_with() {
            Some(how) => break how,
            None => {
                let _ = sched::park(None, machine::sync::WaitKind::Uninterruptible);
            }
        }
    };
    if how == INHERITED { take_inherited(word, key, own_id) } else { Ok(()) }
}

/// One attempt to take the lock for the thread of `waiter`, which user space knows as `own_id`, or to queue it.
fn try_lock(
    word: &Word<'_>,
    key: FutexKey,
    waiter: &Arc<Waiter>,
    own_id: u32,
    attempt: Attempt,
    threads: &dyn PiThreads,
) -> Result<Step> {
    let Ok(value) = word.load() else { return Ok(Step::Fault) };
    let owner_id = value & FUTEX_TID_MASK;
    if owner_id == own_id {
        return Err(Errno::EDEADLK);
    }
    let owner = if owner_id == 0 { None } else { threads.find(owner_id) };
    let mut words = words(&key);
    if owner_id == 0 {
        let waiters = if words.contains_key(&key) { FUTEX_WAITERS } else { 0 };
        let new = own_id | value & FUTEX_OWNER_DIED | waiters;
        return Ok(exchange(word, value, new, Step::Locked));
    }
    if attempt == Attempt::Try {
        return Err(Errno::EAGAIN);
    }
    let owner = owner.ok_or(Errno::ESRCH)?;
    // The exchange also checks that the word did not change since it was read.
    let step = exchange(word, value, value | FUTEX_WAITERS, Step::Queued);
    if !matches!(step, Step::Queued) {
        return Ok(step);
    }
    let entry = PiWaiter { waiter: waiter.clone(), id: own_id };
    let link = enqueue(&mut words, key, &owner, owner_id, entry)?;
    drop(words);
    adjust_chain(link);
    if is_circle(&owner, waiter.thread()) && give_up(key, waiter) {
        return Err(Errno::EDEADLK);
    }
    // An owner that ended before it could see the waiter hands nothing over: look again, and find that it is gone.
    if threads.find(owner_id).is_none() && give_up(key, waiter) {
        return Ok(Step::Retry);
    }
    Ok(Step::Queued)
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
    let waiters = if words(&key).contains_key(&key) { FUTEX_WAITERS } else { 0 };
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
        let mut words = words(&key);
        let (step, heir) = match word.load() {
            Err(_) => (Step::Fault, None),
            Ok(value) if value & FUTEX_TID_MASK != own_id => return Err(Errno::EPERM),
            Ok(value) => try_unlock(&mut words, &word, key, value, own_id),
        };
        drop(words);
        if let Some(heir) = heir {
            heir.wake(GRANTED);
        }
        match step {
            Step::Locked | Step::Queued => return Ok(()),
            Step::Retry => {}
            Step::Fault => touch_writable(&word)?,
        }
    }
}

/// One attempt to release the lock, with its bucket locked; whom to wake, if it went to somebody.
fn try_unlock(
    words: &mut Words,
    word: &Word<'_>,
    key: FutexKey,
    value: u32,
    own_id: u32,
) -> (Step, Option<Arc<Waiter>>) {
    let known = words.get(&key).filter(|known| known.owner_id == own_id);
    let next = known.and_then(|known| Some((known.waiters.values().next()?.id, known.waiters.len() > 1)));
    let Some((id, more)) = next else { return (exchange(word, value, 0, Step::Locked), None) };
    let new = id | if more { FUTEX_WAITERS } else { 0 };
    let step = exchange(word, value, new, Step::Locked);
    let heir = if matches!(step, Step::Locked) { hand_over(words, key) } else { None };
    (step, heir)
}

/// The current thread exits: what it owns goes to whoever waits for it.
pub fn release_owned() {
    let thread = sched::current_arc();
    while let Some(key) = with_record(&thread, |record| record.owned.keys().next().copied()) {
        let mut words = words(&key);
        // Those who waited may have given up meanwhile, and the word be somebody else's.
        let own = words.get(&key).is_some_and(|word| Arc::ptr_eq(&word.owner, &thread));
        let heir = if own { hand_over(&mut words, key) } else { None };
        if heir.is_none() {
            set_inherited(&thread, key, None);
        }
        drop(words);
        if let Some(heir) = heir {
            heir.wake(INHERITED);
        }
    }
}

/// `FUTEX_WAIT_REQUEUE_PI`: sleeps at `word` if it has the expected value, until `FUTEX_CMP_REQUEUE_PI` moves the caller to
/// `lock`, and then until it has that lock.
///
/// # Errors
/// `EINVAL`: the same word twice. `EAGAIN`: another value; or a signal after the move. `ETIMEDOUT`; `ERESTARTNOINTR`: a signal
/// before the move. `EFAULT`, `ENOSYS`.
pub fn wait_requeue(word: Word<'_>, lock: Word<'_>, expected: u32, deadline_ns: Option<u64>) -> Result<()> {
    /// How often to look again while a mover has the waiter in its hands.
    const IN_TRANSIT_NS: u64 = 1_000_000;
    let own_id = threads()?.current_id();
    let (key, lock_key) = (word.key()?, lock.key()?);
    if key == lock_key {
        return Err(Errno::EINVAL);
    }
    let waiter = Waiter::for_lock(key, lock_key, own_id);
    super::queue_waiter(&word, key, &waiter, expected, super::MATCH_ANY)?;
    let reason = waiter.sleep(deadline_ns);
    let timed_out = reason == WakeReason::TimedOut;
    while reason != WakeReason::Woken && waiter.woken_with().is_none() {
        if super::table::unqueue(&waiter) {
            return Err(if timed_out { Errno::ETIMEDOUT } else { Errno::ERESTARTNOINTR });
        }
        if give_up(lock_key, &waiter) {
            return Err(if timed_out { Errno::ETIMEDOUT } else { Errno::EAGAIN });
        }
        let again = machine::time::now_ns() + IN_TRANSIT_NS;
        let _ = sched::park(Some(again), machine::sync::WaitKind::Uninterruptible);
    }
    take_over(&lock, lock_key, &waiter, own_id)
}

/// `FUTEX_CMP_REQUEUE_PI`: gives the lock to the first waiter of `from` if it is free, and lets up to `count` more wait for
/// it; how many in all. All must be in [`wait_requeue`] for that lock.
///
/// # Errors
/// `EAGAIN`: `from` has not the expected value. `EINVAL`: the same word twice, or waiters of another kind. `ESRCH`, `EDEADLK`: as
/// [`lock`]; `EFAULT`, `ENOSYS`.
pub fn requeue(from: Word<'_>, lock: Word<'_>, expected: u32, count: usize) -> Result<usize> {
    let threads = threads()?;
    let (from_key, lock_key) = (from.key()?, lock.key()?);
    if from_key == lock_key {
        return Err(Errno::EINVAL);
    }
    let mut moving = loop {
        let mut bucket = super::table::lock(&from_key);
        match from.expect(expected) {
            Ok(()) => break bucket.take_for_lock(from_key, lock_key, count.saturating_add(1))?,
            Err(Some(error)) => return Err(error),
            Err(None) => drop(bucket),
        }
        super::touch(&from)?;
    };
    let mut done = 0;
    while let Some(node) = moving.pop() {
        if let Err(error) = move_one(node.waiter(), &lock, lock_key, threads) {
            let mut bucket = super::table::lock(&from_key);
            bucket.insert(node, from_key);
            while let Some(node) = moving.pop() {
                bucket.insert(node, from_key);
            }
            return if done > 0 { Ok(done) } else { Err(error) };
        }
        done += 1;
    }
    Ok(done)
}

/// Gives the lock to a waiter or lets it wait for it.
fn move_one(waiter: &Arc<Waiter>, lock: &Word<'_>, key: FutexKey, threads: &dyn PiThreads) -> Result<()> {
    loop {
        match try_lock(lock, key, waiter, waiter.lock_id(), Attempt::Wait, threads)? {
            Step::Locked => {
                waiter.wake(GRANTED);
                return Ok(());
            }
            Step::Queued => return Ok(()),
            Step::Retry => {}
            Step::Fault => touch_writable(lock)?,
        }
    }
}
