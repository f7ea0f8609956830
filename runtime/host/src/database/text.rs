//! Numbers, times and data for people.
use std::fmt::Write as _;
use std::time::Duration;
use torhost_journal::Census;

/// How much of data a line of a table shows, in characters.
const BRIEF: usize = 40;

/// `12 jobs (2 queued, 10 completed)`.
pub(super) fn census(census: &Census) -> String {
    let states = census.states().filter(|&(_, count)| count > 0);
    let states: Vec<String> = states.map(|(state, count)| format!("{count} {state}")).collect();
    let jobs = counted(census.jobs(), "job");
    if states.is_empty() {
        jobs
    } else {
        format!("{jobs} ({})", states.join(", "))
    }
}

/// `1 job`, `2 jobs`.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A size in the largest unit that it has one of.
pub(super) fn size(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|&(_, unit)| bytes >= unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

/// A time since 1970, in UTC: `2030-12-24 18:00:00`.
pub(super) fn time(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The year, month and day that is so many days after 1970-01-01, by eras of 400 years that begin in March
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// The beginning of some text, on one line, without what could command a terminal.
pub(super) fn brief(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == BRIEF {
            shown += "...";
            break;
        }
        put(&mut shown, c);
    }
    shown
}

/// Some text, indented, as the lines that it has.
pub(super) fn block(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::new();
    for line in text.lines() {
        shown += "    ";
        line.chars().for_each(|c| put(&mut shown, c));
        shown.push('\n');
    }
    if std::str::from_utf8(bytes).is_err() {
        shown += "    (not UTF-8; --json has the exact bytes, in base64)\n";
    }
    shown
}

fn put(shown: &mut String, c: char) {
    if c.is_control() {
        // Writing to a text cannot fail.
        let _ = write!(shown, "{}", c.escape_debug());
    } else {
        shown.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_825_600, "2000-02-29 12:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_924_365_600, "2030-12-24 18:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (253_402_300_799, "9999-12-31 23:59:59"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn data_cannot_command_the_terminal() {
        assert_eq!(brief(b"a\n\x1b[2Jb\xff"), "a\\n\\u{1b}[2Jb\u{fffd}");
        assert_eq!(brief("\u{e9}".repeat(41).as_bytes()), "\u{e9}".repeat(40) + "...");
        assert_eq!(block(b"a\n\x07b\n"), "    a\n    \\u{7}b\n");
    }

    #[test]
    fn sizes_have_one_unit() {
        let sizes = [0, 1023, 1024, 1 << 20, 3 << 29].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.5 GiB"]);
    }
}
