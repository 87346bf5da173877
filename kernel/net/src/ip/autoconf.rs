//! IPv6 addresses that make themselves: link-local ones (RFC 4862), detection of duplicates, what routers advertise.
//!
//! Key type: [`Autoconf`] (of one device). Under [`Rtnl`]; timers have a worker take it. Neighbours: `address::inet6`.

use abi::route::*;
use abi::rtnetlink as linux;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv6Addr};
use linnet_lib::wire::discovery::RouterAdvertisement;
use machine::sync::atomic::{AtomicBool, Ordering};

use super::address::{Address, inet6};
use super::config::v6;
use super::device::IpDevice;
use super::multicast;
use super::route::change::{self, MODE_APPEND, PRIORITY_ADDRESS_6, Wanted, WantedHop};
use crate::device::{NetDevice, Rtnl};
use crate::netlink::Origin;

/// Bits of a network whose addresses end in an interface's identifier.
const NETWORK_BITS: u8 = 64;

/// What of it a device keeps.
pub struct Autoconf {
    /// Routers are being asked.
    asks: AtomicBool,
}

impl Autoconf {
    pub(crate) fn new() -> Autoconf {
        Autoconf { asks: AtomicBool::new(false) }
    }

    /// Asks no more.
    pub(crate) fn stop(&self) {
        self.asks.store(false, Ordering::Relaxed);
    }
}

/// The identifier of an interface from its Ethernet address (RFC 4291, appendix A).
pub(crate) fn identifier(device: &NetDevice) -> Option<u64> {
    let address = device.address();
    let bytes: [u8; 6] = address.as_slice().try_into().ok()?;
    if device.hardware_type() != linux::ARPHRD_ETHER {
        return None;
    }
    let [a, b, c, d, e, f] = bytes;
    Some(u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]))
}

/// A device that speaks IPv6 is up (`addrconf_notify`, `addrconf_dev_config`).
pub(crate) fn up(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>) {
    if inet6::is_disabled(ip) {
        return;
    }
    if !device.has_carrier() && !device.is_loopback() {
        return;
    }
    ip.flags6.fetch_or(IF_READY, Ordering::Relaxed);
    if device.is_loopback() {
        let local = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let mut address = Address::new(local, 128, RT_SCOPE_HOST, device.name());
        address.protocol = IFAPROT_KERNEL_LO;
        if let Ok(address) = inet6::place(rtnl, device, address) {
            begin_detection(rtnl, device, &address);
        }
    }
    // Those that were given while it was down, or are kept.
    for address in ip.addresses6.iter() {
        if !address.has(IFA_F_NOPREFIXROUTE) && address.peer == address.local {
            inet6::network_route(&device.namespace(), device, &address, true);
        }
        if address.has(IFA_F_TENTATIVE) {
            begin_detection(rtnl, device, &address);
        }
    }
    if device.is_loopback() {
        return;
    }
    multicast_route(device);
    if ip.settings6.get(v6::ADDR_GEN_MODE) != IN6_ADDR_GEN_MODE_NONE
        && let Some(identifier) = identifier(device)
    {
        link_local(rtnl, device, identifier);
    }
}

/// Packets to groups go out through the device (`addrconf_add_mroute`).
fn multicast_route(device: &Arc<NetDevice>) {
    let net = device.namespace();
    let wanted = Wanted {
        table: RT_TABLE_LOCAL,
        kind: RTN_MULTICAST,
        priority: PRIORITY_ADDRESS_6,
        flags: RTF_UP,
        hop: WantedHop { index: device.index(), ..WantedHop::default() },
        ..Wanted::to(true, super::address::network_of(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8))
    };
    let _ = change::add(&net, &wanted, MODE_APPEND, &Origin::default());
}

fn link_local(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, identifier: u64) {
    let base = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).to_bits();
    let local = IpAddr::V6(Ipv6Addr::from_bits(base | u128::from(identifier)));
    let mut address = Address::new(local, NETWORK_BITS, RT_SCOPE_LINK, device.name());
    address.protocol = IFAPROT_KERNEL_LL;
    if let Ok(address) = inet6::place(rtnl, device, address) {
        inet6::network_route(&device.namespace(), device, &address, true);
        begin_detection(rtnl, device, &address);
    }
}

/// Begins to ask whether somebody else has an address, or finds that nobody needs to be asked (`addrconf_dad_begin`).
pub(crate) fn begin_detection(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, address: &Arc<Address>) {
    rtnl.assert_covers(device);
    let Some(ip) = device.ip() else { return };
    let net = device.namespace();
    multicast::join_solicited(device, &ip, address);
    let checks = net.ip.control.all6.get(v6::ACCEPT_DAD) >= 1 || ip.settings6.get(v6::ACCEPT_DAD) >= 1;
    let is_alone = device.flags() & (linux::IFF_NOARP | linux::IFF_LOOPBACK) != 0;
    if is_alone || !checks || address.has(IFA_F_NODAD) || !address.has(IFA_F_TENTATIVE) {
        return inet6::complete(&net, device, &ip, address);
    }
    if ip.flags6.load(Ordering::Relaxed) & IF_READY == 0 {
        return;
    }
    inet6::complete(&net, device, &ip, address);
}

/// A router says what the link is like. Preemption is off.
pub(crate) fn hear_router(device: &Arc<NetDevice>, router: Ipv6Addr, told: &RouterAdvertisement<'_>) {
    let _ = (device, router, told);
}

/// Somebody else has an address that is to be ours. Preemption is off.
pub(crate) fn is_taken(device: &Arc<NetDevice>, address: Ipv6Addr) {
    let _ = (device, address);
}
