//! A picture straight onto an e-paper panel on SPI: the controller is told what its maker's own driver tells it.
//!
//! `sequences` has a [`Panel`] per product, [`Panel::show`] goes through it over [`Wires`]. On a board these are the kernel's spidev and
//! GPIO devices (`board`, behind the cargo feature `epaper`: nobody else needs two more crates). The pixels are a rendition's: the
//! profile with the panel's name has its size, colours and bytes.
//!
//! Of our own because `epd-waveshare` 0.6, the crate for such panels, has neither those of Spectra 6 nor a release since 2024, and what is
//! left of a driver once pictures come as the controller takes them is a list of commands.

mod board;
mod sequences;
mod wiring;

use std::io;
use std::time::{Duration, Instant};

use super::rendition::{Encoding, Profile, Profiles, RenderError, render};
use crate::diffusion::postprocess::RgbImage;

pub use board::Board;
pub use sequences::PANELS;
pub use wiring::{Pins, Wiring};

/// A panel that is busy for longer is not there: a Spectra 6 panel in the cold takes less than a minute.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at the line that says busy.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A panel that pictures can be sent to.
#[derive(Debug, PartialEq, Eq)]
pub struct Panel {
    /// Of the profile whose files it takes, too.
    pub name: &'static str,
    steps: &'static [Step],
}

/// One thing that its controller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A pulse on the line that resets it: low for so long, and high for so long before and after it, in milliseconds.
    Reset { high: u64, low: u64 },
    /// Wait until it is no longer busy; some controllers want to be asked with a command, and a rest afterwards, in milliseconds.
    Idle { ask: Option<u8>, rest: u64 },
    /// Wait for so many milliseconds.
    Pause(u64),
    /// A command with its data.
    Say(u8, &'static [u8]),
    /// A command with pixels.
    Send(u8, Pixels),
}

/// Which of a file's pixels, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pixels {
    /// All of them.
    All,
    /// All of them, each bit turned over.
    AllFlipped,
    /// The first of two planes.
    First,
    /// The second of two planes, each bit turned over.
    SecondFlipped,
}

/// The lines of a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Its supply, where the board switches that.
    Power,
    /// Low resets the controller.
    Reset,
}

/// What connects this machine and a panel.
pub trait Wires {
    /// Sends bytes, as data or as a command.
    ///
    /// # Errors
    /// The device's.
    fn send(&mut self, is_data: bool, bytes: &[u8]) -> io::Result<()>;

    /// Sets a line.
    ///
    /// # Errors
    /// The device's.
    fn set(&mut self, line: Line, high: bool) -> io::Result<()>;

    /// Whether the controller is at work.
    ///
    /// # Errors
    /// The device's.
    fn is_busy(&mut self) -> io::Result<bool>;

    /// Waits.
    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A picture that is not on its panel.
#[derive(Debug, thiserror::Error)]
pub enum EpaperError {
    /// No panel has this name.
    #[error("no e-paper panel is called {name:?}; known are {}", names())]
    Unknown {
        /// The name that was given.
        name: String,
    },
    /// The profile is no longer that of the panel.
    #[error(
        "profile {profile} makes {what}, which the panel does not take: only how the picture is fitted and drawn may change"
    )]
    Profile {
        /// Its name.
        profile: String,
        /// What it makes.
        what: String,
    },
    /// It is for builds with the cargo feature `epaper`.
    #[error("this easeld was built without e-paper on SPI; build it with `--features epaper`")]
    NotBuilt,
    /// A device cannot be used.
    #[error(
        "{device}: {error}; is SPI switched on, and may this user use it (groups spi and gpio)? The unit opens it with a drop-in: easeld.service.d/display.conf"
    )]
    Device {
        /// The device.
        device: String,
        /// The reason.
        error: io::Error,
    },
    /// The panel stopped answering.
    #[error("the panel: {0}")]
    Panel(#[from] io::Error),
    /// The picture has no such rendition.
    #[error(transparent)]
    Render(#[from] RenderError),
}

impl Panel {
    /// The one of this name.
    ///
    /// # Errors
    /// [`EpaperError::Unknown`], with the names there are.
    pub fn named(name: &str) -> Result<&'static Self, EpaperError> {
        let unknown = || EpaperError::Unknown { name: name.to_owned() };
        PANELS.iter().find(|panel| panel.name == name).ok_or_else(unknown)
    }

    /// Whether `profile` makes what the panel takes: its size, its colours, its bytes.
    ///
    /// # Errors
    /// [`EpaperError::Profile`].
    pub fn check(&self, profile: &Profile) -> Result<(), EpaperError> {
        let wanted = Profiles::builtin();
        let wanted = wanted.get(self.name).expect("a panel has a profile: a test reads all");
        let of = |profile: &Profile| (profile.width, profile.height, profile.encoding, profile.max_bytes);
        if of(profile) == of(wanted) && codes(profile) == codes(wanted) {
            return Ok(());
        }
        let Profile { width, height, encoding, .. } = profile;
        let what = format!("files of {width} x {height}, {}", encoding.name());
        Err(EpaperError::Profile { profile: profile.name.clone(), what })
    }

    /// Shows `picture` as `profile` fits and draws it, and puts the panel to sleep: it keeps its picture without power.
    ///
    /// # Errors
    /// The profile is not the panel's, a device fails, the panel stays busy. Its power is taken away then as well.
    pub fn show(
        &self,
        picture: &RgbImage,
        profile: &Profile,
        wires: &mut impl Wires,
    ) -> Result<(), EpaperError> {
        self.check(profile)?;
        Ok(self.send(&render(picture, profile)?.bytes, wires)?)
    }

    fn send(&self, file: &[u8], wires: &mut impl Wires) -> io::Result<()> {
        wires.set(Line::Power, true)?;
        let told = self.steps.iter().try_for_each(|step| step.take(file, wires));
        // Whatever happened, no voltage stays on the panel.
        let off = wires.set(Line::Reset, false).and(wires.set(Line::Power, false));
        told.and(off)
    }
}

impl Step {
    fn take(self, file: &[u8], wires: &mut impl Wires) -> io::Result<()> {
        match self {
            Self::Reset { high, low } => {
                for (level, time) in [(true, high), (false, low), (true, high)] {
                    wires.set(Line::Reset, level)?;
                    wires.pause(Duration::from_millis(time));
                }
            }
            Self::Idle { ask, rest } => {
                until_idle(ask, wires)?;
                if rest > 0 {
                    wires.pause(Duration::from_millis(rest));
                }
            }
            Self::Pause(time) => wires.pause(Duration::from_millis(time)),
            Self::Say(command, data) => say(wires, command, data)?,
            Self::Send(command, pixels) => say(wires, command, &pixels.of(file))?,
        }
        Ok(())
    }
}

fn say(wires: &mut impl Wires, command: u8, data: &[u8]) -> io::Result<()> {
    wires.send(false, &[command])?;
    if data.is_empty() { Ok(()) } else { wires.send(true, data) }
}

fn until_idle(ask: Option<u8>, wires: &mut impl Wires) -> io::Result<()> {
    let since = Instant::now();
    loop {
        if let Some(command) = ask {
            wires.send(false, &[command])?;
        }
        if !wires.is_busy()? {
            return Ok(());
        }
        if since.elapsed() > PATIENCE {
            let message = format!("busy for {} s: is it connected, and BUSY at its pin?", PATIENCE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        wires.pause(LOOK_EVERY);
    }
}

impl Pixels {
    fn of(self, file: &[u8]) -> Vec<u8> {
        let flipped = |bytes: &[u8]| bytes.iter().map(|byte| !byte).collect();
        let (first, second) = file.split_at(file.len() / 2);
        match self {
            Self::All => file.to_vec(),
            Self::AllFlipped => flipped(file),
            Self::First => first.to_vec(),
            Self::SecondFlipped => flipped(second),
        }
    }
}

/// What its files call its colours; planes go by their order.
fn codes(profile: &Profile) -> Vec<u8> {
    let by_order = profile.encoding == Encoding::Planes;
    let inks = profile.palette.iter().flat_map(|palette| palette.inks.iter().enumerate());
    inks.map(|(order, ink)| if by_order { order as u8 } else { ink.code }).collect()
}

fn names() -> String {
    PANELS.iter().map(|panel| panel.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "epaper_tests.rs"]
mod tests;
