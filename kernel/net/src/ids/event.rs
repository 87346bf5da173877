//! The events of a holder: an id was given, an id was removed, in the order in which that happened.
//!
//! Key types: [`Event`], `Node` (an event with the link that queues it). A queue is a pile under the forward side's
//! lock; whoever delivers takes it whole and turns it over outside the lock. Locks: see `super`.

use super::Holder;
use alloc::boxed::Box;
use linnet_lib::tree::{Item, Node as TreeNode};

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

impl<O: Copy> Item for Event<O> {
    type Key = ();
    type Summary = ();
    fn key(&self) {}
    fn summary(&self) {}
    fn merge(_: (), _: ()) {}
}

pub(super) type Node<N> = Box<TreeNode<Event<<N as Holder>::Origin>>>;

/// Delivers what is queued. When it returns, all that was queued before it was called is delivered, by it or by another.
pub(super) fn deliver<N: Holder>(holder: &N) {
    use super::Lock;
    let sides = holder.sides();
    sides.delivery.with(|()| {
        let mut events = sides.forward.with(|forward| core::mem::take(&mut forward.events)).reversed();
        while let Some(event) = events.pop() {
            holder.deliver(&event);
        }
    });
}
