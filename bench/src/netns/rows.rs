//! The rows about namespaces. See `super` for what is printed and how the end of a namespace is seen.

use super::netlink::{CREATE, DELLINK, DELNSID, GETNSID, GROUP_NSID, NEWADDR, NEWLINK, NEWNSID, NEWROUTE};
use super::{Body, GETLINK, Home, Namespace, Netlink, ok};
use std::time::{Duration, Instant};

type Row = (&'static str, fn());

/// All of them, by a name that a filter is compared with.
pub const ROWS: &[Row] = &[
    ("create", create),
    ("memory", memory),
    ("destroy one", destroy_one),
    ("destroy many", destroy_many),
    ("ids for every pair", every_pair),
    ("ids of others", ids_of_others),
    ("cycle", cycle),
    ("cycle with address", cycle_with_address),
    ("link dump", link_dump),
    ("link add", link_add),
    ("lookup in N routes", route_lookup),
];

fn tell(name: &str, value: f64) {
    println!("{name}\t{value:.1}");
}

fn tell_at(name: &str, size: usize, value: f64) {
    println!("{name}@{size}\t{value:.1}");
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_nanos() as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The time of `f`, the median of so many.
fn median_of(count: usize, mut f: impl FnMut()) -> f64 {
    let times = (0..count).map(|_| {
        let start = Instant::now();
        f();
        nanoseconds(start.elapsed())
    });
    median(times.collect())
}

fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

fn create() {
    const COUNT: usize = 200;
    let home = Home::new();
    let (all, passed) = home.create_timed(COUNT);
    tell("create a namespace", nanoseconds(passed) / COUNT as f64);
    drop(all);
}

/// KiB that nobody has (`MemFree`).
fn free_kib() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).expect("MemFree")
}

fn memory() {
    const COUNT: usize = 1000;
    let home = Home::new();
    // What is made once, for the first namespaces, is not theirs.
    drop(home.create_many(50));
    home.wait_until_gone();
    let before = free_kib();
    let all = home.create_many(COUNT);
    tell("memory of a namespace", (before - free_kib()) / COUNT as f64);
    drop(all);
}

fn destroy_one() {
    let home = Home::new();
    let mut listener = Netlink::listening(GROUP_NSID);
    let (mut told, mut gone) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let victim = home.create();
        listener_id(&victim);
        pause(100);
        home.allow(1);
        let start = Instant::now();
        drop(victim);
        listener.wait_for(DELNSID);
        told.push(nanoseconds(start.elapsed()));
        gone.push(nanoseconds(home.gone_at() - start));
        home.wait_until_gone();
    }
    tell("destroy one: RTM_DELNSID", median(told));
    tell("destroy one: gone", median(gone));
}

/// Gives a namespace an id in this one.
fn listener_id(namespace: &Namespace) {
    Netlink::new().ask(NEWNSID, 0, &Body::nsid(-1, namespace.0));
}

/// Many at once, until all are gone; and what is not free again of the memory that they took.
fn destroy_many() {
    const COUNT: usize = 200;
    let home = Home::new();
    drop(home.create_many(COUNT));
    home.wait_until_gone();
    let before = free_kib();
    let all = home.create_many(COUNT);
    let taken = before - free_kib();
    pause(100);
    home.allow(1);
    let start = Instant::now();
    drop(all);
    tell("destroy 200: all gone", nanoseconds(home.gone_at() - start));
    pause(1000);
    tell("memory not free again, of each", (before - free_kib()).clamp(0.0, taken) / COUNT as f64);
}

/// L die at once, M live and have an id for each of them.
fn every_pair() {
    for size in [50, 200, 400] {
        let home = Home::new();
        let dying = home.create_many(size);
        let alive = home.create_many(size);
        let mut holders: Vec<Netlink> = alive.iter().map(|one| home.socket_in(one)).collect();
        let start = Instant::now();
        for holder in &mut holders {
            dying.iter().for_each(|peer| holder.ask(NEWNSID, 0, &Body::nsid(-1, peer.0)));
        }
        if size == 200 {
            tell("give an id", nanoseconds(start.elapsed()) / (size * size) as f64);
        }
        let last = Body::generic().number(1, size as i32 - 1);
        pause(100);
        let start = Instant::now();
        drop(dying);
        for holder in &mut holders {
            // Asking for one id disturbs less than a dump, which has the last word.
            while holder.try_ask(GETNSID, 0, &last) == 0 || holder.dump(GETNSID, &Body::generic()) > 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        tell_at("ids of L dying in M living", size, nanoseconds(start.elapsed()));
        drop((holders, alive));
        home.wait_until_gone();
    }
}

/// One dies while M live ones have N ids each that do not name it.
fn ids_of_others() {
    const SAMPLES: usize = 15;
    let home = Home::new();
    let mut listener = Netlink::listening(GROUP_NSID);
    let mut alive: Vec<(Namespace, Netlink)> = Vec::new();
    for size in [1usize, 32, 100, 316, 1000] {
        let before = alive.len();
        while alive.len() < size {
            let new = home.create();
            let socket = home.socket_in(&new);
            alive.push((new, socket));
        }
        for index in 0..size {
            // Who was there before lacks the new ones only.
            let first = if index < before { before } else { 0 };
            for peers in (first..size).collect::<Vec<_>>().chunks(64) {
                let bodies: Vec<Body> = peers.iter().map(|peer| Body::nsid(-1, alive[*peer].0.0)).collect();
                let socket = &mut alive[index].1;
                bodies.iter().for_each(|body| socket.queue(NEWNSID, 0, body));
                socket.flush();
            }
        }
        // None of the requests was refused: the last id is there.
        let last = Body::generic().number(1, size as i32 - 1);
        assert!(
            alive.iter_mut().all(|(_, socket)| socket.try_ask(GETNSID, 0, &last) == 0),
            "ids are missing"
        );
        let times = (0..SAMPLES).map(|_| {
            let victim = home.create();
            listener_id(&victim);
            pause(50);
            let start = Instant::now();
            drop(victim);
            listener.wait_for(DELNSID);
            nanoseconds(start.elapsed())
        });
        tell_at("one dies beside ids of others", size * size, median(times.collect()));
    }
}

const CYCLES: usize = 1000;

/// A namespace, a veth pair into it, what `inside` does there, the end; again and again, until all are gone.
fn cycles(name: &str, count: usize, inside: impl Fn(&mut Netlink, &Namespace, &Home)) {
    let home = Home::new();
    let mut socket = Netlink::new();
    let start = Instant::now();
    for number in 0..count {
        let namespace = home.create();
        socket.ask(NEWLINK, CREATE, &Body::veth(&format!("v{number}"), "inside", namespace.0));
        inside(&mut socket, &namespace, &home);
    }
    home.allow(1);
    let end = home.gone_at();
    tell(name, nanoseconds(end - start) / count as f64);
}

fn cycle() {
    cycles("create, veth, destroy", CYCLES, |_, _, _| {});
}

/// The last device that was made gets an address: `10.0.0.last`/24.
fn add_address(socket: &mut Netlink, index: i32, last: u8) -> i32 {
    let header = [&[libc::AF_INET as u8, 24, 0, 0][..], &index.to_ne_bytes()].concat();
    let address = [10, 0, 0, last];
    socket.try_ask(NEWADDR, CREATE, &Body(header).attribute(2, &address).attribute(1, &address))
}

/// Whether this kernel has addresses: `lo` of a new namespace may have one.
fn has_addresses() -> bool {
    let home = Home::new();
    let namespace = home.create();
    add_address(&mut home.socket_in(&namespace), 1, 1) == 0
}

fn cycle_with_address() {
    if !has_addresses() {
        return;
    }
    cycles("create, veth, address, route, ping, destroy", CYCLES / 5, |_, namespace, home| {
        let mut socket = home.socket_in(namespace);
        namespace.enter();
        let index = interface("inside");
        ok("up", -socket.try_ask(NEWLINK, 0, &Body::link(1, 1, 1)));
        ok("up", -socket.try_ask(NEWLINK, 0, &Body::link(index, 1, 1)));
        ok("address", -add_address(&mut socket, index, 1));
        // struct rtmsg: AF_INET, /8, main table, RTPROT_STATIC, link scope, unicast.
        let header = [libc::AF_INET as u8, 8, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0];
        let route = Body(header.to_vec()).attribute(1, &[11, 0, 0, 0]).number(4, index);
        socket.ask(NEWROUTE, CREATE, &route);
        ping([10, 0, 0, 1]);
        home.namespace.enter();
    });
}

fn interface(name: &str) -> i32 {
    let name = std::ffi::CString::new(name).unwrap_or_default();
    // SAFETY: a valid string.
    unsafe { libc::if_nametoindex(name.as_ptr()) as i32 }
}

/// One echo request and its answer, through a raw socket.
fn ping(address: [u8; 4]) {
    // SAFETY: numbers only.
    let fd = ok("socket", unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP) });
    let mut request = [8u8, 0, 0, 0, 0x12, 0x34, 0, 1];
    let sum: u32 = request.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    // SAFETY: plain data.
    let mut to: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    to.sin_family = libc::AF_INET as u16;
    to.sin_addr.s_addr = u32::from_ne_bytes(address);
    // SAFETY: buffers of the lengths given.
    let sent = unsafe {
        let length = size_of_val(&to) as u32;
        libc::sendto(fd, request.as_ptr().cast(), request.len(), 0, (&raw const to).cast(), length)
    };
    ok("sendto", sent as i32);
    let mut answer = [0u8; 128];
    // The socket also sees the request arrive; the answer has type 0 after a header of 20 bytes.
    loop {
        // SAFETY: the buffer's own length.
        let count = unsafe { libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0) };
        if ok("recv", count as i32) >= 28 && answer[20] == 0 {
            break;
        }
    }
    super::close(fd);
}

fn link_dump() {
    let home = Home::new();
    let mut socket = Netlink::new();
    let mut all: Vec<Namespace> = Vec::new();
    for size in [10, 100, 400, 1000] {
        while all.len() < size {
            let namespace = home.create();
            let name = format!("v{}", all.len());
            socket.ask(NEWLINK, CREATE, &Body::veth(&name, "inside", namespace.0));
            all.push(namespace);
        }
        let body = Body::link(0, 0, 0);
        assert!(socket.dump(GETLINK, &body) > size, "a dump lacks links");
        tell_at("dump of M links", size, median_of(9, || _ = socket.dump(GETLINK, &body)));
    }
}

fn link_add() {
    const SAMPLES: usize = 9;
    // In a namespace that takes them all with it.
    ok("unshare", super::unshare());
    let mut socket = Netlink::new();
    let mut count = 0;
    for size in [1, 10, 100, 300, 1000] {
        while count < size {
            socket.ask(NEWLINK, CREATE, &Body::dummy(&format!("d{count}")));
            count += 1;
        }
        for (what, name) in [("link add", "probe"), ("link add, name of a pattern", "d%d")] {
            let times = (0..SAMPLES).map(|_| {
                let start = Instant::now();
                socket.ask(NEWLINK, CREATE, &Body::dummy(name));
                let time = nanoseconds(start.elapsed());
                let made = if name == "probe" { name.to_owned() } else { format!("d{count}") };
                socket.ask(DELLINK, 0, &Body::link(0, 0, 0).text(3, &made));
                time
            });
            tell_at(what, size, median(times.collect()));
        }
    }
}

/// A socket that connects again and again, each time to a host behind another of N routes: a look-up without a packet.
fn route_lookup() {
    const SAMPLES: usize = 9;
    const CONNECTS: usize = 1000;
    // In a namespace that takes it all with it.
    ok("unshare", super::unshare());
    let mut socket = Netlink::new();
    socket.ask(NEWLINK, CREATE, &Body::dummy("d0"));
    let index = interface("d0");
    socket.ask(NEWLINK, 0, &Body::link(index, 1, 1));
    ok("address", -add_address(&mut socket, index, 1));
    let place = |number: usize| [11, (number >> 8) as u8, number as u8, 0];
    // SAFETY: numbers only.
    let fd = ok("socket", unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) });
    let mut count = 0;
    for size in [1, 10, 100, 1000, 10_000] {
        for number in count..size {
            // struct rtmsg: AF_INET, /24, main table, RTPROT_STATIC, link scope, unicast.
            let header = [libc::AF_INET as u8, 24, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0];
            let route = Body(header.to_vec()).attribute(1, &place(number)).number(4, index);
            socket.ask(NEWROUTE, CREATE, &route);
        }
        count = size;
        // Steps that have no divisor in common with the size visit all routes, far from each other.
        let mut number = 0;
        let time = median_of(SAMPLES, || {
            for _ in 0..CONNECTS {
                number = (number + 7919) % size;
                let [a, b, c, _] = place(number);
                connect(fd, [a, b, c, 9]);
            }
        });
        tell_at("lookup in N routes", size, time / CONNECTS as f64);
    }
    super::close(fd);
}

fn connect(fd: i32, address: [u8; 4]) {
    // SAFETY: plain data.
    let mut to: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    to.sin_family = libc::AF_INET as u16;
    to.sin_port = 9u16.to_be();
    to.sin_addr.s_addr = u32::from_ne_bytes(address);
    // SAFETY: a sockaddr_in.
    ok("connect", unsafe { libc::connect(fd, (&raw const to).cast(), size_of_val(&to) as u32) });
}
