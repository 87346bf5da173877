//! A trie of address prefixes that never changes: who adds or removes makes a new one that shares all but one path with the old.
//!
//! So readers need no lock: whoever has the root of a version sees that version, whole, as long as it holds it (the kernel keeps
//! the root in an RCU cell). A change costs one node for each level, of which there are at most one more than
//! the key has bits and usually log2 of the number of prefixes; a look-up allocates nothing.
//!
//! Keys are 128 bits wide, those of shorter addresses left-aligned ([`Prefix`]); bits behind a prefix's length are zero. With
//! all keys of full length the trie is an ordered map, which is how routes of one prefix are kept in order.
//!
//! Key types: [`Prefix`], [`Node`] (the root stands for the trie), [`View`] (a trie being read).
//! Memory: nodes are made by a function that the caller gives and that may fail, which leaves the old version as it is; they
//! are let go of without recursion. Neighbours: `net`'s routing tables. Locks: none.

use alloc::sync::Arc;
use arrayvec::ArrayVec;

#[cfg(test)]
mod tests;

/// Bits of a key.
pub const KEY_BITS: u8 = 128;
/// More nodes than this are on no path.
const DEEPEST: usize = KEY_BITS as usize + 1;

/// Some leading bits of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The bits; zero behind `length`.
    pub key: u128,
    /// How many count.
    pub length: u8,
}

impl Prefix {
    /// The first `length` bits of `key` (at most all).
    pub fn new(key: u128, length: u8) -> Prefix {
        let length = length.min(KEY_BITS);
        Prefix { key: key & mask(length), length }
    }

    /// All bits of a key.
    pub fn exact(key: u128) -> Prefix {
        Prefix { key, length: KEY_BITS }
    }

    /// Whether a key begins with it.
    pub fn covers(&self, key: u128) -> bool {
        key & mask(self.length) == self.key
    }

    /// The last key that begins with it.
    pub fn last_key(&self) -> u128 {
        self.key | !mask(self.length)
    }
}

/// The first `length` bits set.
fn mask(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (KEY_BITS - length.min(KEY_BITS)) }
}

/// The bit behind the first `place` ones, as a child's number.
fn bit(key: u128, place: u8) -> usize {
    (key >> (KEY_BITS - 1 - place.min(KEY_BITS - 1)) & 1) as usize
}

/// How long the common start of two prefixes is.
fn common(left: &Prefix, right: &Prefix) -> u8 {
    let same = (left.key ^ right.key).leading_zeros() as u8;
    same.min(left.length).min(right.length)
}

type Link<V> = Option<Arc<Node<V>>>;
/// The nodes above a place, from the root on. A thousand bytes of stack: only changes need it, look-ups go down again instead.
type Path<'a, V> = ArrayVec<&'a Arc<Node<V>>, DEEPEST>;

/// A prefix with what is kept for it, or the place where two paths part.
#[derive(Debug)]
pub struct Node<V> {
    prefix: Prefix,
    value: Option<V>,
    children: [Link<V>; 2],
}

impl<V> Node<V> {
    /// Its prefix.
    pub fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// What is kept for it.
    pub fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }
}

impl<V: Clone> Node<V> {
    fn copy_with(&self, turn: usize, child: Link<V>) -> Node<V> {
        let mut children = self.children.clone();
        children[turn] = child;
        Node { prefix: self.prefix, value: self.value.clone(), children }
    }
}

impl<V> Drop for Node<V> {
    /// Lets go of what only this version has, one node after the other: a path is too deep for a kernel stack.
    fn drop(&mut self) {
        if self.children.iter().all(Option::is_none) {
            return;
        }
        let mut waiting = ArrayVec::<Arc<Node<V>>, { DEEPEST + 1 }>::new();
        waiting.extend(self.children.iter_mut().filter_map(Option::take));
        while let Some(node) = waiting.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                waiting.extend(node.children.iter_mut().filter_map(Option::take));
            }
        }
    }
}

/// One version of a trie with `prefix` set to `value` (what was there is replaced).
///
/// # Errors
/// What `make` says; nothing has changed then.
pub fn insert<V: Clone, E>(
    root: Option<&Arc<Node<V>>>,
    prefix: Prefix,
    value: V,
    make: impl Fn(Node<V>) -> Result<Arc<Node<V>>, E>,
) -> Result<Arc<Node<V>>, E> {
    let mut path = Path::new();
    let mut at = root;
    let mut children = [None, None];
    let mut place = prefix;
    while let Some(node) = at {
        let same = common(&node.prefix, &prefix);
        if same < node.prefix.length {
            // The new prefix is above the node, or beside it below a new fork.
            children[bit(node.prefix.key, same)] = Some(node.clone());
            place = Prefix::new(prefix.key, same);
            break;
        }
        if same == prefix.length {
            children = node.children.clone();
            break;
        }
        path.push(node);
        at = node.children[bit(prefix.key, same)].as_ref();
    }
    let mut made = if place == prefix {
        make(Node { prefix, value: Some(value), children })?
    } else {
        let leaf = make(Node { prefix, value: Some(value), children: [None, None] })?;
        children[bit(prefix.key, place.length)] = Some(leaf);
        make(Node { prefix: place, value: None, children })?
    };
    while let Some(parent) = path.pop() {
        made = make(parent.copy_with(bit(prefix.key, parent.prefix.length), Some(made)))?;
    }
    Ok(made)
}

/// One version of a trie without `prefix`; `None` if nothing is left. Without change if it is not there.
///
/// # Errors
/// What `make` says; nothing has changed then.
pub fn remove<V: Clone, E>(
    root: &Arc<Node<V>>,
    prefix: Prefix,
    make: impl Fn(Node<V>) -> Result<Arc<Node<V>>, E>,
) -> Result<Option<Arc<Node<V>>>, E> {
    let mut path = Path::new();
    let mut at = root;
    while at.prefix != prefix {
        let next = at.children[bit(prefix.key, at.prefix.length)].as_ref();
        let is_below = at.prefix.length < prefix.length && at.prefix.covers(prefix.key);
        let Some(next) = next.filter(|_| is_below) else { return Ok(Some(root.clone())) };
        path.push(at);
        at = next;
    }
    if at.value.is_none() {
        return Ok(Some(root.clone()));
    }
    let mut made = match &at.children {
        [Some(_), Some(_)] => {
            Some(make(Node { prefix: at.prefix, value: None, children: at.children.clone() })?)
        }
        [one, other] => one.as_ref().or(other.as_ref()).cloned(),
    };
    while let Some(parent) = path.pop() {
        let turn = bit(prefix.key, parent.prefix.length);
        made = match made {
            // A fork with one way left is none.
            None if parent.value.is_none() => parent.children[1 - turn].clone(),
            made => Some(make(parent.copy_with(turn, made))?),
        };
    }
    Ok(made)
}

/// A version of a trie being read.
#[derive(Debug)]
pub struct View<'a, V>(pub Option<&'a Node<V>>);

impl<V> Clone for View<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<V> Copy for View<'_, V> {}

impl<'a, V> View<'a, V> {
    /// Of a trie whose root is counted.
    pub fn of(root: Option<&'a Arc<Node<V>>>) -> View<'a, V> {
        View(root.map(|root| &**root))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The nodes whose prefixes a key begins with, shortest first, down to `length` bits.
    fn path(&self, key: u128, length: u8) -> impl Iterator<Item = &'a Node<V>> {
        let mut at = self.0;
        core::iter::from_fn(move || {
            let node = at.filter(|node| node.prefix.length <= length && node.prefix.covers(key))?;
            at = if node.prefix.length == length || node.prefix.length == KEY_BITS {
                None
            } else {
                node.children[bit(key, node.prefix.length)].as_deref()
            };
            Some(node)
        })
    }

    /// What is kept for exactly this prefix.
    pub fn get(&self, prefix: Prefix) -> Option<&'a V> {
        let last = self.path(prefix.key, prefix.length).last()?;
        last.value.as_ref().filter(|_| last.prefix == prefix)
    }

    /// Offers what is kept for the prefixes of `key`, longest first, until `accept` takes one. Each refusal costs a way down.
    pub fn find<R>(&self, key: u128, mut accept: impl FnMut(Prefix, &'a V) -> Option<R>) -> Option<R> {
        let mut length = KEY_BITS;
        loop {
            let node = self.path(key, length).filter(|node| node.value.is_some()).last()?;
            if let Some(found) = accept(node.prefix, node.value.as_ref()?) {
                return Some(found);
            }
            length = node.prefix.length.checked_sub(1)?;
        }
    }

    /// The prefix that comes behind `after` (first of all: `None`), ordered by first key, longer ones of the same first.
    pub fn next_by_start(&self, after: Option<Prefix>) -> Option<&'a Node<V>> {
        let mut from = 0;
        if let Some(after) = after {
            let above = after.length.checked_sub(1).and_then(|length| self.of_key(after.key, length));
            if above.is_some() {
                return above;
            }
            from = after.key.checked_add(1)?;
        }
        let key = self.first_key(from)?;
        self.of_key(key, KEY_BITS)
    }

    /// The longest prefix that something is kept for, of at most `length` bits, whose first key is this one.
    fn of_key(&self, key: u128, length: u8) -> Option<&'a Node<V>> {
        self.path(key, length).filter(|node| node.value.is_some() && node.prefix.key == key).last()
    }

    /// The smallest first key of a prefix that is not below `from`.
    fn first_key(&self, from: u128) -> Option<u128> {
        let mut at = self.0;
        // The nearest subtree to the right of the path.
        let mut right: Option<&Node<V>> = None;
        while let Some(node) = at {
            if node.prefix.key >= from {
                right = Some(node);
                break;
            }
            if node.prefix.last_key() < from {
                break;
            }
            let turn = bit(from, node.prefix.length);
            if turn == 0
                && let Some(other) = &node.children[1]
            {
                right = Some(other);
            }
            at = node.children[turn].as_deref();
        }
        let mut node = right?;
        while node.value.is_none() {
            node = node.children.iter().flatten().next()?;
        }
        Some(node.prefix.key)
    }

    /// The prefix that comes behind `after` (first of all: `None`), ordered so that what is inside a prefix comes before it.
    pub fn next_inner_first(&self, after: Option<Prefix>) -> Option<&'a Node<V>> {
        let Some(after) = after else { return innermost(self.0?) };
        let last = self.path(after.key, after.length).last();
        // A subtree that is not on the path but begins behind `after` may hang below the last of it.
        let last_length = last.map_or(0, |node| node.prefix.length);
        if last_length < after.length {
            let below = match last {
                Some(last) => last.children[bit(after.key, last_length)].as_deref(),
                None => self.0,
            };
            if let Some(beside) = below.filter(|node| node.prefix.key > after.last_key()) {
                return innermost(beside);
            }
        }
        // The lowest place of the path from where it goes on: to the right, or to what is kept for the place itself.
        let right = |node: &Node<V>| bit(after.key, node.prefix.length) == 0 && node.children[1].is_some();
        let node = self
            .path(after.key, after.length)
            .filter(|node| node.prefix.length < after.length && (right(node) || node.value.is_some()))
            .last()?;
        if right(node) { innermost(node.children[1].as_deref()?) } else { Some(node) }
    }
}

/// The first prefix of a subtree whose inner ones come first.
fn innermost<V>(mut node: &Node<V>) -> Option<&Node<V>> {
    while let Some(child) = node.children.iter().flatten().next() {
        node = child;
    }
    Some(node)
}
