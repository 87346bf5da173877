//! Every interleaving of the sections of two or three threads: giving against dying.
//!
//! The locks and the count of references are loom's; what is under them is the code that runs in the kernel.

use super::*;
use abi::errno::Errno;
use alloc::vec::Vec;
use loom::sync::Mutex;
use loom::sync::atomic::AtomicUsize;
use loom::thread;

struct LoomLock<T>(Mutex<T>);

impl<T: Send> Lock<T> for LoomLock<T> {
    fn new(value: T) -> Self {
        LoomLock(Mutex::new(value))
    }
    fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        section(&mut self.0.lock().unwrap())
    }
}

struct Space {
    number: u64,
    references: AtomicUsize,
    /// For a reference to be made of a shared one.
    own: std::sync::OnceLock<alloc::sync::Weak<Space>>,
    sides: Sides<Space>,
    told: Mutex<Vec<Event<()>>>,
}

/// A counted reference; the last one cleans.
struct Reference(Arc<Space>);

impl Drop for Reference {
    fn drop(&mut self) {
        if self.0.references.fetch_sub(1, Ordering::AcqRel) == 1 {
            clean(core::slice::from_ref(&self.0));
        }
    }
}

impl Holder for Space {
    type Spin<T: Send> = LoomLock<T>;
    type Sleep = LoomLock<()>;
    type Live = Reference;
    type Origin = ();
    fn sides(&self) -> &Sides<Space> {
        &self.sides
    }
    fn number(&self) -> u64 {
        self.number
    }
    fn live(&self) -> Option<Reference> {
        let mut count = self.references.load(Ordering::Acquire);
        while count > 0 {
            match self.references.compare_exchange(count, count + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return self.own.get()?.upgrade().map(Reference),
                Err(now) => count = now,
            }
        }
        None
    }
    fn is_heard(&self, _origin: &()) -> bool {
        true
    }
    fn deliver(&self, event: &Event<()>) {
        self.told.lock().unwrap().push(*event);
    }
}

fn space(number: u64) -> Reference {
    let made = Arc::new(Space {
        number,
        references: AtomicUsize::new(1),
        own: std::sync::OnceLock::new(),
        sides: Sides::new(number),
        told: Mutex::new(Vec::new()),
    });
    made.own.set(Arc::downgrade(&made)).unwrap();
    Reference(made)
}

/// The events are pairs of giving and removing; gives whether the last id is still there.
fn told_consistently(space: &Space) -> bool {
    let told = space.told.lock().unwrap();
    for (place, event) in told.iter().enumerate() {
        let expected = if place % 2 == 0 { EventKind::Given } else { EventKind::Removed };
        assert_eq!((event.kind, event.id), (expected, 0), "{told:?}");
    }
    told.len() % 2 == 1
}

fn model(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

#[test]
fn loom_give_against_the_peers_last_drop() {
    model(|| {
        let (holder, peer) = (space(1), space(2));
        let (h, p) = (holder.0.clone(), peer.0.clone());
        let giver = thread::spawn(move || allocate(&h, &p, Wanted::Lowest, ()));
        let peer_object = peer.0.clone();
        drop(peer);
        let given = giver.join().unwrap();
        assert!(matches!(given, Ok(0) | Err(Errno::ESRCH)));
        assert_eq!(holder.0.sides.counts().0, 0, "an id names a dead namespace");
        assert_eq!(peer_object.sides.counts(), (0, 0));
        assert!(!told_consistently(&holder.0));
        assert_eq!(holder.0.told.lock().unwrap().len(), if given.is_ok() { 2 } else { 0 });
    });
}

#[test]
fn loom_give_against_the_holders_last_drop() {
    model(|| {
        let (holder, peer) = (space(1), space(2));
        let (h, p) = (holder.0.clone(), peer.0.clone());
        let giver = thread::spawn(move || allocate(&h, &p, Wanted::Lowest, ()));
        let holder_object = holder.0.clone();
        drop(holder);
        assert!(matches!(giver.join().unwrap(), Ok(0) | Err(Errno::ESRCH)));
        assert_eq!(holder_object.sides.counts(), (0, 0));
        assert_eq!(peer.0.sides.counts(), (0, 0), "a dead holder is remembered");
    });
}

#[test]
fn loom_both_die() {
    model(|| {
        let (holder, peer) = (space(1), space(2));
        allocate(&holder.0, &peer.0, Wanted::Lowest, ()).unwrap();
        let objects = (holder.0.clone(), peer.0.clone());
        let other = thread::spawn(move || drop(peer));
        drop(holder);
        other.join().unwrap();
        assert_eq!((objects.0.sides.counts(), objects.1.sides.counts()), ((0, 0), (0, 0)));
        told_consistently(&objects.0);
    });
}

#[test]
fn loom_give_while_both_die() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let (holder, peer) = (space(1), space(2));
        let objects = (holder.0.clone(), peer.0.clone());
        let (h, p) = (holder.0.clone(), peer.0.clone());
        let giver = thread::spawn(move || allocate(&h, &p, Wanted::Lowest, ()).is_ok());
        let other = thread::spawn(move || drop(peer));
        drop(holder);
        giver.join().unwrap();
        other.join().unwrap();
        assert_eq!((objects.0.sides.counts(), objects.1.sides.counts()), ((0, 0), (0, 0)));
    });
}

#[test]
fn loom_an_edge_to_itself() {
    model(|| {
        let own = space(1);
        let object = own.0.clone();
        let o = own.0.clone();
        let giver = thread::spawn(move || allocate(&o, &o, Wanted::Lowest, ()).is_ok());
        drop(own);
        giver.join().unwrap();
        assert_eq!(object.sides.counts(), (0, 0));
    });
}

#[test]
fn loom_an_id_is_used_again_only_after_its_end_is_told() {
    model(|| {
        let (holder, first, second) = (space(1), space(2), space(3));
        allocate(&holder.0, &first.0, Wanted::Lowest, ()).unwrap();
        let (h, s) = (holder.0.clone(), second.0.clone());
        let giver = thread::spawn(move || allocate(&h, &s, Wanted::Exactly(0), ()));
        drop(first);
        let given = giver.join().unwrap();
        assert_eq!(told_consistently(&holder.0), given.is_ok());
        assert_eq!(holder.0.sides.counts().0, usize::from(given.is_ok()));
    });
}

#[test]
fn loom_two_give_the_same() {
    model(|| {
        let (holder, peer) = (space(1), space(2));
        let (h, p) = (holder.0.clone(), peer.0.clone());
        let other = thread::spawn(move || get_or_allocate(&h, &p));
        assert_eq!(get_or_allocate(&holder.0, &peer.0), Ok(Some(0)));
        assert_eq!(other.join().unwrap(), Ok(Some(0)));
        assert!(told_consistently(&holder.0));
        assert_eq!(holder.0.told.lock().unwrap().len(), 1);
    });
}
