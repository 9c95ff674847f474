//! `roost-loadgen agent`: waits for coordinators and does one's run at a time.

use super::channel::{self, Receiver, Secret, Sender};
use super::job::{self, Machine};
use super::limits::{FAREWELL_MAX, HANDSHAKE_MAX, STRANGERS_MAX};
use super::protocol::{FromAgent, ToAgent, VERSION};
use crate::limits::{SOURCE_ADDRESSES_MAX, THREADS_MAX};
use crate::net;
use crate::run::Usage;
use anyhow::{Context as _, bail};
use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
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
    strangers: Strangers,
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
        let (busy, strangers) = (Mutex::default(), Strangers::default());
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
        let Ok(handle) = stream.try_clone() else { continue };
        let (number, host) = (desk.strangers.enter(handle), desk.clone());
        let thread = thread::Builder::new().name("agent-run".into());
        // Where no thread can be made the peer sees its connection closed.
        if thread.spawn(move || host.receive(stream, peer, number)).is_err() {
            desk.strangers.leave(number);
            say(&format!("cannot start a thread for {peer}"));
        }
    }
}

impl Desk {
    fn receive(&self, stream: TcpStream, peer: SocketAddr, number: u64) {
        let greeted = self.greet(stream, number);
        let gave_way = self.strangers.leave(number);
        let (sender, mut receiver) = match greeted {
            Ok(channel) => channel,
            Err(_) if gave_way => {
                return say(&format!("refused {peer}: it was silent, and others needed its place"));
            }
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
    fn greet(&self, stream: TcpStream, number: u64) -> Result<(Sender, Receiver), String> {
        let (sender, mut receiver) =
            channel::answer(stream, &self.secret).map_err(|error| error.to_string())?;
        self.strangers.prove(number);
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

/// Connections that have no turn yet, the oldest first: [`STRANGERS_MAX`] at most.
#[derive(Default)]
struct Strangers {
    all: Mutex<VecDeque<Stranger>>,
    left: Condvar,
    /// The number of the next one.
    next: AtomicU64,
}

struct Stranger {
    number: u64,
    stream: TcpStream,
    /// Whether it knows the secret.
    has_proved: bool,
    /// Whether it was closed for the sake of a newer one.
    gives_way: bool,
}

impl Strangers {
    /// A place for it, at the cost of the oldest who has proved nothing where all are taken. Returns its number.
    fn enter(&self, stream: TcpStream) -> u64 {
        let number = self.next.fetch_add(1, Relaxed);
        let mut all = self.lock();
        while all.len() >= STRANGERS_MAX {
            // One at a time, whose thread hears of it at once: it waits for nothing but this connection.
            if !all.iter().any(|one| one.gives_way) {
                let oldest = all.iter().position(|one| !one.has_proved).unwrap_or(0);
                all[oldest].gives_way = true;
                // It may have ended already.
                let _ = all[oldest].stream.shutdown(Shutdown::Both);
            }
            all = self.left.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
        all.push_back(Stranger { number, stream, has_proved: false, gives_way: false });
        number
    }

    fn prove(&self, number: u64) {
        if let Some(one) = self.lock().iter_mut().find(|one| one.number == number) {
            one.has_proved = true;
        }
    }

    /// Gives its place back. Returns whether it had to.
    fn leave(&self, number: u64) -> bool {
        let mut all = self.lock();
        let place = all.iter().position(|one| one.number == number);
        let left = place.and_then(|place| all.remove(place));
        self.left.notify_all();
        left.is_some_and(|one| one.gives_way)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Stranger>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
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
