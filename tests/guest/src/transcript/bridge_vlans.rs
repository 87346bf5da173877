//! VLANs of bridges: their numbers, who belongs to which, what is known in them, and where frames go (with taps as ports).

use super::netlink::{acknowledgement, isolated};
use super::{Section, Transcript};
use crate::case::{Failure, Outcome};
use crate::inet_help;
use crate::netlink::*;
use crate::tun_help::*;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("bridge_vlan_numbers", numbers),
    ("bridge_vlan_members", members),
    ("bridge_vlan_refused", refused),
    ("bridge_vlan_entries", entries),
    ("bridge_vlan_default", default),
    ("bridge_vlan_frames", frames),
    ("bridge_vlan_machine", machine),
    ("bridge_vlan_heard", heard),
    ("bridge_frames_age", frames_age),
];

const MASTER: u16 = 10;
const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;
const GETNEIGH: u16 = 30;
const NEWVLAN: u16 = 112;
const DELVLAN: u16 = 113;
const GETVLAN: u16 = 114;
const AF_BRIDGE: u8 = 7;
const PVID: u16 = 2;
const UNTAGGED: u16 = 4;
const BEGIN: u16 = 8;
const END: u16 = 16;

fn named(name: &str) -> Builder {
    Builder::link(0, 0, 0).text(3, name)
}

fn of(name: &str, data: Builder) -> Builder {
    named(name).nest(18, Builder::default().text(1, "bridge").nest(2, data))
}

fn act(t: &mut Transcript, what: &str, s: &mut Socket, kind: u16, flags: u16, body: &Builder) {
    let answers = s.ask(kind, flags | ACK, body);
    t.note(what, answers.last().map(acknowledgement).unwrap_or_else(|| "no answer".to_owned()));
}

fn data(t: &mut Transcript, what: &str, s: &mut Socket, wanted: &[u16]) {
    let answers = s.ask(GETLINK, ACK, &named("br0"));
    let all = answers.first().map(|message| message.attributes(16)).unwrap_or_default();
    let linked = attributes(all.get(&18).map_or(&[][..], |value| value));
    let data = attributes(linked.get(&2).map_or(&[][..], |value| value));
    t.note(what, wanted.iter().map(|kind| data.get(kind)).collect::<Vec<_>>());
}

fn numbers(t: &mut Transcript) -> Outcome {
    isolated()?;
    let s = &mut Socket::route()?;
    let all = &[7, 8, 39, 41, 45];
    act(t, "make", s, NEWLINK, CREATE | EXCL, &named("br0").kind("bridge"));
    data(t, "at first", s, all);
    for (kind, value) in [
        (7u16, &[1u8][..]),
        (7, &[7]),
        (8, &[0x88, 0xa8]),
        (8, &[0x81, 0]),
        (8, &[8, 0]),
        (39, &[5, 0]),
        (39, &[0, 0]),
        (39, &[0xfe, 0xf]),
        (39, &[0xff, 0xf]),
        (39, &[1]),
        (7, &[0]),
        (41, &[0]),
        (45, &[0]),
    ] {
        act(
            t,
            &format!("{kind} = {value:?}"),
            s,
            NEWLINK,
            0,
            &of("br0", Builder::default().attribute(kind, value)),
        );
        data(t, "then", s, all);
    }
    act(t, "delete", s, DELLINK, 0, &named("br0"));
    let at_once = Builder::default().attribute(7, &[1]).attribute(39, &[9, 0]);
    act(t, "at once", s, NEWLINK, CREATE | EXCL, &of("br0", at_once));
    data(t, "then", s, all);
    Ok(())
}

/// A bridge `br0` that filters, with taps as ports.
fn bridge(t: &mut Transcript, ports: usize) -> Result<(Socket, Vec<Tun>), Failure> {
    isolated()?;
    without_ipv6();
    let mut s = Socket::route()?;
    act(t, "bridge", &mut s, NEWLINK, CREATE | EXCL, &of("br0", Builder::default().attribute(7, &[1])));
    let master = s.index_of("br0");
    let mut taps = Vec::new();
    for number in 0..ports {
        let name = format!("a{number}");
        taps.push(Tun::attached(&name, IFF_TAP | IFF_NO_PI)?);
        let index = s.index_of(&name);
        let address = [2, 0, 0, 0, 1, number as u8];
        act(
            t,
            &name,
            &mut s,
            SETLINK,
            0,
            &Builder::link(index, 0, 0).attribute(1, &address).number(MASTER, master),
        );
        inet_help::up(&name)?;
    }
    inet_help::up("br0")?;
    // Linux tells of carriers a little later.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    Ok((s, taps))
}

fn spec(s: &mut Socket, name: &str, flags: u16, vlans: &[(u16, u16)]) -> Builder {
    let mut body = Builder::link(s.index_of(name), 0, 0);
    body.0[0] = AF_BRIDGE;
    let mut nest = Builder::default();
    if flags != 0 {
        nest = nest.attribute(0, &flags.to_ne_bytes());
    }
    for (number, flags) in vlans {
        nest = nest.attribute(2, &[flags.to_ne_bytes(), number.to_ne_bytes()].concat());
    }
    body.nest(26, nest)
}

fn add(t: &mut Transcript, s: &mut Socket, name: &str, vlans: &[(u16, u16)]) {
    let flags = if name == "br0" { 2 } else { 0 };
    let body = spec(s, name, flags, vlans);
    act(t, &format!("add {vlans:?} to {name}"), s, SETLINK, 0, &body);
}

fn remove(t: &mut Transcript, s: &mut Socket, name: &str, vlans: &[(u16, u16)]) {
    let flags = if name == "br0" { 2 } else { 0 };
    let body = spec(s, name, flags, vlans);
    act(t, &format!("remove {vlans:?} from {name}"), s, DELLINK, 0, &body);
}

/// What is in a list of attributes that may repeat.
fn repeated(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        if length < 4 || length > bytes.len() {
            break;
        }
        all.push((u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x3fff, &bytes[4..length]));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    all
}

fn vlan(bytes: &[u8]) -> (u16, u16) {
    (u16::from_ne_bytes([bytes[2], bytes[3]]), u16::from_ne_bytes([bytes[0], bytes[1]]))
}

/// The VLANs of all, as a dump of links with this mask tells them.
fn list(t: &mut Transcript, s: &mut Socket, mask: i32) {
    let mut body = Builder::link(0, 0, 0).number(29, mask);
    body.0[0] = AF_BRIDGE;
    for message in s.ask(GETLINK, DUMP, &body).iter().filter(|message| message.kind == NEWLINK) {
        let all = message.attributes(16);
        let name = all.get(&3).map(|name| text(name)).unwrap_or_default();
        let nest = all.get(&26).cloned().unwrap_or_default();
        let vlans: Vec<_> =
            repeated(&nest).iter().filter(|(kind, _)| *kind == 2).map(|(_, value)| vlan(value)).collect();
        t.note(&format!("  {name}"), (vlans, all.contains_key(&12)));
    }
}

/// The same, as RTM_GETVLAN tells them.
fn database(t: &mut Transcript, s: &mut Socket, index: i32) {
    let body = Builder::default().raw(&[&[AF_BRIDGE, 0, 0, 0][..], &index.to_ne_bytes()].concat());
    for message in s.ask(GETVLAN, DUMP, &body) {
        if message.kind != NEWVLAN {
            t.note("  then", acknowledgement(&message));
            continue;
        }
        t.note("  database", shown_entries(&message));
    }
}

/// First and flags, last, state.
type Entry = ((u16, u16), Option<i32>, Option<Vec<u8>>);

/// All entries.
fn shown_entries(message: &Message) -> Vec<Entry> {
    repeated(&message.payload[8..])
        .iter()
        .map(|(_, entry)| {
            let one = attributes(entry);
            let last = one.get(&2).map(|last| i32::from(u16::from_ne_bytes([last[0], last[1]])));
            (one.get(&1).map(|info| vlan(info)).unwrap_or_default(), last, one.get(&3).cloned())
        })
        .collect()
}

fn members(t: &mut Transcript) -> Outcome {
    let (mut socket, _taps) = bridge(t, 2)?;
    let s = &mut socket;
    list(t, s, 2);
    list(t, s, 4);
    list(t, s, 0);
    database(t, s, 0);
    add(t, s, "a0", &[(5, 0)]);
    add(t, s, "a0", &[(5, 0)]);
    add(t, s, "a0", &[(7, UNTAGGED)]);
    add(t, s, "a0", &[(10, BEGIN), (20, END)]);
    add(t, s, "a0", &[(21, BEGIN | UNTAGGED), (30, END | UNTAGGED), (40, 0)]);
    add(t, s, "a1", &[(9, PVID | UNTAGGED)]);
    add(t, s, "br0", &[(5, 0)]);
    add(t, s, "br0", &[(4094, PVID)]);
    list(t, s, 2);
    list(t, s, 4);
    database(t, s, 0);
    let index = s.index_of("a0");
    database(t, s, index);
    add(t, s, "a1", &[(9, UNTAGGED)]);
    add(t, s, "a1", &[(1, PVID)]);
    remove(t, s, "a0", &[(15, 0)]);
    remove(t, s, "a0", &[(15, 0)]);
    remove(t, s, "a0", &[(20, BEGIN), (22, END)]);
    remove(t, s, "br0", &[(1, 0)]);
    list(t, s, 4);
    database(t, s, 9999);
    database(t, s, 1);
    Ok(())
}

fn refused(t: &mut Transcript) -> Outcome {
    let (mut socket, _taps) = bridge(t, 1)?;
    let s = &mut socket;
    for vlans in [
        &[(0, 0)][..],
        &[(4095, 0)],
        &[(4096, 0)],
        &[(5, END)],
        &[(5, BEGIN)],
        &[(5, BEGIN), (5, END)],
        &[(5, BEGIN), (4, END)],
        &[(5, BEGIN), (7, 0)],
        &[(5, BEGIN), (7, BEGIN)],
        &[(5, BEGIN | PVID), (7, END)],
        &[(5, BEGIN), (7, END | PVID)],
        &[],
    ] {
        add(t, s, "a0", vlans);
    }
    for (name, flags) in
        [("br0", 0), ("br0", 1), ("br0", 2), ("a0", 1), ("a0", 2), ("a0", 3), ("lo", 0), ("lo", 2)]
    {
        let body = spec(s, name, flags, &[(5, 0)]);
        act(t, &format!("{name} with flags {flags}"), s, SETLINK, 0, &body);
    }
    let index = s.index_of("a0");
    let mut short = Builder::link(index, 0, 0).nest(26, Builder::default().attribute(2, &[1, 0]));
    short.0[0] = AF_BRIDGE;
    act(t, "short", s, SETLINK, 0, &short);
    list(t, s, 4);
    let entry = |index: i32, number: u16, last: Option<u16>, flags: u16| {
        let mut nest = Builder::default().attribute(1, &[flags.to_ne_bytes(), number.to_ne_bytes()].concat());
        if let Some(last) = last {
            nest = nest.attribute(2, &last.to_ne_bytes());
        }
        let head = [&[AF_BRIDGE, 0, 0, 0][..], &index.to_ne_bytes()].concat();
        Builder::default().raw(&head).nest(1 | 0x8000, nest)
    };
    act(t, "new", s, NEWVLAN, 0, &entry(index, 50, None, UNTAGGED));
    act(t, "new ones", s, NEWVLAN, 0, &entry(index, 60, Some(65), 0));
    act(t, "a range that is none", s, NEWVLAN, 0, &entry(index, 65, Some(60), 0));
    act(t, "old words", s, NEWVLAN, 0, &entry(index, 60, None, BEGIN));
    act(t, "number 0", s, NEWVLAN, 0, &entry(index, 0, None, 0));
    act(t, "of nothing", s, NEWVLAN, 0, &entry(9999, 5, None, 0));
    act(t, "of no port", s, NEWVLAN, 0, &entry(1, 5, None, 0));
    act(t, "delete", s, DELVLAN, 0, &entry(index, 61, Some(62), 0));
    let head = [&[AF_BRIDGE, 0, 0, 0][..], &index.to_ne_bytes()].concat();
    act(t, "nothing", s, NEWVLAN, 0, &Builder::default().raw(&head));
    list(t, s, 4);
    Ok(())
}

fn entry(index: i32, state: u16, flags: u8, address: &[u8], vlan: Option<u16>) -> Builder {
    let mut header = vec![AF_BRIDGE, 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(state.to_ne_bytes());
    header.extend([flags, 0]);
    let body = Builder::default().raw(&header).attribute(2, address);
    match vlan {
        Some(vlan) => body.attribute(5, &vlan.to_ne_bytes()),
        None => body,
    }
}

/// All entries: address, VLAN, state, where; in order.
fn known(t: &mut Transcript, s: &mut Socket) {
    let names: Vec<_> =
        ["br0", "a0", "a1", "a2"].iter().map(|name| (s.index_of(name), (*name).to_owned())).collect();
    let mut header = vec![AF_BRIDGE, 0, 0, 0];
    header.extend([0; 8]);
    let mut lines: Vec<String> = s
        .ask(GETNEIGH, DUMP, &Builder::default().raw(&header))
        .iter()
        .filter(|message| message.kind == NEWNEIGH)
        .filter_map(|message| {
            let all = message.attributes(12);
            let index = number(&message.payload[4..]);
            let name = names.iter().find(|(own, _)| *own == index).map(|(_, name)| name.clone());
            let state = u16::from_ne_bytes([message.payload[8], message.payload[9]]);
            // What a device's own filter has is not the bridge's.
            all.get(&9)?;
            let vlan = all.get(&5).map(|vlan| u16::from_ne_bytes([vlan[0], vlan[1]]));
            Some(format!("{:?} vlan {vlan:?} state {state:#x} at {name:?}", all.get(&2)?))
        })
        .collect();
    lines.sort();
    lines.iter().for_each(|line| t.note("  known", line));
}

fn entries(t: &mut Transcript) -> Outcome {
    let (mut socket, _taps) = bridge(t, 2)?;
    let s = &mut socket;
    known(t, s);
    add(t, s, "a0", &[(5, 0)]);
    let (port, own) = (s.index_of("a0"), s.index_of("br0"));
    let address = [2, 0, 0, 0, 0, 0x55];
    act(t, "in one", s, NEWNEIGH, CREATE | EXCL, &entry(port, 0x40, 4, &address, Some(5)));
    act(t, "in one that it is not in", s, NEWNEIGH, CREATE | EXCL, &entry(port, 0x40, 4, &address, Some(6)));
    act(t, "in none", s, NEWNEIGH, CREATE | EXCL, &entry(port, 0x40, 4, &address, Some(0)));
    act(t, "in too great a one", s, NEWNEIGH, CREATE | EXCL, &entry(port, 0x40, 4, &address, Some(4095)));
    act(
        t,
        "in all, one of which is there",
        s,
        NEWNEIGH,
        CREATE | EXCL,
        &entry(port, 0x40, 4, &address, None),
    );
    known(t, s);
    act(t, "replace in all", s, NEWNEIGH, CREATE | 0x100, &entry(port, 0x80, 4, &address, None));
    known(t, s);
    act(t, "delete in one", s, DELNEIGH, 0, &entry(port, 0, 4, &address, Some(1)));
    act(t, "again", s, DELNEIGH, 0, &entry(port, 0, 4, &address, Some(1)));
    act(t, "delete in all", s, DELNEIGH, 0, &entry(port, 0, 4, &address, None));
    act(t, "again", s, DELNEIGH, 0, &entry(port, 0, 4, &address, None));
    act(t, "of the bridge", s, NEWNEIGH, CREATE, &entry(own, 0x80, 2, &address, Some(1)));
    act(t, "of the bridge in another", s, NEWNEIGH, CREATE, &entry(own, 0x80, 2, &address, Some(5)));
    known(t, s);
    remove(t, s, "a0", &[(5, 0)]);
    remove(t, s, "br0", &[(1, 0)]);
    known(t, s);
    Ok(())
}

fn default(t: &mut Transcript) -> Outcome {
    let (mut socket, _taps) = bridge(t, 2)?;
    let s = &mut socket;
    add(t, s, "a1", &[(9, 0)]);
    let set = |t: &mut Transcript, s: &mut Socket, number: u16| {
        let body = of("br0", Builder::default().attribute(39, &number.to_ne_bytes()));
        act(t, &format!("default {number}"), s, NEWLINK, 0, &body);
        list(t, s, 4);
    };
    set(t, s, 7);
    set(t, s, 9);
    add(t, s, "a0", &[(9, PVID)]);
    set(t, s, 11);
    set(t, s, 0);
    let (port, master) = (s.index_of("a0"), s.index_of("br0"));
    for (what, new) in [("a port leaves", 0), ("and returns", master)] {
        act(t, what, s, SETLINK, 0, &Builder::link(port, 0, 0).number(MASTER, new));
    }
    list(t, s, 4);
    set(t, s, 3);
    Ok(())
}

/// A frame with a tag or without.
fn frame(to: [u8; 6], from: u8, tag: Option<u16>, data: &[u8]) -> Vec<u8> {
    let mut bytes = to.to_vec();
    bytes.extend([2, 0, 0, 0, 0, from]);
    if let Some(tag) = tag {
        bytes.extend([0x81, 0]);
        bytes.extend(tag.to_be_bytes());
    }
    bytes.extend([0x88, 0xb5]);
    bytes.extend(data);
    bytes
}

const ALL: [u8; 6] = [0xff; 6];

/// What comes out of each tap: tag and data.
fn come(t: &mut Transcript, taps: &[Tun]) {
    std::thread::sleep(std::time::Duration::from_millis(50));
    for (number, tap) in taps.iter().enumerate() {
        let all: Vec<_> = std::iter::from_fn(|| tap.read(200).ok())
            .filter_map(|bytes| {
                let is_tagged = bytes.get(12..14) == Some(&[0x81, 0]);
                let at = if is_tagged { 18 } else { 14 };
                let tag = is_tagged.then(|| u16::from_be_bytes([bytes[14], bytes[15]]));
                // Only the frames of this test.
                (bytes.get(at - 2..at)? == [0x88, 0xb5]).then(|| (tag, inet_help::lossy(&bytes[at..])))
            })
            .collect();
        t.note(&format!("  a{number}"), all);
    }
}

fn send(
    t: &mut Transcript,
    taps: &[Tun],
    from: usize,
    to: [u8; 6],
    source: u8,
    tag: Option<u16>,
    data: &str,
) {
    let bytes = frame(to, source, tag, data.as_bytes());
    t.note(&format!("{data} from a{from}"), taps[from].write(&bytes) == Ok(bytes.len() as i64));
    come(t, taps);
}

fn frames(t: &mut Transcript) -> Outcome {
    let (mut socket, taps) = bridge(t, 3)?;
    let s = &mut socket;
    add(t, s, "a1", &[(5, 0)]);
    add(t, s, "a2", &[(5, PVID | UNTAGGED)]);
    send(t, &taps, 0, ALL, 1, None, "untagged");
    send(t, &taps, 0, ALL, 1, Some(1), "of 1");
    send(t, &taps, 0, ALL, 1, Some(5), "of 5 at one not in it");
    send(t, &taps, 1, ALL, 2, Some(5), "of 5");
    send(t, &taps, 1, ALL, 2, Some(0x6000), "priority");
    send(t, &taps, 1, ALL, 2, Some(0x6005), "of 5 with priority");
    send(t, &taps, 2, ALL, 3, None, "untagged in 5");
    send(t, &taps, 2, ALL, 3, Some(0x4000), "priority in 5");
    known(t, s);
    // What is known in one VLAN is not in another.
    send(t, &taps, 0, [2, 0, 0, 0, 0, 3], 1, None, "to one known in 5 only");
    send(t, &taps, 1, [2, 0, 0, 0, 0, 3], 2, Some(5), "to one known");
    add(t, s, "a0", &[(1, UNTAGGED)]);
    send(t, &taps, 0, ALL, 1, None, "untagged without a default");
    send(t, &taps, 0, ALL, 1, Some(1), "of 1 without a default");
    act(t, "filtering off", s, NEWLINK, 0, &of("br0", Builder::default().attribute(7, &[0])));
    send(t, &taps, 0, ALL, 1, Some(77), "of 77 through all");
    send(t, &taps, 1, ALL, 2, None, "untagged through all");
    act(
        t,
        "on",
        s,
        NEWLINK,
        0,
        &of("br0", Builder::default().attribute(7, &[1]).attribute(8, &[0x88, 0xa8])),
    );
    send(t, &taps, 1, ALL, 2, Some(5), "of another protocol");
    Ok(())
}

/// How many packets a link has received.
fn received(s: &mut Socket, name: &str) -> u64 {
    let answers = s.ask(GETLINK, ACK, &named(name));
    let all = answers.first().map(|message| message.attributes(16)).unwrap_or_default();
    all.get(&23).and_then(|wide| wide.first_chunk().copied()).map_or(0, u64::from_ne_bytes)
}

fn machine(t: &mut Transcript) -> Outcome {
    let (mut socket, taps) = bridge(t, 2)?;
    let s = &mut socket;
    let below = s.index_of("br0");
    let number = Builder::default().attribute(1, &[5, 0]);
    let body = named("v5").number(5, below).nest(18, Builder::default().text(1, "vlan").nest(2, number));
    act(t, "v5", s, NEWLINK, CREATE | EXCL, &body);
    inet_help::up("v5")?;
    let raw = inet_help::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    let index = s.index_of("v5");
    let own = s.index_of("br0");
    let place = |index: i32| {
        let mut address = vec![17, 0, 0x88, 0xb5];
        address.extend(index.to_ne_bytes());
        address.extend([0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
        address
    };
    for round in ["not in it", "in it"] {
        t.note("the bridge is", round);
        let before = (received(s, "br0"), received(s, "v5"));
        send(t, &taps, 0, ALL, 1, Some(5), "of 5");
        send(t, &taps, 0, ALL, 1, None, "untagged");
        t.note("received", (received(s, "br0") - before.0, received(s, "v5") - before.1));
        t.note("send in 5", inet_help::send_to(raw, &frame(ALL, 9, None, b"from v5"), 0, &place(index)));
        come(t, &taps);
        t.note("send", inet_help::send_to(raw, &frame(ALL, 9, None, b"from br0"), 0, &place(own)));
        come(t, &taps);
        add(t, s, "br0", &[(5, 0)]);
        add(t, s, "a0", &[(5, 0)]);
        add(t, s, "a1", &[(5, UNTAGGED)]);
    }
    Ok(())
}

fn heard(t: &mut Transcript) -> Outcome {
    let (mut socket, _taps) = bridge(t, 1)?;
    let s = &mut socket;
    let ear = Socket::new(0)?;
    ear.option(1, 33)?;
    let tell = |t: &mut Transcript| {
        for message in ear.pending().iter().flat_map(|received| &received.messages) {
            let shown =
                if [NEWVLAN, DELVLAN].contains(&message.kind) { shown_entries(message) } else { Vec::new() };
            t.note("  heard", (message.kind, shown));
        }
    };
    add(t, s, "a0", &[(5, 0)]);
    tell(t);
    add(t, s, "a0", &[(5, 0)]);
    tell(t);
    add(t, s, "a0", &[(5, UNTAGGED | PVID)]);
    tell(t);
    add(t, s, "a0", &[(10, BEGIN), (20, END)]);
    tell(t);
    remove(t, s, "a0", &[(15, 0)]);
    tell(t);
    remove(t, s, "a0", &[(15, 0)]);
    tell(t);
    remove(t, s, "a0", &[(17, BEGIN), (19, END)]);
    tell(t);
    add(t, s, "br0", &[(5, 0)]);
    tell(t);
    Ok(())
}

fn frames_age(t: &mut Transcript) -> Outcome {
    let (mut socket, taps) = bridge(t, 2)?;
    let s = &mut socket;
    act(t, "ageing", s, NEWLINK, 0, &of("br0", Builder::default().number(4, 100)));
    let ear = Socket::new(0)?;
    ear.option(1, 3)?;
    send(t, &taps, 0, ALL, 1, None, "hello");
    known(t, s);
    // A second, and one more in which it is collected.
    std::thread::sleep(std::time::Duration::from_millis(3000));
    known(t, s);
    let all: Vec<_> = ear
        .pending()
        .iter()
        .flat_map(|received| received.messages.clone())
        .map(|message| (message.kind, message.attributes(12).get(&2).cloned()))
        .filter(|(_, address)| address.as_deref() == Some(&[2, 0, 0, 0, 0, 1]))
        .collect();
    t.note("told", all);
    send(t, &taps, 1, [2, 0, 0, 0, 0, 1], 2, None, "to one forgotten");
    Ok(())
}
