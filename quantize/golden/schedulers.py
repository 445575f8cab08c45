"""Golden trajectories of diffusers' schedulers, for tests/schedulers.rs.

Run from the repository root:  python quantize/golden/schedulers.py [CLASS ...]

The options are in scheduler_cases.py. Every case runs twice: through diffusers as shipped (float32 tables and
state) and through a copy of the same source in which float32 is replaced by float64. The UNet is a rational function of the sample
and the timestep (`model` below), so that Rust repeats it exactly, in f32 and in f64.

Writes, under tests/golden/schedulers/, for every class asked for (all, without arguments):
  CLASS.json   header, the timesteps of every run, the options of every case, and the runs left out
               with the reason: what diffusers raises, "not finite in diffusers", or "wrong: ..."
  CLASS.f32    little-endian f32, run after run in the order of the cases and of header.steps: the sample
               after the first, the middle and the last step by the float64 copy, then the sample
               after the last step as shipped; of header.elements numbers, every header.stride-th each
"""

import importlib
import inspect
import json
import pathlib
import platform
import sys
import types
import warnings

import diffusers
import numpy as np
import scipy
import torch
from scheduler_cases import CASES, wrong

OUT = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "schedulers"
STEPS = [1, 2, 3, 4, 5, 8, 20, 50]
ELEMENTS = 8
# All elements take part in every run; of these, one in so many is written down.
STRIDE = 2
NOISE_SEED = 20240611
FILES = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "PNDMScheduler": "pndm",
    "LMSDiscreteScheduler": "lms_discrete",
    "EulerDiscreteScheduler": "euler_discrete",
    "EulerAncestralDiscreteScheduler": "euler_ancestral_discrete",
    "HeunDiscreteScheduler": "heun_discrete",
    "KDPM2DiscreteScheduler": "k_dpm_2_discrete",
    "KDPM2AncestralDiscreteScheduler": "k_dpm_2_ancestral_discrete",
    "DPMSolverMultistepScheduler": "dpmsolver_multistep",
    "DPMSolverSinglestepScheduler": "dpmsolver_singlestep",
    "UniPCMultistepScheduler": "unipc_multistep",
    "DEISMultistepScheduler": "deis_multistep",
    "LCMScheduler": "lcm",
    "TCDScheduler": "tcd",
}
MODULES = {
    name: importlib.import_module(f"diffusers.schedulers.scheduling_{file}") for name, file in FILES.items()
}


def in_float64(module):
    """A copy of a scheduler module whose tables and state are float64."""
    source = inspect.getsource(module)
    for old, new in {
        "torch.float32": "torch.float64",
        "np.float32": "np.float64",
        "from ..": "from diffusers.",
        "from .scheduling_utils": "from diffusers.schedulers.scheduling_utils",
        # TCD computes this timestep in the default type, and which integer is below hangs on it.
        "torch.floor((1 - eta) * prev_timestep)": "torch.floor((1 - eta) * prev_timestep.float())",
    }.items():
        source = source.replace(old, new)
    copy = types.ModuleType(module.__name__ + "_float64")
    sys.modules[copy.__name__] = copy
    exec(compile(source, copy.__name__, "exec"), copy.__dict__)

    def randn_tensor(shape, generator=None, device=None, dtype=None):
        # float64 noise would be another stream; the same numbers, widened, are wanted.
        return torch.randn(shape, generator=generator, dtype=torch.float32).double()

    copy.randn_tensor = randn_tensor
    return copy


FLOAT64 = {name: in_float64(module) for name, module in MODULES.items()}


def start(dtype):
    """Quarters between -2 and 2: exact in either type."""
    return torch.tensor([((i * 37) % 17 - 8) / 4 for i in range(ELEMENTS)], dtype=dtype).reshape(1, 2, 2, 2)


def model(sample, t):
    """Bounded, not linear, different for every element, and made of + * / only."""
    pattern = torch.tensor([((i * 5) % 7 - 3) / 4 for i in range(ELEMENTS)], dtype=sample.dtype).reshape(sample.shape)
    return sample / (sample.abs() + 1.0) * 0.75 + pattern * (t / 1000)


def run(scheduler, dtype, eta):
    """The samples after every step, as lists of float."""
    if hasattr(scheduler, "set_begin_index"):
        # Otherwise equal first timesteps would make it start at the second.
        scheduler.set_begin_index(0)
    known = inspect.signature(scheduler.step).parameters
    arguments = {"generator": torch.Generator("cpu").manual_seed(NOISE_SEED), "eta": eta}
    arguments = {key: value for key, value in arguments.items() if key in known and value is not None}
    sample = start(dtype) * scheduler.init_noise_sigma
    states = []
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, t)
        output = model(scaled, t.item())
        sample = scheduler.step(output, t, sample, **arguments).prev_sample
        assert sample.dtype == dtype, (sample.dtype, dtype)
        states.append(sample.flatten().double().numpy())
    return states


class Runs:
    """The pair of schedulers of one case, made once and set to every number of steps."""

    # Writes lower_order_final into its configuration for some numbers of steps, and keeps it for all later ones.
    FORGETFUL = ["DPMSolverSinglestepScheduler"]

    def __init__(self, name, options):
        self.name = name
        self.options = dict(options)
        self.eta = self.options.pop("eta", None)
        self.make()

    def make(self):
        name, options = self.name, self.options
        self.shipped = getattr(MODULES[name], name)(**options)
        torch.set_default_dtype(torch.float64)
        try:
            self.patched = getattr(FLOAT64[name], name)(**options)
        finally:
            torch.set_default_dtype(torch.float32)

    def at(self, steps):
        """(timesteps as shipped, states by the float64 copy, states as shipped)"""
        if self.name in self.FORGETFUL:
            self.make()
        self.shipped.set_timesteps(steps)
        timesteps = self.shipped.timesteps.clone()
        shipped = run(self.shipped, torch.float32, self.eta)
        torch.set_default_dtype(torch.float64)
        try:
            self.patched.set_timesteps(steps)
            if timesteps.dtype == torch.int64:
                # Where diffusers cuts a fraction off, 998.9999999 is 998 and the copy may have 999.
                self.patched.timesteps = timesteps
            patched = run(self.patched, torch.float64, self.eta)
        finally:
            torch.set_default_dtype(torch.float32)
        return timesteps.tolist(), patched, shipped


def distance(a, b):
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


def golden_case(name, options, schedules, values, worst):
    case = {"class": name, "options": options}
    all_timesteps, skipped = [], {}
    try:
        runs = Runs(name, options)
    except Exception as error:  # whatever diffusers raises is the reason
        return case | {"skip": {str(steps): f"raises: {error}" for steps in STEPS}}
    for steps in STEPS:
        if reason := wrong(name, options, steps):
            skipped[str(steps)] = reason
            continue
        try:
            timesteps, patched, shipped = runs.at(steps)
        except torch.linalg.LinAlgError:
            # No refusal: these options it takes, and stumbles over the last step, to a noise level of zero.
            skipped[str(steps)] = "fails: torch.linalg.solve, the matrix is singular"
            continue
        except Exception as error:
            skipped[str(steps)] = f"raises: {error}"
            continue
        kept = [patched[0], patched[(len(patched) - 1) // 2], patched[-1], shipped[-1]]
        if not all(np.isfinite(state).all() for state in kept):
            skipped[str(steps)] = "not finite in diffusers"
            continue
        all_timesteps.append([round(t, 6) for t in timesteps])
        values.append(np.concatenate([state[::STRIDE] for state in kept]).astype("<f4"))
        worst.append((distance(shipped[-1], patched[-1]), name, steps, options))
    key = json.dumps(all_timesteps)
    case["schedule"] = schedules.setdefault(key, len(schedules))
    return case | ({"skip": skipped} if skipped else {})


def main():
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    header = {
        "script": "quantize/golden/schedulers.py",
        "diffusers": diffusers.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": platform.machine(),
        "steps": STEPS,
        "elements": ELEMENTS,
        "stride": STRIDE,
        "noise_seed": NOISE_SEED,
    }
    OUT.mkdir(parents=True, exist_ok=True)
    worst = []
    for name in sys.argv[1:] or CASES:
        schedules, values, cases, seen = {}, [], [], set()
        for options in CASES[name]():
            key = json.dumps(options, sort_keys=True)
            if key not in seen:
                seen.add(key)
                cases.append(golden_case(name, options, schedules, values, worst))
        lines = [f'{{"header":{json.dumps(header)},']
        lines += [f'"schedules":[{",".join(key.replace(" ", "") for key in schedules)}],', '"cases":[']
        lines += [",\n".join(json.dumps(case, separators=(",", ":")) for case in cases), "]}"]
        (OUT / f"{name}.json").write_text("\n".join(lines) + "\n")
        (OUT / f"{name}.f32").write_bytes(np.concatenate(values).tobytes())
        print(f"{name}: {len(cases)} cases, {len(values)} runs", flush=True)
    worst.sort(key=lambda row: row[0], reverse=True)
    print(f"{len(worst)} runs; as shipped and in float64 differ most at:")
    for row in worst[:25]:
        print("  %.1e %s %d %s" % row)
    for bound in (1e-5, 1e-4, 1e-3):
        print(f"  above {bound:g}: {sum(row[0] > bound for row in worst)}")


if __name__ == "__main__":
    main()
