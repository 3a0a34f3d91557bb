//! Reading a folder of pictures as rows of bytes.
//!
//! Pictures of the folder itself, sorted by name; or, if it holds folders of pictures, those of each in turn,
//! sorted, with the name of the folder as their class. Each is turned as its EXIF data say, and what is
//! transparent lies on white.

use super::file;
use super::image_shape::ImageShape;
use crate::failure::{Failure, Result};
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, Rgb, RgbImage};
use ndarray::Array2;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// What can be read, for messages.
const EXPECTED: &str = "expected .png or .jpg files, or folders of such, one for each class";

/// How to read pictures.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageOptions {
    /// Width and height in pixels that each is resized to, if it has others.
    pub size: Option<[u32; 2]>,
    /// Red, green and blue; else gray.
    pub rgb: bool,
}

/// Pictures as rows.
#[derive(Debug)]
pub struct Images {
    /// Pixels in rows, a pixel's channels side by side.
    pub rows: Array2<u8>,
    pub shape: ImageShape,
    /// The class of each, by its folder.
    pub classes: Option<Vec<String>>,
}

/// Reads a folder.
pub fn read_folder(folder: &Path, options: ImageOptions) -> Result<Images> {
    let (pictures, folders) = contents(folder)?;
    let mut inner = Vec::new();
    for path in folders {
        inner.extend(contents(&path)?.0.into_iter().map(|picture| (class(&path), picture)));
    }
    match (pictures.is_empty(), inner.is_empty()) {
        (true, true) => Err(wrong(folder, &format!("no pictures; {EXPECTED}"))),
        (false, false) => Err(wrong(
            folder,
            &format!(
                "pictures both beside folders and in them, such as {} and {}; {EXPECTED}",
                pictures[0].display(),
                inner[0].1.display()
            ),
        )),
        (false, true) => read(&pictures, None, options),
        (true, false) => {
            let (classes, pictures): (Vec<_>, Vec<_>) = inner.into_iter().unzip();
            read(&pictures, Some(classes), options)
        }
    }
}

/// Reads one picture.
pub fn read_one(path: &Path, options: ImageOptions) -> Result<Images> {
    read(&[path.to_owned()], None, options)
}

fn class(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The pictures and the folders in a folder, sorted by name, without hidden ones and other files.
fn contents(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let cannot = |error: std::io::Error| wrong(folder, &format!("cannot read: {error}"));
    let (mut pictures, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            folders.push(path);
        } else if is_picture(&path) {
            pictures.push(path);
        }
    }
    pictures.sort();
    folders.sort();
    Ok((pictures, folders))
}

/// Whether a file has the name of a picture.
pub fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn read(paths: &[PathBuf], classes: Option<Vec<String>>, options: ImageOptions) -> Result<Images> {
    let channels = if options.rgb { 3 } else { 1 };
    let mut bytes = Vec::new();
    let mut size = options.size;
    for path in paths {
        let mut picture = open(path)?;
        let found = [picture.width(), picture.height()];
        let [width, height] = *size.get_or_insert(found);
        if found != [width, height] {
            if options.size.is_none() {
                return Err(wrong(
                    path,
                    &format!(
                        "{}x{} pixels (width x height), and {} has {width}x{height}; make them one size \
                         with --size {width}x{height}",
                        found[0],
                        found[1],
                        paths[0].display()
                    ),
                ));
            }
            picture = picture.resize_exact(width, height, FilterType::Triangle);
        }
        if options.rgb {
            bytes.extend(picture.into_rgb8().into_raw());
        } else {
            bytes.extend(picture.into_luma8().into_raw());
        }
    }
    let [width, height] = size.unwrap_or_default().map(|n| n as usize);
    let shape = ImageShape { height, width, channels };
    let rows = Array2::from_shape_vec([paths.len(), height * width * channels], bytes)
        .expect("every picture has the size");
    Ok(Images { rows, shape, classes })
}

fn open(path: &Path) -> Result<DynamicImage> {
    let file = file::open(path, EXPECTED)?;
    let reader = ImageReader::new(std::io::BufReader::new(file)).with_guessed_format();
    let reader = reader.map_err(|error| wrong(path, &format!("cannot read: {error}")))?;
    let decode = || {
        let mut decoder = reader.into_decoder()?;
        Limits::default().reserve(decoder.total_bytes())?;
        let orientation = decoder.orientation()?;
        let mut picture = DynamicImage::from_decoder(decoder)?;
        picture.apply_orientation(orientation);
        Ok(on_white(picture))
    };
    decode().map_err(|error: image::ImageError| wrong(path, &format!("damaged picture: {error}")))
}

/// The colors that show where a picture lies on white paper: under full transparency a file may hold any.
fn on_white(picture: DynamicImage) -> DynamicImage {
    if !picture.color().has_alpha() {
        return picture;
    }
    let picture = picture.into_rgba8();
    let over = |color: u8, alpha: u32| {
        ((u32::from(color) * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0;
        Rgb([red, green, blue].map(|color| over(color, alpha.into())))
    })
    .into()
}

fn wrong(path: &Path, reason: &str) -> Failure {
    Failure::Run(format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, LumaA, Rgba};

    /// A folder of its own for one test, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("elbo-images-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn picture(&self, name: &str, size: [u32; 2], color: [u8; 3]) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            RgbImage::from_pixel(size[0], size[1], Rgb(color)).save(path).unwrap();
        }

        fn read(&self, options: ImageOptions) -> std::result::Result<Images, String> {
            read_folder(&self.0, options).map_err(|failure| failure.to_string())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn pictures_are_rows_in_the_order_of_their_names() {
        let scratch = Scratch::new("order");
        scratch.picture("b.png", [3, 2], [255, 255, 255]);
        scratch.picture("a.PNG", [3, 2], [0, 0, 0]);
        scratch.picture("c.jpg", [3, 2], [200, 100, 50]);
        fs::write(scratch.0.join("notes.txt"), "no picture").unwrap();
        fs::write(scratch.0.join(".hidden.png"), "no picture").unwrap();
        let gray = scratch.read(ImageOptions::default()).unwrap();
        assert_eq!(gray.shape, ImageShape { height: 2, width: 3, channels: 1 });
        assert_eq!(gray.rows.dim(), (3, 6));
        assert_eq!((gray.rows[[0, 0]], gray.rows[[1, 5]]), (0, 255));
        assert!(gray.classes.is_none());
        let rgb = scratch.read(ImageOptions { rgb: true, ..ImageOptions::default() }).unwrap();
        assert_eq!((rgb.rows.dim(), rgb.shape.channels), ((3, 18), 3));
        let off = rgb
            .rows
            .row(2)
            .into_iter()
            .zip([200_i16, 100, 50])
            .map(|(&a, b)| (i16::from(a) - b).abs());
        assert!(off.max().unwrap() < 10, "{}", rgb.rows.row(2));
    }

    #[test]
    fn folders_are_classes() {
        let scratch = Scratch::new("classes");
        for (name, gray) in [("sun/2.png", 9), ("moon/1.png", 7), ("sun/1.png", 8)] {
            scratch.picture(name, [2, 2], [gray; 3]);
        }
        let images = scratch.read(ImageOptions::default()).unwrap();
        assert_eq!(images.classes.unwrap(), ["moon", "sun", "sun"]);
        assert_eq!(images.rows.column(0).to_vec(), [7, 8, 9]);
        scratch.picture("stray.png", [2, 2], [0; 3]);
        let message = scratch.read(ImageOptions::default()).unwrap_err();
        assert!(message.contains("pictures both beside folders and in them"), "{message}");
    }

    #[test]
    fn other_sizes_are_resized_or_an_error() {
        let scratch = Scratch::new("sizes");
        scratch.picture("a.png", [4, 2], [100; 3]);
        scratch.picture("b.png", [8, 8], [50; 3]);
        let message = scratch.read(ImageOptions::default()).unwrap_err();
        assert!(
            message.contains("b.png: 8x8 pixels (width x height)")
                && message.contains("--size 4x2"),
            "{message}"
        );
        let images = scratch.read(ImageOptions { size: Some([6, 3]), rgb: false }).unwrap();
        assert_eq!(images.shape, ImageShape { height: 3, width: 6, channels: 1 });
        assert!(images.rows.row(0).iter().all(|&gray| gray == 100));
        assert!(images.rows.row(1).iter().all(|&gray| gray == 50));
    }

    #[test]
    fn what_is_transparent_is_white() {
        let scratch = Scratch::new("transparent");
        let pixels = [[10, 20, 30, 255], [200, 0, 0, 0], [0, 255, 0, 51]];
        let colors = image::RgbaImage::from_fn(3, 1, |x, _| Rgba(pixels[x as usize]));
        colors.save(scratch.0.join("a.png")).unwrap();
        let grays = [[7, 255], [7, 0], [5, 51]];
        let gray = image::GrayAlphaImage::from_fn(3, 1, |x, _| LumaA(grays[x as usize]));
        gray.save(scratch.0.join("b.png")).unwrap();
        let images = scratch.read(ImageOptions { rgb: true, ..ImageOptions::default() }).unwrap();
        assert_eq!(images.rows.row(0).to_vec(), [10, 20, 30, 255, 255, 255, 204, 255, 204]);
        let images = scratch.read(ImageOptions::default()).unwrap();
        assert_eq!(images.rows.row(1).to_vec(), [7, 255, 205]);
    }

    #[test]
    fn a_photograph_is_turned_as_its_camera_says() {
        let scratch = Scratch::new("turned");
        let path = scratch.0.join("a.jpg");
        GrayImage::from_fn(32, 16, |x, _| Luma([if x < 16 { 20 } else { 230 }]))
            .save(&path)
            .unwrap();
        let mut file = fs::read(&path).unwrap();
        // One field, 0x112: 6, to be turned by a quarter, clockwise.
        let exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        file.splice(2..2, exif.iter().copied());
        fs::write(&path, file).unwrap();
        let images = scratch.read(ImageOptions::default()).unwrap();
        assert_eq!(images.shape, ImageShape { height: 32, width: 16, channels: 1 });
        let (top, bottom) = (images.rows[[0, 15]], images.rows[[0, 31 * 16]]);
        assert!(top < 60 && bottom > 190, "{top} {bottom}");
    }

    #[test]
    fn damage_names_the_file() {
        let scratch = Scratch::new("damage");
        assert!(
            scratch
                .read(ImageOptions::default())
                .unwrap_err()
                .contains("no pictures; expected .png")
        );
        scratch.picture("a.png", [40, 20], [100; 3]);
        let whole = fs::read(scratch.0.join("a.png")).unwrap();
        fs::write(scratch.0.join("b.png"), &whole[..whole.len() / 2]).unwrap();
        let message = scratch.read(ImageOptions::default()).unwrap_err();
        assert!(message.contains("b.png: damaged picture"), "{message}");
        fs::write(scratch.0.join("b.png"), "text").unwrap();
        assert!(
            scratch.read(ImageOptions::default()).unwrap_err().contains("b.png: damaged picture")
        );
    }
}
