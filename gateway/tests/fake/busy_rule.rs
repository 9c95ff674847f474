//! The rule by which a connection becomes busy and goes back, step by step; the seeds mix it with everything else.

use std::{cell::RefCell, rc::Rc, time::Duration};

use quanta::{Clock, Mock, with_clock};
use roost_gateway::{conn::Backend, limits, ring::Completion, shard::Shard};

use super::{
    Fixture,
    fake::{Arrival, FakeRing, Peer, World},
    head, shard,
};

const TURNS_MAX: usize = 1_000;

/// One connection whose messages are echoed one after the other, on a clock of its own.
struct Line<'a> {
    world: Rc<RefCell<World>>,
    shard: Shard<FakeRing>,
    fixture: Fixture,
    time: &'a Mock,
    completions: Vec<Completion>,
    text: u8,
}

impl Line<'_> {
    fn turn(&mut self) {
        self.shard.turn(&mut self.completions).expect("the fake rings do not fail");
    }

    fn turn_until(&mut self, done: impl Fn(&World) -> bool) {
        for _ in 0..TURNS_MAX {
            self.turn();
            if done(&self.world.borrow()) {
                return;
            }
        }
        panic!("it does not happen");
    }

    /// Sends a message of one byte and takes its echo.
    fn echo(&mut self) {
        self.text += 1;
        let text = self.text;
        self.world.borrow_mut().peers[0].sends.extend([0x82, 0x81, 0, 0, 0, 0, text]);
        self.turn_until(|world| world.peers[0].received.ends_with(&[0x82, 1, text]));
    }

    fn next_tick(&mut self) {
        self.time.increment(Duration::from_secs(limits::TICK_S));
        self.turn();
    }

    fn is_busy(&self) -> bool {
        self.fixture.stats.busy_connections.value() == 1
    }
}

fn on_a_line(seed: u64, test: impl FnOnce(Line<'_>)) {
    let (clock, time) = Clock::mock();
    with_clock(&clock, || {
        let mut peer = Peer::default();
        (peer.sends, peer.arrival) = (head("").into(), Arrival::Whole);
        let world = World::new(seed, vec![peer]);
        let (shard, fixture) = shard(&world, Backend::Echo, |_| None);
        let mut line = Line { world, shard, fixture, time: &time, completions: Vec::new(), text: 0 };
        line.turn_until(|world| world.peers[0].received.ends_with(b"\r\n\r\n"));
        line.next_tick();
        test(line);
    });
}

#[test]
fn a_connection_is_busy_from_its_eighth_read_in_a_tick_until_a_tick_with_fewer_than_two() {
    for seed in 0..100 {
        on_a_line(seed, |mut line| {
            (1..limits::BUSY_READS).for_each(|_| line.echo());
            assert!(!line.is_busy(), "one read short of the number");
            line.next_tick();
            (1..limits::BUSY_READS).for_each(|_| line.echo());
            assert!(!line.is_busy(), "reads of another tick do not count");
            line.echo();
            assert!(line.is_busy());
            line.next_tick();
            for _ in 0..5 {
                (0..limits::BUSY_KEPT_RECEIVES).for_each(|_| line.echo());
                line.next_tick();
                assert!(line.is_busy(), "a tick with enough receives");
            }
            assert!(line.world.borrow().tally.receives > 0, "it was received, not read");
            line.echo();
            line.next_tick();
            assert!(!line.is_busy(), "a full tick with one receive less");
            let receives = line.world.borrow().tally.receives;
            (1..limits::BUSY_READS).for_each(|_| line.echo());
            assert_eq!(line.world.borrow().tally.receives, receives, "it is polled and read again");
            let received = &line.world.borrow().peers[0].received;
            let end = received.windows(4).position(|four| four == b"\r\n\r\n").expect("the head's end") + 4;
            let expected: Vec<u8> = (1..=line.text).flat_map(|text| [0x82, 1, text]).collect();
            assert_eq!(received[end..], expected, "nothing is lost, doubled or out of order");
            assert_eq!(line.fixture.stats.became_busy.value(), 1);
        });
    }
}
