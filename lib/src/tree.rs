//! An ordered tree that never allocates: a balanced (AVL) tree whose nodes are boxes the caller owns.
//!
//! The run queues and the timer queues work with interrupts off and under a spin lock, where calling the
//! allocator would be slow at best. So whoever will ever be queued brings the memory: a thread or a timer
//! owns its [`Node`] in a `Box` from birth, `insert` moves that box in, `remove` moves it out again. This is
//! what an intrusive list is in C, with ownership instead of pointers: a node is in one place at a time.
//!
//! Every node carries a *summary* of its subtree ([`Item::merge`]), which is what makes the "earliest
//! deadline among the eligible" of EEVDF an O(log n) question. All operations are O(log n); the recursion is
//! as deep as the tree is high, which is at most 1.44 log2 n.
//!
//! Neighbours: `sched`'s run queues and timers, `net`'s tables of ids, devices and sockets. No locks.

use alloc::boxed::Box;

/// What a [`Tree`] can hold.
pub trait Item {
    /// The sort key. Unique among the items of one tree (append a sequence number).
    type Key: Ord + Copy;
    /// What is known about a whole subtree; `()` when there is nothing to ask.
    type Summary: Copy;

    /// The key; must not change while the item is in a tree.
    fn key(&self) -> Self::Key;
    /// The summary of this item alone; must not change while the item is in a tree.
    fn summary(&self) -> Self::Summary;
    /// The summary of two sets of items put together: associative and commutative.
    fn merge(left: Self::Summary, right: Self::Summary) -> Self::Summary;
}

type Link<T> = Option<Box<Node<T>>>;

/// One item with the links that a [`Tree`] needs; derefs to the item.
pub struct Node<T: Item> {
    item: T,
    left: Link<T>,
    right: Link<T>,
    summary: T::Summary,
    height: u8,
}

impl<T: Item> Node<T> {
    /// A node that is in no tree yet.
    pub fn new(item: T) -> Self {
        let summary = item.summary();
        Self { item, left: None, right: None, summary, height: 1 }
    }

    /// Recomputes height and summary from the children.
    fn update(&mut self) {
        let mut summary = self.item.summary();
        let mut height = 0;
        if let Some(left) = &self.left {
            summary = T::merge(summary, left.summary);
            height = left.height;
        }
        if let Some(right) = &self.right {
            summary = T::merge(summary, right.summary);
            height = height.max(right.height);
        }
        self.summary = summary;
        self.height = height + 1;
    }

    /// Height of the left subtree minus that of the right one.
    fn lean(&self) -> i32 {
        i32::from(height(&self.left)) - i32::from(height(&self.right))
    }

    /// Makes the node a lone leaf again, as `Tree::insert` expects it. The children must have been taken.
    fn detach(&mut self) {
        debug_assert!(self.left.is_none() && self.right.is_none());
        self.height = 1;
        self.summary = self.item.summary();
    }
}

impl<T: Item> core::ops::Deref for Node<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: Item> core::ops::DerefMut for Node<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.item
    }
}

fn height<T: Item>(link: &Link<T>) -> u8 {
    link.as_ref().map_or(0, |node| node.height)
}

/// Lifts the left child above `node`; returns the new top.
fn rotate_right<T: Item>(mut node: Box<Node<T>>) -> Box<Node<T>> {
    let Some(mut top) = node.left.take() else { return node };
    node.left = top.right.take();
    node.update();
    top.right = Some(node);
    top.update();
    top
}

/// Lifts the right child above `node`; returns the new top.
fn rotate_left<T: Item>(mut node: Box<Node<T>>) -> Box<Node<T>> {
    let Some(mut top) = node.right.take() else { return node };
    node.right = top.left.take();
    node.update();
    top.left = Some(node);
    top.update();
    top
}

/// Restores the AVL property at `node`, whose subtrees are balanced and differ by at most two in height.
fn balance<T: Item>(mut node: Box<Node<T>>) -> Box<Node<T>> {
    let lean = node.lean();
    if lean > 1 {
        if let Some(left) = node.left.take() {
            node.left = Some(if left.lean() < 0 { rotate_left(left) } else { left });
        }
        rotate_right(node)
    } else if lean < -1 {
        if let Some(right) = node.right.take() {
            node.right = Some(if right.lean() > 0 { rotate_right(right) } else { right });
        }
        rotate_left(node)
    } else {
        node.update();
        node
    }
}

/// [`balance`] for whatever hangs on `link`.
fn balance_link<T: Item>(link: &mut Link<T>) {
    if let Some(node) = link.take() {
        *link = Some(balance(node));
    }
}

fn insert_at<T: Item>(link: &mut Link<T>, new: Box<Node<T>>) {
    let Some(mut node) = link.take() else {
        *link = Some(new);
        return;
    };
    if new.key() < node.key() {
        insert_at(&mut node.left, new);
    } else {
        insert_at(&mut node.right, new);
    }
    *link = Some(balance(node));
}

/// Takes the leftmost node out of a subtree.
fn take_leftmost<T: Item>(link: &mut Link<T>) -> Link<T> {
    let mut node = link.take()?;
    if node.left.is_none() {
        *link = node.right.take();
        return Some(node);
    }
    let taken = take_leftmost(&mut node.left);
    *link = Some(balance(node));
    taken
}

/// Takes the top node of a subtree out and joins its children.
fn take_top<T: Item>(link: &mut Link<T>) -> Link<T> {
    let mut node = link.take()?;
    *link = match (node.left.take(), node.right.take()) {
        (None, other) | (other, None) => other,
        (left, mut right) => {
            let mut successor = take_leftmost(&mut right)?;
            successor.left = left;
            successor.right = right;
            Some(balance(successor))
        }
    };
    node.detach();
    Some(node)
}

fn remove_at<T: Item>(link: &mut Link<T>, key: &T::Key) -> Link<T> {
    let node = link.as_mut()?;
    let taken = match key.cmp(&node.key()) {
        core::cmp::Ordering::Less => remove_at(&mut node.left, key),
        core::cmp::Ordering::Greater => remove_at(&mut node.right, key),
        core::cmp::Ordering::Equal => return take_top(link),
    };
    if taken.is_some() {
        balance_link(link);
    }
    taken
}

fn take_first_where_at<T: Item>(link: &mut Link<T>, admits: &impl Fn(T::Summary) -> bool) -> Link<T> {
    let node = link.as_mut()?;
    let taken = if node.left.as_ref().is_some_and(|left| admits(left.summary)) {
        take_first_where_at(&mut node.left, admits)
    } else if admits(node.item.summary()) {
        return take_top(link);
    } else {
        take_first_where_at(&mut node.right, admits)
    };
    if taken.is_some() {
        balance_link(link);
    }
    taken
}

fn refresh_at<T: Item>(link: &mut Link<T>, key: &T::Key) {
    let Some(node) = link else { return };
    match key.cmp(&node.key()) {
        core::cmp::Ordering::Less => refresh_at(&mut node.left, key),
        core::cmp::Ordering::Greater => refresh_at(&mut node.right, key),
        core::cmp::Ordering::Equal => {}
    }
    node.update();
}

fn find_at<'t, T: Item>(link: &'t Link<T>, wanted: &mut impl FnMut(&T) -> bool) -> Option<&'t T> {
    let node = link.as_ref()?;
    if let Some(found) = find_at(&node.left, wanted) {
        return Some(found);
    }
    if wanted(&node.item) { Some(&node.item) } else { find_at(&node.right, wanted) }
}

/// An ordered set of boxed nodes. See the module's head.
pub struct Tree<T: Item> {
    root: Link<T>,
    len: usize,
}

impl<T: Item> Default for Tree<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Item> Tree<T> {
    /// An empty tree.
    pub const fn new() -> Self {
        Self { root: None, len: 0 }
    }

    /// How many items it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Adds a node. Its key must not be in the tree yet.
    pub fn insert(&mut self, mut node: Box<Node<T>>) {
        node.detach();
        insert_at(&mut self.root, node);
        self.len += 1;
    }

    /// Takes the node with this key out, if it is there.
    pub fn remove(&mut self, key: &T::Key) -> Option<Box<Node<T>>> {
        let taken = remove_at(&mut self.root, key);
        self.account_taken(taken)
    }

    /// The item with this key.
    pub fn get(&self, key: &T::Key) -> Option<&T> {
        let mut node = self.root.as_ref()?;
        loop {
            node = match key.cmp(&node.key()) {
                core::cmp::Ordering::Less => node.left.as_ref()?,
                core::cmp::Ordering::Greater => node.right.as_ref()?,
                core::cmp::Ordering::Equal => return Some(&node.item),
            };
        }
    }

    /// The item with this key, to be changed. If its summary changes, call [`Self::refresh`] next; the key must not.
    pub fn get_mut(&mut self, key: &T::Key) -> Option<&mut T> {
        let mut node = self.root.as_mut()?;
        loop {
            node = match key.cmp(&node.key()) {
                core::cmp::Ordering::Less => node.left.as_mut()?,
                core::cmp::Ordering::Greater => node.right.as_mut()?,
                core::cmp::Ordering::Equal => return Some(&mut node.item),
            };
        }
    }

    /// Sums up again on the way to the item with this key, whose summary has changed.
    pub fn refresh(&mut self, key: &T::Key) {
        refresh_at(&mut self.root, key);
    }

    /// All nodes one by one in key order, each in O(1) on average: cheaper than taking the first again and again, because
    /// nothing is balanced.
    pub fn drain(self) -> Drain<T> {
        Drain { rest: self.root }
    }

    /// Takes the item with the smallest key out.
    pub fn pop_first(&mut self) -> Option<Box<Node<T>>> {
        let taken = take_leftmost(&mut self.root);
        self.account_taken(taken)
    }

    /// Takes out the first item (in key order) whose own summary `admits` accepts. `admits` must accept the
    /// summary of a subtree exactly when it accepts that of one of its items.
    pub fn take_first_where(&mut self, admits: impl Fn(T::Summary) -> bool) -> Option<Box<Node<T>>> {
        let taken = take_first_where_at(&mut self.root, &admits);
        self.account_taken(taken)
    }

    fn account_taken(&mut self, taken: Link<T>) -> Link<T> {
        let mut node = taken?;
        node.detach();
        self.len -= 1;
        Some(node)
    }

    /// The first item (in key order) whose own summary `admits` accepts; see [`Self::take_first_where`].
    pub fn first_where(&self, admits: impl Fn(T::Summary) -> bool) -> Option<&T> {
        let mut link = &self.root;
        while let Some(node) = link {
            if node.left.as_ref().is_some_and(|left| admits(left.summary)) {
                link = &node.left;
            } else if admits(node.item.summary()) {
                return Some(&node.item);
            } else {
                link = &node.right;
            }
        }
        None
    }

    /// The item with the smallest key.
    pub fn first(&self) -> Option<&T> {
        let mut node = self.root.as_ref()?;
        while let Some(left) = &node.left {
            node = left;
        }
        Some(&node.item)
    }

    /// The item with the smallest key that is not below `key`.
    pub fn first_from(&self, key: &T::Key) -> Option<&T> {
        let mut best = None;
        let mut link = &self.root;
        while let Some(node) = link {
            if node.key() >= *key {
                best = Some(&node.item);
                link = &node.left;
            } else {
                link = &node.right;
            }
        }
        best
    }

    /// The item with the largest key that is not above `key`.
    pub fn last_to(&self, key: &T::Key) -> Option<&T> {
        let mut best = None;
        let mut link = &self.root;
        while let Some(node) = link {
            if node.key() <= *key {
                best = Some(&node.item);
                link = &node.right;
            } else {
                link = &node.left;
            }
        }
        best
    }

    /// Walks down from the top: `turn` is given the summary of what is left of an item, and the item, and says where to
    /// go on. Gives the item at which it says [`Turn::Here`]. O(log n).
    pub fn descend(&self, mut turn: impl FnMut(Option<T::Summary>, &T) -> Turn) -> Option<&T> {
        let mut link = &self.root;
        while let Some(node) = link {
            match turn(node.left.as_ref().map(|left| left.summary), &node.item) {
                Turn::Left => link = &node.left,
                Turn::Right => link = &node.right,
                Turn::Here => return Some(&node.item),
            }
        }
        None
    }

    /// The summary of all items; `None` when empty.
    pub fn summary(&self) -> Option<T::Summary> {
        self.root.as_ref().map(|node| node.summary)
    }

    /// The first item in key order that `wanted` accepts: O(n), for searches that cannot be asked by key.
    pub fn find(&self, mut wanted: impl FnMut(&T) -> bool) -> Option<&T> {
        find_at(&self.root, &mut wanted)
    }
}

/// Where [`Tree::descend`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Smaller keys.
    Left,
    /// Greater keys.
    Right,
    /// This item is the one.
    Here,
}

/// The nodes of a tree that is being emptied; see [`Tree::drain`].
pub struct Drain<T: Item> {
    rest: Link<T>,
}

impl<T: Item> Iterator for Drain<T> {
    type Item = Box<Node<T>>;

    /// Turns left children up until there is none: each node is turned up once in all.
    fn next(&mut self) -> Option<Box<Node<T>>> {
        let mut node = self.rest.take()?;
        while let Some(mut left) = node.left.take() {
            node.left = left.right.take();
            left.right = Some(node);
            node = left;
        }
        self.rest = node.right.take();
        node.detach();
        Some(node)
    }
}

impl<T: Item> Drop for Drain<T> {
    /// One by one: what is half emptied may be as deep as it is large.
    fn drop(&mut self) {
        while self.next().is_some() {}
    }
}

/// Boxed nodes in a pile, last in, first out: for those that are in no tree but must be kept without allocating.
pub struct Pile<T: Item> {
    top: Link<T>,
}

impl<T: Item> Default for Pile<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Item> Pile<T> {
    /// An empty pile.
    pub const fn new() -> Self {
        Self { top: None }
    }

    /// Puts a node on top.
    pub fn push(&mut self, mut node: Box<Node<T>>) {
        node.left = self.top.take();
        self.top = Some(node);
    }

    /// Takes the topmost node.
    pub fn pop(&mut self) -> Option<Box<Node<T>>> {
        let mut node = self.top.take()?;
        self.top = node.left.take();
        Some(node)
    }

    /// Turns it over: what was pushed first is popped first.
    pub fn reversed(mut self) -> Self {
        let mut other = Self::new();
        while let Some(node) = self.pop() {
            other.push(node);
        }
        other
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.top.is_none()
    }
}

impl<T: Item> Drop for Pile<T> {
    /// One after the other: dropping a box of a box of a box would need a stack as deep as the pile is high.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[derive(Debug)]
    struct Probe {
        key: u16,
        value: i32,
    }

    impl Item for Probe {
        type Key = u16;
        type Summary = i32;
        fn key(&self) -> u16 {
            self.key
        }
        fn summary(&self) -> i32 {
            self.value
        }
        fn merge(left: i32, right: i32) -> i32 {
            left.min(right)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, i32),
        Remove(u16),
        Pop,
        TakeAtMost(i32),
        Change(u16, i32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u16..200, -50i32..50).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => (0u16..200).prop_map(Step::Remove),
            1 => Just(Step::Pop),
            2 => (-50i32..50).prop_map(Step::TakeAtMost),
            2 => (0u16..200, -50i32..50).prop_map(|(key, value)| Step::Change(key, value)),
        ]
    }

    /// Checks order, balance, heights and summaries below `link`.
    fn check(link: &Link<Probe>, low: Option<u16>, high: Option<u16>) -> (u8, Option<i32>, usize) {
        let Some(node) = link else { return (0, None, 0) };
        assert!(low.is_none_or(|low| low < node.key) && high.is_none_or(|high| node.key < high));
        let (left_height, left_min, left_len) = check(&node.left, low, Some(node.key));
        let (right_height, right_min, right_len) = check(&node.right, Some(node.key), high);
        assert!(left_height.abs_diff(right_height) <= 1, "out of balance");
        assert_eq!(node.height, left_height.max(right_height) + 1);
        let least = [left_min, right_min, Some(node.value)].into_iter().flatten().min();
        assert_eq!(Some(node.summary), least);
        (node.height, least, left_len + right_len + 1)
    }

    proptest! {
        #[test]
        fn agrees_with_a_btree_map(steps in proptest::collection::vec(step(), 1..crate::length(400))) {
            let mut tree = Tree::new();
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        if model.insert(key, value).is_some() {
                            tree.remove(&key).unwrap();
                        }
                        tree.insert(Box::new(Node::new(Probe { key, value })));
                    }
                    Step::Remove(key) => {
                        let next = model.range(key..).next().map(|(key, _)| *key);
                        prop_assert_eq!(tree.first_from(&key).map(|probe| probe.key), next);
                        let last = model.range(..=key).next_back().map(|(key, _)| *key);
                        prop_assert_eq!(tree.last_to(&key).map(|probe| probe.key), last);
                        prop_assert_eq!(tree.get(&key).map(|probe| probe.value), model.get(&key).copied());
                        let taken = tree.remove(&key).map(|node| node.value);
                        prop_assert_eq!(taken, model.remove(&key));
                    }
                    Step::Pop => {
                        prop_assert_eq!(tree.pop_first().map(|node| node.key), model.pop_first().map(|(key, _)| key));
                    }
                    Step::TakeAtMost(limit) => {
                        let wanted = model.iter().find(|(_, value)| **value <= limit).map(|(key, _)| *key);
                        prop_assert_eq!(tree.first_where(|least| least <= limit).map(|probe| probe.key), wanted);
                        let taken = tree.take_first_where(|least| least <= limit).map(|node| node.key);
                        prop_assert_eq!(taken, wanted);
                        if let Some(key) = wanted {
                            model.remove(&key);
                        }
                    }
                    Step::Change(key, value) => {
                        let found = tree.get_mut(&key).map(|probe| probe.value = value);
                        tree.refresh(&key);
                        prop_assert_eq!(found, model.get_mut(&key).map(|old| *old = value));
                    }
                }
                let (_, _, len) = check(&tree.root, None, None);
                prop_assert_eq!(len, model.len());
                prop_assert_eq!(tree.len(), model.len());
                prop_assert_eq!(tree.first().map(|probe| probe.key), model.keys().next().copied());
            }
            let mut rest = tree.drain();
            if let Some((key, _)) = model.pop_first() {
                let node = rest.next().unwrap();
                prop_assert_eq!((node.key, node.height, node.summary), (key, 1, node.value));
            }
            prop_assert!(rest.map(|node| node.key).eq(model.into_keys()));
        }
    }

    #[test]
    fn stays_shallow() {
        let mut tree = Tree::new();
        let keys = if cfg!(miri) { 500 } else { 10_000u16 };
        for key in 0..keys {
            tree.insert(Box::new(Node::new(Probe { key, value: 0 })));
        }
        assert!(height(&tree.root) <= 17);
        let order: Vec<u16> = core::iter::from_fn(|| tree.pop_first()).map(|node| node.key).collect();
        assert!(order.iter().copied().eq(0..keys));
    }
}
