//! Phantoms that only stay: connect, read Welcome, heartbeat, hold. `idle`, `storm` and `churn` are made of them.

use super::core::{Core, Role};
use super::frame::{CLOSE, PING};
use super::limits::WORK_BATCH;
use super::tcp::Stage;
use super::wire::Wire;
use crate::meters::Counters;
use crate::options::{Encoding, Options};
use crate::wire;
use crate::worker::{Next, Phase};
use roost_proto::v1::server_frame::Body;
use std::time::Duration;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// What a thread's phantoms share; none of them has anything of its own here.
pub struct Lean {
    /// The encoding, where roost.v1 is spoken.
    encoding: Option<Encoding>,
    /// What a heartbeat carries.
    heartbeat: Vec<u8>,
    share: f64,
    period_us: u64,
    /// Phantoms that were welcomed once; an entry a phantom, a bit each.
    connected: Vec<u64>,
    sweep: Sweep,
    wanted: bool,
    /// Some are to vanish: which phantom is looked at next.
    vanishing: Option<u32>,
    /// All are to part: how, and which phantom is the next.
    parting: Option<(Phase, u32)>,
}

/// Who is due for a heartbeat: all phantoms in the order of their numbers, once in a period, so that none needs a timer.
struct Sweep {
    next: u32,
    /// How many are due, with the part of one.
    due: f64,
    at_us: u64,
}

impl Lean {
    /// For that many phantoms; `encoding` where roost.v1 is spoken.
    pub fn new(options: &Options, phantoms: u32, encoding: Option<Encoding>) -> Self {
        let share = options.cli.heartbeat_share;
        Self {
            heartbeat: encoding.map(heartbeat).unwrap_or_default(),
            encoding,
            share,
            period_us: period_us(options.cli.heartbeat_s, share),
            connected: vec![0; phantoms.div_ceil(64) as usize],
            sweep: Sweep { next: 0, due: 0.0, at_us: 0 },
            wanted: true,
            vanishing: None,
            parting: None,
        }
    }

    fn welcomed<W: Wire>(&mut self, core: &mut Core<W>, phantom: u32) {
        core.up(phantom);
        let (word, bit) = (&mut self.connected[phantom as usize / 64], 1 << (phantom % 64));
        if *word & bit == 0 {
            *word |= bit;
            Counters::add(&core.context.shared.counters.ready);
            core.context.connected();
        }
    }

    /// Ends the connections of some phantoms; returns when the next ones have their turn.
    fn part<W: Wire>(&mut self, core: &mut Core<W>, phase: Phase, next: u32) -> u64 {
        let end = core.stack.len().min(next.saturating_add(WORK_BATCH as u32));
        for phantom in next..end {
            match core.stack.stage(phantom) {
                Stage::Up if phase == Phase::Leave => {
                    // 1000: the purpose is fulfilled (RFC 6455 section 7.4.1).
                    core.send(phantom, CLOSE, &1000_u16.to_be_bytes());
                    core.leave(self, phantom);
                    core.stack.settle(phantom);
                }
                Stage::Down | Stage::Failed | Stage::Leaving => (),
                _ => core.hang_up(self, phantom),
            }
        }
        self.parting = Some((phase, end));
        if end < core.stack.len() { core.stack.now_us() } else { u64::MAX }
    }

    /// Lets those vanish who are meant to, a batch at a time.
    fn vanish<W: Wire>(&mut self, core: &mut Core<W>, next: u32) {
        let end = core.stack.len().min(next.saturating_add(WORK_BATCH as u32));
        for phantom in next..end {
            if core.stack.stage(phantom) == Stage::Up && core.context.shared.vanishes(core.client(phantom)) {
                core.vanish(phantom);
            }
        }
        self.vanishing = (end < core.stack.len()).then_some(end);
    }

    fn beat<W: Wire>(&self, core: &mut Core<W>, phantom: u32) -> bool {
        let opcode = match self.encoding {
            Some(Encoding::Proto) => OpCode::Data(Data::Binary),
            Some(Encoding::Json) => OpCode::Data(Data::Text),
            None => PING,
        };
        let sent = core.send(phantom, opcode, &self.heartbeat);
        core.stack.settle(phantom);
        sent
    }
}

impl<W: Wire> Role<W> for Lean {
    fn opened(&mut self, core: &mut Core<W>, phantom: u32) {
        if self.encoding.is_none() {
            self.welcomed(core, phantom);
        }
    }

    fn message(
        &mut self,
        core: &mut Core<W>,
        phantom: u32,
        text: bool,
        payload: &[u8],
    ) -> Result<Next, String> {
        let Some(encoding) = self.encoding else { return Ok(Next::Continue) };
        match encoding.read_bytes(text, payload)?.body {
            Some(Body::Welcome(welcome)) => {
                if welcome.user != core.context.shared.plan.user(core.client(phantom)) {
                    return Err("Welcome is for another user".into());
                }
                if welcome.heartbeat_s > 0 {
                    self.period_us = period_us(u64::from(welcome.heartbeat_s), self.share);
                }
                self.welcomed(core, phantom);
            }
            Some(Body::GoAway(away)) => {
                return Ok(Next::Reconnect(Duration::from_millis(u64::from(away.reconnect_min_ms))));
            }
            _ => (),
        }
        Ok(Next::Continue)
    }

    fn closed(&mut self, _core: &mut Core<W>, _phantom: u32) {}

    fn is_wanted(&self, _phantom: u32) -> bool {
        self.wanted
    }

    fn enter(&mut self, _core: &mut Core<W>, phase: Phase) {
        self.vanishing = matches!(phase, Phase::Run(_)).then_some(0);
        self.parting = match phase {
            Phase::Fall | Phase::Leave => Some((phase, 0)),
            _ => None,
        };
        self.wanted = self.parting.is_none();
    }

    fn turn(&mut self, core: &mut Core<W>) -> u64 {
        if let Some((phase, next)) = self.parting {
            return self.part(core, phase, next);
        }
        if let Some(next) = self.vanishing {
            self.vanish(core, next);
        }
        let (now_us, all) = (core.stack.now_us(), core.stack.len());
        let sweep = &mut self.sweep;
        let passed_us = now_us - std::mem::replace(&mut sweep.at_us, now_us);
        sweep.due += f64::from(all) * passed_us as f64 / self.period_us as f64;
        // A thread that was held up for longer than a period owes each phantom one heartbeat, not more.
        sweep.due = sweep.due.min(f64::from(all));
        for _ in 0..WORK_BATCH {
            if self.sweep.due < 1.0 {
                break;
            }
            let phantom = self.sweep.next;
            if core.stack.stage(phantom) == Stage::Up && !self.beat(core, phantom) {
                // No room: the same phantom is due at the next turn.
                break;
            }
            self.sweep.due -= 1.0;
            self.sweep.next = (phantom + 1) % all;
        }
        if self.sweep.due >= 1.0 || self.vanishing.is_some() { now_us } else { u64::MAX }
    }
}

/// The pause between a phantom's heartbeats, in microseconds.
fn period_us(heartbeat_s: u64, share: f64) -> u64 {
    ((heartbeat_s as f64 * share * 1e6) as u64).max(1)
}

/// What a heartbeat carries: a frame without a body.
fn heartbeat(encoding: Encoding) -> Vec<u8> {
    match encoding.write(&wire::heartbeat()) {
        Message::Binary(bytes) => bytes.to_vec(),
        Message::Text(text) => text.as_bytes().to_vec(),
        _ => Vec::new(),
    }
}
