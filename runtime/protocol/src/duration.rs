//! Durations as people write them.
use std::time::Duration;

/// Reads `500ms`, `10s`, `2m`, `1h`; a bare number is seconds. Fractions are possible (`1.5s`), and cut to milliseconds.
/// At most 9 digits may stand before the point.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let milliseconds = match unit {
        "ms" => 1.0,
        "" | "s" => 1000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        _ => return None,
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    if !digits(whole) || whole.len() > 9 || !fraction.is_none_or(digits) {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    // At most 3.6e15: exact.
    Some(Duration::from_millis((number * milliseconds) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("10", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1.5s", 1500),
            ("0.25", 250),
            ("0.9ms", 0),
            ("0", 0),
            ("010s", 10_000),
            ("999999999h", 3_599_999_996_400_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "ms",
            "-1",
            "+1",
            "1.",
            ".5",
            "1.s",
            "1..5",
            "1.5.2",
            "1e3",
            "10 s",
            " 10",
            "10d",
            "1234567890",
            "inf",
            "nan",
            "١s",
            "1S",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
