//! Rows of requirements, with what was seen of each.
//!
//! A row runs its checks twice, with tx checksumming on and off, each in a world of its own, and
//! leaves a file in the folder that `$CILIATE_COMPLIANCE` names. `cargo xtask compliance` makes the
//! sheet of these files: nothing in it is typed.

use std::cell::RefCell;
use std::env;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::thread;

use serde::Serialize;

use super::gateway::{Gateway, Options};
use super::offload::Offload;
use super::world::World;

/// Names the folder of results.
const VARIABLE: &str = "CILIATE_COMPLIANCE";

/// Is a row that is being tested; without a verdict at its end it has failed.
#[derive(Debug)]
pub struct Row {
    id: &'static str,
    requirement: &'static str,
    expected: &'static str,
    failure: RefCell<String>,
    is_settled: bool,
}

#[derive(Serialize)]
struct Result<'a> {
    id: &'a str,
    requirement: &'a str,
    expected: &'a str,
    seen: &'a str,
    verdict: &'a str,
    reason: &'a str,
}

impl Row {
    /// Begins a row: its number, the requirement with its source and strength, what must be seen.
    pub fn new(id: &'static str, requirement: &'static str, expected: &'static str) -> Self {
        assert!(
            env::var_os(VARIABLE).is_none() || Gateway::under_test() == Gateway::Ciliate,
            "the sheet is about ciliate"
        );
        Self {
            id,
            requirement,
            expected,
            failure: RefCell::default(),
            is_settled: false,
        }
    }

    /// Runs a check with tx checksumming off and on, which must give the same.
    pub fn check<T: Debug + PartialEq + Send>(
        &self,
        options: &Options,
        body: impl Fn(&World) -> T + Sync,
    ) -> T {
        let run = |offload| {
            let world = World::new(options, offload);
            let judged = || {
                let seen = body(&world);
                world.finish();
                seen
            };
            catch_unwind(AssertUnwindSafe(judged)).unwrap_or_else(|panic| {
                let drops = world.drops();
                eprintln!("tx checksumming {offload:?}; the gateway dropped: {drops:?}");
                resume_unwind(panic)
            })
        };
        let results = thread::scope(|scope| {
            let threads = Offload::BOTH.map(|offload| scope.spawn(move || run(offload)));
            threads.map(thread::ScopedJoinHandle::join)
        });
        let [off, on] = results.map(|result| {
            result.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                self.failure.replace(text.unwrap_or_default().to_owned());
                resume_unwind(panic)
            })
        });
        assert_eq!(
            off, on,
            "tx checksumming off and on should make no difference"
        );
        off
    }

    /// Ends the row: it is as it must be.
    pub fn pass(mut self, seen: &str) {
        self.settle(seen, "pass", "");
    }

    /// Ends the row: it is not as recommended, for a reason.
    pub fn declare(mut self, seen: &str, reason: &str) {
        self.settle(seen, "deviation", reason);
    }

    /// Ends the row: it is not as it must be yet, for a reason; the test shows what is so instead.
    pub fn open(mut self, seen: &str, reason: &str) {
        self.settle(seen, "open", reason);
    }

    fn settle(&mut self, seen: &str, verdict: &str, reason: &str) {
        self.is_settled = true;
        let Some(folder) = env::var_os(VARIABLE) else {
            return;
        };
        let result = Result {
            id: self.id,
            requirement: self.requirement,
            expected: self.expected,
            seen,
            verdict,
            reason,
        };
        let text = serde_json::to_string_pretty(&result).expect("text can be written");
        let file = Path::new(&folder).join(format!("{}.json", self.id));
        fs::write(&file, text).expect("write a result");
        give_to_owner_of(Path::new(&folder), &file);
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        if !self.is_settled {
            let failure = self.failure.take();
            self.settle(failure.lines().next().unwrap_or_default(), "FAIL", "");
        }
    }
}

/// Leaves a result to whoever makes the sheet: the tests run as root.
fn give_to_owner_of(folder: &Path, file: &Path) {
    let owner = fs::metadata(folder).expect("ask for the owner");
    chown(file, Some(owner.uid()), Some(owner.gid())).expect("give a result away");
}
