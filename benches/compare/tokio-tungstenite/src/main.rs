//! An echo server as users of tokio-tungstenite write it: a task a connection, the library's own buffers unless others are asked
//! for. It prints its port once it listens.
//!
//!     roost-tokio-tungstenite PORT [THREADS [READ_BUFFER_BYTES]]

use futures_util::future::ready;
use futures_util::{StreamExt, TryStreamExt};
use std::io;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> io::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u16>());
    let (Some(Ok(port)), threads, read_buffer) = (numbers.next(), numbers.next().unwrap_or(Ok(1)), numbers.next()) else {
        return Err(io::Error::other("usage: roost-tokio-tungstenite PORT [THREADS [READ_BUFFER_BYTES]]"));
    };
    let threads = threads.map_err(io::Error::other)?;
    let read_buffer = read_buffer.transpose().map_err(io::Error::other)?;
    let config = read_buffer.map(|bytes| WebSocketConfig::default().read_buffer_size(bytes.into()));
    let mut runtime = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    runtime.worker_threads(threads.max(1).into()).enable_all().build()?.block_on(serve(port, config))
}

async fn serve(port: u16, config: Option<WebSocketConfig>) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("ready port={}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream, config));
    }
}

/// As the library's own example of an echo server: what is forwarded is flushed when no more has come.
async fn echo(stream: TcpStream, config: Option<WebSocketConfig>) {
    let Ok(socket) = accept_async_with_config(stream, config).await else { return };
    let (echoes, messages) = socket.split();
    // A ping is answered by the library. A connection that breaks is closed.
    let data = messages.try_filter(|message| ready(message.is_binary() || message.is_text()));
    let _ = data.forward(echoes).await;
}
