//! Addresses, routes, rules and settings of both families: what rtnetlink answers to good and bad requests, byte by byte.
//!
//! A section is a list of steps, each a line: a request (`newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1`: message, flags, the numbers of
//! the header, then attributes by number), or something that happens (`up d0`), or a look at a file. Values are addresses, `dev:NAME` (an
//! index), `u8:`, `u16:`, `u32:`, `i32:`, `s:TEXT`, `x:HEX`, `c:PREFERRED:VALID` (lifetimes), `m:KIND=NUMBER,…` (metrics),
//! `u64:`, `n:KIND=VALUE,…` (attributes), `g:ID/WEIGHT,…` (a group of next hops), `p:DEVICE,HOPS,FLAGS,GATEWAY|…` (next hops). Answers are noted with their attributes in the order in which they came. Key type: [`Lab`].

use super::{Section, Transcript};
use crate::case::{Failure, Outcome};
use crate::netlink::{ACK, Builder, DUMP, Message, Socket};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Makes a function and an entry of each list of steps.
macro_rules! sections {
    ($($name:ident [$($step:literal;)*])*) => {
        $(fn $name(t: &mut Transcript) -> Outcome {
            Lab::new()?.run(t, &[$($step),*])
        })*
        /// The sections of this file.
        pub const SECTIONS: &[Section] = &[$((concat!("ip_", stringify!($name)), $name)),*];
    };
}

/// Waits while IPv6 looks for duplicates of its own addresses.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(600));
}

/// A network namespace of its own with a socket to ask through.
struct Lab {
    socket: Socket,
    listener: Option<Socket>,
}

/// Name, number, and bytes of each number in the header.
const MESSAGES: &[(&str, u16, &[u8])] = &[
    ("newaddr", 20, &[1, 1, 1, 1, 4]),
    ("deladdr", 21, &[1, 1, 1, 1, 4]),
    ("getaddr", 22, &[1, 1, 1, 1, 4]),
    ("dumpaddr", 22, &[1, 1, 1, 1, 4]),
    ("newroute", 24, &[1, 1, 1, 1, 1, 1, 1, 1, 4]),
    ("delroute", 25, &[1, 1, 1, 1, 1, 1, 1, 1, 4]),
    ("getroute", 26, &[1, 1, 1, 1, 1, 1, 1, 1, 4]),
    ("dumproute", 26, &[1, 1, 1, 1, 1, 1, 1, 1, 4]),
    ("newneigh", 28, &[1, 1, 2, 4, 2, 1, 1]),
    ("delneigh", 29, &[1, 1, 2, 4, 2, 1, 1]),
    ("getneigh", 30, &[1, 1, 2, 4, 2, 1, 1]),
    ("dumpneigh", 30, &[1, 1, 2, 4, 2, 1, 1]),
    ("getneightbl", 66, &[1, 1, 2]),
    ("dumpneightbl", 66, &[1, 1, 2]),
    ("setneightbl", 67, &[1, 1, 2]),
    ("newnexthop", 104, &[1, 1, 1, 1, 4]),
    ("delnexthop", 105, &[1, 1, 1, 1, 4]),
    ("getnexthop", 106, &[1, 1, 1, 1, 4]),
    ("dumpnexthop", 106, &[1, 1, 1, 1, 4]),
    ("newrule", 32, &[1, 1, 1, 1, 1, 3, 4]),
    ("delrule", 33, &[1, 1, 1, 1, 1, 3, 4]),
    ("getrule", 34, &[1, 1, 1, 1, 1, 3, 4]),
    ("dumprule", 34, &[1, 1, 1, 1, 1, 3, 4]),
    ("getnetconf", 82, &[4]),
    ("dumpnetconf", 82, &[4]),
    ("dumpmaddr", 58, &[1, 1, 1, 1, 4]),
    ("dumplink6", 18, &[4, 4, 4, 4]),
];

const FLAGS: &[(&str, u16)] =
    &[("create", 0x400), ("excl", 0x200), ("replace", 0x100), ("append", 0x800), ("echo", 8)];

fn wrong(what: &str) -> Failure {
    Failure::Wrong(what.to_owned())
}

fn parse(text: &str) -> Result<u32, Failure> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse::<i64>().ok().map(|number| number as u32),
    };
    parsed.ok_or_else(|| wrong(text))
}

fn index(name: &str) -> Result<u32, Failure> {
    let text = std::ffi::CString::new(name).map_err(|_| wrong(name))?;
    // SAFETY: a string that ends with a zero.
    Ok(unsafe { libc::if_nametoindex(text.as_ptr()) })
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).collect()
}

fn address(text: &str) -> Option<Vec<u8>> {
    let four = text.parse::<Ipv4Addr>().map(|address| address.octets().to_vec());
    four.or_else(|_| text.parse::<Ipv6Addr>().map(|address| address.octets().to_vec())).ok()
}

/// A value of an attribute, as bytes.
fn value(text: &str) -> Result<Vec<u8>, Failure> {
    if let Some(bytes) = address(text) {
        return Ok(bytes);
    }
    let (kind, rest) = text.split_once(':').ok_or_else(|| wrong(text))?;
    Ok(match kind {
        "dev" => index(rest)?.to_ne_bytes().to_vec(),
        "u8" => vec![parse(rest)? as u8],
        "u16" => (parse(rest)? as u16).to_ne_bytes().to_vec(),
        "u32" | "i32" => parse(rest)?.to_ne_bytes().to_vec(),
        "u64" => u64::from(parse(rest)?).to_ne_bytes().to_vec(),
        "s" => [rest.as_bytes(), &[0]].concat(),
        "n" => {
            let mut inner = Builder::default();
            for one in rest.split(',') {
                let (kind, text) = one.split_once('=').ok_or_else(|| wrong(text))?;
                inner = inner.attribute(parse(kind)? as u16, &value(text)?);
            }
            inner.0
        }
        "g" => {
            let mut bytes = Vec::new();
            for one in rest.split(',') {
                let (id, weight) = one.split_once('/').ok_or_else(|| wrong(text))?;
                bytes.extend_from_slice(&parse(id)?.to_ne_bytes());
                bytes.extend_from_slice(&[parse(weight)? as u8, 0, 0, 0]);
            }
            bytes
        }
        "x" => hex(rest),
        "c" => {
            let (preferred, valid) = rest.split_once(':').ok_or_else(|| wrong(text))?;
            [parse(preferred)?, parse(valid)?, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect()
        }
        "m" => {
            let mut inner = Builder::default();
            for one in rest.split(',') {
                let (kind, number) = one.split_once('=').ok_or_else(|| wrong(text))?;
                inner = inner.number(parse(kind)? as u16, parse(number)? as i32);
            }
            inner.0
        }
        "p" => next_hops(rest)?,
        _ => return Err(wrong(text)),
    })
}

/// RTA_MULTIPATH.
fn next_hops(text: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    for one in text.split('|') {
        let parts: Vec<&str> = one.split(',').collect();
        let [device, hops, flags, gateway] = parts[..] else { return Err(wrong(one)) };
        let inner = match address(gateway) {
            Some(gateway) => Builder::default().attribute(5, &gateway).0,
            None => Vec::new(),
        };
        bytes.extend_from_slice(&(8 + inner.len() as u16).to_ne_bytes());
        bytes.extend([parse(flags)? as u8, parse(hops)? as u8]);
        let device = if device == "0" { 0 } else { index(device)? };
        bytes.extend_from_slice(&device.to_ne_bytes());
        bytes.extend(inner);
    }
    Ok(bytes)
}

/// A request's message type, flags and body.
fn request(line: &str) -> Result<(u16, u16, Builder), Failure> {
    let (head, tail) = line.split_once(';').unwrap_or((line, ""));
    let mut words = head.split_whitespace();
    let (name, flags) =
        words.next().map(|word| word.split_once('+').unwrap_or((word, ""))).unwrap_or_default();
    let (_, kind, sizes) = MESSAGES.iter().find(|(known, ..)| *known == name).ok_or_else(|| wrong(line))?;
    let mut bits = if name.starts_with("dump") { DUMP } else { ACK };
    for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
        bits |= FLAGS.iter().find(|(known, _)| *known == flag).ok_or_else(|| wrong(flag))?.1;
    }
    let mut header = Vec::new();
    for (word, size) in words.zip(*sizes) {
        let number =
            if word.starts_with(|first: char| first.is_ascii_digit()) { parse(word)? } else { index(word)? };
        // Three bytes: two that are zero, then the number.
        let skip = if *size == 3 { 2 } else { 0 };
        header.resize(header.len() + skip, 0);
        header.extend_from_slice(&number.to_ne_bytes()[..usize::from(*size) - skip]);
    }
    let mut body = Builder(header);
    for one in tail.split_whitespace() {
        let (kind, text) = one.split_once('=').ok_or_else(|| wrong(one))?;
        body = body.attribute(parse(kind)? as u16, &value(text)?);
    }
    Ok((*kind, bits, body))
}

/// Bytes of the header of a message.
fn header_length(kind: u16) -> usize {
    match kind {
        16..=19 => 16,
        20..=22 | 58 => 8,
        24..=26 | 28..=30 | 32..=34 => 12,
        104..=106 => 8,
        _ => 4,
    }
}

/// What is different each time, left out.
fn shown(kind: u16, attribute: u16, value: &[u8]) -> String {
    let word = |at: usize| {
        value
            .get(at..at + 4)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| i32::from_ne_bytes(*bytes))
    };
    match (kind, attribute) {
        (20..=22 | 58, 6) => {
            let one = |word: i32| match word {
                -1 => "ever".to_owned(),
                // A second may have passed.
                seconds => format!("{}0s", (seconds + 5) / 10),
            };
            format!("{}/{}", one(word(0)), one(word(4)))
        }
        (28..=30, 3) | (64..=67, 7) => "…".to_owned(),
        // But for the bytes of an address all of this is of a table's inside.
        (64..=67, 5) => value.iter().take(2).map(|byte| format!("{byte:02x}")).collect(),
        (64..=67, 6) => numbers_of(value),
        // Times and counters; `linkspec` looks into it.
        (16, 12) => "…".to_owned(),
        (24..=26, 12) => format!("expires {} error {}", word(8) != 0, word(12)),
        _ => value.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// The numbers in a nest, without references and what is drawn by lot.
fn numbers_of(nest: &[u8]) -> String {
    let wanted = |kind: &u16| ![2, 3].contains(kind);
    let number = |value: &[u8]| value.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let all = crate::netlink::attributes(nest);
    let shown =
        all.iter().filter(|(kind, _)| wanted(kind)).map(|(kind, one)| format!("{kind}:{}", number(one)));
    shown.collect::<Vec<_>>().join(",")
}

/// A message in a line: type, flags, header, attributes in order.
fn describe(message: &Message) -> String {
    if message.kind == 2 || message.kind == 3 {
        return super::netlink::acknowledgement(message);
    }
    let length = header_length(message.kind).min(message.payload.len());
    let header: String = message.payload[..length].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut line = format!("{} {:#x} {header}", message.kind, message.flags & !2);
    let mut rest = &message.payload[length..];
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        if length < 4 || length > rest.len() {
            break;
        }
        line += &format!(" {kind}={}", shown(message.kind, kind & 0x3fff, &rest[4..length]));
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    line
}

impl Lab {
    fn new() -> Result<Lab, Failure> {
        super::netlink::isolated()?;
        Ok(Lab { socket: Socket::route()?, listener: None })
    }

    fn run(&mut self, t: &mut Transcript, steps: &[&str]) -> Outcome {
        steps.iter().try_for_each(|step| self.step(t, step))
    }

    /// A change of a device, which must work.
    fn change(&mut self, kind: u16, flags: u16, body: &Builder) -> Outcome {
        match self.socket.errno(kind, flags, body) {
            0 => Ok(()),
            other => Err(wrong(&format!("a device did not change: {other}"))),
        }
    }

    fn step(&mut self, t: &mut Transcript, step: &str) -> Outcome {
        let words: Vec<&str> = step.split_whitespace().collect();
        let link = |name: &str| Ok::<_, Failure>(index(name)? as i32);
        match words[..] {
            ["up", name] => {
                self.change(19, 0, &Builder::link(link(name)?, 1, 1))?;
                settle();
                Ok(())
            }
            ["down", name] => self.change(19, 0, &Builder::link(link(name)?, 0, 1)),
            ["mtu", name, mtu] => {
                let body = Builder::link(link(name)?, 0, 0).number(4, parse(mtu)? as i32);
                self.change(19, 0, &body)?;
                settle();
                Ok(())
            }
            ["rename", name, new] => self.change(19, 0, &Builder::link(link(name)?, 0, 0).text(3, new)),
            ["add", name, address] => {
                let bytes = hex(&address.replace(':', ""));
                let body = Builder::link(0, 0, 0).text(3, name).attribute(1, &bytes).kind("dummy");
                self.change(16, 0x600, &body)
            }
            ["remove", name] => self.change(17, 0, &Builder::link(link(name)?, 0, 0)),
            ["move", name] => self.move_away(link(name)?),
            ["strict", on] => self.socket.option(12, parse(on)? as i32),
            ["listen", ref groups @ ..] => {
                let listener = Socket::route()?;
                listener.bind(0, 0);
                for group in groups {
                    listener.option(1, parse(group)? as i32)?;
                }
                self.listener = Some(listener);
                Ok(())
            }
            ["wait"] => {
                std::thread::sleep(std::time::Duration::from_millis(400));
                Ok(())
            }
            ["heard", ref order @ ..] => {
                self.hear(t, !order.is_empty());
                Ok(())
            }
            ["sysctl", path, ref values @ ..] => {
                let done = std::fs::write(format!("/proc/sys/{path}"), values.join(" "));
                let done = done.map_err(|error| error.to_string());
                t.line(format_args!("{step}: {done:?}"));
                if path.ends_with("disable_ipv6") {
                    settle();
                }
                Ok(())
            }
            ["list", path] => {
                let folder = std::fs::read_dir(format!("/proc/{path}")).map_err(|error| error.to_string())?;
                let mut names: Vec<String> =
                    folder.flatten().map(|one| one.file_name().to_string_lossy().into_owned()).collect();
                names.sort_unstable();
                t.line(format_args!("{path}: {}", names.join(" ")));
                Ok(())
            }
            ["show", path] => {
                let text = std::fs::read_to_string(format!("/proc/sys/{path}"));
                let text = text.map_err(|error| error.to_string());
                t.line(format_args!("{path}: {text:?}"));
                Ok(())
            }
            [how @ ("file" | "file6" | "sorted"), path] => file(t, how, path),
            ["linkspec", name] => self.link_specification(t, link(name)?, name),
            ["nobody", ..] => super::netlink::as_nobody(t, |t| {
                Lab { socket: Socket::route()?, listener: None }.ask(t, &step["nobody ".len()..])
            }),
            _ => self.ask(t, step),
        }
    }

    /// Notes what the listener heard, sorted where Linux tells it in the order of a hash.
    fn hear(&self, t: &mut Transcript, is_sorted: bool) {
        let heard = self.listener.iter().flat_map(Socket::pending);
        let mut lines: Vec<String> = heard.flat_map(|one| one.messages).map(|one| describe(&one)).collect();
        if is_sorted {
            lines.sort_unstable();
        }
        t.line(format_args!("heard {}", lines.len()));
        lines.iter().for_each(|line| t.line(format_args!("  {line}")));
    }

    fn ask(&mut self, t: &mut Transcript, step: &str) -> Outcome {
        let (kind, flags, body) = request(step)?;
        let answers = self.socket.ask(kind, flags, &body);
        if kind == 20 && body.0[0] == 10 {
            // Linux leaves the rest to a worker.
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        t.line(format_args!("{step}"));
        // Rules of multicast routing are there or not, as a Linux is configured.
        let is_of_ip = |one: &&Message| one.kind != 32 || [2, 10].contains(&one.payload[0]);
        let mut lines: Vec<String> = answers.iter().filter(is_of_ip).map(describe).collect();
        if kind == 30 {
            // The last says that it is over; those before it come in the order of a hash.
            let end = lines.len().saturating_sub(1);
            lines[..end].sort_unstable();
        }
        lines.iter().for_each(|line| t.line(format_args!("  {line}")));
        Ok(())
    }

    /// Moves a device to a namespace that a child holds.
    fn move_away(&mut self, device: i32) -> Outcome {
        let (reading, writing) = crate::sys::pipe(0)?;
        // SAFETY: the child only makes calls and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: numbers only; the buffer is one byte.
            unsafe {
                libc::unshare(libc::CLONE_NEWNET);
                libc::write(writing, b"x".as_ptr().cast(), 1);
                libc::pause();
                libc::_exit(0);
            }
        }
        let mut byte = [0u8; 1];
        // SAFETY: the buffer is one byte.
        unsafe { libc::read(reading, byte.as_mut_ptr().cast(), 1) };
        let done = self.change(19, 0, &Builder::link(device, 0, 0).number(19, child));
        // SAFETY: our child.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        done
    }

    /// What IFLA_AF_SPEC says of a device, without times and counters.
    fn link_specification(&mut self, t: &mut Transcript, device: i32, name: &str) -> Outcome {
        let answers = self.socket.ask(18, ACK, &Builder::link(device, 0, 0));
        let Some(message) = answers.iter().find(|one| one.kind == 16) else { return Err(wrong(name)) };
        let Some(families) = message.attributes(16).remove(&26) else { return Err(wrong(name)) };
        for (family, inside) in crate::netlink::attributes(&families) {
            for (kind, value) in crate::netlink::attributes(&inside) {
                // Times, counters, and how long a neighbour is reachable, which is random.
                if family == 10 && [3, 5, 6].contains(&kind) {
                    continue;
                }
                let words: Vec<i32> = value
                    .chunks(4)
                    .map(|word| {
                        word.first_chunk().map_or(i32::from(word[0]), |word| i32::from_ne_bytes(*word))
                    })
                    .collect();
                t.line(format_args!("{name} family {family} {kind}: {words:?}"));
            }
        }
        Ok(())
    }
}

/// A file below `/proc`; `file6`: sorted, since Linux has the lines in the order of a hash; `sorted`: sorted.
fn file(t: &mut Transcript, how: &str, path: &str) -> Outcome {
    let text = std::fs::read_to_string(format!("/proc/{path}")).map_err(|error| wrong(&error.to_string()))?;
    let mut lines: Vec<&str> = text.lines().collect();
    if how != "file" {
        lines.sort_unstable();
    }
    t.line(format_args!("{path}"));
    lines.iter().for_each(|line| t.line(format_args!("  {line:?}")));
    Ok(())
}

sections! {
loopback [
    "dumpaddr 0 0 0 0 0";
    "up lo";
    "dumpaddr 0 0 0 0 0";
    "dumproute 0 0 0 0 0 0 0 0 0";
    "down lo";
    "dumpaddr 0 0 0 0 0";
    "dumproute 0 0 0 0 0 0 0 0 0";
    "up lo";
    "dumpaddr 2 0 0 0 0";
    "dumpaddr 10 0 0 0 0";
]
new_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr 2 24 0 0 d0; 2=10.0.0.2 1=10.0.0.2 4=10.0.0.255 3=s:d0:x";
    "newaddr 2 32 0 0 d0; 2=10.9.0.1 1=10.9.0.2";
    "newaddr 2 8 0 253 d0; 2=172.16.0.1";
    "newaddr 2 8 0 254 d0; 2=192.168.0.1 8=u32:0x200 9=u32:77 11=u8:9";
    "dumpaddr 2 0 0 0 0";
    "dumproute 2 0 0 0 0 0 0 0 0";
]
new_v4_bad [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr 2 33 0 0 d0; 2=10.0.0.1";
    "newaddr 2 24 0 0 d0; 1=10.0.0.1";
    "newaddr 2 24 0 0 99; 2=10.0.0.1";
    "newaddr 2 24 0 0 0; 2=10.0.0.1";
    "newaddr 2 24 0 0 d0; 2=10.0.0.1 6=c:0:0";
    "newaddr 2 24 0 0 d0; 2=10.0.0.1 6=c:20:10";
    "newaddr 2 24 0 0 d0; 2=u16:3";
    "newaddr 2 24 0 0 d0; 2=10.0.0.1 3=s:sixteen-bytes-xx";
    "newaddr 2 24 0 0 d0; 2=10.0.0.1 6=u32:1";
    "newaddr 2 24; 2=10.0.0.1";
    "newaddr 7 24 0 0 d0; 2=10.0.0.1";
    "newaddr 0 24 0 0 d0; 2=10.0.0.1";
    "newaddr 2 24 0 0 d0; 2=10.0.0.1 99=u32:1";
    "dumpaddr 2 0 0 0 0";
]
new_v4_scopes [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr 2 24 0 253 d0; 2=10.0.0.2";
    "newaddr 2 25 0 253 d0; 2=10.0.0.3";
    "newaddr 2 24 0 254 d0; 2=10.0.1.3";
    "newaddr 2 24 0 200 d0; 2=10.0.2.3";
    "dumpaddr 2 0 0 0 0";
]
new_v4_odd [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr 2 24 0 0 d0; 2=0.0.0.0";
    "newaddr 2 32 0 0 d0; 2=224.0.0.7";
    "newaddr 2 32 0 0 d0; 2=255.255.255.255";
    "newaddr 2 31 0 0 d0; 2=10.0.0.2";
    "newaddr 2 32 0 0 d0; 2=10.0.0.9";
    "newaddr 2 0 0 0 d0; 2=10.0.5.9";
    "newaddr 2 30 0 0 d0; 2=10.0.6.1 4=255.255.255.255";
    "dumpaddr 2 0 0 0 0";
    "dumproute 2 0 0 0 0 0 0 0 0";
]
replace_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,replace 2 24 0 0 d0; 2=10.0.0.1";
    "newaddr+replace 2 24 0 0 d0; 2=10.0.0.1 6=c:50:100";
    "dumpaddr 2 0 0 0 0";
    "newaddr+replace 2 24 0 0 d0; 2=10.0.0.1 9=u32:50 11=u8:3";
    "dumpaddr 2 0 0 0 0";
    "dumproute 2 0 0 0 254 0 0 0 0";
    "newaddr+replace,excl 2 24 0 0 d0; 2=10.0.0.1";
]
delete_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr 2 24 0 0 d0; 2=10.0.0.2";
    "newaddr 2 24 0 0 d0; 2=10.0.0.3";
    "newaddr 2 16 0 0 d0; 2=10.8.0.1";
    "deladdr 2 24 0 0 d0; 2=10.0.0.9";
    "deladdr 2 24 0 0 99; 2=10.0.0.1";
    "deladdr 2 25 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "deladdr 2 24 0 0 d0; 2=10.0.0.2 3=s:other";
    "deladdr 2 24 0 0 d0; 2=10.0.0.2 3=s:d0";
    "dumpaddr 2 0 0 0 0";
    "deladdr 2 24 0 0 d0; 2=10.0.0.1";
    "dumpaddr 2 0 0 0 0";
    "dumproute 2 0 0 0 0 0 0 0 0";
    "deladdr 2 0 0 0 d0";
    "dumpaddr 2 0 0 0 0";
    "dumproute 2 0 0 0 0 0 0 0 0";
]
promote_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "sysctl net/ipv4/conf/d0/promote_secondaries 1";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr 2 24 0 0 d0; 2=10.0.0.2";
    "newaddr 2 24 0 0 d0; 2=10.0.0.3";
    "newaddr 2 24 0 0 d0; 2=10.1.0.3";
    "listen 5 7";
    "deladdr 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "heard";
    "dumpaddr 2 0 0 0 0";
    "dumproute 2 0 0 0 0 0 0 0 0";
]
events_v4 [
    "up lo";
    "listen 5 7";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr 2 24 0 0 d0; 2=10.0.0.2";
    "newaddr+replace 2 24 0 0 d0; 2=10.0.0.2 6=c:50:100";
    "heard";
    "down d0";
    "heard";
    "up d0";
    "heard";
    "deladdr 2 24 0 0 d0; 2=10.0.0.1";
    "heard";
    "remove d0";
    "heard";
]
events_v6 [
    "up lo";
    "listen 9 11";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "wait";
    "heard";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "wait";
    "newaddr+replace 10 64 0 0 d0; 1=2001:db8::1 6=c:50:100";
    "wait";
    "heard";
    "down d0";
    "wait";
    "heard";
    "up d0";
    "wait";
    "heard";
    "newaddr 10 64 2 0 d0; 1=2001:db8::1";
    "wait";
    "deladdr 10 64 0 0 d0; 1=2001:db8::1";
    "wait";
    "heard";
    "remove d0";
    "wait";
    "heard";
]
echo [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "listen 5";
    "newaddr+create,excl,echo 2 24 0 0 d0; 2=10.0.0.1";
    "heard";
    "newroute+create,echo 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 4=dev:d0";
]
new_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newaddr 10 64 2 0 d0; 1=2001:db8::1";
    "newaddr 10 64 2 0 d0; 1=2001:db8::6 2=2001:db8::5";
    "newaddr 10 128 2 0 d0; 1=2001:db8:1::5 9=u32:70 11=u8:5";
    "newaddr 10 64 2 0 d0; 1=2001:db8:2::5 8=u32:0x202";
    "newaddr 10 64 2 0 d0; 1=fec0::1";
    "newaddr 10 64 2 0 d0; 1=fe80::5";
    "newaddr 10 48 2 0 d0; 1=2001:db8:3::5 6=c:20:40";
    "dumpaddr 10 0 0 0 0";
    "dumproute 10 0 0 0 0 0 0 0 0";
]
new_v6_bad [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr 10 129 0 0 d0; 1=2001:db8::1";
    "newaddr 10 64 0 0 d0";
    "newaddr 10 64 0 0 99; 1=2001:db8::1";
    "newaddr 10 64 0 0 d0; 1=::";
    "newaddr 10 64 0 0 d0; 1=ff02::5";
    "newaddr 10 128 0 0 d0; 1=::1";
    "newaddr 10 64 0 0 d0; 1=10.0.0.1";
    "newaddr 10 64 0 0 d0; 1=2001:db8::1 6=c:0:0";
    "newaddr 10 64 0 0 d0; 1=2001:db8::1 6=c:20:10";
    "newaddr 10 64 6 0 d0; 1=2001:db8::1";
    "newaddr 10 60 0 0 d0; 1=2001:db8::1 8=u32:0x100";
    "sysctl net/ipv6/conf/d0/disable_ipv6 1";
    "newaddr 10 64 0 0 d0; 1=2001:db8::1";
    "dumpaddr 10 0 0 0 0";
]
replace_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newaddr+replace 10 64 0 0 d0; 1=2001:db8::1 6=c:10:20";
    "dumpaddr 10 0 0 0 0";
    "newaddr+replace 10 64 0 0 d0; 1=2001:db8::1 8=u32:0x200";
    "dumproute 10 0 0 0 254 0 0 0 0";
    "newaddr+replace 10 64 0 0 d0; 1=2001:db8::1 9=u32:99";
    "dumproute 10 0 0 0 254 0 0 0 0";
    "dumpaddr 10 0 0 0 0";
]
delete_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newaddr 10 64 2 0 d0; 1=2001:db8::2";
    "deladdr 10 64 0 0 d0; 1=2001:db8::9";
    "deladdr 10 63 0 0 d0; 1=2001:db8::1";
    "deladdr 10 64 0 0 99; 1=2001:db8::1";
    "deladdr 10 129 0 0 d0; 1=2001:db8::1";
    "deladdr 10 64 0 0 d0";
    "deladdr 10 64 0 0 d0; 1=2001:db8::1";
    "dumproute 10 0 0 0 0 0 0 0 0";
    "deladdr 10 64 0 0 d0; 1=2001:db8::2";
    "dumproute 10 0 0 0 0 0 0 0 0";
]
get_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "getaddr 10 0 0 0 0; 1=2001:db8::1";
    "getaddr 10 0 0 0 d0; 1=2001:db8::1";
    "getaddr 10 0 0 0 lo; 1=2001:db8::1";
    "getaddr 10 0 0 0 0; 1=2001:db8::2";
    "getaddr 10 0 0 0 0";
    "getaddr 2 0 0 0 0; 1=10.0.0.1";
    "getaddr 0 0 0 0 0";
    "strict 1";
    "getaddr 10 64 0 0 0; 1=2001:db8::1";
    "getaddr 10 0 0 0 0; 1=2001:db8::1 3=s:x";
    "getaddr 10 0 0 0 0; 1=2001:db8::1";
]
dump_strict [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "strict 1";
    "dumpaddr 2 0 0 0 0";
    "dumpaddr 2 0 0 0 d0";
    "dumpaddr 10 0 0 0 d0";
    "dumpaddr 2 0 0 0 99";
    "dumpaddr 2 8 0 0 0";
    "dumpaddr 10 8 0 0 0";
    "dumpaddr 2 0 0 0 0; 1=10.0.0.1";
    "dumpaddr 10 0 0 0 0; 1=2001:db8::1";
    "dumpaddr 2 0 0 0 0; 10=u32:7";
    "dumpaddr 10 0 0 0 0; 10=u32:7";
    "dumpaddr 2";
    "dumpaddr 10";
    "dumpaddr 0";
    "dumpaddr 7 0 0 0 0";
    "dumpaddr 0 0 0 0 0";
    "dumpaddr 2 0 0 0 0; 99=u32:1";
]
dump_liberal [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "dumpaddr 2";
    "dumpaddr 10";
    "dumpaddr 2 9 9 9 99";
    "dumpaddr 7 0 0 0 0";
]
flush_by_device [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "add d1 02:00:00:00:00:02";
    "up d1";
    "newaddr 2 24 0 0 d1; 2=10.5.0.1";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.3.0 5=10.5.0.9";
    "remove d0";
    "dumproute 0 0 0 0 0 0 0 0 0";
    "dumpaddr 0 0 0 0 0";
]
rename [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr 2 24 0 0 d0; 2=10.0.1.1 3=s:d0:x";
    "newaddr 2 24 0 0 d0; 2=10.0.2.1 3=s:other";
    "down d0";
    "rename d0 longer-name-ab";
    "dumpaddr 2 0 0 0 0";
]
route_new_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newroute+create,excl 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create,excl 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create,excl 2 24 0 0 254 4 253 1 0; 1=192.0.3.0 4=dev:d0";
    "newroute+create,excl 2 0 0 0 254 3 0 1 0; 5=10.0.0.254 6=u32:100";
    "newroute+create 2 32 0 16 254 4 0 1 0; 1=192.0.4.1 5=10.0.0.8 7=10.0.0.1 11=u32:5";
    "newroute+create 2 24 0 0 0 4 0 1 0; 1=192.0.5.0 5=10.0.0.8 15=u32:1000";
    "newroute+create 2 25 0 0 254 4 0 6 0; 1=192.0.6.0";
    "newroute+create 2 25 0 0 254 4 0 7 0; 1=192.0.7.0";
    "newroute+create 2 25 0 0 254 4 0 8 0; 1=192.0.8.0";
    "newroute+create 2 25 0 0 254 4 0 9 0; 1=192.0.9.0";
    "newroute+create 2 24 0 0 254 4 0 1 4; 1=192.0.10.0 4=dev:d0 5=99.0.0.1";
    "dumproute 2 0 0 0 0 0 0 0 0";
]
route_new_v4_bad [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newroute+create 2 33 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 23 0 0 254 4 0 1 0; 1=192.0.3.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 4=u32:99";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=99.0.0.1";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.255";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.1";
    "newroute+create 2 24 0 3 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 0 12 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 0 0 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 0 10 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 255 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 0 2 0; 1=192.0.2.0 4=dev:d0";
    "newroute+create 2 24 0 0 254 4 254 2 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 0 6 0; 1=192.0.2.0 4=dev:d0";
    "newroute+create 2 24 0 0 254 4 0 1 1; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 0 1 4; 1=192.0.2.0 5=99.0.0.1";
    "newroute+create 2 24 0 0 254 4 253 1 4; 1=192.0.2.0 4=dev:d0";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9 7=9.9.9.9";
    "newroute 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9 30=u32:7";
    "newroute+create 2 24; 1=192.0.2.0";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=u16:5 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9 18=x:0200";
    "dumproute 2 0 0 0 254 0 0 0 0";
]
route_down_device [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "newaddr 2 24 0 0 d0; 2=10.0.0.1";
    "newroute+create 2 24 0 0 254 4 253 1 0; 1=192.0.2.0 4=dev:d0";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 4 0 1 4; 1=192.0.2.0 4=dev:d0 5=10.0.0.9";
    "dumproute 2 0 0 0 0 0 0 0 0";
    "up d0";
    "dumproute 2 0 0 0 0 0 0 0 0";
]
route_metrics_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9 8=m:2=1400,1=4,8=900,10=9";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.3.0 5=10.0.0.9 8=m:2=99999,8=99999,10=999";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.4.0 5=10.0.0.9 8=m:99=1";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.4.0 5=10.0.0.9 8=m:12=1024";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.4.0 5=10.0.0.9 8=x:0500020001000000";
    "dumproute 2 0 0 0 254 0 0 0 0";
]
route_multipath_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 9=p:0,0,0,10.0.0.2|0,1,0,10.0.0.3";
    "newroute+create 2 24 0 0 254 4 253 1 0; 1=192.0.3.0 9=p:d0,0,0,";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.4.0 9=p:0,0,1,10.0.0.2";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.4.0 9=p:0,0,0,99.0.0.2";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.4.0 9=x:";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.4.0 9=x:0900000000000000";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.4.0 9=x:2000000000000000";
    "newroute+create 2 24 0 0 254 4 254 2 0; 1=192.0.4.0 9=p:d0,0,0,|d0,0,0,";
    "dumproute 2 0 0 0 254 0 0 0 0";
    "delroute 2 24 0 0 254 0 255 0 0; 1=192.0.2.0 9=p:0,0,0,10.0.0.3|0,1,0,10.0.0.2";
    "delroute 2 24 0 0 254 0 255 0 0; 1=192.0.2.0 9=p:0,0,0,10.0.0.2|0,1,0,10.0.0.3";
    "dumproute 2 0 0 0 254 0 0 0 0";
]
route_order_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newroute+create,excl 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 5 0 1 0; 1=192.0.2.0 5=10.0.0.8";
    "newroute+create,append 2 24 0 0 254 6 0 1 0; 1=192.0.2.0 5=10.0.0.7";
    "newroute+create 2 24 0 0 254 6 0 1 0; 1=192.0.2.0 5=10.0.0.7 6=u32:5";
    "newroute+create 2 24 0 16 254 6 0 1 0; 1=192.0.2.0 5=10.0.0.7";
    "newroute+create,append 2 24 0 0 254 6 0 1 0; 1=192.0.2.0 5=10.0.0.7";
    "newroute+create 2 24 0 0 254 6 0 1 0; 1=192.0.2.0 5=10.0.0.7";
    "dumproute 2 0 0 0 254 0 0 0 0";
    "newroute+replace 2 24 0 0 254 6 0 1 0; 1=192.0.2.0 5=10.0.0.6";
    "newroute+replace 2 24 0 0 254 6 0 1 0; 1=192.0.2.0 5=10.0.0.6";
    "newroute+replace 2 24 0 0 254 6 0 1 0; 1=192.0.2.0 5=10.0.0.7";
    "newroute+replace 2 24 0 0 254 6 0 1 0; 1=192.0.99.0 5=10.0.0.7";
    "newroute+create,replace 2 24 0 0 254 6 0 1 0; 1=192.0.98.0 5=10.0.0.7";
    "dumproute 2 0 0 0 254 0 0 0 0";
]
route_delete_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newroute+create,excl 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 24 0 0 254 5 0 1 0; 1=192.0.2.0 5=10.0.0.8 6=u32:9";
    "delroute 2 24 0 0 254 0 255 0 0; 1=192.0.9.0";
    "delroute 2 24 0 0 254 0 255 0 0; 1=192.0.2.0 5=10.0.0.7";
    "delroute 2 24 0 0 254 9 255 0 0; 1=192.0.2.0";
    "delroute 2 24 0 0 254 0 253 0 0; 1=192.0.2.0";
    "delroute 2 24 0 0 254 0 255 6 0; 1=192.0.2.0";
    "delroute 2 24 0 0 254 0 255 0 0; 1=192.0.2.0 6=u32:8";
    "delroute 2 24 0 0 254 0 255 0 0; 1=192.0.2.0 4=u32:77";
    "delroute 2 24 0 0 254 0 255 0 0; 1=192.0.2.0 7=10.0.0.1";
    "delroute 2 24 0 0 200 0 255 0 0; 1=192.0.2.0";
    "delroute 2 24 0 16 254 0 255 0 0; 1=192.0.2.0";
    "delroute 2 24 0 0 254 0 255 0 0; 1=192.0.2.0 6=u32:9";
    "dumproute 2 0 0 0 254 0 0 0 0";
    "delroute 2 24 0 0 254 0 255 0 0; 1=192.0.2.0";
    "delroute 2 24 0 0 254 0 255 0 0; 1=10.0.0.0";
    "dumproute 2 0 0 0 254 0 0 0 0";
]
route_events_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "listen 7";
    "newroute+create,excl 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create,append 2 24 0 0 254 5 0 1 0; 1=192.0.2.0 5=10.0.0.8";
    "newroute+replace 2 24 0 0 254 6 0 1 0; 1=192.0.2.0 5=10.0.0.6";
    "delroute 2 24 0 0 254 0 255 0 0; 1=192.0.2.0";
    "heard";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.5.0 5=10.0.0.8 7=10.0.0.1";
    "deladdr 2 24 0 0 d0; 2=10.0.0.1";
    "heard";
]
route_tables_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newroute+create 2 24 0 0 5 4 253 1 0; 1=192.0.2.0 4=dev:d0";
    "newroute+create 2 24 0 0 0 4 253 1 0; 1=192.0.3.0 4=dev:d0 15=u32:70000";
    "newroute+create 2 24 0 0 255 4 253 1 0; 1=192.0.4.0 4=dev:d0";
    "newroute+create 2 24 0 0 253 4 253 1 0; 1=192.0.5.0 4=dev:d0";
    "dumproute 2 0 0 0 0 0 0 0 0";
    "strict 1";
    "dumproute 2 0 0 0 5 0 0 0 0";
    "dumproute 2 0 0 0 0 0 0 0 0; 15=u32:70000";
    "dumproute 2 0 0 0 77 0 0 0 0";
    "dumproute 2 0 0 0 253 0 0 0 0";
    "delroute 2 24 0 0 77 0 255 0 0; 1=192.0.2.0";
]
route_dump_strict [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newroute+create,excl 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "strict 1";
    "dumproute 2 0 0 0 0 4 0 0 0";
    "dumproute 2 0 0 0 0 0 0 3 0";
    "dumproute 2 0 0 0 0 0 0 0 0; 4=dev:lo";
    "dumproute 2 0 0 0 0 0 0 0 0; 4=u32:99";
    "dumproute 2 24 0 0 0 0 0 0 0";
    "dumproute 2 0 0 4 0 0 0 0 0";
    "dumproute 2 0 0 0 0 0 9 0 0";
    "dumproute 2 0 0 0 0 0 0 0 4";
    "dumproute 2 0 0 0 0 0 0 0 0x200";
    "dumproute 2 0 0 0 0 0 0 0 0x800";
    "dumproute 2 0 0 0 0 0 0 0 0; 5=10.0.0.9";
    "dumproute 2";
    "dumproute 10 0 0 0 0 0 0 2 0";
    "dumproute 10 0 0 0 77 0 0 0 0";
    "dumproute 0 0 0 0 77 0 0 0 0";
    "dumproute 2 0 0 0 0 0 0 0 0; 99=u32:1";
]
route_get_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newroute+create,excl 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create 2 25 0 0 254 4 0 6 0; 1=192.0.6.0";
    "newroute+create 2 25 0 0 254 4 0 7 0; 1=192.0.7.0";
    "newroute+create 2 25 0 0 254 4 0 8 0; 1=192.0.8.0";
    "newroute+create 2 25 0 0 254 4 0 9 0; 1=192.0.9.0";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.2.7";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.0.0.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.0.0.7";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.0.0.255";
    "getroute 2 32 0 0 0 0 0 0 0; 1=127.0.0.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.6.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.7.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.8.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.9.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=8.8.8.8";
    "getroute 2 32 0 0 0 0 0 0 0; 1=255.255.255.255";
    "getroute 2 32 0 0 0 0 0 0 0; 1=0.0.0.0";
    "getroute 2 32 0 0 0 0 0 0 0; 1=224.0.0.9";
    "getroute 2 32 0 0 0 0 0 0 0; 1=255.255.255.255 4=dev:d0";
    "getroute 2 32 0 0 0 0 0 0 0; 1=224.0.0.9 4=dev:d0";
    "getroute 2 32 0 0 0 0 0 0 0; 1=8.8.8.8 4=dev:d0";
    "getroute 2 32 0 0 0 0 0 0 0; 1=8.8.8.8 4=u32:99";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.2.7 16=u32:7 25=u32:9";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.2.7 2=10.0.0.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.2.7 2=10.0.0.2";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.2.7 2=0.0.0.0";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.2.7 3=dev:d0 2=10.0.0.5";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.0.0.1 3=dev:d0 2=10.0.0.5";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.0.0.1 3=dev:d0 2=10.0.0.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.0.0.1 3=u32:99";
    "getroute 2 32 0 0 0 0 0 0 0; 1=240.0.0.1";
]
route_get_flags_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newroute+create,excl 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "getroute 2 32 0 0 0 0 0 0 0x1000; 1=10.0.0.1";
    "getroute 2 32 0 0 0 0 0 0 0x1000; 1=192.0.2.7";
    "getroute 2 32 0 0 0 0 0 0 0x2000; 1=192.0.2.7";
    "getroute 2 32 0 0 0 0 0 0 0x2000; 1=10.0.0.1";
    "getroute 2 32 0 0 0 0 0 0 0x100; 1=10.0.0.1";
    "strict 1";
    "getroute 2 31 0 0 0 0 0 0 0; 1=10.0.0.1";
    "getroute 2 0 0 0 0 0 0 0 0; 1=10.0.0.1";
    "getroute 2 32 0 0 7 0 0 0 0; 1=10.0.0.1";
    "getroute 2 32 0 0 0 0 0 0 4; 1=10.0.0.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.0.0.1 5=10.0.0.1";
    "getroute 2";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.0.0.1";
]
route_forwarding [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "add d1 02:00:00:00:00:02";
    "up d1";
    "newaddr 2 24 0 0 d1; 2=10.1.0.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.1.0.7 3=dev:d0 2=10.0.0.5";
    "sysctl net/ipv4/ip_forward 1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.1.0.7 3=dev:d0 2=10.0.0.5";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.1.0.7 3=dev:d0 2=10.1.0.5";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.1.0.7 3=dev:d0 2=9.9.9.9";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.1.0.7 3=dev:d0 2=127.0.0.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=9.9.9.9 3=dev:d0 2=10.0.0.5";
    "sysctl net/ipv4/conf/d0/rp_filter 1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.1.0.7 3=dev:d0 2=10.1.0.5";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.1.0.7 3=dev:d0 2=9.9.9.9";
    "sysctl net/ipv4/conf/d0/rp_filter 2";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.1.0.7 3=dev:d0 2=10.1.0.5";
    "show net/ipv4/conf/all/accept_redirects";
    "show net/ipv4/conf/d1/forwarding";
    "show net/ipv4/ip_forward";
]
route_new_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newroute+create,excl 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9";
    "newroute+create,excl 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:2:: 4=dev:d0";
    "newroute+create 10 0 0 0 254 3 0 1 0; 5=fe80::1 4=dev:d0 6=u32:7 20=u8:1";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:3:: 5=2001:db8::9 7=2001:db8::1 8=m:2=1300";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:4:: 5=2001:db8::9 23=u32:100";
    "newroute+create 10 48 0 0 254 4 0 6 0; 1=2001:db8:5::";
    "newroute+create 10 48 0 0 254 4 0 7 0; 1=2001:db8:6::";
    "newroute+create 10 48 0 0 254 4 0 8 0; 1=2001:db8:7::";
    "newroute+create 10 48 0 0 254 4 0 9 0; 1=2001:db8:8::";
    "newroute+create 10 128 0 0 0 4 0 1 0; 1=2001:db8:9::5 4=dev:d0 15=u32:500";
    "newroute+create 10 20 0 0 254 0 0 1 0; 1=2001:db8:: 4=dev:d0";
    "dumproute 10 0 0 0 0 0 0 0 0";
]
route_new_v6_bad [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newroute+create 10 129 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1::";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 4=u32:99";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=3fff::1";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=fe80::1";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::1";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=ff02::1 4=dev:d0";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9 4=dev:lo";
    "newroute+create 10 48 0 4 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9";
    "newroute+create 10 48 0 0 254 4 0 12 0; 1=2001:db8:1:: 5=2001:db8::9";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=x:2001 5=2001:db8::9";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9 7=2001:db8::99";
    "newroute+create 10 48 0 0 254 4 0 1 4; 1=2001:db8:1:: 5=2001:db8:77::9";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 9=p:d0,0,0,|0,0,0,2001:db8::4";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9 18=x:0200";
    "newroute+create 10 48";
    "dumproute 10 0 0 0 254 0 0 0 0";
]
route_order_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newroute+create,excl 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9";
    "newroute+create,append 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::8";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::8 6=u32:5";
    "newroute 10 48 0 0 254 4 0 1 0; 1=2001:db8:2:: 5=2001:db8::8";
    "dumproute 10 0 0 0 254 0 0 0 0";
    "newroute+replace 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::7";
    "newroute+replace 10 48 0 0 254 4 0 1 0; 1=2001:db8:3:: 5=2001:db8::7";
    "newroute+create,replace 10 48 0 0 254 4 0 1 0; 1=2001:db8:4:: 5=2001:db8::7";
    "dumproute 10 0 0 0 254 0 0 0 0";
]
route_multipath_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newroute+create,excl 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 9=p:0,0,0,2001:db8::2|0,1,0,2001:db8::3";
    "newroute+create,excl 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 9=p:0,0,0,2001:db8::2|0,1,0,2001:db8::3";
    "dumproute 10 0 0 0 254 0 0 0 0";
    "delroute 10 48 0 0 254 0 0 0 0; 1=2001:db8:1:: 5=2001:db8::2";
    "dumproute 10 0 0 0 254 0 0 0 0";
    "delroute 10 48 0 0 254 0 0 0 0; 1=2001:db8:1::";
    "dumproute 10 0 0 0 254 0 0 0 0";
]
route_delete_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newroute+create,excl 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9";
    "delroute 10 48 0 0 254 0 0 0 0; 1=2001:db8:9::";
    "delroute 10 48 0 0 254 0 0 0 0; 1=2001:db8:1:: 5=2001:db8::7";
    "delroute 10 48 0 0 254 9 0 0 0; 1=2001:db8:1::";
    "delroute 10 48 0 0 254 0 0 0 0; 1=2001:db8:1:: 6=u32:7";
    "delroute 10 48 0 0 254 0 0 0 0; 1=2001:db8:1:: 4=dev:lo";
    "delroute 10 48 0 0 77 0 0 0 0; 1=2001:db8:1::";
    "listen 11";
    "delroute 10 48 0 0 254 0 0 0 0; 1=2001:db8:1::";
    "heard";
    "dumproute 10 0 0 0 254 0 0 0 0";
]
route_get_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newroute+create,excl 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9";
    "newroute+create 10 48 0 0 254 4 0 6 0; 1=2001:db8:5::";
    "newroute+create 10 48 0 0 254 4 0 7 0; 1=2001:db8:6::";
    "newroute+create 10 48 0 0 254 4 0 8 0; 1=2001:db8:7::";
    "newroute+create 10 48 0 0 254 4 0 9 0; 1=2001:db8:8::";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8:1::7";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8::7";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8::1";
    "getroute 10 128 0 0 0 0 0 0 0; 1=::1";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8:5::1";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8:6::1";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8:7::1";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8:8::1";
    "getroute 10 128 0 0 0 0 0 0 0; 1=3fff::1";
    "getroute 10 128 0 0 0 0 0 0 0; 1=ff02::1";
    "getroute 10 128 0 0 0 0 0 0 0; 1=ff02::1 4=dev:d0";
    "getroute 10 128 0 0 0 0 0 0 0; 1=fe80::7 4=dev:d0";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8:1::7 2=2001:db8::1";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8:1::7 2=2001:db8::2";
    "getroute 10 128 0 0 0 0 0 0 0x2000; 1=2001:db8:1::7";
    "strict 1";
    "getroute 10 64 0 0 0 0 0 0 0; 1=2001:db8:1::7";
    "getroute 10 128 0 0 0 0 0 0 4; 1=2001:db8:1::7";
    "getroute 10 128 0 0 7 0 0 0 0; 1=2001:db8:1::7";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8:1::7 5=2001:db8::7";
    "getroute 10";
]
source_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newaddr 10 64 2 0 d0; 1=2001:db8:2::1";
    "newaddr 10 64 2 0 d0; 1=fd00::1";
    "newaddr 10 64 2 0 d0; 1=2001:db8:3::1 6=c:0:100";
    "newroute+create 10 0 0 0 254 3 0 1 0; 5=2001:db8::99";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8:2::9";
    "getroute 10 128 0 0 0 0 0 0 0; 1=fd00::9";
    "getroute 10 128 0 0 0 0 0 0 0; 1=fd01::9";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8:3::9";
    "getroute 10 128 0 0 0 0 0 0 0; 1=3fff::9";
    "getroute 10 128 0 0 0 0 0 0 0; 1=fe80::9 4=dev:d0";
    "getroute 10 128 0 0 0 0 0 0 0; 1=ff0e::9 4=dev:d0";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2002::9";
]
lo_only_routes [
    "up lo";
    "newaddr 2 24 0 0 lo; 2=10.0.0.1";
    "newaddr 10 64 2 0 lo; 1=2001:db8::1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.0.0.9";
    "getroute 2 32 0 0 0 0 0 0 0; 1=10.0.0.255";
    "getroute 10 128 0 0 0 0 0 0 0; 1=2001:db8::9";
    "dumproute 0 0 0 0 0 0 0 0 0";
]
rules_initial [
    "dumprule 2 0 0 0 0 0 0";
    "dumprule 10 0 0 0 0 0 0";
    "dumprule 0 0 0 0 0 0 0";
    "dumprule 7 0 0 0 0 0 0";
    "dumprule 2";
]
rules_new [
    "newrule+create,excl 2 0 8 0 5 1 0; 2=10.0.0.0";
    "newrule+create,excl 2 0 8 0 5 1 0; 2=10.0.0.0";
    "newrule+create,excl 2 0 0 0 0 1 0; 15=u32:70000 10=u32:1 16=u32:3 6=u32:10";
    "newrule+create 2 24 0 16 7 1 0; 1=1.2.3.0 3=s:d0 17=s:lo 14=u32:0 13=u32:4";
    "newrule+create 2 0 0 0 9 1 2; 2=10.0.0.0";
    "newrule+create 2 0 0 0 9 1 0; 20=x:0500000009000000 22=u8:17 23=x:05000700 24=x:09000900 21=u8:77";
    "newrule+create 2 0 0 0 0 7 0; 6=u32:12";
    "newrule+create 2 0 0 0 0 8 0; 6=u32:13";
    "newrule+create 2 0 0 0 0 6 0; 6=u32:14";
    "newrule+create 2 0 0 0 0 3 0; 6=u32:15";
    "newrule+create 2 0 0 0 0 2 0; 6=u32:16 4=u32:20";
    "newrule+create 2 0 0 0 9 1 0; 6=u32:17 25=u8:10";
    "newrule+create 2 0 0 0 9 1 0; 6=u32:18 11=u32:0x10002";
    "dumprule 2 0 0 0 0 0 0";
]
rules_new_bad [
    "newrule+create 2 0 8 0 5 1 0";
    "newrule+create 2 0 33 0 5 1 0; 2=10.0.0.0";
    "newrule+create 2 33 0 0 5 1 0; 1=10.0.0.0";
    "newrule+create 2 8 0 0 5 1 0";
    "newrule+create 2 0 0 3 5 1 0";
    "newrule+create 7 0 0 0 5 1 0";
    "newrule+create 2 0 0 0 0 2 0; 6=u32:9";
    "newrule+create 2 0 0 0 5 1 0; 6=u32:9 4=u32:20";
    "newrule+create 2 0 0 0 0 2 0; 6=u32:9 4=u32:5";
    "newrule+create 2 0 0 0 5 1 0; 19=u8:1";
    "newrule+create 2 0 0 0 0 1 0; 19=u8:2";
    "newrule+create 2 0 0 0 5 1 0; 20=x:0900000005000000";
    "newrule+create 2 0 0 0 5 1 0; 23=x:07000500";
    "newrule+create 2 0 0 0 5 1 0; 24=x:00000500";
    "newrule+create 2 0 0 0 5 1 0; 25=u8:99";
    "newrule+create 2 0 0 0 5 1 0; 6=u16:9";
    "newrule+create 10 0 0 0 0 1 0";
    "newrule+create 2";
    "newrule+create 2 0 0 0 0 1 0; 6=u32:77";
    "dumprule 2 0 0 0 0 0 0";
]
rules_delete [
    "newrule+create,excl 2 0 8 0 5 1 0; 2=10.0.0.0";
    "newrule+create 2 0 0 0 6 1 0; 6=u32:100";
    "newrule+create 2 0 0 0 6 1 0; 6=u32:100 10=u32:1";
    "delrule 2 0 0 0 0 0 0; 6=u32:99";
    "delrule 2 0 0 0 77 0 0";
    "delrule 2 0 0 0 0 0 0; 6=u32:100 10=u32:1";
    "delrule 2 0 0 0 0 0 0; 6=u32:100";
    "delrule 2 0 8 0 0 0 0; 2=11.0.0.0";
    "delrule 2 0 8 0 0 0 0; 2=10.0.0.0";
    "delrule 2 0 0 0 255 1 0; 6=u32:0";
    "dumprule 2 0 0 0 0 0 0";
    "delrule 7 0 0 0 0 0 0";
    "delrule 2";
]
rules_events [
    "listen 8 19";
    "newrule+create,excl 2 0 8 0 5 1 0; 2=10.0.0.0";
    "delrule 2 0 8 0 0 0 0; 2=10.0.0.0";
    "newrule+create 10 0 16 0 5 1 0; 2=2001::";
    "heard";
]
rules_strict [
    "strict 1";
    "dumprule 2 0 0 0 0 0 0";
    "dumprule 2 8 0 0 0 0 0";
    "dumprule 2 0 0 0 5 0 0";
    "dumprule 2 0 0 0 0 0 0; 6=u32:9";
    "dumprule 2";
    "getrule 2 0 0 0 0 0 0";
]
rules_apply [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newroute+create 2 0 0 0 100 4 0 1 0; 5=10.0.0.77";
    "newroute+create 2 0 0 0 254 4 0 1 0; 5=10.0.0.78";
    "newrule+create 2 0 0 0 100 1 0; 10=u32:5 6=u32:50";
    "newrule+create 2 24 0 0 0 8 0; 1=192.0.2.0 6=u32:51";
    "newrule+create 2 24 0 0 0 7 0; 1=192.0.3.0 6=u32:52";
    "newrule+create 2 24 0 0 0 6 0; 1=192.0.4.0 6=u32:53";
    "newrule+create 2 24 0 0 254 1 0; 1=192.0.5.0 6=u32:54 14=u32:0";
    "newrule+create 2 24 0 0 0 2 0; 1=192.0.6.0 6=u32:55 4=u32:32767";
    "getroute 2 32 0 0 0 0 0 0 0; 1=8.8.8.8";
    "getroute 2 32 0 0 0 0 0 0 0; 1=8.8.8.8 16=u32:5";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.2.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.3.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.4.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.5.1";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.6.1";
    "getroute 2 32 0 0 0 0 0 0 0x1000; 1=10.0.0.1";
    "getroute 2 32 0 0 0 0 0 0 0x1000; 1=8.8.8.8 16=u32:5";
]
netconf [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "getnetconf 2; 1=dev:d0";
    "getnetconf 2; 1=i32:-1";
    "getnetconf 2; 1=i32:-2";
    "getnetconf 2; 1=i32:99";
    "getnetconf 2";
    "getnetconf 10; 1=dev:d0";
    "getnetconf 10; 1=i32:-1";
    "dumpnetconf 2";
    "dumpnetconf 10";
    "dumpnetconf 0";
    "strict 1";
    "dumpnetconf 2";
    "getnetconf 2; 1=dev:d0 2=u32:1";
]
netconf_events [
    "listen 24 25";
    "add d0 02:00:00:00:00:01";
    "heard";
    "sysctl net/ipv4/conf/d0/rp_filter 1";
    "sysctl net/ipv4/conf/d0/proxy_arp 1";
    "sysctl net/ipv4/conf/d0/arp_notify 1";
    "sysctl net/ipv4/ip_forward 1";
    "heard";
    "sysctl net/ipv6/conf/d0/forwarding 1";
    "sysctl net/ipv4/conf/default/forwarding 0";
    "heard";
    "remove d0";
    "heard";
]
sysctl_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "show net/ipv4/ip_forward";
    "sysctl net/ipv4/ip_forward x";
    "sysctl net/ipv4/ip_forward 2";
    "show net/ipv4/ip_forward";
    "show net/ipv4/ip_local_port_range";
    "sysctl net/ipv4/ip_local_port_range 5 4";
    "sysctl net/ipv4/ip_local_port_range 5";
    "sysctl net/ipv4/ip_local_port_range 2000 3000";
    "show net/ipv4/ip_local_port_range";
    "show net/ipv4/ping_group_range";
    "sysctl net/ipv4/ping_group_range 0 5";
    "show net/ipv4/ping_group_range";
    "sysctl net/ipv4/ping_group_range 9 5";
    "show net/ipv4/ping_group_range";
    "show net/ipv4/ip_default_ttl";
    "sysctl net/ipv4/ip_default_ttl 0";
    "sysctl net/ipv4/ip_default_ttl 256";
    "sysctl net/ipv4/ip_default_ttl 0x20";
    "show net/ipv4/ip_default_ttl";
    "show net/ipv4/ip_unprivileged_port_start";
    "sysctl net/ipv4/conf/nobody/rp_filter 1";
    "sysctl net/ipv4/conf/d0/mc_forwarding 1";
    "sysctl net/ipv4/conf/d0/rp_filter -5";
    "show net/ipv4/conf/d0/rp_filter";
]
sysctl_default [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "sysctl net/ipv4/conf/default/rp_filter 2";
    "show net/ipv4/conf/d0/rp_filter";
    "sysctl net/ipv4/conf/d0/rp_filter 1";
    "sysctl net/ipv4/conf/default/rp_filter 0";
    "show net/ipv4/conf/d0/rp_filter";
    "add d1 02:00:00:00:00:02";
    "show net/ipv4/conf/d1/rp_filter";
    "sysctl net/ipv6/conf/default/accept_ra 0";
    "show net/ipv6/conf/d1/accept_ra";
    "add d2 02:00:00:00:00:03";
    "show net/ipv6/conf/d2/accept_ra";
    "sysctl net/ipv6/conf/all/forwarding 1";
    "show net/ipv6/conf/d1/forwarding";
    "show net/ipv6/conf/default/forwarding";
]
sysctl_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "show net/ipv6/conf/d0/mtu";
    "sysctl net/ipv6/conf/d0/mtu 1200";
    "sysctl net/ipv6/conf/d0/mtu 1400";
    "show net/ipv6/conf/d0/mtu";
    "sysctl net/ipv6/conf/d0/mtu 9000";
    "show net/ipv6/conf/d0/router_solicitation_interval";
    "sysctl net/ipv6/conf/d0/hop_limit 0";
    "sysctl net/ipv6/conf/d0/hop_limit 70";
    "show net/ipv6/conf/d0/hop_limit";
    "sysctl net/ipv6/conf/d0/addr_gen_mode 9";
    "sysctl net/ipv6/conf/d0/disable_ipv6 1";
    "dumpaddr 10 0 0 0 0";
    "dumproute 10 0 0 0 0 0 0 0 0";
    "sysctl net/ipv6/conf/d0/disable_ipv6 0";
    "dumpaddr 10 0 0 0 0";
    "show net/ipv6/bindv6only";
]
keep_on_down [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "sysctl net/ipv6/conf/d0/keep_addr_on_down 1";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "down d0";
    "dumpaddr 10 0 0 0 0";
    "dumproute 10 0 0 0 0 0 0 0 0";
    "up d0";
    "dumpaddr 10 0 0 0 0";
    "dumproute 10 0 0 0 0 0 0 0 0";
]
small_mtu [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "mtu d0 1000";
    "dumpaddr 0 0 0 0 0";
    "dumproute 0 0 0 0 0 0 0 0 0";
    "mtu d0 1500";
    "dumpaddr 0 0 0 0 0";
    "newaddr 2 24 0 0 d0; 2=10.0.0.2";
]
proc_tables [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newroute+create,excl 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "newroute+create,excl 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 5=2001:db8::9";
    "newroute+create 2 0 0 0 254 3 0 1 0; 5=10.0.0.254 6=u32:100 8=m:2=1400,8=900";
    "newroute+create 2 32 0 0 254 4 0 7 0; 1=192.0.9.1";
    "file net/route";
    "file6 net/if_inet6";
    "file net/igmp";
    "sorted net/igmp6";
]
multicast_dump [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "dumpmaddr 10 0 0 0 0";
]
af_spec [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "linkspec lo";
    "linkspec d0";
    "dumplink6 10 0 0 0";
    "newaddr 2 24 0 0 d0; 2=10.0.0.1";
    "sysctl net/ipv4/conf/d0/rp_filter 1";
    "linkspec d0";
]
unprivileged [
    "up lo";
    "nobody newaddr 2 24 0 0 lo; 2=10.0.0.1";
    "nobody newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 4=dev:lo";
    "nobody newrule+create 2 0 0 0 5 1 0";
    "nobody dumpaddr 2 0 0 0 0";
    "nobody dumproute 2 0 0 0 0 0 0 0 0";
    "nobody deladdr 2 8 0 0 lo; 2=127.0.0.1";
    "nobody getroute 2 32 0 0 0 0 0 0 0; 1=127.0.0.1";
]
move_to_namespace [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1 1=10.0.0.1";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "newroute+create,excl 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 5=10.0.0.9";
    "listen 5 7 9 11 24 25";
    "move d0";
    "wait";
    "heard";
    "dumpaddr 0 0 0 0 0";
    "dumproute 0 0 0 0 0 0 0 0 0";
]neighbours_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "sysctl net/ipv6/conf/d0/disable_ipv6 1";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1";
    "listen 3";
    "newneigh+create,excl 2 0 0 d0 128 0 0; 1=10.0.0.5 2=x:020000000005";
    "newneigh+create,excl 2 0 0 d0 128 0 0; 1=10.0.0.5 2=x:020000000006";
    "newneigh 2 0 0 d0 128 0 0; 1=10.0.0.6 2=x:020000000006";
    "newneigh+create 2 0 0 d0 4 0 0; 1=10.0.0.6 2=x:020000000006 12=u8:7";
    "newneigh+create,replace 2 0 0 d0 2 0 0; 1=10.0.0.6 2=x:020000000007";
    "newneigh+create 2 0 0 d0 4 0 0; 1=10.0.0.6 2=x:020000000008";
    "newneigh+create 2 0 0 d0 64 0 0; 1=10.0.0.7 2=x:020000000007";
    "newneigh+create 2 0 0 d0 4 128 0; 1=10.0.0.8 2=x:020000000008";
    "newneigh+create 2 0 0 d0 4 16 0; 1=10.0.0.9 2=x:020000000009";
    "getneigh 2 0 0 d0 0 0 0; 1=10.0.0.5";
    "getneigh 2 0 0 d0 0 0 0; 1=10.0.0.99";
    "getneigh 2 0 0 0 0 0 0; 1=10.0.0.5";
    "getneigh 2 0 0 99 0 0 0; 1=10.0.0.5";
    "getneigh 2 0 0 d0 0 0 0";
    "dumpneigh 2 0 0 0 0 0 0";
    "heard";
    "delneigh 2 0 0 d0 0 0 0; 1=10.0.0.5";
    "delneigh 2 0 0 d0 0 0 0; 1=10.0.0.5";
    "delneigh 2 0 0 d0 0 0 0; 1=10.0.0.9";
    "delneigh 2 0 0 0 0 0 0; 1=10.0.0.6";
    "heard";
    "down d0";
    "dumpneigh 2 0 0 0 0 0 0";
    "heard sorted";
]
neighbours_bad [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newneigh+create 2 0 0 d0 128 0 0; 2=x:020000000005";
    "newneigh+create 2 0 0 d0 128 0 0; 1=x:0a00 2=x:020000000005";
    "newneigh+create 2 0 0 0 128 0 0; 1=10.0.0.5 2=x:020000000005";
    "newneigh+create 2 0 0 99 128 0 0; 1=10.0.0.5 2=x:020000000005";
    "newneigh+create 2 0 0 d0 128 0 0; 1=10.0.0.5";
    "newneigh+create 2 0 0 d0 128 0 0; 1=10.0.0.5 2=x:0200";
    "newneigh+create 99 0 0 d0 128 0 0; 1=10.0.0.5 2=x:020000000005";
    "newneigh+create 10 0 0 d0 128 0 0; 1=10.0.0.5 2=x:020000000005";
    "newneigh+create 2 0 0 d0 128 0 0; 1=10.0.0.5 2=x:020000000005 12=u16:7";
    "delneigh 2 0 0 d0 0 0 0";
    "delneigh 2 0 0 0 0 0 0; 1=10.0.0.5";
    "delneigh 2 0 0 d0 0 0 0; 1=x:0a";
    "dumpneigh 2 0 0 0 0 0 0";
    "strict 1";
    "dumpneigh 2 0 0 d0 0 0 0";
    "dumpneigh 2 0 0 0 1 0 0";
    "dumpneigh 2 0 0 0 0 1 0";
    "dumpneigh 2 0 0 0 0 0 0; 8=dev:d0";
    "dumpneigh 2 0 0 0 0 0 0; 1=10.0.0.5";
    "dumpneigh 2 1 0 0 0 0 0";
    "dumpneigh 2";
]
neighbours_proxy [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newneigh 2 0 0 d0 0 8 0; 1=10.0.0.9";
    "newneigh+create 2 0 0 d0 0 8 0; 1=10.0.0.8 12=u8:7";
    "newneigh+create,excl 2 0 0 d0 0 8 0; 1=10.0.0.8";
    "newneigh+create 10 0 0 d0 0 136 0; 1=2001:db8::9";
    "newneigh+create 2 0 0 0 0 8 0; 1=10.0.0.7";
    "getneigh 2 0 0 d0 0 8 0; 1=10.0.0.8";
    "getneigh 2 0 0 0 0 8 0; 1=10.0.0.7";
    "getneigh 2 0 0 d0 0 8 0; 1=10.0.0.99";
    "dumpneigh 2 0 0 0 0 8 0";
    "dumpneigh 10 0 0 0 0 8 0";
    "dumpneigh 2 0 0 0 0 0 0";
    "delneigh 2 0 0 d0 0 8 0; 1=10.0.0.8";
    "delneigh 2 0 0 d0 0 8 0; 1=10.0.0.8";
    "delneigh 2 0 0 0 0 8 0; 1=10.0.0.7";
    "dumpneigh 2 0 0 0 0 8 0";
]
neighbour_tables [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "dumpneightbl 2 0 0";
    "dumpneightbl 10 0 0";
    "setneightbl 2 0 0; 1=s:arp_cache 6=n:1=dev:d0,10=u32:5,11=u32:4,9=u32:1,4=u64:20000,5=u64:2000,14=u32:10";
    "setneightbl 2 0 0; 1=s:arp_cache 6=n:1=dev:d0,8=u32:3,15=u64:40,7=u64:4000,19=u64:3000,17=u32:2";
    "setneightbl 2 0 0; 1=s:arp_cache 6=n:1=dev:d0,12=u64:400,13=u64:200,6=u64:8000";
    "dumpneightbl 2 0 0";
    "setneightbl 2 0 0; 6=n:1=dev:d0,10=u32:5";
    "setneightbl 2 0 0; 1=s:nobody 6=n:1=dev:d0,10=u32:5";
    "setneightbl 2 0 0; 1=s:ndisc_cache 6=n:1=dev:d0,10=u32:5";
    "setneightbl 0 0 0; 1=s:ndisc_cache 6=n:1=dev:d0,10=u32:5";
    "setneightbl 2 0 0; 1=s:arp_cache 6=n:1=u32:99,10=u32:5";
    "setneightbl 2 0 0; 1=s:arp_cache 6=n:10=u32:5";
    "setneightbl 2 0 0; 1=s:arp_cache 2=u32:100";
    "setneightbl 2 0 0; 1=s:arp_cache 6=n:1=dev:d0,10=u16:5";
    "setneightbl 2 0 0; 1=s:arp_cache";
    "nobody setneightbl 2 0 0; 1=s:arp_cache";
    "getneightbl 2 0 0";
    "strict 1";
    "dumpneightbl 2 1 0";
    "dumpneightbl 2 0 0; 1=s:arp_cache";
    "dumpneightbl 10 0 0";
]
neighbour_files [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "list sys/net/ipv4/neigh";
    "list sys/net/ipv6/neigh";
    "list sys/net/ipv4/neigh/d0";
    "list sys/net/ipv6/neigh/d0";
    "show net/ipv4/neigh/d0/mcast_solicit";
    "show net/ipv4/neigh/d0/ucast_solicit";
    "show net/ipv4/neigh/d0/app_solicit";
    "show net/ipv4/neigh/d0/mcast_resolicit";
    "show net/ipv4/neigh/d0/retrans_time";
    "show net/ipv4/neigh/d0/retrans_time_ms";
    "show net/ipv4/neigh/d0/base_reachable_time";
    "show net/ipv4/neigh/d0/base_reachable_time_ms";
    "show net/ipv4/neigh/d0/delay_first_probe_time";
    "show net/ipv4/neigh/d0/interval_probe_time_ms";
    "show net/ipv4/neigh/d0/gc_stale_time";
    "show net/ipv4/neigh/d0/unres_qlen";
    "show net/ipv4/neigh/d0/unres_qlen_bytes";
    "show net/ipv4/neigh/d0/proxy_qlen";
    "show net/ipv4/neigh/d0/anycast_delay";
    "show net/ipv4/neigh/d0/proxy_delay";
    "show net/ipv4/neigh/d0/locktime";
    "show net/ipv6/neigh/d0/retrans_time";
    "show net/ipv6/neigh/d0/locktime";
    "show net/ipv6/neigh/d0/proxy_delay";
    "sysctl net/ipv4/neigh/d0/mcast_solicit 5";
    "show net/ipv4/neigh/d0/mcast_solicit";
    "sysctl net/ipv4/neigh/d0/mcast_solicit -1";
    "sysctl net/ipv4/neigh/d0/mcast_solicit x";
    "sysctl net/ipv4/neigh/d0/base_reachable_time 20";
    "show net/ipv4/neigh/d0/base_reachable_time_ms";
    "sysctl net/ipv4/neigh/d0/base_reachable_time_ms 8000";
    "show net/ipv4/neigh/d0/base_reachable_time";
    "sysctl net/ipv4/neigh/d0/retrans_time 40";
    "show net/ipv4/neigh/d0/retrans_time_ms";
    "sysctl net/ipv4/neigh/d0/unres_qlen 3";
    "show net/ipv4/neigh/d0/unres_qlen";
    "show net/ipv4/neigh/d0/unres_qlen_bytes";
    "sysctl net/ipv4/neigh/d0/unres_qlen_bytes 5000";
    "show net/ipv4/neigh/d0/unres_qlen";
    "sysctl net/ipv4/neigh/d0/locktime 20";
    "show net/ipv4/neigh/d0/locktime";
    "sysctl net/ipv4/neigh/d0/proxy_delay 0";
    "show net/ipv4/neigh/d0/proxy_delay";
    "sysctl net/ipv4/neigh/d0/interval_probe_time_ms 0";
    "show net/ipv6/neigh/d0/mcast_solicit";
    "dumpneightbl 2 0 0";
]
nexthops_v4 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "add d1 02:00:00:00:00:02";
    "up d0";
    "up d1";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1";
    "newaddr+create,excl 2 24 0 0 d1; 2=10.0.1.1";
    "listen 32 7";
    "newnexthop+create,excl 2 0 4 0 0; 1=u32:5 5=dev:d0 6=10.0.0.9";
    "newnexthop+create,excl 2 0 4 0 0; 1=u32:5 5=dev:d0 6=10.0.0.9";
    "newnexthop+create 2 0 4 0 0; 5=dev:d1 6=10.0.1.9";
    "newnexthop+create 2 0 3 0 0; 1=u32:7 5=dev:d1";
    "newnexthop+create 2 0 4 0 4; 1=u32:8 5=dev:d1 6=172.16.0.9";
    "newnexthop+create 2 0 4 0 0; 1=u32:9 4=x:";
    "newnexthop+create 0 0 4 0 0; 1=u32:20 2=g:5/0,1/2";
    "getnexthop 0 0 0 0 0; 1=u32:5";
    "getnexthop 0 0 0 0 0; 1=u32:20";
    "getnexthop 0 0 0 0 0; 1=u32:99";
    "dumpnexthop 0 0 0 0 0";
    "dumpnexthop 2 0 0 0 0";
    "dumpnexthop 0 0 0 0 0; 5=dev:d1";
    "dumpnexthop 0 0 0 0 0; 9=x:";
    "heard";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 30=u32:5";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.3.0 30=u32:20";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.4.0 30=u32:9";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.5.0 30=u32:99";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.5.0 30=u32:5 4=dev:d0";
    "newroute+create 2 24 0 0 254 4 254 1 0; 1=192.0.6.0 30=u32:5";
    "dumproute 2 0 0 0 254 0 0 0 0";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.2.7";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.4.7";
    "heard";
    "newnexthop+create,replace 2 0 4 0 0; 1=u32:5 5=dev:d0 6=10.0.0.8";
    "getroute 2 32 0 0 0 0 0 0 0; 1=192.0.2.7";
    "heard";
    "dumproute 2 0 0 0 254 0 0 0 0";
    "delnexthop 0 0 0 0 0; 1=u32:1";
    "heard";
    "dumpnexthop 0 0 0 0 0";
    "dumproute 2 0 0 0 254 0 0 0 0";
    "delroute 2 24 0 0 254 0 0 0 0; 1=192.0.2.0 30=u32:7";
    "delroute 2 24 0 0 254 0 0 0 0; 1=192.0.2.0 30=u32:99";
    "delroute 2 24 0 0 254 0 0 0 0; 1=192.0.2.0 4=dev:d0";
    "delroute 2 24 0 0 254 0 0 0 0; 1=192.0.2.0 30=u32:5";
    "delnexthop 0 0 0 0 0; 1=u32:5";
    "dumpnexthop 0 0 0 0 0";
    "heard";
    "down d1";
    "dumpnexthop 0 0 0 0 0";
    "dumproute 2 0 0 0 254 0 0 0 0";
    "heard";
]
nexthops_v6 [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "up d0";
    "newaddr+create,excl 10 64 2 0 d0; 1=2001:db8::1";
    "listen 32";
    "newnexthop+create,excl 10 0 4 0 0; 1=u32:5 5=dev:d0 6=2001:db8::9";
    "newnexthop+create,excl 10 0 4 0 0; 1=u32:6 5=dev:d0 6=fe80::9";
    "newnexthop+create,excl 10 0 4 0 0; 1=u32:7 5=dev:d0";
    "newnexthop+create,excl 10 0 4 0 0; 1=u32:8 4=x:";
    "newnexthop+create,excl 2 0 4 0 0; 1=u32:9 5=dev:d0";
    "newnexthop+create 0 0 4 0 0; 1=u32:20 2=g:5/0,6/2";
    "dumpnexthop 10 0 0 0 0";
    "heard";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:1:: 30=u32:5";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:2:: 30=u32:20";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:3:: 30=u32:8";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:4:: 30=u32:9";
    "newroute+create 10 48 0 0 254 4 0 1 0; 1=2001:db8:4:: 30=u32:99";
    "newroute+create 10 48 64 0 254 4 0 1 0; 1=2001:db8:4:: 2=2001:db8:5:: 30=u32:5";
    "newroute+create 2 24 0 0 254 4 0 1 0; 1=192.0.2.0 30=u32:6";
    "dumproute 10 0 0 0 254 0 0 0 0";
    "dumproute 2 0 0 0 254 0 0 0 0";
    "newnexthop+create,replace 10 0 4 0 0; 1=u32:5 5=dev:d0 6=2001:db8::8";
    "dumproute 10 0 0 0 254 0 0 0 0";
    "delnexthop 0 0 0 0 0; 1=u32:5";
    "dumproute 10 0 0 0 254 0 0 0 0";
    "heard";
    "remove d0";
    "dumpnexthop 0 0 0 0 0";
    "heard";
]
nexthops_bad [
    "up lo";
    "add d0 02:00:00:00:00:01";
    "newnexthop+create 2 0 4 0 0; 1=u32:5 5=dev:d0";
    "up d0";
    "newaddr+create,excl 2 24 0 0 d0; 2=10.0.0.1";
    "newnexthop+create 2 1 4 0 0; 1=u32:5 5=dev:d0";
    "newnexthop+create 2 0 4 1 0; 1=u32:5 5=dev:d0";
    "newnexthop+create 2 0 4 0 1; 1=u32:5 5=dev:d0";
    "newnexthop+create 0 0 4 0 0; 1=u32:5 5=dev:d0";
    "newnexthop+create 7 0 4 0 0; 1=u32:5 5=dev:d0";
    "newnexthop+create 2 0 4 0 0; 1=u32:5";
    "newnexthop+create 2 0 4 0 0; 1=u32:5 5=u32:99";
    "newnexthop+create 2 0 4 0 0; 1=u32:5 5=dev:d0 6=2001:db8::9";
    "newnexthop+create 2 0 4 0 4; 1=u32:5 5=dev:d0";
    "newnexthop+create 2 0 4 0 0; 1=u32:5 5=dev:d0 4=x:";
    "newnexthop+create 2 0 4 0 0; 1=u32:5 5=dev:d0 6=172.16.0.9";
    "newnexthop+create 2 0 4 0 0; 1=u16:5 5=dev:d0";
    "newnexthop+create 2 0 4 0 0; 1=u32:5 5=dev:d0 40=u32:1";
    "newnexthop+replace 2 0 4 0 0; 5=dev:d0";
    "newnexthop+replace 2 0 4 0 0; 1=u32:5 5=dev:d0";
    "newnexthop+create 2 0 4 0 0; 1=u32:5 5=dev:d0";
    "newnexthop+create 2 0 4 0 0; 1=u32:6 4=x:";
    "newnexthop+create 2 0 4 0 0; 1=u32:7 2=g:5/0";
    "newnexthop+create 0 0 4 0 0; 1=u32:7 2=g:99/0";
    "newnexthop+create 0 0 4 0 0; 1=u32:7 2=g:5/0,5/1";
    "newnexthop+create 0 0 4 0 0; 1=u32:7 2=g:5/0,6/1";
    "newnexthop+create 0 0 4 0 0; 1=u32:7 2=x:05000000";
    "newnexthop+create 0 0 4 0 0; 1=u32:7 2=x:0500000000000100";
    "newnexthop+create 0 0 4 0 0; 1=u32:7 2=x:";
    "newnexthop+create 0 0 4 0 0; 1=u32:7 2=g:5/0 5=dev:d0";
    "newnexthop+create 0 0 4 0 0; 1=u32:7 2=g:5/0 3=u16:9";
    "newnexthop+create 0 0 4 0 0; 1=u32:7 2=g:5/0";
    "newnexthop+create 0 0 4 0 0; 1=u32:8 2=g:7/0";
    "newnexthop+create,replace 0 0 4 0 0; 1=u32:5 2=g:6/0";
    "newnexthop+create,replace 2 0 4 0 0; 1=u32:7 5=dev:d0";
    "delnexthop 0 0 0 0 0";
    "delnexthop 0 0 0 0 0; 1=u32:0";
    "delnexthop 0 0 0 0 0; 1=u32:99";
    "delnexthop 2 0 4 0 0; 1=u32:5";
    "delnexthop 0 0 0 0 0; 1=u32:5 5=dev:d0";
    "getnexthop 0 0 0 0 0";
    "dumpnexthop 0 0 4 0 0";
    "dumpnexthop 0 0 0 0 0; 1=u32:5";
    "nobody newnexthop+create 2 0 4 0 0; 1=u32:50 5=dev:d0";
    "dumpnexthop 0 0 0 0 0";
]
}
