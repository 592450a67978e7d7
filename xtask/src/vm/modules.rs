//! Which kernel modules a guest needs, in the order in which they must be loaded.
//!
//! Debian's package holds no `modules.dep`; each module names what it depends on in its section `.modinfo`, as text that starts
//! with `depends=`. Modules are uncompressed in Debian's 6.1.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Returns the files of the modules and of what they depend on, dependencies first, relative to `folder`. Names that are built
/// into the kernel give nothing.
pub(super) fn resolve(folder: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = BTreeMap::new();
    find_modules(folder, &mut files)?;
    let builtin_list = folder.join("modules.builtin");
    let builtin = fs::read_to_string(&builtin_list)
        .with_context(|| format!("read {}", builtin_list.display()))?;
    let index = Index {
        folder,
        files,
        builtin: builtin
            .lines()
            .map(|line| module_name(Path::new(line)))
            .collect(),
    };

    let mut order = Vec::new();
    for name in names {
        index.visit(name, &mut order)?;
    }
    Ok(order)
}

struct Index<'a> {
    folder: &'a Path,
    /// Name → file
    files: BTreeMap<String, PathBuf>,
    builtin: Vec<String>,
}

impl Index<'_> {
    fn visit(&self, name: &str, order: &mut Vec<PathBuf>) -> Result<()> {
        if self.builtin.iter().any(|builtin| builtin == name) {
            return Ok(());
        }
        let Some(file) = self.files.get(name) else {
            bail!("load module {name}: the kernel package has none of that name");
        };
        let relative = file.strip_prefix(self.folder)?.to_owned();
        if order.contains(&relative) {
            return Ok(());
        }
        let content = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        for dependency in dependencies(&content) {
            self.visit(&dependency, order)?;
        }
        order.push(relative);
        Ok(())
    }
}

fn find_modules(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find_modules(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            files.insert(module_name(&path), path);
        }
    }
    Ok(())
}

/// Returns the name by which the kernel knows a module file: it writes no dashes.
fn module_name(file: &Path) -> String {
    file.file_stem()
        .map(|stem| stem.to_string_lossy().replace('-', "_"))
        .unwrap_or_default()
}

/// Reads the module's `depends=`, a list with commas that ends with a zero byte.
fn dependencies(module: &[u8]) -> Vec<String> {
    const MARK: &[u8] = b"\0depends=";
    let Some(at) = module.windows(MARK.len()).position(|window| window == MARK) else {
        return Vec::new();
    };
    let list = &module[at + MARK.len()..];
    let end = list
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(list.len());
    String::from_utf8_lossy(&list[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(depends: &str) -> Vec<u8> {
        format!("\x7fELF\0license=GPL\0depends={depends}\0name=x\0").into_bytes()
    }

    #[test]
    fn dependencies_come_before_the_module_and_once() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        for (name, depends) in [
            ("bridge", "stp,llc"),
            ("stp", "llc"),
            ("llc", ""),
            ("veth", ""),
        ] {
            fs::write(
                folder.path().join(name).with_extension("ko"),
                module(depends),
            )
            .expect("write a module");
        }
        fs::write(
            folder.path().join("modules.builtin"),
            "kernel/net/ipv6/ipv6.ko\n",
        )
        .expect("write the list");

        let order =
            resolve(folder.path(), &["bridge", "ipv6", "veth"]).expect("all modules are there");

        let names: Vec<String> = order.iter().map(|file| module_name(file)).collect();
        assert_eq!(names, ["llc", "stp", "bridge", "veth"]);
    }

    #[test]
    fn unknown_module_is_named() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        fs::write(folder.path().join("modules.builtin"), "").expect("write the list");

        let error = resolve(folder.path(), &["netkit"]).expect_err("there is no such module");

        assert_eq!(
            error.to_string(),
            "load module netkit: the kernel package has none of that name"
        );
    }
}
