//! ELF64 programs, as `execve(2)` reads them.
//!
//! [`Image::parse`] checks the header and the program headers and finds the interpreter; it fails as Linux
//! does while the old program still exists (mostly `ENOEXEC`). [`Image::plan`] turns the loadable segments
//! into a [`LoadPlan`], with all arithmetic checked; Linux finds those faults only after the old program is
//! gone and kills the new one with SIGSEGV, so the caller chooses when to ask. `task::exec` maps what the
//! plan says. The file is read through a closure, so that nothing here knows of files. No locks.

use abi::elf::{Elf64Header, Elf64ProgramHeader};
use abi::elf::{PF_R, PF_W, PF_X, PT_GNU_PROPERTY, PT_GNU_STACK, PT_INTERP, PT_LOAD};
use abi::mman::ProtFlags;
use abi::{Errno, Result};
use alloc::vec::Vec;
use zerocopy::{FromZeros, IntoBytes};

const PAGE_SIZE: u64 = 4096;
const MAGIC: [u8; 4] = [0x7f, b'E', b'L', b'F'];
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const TYPE_EXECUTABLE: u16 = 2;
const TYPE_DYNAMIC: u16 = 3;
/// All program headers together, bytes (`ELF_MIN_ALIGN`'s 64 KiB in Linux).
const PROGRAM_HEADERS_MAX: usize = 65_536;
/// Longest interpreter name with its NUL.
const INTERPRETER_MAX: u64 = 4096;

/// Whose file is it? Linux fails differently for the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The program: what is wrong with it is `ENOEXEC`, so that a shell may try it as a script.
    Program,
    /// The program's interpreter: what is wrong with it is `ELIBBAD`.
    Interpreter,
}

impl Role {
    /// The errno of a malformed file.
    const fn malformed(self) -> Errno {
        match self {
            Self::Program => Errno::ENOEXEC,
            Self::Interpreter => Errno::ELIBBAD,
        }
    }
}

/// Where an image may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At the addresses it says (`ET_EXEC`).
    Fixed,
    /// Anywhere (`ET_DYN`): addresses are relative to a load bias.
    Relocatable,
}

/// What `PT_GNU_STACK` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackPermission {
    /// There is none: the architecture's default (on x86-64 not executable).
    Default,
    /// Executable.
    Executable,
    /// Not executable.
    NotExecutable,
}

/// A checked header with its program headers.
#[derive(Clone, Debug)]
pub struct Image {
    /// Where it may lie.
    pub placement: Placement,
    /// First instruction, before the load bias.
    pub entry: u64,
    /// Stack permission.
    pub stack: StackPermission,
    /// Path of the interpreter, without its NUL.
    pub interpreter: Option<Vec<u8>>,
    /// Number of program headers (`AT_PHNUM`).
    pub program_header_count: u16,
    program_header_offset: u64,
    segments: Vec<Elf64ProgramHeader>,
    has_property: bool,
}

/// One mapping of a plan. All addresses are before the load bias. From `address` to the page end of
/// `data_end` the file is mapped; the bytes from `data_end` to that page end are zeroed if `memory_end` lies
/// beyond; pages from there to the page end of `memory_end` are anonymous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadSegment {
    /// Protection.
    pub protection: ProtFlags,
    /// First byte, rounded down to a page.
    pub address: u64,
    /// Offset in the file that `address` shows, a multiple of the page size.
    pub file_offset: u64,
    /// End of the bytes from the file; the segment's own start if it has none.
    pub data_end: u64,
    /// End of the memory.
    pub memory_end: u64,
    /// Does the file have bytes in it?
    pub has_file_bytes: bool,
}

impl LoadSegment {
    /// End of the pages that are mapped from the file; `address` if there are none.
    pub fn file_pages_end(&self) -> u64 {
        if self.has_file_bytes { page_up(self.data_end).unwrap_or(self.data_end) } else { self.address }
    }

    /// End of all pages.
    pub fn pages_end(&self) -> u64 {
        page_up(self.memory_end).unwrap_or(self.memory_end)
    }
}

/// What to map where, and the addresses that `/proc` and `brk` are told.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Mappings, in file order.
    pub segments: Vec<LoadSegment>,
    /// Lowest page address.
    pub start: u64,
    /// Page end of the highest byte.
    pub end: u64,
    /// Largest alignment asked for, a power of two, at least a page.
    pub alignment: u64,
    /// Where the program headers come to lie (`AT_PHDR`), if a segment holds them.
    pub program_headers: Option<u64>,
    /// Lowest address of code.
    pub start_code: u64,
    /// End of code.
    pub end_code: u64,
    /// Start of the highest segment.
    pub start_data: u64,
    /// End of initialised data.
    pub end_data: u64,
    /// End of everything, unrounded: where the heap starts.
    pub brk: u64,
}

impl Image {
    /// Reads and checks a file through `read_at(offset, buffer)`, which returns how much it read.
    ///
    /// # Errors
    /// `ENOEXEC` (a program) or `ELIBBAD` (an interpreter) if it is not a 64-bit x86 executable or its
    /// headers are malformed; `EIO` if the file ends inside what a header points at; `ENOMEM`; whatever
    /// `read_at` returns.
    pub fn parse(role: Role, mut read_at: impl FnMut(u64, &mut [u8]) -> Result<usize>) -> Result<Self> {
        let mut header = Elf64Header::new_zeroed();
        let read = read_at(0, header.as_mut_bytes())?;
        if read < size_of::<Elf64Header>() {
            return Err(role.malformed());
        }
        let placement = check_header(&header).ok_or(role.malformed())?;
        let segments = read_program_headers(&header, role, &mut read_at)?;
        let mut image = Self {
            placement,
            entry: header.e_entry,
            stack: StackPermission::Default,
            interpreter: None,
            program_header_count: header.e_phnum,
            program_header_offset: header.e_phoff,
            segments,
            has_property: false,
        };
        image.note_special_headers(role, &mut read_at)?;
        Ok(image)
    }

    /// Reads and checks a file that is in memory; as [`Image::parse`].
    ///
    /// # Errors
    /// As [`Image::parse`].
    pub fn parse_bytes(role: Role, bytes: &[u8]) -> Result<Self> {
        Self::parse(role, |offset, buffer| Ok(copy_at(bytes, offset, buffer)))
    }

    /// The program headers.
    pub fn program_headers(&self) -> &[Elf64ProgramHeader] {
        &self.segments
    }

    /// Does it have a `PT_GNU_PROPERTY` note?
    pub fn has_property(&self) -> bool {
        self.has_property
    }

    fn note_special_headers(
        &mut self,
        role: Role,
        read_at: &mut impl FnMut(u64, &mut [u8]) -> Result<usize>,
    ) -> Result<()> {
        for segment in &self.segments {
            match segment.p_type {
                PT_INTERP if role == Role::Program && self.interpreter.is_none() => {
                    self.interpreter = Some(read_interpreter(segment, read_at)?);
                }
                PT_GNU_STACK => {
                    self.stack = match segment.p_flags & PF_X {
                        0 => StackPermission::NotExecutable,
                        _ => StackPermission::Executable,
                    }
                }
                PT_GNU_PROPERTY => self.has_property = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// What to map for this image in an address space that ends at `address_limit` (bytes). A fixed image's
    /// addresses are final; a relocatable one's start near zero and only its extent must fit.
    ///
    /// # Errors
    /// `EINVAL` if there is nothing to load or a segment is impossible (overflow, file larger than memory,
    /// offset and address that differ within a page, beyond the limit); `ENOMEM`.
    pub fn plan(&self, address_limit: u64) -> Result<LoadPlan> {
        let mut plan = LoadPlan {
            segments: Vec::new(),
            start: u64::MAX,
            end: 0,
            alignment: PAGE_SIZE,
            program_headers: None,
            start_code: u64::MAX,
            end_code: 0,
            start_data: 0,
            end_data: 0,
            brk: 0,
        };
        let loads = self.segments.iter().filter(|segment| segment.p_type == PT_LOAD);
        plan.segments.try_reserve(loads.clone().count()).map_err(|_| Errno::ENOMEM)?;
        for header in loads {
            let segment = load_segment(header, address_limit)?;
            plan.add(header, segment, self.program_header_offset);
        }
        if plan.segments.is_empty() {
            return Err(Errno::EINVAL);
        }
        Ok(plan)
    }
}

impl LoadPlan {
    fn add(&mut self, header: &Elf64ProgramHeader, segment: LoadSegment, program_header_offset: u64) {
        let start = header.p_vaddr;
        self.start = self.start.min(segment.address);
        self.end = self.end.max(segment.pages_end());
        if header.p_align.is_power_of_two() {
            self.alignment = self.alignment.max(header.p_align);
        }
        // `load_segment` made sure that these do not overflow.
        let in_segment = program_header_offset.checked_sub(header.p_offset);
        if let Some(offset) = in_segment.filter(|offset| *offset < header.p_filesz) {
            self.program_headers.get_or_insert(start + offset);
        }
        if header.p_flags & PF_X != 0 {
            self.start_code = self.start_code.min(start);
            self.end_code = self.end_code.max(segment.data_end);
        }
        self.start_data = self.start_data.max(start);
        self.end_data = self.end_data.max(segment.data_end);
        self.brk = self.brk.max(segment.memory_end);
        self.segments.push(segment);
    }
}

/// The placement, if the header is one this machine runs.
fn check_header(header: &Elf64Header) -> Option<Placement> {
    let ident = &header.e_ident;
    let machine_fits = ident.starts_with(&MAGIC)
        && ident.get(4) == Some(&CLASS_64)
        && ident.get(5) == Some(&LITTLE_ENDIAN)
        && header.e_machine == abi::elf::EM_X86_64;
    match (machine_fits, header.e_type) {
        (true, TYPE_EXECUTABLE) => Some(Placement::Fixed),
        (true, TYPE_DYNAMIC) => Some(Placement::Relocatable),
        _ => None,
    }
}

fn read_program_headers(
    header: &Elf64Header,
    role: Role,
    read_at: &mut impl FnMut(u64, &mut [u8]) -> Result<usize>,
) -> Result<Vec<Elf64ProgramHeader>> {
    let count = usize::from(header.e_phnum);
    let size = count * size_of::<Elf64ProgramHeader>();
    if usize::from(header.e_phentsize) != size_of::<Elf64ProgramHeader>()
        || count == 0
        || size > PROGRAM_HEADERS_MAX
    {
        return Err(role.malformed());
    }
    let mut headers = Vec::new();
    headers.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    headers.resize(count, Elf64ProgramHeader::new_zeroed());
    if read_at(header.e_phoff, headers.as_mut_slice().as_mut_bytes())? < size {
        return Err(role.malformed());
    }
    Ok(headers)
}

fn read_interpreter(
    segment: &Elf64ProgramHeader,
    read_at: &mut impl FnMut(u64, &mut [u8]) -> Result<usize>,
) -> Result<Vec<u8>> {
    if segment.p_filesz < 2 || segment.p_filesz > INTERPRETER_MAX {
        return Err(Errno::ENOEXEC);
    }
    let size = segment.p_filesz as usize;
    let mut path = Vec::new();
    path.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
    path.resize(size, 0);
    if read_at(segment.p_offset, &mut path)? < size {
        return Err(Errno::EIO);
    }
    if path.last() != Some(&0) {
        return Err(Errno::ENOEXEC);
    }
    // The kernel takes the path as a C string.
    let length = path.iter().position(|byte| *byte == 0).unwrap_or(0);
    path.truncate(length);
    if path.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    Ok(path)
}

fn load_segment(header: &Elf64ProgramHeader, address_limit: u64) -> Result<LoadSegment> {
    let in_page = header.p_vaddr % PAGE_SIZE;
    let memory_end = header.p_vaddr.checked_add(header.p_memsz).ok_or(Errno::EINVAL)?;
    let pages_end = page_up(memory_end).ok_or(Errno::EINVAL)?;
    // A file offset is a signed number everywhere else.
    let file_end = header.p_offset.checked_add(header.p_filesz).and_then(page_up).ok_or(Errno::EINVAL)?;
    if header.p_filesz > header.p_memsz
        || pages_end > address_limit
        || file_end > i64::MAX as u64
        || (header.p_filesz > 0 && header.p_offset % PAGE_SIZE != in_page)
    {
        return Err(Errno::EINVAL);
    }
    Ok(LoadSegment {
        protection: protection(header.p_flags),
        address: header.p_vaddr - in_page,
        file_offset: header.p_offset - header.p_offset % PAGE_SIZE,
        data_end: header.p_vaddr + header.p_filesz,
        memory_end,
        has_file_bytes: header.p_filesz > 0,
    })
}

fn protection(flags: u32) -> ProtFlags {
    let mut protection = ProtFlags::empty();
    protection.set(ProtFlags::READ, flags & PF_R != 0);
    protection.set(ProtFlags::WRITE, flags & PF_W != 0);
    protection.set(ProtFlags::EXEC, flags & PF_X != 0);
    protection
}

fn page_up(address: u64) -> Option<u64> {
    address.checked_next_multiple_of(PAGE_SIZE)
}

fn copy_at(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> usize {
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or(&[]);
    for (to, from) in buffer.iter_mut().zip(rest) {
        *to = *from;
    }
    rest.len().min(buffer.len())
}

#[cfg(test)]
mod tests;
