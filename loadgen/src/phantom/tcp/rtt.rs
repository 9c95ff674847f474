//! Retransmission timeouts (RFC 6298). All phantoms of a thread go the same way to the same server, so that they share
//! one estimate (RFC 9040 section 6): a phantom that wakes after minutes knows the way already.

use crate::phantom::limits::{RTO_INITIAL, RTO_MAX, RTO_MIN};

const INITIAL_US: u32 = RTO_INITIAL.as_micros() as u32;
const MIN_US: u32 = RTO_MIN.as_micros() as u32;
const MAX_US: u32 = RTO_MAX.as_micros() as u32;

/// The estimate of a thread, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rtt {
    smoothed: Option<(u32, u32)>,
}

impl Rtt {
    /// Takes a sample (RFC 6298 section 2.2 and 2.3).
    pub fn sample(&mut self, us: u64) {
        let sample = us.min(u64::from(MAX_US)) as u32;
        self.smoothed = Some(match self.smoothed {
            None => (sample, sample / 2),
            Some((mean, deviation)) => {
                // At most 60 s, so that seven times it fits.
                ((7 * mean + sample) / 8, (3 * deviation + mean.abs_diff(sample)) / 4)
            }
        });
    }

    /// The timeout a flight begins with.
    pub fn backoff(&self) -> Backoff {
        let us = self.smoothed.map_or(INITIAL_US, |(mean, deviation)| mean + 4 * deviation);
        Backoff { rto_us: us.clamp(MIN_US, MAX_US), retries: 0 }
    }
}

/// One flight's timeout.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    rto_us: u32,
    /// How often it was reached since the last acknowledgement.
    pub retries: u8,
}

impl Default for Backoff {
    fn default() -> Self {
        Rtt::default().backoff()
    }
}

impl Backoff {
    /// A SYN's: the estimate does not tell how long a busy server's accept queue takes.
    pub fn syn() -> Self {
        Self::default()
    }

    /// The timeout.
    pub fn rto_us(self) -> u64 {
        u64::from(self.rto_us)
    }

    /// It was reached: doubled (RFC 6298 section 5.5).
    pub fn expired(&mut self) {
        self.rto_us = (self.rto_us * 2).min(MAX_US);
        self.retries = self.retries.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_samples_within_its_bounds_and_doubles() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.backoff().rto_us(), 1_000_000);
        rtt.sample(400_000);
        assert_eq!(rtt.backoff().rto_us(), 400_000 + 4 * 200_000, "RFC 6298 section 2.2");
        for _ in 0..100 {
            rtt.sample(1_000);
        }
        assert_eq!(rtt.backoff().rto_us(), u64::from(MIN_US));
        let mut backoff = rtt.backoff();
        for retries in 1..=20 {
            backoff.expired();
            assert_eq!(backoff.retries, retries);
        }
        assert_eq!(backoff.rto_us(), u64::from(MAX_US));
    }
}
