//! Where a panel is connected.

use std::path::PathBuf;

/// The devices and lines of a panel; by default those that Waveshare's HATs have on a Raspberry Pi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wiring {
    /// The kernel's spidev device.
    pub spi: PathBuf,
    /// The GPIO chip that has the other lines.
    pub gpio: PathBuf,
    /// Which of its lines they are.
    pub pins: Pins,
}

/// Numbers of lines of a GPIO chip; on a Raspberry Pi those of the BCM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pins {
    /// Low resets the controller.
    pub reset: u32,
    /// High while data are sent, low for commands.
    pub data: u32,
    /// Low while the controller is at work.
    pub busy: u32,
    /// Switches the panel's supply on.
    pub power: u32,
}

impl Default for Wiring {
    fn default() -> Self {
        let pins = Pins { reset: 17, data: 25, busy: 24, power: 18 };
        Self { spi: "/dev/spidev0.0".into(), gpio: "/dev/gpiochip0".into(), pins }
    }
}

impl Pins {
    /// What [`Pins::parse`] takes.
    pub const ALLOWED: &'static str = "four lines such as \"rst=17 dc=25 busy=24 pwr=18\", each another one";

    /// Reads `rst=17 dc=25 busy=24 pwr=18`, in any order.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines: [Option<u32>; 4] = [None; 4];
        for word in text.split_ascii_whitespace() {
            let (name, number) = word.split_once('=')?;
            let place = ["rst", "dc", "busy", "pwr"].iter().position(|known| *known == name)?;
            if lines[place].replace(number.parse().ok()?).is_some() {
                return None;
            }
        }
        let [reset, data, busy, power] = lines;
        let pins = Self { reset: reset?, data: data?, busy: busy?, power: power? };
        let mut all = [pins.reset, pins.data, pins.busy, pins.power];
        all.sort_unstable();
        all.windows(2).all(|pair| pair[0] != pair[1]).then_some(pins)
    }
}

impl std::fmt::Display for Pins {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reset, data, busy, power } = self;
        write!(formatter, "rst={reset} dc={data} busy={busy} pwr={power}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_as_they_are_written() {
        let pins = Wiring::default().pins;
        assert_eq!(Pins::parse(&pins.to_string()), Some(pins));
        assert_eq!(
            Pins::parse("pwr=1  busy=2 dc=3 rst=4").map(|pins| (pins.reset, pins.power)),
            Some((4, 1))
        );
        for wrong in [
            "",
            "rst=17 dc=25 busy=24",
            "rst=17 dc=25 busy=24 pwr=17",
            "rst=17 dc=25 busy=24 pwr=18 cs=8",
            "rst=17 dc=25 busy=24 pwr=-1",
            "rst=17 rst=16 dc=25 busy=24 pwr=18",
            "17 25 24 18",
        ] {
            assert_eq!(Pins::parse(wrong), None, "{wrong}");
        }
    }
}
