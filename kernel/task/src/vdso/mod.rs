//! The vDSO (vdso(7)): clock functions that a program calls without entering the kernel.
//!
//! Two pages are shared by all programs: the image ([`image`], code in [`code`]) and before it a data page with what the clock functions need.
//! [`refresh`] writes the data page under a sequence counter that is odd meanwhile; readers retry. Without a counter that programs can
//! read the mode stays [`MODE_SYSTEM_CALLS`], and the functions make the system calls.

pub mod code;
pub mod image;

use crate::namespaces::TimeNamespace;
use abi::errno::Result;
use abi::mman;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame};
use machine::sync::{Once, SpinLock};
use mm::{AddressSpace, Limits, MmapBacking, MmapRequest, Protection};

/// Offsets in the data page; `code` knows them too.
const SEQUENCE: usize = 0;
const MODE: usize = 4;
const BASE_CYCLES: usize = 8;
const BASE_NS: usize = 16;
const MULTIPLIER: usize = 24;
const SHIFT: usize = 28;
const REALTIME_OFFSET: usize = 32;
/// The functions make system calls.
pub const MODE_SYSTEM_CALLS: u32 = 0;
/// The functions read the time-stamp counter.
pub const MODE_COUNTER: u32 = 1;

/// The shared pages.
struct Pages {
    data: Frame,
    image: Frame,
    /// One writer at a time.
    writing: SpinLock<()>,
}

/// The data page of programs in a time namespace other than the first: it says that they must ask the kernel.
static OTHER_CLOCKS: Once<Option<Frame>> = Once::new();

fn data_page(pages: &Pages, clocks: &TimeNamespace) -> Option<Frame> {
    if clocks.is_initial() {
        return Some(pages.data.clone());
    }
    // All zero: no writer, and the mode of system calls.
    OTHER_CLOCKS.get_or_init(|| Frame::alloc(AllocFlags::ZEROED).ok()).clone()
}

static PAGES: Once<Option<Pages>> = Once::new();

fn pages() -> Option<&'static Pages> {
    PAGES.get_or_init(make_pages).as_ref()
}

fn make_pages() -> Option<Pages> {
    let bytes = image::build()?;
    let data = Frame::alloc(AllocFlags::ZEROED).ok()?;
    let image = Frame::alloc(AllocFlags::ZEROED).ok()?;
    image.write(0, &bytes);
    let pages = Pages { data, image, writing: SpinLock::new(()) };
    // Who else changes the wall clock tells us; if somebody else listens already, programs must ask the kernel.
    let mode = if sched::clock::on_set(refresh) { MODE_COUNTER } else { MODE_SYSTEM_CALLS };
    write_data(&pages, mode);
    Some(pages)
}

/// The wall clock was set: programs must see it.
fn refresh() {
    if let Some(Some(pages)) = PAGES.get() {
        write_data(pages, MODE_COUNTER);
    }
}

fn write_data(pages: &Pages, wanted: u32) {
    let _writing = pages.writing.lock();
    let data = &pages.data;
    let sequence = data.atomic_u32(SEQUENCE);
    sequence.fetch_add(1, Ordering::AcqRel);
    core::sync::atomic::fence(Ordering::SeqCst);
    let mut mode = MODE_SYSTEM_CALLS;
    if let Some(clock) = machine::time::vdso_clock() {
        mode = wanted;
        data.atomic_u64(BASE_CYCLES).store(clock.base_cycles, Ordering::Relaxed);
        data.atomic_u64(BASE_NS).store(clock.base_ns, Ordering::Relaxed);
        data.atomic_u32(MULTIPLIER).store(clock.multiplier, Ordering::Relaxed);
        data.atomic_u32(SHIFT).store(clock.shift, Ordering::Relaxed);
    }
    data.atomic_u64(REALTIME_OFFSET).store(sched::clock::realtime_offset_ns() as u64, Ordering::Relaxed);
    data.atomic_u32(MODE).store(mode, Ordering::Relaxed);
    sequence.fetch_add(1, Ordering::Release);
}

/// Maps both pages into a space that nobody else uses yet; gives the address of the image, `None` when there is no vDSO.
///
/// # Errors
/// ENOMEM.
pub(crate) fn map(space: &AddressSpace, clocks: &TimeNamespace) -> Result<Option<usize>> {
    let Some(pages) = pages() else { return Ok(None) };
    let Some(data_page) = data_page(pages, clocks) else { return Ok(None) };
    let probe = MmapRequest {
        address: 0,
        length: 2 * PAGE_SIZE,
        protection: Protection::empty(),
        flags: mman::MAP_PRIVATE | mman::MAP_ANONYMOUS | mman::MAP_NORESERVE,
        backing: MmapBacking::Anonymous,
    };
    let place = space.mmap(&probe, &Limits::UNLIMITED)?;
    space.munmap(place, probe.length)?;
    let data = space.map_special("[vvar]", place, one(&data_page), Protection::READ)?;
    let hint = data + PAGE_SIZE;
    let image = space.map_special("[vdso]", hint, one(&pages.image), Protection::READ | Protection::EXEC)?;
    if image != hint {
        // The code finds its data by distance; without that there is no vDSO for this program.
        space.munmap(image, PAGE_SIZE)?;
        return Ok(None);
    }
    Ok(Some(image))
}

/// Makes the vDSO of a program that moves between time namespaces show those clocks.
///
/// # Errors
/// ENOMEM: then the program has no data page, and its clock functions fault.
pub(crate) fn follow_clocks(space: &AddressSpace, clocks: &TimeNamespace) -> Result<()> {
    let Some(pages) = pages() else { return Ok(()) };
    let Some(place) = space.special_address("[vvar]") else { return Ok(()) };
    let page = data_page(pages, clocks).ok_or(abi::errno::Errno::ENOMEM)?;
    space.munmap(place, PAGE_SIZE)?;
    space.map_special("[vvar]", place, one(&page), Protection::READ).map(|_| ())
}

fn one(frame: &Frame) -> Vec<Frame> {
    alloc::vec![frame.clone()]
}
