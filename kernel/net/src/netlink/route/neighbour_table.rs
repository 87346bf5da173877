//! RTM_*NEIGHTBL: how neighbours are asked and how many there may be, as messages (rtnetlink(7), `ndtmsg`; ip-ntable(8)).
//!
//! A dump tells of each family its table, then what each interface has of its own, the latest first, as Linux does. Neighbours: [`crate::ip::neighbour::settings`].
//! Locks: setting takes [`Rtnl`].

use abi::errno::{Errno, Result};
use abi::neighbour::*;
use abi::rtnetlink::*;
use abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Attribute, Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};
use machine::sync::atomic::Ordering;
use zerocopy::IntoBytes;

use super::Handler;
use crate::device::Rtnl;
use crate::ip::neighbour::settings::{Family, NeighbourSettings, family, which};
use crate::namespace::NetNamespace;
use crate::netlink::request::{Dumper, Reply, Request, boxed};

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_GETNEIGHTBL, family: AF_UNSPEC as u8, act: None, dump: Some(dump) },
    Handler { message: RTM_SETNEIGHTBL, family: AF_UNSPEC as u8, act: Some(set), dump: None },
];

/// Bytes of the fixed header.
const HEADER: usize = size_of::<NeighbourTableMessage>();
const ATTRIBUTES: usize = NDTA_PAD as usize + 1;
const PARAMETERS: usize = NDTPA_INTERVAL_PROBE_TIME_MS as usize + 1;

static POLICIES: Policies = Policies {
    max: NDTA_PAD,
    rules: &[
        (NDTA_NAME, Policy::String(255)),
        (NDTA_THRESH1, Policy::U32),
        (NDTA_THRESH2, Policy::U32),
        (NDTA_THRESH3, Policy::U32),
        (NDTA_GC_INTERVAL, Policy::U64),
        (NDTA_PARMS, Policy::Nest),
    ],
};

static PARAMETER_POLICIES: Policies = Policies {
    max: NDTPA_INTERVAL_PROBE_TIME_MS,
    rules: &[
        (NDTPA_IFINDEX, Policy::U32),
        (NDTPA_QUEUE_LEN, Policy::U32),
        (NDTPA_QUEUE_LENBYTES, Policy::U32),
        (NDTPA_PROXY_QLEN, Policy::U32),
        (NDTPA_APP_PROBES, Policy::U32),
        (NDTPA_UCAST_PROBES, Policy::U32),
        (NDTPA_MCAST_PROBES, Policy::U32),
        (NDTPA_MCAST_REPROBES, Policy::U32),
        (NDTPA_BASE_REACHABLE_TIME, Policy::U64),
        (NDTPA_GC_STALETIME, Policy::U64),
        (NDTPA_DELAY_PROBE_TIME, Policy::U64),
        (NDTPA_RETRANS_TIME, Policy::U64),
        (NDTPA_ANYCAST_DELAY, Policy::U64),
        (NDTPA_PROXY_DELAY, Policy::U64),
        (NDTPA_LOCKTIME, Policy::U64),
        (NDTPA_INTERVAL_PROBE_TIME_MS, Policy::U64),
    ],
};

/// Numbers in the order in which they are told.
const COUNTS: [(u16, usize); 6] = [
    (NDTPA_PROXY_QLEN, which::PROXY_QUEUE),
    (NDTPA_APP_PROBES, which::PROGRAM_PROBES),
    (NDTPA_UCAST_PROBES, which::OWN_PROBES),
    (NDTPA_MCAST_PROBES, which::GROUP_PROBES),
    (NDTPA_MCAST_REPROBES, which::GROUP_REPROBES),
    (NDTPA_QUEUE_LENBYTES, which::QUEUE_BYTES),
];

/// Times in the order in which they are told.
const TIMES: [(u16, usize); 9] = [
    (NDTPA_REACHABLE_TIME, which::REACHABLE),
    (NDTPA_BASE_REACHABLE_TIME, which::BASE_REACHABLE),
    (NDTPA_GC_STALETIME, which::STALE),
    (NDTPA_DELAY_PROBE_TIME, which::DELAY),
    (NDTPA_RETRANS_TIME, which::RETRANSMIT),
    (NDTPA_ANYCAST_DELAY, which::ANYCAST_DELAY),
    (NDTPA_PROXY_DELAY, which::PROXY_DELAY),
    (NDTPA_LOCKTIME, which::LOCK),
    (NDTPA_INTERVAL_PROBE_TIME_MS, which::INTERVAL_PROBE),
];

/// Bytes that a packet costs where packets are counted (`NDTPA_QUEUE_LEN`).
const PACKET_BYTES: u32 = 2090;
/// What a place is referred to by: itself.
const REFERENCES: u32 = 1;

fn number_of(is_v6: bool) -> u8 {
    if is_v6 { AF_INET6 as u8 } else { AF_INET as u8 }
}

/// Writes the settings of an interface, or (0) those that new ones copy (`neightbl_fill_parms`).
fn put_settings(out: &mut Builder, index: i32, settings: &NeighbourSettings) -> Result<()> {
    let nest = out.nest(NDTA_PARMS)?;
    if index != 0 {
        out.i32(NDTPA_IFINDEX, index)?;
    }
    out.u32(NDTPA_REFCNT, REFERENCES)?;
    let bytes = settings.get(which::QUEUE_BYTES) as u32;
    out.u32(NDTPA_QUEUE_LENBYTES, bytes)?;
    out.u32(NDTPA_QUEUE_LEN, bytes / PACKET_BYTES)?;
    for (kind, number) in COUNTS.iter().filter(|(kind, _)| *kind != NDTPA_QUEUE_LENBYTES) {
        out.u32(*kind, settings.get(*number) as u32)?;
    }
    for (kind, number) in TIMES {
        out.u64(kind, settings.get(number).max(0) as u64)?;
    }
    out.end_nest(nest);
    Ok(())
}

/// Writes what one interface has of its own (`neightbl_fill_param_info`).
fn describe_device(
    is_v6: bool,
    index: i32,
    settings: &NeighbourSettings,
    out: &mut Builder,
    reply: &Reply,
) -> Result<()> {
    let mark = out.begin(RTM_NEWNEIGHTBL, reply.flags, reply.sequence, reply.port)?;
    let header = NeighbourTableMessage { ndtm_family: number_of(is_v6), ..Default::default() };
    out.fixed(header.as_bytes())?;
    out.text(NDTA_NAME, family(is_v6).name.as_bytes())?;
    put_settings(out, index, settings)?;
    out.end(mark);
    Ok(())
}

/// Writes the table of a family (`neightbl_fill_info`).
fn describe_family(namespace: &NetNamespace, is_v6: bool, out: &mut Builder, reply: &Reply) -> Result<()> {
    let family: &Family = family(is_v6);
    let mark = out.begin(RTM_NEWNEIGHTBL, reply.flags, reply.sequence, reply.port)?;
    let header = NeighbourTableMessage { ndtm_family: number_of(is_v6), ..Default::default() };
    out.fixed(header.as_bytes())?;
    out.text(NDTA_NAME, family.name.as_bytes())?;
    out.u64(NDTA_GC_INTERVAL, family.interval.load(Ordering::Relaxed).max(0) as u64)?;
    for (kind, number) in [NDTA_THRESH1, NDTA_THRESH2, NDTA_THRESH3].into_iter().zip(0..) {
        out.u32(kind, family.threshold(number) as u32)?;
    }
    let config = NeighbourTableConfig {
        ndtc_key_len: if is_v6 { 16 } else { 4 },
        ndtc_entry_size: size_of::<crate::ip::neighbour::Neighbour>() as u16,
        ndtc_entries: entries(namespace, is_v6),
        ..Default::default()
    };
    out.attribute(NDTA_CONFIG, config.as_bytes())?;
    out.attribute(NDTA_STATS, family.counted().as_bytes())?;
    put_settings(out, 0, &family.defaults)?;
    out.end(mark);
    Ok(())
}

/// How many neighbours a namespace knows.
fn entries(namespace: &NetNamespace, is_v6: bool) -> u32 {
    let (mut next, mut count) = (0, 0);
    while let Some(device) = namespace.devices().next_from(next) {
        next = device.index().wrapping_add(1);
        count += device.ip().map_or(0, |ip| ip.neighbours(is_v6).len());
    }
    count as u32
}

fn refuse<T>(text: &'static str) -> Outcome<T> {
    Err(Failure::new(Errno::EINVAL, text))
}

/// RTM_GETNEIGHTBL (`neightbl_dump_info`).
fn dump(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    let header: Option<NeighbourTableMessage> = request.message.fixed();
    if request.is_strict() {
        let Some(header) = &header else {
            return refuse("Invalid header for neighbor table dump request");
        };
        if header.ndtm_pad1 != 0 || header.ndtm_pad2 != 0 {
            return refuse("Invalid values in header for neighbor table dump request");
        }
        if request.message.payload.len() > HEADER {
            return refuse("Invalid data after header in neighbor table dump request");
        }
    }
    let wanted = request.message.payload.first().copied().unwrap_or_default();
    boxed(TableDump { namespace: request.namespace().clone(), wanted, at: Some((false, None)) })
}

struct TableDump {
    namespace: Arc<NetNamespace>,
    wanted: u8,
    /// The family, and the interface that comes next; none: the table itself.
    at: Option<(bool, Option<i32>)>,
}

impl TableDump {
    /// Writes what comes at a place; where it goes on.
    fn step(
        &self,
        (is_v6, next): (bool, Option<i32>),
        out: &mut Builder,
        reply: &Reply,
    ) -> Result<Option<(bool, Option<i32>)>> {
        let other_family = (!is_v6).then_some((true, None));
        if self.wanted != AF_UNSPEC as u8 && self.wanted != number_of(is_v6) {
            return Ok(other_family);
        }
        let Some(next) = next else {
            describe_family(&self.namespace, is_v6, out, reply)?;
            return Ok(Some((is_v6, Some(i32::MAX))));
        };
        let Some(device) = self.namespace.devices().previous_to(next) else { return Ok(other_family) };
        if let Some(ip) = device.ip() {
            describe_device(is_v6, device.index(), ip.neighbours(is_v6).settings(), out, reply)?;
        }
        Ok(Some((is_v6, Some(device.index() - 1))))
    }
}

impl Dumper for TableDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some(at) = self.at {
            let before = out.mark();
            match self.step(at, out, reply) {
                Ok(next) => self.at = next,
                Err(Errno::EMSGSIZE) => {
                    out.cancel(before);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// RTM_SETNEIGHTBL (`neightbl_set`). `EINVAL`: it names no table; `ENOENT`: there is none of this name, no such interface, or the
/// limits are not those of this namespace.
fn set(request: &Request<'_>) -> Outcome<()> {
    let attributes: Attributes<'_, ATTRIBUTES> = request.parse(HEADER, &POLICIES, Strictness::Liberal)?;
    let header: NeighbourTableMessage = request.message.fixed().unwrap_or_default();
    let Some(name) = attributes.get(NDTA_NAME) else { return Err(Errno::EINVAL.into()) };
    let _rtnl = Rtnl::lock(request.namespace().state());
    let is_meant = |is_v6: &bool| {
        let is_family = header.ndtm_family == AF_UNSPEC as u8 || header.ndtm_family == number_of(*is_v6);
        is_family && family(*is_v6).name.as_bytes() == name.text()
    };
    let is_v6 = [false, true].into_iter().find(is_meant).ok_or(Errno::ENOENT)?;
    if let Some(settings) = attributes.get(NDTA_PARMS) {
        set_settings(request, is_v6, settings)?;
    }
    let limits = [NDTA_THRESH1, NDTA_THRESH2, NDTA_THRESH3];
    let has_limits = limits.iter().chain(&[NDTA_GC_INTERVAL]).any(|kind| attributes.has(*kind));
    if has_limits && !request.namespace().is_initial() {
        return Err(Errno::ENOENT.into());
    }
    let family = family(is_v6);
    for (kind, place) in limits.into_iter().zip(&family.thresholds) {
        if let Some(value) = attributes.get(kind) {
            place.store(value.i32(), Ordering::Relaxed);
        }
    }
    if let Some(value) = attributes.get(NDTA_GC_INTERVAL) {
        family.interval.store(milliseconds(&value), Ordering::Relaxed);
    }
    Ok(())
}

fn milliseconds(attribute: &Attribute<'_>) -> i32 {
    let value = attribute.value.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// Sets what a nest says of one interface, or of those to come.
fn set_settings(request: &Request<'_>, is_v6: bool, nest: Attribute<'_>) -> Outcome<()> {
    let said: Attributes<'_, PARAMETERS> =
        Attributes::parse(nest.nested(), &PARAMETER_POLICIES, Strictness::Liberal)?;
    let namespace = request.namespace();
    let index = said.get(NDTPA_IFINDEX).map_or(0, |index| index.i32());
    let device = namespace.devices().by_index(index).filter(|_| index != 0).and_then(|device| device.ip());
    let settings: &NeighbourSettings = match &device {
        Some(ip) => ip.neighbours(is_v6).settings(),
        None if index == 0 && namespace.is_initial() => &family(is_v6).defaults,
        None => return Err(Errno::ENOENT.into()),
    };
    for attribute in said.iter() {
        let of =
            |table: &[(u16, usize)]| table.iter().find(|(kind, _)| *kind == attribute.kind).map(|one| one.1);
        if attribute.kind == NDTPA_QUEUE_LEN {
            let bytes = attribute.u32().saturating_mul(PACKET_BYTES);
            settings.choose(which::QUEUE_BYTES, i32::try_from(bytes).unwrap_or(i32::MAX));
        } else if let Some(number) = of(&COUNTS) {
            settings.choose(number, attribute.i32());
        } else if let Some(number) = of(&TIMES).filter(|number| *number != which::REACHABLE) {
            settings.choose(number, milliseconds(&attribute));
        }
    }
    Ok(())
}
