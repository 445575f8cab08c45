//! Every key of the configuration file: what it means and what it may be.

use super::web;
use crate::display::epaper::Pins;

/// One key.
pub(super) struct Key {
    /// Its table.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// For the commented default file.
    pub doc: &'static str,
    /// Said when a value is refused.
    pub allowed: &'static str,
    /// Shown, commented out, where there is no fixed default.
    pub example: Option<&'static str>,
}

pub(super) const fn key(
    section: &'static str,
    name: &'static str,
    allowed: &'static str,
    example: Option<&'static str>,
    doc: &'static str,
) -> Key {
    Key { section, name, doc, allowed, example }
}

/// One line about each table, in the order of the file.
pub(super) const SECTIONS: [(&str, &str); 16] = [
    ("mqtt", "The broker that prompts come from and pictures go to."),
    ("node", "This device among others on the same broker."),
    ("state", "What outlives the process."),
    ("models", "What makes the pictures."),
    ("inference", "What making them may cost."),
    ("http", "The page, the API and pictures to pull: docs/http-api.md."),
    ("kiosk", "How the page behaves; a browser may be told otherwise: docs/kiosk.md."),
    ("display", "Pictures as panels want them: docs/displays.md."),
    (super::renditions::SECTION, "Profiles of your own: their options are those of `easeld render`."),
    ("jobs", "How accepted requests are kept until the broker has their pictures, and after."),
    ("limits", "Bounds. A request that breaks one is rejected with a reason."),
    ("privacy", "What is said about pictures."),
    ("home_assistant", "How this node shows in Home Assistant."),
    ("fleet", "Several nodes on one broker that share their work: docs/fleet.md."),
    ("schedule", "Pictures that nobody asks for."),
    (
        "power",
        "How hard the board may work: heat, its power supply, quiet hours. docs/operations.md tells what it does.",
    ),
];

/// All keys, in the order of the file within each table.
pub(super) fn all() -> impl Iterator<Item = &'static Key> + Clone {
    KEYS.iter().chain(&super::schedule::KEYS).chain(&super::power::KEYS).chain(&web::KEYS)
}

/// Those that have no file of their own.
const KEYS: [Key; 52] = [
    key(
        "mqtt",
        "url",
        "\"mqtt://HOST[:PORT]\", \"mqtts://HOST[:PORT]\", \"embedded\" or \"none\"",
        None,
        "\"mqtt://HOST:PORT\"; \"mqtts://HOST:PORT\" with TLS; \"embedded\" for a broker inside this process that only\n\
         this machine reaches; \"none\" to run without MQTT.",
    ),
    key("mqtt", "username", "a string", Some("\"easeld\""), "Who we are to the broker."),
    key(
        "mqtt",
        "password_file",
        "the path of a readable file",
        Some("\"/etc/easeld/mqtt-password\""),
        "A file that holds the password, readable by easeld alone. There is no key for the password itself.",
    ),
    key(
        "mqtt",
        "ca_file",
        "the path of a readable PEM file",
        Some("\"/etc/easeld/ca.pem\""),
        "Trust this authority (PEM) instead of the system's.",
    ),
    key(
        "mqtt",
        "cert_file",
        "the path of a readable PEM file",
        Some("\"/etc/easeld/client.pem\""),
        "Our own certificate (PEM), for brokers that ask for one; goes with key_file.",
    ),
    key(
        "mqtt",
        "key_file",
        "the path of a readable PEM file",
        Some("\"/etc/easeld/client.key\""),
        "The private key (PEM) of cert_file.",
    ),
    key(
        "mqtt",
        "client_id",
        "a string",
        Some("\"easeld-kitchen\""),
        "Unset: \"easeld-\" and the node's name. Two clients with one id throw each other out.",
    ),
    key(
        "mqtt",
        "prefix",
        "a topic without wildcards, no / at either end",
        None,
        "The first level of every topic: PREFIX/NODE/generate, PREFIX/NODE/image, ...",
    ),
    key(
        "mqtt",
        "keep_alive_s",
        "a whole number of seconds, 5 to 65535",
        None,
        "Seconds of silence after which the broker hears a ping.",
    ),
    key(
        "mqtt",
        "session_expiry_s",
        "a whole number of seconds, 0 to 4294967295",
        None,
        "Seconds for which the broker keeps prompts for us while we are away.",
    ),
    key(
        "mqtt",
        "max_incoming",
        "a whole number of bytes, 1024 to 268435455",
        None,
        "Largest message we accept, in bytes; the broker is told.",
    ),
    key(
        "mqtt",
        "reply_prefixes",
        "a list of topic prefixes that end in /",
        None,
        "Topics below which requesters may ask for an answer: the node publishes there with its own rights.",
    ),
    key(
        "node",
        "name",
        "1 to 64 of A-Z a-z 0-9 _ -, not \"fleet\" or \"meta\"",
        Some("\"kitchen\""),
        "One level of every topic. Unset: the host's name.",
    ),
    key(
        "state",
        "dir",
        "an absolute path",
        Some("\"/var/lib/easeld\""),
        "Unset: $STATE_DIRECTORY, else ~/.local/state/easeld.",
    ),
    key(
        "state",
        "jobs",
        "\"disk\" or \"memory\"",
        None,
        "\"disk\" keeps accepted requests and results over a crash or a power cut; \"memory\" writes nothing, for read-only systems.",
    ),
    key(
        "models",
        "dir",
        "a path",
        Some("\"/srv/models\""),
        "Searched for packs before the state directory's models/ and /usr/share/easeld/models.",
    ),
    key(
        "models",
        "default",
        "the name of a pack or the path of its directory",
        None,
        "The pack that makes the pictures: its name, or the path of its directory.",
    ),
    key(
        "models",
        "residency",
        "\"auto\", \"warm\" or \"one-at-a-time\"",
        None,
        "\"warm\" keeps the networks in memory between pictures; \"one-at-a-time\" holds only the one at work, and loads anew each time;\n\
         \"auto\": warm, unless [inference] memory is small for the model.",
    ),
    key(
        "models",
        "idle_s",
        "a whole number of seconds, 0 to 31536000",
        None,
        "After so long without a job the networks are dropped: about 30 MiB remain. 0: never.",
    ),
    key(
        "inference",
        "threads",
        "a whole number from 0 to 1024",
        None,
        "Threads for the networks; 0 is one per core.",
    ),
    key(
        "inference",
        "prompt_cache",
        "a whole number from 0 to 1024",
        None,
        "How many prompts are remembered as the text encoder read them (about 0.25 MB each): a repeated one skips it.",
    ),
    key(
        "inference",
        "batch_pixels",
        "a whole number from 1 to 268435456",
        None,
        "Most pixels of all pictures together in one call of the UNet, both halves of guidance counted; larger batches take turns.",
    ),
    key(
        "inference",
        "vae_tile",
        "\"auto\", \"off\", or a size such as \"64 MiB\"",
        None,
        "Where the VAE's buffers for a picture would take more than this, it works in bands of the picture that keep to it:\n\
         the same picture, for less memory and more time. \"auto\": a quarter of the machine's memory. \"off\": never.",
    ),
    key(
        "inference",
        "weights",
        "\"auto\", \"mapped\" or \"streamed\"",
        None,
        "\"mapped\" lets free memory hold the weights; \"streamed\" reads them anew for every step, 64 MiB at a time: for boards with less memory than the model;\n\
         \"auto\": mapped where [inference] memory holds them twice.",
    ),
    key(
        "inference",
        "memory",
        "\"auto\", or a size such as \"900 MiB\" or \"300M\"",
        None,
        "How much memory easeld may take: \"auto\" (nine tenths of what is free at the start, of the machine or of the control group) or a size. What needs more works in smaller pieces, or the request is refused.",
    ),
    key(
        "display",
        "renditions",
        "a list of profiles",
        None,
        "Profiles whose files go out with each picture.",
    ),
    key("display", "framebuffer", "a path", Some("\"/dev/fb0\""), "A screen that shows the newest picture."),
    key(
        "display",
        "epaper",
        "waveshare-7in3-e6, waveshare-7in3-f, waveshare-7in5-v2 or waveshare-7in5b-v2",
        Some("\"waveshare-7in3-e6\""),
        "An e-paper panel on SPI that shows the newest picture; for builds with the feature `epaper`.",
    ),
    key("display", "epaper_spi", "a path", None, "Its SPI device,"),
    key("display", "epaper_gpio", "a path", None, "the chip that its other lines are of,"),
    key(
        "display",
        "epaper_pins",
        Pins::ALLOWED,
        None,
        "and which they are: as Waveshare's HATs have them on a Raspberry Pi.",
    ),
    key(
        "jobs",
        "checkpoint_s",
        "a whole number of seconds, 0 to 86400",
        None,
        "A running job writes down where it is at most so often, and goes on from there after a crash; 0 for never. Shorter jobs write nothing.",
    ),
    key(
        "jobs",
        "attempts",
        "a whole number from 1 to 1000",
        None,
        "So many processes may die over one request before it is given up.",
    ),
    key(
        "jobs",
        "outbox_bytes",
        "a size of at least 1 MiB, such as \"256 MiB\"",
        None,
        "Pictures that wait for the broker. With more, no further job starts until the broker has taken some; none is thrown away.",
    ),
    key(
        "jobs",
        "history_count",
        "a whole number from 1 to 100000",
        None,
        "So many ended jobs are remembered: their ids are answered and not run again. The oldest go first.",
    ),
    key(
        "jobs",
        "history_bytes",
        "a size such as \"64 MiB\"",
        None,
        "Pictures of ended jobs that are kept, for requests that begin from them. The oldest go first.",
    ),
    key(
        "limits",
        "max_prompt_bytes",
        "a whole number from 1 to 1048576",
        None,
        "Longest prompt or negative prompt, in bytes of UTF-8.",
    ),
    key("limits", "max_steps", "a whole number from 1 to 1000", None, "Most denoising steps."),
    key(
        "limits",
        "queue_capacity",
        "a whole number from 1 to 10000",
        None,
        "Most jobs that wait; further ones are rejected.",
    ),
    key("limits", "max_pixels", "a whole number from 64 to 67108864", None, "Largest width times height."),
    key(
        "limits",
        "max_images",
        "a whole number from 1 to 1024",
        None,
        "Most pictures made for one request: num_images, or candidates.",
    ),
    key(
        "limits",
        "max_output_pixels",
        "a whole number from 64 to 1073741824",
        None,
        "Largest width times height of a picture given out, upscale included.",
    ),
    key(
        "limits",
        "max_pack_bytes",
        "a whole number from 1048576 to 17592186044416",
        None,
        "Largest pack that `easeld pack install` unpacks, in bytes.",
    ),
    key(
        "limits",
        "blocked_words",
        "a list of words or phrases, such as [\"gun\", \"red wine\"]",
        None,
        "Prompts with one of these words are rejected, whatever their case.",
    ),
    key(
        "limits",
        "blocked_concepts",
        "a list of texts, such as [\"a gun\"]",
        None,
        "Pictures that resemble one of these texts are not given out; needs a model with an image_encoder.",
    ),
    key(
        "limits",
        "concept_similarity",
        "a number from -1 to 1",
        None,
        "How much a picture has to resemble a blocked concept, as `easeld score` measures it.",
    ),
    key(
        "limits",
        "requests_per_minute",
        "a whole number from 0 to 1000000",
        None,
        "Requests that are looked at in a minute, of all clients together; 0 for no limit. Further ones are rejected.",
    ),
    key(
        "limits",
        "requests_per_client",
        "a whole number from 0 to 1000000",
        None,
        "The same for each client: by its MQTT 5 user property `client`, else by where it wants its answer, else all as one.",
    ),
    key(
        "privacy",
        "embed_parameters",
        "true or false",
        None,
        "false keeps prompts and settings out of pictures and out of what is published about them.",
    ),
    key(
        "home_assistant",
        "discovery",
        "true or false",
        None,
        "Announce this node to Home Assistant. `easeld discovery remove` takes it away again.",
    ),
    key(
        "home_assistant",
        "prefix",
        "a topic without wildcards, no / at either end",
        None,
        "The discovery prefix that Home Assistant is set to.",
    ),
    key(
        "fleet",
        "group",
        "empty, or 1 to 64 of A-Z a-z 0-9 _ -",
        None,
        "Nodes of one group share the requests on PREFIX/fleet/generate. Empty: this node takes no part.",
    ),
];

/// The key `name` of `section`.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    all().find(|key| key.section == section && key.name == name)
}
