//! From what a gateway asks to what a partition applies.

use crate::{
    api::{AccountOutcome, DeviceId, Request, SessionId, UserId},
    log::{self, Origin, command::Body},
    partition::{group_home, group_receiver, home, pair_home, receiver},
};
use roost_proto::v1::{Code, client_frame};

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
    Refuse { session: SessionId, id: u32, code: Code, text: &'static str },
}

/// The partition a request belongs to.
pub(crate) fn route(request: &Request, partitions: u16) -> u16 {
    match request {
        Request::Frame { user, body: client_frame::Body::Group(command), .. } => {
            group_home(command.group, partitions)
                .filter(|_| command.group != 0)
                .unwrap_or_else(|| home(*user, partitions))
        }
        Request::Frame { user, body: client_frame::Body::Send(send), .. } => {
            if let Some(group) = group_receiver(send) {
                return group_home(group, partitions).unwrap_or_else(|| home(*user, partitions));
            }
            receiver(send).map_or_else(|| home(*user, partitions), |to| pair_home(*user, to, partitions))
        }
        Request::Attach { user, .. } | Request::Detach { user, .. } | Request::Frame { user, .. } => {
            home(*user, partitions)
        }
    }
}

impl Item {
    pub(super) fn command(partition: u16, body: Body) -> Self {
        Self { partition, work: Work::Apply(body), done: None, settled: false }
    }

    /// None: nothing to do and nothing to answer.
    pub(super) fn of(job: Job, partitions: u16) -> Option<Self> {
        match job {
            Job::Request(request) => {
                let partition = route(&request, partitions);
                Some(Self { partition, work: of_request(request)?, done: None, settled: false })
            }
            Job::Account { user, password_hash, done } => {
                let work = Work::Apply(log::CreateAccount { user, password_hash }.into());
                Some(Self { partition: home(user, partitions), work, done: Some(done), settled: false })
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
            _ => None,
        }
    }
}

fn of_request(request: Request) -> Option<Work> {
    Some(match request {
        Request::Attach { session, user, device } => {
            Work::Apply(log::Attach { origin: origin(session, user, device, 0).into() }.into())
        }
        Request::Detach { session, user, device } => {
            Work::Apply(log::Detach { origin: origin(session, user, device, 0).into() }.into())
        }
        Request::Frame { session, user, device, id, body } => of_frame(session, user, device, id, body)?,
    })
}

fn of_frame(
    session: SessionId,
    user: UserId,
    device: DeviceId,
    id: u32,
    body: client_frame::Body,
) -> Option<Work> {
    use client_frame::Body as Frame;
    let origin = origin(session, user, device, id).into();
    let refuse = |code, text| Work::Refuse { session, id, code, text };
    Some(match body {
        Frame::Send(send) => {
            Work::Apply(log::Send { origin, send: (*send).into(), receiver_known: false }.into())
        }
        Frame::Ack(ack) => Work::Apply(log::Ack { origin, up_to: ack.up_to }.into()),
        Frame::Read(read) => Work::Apply(log::Read { origin, message: read.message }.into()),
        // Lost without harm: who sends these unnumbered does not wait.
        Frame::Typing(_) | Frame::Watch(_) if id == 0 => return None,
        Frame::Typing(_) => refuse(Code::FORBIDDEN, "typing notices are not served by this version"),
        Frame::Watch(_) => refuse(Code::FORBIDDEN, "presence is not served by this version"),
        Frame::Group(command) => {
            Work::Apply(log::Group { origin, command: (*command).into(), unknown: 0 }.into())
        }
        Frame::KeysPublish(_) | Frame::KeysFetch(_) => {
            refuse(Code::FORBIDDEN, "keys are not served by this version")
        }
        Frame::History(_) => refuse(Code::FORBIDDEN, "history is not served by this version"),
    })
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
    }
}
