//! What comes of commands: effects, forwards, whispers, and counts.

use crate::{
    api::{AccountOutcome, Action, Effect, SessionId, UserId},
    log,
};
use roost_proto::v1::{Code, Error, ServerFrame, server_frame};
use std::collections::VecDeque;

/// What comes of commands. Nothing of it but `at_once` may leave before the batch is durable.
#[derive(Debug, Default)]
pub struct Output {
    /// For sessions, in order: what tells nothing that a batch could take back. It may leave at once.
    pub at_once: Vec<Effect>,
    /// For sessions, in order, after what is in `at_once`.
    pub effects: Vec<Effect>,
    /// For other partitions: from, to, what. The runtime applies it there in this batch, or calls `enqueue`.
    pub forwards: Vec<(u16, u16, log::Forward)>,
    /// Users that came to be with this batch.
    pub fresh: Vec<UserId>,
    /// Users that came to be with the registration of a device, which a batch that fails does not take back.
    pub registered: Vec<UserId>,
    /// How the last `CreateAccount` ended.
    pub account: Option<AccountOutcome>,
    /// For other partitions, which may never hear it: to whom, what. It may leave at once.
    pub whispers: VecDeque<(u16, log::Whisper)>,
    /// Presence notices to followers.
    pub presence_notices: u64,
    /// Users that a session is not told of, because a table was full.
    pub presence_refused: u64,
    /// Messages accepted.
    pub messages: u64,
    /// Events stored.
    pub events: u64,
}

impl Output {
    pub(super) fn frame(&mut self, session: SessionId, reply_to: u32, body: Option<server_frame::Body>) {
        self.effects.push(frame(session, reply_to, body));
    }

    /// Answers with an Error; with id 0 it is sent all the same, as `reply_to` 0.
    pub fn error(&mut self, session: SessionId, reply_to: u32, code: Code, message: impl Into<String>) {
        self.effects.push(error(session, reply_to, code, message));
    }

    /// Answers with this Error.
    pub fn refuse(&mut self, session: SessionId, reply_to: u32, error: Error) {
        self.frame(session, reply_to, Some(error.into()));
    }

    /// Answers that nothing was stored, and when it may be worth trying again.
    pub fn unavailable(&mut self, session: SessionId, reply_to: u32, retry_after_ms: u32) {
        let message = "nothing was stored, send again".to_owned();
        let error = Error { code: Code::UNAVAILABLE.into(), message, retry_after_ms };
        self.frame(session, reply_to, Some(error.into()));
    }

    pub(super) fn done(&mut self, session: SessionId, reply_to: u32) {
        if reply_to != 0 {
            self.frame(session, reply_to, None);
        }
    }
}

pub(super) fn frame(session: SessionId, reply_to: u32, body: Option<server_frame::Body>) -> Effect {
    Effect { session, action: Action::Frame(Box::new(ServerFrame { reply_to, body })) }
}

pub(super) fn error(session: SessionId, reply_to: u32, code: Code, message: impl Into<String>) -> Effect {
    let error = Error { code: code.into(), message: message.into(), retry_after_ms: 0 };
    frame(session, reply_to, Some(error.into()))
}
