//! A picture straight onto a Linux framebuffer (`/dev/fb0`): no X, no Wayland, no browser.
//!
//! What the screen is like the kernel says in `/sys/class/graphics/<name>/`: `virtual_size`, `bits_per_pixel`, `stride` (its ABI
//! documentation, sysfs-class-graphics). 16 bits are RGB565, 24 and 32 blue, green, red and nothing, the low byte first, as all
//! drivers of boards have them.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::rendition::{Encoding, Profile, RenderError, render};
use crate::diffusion::postprocess::RgbImage;

/// Where the kernel describes framebuffers.
pub const SYSFS: &str = "/sys/class/graphics";
/// The profile that says how pictures come onto the screen; its size and encoding are the screen's.
pub const PROFILE: &str = "framebuffer";

/// A screen, its picture cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum FramebufferError {
    /// It is not described, or not as a framebuffer is.
    #[error("{path}: {reason}; is {device} a framebuffer?")]
    Unknown {
        /// The description.
        path: String,
        /// The device.
        device: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be written.
    #[error(
        "cannot write to {device}: {error}; may this user (group video)? The unit opens it with a drop-in: easeld.service.d/display.conf"
    )]
    Write {
        /// The device.
        device: String,
        /// The reason.
        error: io::Error,
    },
    /// The picture has no such rendition.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// A screen and its geometry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framebuffer {
    device: PathBuf,
    width: usize,
    height: usize,
    /// Bytes from a row to the next.
    stride: usize,
    /// Bytes of a pixel.
    bytes: usize,
}

impl Framebuffer {
    /// The screen `device`, as its directory in `sysfs` describes it.
    ///
    /// # Errors
    /// [`FramebufferError::Unknown`].
    pub fn open(device: &Path, sysfs: &Path) -> Result<Self, FramebufferError> {
        let directory = sysfs.join(device.file_name().unwrap_or_default());
        let unknown = |file: &str, reason: String| FramebufferError::Unknown {
            path: directory.join(file).display().to_string(),
            device: device.display().to_string(),
            reason,
        };
        let numbers = |file: &str| -> Result<Vec<usize>, FramebufferError> {
            let text =
                fs::read_to_string(directory.join(file)).map_err(|error| unknown(file, error.to_string()))?;
            let numbers = text.trim().split(',').map(str::parse).collect::<Result<_, _>>();
            numbers.map_err(|_| unknown(file, format!("{:?} is no number", text.trim())))
        };
        let [width, height] = numbers("virtual_size")?[..] else {
            return Err(unknown("virtual_size", "no width and height".to_owned()));
        };
        let bits = numbers("bits_per_pixel")?[0];
        let stride = numbers("stride")?[0];
        let bytes = bits / 8;
        if ![16, 24, 32].contains(&bits) {
            return Err(unknown("bits_per_pixel", format!("{bits} bits a pixel, not 16, 24 or 32")));
        }
        if width == 0 || height == 0 || stride < width * bytes {
            return Err(unknown(
                "stride",
                format!("{stride} bytes do not hold {width} pixels of {bytes} bytes"),
            ));
        }
        Ok(Self { device: device.to_owned(), width, height, stride, bytes })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Shows `picture` as `profile` fits, turns and tones it.
    ///
    /// # Errors
    /// The device cannot be written.
    pub fn show(&self, picture: &RgbImage, profile: &Profile) -> Result<(), FramebufferError> {
        let encoding = if self.bytes == 2 { Encoding::Rgb565Le } else { Encoding::Rgb888 };
        let profile = Profile {
            width: self.width,
            height: self.height,
            palette: None,
            encoding,
            max_bytes: 0,
            ..profile.clone()
        };
        let rendered = render(picture, &profile)?;
        let row_bytes = self.width * if self.bytes == 2 { 2 } else { 3 };
        let rows: Vec<Vec<u8>> =
            rendered.bytes.chunks_exact(row_bytes).map(|row| pixels(row, self.bytes)).collect();
        self.write(&rows)
            .map_err(|error| FramebufferError::Write { device: self.device.display().to_string(), error })
    }

    /// What lies between the rows is left alone: it may belong to somebody.
    fn write(&self, rows: &[Vec<u8>]) -> io::Result<()> {
        let mut device = OpenOptions::new().write(true).open(&self.device)?;
        if self.stride == self.width * self.bytes {
            return device.write_all(&rows.concat());
        }
        for (y, row) in rows.iter().enumerate() {
            device.seek(SeekFrom::Start((y * self.stride) as u64))?;
            device.write_all(row)?;
        }
        Ok(())
    }
}

/// A row of RGB888, or of RGB565 as it is, with `bytes` a pixel.
fn pixels(row: &[u8], bytes: usize) -> Vec<u8> {
    match bytes {
        2 => row.to_vec(),
        3 => row.chunks_exact(3).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect(),
        _ => row.chunks_exact(3).flat_map(|pixel| [pixel[2], pixel[1], pixel[0], 0]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as long as a screen's memory, and its description.
    fn fake(size: &str, bits: &str, stride: usize, height: usize) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let described = directory.path().join("fb7");
        fs::create_dir(&described).expect("a directory");
        for (file, text) in
            [("virtual_size", size), ("bits_per_pixel", bits), ("stride", &stride.to_string())]
        {
            fs::write(described.join(file), format!("{text}\n")).expect("a file");
        }
        fs::create_dir(directory.path().join("dev")).expect("a directory");
        let device = directory.path().join("dev/fb7");
        fs::write(&device, vec![0x55; stride * height]).expect("a file");
        (directory, device)
    }

    fn halves() -> RgbImage {
        let row = [[255, 0, 0], [255, 0, 0], [0, 0, 255], [0, 0, 255]].concat();
        RgbImage { width: 4, height: 2, pixels: row.repeat(2) }
    }

    #[test]
    fn pixels_stand_where_the_screen_has_them_and_nothing_else_is_touched() {
        for (bits, red, blue) in [
            ("32", &[0, 0, 255, 0][..], &[255, 0, 0, 0][..]),
            ("24", &[0, 0, 255], &[255, 0, 0]),
            ("16", &[0x00, 0xf8], &[0x1f, 0x00]),
        ] {
            for spare in [0, 6] {
                let stride = 4 * red.len() + spare;
                let (sysfs, device) = fake("4,2", bits, stride, 2);
                let screen = Framebuffer::open(&device, sysfs.path()).expect("described");
                assert_eq!(screen.size(), (4, 2));
                screen.show(&halves(), &Profile::plain("framebuffer")).expect("written");
                let row = [red, red, blue, blue, &vec![0x55; spare]].concat();
                assert_eq!(fs::read(&device).expect("a file"), row.repeat(2), "{bits} bits, {spare} spare");
            }
        }
    }

    #[test]
    fn what_is_no_screen_is_refused_with_its_file() {
        for (size, bits, stride, named) in [
            ("4", "32", 16, "virtual_size"),
            ("4,2", "8", 4, "bits_per_pixel"),
            ("4,2", "many", 16, "bits_per_pixel"),
            ("4,2", "32", 15, "stride"),
        ] {
            let (sysfs, device) = fake(size, bits, stride, 2);
            let error = Framebuffer::open(&device, sysfs.path()).expect_err(named).to_string();
            assert!(error.contains(named) && error.contains("fb7"), "{error}");
        }
        let nowhere = Framebuffer::open(Path::new("/dev/fb99"), Path::new("/nonexistent")).expect_err("none");
        assert!(nowhere.to_string().contains("/nonexistent/fb99/virtual_size"), "{nowhere}");
        let (sysfs, device) = fake("4,2", "32", 16, 2);
        let screen = Framebuffer::open(&device, sysfs.path()).expect("described");
        fs::remove_file(&device).expect("a file");
        let error = screen.show(&halves(), &Profile::plain("framebuffer")).expect_err("gone").to_string();
        assert!(error.contains("display.conf"), "{error}");
    }
}
