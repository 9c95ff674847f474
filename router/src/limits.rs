//! The size of everything the router holds, who owns it, and what happens when it is full. Operators change some of these
//! through [`crate::Config`]; the relations between them are checked at compile time.

/// Partitions of a store at its creation; recorded in it and never changed. Sixteen leave every plausible number of
/// router threads busy; the message id has room for [`PARTITIONS_MAX`].
pub const PARTITIONS: u16 = 16;
/// Partitions a message id can name: ten bits. More: refused at start.
pub const PARTITIONS_MAX: u16 = 1 << PARTITION_BITS;
/// Low bits of a message id that name the partition which gave it.
pub const PARTITION_BITS: u32 = 10;
/// Bits of a message id that count the messages of one millisecond.
pub const COUNTER_BITS: u32 = 12;

/// Events sent to a session and not yet acknowledged. Full: the rest waits on disk until an Ack opens the window.
pub const WINDOW_EVENTS_MAX: usize = 256;
/// Bytes of those events. One larger event passes alone.
pub const WINDOW_BYTES_MAX: usize = 256 * 1024;
/// Events that the first Ack of a session can pass which the session was not sent: those of a session before it, that is
/// a window and the copies of own messages within. Further: the Ack is clamped.
pub const ACK_EVENTS_MAX: u64 = 4096;
/// Events that answer one call. More: the answer says so, and the client asks again.
pub const CALL_EVENTS_MAX: usize = 256;
/// Bytes of those events, as above. One larger event is answered alone.
pub const CALL_BYTES_MAX: usize = 256 * 1024;
/// Events that one Ack or Skip deletes where they must be looked for. More: the rest goes with Ticks.
pub const TRIM_EVENTS_MAX: usize = 1024;
/// Users of a partition with such a rest. More: it goes with the user's next Attach or Ack.
pub const UNTRIMMED_MAX: usize = 4096;
/// Of those, as many are gone on with in a Tick.
pub const UNTRIMMED_AT_ONCE: usize = 2;
/// Devices of one user. Full: one that was away for the time of retention makes room; where there is none, a further device's
/// session gets Error FORBIDDEN and is closed.
pub const DEVICES_MAX: usize = 32;
/// A message's payload; larger ones are answered `TOO_LARGE`.
pub const PAYLOAD_BYTES_MAX: u32 = 64 * 1024;
/// Devices one message may be sealed for: two each in the largest group, and room. More is answered `TOO_LARGE`.
pub const SEALED_MAX: usize = 4096;
/// Messages one Read may name; a longer one is answered MALFORMED.
pub const READ_MESSAGES_MAX: usize = 1024;
/// A device's identity key: room for any curve, and for hybrids with a post-quantum one. Longer: Error `TOO_LARGE`; so for all
/// limits of keys.
pub const IDENTITY_BYTES_MAX: usize = 1024;
/// A signed prekey: an X25519 and an ML-KEM-1024 public key take 1,600 bytes. Longer: Error `TOO_LARGE`.
pub const SIGNED_PREKEY_BYTES_MAX: usize = 2048;
/// The signature of a prekey. Longer: Error `TOO_LARGE`.
pub const SIGNATURE_BYTES_MAX: usize = 1024;
/// A one-time key. Longer: Error `TOO_LARGE`.
pub const ONE_TIME_KEY_BYTES_MAX: usize = 2048;
/// One-time keys in one frame. More: Error `TOO_LARGE`.
pub const ONE_TIME_KEYS_FRAME_MAX: usize = 256;
/// One-time keys that are left of a device, those just published included. More: Error `TOO_LARGE`.
pub const ONE_TIME_KEYS_DEVICE_MAX: usize = 1024;
/// A client's de-duplication key (`roost.proto`, Send). Longer: Error MALFORMED.
pub const CLIENT_ID_BYTES_MAX: usize = 16;

/// Users whose presence one session follows. More in one Watch: Error MALFORMED.
pub const WATCH_USERS_MAX: usize = 256;
/// Users that the sessions of one partition follow together, 8 bytes each. Full: Error UNAVAILABLE.
pub const WATCHED_MAX: usize = 1 << 18;
/// When a Watch that was refused for that may be worth trying again.
pub const WATCH_RETRY_MS: u32 = 60_000;
/// Followers of the users of one partition, 32 bytes each. Full: a further one is told how it is, and not what changes.
pub const FOLLOWERS_MAX: usize = 1 << 18;
/// Followers of one user. Full: the oldest makes room.
pub const FOLLOWERS_OF_USER_MAX: usize = 1024;
/// Presence notices of one partition in one tick. More wait for the next, and tell what is true then.
pub const PRESENCE_NOTICES_TICK_MAX: usize = 2048;
/// A user who is gone for less than this was not away.
pub const PRESENCE_GRACE_MS: u64 = 5_000;
/// Users of one partition of whom the last time is remembered to the millisecond, about 40 bytes each. The older half is forgotten;
/// their record has the day.
pub const LAST_SEEN_MAX: usize = 32_768;
/// Groups of a user that count when it is asked whom he shares one with. More: the newest.
pub const WATCH_GROUPS_MAX: usize = 128;
/// Typing notices of one partition in one tick. More are dropped.
pub const TYPING_NOTICES_TICK_MAX: usize = 4096;
/// Pairs of users of one partition of whom it is asked in one tick whether they talk, which reads the store. More wait.
pub const PAIRS_ASKED_TICK_MAX: usize = 1024;
/// Pairs that wait, 8 bytes each. More: not asked, as if they did not talk; the client may say Watch again.
pub const PAIRS_WAITING_MAX: usize = 65_536;
/// A thread's queue of others' messages that is so full takes no more whispers: the rest is for forwards.
/// Full: they are dropped and counted.
pub const QUEUE_WHISPERS_MAX: usize = QUEUE_PEERS_MAX / 2;

/// Members of a group. Full: who would be one more is not added (`TOO_LARGE`).
pub const GROUP_MEMBERS_MAX: usize = 1024;
/// A group's name, UTF-8; longer ones are answered `TOO_LARGE`.
pub const GROUP_NAME_BYTES_MAX: usize = 256;
/// The most that an operator can make of [`GROUP_MEMBERS_MAX`]. More: refused at start.
pub const GROUP_MEMBERS_CONFIG_MAX: usize = ROSTER_ENTRIES_MAX / 2;
/// Groups of one user, and times that he was in one and has not had all that he saw. Full: who is added to one more leaves it at once.
pub const MEMBERSHIPS_MAX: usize = 1024;
/// The same of one group. Full: as of [`MEMBERSHIPS_MAX`].
pub const MEMBERSHIPS_IN_GROUP_MAX: usize = 8;
/// Members of a group at home in one partition, and those who were and have not had all that they saw. Full: as above.
pub const ROSTER_ENTRIES_MAX: usize = 8192;
/// Times that somebody was in a group and left it, of which the group's home knows whether a message was his. More: the oldest go,
/// and READ of what was said then tells nobody.
pub const FORMER_MEMBERSHIPS_MAX: usize = 16;
/// Members of the groups that one partition is home of and has at hand, 24 bytes each. Full: the half not used for longest is
/// dropped after the commit and read again when needed.
pub const GROUP_MEMBERS_CACHED_MAX: usize = 65_536;
/// Entries of the rosters that one partition has at hand, 24 bytes each. Full: as above; the sweep finds what nobody waits for then.
pub const ROSTER_ENTRIES_CACHED_MAX: usize = 131_072;
/// Places of a feed's entries kept in memory, 8 bytes each. More: the rest is read from the store when those are gone.
pub const FEED_LIVE_MAX: usize = 1024;
/// Keys of a feed read in one go. More: with the next look.
pub const FEED_READ_MAX: usize = 256;
/// Feeds that wait until it is known which member lacks the oldest entry. Full: the sweep finds them.
pub const FEEDS_UNWATCHED_MAX: usize = 16_384;
/// Feeds of those looked at by one Tick.
pub const FEEDS_WATCHED_AT_ONCE: usize = 64;

/// Users that one limit's table remembers, about 40 bytes each; one whose tokens are all back needs no place. Full of users who
/// are still owed tokens: further users pass uncounted, because a limit must not shut out those who keep to it.
pub const THROTTLE_USERS_MAX: usize = 65_536;
/// Users that a command adds to a group for each token more that it takes: each costs a write.
pub const JOINING_A_TOKEN: usize = 64;
/// The table is in so many parts, each under a lock of its own.
pub const THROTTLE_PARTS: usize = 16;
/// A full part is looked through for users without a need at most this often.
pub const THROTTLE_PRUNE_MS: u64 = 100;

/// Requests waiting for a router thread. Full: `submit` gives the request back and the shard stops reading.
pub const QUEUE_REQUESTS_MAX: usize = 8192;
/// Requests of one batch, that is of one commit. More: they wait for the next batch.
pub const BATCH_REQUESTS_MAX: usize = 2048;
/// Requests that need no write, as a rule, waiting for a router thread besides. Full: likewise.
pub const QUEUE_READS_MAX: usize = 8192;
/// A commit that takes longer than this is a stall: reads are served beside it.
pub const STALL_MS: u64 = 20;
/// Reads of a stall that have to wait for its end all the same. More: further ones stay in their queue.
pub const DEFERRED_MAX: usize = BATCH_REQUESTS_MAX;
/// Messages between router threads waiting for one of them. Full: the sender keeps them in its outbox on disk.
pub const QUEUE_PEERS_MAX: usize = 8192;
/// Forwards read from an outbox and offered to a peer in one go. More: with the next offer.
pub const PUMP_FORWARDS_MAX: usize = 256;
/// Effects a thread holds because shards have no room. More: it takes no requests until they have.
pub const EFFECTS_HELD_MAX: usize = 65_536;
/// Bytes of waiting events read from disk after one batch; further sessions wait for the next.
pub const REFILL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Sessions of a partition looked at in one refill; further ones wait for the next.
pub const REFILL_SESSIONS_MAX: usize = 4096;
/// Events looked at for one session in one refill. More: with the next refill.
pub const REFILL_EVENTS_MAX: usize = 1024;
/// Users' records cached by one partition, about 150 bytes each. Full: the half not used for longest is dropped after the
/// commit and read again when needed.
pub const USERS_CACHED_MAX: usize = 16_384;
/// Sessions of one block of a partition's session table: 32 KiB. Memory grows and is given back by blocks.
pub const SESSIONS_BLOCK: usize = 1024;

/// Devices of one partition whose sessions were welcomed and whose registrations are not stored, which happens while the store
/// fails. Full: a further new device is told to come back later (1013).
pub const REGISTRATIONS_MAX: usize = 16_384;
/// Registrations of one thread that are committed though nothing else is to be.
pub const REGISTRATIONS_COMMIT: usize = 4096;
/// The longest that a registration waits for a commit.
pub const REGISTRATIONS_WAIT_MS: u64 = 200;

/// A day, milliseconds.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// What was not delivered, de-duplication keys, and who is told of a Read: days.
pub const RETENTION_DAYS: u32 = 30;
/// A status lives this long, whoever has seen it (`roost.proto`, Kind).
pub const STATUS_MS: u64 = DAY_MS;
/// Messages of a page of history, where the client does not say how many.
pub const HISTORY_MESSAGES: usize = 50;
/// Messages of a page of history at most: the client asks for the next page. More: asked for with the next page.
pub const HISTORY_MESSAGES_MAX: usize = 200;
/// A page of history ends with the message that passes this many bytes. More: asked for with the next page.
pub const HISTORY_BYTES_MAX: usize = 128 * 1024;
/// Sessions of a partition that one Tick looks at for whether their devices are noted as here today: five million in 16 partitions
/// are passed in five minutes. More: with the next Tick.
pub const DAYS_LOOKED_AT_MAX: usize = 1024;
/// Days between two Ticks after which all sessions are noted anew: a session keeps 5 bits of the day, and the walk may be days behind.
pub const DAYS_TOLD_APART: u32 = 16;
/// Devices of a partition that one Tick notes, each with a read and a small write. More: with the next.
pub const DAYS_NOTED_MAX: usize = 64;
/// Each partition is told at least this often that time passes.
pub const TICK_MS: u64 = 250;
/// Keys of a partition that one Tick looks at for what is too old: 64 partitions pass 20 million keys a day.
/// More: with the next Tick.
pub const SWEEP_KEYS_MAX: usize = 512;
/// The rest between two passes over a partition's keys.
pub const SWEEP_REST_MS: u64 = 60 * 60 * 1000;

/// The wait before effects are offered again to a full shard, or forwards to a full peer.
pub const RETRY_MS: u64 = 1;
/// The least time between two attempts to bring a failed store back.
pub const RECOVER_MS: u64 = 250;
/// A thread looks after its store and its stop flag at least this often.
pub const IDLE_MS: u64 = TICK_MS;
/// What a stopping thread gives full shards to take their last effects.
/// Longer: those effects are lost with their sessions; what they told of is stored.
pub const STOP_MS_MAX: u64 = 5_000;

/// fjall's block cache; filters and index blocks are kept besides.
pub const STORE_CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// One of fjall's memtables, as fjall counts: 78 bytes a user where 87 are allocated. One for each space takes writes, and a few
/// more wait to be written out. Small, because millions of users who only connect shall cost no more memory than that.
/// Full: it is written out.
pub const STORE_MEMTABLE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// fjall's threads, which write memtables out and compact. With two, one waits for the other's compaction in a busy loop (fjall 3.1).
pub const STORE_WORKERS: usize = 1;
/// fjall's journals, all together. Full: memtables are written out, so that the oldest can go.
pub const STORE_JOURNAL_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Torn ends of journals kept beside them, each at most one batch. More: the oldest goes.
pub const STORE_TORN_FILES_MAX: usize = 3;

// A full batch may leave this many effects or more: a thread must be able to hold what one batch makes.
const _: () = assert!(BATCH_REQUESTS_MAX <= EFFECTS_HELD_MAX);
// The largest payload and its envelope fit a window, else one message would always travel alone.
const _: () = assert!((PAYLOAD_BYTES_MAX as usize) < WINDOW_BYTES_MAX);
// A new session can acknowledge all that the one before it was sent.
const _: () = assert!(WINDOW_EVENTS_MAX + REFILL_EVENTS_MAX <= ACK_EVENTS_MAX as usize);
// A batch cannot make a partition full of registrations, all of which are committed after it.
const _: () = assert!(REGISTRATIONS_COMMIT + BATCH_REQUESTS_MAX <= REGISTRATIONS_MAX);
// Each user's followers are told in one tick, half of which is for those who went.
const _: () = assert!(FOLLOWERS_OF_USER_MAX <= PRESENCE_NOTICES_TICK_MAX / 2);
// One Watch's pairs are asked in one tick.
const _: () = assert!(WATCH_USERS_MAX <= PAIRS_ASKED_TICK_MAX);
// A group of the largest size fits a partition, also where everybody has just come back.
const _: () = assert!(GROUP_MEMBERS_MAX <= GROUP_MEMBERS_CONFIG_MAX);
// A partition's number fits its bits of a message id.
const _: () = assert!(PARTITIONS <= PARTITIONS_MAX);
// The bundles of all devices of a user are one answer, which must not fill a connection's outbox (512 KiB) alone.
const _: () = assert!(
    DEVICES_MAX
        * (IDENTITY_BYTES_MAX + SIGNED_PREKEY_BYTES_MAX + SIGNATURE_BYTES_MAX + ONE_TIME_KEY_BYTES_MAX)
        < 256 * 1024
);
// 41 bits of milliseconds last until 2039 below 2^63, and one bit more as an unsigned number until 2109.
const _: () = assert!(PARTITION_BITS + COUNTER_BITS == 22);
