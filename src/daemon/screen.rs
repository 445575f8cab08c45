//! The newest picture on screens of this machine (`[display] framebuffer`, `epaper`), each on a thread of its own: neither the select
//! loop nor the broker waits for them.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::connect::config_error;
use crate::config::{ConfigError, Settings};
use crate::diffusion::postprocess::RgbImage;
use crate::display::epaper::{Board, Panel, Wiring};
use crate::display::framebuffer::{Framebuffer, PROFILE, SYSFS};
use crate::display::read_picture;
use crate::display::rendition::Profile;

/// One screen. Its thread ends with it.
#[derive(Debug)]
pub(super) struct Screen {
    newest: Arc<Newest>,
}

/// The picture to show next. While a panel refreshes, which takes half a minute, a newer one takes its place.
#[derive(Debug, Default)]
struct Newest {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Slot {
    png: Option<Vec<u8>>,
    closed: bool,
}

impl Screen {
    /// The screens that the configuration names.
    ///
    /// # Errors
    /// There is no such screen.
    pub(super) fn all(settings: &Settings) -> Result<Vec<Self>, ConfigError> {
        let framebuffer = framebuffer(settings)?;
        Ok(framebuffer.into_iter().chain(epaper(settings)?).collect())
    }

    fn start(
        mut show: impl FnMut(&RgbImage) -> Result<(), String> + Send + 'static,
    ) -> Result<Self, std::io::Error> {
        let newest = Arc::new(Newest::default());
        let waiting = newest.clone();
        let spawned = thread::Builder::new().name("screen".to_owned());
        spawned.spawn(move || {
            while let Some(png) = waiting.take() {
                let picture = read_picture(&png).map_err(|error| error.to_string());
                if let Err(error) = picture.and_then(|picture| show(&picture)) {
                    tracing::warn!(error, "the picture is not on the screen");
                }
            }
        })?;
        Ok(Self { newest })
    }

    /// Shows a PNG file, soon, unless another comes before.
    pub(super) fn show(&self, png: Vec<u8>) {
        self.newest.put(|slot| slot.png = Some(png));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.newest.put(|slot| slot.closed = true);
    }
}

impl Newest {
    fn put(&self, change: impl FnOnce(&mut Slot)) {
        change(&mut self.slot.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Waits for the next picture; `None` when there will be none.
    fn take(&self) -> Option<Vec<u8>> {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |slot: &mut Slot| slot.png.is_none() && !slot.closed;
        let mut slot = self.changed.wait_while(slot, wait).unwrap_or_else(PoisonError::into_inner);
        slot.png.take().filter(|_| !slot.closed)
    }
}

fn framebuffer(settings: &Settings) -> Result<Option<Screen>, ConfigError> {
    let Some(device) = &settings.display.framebuffer else { return Ok(None) };
    let wrong = |error: &dyn std::fmt::Display| {
        config_error("display.framebuffer", &device.display().to_string(), error)
    };
    let screen = Framebuffer::open(device, Path::new(SYSFS)).map_err(|error| wrong(&error))?;
    let profile = settings.profiles.get(PROFILE).map_err(|error| wrong(&error))?.clone();
    let show = move |picture: &RgbImage| screen.show(picture, &profile).map_err(|error| error.to_string());
    let screen = Screen::start(show).map_err(|error| wrong(&error))?;
    tracing::info!(device = %device.display(), "pictures are shown on the screen");
    Ok(Some(screen))
}

fn epaper(settings: &Settings) -> Result<Option<Screen>, ConfigError> {
    let Some(panel) = settings.display.epaper else { return Ok(None) };
    let wrong = |error: &dyn std::fmt::Display| config_error("display.epaper", panel.name, error);
    let profile = settings.profiles.get(panel.name).map_err(|error| wrong(&error))?.clone();
    panel.check(&profile).map_err(|error| wrong(&error))?;
    let wiring = settings.display.wiring.clone();
    // Whether the devices are there and ours turns out now, not with the first picture.
    Board::open(&wiring).map(|_| ()).map_err(|error| wrong(&error))?;
    let show = move |picture: &RgbImage| show_on(panel, picture, &profile, &wiring);
    let screen = Screen::start(show).map_err(|error| wrong(&error))?;
    tracing::info!(panel = panel.name, "pictures are shown on the panel");
    Ok(Some(screen))
}

/// The devices are free again between two pictures.
fn show_on(panel: &Panel, picture: &RgbImage, profile: &Profile, wiring: &Wiring) -> Result<(), String> {
    let shown = Board::open(wiring).and_then(|mut board| panel.show(picture, profile, &mut board));
    shown.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::display::encode_png;

    #[test]
    fn a_slow_panel_shows_the_newest_picture_and_none_in_between() {
        let png = |shade: u8| {
            let picture = RgbImage { width: 1, height: 1, pixels: vec![shade; 3] };
            encode_png(&picture, &[]).expect("small")
        };
        let (began, beginnings) = channel();
        let (go_on, waits) = channel();
        let screen = Screen::start(move |picture: &RgbImage| {
            began.send(picture.pixels[0]).map_err(|error| error.to_string())?;
            waits.recv_timeout(Duration::from_secs(60)).map_err(|error| error.to_string())
        })
        .expect("a thread");
        screen.show(png(1));
        assert_eq!(beginnings.recv_timeout(Duration::from_secs(60)), Ok(1));
        for shade in 2..=9 {
            screen.show(png(shade));
        }
        go_on.send(()).expect("the thread waits");
        assert_eq!(beginnings.recv_timeout(Duration::from_secs(60)), Ok(9));
        screen.show(b"no picture".to_vec());
        go_on.send(()).expect("the thread waits");
        drop(screen);
        assert!(beginnings.recv_timeout(Duration::from_secs(60)).is_err(), "the thread has ended");
    }
}
