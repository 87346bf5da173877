//! The two sides of a namespace, and how an id is given.
//!
//! Key types: [`Sides`], `Forward` (whom an id names; the queue of events), `Reverse` (who has an id for this namespace, and
//! which), [`Edge`] (an item of the reverse side, and of the queue once it is taken out). Locks: see `super`.

use super::event::{self, Event, EventKind, Queue};
use super::{Holder, Lock};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::id_table::{IdTable, Spare, spare};
use linnet_lib::tree::{Item, Node, Tree};
use machine::memory::try_box;

/// Which id is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// The lowest that is free.
    Lowest,
    /// Exactly this one; not negative.
    Exactly(i32),
}

/// Who has an id for this namespace, and which. Out of the reverse side it is the event that tells of the id's end.
pub(super) struct Edge<N: Holder> {
    /// The holder; none in a queue, which is the holder's own.
    pub(super) holder: Option<Arc<N>>,
    /// The holder's number.
    pub(super) from: u64,
    pub(super) id: i32,
    pub(super) kind: EventKind,
    origin: N::Origin,
}

pub(super) type EdgeNode<N> = Box<Node<Edge<N>>>;

impl<N: Holder> Item for Edge<N> {
    type Key = u64;
    type Summary = ();
    fn key(&self) -> u64 {
        self.from
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

impl<N: Holder> Edge<N> {
    /// What it tells in a queue.
    pub(super) fn event(&self) -> Event<N::Origin> {
        Event { kind: self.kind, id: self.id, origin: self.origin }
    }
}

/// The ids that a namespace gave.
pub(super) struct Forward<N: Holder> {
    /// It is dying: gives no more.
    pub(super) closed: bool,
    /// Whom each names.
    pub(super) ids: IdTable<Arc<N>>,
    pub(super) events: Queue<N>,
}

pub(super) type Reverse<N> = Tree<Edge<N>>;

/// Both sides of one namespace.
pub struct Sides<N: Holder> {
    /// The namespace's number.
    number: u64,
    pub(super) forward: N::Spin<Forward<N>>,
    pub(super) reverse: N::Spin<Reverse<N>>,
    pub(super) delivery: N::Sleep,
}

impl<N: Holder> Sides<N> {
    /// Sides without an id, of the namespace with this number.
    pub fn new(number: u64) -> Sides<N> {
        Sides {
            number,
            forward: N::Spin::new(Forward { closed: false, ids: IdTable::new(), events: Queue::new() }),
            reverse: N::Spin::new(Tree::new()),
            delivery: N::Sleep::new(()),
        }
    }

    /// The id that `peer` has here. O(log holders that know the peer).
    pub fn id_of(&self, peer: &N) -> Option<i32> {
        peer.sides().reverse.with(|reverse| reverse.get(&self.number).map(|edge| edge.id))
    }

    /// Whom an id names. It may be dying. O(log ids).
    pub fn peer(&self, id: i32) -> Option<Arc<N>> {
        let id = u32::try_from(id).ok()?;
        self.forward.with(|forward| forward.ids.get(id).cloned())
    }

    /// The first id from `id` on, and whom it names: dumps go on from the last one's successor, so that changes meanwhile
    /// neither hide nor repeat an id that stays.
    pub fn next_from(&self, id: i32) -> Option<(i32, Arc<N>)> {
        let from = u32::try_from(id).ok()?;
        self.forward.with(|forward| forward.ids.next_from(from).map(|(id, peer)| (id as i32, peer.clone())))
    }

    /// How many ids it gave, and how many name it.
    pub fn counts(&self) -> (usize, usize) {
        (self.forward.with(|forward| forward.ids.len()), self.reverse.with(|reverse| reverse.len()))
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

fn boxed<T: Item>(item: Node<T>) -> Result<Box<Node<T>>> {
    #[cfg(test)]
    fail_sometimes()?;
    try_box(item).map_err(|_| Errno::ENOMEM)
}

/// All memory of one edge.
struct Parts<N: Holder> {
    incoming: EdgeNode<N>,
    start: EdgeNode<N>,
    /// For an id that needs a new page.
    page: Option<Spare<Arc<N>>>,
}

impl<N: Holder> Parts<N> {
    fn new(holder: &Arc<N>, origin: N::Origin) -> Result<Parts<N>> {
        let edge = |holder: Option<&Arc<N>>, kind, origin| {
            let from = holder.map_or(0, |holder| holder.number());
            boxed(Node::new(Edge { holder: holder.cloned(), from, id: -1, kind, origin }))
        };
        Ok(Parts {
            incoming: edge(Some(holder), EventKind::Removed, N::Origin::default())?,
            start: edge(None, EventKind::Given, origin)?,
            page: None,
        })
    }
}

/// What an attempt came to. What is in it is dropped without a lock.
enum Attempt<N: Holder> {
    /// The id is given.
    Given {
        id: i32,
        is_told: bool,
        _unused: (Option<EdgeNode<N>>, Option<Spare<Arc<N>>>),
    },
    Refused {
        error: Errno,
        _unused: Parts<N>,
    },
    /// Once more, with memory for a page.
    NeedsPage(Parts<N>),
}

/// See [`super::allocate`].
pub(super) fn allocate<N: Holder>(
    holder: &Arc<N>,
    peer: &Arc<N>,
    wanted: Wanted,
    origin: N::Origin,
) -> Result<i32> {
    let mut parts = Parts::new(holder, origin)?;
    loop {
        // What keeps the peer alive, and its reverse side from being taken whole, may be the last to do so: it is let go of
        // without a lock.
        let mut live = None;
        let attempt =
            holder.sides().forward.with(|forward| attempt(forward, holder, peer, wanted, parts, &mut live));
        match attempt {
            Attempt::Given { id, is_told, .. } => {
                if is_told {
                    event::deliver(&**holder);
                }
                return Ok(id);
            }
            Attempt::Refused { error, .. } => return Err(error),
            Attempt::NeedsPage(back) => parts = Parts { page: Some(boxed(spare())?), ..back },
        }
    }
}

/// Under the holder's forward side.
fn attempt<N: Holder>(
    forward: &mut Forward<N>,
    holder: &Arc<N>,
    peer: &Arc<N>,
    wanted: Wanted,
    mut parts: Parts<N>,
    live: &mut Option<N::Live>,
) -> Attempt<N> {
    let id = match wanted {
        Wanted::Lowest => forward.ids.lowest_free() as i32,
        Wanted::Exactly(id) => id,
    };
    if id < 0 {
        return Attempt::Refused { error: Errno::ENOSPC, _unused: parts };
    }
    *live = peer.live().filter(|_| !forward.closed);
    if live.is_none() {
        return Attempt::Refused { error: Errno::ESRCH, _unused: parts };
    }
    peer.sides().reverse.with(|reverse| {
        if reverse.get(&holder.number()).is_some() || forward.ids.get(id as u32).is_some() {
            return Attempt::Refused { error: Errno::EEXIST, _unused: parts };
        }
        if forward.ids.insert(id as u32, peer.clone(), &mut parts.page).is_err() {
            return Attempt::NeedsPage(parts);
        }
        let Parts { mut incoming, mut start, page } = parts;
        (incoming.id, start.id) = (id, id);
        reverse.insert(incoming);
        let is_told = holder.is_heard(&start.origin);
        let start = if is_told {
            forward.events.push(start);
            None
        } else {
            Some(start)
        };
        Attempt::Given { id, is_told, _unused: (start, page) }
    })
}
