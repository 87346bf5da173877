//! Build, run, test, bench, check: the commands that people and CI call.
//!
//! `cargo xtask help` lists them; DESIGN of each lives in the module of its name. This crate runs on
//! the development machine only and shares nothing with the kernel.

mod apt;
mod bench;
mod check;
mod compat;
mod cpio;
mod deps;
mod disk;
mod docs;
mod frames;
mod guest;
mod kernel;
mod linux;
mod qemu;
mod root;
mod run;
mod symbols;
mod test;
mod toolchain;
mod util;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Build, run and test Linnet.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the kernel for the bare machine.
    Build(kernel::BuildArguments),
    /// Boot a kernel in QEMU: to a shell, or to run one command.
    Run(run::RunArguments),
    /// Make a root for `run --root`.
    Root(root::RootArguments),
    /// Run the tests: host tests, then guest tests.
    Test(test::TestArguments),
    /// Measure Linnet beside Linux.
    Bench(bench::BenchArguments),
    /// Everything that is wrong without running anything: style, lints, layers, docs.
    Check(check::CheckArguments),
    /// Build the handbook and the API reference as HTML.
    Docs,
    /// Write docs/compat.md: which of Linux's system calls the kernel has.
    Compat,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Build(arguments) => kernel::command(&arguments),
        Command::Run(arguments) => run::command(&arguments),
        Command::Root(arguments) => root::command(&arguments),
        Command::Test(arguments) => test::command(&arguments),
        Command::Bench(arguments) => bench::command(&arguments),
        Command::Check(arguments) => check::command(&arguments),
        Command::Docs => docs::command(),
        Command::Compat => compat::command(),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(125)
        }
    }
}
