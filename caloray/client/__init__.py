"""Showers from a caloray service, for programs that have neither torch nor Ray.

    from caloray.client import Client

    with Client("http://127.0.0.1:8000") as client:
        showers = client.sample([10_000.0, 20_000.0], seed=1)  # incident energies [MeV]

:mod:`caloray.client.talk` decides what is said and what is said again; :mod:`caloray.client.blocking` and
:mod:`caloray.client.asynchronous` only carry it over HTTP.
"""

from __future__ import annotations

__all__ = ["AsyncClient", "AsyncShowerStream", "Client", "Patience", "ServedModel", "ShowerStream"]

from caloray.client.asynchronous import AsyncClient, AsyncShowerStream
from caloray.client.blocking import Client, ShowerStream
from caloray.client.models import ServedModel
from caloray.client.patience import Patience
