//! Decompression of what an initramfs is packed with: gzip and zstd, read as a stream.
//!
//! A [`Source`] is pulled from, like a reader: [`Slice`] over plain bytes, [`Gzip`] and [`Zstd`] over
//! compressed ones. Memory is bounded by the format's window (32 KiB, and [`ZSTD_WINDOW_MAX`]), not by the
//! size of the data. Checksums are verified at the end of a member. `cpio::unpack` drives this. No locks.

use alloc::boxed::Box;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::io::Read;

/// Largest zstd window that is accepted, bytes (`zstd --ultra` up to level 20 and `--long=25` need no more).
pub const ZSTD_WINDOW_MAX: u64 = 32 << 20;

/// What is wrong with the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It ends in the middle.
    Truncated,
    /// It is not what the format allows.
    Corrupt,
    /// The checksum or the length does not match.
    Checksum,
    /// A compression or archive format that is not known here.
    UnknownFormat,
    /// It needs a larger window than [`ZSTD_WINDOW_MAX`].
    WindowTooLarge,
    /// A name in an archive is empty, too long or not terminated.
    BadName,
    /// No memory.
    OutOfMemory,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Truncated => "unexpected end of data",
            Self::Corrupt => "data is corrupt",
            Self::Checksum => "checksum does not match",
            Self::UnknownFormat => "unknown format",
            Self::WindowTooLarge => "zstd window is too large",
            Self::BadName => "bad name in archive",
            Self::OutOfMemory => "out of memory",
        })
    }
}

impl core::error::Error for Error {}

impl From<Error> for abi::Errno {
    fn from(error: Error) -> Self {
        match error {
            Error::OutOfMemory => Self::ENOMEM,
            _ => Self::EINVAL,
        }
    }
}

/// Bytes that come one after the other.
pub trait Source {
    /// Fills the front of `buffer`, returns how much; 0 is the end (or an empty buffer).
    ///
    /// # Errors
    /// What is wrong with the data.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error>;

    /// Fills all of `buffer` or up to the end of the source, returns how much.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn read_full(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read(rest)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }
}

/// The compression of the data that starts with `bytes`, by its magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 1952.
    Gzip,
    /// RFC 8878, also a skippable frame.
    Zstd,
    /// A plain cpio archive.
    Plain,
    /// None of these.
    Unknown,
}

impl Format {
    /// Looks at the magic number.
    pub fn detect(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b | 0x9e, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'0', b'7', b'0', b'7', b'0', ..] => Self::Plain,
            _ => Self::Unknown,
        }
    }
}

/// Plain bytes.
#[derive(Clone, Debug)]
pub struct Slice<'a> {
    rest: &'a [u8],
}

impl<'a> Slice<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl Source for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let count = buffer.len().min(self.rest.len());
        let (now, later) = self.rest.split_at(count);
        if let Some(front) = buffer.get_mut(..count) {
            front.copy_from_slice(now);
        }
        self.rest = later;
        Ok(count)
    }
}

/// One gzip member.
pub struct Gzip<'a> {
    state: Box<InflateState>,
    rest: &'a [u8],
    crc: u32,
    length: u32,
    finished: bool,
}

impl<'a> Gzip<'a> {
    /// Reads the member's header.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Truncated`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let rest = skip_gzip_header(bytes)?;
        let state = InflateState::new_boxed(DataFormat::Raw);
        Ok(Self { state, rest, crc: !0, length: 0, finished: false })
    }

    /// What follows the member; meaningful after the end was read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn check_trailer(&mut self) -> Result<(), Error> {
        let (trailer, rest) = self.rest.split_first_chunk::<8>().ok_or(Error::Truncated)?;
        let [c0, c1, c2, c3, l0, l1, l2, l3] = *trailer;
        self.rest = rest;
        self.finished = true;
        let matches = u32::from_le_bytes([c0, c1, c2, c3]) == !self.crc
            && u32::from_le_bytes([l0, l1, l2, l3]) == self.length;
        if matches { Ok(()) } else { Err(Error::Checksum) }
    }
}

impl Source for Gzip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.finished || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let step = inflate(&mut self.state, self.rest, buffer, MZFlush::None);
            self.rest = self.rest.get(step.bytes_consumed..).ok_or(Error::Corrupt)?;
            let written = buffer.get(..step.bytes_written).ok_or(Error::Corrupt)?;
            self.crc = update_crc32(self.crc, written);
            self.length = self.length.wrapping_add(step.bytes_written as u32);
            match step.status {
                Ok(MZStatus::StreamEnd) => self.check_trailer()?,
                Ok(_) if step.bytes_written == 0 && step.bytes_consumed > 0 => continue,
                Ok(_) if step.bytes_written > 0 => {}
                Ok(_) | Err(MZError::Buf) => return Err(Error::Truncated),
                Err(_) => return Err(Error::Corrupt),
            }
            return Ok(step.bytes_written);
        }
    }
}

/// Skips a gzip header with its optional fields (RFC 1952, 2.3).
fn skip_gzip_header(bytes: &[u8]) -> Result<&[u8], Error> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let (header, mut rest) = bytes.split_first_chunk::<10>().ok_or(Error::Truncated)?;
    let [0x1f, 0x8b, 8, flags, ..] = *header else { return Err(Error::Corrupt) };
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(Error::Truncated)?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..).ok_or(Error::Truncated)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0).ok_or(Error::Truncated)?;
            rest = rest.get(end + 1..).ok_or(Error::Truncated)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..).ok_or(Error::Truncated)?;
    }
    Ok(rest)
}

/// What a byte does to the CRC when 0 to 7 more bytes follow it.
static CRC32_TABLES: [[u32; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        tables[0][index] = value;
        index += 1;
    }
    let mut following = 1;
    while following < 8 {
        index = 0;
        while index < 256 {
            let before = tables[following - 1][index];
            tables[following][index] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            index += 1;
        }
        following += 1;
    }
    tables
};

/// Continues the CRC of RFC 1952 (start with `!0`, invert at the end).
fn update_crc32(crc: u32, bytes: &[u8]) -> u32 {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &CRC32_TABLES;
    let (eights, rest) = bytes.as_chunks::<8>();
    let crc = eights.iter().fold(crc, |crc, &[b0, b1, b2, b3, b4, b5, b6, b7]| {
        let [c0, c1, c2, c3] = crc.to_le_bytes();
        t7[usize::from(b0 ^ c0)]
            ^ t6[usize::from(b1 ^ c1)]
            ^ t5[usize::from(b2 ^ c2)]
            ^ t4[usize::from(b3 ^ c3)]
            ^ t3[usize::from(b4)]
            ^ t2[usize::from(b5)]
            ^ t1[usize::from(b6)]
            ^ t0[usize::from(b7)]
    });
    rest.iter().fold(crc, |crc, byte| t0[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

/// One zstd frame. Skippable frames read as empty.
pub struct Zstd<'a> {
    decoder: Box<FrameDecoder>,
    rest: &'a [u8],
    state: ZstdState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ZstdState {
    Decoding,
    Finished,
}

impl<'a> Zstd<'a> {
    /// Reads the frame's header.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Truncated`], [`Error::WindowTooLarge`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut decoder = Box::new(FrameDecoder::new());
        decoder.set_max_window_size(ZSTD_WINDOW_MAX);
        let mut rest = bytes;
        match decoder.init(&mut rest) {
            Ok(()) => Ok(Self { decoder, rest, state: ZstdState::Decoding }),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let rest = bytes.get(8..).and_then(|rest| rest.get(length as usize..));
                Ok(Self { decoder, rest: rest.ok_or(Error::Truncated)?, state: ZstdState::Finished })
            }
            Err(FrameDecoderError::WindowSizeTooBig { .. }) => Err(Error::WindowTooLarge),
            Err(FrameDecoderError::ReadFrameHeaderError(_)) => Err(Error::Truncated),
            Err(_) => Err(Error::Corrupt),
        }
    }

    /// What follows the frame; meaningful after the end was read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn check_checksum(&mut self) -> Result<(), Error> {
        self.state = ZstdState::Finished;
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(stored), Some(calculated)) if stored != calculated => Err(Error::Checksum),
            _ => Ok(()),
        }
    }
}

impl Source for Zstd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.state == ZstdState::Finished || buffer.is_empty() {
            return Ok(0);
        }
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            if self.rest.is_empty() {
                return Err(Error::Truncated);
            }
            self.decoder
                .decode_blocks(&mut self.rest, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(|_| if self.rest.is_empty() { Error::Truncated } else { Error::Corrupt })?;
        }
        let count = self.decoder.read(buffer).map_err(|_| Error::Corrupt)?;
        if count == 0 {
            self.check_checksum()?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::vec::Vec;

    pub(crate) fn pipe_through(command: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
        let mut child = Command::new(command)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut stdin = child.stdin.take()?;
        let owned = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&owned));
        let output = child.wait_with_output().ok()?;
        writer.join().ok()?.ok()?;
        Some(output.stdout)
    }

    fn sample() -> Vec<u8> {
        (0..300_000u32).flat_map(|n| (n.wrapping_mul(n) >> 7).to_le_bytes()).collect()
    }

    fn drain(source: &mut dyn Source) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        let mut buffer = [0; 1777];
        loop {
            match source.read(&mut buffer)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "it starts a program")]
    fn gzip_round_trip_and_damage() {
        let data = sample();
        let Some(mut packed) = pipe_through("gzip", &["-c"], &data) else { return };
        let end = packed.len();
        packed.extend_from_slice(b"after");
        let mut gzip = Gzip::new(&packed).unwrap();
        assert!(drain(&mut gzip).unwrap() == data);
        assert_eq!(gzip.rest(), b"after");
        for cut in [1, 9, 10, 11, 100, end / 2, end - 8, end - 1] {
            let result = Gzip::new(&packed[..cut]).and_then(|mut gzip| drain(&mut gzip));
            assert_eq!(result.unwrap_err(), Error::Truncated, "cut at {cut}");
        }
        packed[end - 6] ^= 1;
        assert_eq!(drain(&mut Gzip::new(&packed).unwrap()).unwrap_err(), Error::Checksum);
        for at in (10..end).step_by(end / 200) {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x55;
            let _ = Gzip::new(&damaged).and_then(|mut gzip| drain(&mut gzip));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "it starts a program")]
    fn zstd_round_trip_and_damage() {
        let data = sample();
        for level in ["-1", "-19"] {
            let Some(mut packed) = pipe_through("zstd", &["-c", "--check", level], &data) else { return };
            let end = packed.len();
            packed.extend_from_slice(b"after");
            let mut zstd = Zstd::new(&packed).unwrap();
            assert!(drain(&mut zstd).unwrap() == data);
            assert_eq!(zstd.rest(), b"after");
            for cut in [1, 4, 6, 100, end / 2, end - 5] {
                let result = Zstd::new(&packed[..cut]).and_then(|mut zstd| drain(&mut zstd));
                assert!(result.is_err(), "cut at {cut}");
            }
            packed[end - 1] ^= 1;
            assert_eq!(drain(&mut Zstd::new(&packed).unwrap()).unwrap_err(), Error::Checksum);
            for at in (4..end).step_by(end / 50) {
                let mut damaged = packed.clone();
                damaged[at] ^= 0x55;
                let _ = Zstd::new(&damaged).and_then(|mut zstd| drain(&mut zstd));
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too long there")]
    fn crc_is_that_of_rfc_1952_however_it_is_cut() {
        // "123456789" is the usual check value.
        assert_eq!(!update_crc32(!0, b"123456789"), 0xcbf4_3926);
        let data = sample();
        let whole = update_crc32(!0, &data[..1000]);
        for cut in 0..1000 {
            assert_eq!(update_crc32(update_crc32(!0, &data[..cut]), &data[cut..1000]), whole);
        }
    }

    #[test]
    fn skippable_frames_are_empty() {
        let frame = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3, 4];
        let mut zstd = Zstd::new(&frame).unwrap();
        assert_eq!(drain(&mut zstd).unwrap(), b"");
        assert_eq!(zstd.rest(), [4]);
        assert_eq!(Zstd::new(&frame[..10]).err(), Some(Error::Truncated));
    }

    #[test]
    fn formats_are_told_apart() {
        assert_eq!(Format::detect(b"\x1f\x8b\x08"), Format::Gzip);
        assert_eq!(Format::detect(&[0x28, 0xb5, 0x2f, 0xfd]), Format::Zstd);
        assert_eq!(Format::detect(b"070701"), Format::Plain);
        assert_eq!(Format::detect(b"\xfd7zXZ"), Format::Unknown);
        assert_eq!(Format::detect(b""), Format::Unknown);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

        /// Bytes that begin like a member and go on at random end in an error or a few bytes, never in a panic or without end.
        #[test]
        fn survives_noise(kind in 0usize..3, noise in proptest::collection::vec(any::<u8>(), 0..400)) {
            let heads: [&[u8]; 3] = [&[], &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], &[0x28, 0xb5, 0x2f, 0xfd, 0x24]];
            let bytes = [heads[kind], &noise].concat();
            if let Ok(mut source) = Gzip::new(&bytes) {
                let _ = drain(&mut source);
            }
            if let Ok(mut source) = Zstd::new(&bytes) {
                let _ = drain(&mut source);
            }
        }
    }
}
