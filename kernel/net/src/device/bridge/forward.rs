//! A bridge's way of a frame: in at a port, learned from, out at one port, at all, or up to the machine (`br_handle_frame`).
//!
//! Frames come from the CPU's queue of received packets and go out through the ports' drivers at once; a frame for the machine
//! goes back to that queue as the bridge device's, so that no way through a bridge deepens the stack.
//! Contexts: preemption off. Locks: the table's (spin), for one look-up.

use alloc::sync::Arc;

use super::port::Port;
use super::table::{Heard, Key, LEARNED_MAX, Place, PortNumber};
use super::vlans::Lane;
use super::{Bridge, Setting};
use crate::device::statistics::Counted;
use crate::device::{NetDevice, ReceiveHandler, tag, traffic};
use crate::packet::{Packet, PacketKind};
use abi::link as linux;

/// Takes the frames that a port receives.
pub(super) struct Ingress(pub(super) Arc<Port>);

/// What a frame is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    One,
    Group,
    All,
}

fn audience(destination: &[u8; 6]) -> Audience {
    match destination {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => Audience::All,
        [first, ..] if first & 1 != 0 => Audience::Group,
        _ => Audience::One,
    }
}

/// The last byte of an address that bridges keep to themselves (01:80:c2:00:00:0x).
fn link_local(destination: &[u8; 6]) -> Option<u8> {
    match destination {
        [0x01, 0x80, 0xc2, 0, 0, last] if last & 0xf0 == 0 => Some(*last),
        _ => None,
    }
}

impl ReceiveHandler for Ingress {
    fn receive(&self, _device: &Arc<NetDevice>, mut packet: Packet) -> Option<Packet> {
        let port = &self.0;
        let bridge = port.bridge_operations()?;
        let (destination, source) = addresses(packet.from_link_header())?;
        if source[0] & 1 != 0 || source == [0; 6] {
            return None;
        }
        if let Some(last) = link_local(&destination) {
            let mask = bridge.setting(Setting::GroupForwardMask) | port.group_forward_mask();
            match last {
                // Spanning tree: without one it is a frame like others.
                0 => {}
                // Pause frames end here.
                1 => return None,
                last if mask & 1 << last != 0 => {}
                _ => {
                    bridge.learn_link_local(port, &packet, source);
                    return Some(packet);
                }
            }
        }
        let state = port.state();
        if state != linux::BR_STATE_FORWARDING && state != linux::BR_STATE_LEARNING {
            return None;
        }
        if port.bridge.address().as_slice() == destination {
            packet.kind = PacketKind::Host;
        }
        let lane = bridge.lane(&port.vlans, packet.from_link_header())?;
        bridge.take(port, packet, (destination, source), lane);
        None
    }
}

fn addresses(frame: &[u8]) -> Option<([u8; 6], [u8; 6])> {
    let (destination, rest) = frame.split_first_chunk::<6>()?;
    Some((*destination, *rest.first_chunk::<6>()?))
}

impl Bridge {
    /// A frame that came in at a port (`br_handle_frame_finish`).
    fn take(&self, port: &Arc<Port>, packet: Packet, (destination, source): ([u8; 6], [u8; 6]), lane: Lane) {
        let now = packet.received_ns;
        if port.has(linux::IFLA_BRPORT_LEARNING) {
            self.learn(port, Key { vlan: lane.vlan, address: source }, now);
        }
        if port.state() == linux::BR_STATE_LEARNING {
            return;
        }
        let audience = audience(&destination);
        let for_us = port.bridge.flags() & abi::rtnetlink::IFF_PROMISC != 0 || audience != Audience::One;
        if audience == Audience::Group {
            port.bridge.statistics.count(Counted::Multicast, 0);
        }
        let route = match audience {
            Audience::One => self.route(Key { vlan: lane.vlan, address: destination }, now),
            _ => None,
        };
        if let Some((_, true)) = route {
            return self.pass_up(&port.bridge, packet, lane);
        }
        let copy = for_us.then(|| packet.clone());
        match route {
            Some((number, _)) => self.forward(Some(port), number, packet, lane),
            None => self.flood(Some(port), packet, audience, lane),
        }
        if let Some(copy) = copy {
            self.pass_up(&port.bridge, copy, lane);
        }
    }

    /// A frame that the machine sends through the bridge (`br_dev_xmit`); its bytes begin with its link header.
    pub(super) fn send(&self, device: &Arc<NetDevice>, packet: Packet) {
        let length = packet.len();
        let Some((destination, _)) = addresses(packet.bytes()) else {
            device.statistics.count(Counted::SendDropped, length);
            return;
        };
        device.statistics.count(Counted::Sent, length);
        let Some(lane) = self.lane(&self.vlans, packet.bytes()) else { return };
        let audience = audience(&destination);
        let route = match audience {
            Audience::One => {
                self.route(Key { vlan: lane.vlan, address: destination }, machine::time::now_ns())
            }
            _ => None,
        };
        match route {
            Some((number, _)) => self.forward(None, number, packet, lane),
            None => self.flood(None, packet, audience, lane),
        }
    }

    fn route(&self, key: Key, now: u64) -> Option<(PortNumber, bool)> {
        self.table.read().route(&key, now, self.ageing_ns())
    }

    /// Sends to one port.
    fn forward(&self, from: Option<&Arc<Port>>, to: PortNumber, packet: Packet, lane: Lane) {
        let Some(ports) = self.ports.load_arc() else { return };
        let Ok(place) = ports.binary_search_by_key(&to, |port| port.number) else { return };
        if may_leave(from, &ports[place], lane) {
            leave(&ports[place], packet, lane);
        }
    }

    /// Sends to all ports that want what they did not ask for. The last one gets the packet itself.
    fn flood(&self, from: Option<&Arc<Port>>, packet: Packet, audience: Audience, lane: Lane) {
        let wish = match audience {
            Audience::One => linux::IFLA_BRPORT_UNICAST_FLOOD,
            Audience::Group => linux::IFLA_BRPORT_MCAST_FLOOD,
            Audience::All => linux::IFLA_BRPORT_BCAST_FLOOD,
        };
        let Some(ports) = self.ports.load_arc() else { return };
        let mut last: Option<&Arc<Port>> = None;
        for port in ports.iter() {
            // What the machine itself sends to a group goes out everywhere.
            let wants = port.has(wish) || from.is_none() && audience != Audience::One;
            if !wants || !may_leave(from, port, lane) {
                continue;
            }
            if let Some(before) = last.replace(port) {
                leave(before, packet.clone(), lane);
            }
        }
        if let Some(port) = last {
            leave(port, packet, lane);
        }
    }

    /// Notes that an address is behind a port.
    fn learn(&self, port: &Arc<Port>, key: Key, now: u64) {
        let most = self.most_learned();
        if self.table.read().hear(&key, port.number, now, most) != Heard::News {
            return;
        }
        let Some(place) = Place::new(key, port.number, 0, now) else { return };
        let mut table = self.table.write();
        // A port that goes is off the list before its entries go: nothing is learned there afterwards.
        if port.is_gone() || !table.learn(place, most) {
            return;
        }
        let view = table.get(&key, now, self.ageing_ns()).map(|entry| entry.view());
        drop(table);
        if let Some(view) = view {
            super::notify::entry_later(port, view);
        }
        self.expect_ageing(&port.bridge, now.saturating_add(self.ageing_ns()));
    }

    fn learn_link_local(&self, port: &Arc<Port>, packet: &Packet, address: [u8; 6]) {
        let may = matches!(port.state(), linux::BR_STATE_LEARNING | linux::BR_STATE_FORWARDING);
        if may
            && self.learns_link_local(port)
            && let Some(lane) = self.lane(&port.vlans, packet.from_link_header())
        {
            self.learn(port, Key { vlan: lane.vlan, address }, machine::time::now_ns());
        }
    }

    /// What is learned from the wire at most: what the administrator says, and never more than memory is meant for.
    fn most_learned(&self) -> usize {
        match self.setting(Setting::MostLearned) as usize {
            0 => LEARNED_MAX,
            most => most.min(LEARNED_MAX),
        }
    }
}

/// Whether a frame from one port (none: the machine) may go out at another.
fn may_leave(from: Option<&Arc<Port>>, to: &Arc<Port>, lane: Lane) -> bool {
    if to.state() != linux::BR_STATE_FORWARDING || !lane.reaches(&to.vlans) {
        return false;
    }
    let Some(from) = from else { return true };
    if Arc::ptr_eq(from, to) {
        return to.has(linux::IFLA_BRPORT_MODE);
    }
    !(from.has(linux::IFLA_BRPORT_ISOLATED) && to.has(linux::IFLA_BRPORT_ISOLATED))
}

fn leave(port: &Arc<Port>, mut packet: Packet, lane: Lane) {
    packet.rewind_to_link_header();
    let most = port.device.mtu() as usize + tag::HEADER + tag::TAG;
    let length = packet.len();
    match lane.fit(&port.vlans, packet).filter(|packet| packet.len() <= most && port.device.is_up()) {
        Some(packet) => traffic::pass_on(&port.device, packet),
        None => port.device.statistics.count(Counted::SendDropped, length),
    }
}

impl Bridge {
    /// Gives a frame to the machine as the bridge device's, which is like a port. Who listens to all gets also what it is not in.
    fn pass_up(&self, device: &Arc<NetDevice>, mut packet: Packet, lane: Lane) {
        packet.rewind_to_link_header();
        let packet = if lane.reaches(&self.vlans) {
            lane.fit(&self.vlans, packet)
        } else {
            Some(packet).filter(|_| device.flags() & abi::rtnetlink::IFF_PROMISC != 0)
        };
        let Some(packet) = packet.and_then(tag::open) else { return };
        device.statistics.count(Counted::Received, packet.len());
        traffic::receive(device, packet);
    }
}
