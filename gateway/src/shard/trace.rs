//! The life of a session in the log, at debug level: one event a step, each in a span that names the connection. No step happens
//! for a message, so that a session of any length costs the log a handful of lines.
//!
//! What a client sent is not written: no token, no payload, no reason of its own Close frame.

use tracing::{Level, Span};

use super::Shard;
use crate::{
    conn::{BadProxyHeader, Note},
    ring::Ring,
};

/// A step of a session's life; the note of what the protocol decided is one too.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// The connection was accepted; refused ones are told their 503 when their head is whole.
    Accepted {
        /// There is room for it.
        admitted: bool,
    },
    /// The header of its proxy has come; where it tells the client's address, the span has it from now on.
    Proxied,
    /// What came first is no such header: the end.
    Unproxied(BadProxyHeader),
    /// Something the protocol noted; messages are none of the log's concern.
    Noted(&'a Note),
    /// The router was asked to begin the session.
    Attaching,
    /// Its Welcome is on its way.
    Welcomed,
    /// The gateway closes it for its own reason or the router's.
    Closing(u16, &'a str),
    /// The handshake took too long.
    TimedOut,
    /// The peer was gone without a Close frame, or read too little.
    Lost,
    /// Its descriptor is closed.
    Gone,
}

impl<R: Ring> Shard<R> {
    /// Writes a step to the log, where debug is on.
    pub(super) fn trace(&self, slot: u32, step: Step<'_>) {
        if tracing::enabled!(Level::DEBUG) {
            self.span(slot).in_scope(|| write(step));
        }
    }

    fn span(&self, slot: u32) -> Span {
        let who = self.slab[slot].conn.identity();
        tracing::debug_span!(
            "session",
            shard = self.parts.number,
            slot,
            generation = self.slab.generation(slot),
            user = who.map(|who| who.user),
            device = who.map(|who| who.device),
            client = self.clients.address(slot).map(tracing::field::display),
        )
    }
}

fn write(step: Step<'_>) {
    match step {
        Step::Accepted { admitted } => tracing::debug!(admitted, "accepted"),
        Step::Proxied => tracing::debug!("its proxy said whose it is"),
        Step::Unproxied(bad) => tracing::debug!(%bad, "closed without an answer"),
        Step::Noted(Note::Upgraded) => tracing::debug!("upgraded"),
        Step::Noted(Note::Refused(status)) => tracing::debug!(status, "upgrade refused"),
        Step::Noted(Note::Violation(violation)) => tracing::debug!(%violation, "against the protocol"),
        Step::Noted(Note::Closed(code)) => tracing::debug!(code, "closed by the gateway"),
        Step::Noted(Note::ClosedByPeer(code)) => tracing::debug!(code, "closed by its client"),
        Step::Noted(Note::Limited(_)) => {}
        Step::Attaching => tracing::debug!("attaching"),
        Step::Welcomed => tracing::debug!("welcomed"),
        Step::Closing(code, reason) => tracing::debug!(code, reason, "closing"),
        Step::TimedOut => tracing::debug!("the handshake took too long"),
        Step::Lost => tracing::debug!("its peer is gone"),
        Step::Gone => tracing::debug!("gone"),
    }
}
