//! How the clients of `group` come to their groups: the first of each group makes it once all clients are users, the others are told.

use super::{Chat, State};
use crate::link::Outlet;
use crate::wire;
use roost_proto::v1::GroupInfo;

/// `ClientFrame.id` of the command that makes a group: above the numbers of all messages.
pub(super) const CREATE_ID: u32 = u32::MAX;

/// What a client knows of its group.
#[derive(Debug, Default)]
pub(super) struct Membership {
    group: Option<u64>,
    /// The command that makes it is on its way.
    asked: bool,
}

impl Membership {
    /// The number of the client's group, once it is known.
    pub(super) fn group(&self) -> Option<u64> {
        self.group
    }

    /// The command was refused, or its answer went with the connection: it is sent again.
    pub(super) fn refused(&mut self) {
        self.asked = false;
    }
}

impl Chat {
    /// Makes the client's group, where that is its part and its time.
    pub(super) fn create(&self, state: &mut State, link: &dyn Outlet) {
        let shared = &self.context.shared;
        let (plan, counters) = (&shared.plan, &shared.counters);
        // Nobody can be in a group before being a user.
        let all_are_users = || counters.connected_anywhere() >= u64::from(plan.params.clients);
        let is_first = self.client < plan.groups();
        if !is_first || state.membership.asked || state.membership.group.is_some() || !all_are_users() {
            return;
        }
        state.membership.asked = true;
        let others = plan.members(self.client).filter(|&member| member != self.client);
        let others = others.map(|member| plan.user(member)).collect();
        self.frame(state, link, &wire::create_group(CREATE_ID, self.group_name(), others), None);
    }

    /// The client was told of a group. Where the answer to the first command was lost there are two of the same name: all take the older.
    pub(super) fn joined(&self, state: &mut State, info: &GroupInfo) {
        if info.name != self.group_name() {
            return;
        }
        if !info.member.iter().any(|member| member.user == self.context.shared.plan.user(self.client)) {
            self.context.ledger.borrow_mut().violation();
        }
        let known = &mut state.membership.group;
        *known = Some(known.map_or(info.group, |known| known.min(info.group)));
        self.ready(state);
    }

    /// Of this run, so that groups of earlier ones are told apart.
    fn group_name(&self) -> String {
        let shared = &self.context.shared;
        format!("loadgen {:016x} {}", shared.run_id, shared.plan.group(self.client))
    }
}
