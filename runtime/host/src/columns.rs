//! Tables for a terminal.

/// Rows as lines, with their columns aligned, and a newline after each.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths);
            let line: String = cells.map(|(cell, width)| format!("{cell:width$}  ")).collect();
            format!("{}\n", line.trim_end())
        })
        .collect()
}
