//! Which packets are ours, and whether a rule's conditions can match them.
//!
//! Every packet that BPF host routing would move has an endpoint of this node on one side: it
//! comes from an endpoint's link and goes to a device or another endpoint, or comes from a
//! device and goes to an endpoint. What another link of the host sends to an endpoint goes
//! through the stack in either mode; so the networks of such links are not ours.
//!
//! Conditions that are not understood may match, and never do so surely.

use ipnet::IpNet;

use super::ruleset::{Base, Condition, Hook, Names, Span, Spans};
use crate::host::HOST_LINK;

/// Describes the packets that a node forwards for its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Host-side links of endpoints.
    pub endpoints: Vec<String>,
    /// Devices that packets are moved to and from.
    pub devices: Vec<String>,
    /// Where the endpoints of this node have their addresses.
    pub pools: Vec<IpNet>,
    /// Networks of links that have nothing to do with us.
    pub foreign: Vec<IpNet>,
}

/// Is all traffic from, or to, the endpoints of one pool.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    pub pool: IpNet,
    pub direction: Direction,
    traffic: &'a Traffic,
}

/// Tells which side of a flow the endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    FromEndpoints,
    ToEndpoints,
    /// To any address, from which a rule sends the packet on to an endpoint.
    TranslatedToEndpoints,
}

impl Traffic {
    /// Returns all flows: both directions of each pool.
    pub fn flows(&self) -> impl Iterator<Item = Flow<'_>> {
        let directions = [Direction::FromEndpoints, Direction::ToEndpoints];
        self.directed(directions)
    }

    /// Returns the flows that become ours on their way through a chain in a hook: those that
    /// somebody translates to endpoints. Their replies need whoever did that.
    pub fn translated(&self, base: &Base) -> impl Iterator<Item = Flow<'_>> {
        let possible = (base.hook == Hook::Prerouting).then_some(Direction::TranslatedToEndpoints);
        self.directed(possible)
    }

    fn directed<'a>(
        &'a self,
        directions: impl IntoIterator<Item = Direction> + Clone + 'a,
    ) -> impl Iterator<Item = Flow<'a>> {
        self.pools.iter().flat_map(move |pool| {
            let directions = directions.clone().into_iter();
            directions.map(|direction| Flow {
                pool: *pool,
                direction,
                traffic: self,
            })
        })
    }

    /// Tells whether packets that we move pass a chain in a hook.
    pub fn passes(&self, base: &Base) -> bool {
        match base.hook {
            Hook::Prerouting | Hook::Forward | Hook::Postrouting => true,
            Hook::Ingress | Hook::Egress => {
                let mut ours = self.devices.iter().chain(&self.endpoints);
                ours.any(|link| base.devices.contains(link))
            }
        }
    }
}

impl Flow<'_> {
    /// Tells whether the endpoints have addresses of IPv6.
    pub fn is_version6(self) -> bool {
        matches!(self.pool, IpNet::V6(_))
    }

    /// Tells whether some packet of the flow fulfils all conditions.
    pub fn may_match(self, conditions: &[Condition]) -> bool {
        conditions.iter().all(|condition| match condition {
            Condition::Incoming(names) => self.incoming().any(|name| names.contains(name)),
            Condition::Outgoing(names) => self.outgoing().any(|name| names.contains(name)),
            Condition::Source(spans) => self.may_be(spans, Direction::FromEndpoints),
            Condition::Destination(_) | Condition::LocalDestination if self.is_translated() => true,
            Condition::Destination(spans) => self.may_be(spans, Direction::ToEndpoints),
            Condition::Version6(version6) => *version6 == self.is_version6(),
            Condition::LocalDestination => false,
            Condition::Other(_) => true,
        })
    }

    /// Tells whether conditions leave room for the flow's packets from and to the devices, and do
    /// not only fit what endpoints send each other.
    pub fn may_be_outside(self, conditions: &[Condition]) -> bool {
        let Traffic { devices, pools, .. } = self.traffic;
        let by_device = |names: &Names| devices.iter().any(|device| names.contains(device));
        let pools: Vec<Span> = pools.iter().copied().map(Span::from).collect();
        let comes = self.direction != Direction::FromEndpoints;
        devices.is_empty()
            || conditions.iter().all(|condition| match condition {
                Condition::Incoming(names) if comes => by_device(names),
                Condition::Outgoing(names) if !comes => by_device(names),
                Condition::Source(spans) if comes => !spans.is_within(&pools),
                Condition::Destination(spans) if !comes => !spans.is_within(&pools),
                Condition::Incoming(_)
                | Condition::Outgoing(_)
                | Condition::Source(_)
                | Condition::Destination(_)
                | Condition::Version6(_)
                | Condition::LocalDestination
                | Condition::Other(_) => true,
            })
    }

    /// Tells whether every packet of the flow fulfils all conditions.
    pub fn surely_matches(self, conditions: &[Condition]) -> bool {
        let all = |names: &Names, links: &mut dyn Iterator<Item = &str>| {
            let mut links = links.peekable();
            links.peek().is_some() && links.all(|name| names.contains(name))
        };
        conditions.iter().all(|condition| match condition {
            Condition::Incoming(names) => all(names, &mut self.incoming()),
            Condition::Outgoing(names) => all(names, &mut self.outgoing()),
            Condition::Source(spans) => self.surely_is(spans, Direction::FromEndpoints),
            Condition::Destination(spans) => self.surely_is(spans, Direction::ToEndpoints),
            Condition::Version6(version6) => *version6 == self.is_version6(),
            Condition::LocalDestination | Condition::Other(_) => false,
        })
    }

    /// Tells whether somebody else has to translate the packets.
    pub fn is_translated(self) -> bool {
        self.direction == Direction::TranslatedToEndpoints
    }

    /// Lists the links by which packets of the flow come in: what endpoints send also from where
    /// the stack gets it.
    fn incoming(&self) -> impl Iterator<Item = &str> {
        let devices = match self.direction {
            Direction::FromEndpoints => &[][..],
            Direction::ToEndpoints | Direction::TranslatedToEndpoints => &self.traffic.devices,
        };
        let links = self.traffic.endpoints.iter().chain(devices);
        links.map(String::as_str).chain([HOST_LINK])
    }

    /// Lists the links by which they go out: to endpoints also by the route of their pool.
    fn outgoing(&self) -> impl Iterator<Item = &str> {
        let devices = match self.direction {
            Direction::FromEndpoints => &self.traffic.devices,
            Direction::ToEndpoints | Direction::TranslatedToEndpoints => &[][..],
        };
        let links = self.traffic.endpoints.iter().chain(devices);
        links.map(String::as_str).chain([HOST_LINK])
    }

    /// Tells whether the address of one side may be in a set.
    fn may_be(self, spans: &Spans, side: Direction) -> bool {
        if side == self.direction {
            return spans.overlaps(self.pool.into());
        }
        let foreign: Vec<Span> = self
            .traffic
            .foreign
            .iter()
            .copied()
            .map(Span::from)
            .collect();
        let of_family = |span: &Span| span.first.is_ipv6() == self.is_version6();
        let possible = spans.inverted || spans.spans.iter().any(of_family);
        possible && !spans.is_within(&foreign)
    }

    /// Tells whether the address of one side is in a set, whatever packet it is.
    fn surely_is(self, spans: &Spans, side: Direction) -> bool {
        let everything = if self.is_version6() {
            "::/0"
        } else {
            "0.0.0.0/0"
        };
        let everywhere = everything.parse().unwrap_or(self.pool);
        let whole = if side == self.direction {
            self.pool
        } else {
            everywhere
        };
        spans.contains(whole.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic() -> Traffic {
        Traffic {
            endpoints: vec!["lxcweb".into()],
            devices: vec!["eth0".into()],
            pools: vec!["10.0.1.0/24".parse().unwrap()],
            foreign: vec!["172.17.0.0/16".parse().unwrap()],
        }
    }

    fn names(name: &str) -> Names {
        Names {
            patterns: vec![name.into()],
            inverted: false,
        }
    }

    fn spans(prefix: &str) -> Spans {
        Spans {
            spans: vec![prefix.parse::<IpNet>().unwrap().into()],
            inverted: false,
        }
    }

    fn may_match(conditions: &[Condition]) -> Vec<bool> {
        let traffic = traffic();
        traffic
            .flows()
            .map(|flow| flow.may_match(conditions))
            .collect()
    }

    #[test]
    fn links_of_others_never_match() {
        assert_eq!(
            may_match(&[Condition::Incoming(names("docker0"))]),
            [false, false]
        );
        assert_eq!(
            may_match(&[Condition::Outgoing(names("virbr*"))]),
            [false, false]
        );
    }

    #[test]
    fn device_is_where_packets_to_endpoints_come_from() {
        assert_eq!(
            may_match(&[Condition::Incoming(names("eth0"))]),
            [false, true]
        );
        assert_eq!(
            may_match(&[Condition::Outgoing(names("eth0"))]),
            [true, false]
        );
    }

    #[test]
    fn network_of_another_link_never_matches() {
        let docker = spans("172.17.0.0/16");

        assert_eq!(
            may_match(&[Condition::Source(docker.clone())]),
            [false, false]
        );
        assert_eq!(may_match(&[Condition::Destination(docker)]), [false, false]);
        assert_eq!(
            may_match(&[Condition::Source(spans("10.0.0.0/8"))]),
            [true, true]
        );
        assert_eq!(
            may_match(&[Condition::Source(spans("fd00::/8"))]),
            [false, false]
        );
    }

    #[test]
    fn only_what_covers_the_pool_matches_surely() {
        let traffic = traffic();
        let from = traffic.flows().next().unwrap();

        assert!(from.surely_matches(&[Condition::Source(spans("10.0.0.0/8"))]));
        assert!(!from.surely_matches(&[Condition::Source(spans("10.0.1.0/25"))]));
        assert!(!from.surely_matches(&[Condition::Destination(spans("10.0.0.0/8"))]));
        assert!(!from.surely_matches(&[Condition::Incoming(names("lxc*"))]));
        assert!(from.surely_matches(&[Condition::Incoming(names("*"))]));
        assert!(!from.surely_matches(&[Condition::Other("ct".into())]));
    }
}
