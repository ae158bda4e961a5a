//! `require-fwup-version` (fw-format §4.1).

/// The version of the reference whose behaviour this is; archives ask for it, whatever our own version.
pub const FWUP_VERSION: &str = "1.16.0";

/// Tells what is wrong when an archive asks for version `required`.
pub(super) fn check(required: &str) -> Result<(), String> {
    let Some(version) = parse(required) else {
        return Err(format!("Invalid version '{required}' passed to require-fwup-version"));
    };
    if Some(version) > parse(FWUP_VERSION) {
        return Err(format!("fwup version '{required}' required. This is fwup version '{FWUP_VERSION}'."));
    }
    Ok(())
}

/// Reads `MAJOR[.MINOR[.PATCH[.x]]][-pre][+build]`; missing and empty parts are 0.
fn parse(text: &str) -> Option<[u64; 3]> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    if !text.chars().all(allowed) {
        return None;
    }
    // A text has a first part, even an empty one.
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let mut version = [0; 3];
    for (part, number) in version.iter_mut().zip(numbers.split('.')) {
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // A number too long for us is newer than us.
        *part = if number.is_empty() { 0 } else { number.parse().unwrap_or(u64::MAX) };
    }
    Some(version)
}
