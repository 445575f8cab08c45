#!/usr/bin/env python3
"""Prints the table of docs/displays.md: a row per profile, from `easeld profiles --json`.

    tests/display/table.py EASELD
"""

import json
import subprocess
import sys

print("| what it will show | product | profile | pixels | colours | bytes |\n| --- | --- | --- | --- | --- | --- |")
for p in json.loads(subprocess.check_output([sys.argv[1], "profiles", "--json"])):
    size = f"{p['width']} x {p['height']}" if p["width"] != "0" else "the picture's own"
    colours = "all" if p["palette"] == "none" else p["palette"]
    print(f"| ![](displays/{p['name']}.png) | {p['title']} | `{p['name']}` | {size} | {colours} | {p['encoding']} |")
