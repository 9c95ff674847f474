//! A bounded cache of records that are read again when they are needed.

use rustc_hash::FxHashMap;

/// What counts against the bound of a cache.
pub(super) trait Weigh {
    fn weight(&self) -> usize;
}

/// Values at hand by number, in two generations: what was not used since the last change of generations goes with the next.
#[derive(Debug)]
pub(super) struct Cache<V> {
    young: FxHashMap<u64, V>,
    old: FxHashMap<u64, V>,
    /// Of what was put among the young, at least.
    weight: usize,
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self { young: FxHashMap::default(), old: FxHashMap::default(), weight: 0 }
    }
}

impl<V: Weigh> Cache<V> {
    /// Makes it young.
    pub(super) fn get(&mut self, number: u64) -> Option<&mut V> {
        if let Some(value) = self.old.remove(&number) {
            self.weight += value.weight();
            self.young.insert(number, value);
        }
        self.young.get_mut(&number)
    }

    pub(super) fn put(&mut self, number: u64, value: V) {
        self.old.remove(&number);
        self.weight += value.weight();
        self.young.insert(number, value);
    }

    /// One of the young ones weighs so much more than it did.
    pub(super) fn grew(&mut self, weight: usize) {
        self.weight += weight;
    }

    /// As it is, without making it young.
    pub(super) fn peek(&self, number: u64) -> Option<&V> {
        self.young.get(&number).or_else(|| self.old.get(&number))
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<V> {
        self.old.remove(&number).or_else(|| self.young.remove(&number))
    }

    /// All that are at hand.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.young.keys().chain(self.old.keys()).copied()
    }

    /// The old ones go where the young ones weigh half of `weight_max`, and are returned. Each must be as it is stored.
    pub(super) fn age(&mut self, weight_max: usize) -> impl Iterator<Item = (u64, V)> + use<V> {
        let goes = if self.weight > weight_max / 2 {
            self.weight = 0;
            std::mem::replace(&mut self.old, std::mem::take(&mut self.young))
        } else {
            FxHashMap::default()
        };
        goes.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for u64 {
        fn weight(&self) -> usize {
            1
        }
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut cache = Cache::default();
        for number in 0..1000 {
            cache.put(number, number);
            assert_eq!(cache.get(0), Some(&mut 0_u64));
            drop(cache.age(100));
            assert!(cache.young.len() + cache.old.len() <= 102);
        }
        assert_eq!(cache.get(1), None);
        cache.remove(0);
        assert_eq!(cache.get(0), None);
    }
}
