//! What the controllers of e-paper panels are told, from power to sleep.
//!
//! Published by Waveshare in its Python drivers, <https://github.com/waveshareteam/e-Paper>, directory
//! `RaspberryPi_JetsonNano/python/lib/waveshare_epd`, a file per panel: `init`, `display`, `sleep`. A test holds each sequence against
//! what these drivers send when they run (`tests/display/waveshare.py` writes it down).

use super::Panel;
use super::Pixels::{All, AllFlipped, First, SecondFlipped};
use super::Step::{self, Idle, Pause, Reset, Say, Send};

/// All panels.
pub static PANELS: [Panel; 4] = [
    Panel { name: "waveshare-7in3-e6", steps: EPD_7IN3_E },
    Panel { name: "waveshare-7in3-f", steps: EPD_7IN3_F },
    Panel { name: "waveshare-7in5-v2", steps: EPD_7IN5_V2 },
    Panel { name: "waveshare-7in5b-v2", steps: EPD_7IN5B_V2 },
];

/// The line says when it is ready.
const READY: Step = Idle { ask: None, rest: 0 };
/// The same, asked for with GET_STATUS: controllers of black, white and red panels.
const ASKED_READY: Step = Idle { ask: Some(0x71), rest: 20 };
/// The same with a longer rest.
const ASKED_READY_LONG: Step = Idle { ask: Some(0x71), rest: 200 };
/// 800 x 480 pixels.
const RESOLUTION: Step = Say(0x61, &[0x03, 0x20, 0x01, 0xe0]);
/// Deep sleep; only a reset ends it.
const SLEEP: Step = Say(0x07, &[0xa5]);

/// `epd7in3e.py`: Spectra 6.
const EPD_7IN3_E: &[Step] = &[
    Reset { high: 20, low: 2 },
    READY,
    Pause(30),
    Say(0xaa, &[0x49, 0x55, 0x20, 0x08, 0x09, 0x18]),
    Say(0x01, &[0x3f]),
    Say(0x00, &[0x5f, 0x69]),
    Say(0x03, &[0x00, 0x54, 0x00, 0x44]),
    Say(0x05, &[0x40, 0x1f, 0x1f, 0x2c]),
    Say(0x06, &[0x6f, 0x1f, 0x17, 0x49]),
    Say(0x08, &[0x6f, 0x1f, 0x1f, 0x22]),
    Say(0x30, &[0x03]),
    Say(0x50, &[0x3f]),
    Say(0x60, &[0x02, 0x00]),
    RESOLUTION,
    Say(0x84, &[0x01]),
    Say(0xe3, &[0x2f]),
    Say(0x04, &[]),
    READY,
    Send(0x10, All),
    Say(0x04, &[]),
    READY,
    Say(0x12, &[0x00]),
    READY,
    Say(0x02, &[0x00]),
    READY,
    SLEEP,
    Pause(2000),
];

/// `epd7in3f.py`: ACeP with seven colours.
const EPD_7IN3_F: &[Step] = &[
    Reset { high: 20, low: 2 },
    READY,
    Pause(30),
    Say(0xaa, &[0x49, 0x55, 0x20, 0x08, 0x09, 0x18]),
    Say(0x01, &[0x3f, 0x00, 0x32, 0x2a, 0x0e, 0x2a]),
    Say(0x00, &[0x5f, 0x69]),
    Say(0x03, &[0x00, 0x54, 0x00, 0x44]),
    Say(0x05, &[0x40, 0x1f, 0x1f, 0x2c]),
    Say(0x06, &[0x6f, 0x1f, 0x1f, 0x22]),
    Say(0x08, &[0x6f, 0x1f, 0x1f, 0x22]),
    Say(0x13, &[0x00, 0x04]),
    Say(0x30, &[0x3c]),
    Say(0x41, &[0x00]),
    Say(0x50, &[0x3f]),
    Say(0x60, &[0x02, 0x00]),
    RESOLUTION,
    Say(0x82, &[0x1e]),
    Say(0x84, &[0x00]),
    Say(0x86, &[0x00]),
    Say(0xe3, &[0x2f]),
    Say(0xe0, &[0x00]),
    Say(0xe6, &[0x00]),
    Send(0x10, All),
    Say(0x04, &[]),
    READY,
    Say(0x12, &[0x00]),
    READY,
    Say(0x02, &[0x00]),
    READY,
    SLEEP,
    Pause(2000),
];

/// `epd7in5_V2.py`: black and white. It compares the new picture with an old one, for which it gets the same turned over.
const EPD_7IN5_V2: &[Step] = &[
    Reset { high: 20, low: 2 },
    Say(0x06, &[0x17, 0x17, 0x28, 0x17]),
    Say(0x01, &[0x07, 0x07, 0x28, 0x17]),
    Say(0x04, &[]),
    Pause(100),
    ASKED_READY,
    Say(0x00, &[0x1f]),
    RESOLUTION,
    Say(0x15, &[0x00]),
    Say(0x50, &[0x10, 0x07]),
    Say(0x60, &[0x22]),
    Send(0x10, All),
    Send(0x13, AllFlipped),
    Say(0x12, &[]),
    Pause(100),
    ASKED_READY,
    Say(0x50, &[0xf7]),
    Say(0x02, &[]),
    ASKED_READY,
    SLEEP,
    Pause(2000),
];

/// `epd7in5b_V2.py`: black, white and red.
const EPD_7IN5B_V2: &[Step] = &[
    Reset { high: 200, low: 4 },
    Say(0x01, &[0x07, 0x07, 0x3f, 0x3f]),
    Say(0x06, &[0x17, 0x17, 0x28, 0x17]),
    Say(0x04, &[]),
    Pause(100),
    ASKED_READY_LONG,
    Say(0x00, &[0x0f]),
    RESOLUTION,
    Say(0x15, &[0x00]),
    Say(0x50, &[0x11, 0x07]),
    Say(0x60, &[0x22]),
    Send(0x10, First),
    Send(0x13, SecondFlipped),
    Say(0x12, &[]),
    Pause(100),
    ASKED_READY_LONG,
    Say(0x02, &[]),
    ASKED_READY_LONG,
    SLEEP,
    Pause(2000),
];
