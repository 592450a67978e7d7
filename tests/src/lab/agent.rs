//! The binary under test, run as an operator runs it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::namespace::{Namespace, Outcome};

/// Returns the path of the binary: `$CILIATE_BINARY`, or the one beside the tests.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("CILIATE_BINARY") {
        return path.into();
    }
    let test = env::current_exe().expect("find this program");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in deps/");
    let path = profile.join("ciliate");
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p ciliate`, or set CILIATE_BINARY",
        path.display()
    );
    path
}

/// Returns the path of a program that tests upgrade to, or of the binary under test.
///
/// # Panics
/// If nobody has built it.
pub fn variant(name: &str) -> PathBuf {
    if name == "ciliate" {
        return binary();
    }
    let test = env::current_exe().expect("find this program");
    let profile = test.parent().and_then(Path::parent);
    let path = profile.expect("tests lie in deps/").join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask variants`",
        path.display()
    );
    path
}

/// Tells whether the binary is an optimised one, whose times count.
pub fn is_release() -> bool {
    binary()
        .components()
        .any(|part| part.as_os_str() == "release")
}

/// Runs the binary in a namespace with arguments that are separated by blanks.
pub fn ciliate(place: &Namespace, line: &str) -> Outcome {
    place.execute(Command::new(binary()).args(line.split_whitespace()))
}

/// Runs the binary, which must end with `code`.
pub fn expect(place: &Namespace, line: &str, code: i32) -> Outcome {
    let outcome = ciliate(place, line);
    assert_eq!(
        outcome.code,
        Some(code),
        "should end with {code}: {outcome:#?}"
    );
    outcome
}

/// Runs the binary with `--json` and returns what it says.
pub fn json(place: &Namespace, line: &str) -> Value {
    let outcome = expect(place, &format!("--json {line}"), 0);
    serde_json::from_str(&outcome.stdout).expect("`--json` prints JSON")
}
