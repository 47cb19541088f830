"""Run configs: everything is checked, and what is wrong is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from caloray.config import MAX_YAML, RunConfig, load_config
from caloray.errors import ConfigError
from caloray.training.config import TrainingConfig
from caloray.training.schedule import Constant, MultiStep, OneCycle

SHIPPED = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
CONFIGS = [path for path in SHIPPED if "\ndata:" in path.read_text()]  # the others: campaigns, a service
SMALL = """
name: small
output: runs/small
data: {files: [a.hdf5]}
training:
  first_layer: {epochs: 3}
"""


@pytest.fixture
def write(tmp_path):
    """A config file with the given text."""

    def file(text: str = SMALL) -> Path:
        (tmp_path / "run.yaml").write_text(text)
        return tmp_path / "run.yaml"

    return file


def refused(path: Path, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert caught.value.exit_code == 78
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_reloads_from_its_dump(path, tmp_path):
    config = load_config(path)
    assert config.name == path.stem.replace("_", "-") or config.name == path.stem
    (tmp_path / "dump.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    again = load_config(tmp_path / "dump.yaml")
    assert again == config
    assert again.model_dump(mode="json") == config.model_dump(mode="json")


def test_there_are_the_four_shipped_ones():
    assert {"demo", "par04_ds2", "icaloflow_ds2", "icaloflow_ds3"} <= {path.stem for path in CONFIGS}


def test_defaults_fill_what_is_left_out(write):
    config = load_config(write())
    assert config.seed == 1
    assert config.training_of("first_layer").epochs == 3
    assert config.training_of("next_layer") == TrainingConfig()
    assert config.workers_of("next_layer").workers == 1
    assert config.output == Path("runs/small")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("sede: 1", "unknown key sede, did you mean 'seed'?"),
        ("cluster: {adress: auto}", "unknown key cluster.adress, did you mean 'address'?"),
        ("scheme: {kind: inductive, treshold: 1}", "treshold, did you mean 'threshold'?"),
        (
            "scheme: {flows: {next_layer: {hiden: 3}}}",
            "unknown key scheme.flows.next_layer.hiden, did you mean 'hidden'?",
        ),
        (
            "scheme: {flows: {first_layer: {spline: {bin: 3}}}}",
            "first_layer.spline.bin, did you mean 'bins'?",
        ),
        ("workers: {next_layer: {gpu: 1}}", "unknown key workers.next_layer.gpu, did you mean 'gpus'?"),
        (
            "workers: {next-layer: {gpus: 1}}",
            "workers.next-layer: no such component, did you mean 'next_layer'?",
        ),
        (
            "workers: {flow3: {gpus: 1}}",
            "workers.flow3: no such component, known: layer_energies, first_layer",
        ),
        ("generation: {backend: nativ}", "generation.backend: Input should be"),
        ("generation: {backend: nativ}", "(found 'nativ'), did you mean 'native'?"),
        ("workers: {1: {gpus: 1}}", "workers.1: no such component"),
    ],
)
def test_unknown_keys_are_refused_with_a_suggestion(write, extra, message):
    error = refused(write(SMALL + extra))
    assert message in error.message
    assert "run.yaml" in error.message
    assert "caloray config schema" in error.hint


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.first_layer.epoch=3", "training.first_layer.epoch, did you mean 'epochs'?"),
        (
            "training.first_layr.epochs=3",
            "training.first_layr: no such component, did you mean 'first_layer'?",
        ),
        ("seed=-1", "seed: .*greater than or equal to 0"),
        ("seed=1.5", "seed: .*integer"),
        ("seed=2_000_000_000_000_000_000_000", "seed: .*less than"),
        ("name=a/b", r"name: .*pattern.*\(found 'a/b'\)"),
        ("training.first_layer.epochs=0", "epochs: .*greater than or equal to 1"),
        ("training.first_layer.schedule.kind=linear", "schedule.kind: .linear. is none of"),
        ("training.first_layer.learning_rate=.nan", "learning_rate: "),
        ("cluster.object_store_gb=.inf", "cluster.object_store_gb: .*finite"),
        ("scheme.rescale=none", "scheme.*rescale: .*'renormalise', 'noise-corrected' or 'published'"),
        ("data.files=[]", "data.files: "),
        ("data.split.train=2", "data.split"),
        ("block_size=100000", "block_size: .*less than or equal to 65536"),
    ],
)
def test_values_that_cannot_be(write, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(), [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1e6", r"seed: .*\(found '1e6'\), write 1000000 \(YAML reads 1e6 as text\)"),
        ("training.first_layer.epochs=2E1", r"epochs: .*, write 20 \(YAML reads 2E1 as text\)"),
        ("block_size=1.0e3", r"block_size: .*, write 1000 \("),
        ("seed='15e-1'", r"seed: .*\(found '15e-1'\), a whole number is expected"),
        ("seed=1e99", r"seed: .*\(found '1e99'\)$"),
        ("seed=1e23", "write 100000000000000000000000 "),
        ("seed=many", r"seed: .*\(found 'many'\)$"),
        ("seed=inf", r"seed: .*\(found 'inf'\)$"),
    ],
)
def test_numbers_that_yaml_reads_as_text(write, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(), [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=true", r"seed: expected a number \(found true\)"),
        (
            "training.first_layer.epochs=yes",
            r"training\.first_layer\.epochs: expected a number \(found true\)",
        ),
        (
            "training.first_layer.schedule={kind: multistep, milestones: [on]}",
            r"milestones\.0: expected a number",
        ),
        ("training.first_layer.learning_rate=true", r"learning_rate: expected a number \(found true\)"),
    ],
)
def test_true_is_no_number(write, override, message):
    with pytest.raises(ConfigError, match=message) as refused:
        load_config(write(), [override])
    assert "\n" not in str(refused.value)


def test_all_problems_are_counted_and_missing_keys_named(write):
    assert "missing key data; and 1 more" in refused(write("name: a\nsede: 1\noutput: b")).message
    assert "missing key name" in refused(write("{data: {files: [a]}, output: b}")).message


def test_overrides_are_nested_yaml(write):
    config = load_config(
        write(),
        [
            "seed=7",
            "name=other",
            "training.next_layer.epochs=9",
            "training.next_layer.schedule={kind: multistep, milestones: [1, 2]}",
            "training.first_layer.schedule.kind=constant",
            "training.first_layer.clip=null",
            "training.first_layer.learning_rate=2.0e-4",
            "data.files=[x.hdf5, y.hdf5]",
            "cluster.allow_unauthenticated=true",
            "output=runs/with=sign",
        ],
    )
    assert (config.seed, config.name, config.output) == (7, "other", Path("runs/with=sign"))
    assert config.training_of("next_layer").epochs == 9
    assert config.training_of("next_layer").schedule == MultiStep(kind="multistep", milestones=(1, 2))
    assert config.training_of("first_layer").schedule == Constant(kind="constant")
    assert config.training_of("first_layer").epochs == 3
    assert config.training_of("first_layer").clip is None
    assert config.training_of("first_layer").learning_rate == 2e-4
    assert config.data.files == (Path("x.hdf5"), Path("y.hdf5"))
    assert config.cluster.allow_unauthenticated is True
    assert config.training_of("layer_energies").schedule == OneCycle()


def test_later_overrides_win(write):
    assert load_config(write(), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "expected dotted.name=value"),
        ("=3", "expected dotted.name=value"),
        ("a..b=3", "expected dotted.name=value"),
        ("", "expected dotted.name=value"),
        ("name.first=3", "name is a value, not a section"),
        ("data.files.0=a", "files is a value, not a section"),
        ("seed=[1", "not valid YAML"),
        ("seed=!!python/object/apply:os.getpid []", "not valid YAML"),
    ],
)
def test_overrides_that_say_nothing(write, override, message):
    assert message in refused(write(), override).message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML"),
        ("[1, 2]", "expected a mapping at the top, found list"),
        ("hello", "expected a mapping at the top, found str"),
        ("", "expected a mapping at the top, found NoneType"),
        ("[" * 5000, "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
    ],
    ids=["broken", "list", "string", "empty", "deep", "two documents"],
)
def test_what_is_no_config(write, text, message):
    assert message in refused(write(text)).message


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir [evil]",
        "!!python/name:os.system",
        "!!python/object/new:os.mkdir [evil]",
    ],
)
def test_python_objects_in_yaml_are_refused_and_not_executed(write, tag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "not valid YAML" in refused(write(SMALL + f"seed: {tag}")).message
    assert not (tmp_path / "evil").exists()


def test_files_that_cannot_be_read(tmp_path):
    assert "No such file" in refused(tmp_path / "absent.yaml").message
    assert "Is a directory" in refused(tmp_path).message
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x89HDF")
    assert "not a text file" in refused(tmp_path / "binary.yaml").message
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(MAX_YAML + 1)
    assert f"larger than {MAX_YAML} bytes" in refused(tmp_path / "big.yaml").message


def test_a_bomb_of_aliases_gives_a_short_message(write):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    text = SMALL + "\n".join(levels) + "\nseed: *a8\n"
    assert len(refused(write(text)).message) < 500
    assert len(refused(write(SMALL + "seed: " + "x" * 10_000)).message) < 500


def test_a_config_cannot_be_changed_after_loading(write):
    config = load_config(write())
    with pytest.raises(ValidationError):
        config.seed = 3
    with pytest.raises(ValidationError):
        config.data.split_seed = 3
    with pytest.raises(ValidationError):
        config.training_of("first_layer").epochs = 4


def test_no_settings_class_accepts_unknown_keys():
    """A typing error must never be taken for a setting, in any section."""
    schema = RunConfig.model_json_schema()
    objects = [schema, *(part for part in schema["$defs"].values() if part.get("type") == "object")]
    assert len(objects) > 10
    assert [part["title"] for part in objects if part.get("additionalProperties") is not False] == []


def test_a_key_that_stands_twice_is_refused(tmp_path):
    file = tmp_path / "twice.yaml"
    file.write_text("name: a\nseed: 1\noutput: x\nseed: 7\n")
    with pytest.raises(ConfigError, match="'seed' stands twice"):
        load_config(file)


LAYERWISE = """
name: layers
output: runs/layers
data: {files: [a.hdf5]}
scheme: {kind: layerwise, flows: {layer: {blocks: 2, hidden: 8}}}
training:
  layer: {epochs: 4}
  layer_07: {epochs: 9, warm_start: previous}
workers:
  layer: {cpus: 0.5, gpus: 0.25}
"""


def test_a_group_stands_for_all_its_layers_and_the_own_name_wins(write):
    config = load_config(write(LAYERWISE))
    assert config.training_of("layer_00").epochs == config.training_of("layer_44").epochs == 4
    assert config.training_of("layer_07").epochs == 9
    assert config.training_of("layer_07").warm_start == "previous"
    assert config.training_of("layer_06").warm_start is None
    assert config.training_of("layer_energies") == TrainingConfig()
    assert config.workers_of("layer_12").gpus == 0.25
    assert config.workers_of("layer_energies").gpus == 0
    assert config.cluster.max_trainers is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.layre.epochs=3", "training.layre: no such component, did you mean 'layer'?"),
        ("training.layer_5.epochs=3", "training.layer_5: no such component, did you mean 'layer_05'?"),
        ("workers.layer7.cpus=1", "workers.layer7: no such component, did you mean 'layer_07'?"),
        ("training.layers.epochs=3", "training.layers: no such component, did you mean 'layer'?"),
        ("training.next_layer.epochs=3", "training.next_layer: no such component"),
        ("training.layer.warm_strat=previous", "training.layer.warm_strat, did you mean 'warm_start'?"),
        ("training.layer.warm_start=''", "training.layer.warm_start: .*at least 1 character"),
        ("scheme.kind=layerwse", "scheme.kind: 'layerwse' is none of .*, did you mean 'layerwise'?"),
        ("scheme.treshold=3", "unknown key scheme.treshold, did you mean 'threshold'?"),
        ("cluster.max_trainers=0", "cluster.max_trainers: .*greater than or equal to 1"),
    ],
)
def test_keys_of_the_layerwise_scheme(write, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(LAYERWISE), [override])


def test_a_shared_network_has_no_single_layers(write):
    shared = ["scheme.network=shared", "workers={}", "training={layers: {epochs: 7}}"]
    config = load_config(write(LAYERWISE), shared)
    assert config.training_of("layers").epochs == 7
    with pytest.raises(ConfigError, match=r"training\.layer_07: no such component"):
        load_config(write(LAYERWISE), [*shared, "training.layer_07.epochs=3"])
