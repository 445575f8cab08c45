#!/usr/bin/env python3
"""Reads what `easeld render` writes with decoders that are not ours: Pillow for PNG, JPEG, WebP, BMP and QOI; `lvglimg` for LVGL's
binary images (pip install lvglimg), Pimoroni's driver (pip install --no-deps inky; it needs no GPIO here); NumPy for what has no
header. Pixels have to be those of `--preview` or of a plain PNG, and byte counts those of the layouts.

    tests/display/verify.py EASELD PICTURE

Prints a line for each check; what cannot be checked for want of a module is said. Exits 1 when one fails.
"""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
from PIL import Image

EASELD, PICTURE = sys.argv[1:3]
SCRATCH = Path(tempfile.mkdtemp())
SIZES = [(1, 1), (1, 2047), (2047, 3), (13, 7), (96, 64)]
NOMINAL = {"black": (0, 0, 0), "white": (255, 255, 255), "yellow": (255, 255, 0), "red": (255, 0, 0), "blue": (0, 0, 255),
           "green": (0, 255, 0), "orange": (255, 128, 0)}
# The controllers' numbers: Zephyr's ed2208-gca and Waveshare's EPD_7in3e.h; EPD_7in3f.h; EPD_4in2g.h; EPD_7in5_V2.h.
CODES = {
    "spectra6": {0: "black", 1: "white", 2: "yellow", 3: "red", 5: "blue", 6: "green"},
    "acep7": {0: "black", 1: "white", 2: "green", 3: "blue", 4: "red", 5: "yellow", 6: "orange"},
    "bwry": {0: "black", 1: "white", 2: "yellow", 3: "red"},
    "bw-paper": {0: "black", 1: "white"},
}
failures = 0


def say(passed, name, detail=""):
    global failures
    failures += not passed
    print(f"  {'ok' if passed else 'FAILED':7} {name} {detail}".rstrip())


def render(encoding, size, *more):
    out = SCRATCH / "out"
    command = [EASELD, "render", PICTURE, "--width", str(size[0]), "--height", str(size[1]), "--encoding", encoding, *more]
    subprocess.run([*command, "-o", str(out)], check=True, stderr=subprocess.DEVNULL)
    return out.read_bytes()


def plain(size, *more):
    """The same dots in nominal colours, through the one format that was checked before the others: 8-bit PNG."""
    out = SCRATCH / "plain.png"
    out.write_bytes(render("png", size, *more))
    return np.asarray(Image.open(out).convert("RGB"))


def pillow(data):
    out = SCRATCH / "file"
    out.write_bytes(data)
    picture = Image.open(out)
    picture.load()
    return picture


def unpacked(data, size, bits):
    """Values of so many bits, the first in the highest, rows in whole bytes."""
    width, height = size
    stride = (width * bits + 7) // 8
    assert len(data) == stride * height, (len(data), stride * height)
    rows = np.unpackbits(np.frombuffer(data, np.uint8).reshape(height, stride), axis=1)[:, : width * bits]
    return rows.reshape(height, width, bits) @ (1 << np.arange(bits - 1, -1, -1))


def by_pillow():
    palettes = {"png-1": "bw", "png-2": "gray4", "png-4": "spectra6", "png-8": "gray256", "bmp-1": "bw", "bmp-4": "acep7",
                "bmp-8": "rgb332"}
    for encoding in ["png-1", "png-2", "png-4", "png-8", "bmp-1", "bmp-4", "bmp-8", "bmp-24", "webp", "qoi"]:
        more = ["--palette", palettes[encoding]] if encoding in palettes else []
        if encoding == "qoi" and ".qoi" not in Image.registered_extensions():
            print("  not run qoi: Pillow before 9.5")
            continue
        for size in SIZES:
            picture = pillow(render(encoding, size, *more))
            same = np.array_equal(np.asarray(picture.convert("RGB")), plain(size, *more))
            say(same and picture.size == size, f"{encoding} {size[0]} x {size[1]}", f"by Pillow, {picture.format} {picture.mode}")
    for encoding, layers in [("jpeg", (2, 2)), ("jpeg-444", (1, 1))]:
        for size in SIZES:
            picture = pillow(render(encoding, size, "--quality", "95"))
            off = np.abs(np.asarray(picture.convert("RGB")).astype(int) - plain(size)).mean()
            baseline = not picture.info.get("progressive") and picture.layer[0][1:3] == layers
            # A few pixels of strong colours lose much to halved chroma, whoever writes the file.
            file = io.BytesIO()
            Image.fromarray(plain(size).astype(np.uint8)).save(file, "jpeg", quality=95, subsampling=2 if layers == (2, 2) else 0)
            theirs = np.abs(np.asarray(pillow(file.getvalue()).convert("RGB")).astype(int) - plain(size)).mean()
            near = off <= 1.25 * theirs + 0.5
            say(near and baseline and picture.size == size, f"{encoding} {size[0]} x {size[1]}",
                f"by Pillow, off by {off:.2f}, Pillow's own {theirs:.2f}")


def without_header():
    for size in SIZES:
        width, height = size
        name = f"{width} x {height}"
        raw = np.frombuffer(render("rgb888", size), np.uint8)
        say(np.array_equal(raw.reshape(height, width, 3), plain(size)), f"rgb888 {name}", f"{raw.size} bytes")
        little = np.frombuffer(render("rgb565-le", size), "<u2")
        big = np.frombuffer(render("rgb565-be", size), ">u2")
        wide = np.stack([(little >> 11) * 255 / 31, (little >> 5 & 63) * 255 / 63, (little & 31) * 255 / 31], -1)
        near = np.abs(wide.reshape(height, width, 3) - plain(size)).max() <= 17
        say(np.array_equal(little, big) and little.size == width * height and near, f"rgb565 {name}", f"{little.nbytes} bytes")
        for encoding, bits, palette in [("packed-1", 1, "bw-paper"), ("packed-2", 2, "bwry"), ("packed-4", 4, "spectra6"),
                                        ("packed-4", 4, "acep7")]:
            data = render(encoding, size, "--palette", palette)
            colours = np.array([NOMINAL[CODES[palette].get(code, "black")] for code in range(1 << bits)])
            same = np.array_equal(colours[unpacked(data, size, bits)], plain(size, "--palette", palette))
            say(same, f"{encoding} {palette} {name}", f"{len(data)} bytes")
        data = render("planes", size, "--palette", "bwr")
        black, red = (unpacked(half, size, 1) for half in (data[: len(data) // 2], data[len(data) // 2 :]))
        shown = np.where(black[..., None] == 0, 0, np.where(red[..., None] == 0, (255, 0, 0), 255))
        say(np.array_equal(shown, plain(size, "--palette", "bwr")), f"planes bwr {name}", f"{len(data)} bytes")
        db = json.loads(render("awtrix", size))["draw"][0]["db"]
        numbers = np.array(db[4])
        shown = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], -1).reshape(height, width, 3)
        say(db[:4] == [0, 0, width, height] and np.array_equal(shown, plain(size)), f"awtrix {name}")


def as_lvgl_shows(size):
    """The pixels of `rgb565-le`, which are read above, as LVGL's own script widens them to 8 bits: brighter than they are."""
    little = np.frombuffer(render("rgb565-le", size), "<u2").reshape(size[1], size[0])
    widened = lambda value, bits: (value | value << (8 - bits)) & 255  # noqa: E731
    return np.stack([widened(little >> 11, 5), widened(little >> 5 & 63, 6), widened(little & 31, 5)], -1)


def by_lvglimg():
    try:
        import lvglimg.cli  # noqa: F401
    except ImportError as error:
        print(f"  not run lvgl: {error} (pip install lvglimg)")
        return
    for encoding, palette in [("lvgl8-rgb565", None), ("lvgl9-rgb565", None), ("lvgl9-rgb888", None),
                              ("lvgl9-l8", None), ("lvgl9-indexed", "bw"), ("lvgl9-indexed", "gray4"),
                              ("lvgl9-indexed", "spectra6"), ("lvgl9-indexed", "rgb332")]:
        more = ["--palette", palette] if palette else []
        for size in SIZES:
            source, target = SCRATCH / "image.bin", SCRATCH / "image.png"
            source.write_bytes(render(encoding, size, *more))
            Path(target).unlink(missing_ok=True)
            command = [sys.executable, "-c", "from lvglimg.cli import main; main()", str(source), str(target)]
            done = subprocess.run(command, capture_output=True, text=True)
            if not target.exists():
                say(False, f"{encoding} {palette or ''} {size[0]} x {size[1]}", done.stdout + done.stderr)
                continue
            shown = np.asarray(Image.open(target).convert("RGB")).astype(int)
            wanted = plain(size, *more)
            if encoding.endswith("565"):
                wanted = as_lvgl_shows(size)
            if encoding.endswith("l8"):
                wanted = np.asarray(Image.fromarray(wanted).convert("L").convert("RGB"))
            say(np.array_equal(shown, wanted), f"{encoding} {palette or ''} {size[0]} x {size[1]}", "by lvglimg")


def lvgl8_indexed():
    """`lvglimg` reads no indices of version 8. The layout: lv_img_decoder.h (5 bits of format, 3 and 2 of nothing, 11 of width and of
    height) and lv_img_decoder.c (`2^bits` colours as blue, green, red and alpha, then rows in whole bytes)."""
    for palette, bits in [("bw", 1), ("bwry", 2), ("spectra6", 4), ("rgb332", 8)]:
        for size in SIZES:
            data = render("lvgl8-indexed", size, "--palette", palette)
            head = int.from_bytes(data[:4], "little")
            said = (head & 31, head >> 10 & 2047, head >> 21)
            colours = np.frombuffer(data[4 : 4 + (4 << bits)], np.uint8).reshape(-1, 4)
            shown = colours[unpacked(data[4 + (4 << bits) :], size, bits)]
            same = np.array_equal(shown[..., 2::-1], plain(size, "--palette", palette)) and (shown[..., 3] == 255).all()
            format_of = {1: 7, 2: 8, 4: 9, 8: 10}[bits]
            say(said == (format_of, *size) and same, f"lvgl8-indexed {palette} {size[0]} x {size[1]}", f"{len(data)} bytes")


def by_inky():
    """Pimoroni's own driver takes the file, without a panel: what it would send are the controller's numbers."""
    for module in ("gpiod", "gpiod.line", "gpiodevice", "spidev", "smbus2"):
        try:
            __import__(module)
        except ImportError:
            sys.modules[module] = MagicMock()
    try:
        from inky import inky_ac073tc1a, inky_e673, inky_el133uf1, inky_uc8159
    except ImportError as error:
        print(f"  not run inky: {error} (pip install --no-deps inky)")
        return
    for profile, module, palette, (width, height) in [
        ("inky-impression-7-spectra6", inky_e673, "spectra6", (800, 480)),
        ("inky-impression-13-spectra6", inky_el133uf1, "spectra6", (1600, 1200)),
        ("inky-impression-7-acep7", inky_ac073tc1a, "acep7", (800, 480)),
        ("inky-impression-5-acep7", inky_uc8159, "acep7", (600, 448)),
    ]:
        out = SCRATCH / profile
        subprocess.run([EASELD, "render", PICTURE, "--profile", profile, "-o", str(out)], check=True, stderr=subprocess.DEVNULL)
        file = pillow(out.read_bytes())
        colours = np.asarray(file.convert("RGB"))
        panel = object.__new__(module.Inky)
        panel.width, panel.height, panel.cols, panel.rows = width, height, width, height
        panel.set_image(file)
        shown = np.array([NOMINAL[CODES[palette].get(code, "black")] for code in range(8)])[np.asarray(panel.buf)]
        say(np.array_equal(shown, colours), profile, f"by Pimoroni's driver, {len(np.unique(panel.buf))} inks")


def profiles():
    for profile in json.loads(subprocess.check_output([EASELD, "profiles", "--json"])):
        out = SCRATCH / "profile"
        done = subprocess.run([EASELD, "render", PICTURE, "--profile", profile["name"], "-o", str(out)], capture_output=True, text=True)
        # 0: the picture's own size.
        size = (int(profile["width"]), int(profile["height"])) if profile["width"] != "0" else Image.open(PICTURE).size
        bytes_a_pixel = {"packed-1": 1 / 8, "packed-2": 1 / 4, "packed-4": 1 / 2, "planes": 1 / 4, "rgb888": 3, "rgb565-le": 2,
                         "rgb565-be": 2, "bmp-24": 3, "lvgl9-rgb565": 2, "lvgl8-rgb565": 2}.get(profile["encoding"])
        header = {"bmp-24": 54, "lvgl9-rgb565": 12, "lvgl8-rgb565": 4}.get(profile["encoding"], 0)
        count = out.stat().st_size if done.returncode == 0 else -1
        expected = None if bytes_a_pixel is None else size[0] * size[1] * bytes_a_pixel + header
        most = int(profile["max_bytes"]) or 1 << 40
        say(count >= 0 and (expected is None or count == expected) and count <= most, f"profile {profile['name']}", f"{count} bytes")


for check in (by_pillow, without_header, by_lvglimg, lvgl8_indexed, by_inky, profiles):
    check()
print(f"{failures} failed")
sys.exit(failures > 0)
