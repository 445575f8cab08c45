//! Settings: defaults < `/etc/easeld/config.toml` or `--config FILE` < `EASELD__SECTION__KEY` in the environment.
//!
//! Values are checked here, at the edge, and trusted inside. `keys` lists every key with its explanation,
//! `load` reads the layers and reports all problems at once, `text` prints the defaults as a commented file.

use std::fmt;
use std::path::PathBuf;

use crate::diffusion::pipeline::BATCH_PIXELS;
use crate::diffusion::request::Limits;
use crate::display::epaper::{Panel, Wiring};
use crate::display::rendition::Profiles;
use crate::engine::EngineOptions;
pub use crate::engine::{Residency, WeightSource};
use crate::http::{HttpConfig, KioskConfig};
use crate::mqtt::MqttConfig;

mod defaults;
mod keys;
mod lines;
mod load;
mod power;
mod reader;
mod renditions;
mod schedule;
mod text;
mod web;

pub use power::{PanelSettings, PowerSettings};
pub use schedule::{ScheduleEntry, Sensor, When};
pub use text::default_config_text;

/// Read when no `--config` is given; may be absent.
pub const SYSTEM_FILE: &str = "/etc/easeld/config.toml";

/// Everything that can be set. All values are within their bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `[mqtt]`: the broker.
    pub mqtt: MqttConfig,
    /// `[node]`: this device among others.
    pub node: Node,
    /// `[state]`: what outlives the process.
    pub state: State,
    /// `[models]`: what makes the pictures.
    pub models: Models,
    /// `[inference]`: what making them may cost.
    pub inference: Inference,
    /// `[http]`: the page, the API, pictures to pull.
    pub http: HttpConfig,
    /// `[kiosk]`: how the page behaves.
    pub kiosk: KioskConfig,
    /// `[display]`: what is published for panels.
    pub display: DisplaySettings,
    /// Profiles: those that are built in, and `[renditions.NAME]`.
    pub profiles: Profiles,
    /// `[jobs]`: how accepted requests are kept.
    pub jobs: Jobs,
    /// `[limits]`: bounds on requests.
    pub limits: LimitSettings,
    /// `[privacy]`: what is said about pictures.
    pub privacy: Privacy,
    /// `[home_assistant]`: how the node shows there.
    pub home_assistant: HomeAssistant,
    /// `[fleet]`: several nodes that share their work.
    pub fleet: Fleet,
    /// `[schedule]`: pictures that nobody asks for.
    pub schedule: ScheduleSettings,
    /// `[power]`: how hard the board may work.
    pub power: PowerSettings,
}

/// `[display]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DisplaySettings {
    /// Names of profiles whose files are published after each picture.
    pub renditions: Vec<String>,
    /// The screen of this machine that shows the newest picture.
    pub framebuffer: Option<PathBuf>,
    /// The e-paper panel of this machine that shows the newest picture.
    pub epaper: Option<&'static Panel>,
    /// Where it is connected.
    pub wiring: Wiring,
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// One level of every topic: `[A-Za-z0-9_-]{1,64}`, not a reserved word.
    pub name: String,
}

/// `[state]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// A directory of our own.
    pub dir: PathBuf,
    /// Where jobs are kept.
    pub jobs: JobStore,
}

/// Where accepted requests and their results are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStore {
    /// In the state directory: they outlive the process.
    Disk,
    /// In memory: for systems that are read-only on purpose.
    Memory,
}

/// `[jobs]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jobs {
    /// Seconds between checkpoints of a running job; 0 for none.
    pub checkpoint_s: u64,
    /// Processes that may die while they make one picture before it is given up.
    pub attempts: u32,
    /// Bytes of pictures that wait for the broker: with more, no further job starts.
    pub outbox_bytes: u64,
    /// Ended jobs whose ids are known.
    pub history_count: usize,
    /// Bytes of their pictures.
    pub history_bytes: u64,
}

/// `[privacy]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privacy {
    /// Whether pictures and their metadata say how they were made.
    pub embed_parameters: bool,
}

/// `[home_assistant]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeAssistant {
    /// Whether the node announces itself.
    pub discovery: bool,
    /// First level of the topics that Home Assistant listens on.
    pub prefix: String,
}

/// `[fleet]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// The group that shares the fleet's requests; empty for none.
    pub group: String,
}

/// `[schedule]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSettings {
    /// `HH:MM PROMPT` or `every 2h PROMPT`.
    pub entries: Vec<ScheduleEntry>,
    /// Prompts to choose from while `set/ambient` is on.
    pub ambient: Vec<String>,
    /// Seconds from one ambient picture to the next.
    pub ambient_s: u64,
    /// `name=topic`: the newest payload on the topic stands where a prompt says `%name%`.
    pub sensors: Vec<Sensor>,
}

/// `[models]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    /// Searched first for packs.
    pub dir: Option<PathBuf>,
    /// A pack's name, or the path of its directory.
    pub default: String,
    /// What stays in memory between pictures; nothing: as the memory there is allows.
    pub residency: Option<Residency>,
    /// Seconds without a job after which networks are dropped; 0 for never.
    pub idle_s: u64,
}

/// `[inference]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inference {
    /// Threads for the networks; 0 is one per core.
    pub threads: usize,
    /// How many prompts' embeddings are kept.
    pub prompt_cache: usize,
    /// Most pixels of all pictures together in one UNet call.
    pub batch_pixels: usize,
    /// How much memory the VAE's buffers may take at once.
    pub vae_tile: VaeTile,
    /// Where int8 weights come from; nothing: as the memory there is allows.
    pub weights: Option<WeightSource>,
    /// How much memory all of it may take.
    pub memory: Memory,
}

/// From which size of its buffers on the VAE works in bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaeTile {
    /// A quarter of the machine's memory.
    Auto,
    /// Never.
    Off,
    /// This many bytes.
    Bytes(u64),
}

/// A bound on memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// What the device has to spare.
    Auto,
    /// This many.
    Bytes(u64),
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitSettings {
    /// Longest prompt, in bytes of UTF-8.
    pub max_prompt_bytes: usize,
    /// Most denoising steps.
    pub max_steps: usize,
    /// Most jobs that wait; further ones are rejected, not delayed.
    pub queue_capacity: usize,
    /// Largest `width * height`.
    pub max_pixels: usize,
    /// Most pictures of one request, candidates included.
    pub max_images: usize,
    /// Largest `width * height` given out.
    pub max_output_pixels: usize,
    /// Largest pack that is installed, in bytes.
    pub max_pack_bytes: u64,
    /// Words that no prompt may have.
    pub blocked_words: Vec<String>,
    /// Texts that no picture given out may resemble.
    pub blocked_concepts: Vec<String>,
    /// From which similarity on it does, -1 to 1.
    pub concept_similarity: f64,
    /// Requests a minute of all clients together; 0 for no limit.
    pub requests_per_minute: u32,
    /// Requests a minute of one client; 0 for no limit.
    pub requests_per_client: u32,
}

impl Models {
    /// Where packs are installed: the first directory that is searched.
    pub fn install_dir(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| defaults::state_dir().join("models"))
    }

    /// Where packs are looked for by name: `[models] dir`, the state directory's `models/`, the system's, and those
    /// of a checkout (beside the manifest this binary was built from, or in the working directory).
    pub fn search_path(&self) -> Vec<PathBuf> {
        let checkout = concat!(env!("CARGO_MANIFEST_DIR"), "/models");
        self.dir
            .iter()
            .cloned()
            .chain([
                defaults::state_dir().join("models"),
                PathBuf::from("/usr/share/easeld/models"),
                PathBuf::from("models"),
                PathBuf::from(checkout),
            ])
            .collect()
    }
}

impl Inference {
    /// Threads for the networks, a number at last.
    pub fn thread_count(&self) -> usize {
        EngineOptions { threads: self.threads, ..EngineOptions::default() }.thread_count()
    }
}

impl LimitSettings {
    /// The bounds that a single request is held to.
    pub fn for_requests(&self) -> Limits {
        Limits {
            max_prompt_bytes: self.max_prompt_bytes,
            max_steps: self.max_steps,
            max_pixels: self.max_pixels,
            max_images: self.max_images,
            max_output_pixels: self.max_output_pixels,
            blocked_words: self.blocked_words.clone(),
        }
    }
}

impl Default for Settings {
    /// What holds where nothing is set. The node's name and the state directory depend on the machine and the
    /// environment.
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            mqtt: MqttConfig::default(),
            node: Node { name: defaults::node_name() },
            state: State { dir: defaults::state_dir(), jobs: JobStore::Disk },
            models: Models { dir: None, default: "emoji".to_owned(), residency: None, idle_s: 900 },
            inference: Inference {
                threads: 0,
                prompt_cache: 16,
                batch_pixels: BATCH_PIXELS,
                vae_tile: VaeTile::Auto,
                weights: None,
                memory: Memory::Auto,
            },
            http: HttpConfig::default(),
            kiosk: KioskConfig::default(),
            display: DisplaySettings::default(),
            profiles: Profiles::builtin(),
            jobs: Jobs {
                checkpoint_s: 30,
                attempts: 5,
                outbox_bytes: 256 << 20,
                history_count: 1000,
                history_bytes: 64 << 20,
            },
            privacy: Privacy { embed_parameters: true },
            home_assistant: HomeAssistant { discovery: true, prefix: "homeassistant".to_owned() },
            fleet: Fleet { group: String::new() },
            schedule: ScheduleSettings {
                entries: Vec::new(),
                ambient: Vec::new(),
                ambient_s: 3600,
                sensors: Vec::new(),
            },
            power: PowerSettings::default(),
            limits: LimitSettings {
                max_prompt_bytes: limits.max_prompt_bytes,
                max_steps: limits.max_steps,
                queue_capacity: 64,
                max_pixels: limits.max_pixels,
                max_images: limits.max_images,
                max_output_pixels: limits.max_output_pixels,
                max_pack_bytes: 16 << 30,
                blocked_words: limits.blocked_words,
                blocked_concepts: Vec::new(),
                concept_similarity: 0.25,
                requests_per_minute: 600,
                requests_per_client: 120,
            },
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file or the environment variable.
    pub place: String,
    /// `section.key`; empty when the file as a whole is meant.
    pub key: String,
    /// What it was.
    pub value: Option<String>,
    /// What is allowed, or what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

/// The configuration cannot be used; the process exits 78. Holds every problem that could be found at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used")?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
