//! How a receiver goes to sleep without missing what is put in meanwhile.
//!
//! The receiver says that it is asleep and then looks whether anything is there; a sender puts its item in and then looks whether the
//! receiver is asleep. A fence between the two steps of each keeps them in that order for the other: one of them sees what the other did.

use std::{collections::VecDeque, sync::atomic::Ordering};

/// What the two ends have in common.
pub trait Shared {
    /// What is sent.
    type Item;
    /// Puts an item in, or gives it back where there is no room.
    fn push(&self, item: Self::Item) -> Result<(), Self::Item>;
    /// Nothing is in it.
    fn is_empty(&self) -> bool;
    /// The receiver sleeps, or is about to.
    fn set_asleep(&self, asleep: bool, ordering: Ordering);
    /// What was last seen of that.
    fn is_asleep(&self) -> bool;
    /// It is no longer to sleep; true for the one who is the first to say so. The others write nothing.
    fn rouse(&self) -> bool;
    /// [`std::sync::atomic::fence`], sequentially consistent.
    fn fence();
    /// Ends the sleep.
    fn signal(&self);
}

/// See [`super::Sender::send_from`].
pub fn send_from<S: Shared>(shared: &S, items: &mut VecDeque<S::Item>) {
    while let Some(item) = items.pop_front() {
        if let Err(item) = shared.push(item) {
            items.push_front(item);
            break;
        }
    }
    wake(shared);
}

/// See [`super::Sender::wake`].
pub fn wake<S: Shared>(shared: &S) {
    S::fence();
    if shared.is_asleep() && shared.rouse() {
        shared.signal();
    }
}

/// See [`super::Receiver::may_sleep`].
pub fn may_sleep<S: Shared>(shared: &S) -> bool {
    shared.set_asleep(true, Ordering::SeqCst);
    S::fence();
    let empty = shared.is_empty();
    if !empty {
        awake(shared);
    }
    empty
}

/// See [`super::Receiver::awake`].
pub fn awake<S: Shared>(shared: &S) {
    shared.set_asleep(false, Ordering::Relaxed);
}
