//! Users with their devices around a server that dies at times.

use crate::{
    PARTITIONS,
    device::{Asked, Device, GroupAsked, Removal, Session},
    disk::Disk,
    groups::MEMBERS_MAX,
    host::Host,
    model::{Model, To, time_of_seq},
    random::Rng,
    thread::{Fate, Seen},
};
use roost_proto::v1::{self, group_command::Command};
use roost_router::{
    Config, Rules,
    log::{self, Origin, command::Body},
    partition::{group_home, home, pair_home},
};
use std::sync::Arc;

/// When it all begins: days of Unix time matter to the router, so it is an odd one.
pub const START_MS: u64 = 1_790_000_123_456;
/// The shard that answers to calls are for.
pub const CALLS: u32 = 9;
/// Turns in which a server without new requests comes to rest.
const TURNS_MAX: usize = 400;

pub struct World {
    pub rng: Rng,
    pub now_ms: u64,
    pub host: Host,
    pub devices: Vec<Device>,
    pub users: u64,
    pub model: Model,
    /// The disk has failed since the process began.
    pub is_troubled: bool,
    pub removals: Vec<Removal>,
    /// So much time passed at once that something may be too old.
    pub has_jumped: bool,
    generation: u32,
    frame: u32,
    pub client_id: u64,
    /// Tells each step.
    is_told: bool,
}

fn rules() -> Rules {
    Rules {
        heartbeat_s: 1,
        window_events_max: 3,
        window_bytes_max: 400,
        group_members_max: MEMBERS_MAX,
        trim_events_max: 2,
        ..Config::default().rules()
    }
}

/// A seq, or a message's id without its partition, as the trace shows it: milliseconds since the start, and the count.
pub fn place(seq: u64) -> String {
    if seq == 0 { "0".into() } else { format!("{}.{}", time_of_seq(seq).wrapping_sub(START_MS), seq & 0xFFF) }
}

impl World {
    pub fn new(seed: u64, disk: Disk, is_told: bool) -> Self {
        let mut rng = Rng(seed);
        let users = 2 + rng.below(4);
        let mut devices = Vec::new();
        for user in 1..=users {
            devices.extend((1..=1 + rng.below(3) as u32).map(|number| Device::new(user, number)));
        }
        let threads = 1 + rng.below(3) as usize;
        Self {
            host: Host::boot(Arc::new(disk), threads, rules()),
            rng,
            now_ms: START_MS + 1000,
            devices,
            users,
            model: Model::default(),
            is_troubled: false,
            removals: Vec::new(),
            has_jumped: false,
            generation: 0,
            frame: 0,
            client_id: 0,
            is_told,
        }
    }

    /// For whoever replays a seed.
    pub fn tell(&self, what: impl FnOnce(&Self) -> String) {
        if self.is_told {
            println!("{:>8} ms  {}", self.now_ms - START_MS, what(self));
        }
    }

    fn origin(&mut self, n: usize, asked: Option<Asked>) -> Origin {
        let device = &mut self.devices[n];
        let generation = device.session.as_ref().map_or(0, |session| session.generation);
        let mut id = 0;
        if let Some(asked) = asked {
            self.frame += 1;
            id = self.frame;
            if let Some(session) = &mut device.session {
                session.asked.insert(id, asked);
            }
        }
        let (user, device) = (device.user, device.number);
        Origin { slot: n as u32, generation, user, device, id, ..Origin::default() }
    }

    fn home_of(&self, n: usize) -> u16 {
        home(self.devices[n].user, PARTITIONS)
    }

    /// A device connects; the session it had is replaced.
    pub fn attach(&mut self, n: usize) {
        self.generation += 1;
        let generation = self.generation;
        self.tell(|world| format!("{} connects as session {generation}", world.devices[n]));
        self.devices[n].is_connecting = true;
        self.devices[n].session = Some(Session {
            generation,
            is_welcomed: false,
            newest: 0,
            one_time_keys: 0,
            asked: std::collections::BTreeMap::new(),
        });
        let origin = self.origin(n, None);
        self.host.submit(self.home_of(n), log::Attach { origin: origin.into() }.into());
    }

    pub fn detach(&mut self, n: usize) {
        self.tell(|world| format!("{} disconnects", world.devices[n]));
        let origin = self.origin(n, None);
        (self.devices[n].session, self.devices[n].is_here) = (None, false);
        self.host.submit(self.home_of(n), log::Detach { origin: origin.into() }.into());
    }

    /// Says what the model knows under this number, for the first time or again.
    pub fn say(&mut self, n: usize, number: u64) {
        let Self { model, devices, .. } = self;
        let said = model.said.get_mut(&number).expect("it is in the model before it is said");
        said.attempts += 1;
        let send = v1::Send {
            to: said.to.address().into(),
            client_id: number.to_be_bytes().to_vec().into(),
            kind: said.kind.into(),
            payload: said.payload.clone().into(),
            sealed: said.sealed.clone(),
        };
        let partition = match said.to {
            To::User(to) => pair_home(devices[n].user, to, PARTITIONS),
            To::Group(group) => group_home(group, PARTITIONS).expect("nobody knows a group without a home"),
        };
        let origin = self.origin(n, Some(Asked::Say(number)));
        self.submit_send(partition, origin, send);
    }

    pub fn submit_send(&mut self, partition: u16, origin: Origin, send: v1::Send) {
        let send = log::Send { origin: origin.into(), send: send.into(), receiver_known: false };
        self.host.submit(partition, send.into());
    }

    pub fn say_to_nobody(&mut self, n: usize) {
        let nobody = self.users + 1000;
        self.tell(|world| format!("{} sends to {nobody}, who does not exist", world.devices[n]));
        let send = v1::Send {
            to: To::User(nobody).address().into(),
            client_id: b"nobody".to_vec().into(),
            ..v1::Send::default()
        };
        let partition = pair_home(self.devices[n].user, nobody, PARTITIONS);
        let origin = self.origin(n, Some(Asked::SayToNobody));
        self.submit_send(partition, origin, send);
    }

    pub fn group(&mut self, n: usize, group: u64, command: Command) {
        self.tell(|world| format!("{} says to group {}: {command:?}", world.devices[n], place(group >> 10)));
        let joining = match &command {
            Command::Create(create) => &create.member[..],
            Command::Add(users) => &users.user[..],
            _ => &[],
        };
        let is_known = |user: &u64| self.devices.iter().any(|d| d.user == *user && d.registered.is_some());
        let is_joining_known = joining.iter().all(is_known);
        let since = self.model.groups.newest(group).map_or(0, |info| info.version);
        let asked = GroupAsked { group, command: command.clone(), since, is_joining_known };
        let origin = self.origin(n, Some(Asked::Group(asked)));
        let home = (group != 0).then(|| group_home(group, PARTITIONS)).flatten();
        let command = v1::GroupCommand { group, command: Some(command) };
        let command = log::Group { origin: origin.into(), command: command.into(), unknown: 0 };
        self.host.submit(home.unwrap_or_else(|| self.home_of(n)), command.into());
    }

    pub fn publish(&mut self, n: usize, count: u64) {
        self.tell(|world| format!("{} publishes {count} one-time keys", world.devices[n]));
        let owner = (self.devices[n].user, self.devices[n].number);
        let keys = self.model.keys.make(owner, count);
        let origin = self.origin(n, Some(Asked::Publish(count)));
        self.host
            .submit(self.home_of(n), log::KeysPublish { origin: origin.into(), keys: keys.into() }.into());
    }

    pub fn fetch(&mut self, n: usize, user: u64) {
        self.tell(|world| format!("{} fetches the keys of {user}", world.devices[n]));
        let of_user = self.devices.iter().filter(|device| device.user == user).map(|device| device.number);
        let published = of_user.filter(|number| self.model.keys.has_published((user, *number))).collect();
        self.model.keys.fetching(user);
        let origin = self.origin(n, Some(Asked::Fetch(user, published)));
        self.host.submit(home(user, PARTITIONS), log::KeysFetch { origin: origin.into(), user }.into());
    }

    /// The user has a new device in the place of this one, which is removed.
    pub fn replace(&mut self, n: usize) {
        let (user, device) = (self.devices[n].user, self.devices[n].number);
        let number = 4 + self.removals.len() as u32;
        self.tell(|_| format!("{user} removes device {device}, and has {number} instead"));
        self.frame += 1;
        self.removals.push(Removal { user, device, id: self.frame, is_done: false });
        self.model.removed.insert(user);
        self.ask_to_remove(self.removals.len() - 1);
        for number in std::mem::replace(&mut self.devices[n], Device::new(user, number)).waiting {
            self.model.said.get_mut(&number).expect("it was said").is_given_up = true;
        }
        for said in self.model.said.values_mut() {
            said.must_reach.retain(|other| *other != n);
            said.must_hear.retain(|other| *other != n);
        }
    }

    pub fn ask_to_remove(&mut self, index: usize) {
        let Removal { user, device, id, .. } = self.removals[index];
        let origin = Origin { shard: CALLS, user, device, id, call: true, ..Origin::default() };
        self.host.submit(home(user, PARTITIONS), log::RemoveDevice { origin: origin.into(), device }.into());
    }

    pub fn ack(&mut self, n: usize, up_to: u64) {
        self.tell(|world| format!("{} acknowledges {}", world.devices[n], place(up_to)));
        let origin = self.origin(n, Some(Asked::Ack(up_to)));
        self.host.submit(self.home_of(n), log::Ack { origin: origin.into(), up_to }.into());
    }

    pub fn read(&mut self, n: usize, message: Vec<u64>) {
        self.tell(|world| {
            let names: Vec<_> = message.iter().map(|id| world.name(*id)).collect();
            format!("{} has read {}", world.devices[n], names.join(", "))
        });
        let user = self.devices[n].user;
        self.model.read_asked.extend(message.iter().map(|id| (user, *id)));
        let origin = self.origin(n, Some(Asked::Read(message.clone())));
        self.host.submit(self.home_of(n), log::Read { origin: origin.into(), message }.into());
    }

    /// A message by its id, for the trace.
    pub fn name(&self, id: u64) -> String {
        let number =
            self.model.ids.get(&id).map_or("an unknown message".into(), |number| format!("#{number}"));
        format!("{number} ({})", place(id >> 10))
    }

    pub fn tick(&mut self, partition: u16) {
        self.host.submit(partition, Body::from(log::Tick::default()));
    }

    pub fn turn(&mut self, thread: usize, fate: Fate, most: usize) {
        self.host.turn(thread, fate, most, self.now_ms, &mut self.rng);
        for seen in std::mem::take(&mut self.host.seen) {
            match seen {
                Seen::Effect(effect) => self.observe(effect),
                Seen::Ticked(partitions) => self.ticked(&partitions),
                Seen::Durable(partitions) => self.durable(&partitions),
                Seen::Died => self.reboot(),
            }
        }
    }

    /// Whoever is connected was here today, once that is durable.
    fn ticked(&mut self, partitions: &[u16]) {
        let (now_ms, is_troubled) = (self.now_ms, self.is_troubled);
        for device in self.devices.iter_mut().filter(|device| device.is_here && !is_troubled) {
            if partitions.contains(&home(device.user, PARTITIONS)) {
                device.noted_ms = now_ms;
            }
        }
    }

    /// Whoever was welcomed is registered.
    pub fn durable(&mut self, partitions: &[u16]) {
        for device in &mut self.devices {
            if partitions.contains(&home(device.user, PARTITIONS)) {
                device.registered = device.registered.or(device.told);
                device.seen_ms = device.seen_ms.max(device.noted_ms);
            }
        }
    }

    /// The process is gone, and another begins.
    pub fn reboot(&mut self) {
        let threads = 1 + self.rng.below(3) as usize;
        self.tell(|_| format!("the server dies; it starts with {threads} threads"));
        for device in &mut self.devices {
            (device.session, device.is_here, device.noted_ms) = (None, false, 0);
            device.is_ambiguous |=
                device.registered.is_none() && (device.told.is_some() || device.is_connecting);
            device.told = device.registered;
            device.is_connecting = false;
        }
        self.host.disk.reboot();
        self.is_troubled = false;
        self.host = Host::boot(self.host.disk.clone(), threads, rules());
    }

    /// The server has time enough.
    pub fn rest(&mut self) {
        for _ in 0..TURNS_MAX {
            let threads = 0..self.host.threads();
            if threads.clone().all(|thread| self.host.is_idle(thread)) {
                return;
            }
            threads.for_each(|thread| self.turn(thread, Fate::Well, 1000));
        }
        panic!("the server does not come to rest");
    }

    /// Time that the process lives through, or in which the machine stands still.
    pub fn let_pass(&mut self, ms: u64, is_alive: bool) {
        self.now_ms += ms;
        self.has_jumped = true;
        self.tell(|_| format!("{} hours have passed; alive: {is_alive}", ms / (60 * 60 * 1000)));
        if is_alive {
            (0..PARTITIONS).for_each(|partition| self.tick(partition));
        }
    }
}
