//! Names of disks: `vda` to `vdz`, `vdaa`, …
//!
//! Key type: [`Name`]. Locks: [`TAKEN`], a leaf.

use alloc::collections::BTreeSet;
use alloc::string::String;
use machine::sync::SpinLock;

static TAKEN: SpinLock<BTreeSet<u32>> = SpinLock::new(BTreeSet::new());

/// The name of one disk, free again when this is dropped.
pub struct Name {
    number: u32,
    text: String,
}

impl Name {
    /// The first that is free.
    pub fn take() -> Name {
        let mut taken = TAKEN.lock();
        let mut number = 0;
        while taken.contains(&number) {
            number += 1;
        }
        taken.insert(number);
        Name { number, text: name_of(number) }
    }

    /// As in `/dev`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        TAKEN.lock().remove(&self.number);
    }
}

/// Letters count as digits without a zero.
fn name_of(number: u32) -> String {
    let mut letters = [b'a'; 7];
    let mut at = letters.len();
    let mut left = number + 1;
    while left > 0 {
        left -= 1;
        at -= 1;
        letters[at] = b'a' + (left % 26) as u8;
        left /= 26;
    }
    let mut text = String::from("vd");
    text.extend(letters[at..].iter().map(|letter| char::from(*letter)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_on() {
        for (number, name) in [(0, "vda"), (25, "vdz"), (26, "vdaa"), (701, "vdzz"), (702, "vdaaa")] {
            assert_eq!(name_of(number), name);
        }
        assert_eq!(name_of(u32::MAX - 1).len(), 9);
        let first = Name::take();
        let second = Name::take();
        assert_ne!(first.as_str(), second.as_str());
        let was = String::from(first.as_str());
        drop(first);
        assert_eq!(Name::take().as_str(), was);
    }
}
