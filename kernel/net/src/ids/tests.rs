//! The ids against a model, and what cleaning costs in edges visited.

use super::*;
use abi::errno::Errno;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64 as Counter};
use proptest::prelude::*;
use std::sync::Mutex;

pub(super) struct StdLock<T>(Mutex<T>);

impl<T: Send> Lock<T> for StdLock<T> {
    fn new(value: T) -> Self {
        StdLock(Mutex::new(value))
    }
    fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        section(&mut self.0.lock().unwrap())
    }
}

struct Space {
    number: u64,
    alive: AtomicBool,
    sides: Sides<Space>,
    told: Mutex<Vec<Event<u32>>>,
}

impl Holder for Space {
    type Spin<T: Send> = StdLock<T>;
    type Sleep = StdLock<()>;
    type Live = ();
    type Origin = u32;
    fn sides(&self) -> &Sides<Space> {
        &self.sides
    }
    fn number(&self) -> u64 {
        self.number
    }
    fn live(&self) -> Option<()> {
        self.alive.load(Ordering::SeqCst).then_some(())
    }
    fn is_heard(&self, _origin: &u32) -> bool {
        true
    }
    fn deliver(&self, event: &Event<u32>) {
        self.told.lock().unwrap().push(*event);
    }
}

fn space() -> Arc<Space> {
    static NEXT: Counter = Counter::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Arc::new(Space {
        number,
        alive: AtomicBool::new(true),
        sides: Sides::new(number),
        told: Mutex::default(),
    })
}

fn spaces(count: usize) -> Vec<Arc<Space>> {
    (0..count).map(|_| space()).collect()
}

fn kill(dying: &[Arc<Space>]) -> u64 {
    for one in dying {
        one.alive.store(false, Ordering::SeqCst);
    }
    clean(dying)
}

/// What a listener knows who has seen all events.
fn replay(space: &Space) -> BTreeSet<i32> {
    let mut known = BTreeSet::new();
    for event in space.told.lock().unwrap().iter() {
        match event.kind {
            EventKind::Given => assert!(known.insert(event.id), "{event:?} twice"),
            EventKind::Removed => assert!(known.remove(&event.id), "{event:?} of nothing"),
        }
    }
    known
}

fn dump(space: &Space) -> Vec<(i32, u64)> {
    let mut from = 0;
    let mut all = Vec::new();
    while let Some((id, peer)) = space.sides.next_from(from) {
        all.push((id, peer.number));
        from = id + 1;
    }
    all
}

#[derive(Clone, Debug)]
enum Step {
    Create,
    Give { holder: usize, peer: usize, wanted: Option<i32> },
    Find { holder: usize, peer: usize },
    Kill(Vec<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    let give = (0..8usize, 0..8usize, prop::option::of(0..12i32));
    prop_oneof![
        2 => Just(Step::Create),
        8 => give.prop_map(|(holder, peer, wanted)| Step::Give { holder, peer, wanted }),
        3 => (0..8usize, 0..8usize).prop_map(|(holder, peer)| Step::Find { holder, peer }),
        1 => prop::collection::vec(0..8usize, 1..4).prop_map(Step::Kill),
    ]
}

#[derive(Default)]
struct Model {
    live: Vec<Arc<Space>>,
    ids: BTreeMap<u64, BTreeMap<i32, u64>>,
}

impl Model {
    fn give(&mut self, holder: u64, peer: u64, wanted: Option<i32>) -> Result<i32> {
        let ids = self.ids.entry(holder).or_default();
        let id = wanted.unwrap_or_else(|| (0..).find(|id| !ids.contains_key(id)).unwrap());
        if ids.values().any(|&other| other == peer) || ids.contains_key(&id) {
            return Err(Errno::EEXIST);
        }
        ids.insert(id, peer);
        Ok(id)
    }

    /// The edges into and out of the set, each as often as it is looked at.
    fn cost(&self, dying: &BTreeSet<u64>) -> u64 {
        let edges = self.ids.iter().flat_map(|(holder, ids)| ids.values().map(move |peer| (holder, peer)));
        edges.filter(|(holder, peer)| dying.contains(holder) || dying.contains(peer)).count() as u64
    }

    fn step(&mut self, step: &Step) {
        let at = |index: usize| self.live.get(index % self.live.len().max(1)).cloned();
        match step {
            Step::Create => self.live.push(space()),
            Step::Give { holder, peer, wanted } => {
                let (Some(holder), Some(peer)) = (at(*holder), at(*peer)) else { return };
                let asked = wanted.map_or(Wanted::Lowest, Wanted::Exactly);
                assert_eq!(
                    allocate(&holder, &peer, asked, 7),
                    self.give(holder.number, peer.number, *wanted)
                );
            }
            Step::Find { holder, peer } => {
                let (Some(holder), Some(peer)) = (at(*holder), at(*peer)) else { return };
                let ids = self.ids.entry(holder.number).or_default();
                let expected = ids.iter().find(|(_, other)| **other == peer.number).map(|(id, _)| *id);
                assert_eq!(holder.sides.id_of(&peer), expected);
                if let Some(id) = expected {
                    assert!(Arc::ptr_eq(&holder.sides.peer(id).unwrap(), &peer));
                }
            }
            Step::Kill(which) => {
                let which: BTreeSet<usize> = which.iter().map(|i| i % self.live.len().max(1)).collect();
                let dying: Vec<_> = which.iter().filter_map(|&index| self.live.get(index).cloned()).collect();
                let numbers: BTreeSet<u64> = dying.iter().map(|one| one.number).collect();
                let cost = self.cost(&numbers);
                let visited = kill(&dying);
                assert!(visited >= cost && visited <= 2 * cost, "{visited} edges visited of {cost}");
                self.live.retain(|one| !numbers.contains(&one.number));
                self.ids.retain(|holder, _| !numbers.contains(holder));
                self.ids.values_mut().for_each(|ids| ids.retain(|_, peer| !numbers.contains(peer)));
                for one in &dying {
                    assert_eq!(one.sides.counts(), (0, 0));
                    assert_eq!(allocate(one, one, Wanted::Lowest, 0), Err(Errno::ESRCH));
                }
            }
        }
    }

    fn check(&self) {
        let mut incoming = BTreeMap::<u64, usize>::new();
        for one in &self.live {
            let ids = self.ids.get(&one.number).cloned().unwrap_or_default();
            assert_eq!(dump(one), ids.iter().map(|(id, peer)| (*id, *peer)).collect::<Vec<_>>());
            assert_eq!(replay(one), ids.keys().copied().collect());
            ids.values().for_each(|peer| *incoming.entry(*peer).or_default() += 1);
        }
        for one in &self.live {
            assert_eq!(one.sides.counts().1, incoming.get(&one.number).copied().unwrap_or(0));
        }
    }
}

proptest! {
    #[test]
    fn behaves_as_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::default();
        for one in &steps {
            model.step(one);
            model.check();
        }
        kill(&core::mem::take(&mut model.live));
    }
}

/// L dying and M living namespaces, each of which has an id for each of the dying; and as many ids again among the living,
/// which nobody may look at.
#[test]
fn cleaning_visits_only_what_dies() {
    for (dying, living) in [(1, 50), (20, 20), (40, 10)] {
        let dying = spaces(dying);
        let living = spaces(living);
        for holder in &living {
            for peer in dying.iter().chain(&living) {
                allocate(holder, peer, Wanted::Lowest, 0).unwrap();
            }
        }
        let edges = (dying.len() * living.len()) as u64;
        assert_eq!(kill(&dying), edges);
        for holder in &living {
            assert_eq!(holder.sides.counts(), (living.len(), living.len()));
            assert_eq!(replay(holder).len(), living.len());
        }
        kill(&living);
    }
}

#[test]
fn one_without_ids_costs_nothing() {
    let living = spaces(30);
    for holder in &living {
        living.iter().for_each(|peer| assert!(allocate(holder, peer, Wanted::Lowest, 0).is_ok()));
    }
    assert_eq!(kill(&spaces(5)), 0);
    assert_eq!(living[0].sides.counts(), (30, 30));
    kill(&living);
}

#[test]
fn an_id_for_itself() {
    let own = space();
    assert_eq!(get_or_allocate(&own, &own), Ok(Some(0)));
    assert_eq!(get_or_allocate(&own, &own), Ok(Some(0)));
    assert_eq!(kill(core::slice::from_ref(&own)), 1);
    assert_eq!(own.sides.counts(), (0, 0));
    assert_eq!(own.told.lock().unwrap().len(), 1, "nobody is told on behalf of the dying");
    assert_eq!(get_or_allocate(&own, &own), Ok(None));
}

#[test]
fn a_dead_peer_gets_no_id() {
    let (holder, peer) = (space(), space());
    peer.alive.store(false, Ordering::SeqCst);
    assert_eq!(allocate(&holder, &peer, Wanted::Lowest, 0), Err(Errno::ESRCH));
    assert_eq!(holder.sides.counts(), (0, 0));
    assert!(holder.told.lock().unwrap().is_empty());
}

/// Every failure of memory leaves both sides as they were.
#[test]
fn a_failed_allocation_changes_nothing() {
    let (holder, peer) = (space(), space());
    for budget in 0..3 {
        side::FAIL_AFTER.set(Some(budget));
        assert_eq!(allocate(&holder, &peer, Wanted::Lowest, 0), Err(Errno::ENOMEM));
        assert_eq!((holder.sides.counts(), peer.sides.counts()), ((0, 0), (0, 0)));
    }
    side::FAIL_AFTER.set(Some(3));
    assert_eq!(allocate(&holder, &peer, Wanted::Lowest, 0), Ok(0));
    side::FAIL_AFTER.set(None);
    kill(&[holder, peer]);
}
