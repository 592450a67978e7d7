//! The sheet: which rows there are, and what each result says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Groups of rows, each with its title and the rows' numbers in their order.
const GROUPS: [(&str, &str); 6] = [
    (
        "UDP (RFC 4787)",
        "U1 U2 U3 U3a U3b U4 U5 U6 U7 U8 U8a U9 U10 U11 U12 U13 U14 U15",
    ),
    (
        "TCP (RFC 5382)",
        "T1 T2 T2b T3 T4 T5 T6 T7 T8 T9 T10 T11 T12",
    ),
    ("ICMP (RFC 5508)", "I1 I2 I3 I4 I5 I6 I7 I8 I9 I10 I11"),
    ("Bindings (RFC 7857, 6888, 6864)", "N1 N2 N3 N4 N5 N6 N7"),
    (
        "Router (RFC 1812, 4443, 8200)",
        "R1 R2 R3 R4 R5 R5a R6 R7 R8 R9 R10",
    ),
    ("Exclusions and addresses", "E1 E2 E3 E4 E5"),
];

const HEAD: &str = "<!-- Made by `cargo xtask compliance` from what the tests saw. Do not edit. -->

# Masquerading against its requirements

Each row is a test of `tests/tests/nat`, named by its number there. It runs with tx checksumming on
and off; what is judged is packets captured on both sides of the gateway, of which every checksum
is verified and none may show an inside address outside. Mapping is endpoint-independent unless a
row says otherwise. Timers of minutes and hours are scaled to the seconds that the row names.
A *deviation* is from a recommendation or an option of an RFC, with its reason. What is *open* is required
and not met yet; the test shows what is so instead.
";

/// Is the results of all rows.
pub(super) struct Sheet(BTreeMap<String, Value>);

impl Sheet {
    /// Reads the results in a folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut results = BTreeMap::new();
        let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let context = || format!("read {}", path.display());
            let text = fs::read_to_string(&path).with_context(context)?;
            let result: Value = serde_json::from_str(&text).with_context(context)?;
            let id = result["id"].as_str().with_context(context)?.to_owned();
            results.insert(id, result);
        }
        Ok(Self(results))
    }

    /// Fails, with their numbers, if rows failed, were not tested, or are not known here.
    pub(super) fn require_complete(&self) -> Result<()> {
        let not_in_order: Vec<&str> = ids().filter(|id| self.verdict(id) == "FAIL").collect();
        if !not_in_order.is_empty() {
            bail!("rows failed or not tested: {}", not_in_order.join(" "));
        }
        let unknown: Vec<&str> = self
            .0
            .keys()
            .map(String::as_str)
            .filter(|id| !ids().any(|known| known == *id))
            .collect();
        if !unknown.is_empty() {
            bail!(
                "rows that the sheet has no place for: {}",
                unknown.join(" ")
            );
        }
        Ok(())
    }

    /// Returns the counts in a line.
    pub(super) fn brief(&self) -> String {
        let count = |verdict| ids().filter(|id| self.verdict(id) == verdict).count();
        format!(
            "{} rows: {} pass, {} deviations, {} open, {} failed",
            ids().count(),
            count("pass"),
            count("deviation"),
            count("open"),
            count("FAIL")
        )
    }

    /// Returns the sheet.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{HEAD}\n{}.\n", self.brief());
        for (title, rows) in GROUPS {
            text += &format!("\n## {title}\n\n");
            text += "| row | requirement | expected | seen | verdict |\n|---|---|---|---|---|\n";
            for id in rows.split(' ') {
                text += &self.row(id);
            }
        }
        text
    }

    fn row(&self, id: &str) -> String {
        let field = |name| self.field(id, name).replace('|', "\\|");
        let verdict = match (self.verdict(id), field("reason")) {
            (verdict @ ("deviation" | "open"), reason) => format!("{verdict}: {reason}"),
            (verdict, _) => verdict.to_owned(),
        };
        let [requirement, expected, seen] = ["requirement", "expected", "seen"].map(field);
        format!("| {id} | {requirement} | {expected} | {seen} | {verdict} |\n")
    }

    fn field(&self, id: &str, name: &str) -> &str {
        let result = self.0.get(id);
        let value = result.and_then(|result| result[name].as_str());
        value.unwrap_or(if name == "seen" { "not tested" } else { "" })
    }

    fn verdict(&self, id: &str) -> &str {
        match self.field(id, "verdict") {
            "" => "FAIL",
            verdict => verdict,
        }
    }
}

fn ids() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|(_, rows)| rows.split(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(verdict: &str) -> Sheet {
        let result = |id: &str| {
            let value = serde_json::json!({
                "id": id, "requirement": "MUST", "expected": "a | b", "seen": "it",
                "verdict": verdict, "reason": "a MAY",
            });
            (id.to_owned(), value)
        };
        Sheet(ids().map(result).collect())
    }

    #[test]
    fn complete_sheet_has_every_row_once() {
        let sheet = sheet("pass");

        sheet.require_complete().expect("it is complete");
        let rows = sheet
            .text()
            .matches(" | MUST | a \\| b | it | pass |")
            .count();
        assert_eq!(rows, ids().count());
    }

    #[test]
    fn deviations_have_their_reason() {
        assert!(sheet("deviation").text().contains("| deviation: a MAY |"));
        assert!(sheet("open").text().contains("| open: a MAY |"));
    }

    #[test]
    fn failed_missing_and_unknown_rows_are_named() {
        let error = sheet("FAIL").require_complete().expect_err("all failed");
        assert!(error.to_string().contains("U1 U2"), "{error}");

        let mut missing = sheet("pass");
        missing.0.remove("T12");
        assert!(missing.text().contains("| T12 |  |  | not tested | FAIL |"));
        let error = missing.require_complete().expect_err("one is missing");
        assert!(error.to_string().ends_with(" T12"), "{error}");

        let mut unknown = sheet("pass");
        unknown.0.insert("Z1".to_owned(), Value::Null);
        let error = unknown.require_complete().expect_err("one is not known");
        assert!(error.to_string().ends_with(" Z1"), "{error}");
    }
}
