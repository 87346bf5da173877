//! What comes from a wire: `linnet_lib::wire` and `linnet_lib::reassembly`. What is read lies where it says, and writes back as it was.

use linnet_lib::reassembly::{Part, Put, Reassembly};
use linnet_lib::tree::Node;
use linnet_lib::wire::arp::Arp;
use linnet_lib::wire::discovery::{
    Advertisement, PrefixInformation, Redirect, RouterAdvertisement, Solicitation, options,
};
use linnet_lib::wire::ethernet::{self, Ethernet};
use linnet_lib::wire::icmp::{self, Icmp};
use linnet_lib::wire::ipv4::{self, Ipv4};
use linnet_lib::wire::ipv6::{self, Extensions, Fragment, Ipv6};
use linnet_lib::wire::udp::{self, Udp};
use std::net::{IpAddr, Ipv6Addr};

/// An Ethernet frame with all that is in it.
pub fn frame(bytes: &[u8]) {
    let Ok(header) = Ethernet::read(bytes) else { return };
    assert_eq!(header.write(), bytes[..ethernet::HEADER]);
    let rest = &bytes[ethernet::HEADER..];
    match u16::from_be_bytes([bytes[12], bytes[13]]) {
        ethernet::TYPE_IPV4 => packet_4(rest),
        ethernet::TYPE_IPV6 => packet_6(rest),
        ethernet::TYPE_ARP => {
            if let Ok(arp) = Arp::read(rest) {
                assert_eq!(Arp::read(&arp.write()), Ok(arp));
            }
        }
        _ => {}
    }
}

fn packet_4(bytes: &[u8]) {
    let Ok(header) = Ipv4::read(bytes) else {
        let _ = Ipv4::read_unchecked(bytes);
        return;
    };
    assert!(header.header_length() <= header.length && header.length <= bytes.len());
    let mut written = vec![0; header.header_length()];
    header.write(&mut written).unwrap();
    // One bit is reserved: it is read as none, and is not written.
    assert_eq!(Ipv4::read_unchecked(&[&written[..], &bytes[written.len()..]].concat()), Ok(header));
    assert!(ipv4::options(header.options).count() <= 41);
    let body = &bytes[header.header_length()..header.length];
    if header.protocol == icmp::PROTOCOL_4
        && let Ok(message) = Icmp::read(body)
    {
        assert_eq!((message.kind, message.code), (body[0], body[1]));
        assert_eq!(message.rest, body[4..8]);
        let _ = Ipv4::read_unchecked(&body[icmp::HEADER..]);
    }
    datagram(header.protocol, body, header.source.into(), header.destination.into());
}

fn packet_6(bytes: &[u8]) {
    let Ok(header) = Ipv6::read(bytes) else {
        let _ = Ipv6::read_unchecked(bytes);
        return;
    };
    assert_eq!(header.write().unwrap(), bytes[..ipv6::HEADER]);
    assert!(ipv6::HEADER + header.payload_length <= bytes.len());
    let payload = &bytes[ipv6::HEADER..ipv6::HEADER + header.payload_length];
    let mut extensions = Extensions::new(header.next_header, payload);
    loop {
        let at = extensions.offset();
        match extensions.step() {
            Ok(Some(extension)) => {
                assert_eq!(extension.bytes, &payload[at..extensions.offset()]);
                assert!(extension.bytes.len() >= 8);
                let _ = ipv6::check_options(extension.bytes, &[5, 201]);
                if let Ok(fragment) = Fragment::read(extension.bytes) {
                    assert!(fragment.offset % 8 == 0);
                    assert_eq!(Fragment::read(&fragment.write()), Ok(fragment));
                }
            }
            Ok(None) => break,
            Err(_) => return,
        }
    }
    let body = &payload[extensions.offset()..];
    if extensions.next_header() == icmp::PROTOCOL_6
        && let Ok(message) = Icmp::read_v6(body, header.source, header.destination)
    {
        assert_eq!((message.kind, message.code), (body[0], body[1]));
        discovery(body);
    }
    datagram(extensions.next_header(), body, header.source.into(), header.destination.into());
}

fn datagram(protocol: u8, body: &[u8], source: IpAddr, destination: IpAddr) {
    if protocol != udp::PROTOCOL {
        return;
    }
    if let Ok(header) = Udp::read(body) {
        assert!((udp::HEADER..=body.len()).contains(&header.length));
        assert_eq!(header.write(), body[..udp::HEADER]);
        let mut again = body[..header.length].to_vec();
        again[6..8].fill(0);
        let sum = udp::sum(&again, source, destination);
        again[6..8].copy_from_slice(&sum.to_be_bytes());
        assert!(udp::is_right(&again, source, destination));
    }
}

/// A message of neighbour discovery, from its ICMPv6 header on.
pub fn discovery(bytes: &[u8]) {
    if let Ok(found) = Solicitation::read(bytes) {
        let (written, length) = found.write();
        assert_eq!(Solicitation::read(&written[..length]), Ok(found));
    }
    if let Ok(found) = Advertisement::read(bytes) {
        let (written, length) = found.write();
        assert_eq!(Advertisement::read(&written[..length]), Ok(found));
    }
    let _ = Redirect::read(bytes);
    if let Ok(found) = RouterAdvertisement::read(bytes) {
        let mut length = 0;
        for option in options(found.options).flatten() {
            length += option.bytes.len();
            if let Ok(prefix) = PrefixInformation::read(&option) {
                assert!(prefix.length <= 128, "{prefix:?}");
            }
        }
        assert!(length <= found.options.len());
    }
    let _ = Icmp::read_v6(bytes, Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
}

/// Parts of one packet: of each three bytes its offset in eights, its length, and in the last bit whether it is the last.
pub fn fragments(bytes: &[u8]) {
    let mut parts = Reassembly::default();
    let mut whole: Vec<Option<u8>> = Vec::new();
    for (number, part) in bytes.chunks_exact(3).enumerate() {
        let (offset, length, is_last) = (usize::from(part[0]) * 8, usize::from(part[1]), part[2] & 1 != 0);
        let put = parts.put(Box::new(Node::new(Part::new(offset, length, number as u8))), is_last);
        match put {
            Put::Bad => return,
            Put::Twice => {}
            Put::Waits | Put::Complete => {
                let end = offset + length;
                whole.resize(whole.len().max(end), None);
                // Nothing is kept of which something else was kept before.
                assert!(whole[offset..end].iter().all(Option::is_none));
                whole[offset..end].fill(Some(number as u8));
            }
        }
        if put == Put::Complete {
            return check_whole(parts, &whole);
        }
        assert_eq!(parts.length(), None);
    }
}

/// Complete parts follow each other without a gap.
fn check_whole(mut parts: Reassembly<u8>, whole: &[Option<u8>]) {
    assert_eq!(parts.length(), Some(whole.len()));
    assert!(whole.iter().all(Option::is_some));
    let mut order = Vec::new();
    while let Some(part) = parts.take() {
        order.push(Some(*part.payload()));
    }
    let mut seen = whole.to_vec();
    seen.dedup();
    // A part without bytes, which only the last can be, is nowhere to be seen.
    assert!(order == seen || order[..order.len() - 1] == seen);
}
