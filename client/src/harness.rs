//! A real gateway process for tests: started on free ports with a data folder of its own, killed when dropped.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use jsonwebtoken::{EncodingKey, Header};
use roost_proto::{codec::Encoding, v1};
use serde::Serialize;
use tempfile::TempDir;

use crate::{Client, Credentials};

const START_S_MAX: u64 = 60;
const STOP_S_MAX: u64 = 60;

/// A gateway process.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    data: TempDir,
    arguments: Vec<String>,
    /// `RUST_LOG`, where it is not that of the test.
    log: Option<String>,
    ready_line: String,
    /// Address of the WebSocket service.
    pub ws: SocketAddr,
    /// Address of the HTTP service.
    pub http: SocketAddr,
}

impl Gateway {
    /// Starts a gateway on free ports of 127.0.0.1, with more arguments, and waits for its ready line.
    ///
    /// # Errors
    /// It did not start; the error carries what it said on stderr.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_on("127.0.0.1:0", arguments)
    }

    /// As [`Self::start`], listening for WebSocket on another address.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_on(listen: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_as(listen, arguments, None)
    }

    /// As [`Self::start`], with `RUST_LOG` set to this.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_logging(log: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_as("127.0.0.1:0", arguments, Some(log.to_owned()))
    }

    fn start_as(listen: &str, arguments: &[&str], log: Option<String>) -> Result<Self> {
        let (data, arguments) =
            (TempDir::new()?, arguments.iter().map(ToString::to_string).collect::<Vec<_>>());
        let started = spawn(
            Command::new(gateway_binary()?),
            data.path(),
            &arguments,
            listen,
            "127.0.0.1:0",
            log.as_deref(),
        )?;
        let Started { child, ready_line, ws, http } = started;
        Ok(Self { child, data, arguments, log, ready_line, ws, http })
    }

    /// As [`Self::start`], by a command that ends in the gateway: its arguments follow. The command may set its environment, user or
    /// sockets; the data folder can be used by everybody until the gateway has started.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_by(program: Command, arguments: &[&str]) -> Result<Self> {
        let (folder, arguments) =
            (TempDir::new()?, arguments.iter().map(ToString::to_string).collect::<Vec<_>>());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        let started = spawn(program, folder.path(), &arguments, "127.0.0.1:0", "127.0.0.1:0", None)?;
        let Started { child, ready_line, ws, http } = started;
        Ok(Self { child, data: folder, arguments, log: None, ready_line, ws, http })
    }

    /// Starts another process with the same data, ports and arguments that takes over from the one that runs, which is returned, and
    /// waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn take_over(&mut self) -> Result<Old> {
        let (ws, http) = (self.ws.to_string(), self.http.to_string());
        let arguments = [self.arguments.clone(), vec!["--takeover".to_owned()]].concat();
        let program = Command::new(gateway_binary()?);
        let started = spawn(program, self.data.path(), &arguments, &ws, &http, self.log.as_deref())?;
        self.ready_line = started.ready_line;
        Ok(Old(std::mem::replace(&mut self.child, started.child)))
    }

    /// What it has said on stderr so far.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(self.data.path().join("stderr.log"))?)
    }

    /// Kills the process with SIGKILL; its ports stay known for [`Self::restart`].
    ///
    /// # Errors
    /// The process could not be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts the gateway anew with the same data, ports and arguments.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        let (ws, http) = (self.ws.to_string(), self.http.to_string());
        let program = Command::new(gateway_binary()?);
        let started = spawn(program, self.data.path(), &self.arguments, &ws, &http, self.log.as_deref())?;
        (self.child, self.ready_line) = (started.child, started.ready_line);
        (self.ws, self.http) = (started.ws, started.http);
        Ok(())
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait()
    }

    /// Sends a signal by name.
    ///
    /// # Errors
    /// `kill` could not be run.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { bail!("kill -{name}: {status}") }
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        wait(&mut self.child)
    }

    /// The line it said when it was ready, without its end.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// A token for a user's device, signed with the gateway's secret.
    ///
    /// # Errors
    /// The secret cannot be read.
    pub fn token(&self, user: u64, device: u32) -> Result<String> {
        mint(&self.data.path().join("secret"), user, device)
    }

    /// A session for a user's device.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect(&self, user: u64, device: u32, encoding: Encoding) -> Result<(Client, v1::Welcome)> {
        Client::connect(self.ws, encoding, &Credentials::Bearer(self.token(user, device)?))
    }

    /// A plain HTTP request to the HTTP service: status and body.
    ///
    /// # Errors
    /// No connection, or no HTTP answer.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        self.request_with(method, path, "", body)
    }

    /// As [`Self::request`], with more header lines, each ended by CR LF.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn request_with(&self, method: &str, path: &str, headers: &str, body: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: roost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             {headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status =
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP status")?;
        Ok((status, body.to_owned()))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already; nothing is to be done about a failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that another has taken over from; killed when dropped.
#[derive(Debug)]
pub struct Old(Child);

impl Old {
    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        wait(&mut self.0)
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        // It may have ended already; nothing is to be done about a failure here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    let deadline = Instant::now() + Duration::from_secs(STOP_S_MAX);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            bail!("the gateway did not end within {STOP_S_MAX} s");
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Signs a token with the secret in `file`, good for a day.
///
/// # Errors
/// The file cannot be read.
pub fn mint(file: &Path, user: u64, device: u32) -> Result<String> {
    #[derive(Serialize)]
    struct Claims {
        sub: String,
        dev: u32,
        exp: u64,
    }
    let secret = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let claims = Claims { sub: user.to_string(), dev: device, exp: now_s + 86_400 };
    let key = EncodingKey::from_secret(secret.trim_end_matches('\n').as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}

/// Where cargo has put `roost-gateway`, next to the running test.
///
/// # Errors
/// It was not built.
pub fn gateway_binary() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let directory = test.ancestors().nth(2).context("a test lies in target/<profile>/deps")?;
    let binary = directory.join("roost-gateway");
    if binary.exists() {
        return Ok(binary);
    }
    bail!(
        "{} was not built: run `cargo test --workspace`, or `cargo build -p roost-gateway` first",
        binary.display()
    )
}

/// A process that has said that it is ready.
struct Started {
    child: Child,
    ready_line: String,
    ws: SocketAddr,
    http: SocketAddr,
}

fn spawn(
    mut program: Command,
    data: &Path,
    arguments: &[String],
    ws: &str,
    http: &str,
    log: Option<&str>,
) -> Result<Started> {
    // A process that takes over goes on in the log of the one that ran.
    let takes_over = arguments.iter().any(|argument| argument == "--takeover");
    let said = fs::File::options()
        .create(true)
        .write(true)
        .append(takes_over)
        .truncate(!takes_over)
        .open(data.join("stderr.log"))?;
    let mut child = program
        .envs(log.map(|log| ("RUST_LOG", log)))
        .args(["--listen", ws, "--http", http, "--data"])
        .arg(data)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::from(said))
        .spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        // An end without a line shows as an empty one.
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    let line = receiver.recv_timeout(Duration::from_secs(START_S_MAX)).unwrap_or_default();
    let address = |key: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
            .and_then(|address| address.parse().ok())
    };
    if let (true, Some(ws), Some(http)) = (line.starts_with("ready "), address("ws"), address("http")) {
        return Ok(Started { child, ready_line: line.trim_end().to_owned(), ws, http });
    }
    // The process is of no use; it may be gone already.
    let _ = child.kill();
    let status = child.wait()?;
    let said = fs::read_to_string(data.join("stderr.log")).unwrap_or_default();
    Err(anyhow!("the gateway did not get ready ({status}): {line:?} {said}"))
}
