//! Cutting packets to the size of a link, and putting parts together again (`ip_fragment`, `ip_defrag`).
//!
//! Key type: [`Fragments`]: the unfinished packets of a namespace, oldest first. Their memory is bounded (`ipfrag_high_thresh`): when it
//! is used up the oldest go. One timer for the namespace gives up on packets whose parts did not come (`ipfrag_time`).
//! Locks: one spinlock for each namespace; nothing is sent while it is held.

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::IpAddr;
use linnet_lib::reassembly::{Part, Put, Reassembly};
use linnet_lib::tree::{Item, Node, Tree};
use linnet_lib::wire::ethernet::TYPE_IPV6;
use linnet_lib::wire::icmp as wire;
use linnet_lib::wire::ipv4::{self, Ipv4};
use linnet_lib::wire::ipv6::{self, Extensions, Fragment, Ipv6};
use machine::memory::try_box;
use machine::sync::SpinLock;
use sched::timer::{Timer, TimerAction, TimerCallback};

use super::address::key_of;
use super::counters::Count;
use super::icmp::{self, Complaint};
use super::{icmp6, output, sysctl};
use crate::device::NetDevice;
use crate::namespace::NetState;
use crate::packet::{HEAD_ROOM, Packet};

const SECOND_NS: u64 = 1_000_000_000;
/// What a part costs beside its bytes.
const OVERHEAD: usize = 256;

/// Cuts a packet (with its header) into parts of at most `mtu` bytes and gives each to `emit`. `EMSGSIZE`: that cannot be done.
pub(super) fn cut(
    net: &Arc<NetState>,
    packet: Packet,
    mtu: usize,
    emit: impl FnMut(Packet) -> Result<()>,
) -> Result<()> {
    let is_v6 = packet.protocol == TYPE_IPV6;
    let result = if is_v6 { cut_v6(net, &packet, mtu, emit) } else { cut_v4(net, &packet, mtu, emit) };
    let counters = &net.ip.counters;
    counters.of(is_v6, if result.is_ok() { Count::Fragmented } else { Count::FragmentFailures });
    result
}

/// A new packet that goes where `of` goes, with so much room.
fn piece(of: &Packet, length: usize) -> Result<Packet> {
    let mut piece = Packet::with_room(HEAD_ROOM, length)?;
    (piece.protocol, piece.kind, piece.device) = (of.protocol, of.kind, of.device.clone());
    (piece.mark, piece.priority, piece.charge) = (of.mark, of.priority, of.charge.clone());
    piece.is_checked = of.is_checked;
    piece.mark_network_header();
    Ok(piece)
}

fn cut_v4(
    net: &Arc<NetState>,
    packet: &Packet,
    mtu: usize,
    mut emit: impl FnMut(Packet) -> Result<()>,
) -> Result<()> {
    const COPIED: u8 = 0x80;
    let whole = packet.bytes();
    let header = Ipv4::read_unchecked(whole).map_err(|_| Errno::EINVAL)?;
    let data = whole.get(header.header_length()..).unwrap_or_default();
    // Later parts have only the options that are to be copied; the others are blanked.
    let mut later = Vec::new();
    later.try_reserve_exact(header.options.len()).map_err(|_| Errno::ENOMEM)?;
    for option in ipv4::options(header.options).flatten() {
        let (kind, bytes) = option;
        let keeps = kind & COPIED != 0;
        later.extend(bytes.iter().map(|byte| if keeps { *byte } else { 1 }));
    }
    later.resize(header.options.len(), 0);
    let room = mtu.saturating_sub(header.header_length()) & !7;
    if room == 0 {
        return Err(Errno::EMSGSIZE);
    }
    for (number, bytes) in data.chunks(room).enumerate() {
        let is_last = (number + 1) * room >= data.len();
        let fields = Ipv4 {
            length: header.header_length() + bytes.len(),
            more_fragments: !is_last || header.more_fragments,
            offset: header.offset + number * room,
            options: if number == 0 { header.options } else { &later },
            ..header
        };
        let mut part = piece(packet, fields.length)?;
        part.append(bytes)?;
        fields.write(part.push(fields.header_length())?).map_err(|_| Errno::EMSGSIZE)?;
        part.mark_network_header();
        net.ip.counters.v4(Count::FragmentsMade);
        emit(part)?;
    }
    Ok(())
}

fn cut_v6(
    net: &Arc<NetState>,
    packet: &Packet,
    mtu: usize,
    mut emit: impl FnMut(Packet) -> Result<()>,
) -> Result<()> {
    let whole = packet.bytes();
    let header = Ipv6::read_unchecked(whole).map_err(|_| Errno::EINVAL)?;
    // What every router has to see stays in front of the fragment header.
    let payload = whole.get(ipv6::HEADER..).unwrap_or_default();
    let mut extensions = Extensions::new(header.next_header, payload);
    while matches!(extensions.next_header(), ipv6::HOP_BY_HOP | ipv6::ROUTING) {
        extensions.step().map_err(|_| Errno::EINVAL)?;
    }
    let head = ipv6::HEADER + extensions.offset();
    let next = extensions.next_header();
    let place =
        if extensions.offset() == 0 { 6 } else { last_extension(header.next_header, payload) + ipv6::HEADER };
    let room = mtu.saturating_sub(head + ipv6::FRAGMENT_HEADER) & !7;
    if room == 0 {
        return Err(Errno::EMSGSIZE);
    }
    let identification = output::next_identification(net);
    let data = whole.get(head..).unwrap_or_default();
    for (number, bytes) in data.chunks(room).enumerate() {
        let more = (number + 1) * room < data.len();
        let fragment = Fragment { next, offset: number * room, more, identification };
        let mut part = piece(packet, head + ipv6::FRAGMENT_HEADER + bytes.len())?;
        part.append(&whole[..head])?;
        part.append(&fragment.write())?;
        part.append(bytes)?;
        let length = part.len() - ipv6::HEADER;
        let front = part.bytes_mut()?;
        front[place] = ipv6::FRAGMENT;
        front[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        net.ip.counters.v6(Count::FragmentsMade);
        emit(part)?;
    }
    Ok(())
}

/// Where the last of the headers that every router sees begins.
fn last_extension(next_header: u8, payload: &[u8]) -> usize {
    let mut extensions = Extensions::new(next_header, payload);
    let mut last = 0;
    while matches!(extensions.next_header(), ipv6::HOP_BY_HOP | ipv6::ROUTING) {
        last = extensions.offset();
        if extensions.step().is_err() {
            break;
        }
    }
    last
}

/// Which packet a part is of: addresses, identification, protocol, and whether it is of IPv6.
type Key = (u128, u128, u32, u8, bool);

/// An unfinished packet, found by what its parts have in common.
struct Entry {
    key: Key,
    /// Counts packets: the oldest has the least.
    serial: u64,
    expires_ns: u64,
    parts: Reassembly<Packet>,
    cost: usize,
}

impl Item for Box<Entry> {
    type Key = Key;
    type Summary = ();
    fn key(&self) -> Key {
        self.key
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// The age of an unfinished packet.
struct ByAge {
    serial: u64,
    key: Key,
}

impl Item for ByAge {
    type Key = u64;
    type Summary = ();
    fn key(&self) -> u64 {
        self.serial
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// What unfinished packets of a family take up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Unfinished packets.
    pub packets: usize,
    /// Bytes of memory of their parts.
    pub bytes: usize,
}

impl Held {
    fn subtract(&mut self, entry: &Entry) {
        self.packets -= 1;
        self.bytes -= entry.cost;
    }
}

#[derive(Default)]
struct Table {
    entries: Tree<Box<Entry>>,
    ages: Tree<ByAge>,
    serial: u64,
    /// What each family has.
    held: [Held; 2],
    timer: Option<Timer>,
}

impl Table {
    /// Takes an unfinished packet out.
    fn remove(&mut self, key: &Key) -> Option<Box<Node<Box<Entry>>>> {
        let entry = self.entries.remove(key)?;
        drop(self.ages.remove(&entry.serial));
        self.held[usize::from(key.4)].subtract(&entry);
        Some(entry)
    }

    /// The oldest of a family.
    fn oldest(&self, is_v6: bool) -> Option<Key> {
        // The other family's are few in front of it: it is in bounds, too.
        self.ages.find(|age| age.key.4 == is_v6).map(|age| age.key)
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Fragments(SpinLock<Table>);

impl Fragments {
    /// What the unfinished packets of a family take up.
    pub(crate) fn held(&self, is_v6: bool) -> Held {
        self.0.lock().held[usize::from(is_v6)]
    }

    /// Lets go of all: the namespace ends.
    pub(crate) fn clear(&self) {
        let table = core::mem::take(&mut *self.0.lock());
        drop(table);
    }
}

/// What a part says of itself.
struct About {
    key: Key,
    offset: usize,
    is_last: bool,
    /// Bytes of headers in front of what it has of the packet.
    head: usize,
}

/// A part of a packet of IPv4 came in: the whole packet, if it was the last that was missing.
pub(super) fn collect_v4(net: &Arc<NetState>, device: &Arc<NetDevice>, packet: Packet) -> Option<Packet> {
    net.ip.counters.v4(Count::ReassemblyRequests);
    let header = Ipv4::read_unchecked(packet.bytes()).ok()?;
    let about = About {
        key: (
            key_of(IpAddr::V4(header.source)),
            key_of(IpAddr::V4(header.destination)),
            u32::from(header.identification),
            header.protocol,
            false,
        ),
        offset: header.offset,
        is_last: !header.more_fragments,
        head: header.header_length(),
    };
    let parts = collect(net, device, packet, &about)?;
    join_v4(parts).inspect(|_| net.ip.counters.v4(Count::Reassembled))
}

/// A part of a packet of IPv6 came in; its fragment header is `offset` bytes behind the header.
pub(super) fn collect_v6(
    net: &Arc<NetState>,
    device: &Arc<NetDevice>,
    packet: Packet,
    offset: usize,
) -> Option<Packet> {
    net.ip.counters.v6(Count::ReassemblyRequests);
    let header = Ipv6::read_unchecked(packet.bytes()).ok()?;
    let place = ipv6::HEADER + offset;
    let fragment = Fragment::read(packet.bytes().get(place..)?).ok()?;
    let head = place + ipv6::FRAGMENT_HEADER;
    let length = packet.len().checked_sub(head)?;
    if fragment.more && length % 8 != 0 {
        icmp6::complain_at(net, &packet, wire::v6::BAD_FIELD, 4);
        net.ip.counters.v6(Count::ReassemblyFailures);
        return None;
    }
    let source = IpAddr::V6(header.source);
    let about = About {
        key: (key_of(source), key_of(IpAddr::V6(header.destination)), fragment.identification, 0, true),
        offset: fragment.offset,
        is_last: !fragment.more,
        head,
    };
    if about.offset + length > ipv4::PACKET_MOST {
        icmp6::complain_at(net, &packet, wire::v6::BAD_FIELD, place + 2);
        net.ip.counters.v6(Count::ReassemblyFailures);
        return None;
    }
    let parts = collect(net, device, packet, &about)?;
    join_v6(parts).inspect(|_| net.ip.counters.v6(Count::Reassembled))
}

/// Adds a part; all of them, if none is missing now.
fn collect(
    net: &Arc<NetState>,
    device: &Arc<NetDevice>,
    mut packet: Packet,
    about: &About,
) -> Option<Reassembly<Packet>> {
    let is_v6 = about.key.4;
    let mut length = packet.len().checked_sub(about.head)?;
    if !about.is_last && length % 8 != 0 {
        // What goes beyond the unit of offsets belongs to no other part.
        length &= !7;
        packet.truncate(about.head + length);
    }
    if about.offset + length > ipv4::PACKET_MOST {
        net.ip.counters.of(is_v6, Count::ReassemblyFailures);
        return None;
    }
    packet.device = Some(device.clone());
    let cost = packet.footprint() + OVERHEAD;
    let part = try_box(Node::new(Part::new(about.offset, length, packet))).ok()?;
    make_room(net, is_v6, cost);
    let now = machine::time::now_ns();
    let fragments = &net.ip.fragments;
    let known = fragments.0.lock().entries.get(&about.key).is_some();
    let fresh = if known { None } else { Some(new_entry(net, about.key, now)?) };
    let mut table = fragments.0.lock();
    // Trees give no way to change an item in place: it is taken out and put back.
    let mut entry = match (table.entries.remove(&about.key), fresh) {
        (Some(entry), _) => entry,
        (None, Some((mut entry, mut age))) => {
            table.serial += 1;
            (entry.serial, age.serial) = (table.serial, table.serial);
            let expires_ns = entry.expires_ns;
            table.ages.insert(age);
            table.held[usize::from(is_v6)].packets += 1;
            if let Some(timer) = table.timer.as_ref().filter(|timer| timer.deadline_ns().is_none()) {
                timer.arm(expires_ns);
            }
            entry
        }
        (None, None) => return None,
    };
    match entry.parts.put(part, about.is_last) {
        Put::Waits => {
            entry.cost += cost;
            table.held[usize::from(is_v6)].bytes += cost;
            table.entries.insert(entry);
            None
        }
        Put::Twice => {
            table.entries.insert(entry);
            None
        }
        Put::Complete => {
            drop(table.ages.remove(&entry.serial));
            table.held[usize::from(is_v6)].subtract(&entry);
            drop(table);
            Some(core::mem::take(&mut entry.parts))
        }
        Put::Bad => {
            net.ip.counters.of(is_v6, Count::ReassemblyOverlaps);
            drop(table.ages.remove(&entry.serial));
            table.held[usize::from(is_v6)].subtract(&entry);
            drop(table);
            net.ip.counters.of(is_v6, Count::ReassemblyFailures);
            drop(entry);
            None
        }
    }
}

type FreshEntry = (Box<Node<Box<Entry>>>, Box<Node<ByAge>>);

/// Memory for one more packet, and the timer of the namespace if it has none yet.
fn new_entry(net: &Arc<NetState>, key: Key, now: u64) -> Option<FreshEntry> {
    let which = if key.4 { sysctl::FRAGMENT_TIME_6 } else { sysctl::FRAGMENT_TIME_4 };
    let expires_ns = now + net.ip_number(which).max(0) as u64 * SECOND_NS;
    let parts = Reassembly::default();
    let entry = try_box(Entry { key, serial: 0, expires_ns, parts, cost: 0 }).ok()?;
    let entry = try_box(Node::new(entry)).ok()?;
    let age = try_box(Node::new(ByAge { serial: 0, key })).ok()?;
    if net.ip.fragments.0.lock().timer.is_none() {
        let timer = Timer::new(Arc::new(Expiry(Arc::downgrade(net)))).ok()?;
        let mut table = net.ip.fragments.0.lock();
        let old = if table.timer.is_none() { table.timer.replace(timer) } else { Some(timer) };
        drop(table);
        drop(old);
    }
    Some((entry, age))
}

/// Has the oldest packets go until there is room for another part.
fn make_room(net: &Arc<NetState>, is_v6: bool, cost: usize) {
    let which = if is_v6 { sysctl::FRAGMENT_HIGH_6 } else { sysctl::FRAGMENT_HIGH_4 };
    let most = net.ip_number(which).max(0) as usize;
    loop {
        let mut table = net.ip.fragments.0.lock();
        if table.held[usize::from(is_v6)].bytes + cost <= most {
            return;
        }
        let Some(oldest) = table.oldest(is_v6) else { return };
        let entry = table.remove(&oldest);
        drop(table);
        net.ip.counters.of(is_v6, Count::ReassemblyFailures);
        drop(entry);
    }
}

struct Expiry(Weak<NetState>);

impl TimerCallback for Expiry {
    fn expire(&self, now_ns: u64) -> TimerAction {
        let Some(net) = self.0.upgrade() else { return TimerAction::Done };
        match sched::work::queue(move || give_up(&net)) {
            Ok(()) => TimerAction::Done,
            Err(_) => TimerAction::RearmAt(now_ns + SECOND_NS),
        }
    }
}

/// Gives up on packets whose time is over, one at a time: a worker's task.
fn give_up(net: &Arc<NetState>) {
    let now = machine::time::now_ns();
    loop {
        let mut table = net.ip.fragments.0.lock();
        let Some(key) = table.ages.first().map(|age| age.key) else { return };
        let Some(expires_ns) = table.entries.get(&key).map(|entry| entry.expires_ns) else { return };
        if expires_ns > now {
            if let Some(timer) = &table.timer {
                timer.arm(expires_ns);
            }
            return;
        }
        let Some(entry) = table.remove(&key) else { return };
        drop(table);
        let is_v6 = key.4;
        net.ip.counters.of(is_v6, Count::ReassemblyTimeouts);
        net.ip.counters.of(is_v6, Count::ReassemblyFailures);
        // Only who sent the first part can be told: it has the transport's header.
        if let Some(first) = entry.parts.first() {
            if is_v6 {
                icmp6::complain(net, first, wire::v6::TIME_EXCEEDED, wire::v6::REASSEMBLY_EXCEEDED, 0);
            } else {
                icmp::complain(net, first, Complaint::ReassemblyExceeded);
            }
        }
    }
}

/// The packet that complete parts make: the first part with the data of the others behind it, cut off at `head` bytes.
fn join(mut parts: Reassembly<Packet>, head: impl Fn(&Packet) -> Option<usize>) -> Option<Packet> {
    let first = parts.take()?;
    let mut whole = first.payload().clone();
    drop(first);
    while let Some(part) = parts.take() {
        let packet = part.payload();
        whole.append(packet.bytes().get(head(packet)?..)?).ok()?;
        whole.is_checked &= packet.is_checked;
    }
    Some(whole)
}

fn join_v4(parts: Reassembly<Packet>) -> Option<Packet> {
    let mut whole = join(parts, |part| Some(Ipv4::read_unchecked(part.bytes()).ok()?.header_length()))?;
    let bytes = whole.bytes_mut().ok()?;
    let length = u16::try_from(bytes.len()).ok()?;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes[6..8].fill(0);
    let ttl = bytes[8];
    ipv4::set_ttl(bytes, ttl);
    whole.mark_network_header();
    Some(whole)
}

/// Bytes in front of the data of a part, and the place of the byte that says that a fragment header follows.
fn head_of_part(part: &Packet) -> Option<(usize, usize)> {
    let header = Ipv6::read_unchecked(part.bytes()).ok()?;
    let mut extensions = Extensions::new(header.next_header, part.bytes().get(ipv6::HEADER..)?);
    let mut place = 6;
    loop {
        let at = extensions.offset();
        let extension = extensions.step().ok()??;
        if extension.kind == ipv6::FRAGMENT {
            return Some((ipv6::HEADER + extensions.offset(), place));
        }
        place = ipv6::HEADER + at;
    }
}

fn join_v6(parts: Reassembly<Packet>) -> Option<Packet> {
    let joined = join(parts, |part| head_of_part(part).map(|(head, _)| head))?;
    let (head, place) = head_of_part(&joined)?;
    let fragment_at = head - ipv6::FRAGMENT_HEADER;
    let next = *joined.bytes().get(fragment_at)?;
    let mut whole = piece(&joined, joined.len()).ok()?;
    whole.received_ns = joined.received_ns;
    whole.append(joined.bytes().get(..fragment_at)?).ok()?;
    whole.append(joined.bytes().get(head..)?).ok()?;
    let payload = u16::try_from(whole.len() - ipv6::HEADER).ok()?;
    let bytes = whole.bytes_mut().ok()?;
    *bytes.get_mut(place)? = next;
    bytes[4..6].copy_from_slice(&payload.to_be_bytes());
    Some(whole)
}
