//! Secrets of the environment: taken out of it before anything else happens, and kept from other processes.
//!
//! What a process was started with stays readable in `/proc/PID/environ`, whatever it does with its variables. So this program
//! starts itself again without the secrets, and hands them over in memory, as its standard input.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nerves_hub_link_platform::small_file::read_limited;
use nerves_hub_link_protocol::Secret;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::{Zeroize as _, Zeroizing};

use crate::cli::RunArgs;
use crate::limits::{SECRET_FILE_MAX, SECRETS_MAX};

/// The setting of the product's secret.
pub const PRODUCT_SECRET: &str = "NERVES_HUB_PRODUCT_SECRET";
/// The setting of the proxy, which may hold a password.
pub const PROXY: &str = "NERVES_HUB_PROXY";
/// Proxies of the environment. Only those with a password are secrets.
const PROXIES: [&str; 6] =
    ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
/// The file of the secret among systemd's credentials (systemd.exec(5), `LoadCredential=`).
const CREDENTIAL: &str = "nerves-hub-product-secret";
/// Says that standard input holds the secrets.
const HANDED_OVER: &str = "NERVES_HUB_LINK_SECRETS_ON_STDIN";

/// What was taken out of the environment.
#[derive(Clone, Default)]
pub struct Secrets {
    values: BTreeMap<OsString, Zeroizing<Vec<u8>>>,
    /// What could not be done, for the log.
    remarks: Vec<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// Takes the secrets out of the environment. Starts this program again in the same process if there are any; returns once
    /// they are no longer there, or can't be taken out.
    pub fn take() -> Self {
        let mut secrets =
            if std::env::var_os(HANDED_OVER).is_some() { Self::receive() } else { Self::hand_over() };
        // From here on no other program of this user reads our memory, and no core dump holds it.
        if let Err(error) = hide() {
            secrets.remarks.push(format!("other programs of this user can read this one's memory: {error}"));
        }
        secrets
    }

    /// Returns what there is to say about it.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Returns a variable: one that was taken out, or one of the environment.
    pub fn variable(&self, name: &str) -> Option<OsString> {
        let taken = self.values.get(OsStr::new(name)).map(|value| OsString::from_vec(value.to_vec()));
        taken.or_else(|| std::env::var_os(name))
    }

    /// Fills in what the command line left to the environment and to files.
    ///
    /// # Errors
    ///
    /// If a file that was named can't be used.
    pub fn complete(&self, args: &mut RunArgs) -> Result<(), String> {
        let given = args.product_secret.take().map(Zeroizing::new);
        if args.cert.is_none() {
            let secret = self.product_secret(
                given.as_ref().map(|text| text.as_str()),
                args.product_secret_file.as_deref(),
            )?;
            args.secret = secret.map(Secret::new);
        }
        let proxy = || self.variable(PROXY).and_then(|value| value.into_string().ok());
        args.proxy = args.proxy.take().or_else(proxy);
        Ok(())
    }

    fn receive() -> Self {
        let mut secrets = Self::default();
        let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(SECRETS_MAX).unwrap_or_default()));
        let read = io::stdin().lock().take(SECRETS_MAX).read_to_end(&mut text);
        // What was read is left nowhere else. Children that get this standard input find it empty.
        let emptied = ftruncate(io::stdin(), 0);
        if let Err(error) = read {
            secrets.remarks.push(format!("the secrets of the environment are lost: {error}"));
        }
        if let Err(error) = emptied {
            secrets.remarks.push(format!("the secrets of the environment can't be deleted: {error}"));
        }
        let mut fields = text.split(|byte| *byte == 0);
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            secrets.values.insert(OsString::from_vec(name.to_vec()), Zeroizing::new(value.to_vec()));
        }
        secrets
    }

    fn hand_over() -> Self {
        let mut secrets = Self::default();
        for (name, value) in std::env::vars_os() {
            if is_secret(&name, &value) {
                secrets.values.insert(name, Zeroizing::new(value.into_vec()));
            }
        }
        if secrets.values.is_empty() {
            return secrets;
        }
        let error = match secrets.written() {
            // Returns only if it fails.
            Ok(file) => secrets.again(file),
            Err(error) => error,
        };
        secrets.remarks.push(format!(
            "the secrets of the environment stay in it, where other programs of this user can read them: {error}; use \
             --product-secret-file"
        ));
        secrets
    }

    fn again(&self, file: File) -> io::Error {
        let mut arguments = std::env::args_os();
        let mut command = Command::new(program());
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).stdin(Stdio::from(file)).env(HANDED_OVER, "1");
        for name in self.values.keys() {
            command.env_remove(name);
        }
        command.exec()
    }

    fn written(&self) -> io::Result<File> {
        let mut text = Zeroizing::new(Vec::new());
        for (name, value) in &self.values {
            for part in [name.as_bytes(), value] {
                text.extend_from_slice(part);
                text.push(0);
            }
        }
        if text.len() as u64 > SECRETS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("more than {SECRETS_MAX} bytes"),
            ));
        }
        let mut file = File::from(memfd_create("secrets", MemfdFlags::CLOEXEC)?);
        file.write_all(&text)?;
        file.rewind()?;
        Ok(file)
    }

    /// Returns the product's secret: from the option, from a file, from the environment or from systemd's credentials.
    ///
    /// # Errors
    ///
    /// If a file that was named can't be used.
    pub fn product_secret(&self, given: Option<&str>, file: Option<&Path>) -> Result<Option<String>, String> {
        if let Some(text) = given {
            return Ok(Some(text.to_owned()));
        }
        if let Some(file) = file {
            return read(file)
                .map(Some)
                .map_err(|why| format!("--product-secret-file {}: {why}", file.display()));
        }
        if let Some(value) = self.values.get(OsStr::new(PRODUCT_SECRET)) {
            let text =
                std::str::from_utf8(value).map_err(|_| format!("{PRODUCT_SECRET} is not UTF-8 text"))?;
            return Ok(Some(text.to_owned()));
        }
        let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
        let file = PathBuf::from(folder).join(CREDENTIAL);
        if !file.exists() {
            return Ok(None);
        }
        read(&file).map(Some).map_err(|why| format!("the credential {}: {why}", file.display()))
    }
}

/// Returns this program's own file: by its name, which `ps` shows then, unless another file has that name by now.
fn program() -> PathBuf {
    let own = PathBuf::from("/proc/self/exe");
    let id = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    std::env::current_exe().ok().filter(|path| id(path).is_some() && id(path) == id(&own)).unwrap_or(own)
}

/// Returns whether a variable is no child's business.
fn is_secret(name: &OsStr, value: &OsStr) -> bool {
    name == PRODUCT_SECRET
        || name == PROXY
        || (PROXIES.iter().any(|proxy| name == *proxy) && value.as_bytes().contains(&b'@'))
}

/// Returns whether a variable is never passed to a child.
pub fn is_withheld(name: &str) -> bool {
    [PRODUCT_SECRET, PROXY, HANDED_OVER, "CREDENTIALS_DIRECTORY"].contains(&name)
}

fn hide() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Reads a secret of one line.
fn read(file: &Path) -> Result<String, String> {
    let bytes = read_limited(file, SECRET_FILE_MAX).map_err(|error| format!("it can't be read: {error}"))?;
    let mut bytes = bytes.ok_or_else(|| format!("it is longer than {SECRET_FILE_MAX} bytes"))?;
    let text = std::str::from_utf8(&bytes).map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    bytes.zeroize();
    let text = text.map_err(|_| "it is not UTF-8 text".to_owned())?;
    if text.is_empty() || text.contains(['\r', '\n', '\0']) {
        return Err("it must hold one line, the secret".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_holds_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let secrets = Secrets::default();
        let get = || secrets.product_secret(None, Some(&file));
        assert!(get().unwrap_err().contains("--product-secret-file"));
        for (content, good) in [("s3cret\n", true), ("s3cret\r\n", true), ("", false), ("a\nb\n", false)] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(get().ok(), good.then(|| Some("s3cret".to_owned())), "{content:?}");
        }
        let limit = usize::try_from(SECRET_FILE_MAX).unwrap();
        std::fs::write(&file, "x".repeat(limit)).unwrap();
        assert_eq!(get().unwrap().unwrap().len(), limit);
        std::fs::write(&file, "x".repeat(limit + 1)).unwrap();
        assert!(get().unwrap_err().contains("longer"));
        assert_eq!(secrets.product_secret(Some("given"), Some(&file)).unwrap().unwrap(), "given");
    }

    #[test]
    fn proxies_are_secrets_only_with_a_password() {
        let secret = |name: &str, value: &str| is_secret(name.as_ref(), value.as_ref());
        assert!(secret(PRODUCT_SECRET, "") && secret(PROXY, "proxy:3128"));
        assert!(secret("https_proxy", "user:password@proxy:3128"));
        assert!(!secret("https_proxy", "proxy:3128") && !secret("no_proxy", "a@b") && !secret("PATH", "/@"));
    }
}
