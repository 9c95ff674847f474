//! An echo server of ntex: its web framework with one worker. It prints its port once it listens.
//!
//!     roost-ntex PORT
//!
//! Which I/O it runs on is a feature of the build: `neon-uring`, `neon-polling` or `tokio`.

use std::io;
use std::net::TcpListener;

use ntex::service::{fn_factory_with_config, fn_service};
use ntex::web::{self, App, HttpRequest, HttpServer, ws};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[ntex::main]
async fn main() -> io::Result<()> {
    let Some(Ok(port)) = std::env::args().nth(1).map(|text| text.parse::<u16>()) else {
        return Err(io::Error::other("usage: roost-ntex PORT"));
    };
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("ready port={}", listener.local_addr()?.port());
    HttpServer::new(async || App::new().default_service(web::to(switch))).workers(1).listen(listener)?.run().await
}

async fn switch(request: HttpRequest) -> Result<web::HttpResponse, web::Error> {
    let echoes = fn_factory_with_config(async |_| Ok::<_, web::Error>(fn_service(echo)));
    ws::start::<_, _, &str, web::Error>(request, None, echoes).await
}

async fn echo(frame: ws::Frame) -> io::Result<Option<ws::Message>> {
    Ok(match frame {
        ws::Frame::Text(text) => Some(ws::Message::Text(text.try_into().map_err(|()| io::ErrorKind::InvalidData)?)),
        ws::Frame::Binary(bytes) => Some(ws::Message::Binary(bytes)),
        ws::Frame::Ping(bytes) => Some(ws::Message::Pong(bytes)),
        ws::Frame::Close(reason) => Some(ws::Message::Close(reason)),
        // Pieces of a message, which no comparison sends.
        ws::Frame::Continuation(_) => return Err(io::ErrorKind::Unsupported.into()),
        ws::Frame::Pong(_) => None,
    })
}
