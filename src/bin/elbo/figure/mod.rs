//! Figures: each is drawn once, by a function of any of plotters' backends, and returned as the bytes of a
//! PNG or an SVG.

pub mod contour;
pub mod history;
pub mod image_grid;
pub mod legend;
pub mod panel;
pub mod response_lines;
pub mod scale;
pub mod sheet;
mod smooth;
pub mod style;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageFormat, Rgb, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::*;
use smooth::Smooth;
use std::fmt::Display;
use std::io::Cursor;

/// Figures are drawn this much larger than they are. A PNG is reduced again, which smooths its lines; an
/// SVG is told its true size, and has positions of half a pixel. Lengths of the drawing functions are
/// those of the larger drawing.
pub const OVERSAMPLING: u32 = 2;

pub type Area<B> = DrawingArea<B, Shift>;

pub trait Figure {
    /// Width and height of the finished picture.
    fn size(&self) -> [u32; 2];

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> std::result::Result<(), DrawError>;

    /// An image in the finished picture, and where its upper left corner goes: its pixels stay as they
    /// are.
    fn image(&self) -> Option<([u32; 2], &RgbImage)> {
        None
    }
}

/// Why a figure could not be drawn. Plotters' own error has a parameter for each backend.
#[derive(Debug)]
pub struct DrawError(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for DrawError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

impl From<image::ImageError> for DrawError {
    fn from(error: image::ImageError) -> Self {
        Self(error.to_string())
    }
}

impl Display for DrawError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The format of a figure's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureFormat {
    Png,
    Svg,
}

/// A figure in a format.
pub fn render(
    figure: &impl Figure,
    format: FigureFormat,
) -> std::result::Result<Vec<u8>, DrawError> {
    match format {
        FigureFormat::Png => png_bytes(figure),
        FigureFormat::Svg => svg(figure).map(String::into_bytes),
    }
}

fn png_bytes(figure: &impl Figure) -> std::result::Result<Vec<u8>, DrawError> {
    let picture = png(figure)?;
    let (width, height) = picture.dimensions();
    let mut bytes = Vec::new();
    // Even areas and thin lines are shortest without a filter; a sheet of gray images as gray.
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::NoFilter);
    if picture.pixels().all(|Rgb([r, g, b])| r == g && g == b) {
        let gray: Vec<u8> = picture.pixels().map(|pixel| pixel.0[0]).collect();
        encoder.write_image(&gray, width, height, ExtendedColorType::L8)?;
    } else {
        encoder.write_image(picture.as_raw(), width, height, ExtendedColorType::Rgb8)?;
    }
    Ok(bytes)
}

pub fn png(figure: &impl Figure) -> std::result::Result<RgbImage, DrawError> {
    let [width, height] = figure.size().map(|n| n * OVERSAMPLING);
    let mut large = RgbImage::new(width, height);
    let canvas = Smooth(BitMapBackend::with_buffer(&mut large, (width, height)));
    let area = canvas.into_drawing_area();
    draw(figure, &area)?;
    drop(area);
    let mut picture = reduced(&large);
    if let Some(([x, y], image)) = figure.image() {
        image::imageops::replace(&mut picture, image, x.into(), y.into());
    }
    Ok(picture)
}

pub fn svg(figure: &impl Figure) -> std::result::Result<String, DrawError> {
    let size = figure.size();
    let [width, height] = size.map(|n| n * OVERSAMPLING);
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
    draw(figure, &area)?;
    drop(area);
    let large = format!("width=\"{width}\" height=\"{height}\"");
    let mut text =
        text.replacen(&large, &format!("width=\"{}\" height=\"{}\"", size[0], size[1]), 1);
    if let Some((at, image)) = figure.image() {
        let end = text.rfind("</svg>").unwrap_or(text.len());
        text.insert_str(end, &embedded(at, image)?);
    }
    Ok(text)
}

fn draw<B: DrawingBackend>(
    figure: &impl Figure,
    area: &Area<B>,
) -> std::result::Result<(), DrawError> {
    style::register_fonts().map_err(|error| DrawError(error.to_owned()))?;
    area.fill(&WHITE)?;
    figure.draw(area)?;
    Ok(area.present()?)
}

/// An `image` element that holds its own PNG.
fn embedded([x, y]: [u32; 2], image: &RgbImage) -> std::result::Result<String, DrawError> {
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png)?;
    let [x, y, width, height] = [x, y, image.width(), image.height()].map(|n| n * OVERSAMPLING);
    Ok(format!(
        "<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
         style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{}\"/>\n",
        base64(png.get_ref())
    ))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit > group.len() {
                text.push('=');
            } else {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
            }
        }
    }
    text
}

/// Each pixel the mean of the square that stands for it. (`image`'s own resampling would take
/// four floats a pixel on the way: more memory than training.)
fn reduced(image: &RgbImage) -> RgbImage {
    let [width, height] = [image.width(), image.height()].map(|n| n / OVERSAMPLING);
    RgbImage::from_fn(width, height, |x, y| {
        let mut sums = [0_u32; 3];
        for dy in 0..OVERSAMPLING {
            for dx in 0..OVERSAMPLING {
                let Rgb(color) = image.get_pixel(x * OVERSAMPLING + dx, y * OVERSAMPLING + dy);
                for (sum, part) in sums.iter_mut().zip(color) {
                    *sum += u32::from(*part);
                }
            }
        }
        Rgb(sums.map(|sum| (sum / OVERSAMPLING.pow(2)) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Patch(RgbImage);

    impl Figure for Patch {
        fn size(&self) -> [u32; 2] {
            [60, 40]
        }

        fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> std::result::Result<(), DrawError> {
            area.draw(&Rectangle::new([(0, 0), (20, 20)], BLUE.filled()))?;
            Ok(())
        }

        fn image(&self) -> Option<([u32; 2], &RgbImage)> {
            // One of the figure's own size covers it.
            Some((if self.0.width() == 60 { [0, 0] } else { [30, 10] }, &self.0))
        }
    }

    #[test]
    fn the_vectors_of_rfc_4648() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn both_formats_have_the_size_and_an_image_keeps_its_pixels() {
        let figure = Patch(RgbImage::from_pixel(3, 2, Rgb([1, 2, 3])));
        let picture = png(&figure).unwrap();
        assert_eq!(picture.dimensions(), (60, 40));
        assert_eq!(picture.get_pixel(5, 5), &Rgb([0, 0, 255]));
        assert_eq!(picture.get_pixel(32, 11), &Rgb([1, 2, 3]));
        assert_eq!(picture.get_pixel(33, 11), &Rgb([255, 255, 255]));
        for (figure, color) in [(figure, true), (Patch(RgbImage::new(60, 40)), false)] {
            let bytes = render(&figure, FigureFormat::Png).unwrap();
            let read = image::load_from_memory(&bytes).unwrap();
            assert_eq!(read.color().has_color(), color);
            assert_eq!(read.into_rgb8(), png(&figure).unwrap());
        }
        let figure = Patch(RgbImage::from_pixel(3, 2, Rgb([1, 2, 3])));
        let text = svg(&figure).unwrap();
        assert!(
            text.starts_with("<svg width=\"60\" height=\"40\" viewBox=\"0 0 120 80\""),
            "{text}"
        );
        assert!(text.contains("<image x=\"60\" y=\"20\" width=\"6\" height=\"4\""), "{text}");
        assert!(text.trim_end().ends_with("</svg>"), "{text}");
    }
}
