//! Frames of a connection: control frames are answered, fragments put together, messages handed to the role.

use super::{Core, Role};
use crate::limits::SERVER_PAUSE_MAX;
use crate::phantom::frame::{self, CLOSE, Frame, PING, PONG};
use crate::phantom::limits::INPUT_BYTES_MAX;
use crate::phantom::tcp::mix;
use crate::phantom::wire::Wire;
use crate::worker::Next;
use tungstenite::protocol::frame::coding::{Data, OpCode};

impl<W: Wire> Core<W> {
    pub(super) fn frame(&mut self, role: &mut impl Role<W>, phantom: u32, frame: &Frame<'_>) {
        match frame.opcode {
            PING => _ = self.send(phantom, PONG, frame.payload),
            PONG => (),
            CLOSE => {
                self.send(phantom, CLOSE, frame.payload);
                let code = frame.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default());
                self.dropped(&format!("closed by the server: {code} {reason}"));
                self.leave(role, phantom);
            }
            OpCode::Data(Data::Text) if frame.fin => self.message(role, phantom, true, frame.payload),
            OpCode::Data(Data::Binary) if frame.fin => self.message(role, phantom, false, frame.payload),
            OpCode::Data(_) => self.fragment(role, phantom, frame),
            OpCode::Control(_) => self.fail(role, phantom, "a frame with a reserved opcode", false),
        }
    }

    /// A part of a message (RFC 6455 section 5.4): kept behind a byte that tells text from binary.
    pub(super) fn fragment(&mut self, role: &mut impl Role<W>, phantom: u32, frame: &Frame<'_>) {
        let Some(flight) = self.stack.make_flight(phantom) else {
            return self.fail(role, phantom, "no room to keep a part of a message", false);
        };
        let continues = frame.opcode == OpCode::Data(Data::Continue);
        if continues == flight.message.is_empty()
            || flight.message.len() + frame.payload.len() > INPUT_BYTES_MAX
        {
            return self.fail(
                role,
                phantom,
                "a fragment out of turn, or a message longer than a phantom takes",
                false,
            );
        }
        if !continues {
            flight.message.push(u8::from(frame.opcode == OpCode::Data(Data::Text)));
        }
        flight.message.extend_from_slice(frame.payload);
        if frame.fin {
            let message = std::mem::take(&mut flight.message);
            self.message(role, phantom, message[0] == 1, &message[1..]);
        }
    }

    pub(super) fn message(&mut self, role: &mut impl Role<W>, phantom: u32, text: bool, payload: &[u8]) {
        match role.message(self, phantom, text, payload) {
            Ok(Next::Continue) => (),
            Ok(Next::Reconnect(pause)) => {
                self.hang_up(role, phantom);
                self.pause(phantom, pause.min(SERVER_PAUSE_MAX));
            }
            Err(text) => {
                self.context.ledger.borrow_mut().violation();
                self.fail(role, phantom, &text, false);
            }
        }
    }

    /// Sends a frame. False where the connection or its room is missing.
    pub fn send(&mut self, phantom: u32, opcode: OpCode, payload: &[u8]) -> bool {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        // Random to whoever does not know the seed (RFC 6455 section 10.3), and computed.
        let mask = mix(self.stack.now_us() << 24 ^ u64::from(phantom)) as u32;
        frame::write(&mut out, opcode, payload, mask.to_le_bytes());
        let sent = self.stack.send(phantom, &out);
        self.scratch = out;
        sent
    }
}
