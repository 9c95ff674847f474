//! The journal: what was there before anything was changed. It is on disk before the first change and goes after the last one is
//! brought back, so that an apply that was cut off can be rolled back as well.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    machine::Machine,
    plan::Plan,
    store::{self, Saved},
};

const NAME: &str = "journal.json";
const VERSION: u32 = 1;

/// A file that was, or was about to be, changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The file, named from `/`.
    pub file: String,
    /// Whether it is one of the kernel's.
    pub kernel: bool,
    /// What was in it before the first apply; `None` where it was not there.
    pub before: Option<Saved>,
    /// What was written, or was to be written, by each apply.
    pub after: Vec<String>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    /// The start of the kernel in which it was begun.
    boot: Option<String>,
    /// The network namespace in which it was begun.
    namespace: Option<String>,
    /// Folders that were made for the journal itself, outer ones first; named as the system does, not from a `--root`.
    pub made_for_state: Vec<String>,
    /// Folders that were made, outer ones first.
    pub folders: Vec<String>,
    /// Files, in the order in which they were first changed.
    pub changed: Vec<Changed>,
}

/// The folder of the journal, locked for this process.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    /// Held for the lock that is on it.
    _lock: File,
}

impl State {
    /// Locks the folder, which is made if `make` says so; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be made or opened, or another process has it.
    pub fn open(folder: &Path, make: bool) -> Result<Option<Self>, Error> {
        if make {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(Error::file("make the folder", folder))?;
        }
        let lock = match File::open(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(Error::file("open", folder))?,
        };
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { folder: folder.to_owned(), _lock: lock })),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: folder.to_owned() }),
            Err(TryLockError::Error(error)) => Err(Error::file("lock", folder)(error)),
        }
    }

    /// Where the journal is.
    pub fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// Reads the journal, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or not be understood.
    pub fn load(&self) -> Result<Option<Journal>, Error> {
        let path = self.path();
        let Some(saved) = store::save(&path)? else { return Ok(None) };
        let wrong = |why| Error::Journal { path: path.clone(), why };
        let journal: Journal = serde_json::from_str(&saved.text).map_err(|error| wrong(error.to_string()))?;
        if journal.version != VERSION {
            return Err(wrong(format!("version {}, this tool knows {VERSION}", journal.version)));
        }
        Ok(Some(journal))
    }

    /// Puts the journal on disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, journal: &Journal, step: &mut dyn FnMut()) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(journal).expect("a journal is JSON");
        store::replace(&self.path(), &(text + "\n"), None, step)
    }

    /// Removes the journal.
    ///
    /// # Errors
    /// What the system says.
    pub fn clear(&self) -> Result<(), Error> {
        store::remove(&store::unfinished(&self.path()))?;
        store::remove(&self.path())
    }

    /// Removes the folder, if nothing is in it.
    pub fn remove_if_empty(self) {
        // Anything in it is not ours, and stays.
        let _not_empty = fs::remove_dir(&self.folder);
    }
}

impl Journal {
    /// An empty one, of this start and this network namespace.
    pub fn new(machine: &Machine) -> Self {
        Self {
            version: VERSION,
            boot: boot(machine),
            namespace: namespace(machine),
            made_for_state: Vec::new(),
            folders: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// Notes folders that had to be made for the journal; a journal that exists needed none.
    pub fn state_folders(&mut self, made: Vec<String>) {
        if !made.is_empty() {
            self.made_for_state = made;
        }
    }

    /// Adds what a plan is about to change. Of a file that is in it already, what was there first stays.
    pub fn extend(&mut self, plan: &Plan) {
        for folder in &plan.folders {
            if !self.folders.contains(folder) {
                self.folders.push(folder.clone());
            }
        }
        for write in &plan.writes {
            match self.changed.iter_mut().find(|changed| changed.file == write.file) {
                Some(changed) => changed.after.push(write.after.clone()),
                None => self.changed.push(Changed {
                    file: write.file.clone(),
                    kernel: write.kernel,
                    before: write.saved.clone(),
                    after: vec![write.after.clone()],
                }),
            }
        }
    }

    /// Settings of a network namespace are brought back in that one only. After a restart of the machine it is gone, and the
    /// numbers of namespaces mean others.
    ///
    /// # Errors
    /// This process is in another one.
    pub fn check_namespace(&self, machine: &Machine, state: &State) -> Result<(), Error> {
        let ours = namespace(machine);
        match (&self.namespace, ours) {
            (Some(theirs), Some(ours)) if *theirs != ours && self.boot == boot(machine) => {
                Err(Error::Namespace { path: state.path(), theirs: theirs.clone(), ours })
            }
            _ => Ok(()),
        }
    }
}

fn boot(machine: &Machine) -> Option<String> {
    machine.text("/proc/sys/kernel/random/boot_id")
}

fn namespace(machine: &Machine) -> Option<String> {
    let link = fs::read_link(machine.path("/proc/self/ns/net")).ok()?;
    Some(link.display().to_string())
}
