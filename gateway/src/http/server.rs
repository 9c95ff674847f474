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
use tokio::io::{AsyncRead, AsyncWrite};
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
        let serving = places.serving();
        let (service, stopped, own) = (service.clone(), stopped.clone(), serving.clone());
        let connection = async move {
            let peer = if proxied { proxied::client(&stream, peer).await } else { Ok(peer) };
            match peer {
                Ok(peer) => {
                    // Answers are small and written whole; without this their tail waits for the client's delayed ACK.
                    let _: io::Result<()> = stream.set_nodelay(true);
                    serve_connection(stream, peer, service, own, stopped).await;
                }
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

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: SocketAddr,
    service: TowerToHyperService<Router>,
    serving: Serving,
    mut stopped: watch::Receiver<bool>,
) {
    let stream = serving.watch(stream);
    let (asks, mut asked) = watch::channel(false);
    let service = service_fn(move |mut request: Request<Incoming>| {
        asks.send_replace(true);
        request.extensions_mut().insert(Peer(peer));
        let (answer, served) = (service.call(request), serving.request());
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;

    use super::*;

    const ANSWER_BYTES: usize = 100_000;

    /// A client's end: what it asks, and how much of the answer it still takes.
    #[derive(Clone)]
    struct Client(Arc<Mutex<(Vec<u8>, usize)>>);

    impl AsyncRead for Client {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let asked = std::mem::take(&mut self.0.lock().expect("no panic").0);
            into.put_slice(&asked);
            if asked.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
        }
    }

    impl AsyncWrite for Client {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let takes = &mut self.0.lock().expect("no panic").1;
            let taken = bytes.len().min(*takes);
            *takes -= taken;
            if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_connection_has_an_answer_under_way_until_its_client_has_taken_all_of_it() {
        let (places, (_stop, stopped)) = (Places::new(), watch::channel(false));
        let client = Client(Arc::new(Mutex::new((b"GET / HTTP/1.1\r\nHost: roost\r\n\r\n".to_vec(), 0))));
        let router = Router::new().route("/", axum::routing::get(async || vec![7_u8; ANSWER_BYTES]));
        let (serving, peer) = (places.serving(), SocketAddr::from(([127, 0, 0, 1], 1)));
        let service = TowerToHyperService::new(router);
        let connection = serve_connection(client.clone(), peer, service, serving.clone(), stopped);
        let mut connection = std::pin::pin!(connection);
        let mut goes_on = async || {
            let one = |context: &mut Context<'_>| Poll::Ready(connection.as_mut().poll(context).is_pending());
            assert!(std::future::poll_fn(one).await, "it stays open");
        };
        assert!(!serving.has_unsent());
        for taken in [0, 1_000, ANSWER_BYTES / 2] {
            client.0.lock().expect("no panic").1 = taken;
            goes_on().await;
            assert!(serving.has_unsent(), "so far it took {taken} more");
        }
        client.0.lock().expect("no panic").1 = ANSWER_BYTES;
        goes_on().await;
        assert!(!serving.has_unsent(), "it has it all");
    }
}
