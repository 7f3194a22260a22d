"""The power that this machine draws, where codecarbon is installed to tell (the extra `energy`)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

#: Such estimates are off by up to 40 % (R. Fischer, Ground-Truthing AI Energy Consumption: Validating CodeCarbon
#: Against External Measurements, 2025, arXiv:2509.22092).
POWER_ERROR = 0.4


@contextlib.contextmanager
def metered() -> Iterator[Callable[[], float | None]]:
    """Meter the power drawn inside; afterwards the function that it gave returns it in watts.

    It returns None where codecarbon is not installed. Nothing is written, and the network is left alone.
    """
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        yield lambda: None
        return
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    # Each of these would otherwise be taken from a configuration file, and could send or write something.
    silent = {"output_methods": [], "emissions_endpoint": None, "electricitymaps_api_token": "", "output_handlers": []}
    silent |= {"allow_multiple_runs": True, "force_carbon_intensity_g_co2e_kwh": 0.0, "log_level": "critical"}
    tracker = OfflineEmissionsTracker(measure_power_secs=3600, **silent)
    tracker.start()
    try:
        yield lambda: 3.6e6 * tracker.final_emissions_data.energy_consumed / tracker.final_emissions_data.duration
    finally:
        tracker.stop()
