"""Golden numbers of PyTorch's CPU generator, for tests/randn.rs.

Run from the repository root:  python quantize/golden/randn.py

Writes tests/golden/randn/randn.json: raw Mersenne Twister words, `torch.randn` for many seeds and
sizes (long results subsampled at a stride), and sequences of calls, because the generator carries a
cached sample from one small call to the next.
"""

import json
import pathlib
import platform

import torch

OUT = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "randn" / "randn.json"
SEEDS = [0, 1, 2, 7, 42, 1234, 65535, 2**31 - 1, 2**31, 3735928559, 2**32 - 2, 2**32 - 1]
SIZES = list(range(1, 41)) + [47, 48, 49, 63, 64, 65, 255, 1000, 1023, 1024, 1025]
LATENTS = [[1, 4, 8, 8], [1, 4, 16, 16], [1, 4, 64, 64], [1, 4, 96, 64], [2, 4, 33, 31]]
# Sizes drawn one after the other from one generator.
SEQUENCES = [
    [1, 1, 1, 1],
    [3, 16, 3],
    [1, 20, 1, 15, 2],
    [15, 15, 15],
    [1024, 1024],
    [17, 5, 33, 7, 64],
    [256] * 4,
]
STRIDE = 509  # a prime: it meets every lane of the blocks of 16


def generator(seed):
    return torch.Generator("cpu").manual_seed(seed)


def words(seed, count):
    """`random_` over all of int64 hands out the generator's words unchanged, two at a time, high first."""
    drawn = torch.empty(count // 2, dtype=torch.int64)
    drawn.random_(-(2**63), None, generator=generator(seed))
    pairs = [value % 2**64 for value in drawn.tolist()]
    return [word for pair in pairs for word in (pair >> 32, pair & 0xFFFFFFFF)]


def subsample(values):
    """All of a short result; every 509th and the last 20 elements of a long one."""
    if len(values) <= 70:
        picked = list(range(len(values)))
    else:
        picked = sorted({*range(0, len(values), STRIDE), *range(len(values) - 20, len(values))})
    return picked, [values[i] for i in picked]


def row(seed, shape):
    values = torch.randn(shape, generator=generator(seed), dtype=torch.float32).flatten().tolist()
    picked, kept = subsample(values)
    return {"seed": seed, "size": len(values), "at": picked if len(picked) < len(values) else None, "values": kept}


def main():
    rows = [row(seed, [size]) for seed in SEEDS for size in SIZES if size <= 65 or seed in (0, 7, 2**32 - 1)]
    rows += [row(seed, shape) for seed in SEEDS for shape in LATENTS]
    sequences = []
    for seed in SEEDS:
        for sizes in SEQUENCES:
            g = generator(seed)
            calls = []
            for size in sizes:
                values = torch.randn(size, generator=g).tolist()
                calls.append({"size": size, "tail": values[-8:]})
            sequences.append({"seed": seed, "calls": calls})
    golden = {
        "header": {
            "script": "quantize/golden/randn.py",
            "torch": torch.__version__,
            "machine": platform.machine(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "tolerance": 1e-6,
        },
        # 1,300 words: past two renewals of the 624-word state.
        "words": [{"seed": seed, "first": words(seed, 1300)[:40], "last": words(seed, 1300)[-40:]} for seed in SEEDS],
        "randn": rows,
        "sequences": sequences,
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(round_floats(golden), separators=(",", ":")) + "\n")
    print(f"{OUT}: {len(rows)} results, {len(sequences)} sequences, {OUT.stat().st_size} bytes")


def round_floats(value):
    """Nine significant digits name an f32 exactly."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {k: round_floats(v) for k, v in value.items()}
    if isinstance(value, list):
        return [round_floats(v) for v in value]
    return value


if __name__ == "__main__":
    main()
