//! The numbers that requirements are worked out from, and the bounds of the tool itself.
//!
//! Those of the gateway are its own (`gateway/src/limits.rs`); a test compares them, since no crate of the workspace may be
//! imported here.

/// The largest `--connections`: what one machine is designed for.
pub const CONNECTIONS_MAX: u64 = 10_000_000;
/// `--connections` when it is not given.
pub const CONNECTIONS_DEFAULT: u64 = 1_000_000;

/// Places in one ring's table of direct descriptors: `RING_PLACES_MAX` of the gateway.
pub const RING_PLACES: u64 = 16_384;
/// Entries of a ring's submission queue: `RING_SUBMISSIONS` of the gateway.
pub const RING_SUBMISSIONS: u32 = 256;
/// Entries of a ring's completion queue: `RING_COMPLETIONS` of the gateway.
pub const RING_COMPLETIONS: u32 = 8_192;
/// Descriptors of the gateway's process that are not for rings: `PROCESS_FILES_RESERVED` of the gateway.
pub const PROCESS_FILES: u64 = 1_024;
/// Clients waiting to be accepted, for each listener: `LISTEN_BACKLOG` of the gateway.
pub const LISTEN_BACKLOG: u64 = 65_535;
/// Bytes of kernel and user memory an idle session is reckoned with: `CONNECTION_BYTES` of the gateway.
pub const CONNECTION_BYTES: u64 = 4_350;
/// Bytes kept for traffic: `MEMORY_RESERVE_BYTES` of the gateway.
pub const TRAFFIC_BYTES: u64 = 1 << 30;
/// Bytes kept for the rest of the system, as docs/MEMORY.md reckons.
pub const SYSTEM_BYTES: u64 = 1 << 30;
/// A small machine keeps this part of its memory instead: `MEMORY_RESERVE_SHARE` of the gateway.
pub const MEMORY_RESERVE_SHARE: u64 = 4;

/// Bytes the kernel charges for one ring against `RLIMIT_MEMLOCK` of a process without `CAP_IPC_LOCK` (Linux 6.14 and
/// later): 55 rings of the gateway's sizes fit 8 MiB and the 56th fails with `ENOMEM` (measured on 6.18), that is 37
/// pages, and some for buffers provided.
pub const RING_LOCKED_BYTES: u64 = 40 * 4_096;
/// Threads and processes of a gateway's unit: shards, router, HTTP, and what they start.
pub const UNIT_TASKS: u64 = 4_096;
/// Mappings of a ring with its buffers, and of the slab's blocks that go with it, rounded up.
pub const MAPPINGS_PER_RING: u64 = 8;
/// Mappings of a process besides: libraries, threads, the store's files, the allocator.
pub const MAPPINGS_BASE: u64 = 8_192;

/// Bytes a client on a kernel socket costs the machine that generates the load: 10,764 of the generator's memory (growth of its
/// RSS from `roost-loadgen idle` with 5,000 to one with 15,000 clients) and 4,333 of the kernel's (docs/MEMORY.md: both ends
/// less the server's).
pub const KERNEL_CLIENT_BYTES: u64 = 15_100;
/// Bytes a phantom costs it at rest, at most (docs/decisions/0007-phantom-clients.md).
pub const PHANTOM_BYTES: u64 = 32;
/// Ports a source address has for connections to one destination: 1,024 to 65,535.
pub const PORTS: u64 = 64_512;

/// Bytes of one file that are read; a longer one is not one of those this tool knows.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Files of one folder that are looked at.
pub const FOLDER_FILES_MAX: usize = 4_096;
/// Queues of network devices that are looked at.
pub const QUEUES_MAX: usize = 1_024;
