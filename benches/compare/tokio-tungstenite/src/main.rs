//! An echo server as users of tokio-tungstenite write it: a task a connection, the library's own buffers. It prints its port once
//! it listens.
//!
//!     roost-tokio-tungstenite PORT [THREADS]

use futures_util::{SinkExt, StreamExt};
use std::io;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_tungstenite::accept_async;

fn main() -> io::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u16>());
    let (Some(Ok(port)), threads) = (numbers.next(), numbers.next().unwrap_or(Ok(1))) else {
        return Err(io::Error::other("usage: roost-tokio-tungstenite PORT [THREADS]"));
    };
    let threads = threads.map_err(io::Error::other)?;
    let mut runtime = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    runtime.worker_threads(threads.max(1).into()).enable_all().build()?.block_on(serve(port))
}

async fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("ready port={}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
}

async fn echo(stream: TcpStream) {
    let Ok(mut socket) = accept_async(stream).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        // A ping is answered by the library.
        let is_data = message.is_binary() || message.is_text();
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}
