//! Rows: as lines, and as a table.

/// `a, b, c` lines.
pub fn lines(rows: &[Vec<String>]) -> Vec<u8> {
    let lines = rows.iter().map(|row| format!("{}\n", row.join(", ")));
    lines.collect::<String>().into_bytes()
}

/// A table as etcdctl 3.7 draws it: names in the middle, values to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|name| heading(name)).collect();
    let all = || std::iter::once(&header).chain(rows);
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let rule = |left: &str, between: &str, right: &str| {
        let bars: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", bars.join(between))
    };
    let line = |cells: Vec<String>| format!("│ {} │\n", cells.join(" │ "));
    let padded = |(cell, width): (&String, &usize)| format!("{cell:>width$}");
    let centred = |(cell, width): (&String, &usize)| format!("{cell:^width$}");
    let body = rows
        .iter()
        .map(|row| line(row.iter().zip(&widths).map(padded).collect()));
    let body: String = body.collect();
    let between = match body.is_empty() {
        true => String::new(),
        false => rule("├", "┼", "┤"),
    };
    [
        rule("┌", "┬", "┐"),
        line(header.iter().zip(&widths).map(centred).collect()),
        between,
        body,
        rule("└", "┴", "┘"),
    ]
    .concat()
}

/// A column's name as it is drawn.
fn heading(name: &str) -> String {
    name.replace('_', " ").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_etcdctls() {
        let shown = table(&["hash", "x_y"], &[vec!["7ef846e".into(), "1".into()]]);
        let wanted = [
            "┌─────────┬─────┐",
            "│  HASH   │ X Y │",
            "├─────────┼─────┤",
            "│ 7ef846e │   1 │",
            "└─────────┴─────┘\n",
        ];
        let wanted = wanted.join("\n");
        assert_eq!(shown, wanted);
    }
}
