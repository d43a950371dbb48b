//! Writes `numbers.rs`: system call numbers under their lower-case names, from `linux_abi::nr`.

use std::fmt::Write as _;

fn main() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("abi/src/nr.rs");
    println!("cargo::rerun-if-changed={}", source.display());
    let text = std::fs::read_to_string(&source).expect("linux-abi lies beside this crate");
    let mut out =
        String::from("#![allow(dead_code, reason = \"not every call is served\")]\n").replacen("#!", "//", 1);
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("pub const ") else { continue };
        let Some((name, _)) = rest.split_once(':') else { continue };
        if name != "LIMIT" {
            let lower = name.to_lowercase();
            let _ = writeln!(
                out,
                "#[allow(dead_code, reason = \"not every call is served\")]\npub const r#{lower}: u64 = linux_abi::nr::{name};"
            );
        }
    }
    let target = std::path::Path::new(&std::env::var("OUT_DIR").expect("set by cargo")).join("numbers.rs");
    std::fs::write(target, out).expect("the build directory is writable");
}
