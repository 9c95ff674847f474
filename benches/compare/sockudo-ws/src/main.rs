//! An echo server of sockudo-ws: a task a connection, one thread. It prints its port once it listens.
//!
//!     roost-sockudo-ws PORT
//!
//! Echoes are fed and not flushed one by one: the library writes all of a read at once before it waits for more, as its
//! documentation recommends for batches.

use std::io;

use futures_util::{SinkExt, StreamExt};
use sockudo_ws::handshake::{build_response, generate_accept_key, parse_request};
use sockudo_ws::{Config, Error, Message, Result, WebSocketStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const REQUEST_BYTES: usize = 4_096;

fn main() -> io::Result<()> {
    let Some(Ok(port)) = std::env::args().nth(1).map(|text| text.parse()) else {
        return Err(io::Error::other("usage: roost-sockudo-ws PORT"));
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(port))
}

async fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("ready port={}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A connection that breaks is closed.
        tokio::spawn(async move { echo(stream).await.is_ok() });
    }
}

async fn echo(mut stream: TcpStream) -> Result<()> {
    shake_hands(&mut stream).await?;
    // Nobody is pinged while a comparison lasts, as with the others.
    let config = Config { idle_timeout: 0, auto_ping: false, ..Config::default() };
    let mut socket = WebSocketStream::server(stream, config);
    while let Some(message) = socket.next().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.feed(message).await?,
            Message::Close(_) => break,
            // A ping is answered by the library.
            _ => {}
        }
    }
    Ok(())
}

async fn shake_hands(stream: &mut TcpStream) -> Result<()> {
    let mut request = Vec::with_capacity(REQUEST_BYTES);
    loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(Error::ConnectionClosed);
        }
        if let Some((upgrade, _)) = parse_request(&request)? {
            let response = build_response(&generate_accept_key(upgrade.key), None, None);
            return Ok(stream.write_all(&response).await?);
        }
    }
}
