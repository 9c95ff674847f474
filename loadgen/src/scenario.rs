//! What the clients of a run do: one file a scenario, each a [`crate::worker::Session`].

mod chat;
mod echo;
mod idle;

pub use chat::Chat;
pub use echo::Echo;
pub use idle::Idle;

use crate::auth::{Credentials, DEVICE};
use crate::options::{Options, Scenario};
use crate::ws::upgrade_request;
use tungstenite::handshake::client::Request;

/// The upgrade request of a client: with a token or the query of `--auth none`, and the sub-protocol of chat frames,
/// where the server is to know the user.
pub(crate) fn request(options: &Options, user: u64) -> Result<Request, String> {
    let target = &options.target;
    let mut path = target.path.clone();
    if matches!(options.credentials, Credentials::Query) {
        let mark = if path.contains('?') { '&' } else { '?' };
        path = format!("{path}{mark}user={user}&device={DEVICE}");
    }
    let token = options.credentials.token(user)?;
    let sub_protocol = speaks_roost(options).then(|| options.cli.encoding.sub_protocol());
    upgrade_request(&target.authority, &path, sub_protocol, token.as_deref())
}

/// Whether frames of roost.v1 are spoken: always in chat and group; in idle where the server knows the users.
pub fn speaks_roost(options: &Options) -> bool {
    match options.cli.scenario {
        Scenario::Echo => false,
        _ => options.talks() || options.credentials.is_known(),
    }
}
