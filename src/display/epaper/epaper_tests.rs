//! Panels on a fake device file: what they are told is what their makers' own drivers tell them.

use std::fs::File;
use std::io::Write;

use sha2::{Digest, Sha256};

use super::*;
use crate::jobs::worker::hex;

/// Where longer data are written by their digest.
const LONG: usize = 64;

/// A fake device file that takes what is sent, and what happened on all lines, as `tests/display/waveshare.py` writes it down.
struct Fake {
    device: File,
    events: Vec<String>,
    busy: usize,
    fails_at: usize,
}

impl Fake {
    fn new(device: File) -> Self {
        Self { device, events: Vec::new(), busy: 0, fails_at: usize::MAX }
    }
}

impl Wires for Fake {
    fn send(&mut self, is_data: bool, bytes: &[u8]) -> io::Result<()> {
        if self.events.len() >= self.fails_at {
            return Err(io::Error::other("pulled out"));
        }
        self.device.write_all(bytes)?;
        self.events.push(match (is_data, bytes.len()) {
            (false, _) => format!("c {:02X}", bytes[0]),
            (true, length) if length > LONG => format!("d {length} bytes {}", hex(&Sha256::digest(bytes))),
            (true, _) => format!("d{}", bytes.iter().map(|byte| format!(" {byte:02X}")).collect::<String>()),
        });
        Ok(())
    }

    fn set(&mut self, line: Line, high: bool) -> io::Result<()> {
        let name = if line == Line::Power { "power" } else { "reset" };
        self.events.push(format!("{name} {}", u8::from(high)));
        Ok(())
    }

    fn is_busy(&mut self) -> io::Result<bool> {
        self.events.push("busy?".to_owned());
        self.busy = self.busy.saturating_sub(1);
        Ok(self.busy > 0)
    }

    fn pause(&mut self, time: Duration) {
        self.events.push(format!("pause {}", time.as_millis()));
    }
}

fn golden(panel: &Panel) -> String {
    let path = format!("{}/tests/golden/epaper/{}.txt", env!("CARGO_MANIFEST_DIR"), panel.name);
    std::fs::read_to_string(path).expect("a golden file for each panel")
}

fn bytes_of(panel: &Panel) -> usize {
    let picture = RgbImage { width: 2, height: 1, pixels: vec![0; 6] };
    render(&picture, Profiles::builtin().get(panel.name).expect("a profile")).expect("a file").bytes.len()
}

#[test]
fn controllers_are_told_what_their_makers_drivers_tell_them() {
    let directory = tempfile::tempdir().expect("a directory");
    for panel in &PANELS {
        let path = directory.path().join(panel.name);
        let mut fake = Fake::new(File::create(&path).expect("a file"));
        let file: Vec<u8> = (0..bytes_of(panel)).map(|at| (at * 7 + at / 251) as u8).collect();
        panel.send(&file, &mut fake).expect("a fake that takes all");
        assert_eq!(fake.events.join("\n") + "\n", golden(panel), "{}", panel.name);
        // Commands and data as they came, nothing between them.
        let sent = std::fs::read(&path).expect("the fake device");
        let told: usize = golden(panel).lines().map(length).sum();
        assert_eq!(sent.len(), told, "{}", panel.name);
        let pixels = sent.iter().position(|byte| *byte == 0x10).expect("the command that begins pixels");
        assert!(sent.len() - pixels > file.len(), "{}", panel.name);
    }
}

/// Bytes of an event.
fn length(event: &str) -> usize {
    match event.split_once(' ') {
        Some(("c", _)) => 1,
        Some(("d", data)) => {
            let words: Vec<&str> = data.split(' ').collect();
            if words.get(1) == Some(&"bytes") { words[0].parse().expect("a number") } else { words.len() }
        }
        _ => 0,
    }
}

#[test]
fn a_picture_is_rendered_for_its_panel_and_waited_for() {
    let panel = Panel::named("waveshare-7in3-e6").expect("known");
    let profiles = Profiles::builtin();
    let profile = profiles.get(panel.name).expect("a profile");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("spidev0.0");
    let mut fake = Fake { busy: 3, ..Fake::new(File::create(&path).expect("a file")) };
    let red = RgbImage { width: 1, height: 1, pixels: vec![255, 0, 0] };
    panel.show(&red, profile, &mut fake).expect("shown");
    assert_eq!(
        fake.events.iter().filter(|event| *event == "busy?").count(),
        2 + 5,
        "asked until it was idle"
    );
    let sent = std::fs::read(path).expect("the fake device");
    let rendered = render(&red, profile).expect("a file").bytes;
    assert!(sent.windows(rendered.len()).any(|window| window == rendered), "the pixels as they are");
    // Nothing stays switched on where the panel goes away.
    let mut gone = Fake { fails_at: 12, ..Fake::new(tempfile::tempfile().expect("a file")) };
    let error = panel.show(&red, profile, &mut gone).expect_err("pulled out").to_string();
    assert!(error.contains("pulled out"), "{error}");
    assert_eq!(gone.events[gone.events.len() - 2..], ["reset 0", "power 0"]);
}

#[test]
fn profiles_may_turn_the_picture_but_not_the_panel() {
    let panel = Panel::named("waveshare-7in5b-v2").expect("known");
    let mut profiles = Profiles::builtin();
    let own = |options: &[(&str, &str)]| {
        let mut options: Vec<_> = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        options.push(("like".to_owned(), panel.name.to_owned()));
        options
    };
    profiles.add("hall", own(&[("rotation", "180"), ("dither", "blue-noise")])).expect("valid");
    panel.check(profiles.get("hall").expect("added")).expect("the panel's own bytes");
    for (option, value) in [("width", "400"), ("encoding", "png"), ("palette", "bwry")] {
        let mut changed = own(&[(option, value)]);
        if option == "palette" {
            changed.push(("encoding".to_owned(), "packed-2".to_owned()));
        }
        profiles.add("hall", changed).expect("valid");
        let error = panel.check(profiles.get("hall").expect("added")).expect_err(option).to_string();
        assert!(error.contains("hall"), "{error}");
    }
    let error = Panel::named("waveshare-7in3-e5").expect_err("not known").to_string();
    assert!(error.contains("waveshare-7in3-e6"), "{error}");
    for panel in &PANELS {
        panel.check(Profiles::builtin().get(panel.name).expect("a profile")).expect("its own");
    }
}

#[test]
#[cfg(not(feature = "epaper"))]
fn a_build_without_it_says_so() {
    let Err(error) = Board::open(&Wiring::default()) else { panic!("there is none") };
    let error = error.to_string();
    assert!(error.contains("--features epaper"), "{error}");
}

#[test]
#[cfg(feature = "epaper")]
fn devices_that_are_none_are_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let wiring = Wiring { spi: file.path().to_owned(), ..Wiring::default() };
    let Err(error) = Board::open(&wiring) else { panic!("a file is no SPI") };
    let error = error.to_string();
    assert!(error.contains(&file.path().display().to_string()) && error.contains("display.conf"), "{error}");
}
