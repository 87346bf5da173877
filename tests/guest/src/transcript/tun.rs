//! `/dev/net/tun`: descriptors that are the other side of a device; what they may ask, read and write, and what is told of them.

use super::netlink::{acknowledgement, isolated};
use super::{Section, Transcript};
use crate::case::{Failure, Outcome};
use crate::inet_help::{self, V4};
use crate::netlink::*;
use crate::tun_help::*;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("tun_names", names),
    ("tun_joining", joining),
    ("tun_told", told),
    ("tun_settings", settings),
    ("tun_by_netlink", by_netlink),
    ("tun_packets", packets),
    ("tun_information", information),
    ("tun_virtio_header", virtio_header),
    ("tap_frames", tap_frames),
    ("tun_queue_is_bounded", queue_is_bounded),
    ("tun_queues", queues),
    ("tun_goes", goes),
    ("tun_moves", moves),
    ("tun_files", files),
];

fn named(name: &str) -> Builder {
    Builder::link(0, 0, 0).text(3, name)
}

/// What a link's message says: type, flags, MTU, queue length, carrier, addresses' lengths, kind's data.
fn link(t: &mut Transcript, what: &str, s: &mut Socket, name: &str) {
    let answers = s.ask(GETLINK, ACK, &named(name));
    let Some(message) = answers.first().filter(|message| message.kind == NEWLINK) else {
        return t.note(what, answers.first().map(acknowledgement));
    };
    let all = message.attributes(16);
    let get = |kind: u16| all.get(&kind).map(|value| number(value));
    let flags = number(&message.payload[8..]) as u32;
    let hardware = u16::from_ne_bytes([message.payload[2], message.payload[3]]);
    t.note(what, (hardware, format!("{flags:#x}"), get(4), get(13), all.get(&33), all.get(&16)));
    t.note(
        &format!("{what} ranges"),
        (get(50), get(51), all.get(&1).map(Vec::len), all.get(&2).map(Vec::len), get(31), get(32)),
    );
    let linked = attributes(all.get(&18).map_or(&[][..], |value| value));
    let data = attributes(linked.get(&2).map_or(&[][..], |value| value));
    t.note(&format!("{what} kind"), (linked.get(&1).map(|kind| text(kind)), data));
}

fn flags_of(tun: &Tun) -> Result<String, i32> {
    let mut request = request("", 0);
    tun.ioctl(TUNGETIFF, request.as_mut_ptr() as usize)?;
    Ok(format!("{} {:#x}", text(&request[..16]), u16::from_ne_bytes([request[16], request[17]])))
}

fn names(t: &mut Transcript) -> Outcome {
    isolated()?;
    let open = || Tun::open(libc::O_NONBLOCK);
    let tun = open()?;
    // Two ways of receiving are a matter of speed alone; senders that wait for readers are new in 7.3.
    t.note("features", tun.number(TUNGETFEATURES, 0).map(|features| format!("{:#x}", features & !0xb0)));
    t.note("read", tun.read(100));
    t.note("write", tun.write(b"something"));
    t.note("poll", tun.poll());
    t.note("flags", flags_of(&tun));
    t.note("persist", tun.ioctl(TUNSETPERSIST, 1));
    t.note("unknown", tun.ioctl(0x5400_54ff, 0));
    t.note("terminal's", tun.ioctl(0x5401, 0));
    t.note("of no kind", tun.set("a", 0));
    t.note("without a name", tun.set("", IFF_TUN));
    t.note("once more", tun.set("b", IFF_TUN));
    t.note("flags", flags_of(&tun));
    for (name, flags) in [
        ("t%d", IFF_TUN),
        ("", IFF_TAP | IFF_NO_PI),
        ("x y", IFF_TUN),
        ("a/b", IFF_TUN),
        ("%d%d", IFF_TUN),
        ("both", IFF_TUN | IFF_TAP | IFF_ONE_QUEUE),
        ("fifteen-letters", IFF_TUN),
        ("lo", IFF_TUN),
        ("v", IFF_VNET_HDR | IFF_TAP),
    ] {
        let tun = open()?;
        t.note(&format!("{name:?} {flags:#x}"), tun.set(name, flags));
        t.note("flags", flags_of(&tun));
    }
    let tun = open()?;
    t.note("negative index", tun.number(TUNSETIFINDEX, -1));
    t.note("index", tun.number(TUNSETIFINDEX, 77));
    t.note("name", tun.set("i", IFF_TUN));
    t.note("is", inet_help::index_of("i").ok());
    t.note("index again", tun.number(TUNSETIFINDEX, 78));
    let other = open()?;
    t.note("the same index", other.number(TUNSETIFINDEX, 77));
    t.note("name", other.set("j", IFF_TUN));
    t.note("bad pointer", open()?.ioctl(TUNSETIFF, 8));
    Ok(())
}

fn joining(t: &mut Transcript) -> Outcome {
    isolated()?;
    let one = Tun::attached("t", IFF_TUN | IFF_NO_PI)?;
    let other = Tun::open(libc::O_NONBLOCK)?;
    t.note("while another has", other.set("t", IFF_TUN));
    t.note("as a tap", other.set("t", IFF_TAP));
    t.note("exclusively", other.set("t", IFF_TUN | IFF_TUN_EXCL));
    t.note("with queues", other.set("t", IFF_TUN | IFF_MULTI_QUEUE));
    t.note("persist", one.ioctl(TUNSETPERSIST, 1));
    t.note("flags", flags_of(&one));
    drop(one);
    t.note("joins", other.set("t", IFF_TUN));
    t.note("flags", flags_of(&other));
    t.note("owner", other.ioctl(TUNSETOWNER, 1000));
    drop(other);
    let as_user = |user: u32, group: u32| {
        let tun = Tun::open(libc::O_NONBLOCK)?;
        // SAFETY: numbers only; this child ends afterwards.
        unsafe {
            libc::setresgid(group, group, group);
            libc::setgroups(0, std::ptr::null());
            libc::setresuid(user, user, user);
        }
        Ok::<_, Failure>(format!("{:?}", tun.set("t", IFF_TUN)))
    };
    for (user, group) in [(1000, 1000), (1001, 1000), (0, 0)] {
        let line = in_child(|| as_user(user, group))?;
        t.note(&format!("user {user} of group {group}"), line);
    }
    let last = Tun::attached("t", IFF_TUN)?;
    t.note("group", last.ioctl(TUNSETGROUP, 2000));
    t.note("nobody", last.ioctl(TUNSETOWNER, 0xffff_ffff));
    drop(last);
    for (user, group) in [(1000, 1000), (1000, 2000), (1001, 2000)] {
        let line = in_child(|| as_user(user, group))?;
        t.note(&format!("user {user} of group {group}"), line);
    }
    let last = Tun::attached("t", IFF_TUN)?;
    t.note("not persistent", last.ioctl(TUNSETPERSIST, 0));
    drop(last);
    t.note("is there", inet_help::index_of("t").is_ok());
    let line = in_child(|| as_user(1000, 1000))?;
    t.note("a user makes one", line);
    Ok(())
}

/// Runs `f` in a child and gives its line.
fn in_child(f: impl FnOnce() -> Result<String, Failure>) -> Result<String, Failure> {
    let (read, write) = crate::sys::pipe(0)?;
    crate::sys::in_child(|| {
        let line = f().unwrap_or_else(|_| "failed".to_owned());
        let _ = crate::sys::write(write, line.as_bytes());
        0
    })?;
    crate::sys::close(write);
    let bytes = crate::sys::read(read, 200)?;
    crate::sys::close(read);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn told(t: &mut Transcript) -> Outcome {
    isolated()?;
    let s = &mut Socket::route()?;
    for (name, flags) in [
        ("t0", IFF_TUN),
        ("t1", IFF_TUN | IFF_NO_PI | IFF_NO_CARRIER),
        ("a0", IFF_TAP),
        ("a1", IFF_TAP | IFF_MULTI_QUEUE | IFF_VNET_HDR),
    ] {
        let tun = Tun::attached(name, flags)?;
        link(t, name, s, name);
        t.note("persist", tun.ioctl(TUNSETPERSIST, 1));
        inet_help::up(name)?;
        // Linux tells of a carrier a little later.
        std::thread::sleep(std::time::Duration::from_millis(1200));
        link(t, "up", s, name);
        drop(tun);
        std::thread::sleep(std::time::Duration::from_millis(1200));
        link(t, "left", s, name);
    }
    Ok(())
}

fn settings(t: &mut Transcript) -> Outcome {
    isolated()?;
    let s = &mut Socket::route()?;
    let tun = Tun::attached("t", IFF_TUN | IFF_NO_PI)?;
    t.note("checksums", tun.ioctl(TUNSETNOCSUM, 1));
    t.note("debug", tun.ioctl(TUNSETDEBUG, 1));
    for offload in [0, 1, 2, 3, 6, 0xf, 0x10, 0x11, 0x21, 0x61, 0x1f, 0x7f, 0x1000, 0x1001] {
        t.note(&format!("offload {offload:#x}"), tun.ioctl(TUNSETOFFLOAD, offload));
    }
    t.note("send buffer", tun.number(TUNGETSNDBUF, 0));
    for size in [-1, 0, 1, 5000] {
        t.note(&format!("set to {size}"), tun.number(TUNSETSNDBUF, size));
    }
    t.note("send buffer", tun.number(TUNGETSNDBUF, 0));
    t.note("header", tun.number(TUNGETVNETHDRSZ, 0));
    for size in [-1, 0, 9, 12, 20] {
        t.note(&format!("set to {size}"), tun.number(TUNSETVNETHDRSZ, size));
    }
    t.note("header", tun.number(TUNGETVNETHDRSZ, 0));
    for kind in [1, 512, 776, 32, 65534] {
        t.note(&format!("type {kind}"), tun.ioctl(TUNSETLINK, kind));
        link(t, "then", s, "t");
    }
    inet_help::up("t")?;
    t.note("type while up", tun.ioctl(TUNSETLINK, 1));
    t.note("carrier", tun.number(TUNSETCARRIER, 0));
    std::thread::sleep(std::time::Duration::from_millis(1200));
    link(t, "then", s, "t");
    t.note("carrier", tun.number(TUNSETCARRIER, 1));
    let mut asked = request("nothing", 0);
    t.note("address", tun.ioctl(SIOCGIFHWADDR, asked.as_mut_ptr() as usize));
    t.note("is", (text(&asked[..16]), asked[16..32].to_vec()));
    t.note("set", tun.ioctl(SIOCSIFHWADDR, asked.as_mut_ptr() as usize));
    let tap = Tun::attached("a", IFF_TAP)?;
    let mut wanted = request("", 1);
    wanted[18..24].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    t.note("set a tap's", tap.ioctl(SIOCSIFHWADDR, wanted.as_mut_ptr() as usize));
    let mut asked = request("", 0);
    t.note("address", tap.ioctl(SIOCGIFHWADDR, asked.as_mut_ptr() as usize));
    t.note("is", asked[16..32].to_vec());
    wanted[18] = 1;
    t.note("a group's", tap.ioctl(SIOCSIFHWADDR, wanted.as_mut_ptr() as usize));
    wanted[16] = 7;
    t.note("another family", tap.ioctl(SIOCSIFHWADDR, wanted.as_mut_ptr() as usize));
    Ok(())
}

fn act(t: &mut Transcript, what: &str, s: &mut Socket, kind: u16, flags: u16, body: &Builder) {
    let answers = s.ask(kind, flags | ACK, body);
    t.note(what, answers.last().map(acknowledgement).unwrap_or_else(|| "no answer".to_owned()));
}

fn by_netlink(t: &mut Transcript) -> Outcome {
    isolated()?;
    let s = &mut Socket::route()?;
    act(t, "make", s, NEWLINK, CREATE | EXCL, &named("t").kind("tun"));
    let tun = Tun::attached("t", IFF_TUN)?;
    let tap = Tun::attached("a", IFF_TAP)?;
    for name in ["t", "a"] {
        let index = s.index_of(name);
        let at = || Builder::link(index, 0, 0);
        act(t, "change", s, NEWLINK, 0, &named(name).kind("tun"));
        act(t, "mtu 67", s, SETLINK, 0, &at().number(4, 67));
        act(t, "mtu 68", s, SETLINK, 0, &at().number(4, 68));
        act(t, "mtu 65521", s, SETLINK, 0, &at().number(4, 65521));
        act(t, "mtu 65522", s, SETLINK, 0, &at().number(4, 65522));
        act(t, "mtu 65535", s, SETLINK, 0, &at().number(4, 65535));
        act(t, "mtu 65536", s, SETLINK, 0, &at().number(4, 65536));
        act(t, "address", s, SETLINK, 0, &at().attribute(1, &[2, 0, 0, 0, 0, 9]));
        act(t, "carrier", s, SETLINK, 0, &at().attribute(33, &[0]));
        act(t, "rename", s, SETLINK, 0, &at().text(3, &format!("{name}x")));
    }
    t.note("flags", flags_of(&tun));
    t.note("flags", flags_of(&tap));
    Ok(())
}

const HERE: [u8; 4] = [10, 9, 0, 1];
const THERE: [u8; 4] = [10, 9, 0, 2];

/// A tun device `t` that is up with an address.
fn running(flags: u16) -> Result<(Tun, Socket), Failure> {
    isolated()?;
    without_ipv6();
    let mut s = Socket::route()?;
    let tun = Tun::attached("t", flags)?;
    give_address(&mut s, "t", HERE)?;
    inet_help::up("t")?;
    Ok((tun, s))
}

/// Packets and bytes in and out, drops in and out.
fn counters(t: &mut Transcript, s: &mut Socket, name: &str) {
    let answers = s.ask(GETLINK, ACK, &named(name));
    let all = answers.first().map(|message| message.attributes(16)).unwrap_or_default();
    let wide = all.get(&23).cloned().unwrap_or_default();
    let get = |at: usize| {
        wide.get(8 * at..8 * at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
    };
    t.note(
        "counters",
        (get(0), get(1), get(2), get(3), ("errors", get(4), get(5)), ("drops", get(6), get(7))),
    );
}

fn packets(t: &mut Transcript) -> Outcome {
    let (tun, mut s) = running(IFF_TUN | IFF_NO_PI)?;
    t.note("poll", tun.poll());
    t.note("read", tun.read(100));
    let udp = inet_help::udp(V4)?;
    t.note("bind", inet_help::bind(udp, &inet_help::address("10.9.0.1", 7000)));
    let there = inet_help::address("10.9.0.2", 9);
    for text in ["one", "two", "three", "four"] {
        t.note("send", inet_help::send_to(udp, text.as_bytes(), 0, &there));
    }
    t.note("poll", tun.poll());
    t.note("nothing", tun.read(0));
    t.note("read", tun.read(100).map(|bytes| shown(&bytes)));
    t.note("short read", tun.read(20).map(|bytes| bytes.len()));
    t.note("read", tun.read(100).map(|bytes| shown(&bytes)));
    let mut parts = [[0u8; 20], [0; 20]];
    let vectors =
        parts.each_mut().map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: 20 });
    // SAFETY: two buffers of 20 bytes.
    t.note("readv", result(unsafe { libc::readv(tun.0, vectors.as_ptr(), 2) } as i64));
    t.note("is", shown(&parts.concat()));
    t.note("read", tun.read(100));
    counters(t, &mut s, "t");
    let packet = udp_packet(THERE, HERE, (9, 7000), b"hello");
    t.note("write", tun.write(&packet));
    t.note("comes", inet_help::receive(udp, 100, 0).map(|got| inet_help::lossy(&got.bytes)));
    let (head, tail) = packet.split_at(13);
    let vectors =
        [head, tail].map(|part| libc::iovec { iov_base: part.as_ptr() as *mut _, iov_len: part.len() });
    // SAFETY: two live slices.
    t.note("writev", result(unsafe { libc::writev(tun.0, vectors.as_ptr(), 2) } as i64));
    t.note("comes", inet_help::receive(udp, 100, 0).map(|got| inet_help::lossy(&got.bytes)));
    t.note("write of nothing", tun.write(&[]));
    t.note("version 5", tun.write(&[0x50; 40]));
    t.note("one byte", tun.write(&[0x45]));
    counters(t, &mut s, "t");
    inet_help::down("t")?;
    t.note("poll while down", tun.poll());
    t.note("write while down", tun.write(&packet));
    t.note("read while down", tun.read(100));
    t.note("bad pointer", result(unsafe { libc::syscall(libc::SYS_write, tun.0, 8, 40) }));
    t.note("seek", result(unsafe { libc::lseek(tun.0, 0, libc::SEEK_SET) }));
    Ok(())
}

fn information(t: &mut Transcript) -> Outcome {
    let (tun, mut s) = running(IFF_TUN)?;
    let udp = inet_help::udp(V4)?;
    inet_help::bind(udp, &inet_help::address("10.9.0.1", 7000));
    let there = inet_help::address("10.9.0.2", 9);
    for text in ["one", "two", "three"] {
        t.note("send", inet_help::send_to(udp, text.as_bytes(), 0, &there));
    }
    t.note("read", tun.read(100).map(|bytes| (bytes[..4].to_vec(), shown(&bytes[4..]))));
    t.note("short", tun.read(20).map(|bytes| (bytes.len(), bytes[..4].to_vec())));
    t.note("shorter than what is in front", tun.read(3));
    t.note("then", tun.read(100));
    let packet = udp_packet(THERE, HERE, (9, 7000), b"hello");
    t.note("write", tun.write(&[&[0, 0, 8, 0][..], &packet].concat()));
    t.note("comes", inet_help::receive(udp, 100, 0).map(|got| inet_help::lossy(&got.bytes)));
    t.note("of no protocol", tun.write(&[&[0, 0, 0x12, 0x34][..], &packet].concat()));
    t.note("short", tun.write(&[0, 0, 8]));
    t.note("only that", tun.write(&[0, 0, 8, 0]));
    counters(t, &mut s, "t");
    Ok(())
}

fn virtio_header(t: &mut Transcript) -> Outcome {
    let (tun, mut s) = running(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)?;
    let udp = inet_help::udp(V4)?;
    inet_help::bind(udp, &inet_help::address("10.9.0.1", 7000));
    t.note("send", inet_help::send_to(udp, b"one", 0, &inet_help::address("10.9.0.2", 9)));
    t.note("read", tun.read(100).map(|bytes| (bytes[..10].to_vec(), shown(&bytes[10..]))));
    let packet = udp_packet(THERE, HERE, (9, 7000), b"hello");
    t.note("write", tun.write(&[&[0; 10][..], &packet].concat()));
    t.note("comes", inet_help::receive(udp, 100, 0).map(|got| inet_help::lossy(&got.bytes)));
    // The sum of the pseudo header is in its place; the rest is asked for.
    let mut partial = packet.clone();
    let pseudo = [&THERE[..], &HERE, &[0, 17], &13u16.to_be_bytes()].concat();
    partial[26..28].copy_from_slice(&(!checksum(&pseudo)).to_be_bytes());
    let header = |flags: u8, gso: u8, start: u16, offset: u16| {
        [&[flags, gso, 0, 0, 0, 0][..], &start.to_ne_bytes(), &offset.to_ne_bytes()].concat()
    };
    t.note("to be summed", tun.write(&[header(1, 0, 20, 6), partial.clone()].concat()));
    t.note("comes", inet_help::receive(udp, 100, 0).map(|got| inet_help::lossy(&got.bytes)));
    t.note("summed beyond its end", tun.write(&[header(1, 0, 200, 6), partial.clone()].concat()));
    t.note("not to be summed", tun.write(&[header(0, 0, 20, 6), partial].concat()));
    t.note("short", tun.write(&[0; 9]));
    t.note("only that", tun.write(&[0; 10]));
    t.note("set", tun.number(TUNSETVNETHDRSZ, 12));
    t.note("write", tun.write(&[&[0; 12][..], &packet].concat()));
    t.note("comes", inet_help::receive(udp, 100, 0).map(|got| inet_help::lossy(&got.bytes)));
    t.note("send", inet_help::send_to(udp, b"two", 0, &inet_help::address("10.9.0.2", 9)));
    t.note("read", tun.read(100).map(|bytes| shown(&bytes[12..])));
    t.note("send", inet_help::send_to(udp, b"three", 0, &inet_help::address("10.9.0.2", 9)));
    t.note("short read", tun.read(11));
    counters(t, &mut s, "t");
    Ok(())
}

fn tap_frames(t: &mut Transcript) -> Outcome {
    const KIND: u16 = 0x88b5;
    isolated()?;
    without_ipv6();
    let s = &mut Socket::route()?;
    let tap = Tun::attached("a", IFF_TAP | IFF_NO_PI)?;
    let index = s.index_of("a");
    act(t, "address", s, SETLINK, 0, &Builder::link(index, 0, 0).attribute(1, &[2, 0, 0, 0, 0, 1]));
    inet_help::up("a")?;
    let raw = inet_help::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(KIND.to_be()))?;
    inet_help::limit(raw);
    let place = |to: [u8; 6]| {
        let mut address = vec![17, 0];
        address.extend(KIND.to_be_bytes());
        address.extend(index.to_ne_bytes());
        address.extend([0, 0, 0, 6]);
        address.extend(to);
        address.extend([0, 0]);
        address
    };
    let frame = |to: [u8; 6], data: &[u8]| [&to[..], &[2, 0, 0, 0, 0, 2], &KIND.to_be_bytes(), data].concat();
    let sent = frame([2, 0, 0, 0, 0, 9], b"a frame of somebody");
    t.note("send", inet_help::send_to(raw, &sent, 0, &place([2, 0, 0, 0, 0, 9])));
    t.note("read", tap.read(100) == Ok(sent));
    for to in [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        t.note("write", tap.write(&frame(to, b"hello")));
        let got = inet_help::receive(raw, 100, 0);
        t.note("comes", got.map(|got| (got.bytes.len(), got.bytes == frame(to, b"hello"))));
    }
    t.note("only a header", tap.write(&frame([0xff; 6], b"")));
    t.note("comes", inet_help::receive(raw, 100, 0).map(|got| got.bytes.len()));
    t.note("shorter than a header", tap.write(&[0; 13]));
    counters(t, s, "a");
    Ok(())
}

fn queue_is_bounded(t: &mut Transcript) -> Outcome {
    isolated()?;
    without_ipv6();
    let mut socket = Socket::route()?;
    let tun = Tun::attached("t", IFF_TUN | IFF_NO_PI)?;
    let s = &mut socket;
    let index = s.index_of("t");
    act(t, "length", s, SETLINK, 0, &Builder::link(index, 0, 0).number(13, 3));
    give_address(s, "t", HERE)?;
    inet_help::up("t")?;
    let udp = inet_help::udp(V4)?;
    let there = inet_help::address("10.9.0.2", 9);
    for number in 0..6 {
        let text = format!("{number}");
        // What a full queue does to a sender is a matter of when it was filled.
        inet_help::send_to(udp, text.as_bytes(), 0, &there);
    }
    for _ in 0..4 {
        t.note("read", tun.read(100).map(|bytes| shown(&bytes)));
    }
    Ok(())
}

fn queues(t: &mut Transcript) -> Outcome {
    const MULTI: u16 = IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE;
    let (one, mut socket) = running(MULTI)?;
    let s = &mut socket;
    link(t, "one", s, "t");
    let two = Tun::open(libc::O_NONBLOCK)?;
    t.note("without queues", two.set("t", IFF_TUN | IFF_NO_PI));
    t.note("two", two.set("t", IFF_TUN | IFF_MULTI_QUEUE | IFF_VNET_HDR));
    t.note("flags", (flags_of(&one), flags_of(&two)));
    link(t, "two", s, "t");
    let udp = inet_help::udp(V4)?;
    let send =
        |number: u8| inet_help::send_to(udp, b"x", 0, &inet_help::address(&format!("10.9.0.{number}"), 9));
    for number in 2..34 {
        send(number);
    }
    let count = |tun: &Tun| std::iter::from_fn(|| tun.read(100).ok()).count();
    t.note("all come", count(&one) + count(&two));
    let ask = |tun: &Tun, flags: u16| {
        let mut request = request("", flags);
        tun.ioctl(TUNSETQUEUE, request.as_mut_ptr() as usize)
    };
    t.note("neither", ask(&two, 0));
    t.note("attach what is", ask(&two, IFF_ATTACH_QUEUE));
    t.note("detach", ask(&two, IFF_DETACH_QUEUE));
    t.note("again", ask(&two, IFF_DETACH_QUEUE));
    t.note("flags", flags_of(&two));
    link(t, "one takes part", s, "t");
    for number in 2..34 {
        send(number);
    }
    t.note("all come to one", (count(&one), count(&two)));
    t.note("read", two.read(100));
    t.note("attach", ask(&two, IFF_ATTACH_QUEUE));
    link(t, "both", s, "t");
    drop(one);
    for number in 2..34 {
        send(number);
    }
    t.note("all come to the other", count(&two));
    let single = Tun::attached("s", IFF_TUN)?;
    t.note("detach of a single one", ask(&single, IFF_DETACH_QUEUE));
    t.note("of none", ask(&Tun::open(0)?, IFF_DETACH_QUEUE));
    Ok(())
}

fn goes(t: &mut Transcript) -> Outcome {
    let (tun, mut socket) = running(IFF_TUN | IFF_NO_PI)?;
    let s = &mut socket;
    let udp = inet_help::udp(V4)?;
    inet_help::send_to(udp, b"one", 0, &inet_help::address("10.9.0.2", 9));
    act(t, "delete", s, DELLINK, 0, &named("t"));
    t.note("poll", tun.poll());
    t.note("read", tun.read(100));
    t.note("write", tun.write(&udp_packet(THERE, HERE, (9, 7000), b"hello")));
    t.note("flags", flags_of(&tun));
    t.note("it joins anew", tun.set("u", IFF_TUN));
    t.note("flags", flags_of(&tun));
    drop(tun);
    t.note("is there", s.index_of("u") > 0);
    // Who waits is woken.
    let waits = Tun::open(0)?;
    t.note("name", waits.set("w", IFF_TUN));
    let fd = waits.0;
    let thread = std::thread::spawn(move || {
        let tun = std::mem::ManuallyDrop::new(Tun(fd));
        tun.read(100)
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    act(t, "delete", s, DELLINK, 0, &named("w"));
    t.note("read", thread.join().ok());
    Ok(())
}

fn moves(t: &mut Transcript) -> Outcome {
    let (tun, mut socket) = running(IFF_TUN | IFF_NO_PI)?;
    let s = &mut socket;
    let there = new_namespace()?;
    inside(&there, || {
        without_ipv6();
        Ok(())
    })?;
    let index = s.index_of("t");
    act(t, "move", s, SETLINK, 0, &Builder::link(index, 0, 0).number(28, there.0));
    t.note("is here", s.index_of("t") > 0);
    t.note("flags", flags_of(&tun));
    let udp = inside(&there, || {
        give_address(&mut Socket::route()?, "t", HERE)?;
        inet_help::up("t")?;
        let udp = inet_help::udp(V4)?;
        inet_help::bind(udp, &inet_help::address("10.9.0.1", 7000));
        Ok(udp)
    })?;
    t.note("send", inet_help::send_to(udp, b"one", 0, &inet_help::address("10.9.0.2", 9)));
    t.note("read", tun.read(100).map(|bytes| shown(&bytes)));
    t.note("write", tun.write(&udp_packet(THERE, HERE, (9, 7000), b"hello")));
    t.note("comes", inet_help::receive(udp, 100, 0).map(|got| inet_help::lossy(&got.bytes)));
    crate::sys::close(udp);
    drop(there);
    // The namespace goes, and its devices with it.
    for _ in 0..100 {
        if tun.read(100) == Err(libc::EBADFD) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    t.note("poll", tun.poll());
    t.note("read", tun.read(100));
    Ok(())
}

fn files(t: &mut Transcript) -> Outcome {
    isolated()?;
    // SAFETY: numbers and texts that end.
    unsafe {
        crate::sys::ok("unshare", libc::unshare(libc::CLONE_NEWNS))?;
        let (none, root, kind) = (c"none".as_ptr(), c"/".as_ptr(), c"sysfs".as_ptr());
        libc::mount(none, root, none, libc::MS_REC | libc::MS_PRIVATE, std::ptr::null());
        crate::sys::ok("sysfs", libc::mount(none, c"/sys".as_ptr(), kind, 0, std::ptr::null()))?;
    }
    let read = |t: &mut Transcript, path: &str| {
        t.note(path, std::fs::read_to_string(path).map_err(|error| error.raw_os_error()));
    };
    let tun = Tun::open(libc::O_NONBLOCK)?;
    for path in ["/sys/class/misc/tun/dev", "/sys/class/misc/tun/uevent"] {
        read(t, path);
    }
    t.note("link", std::fs::read_link("/sys/class/misc/tun").ok());
    t.note("by number", std::fs::read_link("/sys/dev/char/10:200").ok());
    let information = |t: &mut Transcript| {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", tun.0)).unwrap_or_default();
        t.note("fdinfo", text.lines().filter(|line| line.starts_with("iff")).collect::<Vec<_>>());
    };
    information(t);
    t.note("name", tun.set("t", IFF_TUN | IFF_NO_PI));
    information(t);
    t.note("owner", tun.ioctl(TUNSETOWNER, 1000));
    for file in
        ["tun_flags", "owner", "group", "type", "address", "addr_assign_type", "tx_queue_len", "uevent"]
    {
        read(t, &format!("/sys/class/net/t/{file}"));
    }
    t.note("group", tun.ioctl(TUNSETGROUP, 7));
    t.note("persist", tun.ioctl(TUNSETPERSIST, 1));
    inet_help::up("t")?;
    for file in ["tun_flags", "group", "speed", "duplex", "carrier"] {
        read(t, &format!("/sys/class/net/t/{file}"));
    }
    t.note("a link without them", std::fs::read("/sys/class/net/lo/tun_flags").is_ok());
    Ok(())
}
