//! One thread: its queue of the wire, its phantoms, and the run's phases. Packets first, in bounded batches, then what is
//! due, then sleep.

use super::core::{Attempts, Core, Role};
use super::limits::{
    BATCHES_BEFORE_TIMERS, CONNECT_LAG_MAX, PACKET_BYTES_MAX, PACKETS_BATCH, STOP_MAX, WAIT_MAX, WORK_BATCH,
};
use super::tcp::{Counts, End};
use super::wire::Wire;
use crate::clock::RunClock;
use crate::meters::Meters;
use crate::worker::{Phase, Results};
use std::io;
use std::time::Duration;
use tokio::sync::watch;

/// Phantoms between two looks at the clock while all connections end.
const STOP_LOOK_EVERY: u32 = 1024;

/// What the phantoms of a thread count beyond the meters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Connections.
    pub attempts: Attempts,
    /// Packets.
    pub packets: Counts,
}

impl std::ops::AddAssign for Tallies {
    fn add_assign(&mut self, other: Self) {
        self.attempts += other.attempts;
        self.packets += other.packets;
    }
}

/// The phantoms of one thread at work.
pub struct Engine<W, R> {
    core: Core<W>,
    role: R,
    clock: RunClock,
    ramp: Ramp,
    packet: Box<[u8]>,
    ended: Vec<(u32, End)>,
    /// Batches in a row that did not empty the wire.
    behind: usize,
}

/// Who connects when: phantom after phantom, at the run's rate.
struct Ramp {
    next: u32,
    /// The first client's time, on the stack's clock.
    begun_us: u64,
    gap_us: f64,
}

impl<W: Wire, R: Role<W>> Engine<W, R> {
    /// The engine of a thread; its clock's zero is the beginning of the run's ramp.
    pub fn new(core: Core<W>, role: R) -> Self {
        let shared = &core.context.shared;
        let clock = RunClock::new(shared.clock.clone(), shared.ramp_begun);
        let ramp = Ramp { next: 0, begun_us: 0, gap_us: 1e6 / shared.options.cli.ramp_per_s };
        let packet = vec![0; PACKET_BYTES_MAX].into();
        Self { core, role, clock, ramp, packet, ended: Vec::new(), behind: 0 }
    }

    /// Works until the phase is [`Phase::Stop`].
    ///
    /// # Errors
    /// The wire is of no use any more.
    pub fn run(mut self, mut phase: watch::Receiver<Phase>) -> io::Result<Results> {
        // Until the run's end; each round is bounded, and sleeps where nothing is due.
        loop {
            if phase.has_changed().unwrap_or(true) {
                let now = *phase.borrow_and_update();
                if now == Phase::Stop {
                    break;
                }
                self.enter(now);
            }
            self.turn()?;
            self.core.context.hand_over_each_second();
        }
        self.stop();
        let tallies = self.tallies();
        let context = &self.core.context;
        context.hand_over();
        Ok(Results { meters: context.meters.replace(Meters::new(0)), ledger: context.ledger.take(), tallies })
    }

    /// What was counted so far.
    pub fn tallies(&self) -> Tallies {
        Tallies { attempts: self.core.attempts, packets: self.core.stack.counts }
    }

    /// What the packets travel on.
    pub fn wire(&mut self) -> &mut W {
        &mut self.core.stack.wire
    }

    /// The run enters another phase.
    pub fn enter(&mut self, phase: Phase) {
        self.core.context.phase.set(phase);
        match phase {
            Phase::Run(start) => self.core.context.set_origin(start),
            Phase::Return(start) => {
                let since = start.saturating_duration_since(self.core.context.shared.ramp_begun);
                (self.ramp.next, self.ramp.begun_us) = (0, since.as_micros() as u64);
            }
            Phase::Fall | Phase::Leave => self.ramp.next = self.core.stack.len(),
            Phase::Ramp | Phase::Drain | Phase::Stop => (),
        }
        self.role.enter(&mut self.core, phase);
    }

    /// One round.
    ///
    /// # Errors
    /// The wire is of no use any more.
    pub fn turn(&mut self) -> io::Result<()> {
        let mut packets = 0;
        while packets < PACKETS_BATCH
            && let Some(length) = self.core.stack.wire.receive(&mut self.packet)?
        {
            packets += 1;
            self.core.stack.set_now(self.clock.now_us());
            if let Some(arrival) = self.core.stack.input(&self.packet[..length]) {
                self.core.arrived(&mut self.role, &arrival);
            }
        }
        self.core.stack.set_now(self.clock.now_us());
        // What a timer waits for may stand in the queue: after a stall that is looked at first, within bounds.
        self.behind = if packets < PACKETS_BATCH { 0 } else { self.behind + 1 };
        if self.behind.is_multiple_of(BATCHES_BEFORE_TIMERS) {
            self.tick();
        }
        // More connections than packets can be taken for would only wait in the queue, until both sides send all again.
        let ramp_us = if self.behind == 0 { self.ramp() } else { u64::MAX };
        let next_us = self.core.turn(&mut self.role).min(ramp_us).min(self.role.turn(&mut self.core));
        if let Some(failure) = self.core.stack.take_failure() {
            return Err(failure);
        }
        if packets == 0 {
            let wait_us = next_us.saturating_sub(self.core.stack.now_us());
            if wait_us > 0 {
                self.core.stack.wire.wait(Duration::from_micros(wait_us).min(WAIT_MAX))?;
            }
        }
        Ok(())
    }

    fn tick(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        self.core.stack.tick(&mut ended);
        for (phantom, end) in ended.drain(..) {
            self.core.ended(&mut self.role, phantom, end);
        }
        self.ended = ended;
    }

    /// Begins the connections that are due. Returns when the next one is.
    fn ramp(&mut self) -> u64 {
        let now_us = self.core.stack.now_us();
        for _ in 0..WORK_BATCH {
            if self.ramp.next == self.core.stack.len() {
                return u64::MAX;
            }
            let client = self.core.client(self.ramp.next);
            let due_us = self.ramp.begun_us + (f64::from(client) * self.ramp.gap_us) as u64;
            if due_us > now_us {
                return due_us;
            }
            if !self.core.may_connect() {
                return u64::MAX;
            }
            self.core.connect(self.ramp.next);
            self.core.attempts.late += u64::from(now_us - due_us > CONNECT_LAG_MAX.as_micros() as u64);
            self.ramp.next += 1;
        }
        now_us
    }

    /// Ends all connections, so that the server does not keep them: as many as the time allows.
    fn stop(&mut self) {
        let end_us = self.clock.now_us() + STOP_MAX.as_micros() as u64;
        for phantom in 0..self.core.stack.len() {
            if phantom.is_multiple_of(STOP_LOOK_EVERY) && self.clock.now_us() > end_us {
                break;
            }
            self.core.hang_up(&mut self.role, phantom);
        }
    }
}
