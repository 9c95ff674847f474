//! What bounds a shard, one bound at a time and on a clock of its own; the seeds mix the rest with everything else.

use roost_gateway::{
    limits,
    shard::{Bounds, Stats},
};
use roost_proto::{
    frame::Opcode,
    tier::{Action, Request},
};

use super::fake::{
    Manners, Peer, Setup, message,
    scripts::{encoding_of, frames_of, head},
    stage::*,
    welcome,
};

#[test]
fn who_takes_nothing_for_a_minute_is_ended_and_who_takes_a_send_now_and_then_is_not() {
    for seed in 0..5 {
        echoing(seed, 2, Bounds::default(), |mut stage| {
            for index in [HOG, OTHER] {
                stage.manners(index, Manners::TakesNothing);
                stage.says(index, 4_000);
            }
            stage.turn_until("both are paused", |stage| stage.stats().paused.value() == 2);
            stage.turns(SETTLED_TURNS);
            let mut ended_after_s = None;
            for passed_s in 1..=3 * u64::from(limits::STALLED_S_MAX) {
                stage.second();
                if ended_after_s.is_none() && stage.stats().stalled.value() > 0 {
                    ended_after_s = Some(passed_s);
                }
                if passed_s % 50 == 0 {
                    let sent = stage.stats().bytes_sent.value();
                    stage.manners(OTHER, Manners::Usual);
                    stage.turn_until("a send", |stage| stage.stats().bytes_sent.value() > sent);
                    stage.manners(OTHER, Manners::TakesNothing);
                }
            }
            let most_s = u64::from(limits::STALLED_S_MAX);
            let ended_after_s = ended_after_s.expect("the hog is ended");
            assert!((most_s..=most_s + 4).contains(&ended_after_s), "ended after {ended_after_s} s");
            assert_eq!((stage.stats().stalled.value(), stage.stats().connections.value()), (1, 1));
            stage.manners(OTHER, Manners::Usual);
            stage.turn_until("all echoes of the slow one", |stage| {
                stage.peer(OTHER, |peer| peer.received.len()) > 4_000 * FRAME_BYTES
            });
        });
    }
}

#[test]
fn who_was_not_read_for_long_has_its_time_to_take_what_it_is_told_then() {
    for seed in 0..5 {
        routed(seed, 1, Setup::echo(), |mut stage| {
            stage.clerk.ledger().room = 0;
            stage.sends(HOG, 1, 2, 0);
            (0..2 * limits::STALLED_S_MAX).for_each(|_| stage.second());
            assert_eq!(stage.stats().paused.value(), 1, "the router takes nothing");
            stage.manners(HOG, Manners::TakesNothing);
            stage.tell(HOG, Action::Frame(Box::new(welcome())));
            (0..limits::STALLED_S_MAX / 2).for_each(|_| stage.second());
            assert_eq!((stage.stats().stalled.value(), stage.stats().connections.value()), (0, 1));
            (0..limits::STALLED_S_MAX).for_each(|_| stage.second());
            assert_eq!(stage.stats().stalled.value(), 1, "and no more than that");
        });
    }
}

#[test]
fn what_waits_for_one_session_is_bounded_and_it_is_ended_beyond() {
    const EVENT_BYTES: usize = 300 * 1_024;
    // In JSON, as base64.
    const FRAME_BYTES: usize = EVENT_BYTES / 3 * 4;
    let most = limits::OUTBOX_BYTES_MAX + PAYLOAD_BYTES;
    for seed in 0..5 {
        routed(seed, 2, Setup::echo(), |mut stage| {
            stage.manners(HOG, Manners::TakesNothing);
            let (mut said, mut peak) = (0, 0);
            while stage.stats().lost.value() == 0 {
                said += 1;
                assert!(said <= 2 * most / FRAME_BYTES, "nothing bounds what waits for it");
                for index in [HOG, OTHER] {
                    stage.tell(index, Action::Event(message(1, said as u64, EVENT_BYTES).into()));
                }
                stage.turns(SETTLED_TURNS);
                peak = peak.max(stage.stats().outbox_bytes.value());
            }
            assert!(said > most / FRAME_BYTES, "it is not ended before: {said}");
            // What is under way beside what waits behind it: the first event.
            assert!(peak <= (most + 3 * FRAME_BYTES) as u64, "{peak} waited");
            stage.turn_until("its end", |stage| stage.stats().connections.value() == 1);
            let ended = stage.session(HOG);
            let told = stage
                .clerk
                .ledger()
                .taken
                .iter()
                .any(|request| matches!(request, Request::Detach { session, .. } if *session == ended));
            assert!(told, "the router knows");
            stage.turn_until("all of the other's events", |stage| {
                stage.peer(OTHER, |peer| frames_of(encoding_of(OTHER as u64 + 1), &peer.received).len())
                    == 1 + said
            });
        });
    }
}

/// Less than one connection may have waiting for itself is much for all.
const PRESSED_BYTES: usize = 200 * 1_024;
const CROWDED_BYTES: usize = 400 * 1_024;

fn scarce() -> Bounds {
    Bounds { outboxes_pressed_bytes: PRESSED_BYTES, outboxes_bytes_max: CROWDED_BYTES, ..Bounds::default() }
}

#[test]
fn while_much_waits_for_all_a_connection_is_paused_as_soon_as_little_waits_for_it() {
    for seed in 0..5 {
        echoing(seed, 5, scarce(), |mut stage| {
            for hog in 0..4 {
                stage.manners(hog, Manners::TakesNothing);
                stage.says(hog, 1_000);
            }
            stage.turn_until("all are paused", |stage| stage.stats().paused.value() == 4);
            (0..20).for_each(|_| stage.echo(4));
            let waits = stage.stats().outbox_bytes.value();
            let least = PRESSED_BYTES.min(4 * limits::OUTBOX_RESUME_BYTES) as u64;
            assert!((least..least + 2 * TURN_BYTES).contains(&waits), "{waits} wait");
            assert_eq!(stage.stats().connections.value(), 5, "nobody is ended for it");
        });
    }
}

#[test]
fn when_too_much_waits_for_all_those_it_waits_for_are_ended_until_there_is_room() {
    for seed in 0..5 {
        echoing(seed, HOGS + 1, scarce(), |mut stage| {
            for hog in 0..HOGS {
                stage.manners(hog, Manners::TakesNothing);
                stage.says(hog, 1_000);
            }
            for _ in 0..100 {
                stage.echo(HOGS);
                let waits = stage.stats().outbox_bytes.value();
                assert!(waits <= CROWDED_BYTES as u64 + TURN_BYTES, "{waits} wait");
            }
            stage.turns(20 * SETTLED_TURNS);
            let ended = stage.stats().outboxes_crowded_out.value();
            assert!((1..HOGS as u64).contains(&ended), "{ended} were ended");
            assert_eq!(stage.stats().connections.value(), 1 + HOGS as u64 - ended);
            let waits = stage.stats().outbox_bytes.value();
            assert!(waits <= CROWDED_BYTES as u64, "{waits} wait in the end");
            stage.echo(HOGS);
        });
    }
}

/// A session that is told goodbye for what it sent, and sends so many bytes more; what the rings read of them.
fn sends_on(stage: &mut Stage<'_>, busy: bool, bytes: usize) -> u64 {
    if busy {
        (0..limits::BUSY_READS).for_each(|_| stage.echo(HOG));
    }
    // A frame that is not masked.
    stage.peer(HOG, |peer| {
        peer.manners = Manners::Lingers;
        peer.sends.extend([0x82, 0]);
    });
    stage.turn_until("our Close", |stage| stage.stats().closed(1002).value() == 1);
    let before = stage.stats().bytes_received.value();
    stage.peer(HOG, |peer| peer.sends.extend(vec![7; bytes]));
    stage.turns(SETTLED_TURNS);
    let read = |stage: &Stage<'_>| stage.stats().bytes_received.value() - before;
    stage.turn_until("all is read, or it is ended", |stage| {
        read(stage) == bytes as u64 || stage.stats().connections.value() == 1
    });
    read(stage)
}

fn is_told_goodbye(peer: &mut Peer) -> bool {
    // 1002, a protocol error.
    peer.received.windows(4).any(|four| four[0] == 0x88 && four[2..] == [0x03, 0xEA])
}

#[test]
fn who_sends_on_after_our_close_is_read_as_far_as_buffers_go_and_then_reset() {
    let most = limits::DISCARDED_BYTES_MAX;
    for seed in 0..4 {
        let busy = seed % 2 == 0;
        echoing(seed, 2, Bounds::default(), |mut stage| {
            assert_eq!(sends_on(&mut stage, busy, most), most as u64, "what was under way is read");
            stage.turns(SETTLED_TURNS);
            assert!(stage.peer(HOG, is_told_goodbye), "it knows why");
            assert_eq!(stage.stats().connections.value(), 2, "it may still say goodbye");
            stage.peer(HOG, |peer| peer.fin_after = true);
            stage.turn_until("its end", |stage| stage.stats().connections.value() == 1);
            assert_eq!(stage.stats().cut_short.value(), 0);
        });
        echoing(seed, 2, Bounds::default(), |mut stage| {
            let read = sends_on(&mut stage, busy, 2 * most);
            assert!((most as u64..most as u64 + TURN_BYTES).contains(&read), "{read} were read");
            assert!(stage.peer(HOG, is_told_goodbye), "it knows why");
            stage.turn_until("its end", |stage| stage.stats().connections.value() == 1);
            assert_eq!(stage.stats().cut_short.value(), 1);
            stage.echo(OTHER);
        });
    }
}

/// Part of a message, of which more should follow.
fn piece(opcode: Opcode, bytes: usize) -> Vec<u8> {
    let mut piece = binary(&vec![1; bytes]);
    piece[0] = opcode as u8;
    piece
}

/// Lets seconds go by until somebody is closed for what it holds, with `meanwhile` in each.
fn seconds_until_relieved(stage: &mut Stage<'_>, meanwhile: impl Fn(&mut Stage<'_>)) {
    for _ in 0..60 {
        if stage.stats().relieved.value() > 0 {
            return;
        }
        meanwhile(stage);
        stage.second();
        stage.turns(2 * SETTLED_TURNS);
    }
    panic!("nobody is closed for what is held");
}

#[test]
fn many_who_hold_little_of_a_message_are_closed_before_they_keep_others_out_for_long() {
    const HOLDERS: usize = 6;
    const REFUSED: usize = 7;
    /// As many as would halve what is spared to less than they hold, did seconds not count.
    const LOOKS: usize = 12;
    const SLAB_TURNS: usize = 128;
    for seed in 0..10 {
        let talks = seed % 2 == 0;
        let setup = Setup { assembly_bytes_max: 6_000, ..Setup::echo() };
        on_stage(seed, REFUSED + 1, setup, |mut stage| {
            let says = |stage: &Stage<'_>, index, bytes| stage.peer(index, |peer| peer.sends.extend(bytes));
            (0..HOLDERS).for_each(|index| says(&stage, index, piece(Opcode::Binary, 900)));
            // Who behaves has little of a message under way all the time.
            says(&stage, HOLDERS, piece(Opcode::Binary, 50));
            stage.turns(SETTLED_TURNS);
            says(&stage, REFUSED, piece(Opcode::Binary, 700));
            stage.turn_until("there is no room", |stage| stage.stats().closed(1013).value() == 1);
            stage.turns(LOOKS * SLAB_TURNS);
            assert_eq!(stage.stats().relieved.value(), 0, "nobody holds much, and it may be for a moment");
            seconds_until_relieved(&mut stage, |stage| {
                says(stage, HOLDERS, piece(Opcode::Continuation, 1));
                let talkers = if talks { 0..HOLDERS } else { 0..0 };
                talkers.for_each(|index| says(stage, index, piece(Opcode::Continuation, 0)));
            });
            stage.turns(SETTLED_TURNS);
            let relieved = stage.stats().relieved.value();
            assert!(relieved < HOLDERS as u64, "no more than needed: {relieved}");
            let open = stage.stats().connections.value();
            let before = stage.peer(HOLDERS, |peer| peer.received.len());
            says(&stage, HOLDERS, piece(Opcode::Continuation, 700));
            let mut last = piece(Opcode::Continuation, 50);
            last[0] |= 0x80;
            says(&stage, HOLDERS, last);
            stage.turn_until("the echo of who behaves", |stage| {
                stage.peer(HOLDERS, |peer| peer.received.len()) >= before + 800
            });
            assert_eq!(stage.stats().connections.value(), open, "nobody else went");
        });
    }
}

#[test]
fn what_is_kept_of_paused_connections_is_given_up_before_it_keeps_others_out_for_long() {
    const SESSIONS: usize = 7;
    const KEPT_BYTES_MAX: u64 = 9_000;
    let mut reached = 0;
    for seed in 0..20 {
        let bounds = Bounds { backlog_requests_max: 1, ..Bounds::default() };
        let setup = Setup { bounds, assembly_bytes_max: KEPT_BYTES_MAX as usize, ..Setup::echo() };
        routed(seed, SESSIONS, setup, |mut stage| {
            stage.clerk.ledger().room = 0;
            (0..SESSIONS).for_each(|index| stage.sends(index, 1, 20, 600));
            stage.turns(SETTLED_TURNS);
            if stage.stats().assembly_bytes.value() > KEPT_BYTES_MAX / 4 * 3 {
                reached += 1;
                seconds_until_relieved(&mut stage, |_| {});
                stage.turns(SETTLED_TURNS);
                let kept = stage.stats().assembly_bytes.value();
                assert!(kept <= KEPT_BYTES_MAX / 2, "{kept} bytes are still kept");
            }
        });
    }
    assert!(reached > 0, "no seed keeps much");
}

/// Nobody's requests are taken for a while. What is held stays within `most`, as `held` tells it, with a few buffers beyond; all is
/// taken afterwards, and nobody was ended.
fn wait_for_the_router(bounds: Bounds, payload_bytes: usize, held: impl Fn(&Stats) -> usize, most: usize) {
    const SESSIONS: usize = 7;
    const LATE: usize = SESSIONS - 1;
    const SENDS: u32 = 60;
    let mut parked = 0;
    for seed in 0..20 {
        routed(seed, SESSIONS, Setup { bounds, ..Setup::echo() }, |mut stage| {
            stage.clerk.ledger().room = 5;
            (0..LATE).for_each(|index| stage.sends(index, 1, SENDS, payload_bytes));
            let (mut peak, mut received) = (0, 0);
            for turn in 0..20 * SETTLED_TURNS {
                stage.turns(1);
                peak = peak.max(held(stage.stats()));
                if turn == 10 * SETTLED_TURNS {
                    // More comes while it is full, also of one who had said nothing, and one who has said all leaves.
                    received = stage.stats().bytes_received.value();
                    (0..LATE).for_each(|index| stage.sends(index, SENDS + 1, SENDS, payload_bytes));
                    stage.sends(LATE, 1, 2 * SENDS, payload_bytes);
                    stage.peer(HOG, |peer| peer.fin_after = true);
                }
            }
            assert!(peak >= most, "seed {seed}: {peak} held, it was never full");
            assert!(peak < 2 * most, "seed {seed}: {peak} held");
            assert_eq!(stage.stats().connections.value(), SESSIONS as u64, "nobody is ended");
            assert_eq!(stage.stats().bytes_received.value(), received, "nobody is read while it is full");
            let mut newcomer = Peer::default();
            (newcomer.sends, newcomer.fin_after) = (head("?user=99", None).into(), true);
            stage.rig.world.borrow_mut().peers.push(newcomer);
            stage.turn_until("an answer to who comes now", |stage| {
                stage.peer(SESSIONS, |peer| peer.received.starts_with(b"HTTP/1.1 503 "))
            });
            stage.clerk.ledger().room = usize::MAX;
            stage.turn_until("all that was sent is taken", |stage| {
                (0..SESSIONS).all(|index| stage.taken(index).len() == 2 * SENDS as usize)
            });
            for index in 0..SESSIONS {
                assert!(stage.taken(index).into_iter().eq(1..=2 * SENDS), "in order, each once");
            }
            stage.turn_until("who has left is gone", |stage| {
                stage.stats().connections.value() < SESSIONS as u64
            });
            assert_eq!(stage.stats().closed(1013).value(), 0);
            assert_eq!((stage.stats().backlog_requests.value(), stage.stats().backlog_bytes.value()), (0, 0));
            parked += stage.stats().parked.value();
        });
    }
    assert!(parked > 0, "some of it was read when there was no room any more");
}

#[test]
fn large_requests_that_the_router_has_no_room_for_are_bounded_by_their_bytes_and_all_arrive() {
    let bounds = Bounds { backlog_bytes_max: 10_000, ..Bounds::default() };
    wait_for_the_router(bounds, 600, |stats| stats.backlog_bytes.value() as usize, 10_000);
}

#[test]
fn small_requests_that_the_router_has_no_room_for_are_bounded_by_their_number_and_all_arrive() {
    let bounds = Bounds { backlog_requests_max: 200, ..Bounds::default() };
    wait_for_the_router(bounds, 0, |stats| stats.backlog_requests.value() as usize, 200);
}
