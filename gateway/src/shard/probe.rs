//! How long a Send waits for its Sent, measured on one Send of the shard at a time: a sample of every traffic, and no work for the
//! others but a comparison.

use std::time::Duration;

use quanta::Instant;
use roost_proto::{
    tier::Action,
    v1::{client_frame, server_frame},
};

use crate::limits;

/// A Send on its way.
struct Sample {
    slot: u32,
    generation: u32,
    id: u32,
    since: Instant,
}

/// The Send that is measured now, if any is.
#[derive(Default)]
pub struct Probe(Option<Sample>);

impl Probe {
    /// A frame is handed to the router: measured, if it is a Send that will be answered and no other is under way.
    pub fn asked(&mut self, slot: u32, generation: u32, id: u32, body: &client_frame::Body) {
        if self.0.is_none() && id != 0 && matches!(body, client_frame::Body::Send(_)) {
            self.0 = Some(Sample { slot, generation, id, since: Instant::now() });
        }
    }

    /// An effect is for that connection: how long its Send took, where this is its Sent. Any other answer is none.
    pub fn answered(&mut self, slot: u32, generation: u32, action: &Action) -> Option<Duration> {
        let sample = self.0.as_ref()?;
        let Action::Frame(frame) = action else { return None };
        if (sample.slot, sample.generation, sample.id) != (slot, generation, frame.reply_to) {
            return None;
        }
        let took = sample.since.elapsed();
        self.0 = None;
        matches!(frame.body, Some(server_frame::Body::Sent(_))).then_some(took)
    }

    /// Once a tick: an answer that does not come, because its connection is gone for instance, is waited for no longer.
    pub fn rest(&mut self, now: Instant) {
        let longest = Duration::from_secs(limits::SEND_MEASURED_S_MAX);
        self.0.take_if(|sample| now.saturating_duration_since(sample.since) > longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_proto::v1;

    fn frame(reply_to: u32, body: server_frame::Body) -> Action {
        Action::Frame(Box::new(v1::ServerFrame { reply_to, body: Some(body) }))
    }

    fn send() -> client_frame::Body {
        v1::Send::default().into()
    }

    #[test]
    fn one_send_at_a_time_from_its_frame_to_its_sent() {
        let mut probe = Probe::default();
        probe.asked(3, 1, 8, &v1::Ack::default().into());
        assert!(probe.answered(3, 1, &frame(8, v1::Sent::default().into())).is_none(), "no Send");
        probe.asked(3, 1, 9, &send());
        probe.asked(4, 1, 9, &send());
        for (slot, generation, id) in [(4, 1, 9), (3, 2, 9), (3, 1, 7)] {
            assert!(probe.answered(slot, generation, &frame(id, v1::Sent::default().into())).is_none());
        }
        assert!(probe.answered(3, 1, &frame(9, v1::Sent::default().into())).is_some());
        assert!(probe.answered(3, 1, &frame(9, v1::Sent::default().into())).is_none(), "measured once");
    }

    #[test]
    fn an_error_is_not_measured_and_makes_room() {
        let mut probe = Probe::default();
        probe.asked(3, 1, 9, &send());
        assert!(probe.answered(3, 1, &frame(9, v1::Error::default().into())).is_none());
        probe.asked(5, 1, 2, &send());
        assert!(probe.answered(5, 1, &frame(2, v1::Sent::default().into())).is_some());
    }

    #[test]
    fn an_answer_that_does_not_come_is_given_up() {
        let mut probe = Probe::default();
        probe.asked(3, 1, 9, &send());
        let begun = Instant::now();
        probe.rest(begun);
        probe.asked(5, 1, 2, &send());
        assert!(probe.answered(5, 1, &frame(2, v1::Sent::default().into())).is_none(), "still the first");
        probe.rest(begun + Duration::from_secs(limits::SEND_MEASURED_S_MAX + 1));
        probe.asked(5, 1, 2, &send());
        assert!(probe.answered(5, 1, &frame(2, v1::Sent::default().into())).is_some());
    }
}
