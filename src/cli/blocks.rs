//! A picture in the terminal: two pixels a character, upper half block in the colour of the upper one.
//!
//! Done here because the crates that do it bring a copyleft colour table along.

use std::fmt::Write;

use image::RgbImage;

/// Widest picture shown, in characters; terminals are seldom narrower.
const COLUMNS_MAX: u32 = 64;

/// `picture` as lines of half blocks, at most 64 columns wide; `true_color` as `COLORTERM` announces it, else the
/// 216 colours that every terminal has.
pub(super) fn render(picture: &RgbImage, true_color: bool) -> String {
    let columns = picture.width().min(COLUMNS_MAX);
    let rows = (picture.height() * columns / picture.width().max(1)).max(1);
    let small = if columns == picture.width() {
        picture.clone()
    } else {
        image::imageops::thumbnail(picture, columns, rows)
    };
    let mut text = String::new();
    for y in (0..small.height()).step_by(2) {
        for x in 0..small.width() {
            let upper = small.get_pixel(x, y).0;
            // An odd last row has nothing below it: the terminal's own background.
            let lower = small.get_pixel_checked(x, y + 1).map(|pixel| pixel.0);
            let lower = lower.map_or("49".to_owned(), |rgb| color(48, rgb, true_color));
            write!(text, "\x1b[{};{lower}m▀", color(38, upper, true_color))
                .expect("writing to a String cannot fail");
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

/// Whether the terminal says that it knows 24-bit colours.
pub(super) fn has_true_color() -> bool {
    std::env::var("COLORTERM").is_ok_and(|value| matches!(value.as_str(), "truecolor" | "24bit"))
}

/// The SGR parameters for `rgb` as foreground (`ground` 38) or background (48).
fn color(ground: u8, [r, g, b]: [u8; 3], true_color: bool) -> String {
    if true_color {
        return format!("{ground};2;{r};{g};{b}");
    }
    // The 6x6x6 cube of xterm's 256 colours starts at 16.
    let level = |value: u8| (u32::from(value) * 5 + 127) / 255;
    let index = 16 + 36 * level(r) + 6 * level(g) + level(b);
    format!("{ground};5;{index}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn two_pixels_make_one_character() {
        let mut picture = RgbImage::new(1, 3);
        picture.put_pixel(0, 0, Rgb([255, 0, 0]));
        picture.put_pixel(0, 1, Rgb([0, 0, 255]));
        picture.put_pixel(0, 2, Rgb([1, 2, 3]));
        assert_eq!(
            render(&picture, true),
            "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[0m\n\x1b[38;2;1;2;3;49m▀\x1b[0m\n"
        );
        let plain = render(&picture, false);
        assert!(plain.starts_with("\x1b[38;5;196;48;5;21m▀"), "{plain:?}");
    }

    #[test]
    fn large_pictures_are_scaled_to_the_terminal() {
        let text = render(&RgbImage::new(512, 256), true);
        assert_eq!(text.lines().count(), 16);
        assert_eq!(text.lines().next().expect("a line").matches('▀').count(), 64);
    }
}
