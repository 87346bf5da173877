//! Removing the ids of dying namespaces, at the cost of just those ids.
//!
//! Three passes over the dying set D: close what they hold, so that nothing is added and nobody is told on their behalf;
//! take out what points at them, telling each holder that lives on; take out what they point at. Any number of these may run
//! at once, also over sets that point at each other: an edge is taken out by whoever finds it in its holder's
//! forward side, and what is left of it in the other side is found missing. Locks: see `super`; none is held over more than
//! [`TOGETHER`] edges.
//!
//! What points at D is taken holder by holder, [`TOGETHER`] of D at a time: reverse sides are in the order of the holders, so they are
//! merged. A holder's memory is then touched once for all of them, and its listeners are told once.

use super::side::{Edge, EdgeNode};
use super::{EDGES_VISITED, EventKind, Holder, Lock, event};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::iter::Peekable;
use core::mem::take;
use linnet_lib::tree::Drain;
use machine::sync::atomic::Ordering;

/// How many reverse sides are merged.
const TOGETHER: usize = 32;
/// Edges of one holder.
type Edges<N> = ArrayVec<EdgeNode<N>, TOGETHER>;

/// Removes every id that names one of `dying` or is held by one. All of them have lost their last reference. When it returns
/// the listeners have been told. Gives how many edges it looked at. May sleep; O(|D| + edges into D + edges out of D) tree
/// operations.
pub fn clean<N: Holder>(dying: &[Arc<N>]) -> u64 {
    for namespace in dying {
        namespace.sides().forward.with(|forward| forward.closed = true);
    }
    let incoming = dying.chunks(TOGETHER).map(clean_incoming).sum::<u64>();
    let visited = incoming + dying.iter().map(clean_outgoing).sum::<u64>();
    EDGES_VISITED.fetch_add(visited, Ordering::Relaxed);
    visited
}

/// Takes out what names these namespaces, at most [`TOGETHER`].
fn clean_incoming<N: Holder>(dying: &[Arc<N>]) -> u64 {
    // Filled in place: moving these arrays would cost more than the usual clean-up.
    let mut sides = ArrayVec::<Peekable<Drain<Edge<N>>>, TOGETHER>::new();
    dying.iter().for_each(|one| sides.push(one.sides().reverse.with(take).drain().peekable()));
    let mut edges = Edges::<N>::new();
    let mut visited = 0;
    while let Some(next) = sides.iter_mut().filter_map(|side| side.peek().map(|edge| edge.from)).min() {
        let of_next = |side: &mut Peekable<Drain<Edge<N>>>| side.next_if(|edge| edge.from == next);
        sides.iter_mut().filter_map(of_next).for_each(|edge| edges.push(edge));
        visited += edges.len() as u64;
        if let Some(holder) = remove(&mut edges) {
            event::deliver(&*holder);
        }
    }
    visited
}

/// Takes edges of one holder, which are out of their peers' reverse sides, out of its forward side. Gives the holder if its listeners
/// are to be told. None of the edges is left. Not a part of its caller's frame, which is large by itself.
#[inline(never)]
fn remove<N: Holder>(edges: &mut Edges<N>) -> Option<Arc<N>> {
    let Some(holder) = edges.first_mut().and_then(|edge| edge.holder.take()) else {
        edges.clear();
        return None;
    };
    // What is let go of without the lock: whom the ids named, pages that are empty now, edges that nobody is told of.
    let (mut removed, mut untold) = (ArrayVec::<_, TOGETHER>::new(), Edges::<N>::new());
    let is_told = holder.sides().forward.with(|forward| {
        // Asked for under the lock: who listens from now on finds these ids no more.
        let is_heard = !forward.closed && holder.is_heard(&N::Origin::default());
        let mut is_told = false;
        for mut edge in edges.drain(..) {
            // Nothing is there if the holder dies too and its cleaner was here first.
            let was_there = forward.ids.remove(edge.id as u32).map(|one| removed.push(one)).is_some();
            if was_there && is_heard {
                edge.holder = None;
                edge.kind = EventKind::Removed;
                forward.events.push(edge);
                is_told = true;
            } else {
                untold.push(edge);
            }
        }
        is_told
    });
    is_told.then_some(holder)
}

/// Takes out what this namespace names.
fn clean_outgoing<N: Holder>(namespace: &Arc<N>) -> u64 {
    let number = namespace.number();
    let (ids, events) =
        namespace.sides().forward.with(|forward| (take(&mut forward.ids), take(&mut forward.events)));
    drop(events);
    let mut visited = 0;
    for (_, peer) in ids.drain() {
        visited += 1;
        let taken = peer.sides().reverse.with(|reverse| reverse.remove(&number));
        drop(taken);
    }
    visited
}
