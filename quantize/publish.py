"""Packs a pack into one file that `easeld pack install` takes, and prints the digest to give along.

    python quantize/publish.py PACK --out my-model.tar

The tar holds one directory, named like the file: what `easel.toml` has checksums of, and the documentation. The same
files give the same bytes: sorted, no owners, no times. It is not compressed, since int8 weights hardly are compressible.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import tomllib
from pathlib import Path

from tqdm import tqdm

from manifest import digest, files, is_documentation


def check(pack: Path, paths: list[Path]) -> None:
    """Ends with what is wrong if `easel.toml` does not vouch for the files."""
    if not (pack / "easel.toml").is_file():
        sys.exit(f"{pack} has no easel.toml: run manifest.py first")
    said = tomllib.loads((pack / "easel.toml").read_text(encoding="utf-8"))
    sums = said.get("checksums", {})
    for path in tqdm(paths, desc="checking", unit="file"):
        name = path.relative_to(pack).as_posix()
        if is_documentation(path):
            continue
        if name not in sums:
            sys.exit(f"easel.toml has no checksum of {name}: run manifest.py again")
        if digest(path) != sums[name]:
            sys.exit(f"{name} is not what easel.toml says: run manifest.py again")
    if not said.get("licence"):
        sys.exit("easel.toml names no licence: run manifest.py with --licence")


def write(pack: Path, paths: list[Path], out: Path) -> None:
    """The tar, under a temporary name until it is whole."""
    partial = out.with_name(out.name + ".partial")
    top = out.name.removesuffix(".tar")
    with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in tqdm(paths, desc="packing", unit="file"):
            entry = tarfile.TarInfo(f"{top}/{path.relative_to(pack).as_posix()}")
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)
    partial.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--out", type=Path, help="a .tar [default: PACK.tar beside it]")
    args = parser.parse_args()
    out = args.out or args.pack.with_name(args.pack.name + ".tar")
    if out.suffix != ".tar":
        sys.exit(f"{out} should end in .tar")
    paths = files(args.pack)
    check(args.pack, paths)
    write(args.pack, paths, out)
    print(f"{out}  {out.stat().st_size / 2**20:.1f} MiB  SHA-256 {digest(out)}")
    print(f"easeld pack install {out.name} --sha256 {digest(out)}")


if __name__ == "__main__":
    main()
