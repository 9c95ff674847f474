//! `<data>/operator-token`: what an operator shows to see what users do not. Made on first start, or a file the operator names.

use std::path::Path;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::KeyError;
use super::limits::TOKEN_BYTES_MAX;
use super::secret;

/// Its name in the data folder.
const FILE: &str = "operator-token";

/// Verifies operators. It keeps a digest: the token itself is not in memory, and cannot come into a log from here.
#[derive(Clone)]
pub struct OperatorToken {
    digest: [u8; 32],
}

impl OperatorToken {
    /// The token in `file`, or in `<data>/operator-token` where none is named; that one is made, mode 0600, where it is not there.
    ///
    /// # Errors
    /// The file cannot be made or read, is open to others, or is too short.
    pub fn load(data: &Path, file: Option<&Path>) -> Result<Self, KeyError> {
        let token = match file {
            Some(path) => secret::read(path)?,
            None => secret::load_or_create(data, FILE)?.0,
        };
        Ok(Self { digest: Sha256::digest(token).into() })
    }

    /// Whether this is the token. Digests are compared, all of their bytes whatever they are: neither the time it takes nor how it
    /// ends early tells how much of a guess is right.
    pub fn verify(&self, token: &str) -> bool {
        token.len() <= TOKEN_BYTES_MAX && bool::from(Sha256::digest(token).as_slice().ct_eq(&self.digest))
    }
}

impl std::fmt::Debug for OperatorToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("OperatorToken")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn made_once_for_its_owner_alone_and_apart_from_the_secret() {
        let data = tempfile::tempdir().expect("a folder");
        let operator = OperatorToken::load(data.path(), None).expect("made");
        let path = data.path().join(FILE);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let token = fs::read_to_string(&path).expect("text");
        let token = token.trim_end();
        assert!(operator.verify(token));
        for wrong in ["", &token[1..], &token[..42], &format!("{token}x"), &token.to_uppercase()] {
            assert!(!operator.verify(wrong), "{wrong}");
        }
        assert!(OperatorToken::load(data.path(), None).expect("read").verify(token), "kept");
        assert!(!format!("{operator:?}").contains(token));
    }

    #[test]
    fn a_file_that_is_named_is_read_and_not_made() {
        let data = tempfile::tempdir().expect("a folder");
        let path = data.path().join("mine");
        let error = OperatorToken::load(data.path(), Some(&path)).expect_err("not there").to_string();
        assert!(error.contains("name a file that is there"), "{error}");
        let token = "an operator's own token of 32 bytes and more";
        fs::write(&path, format!("{token}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
        let error = OperatorToken::load(data.path(), Some(&path)).expect_err("open to others").to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
        assert!(OperatorToken::load(data.path(), Some(&path)).expect("read").verify(token));
        assert!(!data.path().join(FILE).exists(), "none is made beside it");
    }
}
