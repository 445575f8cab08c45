//! A daemon of its own process whose pictures take the time that they are told to: everything but the networks is real, so
//! that hundreds of rounds fit into minutes.

use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use easeld::config::Settings;
use easeld::daemon;
use easeld::device::logging;
use easeld::diffusion::checkpoint::Checkpoints;
use easeld::diffusion::pipeline::Progress;
use easeld::diffusion::postprocess::RgbImage;
use easeld::diffusion::request::GenerationRequest;
use easeld::display;
use easeld::jobs::{GenerateError, GeneratePictures, Picture};
use tempfile::TempDir;

use crate::scripted_pack::scripted_pack;

/// Of one step.
const STEP: Duration = Duration::from_millis(25);

/// Pictures that depend on their seed, step by step.
struct Scripted;

impl GeneratePictures for Scripted {
    fn generate(
        &mut self,
        request: &GenerationRequest,
        _: &mut dyn Checkpoints,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, GenerateError> {
        let steps = request.num_inference_steps;
        for step in 0..=steps {
            if observer(Progress::Step { step, steps }).is_break() {
                return Err(GenerateError::Cancelled);
            }
            std::thread::sleep(STEP);
        }
        let value = |at: u32| (request.seed.wrapping_mul(2_654_435_761).wrapping_add(at * at) >> 7) as u8;
        let image = RgbImage { width: 64, height: 64, pixels: (0..64 * 64 * 3).map(value).collect() };
        let png = display::encode_png(&image, &[]).unwrap();
        Ok(vec![Picture { png, width: 64, height: 64, seed: request.seed, similarity: None }])
    }
}

/// Not a test: the daemon itself, in the process that [`ScriptedDaemon`] starts.
#[test]
#[ignore = "started by other runs"]
fn serve() {
    if std::env::var_os("EASELD_SCRIPTED").is_none() {
        return;
    }
    logging::init("info").unwrap();
    let settings = Settings::load(None).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        let stop = async move {
            terminate.recv().await;
        };
        daemon::run(settings, Box::new(Scripted), vec![scripted_pack()], stop).await.unwrap();
    });
}

/// A child process that runs [`serve`]; killed on drop.
pub(crate) struct ScriptedDaemon {
    child: Child,
    directory: TempDir,
    environment: Vec<(String, String)>,
}

impl ScriptedDaemon {
    pub(crate) fn start(url: &str, node: &str, more: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let own = [("EASELD__MQTT__URL", url), ("EASELD__NODE__NAME", node), ("EASELD_SCRIPTED", "1")];
        let state = ("EASELD__STATE__DIR", directory.path().to_str().unwrap());
        let environment: Vec<_> = own
            .iter()
            .chain([&state])
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let child = spawn(&directory, &environment);
        Self { child, directory, environment }
    }

    /// kill -9, and a new process on the same state.
    pub(crate) fn again(&mut self) {
        self.kill();
        self.child = spawn(&self.directory, &self.environment);
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and its end.
    pub(crate) fn terminate(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn state(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.state().join("log")).unwrap_or_default()
    }
}

impl Drop for ScriptedDaemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(directory: &TempDir, environment: &[(String, String)]) -> Child {
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "scripted::serve", "--nocapture"]);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}
