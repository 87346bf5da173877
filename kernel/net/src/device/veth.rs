//! `veth`: two devices, each of which receives what the other sends; each may be in another namespace (veth(4)).
//!
//! An end knows the other weakly; both go together. It has carrier while both are up.
//! Locks: the reference to the other end, a leaf; changes of both ends need [`Rtnl`] over both namespaces.

use abi::errno::{Errno, Result};
use abi::packet::{ETH_P_802_2, ETH_P_802_3};
use abi::rtnetlink as linux;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use linnet_lib::netlink::{Attribute, Outcome};
use machine::sync::SpinLock;
use machine::sync::atomic::Ordering;

use super::statistics::Counted;
use super::{
    DeviceOperations, HardwareAddress, LinkKind, NetDevice, NewLink, Rtnl, Template, change,
    check_ethernet_address, limits, random_address, traffic, validate_ethernet,
};
use crate::namespace::NetState;
use crate::netlink::route::link::Parsed;
use crate::packet::{Packet, PacketKind};

/// The kind.
pub static KIND: LinkKind = LinkKind { validate, ..LinkKind::plain("veth", make) };

const HEADER: usize = 14;

#[derive(Default)]
struct Veth {
    other: SpinLock<Weak<NetDevice>>,
}

impl DeviceOperations for Veth {
    fn transmit(&self, device: &Arc<NetDevice>, mut packet: Packet) {
        let length = packet.len();
        let other = self.peer().filter(|other| other.is_up() && length <= HEADER + other.mtu() as usize);
        let Some(other) = other else {
            device.statistics.count(Counted::SendDropped, length);
            return;
        };
        packet.mark_link_header();
        let kind = kind_of(packet.bytes(), &other);
        let protocol = protocol_of(packet.bytes());
        if packet.pull(HEADER).is_none() {
            device.statistics.count(Counted::SendDropped, length);
            return;
        }
        packet.mark_network_header();
        (packet.protocol, packet.kind) = (protocol, kind);
        packet.leave_namespace();
        device.statistics.count(Counted::Sent, length);
        other.statistics.count(Counted::Received, length);
        traffic::receive(&other, packet);
    }

    fn open(&self, device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) -> Result<()> {
        let other = self.peer().ok_or(Errno::ENOTCONN)?;
        if other.is_up() {
            change::carrier_on(rtnl, device);
            change::carrier_on(rtnl, &other);
        }
        Ok(())
    }

    fn stop(&self, device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) {
        change::carrier_off(rtnl, device);
        if let Some(other) = self.peer() {
            change::carrier_off(rtnl, &other);
        }
    }

    fn check_address(&self, _device: &NetDevice, address: &[u8]) -> Result<()> {
        check_ethernet_address(address)
    }

    fn peer(&self) -> Option<Arc<NetDevice>> {
        self.other.lock().upgrade()
    }

    fn speed(&self, _device: &NetDevice) -> Option<(i32, &'static str)> {
        Some((10_000, "full"))
    }

    fn goes_with_peer(&self) -> bool {
        true
    }

    fn uninit(&self, _device: &Arc<NetDevice>, _rtnl: &Rtnl<'_>) {
        *self.other.lock() = Weak::new();
    }
}

/// For whom a frame is, as the receiver sees it (`eth_type_trans`).
pub(super) fn kind_of(frame: &[u8], receiver: &NetDevice) -> PacketKind {
    let Some(destination) = frame.first_chunk::<6>() else { return PacketKind::OtherHost };
    if destination[0] & 1 == 0 {
        let is_own = receiver.address().as_slice() == destination;
        return if is_own { PacketKind::Host } else { PacketKind::OtherHost };
    }
    if *destination == [0xff; 6] { PacketKind::Broadcast } else { PacketKind::Multicast }
}

/// The protocol of a frame's payload: where its header has a length in that place, one of those for such frames (`eth_type_trans`).
pub(super) fn protocol_of(frame: &[u8]) -> u16 {
    /// Less is a length (`ETH_P_802_3_MIN`).
    const LEAST: u16 = 0x600;
    /// What NetWare's frames begin with.
    const UNCHECKED: [u8; 2] = [0xff; 2];
    let Some(field) = frame.get(HEADER - 2..).and_then(|rest| rest.first_chunk::<4>()) else {
        return frame.get(HEADER - 2..HEADER).map_or(0, |field| u16::from_be_bytes([field[0], field[1]]));
    };
    match u16::from_be_bytes([field[0], field[1]]) {
        length if length < LEAST && field[2..] == UNCHECKED => ETH_P_802_3,
        length if length < LEAST => ETH_P_802_2,
        protocol => protocol,
    }
}

/// An address that a device can have, and an MTU in its range.
fn validate(attributes: &Parsed<'_>, _data: Option<Attribute<'_>>) -> Outcome<()> {
    validate_ethernet(attributes)?;
    match attributes.get(linux::IFLA_MTU) {
        Some(mtu) if !(68..=65535).contains(&mtu.u32()) => Err(Errno::EINVAL.into()),
        _ => Ok(()),
    }
}

fn make(new: &NewLink<'_>) -> Outcome<Arc<NetDevice>> {
    Ok(create(new.namespace, new.address.clone())?)
}

/// One end that is in no table yet and has no other. `ENOMEM`.
pub(crate) fn create(namespace: &Arc<NetState>, address: Option<HardwareAddress>) -> Result<Arc<NetDevice>> {
    let template = Template {
        hardware_type: linux::ARPHRD_ETHER,
        flags: linux::IFF_BROADCAST | linux::IFF_MULTICAST,
        mtu: 1500,
        mtu_range: (68, 65535),
        address: address.unwrap_or_else(random_address),
        broadcast: HardwareAddress::from_iter([0xff; 6]),
        queues: machine::cpu::possible_count() as u32,
        is_bound: false,
        kind: Some(&KIND),
    };
    let device = NetDevice::new(namespace, template, Box::new(Veth::default()))?;
    device.limits.set_most(limits::SIZE_MAX);
    Ok(device)
}

/// A new end has no carrier: the other is not up.
pub(crate) fn without_carrier(end: &Arc<NetDevice>) {
    end.carrier.store(false, Ordering::Relaxed);
    end.operational.store(linux::IF_OPER_DOWN, Ordering::Relaxed);
}

/// Joins two ends.
pub(crate) fn join(one: &Arc<NetDevice>, other: &Arc<NetDevice>) {
    for (end, far) in [(one, other), (other, one)] {
        if let Some(veth) = end.operations_as::<Veth>() {
            *veth.other.lock() = Arc::downgrade(far);
        }
    }
}
