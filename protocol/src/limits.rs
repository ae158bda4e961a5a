//! Every bound in the machine, with its reason.

use core::time::Duration;

use crate::time::UnixTime;

/// Longest message read, in bytes. Servers refuse longer ones themselves (device-protocol §1.4).
pub const MAX_MESSAGE_BYTES: usize = 8_000_000;

/// Longest payload of an event this version understands, in bytes. The longest real one is an
/// update of 4 GiB with a checksum for each MiB, about 280 kB. Longer payloads are never parsed,
/// since a parsed tree takes many times the text's memory.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// Deepest nesting of a MessagePack payload this version understands. The JSON reader stops there too.
pub const MAX_PAYLOAD_DEPTH: usize = 127;

/// Most values (keys not counted) in a MessagePack payload this version understands. The longest real update has
/// about 4,200; a value may be written in one byte and takes 32 in memory.
pub const MAX_PAYLOAD_VALUES: usize = 65_536;

/// Outputs that may wait for [`Link::poll`](crate::Link::poll). Past this, messages hang the link
/// up, commands are refused and timers that would add orders wait. A drained machine holds a
/// handful; this only bounds a caller that stopped draining.
pub const MAX_OUTPUTS: usize = 256;

/// Pushes that may wait for a join, per topic. An update makes about six besides merged progress.
pub const MAX_HELD_PUSHES: usize = 64;

/// Pushes of extensions whose answer is still told from others. Servers answer at once, if at all.
pub const MAX_TAGS: usize = 32;

/// Extensions of the application's own.
pub const MAX_THIRD_PARTY_EXTENSIONS: usize = 16;

/// Versions of one extension.
pub const MAX_EXTENSION_VERSIONS: usize = 8;

/// Names of extensions read from one message. Servers know about ten.
pub const MAX_EXTENSION_NAMES: usize = 64;

/// Extensions unknown to the device that are answered for, per message.
pub const MAX_UNKNOWN_EXTENSIONS: usize = 16;

/// Longest payload of an event of a third-party extension, in bytes of JSON, either way.
pub const MAX_EXTENSION_PAYLOAD_BYTES: usize = 64 * 1024;

/// How long the application may take to answer a question of an extension. The server asks again in its own time.
pub const EXTENSION_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Shortest interval at which an extension does something by itself; shorter ones are raised to it (device-protocol A4).
pub const MIN_EXTENSION_INTERVAL: Duration = Duration::from_secs(60);

/// A wall clock that shows less, in seconds since 1970, is not believed: 1 January 2025, before this code was written.
/// Devices whose clock has no battery wake up in 1970 or at the date of their firmware.
pub const EARLIEST_CLOCK: i64 = 1_735_689_600;

/// Entries of each map of a health report. Servers show them on one page.
pub const MAX_HEALTH_ENTRIES: usize = 64;

/// Longest text in a health report or description of an alarm, in characters.
pub const MAX_HEALTH_TEXT_CHARS: usize = 1000;

/// Metrics in a report; servers keep the first in sorted order (device-protocol A6).
pub const MAX_METRICS: usize = 20;

/// Longest name of a metric, in bytes; servers drop longer ones (device-protocol A6).
pub const MAX_METRIC_NAME_BYTES: usize = 64;

/// Alarms of the application that are raised at a time.
pub const MAX_ALARMS: usize = 64;

/// Longest name of an alarm, in bytes; servers ignore longer ones (device-protocol A8).
pub const MAX_ALARM_NAME_BYTES: usize = 255;

/// Network identities of a device.
pub const MAX_IDENTITIES: usize = 32;

/// Network identities in one message; servers look no further (device-protocol §5.5).
pub const MAX_IDENTITIES_PER_MESSAGE: usize = 10;

/// Longest service, identifier and instance of a network identity, in characters (device-protocol §5.5).
pub const MAX_IDENTITY_CHARS: usize = 255;

/// Longest details of a network identity, in bytes of JSON (device-protocol §5.5).
pub const MAX_DETAILS_BYTES: usize = 4096;

/// Most log lines that wait to be sent.
pub const MAX_LOG_LINES: usize = 10_000;

/// Longest log line, in bytes, with the mark of having been cut (device-protocol A4).
pub const MAX_LOG_BYTES: usize = 8192;

/// Facts beside a log line.
pub const MAX_LOG_META: usize = 16;

/// Log lines in one message; servers drop the rest (device-protocol A4).
pub const MAX_LOG_BATCH: usize = 100;

/// Messages with log lines that may follow each other at once: the capacity of the server's token bucket (A4).
pub const LOG_BURST: u32 = 10;

/// Time between two messages with log lines after that: five a second (A4).
pub const LOG_PERIOD: Duration = Duration::from_millis(200);

/// Most bytes of log lines, of error reports and of samples that wait, each. A device without server must not lose its
/// memory to them.
pub const MAX_BACKLOG_BYTES: usize = 1024 * 1024;

/// Most bytes in one message of a batch, before JSON's escapes. Servers take 8,000,000 with them; a slow network should
/// not be blocked for long.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Most error reports that wait to be sent.
pub const MAX_ERROR_REPORTS: usize = 1000;

/// Error reports in one message; servers drop the rest (device-protocol A5).
pub const MAX_ERROR_BATCH: usize = 25;

/// Messages with error reports, or with metrics, that may follow each other at once (A5, A6).
pub const REPORT_BURST: u32 = 5;

/// Time between two messages with error reports, or with metrics, after that (A5, A6).
pub const REPORT_PERIOD: Duration = Duration::from_secs(1);

/// Longest kind of an error report, in bytes (A5).
pub const MAX_ERROR_KIND_BYTES: usize = 128;

/// Longest reason of an error report, in bytes (A5).
pub const MAX_ERROR_REASON_BYTES: usize = 2048;

/// Longest message of an error report, in bytes (A5).
pub const MAX_ERROR_MESSAGE_BYTES: usize = 8192;

/// Longest fingerprint of an error report, in bytes (A5).
pub const MAX_FINGERPRINT_BYTES: usize = 256;

/// Frames of an error report (A5).
pub const MAX_FRAMES: usize = 30;

/// Longest text in a frame of an error report, in bytes (A5).
pub const MAX_FRAME_BYTES: usize = 512;

/// Facts in the context of an error report (A5).
pub const MAX_CONTEXT: usize = 32;

/// Longest name of a fact, in bytes (A5).
pub const MAX_CONTEXT_NAME_BYTES: usize = 128;

/// Longest fact, in bytes (A5).
pub const MAX_CONTEXT_VALUE_BYTES: usize = 512;

/// Samples of metrics that wait to be sent: ten days at one an hour, four hours at one a minute.
pub const MAX_METRIC_SAMPLES: usize = 240;

/// Samples of metrics in one message; servers drop the rest (A6).
pub const MAX_METRIC_BATCH: usize = 60;

/// Oldest sample of metrics that servers take (A6).
pub const MAX_METRIC_AGE: Duration = Duration::from_secs(24 * 3600);

/// Messages about alarms that may follow each other at once (A8).
pub const ALARM_BURST: u32 = 10;

/// Time between two messages about alarms after that (A8).
pub const ALARM_PERIOD: Duration = Duration::from_secs(1);

/// Pushes of all extensions that may wait before the application's are refused. Well below
/// [`MAX_HELD_PUSHES`], so that what the link says itself finds room.
pub const MAX_EXTENSION_PUSHES: usize = 16;

/// How long after the join of the device a server may take to ask for extensions, where
/// [`ExtensionsConfig::join_uninvited`](crate::ExtensionsConfig::join_uninvited) allows not to wait (device-protocol A3.2).
pub const UNINVITED_WAIT: Duration = Duration::from_secs(5);

/// How often one status may be sent: first and twice after lost connections. A status that makes
/// the server drop the connection must not do so for ever.
pub const MAX_PUSH_SENDS: u8 = 3;

/// Messages handed to the adapter and not yet reported sent, per socket. Enough for the burst after
/// a join; few enough that progress merges while a slow network catches up.
pub const SEND_CREDIT: u32 = 8;

/// Messages with the adapter from which on no more output of shells, no result of a script and no more of a file is handed to it. One is on
/// its way while the next waits; what matters more then never waits behind more than two.
pub const BULK_CREDIT: u32 = 2;

/// Longest time the adapter may hold messages without one being sent. As long as two heartbeats, after which the
/// connection would be given up anyway.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest reason in a status, in characters. Servers show the first 200 (device-protocol §3.5).
pub const MAX_REASON_CHARS: usize = 200;

/// Longest text of a peer quoted in an event, in characters.
pub const MAX_TEXT_CHARS: usize = 300;

/// Longest name (topic, event, interface) taken from a peer, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// Longest field of a firmware's metadata, in characters. fwup's own fields are short lines.
pub const MAX_META_CHARS: usize = 1000;

/// Public keys held. An organisation has a handful.
pub const MAX_PUBLIC_KEYS: usize = 64;

/// Longest URL, in bytes. Signed storage URLs reach about 2,000; HTTP servers stop at 8 KiB.
pub const MAX_URL_BYTES: usize = nerves_hub_link_url::MAX_URL_BYTES;

/// Longest entity tag remembered, in bytes. Longer ones are treated as absent.
pub const MAX_ETAG_BYTES: usize = 256;

/// Longest identifier of a device, in bytes: a column of the server.
pub const MAX_IDENTIFIER_BYTES: usize = 255;

/// Most rounds of the key derivation. Each dial pays for them; a million take about a second.
pub const MAX_KEY_ITERATIONS: u32 = 1_000_000;

/// Longest derived key, in bytes. The default is 32.
pub const MAX_KEY_LENGTH: u32 = 1024;

/// Longest `Retry-After` obeyed. A wrong header must not silence a device for days.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// Most delays between attempts to connect that an application may list. The last one repeats.
pub const MAX_RECONNECT_DELAYS: usize = 64;

/// Origins listed in [`Config::trusted_origins`](crate::Config::trusted_origins).
pub const MAX_TRUSTED_ORIGINS: usize = 16;

/// How long a reboot waits for the last status to reach the wire.
pub const REBOOT_GRACE: Duration = Duration::from_secs(5);

/// Reboots within [`REBOOT_WINDOW`] by default. Enough for an operator at work, and for a slow device about what it can
/// do; a server that orders one at every join would otherwise keep the device from its job for ever.
pub const REBOOTS_PER_HOUR: u32 = 6;

/// The time within which reboots are counted.
pub const REBOOT_WINDOW: Duration = Duration::from_secs(3600);

/// Updates within [`OVERWRITE_WINDOW`] that may begin to overwrite the other slot, by default. An operator who pushes version
/// after version is not held up; a server that sends them for ever neither wears the flash out nor keeps the device
/// without a fallback.
pub const OVERWRITES_PER_DAY: u32 = 10;

/// The time within which overwrites are counted, and after which failed updates are forgotten.
pub const OVERWRITE_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// Pause after an update that failed, by default. Doubled with each that follows.
pub const FAILURE_PAUSE: Duration = Duration::from_secs(60);

/// Longest pause after updates that failed.
pub const MAX_FAILURE_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// Highest bound that can be set on what a server can make the device do: each entry counted is remembered.
pub const MAX_BOUND: u32 = 100;

/// How often a device without a clock keeps how old what it counts is, while there is any. So much of the time it ran is
/// not counted when its power is cut.
pub const HISTORY_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// How long no update service may show itself before the alarm, unless told otherwise. A week: longer than any outage that
/// nobody would want to hear of.
pub const FREEZE_ALARM: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Longest time before that alarm that can be set.
pub const MAX_FREEZE_ALARM: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long after its start a device does not raise that alarm: one that was switched off for a month connects first.
pub const FREEZE_GRACE: Duration = Duration::from_secs(10 * 60);

/// Pause between two events while that alarm is raised.
pub const FREEZE_REMINDER: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a device stores when an update service last showed itself. A restart forgets less than that.
pub const CONTACT_SAVE_INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);

/// Shortest delay of a rescheduled update. Each offer counts as an attempt; three attempts in a row
/// lock a device out for a day (device-protocol §9.4).
pub const MIN_RESCHEDULE: Duration = Duration::from_secs(5 * 60);

/// Time a script has when the server names none (device-protocol §3.6).
pub const SCRIPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time a script may have. Servers forget it after 15 s.
pub const MAX_SCRIPT_TIMEOUT: Duration = Duration::from_secs(60);

/// Most scripts at a time. People send one after the other.
pub const MAX_SCRIPTS: usize = 8;

/// Longest script, in bytes. What people type or paste is far shorter.
pub const MAX_SCRIPT_BYTES: usize = 256 * 1024;

/// Longest output, and longest value, of a script that is sent, in bytes. It is shown on a web page, and several may
/// wait for a slow network.
pub const MAX_SCRIPT_OUTPUT_BYTES: usize = 64 * 1024;

/// Output of a shell that waits to be sent, in bytes as the shell wrote them. Invalid bytes grow to three, so that the
/// text may be three times as long. A few screens full; with more, what a person stops would go on for long.
pub const MAX_SHELL_BUFFER: usize = 32 * 1024;

/// Words about shells that may wait between what they wrote. Each shell makes two.
pub const MAX_SHELL_NOTES: usize = 16;

/// Longest text of a shell in one message, in bytes of UTF-8.
pub const MAX_SHELL_MESSAGE_BYTES: usize = 16 * 1024;

/// Shortest time between two messages with output of a shell, unless they are full. Shorter than anybody sees, and
/// long enough that a program that writes in small pieces makes 50 messages a second at most.
pub const SHELL_OUTPUT_PAUSE: Duration = Duration::from_millis(20);

/// A shell that ended by itself after less time than this is started again only when somebody presses a key: it would
/// end at once for ever.
pub const SHELL_RESTART_MIN: Duration = Duration::from_secs(1);

/// Files on their way to the device at a time. People drop one or a few.
pub const MAX_FILES: usize = 4;

/// Files that ended lately and are still known: reports about pieces that were handed over before the end come after it.
pub const MAX_ENDED_FILES: usize = 16;

/// Longest name of a file, in bytes: what Linux file systems take.
pub const MAX_FILE_NAME_BYTES: usize = 255;

/// Longest piece of a file on its way to the device, in bytes. Browsers send 1024.
pub const MAX_FILE_CHUNK_BYTES: usize = 64 * 1024;

/// Bytes of a file handed to the application that it has not reported stored. A server sends files as fast as it can
/// and has no way to wait.
pub const MAX_FILE_UNSTORED: usize = 1024 * 1024;

/// Longest time without the next piece of a file, either way.
pub const FILE_IDLE: Duration = Duration::from_secs(60);

/// A file sent from the device must have fewer bytes (device-protocol §4).
pub const MAX_UPLOAD_BYTES: u64 = 10_485_760;

/// Bytes of a file sent from the device in one message, before base64 (device-protocol §4).
pub const UPLOAD_CHUNK_BYTES: usize = 1024;

/// Bytes of a file sent from the device that the machine asks for in advance.
pub const MAX_UPLOAD_BUFFER: usize = 16 * 1024;

/// Shortest time until the application is asked about an archive again. Asking again at once, for ever, would keep the
/// device from everything else.
pub const MIN_ARCHIVE_RESCHEDULE: Duration = Duration::from_secs(1);

/// Requests for archives whose bytes may be reported as stored after the archive was given up. Each may have some on
/// their way to the disk, but hardly more than one has.
pub const MAX_RECENT_FETCHES: usize = 16;

/// UUIDs of archives remembered as known. A device has a handful; the oldest is forgotten first, and offered again.
pub const MAX_KNOWN_ARCHIVES: usize = 64;

/// How long the server may take to answer a question about updates.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time the server may forbid further requests for an update. A wrong number must not end updates.
pub const MAX_REJECT_DELAY: Duration = Duration::from_secs(24 * 3600);

/// Most connection types reported. There are three or four kinds.
pub const MAX_CONNECTION_TYPES: usize = 16;

/// Longest delay of a rescheduled update, so that it fits the server's integers.
pub const MAX_RESCHEDULE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A connection that lived this long counts as good, joined or not (device-protocol §1.11).
pub const STABLE_CONNECTION: Duration = Duration::from_secs(30);

/// The time within which [`DUPLICATE_CLOSES`] kicks mean that two devices share an identity
/// (device-protocol §1.12).
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(60);

/// Closes by the server shortly after a join that make a duplicate identity likely.
pub const DUPLICATE_CLOSES: usize = 3;

/// How long a joined connection must be left in peace until a duplicate identity is no longer suspected. Longer than
/// the other device waits at first.
pub const DUPLICATE_PEACE: Duration = Duration::from_secs(10 * 60);

/// Longest wait, before jitter, of a device that another one with its identity keeps kicking. Two such devices then
/// connect about eight times an hour together; a shorter wait would not get the mistake mended sooner.
pub const MAX_DUPLICATE_WAIT: Duration = Duration::from_secs(15 * 60);

/// How long looking whether the network is there may take, before the first connection (device-protocol §1.15).
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two such looks.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// Time after which the application is told again that there is no network.
pub const NETWORK_REMINDER_FIRST: Duration = Duration::from_secs(60);

/// Time between reminders after that: often enough to show that the device still looks, rarely enough not to fill a log.
pub const NETWORK_REMINDER: Duration = Duration::from_secs(3600);

/// How much longer than [`Dial::timeout`](crate::Dial::timeout) the machine waits for an answer
/// before it gives the dial up itself.
pub const DIAL_GRACE: Duration = Duration::from_secs(10);

/// Shortest time between two progress reports of a stage (device-protocol §6.2).
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Firmwares whose failed starts are remembered; the oldest is forgotten for a new one. A deployment has one or two.
pub const MAX_ATTEMPTS_REMEMBERED: usize = 16;

/// Deltas that may fail without counting as starts of their firmware, until an update succeeds. One is normal, as the
/// device then asks for full images; a server that sends deltas all the same must not wear out the disk.
pub const MAX_DELTA_FAILURES: u32 = 3;

/// Most windows of a schedule. Two a day for a week are 14.
pub const MAX_WINDOWS: usize = 64;

/// Largest distance of a time zone from UTC, in minutes. A day, to be sure.
pub const MAX_UTC_OFFSET_MINUTES: u16 = 1439;

/// Slowest speed that can be asked for, in bytes per second. Slower, one read of the adapter would take minutes, and
/// servers would give the connection up.
pub const MIN_RATE: u64 = 1000;

/// How far bytes may be ahead of the allowed speed. Long enough that a pause is worth it, short enough to look steady.
pub const RATE_BURST: Duration = Duration::from_millis(250);

/// How long an update is put off by a device that can't install it. Doubled each time, up to
/// [`MAX_OBSTACLE_WAIT`]: a hub counts each offer as an attempt and blocks a device for a day after three.
pub const OBSTACLE_WAIT: Duration = Duration::from_secs(3600);

/// Longest time by which a device that can't install an update puts it off.
pub const MAX_OBSTACLE_WAIT: Duration = Duration::from_secs(24 * 3600);

/// How long an update is put off by a device that keeps windows and doesn't know the time.
pub const CLOCKLESS_WAIT: Duration = Duration::from_secs(3600);

/// Longest time at random by which a device comes later than its window begins, so that a fleet doesn't come at once. A
/// quarter of the window at most.
pub const MAX_WINDOW_SPREAD: Duration = Duration::from_secs(30 * 60);

/// Longest time the server hears nothing of an update, however slow it is. Servers forget updates they heard nothing of
/// for 30 minutes (device-protocol §9.3).
pub const PROGRESS_KEEPALIVE: Duration = Duration::from_secs(10 * 60);

/// Time between two questions whether the running firmware proved good (device-protocol §7.4).
pub const VALIDATION_INTERVAL: Duration = Duration::from_secs(10);

/// Most interface names that can be renamed.
pub const MAX_INTERFACE_NAMES: usize = 32;

/// Longest time the applier may neither take bytes nor report progress. Slow flash needs seconds
/// per chunk; a hung `fwup` would otherwise hold the update for ever.
pub const APPLY_STALL: Duration = Duration::from_secs(15 * 60);

/// Seconds by which a signature may seem to be from the future without the clock being blamed: `Date` has whole
/// seconds, servers keep it for a second, and the device's time has whole seconds, too.
pub const CLOCK_ROUNDING_SECONDS: i64 = 2;

/// The beginning of the year of this software's release: 1 January 2026. No server's clock is earlier, unless it is wrong.
/// To be moved with the releases of later years.
pub const RELEASED: UnixTime = UnixTime(1_767_225_600);

/// How long after [`RELEASED`] a server's clock is believed by default. A forged date must not get a signature for
/// the far future out of a device; a device without a clock must connect for as long as it lasts.
pub const CLOCK_HORIZON: Duration = Duration::from_secs(3653 * 24 * 3600);

/// Seconds that a server's clock may differ from the time at which the server last accepted a signature, or from the
/// device's own clock, to be believed.
pub const CLOCK_DRIFT_SECONDS: i64 = 600;

/// Dates in a row that are not believed for [`CLOCK_DRIFT_SECONDS`] alone. Then the device's idea of the time counts as
/// lost, for example by a sleep that its clocks did not see, and any plausible date is believed again.
pub const CLOCK_DOUBTS: u32 = 20;

/// Oldest signature, in seconds, that is not blamed on the clock. Servers take 90 s (device-protocol §2.3);
/// connecting may use up 30 of them.
pub const CLOCK_TOLERANCE_SECONDS: i64 = 60;

/// Shortest budget of the slowest-speed rule, per response (device-protocol §6.4).
pub const MIN_SPEED_BUDGET: Duration = Duration::from_secs(300);

/// How long a timer that would add orders waits when nobody polls.
pub const UNDRAINED_PAUSE: Duration = Duration::from_secs(1);

/// Smallest part of a verified download, in bytes. Each costs a file and a checksum; below this the bookkeeping
/// outweighs the bytes.
pub const MIN_PART_SIZE: u32 = 1024;

/// Largest part of a verified download, in bytes. A part that fails costs as much again.
pub const MAX_PART_SIZE: u32 = 1024 * 1024 * 1024;

/// Most parts of a download. Servers cut the largest file accepted by default, 4 GiB, into 4096. With more
/// checksums the file is taken as one part.
pub const MAX_PARTS: usize = 8192;

/// Most requests at a time. Each has a connection with its buffers; storage rarely gives more speed to more of them.
pub const MAX_CONCURRENT_PARTS: u32 = 8;

/// Requests for a range in a row that a server may answer in a way that may pass, before the whole file is asked for. Some
/// servers and proxies answer any range with an error.
pub const RANGE_REFUSALS: u32 = 2;

/// How often an update, or an archive, starts over because the file changed on the server meanwhile, or what was received
/// may be a mixture of two files. A server that changes it at every request must not keep the device busy for ever.
pub const FRESH_STARTS: u32 = 2;

/// How often a file without checksums of its parts may be received that doesn't match its checksum: once after what
/// was left of an earlier attempt, which may have suffered from a power loss, and once afresh.
pub const WHOLE_FILE_ATTEMPTS: u32 = 2;

/// Parts on their way onto the disk at a time, per store; others wait. Small parts on a slow disk would else fill the
/// queue of orders.
pub const MAX_COMMITS: u32 = 8;

/// Longest name of a store's folder, in bytes. File systems take 255.
pub const MAX_STORE_KEY: usize = 128;

/// Longest time a store may take to open, to read the next bytes or to bring a part onto the disk. Slow flash needs
/// seconds.
pub const STORE_STALL: Duration = Duration::from_secs(5 * 60);
