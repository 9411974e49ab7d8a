"""A GPU that is not there: tensors that say they are on `cuda:0` and are computed on the CPU.

What only a GPU would refuse is refused here too: operators over tensors of both devices, numpy of a device's tensor, a
host's generator for a device's numbers. What a GPU would be waited for is noted, by where it is asked; so is how much
work it is given. Warp's kernels run on its CPU device. Below Python the tensors belong to PyTorch's device for
backends of others, so that autograd treats them as it does those of any accelerator. Holds for the rest of the process:
rehearse in one of its own.
"""

# ruff: noqa: SLF001 - what is below PyTorch's face is the matter here.
from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_record import RECORD, DeviceFault, Record, launched, place, wait
from pretended_graphs import Graph, pretend_graphs, refuse_upload
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

CUDA, BELOW = torch.device("cuda", 0), "pretended"
"""What Python sees, and what PyTorch calls it below."""
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_unique2", "unique_consecutive",
         "unique_dim", "repeat_interleave"}  # fmt: skip
"""Operators whose result, or its size, the host needs."""
NO_WORK = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "view", "_unsafe_view", "alias",
           "detach", "expand", "select", "slice", "t", "transpose", "permute", "squeeze", "unsqueeze", "unbind",
           "split", "split_with_sizes", "as_strided", "diagonal", "unfold", "lift_fresh", "_reshape_alias", "set_",
           "is_same_size", "movedim", "view_as_real"}  # fmt: skip
"""Operators that start nothing on a GPU."""
ANY_DEVICE = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_"}
"""Operators that take tensors of both devices on a GPU, too; the indices' are looked at apart."""
LOW, HIGH = (
    {"linear", "conv2d", "matmul", "bmm", "addmm", "mm", "__matmul__", "scaled_dot_product_attention"},
    {"layer_norm", "group_norm", "softmax", "exp", "log", "norm", "mse_loss", "cumsum", "prod", "pow", "normalize"},
)
"""Functions that CUDA's autocast gives its lower precision, and float32."""


class OnDevice(torch.Tensor):
    """A tensor on the pretended GPU; `host` holds its numbers."""

    host: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(
            cls, host.shape, strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype,
            device=torch.device(BELOW, 0),
        )  # fmt: skip
        made.host = host
        return made

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operator, args, kwargs or {})

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    itemsize = property(lambda self: self.host.itemsize)
    nbytes = property(lambda self: self.host.nbytes)

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.host!r})"

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise DeviceFault(f"numpy of a tensor on the GPU, in {place()}")

    __array__ = numpy

    def tolist(self) -> Any:
        wait("tolist")
        return self.host.tolist()

    def data_ptr(self) -> int:
        return self.host.data_ptr()

    @property
    def data(self) -> torch.Tensor:
        return OnDevice(self.host)

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        if not is_on(value):
            raise DeviceFault(f"a tensor of the host becomes the data of one on the GPU, in {place()}")
        self.host = value.host

    def get_device(self) -> int:
        return 0

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        copied = OnDevice(self.host.clone())
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A checkpoint names the device; it is read to the CPU, whatever it says.
        plain = self.host.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            plain = torch.nn.Parameter(plain, self.requires_grad)
        return plain.__reduce_ex__(protocol)


def is_on(tensor: object) -> bool:
    """Whether it is on the pretended GPU."""
    return isinstance(tensor, OnDevice)


def host_of(value: Any) -> Any:
    """The numbers of a tensor; anything else as it is."""
    return value.host if is_on(value) else value


def compute(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operator on the CPU, its result on the device that a GPU's would be on."""
    name, kwargs = operator.overloadpacket.__name__, dict(kwargs)
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = [x for x in tensors if is_on(x)]
    asked = kwargs.get("device")
    if asked is not None:
        kwargs["device"] = torch.device("cpu")
    stays = bool(there) if asked is None else torch.device(asked).type in (BELOW, "cuda")
    if stays:
        refuse(name, args, kwargs, tensors, there)
    if there:
        note_waits(name, args, stays)
    elif name == "_to_copy" and stays and not kwargs.get("non_blocking"):
        wait("upload")
    if kwargs.get("pin_memory"):
        kwargs["pin_memory"] = False
    if stays and any(not is_on(x) and x.dim() > 0 for x in tensors):
        refuse_upload(name)
    host_args, host_kwargs = tree_map(host_of, (args, kwargs))
    out = operator(*host_args, **host_kwargs)
    if name == "copy_" and not is_on(args[0]):
        return args[0]
    if not stays:
        return out
    graph = Graph.recording
    works = name not in NO_WORK and name not in WAITS
    if graph is not None:
        graph.note(operator if works else None, host_args, host_kwargs, out)
    elif works:
        launched(name)
        RECORD.bytes += sum(x.numel() * x.element_size() for x in there)
        RECORD.bytes += sum(x.nbytes for x in tree_leaves(out) if isinstance(x, torch.Tensor))
    known = {id(x.host): x for x in there}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or is_on(value):
            return value
        return known[id(value)] if id(value) in known else OnDevice(value)

    return tree_map(wrapped, out)


def refuse(name: str, args: Any, kwargs: dict[str, Any], tensors: list[torch.Tensor], there: list[OnDevice]) -> None:
    """Raise for what a GPU would refuse."""
    here = [x for x in tensors if not is_on(x) and x.dim() > 0]
    if there and here and name not in ANY_DEVICE:
        shapes = [(x.device.type, tuple(x.shape)) for x in tensors]
        raise DeviceFault(f"{name} of tensors on both devices {shapes}, in {place()}")
    if name.startswith(("index", "_index")) and name in ANY_DEVICE and not is_on(args[0]):
        raise DeviceFault(f"{name}: indices on the GPU into a tensor of the host, in {place()}")
    if isinstance(kwargs.get("generator"), torch.Generator):
        raise DeviceFault(f"{name}: a generator of the host for numbers on the GPU, in {place()}")
    if name in ("mm", "bmm", "addmm", "baddbmm") and not tensors[0].is_floating_point():
        raise DeviceFault(f"{name} of integers, which CUDA does not have, in {place()}")


def note_waits(name: str, args: Any, stays: bool) -> None:
    """Note what of an operator's is waited for."""
    if name in WAITS:
        wait(name)
    elif name == "_to_copy" and not stays:
        wait("download")
    elif name == "copy_" and is_on(args[0]) != is_on(args[1]) and args[1].dim() > 0:
        wait("copy")
    elif name in ANY_DEVICE and len(args) > 1 and isinstance(args[1], (list, tuple)):
        for index in args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                wait("mask index")
            elif index is not None and not is_on(index) and index.dim() > 0:
                wait("index of the host")


class BelowPython(TorchDispatchMode):
    """Operators that make tensors, and those that touch none of the GPU's."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operator, args, kwargs or {})


def named(value: Any) -> Any:
    """A device as PyTorch knows it below, where it is the pretended one."""
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device(BELOW, 0)
    if isinstance(value, str) and value.split(":")[0] == "cuda":
        return f"{BELOW}:0"
    return value


class InPython(TorchFunctionMode):
    """Calls of PyTorch in Python, which name devices and bring lists."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        if name == "cuda" and args and isinstance(args[0], torch.Tensor):
            return args[0].to(CUDA)
        if "device" in kwargs:
            kwargs["device"] = named(kwargs["device"])
        if name in ("to", "zeros", "ones", "empty", "new_tensor"):
            args = tuple(map(named, args))
        if function in (torch.tensor, torch.as_tensor, torch.asarray) and str(kwargs.get("device")).startswith(BELOW):
            kwargs["device"] = torch.device("cpu")
            if is_on(args[0]):
                return args[0]
            wait("upload")
            return OnDevice(function(*args, **kwargs).detach())
        if name == "new_tensor" and is_on(args[0]) and kwargs.get("device") is None:
            wait("upload")
            return OnDevice(torch.tensor(*args[1:], dtype=kwargs.get("dtype", args[0].dtype)))
        if name in ("__getitem__", "__setitem__") and is_on(args[0]):
            args = (args[0], indices(args[1]), *args[2:])
        if torch.is_autocast_enabled("cuda") and name in LOW | HIGH:
            dtype = torch.get_autocast_dtype("cuda") if name in LOW else torch.float32
            args, kwargs = tree_map(lambda x: cast(x, dtype), (args, kwargs))
        return function(*args, **kwargs)


def indices(index: Any) -> Any:
    """An index whose lists are on the GPU, where each has to be copied to."""
    if isinstance(index, tuple):
        return tuple(map(indices, index))
    if not isinstance(index, list) or (index and not isinstance(index[0], (int, bool))):
        return index
    wait("list index")
    return OnDevice(torch.tensor(index))


def cast(value: Any, dtype: torch.dtype) -> Any:
    """What autocast does to an argument."""
    wanted = is_on(value) and value.is_floating_point() and value.dtype not in (dtype, torch.float64)
    return value.to(dtype) if wanted else value


class Stream:
    """The one stream."""

    cuda_stream, device = 0, CUDA

    def synchronize(self) -> None:
        """Wait for the GPU."""
        wait("synchronize")

    def wait_stream(self, other: Any) -> None:
        """Nothing: there is one."""


def pretend_torch() -> None:
    """PyTorch with a GPU of 16 GB and compute capability 9.0."""
    _setup_privateuseone_for_python_backend(BELOW)
    move = torch.nn.Module._apply

    def moved(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        # A parameter that is moved stays the object it was, and becomes another type.
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            return move(self, *args, **kwargs)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)

    torch.nn.Module._apply = moved
    # Modes are a thread's own; so backward runs in the caller's.
    torch.autograd.set_multithreading_enabled(False)
    zero = {"max_memory_allocated", "memory_allocated", "max_memory_reserved", "memory_reserved", "current_device"}
    nothing = {"_lazy_init", "empty_cache", "set_device", "reset_peak_memory_stats", "manual_seed", "manual_seed_all"}
    true = {"is_available", "is_initialized", "is_bf16_supported"}
    for names, value in ((zero, 0), (nothing, None), (true, True)):
        for name in names:
            setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    torch.cuda.device_count = lambda: 1
    torch.cuda.synchronize = lambda *_: wait("synchronize")
    torch.cuda.current_stream = lambda *_: Stream()
    torch.cuda.is_current_stream_capturing = lambda: Graph.recording is not None
    pretend_graphs(Stream)
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.cuda.get_device_name = lambda *_: "pretended GPU"
    torch.cuda.mem_get_info = lambda *_: (16 << 30, 16 << 30)
    # Pinning takes a driver. What was pinned is copied without waiting, if it is asked for so.
    torch.Tensor.pin_memory = lambda self, *_: self
    torch.Tensor.is_pinned = lambda self, *_: False


def pretend_warp() -> None:
    """Warp with a GPU, which is its CPU device."""
    from flame_nerf.kernels.warp import launch

    wp = launch.load_warp()
    from_torch, device_from_torch, to_run = wp.from_torch, wp.device_from_torch, wp.launch

    def taken(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not is_on(tensor) and tensor.numel():
            raise DeviceFault(f"Warp is given a tensor of the host, in {place()}")
        if Graph.recording is not None:
            Graph.recording.note(None, (host_of(tensor),))
        return from_torch(host_of(tensor), *args, **kwargs)

    def run(*args: Any, **kwargs: Any) -> None:
        if Graph.recording is not None:
            Graph.recording.note(to_run, args, kwargs)
        else:
            launched("warp")
        # Its own functions must not be seen as the host's work.
        to_run(*args, **kwargs)

    wp.from_torch, wp.launch = taken, run
    wp.device_from_torch = lambda _: device_from_torch(torch.device("cpu"))
    wp.stream_from_torch = lambda _: None
    wp.ScopedStream = lambda _: contextlib.nullcontext()
    wp.is_cuda_available = lambda: True
    launch.warp_cuda_problem.cache_clear()


@contextlib.contextmanager
def pretended_gpu() -> Iterator[Record]:
    """In this block, on this thread, there is a GPU. PyTorch and Warp stay changed afterwards."""
    pretend_torch()
    pretend_warp()
    with InPython(), BelowPython():
        yield RECORD


def fault_line(error: BaseException) -> str:
    """An error and where in this package it came from."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/flame_nerf/" in frame.filename]
    at = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name})" if ours else ""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}{at}"
