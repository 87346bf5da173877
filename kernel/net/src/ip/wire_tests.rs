//! Frames from a wire, right ones with fields changed at random, through the whole way in: nothing falls over, what is held is bounded,
//! and every packet is accounted for.

use abi::rtnetlink::IFF_UP;
use abi::socket::{AF_INET, AF_INET6};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};
use linnet_lib::wire::ipv6::{self, Extensions};
use linnet_lib::wire::{checksum, icmp, udp};
use security::Credentials;

use super::address::{Address, inet, inet6};
use super::counters::Count;
use super::sysctl;
use crate::device::tests::{namespace, pair, simulate};
use crate::device::{NetDevice, Rtnl, set_flags, traffic};
use crate::inet::address::Endpoint;
use crate::lifetime;
use crate::namespace::{NetNamespace, NetState};
use crate::netlink::Origin;
use crate::packet::{HEAD_ROOM, Packet};
use crate::socket::{Socket, SocketKind};

const OWN_4: [u8; 4] = [10, 0, 0, 1];
const FAR_4: [u8; 4] = [10, 0, 0, 2];
const OWN_6: &str = "2001:db8::1";
const FAR_6: &str = "2001:db8::2";
const FAR_LINK: &str = "fe80::2";
const ALL_NODES: &str = "ff02::1";
const ETHERNET: usize = 14;
const PORT: u16 = 5000;
/// Bytes that fragments of one family may hold.
const FRAGMENTS_MOST: usize = 64 << 10;

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }
}

fn v6(text: &str) -> [u8; 16] {
    text.parse::<Ipv6Addr>().unwrap().octets()
}

fn ethernet(to: &[u8], kind: u16, payload: &[u8]) -> Vec<u8> {
    [to, &[2, 0, 0, 0, 0, 9], &kind.to_be_bytes(), payload].concat()
}

/// A packet of IPv4: where to, its protocol, its options, and what is in the words about fragments.
fn ip4(to: [u8; 4], protocol: u8, options: &[u8], fragment: u16, body: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut bytes = Vec::from([0x40 | (header / 4) as u8, 0]);
    bytes.extend(((header + body.len()) as u16).to_be_bytes());
    bytes.extend([0, 7]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(FAR_4);
    bytes.extend(to);
    bytes.extend(options);
    bytes.extend(body);
    bytes
}

fn ip6(from: &str, to: &str, next: u8, hops: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from([0x60, 0, 0, 0]);
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend([next, hops]);
    bytes.extend(v6(from));
    bytes.extend(v6(to));
    bytes.extend(body);
    bytes
}

fn datagram(port: u16, body: &[u8]) -> Vec<u8> {
    let length = 8 + body.len() as u16;
    [&4000_u16.to_be_bytes()[..], &port.to_be_bytes(), &length.to_be_bytes(), &[0, 0], body].concat()
}

fn message(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0][..], &rest, body].concat()
}

/// What our own datagram looks like to who complains of it.
fn ours_4() -> Vec<u8> {
    let mut packet = ip4(FAR_4, 17, &[], 0, &datagram(9, b"lost"));
    packet[12..16].copy_from_slice(&OWN_4);
    packet[20..22].copy_from_slice(&PORT.to_be_bytes());
    packet
}

fn ours_6() -> Vec<u8> {
    let mut packet = ip6(OWN_6, FAR_6, 17, 64, &datagram(9, b"lost"));
    packet[40..42].copy_from_slice(&PORT.to_be_bytes());
    packet
}

/// Right packets of IPv4, one of each kind.
fn packets_4() -> Vec<Vec<u8>> {
    let body = [b'x'; 64];
    let echo = message(8, 0, [0, 1, 0, 1], &body);
    let mut all = Vec::new();
    for to in [OWN_4, [10, 0, 0, 255], [224, 0, 0, 1], [8, 8, 8, 8], [127, 0, 0, 1]] {
        all.push(ip4(to, 17, &[], 0, &datagram(PORT, &body)));
        all.push(ip4(to, 1, &[], 0, &echo));
    }
    all.push(ip4(OWN_4, 17, &[], 0, &datagram(9, &body)));
    all.push(ip4(OWN_4, 6, &[], 0, &body));
    for (kind, code, rest) in [(3, 3, [0; 4]), (3, 4, [0, 0, 2, 88]), (11, 0, [0; 4]), (12, 0, [20, 0, 0, 0])]
    {
        all.push(ip4(OWN_4, 1, &[], 0, &message(kind, code, rest, &ours_4())));
    }
    all.push(ip4(OWN_4, 1, &[], 0, &message(5, 1, [10, 0, 0, 77], &ours_4())));
    all.push(ip4(OWN_4, 1, &[], 0, &message(13, 0, [0; 4], &[0; 12])));
    all.push(ip4(OWN_4, 1, &[], 0, &message(0, 0, [0, 77, 0, 1], &body)));
    all.push(ip4([224, 0, 0, 1], 2, &[148, 4, 0, 0], 0, &[0x11, 100, 0, 0, 0, 0, 0, 0]));
    for options in [&[7, 7, 4, 0, 0, 0, 0, 0][..], &[68, 8, 5, 0, 0, 0, 0, 0], &[131, 7, 4, 10, 0, 0, 9, 0]] {
        all.push(ip4(OWN_4, 17, options, 0, &datagram(PORT, &body)));
    }
    let whole = datagram(PORT, &[b'y'; 120]);
    for (fragment, part) in [(0x2000, &whole[..64]), (0x2008, &whole[64..96]), (12, &whole[96..])] {
        all.push(ip4(OWN_4, 17, &[], fragment, part));
    }
    all
}

/// A fragment header before a part.
fn part_6(next: u8, offset_and_more: u16, part: &[u8]) -> Vec<u8> {
    [&[next, 0][..], &offset_and_more.to_be_bytes(), &[0, 0, 0, 7], part].concat()
}

/// Right packets of IPv6.
fn packets_6() -> Vec<Vec<u8>> {
    let body = [b'x'; 64];
    let mut all = Vec::new();
    for to in [OWN_6, ALL_NODES, "2001:db8:9::9", "::1"] {
        all.push(ip6(FAR_6, to, 17, 64, &datagram(PORT, &body)));
        all.push(ip6(FAR_6, to, 58, 64, &message(128, 0, [0, 1, 0, 1], &body)));
    }
    all.push(ip6(FAR_6, OWN_6, 17, 64, &datagram(9, &body)));
    all.push(ip6(FAR_6, OWN_6, 6, 64, &body));
    all.push(ip6(FAR_6, OWN_6, ipv6::NO_NEXT, 64, &[]));
    for (kind, code, rest) in [(1, 4, [0; 4]), (2, 0, [0, 0, 5, 0]), (3, 0, [0; 4]), (4, 1, [0, 0, 0, 6])] {
        all.push(ip6(FAR_6, OWN_6, 58, 64, &message(kind, code, rest, &ours_6())));
    }
    let link = [1, 1, 2, 0, 0, 0, 0, 9];
    let prefix =
        [&[3, 4, 64, 0xc0, 0, 0, 0, 200, 0, 0, 0, 100, 0, 0, 0, 0][..], &v6("2001:db8:5::")].concat();
    let routers = [&[0, 0, 0, 0, 0, 0, 0, 0][..], &link, &prefix, &[5, 1, 0, 0, 0, 0, 5, 0]].concat();
    for (from, to, kind, rest, body) in [
        (FAR_6, "ff02::1:ff00:1", 135, [0; 4], [&v6(OWN_6)[..], &link].concat()),
        (FAR_6, OWN_6, 136, [0x60, 0, 0, 0], [&v6(FAR_6)[..], &[2, 1, 2, 0, 0, 0, 0, 9]].concat()),
        (FAR_LINK, ALL_NODES, 134, [64, 0, 0, 100], routers),
        (FAR_LINK, OWN_6, 137, [0; 4], [v6("2001:db8::77"), v6("2001:db8::99")].concat()),
        (FAR_LINK, "ff02::2", 133, [0; 4], link.to_vec()),
    ] {
        all.push(ip6(from, to, 58, 255, &message(kind, 0, rest, &body)));
    }
    let query = message(130, 0, [0, 100, 0, 0], &[0; 20]);
    let alert = [58, 0, 5, 2, 0, 0, 1, 0];
    all.push(ip6(FAR_LINK, ALL_NODES, ipv6::HOP_BY_HOP, 1, &[&alert[..], &query].concat()));
    for (kind, header) in [
        (ipv6::DESTINATION, [17, 0, 1, 4, 0, 0, 0, 0]),
        (ipv6::DESTINATION, [17, 0, 0xc7, 4, 0, 0, 0, 0]),
        (ipv6::ROUTING, [17, 0, 0, 0, 0, 0, 0, 0]),
        (ipv6::ROUTING, [17, 0, 4, 1, 0, 0, 0, 0]),
        (ipv6::HOP_BY_HOP, [17, 0, 0x85, 4, 0, 0, 0, 0]),
    ] {
        all.push(ip6(FAR_6, OWN_6, kind, 64, &[&header[..], &datagram(PORT, &body)].concat()));
    }
    let whole = datagram(PORT, &[b'y'; 120]);
    for (offset_and_more, part) in [(1, &whole[..64]), (65, &whole[64..96]), (96, &whole[96..]), (0, &whole)]
    {
        all.push(ip6(FAR_6, OWN_6, ipv6::FRAGMENT, 64, &part_6(17, offset_and_more, part)));
    }
    all
}

fn arp(operation: u8, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 9];
    [&head[..], &from, &[0; 6], &to].concat()
}

/// Right frames of every kind for a device.
fn frames(device: &NetDevice) -> Vec<Vec<u8>> {
    let own = device.address().to_vec();
    let mut all = Vec::new();
    all.extend(packets_4().iter().map(|packet| ethernet(&own, 0x0800, packet)));
    all.extend(packets_6().iter().map(|packet| ethernet(&own, 0x86dd, packet)));
    all.extend(packets_6().iter().map(|packet| ethernet(&[0x33, 0x33, 0, 0, 0, 1], 0x86dd, packet)));
    for (operation, from, to) in [(1, FAR_4, OWN_4), (2, FAR_4, OWN_4), (1, FAR_4, FAR_4), (1, OWN_4, OWN_4)]
    {
        all.push(ethernet(&[0xff; 6], 0x0806, &arp(operation, from, to)));
    }
    let tagged = [&[0, 5, 8, 0][..], &packets_4()[0]].concat();
    all.push(ethernet(&own, 0x8100, &tagged));
    all
}

/// Makes checksums right again, as far as there are headers.
fn seal(frame: &mut [u8]) -> Option<()> {
    let kind = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    let packet = frame.get_mut(ETHERNET..)?;
    let (source, destination, protocol, at): (IpAddr, IpAddr, u8, usize) = match kind {
        0x0800 => {
            let header = usize::from(packet.first()? & 0xf) * 4;
            packet.get_mut(10..12)?.fill(0);
            let sum = checksum(packet.get(..header)?);
            packet.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
            let addresses: [u8; 8] = packet.get(12..20)?.try_into().ok()?;
            let [a, b, c, d, rest @ ..] = addresses;
            ([a, b, c, d].into(), rest.into(), packet[9], header)
        }
        0x86dd => {
            let addresses = packet.get(8..40)?;
            let source: [u8; 16] = addresses[..16].try_into().ok()?;
            let destination: [u8; 16] = addresses[16..].try_into().ok()?;
            let mut extensions = Extensions::new(*packet.get(6)?, packet.get(40..)?);
            while let Ok(Some(_)) = extensions.step() {}
            (source.into(), destination.into(), extensions.next_header(), 40 + extensions.offset())
        }
        _ => return None,
    };
    let message = packet.get_mut(at..)?;
    match (protocol, source, destination) {
        (icmp::PROTOCOL_4, ..) if message.len() >= 8 => icmp::seal(message),
        (icmp::PROTOCOL_6, IpAddr::V6(source), IpAddr::V6(destination)) if message.len() >= 8 => {
            icmp::seal_v6(message, source, destination);
        }
        (udp::PROTOCOL, ..) => {
            message.get_mut(6..8)?.fill(0);
            let sum = udp::sum(message, source, destination);
            message.get_mut(6..8)?.copy_from_slice(&sum.to_be_bytes());
        }
        _ => {}
    }
    Some(())
}

/// Changes one field, cuts, or lengthens.
fn change(frame: &mut Vec<u8>, numbers: &mut Numbers) {
    // The link's header seldom, else most would be for somebody else.
    let from = if numbers.next(16) == 0 { 0 } else { ETHERNET };
    let headers = frame.len().min(ETHERNET + 100);
    if headers <= from {
        return;
    }
    let at = from + numbers.next(headers - from);
    match numbers.next(8) {
        0 => frame.truncate(at),
        1 => frame.extend(core::iter::repeat_n(numbers.next(256) as u8, numbers.next(600))),
        2 => frame[at] ^= 1 << numbers.next(8),
        _ => frame[at] = [0, 1, 0x7f, 0xff, numbers.next(256) as u8][numbers.next(5)],
    }
}

fn send(through: &Arc<NetDevice>, frame: &[u8]) {
    let mut packet = Packet::with_room(HEAD_ROOM, frame.len()).unwrap();
    packet.append(frame).unwrap();
    let _ = traffic::transmit(through, packet);
}

/// A socket that never reads.
fn listener(space: &Arc<NetNamespace>, family: u32, kind: SocketKind, protocol: i32) -> Arc<Socket> {
    let socket = crate::inet::create(family, kind, protocol, space, &Credentials::initial()).unwrap();
    if kind == SocketKind::Datagram {
        if family == AF_INET6 {
            let (level, name) = (abi::socket::SOL_IPV6 as i32, abi::inet::IPV6_V6ONLY as i32);
            socket.operations().set_option(&socket, level, name, &1_i32.to_ne_bytes()).unwrap();
        }
        let any = crate::inet::address::any(family as u16);
        let place = Endpoint::new(any, PORT).to_socket_address(family as u16);
        socket.operations().bind(&socket, &place).unwrap();
    }
    socket
}

/// Takes both ends of a link up and gives ours its addresses, its packets of IPv6 to be believed at once.
fn set_up(here: &NetNamespace, there: &NetNamespace, own: &Arc<NetDevice>, far: &Arc<NetDevice>) {
    here.ip.control.default6.put(super::config::v6::ACCEPT_DAD, 0);
    for which in [sysctl::FRAGMENT_HIGH_4, sysctl::FRAGMENT_HIGH_6] {
        here.set_ip_number(which, FRAGMENTS_MOST as i32).unwrap();
    }
    let rtnl = Rtnl::lock_all(&[here, there]);
    set_flags(&rtnl, far, far.flags() | IFF_UP).unwrap();
    set_flags(&rtnl, own, own.flags() | IFF_UP).unwrap();
    let origin = Origin::default();
    inet::add(&rtnl, own, Address::new(OWN_4.into(), 24, 0, own.name()), &origin).unwrap();
    inet6::add(&rtnl, own, Address::new(v6(OWN_6).into(), 64, 0, own.name()), &origin).unwrap();
}

/// Every packet that came in is in one number of where packets end.
fn check_sums(net: &NetState, is_v6: bool) {
    let count = |what| net.ip.counters.get(is_v6, what);
    let ends = [
        Count::InHeaderErrors,
        Count::InTruncated,
        Count::InAddressErrors,
        Count::InNoRoutes,
        Count::InDiscards,
        Count::InUnknownProtocols,
        Count::InDelivers,
        Count::ReassemblyRequests,
    ];
    let sum: u64 = ends.iter().map(|end| count(*end)).sum();
    let all: Vec<_> = ends.iter().map(|end| (*end, count(*end))).collect();
    // Fragments end in what they make, which goes on as a packet.
    assert_eq!(count(Count::InReceives), sum - count(Count::Reassembled), "{all:?}");
    assert!(all.iter().filter(|(_, count)| *count > 0).count() >= 5, "{all:?}");
    assert!(count(Count::Reassembled) > 0 && count(Count::ReassemblyFailures) > 0);
    let udp = &net.inet().counters[usize::from(is_v6)];
    let datagrams: u64 = [&udp.received, &udp.no_ports, &udp.errors]
        .iter()
        .map(|place| place.load(machine::sync::atomic::Ordering::Relaxed))
        .sum();
    assert!(datagrams > 0 && datagrams + count(Count::IcmpIn) <= count(Count::InDelivers));
    assert!(count(Count::IcmpInErrors) > 0 && count(Count::IcmpInErrors) <= count(Count::IcmpIn));
}

/// What strangers have made this machine keep.
fn check_held(net: &NetState, own: &NetDevice, listeners: &[Arc<Socket>]) {
    let ip = own.ip().unwrap();
    for is_v6 in [false, true] {
        assert!(net.ip.fragments.held(is_v6).bytes <= FRAGMENTS_MOST);
        assert!(ip.neighbours(is_v6).len() <= super::neighbour::settings::family(is_v6).threshold(2));
    }
    assert!(ip.addresses6.len() <= 20, "{} addresses", ip.addresses6.len());
    assert!(net.ip.control.paths.len() <= 4096);
    for listener in listeners {
        assert!(listener.core().receive_charged() <= listener.core().options.receive_buffer() + 4096);
    }
}

#[test]
fn whatever_comes_from_a_wire() {
    const ROUNDS: usize = 400;
    simulate(|| {
        let (here, there) = (namespace(), namespace());
        let (own, far) = pair(&here, &there);
        set_up(&here, &there, &own, &far);
        let listeners = [
            listener(&here, AF_INET, SocketKind::Datagram, 0),
            listener(&here, AF_INET6, SocketKind::Datagram, 0),
            listener(&here, AF_INET, SocketKind::Raw, 1),
            listener(&here, AF_INET6, SocketKind::Raw, 58),
        ];
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let frames = frames(&own);
        for round in 0..ROUNDS {
            for frame in &frames {
                let mut frame = frame.clone();
                for _ in 0..numbers.next(4).min(round) {
                    change(&mut frame, &mut numbers);
                }
                if numbers.next(8) > 0 {
                    seal(&mut frame);
                }
                send(&far, &frame);
            }
            check_held(here.state(), &own, &listeners);
        }
        check_sums(here.state(), false);
        check_sums(here.state(), true);
        listeners.iter().for_each(|listener| listener.operations().release(listener));
        let state = Arc::downgrade(here.state());
        drop((listeners, own, far, here, there));
        lifetime::clean_queued();
        sched::work::flush().unwrap();
        for _ in 0..4 {
            machine::sync::rcu::synchronize();
            machine::sync::rcu::barrier();
        }
        assert_eq!(state.strong_count(), 0);
    });
}
