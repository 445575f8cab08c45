# MicroPython: shows a node's newest picture on a 240 x 240 display, row by row: no buffer for the whole picture.
#
# Copy to the board as main.py; change the three names below, and the pins in panel(). The file is what the profile
# `esp32-240x240` makes: two bytes a pixel, the high one first, as ST7789 and GC9A01 take them, so nothing is decoded here.
import socket
import time

HOST, PORT = "192.168.1.20", 8088
PATH = "/image/esp32-240x240"
EVERY_S = 30

WIDTH, HEIGHT = 240, 240


def fetch(show_row, etag=None, connect=socket.socket):
    """Calls show_row(y, bytes) for each row of a new picture. Returns its ETag, or `etag` when there is none newer."""
    sock = connect()
    sock.settimeout(20)
    sock.connect(socket.getaddrinfo(HOST, PORT)[0][-1])
    try:
        condition = "If-None-Match: %s\r\n" % etag if etag else ""
        request = "GET %s HTTP/1.0\r\nHost: %s:%d\r\n%s\r\n" % (PATH, HOST, PORT, condition)
        sock.write(request.encode())
        status = int(sock.readline().split()[1])
        length = 0
        while True:
            line = sock.readline()
            if not line or line == b"\r\n":
                break
            name, value = line.decode().split(":", 1)
            if name.lower() == "etag":
                etag = value.strip()
            elif name.lower() == "content-length":
                length = int(value)
        if status == 304:
            return etag
        if status != 200 or length != WIDTH * HEIGHT * 2:
            raise OSError("%d, %d bytes" % (status, length))
        row = bytearray(WIDTH * 2)
        for y in range(HEIGHT):
            read(sock, row)
            show_row(y, row)
        return etag
    finally:
        sock.close()


def read(sock, into):
    """Fills `into`, however small the pieces are that come."""
    view, filled = memoryview(into), 0
    while filled < len(into):
        count = sock.readinto(view[filled:])
        if not count:
            raise OSError("the connection ended early")
        filled += count


def panel():
    """An ST7789 on SPI 1: returns a function that writes a row."""
    from machine import SPI, Pin

    spi = SPI(1, baudrate=40_000_000, sck=Pin(12), mosi=Pin(11))
    cs, dc, reset = (Pin(n, Pin.OUT, value=1) for n in (10, 9, 8))

    def command(code, *data):
        cs(0), dc(0), spi.write(bytes([code])), dc(1)
        if data:
            spi.write(bytes(data))
        cs(1)

    reset(0), time.sleep_ms(20), reset(1), time.sleep_ms(120)
    command(0x11), time.sleep_ms(120)  # awake
    command(0x3A, 0x55)  # 16 bits a pixel
    command(0x36, 0x00), command(0x21), command(0x29)  # direction, inverted as this panel is, on

    def show_row(y, row):
        command(0x2A, 0, 0, 0, WIDTH - 1)
        command(0x2B, y >> 8, y & 255, y >> 8, y & 255)
        cs(0), dc(0), spi.write(b"\x2c"), dc(1), spi.write(row), cs(1)

    return show_row


def main():
    show_row, etag = panel(), None
    while True:
        try:
            etag = fetch(show_row, etag)
        except OSError as error:  # the node or the network is away: the last picture stays
            print("no picture:", error)
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
