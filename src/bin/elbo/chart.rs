//! `loss.png`: how the loss and its two terms went from epoch to epoch.

use crate::history::Epoch;
use image::{ImageFormat, Rgb, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use std::io::{self, Seek, Write};
use std::ops::Range;

/// Width and height of the picture.
const SIZE: (u32, u32) = (1500, 500);
/// It is drawn this much larger and reduced, which smooths the lines. Lengths below are those
/// of the larger drawing.
const OVERSAMPLING: u32 = 2;
const FONT: &str = "DejaVu Sans";
const INK: RGBColor = RGBColor(38, 38, 38);
const GRID: RGBColor = RGBColor(225, 225, 225);
/// Two of Okabe and Ito's colours, told apart by all kinds of eyes.
const TRAIN: RGBColor = RGBColor(230, 159, 0);
const TEST: RGBColor = RGBColor(0, 114, 178);

/// A term of the loss: its value in training and its value in the test.
type Term = [fn(&Epoch) -> f64; 2];

const TERMS: [Term; 3] = [
    [|e| e.train_loss, |e| e.test_loss],
    [|e| e.train_reconstruction, |e| e.test_reconstruction],
    [|e| e.train_kl, |e| e.test_kl],
];

/// Draws the three terms side by side, training and test in each, and writes them as PNG; `loss` is
/// the title of the first.
///
/// Side by side, because they differ so much in size that on one axis each would look flat.
pub fn write_png(epochs: &[Epoch], loss: &str, file: &mut (impl Write + Seek)) -> io::Result<()> {
    draw(epochs, loss)
        .map_err(|error| io::Error::other(error.to_string()))?
        .write_to(file, ImageFormat::Png)
        .map_err(io::Error::other)
}

fn draw(epochs: &[Epoch], loss: &str) -> Result<RgbImage, Box<dyn std::error::Error>> {
    let fonts: [(_, &'static [u8]); 2] = [
        (FontStyle::Normal, include_bytes!("font/DejaVuSans.ttf")),
        (FontStyle::Bold, include_bytes!("font/DejaVuSans-Bold.ttf")),
    ];
    for (style, bytes) in fonts {
        register_font(FONT, style, bytes).map_err(|_| "the embedded font cannot be read")?;
    }

    let size = (SIZE.0 * OVERSAMPLING, SIZE.1 * OVERSAMPLING);
    let mut image = RgbImage::new(size.0, size.1);
    let canvas = BitMapBackend::with_buffer(&mut image, size).into_drawing_area();
    canvas.fill(&WHITE)?;
    let titles = [loss, "Reconstruction", "KL divergence"];
    let panels = canvas.split_evenly((1, TERMS.len()));
    for ((panel, title), term) in panels.iter().zip(titles).zip(TERMS) {
        draw_panel(panel, epochs, title, term).map_err(|error| error.to_string())?;
    }
    canvas.present()?;
    drop(panels);
    drop(canvas);
    Ok(reduced(&image))
}

/// Each pixel the mean of the square that stands for it. (`image`'s own resampling would take
/// four floats a pixel on the way: more memory than training.)
fn reduced(image: &RgbImage) -> RgbImage {
    RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| {
        let mut sums = [0_u32; 3];
        for dy in 0..OVERSAMPLING {
            for dx in 0..OVERSAMPLING {
                let Rgb(colour) = image.get_pixel(x * OVERSAMPLING + dx, y * OVERSAMPLING + dy);
                for (sum, part) in sums.iter_mut().zip(colour) {
                    *sum += u32::from(*part);
                }
            }
        }
        Rgb(sums.map(|sum| (sum / OVERSAMPLING.pow(2)) as u8))
    })
}

fn draw_panel<'a>(
    panel: &DrawingArea<BitMapBackend<'a>, Shift>,
    epochs: &[Epoch],
    title: &str,
    [train, test]: Term,
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let values = value_range(epochs, train, test);
    let last = epochs.last().map_or(1, |epoch| epoch.epoch);
    let mut chart = ChartBuilder::on(panel)
        .caption(title, (FONT, 52, FontStyle::Bold, &INK))
        .margin(32)
        .x_label_area_size(104)
        .y_label_area_size(156)
        // Half an epoch of air on either side; a single epoch stands in the middle.
        .build_cartesian_2d(0.5..last as f64 + 0.5, values.clone())?;
    let text = |size: u32| (FONT, size).into_font().color(&INK);
    chart
        .configure_mesh()
        .axis_style(INK.stroke_width(2))
        .bold_line_style(GRID.stroke_width(2))
        .light_line_style(TRANSPARENT)
        .label_style(text(34))
        .axis_desc_style(text(38))
        .x_desc("epoch")
        .y_desc("nats per example")
        .x_labels(last.min(10) + 1)
        .y_labels(7)
        .set_all_tick_mark_size(10)
        .y_label_formatter(&|y| shortest(*y))
        .x_label_formatter(&|x| if x.fract() == 0.0 { format!("{x}") } else { String::new() })
        .draw()?;
    for (name, colour, value) in [("train", TRAIN, train), ("test", TEST, test)] {
        let points = epochs.iter().map(|epoch| (epoch.epoch as f64, value(epoch)));
        let line = colour.stroke_width(5);
        chart
            .draw_series(LineSeries::new(points.clone(), line))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 56, y)], line));
        // Marks show where the values are while there are few of them.
        if epochs.len() <= 30 {
            chart.draw_series(points.map(|point| Circle::new(point, 8, colour.filled())))?;
        }
    }
    // Where the curves do not end.
    let end = epochs.last().map_or(0.0, test);
    let legend = if end > values.start.midpoint(values.end) {
        SeriesLabelPosition::LowerRight
    } else {
        SeriesLabelPosition::UpperRight
    };
    chart
        .configure_series_labels()
        .position(legend)
        .margin(28)
        .legend_area_size(72)
        .label_font(text(36))
        .background_style(WHITE.mix(0.85))
        .border_style(GRID.stroke_width(2))
        .draw()?;
    Ok(())
}

/// A round number without the noise of its last bits: `105`, `17.8`.
fn shortest(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The values' range with a little air, never empty.
fn value_range(epochs: &[Epoch], train: fn(&Epoch) -> f64, test: fn(&Epoch) -> f64) -> Range<f64> {
    let values = || epochs.iter().flat_map(|epoch| [train(epoch), test(epoch)]);
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return 0.0..1.0;
    }
    let air = (0.06 * (high - low)).max(1e-3 * high.abs()).max(1e-6);
    low - air..high + air
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn history(epochs: usize) -> Vec<Epoch> {
        let epoch = |epoch: usize| {
            let fall = (-0.5 * epoch as f64).exp();
            let (reconstruction, kl) = (80.0 + 60.0 * fall, 25.0 - 12.0 * fall);
            Epoch {
                epoch,
                train_loss: reconstruction + kl + 2.0 * fall - 1.0,
                train_reconstruction: reconstruction + 2.0 * fall - 1.0,
                train_kl: kl,
                test_loss: reconstruction + kl + 0.4,
                test_reconstruction: reconstruction,
                test_kl: kl + 0.4,
                test_active_units: 20,
                beta: 1.0,
                learning_rate: 1e-3,
                images_per_second: None,
            }
        };
        (1..=epochs).map(epoch).collect()
    }

    #[test]
    fn both_curves_are_drawn_in_each_panel() {
        for epochs in [1, 2, 10, 200] {
            let image = draw(&history(epochs), "Loss (negative ELBO)").unwrap();
            for panel in 0..3 {
                for colour in [TRAIN, TEST] {
                    let third = SIZE.0 / 3;
                    let drawn = image
                        .enumerate_pixels()
                        .filter(|(x, _, pixel)| {
                            x / third == panel
                                && pixel.0[0].abs_diff(colour.0) < 40
                                && pixel.0[1].abs_diff(colour.1) < 40
                                && pixel.0[2].abs_diff(colour.2) < 40
                        })
                        .count();
                    // The legend's stroke alone has about 80.
                    assert!(drawn > 100, "{epochs} epochs, panel {panel}: {drawn} pixels");
                }
            }
        }
    }

    #[test]
    fn labels_are_short() {
        let cases =
            [(105.0, "105"), (17.8, "17.8"), (0.1 + 0.2, "0.3"), (0.0, "0"), (-2.5, "-2.5")];
        for (value, text) in cases {
            assert_eq!(shortest(value), text);
        }
    }

    #[test]
    fn values_that_never_change_still_have_a_range() {
        let mut flat = history(1);
        flat[0].train_kl = 0.0;
        flat[0].test_kl = 0.0;
        let range = value_range(&flat, |e| e.train_kl, |e| e.test_kl);
        assert!(range.start < 0.0 && range.end > 0.0);
        assert_eq!(value_range(&[], |e| e.train_kl, |e| e.test_kl), 0.0..1.0);
    }

    #[test]
    fn the_file_is_a_png() {
        let mut file = Cursor::new(Vec::new());
        write_png(&history(3), "Loss", &mut file).unwrap();
        assert!(file.get_ref().starts_with(b"\x89PNG"));
    }
}
