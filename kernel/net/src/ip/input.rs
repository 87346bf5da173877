//! STAND-IN until branch `path` is merged: what comes in over the loopback only.
use super::route::{self, Flow, RouteKind};
use crate::device::NetDevice;
use crate::namespace::NetState;
use crate::packet::Packet;
use alloc::sync::Arc;
use core::net::IpAddr;
/// About a packet.
pub struct Received {
    /// net
    pub net: Arc<NetState>,
    /// source
    pub source: IpAddr,
    /// destination
    pub destination: IpAddr,
    /// ttl
    pub hop_limit: u8,
    /// tos
    pub traffic_class: u8,
    /// kind
    pub route_kind: RouteKind,
    /// device
    pub device: Arc<NetDevice>,
}
/// About an error.
pub struct IcmpError {
    /// net
    pub net: Arc<NetState>,
    /// source of the quoted
    pub source: IpAddr,
    /// destination of the quoted
    pub destination: IpAddr,
    /// who says so
    pub offender: IpAddr,
    /// type
    pub kind: u8,
    /// code
    pub code: u8,
    /// mtu
    pub info: u32,
    /// device
    pub device: Arc<NetDevice>,
}
/// v4
pub fn receive4(mut packet: Packet) {
    let Some(device) = packet.device.clone() else { return };
    let b = packet.bytes();
    if b.len() < 20 {
        return;
    }
    let head = usize::from(b[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([b[2], b[3]]));
    let (ttl, tos, protocol) = (b[8], b[1], b[9]);
    let source = IpAddr::from([b[12], b[13], b[14], b[15]]);
    let destination = IpAddr::from([b[16], b[17], b[18], b[19]]);
    packet.truncate(total);
    if packet.pull(head).is_none() {
        return;
    }
    go(packet, device, source, destination, ttl, tos, protocol);
}
/// v6
pub fn receive6(mut packet: Packet) {
    let Some(device) = packet.device.clone() else { return };
    let b = packet.bytes();
    if b.len() < 40 {
        return;
    }
    let (ttl, protocol) = (b[7], b[6]);
    let tos = b[0] << 4 | b[1] >> 4;
    let source = super::super::inet::address::from_octets(b[8..24].try_into().unwrap_or_default());
    let destination = super::super::inet::address::from_octets(b[24..40].try_into().unwrap_or_default());
    if packet.pull(40).is_none() {
        return;
    }
    go(packet, device, source, destination, ttl, tos, protocol);
}
fn go(
    packet: Packet,
    device: Arc<NetDevice>,
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    tos: u8,
    protocol: u8,
) {
    let net = device.namespace();
    let flow = Flow { source: Some(source), input: device.index(), ..Flow::to(destination) };
    let Ok(route) = route::input(&net, &device, &flow) else { return };
    let about = Received {
        net,
        source,
        destination,
        hop_limit: ttl,
        traffic_class: tos,
        route_kind: route.kind,
        device,
    };
    let raw = crate::inet::raw::receive(&packet, &about, protocol);
    match protocol {
        17 => crate::inet::udp::receive(packet, &about),
        1 | 58 => {
            let b = packet.bytes();
            match b.first().copied().unwrap_or(255) {
                8 if protocol == 1 => reply(&packet, &about, 0),
                128 if protocol == 58 => reply(&packet, &about, 129),
                0 if protocol == 1 => {
                    crate::inet::ping::receive(&packet, &about);
                }
                129 if protocol == 58 => {
                    crate::inet::ping::receive(&packet, &about);
                }
                3 if protocol == 1 => {
                    let q = &b[8..];
                    let e = IcmpError {
                        net: about.net.clone(),
                        source: IpAddr::from([q[12], q[13], q[14], q[15]]),
                        destination: IpAddr::from([q[16], q[17], q[18], q[19]]),
                        offender: about.source,
                        kind: b[0],
                        code: b[1],
                        info: 0,
                        device: about.device.clone(),
                    };
                    match q[9] {
                        17 => crate::inet::udp::error(&e, &q[20..]),
                        1 => crate::inet::ping::error(&e, &q[20..]),
                        _ => {}
                    }
                    crate::inet::raw::error(&e, q[9], &q[20..]);
                }
                1 if protocol == 58 => {
                    let q = &b[8..];
                    let e = IcmpError {
                        net: about.net.clone(),
                        source: crate::inet::address::from_octets(q[8..24].try_into().unwrap_or_default()),
                        destination: crate::inet::address::from_octets(
                            q[24..40].try_into().unwrap_or_default(),
                        ),
                        offender: about.source,
                        kind: b[0],
                        code: b[1],
                        info: 0,
                        device: about.device.clone(),
                    };
                    match q[6] {
                        17 => crate::inet::udp::error(&e, &q[40..]),
                        58 => crate::inet::ping::error(&e, &q[40..]),
                        _ => {}
                    }
                    crate::inet::raw::error(&e, q[6], &q[40..]);
                }
                _ => {}
            }
        }
        _ => {
            let _ = raw;
        }
    }
}
fn reply(packet: &Packet, about: &Received, kind: u8) {
    answer(about, if kind == 0 { 1 } else { 58 }, &mut {
        let mut v = packet.bytes().to_vec();
        v[0] = kind;
        v
    });
}
fn answer(about: &Received, protocol: u8, message: &mut [u8]) {
    message[2..4].fill(0);
    let s = if protocol == 1 {
        linnet_lib::wire::checksum(message)
    } else {
        let mut s =
            linnet_lib::wire::Sum::of_pseudo_header(about.destination, about.source, 58, message.len());
        s.add(message);
        s.finish()
    };
    message[2..4].copy_from_slice(&s.to_be_bytes());
    let Ok(route) =
        route::output(&about.net, &Flow { source: Some(about.destination), ..Flow::to(about.source) })
    else {
        return;
    };
    let Ok(mut p) = Packet::with_room(128, message.len()) else { return };
    let _ = p.append(message);
    let h = super::output::Header {
        source: about.destination,
        destination: about.source,
        protocol,
        hop_limit: 64,
        ..Default::default()
    };
    let _ = super::output::send(&about.net, &route, &h, p);
}
/// port unreachable
pub fn refuse(packet: &Packet, about: &Received) {
    let v6 = about.source.is_ipv6();
    let mut m = alloc::vec![if v6 { 1u8 } else { 3 }, if v6 { 4 } else { 3 }, 0, 0, 0, 0, 0, 0];
    m.extend_from_slice(packet.from_network_header());
    answer(about, if v6 { 58 } else { 1 }, &mut m);
}
