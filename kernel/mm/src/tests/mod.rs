//! Host tests: the crate on the machine's host backend, whose user memory is a software page table.

mod cache;
mod calls;
mod device;
mod fault;
mod fork;
mod lend;
mod model;
mod parallel;
mod pressure;
mod swap;

use crate::page_cache::{PageCache, Pager, Retention};
use crate::vma::{FileAccess, MappedFile};
use crate::*;
use abi::errno::Result;
use abi::mman;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use machine::PAGE_SIZE;
use machine::user::FaultAccess;
use std::sync::Mutex;

/// Runs `test` as a kernel on a simulated machine of two processors.
fn kernel(test: impl FnOnce() + Send) {
    machine::host::run(1, 2, test);
}

fn new_space() -> Arc<AddressSpace> {
    AddressSpace::new(Layout::new(8 << 20, Randomize::No)).unwrap()
}

/// `/proc/PID/maps`.
fn maps(space: &AddressSpace) -> std::string::String {
    let mut text = std::string::String::new();
    for (_, vma) in space.snapshot().iter() {
        space.write_maps_line(vma, &mut text).unwrap();
    }
    text
}

fn anonymous(address: usize, length: usize, protection: Protection, flags: u32) -> MmapRequest {
    let flags = flags | mman::MAP_ANONYMOUS;
    MmapRequest { address, length, protection, flags, backing: MmapBacking::Anonymous }
}

const RW: Protection = Protection::READ.union(Protection::WRITE);

/// Maps private memory where there is room.
fn map_private(space: &AddressSpace, pages: usize) -> usize {
    let request = anonymous(0, pages * PAGE_SIZE, RW, mman::MAP_PRIVATE);
    space.mmap(&request, &Limits::UNLIMITED).unwrap()
}

fn touch(space: &AddressSpace, address: usize, access: FaultAccess) -> core::result::Result<(), FaultError> {
    space.handle_fault(&FaultInfo { address, access, present: false }, || Limits::UNLIMITED)
}

fn peek(space: &AddressSpace, address: usize) -> Result<u8> {
    let mut byte = [0];
    space.read_remote(address, &mut byte, RemoteAccess::Checked)?;
    Ok(byte[0])
}

fn poke(space: &AddressSpace, address: usize, value: u8) -> Result<()> {
    space.write_remote(address, &[value], RemoteAccess::Checked).map(drop)
}

/// A disk: pages that can be read again, with a record of what was written back.
struct Disk {
    pages: Mutex<Vec<[u8; PAGE_SIZE]>>,
    reads: Mutex<Vec<u64>>,
    writes: Mutex<Vec<u64>>,
}

impl Disk {
    fn new(pages: usize) -> Arc<Disk> {
        let pages = (0..pages).map(|number| [number as u8 + 1; PAGE_SIZE]).collect();
        Arc::new(Disk { pages: Mutex::new(pages), reads: Mutex::default(), writes: Mutex::default() })
    }
}

impl Pager for Disk {
    fn retention(&self) -> Retention {
        Retention::Reloadable
    }
    fn read_pages(&self, fill: Fill) {
        for (index, frame) in (fill.first()..).zip(fill.frames()) {
            self.reads.lock().unwrap().push(index);
            match self.pages.lock().unwrap().get(index as usize) {
                Some(page) => frame.write(0, page),
                None => frame.zero(),
            }
        }
        fill.complete(Ok(()));
    }
    fn write_pages(&self, batch: WriteBack) {
        for (index, frame) in (batch.first()..).zip(batch.frames()) {
            self.writes.lock().unwrap().push(index);
            let mut pages = self.pages.lock().unwrap();
            if pages.len() <= index as usize {
                pages.resize(index as usize + 1, [0; PAGE_SIZE]);
            }
            frame.read(0, &mut pages[index as usize]);
        }
        batch.complete(Ok(()));
    }
}

/// An open file over a cache.
struct TestFile {
    cache: Arc<PageCache>,
    access: FileAccess,
}

impl TestFile {
    fn shared(cache: Arc<PageCache>, access: FileAccess) -> Arc<dyn MappedFile> {
        Arc::new(TestFile { cache, access })
    }
}

impl MappedFile for TestFile {
    fn page_cache(&self) -> Arc<PageCache> {
        self.cache.clone()
    }
    fn access(&self) -> FileAccess {
        self.access
    }
    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/bin/te\nst")
    }
    fn device(&self) -> (u32, u32) {
        (8, 0x11)
    }
    fn inode_number(&self) -> u64 {
        77
    }
}

fn file_request(
    file: &Arc<dyn MappedFile>,
    address: usize,
    pages: usize,
    protection: Protection,
    flags: u32,
) -> MmapRequest {
    let backing = MmapBacking::File { file: file.clone(), offset: 0 };
    MmapRequest { address, length: pages * PAGE_SIZE, protection, flags, backing }
}
