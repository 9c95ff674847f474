//! A new gateway takes over the listening sockets of the one that runs: over a Unix socket in the data folder, with
//! `SCM_RIGHTS`, `unix(7)`. docs/decisions/0024-takeover.md says in which order, and what happens when one of them fails.
//!
//! The old one says a line and then sends its sockets, a byte with each; `go` from the new one begins the drain, and is
//! answered with `going`; `done` follows when the store is closed, and `serving` from the new one is the end. Where the new
//! one is gone before it has said so, the old one, which has the sockets still, serves again.

use std::{
    fs::{self, File, Permissions},
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use roost_gateway::{config::Config, limits};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt,
};

use super::{manager::Manager, running::News, signals::Watched};

const NAME: &str = "takeover.sock";
/// What an old gateway greets with; another number stands for another order of things.
const GREETING: &str = "roost-takeover 2";
const SERVING: &str = "serving";
const WEBSOCKET: u8 = b'w';
const HTTP: u8 = b'h';

/// The sockets clients come in by.
pub struct Sockets {
    /// For WebSocket; at least one.
    pub ws: Vec<TcpListener>,
    /// For HTTP.
    pub http: TcpListener,
}

/// Where a new gateway asks.
pub struct Door {
    path: PathBuf,
    open: Arc<AtomicBool>,
}

impl Door {
    /// Opens it in the data folder; a new gateway is given `sockets`, and `news` tells of it.
    ///
    /// # Errors
    /// The socket cannot be made, or another gateway has its own there.
    pub fn open(config: &Config, sockets: Sockets, news: mpsc::Sender<News>) -> io::Result<Self> {
        let path = config.data.join(NAME);
        let folder = File::open(&config.data)?;
        let greeting = format!(
            "{GREETING} ws={} drain_s={} backend={}\n",
            sockets.ws.len(),
            config.drain_s,
            config.backend.name()
        );
        if knock(&folder)?.is_some() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway answers there"));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(short(&folder))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let open = Arc::new(AtomicBool::new(true));
        let door = Self { path: path.clone(), open: Arc::clone(&open) };
        let watched = Self { path, open };
        let watch = move || watched.watch(&listener, sockets, &greeting, &news);
        thread::Builder::new().name("roost-takeover".to_owned()).spawn(watch)?;
        Ok(door)
    }

    /// Closes it; who has not been given the sockets by now finds nobody.
    pub fn close(&self) {
        if self.open.swap(false, Ordering::SeqCst) {
            // Gone already: somebody tidied up.
            let _ = fs::remove_file(&self.path);
        }
    }

    fn watch(&self, listener: &UnixListener, sockets: Sockets, greeting: &str, news: &mpsc::Sender<News>) {
        for stream in listener.incoming() {
            if stream.is_err() {
                // No descriptor or no memory: asking again at once is no use.
                thread::sleep(Duration::from_secs(limits::TICK_S));
            }
            let handed = stream.and_then(|stream| self.hand_over(stream, &sockets, greeting));
            match handed {
                Ok(stream) => {
                    tracing::info!("another process takes over");
                    // The main thread ends when it does not listen any more.
                    let _ = news.send(News::TakenOver(Successor { stream, sockets }));
                    return;
                }
                Err(error) => tracing::warn!("nobody took over: {error}; we go on"),
            }
            if !self.open.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Gives the sockets to who asks, and closes the door when they say that they take them.
    fn hand_over(&self, mut stream: UnixStream, sockets: &Sockets, greeting: &str) -> io::Result<UnixStream> {
        own(&stream)?;
        bound(&stream, Duration::from_secs(limits::TAKEOVER_ANSWER_S))?;
        // In one piece, so that nobody reads half of it.
        stream.write_all(greeting.as_bytes())?;
        for listener in &sockets.ws {
            send(&stream, WEBSOCKET, listener)?;
        }
        send(&stream, HTTP, &sockets.http)?;
        let said = line(&mut stream)?;
        if said != "go" {
            return Err(io::Error::other(format!("it said {said:?}")));
        }
        self.close();
        stream.write_all(b"going\n")?;
        Ok(stream)
    }
}

/// A process that has our sockets and waits for our store.
pub struct Successor {
    stream: UnixStream,
    /// Kept until it serves.
    sockets: Sockets,
}

impl Successor {
    /// The store is closed. Waits until the other serves; the sockets come back where it is gone before, unless a signal told
    /// this process to end.
    pub fn release(mut self, manager: &Manager, signals: &Watched) -> Option<Sockets> {
        // Without a store it may have said that it serves long ago, and be deaf by now: its word is still there to be read.
        let _ = self.stream.write_all(b"done\n");
        let patience = Duration::from_secs(limits::STORE_OPENING_S_MAX + limits::TAKEOVER_ANSWER_S);
        let (begun, told_every) = (Instant::now(), Duration::from_millis(limits::MANAGER_TOLD_MS));
        let mut said = bound(&self.stream, told_every);
        while said.is_ok() && !signals.came() {
            manager.busy("closed the store; waiting until the process that takes over serves");
            match line(&mut self.stream) {
                Ok(word) if word == SERVING => return None,
                Ok(word) => said = Err(io::Error::other(format!("it said {word:?}"))),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => said = Err(error),
                // What it holds may be the store: it cannot be opened beside it.
                Err(_) if begun.elapsed() > patience => {
                    tracing::warn!(
                        "the process that takes over has not said that it serves; we end: look at it"
                    );
                    return None;
                }
                Err(_) => {}
            }
        }
        let error = said.err().filter(|_| !signals.came())?;
        tracing::warn!("the process that took over is gone before it served ({error}): we serve again");
        Some(self.sockets)
    }
}

/// A gateway that runs, and what it has given us. Until [`Self::take`] it goes on as if nobody had asked.
pub struct Predecessor {
    stream: UnixStream,
    drain_s: u64,
}

/// Asks the gateway that runs with this data folder for its sockets; `None` when there is none.
///
/// # Errors
/// It does not answer, or not as expected.
pub fn ask(config: &Config) -> Result<Option<(Sockets, Predecessor)>> {
    let data = &config.data;
    let folder = File::open(data).with_context(|| format!("{}: cannot be read", data.display()))?;
    let Some(mut stream) = knock(&folder).context("the running gateway cannot be asked")? else {
        tracing::info!(
            "--takeover: no gateway answers at {}; this is a plain start",
            data.join(NAME).display()
        );
        return Ok(None);
    };
    let asked = own(&stream)
        .and_then(|()| bound(&stream, Duration::from_secs(limits::TAKEOVER_ANSWER_S)))
        .and_then(|()| line(&mut stream));
    let said = asked.context("the running gateway does not hand over its sockets")?;
    let word = |key: &str| said.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let number = |key: &str| -> Option<u64> { word(key)?.parse().ok() };
    let (true, Some(count), Some(drain_s), Some(backend)) =
        (said.starts_with(GREETING), number("ws"), number("drain_s"), word("backend"))
    else {
        bail!("the running gateway hands over in another way ({said:?}): stop it and start this one");
    };
    ensure!(
        backend == config.backend.name(),
        "--backend {}: the running gateway has {backend}; take over with the same, or stop it first",
        config.backend.name()
    );
    let mut ws = Vec::new();
    for _ in 0..count.min(limits::SHARDS_MAX.into()) {
        ws.push(receive(&stream, WEBSOCKET)?);
    }
    let http = receive(&stream, HTTP)?;
    Ok(Some((Sockets { ws, http }, Predecessor { stream, drain_s })))
}

impl Predecessor {
    /// Takes over: the old gateway accepts nobody from now on, and drains. Waits until its store is closed where
    /// `store` is shared; clients that come meanwhile wait in the backlog.
    ///
    /// # Errors
    /// It went away before it had answered, or is not done long after its time.
    pub fn take(&mut self, store: bool, manager: &Manager) -> Result<()> {
        self.stream.write_all(b"go\n").context("the running gateway is gone")?;
        let said = line(&mut self.stream).context("the running gateway is gone")?;
        if said != "going" {
            bail!("the running gateway said {said:?} instead of going");
        }
        if !store {
            return Ok(());
        }
        let patience = Duration::from_secs(self.drain_s + limits::TAKEOVER_CLOSE_S);
        let (begun, told_every) = (Instant::now(), Duration::from_millis(limits::MANAGER_TOLD_MS));
        bound(&self.stream, told_every)?;
        tracing::info!(
            "taking over: new clients wait until the running gateway has drained and closed its store, {} s at most",
            patience.as_secs()
        );
        while begun.elapsed() < patience {
            manager.busy("took over; waiting until the old process has drained and closed the store");
            match line(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Where it was killed before it said so, the kernel closes its store.
                _ => return Ok(()),
            }
        }
        bail!(
            "the old gateway has not closed its store within {} s: kill it and start again",
            patience.as_secs()
        )
    }

    /// Clients are served: the old gateway need not wait any more.
    pub fn release(mut self) {
        // It was killed, or has lost its patience: nobody is left to hear of it.
        let _ = self.stream.write_all(format!("{SERVING}\n").as_bytes());
    }
}

/// A path of any data folder that fits the 108 bytes of `sockaddr_un`, while `folder` is open.
fn short(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()))
}

/// A connection to who answers at the socket in this folder.
fn knock(folder: &File) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(short(folder)) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the other end is of our own user.
fn own(stream: &UnixStream) -> io::Result<()> {
    let (peer, us) = (sockopt::socket_peercred(stream)?.uid, rustix::process::geteuid());
    if peer == us {
        return Ok(());
    }
    let text = format!("it is of user {}, we are of user {}", peer.as_raw(), us.as_raw());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

fn bound(stream: &UnixStream, time: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))
}

/// Reads a line and not a byte more, for the next may come with a socket.
fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut said = Vec::new();
    let mut byte = [0];
    while said.len() < limits::TAKEOVER_LINE_BYTES_MAX {
        stream.read_exact(&mut byte).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("it went away without a word"),
            _ => error,
        })?;
        if byte[0] == b'\n' {
            return Ok(String::from_utf8_lossy(&said).into_owned());
        }
        said.push(byte[0]);
    }
    Err(io::Error::other("its line is too long"))
}

fn send(stream: &UnixStream, kind: u8, listener: &TcpListener) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    assert!(
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)),
        "there is space for one descriptor"
    );
    sendmsg(stream, &[IoSlice::new(&[kind])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(stream: &UnixStream, kind: u8) -> Result<TcpListener> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .context("the running gateway does not hand over its sockets")?;
    let descriptor: Option<OwnedFd> = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    match descriptor {
        Some(descriptor) if byte[0] == kind => Ok(TcpListener::from(descriptor)),
        _ => bail!("the running gateway does not hand over its sockets as expected"),
    }
}
