//! Rings that cost next to nothing: what is asked of them is completed in the next turn, so that what is counted is the shard.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use roost_gateway::ring::{Buffer, Completion, Descriptor, Occupancy, Op, Ring, Token};

/// errno(3).
const ECANCELED: i32 = 125;

/// One connection as its ring sees it.
#[derive(Default)]
struct Place {
    poll: Option<Token>,
    receive: Option<Token>,
}

/// What stands behind [`FeedRing`].
#[derive(Default)]
pub struct Feed {
    places: Vec<Place>,
    due: Vec<Completion>,
    /// What the next read of any connection brings.
    input: Vec<u8>,
    /// Sends so far.
    pub sends: u64,
}

impl Feed {
    /// So many connections are accepted in the next turn.
    pub fn accept(&mut self, connections: u32) {
        for place in 0..connections {
            self.places.push(Place::default());
            self.due.push(Completion {
                descriptor: Some(Descriptor::new(0, place)),
                ..Completion::plain(Token::new(Op::Accept, 0, 0), place as i32, false)
            });
        }
    }

    /// Nothing is left to complete.
    pub fn is_at_rest(&self) -> bool {
        self.due.is_empty()
    }

    /// Every connection has `input` to read from the next turn on: a poll fires, an armed receive brings it.
    pub fn arrive(&mut self, input: &[u8]) {
        self.input.clear();
        self.input.extend_from_slice(input);
        for (number, place) in self.places.iter_mut().enumerate() {
            if let Some(token) = place.receive {
                // The number of a provided buffer has 16 bits, which is enough for those that receive.
                let buffer = Some(Buffer::Provided { ring: 0, id: number as u16 });
                self.due.push(Completion { buffer, ..Completion::plain(token, input.len() as i32, true) });
            } else if let Some(token) = place.poll {
                self.due.push(Completion::plain(token, 1, true));
            }
        }
    }
}

/// The shard's handle on a [`Feed`].
pub struct FeedRing {
    feed: Rc<RefCell<Feed>>,
    /// The one buffer there is: the shard looks at one input at a time, and may change it.
    buffer: Vec<u8>,
}

impl FeedRing {
    /// Rings before `feed`.
    pub fn new(feed: Rc<RefCell<Feed>>) -> Self {
        Self { feed, buffer: Vec::new() }
    }
}

impl Ring for FeedRing {
    fn accept(&mut self, _: bool) {}

    fn poll(&mut self, descriptor: Descriptor, token: Token) {
        self.feed.borrow_mut().places[descriptor.place() as usize].poll = Some(token);
    }

    fn read(&mut self, descriptor: Descriptor, token: Token) -> bool {
        let feed = &mut *self.feed.borrow_mut();
        feed.due.push(Completion {
            buffer: Some(Buffer::Read(descriptor.place() as u16)),
            ..Completion::plain(token, feed.input.len() as i32, false)
        });
        true
    }

    fn receive(&mut self, descriptor: Descriptor, token: Token) -> bool {
        self.feed.borrow_mut().places[descriptor.place() as usize].receive = Some(token);
        true
    }

    fn send(&mut self, _: Descriptor, token: Token, bytes: Vec<u8>) {
        let feed = &mut *self.feed.borrow_mut();
        feed.sends += 1;
        let result = bytes.len() as i32;
        feed.due.push(Completion { sent: Some(bytes), ..Completion::plain(token, result, false) });
    }

    fn shutdown_write(&mut self, _: Descriptor, token: Token) {
        self.feed.borrow_mut().due.push(Completion::plain(token, 0, false));
    }

    fn close(&mut self, _: Descriptor, token: Token) {
        self.feed.borrow_mut().due.push(Completion::plain(token, 0, false));
    }

    fn cancel(&mut self, descriptor: Descriptor, target: Token) {
        let feed = &mut *self.feed.borrow_mut();
        let place = &mut feed.places[descriptor.place() as usize];
        place.poll.take_if(|token| *token == target);
        place.receive.take_if(|token| *token == target);
        feed.due.push(Completion::plain(target, -ECANCELED, false));
    }

    fn wait(&mut self, _: Duration, into: &mut Vec<Completion>) -> io::Result<()> {
        into.append(&mut self.feed.borrow_mut().due);
        Ok(())
    }

    fn buffer(&mut self, _: Buffer, bytes: usize) -> &mut [u8] {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.feed.borrow().input);
        &mut self.buffer[..bytes]
    }

    fn recycle(&mut self, _: Buffer) {}

    fn rest(&mut self) {}

    fn occupancy(&self) -> Occupancy {
        Occupancy::default()
    }
}
