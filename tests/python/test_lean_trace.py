"""A first call does not load torch.compile, and torch.compile works afterwards."""

import subprocess
import sys
import textwrap

SETUP = """
    import sys, torch, gossamer as gs

    def f(t, x):
        return t @ x

    t, x = gs.sparsify(torch.eye(3), gs.CSR), torch.rand(3, 2)
    g = gs.sparse_jit(f, backend="reference")
"""


def run(code: str) -> None:
    script = textwrap.dedent(SETUP) + textwrap.dedent(code)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_import_is_light():
    run("""
        assert "sympy" not in sys.modules
        assert "torch_mlir" not in sys.modules
        assert "gossamer.frontend.program" not in sys.modules
    """)


def test_torch_compile_is_there_when_it_is_asked_for():
    run("""
        torch.testing.assert_close(g(t, x), x)
        assert "torch._dynamo.eval_frame" not in sys.modules
        assert "torch._inductor.utils" not in sys.modules
        assert not hasattr(torch._dynamo, "__warningregistry__")
        compiled = torch.compile(lambda a: torch.relu(a) + 1, backend="eager")
        torch.testing.assert_close(compiled(x), torch.relu(x) + 1)
        assert "torch._dynamo.eval_frame" in sys.modules
        torch._dynamo.reset()
        assert torch._inductor.list_options()
        assert torch._dynamo.disable.__module__ == "torch._dynamo.decorators"
        from torch.fx.experimental.validator import ValidationException
        torch.testing.assert_close(gs.sparse_jit(lambda t, x: t @ x, backend="reference")(t, x), x)
    """)


def test_torch_compile_is_left_alone_where_it_is_loaded():
    run("""
        import torch._dynamo
        compiled = torch.compile(lambda a: torch.relu(a) + 1, backend="eager")
        torch.testing.assert_close(compiled(x), torch.relu(x) + 1)
        torch.testing.assert_close(g(t, x), x)
        torch.testing.assert_close(compiled(x), torch.relu(x) + 1)
    """)


def test_what_needs_all_of_torch_is_traced_with_it():
    run("""
        def needs(t, x):
            if "torch._dynamo.eval_frame" not in sys.modules:
                float(x.sum())
            return t @ x

        torch.testing.assert_close(gs.sparse_jit(needs, backend="reference")(t, x), x)
    """)


def test_deferred_modules_load_as_others_do():
    run("""
        g(t, x)
        for name in ("torch._inductor", "torch.fx.experimental.validator", "torch._dynamo"):
            module = sys.modules[name]
            assert module.__file__ and module.__spec__.name == name
            try:
                module.no_such_name
            except AttributeError as error:
                assert "no_such_name" in str(error)
            else:
                raise AssertionError(name)
            assert type(module).__name__ == "module"
        torch.testing.assert_close(gs.sparse_jit(lambda t, x: t @ x + 1, backend="reference")(t, x), x + 1)
    """)
