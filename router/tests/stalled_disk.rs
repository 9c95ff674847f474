//! A disk that stalls: what must be stored waits, and nothing else does.

mod common;
#[path = "common/faulty.rs"]
mod faulty;

use common::{Client, Shards, config};
use faulty::{Fault, Faulty, Operation};
use roost_proto::v1::{self, HistoryFetch, address::To, server_frame};
use roost_router::{Action, Answer, Call, Full, Request, StoreError, start_with_store};
use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

/// Commits wait while it is shut.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    shut: bool,
    /// A commit is under way.
    waiting: bool,
}

impl Gate {
    fn shut(&self, shut: bool) {
        self.state.lock().unwrap().shut = shut;
        self.changed.notify_all();
    }

    fn wait_for_a_commit(&self) {
        let state = self.state.lock().unwrap();
        let wait = self.changed.wait_timeout_while(state, common::DEADLINE, |state| !state.waiting);
        assert!(!wait.unwrap().1.timed_out(), "nothing is committed");
    }
}

impl Fault for Gate {
    fn before(&self, operation: Operation<'_>) -> Result<(), StoreError> {
        if matches!(operation, Operation::Commit(batch) if !batch.is_empty()) {
            let mut state = self.state.lock().unwrap();
            state.waiting = true;
            self.changed.notify_all();
            self.changed.wait_while(state, |state| state.shut).unwrap().waiting = false;
        }
        Ok(())
    }
}

fn history(with: u64) -> HistoryFetch {
    HistoryFetch { with: v1::Address { to: Some(To::User(with)) }.into(), ..HistoryFetch::default() }
}

#[test]
fn who_is_known_comes_back_and_reads_and_sends_wait_for_room() {
    let (gate, shards) = (Arc::new(Faulty::<Gate>::default()), Shards::new());
    let config = roost_router::Config {
        queue_requests_max: 64,
        batch_requests_max: 16,
        history_days: 7,
        ..config(Path::new("unused"), 1)
    };
    let router = start_with_store(config, gate.clone(), shards.clone()).unwrap();
    let handle = router.handle();
    let [alice, bob, carol] =
        [1, 2, 3].map(|user| Client::attach(&handle, &shards, user, u64::from(user), 1));
    for client in [&alice, &bob, &carol] {
        client.welcome();
    }
    alice.send(1, 2, "a", "before");
    let before = alice.sent(1).id;
    bob.messages(1);
    gate.fault.shut(true);
    alice.send(2, 3, "b", "stalled");
    gate.fault.wait_for_a_commit();
    // More than the queue holds comes back to the shard, which stops reading those sockets.
    let send = |n: u32| Request::Frame {
        session: alice.session,
        user: 1,
        device: 1,
        id: 100 + n,
        body: common::send(3, &format!("c{n}"), "more").into(),
    };
    let taken = (0..200).take_while(|n| handle.submit(send(*n)).is_ok()).count();
    assert!((64..=80).contains(&taken), "{taken} were taken");
    assert!(matches!(handle.submit(send(900)), Err(Full(_))));
    // Bob comes back and gets what waits for him; history and the stream are read.
    let again = Client::attach(&handle, &shards, 12, 2, 1);
    assert_eq!(again.messages(1)[0].id, before);
    bob.frame(7, history(1));
    let Some(server_frame::Body::History(page)) = shards.reply(bob.session, 7).body else {
        panic!("no history")
    };
    assert_eq!(page.message.iter().map(|m| m.id).collect::<Vec<_>>(), [before]);
    let call = common::session(40);
    let events = Call::Events { after: Some(0), limit: 10 };
    again.submit(Request::Call { session: call, user: 2, device: 1, id: 1, call: events });
    let answered = shards.wait(call, "answer", |effects| !effects.is_empty());
    let Action::Answer(answer) = &answered[0].action else { panic!("no answer: {answered:?}") };
    assert!(matches!(&**answer, Answer::Events { events, .. } if events.len() == 1), "{answer:?}");
    // Nothing was answered that is not stored, and all of it is once the disk goes on.
    assert!(common::events(&shards.now(carol.session)).is_empty());
    gate.fault.shut(false);
    assert!(!alice.sent(2).duplicate);
    for n in 0..taken as u32 {
        alice.sent(100 + n);
    }
    let messages = carol.messages(1 + taken);
    assert!(messages.is_sorted_by(|a, b| a.id < b.id));
    router.stop();
}
