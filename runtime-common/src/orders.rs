//! What an application may ask of its updates and settings.

use nerves_hub_link_protocol::{Command, Config, OfferId, RaisedAlarm, UpdateMode, UpdateReport};

use crate::control::{Control, HandleError};

impl Control {
    /// Returns the firmware that is offered, downloaded or written, if one is.
    pub fn currently_downloading_uuid(&self) -> Option<String> {
        self.status().link.currently_downloading_uuid
    }

    /// Returns the alarms that are raised, oldest first.
    pub fn alarms(&self) -> Vec<RaisedAlarm> {
        self.status().link.alarms
    }

    /// Returns who decides about updates, as the server told last.
    pub fn update_mode(&self) -> Option<UpdateMode> {
        self.status().link.update_mode
    }

    /// Asks the server whether an update waits; the answer is an event.
    pub fn check_update(&self) -> Result<(), HandleError> {
        self.command(Command::CheckUpdate)
    }

    /// Asks the server for the update; an offer or a refusal follows as an event.
    pub fn request_update(&self) -> Result<(), HandleError> {
        self.command(Command::RequestUpdate)
    }

    /// Asks the server to change who decides about updates.
    pub fn set_update_mode(&self, mode: UpdateMode) -> Result<(), HandleError> {
        self.command(Command::SetUpdateMode { mode })
    }

    /// Tells how far an update is that the application took over
    /// ([`Decision::TakeOver`](nerves_hub_link_protocol::Decision::TakeOver)).
    pub fn send_update_status(&self, offer: OfferId, report: UpdateReport) -> Result<(), HandleError> {
        self.command(Command::ReportUpdate { offer, report })
    }

    /// Uses other settings from now on: another server, other credentials, another strategy or policy. See
    /// [`Command::Reconfigure`] for what counts when. Settings that make no sense are told to the notice hook and
    /// change nothing; so check them with [`Config::check`] first.
    pub fn reconfigure(&self, config: Config) -> Result<(), HandleError> {
        self.command(Command::Reconfigure(Box::new(config)))
    }

    /// Tells the server over which interface the connection runs.
    pub fn network_interface(&self, name: impl Into<String>) -> Result<(), HandleError> {
        self.command(Command::NetworkInterface { name: name.into() })
    }

    /// Tells the server how the device is connected: `ethernet`, `wifi`, `cellular`.
    pub fn connection_types(&self, types: Vec<String>) -> Result<(), HandleError> {
        self.command(Command::ConnectionTypes { types })
    }
}
