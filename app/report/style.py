"""How a report looks: one style sheet inside the page, light and dark as the reader's screen wants, light in print.
Colours and lines only. Texts have a contrast of at least 4.5:1 on their ground, marks 3:1.
"""

from __future__ import annotations

from app.charts.palette import PALETTE
from app.report.picture import INK

_DARK_INK = {"ink": "#E6EBF2", "soft": "#CBD5E1", "line": "#2C3950"}
_GROUNDS = {
    "light": {
        "page": "#FFFFFF", "quiet": "#F5F7FA", "link": "#1A5FCC", "warn": "#FBEEDD", "warn-ink": "#7A3F00",
        "blue-ground": "#E8F0FE", "blue-ink": "#1A5FCC", "green-ground": "#E2F6EF", "green-ink": "#00704F",
        "orange-ground": "#FBEEDD", "orange-ink": "#8A4700", "violet-ground": "#F6E7EF", "violet-ink": "#5E0B3B",
        "gray-ground": "#EEF0F3", "gray-ink": "#565E6C",
    },
    "dark": {
        "page": "#0F172A", "quiet": "#1A2438", "link": "#7CC0F5", "warn": "#3B3014", "warn-ink": "#F5C55A",
        "blue-ground": "#16304D", "blue-ink": "#7CC0F5", "green-ground": "#12392F", "green-ink": "#5ED6B1",
        "orange-ground": "#3B3014", "orange-ink": "#F5C55A", "violet-ground": "#401F34", "violet-ink": "#F08FC0",
        "gray-ground": "#27324A", "gray-ink": "#CBD5E1",
    },
}  # fmt: skip


def _variables(theme: str) -> str:
    ink = INK if theme == "light" else _DARK_INK
    return "".join(f"--{name}:{colour};" for name, colour in {**PALETTE[theme], **ink, **_GROUNDS[theme]}.items())


_RULES = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5; font-size: 15px;
  font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
main { max-width: 1088px; margin: 0 auto; padding: 28px 22px 48px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 21px; line-height: 1.25; margin: 44px 0 0; }
h3 { font-size: 16px; line-height: 1.3; margin: 0 0 6px; }
p { margin: 6px 0; max-width: 78ch; overflow-wrap: anywhere; }
.question, .meta, figcaption, .basis { color: var(--soft); }
.question { margin: 2px 0 14px; }
.meta { font-size: 13.5px; margin: 4px 0 12px; }
.banner { background: var(--warn); color: var(--warn-ink); border: 2px solid currentColor; border-radius: 10px;
  padding: 12px 16px; margin: 0 0 20px; font-weight: 600; max-width: none; }
.answer { font-size: 17px; margin: 0 0 14px; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; margin: 10px 0 0; padding: 0; list-style: none; }
.chip { border-radius: 999px; padding: 2px 11px; font-size: 13.5px; white-space: nowrap; }
.blue { background: var(--blue-ground); color: var(--blue-ink); }
.green { background: var(--green-ground); color: var(--green-ink); }
.orange { background: var(--orange-ground); color: var(--orange-ink); }
.violet { background: var(--violet-ground); color: var(--violet-ink); }
.gray { background: var(--gray-ground); color: var(--gray-ink); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(178px, 1fr)); gap: 12px; margin: 0 0 14px; }
.card, .box { border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; break-inside: avoid; }
.card { margin: 0; }
.card dt { font-size: 13.5px; color: var(--soft); }
.card dd { margin: 0; }
.card .value { font-size: 20px; font-weight: 600; line-height: 1.45;
  font-variant-numeric: tabular-nums; }
.card .basis { font-size: 13px; }
.box { margin: 0 0 14px; min-width: 0; }
.box > :last-child { margin-bottom: 0; }
.two { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 14px; }
.advice { border-left: 4px solid var(--blue); background: var(--quiet); border-radius: 0 8px 8px 0;
  padding: 10px 14px; margin: 0 0 14px; max-width: none; }
figure { margin: 0 0 8px; break-inside: avoid; }
figure svg { display: block; max-width: 100%; height: auto; overflow: visible; }
figcaption { font-size: 13px; margin-top: 6px; max-width: 90ch; }
.narrow { display: none; }
.scroll { overflow-x: auto; margin: 0 0 8px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px 5px 0; border-top: 1px solid var(--line); text-align: right; vertical-align: top;
  white-space: nowrap; }
thead th { border-top: 0; color: var(--soft); font-weight: 600; }
th.word, td.word { text-align: left; }
td.word { white-space: normal; overflow-wrap: anywhere; min-width: 7ch; }
tr.first td { border-top: 2px solid var(--soft); }
tbody tr:first-child td { border-top: 1px solid var(--soft); }
pre { background: var(--quiet); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; margin: 0 0 10px;
  font: 12.5px/1.5 ui-monospace, 'SF Mono', Menlo, Consolas, 'Liberation Mono', monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--link); margin: 8px 0; }
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
footer { margin-top: 40px; color: var(--soft); font-size: 13px; }
@media screen and (max-width: 860px) { .two { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 620px) {
  main { padding: 18px 14px 36px; }
  h1 { font-size: 24px; }
  .wide { display: none; }
  .narrow { display: block; }
  .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .card, .box { padding: 11px 12px; }
  .card .value { font-size: 18px; }
}
@media print {
  @page { margin: 14mm; }
  body { font-size: 12px; }
  main { max-width: none; padding: 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .scroll { overflow: visible; }
  .card, .box { padding: 10px 11px; }
  table { font-size: 10.5px; }
  th, td { padding-right: 6px; }
  h2, h3 { break-after: avoid; }
}
"""

STYLE = (
    f":root{{color-scheme:light dark;{_variables('light')}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables('dark')}}}}}" + _RULES
)
