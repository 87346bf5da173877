//! RTM_*NEIGH: neighbours, as messages (rtnetlink(7), `ndmsg`).
//!
//! Changing takes [`Rtnl`]; a dump goes on from interface, family and address. Neighbours: [`crate::ip::neighbour`].

use abi::errno::{Errno, Result};
use abi::neighbour::*;
use abi::route::RTN_UNICAST;
use abi::rtnetlink::*;
use abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linnet_lib::neighbour::{News, Nud};
use linnet_lib::netlink::{Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};
use zerocopy::IntoBytes;

use super::Handler;
use super::address::put_address;
use crate::device::{NetDevice, Rtnl};
use crate::ip::neighbour::proxy::{Proxy, with_proxies};
use crate::ip::neighbour::{Description, Neighbour, Neighbours};
use crate::namespace::NetNamespace;
use crate::netlink::Origin;
use crate::netlink::request::{Dumper, Reply, Request, boxed};

const V4: u8 = AF_INET as u8;
const V6: u8 = AF_INET6 as u8;

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_NEWNEIGH, family: AF_UNSPEC as u8, act: Some(new), dump: None },
    Handler { message: RTM_DELNEIGH, family: AF_UNSPEC as u8, act: Some(delete), dump: None },
    Handler { message: RTM_GETNEIGH, family: AF_UNSPEC as u8, act: Some(get), dump: Some(dump) },
];

/// Bytes of the fixed header.
const HEADER: usize = size_of::<NeighbourMessage>();
/// Room for one neighbour.
const ROOM: usize = 256;
const ATTRIBUTES: usize = NDA_FLAGS_EXT as usize + 1;
type Parsed<'a> = Attributes<'a, ATTRIBUTES>;

static POLICIES: Policies = Policies {
    max: NDA_FLAGS_EXT,
    rules: &[
        (NDA_PROBES, Policy::U32),
        (NDA_VLAN, Policy::U16),
        (NDA_PORT, Policy::U16),
        (NDA_VNI, Policy::U32),
        (NDA_IFINDEX, Policy::U32),
        (NDA_MASTER, Policy::U32),
        (NDA_PROTOCOL, Policy::U8),
        (NDA_NH_ID, Policy::U32),
        (NDA_FLAGS_EXT, Policy::U32),
    ],
};

fn refuse<T>(text: &'static str) -> Outcome<T> {
    Err(Failure::new(Errno::EINVAL, text))
}

/// The address of a request (`NDA_DST`), of the family that it says.
fn destination(header: &NeighbourMessage, attributes: &Parsed<'_>) -> Outcome<IpAddr> {
    let Some(destination) = attributes.get(NDA_DST) else { return refuse("Network address not specified") };
    let found = match header.ndm_family {
        V4 => destination.value.first_chunk::<4>().map(|bytes| IpAddr::V4(Ipv4Addr::from(*bytes))),
        V6 => destination.value.first_chunk::<16>().map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes))),
        _ => return Err(Errno::EAFNOSUPPORT.into()),
    };
    match found {
        Some(address) => Ok(address),
        None => refuse("Invalid network address"),
    }
}

/// What a request for one neighbour says: its address, its interface.
fn parse<'a>(request: &Request<'a>) -> Outcome<(NeighbourMessage, Parsed<'a>, Option<Arc<NetDevice>>)> {
    let attributes: Parsed<'a> = request.parse(HEADER, &POLICIES, Strictness::Liberal)?;
    let header: NeighbourMessage = request.message.fixed().unwrap_or_default();
    if !attributes.has(NDA_DST) {
        return refuse("Network address not specified");
    }
    let device = match header.ndm_ifindex {
        0 => None,
        index => Some(request.namespace().devices().by_index(index).ok_or(Errno::ENODEV)?),
    };
    Ok((header, attributes, device))
}

/// RTM_NEWNEIGH (`neigh_add`).
fn new(request: &Request<'_>) -> Outcome<()> {
    let _rtnl = Rtnl::lock(request.namespace().state());
    let (header, attributes, device) = parse(request)?;
    let link = attributes.get(NDA_LLADDR).map(|link| link.value);
    if let (Some(device), Some(link)) = (&device, link)
        && link.len() < device.address().len()
    {
        return refuse("Invalid link address");
    }
    let address = destination(&header, &attributes)?;
    if header.ndm_flags & NTF_PROXY != 0 {
        return new_proxy(request, &header, &attributes, device.as_ref(), address);
    }
    let Some(device) = device else { return refuse("Device not specified") };
    let Some(state) = wanted_state(header.ndm_state) else { return refuse("Invalid state") };
    let ip = device.ip().ok_or(Errno::ENODEV)?;
    let table = ip.neighbours(address.is_ipv6());
    let mut overrides = true;
    let neighbour = match table.find(address) {
        Some(_) if request.has_flag(abi::netlink::NLM_F_EXCL) => return Err(Errno::EEXIST.into()),
        Some(found) => {
            overrides = request.has_flag(abi::netlink::NLM_F_REPLACE);
            found
        }
        None if !request.has_flag(abi::netlink::NLM_F_CREATE) => return Err(Errno::ENOENT.into()),
        None => table.find_or_add(&device, address)?,
    };
    let known = neighbour.describe();
    let link = link.map(|link| &link[..link.len().min(device.address().len())]);
    if state.is_valid()
        && link.is_none()
        && !known.reachability.state().is_valid()
        && !device.address().is_empty()
    {
        return refuse("No link layer address given");
    }
    let kept = header.ndm_flags & (NTF_EXT_LEARNED | NTF_ROUTER);
    neighbour.set_marks(kept, attributes.get(NDA_PROTOCOL).map(|protocol| protocol.u8()));
    if header.ndm_flags & NTF_USE != 0 {
        neighbour.use_now(&device);
        return Ok(());
    }
    let news = News { state, is_other_address: false, overrides, is_doubt: false, is_order: true };
    if neighbour.hear(link, news).is_notable {
        tell(RTM_NEWNEIGH, &device, &neighbour.describe(), &request.origin());
    }
    Ok(())
}

/// An address that is to be answered for.
fn new_proxy(
    request: &Request<'_>,
    header: &NeighbourMessage,
    attributes: &Parsed<'_>,
    device: Option<&Arc<NetDevice>>,
    address: IpAddr,
) -> Outcome<()> {
    let protocol = attributes.get(NDA_PROTOCOL).map_or(0, |protocol| protocol.u8());
    let proxy = Proxy { address, flags: header.ndm_flags & !NTF_PROXY, protocol };
    let net = request.namespace().state();
    with_proxies(net, device, address.is_ipv6(), |proxies| proxies.set(net, device, proxy))?;
    Ok(())
}

/// The one state that the bits of a request say; none of them: nothing is known.
fn wanted_state(bits: u16) -> Option<Nud> {
    Nud::from_number(bits)
}

/// RTM_DELNEIGH (`neigh_delete`). `ENOENT`.
fn delete(request: &Request<'_>) -> Outcome<()> {
    let _rtnl = Rtnl::lock(request.namespace().state());
    let (header, attributes, device) = parse(request)?;
    let address = destination(&header, &attributes)?;
    if header.ndm_flags & NTF_PROXY != 0 {
        let net = request.namespace().state();
        let device = device.as_ref();
        let was_there =
            with_proxies(net, device, address.is_ipv6(), |proxies| proxies.remove(net, device, address))?;
        return if was_there { Ok(()) } else { Err(Errno::ENOENT.into()) };
    }
    let device = device.ok_or(Errno::EINVAL)?;
    let ip = device.ip().ok_or(Errno::ENODEV)?;
    let table = ip.neighbours(address.is_ipv6());
    let neighbour = table.find(address).ok_or(Errno::ENOENT)?;
    Ok(forget(&device, table, &neighbour, &request.origin())?)
}

/// Takes a neighbour out and tells of it, as an administrator wants. Under [`Rtnl`]. `ENOMEM`.
pub(crate) fn forget(
    device: &NetDevice,
    table: &Neighbours,
    neighbour: &Arc<Neighbour>,
    origin: &Origin,
) -> Result<()> {
    let news = News {
        state: Nud::Failed,
        is_other_address: false,
        overrides: true,
        is_doubt: false,
        is_order: true,
    };
    // Who learned it elsewhere is not asked (`neigh_update_ext_learned`).
    neighbour.set_marks(neighbour.describe().flags & !NTF_EXT_LEARNED, None);
    if neighbour.hear(None, news).is_notable {
        tell(RTM_NEWNEIGH, device, &neighbour.describe(), origin);
    }
    if table.remove(neighbour.address())? {
        tell(RTM_DELNEIGH, device, &neighbour.describe(), &Origin::default());
    }
    Ok(())
}

/// What a request for one neighbour may say (`neigh_valid_get_req`).
fn check_get(request: &Request<'_>) -> Outcome<(NeighbourMessage, IpAddr)> {
    let Some(header) = request.message.fixed::<NeighbourMessage>() else {
        return refuse("Invalid header for neighbor get request");
    };
    if header.pad1 != 0 || header.pad2 != 0 || header.ndm_state != 0 || header.ndm_type != 0 {
        return refuse("Invalid values in header for neighbor get request");
    }
    if header.ndm_flags & !NTF_PROXY != 0 {
        return refuse("Invalid flags in header for neighbor get request");
    }
    let attributes: Parsed<'_> = request.parse(HEADER, &POLICIES, Strictness::Old)?;
    if !attributes.has(NDA_DST) {
        return Err(Failure::missing(NDA_DST));
    }
    if attributes.iter().any(|one| one.kind != NDA_DST) {
        return refuse("Unsupported attribute in neighbor get request");
    }
    let Ok(address) = destination(&header, &attributes) else {
        return refuse("Invalid network address in neighbor get request");
    };
    Ok((header, address))
}

/// RTM_GETNEIGH of one (`neigh_get`).
fn get(request: &Request<'_>) -> Outcome<()> {
    let (header, address) = check_get(request)?;
    let device = match header.ndm_ifindex {
        0 => None,
        index => match request.namespace().devices().by_index(index) {
            Some(device) => Some(device),
            None => return Err(Failure::new(Errno::ENODEV, "Unknown device ifindex")),
        },
    };
    let mut out = Builder::new(ROOM);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    if header.ndm_flags & NTF_PROXY != 0 {
        let net = request.namespace().state();
        let device = device.as_ref();
        let found = with_proxies(net, device, address.is_ipv6(), |proxies| Ok(proxies.get(address)))?;
        let Some(found) = found else {
            return Err(Failure::new(Errno::ENOENT, "Proxy neighbour entry not found"));
        };
        describe_proxy(device.map_or(0, |device| device.index()), &found, &mut out, &reply)?;
        request.answer(out);
        return Ok(());
    }
    let Some(device) = device else { return refuse("No device specified") };
    let ip = device.ip().ok_or(Errno::ENODEV)?;
    let Some(found) = ip.neighbours(address.is_ipv6()).find(address) else {
        return Err(Failure::new(Errno::ENOENT, "Neighbour entry not found"));
    };
    describe(RTM_NEWNEIGH, &device, &found.describe(), &mut out, &reply)?;
    request.answer(out);
    Ok(())
}

/// Writes a neighbour (`neigh_fill_info`).
fn describe(
    kind: u16,
    device: &NetDevice,
    neighbour: &Description,
    out: &mut Builder,
    reply: &Reply,
) -> Result<()> {
    let mark = out.begin(kind, reply.flags, reply.sequence, reply.port)?;
    let reachability = &neighbour.reachability;
    let header = NeighbourMessage {
        ndm_family: if neighbour.address.is_ipv6() { V6 } else { V4 },
        ndm_ifindex: device.index(),
        ndm_state: reachability.state() as u16,
        ndm_flags: neighbour.flags,
        ndm_type: RTN_UNICAST,
        ..NeighbourMessage::default()
    };
    out.fixed(header.as_bytes())?;
    put_address(out, NDA_DST, neighbour.address)?;
    if reachability.state().is_valid() {
        out.attribute(NDA_LLADDR, &neighbour.link)?;
    }
    out.u32(NDA_PROBES, reachability.probes())?;
    let now = machine::time::now_ns();
    let hundredths = |since: u64| (now.saturating_sub(since) / 10_000_000) as u32;
    let times = NeighbourTimes {
        ndm_confirmed: hundredths(reachability.confirmed_ns),
        ndm_used: hundredths(reachability.used_ns),
        ndm_updated: hundredths(reachability.updated_ns),
        ndm_refcnt: 0,
    };
    out.attribute(NDA_CACHEINFO, times.as_bytes())?;
    if neighbour.protocol != 0 {
        out.u8(NDA_PROTOCOL, neighbour.protocol)?;
    }
    out.end(mark);
    Ok(())
}

/// Writes an address that is answered for (`pneigh_fill_info`).
fn describe_proxy(index: i32, proxy: &Proxy, out: &mut Builder, reply: &Reply) -> Result<()> {
    let mark = out.begin(RTM_NEWNEIGH, reply.flags, reply.sequence, reply.port)?;
    let header = NeighbourMessage {
        ndm_family: if proxy.address.is_ipv6() { V6 } else { V4 },
        ndm_ifindex: index,
        ndm_flags: proxy.flags | NTF_PROXY,
        ndm_type: RTN_UNICAST,
        ..NeighbourMessage::default()
    };
    out.fixed(header.as_bytes())?;
    put_address(out, NDA_DST, proxy.address)?;
    if proxy.protocol != 0 {
        out.u8(NDA_PROTOCOL, proxy.protocol)?;
    }
    out.end(mark);
    Ok(())
}

fn tell(kind: u16, device: &NetDevice, neighbour: &Description, origin: &Origin) {
    let net = device.namespace();
    super::tell(&net, RTNLGRP_NEIGH, ROOM, origin, |out, reply| {
        describe(kind, device, neighbour, out, reply)
    });
}

/// Tells listeners of a neighbour that changed. Thread context.
pub(crate) fn announce(device: &NetDevice, neighbour: &Neighbour) {
    tell(RTM_NEWNEIGH, device, &neighbour.describe(), &Origin::default());
}

/// The same as [`announce`] for who must not sleep: a worker tells them, if there are any.
pub(crate) fn announce_later(device: &Arc<NetDevice>, neighbour: &Arc<Neighbour>) {
    if !has_listeners(device) {
        return;
    }
    // One that changes faster than it is told is told as it is then. Without memory nobody is told, as if it had changed back at once.
    neighbour.when_idle(device, announce);
}

/// The same of one that was forgotten for want of room.
pub(crate) fn announce_end_later(device: &Arc<NetDevice>, neighbour: &Arc<Neighbour>) {
    if has_listeners(device) {
        neighbour.when_idle(device, announce_end);
    }
}

fn has_listeners(device: &NetDevice) -> bool {
    device.namespace().netlink.has_listeners(abi::netlink::NETLINK_ROUTE as u8, RTNLGRP_NEIGH)
}

/// Tells listeners of a neighbour that is in no table any more. Thread context.
pub(crate) fn announce_end(device: &NetDevice, neighbour: &Neighbour) {
    tell(RTM_DELNEIGH, device, &neighbour.describe(), &Origin::default());
}

/// Asks the programs that listen for a neighbour's address (`app_solicit`). Thread context, or without memory nobody is asked.
pub(crate) fn ask_program(device: &Arc<NetDevice>, neighbour: &Arc<Neighbour>) {
    neighbour.when_idle(device, |device, neighbour| {
        let described = neighbour.describe();
        super::tell(&device.namespace(), RTNLGRP_NEIGH, ROOM, &Origin::default(), |out, reply| {
            let reply = Reply { flags: abi::netlink::NLM_F_REQUEST, ..*reply };
            describe(RTM_GETNEIGH, device, &described, out, &reply)
        });
    });
}

/// RTM_GETNEIGH of all (`neigh_dump_info`).
fn dump(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    let mut dump = NeighbourDump {
        namespace: request.namespace().clone(),
        family: request.message.payload.first().copied().unwrap_or_default(),
        wants_proxies: wants_proxies(request),
        index: 0,
        master: 0,
        next: (0, false, 0),
    };
    if request.is_strict() {
        dump.check(request)?;
    }
    boxed(dump)
}

/// Whether a dump is to tell what is answered for, not what is known.
fn wants_proxies(request: &Request<'_>) -> bool {
    request.message.fixed().is_some_and(|header: NeighbourMessage| header.ndm_flags == NTF_PROXY)
}

struct NeighbourDump {
    namespace: Arc<NetNamespace>,
    family: u8,
    /// What is answered for, not what is known.
    wants_proxies: bool,
    /// Only of this interface, and of those whose master this is.
    index: i32,
    master: i32,
    /// Interface, family and address that come next.
    next: (i32, bool, u128),
}

impl NeighbourDump {
    fn check(&mut self, request: &Request<'_>) -> Outcome<()> {
        let Some(header) = request.message.fixed::<NeighbourMessage>() else {
            return refuse("Invalid header for neighbor dump request");
        };
        if header.pad1 != 0
            || header.pad2 != 0
            || header.ndm_ifindex != 0
            || header.ndm_state != 0
            || header.ndm_type != 0
        {
            return refuse("Invalid values in header for neighbor dump request");
        }
        if header.ndm_flags & !NTF_PROXY != 0 {
            return refuse("Invalid flags in header for neighbor dump request");
        }
        let attributes: Parsed<'_> = request.parse(HEADER, &POLICIES, Strictness::Old)?;
        for attribute in attributes.iter() {
            match attribute.kind {
                NDA_IFINDEX => self.index = attribute.i32(),
                NDA_MASTER => self.master = attribute.i32(),
                _ => return refuse("Unsupported attribute in neighbor dump request"),
            }
        }
        Ok(())
    }

    fn wants(&self, is_v6: bool) -> bool {
        self.family == AF_UNSPEC as u8 || self.family == if is_v6 { V6 } else { V4 }
    }
}

impl NeighbourDump {
    /// The next entry of an interface (none: of those of all interfaces) from a key on, written; `None`: there is no more.
    fn fill_one(
        &self,
        device: Option<&Arc<NetDevice>>,
        out: &mut Builder,
        reply: &Reply,
    ) -> Result<Option<u128>> {
        let (_, is_v6, from) = self.next;
        if self.wants_proxies {
            let net = self.namespace.state();
            let found = with_proxies(net, device, is_v6, |proxies| Ok(proxies.next_from(from)))?;
            let Some((key, proxy)) = found else { return Ok(None) };
            describe_proxy(device.map_or(0, |device| device.index()), &proxy, out, reply)?;
            return Ok(Some(key));
        }
        let Some(device) = device else { return Ok(None) };
        let found = device.ip().and_then(|ip| ip.neighbours(is_v6).next_from(from));
        let Some((key, neighbour)) = found else { return Ok(None) };
        describe(RTM_NEWNEIGH, device, &neighbour.describe(), out, reply)?;
        Ok(Some(key))
    }

    /// What one interface has of one family; whether all fitted.
    fn fill_place(
        &mut self,
        device: Option<&Arc<NetDevice>>,
        out: &mut Builder,
        reply: &Reply,
    ) -> Result<bool> {
        loop {
            let before = out.mark();
            match self.fill_one(device, out, reply) {
                Ok(Some(key)) => match key.checked_add(1) {
                    Some(next) => self.next.2 = next,
                    None => return Ok(true),
                },
                // Without IP there is nothing.
                Ok(None) | Err(Errno::ENODEV) => return Ok(true),
                Err(Errno::EMSGSIZE) => {
                    out.cancel(before);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Dumper for NeighbourDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        let is_filtered = self.index != 0 || self.master != 0;
        let flags = if is_filtered { abi::netlink::NLM_F_DUMP_FILTERED } else { 0 };
        let reply = Reply { flags: reply.flags | flags, ..*reply };
        loop {
            // First what is of all interfaces, under the number 0.
            let device = match self.next.0 {
                0 => None,
                from => match self.namespace.devices().next_from(from) {
                    Some(device) => Some(device),
                    None => return Ok(true),
                },
            };
            let index = device.as_ref().map_or(0, |device| device.index());
            if index != self.next.0 {
                self.next = (index, false, 0);
            }
            let master =
                device.as_ref().and_then(|device| device.master()).map_or(0, |master| master.index());
            let is_wanted = (self.index == 0 || self.index == index)
                && (self.master == 0 || self.master == master)
                && self.wants(self.next.1);
            if is_wanted && !self.fill_place(device.as_ref(), out, &reply)? {
                return Ok(false);
            }
            self.next = if self.next.1 { (index.wrapping_add(1), false, 0) } else { (index, true, 0) };
        }
    }
}
