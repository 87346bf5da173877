//! Tests of the ELF parser: a built image, the real test binary, and mutants of both.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const LIMIT: u64 = 0x7fff_ffff_f000;

fn header(count: u16) -> Elf64Header {
    let mut header = Elf64Header::new_zeroed();
    header.e_ident[..4].copy_from_slice(&MAGIC);
    header.e_ident[4] = CLASS_64;
    header.e_ident[5] = LITTLE_ENDIAN;
    header.e_type = TYPE_EXECUTABLE;
    header.e_machine = abi::elf::EM_X86_64;
    header.e_entry = 0x401000;
    header.e_phoff = 64;
    header.e_phentsize = 56;
    header.e_phnum = count;
    header
}

fn load(offset: u64, address: u64, file: u64, memory: u64, flags: u32) -> Elf64ProgramHeader {
    Elf64ProgramHeader {
        p_type: PT_LOAD,
        p_flags: flags,
        p_offset: offset,
        p_vaddr: address,
        p_paddr: address,
        p_filesz: file,
        p_memsz: memory,
        p_align: 4096,
    }
}

fn build(header: Elf64Header, segments: &[Elf64ProgramHeader], size: usize) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    for segment in segments {
        bytes.extend_from_slice(segment.as_bytes());
    }
    bytes.resize(bytes.len().max(size), 0);
    bytes
}

fn simple() -> Vec<u8> {
    let segments = [
        load(0, 0x400000, 0x800, 0x800, PF_R),
        load(0x1000, 0x401000, 0x100, 0x100, PF_R | PF_X),
        load(0x2010, 0x402010, 0x20, 0x5000, PF_R | PF_W),
        Elf64ProgramHeader { p_type: PT_GNU_STACK, p_flags: PF_R | PF_W, ..Elf64ProgramHeader::new_zeroed() },
    ];
    build(header(4), &segments, 0x3000)
}

#[test]
fn plans_a_static_program() {
    let image = Image::parse_bytes(Role::Program, &simple()).unwrap();
    assert_eq!((image.placement, image.stack), (Placement::Fixed, StackPermission::NotExecutable));
    let plan = image.plan(LIMIT).unwrap();
    assert_eq!(plan.segments.len(), 3);
    assert_eq!((plan.start, plan.end, plan.brk), (0x400000, 0x408000, 0x407010));
    assert_eq!(plan.program_headers, Some(0x400040));
    assert_eq!((plan.start_code, plan.end_code), (0x401000, 0x401100));
    assert_eq!((plan.start_data, plan.end_data), (0x402010, 0x402030));
    let bss = plan.segments[2];
    assert_eq!((bss.address, bss.file_offset, bss.data_end), (0x402000, 0x2000, 0x402030));
    assert_eq!((bss.file_pages_end(), bss.pages_end()), (0x403000, 0x408000));
}

#[test]
#[cfg_attr(miri, ignore = "this program is Miri there")]
fn reads_this_very_program() {
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    let image = Image::parse_bytes(Role::Program, &bytes).unwrap();
    assert_eq!(image.placement, Placement::Relocatable);
    assert!(image.interpreter.as_deref().unwrap().starts_with(b"/lib64/ld-linux"));
    let plan = image.plan(LIMIT).unwrap();
    assert_eq!(plan.program_headers, Some(64));
    assert!(plan.brk > plan.end_data && image.entry < plan.end);
}

#[test]
fn says_what_linux_says() {
    type Change = fn(&mut Elf64Header);
    let malformed: [Change; 9] = [
        |h| h.e_ident[0] = 0,
        |h| h.e_ident[4] = 1,
        |h| h.e_ident[5] = 2,
        |h| h.e_type = 1,
        |h| h.e_machine = 3,
        |h| h.e_phentsize = 32,
        |h| h.e_phnum = 0,
        |h| h.e_phnum = 2000,
        |h| h.e_phoff = u64::MAX - 3,
    ];
    for change in malformed {
        let mut changed = header(1);
        change(&mut changed);
        let bytes = build(changed, &[load(0, 0x400000, 1, 1, PF_R)], 0x1000);
        assert_eq!(Image::parse_bytes(Role::Program, &bytes).unwrap_err(), Errno::ENOEXEC);
        assert_eq!(Image::parse_bytes(Role::Interpreter, &bytes).unwrap_err(), Errno::ELIBBAD);
    }
    for length in 0..64 {
        assert_eq!(Image::parse_bytes(Role::Program, &simple()[..length]).unwrap_err(), Errno::ENOEXEC);
    }
}

#[test]
fn refuses_impossible_segments() {
    let impossible = [
        load(0, 0x400000, 2, 1, PF_R),
        load(0, u64::MAX - 10, 0, 100, PF_R),
        load(0, LIMIT - 0x1000, 0, 0x1001, PF_R),
        load(0x10, 0x400000, 1, 1, PF_R),
        load(u64::MAX - 0xfff, 0x400000, 0x1000, 0x1000, PF_R),
        load(i64::MAX as u64 - 0xffe, 0x400001, 0x1000, 0x1000, PF_R),
    ];
    for segment in impossible {
        let image = Image::parse_bytes(Role::Program, &build(header(1), &[segment], 0)).unwrap();
        assert_eq!(image.plan(LIMIT).unwrap_err(), Errno::EINVAL, "{segment:x?}");
    }
    let nothing =
        Image::parse_bytes(Role::Program, &build(header(1), &[Elf64ProgramHeader::new_zeroed()], 0));
    assert_eq!(nothing.unwrap().plan(LIMIT).unwrap_err(), Errno::EINVAL);
}

#[test]
fn checks_the_interpreter() {
    let with = |text: &[u8], size: u64| {
        let mut segment = load(120, 0, size, size, PF_R);
        segment.p_type = PT_INTERP;
        let mut bytes = build(header(1), &[segment], 0);
        bytes.extend_from_slice(text);
        Image::parse_bytes(Role::Program, &bytes).map(|image| image.interpreter)
    };
    assert_eq!(with(b"/ld\0", 4), Ok(Some(b"/ld".to_vec())));
    assert_eq!(with(b"/ld", 3), Err(Errno::ENOEXEC));
    assert_eq!(with(b"\0", 1), Err(Errno::ENOEXEC));
    assert_eq!(with(b"\0\0", 2), Err(Errno::ENOEXEC));
    assert_eq!(with(b"/l", 40), Err(Errno::EIO));
    assert_eq!(with(b"/l", 4097), Err(Errno::ENOEXEC));
}

/// Everything a plan promises to the code that maps it.
fn check_plan(plan: &LoadPlan) {
    for segment in &plan.segments {
        assert!(segment.address % PAGE_SIZE == 0 && segment.file_offset % PAGE_SIZE == 0);
        assert!(segment.address <= segment.data_end && segment.data_end <= segment.memory_end);
        assert!(segment.file_pages_end() <= segment.pages_end() && segment.pages_end() <= LIMIT);
        assert!(plan.start <= segment.address && segment.pages_end() <= plan.end);
    }
    assert!(plan.alignment.is_power_of_two() && plan.alignment >= PAGE_SIZE);
}

fn examine(bytes: &[u8]) {
    for role in [Role::Program, Role::Interpreter] {
        match Image::parse_bytes(role, bytes) {
            Ok(image) => match image.plan(LIMIT) {
                Ok(plan) => check_plan(&plan),
                Err(error) => assert_eq!(error, Errno::EINVAL),
            },
            Err(error) => assert!(matches!(error, Errno::ENOEXEC | Errno::ELIBBAD | Errno::EIO), "{error:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 4000 }))]

    #[test]
    fn survives_mutants(changes in proptest::collection::vec((0usize..288, any::<u8>()), 1..12)) {
        let mut bytes = simple();
        for (at, value) in changes {
            bytes[at] = value;
        }
        examine(&bytes);
    }

    #[test]
    fn survives_wild_words(at in 0usize..36, value in prop_oneof![
        any::<u64>(), Just(u64::MAX), Just(i64::MAX as u64), Just(LIMIT), Just(LIMIT - 1), Just(0u64)]) {
        let mut bytes = simple();
        bytes[at * 8..at * 8 + 8].copy_from_slice(&value.to_le_bytes());
        examine(&bytes);
    }

    #[test]
    fn survives_truncation(length in 0usize..0x3000) {
        examine(&simple()[..length]);
    }
}

#[test]
fn an_error_of_the_reader_is_passed_on() {
    let failing = Image::parse(Role::Program, |_, _| Err(Errno::EACCES));
    assert_eq!(failing.unwrap_err(), Errno::EACCES);
}
