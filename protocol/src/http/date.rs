//! Dates in HTTP headers (RFC 9110 §5.6.7), and in texts (ISO 8601).

use alloc::format;
use alloc::string::String;

use crate::time::UnixTime;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads an IMF-fixdate such as `Sun, 06 Nov 1994 08:49:37 GMT`. The obsolete forms, which no server
/// of ours sends, are refused, and so is a date that doesn't exist.
pub(crate) fn parse(text: &str) -> Option<UnixTime> {
    let text = text.trim();
    if text.len() != 29 || !text.is_ascii() {
        return None;
    }
    let part = |from: usize, to: usize| text.get(from..to);
    let number = |from: usize, to: usize| {
        let digits = part(from, to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let name = |from: usize, names: &[&str]| {
        let word = part(from, from + 3)?;
        names.iter().position(|name| *name == word)
    };
    let fixed = [(3, ", "), (7, " "), (11, " "), (16, " "), (19, ":"), (22, ":"), (25, " GMT")];
    if !fixed.iter().all(|(at, expected)| part(*at, at + expected.len()) == Some(*expected)) {
        return None;
    }
    name(0, &DAYS)?;
    let month = i64::try_from(name(8, &MONTHS)?).ok()? + 1;
    let (day, year) = (number(5, 7)?, number(12, 16)?);
    let (hour, minute, second) = (number(17, 19)?, number(20, 22)?, number(23, 25)?);
    if day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(UnixTime(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second))
}

/// Returns seconds since 1970 as `2026-08-12T01:02:03`, if the year has four digits.
pub(crate) fn iso(seconds: i64) -> Option<String> {
    if !(-62_167_219_200..=253_402_300_799).contains(&seconds) {
        return None;
    }
    let (date, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Never too early, as no year has fewer than 365 days, and seven years too late at most.
    let mut year = (date + 719_528).div_euclid(365);
    while days(year, 1, 1) > date {
        year -= 1;
    }
    let month = (1..=12).rev().find(|month| days(year, *month, 1) <= date)?;
    let day = date - days(year, month, 1) + 1;
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. Years begin in March, so that the leap
/// day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::{iso, parse};

    fn seconds(text: &str) -> Option<i64> {
        parse(text).map(|time| time.0)
    }

    #[test]
    fn reads_the_fixed_form() {
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("Mon, 23 Nov 2026 14:39:17 GMT"), Some(1_795_444_757));
        assert_eq!(seconds("Tue, 29 Feb 2000 23:59:59 GMT"), Some(951_868_799));
        assert_eq!(seconds("Fri, 31 Dec 9999 23:59:59 GMT"), Some(253_402_300_799));
        assert_eq!(seconds("Wed, 31 Dec 1969 23:59:59 GMT"), Some(-1));
        assert_eq!(seconds("Sat, 01 Jan 0000 00:00:00 GMT"), Some(-62_167_219_200));
    }

    #[test]
    fn writes_what_the_fixed_form_says() {
        let text = |seconds| iso(seconds).unwrap();
        assert_eq!(text(0), "1970-01-01T00:00:00");
        assert_eq!(text(-1), "1969-12-31T23:59:59");
        assert_eq!(text(784_111_777), "1994-11-06T08:49:37");
        assert_eq!(text(951_868_799), "2000-02-29T23:59:59");
        assert_eq!(text(1_735_603_200), "2024-12-31T00:00:00");
        assert_eq!(text(253_402_300_799), "9999-12-31T23:59:59");
        assert_eq!(text(-62_167_219_200), "0000-01-01T00:00:00");
        assert_eq!(iso(253_402_300_800), None);
        assert_eq!(iso(-62_167_219_201), None);
    }

    #[test]
    fn refuses_all_else() {
        for bad in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 1900 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov +994 08:49:37 GMT",
            "Son, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 NoV 1994 08:49:37 GMT",
            "Sün, 06 Nov 1994 08:49:37 GM",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
