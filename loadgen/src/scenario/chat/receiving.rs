//! What a user receives: Welcome, events with messages and receipts, and the acknowledgements of them.

use super::{Chat, Standing, State};
use crate::ledger::Delivery;
use crate::limits::{ACK_EVENTS_MAX, READ_MESSAGES_MAX};
use crate::link::Outlet;
use crate::meters::Counters;
use crate::payload;
use crate::schedule::Target;
use crate::wire;
use roost_proto::v1::{Event, Mark, Message, Receipt, Welcome, address, event};
use std::time::Duration;

impl Chat {
    pub(super) fn welcome(&self, state: &mut State, link: &dyn Outlet, welcome: &Welcome) {
        self.context.ledger.borrow_mut().welcomed(self.client, welcome.acknowledged, welcome.head);
        state.standing = Standing::Welcomed;
        let asked = self.context.shared.plan.payload_bytes_max();
        let most = welcome.payload_bytes_max;
        // 0 is a server that does not say.
        if most > 0 && asked > most as usize {
            let _ = self.context.shared.ruled_out.set(format!(
                "--payload-bytes {asked} is more than this server takes: its Welcome says payload_bytes_max {most}"
            ));
        }
        if welcome.heartbeat_s > 0 {
            state.heartbeat = Duration::from_secs(u64::from(welcome.heartbeat_s));
        }
        if !std::mem::replace(&mut state.connected_once, true) {
            self.context.connected();
            state.backlog_head = if welcome.head > welcome.acknowledged { welcome.head } else { 0 };
        }
        self.ready(state);
        self.pump(state, link);
    }

    pub(super) fn ready(&self, state: &mut State) {
        if state.membership.is_complete()
            && state.backlog_head == 0
            && !std::mem::replace(&mut state.ready, true)
        {
            Counters::add(&self.context.shared.counters.ready);
        }
    }

    pub(super) fn event(&self, state: &mut State, link: &dyn Outlet, event: &Event) {
        if self.context.ledger.borrow_mut().event(self.client, event.seq) {
            match &event.body {
                Some(event::Body::Message(message)) => self.delivered(state, event.seq, message),
                Some(event::Body::Receipt(receipt)) => self.receipt(receipt),
                Some(event::Body::Group(info)) => self.joined(state, info),
                None => (),
            }
        }
        state.ack_due = state.ack_due.max(event.seq);
        state.events_unacknowledged += 1;
        if state.backlog_head > 0 && event.seq >= state.backlog_head {
            state.backlog_head = 0;
            self.ready(state);
        }
        if state.events_unacknowledged >= ACK_EVENTS_MAX {
            self.acknowledge(state, link);
        } else if state.ack_at.is_none() {
            state.ack_at = Some(self.context.flush_later(self.place));
        }
    }

    pub(super) fn delivered(&self, state: &mut State, seq: u64, message: &Message) {
        let plan = &self.context.shared.plan;
        let mut ledger = self.context.ledger.borrow_mut();
        let Some(index) = self.index(&message.client_id) else {
            ledger.counted().foreign += 1;
            return;
        };
        let (at, sender) = (index as usize, plan.sender[index as usize]);
        let header = payload::parse(&message.payload);
        let expected = payload::Header { sender: plan.user(sender), at_us: plan.at_us[at], index };
        let to = message.to.as_option().and_then(|address| address.to.clone());
        let own = match plan.target(index) {
            Target::Group(group) => self.group_number(state, group).map(address::To::Group),
            _ => Some(address::To::User(plan.user(self.client))),
        };
        if header != Some(expected) || message.from != expected.sender || to.is_none() || to != own {
            ledger.violation();
        }
        if ledger.delivered(plan, self.client, seq, index, message.id) != Delivery::First {
            return;
        }
        Counters::add(&self.context.shared.counters.received);
        let (at_us, now_us) = (plan.at_us[at], self.context.now_us());
        let away = [sender, self.client].iter().any(|&client| plan.is_offline_within(client, at_us, now_us));
        let mut meters = self.context.meters.borrow_mut();
        let latency = match plan.is_slow(self.client) {
            _ if away => &mut meters.latency_offline,
            true => &mut meters.latency_slow,
            false => &mut meters.latency,
        };
        latency.saturating_record(now_us.saturating_sub(at_us));
        drop(meters);
        self.context.phase_latency(at_us, now_us.saturating_sub(at_us));
        // The share is spread over the numbers, the same in every run with this seed.
        let read_share = self.context.shared.options.read_share();
        if f64::from(index.wrapping_mul(2_654_435_769)) < read_share * f64::from(u32::MAX) {
            state.reads.push(message.id);
        }
    }

    pub(super) fn receipt(&self, receipt: &Receipt) {
        let mut ledger = self.context.ledger.borrow_mut();
        let Some(mark) = receipt.mark.as_known() else { return ledger.violation() };
        for &id in &receipt.message {
            let new = ledger.receipt(&self.context.shared.plan, self.client, mark, receipt.by, id);
            if new && mark == Mark::DELIVERED {
                Counters::add(&self.context.shared.counters.receipts);
            }
        }
    }

    /// Acknowledges all that came, and tells what was read.
    pub(super) fn acknowledge(&self, state: &mut State, link: &dyn Outlet) {
        if state.standing != Standing::Welcomed {
            return;
        }
        if state.ack_due > 0 {
            self.frame(state, link, &wire::ack(state.ack_due), None);
            self.context.ledger.borrow_mut().acknowledged(self.client, state.ack_due);
            state.forget_events();
        }
        while !state.reads.is_empty() {
            let rest = state.reads.split_off(state.reads.len().min(READ_MESSAGES_MAX));
            let read = std::mem::replace(&mut state.reads, rest);
            self.frame(state, link, &wire::read(read), None);
        }
    }
}
