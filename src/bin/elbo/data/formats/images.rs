//! Reader of a directory of images as rows of pixels.
//!
//! The images of the directory itself, sorted by name; or, if it has subdirectories, the images of each
//! subdirectory in turn, whose name is their class. Hidden files and those that systems leave behind are passed
//! over.

use super::image_file;
use super::image_shape::ImageShape;
use crate::failure::{Failure, Result};
use crate::text::listed;
use image::DynamicImage;
use image::imageops::FilterType;
use ndarray::Array2;
use std::fs;
use std::path::{Path, PathBuf};

/// Accepted contents of a directory, for messages.
const EXPECTED: &str = "expected .png or .jpg images, or one directory of them per class";

/// Files and directories that systems leave behind, in lowercase.
const LEFT_BEHIND: [&str; 6] =
    ["thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"];

/// Depth to which directories are searched for images that would be passed over.
const DEEPEST: usize = 8;

/// Options for reading images.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageOptions {
    /// Width and height in pixels to which images of any other size are resized.
    pub size: Option<[u32; 2]>,
    /// Reads red, green and blue instead of gray.
    pub rgb: bool,
    /// Value that is read as 1, if it is not the largest possible one.
    pub white: Option<u16>,
}

/// Images as rows.
#[derive(Debug)]
pub struct Images {
    /// One image per row; the channels of a pixel are adjacent.
    pub rows: PixelRows,
    pub shape: ImageShape,
    /// Class of each image, if they are in one directory per class.
    pub classes: Option<Vec<String>>,
    /// File of each image.
    pub files: Vec<PathBuf>,
    /// Warning about images that are not read, if there are any.
    pub warning: Option<String>,
}

/// Pixels in the precision of their files.
#[derive(Debug)]
pub enum PixelRows {
    /// All images have 8 bits per channel; these are their bytes.
    U8(Array2<u8>),
    /// Some image has 16 bits per channel; 0 is black and 1 is white.
    F32(Array2<f32>),
}

/// Reads a directory of images.
pub fn read_directory(directory: &Path, options: ImageOptions) -> Result<Images> {
    let Contents { images: direct, mut unread, directories } = Contents::of(directory)?;
    let mut inner = Vec::new();
    let mut without = Vec::new();
    for path in directories {
        let contents = Contents::of(&path)?;
        if let Some(deeper) =
            contents.directories.iter().find_map(|path| first_image(path, DEEPEST))
        {
            return Err(wrong(
                &deeper,
                &format!("the image is in a subdirectory of a subdirectory; {EXPECTED}"),
            ));
        }
        if contents.images.is_empty() {
            without.push((path, contents.unread.clone()));
        } else {
            inner.extend(contents.images.into_iter().map(|image| (class(&path), image)));
        }
        unread.extend(contents.unread);
    }
    let warning = unread_images(directory, &unread);
    match (direct.is_empty(), inner.is_empty()) {
        (true, true) => Err(wrong(
            directory,
            &match &unread[..] {
                [] => format!("no images found; {EXPECTED}"),
                unread => format!(
                    "no PNG or JPEG images found, but {}; convert them to PNG or JPEG",
                    names(directory, unread)
                ),
            },
        )),
        (false, false) => Err(wrong(
            directory,
            &format!(
                "some images are in subdirectories and some are not, such as {1} and {0}; {EXPECTED}",
                direct[0].display(),
                inner[0].1.display()
            ),
        )),
        (false, true) => Ok(Images { warning, ..read(&direct, None, options)? }),
        (true, false) => {
            if let Some((path, unread)) = without.first() {
                return Err(wrong(path, &empty_class(path, unread)));
            }
            let (classes, images): (Vec<_>, Vec<_>) = inner.into_iter().unzip();
            Ok(Images { warning, ..read(&images, Some(classes), options)? })
        }
    }
}

/// Reads a single image.
pub fn read_one(path: &Path, options: ImageOptions) -> Result<Images> {
    read(&[path.to_owned()], None, options)
}

/// Message about a class directory without an image that can be read.
fn empty_class(directory: &Path, unread: &[PathBuf]) -> String {
    match unread {
        [] => "the class directory has no images; add some or remove the directory".to_owned(),
        unread => format!(
            "the class directory has no PNG or JPEG images, but {}; convert them to PNG or JPEG, or remove the \
             directory",
            names(directory, unread)
        ),
    }
}

/// Warning about images of formats that are not read.
fn unread_images(directory: &Path, unread: &[PathBuf]) -> Option<String> {
    let count = match unread.len() {
        0 => return None,
        1 => "1 image is not read because it is".to_owned(),
        count => format!("{count} images are not read because they are"),
    };
    let directory_name = directory.display();
    let names = names(directory, unread);
    Some(format!("{directory_name}: {count} neither PNG nor JPEG: {names}"))
}

/// Lists files by their paths below a directory.
fn names(directory: &Path, files: &[PathBuf]) -> String {
    let name = |file: &PathBuf| file.strip_prefix(directory).unwrap_or(file).display().to_string();
    listed(&files.iter().map(name).collect::<Vec<_>>())
}

fn class(directory: &Path) -> String {
    directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Contents of a directory, each sorted by name.
#[derive(Default)]
struct Contents {
    /// PNG and JPEG images.
    images: Vec<PathBuf>,
    /// Images of other formats.
    unread: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Contents {
    /// Lists a directory without hidden entries and those that systems leave behind.
    fn of(directory: &Path) -> Result<Self> {
        let cannot = |error: std::io::Error| Failure::cannot_read(&directory.display(), &error);
        let mut contents = Self::default();
        for entry in fs::read_dir(directory).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            if name.starts_with('.') || LEFT_BEHIND.contains(&&name[..]) {
                continue;
            }
            if path.is_dir() {
                contents.directories.push(path);
            } else if image_file::is_readable(&path) {
                contents.images.push(path);
            } else if image_file::is_unreadable(&path) {
                contents.unread.push(path);
            }
        }
        for paths in [&mut contents.images, &mut contents.unread, &mut contents.directories] {
            paths.sort();
        }
        Ok(contents)
    }
}

/// Returns an image of any format in a directory or below it, down to `depth` levels.
fn first_image(directory: &Path, depth: usize) -> Option<PathBuf> {
    let Contents { images, unread, directories } = Contents::of(directory).ok()?;
    let deeper = || {
        (depth > 0)
            .then(|| directories.iter().find_map(|path| first_image(path, depth - 1)))
            .flatten()
    };
    images.into_iter().chain(unread).next().or_else(deeper)
}

fn read(paths: &[PathBuf], classes: Option<Vec<String>>, options: ImageOptions) -> Result<Images> {
    let channels = if options.rgb { 3 } else { 1 };
    let mut pixels = Pixels { stored: Stored::U8(Vec::new()), white: options.white };
    let mut size = options.size;
    for path in paths {
        let mut image = image_file::read(path)?;
        let found = [image.width(), image.height()];
        let [width, height] = *size.get_or_insert(found);
        if found != [width, height] {
            if options.size.is_none() {
                return Err(wrong(
                    path,
                    &format!(
                        "the image is {}x{} pixels (width x height), but {} is {width}x{height}; resize all \
                         images with --size {width}x{height}",
                        found[0],
                        found[1],
                        paths[0].display()
                    ),
                ));
            }
            image = image.resize_exact(width, height, FilterType::Triangle);
        }
        pixels.add(image, options.rgb);
    }
    let [width, height] = size.unwrap_or_default().map(|n| n as usize);
    let shape = ImageShape::new(height, width, channels);
    Ok(Images {
        rows: pixels.into_rows([paths.len(), shape.elements()]),
        shape,
        classes,
        files: paths.to_vec(),
        warning: None,
    })
}

/// Pixels of the images so far.
struct Pixels {
    stored: Stored,
    white: Option<u16>,
}

enum Stored {
    U8(Vec<u8>),
    F32(Vec<f32>),
}

impl Pixels {
    /// Appends an image; from the first one of 16 bits on, all pixels are floats.
    fn add(&mut self, image: DynamicImage, rgb: bool) {
        let [white, deep_white] = [255, 65_535].map(|white| f32::from(self.white.unwrap_or(white)));
        let float = |byte: u8| f32::from(byte) / white;
        let deep = image_file::is_deep(&image);
        if deep && let Stored::U8(bytes) = &self.stored {
            self.stored = Stored::F32(bytes.iter().copied().map(float).collect());
        }
        match &mut self.stored {
            Stored::F32(floats) if deep => {
                let words = if rgb {
                    image.into_rgb16().into_raw()
                } else {
                    image.into_luma16().into_raw()
                };
                floats.extend(words.into_iter().map(|word| f32::from(word) / deep_white));
            }
            Stored::F32(floats) => floats.extend(bytes(image, rgb).into_iter().map(float)),
            Stored::U8(all) => all.extend(bytes(image, rgb)),
        }
    }

    fn into_rows(self, shape: [usize; 2]) -> PixelRows {
        const ONE_SIZE: &str = "images of one size";
        match self.stored {
            Stored::U8(bytes) => {
                PixelRows::U8(Array2::from_shape_vec(shape, bytes).expect(ONE_SIZE))
            }
            Stored::F32(floats) => {
                PixelRows::F32(Array2::from_shape_vec(shape, floats).expect(ONE_SIZE))
            }
        }
    }
}

fn bytes(image: DynamicImage, rgb: bool) -> Vec<u8> {
    if rgb { image.into_rgb8().into_raw() } else { image.into_luma8().into_raw() }
}

fn wrong(path: &Path, reason: &str) -> Failure {
    Failure::Run(format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use image::{ImageBuffer, Luma, Rgb, RgbImage};

    fn save(scratch: &Scratch, name: &str, size: [u32; 2], color: [u8; 3]) {
        let path = scratch.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(size[0], size[1], Rgb(color)).save(path).unwrap();
    }

    fn try_read(scratch: &Scratch, options: ImageOptions) -> std::result::Result<Images, String> {
        read_directory(&scratch.0, options).map_err(|failure| failure.to_string())
    }

    fn bytes(images: &Images) -> &Array2<u8> {
        match &images.rows {
            PixelRows::U8(rows) => rows,
            PixelRows::F32(_) => panic!("images of 8 bits"),
        }
    }

    #[test]
    fn reads_images_in_the_order_of_their_names() {
        let scratch = Scratch::new("images-order");
        save(&scratch, "b.png", [3, 2], [255, 255, 255]);
        save(&scratch, "a.PNG", [3, 2], [0, 0, 0]);
        save(&scratch, "c.jpg", [3, 2], [200, 100, 50]);
        fs::write(scratch.0.join("notes.txt"), "no image").unwrap();
        fs::write(scratch.0.join(".hidden.png"), "no image").unwrap();
        let gray = try_read(&scratch, ImageOptions::default()).unwrap();
        assert_eq!(gray.shape, ImageShape::new(2, 3, 1));
        assert_eq!(bytes(&gray).dim(), (3, 6));
        assert_eq!((bytes(&gray)[[0, 0]], bytes(&gray)[[1, 5]]), (0, 255));
        assert!(gray.classes.is_none());
        let rgb =
            try_read(&scratch, ImageOptions { rgb: true, ..ImageOptions::default() }).unwrap();
        assert_eq!((bytes(&rgb).dim(), rgb.shape.channels), ((3, 18), 3));
        let off = bytes(&rgb)
            .row(2)
            .into_iter()
            .zip([200_i16, 100, 50])
            .map(|(&a, b)| (i16::from(a) - b).abs());
        assert!(off.max().unwrap() < 10, "{}", bytes(&rgb).row(2));
    }

    #[test]
    fn subdirectories_are_classes() {
        let scratch = Scratch::new("images-classes");
        for (name, gray) in [("sun/2.png", 9), ("moon/1.png", 7), ("sun/1.png", 8)] {
            save(&scratch, name, [2, 2], [gray; 3]);
        }
        let images = try_read(&scratch, ImageOptions::default()).unwrap();
        assert_eq!(bytes(&images).column(0).to_vec(), [7, 8, 9]);
        assert_eq!(images.classes.unwrap(), ["moon", "sun", "sun"]);
        save(&scratch, "stray.png", [2, 2], [0; 3]);
        let message = try_read(&scratch, ImageOptions::default()).unwrap_err();
        assert!(
            message.contains("some images are in subdirectories and some are not"),
            "{message}"
        );
    }

    #[test]
    fn resizes_or_rejects_other_sizes() {
        let scratch = Scratch::new("images-sizes");
        save(&scratch, "a.png", [4, 2], [100; 3]);
        save(&scratch, "b.png", [8, 8], [50; 3]);
        let message = try_read(&scratch, ImageOptions::default()).unwrap_err();
        assert!(
            message.contains("b.png: the image is 8x8 pixels") && message.contains("--size 4x2"),
            "{message}"
        );
        let images =
            try_read(&scratch, ImageOptions { size: Some([6, 3]), ..ImageOptions::default() })
                .unwrap();
        assert_eq!(images.shape, ImageShape::new(3, 6, 1));
        assert!(bytes(&images).row(0).iter().all(|&gray| gray == 100));
        assert!(bytes(&images).row(1).iter().all(|&gray| gray == 50));
    }

    #[test]
    fn names_the_damaged_file() {
        let scratch = Scratch::new("images-damage");
        assert!(
            try_read(&scratch, ImageOptions::default())
                .unwrap_err()
                .contains("no images found; expected .png")
        );
        save(&scratch, "a.png", [40, 20], [100; 3]);
        let whole = fs::read(scratch.0.join("a.png")).unwrap();
        fs::write(scratch.0.join("b.png"), &whole[..whole.len() / 2]).unwrap();
        let message = try_read(&scratch, ImageOptions::default()).unwrap_err();
        assert!(message.contains("b.png: damaged image"), "{message}");
        fs::write(scratch.0.join("b.png"), "text").unwrap();
        assert!(
            try_read(&scratch, ImageOptions::default())
                .unwrap_err()
                .contains("b.png: damaged image")
        );
    }

    #[test]
    fn one_image_of_16_bits_keeps_the_precision_of_all() {
        let scratch = Scratch::new("images-deep");
        save(&scratch, "a.png", [2, 1], [51; 3]);
        let words = [1000_u16, 1100];
        let gray: ImageBuffer<Luma<u16>, _> =
            ImageBuffer::from_fn(2, 1, |x, _| Luma([words[x as usize]]));
        gray.save(scratch.0.join("b.png")).unwrap();
        save(&scratch, "c.png", [2, 1], [255; 3]);
        let floats = |options| match try_read(&scratch, options).unwrap().rows {
            PixelRows::F32(rows) => rows.into_raw_vec_and_offset().0,
            PixelRows::U8(_) => panic!("an image of 16 bits"),
        };
        // 1000 / 65535 and 1100 / 65535.
        let (low, high) = (0.015_259_021_896_7_f64 as f32, 0.016_784_924_086_4_f64 as f32);
        assert_eq!(floats(ImageOptions::default()), [0.2, 0.2, low, high, 1.0, 1.0]);
        let rgb = floats(ImageOptions { rgb: true, ..ImageOptions::default() });
        assert_eq!(rgb[6..12], [low, low, low, high, high, high]);
    }

    #[test]
    fn rejects_classes_without_images() {
        let scratch = Scratch::new("images-empty-class");
        save(&scratch, "p/a/1.png", [2, 2], [9; 3]);
        let directory = scratch.0.join("p");
        let read = || read_directory(&directory, ImageOptions::default());
        let message = || read().unwrap_err().to_string();
        fs::create_dir(directory.join("c")).unwrap();
        assert!(message().contains("/p/c: the class directory has no images; add some or remove"));
        fs::write(directory.join("c/1.webp"), "RIFF").unwrap();
        assert!(
            message().contains("/p/c: the class directory has no PNG or JPEG images, but 1.webp;")
        );
        fs::remove_dir_all(directory.join("c")).unwrap();
        // Left behind by systems.
        for name in ["__MACOSX", ".git", "@eaDir"] {
            fs::create_dir(directory.join(name)).unwrap();
            fs::write(directory.join(name).join("1.bmp"), "BM").unwrap();
        }
        for name in ["Thumbs.db", "a/desktop.ini", "a/.2.webp", "a/notes.txt", "a/BMI.csv"] {
            fs::write(directory.join(name), "BM of a person").unwrap();
        }
        assert_eq!(read().unwrap().warning, None);
        save(&scratch, "p/a/more/1.png", [2, 2], [9; 3]);
        assert!(
            message().contains("/p/a/more/1.png: the image is in a subdirectory of a subdirectory")
        );
    }

    #[test]
    fn warns_about_images_of_other_formats() {
        let scratch = Scratch::new("images-other");
        for name in ["q/1.png", "q/2.png"] {
            save(&scratch, name, [2, 2], [9; 3]);
        }
        let directory = scratch.0.join("q");
        let read = || read_directory(&directory, ImageOptions::default());
        fs::write(directory.join("3.BMP"), "BM").unwrap();
        let name = directory.display();
        let expected =
            format!("{name}: 1 image is not read because it is neither PNG nor JPEG: 3.BMP");
        assert_eq!(read().unwrap().warning, Some(expected));
        // By their first bytes, whatever their names.
        fs::write(directory.join("4"), b"RIFF\x10\0\0\0WEBPVP8 ").unwrap();
        let warning = read().unwrap().warning.unwrap();
        assert!(
            warning
                .ends_with("2 images are not read because they are neither PNG nor JPEG: 3.BMP, 4")
        );
        fs::rename(directory.join("2.png"), directory.join("2.dat")).unwrap();
        assert_eq!(bytes(&read().unwrap()).nrows(), 2);
        fs::rename(directory.join("4"), directory.join("4.png")).unwrap();
        let message = read().unwrap_err().to_string();
        assert!(
            message.ends_with("4.png: WebP images are not supported; convert it to PNG or JPEG")
        );
        for name in ["1.png", "2.dat", "4.png"] {
            fs::remove_file(directory.join(name)).unwrap();
        }
        let message = read().unwrap_err().to_string();
        assert!(message.contains("no PNG or JPEG images found, but 3.BMP; convert"), "{message}");
    }
}
