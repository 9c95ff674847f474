//! What happens at random. Each seed has its own habits, so that what is rare in one is common in another.

use crate::{
    PARTITIONS,
    model::{DAY_MS, HOUR_MS, RETENTION_MS, Said, To},
    random::Rng,
    thread::Fate,
    world::{World, place},
};
use roost_proto::v1::{
    Kind, Sealed, event,
    group_command::{Command, Create, Members},
};

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Turn,
    Attach,
    Detach,
    Say,
    SayAgain,
    Ack,
    Read,
    Group,
    Publish,
    Fetch,
    Replace,
    Tick,
    Disturb,
    Trouble,
    LetPass,
}

/// What is done how often, and how.
pub struct Habits {
    steps: Vec<Step>,
    /// One turn in so many ends in a crash.
    crashes: u64,
    /// Commands of one batch.
    batch: u64,
    /// One message in so many is a status, or sealed.
    statuses: u64,
    sealed: u64,
    /// One message in so many is to a group.
    grouped: u64,
}

impl Habits {
    pub fn new(rng: &mut Rng) -> Self {
        let mut steps = Vec::new();
        let often = [
            (Step::Turn, 12, 30),
            (Step::Attach, 1, 4),
            (Step::Detach, 0, 2),
            (Step::Say, 4, 12),
            (Step::SayAgain, 0, 2),
            (Step::Ack, 2, 10),
            (Step::Read, 0, 3),
            (Step::Group, 0, 5),
            (Step::Publish, 0, 2),
            (Step::Fetch, 0, 3),
            (Step::Tick, 0, 3),
            (Step::Disturb, 0, 2),
            (Step::Trouble, 0, 2),
        ];
        for (step, least, most) in often {
            let count = least + rng.below(most - least + 1);
            steps.extend((0..count).map(|_| step));
        }
        if rng.one_in(4) {
            steps.push(Step::Replace);
        }
        if rng.one_in(3) {
            steps.push(Step::LetPass);
        }
        let batch = rng.pick(&[2, 8, 30]).unwrap();
        let statuses = rng.pick(&[3, 10, u64::MAX]).unwrap();
        let sealed = rng.pick(&[2, 6, u64::MAX]).unwrap();
        let (crashes, grouped) = (rng.pick(&[10, 40, 200]).unwrap(), rng.pick(&[2, 4, 30]).unwrap());
        Self { steps, crashes, batch, statuses, sealed, grouped }
    }
}

impl World {
    pub fn step(&mut self, habits: &Habits) {
        self.now_ms = (self.now_ms + self.rng.below(4)).saturating_sub(self.rng.below(2));
        let n = self.rng.index(self.devices.len());
        let is_here = self.devices[n].session.is_some();
        match self.rng.pick(&habits.steps).expect("there are habits") {
            Step::Turn => self.some_turn(habits),
            Step::Attach => self.attach(n),
            Step::Detach if is_here => self.detach(n),
            Step::Say if is_here => self.say_something(n, habits),
            Step::SayAgain if is_here => self.say_again(n),
            Step::Ack if is_here => self.ack_some(n),
            Step::Read if is_here => self.read_some(n),
            Step::Group if is_here => self.some_group(n),
            Step::Publish if is_here => {
                let count = self.rng.below(5);
                self.publish(n, count);
            }
            Step::Fetch if is_here => {
                let user = 1 + self.rng.below(self.users);
                self.fetch(n, user);
            }
            // What is still on its way would make it a device again.
            Step::Replace if !self.devices[n].is_connecting => self.replace(n),
            Step::Tick => {
                let partition = self.rng.below(u64::from(PARTITIONS)) as u16;
                self.tick(partition);
            }
            Step::Disturb => self.host.disturb(&mut self.rng),
            Step::Trouble => self.trouble(),
            Step::LetPass => self.let_some_pass(),
            _ => {}
        }
    }

    fn some_turn(&mut self, habits: &Habits) {
        let thread = self.rng.index(self.host.threads());
        let dies = [Fate::DiesApplying, Fate::DiesBefore, Fate::DiesDuring, Fate::DiesAfter];
        let is_fatal = self.rng.one_in(habits.crashes);
        let fate = if is_fatal { self.rng.pick(&dies).unwrap() } else { Fate::Well };
        let most = 1 + self.rng.below(habits.batch) as usize;
        self.tell(|_| format!("thread {thread} works at {most} commands: {fate:?}"));
        self.turn(thread, fate, most);
    }

    fn say_something(&mut self, n: usize, habits: &Habits) {
        if self.rng.one_in(30) {
            return self.say_to_nobody(n);
        }
        self.client_id += 1;
        let (number, from, device) = (self.client_id, self.devices[n].user, self.devices[n].number);
        let to = match self.rng.pick(&self.model.groups.numbers()) {
            Some(group) if self.rng.one_in(habits.grouped) => To::Group(group),
            _ => To::User(1 + self.rng.below(self.users)),
        };
        let kind = if self.rng.one_in(habits.statuses) { Kind::STATUS } else { Kind::TEXT };
        let sealed = if self.rng.one_in(habits.sealed) { self.seal(from, to) } else { Vec::new() };
        let size = if sealed.is_empty() { self.rng.below(200) as usize } else { 0 };
        let mut said = Said {
            from,
            device,
            to,
            kind,
            payload: vec![number as u8; size],
            sealed,
            begun_ms: self.now_ms,
            attempts: 0,
            id: None,
            is_answered: false,
            is_given_up: false,
            is_to_known: self.devices.iter().any(|d| To::User(d.user) == to && d.registered.is_some()),
            version: self.newest_version(to),
            must_reach: Vec::new(),
            must_hear: Vec::new(),
        };
        let must = |other: &usize| {
            let device = &self.devices[*other];
            let is_in = device.user == from || To::User(device.user) == to;
            is_in && device.registered.is_some() && said.is_for(device.user, device.number)
        };
        said.must_reach = (0..self.devices.len()).filter(must).collect();
        let is_own = |n: &usize| self.devices[*n].user == from && self.devices[*n].registered.is_some();
        said.must_hear = (0..self.devices.len()).filter(is_own).collect();
        self.tell(|world| {
            let sealed: Vec<_> = said.sealed.iter().map(|s| format!("{}:{}", s.user, s.device)).collect();
            let form =
                if sealed.is_empty() { "plain".into() } else { format!("sealed for {}", sealed.join(" ")) };
            format!("{} sends #{number} to {}: {kind:?}, {form}", world.devices[n], show(to))
        });
        self.model.said.insert(number, said);
        self.devices[n].waiting.push(number);
        self.say(n, number);
    }

    fn newest_version(&self, to: To) -> u64 {
        let To::Group(group) = to else { return 0 };
        self.model.groups.newest(group).map_or(0, |info| info.version)
    }

    /// For one device of the receiver at least, and for some more of both; in a group for some of anybody.
    fn seal(&mut self, from: u64, to: To) -> Vec<Sealed> {
        let (mut sealed, is_group) = (Vec::new(), matches!(to, To::Group(_)));
        for device in &self.devices {
            let is_to = To::User(device.user) == to;
            let is_needed = is_to && sealed.iter().all(|s: &Sealed| To::User(s.user) != to);
            if is_needed || (device.user == from || is_to || is_group) && self.rng.one_in(2) {
                let ciphertext = format!("{} for {device}", self.client_id).into_bytes().into();
                sealed.push(Sealed { user: device.user, device: device.number, ciphertext });
            }
        }
        sealed
    }

    /// Something that has no answer, or had one; by this device or another one of the user.
    fn say_again(&mut self, n: usize) {
        let user = self.devices[n].user;
        let again = |(number, said): (&u64, &Said)| {
            let is_young = self.now_ms.saturating_sub(said.begun_ms) < RETENTION_MS - DAY_MS;
            (said.from == user && said.device == self.devices[n].number && is_young && !said.is_given_up)
                .then_some(*number)
        };
        let numbers: Vec<u64> = self.model.said.iter().filter_map(again).collect();
        if let Some(number) = self.rng.pick(&numbers) {
            self.tell(|world| format!("{} sends #{number} again", world.devices[n]));
            self.say(n, number);
        }
    }

    fn some_group(&mut self, n: usize) {
        let group = self.rng.pick(&self.model.groups.numbers()).unwrap_or(0);
        let some = |world: &mut Self| {
            let count = 1 + world.rng.below(2);
            let users = world.users + u64::from(world.rng.one_in(20));
            (0..count).map(|_| 1 + world.rng.below(users)).collect::<Vec<_>>()
        };
        let own = self.devices[n].user;
        let (group, command) = match self.rng.below(if group == 0 { 1 } else { 12 }) {
            0 => (0, Command::Create(Create { name: "new".into(), member: some(self) }.into())),
            1..=3 => (group, Command::Add(Members { user: some(self) }.into())),
            4..=6 => (group, Command::Remove(Members { user: some(self) }.into())),
            7 => (group, Command::Remove(Members { user: vec![own] }.into())),
            8..=9 => (group, Command::Promote(Members { user: some(self) }.into())),
            10 => (group, Command::Rename(format!("named by {own}"))),
            _ => (group, Command::Info(true)),
        };
        self.group(n, group, command);
    }

    fn ack_some(&mut self, n: usize) {
        let device = &self.devices[n];
        let seen: Vec<u64> = device.got.range(device.acked + 1..).map(|(seq, _)| *seq).collect();
        if let Some(up_to) = self.rng.pick(&seen) {
            self.ack(n, up_to);
        }
    }

    fn read_some(&mut self, n: usize) {
        let message = |event: &roost_proto::v1::Event| match &event.body {
            Some(event::Body::Message(message)) => Some(message.id),
            _ => None,
        };
        let got: Vec<u64> = self.devices[n].got.values().filter_map(message).collect();
        if let (Some(one), Some(other)) = (self.rng.pick(&got), self.rng.pick(&got)) {
            self.read(n, vec![one, 12345, other]);
        }
    }

    fn trouble(&mut self) {
        if self.is_troubled && self.rng.one_in(2) {
            self.tell(|_| "the disk works again".into());
            return self.host.disk.mend();
        }
        self.is_troubled = true;
        self.devices.iter_mut().for_each(|device| device.noted_ms = 0);
        let what = self.host.disk.fail(&mut self.rng);
        self.tell(|_| what);
    }

    fn let_some_pass(&mut self) {
        let ms = [HOUR_MS, DAY_MS - HOUR_MS, DAY_MS, 3 * DAY_MS, 16 * DAY_MS, RETENTION_MS + 2 * DAY_MS];
        let ms = self.rng.pick(&ms).unwrap();
        let stands_still = self.rng.one_in(4);
        self.let_pass(ms, !stands_still);
        self.give_up();
    }

    /// What was said so long ago that its key may be forgotten is not said again.
    fn give_up(&mut self) {
        let now_ms = self.now_ms;
        let waiting = self.host.waiting_sends();
        let is_said_again = |number: &u64| waiting.contains(&&number.to_be_bytes()[..]);
        let open = |(number, said): &(&u64, &mut Said)| !said.is_answered || is_said_again(number);
        for (_, said) in self.model.said.iter_mut().filter(open) {
            said.is_given_up |= now_ms.saturating_sub(said.begun_ms) >= RETENTION_MS - DAY_MS;
        }
        for device in &mut self.devices {
            device.waiting.retain(|number| !self.model.said[number].is_given_up);
        }
    }
}

fn show(to: To) -> String {
    match to {
        To::User(user) => user.to_string(),
        To::Group(group) => format!("group {}", place(group >> 10)),
    }
}
