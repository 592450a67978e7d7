//! The only code that reads or changes the kernel's network objects.
//!
//! Everything here is synchronous and acts in the network namespace of the calling thread,
//! unless a function takes a namespace. BPF objects are the business of `datapath`.
//!
//! # Layout
//! - [`mod@observe`]: what the kernel has now, in the planner's words; `inside` reads endpoints
//! - [`execute`]: one change of the planner, carried out; [`names`] behind its symbols
//! - [`link`], [`veth`], [`address`], [`route`]: the objects, one file each
//! - [`device`], [`reach`]: devices that the file names, and the kernel's way to peers
//! - `caller`: the connections by which we are called
//! - [`surroundings`]: all of that, read at once
//! - [`rule`]: policy routing
//! - [`obstacle`]: what BPF host routing would bypass: [`firewall`], rules, [`ipsec`]
//! - [`manager`]: what other programs' files say they will do to our links
//! - [`clsact`]: BPF filters on the hooks of a link
//! - [`mark`]: how our links are told from everybody else's
//! - [`netns`], [`named`]: network namespaces: entered, and made for a lab
//! - [`segment`]: the bridge that joins the nodes of a lab
//! - [`capability`]: what this process may do
//! - [`kernel`], [`memory`]: what the machine is, and how much maps may take
//! - [`clock`], [`session`]: the time since the machine started, and processes that no terminal ends
//! - [`sysctl`], [`bpffs`], [`lock`]: files that stand for kernel state, and the lock of a node
//! - [`netlink`], [`raw`]: the blocking requester below all of them, and untyped messages
//! - [`error`]: what went wrong, with the kernel's own words

pub mod address;
pub mod bpffs;
mod caller;
pub mod capability;
pub mod clock;
pub mod clsact;
pub mod device;
pub mod error;
pub mod execute;
pub mod firewall;
pub mod glance;
mod inside;
pub mod ipsec;
pub mod kernel;
pub mod link;
pub mod lock;
pub mod manager;
pub mod mark;
pub mod memory;
pub mod name_servers;
pub mod named;
pub mod names;
pub mod netlink;
pub mod netns;
pub mod observe;
pub mod obstacle;
pub mod packet_socket;
pub mod raw;
pub mod reach;
pub mod route;
pub mod rule;
pub mod segment;
pub mod session;
pub mod surroundings;
pub mod sysctl;
pub mod veth;

pub use error::{Error, Result};
pub use execute::Executor;
pub use names::Names;
pub use netlink::Netlink;
pub use observe::{Observation, observe};

/// Is the number that marks our routes (`rtm_protocol`) and addresses (`IFA_PROTO`): free in
/// `/etc/iproute2/rt_protos`, next to the numbers of other daemons.
pub const PROTOCOL: u8 = 193;

/// Names the host's side of the pair that carries the router addresses.
pub const HOST_LINK: &str = "cilium_host";

/// Names the other end of that pair.
pub const NET_LINK: &str = "cilium_net";

/// Names the link inside an endpoint's namespace.
pub const ENDPOINT_LINK: &str = "eth0";
