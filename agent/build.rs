//! Builds the BPF object that the binary carries.
//!
//! A nested cargo compiles the binary `ciliate-bpf` of package `ciliate-ebpf` for `bpfel-unknown-none` with `core` built from
//! source, which stable accepts under `RUSTC_BOOTSTRAP=1`; that variable is set for the child alone. The object must have no
//! undefined symbol: bpf-linker reports none of them, and the kernel would refuse the program only at load. The result is
//! `$OUT_DIR/datapath.o` and the variable `CILIATE_BPF_DIGEST`, the first 16 hex digits of the object's SHA-256, by which the
//! agent tells its own programs from those of another build.
//!
//! The nested target folder is one for all profiles, and no path of this machine enters the object: the same sources give the
//! same digest under `build`, `check`, `clippy` and `test`, and in every clone.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use object::build::elf::{Builder, SectionData};
use object::{Object, ObjectSymbol, elf};
use sha2::{Digest, Sha256};

const BPF_TARGET: &str = "bpfel-unknown-none";

/// Hex digits of the digest: 64 bits, of which no two builds on a machine collide.
const DIGEST_LEN: usize = 16;

/// Features that other programs are made with, for tests.
const FEATURES: [&str; 2] = ["next-schema", "other-programs"];

/// What cargo sets for this script or this build and the nested build must not inherit.
const OUTER_PREFIXES: [&str; 9] = [
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "DEP_",
];
const OUTER_NAMES: [&str; 9] = [
    "CARGO_INCREMENTAL",
    "DEBUG",
    "HOST",
    "OPT_LEVEL",
    "OUT_DIR",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "TARGET",
];

/// The release profile of the workspace is made for the agent; these are for the kernel's verifier and loader.
const PROFILE: [(&str, &str); 8] = [
    ("OPT_LEVEL", "3"),
    ("CODEGEN_UNITS", "1"),
    ("LTO", "off"), // bpf-linker links bitcode, which is the same optimisation
    ("PANIC", "abort"),
    ("STRIP", "none"),
    ("DEBUG", "2"), // becomes BTF
    ("DEBUG_ASSERTIONS", "false"),
    ("OVERFLOW_CHECKS", "false"),
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.parent().ok_or("agent/ has no parent folder")?;
    let linker = workspace.join("target/tools/bin/bpf-linker");
    for path in ["ebpf/src", "ebpf/Cargo.toml", "Cargo.lock"] {
        directive(
            "rerun-if-changed",
            &workspace.join(path).display().to_string(),
        );
    }
    directive("rerun-if-changed", &linker.display().to_string());

    let object = compile(workspace, &linker)?;
    let bytes = fs::read(&object).map_err(|error| format!("read {}: {error}", object.display()))?;
    refuse_undefined_symbols(&bytes)?;
    let bytes = without_debug_sections(&bytes)?;
    fs::write(Path::new(&variable("OUT_DIR")?).join("datapath.o"), &bytes)?;

    let digest = hex::encode(Sha256::digest(&bytes));
    directive(
        "rustc-env",
        &format!("CILIATE_BPF_DIGEST={}", &digest[..DIGEST_LEN]),
    );
    Ok(())
}

/// Runs the nested cargo and returns the path of the linked object.
fn compile(workspace: &Path, linker: &Path) -> Result<PathBuf, Box<dyn Error>> {
    if !linker.is_file() {
        return Err(format!(
            "link the BPF programs: {} is missing: run `cargo xtask setup`",
            linker.display()
        )
        .into());
    }
    let target_dir = workspace.join("target/bpf");
    let mut cargo = Command::new(variable("CARGO")?);
    forget_outer_build(&mut cargo);
    cargo
        .current_dir(workspace)
        .args(["build", "--release", "--locked", "-Z", "build-std=core"])
        .args(["--target", BPF_TARGET])
        .args(["--package", "ciliate-ebpf", "--bin", "ciliate-bpf"])
        .args(["--features", &features()])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTC", variable("RUSTC")?)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(workspace)?);
    for (key, value) in PROFILE {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }

    let status = cargo
        .status()
        .map_err(|error| format!("run cargo for the BPF programs: {error}"))?;
    if !status.success() {
        return Err(format!("build the BPF programs: cargo ended with {status}").into());
    }
    Ok(target_dir.join(BPF_TARGET).join("release/ciliate-bpf"))
}

/// Returns the features of the agent that are those of the programs.
fn features() -> String {
    let on = FEATURES.iter().filter(|feature| {
        let name = feature.to_uppercase().replace('-', "_");
        env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
    });
    on.copied().collect::<Vec<_>>().join(",")
}

fn forget_outer_build(cargo: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if OUTER_NAMES.contains(&text.as_ref())
            || OUTER_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        {
            cargo.env_remove(&name);
        }
    }
}

/// The flags of the BPF crates, in cargo's encoding: separated by 0x1f.
fn rustflags(workspace: &Path) -> Result<String, Box<dyn Error>> {
    let sysroot = sysroot()?;
    let cargo_home = cargo_home()?;
    let flags = [
        // The generic CPU has neither 32-bit registers nor atomics that return a value.
        "-Ctarget-cpu=v3".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // Else even three bytes are set by a call to a loop, which the verifier follows each time.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        // aya-ebpf's register names in contexts; tc and XDP programs use none of them.
        format!(
            "--cfg=bpf_target_arch=\"{}\"",
            variable("CARGO_CFG_TARGET_ARCH")?
        ),
        format!("--remap-path-prefix={}=/cargo", cargo_home.display()),
        format!("--remap-path-prefix={sysroot}=/rust"),
        format!("--remap-path-prefix={}=/ciliate", workspace.display()),
    ];
    Ok(flags.join("\x1f"))
}

fn sysroot() -> Result<String, Box<dyn Error>> {
    let output = Command::new(variable("RUSTC")?)
        .args(["--print", "sysroot"])
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn cargo_home() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    Ok(Path::new(&variable("HOME")?).join(".cargo"))
}

/// Fails on symbols that nothing defines, for example `bcmp` from a comparison of long arrays.
fn refuse_undefined_symbols(bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let object = object::File::parse(bytes)?;
    let undefined: Vec<&str> = object
        .symbols()
        .filter(ObjectSymbol::is_undefined)
        .filter_map(|symbol| symbol.name().ok())
        .filter(|name| !name.is_empty())
        .collect();
    if undefined.is_empty() {
        return Ok(());
    }
    Err(format!(
        "link the BPF programs: undefined symbols: {} (a comparison or copy of a long array or slice becomes such a call)",
        undefined.join(", ")
    )
    .into())
}

/// Drops DWARF, from which bpf-linker has made BTF: two thirds of the object that nobody reads at run time.
fn without_debug_sections(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut object = Builder::read(bytes)?;
    for section in &mut object.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    object.delete_orphans();
    // LLVM keeps the names of sections and symbols in one table; the writer wants the former apart.
    let names = object.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    object.write(&mut stripped)?;
    Ok(stripped)
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("read ${name}: {error}"))
}

fn directive(key: &str, value: &str) {
    println!("cargo::{key}={value}");
}
