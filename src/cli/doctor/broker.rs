//! Whether the broker lets us in, and what it takes.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::findings::Finding;
use crate::config::Settings;
use crate::mqtt::{Client, Endpoint, MqttEvent, Publication, Topics};

/// A broker that takes longer to let us in is not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A picture of 512 x 512 pixels as PNG.
const PICTURE: u32 = 600 << 10;

/// Connects under a name of its own, publishes one message to a topic that nobody keeps, and leaves.
pub(super) fn check(settings: &Settings) -> Finding {
    match settings.mqtt.endpoint() {
        Err(problem) => return Finding::fail("broker", problem, "correct [mqtt] url"),
        Ok(Endpoint::None) => {
            return Finding::ok("broker", "none, by the configuration: no request comes over MQTT");
        }
        Ok(Endpoint::Embedded) => {
            return Finding::ok("broker", "inside easeld: only this machine reaches it");
        }
        Ok(Endpoint::Remote { .. }) => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(reach(settings)),
        Err(error) => Finding::fail("broker", format!("cannot be tried: {error}"), "try again"),
    }
}

async fn reach(settings: &Settings) -> Finding {
    let url = &settings.mqtt.url;
    let client = super::super::broker::settings(settings.mqtt.clone(), None, "doctor");
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            return Finding::fail("broker", format!("{error:#}"), "correct [mqtt] in the configuration");
        }
    };
    let topics = Topics::new(&settings.mqtt.prefix, &settings.node.name);
    let topic = topics.map(|topics| topics.job("doctor")).unwrap_or_default();
    let began = Instant::now();
    let (client, mut events) = Client::start(client);
    let mut why = String::from("it does not answer");
    let connected = async {
        loop {
            match events.recv().await {
                Some(MqttEvent::Connected { max_packet_size }) => return max_packet_size,
                Some(MqttEvent::Disconnected { reason, .. }) => why = reason,
                Some(_) => {}
                None => return None,
            }
        }
    };
    let Ok(limit) = timeout(CONNECT_LIMIT, connected).await else {
        let advice =
            "is it running, does this machine reach it, are [mqtt] url, username and password_file right?";
        let said = if why.contains(url) { why } else { format!("{url}: {why}") };
        return Finding::fail("broker", said, advice);
    };
    let took = began.elapsed().as_millis();
    let probe = Publication { topic: topic.clone(), payload: "{}".into(), ..Publication::default() };
    let published = timeout(CONNECT_LIMIT, client.publish(probe)).await;
    let _ = timeout(CONNECT_LIMIT, client.stop(Publication { topic, ..Publication::default() })).await;
    let limit_said =
        limit.map_or_else(|| "any size".to_owned(), |limit| format!("packets of up to {} KiB", limit >> 10));
    let said = format!("{url} let us in after {took} ms, takes {limit_said}");
    match published {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let advice = format!("its access list should let this user write {}/#", settings.mqtt.prefix);
            return Finding::fail("broker", format!("{said}, and refuses a message: {error}"), advice);
        }
        Err(_) => {
            return Finding::warn("broker", format!("{said}, and does not acknowledge"), "look at its log");
        }
    }
    if limit.is_some_and(|limit| limit < PICTURE) {
        let advice =
            "larger pictures are made smaller until they fit: raise its limit (mosquitto: max_packet_size)";
        return Finding::warn("broker", said, advice);
    }
    Finding::ok("broker", said)
}
