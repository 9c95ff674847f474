//! What the tests share: running the program, and a WebSocket echo server of tungstenite's that can be told to err.
#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::Value;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use tungstenite::{Message, accept};

/// Runs roost-loadgen to its end.
pub fn loadgen(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost-loadgen"));
    command.args(arguments).output().expect("roost-loadgen was built with this test")
}

/// The exit code and the report of a run with `--json -`.
pub fn report(arguments: &[&str]) -> (i32, Value) {
    report_before(arguments, &[])
}

/// The same with what has to come last: the command of a gateway to start.
pub fn report_before(arguments: &[&str], command: &[&str]) -> (i32, Value) {
    let output = loadgen(&[arguments, &["--json", "-", "--quiet"], command].concat());
    let code = output.status.code().expect("not ended by a signal");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (
        code,
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}, exit {code}: {told}")),
    )
}

/// A run of roost-loadgen beside the test; killed when dropped.
pub struct OwnedRun(Child);

impl OwnedRun {
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roost-loadgen"));
        let child = command.args(arguments).stdout(Stdio::null()).spawn();
        Self(child.expect("roost-loadgen was built with this test"))
    }

    /// The same, with a thread that collects what it says on stderr.
    pub fn start_heard(arguments: &[&str]) -> (JoinHandle<String>, Self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roost-loadgen"));
        let child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("roost-loadgen was built with this test");
        let mut stderr = child.stderr.take().expect("piped");
        let told = thread::spawn(move || {
            let mut told = String::new();
            std::io::Read::read_to_string(&mut stderr, &mut told).expect("text");
            told
        });
        (told, Self(child))
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("it is a child of ours");
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("it is a child of ours").is_some()
    }

    /// Its exit code, once it has ended.
    pub fn wait(&mut self) -> i32 {
        self.0.wait().expect("it is a child of ours").code().expect("not ended by a signal")
    }
}

impl Drop for OwnedRun {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What an echo server does wrong, with the tenth message of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is not echoed.
    Swallow,
    /// It is echoed twice.
    Double,
    /// It is echoed after the eleventh.
    Swap,
    /// One of its bytes is another.
    Change,
    /// The connection ends.
    Drop,
    /// Every upgrade gets 403.
    Forbid,
}

/// Starts an echo server, a thread a connection, for as long as the test process lives.
pub fn echo_server(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, fault));
        }
    });
    address
}

fn serve(stream: TcpStream, fault: Fault) {
    use std::io::{Read, Write};
    let mut stream = stream;
    if fault == Fault::Forbid {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nnot me");
        return;
    }
    let Ok(mut socket) = accept(stream) else { return };
    let mut held = None;
    for number in 0_u64.. {
        let Ok(message) = socket.read() else { return };
        if !message.is_binary() {
            continue;
        }
        let echoed = match (fault, number) {
            (Fault::Swallow, 9) => continue,
            (Fault::Double, 9) => socket.send(message.clone()).and_then(|()| socket.send(message)),
            (Fault::Swap, 9) => {
                held = Some(message);
                continue;
            }
            (Fault::Change, 9) => {
                let mut changed = message.into_data().to_vec();
                changed[20] ^= 1;
                socket.send(Message::binary(changed))
            }
            (Fault::Drop, 9) => return,
            _ => socket.send(message),
        };
        let then = held.take().map_or(Ok(()), |late| socket.send(late));
        if echoed.and(then).is_err() {
            return;
        }
    }
}
