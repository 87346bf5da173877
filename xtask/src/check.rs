//! `cargo xtask check`: what is wrong without running anything. CI and people call it before every push.
//!
//! Each check prints one line; `layers.rs` has the rules about which crate may use which.

mod layers;
mod source;

use crate::toolchain::{CoreSource, TARGET};
use crate::util::{cargo, output, run, run_quiet, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

/// What `cargo xtask check` takes.
#[derive(Args)]
pub struct CheckArguments {
    /// Only the checks whose name contains this.
    filter: Option<String>,
}

/// What a check that did not fail has to say.
pub enum Verdict {
    /// Fine; with a remark, if not empty.
    Fine(String),
    /// Could not be made here, and why.
    Skipped(String),
}

type Check = (&'static str, fn() -> Result<Verdict>);

const CHECKS: [Check; 13] = [
    ("layers", layers::arrows),
    ("module heads", source::heads),
    ("unsafe code", source::unsafe_code),
    ("stubs", source::stubs),
    ("names of this machine", source::names_of_this_machine),
    ("dependencies listed", layers::dependencies_listed),
    ("licences and sources", layers::licences),
    ("cargo deny", deny),
    ("system calls listed", system_calls_listed),
    ("format", format),
    ("clippy, host", clippy_host),
    ("clippy, bare machine", clippy_bare),
    ("documents", documents),
];

/// `cargo xtask check`.
pub fn command(arguments: &CheckArguments) -> Result<u8> {
    let (mut fine, mut failed, mut skipped) = (0, 0, 0);
    for (name, check) in CHECKS {
        if arguments.filter.as_ref().is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        match check() {
            Ok(Verdict::Fine(remark)) => {
                fine += 1;
                println!("ok      {name}{}{remark}", if remark.is_empty() { "" } else { ": " });
            }
            Ok(Verdict::Skipped(why)) => {
                skipped += 1;
                println!("skipped {name}: {why}");
            }
            Err(error) => {
                failed += 1;
                println!("FAILED  {name}: {error:#}");
            }
        }
    }
    println!("check: {fine} ok, {failed} failed, {skipped} skipped");
    Ok(u8::from(failed > 0))
}

/// `cargo metadata` of the workspace.
fn metadata() -> Result<Value> {
    let text = output(
        cargo().args(["metadata", "--quiet", "--format-version", "1", "--locked"]).current_dir(workspace()),
    )?;
    serde_json::from_str(&text).context("reading cargo metadata")
}

/// The packages of this workspace: (name, folder below the root, the metadata).
fn members(metadata: &Value) -> Vec<(String, String, &Value)> {
    let root = workspace();
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    packages
        .iter()
        .filter(|package| package["source"].is_null())
        .filter_map(|package| {
            let manifest = std::path::Path::new(package["manifest_path"].as_str()?);
            let folder = manifest.parent()?.strip_prefix(&root).ok()?.to_string_lossy().into_owned();
            Some((package["name"].as_str()?.to_owned(), folder, package))
        })
        .collect()
}

fn deny() -> Result<Verdict> {
    if !crate::util::have("cargo-deny") {
        return Ok(Verdict::Skipped(
            "cargo-deny is not installed (`cargo install --locked cargo-deny`)".to_owned(),
        ));
    }
    let mut deny = cargo();
    run_quiet(
        deny.args(["deny", "--offline", "check", "licenses", "bans", "sources"]).current_dir(workspace()),
    )?;
    Ok(Verdict::Fine("licences, bans, sources; not advisories".to_owned()))
}

fn system_calls_listed() -> Result<Verdict> {
    crate::compat::verify()?;
    Ok(Verdict::Fine(String::new()))
}

fn format() -> Result<Verdict> {
    run(cargo().args(["fmt", "--all", "--check"]).current_dir(workspace()))?;
    for package in crate::guest::PACKAGES {
        run(cargo().args(["fmt", "--check"]).current_dir(workspace().join(package)))?;
    }
    Ok(Verdict::Fine(String::new()))
}

fn clippy_host() -> Result<Verdict> {
    let mut clippy = cargo();
    clippy.args([
        "clippy",
        "--quiet",
        "--workspace",
        "--exclude",
        "linnet",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    run(clippy.current_dir(workspace()))?;
    for package in crate::guest::PACKAGES {
        let mut clippy = cargo();
        clippy.args(["clippy", "--quiet", "--", "-D", "warnings"]).current_dir(workspace().join(package));
        run(&mut clippy)?;
    }
    Ok(Verdict::Fine(String::new()))
}

fn clippy_bare() -> Result<Verdict> {
    let mut clippy = cargo();
    clippy.args(["clippy", "--quiet", "--package", "linnet", "--target", TARGET]).current_dir(workspace());
    for package in kernel_packages()? {
        clippy.args(["--package", &package]);
    }
    CoreSource::find()?.apply(&mut clippy);
    run(clippy.args(["--", "-D", "warnings"]))?;
    Ok(Verdict::Fine(String::new()))
}

/// Every package that runs on the bare machine.
fn kernel_packages() -> Result<Vec<String>> {
    let metadata = metadata()?;
    let on_host = ["xtask", "linnet-loom"];
    Ok(members(&metadata)
        .into_iter()
        .map(|(name, _, _)| name)
        .filter(|name| !on_host.contains(&name.as_str()))
        .collect())
}

fn documents() -> Result<Verdict> {
    crate::docs::build()?;
    if crate::docs::dead_links()?.is_empty() {
        return Ok(Verdict::Fine(String::new()));
    }
    bail!("dead links:\n  {}", crate::docs::dead_links()?.join("\n  "))
}
