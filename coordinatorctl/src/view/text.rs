//! How numbers, times and configurations are written for people. Pure.

use std::fmt::Write as _;

use serde_json::Value;

const MS_PER_DAY: u64 = 86_400_000;
/// Significant digits of a metric.
const DIGITS: i32 = 5;

/// A number with five significant digits, without needless zeros: `0.97222`, `1.2e-6`, `12345`.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs().log10().floor();
    if !(-4.0..9.0).contains(&magnitude) {
        return trim_exponent(&format!("{value:.*e}", (DIGITS - 1) as usize));
    }
    let decimals = (DIGITS - 1 - magnitude as i32).max(0) as usize;
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

fn trim_exponent(text: &str) -> String {
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!("{}e{exponent}", trim_zeros(mantissa)),
        None => text.to_owned(),
    }
}

/// A number that may be unknown.
pub(crate) fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

/// A whole number in groups of three: `1,552,746`.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `850 ms`, `12.3 s`, `4m 05s`, `3h 12m`, `2d 04h`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{:.1} s", ms as f64 / 1_000.0),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Time from one moment to another, while both are known.
pub(crate) fn between(from_ms: Option<u64>, to_ms: Option<u64>) -> String {
    match (from_ms, to_ms) {
        (Some(from), Some(to)) => duration(to.saturating_sub(from)),
        _ => "-".to_owned(),
    }
}

/// Bytes in powers of 1,024.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1_024.0;
    let mut unit = 0;
    while size >= 1_024.0 && unit + 1 < UNITS.len() {
        size /= 1_024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// `2026-11-23 22:57:01Z` of Unix milliseconds, by the proleptic Gregorian calendar.
pub(crate) fn moment(ms: u64) -> String {
    let (year, month, day) = civil(ms / MS_PER_DAY);
    format!("{year:04}-{month:02}-{day:02} {}Z", time_of_day(ms))
}

/// A moment that may not have come.
pub(crate) fn maybe_moment(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), moment)
}

/// `22:57:01` of Unix milliseconds, UTC.
pub(crate) fn time_of_day(ms: u64) -> String {
    let seconds = ms % MS_PER_DAY / 1_000;
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Year, month and day of a number of days since 1970-01-01. Years are counted from March, so that
/// the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468; // from 0000-03-01
    const DAYS_PER_ERA: u64 = 146_097; // 400 years
    let days = days + DAYS_TO_1970;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// A hyperparameter's value as a person would write it.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) if n.is_f64() => n.as_f64().map_or_else(|| n.to_string(), number),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// `lr=0.01 units=64`.
pub(crate) fn pairs(object: &Value) -> String {
    let Value::Object(entries) = object else {
        return value(object);
    };
    let mut text = String::new();
    for (name, entry) in entries {
        let gap = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{gap}{name}={}", value(entry));
    }
    text
}

/// `[1, 28, 28]`.
pub(crate) fn shape(shape: &[usize]) -> String {
    format!("{shape:?}")
}

/// The known word nearest to a given one, where at most half of its letters are wrong. A name without
/// its number (`digits` for `digits-3`) is as near as can be.
pub(crate) fn near<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (given.chars().count() / 2).max(2);
    known
        .into_iter()
        .map(|word| (distance(given, word), word))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn distance(given: &str, known: &str) -> usize {
    match known
        .strip_prefix(given)
        .and_then(|rest| rest.strip_prefix('-'))
    {
        Some(_) => 0,
        None => strsim::damerau_levenshtein(given, known),
    }
}

/// A word for the shell: quoted where it must be.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// How many configurations meet the constraints, for people.
pub(crate) fn allowed(share: f64) -> String {
    let one_in = 1.0 / share.clamp(f64::MIN_POSITIVE, 1.0);
    match one_in {
        _ if share >= 0.1 => format!(
            "about {:.0} % of the space meet the constraints",
            100.0 * share
        ),
        1e6.. => {
            format!("about 1 in {one_in:.0e} configurations of the space meets the constraints")
        }
        // Two digits are all that an estimate has.
        _ => {
            let digits = second_digit(one_in);
            let round = (one_in / digits).round() * digits;
            format!("about 1 in {round} configurations of the space meets the constraints")
        }
    }
}

/// The unit of the second digit of a number from 10.
fn second_digit(x: f64) -> f64 {
    let digits = (x.log10().floor() as i32 - 1).max(0);
    10_f64.powi(digits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shares_are_told_as_what_people_count() {
        let is = |share, text: &str| assert_eq!(allowed(share), text);
        is(0.5, "about 50 % of the space meet the constraints");
        is(
            0.0123,
            "about 1 in 81 configurations of the space meets the constraints",
        );
        is(
            1.0 / 1234.0,
            "about 1 in 1200 configurations of the space meets the constraints",
        );
        is(
            2.756e-7,
            "about 1 in 4e6 configurations of the space meets the constraints",
        );
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.972_222_222, "0.97222"),
            (0.5, "0.5"),
            (1.0, "1"),
            (-12.345_678, "-12.346"),
            (123_456.0, "123456"),
            (0.001, "0.001"),
            (1e-6, "1e-6"),
            (1.234_567e-7, "1.2346e-7"),
            (3e12, "3e12"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ];
        for (given, expected) in cases {
            assert_eq!(number(given), expected);
        }
    }

    #[test]
    fn whole_numbers_are_grouped() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_552_746, "1,552,746"),
        ];
        for (given, expected) in cases {
            assert_eq!(grouped(given), expected);
        }
    }

    #[test]
    fn durations_and_sizes_have_units() {
        let cases = [
            (850, "850 ms"),
            (12_340, "12.3 s"),
            (245_000, "4m 05s"),
            (11_520_000, "3h 12m"),
            (187_200_000, "2d 04h"),
        ];
        for (given, expected) in cases {
            assert_eq!(duration(given), expected);
        }
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
        assert_eq!(between(Some(5), None), "-");
    }

    #[test]
    fn moments_are_utc() {
        // `date -u -d @N +%F\ %T` of GNU coreutils.
        let cases = [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (1_709_251_199_999, "2024-02-29 23:59:59Z"),
            (1_795_474_621_000, "2026-11-23 22:57:01Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00Z"),
        ];
        for (given, expected) in cases {
            assert_eq!(moment(given), expected);
        }
    }

    #[test]
    fn configurations_read_as_written() {
        let params = json!({"lr": 0.001, "units": 64, "kind": "adam", "nesterov": true});
        assert_eq!(pairs(&params), "lr=0.001 units=64 kind=adam nesterov=true");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(shell_word("a/b.yaml"), "a/b.yaml");
        assert_eq!(shell_word("x=[1, 2]"), "'x=[1, 2]'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
