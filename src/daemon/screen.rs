//! The newest picture on a screen of this machine (`[display] framebuffer`), on a thread of its own: neither the select loop nor
//! the broker waits for it.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use super::connect::config_error;
use crate::config::{ConfigError, Settings};
use crate::display::framebuffer::{Framebuffer, PROFILE, SYSFS};
use crate::display::read_picture;
use crate::display::rendition::Profile;

/// Pictures that wait for the screen: it is faster than any model.
const WAITING: usize = 4;

/// See the module. The thread ends with the last of these.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    pictures: SyncSender<Vec<u8>>,
}

impl Screen {
    /// The screen that the configuration names, if it names one.
    ///
    /// # Errors
    /// There is no such screen.
    pub(super) fn start(settings: &Settings) -> Result<Option<Self>, ConfigError> {
        let Some(device) = &settings.display.framebuffer else { return Ok(None) };
        let wrong = |error: &dyn std::fmt::Display| {
            config_error("display.framebuffer", &device.display().to_string(), error)
        };
        let screen = Framebuffer::open(device, Path::new(SYSFS)).map_err(|error| wrong(&error))?;
        let profile = settings.profiles.get(PROFILE).map_err(|error| wrong(&error))?.clone();
        let (pictures, waiting) = sync_channel(WAITING);
        let spawned = thread::Builder::new().name("screen".to_owned());
        spawned.spawn(move || show_all(&screen, &profile, &waiting)).map_err(|error| wrong(&error))?;
        tracing::info!(device = %device.display(), "pictures are shown on the screen");
        Ok(Some(Self { pictures }))
    }

    /// Shows a PNG file, soon.
    pub(super) fn show(&self, png: Vec<u8>) {
        match self.pictures.try_send(png) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::warn!("the screen is behind: a picture is not shown"),
            Err(TrySendError::Disconnected(_)) => tracing::error!("nothing writes to the screen any more"),
        }
    }
}

fn show_all(screen: &Framebuffer, profile: &Profile, waiting: &Receiver<Vec<u8>>) {
    while let Ok(png) = waiting.recv() {
        // Of several only the last would be seen.
        let newest = waiting.try_iter().last().unwrap_or(png);
        let shown = read_picture(&newest)
            .map_err(|error| error.to_string())
            .and_then(|picture| screen.show(&picture, profile).map_err(|error| error.to_string()));
        if let Err(error) = shown {
            tracing::warn!(error, "the picture is not on the screen");
        }
    }
}
