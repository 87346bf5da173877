//! Floods from the link: whatever a neighbour sends, memory stays in bounds and the machine answers afterwards.
//!
//! The flooder is the other end of a pair of veths, in a namespace of its own, with a packet socket. What is bounded is the memory
//! that is available, with a margin that is a fraction of what would be used if every frame left something behind.

use crate::case::{Case, Failure, Outcome, long_case};
use crate::ensure;
use crate::inet_help::{V4, V6, address, bind, index_of, receive, send_to, socket, udp, up};
use crate::netlink::{Builder, CREATE, NEWLINK, Namespace, Socket, inside, new_namespace};
use crate::sys::{close, sleep_ms};
use std::time::{Duration, Instant};

/// The cases of this file.
pub const CASES: &[Case] = &[
    long_case("flood_arp_requests", 120, || flood(arp_request)),
    long_case("flood_echo_requests", 120, || flood(echo_request)),
    long_case("flood_fragments_4", 120, || flood(fragment_4)),
    long_case("flood_fragments_6", 120, || flood(fragment_6)),
    long_case("flood_solicitations", 120, || flood(solicitation)),
    long_case("flood_router_advertisements", 120, || flood(router_advertisement)),
    long_case("flood_redirects", 120, || flood(redirect)),
    long_case("flood_too_big", 120, || flood(too_big)),
];

const FRAMES: u32 = 20_000;
/// What may be missing afterwards: a fifth of what the frames take if each is kept with what belongs to it.
const MARGIN_KIB: u64 = 24 << 10;

/// The link-layer address of our end.
pub const OUR_LINK: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// That of the other.
pub const THEIR_LINK: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Our address.
pub const OUR_4: [u8; 4] = [10, 0, 0, 1];

/// A pair of veths: ours with its addresses here, theirs in a namespace of its own.
pub struct Link {
    pub peer: Namespace,
    /// A packet socket on the other end.
    pub sender: i32,
}

impl Drop for Link {
    fn drop(&mut self) {
        close(self.sender);
    }
}

/// Gives an interface an address.
pub fn add_address(netlink: &mut Socket, name: &str, address: &[u8], bits: u8) -> Outcome {
    const NO_DETECTION: u8 = 2;
    let family = if address.len() == 4 { V4 } else { V6 };
    let header = [&[family as u8, bits, NO_DETECTION, 0][..], &index_of(name)?.to_ne_bytes()].concat();
    let body = Builder(header).attribute(2, address).attribute(1, address);
    ensure!(netlink.errno(20, CREATE, &body) == 0, "no address for {name}");
    Ok(())
}

/// An address of the network of both ends.
pub fn ours_6(last: u8) -> [u8; 16] {
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

impl Link {
    /// A new pair, both up.
    pub fn new() -> Result<Link, Failure> {
        crate::inet_help::isolated()?;
        let peer = new_namespace()?;
        let mut netlink = Socket::route()?;
        let far = Builder::link(0, 0, 0).text(3, "v1").attribute(1, &THEIR_LINK).number(28, peer.0);
        let info = Builder::default().text(1, "veth").nest(2, Builder::default().nest(1, far));
        let near = Builder::link(0, 0, 0).text(3, "v0").attribute(1, &OUR_LINK).nest(18, info);
        ensure!(netlink.errno(NEWLINK, CREATE, &near) == 0, "no veth");
        up("v0")?;
        add_address(&mut netlink, "v0", &OUR_4, 16)?;
        add_address(&mut netlink, "v0", &ours_6(1), 64)?;
        let sender = inside(&peer, || {
            up("v1")?;
            let mut netlink = Socket::route()?;
            add_address(&mut netlink, "v1", &[10, 0, 0, 2], 16)?;
            add_address(&mut netlink, "v1", &ours_6(2), 64)?;
            let sender = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
            let mut place = vec![17, 0, 0, 0];
            place.extend(index_of("v1")?.to_ne_bytes());
            place.resize(20, 0);
            ensure!(bind(sender, &place) == 0, "the packet socket is not bound");
            Ok(sender)
        })?;
        Ok(Link { peer, sender })
    }

    /// Sends a frame; one that finds no room is sent again a little later.
    pub fn send(&self, frame: &[u8]) -> Outcome {
        for _ in 0..1000 {
            // SAFETY: the buffer is valid.
            if unsafe { libc::send(self.sender, frame.as_ptr().cast(), frame.len(), 0) } >= 0 {
                return Ok(());
            }
            ensure!(crate::sys::errno() == libc::ENOBUFS, "send: error {}", crate::sys::errno());
            sleep_ms(1);
        }
        Err(Failure::Wrong("the link takes no frame for a second".into()))
    }

    /// Whether a datagram gets through in both directions.
    fn works(&self, family: i32) -> Result<bool, Failure> {
        let (near, far) = if family == V4 { ("10.0.0.1", "10.0.0.2") } else { ("fd00::1", "fd00::2") };
        let ours = udp(family)?;
        let theirs = inside(&self.peer, || udp(family))?;
        bind(ours, &address(near, 7));
        bind(theirs, &address(far, 7));
        send_to(ours, b"there", 0, &address(far, 7));
        let there = receive(theirs, 16, 0).is_ok_and(|got| got.bytes == b"there");
        send_to(theirs, b"back", 0, &address(near, 7));
        let result = there && receive(ours, 16, 0).is_ok_and(|got| got.bytes == b"back");
        close(ours);
        close(theirs);
        Ok(result)
    }
}

fn available_kib() -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| Failure::Wrong("no MemAvailable".into()))
}

/// Sends the frames that `make` makes of numbers, and looks at what is left.
fn flood(make: fn(u32) -> Vec<u8>) -> Outcome {
    let link = Link::new()?;
    ensure!(link.works(V4)? && link.works(V6)?, "the link does not work at first");
    // What is made once is made.
    for number in 0..100 {
        link.send(&make(number))?;
    }
    sleep_ms(300);
    let before = available_kib()?;
    for number in 0..FRAMES {
        link.send(&make(number))?;
    }
    sleep_ms(500);
    let used = before.saturating_sub(available_kib()?);
    ensure!(used < MARGIN_KIB, "{used} KiB are gone");
    // Who has just been heard of is not forgotten for a newcomer; a few seconds later it is.
    let start = Instant::now();
    while !(link.works(V4)? && link.works(V6)?) {
        ensure!(start.elapsed() < Duration::from_secs(60), "it does not answer any more");
    }
    Ok(())
}

/// A frame from the other end.
pub fn frame(to: [u8; 6], kind: u16, body: &[u8]) -> Vec<u8> {
    [&to[..], &THEIR_LINK, &kind.to_be_bytes(), body].concat()
}

/// The sum of RFC 1071.
pub fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0_u32;
    for word in parts.concat().chunks(2) {
        sum += u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn spread(number: u32) -> [u8; 4] {
    number.wrapping_mul(0x9e37_79b1).to_be_bytes()
}

/// A neighbour that is another each time.
fn stranger(number: u32) -> [u8; 4] {
    let [a, b, ..] = spread(number);
    [10, 0, a, b.max(3)]
}

fn arp_request(number: u32) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, 1];
    let body = [&fixed[..], &THEIR_LINK, &stranger(number), &[0; 6], &OUR_4].concat();
    frame([0xff; 6], 0x0806, &body)
}

/// A packet of IPv4 to us; `fragment`: its identification, and what the field of fragments says.
pub fn packet_4(from: [u8; 4], protocol: u8, fragment: (u16, u16), body: &[u8]) -> Vec<u8> {
    let length = (20 + body.len()) as u16;
    let mut header = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[4..6].copy_from_slice(&fragment.0.to_be_bytes());
    header[6..8].copy_from_slice(&fragment.1.to_be_bytes());
    header[12..16].copy_from_slice(&from);
    header[16..20].copy_from_slice(&OUR_4);
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    frame(OUR_LINK, 0x0800, &[&header[..], body].concat())
}

fn echo_request(number: u32) -> Vec<u8> {
    let mut body = vec![8, 0, 0, 0, 0, 1, 0, 1];
    body.resize(1000, 7);
    let sum = checksum(&[&body]);
    body[2..4].copy_from_slice(&sum);
    packet_4(stranger(number), 1, (0, 0), &body)
}

/// The first part of a packet whose others never come.
fn fragment_4(number: u32) -> Vec<u8> {
    const MORE: u16 = 0x2000;
    packet_4(stranger(number), 17, (number as u16, MORE), &[5; 1400])
}

fn stranger_6(number: u32) -> [u8; 16] {
    let [a, b, c, d] = spread(number);
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d.max(1)]
}

/// A packet of IPv6 from the other end.
pub fn packet_6(from: [u8; 16], to: [u8; 16], next: u8, hops: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((body.len() as u16).to_be_bytes());
    header.extend([next, hops]);
    frame(OUR_LINK, 0x86dd, &[&header, &from[..], &to, body].concat())
}

fn fragment_6(number: u32) -> Vec<u8> {
    let mut body = vec![17, 0, 0, 1];
    body.extend(spread(number));
    body.resize(1208, 5);
    packet_6(ours_6(2), ours_6(1), 44, 64, &body)
}

/// A message of ICMPv6 with its checksum.
pub fn icmp_6(from: [u8; 16], to: [u8; 16], hops: u8, mut body: Vec<u8>) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    let sum = checksum(&[&from, &to, &length, &[0, 0, 0, 58], &body]);
    body[2..4].copy_from_slice(&sum);
    packet_6(from, to, 58, hops, &body)
}

fn solicitation(number: u32) -> Vec<u8> {
    let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
    body.extend(ours_6(1));
    body.extend([1, 1]);
    body.extend(THEIR_LINK);
    icmp_6(stranger_6(number), ours_6(1), 255, body)
}

/// Another router each time, with another network.
fn router_advertisement(number: u32) -> Vec<u8> {
    let mut body = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend([3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    body.extend([&[0xfd, 1, 0, 0][..], &spread(number), &[0; 8]].concat());
    body.extend([1, 1]);
    body.extend(THEIR_LINK);
    const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    icmp_6(stranger_6(number), ALL_NODES, 255, body)
}

/// Quotes a packet that was never sent, with a better router for another destination each time.
fn redirect(number: u32) -> Vec<u8> {
    let quoted = quoted_4(number);
    let mut body = vec![5, 1, 0, 0, 10, 0, 0, 2];
    body.extend(quoted);
    let sum = checksum(&[&body]);
    body[2..4].copy_from_slice(&sum);
    packet_4(stranger(number), 1, (0, 0), &body)
}

/// The same with a path that is narrow.
fn too_big(number: u32) -> Vec<u8> {
    let mut body = vec![3, 4, 0, 0, 0, 0, 2, 128];
    body.extend(quoted_4(number));
    let sum = checksum(&[&body]);
    body[2..4].copy_from_slice(&sum);
    packet_4(stranger(number), 1, (0, 0), &body)
}

fn quoted_4(number: u32) -> Vec<u8> {
    let mut header = [0x45, 0, 0, 100, 0, 1, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&OUR_4);
    header[16..20].copy_from_slice(&stranger(number));
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    [&header[..], &[0, 7, 0, 7, 0, 80, 0, 0]].concat()
}
