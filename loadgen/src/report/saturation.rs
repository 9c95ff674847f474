//! Whether the generator, not the server, held the figures down, and why.

use crate::host::threads::Busiest;
use crate::limits::{CPU_SHARE_MAX, CPU_WAIT_SHARE_MAX};
use serde::Serialize;
use std::fmt;

/// What tells whether the generator was at its limit. Shares are 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Saturation {
    /// Messages that had their turn in the generator later than --lag-us-max after their time, of those of the schedule.
    pub late_share: f64,
    /// Messages that had their turn in time and left late all the same: the server had not answered what was before them, had not
    /// read, or had ended the connection. Their wait is part of their latency. Where the generator was busy throughout (`reason`
    /// `cpu`), it may have been late to read an answer that was there.
    pub late_by_server: u64,
    /// Connections begun more than a second after their time, of those begun (phantoms).
    pub connects_late_share: f64,
    /// Time that its busiest thread ran, of the measured part; `null` where the kernel does not tell.
    pub cpu_share: Option<f64>,
    /// Time that this thread was ready and had no CPU.
    pub cpu_wait_share: Option<f64>,
    /// Packets lost because a queue of the TUN device was full: its thread did not come to take them (phantoms).
    pub queue_drops: u64,
    /// Why the generator was at its limit; `null` where it was not. With `generator_saturated` false it is a warning: the schedule
    /// was kept, or there was none (closed loop), but the server may do more, and sooner, than was measured.
    pub reason: Option<Reason>,
}

/// Why a generator is at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A thread of it was busy all the time.
    Cpu,
    /// A thread of it was ready and had no CPU: something else ran there.
    CpuTaken,
    /// The TUN device's queue overflowed.
    QueueFull,
    /// It was late without being busy: stopped, paged out, or on a virtual machine without its CPU for a while.
    HeldUp,
}

impl Saturation {
    /// With the busiest thread's shares, where they are known.
    #[must_use]
    pub fn with_cpu(self, busiest: Option<Busiest>) -> Self {
        Self {
            cpu_share: busiest.map(|busiest| busiest.cpu_share),
            cpu_wait_share: busiest.map(|busiest| busiest.cpu_wait_share),
            ..self
        }
    }

    /// With the reason that follows from the other fields. `is_late`: more messages or connections were late than may be.
    #[must_use]
    pub fn explained(self, is_late: bool) -> Self {
        let above = |share: Option<f64>, most: f64| share.is_some_and(|share| share > most);
        let reason = if above(self.cpu_share, CPU_SHARE_MAX) {
            Some(Reason::Cpu)
        } else if above(self.cpu_wait_share, CPU_WAIT_SHARE_MAX) {
            Some(Reason::CpuTaken)
        } else if is_late && self.queue_drops > 0 {
            Some(Reason::QueueFull)
        } else {
            is_late.then_some(Reason::HeldUp)
        };
        Self { reason, ..self }
    }
}

/// The reason with its figures and what helps, to follow "because"; nothing where there is none.
impl fmt::Display for Saturation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: Option<f64>| share.unwrap_or_default() * 100.0;
        match self.reason {
            None => Ok(()),
            Some(Reason::Cpu) => write!(
                f,
                "its busiest thread used {:.0} % of a CPU: raise --threads where there are cores, or lower the rate",
                percent(self.cpu_share)
            ),
            Some(Reason::CpuTaken) => write!(
                f,
                "its busiest thread was ready {:.0} % of the time and had no CPU: the server or others run on the same CPUs; \
                 use another machine, or keep them apart with taskset(1)",
                percent(self.cpu_wait_share)
            ),
            Some(Reason::QueueFull) => write!(
                f,
                "the TUN device's queue overflowed by {} packets: raise --threads, or lower the rate",
                self.queue_drops
            ),
            Some(Reason::HeldUp) => write!(
                f,
                "it was held up for a while, though its busiest thread used {:.0} % of a CPU only: stopped, paged out, or a \
                 virtual machine without its CPU; run it again",
                percent(self.cpu_share)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(cpu_share: f64, cpu_wait_share: f64, queue_drops: u64, is_late: bool) -> Saturation {
        let busiest = Some(Busiest { cpu_share, cpu_wait_share });
        Saturation { queue_drops, ..Saturation::default() }.with_cpu(busiest).explained(is_late)
    }

    #[test]
    fn the_reason_follows_from_what_was_measured() {
        for (cpu, wait, drops, is_late, reason) in [
            (0.99, 0.5, 9, true, Some(Reason::Cpu)),
            (0.99, 0.0, 0, false, Some(Reason::Cpu)),
            (0.5, 0.4, 9, true, Some(Reason::CpuTaken)),
            (0.5, 0.4, 0, false, Some(Reason::CpuTaken)),
            (0.5, 0.1, 9, true, Some(Reason::QueueFull)),
            (0.1, 0.0, 0, true, Some(Reason::HeldUp)),
            (0.5, 0.1, 9, false, None),
        ] {
            let saturation = explained(cpu, wait, drops, is_late);
            assert_eq!(saturation.reason, reason, "{saturation:?}");
            assert_eq!(saturation.to_string().is_empty(), reason.is_none());
        }
        assert_eq!(Saturation::default().with_cpu(None).explained(false), Saturation::default());
        assert_eq!(Saturation::default().with_cpu(None).explained(true).reason, Some(Reason::HeldUp));
    }

    #[test]
    fn the_text_has_the_figure_and_what_helps() {
        let text = explained(0.97, 0.0, 0, true).to_string();
        assert!(text.contains("97 % of a CPU") && text.contains("--threads"), "{text}");
        let text = explained(0.5, 0.41, 0, false).to_string();
        assert!(text.contains("41 % of the time") && text.contains("taskset"), "{text}");
        let text = explained(0.5, 0.1, 12, true).to_string();
        assert!(text.contains("12 packets"), "{text}");
        let json = serde_json::to_value(explained(0.1, 0.0, 0, true)).expect("JSON");
        assert_eq!(json["reason"], "held_up");
    }
}
