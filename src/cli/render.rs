//! `easeld render`: a picture file as a panel wants it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use crate::config::Settings;
use crate::device::logging;
use crate::diffusion::postprocess::RgbImage;
use crate::display::epaper::{Board, Panel};
use crate::display::framebuffer::{Framebuffer, PROFILE, SYSFS};
use crate::display::rendition::{self, Profile, Profiles};
use crate::display::{encode_png, read_picture};

/// Make a picture into the exact bytes that a panel takes
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  easeld render cat.png --profile waveshare-7in3-e6 -o cat.bin --preview cat-on-paper.png
  easeld render cat.png --profile trmnl --dither blue-noise -o cat.bmp
  easeld render cat.png --width 240 --height 240 --encoding rgb565-be -o cat.raw
`easeld profiles` lists the profiles; docs/displays.md has the lines for each product.")]
pub(super) struct RenderArgs {
    /// A PNG or JPEG file
    image: PathBuf,
    /// Where the panel's file goes
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A profile's name, built in or of the configuration's [renditions]; options below change it
    #[arg(short, long, value_name = "NAME")]
    profile: Option<String>,
    #[command(flatten)]
    options: OptionArgs,
    /// What the panel will show, its colours as measured, as a PNG
    #[arg(long, value_name = "FILE")]
    preview: Option<PathBuf>,
    /// What dots are set for, before they are, as a PNG
    #[arg(long, value_name = "FILE")]
    tone_mapped: Option<PathBuf>,
    /// A screen of this machine that shows the picture, such as /dev/fb0; without --profile by the profile `framebuffer`
    #[arg(long, value_name = "DEVICE")]
    framebuffer: Option<PathBuf>,
    /// An e-paper panel on SPI that shows the picture, such as waveshare-7in3-e6, by the profile of its name; where it is connected
    /// [display] of the configuration says
    #[arg(long, value_name = "PANEL")]
    epaper: Option<String>,
    /// Configuration file [default: /etc/easeld/config.toml, when there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The options of a profile; `display::rendition` says what is allowed.
#[derive(Debug, Args)]
struct OptionArgs {
    /// Pixels of a row of the file; 0: the picture's own
    #[arg(long, value_name = "N")]
    width: Option<String>,
    /// Rows of the file; 0: the picture's own
    #[arg(long, value_name = "N")]
    height: Option<String>,
    /// Degrees by which the picture is turned clockwise into the file: 0, 90, 180, 270
    #[arg(long, value_name = "DEGREES")]
    rotation: Option<String>,
    /// How the picture comes into another shape: cover, contain, saliency, stretch
    #[arg(long, value_name = "HOW")]
    fit: Option<String>,
    /// Of margins: #rrggbb
    #[arg(long, value_name = "COLOUR")]
    background: Option<String>,
    /// How lightness becomes the panel's: none, range, levels
    #[arg(long, value_name = "HOW")]
    tone: Option<String>,
    /// Of lightness about the middle, 0.25 to 4
    #[arg(long, value_name = "X")]
    contrast: Option<String>,
    /// Factor of colourfulness, 0 to 4
    #[arg(long, value_name = "X")]
    saturation: Option<String>,
    /// The panel's colours: none, bw, bw-paper, gray4, gray8, gray16, gray256, bwr, bwry, spectra6, acep7, rgb332, or
    /// colours as #rrggbb between commas
    #[arg(long, value_name = "NAME")]
    palette: Option<String>,
    /// How other colours are mixed: none, floyd-steinberg, atkinson, stucki, blue-noise, bayer
    #[arg(long, value_name = "HOW")]
    dither: Option<String>,
    /// The bytes: png, png-1, png-2, png-4, png-8, jpeg, jpeg-444, webp, bmp-1, bmp-4, bmp-8, bmp-24, qoi, rgb888,
    /// rgb565-le, rgb565-be, lvgl8-rgb565, lvgl8-indexed, lvgl9-rgb565, lvgl9-rgb888, lvgl9-l8, lvgl9-indexed, packed-1,
    /// packed-2, packed-4, planes, awtrix
    #[arg(long, value_name = "FORMAT")]
    encoding: Option<String>,
    /// Of JPEG, 1 to 100
    #[arg(long, value_name = "N")]
    quality: Option<String>,
    /// Most bytes of the file; quality is given up for it, then size
    #[arg(long, value_name = "N")]
    max_bytes: Option<String>,
}

impl OptionArgs {
    fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("width", &self.width),
            ("height", &self.height),
            ("rotation", &self.rotation),
            ("fit", &self.fit),
            ("background", &self.background),
            ("tone", &self.tone),
            ("contrast", &self.contrast),
            ("saturation", &self.saturation),
            ("palette", &self.palette),
            ("dither", &self.dither),
            ("encoding", &self.encoding),
            ("quality", &self.quality),
            ("max_bytes", &self.max_bytes),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.as_deref().map(|value| (name, value)))
    }
}

/// Runs the subcommand.
///
/// # Errors
/// The configuration's, a wrong option, an unreadable picture, no place for the file.
pub(super) fn run(args: &RenderArgs) -> anyhow::Result<()> {
    logging::init("warn")?;
    let targets = [&args.out, &args.preview, &args.tone_mapped, &args.framebuffer];
    if targets.iter().all(|target| target.is_none()) && args.epaper.is_none() {
        bail!(
            "nothing to write: give -o FILE, --preview FILE, --tone-mapped FILE, --framebuffer DEVICE or --epaper PANEL"
        );
    }
    let panel = args.epaper.as_deref().map(Panel::named).transpose()?;
    let settings = Settings::load(args.config.as_deref())?;
    let profile = profile(&settings.profiles, args)?;
    let bytes = fs::read(&args.image).with_context(|| format!("cannot read {}", args.image.display()))?;
    let picture = read_picture(&bytes).with_context(|| args.image.display().to_string())?;
    if let Some(out) = &args.out {
        let rendered = rendition::render(&picture, &profile)?;
        write(out, &rendered.bytes)?;
        let (width, height, bytes) = (rendered.width, rendered.height, rendered.bytes.len());
        eprintln!("{}: {width} x {height}, {}, {bytes} bytes", out.display(), profile.encoding.name());
    }
    if let Some(out) = &args.preview {
        write_png(out, &rendition::preview(&picture, &profile)?)?;
    }
    if let Some(out) = &args.tone_mapped {
        write_png(out, &rendition::tone_mapped(&picture, &profile)?)?;
    }
    if let Some(device) = &args.framebuffer {
        Framebuffer::open(device, Path::new(SYSFS))?.show(&picture, &profile)?;
    }
    if let Some(panel) = panel {
        panel.check(&profile)?;
        let mut board = Board::open(&settings.display.wiring)?;
        eprintln!("{}: it takes half a minute and flickers meanwhile", panel.name);
        panel.show(&picture, &profile, &mut board)?;
    }
    Ok(())
}

fn profile(profiles: &Profiles, args: &RenderArgs) -> anyhow::Result<Profile> {
    let own = args.epaper.as_deref().or(args.framebuffer.as_ref().map(|_| PROFILE));
    let mut profile = match args.profile.as_deref().or(own) {
        Some(name) => profiles.get(name)?.clone(),
        None => Profile::plain("custom"),
    };
    for (name, value) in args.options.given() {
        profile.set(name, value)?;
    }
    profile.check()?;
    Ok(profile)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// `picture` as a PNG file at `path`.
pub(super) fn write_png(path: &Path, picture: &RgbImage) -> anyhow::Result<()> {
    write(path, &encode_png(picture, &[])?)
}
