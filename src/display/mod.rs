//! Pictures from and to files. Today PNG with its parameters inside; renditions for panels come later.

mod clip_image;
mod png;
mod read;

pub use clip_image::clip_pixel_values;
pub use png::{PngError, encode_png, read_text};
pub use read::{ReadError, read_picture};
