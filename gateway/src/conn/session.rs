//! A session after its upgrade: frames in, frames out, RFC 6455 sections 5 to 7.

use bytes::Bytes;
use roost_proto::{
    codec::{self, Encoding},
    frame::{self, Decoder, Item, MessageKind, Opcode, decode_whole},
    v1,
};

use super::{Ask, Backend, Conn, JsonEvent, Next, Note, Partial, Rules, Turn, allowance::Refused};

/// Close codes of RFC 6455 section 7.4.1 that this gateway sends by itself.
pub mod close_code {
    /// The gateway is going away.
    pub const GOING_AWAY: u16 = 1001;
    /// Text where binary is spoken, or the other way round.
    pub const UNSUPPORTED_DATA: u16 = 1003;
    /// A limit of the whole gateway is reached; try again later.
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

/// What goes with [`close_code::TRY_AGAIN_LATER`] where partial messages and input that waits take all the memory they may.
pub const SHORT_OF_MEMORY: &str = "the gateway is short of memory; come back later";

/// What a Close frame without a code stands for, RFC 6455 section 7.4.1.
const NO_CODE: u16 = 1005;

impl Conn {
    /// Takes bytes of frames. Whole messages in one buffer are never copied before they are decoded or echoed.
    pub(super) fn receive_frames(&mut self, input: &mut [u8], rules: &Rules, turn: &mut Turn<'_>) -> Next {
        let mut at = 0;
        if self.partial.is_none() {
            while let Some((used, kind, payload)) = decode_whole(&mut input[at..], rules.message_bytes_max) {
                at += used;
                let next = self.message(kind, payload, rules, turn);
                if next != Next::Stay {
                    return next;
                }
            }
            if at == input.len() {
                return Next::Stay;
            }
        }
        self.receive_pieces(&mut input[at..], rules, turn)
    }

    /// Takes what is not a row of whole messages.
    fn receive_pieces(&mut self, input: &mut [u8], rules: &Rules, turn: &mut Turn<'_>) -> Next {
        let mut decoder = match &mut self.partial {
            Some(partial) => std::mem::replace(&mut partial.decoder, Decoder::new(rules.message_bytes_max)),
            None => Decoder::new(rules.message_bytes_max),
        };
        let mut at = 0;
        loop {
            let next = match decoder.decode(&mut input[at..]) {
                Ok((_, None)) => break,
                Ok((used, Some(item))) => {
                    at += used;
                    self.take(item, rules, turn)
                }
                Err(violation) => {
                    turn.notes.push(Note::Violation(violation));
                    self.close(violation.close_code(), &violation.to_string(), turn)
                }
            };
            if next != Next::Stay {
                return next;
            }
        }
        self.keep(decoder, rules, turn.assembly_bytes);
        Next::Stay
    }

    /// Keeps what came before the session has begun.
    pub(super) fn hold_frames(&mut self, input: &[u8], rules: &Rules, turn: &mut Turn<'_>) -> Next {
        if self.assemble(input, rules, turn.assembly_bytes) {
            return Next::Stay;
        }
        self.close(close_code::TRY_AGAIN_LATER, SHORT_OF_MEMORY, turn)
    }

    /// Keeps a decoder that stands within a frame or message, and gives memory back when it does not.
    fn keep(&mut self, decoder: Decoder, rules: &Rules, assembly_bytes: &mut usize) {
        if decoder.is_idle() {
            self.drop_partial(assembly_bytes);
        } else {
            self.partial.get_or_insert_with(|| Box::new(Partial::new(rules.message_bytes_max))).decoder =
                decoder;
        }
    }

    fn take(&mut self, item: Item<'_>, rules: &Rules, turn: &mut Turn<'_>) -> Next {
        match item {
            Item::Data { kind, payload, first: true, last: true } => self.message(kind, payload, rules, turn),
            Item::Data { kind, payload, last, .. } => self.piece(kind, payload, last, rules, turn),
            Item::Ping(payload) => {
                // RFC 6455 section 5.5.3 lets pings go unanswered when newer ones come.
                if self.admit(payload, rules, turn).is_ok() {
                    frame::encode(Opcode::Pong, payload, turn.out);
                }
                Next::Stay
            }
            Item::Pong(_) => Next::Stay,
            Item::Close(close) => {
                turn.notes.push(Note::ClosedByPeer(close.as_ref().map_or(NO_CODE, |close| close.code)));
                // RFC 6455 section 5.5.1: the answer carries the code that came; 7.1.5: none came, none goes.
                match close {
                    Some(close) => frame::encode_close(close.code, "", turn.out),
                    None => frame::encode(Opcode::Close, &[], turn.out),
                }
                self.end(turn.assembly_bytes);
                Next::Over
            }
        }
    }

    fn piece(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        last: bool,
        rules: &Rules,
        turn: &mut Turn<'_>,
    ) -> Next {
        if !self.assemble(payload, rules, turn.assembly_bytes) {
            return self.close(close_code::TRY_AGAIN_LATER, SHORT_OF_MEMORY, turn);
        }
        let Some(partial) = &mut self.partial else { return Next::Stay };
        partial.kind = kind;
        if !last {
            return Next::Stay;
        }
        let message = std::mem::take(&mut partial.bytes);
        *turn.assembly_bytes -= message.capacity();
        self.message(kind, &message, rules, turn)
    }

    fn message(&mut self, kind: MessageKind, payload: &[u8], rules: &Rules, turn: &mut Turn<'_>) -> Next {
        turn.messages += 1;
        match rules.backend {
            Backend::Echo => {
                frame::encode(data_opcode(kind), payload, turn.out);
                Next::Stay
            }
            Backend::Router(_) if kind != self.encoding().message_kind() => {
                let reason = match kind {
                    MessageKind::Text => "roost.v1.proto takes binary messages",
                    MessageKind::Binary => "roost.v1.json takes text messages",
                };
                self.close(close_code::UNSUPPORTED_DATA, reason, turn)
            }
            Backend::Router(_) => {
                match self.admit(payload, rules, turn) {
                    Ok(()) => self.envelope(payload, turn),
                    Err(refused) => self.say_limited(payload, refused, turn),
                }
                Next::Stay
            }
        }
    }

    /// Counts a frame and its payload. Nobody limits an echo.
    fn admit(&mut self, payload: &[u8], rules: &Rules, turn: &mut Turn<'_>) -> Result<(), Refused> {
        let taken = self.allowance.take(&rules.rates, payload.len(), turn.now);
        taken.inspect_err(|refused| turn.notes.push(Note::Limited(refused.limited)))
    }

    /// Answers a frame that is not handed on. Its body is not decoded: that is what the limit saves.
    fn say_limited(&self, payload: &[u8], refused: Refused, turn: &mut Turn<'_>) {
        let error = v1::Error {
            code: v1::Code::RATE_LIMITED.into(),
            message: format!("too many {} by this connection; wait", refused.limited.name()),
            retry_after_ms: refused.retry_after_ms,
        };
        let reply_to = codec::client_frame_id(self.encoding(), payload);
        let frame = v1::ServerFrame { reply_to, body: Some(error.into()) };
        self.send_frame(&frame, turn.scratch, turn.out);
    }

    /// A frame of `roost.proto`: heartbeats and what cannot be read end here, the rest is asked of the router.
    fn envelope(&mut self, payload: &[u8], turn: &mut Turn<'_>) {
        match codec::decode_client_frame(self.encoding(), payload) {
            Ok(v1::ClientFrame { id: 0, body: None, .. }) => {}
            Ok(v1::ClientFrame { id, body: None, .. }) => {
                self.send_frame(
                    &v1::ServerFrame { reply_to: id, ..Default::default() },
                    turn.scratch,
                    turn.out,
                );
            }
            Ok(v1::ClientFrame { id, body: Some(body), .. }) => turn.asks.push(Ask::Frame { id, body }),
            Err(error) => {
                let reply_to = codec::client_frame_id(self.encoding(), payload);
                let error = v1::Error {
                    code: v1::Code::MALFORMED.into(),
                    message: error.to_string(),
                    ..Default::default()
                };
                let frame = v1::ServerFrame { reply_to, body: Some(error.into()) };
                self.send_frame(&frame, turn.scratch, turn.out);
            }
        }
    }

    /// Appends a frame of `roost.proto` in the session's encoding as one WebSocket message.
    pub fn send_frame(&self, frame: &v1::ServerFrame, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        codec::encode_server_frame(self.encoding(), frame, scratch);
        frame::encode(data_opcode(self.encoding().message_kind()), scratch, out);
    }

    /// Appends an event that is encoded already; in JSON its message is made once for all sessions.
    ///
    /// # Errors
    /// The bytes are no event (a corrupt store); nothing was appended.
    pub fn send_event(
        &self,
        event: &Bytes,
        json: &mut JsonEvent,
        out: &mut Vec<u8>,
    ) -> Result<(), codec::DecodeError> {
        if self.encoding() == Encoding::Proto {
            // Its length is known: it is written where it leaves from.
            let bytes = codec::event_frame_bytes(event);
            frame::encode_begin(Opcode::Binary, bytes, out);
            return codec::encode_event_frame(Encoding::Proto, event, out);
        }
        out.extend_from_slice(json.message(event)?);
        Ok(())
    }
}

fn data_opcode(kind: MessageKind) -> Opcode {
    match kind {
        MessageKind::Text => Opcode::Text,
        MessageKind::Binary => Opcode::Binary,
    }
}
