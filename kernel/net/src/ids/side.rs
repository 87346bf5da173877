//! The two sides of a namespace, and how an id is given.
//!
//! Key types: [`Sides`], `Forward` (ids by number and by peer, the queue of events), `Reverse` (who has an id for this
//! namespace). Locks: see `super`.

use super::event::{self, Event, EventKind, Node as EventNode};
use super::{Holder, Lock};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::tree::{Item, Node, Pile, Tree, Turn};
use machine::memory::try_box;

/// Which id is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// The lowest that is free.
    Lowest,
    /// Exactly this one; not negative.
    Exactly(i32),
}

/// An id, found by its number. Carries the event that will tell of its end.
pub(super) struct ById<N: Holder> {
    id: i32,
    pub(super) peer: Arc<N>,
    end: Option<EventNode<N>>,
}

impl<N: Holder> Item for ById<N> {
    type Key = i32;
    /// How many there are.
    type Summary = u32;
    fn key(&self) -> i32 {
        self.id
    }
    fn summary(&self) -> u32 {
        1
    }
    fn merge(left: u32, right: u32) -> u32 {
        left + right
    }
}

/// An id, found by whom it names.
pub(super) struct ByPeer {
    peer: u64,
    id: i32,
}

impl Item for ByPeer {
    type Key = u64;
    type Summary = ();
    fn key(&self) -> u64 {
        self.peer
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// The other end: who has an id for this namespace.
pub(super) struct Incoming<N: Holder> {
    pub(super) holder: Arc<N>,
}

impl<N: Holder> Item for Incoming<N> {
    type Key = u64;
    type Summary = ();
    fn key(&self) -> u64 {
        self.holder.number()
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// An id that was taken out.
pub(super) type Removed<N> = (Box<Node<ByPeer>>, Box<Node<ById<N>>>);

/// The ids that a namespace gave.
pub(super) struct Forward<N: Holder> {
    /// It is dying: gives no more.
    pub(super) closed: bool,
    pub(super) by_id: Tree<ById<N>>,
    pub(super) by_peer: Tree<ByPeer>,
    /// What its listeners have not been told yet, the newest on top.
    pub(super) events: Pile<Event<N::Origin>>,
}

pub(super) type Reverse<N> = Tree<Incoming<N>>;

/// Both sides of one namespace.
pub struct Sides<N: Holder> {
    pub(super) forward: N::Spin<Forward<N>>,
    pub(super) reverse: N::Spin<Reverse<N>>,
    pub(super) delivery: N::Sleep,
}

impl<N: Holder> Default for Sides<N> {
    fn default() -> Self {
        Sides::new()
    }
}

impl<N: Holder> Sides<N> {
    /// Sides without an id.
    pub fn new() -> Sides<N> {
        let forward =
            Forward { closed: false, by_id: Tree::new(), by_peer: Tree::new(), events: Pile::new() };
        Sides {
            forward: N::Spin::new(forward),
            reverse: N::Spin::new(Tree::new()),
            delivery: N::Sleep::new(()),
        }
    }

    /// The id that `peer` has here. O(log ids).
    pub fn id_of(&self, peer: &N) -> Option<i32> {
        self.forward.with(|forward| forward.by_peer.get(&peer.number()).map(|found| found.id))
    }

    /// Whom an id names. It may be dying. O(log ids).
    pub fn peer(&self, id: i32) -> Option<Arc<N>> {
        self.forward.with(|forward| forward.by_id.get(&id).map(|found| found.peer.clone()))
    }

    /// The first id from `id` on, and whom it names: dumps go on from the last one's successor, so that changes meanwhile
    /// neither hide nor repeat an id that stays.
    pub fn next_from(&self, id: i32) -> Option<(i32, Arc<N>)> {
        self.forward.with(|forward| forward.by_id.first_from(&id).map(|found| (found.id, found.peer.clone())))
    }

    /// How many ids it gave, and how many name it.
    pub fn counts(&self) -> (usize, usize) {
        (self.forward.with(|forward| forward.by_id.len()), self.reverse.with(|reverse| reverse.len()))
    }
}

impl<N: Holder> Forward<N> {
    /// The lowest number that is no id: the first whose rank differs from it. Ids ascend and are not negative, so below
    /// that place each equals its rank.
    fn lowest_free(&self) -> i32 {
        let mut rank = 0u32;
        self.by_id.descend(|left, item| {
            let here = rank + left.unwrap_or(0);
            if item.id as u32 == here {
                rank = here + 1;
                Turn::Right
            } else {
                Turn::Left
            }
        });
        rank as i32
    }

    /// Takes the id of a peer out and queues its last event. Gives what is to be dropped without the lock.
    pub(super) fn remove(&mut self, peer: u64) -> Option<Removed<N>> {
        let by_peer = self.by_peer.remove(&peer)?;
        let mut by_id = self.by_id.remove(&by_peer.id)?;
        if let Some(end) = by_id.end.take().filter(|_| !self.closed) {
            self.events.push(end);
        }
        Some((by_peer, by_id))
    }
}

#[cfg(test)]
std::thread_local! {
    /// How many boxes may still be made by this thread.
    pub(super) static FAIL_AFTER: core::cell::Cell<Option<u32>> = const { core::cell::Cell::new(None) };
}

#[cfg(test)]
fn fail_sometimes() -> Result<()> {
    match FAIL_AFTER.get() {
        Some(0) => Err(Errno::ENOMEM),
        left => {
            FAIL_AFTER.set(left.map(|left| left - 1));
            Ok(())
        }
    }
}

/// All memory of one edge.
struct Parts<N: Holder> {
    by_id: Box<Node<ById<N>>>,
    by_peer: Box<Node<ByPeer>>,
    incoming: Box<Node<Incoming<N>>>,
    start: EventNode<N>,
}

impl<N: Holder> Parts<N> {
    fn new(holder: &Arc<N>, peer: &Arc<N>, origin: N::Origin) -> Result<Parts<N>> {
        fn boxed<T: Item>(item: T) -> Result<Box<Node<T>>> {
            #[cfg(test)]
            fail_sometimes()?;
            try_box(Node::new(item)).map_err(|_| Errno::ENOMEM)
        }
        let event = |kind, origin| boxed(Event { kind, id: -1, origin });
        let end = Some(event(EventKind::Removed, N::Origin::default())?);
        Ok(Parts {
            by_id: boxed(ById { id: -1, peer: peer.clone(), end })?,
            by_peer: boxed(ByPeer { peer: peer.number(), id: -1 })?,
            incoming: boxed(Incoming { holder: holder.clone() })?,
            start: event(EventKind::Given, origin)?,
        })
    }

    fn set_id(&mut self, id: i32) {
        self.by_id.id = id;
        if let Some(end) = &mut self.by_id.end {
            end.id = id;
        }
        self.by_peer.id = id;
        self.start.id = id;
    }
}

/// See [`super::allocate`].
pub(super) fn allocate<N: Holder>(
    holder: &Arc<N>,
    peer: &Arc<N>,
    wanted: Wanted,
    origin: N::Origin,
) -> Result<i32> {
    let mut parts = Parts::new(holder, peer, origin)?;
    // What keeps the peer alive is dropped after the locks: it may be the last.
    let (result, _live, _unused) = holder.sides().forward.with(|forward| {
        if forward.closed {
            return (Err(Errno::ESRCH), None, Some(parts));
        }
        if forward.by_peer.get(&peer.number()).is_some() {
            return (Err(Errno::EEXIST), None, Some(parts));
        }
        let id = match wanted {
            Wanted::Lowest => forward.lowest_free(),
            Wanted::Exactly(id) => id,
        };
        if id < 0 {
            return (Err(Errno::ENOSPC), None, Some(parts));
        }
        if forward.by_id.get(&id).is_some() {
            return (Err(Errno::EEXIST), None, Some(parts));
        }
        let Some(live) = peer.live() else { return (Err(Errno::ESRCH), None, Some(parts)) };
        parts.set_id(id);
        let Parts { by_id, by_peer, incoming, start } = parts;
        peer.sides().reverse.with(|reverse| reverse.insert(incoming));
        forward.by_id.insert(by_id);
        forward.by_peer.insert(by_peer);
        forward.events.push(start);
        (Ok(id), Some(live), None)
    });
    if result.is_ok() {
        event::deliver(&**holder);
    }
    result
}
