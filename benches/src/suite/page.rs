//! Tables and plots, and their places in docs/performance.md, between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use super::cells::{Cell, Figure};
use super::{Place, Row, floor};
use crate::spread::Spread;

const PAGE: &str = "docs/performance.md";

/// One line a cell: the floor's figure, then ratios of each contender to it, round by round; of memory the figures.
pub(super) fn table(measured: &[(&Cell, Vec<Row>)]) -> String {
    let Some((first, rows)) = measured.first() else { return String::new() };
    let absolute = first.figure == Figure::Memory;
    let contenders: Vec<&str> =
        rows.iter().filter(|row| absolute || !row.contender.is_floor).map(|row| row.contender.name).collect();
    let floor_of = |unit: &str| if absolute { String::new() } else { format!(" floor, {unit} |") };
    let mut out = format!("| |{} goal | {} |", floor_of(first.unit()), contenders.join(" | "));
    let per_message = first.figure == Figure::Message;
    if per_message {
        out.push_str(" generator to gochat |");
    }
    let columns = 2 + usize::from(!absolute) + contenders.len() + usize::from(per_message);
    let _ = writeln!(out, "\n|{}", "---|".repeat(columns));
    for (cell, rows) in measured {
        let Some(best) = floor(rows) else { continue };
        let figure = if absolute { String::new() } else { format!(" {} |", Spread::of(&best.server)) };
        let _ = write!(out, "| {} |{figure} {} |", cell.name, cell.goal);
        for row in rows.iter().filter(|row| contenders.contains(&row.contender.name)) {
            let shown = if absolute { Spread::of(&row.server) } else { Spread::ratios(&row.server, &best.server) };
            let _ = write!(out, " {shown} |");
        }
        if let Some(ours) = rows.iter().find(|row| row.contender.name == "gochat, io_uring").filter(|_| per_message) {
            let _ = write!(out, " {} |", Spread::ratios(&ours.generator, &ours.server));
        }
        out.push('\n');
    }
    out
}

/// Bars of the medians of the table.
pub(super) fn plot(name: &str, measured: &[(&Cell, Vec<Row>)]) -> String {
    const LEFT: f64 = 170.0;
    const WIDTH: f64 = 420.0;
    const STEP: f64 = 16.0;
    let mut bars = String::new();
    let mut y = 26.0;
    for (cell, rows) in measured {
        let Some(best) = floor(rows) else { continue };
        let _ = writeln!(bars, "<text x=\"0\" y=\"{y}\" font-weight=\"bold\">{}</text>", cell.name);
        y += STEP;
        let ratio = |row: &Row| match cell.figure {
            Figure::Memory => Spread::of(&row.server).median,
            Figure::Message | Figure::Connect(_) => Spread::ratios(&row.server, &best.server).median,
        };
        let most = rows.iter().map(ratio).fold(f64::MIN_POSITIVE, f64::max);
        for row in rows {
            let value = ratio(row);
            let (length, digits) = (value / most * WIDTH, if value >= 100.0 { 0 } else { 2 });
            let color = match row.contender.name {
                name if name.starts_with("gochat") => "#2563eb",
                _ if row.contender.is_floor => "#9ca3af",
                _ => "#d97706",
            };
            let (text, top, end) = (y, y - 10.0, LEFT + length + 4.0);
            let _ = writeln!(bars, "<text x=\"8\" y=\"{text}\">{}</text>", row.contender.name);
            let _ =
                writeln!(bars, "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"12\" fill=\"{color}\"/>");
            let _ = writeln!(bars, "<text x=\"{end:.1}\" y=\"{text}\">{value:.digits$}</text>");
            y += STEP;
        }
        y += STEP / 2.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 680 {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"680\" height=\"{y}\" fill=\"#fff\"/>\n<text x=\"0\" y=\"10\">{name}: median of the rounds, {}; less is better</text>\n{bars}</svg>\n",
        match measured.first().map(|(cell, _)| cell.figure) {
            Some(Figure::Memory) => "bytes of the server's resident memory a connection",
            _ => "server CPU as a ratio to the better floor",
        }
    )
}

/// Puts a table in its place, with the command that made it, and its plot beside the other pictures.
pub(super) fn write(place: &Place, name: &str, table: &str, plot: Option<&str>) -> io::Result<()> {
    let picture = format!("images/bench-{name}.svg");
    let shown = plot.map_or_else(String::new, |_| format!("\n![{name}]({picture})\n"));
    let Place { rounds, seconds, commit, .. } = place;
    let text = format!(
        "\n    cargo xtask bench {name} --rounds {rounds} --seconds {seconds}    # commit {commit}\n\n{table}{shown}"
    );
    put(&place.root, name, &text)?;
    plot.map_or(Ok(()), |plot| fs::write(place.root.join("docs").join(picture), plot))
}

/// Puts a text in the place that bears this name.
pub(crate) fn put(root: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = root.join(PAGE);
    let page = replaced(&fs::read_to_string(&path)?, name, text)
        .ok_or_else(|| io::Error::other(format!("{PAGE} has no place for {name}: <!-- bench:{name} -->")))?;
    fs::write(&path, page)
}

fn replaced(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- bench:{name} -->\n"), format!("<!-- /bench:{name} -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        let page = "a\n<!-- bench:echo -->\nold\n<!-- /bench:echo -->\nb\n<!-- bench:x -->\n<!-- /bench:x -->\n";
        let wanted = "a\n<!-- bench:echo -->\nnew\n<!-- /bench:echo -->\nb\n<!-- bench:x -->\n<!-- /bench:x -->\n";
        assert_eq!(replaced(page, "echo", "new\n").as_deref(), Some(wanted));
        assert_eq!(replaced(page, "none", "new"), None);
    }
}
