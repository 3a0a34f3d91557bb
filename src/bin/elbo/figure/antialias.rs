//! Anti-aliased lines and discs for plotters' bitmap backend, and centered text.
//!
//! Plotters' own bitmap lines are polygons between whole pixels, thinner the flatter they are, and its
//! centered text sits too high. Here the coverage of a pixel follows from its distance to the line: ½ at the
//! edge, 0 half a pixel beyond it.

use super::style::with_known_glyphs;
use plotters::prelude::*;
use plotters_backend::text_anchor::VPos;
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind, FontTransform,
};

type Result<B> = std::result::Result<(), DrawingErrorKind<<B as DrawingBackend>::ErrorType>>;

pub struct AntiAliased<B>(pub B);

impl<B: DrawingBackend> AntiAliased<B> {
    /// Colors the pixels within `reach` of the segment between two points.
    fn stroke(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        reach: f64,
        color: BackendColor,
    ) -> Result<B> {
        if color.alpha == 0.0 {
            return Ok(());
        }
        let (width, height) = self.0.get_size();
        let [a, b] = [from, to].map(|(x, y)| (f64::from(x), f64::from(y)));
        let along = (b.0 - a.0, b.1 - a.1);
        let square = along.0 * along.0 + along.1 * along.1;
        let edge = reach + 0.5;
        let whole = |low: f64, high: f64, end: u32| {
            (low.floor().max(0.0) as i32)..=(high.ceil().min(f64::from(end) - 1.0) as i32)
        };
        for y in whole(a.1.min(b.1) - edge, a.1.max(b.1) + edge, height) {
            let row = f64::from(y);
            // The stretch of the segment that is near this row.
            let (mut low, mut high) = (a.0.min(b.0), a.0.max(b.0));
            if along.1 != 0.0 {
                let x = |row: f64| a.0 + along.0 * ((row - a.1) / along.1).clamp(0.0, 1.0);
                let (above, below) = (x(row - edge), x(row + edge));
                (low, high) = (above.min(below), above.max(below));
            }
            for x in whole(low - edge, high + edge, width) {
                let off = (f64::from(x) - a.0, row - a.1);
                let part = if square > 0.0 {
                    ((off.0 * along.0 + off.1 * along.1) / square).clamp(0.0, 1.0)
                } else {
                    0.0
                };
                let (dx, dy) = (off.0 - part * along.0, off.1 - part * along.1);
                let covered = (edge - (dx * dx + dy * dy).sqrt()).clamp(0.0, 1.0);
                if covered > 0.0 {
                    let alpha = color.alpha * covered;
                    self.0.draw_pixel((x, y), BackendColor { alpha, ..color })?;
                }
            }
        }
        Ok(())
    }
}

impl<B: DrawingBackend> DrawingBackend for AntiAliased<B> {
    type ErrorType = B::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.0.get_size()
    }

    fn ensure_prepared(&mut self) -> Result<B> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Result<B> {
        self.0.present()
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Result<B> {
        self.0.draw_pixel(point, color)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Result<B> {
        // Vertical and horizontal lines need no anti-aliasing.
        if from.0 == to.0 || from.1 == to.1 {
            return self.0.draw_line(from, to, style);
        }
        self.stroke(from, to, f64::from(style.stroke_width()) / 2.0, style.color())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Result<B> {
        let points: Vec<BackendCoord> = path.into_iter().collect();
        for ends in points.windows(2) {
            self.stroke(ends[0], ends[1], f64::from(style.stroke_width()) / 2.0, style.color())?;
        }
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Result<B> {
        self.0.draw_rect(upper_left, bottom_right, style, fill)
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Result<B> {
        if fill {
            return self.stroke(center, center, f64::from(radius), style.color());
        }
        self.0.draw_circle(center, radius, style, fill)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vert: I,
        style: &S,
    ) -> Result<B> {
        self.0.fill_polygon(vert, style)
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Result<B> {
        // Lowers centered text to the middle of its capital letters.
        let down = match style.anchor().v_pos {
            VPos::Center => (0.2 * style.size()).round() as i32,
            VPos::Top | VPos::Bottom => 0,
        };
        let place = match style.transform() {
            FontTransform::None => (x, y + down),
            FontTransform::Rotate90 => (x - down, y),
            FontTransform::Rotate180 => (x, y - down),
            FontTransform::Rotate270 => (x + down, y),
        };
        self.0.draw_text(&with_known_glyphs(text), style, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The darkness added to a white image, in black pixels.
    fn ink(draw: impl FnOnce(&mut AntiAliased<BitMapBackend>)) -> f64 {
        let mut pixels = vec![255; 3 * 100 * 80];
        draw(&mut AntiAliased(BitMapBackend::with_buffer(&mut pixels, (100, 80))));
        pixels.iter().map(|&value| f64::from(255 - value)).sum::<f64>() / (3.0 * 255.0)
    }

    #[test]
    fn lines_have_the_same_width_in_all_directions() {
        for to in [(80, 11), (80, 30), (60, 60), (12, 70)] {
            let ink = ink(|area| {
                area.draw_path([(10, 10), to], &Color::stroke_width(&BLACK, 5)).unwrap()
            });
            let length = f64::from((to.0 - 10_i32).pow(2) + (to.1 - 10_i32).pow(2)).sqrt();
            // Its two round ends make a disc.
            let area = 5.0 * length + std::f64::consts::PI * 2.5 * 2.5;
            assert!((ink / area - 1.0).abs() < 0.03, "{to:?}: {ink} of {area}");
        }
    }

    #[test]
    fn discs_have_their_area_and_are_clipped_at_the_border() {
        let disc = |at| ink(|area| area.draw_circle(at, 8, &BLACK.filled(), true).unwrap());
        let area = std::f64::consts::PI * 64.0;
        assert!((disc((50, 40)) / area - 1.0).abs() < 0.03, "{}", disc((50, 40)));
        assert!(disc((0, 40)) < 0.6 * area && disc((0, 40)) > 0.5 * area);
        assert_eq!(disc((-50, 40)), 0.0);
        let line = ink(|area| area.draw_path([(-9, -9), (300, 200)], &BLACK).unwrap());
        assert!(line > 90.0, "{line}");
    }
}
