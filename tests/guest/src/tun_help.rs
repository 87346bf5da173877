//! `/dev/net/tun` for the cases about it: opening, asking, and packets made by hand.
//!
//! Key type: [`Tun`], a descriptor.

use crate::case::Failure;
use crate::netlink::{Builder, CREATE, Socket};
use crate::sys::ok;

pub const IFF_TUN: u16 = 0x0001;
pub const IFF_TAP: u16 = 0x0002;
pub const IFF_NO_CARRIER: u16 = 0x0040;
pub const IFF_MULTI_QUEUE: u16 = 0x0100;
pub const IFF_ATTACH_QUEUE: u16 = 0x0200;
pub const IFF_DETACH_QUEUE: u16 = 0x0400;
pub const IFF_NO_PI: u16 = 0x1000;
pub const IFF_ONE_QUEUE: u16 = 0x2000;
pub const IFF_VNET_HDR: u16 = 0x4000;
pub const IFF_TUN_EXCL: u16 = 0x8000;

pub const TUNSETNOCSUM: u64 = 0x4004_54c8;
pub const TUNSETDEBUG: u64 = 0x4004_54c9;
pub const TUNSETIFF: u64 = 0x4004_54ca;
pub const TUNSETPERSIST: u64 = 0x4004_54cb;
pub const TUNSETOWNER: u64 = 0x4004_54cc;
pub const TUNSETLINK: u64 = 0x4004_54cd;
pub const TUNSETGROUP: u64 = 0x4004_54ce;
pub const TUNGETFEATURES: u64 = 0x8004_54cf;
pub const TUNSETOFFLOAD: u64 = 0x4004_54d0;
pub const TUNGETIFF: u64 = 0x8004_54d2;
pub const TUNGETSNDBUF: u64 = 0x8004_54d3;
pub const TUNSETSNDBUF: u64 = 0x4004_54d4;
pub const TUNGETVNETHDRSZ: u64 = 0x8004_54d7;
pub const TUNSETVNETHDRSZ: u64 = 0x4004_54d8;
pub const TUNSETQUEUE: u64 = 0x4004_54d9;
pub const TUNSETIFINDEX: u64 = 0x4004_54da;
pub const TUNSETCARRIER: u64 = 0x4004_54e2;
pub const SIOCGIFHWADDR: u64 = 0x8927;
pub const SIOCSIFHWADDR: u64 = 0x8924;

/// A descriptor, closed with it.
pub struct Tun(pub i32);

impl Drop for Tun {
    fn drop(&mut self) {
        crate::sys::close(self.0);
    }
}

/// The error of a call that gave -1.
pub fn result(value: i64) -> Result<i64, i32> {
    if value < 0 { Err(crate::sys::errno()) } else { Ok(value) }
}

/// `struct ifreq` with a name and flags.
pub fn request(name: &str, flags: u16) -> [u8; 40] {
    let mut request = [0; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    request
}

impl Tun {
    /// Opens the node, making it if nobody has: on Linux that loads the module.
    pub fn open(flags: i32) -> Result<Tun, Failure> {
        let _ = std::fs::create_dir("/dev/net");
        // SAFETY: a constant string and numbers.
        let fd = unsafe {
            libc::mknod(c"/dev/net/tun".as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(10, 200));
            libc::open(c"/dev/net/tun".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC | flags)
        };
        Ok(Tun(ok("open /dev/net/tun", fd)? as i32))
    }

    /// One that does not block and belongs to a device.
    pub fn attached(name: &str, flags: u16) -> Result<Tun, Failure> {
        let tun = Tun::open(libc::O_NONBLOCK)?;
        match tun.set(name, flags) {
            Ok(_) => Ok(tun),
            Err(error) => Err(Failure::Wrong(format!("TUNSETIFF {name}: {error}"))),
        }
    }

    /// TUNSETIFF; the name that the device has.
    pub fn set(&self, name: &str, flags: u16) -> Result<String, i32> {
        let mut request = request(name, flags);
        self.ioctl(TUNSETIFF, request.as_mut_ptr() as usize)?;
        Ok(crate::netlink::text(&request[..16]))
    }

    /// ioctl(2).
    pub fn ioctl(&self, command: u64, argument: usize) -> Result<i64, i32> {
        // SAFETY: pointers in `argument` are to live buffers of the callers'.
        result(unsafe { libc::syscall(libc::SYS_ioctl, self.0, command, argument) })
    }

    /// An ioctl with a pointer to a number, which may change.
    pub fn number(&self, command: u64, value: i32) -> Result<i32, i32> {
        let mut value = value;
        self.ioctl(command, (&raw mut value) as usize)?;
        Ok(value)
    }

    /// read(2) into `room` bytes.
    pub fn read(&self, room: usize) -> Result<Vec<u8>, i32> {
        let mut bytes = vec![0; room];
        // SAFETY: the buffer has that length.
        let count = result(unsafe { libc::read(self.0, bytes.as_mut_ptr().cast(), room) } as i64)?;
        bytes.truncate(count as usize);
        Ok(bytes)
    }

    /// write(2).
    pub fn write(&self, bytes: &[u8]) -> Result<i64, i32> {
        // SAFETY: the pointer and length are of one slice.
        result(unsafe { libc::write(self.0, bytes.as_ptr().cast(), bytes.len()) } as i64)
    }

    /// poll(2) without waiting: the events.
    pub fn poll(&self) -> i16 {
        let events = libc::POLLIN | libc::POLLOUT;
        let mut one = libc::pollfd { fd: self.0, events, revents: 0 };
        // SAFETY: one structure.
        unsafe { libc::poll(&raw mut one, 1, 0) };
        one.revents
    }
}

/// New devices speak no IPv6 by themselves.
pub fn without_ipv6() {
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

/// Gives an interface an IPv4 address with a prefix of 24 bits.
pub fn give_address(s: &mut Socket, name: &str, address: [u8; 4]) -> Result<(), Failure> {
    let index = s.index_of(name);
    let header = [&[2, 24, 0, 0][..], &index.to_ne_bytes()].concat();
    match s.errno(20, CREATE, &Builder::default().raw(&header).attribute(2, &address).attribute(1, &address))
    {
        0 => Ok(()),
        error => Err(Failure::Wrong(format!("no address for {name}: {error}"))),
    }
}

/// The Internet checksum.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet of UDP without a checksum of its own.
pub fn udp_packet(from: [u8; 4], to: [u8; 4], ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let length = 28 + data.len() as u16;
    let mut bytes = vec![0x45, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    bytes.extend(from);
    bytes.extend(to);
    let sum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend((8 + data.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(data);
    bytes
}

/// The destination, ports and data of such a packet, in words.
pub fn shown(bytes: &[u8]) -> String {
    if bytes.len() < 28 || bytes[0] != 0x45 || bytes[9] != 17 {
        return format!("{} other bytes", bytes.len());
    }
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let to = format!("{}.{}.{}.{}", bytes[16], bytes[17], bytes[18], bytes[19]);
    format!("to {to}:{} {:?}", port(22), String::from_utf8_lossy(&bytes[28..]))
}
