//! A broker inside the process, on loopback, for `demo` and for trials (`[mqtt] url = "embedded"`).
//! Why this one: `docs/adr/0002-embedded-broker.md`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use mqtt5::broker::config::{StorageBackend, StorageConfig};
use mqtt5::broker::{BrokerConfig, MqttBroker};
use tokio::sync::oneshot;

/// Largest packet: whole pictures pass, a runaway client does not.
const MAX_PACKET: usize = 16 << 20;

/// Connections at once.
const MAX_CLIENTS: usize = 64;

/// Topics with a retained message, and the size of one.
const MAX_RETAINED: usize = 1024;

/// What waits for one slow or absent client, in messages and bytes. Beyond it messages are dropped.
const MAX_QUEUED: usize = 256;
const MAX_QUEUED_BYTES: usize = 32 << 20;

/// Messages handed to a connection ahead of its socket.
const CONNECTION_CHANNEL: usize = 64;

/// How long the broker keeps the session of an absent client.
const SESSION_EXPIRY: Duration = Duration::from_secs(3600);

/// Most time that clients get to be told on a stop.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// A running broker, MQTT 3.1.1 and 5 on the same port, no users, nothing on disk. It stops, and forgets
/// everything, when it is dropped.
#[derive(Debug)]
pub struct EmbeddedBroker {
    addr: SocketAddr,
    /// Dropped to stop.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why the embedded broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The port is taken, mostly.
    #[error("the embedded broker cannot listen on 127.0.0.1:{port}: {message}")]
    Listen {
        /// The port asked for; 0 for any.
        port: u16,
        /// The system's or the broker's words.
        message: String,
    },
    /// No thread, or no event loop for it.
    #[error("the embedded broker has no thread to run on: {0}")]
    Thread(#[from] io::Error),
}

impl EmbeddedBroker {
    /// Starts on a port that the system chooses; accepts connections when this returns. Works inside and
    /// outside of a tokio runtime: the broker has a thread of its own.
    ///
    /// # Errors
    /// When there is no thread or port for it.
    pub fn start() -> Result<EmbeddedBroker, BrokerError> {
        EmbeddedBroker::start_on(0)
    }

    /// Starts on the given port of 127.0.0.1; 0 lets the system choose.
    ///
    /// # Errors
    /// When the port is taken, or there is no thread for it.
    pub fn start_on(port: u16) -> Result<EmbeddedBroker, BrokerError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let refused = move |error: mqtt5::MqttError| BrokerError::Listen { port, message: error.to_string() };
        let (stop, stopped) = oneshot::channel();
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("mqtt-broker".to_owned()).spawn(move || {
            runtime.block_on(async {
                match MqttBroker::with_config(configuration(port)).await {
                    Err(error) => drop(started.send(Err(refused(error)))),
                    Ok(broker) => serve(broker, port, &started, stopped).await,
                }
            });
            runtime.shutdown_background();
        })?;
        let addr = start.recv().map_err(|_| ended_early(port))??;
        Ok(EmbeddedBroker { addr, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops it and closes all connections; dropping does the same. Takes half a second at most.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the embedded broker panicked");
        }
    }
}

/// Runs the broker until `stopped`; says so once it accepts connections.
async fn serve(
    mut broker: MqttBroker,
    port: u16,
    started: &std::sync::mpsc::SyncSender<Result<SocketAddr, BrokerError>>,
    stopped: oneshot::Receiver<()>,
) {
    let Some(addr) = broker.local_addr() else {
        drop(started.send(Err(ended_early(port))));
        return;
    };
    let handle = broker.shutdown_handle();
    let mut ready = broker.ready_receiver();
    let watch = async {
        if ready.wait_for(|ready| *ready).await.is_ok() {
            tracing::info!(%addr, "embedded broker listens");
            drop(started.send(Ok(addr)));
            let _ = stopped.await; // the sender is dropped, which is the signal
            handle.shutdown();
        }
        tokio::time::sleep(STOP_LIMIT).await;
    };
    tokio::select! {
        ended = broker.run() => if let Err(error) = ended {
            tracing::error!(%error, "the embedded broker failed");
            drop(started.try_send(Err(BrokerError::Listen { port, message: error.to_string() })));
        },
        () = watch => {}
    }
}

fn ended_early(port: u16) -> BrokerError {
    BrokerError::Listen { port, message: "it ended before it listened".to_owned() }
}

fn configuration(port: u16) -> BrokerConfig {
    let storage = StorageConfig {
        backend: StorageBackend::Memory,
        max_queued_messages_per_client: MAX_QUEUED,
        max_queued_bytes_per_client: MAX_QUEUED_BYTES,
        ..StorageConfig::default()
    };
    BrokerConfig::new()
        .with_bind_address(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .with_storage(storage)
        .with_max_packet_size(MAX_PACKET)
        .with_max_retained_messages(MAX_RETAINED)
        .with_max_retained_message_size(MAX_PACKET)
        .with_max_clients(MAX_CLIENTS)
        .with_client_channel_capacity(CONNECTION_CHANNEL)
        .with_session_expiry(SESSION_EXPIRY)
        .with_sys_topics_enabled(false)
}
