//! A small netlink client for the cases about the network: messages out, messages in, as data.
//!
//! Key types: [`Socket`], [`Message`], [`Builder`].

use crate::case::Failure;
use crate::sys::ok;
use std::collections::BTreeMap;

/// NLM_F_REQUEST | NLM_F_ACK.
pub const ACK: u16 = 5;
/// NLM_F_REQUEST | NLM_F_DUMP.
pub const DUMP: u16 = 0x301;
/// NLM_F_CREATE.
pub const CREATE: u16 = 0x400;
/// NLM_F_EXCL.
pub const EXCL: u16 = 0x200;

pub const NEWLINK: u16 = 16;
pub const DELLINK: u16 = 17;
pub const GETLINK: u16 = 18;
pub const SETLINK: u16 = 19;
pub const NEWNSID: u16 = 88;
pub const DELNSID: u16 = 89;
pub const GETNSID: u16 = 90;
pub const GETSTATS: u16 = 94;
pub const NEWLINKPROP: u16 = 108;
pub const DELLINKPROP: u16 = 109;

pub const GROUP_NSID: u32 = 28;

/// A body being written.
#[derive(Clone, Default)]
pub struct Builder(pub Vec<u8>);

impl Builder {
    /// Bytes as they are, padded.
    pub fn raw(mut self, bytes: &[u8]) -> Builder {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// `struct ifinfomsg`.
    pub fn link(index: i32, flags: u32, change: u32) -> Builder {
        let header =
            [&[0u8; 4][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &change.to_ne_bytes()].concat();
        Builder(header)
    }

    /// `struct rtgenmsg`, padded.
    pub fn generic() -> Builder {
        Builder(vec![0; 4])
    }

    /// An attribute.
    pub fn attribute(self, kind: u16, value: &[u8]) -> Builder {
        let length = value.len() as u16 + 4;
        self.raw(&[&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat())
    }

    /// Text with its zero.
    pub fn text(self, kind: u16, text: &str) -> Builder {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Four bytes.
    pub fn number(self, kind: u16, value: i32) -> Builder {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Attributes in an attribute.
    pub fn nest(self, kind: u16, inner: Builder) -> Builder {
        self.attribute(kind, &inner.0)
    }

    /// IFLA_LINKINFO with a kind.
    pub fn kind(self, kind: &str) -> Builder {
        self.nest(18, Builder::default().text(1, kind))
    }
}

/// A message that came.
#[derive(Clone, Debug)]
pub struct Message {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub port: u32,
    pub payload: Vec<u8>,
}

impl Message {
    /// The attributes after a header of `header` bytes; of each type the last.
    pub fn attributes(&self, header: usize) -> BTreeMap<u16, Vec<u8>> {
        attributes(self.payload.get(header.next_multiple_of(4)..).unwrap_or_default())
    }

    /// The error of an acknowledgement (0 is success).
    pub fn error(&self) -> Option<i32> {
        (self.kind == 2 || self.kind == 3).then(|| -number(&self.payload))
    }

    /// The details of an acknowledgement.
    pub fn details(&self) -> BTreeMap<u16, Vec<u8>> {
        if self.flags & 0x200 == 0 {
            return BTreeMap::new();
        }
        if self.kind == 3 {
            return attributes(&self.payload[4..]);
        }
        let quoted = if self.flags & 0x100 != 0 { 16 } else { number(&self.payload[4..]) as usize };
        attributes(self.payload.get(4 + quoted.next_multiple_of(4)..).unwrap_or_default())
    }
}

/// The attributes in these bytes.
pub fn attributes(mut bytes: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    let mut all = BTreeMap::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x3fff;
        if length < 4 || length > bytes.len() {
            break;
        }
        all.insert(kind, bytes[4..length].to_vec());
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    all
}

/// The first four bytes as a number.
pub fn number(bytes: &[u8]) -> i32 {
    bytes.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

/// Text up to its zero.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// What recvmsg gave.
pub struct Received {
    pub messages: Vec<Message>,
    /// The sender's port and group mask.
    pub from: (u32, u32),
    /// Control messages: level, type, value.
    pub control: Vec<(i32, i32, i32)>,
    pub flags: i32,
    pub length: usize,
    pub bytes: Vec<u8>,
}

/// An AF_NETLINK socket, closed with it.
pub struct Socket {
    pub fd: i32,
    sequence: u32,
}

impl Drop for Socket {
    fn drop(&mut self) {
        crate::sys::close(self.fd);
    }
}

impl Socket {
    /// One of NETLINK_ROUTE with extended acknowledgements.
    pub fn route() -> Result<Socket, Failure> {
        let socket = Socket::new(0)?;
        socket.option(11, 1)?;
        Ok(socket)
    }

    /// One of a protocol, not bound.
    pub fn new(protocol: i32) -> Result<Socket, Failure> {
        // SAFETY: numbers only.
        let fd = ok("socket", unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol)
        })?;
        // A test that waits for what does not come shall fail by itself.
        let limit = libc::timeval { tv_sec: 5, tv_usec: 0 };
        // SAFETY: the option is a timeval.
        unsafe {
            libc::setsockopt(
                fd as i32,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const limit).cast(),
                size_of_val(&limit) as u32,
            )
        };
        Ok(Socket { fd: fd as i32, sequence: 0 })
    }

    /// Sets an option of SOL_NETLINK.
    pub fn option(&self, name: i32, value: i32) -> Result<(), Failure> {
        ok("setsockopt", self.try_option(name, value)).map(drop)
    }

    /// The same, as the call answers.
    pub fn try_option(&self, name: i32, value: i32) -> i32 {
        // SAFETY: the option is an int.
        unsafe { libc::setsockopt(self.fd, 270, name, (&raw const value).cast(), 4) }
    }

    /// Binds; the answer of the call.
    pub fn bind(&self, port: u32, groups: u32) -> i32 {
        let address = address(port, groups);
        // SAFETY: a sockaddr_nl.
        unsafe { libc::bind(self.fd, (&raw const address).cast(), size_of_val(&address) as u32) }
    }

    /// Its port and groups.
    pub fn name(&self) -> (u32, u32) {
        let mut address = address(0, 0);
        let mut length = size_of_val(&address) as u32;
        // SAFETY: a sockaddr_nl.
        unsafe { libc::getsockname(self.fd, (&raw mut address).cast(), &raw mut length) };
        (address.nl_pid, address.nl_groups)
    }

    /// One message as bytes; numbers it.
    pub fn message(&mut self, kind: u16, flags: u16, body: &Builder) -> Vec<u8> {
        self.sequence += 1;
        let length = 16 + body.0.len() as u32;
        [
            &length.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &flags.to_ne_bytes(),
            &self.sequence.to_ne_bytes(),
            &0u32.to_ne_bytes(),
            &body.0,
        ]
        .concat()
    }

    /// Sends bytes; the answer of the call.
    pub fn send(&self, bytes: &[u8]) -> isize {
        // SAFETY: the pointer and length are of one slice.
        unsafe { libc::send(self.fd, bytes.as_ptr().cast(), bytes.len(), 0) }
    }

    /// Receives one datagram.
    pub fn receive(&self, flags: i32) -> Result<Received, i32> {
        self.receive_into(1 << 16, flags)
    }

    /// The same into a buffer of some size.
    pub fn receive_into(&self, size: usize, flags: i32) -> Result<Received, i32> {
        let mut bytes = vec![0u8; size];
        let mut from = address(0, 0);
        let mut control = [0u64; 32];
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: size };
        // SAFETY: plain data; the pointers below are to live buffers of the lengths given.
        let (length, header) = unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_name = (&raw mut from).cast();
            header.msg_namelen = size_of_val(&from) as u32;
            header.msg_iov = &raw mut vector;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&control);
            (libc::recvmsg(self.fd, &raw mut header, flags), header)
        };
        if length < 0 {
            return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
        }
        let length = length as usize;
        bytes.truncate(length.min(size));
        Ok(Received {
            messages: split(&bytes),
            from: (from.nl_pid, from.nl_groups),
            control: control_messages(&header),
            flags: header.msg_flags,
            length,
            bytes,
        })
    }

    /// Sends a request and gives all that answers it: up to the acknowledgement or the end of a dump.
    pub fn ask(&mut self, kind: u16, flags: u16, body: &Builder) -> Vec<Message> {
        let bytes = self.message(kind, flags, body);
        self.ask_bytes(&bytes)
    }

    /// The same for a message made by hand.
    pub fn ask_bytes(&mut self, bytes: &[u8]) -> Vec<Message> {
        let mut all = Vec::new();
        if self.send(bytes) < 0 {
            return all;
        }
        while let Ok(received) = self.receive(0) {
            for message in received.messages {
                let done = message.kind == 2 || message.kind == 3;
                all.push(message);
                if done {
                    return all;
                }
            }
        }
        all
    }

    /// The error number of a request; 0 for success, -1 for no answer.
    pub fn errno(&mut self, kind: u16, flags: u16, body: &Builder) -> i32 {
        self.ask(kind, flags | ACK, body).last().and_then(Message::error).unwrap_or(-1)
    }

    /// What has come so far and is not read, without waiting.
    pub fn pending(&self) -> Vec<Received> {
        std::iter::from_fn(|| self.receive(libc::MSG_DONTWAIT).ok()).collect()
    }

    /// The index of a device; 0 if there is none.
    pub fn index_of(&mut self, name: &str) -> i32 {
        let answer = self.ask(GETLINK, ACK, &Builder::link(0, 0, 0).text(3, name));
        answer
            .iter()
            .find(|message| message.kind == NEWLINK)
            .map_or(0, |message| number(&message.payload[4..]))
    }
}

fn address(port: u32, groups: u32) -> libc::sockaddr_nl {
    // SAFETY: plain data.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    (address.nl_pid, address.nl_groups) = (port, groups);
    address
}

fn control_messages(header: &libc::msghdr) -> Vec<(i32, i32, i32)> {
    let mut all = Vec::new();
    // SAFETY: the kernel filled the control buffer and its length; libc walks it.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while let Some(one) = at.as_ref() {
            let value = libc::CMSG_DATA(at).cast::<i32>().read_unaligned();
            all.push((one.cmsg_level, one.cmsg_type, value));
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
    all
}

/// The messages of a datagram.
pub fn split(mut bytes: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while bytes.len() >= 16 {
        let length = number(bytes) as usize;
        if length < 16 || length > bytes.len() {
            break;
        }
        all.push(Message {
            kind: u16::from_ne_bytes([bytes[4], bytes[5]]),
            flags: u16::from_ne_bytes([bytes[6], bytes[7]]),
            sequence: number(&bytes[8..]) as u32,
            port: number(&bytes[12..]) as u32,
            payload: bytes[16..length].to_vec(),
        });
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    all
}

/// A network namespace kept by a descriptor; the caller stays where it was.
pub struct Namespace(pub i32);

impl Drop for Namespace {
    fn drop(&mut self) {
        crate::sys::close(self.0);
    }
}

/// The namespace of this thread.
pub fn own_namespace() -> Result<Namespace, Failure> {
    // SAFETY: a constant string.
    let fd = unsafe { libc::open(c"/proc/thread-self/ns/net".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    Ok(Namespace(ok("open ns/net", fd)? as i32))
}

/// A fresh one.
pub fn new_namespace() -> Result<Namespace, Failure> {
    let home = own_namespace()?;
    // SAFETY: numbers only.
    ok("unshare", unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    let made = own_namespace();
    enter(&home)?;
    made
}

/// Moves this thread.
pub fn enter(namespace: &Namespace) -> Result<(), Failure> {
    // SAFETY: numbers only.
    ok("setns", unsafe { libc::setns(namespace.0, libc::CLONE_NEWNET) }).map(drop)
}

/// Runs `f` in a namespace.
pub fn inside<R>(namespace: &Namespace, f: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    let home = own_namespace()?;
    enter(namespace)?;
    let result = f();
    enter(&home)?;
    result
}
