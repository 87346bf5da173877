//! Running another program: execve(2) and execveat(2).
//!
//! The new program is built completely beside the old one: [`prepare`] opens the file, follows `#!` lines ([`script`]), reads the ELF headers,
//! maps program and interpreter into a fresh address space ([`load`]) and lays its stack out ([`arguments`]). Every failure up to there leaves
//! the caller as it was. [`commit`] then ends the other threads and swaps memory, signals, credentials and descriptors; it
//! fails only when the process is being killed anyway.

pub mod arguments;
pub mod commit;
pub mod load;
pub mod script;

use crate::task::Task;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
pub use arguments::{MAX_STRING, Strings, total_limit};
use linnet_lib::elf::{Image, Role};
use machine::user::UserRegisters;
use mm::io::SliceWriter;
use script::Parsed;
use security::{Credentials, ExecFile, ExecOutcome};
use vfs::File;
use vfs::file::Program;

/// How many interpreters may follow each other before ELOOP.
const MAX_SCRIPTS: usize = 5;
/// `AT_EMPTY_PATH` of execveat(2).
pub const AT_EMPTY_PATH: u32 = 0x1000;
/// `AT_SYMLINK_NOFOLLOW` of execveat(2).
pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;

/// The file to run, open: the first step, whose errors come before those of the arguments.
pub struct Opened {
    directory: Option<i32>,
    program: Arc<Program>,
    /// The path that the program is told.
    shown: Vec<u8>,
}

impl Opened {
    /// Opens `path`, which starts from `directory` (`None`: the working directory).
    ///
    /// # Errors
    /// EINVAL: flags besides [`AT_EMPTY_PATH`] and [`AT_SYMLINK_NOFOLLOW`]. EACCES, ENOENT, ENOTDIR, ELOOP, ETXTBSY, ENOMEM.
    pub fn new(task: &Task, directory: Option<i32>, path: &[u8], flags: u32) -> Result<Opened> {
        if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
            return Err(Errno::EINVAL);
        }
        let program = open_program(task, directory, path, flags)?;
        Ok(Opened { directory, program, shown: shown_path(directory, path)? })
    }
}

/// A program ready to run.
pub(crate) struct Prepared {
    pub memory: load::Loaded,
    pub program: Arc<Program>,
    pub outcome: ExecOutcome,
    pub name: Vec<u8>,
}

/// execve(2): on success `registers` are those of the new program's first instruction.
///
/// # Errors
/// E2BIG, ENOEXEC, ELIBBAD, ELOOP, EACCES, ENOENT, ENOTDIR, ENOMEM, ETXTBSY, EPERM as the manual page says;
/// the caller is unharmed. ERESTARTNOINTR: a fatal signal came.
pub fn execve(
    task: &Arc<Task>,
    registers: &mut UserRegisters,
    opened: Opened,
    arguments: Strings,
    environment: Strings,
) -> Result<()> {
    let prepared = prepare(task, opened, arguments, environment)?;
    commit::commit(task, registers, prepared)
}

/// Builds the new program.
pub(crate) fn prepare(
    task: &Arc<Task>,
    opened: Opened,
    mut arguments: Strings,
    environment: Strings,
) -> Result<Prepared> {
    let Opened { directory, mut program, shown } = opened;
    let stack_limit = task.process().limits().soft(crate::limits::Resource::Stack);
    if arguments.is_empty() {
        // Since Linux 5.18 a program without argv gets one empty argument.
        arguments.push(b"")?;
    }
    let image = follow_scripts(task, &mut program, &shown, directory, &mut arguments)?;
    if arguments.cost() + environment.cost() > total_limit(stack_limit) {
        return Err(Errno::E2BIG);
    }
    let interpreter = open_interpreter(task, &image)?;
    let credentials = task.credentials();
    let outcome = transition(task, &credentials, program.file())?;
    let memory = load::load(&load::LoadRequest {
        task,
        image: &image,
        program: program.file(),
        interpreter: interpreter.as_ref(),
        shown: &shown,
        arguments: &arguments,
        environment: &environment,
        outcome: &outcome,
    })?;
    // The name is that of the file asked for, also for a script.
    let name = base_name(&shown);
    Ok(Prepared { memory, program, outcome, name })
}

/// The path that the program and its interpreter are told: a descriptor shows as `/dev/fd/N`.
fn shown_path(directory: Option<i32>, path: &[u8]) -> Result<Vec<u8>> {
    let mut shown = Vec::new();
    shown.try_reserve(path.len() + 24).map_err(|_| Errno::ENOMEM)?;
    if let Some(number) = directory.filter(|_| path.first() != Some(&b'/')) {
        shown.extend_from_slice(b"/dev/fd/");
        let digits = alloc::format!("{number}");
        shown.extend_from_slice(digits.as_bytes());
        if !path.is_empty() {
            shown.push(b'/');
        }
    }
    shown.extend_from_slice(path);
    Ok(shown)
}

fn base_name(shown: &[u8]) -> Vec<u8> {
    let name = shown.rsplit(|&byte| byte == b'/').next().unwrap_or(shown);
    name.get(..15).unwrap_or(name).to_vec()
}

fn open_program(task: &Task, directory: Option<i32>, path: &[u8], flags: u32) -> Result<Arc<Program>> {
    crate::files::open_program(task, directory, path, flags)
}

/// Reads the head of `program`; as long as it is a script, goes on with its interpreter and puts that before the arguments.
fn follow_scripts(
    task: &Task,
    program: &mut Arc<Program>,
    shown: &[u8],
    directory: Option<i32>,
    arguments: &mut Strings,
) -> Result<Image> {
    let mut script_path = shown.to_vec();
    for _ in 0..=MAX_SCRIPTS {
        let mut head = [0; script::HEAD_SIZE];
        let length = read_at(program.file(), 0, &mut head)?;
        let script = match script::parse(head.get(..length).unwrap_or(&head)) {
            Parsed::NotAScript => {
                return Image::parse(Role::Program, |offset, into| read_at(program.file(), offset, into));
            }
            Parsed::Malformed => return Err(Errno::ENOEXEC),
            Parsed::Script(script) => script,
        };
        if directory.is_some_and(|number| crate::files::closes_on_exec(task, number))
            && shown.starts_with(b"/dev/fd/")
        {
            // The interpreter could not open its script any more (execveat(2), "Bugs").
            return Err(Errno::ENOENT);
        }
        match script.argument {
            Some(argument) => arguments.replace_first(1, &[script.interpreter, argument, &script_path])?,
            None => arguments.replace_first(1, &[script.interpreter, &script_path])?,
        }
        *program = open_program(task, None, script.interpreter, 0)?;
        script_path = script.interpreter.to_vec();
    }
    Err(Errno::ELOOP)
}

/// A program's interpreter.
pub(crate) struct Interpreter {
    pub program: Arc<Program>,
    pub image: Image,
}

fn open_interpreter(task: &Task, image: &Image) -> Result<Option<Interpreter>> {
    let Some(path) = &image.interpreter else { return Ok(None) };
    let program = open_program(task, None, path, 0)?;
    let image = Image::parse(Role::Interpreter, |offset, into| read_at(program.file(), offset, into))?;
    Ok(Some(Interpreter { program, image }))
}

/// Reads from an open program; its own read permission does not matter.
pub(crate) fn read_at(file: &File, offset: u64, into: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let mut writer = SliceWriter::new(rest);
        let count = file.operations().read(file, &mut writer, offset + done as u64)?;
        if count == 0 {
            break;
        }
        done += count;
    }
    Ok(done)
}

fn transition(task: &Task, credentials: &Credentials, program: &File) -> Result<ExecOutcome> {
    let file: ExecFile = crate::files::exec_identity(task, program)?;
    security::exec_transition(credentials, &file)
}
