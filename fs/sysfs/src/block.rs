//! Disks and partitions in `/sys`: directories in `devices`, links from `class/block`, `block` and `dev/block`.
//!
//! Key type: [`Blocks`], which hears of them from `kernel/block`; what the files say is `block::attributes`. Files know their device
//! weakly. Locks: the table of directories (sleeping), outside the folders'.

use crate::folder::{Entries, Folder, number_text};
use crate::tree;
use ::block::attributes::{self, Attribute};
use ::block::{BlockDevice, Observer};
use ::net::netlink::uevent::{Action, announce_other};
use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use machine::sync::Mutex;
use vfs::pseudo::{Node, Text};

/// The directory of a device.
struct Shown {
    folder: Arc<Folder>,
    /// Below `/sys`.
    place: String,
    _entries: Entries,
}

/// What is shown, by name.
pub(crate) struct Blocks(Mutex<BTreeMap<String, Shown>>);

impl Blocks {
    pub(crate) fn new() -> Arc<Blocks> {
        Arc::new(Blocks(Mutex::new(BTreeMap::new())))
    }

    fn add(&self, device: &Arc<BlockDevice>) -> Result<()> {
        let mut shown = self.0.lock();
        let name = device.name();
        let (parent, above) = match device.partition() {
            // A partition is in its disk's directory.
            Some(_) => {
                let disk = shown.get(device.disk().name()).ok_or(Errno::ENOENT)?;
                (disk.folder.clone(), disk.place.clone())
            }
            None => parent_of(device.disk().parent())?,
        };
        let place = format!("{above}/{name}");
        let folder = Folder::new();
        fill(&folder, device, &place)?;
        let top = tree();
        let link = |levels: usize| Node::symlink(&format!("{}{place}", "../".repeat(levels)));
        let number = number_text(device.number());
        let mut entries = Vec::new();
        entries.push(parent.add(name, folder.node())?);
        entries.push(top.folder_at("class/block")?.add(name, link(2))?);
        entries.push(top.folder_at("dev/block")?.add(&number, link(2))?);
        if device.partition().is_none() {
            entries.push(top.folder("block")?.add(name, link(1))?);
        }
        shown.insert(String::from(name), Shown { folder, place, _entries: Entries(entries) });
        Ok(())
    }
}

impl Blocks {
    /// Tells udev.
    fn announce(&self, device: &BlockDevice, action: Action) {
        let place = self.0.lock().get(device.name()).map(|shown| format!("/{}", shown.place));
        let mut lines = String::new();
        if let Some(place) = place
            && attributes::write_uevent(device, &mut lines).is_ok()
        {
            announce_other(action, &place, "block", &lines);
        }
    }
}

/// The directory that a disk's own is to be in: `block` in that of the device it is, or among those that are none. Errors: `EEXIST`.
fn parent_of(device: &str) -> Result<(Arc<Folder>, String)> {
    for device in [device, "virtual"] {
        let place = format!("devices/{device}/block");
        if let Ok(folder) = tree().folder_at(&place) {
            return Ok((folder, place));
        }
        log::warn!("/sys/{place} cannot be made");
    }
    Err(Errno::EEXIST)
}

/// The directory's own files, for ever: the directory goes as a whole.
fn fill(folder: &Arc<Folder>, device: &Arc<BlockDevice>, place: &str) -> Result<()> {
    let add_all = |folder: &Arc<Folder>, table: &'static [Attribute]| {
        table.iter().try_for_each(|attribute| {
            folder.add(attribute.name, file(device, attribute))?.keep();
            Ok::<(), Errno>(())
        })
    };
    add_all(folder, attributes::DEVICE)?;
    folder.folder("holders")?;
    let levels = place.split('/').count();
    folder.add("subsystem", Node::symlink(&format!("{}class/block", "../".repeat(levels))))?.keep();
    if device.partition().is_some() {
        return add_all(folder, attributes::PARTITION);
    }
    add_all(folder, attributes::DISK)?;
    folder.folder("slaves")?;
    let parent = device.disk().parent();
    if parent != "virtual" {
        let name = parent.rsplit('/').next().unwrap_or_default();
        folder.add("device", Node::symlink(&format!("../../../{name}")))?.keep();
    }
    let queue = Folder::new();
    add_all(&queue, attributes::QUEUE)?;
    folder.add("queue", queue.node())?.keep();
    Ok(())
}

/// The file of an attribute.
fn file(device: &Arc<BlockDevice>, attribute: &'static Attribute) -> Node {
    let (from, to) = (Arc::downgrade(device), Arc::downgrade(device));
    let alive = |device: &Weak<BlockDevice>| device.upgrade().ok_or(Errno::ENODEV);
    let read = move |out: &mut Text| (attribute.read)(&*alive(&from)?, out).map_err(|_| Errno::ENOMEM);
    match attribute.store {
        Some(store) => Node::writable_text(0o644, read, move |text: &[u8]| {
            store(&*alive(&to)?, core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?)
        }),
        None => Node::text_with(0o444, read),
    }
}

impl Observer for Blocks {
    fn added(&self, device: &Arc<BlockDevice>) {
        match self.add(device) {
            Ok(()) => self.announce(device, Action::Add),
            Err(error) => log::warn!("/sys/class/block/{}: {error:?}", device.name()),
        }
    }

    fn removed(&self, device: &Arc<BlockDevice>) {
        self.announce(device, Action::Remove);
        let removed = self.0.lock().remove(device.name());
        drop(removed);
    }

    fn changed(&self, device: &Arc<BlockDevice>) {
        self.announce(device, Action::Change);
    }
}
