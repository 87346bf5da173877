//! Devices and their classes in `/sys`: what whoever has devices registers.
//!
//! Key types: [`Device`] (a description), [`register_device`]. A device is a directory in `/sys/devices` with its attributes,
//! `uevent` and `subsystem`, and links lead to it from its class, from its number in `/sys/dev` and, for block devices, from
//! `/sys/block`. All of them go with the [`Entries`] that registering gives.
//!
//! A class whose devices depend on who looks (network devices, by network namespace) brings a directory of its own instead:
//! [`register_class`]. Its nodes must say with `Node::valid_while` when they stand for something else.
//!
//! Neighbours: `folder`. Locks: the folders'.

pub(crate) use crate::folder::Entries;
use crate::folder::{Entry, Folder, number_text};
use crate::tree;
use abi::errno::Result;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use vfs::pseudo::{Directory, Node};
use vfs::{DeviceId, FileKind};

/// What a device is like.
pub struct Device<'a> {
    /// Its name in `/dev` if it has a number; the last part of it is its name here.
    pub name: &'a str,
    /// Its class: a directory of `/sys/class`.
    pub class: &'a str,
    /// On what it is, below `/sys/devices`: `virtual` if on nothing.
    pub parent: &'a str,
    /// Its device node, if it has one.
    pub node: Option<DeviceNode>,
    /// Its own files.
    pub attributes: Vec<(&'a str, Node)>,
}

/// The node in `/dev` of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceNode {
    /// [`FileKind::CharDevice`] or [`FileKind::BlockDevice`].
    pub kind: FileKind,
    /// Its number.
    pub id: DeviceId,
    /// Permission bits, if not root's alone.
    pub mode: Option<u32>,
}

/// A link's text from a directory this many levels below `/sys`.
pub(crate) fn link_up(levels: usize, to: &str) -> Node {
    Node::symlink(&format!("{}{to}", "../".repeat(levels)))
}

/// The lines of `uevent`: what udev(7) and mdev want to know.
fn uevent(device: &Device<'_>) -> String {
    device.node.as_ref().map_or(String::new(), |node| node_lines(device.name, node))
}

/// What is said of a node.
pub(crate) fn node_lines(name: &str, node: &DeviceNode) -> String {
    let mut text = format!("MAJOR={}\nMINOR={}\nDEVNAME={name}\n", node.id.major, node.id.minor);
    if let Some(mode) = node.mode {
        let _ = writeln!(text, "DEVMODE=0{mode:o}");
    }
    text
}

/// Shows a device until what this gives is dropped. Errors: `EEXIST`: one of that name, or number, is there.
pub fn register_device(device: Device<'_>) -> Result<Entries> {
    register_open(device).map(|(_, entries)| entries)
}

/// The same; gives the device's folder too, for files that come later.
pub(crate) fn register_open(device: Device<'_>) -> Result<(Arc<Folder>, Entries)> {
    let top = tree();
    let name = device.name.rsplit('/').next().unwrap_or_default();
    let place = format!("devices/{}/{}/{name}", device.parent, device.class);
    let own = Folder::new();
    let mut entries = Vec::new();
    let siblings = top.folder_at(&format!("devices/{}/{}", device.parent, device.class))?;
    entries.push(siblings.add(name, own.node())?);
    let levels = place.split('/').count();
    let text = uevent(&device);
    own.add("uevent", Node::text(0o444, move |out| out.write_str(&text)))?.keep();
    own.add("subsystem", link_up(levels, &format!("class/{}", device.class)))?.keep();
    if let Some(node) = &device.node {
        let number = number_text(node.id);
        let line = format!("{number}\n");
        own.add("dev", Node::text(0o444, move |out| out.write_str(&line)))?.keep();
        let block = node.kind == FileKind::BlockDevice;
        let numbers = top.folder_at(if block { "dev/block" } else { "dev/char" })?;
        entries.push(numbers.add(&number, link_up(2, &place))?);
        if block {
            entries.push(top.folder("block")?.add(name, link_up(1, &place))?);
        }
    }
    for (name, node) in device.attributes {
        own.add(name, node)?.keep();
    }
    entries.push(top.folder_at(&format!("class/{}", device.class))?.add(name, link_up(2, &place))?);
    Ok((own, Entries(entries)))
}

/// Shows a class whose contents are computed for whoever looks. Errors: `EEXIST`.
pub fn register_class(name: &str, contents: Arc<dyn Directory>) -> Result<Entry> {
    tree().folder("class")?.add(name, Node::directory(contents).mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::errno::Errno;

    fn device(name: &str, minor: u32) -> Device<'_> {
        let node = DeviceNode { kind: FileKind::CharDevice, id: DeviceId::new(77, minor), mode: Some(0o666) };
        Device { name, class: "test", parent: "virtual", node: Some(node), attributes: Vec::new() }
    }

    #[test]
    fn a_device_is_found_by_class_and_number_and_goes() {
        let registered = register_device(device("one", 1)).unwrap();
        let class = tree().folder_at("class/test").unwrap();
        assert_eq!(class.lookup(b"one").unwrap().kind(), FileKind::Symlink);
        let own = tree().folder_at("devices/virtual/test").unwrap().lookup(b"one").unwrap();
        assert_eq!(own.kind(), FileKind::Directory);
        assert_eq!(register_device(device("two", 1)).err(), Some(Errno::EEXIST));
        assert!(tree().folder_at("devices/virtual/test").unwrap().lookup(b"two").is_err(), "taken back");
        drop(registered);
        assert!(class.lookup(b"one").is_err());
        register_device(device("two", 1)).unwrap().keep();
    }

    #[test]
    fn uevents_are_lines() {
        assert_eq!(uevent(&device("one", 1)), "MAJOR=77\nMINOR=1\nDEVNAME=one\nDEVMODE=0666\n");
    }
}
