//! `cargo xtask bench`: Linnet beside Linux in one run. Both kernels boot in turn, as often as there are rounds, with the same
//! root image and the same static program (`bench/`); medians count, and the ratio of the medians is the result.
//!
//! The table goes to the terminal and, with `--write`, to `docs/performance.md`, plots beside it. With `--netns` only what is about
//! network namespaces and sockets is measured, and only that part of the page is written; with `--disks` only a file system on a disk.

mod disks;
mod growth;
mod netns;
mod plot;

use crate::kernel::Profile;
use crate::qemu::{End, Input, Vm};
use crate::root::Root;
use crate::run::{Kernel, machine};
use crate::util::{say, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// What `cargo xtask bench` takes.
#[derive(Args)]
pub struct BenchArguments {
    /// How often each kernel is booted for each machine.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Also write docs/performance.md.
    #[arg(long)]
    write: bool,
    /// Only network namespaces and sockets.
    #[arg(long)]
    netns: bool,
    /// Only a file system on a disk.
    #[arg(long)]
    disks: bool,
    /// With `--disks`: Debian's own programs there instead.
    #[arg(long, requires = "disks")]
    programs: bool,
    /// With `--disks`: how costs grow with sizes instead; drawn with `--write`.
    #[arg(long, requires = "disks")]
    plots: bool,
    /// Only operations whose name contains one of these.
    filter: Vec<String>,
}

const PROGRAM: &str = "/usr/bin/bench";
const LIMIT: Duration = Duration::from_secs(900);
/// No slower than Linux.
const RATIO_TARGET: f64 = 1.0;
const BOOT_TARGET: f64 = 0.1;
const SCALE_TARGET: f64 = 1.9;
/// The rows that say what two processors of this machine can do together when no kernel is involved.
const CEILINGS: &[&str] = &["a loop without the kernel", "reading the time stamp counter"];
const IMAGE_TARGET_KIB: f64 = 6.0 * 1024.0;
const MEMORY_TARGET_KIB: f64 = 24.0 * 1024.0;

/// What one kernel gave: values by name, one for each round; the names in the order they came.
#[derive(Default)]
struct Results {
    order: Vec<String>,
    values: BTreeMap<String, Vec<f64>>,
}

impl Results {
    fn add(&mut self, name: &str, value: f64) {
        if !self.values.contains_key(name) {
            self.order.push(name.to_owned());
        }
        self.values.entry(name.to_owned()).or_default().push(value);
    }

    fn median(&self, name: &str) -> Option<f64> {
        let mut values = self.values.get(name)?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// Half of the distance between the extremes, as a share of the median.
    fn spread(&self, name: &str) -> Option<f64> {
        let values = self.values.get(name)?;
        let (least, most) =
            values.iter().fold((f64::MAX, f64::MIN), |(least, most), v| (least.min(*v), most.max(*v)));
        Some((most - least) / 2.0 / self.median(name)?)
    }
}

/// Both kernels on machines with so many processors.
struct Pair {
    linnet: Results,
    linux: Results,
}

/// `cargo xtask bench`.
pub fn command(arguments: &BenchArguments) -> Result<u8> {
    let program = crate::guest::build("bench", "bench")?;
    let linnet = machine(&Kernel::Linnet, Profile::Release, &Root::Busybox)?;
    let linux = machine(&Kernel::Linux, Profile::Release, &Root::Busybox)?;
    if arguments.disks {
        let one = |vm: &Vm| Vm { cpus: 1, ..vm.clone() };
        for (what, part, wanted) in [
            (disks::What::Rows, Part::Disks, !arguments.programs && !arguments.plots),
            (disks::What::Programs, Part::DiskPrograms, arguments.programs),
            (disks::What::Growth, Part::DiskGrowth, arguments.plots),
        ] {
            if wanted {
                let measured = disks::measure(&one(&linnet), &one(&linux), &program, what, arguments)?;
                finish(part, &disks::table(what, &measured), arguments)?;
                if arguments.write && part == Part::DiskGrowth {
                    disks::write_plots(&measured)?;
                }
            }
        }
        return Ok(0);
    }
    if !arguments.netns {
        // Without the archive of modules, which would only lengthen its boot.
        let linux = Vm { initrd: linnet.initrd.clone(), ..linux.clone() };
        let image_kib = std::fs::metadata(&linnet.kernel).context("the kernel image")?.len() as f64 / 1024.0;
        let one = pair(&linnet, &linux, &program, 1, "one", arguments)?;
        let two = pair(&linnet, &linux, &program, 2, "scale", arguments)?;
        finish(Part::Kernel, &table(&one, &two, image_kib), arguments)?;
    }
    let measured = netns::measure(&linnet, &linux, &program, arguments)?;
    finish(Part::Namespaces, &measured.table(), arguments)?;
    if arguments.write {
        measured.write_plots()?;
    }
    Ok(0)
}

/// Boots both in turn.
fn pair(
    linnet: &Vm,
    linux: &Vm,
    program: &[u8],
    cpus: u32,
    command: &str,
    arguments: &BenchArguments,
) -> Result<Pair> {
    let mut pair = Pair { linnet: Results::default(), linux: Results::default() };
    for round in 1..=arguments.rounds {
        say(format_args!("{command}, {cpus} CPUs: round {round} of {}", arguments.rounds));
        for (vm, results) in [(linnet, &mut pair.linnet), (linux, &mut pair.linux)] {
            let vm = Vm { cpus, timeout: Some(LIMIT), ..vm.clone() };
            run(&vm, program, command, &arguments.filter, results)?;
        }
    }
    Ok(pair)
}

fn run(vm: &Vm, program: &[u8], command: &str, filter: &[String], results: &mut Results) -> Result<()> {
    let files = [(PROGRAM.to_owned(), 0o755, program.to_vec())];
    let quoted: String = filter.iter().fold(String::new(), |all, part| all + " '" + part + "'");
    let script = format!("{PROGRAM} memory; {PROGRAM} boot; {PROGRAM} {command}{quoted}");
    let words = ["sh", "-c", &script].map(str::to_owned);
    let mut output = Vec::new();
    let outcome = vm.run_command(&words, &files, Input::Null, &mut |bytes| {
        output.extend_from_slice(bytes);
        Ok(())
    })?;
    let output = String::from_utf8_lossy(&output);
    if outcome.end != End::Exited(0) {
        bail!("the machine ended with {:?}; it said:\n{output}", outcome.end);
    }
    for (name, value) in output.lines().filter_map(|line| line.split_once('\t')) {
        results.add(name, value.trim().parse().with_context(|| format!("reading {name}"))?);
    }
    Ok(())
}

fn verdict(holds: bool) -> &'static str {
    if holds { "yes" } else { "**no**" }
}

/// The rows, as Markdown.
fn table(one: &Pair, two: &Pair, image_kib: f64) -> String {
    let mut text = String::from(
        "| operation, 1 CPU | Linnet, ns | ± | Linux, ns | ± | ratio | no slower |\n|---|--:|--:|--:|--:|--:|---|\n",
    );
    for name in one.linux.order.iter().filter(|name| !["memory", "boot"].contains(&name.as_str())) {
        let (Some(here), Some(there)) = (one.linnet.median(name), one.linux.median(name)) else { continue };
        let ratio = here / there;
        let spread = |results: &Results| results.spread(name).unwrap_or(0.0) * 100.0;
        let (a, b) = (spread(&one.linnet), spread(&one.linux));
        let holds = verdict(ratio <= RATIO_TARGET);
        let _ = writeln!(
            text,
            "| {name} | {here:.0} | {a:.0} % | {there:.0} | {b:.0} % | {ratio:.2} | {holds} |"
        );
    }
    text += "\n| operation, 2 processes on 2 CPUs beside 1 | Linnet | Linux | at least 1.9 |\n|---|--:|--:|---|\n";
    for name in two.linux.order.iter().filter(|name| !["memory", "boot"].contains(&name.as_str())) {
        let (Some(here), Some(there)) = (two.linnet.median(name), two.linux.median(name)) else { continue };
        let holds = if CEILINGS.contains(&name.as_str()) {
            "the machine's own"
        } else {
            verdict(here >= SCALE_TARGET)
        };
        let _ = writeln!(text, "| {name} | {here:.2} | {there:.2} | {holds} |");
    }
    text += "\n| whole | Linnet | Linux | target | reached |\n|---|--:|--:|---|---|\n";
    if let (Some(here), Some(there)) = (two.linnet.median("boot"), two.linux.median("boot")) {
        let holds = verdict(here <= there * BOOT_TARGET);
        let _ = writeln!(
            text,
            "| kernel entry to init, 2 CPUs, ms | {here:.0} | {there:.0} | a tenth | {holds} |"
        );
    }
    if let (Some(here), Some(there)) = (two.linnet.median("memory"), two.linux.median("memory")) {
        let holds = verdict(here <= MEMORY_TARGET_KIB);
        let _ = writeln!(
            text,
            "| not available to programs of 512 MiB, KiB | {here:.0} | {there:.0} | 24576 | {holds} |"
        );
    }
    let holds = verdict(image_kib <= IMAGE_TARGET_KIB);
    let _ = writeln!(text, "| image, stripped, KiB | {image_kib:.0} | | 6144 | {holds} |");
    text
}

/// A part of docs/performance.md.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Kernel,
    Namespaces,
    Disks,
    DiskPrograms,
    DiskGrowth,
}

impl Part {
    /// The comments between which its table is.
    fn marks(self) -> (&'static str, &'static str) {
        match self {
            Part::Kernel => ("<!-- made by cargo xtask bench -->\n", "<!-- end of it -->\n"),
            Part::Disks => ("<!-- made by cargo xtask bench --disks -->\n", "<!-- end of the disks -->\n"),
            Part::DiskPrograms => {
                ("<!-- made by cargo xtask bench --disks --programs -->\n", "<!-- end of the programs -->\n")
            }
            Part::DiskGrowth => {
                ("<!-- made by cargo xtask bench --disks --plots -->\n", "<!-- end of the plots -->\n")
            }
            Part::Namespaces => ("<!-- made by cargo xtask bench --netns -->\n", "<!-- end of that -->\n"),
        }
    }
}

/// Shows a table and, with `--write`, puts it in its place.
fn finish(part: Part, table: &str, arguments: &BenchArguments) -> Result<()> {
    println!("{table}");
    if !arguments.write {
        return Ok(());
    }
    let path = workspace().join("docs/performance.md");
    let page = std::fs::read_to_string(&path).context("reading docs/performance.md")?;
    let rounds =
        format!("Medians of {} rounds; ± is half the distance between the extremes.", arguments.rounds);
    let page = replaced(&page, part.marks(), &format!("{rounds}\n\n{table}"))?;
    std::fs::write(&path, page).context("writing docs/performance.md")?;
    say("wrote docs/performance.md");
    Ok(())
}

/// The page with other text between two marks.
fn replaced(page: &str, (begin, end): (&str, &str), text: &str) -> Result<String> {
    let split = page.split_once(begin).and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = split.with_context(|| format!("docs/performance.md has no {begin}"))?;
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = super::replaced("head <a>old<b> tail", ("<a>", "<b>"), "new").unwrap();
        assert_eq!(page, "head <a>new<b> tail");
        assert!(super::replaced("head", ("<a>", "<b>"), "new").is_err());
    }
}
