//! One CPU's pending timers, sorted by deadline. Pure: no lock, no clock.
//!
//! Built on [`crate::tree`]: the owner of a timer brings the node, so arming never allocates; arming,
//! cancelling and expiring are O(log n), asking for the next deadline is O(1).
//!
//! Neighbours: [`crate::timer`] adds the locks and the callbacks.

use alloc::boxed::Box;

use crate::tree::{Item, Node, Tree};

/// Where a timer is in its queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct TimerKey {
    /// When it expires.
    pub deadline_ns: u64,
    turn: u64,
}

/// What is queued.
pub struct Alarm<P> {
    key: TimerKey,
    /// Whose it is; only there while queued.
    pub payload: Option<P>,
}

impl<P> Alarm<P> {
    /// A box that can be queued.
    pub fn boxed() -> AlarmBox<P> {
        Box::new(Node::new(Self { key: TimerKey::default(), payload: None }))
    }
}

impl<P> Item for Alarm<P> {
    type Key = TimerKey;
    type Summary = ();

    fn key(&self) -> TimerKey {
        self.key
    }

    fn summary(&self) {}

    fn merge((): (), (): ()) {}
}

/// A timer in the box that moves between its owner and the queue.
pub type AlarmBox<P> = Box<Node<Alarm<P>>>;

/// See the module's head.
pub struct TimerQueue<P> {
    tree: Tree<Alarm<P>>,
    next_turn: u64,
    first_ns: Option<u64>,
}

impl<P> Default for TimerQueue<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> TimerQueue<P> {
    /// No timers.
    pub const fn new() -> Self {
        Self { tree: Tree::new(), next_turn: 0, first_ns: None }
    }

    /// Queues a timer; the key finds it again.
    pub fn insert(&mut self, mut node: AlarmBox<P>, payload: P, deadline_ns: u64) -> TimerKey {
        self.next_turn += 1;
        node.key = TimerKey { deadline_ns, turn: self.next_turn };
        node.payload = Some(payload);
        let key = node.key;
        self.tree.insert(node);
        self.first_ns = Some(self.first_ns.map_or(deadline_ns, |first| first.min(deadline_ns)));
        key
    }

    /// Takes a timer out, unless it was popped already.
    pub fn remove(&mut self, key: &TimerKey) -> Option<AlarmBox<P>> {
        let node = self.tree.remove(key)?;
        if self.first_ns == Some(key.deadline_ns) {
            self.refresh_first();
        }
        Some(node)
    }

    /// Takes out the first timer whose deadline is not after `now_ns`.
    pub fn pop_expired(&mut self, now_ns: u64) -> Option<AlarmBox<P>> {
        if self.first_ns? > now_ns {
            return None;
        }
        let node = self.tree.pop_first();
        self.refresh_first();
        node
    }

    /// The earliest deadline.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.first_ns
    }

    /// How many are pending.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether none is pending.
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    fn refresh_first(&mut self) {
        self.first_ns = self.tree.first().map(|alarm| alarm.key.deadline_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn expires_in_order_and_cancels(steps in proptest::collection::vec((0u64..100, any::<bool>()), 1..200)) {
            let mut queue = TimerQueue::new();
            let mut model: Vec<(TimerKey, usize)> = Vec::new();
            for (index, (deadline, cancel)) in steps.into_iter().enumerate() {
                let key = queue.insert(Alarm::boxed(), index, deadline);
                if cancel {
                    prop_assert_eq!(queue.remove(&key).and_then(|node| node.payload), Some(index));
                    prop_assert!(queue.remove(&key).is_none());
                } else {
                    model.push((key, index));
                }
                let first = model.iter().map(|(key, _)| key.deadline_ns).min();
                prop_assert_eq!(queue.next_deadline_ns(), first);
            }
            model.sort();
            let mut expired = Vec::new();
            for now in 0..100 {
                while let Some(node) = queue.pop_expired(now) {
                    prop_assert!(node.key().deadline_ns == now);
                    expired.push((node.key(), node.payload.unwrap()));
                }
            }
            prop_assert_eq!(expired, model);
            prop_assert!(queue.is_empty());
        }
    }
}
