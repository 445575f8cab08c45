//! A real mosquitto for tests: its own temporary directory, a port that the system chose, gone on drop.
//!
//! Include it with `#[path = "common/mosquitto.rs"] mod mosquitto;`.

#![allow(dead_code, unreachable_pub)] // each test file uses a part

#[path = "certificates.rs"]
mod certificates;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A wait that ends up here has failed.
pub const PATIENCE: Duration = Duration::from_secs(if cfg!(target_arch = "x86_64") { 60 } else { 600 });

/// A broker that runs until it is dropped.
#[derive(Debug)]
pub struct Mosquitto {
    directory: TempDir,
    port: u16,
    process: Option<Child>,
    user: Option<(String, String)>,
    ca: Option<PathBuf>,
}

/// What to start it with.
#[derive(Debug, Default)]
pub struct Builder {
    lines: Vec<String>,
    user: Option<(String, String)>,
    acl: Option<String>,
    refused: Option<String>,
    tls: bool,
    client_certificates: bool,
    expired: bool,
    persistence: bool,
}

impl Builder {
    /// Lets in only this user.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// An access list, in mosquitto's syntax (`topic read easel/#`).
    pub fn acl(mut self, acl: &str) -> Self {
        self.acl = Some(acl.to_owned());
        self
    }

    /// Refuses subscriptions to these filters, as a list of `topic` lines cannot: by mosquitto's dynamic security plugin.
    pub fn subscriptions_refused(mut self, filter: &str) -> Self {
        self.refused = Some(filter.to_owned());
        self
    }

    /// Largest packet, announced to MQTT 5 clients.
    pub fn max_packet_size(self, bytes: u32) -> Self {
        self.line(&format!("max_packet_size {bytes}"))
    }

    /// Any other line of mosquitto.conf.
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// TLS with a certificate for `localhost`; see [`Mosquitto::ca_file`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// TLS, and clients must show a certificate; see [`Mosquitto::client_files`].
    pub fn client_certificates(mut self) -> Self {
        self.tls = true;
        self.client_certificates = true;
        self
    }

    /// TLS with a certificate that has expired.
    pub fn expired_certificate(mut self) -> Self {
        self.tls = true;
        self.expired = true;
        self
    }

    /// Keeps sessions and retained messages over a restart.
    pub fn persistent(mut self) -> Self {
        self.persistence = true;
        self
    }

    /// Writes the configuration and picks a port; nothing runs yet.
    pub fn prepare(self) -> Mosquitto {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name).display().to_string();
        let port = free_port();
        let mut conf = vec![format!("listener {port} 127.0.0.1")];
        conf.push(format!("allow_anonymous {}", self.user.is_none()));
        if let Some((name, password)) = &self.user {
            run(Command::new("mosquitto_passwd").args(["-b", "-c", &at("passwords"), name, password]));
            conf.push(format!("password_file {}", at("passwords")));
        }
        if let Some(acl) = &self.acl {
            write(&directory, "acl", acl);
            conf.push(format!("acl_file {}", at("acl")));
        }
        if let Some(filter) = &self.refused {
            write(&directory, "security.json", &everything_but(filter));
            conf.push(format!("plugin {}", plugin("mosquitto_dynamic_security.so").display()));
            conf.push(format!("plugin_opt_config_file {}", at("security.json")));
        }
        if self.tls {
            certificates::write(directory.path(), self.expired);
            conf.push(format!("certfile {}", at("server.pem")));
            conf.push(format!("keyfile {}", at("server.key")));
            conf.push(format!("cafile {}", at("ca.pem")));
            conf.push(format!("require_certificate {}", self.client_certificates));
        }
        if self.persistence {
            conf.push("persistence true".to_owned());
            conf.push(format!("persistence_location {}/", directory.path().display()));
        }
        conf.extend(self.lines);
        // Started by root, mosquitto becomes another user, who could not read the directory.
        conf.push("user root".to_owned());
        write(&directory, "mosquitto.conf", &(conf.join("\n") + "\n"));
        let ca = self.tls.then(|| directory.path().join("ca.pem"));
        Mosquitto { directory, port, process: None, user: self.user, ca }
    }

    /// Starts the broker and waits until it accepts connections.
    pub fn start(self) -> Mosquitto {
        let mut broker = self.prepare();
        broker.run();
        broker
    }
}

impl Mosquitto {
    /// Anonymous, plain TCP.
    pub fn start() -> Mosquitto {
        Builder::default().start()
    }

    /// For anything else.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts it (again), on the same port.
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "mosquitto runs already");
        let log = std::fs::File::create(self.directory.path().join("log")).expect("a log file");
        let child = Command::new(mosquitto())
            .arg("-c")
            .arg(self.directory.path().join("mosquitto.conf"))
            .arg("-v") // tests wait for what the log says
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("mosquitto starts: apt-get install mosquitto mosquitto-clients");
        self.process = Some(child);
        let until = Instant::now() + PATIENCE;
        // Its own word for it: what answers at the port while it is not up is somebody else, or the very socket that asks.
        while !self.log().contains(" running") || TcpStream::connect(self.addr()).is_err() {
            let ended = self.process.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none() && Instant::now() < until, "mosquitto does not accept: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it the polite way, so that it saves what it persists.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let terminated = Command::new("kill").arg(child.id().to_string()).status();
            assert!(terminated.expect("kill runs").success());
            child.wait().expect("mosquitto ends");
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Process id, for `SIGSTOP`.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("mosquitto runs").id()
    }

    /// TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// `mqtt://127.0.0.1:PORT`, or `mqtts://localhost:PORT` with TLS.
    pub fn url(&self) -> String {
        match self.ca {
            Some(_) => format!("mqtts://localhost:{}", self.port),
            None => format!("mqtt://127.0.0.1:{}", self.port),
        }
    }

    /// The authority that signed its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A client's certificate and key, signed by the same authority.
    pub fn client_files(&self) -> (PathBuf, PathBuf) {
        (self.directory.path().join("client.pem"), self.directory.path().join("client.key"))
    }

    /// A directory that lives as long as the broker.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// `mosquitto_pub` at QoS 1; more options by `more` (`["-r"]`, `["-V", "mqttv311"]`).
    pub fn publish(&self, topic: &str, payload: &[u8], more: &[&str]) {
        let mut command = self.client("mosquitto_pub", &["-q", "1", "-t", topic, "-s"]);
        let mut child = command.args(more).stdin(Stdio::piped()).spawn().expect("mosquitto_pub starts");
        child.stdin.take().expect("a pipe").write_all(payload).expect("mosquitto_pub reads");
        assert!(child.wait().expect("mosquitto_pub ends").success(), "mosquitto_pub failed: {}", self.log());
    }

    /// `mosquitto_sub` at QoS 1 on `topic`, in place when this returns; prints one message, raw,
    /// unless `more` says otherwise (`["-C", "3"]`, `["-F", "%r %t"]`).
    pub fn subscribe(&self, topic: &str, more: &[&str]) -> Subscriber {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("subscriber-{}-", NUMBER.fetch_add(1, Ordering::Relaxed));
        let command = self.client("mosquitto_sub", &["-q", "1", "-t", topic, "-i", &id]);
        let subscriber = Subscriber::start(command, more);
        self.wait_for_log(&format!("Sending SUBACK to {id}"), 1);
        subscriber
    }

    /// Changes a line of the configuration; the next start heeds it.
    pub fn set_line(&self, key: &str, value: &str) {
        let file = self.directory.path().join("mosquitto.conf");
        let conf = std::fs::read_to_string(&file).expect("its configuration");
        let lines = conf.lines().filter(|line| !line.starts_with(key));
        let changed: Vec<String> = lines.map(str::to_owned).chain([format!("{key} {value}")]).collect();
        std::fs::write(&file, changed.join("\n") + "\n").expect("its configuration");
    }

    /// Waits until the log has `times` lines with all of these words: releases word their lines differently.
    pub fn wait_for_log(&self, words: &str, times: usize) {
        let until = Instant::now() + PATIENCE;
        let has_all = |line: &&str| words.split(' ').all(|word| line.contains(word));
        while self.log().lines().filter(has_all).count() < times {
            assert!(Instant::now() < until, "{words:?} are in no line of the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = client(program, self.port);
        if let Some((name, password)) = &self.user {
            command.args(["-u", name, "-P", password]);
        }
        if let Some(ca) = &self.ca {
            let (certificate, key) = self.client_files();
            command.arg("--cafile").arg(ca).arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        command.args(arguments);
        command
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running `mosquitto_sub`.
#[derive(Debug)]
pub struct Subscriber {
    child: Child,
}

impl Subscriber {
    /// Starts the prepared command: one message, raw, unless `more` says otherwise.
    pub fn start(mut command: Command, more: &[&str]) -> Subscriber {
        command.args(["-W", &PATIENCE.as_secs().to_string()]).args(more);
        if !more.contains(&"-C") {
            command.args(["-C", "1"]);
        }
        if !more.contains(&"-F") {
            command.arg("-N");
        }
        let child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mosquitto_sub starts");
        Subscriber { child }
    }

    /// What it printed until it had its messages; panics when they do not come.
    pub fn output(self) -> Vec<u8> {
        let Output { status, stdout, stderr } = self.child.wait_with_output().expect("mosquitto_sub ends");
        assert!(status.success(), "no message came: {}", String::from_utf8_lossy(&stderr));
        stdout
    }
}

/// A mosquitto client program towards a port on loopback.
pub fn client(program: &str, port: u16) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "localhost", "-p", &port.to_string()]);
    command
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Where the broker program is: Debian keeps it out of users' PATH. `EASELD_TEST_MOSQUITTO` names another.
fn mosquitto() -> PathBuf {
    let debian = PathBuf::from("/usr/sbin/mosquitto");
    match std::env::var_os("EASELD_TEST_MOSQUITTO") {
        Some(program) => program.into(),
        None if debian.exists() => debian,
        None => "mosquitto".into(),
    }
}

/// A plugin of the broker; `EASELD_TEST_MOSQUITTO_PLUGINS` names the directory of another's.
fn plugin(name: &str) -> PathBuf {
    let own = std::env::var_os("EASELD_TEST_MOSQUITTO_PLUGINS").map(PathBuf::from);
    let libraries = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let known = libraries.chain(["/usr/lib".into(), "/usr/local/lib".into()]);
    let mut all = own.into_iter().chain(known).map(|directory| directory.join(name));
    all.find(|path| path.exists())
        .unwrap_or_else(|| panic!("mosquitto's {name} is in no directory of /usr/lib"))
}

/// What the dynamic security plugin reads: nobody needs a password, and everything is allowed but subscribing to `filter`.
fn everything_but(filter: &str) -> String {
    let refused = r#"{"acltype": "subscribePattern", "topic": "FILTER", "priority": 1, "allow": false}"#;
    r#"{"defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true},
        "anonymousGroup": "all", "clients": [],
        "groups": [{"groupname": "all", "roles": [{"rolename": "limited"}]}],
        "roles": [{"rolename": "limited", "acls": [REFUSED]}]}"#
        .replace("REFUSED", &refused.replace("FILTER", filter))
}

fn write(directory: &TempDir, name: &str, content: &str) {
    std::fs::write(directory.path().join(name), content).expect("the temporary directory is writable");
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
