"""``caloray config``: the resolved run config and its schema."""

from __future__ import annotations

__all__ = ["app"]

from pathlib import Path
from typing import Annotated

import typer

from caloray.cli.console import print_json, say

app = typer.Typer(help="Show the resolved run config or its JSON schema.", no_args_is_help=True)


@app.command(epilog="Example: caloray config show configs/demo.yaml --set seed=2")
def show(
    config: Annotated[Path, typer.Argument(help="Run config (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. a.b=3.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of YAML.")] = False,
) -> None:
    """Print a config with every default filled in, and its digest."""
    import yaml

    from caloray.atomic import digest_json
    from caloray.config import load_config

    values = load_config(config, overrides or []).model_dump(mode="json")
    digest = digest_json(values)
    if as_json:
        print_json({"digest": digest, "config": values})
        return
    say(f"# digest: {digest}")
    say(yaml.safe_dump(values, sort_keys=False).rstrip())


@app.command(epilog="Example: caloray config schema > caloray.schema.json")
def schema(
    *,
    campaign: Annotated[
        bool, typer.Option("--campaign", help="That of campaign files (`caloray produce`).")
    ] = False,
    tuning: Annotated[
        bool, typer.Option("--tuning", help="That of tuning campaigns (`caloray tune`).")
    ] = False,
) -> None:
    """Print the JSON schema of run configs, for completion in an editor."""
    from caloray.config import Campaign, RunConfig

    if tuning:
        from caloray.tuning.settings import TuneConfig

        print_json(TuneConfig.model_json_schema())
        return
    model = Campaign if campaign else RunConfig
    print_json(model.model_json_schema())
