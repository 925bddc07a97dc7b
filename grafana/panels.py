"""What the dashboards' panels have in common: a calm look, and no panel without unit and description."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    GridPos,
    MatcherConfig,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = looks.DataSourceRef(type_val="prometheus", uid="prometheus")
WIDTH = 24
BLUE, GREY, GREEN, ORANGE, RED = "#3274D9", "#9FA7B3", "#56A64B", "#FF9830", "#E02F44"

Queries = Mapping[str, str]
"""Expressions by their legend, which may name labels: `{{site}}`."""
Steps = Sequence[tuple[float, str]]
"""From which value on it has which colour."""
Panel = bargauge.Panel | stat.Panel | table.Panel | timeseries.Panel


def queries(legends: Queries, *, instant: bool = False) -> Iterator[prometheus.Dataquery]:
    for place, (legend, expr) in enumerate(legends.items()):
        query = prometheus.Dataquery().datasource(SOURCE).ref_id(chr(ord("A") + place)).expr(expr)
        query.legend_format(legend)
        yield query.instant() if instant else query.range()


def steps(base: str, more: Steps) -> dashboard.ThresholdsConfig:
    levels = [Threshold(None, base), *(Threshold(value, color) for value, color in more)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(levels)


def fixed(color: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(FieldColorModeId.FIXED).fixed_color(color)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)


def number(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str = "locale",
    base: str = BLUE,
    thresholds: Steps = (),
) -> stat.Panel:
    """One big number, of this moment: that of a range would be the last step's, and differ from the box."""
    panel = stat.Panel().title(title).description(description).datasource(SOURCE).unit(unit)
    panel.thresholds(steps(base, thresholds)).color_mode(looks.BigValueColorMode.VALUE)
    panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
    panel.graph_mode(looks.BigValueGraphMode.NONE)
    panel.justify_mode(looks.BigValueJustifyMode.CENTER).text_mode(looks.BigValueTextMode.VALUE)
    panel.reduce_options(_last()).no_value("–")
    return panel.targets(list(queries({title: expr}, instant=True)))


def lines(
    title: str,
    description: str,
    legends: Queries,
    *,
    unit: str,
    colors: Mapping[str, str] | None = None,
    dashed: Sequence[str] = (),
    thresholds: Steps = (),
) -> timeseries.Panel:
    """Lines over time. A threshold is a line across; a `dashed` legend is beside the others."""
    panel = timeseries.Panel().title(title).description(description).datasource(SOURCE).unit(unit).min(0)
    panel.line_width(2).fill_opacity(0 if dashed else 8).show_points(looks.VisibilityMode.NEVER)
    panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.thresholds(steps("transparent", thresholds))
    if thresholds:
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED)
        )
    legend = (
        common.VizLegendOptions().display_mode(looks.LegendDisplayMode.LIST).show_legend(show_legend=True)
    )
    panel.legend(legend.placement(looks.LegendPlacement.BOTTOM).calcs([]))
    panel.tooltip(
        common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING)
    )
    for name, color in (colors or {}).items():
        look = [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})]
        if name in dashed:
            look.append(DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [6, 6]}))
        # Not byName: the schema wants an object for a matcher's options.
        panel.with_override(MatcherConfig("byNames", {"mode": "include", "names": [name]}), look)
    return panel.targets(list(queries(legends)))


def ranked(title: str, description: str, legends: Queries, *, unit: str = "locale") -> bargauge.Panel:
    """Bars, as they come from the query: the longest first."""
    panel = bargauge.Panel().title(title).description(description).datasource(SOURCE).unit(unit).min(0)
    panel.orientation(looks.VizOrientation.HORIZONTAL).display_mode(looks.BarGaugeDisplayMode.BASIC)
    panel.sizing(looks.BarGaugeSizing.MANUAL).min_viz_height(16).max_viz_height(36)
    panel.value_mode(looks.BarGaugeValueMode.TEXT).thresholds(steps(BLUE, ())).color_scheme(fixed(BLUE))
    panel.reduce_options(_last()).no_value("–")
    return panel.targets(list(queries(legends, instant=True)))


def grid(title: str, description: str, columns: Queries, *, by: str, sort: str) -> table.Panel:
    """A row for each value of the label `by`, a column for each query."""
    panel = table.Panel().title(title).description(description).datasource(SOURCE).unit("locale")
    panel.thresholds(steps("text", ())).filterable(False)
    targets = [query.format(PromQueryFormat.TABLE) for query in queries(columns, instant=True)]
    names = {f"Value #{chr(ord('A') + place)}": name for place, name in enumerate(columns)}
    panel.with_transformation(_transform("merge", {}))
    order = {by: 0} | {value: place for place, value in enumerate(names, 1)}
    panel.with_transformation(
        _transform(
            "organize",
            {
                "excludeByName": {"Time": True},
                "indexByName": order,
                "renameByName": {by: by.capitalize(), **names},
            },
        )
    )
    panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    return panel.targets(list(targets))


def _transform(name: str, options: dict[str, object]) -> DataTransformerConfig:
    return DataTransformerConfig(id_val=name, options=options)


def choice(name: str, label: str, description: str, query: str) -> dashboard.QueryVariable:
    """A variable with everything chosen at first."""
    variable = dashboard.QueryVariable(name).label(label).description(description).datasource(SOURCE)
    variable.query(query).definition(query).multi(True)
    variable.include_all(True).all_value(".+").sort(VariableSort.ALPHABETICAL_ASC)
    variable.current(VariableOption(selected=True, text="All", value="$__all"))
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def board(title: str, uid: str, description: str, since: str) -> dashboard.Dashboard:
    made = dashboard.Dashboard(title).uid(uid).description(description).tags(["statsvc"])
    made.time(since, "now").refresh("30s").timezone("browser").readonly().version(1)
    return made.tooltip(DashboardCursorSync.CROSSHAIR)


class Rows:
    """Puts panels onto a dashboard from left to right, row by row, as wide as they are said to be."""

    def __init__(self, onto: dashboard.Dashboard) -> None:
        self._onto = onto
        self._ids = count(1)
        self._y = 0

    def heading(self, title: str) -> None:
        row = dashboard.Row(title).id(next(self._ids)).collapsed(False)
        self._onto.with_row(row.grid_pos(GridPos(x=0, y=self._y, w=WIDTH, h=1)))
        self._y += 1

    def add(self, height: int, *panels: Panel, widths: Sequence[int] = ()) -> None:
        """Without `widths` the panels are equally wide."""
        x = 0
        for panel, width in zip(panels, widths or [WIDTH // len(panels)] * len(panels), strict=True):
            place = GridPos(x=x, y=self._y, w=width, h=height)
            self._onto.with_panel(panel.id(next(self._ids)).grid_pos(place))
            x += width
        self._y += height
