//! As much of a NETLINK_ROUTE client as the rows need: requests with an acknowledgement, dumps, a group's messages.
//!
//! Key types: [`Netlink`], [`Body`]. What the kernel refuses ends the row: a figure about something that did not happen is worth
//! nothing.

use super::ok;

pub const NEWLINK: u16 = 16;
pub const DELLINK: u16 = 17;
pub const GETLINK: u16 = 18;
pub const NEWADDR: u16 = 20;
pub const NEWROUTE: u16 = 24;
pub const NEWNSID: u16 = 88;
pub const DELNSID: u16 = 89;
pub const GETNSID: u16 = 90;
/// RTNLGRP_NSID.
pub const GROUP_NSID: i32 = 28;
/// NLM_F_REQUEST.
pub const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// NLM_F_CREATE | NLM_F_EXCL.
pub const CREATE: u16 = 0x600;
const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// What follows a message's header.
#[derive(Default, Clone)]
pub struct Body(pub Vec<u8>);

impl Body {
    /// `struct ifinfomsg`.
    pub fn link(index: i32, flags: u32, change: u32) -> Body {
        Body([&[0u8; 4][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &change.to_ne_bytes()].concat())
    }

    /// `struct rtgenmsg`, padded.
    pub fn generic() -> Body {
        Body(vec![0; 4])
    }

    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Body {
        self.0.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub fn number(self, kind: u16, value: i32) -> Body {
        self.attribute(kind, &value.to_ne_bytes())
    }

    pub fn text(self, kind: u16, text: &str) -> Body {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    pub fn nest(self, kind: u16, inner: &Body) -> Body {
        self.attribute(kind, &inner.0)
    }

    /// A link of some kind with a name.
    pub fn dummy(name: &str) -> Body {
        Body::link(0, 0, 0).text(3, name).nest(18, &Body::default().text(1, "dummy"))
    }

    /// A veth pair; the end called `far` is in the namespace of a descriptor.
    pub fn veth(near: &str, far: &str, namespace: i32) -> Body {
        let far = Body::link(0, 0, 0).text(3, far).number(28, namespace);
        let data = Body::default().nest(1, &far);
        Body::link(0, 0, 0).text(3, near).nest(18, &Body::default().text(1, "veth").nest(2, &data))
    }

    /// NETNSA_NSID and NETNSA_FD.
    pub fn nsid(id: i32, namespace: i32) -> Body {
        Body::generic().number(1, id).number(3, namespace)
    }
}

/// A socket, closed with it.
pub struct Netlink {
    fd: i32,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        super::close(self.fd);
    }
}

impl Netlink {
    /// In the caller's namespace.
    pub fn new() -> Netlink {
        // SAFETY: numbers only.
        let fd = ok("socket", unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) });
        // SAFETY: plain data.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        // SAFETY: a sockaddr_nl.
        ok("bind", unsafe { libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as u32) });
        Netlink { fd, out: Vec::new(), buffer: Vec::new() }
    }

    /// The same, hearing a group.
    pub fn listening(group: i32) -> Netlink {
        let socket = Netlink::new();
        // SAFETY: the option is an int.
        ok("NETLINK_ADD_MEMBERSHIP", unsafe {
            libc::setsockopt(socket.fd, 270, 1, (&raw const group).cast(), 4)
        });
        socket
    }

    /// Adds a message to what is sent next.
    pub fn queue(&mut self, kind: u16, flags: u16, body: &Body) {
        let length = (HEADER + body.0.len()) as u32;
        self.out.extend_from_slice(&length.to_ne_bytes());
        self.out.extend_from_slice(&kind.to_ne_bytes());
        self.out.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.out.extend_from_slice(&[0; 8]);
        self.out.extend_from_slice(&body.0);
    }

    /// Sends what is queued.
    pub fn flush(&mut self) {
        // SAFETY: the pointer and length are of one vector.
        let sent = unsafe { libc::send(self.fd, self.out.as_ptr().cast(), self.out.len(), 0) };
        ok("send", sent as i32);
        self.out.clear();
    }

    /// Receives one datagram.
    fn receive(&mut self) -> &[u8] {
        // With room for the largest part of a dump, filled with zeros once.
        self.buffer.resize(1 << 16, 0);
        // SAFETY: the pointer and length are of one vector.
        let count = unsafe { libc::recv(self.fd, self.buffer.as_mut_ptr().cast(), self.buffer.len(), 0) };
        &self.buffer[..ok("recv", count as i32) as usize]
    }

    /// Sends one request and waits for its acknowledgement; the errno, 0 for none.
    pub fn try_ask(&mut self, kind: u16, flags: u16, body: &Body) -> i32 {
        self.queue(kind, flags | ACK, body);
        self.flush();
        loop {
            let mut result = None;
            each(self.receive(), |kind, payload| {
                if kind == ERROR {
                    result = Some(-number(payload));
                }
            });
            if let Some(result) = result {
                return result;
            }
        }
    }

    /// The same; it must succeed.
    pub fn ask(&mut self, kind: u16, flags: u16, body: &Body) {
        let errno = self.try_ask(kind, flags, body);
        assert!(errno == 0, "netlink request {kind}: {}", std::io::Error::from_raw_os_error(errno));
    }

    /// One request that is answered by one message, without an acknowledgement.
    pub fn round_trip(&mut self, kind: u16, body: &Body) {
        self.queue(kind, 0, body);
        self.flush();
        self.receive();
    }

    /// How many messages a dump has.
    pub fn dump(&mut self, kind: u16, body: &Body) -> usize {
        self.queue(kind, DUMP, body);
        self.flush();
        let (mut count, mut done) = (0, false);
        while !done {
            each(self.receive(), |kind, _| match kind {
                DONE | ERROR => done = true,
                _ => count += 1,
            });
        }
        count
    }

    /// Waits until a message of this kind comes.
    pub fn wait_for(&mut self, wanted: u16) {
        let mut seen = false;
        while !seen {
            each(self.receive(), |kind, _| seen |= kind == wanted);
        }
    }
}

fn each(mut bytes: &[u8], mut f: impl FnMut(u16, &[u8])) {
    while bytes.len() >= HEADER {
        let length = (number(bytes) as usize).clamp(HEADER, bytes.len());
        f(u16::from_ne_bytes([bytes[4], bytes[5]]), &bytes[HEADER..length]);
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
}

fn number(bytes: &[u8]) -> i32 {
    bytes.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}
