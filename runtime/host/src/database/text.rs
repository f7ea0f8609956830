//! Numbers for people.
use torhost_journal::Census;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_unit() {
        let sizes = [0, 1023, 1024, 1 << 20, 3 << 29].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.5 GiB"]);
    }
}
