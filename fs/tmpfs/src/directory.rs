//! The entries of one directory: by name for lookups, by cookie for listings.
//!
//! A cookie is given to an entry when it is made and never again, so a listing that is interrupted by any number of changes
//! goes on after the last entry it gave: it shows every entry that was there all the time exactly once
//! (readdir(3), POSIX). It goes from the newest to the oldest, as Linux does: what is made meanwhile is not shown, so
//! a program that renames each file it is told ends. Both maps are balanced trees: nothing here is worse than O(log n).
//!
//! Key type: [`Entries`]. Locks: the owner holds one around it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// The position before the newest entry: 0 and 1 stand before `.` and `..`, which are not stored.
pub const START: u64 = 2;
/// The cookie of the first entry that is made.
const FIRST_COOKIE: u64 = START + 1;

/// The names in a directory, each with a `T`.
pub struct Entries<T> {
    by_name: BTreeMap<Arc<[u8]>, (u64, T)>,
    by_cookie: BTreeMap<u64, Arc<[u8]>>,
    next_cookie: u64,
}

impl<T: Clone> Entries<T> {
    /// No entries.
    pub fn new() -> Self {
        Entries { by_name: BTreeMap::new(), by_cookie: BTreeMap::new(), next_cookie: FIRST_COOKIE }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// What has this name.
    pub fn get(&self, name: &[u8]) -> Option<&T> {
        self.by_name.get(name).map(|(_, value)| value)
    }

    /// Adds an entry. Gives the value back if the name is taken.
    pub fn insert(&mut self, name: &[u8], value: T) -> Result<(), T> {
        if self.by_name.contains_key(name) {
            return Err(value);
        }
        let name: Arc<[u8]> = Arc::from(name);
        self.by_cookie.insert(self.next_cookie, name.clone());
        self.by_name.insert(name, (self.next_cookie, value));
        self.next_cookie += 1;
        Ok(())
    }

    /// Puts another value under a name that exists; gives the old one.
    pub fn replace(&mut self, name: &[u8], value: T) -> Option<T> {
        self.by_name.get_mut(name).map(|(_, place)| core::mem::replace(place, value))
    }

    /// Removes an entry.
    pub fn remove(&mut self, name: &[u8]) -> Option<T> {
        let (cookie, value) = self.by_name.remove(name)?;
        self.by_cookie.remove(&cookie);
        Some(value)
    }

    /// The next entry of a listing that has come to `position`: the position after it, the name, the value.
    pub fn next_from(&self, position: u64) -> Option<(u64, Arc<[u8]>, T)> {
        let end = if position <= START { u64::MAX } else { position };
        let (&cookie, name) = self.by_cookie.range(..end).next_back()?;
        let (_, value) = self.by_name.get(name)?;
        Some((cookie, name.clone(), value.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap as Model;

    fn list<T: Clone>(entries: &Entries<T>) -> Vec<Vec<u8>> {
        let mut cookie = 0;
        let mut names = Vec::new();
        while let Some((next, name, _)) = entries.next_from(cookie) {
            names.push(name.to_vec());
            cookie = next;
        }
        names
    }

    #[test]
    fn a_listing_survives_changes_between_its_parts() {
        let mut entries = Entries::new();
        for name in [b"a", b"b", b"c", b"d"] {
            entries.insert(name, 0).unwrap();
        }
        let (cookie, name, _) = entries.next_from(0).unwrap();
        assert_eq!(&*name, b"d");
        entries.remove(b"d");
        entries.remove(b"b");
        entries.insert(b"e", 0).unwrap();
        let (cookie, name, _) = entries.next_from(cookie).unwrap();
        assert_eq!(&*name, b"c");
        let (cookie, name, _) = entries.next_from(cookie).unwrap();
        assert_eq!(&*name, b"a");
        assert!(entries.next_from(cookie).is_none());
        assert_eq!(list(&entries), [b"e", b"c", b"a"]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0_u8..3, 0_u8..12, any::<u32>()), 0..200)) {
            let mut entries = Entries::new();
            let mut model = Model::new();
            for (step, name, value) in steps {
                let name = [b'n', name];
                match step {
                    0 => {
                        let fresh = !model.contains_key(&name[..]);
                        prop_assert_eq!(entries.insert(&name, value).is_ok(), fresh);
                        model.entry(name.to_vec()).or_insert(value);
                    }
                    1 => prop_assert_eq!(entries.remove(&name), model.remove(&name[..])),
                    _ => {
                        let old = model.get_mut(&name[..]).map(|place| core::mem::replace(place, value));
                        prop_assert_eq!(entries.replace(&name, value), old);
                    }
                }
                prop_assert_eq!(entries.len(), model.len());
                let mut listed = list(&entries);
                listed.sort();
                prop_assert_eq!(listed, model.keys().cloned().collect::<Vec<_>>());
            }
        }
    }
}
