//! Every interleaving of senders and a receiver that goes to sleep, as far as loom explores them: at most so many preemptions, and all
//! that the memory model allows a load to see.

use std::{collections::VecDeque, sync::atomic::Ordering};

use loom::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, fence},
    },
    thread,
};

use super::sleep::{self, Shared};

/// Preemptions of a thread that still could go on.
const PREEMPTIONS: usize = 3;
/// Items of a model.
const ITEMS_MAX: usize = 4;

/// The mailbox in loom's atomics. Its queue keeps to the orderings of crossbeam's `ArrayQueue`: a place is taken by moving the tail, and
/// filled after that.
struct Model {
    capacity: usize,
    tail: AtomicUsize,
    head: AtomicUsize,
    /// 0 until it is filled.
    places: [AtomicUsize; ITEMS_MAX],
    asleep: AtomicBool,
    /// The eventfd: signals since the last sleep ended.
    signals: Mutex<usize>,
    signalled: Condvar,
    signals_all: AtomicUsize,
    /// Something else to wake up for, such as a drain.
    flag: AtomicBool,
}

impl Model {
    fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            tail: AtomicUsize::new(0),
            head: AtomicUsize::new(0),
            places: std::array::from_fn(|_| AtomicUsize::new(0)),
            asleep: AtomicBool::new(false),
            signals: Mutex::new(0),
            signalled: Condvar::new(),
            signals_all: AtomicUsize::new(0),
            flag: AtomicBool::new(false),
        })
    }

    fn pop(&self) -> Option<usize> {
        let head = self.head.load(Ordering::Relaxed);
        let item = self.places.get(head)?.load(Ordering::Acquire);
        if item == 0 {
            return None;
        }
        self.head.store(head + 1, Ordering::SeqCst);
        Some(item)
    }

    /// Until a signal, or at once where one came since the last sleep.
    fn sleep(&self) {
        let mut signals = self.signals.lock().expect("no panic");
        while *signals == 0 {
            signals = self.signalled.wait(signals).expect("no panic");
        }
        *signals = 0;
    }
}

impl Shared for Model {
    type Item = usize;

    fn push(&self, item: usize) -> Result<(), usize> {
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            if tail.saturating_sub(self.head.load(Ordering::SeqCst)) >= self.capacity {
                return Err(item);
            }
            match self.tail.compare_exchange(tail, tail + 1, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(moved) => tail = moved,
            }
        }
        self.places[tail].store(item, Ordering::Release);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.head.load(Ordering::SeqCst) == self.tail.load(Ordering::SeqCst)
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
        fence(Ordering::SeqCst);
    }

    fn signal(&self) {
        self.signals_all.fetch_add(1, Ordering::Relaxed);
        *self.signals.lock().expect("no panic") += 1;
        self.signalled.notify_one();
    }
}

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// Turns of a shard until it is `done` with what it got. A sleep that nothing ends is a deadlock, which loom reports.
fn receive(mailbox: &Model, done: impl Fn(&[usize]) -> bool) -> Vec<usize> {
    let (mut got, mut announced) = (Vec::new(), 0);
    while !done(&got) {
        announced += 1;
        if sleep::may_sleep(mailbox) && !mailbox.flag.load(Ordering::Relaxed) {
            mailbox.sleep();
        }
        sleep::awake(mailbox);
        let before = got.len();
        got.extend(std::iter::from_fn(|| mailbox.pop()));
        if got.len() == before {
            // A place that is taken and not filled yet: the sender has to go on first.
            thread::yield_now();
        }
    }
    assert!(mailbox.signals_all.load(Ordering::Relaxed) <= announced, "a sleep is ended once");
    got
}

#[test]
fn what_two_senders_put_in_ends_every_sleep() {
    explore(|| {
        let mailbox = Model::new(2);
        let senders = [1, 2].map(|item| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || sleep::send_from(&*mailbox, &mut VecDeque::from([item])))
        });
        let mut got = receive(&mailbox, |got| got.len() == 2);
        got.sort_unstable();
        assert_eq!(got, [1, 2], "each once");
        for sender in senders {
            sender.join().expect("no panic");
        }
    });
}

#[test]
fn a_senders_items_come_in_order_and_a_full_mailbox_leaves_the_rest_with_it() {
    explore(|| {
        let mailbox = Model::new(1);
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                let mut items = VecDeque::from([1, 2, 3]);
                sleep::send_from(&*mailbox, &mut items);
                sleep::send_from(&*mailbox, &mut items);
                mailbox.flag.store(true, Ordering::Relaxed);
                sleep::wake(&*mailbox);
                items
            })
        };
        let mut got = receive(&mailbox, |_| mailbox.flag.load(Ordering::Relaxed));
        let kept = sender.join().expect("no panic");
        got.extend(std::iter::from_fn(|| mailbox.pop()));
        got.extend(kept);
        assert_eq!(got, [1, 2, 3], "taken or kept, in order");
    });
}

#[test]
fn whoever_sets_a_flag_and_wakes_is_heard() {
    explore(|| {
        let mailbox = Model::new(1);
        let operator = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                mailbox.flag.store(true, Ordering::Relaxed);
                sleep::wake(&*mailbox);
            })
        };
        receive(&mailbox, |_| mailbox.flag.load(Ordering::Relaxed));
        operator.join().expect("no panic");
    });
}
