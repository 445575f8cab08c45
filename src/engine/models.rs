//! Loads the networks of a pack when they are needed and drops them by the residency policy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::components::{
    TractImageEncoder, TractTextEncoder, TractUnet, TractUpscaler, TractVaeDecoder, TractVaeEncoder,
};
use super::kernels::Isa;
use super::kernels::codes::Unit;
use super::network::Network;
use super::ops::Machine;
use super::pool::Pool;
use super::weights;
use super::{Compute, EngineOptions, Residency};
use crate::diffusion::ports::{
    ImageEncoder, ModelError, Models, TextEncoder, Unet, Upscaler, VaeDecoder, VaeEncoder,
};
use crate::jobs::throttle::Throttle;
use crate::text::LearnedWord;

/// The component that makes pixels for previews.
const TINY_VAE: &str = "vae_decoder_tiny";

/// Time spent reading and planning each network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadTime {
    /// CLIP's text tower, or both of SDXL.
    pub text_encoder: Duration,
    /// The denoising network.
    pub unet: Duration,
    /// Latents to pixels.
    pub vae_decoder: Duration,
    /// CLIP's image tower.
    pub image_encoder: Duration,
    /// Pixels to latents.
    pub vae_encoder: Duration,
    /// Pixels to more of them.
    pub upscaler: Duration,
}

impl LoadTime {
    /// All of them.
    pub fn total(&self) -> Duration {
        let LoadTime { text_encoder, unet, vae_decoder, image_encoder, vae_encoder, upscaler } = *self;
        text_encoder + unet + vae_decoder + image_encoder + vae_encoder + upscaler
    }
}

/// The networks of one pack directory.
pub struct PackModels {
    directory: PathBuf,
    residency: Residency,
    /// Which arithmetic networks are loaded for; `configured` but for a picture that is tried again.
    compute: Compute,
    configured: EngineOptions,
    pool: Pool,
    /// Bytes from which on the VAE works in bands.
    vae_tile: Option<usize>,
    /// Vectors of learned words, in the order of their ids.
    learned: Arc<[Vec<f32>]>,
    /// The same for a second text encoder.
    learned_2: Arc<[Vec<f32>]>,
    text_encoder: Option<TractTextEncoder>,
    text_encoder_2: Option<TractTextEncoder>,
    image_encoder: Option<TractImageEncoder>,
    /// With its component: a preset may name a distilled one.
    unet: Option<(String, TractUnet)>,
    vae_decoder: Option<TractVaeDecoder>,
    vae_encoder: Option<TractVaeEncoder>,
    tiny_vae_decoder: Option<TractVaeDecoder>,
    upscaler: Option<TractUpscaler>,
    /// Of networks since dropped, and of resident ones as far as collected.
    load_time: LoadTime,
}

impl PackModels {
    /// The networks below `directory`; nothing is read yet.
    pub fn new(directory: &Path, options: EngineOptions) -> Self {
        Self {
            directory: directory.to_owned(),
            residency: options.residency,
            compute: options.compute,
            configured: options,
            pool: Pool::new(options.thread_count()),
            vae_tile: options.vae_tile,
            learned: Arc::default(),
            learned_2: Arc::default(),
            text_encoder: None,
            text_encoder_2: None,
            image_encoder: None,
            unet: None,
            vae_decoder: None,
            vae_encoder: None,
            tiny_vae_decoder: None,
            upscaler: None,
            load_time: LoadTime::default(),
        }
    }

    /// Has the text encoders know these words too, from [`FIRST_LEARNED_ID`](crate::text::FIRST_LEARNED_ID) on.
    pub fn with_learned_words(self, words: &[LearnedWord]) -> Self {
        Self {
            learned: words.iter().flat_map(|word| word.vectors.iter().cloned()).collect(),
            learned_2: words.iter().flat_map(|word| word.vectors_2.iter().cloned()).collect(),
            ..self
        }
    }

    /// From now on as many threads work as `throttle` allows. Networks that are loaded go on as they are.
    pub fn follow(&mut self, throttle: &Throttle) {
        self.pool = self.pool.clone().throttled(throttle.clone());
    }

    /// Time spent reading and planning networks since this was last asked.
    pub fn take_load_time(&mut self) -> LoadTime {
        self.collect_load_time();
        std::mem::take(&mut self.load_time)
    }

    /// Drops every network.
    pub fn release(&mut self) {
        self.collect_load_time();
        self.text_encoder = None;
        self.text_encoder_2 = None;
        self.image_encoder = None;
        self.unet = None;
        self.vae_decoder = None;
        self.vae_encoder = None;
        self.tiny_vae_decoder = None;
        self.upscaler = None;
    }

    /// Drops every network, and gives back what memory there is for a daemon that waits.
    pub fn rest(&mut self) {
        self.release();
        weights::give_back();
    }

    fn collect_load_time(&mut self) {
        let taken = |network: Option<&mut Network>| network.map_or(Duration::ZERO, Network::take_load_time);
        let [
            text_encoder,
            text_encoder_2,
            image_encoder,
            unet,
            vae_encoder,
            tiny_vae_decoder,
            vae_decoder,
            upscaler,
        ] = self.loaded().map(taken);
        self.load_time.text_encoder += text_encoder + text_encoder_2;
        self.load_time.image_encoder += image_encoder;
        self.load_time.unet += unet;
        self.load_time.vae_encoder += vae_encoder;
        self.load_time.vae_decoder += tiny_vae_decoder + vae_decoder;
        self.load_time.upscaler += upscaler;
    }

    fn loaded(&mut self) -> [Option<&mut Network>; 8] {
        [
            self.text_encoder.as_mut().map(|component| &mut component.0),
            self.text_encoder_2.as_mut().map(|component| &mut component.0),
            self.image_encoder.as_mut().map(|component| &mut component.0),
            self.unet.as_mut().map(|(_, component)| &mut component.0),
            self.vae_encoder.as_mut().map(|component| &mut component.0),
            self.tiny_vae_decoder.as_mut().map(|component| &mut component.0),
            self.vae_decoder.as_mut().map(|component| &mut component.0),
            self.upscaler.as_mut().map(|component| &mut component.0),
        ]
    }

    /// Has every network but `at_work` give its buffers back: so a picture's peak is that of its largest network. The tiny
    /// VAE keeps them, since it takes turns with the UNet where it makes previews.
    fn others_rest(&mut self, at_work: &str) {
        let resting = |network: &&mut Network| ![at_work, TINY_VAE].contains(&network.component());
        self.loaded().into_iter().flatten().filter(resting).for_each(Network::rest);
    }

    /// A network about to be loaded; the others go first when only one may stay.
    fn open(&mut self, component: &str) -> Result<Network, ModelError> {
        if self.residency == Residency::OneAtATime {
            self.release();
        }
        self.network(component)
    }

    fn network(&self, component: &str) -> Result<Network, ModelError> {
        let path = self.directory.join(component).join("model.onnx");
        let isa = Isa::choose().map_err(|error| ModelError::new(component, error))?;
        let machine = Machine { pool: self.pool.clone(), unit: Unit::of(isa) };
        Network::new(component, &path, EngineOptions { compute: self.compute, ..self.configured }, machine)
            .map_err(|error| ModelError::new(component, error))
    }
}

impl Models for PackModels {
    fn text_encoder(&mut self) -> Result<&mut dyn TextEncoder, ModelError> {
        self.others_rest("text_encoder");
        if self.text_encoder.is_none() {
            self.text_encoder =
                Some(TractTextEncoder(self.open("text_encoder")?.with_learned(self.learned.clone())));
        }
        Ok(self.text_encoder.as_mut().expect("just loaded"))
    }

    fn text_encoder_2(&mut self) -> Result<&mut dyn TextEncoder, ModelError> {
        self.others_rest("text_encoder_2");
        if self.text_encoder_2.is_none() {
            self.text_encoder_2 =
                Some(TractTextEncoder(self.open("text_encoder_2")?.with_learned(self.learned_2.clone())));
        }
        Ok(self.text_encoder_2.as_mut().expect("just loaded"))
    }

    fn image_encoder(&mut self) -> Result<&mut dyn ImageEncoder, ModelError> {
        self.others_rest("image_encoder");
        if self.image_encoder.is_none() {
            self.image_encoder = Some(TractImageEncoder(self.open("image_encoder")?));
        }
        Ok(self.image_encoder.as_mut().expect("just loaded"))
    }

    fn unet(&mut self, name: &str) -> Result<&mut dyn Unet, ModelError> {
        self.others_rest(name);
        if self.unet.as_ref().is_none_or(|(loaded, _)| loaded != name) {
            self.collect_load_time();
            self.unet = None;
            self.unet = Some((name.to_owned(), TractUnet(self.open(name)?)));
        }
        Ok(&mut self.unet.as_mut().expect("just loaded").1)
    }

    fn vae_decoder(&mut self) -> Result<&mut dyn VaeDecoder, ModelError> {
        self.others_rest("vae_decoder");
        if self.vae_decoder.is_none() {
            self.vae_decoder = Some(TractVaeDecoder(self.open("vae_decoder")?.with_tile(self.vae_tile)));
        }
        Ok(self.vae_decoder.as_mut().expect("just loaded"))
    }

    /// Stays beside the UNet in any case, since it takes turns with it where it makes previews, and is small.
    fn tiny_vae_decoder(&mut self) -> Result<&mut dyn VaeDecoder, ModelError> {
        if self.tiny_vae_decoder.is_none() {
            let network = self.network(TINY_VAE)?.with_tile(self.vae_tile);
            self.tiny_vae_decoder = Some(TractVaeDecoder(network));
        }
        Ok(self.tiny_vae_decoder.as_mut().expect("just loaded"))
    }

    fn upscaler(&mut self) -> Result<&mut dyn Upscaler, ModelError> {
        self.others_rest("upscaler");
        if self.upscaler.is_none() {
            self.upscaler = Some(TractUpscaler(self.open("upscaler")?));
        }
        Ok(self.upscaler.as_mut().expect("just loaded"))
    }

    fn vae_encoder(&mut self) -> Result<&mut dyn VaeEncoder, ModelError> {
        self.others_rest("vae_encoder");
        if self.vae_encoder.is_none() {
            self.vae_encoder = Some(TractVaeEncoder(self.open("vae_encoder")?.with_tile(self.vae_tile)));
        }
        Ok(self.vae_encoder.as_mut().expect("just loaded"))
    }

    fn force_f32(&mut self, on: bool) -> bool {
        let compute = if on { Compute::F32 } else { self.configured.compute };
        let changes = compute != self.compute;
        if changes {
            self.release();
            self.compute = compute;
        }
        if changes && on {
            tracing::warn!("numbers are not finite in int8; the picture is tried once more in f32");
        }
        changes
    }
}
