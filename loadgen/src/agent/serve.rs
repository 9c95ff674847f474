//! `roost-loadgen agent`: waits for coordinators and does one's run at a time.

use super::channel::{self, Receiver, Secret, Sender};
use super::job::{self, Machine};
use super::limits::{FAREWELL_MAX, HANDSHAKE_MAX, STRANGERS_MAX};
use super::protocol::{FromAgent, ToAgent, VERSION};
use crate::limits::{SOURCE_ADDRESSES_MAX, THREADS_MAX};
use crate::net;
use crate::run::Usage;
use anyhow::{Context as _, bail};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

/// Does the runs of a coordinator (a run with --agents), one after the other, until it is ended
#[derive(clap::Args, Debug)]
pub struct AgentOptions {
    /// Where coordinators call; port 0 takes a free one, and the line on stdout tells it
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The secret that the coordinator has, too: 16 bytes or more
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// Runtime threads, each with a ring; clients are spread over the threads of all agents
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(THREADS_MAX)))]
    threads: u32,
    /// Source addresses in 127.0.0.0/8, where the target is on this machine's loopback; the coordinator's, unless given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(SOURCE_ADDRESSES_MAX)))]
    source_addresses: Option<u32>,
    /// Ends after one run: with 0 where it came to its end, else with 1
    #[arg(long)]
    once: bool,
}

/// What all connections of an agent share.
struct Desk {
    secret: Secret,
    machine: Machine,
    /// Whose run is going on.
    busy: Mutex<Option<SocketAddr>>,
    /// Connections that have proved nothing yet.
    strangers: AtomicUsize,
    /// Where the end of a run is told: whether it was in order.
    ended: mpsc::Sender<bool>,
}

impl AgentOptions {
    /// Serves. Returns the exit code, with `--once`; else it stays.
    ///
    /// # Errors
    /// [`Usage`] for the secret's file; anything else where the address cannot be listened on.
    pub fn execute(&self) -> anyhow::Result<u8> {
        let secret = Secret::load(&self.secret_file, "--secret-file").map_err(Usage::new)?;
        net::raise_file_limit().context("cannot raise the limit of open files")?;
        let listener = TcpListener::bind(self.listen)
            .with_context(|| format!("cannot listen on --listen {}", self.listen))?;
        println!("ready agent={} threads={}", listener.local_addr()?, self.threads);
        let (ended, ends) = mpsc::channel();
        let machine = Machine { threads: self.threads, source_addresses: self.source_addresses };
        let (busy, strangers) = (Mutex::default(), AtomicUsize::new(0));
        let desk = Arc::new(Desk { secret, machine, busy, strangers, ended });
        thread::Builder::new().name("agent-accept".into()).spawn(move || accept(&listener, &desk))?;
        // The accepting thread stays as long as there is an address to listen on.
        for in_order in ends {
            if self.once {
                return Ok(u8::from(!in_order));
            }
        }
        bail!("nothing can be accepted any more")
    }
}

fn accept(listener: &TcpListener, desk: &Arc<Desk>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, mostly: a run's clients give some back in the end.
            thread::sleep(HANDSHAKE_MAX / 50);
            continue;
        };
        let Ok(peer) = stream.peer_addr() else { continue };
        let desk = desk.clone();
        if desk.strangers.fetch_add(1, SeqCst) >= STRANGERS_MAX {
            desk.strangers.fetch_sub(1, SeqCst);
            continue;
        }
        let thread = thread::Builder::new().name("agent-run".into());
        // Where no thread can be made the peer sees its connection closed.
        if thread.spawn(move || desk.receive(stream, peer)).is_err() {
            say(&format!("cannot start a thread for {peer}"));
        }
    }
}

impl Desk {
    fn receive(&self, stream: TcpStream, peer: SocketAddr) {
        let greeted = self.greet(stream);
        self.strangers.fetch_sub(1, SeqCst);
        let (sender, mut receiver) = match greeted {
            Ok(channel) => channel,
            Err(reason) => return say(&format!("refused {peer}: {reason}")),
        };
        let Some(turn) = Turn::take(self, peer) else {
            let other = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            let told =
                other.map_or("it is busy".into(), |other| format!("it is busy with a run for {other}"));
            drop(other);
            say(&format!("refused {peer}: {told}"));
            let _ = sender.send(&FromAgent::Refused(told));
            return part(receiver);
        };
        let sender = Arc::new(sender);
        let outcome = job::serve(&sender, &mut receiver, &self.machine, peer);
        // The next coordinator need not wait for this one's farewell.
        drop(turn);
        if let Err(reason) = &outcome {
            say(&format!("the run for {peer} ended before its time: {reason}"));
        }
        part(receiver);
        // Nobody listens where the process ends.
        let _ = self.ended.send(outcome.is_ok());
    }

    /// Handshake, versions.
    fn greet(&self, stream: TcpStream) -> Result<(Sender, Receiver), String> {
        let (sender, mut receiver) =
            channel::answer(stream, &self.secret).map_err(|error| error.to_string())?;
        receiver.patience(HANDSHAKE_MAX).map_err(|error| error.to_string())?;
        let first: ToAgent = receiver.receive().map_err(|error| error.to_string())?;
        let ToAgent::Hello(version) = first else { return Err("it did not tell its version".into()) };
        sender
            .send(&FromAgent::Hello(VERSION.to_owned(), self.machine.threads))
            .map_err(|error| error.to_string())?;
        if version == VERSION {
            return Ok((sender, receiver));
        }
        part(receiver);
        Err(format!("it is roost-loadgen {}, and this is {VERSION}", printable(&version)))
    }
}

/// The right to run, given back when it is dropped.
struct Turn<'a>(&'a Desk);

impl<'a> Turn<'a> {
    fn take(desk: &'a Desk, peer: SocketAddr) -> Option<Self> {
        let mut busy = desk.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.is_some() {
            return None;
        }
        *busy = Some(peer);
        Some(Self(desk))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.busy.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Waits until the other end hangs up: closed with something unread, the connection would be reset, and our last words with it.
fn part(mut receiver: Receiver) {
    let end = Instant::now() + FAREWELL_MAX;
    while receiver.patience(FAREWELL_MAX).is_ok() && Instant::now() < end {
        if receiver.receive::<ToAgent>().is_err() {
            return;
        }
    }
}

/// What a peer told, fit for a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(64).map(|char| if char.is_control() { '?' } else { char }).collect()
}

pub(super) fn say(text: &str) {
    eprintln!("roost-loadgen agent: {text}");
}
