"""Golden runs of diffusers' schedulers that begin at a picture with noise, for tests/image_to_image.rs.

Run from the repository root:  python quantize/golden/image_to_image.py

As diffusers' image-to-image pipelines do it: `get_timesteps` by strength, `set_begin_index`, `add_noise`, then the
steps that are left. All in the float64 copies of the schedulers (see schedulers.py), with its model and noise.

Writes tests/golden/schedulers/image_to_image.json: class, options, steps, strength, the timesteps that are left,
the sample that `add_noise` makes, `pred_original_sample` of the first step where the class has one (LCM's is of another
kind), the last sample. Left out because diffusers is wrong: PNDM (starts in the middle of a list in which the second
timestep is twice, so that sample and timestep are one step apart) and LMS (weights of a history that is not there).
"""

import json
import warnings

import diffusers
import torch
from schedulers import FLOAT64, NOISE_SEED, OUT, model, start

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LEADING = SD | {"timestep_spacing": "leading", "steps_offset": 1}
KARRAS = SD | {"use_karras_sigmas": True}
SDE = {"algorithm_type": "sde-dpmsolver++"}
CASES = [
    ("DDIMScheduler", LEADING),
    ("DDIMScheduler", LEADING | {"clip_sample": False, "prediction_type": "v_prediction"}),
    ("DDPMScheduler", LEADING),
    ("EulerDiscreteScheduler", LEADING),
    ("EulerDiscreteScheduler", KARRAS),
    ("EulerAncestralDiscreteScheduler", LEADING),
    ("HeunDiscreteScheduler", LEADING),
    ("HeunDiscreteScheduler", KARRAS),
    ("KDPM2DiscreteScheduler", LEADING),
    ("KDPM2AncestralDiscreteScheduler", LEADING),
    ("DPMSolverMultistepScheduler", LEADING),
    ("DPMSolverMultistepScheduler", KARRAS | {"solver_order": 3}),
    ("DPMSolverMultistepScheduler", LEADING | SDE),
    ("DPMSolverSinglestepScheduler", SD),
    ("DPMSolverSinglestepScheduler", SD | {"solver_order": 3}),
    ("UniPCMultistepScheduler", LEADING),
    ("UniPCMultistepScheduler", KARRAS | {"solver_order": 3}),
    ("DEISMultistepScheduler", LEADING),
    ("DEISMultistepScheduler", SD | {"solver_order": 3}),
    ("LCMScheduler", SD),
    ("TCDScheduler", SD),
]


def run(name, options, steps, strength):
    scheduler = getattr(FLOAT64[name], name)(**options)
    scheduler.set_timesteps(steps)
    init_timestep = min(int(steps * strength), steps)
    begin = max(steps - init_timestep, 0) * scheduler.order
    timesteps = scheduler.timesteps[begin:]
    scheduler.set_begin_index(begin) if hasattr(scheduler, "set_begin_index") else None
    generator = torch.Generator("cpu").manual_seed(NOISE_SEED)
    noise = torch.randn((1, 2, 2, 2), generator=generator, dtype=torch.float32).double()
    sample = scheduler.add_noise(start(torch.float64), noise, timesteps[:1])
    case = {"noisy": sample.flatten().tolist()}
    for i, t in enumerate(timesteps):
        output = model(scheduler.scale_model_input(sample, t), t.item())
        known = {"generator": generator} if "generator" in scheduler.step.__code__.co_varnames else {}
        step = scheduler.step(output, t, sample, **known)
        if i == 0 and "pred_original_sample" in step:
            case["pred_original_sample"] = step.pred_original_sample.flatten().tolist()
        sample = step.prev_sample
    return case | {"timesteps": timesteps.tolist(), "last": sample.flatten().tolist()}


def main():
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    torch.set_default_dtype(torch.float64)
    cases = []
    for name, options in CASES:
        for steps, strength in ((5, 0.5), (20, 0.75), (20, 1.0)):
            key = {"class": name, "options": options, "steps": steps, "strength": strength}
            cases.append(key | run(name, options, steps, strength))
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    header = json.dumps({"diffusers": diffusers.__version__, "noise_seed": NOISE_SEED})
    (OUT / "image_to_image.json").write_text(f'{{"header":{header},"cases":[\n{lines}\n]}}\n')
    print(f"{len(cases)} runs")


if __name__ == "__main__":
    main()
