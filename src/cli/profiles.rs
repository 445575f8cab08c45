//! `easeld profiles`: which panels are known, as a table and as a picture of what each will show.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::render::write_png;
use crate::config::Settings;
use crate::device::logging;
use crate::diffusion::postprocess::RgbImage;
use crate::display::rendition::{self, Profile};
use crate::display::{contact_sheet, read_picture, upscale};

/// Pictures stand in rows of so many on a sheet.
const COLUMNS: usize = 4;
/// Of a place on a sheet, pixels.
const CELL: (usize, usize) = (288, 216);

/// List the panels that pictures can be made for
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  easeld profiles
  easeld profiles --sheet panels.png --image cat.png
  easeld profiles trmnl")]
pub(super) struct ProfilesArgs {
    /// Show all options of this profile, as [renditions] of the configuration has them
    name: Option<String>,
    /// Draw what each panel will show, its colours as measured
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// The picture on the sheet [default: a test picture]
    #[arg(long, value_name = "FILE", requires = "sheet")]
    image: Option<PathBuf>,
    /// Print a JSON array of all profiles with their options, and the measured colours of their palettes as `inks`
    #[arg(long)]
    json: bool,
    /// Configuration file [default: /etc/easeld/config.toml, when there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// The configuration's, an unknown profile, an unreadable picture, no place for the sheet.
pub(super) fn run(args: &ProfilesArgs) -> anyhow::Result<()> {
    logging::init("warn")?;
    let settings = Settings::load(args.config.as_deref())?;
    let profiles: Vec<&Profile> = match &args.name {
        Some(name) => vec![settings.profiles.get(name)?],
        None => settings.profiles.iter().collect(),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&profiles.iter().map(|p| json(p)).collect::<Vec<_>>())?);
    } else if let (Some(_), None) = (&args.name, &args.sheet) {
        print_options(profiles[0]);
    } else if args.sheet.is_none() {
        print_table(&profiles);
    }
    let Some(sheet) = &args.sheet else { return Ok(()) };
    let picture = match &args.image {
        Some(path) => {
            let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            read_picture(&bytes).with_context(|| path.display().to_string())?
        }
        None => test_picture(),
    };
    write_png(sheet, &draw(&profiles, &picture)?)
}

fn json(profile: &Profile) -> serde_json::Value {
    let mut object = serde_json::Map::from_iter([("name".to_owned(), profile.name.clone().into())]);
    object.extend(profile.options().into_iter().map(|(option, value)| (option.to_owned(), value.into())));
    let inks = profile.palette.iter().flat_map(|palette| &palette.inks);
    object.insert("inks".to_owned(), inks.map(|ink| serde_json::json!(ink.measured)).collect());
    object.into()
}

fn print_options(profile: &Profile) {
    println!("[renditions.{}]", profile.name);
    for (option, value) in profile.options() {
        let number = value.parse::<f64>().is_ok();
        println!("{option} = {}", if number { value } else { format!("{value:?}") });
    }
}

fn print_table(profiles: &[&Profile]) {
    let wide = profiles.iter().map(|profile| profile.name.len()).max().unwrap_or(0);
    println!("{:wide$}  {:>11}  {:9}  {:13}  product", "profile", "pixels", "palette", "encoding");
    for profile in profiles {
        let side = |side: usize| if side == 0 { "any".to_owned() } else { side.to_string() };
        let size = match (profile.width, profile.height) {
            (0, 0) => "the same".to_owned(),
            (width, height) => format!("{} x {}", side(width), side(height)),
        };
        let palette = profile.palette.as_ref().map_or("-", |palette| &palette.name);
        let encoding = profile.encoding.name();
        println!("{:wide$}  {size:>11}  {palette:9}  {encoding:13}  {}", profile.name, profile.title);
    }
}

/// Each profile's preview in its place, with the name above.
fn draw(profiles: &[&Profile], picture: &RgbImage) -> anyhow::Result<RgbImage> {
    let mut rows = Vec::new();
    for row in profiles.chunks(COLUMNS) {
        let mut cells = Vec::new();
        for profile in row {
            cells.push(fitted(&rendition::preview(picture, profile)?)?);
        }
        cells.resize(
            COLUMNS,
            RgbImage { width: CELL.0, height: CELL.1, pixels: vec![255; CELL.0 * CELL.1 * 3] },
        );
        let mut labels: Vec<String> = row.iter().map(|profile| profile.name.clone()).collect();
        labels.resize(COLUMNS, String::new());
        rows.push(contact_sheet(&cells, &labels, &[]));
    }
    let width = rows.first().map_or(0, |row| row.width);
    let height = rows.iter().map(|row| row.height).sum();
    Ok(RgbImage { width, height, pixels: rows.into_iter().flat_map(|row| row.pixels).collect() })
}

/// As large as a place of the sheet, on gray: averaged as the eye does from afar, or in whole steps where it is small.
fn fitted(preview: &RgbImage) -> anyhow::Result<RgbImage> {
    let factor = (CELL.0 / preview.width).min(CELL.1 / preview.height);
    let enlarged = if factor > 1 { repeated(preview, factor) } else { preview.clone() };
    let mut profile = Profile::plain("sheet");
    for (option, value) in [("fit", "contain"), ("background", "#c8c8c8")] {
        profile.set(option, value)?;
    }
    (profile.width, profile.height) = CELL;
    Ok(rendition::preview(&enlarged, &profile)?)
}

/// Every pixel `factor` times in both directions: LEDs are squares.
fn repeated(picture: &RgbImage, factor: usize) -> RgbImage {
    let mut pixels = Vec::with_capacity(picture.pixels.len() * factor * factor);
    for row in picture.pixels.chunks_exact(picture.width * 3) {
        let wide: Vec<u8> = row.chunks_exact(3).flat_map(|pixel| pixel.repeat(factor)).collect();
        (0..factor).for_each(|_| pixels.extend_from_slice(&wide));
    }
    RgbImage { width: picture.width * factor, height: picture.height * factor, pixels }
}

/// A sky, a sun and its colours in the water: gradients, edges, strong and weak colours.
fn test_picture() -> RgbImage {
    const SIDE: usize = 256;
    let mut pixels = Vec::with_capacity(SIDE * SIDE * 3);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let off = (x.abs_diff(150).pow(2) + y.abs_diff(96).pow(2)) / 36;
            pixels.extend(match (off, y) {
                (..49, _) => [255, 214, 64],
                (49..64, _) => [240, 130, 30],
                (_, ..160) => [(90 + y) as u8, (120 + y / 2) as u8, (240 - y / 2) as u8],
                (_, _) if (x / 8 + y / 4) % 5 == 0 => [250, 160, 60],
                _ => [20, (70 + x / 4) as u8, (90 + y / 4) as u8],
            });
        }
    }
    upscale(&RgbImage { width: SIDE, height: SIDE, pixels }, 2)
}
