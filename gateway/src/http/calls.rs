//! What HTTP asks of the message tier: one call, one answer.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use roost_proto::tier::{Action, Answer, Call, Full, Request};
use roost_proto::v1::{ServerFrame, client_frame, server_frame};

use super::answer::Refusal;
use super::limits::CALL_MS_MAX;
use super::waiting::Waiting;
use crate::conn::Identity;

/// The id of every call: there is one for each `SessionId`.
const CALL_ID: u32 = 1;

/// The message tier behind the gateway.
pub trait Tier: Send + Sync + 'static {
    /// Hands over a request; its answer reaches [`Waiting::take`]. It must not block.
    ///
    /// # Errors
    /// The tier takes nothing now: the request comes back.
    fn submit(&self, request: Request) -> Result<(), Full>;
}

/// The way to the tier and back; cheap to clone.
#[derive(Clone)]
pub struct Calls {
    tier: Arc<dyn Tier>,
    waiting: Arc<Waiting>,
}

impl Calls {
    /// Asks `tier`, whose answers reach `waiting`.
    pub fn new(tier: Arc<dyn Tier>, waiting: Arc<Waiting>) -> Self {
        Self { tier, waiting }
    }

    /// Calls that wait now.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.count()
    }

    /// What a frame of the contract is answered with: its body, `None` where it is empty.
    ///
    /// # Errors
    /// The contract's Error as a status, or 503 where there was no answer.
    pub(super) async fn frame(
        &self,
        who: Identity,
        body: impl Into<client_frame::Body>,
    ) -> Result<Option<server_frame::Body>, Refusal> {
        match self.ask(who, Call::Frame(body.into())).await? {
            Action::Frame(frame) => body_of(*frame),
            _ => Err(defect()),
        }
    }

    /// What a call that is no frame is answered with.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub(super) async fn call(&self, who: Identity, call: Call) -> Result<Answer, Refusal> {
        match self.ask(who, call).await? {
            Action::Answer(answer) => Ok(*answer),
            Action::Frame(frame) => Err(body_of(*frame).err().unwrap_or_else(defect)),
            _ => Err(defect()),
        }
    }

    /// As [`Self::call`], where an empty frame says that it is done.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub(super) async fn done(&self, who: Identity, call: Call) -> Result<(), Refusal> {
        match self.ask(who, call).await? {
            Action::Frame(frame) => body_of(*frame).map(drop),
            _ => Err(defect()),
        }
    }

    async fn ask(&self, who: Identity, call: Call) -> Result<Action, Refusal> {
        let mut place = self.waiting.enter().ok_or_else(|| {
            Refusal::unavailable("The gateway has as many calls under way as it takes; try again.")
        })?;
        let (session, user, device) = (place.session(), who.user, who.device);
        let request = Request::Call { session, user, device, id: CALL_ID, call };
        self.tier.submit(request).map_err(|Full(_)| {
            Refusal::unavailable("The gateway is busy; nothing was changed, try again.")
        })?;
        let deadline = Duration::from_millis(CALL_MS_MAX);
        let answer = tokio::time::timeout(deadline, place.answer()).await;
        // It may be done all the same: only what can be repeated without harm is worth trying again.
        answer.ok().flatten().ok_or_else(|| {
            Refusal::unavailable(
                "There was no answer in time, and the call may have been carried out; ask again.",
            )
        })
    }
}

fn body_of(frame: ServerFrame) -> Result<Option<server_frame::Body>, Refusal> {
    match frame.body {
        Some(server_frame::Body::Error(error)) => Err((*error).into()),
        body => Ok(body),
    }
}

/// An answer of another kind than asked for.
pub(super) fn defect() -> Refusal {
    tracing::error!("the message tier gave a call an answer of another kind; this is a defect");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The gateway has a defect; it is in its log.")
}
