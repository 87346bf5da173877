//! Telling routers which groups interfaces are in: IGMPv3 (RFC 3376) and MLDv2 (RFC 3810), the parts of a host without source lists.
//!
//! A change is told at once; a router's question is answered with all groups. Sending sleeps nowhere, answering is a worker's task.
//! Neighbours: `multicast` knows the groups. Locks: none.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linnet_lib::wire::checksum::{Sum, checksum};
use linnet_lib::wire::icmp;

use super::address::inet;
use super::address::inet6;
use super::input::Received;
use super::multicast::{ALL_NODES, ALL_SYSTEMS};
use super::output::{self, Header};
use super::route::Flow;
use super::route::RouteKind;
use super::route::lookup::plain;
use crate::device::NetDevice;
use crate::packet::{HEAD_ROOM, Packet};

/// IPPROTO_IGMP.
pub(crate) const PROTOCOL: u8 = 2;
/// Where reports go.
const ROUTERS_4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
const ROUTERS_6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// IGMP: a question, a report.
const QUERY_4: u8 = 0x11;
const REPORT_4: u8 = 0x22;
/// ICMPv6: a question, a report.
pub(crate) const QUERY_6: u8 = 130;
const REPORT_6: u8 = 143;
/// The router alert option (RFC 2113), and a hop-by-hop header with it (RFC 2711).
const ALERT_4: [u8; 4] = [0x94, 4, 0, 0];
const ALERT_6: [u8; 8] = [icmp::PROTOCOL_6, 0, 5, 2, 0, 0, 1, 0];
/// Class selector 6, as Linux marks reports.
const TOS: u8 = 0xc0;
/// Records that one report has at most, so that it fits every link.
const RECORDS_MOST: usize = 40;

/// What a record says of a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Record {
    /// We are in it (MODE_IS_EXCLUDE, no source excluded).
    Is = 2,
    /// We left (CHANGE_TO_INCLUDE_MODE, no source included).
    Left = 3,
    /// We joined (CHANGE_TO_EXCLUDE_MODE).
    Joined = 4,
}

/// Whether a group is one that routers are not told of.
fn is_silent(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group == ALL_SYSTEMS,
        IpAddr::V6(group) => group == ALL_NODES || inet6::reach(group) < 2,
    }
}

/// Tells that a device has joined or left a group.
pub(crate) fn tell(device: &Arc<NetDevice>, group: IpAddr, has_joined: bool) {
    if is_silent(group) || !device.is_up() || device.is_loopback() {
        return;
    }
    let record = if has_joined { Record::Joined } else { Record::Left };
    // One that is lost is asked for again by the next router that asks.
    let _ = send(device, group.is_ipv6(), record, &[group]);
}

/// Tells all groups of a family that a device is in.
pub(crate) fn tell_all(device: &Arc<NetDevice>, is_v6: bool, is_new: bool) {
    let Some(ip) = device.ip() else { return };
    let mut groups = Vec::new();
    for group in ip.groups.of_family(is_v6).filter(|group| !is_silent(group.address)) {
        if groups.try_reserve(1).is_err() {
            break;
        }
        groups.push(group.address);
    }
    let record = if is_new { Record::Joined } else { Record::Is };
    for some in groups.chunks(RECORDS_MOST) {
        let _ = send(device, is_v6, record, some);
    }
}

/// The bytes of a report without a checksum.
fn report(is_v6: bool, record: Record, groups: &[IpAddr]) -> abi::errno::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(8 + groups.len() * 20).map_err(|_| abi::errno::Errno::ENOMEM)?;
    let kind = if is_v6 { REPORT_6 } else { REPORT_4 };
    bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&(groups.len() as u16).to_be_bytes());
    for group in groups {
        bytes.extend_from_slice(&[record as u8, 0, 0, 0]);
        match group {
            IpAddr::V4(group) => bytes.extend_from_slice(&group.octets()),
            IpAddr::V6(group) => bytes.extend_from_slice(&group.octets()),
        }
    }
    Ok(bytes)
}

fn send(device: &Arc<NetDevice>, is_v6: bool, record: Record, groups: &[IpAddr]) -> abi::errno::Result<()> {
    let net = device.namespace();
    let mut bytes = report(is_v6, record, groups)?;
    let (source, to): (IpAddr, IpAddr) = if is_v6 {
        // Before an address is ours reports come from nobody (RFC 3810 section 5.2.13).
        let own = inet6::select_source(&net, Some(device), ROUTERS_6);
        (own.unwrap_or(Ipv6Addr::UNSPECIFIED).into(), ROUTERS_6.into())
    } else {
        let own = inet::select_source(&net, device, None, abi::route::RT_SCOPE_LINK);
        (own.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), ROUTERS_4.into())
    };
    let sum = if is_v6 {
        let mut sum = Sum::of_pseudo_header(source, to, icmp::PROTOCOL_6, bytes.len());
        sum.add(&bytes);
        sum.finish()
    } else {
        checksum(&bytes)
    };
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    let alert: &[u8] = if is_v6 { &ALERT_6 } else { &[] };
    let mut packet = Packet::with_room(HEAD_ROOM, alert.len() + bytes.len())?;
    packet.append(alert)?;
    packet.append(&bytes)?;
    let flow = Flow { source: Some(source), output: device.index(), ..Flow::to(to) };
    let route = plain(&net, RouteKind::Multicast, device, &flow);
    let header = Header {
        source,
        destination: to,
        protocol: if is_v6 { 0 } else { PROTOCOL },
        hop_limit: 1,
        traffic_class: if is_v6 { 0 } else { TOS },
        dont_fragment: true,
        options: if is_v6 { &[] } else { &ALERT_4 },
        is_for_others_only: true,
        ..Header::default()
    };
    output::send(&net, &route, &header, packet)
}

/// An IGMP message came in. Preemption is off.
pub(crate) fn receive_igmp(packet: Packet, about: &Received) {
    let bytes = packet.bytes();
    if bytes.len() >= 8 && bytes[0] == QUERY_4 && checksum(bytes) == 0 {
        answer(about, false);
    }
}

/// A question of MLD came in; its checksum is right. Preemption is off.
pub(crate) fn receive_query(about: &Received) {
    if matches!(about.source, IpAddr::V6(source) if source.is_unicast_link_local()) {
        answer(about, true);
    }
}

fn answer(about: &Received, is_v6: bool) {
    let device = about.device.clone();
    // Without memory the router asks again.
    let _ = sched::work::queue(move || tell_all(&device, is_v6, false));
}

/// Nobody quotes a report.
pub(crate) fn ignore_error(_error: &super::input::IcmpError, _quoted: &[u8]) {}
