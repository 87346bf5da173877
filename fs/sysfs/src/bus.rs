//! The tree of devices in `/sys`: `devices`, `bus/*/devices`, `bus/*/drivers`.
//!
//! Key type: [`Tree`], what `device` tells of every change. A device is a directory with its files, `uevent`, and links to its bus and its
//! driver; a class's devices (disks) are put below by whoever registers them, at the path that `device::Device::path` says.
//! Writing to `bind` and `unbind` of a driver takes devices to it and away, to `rescan` of a bus looks for new ones.
//!
//! Locks: [`SHOWN`] (sleeping, below a device's own), then the folders'.

use crate::device::link_up;
use crate::folder::{Entry, Folder};
use crate::tree;
use ::device::{Attribute, Device, Driver, View};
use ::net::netlink::uevent::{Action, announce_other};
use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt::Write;
use machine::sync::Mutex;
use vfs::pseudo::{Node, Text};

/// What is shown of a device.
struct Shown {
    folder: Arc<Folder>,
    /// Goes with the device.
    _entries: Vec<Entry>,
    /// Goes with its driver.
    from_driver: Vec<Entry>,
}

/// By bus and name.
static SHOWN: Mutex<BTreeMap<(&'static str, String), Shown>> = Mutex::new(BTreeMap::new());

fn key(device: &Device) -> (&'static str, String) {
    (device.bus(), String::from(device.name()))
}

fn levels(path: &str) -> usize {
    path.split('/').count()
}

fn alive(device: &Weak<Device>) -> Result<Arc<Device>> {
    device.upgrade().filter(|device| !device.is_removed()).ok_or(Errno::ENODEV)
}

/// The file of an attribute.
fn file(device: &Weak<Device>, attribute: Attribute) -> Node {
    let (from, to) = (device.clone(), device.clone());
    let show = move |out: &mut Text| (attribute.show)(&*alive(&from)?, out);
    match attribute.store {
        Some(store) => Node::writable_text(0o200, show, move |text: &[u8]| store(&alive(&to)?, text)),
        None => Node::text_with(0o444, show),
    }
}

/// The lines of `uevent`.
fn uevent(device: &Weak<Device>) -> Node {
    let device = device.clone();
    Node::text_with(0o644, move |out| {
        let device = alive(&device)?;
        if let Some(driver) = device.driver() {
            writeln!(out, "DRIVER={driver}").map_err(|_| Errno::ENOMEM)?;
        }
        out.write_str(device.identity()).map_err(|_| Errno::ENOMEM)
    })
}

/// The folder of a bus, with its two folders and `rescan`, made if need be.
fn bus_folder(bus: &str) -> Result<Arc<Folder>> {
    let folder = tree().folder_at(&format!("bus/{bus}"))?;
    folder.folder("devices")?;
    folder.folder("drivers")?;
    if bus == ::device::pci::BUS {
        let rescan = |text: &[u8]| {
            if text.trim_ascii() != b"0" {
                ::device::pci::probe();
            }
            Ok(())
        };
        match folder.add("rescan", Node::writable_text(0o200, |_| Err(Errno::EIO), rescan)) {
            Ok(entry) => entry.keep(),
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(folder)
}

/// Shows a device. Errors: `EEXIST`.
fn show(device: &Arc<Device>) -> Result<Shown> {
    let path = format!("devices/{}", device.path());
    let (above, name) = path.rsplit_once('/').ok_or(Errno::EINVAL)?;
    let (folder, entry) = tree().folder_at(above)?.add_folder(name)?;
    let mut entries = alloc::vec![entry];
    let weak = Arc::downgrade(device);
    for attribute in device.attributes() {
        folder.add(attribute.name, file(&weak, *attribute))?.keep();
    }
    folder.add("uevent", uevent(&weak))?.keep();
    if !device.bus().is_empty() {
        let link = link_up(levels(&path), &format!("bus/{}", device.bus()));
        folder.add("subsystem", link)?.keep();
        let devices = bus_folder(device.bus())?.folder("devices")?;
        entries.push(devices.add(name, link_up(3, &path))?);
    }
    Ok(Shown { folder, _entries: entries, from_driver: Vec::new() })
}

/// What a device has because of its driver: the links between the two, and the driver's files.
fn link(device: &Arc<Device>, driver: &dyn Driver, folder: &Arc<Folder>) -> Result<Vec<Entry>> {
    let path = format!("devices/{}", device.path());
    let place = format!("bus/{}/drivers/{}", device.bus(), driver.name());
    let mut entries = alloc::vec![folder.add("driver", link_up(levels(&path), &place))?];
    entries.push(tree().folder_at(&place)?.add(device.name(), link_up(4, &path))?);
    for attribute in driver.attributes() {
        entries.push(folder.add(attribute.name, file(&Arc::downgrade(device), *attribute))?);
    }
    Ok(entries)
}

/// The device of a bus that a program has named.
fn named(bus: &str, text: &[u8]) -> Result<Arc<Device>> {
    let name = core::str::from_utf8(text.trim_ascii()).map_err(|_| Errno::ENODEV)?;
    ::device::find(bus, name).ok_or(Errno::ENODEV)
}

/// The files of a driver.
fn show_driver(driver: &'static dyn Driver) -> Result<()> {
    let folder = bus_folder(driver.bus())?.folder("drivers")?.folder(driver.name())?;
    let bind = move |text: &[u8]| named(driver.bus(), text)?.bind(driver);
    let unbind = move |text: &[u8]| {
        let device = named(driver.bus(), text)?;
        if device.driver() == Some(driver.name()) { device.unbind() } else { Err(Errno::ENODEV) }
    };
    folder.add("bind", Node::writable_text(0o200, |_| Err(Errno::EIO), bind))?.keep();
    folder.add("unbind", Node::writable_text(0o200, |_| Err(Errno::EIO), unbind))?.keep();
    Ok(())
}

/// Tells udev of a device that is on a bus.
fn announce(device: &Device, action: Action, driver: Option<&str>) {
    if !device.bus().is_empty() {
        let driver = driver.map_or(String::new(), |driver| format!("DRIVER={driver}\n"));
        let lines = driver + device.identity();
        announce_other(action, &format!("/devices/{}", device.path()), device.bus(), &lines);
    }
}

/// Shows the tree of devices.
pub(crate) struct Tree;

/// Says what could not be shown.
fn note(what: &str, result: Result<()>) {
    if let Err(error) = result {
        log::warn!("sysfs: {what}: {error:?}");
    }
}

impl View for Tree {
    fn added(&self, device: &Arc<Device>) {
        let shown = show(device).map(|shown| drop(SHOWN.lock().insert(key(device), shown)));
        note(device.name(), shown);
        announce(device, Action::Add, None);
    }

    fn bound(&self, device: &Arc<Device>, driver: Option<&'static dyn Driver>) {
        {
            let mut all = SHOWN.lock();
            let Some(shown) = all.get_mut(&key(device)) else { return };
            shown.from_driver.clear();
            if let Some(driver) = driver {
                let linked = link(device, driver, &shown.folder).map(|entries| shown.from_driver = entries);
                note(device.name(), linked);
            }
        }
        announce(
            device,
            if driver.is_some() { Action::Bind } else { Action::Unbind },
            driver.map(Driver::name),
        );
    }

    fn removed(&self, device: &Arc<Device>) {
        announce(device, Action::Remove, None);
        let shown = SHOWN.lock().remove(&key(device));
        drop(shown);
    }

    fn driver_added(&self, driver: &'static dyn Driver) {
        note(driver.name(), show_driver(driver));
    }
}
