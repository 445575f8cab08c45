//! Progress bars, over steps and over bytes: on stderr, and only where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `steps`, or a spinner while their number is unknown (0).
pub(super) fn bar(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    bar.set_style(style("{msg:>12} {wide_bar:.cyan/dim} {pos}/{len} steps, {eta} left"));
    bar
}

/// A bar over bytes, of which it may not be known how many there are.
pub(super) fn bytes(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_message(message);
    bar.set_style(style("{msg:>12} {wide_bar:.cyan/dim} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left"));
    bar
}

/// `bar` stands at `bytes` of `total` (0: unknown).
pub(super) fn at(bar: &ProgressBar, bytes: u64, total: u64) {
    bar.set_length(total.max(bytes));
    bar.set_position(bytes);
}

/// The same, and what is done now is called `message`.
pub(super) fn named(bar: &ProgressBar, message: &'static str, bytes: u64, total: u64) {
    if bar.message() != message {
        bar.reset();
        bar.set_message(message);
    }
    at(bar, bytes, total);
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed").progress_chars("━╸─")
}
