//! The time of a manifest (fw-format §1.2).

use std::time::{SystemTime, UNIX_EPOCH};

use tz::{DateTime, TimeZone, UtcDateTime};

use crate::archive::DosTime;
use crate::manifest::leading_number;

/// Answers whether a variable is set, and to what.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Returns the time the manifest gets, in seconds since 1970: `SOURCE_DATE_EPOCH`, else `NOW`, else now.
pub(super) fn manifest_time(variables: Lookup<'_>) -> i64 {
    if let Some(text) = variables("SOURCE_DATE_EPOCH") {
        return leading_number(&text);
    }
    if let Some(seconds) = variables("NOW").as_deref().and_then(parse) {
        return seconds;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Returns the same in local time, as headers have it. Without a usable time zone that is UTC.
pub(super) fn dos_time(seconds: i64, variables: Lookup<'_>) -> DosTime {
    let zone = match variables("TZ") {
        Some(text) if text.is_empty() => Ok(TimeZone::utc()),
        Some(text) => TimeZone::from_posix_tz(&text),
        None => TimeZone::local(),
    };
    let zone = zone.unwrap_or_else(|_| TimeZone::utc());
    match DateTime::from_timespec(seconds, 0, zone.as_ref()) {
        Ok(time) => DosTime::new(
            time.year(),
            time.month(),
            time.month_day(),
            time.hour(),
            time.minute(),
            time.second(),
        ),
        // So far away that there is no calendar for it.
        Err(_) if seconds > 0 => DosTime::new(i32::MAX, 12, 31, 23, 59, 58),
        Err(_) => DosTime::new(0, 1, 1, 0, 0, 0),
    }
}

/// Reads `YYYY-MM-DDTHH:MM:SSZ`.
fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-');
    let mut time = time.split(':');
    let year = date.next()?.parse().ok()?;
    let next = |parts: &mut std::str::Split<'_, char>| parts.next()?.parse::<u8>().ok();
    let (month, day) = (next(&mut date)?, next(&mut date)?);
    let (hour, minute, second) = (next(&mut time)?, next(&mut time)?, next(&mut time)?);
    if date.next().is_some() || time.next().is_some() {
        return None;
    }
    UtcDateTime::new(year, month, day, hour, minute, second, 0).ok().map(|time| time.unix_time())
}

#[cfg(test)]
mod tests {
    use super::{dos_time, manifest_time};
    use crate::archive::DosTime;

    #[test]
    fn the_first_that_is_set_counts() {
        let set = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
            }
        };
        assert_eq!(
            manifest_time(&set(&[("SOURCE_DATE_EPOCH", "0x10"), ("NOW", "2020-01-02T03:04:05Z")])),
            16
        );
        assert_eq!(manifest_time(&set(&[("SOURCE_DATE_EPOCH", "soon")])), 0);
        assert_eq!(manifest_time(&set(&[("NOW", "2020-01-02T03:04:05Z")])), 1_577_934_245);
        assert!(manifest_time(&set(&[("NOW", "yesterday")])) > 1_600_000_000);
    }

    #[test]
    fn local_time_follows_the_zone() {
        let zone = |text: &'static str| move |name: &str| (name == "TZ").then(|| text.to_owned());
        let packed = |hour, day| DosTime::new(2023, 11, day, hour, 13, 20);
        assert_eq!(dos_time(1_700_000_000, &zone("UTC0")), packed(22, 14));
        assert_eq!(dos_time(1_700_000_000, &zone("XYZ-3")), packed(1, 15));
        assert_eq!(dos_time(0, &zone("UTC0")), DosTime { time: 0, date: 0x21 });
        assert_eq!(dos_time(i64::MAX, &zone("UTC0")), DosTime { time: 0xbf7d, date: 0xff9f });
    }
}
