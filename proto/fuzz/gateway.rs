//! The gateway from the ring to the router's queue, and the fake rings of its tests, for the target `connection`. What stands beside the
//! shard (HTTP, keys, the store) would cost the build minutes; that no stage needs it is checked in `gateway/tests/layering.rs`.

extern crate self as roost_gateway;

#[path = "../../gateway/src/admission.rs"]
pub mod admission;
#[path = "../../gateway/src/cgroup.rs"]
pub mod cgroup;
#[path = "../../gateway/src/conn/mod.rs"]
pub mod conn;
#[path = "../../gateway/tests/fake/mod.rs"]
pub mod fake;
#[path = "../../gateway/src/limits.rs"]
pub mod limits;
#[path = "../../gateway/src/mailbox/mod.rs"]
pub mod mailbox;
#[path = "../../gateway/src/ring/mod.rs"]
pub mod ring;
#[path = "../../gateway/src/shard/mod.rs"]
pub mod shard;
#[path = "../../gateway/src/slab/mod.rs"]
pub mod slab;
#[path = "../../gateway/src/timers/mod.rs"]
pub mod timers;
