//! Directories of `/sys` to which entries come and from which they go while the system runs.
//!
//! Key types: [`Folder`], [`Entry`] (an entry's registration). A folder lists its entries in the order in which they came. A name
//! that has gone is not found again through the dentry cache: its node is valid only while it is registered.
//!
//! Neighbours: `device` (what drivers register), `vfs::pseudo`. Locks: one read-write spinlock for each folder, a leaf.

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use machine::sync::RwSpinLock;
use machine::sync::atomic::{AtomicBool, Ordering};
use vfs::NameCaching;
use vfs::pseudo::{Directory, Lister, Node};

struct Named {
    name: Arc<str>,
    node: Node,
    /// The folder behind the node, if it is one of ours.
    folder: Option<Arc<Folder>>,
    registered: Arc<AtomicBool>,
}

#[derive(Default)]
struct Contents {
    /// By a number that only goes up: the cursor of listings.
    by_number: BTreeMap<u64, Named>,
    numbers: BTreeMap<Arc<str>, u64>,
    last_number: u64,
}

impl Contents {
    fn find(&self, name: &str) -> Option<&Named> {
        self.by_number.get(self.numbers.get(name)?)
    }

    fn insert(&mut self, name: &str, node: Node, folder: Option<Arc<Folder>>) -> Result<u64> {
        if self.numbers.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let name: Arc<str> = Arc::from(name);
        let registered = Arc::new(AtomicBool::new(true));
        let valid = registered.clone();
        let node = node.valid_while(move || valid.load(Ordering::Acquire));
        self.last_number += 1;
        self.numbers.insert(name.clone(), self.last_number);
        self.by_number.insert(self.last_number, Named { name, node, folder, registered });
        Ok(self.last_number)
    }
}

/// A directory whose entries come and go.
#[derive(Default)]
pub struct Folder {
    contents: RwSpinLock<Contents>,
}

/// An entry of a folder; it goes when this is dropped.
pub struct Entry {
    folder: Weak<Folder>,
    number: u64,
}

impl Entry {
    /// Leaves the entry there for ever.
    pub fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(folder) = self.folder.upgrade() else { return };
        let mut contents = folder.contents.write();
        let removed = contents.by_number.remove(&self.number);
        if let Some(named) = &removed {
            named.registered.store(false, Ordering::Release);
            contents.numbers.remove(&named.name);
        }
        drop(contents);
        drop(removed);
    }
}

impl Folder {
    /// An empty one.
    pub fn new() -> Arc<Folder> {
        Arc::new(Folder::default())
    }

    /// A node that shows it.
    pub fn node(self: &Arc<Self>) -> Node {
        Node::directory(self.clone()).mode(0o755)
    }

    /// Adds an entry. Errors: `EEXIST`.
    pub fn add(self: &Arc<Self>, name: &str, node: Node) -> Result<Entry> {
        let number = self.contents.write().insert(name, node, None)?;
        Ok(Entry { folder: Arc::downgrade(self), number })
    }

    /// Adds a folder that goes again. Errors: `EEXIST`.
    pub fn add_folder(self: &Arc<Self>, name: &str) -> Result<(Arc<Folder>, Entry)> {
        let made = Folder::new();
        let number = self.contents.write().insert(name, made.node(), Some(made.clone()))?;
        Ok((made, Entry { folder: Arc::downgrade(self), number }))
    }

    /// The folder of this name, made if there is none. Errors: `EEXIST`: the name is something else's.
    pub fn folder(&self, name: &str) -> Result<Arc<Folder>> {
        let mut contents = self.contents.write();
        if let Some(known) = contents.find(name) {
            return known.folder.clone().ok_or(Errno::EEXIST);
        }
        let made = Folder::new();
        contents.insert(name, made.node(), Some(made.clone()))?;
        Ok(made)
    }

    /// The folder at a path below this one, its parts separated by slashes, made if need be. Errors: `EEXIST`.
    pub fn folder_at(self: &Arc<Self>, path: &str) -> Result<Arc<Folder>> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(self.clone(), |at, part| at.folder(part))
    }
}

impl Directory for Folder {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        self.contents.read().find(name).map(|named| named.node.clone()).ok_or(Errno::ENOENT)
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        let mut from = cursor.saturating_add(1);
        loop {
            // Not under the lock: the taker writes to user memory.
            let next = {
                let contents = self.contents.read();
                contents.by_number.range(from..).next().map(|(number, named)| {
                    (*number, named.name.clone(), named.node.kind(), named.node.number())
                })
            };
            let Some((number, name, kind, inode)) = next else { return Ok(()) };
            if !take(name.as_bytes(), kind, inode, number) {
                return Ok(());
            }
            from = number + 1;
        }
    }

    fn caching(&self) -> NameCaching {
        NameCaching::Checked
    }
}

/// Entries that were made together and go together.
pub struct Entries(pub(crate) alloc::vec::Vec<Entry>);

impl Entries {
    /// Leaves them there for ever.
    pub fn keep(self) {
        self.0.into_iter().for_each(Entry::keep);
    }
}

/// A name for a device number, as in `/sys/dev`.
pub(crate) fn number_text(id: vfs::DeviceId) -> Box<str> {
    alloc::format!("{}:{}", id.major, id.minor).into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use vfs::FileKind;

    fn names(folder: &Folder, cursor: u64, limit: usize) -> (Vec<String>, u64) {
        let (mut names, mut last) = (Vec::new(), cursor);
        folder
            .list(cursor, &mut |name, _, _, next| {
                if names.len() == limit {
                    return false;
                }
                names.push(String::from_utf8_lossy(name).to_string());
                last = next;
                true
            })
            .unwrap();
        (names, last)
    }

    #[test]
    fn entries_come_and_go() {
        let folder = Folder::new();
        let a = folder.add("a", Node::symlink("x")).unwrap();
        let b = folder.add("b", Node::symlink("y")).unwrap();
        assert_eq!(folder.add("a", Node::symlink("z")).err(), Some(Errno::EEXIST));
        let (first, cursor) = names(&folder, 0, 1);
        assert_eq!(first, ["a"]);
        drop(a);
        folder.add("c", Node::symlink("z")).unwrap().keep();
        assert_eq!(names(&folder, cursor, 9).0, ["b", "c"]);
        assert_eq!(folder.lookup(b"a").err(), Some(Errno::ENOENT));
        drop(b);
        assert_eq!(names(&folder, 0, 9).0, ["c"]);
    }

    #[test]
    fn folders_are_found_or_made() {
        let top = Folder::new();
        let deep = top.folder_at("devices/virtual/mem").unwrap();
        assert!(Arc::ptr_eq(&deep, &top.folder_at("/devices/virtual/mem/").unwrap()));
        top.add("file", Node::symlink("x")).unwrap().keep();
        assert_eq!(top.folder_at("file/more").err(), Some(Errno::EEXIST));
        assert_eq!(top.lookup(b"devices").unwrap().kind(), FileKind::Directory);
    }
}
