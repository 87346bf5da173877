//! The kernel's command line: what goes to the first program, and where the kernel lies.

use super::{Boots, console_lacks, mismatch, run_script};
use crate::qemu::{End, Outcome, Vm};
use anyhow::Result;

/// What Debian's Linux does with the same line: the unknown words and their order, the message.
const LINE: &str = "foo=bar baz quux.param=1 \"a b=c d\" x=\"y z\" -- arg1 \"arg 2\"";
const MESSAGE: &str =
    "Unknown kernel command line parameters \"baz foo=bar a b=c d x=y z\", will be passed to user space.";
const SHOW: &str = "tr '\\0' '|' </proc/1/cmdline; echo; tr '\\0' '|' </proc/1/environ; echo; exit 7";
const SHOWN: &str = "/bin/sh|/init|baz|arg1|arg 2|\nHOME=/|TERM=linux|foo=bar|a b=c d|x=y z|\n";

/// Where the image is linked.
const LINK_ADDRESS: &str = "0xffffffff80000000";

/// Boots that must differ; two random bases of about 500 may well be equal, so many in a row may not.
const MOST_BOOTS: usize = 4;

/// Runs them all.
pub(super) fn run(boots: &mut Boots<'_>) -> Result<()> {
    boots.test("parameters unknown ones go to init", |vm| {
        let (output, outcome) = run_script(&with_line(vm, LINE), SHOW)?;
        let wrong = mismatch(&outcome, &output, End::Exited(7), SHOWN);
        Ok((wrong.or_else(|| console_lacks(&outcome, &[MESSAGE])), outcome))
    })?;
    boots.test("parameters init names the program", |vm| {
        let (output, outcome) = run_script(&with_line(vm, "lost rdinit=/init kept"), SHOW)?;
        let expected = "/bin/sh|/init|kept|\nHOME=/|TERM=linux|\n";
        Ok((mismatch(&outcome, &output, End::Exited(7), expected), outcome))
    })?;
    boots.test("kaslr nokaslr is the link address", |vm| {
        let (base, outcome) = image_base(&with_line(vm, "debug nokaslr"))?;
        let wrong = (base.as_deref() != Some(LINK_ADDRESS)).then(|| format!("the image is at {base:?}"));
        Ok((wrong, outcome))
    })?;
    boots.test("kaslr bases differ", |vm| {
        let vm = with_line(vm, "debug");
        let (first, mut outcome) = image_base(&vm)?;
        for _ in 1..MOST_BOOTS {
            let (other, next) = image_base(&vm)?;
            outcome = next;
            if first.is_some() && other.is_some() && other != first {
                return Ok((None, outcome));
            }
        }
        Ok((Some(format!("{MOST_BOOTS} boots had the image at {first:?}")), outcome))
    })
}

fn with_line(mut vm: Vm, words: &str) -> Vm {
    vm.command_line = format!("{} {words}", vm.command_line);
    vm
}

/// Where the kernel says it lies, if it booted and said so.
fn image_base(vm: &Vm) -> Result<(Option<String>, Outcome)> {
    let (_, outcome) = run_script(vm, "exit 0")?;
    let console = String::from_utf8_lossy(&outcome.console);
    let base = console
        .split_once("kernel image at ")
        .and_then(|(_, rest)| rest.split([',', '\r', '\n', ' ']).next())
        .filter(|_| outcome.end == End::Exited(0))
        .map(str::to_owned);
    Ok((base, outcome))
}
