//! Agents as processes, each in a network namespace of its own that a veth pair joins to the test's. Needs root and ip(8).

use nix::sched::{CloneFlags, setns, unshare};
use roost_loadgen::tun::loopback_up;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for any machine: what is waited for comes soon, or the test fails.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub const SECRET: &str = "a secret that both have\n";

/// A file with a secret, in a folder of its own.
pub fn secret(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("secret");
    std::fs::write(&path, text).expect("written");
    (folder, path)
}

/// An agent process; killed when dropped.
pub struct Agent {
    child: Child,
    pub address: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Agent {
    /// Starts one in the calling thread's network namespace.
    pub fn start(listen: &str, secret: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roost-loadgen"));
        command.args(["agent", "--listen", listen, "--secret-file"]).arg(secret).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("roost-loadgen was built with this test");
        let mut line = String::new();
        let told = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line);
        told.expect("its first line");
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("agent="));
        let address = address.and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address: {line}"));
        let said = Arc::new(Mutex::new(String::new()));
        let (stderr, heard) = (child.stderr.take().expect("piped"), said.clone());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                *heard = format!("{heard}{line}\n");
            }
        });
        Self { child, address, said }
    }

    /// Starts one in a namespace of its own, the `number`th, at 10.77.`number`.2, where the calling thread's has 10.77.`number`.1.
    pub fn start_apart(number: u8, secret: &Path, more: &[&str]) -> Self {
        let (secret, more) = (secret.to_owned(), more.iter().map(ToString::to_string).collect::<Vec<_>>());
        let apart = thread::spawn(move || {
            enter_new_namespace();
            let more: Vec<_> = more.iter().map(String::as_str).collect();
            Self::start("0.0.0.0:7000", &secret, &more)
        });
        let mut agent = apart.join().expect("it started");
        let pid = agent.pid();
        ip(&format!("link add near{number} type veth peer name far{number} netns {pid}"));
        ip(&format!("address add 10.77.{number}.1/24 dev near{number}"));
        ip(&format!("link set near{number} up"));
        let far = thread::spawn(move || {
            let namespace = File::open(format!("/proc/{pid}/ns/net")).expect("it runs");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root");
            ip(&format!("address add 10.77.{number}.2/24 dev far{number}"));
            ip(&format!("link set far{number} up"));
            // The gateway has one address, on another network than some agents.
            ip(&format!("route add default via 10.77.{number}.1"));
        });
        far.join().expect("ip(8)");
        agent.address = format!("10.77.{number}.2:7000").parse().expect("an address");
        agent
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sockets that it has open.
    pub fn sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").flatten();
        files
            .filter_map(|file| file.path().read_link().ok())
            .filter(|link| link.to_string_lossy().starts_with("socket:"))
            .count()
    }

    /// What it has said on stderr.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has said something.
    pub fn wait_until_said(&self, text: &str) {
        wait_for(text, || self.said().contains(text).then_some(()));
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// Its exit code, once it has ended.
    pub fn wait(&mut self) -> Option<i32> {
        wait_for("its end", || self.child.try_wait().expect("a child of ours")).code()
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("a child of ours");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves the calling thread into a network namespace of its own; processes that it starts are there, too.
pub fn enter_new_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root");
    loopback_up().expect("root");
}

/// Looks until there is something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come");
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip(8)");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
