//! Output that waits to be sent.

use crate::limits;

/// No outbox.
pub const NO_OUTBOX: u32 = u32::MAX;

/// Output that waits, for the few connections that have any.
#[derive(Default)]
pub struct Outboxes {
    boxes: Vec<Vec<u8>>,
    free: Vec<u32>,
    spare: Vec<Vec<u8>>,
    /// Most in use at a time since the last rest.
    peak: usize,
}

impl Outboxes {
    /// The outbox of a slot, made when it has none.
    pub fn open(&mut self, index: &mut u32) -> &mut Vec<u8> {
        if *index == NO_OUTBOX {
            *index = self.free.pop().unwrap_or_else(|| {
                self.boxes.push(Vec::new());
                self.boxes.len() as u32 - 1
            });
            self.boxes[*index as usize] = self.spare.pop().unwrap_or_default();
            self.peak = self.peak.max(self.in_use());
        }
        &mut self.boxes[*index as usize]
    }

    /// Bytes that wait.
    pub fn len(&self, index: u32) -> usize {
        if index == NO_OUTBOX { 0 } else { self.boxes[index as usize].len() }
    }

    /// Takes what waits and gives the place back.
    pub fn take(&mut self, index: &mut u32) -> Vec<u8> {
        if *index == NO_OUTBOX {
            return Vec::new();
        }
        self.free.push(*index);
        std::mem::take(&mut self.boxes[std::mem::replace(index, NO_OUTBOX) as usize])
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
