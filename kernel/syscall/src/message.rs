//! Sending and receiving through sockets: send(2), recv(2), sendmsg(2), recvmsg(2), sendmmsg(2), recvmmsg(2), and the control
//! messages that go with them (cmsg(3)).
//!
//! Key types: [`ControlWriter`] (puts control messages into the program's buffer, by Linux's rules of truncation). User memory is
//! touched here only; `net` gets decoded messages.

use crate::decode::{Context, Fd};
use crate::socket::{SocketFile, read_address, write_address};
use crate::time::deadline_after;
use abi::errno::{Errno, Result};
use abi::socket::*;
use abi::time::Timespec;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::io::{UserReader, UserWriter};
use mm::user::{IOV_MAX, IoVec, MAX_RW_COUNT, UserBuffer, UserPtr};
use net::message::{ADDRESS_MAX, ControlMessage, ProcessHandle};
use net::options::Switches;
use net::{Ancillary, Identity, MessageFlags, ReceiveMessage, SendMessage, SocketAddress, SocketKind};
use security::{Capability, Kgid, Kuid};
use task::signal::{Signal, SignalInfo};
use vfs::File;
use vfs::descriptor::CloseOnExec;
use zerocopy::{FromBytes, IntoBytes};

const HEADER: usize = size_of::<Cmsghdr>();

/// The one buffer of send(2) and recv(2); unlike read(2), these cut any length. Errors: `EFAULT`.
fn single_buffer(address: usize, length: usize) -> Result<UserBuffer> {
    UserBuffer::new(address, length.min(MAX_RW_COUNT))
}

/// The flags of a call, with `DONTWAIT` if the description does not block.
fn effective_flags(socket: &SocketFile, flags: u32) -> MessageFlags {
    MessageFlags::from_bits_retain(flags) | net::file::blocking_flags(socket.file())
}

/// A stream's write that finds nobody who could read sends SIGPIPE, unless asked not to (send(2)).
fn signal_broken_pipe(
    context: &Context<'_>,
    socket: &SocketFile,
    flags: u32,
    result: Result<usize>,
) -> Result<usize> {
    let stream = socket.socket().kind() == SocketKind::Stream;
    if result == Err(Errno::EPIPE) && stream && flags & MSG_NOSIGNAL == 0 {
        task::signal::send::to_task(context.task, SignalInfo::from_kernel(Signal::SIGPIPE))?;
    }
    result
}

fn send(
    context: &Context<'_>,
    socket: &SocketFile,
    address: SocketAddress,
    buffer: UserBuffer,
    ancillary: Ancillary,
    flags: u32,
) -> Result<usize> {
    let mut message = SendMessage {
        address,
        data: &mut UserReader(buffer),
        ancillary,
        flags: effective_flags(socket, flags & !MSG_INTERNAL_SEND_FLAGS),
    };
    let result = socket.socket().operations().send(socket.socket(), &mut message);
    signal_broken_pipe(context, socket, flags, result)
}

/// sendto(2), send(2). Errors: `EBADF`, `ENOTSOCK`, `EFAULT`, `EAGAIN`, `EINTR`, `EPIPE`, `ENOTCONN`, `EMSGSIZE`, and the family's.
pub fn sendto(
    context: &mut Context<'_>,
    fd: Fd,
    buffer: usize,
    length: usize,
    flags: u32,
    address: usize,
    address_length: i32,
) -> Result<usize> {
    let buffer = single_buffer(buffer, length)?;
    let socket = context.socket(fd)?;
    let address = if address != 0 { read_address(address, address_length)? } else { SocketAddress::NONE };
    send(context, &socket, address, buffer, Ancillary::default(), flags)
}

/// recvfrom(2), recv(2). Errors: as [`sendto`], `ECONNREFUSED`, `ECONNRESET`.
pub fn recvfrom(
    context: &mut Context<'_>,
    fd: Fd,
    buffer: usize,
    length: usize,
    flags: u32,
    address: usize,
    address_length: UserPtr<i32>,
) -> Result<usize> {
    let buffer = single_buffer(buffer, length)?;
    let socket = context.socket(fd)?;
    let mut data = UserWriter(buffer);
    let mut message = ReceiveMessage::new(&mut data, effective_flags(&socket, flags));
    let count = socket.socket().operations().receive(socket.socket(), &mut message)?;
    if address != 0 {
        write_address(&message.address, address, address_length)?;
    }
    Ok(count)
}

/// What a `struct msghdr` says. Errors: `EFAULT`, `EINVAL`: a negative name length; `EMSGSIZE`: too many pieces.
fn read_header(header: UserPtr<Msghdr>) -> Result<(Msghdr, UserBuffer)> {
    let mut header = header.read()?;
    if header.msg_name == 0 {
        header.msg_namelen = 0;
    }
    if header.msg_namelen < 0 {
        return Err(Errno::EINVAL);
    }
    header.msg_namelen = header.msg_namelen.min(ADDRESS_MAX as i32);
    if header.msg_iovlen > IOV_MAX as u64 {
        return Err(Errno::EMSGSIZE);
    }
    let pieces = UserPtr::<IoVec>::new(header.msg_iov as usize);
    Ok((header, UserBuffer::from_iovec(pieces, header.msg_iovlen as usize)?))
}

fn send_message(
    context: &Context<'_>,
    socket: &SocketFile,
    header: UserPtr<Msghdr>,
    flags: u32,
) -> Result<usize> {
    let (header, buffer) = read_header(header)?;
    let address = match header.msg_namelen {
        0 => SocketAddress::NONE,
        length => read_address(header.msg_name as usize, length)?,
    };
    let ancillary = read_control(context, socket, &header)?;
    send(context, socket, address, buffer, ancillary, flags)
}

/// sendmsg(2). Errors: as [`sendto`], `EINVAL`, `EMSGSIZE`, `ENOBUFS`, `EPERM`, `ETOOMANYREFS`.
pub fn sendmsg(context: &mut Context<'_>, fd: Fd, header: UserPtr<Msghdr>, flags: u32) -> Result<usize> {
    if flags & MSG_CMSG_COMPAT != 0 {
        return Err(Errno::EINVAL);
    }
    let socket = context.socket(fd)?;
    send_message(context, &socket, header, flags)
}

/// sendmmsg(2): how many messages were sent; an error only if none was. Errors: as [`sendmsg`].
pub fn sendmmsg(
    context: &mut Context<'_>,
    fd: Fd,
    messages: UserPtr<Mmsghdr>,
    count: u32,
    flags: u32,
) -> Result<usize> {
    if flags & MSG_CMSG_COMPAT != 0 {
        return Err(Errno::EINVAL);
    }
    let socket = context.socket(fd)?;
    let mut done = 0;
    for index in 0..count.min(IOV_MAX as u32) as usize {
        let place = messages.element(index);
        let sent = send_message(context, &socket, place.offset_bytes(0), flags | MSG_BATCH)
            .and_then(|sent| write_length(place, sent));
        match sent {
            Ok(()) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// `msg_len` of a `struct mmsghdr`. Errors: `EFAULT`.
fn write_length(place: UserPtr<Mmsghdr>, length: usize) -> Result<()> {
    place.offset_bytes::<u32>(size_of::<Msghdr>()).write(&(length as u32))
}

fn receive_message(
    context: &Context<'_>,
    socket: &SocketFile,
    place: UserPtr<Msghdr>,
    flags: u32,
) -> Result<usize> {
    const NAME_LENGTH: usize = 8;
    const CONTROL_LENGTH: usize = 40;
    const FLAGS: usize = 48;
    let (header, buffer) = read_header(place)?;
    let mut data = UserWriter(buffer);
    let wanted = effective_flags(socket, flags & !(MSG_CMSG_CLOEXEC | MSG_CMSG_COMPAT));
    let mut message = ReceiveMessage::new(&mut data, wanted);
    let count = socket.socket().operations().receive(socket.socket(), &mut message)?;
    let mut control = ControlWriter {
        place: header.msg_control as usize,
        room: if header.msg_control == 0 { 0 } else { header.msg_controllen as usize },
        flags: message.answer_flags,
    };
    let ancillary = core::mem::take(&mut message.ancillary);
    let close = if flags & MSG_CMSG_CLOEXEC != 0 { CloseOnExec::Yes } else { CloseOnExec::No };
    control.put_all(context, socket, ancillary, close)?;
    if header.msg_name != 0 {
        write_address(&message.address, header.msg_name as usize, place.offset_bytes(NAME_LENGTH))?;
    }
    // What the flags say of the request stays out of the answer, but for CMSG_CLOEXEC.
    let answer = control.flags.bits() | flags & MSG_CMSG_CLOEXEC;
    place.offset_bytes::<u32>(FLAGS).write(&answer)?;
    let used = control.place.wrapping_sub(header.msg_control as usize) as u64;
    place.offset_bytes::<u64>(CONTROL_LENGTH).write(&used)?;
    Ok(count)
}

/// recvmsg(2). Errors: as [`recvfrom`], `EINVAL`, `EMSGSIZE`.
pub fn recvmsg(context: &mut Context<'_>, fd: Fd, header: UserPtr<Msghdr>, flags: u32) -> Result<usize> {
    if flags & MSG_CMSG_COMPAT != 0 {
        return Err(Errno::EINVAL);
    }
    let socket = context.socket(fd)?;
    receive_message(context, &socket, header, flags)
}

/// recvmmsg(2): how many messages came; the time left is written back. Errors: as [`recvmsg`] if none came.
pub fn recvmmsg(
    context: &mut Context<'_>,
    fd: Fd,
    messages: UserPtr<Mmsghdr>,
    count: u32,
    flags: u32,
    timeout: UserPtr<Timespec>,
) -> Result<usize> {
    if flags & MSG_CMSG_COMPAT != 0 {
        return Err(Errno::EINVAL);
    }
    let deadline = deadline_after(timeout)?;
    let socket = context.socket(fd)?;
    socket.socket().core().check_error()?;
    let done = receive_many(context, &socket, messages, count as usize, flags, deadline);
    if let (Some(deadline), Ok(_)) = (deadline, &done) {
        let left = deadline.saturating_sub(machine::time::now_ns());
        timeout.write(&Timespec::from_nanoseconds(left))?;
    }
    done
}

fn receive_many(
    context: &Context<'_>,
    socket: &SocketFile,
    messages: UserPtr<Mmsghdr>,
    count: usize,
    mut flags: u32,
    deadline: Option<u64>,
) -> Result<usize> {
    let mut done = 0;
    while done < count {
        let place = messages.element(done);
        let came = receive_message(context, socket, place.offset_bytes(0), flags & !MSG_WAITFORONE)
            .and_then(|length| write_length(place, length));
        match came {
            Ok(()) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(Errno::EAGAIN) => break,
            Err(error) => {
                // The messages that came are told of first, the error by the next call.
                if !matches!(error, Errno::ERESTARTSYS | Errno::EINTR) {
                    socket.socket().core().set_error(error);
                }
                break;
            }
        }
        if flags & MSG_WAITFORONE != 0 {
            flags |= MSG_DONTWAIT;
        }
        if deadline.is_some_and(|deadline| deadline <= machine::time::now_ns()) {
            break;
        }
    }
    Ok(done)
}

/// Whether a family's sockets carry descriptors and credentials (`scm_send`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// Both (UNIX).
    Everything,
    /// Credentials only (netlink).
    Credentials,
    /// Neither; these messages are not looked at.
    Nothing,
}

/// Decodes the control messages. Errors: `ENOBUFS`: too long; `EINVAL`: malformed; those of the single messages; `EFAULT`.
fn read_control(context: &Context<'_>, socket: &SocketFile, header: &Msghdr) -> Result<Ancillary> {
    let mut ancillary = Ancillary::default();
    let length = header.msg_controllen as usize;
    if header.msg_controllen > i32::MAX as u64 {
        return Err(Errno::ENOBUFS);
    }
    if length == 0 {
        return Ok(ancillary);
    }
    if length > net::sysctl::OPTION_MEMORY_MAX.get() {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
    bytes.resize(length, 0);
    machine::user::read_bytes(header.msg_control as usize, &mut bytes)?;
    let passing = match u32::from(socket.socket().family()) {
        AF_UNIX => Passing::Everything,
        AF_NETLINK => Passing::Credentials,
        _ => Passing::Nothing,
    };
    let mut place = 0;
    // A rest too short for a header is no message.
    while let Some((one, _)) = bytes.get(place..).and_then(|rest| Cmsghdr::read_from_prefix(rest).ok()) {
        let end = usize::try_from(one.cmsg_len).ok().and_then(|length| place.checked_add(length));
        let data = end.and_then(|end| bytes.get(place + HEADER..end)).ok_or(Errno::EINVAL)?;
        decode_one(context, passing, &one, data, &mut ancillary)?;
        place += cmsg_align(one.cmsg_len as usize);
    }
    Ok(ancillary)
}

fn decode_one(
    context: &Context<'_>,
    passing: Passing,
    header: &Cmsghdr,
    data: &[u8],
    ancillary: &mut Ancillary,
) -> Result<()> {
    if header.cmsg_level as u32 == SOL_SOCKET && passing != Passing::Nothing {
        match header.cmsg_type as u32 {
            SCM_RIGHTS if passing == Passing::Everything => {
                return take_rights(context, data, &mut ancillary.files);
            }
            SCM_CREDENTIALS => {
                ancillary.sender = Some(check_credentials(context, data)?);
                return Ok(());
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    let mut copy = Vec::new();
    copy.try_reserve_exact(data.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(data);
    ancillary.others.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    ancillary.others.push(ControlMessage { level: header.cmsg_level, kind: header.cmsg_type, data: copy });
    Ok(())
}

/// The files of `SCM_RIGHTS`. Errors: `EINVAL`: too many; `EBADF`.
fn take_rights(context: &Context<'_>, data: &[u8], files: &mut Vec<Arc<File>>) -> Result<()> {
    let count = data.len() / size_of::<i32>();
    if count + files.len() > SCM_MAX_FD {
        return Err(Errno::EINVAL);
    }
    files.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    let open = context.task.open_files()?;
    for number in data.as_chunks().0 {
        files.push(open.get(i32::from_ne_bytes(*number))?);
    }
    Ok(())
}

/// `SCM_CREDENTIALS`: one's own numbers, or others with the capabilities for it (unix(7)).
/// Errors: `EINVAL`: malformed, or not mapped; `EPERM`; `ESRCH`: no such process.
fn check_credentials(context: &Context<'_>, data: &[u8]) -> Result<Identity> {
    let given = Ucred::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
    let own = context.credentials();
    let uid = own.user_namespace.make_kuid(given.uid).ok_or(Errno::EINVAL)?;
    let gid = own.user_namespace.make_kgid(given.gid).ok_or(Errno::EINVAL)?;
    let is_own_pid = given.pid == context.task.process_id();
    let may_pid = is_own_pid || own.has(Capability::SysAdmin);
    let may_uid = [own.ruid, own.euid, own.suid].contains(&uid) || own.has(Capability::Setuid);
    let may_gid = [own.rgid, own.egid, own.sgid].contains(&gid) || own.has(Capability::Setgid);
    if !(may_pid && may_uid && may_gid) {
        return Err(Errno::EPERM);
    }
    let process: Arc<dyn ProcessHandle> = if is_own_pid {
        context.task.process().pid().clone()
    } else {
        context.task.process().namespace().find(given.pid).ok_or(Errno::ESRCH)?
    };
    Ok(Identity { process: Some(process), uid, gid })
}

/// Puts control messages into a program's buffer. What does not fit is cut, and `MSG_CTRUNC` says so.
pub struct ControlWriter {
    place: usize,
    room: usize,
    flags: MessageFlags,
}

impl ControlWriter {
    /// Everything that came with a message and that the receiver wants, in Linux's order. Errors: `EFAULT`.
    fn put_all(
        &mut self,
        context: &Context<'_>,
        socket: &SocketFile,
        ancillary: Ancillary,
        close: CloseOnExec,
    ) -> Result<()> {
        let options = &socket.socket().core().options;
        for other in &ancillary.others {
            self.put(other.level, other.kind, &other.data)?;
        }
        if self.room == 0 && self.place == 0 {
            // No buffer at all: only say that something was lost.
            if options.has(Switches::PASSCRED) || !ancillary.files.is_empty() {
                self.flags |= MessageFlags::CTRUNC;
            }
            return Ok(());
        }
        if options.has(Switches::PASSCRED) {
            let credentials = self.numbers(context, ancillary.sender.as_ref());
            self.put(SOL_SOCKET as i32, SCM_CREDENTIALS as i32, credentials.as_bytes())?;
        }
        if !ancillary.files.is_empty() {
            self.put_files(context, ancillary.files, close)?;
        }
        if options.has(Switches::PASSPIDFD) {
            self.put_pidfd(context, ancillary.sender.as_ref(), close)?;
        }
        Ok(())
    }

    /// The sender in the receiver's numbers; the kernel is process 0.
    fn numbers(&self, context: &Context<'_>, sender: Option<&Identity>) -> Ucred {
        let (uid, gid) = sender
            .map_or((Kuid(security::OVERFLOW_ID), Kgid(security::OVERFLOW_ID)), |sender| {
                (sender.uid, sender.gid)
            });
        let process = sender.and_then(|sender| sender.process.as_ref());
        let namespace = context.credentials().user_namespace.clone();
        Ucred {
            pid: process.map_or(0, |process| process.number()),
            uid: namespace.from_kuid_munged(uid),
            gid: namespace.from_kgid_munged(gid),
        }
    }

    /// One control message, cut if need be. Errors: `EFAULT`.
    pub fn put(&mut self, level: i32, kind: i32, data: &[u8]) -> Result<()> {
        if self.place == 0 || self.room < HEADER {
            self.flags |= MessageFlags::CTRUNC;
            return Ok(());
        }
        let whole = HEADER + data.len();
        if self.room < whole {
            self.flags |= MessageFlags::CTRUNC;
        }
        let length = whole.min(self.room);
        let header = Cmsghdr { cmsg_len: length as u64, cmsg_level: level, cmsg_type: kind };
        machine::user::write_value(self.place, &header)?;
        let data = data.get(..length - HEADER).unwrap_or_default();
        machine::user::write_bytes(self.place + HEADER, data)?;
        self.advance(cmsg_align(whole));
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.room);
        self.place += bytes;
        self.room -= bytes;
    }

    /// `SCM_RIGHTS`: as many as there is room for, descriptors free, and memory that can be written. The rest is closed.
    fn put_files(&mut self, context: &Context<'_>, files: Vec<Arc<File>>, close: CloseOnExec) -> Result<()> {
        let most = self.room.saturating_sub(HEADER) / size_of::<i32>();
        let count = files.len();
        let table = context.task.open_files()?;
        let numbers = UserPtr::<i32>::new(self.place + HEADER);
        let mut done = 0;
        for file in files.into_iter().take(most) {
            let Ok(number) = table.reserve(0, context.descriptor_limit(), close) else { break };
            if numbers.element(done).write(&number.descriptor()).is_err() {
                break;
            }
            number.install(file);
            done += 1;
        }
        if done > 0 {
            let length = HEADER + done * size_of::<i32>();
            let (level, kind) = (SOL_SOCKET as i32, SCM_RIGHTS as i32);
            let header = Cmsghdr { cmsg_len: length as u64, cmsg_level: level, cmsg_type: kind };
            // As on Linux: the descriptors are there even if the header cannot be written.
            if machine::user::write_value(self.place, &header).is_ok() {
                self.advance(cmsg_align(length));
            }
        }
        if done < count {
            self.flags |= MessageFlags::CTRUNC;
        }
        Ok(())
    }

    /// `SCM_PIDFD`: a descriptor of the sender's process, or the error of making one. Errors: `EFAULT`.
    fn put_pidfd(
        &mut self,
        context: &Context<'_>,
        sender: Option<&Identity>,
        close: CloseOnExec,
    ) -> Result<()> {
        let kind = SCM_PIDFD as i32;
        if self.room < HEADER + cmsg_align(size_of::<i32>()) {
            self.flags |= MessageFlags::CTRUNC;
            return Ok(());
        }
        let table = context.task.open_files()?;
        let made = sender
            .and_then(|sender| sender.process.as_ref())
            .ok_or(Errno::ESRCH)
            .and_then(|process| Ok((process.open()?, table.reserve(0, context.descriptor_limit(), close)?)));
        match made {
            Ok((file, number)) => {
                self.put(SOL_SOCKET as i32, kind, &number.descriptor().to_ne_bytes())?;
                number.install(file);
            }
            Err(error) => self.put(SOL_SOCKET as i32, kind, &(-error.code()).to_ne_bytes())?,
        }
        Ok(())
    }
}
