"""Settings of all tests: the same examples and random numbers in every run."""

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "gossamer",
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("gossamer")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
