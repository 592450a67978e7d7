//! What the agent knows, told to the log when USR1 asks for it.

use std::fs;
use std::time::Instant;

use super::protocol::{AgentStatus, ConfigState, Reload};
use super::watch::Watch;

impl Watch<'_> {
    /// Tells the log everything.
    pub(super) fn dump(&mut self) {
        for line in self.lines() {
            log::info!("dump: {line}");
        }
    }

    fn lines(&mut self) -> Vec<String> {
        let now = Instant::now();
        let mut lines = about(&self.status());
        let next = self.schedule.next().saturating_duration_since(now);
        lines.push(format!("looks at the node in {} ms", next.as_millis()));
        if let Some(next) = self.sources.edits.next() {
            let next = next.saturating_duration_since(now);
            lines.push(format!("reads the file in {} ms", next.as_millis()));
        }
        if let Some(trouble) = &self.trouble {
            lines.push(format!("trouble: {trouble}"));
        }
        match self.node.differences(&self.back_off.spared()) {
            Ok(plan) if plan.is_empty() => lines.push("the node is as it shall be".to_owned()),
            Ok(plan) => {
                let step = |step| format!("differs: {} ({})", plan.command(step), step.reason);
                lines.extend(plan.steps.iter().map(step));
            }
            Err(cause) => lines.push(format!("the node cannot be looked at: {cause}")),
        }
        let maps = self.node.maps().into_iter().map(|map| {
            let (name, entries, max) = (map.name, map.entries, map.max_entries);
            format!(
                "map {name}: {entries} of {max} entries, {} bytes",
                map.bytes
            )
        });
        lines.extend(maps);
        // Less the one that lists them.
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() - 1);
        lines.push(format!("{descriptors} descriptors are open"));
        lines
    }
}

fn about(status: &AgentStatus) -> Vec<String> {
    let config = &status.config;
    let state = match config.state {
        ConfigState::Applied => "applied",
        ConfigState::Refused => "refused",
    };
    let since = config.since.as_deref().unwrap_or_default();
    let mut lines = vec![
        format!("process {} since {}", status.pid, status.since),
        format!("{} is {state} since {since}", config.file.display()),
        format!("{} repairs", status.drift.repairs),
    ];
    let error = config.error.iter().flat_map(|error| error.lines());
    lines.extend(error.map(|line| format!("  {line}")));
    lines.extend(
        status
            .last_reload
            .as_ref()
            .map(|reload| format!("last reload: {}", words(reload))),
    );
    let spared = status.spared.iter().map(|spared| {
        let author = spared.author.as_deref().unwrap_or("unknown");
        format!(
            "left alone for {} ms, repaired {} times, undone by {author}: {}",
            spared.left_ms, spared.repairs, spared.object
        )
    });
    lines.extend(spared);
    lines
}

/// Says in words how a file was read anew.
pub fn words(reload: &Reload) -> String {
    use super::protocol::ReloadResult::{Applied, Failed, Refused, Unchanged};
    let result = match reload.result {
        Applied => format!("applied, {} steps", reload.steps),
        Unchanged => "nothing to do".to_owned(),
        Refused => "the file was wrong".to_owned(),
        Failed => "the kernel refused".to_owned(),
    };
    let (millis, tenths) = (reload.took_us / 1000, reload.took_us / 100 % 10);
    format!("{result}, in {millis}.{tenths} ms, at {}", reload.time)
}
