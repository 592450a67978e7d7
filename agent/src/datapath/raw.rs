//! Entries of the maps as the kernel has them, bytes for bytes.
//!
//! For people who look for a fault: nothing here knows what the bytes mean. Of arrays the entries
//! that are all zero are left out.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use aya::maps::{MapData, MapType};
use aya_obj::generated::{bpf_attr__bindgen_ty_2, bpf_attr__bindgen_ty_2__bindgen_ty_1, bpf_cmd};
use nix::libc;
use serde::Serialize;

use super::Error;
use super::pin::Pins;
use super::sys::{bpf, zeroed};
use super::table::MAPS;

/// To which length the kernel pads the value of each processor.
const PER_CPU_ALIGN: usize = 8;

/// Is a map with its entries.
#[derive(Clone, Debug, Serialize)]
pub struct RawMap {
    pub name: &'static str,
    pub kind: String,
    /// Lengths in bytes.
    pub key_len: u32,
    pub value_len: u32,
    pub max_entries: u32,
    pub entries: Vec<RawEntry>,
}

/// Is an entry, in hexadecimal digits.
#[derive(Clone, Debug, Serialize)]
pub struct RawEntry {
    pub key: String,
    /// Of a map that each processor has for itself, the values of all, one behind the other.
    pub value: String,
}

/// Reads all maps of a node; one that is not there is left out.
///
/// # Errors
/// When one cannot be read.
pub fn maps(pins: &Pins) -> Result<Vec<RawMap>, Error> {
    let present = MAPS.iter().filter(|name| pins.map(name).exists());
    present.map(|name| map(pins, name)).collect()
}

fn map(pins: &Pins, name: &'static str) -> Result<RawMap, Error> {
    let failed = |error| Error::map("open map", name, &error);
    let data = MapData::from_pin(pins.map(name)).map_err(failed)?;
    let info = data.info().map_err(failed)?;
    let kind = info.map_type().map_err(failed)?;
    let (key_len, value_len) = (info.key_size(), info.value_size());
    let is_array = matches!(kind, MapType::Array | MapType::PerCpuArray);
    let is_per_cpu = matches!(
        kind,
        MapType::PerCpuArray | MapType::PerCpuHash | MapType::LruPerCpuHash
    );
    let mut value = vec![0; value_len as usize];
    if is_per_cpu {
        let cpus = aya::util::nr_cpus()
            .map_err(|(path, error)| Error::at("read", path.as_ref())(error))?;
        value.resize(
            (value_len as usize).next_multiple_of(PER_CPU_ALIGN) * cpus,
            0,
        );
    }
    let read = Reading {
        fd: data.fd().as_fd(),
        key: vec![0; key_len as usize],
        value,
        max_entries: info.max_entries(),
    };
    let entries = read.entries(is_array);
    Ok(RawMap {
        name,
        kind: format!("{kind:?}"),
        key_len,
        value_len,
        max_entries: info.max_entries(),
        entries: entries.map_err(Error::at("read map", &pins.map(name)))?,
    })
}

/// Is a map that is being read, with room for an entry.
struct Reading<'a> {
    fd: BorrowedFd<'a>,
    key: Vec<u8>,
    value: Vec<u8>,
    max_entries: u32,
}

impl Reading<'_> {
    fn entries(mut self, skips_zeros: bool) -> io::Result<Vec<RawEntry>> {
        let mut found = Vec::new();
        let mut former: Option<Vec<u8>> = None;
        // A table that changes meanwhile may begin anew: each key is read twice at the most.
        for _ in 0..u64::from(self.max_entries) * 2 {
            if !self.step(former.as_deref())? {
                break;
            }
            former = Some(self.key.clone());
            // An entry that went meanwhile is none.
            if !self.look_up()? || (skips_zeros && self.value.iter().all(|byte| *byte == 0)) {
                continue;
            }
            found.push(RawEntry {
                key: hex::encode(&self.key),
                value: hex::encode(&self.value),
            });
        }
        found.sort_by(|one, next| one.key.cmp(&next.key));
        found.dedup_by(|next, one| one.key == next.key);
        Ok(found)
    }

    /// Goes to the key behind another one, or to the first; tells whether there is one.
    fn step(&mut self, former: Option<&[u8]>) -> io::Result<bool> {
        let former = former.map_or(0, |key| key.as_ptr() as u64);
        let next_key = self.key.as_mut_ptr() as u64;
        let place = bpf_attr__bindgen_ty_2__bindgen_ty_1 { next_key };
        self.call(bpf_cmd::BPF_MAP_GET_NEXT_KEY, former, place)
    }

    /// Reads the value of the key; tells whether there is one.
    fn look_up(&mut self) -> io::Result<bool> {
        let key = self.key.as_ptr() as u64;
        let value = self.value.as_mut_ptr() as u64;
        let place = bpf_attr__bindgen_ty_2__bindgen_ty_1 { value };
        self.call(bpf_cmd::BPF_MAP_LOOKUP_ELEM, key, place)
    }

    fn call(
        &self,
        command: bpf_cmd,
        key: u64,
        place: bpf_attr__bindgen_ty_2__bindgen_ty_1,
    ) -> io::Result<bool> {
        let mut attr = zeroed();
        attr.__bindgen_anon_2 = bpf_attr__bindgen_ty_2 {
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            key,
            __bindgen_anon_1: place,
            flags: 0,
        };
        match bpf(command, &mut attr) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
