//! What about the machine itself will hurt: its BPF file system, its memory, what it lets everybody
//! do.

use std::fs;
use std::path::Path;

use super::Instance;
use crate::cli::failure::Failure;
use crate::host::{bpffs, memory, sysctl};
use crate::plan::warning::Warning;

const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const UNPRIVILEGED: &str = "kernel/unprivileged_bpf_disabled";

/// Lists what will hurt any node.
pub(super) fn findings(instance: &Instance) -> Result<Vec<Warning>, Failure> {
    let mut findings = Vec::new();
    if !bpffs::is_bpffs(instance.bpffs())? {
        findings.push(no_bpffs(instance.bpffs()));
    }
    if let Some((group, limit)) = memory::tight_group(instance.agent_pid()) {
        findings.push(tight_group(&group, limit));
    }
    if sysctl::read(UNPRIVILEGED)?.as_deref() == Some("0") {
        findings.push(bpf_for_everybody());
    }
    let lockdown = fs::read_to_string(LOCKDOWN).unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        findings.push(lockdown_finding());
    }
    Ok(findings)
}

fn no_bpffs(path: &Path) -> Warning {
    let path = path.display();
    Warning {
        commands: vec![
            format!("mkdir -p {path}"),
            format!("mount -t bpf bpf {path}"),
        ],
        ..Warning::new(
            "CIL0315",
            format!("{path} is no BPF file system: programs and maps have no place to stay"),
            "mount one at boot; else the agent does when it sets the node up, where it may".into(),
        )
    }
}

fn tight_group(group: &str, limit: u64) -> Warning {
    Warning {
        commands: vec!["systemctl set-property ciliate.service MemoryMax=128M".into()],
        ..Warning::new(
            "CIL0316",
            format!(
                "the control group {group} allows {} MiB of memory: maps are made smaller for it",
                limit >> 20
            ),
            "give it 128 MiB, or set the sizes in [maps]".into(),
        )
    }
}

fn bpf_for_everybody() -> Warning {
    Warning {
        commands: vec!["sysctl -w kernel.unprivileged_bpf_disabled=2".into()],
        ..Warning::new(
            "CIL0317",
            "kernel.unprivileged_bpf_disabled is 0: every user of the machine may load BPF programs"
                .into(),
            "close it, and keep that in /etc/sysctl.d".into(),
        )
    }
}

fn lockdown_finding() -> Warning {
    Warning::new(
        "CIL0314",
        "the kernel is locked down for confidentiality: programs of ciliate work, tracers that would \
         show what becomes of a packet do not"
            .into(),
        "boot with `lockdown=integrity` where that is needed".into(),
    )
}
