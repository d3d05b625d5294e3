"""Sparse weights of modules: the values are the parameter, the index arrays are buffers.

Optimizers, gradient clipping, AMP, DDP and `.grad` see an ordinary dense parameter, `values`; `state_dict` holds it and
the index arrays; `module.<name>` is a `SparseTensor`.
"""

import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gossamer.errors import TensorError
from gossamer.pattern import Pattern
from gossamer.tensor import Fill, SparseTensor


class SparseParametrization(nn.Module):
    """Makes a SparseTensor of the values; its buffers positions_<level> and coordinates_<level> are the index arrays.

    Args:
        pattern: The pattern.
        fill: What entries that are not stored are.
    """

    def __init__(self, pattern: Pattern, fill: Fill):
        super().__init__()
        self.fill = fill
        for name, arrays in (("positions", pattern._positions), ("coordinates", pattern._coordinates)):
            for l, array in enumerate(arrays):
                self.register_buffer(f"{name}_{l}", array)
        self._pattern = pattern

    @property
    def pattern(self) -> Pattern:
        """The pattern of the buffers: another one after they were moved or loaded."""
        old = self._pattern
        arrays = tuple(self._buffers.values())  # in the order in which they were registered
        if not all(map(operator.is_, arrays, old._arrays)):
            count = old.format.lvl_rank
            self._pattern = Pattern(old.format, old.shape, arrays[:count], arrays[count:], check=False)
        return self._pattern

    def forward(self, values: Tensor) -> SparseTensor:
        """Returns the sparse tensor with these values, shaped as `pattern.values_shape`."""
        # A format without index arrays follows the values; others have moved with their buffers.
        return SparseTensor._make(self.pattern.to(values.device), values, self.fill)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Loads by replacement, and checks: patterns are immutable, and others may share these arrays."""
        for name, old in self._buffers.items():
            new = state_dict.get(prefix + name)
            if old is not None and isinstance(new, Tensor) and new.shape != old.shape:
                error_msgs.append(
                    f"size mismatch for {prefix}{name}: the checkpoint stores another pattern, {tuple(new.shape)} "
                    f"against {tuple(old.shape)}; attach a tensor of as many entries first"
                )
                return
        for name, old in self._buffers.items():
            self._buffers[name] = None if old is None else old.clone()
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        self.pattern.validate()

    def extra_repr(self) -> str:
        """Returns the pattern."""
        return repr(self._pattern)


def attach(module: nn.Module, name: str, tensor: SparseTensor) -> nn.Module:
    """Makes a sparse tensor the parameter `name` of a module, in place of the one that is there.

    `module.<name>` is then a SparseTensor whose `values` is an nn.Parameter, registered (by torch's parametrization) as
    `parametrizations.<name>.original`; the index arrays are buffers beside it.

    Args:
        module: The module, changed in place.
        name: The parameter; a module that has none of this name gets one.
        tensor: The sparse tensor; its values are shared.

    Returns:
        The module.

    Raises:
        TensorError: The parameter has another shape, or is parametrized already.
    """
    if parametrize.is_parametrized(module, name):
        raise TensorError(f"{name!r} of {type(module).__name__} is parametrized already; remove that first")
    old = getattr(module, name, None)
    if isinstance(old, Tensor) and old.shape != tensor.shape:
        raise TensorError(
            f"{name!r} of {type(module).__name__} is {tuple(old.shape)}, and the tensor {tuple(tensor.shape)}"
        )
    requires_grad = old.requires_grad if isinstance(old, Tensor) else tensor.dtype.is_floating_point
    if name in module._parameters:
        del module._parameters[name]
    elif hasattr(module, name):
        delattr(module, name)
    module.register_parameter(name, nn.Parameter(tensor.values.detach(), requires_grad))
    # unsafe: torch insists that a parametrization returns a Tensor, and this one does not.
    parametrize.register_parametrization(module, name, SparseParametrization(tensor.pattern, tensor.fill), unsafe=True)
    return module


def renew(module: nn.Module, name: str, dense: Tensor, by: Any = None) -> None:
    """Gives a sparse parameter new values, and with `by` a new pattern of as many entries, of a dense tensor.

    The nn.Parameter of the values stays the one that optimizers know, with its memory: `SparseTensor.resparsify_` of
    `module.<name>`, with the index arrays of a new pattern as the buffers of the module.

    Args:
        module: A module to which `attach`, or `gs.sparse_jit`, gave a sparse parameter.
        name: The parameter.
        dense, by: As for `SparseTensor.resparsify_`.

    Raises:
        TensorError: There is no such sparse parameter, or the tensors do not fit.
    """
    lists = getattr(module, "parametrizations", {})
    if name not in lists or not isinstance(lists[name][0], SparseParametrization):
        raise TensorError(f"{type(module).__name__} has no sparse parameter {name!r}")
    make: SparseParametrization = lists[name][0]
    pattern = make.forward(lists[name].original).resparsify_(dense, by).pattern
    make._buffers.update(zip(make._buffers, pattern._arrays, strict=True))
    make._pattern = pattern


def detach(module: nn.Module, name: str) -> SparseTensor:
    """Undoes `attach`: `module.<name>` is a dense parameter again, with the fill where nothing was stored.

    Returns:
        The sparse tensor that it was.

    Raises:
        TensorError: Nothing was attached under this name.
    """
    lists = getattr(module, "parametrizations", {})
    if name not in lists or not isinstance(lists[name][0], SparseParametrization):
        raise TensorError(f"{type(module).__name__} has no sparse parameter {name!r}")
    tensor = getattr(module, name).detach()
    requires_grad = lists[name].original.requires_grad
    parametrize.remove_parametrizations(module, name, leave_parametrized=False)
    with torch.no_grad():
        setattr(module, name, nn.Parameter(tensor.to_dense(), requires_grad))
    return tensor
