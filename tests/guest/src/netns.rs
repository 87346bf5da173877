//! Network namespaces made and ended in numbers: nothing is left of them, and nobody else pays for them.

use crate::case::{Case, Failure, Outcome, case, long_case, only_long_case};
use crate::netlink::{
    ACK, Builder, CREATE, DELLINK, DUMP, EXCL, GETLINK, GETNSID, GROUP_NSID, NEWLINK, NEWNSID, SETLINK,
    Socket,
};
use crate::sys::{call, fork, ok, sleep_ms, wait};
use crate::{ensure, ensure_eq};
use std::time::{Duration, Instant};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("netns_cleaning_visits_only_what_dies", cleaning_visits_only_what_dies),
    long_case("netns_memory_comes_back", 120, || memory_comes_back(400)),
    only_long_case("netns_memory_comes_back_20000", 3600, || memory_comes_back(20_000)),
    long_case("netns_faster_than_they_go", 120, || faster_than_they_go(Duration::from_secs(3))),
    only_long_case("netns_faster_than_they_go_long", 600, || faster_than_they_go(Duration::from_secs(120))),
    long_case("netns_storm", 120, || storm(Duration::from_secs(4))),
    only_long_case("netns_storm_long", 900, || storm(Duration::from_secs(600))),
];

/// A namespace that this descriptor keeps alive.
struct Namespace(i32);

impl Drop for Namespace {
    fn drop(&mut self) {
        crate::sys::close(self.0);
    }
}

impl Namespace {
    fn current() -> Result<Namespace, Failure> {
        // SAFETY: a valid string.
        let fd = unsafe { libc::open(c"/proc/self/ns/net".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        Ok(Namespace(ok("open", fd)? as i32))
    }

    fn enter(&self) -> Outcome {
        let arguments = [self.0 as usize, libc::CLONE_NEWNET as usize, 0, 0, 0, 0];
        ok("setns", call(libc::SYS_setns, arguments)).map(drop)
    }

    /// A new one; the caller stays in `home`.
    fn create(home: &Namespace) -> Result<Namespace, Failure> {
        ok("unshare", call(libc::SYS_unshare, [libc::CLONE_NEWNET as usize, 0, 0, 0, 0, 0]))?;
        let new = Namespace::current();
        home.enter()?;
        new
    }

    fn socket(&self, home: &Namespace) -> Result<Socket, Failure> {
        self.enter()?;
        let socket = Socket::route();
        home.enter()?;
        socket
    }
}

fn nsid(id: i32, namespace: &Namespace) -> Builder {
    Builder::generic().number(1, id).number(3, namespace.0)
}

/// A veth pair whose other end is in a namespace.
fn veth(near: &str, far: &str, namespace: &Namespace) -> Builder {
    let far = Builder::link(0, 0, 0).text(3, far).number(28, namespace.0);
    let data = Builder::default().nest(1, far);
    Builder::link(0, 0, 0).text(3, near).nest(18, Builder::default().text(1, "veth").nest(2, data))
}

/// How many messages a dump has before its end.
fn count(socket: &mut Socket, kind: u16, body: &Builder) -> usize {
    socket.ask(kind, DUMP, body).iter().filter(|message| message.kind > 3).count()
}

/// A figure of Linnet's about its namespaces; none on another kernel, where the figure is not checked.
fn figure(name: &str) -> Result<Option<u64>, Failure> {
    let root = "/sys/kernel/debug";
    if !std::path::Path::new(&format!("{root}/netns")).exists() {
        let (kind, place) = (crate::sys::c("debugfs"), crate::sys::c(root));
        // SAFETY: valid strings.
        unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    }
    let version = std::fs::read_to_string("/proc/version").unwrap_or_default();
    match std::fs::read_to_string(format!("{root}/netns/{name}")) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| Failure::Wrong(format!("{name}: {text}"))),
        Err(error) if version.starts_with("Linux version") && !version.contains("linnet") => {
            let _ = error;
            Ok(None)
        }
        Err(error) => Err(Failure::Wrong(format!("{name}: {error}"))),
    }
}

/// Waits until a condition holds.
fn until(what: &str, mut holds: impl FnMut() -> Result<bool, Failure>) -> Outcome {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > Duration::from_secs(60) {
            return Err(Failure::Wrong(format!("after a minute: {what}")));
        }
        sleep_ms(5);
    }
    Ok(())
}

/// Waits until no namespace is dying, as far as this kernel tells; the counting kind of waiting is for the others.
fn settle() -> Outcome {
    if figure("dying")?.is_none() {
        sleep_ms(300);
        return Ok(());
    }
    until("namespaces are still dying", || Ok(figure("dying")? == Some(0)))
}

fn cleaning_visits_only_what_dies() -> Outcome {
    const DYING: usize = 20;
    const ALIVE: usize = 30;
    let home = Namespace::current()?;
    let make = |number: usize| (0..number).map(|_| Namespace::create(&home)).collect::<Result<Vec<_>, _>>();
    settle()?;
    let (dying, alive) = (make(DYING)?, make(ALIVE)?);
    let mut holders: Vec<Socket> = alive.iter().map(|one| one.socket(&home)).collect::<Result<_, _>>()?;
    for holder in &mut holders {
        for peer in dying.iter().chain(&alive) {
            ensure_eq!(holder.errno(NEWNSID, 0, &nsid(-1, peer)), 0);
        }
    }
    let before = figure("edges_visited")?;
    drop(dying);
    for holder in &mut holders {
        until("ids of dead namespaces", || Ok(count(holder, GETNSID, &Builder::generic()) == ALIVE))?;
    }
    settle()?;
    if let (Some(before), Some(after)) = (before, figure("edges_visited")?) {
        // Each edge into the dying once; the 900 among the living not at all.
        let (visited, edges) = (after - before, (DYING * ALIVE) as u64);
        ensure!(visited >= edges && visited <= 2 * edges, "{visited} edges visited of {edges}");
    }
    // One that nobody knows costs nothing.
    let before = figure("edges_visited")?;
    drop(Namespace::create(&home)?);
    settle()?;
    ensure_eq!(figure("edges_visited")?, before);
    Ok(())
}

fn available_kib() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// A namespace with a veth pair into it, ids in both directions, a link of its own, addresses, routes and sockets; then all of it goes.
fn live_and_die(home: &Namespace, socket: &mut Socket, number: usize) -> Outcome {
    let namespace = Namespace::create(home)?;
    let name = format!("v{number}");
    ensure_eq!(socket.errno(NEWLINK, CREATE | EXCL, &veth(&name, "inside", &namespace)), 0);
    let mut inside = namespace.socket(home)?;
    let dummy = Builder::link(0, 0, 0).text(3, "own").kind("dummy");
    ensure_eq!(inside.errno(NEWLINK, CREATE | EXCL, &dummy), 0);
    // Describing the veth has given the ids; once more is refused.
    ensure!([0, libc::EEXIST].contains(&inside.errno(NEWNSID, 0, &nsid(-1, home))));
    ensure!([0, libc::EEXIST].contains(&socket.errno(NEWNSID, 0, &nsid(-1, &namespace))));
    ensure!(count(&mut inside, GETLINK, &Builder::link(0, 0, 0)) >= 3);
    addresses_and_routes(&mut inside)?;
    // A stream with an unread message, and a datagram that nobody reads.
    let mut ends = [0; 2];
    namespace.enter()?;
    unread_datagram()?;
    // SAFETY: socketpair writes two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) };
    home.enter()?;
    ok("socketpair", made)?;
    crate::sys::write(ends[0], b"unread")?;
    ends.iter().for_each(|end| crate::sys::close(*end));
    Ok(())
}

/// `lo` and the end of the pair go up, with an address and a route to more.
fn addresses_and_routes(inside: &mut Socket) -> Outcome {
    const NEWADDR: u16 = 20;
    const NEWROUTE: u16 = 24;
    for index in [1, 2] {
        ensure_eq!(inside.errno(SETLINK, 0, &Builder::link(index, 1, 1)), 0);
        let header = [&[libc::AF_INET as u8, 24, 0, 0][..], &index.to_ne_bytes()].concat();
        let address = [10, 1, index as u8, 1];
        let body = Builder(header).attribute(2, &address).attribute(1, &address);
        ensure_eq!(inside.errno(NEWADDR, CREATE | EXCL, &body), 0);
        // struct rtmsg: AF_INET, /24, main table, RTPROT_STATIC, link scope, unicast.
        let header = vec![libc::AF_INET as u8, 24, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0];
        let body = Builder(header).attribute(1, &[11, index as u8, 0, 0]).number(4, index);
        ensure_eq!(inside.errno(NEWROUTE, CREATE | EXCL, &body), 0);
    }
    Ok(())
}

/// A UDP socket that has sent itself something, closed with it.
fn unread_datagram() -> Outcome {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let place = socket.local_addr().map_err(|error| error.to_string())?;
    socket.send_to(b"unread", place).map_err(|error| error.to_string())?;
    Ok(())
}

fn memory_comes_back(rounds: usize) -> Outcome {
    let home = Namespace::current()?;
    let mut socket = home.socket(&home)?;
    let mut run = |from: usize, rounds: usize| -> Outcome {
        (from..from + rounds).try_for_each(|number| live_and_die(&home, &mut socket, number))?;
        settle()
    };
    // What is kept for the next is taken once.
    run(0, 100)?;
    sleep_ms(500);
    let before = available_kib();
    run(100, rounds)?;
    let mut least = i64::MAX;
    let enough = until("memory is missing", || {
        least = least.min(before - available_kib());
        Ok(before - available_kib() <= before / 100)
    });
    enough.map_err(|_| {
        Failure::Wrong(format!("{least} KiB of {before} are missing after {rounds} namespaces"))
    })?;
    let links = count(&mut socket, GETLINK, &Builder::link(0, 0, 0));
    let ids = count(&mut socket, GETNSID, &Builder::generic());
    until("links or ids are left", || Ok(links <= 2 && ids == 0))
}

/// Four processes make namespaces, each with a link, as fast as they can.
fn faster_than_they_go(time: Duration) -> Outcome {
    let children: Vec<i32> = (0..4)
        .map(|_| {
            fork(|| {
                let end = Instant::now() + time;
                while Instant::now() < end {
                    if call(libc::SYS_unshare, [libc::CLONE_NEWNET as usize, 0, 0, 0, 0, 0]) != 0 {
                        return if crate::sys::errno() == libc::ENOMEM { continue } else { 1 };
                    }
                    let Ok(mut socket) = Socket::route() else { continue };
                    for number in 0..4 {
                        let name = format!("d{number}");
                        socket.errno(NEWLINK, CREATE, &Builder::link(0, 0, 0).text(3, &name).kind("dummy"));
                    }
                }
                0
            })
        })
        .collect::<Result<_, _>>()?;
    for child in children {
        ensure_eq!(wait(child)?, 0);
    }
    settle()?;
    let status = std::process::Command::new("/bin/true").status().map_err(|error| error.to_string())?;
    ensure!(status.success());
    Ok(())
}

/// A number that follows another.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

/// Some namespaces that stay, in which others make, move, name, show and end things at the same time.
fn storm(time: Duration) -> Outcome {
    const STAY: usize = 4;
    let home = Namespace::current()?;
    let stay: Vec<Namespace> = (0..STAY).map(|_| Namespace::create(&home)).collect::<Result<_, _>>()?;
    let seed = crate::case::SEED.load(std::sync::atomic::Ordering::Relaxed) | 1;
    type Part = fn(&Namespace, &[Namespace], &mut u64) -> Outcome;
    const PARTS: [Part; 7] = [makes_and_ends, makes_and_ends, moves, moves, names, dumps, monitors];
    let mut children = Vec::new();
    for (number, part) in PARTS.into_iter().enumerate() {
        let (home, stay) = (&home, &stay);
        children.push(fork(move || {
            let mut state = seed.wrapping_mul(number as u64 * 2 + 3) | 1;
            let end = Instant::now() + time;
            while Instant::now() < end {
                if part(home, stay, &mut state).is_err() {
                    return 1;
                }
            }
            0
        })?);
    }
    for child in children {
        ensure_eq!(wait(child)?, 0);
    }
    // What stays is as good as new: links go, ids of each other only.
    for one in &stay {
        let mut socket = one.socket(&home)?;
        for number in 0..8 {
            socket.errno(DELLINK, 0, &Builder::link(0, 0, 0).text(3, &format!("m{number}")));
        }
        until("ids of dead namespaces", || Ok(count(&mut socket, GETNSID, &Builder::generic()) <= STAY + 1))?;
    }
    drop(stay);
    settle()?;
    let mut socket = home.socket(&home)?;
    until("ids are left", || Ok(count(&mut socket, GETNSID, &Builder::generic()) == 0))
}

/// A namespace with veth pairs into one that stays, at once gone.
fn makes_and_ends(home: &Namespace, stay: &[Namespace], state: &mut u64) -> Outcome {
    let namespace = Namespace::create(home)?;
    let mut socket = namespace.socket(home)?;
    let other = &stay[next(state) % stay.len()];
    for number in 0..next(state) % 3 {
        // Its name may be taken there.
        let far = format!("p{}", next(state) % 64);
        socket.errno(NEWLINK, CREATE | EXCL, &veth(&format!("v{number}"), &far, other));
    }
    if next(state).is_multiple_of(2) {
        socket.errno(NEWNSID, 0, &nsid(-1, &namespace));
    }
    Ok(())
}

/// A veth pair whose ends go from one to the other, into one that ends too.
fn moves(home: &Namespace, stay: &[Namespace], state: &mut u64) -> Outcome {
    let (from, to) = (&stay[next(state) % stay.len()], &stay[next(state) % stay.len()]);
    let mut socket = from.socket(home)?;
    let name = format!("m{}", next(state) % 8);
    let pair = Builder::link(0, 0, 0).text(3, &name).nest(18, Builder::default().text(1, "veth"));
    socket.errno(NEWLINK, CREATE | EXCL, &pair);
    let mortal = Namespace::create(home)?;
    let target = if next(state).is_multiple_of(4) { &mortal } else { to };
    socket.errno(SETLINK, 0, &Builder::link(0, 1, 1).text(3, &name).number(28, target.0));
    if next(state).is_multiple_of(2) {
        to.socket(home)?.errno(DELLINK, 0, &Builder::link(0, 0, 0).text(3, &name));
    }
    Ok(())
}

/// Ids for each other and for one that ends.
fn names(home: &Namespace, stay: &[Namespace], state: &mut u64) -> Outcome {
    let mortal = Namespace::create(home)?;
    for holder in stay {
        let mut socket = holder.socket(home)?;
        socket.errno(NEWNSID, 0, &nsid(-1, &mortal));
        socket.errno(NEWNSID, 0, &nsid((next(state) % 40) as i32, &stay[next(state) % stay.len()]));
    }
    Ok(())
}

fn dumps(home: &Namespace, stay: &[Namespace], state: &mut u64) -> Outcome {
    let mut socket = stay[next(state) % stay.len()].socket(home)?;
    count(&mut socket, GETLINK, &Builder::link(0, 0, 0));
    count(&mut socket, GETNSID, &Builder::generic());
    let _ = std::fs::read_to_string("/proc/net/dev");
    Ok(())
}

/// Listens to everything of all namespaces for a while; what does not fit is lost, as is allowed.
fn monitors(home: &Namespace, stay: &[Namespace], state: &mut u64) -> Outcome {
    let socket = stay[next(state) % stay.len()].socket(home)?;
    socket.bind(0, 1);
    socket.option(1, GROUP_NSID as i32)?;
    // NETLINK_LISTEN_ALL_NSID.
    socket.option(8, 1)?;
    sleep_ms(20);
    socket.pending();
    // A request in between is answered, whatever else comes.
    let mut asker = stay[next(state) % stay.len()].socket(home)?;
    ensure_eq!(asker.errno(GETLINK, ACK, &Builder::link(1, 0, 0)), 0);
    Ok(())
}
