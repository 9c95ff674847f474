//! The bytes of a client, made before they are needed.

use roost_proto::frame::{self, Opcode};

/// What a client says first on a WebSocket; any path and key will do for an echo.
pub const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The answer to the key of [`REQUEST`], RFC 6455 section 1.3.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const MASKED: u8 = 0x80;

/// A client's binary message of `payload_bytes` in one frame, and the frame that answers it.
pub fn pair(payload_bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let payload: Vec<u8> = (0..payload_bytes).map(|at| (at * 7 + 3) as u8).collect();
    let mut answer = Vec::new();
    frame::encode(Opcode::Binary, &payload, &mut answer);
    let mut request = answer[..answer.len() - payload_bytes].to_vec();
    request[1] |= MASKED;
    request.extend_from_slice(&MASK);
    request.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    (request, answer)
}

/// A client's Close with code 1000.
pub fn close() -> Vec<u8> {
    let code = 1000_u16.to_be_bytes();
    let mut frame = vec![0x88, MASKED | 2];
    frame.extend_from_slice(&MASK);
    frame.extend(code.iter().zip(MASK).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use roost_proto::frame::{Decoder, Item};

    use super::*;

    #[test]
    fn a_message_is_what_the_decoder_takes_and_its_answer_what_an_echo_sends() {
        for bytes in [16, 128, 512] {
            let (mut request, answer) = pair(bytes);
            assert_eq!(request.len(), answer.len() + MASK.len());
            let length = request.len();
            let mut decoder = Decoder::new(1_024);
            let (used, item) = decoder.decode(&mut request).expect("a frame");
            let Some(Item::Data { payload, first: true, last: true, .. }) = item else { panic!("a message") };
            assert_eq!((used, payload), (length, &answer[answer.len() - bytes..]));
        }
    }

    #[test]
    fn a_close_carries_1000() {
        let (mut frame, mut decoder) = (close(), Decoder::new(1_024));
        let Ok((_, Some(Item::Close(Some(close))))) = decoder.decode(&mut frame) else { panic!("a close") };
        assert_eq!(close.code, 1000);
    }
}
