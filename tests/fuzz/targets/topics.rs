//! Topics that arrive, and names that are to be part of topics: commands to this node only, and nothing that is no topic.
//!
//! The input is three lines: a prefix, a node's name, a topic.

#![no_main]

use easeld::mqtt::topics::{is_topic, reply_allowed, valid_node_name, valid_prefix};
use easeld::mqtt::{Command, Topics};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.splitn(3, '\n');
    let [Some(prefix), Some(node), Some(topic)] = std::array::from_fn(|_| lines.next()) else { return };
    let prefixes = [prefix.to_owned()];
    if reply_allowed(topic, &prefixes) {
        assert!(topic.starts_with(prefix) && topic.len() > prefix.len() && is_topic(topic));
    }
    let topics = match Topics::new(prefix, node) {
        Ok(topics) => topics,
        Err(error) => {
            assert!(!valid_prefix(prefix) || !valid_node_name(node), "{prefix:?} {node:?}: {error}");
            return;
        }
    };
    let own = [topics.generate(), topics.status(), topics.image(), topics.state(), topics.job("1"), topics.preview("1")];
    assert!(own.iter().all(|topic| is_topic(topic)), "{own:?}");
    assert!(topics.subscriptions().iter().all(|filter| filter.starts_with(&format!("{prefix}/{node}/"))));
    let commands = [("generate", Command::Generate), ("cancel", Command::Cancel), ("delete", Command::Delete)];
    for (level, command) in commands {
        assert_eq!(topics.parse(&format!("{prefix}/{node}/{level}")), Some(command));
    }
    if let Some(command) = topics.parse(topic) {
        let fleet = matches!(command, Command::FleetGenerate | Command::FleetCancel);
        let place = if fleet { format!("{prefix}/fleet/") } else { format!("{prefix}/{node}/") };
        assert!(topic.starts_with(&place), "{topic:?} is none of {place:?}");
    }
    if let Some(id) = topics.claimed_id(topic) {
        assert_eq!(topics.fleet_claim(id), topic);
    }
});
