//! Devices on devices: bridges, their ports and entries, VLANs, macvlans, good and bad requests; what `/sys/class/net` says of them.

use super::netlink::{acknowledgement, isolated};
use super::{Section, Transcript};
use crate::case::{Failure, Outcome};
use crate::netlink::*;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("bridge_new", bridge_new),
    ("bridge_numbers", bridge_numbers),
    ("bridge_other_options", bridge_other_options),
    ("bridge_ports", bridge_ports),
    ("bridge_what_is_no_port", bridge_what_is_no_port),
    ("bridge_port_numbers", bridge_port_numbers),
    ("bridge_port_flags", bridge_port_flags),
    ("bridge_port_by_protinfo", bridge_port_by_protinfo),
    ("bridge_state_and_carrier", bridge_state_and_carrier),
    ("bridge_address_and_mtu", bridge_address_and_mtu),
    ("bridge_entries", bridge_entries),
    ("bridge_entries_refused", bridge_entries_refused),
    ("bridge_moves", bridge_moves),
    ("vlan_new", vlan_new),
    ("vlan_refused", vlan_refused),
    ("vlan_maps_and_flags", vlan_maps_and_flags),
    ("vlan_follows_its_lower", vlan_follows_its_lower),
    ("vlan_goes_with_its_lower", vlan_goes_with_its_lower),
    ("macvlan_new", macvlan_new),
    ("macvlan_refused", macvlan_refused),
    ("macvlan_addresses", macvlan_addresses),
    ("devices_nested", devices_nested),
    ("devices_limits", devices_limits),
    ("class_net_reads", class_net_reads),
    ("class_net_writes", class_net_writes),
    ("class_net_links", class_net_links),
];

const MASTER: u16 = 10;
const LINK: u16 = 5;
const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;
const AF_BRIDGE: u8 = 7;

fn named(name: &str) -> Builder {
    Builder::link(0, 0, 0).text(3, name)
}

/// A link of a kind with data.
fn of(name: &str, kind: &str, data: Builder) -> Builder {
    named(name).nest(18, Builder::default().text(1, kind).nest(2, data))
}

fn act(t: &mut Transcript, what: &str, s: &mut Socket, kind: u16, flags: u16, body: &Builder) {
    let answers = s.ask(kind, flags | ACK, body);
    t.note(what, answers.last().map(acknowledgement).unwrap_or_else(|| "no answer".to_owned()));
}

fn make(t: &mut Transcript, what: &str, s: &mut Socket, body: &Builder) {
    act(t, what, s, NEWLINK, CREATE | EXCL, body);
}

fn pair(t: &mut Transcript, s: &mut Socket, one: &str, other: &str) {
    let far = named(other);
    let body =
        named(one).nest(18, Builder::default().text(1, "veth").nest(2, Builder::default().nest(1, far)));
    make(t, &format!("pair {one}"), s, &body);
}

fn set(t: &mut Transcript, what: &str, s: &mut Socket, name: &str, attributes: impl Fn(Builder) -> Builder) {
    let index = s.index_of(name);
    act(t, what, s, SETLINK, 0, &attributes(Builder::link(index, 0, 0)));
}

fn up(t: &mut Transcript, s: &mut Socket, name: &str, up: bool) {
    let index = s.index_of(name);
    act(
        t,
        &format!("{name} {}", if up { "up" } else { "down" }),
        s,
        SETLINK,
        0,
        &Builder::link(index, u32::from(up), 1),
    );
}

/// What a link's message says of its own data (2) or of what it is to its master (5): some attributes.
fn info(t: &mut Transcript, what: &str, s: &mut Socket, name: &str, nest: u16, wanted: &[u16]) {
    let answers = s.ask(GETLINK, ACK, &named(name));
    let Some(message) = answers.first().filter(|message| message.kind == NEWLINK) else {
        return t.note(what, "none");
    };
    let all = message.attributes(16);
    let linked = attributes(all.get(&18).map_or(&[][..], |value| value));
    let data = attributes(linked.get(&nest).map_or(&[][..], |value| value));
    for kind in wanted {
        t.note(&format!("{what} {kind}"), data.get(kind));
    }
}

/// Flags, MTU, carrier, state, promiscuity of a link.
fn state(t: &mut Transcript, what: &str, s: &mut Socket, name: &str) {
    let answers = s.ask(GETLINK, ACK, &named(name));
    let Some(message) = answers.first().filter(|message| message.kind == NEWLINK) else {
        return t.note(what, "none");
    };
    let all = message.attributes(16);
    let get = |kind: u16| all.get(&kind).cloned();
    let flags = number(&message.payload[8..]) as u32;
    t.note(what, (format!("{flags:#x}"), get(4), get(33), get(16), get(30), get(61), get(MASTER).is_some()));
}

fn bridge(t: &mut Transcript, s: &mut Socket, name: &str) {
    make(t, &format!("bridge {name}"), s, &named(name).kind("bridge"));
}

fn bridge_new(t: &mut Transcript) -> Outcome {
    isolated()?;
    let s = &mut Socket::route()?;
    bridge(t, s, "br0");
    bridge(t, s, "br0");
    state(t, "state", s, "br0");
    info(t, "data", s, "br0", 2, &[1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 20]);
    make(t, "without a name", s, &Builder::link(0, 0, 0).kind("bridge"));
    state(t, "bridge0", s, "bridge0");
    make(t, "multicast address", s, &named("b1").kind("bridge").attribute(1, &[1, 0, 0, 0, 0, 1]));
    make(t, "short address", s, &named("b1").kind("bridge").attribute(1, &[2, 0, 0]));
    make(t, "mtu too small", s, &named("b1").kind("bridge").number(4, 10));
    make(t, "address", s, &named("b1").kind("bridge").attribute(1, &[2, 0, 0, 0, 0, 1]));
    make(t, "data at once", s, &of("b2", "bridge", Builder::default().number(4, 777)));
    info(t, "data", s, "b2", 2, &[4]);
    up(t, s, "br0", true);
    state(t, "up", s, "br0");
    act(t, "delete", s, DELLINK, 0, &named("br0"));
    state(t, "then", s, "br0");
    Ok(())
}

fn bridge_numbers(t: &mut Transcript) -> Outcome {
    isolated()?;
    let s = &mut Socket::route()?;
    bridge(t, s, "br0");
    let cases = [
        (1, [0, 199, 200, 1500, 3000, 3001, -1]),
        (2, [0, 99, 100, 500, 1000, 1001, -1]),
        (3, [0, 599, 600, 2000, 4000, 4001, -1]),
        (4, [0, 1, 100, 30_000, 100_000, 1_000_000, 7]),
    ];
    for (kind, values) in cases {
        for value in values {
            let body = of("br0", "bridge", Builder::default().number(kind, value));
            act(t, &format!("{kind} = {value}"), s, NEWLINK, 0, &body);
            info(t, "then", s, "br0", 2, &[kind]);
        }
    }
    let short = of("br0", "bridge", Builder::default().attribute(1, &[1]));
    act(t, "short", s, NEWLINK, 0, &short);
    Ok(())
}

fn bridge_other_options(t: &mut Transcript) -> Outcome {
    isolated()?;
    let s = &mut Socket::route()?;
    bridge(t, s, "br0");
    let cases: [(u16, &[u8]); 14] = [
        (6, &[0, 0]),
        (6, &[0xff, 0xff]),
        (6, &[1]),
        (9, &[0, 0x40]),
        (9, &[1, 0]),
        (9, &[4, 0]),
        (20, &[1, 0x80, 0xc2, 0, 0, 5]),
        (20, &[1, 0x80, 0xc2, 0, 0, 1]),
        (20, &[2, 0, 0, 0, 0, 1]),
        (20, &[1, 0x80]),
        (8, &[0x08, 0x00]),
        (21, &[]),
        (46, &[1, 0, 0, 0, 1, 0, 0, 0]),
        (46, &[1, 0]),
    ];
    for (kind, value) in cases {
        let body = of("br0", "bridge", Builder::default().attribute(kind, value));
        act(t, &format!("{kind} = {value:?}"), s, NEWLINK, 0, &body);
        if ![8, 21, 46].contains(&kind) {
            info(t, "then", s, "br0", 2, &[kind]);
        }
    }
    let other = of("br0", "veth", Builder::default());
    act(t, "data of another kind", s, NEWLINK, 0, &other);
    Ok(())
}

fn bridge_ports(t: &mut Transcript) -> Outcome {
    isolated()?;
    let s = &mut Socket::route()?;
    bridge(t, s, "br0");
    bridge(t, s, "br1");
    let (one, two) = (s.index_of("br0"), s.index_of("br1"));
    for name in ["d0", "d1", "d2"] {
        make(t, name, s, &named(name).kind("dummy").number(MASTER, one));
        state(t, "state", s, name);
        info(t, "port", s, name, 5, &[1, 2, 3, 17, 18]);
    }
    set(t, "the same again", s, "d0", |body| body.number(MASTER, one));
    set(t, "another", s, "d0", |body| body.number(MASTER, two));
    info(t, "port", s, "d0", 5, &[1, 17, 18]);
    set(t, "none", s, "d1", |body| body.number(MASTER, 0));
    state(t, "state", s, "d1");
    set(t, "none again", s, "d1", |body| body.number(MASTER, 0));
    make(t, "one more gets the free number", s, &named("d3").kind("dummy").number(MASTER, one));
    info(t, "port", s, "d3", 5, &[18]);
    act(t, "the bridge goes", s, DELLINK, 0, &named("br0"));
    state(t, "d2", s, "d2");
    act(t, "a port goes", s, DELLINK, 0, &named("d0"));
    Ok(())
}

fn bridge_what_is_no_port(t: &mut Transcript) -> Outcome {
    isolated()?;
    let s = &mut Socket::route()?;
    bridge(t, s, "br0");
    bridge(t, s, "br1");
    make(t, "d0", s, &named("d0").kind("dummy"));
    make(t, "d1", s, &named("d1").kind("dummy"));
    let (one, two, dummy) = (s.index_of("br0"), s.index_of("br1"), s.index_of("d1"));
    set(t, "itself", s, "br0", |body| body.number(MASTER, one));
    set(t, "a bridge", s, "br1", |body| body.number(MASTER, one));
    set(t, "the loopback", s, "lo", |body| body.number(MASTER, one));
    set(t, "of a dummy", s, "d0", |body| body.number(MASTER, dummy));
    set(t, "of nothing", s, "d0", |body| body.number(MASTER, 9999));
    set(t, "of a negative one", s, "d0", |body| body.number(MASTER, -1));
    set(t, "short", s, "d0", |body| body.attribute(MASTER, &[1]));
    make(
        t,
        "vlan of the bridge",
        s,
        &of("v", "vlan", Builder::default().attribute(1, &[5, 0])).number(LINK, two),
    );
    set(t, "as its port", s, "v", |body| body.number(MASTER, two));
    set(t, "as another's", s, "v", |body| body.number(MASTER, one));
    make(t, "macvlan", s, &named("m").kind("macvlan").number(LINK, dummy));
    set(t, "what has macvlans", s, "d1", |body| body.number(MASTER, one));
    Ok(())
}

fn port_data(kind: u16, value: &[u8]) -> Builder {
    let data = Builder::default().attribute(kind, value);
    named("d0").nest(18, Builder::default().text(4, "bridge").nest(5, data))
}

fn with_port(t: &mut Transcript) -> Result<Socket, Failure> {
    isolated()?;
    let mut socket = Socket::route()?;
    bridge(t, &mut socket, "br0");
    let one = socket.index_of("br0");
    make(t, "d0", &mut socket, &named("d0").kind("dummy").number(MASTER, one));
    Ok(socket)
}

fn bridge_port_numbers(t: &mut Transcript) -> Outcome {
    let s = &mut with_port(t)?;
    for cost in [0u32, 1, 7, 65535, 65536, u32::MAX] {
        act(t, &format!("cost {cost}"), s, NEWLINK, 0, &port_data(3, &cost.to_ne_bytes()));
        info(t, "then", s, "d0", 5, &[3]);
    }
    for priority in [0u16, 5, 63, 64, 65535] {
        act(t, &format!("priority {priority}"), s, NEWLINK, 0, &port_data(2, &priority.to_ne_bytes()));
        info(t, "then", s, "d0", 5, &[2, 17]);
    }
    for mask in [0u16, 2, 0x4000, 0xfff8] {
        act(t, &format!("mask {mask:#x}"), s, NEWLINK, 0, &port_data(31, &mask.to_ne_bytes()));
        info(t, "then", s, "d0", 5, &[31]);
    }
    for state in [0u8, 1, 3, 4, 5, 255] {
        act(t, &format!("state {state}"), s, NEWLINK, 0, &port_data(1, &[state]));
    }
    act(t, "of none", s, NEWLINK, 0, &{
        let data = Builder::default().number(3, 7);
        named("br0").nest(18, Builder::default().text(4, "bridge").nest(5, data))
    });
    Ok(())
}

fn bridge_port_flags(t: &mut Transcript) -> Outcome {
    let s = &mut with_port(t)?;
    for flag in [4u16, 5, 8, 9, 27, 30, 33] {
        for value in [0u8, 1, 2] {
            act(t, &format!("{flag} = {value}"), s, NEWLINK, 0, &port_data(flag, &[value]));
            info(t, "then", s, "d0", 5, &[flag]);
        }
    }
    act(t, "no byte", s, NEWLINK, 0, &port_data(4, &[]));
    act(t, "flush", s, NEWLINK, 0, &port_data(24, &[]));
    Ok(())
}

fn bridge_port_by_protinfo(t: &mut Transcript) -> Outcome {
    let s = &mut with_port(t)?;
    let index = s.index_of("d0");
    let ask = |index: i32, kind: u16, value: &[u8]| {
        let mut body =
            Builder::link(index, 0, 0).nest(12 | 0x8000, Builder::default().attribute(kind, value));
        body.0[0] = AF_BRIDGE;
        body
    };
    act(t, "cost", s, SETLINK, 0, &ask(index, 3, &7u32.to_ne_bytes()));
    info(t, "then", s, "d0", 5, &[3]);
    act(t, "cost 0", s, SETLINK, 0, &ask(index, 3, &0u32.to_ne_bytes()));
    act(t, "hairpin", s, SETLINK, 0, &ask(index, 4, &[1]));
    info(t, "then", s, "d0", 5, &[4]);
    act(t, "state while down", s, SETLINK, 0, &ask(index, 1, &[3]));
    act(t, "state 9", s, SETLINK, 0, &ask(index, 1, &[9]));
    act(t, "of nothing", s, SETLINK, 0, &ask(9999, 3, &[1, 0, 0, 0]));
    act(t, "of no port", s, SETLINK, 0, &ask(1, 3, &[1, 0, 0, 0]));
    let mut bare = Builder::link(index, 0, 0);
    bare.0[0] = AF_BRIDGE;
    act(t, "nothing to set", s, SETLINK, 0, &bare);
    Ok(())
}

fn bridge_state_and_carrier(t: &mut Transcript) -> Outcome {
    isolated()?;
    let s = &mut Socket::route()?;
    bridge(t, s, "br0");
    pair(t, s, "v0", "v1");
    let one = s.index_of("br0");
    set(t, "port", s, "v0", |body| body.number(MASTER, one));
    for (name, is_up) in
        [("br0", true), ("v0", true), ("v1", true), ("v1", false), ("v1", true), ("br0", false)]
    {
        up(t, s, name, is_up);
        // Linux tells of a carrier a little later.
        std::thread::sleep(std::time::Duration::from_millis(300));
        state(t, "bridge", s, "br0");
        info(t, "port", s, "v0", 5, &[1]);
    }
    Ok(())
}

fn bridge_address_and_mtu(t: &mut Transcript) -> Outcome {
    isolated()?;
    let s = &mut Socket::route()?;
    bridge(t, s, "br0");
    let one = s.index_of("br0");
    let address = |s: &mut Socket| {
        let answers = s.ask(GETLINK, ACK, &named("br0"));
        answers.first().map(|message| {
            let all = message.attributes(16);
            (all.get(&1).cloned(), all.get(&4).cloned())
        })
    };
    for (name, last, mtu) in [("d0", 9u8, 1400), ("d1", 5, 1300), ("d2", 7, 9000)] {
        let body = named(name).kind("dummy").attribute(1, &[2, 0, 0, 0, 0, last]).number(4, mtu);
        make(t, name, s, &body);
        set(t, "port", s, name, |body| body.number(MASTER, one));
        t.note("bridge", address(s));
    }
    act(t, "one goes", s, DELLINK, 0, &named("d1"));
    t.note("bridge", address(s));
    set(t, "a port's mtu", s, "d0", |body| body.number(4, 1200));
    t.note("bridge", address(s));
    set(t, "a port's address", s, "d2", |body| body.attribute(1, &[2, 0, 0, 0, 0, 1]));
    t.note("bridge", address(s));
    set(t, "its own", s, "br0", |body| body.attribute(1, &[2, 0, 0, 0, 0, 0x77]).number(4, 1100));
    t.note("bridge", address(s));
    act(t, "another goes", s, DELLINK, 0, &named("d0"));
    t.note("bridge", address(s));
    set(t, "too large", s, "br0", |body| body.number(4, 70_000));
    set(t, "address of zeros", s, "br0", |body| body.attribute(1, &[0; 6]));
    Ok(())
}

fn entry(index: i32, state: u16, flags: u8, address: &[u8]) -> Builder {
    let mut header = vec![AF_BRIDGE, 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(state.to_ne_bytes());
    header.extend([flags, 0]);
    Builder::default().raw(&header).attribute(2, address)
}

/// One entry as RTM_GETNEIGH tells it.
fn look(t: &mut Transcript, s: &mut Socket, address: &[u8]) {
    let master = s.index_of("br0");
    let answers = s.ask(30, ACK, &entry(0, 0, 0, address).number(9, master));
    let lines: Vec<String> = answers
        .iter()
        .map(|message| match message.kind {
            NEWNEIGH => format!("state {:?} flags {}", &message.payload[8..10], message.payload[10]),
            _ => acknowledgement(message),
        })
        .collect();
    t.note("  then", lines);
}

fn bridge_entries(t: &mut Transcript) -> Outcome {
    let s = &mut with_port(t)?;
    let index = s.index_of("d0");
    let address = [2, 0, 0, 0, 0, 0x55];
    for (what, state, flags) in [
        ("permanent", 0x80, 4),
        ("static", 0x40, 4),
        ("dynamic", 2, 4),
        ("stale", 4, 4),
        ("sticky", 0x40, 0x44),
    ] {
        act(t, what, s, NEWNEIGH, CREATE | EXCL, &entry(index, state, flags, &address));
        look(t, s, &address);
        act(t, "again", s, NEWNEIGH, CREATE | EXCL, &entry(index, state, flags, &address));
        act(t, "delete", s, DELNEIGH, 0, &entry(index, 0, 4, &address));
        look(t, s, &address);
    }
    act(t, "delete again", s, DELNEIGH, 0, &entry(index, 0, 4, &address));
    act(t, "replace what is not there", s, NEWNEIGH, 0x100, &entry(index, 0x40, 4, &address));
    act(t, "create or replace", s, NEWNEIGH, CREATE | 0x100, &entry(index, 0x40, 4, &address));
    act(t, "replace", s, NEWNEIGH, CREATE | 0x100, &entry(index, 0x80, 4, &address));
    look(t, s, &address);
    Ok(())
}

fn bridge_entries_refused(t: &mut Transcript) -> Outcome {
    let s = &mut with_port(t)?;
    let (index, bridge) = (s.index_of("d0"), s.index_of("br0"));
    let address = [2, 0, 0, 0, 0, 0x55];
    act(t, "of nothing", s, NEWNEIGH, CREATE, &entry(9999, 0x80, 4, &address));
    act(t, "of index 0", s, NEWNEIGH, CREATE, &entry(0, 0x80, 4, &address));
    act(t, "of no port", s, NEWNEIGH, CREATE, &entry(1, 0x80, 4, &address));
    act(t, "short address", s, NEWNEIGH, CREATE, &entry(index, 0x80, 4, &address[..3]));
    act(t, "no state", s, NEWNEIGH, CREATE, &entry(index, 0, 4, &address));
    act(t, "sticky and permanent", s, NEWNEIGH, CREATE, &entry(index, 0x80, 0x44, &address));
    act(t, "static, of the bridge itself", s, NEWNEIGH, CREATE, &entry(bridge, 0x40, 2, &address));
    act(t, "permanent, of the bridge itself", s, NEWNEIGH, CREATE, &entry(bridge, 0x80, 2, &address));
    look(t, s, &address);
    act(t, "delete at the port", s, DELNEIGH, 0, &entry(index, 0, 4, &address));
    act(t, "delete at the bridge", s, DELNEIGH, 0, &entry(bridge, 0, 2, &address));
    act(t, "too short", s, NEWNEIGH, CREATE, &Builder::default().raw(&[AF_BRIDGE, 0, 0, 0]));
    Ok(())
}

fn bridge_moves(t: &mut Transcript) -> Outcome {
    let s = &mut with_port(t)?;
    let there = new_namespace()?;
    set(t, "the bridge", s, "br0", |body| body.number(28, there.0));
    set(t, "a port", s, "d0", |body| body.number(28, there.0));
    state(t, "left", s, "d0");
    let lines = inside(&there, || {
        let s = &mut Socket::route()?;
        let mut inner = Transcript::default();
        state(&mut inner, "arrived", s, "d0");
        Ok(inner.text().to_owned())
    })?;
    t.append(&lines);
    Ok(())
}

fn vlan(name: &str, id: u16, lower: i32) -> Builder {
    of(name, "vlan", Builder::default().attribute(1, &id.to_ne_bytes())).number(LINK, lower)
}

fn with_dummy(t: &mut Transcript) -> Result<(Socket, i32), Failure> {
    isolated()?;
    let mut s = Socket::route()?;
    make(t, "d0", &mut s, &named("d0").kind("dummy"));
    let index = s.index_of("d0");
    Ok((s, index))
}

fn vlan_new(t: &mut Transcript) -> Outcome {
    let (mut socket, lower) = with_dummy(t)?;
    let s = &mut socket;
    for id in [0, 1, 5, 4094, 4095, 4096, 65535] {
        make(t, &format!("number {id}"), s, &vlan(&format!("v{id}"), id, lower));
    }
    state(t, "state", s, "v5");
    info(t, "data", s, "v5", 2, &[1, 2, 3, 4, 5]);
    make(t, "the same", s, &vlan("w", 5, lower));
    let ad = Builder::default().attribute(1, &[5, 0]).attribute(5, &[0x88, 0xa8]);
    make(t, "the same of 802.1ad", s, &of("w", "vlan", ad).number(LINK, lower));
    info(t, "data", s, "w", 2, &[1, 5]);
    act(t, "delete", s, DELLINK, 0, &named("v5"));
    make(t, "again", s, &vlan("v5", 5, lower));
    Ok(())
}

fn vlan_refused(t: &mut Transcript) -> Outcome {
    let (mut socket, lower) = with_dummy(t)?;
    let s = &mut socket;
    make(t, "no data", s, &named("v").kind("vlan").number(LINK, lower));
    make(t, "no number", s, &of("v", "vlan", Builder::default()).number(LINK, lower));
    make(t, "no link", s, &of("v", "vlan", Builder::default().attribute(1, &[5, 0])));
    make(t, "link 9999", s, &vlan("v", 5, 9999));
    make(t, "link 0", s, &vlan("v", 5, 0));
    make(t, "on the loopback", s, &vlan("v", 5, 1));
    let protocol = Builder::default().attribute(1, &[5, 0]).attribute(5, &[8, 0]);
    make(t, "protocol", s, &of("v", "vlan", protocol).number(LINK, lower));
    let flags = Builder::default().attribute(1, &[5, 0]).attribute(2, &[0xff; 8]);
    make(t, "flags", s, &of("v", "vlan", flags).number(LINK, lower));
    let short = Builder::default().attribute(1, &[5, 0]).attribute(2, &[1, 0, 0, 0]);
    make(t, "short flags", s, &of("v", "vlan", short).number(LINK, lower));
    make(t, "short number", s, &of("v", "vlan", Builder::default().attribute(1, &[5])).number(LINK, lower));
    make(t, "larger than below", s, &vlan("v", 5, lower).number(4, 1501));
    make(t, "multicast address", s, &vlan("v", 5, lower).attribute(1, &[1, 0, 0, 0, 0, 1]));
    make(t, "short address", s, &vlan("v", 5, lower).attribute(1, &[2, 0]));
    make(t, "in the end", s, &vlan("v", 5, lower));
    set(t, "larger", s, "v", |body| body.number(4, 1501));
    set(t, "smaller", s, "v", |body| body.number(4, 60));
    Ok(())
}

fn vlan_maps_and_flags(t: &mut Transcript) -> Outcome {
    let (mut socket, lower) = with_dummy(t)?;
    let s = &mut socket;
    let rule = |from: u32, to: u32| {
        let mut bytes = Vec::from(from.to_ne_bytes());
        bytes.extend(to.to_ne_bytes());
        bytes
    };
    let maps = Builder::default()
        .attribute(1, &[5, 0])
        .nest(4, Builder::default().attribute(1, &rule(1, 7)).attribute(1, &rule(3, 2)))
        .nest(3, Builder::default().attribute(1, &rule(6, 4)));
    make(t, "with maps", s, &of("v", "vlan", maps).number(LINK, lower));
    info(t, "data", s, "v", 2, &[3, 4]);
    let change = |data: Builder| of("v", "vlan", data);
    act(
        t,
        "egress",
        s,
        NEWLINK,
        0,
        &change(Builder::default().nest(3, Builder::default().attribute(1, &rule(6, 5)))),
    );
    info(t, "data", s, "v", 2, &[3]);
    act(
        t,
        "ingress off",
        s,
        NEWLINK,
        0,
        &change(Builder::default().nest(4, Builder::default().attribute(1, &rule(1, 0)))),
    );
    info(t, "data", s, "v", 2, &[4]);
    act(
        t,
        "short rule",
        s,
        NEWLINK,
        0,
        &change(Builder::default().nest(4, Builder::default().attribute(1, &[1, 0, 0, 0]))),
    );
    for (flags, mask) in [(0u32, 1u32), (4, 4), (1, 5), (32, 32), (0, 0)] {
        let mut bytes = Vec::from(flags.to_ne_bytes());
        bytes.extend(mask.to_ne_bytes());
        act(
            t,
            &format!("flags {flags} of {mask}"),
            s,
            NEWLINK,
            0,
            &change(Builder::default().attribute(2, &bytes)),
        );
        info(t, "data", s, "v", 2, &[2]);
    }
    act(t, "another number", s, NEWLINK, 0, &change(Builder::default().attribute(1, &[6, 0])));
    info(t, "data", s, "v", 2, &[1]);
    Ok(())
}

/// Linux tells of carriers up to a second later.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(1200));
}

fn vlan_follows_its_lower(t: &mut Transcript) -> Outcome {
    let (mut socket, lower) = with_dummy(t)?;
    let s = &mut socket;
    make(t, "v", s, &vlan("v", 5, lower));
    up(t, s, "v", true);
    up(t, s, "d0", true);
    settle();
    state(t, "then", s, "v");
    up(t, s, "d0", false);
    settle();
    state(t, "down", s, "v");
    up(t, s, "d0", true);
    settle();
    state(t, "up again", s, "v");
    set(t, "mtu", s, "d0", |body| body.number(4, 1000));
    settle();
    state(t, "then", s, "v");
    set(t, "mtu", s, "d0", |body| body.number(4, 2000));
    settle();
    state(t, "then", s, "v");
    let address = |s: &mut Socket| {
        s.ask(GETLINK, ACK, &named("v")).first().and_then(|m| m.attributes(16).get(&1).cloned())
    };
    set(t, "address below", s, "d0", |body| body.attribute(1, &[2, 0, 0, 0, 0, 9]));
    t.note("address", address(s));
    set(t, "own address", s, "v", |body| body.attribute(1, &[2, 0, 0, 0, 0, 8]));
    set(t, "address below", s, "d0", |body| body.attribute(1, &[2, 0, 0, 0, 0, 7]));
    t.note("address", address(s));
    Ok(())
}

fn vlan_goes_with_its_lower(t: &mut Transcript) -> Outcome {
    let (mut socket, lower) = with_dummy(t)?;
    let s = &mut socket;
    let there = new_namespace()?;
    make(t, "here", s, &vlan("v1", 1, lower));
    make(t, "there", s, &vlan("v2", 2, lower).number(28, there.0));
    let v1 = s.index_of("v1");
    make(t, "on it", s, &vlan("v3", 3, v1));
    let look = |there: &Namespace| {
        inside(there, || {
            let s = &mut Socket::route()?;
            let mut inner = Transcript::default();
            state(&mut inner, "there", s, "v2");
            Ok(inner.text().to_owned())
        })
    };
    let lines = look(&there)?;
    t.append(&lines);
    act(t, "delete", s, DELLINK, 0, &named("d0"));
    for name in ["v1", "v3"] {
        state(t, name, s, name);
    }
    let lines = look(&there)?;
    t.append(&lines);
    Ok(())
}

fn macvlan(name: &str, mode: u32, lower: i32) -> Builder {
    of(name, "macvlan", Builder::default().attribute(1, &mode.to_ne_bytes())).number(LINK, lower)
}

fn macvlan_new(t: &mut Transcript) -> Outcome {
    let (mut socket, lower) = with_dummy(t)?;
    let s = &mut socket;
    make(t, "plain", s, &named("m").kind("macvlan").number(LINK, lower));
    state(t, "state", s, "m");
    info(t, "data", s, "m", 2, &[1, 2, 7, 8]);
    for mode in [0, 1, 2, 3, 4, 5, 8, 16, 32] {
        make(t, &format!("mode {mode}"), s, &macvlan(&format!("m{mode}"), mode, lower));
    }
    let above = s.index_of("m1");
    make(t, "on a macvlan", s, &macvlan("n", 4, above));
    let answers = s.ask(GETLINK, ACK, &named("n"));
    t.note(
        "is on the lowest",
        answers.first().and_then(|m| m.attributes(16).get(&LINK).cloned())
            == Some(lower.to_ne_bytes().to_vec()),
    );
    act(t, "another mode", s, NEWLINK, 0, &of("m", "macvlan", Builder::default().number(1, 4)));
    info(t, "data", s, "m", 2, &[1]);
    act(t, "to passthru", s, NEWLINK, 0, &of("m", "macvlan", Builder::default().number(1, 8)));
    Ok(())
}

fn macvlan_refused(t: &mut Transcript) -> Outcome {
    let (mut socket, lower) = with_dummy(t)?;
    let s = &mut socket;
    make(t, "no link", s, &named("m").kind("macvlan"));
    make(t, "link 9999", s, &macvlan("m", 4, 9999));
    make(t, "on the loopback", s, &macvlan("m", 4, 1));
    make(t, "multicast address", s, &macvlan("m", 4, lower).attribute(1, &[1, 0, 0, 0, 0, 1]));
    make(t, "short address", s, &macvlan("m", 4, lower).attribute(1, &[2]));
    make(t, "larger than below", s, &macvlan("m", 4, lower).number(4, 1501));
    let flags = Builder::default().attribute(2, &[0xf0, 0]);
    make(t, "flags", s, &of("m", "macvlan", flags).number(LINK, lower));
    make(t, "passthru", s, &macvlan("p", 8, lower));
    make(t, "beside passthru", s, &macvlan("m", 4, lower));
    act(t, "delete", s, DELLINK, 0, &named("p"));
    make(t, "then", s, &macvlan("m", 4, lower));
    make(t, "passthru beside", s, &macvlan("p", 8, lower));
    Ok(())
}

fn macvlan_addresses(t: &mut Transcript) -> Outcome {
    let (mut socket, lower) = with_dummy(t)?;
    let s = &mut socket;
    let own = [2, 0, 0, 0, 0, 1];
    make(t, "one", s, &macvlan("a", 4, lower).attribute(1, &own));
    make(t, "the same address", s, &macvlan("b", 4, lower).attribute(1, &own));
    up(t, s, "d0", true);
    up(t, s, "a", true);
    up(t, s, "b", true);
    set(t, "another address", s, "b", |body| body.attribute(1, &[2, 0, 0, 0, 0, 2]));
    up(t, s, "b", true);
    set(t, "the first's", s, "b", |body| body.attribute(1, &own));
    up(t, s, "a", false);
    state(t, "a", s, "a");
    up(t, s, "d0", false);
    state(t, "b", s, "b");
    Ok(())
}

fn devices_nested(t: &mut Transcript) -> Outcome {
    let (mut socket, mut lower) = with_dummy(t)?;
    let s = &mut socket;
    for level in 1..10 {
        let name = format!("v{level}");
        make(t, &name, s, &vlan(&name, level, lower));
        lower = s.index_of(&name);
        if lower <= 0 {
            break;
        }
    }
    act(t, "delete the lowest", s, DELLINK, 0, &named("d0"));
    state(t, "v3", s, "v3");
    Ok(())
}

/// How large packets may be that stand for several.
fn devices_limits(t: &mut Transcript) -> Outcome {
    const LIMITS: [u16; 7] = [40, 41, 58, 63, 64, 59, 60];
    let (mut socket, lower) = with_dummy(t)?;
    let s = &mut socket;
    pair(t, s, "v0", "v1");
    bridge(t, s, "br0");
    make(t, "vlan", s, &vlan("v5", 5, lower));
    make(t, "macvlan", s, &macvlan("m", 4, lower));
    let look = |t: &mut Transcript, s: &mut Socket, name: &str| {
        let answers = s.ask(GETLINK, ACK, &named(name));
        let all = answers.first().map(|message| message.attributes(16)).unwrap_or_default();
        t.note(name, LIMITS.map(|kind| all.get(&kind).map(|value| number(value))));
    };
    for name in ["lo", "d0", "v0", "v1", "br0", "v5", "m"] {
        look(t, s, name);
    }
    for name in ["d0", "br0"] {
        for kind in [40, 41, 58, 63, 64] {
            for value in [1, 65_535, 65_536, 65_537, 524_280, 524_281, 40_000] {
                set(t, &format!("{name} {kind} = {value}"), s, name, |body| body.number(kind, value));
            }
            look(t, s, name);
        }
    }
    make(t, "at once", s, &named("d1").kind("dummy").number(41, 100_000).number(40, 7));
    look(t, s, "d1");
    make(t, "too much at once", s, &named("d2").kind("dummy").number(41, 600_000));
    Ok(())
}

/// A mount of /sys for the caller's namespace, and where.
fn sysfs() -> Result<&'static str, Failure> {
    isolated()?;
    // SAFETY: numbers and texts only.
    crate::sys::ok("unshare", unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let (none, root, kind) = (c"none".as_ptr(), c"/".as_ptr(), c"sysfs".as_ptr());
    // SAFETY: texts that end.
    unsafe {
        crate::sys::ok(
            "private",
            libc::mount(none, root, none, libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()),
        )?;
        crate::sys::ok("sysfs", libc::mount(none, c"/sys".as_ptr(), kind, 0, std::ptr::null()))?;
    }
    Ok("/sys/class/net")
}

fn read(t: &mut Transcript, path: &str) {
    let text = std::fs::read_to_string(path).map_err(|error| error.raw_os_error());
    t.note(path.trim_start_matches("/sys/class/net/"), text);
}

fn write(t: &mut Transcript, path: &str, text: &str) {
    let result = std::fs::write(path, text).map_err(|error| error.raw_os_error());
    t.note(&format!("{text:?} to {}", path.trim_start_matches("/sys/class/net/")), result);
}

fn class_net_reads(t: &mut Transcript) -> Outcome {
    let top = sysfs()?;
    let s = &mut Socket::route()?;
    bridge(t, s, "br0");
    pair(t, s, "v0", "v1");
    let one = s.index_of("br0");
    set(t, "port", s, "v0", |body| body.number(MASTER, one).attribute(1, &[2, 0, 0, 0, 0, 1]));
    for round in ["down", "up"] {
        t.note("round", round);
        for name in ["br0", "v0", "v1", "lo"] {
            for file in [
                "addr_len",
                "broadcast",
                "carrier",
                "dev_id",
                "dev_port",
                "dormant",
                "duplex",
                "flags",
                "ifalias",
                "ifindex",
                "iflink",
                "link_mode",
                "mtu",
                "netdev_group",
                "operstate",
                "proto_down",
                "speed",
                "testing",
                "tx_queue_len",
                "type",
                "uevent",
                "statistics/rx_errors",
                "nothing",
            ] {
                read(t, &format!("{top}/{name}/{file}"));
            }
        }
        for name in ["lo", "v1", "v0", "br0"] {
            up(t, s, name, true);
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    for file in [
        "ageing_time",
        "bridge_id",
        "forward_delay",
        "group_addr",
        "group_fwd_mask",
        "hello_time",
        "max_age",
        "priority",
        "root_id",
        "root_port",
        "stp_state",
        "topology_change",
    ] {
        read(t, &format!("{top}/br0/bridge/{file}"));
    }
    for file in [
        "hairpin_mode",
        "isolated",
        "learning",
        "path_cost",
        "port_id",
        "port_no",
        "priority",
        "state",
        "unicast_flood",
        "designated_root",
        "designated_port",
    ] {
        read(t, &format!("{top}/v0/brport/{file}"));
    }
    Ok(())
}

fn class_net_writes(t: &mut Transcript) -> Outcome {
    let top = sysfs()?;
    let s = &mut Socket::route()?;
    bridge(t, s, "br0");
    make(t, "d0", s, &named("d0").kind("dummy"));
    let one = s.index_of("br0");
    set(t, "port", s, "d0", |body| body.number(MASTER, one));
    for (file, texts) in [
        ("mtu", &["1400", "1300\n", "0x500", "10", "x", "", "-1", "99999999999"][..]),
        ("tx_queue_len", &["7", "0", "-1", "4294967296"]),
        ("netdev_group", &["5", "x"]),
        ("ifalias", &["some words\n", ""]),
        ("flags", &["0x1002", "0x1003", "2"]),
        ("carrier", &["0", "1", "x"]),
        ("address", &["02:00:00:00:00:07"]),
        ("ifindex", &["9"]),
        ("uevent", &["change", "add", "nonsense"]),
        ("brport/hairpin_mode", &["1", "0"]),
        ("brport/path_cost", &["9", "0", "65536"]),
        ("brport/priority", &["9", "64"]),
        ("brport/flush", &["1"]),
        ("brport/state", &["3"]),
    ] {
        for text in texts {
            write(t, &format!("{top}/d0/{file}"), text);
        }
        if !["uevent", "brport/flush"].contains(&file) && file != "address" {
            read(t, &format!("{top}/d0/{file}"));
        }
    }
    for (file, texts) in [
        ("ageing_time", &["100", "x"][..]),
        ("forward_delay", &["200", "9999"]),
        ("hello_time", &["100", "1"]),
        ("max_age", &["600", "1"]),
        ("priority", &["7"]),
        ("group_fwd_mask", &["0x4000", "1"]),
        ("flush", &["1"]),
    ] {
        for text in texts {
            write(t, &format!("{top}/br0/bridge/{file}"), text);
        }
        if file != "flush" {
            read(t, &format!("{top}/br0/bridge/{file}"));
        }
    }
    Ok(())
}

fn class_net_links(t: &mut Transcript) -> Outcome {
    let top = sysfs()?;
    let s = &mut Socket::route()?;
    bridge(t, s, "br0");
    make(t, "d0", s, &named("d0").kind("dummy"));
    let (one, lower) = (s.index_of("br0"), s.index_of("d0"));
    set(t, "port", s, "d0", |body| body.number(MASTER, one));
    make(t, "vlan", s, &vlan("v5", 5, lower));
    let list = |path: &str| {
        let mut names: Vec<String> = std::fs::read_dir(path)
            .map(|all| all.flatten().map(|one| one.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        names.sort();
        names
    };
    t.note("all", list(top));
    t.note("devices", list("/sys/devices/virtual/net"));
    let link = |path: String| std::fs::read_link(path).ok();
    for name in ["br0", "d0", "v5", "nothing"] {
        t.note(name, link(format!("{top}/{name}")));
        let links = ["master", "upper_br0", "upper_v5", "lower_d0", "subsystem", "brport/bridge", "brif/d0"];
        for file in links {
            t.note(&format!("  {file}"), link(format!("{top}/{name}/{file}")));
        }
        t.note("  brif", list(&format!("{top}/{name}/brif")));
        t.note("  statistics", list(&format!("{top}/{name}/statistics")));
    }
    set(t, "no port", s, "d0", |body| body.number(MASTER, 0));
    t.note("master", link(format!("{top}/d0/master")));
    t.note("brport", list(&format!("{top}/d0/brport")));
    t.note("brif", list(&format!("{top}/br0/brif")));
    let name = s.index_of("d0");
    act(t, "rename", s, SETLINK, 0, &Builder::link(name, 0, 0).text(3, "e0"));
    t.note("all", list(top));
    t.note("old", link(format!("{top}/d0")));
    t.note("new", link(format!("{top}/e0")));
    act(t, "delete", s, DELLINK, 0, &named("e0"));
    t.note("all", list(top));
    Ok(())
}
