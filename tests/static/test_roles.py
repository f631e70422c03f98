"""What every role keeps to: one place per fact, declared inputs, no reading of other roles' variables."""

import re
from pathlib import Path
from typing import Any

import pytest
from project import ROLES, ROOT, defaults, files_of, load, options

from app_exporter.scrape import Settings
from praetor.host.layout import Layout

TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}
NESTED = ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always")
FORBIDDEN = {"shell", "lineinfile", "raw"}


def each_option() -> list[tuple[str, str]]:
    """Return every declared input of every role."""
    return [(role, name) for role in ROLES for name in options(role)]


def tasks(value: Any) -> list[dict[str, Any]]:
    """Return all tasks of a YAML document, those inside of blocks and plays too."""
    if isinstance(value, list):
        return [task for item in value for task in tasks(item)]
    if not isinstance(value, dict):
        return []
    return [value, *(task for key in NESTED for task in tasks(value.get(key)))]


def task_files() -> list[str]:
    """Return every file of tasks or plays."""
    found = files_of("roles/*/tasks/*.yml", "roles/*/handlers/*.yml", "playbooks/*.yml", "molecule/*/*.yml")
    return [path.relative_to(ROOT).as_posix() for path in found]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_explains_itself_in_10_to_25_lines(role: str) -> None:
    lines = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8").splitlines()
    assert 10 <= len(lines) <= 25
    assert lines[0] == f"# {role}"


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_declared_inputs_are_the_same(role: str) -> None:
    path = ROOT / "roles" / role / "defaults" / "main.yml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    without_value = set(re.findall(r"^# ([a-z0-9_]+):", text, re.MULTILINE))
    given = set(defaults(role))
    declared = set(options(role))
    assert given - declared == set(), "defaults that argument_specs.yml does not declare"
    assert declared - given - without_value == set(), (
        "inputs without a default, and not as `# name:` in defaults/main.yml"
    )
    required = {name for name, option in options(role).items() if option.get("required")}
    assert required & given == set(), "required inputs that have a default"


@pytest.mark.parametrize(("role", "name"), each_option())
def test_an_input_is_named_typed_and_described(role: str, name: str) -> None:
    option = options(role)[name]
    assert name.startswith(f"{role}_")
    assert option.get("type") in TYPES, "type"
    assert str(option.get("description", "")).strip().endswith("."), "a description in sentences"
    assert "default" not in option, "a default belongs into defaults/main.yml only"
    if option["type"] == "list":
        assert option.get("elements"), "elements of the list"


@pytest.mark.parametrize(("role", "name"), [(role, name) for role in ROLES for name in defaults(role)])
def test_a_default_is_of_its_declared_type(role: str, name: str) -> None:
    value = defaults(role)[name]
    option = options(role)[name]
    if isinstance(value, str) and "{{" in value:
        return
    assert isinstance(value, TYPES[option["type"]])
    assert isinstance(value, bool) == (option["type"] == "bool")
    if "choices" in option:
        assert value in option["choices"]


def test_a_place_that_the_engine_and_the_exporter_know_is_no_input() -> None:
    """Another value would have no effect on them, so nothing of the app would be found there."""
    known = {str(place) for place in (*Layout(), Settings.run, Settings.apps, Settings.logs, Settings.certificates)}
    assert [
        f"{role}: {name}" for role in ROLES for name, value in defaults(role).items() if str(value).rstrip("/") in known
    ] == []


def test_the_place_of_apps_is_one_wherever_it_is_written() -> None:
    product = files_of(*(f"{folder}/**/*.*" for folder in ("src", "roles", "plugins", "playbooks", "container")))
    texts = {path: path.read_text(encoding="utf-8") for path in product}
    wrong = {
        f"{path.relative_to(ROOT)}: {place}"
        for path, text in texts.items()
        for place in re.findall(r"(?<![\w.])/srv/\w+", text)
        if place != str(Layout().apps)
    }
    assert not wrong


def test_the_backlog_of_a_slot_is_granted_by_the_kernel_and_told_by_its_runbook() -> None:
    template = (ROOT / "roles/flask_app/templates/vassal.ini.j2").read_text(encoding="utf-8")
    [listen] = map(int, re.findall(r"(?m)^listen = (\d+)$", template))
    assert listen <= defaults("base")["base_sysctl"]["net.core.somaxconn"], "uWSGI would not start"
    assert f"{listen} connections" in (ROOT / "docs/runbooks/BacklogFilling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reads_no_variable_of_another_role(role: str) -> None:
    foreign = {name for other in ROLES if other != role for name in options(other)}
    folders = ("tasks", "templates", "handlers", "vars", "defaults")
    sources = files_of(*(f"roles/{role}/{folder}/**/*" for folder in folders))
    read = {word for path in sources for word in re.findall(r"[a-z][a-z0-9_]+", path.read_text(encoding="utf-8"))}
    assert read & foreign == set()


def whole_templates() -> list[str]:
    """Return every template that becomes a whole file, not a part that another one includes."""
    found = files_of("roles/*/templates/**/*")
    included = {
        name for path in found for name in re.findall(r"include [\"'](\S+?)[\"']", path.read_text(encoding="utf-8"))
    }
    whole = [path.relative_to(ROOT).as_posix() for path in found if path.name not in included]
    # These are rendered by a release, which puts them on the host.
    whole.remove("roles/nginx/templates/site.conf.j2")
    whole.remove("roles/flask_app/templates/command.service.j2")
    whole.remove("roles/flask_app/templates/job.service.j2")
    whole.remove("roles/flask_app/templates/job.timer.j2")
    whole.remove("roles/flask_app/templates/process.service.j2")
    return whole


@pytest.mark.parametrize("path", whole_templates())
def test_a_template_says_who_wrote_the_file(path: str) -> None:
    role = Path(path).parts[1]
    first = (ROOT / path).read_text(encoding="utf-8").splitlines()[:2]
    assert f"# Managed by Ansible: roles/{role}. Changes here are overwritten." in first


# Modules of Ansible that make a temporary file on the host.
HOSTS_TMP = "/var/tmp"  # noqa: S108  Debian has it on every host
MAKE_FILES = {"assemble", "blockinfile", "deb822_repository", "get_url", "git", "lineinfile", "replace", "uri"}


@pytest.mark.parametrize("path", [path for path in task_files() if path.startswith(("roles/", "playbooks/"))])
def test_a_module_with_a_temporary_file_is_told_a_place_that_is_there(path: str) -> None:
    makers = [
        task
        for task in tasks(load(ROOT / path))
        if MAKE_FILES & {name.removeprefix("ansible.builtin.") for name in task}
    ]
    assert [task["name"] for task in makers if task.get("vars", {}).get("ansible_remote_tmp") != HOSTS_TMP] == []


@pytest.mark.parametrize("path", task_files())
def test_tasks_use_no_forbidden_module_and_ignore_no_error(path: str) -> None:
    for task in tasks(load(ROOT / path)):
        words = {key.rpartition(".")[2] for key in task}
        assert words & FORBIDDEN == set(), task.get("name")
        assert "ignore_errors" not in task, task.get("name")
        assert not re.fullmatch(r"\S+ is changed", str(task.get("when", ""))), f"{task['name']}: notify a handler"


@pytest.mark.parametrize("path", [path for path in task_files() if "/handlers/" in path])
def test_a_handler_has_a_name_that_says_what_it_does(path: str) -> None:
    for handler in tasks(load(ROOT / path)):
        assert re.match(r"(Reload|Restart|Start|Stop|Apply|Load|Wait|Check) \S", handler["name"])


@pytest.mark.parametrize(
    "path", [path.relative_to(ROOT).as_posix() for path in files_of("roles/**/*.*", "playbooks/**/*.yml")]
)
def test_no_template_computes_what_a_filter_of_ours_can_be_tested_for(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    for template in re.findall(r"\{[{%].*?[%}]\}", text, re.DOTALL):
        found = re.findall(r"\bzip\b|\bregex_\w+|\bnamespace\(|\bitems2dict }}|\bcombine\(.*\bcombine\(", template)
        assert not found, f"{path}: {template}: a filter in plugins/filter has a type and a test"
