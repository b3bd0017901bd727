"""A device that is not there: tensors that say they live on it, and a count of trips.

The numbers of an `Elsewhere` lie on the CPU, and every operation on it is done there. But it says
of itself that it is on another device, mixes with no tensor of the CPU, and has no `numpy()`.
Inside of a `Machine` what would make a CUDA device wait is counted: arrays that travel, and numbers
that are read.
"""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

# A name that torch knows in every build, and nobody has a device for.
NAME = "lazy"
aten = torch.ops.aten
# Their result, or its shape, depends on numbers, so that the host waits for these.
_READS = (
    aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default,
    aten.masked_select.default,
)  # fmt: skip


class Elsewhere(torch.Tensor):
    """A tensor that is held on the CPU, and claims to be on the device that is not there."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=torch.device(NAME, 0),
        )  # fmt: skip

    def __init__(self, held):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        raise AssertionError(f"{operation} of a tensor elsewhere, outside of its machine")

    def tolist(self):
        return self.cpu().tolist()


class Machine(TorchDispatchMode):
    """Does what is asked of tensors elsewhere.

    Parameters
    ----------
    smallest : int
        Fewer numbers are no array.

    Attributes
    ----------
    arrays, reads : Counter
        How often arrays went there or came back, and numbers were read, by operation.
    """

    def __init__(self, smallest=1):
        super().__init__()
        self.smallest = smallest
        self.arrays, self.reads = Counter(), Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        given = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, torch.Tensor)]
        there = any(isinstance(tensor, Elsewhere) for tensor in _flat((args, kwargs)))
        arguments, options = tree_map(_held, args), tree_map(_held, dict(kwargs or {}))
        device = options.get("device")
        goes = there if device is None else torch.device(device).type == NAME
        if device is not None and goes:
            options["device"] = "cpu"
        self._count(operation, args, there=there, goes=goes)
        if there and device is None:
            strangers = [t for t in given if not isinstance(t, Elsewhere) and t.ndim]
            if strangers and operation is not aten.copy_.default:
                raise RuntimeError(f"{operation}: tensors on two devices")
        found = operation(*arguments, **options)
        if not goes:
            return found
        for tensor in given:  # what works in place returns the tensor that it was given
            if isinstance(tensor, Elsewhere) and found is tensor.held:
                return tensor
        return tree_map(_elsewhere, found)

    def _count(self, operation, args, *, there, goes):
        if operation in _READS and there:
            self.reads[str(operation)] += 1
        elif operation is aten._to_copy.default and there != goes:
            self._travels("down" if there else "up", args[0])
        elif operation is aten.copy_.default:
            into, source = (isinstance(tensor, Elsewhere) for tensor in args[:2])
            if into != source:
                self._travels("up" if into else "down", args[1])

    def _travels(self, where, tensor):
        if tensor.numel() >= self.smallest:
            self.arrays[where] += 1


def _flat(tree):
    leaves = []
    tree_map(leaves.append, tree)
    return leaves


def _held(leaf):
    return leaf.held if isinstance(leaf, Elsewhere) else leaf


def _elsewhere(leaf):
    bare = isinstance(leaf, torch.Tensor) and not isinstance(leaf, Elsewhere)
    return Elsewhere(leaf) if bare else leaf
