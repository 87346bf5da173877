//! What a machine does on a link, as the other end of a pair of veths sees it: answers for others, messages of errors and how many,
//! better routers, packets in parts.

use crate::case::{Case, Failure, Outcome, case, long_case};
use crate::floods::{
    Link, OUR_4, OUR_LINK, THEIR_LINK, add_address, checksum, frame, icmp_6, ours_6, packet_4,
};
use crate::inet_help::{V4, V6, address, bind, index_of, receive, set_number, socket, udp, up};
use crate::netlink::{ACK, Builder, CREATE, NEWLINK, Socket};
use crate::sys::{close, sleep_ms};
use crate::{ensure, ensure_eq};
use std::time::{Duration, Instant};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("link_proxy_arp", proxy_arp),
    case("link_proxy_arp_entry", proxy_arp_entry),
    case("link_proxy_ndp", proxy_ndp),
    case("link_errors_are_limited", errors_are_limited),
    case("link_redirects_heard", redirects_heard),
    case("link_redirects_sent", redirects_sent),
    case("link_parts_of_a_packet", parts_of_a_packet),
    long_case("link_unanswered_fails", 30, unanswered_fails),
];

const TARGET: [u8; 4] = [10, 5, 0, 9];
const THEIR_4: [u8; 4] = [10, 0, 0, 2];
/// Sets a number below `/proc/sys/net`.
pub fn write(path: &str, value: &str) -> Outcome {
    std::fs::write(format!("/proc/sys/net/{path}"), value).map_err(|error| format!("{path}: {error}").into())
}

/// What the other end hears: its packet socket takes frames of all kinds from now on.
pub fn listen(link: &Link) -> Result<(), Failure> {
    let index = crate::netlink::inside(&link.peer, || index_of("v1"))?;
    let mut place = vec![17, 0, 0, 3];
    place.extend(index.to_ne_bytes());
    place.resize(20, 0);
    ensure!(bind(link.sender, &place) == 0, "the packet socket is not bound");
    Ok(())
}

/// Frames that come from the near end within some time, of those that `wanted` takes.
pub fn heard(link: &Link, wait: Duration, wanted: impl Fn(&[u8]) -> bool) -> usize {
    let end = Instant::now() + wait;
    let mut count = 0;
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis() as i32;
        let mut poll = libc::pollfd { fd: link.sender, events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd.
        if unsafe { libc::poll(&raw mut poll, 1, left) } != 1 {
            return count;
        }
        let mut frame = [0_u8; 2000];
        // SAFETY: the buffer is as long as is said.
        let length = unsafe { libc::recv(link.sender, frame.as_mut_ptr().cast(), frame.len(), 0) };
        let frame = &frame[..usize::try_from(length).unwrap_or(0)];
        count += usize::from(frame.len() > 14 && frame[6..12] == OUR_LINK && wanted(frame));
    }
}

/// Longer than an answer takes.
pub const MOMENT: Duration = Duration::from_millis(700);

/// Another interface, whose network we forward to.
fn behind(netlink: &mut Socket) -> Outcome {
    let body = Builder::link(0, 0, 0).text(3, "d0").kind("dummy");
    ensure_eq!(netlink.errno(NEWLINK, CREATE, &body), 0);
    up("d0")?;
    add_address(netlink, "d0", &[10, 5, 0, 1], 24)?;
    add_address(netlink, "d0", &[0xfd, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 64)
}

fn asks_for_target() -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &THEIR_LINK, &THEIR_4, &[0; 6], &TARGET].concat();
    frame([0xff; 6], 0x0806, &body)
}

fn is_answer_for_target(frame: &[u8]) -> bool {
    frame[12..14] == [8, 6] && frame[20..22] == [0, 2] && frame[28..32] == TARGET && frame[22..28] == OUR_LINK
}

fn proxy_arp() -> Outcome {
    let link = Link::new()?;
    behind(&mut Socket::route()?)?;
    listen(&link)?;
    let answers = || -> Result<usize, Failure> {
        link.send(&asks_for_target())?;
        Ok(heard(&link, MOMENT, is_answer_for_target))
    };
    ensure_eq!(answers()?, 0);
    write("ipv4/conf/v0/proxy_arp", "1")?;
    write("ipv4/neigh/v0/proxy_delay", "0")?;
    ensure_eq!(answers()?, 0);
    write("ipv4/ip_forward", "1")?;
    ensure_eq!(answers()?, 1);
    // Those of one medium hear each other.
    write("ipv4/conf/v0/medium_id", "7")?;
    write("ipv4/conf/d0/medium_id", "7")?;
    ensure_eq!(answers()?, 0);
    write("ipv4/conf/d0/medium_id", "8")?;
    ensure_eq!(answers()?, 1);
    // An answer may wait, but comes.
    write("ipv4/neigh/v0/proxy_delay", "30")?;
    ensure_eq!(answers()?, 1);
    Ok(())
}

fn neighbour(family: i32, device: &str, address: &[u8]) -> Result<Builder, Failure> {
    const PROXY: u8 = 8;
    let mut header = vec![family as u8, 0, 0, 0];
    header.extend(index_of(device)?.to_ne_bytes());
    header.extend([0, 0, PROXY, 0]);
    Ok(Builder(header).attribute(1, address))
}

fn proxy_arp_entry() -> Outcome {
    let link = Link::new()?;
    let mut netlink = Socket::route()?;
    behind(&mut netlink)?;
    listen(&link)?;
    write("ipv4/neigh/v0/proxy_delay", "0")?;
    write("ipv4/ip_forward", "1")?;
    let answers = || -> Result<usize, Failure> {
        link.send(&asks_for_target())?;
        Ok(heard(&link, MOMENT, is_answer_for_target))
    };
    ensure_eq!(answers()?, 0);
    let entry = neighbour(V4, "v0", &TARGET)?;
    ensure_eq!(netlink.errno(28, CREATE, &entry), 0);
    ensure_eq!(answers()?, 1);
    ensure_eq!(netlink.errno(29, 0, &entry), 0);
    ensure_eq!(answers()?, 0);
    Ok(())
}

fn proxy_ndp() -> Outcome {
    const OTHER: [u8; 16] = [0xfd, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let link = Link::new()?;
    let mut netlink = Socket::route()?;
    behind(&mut netlink)?;
    listen(&link)?;
    write("ipv6/conf/all/forwarding", "1")?;
    write("ipv6/neigh/v0/proxy_delay", "0")?;
    let answers = || -> Result<usize, Failure> {
        let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
        body.extend(OTHER);
        body.extend([1, 1]);
        body.extend(THEIR_LINK);
        let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
        group[13..].copy_from_slice(&OTHER[13..]);
        let mut asked = icmp_6(ours_6(2), group, 255, body);
        asked[..6].copy_from_slice(&[0x33, 0x33, 0xff, OTHER[13], OTHER[14], OTHER[15]]);
        link.send(&asked)?;
        Ok(heard(&link, MOMENT, |frame| {
            frame[12..14] == [0x86, 0xdd] && frame[54] == 136 && frame[62..78] == OTHER
        }))
    };
    ensure_eq!(netlink.errno(28, CREATE, &neighbour(V6, "v0", &OTHER)?), 0);
    ensure_eq!(answers()?, 0);
    write("ipv6/conf/v0/proxy_ndp", "1")?;
    ensure_eq!(answers()?, 1);
    ensure_eq!(netlink.errno(29, 0, &neighbour(V6, "v0", &OTHER)?), 0);
    ensure_eq!(answers()?, 0);
    Ok(())
}

/// A datagram to a port where nobody listens.
fn to_nobody() -> Vec<u8> {
    packet_4(THEIR_4, 17, (0, 0), &[0, 7, 0, 77, 0, 8, 0, 0])
}

fn is_unreachable(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 3
}

fn errors_are_limited() -> Outcome {
    let link = Link::new()?;
    listen(&link)?;
    let answers = |count: usize| -> Result<usize, Failure> {
        for _ in 0..count {
            link.send(&to_nobody())?;
        }
        Ok(heard(&link, MOMENT, is_unreachable))
    };
    // One in a minute.
    write("ipv4/icmp_ratelimit", "60000")?;
    let told = answers(20)?;
    ensure!((1..=6).contains(&told), "{told} errors told to one destination");
    write("ipv4/icmp_ratelimit", "0")?;
    ensure_eq!(answers(20)?, 20);
    // Errors of this kind are not limited by destination.
    write("ipv4/icmp_ratelimit", "60000")?;
    write("ipv4/icmp_ratemask", "0")?;
    ensure_eq!(answers(20)?, 20);
    Ok(())
}

/// The router that the route to an address has.
fn router(netlink: &mut Socket, to: [u8; 4]) -> Option<Vec<u8>> {
    let header = vec![V4 as u8, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let answers = netlink.ask(26, ACK, &Builder(header).attribute(1, &to));
    answers.iter().find(|one| one.kind == 24)?.attributes(12).remove(&5)
}

fn redirect(from: [u8; 4], to: [u8; 4], new: [u8; 4]) -> Vec<u8> {
    let mut quoted = [0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    quoted[12..16].copy_from_slice(&OUR_4);
    quoted[16..20].copy_from_slice(&to);
    let sum = checksum(&[&quoted]);
    quoted[10..12].copy_from_slice(&sum);
    let mut body = [&[5, 1, 0, 0][..], &new, &quoted, &[0, 7, 0, 7, 0, 8, 0, 0]].concat();
    let sum = checksum(&[&body]);
    body[2..4].copy_from_slice(&sum);
    packet_4(from, 1, (0, 0), &body)
}

fn redirects_heard() -> Outcome {
    const FAR: [u8; 4] = [192, 0, 2, 7];
    const BETTER: [u8; 4] = [10, 0, 0, 3];
    let link = Link::new()?;
    let mut netlink = Socket::route()?;
    let header = vec![V4 as u8, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
    ensure_eq!(netlink.errno(24, CREATE, &Builder(header).attribute(5, &THEIR_4)), 0);
    // The better router is known, as it is when it has once been talked to.
    let mut known = vec![V4 as u8, 0, 0, 0];
    known.extend(index_of("v0")?.to_ne_bytes());
    known.extend([0x80, 0, 0, 0]);
    let known = Builder(known).attribute(1, &BETTER).attribute(2, &[2, 0, 0, 0, 0, 3]);
    ensure_eq!(netlink.errno(28, CREATE, &known), 0);
    let mut after = |frame: &[u8]| -> Result<Option<Vec<u8>>, Failure> {
        link.send(frame)?;
        sleep_ms(300);
        Ok(router(&mut netlink, FAR))
    };
    // Not from who is not the router, not to somewhere else, not to nobody.
    ensure_eq!(after(&redirect([10, 0, 0, 4], FAR, BETTER))?, Some(THEIR_4.to_vec()));
    ensure_eq!(after(&redirect(THEIR_4, FAR, [224, 0, 0, 5]))?, Some(THEIR_4.to_vec()));
    ensure_eq!(after(&redirect(THEIR_4, FAR, OUR_4))?, Some(THEIR_4.to_vec()));
    write("ipv4/conf/v0/accept_redirects", "0")?;
    write("ipv4/conf/all/accept_redirects", "0")?;
    ensure_eq!(after(&redirect(THEIR_4, FAR, BETTER))?, Some(THEIR_4.to_vec()));
    write("ipv4/conf/v0/accept_redirects", "1")?;
    ensure_eq!(after(&redirect(THEIR_4, FAR, BETTER))?, Some(BETTER.to_vec()));
    Ok(())
}

/// We forward out of the interface where it came in: the sender is told who is nearer.
fn redirects_sent() -> Outcome {
    const FAR: [u8; 4] = [192, 0, 2, 7];
    let link = Link::new()?;
    let mut netlink = Socket::route()?;
    let header = vec![V4 as u8, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
    let body = Builder(header).attribute(1, &[192, 0, 2, 0]).attribute(5, &[10, 0, 0, 9]);
    ensure_eq!(netlink.errno(24, CREATE, &body), 0);
    write("ipv4/ip_forward", "1")?;
    listen(&link)?;
    let told = |frames: usize| -> Result<usize, Failure> {
        for _ in 0..frames {
            let mut frame = packet_4(THEIR_4, 17, (0, 0), &[0, 7, 0, 7, 0, 8, 0, 0]);
            frame[30..34].copy_from_slice(&FAR);
            frame[24..26].copy_from_slice(&[0; 2]);
            let sum = checksum(&[&frame[14..34]]);
            frame[24..26].copy_from_slice(&sum);
            link.send(&frame)?;
        }
        let is_it = |frame: &[u8]| {
            frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 5 && frame[38..42] == [10, 0, 0, 9]
        };
        Ok(heard(&link, MOMENT, is_it))
    };
    let first = told(5)?;
    ensure!((1..=2).contains(&first), "{first} redirects for five packets at once");
    for interface in ["v0", "all"] {
        write(&format!("ipv4/conf/{interface}/send_redirects"), "0")?;
    }
    ensure_eq!(told(5)?, 0);
    Ok(())
}

/// Parts that are there already do not matter; parts that overlap make the packet one that never comes.
fn parts_of_a_packet() -> Outcome {
    const MORE: u16 = 0x2000;
    let link = Link::new()?;
    let socket = udp(V4)?;
    bind(socket, &address("10.0.0.1", 7));
    let mut whole = vec![0, 9, 0, 7, 0, 40, 0, 0];
    whole.extend((0..32).collect::<Vec<u8>>());
    let part = |id: u16, from: usize, to: usize| {
        let more = if to < whole.len() { MORE } else { 0 };
        packet_4(THEIR_4, 17, (id, more | (from / 8) as u16), &whole[from..to])
    };
    let arrives = |id: u16, parts: &[(usize, usize)]| -> Result<bool, Failure> {
        parts.iter().try_for_each(|(from, to)| link.send(&part(id, *from, *to)))?;
        sleep_ms(200);
        Ok(receive(socket, 100, libc::MSG_DONTWAIT).is_ok_and(|got| got.bytes == whole[8..]))
    };
    ensure!(arrives(1, &[(0, 16), (16, 32), (32, 40)])?, "in order");
    ensure!(arrives(2, &[(32, 40), (16, 32), (0, 16)])?, "backwards");
    ensure!(arrives(3, &[(0, 16), (0, 16), (16, 40)])?, "one twice");
    ensure!(arrives(4, &[(0, 16), (8, 16), (16, 40)])?, "one within another");
    ensure!(arrives(5, &[(0, 16), (16, 32), (8, 24), (32, 40)])?, "one within two");
    ensure!(!arrives(6, &[(0, 24), (16, 32), (32, 40)])?, "an overlap");
    ensure!(!arrives(7, &[(16, 32), (8, 24), (0, 8), (32, 40)])?, "an overlap in front");
    ensure!(arrives(8, &[(0, 16), (16, 40)])?, "it works afterwards");
    close(socket);
    Ok(())
}

/// Who sends to a neighbour that does not answer is told so after three questions.
fn unanswered_fails() -> Outcome {
    let link = Link::new()?;
    listen(&link)?;
    write("ipv4/neigh/v0/retrans_time_ms", "100")?;
    write("ipv4/neigh/v0/mcast_solicit", "5")?;
    let fd = socket(V4, libc::SOCK_DGRAM, 0)?;
    set_number(fd, 0, 11, 1);
    crate::inet_help::send_to(fd, b"hello", 0, &address("10.0.0.77", 7));
    let questions = heard(&link, Duration::from_secs(2), |frame| {
        frame[12..14] == [8, 6] && frame[38..42] == [10, 0, 0, 77]
    });
    ensure_eq!(questions, 5);
    let mut error = [0_u8; 4];
    let mut size = 4_u32;
    // SAFETY: the buffer is four bytes.
    unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, error.as_mut_ptr().cast(), &raw mut size)
    };
    ensure_eq!(i32::from_ne_bytes(error), libc::EHOSTUNREACH);
    close(fd);
    Ok(())
}
