//! `cargo xtask bench --netns`: network namespaces and sockets on both kernels; how costs grow is drawn.
//!
//! The program prints `NAME<TAB>VALUE` for a row and `NAME@SIZE<TAB>VALUE` for a point of a curve (see `bench/src/netns`).

use super::plot::{Curve, Plot};
use super::{BenchArguments, Pair, Results, pair, verdict};
use crate::qemu::Vm;
use crate::util::{say, workspace};
use anyhow::{Context, Result};
use std::fmt::Write;

/// How a value is shown.
#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    /// What the program's value is divided by.
    divisor: f64,
}

const NANOSECONDS: Unit = Unit { name: "ns", divisor: 1.0 };
const MICROSECONDS: Unit = Unit { name: "µs", divisor: 1e3 };
const MILLISECONDS: Unit = Unit { name: "ms", divisor: 1e6 };
const KIB: Unit = Unit { name: "KiB", divisor: 1.0 };

/// What a row shall reach.
#[derive(Clone, Copy)]
enum Target {
    /// At most this part of Linux's value.
    Part(f64),
    /// At most this value.
    AtMost(f64),
    /// The largest is at most so many times the smallest, however the size grows.
    Flat(f64),
    /// Nothing: it is shown beside another row.
    Told,
}

struct Row {
    name: &'static str,
    unit: Unit,
    target: Target,
}

const fn row(name: &'static str, unit: Unit, target: Target) -> Row {
    Row { name, unit, target }
}

const ROWS: &[Row] = &[
    row("create a namespace", MICROSECONDS, Target::Part(1.0 / 20.0)),
    row("memory of a namespace", KIB, Target::AtMost(16.0)),
    row("destroy one: RTM_DELNSID", MICROSECONDS, Target::Part(1.0 / 20.0)),
    row("destroy one: gone", MICROSECONDS, Target::Part(1.0 / 20.0)),
    row("destroy 200: all gone", MICROSECONDS, Target::Part(1.0 / 20.0)),
    row("memory not free again, of each", KIB, Target::Told),
    row("give an id", MICROSECONDS, Target::Part(1.0)),
    row("create, veth, destroy", MICROSECONDS, Target::Part(1.0 / 5.0)),
    row("create, veth, address, route, ping, destroy", MICROSECONDS, Target::Part(1.0 / 5.0)),
];

/// A row that depends on a size.
struct Growth {
    name: &'static str,
    /// The name of its file.
    file: &'static str,
    title: &'static str,
    across: &'static str,
    unit: Unit,
    target: Target,
}

const GROWTHS: &[Growth] = &[
    Growth {
        name: "ids of L dying in M living",
        file: "netns-ids.svg",
        title: "L = M namespaces, an id for every pair: all ids gone",
        across: "L = M = N, namespaces that die, that live, ids in each",
        unit: MILLISECONDS,
        target: Target::Part(1.0 / 4.0),
    },
    Growth {
        name: "one dies beside ids of others",
        file: "netns-others.svg",
        title: "One namespace dies; M others have N ids that do not name it",
        across: "M × N, ids that have nothing to do with it",
        unit: MILLISECONDS,
        target: Target::Flat(2.0),
    },
    Growth {
        name: "dump of M links",
        file: "netns-dump.svg",
        title: "A dump of M veth links with their peers in M namespaces",
        across: "M, links",
        unit: MILLISECONDS,
        target: Target::Part(1.0),
    },
    Growth {
        name: "link add",
        file: "netns-link-add.svg",
        title: "One more link, with its name",
        across: "links that are there",
        unit: MICROSECONDS,
        target: Target::Part(1.0),
    },
    Growth {
        name: "link add, name of a pattern",
        file: "netns-link-pattern.svg",
        title: "One more link, named d%d",
        across: "links that are there",
        unit: MICROSECONDS,
        target: Target::Part(1.0),
    },
    Growth {
        name: "lookup in N routes",
        file: "netns-routes.svg",
        title: "connect(2) of a UDP socket: a look-up in N routes",
        across: "N, routes",
        unit: NANOSECONDS,
        target: Target::Part(1.0),
    },
];

/// What `--netns` measured.
pub struct Measured {
    namespaces: Pair,
    sockets: Pair,
}

/// Boots both kernels in turn.
pub fn measure(linnet: &Vm, linux: &Vm, program: &[u8], arguments: &BenchArguments) -> Result<Measured> {
    // Linux needs 200 MB for 1,000 namespaces.
    let larger = |vm: &Vm| Vm { memory_mib: 1024, ..vm.clone() };
    Ok(Measured {
        sockets: pair(linnet, linux, program, 1, "sockets", arguments)?,
        namespaces: pair(&larger(linnet), &larger(linux), program, 2, "netns", arguments)?,
    })
}

/// The points of a curve, in their order.
fn points(results: &Results, name: &str, unit: Unit) -> Vec<(f64, f64)> {
    let size_of = |key: &String| key.strip_prefix(name)?.strip_prefix('@')?.parse::<f64>().ok();
    let sizes = results.order.iter().filter_map(|key| Some((size_of(key)?, results.median(key)?)));
    sizes.map(|(size, value)| (size, value / unit.divisor)).collect()
}

fn shown(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// What a target says and whether it is reached.
fn judge(target: Target, here: f64, there: Option<f64>) -> (String, &'static str) {
    match target {
        Target::Part(part) => {
            let reached = there.map_or("", |there| verdict(here <= there * part));
            (if part == 1.0 { "Linux's".to_owned() } else { format!("1/{:.0}", 1.0 / part) }, reached)
        }
        Target::AtMost(most) => (format!("{most:.0}"), verdict(here <= most)),
        Target::Flat(_) | Target::Told => (String::new(), ""),
    }
}

fn line(text: &mut String, (name, unit): (&str, Unit), target: Target, here: &Results, there: &Results) {
    let Some(value) = here.median(name) else { return };
    let linux = there.median(name);
    let (wanted, reached) = judge(target, value, linux);
    let spread =
        |results: &Results| results.spread(name).map_or(String::new(), |s| format!("{:.0} %", s * 100.0));
    let _ = writeln!(
        text,
        "| {name}, {} | {} | {} | {} | {} | {} | {wanted} | {reached} |",
        unit.name,
        shown(value / unit.divisor),
        spread(here),
        linux.map_or(String::new(), |linux| shown(linux / unit.divisor)),
        spread(there),
        linux.map_or(String::new(), |linux| format!("{:.3}", value / linux)),
    );
}

const HEAD: &str =
    "| Linnet | ± | Linux | ± | ratio | target | reached |\n|---|--:|--:|--:|--:|--:|--:|---|\n";

impl Measured {
    /// The tables, as Markdown.
    pub fn table(&self) -> String {
        let mut text = format!("| network namespaces, 2 CPUs {HEAD}");
        for row in ROWS {
            line(
                &mut text,
                (row.name, row.unit),
                row.target,
                &self.namespaces.linnet,
                &self.namespaces.linux,
            );
        }
        let _ = write!(text, "\n| sockets, 1 CPU {HEAD}");
        for name in
            self.sockets.linux.order.iter().filter(|name| !["memory", "boot"].contains(&name.as_str()))
        {
            line(
                &mut text,
                (name, NANOSECONDS),
                Target::Part(1.0),
                &self.sockets.linnet,
                &self.sockets.linux,
            );
        }
        for growth in GROWTHS {
            self.growth(growth, &mut text);
        }
        text
    }

    fn growth(&self, growth: &Growth, text: &mut String) {
        let here = points(&self.namespaces.linnet, growth.name, growth.unit);
        let there = points(&self.namespaces.linux, growth.name, growth.unit);
        if here.is_empty() {
            return;
        }
        let _ = write!(
            text,
            "\n![{}]({})\n\n| {} | Linnet, {unit} | Linux, {unit} | ratio | target | reached |\n|--:|--:|--:|--:|--:|---|\n",
            growth.title,
            growth.file,
            growth.across,
            unit = growth.unit.name
        );
        for (size, value) in &here {
            let linux = there.iter().find(|(other, _)| other == size).map(|(_, value)| *value);
            let (wanted, reached) = judge(growth.target, *value, linux);
            let (other, ratio) = linux.map_or((String::new(), String::new()), |linux| {
                (shown(linux), format!("{:.3}", value / linux))
            });
            let _ =
                writeln!(text, "| {size} | {} | {other} | {ratio} | {wanted} | {reached} |", shown(*value));
        }
        if let Target::Flat(times) = growth.target {
            let most = here.iter().map(|(_, value)| *value).fold(f64::MIN, f64::max);
            let least = here.iter().map(|(_, value)| *value).fold(f64::MAX, f64::min);
            let _ = writeln!(
                text,
                "\nFlat on Linnet (the largest at most {times} times the smallest): {:.2}, {}.",
                most / least,
                verdict(most <= least * times)
            );
        }
    }

    /// Writes the plots to `docs/`.
    pub fn write_plots(&self) -> Result<()> {
        for growth in GROWTHS {
            let curve = |name: &str, results: &Results| Curve {
                name: name.to_owned(),
                points: points(results, growth.name, growth.unit),
            };
            let curves =
                vec![curve("Linnet", &self.namespaces.linnet), curve("Linux", &self.namespaces.linux)];
            if curves.iter().any(|curve| curve.points.is_empty()) {
                continue;
            }
            let plot = Plot {
                title: growth.title.to_owned(),
                across: growth.across.to_owned(),
                up: format!("time, {}", growth.unit.name),
                curves,
            };
            let path = workspace().join("docs").join(growth.file);
            std::fs::write(&path, plot.svg()).with_context(|| format!("writing {}", path.display()))?;
            say(format_args!("wrote docs/{}", growth.file));
        }
        Ok(())
    }
}
