//! Tells the micro benches which compiler built them: instruction counts move with it.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("--version").output().map(|said| said.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    // The number alone: "rustc 1.95.0 (59807616e 2026-04-14)".
    let version = said.split_whitespace().nth(1).unwrap_or("unknown");
    println!("cargo:rustc-env=MICRO_RUSTC={version}");
    println!("cargo:rerun-if-changed=build.rs");
}
