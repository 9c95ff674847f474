//! A disk that is full, for real: a small tmpfs in a mount namespace of the gateway's own.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use roost_client::{Client, Credentials, harness::gateway_binary, send_to};
use roost_proto::{
    codec::Encoding,
    v1::{Ack, Code, Error, Sent, server_frame},
};

const ALICE: u64 = 1;
const BOB: u64 = 2;
const DISK: &str = "24m";

/// A gateway whose data folder is a tmpfs that nobody else sees.
struct Confined {
    child: Child,
    ws: SocketAddr,
    /// The tmpfs, seen from here.
    disk: PathBuf,
}

impl Confined {
    fn start() -> Self {
        let mount = tempfile::tempdir().expect("a folder").keep();
        let script = format!(
            "mount -t tmpfs -o size={DISK} tmpfs \"$1\" && exec \"$2\" --listen 127.0.0.1:0 --http 127.0.0.1:0 \
             --auth none --data \"$1\"/data"
        );
        let mut child = Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-c", &script, "sh"])
            .arg(&mount)
            .arg(gateway_binary().expect("built"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is there (apt-get install util-linux)");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
        let ws = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("ws=")?.parse().ok())
            .expect("a ready line; the kernel must allow user and mount namespaces (kernel.unprivileged_userns_clone)");
        let disk = PathBuf::from(format!("/proc/{}/root", child.id()))
            .join(mount.strip_prefix("/").expect("absolute"));
        Self { child, ws, disk }
    }

    fn connect(&self, user: u64) -> Client {
        Client::connect(self.ws, Encoding::Proto, &Credentials::Claimed(user, 1)).expect("a session").0
    }

    /// Writes a file until nothing more fits.
    fn fill(&self) {
        let mut filler = fs::File::create(self.disk.join("filler")).expect("made");
        let block = vec![0; 64 * 1024];
        while filler.write_all(&block).is_ok() {}
        while filler.write_all(&[0]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.disk.join("filler")).expect("removed");
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        // The tmpfs goes with the last process in its namespace.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sent, or the Error.
fn offer(client: &mut Client, client_id: u32) -> Result<Sent, Error> {
    let id = client.ask(send_to(BOB, &client_id.to_be_bytes(), &vec![7; 60_000])).expect("sent");
    match client.answer(id).expect("answered").body {
        Some(server_frame::Body::Sent(sent)) => Ok(*sent),
        Some(server_frame::Body::Error(error)) => Err(*error),
        other => panic!("neither Sent nor Error but {other:?}"),
    }
}

#[test]
fn a_full_disk_accepts_nothing_loses_nothing_and_recovers_by_itself() {
    let gateway = Confined::start();
    drop(gateway.connect(BOB));
    let mut alice = gateway.connect(ALICE);
    let mut accepted = vec![offer(&mut alice, 0).expect("there is room").id];
    gateway.fill();
    let mut next = 1;
    // What is preallocated may still take some; then the answer is UNAVAILABLE.
    let refused = loop {
        match offer(&mut alice, next) {
            Ok(sent) => accepted.push(sent.id),
            Err(error) => break error,
        }
        next += 1;
        assert!(next < 1_000, "60 MB do not fit a disk of {DISK}");
    };
    assert_eq!(refused.code, Code::UNAVAILABLE);
    // Everything else goes on: known users come and go, what was stored is delivered.
    let mut bob = gateway.connect(BOB);
    let (first, message) = bob.message().expect("delivered");
    assert_eq!(message.id, accepted[0]);

    gateway.free();
    let deadline = Instant::now() + Duration::from_mins(1);
    let after = loop {
        match offer(&mut alice, next) {
            Ok(sent) => break sent,
            Err(error) => {
                assert_eq!(error.code, Code::UNAVAILABLE, "{error:?}");
                // As it is asked to, or it would come to the limit of a user.
                std::thread::sleep(Duration::from_millis(error.retry_after_ms.into()));
            }
        }
        assert!(Instant::now() < deadline, "the store comes back when there is room");
    };
    accepted.push(after.id);
    bob.ask(Ack { up_to: first }).expect("sent");
    for id in &accepted[1..] {
        let (seq, message) = bob.message().expect("delivered");
        assert_eq!(message.id, *id, "all that was answered Sent, in order");
        bob.ask(Ack { up_to: seq }).expect("sent");
    }
}
