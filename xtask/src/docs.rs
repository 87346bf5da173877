//! `cargo xtask docs`: the API reference as HTML.

use crate::util::{cargo, run, target_dir, workspace};
use anyhow::Result;

/// `cargo xtask docs`.
pub fn command() -> Result<u8> {
    build()?;
    println!("{}", target_dir().join("doc/index.html").display());
    Ok(0)
}

/// Builds the API reference of all our crates, with warnings as errors.
pub fn build() -> Result<()> {
    run(cargo()
        .args([
            "doc",
            "--quiet",
            "--no-deps",
            "--workspace",
            "--document-private-items",
            "--exclude",
            "linnet",
        ])
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")
        .current_dir(workspace()))
}

/// Links in our Markdown files to files that are not there.
pub fn dead_links() -> Result<Vec<String>> {
    let mut dead = Vec::new();
    for page in crate::util::files_below(&workspace(), "md") {
        let text = std::fs::read_to_string(&page)?;
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let is_elsewhere = file.is_empty() || file.contains("://") || file.contains(' ');
            if !is_elsewhere && page.parent().is_some_and(|dir| !dir.join(file).exists()) {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    Ok(dead)
}
