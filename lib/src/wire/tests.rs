//! What is written is read again; whatever is read, nothing goes wrong.

use super::*;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use std::vec::Vec;

/// Everything that reads, on the same bytes.
fn read_all(bytes: &[u8]) {
    let _ = ethernet::Ethernet::read(bytes);
    let _ = arp::Arp::read(bytes);
    let _ = ipv4::Ipv4::read(bytes);
    if let Ok(header) = ipv4::Ipv4::read_unchecked(bytes) {
        assert!(ipv4::options(header.options).count() <= 41);
    }
    let _ = ipv6::Ipv6::read(bytes);
    for next in [ipv6::HOP_BY_HOP, ipv6::ROUTING, ipv6::FRAGMENT, ipv6::DESTINATION] {
        let mut extensions = ipv6::Extensions::new(next, bytes);
        while let Ok(Some(extension)) = extensions.step() {
            let _ = ipv6::check_options(extension.bytes, &[5]);
            let _ = ipv6::Fragment::read(extension.bytes);
        }
        assert!(extensions.offset() <= bytes.len());
    }
    let _ = icmp::Icmp::read(bytes);
    let _ = discovery::Solicitation::read(bytes);
    let _ = discovery::Advertisement::read(bytes);
    let _ = discovery::Redirect::read(bytes);
    if let Ok(router) = discovery::RouterAdvertisement::read(bytes) {
        for option in discovery::options(router.options).flatten() {
            let _ = discovery::PrefixInformation::read(&option);
        }
    }
    let _ = udp::Udp::read(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 2000 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn garbage_is_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn ipv4_comes_back(
        tos: u8, data in 0usize..1000, identification: u16, dont_fragment: bool, more_fragments: bool, offset in 0usize..8192,
        ttl: u8, protocol: u8, source: [u8; 4], destination: [u8; 4], words in 0usize..11,
    ) {
        let options = Vec::from_iter((0..words * 4).map(|byte| byte as u8));
        let header = ipv4::Ipv4 {
            tos, length: 20 + words * 4 + data, identification, dont_fragment, more_fragments, offset: offset * 8, ttl, protocol,
            source: source.into(), destination: destination.into(), options: &options,
        };
        let mut bytes = std::vec![0; header.length];
        header.write(&mut bytes).unwrap();
        prop_assert_eq!(ipv4::Ipv4::read(&bytes), Ok(header));
        prop_assert_eq!(ipv4::Ipv4::read(&bytes[..bytes.len() - 1]).is_ok(), false);
        bytes[12] ^= 0x10;
        prop_assert_eq!(ipv4::Ipv4::read(&bytes), Err(WireError::Checksum));
    }

    #[test]
    fn cut_or_changed_messages_are_harmless(
        kind in 130u8..140, body in proptest::collection::vec(any::<u8>(), 0..120), cut in 0usize..130,
    ) {
        let mut message = Vec::from(icmp::Icmp { kind, code: 0, rest: [0; 4] }.write());
        message.extend(body);
        message.truncate(cut);
        read_all(&message);
    }

    #[test]
    fn checksums_do_not_depend_on_where_bytes_are_split(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), split in 0usize..150,
    ) {
        let (first, second) = bytes.split_at((split * 2).min(bytes.len() & !1));
        let mut sum = Sum::new();
        sum.add(first);
        sum.add(second);
        prop_assert_eq!(sum.finish(), checksum(&bytes));
        let slow = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum::<u32>();
        let slow = (slow & 0xffff) + (slow >> 16);
        prop_assert_eq!(!(((slow & 0xffff) + (slow >> 16)) as u16), checksum(&bytes));
    }
}

#[test]
fn a_known_header() {
    // From RFC 1071's way of reckoning, as Linux sends it: 10.0.0.1 to 10.0.0.2, ICMP, 84 bytes.
    let bytes = [0x45, 0, 0, 0x54, 0, 0, 0x40, 0, 0x40, 1, 0x26, 0xa7, 10, 0, 0, 1, 10, 0, 0, 2];
    let header = ipv4::Ipv4::read_unchecked(&bytes).unwrap();
    assert_eq!(checksum(&bytes), 0);
    assert_eq!((header.ttl, header.protocol, header.dont_fragment, header.length), (64, 1, true, 84));
    let mut lower = bytes;
    ipv4::set_ttl(&mut lower, 63);
    assert_eq!((lower[8], checksum(&lower)), (63, 0));
}

#[test]
fn discovery_comes_back() {
    let target = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    for link in [None, Some([2, 0, 0, 0, 0, 7])] {
        let asked = discovery::Solicitation { target, link };
        let (bytes, length) = asked.write();
        assert_eq!(discovery::Solicitation::read(&bytes[..length]), Ok(asked));
        let answer =
            discovery::Advertisement { target, link, is_router: true, is_solicited: false, overrides: true };
        let (mut bytes, length) = answer.write();
        assert_eq!(discovery::Advertisement::read(&bytes[..length]), Ok(answer));
        icmp::seal_v6(&mut bytes[..length], target, target);
        assert!(icmp::Icmp::read_v6(&bytes[..length], target, target).is_ok());
    }
}

#[test]
fn udp_without_data() {
    let (from, to): (IpAddr, IpAddr) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into());
    let mut header = udp::Udp { source: 1, destination: 2, length: 8, checksum: 0 };
    header.checksum = udp::sum(&header.write(), from, to);
    assert!(udp::is_right(&header.write(), from, to));
    assert_eq!(udp::Udp::read(&header.write()), Ok(header));
}

#[test]
fn fragments_come_back() {
    let header = ipv6::Fragment { next: 17, offset: 1448, more: true, identification: 0x0102_0304 };
    assert_eq!(ipv6::Fragment::read(&header.write()), Ok(header));
}
