//! Who is in which group.

/// The groups of a run with their members, and for each client its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Group after group, each with its members rising.
    members: Lists,
    /// Client after client, each with its groups rising.
    memberships: Lists,
}

impl Groups {
    /// Clients spread evenly over as many groups as it takes for none to have more than `size`.
    pub fn spread(clients: u32, size: u32) -> Self {
        let groups = clients.div_ceil(size);
        Self::new(clients, (0..groups).map(|group| (group..clients).step_by(groups as usize).collect()))
    }

    /// Groups with these members, each of them a client below `clients` and once.
    pub fn new(clients: u32, groups: impl Iterator<Item = Vec<u32>>) -> Self {
        let mut members = Lists::default();
        for mut group in groups {
            group.sort_unstable();
            members.push(&group);
        }
        if members.len() == 0 {
            return Self::default();
        }
        Self { memberships: members.inverse(clients), members }
    }

    /// Number of groups.
    pub fn len(&self) -> u32 {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members of a group, rising.
    pub fn members(&self, group: u32) -> &[u32] {
        self.members.of(group)
    }

    /// The groups of a client, rising.
    pub fn of(&self, client: u32) -> &[u32] {
        self.memberships.of(client)
    }

    /// Whether the client is in the group.
    pub fn has(&self, group: u32, client: u32) -> bool {
        self.members(group).binary_search(&client).is_ok()
    }

    /// Who makes the group: not the first member of each, so that no client makes many.
    pub fn maker(&self, group: u32) -> Option<u32> {
        let members = self.members(group);
        let place = (group as usize).checked_rem(members.len())?;
        members.get(place).copied()
    }

    /// Members of the largest group.
    pub fn members_max(&self) -> usize {
        (0..self.len()).map(|group| self.members(group).len()).max().unwrap_or_default()
    }
}

/// Lists of numbers in one array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lists {
    all: Vec<u32>,
    /// Where each list ends in `all`.
    end: Vec<u32>,
}

impl Lists {
    fn push(&mut self, list: &[u32]) {
        self.all.extend_from_slice(list);
        self.end.push(self.all.len() as u32);
    }

    fn len(&self) -> u32 {
        self.end.len() as u32
    }

    fn of(&self, list: u32) -> &[u32] {
        let at = list as usize;
        let Some(&end) = self.end.get(at) else { return &[] };
        let begin = at.checked_sub(1).map_or(0, |before| self.end[before]);
        &self.all[begin as usize..end as usize]
    }

    /// For each number below `numbers` the lists it stands in, rising.
    fn inverse(&self, numbers: u32) -> Self {
        let mut end = vec![0_u32; numbers as usize];
        for &number in &self.all {
            end[number as usize] += 1;
        }
        let mut sum = 0;
        let mut next: Vec<u32> = Vec::with_capacity(end.len());
        for count in &mut end {
            next.push(sum);
            sum += *count;
            *count = sum;
        }
        let mut all = vec![0; self.all.len()];
        for list in 0..self.len() {
            for &number in self.of(list) {
                let place = &mut next[number as usize];
                all[*place as usize] = list;
                *place += 1;
            }
        }
        Self { all, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_spread_evenly_over_groups_that_none_is_alone_in() {
        for (clients, size, groups) in [(50, 16, 4), (33, 32, 2), (4, 3, 2), (3, 3, 1), (1024, 1024, 1)] {
            let spread = Groups::spread(clients, size);
            assert_eq!(spread.len(), groups);
            let mut all: Vec<u32> = Vec::new();
            for group in 0..groups {
                let members = spread.members(group);
                assert!((2..=size as usize).contains(&members.len()), "{clients} {size}: {members:?}");
                assert!(members.iter().all(|&member| spread.of(member) == [group]));
                all.extend_from_slice(members);
            }
            all.sort_unstable();
            assert!(all.into_iter().eq(0..clients));
        }
    }

    #[test]
    fn a_client_in_several_groups_knows_them_all() {
        let groups = Groups::new(5, [vec![4, 0, 2], vec![2, 3], vec![0, 2]].into_iter());
        assert_eq!((groups.len(), groups.members_max()), (3, 3));
        assert_eq!(groups.members(0), [0, 2, 4]);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|client| groups.of(client).to_vec()),
            [vec![0, 2], vec![], vec![0, 1, 2], vec![1], vec![0]]
        );
        for group in 0..3 {
            for client in 0..5 {
                assert_eq!(groups.has(group, client), groups.of(client).contains(&group));
            }
        }
        assert_eq!([0, 1, 2, 3].map(|group| groups.maker(group)), [Some(0), Some(3), Some(0), None]);
        assert!(groups.of(9).is_empty() && groups.members(9).is_empty());
    }
}
