//! What a device needs beside its settings.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nerves_hub_link_platform::health::HealthSampler;
use nerves_hub_link_platform::install::Installer;
use nerves_hub_link_platform::kv::KeyValueStore;
use nerves_hub_link_platform::pty::ShellCommand;
use nerves_hub_link_platform::store::DownloadStore;
use nerves_hub_link_protocol::Client;
use nerves_hub_link_transport::{Proxy, ProxyRules, Tls};

use crate::engine::Folders;
use crate::limits::{INSTALL_CHECK_EVERY, REMEMBER_MAX};
use crate::memory::Memory;

/// What a device needs beside the machine's
/// [`Config`](nerves_hub_link_protocol::Config): connections, hands and ears.
pub struct Options {
    pub(crate) socket_tls: Tls,
    pub(crate) download_tls: Option<Tls>,
    pub(crate) installer: Box<dyn Installer>,
    pub(crate) client: Box<dyn Client + Send>,
    pub(crate) notice: Box<dyn FnMut(&str) + Send>,
    pub(crate) shell: Option<ShellCommand>,
    pub(crate) data_path: Option<PathBuf>,
    pub(crate) health: Option<HealthSampler>,
    pub(crate) seed: Option<u64>,
    pub(crate) folders: Folders,
    pub(crate) connect: bool,
    pub(crate) proxy: ProxyRules,
    pub(crate) memory: Memory,
    pub(crate) install_checks: Duration,
    pub(crate) attempts_limit: Duration,
}

impl Options {
    /// Builds options: TLS settings for the socket, and for downloads as [`Tls::for_downloads`] makes them of those; the way
    /// updates are applied; and the
    /// application's callbacks.
    ///
    /// Callbacks run where the connection is kept alive: on the device's thread, they should return within seconds; in a
    /// task, at once. A callback that panics is told to the notice hook, and the default callback answers in its place.
    pub fn new(tls: Tls, installer: impl Installer + 'static, client: impl Client + Send + 'static) -> Self {
        Self {
            socket_tls: tls,
            download_tls: None,
            installer: Box::new(installer),
            client: Box::new(client),
            notice: Box::new(|_| {}),
            shell: None,
            data_path: None,
            health: Some(HealthSampler::new("/")),
            seed: None,
            folders: Folders::default(),
            connect: true,
            proxy: ProxyRules::default(),
            memory: Memory::none(),
            install_checks: INSTALL_CHECK_EVERY,
            attempts_limit: REMEMBER_MAX,
        }
    }

    /// Uses other TLS settings for downloads than those that go with the socket's
    /// ([`Tls::for_downloads`]: the operating system's roots beside the given ones, no client certificate).
    #[must_use]
    pub fn download_tls(mut self, tls: Tls) -> Self {
        self.download_tls = Some(tls);
        self
    }

    /// Connects through an HTTP proxy: the socket, downloads, and the look whether the network is there.
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = ProxyRules::all(proxy);
        self
    }

    /// Connects through the proxy that the rules name for each address, if they name one.
    #[must_use]
    pub fn proxy_rules(mut self, rules: ProxyRules) -> Self {
        self.proxy = rules;
        self
    }

    /// Keeps updates in a folder before they are applied, as all ways of updating but streaming need.
    #[must_use]
    pub fn firmware_store(mut self, store: DownloadStore) -> Self {
        self.folders.firmware = Some(Arc::new(Mutex::new(store)));
        self
    }

    /// Keeps archives in a folder. The application's callbacks say which are wanted, and are told where they are.
    #[must_use]
    pub fn archive_store(mut self, store: DownloadStore) -> Self {
        self.folders.archives = Some(Arc::new(Mutex::new(store)));
        self
    }

    /// Tells remarks worth a line in the log that are no event: a refused command, a callback that
    /// panicked, what an archive has to say. None holds a secret.
    #[must_use]
    pub fn on_notice(mut self, notice: impl FnMut(&str) + Send + 'static) -> Self {
        self.notice = Box::new(notice);
        self
    }

    /// Remembers in a store how often each firmware was tried, so that an image that crashes or falls back again and
    /// again is refused in the end ([`Config::attempts`](nerves_hub_link_protocol::Config::attempts)). Without one, the
    /// count lasts until the next restart.
    ///
    /// Also remembers how often the device was rebooted
    /// ([`Config::bounds`](nerves_hub_link_protocol::Config::bounds)). Without a store, a server's order to reboot is
    /// refused soon after the start.
    ///
    /// The store must be the same for all slots and not on the disk that updates are written to while they are written:
    /// a [`FileStore`](nerves_hub_link_platform::kv::FileStore) on the data partition, say. It is read when the device is
    /// set up and written once or twice per update; meanwhile the device does nothing else, for ten seconds at most
    /// ([`attempts_limit`](Self::attempts_limit)).
    #[must_use]
    pub fn remember_attempts(mut self, store: impl KeyValueStore + 'static) -> Self {
        self.memory = Memory::new(store);
        self
    }

    /// Sets how long the device waits for the store of attempts, which may hang with a disk, before it continues without:
    /// when it is set up, where it waits for [`RECALL_MIN`](crate::limits::RECALL_MIN) at least, and at every write. Default
    /// [`REMEMBER_MAX`], which is also the longest: the server expects a heartbeat.
    #[must_use]
    pub fn attempts_limit(mut self, limit: Duration) -> Self {
        self.attempts_limit = limit.min(REMEMBER_MAX);
        self
    }

    /// Says how often to look whether updates can be installed ([`Installer::check`]) while they can't; a tenth as often
    /// while they can. Default [`INSTALL_CHECK_EVERY`]; at least a tenth of a second.
    #[must_use]
    pub fn install_checks(mut self, every: Duration) -> Self {
        self.install_checks = every.max(Duration::from_millis(100));
        self
    }

    /// Says whether to connect at once. Default true; otherwise the device stays offline until
    /// [`Control::connect`](crate::Control::connect).
    #[must_use]
    pub const fn connect(mut self, connect: bool) -> Self {
        self.connect = connect;
        self
    }

    /// Runs this as the shell of operators, if
    /// [`Config::console`](nerves_hub_link_protocol::Config::console) lets them. Whoever may use the console at the
    /// server then works with this process's rights. Without it, the application's callbacks are asked.
    #[must_use]
    pub fn shell(mut self, shell: ShellCommand) -> Self {
        self.shell = Some(shell);
        self
    }

    /// Keeps the files that operators send in this folder, if
    /// [`Config::console`](nerves_hub_link_protocol::Config::console) lets them. It is made if need be. Without it, the
    /// application's callbacks are asked.
    #[must_use]
    pub fn data_path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_path = Some(folder.into());
        self
    }

    /// Says where the numbers of health reports and metrics come from, for an application whose callbacks don't tell
    /// them. Default: this system's, with the disk of `/`. With `None` such questions stay unanswered.
    #[must_use]
    pub fn health(mut self, sampler: Option<HealthSampler>) -> Self {
        self.health = sampler;
        self
    }

    /// Fixes the seed of the delays' jitter, for tests. The default is random.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("socket_tls", &self.socket_tls).finish_non_exhaustive()
    }
}
