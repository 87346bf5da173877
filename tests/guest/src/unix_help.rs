//! Covers over socket calls that the cases and transcripts about sockets share.

use crate::case::Failure;
use crate::sys::{errno, ok};

/// The error of a call.
pub struct Errno(pub i32);

impl std::fmt::Debug for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl From<Errno> for String {
    fn from(error: Errno) -> String {
        std::io::Error::from_raw_os_error(error.0).to_string()
    }
}

/// The error of the last call.
fn last() -> Errno {
    Errno(errno())
}

/// A UNIX socket of this type (with flags).
pub fn socket(kind: i32) -> Result<i32, Failure> {
    // SAFETY: numbers only.
    Ok(ok("socket", unsafe { libc::socket(libc::AF_UNIX, kind, 0) })? as i32)
}

/// A pair of UNIX sockets.
pub fn pair(kind: i32) -> Result<(i32, i32), Failure> {
    let mut ends = [0; 2];
    // SAFETY: socketpair writes two descriptors.
    ok("socketpair", unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    Ok((ends[0], ends[1]))
}

fn address(name: &[u8]) -> Vec<u8> {
    [&[libc::AF_UNIX as u8, 0], name].concat()
}

/// bind(2) to a name as it is: a path, or a NUL and an abstract name.
pub fn bind(fd: i32, name: &[u8]) -> i64 {
    let address = address(name);
    // SAFETY: the pointer and length are of one vector.
    unsafe { libc::syscall(libc::SYS_bind, fd, address.as_ptr(), address.len()) }
}

/// connect(2) to a name.
pub fn connect(fd: i32, name: &[u8]) -> i64 {
    let address = address(name);
    // SAFETY: the pointer and length are of one vector.
    unsafe { libc::syscall(libc::SYS_connect, fd, address.as_ptr(), address.len()) }
}

/// send(2).
pub fn send(fd: i32, bytes: &[u8], flags: i32) -> i64 {
    // SAFETY: the pointer and length are of one slice.
    unsafe { libc::syscall(libc::SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, 0usize, 0usize) }
}

/// sendto(2) to a name.
pub fn send_to(fd: i32, bytes: &[u8], name: &[u8]) -> i64 {
    let address = address(name);
    // SAFETY: the pointers and lengths are of slices.
    unsafe {
        libc::syscall(
            libc::SYS_sendto,
            fd,
            bytes.as_ptr(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
            address.as_ptr(),
            address.len(),
        )
    }
}

/// recv(2): the bytes, or the error's number.
pub fn recv(fd: i32, room: usize, flags: i32) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; room.max(1)];
    // SAFETY: the pointer and length are of one vector.
    let count =
        unsafe { libc::syscall(libc::SYS_recvfrom, fd, bytes.as_mut_ptr(), room, flags, 0usize, 0usize) };
    let count = usize::try_from(count).map_err(|_| last())?;
    bytes.truncate(count.min(room));
    Ok(bytes)
}

fn name_by(number: i64, fd: i32) -> Result<Vec<u8>, Errno> {
    let (mut name, mut length) = ([0_u8; 128], 128_i32);
    // SAFETY: a buffer and its length.
    if unsafe { libc::syscall(number, fd, name.as_mut_ptr(), &raw mut length) } != 0 {
        return Err(last());
    }
    Ok(name[2..(length as usize).clamp(2, 128)].to_vec())
}

/// getsockname(2), without the family.
pub fn name_of(fd: i32) -> Result<Vec<u8>, Errno> {
    name_by(libc::SYS_getsockname, fd)
}

/// getpeername(2), without the family.
pub fn peer_of(fd: i32) -> Result<Vec<u8>, Errno> {
    name_by(libc::SYS_getpeername, fd)
}

/// setsockopt(2) of an integer of `SOL_SOCKET`.
pub fn set_option(fd: i32, option: i32, value: i32) -> i64 {
    // SAFETY: one integer.
    unsafe { libc::syscall(libc::SYS_setsockopt, fd, 1, option, &raw const value, 4) }
}

/// getsockopt(2) of an integer of `SOL_SOCKET`: value and length, or the error's number.
pub fn option_value(fd: i32, option: i32) -> Result<(i32, i32), Errno> {
    let (mut value, mut length) = (0_i32, 4_i32);
    // SAFETY: one integer and its length.
    let result =
        unsafe { libc::syscall(libc::SYS_getsockopt, fd, 1, option, &raw mut value, &raw mut length) };
    if result == 0 { Ok((value, length)) } else { Err(last()) }
}

/// getsockopt(2) of a 64-bit number.
pub fn cookie(fd: i32, option: i32) -> u64 {
    let (mut value, mut length) = (0_u64, 8_i32);
    // SAFETY: one number and its length.
    unsafe { libc::syscall(libc::SYS_getsockopt, fd, 1, option, &raw mut value, &raw mut length) };
    value
}

/// What poll(2) says of everything.
pub fn poll_events(fd: i32) -> i16 {
    let mut poll = libc::pollfd { fd, events: 0x3fff, revents: 0 };
    // SAFETY: one pollfd.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
    poll.revents
}

/// A control message.
pub fn cmsg(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    raw_cmsg(16 + data.len() as u64, level, kind, data)
}

/// A control message whose header says this length.
pub fn raw_cmsg(length: u64, level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(level.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// sendmsg(2) of bytes and control messages.
pub fn send_control(fd: i32, bytes: &[u8], control: &[u8], flags: i32) -> i64 {
    let piece = [bytes.as_ptr() as u64, bytes.len() as u64];
    let header = [0, 0, piece.as_ptr() as u64, 1, control.as_ptr() as u64, control.len() as u64, 0];
    // SAFETY: a header whose pointers are of slices that live.
    unsafe { libc::syscall(libc::SYS_sendmsg, fd, header.as_ptr(), flags) }
}

/// What recvmsg(2) gave.
pub struct Received {
    /// The data.
    pub bytes: Vec<u8>,
    /// `msg_flags`.
    pub flags: u32,
    /// `msg_controllen`.
    pub used: usize,
    control: Vec<u8>,
}

impl Received {
    /// The control messages as (level, type, data).
    pub fn messages(&self) -> Vec<(i32, i32, Vec<u8>)> {
        let mut all = Vec::new();
        let mut rest = &self.control[..self.used.min(self.control.len())];
        while rest.len() >= 16 {
            let number = |at: usize| i32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
            let length = number(0) as usize;
            if length < 16 || length > rest.len() {
                break;
            }
            all.push((number(8), number(12), rest[16..length].to_vec()));
            rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
        }
        all
    }

    /// The received descriptors.
    pub fn fds(&self) -> Vec<i32> {
        let rights = self.messages().into_iter().filter(|(level, kind, _)| (*level, *kind) == (1, 1));
        rights
            .flat_map(|(_, _, data)| {
                data.chunks_exact(4)
                    .map(|at| i32::from_ne_bytes([at[0], at[1], at[2], at[3]]))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Which control messages there are, and how long.
    pub fn kinds(&self) -> Vec<(i32, i32, usize)> {
        self.messages().iter().map(|(level, kind, data)| (*level, *kind, data.len())).collect()
    }

    /// What they say, with nothing that differs from run to run; descriptors are closed.
    pub fn summary(&self) -> String {
        let own = std::process::id() as i32;
        let mut words = Vec::new();
        for (level, kind, data) in self.messages() {
            let numbers: Vec<i32> =
                data.chunks_exact(4).map(|at| i32::from_ne_bytes([at[0], at[1], at[2], at[3]])).collect();
            words.push(match (level, kind, numbers.as_slice()) {
                (1, 1, fds) => {
                    fds.iter().for_each(|fd| crate::sys::close(*fd));
                    format!("{} files", fds.len())
                }
                (1, 2, [pid, rest @ ..]) => {
                    let pid = if *pid == own {
                        "own"
                    } else if *pid == 0 {
                        "0"
                    } else {
                        "other"
                    };
                    format!("pid {pid} {rest:?}")
                }
                _ => format!("{level}/{kind} {} bytes", data.len()),
            });
        }
        words.join(", ")
    }
}

/// recvmsg(2) with room for so many bytes of data and of control messages.
pub fn receive_control(fd: i32, room: usize, control_room: usize, flags: i32) -> Result<Received, Errno> {
    let (mut bytes, mut control) = (vec![0; room.max(1)], vec![0; control_room.max(1)]);
    let piece = [bytes.as_mut_ptr() as u64, room as u64];
    let mut header = [0, 0, piece.as_ptr() as u64, 1, control.as_mut_ptr() as u64, control_room as u64, 0];
    // SAFETY: a header whose pointers are of vectors that live.
    let count = unsafe { libc::syscall(libc::SYS_recvmsg, fd, header.as_mut_ptr(), flags) };
    let count = usize::try_from(count).map_err(|_| last())?;
    bytes.truncate(count.min(room));
    Ok(Received { bytes, flags: header[6] as u32, used: header[5] as usize, control })
}
