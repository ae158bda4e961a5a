//! The environment of child processes: a few variables by name, and none of the secrets that this process was started with.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// What children get if this process has it: where programs and the user's files are, and how text is shown.
pub const NAMES: [&str; 8] = ["PATH", "HOME", "LANG", "LANGUAGE", "TERM", "TZ", "USER", "SHELL"];

/// What children get beside [`NAMES`]: all variables whose name begins so, and the user's name as login(1) sets it.
const PREFIX: &str = "LC_";
const LOGNAME: &str = "LOGNAME";

/// The programs' places where this process has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the environment of a child: [`NAMES`], `LOGNAME`, `LC_*` and `more` names, as far as this process has them. `PATH` is
/// always there.
///
/// ```
/// use nerves_hub_link_platform::child_env::environment;
/// let environment = environment(&["CARGO".into()]);
/// assert!(environment.contains_key("PATH".as_ref() as &std::ffi::OsStr));
/// ```
pub fn environment(more: &[OsString]) -> BTreeMap<OsString, OsString> {
    select(std::env::vars_os(), more)
}

fn select(
    variables: impl Iterator<Item = (OsString, OsString)>,
    more: &[OsString],
) -> BTreeMap<OsString, OsString> {
    let named = |name: &OsStr| {
        NAMES.iter().any(|known| name == *known)
            || name == LOGNAME
            || name.to_str().is_some_and(|name| name.starts_with(PREFIX))
            || more.iter().any(|more| more == name)
    };
    let mut chosen: BTreeMap<OsString, OsString> = variables.filter(|(name, _)| named(name)).collect();
    chosen.entry("PATH".into()).or_insert_with(|| PATH.into());
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_passed_on() {
        let variables = [("SECRET", "x"), ("LC_ALL", "C"), ("LANG", "de"), ("MORE", "m"), ("LCX", "x")];
        let variables = || variables.iter().map(|(name, value)| (name.into(), value.into()));
        let names = |more: &[OsString]| {
            let chosen = select(variables(), more);
            chosen.into_keys().map(|name| name.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&[]), "LANG LC_ALL PATH");
        assert_eq!(names(&["MORE".into(), "ABSENT".into()]), "LANG LC_ALL MORE PATH");
    }
}
