//! What the programs under test need around them: a node with two endpoints and a device.
//!
//! Links, maps and programs are real and made by the agent's own code, in a network and a mount
//! namespace of this process: nothing is left behind, however the process ends.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use aya::programs::SchedClassifier;
use ciliate::datapath::execute::Executor;
use ciliate::datapath::load::{self, Sizes};
use ciliate::datapath::object::DIGEST;
use ciliate::datapath::pin::Pins;
use ciliate::datapath::sys;
use ciliate::host::mark::Mark;
use ciliate::host::veth::{self, EndpointPair, HostPair};
use ciliate::host::{HOST_LINK, Netlink, link, netns};
use ciliate::plan::object::{
    Filtering, HostRoutingMode, Key, LinkRef, Mac, Mapping, Masquerade, PortSelection, Timeouts,
    Value,
};
use ciliate::plan::policy::{Policy, Subject};
use datapath::hook::Hook;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::frame::Place;
use crate::uplink;
use crate::wrapper::{self, Loader};

const NODE: &str = "bench";
const BPFFS: &str = "/sys/fs/bpf";
const MTU: u32 = 1500;

/// First and last port that endpoints are masqueraded with.
pub(crate) const PORTS: [u16; 2] = [49_152, 65_535];

/// Room for both halves of all flows of the cold cases, in both families; the agent's own choice
/// ends at 65,536.
const FLOW_ENTRIES: u32 = 1 << 19;

/// Is the node of the bench.
pub(crate) struct Bed {
    pub(crate) loader: Loader,
    pub(crate) pins: Pins,
    pub(crate) one: Place,
    pub(crate) two: Place,
    pub(crate) host: Place,
    /// The node as the outside sees it: the device's addresses, which endpoints are masqueraded
    /// with.
    pub(crate) outer: Place,
    /// Somebody behind the device's next hop.
    pub(crate) far: Place,
    /// Keep the endpoints' namespaces, and with them their links, alive.
    _namespaces: [OwnedFd; 2],
}

impl Bed {
    /// Makes the node.
    ///
    /// # Errors
    /// When the kernel refuses a link, a map or a program.
    pub(crate) fn new() -> Result<Self> {
        isolate()?;
        let bpffs = Path::new(BPFFS);
        let pins = Pins::new(bpffs, NODE);
        let sizes = Sizes {
            flows: FLOW_ENTRIES,
            endpoint_slots: 4,
            flows_given: true,
            bindings: 32_768,
            prefixes: 1 << 18,
        };
        load::load(&pins, &sizes, DIGEST)?;
        let ([one, two, host, outer, far], namespaces) = make_node(&pins)?;
        let scratch = bpffs.join("scratch");
        std::fs::create_dir(&scratch).context("create folder for pins")?;
        Ok(Self {
            loader: Loader::new(scratch),
            pins,
            one,
            two,
            host,
            outer,
            far,
            _namespaces: namespaces,
        })
    }

    /// Opens the program of a hook.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn program(&self, hook: Hook) -> Result<SchedClassifier> {
        let name = match hook {
            Hook::FromContainer => "from_container",
            Hook::ToContainer => "to_container",
            Hook::FromHost => "from_host",
            Hook::ToHost => "to_host",
            Hook::FromNetdev => "from_netdev",
            Hook::ToNetdev => "to_netdev",
        };
        wrapper::open(&self.pin(name))
    }

    /// Opens a map of the node.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn map(&self, name: &str) -> Result<OwnedFd> {
        sys::open_pin(&self.pins.map(name)).with_context(|| format!("open map {name}"))
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.pins.object(DIGEST).join(name)
    }
}

/// Leaves the machine's network and mount namespace, and covers its BPF file system with one that
/// this process alone sees.
fn isolate() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("unshare namespaces (this needs root)")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("make mounts private")?;
    mount(
        Some(NODE),
        BPFFS,
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=0700"),
    )
    .with_context(|| format!("mount BPF file system on {BPFFS}"))
}

/// Makes links and map entries.
fn make_node(pins: &Pins) -> Result<([Place; 5], [OwnedFd; 2])> {
    let mut netlink = Netlink::open()?;
    let mark = Mark::new(NODE);
    let pair = HostPair {
        host_mac: mac(0, 1),
        net_mac: mac(0, 2),
        mtu: MTU,
    };
    veth::create_host_pair(&mut netlink, &mark, &pair)?;
    let mut host = place(0, 1);
    (host.mac, host.gateway_mac) = (pair.host_mac.0, pair.net_mac.0);
    host.ifindex = index(&mut netlink, HOST_LINK)?;
    let mut executor = Executor::new(pins.clone(), 1 << 30)?;
    executor.set(
        &Key::NodeEntry,
        None,
        &node_entry(&host, &pair)?,
        host.ifindex,
    )?;
    let (one, first) = make_endpoint(&mut netlink, &mark, &mut executor, 1)?;
    let (two, second) = make_endpoint(&mut netlink, &mark, &mut executor, 2)?;
    let [outer, far] = uplink::make(&mut netlink, &mut executor)?;
    executor.set(&Key::Policy, None, &Value::Policy(policy().into()), 0)?;
    executor.set(
        &Key::Generation,
        None,
        &Value::Generation { fingerprint: 1 },
        0,
    )?;
    Ok(([one, two, host, outer, far], [first, second]))
}

fn make_endpoint(
    netlink: &mut Netlink,
    mark: &Mark,
    executor: &mut Executor,
    number: u8,
) -> Result<(Place, OwnedFd)> {
    let namespace = new_namespace()?;
    let mut inside = netns::netlink_in(namespace.as_fd())?;
    let name = format!("e{number}");
    let link = format!("lxc{name}");
    let (lxc_mac, own_mac) = (mac(number, 1), mac(number, 2));
    let pair = EndpointPair {
        endpoint: &name,
        netns: None,
        link: &link,
        lxc_mac,
        mac: own_mac,
        mtu: MTU,
    };
    veth::create_endpoint_pair(netlink, &mut inside, namespace.as_fd(), mark, &pair)?;
    let mut place = place(number, 10 + number);
    (place.mac, place.gateway_mac) = (own_mac.0, lxc_mac.0);
    place.ifindex = index(netlink, &link)?;
    let entry = Value::EndpointEntry {
        id: number.into(),
        ipv4: Some(place.ipv4),
        ipv6: Some(place.ipv6),
        mac: own_mac,
        lxc_mac,
        mtu: MTU,
        link: LinkRef::Current,
    };
    executor.set(&Key::EndpointEntry(name), None, &entry, place.ifindex)?;
    Ok((place, namespace))
}

fn node_entry(host: &Place, pair: &HostPair) -> Result<Value> {
    Ok(Value::NodeEntry {
        router4: Some(host.ipv4),
        router6: Some(host.ipv6),
        ipv4: Some("10.200.0.0/24".parse()?),
        ipv6: Some("fd00:200::/64".parse()?),
        host_mac: pair.host_mac,
        host_link: LinkRef::Current,
        host_routing: HostRoutingMode::Bpf,
        reassembles: false,
        masquerade: Some(Masquerade {
            ports: (PORTS[0], PORTS[1]),
            mapping: Mapping::default(),
            filtering: Filtering::default(),
            selection: PortSelection::default(),
            max_ports: 0,
            timeouts: Timeouts::default(),
        }),
    })
}

/// Slot of the second endpoint.
pub(crate) const SLOT_TWO: u16 = 2;

/// Returns a policy that knows everybody, and allows everything.
pub(crate) fn policy() -> Policy {
    let host = Subject {
        identity: 1,
        ..Subject::default()
    };
    let endpoint = |number: u8| Subject {
        mac: mac(number, 2),
        identity: 1_000 + u32::from(number),
        ..Subject::default()
    };
    let subjects = [(0, host), (1, endpoint(1)), (SLOT_TWO, endpoint(2))];
    Policy {
        subjects: subjects.into(),
        ..Policy::default()
    }
}

/// Makes a place without links; its addresses end in `last`.
fn place(number: u8, last: u8) -> Place {
    Place {
        ifindex: u32::from(number),
        mac: [0; 6],
        gateway_mac: [0; 6],
        ipv4: [10, 200, 0, last].into(),
        ipv6: [0xfd00, 0x200, 0, 0, 0, 0, 0, u16::from(last)].into(),
    }
}

pub(crate) fn mac(number: u8, side: u8) -> Mac {
    Mac([0x02, 0, 0, 0, number, side])
}

pub(crate) fn index(netlink: &mut Netlink, name: &str) -> Result<u32> {
    let found = link::get(netlink, name)?;
    found
        .map(|link| link.index)
        .ok_or_else(|| anyhow!("link {name} is missing"))
}

fn new_namespace() -> Result<OwnedFd> {
    let made = thread::spawn(|| -> Result<OwnedFd> {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare network namespace")?;
        Ok(netns::open_own()?)
    });
    let made = made.join();
    ensure!(made.is_ok(), "make network namespace: the thread panicked");
    made.unwrap_or_else(|_| Err(anyhow!("make network namespace")))
}
