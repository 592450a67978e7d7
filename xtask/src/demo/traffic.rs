//! Packets of the demo: real clients inside network namespaces, each bounded in count and time.
//!
//! The clients are those that anybody would type: ping and iperf3 under `ip netns exec`. Nothing
//! leaves the lab.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::privilege::privileged;
use crate::process;

/// An address for documentation (RFC 5737), which no endpoint has.
const FOREIGN: &str = "192.0.2.66";
const FOREIGN_PREFIX: &str = "192.0.2.66/32";

/// How long the client asks for a server that is still starting.
const SERVER_START: Duration = Duration::from_secs(5);

pub(super) fn within(netns: &str, arguments: &[&str]) -> Command {
    let mut command = privileged("ip");
    command.args(["netns", "exec", netns]).args(arguments);
    command
}

pub(super) fn show(netns: &str, arguments: &[&str]) -> Result<()> {
    println!("$ ip netns exec {netns} {}", arguments.join(" "));
    process::run(&mut within(netns, arguments))
}

/// Echo requests until three are answered, within five seconds.
pub(super) fn ping(netns: &str, address: &str) -> Result<()> {
    show(netns, &["ping", "-c", "3", "-i", "0.2", "-w", "5", address])
}

/// How a transfer is made.
#[derive(Clone, Copy)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// Returns what the client is told; datagrams fit the MTU of every link.
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Tcp => &["--time", "2", "--format", "g"],
            Self::Udp => &[
                "--udp",
                "--bitrate",
                "100M",
                "--length",
                "1200",
                "--time",
                "1",
            ],
        }
    }
}

/// A transfer of some seconds, towards a server that serves one client and is ended after twenty.
pub(super) fn transfer(
    client: &str,
    server: &str,
    address: &str,
    protocol: Protocol,
) -> Result<()> {
    let mut serving = within(
        server,
        &["timeout", "20", "iperf3", "--server", "--one-off"],
    )
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .context("run iperf3 as a server")?;
    println!("$ ip netns exec {server} iperf3 --server --one-off &");
    let who = ["timeout", "10", "iperf3", "--client", address];
    let arguments = [&who[..], protocol.options()].concat();
    println!("$ ip netns exec {client} {}", arguments[2..].join(" "));

    let deadline = Instant::now() + SERVER_START;
    let output = loop {
        let output = process::finish(&mut within(client, &arguments))?;
        let refused = String::from_utf8_lossy(&output.stderr).contains("Connection refused");
        if !refused || Instant::now() > deadline {
            break output;
        }
        thread::sleep(Duration::from_millis(100));
    };
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        bail!(
            "send from {client} to {server}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    serving.wait().context("wait for iperf3's server")?;
    Ok(())
}

/// One echo request from a source that is not the endpoint's, which must stay unanswered.
pub(super) fn spoof(netns: &str, address: &str) -> Result<()> {
    show(
        netns,
        &["ip", "address", "add", FOREIGN_PREFIX, "dev", "eth0"],
    )?;
    let arguments = ["ping", "-c", "1", "-W", "1", "-I", FOREIGN, address];
    println!("$ ip netns exec {netns} {}", arguments.join(" "));
    let output = process::finish(&mut within(netns, &arguments))?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    show(
        netns,
        &["ip", "address", "del", FOREIGN_PREFIX, "dev", "eth0"],
    )?;
    if output.status.success() {
        bail!("send from {FOREIGN} in {netns}: the packet passed");
    }
    Ok(())
}
