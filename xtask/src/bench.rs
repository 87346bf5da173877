//! `cargo xtask bench`: Linnet beside Linux. Not written yet.

use anyhow::{Result, bail};
use clap::Args;

/// What `cargo xtask bench` takes.
#[derive(Args)]
pub struct BenchArguments {}

/// `cargo xtask bench`.
pub fn command(_arguments: &BenchArguments) -> Result<u8> {
    bail!("not written yet")
}
