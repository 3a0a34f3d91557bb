//! Figures: each is drawn once, on any of plotters' backends, and rendered as the bytes of a PNG or an SVG.

mod antialias;
pub mod history;
pub mod image_grid;
pub mod legend;
pub mod panel;
pub mod response_lines;
pub mod scale;
pub mod sheet;
pub mod style;

use antialias::AntiAliased;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageFormat, Rgb, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::fmt::Display;
use std::io::Cursor;

/// Factor by which a figure is drawn larger than its final size. A PNG is reduced afterwards, which smooths
/// its lines; an SVG declares its true size and so has positions of half a pixel. Lengths in the drawing
/// functions are pixels of the larger drawing.
pub const OVERSAMPLING: u32 = 2;

pub type Area<B> = DrawingArea<B, Shift>;

pub type DrawResult<T = ()> = Result<T, DrawError>;

pub trait Figure {
    /// Width and height of the finished figure.
    fn size(&self) -> [u32; 2];

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult;

    /// An image to embed pixel by pixel in the finished figure, and its upper left corner.
    fn image(&self) -> Option<([u32; 2], &RgbImage)> {
        None
    }
}

/// The message of an error while drawing. Plotters' own error has a type parameter for each backend.
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

/// The file format of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureFormat {
    Png,
    Svg,
}

/// Draws a figure and encodes it.
pub fn render(figure: &impl Figure, format: FigureFormat) -> DrawResult<Vec<u8>> {
    match format {
        FigureFormat::Png => png_bytes(figure),
        FigureFormat::Svg => svg(figure).map(String::into_bytes),
    }
}

fn png_bytes(figure: &impl Figure) -> DrawResult<Vec<u8>> {
    let picture = png(figure)?;
    let (width, height) = picture.dimensions();
    let mut bytes = Vec::new();
    // Without a filter, flat areas and thin lines compress best. A sheet of gray images is stored as gray.
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

pub fn png(figure: &impl Figure) -> DrawResult<RgbImage> {
    let [width, height] = figure.size().map(|n| n * OVERSAMPLING);
    let mut large = RgbImage::new(width, height);
    let canvas = AntiAliased(BitMapBackend::with_buffer(&mut large, (width, height)));
    let area = canvas.into_drawing_area();
    draw(figure, &area)?;
    drop(area);
    let mut picture = reduced(&large);
    if let Some(([x, y], image)) = figure.image() {
        image::imageops::replace(&mut picture, image, x.into(), y.into());
    }
    Ok(picture)
}

pub fn svg(figure: &impl Figure) -> DrawResult<String> {
    let size = figure.size();
    let [width, height] = size.map(|n| n * OVERSAMPLING);
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
    draw(figure, &area)?;
    drop(area);
    // Plotters writes the size of the drawing as the size of the figure.
    let large = format!("width=\"{width}\" height=\"{height}\"");
    let mut text =
        text.replacen(&large, &format!("width=\"{}\" height=\"{}\"", size[0], size[1]), 1);
    if let Some((at, image)) = figure.image() {
        let end = text.rfind("</svg>").unwrap_or(text.len());
        text.insert_str(end, &image_element(at, image)?);
    }
    Ok(text)
}

fn draw<B: DrawingBackend>(figure: &impl Figure, area: &Area<B>) -> DrawResult {
    style::register_fonts().map_err(|error| DrawError(error.to_owned()))?;
    area.fill(&WHITE)?;
    figure.draw(area)?;
    Ok(area.present()?)
}

/// An `image` element with the PNG in a data URL.
fn image_element([x, y]: [u32; 2], image: &RgbImage) -> DrawResult<String> {
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png)?;
    let [x, y, width, height] = [x, y, image.width(), image.height()].map(|n| n * OVERSAMPLING);
    Ok(format!(
        "<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
         style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{}\"/>\n",
        BASE64.encode(png.get_ref())
    ))
}

/// Averages each square of `OVERSAMPLING` pixels a side. (`image`'s own resampling allocates four floats
/// per pixel on the way: more memory than training takes.)
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

        fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult {
            area.draw(&Rectangle::new([(0, 0), (20, 20)], BLUE.filled()))?;
            Ok(())
        }

        fn image(&self) -> Option<([u32; 2], &RgbImage)> {
            // An image of the figure's own size covers it.
            Some((if self.0.width() == 60 { [0, 0] } else { [30, 10] }, &self.0))
        }
    }

    #[test]
    fn png_and_svg_have_the_figure_size_and_keep_embedded_pixels() {
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
        // The data URL holds the image.
        let (_, data) = text.split_once("base64,").unwrap();
        let png = BASE64.decode(data.split('"').next().unwrap()).unwrap();
        assert_eq!(image::load_from_memory(&png).unwrap().into_rgb8(), figure.0);
    }
}
