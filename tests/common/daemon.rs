//! `easeld serve` as a child process: the real binary on the bundled pack, its log in a file.

#![allow(dead_code)] // each test file uses a part

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The node's name in these tests.
pub(crate) const NODE: &str = "desk";
/// Start-up, a stop, a log line: what takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(if cfg!(target_arch = "x86_64") { 60 } else { 600 });

/// A daemon that is killed on drop.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    directory: TempDir,
    url: String,
    more: Vec<(String, String)>,
}

/// `easeld` with nothing of the tester's environment.
pub(crate) fn easeld() -> Command {
    easeld_under(&[])
}

/// The same as the last arguments of another command, which has to become it (`exec`): `["taskset", "--cpu-list", "0"]`.
pub(crate) fn easeld_under(wrapper: &[&str]) -> Command {
    let words = [wrapper, &[env!("CARGO_BIN_EXE_easeld")]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    command
}

/// The bundled pack, unless `EASELD_TEST_PACK` names another.
pub(crate) fn pack() -> PathBuf {
    std::env::var_os("EASELD_TEST_PACK")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/models/emoji")), PathBuf::from)
}

fn spawn(directory: &TempDir, url: &str, more: &[(String, String)]) -> Child {
    let log = std::fs::File::create(directory.path().join("log")).expect("a log file");
    let under: Vec<&str> =
        more.iter().filter(|(name, _)| name == "--under").flat_map(|(_, words)| words.lines()).collect();
    let mut command = easeld_under(&under);
    command
        .arg("serve")
        .args(more.iter().filter(|(name, _)| name == "--config").flat_map(|(name, value)| [name, value]))
        .env("EASELD__MQTT__URL", url)
        .env("EASELD__NODE__NAME", NODE)
        // Tests run side by side; those that want the server say on which port.
        .env("EASELD__HTTP__LISTEN", "none")
        .env("EASELD__MODELS__DEFAULT", pack())
        .env("EASELD__STATE__DIR", directory.path())
        .envs(more.iter().filter(|(name, _)| !name.starts_with('-')).map(|(name, value)| (name, value)));
    command.stdout(Stdio::null()).stderr(log).spawn().expect("easeld starts")
}

impl Daemon {
    /// Starts `easeld serve` against the broker at `url` with `more` in the environment; `--config` names a file, `--under` the
    /// words, a line each, of a command that becomes easeld.
    pub(crate) fn start(url: &str, more: &[(&str, &str)]) -> Daemon {
        Daemon::start_in(TempDir::new().expect("a temporary directory"), url, more)
    }

    /// Starts it on a state directory that may hold something.
    pub(crate) fn start_in(directory: TempDir, url: &str, more: &[(&str, &str)]) -> Daemon {
        let more: Vec<_> =
            more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let child = spawn(&directory, url, &more);
        Daemon { child, directory, url: url.to_owned(), more }
    }

    /// Starts it with a configuration file.
    pub(crate) fn start_configured(url: &str, config: &std::path::Path) -> Daemon {
        Daemon::start(url, &[("--config", config.to_str().expect("UTF-8"))])
    }

    /// Starts it again, on the state that it left. The log begins anew.
    pub(crate) fn again(&mut self) {
        self.kill();
        self.child = spawn(&self.directory, &self.url, &self.more);
    }

    /// Its state directory.
    pub(crate) fn state(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A variable of its environment, as it was when the program began.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let all =
            std::fs::read_to_string(format!("/proc/{}/environ", self.child.id())).expect("its environment");
        let value = all.split('\0').find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='));
        value.map(str::to_owned)
    }

    /// What it wrote to its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Waits until the log says `text`.
    pub(crate) fn wait_for_log(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(self.is_up() && Instant::now() < until, "no {text:?} in:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether the process runs.
    pub(crate) fn is_up(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }

    /// SIGTERM; its exit status and how long it took.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        let asked = Instant::now();
        let kill = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(kill.expect("kill runs").success());
        let until = asked + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return (status, asked.elapsed());
            }
            assert!(Instant::now() < until, "still running:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- easeld's log\n{}---", self.log());
        }
    }
}
