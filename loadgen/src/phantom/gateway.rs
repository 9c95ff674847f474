//! The gateway that loadgen starts itself: found, given what it needs, waited for, ended, and never left behind.

use super::watch::Watch;
use crate::limits::{
    GATEWAY_LAST_LINES_MAX, GATEWAY_LINE_BYTES_MAX, GATEWAY_LINES_KEPT, GATEWAY_LOOK_EVERY, GATEWAY_REAP_MAX,
    GATEWAY_STOP_MAX,
};
use crate::run::Usage;
use crate::tun::child::dies_with_this_thread;
use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A gateway process of ours. Ended when dropped; killed by the kernel where the thread that started it ends.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    /// Where it listens for WebSocket connections.
    pub ws: SocketAddrV4,
    /// Its data folder.
    pub data: PathBuf,
    told: Tail,
    watch: Arc<Watch>,
    // Removed after the process has ended: fields are dropped in order, and `drop` comes first.
    _folder: Option<TempDir>,
}

/// The last lines of its stderr.
#[derive(Debug)]
struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    // Without a sender once the last line has come.
    ended: mpsc::Receiver<()>,
}

impl Gateway {
    /// Starts `command`, with `--listen`, `--http` and `--data` where it has none, and waits for its ready line.
    /// An address of 0.0.0.0 comes back as `server`.
    ///
    /// # Errors
    /// [`Usage`] where there is no such program; else with what it said on stderr where it ended, or did not get
    /// ready in time.
    pub fn start(
        command: &[OsString],
        server: Ipv4Addr,
        longest: Duration,
        watch: Arc<Watch>,
    ) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().context("a command has a program")?;
        let program = find(program);
        let folder = match argument(arguments, "--data") {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("roost-loadgen-").tempdir()?),
        };
        let data = match (&folder, argument(arguments, "--data")) {
            (Some(folder), _) => folder.path().to_owned(),
            (None, given) => PathBuf::from(given.unwrap_or_default()),
        };
        let mut command = Command::new(&program);
        command.args(arguments);
        for (flag, value) in [
            ("--listen", OsString::from(format!("{server}:9000"))),
            ("--http", "127.0.0.1:0".into()),
            ("--data", data.clone().into_os_string()),
        ] {
            if argument(arguments, flag).is_none() {
                command.arg(flag).arg(value);
            }
        }
        // In a group of its own a terminal's Ctrl-C comes to us only, and we end it in order.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = dies_with_this_thread(&mut command).spawn().map_err(|error| {
            let text = format!("cannot start {}: {error}", program.display());
            if error.kind() == ErrorKind::NotFound { Usage::new(text).into() } else { anyhow!(text) }
        })?;
        let told = Tail::of(child.stderr.take());
        let ready = ready_line(child.stdout.take());
        let unspecified = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let mut gateway = Self { child, ws: unspecified, data, told, watch, _folder: folder };
        gateway.ws = gateway.wait_until_ready(&ready, server, longest)?;
        Ok(gateway)
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Why it has ended, with its last lines, where it has.
    pub fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("the gateway has ended ({status}){}", self.told.last())),
            Err(error) => Some(format!("cannot look at the gateway: {error}")),
        }
    }

    /// Ends it: SIGTERM, which drains; later again, which ends at once; later SIGKILL. Where memory is short SIGKILL comes
    /// at once: saying goodbye to millions of connections takes more of it.
    ///
    /// # Errors
    /// It did not end in order, with its last lines.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        for signal in [Signal::SIGTERM, Signal::SIGTERM, Signal::SIGKILL] {
            let kills = signal == Signal::SIGKILL;
            if self.watch.is_short() && !kills {
                continue;
            }
            if self.child.try_wait()?.is_none() {
                // Its number is not given to another process before we have waited for it.
                kill(Pid::from_raw(self.pid()), signal).context("cannot signal the gateway")?;
            }
            match self.wait(if kills { GATEWAY_REAP_MAX } else { GATEWAY_STOP_MAX }, kills)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the gateway ended with {status}{}", self.told.last()),
                None => (),
            }
        }
        bail!("the gateway (process {}) does not end", self.pid())
    }

    fn wait(&mut self, longest: Duration, is_killed: bool) -> io::Result<Option<ExitStatus>> {
        let end = Instant::now() + longest;
        while Instant::now() < end && (is_killed || !self.watch.is_short()) {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            thread::sleep(GATEWAY_LOOK_EVERY);
        }
        self.child.try_wait()
    }

    fn wait_until_ready(
        &mut self,
        ready: &mpsc::Receiver<String>,
        server: Ipv4Addr,
        longest: Duration,
    ) -> anyhow::Result<SocketAddrV4> {
        let end = Instant::now() + longest;
        loop {
            if let Ok(line) = ready.recv_timeout(GATEWAY_LOOK_EVERY) {
                return Ok(address(&line, server)?);
            }
            if let Some(reason) = self.watch.reason().or_else(|| self.ended()) {
                bail!("{reason}");
            }
            if Instant::now() > end {
                let longest_s = longest.as_secs();
                bail!("the gateway was not ready within {longest_s} s (--ready-s){}", self.told.text());
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Told by whoever called `stop` before; otherwise there is another error to tell.
        let _ = self.stop();
    }
}

impl Tail {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let lines = Arc::default();
        let (alive, ended) = mpsc::channel();
        let tail = Self { lines: Arc::clone(&lines), ended };
        // It ends with the process, whose end of the pipe is closed then.
        thread::spawn(move || {
            let _alive = alive;
            each_line(stream, |line| {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == GATEWAY_LINES_KEPT {
                    lines.pop_front();
                }
                lines.push_back(line);
            });
        });
        tail
    }

    /// As [`Self::text`], when the process has ended: its last lines may still be in the pipe.
    fn last(&self) -> String {
        let _ = self.ended.recv_timeout(GATEWAY_LAST_LINES_MAX);
        self.text()
    }

    /// To follow a sentence: nothing, or what was said.
    fn text(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().fold(String::new(), |text, line| text + "\n  gateway: " + line)
    }
}

/// The line that tells where the gateway serves, once it comes; what follows on its stdout is read and dropped.
fn ready_line(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        each_line(stream, |line| {
            if line.starts_with("ready ") {
                // A second one has no place, and nobody waits for it.
                let _ = sender.try_send(line);
            }
        });
    });
    receiver
}

fn each_line(stream: Option<impl Read>, mut take: impl FnMut(String)) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while let Ok(1..) = reader.by_ref().take(GATEWAY_LINE_BYTES_MAX).read_until(b'\n', &mut line) {
        take(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
}

/// `ready ws=198.18.0.1:9000 http=... shards=2`
fn address(ready: &str, server: Ipv4Addr) -> Result<SocketAddrV4, Usage> {
    let told = ready.split(' ').find_map(|field| field.strip_prefix("ws="));
    match told.and_then(|told| told.parse().ok()) {
        Some(SocketAddr::V4(ws)) if ws.ip().is_unspecified() => Ok(SocketAddrV4::new(server, ws.port())),
        Some(SocketAddr::V4(ws)) if *ws.ip() == server => Ok(ws),
        _ => Err(Usage::new(format!(
            "the gateway says '{ready}'; phantoms reach {server} only: start it with --listen {server}:9000, or leave \
             --listen out"
        ))),
    }
}

/// The program as it is given where it is a path; otherwise beside this one, or else in PATH.
fn find(program: &OsStr) -> PathBuf {
    let given = PathBuf::from(program);
    if given.components().count() > 1 {
        return given;
    }
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(|folder| folder.join(program));
    beside.filter(|path| path.is_file()).unwrap_or(given)
}

/// The value of an option in a command's arguments, `--flag value` or `--flag=value`.
pub fn argument<'a>(arguments: &'a [OsString], flag: &str) -> Option<&'a OsStr> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == flag {
            return Some(arguments.next().map_or(OsStr::new(""), OsString::as_os_str));
        }
        let value = argument.to_str().and_then(|text| text.strip_prefix(flag)?.strip_prefix('='));
        if let Some(value) = value {
            return Some(OsStr::new(value));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

    #[test]
    fn the_ready_line_tells_an_address_that_phantoms_reach_or_is_refused() {
        let ready = |ws: &str| address(&format!("ready ws={ws} http=127.0.0.1:1 shards=2"), SERVER);
        assert_eq!(ready("198.18.0.1:9001").expect("reachable"), SocketAddrV4::new(SERVER, 9001));
        assert_eq!(ready("0.0.0.0:80").expect("reachable"), SocketAddrV4::new(SERVER, 80));
        for unreachable in ["127.0.0.1:9000", "[::]:9000", "", "198.18.0.2:1"] {
            assert!(ready(unreachable).expect_err("unreachable").to_string().contains("--listen"));
        }
    }

    #[test]
    fn an_option_is_found_in_both_forms_and_no_other_is_taken_for_it() {
        let arguments =
            ["--listen=1.2.3.4:5", "--http", "x", "--database", "y", "--data"].map(OsString::from);
        assert_eq!(argument(&arguments, "--listen"), Some(OsStr::new("1.2.3.4:5")));
        assert_eq!(argument(&arguments, "--http"), Some(OsStr::new("x")));
        assert_eq!(argument(&arguments, "--data"), Some(OsStr::new("")));
        assert_eq!(argument(&arguments[..5], "--data"), None);
    }

    #[test]
    fn a_program_is_a_path_or_beside_this_one_or_left_to_path() {
        assert_eq!(find(OsStr::new("./a")), Path::new("./a"));
        assert_eq!(find(OsStr::new("no-such-program")), Path::new("no-such-program"));
        let own = std::env::current_exe().expect("this test");
        assert_eq!(find(own.file_name().expect("a name")), own);
    }
}
