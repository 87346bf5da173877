//! `/dev/net/tun` under load: floods either way stay bounded, descriptors outlive devices and keep namespaces, nothing is left over.

use crate::case::{Case, Failure, Outcome, case, long_case};
use crate::inet_help::{self, V4};
use crate::netlink::*;
use crate::tun_help::*;
use crate::{ensure, ensure_eq};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("tun_flood_that_nobody_reads", flood_that_nobody_reads),
    case("tun_flood_of_writes", flood_of_writes),
    case("tun_descriptor_keeps_its_namespace", descriptor_keeps_its_namespace),
    case("tun_descriptor_outlives_its_device", descriptor_outlives_its_device),
    long_case("tun_storm", 60, storm),
];

const HERE: [u8; 4] = [10, 9, 0, 1];
const THERE: [u8; 4] = [10, 9, 0, 2];

/// A device `t` that is up with an address, in a namespace of its own.
fn running(flags: u16) -> Result<Tun, Failure> {
    inet_help::isolated()?;
    without_ipv6();
    let tun = Tun::attached("t", flags)?;
    give_address(&mut Socket::route()?, "t", HERE)?;
    inet_help::up("t")?;
    Ok(tun)
}

/// One counter of a link's IFLA_STATS64.
fn counter(name: &str, at: usize) -> Result<u64, Failure> {
    let answers = Socket::route()?.ask(GETLINK, ACK, &Builder::link(0, 0, 0).text(3, name));
    let all = answers.first().map(|message| message.attributes(16)).unwrap_or_default();
    let bytes = all.get(&23).and_then(|wide| wide.get(8 * at..8 * at + 8));
    let bytes: [u8; 8] = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or("no counters")?;
    Ok(u64::from_ne_bytes(bytes))
}

fn flood_that_nobody_reads() -> Outcome {
    const SENT: u64 = 5000;
    let tun = running(IFF_TUN | IFF_NO_PI)?;
    let udp = inet_help::udp(V4)?;
    let there = inet_help::address("10.9.0.2", 9);
    let data = [7; 1400];
    for _ in 0..SENT {
        // A full queue may be the sender's error or not.
        inet_help::send_to(udp, &data, libc::MSG_DONTWAIT, &there);
    }
    let waiting = std::iter::from_fn(|| tun.read(2000).ok()).take(SENT as usize).count() as u64;
    // As many as the queue may be long, and what a discipline in front of it holds.
    ensure!((500..2500).contains(&waiting), "{waiting} were kept");
    ensure!(counter("t", 7)? > 0, "none was counted as dropped");
    inet_help::send_to(udp, b"again", 0, &there);
    ensure_eq!(shown(&tun.read(100).map_err(|error| format!("read: {error}"))?), "to 10.9.0.2:9 \"again\"");
    Ok(())
}

fn flood_of_writes() -> Outcome {
    const WRITTEN: u64 = 20_000;
    let tun = running(IFF_TUN | IFF_NO_PI)?;
    let udp = inet_help::udp(V4)?;
    inet_help::bind(udp, &inet_help::address("10.9.0.1", 7000));
    let packet = udp_packet(THERE, HERE, (9, 7000), &[5; 1000]);
    for _ in 0..WRITTEN {
        ensure_eq!(tun.write(&packet), Ok(packet.len() as i64));
    }
    ensure_eq!(counter("t", 0)?, WRITTEN);
    let got = std::iter::from_fn(|| inet_help::receive(udp, 2000, libc::MSG_DONTWAIT).ok()).count() as u64;
    ensure!(got > 0 && got < WRITTEN, "{got} came");
    // What is no packet harms nobody.
    for length in 0..64 {
        let mut bytes = packet[..length].to_vec();
        bytes.resize(64 - length, 0xff);
        let _ = tun.write(&bytes);
    }
    ensure_eq!(tun.write(&packet), Ok(packet.len() as i64));
    ensure!(inet_help::receive(udp, 2000, 0).is_ok());
    Ok(())
}

/// Whether an id of the caller's namespace stands for one.
fn has_id(id: i32) -> Result<bool, Failure> {
    let answers = Socket::route()?.ask(GETNSID, ACK, &Builder::generic().number(1, id));
    Ok(answers.first().is_some_and(|message| message.kind == NEWNSID))
}

fn wait_for(what: &str, mut condition: impl FnMut() -> Result<bool, Failure>) -> Outcome {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition()? {
        ensure!(Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn descriptor_keeps_its_namespace() -> Outcome {
    inet_help::isolated()?;
    let there = new_namespace()?;
    let tun = inside(&there, || Tun::attached("t", IFF_TUN | IFF_NO_PI))?;
    let unattached = inside(&there, || Tun::open(libc::O_NONBLOCK))?;
    let body = Builder::generic().number(1, 7).number(3, there.0);
    ensure_eq!(Socket::route()?.errno(NEWNSID, 0, &body), 0);
    drop(there);
    std::thread::sleep(Duration::from_millis(500));
    ensure!(has_id(7)?, "it went although a descriptor of its device is open");
    ensure_eq!(tun.ioctl(TUNSETPERSIST, 1), Ok(0));
    drop(tun);
    std::thread::sleep(Duration::from_millis(500));
    ensure!(has_id(7)?, "it went although a descriptor opened in it is open");
    // Made where it was opened, not where it is asked.
    ensure_eq!(unattached.set("u", IFF_TUN), Ok("u".to_owned()));
    ensure!(inet_help::index_of("u").is_err());
    drop(unattached);
    wait_for("its end", || Ok(!has_id(7)?))
}

fn descriptor_outlives_its_device() -> Outcome {
    let tun = running(IFF_TUN | IFF_NO_PI)?;
    let there = new_namespace()?;
    let mut s = Socket::route()?;
    let index = s.index_of("t");
    ensure_eq!(s.errno(SETLINK, 0, &Builder::link(index, 0, 0).number(28, there.0)), 0);
    ensure!(tun.read(100) == Err(libc::EAGAIN));
    drop(there);
    wait_for("the device's end", || Ok(tun.read(100) == Err(libc::EBADFD)))?;
    ensure_eq!(tun.poll(), libc::POLLERR);
    ensure_eq!(tun.write(&[0x45; 20]), Err(libc::EBADFD));
    ensure_eq!(tun.set("t", IFF_TAP), Ok("t".to_owned()));
    Ok(())
}

/// Descriptors come and go, links are deleted, packets flow either way: at the end all is as it was.
fn storm() -> Outcome {
    const FLAGS: u16 = IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE;
    inet_help::isolated()?;
    without_ipv6();
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let again = || !stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while again() {
                    let Ok(tun) = Tun::open(libc::O_NONBLOCK) else { continue };
                    if tun.set("t", FLAGS).is_ok() {
                        let _ = inet_help::up("t");
                        if let Ok(mut s) = Socket::route() {
                            let _ = give_address(&mut s, "t", HERE);
                        }
                        let _ = tun.write(&udp_packet(THERE, HERE, (9, 7000), b"in"));
                        let _ = tun.read(100);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        scope.spawn(|| {
            let Ok(udp) = inet_help::udp(V4) else { return };
            while again() {
                inet_help::send_to(udp, b"out", libc::MSG_DONTWAIT, &inet_help::address("10.9.0.2", 9));
            }
        });
        scope.spawn(|| {
            let Ok(mut s) = Socket::route() else { return };
            while again() {
                s.errno(DELLINK, 0, &Builder::link(0, 0, 0).text(3, "t"));
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        std::thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
    });
    ensure!(done.load(Ordering::Relaxed) > 10, "only {} rounds", done.load(Ordering::Relaxed));
    wait_for("the last one's end", || Ok(inet_help::index_of("t").is_err()))?;
    Tun::attached("t", FLAGS).map(drop)
}
