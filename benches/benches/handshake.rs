//! An upgrade from the bytes of a browser's request to the bytes of the answer.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use roost_proto::{
    codec::Encoding,
    handshake::{Refusal, parse, write_accept},
};

/// What Chromium sends, with a token of the usual size.
fn request() -> Vec<u8> {
    format!(
        "GET /v1/ws?access_token={} HTTP/1.1\r\n\
         Host: localhost:9000\r\n\
         Connection: Upgrade\r\n\
         Pragma: no-cache\r\n\
         Cache-Control: no-cache\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
         Upgrade: websocket\r\n\
         Origin: http://localhost:9080\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\n\
         Accept-Language: en-US,en;q=0.9\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
         Sec-WebSocket-Protocol: roost.v1.json\r\n\r\n",
        "a".repeat(150)
    )
    .into_bytes()
}

fn upgrade(c: &mut Criterion) {
    let request = request();
    let mut out = Vec::with_capacity(256);
    c.bench_function("upgrade", |b| {
        b.iter(|| {
            out.clear();
            let Ok(Some((upgrade, bytes))) = parse(black_box(&request)) else { panic!("a valid request") };
            let encoding = upgrade.protocols().find_map(Encoding::from_sub_protocol);
            write_accept(upgrade.key, encoding.map(Encoding::sub_protocol), black_box(&mut out));
            bytes
        });
    });
    c.bench_function("parse", |b| b.iter(|| parse(black_box(&request)).is_ok_and(|found| found.is_some())));
    c.bench_function("refuse", |b| {
        b.iter(|| {
            out.clear();
            Refusal::Unauthorized("the token has expired").write(black_box(&mut out));
        });
    });
}

criterion_group!(benches, upgrade);
criterion_main!(benches);
