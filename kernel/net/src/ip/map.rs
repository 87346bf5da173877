//! An ordered map that is read without a lock: a [`linnet_lib::fib`] trie of whole keys in an RCU cell.
//!
//! Key type: `RcuMap`. Readers are in an RCU section for the look-up only and get a copy of the value (an `Arc` as a rule).
//! Who changes it holds the lock that its owner names: changes do not wait for each other here.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use linnet_lib::fib::{self, Node, Prefix, View};
use machine::memory::try_arc;
use machine::sync::{RcuArc, rcu};

/// Makes a node of a trie. `ENOMEM`.
pub(crate) fn make<V>(node: Node<V>) -> Result<Arc<Node<V>>> {
    Ok(try_arc(node)?)
}

/// Waits for memory that readers may still see, for who must not fail.
const PATIENCE: usize = 3;

/// Tries to take something away, which needs a little memory; waits for some where it may.
pub(crate) fn insist<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..PATIENCE {
        match attempt() {
            Err(Errno::ENOMEM) if machine::preempt::may_sleep() => rcu::synchronize(),
            other => return other,
        }
    }
    attempt()
}

/// See the module.
pub(crate) struct RcuMap<V: Clone + Send + Sync + 'static> {
    root: RcuArc<Node<V>>,
}

impl<V: Clone + Send + Sync + 'static> RcuMap<V> {
    pub(crate) const fn new() -> RcuMap<V> {
        RcuMap { root: RcuArc::empty() }
    }

    /// What is kept for a key. Any context.
    pub(crate) fn get(&self, key: u128) -> Option<V> {
        let guard = rcu::read_lock();
        View(self.root.load(&guard)).get(Prefix::exact(key)).cloned()
    }

    /// Whether there is something for a key. Any context.
    pub(crate) fn has(&self, key: u128) -> bool {
        let guard = rcu::read_lock();
        View(self.root.load(&guard)).get(Prefix::exact(key)).is_some()
    }

    /// The first entry from a key on.
    pub(crate) fn first_from(&self, key: u128) -> Option<(u128, V)> {
        let guard = rcu::read_lock();
        let node = View(self.root.load(&guard)).next_by_start(key.checked_sub(1).map(Prefix::exact))?;
        Some((node.prefix().key, node.value()?.clone()))
    }

    /// Offers the values from a key on, in order, until `accept` takes one. It runs in the RCU section: it must not sleep.
    pub(crate) fn find<R>(&self, from: u128, mut accept: impl FnMut(u128, &V) -> Option<R>) -> Option<R> {
        let guard = rcu::read_lock();
        let view = View(self.root.load(&guard));
        let mut at = from.checked_sub(1).map(Prefix::exact);
        loop {
            let node = view.next_by_start(at)?;
            at = Some(node.prefix());
            if let Some(found) = node.value().and_then(|value| accept(node.prefix().key, value)) {
                return Some(found);
            }
        }
    }

    /// All values, in order, one version of them. Costs a count of each; thread context.
    pub(crate) fn iter(&self) -> Iter<V> {
        Iter { root: self.root.load_arc(), at: None }
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Sets what is kept for a key. `ENOMEM`.
    pub(crate) fn set(&self, key: u128, value: V) -> Result<()> {
        let old = self.root.load_arc();
        self.root.replace(Some(fib::insert(old.as_ref(), Prefix::exact(key), value, make)?));
        Ok(())
    }

    /// Takes a key out. `ENOMEM`, after waiting for some.
    pub(crate) fn remove(&self, key: u128) -> Result<()> {
        insist(|| {
            let Some(old) = self.root.load_arc() else { return Ok(()) };
            self.root.replace(fib::remove(&old, Prefix::exact(key), make)?);
            Ok(())
        })
    }

    /// Takes everything out.
    pub(crate) fn clear(&self) {
        self.root.replace(None);
    }
}

/// One version of a map, entry by entry.
pub(crate) struct Iter<V> {
    root: Option<Arc<Node<V>>>,
    at: Option<Prefix>,
}

impl<V: Clone> Iterator for Iter<V> {
    type Item = V;
    fn next(&mut self) -> Option<V> {
        let node = View::of(self.root.as_ref()).next_by_start(self.at)?;
        self.at = Some(node.prefix());
        node.value().cloned()
    }
}

/// What a group of a [`Groups`] is: an ordered map in one version.
pub(crate) type Group<V> = Arc<Node<V>>;

/// Values in order for each of some prefixes, found by the longest prefix: a trie of tries. Read and changed as a [`RcuMap`].
pub(crate) struct Groups<V: Clone + Send + Sync + 'static> {
    root: RcuArc<Node<Group<V>>>,
}

impl<V: Clone + Send + Sync + 'static> Groups<V> {
    pub(crate) const fn new() -> Groups<V> {
        Groups { root: RcuArc::empty() }
    }

    /// Offers the values of exactly this prefix, in order, until `accept` takes one. It must not sleep.
    pub(crate) fn find<R>(&self, prefix: Prefix, accept: impl FnMut(u128, &V) -> Option<R>) -> Option<R> {
        let guard = rcu::read_lock();
        let group = View(self.root.load(&guard)).get(prefix)?;
        find_in(group, accept)
    }

    /// Offers the values of all prefixes that a key begins with, the longest prefix's first, until `accept` takes one. It must
    /// not sleep.
    pub(crate) fn find_longest<R>(
        &self,
        key: u128,
        mut accept: impl FnMut(Prefix, &V) -> Option<R>,
    ) -> Option<R> {
        let guard = rcu::read_lock();
        View(self.root.load(&guard))
            .find(key, |prefix, group| find_in(group, |_, value| accept(prefix, value)))
    }

    /// The values of exactly this prefix, in order, one version of them, for who goes through them with preemption on.
    pub(crate) fn values(&self, prefix: Prefix) -> Iter<V> {
        let guard = rcu::read_lock();
        Iter { root: View(self.root.load(&guard)).get(prefix).cloned(), at: None }
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// One version of all of it, for who goes through it.
    pub(crate) fn version(&self) -> Option<Arc<Node<Group<V>>>> {
        self.root.load_arc()
    }

    /// Sets a value. `ENOMEM`.
    pub(crate) fn set(&self, prefix: Prefix, key: u128, value: V) -> Result<()> {
        let old = self.root.load_arc();
        let group = View::of(old.as_ref()).get(prefix);
        let group = fib::insert(group, Prefix::exact(key), value, make)?;
        self.root.replace(Some(fib::insert(old.as_ref(), prefix, group, make)?));
        Ok(())
    }

    /// Takes a value out. `ENOMEM`, after waiting for some.
    pub(crate) fn remove(&self, prefix: Prefix, key: u128) -> Result<()> {
        insist(|| {
            let Some(old) = self.root.load_arc() else { return Ok(()) };
            let Some(group) = View::of(Some(&old)).get(prefix) else { return Ok(()) };
            let new = match fib::remove(group, Prefix::exact(key), make)? {
                Some(group) => Some(fib::insert(Some(&old), prefix, group, make)?),
                None => fib::remove(&old, prefix, make)?,
            };
            self.root.replace(new);
            Ok(())
        })
    }

    /// Takes everything out.
    pub(crate) fn clear(&self) {
        self.root.replace(None);
    }
}

fn find_in<V, R>(group: &Group<V>, mut accept: impl FnMut(u128, &V) -> Option<R>) -> Option<R> {
    let view = View(Some(&**group));
    let mut at = None;
    loop {
        let node = view.next_by_start(at)?;
        at = Some(node.prefix());
        if let Some(found) = node.value().and_then(|value| accept(node.prefix().key, value)) {
            return Some(found);
        }
    }
}

/// The values of a group, in order.
pub(crate) fn values_of<V: Clone>(group: &Group<V>) -> Iter<V> {
    Iter { root: Some(group.clone()), at: None }
}
