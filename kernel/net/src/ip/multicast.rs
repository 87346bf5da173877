//! Multicast groups of interfaces: who wants what is sent to them.
//!
//! Key types: [`Memberships`] (of one device), [`Group`]. The link layer listens to the groups' hardware addresses.
//! Locks: a leaf spinlock for each device; who is a member is read without it.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use machine::memory::try_arc;
use machine::sync::SpinLock;

use super::address::{Address, key_of, now_hundredths};
use super::device::IpDevice;
use super::map::RcuMap;
use super::reports;
use crate::device::NetDevice;
use crate::namespace::NetState;

/// All machines on a link.
pub const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// All machines on a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on a link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// All of this machine.
pub const ALL_NODES_HERE: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1);

/// A group that an interface is in.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its address.
    pub address: IpAddr,
    /// How many hold it.
    pub users: u32,
    /// When it was made, in hundredths of a second.
    pub created: u32,
    /// Its place among those that are told.
    place: u128,
}

/// The groups of a device.
pub struct Memberships {
    groups: RcuMap<Arc<Group>>,
    /// The same in the order in which they are told: by family, the newest first.
    told: RcuMap<Arc<Group>>,
    /// How many there have been.
    change: SpinLock<u64>,
}

/// IPv4 groups are kept under their mapped addresses.
fn key(group: IpAddr) -> u128 {
    match group {
        IpAddr::V4(address) => key_of(address.to_ipv6_mapped().into()),
        IpAddr::V6(_) => key_of(group),
    }
}

impl Memberships {
    pub(crate) const fn new() -> Memberships {
        Memberships { groups: RcuMap::new(), told: RcuMap::new(), change: SpinLock::new(0) }
    }

    /// One more holds a group; whether it is the first. `ENOMEM`.
    pub(crate) fn hold(&self, group: IpAddr) -> Result<bool> {
        let mut count = self.change.lock();
        if let Some(found) = self.groups.get(key(group)) {
            self.set(Group { users: found.users + 1, ..(*found).clone() })?;
            return Ok(false);
        }
        *count += 1;
        let place = Memberships::first_place(group.is_ipv6()) | u128::from(u64::MAX - *count);
        let new = Group { address: group, users: 1, created: now_hundredths(), place };
        self.set(new).inspect_err(|_| {
            let _ = self.groups.remove(key(group));
        })?;
        Ok(true)
    }

    fn first_place(is_v6: bool) -> u128 {
        u128::from(is_v6) << 64
    }

    /// Puts a group in its places. `ENOMEM`.
    fn set(&self, group: Group) -> Result<()> {
        let group = try_arc(group)?;
        self.groups.set(key(group.address), group.clone())?;
        self.told.set(group.place, group)
    }

    /// One holds a group no more; whether it was the last. `EADDRNOTAVAIL`: nobody holds it; `ENOMEM`.
    pub(crate) fn release(&self, group: IpAddr) -> Result<bool> {
        let _change = self.change.lock();
        let found = self.groups.get(key(group)).ok_or(Errno::EADDRNOTAVAIL)?;
        if found.users > 1 {
            self.set(Group { users: found.users - 1, ..(*found).clone() })?;
            return Ok(false);
        }
        self.groups.remove(key(group))?;
        self.told.remove(found.place)?;
        Ok(true)
    }

    /// Whether the device is in a group. Any context.
    pub fn has(&self, group: IpAddr) -> bool {
        self.groups.has(key(group))
    }

    /// All groups of a family, the newest first.
    pub(crate) fn of_family(&self, is_v6: bool) -> impl Iterator<Item = Arc<Group>> + use<> {
        self.told.iter().filter(move |group| group.address.is_ipv6() == is_v6)
    }

    /// The first group of a family from a place on, and the place behind it.
    pub(crate) fn next_of_family(&self, is_v6: bool, from: u64) -> Option<(u64, Arc<Group>)> {
        let first = Memberships::first_place(is_v6) | u128::from(from);
        let (place, group) = self.told.first_from(first)?;
        (group.address.is_ipv6() == is_v6).then_some((place as u64 + 1, group))
    }

    /// The device is new: it hears what all nodes of IPv6 do. `ENOMEM`.
    pub(crate) fn begin(&self, has6: bool) -> Result<()> {
        if has6 {
            self.hold(ALL_NODES_HERE.into())?;
            self.hold(ALL_NODES.into())?;
        }
        Ok(())
    }

    /// The device is up.
    pub(crate) fn up(&self, device: &Arc<NetDevice>) {
        if device.ip().is_some_and(|ip| ip.has(false)) {
            let _ = self.hold(ALL_SYSTEMS.into());
        }
        reports::tell_all(device, false, true);
    }

    /// The device is down.
    pub(crate) fn down(&self) {
        let _ = self.release(ALL_SYSTEMS.into());
    }

    /// Lets go of all.
    pub(crate) fn clear(&self) {
        let _change = self.change.lock();
        self.groups.clear();
        self.told.clear();
    }
}

/// The group that asks for an address: `ff02::1:ff` and its last three bytes (RFC 4291).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let base = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).to_bits();
    Ipv6Addr::from_bits(base | address.to_bits() & 0xff_ffff)
}

/// The hardware address that packets to a group go to (RFC 1112, RFC 2464); none on links without such, and none for groups of this
/// machine alone.
pub fn link_address(device: &NetDevice, group: IpAddr) -> Option<[u8; 6]> {
    if device.hardware_type() != abi::rtnetlink::ARPHRD_ETHER {
        return None;
    }
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            Some([1, 0, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(group) if group.octets()[1] & 0xf < 2 => None,
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            Some([0x33, 0x33, a, b, c, d])
        }
    }
}

/// The flags of an IPv6 group in `/proc/net/igmp6`: 4: the link layer listens; 8: routers are not told.
pub(crate) fn old_flags(group: IpAddr) -> u32 {
    match group {
        IpAddr::V6(group) if group == ALL_NODES => 0xc,
        IpAddr::V6(group) if group.octets()[1] & 0xf < 2 => 8,
        _ => 4,
    }
}

/// Whether a device resolves addresses by asking.
fn asks(device: &NetDevice) -> bool {
    device.flags() & (abi::rtnetlink::IFF_LOOPBACK | abi::rtnetlink::IFF_NOARP) == 0
}

/// An address is being checked or is ours: who asks for it must reach us.
pub(crate) fn join_solicited(device: &Arc<NetDevice>, ip: &IpDevice, address: &Address) {
    if let IpAddr::V6(local) = address.local
        && asks(device)
    {
        let group = solicited_node(local).into();
        if ip.groups.hold(group) == Ok(true) {
            reports::tell(device, group, true);
        }
    }
}

/// An address goes.
pub(crate) fn leave_solicited(device: &Arc<NetDevice>, ip: &IpDevice, address: &Address) {
    if let IpAddr::V6(local) = address.local
        && asks(device)
    {
        let group = solicited_node(local).into();
        if ip.groups.release(group) == Ok(true) {
            reports::tell(device, group, false);
        }
    }
}

/// Whether a device is in a group. Any context.
pub fn is_member(device: &NetDevice, group: IpAddr) -> bool {
    device.ip().is_some_and(|ip| ip.groups.has(group))
}

/// Joins a group for a socket. `ENODEV`: the device speaks no IP; `EINVAL`: it is none; `ENOMEM`.
pub fn join(net: &Arc<NetState>, device: &Arc<NetDevice>, group: IpAddr) -> Result<()> {
    let _ = net;
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let ip = device.ip().filter(|ip| ip.has(group.is_ipv6())).ok_or(Errno::ENODEV)?;
    if ip.groups.hold(group)? {
        reports::tell(device, group, true);
    }
    Ok(())
}

/// Leaves a group for a socket. `EADDRNOTAVAIL`: nobody is in it; `ENODEV`.
pub fn leave(net: &Arc<NetState>, device: &Arc<NetDevice>, group: IpAddr) -> Result<()> {
    let _ = net;
    let ip = device.ip().ok_or(Errno::ENODEV)?;
    if ip.groups.release(group)? {
        reports::tell(device, group, false);
    }
    Ok(())
}
