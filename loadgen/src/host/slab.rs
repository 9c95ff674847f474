//! The kernel's slab caches (/proc/slabinfo, slabinfo(5)): who owns the kernel memory of a connection.

use crate::limits::SLAB_CACHES_MAX;
use serde::Serialize;
use std::collections::HashMap;

/// A line of /proc/slabinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    name: String,
    objects_used: u64,
    objects_total: u64,
    object_bytes: u64,
    /// Of its slabs: free objects and what is cut off at their ends included.
    bytes: u64,
}

/// What a cache grew by. Negative where it shrank.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SlabGrowth {
    /// Its name; the kernel merges caches of like sizes under one of their names.
    pub cache: String,
    /// Bytes of one object.
    pub object_bytes: u64,
    /// Objects in use.
    pub objects_used: i64,
    /// Objects there is room for.
    pub objects_total: i64,
    /// Bytes of its slabs.
    pub bytes: i64,
    /// The same for each client.
    pub bytes_per_client: f64,
}

/// The caches now; empty where they cannot be read, which takes root.
pub fn read() -> Vec<Cache> {
    let text = std::fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    parse(&text, procfs::page_size())
}

/// What grew from `before` to `after` by at least a byte a client, the largest first.
pub fn growth(before: &[Cache], after: &[Cache], clients: u64) -> Vec<SlabGrowth> {
    let before: HashMap<_, _> = before.iter().map(|cache| (cache.name.as_str(), cache)).collect();
    let grown = after.iter().map(|cache| {
        let was = before.get(cache.name.as_str());
        let by = |value: fn(&Cache) -> u64| value(cache) as i64 - was.map_or(0, |was| value(was) as i64);
        let bytes = by(|cache| cache.bytes);
        SlabGrowth {
            cache: cache.name.clone(),
            object_bytes: cache.object_bytes,
            objects_used: by(|cache| cache.objects_used),
            objects_total: by(|cache| cache.objects_total),
            bytes,
            bytes_per_client: bytes as f64 / clients.max(1) as f64,
        }
    });
    let mut grown: Vec<_> = grown.filter(|growth| growth.bytes_per_client >= 1.0).collect();
    grown.sort_by_key(|growth| -growth.bytes);
    grown.truncate(SLAB_CACHES_MAX);
    grown
}

fn parse(text: &str, page_bytes: u64) -> Vec<Cache> {
    text.lines().filter_map(|line| cache(line, page_bytes)).collect()
}

/// `name active_objs num_objs objsize objperslab pagesperslab : tunables ... : slabdata active_slabs num_slabs ...`; none
/// where the line is not of that form, such as the two of the heading.
fn cache(line: &str, page_bytes: u64) -> Option<Cache> {
    let (counts, slabs) = line.split_once(" : slabdata ")?;
    let mut fields = counts.split_ascii_whitespace();
    let name = fields.next()?.to_owned();
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (objects_used, objects_total, object_bytes) = (number()?, number()?, number()?);
    let (_objects_a_slab, pages_a_slab) = (number()?, number()?);
    let slabs: u64 = slabs.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Cache { name, objects_used, objects_total, object_bytes, bytes: slabs * pages_a_slab * page_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
TCP                   24     26   2496   13    8 : tunables    0    0    0 : slabdata      2      2      0
dentry             10500  10500    192   21    1 : tunables    0    0    0 : slabdata    500    500      0
nonsense
";
    const AFTER: &str =
        "TCP                  124    130   2496   13    8 : tunables    0    0    0 : slabdata     10     10      0
dentry             10560  10605    192   21    1 : tunables    0    0    0 : slabdata    505    505      0
io_kiocb             100    112    256   16    1 : tunables    0    0    0 : slabdata      7      7      0
";

    #[test]
    fn growth_is_told_by_cache_and_the_largest_first() {
        let (before, after) = (parse(BEFORE, 4096), parse(AFTER, 4096));
        assert_eq!((before.len(), after.len()), (2, 3));
        let grown = growth(&before, &after, 100);
        assert_eq!(
            grown.iter().map(|growth| growth.cache.as_str()).collect::<Vec<_>>(),
            ["TCP", "io_kiocb", "dentry"]
        );
        let tcp = SlabGrowth {
            cache: "TCP".into(),
            object_bytes: 2496,
            objects_used: 100,
            objects_total: 104,
            bytes: 8 * 8 * 4096,
            bytes_per_client: 2621.44,
        };
        assert_eq!(grown[0], tcp);
        assert_eq!((grown[2].objects_used, grown[2].bytes), (60, 5 * 4096));
        // Less than a byte a client, or a loss, is nobody's.
        assert_eq!(growth(&before, &after, 21_000).len(), 2);
        assert!(growth(&after, &before, 100).is_empty());
    }
}
