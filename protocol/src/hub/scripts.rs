//! Support scripts (device-protocol §3.6): texts an operator wants run. What runs them, if anything, is the application's.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::{Value, json};

use super::{Context, names};
use crate::command::CommandError;
use crate::event::Event;
use crate::ids::ScriptId;
use crate::limits::{
    MAX_NAME_CHARS, MAX_REASON_CHARS, MAX_SCRIPT_BYTES, MAX_SCRIPT_OUTPUT_BYTES, MAX_SCRIPT_TIMEOUT,
    MAX_SCRIPTS, SCRIPT_TIMEOUT,
};
use crate::phoenix::{Class, Payload};
use crate::text::{cut, head};
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

/// What a script is answered with unless the configuration allows them.
const NOT_ENABLED: &str = "scripts are not enabled on this device";
/// What a script is answered with where the server did not prove who it is.
const NOT_ENCRYPTED: &str = "scripts are not run for a server that is reached without TLS";

/// The scripts that run.
#[derive(Default)]
pub(crate) struct Scripts {
    running: Vec<Running>,
}

struct Running {
    id: ScriptId,
    /// The server's name for the run.
    reference: String,
    until: Instant,
}

impl Scripts {
    /// The server sent a script. Returns what is wrong with the message, if it can't even be answered.
    pub(crate) fn requested(&mut self, cx: &mut Context<'_>, payload: Payload<'_>) -> Result<(), String> {
        let mut payload = payload.value()?;
        let reference = match payload.get("ref").and_then(Value::as_str) {
            Some(reference) if !reference.is_empty() && reference.chars().count() <= MAX_NAME_CHARS => {
                String::from(reference)
            }
            _ => return Err(String::from("a script without a usable ref, which can't be answered")),
        };
        if let Some(refusal) = self.refusal(cx, &payload) {
            fail(cx, &reference, "", &refusal);
            cx.out.event(Event::ScriptRefused { reason: refusal });
            return Ok(());
        }
        let timeout = payload.get("timeout").and_then(Value::as_u64).filter(|millis| *millis > 0);
        let timeout = timeout.map_or(SCRIPT_TIMEOUT, Duration::from_millis).min(MAX_SCRIPT_TIMEOUT);
        let text = match payload.get_mut("text").map(Value::take) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let id = cx.ids.script();
        self.running.push(Running { id, reference, until: cx.now + timeout });
        cx.out.event(Event::ScriptRequested { id, text, timeout });
        Ok(())
    }

    /// A script ended, well or not.
    pub(crate) fn finished(
        &mut self,
        cx: &mut Context<'_>,
        id: ScriptId,
        output: &str,
        result: &Result<String, String>,
    ) -> Result<(), CommandError> {
        let at = self.running.iter().position(|running| running.id == id);
        let running = at.map(|at| self.running.swap_remove(at)).ok_or(CommandError::UnknownScript(id))?;
        match result {
            Ok(value) => {
                let (output, value) = (bounded(output), bounded(value));
                let reference = running.reference;
                answer(
                    cx,
                    json!({"ref": reference, "result": "completed", "output": output, "return": value}),
                );
            }
            Err(reason) => fail(cx, &running.reference, output, reason),
        }
        Ok(())
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        for late in self.running.extract_if(.., |running| running.until <= now) {
            let output = "Error running script: timeout exceeded";
            answer(cx, error(&late.reference, "timeout", output));
            cx.out.event(Event::ScriptTimedOut { id: late.id });
        }
    }

    /// Adds the timers to a deadline.
    pub(crate) fn deadlines(&self, deadline: &mut Earliest) {
        if let Some(until) = self.running.iter().map(|running| running.until).min() {
            deadline.at(Timer::Script, until);
        }
    }

    /// Returns why a script is not run, if so.
    fn refusal(&self, cx: &Context<'_>, payload: &Value) -> Option<String> {
        if !cx.config.scripts {
            return Some(String::from(NOT_ENABLED));
        }
        if !cx.wire.is_trusted() {
            return Some(String::from(NOT_ENCRYPTED));
        }
        match payload.get("text").and_then(Value::as_str) {
            None => Some(String::from("the message holds no script")),
            Some(text) if text.len() > MAX_SCRIPT_BYTES => {
                Some(format!("the script has {} bytes, more than the {MAX_SCRIPT_BYTES} allowed", text.len()))
            }
            Some(_) if self.running.len() >= MAX_SCRIPTS => {
                Some(format!("{MAX_SCRIPTS} scripts run already; try again later"))
            }
            Some(_) => None,
        }
    }
}

/// Answers that a script failed, after what it had written.
fn fail(cx: &mut Context<'_>, reference: &str, output: &str, reason: &str) {
    let reason = cut(reason, MAX_REASON_CHARS);
    let mut said = bounded(output);
    if !said.is_empty() {
        said.push('\n');
    }
    // Servers show only the output.
    said.push_str("Error running script: ");
    said.push_str(&reason);
    answer(cx, error(reference, &reason, &said));
}

fn error(reference: &str, reason: &str, output: &str) -> Value {
    json!({"ref": reference, "result": "error", "reason": reason, "output": output, "return": ""})
}

fn answer(cx: &mut Context<'_>, result: Value) {
    // It may be long, and nothing that matters more waits behind many of them.
    cx.wire.push(names::SCRIPTS_RUN, result, Class::Bulk);
}

/// Returns the text, or its beginning with a word about the rest.
fn bounded(text: &str) -> String {
    if text.len() <= MAX_SCRIPT_OUTPUT_BYTES {
        return String::from(text);
    }
    let kept = head(text, MAX_SCRIPT_OUTPUT_BYTES);
    format!("{kept}\n[{} more bytes]", text.len() - kept.len())
}
