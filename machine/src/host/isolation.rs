//! Runs that share nothing with what the process did before: a process for each test, a fork of it for each run.
//!
//! A kernel's statics are one kernel's. A second boot in the same process would find caches filled, numbers given out and
//! cells set, and other tests use them at the same time; then a seed does not say what happens. So a test that boots is
//! done by a program of its own: the same test program, started again for that one test ([`delegate`]). In it nothing else
//! runs, and each boot is a fork ([`in_a_fork`]) that sees the program as it was before any boot.
//!
//! Neighbours: [`super`]. Locks: none.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::string::String;
use std::vec::Vec;

/// Set in the program that runs one test.
const ISOLATED: &str = "LINNET_ISOLATED";
/// Set there if each run is to print its trace.
const TRACE: &str = "LINNET_PRINT_TRACE";

std::thread_local! {
    /// The test of this thread has been done by a program of its own.
    static DELEGATED: Cell<bool> = const { Cell::new(false) };
}

/// Where the caller is.
pub(super) enum Place {
    /// In a test program with other tests; the test's name.
    Shared(String),
    /// There, but the test has been done elsewhere.
    Done,
    /// In the program that runs this test only.
    Alone,
    /// In a thread that is no test's.
    Unknown,
}

/// See [`Place`]. A test's thread has the test's name.
pub(super) fn place() -> Place {
    if std::env::var_os(ISOLATED).is_some() {
        return Place::Alone;
    }
    if DELEGATED.get() {
        return Place::Done;
    }
    match std::thread::current().name() {
        Some(name) if name != "main" => Place::Shared(String::from(name)),
        _ => Place::Unknown,
    }
}

/// Runs the whole test `name` in a program of its own and panics if it fails there; the lines of its output that say traces.
pub(super) fn delegate(name: &str, print_traces: bool) -> Vec<String> {
    let Ok(program) = std::env::current_exe() else { panic!("the test program does not know its path") };
    let mut command = Command::new(program);
    command.args([name, "--exact", "--nocapture", "--include-ignored"]).env(ISOLATED, "1");
    if print_traces {
        command.env(TRACE, "1");
    }
    let Ok(output) = command.output() else { panic!("the test program could not be started again") };
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !text.contains("test result: ok. 1 passed") {
        std::eprintln!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
        panic!("the test failed in a program of its own ({}), see above", output.status);
    }
    DELEGATED.set(true);
    text.lines().filter_map(|line| line.split_once("trace: ")).map(|(_, trace)| String::from(trace)).collect()
}

/// Whether traces are wanted on the output.
pub(super) fn prints_traces() -> bool {
    std::env::var_os(TRACE).is_some()
}

unsafe extern "C" {
    safe fn fork() -> i32;
    safe fn _exit(status: i32) -> !;
    safe fn waitpid(process: i32, status: Option<&mut i32>, options: i32) -> i32;
}

/// Runs `work` in a fork; gives what it returned, or `None` if it panicked (which is on the standard error then).
///
/// The process has no other thread that is doing something: see the module.
pub(super) fn in_a_fork(work: impl FnOnce() -> [u8; 16]) -> Option<[u8; 16]> {
    use std::io::{Read, Write};
    let Ok((mut reader, mut writer)) = std::io::pipe() else { panic!("no pipe for a run") };
    let _ = std::io::stdout().flush();
    match fork() {
        -1 => panic!("no process for a run"),
        0 => {
            drop(reader);
            let result = catch_unwind(AssertUnwindSafe(work));
            let status = match result.map(|bytes| writer.write_all(&bytes)) {
                Ok(Ok(())) => 0,
                _ => 1,
            };
            let _ = std::io::stdout().flush();
            _exit(status)
        }
        child => {
            drop(writer);
            let mut bytes = [0; 16];
            let got = reader.read_exact(&mut bytes);
            let mut status = 0;
            while waitpid(child, Some(&mut status), 0) == -1
                && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
            {}
            (status == 0 && got.is_ok()).then_some(bytes)
        }
    }
}
