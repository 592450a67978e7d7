//! What masquerades on the bench, and how it is set up.
//!
//! The rows are about ciliate. `CILIATE_NAT_GATEWAY=nftables` puts the kernel's own NAT in its
//! place: a row that fails there by design says so, every other one must pass there too, which
//! shows that the rows judge what a packet looks like and nothing else. `CILIATE_NAT_ROUTING` is the
//! setting of `host_routing`; left out, it is the default.

use std::env;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::agent;
use super::machine::Machine;

/// Is what masquerades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    Ciliate,
    /// The kernel's NAT: the reference that rows are tried with.
    Nftables,
}

/// Is how it is set up.
#[derive(Clone, Debug)]
pub struct Options {
    pub mapping: &'static str,
    pub filtering: &'static str,
    pub selection: &'static str,
    /// First and last outside port.
    pub ports: (u16, u16),
    /// 0: no limit; none: the default.
    pub max_ports: Option<u32>,
    pub exclude: Vec<&'static str>,
    /// Masquerade addresses; none: the device's primary ones.
    pub addresses: Vec<&'static str>,
    pub timeouts: Vec<(&'static str, u32)>,
    /// Entries of the table of flows; 0: the default.
    pub flows: u32,
    /// Entries of the tables of bindings; 0: the default.
    pub bindings: u32,
    /// Whether there is a second device, `up1`.
    pub second_device: bool,
    /// Endpoints beyond c1 and c2: c3 is 10.9.0.13, and so on.
    pub others: u8,
    /// Setting of `host_routing`; none: what the environment says.
    pub routing: Option<&'static str>,
    /// Which endpoint has the address of which: c1 and c2, or the other way round.
    pub is_swapped: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mapping: "endpoint-independent",
            filtering: "address",
            selection: "sequential",
            ports: (49_152, 65_535),
            max_ports: Some(0),
            exclude: Vec::new(),
            addresses: Vec::new(),
            timeouts: Vec::new(),
            flows: 0,
            bindings: 0,
            second_device: false,
            others: 0,
            routing: None,
            is_swapped: false,
        }
    }
}

impl Options {
    /// Lets anybody send to a binding.
    #[must_use]
    pub fn open(self) -> Self {
        Self {
            filtering: "endpoint-independent",
            ..self
        }
    }

    /// Shortens a timer, in seconds.
    #[must_use]
    pub fn timeout(mut self, name: &'static str, secs: u32) -> Self {
        self.timeouts.push((name, secs));
        self
    }

    #[must_use]
    pub fn ports(self, first: u16, last: u16) -> Self {
        let ports = (first, last);
        Self { ports, ..self }
    }

    #[must_use]
    pub fn exclude(self, prefixes: &[&'static str]) -> Self {
        let exclude = prefixes.to_vec();
        Self { exclude, ..self }
    }

    /// Returns the file of the node.
    pub fn file(&self) -> String {
        let [c1, c2] = if self.is_swapped {
            ["12", "11"]
        } else {
            ["11", "12"]
        };
        let mut file =
            "[[node]]\nname = \"gw\"\nipv4 = \"10.9.0.0/24\"\nipv6 = \"fd00:9::/64\"\n".to_owned();
        let pair = [("c1", c1), ("c2", c2)].map(|(name, last)| (name.to_owned(), last.to_owned()));
        let others = (3..3 + self.others).map(|number| (other(number), (10 + number).to_string()));
        for (name, last) in pair.into_iter().chain(others) {
            write!(
                file,
                "\n[[endpoint]]\nname = \"{name}\"\nipv4 = \"10.9.0.{last}\"\nipv6 = \"fd00:9::{last}\"\n"
            )
            .expect("text can be written");
        }
        let devices: &[&str] = if self.second_device {
            &["up0", "up1"]
        } else {
            &["up0"]
        };
        for device in devices {
            file += &format!("\n[[device]]\nname = \"{device}\"\nmasquerade = true\n");
            if !self.addresses.is_empty() {
                file += &format!("masquerade_address = {:?}\n", self.addresses);
            }
        }
        file + &self.masquerade()
    }

    fn masquerade(&self) -> String {
        let mut text = format!(
            "\n[masquerade]\nmapping = {:?}\nport_selection = {:?}\nports = \"{}-{}\"\nexclude = {:?}\n",
            self.mapping, self.selection, self.ports.0, self.ports.1, self.exclude
        );
        if self.mapping == "endpoint-independent" {
            text += &format!("filtering = {:?}\n", self.filtering);
        }
        if let Some(max_ports) = self.max_ports {
            text += &format!("max_ports_per_endpoint = {max_ports}\n");
        }
        if !self.timeouts.is_empty() {
            text += "unsafe_timeouts = true\n\n[masquerade.timeouts]\n";
            for (name, secs) in &self.timeouts {
                text += &format!("{name} = \"{secs}s\"\n");
            }
        }
        let environment = env::var("CILIATE_NAT_ROUTING").ok();
        if let Some(routing) = self.routing.map(str::to_owned).or(environment) {
            text += &format!("\n[routing]\nhost_routing = {routing:?}\n");
        }
        text += "\n[maps]\n";
        for (name, entries) in [("flows", self.flows), ("bindings", self.bindings)] {
            if entries != 0 {
                text += &format!("{name} = {entries}\n");
            }
        }
        text
    }

    /// Returns the same as a ruleset, as far as it can be said there.
    fn ruleset(&self) -> String {
        let (first, last) = self.ports;
        let random = if self.selection == "random" {
            " fully-random"
        } else {
            ""
        };
        // The first two lines make one transaction of it, whether there was such a table or not.
        let mut text = "table inet nat\ndelete table inet nat\ntable inet nat {\n chain post {\n  type nat hook postrouting priority 100\n  ip saddr != 10.9.0.0/24 return\n  ip6 saddr != fd00:9::/64 return\n"
            .to_owned();
        for prefix in &self.exclude {
            let family = if prefix.contains(':') { "ip6" } else { "ip" };
            text += &format!("  {family} daddr {prefix} return\n");
        }
        text + &format!(
            "  oifname \"up*\" meta l4proto {{ tcp, udp }} masquerade to :{first}-{last}{random}\n  oifname \"up*\" masquerade\n }}\n}}\n"
        )
    }
}

/// Names an endpoint beyond the second.
pub fn other(number: u8) -> String {
    format!("c{number}")
}

impl Gateway {
    /// Returns what the environment says.
    pub fn under_test() -> Self {
        match env::var("CILIATE_NAT_GATEWAY").as_deref() {
            Ok("nftables") => Self::Nftables,
            Ok("ciliate") | Err(_) => Self::Ciliate,
            Ok(other) => panic!("CILIATE_NAT_GATEWAY={other}: ciliate or nftables"),
        }
    }

    /// Makes the machine's own namespace a gateway; its endpoints' namespaces are there.
    pub(super) fn set_up(self, machine: &Machine, options: &Options) {
        match self {
            Self::Ciliate => apply(machine, options),
            Self::Nftables => {
                connect(machine);
                translate(machine, options);
            }
        }
    }

    /// Sets a running gateway up anew.
    pub(super) fn change(self, machine: &Machine, options: &Options) {
        match self {
            Self::Ciliate => apply(machine, options),
            Self::Nftables => translate(machine, options),
        }
    }
}

/// Writes the node's file and returns its path.
pub fn write_file(machine: &Machine, options: &Options) -> PathBuf {
    machine.write("ciliate.toml", &options.file())
}

fn apply(machine: &Machine, options: &Options) {
    let file = write_file(machine, options);
    agent::expect(&machine.own, &format!("apply {}", file.display()), 0);
}

/// What else a careful administrator would refuse.
const FIREWALL: &str = r#"table inet firewall
delete table inet firewall
table inet firewall {
 chain sources {
  type filter hook prerouting priority -300
  iifname "lxcc1" ip saddr != 10.9.0.11 drop
  iifname "lxcc2" ip saddr != 10.9.0.12 drop
  iifname "lxcc1" ip6 saddr != { fd00:9::11, fe80::/10, :: } drop
  iifname "lxcc2" ip6 saddr != { fd00:9::12, fe80::/10, :: } drop
  iifname "up*" ip saddr 10.9.0.0/24 drop
  iifname "up*" ip6 saddr fd00:9::/64 drop
  iifname "lxc*" ip daddr 10.9.0.255 drop
 }
 chain input {
  type filter hook input priority 0
  iifname "up*" meta l4proto { tcp, udp } th dport {first}-{last} ct state new,invalid drop
 }
 chain forward {
  type filter hook forward priority 0
  icmp type { source-quench, redirect } drop
  oifname "up*" ct state invalid,untracked drop
 }
}
"#;

/// Connects the endpoints as the agent does, without any program.
fn connect(machine: &Machine) {
    let mut lines =
        "link add cilium_host type veth peer name cilium_net\nlink set cilium_net up\nlink set cilium_host up\naddress add 10.9.0.1/32 dev cilium_host\naddress add fd00:9::1/128 dev cilium_host nodad\n"
            .to_owned();
    for (name, last) in [("c1", 11), ("c2", 12)] {
        let [near, far] = [0xcc, 0xee].map(|end| format!("02:00:00:00:{last}:{end:02x}"));
        lines +=
            &format!("link add lxc{name} address {near} type veth peer name eth0 netns {name}\n");
        lines += &format!("link set lxc{name} up\n");
        for (address, len) in [
            (format!("10.9.0.{last}"), 32),
            (format!("fd00:9::{last}"), 128),
        ] {
            let router = if len == 32 { "10.9.0.1" } else { "fd00:9::1" };
            lines += &format!("route add {address}/{len} dev lxc{name} src {router}\n");
            lines += &format!("neigh add {address} lladdr {far} dev lxc{name}\n");
        }
        let inside = format!(
            "link set eth0 address {far}\nlink set eth0 up\naddress add 10.9.0.{last}/32 dev eth0\naddress add fd00:9::{last}/128 dev eth0 nodad\nroute add 10.9.0.1 dev eth0\nroute add fd00:9::1 dev eth0\nroute add default via 10.9.0.1\nroute add default via fd00:9::1\nneigh add 10.9.0.1 lladdr {near} dev eth0\nneigh add fd00:9::1 lladdr {near} dev eth0\n"
        );
        machine.write(&format!("{name}.ip"), &inside);
    }
    let file = machine.write("gw.ip", &lines);
    machine.own.run(&format!("ip -batch {}", file.display()));
    for name in ["c1", "c2"] {
        let file = machine.folder.join(format!("{name}.ip"));
        super::namespace::Namespace::named(name).run(&format!("ip -batch {}", file.display()));
    }
    for family in ["ipv4", "ipv6"] {
        machine
            .own
            .set_sysctl(&format!("net/{family}/conf/all/forwarding"), "1");
    }
}

fn translate(machine: &Machine, options: &Options) {
    let [first, last] = [options.ports.0, options.ports.1].map(|port| port.to_string());
    let firewall = FIREWALL.replace("{first}", &first).replace("{last}", &last);
    let file = machine.write("nat.nft", &(options.ruleset() + &firewall));
    machine.own.run(&format!("nft -f {}", file.display()));
    for (name, secs) in &options.timeouts {
        let keys: &[&str] = match *name {
            "udp" => &["udp_timeout", "udp_timeout_stream"],
            "icmp" => &["icmp_timeout", "icmpv6_timeout"],
            "tcp_established" => &["tcp_timeout_established"],
            "tcp_transitory" => &[
                "tcp_timeout_close",
                "tcp_timeout_close_wait",
                "tcp_timeout_fin_wait",
                "tcp_timeout_last_ack",
                "tcp_timeout_syn_recv",
                "tcp_timeout_syn_sent",
                "tcp_timeout_time_wait",
            ],
            _ => &["generic_timeout"],
        };
        for key in keys {
            let path = format!("net/netfilter/nf_conntrack_{key}");
            machine.own.set_sysctl(&path, &secs.to_string());
        }
    }
}
