//! Which objects go with others, and come again with them. Pure.
//!
//! A repair is told and counted once, for the object that was lost and not for everything that
//! vanished with it. And who leaves an object alone leaves alone what cannot be without it.

use std::collections::BTreeSet;

use crate::plan::object::{Key, State};
use crate::plan::{Plan, Step};

/// Marks the name of an entry whose endpoint is not known because its link is gone.
const STALE: char = '#';

/// Returns the steps that are no consequence of another one.
pub fn causes(plan: &Plan) -> Vec<&Step> {
    let keys: BTreeSet<Key> = plan.steps.iter().map(|step| step.key.clone()).collect();
    let is_alone = keys.len() == 1;
    let a_link_changes = keys.iter().any(|key| matches!(key, Key::EndpointLink(_)));
    let is_cause = |step: &&Step| {
        if step.key == Key::Generation {
            return is_alone;
        }
        if let Key::EndpointEntry(name) = &step.key
            && name.starts_with(STALE)
        {
            return !a_link_changes;
        }
        !needs(&step.key).iter().any(|need| goes_with(need, &keys))
    };
    plan.steps.iter().filter(is_cause).collect()
}

/// Tells whether an object is one of `others`, or cannot be without one of them.
pub fn goes_with(key: &Key, others: &BTreeSet<Key>) -> bool {
    !others.is_empty()
        && (others.contains(key) || needs(key).iter().any(|need| goes_with(need, others)))
}

/// Returns what is left alone when an object of an endpoint cannot be repaired: the endpoint.
pub fn endpoint_of(key: &Key) -> Option<Key> {
    if let Key::EndpointLink(_) = key {
        return Some(key.clone());
    }
    needs(key).iter().find_map(endpoint_of)
}

/// Leaves out everything that goes with one of `others`.
pub fn without(mut state: State, others: &BTreeSet<Key>) -> State {
    state.retain(|key, _| !goes_with(key, others));
    state
}

/// Returns the objects that an object cannot be without: its owners, and some that do not own it.
fn needs(key: &Key) -> Vec<Key> {
    let mut needs: Vec<Key> = key.owners();
    if let Key::NodeEntry = key {
        needs.push(Key::HostLink);
    } else if let Key::EndpointEntry(name) = key {
        needs.push(Key::EndpointLink(name.clone()));
    } else if let Key::Attachment(..) = key {
        needs.push(Key::Datapath);
    } else if let Key::Route(link, _) = key {
        needs.push(Key::LinkUp(link.clone()));
    } else if let Key::Reassembly(_) = key {
        needs.push(Key::Datapath);
    } else if let Key::Datapath = key {
        needs.push(Key::Bpffs);
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::object::{Hook, Link, Value};

    fn plan(keys: &[Key]) -> Plan {
        let step = |key: &Key| Step {
            key: key.clone(),
            before: None,
            after: Some(Value::LinkUp),
            reason: String::new(),
            risk: None,
        };
        Plan {
            steps: keys.iter().map(step).collect(),
            ..Plan::default()
        }
    }

    fn causes_of(keys: &[Key]) -> Vec<Key> {
        let plan = plan(keys);
        let causes = causes(&plan).into_iter();
        causes.map(|step| step.key.clone()).collect()
    }

    fn web() -> String {
        "web".to_owned()
    }

    #[test]
    fn lost_link_is_told_once() {
        let prefix = "10.0.1.1/32".parse().expect("a prefix");
        let link = Key::EndpointLink(web());

        let causes = causes_of(&[
            link.clone(),
            Key::EndpointEntry("#7".to_owned()),
            Key::EndpointEntry(web()),
            Key::Attachment(Link::Lxc(web()), Hook::Ingress),
            Key::LinkUp(Link::Eth0(web())),
            Key::Route(Link::Eth0(web()), prefix),
            Key::Generation,
        ]);

        assert_eq!(causes, [link]);
    }

    #[test]
    fn objects_that_were_lost_for_themselves_are_all_told() {
        let all = [
            Key::Attachment(Link::Lxc(web()), Hook::Ingress),
            Key::LinkUp(Link::Host),
        ];

        assert_eq!(causes_of(&all), all);
        assert_eq!(causes_of(&[Key::Generation]), [Key::Generation]);
    }

    #[test]
    fn objects_of_an_endpoint_know_it() {
        let prefix = "0.0.0.0/0".parse().expect("a prefix");
        let link = Some(Key::EndpointLink(web()));

        assert_eq!(endpoint_of(&Key::EndpointEntry(web())), link);
        assert_eq!(endpoint_of(&Key::Route(Link::Eth0(web()), prefix)), link);
        assert_eq!(endpoint_of(&Key::Route(Link::Host, prefix)), None);
    }

    #[test]
    fn routes_go_with_their_link_that_is_down() {
        let prefix = "10.0.1.0/24".parse().expect("a prefix");
        let up = Key::LinkUp(Link::Host);

        let causes = causes_of(&[up.clone(), Key::Route(Link::Host, prefix)]);

        assert_eq!(causes, [up]);
    }

    #[test]
    fn endpoint_that_is_left_out_leaves_nothing() {
        let state = State::from([
            (Key::EndpointEntry(web()), Value::LinkUp),
            (Key::LinkUp(Link::Eth0(web())), Value::LinkUp),
            (Key::LinkUp(Link::Host), Value::LinkUp),
        ]);

        let left = without(state, &BTreeSet::from([Key::EndpointLink(web())]));

        let keys: Vec<Key> = left.into_keys().collect();
        assert_eq!(keys, [Key::LinkUp(Link::Host)]);
    }
}
