"""sparse_jit on modules: classes, instances, parameters by glob, transformers."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gossamer as gs
from frontend_cases import allowed, real
from gossamer.jit import engine_of


class Block(nn.Module):
    def __init__(self, dim: int = 16, heads: int = 2):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.double()

    def forward(self, x, mask=None, *, scale: float = 1.0):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.norm(x + a.transpose(1, 2).flatten(2) * scale)
        return x + self.down(F.gelu(self.up(x)))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.double()

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


def programs(f):
    return [program for fitting in engine_of(f).programs.values() for program in fitting]


def test_an_instance():
    block = Block()
    jitted = gs.sparse_jit(mask=gs.CSR, backend="reference")(block)
    x, mask = real(2, 7, 16), allowed(7, 7)
    torch.testing.assert_close(jitted(x, mask), block(x, mask))
    torch.testing.assert_close(jitted(real(3, 5, 16), allowed(5, 5)).shape, (3, 5, 16))
    assert len(programs(jitted)) == 1
    assert len(programs(jitted)[0].kernels) == 1
    torch.testing.assert_close(jitted(x, mask=mask, scale=2.0), block(x, mask, scale=2.0))
    torch.testing.assert_close(jitted(x), block(x))


def test_an_instance_shares_everything_with_the_original():
    block = Block()
    jitted = gs.sparse_jit(block, backend="reference")
    assert isinstance(jitted, Block)
    assert list(jitted.state_dict()) == list(block.state_dict())
    assert all(a is b for a, b in zip(jitted.parameters(), block.parameters(), strict=True))
    jitted.eval()
    assert not block.training
    jitted.extra = 3
    assert block.extra == 3
    jitted.float()
    assert jitted(torch.randn(2, 3, 16)).dtype == torch.float32


def test_a_class():
    @gs.sparse_jit(mask=gs.CSR, backend="reference")
    class Decorated(Block):
        """Doc."""

    assert Decorated.__name__ == "Decorated"
    first, second = Decorated(), Decorated()
    x, mask = real(2, 7, 16), allowed(7, 7)
    for module in (first, second):
        plain = Block()
        plain.load_state_dict(module.state_dict())
        torch.testing.assert_close(module(x, mask), plain(x, mask))
        assert len(programs(module)) == 1


def test_copies_and_pickles():
    jitted = gs.sparse_jit(Block(), mask=gs.CSR, backend="reference")
    x, mask = real(2, 7, 16), allowed(7, 7)
    expected = jitted(x, mask)
    for other in (copy.deepcopy(jitted), pickle.loads(pickle.dumps(jitted))):
        torch.testing.assert_close(other(x, mask), expected)
        assert isinstance(other, Block)
        assert len(programs(other)[0].kernels) == 1
        with torch.no_grad():
            other.down.bias += 1
        torch.testing.assert_close(other(x, mask), expected + 1)
        torch.testing.assert_close(jitted(x, mask), expected)


@pytest.mark.parametrize("decorate", ["instance", "class"])
def test_parameters_by_glob(decorate):
    globs = {"up.weight": gs.BSR(8), "d*.weight": (gs.CSR, gs.magnitude(0.25))}
    if decorate == "instance":
        module = gs.sparse_jit(Block(), globs, backend="reference")
    else:
        module = gs.sparse_jit(globs, backend="reference")(type("Decorated", (Block,), {}))()
    assert isinstance(module.down.weight, gs.SparseTensor)
    assert isinstance(module.down.weight.values, nn.Parameter)
    assert module.down.weight.density == 0.25
    plain = Block()
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            path, _, leaf = name.rpartition(".")
            own = getattr(module.get_submodule(path), leaf)
            parameter.copy_(own.to_dense() if isinstance(own, gs.SparseTensor) else own)
    x = real(2, 7, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            torch.testing.assert_close(module(x), plain(x))
    (program,) = programs(module)
    operations = [kernel.region.operations() for kernel in program.kernels]
    assert operations == [["contract", "aten.add.Tensor", "aten.gelu.default"], ["contract"] + ["aten.add.Tensor"] * 2]


def test_a_function_stores_a_parameter():
    module = gs.sparse_jit(Block(), {"up.weight": lambda w: gs.sparsify(w, gs.CSR, by=gs.magnitude(0.5))})
    assert module.up.weight.format == gs.CSR


def test_wrong_globs():
    with pytest.raises(gs.AnnotationError, match=r"no parameter matches '\*.dwn.weight'; did you mean 'down.weight'"):
        gs.sparse_jit(Block(), {"*.dwn.weight": gs.CSR})
    with pytest.raises(gs.AnnotationError, match="does not say how"):
        gs.sparse_jit(Block(), {"down.weight": gs.magnitude(0.5)})
    with pytest.raises(gs.AnnotationError, match="no argument 'msk'; did you mean 'mask'"):
        gs.sparse_jit(Block(), msk=gs.CSR)
    with pytest.raises(gs.AnnotationError, match="no argument 'msk'"):
        gs.sparse_jit(msk=gs.CSR)(type("Decorated", (Block,), {}))


def test_training_mode_and_buffers():
    module = gs.sparse_jit(Counting(), backend="reference")
    x = real(40, 6)
    assert (module(x) == 0).any()
    module.eval()
    assert not (module(x) == 0).any()
    module(x)
    assert module.calls == 3
    assert len(programs(module)) == 2


def test_a_moved_parameter_is_seen():
    module = gs.sparse_jit(Block(), {"up.weight": gs.CSR}, backend="reference").eval()
    x = real(2, 3, 16)
    with torch.no_grad():
        before = module(x)
        module.down.bias = nn.Parameter(module.down.bias + 1)
        torch.testing.assert_close(module(x), before + 1)
        module.up.weight.values.mul_(0)
        assert not torch.allclose(module(x), before + 1)
    assert len(programs(module)) == 1


def test_a_sparse_parameter_is_trained():
    module = gs.sparse_jit(Block(), {"up.weight": (gs.CSR, gs.magnitude(0.5))}, backend="reference")
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    x = real(2, 3, 16)
    losses = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gs.FallbackWarning)
        for _ in range(4):
            optimizer.zero_grad()
            loss = module(x).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert module.up.weight.values.grad.shape == module.up.weight.values.shape


def test_a_jitted_module_inside_a_jitted_module():
    inner = gs.sparse_jit(Block(), mask=gs.CSR, backend="reference")

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, x, mask):
            return self.inner(x * 2, mask=mask) + 1

    outer = gs.sparse_jit(Outer(), backend="reference")
    x, mask = real(2, 7, 16), allowed(7, 7)
    torch.testing.assert_close(outer(x, mask), inner(x * 2, mask) + 1)
    assert len(programs(outer)[0].kernels) == 1


def test_torch_transformer_layer():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).double().eval()
    jitted = gs.sparse_jit(layer, src_mask=gs.CSR, backend="reference")
    x, blocked = real(2, 7, 16), ~allowed(7, 7)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", gs.FallbackWarning)
        torch.testing.assert_close(jitted(x, src_mask=blocked), layer(x, src_mask=blocked))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_transformers_bert(attention):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=100,
        max_position_embeddings=32, attn_implementation=attention,
    )  # fmt: skip
    model = transformers.BertModel(config).eval()
    plain = copy.deepcopy(model)
    globs = {
        "encoder.layer.*.intermediate.dense.weight": (gs.BSR(8), gs.magnitude(0.3)),
        "encoder.layer.*.output.dense.weight": (gs.CSR, gs.magnitude(0.3)),
    }
    jitted = gs.sparse_jit(model, globs, attention_mask=gs.CSR, backend="reference")
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            path, _, leaf = name.rpartition(".")
            own = getattr(jitted.get_submodule(path), leaf)
            parameter.copy_(own.to_dense() if isinstance(own, gs.SparseTensor) else own)
        with warnings.catch_warnings():
            warnings.simplefilter("error", gs.FallbackWarning)
            for batch, length in ((2, 16), (3, 9)):
                ids = torch.randint(0, 100, (batch, length))
                mask = allowed(1, 1, length, length)
                if attention == "eager":
                    mask = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
                actual, expected = jitted(ids, attention_mask=mask), plain(ids, attention_mask=mask)
                assert type(actual) is type(expected)
                torch.testing.assert_close(actual.last_hidden_state, expected.last_hidden_state)
                torch.testing.assert_close(actual.pooler_output, expected.pooler_output)
    (program,) = programs(jitted)
    # in each layer attention, its projection (…output.dense matches it too), and the two of the feed-forward
    assert len(program.kernels) == 8


class Windowed(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask = mask
        self.inner = nn.Linear(16, 16).double()

    def forward(self, x):
        return F.scaled_dot_product_attention(self.inner(x), x, x, attn_mask=self.mask)


def test_a_sparse_attribute_is_read_anew():
    masks = [allowed(7, 7), allowed(7, 7), allowed(5, 5)]
    module = gs.sparse_jit(Windowed(gs.sparsify(masks[0], gs.CSR)), backend="reference")
    for mask in masks:
        module.mask = gs.sparsify(mask, gs.CSR)
        x = real(2, mask.shape[0], 16)
        expected = F.scaled_dot_product_attention(module.inner(x), x, x, attn_mask=mask)
        torch.testing.assert_close(module(x), expected)
    assert len(programs(module)) == 1
    assert len(programs(module)[0].kernels) == 1
    module.mask = None
    torch.testing.assert_close(module(x), F.scaled_dot_product_attention(module.inner(x), x, x))
    module.mask = gs.sparsify(mask, gs.CSC)
    torch.testing.assert_close(module(x), expected)


def test_a_replaced_submodule_is_seen():
    module = gs.sparse_jit(Windowed(gs.sparsify(allowed(7, 7), gs.CSR)), backend="reference")
    x = real(2, 7, 16)
    before = module(x)
    module.inner = nn.Sequential(nn.Linear(16, 16).double(), nn.Tanh())
    assert not torch.allclose(module(x), before)
    module.inner[0] = nn.Identity()
    plain = F.scaled_dot_product_attention(x.tanh(), x, x, attn_mask=module.mask.to_dense())
    torch.testing.assert_close(module(x), plain)


def test_a_changed_attribute_is_seen():
    module = gs.sparse_jit(Block(), backend="reference").eval()
    x = real(2, 7, 16)
    two = module(x)
    module.heads = 4
    assert not torch.allclose(module(x), two)
    module.heads = 2
    torch.testing.assert_close(module(x), two)
    assert len(programs(module)) == 2


def test_a_weight_asked_for_as_n_of_m_keeps_the_largest() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(16, 8))
    groups = module[0].weight.detach().reshape(8, 4, 4)
    kept = groups * torch.zeros_like(groups).scatter(2, groups.abs().topk(2).indices, 1.0)
    compiled = gs.sparse_jit(module, {"*.weight": gs.NM(2, 4)})
    x = torch.randn(5, 16)
    with torch.no_grad():
        expected = torch.nn.functional.linear(x, kept.reshape(8, 16), module[0].bias)
        torch.testing.assert_close(compiled(x), expected)
