//! Gives the linker the kernel's layout when the image is built for the bare machine.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rerun-if-changed=linker.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo::rustc-link-arg-bins=-T{folder}/linker.ld");
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
