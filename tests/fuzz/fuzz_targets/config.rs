//! Any text → the configuration: never a panic, and every error points into the file.
//!
//! The input is a text, or an edit of the example: where, how much to cut out, what to put in.

#![no_main]

use ciliate::config::{Config, Diagnostic, Source};
use libfuzzer_sys::fuzz_target;

const EXAMPLE: &str = include_str!("../../../config-examples/lab.toml");
const PATH: &str = "fuzz.toml";

/// The first byte of an input that is a text of its own.
const PLAIN: u8 = 0;

fuzz_target!(|input: &[u8]| {
    match *input {
        [PLAIN, ref text @ ..] => check(text),
        [_, high, low, cut, ref text @ ..] => {
            let at = usize::from(u16::from_be_bytes([high, low])) % (EXAMPLE.len() + 1);
            let end = (at + usize::from(cut)).min(EXAMPLE.len());
            let mut edited = EXAMPLE.as_bytes().to_vec();
            edited.splice(at..end, text.iter().copied());
            check(&edited);
        }
        _ => {}
    }
});

fn check(bytes: &[u8]) {
    let source = match Source::from_bytes(PATH, bytes) {
        Ok(source) => source,
        Err((source, diagnostic)) => {
            check_diagnostic(&source, &diagnostic);
            source
        }
    };
    let Err(errors) = Config::read(&source) else {
        return;
    };
    assert!(!errors.is_empty(), "a refused file has an error");
    for error in &errors {
        check_diagnostic(&source, error);
    }
}

fn check_diagnostic(source: &Source, diagnostic: &Diagnostic) {
    let (text, span) = (source.files()[0].text(), &diagnostic.span);
    assert!(
        text.get(span.clone()).is_some(),
        "{span:?} lies in the file"
    );
    let rendered = diagnostic.render(source);
    assert!(
        rendered.starts_with(PATH),
        "the message begins with the place: {rendered}"
    );
}
