//! Who is speaking: tokens are verified here, with the gateway's own secret and, where the configuration names a
//! key file, with the keys of another issuer. Operators have a token of their own.

mod error;
mod keys;
pub mod limits;
mod number;
mod operator;
mod secret;

pub use error::{KeyError, TOKEN_ERRORS, TokenError};
pub use keys::Keys;
pub use number::{device_number, user_number};
pub use operator::OperatorToken;
