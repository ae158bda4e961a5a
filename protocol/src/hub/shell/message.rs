//! What the server says about shells and files, on whichever channel.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use serde::de::MapAccess;

use super::super::lenient::{Object, Record, Scalar, Value};
use crate::phoenix::Payload;
use crate::shell::WindowSize;

/// The fields of all these messages; each has a few of them.
#[derive(Default)]
pub(crate) struct Message<'a> {
    data: Scalar<'a>,
    filename: Scalar<'a>,
    height: Scalar<'a>,
    width: Scalar<'a>,
    rows: Scalar<'a>,
    cols: Scalar<'a>,
    signal: Scalar<'a>,
}

impl<'a> Record<'a> for Message<'a> {
    fn field<A: MapAccess<'a>>(&mut self, name: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        let field = match name {
            "data" => &mut self.data,
            "filename" => &mut self.filename,
            "height" => &mut self.height,
            "width" => &mut self.width,
            "rows" => &mut self.rows,
            "cols" => &mut self.cols,
            "signal" => &mut self.signal,
            _ => return value.ignore(),
        };
        *field = value.scalar()?;
        Ok(())
    }
}

impl<'a> Message<'a> {
    pub(crate) fn read(payload: Payload<'a>) -> Result<Self, String> {
        let Object(fields) = payload.read::<Object<Self>>()?;
        // A payload that is no object has no fields.
        Ok(*fields.unwrap_or_default())
    }

    /// Returns what was typed, or a piece of a file.
    pub(crate) fn data(self, event: &str) -> Result<Cow<'a, str>, String> {
        self.data.text().ok_or_else(|| format!("{event} without a text in data"))
    }

    /// Returns the name of a file, and a piece of it.
    pub(crate) fn file(self, event: &str) -> Result<(Cow<'a, str>, Option<Cow<'a, str>>), String> {
        let name = self.filename.text().ok_or_else(|| format!("{event} without a text in filename"))?;
        Ok((name, self.data.text()))
    }

    /// Returns the size of a window, as the console writes it.
    pub(crate) fn console_size(&self) -> Result<WindowSize, String> {
        window_size(&self.height, &self.width)
    }

    /// Returns the size of a window, as the local shell writes it.
    pub(crate) fn local_size(&self) -> Result<WindowSize, String> {
        window_size(&self.rows, &self.cols)
    }

    /// Returns the signal to kill a shell with. Without one it is 15.
    pub(crate) fn signal(&self) -> Result<u8, String> {
        if matches!(self.signal, Scalar::Other) {
            return Ok(15);
        }
        let signal = self.signal.unsigned().and_then(|number| u8::try_from(number).ok());
        let signal = signal.filter(|number| (1..=64).contains(number));
        signal.ok_or_else(|| String::from("a signal that is not a number from 1 to 64"))
    }
}

fn window_size(rows: &Scalar<'_>, cols: &Scalar<'_>) -> Result<WindowSize, String> {
    let number = |field: &Scalar<'_>| {
        let number = field.unsigned().and_then(|number| u16::try_from(number).ok());
        number.filter(|number| *number > 0)
    };
    match (number(rows), number(cols)) {
        (Some(rows), Some(cols)) => Ok(WindowSize { rows, cols }),
        _ => Err(String::from("a window whose lines or columns are not a number from 1 to 65535")),
    }
}
