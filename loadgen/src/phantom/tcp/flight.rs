//! What a busy phantom needs beyond its 24 bytes, in a bounded pool: bytes that are not acknowledged, the retransmission
//! timer's numbers, bytes beyond a hole, and input that is not complete.

use super::rtt::Backoff;
use super::wheel::Wheel;
use crate::phantom::limits::{
    DUPLICATES_MAX, FLIGHT_BUFFER_KEPT_BYTES, FLIGHTS_MAX, WINDOW_INITIAL_SEGMENTS,
};

/// A busy phantom's part in the pool.
#[derive(Debug, Default)]
pub struct Flight {
    /// Whose it is.
    pub(super) owner: u32,
    /// SND.UNA.
    pub(super) una: u32,
    /// The next sequence number to send, or to send again: `una <= next <= snd_nxt`.
    pub(super) next: u32,
    /// Data from `una` on (behind the SYN while that is not acknowledged), sent or not.
    pub(super) out: Vec<u8>,
    /// A FIN follows the data.
    pub(super) fin: bool,
    /// Congestion window and threshold in bytes (RFC 5681).
    pub(super) cwnd: u32,
    pub(super) ssthresh: u32,
    /// Duplicate acknowledgements in a row (RFC 5681 section 3.2).
    pub(super) duplicates: u8,
    /// A fast retransmission is under way until this is acknowledged (RFC 6582).
    pub(super) recover: Option<u32>,
    /// The segment that is timed: behind its last sequence number, and when it left (Karn: never one sent twice).
    pub(super) timed: Option<(u32, u64)>,
    /// The retransmission timeout and how often it was reached in a row.
    pub(super) backoff: Backoff,
    /// Bytes beyond a hole, and the sequence number of the first: `held_seq > rcv_nxt` where `held` is not empty.
    pub(super) held: Vec<u8>,
    pub(super) held_seq: u32,
    /// Input of the session that is not complete.
    pub input: Vec<u8>,
    /// How much of it came while the phantom did not read.
    pub(super) unread: u16,
    /// A message's fragments so far.
    pub message: Vec<u8>,
    /// When the connection was begun, microseconds.
    pub begun_us: u64,
    /// The session wants it kept although nothing is under way.
    pub pinned: bool,
}

impl Flight {
    fn reset(&mut self, owner: u32, seq: u32, mss: u32, backoff: Backoff) {
        for buffer in [&mut self.out, &mut self.held, &mut self.input, &mut self.message] {
            if buffer.capacity() > FLIGHT_BUFFER_KEPT_BYTES {
                *buffer = Vec::new();
            }
            buffer.clear();
        }
        self.owner = owner;
        self.una = seq;
        self.next = seq;
        self.fin = false;
        self.cwnd = WINDOW_INITIAL_SEGMENTS * mss;
        self.ssthresh = u32::MAX;
        self.duplicates = 0;
        self.recover = None;
        self.timed = None;
        self.backoff = backoff;
        self.begun_us = 0;
        self.unread = 0;
        self.pinned = false;
    }

    /// Keeps input that the phantom does not read.
    pub fn leave_unread(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.unread = self.unread.saturating_add(bytes.len() as u16);
    }

    /// The next byte of a request that leaves a byte at a time; `None` behind the last.
    pub fn next_drip(&mut self) -> Option<u8> {
        (!self.message.is_empty()).then(|| self.message.remove(0))
    }

    /// Whether nothing in it is needed any more, but for what TCP's state asks.
    pub(super) fn is_idle(&self, snd_nxt: u32) -> bool {
        let sent = self.una == snd_nxt && self.out.is_empty() && !self.fin;
        sent && !self.pinned && self.held.is_empty() && self.input.is_empty() && self.message.is_empty()
    }

    /// Counts a duplicate acknowledgement; true where it stands for a loss.
    pub(super) fn duplicate(&mut self) -> bool {
        self.duplicates = self.duplicates.saturating_add(1);
        self.duplicates == DUPLICATES_MAX && self.recover.is_none()
    }

    /// A loss: half the window (RFC 5681 section 3.1).
    pub(super) fn halve(&mut self, outstanding: u32, mss: u32) {
        self.ssthresh = (outstanding / 2).max(2 * mss);
    }

    /// An acknowledgement of new data opens the congestion window (RFC 5681 section 3.1).
    pub(super) fn open_window(&mut self, acknowledged: u32, mss: u32) {
        let more =
            if self.cwnd < self.ssthresh { acknowledged.min(mss) } else { (mss * mss / self.cwnd).max(1) };
        self.cwnd = self.cwnd.saturating_add(more);
    }

    /// Keeps bytes beyond a hole: one run of them. What neither overlaps nor touches it is dropped, and sent again by the
    /// peer. True where they were kept.
    pub(super) fn hold(&mut self, seq: u32, bytes: &[u8]) -> bool {
        if self.held.is_empty() {
            self.held_seq = seq;
            self.held.extend_from_slice(bytes);
            return true;
        }
        let at = seq.wrapping_sub(self.held_seq).cast_signed();
        let end = at + bytes.len() as i32;
        if end < 0 || at > self.held.len() as i32 {
            return false;
        }
        let behind = end - self.held.len() as i32;
        if behind > 0 {
            self.held.extend_from_slice(&bytes[bytes.len() - (behind as usize).min(bytes.len())..]);
        }
        if at < 0 {
            let before = at.unsigned_abs() as usize;
            self.held.splice(..0, bytes[..before.min(bytes.len())].iter().copied());
            self.held_seq = seq;
        }
        true
    }
}

/// The flights of one thread, with their timers. `used + free.len() == all.len()`.
#[derive(Debug)]
pub struct Flights {
    all: Vec<Flight>,
    free: Vec<u32>,
    max: u32,
    /// Deadlines by flight number.
    pub(super) wheel: Wheel,
}

impl Flights {
    /// An empty pool that grows to `max` flights, at most [`FLIGHTS_MAX`].
    pub fn new(max: u32) -> Self {
        Self { all: Vec::new(), free: Vec::new(), max: max.min(FLIGHTS_MAX), wheel: Wheel::new() }
    }

    /// Flights in use.
    pub fn used(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// Whether another one can be taken.
    pub fn has_room(&self) -> bool {
        self.used() < self.max as usize
    }

    /// Takes a flight for a phantom whose next sequence number is `seq`; `None` where the pool is empty.
    pub(super) fn take(&mut self, owner: u32, seq: u32, mss: u32, backoff: Backoff) -> Option<u32> {
        if !self.has_room() {
            return None;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(Flight::default());
            self.wheel.grow();
            self.all.len() as u32 - 1
        });
        self.all[number as usize].reset(owner, seq, mss, backoff);
        Some(number)
    }

    /// Gives a flight back.
    pub(super) fn give(&mut self, number: u32) {
        self.wheel.disarm(number);
        self.free.push(number);
    }

    /// The flight of that number.
    pub(super) fn at(&mut self, number: u32) -> &mut Flight {
        &mut self.all[number as usize]
    }

    /// The flight of that number, to look at.
    pub(super) fn look(&self, number: u32) -> &Flight {
        &self.all[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_of_bytes_is_kept_beyond_a_hole_whatever_the_order() {
        let text: Vec<u8> = (0..100).collect();
        // Across the wrap of sequence numbers.
        let base = u32::MAX - 30;
        for pieces in [
            &[(10, 20), (20, 30), (30, 60)][..],
            &[(30, 60), (20, 30), (10, 20)],
            &[(20, 40), (10, 60)],
            &[(20, 40), (15, 25), (35, 60), (10, 15)],
            &[(10, 60), (20, 30)],
            &[(30, 60), (10, 30), (10, 60)],
        ] {
            let mut flight = Flight::default();
            for &(from, to) in pieces {
                assert!(flight.hold(base.wrapping_add(from), &text[from as usize..to as usize]));
            }
            assert_eq!(flight.held_seq, base.wrapping_add(10));
            assert_eq!(flight.held, text[10..60], "{pieces:?}");
        }
        let mut flight = Flight::default();
        assert!(flight.hold(100, &text[..10]));
        assert!(!flight.hold(111, &text[11..20]) && !flight.hold(80, &text[..19]), "another hole: dropped");
        assert_eq!((flight.held_seq, flight.held.len()), (100, 10));
    }

    #[test]
    fn a_request_that_drips_has_an_end() {
        let mut flight = Flight { message: b"GET".to_vec(), ..Flight::default() };
        let dripped: Vec<_> = (0..5).map(|_| flight.next_drip()).collect();
        assert_eq!(dripped, [Some(b'G'), Some(b'E'), Some(b'T'), None, None]);
    }

    #[test]
    fn a_flight_that_is_taken_again_is_as_new_and_the_pool_has_an_end() {
        let mut flights = Flights::new(2);
        let first = flights.take(7, 100, 1000, Backoff::default()).unwrap();
        assert!(flights.take(8, 0, 1000, Backoff::default()).is_some());
        assert_eq!((flights.take(9, 0, 1000, Backoff::default()), flights.used()), (None, 2));
        let flight = flights.at(first);
        flight.out.extend([1; 10_000]);
        (flight.fin, flight.pinned, flight.recover) = (true, true, Some(1));
        flights.give(first);
        assert_eq!(flights.take(9, 5, 1000, Backoff::default()), Some(first));
        let flight = flights.at(first);
        assert!(
            flight.is_idle(5)
                && flight.out.capacity() <= FLIGHT_BUFFER_KEPT_BYTES
                && flight.recover.is_none()
        );
    }
}
