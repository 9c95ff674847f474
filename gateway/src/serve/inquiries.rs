//! From the HTTP service to the shards and back: who is connected as a user.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use roost_gateway::{
    http::{Connection, Connections, ConnectionsFuture, UserConnections},
    limits,
    mailbox::Sender,
    shard::{Answer, Found, Inquiry, Shared},
};
use roost_proto::tier::Effect;
use tokio::sync::mpsc;

/// Asks all shards.
pub struct Inquiries {
    /// Has the desk they look at.
    pub shared: Arc<Shared>,
    /// By shard, to wake them.
    pub shards: Vec<Sender<Effect>>,
}

impl Connections for Inquiries {
    fn of_user(&self, user: u64) -> ConnectionsFuture {
        // Room for an answer of each, so that none is ever refused.
        let (sender, answers) = mpsc::channel(self.shards.len().max(1));
        let answer = move |answer| drop(sender.try_send(answer));
        self.shared.desk.ask(Inquiry { user, answer: Arc::new(answer) });
        self.shards.iter().for_each(Sender::wake);
        let longest = Duration::from_millis(limits::INQUIRY_MS_MAX);
        let all = gather(answers, self.shards.len());
        Box::pin(async move { tokio::time::timeout(longest, all).await.ok().flatten() })
    }
}

async fn gather(mut answers: mpsc::Receiver<Answer>, shards: usize) -> Option<UserConnections> {
    let mut all = UserConnections::default();
    for _ in 0..shards {
        let answer = answers.recv().await?;
        all.more |= answer.more;
        all.connections.extend(answer.found.iter().map(|found| connection(answer.shard, found)));
    }
    all.connections.sort_by_key(|one| (one.shard, one.slot));
    Some(all)
}

fn connection(shard: u16, found: &Found) -> Connection {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Connection {
        shard,
        slot: found.slot,
        generation: found.generation,
        device: found.device,
        address: found.address,
        state: found.state,
        connected_at_s: now_s.saturating_sub(found.age_s),
        silent_s: found.silent_s,
        queued_bytes: found.queued_bytes,
        busy: found.busy,
        paused: found.paused,
    }
}
