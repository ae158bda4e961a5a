//! The wire's words, in one place.

/// The device channel's topic. The server maps it to the device (device-protocol §1.7).
pub(crate) const DEVICE: &str = "device";
/// The console channel's topic.
pub(crate) const CONSOLE: &str = "console";
/// The extensions channel's topic.
pub(crate) const EXTENSIONS: &str = "extensions";

/// The path of the socket for shared secrets.
pub(crate) const SHARED_SECRET_PATH: &str = "/device-socket/websocket";
/// The path of the socket for client certificates.
pub(crate) const CERTIFICATE_PATH: &str = "/socket/websocket";
/// The query parameter that names the serializer.
pub(crate) const VSN: &str = "vsn";
/// Phoenix V2 JSON.
pub(crate) const VSN_JSON: &str = "2.0.0";
/// MessagePack.
pub(crate) const VSN_MSGPACK: &str = "3.0.0";

/// The protocol level this version speaks (device-protocol §3.2). 2.4.0 promises device-managed updates.
pub(crate) const DEVICE_API_VERSION: &str = "2.4.0";
/// The console protocol level.
pub(crate) const CONSOLE_VERSION: &str = "2.0.0";
/// Asks for keys after the join.
pub(crate) const ON_CONNECT: &str = "on_connect";

/// The header in which servers explain a refusal.
pub(crate) const ERROR_REASON_HEADER: &str = "nh-connection-error-reason";

/// The join parameter with the firmware being downloaded.
pub(crate) const CURRENTLY_DOWNLOADING: &str = "currently_downloading_uuid";
/// The join parameter with the name of the tool that applies updates.
pub(crate) const UPDATE_TOOL: &str = "update_tool";

// Server to device.
pub(crate) const UPDATE: &str = "update";
pub(crate) const FWUP_PUBLIC_KEYS: &str = "fwup_public_keys";
pub(crate) const ARCHIVE: &str = "archive";
pub(crate) const ARCHIVE_PUBLIC_KEYS: &str = "archive_public_keys";
pub(crate) const REBOOT: &str = "reboot";
pub(crate) const IDENTIFY: &str = "identify";
pub(crate) const UPDATE_MODE: &str = "update_mode";
pub(crate) const UPDATE_AVAILABLE: &str = "update_available";
pub(crate) const UPDATE_REJECTED: &str = "update_rejected";
pub(crate) const EXTENSIONS_GET: &str = "extensions:get";

// Extensions, server to device.
pub(crate) const ATTACH: &str = "attach";
pub(crate) const DETACH: &str = "detach";

// Extensions, device to server, behind the extension's name and a colon.
pub(crate) const ATTACHED: &str = "attached";
pub(crate) const DETACHED: &str = "detached";
pub(crate) const ERROR: &str = "error";

// Events of extensions.
pub(crate) const CHECK: &str = "check";
pub(crate) const REQUEST: &str = "request";
pub(crate) const LOCATION_REQUEST: &str = "location:request";
pub(crate) const HEALTH_REPORT: &str = "health:report";
pub(crate) const LOCATION_UPDATE: &str = "geo:location:update";
pub(crate) const SYNC: &str = "sync";
pub(crate) const LOGGING_SEND: &str = "logging:send";
pub(crate) const ERROR_REPORTS_REPORT: &str = "error_reports:report";
pub(crate) const METRICS_REPORT: &str = "metrics:report";
pub(crate) const ALARMS_SNAPSHOT: &str = "alarms:snapshot";
pub(crate) const ALARMS_RAISED: &str = "alarms:raised";
pub(crate) const ALARMS_CLEARED: &str = "alarms:cleared";
pub(crate) const NETWORK_IDENTITY_REPORT: &str = "network_identity:report";

// The names of extensions.
pub(crate) const HEALTH: &str = "health";
pub(crate) const GEO: &str = "geo";
pub(crate) const NETWORK_IDENTITY: &str = "network_identity";
pub(crate) const LOGGING: &str = "logging";
pub(crate) const ERROR_REPORTS: &str = "error_reports";
pub(crate) const METRICS: &str = "metrics";
pub(crate) const ALARMS: &str = "alarms";
pub(crate) const LOCAL_SHELL: &str = "local_shell";
/// The names the application can't use for extensions of its own.
pub(crate) const BUILT_IN_EXTENSIONS: [&str; 9] =
    [HEALTH, GEO, NETWORK_IDENTITY, LOGGING, ERROR_REPORTS, METRICS, ALARMS, LOCAL_SHELL, "components"];

// Both ways.
pub(crate) const SCRIPTS_RUN: &str = "scripts/run";

// Device to server.
pub(crate) const REPORT_NETWORK_INTERFACE: &str = "report_network_interface";
pub(crate) const FIRMWARE_VALIDATED: &str = "firmware_validated";
pub(crate) const CONNECTION_TYPES: &str = "connection_types";
pub(crate) const CHECK_UPDATE: &str = "check_update";
pub(crate) const REQUEST_UPDATE: &str = "request_update";
pub(crate) const SET_UPDATE_MODE: &str = "set_update_mode";
pub(crate) const REBOOTING: &str = "rebooting";
pub(crate) const STATUS_UPDATE: &str = "status_update";
pub(crate) const FWUP_PROGRESS: &str = "fwup_progress";
pub(crate) const UPDATE_PROGRESS: &str = "update_progress";

// The console. Any other event from the device crashes the server's channel (device-protocol §4).
pub(crate) const DN: &str = "dn";
pub(crate) const UP: &str = "up";
pub(crate) const WINDOW_SIZE: &str = "window_size";
pub(crate) const RESTART: &str = "restart";
pub(crate) const FILE_START: &str = "file-data/start";
pub(crate) const FILE_DATA: &str = "file-data";
pub(crate) const FILE_STOP: &str = "file-data/stop";

// The local shell.
pub(crate) const REQUEST_SHELL: &str = "request_shell";
pub(crate) const SHELL_INPUT: &str = "shell_input";
pub(crate) const KILL_SHELL: &str = "kill_shell";
pub(crate) const REQUEST_STATUS: &str = "local_shell:request_status";
pub(crate) const SHELL_OUTPUT: &str = "local_shell:shell_output";
pub(crate) const SHELL_EXITED: &str = "local_shell:shell_exited";

// Phrases a reason begins with; people and dashboards look for them (device-protocol §3.5).
pub(crate) const NO_KEYS: &str = "Refusing unverified firmware : no public keys available";
pub(crate) const DOWNLOAD_FAILED: &str = "Download failed";
pub(crate) const FWUP_ERROR: &str = "FWUP error";
pub(crate) const UPDATE_FAILED: &str = "Update failed";
/// What the server hears of an update that failed before a trusted signature was seen, whatever the reason: it must not learn
/// what answers inside the device's network. [`Event::UpdateFailed`](crate::Event::UpdateFailed) has the reason.
pub const UNTOLD: &str = "Update failed : the device's log has the reason";

/// The version of fwup to announce for full images only: deltas came with 1.6.0.
pub(crate) const FWUP_WITHOUT_DELTAS: &str = "1.0.0";
