//! Presence and typing: who is told what, how often, and what is left of it.

use super::*;
use crate::limits::{
    DAY_MS, PAIRS_ASKED_TICK_MAX, PRESENCE_GRACE_MS, PRESENCE_NOTICES_TICK_MAX, TICK_MS, WATCH_USERS_MAX,
};

fn watch_by(user: u64, device: u32, users: impl IntoIterator<Item = u64>) -> Body {
    log::Watch { origin: origin(user, device, 1).into(), user: users.into_iter().collect() }.into()
}

fn typing_by(user: u64, to: Option<To>, active: bool) -> Body {
    let typing = v1::Typing { to: to.map(|to| v1::Address { to: Some(to) }).into(), active };
    log::Typing { origin: origin(user, 1, 1).into(), typing: typing.into() }.into()
}

/// What a device is told: user, online, last seen.
fn told(user: u64, device: u32, effects: &[Effect]) -> Vec<(u64, bool, u64)> {
    let presence = |action: Action| match action {
        Action::Frame(frame) => match frame.body {
            Some(server_frame::Body::Presence(p)) => Some((p.user, p.online, p.last_seen_ms)),
            _ => None,
        },
        _ => None,
    };
    to(user, device, effects).into_iter().filter_map(presence).collect()
}

impl Bed {
    fn watch(&mut self, user: u64, users: impl IntoIterator<Item = u64>) -> Vec<Effect> {
        self.run([watch_by(user, 1, users)])
    }

    fn detach(&mut self, user: u64, device: u32) {
        self.run([log::Detach { origin: origin(user, device, 1).into() }.into()]);
    }

    /// A tick, so long after the last one.
    fn tick(&mut self, after_ms: u64) -> Vec<Effect> {
        self.now_ms += after_ms;
        self.run([log::Tick::default().into()])
    }

    /// They have said something to each other, as far as the store knows.
    fn let_talk(&self, pairs: impl IntoIterator<Item = (u64, u64)>) {
        let mut batch = Batch::default();
        for (from, to) in pairs {
            batch.put_number(record::sent(0, from, to, b"x"), u64::MAX);
        }
        self.store.commit(&batch).unwrap();
    }
}

#[test]
fn who_follows_is_told_now_and_when_it_changes() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    bed.let_talk([(1, 2)]);
    let effects = bed.watch(1, [2]);
    assert!(
        matches!(&effects[0].action, Action::Frame(frame) if frame.reply_to == 9 && frame.body.is_none())
    );
    assert_eq!(told(1, 1, &effects), [(2, false, 0)]);
    assert!(told(1, 1, &bed.attach(2, 1)).is_empty(), "told with the next tick");
    assert_eq!(told(1, 1, &bed.tick(TICK_MS)), [(2, true, bed.now_ms)]);
    assert!(bed.tick(TICK_MS).is_empty(), "told once");
    let left = bed.now_ms;
    bed.detach(2, 1);
    assert!(bed.tick(TICK_MS).is_empty());
    assert!(bed.tick(PRESENCE_GRACE_MS - 1).is_empty());
    assert_eq!(told(1, 1, &bed.tick(1)), [(2, false, left)]);
    // The other direction: who wrote first does not matter.
    bed.attach(2, 1);
    assert_eq!(told(2, 1, &bed.watch(2, [1])), [(1, true, bed.now_ms)]);
}

#[test]
fn who_comes_back_within_the_time_of_grace_was_not_away() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    bed.attach(2, 1);
    bed.let_talk([(2, 1)]);
    bed.watch(1, [2]);
    for _ in 0..10 {
        bed.detach(2, 1);
        assert!(bed.tick(PRESENCE_GRACE_MS / 2).is_empty());
        bed.attach(2, 1);
        assert!(bed.tick(PRESENCE_GRACE_MS / 4).is_empty());
    }
    // A user with two devices is here until the last one goes.
    bed.attach(2, 2);
    bed.detach(2, 1);
    assert!(bed.tick(3 * PRESENCE_GRACE_MS).is_empty());
    bed.detach(2, 2);
    bed.tick(TICK_MS);
    let left = bed.now_ms - TICK_MS;
    assert_eq!(told(1, 1, &bed.tick(2 * PRESENCE_GRACE_MS)), [(2, false, left)]);
}

#[test]
fn a_short_visit_is_told_and_its_end_too() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    bed.let_talk([(2, 1)]);
    bed.watch(1, [2]);
    bed.attach(2, 1);
    bed.detach(2, 1);
    let left = bed.now_ms;
    assert_eq!(told(1, 1, &bed.tick(TICK_MS)), [(2, true, bed.now_ms)]);
    let after: Vec<_> = (0..100).flat_map(|_| told(1, 1, &bed.tick(TICK_MS))).collect();
    assert_eq!(after, [(2, false, left)]);
}

#[test]
fn strangers_learn_nothing() {
    let mut bed = Bed::new();
    for user in [1, 2, 3] {
        bed.attach(user, 1);
    }
    bed.let_talk([(2, 3)]);
    assert!(told(1, 1, &bed.watch(1, [2, 3, 4711])).is_empty());
    bed.detach(2, 1);
    assert!(bed.tick(TICK_MS).is_empty() && bed.tick(PRESENCE_GRACE_MS).is_empty());
    assert_eq!(bed.partition.followers(), 0);
    // Once they talk, saying Watch again is enough.
    bed.send(3, 1, message(1, b"a"));
    assert_eq!(told(1, 1, &bed.watch(1, [2, 3, 4711])), [(3, true, bed.now_ms)]);
}

#[test]
fn a_watch_replaces_the_one_before() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    bed.let_talk([(2, 1), (3, 1), (4, 1)]);
    bed.watch(1, [2, 3, 3]);
    assert_eq!(bed.partition.followers(), 2);
    bed.watch(1, [3, 4]);
    assert_eq!(bed.partition.followers(), 2);
    for user in [2, 3, 4] {
        bed.attach(user, 1);
    }
    let told: Vec<_> = told(1, 1, &bed.tick(TICK_MS)).into_iter().map(|(user, ..)| user).collect();
    assert_eq!(told, [3, 4]);
    bed.watch(1, []);
    assert_eq!(bed.partition.followers(), 0);
}

#[test]
fn sessions_that_go_take_their_watches_with_them() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    bed.attach(1, 2);
    bed.let_talk([(2, 1), (3, 1)]);
    bed.watch(1, [2, 3]);
    bed.run([watch_by(1, 2, [3])]);
    assert_eq!(bed.partition.followers(), 3);
    bed.detach(1, 1);
    assert_eq!(bed.partition.followers(), 1);
    // A session that is replaced, too; what it says late changes nothing, nor does its end.
    bed.run([attach_of(1, 2, 2)]);
    assert_eq!(bed.partition.followers(), 0);
    bed.run([watch_by(1, 2, [3])]);
    assert_eq!(bed.partition.followers(), 0);
    bed.run([log::Watch { origin: origin(1, 2, 2).into(), user: vec![3] }.into()]);
    bed.detach(1, 2);
    assert_eq!(bed.partition.followers(), 1);
    // And one whose device is removed.
    let call = log::Origin { call: true, ..origin(1, 1, 9) };
    bed.run([log::RemoveDevice { origin: call.into(), device: 2 }.into()]);
    assert_eq!(bed.partition.followers(), 0);
}

#[test]
fn a_watch_that_is_too_long_or_names_nobody_changes_nothing() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    bed.let_talk([(2, 1)]);
    bed.watch(1, [2]);
    let long = 2..=WATCH_USERS_MAX as u64 + 2;
    for users in [long.collect(), vec![0], vec![1 << 63]] {
        assert_eq!(code(&bed.watch(1, users)), Code::MALFORMED);
    }
    let call = log::Origin { call: true, ..origin(1, 1, 1) };
    assert_eq!(code(&bed.run([log::Watch { origin: call.into(), user: vec![2] }.into()])), Code::FORBIDDEN);
    assert_eq!(bed.partition.followers(), 1);
    assert!(frames(&bed.watch(1, 2..WATCH_USERS_MAX as u64 + 2)).len() == 1);
}

#[test]
fn after_a_restart_the_record_tells_the_day() {
    let mut bed = Bed::new();
    bed.now_ms = 20_000 * DAY_MS + 4711;
    bed.attach(2, 1);
    bed.let_talk([(2, 1)]);
    bed.partition = Partition::open(0, 1, bed.partition.rules, &bed.store).unwrap();
    bed.now_ms += 3 * DAY_MS;
    bed.attach(1, 1);
    assert_eq!(told(1, 1, &bed.watch(1, [2])), [(2, false, 20_000 * DAY_MS)]);
}

#[test]
fn a_flood_of_questions_is_answered_tick_by_tick_and_in_order() {
    let mut bed = Bed::new();
    let watchers = 4 * PAIRS_ASKED_TICK_MAX / WATCH_USERS_MAX;
    let users = || 10_000..10_000 + WATCH_USERS_MAX as u64;
    for watcher in 1..=watchers as u64 {
        bed.attach(watcher, 1);
        bed.let_talk(users().map(|user| (user, watcher)));
    }
    let told = |effects: &[Effect]| effects.iter().filter(|e| e.session.slot % 10 == 1).count();
    let effects = bed.run((1..=watchers as u64).map(|watcher| watch_by(watcher, 1, users())));
    // An empty answer each, and as many notices as there was room for.
    assert_eq!(told(&effects), watchers + PAIRS_ASKED_TICK_MAX);
    // What ends while it waits is not told before it began.
    bed.detach(watchers as u64, 1);
    for left in [2, 1, 0] {
        assert_eq!(told(&bed.tick(TICK_MS)), PAIRS_ASKED_TICK_MAX, "{left} more ticks");
    }
    assert_eq!(told(&bed.tick(TICK_MS)), 0);
    assert_eq!(bed.partition.followers(), (watchers - 1) * WATCH_USERS_MAX);
}

#[test]
fn a_flood_of_reconnects_is_no_flood_of_notices() {
    const USERS: usize = 10_000;
    const EACH: usize = 250;
    let mut bed = Bed::new();
    let (users, first) = ((0..USERS as u64).map(|n| 100_000 + n), 100_000);
    let watcher_of = |user: u64| 1 + (user - first) / EACH as u64;
    bed.let_talk(users.clone().map(|user| (user, watcher_of(user))));
    let attach = |user| log::Attach { origin: origin(user, 1, 1).into() }.into();
    let detach = |user| log::Detach { origin: origin(user, 1, 1).into() }.into();
    bed.run(users.clone().map(attach));
    for watcher in 1..=(USERS / EACH) as u64 {
        bed.attach(watcher, 1);
        bed.watch(watcher, users.clone().filter(|user| watcher_of(*user) == watcher));
    }
    while !bed.tick(TICK_MS).is_empty() {}
    assert_eq!(bed.partition.followers(), USERS);
    // All of them come and go within the time of grace, again and again.
    for _ in 0..5 {
        bed.run(users.clone().map(detach));
        assert!(bed.tick(PRESENCE_GRACE_MS / 2).is_empty());
        bed.run(users.clone().map(attach));
        assert!(bed.tick(PRESENCE_GRACE_MS).is_empty());
    }
    // They stay away: each is told once, a limited number a tick; then they come back.
    let told = |bed: &mut Bed| {
        let ticks: Vec<_> = (0..100).map(|_| bed.tick(TICK_MS).len()).collect();
        assert!(ticks.iter().all(|notices| *notices <= PRESENCE_NOTICES_TICK_MAX), "{ticks:?}");
        ticks.iter().sum::<usize>()
    };
    bed.run(users.clone().map(detach));
    assert_eq!(told(&mut bed), USERS);
    bed.run(users.clone().map(attach));
    assert_eq!(told(&mut bed), USERS);
    // Whoever comes and goes while he waits to be told is told once, as it is by then.
    bed.run(users.clone().map(detach));
    bed.tick(2 * PRESENCE_GRACE_MS);
    let mut notices = bed.tick(PRESENCE_GRACE_MS).len();
    bed.run(users.clone().map(attach));
    notices += told(&mut bed);
    assert!(notices < 2 * USERS, "{notices}");
}

#[test]
fn typing_reaches_the_sessions_of_who_talks_with_one() {
    let mut bed = Bed::new();
    for (user, device) in [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)] {
        bed.attach(user, device);
    }
    bed.let_talk([(2, 1)]);
    let stored = Space::ALL.map(|space| bed.store.len(space));
    let notices = |effects: &[Effect]| {
        let notice = |body| match body {
            server_frame::Body::Typing(notice) => Some((notice.user, notice.active)),
            _ => None,
        };
        frames(effects).into_iter().filter_map(notice).collect::<Vec<_>>()
    };
    for active in [true, false] {
        let effects = bed.run([typing_by(1, Some(To::User(2)), active)]);
        for device in [1, 2] {
            let mine: Vec<_> = effects.iter().filter(|e| e.session.slot == 20 + device).cloned().collect();
            assert_eq!(notices(&mine), [(1, active)]);
        }
        assert_eq!(notices(&effects).len(), 2);
        assert_eq!(to(1, 1, &effects).len(), 1, "one answer, and nothing for the other device");
    }
    // A stranger is answered alike, and not passed on; nor is what one types to oneself.
    for (from, receiver) in [(3, 2), (1, 3), (1, 1), (1, 4711)] {
        let effects = bed.run([typing_by(from, Some(To::User(receiver)), true)]);
        assert_eq!((effects.len(), notices(&effects).len()), (1, 0));
    }
    assert_eq!(code(&bed.run([typing_by(1, None, true)])), Code::MALFORMED);
    assert_eq!(code(&bed.run([typing_by(1, Some(To::User(0)), true)])), Code::MALFORMED);
    bed.detach(2, 1);
    bed.detach(2, 2);
    assert!(notices(&bed.run([typing_by(1, Some(To::User(2)), true)])).is_empty());
    assert_eq!(Space::ALL.map(|space| bed.store.len(space)), stored, "nothing of it is stored");
}

#[test]
fn nothing_of_presence_waits_for_the_disk() {
    let mut bed = Bed::new();
    bed.attach(1, 1);
    bed.attach(2, 1);
    bed.let_talk([(2, 1)]);
    let (mut batch, mut out) = (Batch::default(), Output::default());
    let commands = [
        watch_by(1, 1, [2]),
        typing_by(1, Some(To::User(2)), true),
        log::Detach { origin: origin(2, 1, 1).into() }.into(),
        log::Tick::default().into(),
    ];
    apply(&mut bed, &mut batch, &mut out, commands);
    bed.partition.flush(&mut batch);
    assert!(batch.is_empty() && !bed.partition.has_changes());
}
