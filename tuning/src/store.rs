//! Files as they are saved, replaced and brought back.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{error::Error, limits};

/// Mode of a file that was not there before.
const MODE: u32 = 0o644;

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// All of it.
    pub text: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Reads a file with its mode and owner; `None` where there is none.
///
/// # Errors
/// It cannot be read, is a link, no text, or longer than [`limits::FILE_BYTES_MAX`].
pub fn save(path: &Path) -> Result<Option<Saved>, Error> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(Error::file("look at", path))?,
    };
    let strange = |is| Error::Strange { path: path.to_owned(), is };
    if !metadata.is_file() {
        return Err(strange("is a link or no file"));
    }
    let mut bytes = Vec::new();
    let opened = File::open(path).map_err(Error::file("open", path))?;
    opened.take(limits::FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    if bytes.len() as u64 > limits::FILE_BYTES_MAX {
        return Err(strange("is longer than 1 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| strange("is no text"))?;
    Ok(Some(Saved { text, mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }))
}

/// Writes a value into a file of the kernel, in one call of `write(2)` as it wants it.
///
/// # Errors
/// What the kernel says to it.
pub fn write_kernel(path: &Path, text: &str) -> Result<(), Error> {
    let mut file =
        OpenOptions::new().write(true).truncate(true).open(path).map_err(Error::file("open", path))?;
    file.write_all(text.as_bytes()).map_err(Error::file("write", path))
}

/// Puts `text` in place of a file: all of it or, when the power fails, none. `like` tells mode and owner; a new file is
/// readable for all. `step` is called where the machine could stop.
///
/// # Errors
/// What the system says.
pub fn replace(path: &Path, text: &str, like: Option<&Saved>, step: &mut dyn FnMut()) -> Result<(), Error> {
    let half = unfinished(path);
    let mode = like.map_or(MODE, |saved| saved.mode);
    let write = || -> io::Result<()> {
        remove_if_there(&half)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&half)?;
        // The mask of the process took bits away.
        file.set_permissions(Permissions::from_mode(mode))?;
        if let Some(saved) = like {
            fchown(&file, Some(saved.uid), Some(saved.gid))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(Error::file("write", &half))?;
    step();
    fs::rename(&half, path).map_err(Error::file("replace", path))?;
    sync_folder(path)
}

/// Removes a file, if it is there.
///
/// # Errors
/// What the system says.
pub fn remove(path: &Path) -> Result<(), Error> {
    remove_if_there(path).map_err(Error::file("remove", path))?;
    sync_folder(path)
}

/// The name under which a file is written before it takes its place.
pub fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.roost-tune"))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// A name is on disk only when its folder is.
fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => opened.and_then(|folder| folder.sync_all()).map_err(Error::file("sync", folder)),
    }
}
