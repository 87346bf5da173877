//! Netlink messages: taking them apart with a policy, and putting them together (netlink(7), `nla_policy`).
//!
//! Key types: [`Attributes`] (what a message carries, checked against [`Policy`]s), [`Failure`] (an error with what an extended
//! acknowledgement says about it), [`Builder`] (a message being written, which never grows beyond its limit and may run out of
//! memory). Nothing here trusts a length. Offsets are from the start of the message's header, as acknowledgements
//! count them. Locks: none.

use core::borrow::Borrow;

use abi::errno::{Errno, Result as ErrnoResult};
use abi::netlink::{MessageHeader, NLA_F_NESTED, NLA_F_NET_BYTEORDER};
use alloc::vec::Vec;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a message's header.
pub const HEADER: usize = size_of::<MessageHeader>();
/// Bytes of an attribute's header.
pub const ATTRIBUTE_HEADER: usize = 4;
/// What messages and attributes are aligned to.
const ALIGNMENT: usize = 4;
/// What is said of bytes behind the last attribute.
pub const LEFTOVER: &str = "bytes leftover after parsing attributes";
/// Deepest nesting that validation follows.
pub const MAX_DEPTH: usize = 10;

/// Rounds up to the alignment of messages and attributes.
pub const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// Why a request fails, and what an extended acknowledgement says besides the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The error.
    pub errno: Errno,
    /// NLMSGERR_ATTR_MSG; `{}` in it stands for `inset`.
    pub text: Option<&'static str>,
    /// A name or number in the text.
    pub inset: Option<Inset>,
    /// NLMSGERR_ATTR_OFFS: where the offending attribute begins.
    pub offset: Option<usize>,
    /// NLMSGERR_ATTR_MISS_TYPE: the attribute that is missing.
    pub missing: Option<u32>,
    /// NLMSGERR_ATTR_MISS_NEST: where the nest begins that misses it; none for the message itself.
    pub missing_in: Option<usize>,
    /// NLMSGERR_ATTR_POLICY: what the attribute should have been.
    pub policy: Option<Policy>,
}

/// A short name or number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inset([u8; 16]);

impl Inset {
    /// Of text, cut to 16 bytes.
    pub fn new(text: &[u8]) -> Inset {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        Inset(bytes)
    }

    /// Its text.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// What handling a request gives.
pub type Outcome<T> = Result<T, Failure>;

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure {
            errno,
            text: None,
            inset: None,
            offset: None,
            missing: None,
            missing_in: None,
            policy: None,
        }
    }
}

impl Failure {
    /// An error with a text.
    pub fn new(errno: Errno, text: &'static str) -> Failure {
        Failure { text: Some(text), ..Failure::from(errno) }
    }

    /// The same, pointing at an attribute.
    pub fn at<'a>(self, attribute: impl Borrow<Attribute<'a>>) -> Failure {
        let attribute = attribute.borrow();
        Failure { offset: Some(attribute.offset), ..self }
    }

    /// The same with a name or number in its text.
    pub fn with(self, inset: &[u8]) -> Failure {
        Failure { inset: Some(Inset::new(inset)), ..self }
    }

    /// `EINVAL` for an attribute that is missing from the message.
    pub fn missing(kind: u16) -> Failure {
        Failure { missing: Some(kind.into()), ..Failure::from(Errno::EINVAL) }
    }
}

/// How careful validation is (`enum netlink_validation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// As before there were rules: unknown attributes and trailing bytes are ignored.
    Liberal,
    /// Unknown attributes and trailing bytes are errors (strict checking of old commands).
    Old,
    /// Also lengths, the nesting flag and attributes without a policy (commands made since).
    Strict,
}

/// What an attribute must be (`struct nla_policy`). Ranges are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Anything of at least so many bytes; refused by strict checking.
    Unspecified(usize),
    /// Never allowed, with the reason.
    Reject(&'static str),
    /// No value.
    Flag,
    /// One byte.
    U8,
    /// One byte within a range.
    U8Range(u8, u8),
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Four bytes within a range.
    U32Range(u32, u32),
    /// Eight bytes.
    U64,
    /// Four bytes, signed.
    S32,
    /// Four bytes, signed, within a range.
    S32Range(i32, i32),
    /// Text of at most so many bytes, with or without a zero.
    String(usize),
    /// Text that ends with a zero; at most so many bytes before it.
    NulString(usize),
    /// At most so many bytes (0: any number).
    Binary(usize),
    /// Exactly so many bytes.
    Exact(usize),
    /// Attributes in it, checked with the same care.
    Nested(&'static Policies),
    /// Attributes in it that the user of the nest checks.
    Nest,
}

/// The policies of one place: attribute types with what each must be. Types up to `max` without an entry are known but
/// unspecified.
#[derive(Debug, PartialEq, Eq)]
pub struct Policies {
    /// The highest type that is known.
    pub max: u16,
    /// What is demanded of some.
    pub rules: &'static [(u16, Policy)],
}

impl Policies {
    fn of(&self, kind: u16) -> Policy {
        let found = self.rules.iter().find(|(rule, _)| *rule == kind);
        found.map_or(Policy::Unspecified(0), |(_, policy)| *policy)
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type without the flags.
    pub kind: u16,
    /// Whether NLA_F_NESTED is set.
    pub is_nested: bool,
    /// Its value.
    pub value: &'a [u8],
    /// Where its header begins in the message.
    pub offset: usize,
}

impl<'a> Attribute<'a> {
    fn number<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        let length = N.min(self.value.len());
        bytes[..length].copy_from_slice(&self.value[..length]);
        bytes
    }
    /// As a byte. What is missing of a number reads as zero (validation has asked for enough bytes).
    pub fn u8(&self) -> u8 {
        self.number::<1>()[0]
    }
    /// As two bytes.
    pub fn u16(&self) -> u16 {
        u16::from_ne_bytes(self.number())
    }
    /// As four bytes.
    pub fn u32(&self) -> u32 {
        u32::from_ne_bytes(self.number())
    }
    /// As four bytes, signed.
    pub fn i32(&self) -> i32 {
        i32::from_ne_bytes(self.number())
    }
    /// As text: up to the first zero.
    pub fn text(&self) -> &'a [u8] {
        self.value.split(|byte| *byte == 0).next().unwrap_or_default()
    }
    /// The attributes in it.
    pub fn nested(&self) -> AttributeIter<'a> {
        AttributeIter { rest: self.value, offset: self.offset + ATTRIBUTE_HEADER }
    }
}

/// Goes through attributes one after the other; stops at the first that is malformed.
#[derive(Clone, Copy, Debug)]
pub struct AttributeIter<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> AttributeIter<'a> {
    /// Of bytes that begin at `offset` of the message.
    pub fn new(bytes: &'a [u8], offset: usize) -> AttributeIter<'a> {
        AttributeIter { rest: bytes, offset }
    }
    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for AttributeIter<'a> {
    type Item = Attribute<'a>;
    fn next(&mut self) -> Option<Attribute<'a>> {
        let header: [u8; ATTRIBUTE_HEADER] = *self.rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let bits = u16::from_ne_bytes([header[2], header[3]]);
        let value = self.rest.get(ATTRIBUTE_HEADER..length)?;
        let attribute = Attribute {
            kind: bits & !(NLA_F_NESTED | NLA_F_NET_BYTEORDER),
            is_nested: bits & NLA_F_NESTED != 0,
            value,
            offset: self.offset,
        };
        let step = align(length).min(self.rest.len());
        self.rest = &self.rest[step..];
        self.offset += step;
        Some(attribute)
    }
}

/// The attributes of one place by type: of each type the last. Only their places are kept: a table of what many types there are
/// lies on a kernel stack.
#[derive(Debug)]
pub struct Attributes<'a, const N: usize> {
    place: AttributeIter<'a>,
    /// One more than the distance of the attribute's header from the first one's; 0 for none.
    found: [u32; N],
    has_leftover: bool,
}

impl<const N: usize> Default for Attributes<'_, N> {
    /// None at all.
    fn default() -> Self {
        Attributes { place: AttributeIter::new(&[], 0), found: [0; N], has_leftover: false }
    }
}

impl<'a, const N: usize> Attributes<'a, N> {
    /// Checks and sorts the attributes in `bytes`, which begin at `offset` of the message.
    pub fn parse(
        iter: AttributeIter<'a>,
        policies: &'static Policies,
        strictness: Strictness,
    ) -> Outcome<Attributes<'a, N>> {
        let mut found = [0; N];
        let has_leftover = validate(iter, policies, strictness, 0, &mut |attribute| {
            if let Some(slot) = found.get_mut(usize::from(attribute.kind)) {
                *slot = (attribute.offset - iter.offset) as u32 + 1;
            }
        })?;
        Ok(Attributes { place: iter, found, has_leftover })
    }

    /// The same for what follows a fixed header of `header` bytes in a message. `EINVAL`: the message is shorter than that.
    pub fn parse_message(
        message: &Message<'a>,
        header: usize,
        policies: &'static Policies,
        strictness: Strictness,
    ) -> Outcome<Attributes<'a, N>> {
        if message.payload.len() < header {
            return Err(Failure::new(Errno::EINVAL, "Invalid header length"));
        }
        let start = align(header).min(message.payload.len());
        Attributes::parse(AttributeIter::new(&message.payload[start..], HEADER + start), policies, strictness)
    }

    /// Whether there were bytes behind the last attribute that are none.
    pub fn has_leftover(&self) -> bool {
        self.has_leftover
    }

    /// The last attribute of a type.
    pub fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        self.at(*self.found.get(usize::from(kind))?)
    }

    fn at(&self, found: u32) -> Option<Attribute<'a>> {
        let distance = (found as usize).checked_sub(1)?;
        AttributeIter::new(self.place.rest.get(distance..)?, self.place.offset + distance).next()
    }

    /// Whether there is one.
    pub fn has(&self, kind: u16) -> bool {
        self.get(kind).is_some()
    }

    /// All, in the order of their types.
    pub fn iter(&self) -> impl Iterator<Item = Attribute<'a>> {
        self.found.iter().filter_map(|found| self.at(*found))
    }
}

/// Hands every attribute that is known and right to `take`; whether bytes were left over.
fn validate<'a>(
    mut iter: AttributeIter<'a>,
    policies: &'static Policies,
    strictness: Strictness,
    depth: usize,
    take: &mut dyn FnMut(Attribute<'a>),
) -> Outcome<bool> {
    if depth >= MAX_DEPTH {
        return Err(Failure::new(Errno::EINVAL, "allowed policy recursion depth exceeded"));
    }
    for attribute in iter.by_ref() {
        if attribute.kind == 0 || attribute.kind > policies.max {
            if strictness != Strictness::Liberal {
                return Err(Failure::new(Errno::EINVAL, "Unknown attribute type").at(attribute));
            }
            continue;
        }
        check(&attribute, policies.of(attribute.kind), strictness, depth)?;
        take(attribute);
    }
    let has_leftover = iter.remaining() > 0;
    if has_leftover && strictness != Strictness::Liberal {
        return Err(Failure::new(Errno::EINVAL, LEFTOVER));
    }
    Ok(has_leftover)
}

/// One attribute against its policy.
fn check(attribute: &Attribute<'_>, policy: Policy, strictness: Strictness, depth: usize) -> Outcome<()> {
    let fail = |errno| {
        let failure = Failure::new(errno, "Attribute failed policy validation").at(attribute);
        Err(Failure { policy: Some(policy), ..failure })
    };
    let length = attribute.value.len();
    let strict = strictness == Strictness::Strict;
    let is_nest = matches!(policy, Policy::Nested(_) | Policy::Nest);
    if strict && is_nest && !attribute.is_nested {
        return Err(Failure::new(Errno::EINVAL, "NLA_F_NESTED is missing").at(attribute));
    }
    if strict && !is_nest && attribute.is_nested && !matches!(policy, Policy::Unspecified(_)) {
        return Err(Failure::new(Errno::EINVAL, "NLA_F_NESTED not expected").at(attribute));
    }
    let number = |bytes: usize| {
        if strict && length != bytes {
            let failure = Failure::new(Errno::EINVAL, "invalid attribute length").at(attribute);
            return Err(Failure { policy: Some(policy), ..failure });
        }
        if length < bytes { fail(Errno::ERANGE) } else { Ok(()) }
    };
    let range = |inside: bool| {
        if inside {
            return Ok(());
        }
        let failure = Failure::new(Errno::ERANGE, "integer out of range").at(attribute);
        Err(Failure { policy: Some(policy), ..failure })
    };
    match policy {
        Policy::Reject(text) => Err(Failure::new(Errno::EINVAL, text).at(attribute)),
        Policy::Unspecified(_) if strict => {
            Err(Failure::new(Errno::EINVAL, "Unsupported attribute").at(attribute))
        }
        Policy::Unspecified(least) if length < least => fail(Errno::ERANGE),
        Policy::Flag if length > 0 => fail(Errno::ERANGE),
        Policy::U8 => number(1),
        Policy::U8Range(low, high) => {
            number(1)?;
            range((low..=high).contains(&attribute.u8()))
        }
        Policy::U16 => number(2),
        Policy::U32 | Policy::S32 => number(4),
        Policy::U32Range(low, high) => {
            number(4)?;
            range((low..=high).contains(&attribute.u32()))
        }
        Policy::S32Range(low, high) => {
            number(4)?;
            range((low..=high).contains(&attribute.i32()))
        }
        Policy::U64 => number(8),
        Policy::String(most) => check_text(attribute.value, most).or_else(fail),
        Policy::NulString(most) => {
            let head = if most == 0 { length } else { length.min(most + 1) };
            if !attribute.value[..head].contains(&0) {
                return fail(Errno::EINVAL);
            }
            check_text(attribute.value, most).or_else(fail)
        }
        Policy::Binary(most) if most > 0 && length > most => fail(Errno::ERANGE),
        Policy::Exact(bytes) if length != bytes => {
            let failure = Failure::new(Errno::ERANGE, "binary attribute size out of range").at(attribute);
            Err(Failure { policy: Some(policy), ..failure })
        }
        Policy::Nested(_) | Policy::Nest if length > 0 && length < ATTRIBUTE_HEADER => fail(Errno::ERANGE),
        Policy::Nested(inner) if length > 0 => {
            validate(attribute.nested(), inner, strictness, depth + 1, &mut |_| {}).map(drop)
        }
        _ => Ok(()),
    }
}

fn check_text(value: &[u8], most: usize) -> Result<(), Errno> {
    let text = value.strip_suffix(&[0]).unwrap_or(value);
    if value.is_empty() || (most > 0 && text.len() > most) { Err(Errno::ERANGE) } else { Ok(()) }
}

/// One message: its header and what follows, cut to its length.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The header.
    pub header: MessageHeader,
    /// What follows it.
    pub payload: &'a [u8],
    /// All of it.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// The structure at the start of the payload.
    pub fn fixed<T: FromBytes>(&self) -> Option<T> {
        T::read_from_prefix(self.payload).ok().map(|(value, _)| value)
    }
}

/// The messages in a datagram; ends at the first that is malformed.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;
    fn next(&mut self) -> Option<Message<'a>> {
        let (header, _) = MessageHeader::read_from_prefix(self.0).ok()?;
        let length = header.nlmsg_len as usize;
        let bytes = self.0.get(..length).filter(|bytes| bytes.len() >= HEADER)?;
        self.0 = &self.0[align(length).min(self.0.len())..];
        Some(Message { header, payload: &bytes[HEADER..], bytes })
    }
}

/// A message (or several) being written, into at most `limit` bytes. What does not fit is `EMSGSIZE`.
#[derive(Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    limit: usize,
}

/// An open message or nest: where it began.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Mark(usize);

impl Builder {
    /// A builder of at most `limit` bytes; takes memory as it grows.
    pub fn new(limit: usize) -> Builder {
        Builder { bytes: Vec::new(), limit }
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How much was written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A place to come back to with [`Builder::cancel`].
    pub fn mark(&self) -> Mark {
        Mark(self.bytes.len())
    }

    /// Forgets what was written since.
    pub fn cancel(&mut self, mark: Mark) {
        self.bytes.truncate(mark.0);
    }

    /// Makes room for so many bytes more. The first time for a message of the usual size, so that it grows a few times at most.
    #[inline]
    fn reserve(&mut self, more: usize) -> ErrnoResult<()> {
        const USUAL: usize = 256;
        if self.bytes.len() + more > self.limit {
            return Err(Errno::EMSGSIZE);
        }
        if self.bytes.capacity() - self.bytes.len() >= more {
            return Ok(());
        }
        let more = if self.bytes.capacity() == 0 { more.max(USUAL.min(self.limit)) } else { more };
        self.bytes.try_reserve(more).map_err(|_| Errno::ENOMEM)
    }

    /// Writes bytes, for which there is room, and zeros up to a multiple of four.
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let padding = align(bytes.len()) - bytes.len();
        self.bytes.extend_from_slice(&[0; ALIGNMENT][..padding.min(ALIGNMENT)]);
    }

    fn extend(&mut self, bytes: &[u8]) -> ErrnoResult<()> {
        self.reserve(align(bytes.len()))?;
        self.write(bytes);
        Ok(())
    }

    /// Begins a message; [`Builder::end`] fills in its length. `EMSGSIZE`, `ENOMEM`.
    pub fn begin(&mut self, kind: u16, flags: u16, sequence: u32, port: u32) -> ErrnoResult<Mark> {
        let mark = self.mark();
        let header = MessageHeader {
            nlmsg_len: 0,
            nlmsg_type: kind,
            nlmsg_flags: flags,
            nlmsg_seq: sequence,
            nlmsg_pid: port,
        };
        self.extend(header.as_bytes())?;
        Ok(mark)
    }

    /// Ends a message.
    pub fn end(&mut self, mark: Mark) {
        let length = (self.bytes.len() - mark.0) as u32;
        if let Some(place) = self.bytes.get_mut(mark.0..mark.0 + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// Writes over what was written at a mark.
    pub fn patch(&mut self, mark: Mark, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(mark.0..mark.0 + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// Sets flags of a message that was begun.
    pub fn set_flags(&mut self, mark: Mark, flags: u16) {
        if let Some(place) = self.bytes.get_mut(mark.0 + 6..mark.0 + 8) {
            let before = u16::from_ne_bytes([place[0], place[1]]);
            place.copy_from_slice(&(before | flags).to_ne_bytes());
        }
    }

    /// Writes a fixed structure (padded).
    pub fn fixed(&mut self, bytes: &[u8]) -> ErrnoResult<()> {
        self.extend(bytes)
    }

    /// Writes an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> ErrnoResult<()> {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).map_err(|_| Errno::EMSGSIZE)?;
        self.reserve(ATTRIBUTE_HEADER + align(value.len()))?;
        let [a, b] = length.to_ne_bytes();
        let [c, d] = kind.to_ne_bytes();
        self.write(&[a, b, c, d]);
        self.write(value);
        Ok(())
    }

    /// Writes an attribute of one byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> ErrnoResult<()> {
        self.attribute(kind, &[value])
    }

    /// Writes an attribute of two bytes.
    pub fn u16(&mut self, kind: u16, value: u16) -> ErrnoResult<()> {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Writes an attribute of four bytes.
    pub fn u32(&mut self, kind: u16, value: u32) -> ErrnoResult<()> {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Writes an attribute of four bytes, signed.
    pub fn i32(&mut self, kind: u16, value: i32) -> ErrnoResult<()> {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Writes an attribute of eight bytes.
    pub fn u64(&mut self, kind: u16, value: u64) -> ErrnoResult<()> {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Writes text with its zero.
    pub fn text(&mut self, kind: u16, text: &[u8]) -> ErrnoResult<()> {
        let length = u16::try_from(ATTRIBUTE_HEADER + text.len() + 1).map_err(|_| Errno::EMSGSIZE)?;
        let padded = align(text.len() + 1);
        self.reserve(ATTRIBUTE_HEADER + padded)?;
        let [a, b] = length.to_ne_bytes();
        let [c, d] = kind.to_ne_bytes();
        self.write(&[a, b, c, d]);
        self.bytes.extend_from_slice(text);
        let zeros = padded - text.len();
        self.bytes.extend_from_slice(&[0; ALIGNMENT][..zeros.min(ALIGNMENT)]);
        Ok(())
    }

    /// Begins a nest; `kind` may carry NLA_F_NESTED.
    pub fn nest(&mut self, kind: u16) -> ErrnoResult<Mark> {
        let mark = self.mark();
        let [c, d] = kind.to_ne_bytes();
        self.extend(&[0, 0, c, d])?;
        Ok(mark)
    }

    /// Ends a nest. One that grew beyond 64 KiB is cut in its length only, as on Linux.
    pub fn end_nest(&mut self, mark: Mark) {
        let length = (self.bytes.len() - mark.0) as u16;
        if let Some(place) = self.bytes.get_mut(mark.0..mark.0 + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    static INNER: Policies = Policies { max: 2, rules: &[(1, Policy::U32), (2, Policy::Nested(&OUTER))] };
    static OUTER: Policies = Policies {
        max: 8,
        rules: &[
            (1, Policy::U32),
            (2, Policy::NulString(15)),
            (3, Policy::Nested(&INNER)),
            (4, Policy::U8Range(0, 3)),
            (5, Policy::Flag),
            (6, Policy::Exact(4)),
            (7, Policy::Reject("no")),
        ],
    };

    fn parse(bytes: &[u8], strictness: Strictness) -> Outcome<Attributes<'_, 9>> {
        Attributes::parse(AttributeIter::new(bytes, HEADER), &OUTER, strictness)
    }

    fn built(build: impl FnOnce(&mut Builder) -> ErrnoResult<()>) -> Vec<u8> {
        let mut builder = Builder::new(4096);
        build(&mut builder).unwrap();
        builder.finish()
    }

    #[test]
    fn what_is_built_is_parsed() {
        let bytes = built(|b| {
            b.u32(1, 77)?;
            b.text(2, b"lo")?;
            let nest = b.nest(3 | NLA_F_NESTED)?;
            b.u32(1, 5)?;
            b.end_nest(nest);
            b.u32(1, 78)
        });
        let all = parse(&bytes, Strictness::Strict).unwrap();
        assert_eq!(all.get(1).unwrap().u32(), 78, "the last counts");
        assert_eq!(all.get(2).unwrap().text(), b"lo");
        assert_eq!(all.get(3).unwrap().nested().next().unwrap().u32(), 5);
        assert_eq!(all.get(2).unwrap().offset, HEADER + 8);
    }

    #[test]
    fn failures_say_what_and_where() {
        let fails =
            |bytes: &[u8], strictness| parse(bytes, strictness).err().map(|f| (f.errno, f.text, f.offset));
        let unknown = built(|b| b.u32(1, 1).and_then(|()| b.u32(99, 1)));
        assert_eq!(fails(&unknown, Strictness::Liberal), None);
        let text = Some("Unknown attribute type");
        assert_eq!(fails(&unknown, Strictness::Old), Some((Errno::EINVAL, text, Some(HEADER + 8))));
        let short = built(|b| b.u16(1, 1));
        let text = Some("Attribute failed policy validation");
        assert_eq!(fails(&short, Strictness::Liberal), Some((Errno::ERANGE, text, Some(HEADER))));
        let long = built(|b| b.u64(1, 1));
        assert_eq!(fails(&long, Strictness::Old), None);
        assert!(fails(&long, Strictness::Strict).is_some());
        let unended = built(|b| b.attribute(2, b"eth0"));
        assert_eq!(fails(&unended, Strictness::Liberal), Some((Errno::EINVAL, text, Some(HEADER))));
        let reject = built(|b| b.u32(7, 0));
        assert_eq!(fails(&reject, Strictness::Liberal), Some((Errno::EINVAL, Some("no"), Some(HEADER))));
        let outside = built(|b| b.u8(4, 4));
        let text = Some("integer out of range");
        assert_eq!(fails(&outside, Strictness::Liberal), Some((Errno::ERANGE, text, Some(HEADER))));
        let trailing = [built(|b| b.u32(1, 1)), [9, 0, 0].to_vec()].concat();
        assert_eq!(fails(&trailing, Strictness::Liberal), None);
        assert_eq!(
            fails(&trailing, Strictness::Old).unwrap().1,
            Some("bytes leftover after parsing attributes")
        );
    }

    #[test]
    fn nesting_has_an_end() {
        let mut bytes = Vec::new();
        for level in 0..200u16 {
            let kind = if level % 2 == 0 { 2u16 } else { 3 };
            let length = (bytes.len() + 4) as u16;
            bytes = [&length.to_ne_bytes()[..], &(kind | NLA_F_NESTED).to_ne_bytes(), &bytes].concat();
        }
        let text = parse(&bytes, Strictness::Strict).err().unwrap().text;
        assert_eq!(text, Some("allowed policy recursion depth exceeded"));
    }

    #[test]
    fn nothing_is_written_beyond_the_limit() {
        let mut builder = Builder::new(24);
        let mark = builder.begin(1, 0, 2, 3).unwrap();
        assert_eq!(builder.text(1, b"abcdef"), Err(Errno::EMSGSIZE));
        assert_eq!(builder.u64(1, 1), Err(Errno::EMSGSIZE));
        builder.u32(1, 1).unwrap();
        builder.end(mark);
        let bytes = builder.finish();
        let message = Messages(&bytes).next().unwrap();
        assert_eq!((message.header.nlmsg_len, message.payload.len()), (24, 8));
    }

    proptest! {
        #[test]
        fn rubbish_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for strictness in [Strictness::Liberal, Strictness::Old, Strictness::Strict] {
                if let Err(failure) = parse(&bytes, strictness)
                    && let Some(offset) = failure.offset
                {
                    prop_assert!(offset + 4 <= HEADER + bytes.len());
                }
            }
            let mut seen = 0;
            for message in Messages(&bytes) {
                seen += message.bytes.len();
                prop_assert!(message.bytes.len() >= HEADER);
            }
            prop_assert!(seen <= bytes.len());
        }

        #[test]
        fn nearly_valid_is_survived(
            parts in prop::collection::vec((0u16..10, prop::collection::vec(any::<u8>(), 0..20), -2i8..3), 0..12)
        ) {
            let mut bytes = Vec::new();
            for (kind, value, skew) in &parts {
                let length = (value.len() as i64 + 4 + i64::from(*skew)).max(0) as u16;
                bytes.extend_from_slice(&length.to_ne_bytes());
                bytes.extend_from_slice(&kind.to_ne_bytes());
                bytes.extend_from_slice(value);
                bytes.resize(align(bytes.len()), 0);
            }
            for strictness in [Strictness::Liberal, Strictness::Old, Strictness::Strict] {
                let _ = parse(&bytes, strictness);
            }
        }
    }
}
