//! Sizes, times and rates of the HTTP service. Owner: `http`. Behind each bound stands what happens when it is reached.

/// Connections open at once. Full: the one that has been without a request for longest is closed for the next; where all have an answer
/// under way, the one whose client has taken nothing of it for longest; where all are still being answered, the next waits, and further
/// ones in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 512;

/// How long one connection may live, in seconds, requests in flight included; then it is closed.
pub const CONNECTION_S_MAX: u64 = 300;

/// How long a client may take over a request's header, in milliseconds; then it is disconnected.
pub const HEADER_READ_MS_MAX: u64 = 10_000;

/// Largest buffer for a request's header, in bytes (431 past it).
pub const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Most header fields of a request (431 past it).
pub const HEADERS_MAX: usize = 64;

/// Largest request body, in bytes (413).
pub const BODY_BYTES_MAX: usize = 4 * 1024;

/// How long a client may take over a request's body, in milliseconds (408).
pub const BODY_READ_MS_MAX: u64 = 5_000;

/// Bytes of the bodies of calls (messages and the like) held at once, on their way from a socket to the message tier (503). A
/// single body may be as large as a WebSocket message, but no larger than this.
pub const BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Calls that wait for the answer of the message tier (503).
pub const CALLS_MAX: usize = 256;

/// How long a call waits for its answer, in milliseconds (503).
pub const CALL_MS_MAX: u64 = 10_000;

/// Events of a page of `GET /v1/messages` unless asked for fewer or more.
pub const PAGE_EVENTS: u32 = 100;

/// Largest `Idempotency-Key`, in bytes (400).
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// How long a request may take in all, in milliseconds (503). A password check that was begun is finished, so that its permit
/// stays with it.
pub const REQUEST_MS_MAX: u64 = 20_000;

/// How long a stop waits for requests in flight, in milliseconds; then they are cut off.
pub const STOP_MS_MAX: u64 = 5_000;

/// How long a stop waits for the first request of a connection that was accepted before it, in milliseconds; then it is closed.
pub const STOP_FIRST_MS: u64 = 1_000;

/// Pause after the system refused to accept (out of descriptors or memory), in milliseconds.
pub const ACCEPT_RETRY_MS: u64 = 50;

/// Password length in bytes of UTF-8, least and most: OWASP asks for 8, and a bound keeps hashing cheap.
/// Longer or shorter: answered 400.
pub const PASSWORD_BYTES_MIN: usize = 8;
/// See [`PASSWORD_BYTES_MIN`].
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// argon2id parameters: memory in KiB, passes, lanes (OWASP Password Storage Cheat Sheet, second choice: 19 MiB, 2, 1).
pub const ARGON2_MEMORY_KIB: u32 = 19_456;
/// See [`ARGON2_MEMORY_KIB`].
pub const ARGON2_PASSES: u32 = 2;
/// See [`ARGON2_MEMORY_KIB`].
pub const ARGON2_LANES: u32 = 1;

/// Most passwords hashed at once, whatever the machine: each takes a core and `ARGON2_MEMORY_KIB`. Half of the cores are
/// taken where that is less, because the others carry messages. More: they wait, as many as [`HASHES_WAITING_MAX`].
pub const HASHES_IN_FLIGHT_MAX: usize = 8;

/// Requests that wait for a hash; the next is answered 503 with Retry-After.
pub const HASHES_WAITING_MAX: usize = 64;

/// Sign-ups and log-ins of one address (IPv6: of one /64): so many at once, and one more a second (429).
pub const ADDRESS_BURST: u32 = 60;
/// See [`ADDRESS_BURST`], in milliseconds.
pub const ADDRESS_REFILL_MS: u64 = 1_000;

/// Log-ins of one user from wherever: so many at once, and one more every six seconds (429).
pub const USER_BURST: u32 = 10;
/// See [`USER_BURST`], in milliseconds.
pub const USER_REFILL_MS: u64 = 6_000;

/// Keys each rate limiter remembers. When it is full of recent ones, unknown keys are refused (429).
pub const THROTTLE_KEYS_MAX: usize = 65_536;

/// How often at most a full rate limiter is swept, in milliseconds.
pub const THROTTLE_SWEEP_MS_MIN: u64 = 1_000;

/// The longest public URL an operator may name: it goes into a header of every page. Longer: refused at start.
pub const PUBLIC_URL_BYTES_MAX: usize = 512;

/// How long a token of `POST /v1/login` is good unless configured, in seconds: 30 days.
pub const TOKEN_TTL_S: u64 = 30 * 24 * 3600;

const _: () =
    assert!(ADDRESS_BURST >= USER_BURST, "a user behind one address reaches the user's limit first");
const _: () = assert!(REQUEST_MS_MAX > BODY_READ_MS_MAX, "a slow body is told apart from a slow answer");
const _: () = assert!(
    REQUEST_MS_MAX > BODY_READ_MS_MAX + CALL_MS_MAX,
    "a call's own deadline passes first and says more"
);
const _: () =
    assert!(CALLS_MAX < CONNECTIONS_MAX, "HTTP/1.1 has one call a connection: more would never be refused");
const _: () = assert!(BODIES_BYTES_MAX / 1024 <= u32::MAX as usize, "permits are KiB in 32 bits");
const _: () = assert!(BODY_BYTES_MAX > 2 * PASSWORD_BYTES_MAX, "a long password fits its body");
