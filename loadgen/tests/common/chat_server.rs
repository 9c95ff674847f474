//! A chat server for tests, tungstenite and a mutex: Welcome, Sent, Event, Ack, Read and receipts as `roost.proto` has
//! them. It can be told to err, and to die and come back with what it had accepted.

use roost_proto::codec::{Encoding, decode_client_frame, encode_server_frame};
use roost_proto::v1::{
    self, Event, Mark, Receipt, Sent, ServerFrame, Welcome, address, client_frame, event, server_frame,
};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket, accept_hdr};

/// What its Welcome names.
pub const PAYLOAD_BYTES_MAX: u32 = 128;

/// What the server does wrong, with each twentieth message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatFault {
    /// Nothing.
    None,
    /// It is answered with Sent and forgotten.
    Lose,
    /// It is stored twice.
    Double,
    /// It is stored behind the next one between the same two.
    Disorder,
    /// Its sender gets a receipt for a message that does not exist.
    FalseReceipt,
}

#[derive(Default)]
struct User {
    events: Vec<Event>,
    acknowledged: u64,
}

#[derive(Default)]
struct Store {
    users: HashMap<u64, User>,
    sent: HashMap<(u64, Vec<u8>), Sent>,
    held: Option<v1::Message>,
    accepted: u64,
}

/// The server; its threads end with the process.
pub struct ChatServer {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    store: Mutex<Store>,
    fault: ChatFault,
    /// Connections of an earlier epoch end.
    epoch: AtomicU64,
    down: AtomicBool,
    /// Connections that came while it was down.
    turned_away: AtomicU64,
}

impl ChatServer {
    pub fn start(fault: ChatFault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let inner = Arc::new(Inner {
            store: Mutex::default(),
            fault,
            epoch: AtomicU64::new(0),
            down: AtomicBool::new(false),
            turned_away: AtomicU64::new(0),
        });
        let serving = inner.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inner = serving.clone();
                if inner.down.load(SeqCst) {
                    inner.turned_away.fetch_add(1, SeqCst);
                } else {
                    thread::spawn(move || inner.serve(stream));
                }
            }
        });
        Self { address, inner }
    }

    /// Messages accepted so far.
    pub fn accepted(&self) -> u64 {
        self.inner.store.lock().expect("no thread panicked").accepted
    }

    /// Ends all connections without a word and takes none until [`Self::revive`].
    pub fn kill(&self) {
        self.inner.down.store(true, SeqCst);
        self.inner.epoch.fetch_add(1, SeqCst);
    }

    /// Connections that came while it was down.
    pub fn turned_away(&self) -> u64 {
        self.inner.turned_away.load(SeqCst)
    }

    pub fn revive(&self) {
        self.inner.down.store(false, SeqCst);
    }
}

impl Inner {
    fn serve(&self, stream: TcpStream) {
        let epoch = self.epoch.load(SeqCst);
        let (mut user, mut encoding) = (0, Encoding::Proto);
        #[allow(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
        let greet = |request: &Request, mut response: Response| {
            let query = request.uri().query().unwrap_or_default();
            let number = query.split('&').find_map(|pair| pair.strip_prefix("user="));
            user = number.and_then(|number| number.parse().ok()).unwrap_or_default();
            let name = request.headers()["sec-websocket-protocol"].clone();
            encoding = name.to_str().ok().and_then(Encoding::from_sub_protocol).expect("one of ours");
            response.headers_mut().insert("sec-websocket-protocol", name);
            Ok(response)
        };
        let Ok(mut socket) = accept_hdr(stream, greet) else { return };
        let _ = socket.get_ref().set_read_timeout(Some(Duration::from_millis(3)));
        let mut session = Session { socket: &mut socket, encoding, user, sent_up_to: 0 };
        session.sent_up_to = session.welcome(self);
        while self.epoch.load(SeqCst) == epoch && session.step(self).is_some() {}
    }
}

struct Session<'a> {
    socket: &'a mut WebSocket<TcpStream>,
    encoding: Encoding,
    user: u64,
    sent_up_to: u64,
}

impl Session<'_> {
    fn welcome(&mut self, inner: &Inner) -> u64 {
        let (acknowledged, head) = {
            let mut store = inner.store.lock().expect("no thread panicked");
            let user = store.users.entry(self.user).or_default();
            (user.acknowledged, user.events.len() as u64)
        };
        let welcome = Welcome {
            user: self.user,
            device: 1,
            acknowledged,
            head,
            heartbeat_s: 1,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            ..Welcome::default()
        };
        self.send(0, server_frame::Body::from(welcome));
        acknowledged
    }

    /// Reads at most one frame, then sends what is new in the stream; `None` at the end.
    fn step(&mut self, inner: &Inner) -> Option<()> {
        match self.socket.read() {
            Ok(message @ (Message::Binary(_) | Message::Text(_))) => {
                let frame =
                    decode_client_frame(self.encoding, &message.into_data()).expect("a readable frame");
                self.take(inner, frame.id, frame.body);
            }
            Ok(_) => (),
            Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => (),
            Err(_) => return None,
        }
        let events = {
            let mut store = inner.store.lock().expect("no thread panicked");
            store.users.entry(self.user).or_default().events[self.sent_up_to as usize..].to_vec()
        };
        for event in events {
            self.sent_up_to = event.seq;
            self.send(0, server_frame::Body::from(event));
        }
        Some(())
    }

    fn take(&mut self, inner: &Inner, id: u32, body: Option<client_frame::Body>) {
        let mut store = inner.store.lock().expect("no thread panicked");
        match body {
            Some(client_frame::Body::Send(send)) => {
                let sent = store.accept(inner.fault, self.user, &send);
                drop(store);
                self.send(id, server_frame::Body::from(sent));
            }
            Some(client_frame::Body::Ack(ack)) => store.acknowledge(self.user, ack.up_to),
            Some(client_frame::Body::Read(read)) => {
                let confirmed = store.find(self.user, &read.message);
                store.confirm(self.user, Mark::READ, confirmed);
            }
            _ => (),
        }
    }

    fn send(&mut self, reply_to: u32, body: server_frame::Body) {
        let frame = ServerFrame { reply_to, body: Some(body) };
        let mut bytes = Vec::new();
        encode_server_frame(self.encoding, &frame, &mut bytes);
        let message = match self.encoding {
            Encoding::Proto => Message::binary(bytes),
            Encoding::Json => Message::text(String::from_utf8(bytes).expect("JSON is UTF-8")),
        };
        // The next read sees that the client is gone.
        let _ = self.socket.send(message);
    }
}

impl Store {
    fn accept(&mut self, fault: ChatFault, from: u64, send: &v1::Send) -> Sent {
        let key = (from, send.client_id.to_vec());
        if let Some(sent) = self.sent.get(&key) {
            return Sent { duplicate: true, ..sent.clone() };
        }
        self.accepted += 1;
        let sent = Sent { id: self.accepted, client_id: send.client_id.clone(), ..Sent::default() };
        self.sent.insert(key, sent.clone());
        let message = v1::Message {
            id: sent.id,
            from,
            from_device: 1,
            to: send.to.clone(),
            client_id: send.client_id.clone(),
            payload: send.payload.clone(),
            ..v1::Message::default()
        };
        let struck = self.accepted.is_multiple_of(20);
        match fault {
            ChatFault::Lose if struck => return sent,
            ChatFault::Double if struck => self.store(message.clone()),
            ChatFault::FalseReceipt if struck => self.confirm(2, Mark::READ, vec![(from, 1 << 40)]),
            ChatFault::Disorder if struck && self.held.is_none() => {
                self.held = Some(message);
                return sent;
            }
            _ => (),
        }
        let behind = self.held.take_if(|held| (held.from, &held.to) == (from, &message.to));
        self.store(message);
        if let Some(late) = behind {
            self.store(late);
        }
        sent
    }

    fn store(&mut self, message: v1::Message) {
        let Some(address::To::User(to)) = message.to.as_option().and_then(|to| to.to.clone()) else { return };
        self.append(to, event::Body::from(message));
    }

    fn append(&mut self, user: u64, body: event::Body) {
        let events = &mut self.users.entry(user).or_default().events;
        events.push(Event { seq: events.len() as u64 + 1, body: Some(body) });
    }

    fn acknowledge(&mut self, user: u64, up_to: u64) {
        let state = self.users.entry(user).or_default();
        let from = state.acknowledged.min(up_to) as usize;
        state.acknowledged = state.acknowledged.max(up_to);
        let newly = &state.events[from..up_to as usize];
        let confirmed = newly.iter().filter_map(|event| match &event.body {
            Some(event::Body::Message(message)) => Some((message.from, message.id)),
            _ => None,
        });
        let confirmed = confirmed.collect();
        self.confirm(user, Mark::DELIVERED, confirmed);
    }

    fn find(&self, user: u64, ids: &[u64]) -> Vec<(u64, u64)> {
        let events = self.users.get(&user).map_or(&[][..], |user| &user.events);
        let messages = events.iter().filter_map(|event| match &event.body {
            Some(event::Body::Message(message)) => Some((message.from, message.id)),
            _ => None,
        });
        messages.filter(|(_, id)| ids.contains(id)).collect()
    }

    fn confirm(&mut self, by: u64, mark: Mark, messages: Vec<(u64, u64)>) {
        for (sender, id) in messages {
            let receipt = Receipt { mark: mark.into(), by, message: vec![id], ..Receipt::default() };
            self.append(sender, event::Body::from(receipt));
        }
    }
}
