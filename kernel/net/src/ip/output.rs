//! STAND-IN until branch `path` is merged: what goes out over the loopback only.
use super::route::Route;
use crate::device::traffic;
use crate::namespace::NetState;
use crate::packet::Packet;
use abi::errno::Result;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr};
/// What is in a header.
pub struct Header {
    /// source
    pub source: IpAddr,
    /// destination
    pub destination: IpAddr,
    /// protocol
    pub protocol: u8,
    /// ttl
    pub hop_limit: u8,
    /// tos
    pub traffic_class: u8,
    /// label
    pub flow_label: u32,
    /// df
    pub dont_fragment: bool,
}
impl Default for Header {
    fn default() -> Header {
        Header {
            source: Ipv4Addr::UNSPECIFIED.into(),
            destination: Ipv4Addr::UNSPECIFIED.into(),
            protocol: 0,
            hop_limit: 64,
            traffic_class: 0,
            flow_label: 0,
            dont_fragment: false,
        }
    }
}
/// Sends.
pub fn send(net: &Arc<NetState>, route: &Route, header: &Header, mut packet: Packet) -> Result<()> {
    let length = packet.len();
    match (header.source, header.destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let p = packet.push(20)?;
            p.fill(0);
            p[0] = 0x45;
            p[1] = header.traffic_class;
            p[2..4].copy_from_slice(&((length + 20) as u16).to_be_bytes());
            if header.dont_fragment {
                p[6] = 0x40
            }
            p[8] = header.hop_limit;
            p[9] = header.protocol;
            p[12..16].copy_from_slice(&s.octets());
            p[16..20].copy_from_slice(&d.octets());
            let c = linnet_lib::wire::checksum(p);
            p[10..12].copy_from_slice(&c.to_be_bytes());
            packet.protocol = 0x800;
        }
        (s, d) => {
            let p = packet.push(40)?;
            let word = 6 << 28 | u32::from(header.traffic_class) << 20 | header.flow_label;
            p[..4].copy_from_slice(&word.to_be_bytes());
            p[4..6].copy_from_slice(&(length as u16).to_be_bytes());
            p[6] = header.protocol;
            p[7] = header.hop_limit;
            p[8..24].copy_from_slice(&crate::inet::address::octets(s));
            p[24..40].copy_from_slice(&crate::inet::address::octets(d));
            packet.protocol = 0x86dd;
        }
    }
    send_raw(net, route, packet)
}
/// Sends with its header.
pub fn send_raw(_net: &Arc<NetState>, route: &Route, mut packet: Packet) -> Result<()> {
    let protocol = if packet.bytes()[0] >> 4 == 4 { 0x800u16 } else { 0x86dd };
    packet.mark_network_header();
    let p = packet.push(14)?;
    p.fill(0);
    p[12..14].copy_from_slice(&protocol.to_be_bytes());
    packet.protocol = protocol;
    traffic::transmit(&route.device, packet)
}
