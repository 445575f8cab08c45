#!/usr/bin/env python3
"""Runs Waveshare's own drivers against wires that write down what happens: the golden files of `display::epaper`.

    pip install waveshare-epaper==1.4.0       # its makers' drivers, MIT; needs no GPIO here
    tests/display/waveshare.py [--check]         # writes tests/golden/epaper/*.txt, or compares them

Each driver does what docs/displays.md says: `init`, `display` with the lines given there, `sleep`. What is shown is `file(BYTES)`, as
the unit test has it. A line is an event: `power 1`, `reset 0`, `pause 20` (ms), `busy?`, `c AA` (a command), `d 49 55` (data, in one
line whatever the driver's packets are; long data by number of bytes and SHA-256).
"""

import hashlib
import importlib
import importlib.util
import sys
import types
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "epaper"
# Where longer data are written by their digest.
LONG = 64


def file(count):
    return bytes((at * 7 + at // 251) & 0xFF for at in range(count))


class Wires(types.ModuleType):
    """Stands for `epdconfig`: a panel that is never busy."""

    RST_PIN, DC_PIN, CS_PIN, BUSY_PIN, PWR_PIN = 17, 25, 8, 24, 18

    def __init__(self):
        super().__init__("epdconfig")
        self.events, self.data, self.is_data = [], bytearray(), False
        self.SPI = self

    def module_init(self):
        self.say("power 1")
        return 0

    def module_exit(self, cleanup=False):
        self.say("reset 0")
        self.say("power 0")

    def digital_write(self, pin, value):
        if pin == self.DC_PIN:
            self.is_data = bool(value)
        elif pin == self.RST_PIN:
            self.say(f"reset {int(value)}")

    def digital_read(self, pin):
        assert pin == self.BUSY_PIN
        self.say("busy?")
        return 1

    def delay_ms(self, time):
        self.say(f"pause {time}")

    def spi_writebyte(self, data):
        data = bytes(value & 0xFF for value in data)
        if self.is_data:
            self.data += data
        else:
            self.say(f"c {data[0]:02X}")

    spi_writebyte2 = writebytes2 = spi_writebyte

    def say(self, event):
        if self.data:
            long = f"{len(self.data)} bytes {hashlib.sha256(self.data).hexdigest()}"
            self.events.append("d " + (long if len(self.data) > LONG else self.data.hex(" ").upper()))
            self.data.clear()
        self.events.append(event)


def driver(name, wires):
    """Without its package's own `epdconfig`, which looks for pins."""
    package = Path(importlib.util.find_spec("epaper").origin).parent / "e-Paper/RaspberryPi_JetsonNano/python/lib/waveshare_epd"
    waveshare = types.ModuleType("waveshare_epd")
    waveshare.__path__, waveshare.epdconfig = [str(package)], wires
    sys.modules |= {"waveshare_epd": waveshare, "waveshare_epd.epdconfig": wires}
    sys.modules.pop(f"waveshare_epd.{name}", None)
    return importlib.import_module(f"waveshare_epd.{name}").EPD()


def flipped(data):
    return bytearray(byte ^ 0xFF for byte in data)


PANELS = {
    "waveshare-7in3-e6": ("epd7in3e", 192_000, lambda epd, data: epd.display(list(data))),
    "waveshare-7in3-f": ("epd7in3f", 192_000, lambda epd, data: epd.display(list(data))),
    "waveshare-7in5-v2": ("epd7in5_V2", 48_000, lambda epd, data: epd.display(flipped(data))),
    "waveshare-7in5b-v2": ("epd7in5b_V2", 96_000, lambda epd, data: epd.display(flipped(data[:48_000]), flipped(data[48_000:]))),
}

wrong = 0
for panel, (name, count, show) in PANELS.items():
    wires = Wires()
    epd = driver(name, wires)
    epd.init()
    show(epd, file(count))
    epd.sleep()
    text = "\n".join(wires.events) + "\n"
    golden = GOLDEN / f"{panel}.txt"
    if "--check" in sys.argv:
        same = golden.read_text() == text
        wrong += not same
        print(f"  {'ok' if same else 'FAILED':7} {panel} by {name}, {len(wires.events)} events")
    else:
        golden.write_text(text)
        print(f"  written {golden.name}, {len(wires.events)} events")
sys.exit(wrong > 0)
