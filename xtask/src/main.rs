//! Build, run, test, bench, check: the commands that people and CI call.

fn main() {}
