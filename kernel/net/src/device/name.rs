//! Names of interfaces. Key type: [`InterfaceName`]. No locks.

use abi::errno::{Errno, Result};
use abi::rtnetlink::{ALTIFNAMSIZ, IFNAMSIZ};
use core::fmt;

/// A name of 1 to 15 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceName {
    bytes: [u8; IFNAMSIZ],
}

impl InterfaceName {
    /// No name yet.
    pub(crate) const EMPTY: InterfaceName = InterfaceName { bytes: [0; IFNAMSIZ] };

    /// A name as `dev_valid_name` wants it. `EINVAL`: empty, too long, `.`, `..`, or with a slash, a colon or white space.
    pub fn new(text: &[u8]) -> Result<InterfaceName> {
        if text.len() >= IFNAMSIZ || !is_valid(text) {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; IFNAMSIZ];
        bytes[..text.len()].copy_from_slice(text);
        Ok(InterfaceName { bytes })
    }

    /// The parts of a label one after the other, cut to 15 bytes: not every label is a name.
    pub(crate) fn label(parts: &[&[u8]]) -> InterfaceName {
        let mut bytes = [0; IFNAMSIZ];
        let text = parts.iter().flat_map(|part| part.iter());
        bytes[..IFNAMSIZ - 1].iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        InterfaceName { bytes }
    }

    /// Its bytes without zeros.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// With its zeros, as in `struct ifreq`.
    pub fn padded(&self) -> &[u8; IFNAMSIZ] {
        &self.bytes
    }

    /// The two parts around the one `%d` of a pattern; `None` if it is none. `EINVAL`: another `%` in it.
    pub fn pattern(&self) -> Result<Option<(&[u8], &[u8])>> {
        let text = self.as_bytes();
        let Some(place) = text.iter().position(|byte| *byte == b'%') else { return Ok(None) };
        let rest = &text[place + 1..];
        match rest.strip_prefix(b"d") {
            Some(after) if !after.contains(&b'%') => Ok(Some((&text[..place], after))),
            _ => Err(Errno::EINVAL),
        }
    }

    /// A pattern with a number in place of `%d`. `EINVAL`: too long.
    pub fn numbered(before: &[u8], number: u32, after: &[u8]) -> Result<InterfaceName> {
        let mut text = arrayvec::ArrayVec::<u8, { 2 * IFNAMSIZ + 10 }>::new();
        let mut digits = arrayvec::ArrayString::<10>::new();
        let _ = fmt::Write::write_fmt(&mut digits, format_args!("{number}"));
        for part in [before, digits.as_bytes(), after] {
            text.try_extend_from_slice(part).map_err(|_| Errno::EINVAL)?;
        }
        InterfaceName::new(&text)
    }
}

fn is_valid(text: &[u8]) -> bool {
    !text.is_empty()
        && text != b"."
        && text != b".."
        && !text.iter().any(|byte| matches!(byte, 0 | b'/' | b':' | b' ' | 0x09..=0x0d))
}

/// An alternative name: up to 127 bytes. `EINVAL`.
pub fn parse_alternative(text: &[u8]) -> Result<&[u8]> {
    if text.is_empty() || text.len() >= ALTIFNAMSIZ { Err(Errno::EINVAL) } else { Ok(text) }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_name() {
        for good in ["lo", "a", "eth0.100", "fifteen-bytes-x", "%", "é"] {
            assert!(InterfaceName::new(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-bytes-xx"] {
            assert_eq!(InterfaceName::new(bad.as_bytes()), Err(Errno::EINVAL), "{bad}");
        }
    }

    #[test]
    fn patterns() {
        let name = |text: &str| InterfaceName::new(text.as_bytes()).unwrap();
        assert_eq!(name("veth%d").pattern(), Ok(Some((&b"veth"[..], &b""[..]))));
        assert_eq!(name("eth0").pattern(), Ok(None));
        for bad in ["a%", "a%s", "%d%d"] {
            assert_eq!(name(bad).pattern(), Err(Errno::EINVAL));
        }
        assert_eq!(InterfaceName::numbered(b"veth", 12, b"x"), Ok(name("veth12x")));
        assert_eq!(InterfaceName::numbered(b"fifteen-bytes-", 12, b""), Err(Errno::EINVAL));
    }
}
