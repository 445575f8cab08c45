//! A TCP proxy that misbehaves on demand: one fault for each connection in turn, none once they are used up.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;

/// What a connection does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Ends after so many bytes from the client.
    CutAfter(usize),
    /// The same, with a reset.
    ResetAfter(usize),
    /// Takes no more from the client after so many bytes, and says nothing.
    StallUpAfter(usize),
    /// Gives no more to the client after so many bytes.
    StallDownAfter(usize),
    /// Everything comes so much later.
    Delay(Duration),
    /// So many bytes at a time.
    Trickle {
        /// At once.
        bytes: usize,
        /// Between them.
        every: Duration,
    },
}

/// See the module. Threads end with their connections.
pub(crate) struct Proxy {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Lets connections through to the broker on `port`.
    pub(crate) fn start(broker: u16, faults: Vec<Fault>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let open = Arc::new(Mutex::new(Vec::new()));
        let kept = open.clone();
        std::thread::spawn(move || {
            let faults = faults.into_iter().chain(std::iter::repeat(Fault::None));
            for (client, fault) in listener.incoming().map_while(Result::ok).zip(faults) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                kept.lock().expect("nobody panics").push(client.try_clone().expect("a socket"));
                let pair = |one: &TcpStream, two: &TcpStream| {
                    (one.try_clone().expect("a socket"), two.try_clone().expect("a socket"))
                };
                let (up, down) = (pair(&client, &server), pair(&server, &client));
                std::thread::spawn(move || carry(up.0, up.1, fault, true));
                std::thread::spawn(move || carry(down.0, down.1, fault, false));
            }
        });
        Proxy { port, open }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection that is open.
    pub(crate) fn cut(&self) {
        for socket in self.open.lock().expect("nobody panics").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// One direction of one connection; `up` is from the client.
fn carry(mut from: TcpStream, mut to: TcpStream, fault: Fault, up: bool) {
    let piece = match fault {
        Fault::Trickle { bytes, .. } => bytes,
        _ => 16 << 10,
    };
    let (mut buffer, mut passed) = (vec![0; piece], 0);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let left = match fault {
            Fault::CutAfter(bytes) | Fault::ResetAfter(bytes) | Fault::StallUpAfter(bytes) if up => {
                bytes - passed.min(bytes)
            }
            Fault::StallDownAfter(bytes) if !up => bytes - passed.min(bytes),
            _ => usize::MAX,
        };
        match fault {
            Fault::Delay(delay) => std::thread::sleep(delay / 2),
            Fault::Trickle { every, .. } if up => std::thread::sleep(every),
            _ => {}
        }
        let pass = length.min(left);
        if to.write_all(&buffer[..pass]).is_err() {
            break;
        }
        passed += pass;
        if pass < length {
            match fault {
                Fault::StallUpAfter(_) | Fault::StallDownAfter(_) => {
                    // Until the other side gives up: nothing is read any more, nothing closed.
                    std::thread::sleep(Duration::from_secs(60));
                }
                Fault::ResetAfter(_) => {
                    let _ = SockRef::from(&from).set_linger(Some(Duration::ZERO));
                }
                _ => {}
            }
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
