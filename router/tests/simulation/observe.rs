//! What comes to devices, checked as it comes.

use crate::{
    device::{Asked, GroupAsked, Start},
    model::{DAY_MS, RETENTION_MS, To, number_of, time_of_id, time_of_seq},
    world::{CALLS, World, place},
};
use buffa::Message as _;
use roost_proto::v1::{self, Code, Kind, event, group_command::Command, server_frame};
use roost_router::{Action, Effect, SessionId};

/// The clock goes back at times, by less than this.
const CLOCK_BACK_MS: u64 = 200;

impl World {
    pub fn observe(&mut self, effect: Effect) {
        let SessionId { slot, generation, shard, .. } = effect.session;
        if u32::from(shard) == CALLS {
            return self.called(effect.action);
        }
        let n = slot as usize;
        if let Action::Frame(frame) = &effect.action
            && let Some(server_frame::Body::Welcome(welcome)) = &frame.body
        {
            self.begins(n, welcome);
        }
        if self.devices[n].session.as_ref().is_none_or(|session| session.generation != generation) {
            // The shard has forgotten the session.
            return;
        }
        match effect.action {
            Action::Event(bytes) => self.event(n, &v1::Event::decode_from_slice(&bytes).unwrap()),
            Action::Frame(frame) => self.frame(n, *frame),
            Action::Answer(_) => panic!("a session was given the answer to a call"),
            Action::Close { code, reason } => {
                self.tell(|world| format!("    {} is closed: {code} {reason}", world.devices[n]));
                assert!(code == 1013 && self.is_troubled, "a current session was closed: {code} {reason}");
                assert!(!self.devices[n].is_welcomed(), "a session was welcomed and closed");
                (self.devices[n].session, self.devices[n].is_ambiguous) = (None, true);
            }
        }
    }

    /// Only removals are asked for by calls; whoever is not there was removed before.
    fn called(&mut self, action: Action) {
        let Action::Frame(frame) = action else { panic!("a call was answered with {action:?}") };
        self.tell(|_| format!("    call {} is answered: {}", frame.reply_to, brief(&frame)));
        let code = match &frame.body {
            None => None,
            Some(server_frame::Body::Error(error)) => error.code.as_known(),
            other => panic!("a removal was answered with {other:?}"),
        };
        assert!(
            code != Some(Code::UNAVAILABLE) || self.is_troubled,
            "UNAVAILABLE, and the disk never failed"
        );
        let removal = self.removals.iter_mut().find(|removal| removal.id == frame.reply_to);
        removal.expect("it was asked for").is_done |= matches!(code, None | Some(Code::NOT_FOUND));
    }

    fn event(&mut self, n: usize, event: &v1::Event) {
        self.tell(|world| {
            format!("    {} gets {} {}", world.devices[n], place(event.seq), world.describe(event))
        });
        assert!(!is_over(event, self.now_ms), "an event was told when its time was over");
        let device = &mut self.devices[n];
        let session = device.session.as_mut().expect("it was looked at");
        assert!(session.is_welcomed, "an event before Welcome");
        assert!(
            event.seq > device.acked,
            "{} came again after Ack {}",
            place(event.seq),
            place(device.acked)
        );
        assert!(event.seq > session.newest, "{} came after {}", place(event.seq), place(session.newest));
        session.newest = event.seq;
        let start = device.told.expect("it was welcomed");
        let is_old = event.seq <= start.head && start.is_late && !device.is_ambiguous;
        assert!(
            !is_old || is_status(event),
            "{device} was told what was before its time: {}",
            place(event.seq)
        );
        let known = device.got.entry(event.seq).or_insert_with(|| event.clone());
        assert_eq!(known, event, "a place in the stream changed");
        let (user, number) = (device.user, device.number);
        self.model.told(user, number, event);
    }

    pub fn describe(&self, event: &v1::Event) -> String {
        match &event.body {
            Some(event::Body::Message(m)) => {
                format!("message {} of {}:{}", self.name(m.id), m.from, m.from_device)
            }
            Some(event::Body::Receipt(receipt)) => {
                let names: Vec<_> = receipt.message.iter().map(|id| self.name(*id)).collect();
                format!("{:?} by {} of {}", receipt.mark, receipt.by, names.join(", "))
            }
            Some(event::Body::Group(info)) => format!("group {}", show(info)),
            None => "nothing".into(),
        }
    }

    fn frame(&mut self, n: usize, frame: v1::ServerFrame) {
        if let Some(server_frame::Body::Welcome(welcome)) = &frame.body {
            return self.welcome(n, welcome);
        }
        let session = self.devices[n].session.as_mut().expect("it was looked at");
        if frame.reply_to == 0 {
            // The Attach could not be done; a Close follows.
            let is_refusal =
                matches!(&frame.body, Some(server_frame::Body::Error(e)) if e.code == Code::UNAVAILABLE);
            assert!(is_refusal && !session.is_welcomed, "nobody asked for {:?}", frame.body);
            return;
        }
        let asked = session.asked.remove(&frame.reply_to);
        let asked = asked.unwrap_or_else(|| panic!("a second answer: {frame:?}"));
        self.tell(|world| format!("    {} is answered {asked:?}: {}", world.devices[n], brief(&frame)));
        match (asked, frame.body) {
            (_, Some(server_frame::Body::Error(error))) if error.code == Code::UNAVAILABLE => {
                assert!(self.is_troubled, "UNAVAILABLE, and the disk never failed");
            }
            (Asked::Say(number), Some(server_frame::Body::Sent(sent))) => self.sent(n, number, &sent),
            (Asked::Say(number), Some(server_frame::Body::Error(error))) if error.code == Code::NOT_FOUND => {
                self.not_found(n, number);
            }
            (Asked::SayToNobody, Some(server_frame::Body::Error(error))) => {
                assert_eq!(error.code, Code::NOT_FOUND);
            }
            (Asked::Group(asked), Some(server_frame::Body::Group(info))) => {
                self.model.groups.answered(self.devices[n].user, &asked.command, &info);
            }
            (Asked::Group(asked), Some(server_frame::Body::Error(error))) => {
                self.group_refused(n, &asked, &error);
            }
            (Asked::Publish(count), None) => {
                let device = &self.devices[n];
                self.model.keys.published((device.user, device.number), count);
            }
            (Asked::Fetch(user, published), Some(server_frame::Body::Keys(bundles))) => {
                let is_there =
                    |number: &u32| !self.removals.iter().any(|r| (r.user, r.device) == (user, *number));
                let expected: Vec<u32> = published.into_iter().filter(is_there).collect();
                self.model.keys.fetched(user, &bundles, &expected);
            }
            (Asked::Fetch(..), Some(server_frame::Body::Error(error))) if error.code == Code::NOT_FOUND => {}
            (Asked::Ack(up_to), None) => {
                let (now_ms, device) = (self.now_ms, &mut self.devices[n]);
                if up_to > device.acked {
                    (device.acked, device.seen_ms) = (up_to, now_ms);
                }
            }
            (Asked::Read(messages), None) => {
                let (user, now_ms) = (self.devices[n].user, self.now_ms);
                for id in messages {
                    self.model.read.entry((user, id)).or_insert(now_ms);
                }
            }
            (asked, body) => panic!("{asked:?} was answered with {body:?}"),
        }
    }

    fn welcome(&mut self, n: usize, welcome: &v1::Welcome) {
        self.tell(|world| {
            let (acknowledged, head) = (place(welcome.acknowledged), place(welcome.head));
            format!("    {} is welcome: acknowledged {acknowledged}, head {head}", world.devices[n])
        });
        let (now_ms, device) = (self.now_ms, &mut self.devices[n]);
        let session = device.session.as_mut().expect("it was looked at");
        assert_eq!((welcome.user, welcome.device, session.is_welcomed), (device.user, device.number, false));
        assert!(welcome.acknowledged <= welcome.head, "the stream ends before what is acknowledged");
        // What was acknowledged when it was gone already leaves no trace.
        let is_gone = time_of_seq(device.acked) <= device.gone_until_ms;
        let is_over = is_gone || device.got.get(&device.acked).is_none_or(|event| is_over(event, now_ms));
        assert!(welcome.acknowledged >= device.acked || is_over, "an Ack that was answered is forgotten");
        self.model.keys.check_left((device.user, device.number), u64::from(welcome.one_time_keys));
        (session.is_welcomed, session.newest) = (true, welcome.acknowledged);
        session.one_time_keys = welcome.one_time_keys;
    }

    /// Where a device begins that is not registered, whether its session is still there or not.
    fn begins(&mut self, n: usize, welcome: &v1::Welcome) {
        let user = self.devices[n].user;
        let is_late = self.devices.iter().any(|other| other.user == user && other.registered.is_some());
        let start = Start { acknowledged: welcome.acknowledged, head: welcome.head, is_late };
        let (now_ms, is_troubled, device) = (self.now_ms, self.is_troubled, &mut self.devices[n]);
        device.told.get_or_insert(start);
        device.is_connecting = false;
        // That it was here is not noted while the disk fails.
        device.noted_ms = if is_troubled { 0 } else { now_ms };
        // A Detach may be on its way.
        device.is_here = device.session.is_some();
        // Days are what is noted.
        let days = ((now_ms + CLOCK_BACK_MS) / DAY_MS).saturating_sub(device.seen_ms / DAY_MS);
        if days * DAY_MS > RETENTION_MS {
            device.gone_until_ms = now_ms + CLOCK_BACK_MS;
        }
    }

    fn group_refused(&mut self, n: usize, asked: &GroupAsked, error: &v1::Error) {
        let (user, command) = (self.devices[n].user, &asked.command);
        if error.code == Code::FORBIDDEN {
            self.model.groups.refuse(asked.group, user, asked.since, true);
        } else if error.code == Code::NOT_FOUND {
            // Perhaps another is not there: who is to join, or who is to be promoted.
            if asked.is_joining_known && !matches!(command, Command::Promote(_)) {
                self.model.groups.refuse(asked.group, user, asked.since, false);
            }
        } else {
            assert_eq!(error.code, Code::TOO_LARGE, "{command:?} was refused: {error:?}");
        }
    }

    /// A user is known who ever connected, once that is durable.
    fn not_found(&mut self, n: usize, number: u64) {
        let said = self.model.said.get_mut(&number).expect("it was said");
        assert!(!said.is_to_known, "#{number} is for {:?}, who is known", said.to);
        if let To::Group(group) = said.to {
            self.model.groups.refuse(group, said.from, said.version, false);
        }
        said.is_given_up = true;
        self.devices[n].waiting.retain(|waiting| *waiting != number);
    }

    fn sent(&mut self, n: usize, number: u64, sent: &v1::Sent) {
        assert_eq!(number_of(&sent.client_id), number, "the answer is about another message");
        assert_eq!(sent.sent_at_ms, time_of_id(sent.id), "the answer has another time than its id");
        self.model.named(number, sent.id);
        let said = self.model.said.get_mut(&number).expect("it was said");
        assert!(sent.duplicate || !said.is_answered || said.is_given_up, "#{number} was stored twice");
        assert!(!sent.duplicate || said.attempts > 1, "#{number} is no duplicate");
        said.is_answered = true;
        self.devices[n].waiting.retain(|waiting| *waiting != number);
    }
}

fn is_status(event: &v1::Event) -> bool {
    matches!(&event.body, Some(event::Body::Message(message)) if message.kind == Kind::STATUS)
}

fn is_over(event: &v1::Event, now_ms: u64) -> bool {
    let lifetime_ms = if is_status(event) { DAY_MS } else { RETENTION_MS };
    now_ms.saturating_sub(time_of_seq(event.seq)) >= lifetime_ms
}

fn brief(frame: &v1::ServerFrame) -> String {
    match &frame.body {
        None => "done".into(),
        Some(server_frame::Body::Sent(sent)) => {
            format!("Sent {}, duplicate {}", place(sent.id >> 10), sent.duplicate)
        }
        Some(server_frame::Body::Error(error)) => format!("{:?}: {}", error.code, error.message),
        Some(server_frame::Body::Group(info)) => format!("group {}", show(info)),
        other => format!("{other:?}"),
    }
}

fn show(info: &v1::GroupInfo) -> String {
    let member = |m: &v1::group_info::Member| format!("{}{}", m.user, if m.admin { "*" } else { "" });
    let members: Vec<_> = info.member.iter().map(member).collect();
    format!("{} version {}, {:?}: {}", place(info.group >> 10), info.version, info.name, members.join(" "))
}
