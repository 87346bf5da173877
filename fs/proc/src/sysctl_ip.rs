//! `/proc/sys/net/ipv4` and `/proc/sys/net/ipv6`: settings of IP in the reader's network namespace (proc_sys(5), ip-sysctl).
//!
//! Key types: [`Folder`] (a folder whose entries are computed): `conf` has one for each interface, besides `all` and `default`. Who
//! administrates the namespace may write. Neighbours: `net::ip::sysctl` keeps the numbers. Locks: none of its own.

use abi::errno::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use machine::sync::atomic::Ordering;
use net::NetNamespace;
use net::ip::config::{v4, v6};
use net::ip::neighbour::settings;
use net::ip::sysctl::{NUMBERS, Place};
use security::Capability;
use vfs::pseudo::{Directory, Lister, Node, StaticDirectory, Text};
use vfs::{AccessMask, FileKind, NameCaching};

use crate::network::of_caller;

/// A number as programs write it: decimal, `0x` and `0` as in C.
fn number(text: &str) -> Result<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => i64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    parsed.map(|value| sign * value).map_err(|_| Errno::EINVAL)
}

/// The numbers in what was written.
fn numbers<const N: usize>(input: &[u8]) -> Result<[i64; N]> {
    let text = core::str::from_utf8(input).map_err(|_| Errno::EINVAL)?;
    let mut found = [0; N];
    let mut words = text.split_ascii_whitespace();
    for place in &mut found {
        *place = number(words.next().ok_or(Errno::EINVAL)?)?;
    }
    Ok(found)
}

fn one(input: &[u8]) -> Result<i32> {
    let [value] = numbers(input)?;
    i32::try_from(value).map_err(|_| Errno::EINVAL)
}

/// A file that who administrates the network namespace may write.
fn file(
    read: impl Fn(&NetNamespace, &mut Text) -> Result<()> + Send + Sync + 'static,
    write: impl Fn(&Arc<NetNamespace>, &[u8]) -> Result<()> + Send + Sync + 'static,
) -> Node {
    let node = Node::writable_text(
        0o644,
        move |out| read(&of_caller(), out),
        move |input| write(&of_caller(), input),
    );
    node.allow(|credentials, mask| {
        let writes = mask.contains(AccessMask::WRITE);
        let may = !writes || credentials.capable(of_caller().owner(), Capability::NetAdmin);
        if may && !mask.contains(AccessMask::EXECUTE) { Ok(()) } else { Err(Errno::EACCES) }
    })
}

fn print(out: &mut Text, value: i64) -> Result<()> {
    writeln!(out, "{value}").map_err(|_| Errno::EIO)
}

/// One of the numbers of a namespace.
fn scalar(which: usize) -> Node {
    file(
        move |net, out| print(out, net.ip_number(which).into()),
        move |net, input| net.set_ip_number(which, one(input)?),
    )
}

/// Those of a folder: names without a further slash.
fn scalars(mut folder: StaticDirectory, path: &str) -> StaticDirectory {
    for (which, number) in NUMBERS.iter().enumerate() {
        if let Some(name) = number.path.strip_prefix(path).filter(|name| !name.contains('/')) {
            folder = folder.add(name, scalar(which));
        }
    }
    folder
}

/// `/proc/sys/net/ipv4`.
pub(crate) fn ipv4() -> StaticDirectory {
    let ports = file(
        |net, out| {
            let (first, last) = net.local_ports();
            writeln!(out, "{first}\t{last}").map_err(|_| Errno::EIO)
        },
        |net, input| {
            let [first, last] = numbers(input)?;
            let port = |number| u16::try_from(number).map_err(|_| Errno::EINVAL);
            net.set_local_ports(port(first)?, port(last)?)
        },
    );
    let groups = file(
        |net, out| {
            let (first, last) = net.ping_groups();
            let shown = |group| net.owner().from_kgid_munged(security::Kgid(group));
            let pair = if first > last { (1, 0) } else { (shown(first), shown(last)) };
            writeln!(out, "{}\t{}", pair.0, pair.1).map_err(|_| Errno::EIO)
        },
        |net, input| {
            let [first, last] = numbers(input)?;
            let group = |number: i64| {
                let number = u32::try_from(number).map_err(|_| Errno::EINVAL)?;
                net.owner().make_kgid(number).map(|group| group.0).ok_or(Errno::EINVAL)
            };
            let (first, last) = (group(first)?, group(last)?);
            net.set_ping_groups(if first > last { 1 } else { first }, if first > last { 0 } else { last });
            Ok(())
        },
    );
    let forward = setting(b"all".to_vec(), false, v4::FORWARDING);
    scalars(StaticDirectory::new(), "ipv4/")
        .add("conf", Node::directory(Arc::new(Folder::Interfaces(false))))
        .add("neigh", Node::directory(Arc::new(Folder::Neighbours(false))))
        .add("ip_forward", forward)
        .add("ip_local_port_range", ports)
        .add("ping_group_range", groups)
}

/// `/proc/sys/net/ipv6`.
pub(crate) fn ipv6() -> StaticDirectory {
    let icmp = scalars(StaticDirectory::new(), "ipv6/icmp/");
    scalars(StaticDirectory::new(), "ipv6/")
        .add("conf", Node::directory(Arc::new(Folder::Interfaces(true))))
        .add("neigh", Node::directory(Arc::new(Folder::Neighbours(true))))
        .add("icmp", Node::directory(Arc::new(icmp)))
}

/// The settings that are offered, by name; those of IPv6 without what is not there (segments, in-situ telemetry, a secret).
fn offered(is_v6: bool) -> impl Iterator<Item = (usize, &'static str)> {
    let names: &'static [&'static str] = if is_v6 { &v6::NAMES } else { &v4::NAMES };
    let absent = move |which: &usize| {
        is_v6
            && matches!(
                *which,
                v6::STABLE_SECRET
                    | v6::SEG6_ENABLED
                    | v6::SEG6_REQUIRE_HMAC
                    | v6::RPL_SEG_ENABLED
                    | v6::IOAM6_ENABLED
                    | v6::IOAM6_ID
                    | v6::IOAM6_ID_WIDE
            )
    };
    names.iter().copied().enumerate().filter(move |(which, _)| !absent(which))
}

/// How many of its units a setting has in what its file shows: seconds are kept in milliseconds.
fn unit(is_v6: bool, which: usize) -> i32 {
    let is_time = matches!(
        which,
        v6::ROUTER_SOLICITATION_INTERVAL
            | v6::ROUTER_SOLICITATION_DELAY
            | v6::ROUTER_SOLICITATION_MAX_INTERVAL
            | v6::ROUTER_PROBE_INTERVAL
    );
    if is_v6 && is_time { 1000 } else { 1 }
}

/// One setting of one place.
fn setting(place: Vec<u8>, is_v6: bool, which: usize) -> Node {
    let place = Arc::new(place);
    let name = place.clone();
    let unit = unit(is_v6, which);
    // Only multicast routing itself changes this.
    if which == if is_v6 { v6::MC_FORWARDING } else { v4::MC_FORWARDING } {
        let read = Node::text(0o444, move |out| {
            let net = of_caller();
            let value = Place::named(&net, &name).map_or(0, |place| place.get(&net, is_v6, which));
            writeln!(out, "{value}")
        });
        return read.allow(
            |_, mask| {
                if mask.contains(AccessMask::WRITE) { Err(Errno::EACCES) } else { Ok(()) }
            },
        );
    }
    file(
        move |net, out| {
            let place = Place::named(net, &name).ok_or(Errno::ENOENT)?;
            print(out, (place.get(net, is_v6, which) / unit).into())
        },
        move |net, input| {
            let found = Place::named(net, &place).ok_or(Errno::ENOENT)?;
            let value = one(input)?.checked_mul(unit).ok_or(Errno::EINVAL)?;
            found.set(net.state(), is_v6, which, value)
        },
    )
}

/// One of the numbers by which the neighbours of an interface, or of those to come, are asked.
fn neighbour_setting(place: Vec<u8>, is_v6: bool, setting: &'static settings::File) -> Node {
    let place = Arc::new(place);
    let name = place.clone();
    file(
        move |net, out| match Place::named(net, &name).ok_or(Errno::ENOENT)? {
            Place::Device(_, ip) => print(out, setting.get(ip.neighbours(is_v6).settings(), is_v6).into()),
            _ => print(out, setting.get(&settings::family(is_v6).defaults, is_v6).into()),
        },
        move |net, input| match Place::named(net, &place).ok_or(Errno::ENOENT)? {
            Place::Device(_, ip) => setting.set(ip.neighbours(is_v6).settings(), is_v6, one(input)?),
            _ => setting.set_default(net.state(), is_v6, one(input)?),
        },
    )
}

/// What only the whole machine has of neighbours, besides what new interfaces copy.
const LIMITS: [&str; 4] = ["gc_thresh1", "gc_thresh2", "gc_thresh3", "gc_interval"];
/// `gc_interval` is kept in milliseconds.
const SECOND_MS: i32 = 1000;

fn neighbour_limit(is_v6: bool, number: usize) -> Node {
    let place = move || {
        let family = settings::family(is_v6);
        family.thresholds.get(number).map_or((&family.interval, SECOND_MS), |threshold| (threshold, 1))
    };
    file(
        move |_, out| print(out, (place().0.load(Ordering::Relaxed) / place().1).into()),
        move |_, input| {
            let value =
                one(input)?.checked_mul(place().1).filter(|value| *value >= 0).ok_or(Errno::EINVAL)?;
            place().0.store(value, Ordering::Relaxed);
            Ok(())
        },
    )
}

/// Whether what is the whole machine's is to be seen: only from its first namespace.
fn shows_limits() -> bool {
    of_caller().is_initial()
}

/// A folder whose entries are computed.
enum Folder {
    /// `conf` of a family (whether it is IPv6).
    Interfaces(bool),
    /// The settings of one place.
    Settings(bool, Vec<u8>),
    /// `neigh` of a family.
    Neighbours(bool),
    /// How the neighbours of one place are asked.
    NeighbourSettings(bool, Vec<u8>),
}

/// The interfaces of the reader's namespace.
fn add_interfaces(names: &mut Vec<String>) {
    let net = of_caller();
    let mut next = 0;
    while let Some(device) = net.devices().next_from(next) {
        next = device.index().wrapping_add(1);
        names.push(String::from_utf8_lossy(device.name().as_bytes()).into_owned());
    }
}

fn has_limits(place: &[u8]) -> bool {
    place == b"default"
}

impl Folder {
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        match self {
            Folder::Settings(is_v6, _) => names.extend(offered(*is_v6).map(|(_, name)| name.into())),
            Folder::Interfaces(_) => {
                names.extend(["all".into(), "default".into()]);
                add_interfaces(&mut names);
            }
            Folder::Neighbours(_) => {
                if shows_limits() {
                    names.push("default".into());
                }
                add_interfaces(&mut names);
            }
            Folder::NeighbourSettings(_, place) => {
                names.extend(settings::FILES.iter().map(|file| file.name.into()));
                if has_limits(place) {
                    names.extend(LIMITS.map(String::from));
                }
            }
        }
        names
    }
}

impl Directory for Folder {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        match self {
            Folder::Interfaces(is_v6) => {
                Place::named(of_caller().state(), name).ok_or(Errno::ENOENT)?;
                Ok(Node::directory(Arc::new(Folder::Settings(*is_v6, name.to_vec()))))
            }
            Folder::Neighbours(is_v6) => {
                let is_default = name == b"default";
                if name == b"all" || (is_default && !shows_limits()) {
                    return Err(Errno::ENOENT);
                }
                Place::named(of_caller().state(), name).ok_or(Errno::ENOENT)?;
                Ok(Node::directory(Arc::new(Folder::NeighbourSettings(*is_v6, name.to_vec()))))
            }
            Folder::NeighbourSettings(is_v6, place) => {
                if let Some(file) = settings::FILES.iter().find(|file| file.name.as_bytes() == name) {
                    return Ok(neighbour_setting(place.clone(), *is_v6, file));
                }
                let limit = LIMITS.iter().position(|limit| limit.as_bytes() == name);
                let number = limit.filter(|_| has_limits(place)).ok_or(Errno::ENOENT)?;
                Ok(neighbour_limit(*is_v6, number))
            }
            Folder::Settings(is_v6, place) => {
                let found = offered(*is_v6).find(|(_, known)| known.as_bytes() == name);
                let (which, _) = found.ok_or(Errno::ENOENT)?;
                Ok(setting(place.clone(), *is_v6, which))
            }
        }
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        let kind = match self {
            Folder::Interfaces(_) | Folder::Neighbours(_) => FileKind::Directory,
            Folder::Settings(..) | Folder::NeighbourSettings(..) => FileKind::Regular,
        };
        for (index, name) in (0u64..).zip(self.names()).skip(cursor as usize) {
            if !take(name.as_bytes(), kind, index + 1, index + 1) {
                break;
            }
        }
        Ok(())
    }

    fn caching(&self) -> NameCaching {
        // Interfaces come and go, and readers are in different namespaces.
        NameCaching::Checked
    }
}
