//! What a shard holds for all its connections together.

use super::Shard;
use crate::limits;

/// How much that may be. [`Default`] is what `limits` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// See [`limits::OUTBOXES_PRESSED_BYTES`].
    pub outboxes_pressed_bytes: usize,
    /// See [`limits::OUTBOXES_BYTES_MAX`].
    pub outboxes_bytes_max: usize,
    /// See [`limits::BACKLOG_REQUESTS_MAX`].
    pub backlog_requests_max: usize,
    /// See [`limits::BACKLOG_BYTES_MAX`].
    pub backlog_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            outboxes_pressed_bytes: limits::OUTBOXES_PRESSED_BYTES,
            outboxes_bytes_max: limits::OUTBOXES_BYTES_MAX,
            backlog_requests_max: limits::BACKLOG_REQUESTS_MAX,
            backlog_bytes_max: limits::BACKLOG_BYTES_MAX,
        }
    }
}

impl<R> Shard<R> {
    /// Keeps to something else than [`Bounds::default`].
    #[must_use]
    pub fn with_bounds(mut self, bounds: Bounds) -> Self {
        self.outboxes.bounds = bounds;
        self.backlog.bounds = bounds;
        self
    }
}
