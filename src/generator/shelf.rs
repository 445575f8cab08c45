//! Every pack that a request may name, one of them open at a time.
//!
//! Networks of two packs are never in memory together: whoever asks for another pack has the open one freed first.

use std::ops::ControlFlow;

use super::{Generator, GeneratorOptions, OpenError};
use crate::diffusion::checkpoint::Checkpoints;
use crate::diffusion::pipeline::Progress;
use crate::diffusion::request::GenerationRequest;
use crate::jobs::throttle::Throttle;
use crate::jobs::{GenerateError, GeneratePictures, PackInfo, Picture};
use crate::packs::Pack;

/// The packs of a node.
pub struct Shelf {
    packs: Vec<Pack>,
    options: GeneratorOptions,
    open: Option<Generator>,
    throttle: Throttle,
}

impl Shelf {
    /// Opens `default`; `others` wait for a request that names them. Of two with one name the first counts.
    ///
    /// # Errors
    /// `default` cannot be used.
    pub fn new(default: Pack, others: Vec<Pack>, options: GeneratorOptions) -> Result<Self, OpenError> {
        let open = Generator::new(default.clone(), &options)?;
        let mut packs = vec![default];
        for pack in others {
            if packs.iter().all(|known| known.name != pack.name) {
                packs.push(pack);
            }
        }
        Ok(Self { packs, options, open: Some(open), throttle: Throttle::default() })
    }

    /// What the daemon tells the world about the packs, the default one first.
    pub fn pack_infos(&self) -> Vec<PackInfo> {
        let info = |pack: &Pack| PackInfo {
            name: pack.name.clone(),
            title: pack.manifest.title.clone().unwrap_or_else(|| pack.name.clone()),
            pack_hash: pack.hash.clone(),
            defaults: pack.defaults(),
        };
        self.packs.iter().map(info).collect()
    }

    /// The generator of the pack `name`.
    fn generator(&mut self, name: &str) -> Result<&mut Generator, GenerateError> {
        let failed = |message: String| GenerateError::Failed { code: "model", message };
        let is_open = self.open.as_ref().is_some_and(|open| open.pack().name == name);
        if !is_open {
            let known = self.packs.iter().find(|pack| pack.name == name);
            let known = known.ok_or_else(|| failed(format!("there is no model '{name}'")))?;
            tracing::info!(model = name, "opening another model");
            self.open = None;
            // It may have been replaced since the node started.
            let pack = Pack::open(&known.directory).map_err(|error| failed(error.to_string()))?;
            let mut generator =
                Generator::new(pack, &self.options).map_err(|error| failed(error.to_string()))?;
            generator.follow(&self.throttle);
            self.open = Some(generator);
        }
        self.open.as_mut().ok_or_else(|| failed(format!("'{name}' could not be opened")))
    }
}

impl GeneratePictures for Shelf {
    fn follow(&mut self, throttle: &Throttle) {
        self.throttle = throttle.clone();
        if let Some(open) = &mut self.open {
            open.follow(throttle);
        }
    }

    fn rest(&mut self) {
        if let Some(open) = &mut self.open {
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
