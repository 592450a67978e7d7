//! A kernel of maps and links in memory, as strict as the real one and stricter.
//!
//! A step must fit: what it adds is not there, what it changes or removes is there as the step
//! says, and what it needs is there first ([`rules`]). A removed object takes along what it
//! owns. After every step the [`invariant`]s hold, or the test panics.
//!
//! Links have indexes and programs have builds, so that entries and attachments go stale as
//! they do in the kernel. A [`Fault`] refuses a step, half-does it, or kills the agent.

use std::collections::BTreeMap;

use ciliate::plan::cutover::exchanges;
use ciliate::plan::object::{Ambient, Key, Link, LinkRef, Observed, State, Value};
use ciliate::plan::{Action, Step};
use ciliate::reconcile::{Cause, Kernel};

mod invariant;
mod rules;

/// Goes wrong at one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The step does nothing and fails.
    Refuse,
    /// The step is done and fails all the same.
    Half,
    /// The step is not done although it succeeds.
    Ignore,
    /// The agent is killed before the step.
    Kill,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeKernel {
    pub(crate) ambient: Ambient,
    /// Present values of all sysctls, and the originals of those that are ours.
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) originals: BTreeMap<String, String>,
    /// Grows when flows are to be decided again.
    pub(crate) generation: u64,
    /// What goes wrong, by number of the step since the last [`FakeKernel::begin`].
    pub(crate) faults: BTreeMap<usize, Fault>,
    /// Whether someone else broke something, so that invariants need not hold.
    pub(crate) drifted: bool,
    /// How many steps were carried out since the last [`FakeKernel::begin`].
    pub(crate) executed: usize,
    objects: State,
    indexes: BTreeMap<Key, u32>,
    last_index: u32,
    /// The indexes that entries hold.
    held: BTreeMap<Key, u32>,
    build: u32,
    /// The builds that attachments come from.
    builds: BTreeMap<Key, u32>,
    dead: bool,
}

impl FakeKernel {
    /// Returns a machine that learnt its IPv6 default route through `eth0`.
    pub(crate) fn new(bpffs: bool) -> Self {
        let sysctls = [
            ("net/ipv6/conf/all/forwarding", "0"),
            ("net/ipv6/conf/eth0/accept_ra", "1"),
            ("net/ipv4/conf/eth0/forwarding", "0"),
            ("net/ipv4/conf/eth1/forwarding", "0"),
            ("net/ipv4/ip_local_reserved_ports", ""),
        ];
        let devices = [("eth0", 2), ("eth1", 3)].map(|(name, index)| (device(name), index));
        let own = |(path, value): (&str, &str)| (path.to_owned(), value.to_owned());
        Self {
            ambient: Ambient {
                bpffs,
                ra_devices: vec!["eth0".to_owned()],
                ..Ambient::default()
            },
            sysctls: sysctls.map(own).into(),
            indexes: devices.into(),
            last_index: 10,
            ..Self::default()
        }
    }

    /// Starts a new run with these faults.
    pub(crate) fn begin(&mut self, faults: impl IntoIterator<Item = (usize, Fault)>) {
        self.faults = faults.into_iter().collect();
        self.executed = 0;
        self.dead = false;
    }

    /// Returns everything that a test can compare.
    pub(crate) fn snapshot(&self) -> (State, BTreeMap<String, String>, BTreeMap<String, String>) {
        (self.present(), self.sysctls.clone(), self.originals.clone())
    }

    /// Removes an object as someone else would, with what the kernel removes along with it.
    pub(crate) fn lose(&mut self, key: &Key) {
        self.drifted = true;
        self.remove(key);
        let lost = key.clone();
        self.objects.retain(|key, value| match (key, value, &lost) {
            (Key::Route(link, _), _, Key::LinkUp(down)) => link != down,
            (
                Key::Route(link, _),
                Value::Route { src: Some(src), .. },
                Key::Address(on, address),
            ) => rules::holder_of_source(link) != *on || *src != address.addr(),
            _ => true,
        });
    }

    /// Gives `cilium_host`, if it is there, an address that we did not choose.
    pub(crate) fn disguise_host_link(&mut self) {
        self.drifted = true;
        if let Some(Value::HostLink { host_mac, .. }) = self.objects.get_mut(&Key::HostLink) {
            host_mac.0[5] = 0xff;
        }
    }

    /// Returns our objects as an observer sees them.
    pub(crate) fn present(&self) -> State {
        let sysctls = self.originals.keys().filter_map(|path| {
            let value = self.sysctls.get(path)?.clone();
            Some((Key::Sysctl(path.clone()), Value::Sysctl { value }))
        });
        let objects = self
            .objects
            .iter()
            .map(|(key, value)| (key.clone(), self.seen(key, value)));
        objects.chain(sysctls).collect()
    }

    fn look_up(&self, key: &Key) -> Option<Value> {
        if let Key::Sysctl(path) = key {
            self.originals.get(path)?;
            return Some(Value::Sysctl {
                value: self.sysctls.get(path)?.clone(),
            });
        }
        Some(self.seen(key, self.objects.get(key)?))
    }

    fn seen(&self, key: &Key, value: &Value) -> Value {
        let mut value = value.clone();
        match &mut value {
            Value::NodeEntry {
                host_link: link, ..
            }
            | Value::EndpointEntry { link, .. }
            | Value::DeviceEntry { link, .. } => {
                let index = self.indexes.get(&link_of(key));
                let held = &self.held[key];
                *link = if index == Some(held) {
                    LinkRef::Current
                } else {
                    LinkRef::Stale(*held)
                };
            }
            Value::Attachment { digest, .. } => {
                let pinned = self.objects.contains_key(&Key::Datapath);
                if !pinned || self.builds[key] != self.build {
                    *digest = None;
                }
            }
            _ => {}
        }
        value
    }

    fn perform(&mut self, step: &Step) -> Result<(), Cause> {
        let present = self.look_up(&step.key);
        if step.before.as_ref().map(lasting) != present.as_ref().map(lasting) {
            return Err(format!("{:?}: is {present:?}, not {:?}", step.key, step.before).into());
        }
        if let Some(after) = &step.after {
            self.check_need(&step.key, after)?;
            self.write(&step.key, after.clone(), step.action());
        } else {
            self.check_free(&step.key)?;
            self.remove(&step.key);
        }
        Ok(())
    }

    fn write(&mut self, key: &Key, value: Value, action: Action) {
        match (&value, action) {
            (Value::Bpffs { .. }, _) => self.ambient.bpffs = true,
            (Value::Datapath { .. }, _) => {
                self.build += 1;
                self.exchange_tables(&value);
            }
            (Value::HostLink { .. } | Value::EndpointLink { .. }, Action::Add) => {
                self.last_index += 1;
                self.indexes.insert(key.clone(), self.last_index);
                if *key == Key::HostLink {
                    self.sysctls.extend(host_link_sysctls());
                }
            }
            (
                Value::NodeEntry {
                    host_link: link, ..
                }
                | Value::EndpointEntry { link, .. }
                | Value::DeviceEntry { link, .. },
                _,
            ) => {
                let index = match link {
                    LinkRef::Current => self.indexes[&link_of(key)],
                    LinkRef::Stale(index) => *index,
                };
                self.held.insert(key.clone(), index);
            }
            (Value::Attachment { .. }, _) => {
                self.builds.insert(key.clone(), self.build);
            }
            (Value::Generation { .. }, _) => self.generation += 1,
            _ => {}
        }
        let (Key::Sysctl(path), Value::Sysctl { value: text }) = (key, &value) else {
            self.objects.insert(key.clone(), value);
            return;
        };
        let original = self.sysctls.insert(path.clone(), text.clone());
        if action == Action::Add {
            self.originals.insert(path.clone(), original.unwrap());
        }
    }

    /// Begins an exchange of tables if others are wanted: they are empty, and the former ones stay for
    /// now.
    fn exchange_tables(&mut self, value: &Value) {
        let before = self.objects.get(&Key::Datapath);
        if before.is_some_and(|before| exchanges(before, value)) {
            self.objects.retain(|key, _| {
                let is_link = matches!(key, Key::Reassembly(_));
                is_link || !key.owners().contains(&Key::Datapath)
            });
            self.objects.insert(Key::Former, Value::Former);
        }
    }

    fn remove(&mut self, key: &Key) {
        match key {
            Key::Bpffs => self.ambient.bpffs = false,
            Key::Sysctl(path) => {
                let original = self.originals.remove(path).unwrap();
                self.sysctls.insert(path.clone(), original);
            }
            Key::HostLink => {
                let gone = |path: &String, _: &mut String| {
                    !path.contains("/cilium_host/") && !path.contains("/cilium_net/")
                };
                self.sysctls.retain(gone);
                self.originals.retain(gone);
            }
            _ => {}
        }
        // A device stays when it goes down.
        if !matches!(key, Key::LinkUp(Link::Device(_))) {
            self.indexes.remove(key);
        }
        self.objects
            .retain(|other, _| other != key && !other.owners().contains(key));
    }

    fn value(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }
}

impl Kernel for FakeKernel {
    fn observe(&mut self, desired: &State) -> Result<Observed, Cause> {
        if self.dead || self.faults.get(&self.executed) == Some(&Fault::Kill) {
            self.dead = true;
            return Err("killed".into());
        }
        let mut ambient = self.ambient.clone();
        for key in desired.keys() {
            if let Key::Sysctl(path) = key
                && let Some(value) = self.sysctls.get(path)
                && !self.originals.contains_key(path)
            {
                ambient.sysctls.insert(path.clone(), value.clone());
            }
        }
        let mut objects = self.present();
        let is_up = |key: &Key| matches!(key, Key::LinkUp(Link::Device(_)));
        objects.retain(|key, _| !is_up(key) || desired.contains_key(key));
        Ok(Observed { objects, ambient })
    }

    fn execute(&mut self, step: &Step) -> Result<(), Cause> {
        let fault = self.faults.get(&self.executed).copied();
        if self.dead || fault == Some(Fault::Kill) {
            self.dead = true;
            return Err("killed".into());
        }
        self.executed += 1;
        match fault {
            Some(Fault::Refuse) => return Err("refused".into()),
            Some(Fault::Ignore) => return Ok(()),
            Some(Fault::Half | Fault::Kill) | None => self.perform(step)?,
        }
        if !self.drifted {
            self.check_invariants(step);
        }
        if fault.is_some() {
            Err("done, and failed all the same".into())
        } else {
            Ok(())
        }
    }
}

/// Returns the link whose index an entry holds.
fn link_of(entry: &Key) -> Key {
    match entry {
        Key::EndpointEntry(name) => Key::EndpointLink(name.clone()),
        Key::DeviceEntry(name) => device(name),
        _ => Key::HostLink,
    }
}

/// Stands for a link that is not ours.
fn device(name: &str) -> Key {
    Key::LinkUp(Link::Device(name.to_owned()))
}

/// Returns the value without what goes stale by itself while a run changes something else.
fn lasting(value: &Value) -> Value {
    let mut value = value.clone();
    match &mut value {
        Value::NodeEntry {
            host_link: link, ..
        }
        | Value::EndpointEntry { link, .. }
        | Value::DeviceEntry { link, .. } => {
            *link = LinkRef::Current;
        }
        Value::Attachment { digest, .. } => *digest = None,
        _ => {}
    }
    value
}

fn host_link_sysctls() -> impl Iterator<Item = (String, String)> {
    let defaults = [
        ("cilium_host/forwarding", "0"),
        ("cilium_host/rp_filter", "0"),
        ("cilium_host/send_redirects", "1"),
        ("cilium_net/forwarding", "0"),
        ("cilium_net/rp_filter", "1"),
    ];
    let path = |name| format!("net/ipv4/conf/{name}");
    defaults
        .into_iter()
        .map(move |(name, value)| (path(name), value.to_owned()))
}
