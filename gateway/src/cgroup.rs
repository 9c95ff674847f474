//! What the control groups of this process say of its memory, version 2 or 1.

use std::{
    fs,
    path::{Path, PathBuf},
};

use procfs::{FromRead as _, ProcessCGroups};

/// A control group of the process, or a parent of one, whose limit binds as well.
#[derive(Clone, Debug)]
pub struct Group {
    folder: PathBuf,
    files: &'static Files,
}

/// Memory of a control group that is limited, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMemory {
    /// There may be so much.
    pub most: u64,
    /// In use, page cache included.
    pub used: u64,
    /// Page cache that is given up first, which `used` includes.
    pub inactive_file: u64,
    /// Page cache that is given up after it, which `used` includes.
    pub active_file: u64,
}

impl GroupMemory {
    /// What the group may still take: the page cache that is given up first is not counted as used.
    pub fn left(self) -> u64 {
        self.most.saturating_sub(self.used.saturating_sub(self.inactive_file))
    }

    /// What it uses of what there may be, in percent; no page cache is counted, because a store fills whatever there is with it.
    pub fn used_percent(self) -> u32 {
        let held = self.used.saturating_sub(self.inactive_file + self.active_file);
        (held.saturating_mul(100) / self.most.max(1)).min(100) as u32
    }
}

/// Where a control group's folder tells of its memory.
#[derive(Debug)]
struct Files {
    most: &'static str,
    used: &'static str,
    /// Lines of `memory.stat`.
    inactive_file: &'static str,
    active_file: &'static str,
}

/// The kernel's `Documentation/admin-guide/cgroup-v1/memory.rst`.
const VERSION_1: Files = Files {
    most: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    inactive_file: "total_inactive_file",
    active_file: "total_active_file",
};
/// The kernel's `Documentation/admin-guide/cgroup-v2.rst`.
const VERSION_2: Files = Files {
    most: "memory.max",
    used: "memory.current",
    inactive_file: "inactive_file",
    active_file: "active_file",
};

/// The groups of this process that may limit its memory, each before its parents. `root` is the folder in which `proc` and `sys`
/// lie. Empty where they cannot be read.
pub fn groups(root: &Path) -> Vec<Group> {
    let Ok(ProcessCGroups(groups)) = ProcessCGroups::from_file(root.join("proc/self/cgroup")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for group in groups {
        let (mount, files) = if group.controllers.iter().any(|name| name == "memory") {
            ("sys/fs/cgroup/memory", &VERSION_1)
        } else if group.hierarchy == 0 {
            ("sys/fs/cgroup", &VERSION_2)
        } else {
            continue;
        };
        let own = Path::new(group.pathname.trim_start_matches('/'));
        let folders = own.ancestors().map(|folder| root.join(mount).join(folder));
        found.extend(folders.map(|folder| Group { folder, files }));
    }
    found
}

impl Group {
    /// Its memory; `None` when it is not limited, or cannot be read.
    pub fn memory(&self) -> Option<GroupMemory> {
        let most = self.number(self.files.most)?;
        let used = self.number(self.files.used)?;
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let line = |wanted: &str| {
            let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
            let value = lines.find_map(|(name, value)| (name == wanted).then(|| value.parse().ok())?);
            value.unwrap_or_default()
        };
        let (inactive_file, active_file) = (line(self.files.inactive_file), line(self.files.active_file));
        Some(GroupMemory { most, used, inactive_file, active_file })
    }

    /// Where the kernel tells how long its tasks waited for memory; version 2 only.
    pub fn pressure_file(&self) -> PathBuf {
        self.folder.join("memory.pressure")
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_cache_is_not_used_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).expect("written");
        let memory = |files| Group { folder: folder.path().to_owned(), files }.memory();
        assert_eq!(memory(&VERSION_2), None);
        for files in [&VERSION_1, &VERSION_2] {
            write(files.most, "1000\n");
            write(files.used, "700\n");
            assert_eq!(memory(files).map(GroupMemory::left), Some(300), "without memory.stat");
        }
        write("memory.stat", "file 600\ninactive_file 400\nactive_file 200\ntotal_inactive_file 500\n");
        assert_eq!(memory(&VERSION_2).map(GroupMemory::left), Some(700));
        assert_eq!(memory(&VERSION_2).map(GroupMemory::used_percent), Some(10));
        assert_eq!(memory(&VERSION_1).map(GroupMemory::left), Some(800));
        write(VERSION_2.most, "max\n");
        assert_eq!(memory(&VERSION_2), None, "no limit of its own");
    }

    #[test]
    fn a_group_is_followed_by_its_parents() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("proc/self")).expect("a folder");
        let lines = "4:memory:/box/inner\n3:cpuset:/other\n0::/system.slice/roost.service\n";
        fs::write(root.path().join("proc/self/cgroup"), lines).expect("written");
        let found = groups(root.path());
        let folders: Vec<&Path> = found.iter().map(|group| group.folder.as_path()).collect();
        let below = |path: &str| root.path().join("sys/fs/cgroup").join(path);
        assert_eq!(
            folders,
            [
                below("memory/box/inner"),
                below("memory/box"),
                below("memory"),
                below("system.slice/roost.service"),
                below("system.slice"),
                below(""),
            ]
        );
        assert!(groups(Path::new("/nonexistent")).is_empty());
    }
}
