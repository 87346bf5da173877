//! PACKET_FANOUT: sockets that share what is seen at one place, each frame to one of them (packet(7)).
//!
//! Key types: [`Group`] (a tap as long as one of its members listens), [`Groups`] (those of a namespace, by id). Groups that put fragments
//! together first, or whose members are chosen by a program, are refused (`EINVAL`).
//! Locks, outermost first: the table of groups (sleeping, to join and to leave), a group's `change` (sleeping, to begin and to stop
//! listening), then leaves: the lists of taps, a group's members.

use abi::errno::{Errno, Result};
use abi::packet::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::tree::{Item, Node, Tree};
use linnet_lib::wire::ipv4::Ipv4;
use linnet_lib::wire::ipv6::Ipv6;
use machine::memory::{try_arc, try_box};
use machine::sync::atomic::{AtomicUsize, Ordering};
use machine::sync::{Lazy, Mutex, RwSpinLock};

use super::PacketSocket;
use crate::device::taps::{Direction, Tap};
use crate::device::{DeviceEvent, NetDevice};
use crate::packet::Packet;

/// Members of a group where nobody says how many (`PACKET_FANOUT_MAX` of old), and the most that may be said.
const MEMBERS_USUAL: u32 = 256;
const MEMBERS_MOST: u32 = 1 << 16;

/// What a program asks for (`struct fanout_args`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    id: u16,
    kind: u8,
    flags: u8,
    members_most: u32,
}

impl Wanted {
    /// From an option's value. `EINVAL`: another length.
    pub(super) fn read(value: &[u8]) -> Result<Wanted> {
        let (first, members_most) = match *value {
            [a, b, c, d] => ([a, b, c, d], 0),
            [a, b, c, d, ref rest @ ..] if rest.len() == 4 => {
                ([a, b, c, d], u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]))
            }
            _ => return Err(Errno::EINVAL),
        };
        let id = u16::from_ne_bytes([first[0], first[1]]);
        Ok(Wanted { id, kind: first[2], flags: first[3], members_most })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// `EINVAL`: no such group can be.
    fn check(&self) -> Result<()> {
        let is_known = matches!(
            self.kind,
            PACKET_FANOUT_HASH
                | PACKET_FANOUT_LB
                | PACKET_FANOUT_CPU
                | PACKET_FANOUT_ROLLOVER
                | PACKET_FANOUT_RND
                | PACKET_FANOUT_QM
        );
        let rolls_twice = self.kind == PACKET_FANOUT_ROLLOVER && self.has(PACKET_FANOUT_FLAG_ROLLOVER);
        if !is_known || rolls_twice || self.has(PACKET_FANOUT_FLAG_DEFRAG) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
}

/// See the module.
pub(super) struct Group {
    number: u64,
    id: u16,
    kind: u8,
    flags: u8,
    members_most: usize,
    /// Protocol and interface that all are bound to.
    place: (u16, i32),
    /// Beginning and stopping to listen, one at a time.
    pub(super) change: Mutex<()>,
    /// Those that listen.
    members: RwSpinLock<Vec<Arc<PacketSocket>>>,
    /// All that have joined.
    joined: AtomicUsize,
    turn: AtomicUsize,
}

struct Entry(Arc<Group>);

impl Item for Entry {
    type Key = u16;
    type Summary = ();
    fn key(&self) -> u16 {
        self.0.id
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// The groups of a namespace.
#[derive(Default)]
pub(super) struct Groups(Mutex<Tree<Entry>>);

/// Has a socket join a group, which is made if there is none. It does not listen now.
///
/// Errors: `EINVAL`: no such kind, a group of another kind or place, nothing to listen to; `EALREADY`: it is in one; `ENOSPC`: it is full; `ENOMEM`.
pub(super) fn join(socket: &PacketSocket, groups: &Groups, wanted: &Wanted) -> Result<()> {
    wanted.check()?;
    if socket.group().is_some() {
        return Err(Errno::EALREADY);
    }
    let (protocol, index, _) = socket.bound_to();
    let mut tree = groups.0.lock();
    let mut wanted = *wanted;
    if wanted.has(PACKET_FANOUT_FLAG_UNIQUEID) {
        if wanted.id != 0 {
            return Err(Errno::EINVAL);
        }
        wanted.id = free_id(&tree).ok_or(Errno::ENOMEM)?;
        wanted.flags &= !PACKET_FANOUT_FLAG_UNIQUEID;
    }
    let known = tree.get(&wanted.id).map(|entry| entry.0.clone());
    let is_new = known.is_none();
    let group = match known {
        Some(group) => {
            let most = wanted.members_most as usize;
            if group.flags != wanted.flags || (most != 0 && most != group.members_most) {
                return Err(Errno::EINVAL);
            }
            group
        }
        None => Group::new(&wanted, (protocol, index))?,
    };
    if protocol == 0 || group.kind != wanted.kind || group.place != (protocol, index) {
        return Err(Errno::EINVAL);
    }
    if group.joined.load(Ordering::Relaxed) >= group.members_most {
        return Err(Errno::ENOSPC);
    }
    group.members.write().try_reserve(group.joined.load(Ordering::Relaxed) + 1).map_err(|_| Errno::ENOMEM)?;
    if is_new {
        tree.insert(try_box(Node::new(Entry(group.clone()))).map_err(|_| Errno::ENOMEM)?);
    }
    group.joined.fetch_add(1, Ordering::Relaxed);
    socket.set_group(Some(group));
    Ok(())
}

/// Has a socket leave its group, in which it does not listen any more.
pub(super) fn leave(socket: &PacketSocket, groups: &Groups) {
    let mut tree = groups.0.lock();
    let Some(group) = socket.set_group(None) else { return };
    if group.joined.fetch_sub(1, Ordering::Relaxed) == 1 {
        drop(tree.remove(&group.id));
    }
}

/// An id that no group has: the least. The ids follow each other, so that it is found in as many steps as there are groups.
fn free_id(tree: &Tree<Entry>) -> Option<u16> {
    let mut id = 0;
    while tree.get(&id).is_some() {
        id = u16::checked_add(id, 1)?;
    }
    Some(id)
}

impl Group {
    fn new(wanted: &Wanted, place: (u16, i32)) -> Result<Arc<Group>> {
        if wanted.members_most > MEMBERS_MOST {
            return Err(Errno::EINVAL);
        }
        let most = if wanted.members_most == 0 { MEMBERS_USUAL } else { wanted.members_most };
        Ok(try_arc(Group {
            number: super::socket::next_number(),
            id: wanted.id,
            kind: wanted.kind,
            flags: wanted.flags,
            members_most: most as usize,
            place,
            change: Mutex::new(()),
            members: RwSpinLock::new(Vec::new()),
            joined: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
        })?)
    }

    /// PACKET_FANOUT as it is read.
    pub(super) fn describe(&self) -> u32 {
        u32::from(self.id) | u32::from(self.kind) << 16 | u32::from(self.flags) << 24
    }

    /// A member listens; whether it is the first. The caller holds `change`. `ENOMEM`.
    pub(super) fn add(&self, member: Arc<PacketSocket>) -> Result<bool> {
        let mut members = self.members.write();
        members.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        members.push(member);
        Ok(members.len() == 1)
    }

    /// A member listens no more; whether it was the last. The caller holds `change`.
    pub(super) fn remove(&self, member: &PacketSocket) -> bool {
        let mut members = self.members.write();
        let place = members.iter().position(|other| other.number() == member.number());
        let gone = place.map(|place| members.swap_remove(place));
        let was_last = gone.is_some() && members.is_empty();
        drop(members);
        drop(gone);
        was_last
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Which of `count` members gets a frame.
    fn choose(&self, members: &[Arc<PacketSocket>], packet: &Packet) -> usize {
        let count = members.len();
        let first = match self.kind {
            PACKET_FANOUT_LB => (self.turn.fetch_add(1, Ordering::Relaxed) + 1) % count,
            PACKET_FANOUT_CPU => machine::cpu::current().index() % count,
            PACKET_FANOUT_RND => (machine::random::next_u64() % count as u64) as usize,
            // Devices here have one queue.
            PACKET_FANOUT_QM => 0,
            PACKET_FANOUT_ROLLOVER => return self.roll_over(members, 0, false),
            _ => ((u64::from(flow_hash(packet)) * count as u64) >> 32) as usize,
        };
        if self.has(PACKET_FANOUT_FLAG_ROLLOVER) { self.roll_over(members, first, true) } else { first }
    }

    /// A member with room, from where the last one was found on; `first` if nobody has.
    fn roll_over(&self, members: &[Arc<PacketSocket>], first: usize, tries_first: bool) -> usize {
        if tries_first && members[first].has_much_room() {
            return first;
        }
        let count = members.len();
        let start = self.turn.load(Ordering::Relaxed) % count;
        let skipped = tries_first.then_some(first);
        let found = (0..count)
            .map(|step| (start + step) % count)
            .find(|place| Some(*place) != skipped && members[*place].has_much_room());
        if let Some(found) = found {
            self.turn.store(found, Ordering::Relaxed);
        }
        found.unwrap_or(first)
    }
}

/// A hash of a packet's flow, the same in both directions, that nobody outside can foresee.
fn flow_hash(packet: &Packet) -> u32 {
    static KEY: Lazy<u64> = Lazy::new(|| machine::random::next_u64() | 1);
    let bytes = packet.from_network_header();
    let ports =
        |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
    let mix = |source: u128, destination: u128, protocol: u8, ports: [u8; 4]| {
        let pair = source ^ destination;
        let ends = u16::from_be_bytes([ports[0], ports[1]]) ^ u16::from_be_bytes([ports[2], ports[3]]);
        pair as u64 ^ (pair >> 64) as u64 ^ u64::from(ends) << 32 ^ u64::from(protocol) << 48
    };
    let flow = match packet.protocol {
        ETH_P_IP => Ipv4::read_unchecked(bytes).map(|it| {
            let ports = if it.is_fragment() { [0; 4] } else { ports(it.header_length()) };
            mix(it.source.to_bits().into(), it.destination.to_bits().into(), it.protocol, ports)
        }),
        ETH_P_IPV6 => Ipv6::read_unchecked(bytes).map(|it| {
            mix(
                it.source.to_bits(),
                it.destination.to_bits(),
                it.next_header,
                ports(linnet_lib::wire::ipv6::HEADER),
            )
        }),
        other => Ok(u64::from(other)),
    };
    let mixed = (flow.unwrap_or(0) ^ *KEY).wrapping_mul(0xff51_afd7_ed55_8ccd);
    ((mixed ^ mixed >> 32).wrapping_mul(*KEY) >> 32) as u32
}

impl Tap for Group {
    fn number(&self) -> u64 {
        self.number
    }

    fn take(&self, device: &Arc<NetDevice>, packet: &Packet, direction: Direction) {
        let is_out = direction == Direction::Out;
        if is_out && self.has(PACKET_FANOUT_FLAG_IGNORE_OUTGOING) {
            return;
        }
        let members = self.members.read();
        if members.is_empty() || is_out && members.iter().any(|member| member.is_own(packet)) {
            return;
        }
        let chosen = members[self.choose(&members, packet)].clone();
        drop(members);
        chosen.take(device, packet, direction);
    }

    fn notify(&self, device: &Arc<NetDevice>, event: DeviceEvent) {
        if !matches!(event, DeviceEvent::Down | DeviceEvent::Unregistered) {
            return;
        }
        // Each stops listening.
        loop {
            let first = self.members.read().first().cloned();
            let Some(member) = first else { return };
            member.notify(device, event);
        }
    }
}
