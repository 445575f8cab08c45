//! Listening: connections are taken while there is room, held to their times, and ended in an orderly way.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use super::events;
use super::routes::router;
use super::shared::{Peer, Shared};

/// Between two attempts at a port that is taken.
const RETRY: Duration = Duration::from_secs(10);
/// After the system refused a connection, mostly for want of file descriptors.
const REST: Duration = Duration::from_millis(200);
/// How long answers that are under way may take at a stop.
const GRACE: Duration = Duration::from_secs(1);
/// Most bytes of a request's head; hyper's least.
const HEAD_MAX: usize = 16 << 10;

/// The server's task. Everything ends with [`Server::stop`].
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) fn start(listen: SocketAddr, shared: Arc<Shared>) -> Self {
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(events::tell_states(shared.clone()));
        let task = tokio::spawn(run(listen, shared, stopped));
        Self { stop, task }
    }

    /// Takes no more connections, ends listeners, and lets answers under way out for a second.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = timeout(2 * GRACE, self.task).await;
    }
}

async fn run(listen: SocketAddr, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let listener = tokio::select! {
        listener = bind(listen) => listener,
        _ = stopped.changed() => return,
    };
    if !listen.ip().is_loopback() && shared.guard.lock() == "none" {
        tracing::warn!("others than this machine are turned away: no token is set ([http] token_file)");
    }
    let slots = Arc::new(Semaphore::new(shared.config.max_connections));
    let clients =
        Arc::new(Clients { most: shared.config.max_connections_per_client, open: Mutex::default() });
    let router = router(shared.clone());
    loop {
        let accepted = async {
            // At the limit further connections wait in the system's own queue.
            let slot = slots.clone().acquire_owned().await.expect("never closed");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = stopped.changed() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be taken");
                sleep(REST).await;
                continue;
            }
        };
        let Some(place) = clients.enter(peer.ip().to_canonical()) else {
            tracing::debug!(%peer, "closed: too many connections of one client");
            continue;
        };
        shared.metrics.connection();
        let held = Held { _slot: slot, _place: place };
        tokio::spawn(serve(stream, peer, router.clone(), shared.client_timeout(), held, stopped.clone()));
    }
    drop(listener);
    // All slots are back when all connections have ended.
    let all = u32::try_from(shared.config.max_connections).unwrap_or(u32::MAX);
    let _ = timeout(GRACE, slots.acquire_many(all)).await;
}

/// The port, as soon as it is free: whatever else this process does goes on meanwhile.
async fn bind(listen: SocketAddr) -> TcpListener {
    let mut told = String::new();
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(listen);
                tracing::info!(%address, "the page and the API are at http://{address}/");
                return listener;
            }
            Err(error) => {
                if told != error.to_string() {
                    told = error.to_string();
                    tracing::warn!(
                        address = %listen, %error,
                        "cannot listen for HTTP; trying again every {} s ([http] listen)", RETRY.as_secs()
                    );
                }
                sleep(RETRY).await;
            }
        }
    }
}

/// What a connection holds while it lives.
struct Held {
    _slot: OwnedSemaphorePermit,
    _place: Place,
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    patience: Duration,
    held: Held,
    mut stopped: watch::Receiver<bool>,
) {
    // Small answers go out at once.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience));
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request| {
        request.extensions_mut().insert(Peer(peer));
        let answer = inner.call(request);
        async move { answer.await.map_err(|never: Infallible| never) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Some(patience))
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "a connection broke");
    }
    drop(held);
}

/// Connections of each client beyond this machine.
#[derive(Debug)]
struct Clients {
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Clients {
    /// A place for one more connection of `client`, if it may have one.
    fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        if !client.is_loopback() {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let count = open.entry(client).or_default();
            if *count >= self.most {
                return None;
            }
            *count += 1;
        }
        Some(Place { client, clients: self.clone() })
    }
}

/// Given back on drop.
#[derive(Debug)]
struct Place {
    client: IpAddr,
    clients: Arc<Clients>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.clients.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_take_all_connections_and_gets_its_own_back() {
        let clients = Arc::new(Clients { most: 2, open: Mutex::default() });
        let far: IpAddr = "10.0.0.1".parse().expect("an address");
        let near: IpAddr = "127.0.0.1".parse().expect("an address");
        let first = clients.enter(far).expect("room");
        let _second = clients.enter(far).expect("room");
        assert!(clients.enter(far).is_none());
        assert!((0..10).all(|_| clients.enter(near).is_some()), "this machine is bounded by all connections");
        drop(first);
        assert!(clients.enter(far).is_some());
        assert_eq!(clients.open.lock().expect("no panic holds it").get(&far), Some(&1));
    }
}
