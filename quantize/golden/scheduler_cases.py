"""The options that quantize/golden/schedulers.py runs diffusers' schedulers with, class by class.

Left out on purpose, because diffusers fails or is wrong there; docs/schedulers.md says what easeld does instead:
prediction_type `sample` for PNDM, Euler ancestral, KDPM2 and KDPM2 ancestral (not implemented); thresholding with
the noise form of DPM-Solver singlestep (indexes a table with None); order 3 with `sde-dpmsolver++` (a sign).
"""

import itertools


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
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
BETAS = [SD, SD | {"rescale_betas_zero_snr": True}, {}, COSINE]
# For the classes without zero terminal SNR.
PLAIN_BETAS = [SD, {}, COSINE]
PREDICTIONS = ["epsilon", "v_prediction", "sample"]
SPACINGS = [{"timestep_spacing": "leading", "steps_offset": 1}] + [
    {"timestep_spacing": spacing} for spacing in ("leading", "trailing", "linspace")
]
KINDS = [{}] + [{f"use_{kind}_sigmas": True} for kind in ("karras", "exponential", "beta")]
# Other sigmas than those of the timesteps do not depend on the spacing, in DPM-Solver and what shares its schedule.
SCHEDULES = SPACINGS + KINDS[1:]
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


def ddpm_cases():
    yield from product(betas=BETAS, prediction_type=PREDICTIONS, spacing=SPACINGS, clip_sample=[False, True])
    yield from product(
        betas=BETAS[:2], prediction_type=PREDICTIONS, clip_sample=[False, True],
        variance_type=["fixed_small_log", "fixed_large", "fixed_large_log"],
    )  # fmt: skip
    yield from product(betas=BETAS, prediction_type=PREDICTIONS, limit=THRESHOLD + [{"clip_sample_range": 0.4}])
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS, spacing=SPACINGS)


def pndm_cases():
    yield from product(
        betas=PLAIN_BETAS, prediction_type=PREDICTIONS[:2], spacing=SPACINGS, skip_prk_steps=[None, True],
        set_alpha_to_one=[None, True],
    )  # fmt: skip
    yield from product(
        betas=[TRAINED], prediction_type=PREDICTIONS[:2], spacing=SPACINGS, skip_prk_steps=[None, True]
    )


def euler_cases():
    yield from product(
        betas=BETAS, prediction_type=PREDICTIONS, spacing=SPACINGS, kind=KINDS, final_sigmas_type=FINAL
    )
    yield from product(betas=BETAS[:2], kind=KINDS, bounds=[{"sigma_min": 0.05, "sigma_max": 9.0}])
    yield from product(betas=BETAS, spacing=SPACINGS, prediction_type=["v_prediction"], timestep_type=["continuous"])
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS, spacing=SPACINGS, kind=KINDS)


def euler_ancestral_cases():
    yield from product(betas=BETAS + [TRAINED], prediction_type=PREDICTIONS[:2], spacing=SPACINGS)


def lms_cases():
    yield from product(betas=PLAIN_BETAS, prediction_type=PREDICTIONS, spacing=SPACINGS, kind=KINDS)
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS, kind=KINDS)


def heun_cases():
    yield from product(betas=PLAIN_BETAS, prediction_type=PREDICTIONS, spacing=SPACINGS, kind=KINDS)
    yield from product(
        betas=PLAIN_BETAS, prediction_type=PREDICTIONS, clip_sample=[True], clip_sample_range=[None, 0.4]
    )
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS, kind=KINDS)


def kdpm2_cases():
    yield from product(betas=PLAIN_BETAS, prediction_type=PREDICTIONS[:2], spacing=SPACINGS, kind=KINDS)
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS[:2], kind=KINDS)


def lcm_cases():
    yield from product(
        betas=BETAS, prediction_type=PREDICTIONS, clip_sample=[None, True],
        original_inference_steps=[None, 100, 20], timestep_scaling=[None, 0.01],
    )  # fmt: skip
    yield from product(betas=BETAS, prediction_type=PREDICTIONS, limit=THRESHOLD)


def tcd_cases():
    yield from product(
        betas=BETAS, prediction_type=PREDICTIONS, original_inference_steps=[None, 100, 20], eta=[None, 0.0, 0.5, 1.0]
    )
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS)


def solvers(*orders):
    """Orders with their rules; the first has none."""
    rules = {1: [None], 2: ["midpoint", "heun"], 3: ["midpoint", "heun"]}
    return [
        {"solver_order": order} | ({"solver_type": rule} if rule else {}) for order in orders for rule in rules[order]
    ]


def dpm_cases():
    for algorithm, finals in (("dpmsolver++", FINAL), ("dpmsolver", FINAL[1:])):
        yield from product(
            algorithm_type=[algorithm], solver=solvers(1, 2, 3), schedule=SCHEDULES, betas=BETAS,
            prediction_type=PREDICTIONS, lower_order_final=[None, False], final_sigmas_type=finals,
        )  # fmt: skip
        yield from product(
            algorithm_type=[algorithm], solver=solvers(1, 2, 3), betas=BETAS, euler_at_final=[True],
            schedule=[{}, KINDS[1]], lower_order_final=[None, False], final_sigmas_type=["sigma_min"],
        )  # fmt: skip
        yield from product(
            algorithm_type=[algorithm], betas=BETAS, prediction_type=PREDICTIONS, limit=THRESHOLD,
            final_sigmas_type=["sigma_min"],
        )  # fmt: skip
        yield from product(
            algorithm_type=[algorithm], betas=[BETAS[3], SD], schedule=SCHEDULES, lambda_min_clipped=[-5.1, -2.0],
            final_sigmas_type=["sigma_min"],
        )  # fmt: skip
    yield {"algorithm_type": "dpmsolver"}  # diffusers refuses final sigma zero here
    # Not with exponential and beta sigmas: there the first timestep is 98.9999999 or 99, cut to an integer,
    # and which one hangs on torch's vectorised sqrt, which is off in the last bit on some machines.
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS, schedule=SPACINGS + KINDS[1:2])
    # The stochastic ones.
    yield from product(
        algorithm_type=["sde-dpmsolver++"], solver=solvers(1, 2), schedule=SCHEDULES, betas=BETAS,
        prediction_type=PREDICTIONS, final_sigmas_type=FINAL,
    )  # fmt: skip
    yield from product(
        algorithm_type=["sde-dpmsolver"], solver=solvers(1, 2), schedule=SCHEDULES, betas=[SD, COSINE],
        prediction_type=PREDICTIONS, final_sigmas_type=FINAL[1:],
    )  # fmt: skip
    yield from product(
        algorithm_type=["sde-dpmsolver++", "sde-dpmsolver"], betas=[SD], prediction_type=PREDICTIONS,
        limit=THRESHOLD, final_sigmas_type=FINAL[1:],
    )  # fmt: skip
    yield {"algorithm_type": "sde-dpmsolver"}


def singlestep_cases():
    for algorithm, orders, finals in (
        ("dpmsolver++", (1, 2, 3), FINAL),
        ("dpmsolver", (1, 2, 3), FINAL[1:]),
        ("sde-dpmsolver++", (1, 2), FINAL),
    ):
        yield from product(
            algorithm_type=[algorithm], solver=solvers(*orders), schedule=KINDS, betas=[SD, COSINE],
            prediction_type=PREDICTIONS, lower_order_final=[None, True], final_sigmas_type=finals,
        )  # fmt: skip
        yield from product(
            algorithm_type=[algorithm], betas=[COSINE, SD], schedule=KINDS, lambda_min_clipped=[-5.1],
            final_sigmas_type=["sigma_min"],
        )  # fmt: skip
    yield from product(
        algorithm_type=["dpmsolver++", "sde-dpmsolver++"], betas=PLAIN_BETAS, prediction_type=PREDICTIONS,
        limit=THRESHOLD,
    )  # fmt: skip
    yield from product(betas=[{}, TRAINED], prediction_type=PREDICTIONS, schedule=KINDS[:2])
    yield {"algorithm_type": "dpmsolver"}


def unipc_cases():
    orders = [{"solver_order": order, "solver_type": kind} for order in (1, 2, 3) for kind in ("bh1", "bh2")]
    yield from product(
        solver=orders, schedule=SCHEDULES, betas=BETAS[:2] + [COSINE], prediction_type=PREDICTIONS,
        final_sigmas_type=FINAL,
    )  # fmt: skip
    yield from product(
        predict_x0=[False], solver=orders, schedule=SCHEDULES, betas=BETAS[:2], prediction_type=PREDICTIONS,
        final_sigmas_type=FINAL[1:],
    )  # fmt: skip
    yield from product(solver=orders, betas=[SD], schedule=SCHEDULES, lower_order_final=[False], final_sigmas_type=FINAL)
    yield from product(solver=orders, betas=[SD], disable_corrector=[[0], [0, 1, 2], list(range(50))])
    yield from product(betas=BETAS, prediction_type=PREDICTIONS, limit=THRESHOLD)
    yield from product(betas=[SD], kind=KINDS, bounds=[{"sigma_min": 0.05, "sigma_max": 9.0}])
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS, schedule=SPACINGS + KINDS[1:2])
    yield from product(betas=[SD], solver_type=["midpoint", "heun", "logrho"])


def deis_cases():
    yield from product(
        solver_order=[1, 2, 3], schedule=SCHEDULES, betas=PLAIN_BETAS, prediction_type=PREDICTIONS,
        lower_order_final=[None, False],
    )  # fmt: skip
    yield from product(betas=PLAIN_BETAS, prediction_type=PREDICTIONS, limit=THRESHOLD)
    yield from product(betas=[TRAINED], prediction_type=PREDICTIONS, schedule=SPACINGS + KINDS[1:2])


CASES = {
    "DDIMScheduler": ddim_cases,
    "DDPMScheduler": ddpm_cases,
    "PNDMScheduler": pndm_cases,
    "LMSDiscreteScheduler": lms_cases,
    "EulerDiscreteScheduler": euler_cases,
    "EulerAncestralDiscreteScheduler": euler_ancestral_cases,
    "HeunDiscreteScheduler": heun_cases,
    "KDPM2DiscreteScheduler": kdpm2_cases,
    "KDPM2AncestralDiscreteScheduler": kdpm2_cases,
    "DPMSolverMultistepScheduler": dpm_cases,
    "DPMSolverSinglestepScheduler": singlestep_cases,
    "UniPCMultistepScheduler": unipc_cases,
    "DEISMultistepScheduler": deis_cases,
    "LCMScheduler": lcm_cases,
    "TCDScheduler": tcd_cases,
}


def wrong(name, options, steps):
    """Why diffusers' result is no oracle, or None."""
    own_sigmas = any(options.get(key) for kind in KINDS for key in kind)
    ends_at_its_own = name == "DEISMultistepScheduler" or (
        name == "UniPCMultistepScheduler" and options.get("final_sigmas_type") == "sigma_min"
    )
    if steps == 1 and own_sigmas and ends_at_its_own:
        return "wrong: the only noise level is the first and the last, so nothing is denoised"
    if name == "PNDMScheduler" and not options.get("skip_prk_steps") and steps < 4:
        return "wrong: ends among its Runge-Kutta steps, above the last timestep"
    return None
