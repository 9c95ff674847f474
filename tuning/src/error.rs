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
