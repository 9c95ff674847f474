//! The embedded default: gateway and router in one process, joined by mailboxes.

use std::{collections::VecDeque, sync::Arc};

use roost_gateway::{
    auth::{Keys, device_number, user_number},
    config::AuthKind,
    conn::{Authenticate, Identity},
    http::{AccountFuture, AccountOutcome, Accounts, AccountsUnavailable, Tier, Waiting},
    mailbox::Sender,
    shard::Uplink,
};
use roost_proto::{
    handshake::{Refusal, Upgrade},
    tier::{Effect, Full, Outlet, Request},
};
use roost_router::Handle;

/// From router threads to the mailboxes of the shards, and to the calls of the HTTP service.
pub struct Mailboxes {
    /// By shard.
    pub shards: Vec<Sender<Effect>>,
    /// Calls over HTTP.
    pub calls: Arc<Waiting>,
}

impl Outlet for Mailboxes {
    fn deliver(&self, shard: u16, effects: &mut VecDeque<Effect>) {
        match self.shards.get(usize::from(shard)) {
            Some(mailbox) => mailbox.send_from(effects),
            None if shard == self.calls.shard() => self.calls.take(effects),
            // No such shard: its sessions are gone with it.
            None => effects.clear(),
        }
    }
}

/// From a shard, or from the HTTP service, to the router's queues.
pub struct RouterUplink(pub Handle);

impl Tier for RouterUplink {
    fn submit(&self, request: Request) -> Result<(), Full> {
        self.0.submit(request)
    }
}

impl Uplink for RouterUplink {
    fn submit(&self, request: Request) -> Result<(), Full> {
        self.0.submit(request)
    }
}

/// Accounts kept by the router.
pub struct RouterAccounts(pub Handle);

impl Accounts for RouterAccounts {
    fn create(&self, user: u64, password_hash: String) -> AccountFuture {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.0.create_account(
            user,
            password_hash,
            Box::new(move |outcome| {
                // The client may have gone away meanwhile; the account is made all the same.
                let _ = sender.send(outcome);
            }),
        );
        Box::pin(async move { receiver.await.unwrap_or(AccountOutcome::Unavailable) })
    }

    fn password_hash(&self, user: u64) -> Result<Option<String>, AccountsUnavailable> {
        self.0.account(user).map_err(|error| {
            tracing::error!(%error, "an account cannot be read");
            AccountsUnavailable
        })
    }
}

/// Tokens, or claims where `--auth none` believes them.
pub struct Doorkeeper {
    /// Verifies tokens.
    pub keys: Keys,
    /// `--auth`.
    pub auth: AuthKind,
}

impl Authenticate for Doorkeeper {
    fn authenticate(&self, upgrade: &Upgrade<'_>) -> Result<Identity, Refusal> {
        match self.auth {
            AuthKind::Token => self.token(upgrade),
            AuthKind::None => claimed(upgrade),
        }
    }
}

impl Doorkeeper {
    fn token(&self, upgrade: &Upgrade<'_>) -> Result<Identity, Refusal> {
        let in_query = upgrade.query_parameter("access_token");
        let token = upgrade
            .bearer()
            .or(in_query.as_deref())
            .ok_or(Refusal::Unauthorized("a token is needed: Authorization: Bearer, or ?access_token="))?;
        let now_s = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        self.keys.verify(token, now_s).map_err(|error| Refusal::Unauthorized(error.reason()))
    }
}

fn claimed(upgrade: &Upgrade<'_>) -> Result<Identity, Refusal> {
    let user = upgrade.query_parameter("user");
    let user = user.as_deref().and_then(user_number);
    let device = match upgrade.query_parameter("device") {
        None => Some(1),
        Some(text) => text.parse().ok().and_then(device_number),
    };
    Ok(Identity {
        user: user.ok_or(Refusal::Unauthorized("?user= is needed: a number from 1 to 2^63-1"))?,
        device: device.ok_or(Refusal::Unauthorized("device is a number from 1 to 2^31-1"))?,
    })
}
