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

BATCH = 64  # images of which those that stay go through a part together


def main() -> None:
    """Print the label of each image, how sure the network is, and the exit where the image left."""
    files = [file for file in sys.argv[1:] if file.endswith(".onnx")]
    images = [file for file in sys.argv[1:] if not file.endswith(".onnx")]
    if not files or not images:
        sys.exit("usage: python infer.py NETWORK.onnx [PARTS…] IMAGE…")
    network = Network(files)
    for first in range(0, len(images), BATCH):
        batch = images[first : first + BATCH]
        predictions = network.predict_all(np.stack([network.read(file) for file in batch]))
        for file, prediction in zip(batch, predictions, strict=True):
            line = f"{file}: {network.describe(*prediction)}"
            print("".join(char if char.isprintable() else ascii(char)[1:-1] for char in line))


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
        self.policy = json.loads(facts.get("policy", '"confidence"'))
        self.heads = json.loads(facts.get("heads", "0"))

    @staticmethod
    def _unpacks(file: str) -> str:
        facts = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
        return str(facts["disable_quant_qdq"])

    def predict(self, image: np.ndarray) -> tuple[np.ndarray, float, int]:
        """Logits (classes,), how sure the network is, and the exit, from 0, for pixel values (c, h, w)."""
        return self.predict_all(image[None])[0]

    def predict_all(self, images: np.ndarray) -> list[tuple[np.ndarray, float, int]]:
        """The same for each of some images (n, c, h, w); a later part runs for those alone that stay."""
        images = self._checked(images).astype(np.float32)
        if any(output.name == "exit" for output in self.sessions[0].get_outputs()):
            return [self._leave_inside(image) for image in images]
        return self._leave_between(images)

    def _checked(self, images: np.ndarray) -> np.ndarray:
        if images.shape[1:] != self.shape:
            raise ValueError(
                f"must have the shape (channels, height, width) {self.shape}, got {images.shape[1:]}"
            )
        return images

    def _leave_inside(self, image: np.ndarray) -> tuple[np.ndarray, float, int]:
        """One file with branches, which takes one image at a time."""
        logits, place = self.sessions[0].run(None, {"image": image[None]})
        return logits[0], float(self._sureness(logits, None)[0]), int(place)

    def _leave_between(self, images: np.ndarray) -> list[tuple[np.ndarray, float, int]]:
        """Parts, or a file with all exits, of which the first that is sure enough is told."""
        answers: dict[int, tuple[np.ndarray, float, int]] = {}
        tensors, left, before, place = {"image": images}, np.arange(len(images)), None, 0
        agreeing, asked = np.zeros(len(images)), np.zeros(len(images))
        for session in self.sessions:
            names = [output.name for output in session.get_outputs()]
            inputs = [argument.name for argument in session.get_inputs()]
            results = session.run(None, {name: tensors[name] for name in inputs})
            tensors.update(zip(names, results, strict=True))
            exits = names if len(self.sessions) == 1 else names[:1]
            for name in exits:
                logits = tensors[name]
                sure = self._sureness(logits, before)
                last = session is self.sessions[-1] and name == exits[-1]
                threshold = np.inf if self.threshold is None else self.threshold
                agreeing = self._agreeing(agreeing, logits, before)
                enough = agreeing / max(1, self.heads) if self.policy == "patience" else sure
                leaves = last | ((place >= asked) & (enough >= threshold))
                if self.policy == "predictive":  # heads before that one would not be sure
                    later = np.ceil(threshold * (place + 1) / np.maximum(sure, 1e-12)) - 1
                    asked = np.where(place >= asked, later, asked)
                for row in np.flatnonzero(leaves):
                    answers[int(left[row])] = (logits[row], float(sure[row]), place)
                tensors = {key: value[~leaves] for key, value in tensors.items()}
                left, before, place = left[~leaves], logits[~leaves], place + 1
                agreeing, asked = agreeing[~leaves], asked[~leaves]
            if not len(left):
                break
        return [answers[number] for number in range(len(images))]

    def _agreeing(self, before: np.ndarray, logits: np.ndarray, others: np.ndarray | None) -> np.ndarray:
        """How many exits in a row name the same class as the one before, shape (n,)."""
        if others is None:
            return before
        return np.where(logits.argmax(axis=1) == others.argmax(axis=1), before + 1, 0)

    def _sureness(self, logits: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """The largest softmax, shape (n,); of real targets the agreement with the exit before."""
        if self.numbers:
            apart = np.inf if before is None else np.abs(logits[:, 0] - before[:, 0]) / self.numbers[1]
            return np.asarray(1 / (1 + np.broadcast_to(apart, len(logits))))
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(chances.max(axis=1) / chances.sum(axis=1))

    def read(self, file: str) -> np.ndarray:
        """The image in a file, which ends the program if it does not fit."""
        try:
            return np.asarray(self._checked(read_image(file)[None])[0])
        except (OSError, ValueError) as error:
            sys.exit(f"{file}: {error}")

    def describe(self, logits: np.ndarray, sure: float, place: int) -> str:
        """A prediction in words."""
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
