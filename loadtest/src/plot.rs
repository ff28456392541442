//! Line plots as SVG: axes with round numbers or percentiles, one line a series, a legend. Draws what it is given; knows
//! nothing of runs.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 36.0;
/// Grid lines of an axis, about.
const STEPS: f64 = 4.0;

/// One line.
pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    /// (x, y); points without a value are left out, the line goes on.
    pub(crate) points: Vec<(f64, f64)>,
}

/// What a plot says apart from its lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Captions<'a> {
    pub(crate) title: &'a str,
    /// The x axis.
    pub(crate) x: &'a str,
    /// The y axis.
    pub(crate) y: &'a str,
}

/// A plot of all `series`; `None` when there is nothing to draw. Both axes begin at 0.
pub(crate) fn svg(captions: Captions<'_>, series: &[Series<'_>]) -> Option<String> {
    let x_max = largest(series.iter().flat_map(|s| s.points.iter().map(|(x, _)| *x)));
    let step = round_step(x_max.max(1e-9));
    let ticks = (0..).map(|n| f64::from(n) * step).take_while(|x| *x <= x_max * 1.0001).map(|x| (x, short(x)));
    draw(captions, &ticks.collect::<Vec<_>>(), series)
}

/// A plot of distributions, whose x are quantiles below 1: each step of the axis leaves a tenth of the values that the one before
/// leaves.
pub(crate) fn svg_of_quantiles(captions: Captions<'_>, series: &[Series<'_>]) -> Option<String> {
    let place = |quantile: f64| -(1.0 - quantile).max(1e-12).log10();
    let placed = |s: &Series<'_>| s.points.iter().map(|(quantile, y)| (place(*quantile), *y)).collect();
    let series: Vec<Series<'_>> = series.iter().map(|s| Series { name: s.name, points: placed(s) }).collect();
    let x_max = largest(series.iter().flat_map(|s| s.points.iter().map(|(x, _)| *x)));
    let ticks: Vec<(f64, String)> = (0..=(x_max + 1e-6) as usize).map(|nines| (nines as f64, percent(nines))).collect();
    draw(captions, &ticks, &series)
}

/// 0, 90, 99, 99.9, ... percent.
fn percent(nines: usize) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        _ => format!("99.{} %", "9".repeat(nines - 2)),
    }
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.filter(|value| value.is_finite()).fold(0.0, f64::max)
}

fn draw(captions: Captions<'_>, ticks: &[(f64, String)], series: &[Series<'_>]) -> Option<String> {
    let Captions { title, x: x_title, y: unit } = captions;
    let all = || series.iter().flat_map(|s| s.points.iter().copied());
    let (x_max, y_max) = (largest(all().map(|(x, _)| x)), largest(all().map(|(_, y)| y)));
    if all().count() < 2 || x_max <= 0.0 {
        return None;
    }
    let y_step = round_step(y_max.max(1e-9));
    let (x_top, y_top) = (x_max, (y_max / y_step).ceil().max(1.0) * y_step);
    let x_at = |x: f64| LEFT + x / x_top * (WIDTH - LEFT - RIGHT);
    let y_at = |y: f64| HEIGHT - BOTTOM - y / y_top * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escape(title),
        escape(title)
    );
    let mut y = 0.0;
    while y <= y_top * 1.0001 {
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            y_at(y),
            y_at(y),
            LEFT - 6.0,
            y_at(y) + 4.0,
            short(y)
        );
        y += y_step;
    }
    for (x, label) in ticks {
        let _ =
            write!(out, "<text class=\"x\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>", x_at(*x), HEIGHT - BOTTOM + 16.0);
    }
    let _ = write!(
        out,
        "<text class=\"unit end\" x=\"{:.1}\" y=\"{:.1}\">{}</text><text class=\"unit\" x=\"4\" y=\"{:.1}\">{}</text>",
        WIDTH - RIGHT,
        HEIGHT - 2.0,
        escape(x_title),
        TOP - 12.0,
        escape(unit)
    );
    for (at, line) in series.iter().enumerate() {
        let mut path = String::new();
        for (x, y) in line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            let _ = write!(path, "{}{:.1} {:.1}", if path.is_empty() { "M" } else { "L" }, x_at(*x), y_at(*y));
        }
        let _ = write!(out, "<path class=\"s{}\" d=\"{path}\"><title>{}</title></path>", at % 6, escape(line.name));
    }
    out.push_str("</svg><ul class=\"legend\">");
    for (at, line) in series.iter().enumerate() {
        let _ = write!(out, "<li class=\"s{}\">{}</li>", at % 6, escape(line.name));
    }
    out.push_str("</ul></figure>");
    Some(out)
}

/// 1, 2 or 5 times a power of ten, so that about [`STEPS`] of them reach `max`.
fn round_step(max: f64) -> f64 {
    let raw = max / STEPS;
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= raw).unwrap_or(10.0);
    factor * power
}

/// 1500 as 1.5k.
fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.3}");
    format!("{}{suffix}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Text as it may stand in HTML and in attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn axes_are_round() {
        assert_eq!([round_step(10.0), round_step(37.0), round_step(0.9)], [5.0, 10.0, 0.5]);
        assert_eq!([short(1500.0), short(0.25), short(2e6), short(0.0)], ["1.5k", "0.25", "2M", "0"]);
    }

    #[test]
    fn a_line_goes_through_its_points() {
        let line = |points| Series { name: "a<b", points };
        let captions = Captions { title: "t", x: "s", y: "u" };
        assert_eq!(svg(captions, &[line(vec![])]), None);
        let drawn = svg(captions, &[line(vec![(0.0, 0.0), (1.0, f64::NAN), (2.0, 4.0)])]).unwrap();
        assert!(drawn.contains("M64.0 204.0L748.0 24.0") && drawn.contains("a&lt;b"), "{drawn}");
        assert!(!drawn.contains("NaN"));
        let drawn = svg_of_quantiles(captions, &[line(vec![(0.0, 1.0), (0.9, 2.0), (0.999, 4.0)])]).unwrap();
        assert!(drawn.contains("M64.0 159.0L292.0 114.0L748.0 24.0"), "a third of the axis for each nine: {drawn}");
        for label in [">0 %<", ">90 %<", ">99 %<", ">99.9 %<"] {
            assert!(drawn.contains(label), "{label}: {drawn}");
        }
    }
}
