//! Links the unwinder into the command, so that on Linux with glibc it needs the C library alone.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let is_static = set("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    if set("CARGO_CFG_TARGET_OS") != "linux" || set("CARGO_CFG_TARGET_ENV") != "gnu" || is_static {
        return;
    }
    let linker = match set("RUSTC_LINKER") {
        named if !named.is_empty() => named,
        _ if set("HOST") == set("TARGET") => "cc".to_owned(),
        _ => return,
    };
    // A compiler prints the bare name of a library it does not have. Then libgcc_s is loaded at run time, as usual.
    let found = Command::new(linker).arg("-print-file-name=libgcc_eh.a").output();
    if found.is_ok_and(|output| output.status.success() && output.stdout.starts_with(b"/")) {
        for argument in ["-Wl,--push-state,-Bstatic,--whole-archive", "-lgcc_eh", "-Wl,--pop-state"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
