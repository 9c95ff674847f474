//! What can go wrong with a store, and what to do then.

use std::path::PathBuf;

/// The store could not be read or written just now. The text says which operation and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store failed to {operation}: {reason}")]
pub struct StoreError {
    /// What was tried.
    pub operation: &'static str,
    /// What the store said.
    pub reason: String,
}

impl StoreError {
    /// A failure of this operation, for this reason.
    pub fn new(operation: &'static str, reason: impl std::fmt::Display) -> Self {
        Self { operation, reason: format!("{reason}") }
    }
}

/// Why a router did not start. Each says the path, what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the store open.
    #[error(
        "the store at {} is in use by another process: stop that process, or give this one another --data folder",
        path.display()
    )]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// The folder cannot be made, read or written.
    #[error(
        "the folder {} cannot be used for the store ({reason}): make it writable for this user, free space on its disk, \
         or choose another --data folder", path.display()
    )]
    Unusable {
        /// The store's folder.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// What is there cannot be read as a store.
    #[error(
        "the store at {} is damaged ({reason}): restore the folder from a backup, or move it away to start with an \
         empty store", path.display()
    )]
    Corrupt {
        /// The store's folder.
        path: PathBuf,
        /// What did not fit.
        reason: String,
    },
    /// Made by another version of Roost.
    #[error(
        "the store at {} has format {found}, this program reads format {known}: start it with the version of Roost that \
         made it, or move the folder away to start with an empty store", path.display()
    )]
    UnknownFormat {
        /// The store's folder.
        path: PathBuf,
        /// The number in the store.
        found: u32,
        /// The number this program reads.
        known: u32,
    },
    /// The configuration contradicts itself.
    #[error("router configuration: {0}")]
    Config(String),
    /// A thread could not be started.
    #[error("a router thread could not be started ({0}): raise the limit of threads (ulimit -u)")]
    Thread(std::io::Error),
}
