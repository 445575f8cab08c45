//! Every pack that a request may name, one of them open at a time.
//!
//! Networks of two packs are never in memory together: whoever asks for another pack has the open one freed first.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::{Generator, GeneratorOptions, OpenError};
use crate::diffusion::checkpoint::Checkpoints;
use crate::diffusion::pipeline::Progress;
use crate::diffusion::request::GenerationRequest;
use crate::jobs::throttle::Throttle;
use crate::jobs::{GenerateError, GeneratePictures, Picture};
use crate::packs::{self, Pack, Stamp};

/// How a pack is to be run, by its directory: what memory allows depends on how large it is.
pub type OptionsOf = Box<dyn Fn(&Path) -> GeneratorOptions + Send>;

/// The packs of a node.
pub struct Shelf {
    default: Pack,
    /// Where others are looked for when a request names them.
    search_path: Vec<PathBuf>,
    options: OptionsOf,
    /// With what the pack was when it was opened.
    open: Option<(Generator, Stamp)>,
    throttle: Throttle,
}

impl Shelf {
    /// Opens `default`; others wait below `search_path` for a request that names them.
    ///
    /// # Errors
    /// `default` cannot be used.
    pub fn new(default: Pack, search_path: Vec<PathBuf>, options: OptionsOf) -> Result<Self, OpenError> {
        let stamp = Stamp::of(&default.directory);
        let open = Some((Generator::new(default.clone(), &options(&default.directory))?, stamp));
        Ok(Self { default, search_path, options, open, throttle: Throttle::default() })
    }

    /// The generator of the pack `name`, as it is on the disk now.
    fn generator(&mut self, name: &str) -> Result<&mut Generator, GenerateError> {
        let failed = |message: String| GenerateError::Failed { code: "model", message };
        let directory = match name == self.default.name {
            true => self.default.directory.clone(),
            false => packs::find_below(name, &self.search_path).map_err(|error| failed(error.to_string()))?,
        };
        let stamp = Stamp::of(&directory);
        let is_open =
            |(open, known): &(Generator, Stamp)| open.pack().directory == directory && *known == stamp;
        if !self.open.as_ref().is_some_and(is_open) {
            tracing::info!(model = name, "opening another model");
            self.open = None;
            let pack = Pack::open(&directory).map_err(|error| failed(error.to_string()))?;
            let options = (self.options)(&directory);
            let mut generator = Generator::new(pack, &options).map_err(|error| failed(error.to_string()))?;
            generator.follow(&self.throttle);
            self.open = Some((generator, stamp));
        }
        let open = self.open.as_mut().map(|(generator, _)| generator);
        open.ok_or_else(|| failed(format!("'{name}' could not be opened")))
    }
}

impl GeneratePictures for Shelf {
    fn follow(&mut self, throttle: &Throttle) {
        self.throttle = throttle.clone();
        if let Some((open, _)) = &mut self.open {
            open.follow(throttle);
        }
    }

    fn rest(&mut self) {
        if let Some((open, _)) = &mut self.open {
            open.rest();
        }
    }

    fn generate(
        &mut self,
        request: &GenerationRequest,
        checkpoints: &mut dyn Checkpoints,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, GenerateError> {
        GeneratePictures::generate(self.generator(&request.model)?, request, checkpoints, observer)
    }
}
