//! Files with a secret in the data folder, above all `<data>/secret`: the HS256 key of this gateway's own tokens. Made on first
//! start, kept for ever.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;

use super::error::KeyError;
use super::limits::{KEY_FILE_BYTES_MAX, SECRET_BYTES_MIN};

/// Random bytes in a new secret; 43 characters when written.
const SECRET_RANDOM_BYTES: usize = 32;

/// Where the embedded router keeps its store, beside the secret.
const STORE_FOLDER: &str = "store";

/// The key of this gateway's own tokens, in `<data>/secret`.
///
/// # Errors
/// As [`load_or_create`].
pub(super) fn signing_key(data: &Path) -> Result<Vec<u8>, KeyError> {
    let (key, is_new) = load_or_create(data, "secret")?;
    if is_new && has_store(data) {
        tracing::warn!(
            secret = %data.join("secret").display(),
            "the secret was not there and has been made anew: all tokens issued before are void, and everybody \
             has to sign in again; if it was lost, restore it from a backup and start again"
        );
    }
    Ok(key)
}

/// The secret in `<data>/<name>`, without its trailing newline, and whether it is new; makes the file (mode 0600) and `data` where
/// they are not there.
///
/// # Errors
/// The file cannot be made or read, is open to others, or is too short.
pub(super) fn load_or_create(data: &Path, name: &str) -> Result<(Vec<u8>, bool), KeyError> {
    let path = data.join(name);
    match read(&path) {
        Err(KeyError::Read { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
            create(data, &path).map_err(|cause| KeyError::Create { path: path.clone(), cause })?;
            Ok((read(&path)?, true))
        }
        other => Ok((other?, false)),
    }
}

/// Reads at most `KEY_FILE_BYTES_MAX` bytes of a key file.
///
/// # Errors
/// It cannot be read, or is larger.
pub(super) fn read_bounded(path: &Path) -> Result<(Vec<u8>, fs::Metadata), KeyError> {
    let failed = |cause| KeyError::Read { path: path.to_owned(), cause };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err(KeyError::Large { path: path.to_owned() });
    }
    Ok((bytes, metadata))
}

/// Whether a gateway has run on this data before: the store's folder is there and has something in it.
fn has_store(data: &Path) -> bool {
    fs::read_dir(data.join(STORE_FOLDER)).is_ok_and(|mut entries| entries.next().is_some())
}

/// A secret in a file of its own, without its trailing newline.
///
/// # Errors
/// The file cannot be read, is open to others, or is too short.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let (mut key, metadata) = read_bounded(path)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    if key.last() == Some(&b'\n') {
        key.pop();
        if key.last() == Some(&b'\r') {
            key.pop();
        }
    }
    if key.len() < SECRET_BYTES_MIN {
        return Err(KeyError::Short { path: path.to_owned(), bytes: key.len() });
    }
    Ok(key)
}

/// Written whole under another name and linked into place, so that a crash leaves no half secret and two gateways
/// that start at once agree on the first one's: `link` fails where the name is taken, `rename` would replace it.
fn create(data: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(data)?;
    let mut random = [0; SECRET_RANDOM_BYTES + 8];
    SysRng.try_fill_bytes(&mut random).map_err(io::Error::other)?;
    let (key, suffix) = random.split_at(SECRET_RANDOM_BYTES);
    let draft = data.join(format!(".secret-{}", URL_SAFE_NO_PAD.encode(suffix)));
    let linked = write_draft(&draft, key).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    fs::remove_file(&draft)?;
    linked?;
    File::open(data)?.sync_all()
}

fn write_draft(draft: &Path, key: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    writeln!(file, "{}", URL_SAFE_NO_PAD.encode(key))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn data() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[test]
    fn made_once_and_kept() {
        let data = data();
        let nested = data.path().join("not/there/yet");
        let key = signing_key(&nested).expect("made");
        let text = fs::read_to_string(nested.join("secret")).expect("text");
        assert_eq!(text.len(), 44);
        assert_eq!(text.strip_suffix('\n').map(str::as_bytes), Some(&key[..]));
        assert!(key.iter().all(u8::is_ascii_graphic));
        assert_eq!(fs::metadata(nested.join("secret")).expect("there").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&nested).expect("listed").count(), 1, "no draft stays");
        assert_eq!(signing_key(&nested).expect("read again"), key);
        assert_ne!(signing_key(&nested.join("other")).expect("another"), key);
    }

    #[test]
    fn gateways_that_start_at_once_agree() {
        let data = data();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| signing_key(data.path()))).collect();
            starts.into_iter().map(|start| start.join().expect("no panic").expect("a key")).collect()
        });
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn says_what_to_do_about_a_bad_secret() {
        let data = data();
        let path = data.path().join("secret");
        let with = |text: &str, mode: u32| {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode set");
            signing_key(data.path()).expect_err("refused").to_string()
        };
        let long = "x".repeat(SECRET_BYTES_MIN);
        assert!(with("", 0o600).contains("holds 0 bytes"));
        assert!(with("\n", 0o600).contains("remove it to have a new one"));
        assert!(with(&"x".repeat(SECRET_BYTES_MIN - 1), 0o600).contains("holds 31 bytes"));
        assert!(with(&long, 0o640).contains("chmod 600"));
        assert!(with(&long, 0o604).contains("mode 0604"));
        assert!(with(&"x".repeat(100_000), 0o600).contains("larger than"));
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("a directory in its place");
        let error = signing_key(data.path()).expect_err("refused").to_string();
        assert!(error.contains("cannot read") && error.ends_with("name a file, not a directory"), "{error}");
    }

    #[test]
    fn a_file_in_the_way_of_the_data_directory_is_named() {
        let data = data();
        let file = data.path().join("file");
        fs::write(&file, "").expect("written");
        let error = signing_key(&file).expect_err("refused").to_string();
        assert!(error.contains("file/secret"), "{error}");
    }

    #[test]
    fn a_secret_made_anew_beside_a_store_is_warned_of() {
        let log = |data: &Path| {
            let file = tempfile::NamedTempFile::new().expect("a temporary file");
            let writer = std::sync::Mutex::new(file.reopen().expect("opened"));
            let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
            tracing::subscriber::with_default(subscriber, || signing_key(data).expect("made or read"));
            fs::read_to_string(file.path()).expect("text")
        };
        let data = data();
        assert_eq!(log(data.path()), "", "a first start");
        fs::create_dir(data.path().join(STORE_FOLDER)).expect("made");
        fs::write(data.path().join(STORE_FOLDER).join("journal"), "").expect("written");
        assert_eq!(log(data.path()), "", "the secret is there");
        fs::remove_file(data.path().join("secret")).expect("removed");
        let told = log(data.path());
        assert!(told.contains("WARN") && told.contains("all tokens issued before are void"), "{told}");
    }
}
