//! The MQTT client against a real mosquitto: what it promises when all is well.

#![allow(clippy::unwrap_used)] // helpers of tests, too

#[path = "common/client.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod client;
#[path = "common/mosquitto.rs"]
mod mosquitto;

use std::time::Duration;

use bytes::Bytes;
use client::*;
use easeld::mqtt::{Client, ClientSettings, Incoming, Publication, PublishError};
use mosquitto::Mosquitto;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn publications_arrive_with_their_properties_and_publish_waits_for_the_broker() {
    let broker = Mosquitto::start();
    let (client, mut events) = Client::start(settings(broker.port()));
    connected(&mut events).await;
    let subscriber = broker.subscribe("pictures/one", &["-V", "mqttv5", "-F", "%q|%r|%C|%E|%D|%p"]);
    let publication = Publication {
        content_type: Some("image/png".to_owned()),
        expiry_s: Some(60),
        correlation_data: Some(Bytes::from_static(b"c-1")),
        ..message("pictures/one", "payload")
    };
    assert_eq!(published(&client, publication).await, Ok(()));
    let line = blocking(|| subscriber.output()).await;
    assert_eq!(String::from_utf8_lossy(&line).trim(), "1|0|image/png|60|c-1|payload");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_two_megabytes_arrives_whole_in_both_protocol_versions() {
    // mosquitto 2.1 takes packets of up to 2,000,000 bytes unless it is told otherwise.
    let broker = Mosquitto::builder().max_packet_size(3_000_000).start();
    let (client, mut events) = Client::start(settings(broker.port()));
    connected(&mut events).await;
    let picture: Bytes = (0..2_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for version in ["mqttv311", "mqttv5"] {
        let subscriber = broker.subscribe("picture", &["-V", version]);
        assert_eq!(published(&client, message("picture", picture.clone())).await, Ok(()));
        assert!(blocking(|| subscriber.output()).await == picture, "{version}: other bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_keep_their_order() {
    let broker = Mosquitto::start();
    let (client, mut events) = Client::start(settings(broker.port()));
    connected(&mut events).await;
    let subscriber = broker.subscribe("count", &["-C", "200", "-F", "%p"]);
    let calls = (0..200).map(|i| {
        let client = client.clone();
        async move { published(&client, message("count", i.to_string())).await }
    });
    // join_all polls in order the first time, which is when the requests leave.
    for outcome in futures_join(calls.collect()).await {
        assert_eq!(outcome, Ok(()));
    }
    let lines = blocking(|| subscriber.output()).await;
    let expected: String = (0..200).map(|i| format!("{i}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&lines), expected);
}

/// Runs futures together, each begun in order.
async fn futures_join<F>(calls: Vec<F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut set: Vec<_> = calls.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = set.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, slot) in set.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *slot = Some(output);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(done.iter_mut().filter_map(Option::take).collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_with_their_properties_and_retained_ones_are_told_apart() {
    let broker = Mosquitto::start();
    broker.publish("in/old", b"before we came", &["-r"]);
    let subscriptions = vec!["in/+".to_owned()];
    let (_client, mut events) = Client::start(ClientSettings { subscriptions, ..settings(broker.port()) });
    connected(&mut events).await;
    let more = ["-V", "mqttv5", "-D", "publish", "content-type", "text/plain"];
    let reply =
        ["-D", "publish", "response-topic", "easel/reply/7", "-D", "publish", "correlation-data", "c"];
    broker.publish("in/a", "ein Fuchs \u{1f98a}".as_bytes(), &[&more[..], &reply[..]].concat());
    // What was retained before is not replayed: this is the first message.
    let message = received(&mut events).await;
    assert!(message.packet_id.is_some() && !message.duplicate, "{message:?}");
    assert_eq!(
        Incoming { packet_id: None, ..message },
        Incoming {
            topic: "in/a".to_owned(),
            payload: Bytes::from("ein Fuchs \u{1f98a}"),
            retain: false,
            content_type: Some("text/plain".to_owned()),
            response_topic: Some("easel/reply/7".to_owned()),
            correlation_data: Some(Bytes::from("c")),
            ..Incoming::default()
        }
    );
    broker.publish("in/b", b"again and again", &["-r"]);
    let message = received(&mut events).await;
    assert!(message.retain, "the sender set the flag: {message:?}");
    broker.publish("in/c", b"3.1.1", &["-V", "mqttv311"]);
    assert_eq!(received(&mut events).await.payload, Bytes::from("3.1.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_will_is_published_when_the_client_vanishes_and_not_when_it_stops() {
    let broker = Mosquitto::start();
    let will = Some(retained("node/status", "offline"));
    let settings = ClientSettings { will, ..settings(broker.port()) };
    let (client, mut events) = Client::start(settings.clone());
    connected(&mut events).await;
    published(&client, retained("node/status", "online")).await.unwrap();
    let subscriber = broker.subscribe("node/status", &["-C", "2", "-F", "%r %p"]);
    drop((client, events)); // no farewell
    let lines = blocking(|| subscriber.output()).await;
    assert_eq!(String::from_utf8_lossy(&lines), "1 online\n0 offline\n");

    let (client, mut events) = Client::start(settings);
    connected(&mut events).await;
    let subscriber = broker.subscribe("node/status", &["-C", "2", "-F", "%p"]);
    assert_eq!(client.stop(retained("node/status", "stopped")).await, Ok(()));
    let lines = blocking(|| subscriber.output()).await;
    assert_eq!(String::from_utf8_lossy(&lines), "offline\nstopped\n");
    assert!(events.recv().await.is_none(), "the task has ended");
    broker.wait_for_log("easeld-test disconnected", 1);
    // In the words of mosquitto 2.0, and of 2.1.
    let vanished = ["closed its connection", "connection closed by client"];
    let log = broker.log();
    let of_ours = log.lines().filter(|line| line.contains("easeld-test"));
    let vanishings = of_ours.filter(|line| vanished.iter().any(|words| line.contains(words)));
    assert_eq!(vanishings.count(), 1, "only the first vanished: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_sends_what_waits_first() {
    let broker = Mosquitto::start();
    let (client, mut events) = Client::start(settings(broker.port()));
    connected(&mut events).await;
    let subscriber = broker.subscribe("t", &["-C", "11", "-F", "%p"]);
    for i in 0..10 {
        let client = client.clone();
        tokio::spawn(async move { client.publish(message("t", i.to_string())).await });
    }
    tokio::time::sleep(Duration::from_millis(5)).await; // they are on their way, not all acknowledged
    assert_eq!(client.stop(message("t", "last")).await, Ok(()));
    let lines = blocking(|| subscriber.output()).await;
    assert_eq!(String::from_utf8_lossy(&lines).lines().last(), Some("last"));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_without_a_connection_ends_at_once_and_answers_everyone() {
    let (client, mut events) = Client::start(settings(mosquitto::free_port()));
    disconnected(&mut events).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.publish(message("t", "x")).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let stopped = timeout(Duration::from_secs(2), client.clone().stop(message("t", "last"))).await;
    assert_eq!(stopped.expect("at once"), Err(PublishError::Stopped));
    assert_eq!(waiting.await.unwrap(), Err(PublishError::Stopped));
    assert_eq!(published(&client, message("t", "later")).await, Err(PublishError::Stopped));
}
