//! Tests of the cpio reader: archives made here, by GNU cpio where it is installed, and damaged ones.

use super::*;
use proptest::prelude::*;
use std::format;
use std::io::Write;
use std::process::{Command, Stdio};
use std::string::String;
use std::vec;
use std::vec::Vec;

#[derive(Default)]
struct Recorder {
    entries: Vec<(Entry, Vec<u8>)>,
}

impl Visitor for Recorder {
    fn entry(&mut self, entry: &Entry, body: &mut dyn Source) -> Result<(), Error> {
        let mut data = Vec::new();
        let mut buffer = [0; 333];
        loop {
            match body.read(&mut buffer)? {
                0 => break,
                count => data.extend_from_slice(&buffer[..count]),
            }
        }
        self.entries.push((entry.clone(), data));
        Ok(())
    }
}

/// Reads no body at all.
struct Lazy(usize);

impl Visitor for Lazy {
    fn entry(&mut self, _: &Entry, _: &mut dyn Source) -> Result<(), Error> {
        self.0 += 1;
        Ok(())
    }
}

fn record(magic: &str, inode: u32, mode: u32, links: u32, name: &str, body: &[u8]) -> Vec<u8> {
    let sum = if magic == "070702" { body.iter().map(|b| u32::from(*b)).sum() } else { 0u32 };
    let mut bytes = format!(
        "{magic}{inode:08X}{mode:08X}{:08X}{:08X}{links:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{sum:08X}",
        1000, 100, 77, body.len(), 8, 1, 4, 64, name.len() + 1
    )
    .into_bytes();
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn trailer() -> Vec<u8> {
    record("070701", 0, 0, 1, "TRAILER!!!", b"")
}

fn sample() -> Vec<u8> {
    let mut all = record("070701", 1, 0o040755, 2, "dir", b"");
    all.extend(record("070701", 2, 0o100644, 2, "dir/a", b""));
    all.extend(record("070701", 2, 0o100644, 2, "dir/b", b"hello"));
    all.extend(record("070702", 3, 0o100600, 1, "c", b"checked body"));
    all.extend(record("070701", 4, 0o120777, 1, "link", b"dir/a"));
    all.extend(record("070701", 5, 0o020600, 1, "tty", b""));
    all.extend(record("070701", 6, 0o060600, 1, "disk", b""));
    all.extend(record("070701", 7, 0o010600, 1, "fifo", b""));
    all.extend(record("070701", 8, 0o140600, 1, "sock", b""));
    all.extend(trailer());
    all
}

fn names(recorder: &Recorder) -> Vec<String> {
    recorder.entries.iter().map(|(e, _)| String::from_utf8_lossy(&e.name).into_owned()).collect()
}

#[test]
fn reads_every_kind() {
    let mut recorder = Recorder::default();
    unpack(&sample(), &mut recorder).unwrap();
    let kinds: Vec<Kind> = recorder.entries.iter().map(|(e, _)| e.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            Kind::Directory,
            Kind::Regular,
            Kind::HardLink(b"dir/a".to_vec()),
            Kind::Regular,
            Kind::Symlink(b"dir/a".to_vec()),
            Kind::CharacterDevice,
            Kind::BlockDevice,
            Kind::Fifo,
            Kind::Socket
        ]
    );
    assert_eq!(recorder.entries[2].1, b"hello");
    assert_eq!(recorder.entries[3].1, b"checked body");
    let tty = &recorder.entries[5].0;
    assert_eq!((tty.rdev_major, tty.rdev_minor, tty.uid, tty.gid, tty.mtime), (4, 64, 1000, 100, 77));
    let mut lazy = Lazy(0);
    unpack(&sample(), &mut lazy).unwrap();
    assert_eq!(lazy.0, 9);
}

#[test]
fn concatenates_with_zeros_between() {
    let mut all = vec![0; 512];
    all.extend(sample());
    all.extend([0; 700]);
    all.extend(sample());
    all.extend([0; 3]);
    let mut recorder = Recorder::default();
    unpack(&all, &mut recorder).unwrap();
    assert_eq!(recorder.entries.len(), 18);
    // Hard links do not reach from one archive into the next.
    assert_eq!(recorder.entries[10].0.kind, Kind::Regular);
    unpack(b"", &mut recorder).unwrap();
    unpack(&[0; 9], &mut recorder).unwrap();
}

fn compress(command: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child =
        Command::new(command).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    child.stdin.take()?.write_all(input).ok()?;
    Some(child.wait_with_output().ok()?.stdout)
}

#[test]
#[cfg_attr(miri, ignore = "it starts a program")]
fn mixes_compressed_members() {
    let two = [sample(), vec![0; 64], sample()].concat();
    let (Some(gzip), Some(zstd)) = (compress("gzip", &["-c"], &two), compress("zstd", &["-c"], &sample()))
    else {
        return;
    };
    let all = [sample(), gzip.clone(), vec![0; 5], zstd, gzip, sample()].concat();
    let mut lazy = Lazy(0);
    unpack(&all, &mut lazy).unwrap();
    assert_eq!(lazy.0, 9 * 7);
}

#[test]
#[cfg_attr(miri, ignore = "it starts a program")]
fn reads_what_gnu_cpio_writes() {
    let directory = std::env::temp_dir().join(format!("linnet-cpio-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("sub")).unwrap();
    std::fs::write(directory.join("sub/file"), vec![7u8; 5001]).unwrap();
    std::fs::hard_link(directory.join("sub/file"), directory.join("other")).ok();
    for format in ["newc", "crc"] {
        let Ok(mut child) = Command::new("cpio")
            .args(["-o", "--quiet", "-H", format])
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            break;
        };
        child.stdin.take().unwrap().write_all(b".\nsub\nsub/file\nother\n").unwrap();
        let bytes = child.wait_with_output().unwrap().stdout;
        let mut recorder = Recorder::default();
        unpack(&bytes, &mut recorder).unwrap();
        assert_eq!(names(&recorder).len(), 4, "{format}");
        let sizes: usize = recorder.entries.iter().map(|(_, data)| data.len()).sum();
        assert_eq!(sizes, 5001);
        assert!(recorder.entries.iter().any(|(e, _)| matches!(e.kind, Kind::HardLink(_))));
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "too long there")]
fn damage_is_named() {
    let good = sample();
    for length in 1..good.len() {
        // Within the padding after the trailer's name nothing is lost.
        let result = unpack(&good[..length], &mut Lazy(0));
        if length < good.len() - 1 {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Truncated | Error::UnknownFormat), "{length}: {error:?}");
        }
    }
    let sum_at = good.windows(12).position(|w| w == b"checked body").unwrap();
    let mut bad = good.clone();
    bad[sum_at] ^= 1;
    assert_eq!(unpack(&bad, &mut Lazy(0)), Err(Error::Checksum));
    let with_name_size = |size: &str| {
        let mut bad = good.clone();
        bad[94..102].copy_from_slice(size.as_bytes());
        unpack(&bad, &mut Lazy(0)).unwrap_err()
    };
    assert_eq!(with_name_size("00000000"), Error::BadName);
    assert_eq!(with_name_size("FFFFFFFF"), Error::BadName);
    assert_eq!(with_name_size("00000003"), Error::BadName);
    assert_eq!(with_name_size("0000000G"), Error::Corrupt);
    assert_eq!(unpack(b"garbage", &mut Lazy(0)), Err(Error::UnknownFormat));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 3000 }))]

    #[test]
    fn survives_mutants(changes in proptest::collection::vec((0usize..1500, any::<u8>()), 1..10), cut in 0usize..1600) {
        let mut bytes = sample();
        let length = bytes.len();
        for (at, value) in changes {
            bytes[at % length] = value;
        }
        bytes.truncate(cut.max(1));
        let mut recorder = Recorder::default();
        let _ = unpack(&bytes, &mut recorder);
        let total: usize = recorder.entries.iter().map(|(_, data)| data.len()).sum();
        prop_assert!(total <= bytes.len());
    }

    #[test]
    fn survives_noise(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = unpack(&bytes, &mut Lazy(0));
        let mut prefixed = b"\x1f\x8b\x08\0\0\0\0\0\0\0".to_vec();
        prefixed.extend_from_slice(&bytes);
        let _ = unpack(&prefixed, &mut Lazy(0));
        let mut prefixed = vec![0x28, 0xb5, 0x2f, 0xfd];
        prefixed.extend_from_slice(&bytes);
        let _ = unpack(&prefixed, &mut Lazy(0));
    }
}
