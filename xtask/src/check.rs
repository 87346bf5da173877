//! `cargo xtask check`: what is wrong without running anything.

use crate::util::{cargo, run, workspace};
use anyhow::Result;
use clap::Args;

/// What `cargo xtask check` takes.
#[derive(Args)]
pub struct CheckArguments {}

/// `cargo xtask check`.
pub fn command(_arguments: &CheckArguments) -> Result<u8> {
    run(cargo().args(["fmt", "--all", "--check"]).current_dir(workspace()))?;
    Ok(0)
}
