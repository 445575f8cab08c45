//! What a pack fills in where a request is silent: its presets by name, and the sizes its networks can make.

use std::collections::BTreeMap;

use super::decoding::Decoder;
use super::request::FieldError;
use super::schedulers::{AutoTable, SchedulerConfig, SchedulerName};

/// The preset of a request that names none.
pub const DEFAULT_PRESET: &str = "default";

/// The component that denoises when a preset names no other.
pub const DEFAULT_UNET: &str = "unet";

/// Values that suit one way of running a pack.
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// `num_inference_steps`.
    pub steps: usize,
    /// Classifier-free guidance; at most 1 means none.
    pub guidance_scale: f64,
    /// The pack's own scheduler when `None`.
    pub scheduler: Option<SchedulerName>,
    /// The component of the pack that denoises: `unet`, or a distilled one beside it.
    pub unet: String,
    /// The width of its guidance input, where it has one.
    pub time_cond_proj_dim: Option<usize>,
    /// What makes pixels of latents.
    pub decoder: Decoder,
}

/// Longest side over shortest that [`PackDefaults::size_like`] gives.
const RATIO_MAX: f64 = 4.0;

/// All presets of a pack, and what its architecture allows.
#[derive(Debug, Clone, PartialEq)]
pub struct PackDefaults {
    /// The pack's name; empty where there is one pack only and nobody asks.
    pub model: String,
    /// By name; [`DEFAULT_PRESET`] is always there.
    presets: BTreeMap<String, Preset>,
    /// Sides of a picture are multiples of this: the VAE factor times the UNet's down-sampling.
    pub size_multiple: usize,
    /// The shortest side the networks were trained on. Smaller pictures are made at a whole multiple of their size
    /// and averaged down.
    pub smallest: usize,
    /// The pack's own scheduler; requests are checked against it when it is known.
    pub scheduler: Option<SchedulerConfig>,
    /// What `scheduler: "auto"` means.
    pub auto_schedulers: AutoTable,
    /// Whether the pack can say how well a picture fits a text.
    pub scores: bool,
    /// Whether pictures can be shown while they are made.
    pub previews: bool,
    /// Whether there is a tiny VAE decoder.
    pub tiny_vae: bool,
    /// Whether pictures can begin from a picture.
    pub encodes: bool,
    /// How a mask is kept.
    pub masking: Masking,
    /// What fits into memory, where that bounds anything.
    pub room: Option<Room>,
}

/// How large pictures of a pack may be on this machine: known from its plans before anybody asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// Buffers of `bytes`, all there are, hold a picture of `pixels`, as it is made.
    Pixels {
        /// Width times height.
        pixels: usize,
        /// For the buffers of its largest network.
        bytes: usize,
    },
    /// Not one, for this reason, with numbers.
    Nothing(String),
}

impl Room {
    /// Most pixels of a picture.
    pub fn pixels(&self) -> usize {
        match self {
            Room::Pixels { pixels, .. } => *pixels,
            Room::Nothing(_) => 0,
        }
    }

    /// What is said to whoever asks for a picture of `asked` pixels, whose sides are multiples of `multiple`.
    fn refusal(&self, asked: usize, multiple: usize) -> String {
        let (most, bytes) = match self {
            Room::Pixels { pixels, bytes } => (*pixels, *bytes),
            Room::Nothing(why) => return why.clone(),
        };
        // Buffers grow with the pixels.
        let needed = (bytes as f64 * asked as f64 / most.max(1) as f64 / f64::from(1 << 20)).ceil();
        let side = most.isqrt() / multiple * multiple;
        format!(
            "its buffers would take about {needed} MiB, and [inference] memory leaves {} MiB for them: at most {most} pixels, such as {side}x{side}",
            bytes >> 20
        )
    }
}

/// How the pack's UNet keeps what a mask says stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Masking {
    /// It knows nothing of masks: what stays is put back into the latents after each step.
    #[default]
    Blend,
    /// It was trained to repaint: mask and picture are channels of its input, and it needs both.
    Channels,
}

impl PackDefaults {
    /// A pack with this preset alone, which makes every size.
    pub fn new(default: Preset, size_multiple: usize) -> Self {
        let presets = BTreeMap::from([(DEFAULT_PRESET.to_owned(), default)]);
        Self {
            model: String::new(),
            presets,
            size_multiple: size_multiple.max(1),
            smallest: 0,
            scheduler: None,
            auto_schedulers: AutoTable::default(),
            scores: false,
            previews: false,
            tiny_vae: false,
            encodes: false,
            masking: Masking::Blend,
            room: None,
        }
    }

    /// The same for a pack that requests call `model`.
    #[must_use]
    pub fn with_name(mut self, model: &str) -> Self {
        model.clone_into(&mut self.model);
        self
    }

    /// The same with pictures below `smallest` pixels averaged down from larger ones.
    #[must_use]
    pub fn with_smallest(mut self, smallest: usize) -> Self {
        self.smallest = smallest;
        self
    }

    /// The same for a pack whose scheduler is known.
    #[must_use]
    pub fn with_scheduler(mut self, scheduler: SchedulerConfig) -> Self {
        self.scheduler = Some(scheduler);
        self
    }

    /// The same for a pack that has measured which scheduler is best.
    #[must_use]
    pub fn with_auto_schedulers(mut self, table: AutoTable) -> Self {
        self.auto_schedulers = table;
        self
    }

    /// The same for a pack with an image tower.
    #[must_use]
    pub fn with_scores(mut self, scores: bool) -> Self {
        self.scores = scores;
        self
    }

    /// The same for a pack that knows how latents look.
    #[must_use]
    pub fn with_previews(mut self, previews: bool) -> Self {
        self.previews = previews;
        self
    }

    /// The same for a pack with a tiny VAE decoder.
    #[must_use]
    pub fn with_tiny_vae(mut self, tiny_vae: bool) -> Self {
        self.tiny_vae = tiny_vae;
        self
    }

    /// The same for a pack with a VAE encoder, whose UNet keeps masks as `masking` says.
    #[must_use]
    pub fn with_encoder(mut self, encodes: bool, masking: Masking) -> Self {
        (self.encodes, self.masking) = (encodes, masking);
        self
    }

    /// The same on a machine whose memory bounds its pictures.
    #[must_use]
    pub fn with_room(mut self, room: Option<Room>) -> Self {
        self.room = room;
        self
    }

    /// What is said of a picture that is made at so many pixels and does not fit into memory; nothing of one that does.
    pub fn no_memory(&self, made: usize) -> Option<String> {
        let room = self.room.as_ref().filter(|room| made > room.pixels())?;
        Some(room.refusal(made, self.size_multiple))
    }

    /// The same with one more preset.
    #[must_use]
    pub fn with_preset(mut self, name: &str, preset: Preset) -> Self {
        self.presets.insert(name.to_owned(), preset);
        self
    }

    /// Names of the presets, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.presets.keys().map(String::as_str)
    }

    /// The preset of a request that names none.
    pub fn default_preset(&self) -> &Preset {
        &self.presets[DEFAULT_PRESET]
    }

    /// The preset called `name`, or the default one.
    ///
    /// # Errors
    /// `invalid_value` of the field `preset`, listing the names there are.
    pub fn preset(&self, name: Option<&str>) -> Result<&Preset, FieldError> {
        let name = name.unwrap_or(DEFAULT_PRESET);
        self.presets.get(name).ok_or_else(|| {
            let known = self.names().collect::<Vec<_>>().join(", ");
            FieldError::new("invalid_value", "preset", name, format!("the pack has the presets {known}"))
        })
    }

    /// A size of about as many pixels as the preset's, in the proportions of a picture of `width` x `height` pixels.
    pub fn size_like(&self, preset: &Preset, width: usize, height: usize) -> (usize, usize) {
        let area = (preset.width * preset.height) as f64;
        let ratio = (width.max(1) as f64 / height.max(1) as f64).clamp(1.0 / RATIO_MAX, RATIO_MAX);
        let multiple = self.size_multiple as f64;
        let side = |pixels: f64| ((pixels / multiple).round().max(1.0) * multiple) as usize;
        (side((area * ratio).sqrt()), side((area / ratio).sqrt()))
    }

    /// How many times larger than asked a picture of this size is made.
    pub fn magnification(&self, width: usize, height: usize) -> usize {
        self.smallest.div_ceil(width.min(height).max(1)).max(1)
    }
}
