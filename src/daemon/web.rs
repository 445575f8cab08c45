//! The HTTP door, put together: what the server has to know, and who draws for it.

use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{ConfigError, connect};
use crate::config::Settings;
use crate::display;
use crate::display::rendition::{self, Profiles, Rendered};
use crate::http::{self, Door, Drawing, Drawn, Renderer};
use crate::jobs::report::{Offer, StateReport};
use crate::jobs::store::Store;
use crate::jobs::worker::hex;

/// Where the server's pictures are, for the network, or for this machine where it serves nobody else; `None` without a
/// server.
pub(super) fn pictures_url(settings: &Settings) -> Option<String> {
    let listen = settings.http.listen?;
    let host = match listen.ip() {
        ip if ip.is_unspecified() => Settings::default().node.name,
        IpAddr::V6(ip) => format!("[{ip}]"),
        ip @ IpAddr::V4(_) => ip.to_string(),
    };
    Some(format!("http://{host}:{}/api/images", listen.port()))
}

/// Opens the door that `[http]` describes.
pub(super) fn open(
    settings: &Settings,
    offer: watch::Receiver<Offer>,
    state: watch::Receiver<StateReport>,
    store: Arc<Store>,
) -> Result<Door, ConfigError> {
    let setup = http::Setup {
        config: settings.http.clone(),
        kiosk: settings.kiosk.clone(),
        node: settings.node.name.clone(),
        hostname: Some(Settings::default().node.name),
        offer,
        state,
        store,
        renderer: Arc::new(Display { profiles: settings.profiles.clone() }),
    };
    http::open(setup).map_err(|(key, value, message)| connect::config_error(key, &value, message))
}

/// Draws with `display`.
struct Display {
    profiles: Profiles,
}

impl Renderer for Display {
    fn draw(&self, png: &[u8], drawing: &Drawing) -> Option<Result<Drawn, String>> {
        match drawing {
            Drawing::Thumbnail(side) => Some(thumbnail(png, *side)),
            Drawing::Print => Some(print(png)),
            Drawing::Rendition(name) => {
                let profile = self.profiles.get(name).ok()?;
                Some(display::read_picture(png).map_err(|error| error.to_string()).and_then(|picture| {
                    rendition::render(&picture, profile).map(Drawn::from).map_err(|error| error.to_string())
                }))
            }
        }
    }

    fn renditions(&self) -> Vec<String> {
        self.profiles.iter().map(|profile| profile.name.clone()).collect()
    }

    fn tag(&self, drawing: &Drawing) -> String {
        match drawing {
            Drawing::Thumbnail(side) => format!("t{side}"),
            Drawing::Print => "print".to_owned(),
            Drawing::Rendition(name) => {
                // Every option of a profile shows in its debug form.
                let options =
                    self.profiles.get(name).map(|profile| format!("{profile:?}")).unwrap_or_default();
                format!("{name}-{}", &hex(&Sha256::digest(options))[..8])
            }
        }
    }
}

impl From<Rendered> for Drawn {
    fn from(rendered: Rendered) -> Self {
        let Rendered { bytes, media_type, width, height } = rendered;
        Self { bytes: bytes.into(), content_type: media_type, width, height }
    }
}

fn thumbnail(png: &[u8], side: usize) -> Result<Drawn, String> {
    let picture = display::read_picture(png).map_err(|error| error.to_string())?;
    let longer = picture.width.max(picture.height).max(1);
    // Never larger than it is.
    let scaled = |length: usize| (length * side.min(longer)).div_ceil(longer).max(1);
    let (width, height) = (scaled(picture.width), scaled(picture.height));
    let jpeg = display::encode_preview(&picture, width, height);
    let bytes = jpeg.map_err(|error| error.to_string())?.into();
    Ok(Drawn { bytes, content_type: "image/jpeg", width, height })
}

fn print(png: &[u8]) -> Result<Drawn, String> {
    let picture = display::read_picture(png).map_err(|error| error.to_string())?;
    let (width, height) = display::print_size(&picture);
    let bytes = display::encode_print(&picture).map_err(|error| error.to_string())?.into();
    Ok(Drawn { bytes, content_type: "image/png", width, height })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::postprocess::RgbImage;

    #[test]
    fn thumbnails_keep_their_shape_and_never_grow() {
        let picture = RgbImage { width: 40, height: 20, pixels: vec![90; 2400] };
        let png = display::encode_png(&picture, &[]).expect("a small picture");
        for (side, size) in [(16, (16, 8)), (100, (40, 20))] {
            let drawn = thumbnail(&png, side).expect("drawn");
            let read = image::load_from_memory(&drawn.bytes).expect("our own file");
            assert_eq!((read.width(), read.height()), size);
        }
        assert!(thumbnail(b"nothing", 16).is_err());
    }
}
