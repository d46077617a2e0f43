"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A property holds or does not, whatever the machine is busy with: speed is for the benchmarks.
settings.register_profile("dynalake", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dynalake")
