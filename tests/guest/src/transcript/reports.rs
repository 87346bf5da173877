//! What routers are told of multicast groups: IGMPv3 and MLDv2 as the other end of a pair of veths sees them.

use super::{Section, Transcript};
use crate::case::{Failure, Outcome};
use crate::inet_help::{V4, V6, address, bind, index_of, isolated, limit, set, socket, up, veth};
use crate::netlink::{Builder, CREATE, SETLINK, Socket};
use crate::sys::{close, sleep_ms};
use std::time::{Duration, Instant};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("reports_join_4", |t| joins(t, V4)),
    ("reports_join_6", |t| joins(t, V6)),
    ("reports_two_4", |t| two(t, V4)),
    ("reports_two_6", |t| two(t, V6)),
    ("reports_query_4", |t| query(t, V4)),
    ("reports_query_6", |t| query(t, V6)),
    ("reports_silent_4", silent),
    ("reports_igmpv1", igmpv1),
    ("reports_igmpv2", igmpv2),
    ("reports_igmpv2_asked", igmpv2_asked),
    ("reports_igmp_forced", forced),
];

/// What is heard at the other end within some time, without what was heard before.
struct Ear {
    fd: i32,
    family: i32,
}

impl Drop for Ear {
    fn drop(&mut self) {
        close(self.fd);
    }
}

/// Waits until nothing more comes by itself.
const SETTLE_MS: u64 = 4500;
/// Longer than a change is told of.
const LISTEN: Duration = Duration::from_millis(2600);

impl Ear {
    fn new(family: i32) -> Result<Ear, Failure> {
        isolated()?;
        veth()?;
        let mut netlink = Socket::route()?;
        // Its own groups follow from this.
        netlink.errno(SETLINK, 0, &Builder::link(index_of("v0")?, 0, 0).attribute(1, &[2, 0, 0, 0, 0, 1]));
        if family == V6 {
            std::fs::write("/proc/sys/net/ipv6/conf/v0/disable_ipv6", "0")
                .map_err(|error| error.to_string())?;
        } else {
            let header = [&[V4 as u8, 24, 0, 0][..], &index_of("v0")?.to_ne_bytes()].concat();
            netlink.errno(20, CREATE, &Builder(header).attribute(2, &[10, 0, 0, 1]));
        }
        up("v0")?;
        sleep_ms(SETTLE_MS);
        let fd = socket(libc::AF_PACKET, libc::SOCK_RAW, 0x0300)?;
        let mut place = vec![17, 0, 0, 3];
        place.extend(index_of("v1")?.to_ne_bytes());
        place.resize(20, 0);
        bind(fd, &place);
        limit(fd);
        let ear = Ear { fd, family };
        while ear.next(Duration::ZERO).is_some() {}
        Ok(ear)
    }

    /// The next frame that is not one's own.
    fn next(&self, wait: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now()).as_millis() as i32;
            let mut poll = libc::pollfd { fd: self.fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd.
            if unsafe { libc::poll(&raw mut poll, 1, left) } != 1 {
                return None;
            }
            let (mut frame, mut from) = (vec![0; 2000], [0_u8; 20]);
            let mut size = 20_u32;
            // SAFETY: the buffers are as long as is said.
            let length = unsafe {
                libc::recvfrom(
                    self.fd,
                    frame.as_mut_ptr().cast(),
                    frame.len(),
                    0,
                    from.as_mut_ptr().cast(),
                    &raw mut size,
                )
            };
            const OUTGOING: u8 = 4;
            if length > 0 && from[10] != OUTGOING {
                frame.truncate(length as usize);
                return Some(frame);
            }
        }
    }

    /// Notes the reports that are heard.
    fn note(&self, t: &mut Transcript, what: &str) {
        t.line(format_args!("{what}"));
        let end = Instant::now() + LISTEN;
        while let Some(frame) = self.next(end.saturating_duration_since(Instant::now())) {
            if let Some(line) = shown(&frame, self.family) {
                t.line(format_args!("  {line}"));
            }
        }
    }

    fn send(&self, kind: u16, to: [u8; 6], packet: &[u8]) {
        let frame = [&to[..], &[2, 0, 0, 0, 0, 9], &kind.to_be_bytes(), packet].concat();
        // SAFETY: the buffer is valid.
        unsafe { libc::send(self.fd, frame.as_ptr().cast(), frame.len(), 0) };
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A report, from its addresses on, without what differs from run to run.
fn shown(frame: &[u8], family: i32) -> Option<String> {
    let to = hex(frame.get(..6)?);
    let packet = frame.get(14..)?;
    if family == V4 {
        if frame.get(12..14)? != [8, 0] || packet.get(9)? != &2 {
            return None;
        }
        let (header, message) = packet.split_at_checked(usize::from(packet[0] & 15) * 4)?;
        let fixed = [&header[..4], &header[6..10], &header[12..]].concat();
        return Some(format!("{to} {} {}", hex(&fixed), hex(message)));
    }
    let is_report = frame.get(12..14)? == [0x86, 0xdd] && packet.get(48)? == &143;
    // The flow label is drawn by lot; the address that it is from is one of the device's own, and so is the checksum.
    let is_from_near = packet.get(8..10)? == [0xfe, 0x80];
    let rest = packet.get(52..)?;
    let fixed = [&packet[4..8], &packet[24..50]].concat();
    is_report.then(|| format!("{to} near {is_from_near} {} {}", hex(&fixed), hex(rest)))
}

fn group(family: i32, number: u8) -> Vec<u8> {
    let address = if family == V4 { format!("239.1.2.{number}") } else { format!("ff15::{number}") };
    crate::inet_help::address(&address, 0)
}

fn change(fd: i32, family: i32, name: i32, number: u8) -> Result<i64, Failure> {
    let mut request = index_of("v0")?.to_ne_bytes().to_vec();
    request.extend([0; 4]);
    request.extend(group(family, number));
    request.resize(136, 0);
    Ok(set(fd, if family == V4 { 0 } else { 41 }, name, &request))
}

/// MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP.
const JOIN: i32 = 42;
const LEAVE: i32 = 45;

fn joins(t: &mut Transcript, family: i32) -> Outcome {
    let ear = Ear::new(family)?;
    let (one, other) = (socket(family, libc::SOCK_DGRAM, 0)?, socket(family, libc::SOCK_DGRAM, 0)?);
    t.call("join", change(one, family, JOIN, 1)?);
    ear.note(t, "one has joined");
    t.call("join", change(other, family, JOIN, 1)?);
    ear.note(t, "another has joined");
    t.call("leave", change(one, family, LEAVE, 1)?);
    ear.note(t, "one has left");
    close(other);
    ear.note(t, "the other is gone");
    Ok(())
}

fn two(t: &mut Transcript, family: i32) -> Outcome {
    let ear = Ear::new(family)?;
    let fd = socket(family, libc::SOCK_DGRAM, 0)?;
    t.call("join", change(fd, family, JOIN, 1)?);
    ear.note(t, "one group");
    t.call("join", change(fd, family, JOIN, 2)?);
    t.call("leave", change(fd, family, LEAVE, 2)?);
    ear.note(t, "in and out");
    t.call("join", change(fd, family, JOIN, 3)?);
    ear.note(t, "another group");
    close(fd);
    ear.note(t, "both are gone");
    Ok(())
}

/// A router asks for all groups.
fn query(t: &mut Transcript, family: i32) -> Outcome {
    let ear = Ear::new(family)?;
    let fd = socket(family, libc::SOCK_DGRAM, 0)?;
    t.call("join", change(fd, family, JOIN, 1)?);
    ear.note(t, "one group");
    if family == V4 {
        ask_4(&ear, &[0x11, 1, 0, 0, 0, 0, 0, 0, 2, 20, 0, 0]);
    } else {
        let from = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let to = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut message = vec![130, 0, 0, 0, 0, 100, 0, 0];
        message.extend([0; 16]);
        message.extend([2, 20, 0, 0]);
        let pseudo = [&from[..], &to, &[0, 0, 0, 28, 0, 0, 0, 58], &message].concat();
        message[2..4].copy_from_slice(&checksum(&pseudo));
        let header = [&[0x60, 0, 0, 0, 0, 36, 0, 1][..], &from, &to, &[58, 0, 5, 2, 0, 0, 1, 0]].concat();
        ear.send(0x86dd, [0x33, 0x33, 0, 0, 0, 1], &[header, message].concat());
    }
    ear.note(t, "a router has asked");
    close(fd);
    Ok(())
}

/// A router's IGMP message to all.
fn ask_4(ear: &Ear, message: &[u8]) {
    let mut message = message.to_vec();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    let length = 24 + message.len() as u8;
    let mut header =
        vec![0x46, 0xc0, 0, length, 0, 0, 0, 0, 1, 2, 0, 0, 10, 0, 0, 9, 224, 0, 0, 1, 0x94, 4, 0, 0];
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    ear.send(0x0800, [1, 0, 0x5e, 0, 0, 1], &[header, message].concat());
}

fn setting(name: &str, value: &str) -> Outcome {
    let path = format!("/proc/sys/net/ipv4/conf/v0/{name}");
    Ok(std::fs::write(path, value).map_err(|error| error.to_string())?)
}

/// Which version a device is said to speak.
fn version(t: &mut Transcript) {
    let text = std::fs::read_to_string("/proc/net/igmp").unwrap_or_default();
    let line = text.lines().find(|line| line.contains("v0")).unwrap_or_default();
    t.note("version", line.split_whitespace().last());
}

/// What is told when a group is joined, and when it is left.
fn join_and_leave(t: &mut Transcript, ear: &Ear, fd: i32) -> Outcome {
    t.call("join", change(fd, V4, JOIN, 1)?);
    ear.note(t, "joined");
    t.call("leave", change(fd, V4, LEAVE, 1)?);
    ear.note(t, "left");
    Ok(())
}

/// A router that speaks IGMPv1: it asks while there is nothing to say, since an answer may come as late as it likes.
fn igmpv1(t: &mut Transcript) -> Outcome {
    let ear = Ear::new(V4)?;
    setting("igmpv2_unsolicited_report_interval", "400")?;
    version(t);
    ask_4(&ear, &[0x11, 0, 0, 0, 0, 0, 0, 0]);
    ear.note(t, "a router has asked");
    version(t);
    let fd = socket(V4, libc::SOCK_DGRAM, 0)?;
    join_and_leave(t, &ear, fd)?;
    close(fd);
    Ok(())
}

/// Questions of a router that speaks IGMPv2.
fn igmpv2_asked(t: &mut Transcript) -> Outcome {
    let ear = Ear::new(V4)?;
    let fd = socket(V4, libc::SOCK_DGRAM, 0)?;
    t.call("join", change(fd, V4, JOIN, 1)?);
    ear.note(t, "joined");
    ask_4(&ear, &[0x11, 1, 0, 0, 0, 0, 0, 0]);
    ear.note(t, "a router has asked");
    version(t);
    ask_4(&ear, &[0x11, 1, 0, 0, 239, 1, 2, 1]);
    ear.note(t, "for this group");
    ask_4(&ear, &[0x11, 1, 0, 0, 239, 1, 2, 2]);
    ear.note(t, "for another");
    ask_4(&ear, &[0x11, 1, 0, 0, 0, 0, 0, 0, 2, 20, 0, 0]);
    ear.note(t, "in the words of the third version");
    close(fd);
    Ok(())
}

/// What a router that speaks IGMPv2 is told.
fn igmpv2(t: &mut Transcript) -> Outcome {
    let ear = Ear::new(V4)?;
    setting("igmpv2_unsolicited_report_interval", "400")?;
    ask_4(&ear, &[0x11, 1, 0, 0, 0, 0, 0, 0]);
    ear.note(t, "a router has asked");
    let fd = socket(V4, libc::SOCK_DGRAM, 0)?;
    join_and_leave(t, &ear, fd)?;
    close(fd);
    Ok(())
}

fn forced(t: &mut Transcript) -> Outcome {
    let ear = Ear::new(V4)?;
    setting("igmpv2_unsolicited_report_interval", "400")?;
    let fd = socket(V4, libc::SOCK_DGRAM, 0)?;
    for number in ["1", "2"] {
        setting("force_igmp_version", number)?;
        version(t);
        join_and_leave(t, &ear, fd)?;
    }
    close(fd);
    Ok(())
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 = bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Groups that routers are not told of.
fn silent(t: &mut Transcript) -> Outcome {
    let ear = Ear::new(V4)?;
    let fd = socket(V4, libc::SOCK_DGRAM, 0)?;
    let mut request = index_of("v0")?.to_ne_bytes().to_vec();
    request.extend([0; 4]);
    request.extend(address("224.0.0.1", 0));
    request.resize(136, 0);
    t.call("join", set(fd, 0, JOIN, &request));
    ear.note(t, "all systems");
    close(fd);
    ear.note(t, "gone");
    Ok(())
}
