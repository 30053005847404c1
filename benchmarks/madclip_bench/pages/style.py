"""The pages' one stylesheet: readable without it, light and dark, and on paper. No outside asset, no script."""

from __future__ import annotations

__all__ = ["CSS", "POLICY"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for a page: nothing."""

CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --card: #f6f8fa; --line: #d0d7de;
  --one: #1f6fb2; --two: #c8651b; --three: #5b7f3a; --four: #7d5ba6; --five: #8a8f98;
  --six: #b0417a; --seven: #b8982a; --eight: #2a8f8a; --bad: #9c2b23; --bad-paper: #fdeceb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa4af; --paper: #14171b; --card: #1d2127;
  --line: #363c45; --one: #6cb0ea; --two: #eda15f; --three: #a3c878; --four: #bda2dd; --five: #8a8f98; --bad: #ffb4ab;
  --bad-paper: #3b1a18; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
header p.kind { margin: 0; color: var(--soft); }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .1rem 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; }
p.lead { margin: 0 0 .6rem; color: var(--soft); max-width: 48rem; }
.stamp { background: var(--bad-paper); color: var(--bad); border: 2px solid var(--bad); border-radius: 6px;
  padding: .5rem .9rem; font-weight: 600; margin: 0 0 1rem; }
.verdict { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .4rem 1.1rem; }
.verdict p { margin: .6rem 0; }
.verdict p.first { font-size: 1.15rem; font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.35rem; line-height: 1.3; }
.tile span { color: var(--soft); font-size: .85rem; display: block; }
ul.warnings { margin: .4rem 0; padding-left: 1.2rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; }
tbody > tr > th { font-weight: 400; }
td { overflow-wrap: anywhere; }
figure { margin: 1rem 0 0; }
figcaption { color: var(--soft); font-size: .88rem; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font: 12px system-ui, "DejaVu Sans", sans-serif; paint-order: stroke;
  stroke: var(--paper); stroke-width: 3px; }
svg text.soft { fill: var(--soft); }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .one { fill: var(--one); } svg .two { fill: var(--two); } svg .three { fill: var(--three); }
svg .four { fill: var(--four); } svg .five { fill: var(--five); } svg .six { fill: var(--six); }
svg .seven { fill: var(--seven); } svg .eight { fill: var(--eight); }
svg .line { fill: none; stroke: var(--one); stroke-width: 1.8; }
svg .mark { stroke: var(--two); stroke-width: 1.5; stroke-dasharray: 4 3; }
svg .band { fill: var(--five); opacity: .14; }
svg .bad { fill: var(--two); }
dl.words dt { font-weight: 600; } dl.words dd { margin: 0 0 .5rem 0; color: var(--soft); }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: .8rem; color: var(--soft);
  font-size: .88rem; overflow-wrap: anywhere; }
.sheet, .sheet > tbody, .sheet > tbody > tr, .sheet > tbody > tr > td { display: block; padding: 0; border: 0; }
.sheet > thead { display: none; }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --card: #fff; --line: #bbb; --one: #1f6fb2;
    --two: #c8651b; --three: #5b7f3a; --four: #7d5ba6; --five: #777; --bad: #9c2b23; --bad-paper: #fff; }
  @page { margin: 16mm 14mm 18mm; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2 { break-after: avoid; } figure, .tile, .verdict, tr { break-inside: avoid; } thead { display: table-header-group; }
  .wide { overflow: visible; }
  .sheet { display: table; font-size: inherit; table-layout: fixed; }
  .sheet > thead { display: table-header-group; } .sheet > tbody { display: table-row-group; }
  .sheet > tbody > tr { display: table-row; break-inside: auto; } .sheet > tbody > tr > td { display: table-cell; }
  .sheet > thead td { color: #9c2b23; font-weight: 600; font-size: 9pt; border: 0; padding: 0 0 3mm; }
}
"""
