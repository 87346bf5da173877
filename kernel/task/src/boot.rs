//! Starting the first program.
//!
//! [`spawn_init`] makes process 1 with a thread that tries the programs it is given in order and becomes the first that runs, as Linux does with
//! `init=` and its list of defaults. [`crate::exit::on_init_end`] says what happens when it ends.

use crate::exec::{Opened, Strings, commit, prepare};
use crate::fork::{Counted, add_thread};
use crate::limits::Limits;
use crate::namespaces::Namespaces;
use crate::pid::{self, Pid};
use crate::process::{INIT, Process, ProcessParts, TREE};
use crate::signal::{AlternateStack, Signal, SignalHandlers, SignalSet};
use crate::task::{Settings, Task, TaskParts};
use crate::users::{TaskCharge, UserAccount};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::user::UserRegisters;
use security::{Credentials, Kuid};
use vfs::{DescriptorTable, FsContext, MountNamespace};

/// The first program and what it starts with.
pub struct InitRequest {
    /// Paths to try in order.
    pub programs: Vec<Vec<u8>>,
    /// argv after the program's own name.
    pub arguments: Vec<Vec<u8>>,
    /// envp.
    pub environment: Vec<Vec<u8>>,
    /// Root and working directory.
    pub fs: Arc<FsContext>,
    /// Open descriptors: 0, 1, 2 on the console.
    pub files: Arc<DescriptorTable>,
    /// Mounts.
    pub mount: Arc<MountNamespace>,
}

/// Makes process 1 and starts it.
///
/// # Errors
/// ENOMEM. EEXIST: there is one already.
pub fn spawn_init(request: InitRequest) -> Result<Arc<Process>> {
    let task = build(&request)?;
    let process = task.process().clone();
    let mine = task.clone();
    let entry = Box::new(move || first_program(mine, &request));
    let extension: Arc<dyn core::any::Any + Send + Sync> = task.clone();
    let thread = sched::Thread::create("init", sched::SpawnOptions::default(), Some(extension), entry)?;
    task.set_thread(&thread);
    add_thread(&mut process.shared.lock(), &task)?;
    TREE.lock().insert_first(INIT, process.clone())?;
    thread.start();
    Ok(process)
}

fn build(request: &InitRequest) -> Result<Arc<Task>> {
    let pid = Pid::new(pid::root(), &[INIT as i32])?;
    pid::root().set_init(INIT);
    let account = UserAccount::of(Kuid::ROOT);
    crate::fork::set_max_tasks(crate::fork::default_max_tasks());
    let limits = Limits::initial(crate::fork::max_tasks() as u64 / 2);
    let process = Process::new(ProcessParts {
        pid: pid.clone(),
        namespace: pid::root().clone(),
        space: None,
        executable: None,
        handlers: Arc::new(SignalHandlers::default()),
        account: account.clone(),
        exit_signal: Signal::SIGCHLD.number() as u32,
        limits,
        real_user: Kuid::ROOT,
    });
    Ok(Task::new(TaskParts {
        process,
        pid,
        blocked: SignalSet::EMPTY,
        credentials: Credentials::initial(),
        charge: TaskCharge::new(account),
        files: request.files.clone(),
        fs: request.fs.clone(),
        namespaces: Arc::new(Namespaces::initial(request.mount.clone())),
        alternate_stack: AlternateStack::NONE,
        rseq: None,
        settings: Settings::default(),
        counted: Counted::new()?,
    }))
}

/// The first thread: becomes the first program that can be run.
fn first_program(task: Arc<Task>, request: &InitRequest) {
    for path in &request.programs {
        let mut registers = UserRegisters::default();
        match start(&task, path, request, &mut registers) {
            Ok(()) => {
                log::info!("run {} as init process", path.escape_ascii());
                crate::run::run(task, registers);
                return;
            }
            Err(error) => log::warn!("cannot run {} as init: {error:?}", path.escape_ascii()),
        }
    }
    machine::oops::fatal(format_args!("No working init found.  Try passing init= option to kernel."));
}

fn start(task: &Arc<Task>, path: &[u8], request: &InitRequest, registers: &mut UserRegisters) -> Result<()> {
    let mut arguments = Strings::new();
    arguments.push(path)?;
    for argument in &request.arguments {
        arguments.push(argument)?;
    }
    let mut environment = Strings::new();
    for variable in &request.environment {
        environment.push(variable)?;
    }
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let opened = Opened::new(task, None, path, 0)?;
    let prepared = prepare(task, opened, arguments, environment)?;
    commit::commit(task, registers, prepared)
}
