//! The MQTT client over a line that misbehaves: a TCP proxy between it and a real mosquitto cuts, stalls, delays, resets and
//! trickles. Whatever it does, what was published arrives once the line is good again, as it was sent.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/client.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod client;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/proxy.rs"]
mod proxy;

use std::time::Duration;

use bytes::Bytes;
use client::*;
use easeld::mqtt::{Client, ClientSettings, MqttEvent};
use mosquitto::{Mosquitto, PATIENCE};
use proxy::{Fault, Proxy};
use tokio::time::timeout;

/// As large as a picture, and not compressible by chance into one packet.
fn picture() -> Bytes {
    (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>().into()
}

/// Publishes a picture over a line with `faults`, one for each connection in turn, then over a good one. It arrives whole.
async fn arrives_in_spite_of(faults: Vec<Fault>) {
    let broker = Mosquitto::start();
    let proxy = Proxy::start(broker.port(), faults.clone());
    let subscriber = broker.subscribe("picture", &["-V", "mqttv5"]);
    let keep_alive = Duration::from_secs(5);
    let (client, mut events) = Client::start(ClientSettings { keep_alive, ..settings(proxy.port()) });
    let drain = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let outcome = timeout(2 * PATIENCE, client.publish(message("picture", picture()))).await;
    assert_eq!(outcome.expect("it ends"), Ok(()), "{faults:?}");
    let arrived = blocking(|| subscriber.output()).await;
    assert!(arrived == picture(), "{faults:?}: {} bytes arrived", arrived.len());
    drain.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_cut_after_so_many_bytes() {
    // In CONNECT, at its end, in the picture, and near its end.
    arrives_in_spite_of([3, 60, 1000, 150_000].map(Fault::CutAfter).into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_reset_in_the_middle_of_a_picture() {
    arrives_in_spite_of(vec![Fault::ResetAfter(20_000), Fault::ResetAfter(200_000)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_stalls_towards_the_broker() {
    arrives_in_spite_of(vec![Fault::StallUpAfter(50_000)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_stalls_towards_us() {
    // The broker has the picture, and its acknowledgement does not come back: it is sent again.
    arrives_in_spite_of(vec![Fault::StallDownAfter(12)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_with_half_a_second_of_delay() {
    arrives_in_spite_of(vec![Fault::Delay(Duration::from_millis(500))]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_trickles() {
    arrives_in_spite_of(vec![Fault::Trickle { bytes: 2000, every: Duration::from_millis(20) }]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_acknowledgement_was_lost_comes_again_marked() {
    let broker = Mosquitto::start();
    let proxy = Proxy::start(broker.port(), vec![Fault::None]);
    let subscriptions = vec!["in".to_owned()];
    let (_client, mut events) = Client::start(ClientSettings { subscriptions, ..settings(proxy.port()) });
    connected(&mut events).await;
    broker.publish("in", b"once", &[]);
    let first = received(&mut events).await;
    // It is held, so not acknowledged, while the line breaks.
    proxy.cut();
    let mut second = None;
    while second.is_none() {
        if let MqttEvent::Message(message) = next(&mut events).await {
            second = Some(message);
        }
    }
    let second = second.unwrap();
    assert!(second.duplicate && !first.duplicate, "{second:?}");
    assert_eq!((second.packet_id, &second.payload), (first.packet_id, &first.payload));
    drop((first, second));
    // Acknowledged now: it does not come a third time, however often the line breaks.
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.cut();
    let later = async {
        while let Some(event) = events.recv().await {
            assert!(!matches!(event, MqttEvent::Message(_)), "{event:?}");
        }
    };
    assert!(timeout(Duration::from_secs(3), later).await.is_err(), "the client runs");
}
