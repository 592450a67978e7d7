//! The BPF side of a node: the only code that knows aya.
//!
//! # Layout
//! - [`object`], [`pin`]: what is loaded, and where it lies
//! - [`load`], `calls`, [`btf`], [`sys`]: maps created, programs verified and pinned
//! - [`table`]: typed access to the maps; [`raw`]: their bytes
//! - [`demand`]: what the maps take, before they are made
//! - [`attach`], [`foreign`]: programs on hooks, ours and those of others
//! - [`reassembly`]: fragments put together by the node's stack
//! - `binding`, [`sweep`], `audit`: the tables of bindings, rid of what has ended, and recounted
//! - `entry`, `device`: the entries of endpoints and devices
//! - [`policy`], `batch`: the tables of policy, on two sides
//! - [`cutover`], `transfer`, `counts`, `carry`: tables exchanged for others while packets pass
//! - [`observe`], [`execute`]: the BPF part of a node's state, read and changed

pub mod attach;
mod audit;
mod batch;
mod binding;
pub mod btf;
mod calls;
mod carry;
mod counts;
pub mod cutover;
pub mod demand;
mod device;
mod entry;
pub mod execute;
pub mod foreign;
pub mod glance;
pub mod load;
pub mod object;
pub mod observe;
pub mod pin;
pub mod policy;
pub mod raw;
pub mod reassembly;
pub mod sweep;
pub mod sys;
pub mod table;
mod transfer;

use std::io;
use std::path::{Path, PathBuf};

/// Tells what the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "policy names prefixes of {0} different lengths, and the tables take {most} of each family; \
         split some into two that are longer by one bit",
        most = datapath::abi::Lengths::MOST
    )]
    TooManyLengths(usize),

    #[error("{operation} {}: {error}", path.display())]
    Path {
        operation: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error("{operation} {name}: {text}")]
    Map {
        operation: &'static str,
        name: String,
        text: String,
    },
    #[error(
        "create map {name} of {entries} entries, {} KiB: {error}; {help}, or allow more memory \
         (the control group's memory.max)",
        bytes / 1024
    )]
    Memory {
        name: String,
        entries: u32,
        bytes: u64,
        error: io::Error,
        /// What makes the map smaller.
        help: &'static str,
    },
    #[error("load program {name}: {error} (verifier: {log})")]
    Program {
        name: String,
        error: io::Error,
        log: String,
    },
    #[error("BPF object: {0}")]
    Object(String),
    #[error("{0}: not an object of the datapath")]
    NotOurs(String),
    #[error("{0}: its link is gone")]
    LinkGone(String),
    #[error(
        "CIL0141: the node's tables have layout {found}, and this ciliate, of layout {ours}, cannot take them over; \
         {help}, or end all connections with `ciliate down` and begin anew"
    )]
    Layout {
        found: u32,
        ours: u32,
        /// Who can.
        help: &'static str,
    },
    #[error(transparent)]
    Host(#[from] crate::host::error::Error),
}

impl Error {
    fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Path {
            operation,
            path,
            error,
        }
    }

    fn map(operation: &'static str, name: &str, error: &aya::maps::MapError) -> Self {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::Map {
            operation,
            name: name.to_owned(),
            text,
        }
    }
}
