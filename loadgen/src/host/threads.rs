//! What the generator's own threads spend: time on a CPU, and time waiting for one.

use crate::limits::WORKER_NAME;
use procfs::process::Process;
use std::fs;

/// The worker threads of this process at one moment.
#[derive(Clone, Debug, Default)]
pub struct Workers(Vec<Thread>);

#[derive(Clone, Copy, Debug)]
struct Thread {
    id: i32,
    ran_ns: u64,
    waited_ns: u64,
}

/// How busy the busiest worker was in an interval, as shares of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Busiest {
    /// Time on a CPU.
    pub cpu_share: f64,
    /// Time in which it was ready and had no CPU.
    pub cpu_wait_share: f64,
}

impl Workers {
    /// Reads `/proc/self/task/*/schedstat` (Documentation/scheduler/sched-stats.rst); empty where the kernel keeps none.
    pub fn read() -> Self {
        let tasks = Process::myself().and_then(|own| own.tasks());
        let workers = tasks.into_iter().flatten().filter_map(|task| {
            let task = task.ok()?;
            let folder = format!("/proc/{}/task/{}", task.pid, task.tid);
            let name = fs::read_to_string(format!("{folder}/comm")).ok()?;
            if !name.starts_with(WORKER_NAME) {
                return None;
            }
            let (ran_ns, waited_ns) = parse(&fs::read_to_string(format!("{folder}/schedstat")).ok()?)?;
            Some(Thread { id: task.tid, ran_ns, waited_ns })
        });
        Self(workers.collect())
    }

    /// The busiest worker from `self` to `later`, `seconds` apart; `None` where nothing can be told.
    pub fn busiest(&self, later: &Self, seconds: f64) -> Option<Busiest> {
        let shares = later.0.iter().filter_map(|after| {
            let before = self.0.iter().find(|before| before.id == after.id)?;
            let share = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9 / seconds;
            Some(Busiest {
                cpu_share: share(before.ran_ns, after.ran_ns),
                cpu_wait_share: share(before.waited_ns, after.waited_ns),
            })
        });
        let demand = |busiest: &Busiest| busiest.cpu_share + busiest.cpu_wait_share;
        shares.max_by(|one, other| demand(one).total_cmp(&demand(other)))
    }
}

/// Time on a CPU and time waiting for one, in nanoseconds; then the number of times it ran.
fn parse(schedstat: &str) -> Option<(u64, u64)> {
    let mut numbers = schedstat.split_ascii_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn the_busiest_worker_is_the_one_that_wants_most_of_a_cpu() {
        let workers = |times: &[(i32, u64, u64)]| {
            Workers(times.iter().map(|&(id, ran_ns, waited_ns)| Thread { id, ran_ns, waited_ns }).collect())
        };
        let before = workers(&[(1, 0, 0), (2, 1_000_000_000, 0)]);
        // The third was not there before.
        let after =
            workers(&[(1, 900_000_000, 100_000_000), (2, 1_500_000_000, 1_000_000_000), (3, 1 << 60, 0)]);
        let busiest = before.busiest(&after, 2.0);
        assert_eq!(busiest, Some(Busiest { cpu_share: 0.25, cpu_wait_share: 0.5 }));
        assert_eq!(workers(&[]).busiest(&after, 2.0), None);
        assert_eq!(parse("12 34 5\n"), Some((12, 34)));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn workers_are_found_by_their_name_and_their_cpu_is_counted() {
        let (work, orders) = mpsc::channel::<()>();
        let (done, answers) = mpsc::channel();
        let worker = thread::Builder::new().name(format!("{WORKER_NAME}9")).spawn(move || {
            for () in orders {
                black_box((0..50_000_000_u64).fold(0, |sum, number| black_box(sum ^ number)));
                done.send(()).expect("the test waits");
            }
        });
        work.send(()).and_then(|()| answers.recv().map_err(|_| mpsc::SendError(()))).expect("a worker");
        let before = Workers::read();
        work.send(()).expect("a worker");
        answers.recv().expect("a worker");
        let busiest = before.busiest(&Workers::read(), 1.0).expect("schedstat");
        drop(work);
        worker.expect("a thread").join().expect("no panic");
        assert!(busiest.cpu_share > 0.0, "{busiest:?}");
    }
}
