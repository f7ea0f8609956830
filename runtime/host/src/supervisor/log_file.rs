//! A node's log: where it is appended to, and its last lines when something went wrong.
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The most lines that are quoted, and the most bytes that are read for them.
const LINES: usize = 12;
const BYTES: u64 = 8 << 10;

/// Opens a log for appending, and tells how long it already is.
pub(crate) fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// The last lines from a place on, each indented on a line of its own; empty when there are none.
pub(crate) fn tail(path: &Path, from: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(BYTES))))?;
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) => return format!("\n    (cannot read it: {error})"),
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..]
        .iter()
        // What a node wrote must not move the reader's cursor.
        .map(|line| {
            format!(
                "\n    {}",
                line.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}")
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_the_last_lines_since_the_start_are_quoted() {
        let path = std::env::temp_dir().join(format!("torhost-log-{}", std::process::id()));
        let (mut file, start) = append(&path).unwrap();
        assert_eq!(start, 0);
        file.write_all(b"before\n").unwrap();
        let (mut file, start) = append(&path).unwrap();
        assert_eq!(tail(&path, start), "");
        for number in 0..30 {
            writeln!(file, "line {number}\x1b[2J").unwrap();
        }
        let quoted = tail(&path, start);
        assert_eq!(quoted.lines().count(), LINES + 1);
        assert!(quoted.ends_with("\n    line 29\u{fffd}[2J"), "{quoted}");
        std::fs::remove_file(path).unwrap();
    }
}
