//! How clients come to their groups: one member of each makes it once all clients are users, the others are told.

use super::{Chat, State};
use crate::link::Outlet;
use crate::wire;
use roost_proto::v1::GroupInfo;

/// `ClientFrame.id` of the command that makes a client's first group; those of its others are below, and above the numbers of all
/// messages.
const CREATE_ID: u32 = u32::MAX;

/// What a client knows of its groups.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// By place among the client's groups.
    groups: Vec<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The server's number.
    number: Option<u64>,
    /// The command that makes it is on its way.
    asked: bool,
}

impl Membership {
    /// Of a client that is in so many groups.
    pub(super) fn new(groups: usize) -> Self {
        Self { groups: vec![Known::default(); groups] }
    }

    /// Whether the numbers of all groups are known.
    pub(super) fn is_complete(&self) -> bool {
        self.groups.iter().all(|group| group.number.is_some())
    }

    /// The command that bears this id was refused: it is sent again. False where it is no such command.
    pub(super) fn refused(&mut self, reply_to: u32) -> bool {
        let asked = self.groups.get_mut((CREATE_ID - reply_to) as usize).filter(|group| group.asked);
        asked.map(|group| group.asked = false).is_some()
    }

    /// The answers to all commands went with the connection: they are sent again.
    pub(super) fn all_refused(&mut self) {
        self.groups.iter_mut().for_each(|group| group.asked = false);
    }
}

impl Chat {
    /// The client's groups, rising.
    fn groups(&self) -> &[u32] {
        self.context.shared.plan.groups.of(self.client)
    }

    /// The server's number of a group, where the client is in it and knows.
    pub(super) fn group_number(&self, state: &State, group: u32) -> Option<u64> {
        let place = self.groups().binary_search(&group).ok()?;
        state.membership.groups[place].number
    }

    /// Makes the groups that are this client's to make, once it is time.
    pub(super) fn create(&self, state: &mut State, link: &dyn Outlet) {
        let shared = &self.context.shared;
        let (plan, counters) = (&shared.plan, &shared.counters);
        // Nobody can be in a group before being a user.
        if state.membership.is_complete() || counters.connected_anywhere() < u64::from(plan.params.clients) {
            return;
        }
        for (place, &group) in self.groups().iter().enumerate() {
            let known = &mut state.membership.groups[place];
            if known.asked || known.number.is_some() || plan.groups.maker(group) != Some(self.client) {
                continue;
            }
            known.asked = true;
            let others = plan.groups.members(group).iter().filter(|&&member| member != self.client);
            let others = others.map(|&member| plan.user(member)).collect();
            let id = CREATE_ID - place as u32;
            self.frame(state, link, &wire::create_group(id, self.group_name(group), others), None);
        }
    }

    /// The client was told of a group. Where the answer to the first command was lost there are two of the same name: all take the older.
    pub(super) fn joined(&self, state: &mut State, info: &GroupInfo) {
        let ours = self.groups().iter().position(|&group| self.group_name(group) == info.name);
        let Some(place) = ours else { return };
        if !info.member.iter().any(|member| member.user == self.context.shared.plan.user(self.client)) {
            self.context.ledger.borrow_mut().violation();
        }
        let known = &mut state.membership.groups[place].number;
        *known = Some(known.map_or(info.group, |known| known.min(info.group)));
        self.ready(state);
    }

    /// Of this run, so that groups of earlier ones are told apart.
    fn group_name(&self, group: u32) -> String {
        format!("loadgen {:016x} {group}", self.context.shared.run_id)
    }
}
