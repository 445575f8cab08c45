//! What a node tells Home Assistant: JSON with the keys it asks for, whatever packs, nodes and prefixes are called.
//!
//! The input is five lines: the prefix of topics, the node, the discovery prefix, then name and title of a pack.

#![no_main]

use easeld::daemon::home_assistant::Discovery;
use easeld::diffusion::decoding::Decoder;
use easeld::diffusion::presets::{PackDefaults, Preset};
use easeld::diffusion::request::Limits;
use easeld::jobs::PackInfo;
use easeld::mqtt::Topics;
use easeld::mqtt::topics::is_topic;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.splitn(5, '\n');
    let [Some(prefix), Some(node), Some(discovery), Some(name), Some(title)] = std::array::from_fn(|_| lines.next()) else {
        return;
    };
    let Ok(topics) = Topics::new(prefix, node) else { return };
    let preset = Preset {
        width: 128,
        height: 128,
        steps: 8,
        guidance_scale: 1.5,
        scheduler: None,
        unet: "unet".to_owned(),
        time_cond_proj_dim: None,
        decoder: Decoder::default(),
    };
    let pack = PackInfo {
        name: name.to_owned(),
        title: title.to_owned(),
        pack_hash: String::new(),
        defaults: PackDefaults::new(preset, 8).with_name(name),
    };
    let said = Discovery::new(discovery.to_owned(), node, &topics, &[pack], &Limits::default(), &["jpeg".to_owned()]);
    let device: Value = serde_json::from_slice(&said.payload()).expect("discovery is JSON");
    let entities = device["components"].as_object().expect("entities");
    assert!(!entities.is_empty());
    for (key, entity) in entities {
        assert!(entity["platform"].is_string(), "{key}: {entity}");
        let about_topics = entity.as_object().expect("an object").iter().filter(|(name, _)| name.ends_with("_topic"));
        for (name, topic) in about_topics {
            let topic = topic.as_str().expect("a topic is text");
            assert!(is_topic(topic) && topic.starts_with(prefix), "{key} {name}: {topic}");
        }
    }
});
