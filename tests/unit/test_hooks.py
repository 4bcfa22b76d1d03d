import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest
import torch

import zoo
from zoo.errors import MissingComponentError, PluginError
from zoo.registry.hookspecs import Hooks
from zoo.registry.kinds import KINDS
from zoo.registry.manager import Registry, add_plugin_file, load_registry, registry
from zoo.registry.plugin_files import copy_plugins, missing_plugin

Loader = tuple[str, Callable[[], ModuleType]]

ONE_FILE = '''
import zoo

class Config(zoo.ComponentConfig):
    """Nothing to set."""

@zoo.hookimpl
def register_heads():
    words = dict(summary="s", config_class=Config, tasks=("offset",))
    return [zoo.HeadSpec(name="{name}", build=lambda c, i: None, **words)]
'''


def plugin(name: str, **hooks: Callable[[], object]) -> Loader:
    """Make a plugin out of functions named like hooks."""
    module = ModuleType(name)
    for hook, function in hooks.items():
        setattr(module, hook, zoo.hookimpl(specname=hook)(function))
    return name, lambda: module


WORDS: dict[str, Any] = {"summary": "s", "config_class": zoo.ComponentConfig}


def head(name: str, **changes: Any) -> zoo.HeadSpec:
    given = {"name": name, "build": lambda c, i: None, "tasks": ("offset",), **WORDS, **changes}
    return zoo.HeadSpec(**given)


def assert_reported(found: Registry, name: str, *words: str) -> None:
    (failure,) = found.failures
    assert failure.plugin == name
    for word in words:
        assert word in failure.reason


def test_what_plugins_return_is_found_by_name() -> None:
    found = load_registry([plugin("one", register_heads=lambda: [head("a"), head("b")])])
    assert list(found.heads) == ["a", "b"]
    assert found.head("a").name == "a"
    assert found.plugins["heads a"] == "one"


@pytest.mark.parametrize("error", [ImportError("no module named 'flux'"), SystemExit("no flux")])
def test_a_plugin_that_does_not_import_is_reported_and_skipped(error: BaseException) -> None:
    def load() -> ModuleType:
        raise error

    good = plugin("good", register_heads=lambda: [head("a")])
    found = load_registry([("bad", load), good])
    assert_reported(found, "bad", type(error).__name__, "flux")
    assert list(found.heads) == ["a"]


def test_a_plugin_that_fails_halfway_leaves_no_trace() -> None:
    def fail() -> list[zoo.ObjectiveSpec]:
        raise RuntimeError("out of luck")

    bad = plugin("bad", register_heads=lambda: [head("a")], register_objectives=fail)
    good = plugin("good", register_heads=lambda: [head("a")])
    found = load_registry([bad, good])
    assert_reported(found, "bad", "out of luck")
    assert found.plugins == {"heads a": "good"}


def test_a_plugin_that_returns_something_else_is_reported() -> None:
    one = zoo.PairSpec(name="a", summary="s", audio="ast", vision="s3d")
    for given, said in (
        (3, "int"),
        (head("a"), "HeadSpec"),
        ([one], "PairSpec"),
        (None, "nothing"),
    ):
        found = load_registry([plugin("bad", register_heads=lambda given=given: given)])
        words = f"register_heads returns {said}; it must return a list of zoo.HeadSpec"
        assert_reported(found, "bad", words)
        assert found.plugins == {}


def test_hooks_that_nobody_calls_are_reported() -> None:
    def load(**members: object) -> Registry:
        module = ModuleType("bad")
        vars(module).update(members)
        return load_registry([("bad", lambda: module)])

    def register_head() -> list[zoo.HeadSpec]:
        return []

    words = "there is no hook 'register_head'; did you mean 'register_heads'?"
    assert_reported(load(register_head=zoo.hookimpl(register_head)), "bad", words)
    words = "register_heads is not marked as a hook; put @zoo.hookimpl above it"
    assert_reported(load(register_heads=lambda: []), "bad", words)
    assert_reported(load(), "bad", "it has no hook: a plugin has functions such as")


def objective(build: Callable[..., Any]) -> zoo.ObjectiveSpec:
    return zoo.ObjectiveSpec(name="a", build=build, **WORDS)


FORMER = {
    "a pair": (
        {"register_pairs": lambda: []},
        "register_pairs is a hook of earlier versions: rename it to register_encoders, which",
    ),
    "keeps_positions": (
        {"register_aggregators": lambda: [zoo.AggregatorSpec(keeps_positions=True, **WORDS)]},
        "AggregatorSpec '' has no keeps_positions any more: say how many tokens a time step gets",
    ),
    "no tasks": (
        {"register_heads": lambda: [head("a", tasks=())]},
        "HeadSpec 'a' names no task: say whose outputs it gives, such as tasks=('offset',)",
    ),
    "task": (
        {"register_heads": lambda: [head("a", task="offset")]},
        "HeadSpec 'a' has no task any more: name the tasks whose outputs it gives",
    ),
    "synchronizability": (
        {"register_heads": lambda: [head("a", synchronizability=lambda c, i: None)]},
        "HeadSpec 'a' has no synchronizability any more: register the head that starts from this",
    ),
    "build of one argument": (
        {"register_objectives": lambda: [objective(lambda config: None)]},
        "build of objective 'a' takes (config); it must take (config, encoder)",
    ),
}


@pytest.mark.parametrize("name", FORMER)
def test_a_plugin_of_an_earlier_version_says_what_to_change(name: str) -> None:
    hooks, words = FORMER[name]
    found = load_registry([plugin("old", **hooks)])  # type: ignore[arg-type]
    assert_reported(found, "old", words)


def test_what_has_moved_says_where_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "old.py"
    file.write_text("from zoo.modules import Objective, SegmentBatch\n")
    monkeypatch.setenv("ZOO_PLUGINS", str(file))
    words = "the module zoo.modules has moved: import zoo.models.modules; what it calls Segment"
    assert_reported(load_registry(), "old", words)
    with pytest.raises(AttributeError, match=r"SegmentBatch is zoo\.Segments now"):
        _ = zoo.SegmentBatch


def test_an_objective_that_takes_two_towers_says_what_to_change() -> None:
    with pytest.raises(PluginError, match=r"it must take \(self, encoder, segments, gather\), whe"):

        class Old(zoo.Objective):
            def forward(self, audio_tower, vision_tower, batch, gather): ...


def test_tokens_say_what_to_take_where_a_tensor_is_wanted() -> None:
    tokens = zoo.Tokens(torch.zeros(1, 2, 3, 1, 4), (0.0, 0.1, 0.2))
    with pytest.raises(
        AttributeError, match=r"Tokens have no 'mean': take \.flat \(B, S\*T\*P, D\)"
    ):
        tokens.mean(1)
    with pytest.raises(TypeError, match=r"Tokens are no tensor: take \.flat"):
        torch.nn.Linear(4, 2)(tokens)
    assert not hasattr(tokens, "__deepcopy__")


def test_the_hooks_are_those_of_the_table() -> None:
    for kind in KINDS.values():
        returned = get_type_hints(getattr(Hooks, kind.hook))["return"]
        (listed,) = get_args(returned)
        assert set(get_args(listed) or (listed,)) == set(kind.specs)
        assert registry().of_kind(kind)
    hooks = {name for name in vars(Hooks) if name.startswith("register_")}
    assert hooks == {kind.hook for kind in KINDS.values()}


@pytest.mark.parametrize("name", ["", "a+b", "a=b", "a b", "+"])
def test_a_name_that_nobody_can_type_is_reported(name: str) -> None:
    found = load_registry([plugin("bad", register_heads=lambda: [head(name)])])
    assert_reported(found, "bad", f"head '{name}' cannot be chosen by that name")


def test_of_two_plugins_with_one_name_the_first_stays_and_the_second_is_reported() -> None:
    first, second = (plugin(n, register_heads=lambda: [head("a")]) for n in ("one", "two"))
    found = load_registry([first, second])
    assert_reported(found, "two", "'one' and 'two' both register head 'a'; uninstall or rename")
    assert found.plugins == {"heads a": "one"}
    with pytest.raises(PluginError, match=r"unknown head 'b'.*plugin 'two' was skipped: plugins"):
        found.head("b")


def test_a_plugin_that_registers_a_name_twice_is_reported() -> None:
    found = load_registry([plugin("one", register_heads=lambda: [head("a"), head("a")])])
    assert_reported(found, "one", "it registers head 'a' twice; rename one of the two")
    assert found.heads == {}


def test_a_file_that_is_named_like_a_plugin_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sync.py"
    file.write_text(ONE_FILE.format(name="other_head"))
    monkeypatch.setenv("ZOO_PLUGINS", str(file))
    found = load_registry()
    assert_reported(found, "sync", "another plugin is named 'sync'")
    assert found.plugins["heads sync"] == "sync"
    assert "other_head" not in found.heads


def test_names_of_our_own_stay_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of a third party that comes earlier in the alphabet takes no model away."""
    installed = tmp_path / "aaa-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: aaa\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[zoo]\naaa = aaa_plugin\n")
    (tmp_path / "aaa_plugin.py").write_text(ONE_FILE.format(name="sync"))
    monkeypatch.syspath_prepend(tmp_path)
    found = load_registry()
    assert_reported(found, "aaa", "'sync' and 'aaa' both register head 'sync'")
    assert found.plugins["heads sync"] == "sync"


def test_the_folder_of_a_package_is_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "zoo_parts"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from zoo_parts.name import NAME\n" + ONE_FILE.replace('"{name}"', "NAME")
    )
    (folder / "name.py").write_text("NAME = 'in_parts'\n")
    monkeypatch.setenv("ZOO_PLUGINS", str(folder))
    for _ in range(2):
        assert load_registry().plugins["heads in_parts"] == "zoo_parts"
    with pytest.raises(PluginError, match=r"no plugin file at .*: it has no __init__\.py"):
        add_plugin_file(tmp_path)


def test_a_reason_says_in_which_line_of_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "typo.py"
    file.write_text("import zoo\n\nzoo.LogMel(n_mel=64)\n")
    monkeypatch.setenv("ZOO_PLUGINS", str(file))
    found = load_registry()
    assert_reported(found, "typo", "LogMel has no setting 'n_mel'", "(typo.py, line 3)")


def test_an_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(
        PluginError, match=r"unknown head 'snyc'; did you mean 'sync'\? See: zoo list heads"
    ):
        registry().head("snyc")
    with pytest.raises(PluginError, match="did you mean 'ast_motionformer'"):
        registry().encoder("ast_motionforme")
    with pytest.raises(PluginError, match=r"unknown dataset 'xyzzy'\. See"):
        registry().dataset("xyzzy")


def test_an_ad_hoc_pair_takes_its_parts_in_either_order() -> None:
    assert registry().encoder("ast+motionformer").audio == "ast"
    assert registry().encoder("motionformer+ast").audio == "ast"
    for wrong in ("ast+ast", "ast+motionformer+ast", "motionformer+"):
        with pytest.raises(PluginError):
            registry().encoder(wrong)


def test_a_single_file_is_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "extra.py"
    file.write_text(ONE_FILE.format(name="extra_head"))
    monkeypatch.setenv("ZOO_PLUGINS", str(file))
    found = load_registry()
    assert found.plugins["heads extra_head"] == "extra"
    assert "sync" in found.heads


def test_an_added_file_reaches_processes_started_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_PLUGINS", "")
    file = tmp_path / "added.py"
    file.write_text(ONE_FILE.format(name="added_head"))
    add_plugin_file(file)
    add_plugin_file(file)
    try:
        assert "added_head" in registry().heads
    finally:
        registry.cache_clear()
    assert os.environ["ZOO_PLUGINS"] == str(file)
    with pytest.raises(PluginError, match="no plugin file"):
        add_plugin_file(tmp_path / "missing.py")


def test_a_damaged_file_is_reported_and_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "damaged.py"
    file.write_text("def (")
    monkeypatch.setenv("ZOO_PLUGINS", str(file))
    found = load_registry()
    assert_reported(found, "damaged", "SyntaxError")
    assert "sync" in found.heads


def test_commands_are_registered_under_their_group() -> None:
    assert registry().commands["data synth"].group == "data"


def test_a_run_keeps_copies_of_plugins_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "extra.py"
    file.write_text(ONE_FILE.format(name="extra_head"))
    monkeypatch.setenv("ZOO_PLUGINS", os.pathsep.join([str(file), str(tmp_path / "none.py")]))
    kept = tmp_path / "run" / "plugins" / "extra.py"
    assert copy_plugins(tmp_path / "run") == [kept]
    assert kept.read_text() == file.read_text()
    monkeypatch.setenv("ZOO_PLUGINS", str(kept))
    assert copy_plugins(tmp_path / "run") == [kept]  # a resumed run that was given its own copies


def test_only_the_folder_of_a_run_is_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "other.py").touch()  # such as a checkout of this project
    error, origins = MissingComponentError("unknown head 'a'."), {"head a": "the package 'a 1.0'"}
    error.component = "head a"
    said = str(missing_plugin(error, tmp_path, origins))
    assert said == "unknown head 'a'.; it was made with the package 'a 1.0'; install it"
    assert missing_plugin(error, tmp_path, {}) is error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "ast",
            "'ast' reads audio only; join it with a vision extractor, such as extractor ast+",
        ),
        ("s3d", "'s3d' reads vision only; join it with an audio extractor"),
        ("ast+resnet18", "joined by '+': 'ast' reads audio and 'resnet18' reads audio; see: zoo l"),
        ("ast+", "'ast+' is not one audio and one vision extractor joined by '+'; see: zoo list"),
        ("ast+s3d+s3d", "'ast+s3d+s3d' is not one audio and one vision extractor"),
        ("ast+s3e", "unknown extractor 's3e'; did you mean 's3d'?"),
    ],
)
def test_what_is_no_pair_is_one_sentence(name: str, words: str) -> None:
    with pytest.raises(PluginError, match=r"^[^\n]*$") as caught:
        registry().encoder(name)
    assert words in str(caught.value)
