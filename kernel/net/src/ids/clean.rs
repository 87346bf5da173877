//! Removing the ids of dying namespaces, at the cost of just those ids.
//!
//! Three passes over the dying set D: close what they hold, so that nothing is added and nobody is told on their behalf;
//! take out what points at them, telling each holder that lives on; take out what they point at. Any number of these may run
//! at once, also over sets that point at each other: an edge is taken out by whoever finds it in its holder's
//! forward side, and what is left of it in the other side is found missing. Locks: see `super`; none is held over more than
//! one edge.

use super::{EDGES_VISITED, Holder, Lock, event};
use alloc::sync::Arc;
use core::mem::take;
use machine::sync::atomic::Ordering;

/// Removes every id that names one of `dying` or is held by one. All of them have lost their last reference. When it returns
/// the listeners have been told. Gives how many edges it looked at. May sleep; O(|D| + edges into D + edges out of D) tree
/// operations.
pub fn clean<N: Holder>(dying: &[Arc<N>]) -> u64 {
    for namespace in dying {
        namespace.sides().forward.with(|forward| forward.closed = true);
    }
    let visited =
        dying.iter().map(clean_incoming).sum::<u64>() + dying.iter().map(clean_outgoing).sum::<u64>();
    EDGES_VISITED.fetch_add(visited, Ordering::Relaxed);
    visited
}

/// Takes out what names this namespace.
fn clean_incoming<N: Holder>(namespace: &Arc<N>) -> u64 {
    let mut incoming = namespace.sides().reverse.with(take);
    let mut visited = 0;
    while let Some(edge) = incoming.pop_first() {
        visited += 1;
        let (removed, closed) =
            edge.holder.sides().forward.with(|forward| (forward.remove(namespace.number()), forward.closed));
        if removed.is_some() && !closed {
            event::deliver(&*edge.holder);
        }
    }
    visited
}

/// Takes out what this namespace names.
fn clean_outgoing<N: Holder>(namespace: &Arc<N>) -> u64 {
    let number = namespace.number();
    let (mut by_id, by_peer, events) = namespace
        .sides()
        .forward
        .with(|forward| (take(&mut forward.by_id), take(&mut forward.by_peer), take(&mut forward.events)));
    drop((by_peer, events));
    let mut visited = 0;
    while let Some(edge) = by_id.pop_first() {
        visited += 1;
        let taken = edge.peer.sides().reverse.with(|reverse| reverse.remove(&number));
        drop(taken);
    }
    visited
}
