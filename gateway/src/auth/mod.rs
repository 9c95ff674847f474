//! Who is speaking: tokens are verified here, with the gateway's own secret and, where the configuration names a
//! key file, with the keys of another issuer.

mod error;
mod keys;
pub mod limits;
mod number;
mod secret;

pub use error::{KeyError, TOKEN_ERRORS, TokenError};
pub use keys::Keys;
pub use number::{device_number, user_number};
