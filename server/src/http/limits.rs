//! Every bound of the HTTP server, each with its unit and its reason.

use std::time::Duration;

/// Longest body of a push, in bytes: a run of records with their payloads.
pub const PUSH_BYTES_MAX: usize = 1024 * 1024;
/// Longest body of every other request, in bytes: a statement and 64 KiB of payload in base64, with room.
pub const BODY_BYTES_MAX: usize = 128 * 1024;
/// Connections at once on one listener: a small fleet has some ten callers.
pub const CONNECTIONS_MAX: usize = 256;
/// Connections of one address at once: a machine needs about six, and nobody may take everybody's places.
pub const CONNECTIONS_OF_ONE_MAX: usize = 128;
/// How long the other end may leave an answer unread before the connection is given up.
pub const WRITE_WITHIN: Duration = Duration::from_secs(20);
/// Requests in work at once, live tails and long polls apart.
pub const REQUESTS_MAX: usize = 64;
/// Long polls at once: about four for each machine, for the order, the gateway's logs and work.
pub const POLLS_MAX: usize = 256;
/// Requests of one key in work at once: a machine needs about four.
pub const REQUESTS_OF_ONE_MAX: usize = 32;
/// Long polls of one key at once: four, and as many again that a broken link left behind.
pub const POLLS_OF_ONE_MAX: usize = 8;
/// Bytes of one key's bodies in work at once: twice the window of pushes that it is given, and other requests.
pub const BYTES_OF_ONE_MAX: usize = 3 * 1024 * 1024;
/// Joins at once: the one request with a body that anybody may send.
pub const JOINS_MAX: usize = 4;
/// Live tails at once; each holds a thread of the pool while it reads, and none while it waits.
pub const TAILS_MAX: usize = 32;
/// Events that wait for a slow reader of a live tail; then reading the store waits for it.
pub const TAIL_EVENTS_MAX: usize = 256;
/// From a connection's first byte to the end of a request's headers.
pub const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// From the headers to the end of the body.
pub const BODY_WITHIN: Duration = Duration::from_secs(20);
/// From the body to the answer, long polls, live tails and scans apart.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The longest that a long poll may take: what it may ask to wait, and the work around it.
pub const POLL_WITHIN: Duration = Duration::from_secs(60);
/// How often a silent live tail says that it is there.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// How long open requests may go on after the order to stop.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Headers of a request, in number.
pub const HEADERS_MAX: usize = 64;
/// Headers of a request together, in bytes.
pub const HEADERS_BYTES_MAX: usize = 32 * 1024;
/// Items on a page at most.
pub const PAGE_MAX: usize = 1000;
/// Items on a page when nothing is said.
pub const PAGE_DEFAULT: usize = 100;
/// Receipts that are looked at for one page at most; then the page ends early and says where to go on.
pub const PAGE_LOOKED_AT_MAX: usize = 20_000;
/// Own facts, the newest of those that the order does not have, that are looked through for a job's request.
pub const OUTBOX_LOOKED_AT_MAX: u64 = 4096;
/// Receipts of one job that are shown with it.
pub const JOB_RECEIPTS_MAX: usize = 1000;
/// Evidence of one job in one answer, in bytes before base64: within what a machine's client takes.
pub const EVIDENCE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long the gateway may take to bring evidence; then what is absent is named.
pub const EVIDENCE_WITHIN: Duration = Duration::from_secs(5);
/// Values of one repeatable query parameter.
pub const REPEATS_MAX: usize = 32;
/// What a refused caller is told to wait, in seconds.
pub const RETRY_AFTER_S: u32 = 1;
