//! `lo`: what is sent comes back. One in each namespace, with index 1, made with it; it never leaves. No locks.

use abi::errno::Result;
use abi::rtnetlink as linux;
use alloc::boxed::Box;
use alloc::sync::Arc;

use super::statistics::Counted;
use super::{
    DeviceOperations, HardwareAddress, InterfaceName, NetDevice, Rtnl, Template, limits, registry, traffic,
    veth,
};
use crate::namespace::NetState;
use crate::packet::Packet;

/// Bytes of an Ethernet header, which packets have here too.
const HEADER: usize = 14;

struct Loopback;

impl DeviceOperations for Loopback {
    fn transmit(&self, device: &Arc<NetDevice>, mut packet: Packet) {
        packet.mark_link_header();
        let length = packet.len();
        device.statistics.count(Counted::Sent, length);
        device.statistics.count(Counted::Received, length);
        let (kind, protocol) = (veth::kind_of(packet.bytes(), device), veth::protocol_of(packet.bytes()));
        if packet.pull(HEADER).is_some() {
            (packet.kind, packet.protocol) = (kind, protocol);
            packet.mark_network_header();
            traffic::receive(device, packet);
        }
    }
    fn check_address(&self, _device: &NetDevice, _address: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Makes the loopback of a namespace that nobody knows yet. `ENOMEM`.
pub(crate) fn create(namespace: &Arc<NetState>) -> Result<()> {
    let template = Template {
        hardware_type: linux::ARPHRD_LOOPBACK,
        flags: linux::IFF_LOOPBACK,
        mtu: 64 << 10,
        mtu_range: (0, 0),
        address: HardwareAddress::from_iter([0; 6]),
        broadcast: HardwareAddress::from_iter([0; 6]),
        queues: 1,
        is_bound: true,
        kind: None,
    };
    let device = NetDevice::new(namespace, template, Box::new(Loopback))?;
    device.limits.set_most(limits::SIZE_MAX);
    let rtnl = Rtnl::lock(namespace);
    registry::register(&rtnl, &device, InterfaceName::new(b"lo")?, None).map_err(|failure| failure.errno)
}
