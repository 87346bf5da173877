//! Messages to the kernel: one datagram's messages one after the other, each answered, acknowledged or refused.
//!
//! Key types: [`Request`] (a message with who sent it), [`Dumper`] (what a dump goes on with), `RunningDump` (a socket's dump). A
//! dump's pieces are made as the reader takes them; a dumper keeps a key, not a count, so that changes in between hide
//! nothing that stays.
//! Locks: the socket's request lock is held while a datagram is handled, its dump lock while a piece is made.

use abi::errno::{Errno, Result};
use abi::netlink as linux;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use linnet_lib::netlink::{
    Attributes, Builder, Failure, HEADER, LEFTOVER, Message, Messages, Outcome, Policies, Strictness, align,
};
use machine::memory::try_box;
use security::{Capability, UserNamespace};
use zerocopy::IntoBytes;

use super::socket::{NetlinkSocket, Toggle};
use super::{Origin, diag, generic, route};
use crate::message::Sender;
use crate::namespace::NetNamespace;

/// What a piece of a dump has room for at least (`NLMSG_GOODSIZE`).
const PIECE: usize = 3776;

/// A message to the kernel.
pub struct Request<'a> {
    /// Which socket it came through.
    pub socket: &'a Arc<NetlinkSocket>,
    /// The message.
    pub message: Message<'a>,
    /// Who sent it.
    pub sender: &'a Sender,
    /// What an acknowledgement says of something odd that was done all the same.
    pub warning: Cell<Option<&'static str>>,
}

impl<'a> Request<'a> {
    /// The attributes behind a header of `header` bytes; bytes that are none are warned of.
    pub fn parse<const N: usize>(
        &self,
        header: usize,
        policies: &'static Policies,
        strictness: Strictness,
    ) -> Outcome<Attributes<'a, N>> {
        let attributes = Attributes::parse_message(&self.message, header, policies, strictness)?;
        if attributes.has_leftover() {
            self.warning.set(Some(LEFTOVER));
        }
        Ok(attributes)
    }

    /// The namespace of the socket.
    pub fn namespace(&self) -> &Arc<NetNamespace> {
        self.socket.namespace()
    }

    /// Whether both who made the socket and who sends may do this there.
    pub fn is_capable(&self, owner: &UserNamespace, capability: Capability) -> bool {
        self.socket.opener().credentials.capable(owner, capability)
            && self.sender.credentials.capable(owner, capability)
    }

    /// The same for the namespace of the socket.
    pub fn may(&self, capability: Capability) -> bool {
        self.is_capable(self.namespace().owner(), capability)
    }

    /// Where changes say they come from.
    pub fn origin(&self) -> Origin {
        let header = &self.message.header;
        Origin {
            port: self.socket.port(),
            sequence: header.nlmsg_seq,
            echo: header.nlmsg_flags & linux::NLM_F_ECHO != 0,
        }
    }

    /// Whether a flag is set.
    pub fn has_flag(&self, flag: u16) -> bool {
        self.message.header.nlmsg_flags & flag != 0
    }

    /// How carefully requests for information are checked.
    pub fn get_strictness(&self) -> Strictness {
        if self.is_strict() { Strictness::Strict } else { Strictness::Liberal }
    }

    /// Whether NETLINK_GET_STRICT_CHK is on.
    pub fn is_strict(&self) -> bool {
        self.socket.has(Toggle::StrictCheck)
    }

    /// A builder for an answer, and a message begun in it.
    pub fn begin_answer(&self, kind: u16, limit: usize) -> Result<(Builder, linnet_lib::netlink::Mark)> {
        let mut builder = Builder::new(limit);
        let mark = builder.begin(kind, 0, self.message.header.nlmsg_seq, self.socket.port())?;
        Ok((builder, mark))
    }

    /// Sends an answer.
    pub fn answer(&self, builder: Builder) {
        self.socket.answer(builder.finish());
    }
}

/// A list being told piece by piece.
pub trait Dumper: Send {
    /// Writes entries (each a message of its own with NLM_F_MULTI) until there are no more (`true`) or one does not fit (`false`,
    /// with nothing of it written).
    fn fill(&mut self, out: &mut Builder, to: &Reply) -> Result<bool>;
    /// A number that moves with every change of what is dumped, if it matters whether it moves (NLM_F_DUMP_INTR).
    fn generation(&self) -> Option<u32> {
        None
    }
}

/// A dumper in a box. `ENOMEM`.
pub fn boxed(dumper: impl Dumper + 'static) -> Outcome<Box<dyn Dumper>> {
    match try_box(dumper) {
        Ok(dumper) => Ok(dumper),
        Err(_) => Err(Errno::ENOMEM.into()),
    }
}

/// Writes one entry of a dump; whether there was room for it, else nothing of it is written. What `write` gives but `EMSGSIZE`.
pub(crate) fn fits(out: &mut Builder, write: impl FnOnce(&mut Builder) -> Result<()>) -> Result<bool> {
    let before = out.mark();
    match write(out) {
        Ok(()) => Ok(true),
        Err(Errno::EMSGSIZE) => {
            out.cancel(before);
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// What every message of a dump carries.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// The request's number.
    pub sequence: u32,
    /// The asker's port.
    pub port: u32,
    /// NLM_F_MULTI, and NLM_F_DUMP_INTR once something changed.
    pub flags: u16,
}

/// A socket's dump.
pub struct RunningDump {
    dumper: Box<dyn Dumper>,
    reply: Reply,
    generation: Option<u32>,
}

/// Handles all messages of a datagram.
pub(super) fn handle(socket: &Arc<NetlinkSocket>, bytes: &[u8], sender: &Sender) {
    let _one_at_a_time = socket.requests.lock();
    for message in Messages(bytes) {
        let request = Request { socket, message, sender, warning: Cell::new(None) };
        let header = &message.header;
        let is_request = request.has_flag(linux::NLM_F_REQUEST) && header.nlmsg_type >= linux::NLMSG_MIN_TYPE;
        let result = if is_request { dispatch(&request) } else { Ok(Handled::Done) };
        match result {
            Ok(Handled::Done) if request.has_flag(linux::NLM_F_ACK) => acknowledge(&request, None),
            Ok(_) => {}
            Err(failure) => acknowledge(&request, Some(&failure)),
        }
    }
}

/// What became of a request.
pub enum Handled {
    /// It is done; an acknowledgement is due if it was asked for.
    Done,
    /// A dump has begun, whose end is the acknowledgement.
    Dumping,
}

fn dispatch(request: &Request<'_>) -> Outcome<Handled> {
    match u32::from(request.socket.protocol().number) {
        linux::NETLINK_ROUTE => route::handle(request),
        linux::NETLINK_SOCK_DIAG => diag::handle(request),
        linux::NETLINK_GENERIC => generic::handle(request),
        // Nothing listens to uevents from programs.
        _ => Ok(Handled::Done),
    }
}

/// Begins a dump. `EBUSY`: one is running. A dumper that could not be made ends it at once with its error.
pub fn begin_dump(
    request: &Request<'_>,
    dumper: impl FnOnce() -> Outcome<Box<dyn Dumper>>,
) -> Outcome<Handled> {
    let socket = request.socket;
    let mut running = socket.dump.lock();
    if running.is_some() {
        return Err(Errno::EBUSY.into());
    }
    let reply =
        Reply { sequence: request.message.header.nlmsg_seq, port: socket.port(), flags: linux::NLM_F_MULTI };
    match dumper() {
        Ok(dumper) => {
            let generation = dumper.generation();
            *running = Some(RunningDump { dumper, reply, generation });
            drop(running);
            continue_dump(socket);
        }
        Err(failure) => {
            let mut out = Builder::new(PIECE);
            if write_end(socket, &mut out, &reply, Some(&failure)).is_ok() {
                socket.answer(out.finish());
            }
        }
    }
    Ok(Handled::Dumping)
}

/// Makes the next piece of a socket's dump if there is one and room for it.
pub(super) fn continue_dump(socket: &Arc<NetlinkSocket>) {
    let mut running = socket.dump.lock();
    let Some(dump) = running.as_mut() else { return };
    if !socket.has_dump_room() {
        return;
    }
    let mut out = Builder::new(socket.dump_size(PIECE));
    if dump.generation != dump.dumper.generation() {
        dump.reply.flags |= linux::NLM_F_DUMP_INTR;
        dump.generation = dump.dumper.generation();
    }
    let ended = match dump.dumper.fill(&mut out, &dump.reply) {
        Ok(false) if out.is_empty() => Some(Some(Failure::from(Errno::EMSGSIZE))),
        Ok(false) => None,
        Ok(true) => Some(None),
        Err(error) => Some(Some(Failure::from(error))),
    };
    let reply = dump.reply;
    let Some(failure) = ended else {
        drop(running);
        socket.answer(out.finish());
        return;
    };
    *running = None;
    drop(running);
    if write_end(socket, &mut out, &reply, failure.as_ref()).is_err() {
        // No room behind the last entries: a piece of its own.
        socket.answer(core::mem::replace(&mut out, Builder::new(PIECE)).finish());
        if write_end(socket, &mut out, &reply, failure.as_ref()).is_err() {
            return socket.overrun();
        }
    }
    socket.answer(out.finish());
}

/// The message that ends a dump.
fn write_end(
    socket: &NetlinkSocket,
    out: &mut Builder,
    reply: &Reply,
    failure: Option<&Failure>,
) -> Result<()> {
    let before = out.mark();
    let result = (|| {
        let mark = out.begin(linux::NLMSG_DONE, reply.flags, reply.sequence, reply.port)?;
        let error = failure.map_or(0, |failure| -failure.errno.code());
        out.fixed(&error.to_ne_bytes())?;
        if let Some(failure) = failure
            && socket.has(Toggle::ExtAck)
            && write_details(out, failure)?
        {
            out.set_flags(mark, linux::NLM_F_ACK_TLVS);
        }
        out.end(mark);
        Ok(())
    })();
    if result.is_err() {
        out.cancel(before);
    }
    result
}

/// NLMSG_ERROR: the result of a request, the request itself (unless it went well or the socket does not want it), and the details.
fn acknowledge(request: &Request<'_>, failure: Option<&Failure>) {
    let socket = request.socket;
    let message = &request.message;
    let quoted = match failure {
        Some(_) if !socket.has(Toggle::CapAck) => message.payload,
        _ => &[],
    };
    let mut flags = 0;
    if failure.is_none() || socket.has(Toggle::CapAck) {
        flags |= linux::NLM_F_CAPPED;
    }
    let limit = PIECE + align(message.bytes.len());
    let result = (|| -> Result<Vec<u8>> {
        let mut out = Builder::new(limit);
        let mark = out.begin(linux::NLMSG_ERROR, flags, message.header.nlmsg_seq, socket.port())?;
        let error = failure.map_or(0, |failure| -failure.errno.code());
        out.fixed(&error.to_ne_bytes())?;
        out.fixed(message.header.as_bytes())?;
        out.fixed(quoted)?;
        let details = match failure {
            _ if !socket.has(Toggle::ExtAck) => false,
            Some(failure) => write_details(&mut out, failure)?,
            None => write_warning(&mut out, request.warning.get())?,
        };
        if details {
            out.set_flags(mark, linux::NLM_F_ACK_TLVS);
        }
        out.end(mark);
        Ok(out.finish())
    })();
    match result {
        Ok(bytes) => socket.answer(bytes),
        Err(_) => socket.overrun(),
    }
}

/// A warning in the acknowledgement of what was done all the same; whether there is one.
fn write_warning(out: &mut Builder, warning: Option<&'static str>) -> Result<bool> {
    let Some(text) = warning else { return Ok(false) };
    out.text(linux::NLMSGERR_ATTR_MSG, text.as_bytes())?;
    Ok(true)
}

/// The attributes of an extended acknowledgement; whether there are any.
fn write_details(out: &mut Builder, failure: &Failure) -> Result<bool> {
    let before = out.len();
    match (failure.text, failure.inset) {
        (Some(text), Some(inset)) => {
            let inset = core::str::from_utf8(inset.as_bytes()).unwrap_or_default();
            out.text(linux::NLMSGERR_ATTR_MSG, text.replacen("{}", inset, 1).as_bytes())?;
        }
        (Some(text), None) => out.text(linux::NLMSGERR_ATTR_MSG, text.as_bytes())?,
        (None, _) => {}
    }
    if let Some(offset) = failure.offset {
        out.u32(linux::NLMSGERR_ATTR_OFFS, offset as u32)?;
    }
    if let Some(missing) = failure.missing {
        out.u32(linux::NLMSGERR_ATTR_MISS_TYPE, missing)?;
    }
    if let Some(nest) = failure.missing_in.filter(|nest| *nest > HEADER) {
        out.u32(linux::NLMSGERR_ATTR_MISS_NEST, nest as u32)?;
    }
    Ok(out.len() > before)
}
