//! Chat frames in both encodings, over roost-proto's types and codec.

use crate::options::Encoding;
use roost_proto::codec::{self, decode_server_frame, encode_client_frame};
use roost_proto::v1::client_frame::Body;
use roost_proto::v1::{
    Ack, Address, ClientFrame, GroupCommand, Read, Send, ServerFrame, address, group_command::Create,
};
use tungstenite::{Message, Utf8Bytes};

impl Encoding {
    fn codec(self) -> codec::Encoding {
        match self {
            Self::Proto => codec::Encoding::Proto,
            Self::Json => codec::Encoding::Json,
        }
    }

    /// The WebSocket sub-protocol (`roost.proto`).
    pub fn sub_protocol(self) -> &'static str {
        self.codec().sub_protocol()
    }

    /// A frame as a WebSocket message.
    pub fn write(self, frame: &ClientFrame) -> Message {
        let mut bytes = Vec::new();
        encode_client_frame(self.codec(), frame, &mut bytes);
        match self {
            Self::Proto => Message::binary(bytes),
            Self::Json => Message::Text(Utf8Bytes::try_from(bytes).expect("JSON is written as UTF-8")),
        }
    }

    /// A WebSocket message as a frame; `None` for control messages.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn read(self, message: &Message) -> Result<Option<ServerFrame>, String> {
        match message {
            Message::Binary(bytes) => self.read_bytes(false, bytes).map(Some),
            Message::Text(text) => self.read_bytes(true, text.as_bytes()).map(Some),
            _ => Ok(None),
        }
    }

    /// The payload of a WebSocket message, text or binary, as a frame.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn read_bytes(self, text: bool, bytes: &[u8]) -> Result<ServerFrame, String> {
        match (self, text) {
            (Self::Proto, true) => return Err("a text message under roost.v1.proto".into()),
            (Self::Json, false) => return Err("a binary message under roost.v1.json".into()),
            _ => (),
        }
        decode_server_frame(self.codec(), bytes).map_err(|error| format!("unreadable frame: {error}"))
    }
}

/// A frame without a body: a heartbeat.
pub fn heartbeat() -> ClientFrame {
    ClientFrame::default()
}

/// A message to a user or a group; the answer bears `id` in `reply_to`.
pub fn send(id: u32, to: address::To, client_id: [u8; 16], payload: Vec<u8>) -> ClientFrame {
    let body = Send {
        to: Address { to: Some(to) }.into(),
        client_id: client_id.to_vec().into(),
        payload: payload.into(),
        ..Send::default()
    };
    ClientFrame { id, body: Some(Body::Send(Box::new(body))) }
}

/// Makes a group of its sender and others.
pub fn create_group(id: u32, name: String, member: Vec<u64>) -> ClientFrame {
    let command = GroupCommand { group: 0, command: Some(Create { name, member }.into()) };
    ClientFrame { id, body: Some(Body::Group(Box::new(command))) }
}

/// A cumulative acknowledgement.
pub fn ack(up_to: u64) -> ClientFrame {
    ClientFrame { id: 0, body: Some(Body::Ack(Box::new(Ack { up_to }))) }
}

/// These messages were read.
pub fn read(message: Vec<u64>) -> ClientFrame {
    ClientFrame { id: 0, body: Some(Body::Read(Box::new(Read { message }))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_proto::v1::{Welcome, server_frame};

    #[test]
    fn frames_are_read_in_their_own_encoding_only() {
        let welcome = Welcome { user: 7, heartbeat_s: 20, ..Welcome::default() };
        let frame = ServerFrame { body: Some(server_frame::Body::from(welcome)), ..ServerFrame::default() };
        let binary = Message::binary(buffa::Message::encode_to_vec(&frame));
        let text = Message::text(serde_json::to_string(&frame).unwrap());
        assert_eq!(Encoding::Proto.read(&binary).unwrap().as_ref(), Some(&frame));
        assert_eq!(Encoding::Json.read(&text).unwrap().as_ref(), Some(&frame));
        assert!(Encoding::Proto.read(&text).is_err() && Encoding::Json.read(&binary).is_err());
        assert!(Encoding::Json.read(&Message::text("{")).is_err());
        assert_eq!(Encoding::Proto.read(&Message::Ping(Vec::new().into())).unwrap(), None);
    }
}
