//! Several partitions on one thread, with what they tell each other applied in the batch that says so: for tests of groups.

use crate::{
    api::{Action, Effect},
    config::{Config, Rules},
    log::{self, command::Body},
    partition::{Output, Partition, Skip, Tx, group_home, home},
    store::{Batch, MemoryStore, Store},
};
use buffa::Message as _;
use roost_proto::v1::{self, Code, GroupInfo, Mark, address::To, event, group_command, server_frame};

pub(in crate::partition) const PARTITIONS: u16 = 4;

/// Every user's devices sit in slots of their own: user * 10 + device.
pub(in crate::partition) struct Bed {
    pub(in crate::partition) partitions: Vec<Partition>,
    pub(in crate::partition) store: MemoryStore,
    pub(in crate::partition) now_ms: u64,
    rules: Rules,
}

pub(in crate::partition) fn origin(user: u64, device: u32) -> log::Origin {
    log::Origin { slot: user as u32 * 10 + device, user, device, id: 9, ..log::Origin::default() }
}

pub(in crate::partition) fn say(group: u64, client_id: &[u8]) -> v1::Send {
    v1::Send {
        to: v1::Address { to: Some(To::Group(group)) }.into(),
        client_id: client_id.to_vec().into(),
        payload: vec![7; 100].into(),
        ..v1::Send::default()
    }
}

pub(in crate::partition) fn users(user: &[u64]) -> group_command::Members {
    group_command::Members { user: user.to_vec() }
}

pub(in crate::partition) fn add(user: &[u64]) -> group_command::Command {
    group_command::Command::Add(users(user).into())
}

pub(in crate::partition) fn remove(user: &[u64]) -> group_command::Command {
    group_command::Command::Remove(users(user).into())
}

impl Bed {
    pub(in crate::partition) fn new() -> Self {
        Self::with(Config::default().rules())
    }

    pub(in crate::partition) fn with(rules: Rules) -> Self {
        let store = MemoryStore::default();
        let mut bed = Self { partitions: Vec::new(), store, now_ms: 1_000_000, rules };
        bed.restart();
        bed
    }

    /// All that is not stored is gone, sessions as well.
    pub(in crate::partition) fn restart(&mut self) {
        let open = |n| Partition::open(n, PARTITIONS, self.rules, &self.store).unwrap();
        self.partitions = (0..PARTITIONS).map(open).collect();
    }

    /// Where a command belongs.
    fn route(command: &Body) -> u16 {
        let user_home = |origin: &log::Origin| home(origin.user, PARTITIONS);
        let of_group = |group, origin| group_home(group, PARTITIONS).unwrap_or_else(|| user_home(origin));
        match command {
            Body::Group(c) if c.command.group == 0 => user_home(&c.origin),
            Body::Group(c) => of_group(c.command.group, &c.origin),
            Body::Send(c) => match c.send.to.to {
                Some(To::Group(group)) => of_group(group, &c.origin),
                Some(To::User(user)) => crate::partition::pair_home(user, c.origin.user, PARTITIONS),
                None => user_home(&c.origin),
            },
            Body::Attach(c) => user_home(&c.origin),
            Body::Detach(c) => user_home(&c.origin),
            Body::Ack(c) => user_home(&c.origin),
            Body::Read(c) => user_home(&c.origin),
            Body::Watch(c) => user_home(&c.origin),
            Body::Typing(c) => match c.typing.to.to {
                Some(To::Group(group)) => of_group(group, &c.origin),
                Some(To::User(user)) => crate::partition::pair_home(user, c.origin.user, PARTITIONS),
                None => user_home(&c.origin),
            },
            other => panic!("{other:?} has no home of its own"),
        }
    }

    /// Applies a command, and what comes of it in other partitions, to an open batch.
    pub(in crate::partition) fn apply(
        &mut self,
        at: u16,
        command: &Body,
        batch: &mut Batch,
        out: &mut Output,
    ) {
        let mut tx = Tx { store: &self.store, batch, now_ms: self.now_ms, out };
        self.partitions[usize::from(at)].apply(command, &mut tx).unwrap();
        while !tx.out.forwards.is_empty() {
            for (_, to, forward) in std::mem::take(&mut tx.out.forwards) {
                self.partitions[usize::from(to)].take_local(&forward, &mut tx).unwrap();
            }
        }
        while let Some((to, whisper)) = tx.out.whispers.pop_front() {
            self.partitions[usize::from(to)].hear_whisper(&whisper, &mut tx).unwrap();
        }
    }

    /// One batch that is stored: what leaves then, and what refills bring.
    pub(in crate::partition) fn run(&mut self, commands: impl IntoIterator<Item = Body>) -> Vec<Effect> {
        let commands: Vec<_> = commands.into_iter().map(|command| (Self::route(&command), command)).collect();
        self.batch(&commands)
    }

    pub(in crate::partition) fn batch(&mut self, commands: &[(u16, Body)]) -> Vec<Effect> {
        let (mut batch, mut out) = (Batch::default(), Output::default());
        for (at, command) in commands {
            self.apply(*at, command, &mut batch, &mut out);
        }
        self.partitions.iter().for_each(|partition| partition.flush(&mut batch));
        self.store.commit(&batch).unwrap();
        self.partitions.iter_mut().for_each(Partition::committed);
        let mut effects = std::mem::take(&mut out.at_once);
        effects.append(&mut out.effects);
        effects.extend(self.refill());
        effects
    }

    fn refill(&mut self) -> Vec<Effect> {
        let (mut effects, mut skips) = (Vec::new(), Vec::new());
        for partition in &mut self.partitions {
            let number = partition.number();
            while partition.wants_refill() {
                let found = partition.refill(&self.store, self.now_ms, &mut effects).unwrap();
                let skip =
                    |s: Skip| (number, log::Skip { user: s.user, device: s.device, up_to: s.up_to }.into());
                skips.extend(found.into_iter().map(skip));
            }
        }
        if !skips.is_empty() {
            effects.extend(self.batch(&skips));
        }
        effects
    }

    /// A batch that is applied and whose commit fails.
    pub(in crate::partition) fn fail(&mut self, commands: impl IntoIterator<Item = Body>) {
        let (mut batch, mut out) = (Batch::default(), Output::default());
        for command in commands {
            self.apply(Self::route(&command), &command, &mut batch, &mut out);
        }
        for partition in &mut self.partitions {
            partition.flush(&mut batch);
            partition.rollback(&self.store).unwrap();
        }
    }

    pub(in crate::partition) fn attach(&mut self, user: u64, device: u32) -> Vec<Effect> {
        self.run([log::Attach { origin: origin(user, device).into() }.into()])
    }

    pub(in crate::partition) fn detach(&mut self, user: u64, device: u32) {
        self.run([log::Detach { origin: origin(user, device).into() }.into()]);
    }

    /// Time passes everywhere.
    pub(in crate::partition) fn tick(&mut self) {
        let ticks: Vec<_> = (0..PARTITIONS).map(|number| (number, log::Tick {}.into())).collect();
        self.batch(&ticks);
    }

    pub(in crate::partition) fn attach_all(&mut self, users: impl IntoIterator<Item = u64>) {
        users.into_iter().for_each(|user| drop(self.attach(user, 1)));
    }

    pub(in crate::partition) fn command(by: u64, group: u64, command: group_command::Command) -> Body {
        let command = v1::GroupCommand { group, command: Some(command) };
        log::Group { origin: origin(by, 1).into(), command: command.into(), unknown: 0 }.into()
    }

    pub(in crate::partition) fn group(
        &mut self,
        by: u64,
        group: u64,
        command: group_command::Command,
    ) -> Vec<Effect> {
        self.run([Self::command(by, group, command)])
    }

    pub(in crate::partition) fn create(&mut self, by: u64, member: &[u64]) -> u64 {
        let create = group_command::Create { name: "friends".into(), member: member.to_vec() };
        info(by, &self.group(by, 0, create.into())).group
    }

    pub(in crate::partition) fn send(&mut self, from: u64, device: u32, send: v1::Send) -> Vec<Effect> {
        self.run([Self::said(from, device, send)])
    }

    pub(in crate::partition) fn said(from: u64, device: u32, send: v1::Send) -> Body {
        log::Send { origin: origin(from, device).into(), send: send.into(), receiver_known: true }.into()
    }

    pub(in crate::partition) fn ack(&mut self, user: u64, device: u32, up_to: u64) -> Vec<Effect> {
        self.run([log::Ack { origin: origin(user, device).into(), up_to }.into()])
    }

    pub(in crate::partition) fn read(&mut self, user: u64, message: Vec<u64>) -> Vec<Effect> {
        self.run([log::Read { origin: origin(user, 1).into(), message }.into()])
    }
}

pub(in crate::partition) fn to(user: u64, device: u32, effects: &[Effect]) -> Vec<Action> {
    let slot = user as u32 * 10 + device;
    effects.iter().filter(|e| e.session.slot == slot).map(|e| e.action.clone()).collect()
}

pub(in crate::partition) fn events(user: u64, device: u32, effects: &[Effect]) -> Vec<v1::Event> {
    let event = |action: &Action| match action {
        Action::Event(bytes) => Some(v1::Event::decode_from_slice(bytes).unwrap()),
        _ => None,
    };
    to(user, device, effects).iter().filter_map(event).collect()
}

/// The messages among what the first device of a user is told.
pub(in crate::partition) fn messages(user: u64, effects: &[Effect]) -> Vec<u64> {
    let message = |event: v1::Event| match event.body {
        Some(event::Body::Message(message)) => Some(message.id),
        _ => None,
    };
    events(user, 1, effects).into_iter().filter_map(message).collect()
}

/// The versions of groups among what the first device of a user is told.
pub(in crate::partition) fn versions(user: u64, effects: &[Effect]) -> Vec<u64> {
    let version = |event: v1::Event| match event.body {
        Some(event::Body::Group(info)) => Some(info.version),
        _ => None,
    };
    events(user, 1, effects).into_iter().filter_map(version).collect()
}

pub(in crate::partition) fn receipts(user: u64, effects: &[Effect]) -> Vec<(Mark, u64, Vec<u64>)> {
    let receipt = |event: v1::Event| match event.body {
        Some(event::Body::Receipt(r)) => Some((r.mark.as_known()?, r.by, r.message)),
        _ => None,
    };
    events(user, 1, effects).into_iter().filter_map(receipt).collect()
}

pub(in crate::partition) fn answer(user: u64, effects: &[Effect]) -> server_frame::Body {
    let body = |action: Action| match action {
        Action::Frame(frame) if frame.reply_to == 9 => frame.body,
        _ => None,
    };
    to(user, 1, effects).into_iter().find_map(body).expect("an answer")
}

pub(in crate::partition) fn info(user: u64, effects: &[Effect]) -> GroupInfo {
    match answer(user, effects) {
        server_frame::Body::Group(info) => *info,
        other => panic!("not a group: {other:?}"),
    }
}

pub(in crate::partition) fn sent(user: u64, effects: &[Effect]) -> v1::Sent {
    match answer(user, effects) {
        server_frame::Body::Sent(sent) => *sent,
        other => panic!("not a Sent: {other:?}"),
    }
}

pub(in crate::partition) fn error(user: u64, effects: &[Effect]) -> (Code, String) {
    match answer(user, effects) {
        server_frame::Body::Error(error) => (error.code.as_known().unwrap(), error.message),
        other => panic!("not an Error: {other:?}"),
    }
}
