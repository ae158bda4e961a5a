//! Every limit of the test kit, each with its reason.

/// Events the hub remembers; the oldest go first. Far more than any test makes, few megabytes at most.
pub const EVENT_LOG: usize = 100_000;

/// PBKDF2 rounds a device may ask for. The default is 1000; a header must not stall the hub.
pub const AUTH_ITERATIONS: u32 = 100_000;

/// Bytes of derived key a device may ask for. The default is 32.
pub const AUTH_KEY_LENGTH: u32 = 512;

/// Devices the hub registers on first sight. A test fleet, not a real one.
pub const DEVICES: usize = 1000;

/// Bytes of one WebSocket frame or message from a device (device-protocol §1.4).
pub const MESSAGE: usize = 8_000_000;

/// Milliseconds without any frame after which the hub closes a socket with 1002 (device-protocol §1.4).
pub const IDLE_MS: u64 = 180_000;

/// Milliseconds without progress after which an update in flight is forgotten (device-protocol §9.3).
pub const IN_FLIGHT_MS: u64 = 30 * 60 * 1000;

/// Bytes per entry of `partials_checksums` (device-protocol §6.1).
pub const PART: usize = 1_048_576;

/// Bytes of an HTTP request head.
pub const REQUEST_HEAD: usize = 16 * 1024;

/// Header lines of an HTTP request.
pub const REQUEST_HEADERS: usize = 64;

/// Connections the socket hub serves at a time; one thread each.
pub const CONNECTIONS: usize = 256;

/// Bytes of a request to the proxy; those of devices have some hundred.
pub const PROXY_REQUEST: usize = 8 * 1024;

/// Bytes read from a firmware and written to a download at a time.
pub const BODY_CHUNK: usize = 64 * 1024;

/// Bytes of `meta.conf` an archive may have (fw-format §1.4).
pub const META_CONF_MAX: usize = 49_999;

/// The fewest bytes of `meta.conf` an archive may have (fw-format §1.4).
pub const META_CONF_MIN: usize = 10;

/// Bytes of one resource or archive: this kit writes no zip64.
pub const ZIP32: u64 = 0xFFFF_FFFE;

/// Bytes of a U-Boot environment block: fwup's largest block count times the block size.
pub const ENVIRONMENT: usize = 65_534 * 512;

/// Deepest nesting of a MessagePack value the test kit reads. Real messages have four levels.
pub const MSGPACK_DEPTH: usize = 64;

/// Bytes of a made-up body that a replay hands over at a time.
pub const REPLAY_BODY: u64 = 16 * 1024 * 1024;

/// Devices of one simulated fleet. Each takes about 10 KiB.
pub const SIM_DEVICES: u32 = 100_000;

/// Things that happen in one short scenario at most, besides what follows from them.
pub const SIM_STEPS: usize = 64;

/// Microseconds of virtual time in which everything must be well again after all faults ended. The longest waits
/// are half an hour for an offer that the hub forgets and as long for one that was postponed, a quarter of an hour
/// for a `Retry-After` or an applier that stands still, and a minute of back-off between attempts.
pub const SIM_HEALING: u64 = 3 * 3_600_000_000;
