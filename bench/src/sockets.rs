//! What sockets cost: UNIX, netlink, UDP on the loopback. One operation is one message there and back, or one message one way.

use crate::netns::{Body, GETLINK, Netlink, ok};
use crate::work::{Work, in_fork, nothing, paired, wait};

/// Those that every kernel here has.
pub const WORKS: &[Work] = &[
    paired("UNIX stream, 1 byte there and back", nothing, |count| unix_ping_pong(libc::SOCK_STREAM, count)),
    paired("UNIX datagram, 1 byte there and back", nothing, |count| unix_ping_pong(libc::SOCK_DGRAM, count)),
    paired("UNIX stream, 64 KiB one way", nothing, |count| unix_one_way(libc::SOCK_STREAM, 65_536, count)),
    paired("UNIX datagram, 1 KiB one way", nothing, |count| unix_one_way(libc::SOCK_DGRAM, 1024, count)),
    paired("UNIX stream to oneself, 1 byte", nothing, unix_to_oneself),
    paired("UNIX connect + accept + close", nothing, unix_connect),
    paired("socketpair + close", nothing, socket_pair),
    paired("netlink: one link", nothing, netlink_round_trip),
    paired("netlink: dump of one link", nothing, netlink_dump),
];

/// Those that need an address on the loopback; none if it cannot have one.
pub fn internet_works() -> Vec<Work> {
    if !has_loopback_address() {
        return Vec::new();
    }
    vec![
        paired("UDP on the loopback, 1 byte there and back", nothing, udp_ping_pong),
        paired("UDP on the loopback to oneself, 1 KiB", nothing, udp_to_oneself),
        paired("UDP connect + close, 1 route", nothing, udp_connect),
    ]
}

fn pair(kind: i32) -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: socketpair writes two descriptors.
    ok("socketpair", unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) });
    ends
}

fn close(ends: &[i32]) {
    // SAFETY: descriptors of ours.
    ends.iter().for_each(|fd| _ = unsafe { libc::close(*fd) });
}

fn send(fd: i32, bytes: &[u8]) {
    let mut sent = 0;
    while sent < bytes.len() {
        // SAFETY: the pointer and length are of one slice.
        let count = unsafe { libc::write(fd, bytes[sent..].as_ptr().cast(), bytes.len() - sent) };
        sent += ok("write", count as i32) as usize;
    }
}

fn receive(fd: i32, buffer: &mut [u8]) -> usize {
    // SAFETY: the pointer and length are of one slice.
    ok("read", unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) } as i32) as usize
}

/// One byte from `near` to `far`, which another process has, and back.
fn ping_pong(near: i32, far: i32, count: u64) {
    let mut byte = [0];
    let child = in_fork(|| {
        let mut byte = [0];
        for _ in 0..count {
            receive(far, &mut byte);
            send(far, &byte);
        }
    });
    for _ in 0..count {
        send(near, &byte);
        receive(near, &mut byte);
    }
    wait(child);
}

fn unix_ping_pong(kind: i32, count: u64) {
    let ends = pair(kind);
    ping_pong(ends[0], ends[1], count);
    close(&ends);
}

fn unix_one_way(kind: i32, bytes: usize, count: u64) {
    let ends = pair(kind);
    let child = in_fork(|| {
        let message = vec![1u8; bytes];
        (0..count).for_each(|_| send(ends[1], &message));
    });
    let mut left = count * bytes as u64;
    let mut buffer = vec![0; bytes];
    while left > 0 {
        left -= receive(ends[0], &mut buffer) as u64;
    }
    wait(child);
    close(&ends);
}

fn unix_to_oneself(count: u64) {
    let ends = pair(libc::SOCK_STREAM);
    let mut byte = [0];
    for _ in 0..count {
        send(ends[0], &byte);
        receive(ends[1], &mut byte);
    }
    close(&ends);
}

/// A name in the abstract space, one for each process.
fn unix_address() -> (libc::sockaddr_un, u32) {
    // SAFETY: plain data.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    let name = format!("\0bench{}", std::process::id());
    address.sun_path.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte as libc::c_char);
    (address, 2 + name.len() as u32)
}

fn unix_connect(count: u64) {
    let (address, length) = unix_address();
    // SAFETY: numbers, and an address of the length given.
    let listener = unsafe {
        let listener = ok("socket", libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0));
        ok("bind", libc::bind(listener, (&raw const address).cast(), length));
        ok("listen", libc::listen(listener, 8));
        listener
    };
    for _ in 0..count {
        // SAFETY: as above; accept is asked for no address.
        unsafe {
            let client = ok("socket", libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0));
            ok("connect", libc::connect(client, (&raw const address).cast(), length));
            let server = ok("accept", libc::accept(listener, std::ptr::null_mut(), std::ptr::null_mut()));
            close(&[client, server]);
        }
    }
    close(&[listener]);
}

fn socket_pair(count: u64) {
    (0..count).for_each(|_| close(&pair(libc::SOCK_STREAM)));
}

fn netlink_round_trip(count: u64) {
    let mut socket = Netlink::new();
    let body = Body::link(1, 0, 0);
    (0..count).for_each(|_| socket.round_trip(GETLINK, &body));
}

fn netlink_dump(count: u64) {
    let mut socket = Netlink::new();
    let body = Body::link(0, 0, 0);
    (0..count).for_each(|_| _ = socket.dump(GETLINK, &body));
}

fn loopback_address(port: u16) -> libc::sockaddr_in {
    // SAFETY: plain data.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    address.sin_port = port.to_be();
    address
}

/// A UDP socket at a port of the kernel's choice on the loopback, or -1.
fn udp() -> (i32, libc::sockaddr_in) {
    let mut address = loopback_address(0);
    let mut length = size_of_val(&address) as u32;
    // SAFETY: numbers, and an address of the length given.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        if fd < 0 || libc::bind(fd, (&raw const address).cast(), length) != 0 {
            close(&[fd]);
            return (-1, address);
        }
        libc::getsockname(fd, (&raw mut address).cast(), &raw mut length);
        (fd, address)
    }
}

fn connect(fd: i32, address: &libc::sockaddr_in) -> i32 {
    // SAFETY: an address of the length given.
    unsafe { libc::connect(fd, std::ptr::from_ref(address).cast(), size_of_val(address) as u32) }
}

/// Sets `lo` up and tries it.
fn has_loopback_address() -> bool {
    if Netlink::new().try_ask(16, 0, &Body::link(1, 1, 1)) != 0 {
        return false;
    }
    let (fd, address) = udp();
    let reached = fd >= 0 && connect(fd, &address) == 0;
    close(&[fd]);
    reached
}

fn udp_pair() -> [i32; 2] {
    let ((one, here), (other, there)) = (udp(), udp());
    ok("connect", connect(one, &there));
    ok("connect", connect(other, &here));
    [one, other]
}

fn udp_ping_pong(count: u64) {
    let ends = udp_pair();
    ping_pong(ends[0], ends[1], count);
    close(&ends);
}

fn udp_to_oneself(count: u64) {
    let ends = udp_pair();
    let mut message = [1; 1024];
    for _ in 0..count {
        send(ends[0], &message);
        receive(ends[1], &mut message);
    }
    close(&ends);
}

fn udp_connect(count: u64) {
    let (target, address) = udp();
    for _ in 0..count {
        // SAFETY: numbers only.
        let fd = ok("socket", unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) });
        ok("connect", connect(fd, &address));
        close(&[fd]);
    }
    close(&[target]);
}
