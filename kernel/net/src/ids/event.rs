//! The events of a holder: an id was given, an id was removed, in the order in which that happened.
//!
//! Key type: [`Event`]. A queue is a pile of [`Edge`] nodes under the forward side's lock; whoever delivers takes it whole and
//! turns it over outside the lock. Nothing is queued while nobody listens. Locks: see `super`.

use super::side::Edge;
use super::{Holder, Lock};
use linnet_lib::tree::Pile;

/// What happened to an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// It was given (RTM_NEWNSID).
    Given,
    /// It was removed (RTM_DELNSID).
    Removed,
}

/// One change of one id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<O> {
    /// What happened.
    pub kind: EventKind,
    /// To which id.
    pub id: i32,
    /// The request behind it; the default for none.
    pub origin: O,
}

/// What is to be told, the newest on top.
pub(super) type Queue<N> = Pile<Edge<N>>;

/// Delivers what is queued. When it returns, all that was queued before it was called is delivered, by it or by another.
pub(super) fn deliver<N: Holder>(holder: &N) {
    let sides = holder.sides();
    sides.delivery.with(|()| {
        let mut events = sides.forward.with(|forward| core::mem::take(&mut forward.events)).reversed();
        while let Some(edge) = events.pop() {
            holder.deliver(&edge.event());
        }
    });
}
