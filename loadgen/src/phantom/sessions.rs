//! Phantoms that do what kernel clients do: a [`Session`] of `echo` or `chat` each, over a phantom's connection.

use super::core::{Core, Role};
use super::frame::{CLOSE, PING, PONG};
use super::limits::{OUT_BYTES_MAX, WORK_BATCH};
use super::tcp::Stage;
use super::wire::Wire;
use crate::limits::{SWEEP_TICKS, TICK};
use crate::link::Outlet;
use crate::worker::{Context, Next, Phase, Session};
use crate::ws::WsError;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Bytes, Message, Utf8Bytes};

const TICK_US: u64 = TICK.as_micros() as u64;
/// Room that the header of a frame and what goes between messages (heartbeats, acknowledgements) need.
const FRAME_ROOM_BYTES: usize = 2 * 1024;

/// The sessions of one thread's phantoms.
pub struct Sessions<S> {
    context: Rc<Context>,
    /// One a phantom.
    all: Vec<S>,
    /// Who is meant to be connected.
    online: Vec<bool>,
    /// The next message of the schedule that one of ours may send.
    next: usize,
    begun: bool,
    /// Of the schedule's messages.
    payload_bytes_max: usize,
    /// The next client of the sweep, and when the next slice is due.
    swept: usize,
    sweep_us: u64,
}

/// A phantom's connection as its session sees it.
struct Line<'a, W> {
    core: RefCell<&'a mut Core<W>>,
    phantom: u32,
    payload_bytes: usize,
    cut: Cell<bool>,
}

impl<W: Wire> Outlet for Line<'_, W> {
    fn has_room(&self) -> bool {
        let bytes = self.payload_bytes + FRAME_ROOM_BYTES;
        self.core.borrow().stack.has_room_for(self.phantom, bytes.min(OUT_BYTES_MAX))
    }

    fn send(&self, message: Message, scheduled_us: Option<u64>) -> Result<(), WsError> {
        let mut core = self.core.borrow_mut();
        let (opcode, payload): (_, &[u8]) = match &message {
            Message::Text(text) => (OpCode::Data(Data::Text), text.as_bytes()),
            Message::Binary(bytes) => (OpCode::Data(Data::Binary), bytes),
            Message::Ping(bytes) => (PING, bytes),
            Message::Pong(bytes) => (PONG, bytes),
            Message::Close(_) | Message::Frame(_) => (CLOSE, &[]),
        };
        if !core.send(self.phantom, opcode, payload) {
            return Err(WsError::Closed);
        }
        if let Some(scheduled_us) = scheduled_us {
            let now_us = core.context.now_us();
            core.context.meters.borrow_mut().left(now_us.saturating_sub(scheduled_us));
        }
        Ok(())
    }

    fn cut(&self) {
        self.cut.set(true);
    }
}

impl<S: Session> Sessions<S> {
    /// A session for each of the thread's phantoms, of which `client` tells the number within the run.
    pub fn new(context: &Rc<Context>, phantoms: u32, client: impl Fn(u32) -> u32) -> Self {
        let session = |own: u32| S::new(context.clone(), client(own), own as usize);
        Self {
            context: context.clone(),
            all: (0..phantoms).map(session).collect(),
            online: vec![true; phantoms as usize],
            next: 0,
            begun: false,
            payload_bytes_max: context.shared.plan.payload_bytes_max(),
            swept: 0,
            sweep_us: 0,
        }
    }

    /// Lets a session act on its phantom's connection, where it has one.
    fn with<W: Wire, T>(
        &mut self,
        core: &mut Core<W>,
        phantom: u32,
        act: impl FnOnce(&S, Option<&dyn Outlet>) -> T,
    ) -> T {
        let is_up = core.stack.stage(phantom) == Stage::Up;
        let payload_bytes = self.payload_bytes_max;
        let line = Line { core: RefCell::new(core), phantom, payload_bytes, cut: Cell::new(false) };
        let outlet: &dyn Outlet = &line;
        let result = act(&self.all[phantom as usize], is_up.then_some(outlet));
        let cut = line.cut.get();
        let core = line.core.into_inner();
        if cut {
            core.hang_up(self, phantom);
            if self.online[phantom as usize] {
                core.pause(phantom, TICK);
            }
        }
        core.stack.settle(phantom);
        result
    }

    /// Hands the schedule's messages to their senders. Returns when the next one is due, on the stack's clock.
    fn pace<W: Wire>(&mut self, core: &mut Core<W>) -> u64 {
        let context = self.context.clone();
        let plan = &context.shared.plan;
        let mut handed = 0;
        while self.begun && handed < WORK_BATCH {
            let (Some(&at_us), Some(&sender)) = (plan.at_us.get(self.next), plan.sender.get(self.next))
            else {
                return u64::MAX;
            };
            if at_us > context.shared.cut_us.load(Relaxed) {
                return u64::MAX;
            }
            let Some(phantom) = core.stack.addresses().own(sender) else {
                self.next += 1;
                continue;
            };
            let wait_us = context.until_us(at_us);
            if wait_us > 0 {
                return core.stack.now_us() + wait_us;
            }
            context.handed_over(at_us);
            let index = self.next as u32;
            self.with(core, phantom, |session, link| session.due(link, index));
            self.next += 1;
            handed += 1;
        }
        if self.begun { core.stack.now_us() } else { u64::MAX }
    }

    /// A slice of the clients: offline and back as the schedule says, heartbeats, deadlines.
    fn sweep<W: Wire>(&mut self, core: &mut Core<W>) {
        while let Some(place) = self.context.next_flush() {
            self.with(core, place as u32, S::flush);
        }
        let share = self.all.len().div_ceil(SWEEP_TICKS);
        for _ in 0..share {
            let phantom = self.swept as u32;
            self.swept = (self.swept + 1) % self.all.len();
            self.move_online(core, phantom);
            self.stall(core, phantom);
            self.with(core, phantom, S::sweep);
        }
    }

    /// Lets a phantom stop reading, or read again, as the schedule says.
    fn stall<W: Wire>(&mut self, core: &mut Core<W>, phantom: u32) {
        let stalled = self.context.is_stalled(core.client(phantom));
        if stalled == core.stack.is_stalled(phantom) || core.stack.stage(phantom) != Stage::Up {
            return;
        }
        if stalled {
            core.stack.stall(phantom);
        } else {
            core.resume(self, phantom);
        }
    }

    fn move_online<W: Wire>(&mut self, core: &mut Core<W>, phantom: u32) {
        let shared = &self.context.shared;
        let client = core.client(phantom);
        let online = match self.context.phase.get() {
            Phase::Run(_) => !shared.plan.is_offline(client, self.context.now_us()),
            Phase::Drain => true,
            _ => return,
        };
        if online == std::mem::replace(&mut self.online[phantom as usize], online) {
            return;
        }
        let is_up = core.stack.stage(phantom) == Stage::Up;
        if online {
            core.pause(phantom, std::time::Duration::ZERO);
        } else if is_up && client.is_multiple_of(2) {
            // Half of them say goodbye, half just go.
            core.send(phantom, CLOSE, &[]);
            core.leave(self, phantom);
        } else if is_up {
            core.hang_up(self, phantom);
        }
    }
}

impl<W: Wire, S: Session> Role<W> for Sessions<S> {
    fn opened(&mut self, core: &mut Core<W>, phantom: u32) {
        core.up(phantom);
        self.with(core, phantom, |session, link| {
            if let Some(link) = link {
                session.opened(link);
            }
        });
        if !self.online[phantom as usize] {
            core.hang_up(self, phantom);
        }
    }

    fn message(
        &mut self,
        core: &mut Core<W>,
        phantom: u32,
        text: bool,
        payload: &[u8],
    ) -> Result<Next, String> {
        let payload = Bytes::copy_from_slice(payload);
        let message = if text {
            Message::Text(Utf8Bytes::try_from(payload).map_err(|_| "a text message that is not UTF-8")?)
        } else {
            Message::Binary(payload)
        };
        self.with(core, phantom, |session, link| {
            link.map_or(Ok(Next::Continue), |link| session.message(link, &message))
        })
    }

    fn closed(&mut self, _core: &mut Core<W>, phantom: u32) {
        self.all[phantom as usize].closed();
    }

    fn is_wanted(&self, phantom: u32) -> bool {
        self.online[phantom as usize]
    }

    fn enter(&mut self, core: &mut Core<W>, phase: Phase) {
        if !matches!(phase, Phase::Run(_)) {
            return;
        }
        self.begun = true;
        for phantom in 0..core.stack.len() {
            self.with(core, phantom, S::begin);
        }
    }

    fn turn(&mut self, core: &mut Core<W>) -> u64 {
        let now_us = core.stack.now_us();
        if now_us >= self.sweep_us && !self.all.is_empty() {
            self.sweep_us = now_us + TICK_US;
            self.sweep(core);
        }
        self.pace(core).min(self.sweep_us)
    }
}
