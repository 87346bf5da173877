//! AF_PACKET, and lists of sockets by NETLINK_SOCK_DIAG.

use super::{Section, Transcript, sys};
use crate::case::{Failure, Outcome};
use crate::inet_help::*;
use crate::netlink::{Builder, DUMP, Message, Socket};
use crate::sys::{close, in_child, sleep_ms};
use crate::unix_help::poll_events;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("packet_types", types),
    ("packet_bind", bind_rules),
    ("packet_names", names),
    ("packet_send_errors", send_errors),
    ("packet_raw", raw),
    ("packet_datagram", datagram),
    ("packet_loopback", loopback_frames),
    ("packet_protocols", protocols),
    ("packet_unbound", unbound),
    ("packet_auxdata", auxdata),
    ("packet_statistics", statistics),
    ("packet_filters", filters),
    ("packet_flags", flags),
    ("packet_options", options),
    ("packet_memberships", memberships),
    ("packet_device_down", device_down),
    ("packet_device_gone", device_gone),
    ("packet_fanout_arguments", fanout_arguments),
    ("packet_fanout", fanout),
    ("packet_ring_arguments", ring_arguments),
    ("packet_ring_1", |t| ring_of_slots(t, 0)),
    ("packet_ring_2", |t| ring_of_slots(t, 1)),
    ("packet_ring_3", ring_of_blocks),
    ("packet_table", table),
    ("diag_requests", requests),
    ("diag_unix", diag_unix),
    ("diag_unix_one", diag_unix_one),
    ("diag_netlink", diag_netlink),
    ("diag_packet", diag_packet),
    ("diag_udp", diag_udp),
    ("diag_udp_filters", diag_filters),
    ("diag_raw", diag_raw),
];

const AF_PACKET: i32 = 17;
const SOL_PACKET: i32 = 263;
/// ETH_P_ALL in network order.
const ALL: i32 = 0x0300;

fn open(kind: i32, protocol: i32) -> Result<i32, Failure> {
    let fd = socket(AF_PACKET, kind, protocol)?;
    limit(fd);
    Ok(fd)
}

/// `struct sockaddr_ll`.
fn link(protocol: u16, index: i32, address: &[u8]) -> Vec<u8> {
    let mut bytes = vec![17, 0];
    bytes.extend(protocol.to_be_bytes());
    bytes.extend(index.to_ne_bytes());
    bytes.extend([0, 0, 0, address.len() as u8]);
    bytes.extend(address);
    bytes.resize(20, 0);
    bytes
}

/// An address without what differs from run to run: the indices as they are, the hardware address only if it is zero.
fn shown_link(bytes: &[u8]) -> String {
    if bytes.len() < 12 {
        return format!("{bytes:?}");
    }
    let address = &bytes[12..(12 + usize::from(bytes[11])).min(bytes.len())];
    let address = match address {
        [2, 0, 0, 0, 0, 1] => "sender",
        all if all.iter().all(|byte| *byte == 0) => "zeros",
        _ => "own",
    };
    format!(
        "protocol {:#06x} type {} kind {} address {address} ({}), {} bytes",
        u16::from_be_bytes([bytes[2], bytes[3]]),
        u16::from_ne_bytes([bytes[8], bytes[9]]),
        bytes[10],
        bytes[11],
        bytes.len()
    )
}

fn frame(protocol: u16, text: &[u8]) -> Vec<u8> {
    [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &protocol.to_be_bytes(), text].concat()
}

/// A frame in words.
fn seen(fd: i32, flags: i32) -> String {
    match receive(fd, 2000, flags | libc::MSG_DONTWAIT) {
        Ok(got) => format!(
            "{} flags {:#x} {:?} from {}",
            got.count,
            got.flags,
            lossy_tail(&got.bytes),
            shown_link(&got.from)
        ),
        Err(error) => error,
    }
}

fn lossy_tail(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| if (32..127).contains(byte) { char::from(*byte) } else { '.' }).collect()
}

fn types(t: &mut Transcript) -> Outcome {
    isolated()?;
    for (kind, protocol) in
        [(3, 0), (3, ALL), (2, ALL), (2, 0x0008), (1, 0), (4, 0), (5, 0), (3, -1), (11, 0)]
    {
        let fd = t.works(&format!("socket {kind} {protocol}"), sys!(SYS_socket, AF_PACKET, kind, protocol));
        if fd >= 0 {
            t.note("  type", get_number(fd as i32, 1, libc::SO_TYPE));
            t.note("  protocol", get_number(fd as i32, 1, libc::SO_PROTOCOL));
        }
    }
    let status = in_child(|| {
        sys!(SYS_setresuid, 1000, 1000, 1000);
        let refused = sys!(SYS_socket, AF_PACKET, 3, 0) == -1;
        if refused { crate::sys::errno() } else { 0 }
    })?;
    t.note("without a capability", status);
    let fd = open(3, 0)?;
    t.call("connect", connect(fd, &link(3, 1, &[])));
    t.call("listen", sys!(SYS_listen, fd, 1));
    t.call("shutdown", sys!(SYS_shutdown, fd, 2));
    t.call("mmap", sys!(SYS_mmap, 0, 4096, 3, 1, fd, 0));
    t.note("peer", peer(fd));
    let mut fds = [0; 2];
    t.call("socketpair", sys!(SYS_socketpair, AF_PACKET, 3, 0, fds.as_mut_ptr()));
    Ok(())
}

fn bind_rules(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = open(3, 0)?;
    let good = link(3, 1, &[]);
    for length in [0, 2, 12, 18, 19, 20] {
        t.call(&format!("{length} bytes"), bind(fd, &good[..length]));
    }
    let mut other = good.clone();
    other[0] = 2;
    t.call("another family", bind(fd, &other));
    t.call("no such interface", bind(fd, &link(3, 99, &[])));
    t.call("a negative one", bind(fd, &link(3, -1, &[])));
    t.call("all", bind(fd, &link(3, 0, &[])));
    t.call("another protocol", bind(fd, &link(0x0800, 1, &[])));
    t.call("no protocol", bind(fd, &link(0, 1, &[])));
    veth()?;
    down("v0")?;
    t.call("one that is down", bind(fd, &link(3, index_of("v0")?, &[])));
    t.note("poll", poll_events(fd));
    t.note("error", get_number(fd, 1, libc::SO_ERROR));
    Ok(())
}

fn names(t: &mut Transcript) -> Outcome {
    isolated()?;
    let name = |fd: i32| {
        let (mut bytes, mut length) = ([0_u8; 32], 32_i32);
        sys!(SYS_getsockname, fd, bytes.as_mut_ptr(), &raw mut length);
        shown_link(&bytes[..length as usize])
    };
    let fd = open(3, 0)?;
    t.note("fresh", name(fd));
    let with = open(2, ALL)?;
    t.note("with a protocol", name(with));
    bind(fd, &link(0x0800, 1, &[]));
    t.note("bound", name(fd));
    bind(fd, &link(0, 0, &[]));
    t.note("to all", name(fd));
    Ok(())
}

fn send_errors(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let index = index_of("v0")?;
    let (raw, datagram) = (open(3, 0)?, open(2, 0)?);
    let text = frame(0x1234, b"text");
    t.call("nowhere", send_to(raw, &text, 0, &[]));
    t.call("no such interface", send_to(raw, &text, 0, &link(3, 99, &[])));
    t.call("short address", send_to(raw, &text, 0, &link(3, index, &[])[..8]));
    t.call("an address longer than it", send_to(raw, &text, 0, &link(3, index, &[1; 8])[..14]));
    t.call("to an address", send_to(raw, &text, 0, &link(0x1234, index, &[])));
    t.call("13 bytes", send_to(raw, &text[..13], 0, &link(3, index, &[])));
    t.call("14 bytes", send_to(raw, &text[..14], 0, &link(3, index, &[])));
    t.call("nothing", send_to(raw, b"", 0, &link(3, index, &[])));
    for size in [1514, 1515, 1518, 1519, 70_000] {
        let mut long = text.clone();
        long.resize(size, 0);
        t.call(&format!("{size}"), send_to(raw, &long, 0, &link(0x1234, index, &[])));
    }
    let mut tagged = frame(0x8100, &[0, 5, 8, 0]);
    tagged.resize(1518, 0);
    t.call("1518 with a tag", send_to(raw, &tagged, 0, &link(0x8100, index, &[])));
    for size in [0, 1500, 1501] {
        let to = link(0x1234, index, &[1; 6]);
        t.call(&format!("datagram of {size}"), send_to(datagram, &vec![0; size], 0, &to));
    }
    t.call("datagram to nobody", send_to(datagram, b"x", 0, &link(0x1234, index, &[])));
    t.call("urgent", send_to(raw, &text, libc::MSG_OOB, &link(3, index, &[])));
    t.call("bad memory", sys!(SYS_sendto, raw, 8, 60, 0, link(3, index, &[]).as_ptr(), 20));
    down("v0")?;
    t.call("down", send_to(raw, &text, 0, &link(3, index, &[])));
    Ok(())
}

fn raw(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let (listener, sender) = (open(3, ALL)?, open(3, 0)?);
    t.call("bind", bind(listener, &link(3, index_of("v1")?, &[])));
    t.call("bind", bind(sender, &link(0, index_of("v0")?, &[])));
    t.note("nothing yet", seen(listener, 0));
    t.call("send", send_to(sender, &frame(0x1234, b"to all"), 0, &[]));
    t.note("peek", seen(listener, libc::MSG_PEEK));
    t.note("got", seen(listener, 0));
    let mut group = frame(0x1234, b"to a group");
    group[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]);
    send_to(sender, &group, 0, &[]);
    t.note("got", seen(listener, 0));
    let mut other = frame(0x0800, b"to another");
    other[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    send_to(sender, &other, 0, &[]);
    t.note("got", seen(listener, 0));
    send_to(sender, &frame(0x1234, b"short"), 0, &[]);
    let short = receive(listener, 15, 0).map(|got| (got.count, got.flags));
    t.note("into 15", short);
    send_to(sender, &frame(0x1234, b"short"), 0, &[]);
    let short = receive(listener, 15, libc::MSG_TRUNC).map(|got| (got.count, got.flags));
    t.note("with its length", short);
    t.note("the sender sees", seen(sender, 0));
    Ok(())
}

fn datagram(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let (listener, sender) = (open(2, ALL)?, open(2, 0)?);
    bind(listener, &link(3, index_of("v1")?, &[]));
    let raw = open(3, ALL)?;
    bind(raw, &link(3, index_of("v1")?, &[]));
    let to = link(0x1234, index_of("v0")?, &[0xff; 6]);
    t.call("send", send_to(sender, b"a datagram", 0, &to));
    t.note("got", seen(listener, 0));
    let got = receive(raw, 100, libc::MSG_DONTWAIT);
    t.note("raw", got.map(|got| (got.bytes[..6].to_vec(), got.bytes[12..].to_vec())));
    let from = open(3, 0)?;
    bind(from, &link(0, index_of("v0")?, &[]));
    send_to(from, &frame(0x1234, b"from a raw one"), 0, &[]);
    t.note("got", seen(listener, 0));
    Ok(())
}

fn loopback_frames(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (listener, sender) = (open(3, ALL)?, open(3, 0)?);
    bind(listener, &link(3, 1, &[]));
    bind(sender, &link(0, 1, &[]));
    let mut zeros = frame(0x1234, b"over lo");
    zeros[..12].fill(0);
    t.call("send", send_to(sender, &zeros, 0, &[]));
    for _ in 0..3 {
        t.note("seen", seen(listener, 0));
    }
    let other = udp(V4)?;
    bind(other, &address("127.0.0.1", 5000));
    send_to(other, b"datagram", 0, &address("127.0.0.1", 5000));
    for _ in 0..2 {
        let got = receive(listener, 100, libc::MSG_DONTWAIT);
        t.note(
            "seen",
            got.map(|got| (got.count, got.from[10], got.bytes[12..15].to_vec(), got.bytes[34..38].to_vec())),
        );
    }
    t.call("ignore what goes out", set_number(listener, SOL_PACKET, 23, 1));
    send_to(sender, &zeros, 0, &[]);
    for _ in 0..2 {
        t.note("seen", seen(listener, 0));
    }
    Ok(())
}

fn protocols(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let sender = open(3, 0)?;
    bind(sender, &link(0, index_of("v0")?, &[]));
    let (ip, own, all) = (open(3, 0x0008)?, open(3, 0x3412)?, open(3, ALL)?);
    for fd in [ip, own, all] {
        bind(fd, &link(0, index_of("v1")?, &[]));
    }
    for protocol in [0x0800, 0x1234, 0x0806, 0x0040] {
        send_to(sender, &frame(protocol, b"text"), 0, &[]);
        for (name, fd) in [("ip", ip), ("own", own), ("all", all)] {
            t.note(&format!("{protocol:#x} {name}"), seen(fd, 0));
        }
    }
    let out = open(3, 0x3412)?;
    bind(out, &link(0, index_of("v0")?, &[]));
    send_to(sender, &frame(0x1234, b"going out"), 0, &[]);
    t.note("its own does not see it go out", seen(out, 0));
    Ok(())
}

fn unbound(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let listener = open(3, 0x3412)?;
    let sender = open(3, 0)?;
    for name in ["v0", "v1"] {
        t.call(
            name,
            send_to(sender, &frame(0x1234, name.as_bytes()), 0, &link(0x1234, index_of(name)?, &[])),
        );
        t.note("seen", seen(listener, 0));
    }
    t.call("bind to one", bind(listener, &link(0, index_of("v1")?, &[])));
    for name in ["v0", "v1"] {
        send_to(sender, &frame(0x1234, name.as_bytes()), 0, &link(0x1234, index_of(name)?, &[]));
        t.note("seen", seen(listener, 0));
    }
    Ok(())
}

fn auxdata(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let sender = open(3, 0)?;
    bind(sender, &link(0, index_of("v0")?, &[]));
    for kind in [2, 3] {
        let listener = open(kind, 0x3412)?;
        bind(listener, &link(0, index_of("v1")?, &[]));
        t.call("on", set_number(listener, SOL_PACKET, 8, 1));
        send_to(sender, &frame(0x1234, b"text"), 0, &[]);
        let got = receive(listener, 10, libc::MSG_DONTWAIT);
        // Whether its checksum was looked at is not told of frames that have none.
        t.note(
            "told",
            got.map(|got| {
                got.control.iter().map(|one| (one.0, one.1, one.2[4..].to_vec())).collect::<Vec<_>>()
            }),
        );
    }
    Ok(())
}

fn statistics(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let (listener, sender) = (open(3, 0x3412)?, open(3, 0)?);
    bind(listener, &link(0, index_of("v1")?, &[]));
    bind(sender, &link(0, index_of("v0")?, &[]));
    t.note("at first", get(listener, SOL_PACKET, 6, 8));
    for _ in 0..3 {
        send_to(sender, &frame(0x1234, b"text"), 0, &[]);
    }
    t.note("of 3", get(listener, SOL_PACKET, 6, 8));
    t.note("again", get(listener, SOL_PACKET, 6, 8));
    t.call("least buffer", set_number(listener, 1, libc::SO_RCVBUF, 1));
    for _ in 0..10 {
        send_to(sender, &frame(0x1234, b"text"), 0, &[]);
    }
    t.note("of 10", get(listener, SOL_PACKET, 6, 8));
    let mut count = 0;
    while receive(listener, 100, libc::MSG_DONTWAIT).is_ok() {
        count += 1;
    }
    t.note("read", count);
    t.note("into 4", get(listener, SOL_PACKET, 6, 4));
    t.note("into 100", get(listener, SOL_PACKET, 6, 100));
    t.call("version 3", set_number(listener, SOL_PACKET, 10, 2));
    t.note("of version 3", get(listener, SOL_PACKET, 6, 12));
    t.call("set", set_number(listener, SOL_PACKET, 6, 1));
    Ok(())
}

fn attach(fd: i32, program: &[(u16, u8, u8, u32)]) -> i64 {
    let text: Vec<u8> = program
        .iter()
        .flat_map(|(code, yes, no, k)| [&code.to_ne_bytes()[..], &[*yes, *no], &k.to_ne_bytes()].concat())
        .collect();
    let header = [program.len() as u64, text.as_ptr() as u64];
    let bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
    set(fd, 1, libc::SO_ATTACH_FILTER, &bytes)
}

fn filters(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let sender = open(3, 0)?;
    bind(sender, &link(0, index_of("v0")?, &[]));
    let send = |protocol: u16| send_to(sender, &frame(protocol, b"some text"), 0, &[]);
    let (raw, datagram) = (open(3, ALL)?, open(2, ALL)?);
    for fd in [raw, datagram] {
        bind(fd, &link(0, index_of("v1")?, &[]));
    }
    // The protocol by its place, and by ancillary data.
    t.call("by place", attach(raw, &[(0x28, 0, 0, 12), (0x15, 0, 1, 0x1234), (6, 0, 0, 18), (6, 0, 0, 0)]));
    t.call(
        "by number",
        attach(datagram, &[(0x28, 0, 0, 0xffff_f000), (0x15, 0, 1, 0x1234), (6, 0, 0, 4), (6, 0, 0, 0)]),
    );
    for protocol in [0x1234, 0x4321] {
        send(protocol);
        for fd in [raw, datagram] {
            t.note("seen", seen(fd, 0));
        }
    }
    for (what, number, equal) in [("type", 4, 1), ("hardware type", 28, 1), ("tag", 48, 0), ("queue", 24, 0)]
    {
        let load = [(0x28, 0, 0, 0xffff_f000 + number), (0x15, 0, 1, equal), (6, 0, 0, 100), (6, 0, 0, 0)];
        t.call(what, attach(raw, &load));
        send(0x1234);
        t.note("seen", seen(raw, 0).len());
    }
    // From the link header and from the network header.
    t.call(
        "link",
        attach(datagram, &[(0x28, 0, 0, 0xffe0_000c), (0x15, 0, 1, 0x1234), (6, 0, 0, 100), (6, 0, 0, 0)]),
    );
    send(0x1234);
    t.note("seen", seen(datagram, 0));
    t.call(
        "network",
        attach(
            raw,
            &[(0x30, 0, 0, 0xfff0_0000), (0x15, 0, 1, u32::from(b's')), (6, 0, 0, 100), (6, 0, 0, 0)],
        ),
    );
    send(0x1234);
    t.note("seen", seen(raw, 0));
    Ok(())
}

fn flags(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = open(3, ALL)?;
    bind(fd, &link(0, 1, &[]));
    for (what, flag) in [
        ("OOB", libc::MSG_OOB),
        ("WAITALL", libc::MSG_WAITALL),
        ("PEEK", libc::MSG_PEEK),
        ("ERRQUEUE", libc::MSG_ERRQUEUE),
        ("TRUNC", libc::MSG_TRUNC),
        ("NOSIGNAL", libc::MSG_NOSIGNAL),
        ("CTRUNC", libc::MSG_CTRUNC),
    ] {
        t.note(what, receive(fd, 10, flag | libc::MSG_DONTWAIT).map(|got| got.count));
    }
    t.note("poll", poll_events(fd));
    let short = [0_u64, 20_000];
    sys!(SYS_setsockopt, fd, 1, libc::SO_RCVTIMEO, short.as_ptr(), 16);
    t.note("after a while", receive(fd, 10, 0).map(|got| got.count));
    let mut value = -7_i32;
    t.call("FIONREAD", sys!(SYS_ioctl, fd, 0x541b, &raw mut value));
    t.note("is", value);
    t.call("TIOCOUTQ", sys!(SYS_ioctl, fd, 0x5411, &raw mut value));
    t.note("is", value);
    Ok(())
}

fn options(t: &mut Transcript) -> Outcome {
    isolated()?;
    for name in [8, 9, 10, 12, 14, 20, 23] {
        let fd = open(3, 0)?;
        t.note(&format!("{name} at first"), get_number(fd, SOL_PACKET, name));
        for value in [0, 1, 2, 3, -1] {
            t.call(&format!("  {value}"), set_number(fd, SOL_PACKET, name, value));
            t.note("    is", get_number(fd, SOL_PACKET, name));
        }
        close(fd);
    }
    let fd = open(3, 0)?;
    for version in [0, 1, 2, 3] {
        let mut value = version;
        let mut length = 4_i32;
        t.call(
            "header of a version",
            sys!(SYS_getsockopt, fd, SOL_PACKET, 11, &raw mut value, &raw mut length),
        );
        t.note("  is", value);
    }
    for name in [0, 99, -1] {
        t.note(&format!("unknown {name}"), get_number(fd, SOL_PACKET, name));
        t.call("  set", set_number(fd, SOL_PACKET, name, 1));
    }
    t.call("another level", set_number(fd, 0, 2, 1));
    t.note("another level", get_number(fd, 0, 2));
    t.call("short", set(fd, SOL_PACKET, 8, &[1]));
    Ok(())
}

fn mreq(index: i32, kind: u16, address: &[u8]) -> Vec<u8> {
    let mut bytes = index.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((address.len() as u16).to_ne_bytes());
    bytes.extend(address);
    bytes.resize(16, 0);
    bytes
}

/// IFLA_PROMISCUITY of a device.
fn promiscuity(name: &str) -> Result<Option<i32>, Failure> {
    let mut netlink = Socket::route()?;
    let answer =
        netlink.ask(crate::netlink::GETLINK, crate::netlink::ACK, &Builder::link(0, 0, 0).text(3, name));
    let link = answer.iter().find(|message| message.kind == crate::netlink::NEWLINK);
    Ok(link.and_then(|message| message.attributes(16).get(&30).map(|value| crate::netlink::number(value))))
}

fn memberships(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let index = index_of("v0")?;
    let fd = open(3, 0)?;
    let add = |request: &[u8]| set(fd, SOL_PACKET, 1, request);
    let drop = |request: &[u8]| set(fd, SOL_PACKET, 2, request);
    t.note("at first", promiscuity("v0")?);
    t.call("all packets", add(&mreq(index, 1, &[])));
    t.note("is", promiscuity("v0")?);
    t.call("again", add(&mreq(index, 1, &[])));
    t.note("is", promiscuity("v0")?);
    t.call("end", drop(&mreq(index, 1, &[])));
    t.note("is", promiscuity("v0")?);
    t.call("end", drop(&mreq(index, 1, &[])));
    t.note("is", promiscuity("v0")?);
    t.call("end once more", drop(&mreq(index, 1, &[])));
    t.call("no such interface", add(&mreq(99, 1, &[])));
    t.call("no such kind", add(&mreq(index, 9, &[])));
    t.call("a group", add(&mreq(index, 0, &[1, 0, 0x5e, 0, 0, 1])));
    t.call("a group of the wrong length", add(&mreq(index, 0, &[1, 0, 0x5e])));
    t.call("too long an address", add(&mreq(index, 0, &[1; 8])));
    t.call("short", add(&[0; 8]));
    let other = open(3, 0)?;
    set(other, SOL_PACKET, 1, &mreq(index, 1, &[]));
    t.note("is", promiscuity("v0")?);
    close(other);
    sleep_ms(50);
    t.note("after close", promiscuity("v0")?);
    Ok(())
}

fn device_down(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let (listener, sender) = (open(3, 0x3412)?, open(3, 0)?);
    bind(listener, &link(0, index_of("v1")?, &[]));
    bind(sender, &link(0, index_of("v0")?, &[]));
    down("v1")?;
    t.note("poll", poll_events(listener));
    t.note("error", seen(listener, 0));
    t.note("then", seen(listener, 0));
    up("v1")?;
    // The carrier comes a little later.
    sleep_ms(300);
    send_to(sender, &frame(0x1234, b"up again"), 0, &[]);
    t.note("seen", seen(listener, 0));
    Ok(())
}

fn device_gone(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let listener = open(3, 0x3412)?;
    bind(listener, &link(0, index_of("v1")?, &[]));
    set(listener, SOL_PACKET, 1, &mreq(index_of("v1")?, 1, &[]));
    let mut netlink = Socket::route()?;
    t.note("delete", netlink.errno(crate::netlink::DELLINK, 0, &Builder::link(0, 0, 0).text(3, "v0")));
    t.note("poll", poll_events(listener));
    t.note("error", seen(listener, 0));
    t.note("then", seen(listener, 0));
    let (mut bytes, mut length) = ([0_u8; 32], 32_i32);
    sys!(SYS_getsockname, listener, bytes.as_mut_ptr(), &raw mut length);
    t.note("name", &bytes[..length as usize]);
    t.call("send", send_to(listener, &frame(0x1234, b"x"), 0, &[]));
    t.call("bind to lo", bind(listener, &link(0, 1, &[])));
    Ok(())
}

fn ring_request(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn ring_arguments(t: &mut Transcript) -> Outcome {
    isolated()?;
    for (version, request) in [
        (1, &[4096, 2, 2048, 4][..]),
        (1, &[4096, 2, 2048, 5]),
        (1, &[4095, 2, 2048, 2]),
        (1, &[2048, 2, 2048, 2]),
        (1, &[4096, 2, 2040, 4]),
        (1, &[4096, 2, 32, 256]),
        (1, &[4096, 2, 8192, 2]),
        (1, &[0, 2, 2048, 4]),
        (1, &[4096, 0, 2048, 4]),
        (1, &[4096, 0, 0, 0]),
        (1, &[4096, 2]),
        (2, &[4096, 2, 2048, 4]),
        (2, &[4096, 2, 2048, 4, 10, 0, 0]),
        (2, &[4096, 2, 2048, 4, 10, 5000, 0]),
        (2, &[65_536, 2, 65_536, 2, 10, 16, 0]),
        (0, &[4096, 2, 2048, 4]),
    ] {
        let fd = open(3, ALL)?;
        set_number(fd, SOL_PACKET, 10, version);
        t.call(&format!("version {version} {request:?}"), set(fd, SOL_PACKET, 5, &ring_request(request)));
        close(fd);
    }
    let fd = open(3, ALL)?;
    set_number(fd, SOL_PACKET, 10, 1);
    t.call("ring", set(fd, SOL_PACKET, 5, &ring_request(&[4096, 2, 2048, 4])));
    t.call("another", set(fd, SOL_PACKET, 5, &ring_request(&[4096, 2, 2048, 4])));
    t.call("another version", set_number(fd, SOL_PACKET, 10, 2));
    t.call("reserve", set_number(fd, SOL_PACKET, 12, 4));
    let map = t.works("map", sys!(SYS_mmap, 0, 8192, 3, 1, fd, 0));
    t.call("none while it is mapped", set(fd, SOL_PACKET, 5, &ring_request(&[4096, 0, 0, 0])));
    sys!(SYS_munmap, map, 8192);
    t.call("none", set(fd, SOL_PACKET, 5, &ring_request(&[4096, 0, 0, 0])));
    t.call("reserve", set_number(fd, SOL_PACKET, 12, 4));
    Ok(())
}

/// The bytes of a mapping.
fn bytes_at(map: i64, at: usize, length: usize) -> Vec<u8> {
    // SAFETY: within the mapping that the section made.
    (0..length).map(|step| unsafe { ((map as usize + at + step) as *const u8).read_volatile() }).collect()
}

fn word_at(map: i64, at: usize) -> u32 {
    bytes_at(map, at, 4).try_into().map(u32::from_ne_bytes).unwrap_or_default()
}

fn half_at(map: i64, at: usize) -> u16 {
    bytes_at(map, at, 2).try_into().map(u16::from_ne_bytes).unwrap_or_default()
}

fn clear_word(map: i64, at: usize) {
    // SAFETY: within the mapping that the section made.
    unsafe { ((map as usize + at) as *mut u32).write_volatile(0) }
}

fn ring_of_slots(t: &mut Transcript, version: i32) -> Outcome {
    isolated()?;
    veth()?;
    let (listener, sender) = (open(3, 0x3412)?, open(3, 0)?);
    bind(listener, &link(0, index_of("v1")?, &[]));
    bind(sender, &link(0, index_of("v0")?, &[]));
    set_number(listener, SOL_PACKET, 10, version);
    t.call("ring", set(listener, SOL_PACKET, 5, &ring_request(&[4096, 1, 1024, 4])));
    let map = sys!(SYS_mmap, 0, 4096, 3, 1, listener, 0);
    t.note("poll", poll_events(listener));
    for number in 0..6 {
        send_to(sender, &frame(0x1234, format!("frame {number}").as_bytes()), 0, &[]);
    }
    t.note("poll", poll_events(listener));
    let first = if version == 0 { 8 } else { 4 };
    for slot in 0..4 {
        let at = slot * 1024;
        let (mac, net) = (half_at(map, at + first + 8), half_at(map, at + first + 10));
        t.note("status", word_at(map, at) & !0x2000_0080);
        t.note("  lengths", (word_at(map, at + first), word_at(map, at + first + 4), mac, net));
        t.note("  bytes", lossy_tail(&bytes_at(map, at + usize::from(net), 7)));
        t.note("  address", shown_link(&bytes_at(map, at + 32, 20)));
    }
    t.note("statistics", get(listener, SOL_PACKET, 6, 8));
    (0..2).for_each(|slot| clear_word(map, slot * 1024));
    send_to(sender, &frame(0x1234, b"frame A"), 0, &[]);
    send_to(sender, &frame(0x1234, &[b'x'; 1400]), 0, &[]);
    t.note("in the first", lossy_tail(&bytes_at(map, usize::from(half_at(map, first + 10)), 7)));
    t.note("a long one", (word_at(map, 1024 + first), word_at(map, 1024 + first + 4)));
    t.note("read", receive(listener, 10, libc::MSG_DONTWAIT).map(|got| got.count));
    Ok(())
}

fn ring_of_blocks(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let (listener, sender) = (open(3, 0x3412)?, open(3, 0)?);
    bind(listener, &link(0, index_of("v1")?, &[]));
    bind(sender, &link(0, index_of("v0")?, &[]));
    set_number(listener, SOL_PACKET, 10, 2);
    t.call("ring", set(listener, SOL_PACKET, 5, &ring_request(&[4096, 2, 2048, 4, 60, 13, 0])));
    let map = sys!(SYS_mmap, 0, 8192, 3, 1, listener, 0);
    for number in 0..3 {
        send_to(sender, &frame(0x1234, format!("frame {number}").as_bytes()), 0, &[]);
    }
    let mut waited = 0;
    while word_at(map, 8) == 0 && waited < 100 {
        sleep_ms(20);
        waited += 1;
    }
    t.note("poll", poll_events(listener));
    let describe = |t: &mut Transcript, block: usize| {
        let base = block * 4096;
        t.note("version and private", (word_at(map, base), word_at(map, base + 4)));
        t.note("status", word_at(map, base + 8));
        t.note(
            "frames, first, used",
            (word_at(map, base + 12), word_at(map, base + 16), word_at(map, base + 20)),
        );
        t.note("number", word_at(map, base + 24));
        let mut at = base + word_at(map, base + 16) as usize;
        for _ in 0..word_at(map, base + 12).min(4) {
            let next = word_at(map, at);
            let net = half_at(map, at + 26);
            t.note(
                "  next and lengths",
                (next, word_at(map, at + 12), word_at(map, at + 16), half_at(map, at + 24), net),
            );
            t.note("  bytes", lossy_tail(&bytes_at(map, at + usize::from(net), 7)));
            t.note("  address", shown_link(&bytes_at(map, at + 48, 20)));
            at += next as usize;
        }
    };
    describe(t, 0);
    // More than a block holds: it is handed over when it is full.
    for _ in 0..4 {
        send_to(sender, &frame(0x1234, &[b'y'; 1300]), 0, &[]);
    }
    t.note("second status", word_at(map, 4096 + 8));
    t.note("second frames", word_at(map, 4096 + 12));
    t.note("statistics", get(listener, SOL_PACKET, 6, 12).map(|bytes| bytes[..8].to_vec()));
    Ok(())
}

fn table(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (raw, datagram) = (open(3, ALL)?, open(2, 0x0008)?);
    bind(raw, &link(0, 1, &[]));
    let text = std::fs::read_to_string("/proc/net/packet").unwrap_or_default();
    t.note("head", text.lines().next());
    let mut lines: Vec<Vec<&str>> =
        text.lines().skip(1).map(|line| line.split_whitespace().skip(2).take(6).collect()).collect();
    lines.sort();
    t.note("lines", lines);
    let text = std::fs::read_to_string("/proc/net/ptype").unwrap_or_default();
    t.note("head", text.lines().next());
    let ours: Vec<String> = text
        .lines()
        .filter(|line| line.contains("packet_rcv"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    t.note("lines", ours);
    close(datagram);
    close(raw);
    Ok(())
}

const BY_FAMILY: u16 = 20;

fn diag() -> Result<Socket, Failure> {
    let socket = Socket::new(4)?;
    socket.option(11, 1)?;
    Ok(socket)
}

fn raw_builder(bytes: &[u8]) -> Builder {
    Builder::default().raw(bytes)
}

fn errno_of(t: &mut Transcript, netlink: &mut Socket, what: &str, kind: u16, flags: u16, bytes: &[u8]) {
    let answer = netlink.ask(kind, flags, &raw_builder(bytes));
    let errors: Vec<i32> = answer.iter().filter_map(Message::error).collect();
    let kinds: Vec<u16> = answer.iter().map(|message| message.kind).collect();
    let end: Vec<i32> = answer
        .iter()
        .filter(|message| message.kind == 3)
        .map(|message| crate::netlink::number(&message.payload))
        .collect();
    t.note(what, (kinds.iter().filter(|kind| **kind == BY_FAMILY).count(), errors, end));
}

fn requests(t: &mut Transcript) -> Outcome {
    isolated()?;
    let mut netlink = diag()?;
    let ask = crate::netlink::ACK;
    for family in [0, 1, 2, 3, 10, 16, 17, 40, 44, 45, 46, 200, 255] {
        errno_of(t, &mut netlink, &format!("short, family {family}"), BY_FAMILY, DUMP, &[family, 0, 0, 0]);
    }
    errno_of(t, &mut netlink, "nothing", BY_FAMILY, DUMP, &[]);
    errno_of(t, &mut netlink, "one byte", BY_FAMILY, DUMP, &[1]);
    for kind in [16, 17, 18, 19, 21, 22, 99] {
        errno_of(t, &mut netlink, &format!("message {kind}"), kind, ask, &[2; 72]);
    }
    for protocol in [6, 17, 1, 58, 255, 132, 200] {
        let mut request = vec![2, protocol, 0, 0];
        request.extend(u32::MAX.to_ne_bytes());
        request.resize(56, 0);
        errno_of(t, &mut netlink, &format!("dump of protocol {protocol}"), BY_FAMILY, DUMP, &request);
        errno_of(t, &mut netlink, &format!("one of protocol {protocol}"), BY_FAMILY, ask, &request);
    }
    let mut simple = vec![16, 0];
    simple.resize(20, 0);
    errno_of(t, &mut netlink, "one of netlink", BY_FAMILY, ask, &simple);
    simple[1] = 77;
    errno_of(t, &mut netlink, "of no netlink protocol", BY_FAMILY, DUMP, &simple);
    simple[0] = 17;
    errno_of(t, &mut netlink, "packet with a protocol", BY_FAMILY, DUMP, &simple);
    simple[1] = 0;
    errno_of(t, &mut netlink, "one of packet", BY_FAMILY, ask, &simple);
    Ok(())
}

fn inode_of(fd: i32) -> Result<u32, Failure> {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}"))
        .map_err(|error| Failure::Wrong(error.to_string()))?;
    let text = link.to_string_lossy().into_owned();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| Failure::Wrong(text))
}

fn unix_request(states: u32, inode: u32, show: u32, cookie: u64) -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0];
    for word in [states, inode, show] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(cookie.to_ne_bytes());
    bytes
}

/// What is told of a UNIX socket, with the inodes in words.
fn unix_line(message: &Message, names: &[(u32, &str)]) -> String {
    let who =
        |inode: u32| names.iter().find(|(known, _)| *known == inode).map_or("another", |(_, name)| *name);
    let payload = &message.payload;
    let inode = u32::from_ne_bytes([payload[4], payload[5], payload[6], payload[7]]);
    let attributes: Vec<String> = message
        .attributes(16)
        .iter()
        .map(|(kind, value)| match kind {
            0 => format!("name {:?}", lossy_tail(value)),
            1 => format!("vfs of {} bytes", value.len()),
            2 => format!("peer {}", who(crate::netlink::number(value) as u32)),
            3 => {
                let all = value.chunks(4).map(|one| who(crate::netlink::number(one) as u32));
                format!("waiting {:?}", all.collect::<Vec<_>>())
            }
            4 => format!("queues {:?}", value.chunks(4).map(crate::netlink::number).collect::<Vec<_>>()),
            5 => format!("memory of {} bytes", value.len()),
            other => format!("{other} {value:?}"),
        })
        .collect();
    format!(
        "{} family {} type {} state {} | {}",
        who(inode),
        payload[0],
        payload[1],
        payload[2],
        attributes.join(", ")
    )
}

fn diag_unix(t: &mut Transcript) -> Outcome {
    isolated()?;
    let listener = crate::unix_help::socket(1)?;
    crate::unix_help::bind(listener, b"\0diag listener");
    sys!(SYS_listen, listener, 5);
    let client = crate::unix_help::socket(1)?;
    crate::unix_help::connect(client, b"\0diag listener");
    let (left, right) = crate::unix_help::pair(2)?;
    crate::unix_help::send(left, b"some bytes", 0);
    let fresh = crate::unix_help::socket(5)?;
    let mut names = Vec::new();
    for (fd, name) in
        [(listener, "listener"), (client, "client"), (left, "left"), (right, "right"), (fresh, "fresh")]
    {
        names.push((inode_of(fd)?, name));
    }
    let mut netlink = diag()?;
    for (what, states, show) in [
        ("all", u32::MAX, 0x5f),
        ("nothing shown", u32::MAX, 0),
        ("listening", 1 << 10, 1),
        ("connected", 1 << 1, 4),
        ("none", 0, 0x7f),
    ] {
        t.note("dump", what);
        let answer = netlink.ask(BY_FAMILY, DUMP, &raw_builder(&unix_request(states, 0, show, 0)));
        let mut lines: Vec<String> = answer
            .iter()
            .filter(|message| message.kind == BY_FAMILY)
            .map(|message| unix_line(message, &names))
            .collect();
        lines.sort();
        lines.iter().for_each(|line| t.note("  socket", line));
    }
    Ok(())
}

fn diag_unix_one(t: &mut Transcript) -> Outcome {
    isolated()?;
    let fd = crate::unix_help::socket(2)?;
    crate::unix_help::bind(fd, b"\0diag one");
    let inode = inode_of(fd)?;
    let names = [(inode, "it")];
    let mut netlink = diag()?;
    let cookie = crate::unix_help::cookie(fd, 57);
    let ask = crate::netlink::ACK;
    for (what, inode, cookie) in [
        ("any cookie", inode, u64::MAX),
        ("its cookie", inode, cookie),
        ("another cookie", inode, cookie + 1),
        ("no such", u32::MAX - 5, u64::MAX),
        ("none", 0, u64::MAX),
    ] {
        let answer = netlink.ask(BY_FAMILY, ask, &raw_builder(&unix_request(u32::MAX, inode, 0x41, cookie)));
        for message in &answer {
            match message.error() {
                Some(error) => t.note(what, error),
                None => t.note(what, unix_line(message, &names)),
            }
        }
    }
    Ok(())
}

fn diag_netlink(t: &mut Transcript) -> Outcome {
    isolated()?;
    let other = Socket::new(0)?;
    other.bind(5_000_000, 0x11);
    let (plain, user) = (Socket::new(0)?, Socket::new(2)?);
    plain.bind(5_000_001, 0);
    user.bind(5_000_002, 0);
    other.option(3, 1)?;
    let mut netlink = diag()?;
    for (protocol, show) in [(0, 0), (0, 0xb), (2, 2), (255, 0)] {
        let mut request = vec![16, protocol, 0, 0, 0, 0, 0, 0, show, 0, 0, 0];
        request.resize(20, 0);
        let answer = netlink.ask(BY_FAMILY, DUMP, &raw_builder(&request));
        let mut lines: Vec<String> = answer
            .iter()
            .filter(|message| message.kind == BY_FAMILY)
            .filter(|message| crate::netlink::number(&message.payload[4..]) >= 5_000_000)
            .map(|message| {
                let attributes: Vec<String> = message
                    .attributes(28)
                    .iter()
                    .map(|(kind, value)| match kind {
                        0 => format!("memory of {} bytes", value.len()),
                        1 => format!("groups {:?}", &value[..4]),
                        other => format!("{other} {value:?}"),
                    })
                    .collect();
                format!(
                    "{:?} port {} | {attributes:?}",
                    &message.payload[..4],
                    crate::netlink::number(&message.payload[4..])
                )
            })
            .collect();
        lines.sort();
        // Linux lists a socket that is in a group twice: once more where it goes through the groups.
        lines.dedup();
        t.note("protocol and shown", (protocol, show));
        lines.iter().for_each(|line| t.note("  socket", line));
    }
    Ok(())
}

fn diag_packet(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let (raw, datagram) = (open(3, ALL)?, open(2, 0)?);
    bind(raw, &link(0, 1, &[]));
    set(raw, SOL_PACKET, 1, &mreq(index_of("v0")?, 1, &[]));
    set_number(raw, SOL_PACKET, 8, 1);
    set_number(raw, SOL_PACKET, 10, 1);
    set(raw, SOL_PACKET, 5, &ring_request(&[4096, 2, 2048, 4]));
    attach(raw, &[(6, 0, 0, 100)]);
    let names = [(inode_of(raw)?, "raw"), (inode_of(datagram)?, "datagram")];
    let mut netlink = diag()?;
    for show in [0, 0x1f, 0x3f] {
        let mut request = vec![17, 0, 0, 0, 0, 0, 0, 0, show, 0, 0, 0];
        request.resize(20, 0);
        let answer = netlink.ask(BY_FAMILY, DUMP, &raw_builder(&request));
        t.note("shown", show);
        let mut lines: Vec<String> = answer
            .iter()
            .filter(|message| message.kind == BY_FAMILY)
            .map(|message| {
                let inode = crate::netlink::number(&message.payload[4..]) as u32;
                let name =
                    names.iter().find(|(known, _)| *known == inode).map_or("another", |(_, name)| *name);
                let attributes: Vec<String> = message
                    .attributes(16)
                    .iter()
                    .map(|(kind, value)| match kind {
                        6 => format!("memory of {} bytes", value.len()),
                        0 => format!(
                            "info {:?}",
                            value.chunks(4).map(crate::netlink::number).collect::<Vec<_>>()
                        ),
                        2 => format!(
                            "ring {:?}",
                            value.chunks(4).map(crate::netlink::number).collect::<Vec<_>>()
                        ),
                        other => format!("{other} {value:?}"),
                    })
                    .collect();
                format!("{name} {:?} | {attributes:?}", &message.payload[..4])
            })
            .collect();
        lines.sort();
        lines.iter().for_each(|line| t.note("  socket", line));
    }
    Ok(())
}

fn inet_request(family: u8, protocol: u8, extensions: u8, states: u32) -> Vec<u8> {
    let mut bytes = vec![family, protocol, extensions, 0];
    bytes.extend(states.to_ne_bytes());
    bytes.resize(56, 0);
    bytes
}

fn inet_line(message: &Message) -> String {
    let payload = &message.payload;
    let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    let attributes: Vec<String> = message
        .attributes(72)
        .iter()
        .filter(|(kind, _)| ![17, 20, 21].contains(*kind))
        .map(|(kind, value)| match kind {
            7 | 1 => format!("{kind} of {} bytes", value.len()),
            other => format!("{other} {value:?}"),
        })
        .collect();
    format!(
        "family {} state {} ports {} {} from {:?} to {:?} if {} queues {} {} | {}",
        payload[0],
        payload[1],
        port(4),
        port(6),
        &payload[8..24],
        &payload[24..40],
        crate::netlink::number(&payload[40..]),
        crate::netlink::number(&payload[56..]),
        crate::netlink::number(&payload[60..]),
        attributes.join(", ")
    )
}

fn inet_dump(t: &mut Transcript, netlink: &mut Socket, what: &str, body: &Builder) {
    t.note("dump", what);
    let answer = netlink.ask(BY_FAMILY, DUMP, body);
    let mut lines: Vec<String> =
        answer.iter().filter(|message| message.kind == BY_FAMILY).map(inet_line).collect();
    lines.sort();
    lines.iter().for_each(|line| t.note("  socket", line));
    answer.iter().filter_map(Message::error).for_each(|error| t.note("  error", error));
}

/// Three UDP sockets: bound, connected, of IPv6.
fn three() -> Result<[i32; 3], Failure> {
    let (bound, connected, six) = (udp(V4)?, udp(V4)?, udp(V6)?);
    bind(bound, &address("127.0.0.1", 9800));
    bind(connected, &address("127.0.0.1", 9801));
    connect(connected, &address("127.0.0.1", 9802));
    bind(six, &address("::1", 9803));
    Ok([bound, connected, six])
}

fn diag_udp(t: &mut Transcript) -> Outcome {
    isolated()?;
    let [bound, _, six] = three()?;
    set_number(bound, SOL_IP, 1, 0x10);
    set_number(bound, SOL_IP, 11, 1);
    set_number(six, SOL_IPV6, 67, 0x20);
    set(bound, 1, libc::SO_BINDTODEVICE, b"lo\0");
    let _fresh = udp(V4)?;
    let mut netlink = diag()?;
    for (what, family, extensions, states) in [
        ("IPv4", 2, 0, u32::MAX),
        ("IPv6", 10, 0, u32::MAX),
        ("with all", 2, 0xff, u32::MAX),
        ("IPv6 with all", 10, 0xff, u32::MAX),
        ("connected", 2, 0, 2),
        ("closed", 2, 0, 1 << 7),
        ("none", 2, 0, 0),
    ] {
        inet_dump(t, &mut netlink, what, &raw_builder(&inet_request(family, 17, extensions, states)));
    }
    inet_dump(t, &mut netlink, "TCP", &raw_builder(&inet_request(2, 6, 0, u32::MAX)));
    Ok(())
}

fn diag_filters(t: &mut Transcript) -> Outcome {
    isolated()?;
    let _all = three()?;
    let mut netlink = diag()?;
    let request = inet_request(2, 17, 0, u32::MAX);
    let operation = |code: u8, yes: u8, no: u16| [&[code, yes][..], &no.to_ne_bytes()].concat();
    let port = |code: u8, port: u16| [operation(code, 8, 12), operation(0, 0, port)].concat();
    let host = |code: u8, prefix: u8, port: i32, to: &[u8]| {
        let length = 12 + to.len() as u8;
        [
            operation(code, length, u16::from(length) + 4),
            vec![2, prefix, 0, 0],
            port.to_ne_bytes().to_vec(),
            to.to_vec(),
        ]
        .concat()
    };
    for (what, program) in [
        ("source port at least 9801", port(2, 9801)),
        ("source port at most 9800", port(3, 9800)),
        ("destination port at least 1", port(4, 1)),
        ("source port is 9801", port(11, 9801)),
        ("destination port is 9802", port(12, 9802)),
        ("from 127.0.0.1", host(7, 32, -1, &[127, 0, 0, 1])),
        ("from 127.0.0.0/8 and 9800", host(7, 8, 9800, &[127, 0, 0, 0])),
        ("from 10.0.0.0/8", host(7, 8, -1, &[10, 0, 0, 0])),
        ("to 127.0.0.1", host(8, 32, -1, &[127, 0, 0, 1])),
        ("automatic", operation(6, 4, 8)),
        ("unknown", operation(77, 4, 8)),
        ("cut", vec![2, 8]),
        ("a jump too far", operation(1, 4, 400)),
        ("a jump to nowhere", operation(0, 0, 0)),
        ("an odd jump", operation(0, 5, 8)),
        ("nothing", Vec::new()),
    ] {
        inet_dump(t, &mut netlink, what, &raw_builder(&request).attribute(1, &program));
    }
    let mut of_port = request.clone();
    of_port[8..10].copy_from_slice(&9801_u16.to_be_bytes());
    inet_dump(t, &mut netlink, "by the identity's port", &raw_builder(&of_port));
    Ok(())
}

fn diag_raw(t: &mut Transcript) -> Outcome {
    isolated()?;
    let (_four, _six) = (socket(V4, 3, 200)?, socket(V6, 3, 201)?);
    let mut netlink = diag()?;
    for family in [2, 10] {
        inet_dump(t, &mut netlink, "raw", &raw_builder(&inet_request(family, 255, 0, u32::MAX)));
    }
    Ok(())
}

/// PACKET_FANOUT: id, kind and flags in one word.
fn join(fd: i32, id: u32, kind_and_flags: u32) -> i64 {
    set_number(fd, SOL_PACKET, 18, (id | kind_and_flags << 16) as i32)
}

fn fanout_arguments(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let fd = open(3, 0x3412)?;
    t.note("at first", get_number(fd, SOL_PACKET, 18));
    t.call("two bytes", set(fd, SOL_PACKET, 18, &[1, 0]));
    t.call("six bytes", set(fd, SOL_PACKET, 18, &[1, 0, 0, 0, 0, 0]));
    for kind in [8, 9, 0xff, 0x1003] {
        t.call(&format!("kind {kind:#x}"), join(fd, 5, kind));
    }
    t.call("too many members", set(fd, SOL_PACKET, 18, &[5, 0, 0, 0, 1, 0, 1, 0]));
    t.call("without a protocol", join(open(3, 0)?, 5, 0));
    t.call("join", join(fd, 5, 1));
    t.note("is", get_number(fd, SOL_PACKET, 18));
    t.call("again", join(fd, 5, 1));
    t.call("bind", bind(fd, &link(0x1234, index_of("v1")?, &[])));
    for (what, protocol, id, kind) in [
        ("another kind", 0x3412, 5, 0),
        ("other flags", 0x3412, 5, 0x1001),
        ("another protocol", 0x3512, 5, 1),
        ("another id", 0x3412, 6, 1),
        ("any id", 0x3412, 0, 0x2001),
        ("any id but this", 0x3412, 3, 0x2001),
    ] {
        let other = open(3, protocol)?;
        t.call(what, join(other, id, kind));
        t.note("  is", get_number(other, SOL_PACKET, 18));
        close(other);
    }
    let other = open(3, 0x3412)?;
    bind(other, &link(0, index_of("v1")?, &[]));
    t.call("elsewhere", join(other, 5, 1));
    let (one, two, three) = (open(3, 0x3412)?, open(3, 0x3412)?, open(3, 0x3412)?);
    t.call("of two", set(one, SOL_PACKET, 18, &[7, 0, 1, 0, 2, 0, 0, 0]));
    t.call("of three", set(two, SOL_PACKET, 18, &[7, 0, 1, 0, 3, 0, 0, 0]));
    t.call("the second", set(two, SOL_PACKET, 18, &[7, 0, 1, 0, 2, 0, 0, 0]));
    t.call("the third", join(three, 7, 1));
    close(two);
    t.call("the third", join(three, 7, 1));
    Ok(())
}

/// What each of some sockets has seen.
fn counts(all: &[i32]) -> Vec<usize> {
    all.iter().map(|fd| std::iter::from_fn(|| receive(*fd, 10, libc::MSG_DONTWAIT).ok()).count()).collect()
}

fn fanout(t: &mut Transcript) -> Outcome {
    isolated()?;
    veth()?;
    let sender = open(3, 0)?;
    bind(sender, &link(0, index_of("v0")?, &[]));
    let group = |id: u32, kind: u32| -> Result<Vec<i32>, Failure> {
        let all: Vec<i32> = (0..3).map(|_| open(3, 0x3412)).collect::<Result<_, _>>()?;
        for fd in &all {
            bind(*fd, &link(0, index_of("v1")?, &[]));
            if join(*fd, id, kind) != 0 {
                return Err(Failure::Wrong("no group".to_owned()));
            }
        }
        Ok(all)
    };
    let send = |count: usize| (0..count).for_each(|_| _ = send_to(sender, &frame(0x1234, b"text"), 0, &[]));
    let turns = group(1, 1)?;
    send(9);
    t.note("by turns", counts(&turns));
    let flows = group(2, 0)?;
    send(9);
    let mut seen = counts(&flows);
    seen.sort_unstable();
    t.note("by flow", seen);
    t.note("the other group", counts(&turns));
    close(flows[0]);
    close(flows[1]);
    send(4);
    t.note("one is left", counts(&flows[2..]));
    turns.iter().for_each(|fd| close(*fd));
    let rolling = group(3, 3)?;
    rolling.iter().for_each(|fd| _ = set_number(*fd, 1, libc::SO_RCVBUF, 4096));
    send(5);
    let seen = counts(&rolling);
    t.note("rolling over", (seen.iter().sum::<usize>(), seen.iter().filter(|count| **count > 0).count()));
    down("v1")?;
    t.note("down", poll_events(rolling[0]));
    t.note("error", get_number(rolling[0], 1, libc::SO_ERROR));
    up("v1")?;
    // Linux leaves it to a worker that frames go through again.
    sleep_ms(500);
    send(3);
    t.note("up again", counts(&rolling).iter().sum::<usize>());
    // Frames from here are seen going out by a group of all protocols, but not those of its own members.
    let (one, two) = (open(3, ALL)?, open(3, ALL)?);
    for fd in [one, two] {
        bind(fd, &link(0, index_of("v0")?, &[]));
        t.call("join", join(fd, 4, 1));
    }
    send(2);
    t.note("another's", counts(&[one, two]));
    send_to(one, &frame(0x1234, b"own"), 0, &[]);
    t.note("a member's", counts(&[one, two]));
    Ok(())
}
