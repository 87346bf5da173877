//! Sockets: socket(2), socketpair(2), bind(2), listen(2), accept(2), connect(2), getsockname(2), shutdown(2), getsockopt(2) and
//! their like. Sending and receiving are in `message`.
//!
//! Decoding; what a socket is and does is in crate `net`.

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use abi::socket::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::user::UserPtr;
use net::message::ADDRESS_MAX;
use net::socket::Shutdown;
use net::{NetNamespace, Sender, Socket, SocketAddress, SocketKind, options};
use vfs::File;
use vfs::descriptor::CloseOnExec;

/// An open file that is known to be a socket.
pub struct SocketFile {
    file: Arc<File>,
    socket: Arc<Socket>,
}

impl SocketFile {
    /// The description.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The socket behind it.
    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Whether its description blocks.
    fn is_nonblocking(&self) -> bool {
        self.file.is_nonblocking()
    }
}

impl Context<'_> {
    /// The socket of a descriptor. Errors: `EBADF`, `ENOTSOCK`.
    pub fn socket(&self, fd: Fd) -> Result<SocketFile> {
        let file = self.task.open_files()?.get_open(fd.0)?;
        let socket = file.operations_arc::<Socket>().ok_or(Errno::ENOTSOCK)?;
        Ok(SocketFile { file, socket })
    }

    /// Where the caller's sockets are made.
    fn network(&self) -> Arc<NetNamespace> {
        self.task.live_namespaces().map_or_else(|_| NetNamespace::initial().clone(), |set| set.net.clone())
    }
}

/// What the flags in a type argument say.
#[derive(Clone, Copy)]
struct NewDescriptor {
    close_on_exec: CloseOnExec,
    status: OpenFlags,
}

impl NewDescriptor {
    /// Errors: `EINVAL`: another flag.
    fn from_flags(flags: u32) -> Result<NewDescriptor> {
        if flags & !(SOCK_CLOEXEC | SOCK_NONBLOCK) != 0 {
            return Err(Errno::EINVAL);
        }
        let close_on_exec = if flags & SOCK_CLOEXEC != 0 { CloseOnExec::Yes } else { CloseOnExec::No };
        Ok(NewDescriptor { close_on_exec, status: OpenFlags::from_bits_truncate(flags & SOCK_NONBLOCK) })
    }
}

fn create(context: &Context<'_>, family: i32, kind: u32, protocol: i32) -> Result<Arc<Socket>> {
    if !(0..AF_MAX as i32).contains(&family) {
        return Err(Errno::EAFNOSUPPORT);
    }
    let kind = SocketKind::from_number(kind)?;
    net::family::create(family, kind, protocol, &context.network(), &context.credentials())
}

/// socket(2). Errors: `EINVAL`, `EAFNOSUPPORT`, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`, `EPERM`, `EMFILE`, `ENOMEM`.
pub fn socket(context: &mut Context<'_>, family: i32, kind: u32, protocol: i32) -> Result<usize> {
    let new = NewDescriptor::from_flags(kind & !SOCK_TYPE_MASK)?;
    let socket = create(context, family, kind & SOCK_TYPE_MASK, protocol)?;
    let file = socket.into_file(new.status, &context.credentials())?;
    context.install(file, new.close_on_exec)
}

/// socketpair(2). Errors: as [`socket`], `EFAULT`, `EOPNOTSUPP`.
pub fn socketpair(
    context: &mut Context<'_>,
    family: i32,
    kind: u32,
    protocol: i32,
    descriptors: UserPtr<[i32; 2]>,
) -> Result<usize> {
    let new = NewDescriptor::from_flags(kind & !SOCK_TYPE_MASK)?;
    let files = context.task.open_files()?;
    let limit = context.descriptor_limit();
    // As on Linux the numbers come first, so that a program which fails to take them makes no sockets.
    let first = files.reserve(0, limit, new.close_on_exec)?;
    let second = files.reserve(0, limit, new.close_on_exec)?;
    descriptors.write(&[first.descriptor(), second.descriptor()])?;
    let one = create(context, family, kind & SOCK_TYPE_MASK, protocol)?;
    let other = create(context, family, kind & SOCK_TYPE_MASK, protocol)?;
    one.operations().pair(&one, &other)?;
    let credentials = context.credentials();
    let one = one.into_file(new.status, &credentials)?;
    let other = other.into_file(new.status, &credentials)?;
    first.install(one);
    second.install(other);
    Ok(0)
}

/// An address argument. Errors: `EINVAL`: its length is negative or beyond any; `EFAULT`.
pub fn read_address(address: usize, length: i32) -> Result<SocketAddress> {
    let length = usize::try_from(length).ok().filter(|length| *length <= ADDRESS_MAX).ok_or(Errno::EINVAL)?;
    let mut bytes = [0_u8; ADDRESS_MAX];
    let bytes = bytes.get_mut(..length).unwrap_or_default();
    if length > 0 {
        machine::user::read_bytes(address, bytes)?;
    }
    SocketAddress::new(bytes)
}

/// Gives an address to the program: as much as it has room for, and its true length. Errors: `EINVAL`, `EFAULT`.
pub fn write_address(address: &SocketAddress, place: usize, length: UserPtr<i32>) -> Result<()> {
    let room = usize::try_from(length.read()?).map_err(|_| Errno::EINVAL)?;
    let bytes = address.as_bytes();
    let given = bytes.get(..bytes.len().min(room)).unwrap_or_default();
    if !given.is_empty() {
        machine::user::write_bytes(place, given)?;
    }
    length.write(&(bytes.len() as i32))
}

/// bind(2). Errors: `EBADF`, `ENOTSOCK`, `EINVAL`, `EADDRINUSE`, `EACCES`, `EFAULT`, and the family's.
pub fn bind(context: &mut Context<'_>, fd: Fd, address: usize, length: i32) -> Result<usize> {
    let socket = context.socket(fd)?;
    let address = read_address(address, length)?;
    socket.socket.operations().bind(&socket.socket, &address).map(|()| 0)
}

/// connect(2). Errors: as [`bind`], `ECONNREFUSED`, `EISCONN`, `EALREADY`, `EINPROGRESS`, `EAGAIN`, `EINTR`, `EPROTOTYPE`.
pub fn connect(context: &mut Context<'_>, fd: Fd, address: usize, length: i32) -> Result<usize> {
    let socket = context.socket(fd)?;
    let address = read_address(address, length)?;
    let nonblocking = socket.is_nonblocking();
    socket.socket.operations().connect(&socket.socket, &address, nonblocking).map(|()| 0)
}

/// listen(2). Errors: `EBADF`, `ENOTSOCK`, `EOPNOTSUPP`, `EINVAL`, `EADDRINUSE`.
pub fn listen(context: &mut Context<'_>, fd: Fd, backlog: i32) -> Result<usize> {
    let socket = context.socket(fd)?;
    // A negative backlog is a very long one.
    let longest = net::sysctl::BACKLOG_MAX.get();
    let backlog = (backlog as u32 as usize).min(longest) as i32;
    socket.socket.operations().listen(&socket.socket, backlog).map(|()| 0)
}

/// accept(2). Errors: as [`accept4`].
pub fn accept(context: &mut Context<'_>, fd: Fd, address: usize, length: UserPtr<i32>) -> Result<usize> {
    accept4(context, fd, address, length, 0)
}

/// accept4(2). Errors: `EINVAL`, `EBADF`, `ENOTSOCK`, `EOPNOTSUPP`, `EAGAIN`, `EINTR`, `EMFILE`, `ECONNABORTED`, `EFAULT`.
pub fn accept4(
    context: &mut Context<'_>,
    fd: Fd,
    address: usize,
    length: UserPtr<i32>,
    flags: u32,
) -> Result<usize> {
    // Linux looks at the descriptor first, then at the flags, then at what the descriptor is.
    context.task.open_files()?.get_open(fd.0)?;
    let new = NewDescriptor::from_flags(flags)?;
    let listener = context.socket(fd)?;
    let files = context.task.open_files()?;
    let number = files.reserve(0, context.descriptor_limit(), new.close_on_exec)?;
    let operations = listener.socket.operations();
    let accepted = operations.accept(&listener.socket, listener.is_nonblocking())?;
    // The file first: from now on dropping it closes the connection.
    let file = accepted.clone().into_file(new.status, &context.credentials())?;
    if address != 0 {
        let peer = accepted.operations().peer_address(&accepted).map_err(|_| Errno::ECONNABORTED)?;
        write_address(&peer, address, length)?;
    }
    Ok(number.install(file) as usize)
}

/// getsockname(2). Errors: `EBADF`, `ENOTSOCK`, `EINVAL`, `EFAULT`.
pub fn getsockname(context: &mut Context<'_>, fd: Fd, address: usize, length: UserPtr<i32>) -> Result<usize> {
    let socket = context.socket(fd)?;
    let name = socket.socket.operations().local_address(&socket.socket)?;
    write_address(&name, address, length).map(|()| 0)
}

/// getpeername(2). Errors: as [`getsockname`], `ENOTCONN`.
pub fn getpeername(context: &mut Context<'_>, fd: Fd, address: usize, length: UserPtr<i32>) -> Result<usize> {
    let socket = context.socket(fd)?;
    let name = socket.socket.operations().peer_address(&socket.socket)?;
    write_address(&name, address, length).map(|()| 0)
}

/// shutdown(2). Errors: `EBADF`, `ENOTSOCK`, `EINVAL`, `ENOTCONN`, `EOPNOTSUPP`.
pub fn shutdown(context: &mut Context<'_>, fd: Fd, how: u32) -> Result<usize> {
    let socket = context.socket(fd)?;
    let how = match how {
        SHUT_RD => Shutdown::Read,
        SHUT_WR => Shutdown::Write,
        SHUT_RDWR => Shutdown::Both,
        _ => return Err(Errno::EINVAL),
    };
    socket.socket.operations().shutdown(&socket.socket, how).map(|()| 0)
}

/// No option's value is longer than this; more of it is not looked at.
const OPTION_MAX: usize = 64 << 10;

/// setsockopt(2). Errors: `EBADF`, `ENOTSOCK`, `EINVAL`, `ENOPROTOOPT`, `EOPNOTSUPP`, `EFAULT`, and the option's.
pub fn setsockopt(
    context: &mut Context<'_>,
    fd: Fd,
    level: i32,
    name: i32,
    value: usize,
    length: i32,
) -> Result<usize> {
    let socket = context.socket(fd)?;
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?.min(OPTION_MAX);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(length, 0);
    if level as u32 == SOL_SOCKET && name as u32 != SO_BINDTODEVICE && length < size_of::<i32>() {
        return Err(Errno::EINVAL);
    }
    machine::user::read_bytes(value, &mut bytes)?;
    let socket = &socket.socket;
    if level as u32 == SOL_SOCKET {
        match options::set(socket.core(), name, &bytes, &context.credentials()) {
            Err(Errno::ENOPROTOOPT) => {}
            Ok(()) if BINDING_OPTIONS.contains(&(name as u32)) => {
                return socket.operations().binding_changed(socket).map(|()| 0);
            }
            other => return other.map(|()| 0),
        }
    }
    socket.operations().set_option(socket, level, name, &bytes).map(|()| 0)
}

/// The options that say where a socket is bound, and with whom.
const BINDING_OPTIONS: [u32; 4] = [SO_BINDTODEVICE, SO_BINDTOIFINDEX, SO_REUSEADDR, SO_REUSEPORT];

/// getsockopt(2). Errors: as [`setsockopt`], `ERANGE`.
pub fn getsockopt(
    context: &mut Context<'_>,
    fd: Fd,
    level: i32,
    name: i32,
    value: usize,
    length: UserPtr<i32>,
) -> Result<usize> {
    let socket = context.socket(fd)?;
    let room = usize::try_from(length.read()?).map_err(|_| Errno::EINVAL)?;
    if level as u32 == SOL_SOCKET
        && let Some(result) = general_option(context, &socket, name, value, room, length)
    {
        return result.map(|()| 0);
    }
    let socket = &socket.socket;
    let mut bytes = Vec::new();
    let size = room.min(OPTION_MAX);
    bytes.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(size, 0);
    // Which version's header is asked about is in the value.
    if level as u32 == SOL_PACKET && name == abi::packet::PACKET_HDRLEN {
        let asked = size.min(size_of::<u32>());
        machine::user::read_bytes(value, bytes.get_mut(..asked).unwrap_or_default())?;
    }
    let count = socket.operations().get_option(socket, level, name, &mut bytes)?;
    give_option(bytes.get(..count.min(size)).unwrap_or_default(), value, room, length)?;
    if count > size {
        // What did not fit is told: how much there is.
        length.write(&(count as i32))?;
    }
    Ok(0)
}

/// An option of `SOL_SOCKET`; `None` if it is not one that all sockets have.
fn general_option(
    context: &Context<'_>,
    socket: &SocketFile,
    name: i32,
    value: usize,
    room: usize,
    length: UserPtr<i32>,
) -> Option<Result<()>> {
    let core = socket.socket.core();
    match name as u32 {
        SO_PEERCRED => {
            let peer = peer_credentials(context, core.peer().as_ref());
            Some(give_option(zerocopy::IntoBytes::as_bytes(&peer), value, room, length))
        }
        SO_PEERGROUPS => Some(give_peer_groups(context, core.peer().as_ref(), value, room, length)),
        SO_PEERPIDFD => Some(give_peer_pidfd(context, core.peer().as_ref(), value, room, length)),
        SO_PEERNAME => Some(give_peer_name(socket, value, room, length)),
        SO_GET_FILTER => Some(give_filter(core, value, room, length)),
        _ => match options::get(core, name, room) {
            Err(Errno::ENOPROTOOPT) => None,
            Err(error) => Some(Err(error)),
            Ok(answer) => Some(give_option(answer.as_bytes(), value, room, length)),
        },
    }
}

/// Copies an option's value, cut to the program's room, and says how much was copied. Errors: `EFAULT`.
fn give_option(bytes: &[u8], value: usize, room: usize, length: UserPtr<i32>) -> Result<()> {
    let given = bytes.get(..bytes.len().min(room)).unwrap_or_default();
    if !given.is_empty() {
        machine::user::write_bytes(value, given)?;
    }
    length.write(&(given.len() as i32))
}

/// Who is on the other side, in the caller's numbers; all ones where nobody is (unix(7)).
fn peer_credentials(context: &Context<'_>, peer: Option<&Sender>) -> Ucred {
    let Some(peer) = peer else { return Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX } };
    let namespace = context.credentials().user_namespace.clone();
    Ucred {
        pid: peer.process.as_ref().map_or(0, |process| process.number()),
        uid: namespace.from_kuid_munged(peer.credentials.euid),
        gid: namespace.from_kgid_munged(peer.credentials.egid),
    }
}

/// `SO_PEERGROUPS`. Errors: `ENODATA`: nobody is there; `ERANGE`: more groups than room, of which the program is told.
fn give_peer_groups(
    context: &Context<'_>,
    peer: Option<&Sender>,
    value: usize,
    room: usize,
    length: UserPtr<i32>,
) -> Result<()> {
    let peer = peer.ok_or(Errno::ENODATA)?;
    let groups = &peer.credentials.groups;
    let needed = groups.len() * size_of::<u32>();
    if room < needed {
        length.write(&(needed as i32))?;
        return Err(Errno::ERANGE);
    }
    let namespace = context.credentials().user_namespace.clone();
    let array = UserPtr::<u32>::new(value);
    for (index, group) in groups.iter().enumerate() {
        array.element(index).write(&namespace.from_kgid_munged(*group))?;
    }
    length.write(&(needed as i32))
}

/// `SO_PEERPIDFD`: a descriptor of the other side's process. Errors: `ENODATA`, `ESRCH`, `EMFILE`, `EFAULT`.
fn give_peer_pidfd(
    context: &Context<'_>,
    peer: Option<&Sender>,
    value: usize,
    room: usize,
    length: UserPtr<i32>,
) -> Result<()> {
    let process = peer.and_then(|peer| peer.process.clone()).ok_or(Errno::ENODATA)?;
    let file = process.open()?;
    let files = context.task.open_files()?;
    let number = files.reserve(0, context.descriptor_limit(), CloseOnExec::Yes)?;
    give_option(&number.descriptor().to_ne_bytes(), value, room, length)?;
    number.install(file);
    Ok(())
}

/// `SO_PEERNAME`. Errors: `ENOTCONN`; `EINVAL`: the address does not fit.
fn give_peer_name(socket: &SocketFile, value: usize, room: usize, length: UserPtr<i32>) -> Result<()> {
    let address = socket.socket.operations().peer_address(&socket.socket).map_err(|_| Errno::ENOTCONN)?;
    if address.as_bytes().len() < room {
        return Err(Errno::EINVAL);
    }
    let given = address.as_bytes().get(..room).unwrap_or_default();
    machine::user::write_bytes(value, given)?;
    length.write(&(room as i32))
}

/// `SO_GET_FILTER`: the length counts instructions; with no room only how many there are. Errors: `EINVAL`: too little room.
fn give_filter(core: &net::SocketCore, value: usize, room: usize, length: UserPtr<i32>) -> Result<()> {
    let Some(filter) = core.filter() else { return length.write(&0) };
    let instructions = filter.instructions();
    if room > 0 {
        if room < instructions.len() {
            return Err(Errno::EINVAL);
        }
        let array = UserPtr::<SockFilter>::new(value);
        for (index, one) in instructions.iter().enumerate() {
            let text = SockFilter { code: one.code, jt: one.jump_true, jf: one.jump_false, k: one.operand };
            array.element(index).write(&text)?;
        }
    }
    length.write(&(instructions.len() as i32))
}
