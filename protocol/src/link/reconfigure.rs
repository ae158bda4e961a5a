//! Settings that change while the machine runs.

use alloc::boxed::Box;
use core::mem::swap;

use super::Link;
use crate::config::Config;
use crate::error::ConfigError;
use crate::hub::keys::Keys;

impl Link {
    /// Takes other settings, but for what was decided at the start or learned since.
    pub(super) fn reconfigure(&mut self, mut new: Box<Config>) -> Result<(), ConfigError> {
        let home = new.validate()?;
        let old = &mut *self.core.config;
        // What runs doesn't change while it runs, and whether it proved good is what the machine was told.
        swap(&mut new.firmware, &mut old.firmware);
        swap(&mut new.firmware_validated, &mut old.firmware_validated);
        swap(&mut new.firmware_auto_revert_detected, &mut old.firmware_auto_revert_detected);
        swap(&mut new.newest_version, &mut old.newest_version);
        swap(&mut new.past_attempts, &mut old.past_attempts);
        swap(&mut new.history, &mut old.history);
        swap(&mut new.known_archives, &mut old.known_archives);
        // The channels and what they were told to speak about were set up from these.
        swap(&mut new.serializer, &mut old.serializer);
        swap(&mut new.heartbeat, &mut old.heartbeat);
        swap(&mut new.join_timeout, &mut old.join_timeout);
        swap(&mut new.rejoin, &mut old.rejoin);
        swap(&mut new.extensions, &mut old.extensions);
        swap(&mut new.console, &mut old.console);
        // Keys of the server's stay, unless the application has others now.
        let others = new.public_keys != old.public_keys;
        if others {
            self.keys = Keys::new(new.public_keys.clone());
        }
        if others || new.archive_public_keys != old.archive_public_keys {
            self.archive_keys = Keys::for_archives(&new);
        }
        self.connection.set_home(home);
        self.core.config = new;
        self.keep_newest();
        Ok(())
    }
}
