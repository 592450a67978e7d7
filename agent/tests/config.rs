//! Files that must be accepted, files that must be refused with exactly one text, and files that
//! are no files at all.
//!
//! `tests/config/bad/*.toml` each have their expected text beside them, `*.stderr`;
//! `UPDATE_GOLDEN=1` writes it anew. Every kind of error needs such a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ciliate::cli::check::validate;
use ciliate::config::{self, Config, Diagnostic, Kind, Report, Source, load};
use ciliate::topology::{Resolver, resolve};
use proptest::prelude::*;

/// Kinds that no file of reasonable size, or no file alone, can show.
const NOT_IN_FILES: [Kind; 4] = [
    Kind::MergedTypes,
    Kind::TooManyEndpoints,
    Kind::NodeChoice,
    Kind::PolicyTooLarge,
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder(name))
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    files
}

/// Does what `check` does, under the name of the file alone.
fn examine(name: &str, bytes: &[u8]) -> Result<Config, (Source, Vec<Diagnostic>)> {
    examine_all(&[(name.to_owned(), bytes.to_vec())])
}

/// Does the same for several files that are merged.
fn examine_all(files: &[(String, Vec<u8>)]) -> Result<Config, (Source, Vec<Diagnostic>)> {
    let files = files.iter();
    let source = Source::from_files(files.map(|(name, bytes)| (name.as_str(), bytes.as_slice())))?;
    let config = Config::read(&source).map_err(|errors| (source.clone(), errors))?;
    let faults: Vec<_> = config
        .nodes
        .iter()
        .filter_map(|node| resolve(&config, Some(node.name.get_ref()), None).err())
        .flatten()
        .collect();
    if faults.is_empty() {
        Ok(config)
    } else {
        Err((source, faults))
    }
}

/// Asserts what holds for the errors of any file.
fn assert_sound(source: &Source, errors: &[Diagnostic]) {
    assert!(!errors.is_empty(), "a refused file has an error");
    for error in errors {
        let spans = error
            .others
            .iter()
            .map(|(span, _)| span)
            .chain([&error.span]);
        for span in spans {
            assert!(
                source.files().iter().any(|file| {
                    let range = file.range();
                    span.start >= range.start
                        && file
                            .text()
                            .get(span.start - range.start..span.end - range.start)
                            .is_some()
                }),
                "span outside the file: {error:?}"
            );
        }
        let text = error.render(source);
        let header = text.lines().next().unwrap_or_default();
        let (line, column) = source.file(error.span.start).line_column(error.span.start);
        let path = source.file(error.span.start).path();
        let place = format!("{path}:{line}:{column}: error: ");
        assert!(
            header.starts_with(&place) && header.len() > place.len(),
            "{text}"
        );
    }
}

#[test]
fn bad_files_are_refused_with_the_expected_text() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    let files = files("tests/config/bad");
    for file in &files {
        let name = file.file_name().expect("a name").to_string_lossy();
        let bytes = fs::read(file).expect("readable");
        let (source, errors) = examine(&name, &bytes).expect_err(&name);
        assert_sound(&source, &errors);
        seen.extend(errors.iter().map(|error| error.kind));
        let text = format!("{}\n", Report::new(&source, &errors));
        let expectation = file.with_extension("stderr");
        if update {
            fs::write(&expectation, &text).expect("writable");
        } else if fs::read_to_string(&expectation).ok().as_ref() != Some(&text) {
            wrong.push(format!(
                "{}\nis not what {} says",
                text,
                expectation.display()
            ));
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(files.len() >= 34, "only {} files", files.len());
    let missing: Vec<_> = Kind::ALL
        .iter()
        .filter(|kind| !seen.contains(kind) && !NOT_IN_FILES.contains(kind))
        .collect();
    assert!(
        missing.is_empty(),
        "kinds of errors without a file: {missing:?}"
    );
}

#[test]
fn bad_files_and_their_drop_ins_are_refused_with_the_expected_text() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let mut kinds = BTreeSet::new();
    for entry in fs::read_dir(folder("tests/config/merged")).expect("the folder is there") {
        let place = entry.expect("an entry").path();
        let paths = config::folder::files(&place.join("ciliate.toml")).expect("a folder");
        let read = |path: &PathBuf| {
            let name = path.strip_prefix(&place).expect("a path below");
            let bytes = fs::read(path).expect("readable");
            (name.display().to_string(), bytes)
        };
        let read: Vec<_> = paths.iter().map(read).collect();
        let (source, errors) = examine_all(&read).expect_err(&place.display().to_string());
        assert_sound(&source, &errors);
        kinds.extend(errors.iter().map(|error| error.kind));
        let text = format!("{}\n", Report::new(&source, &errors));
        let expectation = place.join("expected.stderr");
        if update {
            fs::write(&expectation, &text).expect("writable");
        } else if fs::read_to_string(&expectation).ok().as_ref() != Some(&text) {
            let expectation = expectation.display();
            wrong.push(format!("{text}\nis not what {expectation} says"));
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(kinds.contains(&Kind::MergedTypes), "{kinds:?}");
}

#[test]
fn every_expectation_belongs_to_a_file() {
    let mut expectations = fs::read_dir(folder("tests/config/bad"))
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "stderr")
        });

    let orphan = expectations.find(|path| !path.with_extension("toml").exists());

    assert_eq!(orphan, None);
}

#[test]
fn good_files_and_examples_are_accepted() {
    let examples = files("../config-examples");
    assert!(!examples.is_empty());
    for file in files("tests/config/good").into_iter().chain(examples) {
        let (config, source) = load(&file).unwrap_or_else(|report| panic!("{report}"));
        validate(&Resolver::new(&config), &source, None)
            .unwrap_or_else(|report| panic!("{report}"));
    }
}

#[test]
fn too_many_endpoints_are_refused() {
    use std::fmt::Write as _;
    let mut text = "[[node]]\nname = \"edge-1\"\nipv4 = \"10.0.0.0/8\"\n".to_owned();
    for i in 0..4095 {
        write!(text, "[[endpoint]]\nname = \"endpoint-{i}\"\n").expect("a string");
    }

    let errors = Config::parse("a.toml", &text).expect_err("too many");

    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].kind, Kind::TooManyEndpoints);
    let last = text.rfind("[[endpoint]]\n");
    assert_eq!(
        Some(errors[0].span.start),
        last,
        "the first one that is too many"
    );
}

/// Writes over, removes from or adds to a text.
fn mutate(bytes: &mut Vec<u8>, mutations: &[(usize, u8, u8)]) {
    const TOKENS: [&str; 12] = [
        "\"",
        "[",
        "]",
        "{",
        "}",
        "=",
        "\n",
        "\\",
        "[[node]]\n",
        "ö",
        "'''",
        "0",
    ];
    for &(at, what, byte) in mutations {
        let at = at % (bytes.len() + 1);
        match what % 4 {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            _ => {
                let token = TOKENS[usize::from(byte) % TOKENS.len()];
                drop(bytes.splice(at..at, token.bytes()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err((source, errors)) = examine("a.toml", &bytes) {
            assert_sound(&source, &errors);
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "[\\[\\]{}=\"'#.,a-c0-2 \\n\\\\ö\t\r]{0,120}") {
        if let Err((source, errors)) = examine("a.toml", text.as_bytes()) {
            assert_sound(&source, &errors);
        }
    }

    #[test]
    fn changed_good_files_are_read_without_a_panic(
        mutations in proptest::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = include_bytes!("config/good/everything.toml").to_vec();

        mutate(&mut bytes, &mutations);

        if let Err((source, errors)) = examine("a.toml", &bytes) {
            assert_sound(&source, &errors);
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_overflows_nothing() {
    let deep = [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{ a = ".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
    ];

    for text in deep {
        let (source, errors) = examine("a.toml", text.as_bytes()).expect_err("too deep");
        assert_sound(&source, &errors);
    }
}
