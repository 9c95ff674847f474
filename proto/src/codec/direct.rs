//! The frames that a chat is made of, read and written field after field.
//!
//! The generated code takes fields in any order, twice, and unknown ones; that costs several times what a Send has in it. A client's
//! library writes fields in the order of their numbers, each once: that is what is read here, and everything else is left to the
//! generated code. `tests/direct.rs` holds both to the same outcome.

use bytes::Bytes;

use crate::v1::{self, ClientFrame, ServerFrame, client_frame, server_frame};

/// Tag of a varint field.
const fn varint(number: u8) -> u8 {
    number << 3
}

/// Tag of a length-delimited field.
const fn delimited(number: u8) -> u8 {
    number << 3 | 2
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Takes the tag, if it comes next.
    #[inline]
    fn tag(&mut self, tag: u8) -> bool {
        match self.0.split_first() {
            Some((&first, rest)) if first == tag => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// A varint of at most nine bytes: what needs ten is rare enough for the generated code.
    #[inline]
    fn varint(&mut self) -> Option<u64> {
        // Nearly all are lengths and small numbers.
        if let Some((&byte, rest)) = self.0.split_first()
            && byte < 0x80
        {
            self.0 = rest;
            return Some(byte.into());
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (at, &byte) in self.0.iter().enumerate().take(9) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }

    /// The bytes of a length-delimited field, behind its tag.
    #[inline]
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A frame with a Send or an Ack; `None` where it is another, or not written in the plain way.
#[inline]
pub fn decode_client_frame(bytes: &[u8]) -> Option<ClientFrame> {
    let mut frame = Reader(bytes);
    let id = if frame.tag(varint(1)) { u32::try_from(frame.varint()?).ok()? } else { 0 };
    let body: client_frame::Body = if frame.tag(delimited(2)) {
        send(frame.bytes()?)?.into()
    } else if frame.tag(delimited(3)) {
        ack(frame.bytes()?)?.into()
    } else {
        return None;
    };
    frame.is_empty().then_some(ClientFrame { id, body: Some(body) })
}

fn send(bytes: &[u8]) -> Option<v1::Send> {
    let mut send = Reader(bytes);
    let to = if send.tag(delimited(1)) { Some(address(send.bytes()?)?) } else { None };
    let client_id = if send.tag(delimited(2)) { send.bytes()? } else { &[] };
    let kind = if send.tag(varint(3)) { i32::try_from(send.varint()?).ok()? } else { 0 };
    let payload = if send.tag(delimited(4)) { send.bytes()? } else { &[] };
    send.is_empty().then(|| v1::Send {
        to: to.into(),
        client_id: Bytes::copy_from_slice(client_id),
        kind: kind.into(),
        payload: Bytes::copy_from_slice(payload),
        sealed: Vec::new(),
    })
}

fn address(bytes: &[u8]) -> Option<v1::Address> {
    let mut address = Reader(bytes);
    let to = if address.tag(varint(1)) {
        v1::address::To::User(address.varint()?)
    } else if address.tag(varint(2)) {
        v1::address::To::Group(address.varint()?)
    } else {
        return None;
    };
    address.is_empty().then_some(v1::Address { to: Some(to) })
}

fn ack(bytes: &[u8]) -> Option<v1::Ack> {
    let mut ack = Reader(bytes);
    let up_to = if ack.tag(varint(1)) { ack.varint()? } else { 0 };
    ack.is_empty().then_some(v1::Ack { up_to })
}

/// Bytes that a length-delimited field of at most this length takes: a tag, a length of one byte, and itself.
const SHORT_BYTES_MAX: usize = 127;

/// Bytes of a Sent without the client's id: two varints of ten bytes, a flag, and the tags.
const NUMBERS_BYTES: usize = 2 * 11 + 2 + 2;

/// Appends a Sent, the answer to most frames; false, and nothing appended, where the frame is another.
#[inline]
pub fn encode_server_frame(frame: &ServerFrame, out: &mut Vec<u8>) -> bool {
    let Some(server_frame::Body::Sent(sent)) = &frame.body else { return false };
    if sent.client_id.len() + NUMBERS_BYTES > SHORT_BYTES_MAX {
        return false;
    }
    let mut body = [0; SHORT_BYTES_MAX];
    let mut writer = Writer { bytes: &mut body, length: 0 };
    writer.number(1, sent.id);
    if !sent.client_id.is_empty() {
        writer.push(&[delimited(2), sent.client_id.len() as u8]);
        writer.push(&sent.client_id);
    }
    writer.number(3, sent.sent_at_ms);
    writer.number(4, sent.duplicate.into());
    let length = writer.length;
    let mut head = [0; 16];
    let mut writer = Writer { bytes: &mut head, length: 0 };
    writer.number(1, frame.reply_to.into());
    writer.push(&[delimited(4), length as u8]);
    let head_length = writer.length;
    out.reserve(head_length + length);
    out.extend_from_slice(&head[..head_length]);
    out.extend_from_slice(&body[..length]);
    true
}

/// Writes fields into memory that is large enough for them.
struct Writer<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl Writer<'_> {
    #[inline]
    fn push(&mut self, more: &[u8]) {
        self.bytes[self.length..self.length + more.len()].copy_from_slice(more);
        self.length += more.len();
    }

    /// A varint field, which is left out when it is 0.
    #[inline]
    fn number(&mut self, number: u8, mut value: u64) {
        if value == 0 {
            return;
        }
        self.push(&[varint(number)]);
        while value >= 0x80 {
            self.push(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.push(&[value as u8]);
    }
}
