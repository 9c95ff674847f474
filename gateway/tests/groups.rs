//! Groups through a real gateway process, in both encodings: made, changed, talked in, left; for who is there and who was away.

use roost_client::{Client, harness::Gateway};
use roost_proto::{
    codec::Encoding,
    v1::{self, Code, GroupInfo, Mark, address::To, event, group_command::Command, server_frame},
};

/// One of a group, and all that it was told of so far.
struct Member {
    client: Client,
    user: u64,
    told: Vec<v1::Event>,
}

impl Member {
    fn connect(gateway: &Gateway, user: u64) -> Self {
        // Even numbers speak protobuf, odd ones JSON.
        let encoding = if user.is_multiple_of(2) { Encoding::Proto } else { Encoding::Json };
        let (client, _) = gateway.connect(user, 1, encoding).expect("a session");
        Self { client, user, told: Vec::new() }
    }

    fn answer(&mut self, id: u32) -> Option<server_frame::Body> {
        loop {
            let frame = self.client.receive().expect("an answer");
            match frame.body {
                Some(server_frame::Body::Event(event)) => self.told.push(*event),
                body if frame.reply_to == id => return body,
                _ => {}
            }
        }
    }

    fn ask(&mut self, group: u64, command: impl Into<Command>) -> Result<GroupInfo, (Code, String)> {
        let command = v1::GroupCommand { group, command: Some(command.into()) };
        let id = self.client.ask(command).expect("asked");
        match self.answer(id) {
            Some(server_frame::Body::Group(info)) => Ok(*info),
            Some(server_frame::Body::Error(error)) => {
                Err((error.code.as_known().expect("a known code"), error.message))
            }
            other => panic!("not a group but {other:?}"),
        }
    }

    fn code(&mut self, group: u64, command: impl Into<Command>) -> Code {
        self.ask(group, command).expect_err("it is refused").0
    }

    fn say(&mut self, group: u64, text: &str) -> u64 {
        let id = self.client.ask(send(group, text)).expect("asked");
        match self.answer(id) {
            Some(server_frame::Body::Sent(sent)) => sent.id,
            other => panic!("not sent but {other:?}"),
        }
    }

    /// Waits until there are so many events of a kind.
    fn wait<T>(&mut self, count: usize, kind: impl Fn(&v1::Event) -> Option<T>) -> Vec<T> {
        loop {
            let found: Vec<T> = self.told.iter().filter_map(&kind).collect();
            if found.len() >= count {
                return found;
            }
            self.told.push(self.client.event().expect("an event"));
        }
    }

    fn texts(&mut self, count: usize) -> Vec<String> {
        self.wait(count, |event| match &event.body {
            Some(event::Body::Message(m)) => Some(String::from_utf8_lossy(&m.payload).into_owned()),
            _ => None,
        })
    }

    fn versions(&mut self, count: usize) -> Vec<u64> {
        self.wait(count, |event| match &event.body {
            Some(event::Body::Group(info)) => Some(info.version),
            _ => None,
        })
    }

    fn receipts(&mut self, mark: Mark, count: usize) -> Vec<(u64, Vec<u64>)> {
        self.wait(count, |event| match &event.body {
            Some(event::Body::Receipt(r)) if r.mark == mark => Some((r.by, r.message.clone())),
            _ => None,
        })
    }

    fn ack(&mut self) {
        let up_to = self.told.last().expect("something was told").seq;
        let id = self.client.ask(v1::Ack { up_to }).expect("asked");
        assert_eq!(self.answer(id), None);
    }
}

fn send(group: u64, text: &str) -> v1::Send {
    v1::Send {
        to: v1::Address { to: Some(To::Group(group)) }.into(),
        client_id: text.as_bytes().to_vec().into(),
        payload: text.as_bytes().to_vec().into(),
        ..v1::Send::default()
    }
}

fn create(name: &str, member: &[u64]) -> v1::group_command::Create {
    v1::group_command::Create { name: name.into(), member: member.to_vec() }
}

fn members(user: &[u64]) -> v1::group_command::Members {
    v1::group_command::Members { user: user.to_vec() }
}

fn add(user: &[u64]) -> Command {
    Command::Add(members(user).into())
}

fn remove(user: &[u64]) -> Command {
    Command::Remove(members(user).into())
}

fn numbers(info: &GroupInfo) -> Vec<(u64, bool)> {
    info.member.iter().map(|member| (member.user, member.admin)).collect()
}

#[test]
fn a_group_is_made_changed_and_left() {
    let gateway = Gateway::start(&["--router-threads", "3"]).expect("the gateway starts");
    let mut users: Vec<Member> = (1..=5).map(|user| Member::connect(&gateway, user)).collect();
    let [one, two, three, four, five] = &mut users[..] else { panic!("five") };
    assert_eq!(one.ask(0, create("x", &[2, 777])).expect_err("777 is nobody").1, "there is no user 777");
    let made = one.ask(0, create("Gr\u{fc}ne", &[2, 3])).expect("made");
    let group = made.group;
    assert_eq!((made.name.as_str(), made.version), ("Gr\u{fc}ne", 1));
    assert_eq!(numbers(&made), [(1, true), (2, false), (3, false)]);
    // Who is not in it learns nothing of it; who is no admin changes nobody.
    for command in [Command::Info(true), add(&[4]), remove(&[3])] {
        assert_eq!(four.code(group, command), Code::NOT_FOUND);
    }
    assert_eq!(two.code(group, add(&[4])), Code::FORBIDDEN);
    assert_eq!(two.code(group, remove(&[3])), Code::FORBIDDEN);
    assert_eq!(
        one.ask(group, add(&[888])).expect_err("888 is nobody"),
        (Code::NOT_FOUND, "there is no user 888".to_owned())
    );
    one.ask(group, Command::Promote(members(&[2]).into())).expect("promoted");
    two.ask(group, Command::Rename("Blaue".into())).expect("renamed");
    two.ask(group, add(&[4, 5])).expect("added");
    four.ask(group, remove(&[4])).expect("left");
    let left = one.ask(group, remove(&[1])).expect("left");
    assert_eq!((left.version, numbers(&left)), (6, vec![(2, true), (3, false), (5, false)]));
    assert_eq!(two.ask(group, remove(&[2])).map(|info| numbers(&info)), Ok(vec![(3, true), (5, false)]));
    assert_eq!(three.versions(7), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((one.versions(6), two.versions(7).len()), ((1..=6).collect(), 7));
    assert_eq!((four.versions(2), five.versions(4)), (vec![4, 5], vec![4, 5, 6, 7]));
    five.ask(group, remove(&[5])).expect("left");
    assert_eq!(numbers(&three.ask(group, remove(&[3])).expect("left")), []);
    assert_eq!(three.code(group, Command::Info(true)), Code::NOT_FOUND);
}

#[test]
fn all_members_see_one_order_and_who_was_away_catches_up_over_kill() {
    let mut gateway = Gateway::start(&["--router-threads", "3"]).expect("the gateway starts");
    let mut users: Vec<Member> = (1..=6).map(|user| Member::connect(&gateway, user)).collect();
    let group = users[0].ask(0, create("all", &[2, 3, 4, 5, 6])).expect("made").group;
    // The last is away from here on.
    users[5].versions(1);
    users[5].ack();
    let away = users.pop().expect("six users").user;
    let mut said = Vec::new();
    for n in 0..40 {
        let from = n % users.len();
        let text = format!("{n} of {}", from + 1);
        said.push((users[from].say(group, &text), from, text));
    }
    assert!(said.is_sorted_by(|a, b| a.0 < b.0), "ids rise in a group");
    for (index, user) in users.iter_mut().enumerate() {
        let expected: Vec<_> =
            said.iter().filter(|(_, from, _)| *from != index).map(|(.., text)| text).collect();
        assert_eq!(user.texts(expected.len()).iter().collect::<Vec<_>>(), expected);
        assert!(user.told.is_sorted_by(|a, b| a.seq < b.seq));
    }
    gateway.kill().expect("killed");
    gateway.restart().expect("started again");
    let mut late = Member::connect(&gateway, away);
    assert_eq!(late.texts(40), said.iter().map(|(.., text)| text.clone()).collect::<Vec<_>>());
    let mut first = Member::connect(&gateway, 1);
    let again = first.client.ask(send(group, &said[0].2)).expect("asked");
    let Some(server_frame::Body::Sent(sent)) = first.answer(again) else { panic!("not sent") };
    assert_eq!((sent.id, sent.duplicate), (said[0].0, true));
}

#[test]
fn receipts_of_a_group_come_together_and_once() {
    let gateway = Gateway::start(&["--router-threads", "3"]).expect("the gateway starts");
    let mut users: Vec<Member> = (1..=4).map(|user| Member::connect(&gateway, user)).collect();
    let group = users[0].ask(0, create("all", &[2, 3, 4])).expect("made").group;
    let said: Vec<u64> = (0..5).map(|n| users[0].say(group, &n.to_string())).collect();
    let [one, others @ ..] = &mut users[..] else { panic!("four") };
    for other in others.iter_mut() {
        other.texts(5);
        other.ack();
        for _ in 0..2 {
            let id = other.client.ask(v1::Read { message: said[1..3].to_vec() }).expect("asked");
            assert_eq!(other.answer(id), None);
        }
    }
    let mut delivered = one.receipts(Mark::DELIVERED, 3);
    delivered.sort();
    assert_eq!(delivered, [2, 3, 4].map(|by| (by, said.clone())));
    let mut read = one.receipts(Mark::READ, 3);
    read.sort();
    assert_eq!(read, [2, 3, 4].map(|by| (by, said[1..3].to_vec())));
    // Time enough for a receipt too many to show.
    let [_, two, ..] = &mut users[..] else { panic!("four") };
    let last = two.say(group, "last");
    let one = &mut users[0];
    assert_eq!(one.texts(1), ["last"]);
    assert_eq!(one.receipts(Mark::READ, 3).len() + one.receipts(Mark::DELIVERED, 3).len(), 6);
    let id = one.client.ask(v1::Read { message: vec![last] }).expect("asked");
    assert_eq!(one.answer(id), None);
    assert_eq!(users[1].receipts(Mark::READ, 1), [(1, vec![last])]);
}

#[test]
fn a_group_has_as_many_members_as_the_operator_allows() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("roost.toml");
    std::fs::write(&file, "group_members_max = 3\n").expect("written");
    let gateway = Gateway::start(&["--config", file.to_str().expect("UTF-8")]).expect("the gateway starts");
    let mut users: Vec<Member> = (1..=4).map(|user| Member::connect(&gateway, user)).collect();
    assert_eq!(users[0].code(0, create("x", &[2, 3, 4])), Code::TOO_LARGE);
    let group = users[0].ask(0, create("x", &[2, 3])).expect("made").group;
    assert_eq!(users[0].code(group, add(&[4])), Code::TOO_LARGE);
    let id = users[3].client.ask(send(group, "not his")).expect("asked");
    let Some(server_frame::Body::Error(error)) = users[3].answer(id) else { panic!("no error") };
    assert_eq!(error.code, Code::NOT_FOUND);
}
