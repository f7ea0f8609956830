//! Sizes, rates and durations: numbers with a unit, which print as they are written.
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes: `4GB`, `512MiB`, `100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A number of bits a second: `1Gbps`, `100Mbps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

/// A stretch of time: `10ms`, `30s`, `5m`, `1h`, `2d`; a bare number is seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// When an accepted job is on disk: `commit`, `interval 100ms`, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    /// Before it is answered.
    #[default]
    Commit,
    /// Within this time: 1ms to 1h.
    Interval(Period),
    /// Never: jobs are in memory alone.
    None,
}

/// A text that is not a number with a unit of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadQuantity;

type Units = &'static [(&'static str, u64)];

const SIZES: Units = &[
    ("B", 1),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];
const RATES: Units = &[
    ("bps", 1),
    ("Kbps", 1000),
    ("Mbps", 1_000_000),
    ("Gbps", 1_000_000_000),
    ("Tbps", 1_000_000_000_000),
];
/// In microseconds.
const TIMES: Units = &[
    ("us", 1),
    ("ms", 1000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

/// A number with a unit, in the smallest unit; a fraction may be given if that comes out whole. `bare` is the unit of a number
/// without one.
fn parse(text: &str, units: Units, bare: &str) -> Result<u64, BadQuantity> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = if unit.is_empty() { bare } else { unit };
    let scale = units.iter().find(|(name, _)| *name == unit).ok_or(BadQuantity)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.len() > 9 {
        return Err(BadQuantity);
    }
    let whole: u64 = whole.parse().map_err(|_| BadQuantity)?;
    let tenths = 10_u64.pow(fraction.len() as u32);
    let part = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<u64>().map_err(|_| BadQuantity)?
    };
    let part = u128::from(part) * u128::from(scale);
    if !part.is_multiple_of(u128::from(tenths)) {
        return Err(BadQuantity);
    }
    let total = u128::from(whole) * u128::from(scale) + part / u128::from(tenths);
    u64::try_from(total).map_err(|_| BadQuantity)
}

/// In the largest unit in which it is a whole number; of two such, the one with the smaller number. Nothing is in the unit of
/// numbers without one.
fn print(amount: u64, units: Units, bare: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if amount == 0 {
        return write!(f, "0{bare}");
    }
    let fits = |(_, scale): &&(&str, u64)| amount.is_multiple_of(*scale) && amount >= *scale;
    let (name, scale) = units
        .iter()
        .filter(fits)
        .max_by_key(|unit| unit.1)
        .unwrap_or(&units[0]);
    write!(f, "{}{name}", amount / scale)
}

/// In JSON it is the text that it prints as.
macro_rules! as_text {
    ($type:ident, $pattern:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|_| D::Error::custom(format!("bad quantity \"{text}\"")))
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    };
}

macro_rules! quantity {
    ($type:ident, $units:ident, $bare:literal, $to:expr, $from:expr, $pattern:literal) => {
        impl FromStr for $type {
            type Err = BadQuantity;
            fn from_str(text: &str) -> Result<$type, BadQuantity> {
                parse(text, $units, $bare).map($from)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print($to(self), $units, $bare, f)
            }
        }
        as_text!($type, $pattern);
    };
}

quantity!(
    Size,
    SIZES,
    "B",
    |size: &Size| size.0,
    Size,
    "^[0-9]+([KMGT]i?)?B$"
);
quantity!(
    Rate,
    RATES,
    "bps",
    |rate: &Rate| rate.0,
    Rate,
    "^[0-9]+[KMGT]?bps$"
);
quantity!(
    Period,
    TIMES,
    "s",
    |span: &Period| u64::try_from(span.0.as_micros()).unwrap_or(u64::MAX),
    |micros| Period(Duration::from_micros(micros)),
    "^[0-9]+(us|ms|s|m|h|d)$"
);

impl FromStr for Durability {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Durability, BadQuantity> {
        let mut words = text.split_ascii_whitespace();
        let durability = match (words.next(), words.next(), words.next()) {
            (Some("commit"), None, _) => Durability::Commit,
            (Some("none"), None, _) => Durability::None,
            (Some("interval"), Some(period), None) => Durability::Interval(period.parse()?),
            _ => return Err(BadQuantity),
        };
        match durability {
            Durability::Interval(Period(period))
                if period < Duration::from_millis(1) || period > Duration::from_secs(3600) =>
            {
                Err(BadQuantity)
            }
            _ => Ok(durability),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Durability::Commit => f.write_str("commit"),
            Durability::Interval(period) => write!(f, "interval {period}"),
            Durability::None => f.write_str("none"),
        }
    }
}

as_text!(Durability, "^(commit|none|interval [0-9]+(us|ms|s|m|h|d))$");

impl fmt::Display for BadQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a number with a unit of this kind")
    }
}

impl std::error::Error for BadQuantity {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_print_as_one_would_write_them() {
        for text in ["4GB", "512MiB", "1TiB", "100B", "0B", "1001B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["10ms", "30s", "5m", "36h", "2d", "250us", "0s"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        for text in ["commit", "interval 100ms", "none"] {
            assert_eq!(text.parse::<Durability>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "interval",
            "interval 0s",
            "interval 2h",
            "commit 1s",
            "always",
        ] {
            assert!(bad.parse::<Durability>().is_err(), "{bad}");
        }
        assert_eq!("1.5GB".parse(), Ok(Size(1_500_000_000)));
        assert_eq!("90".parse::<Period>().unwrap().to_string(), "90s");
        assert_eq!("1Gbps".parse(), Ok(Rate(1_000_000_000)));
        for bad in [
            "",
            "GB",
            "4 GB",
            "4gb",
            "-1s",
            "1.",
            ".5s",
            "1e3",
            "0.3B",
            "99999999999999TB",
            "1..5s",
        ] {
            assert!(
                bad.parse::<Size>().is_err() && bad.parse::<Period>().is_err(),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_quantity_comes_back(amount in any::<u64>()) {
            prop_assert_eq!(Size(amount).to_string().parse(), Ok(Size(amount)));
            prop_assert_eq!(Rate(amount).to_string().parse(), Ok(Rate(amount)));
            let span = Period(Duration::from_micros(amount));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
