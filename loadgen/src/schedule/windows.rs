//! Times in which a client is not there, or does not read: several a client, in order.

/// From, to, in microseconds of the measured part; `from < to`.
pub type Window = (u64, u64);

/// The windows of all clients, in one array. Costs nothing where no client has any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Client after client; those of one rise and do not overlap.
    all: Vec<Window>,
    /// Where each client's windows begin in `all`, and where the last one's end; empty where nobody has one.
    begin: Vec<u32>,
}

impl Windows {
    /// The windows that `of` names for each of the clients, in any order: what overlaps or touches becomes one.
    pub fn new(clients: u32, mut of: impl FnMut(u32, &mut Vec<Window>)) -> Self {
        let (mut all, mut own) = (Vec::new(), Vec::new());
        let mut begin = Vec::with_capacity(clients as usize + 1);
        for client in 0..clients {
            begin.push(all.len() as u32);
            of(client, &mut own);
            join(&mut own);
            all.append(&mut own);
        }
        if all.is_empty() {
            return Self::default();
        }
        begin.push(all.len() as u32);
        Self { all, begin }
    }

    /// A client's windows.
    pub fn of(&self, client: u32) -> &[Window] {
        let at = client as usize;
        match (self.begin.get(at), self.begin.get(at + 1)) {
            (Some(&from), Some(&to)) => &self.all[from as usize..to as usize],
            _ => &[],
        }
    }

    /// Whether that time is in one of the client's windows.
    pub fn has(&self, client: u32, at_us: u64) -> bool {
        self.within(client, at_us, at_us)
    }

    /// Whether any time from `from_us` to `to_us`, both included, is in one of the client's windows.
    pub fn within(&self, client: u32, from_us: u64, to_us: u64) -> bool {
        let own = self.of(client);
        let next = own.partition_point(|&(_, to)| to <= from_us);
        own.get(next).is_some_and(|&(from, _)| from <= to_us)
    }

    /// The first time at or after `at_us` that is in none of the client's windows, nor in the `grace_us` behind one.
    pub fn next_outside(&self, client: u32, at_us: u64, grace_us: u64) -> u64 {
        let own = self.of(client);
        let next = own.partition_point(|&(_, to)| to.saturating_add(grace_us) <= at_us);
        let mut at_us = at_us;
        for &(from, to) in &own[next..] {
            if from > at_us {
                break;
            }
            at_us = at_us.max(to.saturating_add(grace_us));
        }
        at_us
    }

    /// Number of windows of all clients together.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody has one.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The clients that have windows, with them.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[Window])> {
        let clients = self.begin.len().saturating_sub(1) as u32;
        (0..clients).map(|client| (client, self.of(client))).filter(|(_, own)| !own.is_empty())
    }
}

/// Sorts a client's windows; what overlaps or touches becomes one, what is empty goes.
fn join(own: &mut Vec<Window>) {
    own.retain(|(from, to)| from < to);
    own.sort_unstable();
    own.dedup_by(|next, before| {
        let joins = next.0 <= before.1;
        if joins {
            before.1 = before.1.max(next.1);
        }
        joins
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_joined_and_found_by_time() {
        let windows = Windows::new(3, |client, own| {
            if client == 1 {
                own.extend([(50, 60), (10, 20), (15, 30), (30, 31), (5, 5)]);
            }
        });
        assert_eq!(windows.of(1), [(10, 31), (50, 60)]);
        assert_eq!((windows.of(0), windows.of(2), windows.of(9)), (&[][..], &[][..], &[][..]));
        for (at, inside) in
            [(9, false), (10, true), (30, true), (31, false), (49, false), (59, true), (60, false)]
        {
            assert_eq!(windows.has(1, at), inside, "{at}");
            assert!(!windows.has(0, at) && !windows.has(2, at));
        }
        assert!(windows.within(1, 0, 10) && windows.within(1, 30, 49) && windows.within(1, 40, 50));
        assert!(!windows.within(1, 31, 49) && !windows.within(1, 60, 99));
        assert_eq!(windows.iter().collect::<Vec<_>>(), [(1, &[(10, 31), (50, 60)][..])]);
    }

    #[test]
    fn the_next_time_outside_keeps_its_distance_from_the_window_before() {
        let windows = Windows::new(1, |_, own| own.extend([(10, 20), (22, 30)]));
        for (at, next) in [(0, 0), (9, 9), (10, 35), (21, 35), (34, 35), (35, 35), (40, 40)] {
            assert_eq!(windows.next_outside(0, at, 5), next, "{at}");
        }
        assert_eq!(windows.next_outside(0, 10, 0), 20);
    }

    #[test]
    fn nobodys_windows_cost_nothing() {
        let windows = Windows::new(1000, |_, _| ());
        assert!(windows.is_empty() && windows.begin.capacity() == 0 && !windows.has(5, 1));
    }
}
