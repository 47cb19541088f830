"""Settings of a service: the shipped deploy file, names of bundles, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from caloray.errors import ConfigError
from caloray.serving.settings import ServeSettings, name_bundles, read_settings

DEPLOY = Path(__file__).parents[2] / "configs" / "serve.yaml"


def test_the_shipped_file_is_a_deploy_file_with_our_settings():
    from ray.serve.schema import ServeDeploySchema

    written = yaml.safe_load(DEPLOY.read_text())
    schema = ServeDeploySchema.model_validate(written)
    assert set(written) <= set(ServeDeploySchema.model_fields)
    (application,) = schema.applications
    assert application.import_path == "caloray.distributed.serve:build"
    settings = read_settings(application.args)
    assert settings.access == "token"
    assert settings.bundles == {"demo": Path("runs/demo/bundle")}
    assert schema.http_options.host == "127.0.0.1"


def test_its_values_are_the_defaults_where_it_does_not_say_otherwise():
    args = yaml.safe_load(DEPLOY.read_text())["applications"][0]["args"]
    plain = ServeSettings(bundles=args["bundles"])
    assert read_settings(args).limits == plain.limits


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bundle": {}}, "bundle"),
        ({"bundles": {}}, "bundles"),
        ({"bundles": {"a/b": "x"}}, "a/b"),
        ({"access": "password"}, "access"),
        ({"limits": {"max_showers": 0}}, "limits.max_showers"),
        ({"workers": {"replicas": 3, "max_replicas": 2}}, "below replicas"),
        ({"workers": {"cpu": 1}}, "workers.cpu"),
        ({"drain_s": float("nan")}, "drain_s"),
    ],
)
def test_settings_that_cannot_be(change, words):
    with pytest.raises(ConfigError, match=words):
        read_settings({"bundles": {"a": "x"}, **change})


def test_names_of_bundles(tmp_path):
    found = name_bundles(["runs/demo/bundle", "pions=runs/other/bundle", str(tmp_path / "mine")])
    assert found == {
        "demo": Path("runs/demo/bundle"),
        "pions": Path("runs/other/bundle"),
        "mine": tmp_path / "mine",
    }
    with pytest.raises(ConfigError, match="two bundles are called demo"):
        name_bundles(["a/demo/bundle", "b/demo/bundle"])
