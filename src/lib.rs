//! easeld: prompts come in over MQTT, pictures made on the device go out.
//!
//! The modules, in reading order. Imports point one way only,
//! `cli -> daemon -> generator -> mqtt, http, display, device, packs, engine -> jobs -> diffusion, text`
//! (a module may import any further right); siblings meet in [`generator`] and [`daemon`] alone.
//! `tests/tidy.rs` holds the arrows.
//!
//! - [`diffusion`]: the domain. Request, noise, schedulers, guidance, the denoising loop. No IO.
//! - [`text`]: CLIP tokenization into 77-token windows.
//! - [`packs`]: a model directory: what is in it, whether it is whole.
//! - [`engine`]: the only place that names tract; implements the ports of [`diffusion`].
//! - [`jobs`]: request messages, the bounded queue, the worker thread, job status.
//! - [`mqtt`]: the client, the topic grammar, the embedded broker.
//! - [`http`]: the page, the API, pictures to pull.
//! - [`display`]: decoded pictures to files, with their parameters inside.
//! - [`device`]: systemd, the journal.
//! - [`generator`]: a pack, the engine and the pipeline put together: a request in, a PNG out.
//! - [`config`]: settings from defaults, file and environment.
//! - [`daemon`]: the composition root; one select loop.
//! - [`cli`]: one file per subcommand.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod device;
pub mod diffusion;
pub mod display;
pub mod engine;
pub mod generator;
pub mod http;
pub mod jobs;
pub mod mqtt;
pub mod packs;
pub mod text;
