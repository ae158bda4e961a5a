//! Where the device is (device-protocol §5.3).

use alloc::string::String;

use serde_json::{Value, json};

use super::super::{Context, names};
use super::measure::number;
use super::port::Port;
use super::question::Question;
use crate::command::CommandError;
use crate::extension::{ExtensionEvent, Location, LocationError};
use crate::limits::{MAX_NAME_CHARS, MAX_TEXT_CHARS};
use crate::phoenix::{Class, Payload};
use crate::text::cut;
use crate::timer::Earliest;

/// Versions, the newest first.
pub(super) const VERSIONS: &[&str] = &["0.0.1"];

/// Asks the application and sends what it says.
#[derive(Default)]
pub(super) struct Geo {
    asked: Question,
}

impl Geo {
    pub(super) const fn stopped(&mut self) {
        self.asked.close();
    }

    pub(super) fn received(
        &mut self,
        cx: &mut Context<'_>,
        event: &str,
        payload: Payload<'_>,
    ) -> Result<bool, String> {
        let known = event == names::LOCATION_REQUEST;
        if known {
            payload.ignore()?;
            self.asked.ask(cx, ExtensionEvent::LocationRequested);
        }
        Ok(known)
    }

    pub(super) fn settle(&mut self, cx: &mut Context<'_>) {
        self.asked.settle(cx, names::GEO);
    }

    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        self.asked.deadlines(deadline);
    }

    /// Sends where the device is, or why it can't tell.
    pub(super) fn located(
        &mut self,
        cx: &mut Context<'_>,
        port: Port,
        result: &Result<Location, LocationError>,
    ) -> Result<(), CommandError> {
        let payload = match result {
            Ok(location) => place(location)?,
            Err(error) => json!({
                "error_code": cut(&error.code, MAX_NAME_CHARS),
                "error_description": cut(&error.description, MAX_TEXT_CHARS),
            }),
        };
        port.require()?;
        self.asked.close();
        port.send(cx, names::LOCATION_UPDATE, payload, Class::Latest(names::LOCATION_UPDATE));
        Ok(())
    }
}

fn place(location: &Location) -> Result<Value, CommandError> {
    let Location { source, latitude, longitude, accuracy } = location;
    // Not a number is in no range.
    if !(-90.0..=90.0).contains(latitude) || !(-180.0..=180.0).contains(longitude) {
        return Err(CommandError::Unusable("latitudes are -90 to 90 degrees, longitudes -180 to 180"));
    }
    let mut place = json!({
        "source": cut(source, MAX_NAME_CHARS), "latitude": number(*latitude), "longitude": number(*longitude),
    });
    if let (Some(accuracy), Some(fields)) = (accuracy, place.as_object_mut()) {
        fields.insert(String::from("accuracy"), Value::from(*accuracy));
    }
    Ok(place)
}
