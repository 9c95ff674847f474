//! The ends of connections, and what follows them: a pause and a new attempt, or nothing.

use super::{Core, Role};
use crate::limits::{BACKOFF_MAX, BACKOFF_MIN, CONNECT_ATTEMPTS_MAX};
use crate::meters::Counters;
use crate::phantom::tcp::{End, Stage, mix};
use crate::phantom::wire::Wire;
use std::cmp::Reverse;
use std::io::ErrorKind;
use std::time::Duration;

impl<W: Wire> Core<W> {
    /// Says goodbye in order: close frame (where the server has not said it first) and FIN.
    pub fn leave(&mut self, role: &mut impl Role<W>, phantom: u32) {
        self.move_to(phantom, Stage::Leaving);
        role.closed(self, phantom);
        if !self.stack.close(phantom) {
            self.hang_up(role, phantom);
        }
    }

    /// Ends the connection with RST, whatever it is.
    pub fn hang_up(&mut self, role: &mut impl Role<W>, phantom: u32) {
        let stage = self.stack.stage(phantom);
        self.stack.abort(phantom);
        self.move_to(phantom, Stage::Down);
        if matches!(stage, Stage::Greeting | Stage::Up) {
            role.closed(self, phantom);
        }
    }

    pub(super) fn dropped(&mut self, text: &str) {
        Counters::add(&self.counters().dropped);
        self.context.meters.borrow_mut().error(text);
    }

    /// Something is wrong with the connection: it ends, and is made again after a pause where that may help.
    pub(super) fn fail(&mut self, role: &mut impl Role<W>, phantom: u32, text: &str, is_final: bool) {
        let was_up = self.stack.stage(phantom) == Stage::Up;
        self.hang_up(role, phantom);
        self.failed(phantom, text, was_up, is_final);
    }

    pub(super) fn failed(&mut self, phantom: u32, text: &str, was_up: bool, is_final: bool) {
        if was_up {
            self.dropped(text);
        } else {
            self.context.meters.borrow_mut().error(text);
        }
        let failures = self.stack.failures(phantom).saturating_add(1);
        self.stack.set_failures(phantom, failures);
        if is_final || u32::from(failures) >= CONNECT_ATTEMPTS_MAX {
            self.move_to(phantom, Stage::Failed);
            Counters::add(&self.counters().failed);
        } else {
            self.pause(phantom, self.backoff(phantom, failures));
        }
    }

    /// Doubled each time, half of it at random (RFC 6455 section 7.2.3).
    pub(super) fn backoff(&self, phantom: u32, failures: u8) -> Duration {
        let full = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
        let random = mix(self.stack.now_us() ^ u64::from(phantom) << 32) as u32;
        full.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
    }

    /// Makes a phantom connect after a pause.
    pub fn pause(&mut self, phantom: u32, pause: Duration) {
        if self.stack.stage(phantom) == Stage::Down {
            self.move_to(phantom, Stage::Pausing);
            self.pauses.push(Reverse((self.stack.now_us() + pause.as_micros() as u64, phantom)));
        }
    }

    /// The peer ended its side: nothing more will come, so that ours ends, too.
    pub(super) fn peer_finished(&mut self, role: &mut impl Role<W>, phantom: u32) {
        match self.stack.stage(phantom) {
            Stage::Leaving => _ = self.stack.close(phantom),
            Stage::Dripping => self.drip_ended(phantom, Ok(&[])),
            Stage::Up => {
                self.dropped("connection ended without a close frame");
                self.leave(role, phantom);
            }
            stage if stage.is_coming_up() => {
                self.fail(role, phantom, "connection ended before the handshake was done", false);
            }
            _ => _ = self.stack.close(phantom),
        }
    }

    /// A connection is over.
    pub fn ended(&mut self, role: &mut impl Role<W>, phantom: u32, end: End) {
        let stage = self.stack.stage(phantom);
        if matches!(stage, Stage::Down | Stage::Pausing | Stage::Failed | Stage::Done) {
            return;
        }
        if stage == Stage::Dripping {
            return self.drip_ended(phantom, Err(ErrorKind::ConnectionReset));
        }
        if stage == Stage::Leaving {
            self.move_to(phantom, Stage::Down);
            if role.is_wanted(phantom) {
                self.pause(phantom, self.backoff(phantom, 1));
            }
            return;
        }
        self.move_to(phantom, Stage::Down);
        if matches!(stage, Stage::Greeting | Stage::Up) {
            role.closed(self, phantom);
        }
        self.failed(phantom, &end.to_string(), stage == Stage::Up, false);
    }
}
