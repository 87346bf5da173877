//! Tables below `/proc/net` about addresses and routes. Locks: none.

use abi::route::*;
use core::fmt::{self, Write};
use core::net::IpAddr;
use linnet_lib::fib::View;
use vfs::pseudo::Text;

use super::address::key_of;
use super::map::RcuMap;
use super::route::lookup::refusal;
use super::route::table::{Entry, Table};
use crate::device::{NetDevice, link_group_key};
use crate::namespace::{NetNamespace, NetState};

/// Calls `write` with each device of a namespace.
fn each_device(net: &NetState, mut write: impl FnMut(&NetDevice) -> fmt::Result) -> fmt::Result {
    let mut next = 0;
    while let Some(device) = net.devices().next_from(next) {
        next = device.index().wrapping_add(1);
        write(&device)?;
    }
    Ok(())
}

/// Calls `write` with each route of a table in the order of dumps.
fn each_route(table: &Table, is_v6: bool, mut write: impl FnMut(&Entry) -> fmt::Result) -> fmt::Result {
    let version = table.routes.version();
    let view = View::of(version.as_ref());
    let mut at = None;
    loop {
        let next = if is_v6 { view.next_inner_first(at) } else { view.next_by_start(at) };
        let Some(node) = next else { return Ok(()) };
        at = Some(node.prefix());
        for entry in node.value().into_iter().flat_map(super::map::values_of) {
            write(&entry)?;
        }
    }
}

/// An IPv4 address as a number in network order, as old programs read it.
fn word(address: Option<IpAddr>) -> u32 {
    match address {
        Some(IpAddr::V4(address)) => u32::from_ne_bytes(address.octets()),
        _ => 0,
    }
}

fn name(device: Option<&NetDevice>) -> alloc::string::String {
    device.map_or_else(|| "*".into(), |device| alloc::format!("{}", device.name()))
}

/// `/proc/net/route` (proc_pid_net(5)): the main table, each line 127 bytes.
pub fn write_routes(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    writeln!(out, "{head:<127}")?;
    let Some(table) = net.ip.control.tables4.get(RT_TABLE_MAIN) else { return Ok(()) };
    each_route(&table, false, |entry| {
        if matches!(entry.kind, RTN_BROADCAST | RTN_MULTICAST) {
            return Ok(());
        }
        let hop = entry.hops.first();
        let gateway = hop.and_then(|hop| hop.gateway);
        let mut flags = if refusal(entry.kind).is_some() { RTF_REJECT } else { 0 } | RTF_UP;
        if matches!(gateway, Some(IpAddr::V4(_))) {
            flags |= RTF_GATEWAY;
        }
        if entry.prefix.length == 32 {
            flags |= RTF_HOST;
        }
        let mask = u32::MAX.checked_shl(32 - u32::from(entry.prefix.length)).unwrap_or(0).to_be();
        let advertised = entry.metric(RTAX_ADVMSS);
        let line = alloc::format!(
            "{}\t{:08X}\t{:08X}\t{:04X}\t0\t0\t{}\t{:08X}\t{}\t{}\t{}",
            name(hop.and_then(|hop| hop.device.as_deref())),
            word(Some(entry.destination())),
            word(gateway),
            flags,
            entry.priority,
            mask,
            if advertised == 0 { 0 } else { advertised + 40 },
            entry.metric(RTAX_WINDOW),
            entry.metric(RTAX_RTT) >> 3,
        );
        writeln!(out, "{line:<127}")
    })
}

/// `/proc/net/if_inet6`.
pub fn write_addresses6(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    each_device(net, |device| {
        let Some(ip) = device.ip() else { return Ok(()) };
        for address in ip.addresses6.iter() {
            // Scopes as IPV6_ADDR_SCOPE_MASK has them.
            let scope = match address.scope {
                RT_SCOPE_HOST => 0x10,
                RT_SCOPE_LINK => 0x20,
                RT_SCOPE_SITE => 0x40,
                _ => 0,
            };
            writeln!(
                out,
                "{:032x} {:02x} {:02x} {:02x} {:02x} {:>8}",
                key_of(address.local),
                device.index(),
                address.length,
                scope,
                address.flags as u8,
                alloc::format!("{}", device.name()),
            )?;
        }
        Ok(())
    })
}

/// `/proc/net/ipv6_route`.
pub fn write_routes6(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    for table in net.ip.control.tables6.all() {
        each_route(&table, true, |entry| {
            for hop in &entry.hops {
                let mut flags = entry.flags() & !0xff | RTF_UP;
                if hop.gateway.is_some() {
                    flags |= RTF_GATEWAY;
                }
                if refusal(entry.kind).is_some() {
                    flags |= RTF_REJECT;
                }
                if matches!(entry.kind, RTN_LOCAL) {
                    flags |= RTF_LOCAL | RTF_NONEXTHOP;
                }
                writeln!(
                    out,
                    "{:032x} {:02x} {:032x} {:02x} {:032x} {:08x} {:08x} {:08x} {:08x} {:>8}",
                    entry.prefix.key,
                    entry.prefix.length,
                    entry.source.key,
                    entry.source.length,
                    hop.gateway.map_or(0, key_of),
                    entry.priority,
                    1,
                    0,
                    flags,
                    name(hop.device.as_deref()),
                )?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The word for a scope in `/proc/net/fib_trie`.
fn scope_name(scope: u8) -> &'static str {
    match scope {
        RT_SCOPE_UNIVERSE => "universe",
        RT_SCOPE_SITE => "site",
        RT_SCOPE_LINK => "link",
        RT_SCOPE_HOST => "host",
        _ => "nowhere",
    }
}

/// The word for a type of route there.
fn kind_name(kind: u8) -> &'static str {
    const NAMES: [&str; 12] = [
        "UNSPEC",
        "UNICAST",
        "LOCAL",
        "BROADCAST",
        "ANYCAST",
        "MULTICAST",
        "BLACKHOLE",
        "UNREACHABLE",
        "PROHIBIT",
        "THROW",
        "NAT",
        "XRESOLVE",
    ];
    NAMES.get(usize::from(kind)).copied().unwrap_or("UNSPEC")
}

/// `/proc/net/fib_trie`: the prefixes of each table and what is kept for them, indented as they nest in our trie.
pub fn write_trie(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    for table in net.ip.control.tables4.all() {
        match table.id {
            RT_TABLE_LOCAL => out.write_str("Local:\n")?,
            RT_TABLE_MAIN => out.write_str("Main:\n")?,
            id => writeln!(out, "Id {id}:")?,
        }
        let mut last = None;
        each_route(&table, false, |entry| {
            if last != Some(entry.prefix.key) {
                writeln!(out, "  |-- {}", entry.destination())?;
                last = Some(entry.prefix.key);
            }
            let (scope, kind) = (scope_name(entry.scope), kind_name(entry.kind));
            write!(out, "     /{} {scope} {kind}", entry.prefix.length)?;
            if entry.tos != 0 {
                write!(out, " tos={}", entry.tos)?;
            }
            out.write_str("\n")
        })?;
    }
    Ok(())
}

/// `/proc/net/dev_mcast`: the link-layer groups that devices listen to, for IP and because an administrator said so.
pub fn write_link_groups(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    each_device(net, |device| {
        let mut line = |address: &[u8], users: u32, is_ordered: bool| {
            let shown = alloc::format!("{}", device.name());
            write!(out, "{:<4} {shown:<15} {users:<5} {:<5} ", device.index(), u8::from(is_ordered))?;
            address.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
            out.write_str("\n")
        };
        let is_ordered = |address: [u8; 6]| device.link_groups.has(link_group_key(address));
        let for_ip = RcuMap::new();
        for is_v6 in [true, false] {
            let groups = device.ip().into_iter().flat_map(|ip| ip.groups.of_family(is_v6));
            for address in groups.filter_map(|group| super::multicast::link_address(device, group.address)) {
                let too = is_ordered(address);
                line(&address, 1 + u32::from(too), too)?;
                if too {
                    for_ip.set(link_group_key(address), ()).map_err(|_| fmt::Error)?;
                }
            }
        }
        let mut rest = device.link_groups.iter().filter(|address| !for_ip.has(link_group_key(*address)));
        rest.try_for_each(|address| line(&address, 1, true))
    })
}

/// `/proc/net/igmp`.
pub fn write_groups4(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    out.write_str("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n")?;
    each_device(net, |device| {
        let Some(ip) = device.ip() else { return Ok(()) };
        let groups = ip.groups.of_family(false).count();
        if groups == 0 {
            return Ok(());
        }
        let shown = alloc::format!("{}", device.name());
        let version = super::reports::version(device, &ip);
        writeln!(out, "{}\t{shown:<10}: {groups:5}      V{version}", device.index())?;
        for group in ip.groups.of_family(false) {
            let number = word(Some(group.address));
            writeln!(out, "\t\t\t\t{number:08X} {:5} 0:00000000\t\t0", group.users)?;
        }
        Ok(())
    })
}

/// `/proc/net/igmp6`.
pub fn write_groups6(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    each_device(net, |device| {
        let Some(ip) = device.ip() else { return Ok(()) };
        for group in ip.groups.of_family(true) {
            writeln!(
                out,
                "{:<4} {:<15} {:032x} {:5} {:08X} 0",
                device.index(),
                alloc::format!("{}", device.name()),
                key_of(group.address),
                group.users,
                super::multicast::old_flags(group.address),
            )?;
        }
        Ok(())
    })
}
