//! The MQTT client against a real mosquitto that refuses, hangs, restarts, or is not there.

#![allow(clippy::unwrap_used)] // helpers of tests, too

#[path = "common/client.rs"]
mod client;
#[path = "common/mosquitto.rs"]
mod mosquitto;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use client::*;
use easeld::mqtt::{Client, ClientSettings, Credentials, MqttConfig, MqttEvent, Publication, PublishError};
use mosquitto::{Mosquitto, PATIENCE};
use tokio::time::timeout;

/// More bytes than mosquitto 2.1 takes unless it is told to.
const MANY: u32 = 50_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_once_and_tried_again() {
    let broker = Mosquitto::builder().user("panel", "right").start();
    let wrong = Credentials { username: "panel".to_owned(), password: "wrong".to_owned() };
    let settings = ClientSettings { credentials: Some(wrong), ..settings(broker.port()) };
    let (client, mut events) = Client::start(settings.clone());
    let MqttEvent::Disconnected { reason, wait } = next(&mut events).await else { panic!("it is let in") };
    assert!(reason.contains("refused user \"panel\"") && reason.contains("password_file"), "{reason}");
    assert!(wait > Duration::ZERO, "it says when it tries again");
    blocking(move || {
        broker.wait_for_log("not authorised", 3); // it keeps trying ...
        broker
    })
    .await;
    assert!(events.try_recv().is_err(), "... and does not repeat itself");
    assert!(!format!("{settings:?}").contains("wrong"), "the password is not in debug output");
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_clients_are_told_what_to_set() {
    let broker = Mosquitto::builder().user("panel", "right").start();
    let (_client, mut events) = Client::start(settings(broker.port()));
    let reason = disconnected(&mut events).await;
    assert!(reason.contains("set [mqtt] username and password_file"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_later_is_found_and_gets_what_waited() {
    let mut broker = Mosquitto::builder().prepare();
    let (client, mut events) = Client::start(settings(broker.port()));
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.publish(retained("early", "bird")).await }
    });
    let reason = disconnected(&mut events).await;
    assert!(reason.contains("connection refused by mqtt://127.0.0.1:"), "{reason}");
    broker.run();
    connected(&mut events).await;
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap(), Ok(()));
    let subscriber = broker.subscribe("early", &["-F", "%r %p"]);
    assert_eq!(blocking(|| subscriber.output()).await, b"1 bird\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_broker_subscriptions_and_waiting_messages_are_back() {
    for persistent in [false, true] {
        let builder = Mosquitto::builder();
        let mut broker = if persistent { builder.persistent().start() } else { builder.start() };
        let subscriptions = vec!["in".to_owned()];
        let (client, mut events) = Client::start(ClientSettings { subscriptions, ..settings(broker.port()) });
        connected(&mut events).await;
        broker.stop();
        let reason = disconnected(&mut events).await;
        assert!(reason.contains("broker") || reason.contains("reset"), "{reason}");
        let waiting: Vec<_> = (0..20)
            .map(|i| {
                let client = client.clone();
                tokio::spawn(async move { client.publish(retained_number(i)).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        broker.run();
        // While it was down the reason may have changed (shut down, then refused); then it is back.
        loop {
            match next(&mut events).await {
                MqttEvent::Connected { .. } => break,
                MqttEvent::Disconnected { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        for outcome in waiting {
            assert_eq!(timeout(PATIENCE, outcome).await.unwrap().unwrap(), Ok(()));
        }
        let subscriber = broker.subscribe("number/+", &["-C", "20", "-F", "%t"]);
        let topics = blocking(|| subscriber.output()).await;
        let distinct: std::collections::BTreeSet<_> =
            String::from_utf8(topics).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(distinct.len(), 20, "persistent {persistent}");
        broker.publish("in", b"hello again", &[]);
        assert_eq!(received(&mut events).await.payload, Bytes::from("hello again"));
    }
}

fn retained_number(i: u32) -> Publication {
    Publication { retain: true, ..message(&format!("number/{i}"), i.to_string()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_sent_while_we_were_away_come_after_the_reconnect() {
    let broker = Mosquitto::start();
    let subscriptions = vec!["in".to_owned()];
    let settings = ClientSettings { subscriptions, ..settings(broker.port()) };
    let (client, mut events) = Client::start(settings.clone());
    connected(&mut events).await;
    client.stop(message("bye", "")).await.unwrap();
    broker.publish("in", b"while you were out", &[]);
    let (_client, mut events) = Client::start(settings);
    loop {
        match next(&mut events).await {
            MqttEvent::Message(message) => {
                break assert_eq!(message.payload, Bytes::from("while you were out"));
            }
            MqttEvent::Connected { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_above_the_brokers_limit_is_refused_and_the_rest_goes_on() {
    let broker = Mosquitto::builder().max_packet_size(10_000).start();
    let (client, mut events) = Client::start(settings(broker.port()));
    assert_eq!(connected(&mut events).await, Some(10_000));
    let outcome = published(&client, message("t", vec![0; 10_000])).await;
    let Err(PublishError::TooLarge { bytes, limit }) = outcome else { panic!("{outcome:?}") };
    assert!((10_001..10_020).contains(&bytes) && limit == 10_000, "{bytes} {limit}");
    let overhead = bytes - 10_000;
    assert_eq!(
        published(&client, message("t", vec![0; 10_000 - overhead])).await,
        Ok(()),
        "exactly the limit"
    );
    assert!(events.try_recv().is_err(), "the connection was never lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_is_reported_and_the_others_hold() {
    let broker = Mosquitto::builder().subscriptions_refused("forbidden/#").start();
    let subscriptions = vec!["forbidden/in".to_owned(), "allowed/in".to_owned()];
    let (client, mut events) = Client::start(ClientSettings { subscriptions, ..settings(broker.port()) });
    let (mut refused, mut is_connected) = (None, false);
    while refused.is_none() || !is_connected {
        match next(&mut events).await {
            MqttEvent::SubscriptionRefused { filter, reason } => refused = Some((filter, reason)),
            MqttEvent::Connected { .. } => is_connected = true,
            other => panic!("{other:?}"),
        }
    }
    let (filter, reason) = refused.unwrap();
    assert_eq!(filter, "forbidden/in");
    assert!(reason.contains("0x87") && reason.contains("access list"), "{reason}");
    assert_eq!(published(&client, message("allowed/in", "still here")).await, Ok(()));
    assert_eq!(received(&mut events).await.payload, Bytes::from("still here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_access_list_are_reported() {
    let broker = Mosquitto::builder().acl("topic write allowed/#\ntopic read allowed/#\n").start();
    let subscriptions = vec!["allowed/in".to_owned(), "forbidden/in".to_owned()];
    let (client, mut events) = Client::start(ClientSettings { subscriptions, ..settings(broker.port()) });
    // mosquitto accepts any subscription and lets nothing through, unless `subscribe` rules exist: only the
    // publication tells.
    connected(&mut events).await;
    assert_eq!(published(&client, message("allowed/out", "x")).await, Ok(()));
    let outcome = published(&client, message("forbidden/out", "x")).await;
    let Err(PublishError::Refused { reason }) = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("0x87"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_drops_for_its_size_is_an_error() {
    let broker = Mosquitto::builder().line("message_size_limit 1000").start();
    let (client, mut events) = Client::start(settings(broker.port()));
    connected(&mut events).await;
    let outcome = published(&client, message("t", vec![0; 1001])).await;
    let Err(PublishError::Refused { reason }) = outcome else { panic!("{outcome:?}") };
    let codes = ["0x83", "0x95", "0x97"]; // versions of mosquitto differ
    assert!(codes.iter().any(|code| reason.contains(code)), "{reason}");
    assert_eq!(published(&client, message("t", vec![0; 1000])).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_works_with_an_authority_of_ones_own_and_client_certificates() {
    let broker = Mosquitto::builder().client_certificates().start();
    let (cert_file, key_file) = broker.client_files();
    let config = MqttConfig {
        url: broker.url(),
        ca_file: Some(broker.ca_file()),
        cert_file: Some(cert_file),
        key_file: Some(key_file),
        ..MqttConfig::default()
    };
    assert_eq!(config.problems(), []);
    let (client, mut events) = Client::start(config.client_settings("n").unwrap().unwrap());
    connected(&mut events).await;
    let subscriber = broker.subscribe("secret", &[]);
    let picture = Bytes::from(vec![42; 500_000]);
    assert_eq!(published(&client, message("secret", picture.clone())).await, Ok(()));
    assert!(blocking(|| subscriber.output()).await == picture);
    assert_eq!(client.stop(message("bye", "")).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_tls_is_said_in_words() {
    let broker = Mosquitto::builder().client_certificates().start();
    let other = Mosquitto::builder().tls().start();
    let plain = Mosquitto::start();
    let by_address = broker.url().replace("localhost", "127.0.0.1");
    let to_plain = format!("mqtts://localhost:{}", plain.port());
    let without_tls = format!("mqtt://127.0.0.1:{}", other.port());
    let cases: [(&str, Option<PathBuf>, &[&str]); 6] = [
        (&broker.url(), Some(other.ca_file()), &["certificate", "ca_file"]),
        (&broker.url(), None, &["certificate", "ca_file"]),
        (&by_address, Some(broker.ca_file()), &["another host name"]),
        (&broker.url(), Some(broker.ca_file()), &["client certificate", "cert_file"]),
        (&to_plain, Some(broker.ca_file()), &["TLS"]),
        (&without_tls, None, &["mqtts://"]),
    ];
    for (url, ca_file, words) in cases {
        let config = MqttConfig { url: url.to_owned(), ca_file: ca_file.clone(), ..MqttConfig::default() };
        let settings = match config.client_settings("n") {
            Ok(settings) => settings.unwrap(),
            // A bare container has no authorities, which is a reason in words as well.
            Err(problems) if ca_file.is_none() => {
                assert!(problems[0].to_string().contains("ca_file"));
                continue;
            }
            Err(problems) => panic!("{problems:?}"),
        };
        let (_client, mut events) = Client::start(settings);
        let reason = disconnected(&mut events).await;
        assert!(words.iter().all(|word| reason.contains(word)), "{url} {ca_file:?}: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_named_so() {
    let broker = Mosquitto::builder().expired_certificate().start();
    let config = MqttConfig { url: broker.url(), ca_file: Some(broker.ca_file()), ..MqttConfig::default() };
    let (_client, mut events) = Client::start(config.client_settings("n").unwrap().unwrap());
    let reason = disconnected(&mut events).await;
    assert!(reason.contains("expired") && reason.contains("clock"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_was_lowered_between_two_connections_holds_for_what_waited() {
    let mut broker = Mosquitto::builder().max_packet_size(100_000).start();
    let (client, mut events) = Client::start(settings(broker.port()));
    assert_eq!(connected(&mut events).await, Some(100_000));
    broker.stop();
    disconnected(&mut events).await;
    let waiting = [50_000, 5_000].map(|bytes| {
        let client = client.clone();
        tokio::spawn(async move { client.publish(message("t", vec![0; bytes])).await })
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    broker.set_line("max_packet_size", "10000");
    broker.run();
    let [large, small] = waiting;
    let large = timeout(PATIENCE, large).await.unwrap().unwrap();
    assert!(matches!(large, Err(PublishError::TooLarge { limit: 10_000, .. })), "{large:?}");
    assert_eq!(timeout(PATIENCE, small).await.unwrap().unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_above_max_incoming_stay_with_the_broker_and_the_rest_comes() {
    let broker = Mosquitto::builder().max_packet_size(MANY).start();
    let subscriptions = vec!["in".to_owned()];
    let (_client, mut events) =
        Client::start(ClientSettings { subscriptions, max_incoming: 10_000, ..settings(broker.port()) });
    connected(&mut events).await;
    let before = easeld::device::memory::status_kib("VmRSS").unwrap();
    // Fewer than the receive maximum: mosquitto 2.0.11 gives no quota back for what it drops.
    for _ in 0..3 {
        broker.publish("in", &vec![b'x'; 10_000_000], &[]);
    }
    broker.publish("in", b"small", &[]);
    assert_eq!(received(&mut events).await.payload, Bytes::from("small"));
    let grown = easeld::device::memory::status_kib("VmRSS").unwrap().saturating_sub(before);
    assert!(grown < 20 << 10, "{grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_client_with_our_id_is_named_as_the_cause() {
    let broker = Mosquitto::start();
    let (_first, mut events) = Client::start(settings(broker.port()));
    let (_second, _second_events) = Client::start(settings(broker.port()));
    let named = async {
        loop {
            match next(&mut events).await {
                MqttEvent::Disconnected { reason, .. }
                    if reason.contains("our client id \"easeld-test\"") =>
                {
                    break;
                }
                MqttEvent::Connected { .. } | MqttEvent::Disconnected { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(PATIENCE, named).await.expect("the cause is named");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_holds_up_the_broker_and_nothing_is_lost() {
    let broker = Mosquitto::start();
    let subscriptions = vec!["in".to_owned()];
    let (client, mut events) = Client::start(ClientSettings { subscriptions, ..settings(broker.port()) });
    connected(&mut events).await;
    let senders: Vec<String> = (0..50).map(|i| format!("prompt {i}")).collect();
    let lines = senders.join("\n") + "\n";
    let mut sender = mosquitto::client("mosquitto_pub", broker.port());
    sender.args(["-q", "1", "-t", "in", "-l"]).stdin(std::process::Stdio::piped());
    let mut sender = sender.spawn().unwrap();
    std::io::Write::write_all(&mut sender.stdin.take().unwrap(), lines.as_bytes()).unwrap();
    assert!(sender.wait().unwrap().success());
    // Nobody takes events for a while; publishing works all the same.
    assert_eq!(published(&client, message("out", "still here")).await, Ok(()));
    // mosquitto 2.0 sends a whole receive maximum again after one acknowledgement.
    let ahead = broker.log().matches("Sending PUBLISH to easeld-test").count();
    assert!((4..=12).contains(&ahead), "{ahead} of 50 were sent ahead: {}", broker.log());
    for sent in &senders {
        assert_eq!(received(&mut events).await.payload, Bytes::from(sent.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_is_noticed_and_the_message_arrives_in_the_end() {
    let broker = Mosquitto::start();
    let keep_alive = Duration::from_secs(5);
    let (client, mut events) = Client::start(ClientSettings { keep_alive, ..settings(broker.port()) });
    connected(&mut events).await;
    signal("STOP", broker.pid());
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.publish(retained("stuck", "through")).await }
    });
    let reason = disconnected(&mut events).await;
    assert!(reason.contains("ping"), "{reason}");
    signal("CONT", broker.pid());
    loop {
        if let MqttEvent::Connected { .. } = next(&mut events).await {
            break;
        }
    }
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_picture_to_a_hanging_broker_does_not_hang_the_client() {
    let broker = Mosquitto::builder().max_packet_size(MANY).start();
    let keep_alive = Duration::from_secs(5);
    let stop_limit = Duration::from_secs(1);
    let settings = ClientSettings { keep_alive, stop_limit, ..settings(broker.port()) };
    let (client, mut events) = Client::start(settings);
    connected(&mut events).await;
    signal("STOP", broker.pid());
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.publish(message("picture", vec![0; 20_000_000])).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stopped = timeout(Duration::from_secs(3), client.stop(message("bye", ""))).await;
    assert_eq!(stopped.expect("the limit holds"), Err(PublishError::Stopped));
    assert_eq!(waiting.await.unwrap(), Err(PublishError::Stopped));
    signal("CONT", broker.pid());
}

fn signal(name: &str, pid: u32) {
    let status = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_broker_is_named_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let _ = socket.read(&mut [0; 1024]).await;
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let (_client, mut events) = Client::start(settings(port));
    let reason = disconnected(&mut events).await;
    assert!(reason.contains("MQTT"), "{reason}");
}
