"""Writes Grafana's dashboards into this directory, with the panels of the consoles that Prometheus serves.

The consoles' graphs are the one place that says what is shown: title, query, legend, unit. `--check` writes nothing and
says what is not current.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh, VariableSort
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

ROOT = Path(__file__).resolve().parent.parent
CONSOLES = ROOT / "roles" / "prometheus" / "files" / "consoles"
SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
UNITS = {"s": "s", "%": "percentunit", "B": "bytes", "": "short"}
HALF = 12


@dataclass(frozen=True)
class Page:
    """A console, and what chooses one of its subjects: the variable, and the series whose label has all of them."""

    name: str
    title: str
    label: str = ""
    series: str = ""

    @property
    def selector(self) -> str:
        """What stands for `%s` in the console's queries."""
        return f'{self.label}="${self.label}"' if self.label else ""


PAGES = (
    Page("fleet", "Fleet"),
    Page("app", "App", "app", "praetor_slots"),
    Page("databases", "Databases"),
    Page("redis", "Redis"),
    Page("host", "Host", "instance", 'up{job!="blackbox"}'),
)


@dataclass(frozen=True)
class Graph:
    """One graph of a console."""

    title: str
    query: str
    legend: str
    unit: str
    top: float | None


def graphs(page: Page) -> list[Graph]:
    """Read the graphs out of a console.

    Raises:
        ValueError: one of them is written in another way than the others.

    """
    text = (CONSOLES / f"{page.name}.html").read_text(encoding="utf-8")
    found = []
    for figure in re.findall(r"<figure (.*?)</figure>", text, re.DOTALL):
        query = re.match(
            r'data-query="(?:\{\{ printf "(?P<printed>(?:\\"|[^"])*)"[^}]*\}\}|(?P<plain>(?:(?!\{\{)[^"])*))"', figure
        )
        caption = re.search(r"<figcaption>(.*?)(?: <small>(.*?)</small>)?</figcaption>", figure)
        if query is None or caption is None:
            raise ValueError(f"{page.name}.html: {figure}")
        printed = (query["printed"] or "").replace('\\"', '"').replace("%s", page.selector)
        data = dict(re.findall(r'data-(legend|unit|max)="([^"]*)"', figure))
        found.append(
            Graph(
                title=html.unescape(", ".join(part for part in caption.groups() if part)),
                query=html.unescape(query["plain"] or printed),
                legend=re.sub(r"\$(\w+)", r"{{\1}}", data["legend"]),
                unit=UNITS[data.get("unit", "")],
                top=float(data["max"]) if "max" in data else None,
            )
        )
    if len(found) != text.count("<figure"):
        raise ValueError(f"{page.name}.html: {text.count('<figure')} figures, {len(found)} read")
    return found


def _target(query: str, legend: str, ref: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query).legend_format(legend).ref_id(ref)


def _panel(graph: Graph) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(graph.title)
        .datasource(SOURCE)
        .unit(graph.unit)
        .min(0)
        .span(HALF)
        .height(8)
        .fill_opacity(0)
        .line_width(1.5)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)  # noqa: FBT003  # the SDK's way
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .with_target(_target(graph.query, graph.legend, "A"))
    )
    return panel if graph.top is None else panel.max(graph.top)


def _table(title: str, query: str) -> table.Panel:
    target = _target(query, "", "A").instant().format(PromQueryFormat.TABLE)
    return table.Panel().title(title).datasource(SOURCE).span(HALF).height(7).with_target(target)


def build(page: Page) -> dashboard.Dashboard:
    """Make a console's dashboard: its graphs, what fires, what is live, and a mark at each release."""
    inside = f"{{{page.selector}}}" if page.selector else ""
    firing = ",".join(part for part in ('alertstate="firing"', page.selector) if part)
    board = (
        dashboard.Dashboard(f"Praetor: {page.title}")
        .uid(f"praetor-{page.name}")
        .tags(["praetor"])
        .refresh("30s")
        .time("now-1h", "now")
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .annotation(
            dashboard.AnnotationQuery()
            .name("Releases")
            .datasource(SOURCE)
            .enable(True)  # noqa: FBT003  # the SDK's way
            .icon_color("purple")
            # Grafana draws what it gets for as long as it gets it: a minute for each release, in its labels what and who.
            .expr(f"praetor_deploy_timestamp_seconds{inside} > time() - 60")
        )
    )
    if page.label:
        choose = (
            dashboard.QueryVariable(page.label).datasource(SOURCE).query(f"label_values({page.series}, {page.label})")
        )
        board.with_variable(choose.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC))
    board.with_panel(_table("Alerts that fire", f"ALERTS{{{firing}}}"))
    board.with_panel(_table("Live releases", f"praetor_live_info{inside}"))
    for graph in graphs(page):
        board.with_panel(_panel(graph))
    return board


def main() -> int:
    """Write the dashboards, or say which are not current."""
    parser = argparse.ArgumentParser(description="Writes Grafana's dashboards from the consoles.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    arguments = parser.parse_args()
    stale = []
    for page in PAGES:
        path = Path(__file__).with_name(f"{page.name}.json")
        text = JSONEncoder(sort_keys=True, indent=2).encode(build(page).build()) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not arguments.check:
                path.write_text(text, encoding="utf-8")
    for name in stale if arguments.check else ():
        sys.stderr.write(f"grafana/{name} is not current: make dashboards\n")
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
