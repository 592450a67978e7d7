//! Settings of the translation: timeouts that peers can rely on, and none that does nothing.

use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::draft::Draft;
use crate::config::timeout::duration;
use crate::plan::object::{Filtering, Mapping};

pub(super) fn check(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    check_timeouts(draft, errors);
    check_filtering(draft, errors);
}

fn check_timeouts(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    let masquerade = &draft.masquerade;
    let is_allowed = match masquerade.unsafe_timeouts.given() {
        Some(allowed) => *allowed.get_ref(),
        // Whoever wrote the key and got it wrong hears of that first.
        None => !masquerade.unsafe_timeouts.is_absent(),
    };
    if is_allowed {
        return;
    }
    for (timeout, minimum) in masquerade.timeouts.with_minimums() {
        let Some(given) = timeout.given() else {
            continue;
        };
        if *given.get_ref() < minimum.secs {
            let message = format!("timeout is below {}", duration(minimum.secs));
            errors.push(
                Diagnostic::new(Kind::TimeoutTooShort, given.span(), message)
                    .label(format!("the least that {} allows", minimum.source))
                    .help("`unsafe_timeouts = true` in [masquerade] allows it all the same"),
            );
        }
    }
}

/// A symmetric mapping is one for each remote port: nobody else can be let in through it.
fn check_filtering(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    let masquerade = &draft.masquerade;
    let Some(filtering) = masquerade.filtering.given() else {
        return;
    };
    let mapping = masquerade.mapping.given();
    let is_symmetric = match mapping {
        Some(mapping) => *mapping.get_ref() == Mapping::Symmetric,
        None => masquerade.mapping.is_absent(),
    };
    if *filtering.get_ref() == Filtering::EndpointIndependent && is_symmetric {
        let message = "filtering `endpoint-independent` does nothing with a symmetric mapping";
        let error = Diagnostic::new(Kind::NoEffect, filtering.span(), message)
            .help("add `mapping = \"endpoint-independent\"`, or leave `filtering` out");
        errors.push(match mapping {
            Some(mapping) => error.other(mapping.span(), "the mapping"),
            None => error,
        });
    }
}
