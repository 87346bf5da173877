//! IFLA_AF_SPEC: what each protocol family says of an interface, and setting it (`inet_fill_link_af`, `inet6_fill_link_af`).
//!
//! Locks: none to read; setting is under [`crate::device::Rtnl`].

use abi::errno::{Errno, Result};
use abi::route::LinkCacheInfo;
use abi::rtnetlink::*;
use abi::socket::{AF_INET, AF_INET6};
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Attribute, Builder, Failure, Outcome};
use machine::sync::atomic::Ordering;
use zerocopy::IntoBytes;

use super::describe::ROOM;
use crate::device::NetDevice;
use crate::ip::config::{v4, v6};
use crate::ip::device::IpDevice;
use crate::namespace::{NetNamespace, NetState};
use crate::netlink::Origin;
use crate::netlink::request::{Dumper, Reply, Request, boxed};
use crate::netlink::route::{fill_devices, tell};

/// Longest packet that is put together again.
const REASSEMBLED_MOST: u32 = 65_535;
/// How long a neighbour is reachable at first, and between solicitations, in milliseconds.
const REACHABLE_MS: u32 = 30_000;
const RETRANSMIT_MS: u32 = 1_000;

/// Writes the attribute.
pub(super) fn describe(device: &NetDevice, out: &mut Builder) -> Result<()> {
    let Some(ip) = device.ip() else { return Ok(()) };
    let all = out.nest(IFLA_AF_SPEC)?;
    if ip.has(false) {
        let nest = out.nest(AF_INET as u16)?;
        out.attribute(IFLA_INET_CONF, ip.settings4.all().as_bytes())?;
        out.end_nest(nest);
    }
    if ip.has(true) {
        let nest = out.nest(AF_INET6 as u16)?;
        describe6(&ip, out)?;
        out.end_nest(nest);
    }
    out.end_nest(all);
    Ok(())
}

fn describe6(ip: &IpDevice, out: &mut Builder) -> Result<()> {
    out.u32(IFLA_INET6_FLAGS, ip.flags6.load(Ordering::Relaxed))?;
    let times = LinkCacheInfo {
        max_reasm_len: REASSEMBLED_MOST,
        tstamp: ip.updated6.load(Ordering::Relaxed),
        reachable_time: REACHABLE_MS,
        retrans_time: RETRANSMIT_MS,
    };
    out.attribute(IFLA_INET6_CACHEINFO, times.as_bytes())?;
    let mut settings = ip.settings6.all();
    // A secret is not told.
    settings[v6::STABLE_SECRET] = 0;
    out.attribute(IFLA_INET6_CONF, settings.as_bytes())?;
    out.attribute(IFLA_INET6_TOKEN, &[0; 16])?;
    out.u8(IFLA_INET6_ADDR_GEN_MODE, ip.settings6.get(v6::ADDR_GEN_MODE) as u8)?;
    Ok(())
}

/// Whether each part of a request can be done (`validate_linkmsg`). `EAFNOSUPPORT`: a family that is not here; `EINVAL`.
pub(super) fn check(attribute: &Attribute<'_>) -> Outcome<()> {
    for family in attribute.nested() {
        match u32::from(family.kind) {
            AF_INET | AF_INET6 => {}
            _ => return Err(Errno::EAFNOSUPPORT.into()),
        }
        for one in family.nested() {
            let is_mode = u32::from(family.kind) == AF_INET6 && one.kind == IFLA_INET6_ADDR_GEN_MODE;
            if is_mode && one.u8() > 3 {
                return Err(Errno::EINVAL.into());
            }
        }
    }
    Ok(())
}

/// Sets what a request says.
pub(super) fn set(device: &NetDevice, attribute: &Attribute<'_>) -> Outcome<()> {
    check(attribute)?;
    let ip = device.ip().ok_or(Errno::EAFNOSUPPORT)?;
    for family in attribute.nested() {
        for one in family.nested() {
            match (u32::from(family.kind), one.kind) {
                (AF_INET, IFLA_INET_CONF) => {
                    for setting in
                        one.nested().filter(|setting| (1..=v4::COUNT as u16).contains(&setting.kind))
                    {
                        ip.settings4.set(usize::from(setting.kind) - 1, setting.i32());
                    }
                }
                (AF_INET6, IFLA_INET6_ADDR_GEN_MODE) => {
                    ip.settings6.set(v6::ADDR_GEN_MODE, i32::from(one.u8()));
                    ip.touch();
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Writes what IPv6 says of an interface as a message of its own (`inet6_fill_ifinfo`).
fn describe_alone(device: &NetDevice, ip: &IpDevice, out: &mut Builder, reply: &Reply) -> Result<()> {
    let mark = out.begin(RTM_NEWLINK, reply.flags, reply.sequence, reply.port)?;
    let header = InterfaceMessage {
        ifi_family: AF_INET6 as u8,
        ifi_type: device.hardware_type(),
        ifi_index: device.index(),
        ifi_flags: device.flags(),
        ..InterfaceMessage::default()
    };
    out.fixed(header.as_bytes())?;
    out.text(IFLA_IFNAME, device.name().as_bytes())?;
    let address = device.address();
    if !address.is_empty() {
        out.attribute(IFLA_ADDRESS, &address)?;
    }
    out.u32(IFLA_MTU, device.mtu())?;
    if let Some(peer) = device.peer() {
        out.i32(IFLA_LINK, peer.index())?;
    }
    out.u8(IFLA_OPERSTATE, device.operational_state())?;
    let nest = out.nest(IFLA_PROTINFO)?;
    describe6(ip, out)?;
    out.end_nest(nest);
    out.end(mark);
    Ok(())
}

/// Tells RTNLGRP_IPV6_IFINFO that what IPv6 says of an interface has changed.
pub(crate) fn announce6(net: &NetState, device: &NetDevice, ip: &IpDevice) {
    tell(net, RTNLGRP_IPV6_IFINFO, ROOM, &Origin::default(), |out, reply| {
        describe_alone(device, ip, out, reply)
    });
}

/// RTM_GETLINK of AF_INET6 for all (`inet6_dump_ifinfo`).
pub(super) fn dump6(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    if request.is_strict() {
        let Some(header) = request.message.fixed::<InterfaceMessage>() else {
            return Err(Failure::new(Errno::EINVAL, "ipv6: Invalid header for link dump request"));
        };
        let is_clean = header.__ifi_pad == 0
            && header.ifi_type == 0
            && header.ifi_flags == 0
            && header.ifi_change == 0
            && header.ifi_index == 0;
        if request.message.payload.len() > size_of::<InterfaceMessage>() {
            return Err(Failure::new(Errno::EINVAL, "ipv6: Invalid data after header"));
        }
        if !is_clean {
            return Err(Failure::new(Errno::EINVAL, "ipv6: Invalid values in header for dump request"));
        }
    }
    boxed(LinkDump6 { namespace: request.namespace().clone(), next: 0 })
}

struct LinkDump6 {
    namespace: Arc<NetNamespace>,
    /// The first index that was not told yet.
    next: i32,
}

impl Dumper for LinkDump6 {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        fill_devices(&self.namespace, &mut self.next, out, |device, out| {
            match device.ip().filter(|ip| ip.has(true)) {
                Some(ip) => describe_alone(device, &ip, out, reply),
                None => Ok(()),
            }
        })
    }
}
