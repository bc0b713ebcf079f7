"""Settings that every test shares.

``BACKCHAIN_PROFILE`` picks how hard hypothesis searches: ``dev`` (few examples), ``ci`` (more, the same ones in
every run) or ``hunt`` (as many as an evening allows).
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SLOW_EXAMPLES = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=_SLOW_EXAMPLES)
settings.register_profile(
    "ci", max_examples=60, deadline=None, derandomize=True, suppress_health_check=_SLOW_EXAMPLES, print_blob=True
)
settings.register_profile(
    "hunt", max_examples=1500, deadline=None, suppress_health_check=_SLOW_EXAMPLES, print_blob=True, database=None
)
settings.load_profile(os.environ.get("BACKCHAIN_PROFILE", "dev"))
