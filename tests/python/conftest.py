"""Settings of all tests: the same examples and random numbers in every run."""

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

from devices import DataOn, move_constants, skip_what_is_about_the_cpu, skip_what_torch_lacks

settings.register_profile(
    "gossamer",
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("gossamer")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the tests' tensors are: cpu, or cuda")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skip_what_is_about_the_cpu(items, config.getoption("--device"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    if item.config.getoption("--device") == "cpu":
        return (yield)
    return (yield from skip_what_torch_lacks())


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where the tests' tensors are."""
    device = torch.device(request.config.getoption("--device"))
    if device.type == "cpu":
        yield device
        return
    with pytest.MonkeyPatch.context() as patch, DataOn(device):
        move_constants(request.module, device, patch)
        yield device


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For small tensors: threads cost more than they save, most of all where other tests run beside these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kernels of the tests are not the user's; processes that run them side by side share theirs."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOSSAMER_CACHE_DIR", str(cache))
        yield
