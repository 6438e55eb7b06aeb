"""Classify images with an exported network: python infer.py NETWORK.onnx [PARTS…] IMAGE…

Needs onnxruntime and numpy alone for .npy, .pgm and .ppm files of stored pixel values; Pillow, where it is
installed, opens others.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

try:
    from PIL import Image
except ImportError:
    Image = None  # type: ignore[assignment]


def main() -> None:
    """Print the label of each image, how sure the network is, and the exit where the image left."""
    files = [file for file in sys.argv[1:] if file.endswith(".onnx")]
    images = [file for file in sys.argv[1:] if not file.endswith(".onnx")]
    if not files or not images:
        sys.exit("usage: python infer.py NETWORK.onnx [PARTS…] IMAGE…")
    network = Network(files)
    for file in images:
        try:
            told = f"{file}: {network.describe(read_image(file))}"
            print("".join(one if one.isprintable() else ascii(one)[1:-1] for one in told))
        except (OSError, ValueError) as error:
            sys.exit(f"{file}: {error}")


class Network:
    """A network as one file, or as parts that an image goes through until it leaves."""

    def __init__(self, files: list[str], threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.disable_quant_qdq", self._unpacks(files[0]))
        self.sessions = [onnxruntime.InferenceSession(file, options) for file in files]
        facts = self.sessions[0].get_modelmeta().custom_metadata_map
        self.shape = tuple(json.loads(facts["shape"]))  # channels, height, width
        self.names = json.loads(facts["class_names"])
        self.threshold = json.loads(facts["threshold"])
        self.numbers = json.loads(facts["numbers"])  # real targets: their center and spread

    @staticmethod
    def _unpacks(file: str) -> str:
        facts = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
        return str(facts["disable_quant_qdq"])

    def predict(self, image: np.ndarray) -> tuple[np.ndarray, float, int]:
        """Logits (classes,), how sure the network is, and the exit, from 0, for pixel values (c, h, w)."""
        if image.shape != self.shape:
            raise ValueError(f"must have the shape (channels, height, width) {self.shape}, got {image.shape}")
        known = {"image": image[None].astype(np.float32)}
        place, before = 0, None
        for session in self.sessions:
            names = [output.name for output in session.get_outputs()]
            found = session.run(None, {one.name: known[one.name] for one in session.get_inputs()})
            known.update(zip(names, found, strict=True))
            outputs = found if len(self.sessions) == 1 else found[:1]
            if "exit" in names:  # it left inside the graph
                return found[0][0], self._sureness(found[0][0], None), int(found[1])
            for output in outputs:
                logits, sure = output[0], self._sureness(output[0], before)
                if self.threshold is not None and sure >= self.threshold:
                    return logits, sure, place
                place, before = place + 1, logits
        return logits, sure, place - 1

    def _sureness(self, logits: np.ndarray, before: np.ndarray | None) -> float:
        """The largest softmax; of real targets the agreement with the exit before."""
        if self.numbers:
            return 0.0 if before is None else float(1 / (1 + abs(logits[0] - before[0]) / self.numbers[1]))
        chances = np.exp(logits - logits.max())
        return float(chances.max() / chances.sum())

    def describe(self, image: np.ndarray) -> str:
        """A prediction in words."""
        logits, sure, place = self.predict(image)
        if self.numbers:
            return f"{logits[0]:.6g} at exit {place + 1}"
        label = int(logits.argmax())
        name = self.names[label] if self.names else str(label)
        return f"{name} ({sure:.1%}) at exit {place + 1}"


def read_image(file: str) -> np.ndarray:
    """Stored pixel values of a file, shape (c, h, w); in .npy files (h, w) and (h, w, c) are read, too."""
    if file.endswith(".npy"):
        pixels = np.load(file, allow_pickle=False)
        return pixels if pixels.ndim == 3 and pixels.shape[0] in (1, 3) else _channels_first(pixels)
    if file.endswith((".pgm", ".ppm")):
        return _channels_first(_read_netpbm(Path(file).read_bytes()))
    if Image is None:
        raise ValueError("is no .npy, .pgm or .ppm file; Pillow, which opens others, is missing")
    with Image.open(file) as image:
        return _channels_first(np.asarray(image))


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., None] if pixels.ndim == 2 else pixels).transpose(2, 0, 1)


def _read_netpbm(content: bytes) -> np.ndarray:
    """Pixels (h, w, c) of a binary PGM or PPM file of one byte a value."""
    fields = content.split(maxsplit=4)
    if len(fields) != 5 or fields[0] not in (b"P5", b"P6") or fields[3] != b"255":
        raise ValueError("is no binary PGM or PPM file of values up to 255 without comments")
    channels, width, height = (1 if fields[0] == b"P5" else 3), int(fields[1]), int(fields[2])
    return np.frombuffer(content[-width * height * channels :], np.uint8).reshape(height, width, channels)


if __name__ == "__main__":
    main()
