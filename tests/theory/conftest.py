import pytest


@pytest.fixture
def measured(record_property):
    """Hold a figure against its bound and keep it: ``pytest tests/theory -v`` lists them all."""

    def check(name, value, *, at_most=None, at_least=None):
        value = float(value)
        sign, bound = ("≤", at_most) if at_least is None else ("≥", at_least)
        record_property(name, (value, sign, float(bound)))
        kept = value <= bound if sign == "≤" else value >= bound
        assert kept, f"{name}: measured {value:.3g}, stated {sign} {bound:g}"

    return check


def pytest_terminal_summary(terminalreporter, config):
    if config.get_verbosity() < 1:
        return
    figures = {}
    for report in terminalreporter.getreports("passed"):
        if report.when == "call" and "theory/" in report.nodeid:
            file = report.nodeid.split("::")[0].split("/")[-1]
            for name, (value, sign, bound) in report.user_properties:
                figures.setdefault((file, name, sign, bound), []).append(value)
    if figures:
        terminalreporter.section("figures, the worst of each")
    for (file, name, sign, bound), values in sorted(figures.items()):
        worst = max(values) if sign == "≤" else min(values)
        cases = f", {len(values)} cases" if len(values) > 1 else ""
        terminalreporter.write_line(f"{file}: {name}: {worst:.2e} ({sign} {bound:g}{cases})")
