//! The HTTP service's thread: accepts, serves each connection under limits, stops gracefully.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::limits::{
    ACCEPT_RETRY_MS, CONNECTION_S_MAX, HEADER_BYTES_MAX, HEADER_READ_MS_MAX, HEADERS_MAX, STOP_FIRST_MS,
    STOP_MS_MAX,
};
use super::places::{Places, Serving};
use super::routes::{self, Shared};
use super::{HttpConfig, Services, password, proxied};

/// Who is at the other end of the connection a request came on.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The running service. Dropping it stops it at once.
pub struct HttpService {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Serves on `listener`, from a thread named `roost-http` with a tokio runtime of its own.
///
/// # Errors
/// The listener cannot be used, the thread cannot be started, or the system gives no random bytes.
pub fn start(
    config: HttpConfig,
    listener: std::net::TcpListener,
    services: Services,
) -> io::Result<HttpService> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let shared = Arc::new(Shared::new(config, services));
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // One thread a hash is enough: nothing else blocks here.
        .max_blocking_threads(password::hashes_in_flight_max())
        .thread_name("roost-http-hash")
        .build()?;
    let router = routes::router(Arc::clone(&shared));
    let counters = Arc::clone(&shared);
    let listener = {
        let _entered = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let thread = std::thread::Builder::new().name("roost-http".to_owned()).spawn(move || {
        runtime.block_on(serve(listener, router, &counters, stopped));
        runtime.shutdown_timeout(Duration::from_millis(STOP_MS_MAX));
    })?;
    Ok(HttpService { address, shared, stop, thread: Some(thread) })
}

impl HttpService {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `GET /readyz` answers 503; everything else goes on.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }

    /// Stops accepting, lets requests in flight finish for at most `limits::STOP_MS_MAX`, and returns.
    pub fn stop(mut self) {
        self.stop_and_join();
    }

    fn stop_and_join(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the HTTP thread panicked; this is a defect");
        }
    }
}

impl Drop for HttpService {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

async fn serve(listener: TcpListener, router: Router, shared: &Shared, mut stopped: watch::Receiver<bool>) {
    let proxied = shared.config.proxy_protocol;
    let service = TowerToHyperService::new(router);
    let mut places = Places::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop_asked(&mut stopped) => break,
        };
        let Some((stream, peer)) = accepted else { continue };
        let (place, gave_way) = tokio::select! {
            // Who was accepted is served while there is a place, also at the last moment: a drop here would reset them.
            biased;
            place = places.take() => place,
            () = stop_asked(&mut stopped) => break,
        };
        shared.count_crowded_out(gave_way);
        let serving = Serving::default();
        let (service, stopped, own) = (service.clone(), stopped.clone(), serving.clone());
        let connection = async move {
            let peer = if proxied { proxied::client(&stream, peer).await } else { Ok(peer) };
            match peer {
                Ok(peer) => serve_connection(stream, peer, service, own, stopped).await,
                Err(error) => tracing::debug!(%error, "an HTTP connection without a valid PROXY header"),
            }
        };
        let task = connections.spawn(async move {
            let _place = place;
            let _: Result<(), _> =
                tokio::time::timeout(Duration::from_secs(CONNECTION_S_MAX), connection).await;
        });
        places.given(task, serving);
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    let _: Result<(), _> = tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), finish).await;
    connections.abort_all();
}

/// The next connection.
async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "cannot accept an HTTP connection");
            tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            None
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: TowerToHyperService<Router>,
    serving: Serving,
    mut stopped: watch::Receiver<bool>,
) {
    // Answers are small and written whole; without this their tail waits for the client's delayed ACK.
    let _: io::Result<()> = stream.set_nodelay(true);
    let (asks, mut asked) = watch::channel(false);
    let service = service_fn(move |mut request: Request<Incoming>| {
        asks.send_replace(true);
        request.extensions_mut().insert(Peer(peer));
        let (answer, served) = (service.call(request), serving.begin());
        async move {
            let _served = served;
            Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEADER_READ_MS_MAX))
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = last_call(&mut stopped, &mut asked) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// Done once the service is to stop; a dropped sender means the same.
async fn stop_asked(stopped: &mut watch::Receiver<bool>) {
    let _: Result<(), _> = stopped.wait_for(|stopped| *stopped).await.map(drop);
}

/// Done once the service is to stop and the client has asked something, or has had the time to: one that was accepted at the last
/// moment gets an answer, not an end.
async fn last_call(stopped: &mut watch::Receiver<bool>, asked: &mut watch::Receiver<bool>) {
    stop_asked(stopped).await;
    let first = asked.wait_for(|asked| *asked);
    let _: Result<_, _> = tokio::time::timeout(Duration::from_millis(STOP_FIRST_MS), first).await;
}
