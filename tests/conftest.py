"""Settings that every test shares.

``BACKCHAIN_PROFILE`` picks how hard hypothesis searches: ``dev`` (few examples), ``ci`` (more, the same ones in
every run) or ``hunt`` (as many as an evening allows; with ``--timeout 0``).
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

_SLOW_EXAMPLES = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

_PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)  # explaining takes minutes of real images

settings.register_profile("base", deadline=None, suppress_health_check=_SLOW_EXAMPLES, phases=_PHASES, print_blob=True)
settings.register_profile("dev", settings.get_profile("base"), max_examples=25)
settings.register_profile("ci", settings.get_profile("base"), max_examples=25, derandomize=True)
settings.register_profile("hunt", settings.get_profile("base"), max_examples=1500, database=None)
settings.load_profile(os.environ.get("BACKCHAIN_PROFILE", "dev"))


@pytest.fixture(autouse=True, scope="session")
def own_state_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests' journals out of the user's own state; child processes inherit it."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
