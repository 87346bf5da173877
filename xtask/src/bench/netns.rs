//! `cargo xtask bench --netns`: network namespaces and sockets on both kernels; how costs grow is drawn.
//!
//! The program prints `NAME<TAB>VALUE` for a row and `NAME@SIZE<TAB>VALUE` for a point of a curve (see `bench/src/netns`).

use super::growth::{self, Growth, KIB, MICROSECONDS, MILLISECONDS, NANOSECONDS, Target, Unit, judge, shown};
use super::{BenchArguments, Pair, Results, pair};
use crate::qemu::Vm;
use anyhow::Result;
use std::fmt::Write;

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
            growth.write_table(&self.namespaces, &mut text);
        }
        text
    }

    /// Writes the plots to `docs/`.
    pub fn write_plots(&self) -> Result<()> {
        growth::write_plots(GROWTHS, &self.namespaces)
    }
}
