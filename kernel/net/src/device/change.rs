//! Changing a device: flags, MTU, address, carrier and the rest. Each change tells the listeners and RTNLGRP_LINK.
//!
//! All under [`Rtnl`] of the device's namespace (for a veth's flags: of both ends). Locks: see `super`.

use abi::errno::{Errno, Result};
use abi::rtnetlink as linux;
use alloc::sync::Arc;
use linnet_lib::netlink::{Failure, Outcome};
use machine::sync::atomic::{AtomicU32, Ordering};

use super::notify::notify;
use super::{DeviceEvent, HardwareAddress, LowerChange, NetDevice, Rtnl, adjacency};
use crate::netlink::route::link;

/// Flags that a program may set.
const CHANGEABLE: u32 = linux::IFF_DEBUG
    | linux::IFF_NOTRAILERS
    | linux::IFF_NOARP
    | linux::IFF_DYNAMIC
    | linux::IFF_MULTICAST
    | linux::IFF_PORTSEL
    | linux::IFF_AUTOMEDIA;

/// What a change of flags does not tell of as a change of the device.
const UNTOLD: u32 = linux::IFF_UP | linux::IFF_PROMISC | linux::IFF_ALLMULTI;

/// Sets flags as a program means them (`dev_change_flags`): up and down, promiscuous, those that are only noted.
/// What the driver says if it does not come up.
pub fn set_flags(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, flags: u32) -> Outcome<()> {
    let (changed, result) = apply_flags(rtnl, device, flags);
    if changed != 0 {
        link::announce(device, changed);
    }
    tell_flags(rtnl, device, changed);
    result.map_err(Failure::from)
}

/// The same of a device that nobody has heard of yet: `introduce` tells of it, flags and all.
pub fn set_first_flags(
    rtnl: &Rtnl<'_>,
    device: &Arc<NetDevice>,
    flags: u32,
    introduce: impl FnOnce(),
) -> Outcome<()> {
    let (changed, result) = apply_flags(rtnl, device, flags);
    introduce();
    tell_flags(rtnl, device, changed);
    result.map_err(Failure::from)
}

/// Sets flags and tells nobody but who must know first; what changed, and what the driver said (`__dev_change_flags`).
fn apply_flags(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, flags: u32) -> (u32, Result<()>) {
    rtnl.assert_covers(device);
    let before = device.flags.load(Ordering::Relaxed);
    let mut now = before & !CHANGEABLE | flags & CHANGEABLE;
    for (bit, count) in
        [(linux::IFF_PROMISC, &device.promiscuity), (linux::IFF_ALLMULTI, &device.all_multicast)]
    {
        if (flags ^ before) & bit != 0 {
            let step = if flags & bit != 0 { 1 } else { u32::MAX };
            count.fetch_add(step, Ordering::Relaxed);
            now = now & !bit | flags & bit;
        }
    }
    device.flags.store(now, Ordering::Relaxed);
    let result = match (before & linux::IFF_UP != 0, flags & linux::IFF_UP != 0) {
        (false, true) => start(rtnl, device),
        (true, false) => {
            stop(rtnl, device);
            Ok(())
        }
        _ => Ok(()),
    };
    (before ^ device.flags.load(Ordering::Relaxed), result)
}

/// Tells the listeners what changed (`__dev_notify_flags`).
fn tell_flags(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, changed: u32) {
    match (changed & linux::IFF_UP != 0, device.is_up()) {
        (true, true) => {
            let _ = notify(rtnl, device, DeviceEvent::Up);
            tell_uppers(rtnl, device, LowerChange::Up);
        }
        (true, false) => tell_down(rtnl, device),
        (false, _) => {}
    }
    if device.is_up() && changed & !UNTOLD != 0 {
        let _ = notify(rtnl, device, DeviceEvent::Changed);
    }
}

/// One more or one less wants all packets of a device (`dev_set_promiscuity`).
pub fn count_promiscuous(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, more: bool) {
    count(rtnl, device, &device.promiscuity, linux::IFF_PROMISC, more);
}

/// One more or one less wants all its multicast packets.
pub fn count_all_multicast(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, more: bool) {
    count(rtnl, device, &device.all_multicast, linux::IFF_ALLMULTI, more);
}

/// The device may be in a namespace that is not covered: what is on top of it may live elsewhere.
fn count(_rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, place: &AtomicU32, flag: u32, more: bool) {
    let step = if more { 1 } else { u32::MAX };
    let before = place.fetch_add(step, Ordering::Relaxed);
    let now = before.wrapping_add(step);
    device.namespace().devices.note_change();
    if (before == 0) != (now == 0) {
        link::announce(device, flag);
    }
}

/// Brings a device up. What the driver says if it does not come up.
fn start(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) -> Result<()> {
    device.flags.fetch_or(linux::IFF_UP, Ordering::Relaxed);
    if let Err(error) = device.operations().open(device, rtnl) {
        device.flags.fetch_and(!linux::IFF_UP, Ordering::Relaxed);
        return Err(error);
    }
    device.has_queue.store(true, Ordering::Relaxed);
    if device.operational.load(Ordering::Relaxed) != linux::IF_OPER_UNKNOWN {
        update_operational_state(device);
    }
    device.namespace().devices.note_change();
    Ok(())
}

/// Brings a device down.
fn stop(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
    let _ = notify(rtnl, device, DeviceEvent::GoingDown);
    device.flags.fetch_and(!linux::IFF_UP, Ordering::Relaxed);
    device.operations().stop(device, rtnl);
    device.namespace().devices.note_change();
}

fn tell_down(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
    let _ = notify(rtnl, device, DeviceEvent::Down);
    tell_uppers(rtnl, device, LowerChange::Down);
}

/// Takes a device down and tells of it.
pub(super) fn close(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
    if !device.is_up() {
        return;
    }
    stop(rtnl, device);
    link::announce(device, linux::IFF_UP | linux::IFF_RUNNING);
    tell_down(rtnl, device);
}

/// Sets the MTU. `EINVAL`: outside the device's range.
pub fn set_mtu(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, mtu: u32) -> Outcome<()> {
    rtnl.assert_covers(device);
    if mtu == device.mtu() {
        return Ok(());
    }
    check_mtu(device, mtu)?;
    device.operations().was_set(device, DeviceEvent::MtuChanged, rtnl);
    store_mtu(rtnl, device, mtu);
    Ok(())
}

/// The key of a link-layer group among those of a device.
pub(crate) fn link_group_key(address: [u8; 6]) -> u128 {
    address.iter().fold(0, |key, byte| key << 8 | u128::from(*byte))
}

/// A device listens to a link-layer group, or no more, as an administrator says (`dev_mc_add_global`).
/// `ENOENT`: nobody had said so; `ENOMEM`.
pub(super) fn set_link_group(
    rtnl: &Rtnl<'_>,
    device: &NetDevice,
    address: [u8; 6],
    listens: bool,
) -> Result<()> {
    rtnl.assert_covers(device);
    let key = link_group_key(address);
    match (listens, device.link_groups.has(key)) {
        (true, false) => device.link_groups.set(key, address),
        (true, true) => Ok(()),
        (false, true) => device.link_groups.remove(key),
        (false, false) => Err(Errno::ENOENT),
    }
}

/// Gives a device an MTU that it can have.
pub(super) fn store_mtu(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, mtu: u32) {
    if device.mtu.swap(mtu, Ordering::Relaxed) == mtu || !device.is_registered() {
        return;
    }
    device.namespace().devices.note_change();
    let _ = notify(rtnl, device, DeviceEvent::MtuChanged);
    tell_uppers(rtnl, device, LowerChange::Mtu);
    link::announce(device, 0);
}

/// Tells the devices on top of one what happened to it.
fn tell_uppers(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, change: LowerChange) {
    adjacency::each_upper(device, |upper| upper.operations().lower_changed(upper, device, change, rtnl));
}

/// Whether a device may have this MTU.
pub(crate) fn check_mtu(device: &NetDevice, mtu: u32) -> Outcome<()> {
    let (least, most) = device.mtu_range();
    if mtu > i32::MAX as u32 || mtu < least {
        return Err(Failure::new(Errno::EINVAL, "mtu less than device minimum"));
    }
    if most > 0 && mtu > most {
        return Err(Failure::new(Errno::EINVAL, "mtu greater than device maximum"));
    }
    device.operations().check_mtu(device, mtu).map_err(Failure::from)
}

/// Sets the address. `EINVAL`: not its length; `EADDRNOTAVAIL`: none that a device can have; `EOPNOTSUPP`.
pub fn set_address(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, address: &[u8]) -> Result<()> {
    rtnl.assert_covers(device);
    let address: &[u8] = address.get(..device.address().len()).ok_or(Errno::EINVAL)?;
    device.operations().check_address(device, address)?;
    let address = HardwareAddress::try_from(address).map_err(|_| Errno::EINVAL)?;
    store_address(rtnl, device, address);
    device.address_origin.store(super::ADDRESS_SET, Ordering::Relaxed);
    device.operations().was_set(device, DeviceEvent::AddressChanged, rtnl);
    Ok(())
}

/// Gives a device an address that it can have.
pub(super) fn store_address(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, address: HardwareAddress) {
    device.settings.lock().address = address;
    device.namespace().devices.note_change();
    let _ = notify(rtnl, device, DeviceEvent::AddressChanged);
    tell_uppers(rtnl, device, LowerChange::Address);
    link::announce(device, 0);
}

/// Sets the broadcast address.
pub fn set_broadcast(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, broadcast: HardwareAddress) {
    rtnl.assert_covers(device);
    device.settings.lock().broadcast = broadcast;
    device.namespace().devices.note_change();
    let _ = notify(rtnl, device, DeviceEvent::AddressChanged);
    link::announce(device, 0);
}

/// Sets the alias; an empty one takes it away. `EINVAL`: 256 bytes or more; `ENOMEM`.
pub fn set_alias(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, alias: &[u8]) -> Result<()> {
    rtnl.assert_covers(device);
    if alias.len() >= linux::IFALIASZ {
        return Err(Errno::EINVAL);
    }
    let alias = if alias.is_empty() { None } else { Some(super::text(alias)?) };
    let old = core::mem::replace(&mut device.settings.lock().alias, alias);
    drop(old);
    device.namespace().devices.note_change();
    Ok(())
}

/// Puts it in a group.
pub fn set_group(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, group: u32) {
    rtnl.assert_covers(device);
    device.group.store(group, Ordering::Relaxed);
    device.namespace().devices.note_change();
}

/// Sets how long its queue may be. `ERANGE`: more than an `int`.
pub fn set_queue_length(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, length: u32) -> Result<()> {
    rtnl.assert_covers(device);
    if length > i32::MAX as u32 {
        return Err(Errno::ERANGE);
    }
    if device.queue_length.swap(length, Ordering::Relaxed) != length && device.is_registered() {
        device.namespace().devices.note_change();
        let _ = notify(rtnl, device, DeviceEvent::Changed);
        link::announce(device, 0);
    }
    Ok(())
}

/// Sets IFLA_LINKMODE.
pub fn set_link_mode(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, mode: u8) {
    rtnl.assert_covers(device);
    device.link_mode.store(mode, Ordering::Relaxed);
    device.namespace().devices.note_change();
}

/// Says that the carrier is there or not, where software decides that. `EOPNOTSUPP`.
pub fn set_carrier(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, present: bool) -> Result<()> {
    rtnl.assert_covers(device);
    if !device.operations().may_change_carrier() {
        return Err(Errno::EOPNOTSUPP);
    }
    if present {
        carrier_on(rtnl, device)
    } else {
        carrier_off(rtnl, device)
    };
    Ok(())
}

/// A device has carrier while the one below it has, be that up or not (`netif_stacked_transfer_operstate`).
pub(super) fn follow_carrier(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, lower: &NetDevice) {
    if lower.has_carrier() { carrier_on(rtnl, device) } else { carrier_off(rtnl, device) }
}

/// The driver sees a carrier.
pub(crate) fn carrier_on(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
    if !device.carrier.swap(true, Ordering::Relaxed) && device.is_registered() {
        device.carrier_ups.fetch_add(1, Ordering::Relaxed);
        carrier_changed(rtnl, device);
    }
}

/// The driver sees no carrier any more.
pub(crate) fn carrier_off(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
    if device.carrier.swap(false, Ordering::Relaxed) && device.is_registered() {
        device.carrier_downs.fetch_add(1, Ordering::Relaxed);
        carrier_changed(rtnl, device);
    }
}

fn carrier_changed(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
    update_operational_state(device);
    device.namespace().devices.note_change();
    tell_uppers(rtnl, device, LowerChange::Carrier);
    if device.is_up() {
        let _ = notify(rtnl, device, DeviceEvent::Changed);
        link::announce(device, 0);
    }
}

/// Something about a device changed that its kind tells (`netdev_state_change`).
pub(super) fn state_changed(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
    device.namespace().devices.note_change();
    if device.is_up() {
        let _ = notify(rtnl, device, DeviceEvent::Changed);
        link::announce(device, 0);
    }
}

/// RFC 2863's state from carrier and peer (`default_operstate`).
pub(super) fn update_operational_state(device: &Arc<NetDevice>) {
    let state = if device.has_carrier() {
        linux::IF_OPER_UP
    } else {
        let namespace = device.namespace();
        let below = device.peer().filter(|peer| Arc::ptr_eq(&peer.namespace(), &namespace));
        match below {
            Some(peer) if !peer.has_carrier() => linux::IF_OPER_LOWERLAYERDOWN,
            _ => linux::IF_OPER_DOWN,
        }
    };
    device.operational.store(state, Ordering::Relaxed);
}
