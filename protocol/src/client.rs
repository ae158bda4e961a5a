//! The callbacks of an application, and the one place that maps events to them.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::alarm::Alarm;
use crate::command::{Command, Decision};
use crate::event::{Event, FirmwareMeta, Stage, UpdateInfo};
use crate::update_mode::UpdateMode;

/// An application's wishes. Every method has a default; both adapters call them the same way.
pub trait Client {
    /// The device channel is joined.
    fn connected(&mut self) {}

    /// The connection is gone; `reason` is for a person.
    fn disconnected(&mut self, reason: &str) {
        let _ = reason;
    }

    /// Says how long to wait between attempts to connect from now on, asked at every disconnection: the first delay
    /// after one failure, and so on; the last repeats. `None` (the default) leaves it as it is; an empty list goes
    /// back to the configuration's.
    fn reconnect_backoff(&mut self) -> Option<Vec<Duration>> {
        None
    }

    /// Decides about an update, or returns `None` to decide later with
    /// [`Command::Decide`]; [`Config::decision_timeout`](crate::Config::decision_timeout) says how much later.
    ///
    /// The default ignores the firmware that already runs, unless the device asked for it, and applies all else.
    fn update_available(&mut self, running: &FirmwareMeta, update: &UpdateInfo) -> Option<Decision> {
        let same = update.firmware.uuid == running.uuid && !running.uuid.is_empty();
        if same && !update.requested {
            Some(Decision::Ignore { reason: String::from("already running this firmware") })
        } else {
            Some(Decision::Apply)
        }
    }

    /// The server told who decides when this device is updated. Returns the mode the device wants instead, which is
    /// then asked for, or `None` (the default) to leave it. Called after every join, so that a wish is kept even if
    /// an older firmware ran in between.
    fn update_mode(&mut self, mode: Option<UpdateMode>, managed_updates_allowed: bool) -> Option<UpdateMode> {
        let _ = (mode, managed_updates_allowed);
        None
    }

    /// An update got further.
    fn update_progress(&mut self, stage: Stage, percent: u8) {
        let _ = (stage, percent);
    }

    /// An update failed; the running firmware is untouched.
    fn update_failed(&mut self, reason: &str) {
        let _ = reason;
    }

    /// A condition of the device began (`true`) or ended.
    fn alarm(&mut self, alarm: Alarm, raised: bool, description: &str) {
        let _ = (alarm, raised, description);
    }

    /// Shows a person which device this is (a blinking light, say).
    fn identify(&mut self) {}

    /// Restarts the device. Returning is fine; the adapter goes on until the machine stops.
    fn reboot(&mut self, reason: &str) {
        let _ = reason;
    }

    /// Every event, before the callbacks above. For logs and screens.
    fn event(&mut self, event: &Event) {
        let _ = event;
    }
}

/// Calls what fits `event` on `client` and returns the command that answers it, if any.
pub fn deliver(client: &mut dyn Client, running: &FirmwareMeta, event: &Event) -> Option<Command> {
    client.event(event);
    match event {
        Event::Joined => client.connected(),
        Event::Disconnected { reason, retry_at } => {
            client.disconnected(reason);
            retry_at.as_ref()?;
            return Some(Command::ReconnectAfter { delays: client.reconnect_backoff()? });
        }
        Event::UpdateOffered { offer, info } => {
            let decision = client.update_available(running, info)?;
            return Some(Command::Decide { offer: *offer, decision });
        }
        Event::UpdateModeChanged { mode, managed_updates_allowed } => {
            let wanted = client.update_mode(*mode, *managed_updates_allowed)?;
            // What is so already is not asked for, and what operators decide is left to them.
            let asked = *mode != Some(wanted) && *mode != Some(UpdateMode::Off) && wanted != UpdateMode::Off;
            return asked.then_some(Command::SetUpdateMode { mode: wanted });
        }
        Event::UpdateProgress { stage, percent, .. } => client.update_progress(*stage, *percent),
        Event::UpdateFailed { reason, .. } => client.update_failed(reason),
        Event::AlarmRaised { alarm, description } => client.alarm(*alarm, true, description),
        Event::AlarmCleared { alarm } => client.alarm(*alarm, false, ""),
        Event::Identify => client.identify(),
        _ => {}
    }
    None
}
