//! `/proc/net/arp`, `snmp`, `snmp6`, `netstat`: neighbours and counters as texts (proc(5), RFC 4293).
//!
//! Locks: none.

use core::fmt::{self, Write};
use core::net::IpAddr;
use linnet_lib::neighbour::Nud;
use machine::sync::atomic::Ordering;
use vfs::pseudo::Text;

use super::config::v4;
use super::counters::Count;
use super::sysctl;
use crate::device::NetDevice;
use crate::namespace::NetNamespace;

/// `arp`: the neighbours of IPv4.
pub fn write_arp(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    writeln!(out, "IP address       HW type     Flags       HW address            Mask     Device")?;
    let mut next = 0;
    while let Some(device) = net.devices().next_from(next) {
        next = device.index().wrapping_add(1);
        write_neighbours(&device, out)?;
    }
    Ok(())
}

fn write_neighbours(device: &NetDevice, out: &mut Text) -> fmt::Result {
    const COMPLETE: u32 = 2;
    const PERMANENT: u32 = 4;
    let Some(ip) = device.ip() else { return Ok(()) };
    let mut next = 0;
    while let Some((key, found)) = ip.neighbours(false).next_from(next) {
        let Some(after) = key.checked_add(1) else { return Ok(()) };
        next = after;
        let about = found.describe();
        let state = about.reachability.state();
        if matches!(state, Nud::None | Nud::NoArp) {
            continue;
        }
        let complete = if state.is_valid() { COMPLETE } else { 0 };
        let flags = complete | if state == Nud::Permanent { PERMANENT } else { 0 };
        let IpAddr::V4(address) = about.address else { continue };
        let mut link = alloc::string::String::new();
        for (place, byte) in about.link.iter().enumerate() {
            write!(link, "{}{byte:02x}", if place == 0 { "" } else { ":" })?;
        }
        if about.link.is_empty() {
            link.push_str("00:00:00:00:00:00");
        }
        let address = alloc::format!("{address}");
        let hardware = alloc::format!("0x{:x}", device.hardware_type());
        let flags = alloc::format!("0x{flags:x}");
        writeln!(out, "{address:<16} {hardware:<12}{flags:<12}{link:<17}     *        {}", device.name())?;
    }
    Ok(())
}

/// A line of names and one of values.
fn table(out: &mut Text, head: &str, cells: &[(&str, u64)]) -> fmt::Result {
    write!(out, "{head}:")?;
    cells.iter().try_for_each(|(name, _)| write!(out, " {name}"))?;
    write!(out, "\n{head}:")?;
    cells.iter().try_for_each(|(_, value)| write!(out, " {value}"))?;
    writeln!(out)
}

/// `snmp`: IPv4, ICMP, UDP.
pub fn write_snmp(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    let count = |what| net.ip.counters.get(false, what);
    let forwards = net.ip.control.all4.is_on(v4::FORWARDING);
    let ip = [
        ("Forwarding", if forwards { 1 } else { 2 }),
        ("DefaultTTL", net.ip_number(sysctl::DEFAULT_TTL) as u64),
        ("InReceives", count(Count::InReceives)),
        ("InHdrErrors", count(Count::InHeaderErrors)),
        ("InAddrErrors", count(Count::InAddressErrors)),
        ("ForwDatagrams", count(Count::Forwarded)),
        ("InUnknownProtos", count(Count::InUnknownProtocols)),
        ("InDiscards", count(Count::InDiscards)),
        ("InDelivers", count(Count::InDelivers)),
        ("OutRequests", count(Count::OutRequests)),
        ("OutDiscards", count(Count::OutDiscards)),
        ("OutNoRoutes", count(Count::OutNoRoutes)),
        ("ReasmTimeout", count(Count::ReassemblyTimeouts)),
        ("ReasmReqds", count(Count::ReassemblyRequests)),
        ("ReasmOKs", count(Count::Reassembled)),
        ("ReasmFails", count(Count::ReassemblyFailures)),
        ("FragOKs", count(Count::Fragmented)),
        ("FragFails", count(Count::FragmentFailures)),
        ("FragCreates", count(Count::FragmentsMade)),
        ("OutTransmits", count(Count::OutTransmits)),
    ];
    table(out, "Ip", &ip)?;
    let icmp = [
        ("InMsgs", count(Count::IcmpIn)),
        ("InErrors", count(Count::IcmpInErrors)),
        ("InCsumErrors", count(Count::IcmpInChecksumErrors)),
        ("OutMsgs", count(Count::IcmpOut)),
        ("OutRateLimitGlobal", count(Count::IcmpOutLimited)),
        ("OutRateLimitHost", count(Count::IcmpOutLimitedHost)),
    ];
    table(out, "Icmp", &icmp)?;
    let udp = &net.inet().counters[0];
    let value = |place: &machine::sync::atomic::AtomicU64| place.load(Ordering::Relaxed);
    let udp = [
        ("InDatagrams", value(&udp.received)),
        ("NoPorts", value(&udp.no_ports)),
        ("InErrors", value(&udp.errors)),
        ("OutDatagrams", value(&udp.sent)),
        ("RcvbufErrors", value(&udp.no_room)),
        ("InCsumErrors", value(&udp.checksums)),
    ];
    table(out, "Udp", &udp)
}

/// `netstat`: what else is counted of IPv4.
pub fn write_netstat(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    let rows = [
        ("InNoRoutes", Count::InNoRoutes),
        ("InTruncatedPkts", Count::InTruncated),
        ("InMcastPkts", Count::InMulticasts),
        ("OutMcastPkts", Count::OutMulticasts),
        ("InBcastPkts", Count::InBroadcasts),
        ("OutBcastPkts", Count::OutBroadcasts),
        ("InOctets", Count::InOctets),
        ("OutOctets", Count::OutOctets),
        ("InMcastOctets", Count::InMulticastOctets),
        ("OutMcastOctets", Count::OutMulticastOctets),
        ("InBcastOctets", Count::InBroadcastOctets),
        ("OutBcastOctets", Count::OutBroadcastOctets),
        ("InCsumErrors", Count::InChecksumErrors),
        ("InNoECTPkts", Count::InNoEct),
        ("InECT1Pkts", Count::InEct1),
        ("InECT0Pkts", Count::InEct0),
        ("InCEPkts", Count::InCongested),
        ("ReasmOverlaps", Count::ReassemblyOverlaps),
    ];
    table(out, "IpExt", &rows.map(|(name, what)| (name, net.ip.counters.get(false, what))))
}

/// `snmp6`: IPv6, one number a line.
pub fn write_snmp6(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    let rows = [
        ("Ip6InReceives", Count::InReceives),
        ("Ip6InHdrErrors", Count::InHeaderErrors),
        ("Ip6InTooBigErrors", Count::InTooBig),
        ("Ip6InNoRoutes", Count::InNoRoutes),
        ("Ip6InAddrErrors", Count::InAddressErrors),
        ("Ip6InUnknownProtos", Count::InUnknownProtocols),
        ("Ip6InTruncatedPkts", Count::InTruncated),
        ("Ip6InDiscards", Count::InDiscards),
        ("Ip6InDelivers", Count::InDelivers),
        ("Ip6OutForwDatagrams", Count::Forwarded),
        ("Ip6OutRequests", Count::OutRequests),
        ("Ip6OutDiscards", Count::OutDiscards),
        ("Ip6OutNoRoutes", Count::OutNoRoutes),
        ("Ip6ReasmTimeout", Count::ReassemblyTimeouts),
        ("Ip6ReasmReqds", Count::ReassemblyRequests),
        ("Ip6ReasmOKs", Count::Reassembled),
        ("Ip6ReasmFails", Count::ReassemblyFailures),
        ("Ip6FragOKs", Count::Fragmented),
        ("Ip6FragFails", Count::FragmentFailures),
        ("Ip6FragCreates", Count::FragmentsMade),
        ("Ip6InMcastPkts", Count::InMulticasts),
        ("Ip6OutMcastPkts", Count::OutMulticasts),
        ("Ip6InOctets", Count::InOctets),
        ("Ip6OutOctets", Count::OutOctets),
        ("Ip6InMcastOctets", Count::InMulticastOctets),
        ("Ip6OutMcastOctets", Count::OutMulticastOctets),
        ("Ip6InNoECTPkts", Count::InNoEct),
        ("Ip6InECT1Pkts", Count::InEct1),
        ("Ip6InECT0Pkts", Count::InEct0),
        ("Ip6InCEPkts", Count::InCongested),
        ("Ip6OutTransmits", Count::OutTransmits),
        ("Icmp6InMsgs", Count::IcmpIn),
        ("Icmp6InErrors", Count::IcmpInErrors),
        ("Icmp6OutMsgs", Count::IcmpOut),
        ("Icmp6InCsumErrors", Count::IcmpInChecksumErrors),
        ("Icmp6OutRateLimitHost", Count::IcmpOutLimitedHost),
    ];
    rows.iter()
        .try_for_each(|(name, what)| writeln!(out, "{name:<32}\t{}", net.ip.counters.get(true, *what)))?;
    let udp = &net.inet().counters[1];
    let rows = [
        ("Udp6InDatagrams", &udp.received),
        ("Udp6NoPorts", &udp.no_ports),
        ("Udp6InErrors", &udp.errors),
        ("Udp6OutDatagrams", &udp.sent),
        ("Udp6RcvbufErrors", &udp.no_room),
        ("Udp6InCsumErrors", &udp.checksums),
    ];
    rows.iter().try_for_each(|(name, place)| writeln!(out, "{name:<32}\t{}", place.load(Ordering::Relaxed)))
}
