//! What a user sends: messages, the answers to them, and what follows a refusal.

use super::{Chat, Standing, State};
use crate::limits::{RETRIES_MAX, SERVER_PAUSE_MAX, UNANSWERED_MAX};
use crate::link::Outlet;
use crate::meters::Counters;
use crate::schedule::Target;
use crate::wire;
use roost_proto::v1::{ClientFrame, Code, Error, Sent, address};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

impl Chat {
    pub(super) fn frame(&self, state: &mut State, link: &dyn Outlet, frame: &ClientFrame, mark: Option<u64>) {
        state.last_sent = self.context.shared.clock.now();
        let message = self.context.shared.options.cli.encoding.write(frame);
        // Where it is closed the reading side sees it, and the frame is written again for the next connection.
        let _ = link.send(message, mark);
    }

    /// Sends what is queued, as far as the bounds allow.
    pub(super) fn pump(&self, state: &mut State, link: &dyn Outlet) {
        while state.standing == Standing::Welcomed
            && state.in_flight < state.queue.len().min(UNANSWERED_MAX)
            && link.has_room()
        {
            // Goes with the message, in one packet.
            self.acknowledge(state, link);
            let index = state.queue[state.in_flight];
            state.in_flight += 1;
            let plan = &self.context.shared.plan;
            let Some(to) = self.address(state, plan.target(index)) else { continue };
            let frame = wire::send(index + 1, to, self.client_id(index), plan.payload(index));
            let is_first = self.context.ledger.borrow_mut().handed(index);
            if is_first {
                Counters::add(&self.context.shared.counters.sent);
            }
            let mark = is_first.then(|| plan.at_us[index as usize]);
            self.frame(state, link, &frame, mark);
        }
    }

    /// Whom a message goes to, as the server knows it. A group is known before the run begins.
    fn address(&self, state: &State, target: Target) -> Option<address::To> {
        match target {
            Target::Server => None,
            Target::Client(client) => Some(address::To::User(self.context.shared.plan.user(client))),
            Target::Group(group) => self.group_number(state, group).map(address::To::Group),
        }
    }

    /// 16 bytes: the run, the message.
    pub(super) fn client_id(&self, index: u32) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.context.shared.run_id.to_le_bytes());
        id[8..12].copy_from_slice(&index.to_le_bytes());
        id
    }

    /// The message behind a `client_id` of this run.
    pub(super) fn index(&self, client_id: &[u8]) -> Option<u32> {
        let (run, rest) = client_id.split_first_chunk::<8>()?;
        let (index, _) = rest.split_first_chunk::<4>()?;
        let index = u32::from_le_bytes(*index);
        let known = u64::from_le_bytes(*run) == self.context.shared.run_id
            && (index as usize) < self.context.shared.plan.len();
        known.then_some(index)
    }

    pub(super) fn sent(&self, state: &mut State, link: &dyn Outlet, sent: &Sent) {
        let plan = &self.context.shared.plan;
        let own = self.index(&sent.client_id).filter(|&index| plan.sender[index as usize] == self.client);
        let Some(index) = own else { return self.context.ledger.borrow_mut().violation() };
        let answer = self.context.ledger.borrow_mut().answered(plan, index, sent.id);
        let counters = &self.context.shared.counters;
        counters.receipts.fetch_add(answer.receipts_delivered, Relaxed);
        if answer.first {
            Counters::add(&counters.answered);
            let (at_us, now_us) = (plan.at_us[index as usize], self.context.now_us());
            // Who went offline, or stopped reading, with the answer on its way waits for no server.
            let away = plan.is_offline_within(self.client, at_us, now_us);
            if !away && !plan.stalled.within(self.client, at_us, now_us) {
                let latency_us = now_us.saturating_sub(at_us);
                self.context.meters.borrow_mut().latency_sent.saturating_record(latency_us);
            }
        }
        state.forget(index);
        self.pump(state, link);
    }

    pub(super) fn refused(&self, state: &mut State, link: &dyn Outlet, reply_to: u32, error: &Error) {
        let code = error.code.as_known();
        self.context.meters.borrow_mut().error(&format!("Error {:?}: {}", error.code, error.message));
        if state.membership.refused(reply_to) {
            return;
        }
        let index = reply_to.wrapping_sub(1);
        if !state.forget(index) {
            return;
        }
        let tries = state.retries.entry(index).or_default();
        *tries += 1;
        let passing = matches!(code, Some(Code::UNAVAILABLE | Code::RATE_LIMITED | Code::INTERNAL));
        if passing && *tries <= RETRIES_MAX {
            self.context.ledger.borrow_mut().postponed(index);
            let pause = Duration::from_millis(u64::from(error.retry_after_ms).max(100)).min(SERVER_PAUSE_MAX);
            state.postponed.push((self.context.now_us() + pause.as_micros() as u64, index));
        } else {
            self.context.ledger.borrow_mut().refused(index);
            Counters::add(&self.context.shared.counters.refused);
        }
        self.pump(state, link);
    }

    /// Queues again what the server refused for now and whose time has come.
    pub(super) fn retry(&self, state: &mut State, link: &dyn Outlet) {
        let now_us = self.context.now_us();
        let State { postponed, queue, .. } = state;
        postponed.retain(|&(at_us, index)| {
            let due = at_us <= now_us;
            if due {
                queue.push_back(index);
            }
            !due
        });
        self.pump(state, link);
    }
}
