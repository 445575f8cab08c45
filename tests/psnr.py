#!/usr/bin/env python3
"""Prints how close two PNG files are: their PSNR in dB ("inf" when equal). Standard library only.

    tests/psnr.py A.png B.png [--at-least DB]

With --at-least, exits 1 when they are further apart. 8-bit RGB without interlace, which is what easeld writes.
"""

import argparse
import math
import struct
import sys
import zlib


def read_png(path):
    """(width, height, rows): rows are bytearrays of width * 3 values."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        sys.exit(f"{path}: not a PNG file")
    at, header, packed = 8, None, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            packed += body
        at += length + 12
    width, height, depth, colour, _, _, interlace = header
    if (depth, colour, interlace) != (8, 2, 0):
        sys.exit(f"{path}: depth {depth}, colour type {colour}, interlace {interlace}; 8, 2, 0 expected")
    raw, stride, rows = zlib.decompress(packed), width * 3, []
    above = bytearray(stride)
    for y in range(height):
        start = y * (stride + 1)
        above = unfilter(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), above)
        rows.append(above)
    return width, height, rows


def unfilter(kind, row, above):
    """Undoes PNG's row filters (PNG specification, section 9): 3 bytes a pixel."""
    for i in range(len(row)):
        left = row[i - 3] if i >= 3 else 0
        corner = above[i - 3] if i >= 3 else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = above[i]
        elif kind == 3:
            guess = (left + above[i]) // 2
        elif kind == 4:
            p = left + above[i] - corner
            guess = min((left, above[i], corner), key=lambda value: abs(p - value))
        else:
            guess = 0
        row[i] = (row[i] + guess) & 255
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--at-least", type=float, metavar="DB")
    options = parser.parse_args()
    (aw, ah, a), (bw, bh, b) = read_png(options.a), read_png(options.b)
    if (aw, ah) != (bw, bh):
        sys.exit(f"{options.a} is {aw}x{ah}, {options.b} is {bw}x{bh}")
    squares = sum((p - q) ** 2 for x, y in zip(a, b) for p, q in zip(x, y))
    psnr = 10 * math.log10(255**2 * aw * ah * 3 / squares) if squares else math.inf
    print(f"{psnr:.2f}")
    if options.at_least is not None and psnr < options.at_least:
        sys.exit(f"PSNR {psnr:.2f} dB is below {options.at_least} dB")


if __name__ == "__main__":
    main()
