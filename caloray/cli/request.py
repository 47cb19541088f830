"""``caloray request``: showers from a service."""

from __future__ import annotations

__all__ = ["EXAMPLE", "request"]

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.cli.console import print_json, say
from caloray.cli.generate import Conditions, Energies, Number, Phi, Theta
from caloray.cli.progress import counting
from caloray.errors import ConfigError

if TYPE_CHECKING:
    from caloray.client import Client, ServedModel
    from caloray.generation.particle_window import ParticleWindow
    from caloray.generation.receiving import Received

EXAMPLE = "Example: caloray request http://127.0.0.1:8000 --energies 10000,20000 --seed 1 -o showers.parquet"

Url = Annotated[str, typer.Argument(help="Address of the service.")]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="NAME.parquet (sparse shard) or NAME.hdf5 (CaloChallenge).")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**64 - 1, help="Seed of the sample.")]
Model = Annotated[str | None, typer.Option(help="Name of the model; may be left out where one is served.")]
First = Annotated[
    int, typer.Option(min=0, help="Begin with this event of the sample, to go on where a request ended.")
]
TokenFile = Annotated[Path | None, typer.Option(help="File with the token; else CALORAY_SERVE_TOKEN counts.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Longest wait for the next showers [s].")]
Patience = Annotated[
    float, typer.Option(min=0, help="Try so long again when the service is busy or away [s].")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file that is there.")]
Repeat = Annotated[
    bool, typer.Option("--repeat-energies", help="Start listed energies and conditions again at their end.")
]


def request(
    url: Url,
    output: Output,
    n: Number = None,
    seed: Seed = 0,
    energies: Energies = None,
    condition: Conditions = None,
    theta: Theta = None,
    phi: Phi = None,
    model: Model = None,
    first: First = 0,
    token_file: TokenFile = None,
    timeout: Timeout = 300.0,
    patience: Patience = 60.0,
    *,
    repeat_energies: Repeat = False,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Ask a service for the showers that `caloray generate` would make of its bundle, into one file.

    The file appears when it is complete; one that is there is kept unless --force is given. A service that is
    busy or away is asked again for a while.
    """
    from caloray.client import Client
    from caloray.client import Patience as Pauses
    from caloray.generation.receiving import format_of, require_free
    from caloray.serving.access import read_token

    format_of(output)
    require_free(output, force=force)
    options: dict[str, Any] = {"timeout": timeout, "patience": Pauses(limit=patience)}
    token = None if token_file is None else read_token(token_file)
    with Client(url, token=token, **options) as client:
        served = client.choose(model)
        wanted = (energies, condition, theta, phi)
        window = _window(served, wanted, n, seed, first, repeat=repeat_energies)
        started = time.monotonic()
        with counting("showers", len(window)) as progress:
            received = _receive(client, served, window, output, progress)
    _tell(served, window, output, received, time.monotonic() - started, as_json=as_json)


def _window(
    served: ServedModel, wanted: tuple[Any, ...], n: int | None, seed: int, first: int, *, repeat: bool
) -> ParticleWindow:
    """The particles, from the words of the command line."""
    from caloray.generation.condition_words import parse_conditions
    from caloray.generation.energies import parse_energies
    from caloray.generation.particle_window import open_window
    from caloray.preprocess.condition_range import ConditionRange
    from caloray.showers import DIRECTION

    energies, condition, theta, phi = wanted
    names = [item.name for item in served.conditions]
    if not (theta is None and phi is None) and not set(DIRECTION) <= set(names):
        raise ConfigError(
            f"--theta, --phi: model {served.name} knows no direction",
            hint=f"its conditions are: {', '.join(names)}"
            if names
            else "it has no conditions: leave them out",
        )
    ranges = [ConditionRange(item.name, item.unit, item.low, item.high) for item in served.conditions]
    return open_window(
        None if energies is None else parse_energies(energies, repeat=repeat),
        parse_conditions(condition or (), theta, phi, repeat=repeat),
        n,
        energy_range=served.energy_range,
        ranges=ranges,
        block_size=served.block_size,
        seed=seed,
        first=first,
    )


def _receive(
    client: Client,
    served: ServedModel,
    window: ParticleWindow,
    output: Path,
    progress: Callable[[int], None],
) -> Received:
    """Write the showers while they come in."""
    from caloray.generation.receiving import receive

    def deliveries() -> Iterator[Any]:
        for start, energies, conditions in window.parts():
            asked: dict[str, Any] = {"conditions": conditions, "seed": window.seed, "model": served.name}
            with client.stream(energies, first=start, **asked) as stream:
                for batch in stream:
                    yield stream.header, batch
                    progress(len(batch))

    units = {item.name: item.unit for item in served.conditions}
    return receive(output, deliveries(), served.block_size, units)


def _tell(
    served: ServedModel,
    window: ParticleWindow,
    output: Path,
    received: Received,
    seconds: float,
    *,
    as_json: bool,
) -> None:
    facts = {
        "file": str(output),
        "showers": received.rows,
        "events": f"{window.first} to {window.n - 1}",
        "model": served.name,
        "bundle": received.bundle,
        "redrawn showers": received.redrawn,
        "content digest": received.content_digest,
        "sha256": received.sha256,
        "showers per second": round(received.rows / max(seconds, 1e-6), 1),
    }
    if as_json:
        print_json({name.replace(" ", "_"): value for name, value in facts.items()})
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {value}")
