//! The demonstration's device: this very program as a process of its own, running `run`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use super::News;
use crate::record::Record;

/// Longest line taken from the device; a record is a few hundred bytes.
const LINE_MAX: u64 = 64 * 1024;

/// The running device. Dropping it ends the process.
pub struct Device {
    child: Child,
}

impl Device {
    /// Starts the device with these arguments of `run`; what it says goes to `news`, marked with `life`.
    pub fn start(
        life: u32,
        arguments: &[OsString],
        secret: &str,
        news: Sender<News>,
    ) -> std::io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("run")
            .args(arguments)
            .args(["--log", "json"])
            .env("NERVES_HUB_PRODUCT_SECRET", secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        thread::Builder::new().name("device output".into()).spawn(move || {
            let complaints = thread::spawn(move || {
                let mut text = String::new();
                // What can't be read as text is no complaint a person could use.
                let _ = err.map(|err| err.take(LINE_MAX).read_to_string(&mut text));
                text
            });
            debug_assert!(out.is_some(), "the output of the device was not piped");
            if let Some(out) = out {
                relay(life, BufReader::new(out), &news);
            }
            let complaints =
                complaints.join().unwrap_or_else(|_| String::from("(a bug: its complaints were not read)"));
            // The story may have ended before its device.
            let _ = news.send(News::DeviceEnded { life, complaints: complaints.trim().to_owned() });
        })?;
        Ok(Self { child })
    }

    /// Waits for the process to end and returns how.
    pub fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Both fail only when the process has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn relay(life: u32, mut out: impl BufRead, news: &Sender<News>) {
    loop {
        let mut line = String::new();
        match (&mut out).take(LINE_MAX).read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let record = serde_json::from_str::<Record>(&line).unwrap_or_else(|_| Record {
            t: 0.0,
            kind: "said".into(),
            text: line.trim().to_owned(),
            percent: None,
            number: None,
            more: None,
        });
        if news.send(News::Device { life, record }).is_err() {
            return;
        }
    }
}
