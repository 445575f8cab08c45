//! Pictures to files. Today PNG with its parameters inside; renditions for panels come later.

mod png;

pub use png::{PngError, encode_png, read_text};
