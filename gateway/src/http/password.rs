//! Hashing passwords with argon2id, on blocking threads, a few at a time.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

use super::answer::Refusal;
use super::limits::{
    ARGON2_LANES, ARGON2_MEMORY_KIB, ARGON2_PASSES, HASHES_IN_FLIGHT_MAX, HASHES_WAITING_MAX,
};

/// Sixteen bytes of salt, base64.
const SALT_OF_NOBODY: &str = "bm9ib2R5IGhhcyB0aGlzIQ";
/// Thirty-two zero bytes, base64: no password is known that hashes to them.
const HASH_OF_NOTHING: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Runs password work under two bounds: how many at once, and how many wait for that.
#[derive(Clone)]
pub(super) struct Passwords {
    argon2: Argon2<'static>,
    /// Verified against where there is no such user, so that the answer takes as long.
    stand_in: Arc<str>,
    in_flight: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

/// How many passwords are hashed at once on this machine.
pub(super) fn hashes_in_flight_max() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    (cpus / 2).clamp(1, HASHES_IN_FLIGHT_MAX)
}

impl Passwords {
    /// Hashes nothing: that takes 19 MiB for a moment, and a process without users should not have grown by it.
    pub(super) fn new() -> Self {
        let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, None)
            .expect("the parameters of limits.rs are within argon2's range");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let stand_in = format!(
            "$argon2id$v=19$m={ARGON2_MEMORY_KIB},t={ARGON2_PASSES},p={ARGON2_LANES}${SALT_OF_NOBODY}${HASH_OF_NOTHING}"
        );
        let in_flight = hashes_in_flight_max();
        Self {
            argon2,
            stand_in: stand_in.into(),
            in_flight: Arc::new(Semaphore::new(in_flight)),
            admitted: Arc::new(Semaphore::new(in_flight + HASHES_WAITING_MAX)),
        }
    }

    /// The PHC string of a password with a fresh salt. Blocks; for [`Passwords::run`].
    ///
    /// # Errors
    /// 503 where the system gives no random bytes.
    pub(super) fn hash(&self, password: &str) -> Result<String, Refusal> {
        self.argon2
            .hash_password(password.as_bytes())
            .map(|hash| hash.to_string())
            .map_err(|_| Refusal::unavailable("The password cannot be hashed now; try again."))
    }

    /// Whether the password is the one of this PHC string; takes as long, and says no, without one. Blocks; for
    /// [`Passwords::run`].
    pub(super) fn verify(&self, password: &str, hash: Option<&str>) -> bool {
        let known = hash.and_then(|hash| PasswordHash::new(hash).ok());
        let stand_in =
            PasswordHash::new(&self.stand_in).expect("built from constants that a test has parsed");
        let fits =
            self.argon2.verify_password(password.as_bytes(), known.as_ref().unwrap_or(&stand_in)).is_ok();
        fits && known.is_some()
    }

    /// Runs `work` on a blocking thread when its turn comes.
    ///
    /// # Errors
    /// 503 where too many wait already, or what `work` itself answers.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let busy = || Refusal::unavailable("Too many are signing in at once; try again in a moment.");
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| busy())?;
        let permit = Arc::clone(&self.in_flight).acquire_owned().await.map_err(|_| busy())?;
        let passwords = self.clone();
        tokio::task::spawn_blocking(move || {
            // The permits go when the work is done, not when a client has lost patience.
            let _permits = (permit, admitted);
            work(&passwords)
        })
        .await
        .map_err(|_| Refusal::unavailable("The password could not be checked; try again."))?
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn hashes_carry_the_parameters_and_verify() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse").expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash("correct horse").expect("hashed"), "each has its salt");
        assert!(passwords.verify("correct horse", Some(&hash)));
        assert!(!passwords.verify("wrong horse", Some(&hash)));
        assert!(!passwords.verify("nobody has this password", None), "the stand-in opens nothing");
        let stand_in = PasswordHash::new(&passwords.stand_in).expect("a PHC string");
        let real = PasswordHash::new(&hash).expect("a PHC string");
        assert_eq!(stand_in.params, real.params, "to refuse a stranger takes as long as to refuse a user");
        assert!(!passwords.verify("correct horse", Some("no PHC string")));
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let passwords = Passwords::new();
        let places = hashes_in_flight_max() + HASHES_WAITING_MAX;
        let taken =
            Arc::clone(&passwords.admitted).try_acquire_many_owned(places as u32).expect("all places");
        let refusal = passwords.run(|_| Ok(())).await.expect_err("full").into_response();
        assert_eq!(refusal.status(), 503);
        assert!(refusal.headers().contains_key("retry-after"));
        drop(taken);
        passwords.run(|_| Ok(())).await.expect("room again");
    }
}
