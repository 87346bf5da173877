//! SIOCSARP, SIOCDARP, SIOCGARP (arp(7), `arp_ioctl`): neighbours of IPv4 the old way, on sockets of AF_INET and AF_PACKET.
//!
//! DHCP servers enter whom they answer, since who has no address yet does not answer ARP. `ATF_PUBL` is about answering in others' place:
//! in that of one address, or with the netmask 0 in that of all (`proxy_arp`). Locks: [`Rtnl`] for what changes something.

use abi::errno::{Errno, Result};
use abi::ioctl::{SIOCDARP, SIOCGARP, SIOCSARP};
use abi::neighbour::*;
use abi::route::{RT_SCOPE_LINK, RTN_LOCAL};
use abi::socket::AF_INET;
use alloc::sync::Arc;
use core::net::Ipv4Addr;
use linnet_lib::neighbour::{News, Nud};
use mm::user::UserPtr;

use super::config::v4;
use super::ioctl::{may_change, socket_address};
use super::neighbour::proxy::{Proxy, with_proxies};
use super::neighbour::{Neighbour, Neighbours};
use super::route::Flow;
use super::route::lookup::{self, Manner};
use crate::device::{NetDevice, Rtnl};
use crate::namespace::NetNamespace;
use crate::netlink::Origin;
use crate::netlink::route::neighbour as messages;

/// Bytes of a link's address that fit (`sa_data`).
const LINK_ROOM: usize = 14;

/// One of the three commands. `EPERM`, `EFAULT`; `EPFNOSUPPORT`: not an IPv4 address; `EINVAL`, `ENODEV`, `ENXIO`: no such neighbour;
/// `ENOENT`: not answered for; `ENOMEM`.
pub(super) fn ioctl(namespace: &Arc<NetNamespace>, command: u32, argument: usize) -> Result<usize> {
    if command != SIOCGARP {
        may_change(namespace)?;
    }
    let place = UserPtr::<ArpRequest>::new(argument);
    let mut request = place.read()?;
    let address = check(&request)?;
    let is_public = request.arp_flags & ATF_PUBL != 0;
    match command {
        SIOCSARP | SIOCDARP if is_public => publish(namespace, &mut request, address, command == SIOCSARP)?,
        SIOCSARP => set(namespace, &mut request, address)?,
        SIOCDARP => delete(namespace, &mut request, address)?,
        _ => {
            get(namespace, &mut request, address)?;
            place.write(&request)?;
        }
    }
    Ok(0)
}

/// What all commands demand; gives the neighbour's address.
fn check(request: &ArpRequest) -> Result<Ipv4Addr> {
    let (family, address) = socket_address(&request.arp_pa, 0);
    if family != AF_INET {
        return Err(Errno::EPFNOSUPPORT);
    }
    let flags = request.arp_flags;
    if flags & ATF_PUBL == 0 && flags & (ATF_NETMASK | ATF_DONTPUB) != 0 {
        return Err(Errno::EINVAL);
    }
    let (_, mask) = socket_address(&request.arp_netmask, 0);
    let is_odd = !mask.is_unspecified() && mask != Ipv4Addr::BROADCAST;
    if flags & ATF_NETMASK != 0 && is_odd { Err(Errno::EINVAL) } else { Ok(address) }
}

/// The interface that a request names, whose type becomes that of the link's address if none is said. `ENODEV`, `EINVAL`.
fn named(namespace: &NetNamespace, request: &mut ArpRequest) -> Result<Arc<NetDevice>> {
    let name = request.arp_dev.split(|byte| *byte == 0).next().unwrap_or_default();
    let device = namespace.devices().by_name(name).ok_or(Errno::ENODEV)?;
    if request.arp_ha[..2] == [0, 0] {
        request.arp_ha[..2].copy_from_slice(&device.hardware_type().to_ne_bytes());
    }
    check_type(request, device)
}

/// `EINVAL`: the link's address is of another type than the interface.
fn check_type(request: &ArpRequest, device: Arc<NetDevice>) -> Result<Arc<NetDevice>> {
    let is_other = request.arp_ha[..2] != device.hardware_type().to_ne_bytes();
    if request.arp_flags & ATF_COM != 0 && is_other { Err(Errno::EINVAL) } else { Ok(device) }
}

/// The interface that a request names, or the one that the neighbour is at.
fn device_of(
    namespace: &Arc<NetNamespace>,
    request: &mut ArpRequest,
    address: Ipv4Addr,
) -> Result<Arc<NetDevice>> {
    if request.arp_dev[0] != 0 {
        return named(namespace, request);
    }
    let net = namespace.state();
    let manner = Manner { scope: RT_SCOPE_LINK, ..Manner::default() };
    let found = lookup::find(net, &Flow::to(address.into()), manner)?;
    let device = match found.entry.kind {
        RTN_LOCAL => net.devices().by_index(1),
        _ => found.device().cloned(),
    };
    check_type(request, device.ok_or(Errno::EINVAL)?)
}

/// The neighbours of an interface. `ENODEV`: it has no IP.
fn with_table<T>(device: &NetDevice, act: impl FnOnce(&Neighbours) -> Result<T>) -> Result<T> {
    let ip = device.ip().ok_or(Errno::ENODEV)?;
    act(ip.neighbours(false))
}

/// The interface that is to answer; none: all.
fn answering(
    namespace: &NetNamespace,
    request: &mut ArpRequest,
    is_wanted: bool,
) -> Result<Option<Arc<NetDevice>>> {
    if request.arp_dev[0] != 0 {
        return named(namespace, request).map(Some);
    }
    if !is_wanted || request.arp_flags & ATF_COM == 0 {
        return Ok(None);
    }
    // That which has the link's address (`dev_getbyhwaddr`).
    let (kind, link) = request.arp_ha.split_at(2);
    let mut next = 0;
    while let Some(device) = namespace.devices().next_from(next) {
        let address = device.address();
        let is_same = link.get(..address.len()) == Some(&address[..]);
        if *kind == device.hardware_type().to_ne_bytes() && is_same {
            return Ok(Some(device));
        }
        next = device.index().wrapping_add(1);
    }
    Err(Errno::ENODEV)
}

/// An interface answers in the place of an address or of all (`arp_req_set_public`), or no more.
fn publish(
    namespace: &Arc<NetNamespace>,
    request: &mut ArpRequest,
    address: Ipv4Addr,
    is_wanted: bool,
) -> Result<()> {
    let _rtnl = Rtnl::lock(namespace.state());
    let net = namespace.state();
    let device = answering(namespace, request, is_wanted)?;
    let device = device.as_ref();
    let (_, mask) = socket_address(&request.arp_netmask, 0);
    if request.arp_flags & ATF_NETMASK != 0 && mask.is_unspecified() {
        match device {
            None => net.ip.control.all4.set(v4::PROXY_ARP, i32::from(is_wanted)),
            Some(device) => {
                device.ip().ok_or(Errno::ENXIO)?.settings4.set(v4::PROXY_ARP, i32::from(is_wanted));
            }
        }
        return Ok(());
    }
    with_proxies(net, device, false, |proxies| {
        if is_wanted {
            return proxies.set(net, device, Proxy { address: address.into(), flags: 0, protocol: 0 });
        }
        let was_there = proxies.remove(net, device, address.into())?;
        if was_there { Ok(()) } else { Err(Errno::ENOENT) }
    })
}

fn set(namespace: &Arc<NetNamespace>, request: &mut ArpRequest, address: Ipv4Addr) -> Result<()> {
    let _rtnl = Rtnl::lock(namespace.state());
    let device = device_of(namespace, request, address)?;
    let neighbour = with_table(&device, |table| table.find_or_add(&device, address.into()))?;
    let is_permanent = request.arp_flags & ATF_PERM != 0;
    let link = &request.arp_ha[2..][..device.address().len().min(LINK_ROOM)];
    let link = (is_permanent || request.arp_flags & ATF_COM != 0).then_some(link);
    if link.is_none() && !neighbour.describe().reachability.state().is_valid() {
        return Err(Errno::EINVAL);
    }
    let state = if is_permanent { Nud::Permanent } else { Nud::Stale };
    let news = News { state, is_other_address: false, overrides: true, is_doubt: false, is_order: true };
    if neighbour.hear(link, news).is_notable {
        messages::announce(&device, &neighbour);
    }
    Ok(())
}

fn delete(namespace: &Arc<NetNamespace>, request: &mut ArpRequest, address: Ipv4Addr) -> Result<()> {
    let _rtnl = Rtnl::lock(namespace.state());
    let device = device_of(namespace, request, address)?;
    with_table(&device, |table| {
        let neighbour = table.find(address.into()).ok_or(Errno::ENXIO)?;
        messages::forget(&device, table, &neighbour, &Origin::default())
    })
}

fn get(namespace: &NetNamespace, request: &mut ArpRequest, address: Ipv4Addr) -> Result<()> {
    if request.arp_dev[0] == 0 {
        return Err(Errno::ENODEV);
    }
    let device = named(namespace, request)?;
    let neighbour: Arc<Neighbour> =
        with_table(&device, |table| table.find(address.into()).ok_or(Errno::ENXIO))?;
    let known = neighbour.describe();
    request.arp_flags = match known.reachability.state() {
        Nud::NoArp => return Err(Errno::ENXIO),
        Nud::Permanent => ATF_PERM | ATF_COM,
        state if state.is_valid() => ATF_COM,
        _ => 0,
    };
    let link = known.link.iter().chain(core::iter::repeat(&0)).take(device.address().len());
    request.arp_ha[2..].iter_mut().zip(link).for_each(|(place, byte)| *place = *byte);
    request.arp_ha[..2].copy_from_slice(&device.hardware_type().to_ne_bytes());
    request.arp_dev.copy_from_slice(device.name().padded());
    Ok(())
}
