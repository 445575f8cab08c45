//! Tests of the configuration: layers, and each kind of mistake with its message.

use std::collections::HashMap;
use std::io::Write;

use config::Environment;

use super::*;

/// Settings of a file with `content` under the variables `environment`.
fn load(content: &str, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let mut file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
    file.write_all(content.as_bytes()).expect("written");
    let variables: HashMap<_, _> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let source = Environment::with_prefix("EASELD")
        .prefix_separator("__")
        .separator("__")
        .ignore_empty(true)
        .source(Some(variables));
    Settings::from_layers(Some(file.path()), source)
}

fn problems(content: &str, environment: &[(&str, &str)]) -> Vec<Problem> {
    load(content, environment).expect_err("must be refused").problems
}

#[test]
fn nothing_set_is_the_defaults() {
    assert_eq!(load("", &[]), Ok(Settings::default()));
}

#[test]
fn the_printed_defaults_parse_back_to_exactly_the_defaults() {
    let text = default_config_text();
    assert_eq!(load(&text, &[]), Ok(Settings::default()));
    // Every key is there, and the commented examples are valid too.
    let with_examples = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    let parsed: toml::Table = with_examples.parse().expect("valid TOML");
    for key in keys::all() {
        let section = parsed[key.section].as_table().expect("a table");
        assert!(section.contains_key(key.name), "{}.{}", key.section, key.name);
    }
    let keys: usize = parsed.values().map(|s| s.as_table().map_or(0, |s| s.len())).sum();
    assert_eq!(keys, keys::all().count());
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "[mqtt]\nurl = \"none\"\n[limits]\nmax_steps = 30\nqueue_capacity = 3\n";
    let settings = load(
        file,
        &[
            ("EASELD__LIMITS__MAX_STEPS", "40"),
            ("EASELD__NODE__NAME", "007"),
            ("EASELD__MQTT__USERNAME", ""),
            ("EASELD_ISA", "scalar"),
        ],
    )
    .expect("valid");
    assert_eq!(settings.mqtt.url, "none");
    assert_eq!(settings.mqtt.username, None);
    assert_eq!(settings.limits.max_steps, 40);
    assert_eq!(settings.limits.queue_capacity, 3);
    assert_eq!(settings.limits.max_pixels, 1_048_576);
    assert_eq!(settings.node.name, "007", "a name is not parsed as a number");
}

#[test]
fn every_problem_is_reported_at_once_with_key_value_and_what_is_allowed() {
    let file = "[mqtt]\nurl = \"none\"\nurll = \"x\"\n[node]\nname = \"a/b\"\n[limits]\nmax_steps = 0\n\
                queue_capacity = \"many\"\n[inference]\nmemory = \"lots\"\n[http]\nlisten = \"localhost\"\n\
                [modles]\ndefault = \"x\"\n";
    let problems = problems(file, &[("EASELD__MODELS__RESIDENCY", "cold")]);
    let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "node.name",
            "models.residency",
            "inference.memory",
            "http.listen",
            "limits.max_steps",
            "limits.queue_capacity",
            "modles",
            "mqtt.urll",
        ]
    );
    let text = |key: &str| {
        let problem = problems.iter().find(|p| p.key == key).expect("listed");
        problem.to_string()
    };
    assert!(text("mqtt.urll").contains("did you mean `url`?"), "{}", text("mqtt.urll"));
    assert!(text("modles").contains("did you mean [models]?"), "{}", text("modles"));
    assert!(text("limits.max_steps").contains("= 0: must be a whole number from 1 to 1000"));
    assert!(text("limits.max_steps").contains(".toml:7: "), "names the file");
    assert!(text("limits.queue_capacity").contains("= \"many\": must be"));
    assert!(text("models.residency").starts_with("environment, EASELD__MODELS__RESIDENCY: "));
}

#[test]
fn broken_files_are_named_with_their_place() {
    let broken = problems("[mqtt]\nurl = \n", &[]);
    assert!(broken[0].place.ends_with(".toml"), "{}", broken[0]);
    assert!(broken[0].message.contains("line 2"), "{}", broken[0]);
    let absent =
        Settings::load(Some(std::path::Path::new("/nonexistent/easeld.toml"))).expect_err("must exist");
    assert!(absent.to_string().contains("/nonexistent/easeld.toml: cannot be read"), "{absent}");
    let directory = Settings::load(Some(&std::env::temp_dir())).expect_err("a directory");
    assert!(directory.to_string().contains("cannot be read"), "{directory}");
}

#[test]
fn values_of_the_wrong_form_are_refused() {
    for (section, line) in [
        ("mqtt", "url = 5"),
        ("mqtt", "keep_alive_s = 70000"),
        ("mqtt", "keep_alive_s = 1.5"),
        ("mqtt", "reply_prefixes = \"easel/\""),
        ("node", "name = \"fleet\""),
        ("node", "name = \"\""),
        ("state", "dir = \"relative\""),
        ("models", "default = \" \""),
        ("inference", "threads = -1"),
        ("inference", "threads = \"4\""),
        ("inference", "memory = \"0 MiB\""),
        ("inference", "memory = \"99999999999999999 GiB\""),
        ("http", "listen = \"127.0.0.1:99999\""),
        ("limits", "max_pixels = true"),
    ] {
        let key = line.split(' ').next().expect("a key");
        let found = problems(&format!("[{section}]\n{line}\n"), &[]);
        assert_eq!(found.len(), 1, "{line}");
        assert_eq!(found[0].key, format!("{section}.{key}"), "{line}");
    }
    let section = problems("mqtt = 5\n", &[]);
    assert!(section[0].message.contains("section"), "{}", section[0]);
}

#[test]
fn sizes_take_the_usual_units() {
    for (text, bytes) in [("1024", 1024), ("900 MiB", 900 << 20), ("2gib", 2 << 30), ("1 MB", 1_000_000)] {
        let settings = load(&format!("[inference]\nmemory = \"{text}\"\n"), &[]).expect(text);
        assert_eq!(settings.inference.memory, Memory::Bytes(bytes));
    }
}

#[test]
fn profiles_of_ones_own_build_on_each_other_and_can_be_listed() {
    let file =
        "[display]\nrenditions = [\"trmnl\", \"hall\"]\n[renditions.hall]\nlike = \"kitchen\"\nwidth = 400\n";
    let settings = load(&format!("{file}{}", renditions::EXAMPLE), &[]).expect("valid");
    let hall = settings.profiles.get("hall").expect("added");
    assert_eq!((hall.width, hall.height, hall.rotation), (400, 480, 180));
    assert_eq!(settings.display.renditions, ["trmnl", "hall"]);
    let settings = load("", &[("EASELD__DISPLAY__RENDITIONS", "trmnl,jpeg")]).expect("valid");
    assert_eq!(settings.display.renditions, ["trmnl", "jpeg"]);
}

#[test]
fn mistakes_in_profiles_are_told_with_key_value_and_what_is_allowed() {
    let file = "[display]\nrenditions = [\"trmnll\"]\n[renditions.a]\nwidth = 9999\nditther = \"none\"\n\
                [renditions.b]\nlike = \"nothing\"\n[renditions.\"c/d\"]\nwidth = 1\n[renditions]\ne = 5\n\
                [renditions.f]\nencoding = \"packed-4\"\n";
    let problems = problems(file, &[]);
    let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for expected in [
        "display.renditions = \"trmnll\": did you mean \"trmnl\"?",
        "renditions.a.width = 9999: must be a whole number from 0 to 8192",
        "renditions.a.ditther: unknown key; did you mean `dither`?",
        "renditions.b.like = \"nothing\": no profile is called \"nothing\"",
        "renditions.c/d: a profile is called",
        "renditions.e = 5: is a table",
        "renditions.f.encoding = \"packed-4\": ",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert_eq!(problems.len(), 7, "{text}");
}
