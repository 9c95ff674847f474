//! Output that waits to be sent.

use super::Bounds;
use crate::limits;

/// No outbox.
pub const NO_OUTBOX: u32 = u32::MAX;

#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    /// All of it may wait until then, in milliseconds of the shard's age (`company.rs`); 0: it leaves as soon as it can.
    due_ms: u64,
    /// As much of it as is among [`Outboxes::bytes`].
    counted: usize,
}

/// Output that waits, for the few connections that have any.
#[derive(Default)]
pub struct Outboxes {
    boxes: Vec<Outbox>,
    free: Vec<u32>,
    spare: Vec<Vec<u8>>,
    /// What a connection without an outbox writes to; empty but between [`Self::write`] and [`Self::written`].
    desk: Vec<u8>,
    /// What waits behind a send that is under way, and what is sent.
    bytes: usize,
    /// Most in use at a time since the last rest.
    peak: usize,
    pub(super) bounds: Bounds,
}

impl Outboxes {
    /// The outbox of a slot, made when it has none.
    pub fn open(&mut self, index: &mut u32) -> &mut Vec<u8> {
        if *index == NO_OUTBOX {
            *index = self.free.pop().unwrap_or_else(|| {
                self.boxes.push(Outbox::default());
                self.boxes.len() as u32 - 1
            });
            let bytes = self.spare.pop().unwrap_or_default();
            self.boxes[*index as usize] = Outbox { bytes, due_ms: 0, counted: 0 };
            self.peak = self.peak.max(self.in_use());
        }
        &mut self.boxes[*index as usize].bytes
    }

    /// Where a connection may write that may have nothing to say; [`Self::written`] follows. Most input is answered with nothing, and
    /// needs no outbox for it.
    pub fn write(&mut self, index: u32) -> &mut Vec<u8> {
        if index == NO_OUTBOX { &mut self.desk } else { &mut self.boxes[index as usize].bytes }
    }

    /// Makes an outbox of what was written, where there was none and something was.
    pub fn written(&mut self, index: &mut u32) {
        if *index == NO_OUTBOX && !self.desk.is_empty() {
            self.open(index);
            std::mem::swap(&mut self.boxes[*index as usize].bytes, &mut self.desk);
        }
    }

    /// What waits leaves as soon as it can.
    pub fn hurry(&mut self, index: u32) {
        if index != NO_OUTBOX {
            self.boxes[index as usize].due_ms = 0;
        }
    }

    /// What was just put into an outbox may wait until then. `alone`: it was empty before. True where the outbox waits from now on, or
    /// less than it did.
    pub fn wait(&mut self, index: u32, alone: bool, due_ms: u64) -> bool {
        let outbox = &mut self.boxes[index as usize];
        let is_news = alone || due_ms < outbox.due_ms;
        if is_news {
            outbox.due_ms = due_ms;
        }
        is_news
    }

    /// Whether what is in it may still wait.
    pub fn may_wait(&self, index: u32, now_ms: u64) -> bool {
        index != NO_OUTBOX && self.boxes[index as usize].due_ms > now_ms
    }

    /// Bytes that wait.
    pub fn len(&self, index: u32) -> usize {
        if index == NO_OUTBOX { 0 } else { self.boxes[index as usize].bytes.len() }
    }

    /// The same, and counted among [`Self::bytes`].
    pub fn counted(&mut self, index: u32) -> usize {
        if index == NO_OUTBOX {
            return 0;
        }
        let outbox = &mut self.boxes[index as usize];
        let waiting = outbox.bytes.len();
        self.bytes = self.bytes + waiting - std::mem::replace(&mut outbox.counted, waiting);
        waiting
    }

    /// So much of what was taken is on its way to the socket.
    pub fn departs(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// It is there, or lost.
    pub fn arrived(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// Bytes of all outboxes, as far as they were counted, and of all sends under way.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether so much waits for one connection that it is not read any more; less is enough while much waits for all.
    pub fn is_long(&self, waiting: usize) -> bool {
        waiting > limits::OUTBOX_RESUME_BYTES
            && (waiting > limits::OUTBOX_PAUSE_BYTES || self.bytes > self.bounds.outboxes_pressed_bytes)
    }

    /// Whether there is no room for so much of one connection behind a send that is under way, because too much waits for all.
    pub fn is_crowded(&self, waiting: usize) -> bool {
        waiting > limits::OUTBOX_RESUME_BYTES && self.bytes > self.bounds.outboxes_bytes_max
    }

    /// Takes what waits and gives the place back.
    pub fn take(&mut self, index: &mut u32) -> Vec<u8> {
        if *index == NO_OUTBOX {
            return Vec::new();
        }
        self.free.push(*index);
        let outbox = &mut self.boxes[std::mem::replace(index, NO_OUTBOX) as usize];
        self.bytes -= std::mem::take(&mut outbox.counted);
        std::mem::take(&mut outbox.bytes)
    }

    /// Keeps a buffer for the next outbox, unless it is large or there are enough.
    pub fn keep(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < limits::KEPT_BUFFERS_MAX && bytes.capacity() <= limits::KEPT_BUFFER_BYTES_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Outboxes in use.
    pub fn in_use(&self) -> usize {
        self.boxes.len() - self.free.len()
    }

    /// Once a tick: gives back what the last tick did not use.
    pub fn rest(&mut self) {
        self.spare.truncate(self.peak.max(limits::KEPT_BUFFERS_AT_REST));
        self.spare.shrink_to(limits::KEPT_BUFFERS_MAX);
        if self.in_use() == 0 && self.boxes.len() > limits::KEPT_LIST_ITEMS {
            self.boxes = Vec::new();
            self.free = Vec::new();
        }
        self.peak = self.in_use();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_waits_until_its_first_due_time_or_until_it_is_hurried() {
        let (mut outboxes, mut index) = (Outboxes::default(), NO_OUTBOX);
        outboxes.open(&mut index).push(1);
        assert!(!outboxes.may_wait(index, 0), "what is not told to wait does not");
        assert!(!outboxes.wait(index, false, 50), "nor what comes to it");
        let bytes = outboxes.take(&mut index);
        outboxes.keep(bytes);
        outboxes.open(&mut index).push(1);
        assert!(
            outboxes.wait(index, true, 50) && outboxes.may_wait(index, 49) && !outboxes.may_wait(index, 50)
        );
        assert!(!outboxes.wait(index, false, 60), "it leaves by 50 all the same");
        assert!(outboxes.wait(index, false, 40) && !outboxes.may_wait(index, 40));
        outboxes.hurry(index);
        assert!(!outboxes.may_wait(index, 0));
        let bytes = outboxes.take(&mut index);
        outboxes.keep(bytes);
        assert_eq!(outboxes.open(&mut index).len(), 0);
        assert!(!outboxes.may_wait(index, 0), "the next in its place has a time of its own");
    }

    #[test]
    fn what_a_storm_made_is_given_back_and_outboxes_in_use_are_not() {
        let mut outboxes = Outboxes::default();
        let mut indices = vec![NO_OUTBOX; 2 * limits::KEPT_LIST_ITEMS];
        for index in &mut indices {
            outboxes.open(index).extend_from_slice(b"waits");
        }
        let mut last = indices.pop().expect("many");
        for index in &mut indices {
            let bytes = outboxes.take(index);
            outboxes.keep(bytes);
        }
        outboxes.rest();
        assert_eq!(outboxes.len(last), 5, "one is still in use");
        let bytes = outboxes.take(&mut last);
        outboxes.keep(bytes);
        assert_eq!(outboxes.spare.len(), limits::KEPT_BUFFERS_MAX, "bounded even in a storm");
        (0..2).for_each(|_| outboxes.rest());
        assert_eq!((outboxes.boxes.capacity(), outboxes.free.capacity()), (0, 0));
        assert_eq!(outboxes.spare.len(), limits::KEPT_BUFFERS_AT_REST);
    }
}
