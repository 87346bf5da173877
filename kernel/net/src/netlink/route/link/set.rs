//! RTM_SETLINK, RTM_DELLINK, RTM_NEWLINKPROP, RTM_DELLINKPROP: changing and deleting interfaces (`do_setlink`).
//!
//! The lock is taken for the device's namespace, its peer's and the one it may move to; see [`rtnl::with_pair`].

use abi::errno::Errno;
use abi::rtnetlink::*;
use alloc::sync::Arc;
use linnet_lib::netlink::{Failure, Outcome, Strictness};

use super::{
    Parsed, alternative, check_unique_namespace, device_by_name, find, has_name, namespace_by_id, parse,
    target_namespace, wanted_name,
};
use crate::device::limits::SETTABLE;
use crate::device::registry::{self, Arrival};
use crate::device::{
    self, HardwareAddress, NetDevice, Rtnl, rtnl, set_address, set_alias, set_broadcast, set_carrier,
    set_flags, set_group, set_link_mode, set_mtu, set_queue_length,
};
use crate::namespace::NetNamespace;
use crate::netlink::request::Request;

/// The flags that a request means: those in its mask, the others as they are.
pub(super) fn combine_flags(device: &NetDevice, header: &InterfaceMessage) -> u32 {
    if header.ifi_change == 0 {
        return header.ifi_flags;
    }
    header.ifi_flags & header.ifi_change | device.flags() & !header.ifi_change
}

/// RTM_SETLINK. Errors: `EINVAL`: it names none; `ENODEV`, and what each change gives.
pub(super) fn set(request: &Request<'_>) -> Outcome<()> {
    let (header, attributes) = parse(request, Strictness::Liberal)?;
    check_unique_namespace(&attributes, false)?;
    let target = target_namespace(request, &attributes)?;
    let device = find(request.namespace(), &header, &attributes)?;
    change(request, &device, &header, &attributes, &target)
}

/// Changes one device.
pub(super) fn change(
    request: &Request<'_>,
    device: &Arc<NetDevice>,
    header: &InterfaceMessage,
    attributes: &Parsed<'_>,
    target: &Arc<NetNamespace>,
) -> Outcome<()> {
    check_lengths(device, attributes)?;
    let _ = request;
    let result = rtnl::with_pair(device, &[target.state()], |rtnl| {
        let mut modified = false;
        let result = apply(rtnl, device, header, attributes, target, &mut modified);
        if modified {
            super::announce(device, 0);
        }
        result
    });
    result.unwrap_or(Err(Errno::ENODEV.into()))
}

/// Addresses are as long as the device's at least, and limits what it can keep to.
fn check_lengths(device: &NetDevice, attributes: &Parsed<'_>) -> Outcome<()> {
    for (kind, _) in SETTABLE {
        if let Some(value) = attributes.get(kind) {
            device.limits.check(kind, value.u32())?;
        }
    }
    let length = device.address().len();
    for kind in [IFLA_ADDRESS, IFLA_BROADCAST] {
        if attributes.get(kind).is_some_and(|address| address.value.len() < length) {
            return Err(Errno::EINVAL.into());
        }
    }
    Ok(())
}

/// All changes of a request in Linux's order; `modified`: whether something is to be told at the end.
fn apply(
    rtnl: &Rtnl<'_>,
    device: &Arc<NetDevice>,
    header: &InterfaceMessage,
    attributes: &Parsed<'_>,
    target: &Arc<NetNamespace>,
    modified: &mut bool,
) -> Outcome<()> {
    let name = wanted_name(attributes)?;
    if !Arc::ptr_eq(&device.namespace(), target.state()) {
        let index = attributes.get(IFLA_NEW_IFINDEX).map(|index| index.i32());
        let arrival = Arrival { namespace: target.state(), fallback: name, index };
        registry::move_to(rtnl, device, &arrival)?;
    }
    if attributes.has(IFLA_MAP) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if let Some(address) = attributes.get(IFLA_ADDRESS) {
        set_address(rtnl, device, address.value)?;
    }
    if let Some(mtu) = attributes.get(IFLA_MTU) {
        set_mtu(rtnl, device, mtu.u32())?;
    }
    if let Some(group) = attributes.get(IFLA_GROUP) {
        set_group(rtnl, device, group.u32());
        *modified = true;
    }
    if let Some(name) = name.filter(|_| header.ifi_index > 0) {
        registry::rename(rtnl, device, name)?;
    }
    if let Some(alias) = attributes.get(IFLA_IFALIAS) {
        set_alias(rtnl, device, alias.text())?;
        *modified = true;
    }
    if let Some(broadcast) = attributes.get(IFLA_BROADCAST)
        && let Ok(broadcast) = HardwareAddress::try_from(broadcast.value)
    {
        set_broadcast(rtnl, device, broadcast);
    }
    if header.ifi_flags != 0 || header.ifi_change != 0 {
        set_flags(rtnl, device, combine_flags(device, header))?;
    }
    apply_rest(rtnl, device, attributes, modified)
}

fn apply_rest(
    rtnl: &Rtnl<'_>,
    device: &Arc<NetDevice>,
    attributes: &Parsed<'_>,
    modified: &mut bool,
) -> Outcome<()> {
    if let Some(master) = attributes.get(IFLA_MASTER) {
        set_master(rtnl, device, master.i32())?;
        *modified = true;
    }
    if let Some(carrier) = attributes.get(IFLA_CARRIER) {
        set_carrier(rtnl, device, carrier.u8() != 0)?;
    }
    if let Some(length) = attributes.get(IFLA_TXQLEN) {
        set_queue_length(rtnl, device, length.u32())?;
    }
    *modified |= set_limits(device, attributes);
    if let Some(mode) = attributes.get(IFLA_LINKMODE) {
        set_link_mode(rtnl, device, mode.u8());
        *modified = true;
    }
    if let Some(families) = attributes.get(IFLA_AF_SPEC) {
        super::families::set(device, &families)?;
        *modified = true;
    }
    if attributes.has(IFLA_PROTO_DOWN) {
        return Err(Failure::new(Errno::EOPNOTSUPP, "Protodown not supported by device"));
    }
    Ok(())
}

/// Sets how large packets may be that stand for several; whether anything changed.
pub(super) fn set_limits(device: &NetDevice, attributes: &Parsed<'_>) -> bool {
    let set = |kind| attributes.get(kind).is_some_and(|value| device.limits.set(kind, value.u32()));
    SETTABLE.iter().fold(false, |changed, (kind, _)| set(*kind) || changed)
}

/// Gives a device another master, or none (index 0). `EINVAL`: there is no device with the index; `EOPNOTSUPP`: it is none that
/// others can belong to; what it says.
pub(super) fn set_master(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, index: i32) -> Outcome<()> {
    if let Some(master) = device.adjacency.master() {
        if master.index() == index {
            return Ok(());
        }
        registry::leave_master(rtnl, device);
    }
    if index == 0 {
        return Ok(());
    }
    let master = device.namespace().devices().by_index(index).ok_or(Errno::EINVAL)?;
    master.operations().enslave(rtnl, &master, device)
}

/// Changes all devices of a group.
pub(super) fn change_group(
    request: &Request<'_>,
    header: &InterfaceMessage,
    attributes: &Parsed<'_>,
    target: &Arc<NetNamespace>,
) -> Outcome<()> {
    let group = attributes.get(IFLA_GROUP).map_or(0, |group| group.u32());
    each_of_group(request.namespace(), group, |device| change(request, device, header, attributes, target))
        .map(drop)
}

/// Calls `act` with each device of a group; how many there were.
fn each_of_group(
    namespace: &NetNamespace,
    group: u32,
    mut act: impl FnMut(&Arc<NetDevice>) -> Outcome<()>,
) -> Outcome<usize> {
    let (mut next, mut count) = (0, 0);
    while let Some(device) = namespace.devices.next_from(next) {
        next = device.index().wrapping_add(1);
        if device.gauge(device::Gauge::Group) == group {
            count += 1;
            act(&device)?;
        }
    }
    Ok(count)
}

/// RTM_DELLINK. Errors: `EINVAL`: it names none; `ENODEV`; `EOPNOTSUPP`: it is not one that can be deleted; `EPERM`: group 0.
pub(super) fn delete(request: &Request<'_>) -> Outcome<()> {
    let (header, attributes) = parse(request, Strictness::Liberal)?;
    check_unique_namespace(&attributes, true)?;
    let namespace = match attributes.get(IFLA_TARGET_NETNSID) {
        Some(id) => namespace_by_id(request, id.i32())?,
        None => request.namespace().clone(),
    };
    let device = if header.ifi_index > 0 {
        namespace.devices.by_index(header.ifi_index)
    } else {
        device_by_name(&namespace, &attributes)
    };
    if let Some(device) = device {
        return delete_one(request, &device);
    }
    if header.ifi_index > 0 || has_name(&attributes) {
        return Err(Errno::ENODEV.into());
    }
    let Some(group) = attributes.get(IFLA_GROUP) else { return Err(Errno::EINVAL.into()) };
    if group.u32() == 0 {
        return Err(Errno::EPERM.into());
    }
    let check = |device: &Arc<NetDevice>| match device.kind() {
        Some(_) => Ok(()),
        None => Err(Errno::EOPNOTSUPP.into()),
    };
    if each_of_group(&namespace, group.u32(), check)? == 0 {
        return Err(Errno::ENODEV.into());
    }
    // One of them may have gone with another: a pair.
    let one = |device: &Arc<NetDevice>| match delete_one(request, device) {
        Err(failure) if failure.errno == Errno::ENODEV => Ok(()),
        other => other,
    };
    each_of_group(&namespace, group.u32(), one).map(drop)
}

fn delete_one(request: &Request<'_>, device: &Arc<NetDevice>) -> Outcome<()> {
    if device.kind().is_none() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let origin = request.origin();
    registry::destroy(device, &origin).ok_or(Errno::ENODEV.into())
}

/// RTM_NEWLINKPROP.
pub(super) fn add_names(request: &Request<'_>) -> Outcome<()> {
    change_names(request, registry::add_alternative)
}

/// RTM_DELLINKPROP.
pub(super) fn remove_names(request: &Request<'_>) -> Outcome<()> {
    change_names(request, registry::remove_alternative)
}

fn change_names(
    request: &Request<'_>,
    act: fn(&Rtnl<'_>, &Arc<NetDevice>, &[u8]) -> abi::errno::Result<()>,
) -> Outcome<()> {
    let (header, attributes) = parse(request, Strictness::Liberal)?;
    check_unique_namespace(&attributes, true)?;
    let device = find(request.namespace(), &header, &attributes)?;
    let Some(list) = attributes.get(IFLA_PROP_LIST) else { return Ok(()) };
    let result = rtnl::with_pair(&device, &[], |rtnl| {
        let mut changed = false;
        let result = list.nested().filter(|one| one.kind == IFLA_ALT_IFNAME).try_for_each(|one| {
            act(rtnl, &device, alternative(&one)?)?;
            changed = true;
            Ok(())
        });
        if changed {
            super::announce(&device, 0);
        }
        result
    });
    result.unwrap_or(Err(Errno::ENODEV.into()))
}
