//! A file that is taken anew, or not: what is told of it, and what follows.

use std::time::Instant;

use super::protocol::{Reload, ReloadResult};
use super::watch::Watch;
use super::{Rejection, Why, warning};
use crate::plan::Plan;

impl Watch<'_> {
    /// Reads the file anew and makes the node what it says, if it can be.
    pub(super) fn reload(&mut self, why: Why) -> Reload {
        let begun = Instant::now();
        self.manager.reloading();
        if let Err(error) = self.sources.edits.begin() {
            log::warn!("{}: {error}", warning::FAILED);
        }
        let file = self.node.file().to_owned();
        let outcome = self.node.reload(why);
        let took = begun.elapsed();
        let (result, steps, error) = match outcome {
            Ok(plan) => {
                self.sources.edits.end();
                if self.record.applied(&file) {
                    log::info!("{} is good again", file.display());
                }
                match &plan {
                    Some(plan) => self.taken(begun, plan, why),
                    None => log::debug!("{} says what it did", file.display()),
                }
                let steps = plan.map_or(0, |plan| plan.steps.len());
                let result = if steps == 0 {
                    ReloadResult::Unchanged
                } else {
                    ReloadResult::Applied
                };
                (result, steps, None)
            }
            Err(rejection) => {
                let text = rejection.cause().to_string();
                let is_new = self.record.refused(&file, &text);
                if is_new || why == Why::Asked {
                    let code = warning::NOT_RELOADED;
                    log::warn!(
                        "{code}: the file is not taken, what was applied before holds:\n{text}"
                    );
                }
                (self.rejected(&rejection), 0, Some(text))
            }
        };
        let brief = self.brief();
        self.manager.ready(brief);
        self.record.reloaded(result, steps, took, error)
    }

    fn taken(&mut self, begun: Instant, plan: &Plan, why: Why) {
        self.schedule.begin();
        self.succeed(begun);
        if plan.is_empty() && why == Why::Edited {
            let file = self.node.file().display();
            log::debug!("{file} is taken anew, and nothing is to be done");
        } else {
            self.renewed(plan);
        }
    }

    /// Decides whether a file that was not taken is tried again before it is edited. Not one that
    /// was undone: each attempt changes the node for a moment.
    fn rejected(&mut self, rejection: &Rejection) -> ReloadResult {
        match rejection {
            Rejection::Wrong(_) => {
                self.sources.edits.end();
                ReloadResult::Refused
            }
            Rejection::Hindered(_) => {
                self.sources.edits.fail(Instant::now());
                ReloadResult::Failed
            }
            Rejection::Undone(_) => {
                self.sources.edits.end();
                ReloadResult::Failed
            }
        }
    }

    /// Tells what another file changed; what was repaired under the old one does not count.
    pub(super) fn renewed(&mut self, plan: &Plan) {
        self.back_off = super::back_off::BackOff::default();
        for step in &plan.steps {
            let sign = step.action().sign();
            log::info!("{sign} {} ({})", plan.command(step), step.reason);
        }
        log::info!("the file is taken anew: {}", plan.summary());
    }
}
