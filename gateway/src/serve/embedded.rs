//! The embedded default: gateway and router in one process, joined by mailboxes.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use roost_gateway::{
    auth::{Keys, TOKEN_ERRORS, TokenError, device_number, user_number},
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
    /// Counted here, because only the one who looks at a token knows.
    pub refused: Arc<TokensRefused>,
}

/// Tokens refused, by what is wrong with them.
#[derive(Debug, Default)]
pub struct TokensRefused([AtomicU64; TOKEN_ERRORS.len()]);

impl TokensRefused {
    /// How many, in the order of [`TOKEN_ERRORS`].
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed))
    }

    fn count(&self, error: TokenError) -> Refusal {
        self.0[error as usize].fetch_add(1, Ordering::Relaxed);
        Refusal::Unauthorized(error.reason())
    }
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
            .ok_or_else(|| self.refused.count(TokenError::Missing))?;
        let now_s = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        self.keys.verify(token, now_s).map_err(|error| self.refused.count(error))
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
