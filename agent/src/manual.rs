//! The manual of warnings, refusals and drop reasons: what each means, and what helps.
//!
//! `ciliate explain CODE` prints an entry. A code never changes its meaning; the README lists the
//! same codes in the same words, which a test watches.

use datapath::verdict::DropReason;

/// Is what the manual says about one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `CIL` and four digits.
    pub code: &'static str,
    /// One line, without a full stop.
    pub means: &'static str,
    /// What follows from it, and what to do.
    pub more: &'static str,
}

const fn entry(code: &'static str, means: &'static str, more: &'static str) -> Entry {
    Entry { code, means, more }
}

/// Lists all codes but those of drop reasons, in the order of their numbers.
pub const ENTRIES: &[Entry] = &[
    entry(
        "CIL0101",
        "something keeps undoing a repair",
        "Another program changes what the agent keeps: a network manager, a script, a second \
         agent. The object is left alone for a second, then two, up to a minute; traffic may be \
         interrupted meanwhile. The program that changed such an object last is named, here and by \
         `ciliate status`, if it was still there; tell it to leave the object alone. `doctor` tells \
         of it for an hour.",
    ),
    entry(
        "CIL0102",
        "the network namespace of an endpoint is missing",
        "The endpoint is not connected. A running agent connects it when the namespace is there; \
         `ip netns add NAME` makes one. Without an agent, apply again afterwards.",
    ),
    entry(
        "CIL0103",
        "the node could not be looked at or repaired; tried again, at the latest after a minute",
        "The log has the kernel's own words. What packets do is as it was before.",
    ),
    entry(
        "CIL0104",
        "a new file was refused; the old one holds",
        "The log has what is wrong with it, and so has `ciliate status` until a good file comes; \
         `ciliate check` says the same. Correct the file: the agent takes it by itself. A good file \
         that something else hinders, as a missing device, is tried again, at the latest after a \
         minute; one of which the kernel refused a step, after the next edit or `ciliate reload`.",
    ),
    entry(
        "CIL0105",
        "something that is done every few seconds failed",
        "Translations that have ended keep their ports until somebody needs them. The log has the \
         kernel's own words.",
    ),
    entry(
        "CIL0110",
        "somebody else can write the file, a file of conf.d, or a folder of these",
        "Who can write them commands the node. `apply`, `run` and a reload refuse such a file, and \
         what was applied before holds; `check` and `plan` only warn. `chmod go-w PATH`; a folder may \
         be sticky instead, as /tmp is. What root reads belongs to root, or to who called `sudo`: \
         `chown root PATH`.",
    ),
    entry(
        "CIL0111",
        "the agent has no control socket",
        "It keeps the node all the same, but `ciliate reload` finds no agent (HUP does the same), and \
         `ciliate status` does not know what the agent knows. The path of a socket has at most 107 \
         bytes: give a shorter `--state-dir`. The log has the kernel's own words.",
    ),
    entry(
        "CIL0112",
        "somebody spoke with the agent who may not",
        "Root, the user of the agent and members of its group may. The mode of the socket, 0660, keeps \
         others away: somebody changed it, or handed a connection over.",
    ),
    entry(
        "CIL0120",
        "the process that guarded a trial is gone; the trial is taken back",
        "It was killed, or the machine was started anew, before somebody confirmed what `ciliate \
         try` had applied. The node becomes what it was before the trial; the file that was tried \
         is left as it is.",
    ),
    entry(
        "CIL0121",
        "a trial could not be taken back",
        "The log has the kernel's own words. `ciliate try` and a running agent try it again, with \
         pauses; `ciliate apply` goes on without, and makes the node what its file says.",
    ),
    entry(
        "CIL0122",
        "the file is one that was tried and taken back; what was applied before holds",
        "Nobody confirmed it, so that an agent which starts does not take it by itself: it may cut \
         the node off. Correct the file; or take it as it is with `ciliate apply`, or with HUP to \
         the agent.",
    ),
    entry(
        "CIL0130",
        "the lease of a device has expired, for no DHCP server gave more time",
        "Its address and routes are gone, and so are the connections that used them. The agent \
         goes on asking, at the latest after a minute; everything else works meanwhile. `ip \
         link show DEVICE` shows whether there is a carrier.",
    ),
    entry(
        "CIL0131",
        "no DHCP server has lent a device an address",
        "Endpoints are connected all the same, and what they send to the outside by IPv4 is \
         dropped until there is an address. A running agent goes on asking, at the latest after \
         a minute; `apply` waits as long as `timeout` of `dhcp` says. Look for the carrier, the \
         cable, the VLAN, and for a server on that network.",
    ),
    entry(
        "CIL0132",
        "a DHCP server has taken the lease of a device back",
        "The network has changed, or the server has forgotten: the address may be somebody \
         else's, and is given up at once. Another one is asked for.",
    ),
    entry(
        "CIL0133",
        "nobody renews the leases of a node without an agent",
        "`apply` gets a lease once, and the kernel removes the address when it ends. `ciliate \
         run` keeps it.",
    ),
    entry(
        "CIL0134",
        "a part of a DHCP lease is not taken",
        "What a server says must not harm the node: an address or a route in a prefix of \
         endpoints, a gateway that no host can be, an MTU that the device or IPv6 cannot have. \
         The rest of the lease holds. Correct the server, or give the value in the file.",
    ),
    entry(
        "CIL0135",
        "no DHCP server can be asked by a device",
        "The device is missing or down, or the agent may not open a packet socket \
         (CAP_NET_RAW). Tried again every second.",
    ),
    entry(
        "CIL0136",
        "the file of name servers cannot be replaced",
        "Its folder is read-only, or the file is a mount of its own, as in containers. Give \
         another path in `resolv_conf` of `dhcp`.",
    ),
    entry(
        "CIL0140",
        "the new tables are too small for all translations",
        "When tables were exchanged for smaller ones, some halves of bindings had no room. Their \
         connections get other ports outside, and most break. Give a larger `bindings` in [maps].",
    ),
    entry(
        "CIL0141",
        "the node's tables have a layout that this ciliate cannot take over",
        "A newer ciliate made them, or one that is much older. Nothing was changed. Run the ciliate \
         that made them, or one in between; or take the node down with `ciliate down`, which \
         works on every layout and ends all connections, and apply again.",
    ),
    entry(
        "CIL0150",
        "the agent lacks a privilege that keeping the node may need",
        "After its start the agent gives up what its file does not need, for good; `ciliate status` lists \
         what is left, and why. Whoever started it may have held back more, as \
         `CapabilityBoundingSet=` of systemd or the options of a container do. Give it what the \
         warning names, and restart it: packets are carried meanwhile.",
    ),
    entry(
        "CIL0201",
        "a device that masquerades has no address of a family: what endpoints send by it is dropped",
        "Drop reason 167 or 228 counts what is lost. Give the device an address of the family, or \
         name one with `masquerade_address`; a running agent follows within a second.",
    ),
    entry(
        "CIL0202",
        "a masquerade address is none of the device's: replies come only if the network routes it here",
        "Right if a router outside sends the address to this node. Else nobody answers for it: \
         `ip address add ADDRESS dev DEVICE`.",
    ),
    entry(
        "CIL0203",
        "a firewall drops what `legacy` host routing forwards",
        "With `legacy` host routing packets of endpoints go through the forward path of the \
         host's firewall. A chain there drops what no rule accepts, as those of Docker, ufw and \
         firewalld do. `plan` and `doctor` print the commands that accept endpoints' packets in \
         the place that the firewall has for that; keep them where it keeps its rules. While no \
         connection of some endpoints can come about, `apply` refuses to begin, unless it is \
         called with `--force`.",
    ),
    entry(
        "CIL0204",
        "endpoints of a peer are not reached",
        "There is no route for their prefix. The warning says whether the peer's address is \
         missing in the file, the host has no way to it, or the way leads through a link that is \
         no device of the file.",
    ),
    entry(
        "CIL0205",
        "a device is down",
        "Nothing comes or goes through it: `ip link set DEVICE up`.",
    ),
    entry(
        "CIL0206",
        "another NAT uses ports of the masquerade range on a device that masquerades",
        "The kernel's NAT keeps the source port of a connection where it can, and knows nothing of \
         our range: connections of others (Docker's containers, virtual machines) whose port lies \
         in it get no answer, for a port of the range that belongs to no endpoint is closed (drop \
         reason 225). Give the other rule ports outside the range, `masquerade to :1024-49151` or \
         `-j MASQUERADE --to-ports 1024-49151` with a protocol, or endpoints an address of their \
         own with `masquerade_address`.",
    ),
    entry(
        "CIL0207",
        "`endpoint_routes` and strict reverse path filtering of all links exclude each other",
        "The host's stack gets packets of endpoints by cilium_host, and the kernel's way back leads \
         through another link with `endpoint_routes`. `sysctl -w net.ipv4.conf.all.rp_filter=2` \
         checks senders loosely; links with a value of their own keep it.",
    ),
    entry(
        "CIL0208",
        "a device is missing while the agent keeps its node, which is kept without it",
        "What endpoints send through it finds no way, and its translations have ended. The agent joins \
         it again when it is back. An agent that starts waits for it first, up to 30 s, unless the \
         file says `required = false`; for `apply`, a missing device is an error (CIL0301).",
    ),
    entry(
        "CIL0209",
        "a rule of a firewall or of policy routing names an endpoint's link, and meets no packet",
        "What the host's stack gets from endpoints comes by cilium_host, with either host routing, and \
         what it sends them leaves by that link unless `endpoint_routes` is on. A rule such as \
         `iifname \"lxcweb\" drop` or `ip rule add iif lxcweb` therefore does nothing. Match the \
         endpoint's address instead (`ip saddr`, `ip daddr`, `ip rule add from`), or cilium_host.",
    ),
    entry(
        "CIL0210",
        "the connection would be cut by which whoever applies the file is here",
        "A rule with `host` closes the node, and none lets in the TCP connection that a process has \
         from which `ciliate` descends, as that of an SSH server. `apply` refuses to begin unless it is \
         given `--allow-lockout`. Let the port in, or set `host = \"audit\"` in [policy], which lets \
         everything through and counts what would be denied. Neighbour discovery and DHCP pass \
         whatever rules say. The address to which that connection is may also be one of ours that goes: \
         come by another one first.",
    ),
    entry(
        "CIL0301",
        "the file names a device that is not there",
        "`ip link` lists the links of this machine. A device that comes later has to be there \
         before `apply`.",
    ),
    entry(
        "CIL0302",
        "a device has no Ethernet header, which the programs need",
        "WireGuard, tunnels, PPP: name the Ethernet device below it.",
    ),
    entry(
        "CIL0303",
        "a device is the loopback link",
        "It leads nowhere: name another one.",
    ),
    entry(
        "CIL0304",
        "a device is a port of another link, which takes its packets",
        "Name the bond, bridge, team or VRF that it is a port of.",
    ),
    entry(
        "CIL0305",
        "the address of a device is in the prefix of endpoints, so that nothing can be translated to it",
        "Give `masquerade_address`, or another prefix to the node.",
    ),
    entry(
        "CIL0306",
        "`ports` of [masquerade] leave the host too few ports for its own connections",
        "Give other `ports`, or widen net.ipv4.ip_local_port_range.",
    ),
    entry(
        "CIL0307",
        "host routing `bpf` would bypass a firewall, a routing rule or an IPsec policy",
        "Packets would not meet it any more. Take it away, or set `host_routing` to \"legacy\" or \
         \"auto\".",
    ),
    entry(
        "CIL0308",
        "systemd-networkd configures links of ours",
        "A file of networkd fits our links and does not say `Unmanaged=yes`: networkd may run \
         DHCP on them, change their addresses and take them down. `ciliate doctor --fix` writes a \
         file that has it leave them alone; of several files that fit a link, the first by name \
         counts, so that one whose name comes before `10-ciliate.network` has to be renamed.",
    ),
    entry(
        "CIL0309",
        "systemd-networkd removes routes of others when it starts",
        "Since version 248 it does unless `ManageForeignRoutes=no` is in networkd.conf. A running \
         agent brings the routes back within a second; without one they stay away. `ciliate \
         doctor --fix` writes the setting.",
    ),
    entry(
        "CIL0310",
        "NetworkManager is not told to leave our links alone",
        "It may run DHCP on them and take our addresses away. `ciliate doctor --fix` adds them to \
         its `unmanaged-devices`.",
    ),
    entry(
        "CIL0311",
        "a file of sysctl.d sets otherwise what the node needs",
        "At boot, and whenever somebody calls `sysctl --system`, forwarding ends or senders are \
         checked, until the agent repairs that a second later. Change the file, or let a later \
         one set what the node needs.",
    ),
    entry(
        "CIL0312",
        "another program has a filter on a hook of ours",
        "Filters of tc with a priority below 3089, and tcx links before ours, see packets first \
         and may keep them from us; what we redirect, later ones do not see. Both are right where \
         they are meant. Tools that delete the whole `clsact` qdisc take our filters with it; a \
         running agent brings them back.",
    ),
    entry(
        "CIL0313",
        "a flow table takes packets of a device of ours",
        "nftables' flow offload carries packets of known connections past the forward path, and \
         in hardware past our programs, policy and translation. Leave our devices out of it.",
    ),
    entry(
        "CIL0314",
        "the kernel is locked down for confidentiality",
        "Nothing of ciliate reads kernel memory, so that all of it works. Tracers such as \
         bpftrace and pwru do not; `ciliate status` counts what is dropped, and why.",
    ),
    entry(
        "CIL0315",
        "there is no BPF file system where pins shall be",
        "`apply` and the agent mount one, unless they run in a mount namespace of their own, as \
         under `ip netns exec` or a service manager's sandbox: then mount it at boot. Without it \
         nothing is set up, for what moves packets would go with the process.",
    ),
    entry(
        "CIL0316",
        "a control group allows little memory",
        "Maps are charged to it, and are made smaller to fit: fewer connections, more of them \
         forgotten early. Raise the limit, or set sizes in [maps].",
    ),
    entry(
        "CIL0317",
        "every user of the machine may load BPF programs",
        "kernel.unprivileged_bpf_disabled is 0. ciliate does not need that; attacks on the \
         processor's speculation do.",
    ),
];

/// Is what to do about packets that policy denied.
const DENIED: &str = "`ciliate policy test --from A --to B --port tcp/80` names the rule that denies \
                      it, or what closes the endpoint and which rule comes near; `ciliate policy \
                      show` lists what applies, and as root what each term has counted. With `audit \
                      = true` in [policy], a [[node]] or an [[endpoint]], what would be denied \
                      passes and is counted.";

/// Returns what to do about packets that were dropped for a reason, if the manual knows.
fn remedy(reason: DropReason) -> Option<&'static str> {
    let is_policy = matches!(
        reason,
        DropReason::PolicyDenied | DropReason::PolicyDenyList
    );
    is_policy.then_some(DENIED)
}

/// Finds what the manual says: about a warning (`CIL0203`, in any case), or about a drop reason by
/// its number (`225`) or by the words of `status`.
pub fn find(code: &str) -> Option<String> {
    let of_reason = |reason: &DropReason| {
        let number = *reason as u8;
        code == number.to_string() || reason.text().eq_ignore_ascii_case(code)
    };
    if let Some(entry) = ENTRIES
        .iter()
        .find(|entry| entry.code.eq_ignore_ascii_case(code))
    {
        return Some(format!("{}: {}\n\n{}", entry.code, entry.means, entry.more));
    }
    let reason = DropReason::ALL.iter().copied().find(of_reason)?;
    let number = reason as u8;
    let remedy = remedy(reason).map_or_else(String::new, |remedy| format!("\n\n{remedy}"));
    Some(format!(
        "{number} {}\n\n{}{remedy}\n\n`ciliate status` counts the packets that were dropped for it.",
        reason.text(),
        reason.meaning()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readme() -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        std::fs::read_to_string(path).expect("the README is there")
    }

    #[test]
    fn readme_lists_the_same_codes_in_the_same_words() {
        let readme = readme();
        let rows: Vec<&str> = readme
            .lines()
            .filter(|line| line.starts_with("| CIL"))
            .collect();

        let expected = ENTRIES
            .iter()
            .map(|entry| format!("| {} | {} |", entry.code, entry.means));
        assert_eq!(rows, expected.collect::<Vec<_>>());
    }

    #[test]
    fn readme_lists_the_same_drop_reasons_in_the_same_words() {
        let readme = readme();

        for reason in DropReason::ALL {
            let (number, text) = (*reason as u8, reason.text());
            let row = format!("| {number} {text} | {} |", reason.meaning());
            assert!(readme.contains(&row), "{row}");
        }
    }

    #[test]
    fn codes_ascend_and_are_found_in_any_case() {
        assert!(ENTRIES.is_sorted_by(|one, next| one.code < next.code));
        assert_eq!(find("cil0203"), find("CIL0203"));
        assert!(find("225").is_some_and(|text| text.contains("belongs to nobody")));
        assert!(find("Invalid packet").is_some_and(|text| text.starts_with("134 ")));
        assert_eq!(find("CIL9999"), None);
    }

    #[test]
    fn what_policy_denies_is_explained_with_what_to_do() {
        for number in ["133", "181"] {
            assert!(find(number).is_some_and(|text| text.contains("ciliate policy test")));
        }
        assert!(find("134").is_some_and(|text| !text.contains("policy")));
    }
}
