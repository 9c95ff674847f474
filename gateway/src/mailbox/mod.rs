//! The bounded way from other threads into a shard: a lock-free queue and an eventfd that ends the shard's sleep.
//!
//! `sleep` is the protocol between the two ends, over a trait, so that its test explores every interleaving of it (loom).

mod sleep;
#[cfg(test)]
mod sleep_test;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam::{queue::ArrayQueue, utils::CachePadded};

/// Makes a mailbox for at most `capacity` items.
///
/// # Errors
/// No eventfd could be made (out of descriptors).
pub fn mailbox<T>(capacity: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        asleep: CachePadded::new(AtomicBool::new(false)),
        wake: eventfd()?,
    });
    Ok((Sender(Arc::clone(&shared)), Receiver(shared)))
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    /// The receiver sleeps, or is about to, and must be woken by whoever puts the next item in.
    asleep: CachePadded<AtomicBool>,
    wake: OwnedFd,
}

impl<T> sleep::Shared for Shared<T> {
    type Item = T;

    fn push(&self, item: T) -> Result<(), T> {
        self.queue.push(item)
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn set_asleep(&self, asleep: bool, ordering: Ordering) {
        self.asleep.store(asleep, ordering);
    }

    fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    fn rouse(&self) -> bool {
        self.asleep.compare_exchange(true, false, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    fn fence() {
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    fn signal(&self) {
        signal(&self.wake);
    }
}

/// The end of other threads.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Sender<T> {
    /// Moves items from the front of `items` into the mailbox, in order, while there is room. The rest stays with
    /// the caller, which offers it again.
    pub fn send_from(&self, items: &mut VecDeque<T>) {
        sleep::send_from(&*self.0, items);
    }

    /// Ends the receiver's sleep, if it sleeps.
    pub fn wake(&self) {
        sleep::wake(&*self.0);
    }
}

/// The shard's end.
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> Receiver<T> {
    /// The next item.
    pub fn take(&self) -> Option<T> {
        self.0.queue.pop()
    }

    /// Announces that the shard is about to sleep; false when there is work, and it must not.
    pub fn may_sleep(&self) -> bool {
        sleep::may_sleep(&*self.0)
    }

    /// The shard is awake and looks into the mailbox by itself.
    pub fn awake(&self) {
        sleep::awake(&*self.0);
    }

    /// Items waiting now.
    pub fn waiting(&self) -> usize {
        self.0.queue.len()
    }

    /// The eventfd that [`Sender::wake`] writes to, for the ring to poll.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn wake_descriptor(&self) -> io::Result<OwnedFd> {
        self.0.wake.try_clone()
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: eventfd(2) touches no memory of ours.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn signal(wake: &OwnedFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: eight readable bytes on our stack, as eventfd(2) asks. The counter is never read (the ring's poll is
    // edge-triggered) and cannot reach its limit of 2^64 - 2 in the life of a machine, so the write never fails.
    unsafe { libc::write(wake.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_leaves_the_rest_with_the_sender_in_order() {
        let (sender, receiver) = mailbox(2).expect("eventfd");
        let mut items = VecDeque::from([1, 2, 3]);
        sender.send_from(&mut items);
        assert_eq!(items, [3]);
        assert_eq!(receiver.take(), Some(1));
        sender.send_from(&mut items);
        assert_eq!((receiver.take(), receiver.take(), receiver.take()), (Some(2), Some(3), None));
    }

    #[test]
    fn a_sleeping_receiver_is_woken_once_and_an_awake_one_is_not() {
        let (sender, receiver) = mailbox(4).expect("eventfd");
        let count = |receiver: &Receiver<u8>| {
            let mut value = [0; 8];
            // SAFETY: eight writable bytes, as eventfd(2) asks.
            let read =
                unsafe { libc::read(receiver.0.wake.as_raw_fd(), value.as_mut_ptr().cast(), value.len()) };
            if read == 8 { u64::from_ne_bytes(value) } else { 0 }
        };
        sender.send_from(&mut VecDeque::from([1]));
        assert_eq!(count(&receiver), 0, "an awake receiver needs no signal");
        assert!(!receiver.may_sleep(), "an item waits");
        assert_eq!(receiver.take(), Some(1));
        assert!(receiver.may_sleep());
        sender.send_from(&mut VecDeque::from([2, 3]));
        sender.send_from(&mut VecDeque::from([4]));
        assert_eq!(count(&receiver), 1, "one signal ends one sleep");
    }
}
