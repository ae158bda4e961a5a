//! Numbers with names, trimmed as servers do it (device-protocol A6, A7), so that what is left out is known here.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde_json::{Map, Number, Value};

use crate::limits::{MAX_METRIC_NAME_BYTES, MAX_METRICS};

/// The largest whole number a float holds exactly.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// Returns what can be sent, and how many are left out.
pub(super) fn metrics(metrics: &BTreeMap<String, f64>) -> (Map<String, Value>, usize) {
    let mut kept = BTreeMap::new();
    for (name, number) in metrics {
        let name: String = name.chars().filter(|letter| *letter != ' ').collect();
        if (1..=MAX_METRIC_NAME_BYTES).contains(&name.len())
            && let Some(number) = self::number(*number)
        {
            kept.entry(name).or_insert(number);
        }
    }
    let map: Map<String, Value> = kept.into_iter().take(MAX_METRICS).collect();
    let left_out = metrics.len().saturating_sub(map.len());
    (map, left_out)
}

/// Writes a number, whole ones without a fraction; none that isn't finite.
pub(super) fn number(number: f64) -> Option<Value> {
    if number.abs() < WHOLE {
        #[expect(clippy::cast_possible_truncation, reason = "it is smaller than 2^53")]
        let whole = number as i64;
        #[expect(clippy::cast_precision_loss, reason = "it is smaller than 2^53")]
        let same = whole as f64;
        #[expect(clippy::float_cmp, reason = "only exactly whole numbers are meant")]
        if same == number {
            return Some(Value::from(whole));
        }
    }
    Number::from_f64(number).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    #[test]
    fn numbers_are_finite_and_whole_ones_have_no_fraction() {
        for (number, text) in [
            (24684.0, "24684"),
            (-3.0, "-3"),
            (0.57, "0.57"),
            (-0.0, "0"),
            (1e300, "1e+300"),
            (9_007_199_254_740_992.0, "9007199254740992.0"),
        ] {
            assert_eq!(super::number(number).unwrap().to_string(), text);
        }
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(super::number(number), None);
        }
    }
}
