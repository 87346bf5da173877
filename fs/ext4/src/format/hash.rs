//! The hashes of names by which the index of a directory is sorted.
//!
//! Key types: [`Hasher`], [`NameHash`]. Which hash a directory uses is in its index, the seed in the superblock, and whether bytes above 127
//! count as negative depends on the machine that made the file system.

use super::CORRUPTED;
use super::superblock::Geometry;
use abi::errno::Result;

/// The hash of a name. Listings are sorted by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct NameHash {
    /// What the index is sorted by; even.
    pub major: u32,
    /// Tells apart what has the same major hash.
    pub minor: u32,
}

/// The algorithms; the number is that in the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Algorithm {
    Legacy = 0,
    HalfMd4 = 1,
    Tea = 2,
}

/// Hashes the names of one directory.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    algorithm: Algorithm,
    unsigned: bool,
    seed: [u32; 4],
}

/// What MD4 begins with, if the superblock has no seed.
const INITIAL: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// The one major hash that is not given: it stands for the end.
const END: u32 = 0x7fff_ffff << 1;

impl Hasher {
    /// The hash of version `version`. Errors: [`CORRUPTED`]: there is none.
    pub fn new(geometry: &Geometry, version: u8) -> Result<Hasher> {
        let algorithm = match version {
            0 | 3 => Algorithm::Legacy,
            1 | 4 => Algorithm::HalfMd4,
            2 | 5 => Algorithm::Tea,
            _ => return Err(CORRUPTED),
        };
        let seeded = geometry.hash_seed.iter().any(|word| *word != 0);
        let seed = if seeded { geometry.hash_seed } else { INITIAL };
        Ok(Hasher { algorithm, unsigned: version > 2 || geometry.unsigned_hash, seed })
    }

    /// The hash that new indexes of the file system use.
    pub fn default_of(geometry: &Geometry) -> Result<Hasher> {
        Hasher::new(geometry, geometry.hash_version)
    }

    /// The version for an index that uses this hash: without the sign, which the superblock has.
    pub fn version(&self) -> u8 {
        self.algorithm as u8
    }

    /// Hashes a name.
    pub fn hash(&self, name: &[u8]) -> NameHash {
        let (major, minor) = match self.algorithm {
            Algorithm::Legacy => (self.legacy(name), 0),
            Algorithm::HalfMd4 => self.half_md4(name),
            Algorithm::Tea => self.tea(name),
        };
        let major = major & !1;
        NameHash { major: if major == END { END - 2 } else { major }, minor }
    }

    fn character(&self, byte: u8) -> u32 {
        if self.unsigned { u32::from(byte) } else { i32::from(byte as i8) as u32 }
    }

    fn legacy(&self, name: &[u8]) -> u32 {
        let (mut last, mut before) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
        for byte in name {
            let mut hash = before.wrapping_add(last ^ self.character(*byte).wrapping_mul(7_152_373));
            if hash & 0x8000_0000 != 0 {
                hash = hash.wrapping_sub(0x7fff_ffff);
            }
            (before, last) = (last, hash);
        }
        last << 1
    }

    /// The beginning of a name as words, filled up with its length.
    fn words<const N: usize>(&self, rest: &[u8]) -> [u32; N] {
        let length = rest.len() as u32;
        let pair = length | length << 8;
        let padding = pair | pair << 16;
        let mut words = [padding; N];
        for (word, bytes) in words.iter_mut().zip(rest.chunks(4)) {
            for byte in bytes {
                *word = (*word << 8).wrapping_add(self.character(*byte));
            }
        }
        words
    }

    fn half_md4(&self, name: &[u8]) -> (u32, u32) {
        let mut state = self.seed;
        let mut rest = name;
        while !rest.is_empty() {
            md4_rounds(&mut state, &self.words(rest));
            rest = rest.get(32..).unwrap_or_default();
        }
        let [_, major, minor, _] = state;
        (major, minor)
    }

    fn tea(&self, name: &[u8]) -> (u32, u32) {
        let [mut first, mut second, ..] = self.seed;
        let mut rest = name;
        while !rest.is_empty() {
            let (one, two) = tea_rounds(first, second, self.words(rest));
            (first, second) = (first.wrapping_add(one), second.wrapping_add(two));
            rest = rest.get(16..).unwrap_or_default();
        }
        (first, second)
    }
}

/// Three rounds of MD4 over eight words instead of sixteen.
fn md4_rounds(state: &mut [u32; 4], words: &[u32; 8]) {
    type Mix = fn(u32, u32, u32) -> u32;
    /// What is mixed how, the words' order, how far each step rotates, the constant added.
    const ROUNDS: [(Mix, [usize; 8], [u32; 4], u32); 3] = [
        (|x, y, z| z ^ (x & (y ^ z)), [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19], 0),
        (|x, y, z| (x & y).wrapping_add((x ^ y) & z), [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13], 0x5a82_7999),
        (|x, y, z| x ^ y ^ z, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15], 0x6ed9_eba1),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, order, rotations, constant) in ROUNDS {
        for (step, word) in order.into_iter().enumerate() {
            let word = words.get(word).copied().unwrap_or(0);
            let rotation = rotations.get(step % 4).copied().unwrap_or(0);
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(word).wrapping_add(constant);
            (a, b, c, d) = (d, sum.rotate_left(rotation), b, c);
        }
    }
    let [first, second, third, fourth] = state;
    for (old, new) in [(first, a), (second, b), (third, c), (fourth, d)] {
        *old = old.wrapping_add(new);
    }
}

fn tea_rounds(first: u32, second: u32, key: [u32; 4]) -> (u32, u32) {
    const DELTA: u32 = 0x9e37_79b9;
    let [a, b, c, d] = key;
    let (mut x, mut y, mut sum) = (first, second, 0_u32);
    let mix = |value: u32, sum: u32, low: u32, high: u32| {
        (value << 4).wrapping_add(low) ^ value.wrapping_add(sum) ^ (value >> 5).wrapping_add(high)
    };
    for _ in 0..16 {
        sum = sum.wrapping_add(DELTA);
        x = x.wrapping_add(mix(y, sum, a, b));
        y = y.wrapping_add(mix(x, sum, c, d));
    }
    (x, y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::string::String;

    /// What debugfs (e2fsprogs) says of a name.
    fn debugfs(version: &str, seed: &str, name: &str) -> Option<(u32, u32)> {
        let request = std::format!("dx_hash -h {version} -s {seed} {name}");
        let output = ["debugfs", "/usr/sbin/debugfs"]
            .iter()
            .find_map(|program| Command::new(program).args(["-R", &request]).output().ok())?;
        let text = String::from_utf8(output.stdout).ok()?;
        let numbers: std::vec::Vec<u32> = text
            .split_whitespace()
            .filter_map(|word| {
                u32::from_str_radix(word.trim_end_matches([',', ')']).strip_prefix("0x")?, 16).ok()
            })
            .collect();
        Some((*numbers.first()?, numbers.get(1).copied().unwrap_or(0)))
    }

    #[test]
    fn as_debugfs_calculates_them() {
        let seed = "d1a2c3b4-0102-0304-0506-070809aabbcc";
        let bytes: std::vec::Vec<u8> = seed
            .replace('-', "")
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let words: std::vec::Vec<u32> =
            bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
        let long = "a-name-that-is-longer-than-thirty-two-bytes-and-then-some-more";
        for (algorithm, text) in
            [(Algorithm::Legacy, "legacy"), (Algorithm::HalfMd4, "half_md4"), (Algorithm::Tea, "tea")]
        {
            for name in [
                "a",
                "passwd",
                "exactly-16-bytes",
                "x.tar.gz",
                "exactly-thirty-two-bytes-of-text",
                "h\u{e4}slich",
                long,
            ] {
                let Some((major, minor)) = debugfs(text, seed, name) else {
                    std::println!("skipped: debugfs is not there");
                    return;
                };
                // debugfs takes the signed variant by that name.
                let hasher = Hasher { algorithm, unsigned: false, seed: words.clone().try_into().unwrap() };
                assert_eq!(hasher.hash(name.as_bytes()), NameHash { major, minor }, "{text} {name}");
            }
        }
    }
}
