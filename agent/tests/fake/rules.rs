//! What must be there before a step, as the kernel and the datapath want it.

use std::net::IpAddr;

use ciliate::plan::object::{Hook, Key, Link, LinkRef, Value};
use ciliate::reconcile::Cause;
use ipnet::IpNet;

use super::FakeKernel;

impl FakeKernel {
    /// Fails unless everything is there that this object needs.
    pub(super) fn check_need(&self, key: &Key, value: &Value) -> Result<(), Cause> {
        for owner in key.owners() {
            self.need(key, &owner)?;
        }
        ensure(
            !self.is_taken(key, value),
            key,
            "number, name or address taken",
        )?;
        match (key, value) {
            (Key::Datapath, _) => ensure(self.ambient.bpffs, key, "no bpffs"),
            (Key::NodeEntry, _) => self.need(key, &Key::HostLink),
            (Key::Sysctl(path), Value::Sysctl { .. }) => {
                ensure(self.sysctls.contains_key(path), key, "no such sysctl")
            }
            (Key::Attachment(link, _), Value::Attachment { digest, .. }) => {
                if let Link::Device(name) = link {
                    self.need(key, &Key::NodeEntry)?;
                    self.need(key, &Key::DeviceEntry(name.clone()))?;
                }
                let pinned = match self.value(&Key::Datapath) {
                    Some(Value::Datapath { digest, .. }) => Some(digest),
                    _ => None,
                };
                ensure(
                    pinned.is_some() && pinned == digest.as_ref(),
                    key,
                    "not pinned",
                )
            }
            (Key::LinkUp(link), _) => self.check_judged(key, link),
            // Whether the kernel reaches the gateway was observed.
            (Key::Route(Link::Device(_), _), _) => Ok(()),
            (Key::Route(link, _), Value::Route { via, src, .. }) => {
                self.need(key, &Key::LinkUp(link.clone()))?;
                self.need_each(key, *via, |address| Key::Route(link.clone(), address))?;
                self.need_each(key, *src, |address| {
                    Key::Address(holder_of_source(link), address)
                })
            }
            (
                Key::EndpointEntry(name),
                Value::EndpointEntry {
                    link: LinkRef::Current,
                    ..
                },
            ) => self.need(key, &Key::EndpointLink(name.clone())),
            _ => Ok(()),
        }
    }

    /// Fails if something is left that needs this object and does not vanish with it.
    pub(super) fn check_free(&self, key: &Key) -> Result<(), Cause> {
        let mut others = self.objects.iter();
        let free = match key {
            Key::Bpffs => self.value(&Key::Datapath).is_none(),
            Key::Datapath => !others.any(|(other, _)| matches!(other, Key::Attachment(..))),
            Key::DeviceEntry(name) => !others.any(
                |(other, _)| matches!(other, Key::Attachment(Link::Device(on), _) if on == name),
            ),
            Key::LinkUp(link) => {
                !others.any(|(other, _)| matches!(other, Key::Route(on, _) if on == link))
            }
            Key::Address(link, address) => !others.any(|(other, value)| {
                matches!((other, value), (Key::Route(on, _), Value::Route { src: Some(src), .. })
                    if holder_of_source(on) == *link && *src == address.addr())
            }),
            Key::Route(link, prefix) => !others.any(|(other, value)| {
                matches!((other, value), (Key::Route(on, _), Value::Route { via: Some(via), .. })
                    if on == link && IpNet::from(*via) == *prefix)
            }),
            _ => true,
        };
        ensure(free, key, "still in use")
    }

    /// Fails unless what is sent through the link can be judged.
    fn check_judged(&self, key: &Key, link: &Link) -> Result<(), Cause> {
        let link = match link {
            Link::Host | Link::Net => Link::Host,
            Link::Device(name) => Link::Device(name.clone()),
            Link::Lxc(name) | Link::Eth0(name) => {
                let entry = Key::EndpointEntry(name.clone());
                self.need(key, &entry)?;
                let value = self.look_up(&entry);
                let current = matches!(
                    value,
                    Some(Value::EndpointEntry {
                        link: LinkRef::Current,
                        ..
                    })
                );
                ensure(current, key, "the entry is of another link")?;
                Link::Lxc(name.clone())
            }
        };
        self.need(key, &Key::Attachment(link.clone(), Hook::Ingress))?;
        self.need(key, &Key::Attachment(link, Hook::Egress))
    }

    /// Tells whether another object has what only one can have.
    pub(super) fn is_taken(&self, key: &Key, value: &Value) -> bool {
        if let Key::Route(Link::Host | Link::Device(_) | Link::Lxc(_), prefix) = key {
            return self.objects.keys().any(|other| {
                matches!(other, Key::Route(Link::Host | Link::Device(_) | Link::Lxc(_), taken)
                    if taken == prefix && other != key)
            });
        }
        if !matches!(key, Key::EndpointLink(_) | Key::EndpointEntry(_)) {
            return false;
        }
        self.objects
            .iter()
            .any(|(other, present)| other != key && conflict(present, value))
    }

    fn need_each(
        &self,
        key: &Key,
        address: Option<IpAddr>,
        needed: impl Fn(IpNet) -> Key,
    ) -> Result<(), Cause> {
        address.map_or(Ok(()), |address| {
            self.need(key, &needed(IpNet::from(address)))
        })
    }

    fn need(&self, key: &Key, needed: &Key) -> Result<(), Cause> {
        ensure(
            self.objects.contains_key(needed),
            key,
            &format!("needs {needed:?}"),
        )
    }
}

fn ensure(holds: bool, key: &Key, cause: &str) -> Result<(), Cause> {
    if holds {
        Ok(())
    } else {
        Err(format!("{key:?}: {cause}").into())
    }
}

/// Tells whether two objects of different endpoints cannot be there at once.
fn conflict(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (
            Value::EndpointLink { link, netns, .. },
            Value::EndpointLink {
                link: other_link,
                netns: other_netns,
                ..
            },
        ) => link == other_link || netns == other_netns,
        (
            Value::EndpointEntry { id, ipv4, ipv6, .. },
            Value::EndpointEntry {
                id: other_id,
                ipv4: other_v4,
                ipv6: other_v6,
                ..
            },
        ) => {
            id == other_id
                || (ipv4.is_some() && ipv4 == other_v4)
                || (ipv6.is_some() && ipv6 == other_v6)
        }
        _ => false,
    }
}

/// Returns the link with the source address that a route through this one names.
pub(super) fn holder_of_source(link: &Link) -> Link {
    match link {
        Link::Lxc(_) => Link::Host,
        other => other.clone(),
    }
}
