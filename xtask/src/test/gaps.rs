//! `tests/known-gaps.txt`: what is known not to work on Linnet, so that a new failure is seen among the old ones.

use crate::util::workspace;
use anyhow::Result;
use std::collections::BTreeSet;

/// The names of guest cases and boots, and BusyBox command lines as `$ LINE`.
pub struct Gaps(BTreeSet<String>);

impl Gaps {
    /// Reads the file; while Linux is recorded, nothing is excused.
    pub fn read(record: bool) -> Result<Gaps> {
        if record {
            return Ok(Gaps(BTreeSet::new()));
        }
        let text = std::fs::read_to_string(workspace().join("tests/known-gaps.txt"))?;
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(Gaps(lines.map(str::to_owned).collect()))
    }

    /// Whether this is a known gap.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Tells when a gap has been closed.
    pub fn note_pass(&self, name: &str) {
        if self.contains(name) {
            println!("  {name} passes now: take it out of tests/known-gaps.txt");
        }
    }
}
