//! Rows that depend on a size: a table of their points, and a plot beside docs/performance.md.
//!
//! The program prints `NAME@SIZE<TAB>NANOSECONDS` for a point. Key types: [`Growth`], [`Target`], [`Unit`].

use super::plot::{Curve, Plot};
use super::{Pair, Results, verdict};
use crate::util::{say, workspace};
use anyhow::{Context, Result};
use std::fmt::Write;

/// How a value is shown.
#[derive(Clone, Copy)]
pub struct Unit {
    /// Its symbol.
    pub name: &'static str,
    /// What the program's value is divided by.
    pub divisor: f64,
}

/// Nanoseconds, as the program tells them.
pub const NANOSECONDS: Unit = Unit { name: "ns", divisor: 1.0 };
/// Microseconds.
pub const MICROSECONDS: Unit = Unit { name: "µs", divisor: 1e3 };
/// Milliseconds.
pub const MILLISECONDS: Unit = Unit { name: "ms", divisor: 1e6 };
/// KiB, as the program tells them.
pub const KIB: Unit = Unit { name: "KiB", divisor: 1.0 };

/// What a row shall reach.
#[derive(Clone, Copy)]
pub enum Target {
    /// At most this part of Linux's value.
    Part(f64),
    /// At most this value.
    AtMost(f64),
    /// The largest is at most so many times the smallest, however the size grows.
    Flat(f64),
    /// Nothing: it is shown beside another row.
    Told,
}

/// A row that depends on a size.
pub struct Growth {
    /// The row's.
    pub name: &'static str,
    /// The name of its file.
    pub file: &'static str,
    /// What is shown.
    pub title: &'static str,
    /// What the size is.
    pub across: &'static str,
    /// Of the values.
    pub unit: Unit,
    /// At every size.
    pub target: Target,
}

/// The points of a curve, in their order.
fn points(results: &Results, name: &str, unit: Unit) -> Vec<(f64, f64)> {
    let size_of = |key: &String| key.strip_prefix(name)?.strip_prefix('@')?.parse::<f64>().ok();
    let sizes = results.order.iter().filter_map(|key| Some((size_of(key)?, results.median(key)?)));
    sizes.map(|(size, value)| (size, value / unit.divisor)).collect()
}

/// A value with three digits or so.
pub fn shown(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// What a target says and whether it is reached.
pub fn judge(target: Target, here: f64, there: Option<f64>) -> (String, &'static str) {
    match target {
        Target::Part(part) => {
            let reached = there.map_or("", |there| verdict(here <= there * part));
            (if part == 1.0 { "Linux's".to_owned() } else { format!("1/{:.0}", 1.0 / part) }, reached)
        }
        Target::AtMost(most) => (format!("{most:.0}"), verdict(here <= most)),
        Target::Flat(_) | Target::Told => (String::new(), ""),
    }
}

impl Growth {
    /// The plot's place and a table of its points, if there are any.
    pub fn write_table(&self, pair: &Pair, text: &mut String) {
        let here = points(&pair.linnet, self.name, self.unit);
        let there = points(&pair.linux, self.name, self.unit);
        if here.is_empty() {
            return;
        }
        let _ = write!(
            text,
            "\n![{}]({})\n\n| {} | Linnet, {unit} | Linux, {unit} | ratio | target | reached |\n|--:|--:|--:|--:|--:|---|\n",
            self.title,
            self.file,
            self.across,
            unit = self.unit.name
        );
        for (size, value) in &here {
            let linux = there.iter().find(|(other, _)| other == size).map(|(_, value)| *value);
            let (wanted, reached) = judge(self.target, *value, linux);
            let (other, ratio) = linux.map_or((String::new(), String::new()), |linux| {
                (shown(linux), format!("{:.3}", value / linux))
            });
            let _ =
                writeln!(text, "| {size} | {} | {other} | {ratio} | {wanted} | {reached} |", shown(*value));
        }
        if let Target::Flat(times) = self.target {
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
}

/// Writes the plots to `docs/`.
pub fn write_plots(growths: &[Growth], pair: &Pair) -> Result<()> {
    for growth in growths {
        let curve = |name: &str, results: &Results| Curve {
            name: name.to_owned(),
            points: points(results, growth.name, growth.unit),
        };
        let curves = vec![curve("Linnet", &pair.linnet), curve("Linux", &pair.linux)];
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
