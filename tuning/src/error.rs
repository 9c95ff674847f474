//! What can go wrong while a machine is changed.

use std::{io, path::PathBuf};

/// An error with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{doing} {}: {source}{}", path.display(), hint(source))]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what this tool writes.
    #[error("{} {is}: move it away, nothing was changed", path.display())]
    Strange {
        /// The file.
        path: PathBuf,
        /// What it is.
        is: &'static str,
    },
    /// A folder on the way to a file of a copy leads somewhere else.
    #[error("{} leads out of --root {}: nothing was changed there", path.display(), root.display())]
    Outside {
        /// The file.
        path: PathBuf,
        /// The folder that it has to be below.
        root: PathBuf,
    },
    /// A file is not what it was when the plan was made.
    #[error("{} was changed while the plan was made: nothing was written, run it again", path.display())]
    Moved {
        /// The file.
        path: PathBuf,
    },
    /// The journal cannot be understood.
    #[error("{} is no journal of this tool ({why}): bring back by hand what it names, then remove it", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process is at it.
    #[error("another roost-tune works with {}: wait for it", path.display())]
    Locked {
        /// The folder of the journal.
        path: PathBuf,
    },
    /// The journal was written in another network namespace.
    #[error("{} was written in network namespace {theirs}, this is {ours}: nsenter there, or give --state", path.display())]
    Namespace {
        /// The journal.
        path: PathBuf,
        /// Its namespace.
        theirs: String,
        /// That of this process.
        ours: String,
    },
}

/// What was asked for cannot be: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl Error {
    /// Wraps what the system said.
    pub fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (run it as root; a container may not change its host)",
        io::ErrorKind::ReadOnlyFilesystem => " (mounted read-only: a container may not change its host)",
        _ => "",
    }
}
