//! What the workers count: atomics that the progress display reads while the run goes on, and histograms of each worker
//! that are added up at its end.

use crate::limits::{ERROR_TEXT_BYTES_MAX, ERROR_TEXTS_MAX, LATENCY_US_MAX};
use crate::timeline::Buckets;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Live counts of all workers together. Relaxed: each is read for itself.
#[derive(Debug, Default)]
pub struct Counters {
    /// Clients that were connected (and welcomed) once.
    pub connected: AtomicU64,
    /// Clients that are ready for the measured part: connected, and what waited for them is acknowledged.
    pub ready: AtomicU64,
    /// Clients that gave up.
    pub failed: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Phantoms that have said goodbye and wait for the end of their connection.
    pub leaving: AtomicU64,
    /// Connections that broke without the schedule wanting it.
    pub dropped: AtomicU64,
    /// Connections made again.
    pub reconnects: AtomicU64,
    /// When the last client was connected, microseconds since the ramp began.
    pub last_connected_us: AtomicU64,
    /// Messages handed to a socket, repetitions not counted.
    pub sent: AtomicU64,
    /// Messages answered.
    pub answered: AtomicU64,
    /// Messages refused for good.
    pub refused: AtomicU64,
    /// Messages that arrived.
    pub received: AtomicU64,
    /// Messages for which the sender got DELIVERED.
    pub receipts: AtomicU64,
    /// Clients that began to misbehave: stopped reading, vanished, dripped.
    pub odd_begun: AtomicU64,
    /// Of these, those whose connection the server ended for it.
    pub odd_ended: AtomicU64,
    /// Of these, those that got through all the same: read again, had their upgrade.
    pub odd_through: AtomicU64,
    /// Clients that were connected once in other processes of the same run.
    pub connected_elsewhere: AtomicU64,
}

/// Counts that [`Counters::read`] gives.
pub const COUNTERS: usize = 16;
/// Where [`Counters::connected`] is among them.
pub const CONNECTED: usize = 6;

impl Counters {
    /// Adds one.
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// Clients that were connected once in the whole run.
    pub fn connected_anywhere(&self) -> u64 {
        self.connected.load(Relaxed) + self.connected_elsewhere.load(Relaxed)
    }

    /// What happened in this process, for [`Self::follow`]. Answers are read before what they answer, so that none is told without it.
    pub fn read(&self) -> [u64; COUNTERS] {
        self.all().map(|counter| counter.load(Relaxed))
    }

    /// Takes over what another process counted, between two of its readings.
    pub fn follow(&self, before: &[u64; COUNTERS], now: &[u64; COUNTERS]) {
        let latest = COUNTERS - 1;
        for ((counter, before), now) in self.all().into_iter().zip(before).zip(now).take(latest) {
            // Wrapping: what is open now also falls.
            counter.fetch_add(now.wrapping_sub(*before), Relaxed);
        }
        self.last_connected_us.fetch_max(now[latest], Relaxed);
    }

    /// All that is counted here; the last is a time, of which the latest counts.
    fn all(&self) -> [&AtomicU64; COUNTERS] {
        let Self { connected, ready, failed, open, leaving, dropped, reconnects, last_connected_us, .. } =
            self;
        let Self { sent, answered, refused, received, receipts, connected_elsewhere: _, .. } = self;
        let Self { odd_begun, odd_ended, odd_through, .. } = self;
        [
            receipts,
            received,
            refused,
            answered,
            sent,
            ready,
            connected,
            failed,
            leaving,
            open,
            dropped,
            reconnects,
            odd_ended,
            odd_through,
            odd_begun,
            last_connected_us,
        ]
    }
}

/// A histogram of the whole run that gives away each second's part of it.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Up to the last hand-over.
    past: Histogram<u64>,
    /// Since then.
    recent: Histogram<u64>,
}

impl Meter {
    fn new() -> Self {
        Self { past: histogram(), recent: histogram() }
    }

    /// Counts a value, in microseconds; one beyond [`LATENCY_US_MAX`] as this.
    pub fn saturating_record(&mut self, us: u64) {
        self.recent.saturating_record(us);
    }

    /// Number of values of the run.
    pub fn len(&self) -> u64 {
        self.past.len() + self.recent.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All values of the run.
    pub fn sum(&self) -> Histogram<u64> {
        let mut sum = self.past.clone();
        // Both have the same bounds, so that every value of one has a place in the other.
        let _ = sum.add(&self.recent);
        sum
    }

    /// One that another process recorded.
    pub fn of(past: Histogram<u64>) -> Self {
        Self { past, recent: histogram() }
    }

    /// What was counted since the last time.
    fn hand_over(&mut self) -> Buckets {
        if self.recent.is_empty() {
            return Buckets::default();
        }
        let buckets = Buckets::of(&self.recent);
        let _ = self.past.add(&self.recent);
        self.recent.reset();
        buckets
    }

    fn merge(&mut self, other: &Self) {
        let _ = self.past.add(&other.past);
        let _ = self.past.add(&other.recent);
    }
}

/// What a worker recorded since it last handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// To the delivery, or the echo.
    pub latency: Buckets,
    /// To Sent.
    pub latency_sent: Buckets,
    /// From the SYN to Welcome (phantoms).
    pub connect: Buckets,
    /// The generator's own lateness.
    pub lag: Buckets,
    /// Errors.
    pub errors: u64,
}

impl Interval {
    /// The same in parts of one histogram each, which fit a message.
    pub fn split(self) -> impl Iterator<Item = Self> {
        let of = |change: fn(&mut Self, Buckets), buckets: Buckets| {
            let mut part = Self::default();
            change(&mut part, buckets);
            part
        };
        let parts = [
            of(|part, buckets| part.latency = buckets, self.latency),
            of(|part, buckets| part.latency_sent = buckets, self.latency_sent),
            of(|part, buckets| part.connect = buckets, self.connect),
            of(|part, buckets| part.lag = buckets, self.lag),
            Self { errors: self.errors, ..Self::default() },
        ];
        parts.into_iter().filter(|part| *part != Self::default())
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.latency_sent.add(&other.latency_sent);
        self.connect.add(&other.connect);
        self.lag.add(&other.lag);
        self.errors = self.errors.saturating_add(other.errors);
    }
}

/// What was measured of one phase of a siege.
#[derive(Clone, Debug)]
pub struct PhaseMeters {
    /// To the delivery, or the echo, of what was due in the phase.
    pub latency: Histogram<u64>,
    /// The generator's own lateness with it.
    pub lag: Histogram<u64>,
}

/// Histograms and errors of one worker.
#[derive(Debug)]
pub struct Meters {
    /// To the delivery, or the echo.
    pub latency: Meter,
    /// To Sent.
    pub latency_sent: Meter,
    /// To the delivery, with a time offline between.
    pub latency_offline: Meter,
    /// To the delivery at a client that stops reading for a while.
    pub latency_slow: Meter,
    /// How long the server held a client that misbehaved, until it ended it.
    pub held: Meter,
    /// The generator's own lateness: from each message's time to its turn.
    pub lag: Meter,
    /// From a write's hand-over to its completion.
    pub write: Histogram<u64>,
    /// From the SYN to Welcome (phantoms).
    pub connect: Meter,
    /// The phases of a siege, as far as something was measured.
    phases: Vec<PhaseMeters>,
    /// Messages whose lag was above the bound.
    pub late: u64,
    /// Messages that left later than the bound allows, whoever held them up.
    pub left_late: u64,
    lag_us_max: u64,
    errors: Texts,
    ends: Texts,
    errors_recent: u64,
}

/// Different texts with their numbers; those beyond the bound are counted under one name.
#[derive(Debug, Default)]
struct Texts(Vec<(String, u64)>);

impl Meters {
    /// Empty ones; a lag above `lag_us_max` counts as late.
    pub fn new(lag_us_max: u64) -> Self {
        Self {
            latency: Meter::new(),
            latency_sent: Meter::new(),
            latency_offline: Meter::new(),
            latency_slow: Meter::new(),
            held: Meter::new(),
            lag: Meter::new(),
            write: histogram(),
            connect: Meter::new(),
            phases: Vec::new(),
            late: 0,
            left_late: 0,
            lag_us_max,
            errors: Texts::default(),
            ends: Texts::default(),
            errors_recent: 0,
        }
    }

    /// Those of one phase of a siege.
    pub fn phase(&mut self, phase: usize) -> &mut PhaseMeters {
        while self.phases.len() <= phase {
            self.phases.push(PhaseMeters { latency: histogram(), lag: histogram() });
        }
        &mut self.phases[phase]
    }

    /// Those of all phases, as far as something was measured.
    pub fn phases(&self) -> &[PhaseMeters] {
        &self.phases
    }

    /// A message had its turn this much after its time.
    pub fn lagged(&mut self, us: u64) {
        self.lag.saturating_record(us);
        self.late += u64::from(us > self.lag_us_max);
    }

    /// A message left for its socket this much after its time.
    pub fn left(&mut self, us: u64) {
        self.left_late += u64::from(us > self.lag_us_max);
    }

    /// An error to be told in the report; texts beyond the bound are counted under one name.
    pub fn error(&mut self, text: &str) {
        self.errors.add(text, 1);
        self.errors_recent += 1;
    }

    /// What was recorded since the last time, for the timeline; the sums keep it.
    pub fn hand_over(&mut self) -> Interval {
        Interval {
            latency: self.latency.hand_over(),
            latency_sent: self.latency_sent.hand_over(),
            connect: self.connect.hand_over(),
            lag: self.lag.hand_over(),
            errors: std::mem::take(&mut self.errors_recent),
        }
    }

    /// A client that misbehaved was ended by the server after this time, in this way.
    pub fn ended(&mut self, held_us: u64, how: &str) {
        self.held.saturating_record(held_us);
        self.ends.add(how, 1);
    }

    /// An error text of another process, with its number.
    pub fn take_error(&mut self, text: &str, count: u64) {
        self.errors.add(text, count);
    }

    /// The same of [`Self::ends`].
    pub fn take_end(&mut self, how: &str, count: u64) {
        self.ends.add(how, count);
    }

    /// The different error texts with their numbers.
    pub fn errors(&self) -> &[(String, u64)] {
        &self.errors.0
    }

    /// The ways in which the server ended clients that misbehaved, with their numbers.
    pub fn ends(&self) -> &[(String, u64)] {
        &self.ends.0
    }

    /// Takes over what another worker measured.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.latency, &other.latency),
            (&mut self.latency_sent, &other.latency_sent),
            (&mut self.latency_offline, &other.latency_offline),
            (&mut self.latency_slow, &other.latency_slow),
            (&mut self.held, &other.held),
            (&mut self.lag, &other.lag),
            (&mut self.connect, &other.connect),
        ] {
            mine.merge(theirs);
        }
        let _ = self.write.add(&other.write);
        for (phase, theirs) in other.phases.iter().enumerate() {
            let mine = self.phase(phase);
            let _ = (mine.latency.add(&theirs.latency), mine.lag.add(&theirs.lag));
        }
        self.late = self.late.saturating_add(other.late);
        self.left_late = self.left_late.saturating_add(other.left_late);
        self.errors.merge(&other.errors);
        self.ends.merge(&other.ends);
    }
}

impl Texts {
    fn add(&mut self, text: &str, count: u64) {
        let end = text.floor_char_boundary(ERROR_TEXT_BYTES_MAX);
        let full = self.0.len() >= ERROR_TEXTS_MAX;
        let known = self.0.iter_mut().find(|(known, _)| known == &text[..end]);
        match known {
            // Saturating: another process may have told it.
            Some((_, known)) => *known = known.saturating_add(count),
            None if !full => self.0.push((text[..end].to_owned(), count)),
            None => match self.0.get_mut(ERROR_TEXTS_MAX) {
                Some((_, others)) => *others = others.saturating_add(count),
                None => self.0.push(("other errors".to_owned(), count)),
            },
        }
    }

    fn merge(&mut self, other: &Self) {
        for (text, count) in &other.0 {
            self.add(text, *count);
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constant bounds that the crate accepts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_stays_in_the_sum_and_is_given_once() {
        let (mut one, mut all) = (Meters::new(0), Meters::new(0));
        one.latency.saturating_record(10);
        one.error("x");
        let first = one.hand_over();
        one.latency.saturating_record(5000);
        let (second, third) = (one.hand_over(), one.hand_over());
        assert_eq!((first.latency.count(), first.errors, first.latency.max()), (1, 1, 10));
        assert_eq!((second.latency.count(), second.errors), (1, 0));
        assert_eq!(third, Interval::default());
        one.latency.saturating_record(7);
        all.merge(&one);
        assert_eq!((all.latency.len(), all.latency.sum().len(), all.latency.sum().min()), (3, 3, 7));
    }

    #[test]
    fn error_texts_are_bounded_in_number_and_length_and_merge() {
        let (mut one, mut two) = (Meters::new(0), Meters::new(0));
        for text in 0..100 {
            one.error(&format!("{text} {}", "ä".repeat(1000)));
            two.error("again");
            two.error("again");
        }
        one.merge(&two);
        assert_eq!(one.errors().len(), ERROR_TEXTS_MAX + 1);
        assert!(one.errors().iter().all(|(text, _)| text.len() <= ERROR_TEXT_BYTES_MAX));
        assert_eq!(one.errors().iter().map(|(_, count)| count).sum::<u64>(), 300);
        assert_eq!(two.errors(), [("again".to_owned(), 200)]);
    }
}
