//! AF_NETLINK and rtnetlink: what requests about links and ids of namespaces answer, with the details of each refusal.

use super::{Section, Transcript, sys};
use crate::case::{Failure, Outcome};
use crate::netlink::*;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("netlink_sockets", sockets),
    ("netlink_ports", ports),
    ("netlink_options", options),
    ("netlink_requests", requests),
    ("netlink_acknowledgements", acknowledgements),
    ("netlink_receiving", receiving),
    ("netlink_between_programs", between_programs),
    ("netlink_unprivileged", unprivileged),
    ("netlink_generic", generic),
    ("links_loopback", loopback),
    ("links_get", get),
    ("links_strict", strict),
    ("links_new", new),
    ("links_attributes", link_attributes),
    ("links_malformed", malformed),
    ("links_set", set),
    ("links_delete", delete),
    ("links_names", names),
    ("links_veth", veth),
    ("links_events", events),
    ("links_queueing", queueing),
    ("links_stats", stats),
    ("links_ioctls", ioctls),
    ("links_arp_ioctls", arp_ioctls),
    ("links_arp_publish", arp_publish),
    ("links_created_up", created_up),
    ("links_group_ioctls", group_ioctls),
    ("links_uevents", uevents),
    ("links_namespaces", link_namespaces),
    ("links_move", link_move),
    ("nsid_new", nsid_new),
    ("nsid_get", nsid_get),
    ("nsid_dump", nsid_dump),
    ("nsid_events", nsid_events),
    ("nsid_automatic", nsid_automatic),
    ("nsid_all_namespaces", nsid_all_namespaces),
    ("nsid_end_of_a_namespace", nsid_end),
];

/// Runs a section in a network namespace of its own.
pub(super) fn isolated() -> Result<(), Failure> {
    // SAFETY: numbers only.
    crate::sys::ok("unshare", unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

fn errno_name(error: i32) -> String {
    match error {
        0 => "ok".to_owned(),
        other => std::io::Error::from_raw_os_error(other).to_string(),
    }
}

/// An acknowledgement in words.
pub(super) fn acknowledgement(message: &Message) -> String {
    let error = message.error().unwrap_or(0);
    let mut line = errno_name(error);
    for (kind, value) in message.details() {
        match kind {
            1 => line += &format!(" \"{}\"", text(&value)),
            2 => line += &format!(" at {}", number(&value)),
            5 => line += &format!(" missing {}", number(&value)),
            6 => line += &format!(" in {}", number(&value)),
            _ => {}
        }
    }
    line
}

/// The attributes of a link that say something everywhere.
fn link(message: &Message) -> String {
    let flags = number(&message.payload[8..]) as u32;
    let all = message.attributes(16);
    let mut line = format!(
        "{} type {} flags {flags:#x}",
        all.get(&3).map(|name| text(name)).unwrap_or_default(),
        u16::from_ne_bytes([message.payload[2], message.payload[3]])
    );
    for (kind, value) in &all {
        line += &match kind {
            4 => format!(" mtu {}", number(value)),
            13 => format!(" txqlen {}", number(value)),
            16 => format!(" operstate {}", value[0]),
            17 => format!(" linkmode {}", value[0]),
            20 => format!(" alias {}", text(value)),
            27 => format!(" group {}", number(value)),
            30 => format!(" promiscuity {}", number(value)),
            33 => format!(" carrier {}", value[0]),
            37 => format!(" netnsid {}", number(value)),
            46 => format!(" target {}", number(value)),
            50 => format!(" min {}", number(value)),
            51 => format!(" max {}", number(value)),
            52 => format!(" alternatives {:?}", {
                let mut names = Vec::new();
                let mut rest = &value[..];
                while rest.len() > 4 {
                    let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
                    names.push(text(&rest[4..length]));
                    rest = &rest[length.next_multiple_of(4).min(rest.len())..];
                }
                names
            }),
            18 => format!(" kind {}", text(attributes(value).get(&1).unwrap_or(&Vec::new()))),
            _ => continue,
        };
    }
    line
}

/// An id in words.
fn nsid(message: &Message) -> String {
    let all = message.attributes(1);
    let mut line = if message.kind == NEWNSID { "new".to_owned() } else { "del".to_owned() };
    for (kind, name) in [(1, "nsid"), (5, "current")] {
        if let Some(value) = all.get(&kind) {
            line += &format!(" {name} {}", number(value));
        }
    }
    line
}

fn describe(message: &Message) -> String {
    match message.kind {
        2 | 3 => acknowledgement(message),
        NEWLINK => format!("newlink {}", link(message)),
        DELLINK => format!("dellink {}", link(message)),
        NEWNSID | DELNSID => nsid(message),
        kind => format!("type {kind}, {} bytes", message.payload.len()),
    }
}

/// Asks and notes all answers.
fn ask(t: &mut Transcript, what: &str, socket: &mut Socket, kind: u16, flags: u16, body: &Builder) {
    // A dump has an end of its own; the rest is acknowledged, so that it is known when all has come.
    let flags = if flags & 0x300 == 0 { flags | ACK } else { flags };
    let answers = socket.ask(kind, flags, body);
    let lines: Vec<String> = answers.iter().map(describe).collect();
    t.note(what, lines);
}

/// Asks with an acknowledgement and notes that only.
fn act(t: &mut Transcript, what: &str, socket: &mut Socket, kind: u16, flags: u16, body: &Builder) {
    let answers = socket.ask(kind, flags | ACK, body);
    t.note(what, answers.last().map(acknowledgement).unwrap_or_else(|| "no answer".to_owned()));
}

fn at(index: i32) -> Builder {
    Builder::link(index, 0, 0)
}

fn named(name: &str) -> Builder {
    at(0).text(3, name)
}

fn dummy(name: &str) -> Builder {
    named(name).kind("dummy")
}

/// A pair: this end, and the attributes of the other.
fn pair(name: &str, other: Builder) -> Builder {
    named(name).nest(18, Builder::default().text(1, "veth").nest(2, Builder::default().nest(1, other)))
}

fn sockets(t: &mut Transcript) -> Outcome {
    for protocol in 0..24 {
        // What else a Linux has depends on its configuration.
        if [0, 2, 15, 16, 17, 22, 23].contains(&protocol) {
            let fd = sys!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, protocol);
            t.works(&format!("protocol {protocol}"), fd);
            crate::sys::close(fd as i32);
        }
    }
    t.works("protocol -1", sys!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, -1));
    t.works("protocol 99", sys!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 99));
    for kind in [1, 2, 3, 4, 5, 6, 10] {
        t.works(&format!("type {kind}"), sys!(SYS_socket, libc::AF_NETLINK, kind, 0));
    }
    let mut ends = [0i32; 2];
    t.call("socketpair", sys!(SYS_socketpair, libc::AF_NETLINK, libc::SOCK_RAW, 0, ends.as_mut_ptr()));
    let socket = Socket::route()?;
    t.call("listen", sys!(SYS_listen, socket.fd, 1));
    t.call("accept", sys!(SYS_accept, socket.fd, 0usize, 0usize));
    t.call("shutdown", sys!(SYS_shutdown, socket.fd, 2));
    for name in [3, 38, 39] {
        let mut value = 0i32;
        let mut length = 4u32;
        t.call(
            &format!("SOL_SOCKET {name}"),
            sys!(SYS_getsockopt, socket.fd, libc::SOL_SOCKET, name, &raw mut value, &raw mut length),
        );
        t.note("value", value);
    }
    Ok(())
}

fn ports(t: &mut Transcript) -> Outcome {
    let own = std::process::id();
    let first = Socket::route()?;
    t.note("not bound", first.name());
    t.call("bind", first.bind(0, 0));
    t.note("the process's number", first.name().0 == own);
    t.call("bind again", first.bind(0, 0));
    t.call("bind to the same", first.bind(own, 1));
    t.note("groups", first.name().1);
    t.call("bind to another", first.bind(own + 1, 0));
    let second = Socket::route()?;
    t.call("bind a second", second.bind(0, 0));
    t.note("a negative number", (second.name().0 as i32) < -4096);
    let third = Socket::route()?;
    t.call("bind to a taken one", third.bind(own, 0));
    t.call("bind to 77777", third.bind(77777, 5));
    t.note("name", third.name());
    let other = Socket::new(16)?;
    t.call("the same number in another protocol", other.bind(own, 0));
    drop(first);
    let fourth = Socket::route()?;
    t.call("bind to what was closed", fourth.bind(own, 0));
    let mut address = [0u8; 12];
    t.call("bind, short", sys!(SYS_bind, fourth.fd, address.as_ptr(), 11));
    t.call("bind, family 0", sys!(SYS_bind, fourth.fd, address.as_ptr(), 12));
    address[0] = 16;
    let fifth = Socket::route()?;
    t.call("connect, short", sys!(SYS_connect, fifth.fd, address.as_ptr(), 1));
    t.call("connect, 8 bytes", sys!(SYS_connect, fifth.fd, address.as_ptr(), 8));
    t.call("connect to the kernel", sys!(SYS_connect, fifth.fd, address.as_ptr(), 12));
    let mut peer = [0u8; 16];
    let mut length = 16u32;
    t.call("getpeername", sys!(SYS_getpeername, fifth.fd, peer.as_mut_ptr(), &raw mut length));
    t.note("peer", (length, peer));
    t.note("has a port", fifth.name().0 != 0);
    Ok(())
}

fn get_option(t: &mut Transcript, socket: &Socket, name: i32, room: u32) {
    let mut value = [0u8; 64];
    let mut length = room;
    t.call(
        &format!("get {name} into {room}"),
        sys!(SYS_getsockopt, socket.fd, 270, name, value.as_mut_ptr(), &raw mut length),
    );
    t.note("value", (length, &value[..8]));
}

fn options(t: &mut Transcript) -> Outcome {
    let socket = Socket::new(0)?;
    for name in 1..16 {
        if ![6, 7].contains(&name) {
            t.call(&format!("set {name}"), socket.try_option(name, 1));
        }
    }
    for name in [3, 4, 5, 8, 10, 11, 12, 1, 99] {
        get_option(t, &socket, name, 4);
    }
    get_option(t, &socket, 3, 2);
    get_option(t, &socket, 3, 8);
    t.call("set with two bytes", sys!(SYS_setsockopt, socket.fd, 270, 3, [0u8; 4].as_ptr(), 2));
    t.call("set with nothing", sys!(SYS_setsockopt, socket.fd, 270, 3, [0u8; 4].as_ptr(), 0));
    t.call("other level", sys!(SYS_setsockopt, socket.fd, 6, 3, [0u8; 4].as_ptr(), 4));
    t.call("join 0", socket.try_option(1, 0));
    t.call("join 28", socket.try_option(1, 28));
    t.call("join 28 again", socket.try_option(1, 28));
    t.call("join 33", socket.try_option(1, 33));
    t.call("join 1000", socket.try_option(1, 1000));
    t.note("groups of the name", socket.name().1);
    get_option(t, &socket, 9, 8);
    get_option(t, &socket, 9, 4);
    t.call("leave 28", socket.try_option(2, 28));
    t.call("leave 28 again", socket.try_option(2, 28));
    t.note("groups of the name", socket.name().1);
    Ok(())
}

fn requests(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    t.call("nothing", socket.send(&[]) as i64);
    t.call("less than a header", socket.send(&[0; 15]) as i64);
    t.call("a header of zeros", socket.send(&[0; 16]) as i64);
    let mut long = socket.message(GETLINK, ACK, &at(1));
    long[0] = 200;
    t.call("a length beyond the end", socket.send(&long) as i64);
    let mut short = socket.message(GETLINK, ACK, &at(1));
    short[0] = 15;
    t.call("a length below a header", socket.send(&short) as i64);
    t.note("all unanswered", socket.pending().len());
    act(t, "type 0 with ack", &mut socket, 0, 0, &at(0));
    act(t, "NLMSG_DONE with ack", &mut socket, 3, 0, &at(0));
    act(t, "type 15 with ack", &mut socket, 15, 0, &at(0));
    for kind in [99, 127, 130, 200, 1000] {
        act(t, &format!("type {kind}"), &mut socket, kind, 0, &at(0));
    }
    act(t, "GETLINK without a family", &mut socket, GETLINK, 0, &Builder::default());
    act(t, "GETLINK with a family only", &mut socket, GETLINK, 0, &Builder::generic());
    act(t, "DELNSID", &mut socket, DELNSID, 0, &Builder::generic());
    act(t, "GETLINK of family 7", &mut socket, GETLINK, 0, &Builder(vec![7; 1]).raw(&[0; 15]));
    let not_a_request = socket.message(GETLINK, 4, &at(1));
    let answers = socket.ask_bytes(&not_a_request);
    t.note("without NLM_F_REQUEST", answers.iter().map(describe).collect::<Vec<_>>());
    // Several in one datagram, the second of which fails.
    let several = [
        socket.message(GETLINK, ACK, &named("lo")),
        socket.message(GETLINK, ACK, &named("nobody")),
        socket.message(GETLINK, ACK, &named("lo")),
    ]
    .concat();
    t.call("three at once", socket.send(&several) as i64);
    let all: Vec<_> = socket.pending().into_iter().flat_map(|one| one.messages).collect();
    t.note("answers", all.iter().map(|one| (one.sequence, describe(one))).collect::<Vec<_>>());
    let big = vec![0u8; 300_000];
    t.call("more than the buffer", socket.send(&big) as i64);
    t.call("MSG_OOB", sys!(SYS_sendto, socket.fd, big.as_ptr(), 16usize, libc::MSG_OOB, 0usize, 0));
    Ok(())
}

fn acknowledgements(t: &mut Transcript) -> Outcome {
    isolated()?;
    for (extended, capped) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let mut socket = Socket::new(0)?;
        socket.option(11, extended)?;
        socket.option(10, capped)?;
        for (what, name, flags) in
            [("good", "lo", ACK), ("bad", "nobody", ACK), ("bad, not asked for", "nobody", 1)]
        {
            for one in socket.ask(GETLINK, flags, &named(name)) {
                let fits = one.kind == 2;
                if fits {
                    t.note(
                        &format!("extended {extended} capped {capped} {what}"),
                        (one.flags, one.payload.len(), one.sequence, one.port == socket.name().0),
                    );
                }
            }
        }
        // An unknown attribute cannot be wrong, one that is too short can.
        for one in socket.ask(SETLINK, ACK, &at(1).attribute(4, &[1, 2])) {
            t.note("short MTU", (one.flags, one.payload.len() >= 36, acknowledgement(&one)));
        }
    }
    Ok(())
}

fn receiving(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let request = socket.message(GETNSID, ACK, &Builder::generic().number(1, 7));
    socket.send(&request);
    let peeked = socket.receive_into(20, libc::MSG_PEEK).map_err(errno_name)?;
    t.note("a look with 20 bytes", (peeked.length, peeked.flags & libc::MSG_TRUNC != 0, peeked.from));
    let peeked = socket.receive_into(20, libc::MSG_PEEK | libc::MSG_TRUNC).map_err(errno_name)?;
    let whole = peeked.length;
    t.note("its true length is more", whole > 20);
    let cut = socket.receive_into(20, 0).map_err(errno_name)?;
    t.note("cut", (cut.length, cut.flags & libc::MSG_TRUNC != 0));
    t.note("the rest is gone", socket.receive(libc::MSG_DONTWAIT).err().map(errno_name));
    socket.send(&request);
    let all = socket.receive(libc::MSG_TRUNC).map_err(errno_name)?;
    t.note("with MSG_TRUNC and room", (all.length == whole, all.flags & libc::MSG_TRUNC));
    t.note("MSG_OOB", socket.receive(libc::MSG_OOB | libc::MSG_DONTWAIT).err().map(errno_name));
    socket.option(3, 1)?;
    socket.send(&request);
    t.note("NETLINK_PKTINFO", socket.receive(0).map_err(errno_name)?.control);
    let on = 1i32;
    sys!(SYS_setsockopt, socket.fd, libc::SOL_SOCKET, libc::SO_PASSCRED, &raw const on, 4);
    socket.send(&request);
    let control = socket.receive(0).map_err(errno_name)?.control;
    t.note("and SO_PASSCRED", control);
    let mut poll = libc::pollfd { fd: socket.fd, events: 0x7f, revents: 0 };
    t.call("poll, empty", sys!(SYS_poll, &raw mut poll, 1, 0));
    t.note("events", poll.revents);
    socket.send(&request);
    t.call("poll, not empty", sys!(SYS_poll, &raw mut poll, 1, 0));
    t.note("events", poll.revents);
    // A dump comes in pieces of what the reader has room for.
    let request = socket.message(GETLINK, DUMP, &at(0));
    socket.pending();
    socket.send(&request);
    let messages: Vec<_> = socket.pending().into_iter().flat_map(|one| one.messages).collect();
    t.note("a dump's flags and kinds", messages.iter().map(|one| (one.kind, one.flags)).collect::<Vec<_>>());
    Ok(())
}

fn between_programs(t: &mut Transcript) -> Outcome {
    let (one, other) = (Socket::new(2)?, Socket::new(2)?);
    one.bind(5001, 0);
    other.bind(5002, 0);
    let to = |port: u32, groups: u32| {
        let mut address = [0u8; 12];
        address[0] = 16;
        address[4..8].copy_from_slice(&port.to_ne_bytes());
        address[8..].copy_from_slice(&groups.to_ne_bytes());
        address
    };
    let send = |socket: &Socket, port, groups| {
        let address = to(port, groups);
        sys!(SYS_sendto, socket.fd, c"hello".as_ptr(), 5usize, 0, address.as_ptr(), 12)
    };
    t.call("to a port", send(&one, 5002, 0));
    let got = other.receive(libc::MSG_DONTWAIT).map_err(errno_name)?;
    t.note("comes", (String::from_utf8_lossy(&got.bytes).into_owned(), got.from));
    t.call("to nobody", send(&one, 5003, 0));
    t.call("to the kernel", send(&one, 0, 0));
    t.call("join 2", other.try_option(1, 2));
    t.call("to group 2", send(&one, 0, 2));
    t.note("comes", other.receive(libc::MSG_DONTWAIT).map(|got| got.from).map_err(errno_name));
    t.call("to its own group", send(&other, 0, 2));
    t.note("does not come", other.receive(libc::MSG_DONTWAIT).map(|got| got.from).map_err(errno_name));
    t.call("to a group and a port", send(&one, 5002, 2));
    t.note("comes once", other.pending().iter().map(|got| got.from).collect::<Vec<_>>());
    t.call("from rtnetlink to a program", send(&Socket::route()?, 5001, 0));
    Ok(())
}

/// Runs `f` as another user without capabilities, in a child.
pub(super) fn as_nobody(t: &mut Transcript, f: impl FnOnce(&mut Transcript) -> Outcome) -> Outcome {
    let (reading, writing) = crate::sys::pipe(0)?;
    crate::sys::in_child(|| {
        let mut inner = Transcript::default();
        sys!(SYS_setresuid, 1000, 1000, 1000);
        if let Err(Failure::Wrong(why) | Failure::Skip(why)) = f(&mut inner) {
            inner.note("failed", why);
        }
        let _ = crate::sys::write(writing, inner.text().as_bytes());
        0
    })?;
    crate::sys::close(writing);
    t.append(&String::from_utf8_lossy(&crate::sys::read(reading, 60_000)?));
    crate::sys::close(reading);
    Ok(())
}

fn unprivileged(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut roots = Socket::route()?;
    let peer = new_namespace()?;
    roots.errno(NEWNSID, 0, &Builder::generic().number(1, 3).number(3, peer.0));
    as_nobody(t, |t| {
        let mut socket = Socket::route()?;
        ask(t, "get lo", &mut socket, GETLINK, 1, &named("lo"));
        act(t, "new", &mut socket, NEWLINK, CREATE, &dummy("d0"));
        act(t, "set", &mut socket, SETLINK, 0, &at(1).number(4, 1000));
        act(t, "delete", &mut socket, DELLINK, 0, &at(1));
        act(t, "malformed new", &mut socket, NEWLINK, CREATE, &Builder::default());
        act(t, "new id", &mut socket, NEWNSID, 0, &Builder::generic().number(1, 9));
        ask(t, "get id", &mut socket, GETNSID, 1, &Builder::generic().number(3, peer.0));
        ask(t, "dump ids", &mut socket, GETNSID, DUMP, &Builder::generic());
        act(
            t,
            "get id in a target",
            &mut socket,
            GETNSID,
            0,
            &Builder::generic().number(3, peer.0).number(4, 3),
        );
        act(t, "get link in a target", &mut socket, GETLINK, 0, &named("lo").number(46, 3));
        t.call("join a group", socket.try_option(1, 1));
        t.call("bind to groups", socket.bind(0, 1 << 27));
        t.call("listen to all namespaces", socket.try_option(8, 1));
        let users = Socket::new(2)?;
        t.call("join a group of programs", users.try_option(1, 1));
        t.call("bind to a group of programs", users.bind(0, 1));
        act(t, "with root's socket", &mut roots, SETLINK, 0, &at(1).number(4, 1000));
        Ok(())
    })
}

fn generic(t: &mut Transcript) -> Outcome {
    let mut socket = Socket::new(16)?;
    socket.option(11, 1)?;
    let command = |command: u8| Builder(vec![command, 1, 0, 0]);
    for (what, kind, body) in [
        ("by name", 16, command(3).text(2, "nlctrl")),
        ("by number", 16, command(3).attribute(1, &[16, 0])),
        ("unknown name", 16, command(3).text(2, "nobody")),
        ("unknown number", 16, command(3).attribute(1, &[99, 0])),
        ("neither", 16, command(3)),
        ("unknown command", 16, command(99)),
        ("no header", 16, Builder::default()),
        ("unknown family", 999, command(1)),
        ("name without an end", 16, command(3).attribute(2, b"nlctrl")),
    ] {
        let answers = socket.ask(kind, ACK, &body);
        let lines: Vec<String> = answers
            .iter()
            .map(|one| match one.kind {
                2 => acknowledgement(one),
                _ => {
                    let all = one.attributes(4);
                    let value = |kind| all.get(&kind).map(|bytes| number(&[&bytes[..], &[0, 0]].concat()));
                    format!("{} id {:?} version {:?}", text(&all[&2]), value(1), value(3))
                }
            })
            .collect();
        t.note(what, lines);
    }
    let families = socket.ask(16, DUMP, &command(3));
    t.note(
        "a dump has the controller",
        families.iter().any(|one| {
            one.kind == 16 && one.attributes(4).get(&2).is_some_and(|name| text(name) == "nlctrl")
        }),
    );
    Ok(())
}

fn loopback(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    ask(t, "fresh", &mut socket, GETLINK, 1, &at(1));
    act(t, "up", &mut socket, SETLINK, 0, &Builder::link(1, 1, 1));
    ask(t, "then", &mut socket, GETLINK, 1, &at(1));
    act(t, "again", &mut socket, SETLINK, 0, &Builder::link(1, 1, 1));
    act(t, "mtu 1500", &mut socket, SETLINK, 0, &at(1).number(4, 1500));
    act(t, "mtu 0", &mut socket, SETLINK, 0, &at(1).number(4, 0));
    act(t, "mtu -1", &mut socket, SETLINK, 0, &at(1).number(4, -1));
    act(t, "mtu huge", &mut socket, SETLINK, 0, &at(1).number(4, 0x7fff_ffff));
    ask(t, "then", &mut socket, GETLINK, 1, &at(1));
    act(t, "address", &mut socket, SETLINK, 0, &at(1).attribute(1, &[2, 0, 0, 0, 0, 1]));
    act(t, "rename", &mut socket, SETLINK, 0, &at(1).text(3, "loop"));
    ask(t, "then", &mut socket, GETLINK, 1, &at(1));
    act(t, "delete", &mut socket, DELLINK, 0, &at(1));
    act(t, "down", &mut socket, SETLINK, 0, &Builder::link(1, 0, 1));
    ask(t, "then", &mut socket, GETLINK, 1, &at(1));
    act(t, "carrier", &mut socket, SETLINK, 0, &at(1).attribute(33, &[0]));
    act(t, "protodown", &mut socket, SETLINK, 0, &at(1).attribute(39, &[1]));
    Ok(())
}

fn get(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    ask(t, "by index", &mut socket, GETLINK, 1, &at(1));
    ask(t, "by name", &mut socket, GETLINK, 1, &named("lo"));
    ask(t, "by alternative name that is the name", &mut socket, GETLINK, 1, &at(0).text(53, "lo"));
    act(t, "by nothing", &mut socket, GETLINK, 0, &at(0));
    act(t, "by a wrong index", &mut socket, GETLINK, 0, &at(99));
    act(t, "by a negative index", &mut socket, GETLINK, 0, &at(-1));
    act(t, "by a wrong name", &mut socket, GETLINK, 0, &named("nobody"));
    act(t, "by an empty name", &mut socket, GETLINK, 0, &named(""));
    act(t, "by a long name", &mut socket, GETLINK, 0, &named("sixteen-bytes-xx"));
    ask(t, "index wins", &mut socket, GETLINK, 1, &at(1).text(3, "nobody"));
    act(t, "short header", &mut socket, GETLINK, 0, &Builder(vec![0; 8]));
    act(t, "of a process's namespace", &mut socket, GETLINK, 0, &at(1).number(19, 1));
    act(t, "of an unknown id's namespace", &mut socket, GETLINK, 0, &at(1).number(46, 5));
    ask(t, "dump", &mut socket, GETLINK, DUMP, &at(0));
    ask(t, "dump with a short header", &mut socket, GETLINK, DUMP, &Builder::generic());
    // Linux knows a kind once its module is loaded, and a kind that it does not know filters nothing.
    act(t, "make", &mut socket, NEWLINK, CREATE, &named("d0").kind("dummy"));
    ask(t, "dump of dummies", &mut socket, GETLINK, DUMP, &at(0).kind("dummy"));
    ask(t, "dump of nothing known", &mut socket, GETLINK, DUMP, &at(0).kind("nothing"));
    ask(t, "dump of an unknown id's namespace", &mut socket, GETLINK, DUMP, &at(0).number(46, 5));
    Ok(())
}

fn strict(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    act(t, "make", &mut socket, NEWLINK, CREATE, &dummy("d0"));
    socket.option(12, 1)?;
    ask(t, "get", &mut socket, GETLINK, 1, &at(1));
    act(t, "get with flags", &mut socket, GETLINK, 0, &Builder::link(1, 1, 0));
    act(t, "get with a change mask", &mut socket, GETLINK, 0, &Builder::link(1, 0, 1));
    act(t, "get with a short header", &mut socket, GETLINK, 0, &Builder(vec![0; 8]));
    act(t, "get with an mtu", &mut socket, GETLINK, 0, &at(1).number(4, 5));
    act(t, "get with an unknown attribute", &mut socket, GETLINK, 0, &at(1).number(999, 5));
    act(t, "get with trailing bytes", &mut socket, GETLINK, 0, &at(1).raw(&[9, 0, 0, 0]));
    ask(t, "dump", &mut socket, GETLINK, DUMP, &at(0));
    ask(t, "dump with an index", &mut socket, GETLINK, DUMP, &at(1));
    ask(t, "dump with flags", &mut socket, GETLINK, DUMP, &Builder::link(0, 1, 0));
    ask(t, "dump with a short header", &mut socket, GETLINK, DUMP, &Builder::generic());
    ask(t, "dump with an mtu", &mut socket, GETLINK, DUMP, &at(0).number(4, 5));
    ask(t, "dump of a kind", &mut socket, GETLINK, DUMP, &at(0).kind("dummy"));
    ask(t, "dump of a target", &mut socket, GETLINK, DUMP, &at(0).number(46, 5));
    Ok(())
}

fn new(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    act(t, "without create", s, NEWLINK, 0, &dummy("d0"));
    act(t, "with create", s, NEWLINK, CREATE, &dummy("d0"));
    ask(t, "then", s, GETLINK, 1, &named("d0"));
    act(t, "again", s, NEWLINK, CREATE, &dummy("d0"));
    act(t, "again, exclusively", s, NEWLINK, CREATE | EXCL, &dummy("d0"));
    act(t, "again, replacing", s, NEWLINK, CREATE | 0x100, &dummy("d0"));
    act(t, "again, other kind", s, NEWLINK, CREATE, &named("d0").kind("veth"));
    act(t, "without a kind", s, NEWLINK, CREATE, &named("d1"));
    act(t, "unknown kind", s, NEWLINK, CREATE, &named("d1").kind("nothing-like-it"));
    act(t, "without a name", s, NEWLINK, CREATE, &at(0).kind("dummy"));
    act(t, "without a name again", s, NEWLINK, CREATE, &at(0).kind("dummy"));
    act(t, "pattern", s, NEWLINK, CREATE, &dummy("p%dx"));
    act(t, "pattern again", s, NEWLINK, CREATE, &dummy("p%dx"));
    for name in ["a/b", "a:b", "a b", ".", "..", "a%s", "%d%d", "sixteen-bytes-xx"] {
        act(t, &format!("named {name}"), s, NEWLINK, CREATE, &dummy(name));
    }
    act(t, "index 77", s, NEWLINK, CREATE, &Builder::link(77, 0, 0).text(3, "d77").kind("dummy"));
    act(
        t,
        "index 77 again",
        s,
        NEWLINK,
        CREATE | EXCL,
        &Builder::link(77, 0, 0).text(3, "d78").kind("dummy"),
    );
    act(t, "negative index", s, NEWLINK, CREATE, &Builder::link(-3, 0, 0).text(3, "d78").kind("dummy"));
    act(t, "up at once", s, NEWLINK, CREATE, &Builder::link(0, 1, 1).text(3, "up0").kind("dummy"));
    act(t, "with a master", s, NEWLINK, CREATE, &dummy("m0").number(10, 1));
    act(t, "with a protinfo", s, NEWLINK, CREATE, &dummy("m1").attribute(12, &[0; 4]));
    act(t, "no queue", s, NEWLINK, CREATE, &dummy("q0").number(31, 0));
    act(t, "too many queues", s, NEWLINK, CREATE, &dummy("q0").number(32, 5000));
    act(t, "multicast address", s, NEWLINK, CREATE, &dummy("a0").attribute(1, &[1, 0, 0, 0, 0, 1]));
    act(t, "address of zeros", s, NEWLINK, CREATE, &dummy("a0").attribute(1, &[0; 6]));
    act(t, "short address", s, NEWLINK, CREATE, &dummy("a0").attribute(1, &[2, 0, 0, 0, 0]));
    act(t, "address", s, NEWLINK, CREATE, &dummy("a0").attribute(1, &[2, 0, 0, 0, 0, 9]));
    act(
        t,
        "mtu, group, length of the queue",
        s,
        NEWLINK,
        CREATE,
        &dummy("g0").number(4, 9000).number(27, 5).number(13, 7),
    );
    act(t, "two namespaces", s, NEWLINK, CREATE, &dummy("n0").number(19, 1).number(28, 1));
    act(t, "bad descriptor", s, NEWLINK, CREATE, &dummy("n0").number(28, 9999));
    act(t, "descriptor of something else", s, NEWLINK, CREATE, &dummy("n0").number(28, 0));
    act(t, "bad process", s, NEWLINK, CREATE, &dummy("n0").number(19, 99_999_999));
    act(t, "bad id", s, NEWLINK, CREATE, &dummy("n0").number(46, 4));
    act(t, "bad id of a link", s, NEWLINK, CREATE, &dummy("n0").number(37, 4));
    act(t, "nobody's group", s, NEWLINK, 0, &at(0).number(27, 99).number(4, 500));
    act(t, "nothing", s, NEWLINK, 0, &at(0));
    act(t, "nothing, create", s, NEWLINK, CREATE, &at(0));
    ask(t, "all", s, GETLINK, DUMP, &at(0));
    Ok(())
}

fn link_attributes(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    act(t, "make", &mut socket, NEWLINK, CREATE, &dummy("d0"));
    for name in ["lo", "d0"] {
        let answer = socket.ask(GETLINK, ACK, &named(name));
        let all = answer.first().map(|one| one.attributes(16)).unwrap_or_default();
        let sizes: Vec<_> = [4, 7, 13, 14, 16, 17, 23, 27, 30, 33, 35, 39, 47, 48, 50, 51, 61, 67]
            .iter()
            .map(|kind| (*kind, all.get(kind).map(Vec::len)))
            .collect();
        t.note(name, sizes);
        t.note("queueing", all.get(&6).map(|value| text(value)));
        t.note("address, broadcast", (all.get(&1).map(Vec::len), all.get(&2)));
        t.note("counters", all.get(&23).map(|value| value.iter().all(|byte| *byte == 0)));
        t.note("immutable", all.get(&67));
    }
    let answer = socket.ask(GETLINK, ACK, &named("lo").number(29, 8));
    let all = answer.first().map(|one| one.attributes(16)).unwrap_or_default();
    t.note("without counters", (all.contains_key(&7), all.contains_key(&23)));
    Ok(())
}

fn malformed(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    act(t, "make", s, NEWLINK, CREATE, &dummy("d0"));
    act(t, "empty message", s, SETLINK, 0, &Builder::generic());
    act(t, "short mtu", s, SETLINK, 0, &named("d0").attribute(4, &[1, 2]));
    act(t, "long mtu", s, SETLINK, 0, &named("d0").attribute(4, &[0xdc, 5, 0, 0, 9, 9, 9, 9]));
    act(t, "name without an end", s, SETLINK, 0, &at(0).attribute(3, b"d0").number(4, 1500));
    act(t, "empty name attribute", s, SETLINK, 0, &at(0).attribute(3, b""));
    act(t, "long address", s, SETLINK, 0, &named("d0").attribute(1, &[2; 33]));
    act(t, "long alias", s, SETLINK, 0, &named("d0").attribute(20, &[b'x'; 300]));
    act(t, "carrier without a value", s, SETLINK, 0, &named("d0").attribute(33, &[]));
    act(t, "rejected attribute", s, SETLINK, 0, &named("d0").attribute(54, &[2; 6]));
    act(t, "rejected attribute 61", s, SETLINK, 0, &named("d0").number(61, 1));
    act(t, "new index 0", s, SETLINK, 0, &named("d0").number(49, 0));
    act(t, "unknown attribute", s, SETLINK, 0, &named("d0").number(900, 0));
    act(t, "attribute 0", s, SETLINK, 0, &named("d0").number(0, 0));
    act(t, "twice, the last counts", s, SETLINK, 0, &named("d0").number(4, 1400).number(4, 1300));
    ask(t, "then", s, GETLINK, 1, &named("d0"));
    act(t, "length below a header", s, SETLINK, 0, &named("d0").raw(&[3, 0, 4, 0]));
    act(t, "length beyond the end", s, SETLINK, 0, &named("d0").raw(&[40, 0, 4, 0]));
    act(t, "trailing bytes", s, SETLINK, 0, &named("d0").raw(&[8, 0]));
    act(t, "linkinfo too short", s, NEWLINK, CREATE, &named("x0").attribute(18, &[1, 2]));
    act(t, "linkinfo without a nest", s, NEWLINK, CREATE, &named("x0").attribute(18, &[0; 4]));
    act(
        t,
        "kind without a text",
        s,
        NEWLINK,
        CREATE,
        &named("x0").nest(18, Builder::default().attribute(1, b"")),
    );
    let mut deep = Builder::default();
    for _ in 0..100 {
        deep = Builder::default().nest(2, deep);
    }
    act(t, "nested deeply", s, NEWLINK, CREATE, &named("x0").nest(18, deep));
    act(t, "veth with an empty peer", s, NEWLINK, CREATE, &pair("v0", Builder::default()));
    act(t, "veth with a short peer", s, NEWLINK, CREATE, &pair("v0", Builder(vec![0; 8])));
    act(
        t,
        "veth with a bad attribute of the peer",
        s,
        NEWLINK,
        CREATE,
        &pair("v0", at(0).attribute(4, &[1])),
    );
    act(t, "link number too short", s, NEWLINK, CREATE, &dummy("x0").attribute(5, &[1]));
    act(t, "group too short", s, NEWLINK, CREATE, &dummy("x0").attribute(27, &[1]));
    ask(t, "nothing was made", s, GETLINK, DUMP, &at(0));
    Ok(())
}

fn set(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    act(t, "make", s, NEWLINK, CREATE, &dummy("d0"));
    act(t, "make", s, NEWLINK, CREATE, &dummy("d1"));
    let index = s.index_of("d0");
    act(t, "by nothing", s, SETLINK, 0, &at(0).number(4, 1400));
    act(t, "of nobody", s, SETLINK, 0, &named("nobody").number(4, 1400));
    act(t, "mtu", s, SETLINK, 0, &named("d0").number(4, 1400));
    act(t, "up", s, SETLINK, 0, &Builder::link(index, 1, 1));
    ask(t, "then", s, GETLINK, 1, &at(index));
    act(t, "carrier off", s, SETLINK, 0, &named("d0").attribute(33, &[0]));
    act(t, "carrier on", s, SETLINK, 0, &named("d0").attribute(33, &[1]));
    act(t, "alias", s, SETLINK, 0, &named("d0").text(20, "the first"));
    act(t, "queue", s, SETLINK, 0, &named("d0").number(13, 55));
    act(t, "negative queue", s, SETLINK, 0, &named("d0").number(13, -1));
    act(t, "group", s, SETLINK, 0, &named("d0").number(27, 9));
    act(t, "link mode", s, SETLINK, 0, &named("d0").attribute(17, &[1]));
    act(t, "promiscuous", s, SETLINK, 0, &Builder::link(index, 0x100, 0x100));
    ask(t, "then", s, GETLINK, 1, &at(index));
    act(t, "all the flags", s, SETLINK, 0, &Builder::link(index, 0xffff_ffff, 0xffff_ffff));
    act(t, "none of the flags", s, SETLINK, 0, &Builder::link(index, 0, 0xffff_ffff));
    ask(t, "then", s, GETLINK, 1, &at(index));
    act(t, "address", s, SETLINK, 0, &named("d0").attribute(1, &[2, 0, 0, 0, 0, 9]));
    act(t, "multicast address", s, SETLINK, 0, &named("d0").attribute(1, &[3, 0, 0, 0, 0, 9]));
    act(t, "short address", s, SETLINK, 0, &named("d0").attribute(1, &[2, 0, 0]));
    act(t, "short broadcast address", s, SETLINK, 0, &named("d0").attribute(2, &[2, 0, 0]));
    act(t, "no alias", s, SETLINK, 0, &named("d0").text(20, ""));
    act(t, "master 0", s, SETLINK, 0, &named("d0").number(10, 0));
    act(t, "master lo", s, SETLINK, 0, &named("d0").number(10, 1));
    act(t, "master nobody", s, SETLINK, 0, &named("d0").number(10, 99));
    act(t, "map", s, SETLINK, 0, &named("d0").attribute(14, &[0; 32]));
    act(t, "rename", s, SETLINK, 0, &at(index).text(3, "other"));
    act(t, "rename to a taken name", s, SETLINK, 0, &at(index).text(3, "d1"));
    act(t, "rename to itself", s, SETLINK, 0, &at(index).text(3, "other"));
    act(t, "rename by a pattern", s, SETLINK, 0, &at(index).text(3, "e%d"));
    act(t, "rename badly", s, SETLINK, 0, &at(index).text(3, "a/b"));
    act(t, "up", s, SETLINK, 0, &Builder::link(index, 1, 1));
    act(t, "rename while up", s, SETLINK, 0, &at(index).text(3, "live"));
    act(t, "by the old name", s, SETLINK, 0, &named("d0").number(4, 1400));
    act(t, "both in one", s, SETLINK, 0, &at(index).text(3, "d0").number(4, 1234));
    ask(t, "then", s, GETLINK, 1, &at(index));
    act(t, "a new link that is there", s, NEWLINK, 0, &named("d0").number(4, 1111));
    act(t, "with data it does not take", s, NEWLINK, 0, &pair("d0", at(0)));
    act(t, "into its own namespace", s, SETLINK, 0, &named("d0").number(19, std::process::id() as i32));
    Ok(())
}

fn delete(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    for name in ["d0", "d1", "d2", "d3"] {
        act(t, "make", s, NEWLINK, CREATE, &dummy(name).number(27, if name > "d1" { 6 } else { 0 }));
    }
    act(t, "by nothing", s, DELLINK, 0, &at(0));
    act(t, "nobody", s, DELLINK, 0, &named("nobody"));
    act(t, "wrong index", s, DELLINK, 0, &at(999));
    act(t, "by name", s, DELLINK, 0, &named("d0"));
    act(t, "again", s, DELLINK, 0, &named("d0"));
    act(t, "bulk", s, DELLINK, 0x200, &named("d1"));
    act(t, "group 0", s, DELLINK, 0, &at(0).number(27, 0));
    act(t, "group of nobody", s, DELLINK, 0, &at(0).number(27, 77));
    act(t, "group 6", s, DELLINK, 0, &at(0).number(27, 6));
    act(t, "by a process's namespace", s, DELLINK, 0, &named("d1").number(19, 1));
    act(t, "in an unknown id's namespace", s, DELLINK, 0, &named("d1").number(46, 1));
    ask(t, "left", s, GETLINK, DUMP, &at(0));
    Ok(())
}

fn names(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    act(t, "make", s, NEWLINK, CREATE, &dummy("d0"));
    act(t, "make", s, NEWLINK, CREATE, &dummy("d1"));
    let list = |names: &[&str]| names.iter().fold(Builder::default(), |list, name| list.text(53, name));
    let long = "a-name-that-is-much-longer-than-fifteen-bytes";
    act(t, "add two", s, NEWLINKPROP, 0, &named("d0").nest(0x8000 | 52, list(&[long, "x"])));
    ask(t, "then", s, GETLINK, 1, &named("d0"));
    ask(t, "found by it", s, GETLINK, 1, &at(0).text(53, long));
    ask(t, "found by it as a name", s, GETLINK, 1, &named("x"));
    act(t, "add one that is there", s, NEWLINKPROP, 0, &named("d1").nest(0x8000 | 52, list(&["x"])));
    act(t, "add another's name", s, NEWLINKPROP, 0, &named("d1").nest(0x8000 | 52, list(&["d0"])));
    act(t, "without a list", s, NEWLINKPROP, 0, &named("d1"));
    act(t, "an empty list", s, NEWLINKPROP, 0, &named("d1").nest(0x8000 | 52, Builder::default()));
    act(t, "too long", s, NEWLINKPROP, 0, &named("d1").nest(0x8000 | 52, list(&[&"y".repeat(200)])));
    act(t, "127 bytes", s, NEWLINKPROP, 0, &named("d1").nest(0x8000 | 52, list(&[&"y".repeat(127)])));
    act(t, "of nobody", s, NEWLINKPROP, 0, &named("nobody").nest(0x8000 | 52, list(&["z"])));
    act(t, "make one of that name", s, NEWLINK, CREATE | EXCL, &dummy("x"));
    let second = s.index_of("d1");
    act(t, "rename to that name", s, SETLINK, 0, &at(second).text(3, "x"));
    act(t, "remove another's", s, DELLINKPROP, 0, &named("d1").nest(0x8000 | 52, list(&["x"])));
    act(t, "remove the name itself", s, DELLINKPROP, 0, &named("d0").nest(0x8000 | 52, list(&["d0"])));
    act(t, "remove nobody's", s, DELLINKPROP, 0, &named("d0").nest(0x8000 | 52, list(&["zz"])));
    act(t, "remove", s, DELLINKPROP, 0, &named("d0").nest(0x8000 | 52, list(&["x"])));
    act(t, "remove again", s, DELLINKPROP, 0, &named("d0").nest(0x8000 | 52, list(&["x"])));
    act(t, "set by the long name", s, SETLINK, 0, &at(0).text(53, long).number(4, 1200));
    act(t, "delete by the long name", s, DELLINK, 0, &at(0).text(53, long));
    ask(t, "left", s, GETLINK, DUMP, &at(0));
    Ok(())
}

fn veth(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    act(t, "make", s, NEWLINK, CREATE, &pair("v0", named("v1")));
    ask(t, "one", s, GETLINK, 1, &named("v0"));
    ask(t, "the other", s, GETLINK, 1, &named("v1"));
    let links: Vec<_> = ["v0", "v1"]
        .map(|name| {
            let answer = s.ask(GETLINK, ACK, &named(name));
            answer.first().and_then(|one| one.attributes(16).get(&5).map(|value| number(value)))
        })
        .into();
    let indexes = ["v1", "v0"].map(|name| Some(s.index_of(name)));
    t.note("they are each other's links", links == indexes);
    let first = s.index_of("v0");
    let second = s.index_of("v1");
    act(t, "one up", s, SETLINK, 0, &Builder::link(first, 1, 1));
    crate::sys::sleep_ms(100);
    ask(t, "one", s, GETLINK, 1, &named("v0"));
    act(t, "the other up", s, SETLINK, 0, &Builder::link(second, 1, 1));
    crate::sys::sleep_ms(100);
    ask(t, "one", s, GETLINK, 1, &named("v0"));
    ask(t, "the other", s, GETLINK, 1, &named("v1"));
    act(t, "one down", s, SETLINK, 0, &Builder::link(first, 0, 1));
    crate::sys::sleep_ms(100);
    ask(t, "the other", s, GETLINK, 1, &named("v1"));
    act(t, "carrier", s, SETLINK, 0, &named("v0").attribute(33, &[0]));
    act(t, "mtu 67", s, SETLINK, 0, &named("v0").number(4, 67));
    act(t, "mtu 68", s, SETLINK, 0, &named("v0").number(4, 68));
    act(t, "mtu 65535", s, SETLINK, 0, &named("v0").number(4, 65535));
    act(t, "mtu 65536", s, SETLINK, 0, &named("v0").number(4, 65536));
    act(t, "the same names", s, NEWLINK, CREATE | EXCL, &pair("v0", named("v1")));
    act(t, "the other's name is taken", s, NEWLINK, CREATE | EXCL, &pair("w0", named("v1")));
    act(t, "both names are one", s, NEWLINK, CREATE | EXCL, &pair("w0", named("w0")));
    act(t, "without names", s, NEWLINK, CREATE, &at(0).kind("veth"));
    act(t, "without a peer", s, NEWLINK, CREATE, &named("w1").kind("veth"));
    act(t, "with a peer's mtu", s, NEWLINK, CREATE, &pair("w2", named("w3").number(4, 1300)).number(4, 1400));
    act(t, "with a wrong mtu", s, NEWLINK, CREATE, &pair("w4", named("w5").number(4, 5)));
    act(t, "with a wrong address", s, NEWLINK, CREATE, &pair("w4", named("w5").attribute(1, &[0; 6])));
    act(t, "with a peer's index", s, NEWLINK, CREATE, &pair("w4", Builder::link(500, 0, 0).text(3, "w5")));
    act(
        t,
        "with both indexes",
        s,
        NEWLINK,
        CREATE,
        &Builder::link(601, 0, 0).text(3, "w6").nest(
            18,
            Builder::default()
                .text(1, "veth")
                .nest(2, Builder::default().nest(1, Builder::link(600, 0, 0).text(3, "w7"))),
        ),
    );
    t.note("w7", s.index_of("w7"));
    ask(t, "all", s, GETLINK, DUMP, &at(0));
    act(t, "delete one", s, DELLINK, 0, &named("v1"));
    act(t, "both are gone", s, GETLINK, 0, &named("v0"));
    Ok(())
}

/// What has come to a socket that listens, in words.
fn heard(t: &mut Transcript, what: &str, socket: &Socket) {
    let lines: Vec<String> = socket
        .pending()
        .into_iter()
        .flat_map(|one| {
            let (groups, control) = (one.from.1, one.control.clone());
            one.messages.into_iter().map(move |message| {
                let note = if control.is_empty() { String::new() } else { format!(" {control:?}") };
                format!("{groups:#x}{note} {}", describe(&message))
            })
        })
        .collect();
    t.note(what, lines);
}

fn events(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let listener = Socket::route()?;
    let unbound = Socket::route()?;
    listener.bind(0, 1);
    let s = &mut socket;
    act(t, "make", s, NEWLINK, CREATE, &dummy("d0"));
    heard(t, "heard", &listener);
    heard(t, "who does not listen hears nothing", &unbound);
    let index = s.index_of("d0");
    act(t, "up", s, SETLINK, 0, &Builder::link(index, 1, 1));
    heard(t, "heard", &listener);
    act(t, "up again", s, SETLINK, 0, &Builder::link(index, 1, 1));
    heard(t, "heard", &listener);
    act(t, "alias", s, SETLINK, 0, &at(index).text(20, "x"));
    heard(t, "heard", &listener);
    act(t, "down", s, SETLINK, 0, &Builder::link(index, 0, 1));
    heard(t, "heard", &listener);
    act(t, "delete", s, DELLINK, 0, &at(index));
    heard(t, "heard", &listener);
    t.call("join by number", unbound.try_option(1, 1));
    act(t, "make", s, NEWLINK, CREATE, &dummy("d0"));
    t.note("both hear", (listener.pending().len(), unbound.pending().len()));
    t.call("leave", unbound.try_option(2, 1));
    act(t, "delete", s, DELLINK, 0, &named("d0"));
    t.note("one hears", (listener.pending().len(), unbound.pending().len()));
    let echo = 8;
    let answers = s.ask(NEWLINK, ACK | CREATE | echo, &dummy("d0"));
    t.note("with an echo", answers.iter().map(describe).collect::<Vec<_>>());
    heard(t, "heard", &listener);
    Ok(())
}

/// The queueing discipline and the other end of a pair in all that is told of it.
fn queueing(t: &mut Transcript) -> Outcome {
    isolated()?;
    let other = new_namespace()?;
    let mut socket = Socket::route()?;
    let listener = Socket::route()?;
    listener.bind(0, 1);
    let s = &mut socket;
    let heard = |t: &mut Transcript| {
        for message in listener.pending().into_iter().flat_map(|one| one.messages) {
            let all = message.attributes(16);
            // An index is told by whether there is one.
            let link = all.get(&5).map(|value| number(value).signum());
            t.note("heard", (message.kind, all.get(&6).map(|value| text(value)), link));
        }
    };
    act(t, "a pair across", s, NEWLINK, CREATE, &pair("v0", named("v1").number(28, other.0)));
    heard(t);
    let index = s.index_of("v0");
    for (what, flags) in [("up", 1), ("down", 0), ("up again", 1)] {
        act(t, what, s, SETLINK, 0, &Builder::link(index, flags, 1));
        heard(t);
    }
    act(t, "delete", s, DELLINK, 0, &at(index));
    heard(t);
    act(t, "make", s, NEWLINK, CREATE, &dummy("d0"));
    heard(t);
    let index = s.index_of("d0");
    act(t, "up", s, SETLINK, 0, &Builder::link(index, 1, 1));
    heard(t);
    let mut there = inside(&other, Socket::route)?;
    act(t, "move", s, SETLINK, 0, &named("d0").number(28, other.0));
    heard(t);
    let answer = there.ask(GETLINK, ACK, &named("d0"));
    let all = answer.first().map(|one| one.attributes(16)).unwrap_or_default();
    t.note("there", all.get(&6).map(|value| text(value)));
    Ok(())
}

fn stats(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    let body =
        |index: u32, mask: u32| Builder([&[0u8; 4][..], &index.to_ne_bytes(), &mask.to_ne_bytes()].concat());
    ask(t, "of lo", s, GETSTATS, 1, &body(1, 1));
    act(t, "of nobody", s, GETSTATS, 0, &body(99, 1));
    act(t, "without an index", s, GETSTATS, 0, &body(0, 1));
    act(t, "without a mask", s, GETSTATS, 0, &body(1, 0));
    act(t, "too short", s, GETSTATS, 0, &Builder::generic());
    ask(t, "all", s, GETSTATS, DUMP, &body(0, 1));
    ask(t, "all without a mask", s, GETSTATS, DUMP, &body(0, 0));
    Ok(())
}

fn ioctls(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    act(t, "make", &mut socket, NEWLINK, CREATE, &dummy("d0"));
    for (family, name) in [(libc::AF_UNIX, "unix"), (libc::AF_NETLINK, "netlink")] {
        let fd = sys!(SYS_socket, family, libc::SOCK_DGRAM, 0);
        if fd < 0 {
            continue;
        }
        let call = |t: &mut Transcript, what: &str, command: u64, name: &str, value: &[u8]| {
            let mut request = [0u8; 40];
            request[..name.len()].copy_from_slice(name.as_bytes());
            request[16..16 + value.len()].copy_from_slice(value);
            t.call(what, sys!(SYS_ioctl, fd, command, request.as_mut_ptr()));
            request
        };
        t.note("socket", name);
        for (what, command) in [
            ("SIOCGIFINDEX", 0x8933u64),
            ("SIOCGIFFLAGS", 0x8913),
            ("SIOCGIFMTU", 0x8921),
            ("SIOCGIFTXQLEN", 0x8942),
            ("SIOCGIFMETRIC", 0x891d),
        ] {
            let answer = call(t, what, command, "lo", &[]);
            t.note("value", (u16::from_ne_bytes([answer[16], answer[17]]), number(&answer[16..]) != 0));
            call(t, "of nobody", command, "nobody", &[]);
        }
        let answer = call(t, "SIOCGIFHWADDR", 0x8927, "lo", &[]);
        t.note("address", &answer[16..24]);
        let mut request = [0u8; 40];
        request[16] = 1;
        t.call("SIOCGIFNAME", sys!(SYS_ioctl, fd, 0x8910, request.as_mut_ptr()));
        t.note("name", text(&request));
        request[16] = 99;
        t.call("SIOCGIFNAME of nobody", sys!(SYS_ioctl, fd, 0x8910, request.as_mut_ptr()));
        call(t, "SIOCSIFFLAGS up", 0x8914, "d0", &[1, 0]);
        let answer = call(t, "flags", 0x8913, "d0", &[]);
        t.note("value", u16::from_ne_bytes([answer[16], answer[17]]));
        call(t, "SIOCSIFFLAGS down", 0x8914, "d0", &[0, 0]);
        call(t, "SIOCSIFMTU", 0x8922, "d0", &1400i32.to_ne_bytes());
        call(t, "SIOCSIFMTU negative", 0x8922, "d0", &(-4i32).to_ne_bytes());
        call(t, "SIOCSIFTXQLEN", 0x8943, "d0", &33i32.to_ne_bytes());
        call(t, "SIOCSIFNAME", 0x8923, "d0", b"d1");
        call(t, "SIOCSIFNAME of nobody", 0x8923, "d0", b"d2");
        call(t, "SIOCSIFNAME taken", 0x8923, "d1", b"lo");
        call(t, "SIOCSIFNAME back", 0x8923, "d1", b"d0");
        call(t, "SIOCSIFHWADDR", 0x8924, "d0", &[1, 0, 2, 0, 0, 0, 0, 7]);
        call(t, "SIOCSIFHWADDR of another type", 0x8924, "d0", &[2, 0, 2, 0, 0, 0, 0, 7]);
        call(t, "without a name", 0x8913, "", &[]);
        t.call("bad address", sys!(SYS_ioctl, fd, 0x8913, 8usize));
        let mut list = [0u64; 2];
        t.call("SIOCGIFCONF", sys!(SYS_ioctl, fd, 0x8912, list.as_mut_ptr()));
        call(t, "unknown", 0x89f7, "lo", &[]);
        crate::sys::close(fd as i32);
    }
    Ok(())
}

/// SIOCADDMULTI and SIOCDELMULTI: link-layer groups by hand.
fn group_ioctls(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    act(t, "make", &mut socket, NEWLINK, CREATE, &dummy("d0"));
    let fd = sys!(SYS_socket, libc::AF_UNIX, libc::SOCK_DGRAM, 0);
    let call = |t: &mut Transcript, what: &str, adds: bool, name: &str, family: u8, address: [u8; 6]| {
        let mut request = [0u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        request[16] = family;
        request[18..24].copy_from_slice(&address);
        let command = if adds { 0x8931u64 } else { 0x8932 };
        t.call(what, sys!(SYS_ioctl, fd, command, request.as_mut_ptr()));
        let shown = std::fs::read_to_string("/proc/self/net/dev_mcast").unwrap_or_default();
        t.note(
            "dev_mcast",
            shown.lines().filter(|line| line.contains("d0")).map(|line| &line[4..]).collect::<Vec<_>>(),
        );
    };
    let group = [1, 0, 0x5e, 0, 0, 0x77];
    call(t, "add", true, "d0", 0, group);
    call(t, "add again", true, "d0", 0, group);
    call(t, "add another", true, "d0", 0, [0x33, 0x33, 0, 0, 0, 9]);
    call(t, "add what is no group", true, "d0", 0, [0x36, 0, 0, 0, 0, 1]);
    call(t, "of another type", true, "d0", 1, [1, 0, 0x5e, 0, 0, 0x78]);
    call(t, "to the loopback", true, "lo", 0, group);
    call(t, "to nobody", true, "nobody", 0, group);
    call(t, "delete", false, "d0", 0, group);
    call(t, "delete again", false, "d0", 0, group);
    as_nobody(t, |t| {
        call(t, "as nobody", true, "d0", 0, group);
        Ok(())
    })
}

/// A `struct arpreq` about 10.0.0.X: flags, the type and address on the link, the interface.
fn arp_request(host: u8, flags: i32, link: (u16, &[u8]), device: &str) -> [u8; 68] {
    let mut request = [0u8; 68];
    request[0] = libc::AF_INET as u8;
    request[4..8].copy_from_slice(&[10, 0, 0, host]);
    request[16..18].copy_from_slice(&link.0.to_ne_bytes());
    request[18..18 + link.1.len()].copy_from_slice(link.1);
    request[32..36].copy_from_slice(&flags.to_ne_bytes());
    request[52..52 + device.len()].copy_from_slice(device.as_bytes());
    request
}

/// SIOCSARP, SIOCGARP, SIOCDARP (arp(7)).
fn arp_ioctls(t: &mut Transcript) -> Outcome {
    const SET: u64 = 0x8955;
    const GET: u64 = 0x8954;
    const DELETE: u64 = 0x8953;
    const LINK: [u8; 6] = [2, 0, 0, 0, 0, 9];
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    act(t, "make", s, NEWLINK, CREATE, &pair("v0", named("v1")));
    let index = s.index_of("v0");
    for end in [index, s.index_of("v1")] {
        act(t, "up", s, SETLINK, 0, &Builder::link(end, 1, 1));
    }
    let address = [&[2u8, 24, 0, 0][..], &index.to_ne_bytes()].concat();
    act(t, "address", s, 20, CREATE, &Builder(address).attribute(2, &[10, 0, 0, 1]));
    let listener = Socket::route()?;
    // RTNLGRP_NEIGH.
    listener.bind(0, 4);
    let fd = sys!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, 0);
    let call = |t: &mut Transcript, what: &str, command: u64, mut request: [u8; 68]| {
        let result = t.call(what, sys!(SYS_ioctl, fd, command, request.as_mut_ptr()));
        if command == GET && result == 0 {
            t.note("flags, link, device", (number(&request[32..]), &request[16..26], text(&request[52..])));
        }
    };
    call(t, "nobody yet", GET, arp_request(9, 0, (0, &[]), "v0"));
    call(t, "set", SET, arp_request(9, 2, (1, &LINK), "v0"));
    call(t, "get", GET, arp_request(9, 0, (0, &[]), "v0"));
    call(t, "get without a device", GET, arp_request(9, 0, (0, &[]), ""));
    call(t, "set without a device and a type", SET, arp_request(8, 2, (0, &LINK), ""));
    call(t, "set without a device", SET, arp_request(8, 2, (1, &LINK), ""));
    call(t, "get", GET, arp_request(8, 0, (0, &[]), "v0"));
    call(t, "permanent", SET, arp_request(7, 4, (1, &LINK), "v0"));
    call(t, "get", GET, arp_request(7, 0, (0, &[]), "v0"));
    call(t, "another address", SET, arp_request(7, 2, (1, &[2, 0, 0, 0, 0, 10]), "v0"));
    call(t, "get", GET, arp_request(7, 0, (0, &[]), "v0"));
    call(t, "without an address", SET, arp_request(6, 0, (1, &LINK), "v0"));
    call(t, "of a known one without an address", SET, arp_request(7, 0, (1, &LINK), "v0"));
    call(t, "get", GET, arp_request(7, 0, (0, &[]), "v0"));
    call(t, "of another type", SET, arp_request(5, 2, (2, &LINK), "v0"));
    call(t, "type 0", SET, arp_request(5, 2, (0, &LINK), "v0"));
    call(t, "no such device", SET, arp_request(5, 2, (1, &LINK), "nobody"));
    call(t, "mask without publishing", SET, arp_request(5, 0x22, (1, &LINK), "v0"));
    let mut other = arp_request(5, 2, (1, &LINK), "v0");
    other[0] = libc::AF_INET6 as u8;
    call(t, "of another family", SET, other);
    call(t, "delete", DELETE, arp_request(9, 0, (0, &[]), "v0"));
    call(t, "delete again", DELETE, arp_request(9, 0, (0, &[]), "v0"));
    call(t, "delete a permanent one without a device", DELETE, arp_request(7, 0, (0, &[]), ""));
    t.call("bad memory", sys!(SYS_ioctl, fd, GET, 8usize));
    let mut far = arp_request(0, 2, (1, &LINK), "");
    far[4..8].copy_from_slice(&[192, 0, 2, 1]);
    call(t, "nowhere", SET, far);
    let heard = listener.pending().into_iter().flat_map(|one| one.messages);
    for message in heard.filter(|message| message.payload[0] == libc::AF_INET as u8) {
        let all = message.attributes(12);
        let state = u16::from_ne_bytes([message.payload[8], message.payload[9]]);
        t.note("heard", (message.kind, state, all.get(&1), all.get(&2)));
    }
    let packet = sys!(SYS_socket, libc::AF_PACKET, libc::SOCK_DGRAM, 0);
    let mut request = arp_request(8, 0, (0, &[]), "v0");
    t.call("by a packet socket", sys!(SYS_ioctl, packet, GET, request.as_mut_ptr()));
    as_nobody(t, |t| {
        call(t, "as nobody", GET, arp_request(8, 0, (0, &[]), "v0"));
        call(t, "as nobody", DELETE, arp_request(8, 0, (0, &[]), "v0"));
        Ok(())
    })
}

/// SIOCSARP and SIOCDARP with ATF_PUBL.
fn arp_publish(t: &mut Transcript) -> Outcome {
    const SET: u64 = 0x8955;
    const DELETE: u64 = 0x8953;
    const PUBLISH: i32 = 8;
    const COMPLETE: i32 = 2;
    const NETMASK: i32 = 0x20;
    isolated()?;
    let mut socket = Socket::route()?;
    act(t, "make", &mut socket, NEWLINK, CREATE, &Builder::link(0, 0, 0).text(3, "d0").kind("dummy"));
    act(t, "address", &mut socket, SETLINK, 0, &Builder::link(2, 0, 0).attribute(1, &[2, 0, 0, 0, 0, 1]));
    let fd = sys!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, 0);
    let own = [2, 0, 0, 0, 0, 1];
    for (what, command, host, flags, link, device, mask) in [
        ("of a device", SET, 9, PUBLISH, (0, &[][..]), "d0", None),
        ("again", SET, 9, PUBLISH, (0, &[]), "d0", None),
        ("of all", SET, 8, PUBLISH, (0, &[]), "", None),
        ("by the link's address", SET, 7, PUBLISH | COMPLETE, (1, &own), "", None),
        ("by another's", SET, 6, PUBLISH | COMPLETE, (1, &[2, 0, 0, 0, 0, 2]), "", None),
        ("no such device", SET, 6, PUBLISH, (0, &[]), "d9", None),
        ("of another type", SET, 6, PUBLISH | COMPLETE, (2, &own), "d0", None),
        ("one address", SET, 5, PUBLISH | NETMASK, (0, &[]), "d0", Some([255; 4])),
        ("a network", SET, 4, PUBLISH | NETMASK, (0, &[]), "d0", Some([255, 255, 255, 0])),
        ("everything", SET, 3, PUBLISH | NETMASK, (0, &[]), "d0", Some([0; 4])),
        ("everything everywhere", SET, 3, PUBLISH | NETMASK, (0, &[]), "", Some([0; 4])),
        ("do not publish", SET, 2, PUBLISH | 0x40, (0, &[]), "d0", None),
        ("delete", DELETE, 9, PUBLISH, (0, &[]), "d0", None),
        ("delete again", DELETE, 9, PUBLISH, (0, &[]), "d0", None),
        ("delete of all", DELETE, 8, PUBLISH | COMPLETE, (1, &own), "", None),
        ("delete everything", DELETE, 3, PUBLISH | NETMASK, (0, &[]), "d0", Some([0; 4])),
        ("delete everything everywhere", DELETE, 3, PUBLISH | NETMASK, (0, &[]), "", Some([0; 4])),
    ] {
        let mut request = arp_request(host, flags, link, device);
        if let Some(mask) = mask {
            request[36..38].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            request[40..44].copy_from_slice(&mask);
        }
        t.call(what, sys!(SYS_ioctl, fd, command, request.as_mut_ptr()));
        let conf = |name: &str| {
            std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/proxy_arp")).unwrap_or_default()
        };
        t.note("  proxy_arp", (conf("d0").trim(), conf("all").trim()));
        // struct ndmsg with NTF_PROXY.
        let body = Builder(vec![2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
        let answers = socket.ask(30, crate::netlink::DUMP, &body);
        let mut places: Vec<_> = answers
            .iter()
            .filter(|message| message.kind == 28)
            .map(|message| (number(&message.payload[4..]), message.attributes(12).remove(&1)))
            .collect();
        places.sort();
        t.note("  answered for", places);
    }
    Ok(())
}

/// Links that are up from the start are told of once.
fn created_up(t: &mut Transcript) -> Outcome {
    isolated()?;
    let listener = Socket::route()?;
    listener.bind(0, 1);
    let mut socket = Socket::route()?;
    let told = |t: &mut Transcript| {
        for message in listener.pending().iter().flat_map(|one| &one.messages) {
            t.note("told", (describe(message), number(&message.payload[12..])));
        }
    };
    let dummy = |name: &str, flags, change| Builder::link(0, flags, change).text(3, name).kind("dummy");
    act(t, "down", &mut socket, NEWLINK, CREATE, &dummy("d0", 0, 0));
    told(t);
    act(t, "up", &mut socket, NEWLINK, CREATE, &dummy("d1", 1, 1));
    told(t);
    act(t, "up and promiscuous", &mut socket, NEWLINK, CREATE, &dummy("d2", 0x101, 0x101));
    told(t);
    for (what, flags, change) in [
        ("promiscuous", 0x100, 0x100),
        ("without ARP, and up", 0x81, 0x81),
        ("the same", 0x81, 0x81),
        ("with ARP", 0, 0x80),
        ("down", 0, 1),
        ("not promiscuous", 0, 0x100),
    ] {
        act(t, what, &mut socket, SETLINK, 0, &Builder::link(2, flags, change));
        told(t);
    }
    Ok(())
}

fn uevents(t: &mut Transcript) -> Outcome {
    isolated()?;
    let listener = Socket::new(15)?;
    listener.bind(0, 1);
    let mut socket = Socket::route()?;
    let show = |t: &mut Transcript, what: &str| {
        for one in listener.pending() {
            let parts: Vec<String> = one
                .bytes
                .split(|byte| *byte == 0)
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .filter(|part| !part.starts_with("SEQNUM") && !part.is_empty() && !part.contains("queues"))
                .collect();
            if parts.iter().any(|part| part == "SUBSYSTEM=net") {
                t.note(what, (one.from, parts));
            }
        }
    };
    act(t, "make", &mut socket, NEWLINK, CREATE, &Builder::link(44, 0, 0).text(3, "d0").kind("dummy"));
    show(t, "heard");
    act(t, "rename", &mut socket, SETLINK, 0, &at(44).text(3, "d1"));
    show(t, "heard");
    act(t, "delete", &mut socket, DELLINK, 0, &at(44));
    show(t, "heard");
    Ok(())
}

fn link_namespaces(t: &mut Transcript) -> Outcome {
    isolated()?;
    let other = new_namespace()?;
    let mut socket = Socket::route()?;
    let mut there = inside(&other, Socket::route)?;
    let s = &mut socket;
    act(t, "a dummy over there", s, NEWLINK, CREATE, &dummy("d0").number(28, other.0));
    act(t, "not here", s, GETLINK, 0, &named("d0"));
    ask(t, "there", &mut there, GETLINK, 1, &named("d0"));
    act(t, "again, exclusively", s, NEWLINK, CREATE | EXCL, &dummy("d0").number(28, other.0));
    act(t, "a pair across", s, NEWLINK, CREATE, &pair("v0", named("v1").number(28, other.0)));
    ask(t, "here", s, GETLINK, 1, &named("v0"));
    ask(t, "there", &mut there, GETLINK, 1, &named("v1"));
    ask(t, "all there, by id", s, GETLINK, DUMP, &at(0).number(46, 0));
    ask(t, "one there, by id", s, GETLINK, 1, &named("v1").number(46, 0));
    act(t, "make one there, by id", s, NEWLINK, CREATE, &dummy("d9").number(46, 0));
    act(t, "delete one there, by id", s, DELLINK, 0, &named("d9").number(46, 0));
    let (first, second) = (s.index_of("v0"), there.index_of("v1"));
    act(t, "up", s, SETLINK, 0, &Builder::link(first, 1, 1));
    act(t, "up", &mut there, SETLINK, 0, &Builder::link(second, 1, 1));
    crate::sys::sleep_ms(100);
    ask(t, "here", s, GETLINK, 1, &named("v0"));
    ask(t, "there", &mut there, GETLINK, 1, &named("v1"));
    act(
        t,
        "the same names on both sides",
        s,
        NEWLINK,
        CREATE,
        &pair("same", named("same").number(28, other.0)),
    );
    act(t, "delete it there", &mut there, DELLINK, 0, &named("same"));
    act(t, "gone here", s, GETLINK, 0, &named("same"));
    act(t, "by process", s, NEWLINK, CREATE, &dummy("p0").number(19, std::process::id() as i32));
    ask(t, "here", s, GETLINK, 1, &named("p0"));
    Ok(())
}

fn link_move(t: &mut Transcript) -> Outcome {
    isolated()?;
    let other = new_namespace()?;
    let mut socket = Socket::route()?;
    let mut there = inside(&other, Socket::route)?;
    let (here, over) = (Socket::route()?, inside(&other, Socket::route)?);
    let s = &mut socket;
    act(t, "make", s, NEWLINK, CREATE, &dummy("d0"));
    act(t, "make", s, NEWLINK, CREATE, &dummy("d1"));
    act(t, "make there", &mut there, NEWLINK, CREATE, &dummy("d1"));
    here.bind(0, 1);
    over.bind(0, 1);
    let index = s.index_of("d0");
    act(t, "move", s, SETLINK, 0, &named("d0").number(28, other.0));
    heard(t, "heard here", &here);
    heard(t, "heard there", &over);
    act(t, "not here", s, GETLINK, 0, &named("d0"));
    t.note("the next index, for its own is taken", (index, there.index_of("d0")));
    act(t, "move lo", s, SETLINK, 0, &named("lo").number(28, other.0));
    act(t, "move to a taken name", s, SETLINK, 0, &named("d1").number(28, other.0));
    let index = s.index_of("d1");
    act(t, "move and rename", s, SETLINK, 0, &at(index).text(3, "d2").number(28, other.0));
    ask(t, "there", &mut there, GETLINK, 1, &named("d2"));
    act(t, "make up", s, NEWLINK, CREATE, &Builder::link(70, 1, 1).text(3, "u0").kind("dummy"));
    here.pending();
    over.pending();
    act(t, "move what is up", s, SETLINK, 0, &named("u0").number(28, other.0).number(49, 333));
    heard(t, "heard here", &here);
    heard(t, "heard there", &over);
    t.note("index", there.index_of("u0"));
    act(t, "make", s, NEWLINK, CREATE, &dummy("n0"));
    act(t, "move to a taken index", s, SETLINK, 0, &named("n0").number(28, other.0).number(49, 333));
    act(t, "a pair", s, NEWLINK, CREATE, &pair("v0", named("v1")));
    act(t, "move one end", s, SETLINK, 0, &named("v1").number(28, other.0));
    ask(t, "here", s, GETLINK, 1, &named("v0"));
    ask(t, "there", &mut there, GETLINK, 1, &named("v1"));
    act(t, "move the other end", s, SETLINK, 0, &named("v0").number(28, other.0));
    ask(t, "there", &mut there, GETLINK, 1, &named("v0"));
    Ok(())
}

fn give(id: Option<i32>, peer: &Namespace) -> Builder {
    let body = Builder::generic();
    let body = if let Some(id) = id { body.number(1, id) } else { body };
    body.number(3, peer.0)
}

fn nsid_new(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    let peers: Vec<Namespace> = (0..6).map(|_| new_namespace()).collect::<Result<_, _>>()?;
    act(t, "lowest", s, NEWNSID, 0, &give(Some(-1), &peers[0]));
    act(t, "again", s, NEWNSID, 0, &give(Some(-1), &peers[0]));
    act(t, "again, another", s, NEWNSID, 0, &give(Some(9), &peers[0]));
    act(t, "exactly 2", s, NEWNSID, 0, &give(Some(2), &peers[1]));
    act(t, "2 again", s, NEWNSID, 0, &give(Some(2), &peers[2]));
    act(t, "lowest", s, NEWNSID, 0, &give(Some(-5), &peers[2]));
    act(t, "lowest", s, NEWNSID, 0, &give(Some(-1), &peers[3]));
    act(t, "the greatest", s, NEWNSID, 0, &give(Some(i32::MAX), &peers[4]));
    let own = own_namespace()?;
    act(t, "itself", s, NEWNSID, 0, &give(Some(-1), &own));
    ask(t, "all", s, GETNSID, DUMP, &Builder::generic());
    act(t, "without an id", s, NEWNSID, 0, &give(None, &peers[5]));
    act(t, "without a peer", s, NEWNSID, 0, &Builder::generic().number(1, 5));
    act(t, "nothing", s, NEWNSID, 0, &Builder::generic());
    act(t, "bad descriptor", s, NEWNSID, 0, &Builder::generic().number(1, 5).number(3, 9999));
    act(t, "negative descriptor", s, NEWNSID, 0, &Builder::generic().number(1, 5).number(3, -1));
    act(t, "descriptor of something else", s, NEWNSID, 0, &Builder::generic().number(1, 5).number(3, 0));
    act(t, "descriptor of a socket", s, NEWNSID, 0, &Builder::generic().number(1, 5).number(3, socket_fd(s)));
    act(t, "bad process", s, NEWNSID, 0, &Builder::generic().number(1, 5).number(2, 99_999_999));
    act(t, "process 0", s, NEWNSID, 0, &Builder::generic().number(1, 5).number(2, 0));
    act(t, "process 1", s, NEWNSID, 0, &Builder::generic().number(1, 5).number(2, 1));
    act(t, "short id", s, NEWNSID, 0, &Builder::generic().attribute(1, &[1, 0]).number(3, peers[5].0));
    act(t, "unknown attribute", s, NEWNSID, 0, &give(Some(7), &peers[5]).number(77, 1));
    act(t, "trailing bytes", s, NEWNSID, 0, &give(Some(7), &peers[5]).raw(&[1, 0, 0, 0]));
    act(t, "delete", s, DELNSID, 0, &give(Some(0), &peers[0]));
    ask(t, "all", s, GETNSID, DUMP, &Builder::generic());
    Ok(())
}

fn socket_fd(socket: &Socket) -> i32 {
    socket.fd
}

fn nsid_get(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    let (peer, other) = (new_namespace()?, new_namespace()?);
    ask(t, "none yet", s, GETNSID, 1, &Builder::generic().number(3, peer.0));
    act(t, "give", s, NEWNSID, 0, &give(Some(5), &peer));
    ask(t, "by descriptor", s, GETNSID, 1, &Builder::generic().number(3, peer.0));
    ask(t, "by id", s, GETNSID, 1, &Builder::generic().number(1, 5));
    ask(t, "by process", s, GETNSID, 1, &Builder::generic().number(2, std::process::id() as i32));
    act(t, "by an unknown id", s, GETNSID, 0, &Builder::generic().number(1, 6));
    act(t, "by a negative id", s, GETNSID, 0, &Builder::generic().number(1, -1));
    act(t, "by nothing", s, GETNSID, 0, &Builder::generic());
    act(t, "bad descriptor", s, GETNSID, 0, &Builder::generic().number(3, 9999));
    act(t, "descriptor of something else", s, GETNSID, 0, &Builder::generic().number(3, 0));
    act(t, "bad process", s, GETNSID, 0, &Builder::generic().number(2, 99_999_999));
    act(t, "unknown attribute", s, GETNSID, 0, &Builder::generic().number(1, 5).number(99, 0));
    let mut there = inside(&peer, Socket::route)?;
    act(t, "it gives one too", &mut there, NEWNSID, 0, &give(Some(8), &other));
    ask(t, "its view of the other", s, GETNSID, 1, &Builder::generic().number(3, other.0).number(4, 5));
    act(t, "give the other one here", s, NEWNSID, 0, &give(Some(1), &other));
    ask(t, "its view of the other", s, GETNSID, 1, &Builder::generic().number(3, other.0).number(4, 5));
    ask(t, "its view of one by id", s, GETNSID, 1, &Builder::generic().number(1, 1).number(4, 5));
    act(t, "unknown target", s, GETNSID, 0, &Builder::generic().number(3, other.0).number(4, 77));
    act(t, "negative target", s, GETNSID, 0, &Builder::generic().number(3, other.0).number(4, -1));
    s.option(12, 1)?;
    ask(t, "strictly", s, GETNSID, 1, &Builder::generic().number(1, 5));
    act(t, "strictly, with a current id", s, GETNSID, 0, &Builder::generic().number(1, 5).number(5, 5));
    act(t, "strictly, unknown attribute", s, GETNSID, 0, &Builder::generic().number(1, 5).number(9, 5));
    Ok(())
}

fn nsid_dump(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    let (peer, other) = (new_namespace()?, new_namespace()?);
    let mut there = inside(&peer, Socket::route)?;
    ask(t, "none", s, GETNSID, DUMP, &Builder::generic());
    act(t, "give", s, NEWNSID, 0, &give(Some(5), &peer));
    act(t, "give", s, NEWNSID, 0, &give(Some(3), &other));
    act(t, "it gives", &mut there, NEWNSID, 0, &give(Some(8), &other));
    act(t, "it gives", &mut there, NEWNSID, 0, &give(Some(0), &peer));
    ask(t, "all", s, GETNSID, DUMP, &Builder::generic());
    ask(t, "a target is not looked at", s, GETNSID, DUMP, &Builder::generic().number(4, 5));
    s.option(12, 1)?;
    ask(t, "strictly", s, GETNSID, DUMP, &Builder::generic());
    ask(t, "a target's", s, GETNSID, DUMP, &Builder::generic().number(4, 5));
    ask(t, "an unknown target's", s, GETNSID, DUMP, &Builder::generic().number(4, 77));
    ask(t, "with an id", s, GETNSID, DUMP, &Builder::generic().number(1, 5));
    ask(t, "with an unknown attribute", s, GETNSID, DUMP, &Builder::generic().number(60, 5));
    ask(t, "with trailing bytes", s, GETNSID, DUMP, &Builder::generic().raw(&[7, 0, 0, 0]));
    Ok(())
}

fn nsid_events(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let (listener, unbound) = (Socket::route()?, Socket::route()?);
    t.call("join", listener.try_option(1, GROUP_NSID as i32));
    let s = &mut socket;
    let (peer, other) = (new_namespace()?, new_namespace()?);
    act(t, "give", s, NEWNSID, 0, &give(Some(5), &peer));
    act(t, "give", s, NEWNSID, 0, &give(Some(-1), &other));
    act(t, "fail", s, NEWNSID, 0, &give(Some(-1), &other));
    let events = listener.pending();
    let lines: Vec<_> = events
        .iter()
        .flat_map(|one| one.messages.iter().map(move |message| (one.from, nsid(message), message.flags)))
        .collect();
    t.note("heard", lines);
    let of_asker =
        events.iter().flat_map(|one| &one.messages).all(|one| one.port == s.name().0 && one.sequence > 0);
    t.call("bind", listener.bind(0, 0));
    let fresh = new_namespace()?;
    act(t, "give", s, NEWNSID, 0, &give(Some(6), &fresh));
    heard(t, "heard now", &listener);
    t.note("with the asker's port and number", of_asker);
    heard(t, "who did not join", &unbound);
    let own = own_namespace()?;
    let answers = s.ask(NEWNSID, ACK | 8, &give(Some(7), &own));
    t.note("with an echo", answers.iter().map(describe).collect::<Vec<_>>());
    heard(t, "heard", &listener);
    Ok(())
}

fn nsid_automatic(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    let listener = Socket::route()?;
    listener.bind(0, 0);
    t.call("join", listener.try_option(1, GROUP_NSID as i32));
    let peers: Vec<Namespace> = (0..3).map(|_| new_namespace()).collect::<Result<_, _>>()?;
    act(t, "1 is taken", s, NEWNSID, 0, &give(Some(1), &peers[2]));
    act(t, "a pair across", s, NEWLINK, CREATE, &pair("v0", named("v0").number(28, peers[0].0)));
    heard(t, "heard", &listener);
    ask(t, "ids here", s, GETNSID, DUMP, &Builder::generic());
    let mut there = inside(&peers[0], Socket::route)?;
    ask(t, "ids there", &mut there, GETNSID, DUMP, &Builder::generic());
    act(t, "another pair there", s, NEWLINK, CREATE, &pair("v1", named("v1").number(28, peers[0].0)));
    act(t, "a pair elsewhere", s, NEWLINK, CREATE, &pair("v2", named("v2").number(28, peers[1].0)));
    act(t, "a dummy elsewhere", s, NEWLINK, CREATE, &dummy("d0").number(28, peers[1].0));
    ask(t, "ids here", s, GETNSID, DUMP, &Builder::generic());
    act(t, "delete the pair", s, DELLINK, 0, &named("v0"));
    ask(t, "ids stay", s, GETNSID, DUMP, &Builder::generic());
    heard(t, "heard", &listener);
    Ok(())
}

fn nsid_all_namespaces(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    let (peer, other) = (new_namespace()?, new_namespace()?);
    act(t, "give", s, NEWNSID, 0, &give(Some(5), &peer));
    let listener = Socket::route()?;
    listener.bind(0, 0);
    t.call("all namespaces", listener.try_option(8, 1));
    t.call("join links", listener.try_option(1, 1));
    t.call("join ids", listener.try_option(1, GROUP_NSID as i32));
    let plain = Socket::route()?;
    plain.bind(0, 1 | 1 << 27);
    let mut there = inside(&peer, Socket::route)?;
    let mut elsewhere = inside(&other, Socket::route)?;
    act(t, "a dummy there", &mut there, NEWLINK, CREATE, &dummy("d0"));
    act(t, "a dummy elsewhere", &mut elsewhere, NEWLINK, CREATE, &dummy("d0"));
    act(t, "a dummy here", s, NEWLINK, CREATE, &dummy("d0"));
    heard(t, "heard", &listener);
    heard(t, "heard plainly", &plain);
    act(t, "it gives an id", &mut there, NEWNSID, 0, &give(Some(2), &other));
    heard(t, "heard", &listener);
    t.call("no more", listener.try_option(8, 0));
    act(t, "a dummy there", &mut there, NEWLINK, CREATE, &dummy("d1"));
    heard(t, "heard", &listener);
    Ok(())
}

/// Waits until a socket has something to read; then a little longer, so that what belongs to it has come.
fn wait_for(socket: &Socket) {
    let mut poll = libc::pollfd { fd: socket.fd, events: libc::POLLIN, revents: 0 };
    sys!(SYS_poll, &raw mut poll, 1, 5000);
    crate::sys::sleep_ms(1000);
}

fn nsid_end(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut socket = Socket::route()?;
    let s = &mut socket;
    let (peer, other) = (new_namespace()?, new_namespace()?);
    act(t, "a pair across", s, NEWLINK, CREATE, &pair("v0", named("v1").number(28, peer.0)));
    act(t, "another id", s, NEWNSID, 0, &give(Some(7), &other));
    let listener = Socket::route()?;
    listener.bind(0, 1 | 1 << 27);
    drop(peer);
    wait_for(&listener);
    heard(t, "its id goes before the link", &listener);
    ask(t, "ids left", s, GETNSID, DUMP, &Builder::generic());
    act(t, "its link is gone", s, GETLINK, 0, &named("v0"));
    drop(other);
    wait_for(&listener);
    heard(t, "the other", &listener);
    ask(t, "ids left", s, GETNSID, DUMP, &Builder::generic());
    act(t, "by the id", s, GETNSID, 0, &Builder::generic().number(1, 7));
    let next = new_namespace()?;
    act(t, "the id is free", s, NEWNSID, 0, &give(Some(7), &next));
    Ok(())
}
