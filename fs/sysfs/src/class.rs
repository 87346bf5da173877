//! Devices of classes that drivers have: their folders, the links to them, and what udev hears.
//!
//! Key type: [`Classes`], what `device::class` tells of every change. Locks: [`SHOWN`] (sleeping, below `device::class`'s own), then the folders'.

use crate::device::{self, DeviceNode, Entries};
use ::device::class::{Change, ClassDevice, ClassFile, View};
use ::net::netlink::uevent::{Action, announce_other};
use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::Mutex;
use vfs::pseudo::Node;
use vfs::{DeviceId, FileKind};

/// By class and name.
static SHOWN: Mutex<BTreeMap<(&'static str, String), Shown>> = Mutex::new(BTreeMap::new());

/// A device's folder and all that leads to it.
struct Shown {
    folder: Arc<crate::Folder>,
    _entries: Entries,
}

fn key(device: &ClassDevice) -> (&'static str, String) {
    (device.class, device.name.clone())
}

/// What it is on, below `/sys/devices`.
fn parent(device: &ClassDevice) -> String {
    device.parent.as_ref().map_or_else(|| String::from("virtual"), |parent| parent.path())
}

fn node(device: &ClassDevice) -> DeviceNode {
    let (major, minor) = device.number;
    DeviceNode { kind: FileKind::CharDevice, id: DeviceId::new(major, minor), mode: None }
}

fn show(device: &ClassDevice) -> Result<()> {
    let parent = parent(device);
    let described = device::Device {
        name: &device.name,
        class: device.class,
        parent: &parent,
        node: Some(node(device)),
        attributes: Vec::new(),
    };
    let (folder, entries) = device::register_open(described)?;
    if let Some(parent) = &device.parent {
        folder.add("device", Node::symlink(&format!("../../../{}", parent.name())))?.keep();
    }
    SHOWN.lock().insert(key(device), Shown { folder, _entries: entries });
    Ok(())
}

fn show_file(device: &ClassDevice, file: &Arc<ClassFile>) -> Result<()> {
    let shown = SHOWN.lock();
    let folder = &shown.get(&key(device)).ok_or(Errno::ENODEV)?.folder;
    let own = file.clone();
    folder.add(file.name, Node::text_with(0o444, move |out| (own.show)(out)))?.keep();
    Ok(())
}

/// Shows devices of classes.
pub(crate) struct Classes;

impl View for Classes {
    fn added(&self, device: &Arc<ClassDevice>) {
        if let Err(error) = show(device) {
            log::warn!("/sys/class/{}/{}: {error:?}", device.class, device.name);
        }
    }

    fn file_added(&self, device: &Arc<ClassDevice>, file: &Arc<ClassFile>) {
        if let Err(error) = show_file(device, file) {
            log::warn!("/sys/class/{}/{}/{}: {error:?}", device.class, device.name, file.name);
        }
    }

    fn announce(&self, device: &Arc<ClassDevice>, change: Change) {
        let action = match change {
            Change::Added => Action::Add,
            Change::Changed => Action::Change,
            Change::Removed => Action::Remove,
        };
        let place = format!("/devices/{}/{}/{}", parent(device), device.class, device.name);
        announce_other(action, &place, device.class, &device::node_lines(&device.name, &node(device)));
    }

    fn removed(&self, device: &Arc<ClassDevice>) {
        let removed = SHOWN.lock().remove(&key(device));
        drop(removed);
    }
}
