//! Frames in memory that the program maps (packet(7), PACKET_RX_RING; `Documentation/networking/packet_mmap.rst`).
//!
//! Key types: [`Ring`], [`RingShape`]. Versions 1 and 2 have slots of one size, each handed over by itself. Version 3 has blocks that
//! are filled with frames of any size and handed over when they are full, or some time after their first frame; the timer
//! is armed by that frame, so that a quiet ring costs nothing. Nothing that is read back from the memory is
//! trusted but for whose turn a slot or block is.
//! Locks: `state`, a leaf, held while one frame is copied.

use abi::errno::{Errno, Result};
use abi::packet::*;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use machine::PAGE_SIZE;
use machine::memory::{Frame, try_arc};
use machine::sync::SpinLock;
use machine::sync::atomic::Ordering;
use mm::page_cache::{Access, PageCache};
use mm::{FileAccess, MappedFile};
use sched::timer::{Timer, TimerAction, TimerCallback};
use zerocopy::IntoBytes;

use super::capture::View;
use crate::core::SocketCore;

/// The most memory of one ring.
const SIZE_MAX: u64 = 128 << 20;
/// Bytes of `struct tpacket_hdr` (version 1), padded.
const V1_HEADER: usize = 32;
/// How long a block of version 3 waits if the program does not say.
const RETIRE_MS_DEFAULT: u32 = 8;
const NS_PER_MS: u64 = 1_000_000;
const NS_PER_SEC: u64 = 1_000_000_000;
/// Alignment of frames in blocks.
const BLOCK_ALIGNMENT: usize = 8;

/// How a ring was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingShape {
    /// TPACKET_V*.
    pub version: u32,
    /// What was asked for.
    pub request: TpacketReq3,
    /// PACKET_RESERVE.
    pub reserve: u32,
}

/// Bytes of a frame's header in a version, padded.
fn frame_header(version: u32) -> usize {
    match version {
        TPACKET_V1 => V1_HEADER,
        TPACKET_V2 => size_of::<Tpacket2Hdr>(),
        _ => size_of::<Tpacket3Hdr>(),
    }
}

/// Bytes of a frame's header with its address (`TPACKET*_HDRLEN`). `EINVAL`: no such version.
pub fn header_length(version: u32) -> Result<usize> {
    if version > TPACKET_V3 {
        return Err(Errno::EINVAL);
    }
    Ok(frame_header(version) + size_of::<SockaddrLl>())
}

impl RingShape {
    fn header_length(&self) -> usize {
        frame_header(self.version) + size_of::<SockaddrLl>()
    }

    /// Where a block's frames begin.
    fn block_header(&self) -> usize {
        size_of::<TpacketBlock>() + (self.request.tp_sizeof_priv as usize).next_multiple_of(BLOCK_ALIGNMENT)
    }

    /// What Linux refuses. `EINVAL`.
    pub fn check(&self) -> Result<()> {
        let request = &self.request;
        let (block, frame) = (request.tp_block_size as usize, request.tp_frame_size as usize);
        let least = self.header_length() + self.reserve as usize;
        let is_block = block > 0 && block <= i32::MAX as usize && block.is_multiple_of(PAGE_SIZE);
        let private = u64::from(request.tp_sizeof_priv) + size_of::<TpacketBlock>() as u64 + 8;
        let has_room = self.version != TPACKET_V3 || private + least as u64 <= block as u64;
        if !is_block || !has_room || frame < least || !frame.is_multiple_of(TPACKET_ALIGNMENT) {
            return Err(Errno::EINVAL);
        }
        let frames_per_block = (block / frame) as u64;
        let frames = frames_per_block * u64::from(request.tp_block_nr);
        let size = block as u64 * u64::from(request.tp_block_nr);
        if frames_per_block == 0 || size > u64::from(u32::MAX) || frames != u64::from(request.tp_frame_nr) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// Where a slot begins.
    fn slot(&self, index: usize) -> usize {
        let request = &self.request;
        let per_block = (request.tp_block_size / request.tp_frame_size) as usize;
        index / per_block * request.tp_block_size as usize
            + index % per_block * request.tp_frame_size as usize
    }
}

/// Where it goes on.
#[derive(Default)]
struct State {
    /// The slot or block that is next, or being filled.
    head: usize,
    /// Version 3: what is in the block that is being filled.
    used: usize,
    count: u32,
    last: usize,
    first_ns: u64,
    last_ns: u64,
    sequence: u64,
}

/// See the module.
pub struct Ring {
    shape: RingShape,
    cache: Arc<PageCache>,
    frames: Vec<Frame>,
    state: SpinLock<State>,
    timer: Option<Timer>,
    core: Arc<SocketCore>,
}

/// Hands over a block that has waited long enough.
struct Retire(Weak<Ring>);

impl TimerCallback for Retire {
    fn expire(&self, now_ns: u64) -> TimerAction {
        let ring = self.0.clone();
        let work = move || {
            if let Some(ring) = ring.upgrade() {
                ring.retire_waiting();
            }
        };
        match sched::work::queue(work) {
            Ok(()) => TimerAction::Done,
            Err(_) => TimerAction::RearmAt(now_ns + NS_PER_MS),
        }
    }
}

/// Where a frame goes in its slot.
struct Place {
    mac: usize,
    net: usize,
    length: usize,
}

impl Ring {
    /// A ring of this shape, which was checked. `ENOMEM`.
    pub fn new(shape: RingShape, core: &Arc<SocketCore>) -> Result<Arc<Ring>> {
        let size = u64::from(shape.request.tp_block_size) * u64::from(shape.request.tp_block_nr);
        if size > SIZE_MAX {
            return Err(Errno::ENOMEM);
        }
        let cache = PageCache::new_in_memory(size);
        let pages = size / PAGE_SIZE as u64;
        let mut frames = Vec::new();
        frames.try_reserve_exact(pages as usize).map_err(|_| Errno::ENOMEM)?;
        for page in 0..pages {
            frames.push(cache.get_page(page, Access::Create).map_err(|_| Errno::ENOMEM)?);
        }
        let mut timer = Ok(None);
        let ring = Arc::new_cyclic(|weak| {
            if shape.version == TPACKET_V3 {
                timer = try_arc(Retire(weak.clone()))
                    .map_err(Errno::from)
                    .and_then(|callback| Timer::new(callback))
                    .map(Some);
            }
            let timer = core::mem::replace(&mut timer, Ok(None));
            let state = SpinLock::new(State { used: shape.block_header(), ..State::default() });
            Ring { shape, cache, frames, state, timer: timer.unwrap_or_default(), core: core.clone() }
        });
        if shape.version == TPACKET_V3 && ring.timer.is_none() {
            return Err(Errno::ENOMEM);
        }
        Ok(ring)
    }

    /// How it was asked for.
    pub fn shape(&self) -> RingShape {
        self.shape
    }

    /// Whether a program has it mapped.
    pub fn is_mapped(&self) -> bool {
        self.cache.is_mapped()
    }

    /// What mmap(2) maps. `ENOMEM`.
    pub fn mapping(self: &Arc<Self>, inode_number: u64) -> Result<Arc<dyn MappedFile>> {
        Ok(try_arc(RingMapping { ring: self.clone(), inode_number })?)
    }

    fn write(&self, mut at: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(frame) = self.frames.get(at / PAGE_SIZE) else { return };
            let part = bytes.len().min(PAGE_SIZE - at % PAGE_SIZE);
            let (now, rest) = bytes.split_at(part);
            frame.write(at % PAGE_SIZE, now);
            (at, bytes) = (at + part, rest);
        }
    }

    /// Whose turn a slot or block is.
    fn status(&self, at: usize) -> u32 {
        self.frames
            .get(at / PAGE_SIZE)
            .map_or(TP_STATUS_USER, |frame| frame.atomic_u32(at % PAGE_SIZE).load(Ordering::Acquire))
    }

    fn hand_over(&self, at: usize, status: u32) {
        if let Some(frame) = self.frames.get(at / PAGE_SIZE) {
            frame.atomic_u32(at % PAGE_SIZE).store(status, Ordering::Release);
        }
    }

    /// Where the status word of a block is.
    fn block_status(&self, block: usize) -> usize {
        block * self.shape.request.tp_block_size as usize + core::mem::offset_of!(TpacketBlock, block_status)
    }

    /// Whether the newest slot or block is the program's.
    pub fn is_readable(&self) -> bool {
        let head = self.state.lock().head;
        let request = &self.shape.request;
        if self.shape.version == TPACKET_V3 {
            let last = head.checked_sub(1).unwrap_or(request.tp_block_nr as usize - 1);
            return self.status(self.block_status(last)) != TP_STATUS_KERNEL;
        }
        let last = head.checked_sub(1).unwrap_or(request.tp_frame_nr as usize - 1);
        self.status(self.shape.slot(last)) != TP_STATUS_KERNEL
    }

    /// Whether a quarter of it is free: the slot or block that far from the next is the kernel's.
    pub fn has_room(&self) -> bool {
        let head = self.state.lock().head;
        let request = &self.shape.request;
        if self.shape.version == TPACKET_V3 {
            let count = request.tp_block_nr as usize;
            return self.status(self.block_status((head + count / 4) % count)) == TP_STATUS_KERNEL;
        }
        let count = request.tp_frame_nr as usize;
        self.status(self.shape.slot((head + count / 4) % count)) == TP_STATUS_KERNEL
    }

    /// Where a frame of which `length` bytes are kept goes in a slot of `room` bytes; `None`: its headers alone are too long.
    fn place(&self, view: &View<'_>, length: usize, room: usize) -> Option<Place> {
        let (header, reserve) = (self.shape.header_length(), self.shape.reserve as usize);
        let link = view.header_length();
        let net = if link == 0 && view.network > 0 {
            header.next_multiple_of(TPACKET_ALIGNMENT) + 16 + reserve
        } else {
            (header + link.max(16)).next_multiple_of(TPACKET_ALIGNMENT) + reserve
        };
        let mac = net - link;
        if net > usize::from(u16::MAX) || mac > room {
            return None;
        }
        Some(Place { mac, net, length: length.min(room - mac) })
    }

    /// Keeps a frame. `None`: there is no room; else whether the program has something new to look at.
    pub fn keep(&self, view: &View<'_>, length: usize, time_ns: u64, is_losing: bool) -> Option<bool> {
        let status = view.status() | if is_losing { TP_STATUS_LOSING } else { 0 };
        if self.shape.version == TPACKET_V3 {
            self.keep_in_block(view, length, time_ns, status)
        } else {
            self.keep_in_slot(view, length, time_ns, status)
        }
    }

    fn keep_in_slot(&self, view: &View<'_>, length: usize, time_ns: u64, status: u32) -> Option<bool> {
        let request = &self.shape.request;
        let place = self.place(view, length, request.tp_frame_size as usize)?;
        let mut state = self.state.lock();
        let at = self.shape.slot(state.head);
        if self.status(at) != TP_STATUS_KERNEL {
            return None;
        }
        state.head = (state.head + 1) % request.tp_frame_nr as usize;
        self.write(at + place.mac, view.bytes().get(..place.length).unwrap_or_default());
        let header = Tpacket2Hdr {
            tp_status: 0,
            tp_len: view.bytes().len() as u32,
            tp_snaplen: place.length as u32,
            tp_mac: place.mac as u16,
            tp_net: place.net as u16,
            tp_sec: (time_ns / NS_PER_SEC) as u32,
            tp_nsec: (time_ns % NS_PER_SEC) as u32,
            ..Tpacket2Hdr::default()
        };
        let status_size = if self.shape.version == TPACKET_V1 { 8 } else { 4 };
        // Version 1 has a wider status, microseconds, and nothing behind them.
        let rest = header.as_bytes().get(4..24).unwrap_or_default();
        self.write(at + status_size, rest);
        if self.shape.version == TPACKET_V1 {
            self.write(at + status_size + 16, &(header.tp_nsec / 1000).to_ne_bytes());
        } else {
            self.write(at + status_size + 20, &[0; 8]);
        }
        self.write(at + frame_header(self.shape.version), view.address().as_bytes());
        self.hand_over(at, status);
        Some(true)
    }

    fn keep_in_block(&self, view: &View<'_>, length: usize, time_ns: u64, status: u32) -> Option<bool> {
        let block_size = self.shape.request.tp_block_size as usize;
        let place = self.place(view, length, block_size - self.shape.block_header())?;
        let size = (place.mac + place.length).next_multiple_of(BLOCK_ALIGNMENT);
        let mut state = self.state.lock();
        let mut handed = false;
        if state.count > 0 && state.used + size > block_size {
            self.close_block(&mut state, 0);
            handed = true;
        }
        if state.count == 0 && self.status(self.block_status(state.head)) != TP_STATUS_KERNEL {
            return None;
        }
        if state.used + size > block_size {
            return None;
        }
        let base = state.head * block_size;
        let at = base + state.used;
        if state.count == 0 {
            state.first_ns = time_ns;
            let wait = u64::from(self.shape.request.tp_retire_blk_tov);
            let wait = if wait == 0 { u64::from(RETIRE_MS_DEFAULT) } else { wait };
            if let Some(timer) = &self.timer {
                timer.arm(machine::time::now_ns() + wait * NS_PER_MS);
            }
        }
        let header = Tpacket3Hdr {
            tp_next_offset: size as u32,
            tp_sec: (time_ns / NS_PER_SEC) as u32,
            tp_nsec: (time_ns % NS_PER_SEC) as u32,
            tp_snaplen: place.length as u32,
            tp_len: view.bytes().len() as u32,
            tp_status: status,
            tp_mac: place.mac as u16,
            tp_net: place.net as u16,
            ..Tpacket3Hdr::default()
        };
        self.write(at, header.as_bytes());
        self.write(at + size_of::<Tpacket3Hdr>(), view.address().as_bytes());
        self.write(at + place.mac, view.bytes().get(..place.length).unwrap_or_default());
        state.last = at;
        state.last_ns = time_ns;
        state.used += size;
        state.count += 1;
        Some(handed)
    }

    /// Hands the block that is being filled to the program and goes on to the next.
    fn close_block(&self, state: &mut State, status: u32) {
        let block_size = self.shape.request.tp_block_size as usize;
        let base = state.head * block_size;
        state.sequence += 1;
        let stamp = |ns: u64| [(ns / NS_PER_SEC) as u32, (ns % NS_PER_SEC) as u32];
        let header = TpacketBlock {
            version: TPACKET_V3,
            offset_to_priv: size_of::<TpacketBlock>() as u32,
            block_status: TP_STATUS_KERNEL,
            num_pkts: state.count,
            offset_to_first_pkt: self.shape.block_header() as u32,
            blk_len: state.used as u32,
            seq_num: state.sequence,
            ts_first_pkt: stamp(state.first_ns),
            ts_last_pkt: stamp(state.last_ns),
        };
        // The last frame has none behind it.
        self.write(state.last, &[0; 4]);
        self.write(base, header.as_bytes());
        self.hand_over(self.block_status(state.head), TP_STATUS_USER | status);
        state.head = (state.head + 1) % self.shape.request.tp_block_nr as usize;
        (state.used, state.count) = (self.shape.block_header(), 0);
    }

    /// Hands over a block whose time is up.
    fn retire_waiting(&self) {
        let mut state = self.state.lock();
        if state.count > 0 {
            self.close_block(&mut state, TP_STATUS_BLK_TMO);
            drop(state);
            self.core.wake_readers();
        }
    }
}

struct RingMapping {
    ring: Arc<Ring>,
    inode_number: u64,
}

impl MappedFile for RingMapping {
    fn page_cache(&self) -> Arc<PageCache> {
        self.ring.cache.clone()
    }

    fn access(&self) -> FileAccess {
        FileAccess::READ | FileAccess::WRITE
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "socket:[{}]", self.inode_number)
    }

    fn device(&self) -> (u32, u32) {
        (0, 8)
    }

    fn inode_number(&self) -> u64 {
        self.inode_number
    }
}
