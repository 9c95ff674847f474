//! The decoder against tungstenite: the same messages and the same verdict, however the stream is cut.
//!
//! Where the two differ on purpose, [`differs_on_purpose`] names the rule; `frame_rules.rs` tests each by hand.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt,
    io::{self, Read, Write},
    mem,
};

use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestRunner};
use roost_proto::frame::{Decoder, Item, MessageKind, Violation, decode_whole, unmask};
use tungstenite::{
    Error, Message,
    protocol::{Role, WebSocket, WebSocketConfig},
};

const MESSAGE_BYTES_MAX: usize = 3000;
/// Zeros after a mutated stream, so that tungstenite, which waits for whole frames, sees the frame whose header we
/// refused. They are frames themselves, and invalid.
const PADDING_BYTES: usize = 2 * MESSAGE_BYTES_MAX;

/// What a client sends; shown in hexadecimal, without the zeros at its end.
#[derive(Clone)]
struct Stream(Vec<u8>);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        self.0[..end].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, " and {} zeros", self.0.len() - end)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// Our messages of a stream in chunks of `cuts` (again and again), and the rule that ended it. `directly`: whole messages between two
/// others are read without the decoder.
fn ours(stream: &[u8], cuts: &[usize], directly: bool) -> (Vec<Seen>, Option<Violation>) {
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX as u64);
    let (mut seen, mut message, mut closed) = (Vec::new(), Vec::new(), false);
    let mut stream = stream.to_vec();
    let mut rest = &mut stream[..];
    for &cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let cut = cut.min(rest.len());
        let (mut chunk, later) = mem::take(&mut rest).split_at_mut(cut);
        rest = later;
        loop {
            if directly && decoder.is_idle() {
                let before = chunk.to_vec();
                if let Some((consumed, kind, payload)) = decode_whole(chunk, MESSAGE_BYTES_MAX as u64) {
                    seen.push(Seen::Message(kind, payload.to_vec()));
                    chunk = &mut chunk[consumed..];
                    continue;
                }
                assert_eq!(chunk, before, "what is not taken is left as it came");
            }
            let (consumed, item) = match decoder.decode(chunk) {
                Ok(found) => found,
                Err(violation) => return (seen, Some(violation)),
            };
            assert!(!closed || item.is_none(), "an item after the close frame");
            match item {
                None => {
                    assert_eq!(consumed, chunk.len());
                    break;
                }
                Some(Item::Data { kind, payload, last, .. }) => {
                    message.extend_from_slice(payload);
                    if last {
                        seen.push(Seen::Message(kind, mem::take(&mut message)));
                    }
                }
                Some(Item::Ping(payload)) => seen.push(Seen::Ping(payload.to_vec())),
                Some(Item::Pong(payload)) => seen.push(Seen::Pong(payload.to_vec())),
                Some(Item::Close(close)) => {
                    closed = true;
                    seen.push(Seen::Close(close.map(|close| (close.code, close.reason.to_owned()))));
                }
            }
            chunk = &mut chunk[consumed..];
        }
        if decoder.is_idle() {
            // Whoever keeps no decoder for an idle connection reads the same.
            decoder = Decoder::new(MESSAGE_BYTES_MAX as u64);
        }
    }
    (seen, None)
}

/// A stream that comes in chunks; what tungstenite answers is dropped.
struct Chunks<'a> {
    rest: &'a [u8],
    cuts: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let cut = self.cuts.next().map_or(1, |&cut| cut).min(self.rest.len()).min(buffer.len());
        let (chunk, rest) = self.rest.split_at(cut);
        buffer[..cut].copy_from_slice(chunk);
        self.rest = rest;
        Ok(cut)
    }
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tungstenite's messages, and the close code its error stands for.
fn theirs(stream: &[u8], cuts: &[usize]) -> (Vec<Seen>, Option<u16>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let chunks = Chunks { rest: stream, cuts: cuts.iter().cycle() };
    let mut socket = WebSocket::from_raw_socket(chunks, Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Message(MessageKind::Text, text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => Seen::Message(MessageKind::Binary, bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
            // This is how tungstenite says that the close code was not valid; no stream here has that reason.
            Ok(Message::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => {
                return (seen, Some(1002));
            }
            Ok(Message::Close(close)) => {
                seen.push(Seen::Close(
                    close.map(|close| (close.code.into(), close.reason.as_str().to_owned())),
                ));
                return (seen, None);
            }
            Ok(Message::Frame(frame)) => panic!("read gives no raw frames: {frame}"),
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                return (seen, None);
            }
            Err(Error::Protocol(_)) => return (seen, Some(1002)),
            Err(Error::Utf8(_)) => return (seen, Some(1007)),
            Err(Error::Capacity(_)) => return (seen, Some(1009)),
            Err(error) => panic!("not a verdict: {error}"),
        });
    }
}

/// The rules where tungstenite 0.30 decides otherwise.
fn differs_on_purpose(
    ours: (&[Seen], Option<Violation>),
    theirs: (&[Seen], Option<u16>),
) -> Option<&'static str> {
    let same_beginning = theirs.0.starts_with(ours.0);
    match (ours.1, theirs.1) {
        // RFC 6455 section 5.2: "the minimal number of bytes MUST be used to encode the length".
        (Some(Violation::LengthNotMinimal), _) if same_beginning => Some("tungstenite takes longer lengths"),
        // A header that breaks two rules: tungstenite looks at the length first, which says 1009.
        (
            Some(
                Violation::LengthTooLong
                | Violation::ReservedBits
                | Violation::Unmasked
                | Violation::FragmentedControl
                | Violation::ControlTooLong
                | Violation::UnexpectedContinuation
                | Violation::ExpectedContinuation,
            ),
            Some(1009),
        ) if ours.0 == theirs.0 => Some("tungstenite checks the size before the other rules"),
        // 1014 (bad gateway) is registered with IANA; tungstenite does not know it.
        (None, Some(1002)) => match ours.0.split_last() {
            Some((Seen::Close(Some((1014, _))), before)) if before == theirs.0 => {
                Some("tungstenite refuses close code 1014")
            }
            _ => None,
        },
        _ => None,
    }
}

/// Both read the stream, each in its own chunks, and agree.
fn compare(stream: &[u8], cuts: &[usize]) -> Result<Option<Violation>, TestCaseError> {
    let (our_seen, violation) = ours(stream, cuts, false);
    assert_eq!(ours(stream, cuts, true), (our_seen.clone(), violation), "read directly or not");
    let (their_seen, close_code) = theirs(stream, &[4096]);
    if differs_on_purpose((&our_seen, violation), (&their_seen, close_code)).is_none() {
        prop_assert_eq!(violation.map(|violation| violation.close_code()), close_code, "{:?}", violation);
        prop_assert_eq!(our_seen, their_seen);
    }
    Ok(violation)
}

/// One frame as its parts, valid or not.
#[derive(Clone, Debug)]
struct Frame {
    first: u8,
    mask: Option<[u8; 4]>,
    /// The length is written in at least this many extra bytes: 0, 2 or 8.
    length_bytes_min: usize,
    /// The length that is written, where it is not that of the payload.
    length_lie: Option<u64>,
    payload: Vec<u8>,
}

impl Frame {
    fn valid(first: u8, mask: [u8; 4], payload: Vec<u8>) -> Self {
        Self { first, mask: Some(mask), length_bytes_min: 0, length_lie: None, payload }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let length = self.length_lie.unwrap_or(self.payload.len() as u64);
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        out.push(self.first);
        if length < 126 && self.length_bytes_min == 0 {
            out.push(masked + length as u8);
        } else if length < 65536 && self.length_bytes_min <= 2 {
            out.push(masked + 126);
            out.extend((length as u16).to_be_bytes());
        } else {
            out.push(masked + 127);
            out.extend(length.to_be_bytes());
        }
        out.extend(self.mask.iter().flatten());
        let begin = out.len();
        out.extend(&self.payload);
        unmask(&mut out[begin..], self.mask.unwrap_or_default());
    }
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![vec(1_usize..8, 1..9), vec(1_usize..400, 1..9), Just(vec![usize::MAX])]
}

fn text_or_bytes() -> impl Strategy<Value = (u8, Vec<u8>)> {
    prop_oneof![
        "\\PC{0,60}".prop_map(|text| (1, text.into_bytes())),
        "[a-zé€😀]{0,400}".prop_map(|text| (1, text.into_bytes())),
        prop_oneof![0_usize..20, 120_usize..130, 0..MESSAGE_BYTES_MAX]
            .prop_flat_map(|len| (Just(2), vec(any::<u8>(), len))),
    ]
}

fn control() -> impl Strategy<Value = Frame> {
    (0x89_u8..=0x8A, any::<[u8; 4]>(), vec(any::<u8>(), 0..=125))
        .prop_map(|(first, mask, payload)| Frame::valid(first, mask, payload))
}

fn close() -> impl Strategy<Value = Frame> {
    let body = (prop_oneof![1000_u16..1016, 3000_u16..5000], "\\PC{0,20}")
        .prop_map(|(code, reason)| [&code.to_be_bytes()[..], reason.as_bytes()].concat());
    (any::<[u8; 4]>(), prop_oneof![Just(vec![]), body])
        .prop_map(|(mask, payload)| Frame::valid(0x88, mask, payload))
}

/// A message in one or more frames, with control frames between them.
fn message() -> impl Strategy<Value = Vec<Frame>> {
    (text_or_bytes(), vec(any::<Index>(), 0..4), vec(any::<[u8; 4]>(), 5), vec(vec(control(), 0..2), 5))
        .prop_map(|((opcode, payload), cuts, masks, controls)| {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
            cuts.extend([0, payload.len()]);
            cuts.sort_unstable();
            let last = cuts.len() - 2;
            let mut frames = Vec::new();
            for (i, range) in cuts.windows(2).enumerate() {
                let first = if i == 0 { opcode } else { 0 } | if i == last { 0x80 } else { 0 };
                frames.push(Frame::valid(first, masks[i], payload[range[0]..range[1]].to_vec()));
                frames.extend_from_slice(&controls[i]);
            }
            frames
        })
}

fn valid_stream() -> impl Strategy<Value = Stream> {
    (vec(message(), 0..5), proptest::option::of(close())).prop_map(|(messages, close)| {
        let mut stream = Vec::new();
        messages.iter().flatten().chain(close.iter()).for_each(|frame| frame.write(&mut stream));
        Stream(stream)
    })
}

/// Frames without regard to the rules, though mostly inside them.
fn frame_soup() -> impl Strategy<Value = Stream> {
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A]),
        1 => Just(0x88_u8),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        3 => "[a-zé€😀]{0,40}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..6),
        1 => vec(any::<u8>(), 0..1500),
    ];
    let mask = prop_oneof![19 => any::<[u8; 4]>().prop_map(Some), 1 => Just(None)];
    let length_bytes_min = prop_oneof![19 => Just(0_usize), 1 => Just(2), 1 => Just(8)];
    let length_lie =
        prop_oneof![19 => Just(None), 1 => any::<u64>().prop_map(Some), 1 => (0_u64..4000).prop_map(Some)];
    let frame = (first, mask, length_bytes_min, length_lie, payload).prop_map(
        |(first, mask, length_bytes_min, length_lie, payload)| Frame {
            first,
            mask,
            length_bytes_min,
            length_lie,
            payload,
        },
    );
    vec(frame, 1..8).prop_map(|frames| {
        let mut stream = Vec::new();
        for frame in &frames {
            frame.write(&mut stream);
        }
        stream.resize(stream.len() + PADDING_BYTES, 0);
        Stream(stream)
    })
}

fn mutated_stream() -> impl Strategy<Value = Stream> {
    (valid_stream(), vec((any::<Index>(), any::<u8>(), 0..5), 1..4)).prop_map(
        |(Stream(mut stream), mutations)| {
            for (at, value, kind) in mutations {
                let at = at.index(stream.len() + 1);
                match kind {
                    _ if at == stream.len() => stream.push(value),
                    0 => stream[at] ^= 1 << (value % 8),
                    1 => stream[at] = value,
                    2 => stream.insert(at, value),
                    3 => drop(stream.remove(at)),
                    _ => stream.truncate(at),
                }
            }
            stream.resize(stream.len() + PADDING_BYTES, 0);
            Stream(stream)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn valid_streams_are_read_alike(stream in valid_stream(), cuts in cuts()) {
        let (seen, violation) = ours(&stream.0, &cuts, false);
        let refused = violation.map(|violation| violation.close_code());
        let is_reserved = |seen: &Seen| matches!(seen, Seen::Close(Some((1004..=1006 | 1015, _))));
        prop_assert!(refused.is_none() || refused == Some(1002), "{:?}", violation);
        prop_assert!(!seen.iter().any(is_reserved));
        compare(&stream.0, &cuts)?;
    }

    #[test]
    fn mutated_streams_are_judged_alike(stream in mutated_stream(), cuts in cuts()) {
        compare(&stream.0, &cuts)?;
    }
}

#[test]
fn soups_of_frames_are_judged_alike_and_reach_every_rule() {
    let reached = RefCell::new(BTreeSet::new());
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 20_000, failure_persistence: None, ..Default::default() });
    runner
        .run(&(frame_soup(), cuts()), |(stream, cuts)| {
            if let Some(violation) = compare(&stream.0, &cuts)? {
                let name = format!("{violation:?}");
                reached.borrow_mut().insert(name.split('(').next().unwrap_or_default().to_owned());
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let all = [
        "CloseTooShort",
        "ControlTooLong",
        "ExpectedContinuation",
        "FragmentedControl",
        "InvalidCloseCode",
        "InvalidUtf8",
        "LengthNotMinimal",
        "LengthTooLong",
        "MessageTooBig",
        "ReservedBits",
        "ReservedOpcode",
        "UnexpectedContinuation",
        "Unmasked",
    ];
    assert_eq!(reached.into_inner().iter().collect::<Vec<_>>(), all);
}
