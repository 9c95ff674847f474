//! A machine that has no memory for another block of slots: the client is closed, the shard goes on.
//!
//! The limit binds the whole process, so this file has one test.

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering},
};

use procfs::process::Process;
use rlimit::Resource;
use roost_gateway::{
    conn::{Backend, Rates, Rules},
    mailbox,
    ring::Uring,
    shard::{Parts, Shard, Shared, Stats},
};

/// A turn sleeps for a second at most.
const TURNS_MAX: usize = 60;

#[test]
fn a_client_without_a_slot_is_closed_and_accepting_begins_again_in_the_next_tick() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let (_sender, mailbox) = mailbox::mailbox(8).expect("an eventfd");
    let wake = mailbox.wake_descriptor().expect("a descriptor");
    let (stats, shared) = (Arc::<Stats>::default(), Arc::<Shared>::default());
    let mut shard = Shard::new(Parts {
        number: 0,
        ring: Uring::open(listener, wake, 16).expect("io_uring"),
        rules: Arc::new(Rules {
            backend: Backend::Echo,
            message_bytes_max: 1_000,
            assembly_bytes_max: 100_000,
            rates: Rates::default(),
        }),
        connections_max: 10,
        heartbeat_s: 240,
        uplink: None,
        mailbox,
        shared: Arc::clone(&shared),
        stats: Arc::clone(&stats),
    });
    let mut completions = Vec::new();
    let mut turn_until = |done: &dyn Fn(&Stats) -> bool| {
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "it does not come to that");
            shard.turn(&mut completions).expect("the rings work");
            if done(&stats) {
                return;
            }
        }
    };
    let mut refused = TcpStream::connect(address).expect("connected");
    let (soft, hard) = rlimit::getrlimit(Resource::AS).expect("the limit");
    let mapped = Process::myself().and_then(|process| process.stat()).expect("/proc").vsize;
    // A block of slots is nearly a megabyte; the heap has room for what a turn needs besides.
    rlimit::setrlimit(Resource::AS, mapped + (256 << 10), hard).expect("lowered");
    turn_until(&|stats| stats.accept_errors.value() > 0 && stats.ring_descriptors.value() == 0);
    rlimit::setrlimit(Resource::AS, soft, hard).expect("as it was");
    assert_eq!((stats.accepted.value(), stats.connections.value(), stats.slab_blocks.value()), (0, 0, 0));
    assert_eq!(shared.connections.load(Ordering::Relaxed), 0, "it takes no place");
    assert_eq!(refused.read(&mut [0]).expect("closed, not reset"), 0);

    let _client = TcpStream::connect(address).expect("connected");
    turn_until(&|stats| stats.accepted.value() == 1);
    assert_eq!(shared.connections.load(Ordering::Relaxed), 1);
}
