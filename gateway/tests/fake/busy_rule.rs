//! The rule by which a connection becomes busy and goes back, step by step; the seeds mix it with everything else.

use std::time::Duration;

use quanta::{Clock, Mock, with_clock};
use roost_gateway::limits;

use super::fake::{Arrival, Fate, Peer, Rig, Setup, World, scripts::head};

const TURNS_MAX: usize = 1_000;

/// One connection whose messages are echoed one after the other, on a clock of its own.
struct Line<'a> {
    rig: Rig,
    time: &'a Mock,
    text: u8,
}

impl Line<'_> {
    fn turn(&mut self) {
        self.rig.turn();
    }

    fn turn_until(&mut self, done: impl Fn(&World) -> bool) {
        for _ in 0..TURNS_MAX {
            self.turn();
            if done(&self.rig.world.borrow()) {
                return;
            }
        }
        panic!("it does not happen");
    }

    /// Sends a message of one byte and takes its echo.
    fn echo(&mut self) {
        self.text += 1;
        let text = self.text;
        self.rig.world.borrow_mut().peers[0].sends.extend([0x82, 0x81, 0, 0, 0, 0, text]);
        self.turn_until(|world| world.peers[0].received.ends_with(&[0x82, 1, text]));
    }

    fn next_tick(&mut self) {
        self.time.increment(Duration::from_secs(limits::TICK_S));
        self.turn();
    }

    fn is_busy(&self) -> bool {
        self.rig.fixture.stats.busy_connections.value() == 1
    }
}

fn on_a_line(seed: u64, test: impl FnOnce(Line<'_>)) {
    let (clock, time) = Clock::mock();
    with_clock(&clock, || {
        let mut peer = Peer::default();
        (peer.sends, peer.arrival) = (head("", None).into(), Arrival::Whole);
        let world = World::new(Fate::seeded(seed), vec![peer]);
        let mut line = Line { rig: Rig::new(&world, Setup::echo()), time: &time, text: 0 };
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
            assert!(line.rig.world.borrow().tally.count("receive armed") > 0, "it was received, not read");
            line.echo();
            line.next_tick();
            assert!(!line.is_busy(), "a full tick with one receive less");
            let receives = line.rig.world.borrow().tally.count("receive armed");
            (1..limits::BUSY_READS).for_each(|_| line.echo());
            assert_eq!(
                line.rig.world.borrow().tally.count("receive armed"),
                receives,
                "it is polled and read again"
            );
            let received = &line.rig.world.borrow().peers[0].received;
            let end = received.windows(4).position(|four| four == b"\r\n\r\n").expect("the head's end") + 4;
            let expected: Vec<u8> = (1..=line.text).flat_map(|text| [0x82, 1, text]).collect();
            assert_eq!(received[end..], expected, "nothing is lost, doubled or out of order");
            assert_eq!(line.rig.fixture.stats.became_busy.value(), 1);
        });
    }
}

#[test]
fn a_busy_connection_whose_close_comes_with_a_tick_is_not_looked_at_again() {
    for seed in 0..100 {
        on_a_line(seed, |mut line| {
            (0..limits::BUSY_READS).for_each(|_| line.echo());
            assert!(line.is_busy());
            line.rig.world.borrow_mut().peers[0].fin_after = true;
            line.turn_until(|world| world.is_closing(0));
            for _ in 0..TURNS_MAX {
                line.next_tick();
                if line.rig.world.borrow().all_gone() {
                    break;
                }
            }
            let stats = &line.rig.fixture.stats;
            assert_eq!((stats.connections.value(), stats.busy_connections.value()), (0, 0));
        });
    }
}
