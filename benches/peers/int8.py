"""ONNX Runtime's own int8 variants of the peers' models, by its own quantizers.

    python benches/peers/int8.py dyn|qdq FOLDER

`dyn` is quantize_dynamic; `qdq` is quantize_static (u8 activations, s8 weights per channel), calibrated with one
random input at a quarter of the size: speed does not depend on the ranges.
"""

from __future__ import annotations

import sys
from pathlib import Path

from onnxruntime.quantization import (
    CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static,
)

sys.path.insert(0, str(Path(__file__).parent))
from worker import inputs  # noqa: E402


class OneInput(CalibrationDataReader):
    def __init__(self, path: Path, component: str):
        self.left = [inputs(path, component, 16)]

    def get_next(self):
        return self.left.pop() if self.left else None


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    for component in ("text_encoder", "vae_decoder", "unet"):
        source, target = folder / "onnx" / component / "model.onnx", folder / kind / component / "model.onnx"
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        large = (source.parent / "model.onnx_data").exists()
        if kind == "dyn":
            quantize_dynamic(source, target, weight_type=QuantType.QInt8, use_external_data_format=large)
        else:
            quantize_static(
                source, target, OneInput(source, component), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, use_external_data_format=large,
            )


if __name__ == "__main__":
    main()
