"""The fixed parts of the gallery: its style and its few lines of script."""

__all__ = ["FOOT", "HEAD", "SCRIPT"]

SCRIPT = """
const dialog = document.querySelector('dialog');
const cards = [...document.querySelectorAll('.card')];
const filters = [...document.querySelectorAll('.filter')];
const visible = () => cards.filter(card => !card.hidden);
let shown = null;
function show(card) {
  shown = card;
  dialog.querySelector('div').replaceChildren(card.querySelector('template').content.cloneNode(true));
  if (!dialog.open) dialog.showModal();
}
function step(by) {
  const all = visible();
  const next = all[all.indexOf(shown) + by];
  if (next) show(next);
}
for (const card of cards) card.addEventListener('click', () => show(card));
for (const filter of filters) filter.addEventListener('click', () => {
  for (const other of filters) other.setAttribute('aria-pressed', String(other === filter));
  for (const card of cards) card.hidden = filter.dataset.show !== '' && card.dataset.decision !== filter.dataset.show;
});
dialog.addEventListener('close', () => { if (shown) shown.focus(); });
dialog.querySelector('.close').addEventListener('click', () => dialog.close());
document.addEventListener('keydown', event => {
  const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (!by) return;
  if (dialog.open) { step(by); event.preventDefault(); return; }
  const all = visible();
  const at = all.indexOf(document.activeElement);
  if (at >= 0 && all[at + by]) { all[at + by].focus(); event.preventDefault(); }
});
"""

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>madclip results</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-DIGEST'">
<style>
:root { color-scheme: dark; }
body { margin: 0; background: #181818; color: #ebebeb; font: 14px/1.4 system-ui, sans-serif; }
header { position: sticky; top: 0; z-index: 1; background: #181818; padding: 12px 16px; border-bottom: 1px solid #444; }
h1 { margin: 0 0 4px; font-size: 18px; }
header p { margin: 0 0 8px; color: #bbb; }
.filter { background: #2a2a2a; color: inherit; border: 1px solid #666; border-radius: 14px; padding: 4px 12px;
 margin: 2px 6px 2px 0; font: inherit; cursor: pointer; }
.filter[aria-pressed="true"] { background: #ffea46; border-color: #ffea46; color: #181818; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 12px; padding: 16px; }
.card { display: flex; flex-direction: column; gap: 4px; align-items: center; background: #242424; color: inherit;
 border: 1px solid #444; border-radius: 6px; padding: 8px; font: inherit; cursor: pointer; min-width: 0; }
.card[hidden] { display: none; }
.card:focus-visible, .filter:focus-visible, .close:focus-visible { outline: 3px solid #ffea46; outline-offset: 2px; }
.thumb { width: 172px; height: 172px; object-fit: contain; background: #000; }
.none { display: grid; place-items: center; color: #bbb; }
.bar { width: 172px; height: 6px; background: #444; }
.bar i { display: block; height: 100%; background: #7c7b78; }
[data-decision="abnormal"] .bar i { background: #ffea46; }
[data-decision="borderline"] .bar i { background: #bcae6c; }
.name, .head { max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; color: #bbb; }
.head { font-size: 12px; }
dialog { background: #181818; color: inherit; border: 1px solid #666; max-width: 96vw; max-height: 94vh; }
dialog::backdrop { background: rgb(0 0 0 / 70%); }
dialog img { max-width: 100%; max-height: 78vh; display: block; margin: auto; }
.close { background: #2a2a2a; color: inherit; border: 1px solid #666; padding: 4px 14px; font: inherit; }
</style></head><body>
<header><h1>madclip results</h1><p>NOTICES</p>
<nav aria-label="filter by decision">FILTERS</nav></header>
<main>
"""

FOOT = """</main>
<dialog aria-label="overlay"><div></div>
<p>← → step through · Esc closes</p><button class="close">close</button></dialog>
<script>SCRIPT</script></body></html>
"""
