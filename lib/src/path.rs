//! Path names: components, limits, and what a trailing slash means.
//!
//! [`components`] splits as Linux does: runs of slashes are one, nothing is resolved (`.` and `..` come out
//! as they are, because only the walk knows what they mean). Used by `vfs::namei`, the initramfs unpacker and
//! the pseudo file systems. No locks.

use abi::{Errno, Result};

/// Longest component, bytes.
pub const NAME_MAX: usize = abi::fs::NAME_MAX as usize;
/// Longest path with its NUL, bytes.
pub const PATH_MAX: usize = abi::fs::PATH_MAX as usize;

/// Splits a path; see [`components`].
#[derive(Clone, Debug)]
pub struct Components<'a> {
    rest: &'a [u8],
}

/// One component and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component<'a> {
    /// Its bytes: not empty, no slash, perhaps `.` or `..`.
    pub name: &'a [u8],
    /// What comes after it.
    pub place: Place,
}

/// Where in the path a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Another component follows: this one must be a directory.
    Middle,
    /// The last, with nothing after it.
    Last,
    /// The last, with slashes after it: it must be a directory, and links in it are followed.
    LastWithSlash,
}

/// The components of `path`.
pub fn components(path: &[u8]) -> Components<'_> {
    Components { rest: skip_slashes(path) }
}

impl<'a> Components<'a> {
    /// What is not yet split, without leading slashes.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Components<'a> {
    type Item = Component<'a>;

    fn next(&mut self) -> Option<Component<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let length = self.rest.iter().position(|byte| *byte == b'/').unwrap_or(self.rest.len());
        let (name, after) = self.rest.split_at(length);
        self.rest = skip_slashes(after);
        let place = match (self.rest.is_empty(), after.is_empty()) {
            (false, _) => Place::Middle,
            (true, true) => Place::Last,
            (true, false) => Place::LastWithSlash,
        };
        Some(Component { name, place })
    }
}

fn skip_slashes(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    path.split_at(start).1
}

/// Does it start at the root?
pub fn is_absolute(path: &[u8]) -> bool {
    path.first() == Some(&b'/')
}

/// Is it `.` or `..`?
pub fn is_dot_or_dot_dot(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

/// Checks a name that is to be made in a directory.
///
/// # Errors
/// `ENAMETOOLONG` beyond [`NAME_MAX`]; `ENOENT` if empty; `EINVAL` with a slash or NUL inside.
pub fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if name.contains(&b'/') || name.contains(&0) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Splits off the last component: `(directory part, name)`; trailing slashes are dropped. The directory part
/// is empty for a relative name and keeps the leading slash of an absolute one.
pub fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let trimmed = path.split_at(end).0;
    let start = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    trimmed.split_at(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn names(path: &[u8]) -> Vec<(&[u8], Place)> {
        components(path).map(|c| (c.name, c.place)).collect()
    }

    #[test]
    fn splits_as_linux() {
        assert_eq!(names(b""), []);
        assert_eq!(names(b"///"), []);
        assert_eq!(names(b"a"), [(&b"a"[..], Place::Last)]);
        assert_eq!(names(b"//a//b/"), [(&b"a"[..], Place::Middle), (&b"b"[..], Place::LastWithSlash)]);
        assert_eq!(names(b"./.."), [(&b"."[..], Place::Middle), (&b".."[..], Place::Last)]);
    }

    #[test]
    fn splits_last() {
        assert_eq!(split_last(b"/a/b"), (&b"/a/"[..], &b"b"[..]));
        assert_eq!(split_last(b"a//"), (&b""[..], &b"a"[..]));
        assert_eq!(split_last(b"/"), (&b""[..], &b""[..]));
    }

    #[test]
    fn checks_names() {
        assert_eq!(check_name(&[b'a'; 255]), Ok(()));
        assert_eq!(check_name(&[b'a'; 256]), Err(Errno::ENAMETOOLONG));
        assert_eq!(check_name(b""), Err(Errno::ENOENT));
        assert_eq!(check_name(b"a/b"), Err(Errno::EINVAL));
    }

    proptest! {
        #[test]
        fn agrees_with_split(path in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'a'), Just(b'.')], 0..40)) {
            let ours: Vec<&[u8]> = components(&path).map(|c| c.name).collect();
            let theirs: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|s| !s.is_empty()).collect();
            prop_assert_eq!(ours, theirs);
            let ends_in_slash = path.ends_with(b"/");
            if let Some(last) = components(&path).last() {
                prop_assert_eq!(last.place == Place::LastWithSlash, ends_in_slash);
            }
        }
    }
}
