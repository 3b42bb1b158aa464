"""Draw with an exported file, without toonport: onnxruntime, numpy and Pillow.

python examples/deploy_onnx.py cartoon.onnx face.png cartoon.png
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

network, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
side = given.shape[2] if isinstance(given.shape[2], int) else 256  # exported with --dynamic: any multiple of 4
photo = Image.open(source).convert("RGB").resize((side, side))
pixels = np.asarray(photo, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1  # [1, 3, H, W] in [-1, 1]
(cartoon,) = session.run(["output"], {given.name: pixels})
Image.fromarray(((cartoon[0].transpose(1, 2, 0) + 1) * 127.5).clip(0, 255).round().astype(np.uint8)).save(target)
