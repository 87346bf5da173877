//! Putting a program into a new address space: segments, interpreter, vDSO, stack.
//!
//! The space belongs to nobody yet, so that nothing here is seen by anybody and a failure just drops it. The layout is Linux's: a
//! relocatable program at its own random base, the interpreter among the mappings, the heap behind the program.

use super::Interpreter;
use super::arguments::{StackContents, StackImage, Strings};
use crate::fault::memory_limits;
use crate::limits::Resource;
use crate::task::Task;
use abi::auxv;
use abi::errno::{Errno, Result};
use abi::mman;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::elf::{Image, LoadPlan, LoadSegment, Placement, StackPermission};
use machine::{PAGE_SIZE, USER_END};
use mm::MappedFile;
use mm::{
    AddressSpace, Layout, Limits, MmapBacking, MmapRequest, ProgramInfo, Protection, Randomize, RemoteAccess,
};
use security::ExecOutcome;
use vfs::File;

/// personality(2): no address randomisation.
const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;
/// Clock ticks in a second that user programs count with.
const USER_HZ: u64 = 100;
/// Size and alignment of the part of `struct rseq` that is maintained.
const RSEQ_FEATURE_SIZE: u64 = 28;
const RSEQ_ALIGN: u64 = 32;
const PROGRAM_HEADER_SIZE: u64 = 56;

/// What [`load`] works from.
pub(crate) struct LoadRequest<'a> {
    pub task: &'a Task,
    pub image: &'a Image,
    pub program: &'a Arc<File>,
    pub interpreter: Option<&'a Interpreter>,
    pub shown: &'a [u8],
    pub arguments: &'a Strings,
    pub environment: &'a Strings,
    pub outcome: &'a ExecOutcome,
}

/// A loaded program.
pub(crate) struct Loaded {
    pub space: Arc<AddressSpace>,
    pub entry: u64,
    pub stack_pointer: u64,
}

/// Where an image came to lie.
struct Mapped {
    bias: u64,
    plan: LoadPlan,
}

impl Mapped {
    fn at(&self, address: u64) -> usize {
        address.wrapping_add(self.bias) as usize
    }
}

/// Builds the address space.
///
/// # Errors
/// ENOMEM, EINVAL and what the file's mapping says.
pub(crate) fn load(request: &LoadRequest<'_>) -> Result<Loaded> {
    let task = request.task;
    let limits = memory_limits(task.process(), task);
    let randomize =
        if task.process().personality() & ADDR_NO_RANDOMIZE != 0 { Randomize::No } else { Randomize::Yes };
    let layout = Layout::new(task.process().limits().soft(Resource::Stack), randomize);
    let space = AddressSpace::new(layout)?;
    let executable_stack = request.image.stack == StackPermission::Executable;
    let stack_protection = match executable_stack {
        true => Protection::READ | Protection::WRITE | Protection::EXEC,
        false => Protection::READ | Protection::WRITE,
    };
    let program = map_program(&space, request, &layout, &limits)?;
    let interpreter = match request.interpreter {
        Some(interpreter) => Some(map_interpreter(&space, interpreter, &limits)?),
        None => None,
    };
    space.set_brk_start(program.at(program.plan.brk) + layout.heap_gap);
    // Strings and pointers, and a page for the auxiliary vector and the padding, at most 8 KiB.
    let stack_bytes =
        request.arguments.cost() + request.environment.cost() + request.shown.len() + 4 * PAGE_SIZE;
    let top = space.setup_stack(stack_protection, stack_bytes, &limits)?;
    let vdso = crate::vdso::map(&space, &request.task.live_namespaces()?.time_for_children)?;
    let entry = match (&interpreter, request.interpreter) {
        (Some(mapped), Some(interpreter)) => mapped.at(interpreter.image.entry) as u64,
        _ => program.at(request.image.entry) as u64,
    };
    let auxiliary = auxiliary_vector(request, &program, interpreter.as_ref(), vdso);
    let stack = write_stack(&space, request, top, &auxiliary, randomize)?;
    space.set_program_info(program_info(&program, &stack, &auxiliary));
    Ok(Loaded { space, entry, stack_pointer: stack.stack_pointer })
}

fn map_program(
    space: &AddressSpace,
    request: &LoadRequest<'_>,
    layout: &Layout,
    limits: &Limits,
) -> Result<Mapped> {
    let plan = request.image.plan(USER_END as u64)?;
    let bias = match request.image.placement {
        Placement::Fixed => 0,
        Placement::Relocatable => {
            let base = layout.program_base as u64 & !(plan.alignment - 1);
            base.wrapping_sub(plan.start & !(plan.alignment - 1))
        }
    };
    let mapped = Mapped { bias, plan };
    map_segments(space, request.program, &mapped, limits)?;
    Ok(mapped)
}

fn map_interpreter(space: &AddressSpace, interpreter: &Interpreter, limits: &Limits) -> Result<Mapped> {
    let plan = interpreter.image.plan(USER_END as u64)?;
    let bias = match interpreter.image.placement {
        Placement::Fixed => 0,
        Placement::Relocatable => {
            let place = find_room(space, &plan, limits)?;
            place.wrapping_sub(plan.start & !(plan.alignment - 1))
        }
    };
    let mapped = Mapped { bias, plan };
    map_segments(space, interpreter.program.file(), &mapped, limits)?;
    Ok(mapped)
}

/// An aligned place for a whole image: asks for it as one mapping and gives that back. Nobody else uses the space.
fn find_room(space: &AddressSpace, plan: &LoadPlan, limits: &Limits) -> Result<u64> {
    let start = plan.start & !(plan.alignment - 1);
    let length = (plan.end - start) as usize;
    let slack = (plan.alignment as usize) - PAGE_SIZE;
    let probe = MmapRequest {
        address: 0,
        length: length.checked_add(slack).ok_or(Errno::ENOMEM)?,
        protection: Protection::empty(),
        flags: mman::MAP_PRIVATE | mman::MAP_ANONYMOUS | mman::MAP_NORESERVE,
        backing: MmapBacking::Anonymous,
    };
    let found = space.mmap(&probe, limits)?;
    space.munmap(found, probe.length)?;
    Ok((found as u64).next_multiple_of(plan.alignment))
}

fn map_segments(space: &AddressSpace, file: &Arc<File>, mapped: &Mapped, limits: &Limits) -> Result<()> {
    let source = file.operations().map(file)?;
    for segment in &mapped.plan.segments {
        map_segment(space, &source, mapped, segment, limits)?;
    }
    Ok(())
}

fn map_segment(
    space: &AddressSpace,
    file: &Arc<dyn MappedFile>,
    mapped: &Mapped,
    segment: &LoadSegment,
    limits: &Limits,
) -> Result<()> {
    let protection = Protection::from_bits_truncate(segment.protection.bits() as _);
    let file_end = segment.file_pages_end();
    let flags = mman::MAP_PRIVATE | mman::MAP_FIXED_NOREPLACE;
    if file_end > segment.address {
        let backing = MmapBacking::File { file: file.clone(), offset: segment.file_offset };
        let length = (file_end - segment.address) as usize;
        space.mmap(
            &MmapRequest { address: mapped.at(segment.address), length, protection, flags, backing },
            limits,
        )?;
        let tail = file_end.min(segment.memory_end.max(segment.data_end)) > segment.data_end;
        if tail && protection.contains(Protection::WRITE) {
            space.zero_remote(mapped.at(segment.data_end), (file_end - segment.data_end) as usize)?;
        }
    }
    let pages_end = segment.pages_end();
    let rest = file_end.max(segment.address);
    if pages_end > rest {
        let request = MmapRequest {
            address: mapped.at(rest),
            length: (pages_end - rest) as usize,
            protection,
            flags: flags | mman::MAP_ANONYMOUS,
            backing: MmapBacking::Anonymous,
        };
        space.mmap(&request, limits)?;
    }
    Ok(())
}

fn auxiliary_vector(
    request: &LoadRequest<'_>,
    program: &Mapped,
    interpreter: Option<&Mapped>,
    vdso: Option<usize>,
) -> Vec<(u64, u64)> {
    let credentials = &request.outcome.credentials;
    let users = &credentials.user_namespace;
    let (hwcap, hwcap2) = machine::user::hardware_capabilities();
    let base = interpreter.map_or(0, |mapped| mapped.at(mapped.plan.start) as u64);
    let headers = program.plan.program_headers.map_or(0, |address| program.at(address) as u64);
    let signal_stack = machine::thread::fpu_state_size() as u64 + 4 + 64 + 440 + 16;
    let mut entries: Vec<(u64, u64)> = Vec::new();
    if let Some(vdso) = vdso {
        entries.push((u64::from(auxv::AT_SYSINFO_EHDR), vdso as u64));
    }
    entries.extend([
        (u64::from(auxv::AT_MINSIGSTKSZ), signal_stack),
        (u64::from(auxv::AT_HWCAP), hwcap),
        (u64::from(auxv::AT_PAGESZ), PAGE_SIZE as u64),
        (u64::from(auxv::AT_CLKTCK), USER_HZ),
        (u64::from(auxv::AT_PHDR), headers),
        (u64::from(auxv::AT_PHENT), PROGRAM_HEADER_SIZE),
        (u64::from(auxv::AT_PHNUM), u64::from(request.image.program_header_count)),
        (u64::from(auxv::AT_BASE), base),
        (u64::from(auxv::AT_FLAGS), 0),
        (u64::from(auxv::AT_ENTRY), program.at(request.image.entry) as u64),
        (u64::from(auxv::AT_UID), u64::from(users.from_kuid_munged(credentials.ruid))),
        (u64::from(auxv::AT_EUID), u64::from(users.from_kuid_munged(credentials.euid))),
        (u64::from(auxv::AT_GID), u64::from(users.from_kgid_munged(credentials.rgid))),
        (u64::from(auxv::AT_EGID), u64::from(users.from_kgid_munged(credentials.egid))),
        (u64::from(auxv::AT_SECURE), u64::from(request.outcome.secure)),
        (u64::from(auxv::AT_HWCAP2), hwcap2),
        (u64::from(auxv::AT_RSEQ_FEATURE_SIZE), RSEQ_FEATURE_SIZE),
        (u64::from(auxv::AT_RSEQ_ALIGN), RSEQ_ALIGN),
    ]);
    entries
}

fn write_stack(
    space: &AddressSpace,
    request: &LoadRequest<'_>,
    top: usize,
    auxiliary: &[(u64, u64)],
    randomize: Randomize,
) -> Result<StackImage> {
    let mut random = [0; 16];
    machine::random::fill(&mut random);
    let mut shift = [0; 2];
    machine::random::fill(&mut shift);
    let padding =
        if randomize == Randomize::Yes { usize::from(u16::from_le_bytes(shift)) & 0x1ff0 } else { 0 };
    let stack = StackImage::build(
        top as u64,
        &StackContents {
            program_path: request.shown,
            arguments: request.arguments,
            environment: request.environment,
            random,
            auxiliary,
            padding,
        },
    )?;
    let written = space.write_remote(stack.stack_pointer as usize, &stack.bytes, RemoteAccess::Checked)?;
    if written != stack.bytes.len() {
        return Err(Errno::ENOMEM);
    }
    Ok(stack)
}

fn program_info(program: &Mapped, stack: &StackImage, auxiliary: &[(u64, u64)]) -> ProgramInfo {
    let mut bytes = Vec::new();
    for (key, value) in auxiliary.iter().chain(&[(0, 0)]) {
        bytes.extend_from_slice(&key.to_le_bytes());
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    ProgramInfo {
        start_code: program.at(program.plan.start_code),
        end_code: program.at(program.plan.end_code),
        start_data: program.at(program.plan.start_data),
        end_data: program.at(program.plan.end_data),
        start_stack: stack.stack_pointer as usize,
        arg_start: stack.arguments_start as usize,
        arg_end: stack.arguments_end as usize,
        env_start: stack.arguments_end as usize,
        env_end: stack.environment_end as usize,
        auxv: bytes,
    }
}
