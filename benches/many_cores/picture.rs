//! The prediction as a picture.

use std::fmt::Write;

/// A line of the picture: threads, and how many times as fast as one.
pub struct Curve {
    pub label: String,
    pub points: Vec<(usize, f64)>,
    pub color: &'static str,
    pub dashes: Option<&'static str>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
/// The corners of the axes.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 500.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 392.0;
/// Powers of two along both axes.
const MOST: f64 = 7.0;

/// Draws curves in a plane whose axes are both logarithmic, and a line for the limit.
pub fn svg(title: &str, curves: &[Curve]) -> String {
    let x = |threads: f64| LEFT + threads.log2() / MOST * (RIGHT - LEFT);
    let y = |times: f64| BOTTOM - times.log2() / MOST * (BOTTOM - TOP);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
<text x="{LEFT}" y="22" font-size="14">{title}</text>
"##
    );
    let mut line = |text: String| writeln!(svg, "{text}").expect("a string takes any text");
    for power in 0..=MOST as u32 {
        let n = f64::from(1_u32 << power);
        let (x, y) = (x(n), y(n));
        line(format!(
            r##"<path d="M{x:.0} {BOTTOM}V{TOP}M{LEFT} {y:.0}H{RIGHT}" stroke="#ddd"/><text x="{x:.0}" y="{:.0}" text-anchor="middle">{n}</text><text x="{:.0}" y="{:.0}" text-anchor="end">{n}</text>"##,
            BOTTOM + 18.0,
            LEFT - 6.0,
            y + 4.0,
        ));
    }
    line(format!(
        r##"<text x="{:.0}" y="{:.0}" text-anchor="middle">threads</text>"##,
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 36.0,
    ));
    line(format!(
        r##"<text x="14" y="{:.0}" transform="rotate(-90 14 {0:.0})" text-anchor="middle">times as fast as one thread</text>"##,
        (TOP + BOTTOM) / 2.0,
    ));
    line(format!(
        r##"<path d="M{LEFT} {BOTTOM}L{RIGHT} {TOP}" stroke="#999" stroke-dasharray="1 4" fill="none"/>"##
    ));
    for (i, Curve { label, points, color, dashes }) in curves.iter().enumerate() {
        let points: Vec<_> = points
            .iter()
            .map(|&(threads, times)| format!("{:.1},{:.1}", x(threads as f64), y(times)))
            .collect();
        let style = format!(
            r#"fill="none" stroke="{color}" stroke-width="2"{}"#,
            dashes.map(|d| format!(r#" stroke-dasharray="{d}""#)).unwrap_or_default()
        );
        line(format!(r#"<polyline points="{}" {style}/>"#, points.join(" ")));
        // The key.
        let y = TOP + 12.0 + 20.0 * i as f64;
        line(format!(
            r#"<path d="M{:.0} {y:.0}h28" {style}/><text x="{:.0}" y="{:.0}">{label}</text>"#,
            RIGHT + 16.0,
            RIGHT + 50.0,
            y + 4.0,
        ));
    }
    svg + "</svg>\n"
}
