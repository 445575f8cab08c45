"""Golden trajectories of diffusers' schedulers, for tests/schedulers.rs.

Run from the repository root:  python quantize/golden/schedulers.py

Every case runs twice: through diffusers as shipped (float32 tables and state) and through a copy of
the same source in which float32 is replaced by float64. The UNet is a rational function of the sample
and the timestep (`model` below), so that Rust repeats it exactly, in f32 and in f64.

Writes, under tests/golden/schedulers/:
  cases.json   header, the timesteps of every run, the options of every case, and the runs left out
               with the reason
  values.f32   little-endian f32, run after run in the order of the cases and of header.steps: the sample
               after the first, the middle and the last step by the float64 copy, then the sample
               after the last step as shipped; header.elements numbers each
"""

import inspect
import itertools
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
from diffusers.schedulers import scheduling_ddim, scheduling_dpmsolver_multistep
from diffusers.schedulers import scheduling_euler_discrete, scheduling_lcm

OUT = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "schedulers"
STEPS = [1, 2, 3, 4, 5, 8, 20, 50]
ELEMENTS = 8
NOISE_SEED = 20240611
MODULES = {
    "DDIMScheduler": scheduling_ddim,
    "EulerDiscreteScheduler": scheduling_euler_discrete,
    "LCMScheduler": scheduling_lcm,
    "DPMSolverMultistepScheduler": scheduling_dpmsolver_multistep,
}


def in_float64(module):
    """A copy of a scheduler module whose tables and state are float64."""
    source = inspect.getsource(module)
    for old, new in {
        "torch.float32": "torch.float64",
        "np.float32": "np.float64",
        "from ..": "from diffusers.",
        "from .scheduling_utils": "from diffusers.schedulers.scheduling_utils",
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
    generator = torch.Generator("cpu").manual_seed(NOISE_SEED)
    sample = start(dtype) * scheduler.init_noise_sigma
    states = []
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, t)
        output = model(scaled, t.item())
        if isinstance(scheduler, (scheduling_ddim.DDIMScheduler, FLOAT64["DDIMScheduler"].DDIMScheduler)):
            sample = scheduler.step(output, t, sample, eta=eta, generator=generator).prev_sample
        elif "DPM" in type(scheduler).__name__:
            sample = scheduler.step(output, t, sample).prev_sample
        else:
            sample = scheduler.step(output, t, sample, generator=generator).prev_sample
        assert sample.dtype == dtype, (sample.dtype, dtype)
        states.append(sample.flatten().double().numpy())
    return states


def product(**axes):
    """All combinations; an axis holds plain values or dicts of several options, None leaves it out."""
    for combination in itertools.product(*axes.values()):
        options = {}
        for key, value in zip(axes, combination):
            if isinstance(value, dict):
                options.update(value)
            elif value is not None:
                options[key] = value
        yield options


SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BETAS = [SD, SD | {"rescale_betas_zero_snr": True}, {}, {"beta_schedule": "squaredcos_cap_v2"}]
PREDICTIONS = ["epsilon", "v_prediction", "sample"]
SPACINGS = [{"timestep_spacing": "leading", "steps_offset": 1}] + [
    {"timestep_spacing": spacing} for spacing in ("leading", "trailing", "linspace")
]
KINDS = [{}] + [{f"use_{kind}_sigmas": True} for kind in ("karras", "exponential", "beta")]
FINAL = ["zero", "sigma_min"]
THRESHOLD = [
    {"thresholding": True, "sample_max_value": 2.5, "dynamic_thresholding_ratio": 0.8},
    {"thresholding": True},
]
TRAINED = {"num_train_timesteps": 100, "trained_betas": [round(0.001 + 0.0007 * i, 6) for i in range(100)]}


def ddim_cases():
    yield from product(
        betas=BETAS, prediction_type=PREDICTIONS, spacing=SPACINGS,
        set_alpha_to_one=[None, False], clip_sample=[False, True], eta=[None, 0.5, 1.0],
    )  # fmt: skip
    yield from product(betas=BETAS, prediction_type=PREDICTIONS, limit=THRESHOLD + [{"clip_sample_range": 0.4}])
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS, spacing=SPACINGS)
    yield from product(num_train_timesteps=[10, 77, 4000], prediction_type=PREDICTIONS, spacing=SPACINGS)


def euler_cases():
    yield from product(
        betas=BETAS, prediction_type=PREDICTIONS, spacing=SPACINGS, kind=KINDS, final_sigmas_type=FINAL
    )
    yield from product(betas=BETAS[:2], kind=KINDS, bounds=[{"sigma_min": 0.05, "sigma_max": 9.0}])
    yield from product(betas=BETAS, spacing=SPACINGS, prediction_type=["v_prediction"], timestep_type=["continuous"])
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS, spacing=SPACINGS, kind=KINDS)


def lcm_cases():
    yield from product(
        betas=BETAS, prediction_type=PREDICTIONS, clip_sample=[None, True],
        original_inference_steps=[None, 100, 20], timestep_scaling=[None, 0.01],
    )  # fmt: skip
    yield from product(betas=BETAS, prediction_type=PREDICTIONS, limit=THRESHOLD)


def dpm_cases():
    solvers = [{"solver_order": 1}] + [
        {"solver_order": order, "solver_type": rule} for order in (2, 3) for rule in ("midpoint", "heun")
    ]
    # Other sigmas than those of the timesteps do not depend on the spacing.
    schedules = SPACINGS + KINDS[1:]
    for algorithm, finals in (("dpmsolver++", FINAL), ("dpmsolver", FINAL[1:])):
        yield from product(
            algorithm_type=[algorithm], solver=solvers, schedule=schedules, betas=BETAS,
            prediction_type=PREDICTIONS, lower_order_final=[None, False], final_sigmas_type=finals,
        )  # fmt: skip
        yield from product(
            algorithm_type=[algorithm], solver=solvers, betas=BETAS, euler_at_final=[True], schedule=[{}, KINDS[1]],
            lower_order_final=[None, False], final_sigmas_type=["sigma_min"],
        )  # fmt: skip
        yield from product(
            algorithm_type=[algorithm], betas=BETAS, prediction_type=PREDICTIONS, limit=THRESHOLD,
            final_sigmas_type=["sigma_min"],
        )  # fmt: skip
        yield from product(
            algorithm_type=[algorithm], betas=[BETAS[3], SD], schedule=schedules, lambda_min_clipped=[-5.1, -2.0],
            final_sigmas_type=["sigma_min"],
        )  # fmt: skip
    yield {"algorithm_type": "dpmsolver"}  # diffusers refuses final sigma zero here
    # Not with exponential and beta sigmas: there the first timestep is 98.9999999 or 99, cut to an integer,
    # and which one hangs on torch's vectorised sqrt, which is off in the last bit on some machines.
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS, schedule=SPACINGS + KINDS[1:2])


CASES = {
    "DDIMScheduler": ddim_cases,
    "EulerDiscreteScheduler": euler_cases,
    "LCMScheduler": lcm_cases,
    "DPMSolverMultistepScheduler": dpm_cases,
}


class Runs:
    """The pair of schedulers of one case, made once and set to every number of steps."""

    def __init__(self, name, options):
        options = dict(options)
        self.eta = options.pop("eta", 0.0)
        self.shipped = getattr(MODULES[name], name)(**options)
        torch.set_default_dtype(torch.float64)
        try:
            self.patched = getattr(FLOAT64[name], name)(**options)
        finally:
            torch.set_default_dtype(torch.float32)

    def at(self, steps):
        """(timesteps as shipped, states by the float64 copy, states as shipped)"""
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
        try:
            timesteps, patched, shipped = runs.at(steps)
        except Exception as error:
            skipped[str(steps)] = f"raises: {error}"
            continue
        kept = [patched[0], patched[(len(patched) - 1) // 2], patched[-1], shipped[-1]]
        if not all(np.isfinite(state).all() for state in kept):
            skipped[str(steps)] = "not finite in diffusers"
            continue
        all_timesteps.append([round(t, 6) for t in timesteps])
        values.append(np.concatenate(kept).astype("<f4"))
        worst.append((distance(shipped[-1], patched[-1]), name, steps, options))
    key = json.dumps(all_timesteps)
    case["schedule"] = schedules.setdefault(key, len(schedules))
    return case | ({"skip": skipped} if skipped else {})


def main():
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    schedules, values, worst, cases = {}, [], [], []
    for name, make in CASES.items():
        seen = set()
        for options in make():
            key = json.dumps(options, sort_keys=True)
            if key not in seen:
                seen.add(key)
                cases.append(golden_case(name, options, schedules, values, worst))
        print(f"{name}: {len(seen)} cases, {len(values)} runs so far", flush=True)
    header = {
        "script": "quantize/golden/schedulers.py",
        "diffusers": diffusers.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": platform.machine(),
        "steps": STEPS,
        "elements": ELEMENTS,
        "noise_seed": NOISE_SEED,
    }
    OUT.mkdir(parents=True, exist_ok=True)
    lines = [f'{{"header":{json.dumps(header)},', f'"schedules":[{",".join(k.replace(" ", "") for k in schedules)}],']
    lines += ['"cases":[', ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases), "]}"]
    (OUT / "cases.json").write_text("\n".join(lines) + "\n")
    (OUT / "values.f32").write_bytes(np.concatenate(values).tobytes())
    worst.sort(key=lambda row: row[0], reverse=True)
    print(f"{len(values)} runs; as shipped and in float64 differ most at:")
    for row in worst[:25]:
        print("  %.1e %s %d %s" % row)
    for bound in (1e-5, 1e-4, 1e-3):
        print(f"  above {bound:g}: {sum(row[0] > bound for row in worst)}")


if __name__ == "__main__":
    main()
