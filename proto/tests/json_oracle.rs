//! The JSON mapping against another implementation, Google's protobuf for Python (Debian's python3-protobuf).
//!
//! Frames are made at random from the descriptors of the contract, so that a field added there is tested here.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use buffa::{Message, encoding::encode_varint};
use proptest::{
    prelude::Rng,
    test_runner::{RngAlgorithm, TestRng},
};
use prost::Message as _;
use roost_proto::{
    codec::{
        Encoding::{Json, Proto},
        decode_client_frame, decode_server_frame, encode_client_frame, encode_server_frame,
    },
    v1::{ClientFrame, ServerFrame},
};

/// Debian's interpreter, not the first of the path: it is the one that sees Debian's packages.
const PYTHON: &str = "/usr/bin/python3";
const FRAME_COUNT: usize = 3000;

/// `roost.v1.ClientFrame` or `roost.v1.ServerFrame`, with our codec for it.
struct Type {
    name: &'static str,
    to_json: fn(&[u8]) -> String,
    /// Binary of a JSON text in canonical field order; the error's text where it is refused.
    to_binary: fn(&str) -> Result<Vec<u8>, String>,
}

const CLIENT: Type = Type {
    name: "roost.v1.ClientFrame",
    to_json: |binary| {
        let mut out = Vec::new();
        encode_client_frame(Json, &decode_client_frame(Proto, binary).expect("a valid frame"), &mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    },
    to_binary: |json| {
        let frame: ClientFrame =
            decode_client_frame(Json, json.as_bytes()).map_err(|error| error.to_string())?;
        Ok(frame.encode_to_vec())
    },
};

const SERVER: Type = Type {
    name: "roost.v1.ServerFrame",
    to_json: |binary| {
        let mut out = Vec::new();
        encode_server_frame(Json, &decode_server_frame(Proto, binary).expect("a valid frame"), &mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    },
    to_binary: |json| {
        let frame: ServerFrame =
            decode_server_frame(Json, json.as_bytes()).map_err(|error| error.to_string())?;
        Ok(frame.encode_to_vec())
    },
};

/// A message in both encodings; either may be empty where it is not asked about.
struct Case<'a> {
    of: &'a Type,
    binary: Vec<u8>,
    json: String,
}

/// The other implementation's JSON of `binary` and binary of `json` (`None`: refused).
struct Answer {
    json: String,
    binary: Option<Vec<u8>>,
}

fn ask(cases: &[Case]) -> Vec<Answer> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let descriptors = dir.path().join("descriptors");
    fs::write(&descriptors, contract().0).expect("descriptors are written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json_oracle.py");
    let mut python = Command::new(PYTHON)
        .args([&script, &descriptors])
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{PYTHON}: {error}; apt install python3 python3-protobuf"));
    let mut stdin = python.stdin.take().expect("stdin is piped");
    let lines = cases.iter().map(|case| format!("{}\t{}\t{}\n", case.of.name, hex(&case.binary), case.json));
    let input = lines.collect::<Vec<_>>().concat();
    // A script that cannot import protobuf ends without reading: what it says then is below.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = python.wait_with_output().expect("python ends");
    writer.join().expect("the writer ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("ModuleNotFoundError"), "{stderr}\napt install python3-protobuf");
    assert!(output.status.success(), "{stderr}");
    let answers: Vec<Answer> = String::from_utf8(output.stdout).expect("UTF-8").lines().map(answer).collect();
    assert_eq!(answers.len(), cases.len(), "{stderr}");
    answers
}

fn answer(line: &str) -> Answer {
    let (json, binary) = line.split_once('\t').expect("two columns");
    let binary = match binary {
        "refused" => None,
        "empty" => Some(Vec::new()),
        hex => Some(unhex(hex)),
    };
    Answer { json: json.to_owned(), binary }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal"))
        .collect()
}

/// Bytes of a `FileDescriptorSet`, and the fields of each message by its full name.
fn contract() -> (Vec<u8>, Schema) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("contract");
    let set = protox::compile([dir.join("roost.proto")], [dir]).expect("roost.proto compiles");
    let mut schema = Schema::new();
    for file in &set.file {
        let mut todo: Vec<_> =
            file.message_type.iter().map(|message| (format!(".{}", file.package()), message)).collect();
        while let Some((parent, message)) = todo.pop() {
            let name = format!("{parent}.{}", message.name());
            todo.extend(message.nested_type.iter().map(|nested| (name.clone(), nested)));
            let fields = message.field.iter().map(|field| Field {
                number: field.number() as u64,
                kind: field.r#type() as i32,
                is_repeated: field.label() as i32 == 3,
                in_oneof: field.oneof_index.is_some(),
                of: field.type_name().to_owned(),
            });
            schema.insert(name, fields.collect());
        }
    }
    (set.encode_to_vec(), schema)
}

type Schema = HashMap<String, Vec<Field>>;

/// What `FieldDescriptorProto` (descriptor.proto) says of a field; `kind` is its `Type`.
struct Field {
    number: u64,
    kind: i32,
    is_repeated: bool,
    in_oneof: bool,
    /// The full name of its message or enum.
    of: String,
}

/// Random messages in the binary encoding.
struct Generator {
    schema: Schema,
    rng: TestRng,
}

impl Generator {
    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end
    }

    fn message(&mut self, name: &str, out: &mut Vec<u8>) {
        let fields = self.schema.remove(name).unwrap_or_else(|| panic!("{name} is not in the contract"));
        for field in &fields {
            let count = match (field.is_repeated, field.in_oneof) {
                (true, _) => self.below(9),
                // Now and then two members of a oneof: the later one counts.
                (false, true) => u64::from(self.below(4) == 0),
                (false, false) => self.below(2),
            };
            for _ in 0..count {
                self.field(field, out);
            }
        }
        self.schema.insert(name.to_owned(), fields);
    }

    fn field(&mut self, field: &Field, out: &mut Vec<u8>) {
        let mut content = Vec::new();
        match field.kind {
            4 => return self.varint_field(field, u64::MAX, out),
            8 => return self.varint_field(field, 1, out),
            13 => return self.varint_field(field, u64::from(u32::MAX), out),
            14 => {
                // Names, numbers without a name, and a negative one (as 64 bits, as proto3 has it).
                let number = [0, 1, 2, 6, 7, 99, i64::from(i32::MIN)][self.below(7) as usize];
                encode_varint(field.number << 3, out);
                return encode_varint(number as u64, out);
            }
            9 => content.extend(
                ["", "Anna", "\"\\/\t\r\n\0\u{7f}", "κόσμε €😀\u{2028}", "<&'>"][self.below(5) as usize]
                    .bytes(),
            ),
            12 => content.extend((0..self.below(60)).map(|_| self.rng.next_u32() as u8).collect::<Vec<_>>()),
            11 => self.message(&field.of, &mut content),
            other => panic!("the generator does not know type {other} of descriptor.proto yet"),
        }
        encode_varint(field.number << 3 | 2, out);
        encode_varint(content.len() as u64, out);
        out.extend_from_slice(&content);
    }

    fn varint_field(&mut self, field: &Field, max: u64, out: &mut Vec<u8>) {
        let value = match self.below(4) {
            0 => self.below(3),
            1 => (1 << 53) + self.below(3),
            2 => max,
            _ => self.rng.next_u64() >> self.below(64),
        };
        encode_varint(field.number << 3, out);
        encode_varint(value.min(max), out);
    }
}

#[test]
fn random_frames_have_the_same_json() {
    let (_, schema) = contract();
    let mut generator = Generator { schema, rng: TestRng::deterministic_rng(RngAlgorithm::ChaCha) };
    let cases: Vec<Case> = (0..FRAME_COUNT)
        .map(|i| {
            let of = [&CLIENT, &SERVER][i % 2];
            let mut binary = Vec::new();
            generator.message(&format!(".{}", of.name), &mut binary);
            let json = (of.to_json)(&binary);
            Case { of, binary, json }
        })
        .collect();
    let longest = cases.iter().map(|case| case.json.len()).max();
    assert!(longest > Some(1000), "the generator makes frames of substance");
    for (case, answer) in cases.iter().zip(ask(&cases)) {
        let json = &case.json;
        let canonical =
            (case.of.to_binary)(json).unwrap_or_else(|error| panic!("we refuse our own {json}: {error}"));
        let parse = |json: &str| serde_json::from_str::<serde_json::Value>(json).expect("JSON");
        if !case.binary.is_empty() {
            assert_eq!(parse(json), parse(&answer.json), "the same names and values");
            assert_eq!(
                (case.of.to_binary)(&answer.json).as_ref(),
                Ok(&canonical),
                "we read their {}",
                answer.json
            );
        }
        let theirs = answer.binary.unwrap_or_else(|| panic!("they refuse our {json}"));
        assert_eq!((case.of.to_json)(&theirs), *json, "they read our JSON as we do");
    }
}

#[test]
fn odd_json_is_read_alike() {
    let tables = [(ODD, "both"), (ODD_OURS, "ours"), (ODD_THEIRS, "theirs")];
    let rows: Vec<_> =
        tables.iter().flat_map(|(table, readers)| table.iter().map(|&json| (json, *readers))).collect();
    let cases: Vec<Case> = rows
        .iter()
        .map(|(json, _)| Case { of: &CLIENT, binary: Vec::new(), json: (*json).to_owned() })
        .collect();
    let mut taken_count = 0;
    for ((json, readers), answer) in rows.iter().zip(ask(&cases)) {
        let ours = (CLIENT.to_binary)(json);
        match (readers, &ours, &answer.binary) {
            (&"both", Ok(ours), Some(theirs)) => {
                assert_eq!((CLIENT.to_json)(ours), (CLIENT.to_json)(theirs), "{json}");
                taken_count += 1;
            }
            (&"both", Err(_), None) | (&"ours", Ok(_), None) | (&"theirs", Err(_), Some(_)) => {}
            _ => panic!("{json} is in the table of {readers}: ours {ours:?}, theirs {:?}", answer.binary),
        }
    }
    assert!(taken_count >= 25, "{taken_count} odd readings are taken by both");
}

/// `ClientFrame`s the mapping allows in more than one way, or only just not: both take them, or both refuse.
const ODD: &[&str] = &[
    r#"{"id":7,"keys_publish":{"signed_prekey":"AQ==","one_time":["AQ=="]}}"#,
    r#"{"id":"7","ack":{"up_to":18446744073709551615}}"#,
    r#"{"ack":{"upTo":"18446744073709551615"}}"#,
    r#"{"ack":{"upTo":18446744073709551616}}"#,
    r#"{"ack":{"upTo":"18446744073709551616"}}"#,
    r#"{"ack":{"upTo":1.0}}"#,
    r#"{"ack":{"upTo":1e3}}"#,
    r#"{"ack":{"upTo":1.5}}"#,
    r#"{"ack":{"upTo":-1}}"#,
    r#"{"ack":{"upTo":"-1"}}"#,
    r#"{"ack":{"upTo":" 1"}}"#,
    r#"{"ack":{"upTo":"0x10"}}"#,
    r#"{"ack":{"upTo":""}}"#,
    r#"{"ack":{"upTo":true}}"#,
    r#"{"ack":{"upTo":"01"}}"#,
    r#"{"id":4294967295}"#,
    r#"{"id":4294967296}"#,
    r#"{"id":null,"send":null}"#,
    r#"{"send":{"to":null,"clientId":null,"kind":null,"payload":null,"sealed":null}}"#,
    r#"{"send":{"payload":"-_8"}}"#,
    r#"{"send":{"payload":"-_8="}}"#,
    r#"{"send":{"payload":"+/8"}}"#,
    r#"{"send":{"payload":"+/8="}}"#,
    r#"{"send":{"payload":"a"}}"#,
    r#"{"send":{"payload":5}}"#,
    r#"{"send":{"kind":3}}"#,
    r#"{"send":{"kind":99}}"#,
    r#"{"send":{"kind":"MEDIA"}}"#,
    r#"{"send":{"kind":"media"}}"#,
    r#"{"send":{"kind":"NOPE"}}"#,
    r#"{"typing":{"active":"true"}}"#,
    r#"{"typing":{"active":1}}"#,
    r#"{"read":{"message":["1",2]}}"#,
    r#"{"read":{"message":[null]}}"#,
    r#"{"read":{"message":5}}"#,
    r#"{"read":{"message":{}}}"#,
    r#"{"read":{"message":[]}}"#,
    r#"{"nope":{"deep":[1,{"a":null}]},"id":1}"#,
    r#"{"send":{},"ack":{}}"#,
    r#"{"send":null,"ack":{}}"#,
    r#"{"keysPublish":{},"keys_publish":{}}"#,
    r#"{"ack":[]}"#,
    r#"{"send":{"to":{"user":"5"}}}"#,
    r#"{"group":{"create":{"name":"a"},"info":false}}"#,
    r#"{"group":{"info":false}}"#,
    r#"{"group":{"rename":""}}"#,
    r#"{"group":{"rename":"\ud83d\ude00"}}"#,
    r#"{"group":{"rename":"\ud83d"}}"#,
    r"null",
    r#"{"id":1}x"#,
    r#" {"id" : 1 } "#,
    r#"{"id":1,}"#,
    r"{id:1}",
    r#"{"ID":1}"#,
    r#"{"id":NaN}"#,
    r#"{"history":{"with":{"group":"1"},"limit":"5"}}"#,
];

/// What buffa takes beyond the mapping: quoted floats, a field twice (the last counts), an array of fields in order.
const ODD_OURS: &[&str] =
    &[r#"{"ack":{"upTo":"1.0"}}"#, r#"{"ack":{"upTo":"1e3"}}"#, r#"{"id":1,"id":2}"#, r#"{"ack":[5]}"#];

/// What Python takes beyond the mapping: text that is not base64, a quoted or fractional enum number, values that are no
/// objects for messages, a field under both its names.
const ODD_THEIRS: &[&str] = &[
    r#"{"send":{"payload":"*"}}"#,
    r#"{"send":{"kind":"1"}}"#,
    r#"{"send":{"kind":1.0}}"#,
    r#"{"ack":"5"}"#,
    r#"{"send":{"to":[]}}"#,
    r#"{"ack":{"upTo":"1","up_to":"2"}}"#,
    r"[]",
    r#""""#,
];
