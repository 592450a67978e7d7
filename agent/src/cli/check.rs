//! `ciliate check`: parse and validate a file; needs no privilege.

use std::io::{self, Write};
use std::path::Path;

use super::exit;
use super::instance::load_to_look;
use crate::config::{Report, Source};
use crate::topology::Resolver;

/// Validates a file for every node in it, and that it has the given node. What is wrong goes to
/// `err`; returns the exit code.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub fn check(
    file: &Path,
    node: Option<&str>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let verdict = load_to_look(file).and_then(|(config, source)| {
        validate(&Resolver::new(&config), &source, node)?;
        Ok(config)
    });
    match verdict {
        Ok(config) => {
            let nodes = count(config.nodes.len(), "node");
            let endpoints = count(config.endpoints.len(), "endpoint");
            writeln!(out, "{}: ok: {nodes}, {endpoints}", file.display())?;
            Ok(exit::OK)
        }
        Err(report) => {
            writeln!(
                err,
                "{report}\n\n{}: {}",
                file.display(),
                count(report.count(), "error")
            )?;
            Ok(exit::BAD_FILE)
        }
    }
}

/// Resolves every node of a file.
///
/// # Errors
/// Everything that hinders one of them, and a given node that the file does not have.
pub fn validate(
    resolver: &Resolver<'_>,
    source: &Source,
    node: Option<&str>,
) -> Result<(), Report> {
    let mut errors = Vec::new();
    let nodes = &resolver.config().nodes;
    let names = || nodes.iter().map(|node| node.name.get_ref().as_str());
    let stranger = node.filter(|node| names().all(|name| name != *node));
    for name in names().chain(stranger) {
        if let Err(more) = resolver.resolve(Some(name), None) {
            errors.extend(more);
        }
    }
    errors.sort_by_key(|error| (error.span.start, error.kind));
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Report::new(source, &errors))
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn run(text: &str, node: Option<&str>) -> (u8, String, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.toml");
        fs::write(&file, text).expect("write");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check(&file, node, &mut out, &mut err).expect("write into a vector");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (code, text(out), text(err))
    }

    #[test]
    fn a_good_file_is_summed_up() {
        let (code, out, err) = run("[[node]]\nname = \"edge-1\"\n", None);

        assert_eq!(code, exit::OK);
        assert!(out.ends_with("a.toml: ok: 1 node, 0 endpoints\n"), "{out}");
        assert_eq!(err, "");
    }

    #[test]
    fn errors_are_counted() {
        let (code, out, err) = run("[[node]]\nname = \"-\"\nx = 1\n", None);

        assert_eq!(code, exit::BAD_FILE);
        assert_eq!(out, "");
        assert!(err.contains("a.toml:2:8: error: "), "{err}");
        assert!(err.contains("a.toml:3:1: error: "), "{err}");
        assert!(err.ends_with("a.toml: 2 errors\n"), "{err}");
    }

    #[test]
    fn a_given_node_must_be_in_the_file() {
        let (code, _, err) = run("[[node]]\nname = \"edge-1\"\n", Some("edge-2"));

        assert_eq!(code, exit::BAD_FILE);
        assert!(err.contains("no node `edge-2`"), "{err}");
        assert!(err.contains("did you mean `edge-1`?"), "{err}");
    }
}
