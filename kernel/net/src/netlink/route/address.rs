//! RTM_*ADDR: addresses of interfaces, as messages (rtnetlink(7), `ifaddrmsg`).
//!
//! What changes takes [`Rtnl`]; a dump goes on from the interface and the place in its list where it stopped. Neighbours:
//! [`crate::ip::address`].

use abi::errno::{Errno, Result};
use abi::netlink as nl;
use abi::route::*;
use abi::rtnetlink::*;
use abi::socket::{AF_INET, AF_INET6};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linnet_lib::netlink::{Attribute, Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};
use zerocopy::IntoBytes;

use super::{Handler, namespace_by_id};
use crate::device::{InterfaceName, NetDevice, Rtnl};
use crate::ip::address::{Address, FOREVER, inet, inet6, lifetime};
use crate::ip::multicast;
use crate::namespace::{NetNamespace, NetState};
use crate::netlink::Origin;
use crate::netlink::request::{Dumper, Reply, Request, boxed};

const V4: u8 = AF_INET as u8;
const V6: u8 = AF_INET6 as u8;

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_NEWADDR, family: V4, act: Some(new4), dump: None },
    Handler { message: RTM_DELADDR, family: V4, act: Some(delete4), dump: None },
    Handler { message: RTM_GETADDR, family: V4, act: None, dump: Some(dump4) },
    Handler { message: RTM_NEWADDR, family: V6, act: Some(new6), dump: None },
    Handler { message: RTM_DELADDR, family: V6, act: Some(delete6), dump: None },
    Handler { message: RTM_GETADDR, family: V6, act: Some(get6), dump: Some(dump6) },
    Handler { message: RTM_GETADDR, family: 0, act: None, dump: Some(dump_both) },
];

/// Bytes of the fixed header.
const HEADER: usize = size_of::<AddressMessage>();
/// Room for one address.
const ROOM: usize = 512;
/// One more than the highest attribute.
const ATTRIBUTES: usize = IFA_PROTO as usize + 1;
type Parsed<'a> = Attributes<'a, ATTRIBUTES>;

static POLICIES4: Policies = Policies {
    max: IFA_PROTO,
    rules: &[
        (IFA_LOCAL, Policy::U32),
        (IFA_ADDRESS, Policy::U32),
        (IFA_BROADCAST, Policy::U32),
        (IFA_LABEL, Policy::String(IFNAMSIZ - 1)),
        (IFA_CACHEINFO, Policy::Unspecified(size_of::<AddressLifetimes>())),
        (IFA_FLAGS, Policy::U32),
        (IFA_RT_PRIORITY, Policy::U32),
        (IFA_TARGET_NETNSID, Policy::S32),
        (IFA_PROTO, Policy::U8),
    ],
};

static POLICIES6: Policies = Policies {
    max: IFA_PROTO,
    rules: &[
        (IFA_ADDRESS, Policy::Unspecified(16)),
        (IFA_LOCAL, Policy::Unspecified(16)),
        (IFA_CACHEINFO, Policy::Unspecified(size_of::<AddressLifetimes>())),
        (IFA_FLAGS, Policy::U32),
        (IFA_RT_PRIORITY, Policy::U32),
        (IFA_TARGET_NETNSID, Policy::S32),
        (IFA_PROTO, Policy::U8),
    ],
};

fn address4(attribute: Attribute<'_>) -> Ipv4Addr {
    Ipv4Addr::from(attribute.value.first_chunk().copied().unwrap_or([0; 4]))
}

fn address6(attribute: Attribute<'_>) -> Option<Ipv6Addr> {
    attribute.value.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes))
}

fn parse<'a>(
    request: &Request<'a>,
    policies: &'static Policies,
    strictness: Strictness,
) -> Outcome<(AddressMessage, Parsed<'a>)> {
    let attributes = request.parse(HEADER, policies, strictness)?;
    Ok((request.message.fixed().unwrap_or_default(), attributes))
}

/// Valid and preferred seconds of a request.
fn lifetimes(attributes: &Parsed<'_>) -> Option<(u32, u32)> {
    let bytes = attributes.get(IFA_CACHEINFO)?.value;
    let number = |at: usize| bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
    let (preferred, valid) = (number(0)?, number(4)?);
    Some((u32::from_ne_bytes(*valid), u32::from_ne_bytes(*preferred)))
}

fn flags(header: &AddressMessage, attributes: &Parsed<'_>) -> u32 {
    attributes.get(IFA_FLAGS).map_or(u32::from(header.ifa_flags), |flags| flags.u32())
}

/// The address that a request describes, and its interface (`inet_validate_rtm`, `inet_rtm_to_ifaddr`).
fn read4(
    net: &NetState,
    header: &AddressMessage,
    attributes: &Parsed<'_>,
) -> Outcome<(Arc<NetDevice>, Address)> {
    let refuse = |text| Err(Failure::new(Errno::EINVAL, text));
    if header.ifa_prefixlen > 32 {
        return refuse("ipv4: Invalid prefix length");
    }
    let Some(local) = attributes.get(IFA_LOCAL) else {
        return refuse("ipv4: Local address is not supplied");
    };
    let lifetimes = lifetimes(attributes).unwrap_or((FOREVER, FOREVER));
    if lifetimes.0 == 0 || lifetimes.1 > lifetimes.0 {
        return refuse("ipv4: address lifetime invalid");
    }
    let device = net
        .devices()
        .by_index(header.ifa_index as i32)
        .ok_or(Failure::new(Errno::ENODEV, "ipv4: Device not found"))?;
    let ip = device.ip().filter(|ip| ip.has(false)).ok_or(Errno::ENOBUFS)?;
    ip.touch_settings4();
    let label = match attributes.get(IFA_LABEL) {
        Some(label) => InterfaceName::label(&[label.text()]),
        None => device.name(),
    };
    let local = IpAddr::V4(address4(local));
    let mut address = Address::new(local, header.ifa_prefixlen, header.ifa_scope, label);
    if let Some(peer) = attributes.get(IFA_ADDRESS) {
        address.peer = address4(peer).into();
    }
    address.flags = flags(header, attributes);
    address.broadcast =
        attributes.get(IFA_BROADCAST).map(address4).filter(|address| !address.is_unspecified());
    address.metric = attributes.get(IFA_RT_PRIORITY).map_or(0, |metric| metric.u32());
    address.protocol = attributes.get(IFA_PROTO).map_or(0, |protocol| protocol.u8());
    address.set_lifetimes(lifetimes.0, lifetimes.1);
    Ok((device, address))
}

/// RTM_NEWADDR of IPv4.
fn new4(request: &Request<'_>) -> Outcome<()> {
    let (header, attributes) = parse(request, &POLICIES4, Strictness::Liberal)?;
    let net = request.namespace().state();
    let rtnl = Rtnl::lock(net);
    let (device, address) = read4(net, &header, &attributes)?;
    let ip = device.ip().ok_or(Errno::ENODEV)?;
    let existing = ip.addresses4.find_local(address.local, |other| {
        (other.length == address.length && other.network() == address.network()).then(|| other.clone())
    });
    let Some(existing) = existing else {
        if address.has(IFA_F_MCAUTOJOIN) && address.local.is_multicast() {
            multicast::join(net, &device, address.local)
                .map_err(|error| Failure::new(error, "ipv4: Multicast auto join failed"))?;
        }
        return inet::add(&rtnl, &device, address, &request.origin());
    };
    if request.has_flag(nl::NLM_F_EXCL) || !request.has_flag(nl::NLM_F_REPLACE) {
        return Err(Failure::new(Errno::EEXIST, "ipv4: Address already assigned"));
    }
    let mut new = (*existing).clone();
    new.metric = address.metric;
    new.protocol = address.protocol;
    new.set_lifetimes(address.valid, address.preferred);
    let new = ip.addresses4.replace(new)?;
    if existing.metric != new.metric {
        inet::change_metric(net, &device, &existing, &new);
    }
    lifetime::watch(net, &new);
    announce(net, RTM_NEWADDR, &device, &new, &request.origin());
    Ok(())
}

/// RTM_DELADDR of IPv4. `ENODEV`; `EADDRNOTAVAIL`: the interface has none like that.
fn delete4(request: &Request<'_>) -> Outcome<()> {
    let (header, attributes) = parse(request, &POLICIES4, Strictness::Liberal)?;
    let net = request.namespace().state();
    let rtnl = Rtnl::lock(net);
    let device = net.devices().by_index(header.ifa_index as i32);
    let Some((device, ip)) = device.and_then(|device| device.ip().map(|ip| (device, ip))) else {
        return Err(Failure::new(Errno::ENODEV, "ipv4: Device not found"));
    };
    let is_meant = |address: &Arc<Address>| {
        attributes.get(IFA_LOCAL).is_none_or(|local| address.local == IpAddr::V4(address4(local)))
            && attributes.get(IFA_LABEL).is_none_or(|label| address.label.as_bytes() == label.text())
            && attributes.get(IFA_ADDRESS).is_none_or(|other| {
                let other = IpAddr::V4(address4(other));
                header.ifa_prefixlen == address.length
                    && crate::ip::address::network_of(other, address.length) == address.network()
            })
    };
    let found = match attributes.get(IFA_LOCAL) {
        Some(local) => ip
            .addresses4
            .find_local(address4(local).into(), |address| is_meant(address).then(|| address.clone())),
        None => ip.addresses4.iter().find(is_meant),
    };
    let Some(address) = found else {
        return Err(Failure::new(Errno::EADDRNOTAVAIL, "ipv4: Address not found"));
    };
    if address.local.is_multicast() {
        let _ = multicast::leave(net, &device, address.local);
    }
    inet::remove(&rtnl, &device, &address, &request.origin());
    Ok(())
}

/// The address and the other end that a request of IPv6 names (`extract_addr`).
fn ends6(attributes: &Parsed<'_>) -> Option<(Ipv6Addr, Option<Ipv6Addr>)> {
    let address = attributes.get(IFA_ADDRESS).and_then(address6);
    match attributes.get(IFA_LOCAL).and_then(address6) {
        Some(local) => Some((local, address.filter(|peer| *peer != local))),
        None => Some((address?, None)),
    }
}

/// RTM_NEWADDR of IPv6 (`inet6_rtm_newaddr`).
fn new6(request: &Request<'_>) -> Outcome<()> {
    let (header, attributes) = parse(request, &POLICIES6, Strictness::Liberal)?;
    let refuse = |text| Err(Failure::new(Errno::EINVAL, text));
    let Some((local, peer)) = ends6(&attributes) else { return Err(Errno::EINVAL.into()) };
    let (valid, preferred) = lifetimes(&attributes).unwrap_or((FOREVER, FOREVER));
    if attributes.has(IFA_CACHEINFO) && (valid == 0 || preferred > valid) {
        return refuse("ipv6: address lifetime invalid");
    }
    let net = request.namespace().state();
    let rtnl = Rtnl::lock(net);
    let device = net
        .devices()
        .by_index(header.ifa_index as i32)
        .ok_or(Failure::new(Errno::ENODEV, "ipv6: Unable to find the interface"))?;
    let settable = IFA_F_NODAD
        | IFA_F_HOMEADDRESS
        | IFA_F_MANAGETEMPADDR
        | IFA_F_NOPREFIXROUTE
        | IFA_F_MCAUTOJOIN
        | IFA_F_OPTIMISTIC;
    let mut address = Address::new(local.into(), header.ifa_prefixlen, 0, device.name());
    address.peer = peer.map_or(address.local, IpAddr::V6);
    address.flags = flags(&header, &attributes) & settable;
    address.metric = attributes.get(IFA_RT_PRIORITY).map_or(0, |metric| metric.u32());
    address.protocol = attributes.get(IFA_PROTO).map_or(0, |protocol| protocol.u8());
    let ip = device.ip().filter(|ip| ip.has(true)).ok_or(Errno::ENOBUFS)?;
    address.set_lifetimes(valid, preferred);
    match ip.addresses6.get(local.into()) {
        None if header.ifa_prefixlen > 128 => refuse("ipv6: Invalid prefix length"),
        None if address.has(IFA_F_MANAGETEMPADDR) && header.ifa_prefixlen != 64 => {
            refuse("ipv6: address with \"mngtmpaddr\" flag must have a prefix length of 64")
        }
        None => {
            if address.has(IFA_F_MCAUTOJOIN) && local.is_multicast() {
                multicast::join(net, &device, local.into())
                    .map_err(|error| Failure::new(error, "ipv6: Multicast auto join failed"))?;
            }
            inet6::add(&rtnl, &device, address, &request.origin())
        }
        Some(_) if request.has_flag(nl::NLM_F_EXCL) || !request.has_flag(nl::NLM_F_REPLACE) => {
            Err(Failure::new(Errno::EEXIST, "ipv6: address already assigned"))
        }
        Some(existing) => modify6(request, &device, &existing, &address),
    }
}

/// Changes an address of IPv6 (`inet6_addr_modify`).
fn modify6(
    request: &Request<'_>,
    device: &Arc<NetDevice>,
    existing: &Arc<Address>,
    wanted: &Address,
) -> Outcome<()> {
    let net = request.namespace().state();
    let ip = device.ip().ok_or(Errno::ENODEV)?;
    let mut new = (**existing).clone();
    let kept = IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_TEMPORARY;
    new.flags = existing.flags & kept | wanted.flags & !IFA_F_OPTIMISTIC;
    new.protocol = wanted.protocol;
    if wanted.metric != 0 {
        new.metric = wanted.metric;
    }
    new.set_lifetimes(wanted.valid, wanted.preferred);
    let new = inet6::replace(net, &ip, new)?;
    inet6::change_network_route(net, device, existing, &new);
    lifetime::watch(net, &new);
    announce(net, RTM_NEWADDR, device, &new, &request.origin());
    Ok(())
}

/// RTM_DELADDR of IPv6. `EINVAL`: it names none; `ENODEV`; `EADDRNOTAVAIL`: the interface has none like that.
fn delete6(request: &Request<'_>) -> Outcome<()> {
    let (header, attributes) = parse(request, &POLICIES6, Strictness::Liberal)?;
    let Some((local, _)) = ends6(&attributes) else { return Err(Errno::EINVAL.into()) };
    if header.ifa_prefixlen > 128 {
        return Err(Failure::new(Errno::EINVAL, "ipv6: Invalid prefix length"));
    }
    let net = request.namespace().state();
    let rtnl = Rtnl::lock(net);
    let device = net
        .devices()
        .by_index(header.ifa_index as i32)
        .ok_or(Failure::new(Errno::ENODEV, "ipv6: Unable to find the interface"))?;
    let ip = device.ip().ok_or(Failure::new(Errno::ENXIO, "ipv6: IPv6 is disabled on this device"))?;
    let found = ip.addresses6.get(local.into()).filter(|found| found.length == header.ifa_prefixlen);
    let Some(address) = found else {
        return Err(Failure::new(Errno::EADDRNOTAVAIL, "ipv6: address not found"));
    };
    if address.has(IFA_F_MCAUTOJOIN) && address.local.is_multicast() {
        let _ = multicast::leave(net, &device, address.local);
    }
    inet6::remove(&rtnl, &device, &address, &request.origin());
    Ok(())
}

/// RTM_GETADDR for one address of IPv6. `EINVAL`; `ENODEV`; `EADDRNOTAVAIL`: nobody has it.
fn get6(request: &Request<'_>) -> Outcome<()> {
    let strict = request.is_strict();
    let (header, attributes) =
        parse(request, &POLICIES6, if strict { Strictness::Old } else { Strictness::Liberal })?;
    if strict && (header.ifa_prefixlen != 0 || header.ifa_flags != 0 || header.ifa_scope != 0) {
        return Err(Failure::new(Errno::EINVAL, "ipv6: Invalid values in header for get address request"));
    }
    if strict
        && attributes
            .iter()
            .any(|attribute| ![IFA_TARGET_NETNSID, IFA_ADDRESS, IFA_LOCAL].contains(&attribute.kind))
    {
        return Err(Failure::new(Errno::EINVAL, "ipv6: Unsupported attribute in get address request"));
    }
    let namespace = match attributes.get(IFA_TARGET_NETNSID) {
        Some(id) => namespace_by_id(request, id.i32())?,
        None => request.namespace().clone(),
    };
    let Some((local, _)) = ends6(&attributes) else { return Err(Errno::EINVAL.into()) };
    let index = header.ifa_index as i32;
    let found = inet6::owner(namespace.state(), local, index).ok_or(Errno::EADDRNOTAVAIL)?;
    let device = namespace.devices().by_index(found.index).ok_or(Errno::EADDRNOTAVAIL)?;
    let mut out = Builder::new(ROOM);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    let target = attributes.get(IFA_TARGET_NETNSID).map(|id| id.i32());
    describe(RTM_NEWADDR, &device, &found, target, &mut out, &reply)?;
    request.answer(out);
    Ok(())
}

/// Writes an address as bytes.
pub(super) fn put_address(out: &mut Builder, kind: u16, address: IpAddr) -> Result<()> {
    match address {
        IpAddr::V4(address) => out.attribute(kind, &address.octets()),
        IpAddr::V6(address) => out.attribute(kind, &address.octets()),
    }
}

/// The attributes of an IPv6 address, in Linux's order.
fn put6(address: &Address, lifetimes: &AddressLifetimes, out: &mut Builder) -> Result<()> {
    if address.peer == address.local {
        put_address(out, IFA_ADDRESS, address.local)?;
    } else {
        put_address(out, IFA_LOCAL, address.local)?;
        put_address(out, IFA_ADDRESS, address.peer)?;
    }
    if address.metric != 0 {
        out.u32(IFA_RT_PRIORITY, address.metric)?;
    }
    out.attribute(IFA_CACHEINFO, lifetimes.as_bytes())?;
    out.u32(IFA_FLAGS, address.flags)?;
    if address.protocol != 0 {
        out.u8(IFA_PROTO, address.protocol)?;
    }
    Ok(())
}

/// The attributes of an IPv4 address, in Linux's order.
fn put4(address: &Address, lifetimes: &AddressLifetimes, out: &mut Builder) -> Result<()> {
    if !address.peer.is_unspecified() {
        put_address(out, IFA_ADDRESS, address.peer)?;
    }
    put_address(out, IFA_LOCAL, address.local)?;
    if let Some(broadcast) = address.broadcast {
        put_address(out, IFA_BROADCAST, broadcast.into())?;
    }
    if !address.label.as_bytes().is_empty() {
        out.text(IFA_LABEL, address.label.as_bytes())?;
    }
    if address.protocol != 0 {
        out.u8(IFA_PROTO, address.protocol)?;
    }
    out.u32(IFA_FLAGS, address.flags)?;
    if address.metric != 0 {
        out.u32(IFA_RT_PRIORITY, address.metric)?;
    }
    out.attribute(IFA_CACHEINFO, lifetimes.as_bytes())?;
    Ok(())
}

/// Writes the message (`inet_fill_ifaddr`, `inet6_fill_ifaddr`).
fn describe(
    kind: u16,
    device: &NetDevice,
    address: &Address,
    target: Option<i32>,
    out: &mut Builder,
    reply: &Reply,
) -> Result<()> {
    let mark = out.begin(kind, reply.flags, reply.sequence, reply.port)?;
    let is_v6 = address.local.is_ipv6();
    let header = AddressMessage {
        ifa_family: if is_v6 { V6 } else { V4 },
        ifa_prefixlen: address.length,
        ifa_flags: address.flags as u8,
        ifa_scope: address.scope,
        ifa_index: device.index() as u32,
    };
    out.fixed(header.as_bytes())?;
    if let Some(target) = target {
        out.i32(IFA_TARGET_NETNSID, target)?;
    }
    let (preferred, valid) = address.remaining();
    let lifetimes = AddressLifetimes {
        ifa_prefered: preferred,
        ifa_valid: valid,
        cstamp: address.created,
        tstamp: (address.updated_ns / 10_000_000) as u32,
    };
    if is_v6 {
        put6(address, &lifetimes, out)?
    } else {
        put4(address, &lifetimes, out)?
    }
    out.end(mark);
    Ok(())
}

/// Tells RTNLGRP_IPV4_IFADDR or RTNLGRP_IPV6_IFADDR of an address.
pub(crate) fn announce(net: &NetState, kind: u16, device: &NetDevice, address: &Address, origin: &Origin) {
    net.ip.control.generation.fetch_add(1, machine::sync::atomic::Ordering::Relaxed);
    let group = if address.local.is_ipv6() { RTNLGRP_IPV6_IFADDR } else { RTNLGRP_IPV4_IFADDR };
    super::tell(net, group, ROOM, origin, |out, reply| describe(kind, device, address, None, out, reply));
}

fn dump4(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    boxed(AddressDump::new(request, &[false])?)
}
fn dump6(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    boxed(AddressDump::new(request, &[true])?)
}
fn dump_both(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    boxed(AddressDump::new(request, &[false, true])?)
}

struct AddressDump {
    namespace: Arc<NetNamespace>,
    families: &'static [bool],
    target: Option<i32>,
    index: i32,
    is_filtered: bool,
    /// The family, the interface and the place in its list that come next.
    family: usize,
    next_index: i32,
    next_key: u128,
}

impl AddressDump {
    fn new(request: &Request<'_>, families: &'static [bool]) -> Outcome<AddressDump> {
        let mut dump = AddressDump {
            namespace: request.namespace().clone(),
            families,
            target: None,
            index: 0,
            is_filtered: false,
            family: 0,
            next_index: 0,
            next_key: 0,
        };
        if !request.is_strict() {
            return Ok(dump);
        }
        dump.check(request)?;
        if dump.index != 0 && dump.namespace.devices().by_index(dump.index).is_none() {
            return Err(Errno::ENODEV.into());
        }
        Ok(dump)
    }

    /// What strict checking demands of a request, and what it asks for (`inet_valid_dump_ifaddr_req`).
    fn check(&mut self, request: &Request<'_>) -> Outcome<()> {
        // Both families' words are the same but for the first.
        let is_v6 = self.families.first().is_some_and(|is_v6| *is_v6);
        let refuse = |v4: &'static str, v6: &'static str| {
            Err(Failure::new(Errno::EINVAL, if is_v6 { v6 } else { v4 }))
        };
        let Some(header) = request.message.fixed::<AddressMessage>() else {
            return refuse(
                "ipv4: Invalid header for address dump request",
                "ipv6: Invalid header for address dump request",
            );
        };
        if header.ifa_prefixlen != 0 || header.ifa_flags != 0 || header.ifa_scope != 0 {
            return refuse(
                "ipv4: Invalid values in header for address dump request",
                "ipv6: Invalid values in header for address dump request",
            );
        }
        self.index = header.ifa_index as i32;
        self.is_filtered = self.index != 0;
        let policies = if is_v6 { &POLICIES6 } else { &POLICIES4 };
        let attributes: Parsed<'_> = request.parse(HEADER, policies, Strictness::Old)?;
        for attribute in attributes.iter() {
            if attribute.kind != IFA_TARGET_NETNSID {
                return refuse(
                    "ipv4: Unsupported attribute in dump request",
                    "ipv6: Unsupported attribute in dump request",
                );
            }
            let found = namespace_by_id(request, attribute.i32());
            self.namespace = match found {
                Ok(namespace) => namespace,
                Err(error) => {
                    let text = if is_v6 {
                        "ipv6: Invalid target network namespace id"
                    } else {
                        "ipv4: Invalid target network namespace id"
                    };
                    return Err(Failure::new(error, text));
                }
            };
            self.target = Some(attribute.i32());
        }
        Ok(())
    }

    /// The addresses of one interface; whether all fitted.
    fn fill_device(
        &mut self,
        device: &NetDevice,
        is_v6: bool,
        out: &mut Builder,
        reply: &Reply,
    ) -> Result<bool> {
        let Some(ip) = device.ip() else { return Ok(true) };
        while let Some(address) = ip.addresses(is_v6).first_from(self.next_key) {
            let before = out.mark();
            match describe(RTM_NEWADDR, device, &address, self.target, out, reply) {
                Ok(()) => {}
                Err(Errno::EMSGSIZE) => {
                    out.cancel(before);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            self.next_key = address.key + 1;
        }
        Ok(true)
    }
}

impl Dumper for AddressDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        let flags = if self.is_filtered { nl::NLM_F_DUMP_FILTERED } else { 0 };
        let reply = Reply { flags: reply.flags | flags, ..*reply };
        while let Some(is_v6) = self.families.get(self.family).copied() {
            let namespace = self.namespace.clone();
            while let Some(device) = namespace.devices().next_from(self.next_index) {
                if device.index() != self.next_index {
                    (self.next_index, self.next_key) = (device.index(), 0);
                }
                let wanted = self.index == 0 || self.index == device.index();
                if wanted && !self.fill_device(&device, is_v6, out, &reply)? {
                    return Ok(false);
                }
                self.next_key = 0;
                match device.index().checked_add(1) {
                    Some(next) => self.next_index = next,
                    None => break,
                }
            }
            self.family += 1;
            (self.next_index, self.next_key) = (0, 0);
        }
        Ok(true)
    }

    fn generation(&self) -> Option<u32> {
        let generation = &self.namespace.ip.control.generation;
        Some(generation.load(machine::sync::atomic::Ordering::Relaxed))
    }
}
