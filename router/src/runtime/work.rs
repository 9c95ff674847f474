//! From what a gateway asks to what a partition applies.

use super::throttle::{Kind, Throttle};
use crate::{
    api::{AccountOutcome, Call, DeviceId, Request, SessionId, UserId},
    log::{self, Origin, command::Body},
    partition::{group_home, group_receiver, home, pair_home, receiver},
};
use roost_proto::v1::{Code, Error, address::To, client_frame};

/// Called once with how an account's creation ended.
pub(crate) type Done = Box<dyn FnOnce(AccountOutcome) + Send>;

/// What waits in a thread's queue.
pub(crate) enum Job {
    /// Of a gateway.
    Request(Request),
    /// A new account.
    Account { user: UserId, password_hash: String, done: Done },
}

/// One piece of a batch.
pub(super) struct Item {
    pub(super) partition: u16,
    pub(super) work: Work,
    pub(super) done: Option<Done>,
    /// It was applied and answered at once: a batch that fails does not take it back.
    pub(super) settled: bool,
}

pub(super) enum Work {
    /// For the partition.
    Apply(Body),
    /// Not served: answered in its turn.
    Refuse { session: SessionId, id: u32, error: Error },
}

/// The partition a request belongs to.
pub(crate) fn route(request: &Request, partitions: u16) -> u16 {
    match request {
        Request::Frame { user, body, .. } | Request::Call { user, call: Call::Frame(body), .. } => {
            route_frame(*user, body, partitions)
        }
        Request::Attach { user, .. } | Request::Detach { user, .. } | Request::Call { user, .. } => {
            home(*user, partitions)
        }
    }
}

fn route_frame(user: UserId, body: &client_frame::Body, partitions: u16) -> u16 {
    match body {
        client_frame::Body::Group(command) => {
            let home_of = (command.group != 0).then(|| group_home(command.group, partitions));
            home_of.flatten().unwrap_or_else(|| home(user, partitions))
        }
        client_frame::Body::Send(send) => {
            if let Some(group) = group_receiver(send) {
                return group_home(group, partitions).unwrap_or_else(|| home(user, partitions));
            }
            receiver(send).map_or_else(|| home(user, partitions), |to| pair_home(user, to, partitions))
        }
        client_frame::Body::History(fetch) => {
            match fetch.with.as_option().and_then(|address| address.to.as_ref()) {
                Some(To::User(other)) => pair_home(user, *other, partitions),
                Some(To::Group(group)) => {
                    group_home(*group, partitions).unwrap_or_else(|| home(user, partitions))
                }
                None => home(user, partitions),
            }
        }
        client_frame::Body::KeysFetch(fetch) => home(fetch.user, partitions),
        client_frame::Body::Typing(typing) => {
            match typing.to.as_option().and_then(|address| address.to.as_ref()) {
                Some(To::User(other)) => pair_home(user, *other, partitions),
                Some(To::Group(group)) => {
                    group_home(*group, partitions).unwrap_or_else(|| home(user, partitions))
                }
                None => home(user, partitions),
            }
        }
        _ => home(user, partitions),
    }
}

impl Item {
    pub(super) fn command(partition: u16, body: Body) -> Self {
        Self { partition, work: Work::Apply(body), done: None, settled: false }
    }

    pub(super) fn of(job: Job, partitions: u16, throttle: &Throttle) -> Self {
        match job {
            Job::Request(request) => {
                let partition = route(&request, partitions);
                let work = limited(&request, throttle).unwrap_or_else(|| of_request(request));
                Self { partition, work, done: None, settled: false }
            }
            Job::Account { user, password_hash, done } => {
                let work = Work::Apply(log::CreateAccount { user, password_hash }.into());
                Self { partition: home(user, partitions), work, done: Some(done), settled: false }
            }
        }
    }

    /// The session and the frame that wait for an answer.
    pub(super) fn origin(&self) -> Option<&Origin> {
        match &self.work {
            Work::Apply(Body::Attach(attach)) => attach.origin.as_option(),
            Work::Apply(Body::Send(send)) => send.origin.as_option(),
            Work::Apply(Body::Group(group)) => group.origin.as_option(),
            Work::Apply(Body::Ack(ack)) => ack.origin.as_option(),
            Work::Apply(Body::Read(read)) => read.origin.as_option(),
            Work::Apply(Body::History(history)) => history.origin.as_option(),
            Work::Apply(Body::KeysPublish(publish)) => publish.origin.as_option(),
            Work::Apply(Body::KeysFetch(fetch)) => fetch.origin.as_option(),
            Work::Apply(Body::Watch(watch)) => watch.origin.as_option(),
            Work::Apply(Body::Typing(typing)) => typing.origin.as_option(),
            Work::Apply(Body::Events(events)) => events.origin.as_option(),
            Work::Apply(Body::Devices(devices)) => devices.origin.as_option(),
            Work::Apply(Body::RemoveDevice(remove)) => remove.origin.as_option(),
            Work::Apply(Body::Groups(groups)) => groups.origin.as_option(),
            _ => None,
        }
    }
}

/// The refusal of a request past a limit of its user, which is counted here and nowhere else.
fn limited(request: &Request, throttle: &Throttle) -> Option<Work> {
    let (Request::Frame { session, user, id, body, .. }
    | Request::Call { session, user, id, call: Call::Frame(body), .. }) = request
    else {
        return None;
    };
    let (kind, tokens) = Kind::of(body)?;
    let retry_after_ms = throttle.check(kind, *user, tokens).err()?;
    let message = format!("too many {} by this user; wait", kind.name());
    let error = Error { code: Code::RATE_LIMITED.into(), message, retry_after_ms };
    Some(Work::Refuse { session: *session, id: *id, error })
}

fn of_request(request: Request) -> Work {
    match request {
        Request::Attach { session, user, device } => {
            Work::Apply(log::Attach { origin: origin(session, user, device, 0).into() }.into())
        }
        Request::Detach { session, user, device } => {
            Work::Apply(log::Detach { origin: origin(session, user, device, 0).into() }.into())
        }
        Request::Frame { session, user, device, id, body } => {
            of_frame(origin(session, user, device, id), body)
        }
        Request::Call { session, user, device, id, call } => {
            of_call(Origin { call: true, ..origin(session, user, device, id) }, call)
        }
    }
}

fn of_call(origin: Origin, call: Call) -> Work {
    let body = match call {
        Call::Frame(body) => return of_frame(origin, body),
        Call::Events { after, limit } => log::Events { origin: origin.into(), after, limit }.into(),
        Call::Devices => log::Devices { origin: origin.into() }.into(),
        Call::RemoveDevice { device } => log::RemoveDevice { origin: origin.into(), device }.into(),
        Call::Groups { after } => log::Groups { origin: origin.into(), after }.into(),
    };
    Work::Apply(body)
}

fn of_frame(origin: Origin, body: client_frame::Body) -> Work {
    use client_frame::Body as Frame;
    let origin = origin.into();
    match body {
        Frame::Send(send) => {
            Work::Apply(log::Send { origin, send: (*send).into(), receiver_known: false }.into())
        }
        Frame::Ack(ack) => Work::Apply(log::Ack { origin, up_to: ack.up_to }.into()),
        Frame::Read(read) => Work::Apply(log::Read { origin, message: read.message }.into()),
        Frame::Typing(typing) => Work::Apply(log::Typing { origin, typing: (*typing).into() }.into()),
        Frame::Watch(watch) => Work::Apply(log::Watch { origin, user: watch.user }.into()),
        Frame::Group(command) => {
            Work::Apply(log::Group { origin, command: (*command).into(), unknown: 0 }.into())
        }
        Frame::KeysPublish(keys) => Work::Apply(log::KeysPublish { origin, keys: (*keys).into() }.into()),
        Frame::KeysFetch(fetch) => Work::Apply(log::KeysFetch { origin, user: fetch.user }.into()),
        Frame::History(fetch) => Work::Apply(log::History { origin, fetch: (*fetch).into() }.into()),
    }
}

fn origin(session: SessionId, user: UserId, device: DeviceId, id: u32) -> Origin {
    Origin {
        gateway: u32::from(session.gateway),
        shard: u32::from(session.shard),
        slot: session.slot,
        generation: session.generation,
        user,
        device,
        id,
        call: false,
    }
}
