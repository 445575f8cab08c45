//! The wires of a board: the kernel's spidev and GPIO character devices.

#[cfg(feature = "epaper")]
pub use self::linux::Board;
#[cfg(not(feature = "epaper"))]
pub use self::none::Board;

#[cfg(feature = "epaper")]
mod linux {
    use std::io::{self, Write};
    use std::path::Path;

    use gpiocdev::Request;
    use gpiocdev::line::Value;
    use spidev::{SpiModeFlags, Spidev, SpidevOptions};

    use super::super::{EpaperError, Line, Pins, Wires, Wiring};

    /// As Waveshare's drivers have it; the controllers take up to 20 MHz over short wires.
    const SPEED_HZ: u32 = 4_000_000;
    /// Most bytes of one write: spidev's own buffer, unless the module was loaded with another.
    const CHUNK: usize = 4096;

    /// See the module.
    pub struct Board {
        spi: Spidev,
        lines: Request,
        pins: Pins,
    }

    impl Board {
        /// Takes the devices of `wiring` for itself, until it is dropped.
        ///
        /// # Errors
        /// [`EpaperError::Device`].
        pub fn open(wiring: &Wiring) -> Result<Self, EpaperError> {
            let wrong =
                |device: &Path, error| EpaperError::Device { device: device.display().to_string(), error };
            let open_spi = || {
                let mut spi = Spidev::open(&wiring.spi)?;
                let options = SpidevOptions::new()
                    .bits_per_word(8)
                    .max_speed_hz(SPEED_HZ)
                    .mode(SpiModeFlags::SPI_MODE_0)
                    .build();
                spi.configure(&options).map(|()| spi)
            };
            let spi = open_spi().map_err(|error| wrong(&wiring.spi, error))?;
            let Pins { reset, data, busy, power } = wiring.pins;
            let lines = Request::builder()
                .on_chip(&wiring.gpio)
                .with_consumer("easeld")
                .with_lines(&[data, power])
                .as_output(Value::Inactive)
                .with_line(reset)
                .as_output(Value::Active)
                .with_line(busy)
                .as_input()
                .request()
                .map_err(|error| wrong(&wiring.gpio, io::Error::other(error)))?;
            Ok(Self { spi, lines, pins: wiring.pins })
        }

        fn put(&self, pin: u32, high: bool) -> io::Result<()> {
            let value = if high { Value::Active } else { Value::Inactive };
            self.lines.set_value(pin, value).map(|_| ()).map_err(io::Error::other)
        }
    }

    impl Wires for Board {
        fn send(&mut self, is_data: bool, bytes: &[u8]) -> io::Result<()> {
            self.put(self.pins.data, is_data)?;
            bytes.chunks(CHUNK).try_for_each(|chunk| self.spi.write_all(chunk))
        }

        fn set(&mut self, line: Line, high: bool) -> io::Result<()> {
            let pin = match line {
                Line::Power => self.pins.power,
                Line::Reset => self.pins.reset,
            };
            self.put(pin, high)
        }

        fn is_busy(&mut self) -> io::Result<bool> {
            self.lines.value(self.pins.busy).map(|value| value == Value::Inactive).map_err(io::Error::other)
        }
    }
}

#[cfg(not(feature = "epaper"))]
mod none {
    use std::io;

    use super::super::{EpaperError, Line, Wires, Wiring};

    /// There is none in this build.
    #[derive(Debug)]
    pub struct Board(());

    impl Board {
        /// Says so.
        ///
        /// # Errors
        /// Always.
        pub fn open(_wiring: &Wiring) -> Result<Self, EpaperError> {
            Err(EpaperError::NotBuilt)
        }
    }

    fn unsupported() -> io::Error {
        io::Error::from(io::ErrorKind::Unsupported)
    }

    impl Wires for Board {
        fn send(&mut self, _is_data: bool, _bytes: &[u8]) -> io::Result<()> {
            Err(unsupported())
        }

        fn set(&mut self, _line: Line, _high: bool) -> io::Result<()> {
            Err(unsupported())
        }

        fn is_busy(&mut self) -> io::Result<bool> {
            Err(unsupported())
        }
    }
}
