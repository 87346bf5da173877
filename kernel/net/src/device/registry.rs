//! A device comes, goes, is renamed, moves to another namespace.
//!
//! All under [`Rtnl`] that covers every namespace concerned. Listeners are told and RTNLGRP_LINK hears of it in Linux's
//! order: a device that goes is taken down, is found no more, is let go of by the protocols, is announced.
//! Locks: see `super`.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::netlink::{Failure, Outcome};
use machine::sync::atomic::Ordering;

use super::notify::notify;
use super::{DeviceEvent, InterfaceName, NetDevice, Rtnl, Text, change, rtnl};
use crate::namespace::{NetNamespace, NetState};
use crate::netlink::route::link;
use crate::netlink::uevent;

/// How many names a pattern has.
const PATTERN_MAX: u32 = 32_768;

/// The name that a wanted one stands for: itself, or the first free one of a pattern.
/// `EINVAL`: a wrong pattern; `ENFILE`: all are taken; `EEXIST`: it is taken.
pub(crate) fn resolve_name(namespace: &NetState, wanted: InterfaceName) -> Result<InterfaceName> {
    let Some((before, after)) = wanted.pattern()? else {
        return match namespace.devices.by_name(wanted.as_bytes()) {
            Some(_) => Err(Errno::EEXIST),
            None => Ok(wanted),
        };
    };
    // The table knows the first free one unless the pattern has a suffix.
    let first = if after.is_empty() { namespace.devices.lowest_free_number(before) } else { 0 };
    for number in first..PATTERN_MAX {
        let name = InterfaceName::numbered(before, number, after)?;
        if namespace.devices.by_name(name.as_bytes()).is_none() {
            return Ok(name);
        }
    }
    Err(Errno::ENFILE)
}

/// Puts a new device into the table of its namespace, under a name (maybe a pattern) and an index (or the next).
/// `EEXIST`, `EBUSY`, `EINVAL`, `ENFILE`, `ENOMEM`, what a listener says.
pub(crate) fn register(
    rtnl: &Rtnl<'_>,
    device: &Arc<NetDevice>,
    name: InterfaceName,
    index: Option<i32>,
) -> Outcome<()> {
    rtnl.assert_covers(device);
    let namespace = device.namespace();
    let name = resolve_name(&namespace, name)?;
    namespace.devices.add_name(device, name.as_bytes())?;
    if let Err(error) = namespace.devices.add(device, index) {
        namespace.devices.remove_name(name.as_bytes());
        return Err(error.into());
    }
    device.settings.lock().name = name;
    device.registered.store(true, Ordering::Release);
    if let Err(error) = notify(rtnl, device, DeviceEvent::Registered) {
        unlist(&namespace, device);
        return Err(error.into());
    }
    uevent::announce(device, uevent::Action::Add);
    Ok(())
}

/// Takes all of a device's names and its index out.
fn unlist(namespace: &NetState, device: &Arc<NetDevice>) {
    device.registered.store(false, Ordering::Release);
    namespace.devices.remove(device.index());
    namespace.devices.remove_name(device.name().as_bytes());
    let alternatives = core::mem::take(&mut device.settings.lock().alternatives);
    alternatives.iter().for_each(|name| namespace.devices.remove_name(name));
}

/// Takes devices away for good.
pub(crate) fn unregister(rtnl: &Rtnl<'_>, devices: &[Arc<NetDevice>], origin: &crate::netlink::Origin) {
    for device in devices {
        rtnl.assert_covers(device);
        device.operations().uninit(device, rtnl);
    }
    for device in devices {
        change::close(rtnl, device);
    }
    for device in devices {
        let namespace = device.namespace();
        device.has_queue.store(false, Ordering::Relaxed);
        // Described while it still has its names, announced when it is gone.
        let last_words = link::describe_end(device, origin);
        unlist(&namespace, device);
        let _ = notify(rtnl, device, DeviceEvent::Unregistered);
        leave_master(rtnl, device);
        uevent::announce(device, uevent::Action::Remove);
        if let Some(last_words) = last_words {
            last_words.send(&namespace);
        }
    }
}

/// Does something to a device in whatever namespace: now if that is locked, else soon.
pub(crate) fn now_or_later(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, act: fn(&Rtnl<'_>, &Arc<NetDevice>)) {
    if rtnl.covers(&device.namespace()) {
        return act(rtnl, device);
    }
    let weak = Arc::downgrade(device);
    let _ = sched::work::queue(move || {
        if let Some(device) = weak.upgrade() {
            rtnl::with_pair(&device, &[], |rtnl| act(rtnl, &device));
        }
    });
}

/// A device belongs to nobody any more.
pub(crate) fn leave_master(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
    if let Some(master) = device.adjacency.master() {
        master.operations().release(rtnl, &master, device);
    }
}

/// The other end of a device that has one and does not outlive it.
fn twin(device: &NetDevice) -> Option<Arc<NetDevice>> {
    device.peer().filter(|peer| device.operations().goes_with_peer() && peer.is_registered())
}

/// Deletes a device and what goes with it (`rtnl_link_ops::dellink`): its other end, and all that is on top of either, which may
/// be in any namespace and goes first. No lock is held. `None`: someone else is deleting it.
pub(crate) fn destroy(device: &Arc<NetDevice>, origin: &crate::netlink::Origin) -> Option<()> {
    device.adjacency.close();
    loop {
        let ends = [Some(device.clone()), twin(device)];
        for end in ends.iter().flatten() {
            end.adjacency.close();
            while let Some(upper) = end.adjacency.next_dependent() {
                if destroy(&upper, &crate::netlink::Origin::default()).is_none() {
                    // Whoever does it has the lock until it is done.
                    drop(Rtnl::lock(&upper.namespace()));
                }
            }
        }
        let done = rtnl::with_pair(device, &[], |rtnl| {
            let all: arrayvec::ArrayVec<_, 2> =
                [Some(device.clone()), twin(device)].into_iter().flatten().collect();
            if all.iter().any(|end| end.adjacency.next_dependent().is_some()) {
                return false;
            }
            unregister(rtnl, &all, origin);
            true
        })?;
        if done {
            return Some(());
        }
    }
}

/// Gives a device another name, maybe of a pattern. The old one becomes free.
/// `EEXIST`, `EINVAL`, `ENFILE`, `ENOMEM`.
pub(crate) fn rename(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, wanted: InterfaceName) -> Result<bool> {
    rtnl.assert_covers(device);
    let old = device.name();
    if wanted == old {
        return Ok(false);
    }
    let namespace = device.namespace();
    let name = resolve_name(&namespace, wanted)?;
    namespace.devices.add_name(device, name.as_bytes())?;
    device.settings.lock().name = name;
    namespace.devices.remove_name(old.as_bytes());
    let _ = notify(rtnl, device, DeviceEvent::NameChanged);
    uevent::announce_move(device, &old);
    link::announce(device, 0);
    Ok(true)
}

/// Gives a device one more name. `EEXIST`: someone has it; `ENOMEM`.
pub(crate) fn add_alternative(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, name: &[u8]) -> Result<()> {
    rtnl.assert_covers(device);
    let namespace = device.namespace();
    if namespace.devices.by_name(name).is_some() {
        return Err(Errno::EEXIST);
    }
    let mut all = device.alternatives()?;
    all.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    all.push(super::text(name)?);
    namespace.devices.add_name(device, name)?;
    let old = core::mem::replace(&mut device.settings.lock().alternatives, all);
    drop(old);
    Ok(())
}

/// Takes one of its other names away. `ENOENT`: nobody has it; `EINVAL`: it is not one of this device's other names.
pub(crate) fn remove_alternative(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, name: &[u8]) -> Result<()> {
    rtnl.assert_covers(device);
    let namespace = device.namespace();
    let owner = namespace.devices.by_name(name).ok_or(Errno::ENOENT)?;
    if !Arc::ptr_eq(&owner, device) || device.name().as_bytes() == name {
        return Err(Errno::EINVAL);
    }
    let taken = {
        let mut settings = device.settings.lock();
        let place =
            settings.alternatives.iter().position(|other| other.as_slice() == name).ok_or(Errno::EINVAL)?;
        settings.alternatives.remove(place)
    };
    drop(taken);
    namespace.devices.remove_name(name);
    Ok(())
}

/// Where and as what a device arrives in another namespace.
pub(crate) struct Arrival<'a> {
    /// There.
    pub(crate) namespace: &'a Arc<NetState>,
    /// What it is called if its name is taken (a pattern); `None`: then it does not move.
    pub(crate) fallback: Option<InterfaceName>,
    /// Its index there; `None`: its own if it is free, else the next.
    pub(crate) index: Option<i32>,
}

/// Moves a device to another namespace. `EEXIST`: its name is taken there; `EBUSY`: the index is; `EINVAL`: it is bound to where
/// it is; `ENOMEM`.
pub(crate) fn move_to(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, arrival: &Arrival<'_>) -> Outcome<()> {
    rtnl.assert_covers(device);
    if device.is_bound() {
        return Err(Failure::new(Errno::EINVAL, "The interface netns is immutable"));
    }
    let from = device.namespace();
    let to = arrival.namespace;
    if Arc::ptr_eq(&from, to) {
        return Ok(());
    }
    let name = match (resolve_name(to, device.name()), arrival.fallback) {
        (Ok(name), _) => name,
        (Err(_), Some(fallback)) => resolve_name(to, fallback).map_err(|error| {
            let text = "Unable to use '{}' for the new interface name in the target netns";
            Failure::new(error, text).with(fallback.as_bytes())
        })?,
        (Err(_), None) => {
            let text = "An interface with the same name exists in the target netns";
            return Err(Failure::new(Errno::EEXIST, text));
        }
    };
    for alternative in device.alternatives()? {
        if to.devices.by_name(&alternative).is_some() {
            return Err(Failure::from(Errno::EEXIST));
        }
    }
    let old_index = device.index();
    let index = match arrival.index {
        Some(index) if to.devices.by_index(index).is_some() => {
            let text = "The ifindex {} is not available in the target netns";
            let number = alloc::format!("{index}");
            return Err(Failure::new(Errno::EBUSY, text).with(number.as_bytes()));
        }
        Some(index) => Some(index),
        None => Some(old_index).filter(|index| to.devices.by_index(*index).is_none()),
    };
    change::close(rtnl, device);
    device.has_queue.store(false, Ordering::Relaxed);
    device.link_groups.clear();
    leave_master(rtnl, device);
    let last_words = link::describe_departure(device, to, index.unwrap_or(0));
    let alternatives = device.alternatives()?;
    let _ = notify(rtnl, device, DeviceEvent::Unregistered);
    uevent::announce(device, uevent::Action::Remove);
    unlist(&from, device);
    if let Some(last_words) = last_words {
        last_words.send(&from);
    }
    {
        let mut settings = device.settings.lock();
        (settings.namespace, settings.name) = (to.clone(), name);
    }
    arrive(rtnl, device, to, name, index, alternatives).map_err(Failure::from)
}

/// The second half of a move. Without memory for the names the device is lost to both namespaces, which frees memory.
fn arrive(
    rtnl: &Rtnl<'_>,
    device: &Arc<NetDevice>,
    to: &Arc<NetState>,
    name: InterfaceName,
    index: Option<i32>,
    alternatives: Vec<Text>,
) -> Result<()> {
    let listed = (|| {
        to.devices.add_name(device, name.as_bytes())?;
        alternatives.iter().try_for_each(|name| to.devices.add_name(device, name))?;
        to.devices.add(device, index)
    })();
    if listed.is_err() {
        to.devices.remove_name(name.as_bytes());
        alternatives.iter().for_each(|name| to.devices.remove_name(name));
        return listed;
    }
    device.settings.lock().alternatives = alternatives;
    device.registered.store(true, Ordering::Release);
    uevent::announce(device, uevent::Action::Add);
    let _ = notify(rtnl, device, DeviceEvent::Registered);
    link::announce(device, u32::MAX);
    Ok(())
}

/// Empties the table of a dying namespace: what software made goes, hardware returns to the initial namespace.
pub(crate) fn tear_down(namespace: &Arc<NetState>) {
    let origin = crate::netlink::Origin::default();
    while let Some(device) = namespace.devices.next_from(0) {
        let initial = NetNamespace::initial();
        let done = if device.kind().is_some() || device.is_loopback() {
            destroy(&device, &origin)
        } else {
            rtnl::with_pair(&device, &[initial], |rtnl| {
                if Arc::ptr_eq(&device.namespace(), namespace) {
                    go_home(rtnl, &device, initial.state());
                }
            })
        };
        // Someone else is taking it away: it is gone once that one lets go of the lock.
        if done.is_none() {
            drop(Rtnl::lock(namespace));
        }
    }
}

/// Hardware goes to the initial namespace, under a name made of its index if its own is taken there.
fn go_home(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, initial: &Arc<NetState>) {
    let fallback = alloc::format!("dev{}", device.index());
    let fallback = InterfaceName::new(fallback.as_bytes())
        .ok()
        .filter(|name| initial.devices.by_name(name.as_bytes()).is_none())
        .or_else(|| InterfaceName::new(b"dev%d").ok());
    let arrival = Arrival { namespace: initial, fallback, index: None };
    if move_to(rtnl, device, &arrival).is_err() {
        log::error!("{} cannot return to the initial namespace", device.name());
        unregister(rtnl, core::slice::from_ref(device), &crate::netlink::Origin::default());
    }
}
