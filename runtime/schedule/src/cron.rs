//! Cron expressions, and what is wrong with those that are none.
use croner::YEAR_UPPER_LIMIT;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::date;
use jiff::tz::TimeZone;
use std::ops::Range;
use std::str::FromStr;

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 1000;

/// A cron expression: five fields for the minute, the hour, the day of the month, the month and the weekday, or six with the second before
/// them; or a nickname such as `@daily`.
///
/// A field is `*`, a number, a range (`9-17`), steps (`*/15`, `0-30/10`) or a list of these (`0,30`). Months and weekdays have names as well:
/// `JAN`, `MON-FRI`. Days may be `L`, the last of the month, and `15W`, the working day that is next to the 15th; weekdays `5#3`, the third
/// Friday, and `5L`, the last. If both days and weekdays are given, either is enough; with `+` before the weekdays,
/// both are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron(pub(crate) croner::Cron);

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: expected {expected}")]
pub struct BadCron {
    /// Where, in bytes.
    pub at: Range<usize>,
    /// What is wrong.
    pub what: String,
    /// What could stand there.
    pub expected: String,
}

struct Field {
    name: &'static str,
    most: u32,
    values: &'static str,
    /// What there may be of letters.
    words: &'static [&'static str],
}

const FIELDS: [Field; 6] = [
    Field {
        name: "second",
        most: 59,
        values: "0 to 59",
        words: &[],
    },
    Field {
        name: "minute",
        most: 59,
        values: "0 to 59",
        words: &[],
    },
    Field {
        name: "hour",
        most: 23,
        values: "0 to 23",
        words: &[],
    },
    Field {
        name: "day of the month",
        most: 31,
        values: "1 to 31, `L` for the last, or `15W` for the working day next to the 15th",
        words: &["L", "W", "LW"],
    },
    Field {
        name: "month",
        most: 12,
        values: "1 to 12, or JAN to DEC",
        words: &[
            "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
        ],
    },
    Field {
        name: "weekday",
        most: 7,
        values: "0 (Sunday) to 7 (Sunday again), SUN to SAT, `5#3` for the third Friday, or `5L` for the last",
        words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"],
    },
];
const NICKNAMES: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

impl FromStr for Cron {
    type Err = BadCron;

    fn from_str(text: &str) -> Result<Cron, BadCron> {
        let bad = |at: Range<usize>, what: String, expected: &str| BadCron {
            at,
            what,
            expected: expected.to_owned(),
        };
        let whole = 0..text.len();
        if text.len() > MAX_LENGTH {
            return Err(bad(whole, "this is too long".to_owned(), "at most 1000 bytes"));
        }
        if text.starts_with('@') {
            if !NICKNAMES.contains(&text.to_ascii_lowercase().as_str()) {
                let what = format!("there is no `{text}`");
                return Err(bad(whole, what, &format!("one of `{}`", NICKNAMES.join(" "))));
            }
        } else {
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            let fields = match words.len() {
                5 => &FIELDS[1..],
                6 => &FIELDS[..],
                0 => return Err(bad(whole, "this is empty".to_owned(), FORM)),
                count => {
                    let what = match count {
                        1 => "there is one field".to_owned(),
                        _ => format!("there are {count} fields"),
                    };
                    return Err(bad(whole, what, FORM));
                }
            };
            for (field, word) in fields.iter().zip(words) {
                if !field.takes(word) {
                    let start = word.as_ptr() as usize - text.as_ptr() as usize;
                    let what = format!("`{word}` is no {}", field.name);
                    return Err(bad(start..start + word.len(), what, field.values));
                }
            }
        }
        let cron = parser().parse(text).map_err(|error| {
            let what = error.to_string();
            bad(whole.clone(), what, FORM)
        })?;
        // Weekdays and leap days are the same again after 28 years, and so what does not come within 50 never comes. These are the last
        // before the parser's calendar ends, so that it looks no further.
        let some_day = date(YEAR_UPPER_LIMIT as i16 - 50, 1, 1).to_zoned(TimeZone::UTC);
        let comes = some_day.is_ok_and(|day| cron.find_next_occurrence(&day, false).is_ok());
        if !comes {
            let what = "this never comes".to_owned();
            return Err(bad(whole, what, "a day that its month has"));
        }
        Ok(Cron(cron))
    }
}

const FORM: &str = "`minute hour day month weekday`, or six with the second first";

fn parser() -> CronParser {
    CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build()
}

impl Field {
    /// Whether a word can be this field. The parser does not say which field it did not take, and takes names in any of them.
    fn takes(&self, word: &str) -> bool {
        let names = word
            .split(|c: char| !c.is_alphabetic())
            .filter(|name| !name.is_empty());
        let known = |name: &str| self.words.iter().any(|known| known.eq_ignore_ascii_case(name));
        // A step beyond the field's end is none: `*/90` would be every minute, not every 90 seconds.
        let mut steps = word
            .split(',')
            .filter_map(|part| part.split_once('/')?.1.parse::<u32>().ok());
        let at = FIELDS.iter().position(|field| field.name == self.name);
        let expression = (0..FIELDS.len()).map(|field| if Some(field) == at { word } else { "*" });
        word.is_ascii()
            && names.into_iter().all(known)
            && steps.all(|step| step <= self.most)
            && parser().parse(&expression.collect::<Vec<_>>().join(" ")).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_is_read() {
        for text in [
            "* * * * *",
            "0 3 * * *",
            " 0\t3  * * * ",
            "*/5 * * * * *",
            "0,30 9-17 * JAN-MAR mon-fri",
            "0-30/10 0 1,15 * *",
            "0 0 L * *",
            "0 0 15W * *",
            "0 0 * * 5#3",
            "0 0 * * FRI#3",
            "0 0 * * 5L",
            "0 0 * * FRI-SUN",
            "0 0 29 2 *",
            "0 0 29 2 5#5",
            "@daily",
            "@HOURLY",
        ] {
            assert!(text.parse::<Cron>().is_ok(), "{text}: {:?}", text.parse::<Cron>());
        }
    }

    #[test]
    fn a_leap_day_on_any_weekday_comes() {
        for weekday in 0..7 {
            let text = format!("0 0 29 2 +{weekday}");
            assert!(text.parse::<Cron>().is_ok(), "{text}: {:?}", text.parse::<Cron>());
        }
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (text, place, what) in [
            ("", "", "this is empty"),
            ("0 3 * *", "0 3 * *", "there are 4 fields"),
            ("0 0 3 * * * 2026", "0 0 3 * * * 2026", "there are 7 fields"),
            ("61 3 * * *", "61", "`61` is no minute"),
            ("61 0 3 * * *", "61", "`61` is no second"),
            ("0 24 * * *", "24", "`24` is no hour"),
            ("0 3  0 * *", "0", "`0` is no day of the month"),
            ("0 3 * 13 *", "13", "`13` is no month"),
            ("0 3 * * MOON", "MOON", "`MOON` is no weekday"),
            ("0 3 * * 8", "8", "`8` is no weekday"),
            ("0 MON * * *", "MON", "`MON` is no hour"),
            ("0 3 * JUN-x *", "JUN-x", "`JUN-x` is no month"),
            ("*/0 3 * * *", "*/0", "`*/0` is no minute"),
            ("*/90 * * * * *", "*/90", "`*/90` is no second"),
            ("5-1 3 * * *", "5-1", "`5-1` is no minute"),
            ("é 3 * * *", "é", "`é` is no minute"),
            ("@noon", "@noon", "there is no `@noon`"),
            ("0 3 31 2 *", "0 3 31 2 *", "this never comes"),
        ] {
            let bad = text.parse::<Cron>().unwrap_err();
            assert_eq!(
                (&text[bad.at.clone()], bad.what.as_str()),
                (place, what),
                "{text}"
            );
        }
        let last = "0 0 0 * *".parse::<Cron>().unwrap_err();
        assert_eq!(last.at, 4..5, "the field itself, not one that looks like it");
        assert!("* ".repeat(1000).parse::<Cron>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_an_expression_or_refused_with_a_place_that_exists(
            text in prop_oneof![any::<String>(), "[0-9*/,@LW# MONJAFEB?+-]{0,24}", "([0-9*/,-]{1,4} ){4,5}[0-7*L#]{1,3}"],
        ) {
            if let Err(bad) = text.parse::<Cron>() {
                prop_assert!(text.get(bad.at).is_some());
            }
        }
    }
}
