//! Telling routers which groups interfaces are in: IGMPv3 (RFC 3376) and MLDv2 (RFC 3810), the parts of a host without source lists.
//!
//! Where a router has asked in the words of IGMPv1 (RFC 1112) or IGMPv2 (RFC 2236), or `force_igmp_version` says so, reports are of that version:
//! one for each group, sent to the group. What others report is not listened to.
//! A change is told a moment later, with others of that moment, and as often as `igmp_qrv` and `mld_qrv` say, since it may be lost; a
//! router's question is answered with all groups. Sending is a worker's task. Key types: [`Changes`] (of a device and family, what is
//! still to be told), [`Querier`]. Neighbours: `multicast` knows the groups. Locks: a leaf spinlock for the changes of a device.

use abi::errno::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linnet_lib::wire::checksum::{Sum, checksum};
use linnet_lib::wire::icmp;
use machine::memory::try_arc;
use machine::sync::SpinLock;
use machine::sync::atomic::{AtomicU64, Ordering};
use sched::timer::{Timer, TimerAction, TimerCallback};

use super::address::inet;
use super::address::inet6;
use super::config::{v4, v6};
use super::device::{IpDevice, later};
use super::input::Received;
use super::multicast::{ALL_NODES, ALL_SYSTEMS};
use super::output::{self, Header};
use super::route::Flow;
use super::route::RouteKind;
use super::route::lookup::plain;
use super::sysctl;
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
/// The reports of IGMPv1 and IGMPv2, and what the latter says of a group that was left.
const REPORTS_OLD: [u8; 2] = [0x12, 0x16];
const LEAVE_OLD: u8 = 0x17;
const ALL_ROUTERS_4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// A router of an older version counts as there for so long after its last question: as it may miss one (RFC 3376 section 8.12).
const OLD_QUERIER_NS: u64 = 260_000_000_000;
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
/// Changes of a device that are still to be told at most; those beyond are told but once.
const CHANGES_MOST: usize = 128;
const MILLISECOND_NS: u64 = 1_000_000;
/// Changes of such a time are told together.
const MOMENT_NS: u64 = 8 * MILLISECOND_NS;

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

/// A change that is still to be told.
#[derive(Clone, Copy)]
struct Change {
    group: IpAddr,
    record: Record,
    left: i32,
}

#[derive(Default)]
struct Queue {
    /// The oldest first.
    changes: Vec<Change>,
    timer: Option<Timer>,
}

/// See the module.
pub(crate) struct Changes(SpinLock<Queue>);

impl Changes {
    pub(crate) const fn new() -> Changes {
        Changes(SpinLock::new(Queue { changes: Vec::new(), timer: None }))
    }

    /// The device is down or gone: nobody is told any more.
    pub(crate) fn clear(&self) {
        let queue = core::mem::take(&mut *self.0.lock());
        drop(queue);
    }

    /// Notes a change in the place of what was to be told of the group; whether there was room.
    fn note(&self, change: Change) -> bool {
        let mut queue = self.0.lock();
        queue.changes.retain(|other| other.group != change.group);
        let has_room = queue.changes.len() < CHANGES_MOST && queue.changes.try_reserve(1).is_ok();
        if has_room {
            queue.changes.push(change);
        }
        has_room
    }

    /// Has a worker tell what is to be told after some time.
    fn wake(&self, device: &Arc<NetDevice>, is_v6: bool, after_ns: u64) {
        let fresh = if self.0.lock().timer.is_none() {
            let Ok(expiry) = try_arc(Expiry(Arc::downgrade(device), is_v6)) else { return };
            Timer::new(expiry).ok()
        } else {
            None
        };
        let mut queue = self.0.lock();
        if queue.timer.is_none() {
            queue.timer = fresh;
        }
        let at = machine::time::now_ns() + after_ns;
        if let Some(timer) = &queue.timer
            && timer.deadline_ns().is_none_or(|armed| armed > at)
        {
            timer.arm(at);
        }
    }

    /// What is to be told now, who left first, of both the newest first.
    fn take(&self, records: &mut ArrayVec<(IpAddr, Record), CHANGES_MOST>) {
        let mut queue = self.0.lock();
        for wanted in [Record::Left, Record::Joined] {
            for change in queue.changes.iter_mut().rev().filter(|change| change.record == wanted) {
                change.left -= 1;
                let _ = records.try_push((change.group, change.record));
            }
        }
        queue.changes.retain(|change| change.left > 0);
    }
}

/// Until when routers count as there that speak IGMPv1 and IGMPv2 only.
pub(crate) struct Querier([AtomicU64; 2]);

impl Querier {
    pub(crate) const fn new() -> Querier {
        Querier([const { AtomicU64::new(0) }; 2])
    }
}

/// The version of IGMP that a device speaks now.
pub(super) fn version(device: &NetDevice, ip: &IpDevice) -> u8 {
    let all = device.namespace().ip.control.all4.get(v4::FORCE_IGMP_VERSION);
    let own = ip.settings4.get(v4::FORCE_IGMP_VERSION);
    let now = machine::time::now_ns();
    for (version, until) in (1..).zip(&ip.querier.0) {
        let is_forced = [all, own].contains(&i32::from(version));
        if is_forced || until.load(Ordering::Relaxed) > now {
            return version;
        }
    }
    3
}

struct Expiry(Weak<NetDevice>, bool);

impl TimerCallback for Expiry {
    fn expire(&self, now_ns: u64) -> TimerAction {
        let (Some(device), is_v6) = (self.0.upgrade(), self.1) else { return TimerAction::Done };
        match sched::work::queue(move || tell_changes(&device, is_v6)) {
            Ok(()) => TimerAction::Done,
            Err(_) => TimerAction::RearmAt(now_ns + MOMENT_NS),
        }
    }
}

/// Tells what has changed, once more: a worker's task.
fn tell_changes(device: &Arc<NetDevice>, is_v6: bool) {
    let Some(ip) = device.ip() else { return };
    let changes = ip.changes(is_v6);
    let mut records = ArrayVec::new();
    changes.take(&mut records);
    for some in records.chunks(RECORDS_MOST) {
        let _ = send(device, is_v6, some);
    }
    if changes.0.lock().changes.is_empty() {
        return;
    }
    let interval_ms = match (is_v6, version(device, &ip)) {
        (true, _) => ip.settings6.get(v6::MLDV2_UNSOLICITED_REPORT_INTERVAL),
        (false, 3) => ip.settings4.get(v4::IGMPV3_UNSOLICITED_REPORT_INTERVAL),
        (false, _) => ip.settings4.get(v4::IGMPV2_UNSOLICITED_REPORT_INTERVAL),
    };
    let interval_ns = interval_ms.max(1) as u64 * MILLISECOND_NS;
    changes.wake(device, is_v6, machine::random::next_u64() % interval_ns + MOMENT_NS);
}

/// Tells that a device has joined or left a group.
pub(crate) fn tell(device: &Arc<NetDevice>, group: IpAddr, has_joined: bool) {
    if is_silent(group) || !device.is_up() || device.is_loopback() {
        return;
    }
    let Some(ip) = device.ip() else { return };
    let (is_v6, record) = (group.is_ipv6(), if has_joined { Record::Joined } else { Record::Left });
    let which = if is_v6 { sysctl::MLD_QRV } else { sysctl::IGMP_QRV };
    let changes = ip.changes(is_v6);
    // What was left is said once in the old words.
    let is_once = !is_v6 && !has_joined && version(device, &ip) < 3;
    let left = if is_once { 1 } else { device.namespace().ip_number(which) };
    if changes.note(Change { group, record, left }) {
        changes.wake(device, is_v6, MOMENT_NS);
    } else {
        // One that is lost is asked for again by the next router that asks.
        let _ = send(device, is_v6, &[(group, record)]);
    }
}

/// Tells of all groups of a family that a device is in that it has joined them (`is_new`), or that it is in them.
pub(crate) fn tell_all(device: &Arc<NetDevice>, is_v6: bool, is_new: bool) {
    let Some(ip) = device.ip() else { return };
    if is_new {
        return ip.groups.of_family(is_v6).for_each(|group| tell(device, group.address, true));
    }
    let mut records = ArrayVec::<_, RECORDS_MOST>::new();
    for group in ip.groups.of_family(is_v6).filter(|group| !is_silent(group.address)) {
        records.push((group.address, Record::Is));
        if records.is_full() {
            let _ = send(device, is_v6, &records);
            records.clear();
        }
    }
    if !records.is_empty() {
        let _ = send(device, is_v6, &records);
    }
}

/// The bytes of a report without a checksum.
fn report(is_v6: bool, records: &[(IpAddr, Record)]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(8 + records.len() * 20).map_err(|_| Errno::ENOMEM)?;
    let kind = if is_v6 { REPORT_6 } else { REPORT_4 };
    bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&(records.len() as u16).to_be_bytes());
    for (group, record) in records {
        bytes.extend_from_slice(&[*record as u8, 0, 0, 0]);
        match group {
            IpAddr::V4(group) => bytes.extend_from_slice(&group.octets()),
            IpAddr::V6(group) => bytes.extend_from_slice(&group.octets()),
        }
    }
    Ok(bytes)
}

/// Sends what some records say, in the words of the version that is spoken.
fn send(device: &Arc<NetDevice>, is_v6: bool, records: &[(IpAddr, Record)]) -> Result<()> {
    let ip = device.ip().ok_or(Errno::ENODEV)?;
    let version = if is_v6 { 3 } else { version(device, &ip) };
    if let Some(kind) = REPORTS_OLD.get(usize::from(version) - 1) {
        return records.iter().try_for_each(|record| send_old(device, *kind, record));
    }
    let mut bytes = report(is_v6, records)?;
    if !is_v6 {
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        return transmit(device, own4(device), ROUTERS_4.into(), &bytes);
    }
    // Before an address is ours reports come from nobody (RFC 3810 section 5.2.13).
    let source = inet6::select_source(&device.namespace(), Some(device), ROUTERS_6);
    let (source, to) = (source.unwrap_or(Ipv6Addr::UNSPECIFIED).into(), ROUTERS_6.into());
    let mut sum = Sum::of_pseudo_header(source, to, icmp::PROTOCOL_6, bytes.len());
    sum.add(&bytes);
    bytes[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    transmit(device, source, to, &bytes)
}

/// One group in the words of IGMPv1 or IGMPv2; the former has none for leaving.
fn send_old(device: &Arc<NetDevice>, report: u8, (group, record): &(IpAddr, Record)) -> Result<()> {
    let IpAddr::V4(address) = *group else { return Ok(()) };
    let (kind, to) = match record {
        Record::Is | Record::Joined => (report, address),
        Record::Left if report == REPORTS_OLD[0] => return Ok(()),
        Record::Left => (LEAVE_OLD, ALL_ROUTERS_4),
    };
    let [a, b, c, d] = address.octets();
    let mut bytes = [kind, 0, 0, 0, a, b, c, d];
    let sum = checksum(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    transmit(device, own4(device), to.into(), &bytes)
}

/// What IPv4 reports come from.
fn own4(device: &Arc<NetDevice>) -> IpAddr {
    let own = inet::select_source(&device.namespace(), device, None, abi::route::RT_SCOPE_LINK);
    own.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

fn transmit(device: &Arc<NetDevice>, source: IpAddr, to: IpAddr, bytes: &[u8]) -> Result<()> {
    let (net, is_v6) = (device.namespace(), to.is_ipv6());
    let alert: &[u8] = if is_v6 { &ALERT_6 } else { &[] };
    let mut packet = Packet::with_room(HEAD_ROOM, alert.len() + bytes.len())?;
    packet.append(alert)?;
    packet.append(bytes)?;
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
    let [QUERY_4, code, _, _, group @ ..] = bytes else { return };
    let (Some(group), true) = (group.first_chunk::<4>(), checksum(bytes) == 0) else { return };
    // IGMPv1 asks for all groups and leaves the code 0; IGMPv2 has a code, IGMPv3 more bytes.
    let is_old = bytes.len() == 8;
    if is_old && let Some(ip) = about.device.ip() {
        let until = &ip.querier.0[usize::from(*code != 0)];
        until.store(machine::time::now_ns() + OLD_QUERIER_NS, Ordering::Relaxed);
    }
    let group = Ipv4Addr::from(*group);
    if group.is_unspecified() || (is_old && *code == 0) {
        return answer(about, false);
    }
    later(&about.device, move |device| {
        let is_in = device.ip().is_some_and(|ip| ip.groups.has(group.into()));
        if is_in && !is_silent(group.into()) {
            let _ = send(device, false, &[(group.into(), Record::Is)]);
        }
    });
}

/// A question of MLD came in; its checksum is right. Preemption is off.
pub(crate) fn receive_query(about: &Received) {
    if matches!(about.source, IpAddr::V6(source) if source.is_unicast_link_local()) {
        answer(about, true);
    }
}

fn answer(about: &Received, is_v6: bool) {
    later(&about.device, move |device| tell_all(device, is_v6, false));
}

/// Nobody quotes a report.
pub(crate) fn ignore_error(_error: &super::input::IcmpError, _quoted: &[u8]) {}
