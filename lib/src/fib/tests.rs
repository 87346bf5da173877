//! The trie against a sorted map, and what it costs.

use super::*;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::Cell;
use proptest::prelude::*;
use std::rc::Rc;

fn make<V>(node: Node<V>) -> Result<Arc<Node<V>>, ()> {
    Ok(Arc::new(node))
}

/// Prefixes that often nest and collide: few bits set, in few places.
fn prefixes() -> impl Strategy<Value = Prefix> {
    let narrow = (0u128..16, 0u8..6).prop_map(|(key, length)| Prefix::new(key << 124, length));
    let wide = (any::<u128>(), 0u8..=128).prop_map(|(key, length)| Prefix::new(key, length));
    let deep = (0u8..=128).prop_map(|length| Prefix::new(u128::MAX, length));
    let low = (0u128..4, 120u8..=128).prop_map(|(key, length)| Prefix::new(key, length));
    prop_oneof![4 => narrow, 1 => wide, 1 => deep, 2 => low]
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Prefix, u32),
    Remove(Prefix),
    Find(u128),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (prefixes(), any::<u32>()).prop_map(|(prefix, value)| Step::Insert(prefix, value)),
        2 => prefixes().prop_map(Step::Remove),
        1 => prefixes().prop_map(|prefix| Step::Find(prefix.key)),
    ];
    proptest::collection::vec(step, 0..120)
}

/// Every node that has no value is a fork, children are inside their parents, on the right side.
fn check<V>(node: &Node<V>) {
    if node.value.is_none() {
        assert!(node.children.iter().all(Option::is_some));
    }
    for (turn, child) in node.children.iter().enumerate() {
        let Some(child) = child else { continue };
        assert!(child.prefix.length > node.prefix.length && node.prefix.covers(child.prefix.key));
        assert_eq!(bit(child.prefix.key, node.prefix.length), turn);
        check(child);
    }
}

fn all<'a>(
    view: View<'a, u32>,
    next: impl Fn(&View<'a, u32>, Option<Prefix>) -> Option<&'a Node<u32>>,
) -> Vec<Prefix> {
    let mut found = Vec::new();
    let mut at = None;
    while let Some(node) = next(&view, at) {
        assert!(node.value().is_some());
        found.push(node.prefix());
        at = Some(node.prefix());
        assert!(found.len() < 1000, "it goes round");
    }
    found
}

proptest! {
    #[test]
    fn agrees_with_a_map(steps in steps(), cursor in prefixes()) {
        let mut root: Option<Arc<Node<u32>>> = None;
        let mut model = BTreeMap::<Prefix, u32>::new();
        let mut versions = Vec::new();
        for step in steps {
            match step {
                Step::Insert(prefix, value) => {
                    root = Some(insert(root.as_ref(), prefix, value, make).unwrap());
                    model.insert(prefix, value);
                }
                Step::Remove(prefix) => {
                    if let Some(old) = &root {
                        root = remove(old, prefix, make).unwrap();
                    }
                    model.remove(&prefix);
                }
                Step::Find(key) => {
                    let mut offered = Vec::new();
                    let taken: Option<()> = View::of(root.as_ref()).find(key, |prefix, value| {
                        offered.push((prefix, *value));
                        None
                    });
                    prop_assert_eq!(taken, None);
                    let mut wanted: Vec<_> = model.iter().filter(|(prefix, _)| prefix.covers(key)).map(|(prefix, value)| (*prefix, *value)).collect();
                    wanted.sort_by_key(|(prefix, _)| core::cmp::Reverse(prefix.length));
                    prop_assert_eq!(offered, wanted);
                }
            }
            root.as_deref().into_iter().for_each(check);
            versions.push((root.clone(), model.clone()));
        }
        // Old versions are as they were.
        for (root, model) in &versions {
            let view = View::of(root.as_ref());
            for (prefix, value) in model {
                prop_assert_eq!(view.get(*prefix), Some(value));
            }
            let mut by_start: Vec<Prefix> = model.keys().copied().collect();
            by_start.sort_by_key(|prefix| (prefix.key, core::cmp::Reverse(prefix.length)));
            prop_assert_eq!(all(view, View::next_by_start), by_start);
            let mut inner_first: Vec<Prefix> = model.keys().copied().collect();
            inner_first.sort_by_key(|prefix| (prefix.last_key(), core::cmp::Reverse(prefix.length)));
            prop_assert_eq!(all(view, View::next_inner_first), inner_first.clone());
            // A cursor that is not there any more goes on where it would be.
            let next = view.next_inner_first(Some(cursor)).map(Node::prefix);
            let order = |prefix: &Prefix| (prefix.last_key(), core::cmp::Reverse(prefix.length));
            prop_assert_eq!(next, inner_first.into_iter().find(|prefix| order(prefix) > order(&cursor)));
            let next = view.next_by_start(Some(cursor)).map(Node::prefix);
            let order = |prefix: &Prefix| (prefix.key, core::cmp::Reverse(prefix.length));
            let mut by_start: Vec<Prefix> = model.keys().copied().collect();
            by_start.sort_by_key(order);
            prop_assert_eq!(next, by_start.into_iter().find(|prefix| order(prefix) > order(&cursor)));
        }
    }

    #[test]
    fn a_failure_leaves_the_old_version(keys in proptest::collection::vec(prefixes(), 1..40), after in 0usize..200) {
        let left = Cell::new(after);
        let make = |node: Node<u32>| {
            let now = left.get().checked_sub(1).ok_or(())?;
            left.set(now);
            Ok::<_, ()>(Arc::new(node))
        };
        let mut root: Option<Arc<Node<u32>>> = None;
        let mut model = BTreeMap::new();
        for (index, prefix) in keys.iter().enumerate() {
            match insert(root.as_ref(), *prefix, index as u32, make) {
                Ok(new) => {
                    model.insert(*prefix, index as u32);
                    root = Some(new);
                }
                Err(()) => break,
            }
        }
        let mut wanted: Vec<Prefix> = model.keys().copied().collect();
        wanted.sort_by_key(|prefix| (prefix.key, core::cmp::Reverse(prefix.length)));
        prop_assert_eq!(all(View::of(root.as_ref()), View::next_by_start), wanted);
    }
}

#[test]
fn changes_and_look_ups_cost_a_path() {
    let made = Cell::new(0usize);
    let make = |node: Node<u32>| {
        made.set(made.get() + 1);
        Ok::<_, ()>(Arc::new(node))
    };
    let mut root = None;
    let mut key = 1u32;
    let prefixes = if cfg!(miri) { 200 } else { 100_000 };
    for index in 0..prefixes {
        key = key.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let prefix = Prefix::new(u128::from(key) << 96, 32);
        made.set(0);
        root = Some(insert(root.as_ref(), prefix, index, make).unwrap());
        assert!(made.get() <= 34);
    }
    made.set(0);
    insert(root.as_ref(), Prefix::new(u128::from(0xdead_beefu32) << 96, 32), 1, make).unwrap();
    assert!(made.get() <= 30, "{} nodes for one more of {prefixes}", made.get());
}

#[test]
fn what_only_an_old_version_has_goes_with_it() {
    let counted = Rc::new(());
    let mut root: Option<Arc<Node<Rc<()>>>> = None;
    // As deep as it gets.
    for length in 0..=128 {
        root = Some(insert(root.as_ref(), Prefix::new(u128::MAX, length), counted.clone(), make).unwrap());
        root = Some(
            insert(
                root.as_ref(),
                Prefix::new(!(u128::MAX >> 1 >> length.min(127)), 128),
                counted.clone(),
                make,
            )
            .unwrap(),
        );
    }
    let old = root.clone();
    for length in 0..=128 {
        root = root.and_then(|root| remove(&root, Prefix::new(u128::MAX, length), make).unwrap());
    }
    drop(old);
    let left = Rc::strong_count(&counted) - 1;
    let mut listed = 0;
    let mut at = None;
    while let Some(node) = View::of(root.as_ref()).next_by_start(at) {
        listed += 1;
        at = Some(node.prefix());
    }
    assert_eq!(left, listed);
    drop(root);
    assert_eq!(Rc::strong_count(&counted), 1);
}
