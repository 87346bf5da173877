//! Covers over calls on Internet and packet sockets that the transcripts share.

use crate::case::Failure;
use crate::sys::ok;
use std::net::{IpAddr, Ipv6Addr};

/// AF_INET.
pub const V4: i32 = libc::AF_INET;
/// AF_INET6.
pub const V6: i32 = libc::AF_INET6;
/// SOL_IP.
pub const SOL_IP: i32 = 0;
/// SOL_IPV6.
pub const SOL_IPV6: i32 = 41;

/// `struct sockaddr_in` or `sockaddr_in6`.
pub fn address(to: &str, port: u16) -> Vec<u8> {
    scoped(to, port, 0)
}

/// The same with the interface of a link-local address.
pub fn scoped(to: &str, port: u16, scope: u32) -> Vec<u8> {
    match to.parse() {
        Ok(IpAddr::V4(to)) => {
            [&(V4 as u16).to_ne_bytes()[..], &port.to_be_bytes(), &to.octets(), &[0; 8]].concat()
        }
        Ok(IpAddr::V6(to)) => {
            [&(V6 as u16).to_ne_bytes()[..], &port.to_be_bytes(), &[0; 4], &to.octets(), &scope.to_ne_bytes()]
                .concat()
        }
        Err(_) => Vec::new(),
    }
}

/// An address in words.
pub fn shown(bytes: &[u8]) -> String {
    match (bytes.first().copied().map(i32::from), bytes.len()) {
        (Some(V4), 16) => {
            let port = u16::from_be_bytes([bytes[2], bytes[3]]);
            format!("{}.{}.{}.{}:{port}", bytes[4], bytes[5], bytes[6], bytes[7])
        }
        (Some(V6), 28) => {
            let port = u16::from_be_bytes([bytes[2], bytes[3]]);
            let address: [u8; 16] = bytes[8..24].try_into().unwrap_or_default();
            let scope = u32::from_ne_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
            format!("[{}]:{port}%{scope}", Ipv6Addr::from(address))
        }
        _ => format!("{bytes:?}"),
    }
}

/// A network namespace of one's own with its loopback up.
pub fn isolated() -> Result<(), Failure> {
    // SAFETY: numbers only.
    ok("unshare", unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    up("lo")
}

/// Takes an interface up.
pub fn up(name: &str) -> Result<(), Failure> {
    set_flags(name, 1)
}

/// Takes it down.
pub fn down(name: &str) -> Result<(), Failure> {
    set_flags(name, 0)
}

fn request(name: &str) -> [u8; 40] {
    let mut request = [0; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request
}

fn set_flags(name: &str, flags: u16) -> Result<(), Failure> {
    let mut request = request(name);
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    ioctl_of(0x8914, &mut request).map(drop)
}

fn ioctl_of(command: u64, request: &mut [u8; 40]) -> Result<i64, Failure> {
    let fd = socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
    // SAFETY: a struct ifreq.
    let result = ok("ioctl", unsafe { libc::syscall(libc::SYS_ioctl, fd, command, request.as_mut_ptr()) });
    crate::sys::close(fd);
    result
}

/// The index of an interface.
pub fn index_of(name: &str) -> Result<i32, Failure> {
    let mut request = request(name);
    ioctl_of(0x8933, &mut request)?;
    Ok(i32::from_ne_bytes([request[16], request[17], request[18], request[19]]))
}

/// A pair of veths, both up, with addresses 10.0.0.1 and 10.0.1.1 (of different networks: nothing goes over it by itself).
pub fn veth() -> Result<(), Failure> {
    let mut netlink = crate::netlink::Socket::route()?;
    let peer = crate::netlink::Builder::link(0, 0, 0).text(3, "v1");
    let data = crate::netlink::Builder::default().nest(1, peer);
    let info = crate::netlink::Builder::default().text(1, "veth").nest(2, data);
    let body = crate::netlink::Builder::link(0, 0, 0).text(3, "v0").nest(18, info);
    match netlink.errno(crate::netlink::NEWLINK, crate::netlink::CREATE, &body) {
        0 => {}
        error => return Err(Failure::Wrong(format!("no veth: {error}"))),
    }
    for name in ["v0", "v1"] {
        // No neighbours are looked for by IPv6 on its own.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        up(name)?;
    }
    Ok(())
}

/// socket(2).
pub fn socket(family: i32, kind: i32, protocol: i32) -> Result<i32, Failure> {
    // SAFETY: numbers only.
    Ok(ok("socket", unsafe { libc::socket(family, kind, protocol) })? as i32)
}

/// A UDP socket whose reads end after two seconds.
pub fn udp(family: i32) -> Result<i32, Failure> {
    let fd = socket(family, libc::SOCK_DGRAM, 0)?;
    limit(fd);
    Ok(fd)
}

/// Ends reads after two seconds.
pub fn limit(fd: i32) {
    let time = [2_u64, 0];
    // SAFETY: a timeval.
    unsafe { libc::syscall(libc::SYS_setsockopt, fd, 1, libc::SO_RCVTIMEO, time.as_ptr(), 16) };
}

/// bind(2).
pub fn bind(fd: i32, address: &[u8]) -> i64 {
    // SAFETY: the pointer and length are of one slice.
    unsafe { libc::syscall(libc::SYS_bind, fd, address.as_ptr(), address.len()) }
}

/// connect(2).
pub fn connect(fd: i32, address: &[u8]) -> i64 {
    // SAFETY: the pointer and length are of one slice.
    unsafe { libc::syscall(libc::SYS_connect, fd, address.as_ptr(), address.len()) }
}

/// sendto(2).
pub fn send_to(fd: i32, bytes: &[u8], flags: i32, address: &[u8]) -> i64 {
    // SAFETY: the pointers and lengths are of slices.
    unsafe {
        libc::syscall(
            libc::SYS_sendto,
            fd,
            bytes.as_ptr(),
            bytes.len(),
            flags,
            if address.is_empty() { std::ptr::null() } else { address.as_ptr() },
            address.len(),
        )
    }
}

/// setsockopt(2) of bytes.
pub fn set(fd: i32, level: i32, name: i32, value: &[u8]) -> i64 {
    // SAFETY: the pointer and length are of one slice.
    unsafe { libc::syscall(libc::SYS_setsockopt, fd, level, name, value.as_ptr(), value.len()) }
}

/// setsockopt(2) of a number.
pub fn set_number(fd: i32, level: i32, name: i32, value: i32) -> i64 {
    set(fd, level, name, &value.to_ne_bytes())
}

/// getsockopt(2): the bytes, or the error.
pub fn get(fd: i32, level: i32, name: i32, room: usize) -> Result<Vec<u8>, String> {
    let (mut bytes, mut length) = (vec![0_u8; room.max(1)], room as i32);
    // SAFETY: a buffer and its length.
    let result =
        unsafe { libc::syscall(libc::SYS_getsockopt, fd, level, name, bytes.as_mut_ptr(), &raw mut length) };
    if result != 0 {
        return Err(std::io::Error::last_os_error().to_string());
    }
    bytes.truncate(length as usize);
    Ok(bytes)
}

/// getsockopt(2) of a number.
pub fn get_number(fd: i32, level: i32, name: i32) -> Result<i32, String> {
    let bytes = get(fd, level, name, 4)?;
    bytes.try_into().map(i32::from_ne_bytes).map_err(|bytes: Vec<u8>| format!("{bytes:?}"))
}

fn name_by(number: i64, fd: i32) -> String {
    let (mut name, mut length) = ([0_u8; 128], 128_i32);
    // SAFETY: a buffer and its length.
    if unsafe { libc::syscall(number, fd, name.as_mut_ptr(), &raw mut length) } != 0 {
        return std::io::Error::last_os_error().to_string();
    }
    shown(&name[..(length as usize).min(128)])
}

/// getsockname(2).
pub fn local(fd: i32) -> String {
    name_by(libc::SYS_getsockname, fd)
}

/// getpeername(2).
pub fn peer(fd: i32) -> String {
    name_by(libc::SYS_getpeername, fd)
}

/// A message as recvmsg(2) gives it.
pub struct Got {
    /// The data.
    pub bytes: Vec<u8>,
    /// Bytes that the call told.
    pub count: i64,
    /// From whom.
    pub from: Vec<u8>,
    /// msg_flags.
    pub flags: u32,
    /// The control messages: level, type, data.
    pub control: Vec<(i32, i32, Vec<u8>)>,
}

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {:?} from {} flags {:#x}",
            self.count,
            lossy(&self.bytes),
            shown(&self.from),
            self.flags
        )?;
        self.control.iter().try_for_each(|(level, kind, data)| write!(f, " {level}/{kind} {data:?}"))
    }
}

/// Bytes as text if they are short, else how many.
pub fn lossy(bytes: &[u8]) -> String {
    if bytes.len() > 40 {
        format!("{} bytes", bytes.len())
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// recvmsg(2) with room for so many bytes, an address and control messages.
pub fn receive(fd: i32, room: usize, flags: i32) -> Result<Got, String> {
    let (mut bytes, mut control, mut name) = (vec![0_u8; room.max(1)], vec![0_u8; 512], [0_u8; 128]);
    let piece = [bytes.as_mut_ptr() as u64, room as u64];
    let mut header =
        [name.as_mut_ptr() as u64, 128, piece.as_ptr() as u64, 1, control.as_mut_ptr() as u64, 512, 0];
    // SAFETY: a header whose pointers are of vectors that live.
    let count = unsafe { libc::syscall(libc::SYS_recvmsg, fd, header.as_mut_ptr(), flags) };
    if count < 0 {
        return Err(std::io::Error::last_os_error().to_string());
    }
    bytes.truncate((count as usize).min(room));
    let mut messages = Vec::new();
    let mut rest = &control[..(header[5] as usize).min(512)];
    while rest.len() >= 16 {
        let number = |at: usize| i32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let length = number(0) as usize;
        if length < 16 || length > rest.len() {
            break;
        }
        messages.push((number(8), number(12), rest[16..length].to_vec()));
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    let from = name[..(header[1] as u32 as usize).min(128)].to_vec();
    Ok(Got { bytes, count, from, flags: header[6] as u32, control: messages })
}

/// sendmsg(2) with control messages.
pub fn send_control(fd: i32, bytes: &[u8], to: &[u8], control: &[u8], flags: i32) -> i64 {
    let piece = [bytes.as_ptr() as u64, bytes.len() as u64];
    let name = if to.is_empty() { 0 } else { to.as_ptr() as u64 };
    let header =
        [name, to.len() as u64, piece.as_ptr() as u64, 1, control.as_ptr() as u64, control.len() as u64, 0];
    // SAFETY: a header whose pointers are of slices that live.
    unsafe { libc::syscall(libc::SYS_sendmsg, fd, header.as_ptr(), flags) }
}

/// The loopback address of a family.
pub fn loopback(family: i32) -> &'static str {
    if family == V4 { "127.0.0.1" } else { "::1" }
}

/// The unspecified address of a family.
pub fn any(family: i32) -> &'static str {
    if family == V4 { "0.0.0.0" } else { "::" }
}
