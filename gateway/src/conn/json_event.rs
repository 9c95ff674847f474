//! Events that go to many sessions in JSON: each is read, and written as a WebSocket message, once and not once a session.
//!
//! In protobuf an event goes as it is stored, behind a tag and a length: there is nothing to keep.

use bytes::Bytes;
use roost_proto::{
    codec::{DecodeError, Encoding, encode_event_frame},
    frame::{Opcode, encode_header},
};

use crate::limits;

/// Room before the payload: the length of the header is known when the payload is there.
const HEADER_BYTES: usize = 10;

/// The last event that was sent in JSON, as a WebSocket message.
///
/// Invariant: `message` was made of `event`, or is empty. The event is held, so that no other can come to lie at its address: the
/// same address and length are the same event.
#[derive(Default)]
pub struct JsonEvent {
    event: Bytes,
    message: Vec<u8>,
    start: usize,
}

impl JsonEvent {
    /// The text message that carries `ServerFrame { event }`.
    ///
    /// # Errors
    /// The bytes are no event (a corrupt store).
    pub fn message(&mut self, event: &Bytes) -> Result<&[u8], DecodeError> {
        let is_same = self.event.as_ptr() == event.as_ptr() && self.event.len() == event.len();
        if !is_same || self.message.is_empty() {
            self.encode(event)?;
        }
        Ok(&self.message[self.start..])
    }

    /// Lets go of the event and of memory that only a large one needed.
    pub fn rest(&mut self) {
        self.event = Bytes::new();
        self.message.clear();
        self.message.shrink_to(limits::KEPT_BUFFER_BYTES_MAX);
    }

    fn encode(&mut self, event: &Bytes) -> Result<(), DecodeError> {
        self.event = event.clone();
        self.message.clear();
        self.message.resize(HEADER_BYTES, 0);
        encode_event_frame(Encoding::Json, event, &mut self.message).inspect_err(|_| self.message.clear())?;
        let payload_bytes = self.message.len() - HEADER_BYTES;
        let (header, header_bytes) = encode_header(Opcode::Text, true, payload_bytes as u64);
        self.start = HEADER_BYTES - header_bytes;
        self.message[self.start..HEADER_BYTES].copy_from_slice(&header[..header_bytes]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use buffa::Message as _;
    use roost_proto::{frame, v1};

    use super::*;

    fn event(seq: u64, payload_bytes: usize) -> Bytes {
        let message = v1::Message { id: seq, payload: vec![7; payload_bytes].into(), ..Default::default() };
        v1::Event { seq, body: Some(message.into()) }.encode_to_bytes()
    }

    fn plain(event: &[u8]) -> Vec<u8> {
        let (mut payload, mut message) = (Vec::new(), Vec::new());
        encode_event_frame(Encoding::Json, event, &mut payload).expect("an event");
        frame::encode(Opcode::Text, &payload, &mut message);
        message
    }

    #[test]
    fn each_event_is_the_message_that_a_session_alone_would_get() {
        let mut json = JsonEvent::default();
        // Headers of each length.
        for event in [event(1, 3), event(2, 300), event(1, 3), event(3, 70_000), Bytes::new(), event(4, 3)] {
            for session in 0..2 {
                assert_eq!(json.message(&event).expect("an event"), plain(&event), "session {session}");
            }
        }
    }

    #[test]
    fn an_event_is_encoded_once_for_all_sessions() {
        let (mut json, event) = (JsonEvent::default(), event(1, 3));
        json.message(&event).expect("an event");
        // Were it encoded again, the mark would be gone.
        *json.message.last_mut().expect("a message") = b'!';
        let again = json.message(&event.clone()).expect("an event");
        assert_eq!(again.last(), Some(&b'!'));
        json.rest();
        assert_eq!(json.message(&event).expect("an event"), plain(&event));
    }

    #[test]
    fn events_that_look_alike_are_not_taken_for_each_other() {
        let mut json = JsonEvent::default();
        // Two of one length, one after the other.
        let (one, other) = (event(1, 3), event(2, 3));
        assert_eq!(one.len(), other.len());
        for event in [&one, &other, &one] {
            assert_eq!(json.message(event).expect("an event"), plain(event));
        }
        // The first field of an event lies at the same address, and is an event.
        let beginning = one.slice(..2);
        assert_eq!(json.message(&beginning).expect("an event"), plain(&beginning));
        // What is no event is none the second time either, and keeps nobody from theirs.
        let corrupt = Bytes::from_static(b"\xff");
        assert!(json.message(&corrupt).is_err() && json.message(&corrupt).is_err());
        assert_eq!(json.message(&other).expect("an event"), plain(&other));
    }
}
