"""Which programs read our ONNX files, and run them in integers? A table, one row for each reader and form.

    python benchmarks/readers.py make FOLDER               # with ordercomp: files and images
    python benchmarks/readers.py read FOLDER [READER…]     # with numpy and the readers installed there

Each reader runs in a process of its own, since some end theirs. Labels are compared with onnxruntime's of the
same file. Times are medians of one image in turns with onnxruntime, on one thread where a reader can be told.
"""

import importlib.metadata
import importlib.util
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

FORMS = ("speed", "size", "any", "float")
IMAGES, ROUNDS, SECONDS = 200, 30, 120
Run = Callable[[np.ndarray], np.ndarray]
INTEGER = ("QLinearConv", "QGemm", "QLinearMatMul", "ConvInteger")


def make(folder: Path) -> None:
    """Train a small network a little, and write all forms of it with test images."""
    from shipping import SEQUENCES, TASK, trained_network

    from ordercomp.jobs.compress import task_images
    from ordercomp.shipping.onnx import export_onnx, finish, trace, without_quantizers

    task = replace(TASK, train_limit=512)  # whatever it learns
    network = trained_network("DPQ-16", SEQUENCES["DPQ-16"], task, folder)
    training, (images, _) = task_images(network, task)
    images = images[:IMAGES].float().contiguous()
    np.save(folder / "images.npy", images.numpy())
    for purpose in ("speed", "size", "any"):
        examples = None if purpose == "size" else training
        export_onnx(network, folder / f"{purpose}.onnx", purpose=purpose, images=examples)
    model = trace(without_quantizers(network), network)
    finish(model, 13)
    (folder / "float.onnx").write_bytes(model.SerializeToString())


def onnxruntime(file: str) -> tuple[Run, str]:
    """A default session of one thread."""
    import onnx
    import onnxruntime as engine

    options = engine.SessionOptions()
    options.intra_op_num_threads = 1
    options.optimized_model_filepath = f"{file}.optimized"
    session = engine.InferenceSession(file, options)
    kinds = [node.op_type for node in onnx.load(f"{file}.optimized").graph.node]
    integers = sum(kind in INTEGER for kind in kinds)
    layers = integers + sum("Conv" in kind or "Gemm" in kind for kind in kinds if kind not in INTEGER)
    return lambda images: session.run(None, {"image": images})[-1], f"{integers} of {layers}"


def openvino(file: str) -> tuple[Run, str]:
    """One thread; without the hint a processor with AMX computes floats in bf16."""
    import openvino as engine

    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    read = engine.Core().read_model(file)
    read.reshape({"image": [1, 1, 32, 32]})
    compiled = engine.Core().compile_model(read, "CPU", hints)
    facts = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    kinds = [
        fact["runtimePrecision"].value
        for fact in facts
        if fact["layerType"].value in ("Convolution", "FullyConnected", "MatMul")
    ]
    integers = sum(kind in ("u8", "i8") for kind in kinds)
    request = compiled.create_infer_request()

    def run(images: np.ndarray) -> np.ndarray:
        request.set_input_tensor(engine.Tensor(images, shared_memory=True))
        request.infer()
        return request.get_output_tensor(len(compiled.outputs) - 1).data.copy()

    return run, f"{integers} of {len(kinds)}"


def tinygrad(file: str) -> tuple[Run, str]:
    """It compiles with clang."""
    from tinygrad import Tensor
    from tinygrad.nn.onnx import OnnxRunner

    runner = OnnxRunner(file)
    return lambda images: list(runner({"image": Tensor(images)}).values())[-1].numpy(), ""


def opencv(file: str) -> tuple[Run, str]:
    import cv2

    cv2.setNumThreads(1)
    network = cv2.dnn.readNetFromONNX(file)

    def run(images: np.ndarray) -> np.ndarray:
        network.setInput(images)
        return np.asarray(network.forward())

    return run, ""


def tract(file: str) -> tuple[Run, str]:
    import tract as engine

    model = engine.onnx().load(file)
    model.set_input_fact(0, "1,1,32,32,f32")
    runnable = model.into_model().into_runnable()

    def run(images: np.ndarray) -> np.ndarray:
        return np.concatenate([runnable.run([image[None]])[-1].to_numpy() for image in images])

    return run, ""


def tvm(file: str) -> tuple[Run, str]:
    import onnx
    import tvm as engine
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    module = from_onnx(onnx.load(file), shape_dict={"image": [1, 1, 32, 32]})
    built = engine.compile(relax.transform.LegalizeOps()(module), "llvm")
    machine = relax.VirtualMachine(built, engine.cpu())

    def infer(image: np.ndarray) -> np.ndarray:
        outputs = machine["main"](engine.runtime.tensor(image))
        return (outputs if hasattr(outputs, "numpy") else outputs[-1]).numpy()

    return lambda images: np.concatenate([infer(image[None]) for image in images]), ""


def litert(file: str) -> tuple[Run, str]:
    """By way of the converter onnx2tf."""
    import onnx2tf
    from ai_edge_litert.interpreter import Interpreter

    folder = f"{file}.tflite"
    onnx2tf.convert(input_onnx_file_path=file, output_folder_path=folder, non_verbose=True, batch_size=1)
    interpreter = Interpreter(str(next(Path(folder).glob("*float32.tflite"))), num_threads=1)
    interpreter.allocate_tensors()
    (source,), target = interpreter.get_input_details(), interpreter.get_output_details()[-1]

    def infer(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source["index"], image[None].transpose(0, 2, 3, 1))
        interpreter.invoke()
        return np.array(interpreter.get_tensor(target["index"]))

    return lambda images: np.concatenate([infer(image) for image in images]), ""


def ncnn(file: str) -> tuple[Run, str]:
    """By way of the converter pnnx."""
    import ncnn as engine

    stem = file.removesuffix(".onnx")
    converter = Path(str(importlib.util.find_spec("pnnx").origin)).parent / "pnnx"  # the package wants torch
    subprocess.run([converter, file, "inputshape=[1,1,32,32]"], check=True, capture_output=True)
    net = engine.Net()
    net.opt.num_threads = 1
    if net.load_param(f"{stem}.ncnn.param") or net.load_model(f"{stem}.ncnn.bin"):
        raise ValueError("pnnx wrote no file that ncnn loads")

    def infer(image: np.ndarray) -> np.ndarray:
        with net.create_extractor() as extractor:
            extractor.input("in0", engine.Mat(np.ascontiguousarray(image)))
            return np.array(extractor.extract("out0")[1])[None]

    return lambda images: np.concatenate([infer(image) for image in images]), ""


READERS: dict[str, tuple[Callable[[str], tuple[Run, str]], str]] = {
    "onnxruntime": (onnxruntime, "onnxruntime"),
    "OpenVINO": (openvino, "openvino"),
    "tract": (tract, "tract"),
    "OpenCV": (opencv, "opencv-python-headless"),
    "TVM": (tvm, "apache-tvm"),
    "tinygrad": (tinygrad, "tinygrad"),
    "LiteRT": (litert, "ai-edge-litert"),
    "ncnn": (ncnn, "ncnn"),
}


def read(folder: Path, names: Sequence[str]) -> None:
    """Print the table, of these readers alone if any are named."""
    print("| reader | file | labels as onnxruntime's | integer layers | ms, one image | onnxruntime's ms |")
    print("|---|---|---|---|---|---|")
    for name in names or READERS:
        package = READERS[name][1]
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            print(f"| {name} | | not installed | | | |")
            continue
        for form in FORMS:
            print(f"| {name} {version} | `{form}` | {_cells(name, folder / f'{form}.onnx')} |", flush=True)


def _cells(name: str, file: Path) -> str:
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    process = context.Process(target=_answer, args=(name, str(file), answers))
    process.start()
    end = time.monotonic() + SECONDS
    while process.is_alive() and answers.empty() and time.monotonic() < end:
        time.sleep(0.1)
    cells = answers.get(timeout=1) if not answers.empty() else ""
    if process.is_alive():
        process.join(2)
        process.kill()
        cells = cells or f"no answer in {SECONDS} s | | |"
    process.join()
    return cells or f"ends the process ({process.exitcode}) | | |"


def _answer(name: str, file: str, answers: Any) -> None:
    images = np.load(Path(file).parent / "images.npy")
    try:
        run, layers = READERS[name][0](file)
        reference = onnxruntime(file)[0]
        labels = [
            [int(np.asarray(call(image[None])).argmax()) for image in images] for call in (run, reference)
        ]
        same = float(np.mean(np.equal(*labels)))
        times: dict[str, list[float]] = {}
        runs = {"own": run, "reference": reference}
        for _ in range(ROUNDS):
            for part, call in runs.items():
                start = time.perf_counter()
                call(images[:1])
                times.setdefault(part, []).append(time.perf_counter() - start)
        own, other = (f"{1000 * statistics.median(values):.3f}" for values in times.values())
        answers.put(f"{same:.1%} | {layers} | {own} | {other}")
    except BaseException as error:  # whatever a reader raises
        reason = " ".join(str(error).split())[:60]
        answers.put(f"refused: {type(error).__name__} {json.dumps(reason)} | | |")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        read(Path(sys.argv[2]), sys.argv[3:])
