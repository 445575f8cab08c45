"""Writes `easel.toml` on top of a pack: title, licence, presets and a SHA-256 of every file it runs on.

    python quantize/manifest.py PACK --title T --licence L --preset default:8:3.0 --preset fast:2:1.0:lcm:unet_fast
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

DOCUMENTATION = {".md", ".png", ".svg", ".toml"}


def is_documentation(path: Path) -> bool:
    """Whether a file is for people: it has no checksum."""
    return path.suffix in DOCUMENTATION or path.name.startswith("LICENSE")


def files(pack: Path) -> list[Path]:
    """Every file that belongs to the pack, sorted; none of what engines or quantize.py make beside it."""
    found = (path for path in sorted(pack.rglob("*")) if path.is_file())
    return [path for path in found if ".packed" not in path.name and not path.name.endswith(".partial")
            and not any(part.startswith(".") for part in path.relative_to(pack).parts)]


def digest(path: Path) -> str:
    """SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest(pack: Path, title: str, licence: str, presets: list[str], size: int, smallest: int | None,
             accept_licence: bool = False, auto_schedulers: list[str] = ()) -> str:
    """The text of easel.toml; each preset is NAME:STEPS:GUIDANCE[:SCHEDULER[:UNET]], `size` is pixels square.

    A preset whose UNet the pack does not have is left out.
    """
    lines = [f"title = {json.dumps(title)}", f"licence = {json.dumps(licence)}"]
    if accept_licence:
        lines.append("accept_licence = true")
    if smallest:
        lines.append(f"smallest = {smallest}")
    for preset in presets:
        name, steps, guidance, scheduler, unet = (*preset.split(":"), "", "")[:5]
        if unet and not (pack / unet).exists():
            continue
        lines += ["", f"[presets.{name}]", f"steps = {int(steps)}", f"guidance_scale = {float(guidance)}",
                  f"width = {size}", f"height = {size}"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in (("scheduler", scheduler), ("unet", unet)) if value]
    if auto_schedulers:
        lines += ["", "[auto_schedulers]"]
        lines += [f"{steps} = {json.dumps(name)}" for steps, name in (auto.split(":") for auto in auto_schedulers)]
    lines += ["", "[checksums]"]
    for path in files(pack):
        if not is_documentation(path):
            lines.append(f'"{path.relative_to(pack).as_posix()}" = "{digest(path)}"')
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--title", required=True)
    parser.add_argument("--licence", required=True)
    parser.add_argument("--preset", action="append", default=[], help="NAME:STEPS:GUIDANCE[:SCHEDULER[:UNET]]")
    parser.add_argument("--smallest", type=int, help="pixels below which pictures are made larger and averaged")
    parser.add_argument("--auto-scheduler", action="append", default=[], metavar="STEPS:NAME",
                        help="what scheduler = auto means up to so many steps")
    parser.add_argument("--accept-licence", action="store_true",
                        help="whoever installs the pack has to accept its licence")
    args = parser.parse_args()
    vae, unet = (json.loads((args.pack / part / "config.json").read_text()) for part in ("vae_decoder", "unet"))
    size = unet["sample_size"] << (len(vae["block_out_channels"]) - 1)
    text = manifest(args.pack, args.title, args.licence, args.preset, size, args.smallest,
                    args.accept_licence, args.auto_scheduler)
    (args.pack / "easel.toml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
