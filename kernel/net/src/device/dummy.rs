//! `dummy`: a device that takes every packet and sends none. No locks.

use abi::errno::Result;
use abi::rtnetlink as linux;
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::Outcome;

use super::statistics::Counted;
use super::{
    DeviceOperations, HardwareAddress, LinkKind, NetDevice, NewLink, Template, check_ethernet_address,
    random_address,
};
use crate::namespace::NetState;
use crate::packet::Packet;

/// The kind.
pub static KIND: LinkKind = LinkKind::plain("dummy", make);

struct Dummy;

impl DeviceOperations for Dummy {
    fn transmit(&self, device: &Arc<NetDevice>, packet: Packet) {
        device.statistics.count(Counted::Sent, packet.len());
    }
    fn check_address(&self, _device: &NetDevice, address: &[u8]) -> Result<()> {
        check_ethernet_address(address)
    }
    fn may_change_carrier(&self) -> bool {
        true
    }
}

fn make(new: &NewLink<'_>) -> Outcome<Arc<NetDevice>> {
    Ok(create(new.namespace, new.address.clone())?)
}

/// One that is in no table yet. `ENOMEM`.
pub(crate) fn create(namespace: &Arc<NetState>, address: Option<HardwareAddress>) -> Result<Arc<NetDevice>> {
    let template = Template {
        hardware_type: linux::ARPHRD_ETHER,
        flags: linux::IFF_BROADCAST | linux::IFF_NOARP,
        mtu: 1500,
        mtu_range: (0, 0),
        address: address.unwrap_or_else(random_address),
        broadcast: HardwareAddress::from_iter([0xff; 6]),
        queues: 1,
        is_bound: false,
        kind: Some(&KIND),
    };
    NetDevice::new(namespace, template, Box::new(Dummy))
}
