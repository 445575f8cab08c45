//! The progress bar that `generate` and `demo` share: on stderr, and only where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `steps`, or a spinner while their number is unknown (0).
pub(super) fn bar(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    let style = ProgressStyle::with_template("{msg:>12} {wide_bar:.cyan/dim} {pos}/{len} steps, {eta} left")
        .expect("the template is well-formed")
        .progress_chars("━╸─");
    bar.set_style(style);
    bar
}
