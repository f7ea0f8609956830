//! Times of day as people and programs write them.
use std::time::Duration;

/// The first second of the year 10000.
const END: u64 = 253_402_300_800;

/// Reads a time, as what has passed since 1970: `2030-12-24T18:00:00Z` and `2030-12-24T19:00:00.5+01:00` (RFC 3339), or a bare number of
/// seconds since 1970, which may have a fraction. What is finer than a millisecond is cut.
pub fn parse_time(text: &str) -> Option<Duration> {
    let (seconds, rest) = match text.find('-') {
        Some(_) => date_and_time(text)?,
        None => {
            let end = text.find('.').unwrap_or(text.len());
            (digits(&text[..end])?, &text[end..])
        }
    };
    let (milliseconds, zone) = fraction(rest)?;
    let offset = match (text.contains('-'), zone) {
        (false, "") | (true, "Z" | "z") => 0,
        (true, zone) => offset(zone)?,
        _ => return None,
    };
    let seconds = seconds
        .checked_add_signed(-offset)
        .filter(|&seconds| seconds < END)?;
    Some(Duration::from_millis(seconds * 1000 + milliseconds))
}

/// `2030-12-24T18:00:00`: the seconds until then, and what comes behind.
fn date_and_time(text: &str) -> Option<(u64, &str)> {
    let (time, rest) = text.split_at_checked(19)?;
    let separators = [(4, b"-"), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")] as [(usize, &[u8]); 5];
    let bytes = time.as_bytes();
    if !separators.iter().all(|(at, one_of)| one_of.contains(&bytes[*at])) {
        return None;
    }
    let number = |from: usize, to: usize, most: u64| digits(time.get(from..to)?).filter(|&n| n <= most);
    let (year, month, day) = (number(0, 4, 9999)?, number(5, 7, 12)?, number(8, 10, 31)?);
    // A leap second is taken for the one after it.
    let (hour, minute, second) = (number(11, 13, 23)?, number(14, 16, 59)?, number(17, 19, 60)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        28 + u64::from(is_leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let month = usize::try_from(month).ok()?.checked_sub(1)?;
    if year < 1970 || day == 0 || day > lengths[month] {
        return None;
    }
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let days =
        (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + lengths[..month].iter().sum::<u64>() + day - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second, rest))
}

/// `.25` or nothing: milliseconds, and what comes behind.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(text) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if number.is_empty() || number.len() > 12 {
        return None;
    }
    let thousandths = format!("{number}00");
    Some((digits(&thousandths[..3])?, rest))
}

/// `+01:00`: how many seconds the time there is ahead.
fn offset(zone: &str) -> Option<i64> {
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    let seconds = i64::try_from((hours * 60 + minutes) * 60).ok()?;
    match zone.as_bytes()[0] {
        b'+' if hours < 24 && minutes < 60 => Some(seconds),
        b'-' if hours < 24 && minutes < 60 => Some(-seconds),
        _ => None,
    }
}

/// 1 to 12 digits.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, milliseconds) in [
            ("0", 0),
            ("1700000000", 1_700_000_000_000),
            ("1700000000.1239", 1_700_000_000_123),
            ("0.5", 500),
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T01:30:00+01:30", 0),
            ("2000-02-29t12:00:00z", 951_825_600_000),
            ("2000-03-01 00:00:00.25Z", 951_868_800_250),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("2030-12-24T18:00:00Z", 1_924_365_600_000),
            ("2030-12-24T20:00:00.5+02:00", 1_924_365_600_500),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            let expected = Some(Duration::from_millis(milliseconds));
            assert_eq!(parse_time(text), expected, "{text}");
        }
        for text in [
            "",
            "soon",
            "-1",
            "+1",
            "1.",
            ".5",
            "10s",
            // What others count in milliseconds would be far away.
            "1700000000000",
            "253402300800",
            "9999999999999999999999",
            "2030-12-24",
            "2030-12-24T18:00:00",
            "2030-12-24T18:00Z",
            "2030-12-24T18:00:00+0100",
            "2030-12-24T18:00:00+24:00",
            "2030-12-24T18:00:00Zx",
            "2030-12-24T18:00:00.Z",
            "2030-12-24T24:00:00Z",
            "2030-13-24T18:00:00Z",
            "2030-00-24T18:00:00Z",
            "2030-02-29T18:00:00Z",
            "2030-01-00T18:00:00Z",
            "1970-01-01T00:00:00+00:01",
            "1969-12-31T23:59:59Z",
            "1969-12-31T23:00:00-01:00",
            "2030-12-24T1é:00:00Z",
            "२०३०-12-24T18:00:00Z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
