//! One change of the planner, carried out in the kernel.
//!
//! `reconcile` calls this for links, addresses, routes, rules, sysctls and the BPF file system; maps
//! and programs are `datapath`'s. Every operation may be repeated: what is so already, or gone
//! already, is success. Only marked objects are removed: the mark is read back first.
//!
//! Deleting a link takes the kernel some 20 ms, whether it is one or a hundred at once. So a
//! removed link is moved to a link group of the condemned, which [`Executor::finish`] deletes
//! in one request. It keeps its alias until then: a run that is killed finds it again.
//!
//! For an endpoint's namespace one netlink socket is kept, for the endpoint that was worked on
//! last, because steps come endpoint by endpoint. It keeps that namespace alive; so an
//! [`Executor`] lives as long as one plan is applied, and no longer.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::errno::Errno;

use super::error::{Error, Result, gone_is_done};
use super::link;
use super::mark::{Mark, Owner};
use super::names::Names;
use super::netlink::Netlink;
use super::netns;
use super::route::{self, Route};
use super::veth::{self, EndpointPair, HostPair};
use super::{
    ENDPOINT_LINK, HOST_LINK, NET_LINK, address, bpffs, clock, name_servers, rule, sysctl,
};
use crate::plan::object::{Key, Lifetime, Link, Value};

/// Carries out changes in the node's namespace, which is the one of the thread that made it.
pub struct Executor {
    netlink: Netlink,
    inside: Option<(String, Netlink)>,
    /// Whether links wait for [`Executor::finish`].
    condemned: bool,
    mark: Mark,
    names: Names,
    /// Values of our sysctls from before us, to which a removal returns.
    pub originals: BTreeMap<String, String>,
    /// For a sysctl of ours that the kernel copies to others: the values of those others from
    /// before us that its removal would not bring back.
    pub bystanders: BTreeMap<String, BTreeMap<String, String>>,
    /// MTUs of devices from before us.
    pub mtus: BTreeMap<String, u32>,
}

/// Is a link that was found: how to reach it, and what errors call it.
struct Located<'a> {
    netlink: &'a mut Netlink,
    index: u32,
    device: String,
}

impl Executor {
    /// Prepares changes to a node.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub fn new(node: &str, names: Names, originals: BTreeMap<String, String>) -> Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            inside: None,
            condemned: false,
            mark: Mark::new(node),
            names,
            originals,
            bystanders: BTreeMap::new(),
            mtus: BTreeMap::new(),
        })
    }

    /// Records the present value of a sysctl that is about to become ours; returns whether
    /// there is a new record. The caller saves [`Self::bystanders`] and [`Self::originals`]
    /// then, before the change, so that a kill between the two loses nothing.
    ///
    /// # Errors
    /// When the sysctl cannot be read.
    pub fn remember(&mut self, key: &Key) -> Result<bool> {
        let Key::Sysctl(path) = key else {
            return Ok(false);
        };
        if self.originals.contains_key(path) {
            return Ok(false);
        }
        let Some(value) = sysctl::read(path)? else {
            return Ok(false);
        };
        let mut bystanders = BTreeMap::new();
        for other in sysctl::overwritten_by(path)? {
            // Those that are equal get their value back with the sysctl itself.
            if let Some(found) = sysctl::read(&other)?.filter(|found| *found != value) {
                bystanders.insert(other, found);
            }
        }
        self.bystanders.insert(path.clone(), bystanders);
        self.originals.insert(path.clone(), value);
        Ok(true)
    }

    /// Adds an object.
    ///
    /// # Errors
    /// When the kernel refuses, or something foreign is in the way.
    pub fn add(&mut self, key: &Key, value: &Value) -> Result<()> {
        match (key, value) {
            (Key::Bpffs, Value::Bpffs { path }) => bpffs::mount_on(path),
            (Key::HostLink, value) => {
                self.finish()?;
                let pair = HostPair::of(value).ok_or_else(|| not_host(key))?;
                veth::create_host_pair(&mut self.netlink, &self.mark, &pair)
            }
            (Key::EndpointLink(endpoint), value) => self.add_endpoint(endpoint, value),
            (Key::Sysctl(path), Value::Sysctl { value }) => {
                self.remember(key)?;
                sysctl::write(path, value)
            }
            (Key::Address(link, prefix), Value::DeviceAddress { lifetime }) => {
                let secs = lifetime.map(remaining_secs);
                let at = self.locate(link)?;
                address::lend(at.netlink, at.index, &at.device, *prefix, secs)
            }
            (Key::DeviceMtu(name), Value::DeviceMtu { mtu }) => {
                link::set_mtu(&mut self.netlink, name, *mtu)
            }
            (Key::NameServers(path), Value::NameServers(servers)) => {
                name_servers::write(path, servers)
            }
            (Key::Address(link, prefix), Value::Address) => {
                let at = self.locate(link)?;
                address::add(at.netlink, at.index, &at.device, *prefix)
            }
            (Key::Route(..), Value::Route { .. }) => self.put_route(key, value, route::add),
            (Key::Rule(family), Value::Rule { priority }) => {
                rule::add(&mut self.netlink, *family, *priority)
            }
            (Key::LinkUp(link), Value::LinkUp) => self.set_up(link, true),
            _ => Err(not_host(key)),
        }
    }

    /// Changes an object in place.
    ///
    /// # Errors
    /// When the kernel refuses, or the difference needs removal and creation.
    pub fn change(&mut self, key: &Key, before: &Value, after: &Value) -> Result<()> {
        match (key, after) {
            (Key::HostLink, _) => self.change_host_pair(before, after),
            (Key::EndpointLink(endpoint), _) => self.change_endpoint(endpoint, before, after),
            (Key::Route(..), Value::Route { .. }) => self.put_route(key, after, route::replace),
            (Key::Rule(_), _) => {
                // With both for a moment, rather than with none.
                self.add(key, after)?;
                self.remove(key, before)
            }
            (Key::Bpffs, Value::Bpffs { path }) => Err(Error::Immutable {
                object: format!("bpffs on {}", path.display()),
                attribute: "mount point",
            }),
            _ => self.add(key, after),
        }
    }

    /// Deletes the links that were removed, all in one request.
    ///
    /// To be called when a plan is done; creating links does it too.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn finish(&mut self) -> Result<()> {
        if self.condemned {
            link::del_group(&mut self.netlink, self.mark.condemned_group())?;
            self.condemned = false;
        }
        Ok(())
    }

    /// Removes an object. Links disappear with [`Self::finish`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&mut self, key: &Key, before: &Value) -> Result<()> {
        let result = match (key, before) {
            (Key::Bpffs, Value::Bpffs { path }) => bpffs::unmount_if_empty(path).map(drop),
            (Key::HostLink, Value::HostLink { .. }) => self
                .remove_link(HOST_LINK)
                .and_then(|()| self.remove_link(NET_LINK))
                .and_then(|()| self.remove_renamed_host_links()),
            (Key::EndpointLink(_), Value::EndpointLink { link, .. }) => {
                self.inside = None;
                self.remove_link(link)
            }
            (Key::Sysctl(path), Value::Sysctl { value }) => {
                self.restore_sysctl(path, value).map(|()| {
                    // An undo that adds it again records it again.
                    self.originals.remove(path);
                    self.bystanders.remove(path);
                })
            }
            (Key::DeviceMtu(name), Value::DeviceMtu { mtu }) => self.restore_mtu(name, *mtu),
            (Key::NameServers(path), Value::NameServers(_)) => name_servers::remove(path),
            (Key::Address(link, prefix), Value::Address | Value::DeviceAddress { .. }) => self
                .locate(link)
                .and_then(|at| address::del(at.netlink, at.index, &at.device, *prefix)),
            (Key::Route(link, prefix), Value::Route { .. }) => self
                .locate(link)
                .and_then(|at| route::del(at.netlink, at.index, &at.device, *prefix)),
            (Key::Rule(family), Value::Rule { priority }) => {
                rule::del(&mut self.netlink, *family, *priority)
            }
            (Key::LinkUp(link), Value::LinkUp) => self.set_up(link, false),
            _ => Err(not_host(key)),
        };
        gone_is_done(result)
    }

    fn add_endpoint(&mut self, endpoint: &str, value: &Value) -> Result<()> {
        let pair = EndpointPair::of(endpoint, value).ok_or_else(|| Error::NotHost {
            what: format!("add endpoint {endpoint}"),
        })?;
        self.finish()?;
        let netns = self.names.netns(endpoint)?;
        let wrap = |cause| Error::EndpointNetns {
            endpoint: endpoint.into(),
            netns: netns.clone(),
            cause: Box::new(cause),
        };
        let fd = netns::open(netns).map_err(wrap)?;
        let mut inside = netns::netlink_in(&fd).map_err(wrap)?;
        veth::create_endpoint_pair(&mut self.netlink, &mut inside, &fd, &self.mark, &pair)?;
        self.inside = Some((endpoint.into(), inside));
        Ok(())
    }

    fn change_host_pair(&mut self, before: &Value, after: &Value) -> Result<()> {
        let (Some(old), Some(new)) = (HostPair::of(before), HostPair::of(after)) else {
            return Err(not_host(&Key::HostLink));
        };
        if (old.host_mac, old.net_mac) != (new.host_mac, new.net_mac) {
            return Err(immutable(HOST_LINK, "MAC address"));
        }
        for name in [NET_LINK, HOST_LINK] {
            link::set_mtu(&mut self.netlink, name, new.mtu)?;
        }
        veth::finish_host_pair(&mut self.netlink, &self.mark)
    }

    fn change_endpoint(&mut self, endpoint: &str, before: &Value, after: &Value) -> Result<()> {
        let (Some(old), Some(new)) = (
            EndpointPair::of(endpoint, before),
            EndpointPair::of(endpoint, after),
        ) else {
            return Err(not_host(&Key::EndpointLink(endpoint.into())));
        };
        if old.link != new.link {
            return Err(immutable(old.link, "name"));
        }
        if (old.lxc_mac, old.mac) != (new.lxc_mac, new.mac) {
            return Err(immutable(old.link, "MAC address"));
        }
        if old.netns != new.netns {
            return Err(immutable(old.link, "namespace of its peer"));
        }
        self.enter(endpoint)?;
        let Some((_, inside)) = &mut self.inside else {
            return Err(not_host(&Key::EndpointLink(endpoint.into())));
        };
        link::set_mtu(&mut self.netlink, new.link, new.mtu)?;
        link::set_mtu(inside, ENDPOINT_LINK, new.mtu)?;
        veth::finish_endpoint_pair(&mut self.netlink, inside, &self.mark, endpoint, new.link)
    }

    /// Adds or replaces a route.
    fn put_route(
        &mut self,
        key: &Key,
        value: &Value,
        put: impl Fn(&mut Netlink, &Route, &str) -> Result<()>,
    ) -> Result<()> {
        let (
            Key::Route(link, prefix),
            Value::Route {
                via,
                src,
                mtu,
                metric,
            },
        ) = (key, value)
        else {
            return Err(not_host(key));
        };
        let at = self.locate(link)?;
        let route = Route {
            link: at.index,
            prefix: *prefix,
            via: *via,
            src: *src,
            mtu: *mtu,
            metric: *metric,
        };
        match put(at.netlink, &route, &at.device) {
            // Whoever lives in the namespace may have taken the link down, and its routes so.
            Err(Error::Refused {
                errno: Errno::ENETDOWN,
                ..
            }) if matches!(link, Link::Eth0(_)) => {
                link::set_up(at.netlink, ENDPOINT_LINK, true)?;
                put(at.netlink, &route, &at.device)
            }
            other => other,
        }
    }

    fn set_up(&mut self, link: &Link, up: bool) -> Result<()> {
        let name = self.names.device(link)?.to_owned();
        link::set_up(self.reach(link)?, &name, up)
    }

    /// Condemns a link of the node's namespace, unless it is not (or no longer) ours.
    fn remove_link(&mut self, name: &str) -> Result<()> {
        match link::get(&mut self.netlink, name)? {
            Some(found) if veth::is_ours(&found, &self.mark) => {
                self.condemned = true;
                link::set_group(&mut self.netlink, &found, self.mark.condemned_group())
            }
            _ => Ok(()),
        }
    }

    /// Condemns what is marked as the node's own pair under other names.
    fn remove_renamed_host_links(&mut self) -> Result<()> {
        for found in link::dump(&mut self.netlink)? {
            if self.mark.owner(found.alias.as_deref(), found.group) == Owner::Node {
                self.condemned = true;
                link::set_group(&mut self.netlink, &found, self.mark.condemned_group())?;
            }
        }
        Ok(())
    }

    /// Returns a sysctl to its value from before us, unless somebody else changed it since; and
    /// those that it overwrote.
    fn restore_sysctl(&self, path: &str, ours: &str) -> Result<()> {
        let mut overwritten = Vec::new();
        for (other, original) in self.bystanders.get(path).into_iter().flatten() {
            // A device that went takes its values along.
            if sysctl::read(other)?.is_some_and(|found| found == ours) {
                overwritten.push((other, original));
            }
        }
        match (sysctl::read(path)?, self.originals.get(path)) {
            (Some(present), Some(original)) if present == ours => sysctl::write(path, original)?,
            _ => return Ok(()),
        }
        for (other, original) in overwritten {
            gone_is_done(sysctl::write(other, original))?;
        }
        Ok(())
    }

    /// Returns the MTU of a device to its value from before us, unless somebody else changed it
    /// since.
    fn restore_mtu(&mut self, device: &str, ours: u32) -> Result<()> {
        let found = link::get(&mut self.netlink, device)?;
        match (found, self.mtus.get(device)) {
            (Some(link), Some(original)) if link.mtu == ours => {
                link::set_mtu(&mut self.netlink, device, *original)
            }
            _ => Ok(()),
        }
    }

    fn locate(&mut self, link: &Link) -> Result<Located<'_>> {
        let name = self.names.device(link)?.to_owned();
        let netlink = self.reach(link)?;
        let index = link::index(netlink, &name)?;
        let device = if let Link::Eth0(endpoint) = link {
            format!("{name} of {endpoint}")
        } else {
            name
        };
        Ok(Located {
            netlink,
            index,
            device,
        })
    }

    /// Returns the socket that works on the namespace of a link.
    fn reach(&mut self, link: &Link) -> Result<&mut Netlink> {
        if let Link::Eth0(endpoint) = link {
            self.enter(endpoint)?;
        }
        match (link, &mut self.inside) {
            (Link::Eth0(_), Some((_, inside))) => Ok(inside),
            _ => Ok(&mut self.netlink),
        }
    }

    /// Makes `inside` the socket of an endpoint's namespace.
    fn enter(&mut self, endpoint: &str) -> Result<()> {
        if !matches!(&self.inside, Some((current, _)) if current == endpoint) {
            let fd = netns::open(self.names.netns(endpoint)?)?;
            self.inside = Some((endpoint.into(), netns::netlink_in(fd)?));
        }
        Ok(())
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            log::error!("{error}");
        }
    }
}

/// Returns how long an address is still valid; never no time, which the kernel refuses.
fn remaining_secs(lifetime: Lifetime) -> u32 {
    let left = Duration::from_secs(lifetime.until_secs).saturating_sub(clock::now());
    // Rounded down: it is never valid for longer than it is lent.
    u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1)
}

fn immutable(link: &str, attribute: &'static str) -> Error {
    Error::Immutable {
        object: format!("link {link}"),
        attribute,
    }
}

fn not_host(key: &Key) -> Error {
    Error::NotHost {
        what: format!("execute {key:?}"),
    }
}
