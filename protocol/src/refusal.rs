//! What a refused connection means, as a kind a program can act on.

/// Why a server, or something before it, answered the upgrade with another status than 101 (device-protocol §1.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The server saw no credentials at all: none are configured, or a proxy removes headers.
    NoCredentials,
    /// The server doesn't accept the credentials. It never says which part is wrong.
    Credentials,
    /// The device's clock was wrong, so the signature was not valid. The next attempt uses the server's time.
    Clock,
    /// The server takes no more connections now (429).
    Busy,
    /// The server or a proxy before it is in trouble (408, 5xx); nothing is wrong with the device.
    ServerTrouble,
    /// There is no device socket at that address: a wrong host or path, or a redirect to something else.
    WrongPath,
    /// The server doesn't know the protocol version; the machine speaks JSON from now on.
    Version,
    /// A proxy wants credentials (407).
    Proxy,
    /// The network has a login page in front of the server (511, or a web page in place of an answer).
    LoginPage,
    /// A redirect that isn't followed: too many in a row, no usable address, or it would give up encryption.
    Redirect,
    /// Anything else: most likely not a NervesHub server.
    Other,
}

impl Refusal {
    /// Returns whether another attempt may succeed though nobody changes the configuration. The machine tries in
    /// either case, as servers are mended too.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Clock | Self::Busy | Self::ServerTrouble | Self::Version | Self::LoginPage)
    }
}
