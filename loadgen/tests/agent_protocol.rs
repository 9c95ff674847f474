//! What an agent and a coordinator do with a peer that knows the secret and says what it should not: neither panics, both say what was
//! wrong, and the next run is as if nothing had been.

#[path = "common/agents.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod agents;
mod common;

use agents::{Agent, SECRET, secret};
use clap::Parser as _;
use common::{echo_server, loadgen};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use roost_loadgen::agent::channel::{self, Receiver, Secret, Sender};
use roost_loadgen::agent::limits::STRANGERS_MAX;
use roost_loadgen::agent::protocol::{FromAgent, Job, Own, Proof, Step, ToAgent, VERSION};
use roost_loadgen::meters::COUNTERS;
use roost_loadgen::options::Options;
use roost_loadgen::schedule::Plan;
use roost_loadgen::tools::Program;
use serde::ser::{Serialize, SerializeTuple as _, Serializer};
use serde_json::{Value, json};
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

fn shared() -> Secret {
    Secret::of(SECRET.trim_end().as_bytes())
}

/// Bytes as they are: what a sender makes of them is no message of ours, mostly.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

/// Calls an agent, up to its Hello.
fn call(agent: SocketAddr, version: &str) -> (Sender, Receiver) {
    let stream = TcpStream::connect(agent).expect("it listens");
    let (sender, mut receiver) = channel::call(stream, &shared()).expect("the same secret");
    sender.send(&ToAgent::Hello(version.into())).expect("sent");
    let hello: FromAgent = receiver.receive().expect("its Hello");
    assert_eq!(hello, FromAgent::Hello(VERSION.into(), 1));
    (sender, receiver)
}

/// All that comes until the end of the connection.
fn rest(mut receiver: Receiver) -> Vec<FromAgent> {
    std::iter::from_fn(|| receiver.receive().ok()).collect()
}

fn job(arguments: &[&str], first: u32, workers: u32) -> ToAgent {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    ToAgent::Job(Job { arguments, mix: None, credentials: Proof::Query, run_id: 1, first, workers })
}

fn echo_arguments(server: SocketAddr) -> Vec<String> {
    let url = format!("ws://{server}/");
    ["echo", "--url", &url, "--clients", "2", "--rate-per-s", "50", "--duration-s", "1"]
        .map(Into::into)
        .into()
}

/// An ordinary run over this agent is clean.
fn assert_usable(agent: &Agent, secret: &std::path::Path) {
    let (at, secret) = (agent.address.to_string(), secret.to_str().expect("text"));
    let arguments = echo_arguments(echo_server(common::Fault::None));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let more = ["--agents", &at, "--agent-secret-file", secret, "--lag-us-max", "60000000"];
    let (code, report) = agents::wait_for("its turn", || {
        let output = loadgen(&[&arguments[..], &more, &["--json", "-"]].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if told.contains("it is busy") {
            return None;
        }
        let report =
            serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
        Some((output.status.code().expect("not ended by a signal"), report))
    });
    assert_eq!((code, &report["verdict"]), (0, &json!("clean")), "{report:#}");
    assert!(!agent.said().contains("panicked"), "{}", agent.said());
}

#[test]
fn an_agent_survives_every_message_that_is_none() {
    let (_folder, file) = secret(SECRET);
    let agent = Agent::start("127.0.0.1:0", &file, &[]);
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    // Small numbers first: those name messages of ours.
    let messages = proptest::collection::vec(
        (0_u8..8, bytes).prop_map(|(kind, rest)| [vec![kind], rest].concat()),
        1..5,
    );
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&messages, |messages| {
        let (sender, receiver) = call(agent.address, VERSION);
        for message in &messages {
            // It may have hung up at an earlier one.
            let _ = sender.send(&Raw(message));
        }
        sender.hang_up();
        rest(receiver);
        Ok(())
    });
    outcome.expect("the handshake works each time");
    agents::wait_for("its turn", || agent.said().contains("ended before its time").then_some(()));
    assert_usable(&agent, &file);
}

#[test]
fn jobs_that_cannot_be_are_refused_in_a_sentence() {
    let (_folder, file) = secret(SECRET);
    let agent = Agent::start("127.0.0.1:0", &file, &[]);
    let echo = ["echo", "--url", "ws://127.0.0.1:1/"];
    for (arguments, first, workers, reason) in [
        (&echo[..], 0, 0, "none for an agent"),
        (&echo, u32::MAX, u32::MAX, "none for an agent"),
        (&echo, 1, 1, "none for an agent"),
        (&["diff", "/etc/passwd", "/etc/shadow"], 0, 1, "no scenario"),
        (&["echo", "--no-such-flag"], 0, 1, "--no-such-flag"),
        (&["echo", "--url", "nonsense"], 0, 1, "ws://"),
        // No file of the agent's machine is read in place of what the coordinator did not send.
        (
            &["mix", "--mix", "/etc/passwd", "--url", "ws://127.0.0.1:1/", "--auth", "none"],
            0,
            1,
            "population",
        ),
        (
            &["idle", "--kind", "phantom", "--url", "ws://127.0.0.1:1/", "--gateway-pid", "1"],
            0,
            1,
            "none for an agent",
        ),
        (&["echo", "--url", "ws://127.0.0.1:1/", "--clients", "1000000"], 0, 1, "RLIMIT_NOFILE"),
    ] {
        let told = agents::wait_for("its turn", || {
            let (sender, mut receiver) = call(agent.address, VERSION);
            // A busy one may have hung up.
            let _ = sender.send(&job(arguments, first, workers));
            // The agent waits for us to hang up; before that, its refusal has to be there.
            match receiver.receive() {
                Ok(FromAgent::Refused(told)) => (!told.contains("it is busy")).then_some(told),
                other => panic!("{arguments:?}: {other:?}"),
            }
        });
        assert!(told.contains(reason), "{arguments:?}: {told}");
        agent.wait_until_said(reason);
    }
    assert_usable(&agent, &file);
}

#[test]
fn connections_that_say_nothing_keep_no_coordinator_out() {
    let (_folder, file) = secret(SECRET);
    let agent = Agent::start("127.0.0.1:0", &file, &[]);
    let connect = || TcpStream::connect(agent.address).expect("it listens");
    let mut silent: Vec<_> = (0..STRANGERS_MAX).map(|_| connect()).collect();
    // A busy agent answers, too: it is in the way of nobody who knows the secret.
    let (sender, receiver) = call(agent.address, VERSION);
    let mut byte = [0];
    silent[0].set_read_timeout(Some(agents::PATIENCE)).expect("a socket");
    assert_eq!(silent[0].read(&mut byte).expect("closed"), 0);
    agent.wait_until_said("it was silent, and others needed its place");
    // Who has shown that it knows the secret stays, however many come after it.
    silent.extend((0..2 * STRANGERS_MAX).map(|_| connect()));
    sender.send(&job(&["echo", "--no-such-flag"], 0, 1)).expect("sent");
    sender.hang_up();
    drop(receiver);
    assert_usable(&agent, &file);
    drop(silent);
}

#[test]
fn an_agent_that_closes_before_it_answers_is_called_again_and_told_apart_from_another_secret() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("bound");
    let close = thread::spawn(move || drop(listener.accept().expect("a coordinator")));
    let told = channel::call(TcpStream::connect(at).expect("it listens"), &shared()).unwrap_err();
    assert!(channel::is_closed(&told), "{told}");
    let told = told.to_string();
    assert!(told.contains("before it answered") && !told.contains("another secret"), "{told}");
    close.join().expect("no panic");
    let told = coordinate_after(3, |mut receiver, sender| {
        let _: ToAgent = receiver.receive().expect("its Hello");
        sender.send(&FromAgent::Hello("0.0.0".into(), 1)).expect("sent");
        rest_of_coordinator(receiver);
    });
    assert!(told.contains("it is roost-loadgen 0.0.0, and this is"), "{told}");
}

#[test]
fn moments_that_no_clock_reaches_are_moments_all_the_same() {
    let (_folder, file) = secret(SECRET);
    let agent = Agent::start("127.0.0.1:0", &file, &[]);
    let arguments = echo_arguments(echo_server(common::Fault::None));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (sender, receiver) = call(agent.address, VERSION);
    sender.send(&job(&arguments, 0, 1)).expect("sent");
    for message in [
        ToAgent::Probe(u32::MAX),
        ToAgent::Start(u64::MAX),
        ToAgent::Elsewhere(u64::MAX),
        ToAgent::Phase(Step::Run(u64::MAX)),
        ToAgent::Phase(Step::Return(u64::MAX)),
        ToAgent::Phase(Step::Run(0)),
        ToAgent::Phase(Step::Stop),
    ] {
        sender.send(&message).expect("sent");
    }
    let mut receiver = receiver;
    // At most a second's counts, and the results.
    let last = std::iter::from_fn(|| receiver.receive().ok())
        .find(|message| matches!(message, FromAgent::Finished(_)));
    assert!(last.is_some(), "{}", agent.said());
    sender.hang_up();
    assert_usable(&agent, &file);
}

#[test]
fn another_version_is_refused_on_both_sides() {
    let (_folder, file) = secret(SECRET);
    let agent = Agent::start("127.0.0.1:0", &file, &[]);
    let (sender, receiver) = call(agent.address, "0.0.0");
    sender.hang_up();
    assert_eq!(rest(receiver), []);
    agent.wait_until_said("it is roost-loadgen 0.0.0, and this is");
    let told = coordinate(|mut receiver, sender| {
        let _: ToAgent = receiver.receive().expect("its Hello");
        sender.send(&FromAgent::Hello("0.0.0".into(), 1)).expect("sent");
        rest_of_coordinator(receiver);
    });
    assert!(
        told.contains("it is roost-loadgen 0.0.0, and this is") && told.contains("schedules could differ"),
        "{told}"
    );
}

#[test]
fn a_coordinator_survives_an_agent_that_lies() {
    let lies = [
        (vec![FromAgent::Counts([u64::MAX; COUNTERS])], "counts more than can have happened"),
        (
            vec![FromAgent::Part(vec![0xff; 5000]), FromAgent::Finished(Own::default())],
            "results cannot be read",
        ),
        (vec![FromAgent::Finished(Own::default())], "results cannot be read"),
        (vec![FromAgent::Hello(String::new(), 0)], "does not belong there"),
        (vec![FromAgent::Refused("\x1b[2Jbroken\nhere".into())], " [2Jbroken here"),
        (Vec::new(), "closed the connection"),
    ];
    for (lie, reason) in lies {
        let told = coordinate(move |mut receiver, sender| {
            greet(&mut receiver, &sender);
            while let ToAgent::Probe(number) = receiver.receive().expect("it goes on") {
                sender.send(&FromAgent::Now(number, u64::MAX - 5)).expect("sent");
            }
            for message in lie {
                sender.send(&message).expect("sent");
            }
            if reason.contains("closed") {
                return sender.hang_up();
            }
            rest_of_coordinator(receiver);
        });
        assert!(told.contains("is lost") && told.contains(reason), "{reason}: {told}");
        assert!(!told.contains("panicked"), "{told}");
    }
}

#[test]
fn moments_come_in_the_agents_own_time() {
    // Far from what the coordinator's clock tells.
    const ZERO_NS: u64 = 1 << 60;
    const HOUR_NS: u64 = 3_600_000_000_000;
    let told = coordinate(|mut receiver, sender| {
        greet(&mut receiver, &sender);
        let begun = Instant::now();
        let now = || ZERO_NS + begun.elapsed().as_nanos() as u64;
        loop {
            match receiver.receive().expect("it goes on") {
                ToAgent::Probe(number) => sender.send(&FromAgent::Now(number, now())).expect("sent"),
                ToAgent::Start(start) => {
                    assert!((ZERO_NS..now() + HOUR_NS).contains(&start), "{start}");
                    sender.send(&FromAgent::Refused("the start came in time".into())).expect("sent");
                    return rest_of_coordinator(receiver);
                }
                other => panic!("{other:?}"),
            }
        }
    });
    assert!(told.contains("the start came in time"), "{told}");
}

#[test]
fn an_agent_with_another_schedule_is_refused() {
    let told = coordinate(|mut receiver, sender| {
        hello(&mut receiver, &sender);
        sender.send(&FromAgent::Ready([7; 32])).expect("sent");
        rest_of_coordinator(receiver);
    });
    assert!(told.contains("computes another schedule"), "{told}");
}

/// Hello and Job.
fn hello(receiver: &mut Receiver, sender: &Sender) -> Job {
    let _: ToAgent = receiver.receive().expect("its Hello");
    sender.send(&FromAgent::Hello(VERSION.into(), 1)).expect("sent");
    let ToAgent::Job(job) = receiver.receive().expect("the job") else { panic!("no job") };
    job
}

/// The same, and Ready with the right digest.
fn greet(receiver: &mut Receiver, sender: &Sender) {
    let job = hello(receiver, sender);
    let arguments = std::iter::once("roost-loadgen".to_owned()).chain(job.arguments);
    let program = Program::try_parse_from(arguments).expect("valid");
    let options = Options::check(program.run.0.expect("a run")).expect("valid");
    let plan = Plan::build(options.plan_params()).expect("a plan");
    sender.send(&FromAgent::Ready(plan.digest())).expect("sent");
}

fn rest_of_coordinator(mut receiver: Receiver) {
    while receiver.receive::<ToAgent>().is_ok() {}
}

/// A coordinator against an agent of the test's own; it ends with 1, and what it said comes back.
fn coordinate(play: impl FnOnce(Receiver, Sender) + Send + 'static) -> String {
    coordinate_after(0, play)
}

/// The same, against one that closes so many connections first.
fn coordinate_after(closed: usize, play: impl FnOnce(Receiver, Sender) + Send + 'static) -> String {
    let (_folder, file) = secret(SECRET);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("bound").to_string();
    let agent = thread::spawn(move || {
        for _ in 0..closed {
            drop(listener.accept().expect("a coordinator"));
        }
        let (stream, _) = listener.accept().expect("a coordinator");
        let (sender, receiver) = channel::answer(stream, &shared()).expect("the same secret");
        receiver.patience(agents::PATIENCE).expect("a socket");
        play(receiver, sender);
    });
    let arguments = echo_arguments("127.0.0.1:1".parse().expect("an address"));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let more = ["--agents", &at, "--agent-secret-file", file.to_str().expect("text"), "--quiet"];
    let output = loadgen(&[&arguments[..], &more].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    agent.join().expect("no panic");
    told
}
