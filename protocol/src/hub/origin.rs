//! Whom the device shows who it is: the configured server, and those the configuration lists beside it.

use alloc::string::String;

use crate::config::Config;
use crate::error::ConfigError;
use crate::http::url::Url;
use crate::limits::MAX_TRUSTED_ORIGINS;

/// Returns whether credentials may be sent to an address.
pub(crate) fn is_trusted(home: &Url, config: &Config, url: &Url) -> bool {
    home.same_origin(url) || is_listed(config, url)
}

/// Returns whether the configuration lists the origin of an address.
pub(crate) fn is_listed(config: &Config, url: &Url) -> bool {
    config.trusted_origins.iter().any(|listed| Url::parse(listed).is_ok_and(|listed| listed.same_origin(url)))
}

/// Checks the listed origins. Where the server is reached by TLS, they must be, too.
pub(crate) fn check(home: &Url, listed: &[String]) -> Result<(), ConfigError> {
    if listed.len() > MAX_TRUSTED_ORIGINS {
        return Err(ConfigError::TooManyOrigins(MAX_TRUSTED_ORIGINS));
    }
    for (index, text) in listed.iter().enumerate() {
        let number = index + 1;
        let url = Url::parse(text).map_err(|why| ConfigError::TrustedOrigin { number, why })?;
        if home.is_tls() && !url.is_tls() {
            return Err(ConfigError::PlainOrigin(number));
        }
    }
    Ok(())
}
