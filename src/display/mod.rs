//! Pictures from and to files: PNG with its parameters inside, and renditions as panels want them.

mod begin;
mod clip_image;
pub mod epaper;
pub mod framebuffer;
mod jpeg;
mod png;
mod print;
mod read;
pub mod rendition;
mod resize;
mod sheet;
pub mod smaller;
mod upscale;

pub use begin::begin_from;
pub use clip_image::clip_pixel_values;
pub use jpeg::encode_preview;
pub use png::{PngError, encode_png, read_text};
pub use print::{encode_print, print_size};
pub use read::{ReadError, probe, read_picture};
pub use sheet::contact_sheet;
pub use upscale::upscale;
