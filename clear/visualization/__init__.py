"""Tables, figures and reports, drawn from `results.json`. matplotlib is imported when a figure is drawn."""

from clear.visualization.comparison import RunGroup, comparison_figures, group_runs
from clear.visualization.figures import draw_figures, run_figures, write_figures
from clear.visualization.report import write_report
from clear.visualization.tables import format_comparison, format_matrix, format_metrics

__all__ = ['RunGroup', 'comparison_figures', 'draw_figures', 'format_comparison', 'format_matrix', 'format_metrics',
           'group_runs', 'run_figures', 'write_figures', 'write_report']
