//! A machine as its files tell it: `/proc`, `/sys` and `/etc`, or a copy of them below some folder.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{error::Error, limits, probe::RingProbe};

/// `CAP_IPC_LOCK`, `capabilities(7)`: memory of rings is not charged to the user.
const CAP_IPC_LOCK: u64 = 1 << 14;
/// `CAP_SYS_ADMIN`: neither `fs.file-max` nor `kernel.io_uring_disabled = 1` binds.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// A file as it could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Its text.
    Text(String),
    /// There is none.
    Absent,
    /// It may not be read, or it is no text.
    Unreadable,
}

/// The machine that is checked, and the process whose limits count.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    pid: Option<u32>,
    probe: OnceLock<Option<RingProbe>>,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        Self::at("/")
    }

    /// The copy of a machine's files below `root`; `/`, however it is written, is this machine itself.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let root = fs::canonicalize(&root).unwrap_or(root);
        Self { root, pid: None, probe: OnceLock::new() }
    }

    /// The same, with the limits of a running process instead of this one's.
    #[must_use]
    pub fn of_process(self, pid: Option<u32>) -> Self {
        Self { pid, ..self }
    }

    /// Whether it is the machine itself, not a copy of its files.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The folder its files are below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The process whose limits count, if it is not this one.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Where a file of the machine, named from `/`, really is.
    pub fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        let file = file.as_ref();
        self.root.join(file.strip_prefix("/").unwrap_or(file))
    }

    /// The same, to be written: of a copy of a machine no link may lead out of it.
    ///
    /// # Errors
    /// It does lead out.
    pub fn path_to_write(&self, file: impl AsRef<Path>) -> Result<PathBuf, Error> {
        let path = self.path(file);
        let folders = path.ancestors().skip(1);
        let there = folders.map(fs::canonicalize).find_map(Result::ok);
        if there.is_none_or(|folder| folder.starts_with(&self.root)) {
            return Ok(path);
        }
        Err(Error::Outside { path, root: self.root.clone() })
    }

    /// Reads a file named from `/`, up to [`limits::FILE_BYTES_MAX`].
    pub fn read(&self, file: impl AsRef<Path>) -> Reading {
        read(&self.path(file))
    }

    /// The text of a file, trimmed; `None` where it cannot be read.
    pub fn text(&self, file: impl AsRef<Path>) -> Option<String> {
        match self.read(file) {
            Reading::Text(text) => Some(text.trim().to_owned()),
            Reading::Absent | Reading::Unreadable => None,
        }
    }

    /// The names in a folder, sorted; none where it cannot be read.
    pub fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().take(limits::FOLDER_FILES_MAX);
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Numbers of a setting below `/proc/sys`, named with dots.
    pub fn numbers(&self, sysctl: &str) -> Option<Vec<u64>> {
        numbers(&self.text(sysctl_file(sysctl))?)
    }

    /// The first number of a setting.
    pub fn number(&self, sysctl: &str) -> Option<u64> {
        self.numbers(sysctl)?.first().copied()
    }

    /// Soft and hard limit of a line of `/proc/PID/limits`; unlimited is [`u64::MAX`].
    pub fn limit(&self, name: &str) -> Option<(u64, u64)> {
        let text = self.text(format!("/proc/{}/limits", self.process()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let mut values = line.split_whitespace().map(|word| word.parse().unwrap_or(u64::MAX));
        Some((values.next()?, values.next()?))
    }

    /// `MemTotal`, bytes.
    pub fn memory_bytes(&self) -> Option<u64> {
        let text = self.text("/proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
    }

    /// The least memory limit of the process's control groups, version 2 or 1, with the file it stands in.
    pub fn group_memory(&self) -> Option<(u64, PathBuf)> {
        let groups = self.text(format!("/proc/{}/cgroup", self.process()))?;
        groups.lines().filter_map(|line| self.group_limit(line)).min()
    }

    /// Processors that are on line.
    pub fn processors(&self) -> usize {
        let online = self.text("/sys/devices/system/cpu/online").unwrap_or_default();
        let count: usize =
            online.split(',').filter_map(range).map(|(first, last)| (last - first) as usize + 1).sum();
        count.max(1)
    }

    /// The kernel's version, major and minor.
    pub fn kernel(&self) -> Option<(u32, u32)> {
        let release = self.text("/proc/sys/kernel/osrelease")?;
        let mut parts = release.split(|character: char| !character.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// Whether the process may hold any amount of ring memory.
    pub fn may_lock_memory(&self) -> bool {
        self.capabilities() & CAP_IPC_LOCK != 0
    }

    /// Whether the process administers the system.
    pub fn is_administrator(&self) -> bool {
        self.capabilities() & CAP_SYS_ADMIN != 0
    }

    /// Whether the process is in a group, by its number: `Gid` and `Groups` of `proc_pid_status(5)`.
    pub fn is_in_group(&self, group: u64) -> bool {
        let status = self.text(format!("/proc/{}/status", self.process())).unwrap_or_default();
        let lines =
            status.lines().filter_map(|line| line.strip_prefix("Gid:").or(line.strip_prefix("Groups:")));
        lines.flat_map(str::split_whitespace).any(|word| word.parse() == Ok(group))
    }

    /// What `io_uring` does here; `None` for a copy of a machine's files.
    pub fn probe(&self) -> Option<&RingProbe> {
        self.probe.get_or_init(|| self.is_live().then(RingProbe::of_this_kernel)).as_ref()
    }

    fn process(&self) -> String {
        self.pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string())
    }

    fn capabilities(&self) -> u64 {
        let status = self.text(format!("/proc/{}/status", self.process())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
    }

    /// The least limit of one line of `/proc/PID/cgroup`: of the group itself or one above it.
    fn group_limit(&self, line: &str) -> Option<(u64, PathBuf)> {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        // Beyond memory.high a group is slowed down until it stands still, beyond memory.max it is killed.
        let (mount, names): (_, &[&str]) = if hierarchy == "0" {
            ("/sys/fs/cgroup", &["memory.max", "memory.high"])
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", &["memory.limit_in_bytes"])
        } else {
            return None;
        };
        let folders = Path::new(group.trim_start_matches('/')).ancestors();
        let files =
            folders.flat_map(|folder| names.iter().map(move |name| Path::new(mount).join(folder).join(name)));
        files.filter_map(|file| Some((self.text(&file)?.parse().ok()?, file))).min()
    }
}

/// The file of a setting that is named with dots.
pub fn sysctl_file(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

/// All the words of `text` as numbers; `None` if one is not, or there is none.
pub fn numbers(text: &str) -> Option<Vec<u64>> {
    let numbers: Option<Vec<u64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    numbers.filter(|numbers| !numbers.is_empty())
}

fn read(file: &Path) -> Reading {
    let mut text = String::new();
    let opened =
        fs::File::open(file).and_then(|file| file.take(limits::FILE_BYTES_MAX).read_to_string(&mut text));
    match opened {
        Ok(_) => Reading::Text(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Reading::Absent,
        Err(_) => Reading::Unreadable,
    }
}

/// `3` or `0-3`, as the kernel writes lists of processors.
fn range(text: &str) -> Option<(u32, u32)> {
    let (first, last) = text.trim().split_once('-').unwrap_or((text.trim(), text.trim()));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}
