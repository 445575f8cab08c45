//! `tests/long reconnects`: a client whose connection is cut a thousand times.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use easeld::device::memory::status_kib;
use easeld::mqtt::{Backoff, Client, ClientSettings, MqttEvent, Publication};

use crate::count;
use crate::mosquitto::Mosquitto;

/// Connections before memory is looked at for the first time.
const WARM: usize = 100;

/// Lets connections through to `broker`; what it hands out cuts them.
fn proxy(broker: u16) -> (u16, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (cutters, out) = mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(("127.0.0.1", broker)).unwrap();
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client.try_clone().unwrap()),
            ] {
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = from.read(&mut buffer) {
                        if to.write_all(&buffer[..length]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
            let _ = cutters.send(client);
        }
    });
    (port, out)
}

#[test]
#[ignore = "long: tests/long reconnects"]
fn reconnects() {
    let rounds = count("EASELD_ROUNDS", 1000);
    let broker = Mosquitto::start();
    let (port, cutters) = proxy(broker.port());
    let millis = Duration::from_millis;
    let settings = ClientSettings {
        subscriptions: vec!["in".to_owned()],
        backoff: Backoff { first: millis(2), max: millis(4), taken_over: millis(4), stable_after: millis(1) },
        ..ClientSettings::new("127.0.0.1", port, "soak")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (client, mut events) = runtime.block_on(async { Client::start(settings) });
    let (mut rss, mut delivered) = (Vec::new(), 0);
    let started = Instant::now();
    for round in 0..rounds {
        let cutter = cutters.recv_timeout(Duration::from_secs(20)).expect("it connects");
        runtime.block_on(async {
            while !matches!(events.recv().await, Some(MqttEvent::Connected { .. })) {}
            let payload = vec![round as u8; 50_000];
            let publication =
                Publication { topic: "out".to_owned(), payload: payload.into(), ..Publication::default() };
            // Every third connection dies with the picture on its way: it has to arrive over the next one.
            if round % 3 == 0 {
                let client = client.clone();
                tokio::spawn(async move { client.publish(publication).await });
            } else {
                client.publish(publication).await.expect("the broker takes it");
                delivered += 1;
            }
        });
        cutter.shutdown(Shutdown::Both).unwrap();
        if round >= WARM && round % 50 == 0 {
            rss.push(status_kib("VmRSS").unwrap());
        }
    }
    let quarter = (rss.len() / 4).max(1);
    let mean = |values: &[u64]| values.iter().sum::<u64>() as f64 / values.len() as f64;
    let (early, late) = (mean(&rss[..quarter]), mean(&rss[rss.len() - quarter..]));
    let drift = 100.0 * (late - early) / early;
    eprintln!(
        "{rounds} reconnects in {:.0} s, {delivered} publications awaited, VmRSS {early:.0} KiB early, {late:.0} KiB late: {drift:+.2} %",
        started.elapsed().as_secs_f64()
    );
    assert!(drift < 1.0, "memory grows: {rss:?}");
}
