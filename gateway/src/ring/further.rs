//! Further rings: opened when the tables are full, closed when they are empty.

use std::{io, os::fd::AsRawFd};

use super::{HOME, Uring};
use crate::{limits, ring::member::Member};

impl Uring {
    /// Places free in the current ring; moves on to another when there are none.
    pub(super) fn make_room(&mut self) -> io::Result<u32> {
        let reused = (self.places / limits::RING_REUSED_SHARE).max(1);
        if self.of(self.current).room() == 0 {
            let (current, opened) = match self.lowest_with(reused) {
                Some(number) => (Some(number), Ok(())),
                None => match self.open_further() {
                    Ok(number) => (Some(number), Ok(())),
                    Err(error) => (self.lowest_with(1), Err(error)),
                },
            };
            let Some(current) = current else { return opened.map(|()| 0) };
            self.current = current;
        }
        Ok(self.of(self.current).room())
    }

    fn lowest_with(&self, room: u32) -> Option<usize> {
        self.rings.iter().position(|ring| ring.as_ref().is_some_and(|ring| ring.room() >= room))
    }

    fn open_further(&mut self) -> io::Result<usize> {
        let number = self.rings.iter().position(Option::is_none).unwrap_or(self.rings.len());
        let opened = if number < limits::RINGS_MAX {
            Member::open(self.places, Some(self.wake.as_raw_fd()))
        } else {
            Err(io::Error::from_raw_os_error(libc::ENFILE))
        };
        match opened {
            Ok(member) => {
                if number == self.rings.len() {
                    self.rings.push(None);
                }
                self.rings[number] = Some(Box::new(member));
                self.occupancy.rings += 1;
                self.occupancy.descriptors_max += u64::from(self.places);
                self.failing = false;
                Ok(number)
            }
            Err(error) => {
                self.occupancy.ring_failures += 1;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        "a further io_uring cannot be opened ({error}); new clients wait until places are free. \
                         It takes one file of the process and about {} KiB of memory: see ulimit -n and free",
                        (limits::RING_COMPLETIONS + limits::RING_SUBMISSIONS * 4) * 16 / 1_024
                    );
                }
                Err(error)
            }
        }
    }

    /// Closes empty rings, but for a spare one, and accepts into the lowest ring with room again, so that high rings
    /// empty as their connections leave.
    pub(super) fn close_empty(&mut self) {
        let reused = (self.places / limits::RING_REUSED_SHARE).max(1);
        self.current = self.lowest_with(reused).map_or(self.current, |lowest| lowest.min(self.current));
        let (current, mut spare, mut closed) = (self.current, 0, 0);
        for number in HOME + 1..self.rings.len() {
            let empty = self.rings[number].as_ref().is_some_and(|ring| ring.is_idle());
            if !empty || number == current || closed == limits::RINGS_CLOSED_PER_TICK_MAX {
                continue;
            }
            if spare < limits::RINGS_SPARE {
                spare += 1;
                continue;
            }
            self.rings[number] = None;
            self.occupancy.rings -= 1;
            self.occupancy.descriptors_max -= u64::from(self.places);
            closed += 1;
        }
        while self.rings.last().is_some_and(Option::is_none) {
            self.rings.pop();
        }
    }
}
