//! Why a disk failed: the applier says where, the system why.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::install::InstallError;

/// The first error of the system while an update was written. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Cause(Arc<Mutex<Option<String>>>);

impl Cause {
    /// Remembers an error.
    pub(super) fn note<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|error| {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.to_string());
        })
    }

    /// Adds the system's error to a failure of the disk.
    pub(super) fn explain(&self, error: InstallError) -> InstallError {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, &*first) {
            (InstallError::Failed(text), Some(why)) if !text.contains(why) => {
                InstallError::Failed(format!("{} ({why})", text.trim_end_matches('.')))
            }
            (error, _) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_of_the_system_explains_a_failure_of_the_disk_and_no_other() {
        let full = || io::Error::from_raw_os_error(28);
        let said = |cause: &Cause, error| cause.explain(error).to_string();
        let failed = || InstallError::Failed("write failed at offset 512. Check media size.".into());
        let cause = Cause::default();
        cause.note(Ok(())).unwrap();
        assert_eq!(said(&cause, failed()), failed().to_string());
        cause.note::<()>(Err(full())).unwrap_err();
        cause.note::<()>(Err(io::Error::other("later"))).unwrap_err();
        let text = said(&cause, failed());
        assert!(
            text.ends_with(
                "write failed at offset 512. Check media size (No space left on device (os error 28))"
            ),
            "{text}"
        );
        let file = InstallError::File("bad archive".into());
        assert_eq!(said(&cause, InstallError::File("bad archive".into())), file.to_string());
        let known = InstallError::Failed(format!("sync: {}", full()));
        assert_eq!(said(&cause, InstallError::Failed(format!("sync: {}", full()))), known.to_string());
    }
}
