#!/usr/bin/env python3
"""Shows a node's newest picture on a Pimoroni Inky Impression: MQTT says when there is one, and brings it.

    pip install inky[rpi] paho-mqtt pillow
    python inky.py mqtt.local kitchen inky-impression-7-spectra6

The node publishes it with `[display] renditions = ["inky-impression-7-spectra6"]`: a PNG of the panel's size in its colours, which
Pimoroni's library writes as it is.
"""

import io
import sys

from PIL import Image


def show(panel, png):
    """Writes the file to `panel`; its colours are the panel's, so nothing is dithered again."""
    panel.set_image(Image.open(io.BytesIO(png)))
    panel.show()


def main():
    import paho.mqtt.client as mqtt
    from inky.auto import auto

    host, node, rendition = sys.argv[1:4]
    panel = auto()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *_: client.subscribe(f"easel/{node}/image/{rendition}", qos=1)
    client.on_message = lambda _client, _data, message: message.payload and show(panel, message.payload)
    client.connect(host)
    client.loop_forever()


if __name__ == "__main__":
    main()
