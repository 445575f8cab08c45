//! The topic grammar `<prefix>/<node>/...`, both directions; the daemon and `demo` build and read
//! every topic through it.

use std::fmt;

/// The names of one node's topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// `<prefix>/<node>`, without a trailing slash.
    base: String,
    /// `<prefix>/fleet`, which no node may be named.
    fleet: String,
}

/// What an inbound topic asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `generate`: a prompt, plain or JSON.
    Generate,
    /// `cancel`: a job id, `all`, or nothing for the current job.
    Cancel,
    /// `delete`: the id of a job whose pictures are to go from the history.
    Delete,
    /// `again`: the newest request once more.
    Again,
    /// `<prefix>/fleet/generate`, shared by the nodes of a fleet.
    FleetGenerate,
    /// `<prefix>/fleet/cancel`, heard by all of them.
    FleetCancel,
    /// `set/<key>`: a new default.
    Set {
        /// Which default.
        key: String,
    },
}

/// A prefix or node name that cannot be part of a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The prefix breaks MQTT's rules, or ours.
    #[error(
        "topic prefix {0:?} is not usable: give one or more levels joined by '/', \
         without '+', '#', control characters, empty levels or a leading '$'"
    )]
    Prefix(String),
    /// The node name breaks our rules.
    #[error("node name {0:?} is not usable: it must match [A-Za-z0-9_-]{{1,64}} and not be \"fleet\"")]
    Node(String),
}

/// Longest node name and longest `set` key, in bytes.
const MAX_NAME: usize = 64;

/// Longest prefix, in bytes: leaves room below MQTT's 65,535 for everything that follows.
const MAX_PREFIX: usize = 256;

impl Topics {
    /// The topics of `node` below `prefix`, for example `easel` and `kitchen`.
    ///
    /// # Errors
    /// When either name cannot stand in a topic.
    pub fn new(prefix: &str, node: &str) -> Result<Topics, TopicError> {
        if !valid_prefix(prefix) {
            return Err(TopicError::Prefix(prefix.to_owned()));
        }
        if !valid_node_name(node) {
            return Err(TopicError::Node(node.to_owned()));
        }
        Ok(Topics { base: format!("{prefix}/{node}"), fleet: format!("{prefix}/fleet") })
    }

    /// Out, retained, last will: `online` or `offline`.
    pub fn status(&self) -> String {
        self.under("status")
    }

    /// Out, retained: what this node is and can do.
    pub fn info(&self) -> String {
        self.under("info")
    }

    /// Out, retained: what it is doing, at most once a second.
    pub fn state(&self) -> String {
        self.under("state")
    }

    /// In: a prompt.
    pub fn generate(&self) -> String {
        self.under("generate")
    }

    /// In: stop a job.
    pub fn cancel(&self) -> String {
        self.under("cancel")
    }

    /// In: take a job's pictures out of the history.
    pub fn delete(&self) -> String {
        self.under("delete")
    }

    /// In: the newest request once more.
    pub fn again(&self) -> String {
        self.under("again")
    }

    /// Out: each job's end, for automations.
    pub fn event(&self) -> String {
        self.under("event")
    }

    /// In, for all nodes of a fleet: stop a job.
    pub fn fleet_cancel(&self) -> String {
        format!("{}/cancel", self.fleet)
    }

    /// In, for one node of `group` at a time: a prompt.
    pub fn fleet_share(&self, group: &str) -> String {
        format!("$share/{group}/{}/generate", self.fleet)
    }

    /// Out, retained: the node whose picture counts for the fleet's job `id`.
    pub fn fleet_claim(&self, id: &str) -> String {
        format!("{}/claim/{id}", self.fleet)
    }

    /// Out, retained: whether any node below this prefix is there.
    pub fn every_status(&self) -> String {
        format!("{}/+/status", self.prefix())
    }

    /// The job whose claim is on `topic`.
    pub fn claimed_id<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&self.fleet)?.strip_prefix("/claim/")
    }

    /// The node whose status is on `topic`.
    pub fn status_of<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let node = topic.strip_prefix(self.prefix())?.strip_prefix('/')?.strip_suffix("/status")?;
        valid_node_name(node).then_some(node)
    }

    fn prefix(&self) -> &str {
        self.fleet.strip_suffix("/fleet").unwrap_or_default()
    }

    /// Out: how the job `id` stands. The caller passes a valid job id (`[A-Za-z0-9_-]{1,64}`).
    pub fn job(&self, id: &str) -> String {
        self.under(&format!("job/{id}"))
    }

    /// Out: what a job's picture will look like, JPEG.
    pub fn preview(&self, id: &str) -> String {
        self.under(&format!("job/{id}/preview"))
    }

    /// Out, retained: the newest picture, raw bytes.
    pub fn image(&self) -> String {
        self.under("image")
    }

    /// Out, retained: what the newest picture is.
    pub fn image_meta(&self) -> String {
        self.under("image/meta")
    }

    /// Out, retained: the newest picture as the profile `name` has it. The caller passes a valid name, which is not `meta`.
    pub fn rendition(&self, name: &str) -> String {
        self.under(&format!("image/{name}"))
    }

    /// Out, retained: what that is.
    pub fn rendition_meta(&self, name: &str) -> String {
        self.under(&format!("image/{name}/meta"))
    }

    /// Out, retained: the defaults that `set/<key>` changes.
    pub fn config(&self) -> String {
        self.under("config")
    }

    /// In: a new value for the default `key`.
    pub fn set(&self, key: &str) -> String {
        self.under(&format!("set/{key}"))
    }

    /// The filters a node listens on.
    pub fn subscriptions(&self) -> Vec<String> {
        vec![self.generate(), self.cancel(), self.delete(), self.again(), self.set("+")]
    }

    /// Reads an inbound topic; `None` when it is not a command to this node.
    pub fn parse(&self, topic: &str) -> Option<Command> {
        match topic.strip_prefix(&self.fleet) {
            Some("/generate") => return Some(Command::FleetGenerate),
            Some("/cancel") => return Some(Command::FleetCancel),
            _ => {}
        }
        let rest = topic.strip_prefix(&self.base)?.strip_prefix('/')?;
        match rest {
            "generate" => Some(Command::Generate),
            "cancel" => Some(Command::Cancel),
            "delete" => Some(Command::Delete),
            "again" => Some(Command::Again),
            _ => rest
                .strip_prefix("set/")
                .filter(|key| valid_name(key))
                .map(|key| Command::Set { key: key.to_owned() }),
        }
    }

    fn under(&self, rest: &str) -> String {
        format!("{}/{rest}", self.base)
    }
}

impl fmt::Display for Topics {
    /// `<prefix>/<node>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

/// Whether `name` can name a node: `[A-Za-z0-9_-]{1,64}` and not `fleet`, which addresses all of them.
pub fn valid_node_name(name: &str) -> bool {
    valid_name(name) && name != "fleet"
}

/// Whether `prefix` can stand before the node: MQTT topic levels, none of them empty.
pub fn valid_prefix(prefix: &str) -> bool {
    prefix.len() <= MAX_PREFIX
        && !prefix.starts_with('$') // brokers keep those topics to themselves
        && prefix.split('/').all(|level| !level.is_empty() && valid_topic(level))
}

/// Whether a reply may go to `topic`: a plain topic below one of `prefixes`. A requester can name any
/// topic as its response topic, and we would publish there with our rights.
pub fn reply_allowed(topic: &str, prefixes: &[String]) -> bool {
    valid_topic(topic)
        && !topic.starts_with('$')
        && prefixes.iter().any(|prefix| topic.len() > prefix.len() && topic.starts_with(prefix))
}

/// Whether one may publish to `topic`: MQTT 5 section 4.7, and no control characters.
pub fn is_topic(topic: &str) -> bool {
    valid_topic(topic)
}

pub(super) fn valid_topic(topic: &str) -> bool {
    !topic.is_empty()
        && topic.len() <= usize::from(u16::MAX)
        && !topic.contains(|c: char| matches!(c, '+' | '#') || c.is_control())
}

fn valid_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_those_of_the_contract() {
        let topics = Topics::new("easel", "kitchen").unwrap();
        let all = [
            (topics.status(), "easel/kitchen/status"),
            (topics.info(), "easel/kitchen/info"),
            (topics.state(), "easel/kitchen/state"),
            (topics.generate(), "easel/kitchen/generate"),
            (topics.cancel(), "easel/kitchen/cancel"),
            (topics.job("a-1"), "easel/kitchen/job/a-1"),
            (topics.image(), "easel/kitchen/image"),
            (topics.image_meta(), "easel/kitchen/image/meta"),
            (topics.rendition("trmnl"), "easel/kitchen/image/trmnl"),
            (topics.rendition_meta("trmnl"), "easel/kitchen/image/trmnl/meta"),
            (topics.config(), "easel/kitchen/config"),
            (topics.set("steps"), "easel/kitchen/set/steps"),
        ];
        for (built, expected) in all {
            assert_eq!(built, expected);
        }
        assert_eq!(
            topics.subscriptions(),
            [
                "easel/kitchen/generate",
                "easel/kitchen/cancel",
                "easel/kitchen/delete",
                "easel/kitchen/again",
                "easel/kitchen/set/+"
            ]
        );
    }

    #[test]
    fn every_command_topic_round_trips() {
        for (prefix, node) in [("easel", "kitchen"), ("home/wall/easel", "Node_1-b"), ("e", "x")] {
            let topics = Topics::new(prefix, node).unwrap();
            assert_eq!(topics.parse(&topics.generate()), Some(Command::Generate));
            assert_eq!(topics.parse(&topics.cancel()), Some(Command::Cancel));
            assert_eq!(topics.parse(&topics.delete()), Some(Command::Delete));
            assert_eq!(topics.parse(&topics.again()), Some(Command::Again));
            assert_eq!(topics.parse(&topics.fleet_cancel()), Some(Command::FleetCancel));
            assert_eq!(topics.parse(&format!("{prefix}/fleet/generate")), Some(Command::FleetGenerate));
            for key in ["steps", "guidance_scale", "negative-prompt", "A1"] {
                assert_eq!(topics.parse(&topics.set(key)), Some(Command::Set { key: key.to_owned() }));
            }
        }
    }

    #[test]
    fn what_nodes_of_a_fleet_say_to_each_other_is_read() {
        let topics = Topics::new("home/easel", "kitchen").unwrap();
        assert_eq!(topics.fleet_share("g"), "$share/g/home/easel/fleet/generate");
        assert_eq!(topics.every_status(), "home/easel/+/status");
        assert_eq!(topics.claimed_id(&topics.fleet_claim("j-1")), Some("j-1"));
        assert_eq!(topics.claimed_id("home/easel/fleet/generate"), None);
        assert_eq!(topics.status_of("home/easel/attic/status"), Some("attic"));
        for topic in [
            "home/easel/attic/state",
            "home/easel/a/b/status",
            "easel/attic/status",
            "home/easel/fleet/status",
        ] {
            assert_eq!(topics.status_of(topic), None, "{topic}");
        }
    }

    #[test]
    fn what_is_not_a_command_to_this_node_is_none() {
        let topics = Topics::new("easel", "kitchen").unwrap();
        for topic in ["easel/fleet", "easel/fleet/", "easel/fleet/set/steps", "easel/fleetgenerate"] {
            assert_eq!(topics.parse(topic), None, "{topic}");
        }
        let long = format!("easel/kitchen/set/{}", "k".repeat(65));
        for topic in [
            "",
            "easel",
            "easel/kitchen",
            "easel/kitchen/",
            "easel/kitchen/status",
            "easel/kitchen/generate/",
            "easel/kitchen/generate/now",
            "easel/kitchen2/generate",
            "easel/kitchengenerate",
            "easel/attic/generate",
            "/easel/kitchen/generate",
            "Easel/kitchen/generate",
            "easel/kitchen/set",
            "easel/kitchen/set/",
            "easel/kitchen/set/a/b",
            "easel/kitchen/set/a b",
            "easel/kitchen/set/+",
            "easel/kitchen/set/schlüssel",
            &long,
        ] {
            assert_eq!(topics.parse(topic), None, "{topic}");
        }
    }

    #[test]
    fn unusable_names_are_refused() {
        for node in ["", "fleet", "a/b", "a b", "+", "#", "ü", "a\0", &"n".repeat(65)] {
            assert_eq!(Topics::new("easel", node), Err(TopicError::Node(node.to_owned())));
        }
        for prefix in ["", "/easel", "easel/", "a//b", "a/+", "#", "$SYS", "a\nb", &"p".repeat(257)] {
            assert_eq!(Topics::new(prefix, "n"), Err(TopicError::Prefix(prefix.to_owned())));
        }
        assert!(valid_node_name(&"n".repeat(64)));
        assert!(valid_node_name("Fleet"));
    }

    #[test]
    fn replies_go_below_an_allowed_prefix_only() {
        let prefixes = ["easel/reply/".to_owned(), "panel/".to_owned()];
        assert!(reply_allowed("easel/reply/a", &prefixes));
        assert!(reply_allowed("panel/7/picture", &prefixes));
        for topic in [
            "easel/reply/",
            "easel/reply",
            "easel/kitchen/generate",
            "$SYS/x",
            "easel/reply/+",
            "panel/#",
            "panel/a\0",
            "",
        ] {
            assert!(!reply_allowed(topic, &prefixes), "{topic}");
        }
        assert!(!reply_allowed("anything", &[]));
    }
}
