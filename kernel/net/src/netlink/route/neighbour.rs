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
use crate::device::{NetDevice, Rtnl};
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
        return Err(Errno::EOPNOTSUPP.into());
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

/// The one state that the bits of a request say; none of them: nothing is known.
fn wanted_state(bits: u16) -> Option<Nud> {
    Nud::from_number(bits)
}

/// RTM_DELNEIGH (`neigh_delete`). `ENOENT`.
fn delete(request: &Request<'_>) -> Outcome<()> {
    let _rtnl = Rtnl::lock(request.namespace().state());
    let (header, attributes, device) = parse(request)?;
    let address = destination(&header, &attributes)?;
    let Some(device) = device else { return refuse("Device not specified") };
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
    if neighbour.hear(None, news).is_notable {
        tell(RTM_NEWNEIGH, device, &neighbour.describe(), origin);
    }
    if table.remove(neighbour.address())? {
        tell(RTM_DELNEIGH, device, &neighbour.describe(), &Origin::default());
    }
    Ok(())
}

/// RTM_GETNEIGH of one (`neigh_get`).
fn get(request: &Request<'_>) -> Outcome<()> {
    let (header, attributes, device) = parse(request)?;
    let address = destination(&header, &attributes)?;
    let Some(device) = device else { return refuse("No device specified") };
    let ip = device.ip().ok_or(Errno::ENODEV)?;
    let Some(found) = ip.neighbours(address.is_ipv6()).find(address) else {
        return Err(Failure::new(Errno::ENOENT, "Neighbour entry not found"));
    };
    let mut out = Builder::new(ROOM);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
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
    match neighbour.address {
        IpAddr::V4(address) => out.attribute(NDA_DST, &address.octets())?,
        IpAddr::V6(address) => out.attribute(NDA_DST, &address.octets())?,
    }
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

/// Tells listeners of a neighbour that was taken out. Thread context.
pub(crate) fn announce_end(device: &NetDevice, neighbour: &Neighbour) {
    tell(RTM_DELNEIGH, device, &neighbour.describe(), &Origin::default());
}

/// The same as [`announce`] for who must not sleep: a worker tells them, if there are any.
pub(crate) fn announce_later(device: &Arc<NetDevice>, neighbour: &Arc<Neighbour>) {
    if !device.namespace().netlink.has_listeners(abi::netlink::NETLINK_ROUTE as u8, RTNLGRP_NEIGH) {
        return;
    }
    let (device, neighbour) = (device.clone(), neighbour.clone());
    // Without memory nobody is told, as if it had changed back at once.
    let _ = sched::work::queue(move || announce(&device, &neighbour));
}

/// RTM_GETNEIGH of all (`neigh_dump_info`).
fn dump(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    let mut dump = NeighbourDump {
        namespace: request.namespace().clone(),
        family: request.message.payload.first().copied().unwrap_or_default(),
        index: 0,
        next: (0, false, 0),
    };
    if request.is_strict() {
        dump.check(request)?;
    }
    boxed(dump)
}

struct NeighbourDump {
    namespace: Arc<NetNamespace>,
    family: u8,
    /// Only of this interface.
    index: i32,
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
                NDA_MASTER => {}
                _ => return refuse("Unsupported attribute in neighbor dump request"),
            }
        }
        Ok(())
    }

    fn wants(&self, is_v6: bool) -> bool {
        self.family == AF_UNSPEC as u8 || self.family == if is_v6 { V6 } else { V4 }
    }
}

impl Dumper for NeighbourDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some(device) = self.namespace.devices().next_from(self.next.0) {
            if device.index() != self.next.0 {
                self.next = (device.index(), false, 0);
            }
            let is_wanted = self.index == 0 || self.index == device.index();
            let ip = device.ip().filter(|_| is_wanted && self.wants(self.next.1));
            while let Some((key, found)) =
                ip.as_ref().and_then(|ip| ip.neighbours(self.next.1).next_from(self.next.2))
            {
                let before = out.mark();
                match describe(RTM_NEWNEIGH, &device, &found.describe(), out, reply) {
                    Ok(()) => {}
                    Err(Errno::EMSGSIZE) => {
                        out.cancel(before);
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
                let Some(next) = key.checked_add(1) else { break };
                self.next.2 = next;
            }
            self.next = if self.next.1 {
                (device.index().saturating_add(1), false, 0)
            } else {
                (device.index(), true, 0)
            };
        }
        Ok(true)
    }
}
