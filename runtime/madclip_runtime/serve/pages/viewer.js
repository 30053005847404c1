// The viewer page. It talks to the service it came from and to nothing else, and keeps nothing.
'use strict';

const at = id => document.getElementById(id);
const MARKS = {abnormal: '▲', borderline: '◆', normal: '●', uncalibrated: '○'};
let token = '';  // in this variable only: gone with the page
let card = null;
let waiting = null;  // the file that the token was missing for

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function say(text, refused = false) {
  at('status').textContent = text;
  at('status').classList.toggle('refused', refused);
}

async function ask(path, options = {}) {
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  const answer = await fetch(path, {...options, headers, credentials: 'omit', cache: 'no-store'});
  const content = await answer.json();
  if (answer.ok) return content;
  const error = new Error([content.refused.why, content.refused.do].filter(Boolean).join('. '));
  error.name = content.refused.name;
  throw error;
}

function refuse(error) {
  if (error.name === 'no-token') {
    at('ask').hidden = false;
    at('token').focus();
  }
  const gone = error instanceof TypeError;
  say(gone ? 'The service does not answer. Is it still running?' : `Refused (${error.name}): ${error.message}`, true);
}

async function loadCard() {
  card = await ask('/v1/model');
  at('ask').hidden = true;
  at('notice').textContent = card.notices.join(' · ');
  const heads = Object.keys(card.heads);
  at('head').replaceChildren(...heads.map(head => make('option', head)));
  at('choice').hidden = heads.length < 2;
  showCard();
}

async function examine(file) {
  waiting = file;
  at('findings').hidden = at('stage').hidden = true;
  say(`Reading ${file.name} …`);
  try {
    if (!card) await loadCard();
    const head = encodeURIComponent(at('head').value);
    const {result, pictures, points} = await ask(`/v1/view?head=${head}`, {method: 'POST', body: file});
    if (waiting !== file) return;  // another one was chosen meanwhile
    waiting = null;
    show(file.name, result, pictures, points);
  } catch (error) {
    if (waiting === file) refuse(error);
  }
}

function show(name, result, pictures, says) {
  at('findings').hidden = at('stage').hidden = false;
  showPictures(name, result, pictures);
  showDecision(result);
  showBar(result);
  showPoints(result, says);
  showRegions(result);
  showRest(result);
  say(`Read ${name}.`);
  at('decision').focus();
}

function showPictures(name, result, pictures) {
  const {width, height} = result;
  at('layers').style.aspectRatio = `${width} / ${height}`;
  at('layers').style.maxWidth = `calc(58vh * ${width / height})`;
  at('image').src = pictures.image;
  at('image').alt = `${name}, ${width} by ${height} pixels`;
  at('heat').src = pictures.heat;
  at('lines').setAttribute('viewBox', `0 0 ${width} ${height}`);
  at('lines').setAttribute('preserveAspectRatio', 'none');
  const path = (pictures.outline || []).map(line => `M${line.map(([x, y]) => `${x + .5} ${y + .5}`).join('L')}Z`).join('');
  at('lines').replaceChildren(drawn('path', 'halo', {d: path}), drawn('path', 'line', {d: path}));
  at('outline').disabled = pictures.outline === null;
  at('caption').textContent = `${name} · ${width}×${height} pixels · map ${result.map_max.toFixed(3)} at its highest`;
  setOpacity();
  setOutline();
}

function drawn(tag, kind, attributes) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  element.setAttribute('class', kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function showDecision(result) {
  at('decision').textContent = `${MARKS[result.decision]} ${result.decision}`;
  const score = `score ${result.score.toFixed(4)}`;
  const where = result.threshold === null ? 'no threshold decides'
    : `threshold ${result.threshold.toFixed(4)} (${result.operating_point})`;
  const near = result.decision === 'borderline' ? `; within ${result.score_error.toPrecision(2)} of it, too close to call` : '';
  at('why').textContent = `${score}, ${where}${near}`;
}

function showBar(result) {
  const percent = value => `${100 * Math.min(Math.max(value, 0), 1)}%`;
  at('fill').style.width = percent(result.score);
  const band = result.threshold !== null && result.score_error > 0;
  at('band').hidden = !band;
  if (band) {
    at('band').style.left = percent(result.threshold - result.score_error);
    at('band').style.width = percent(2 * result.score_error);
  }
  const points = Object.entries(card.heads[result.head].calibration.points);
  const ticks = points.map(([name, point]) => [name, point.threshold, name === result.operating_point]);
  if (result.operating_point === 'given') ticks.push(['given', result.threshold, true]);
  at('ticks').replaceChildren(...ticks.map(([name, threshold, deciding]) => {
    const tick = make('div', undefined, {class: deciding ? 'tick deciding' : 'tick', title: `${name} ${threshold.toFixed(4)}`});
    tick.style.left = percent(threshold);
    return tick;
  }));
  const told = ticks.map(([name, threshold]) => `${name} at ${threshold.toFixed(3)}`).join(', ') || 'no operating point';
  const width = band ? `; borderline within ${result.score_error.toPrecision(2)} of the threshold` : '';
  at('bar').setAttribute('aria-label', `score ${result.score.toFixed(3)} on a bar from 0 to 1; ${told}${width}`);
}

function showPoints(result, says) {
  const {points, reason, refused} = card.heads[result.head].calibration;
  const rows = Object.entries(points).map(([name, point]) => {
    const row = make('tr', undefined, name === result.operating_point ? {class: 'deciding'} : {});
    const title = name === result.operating_point ? `${name} (decides)` : name;
    row.append(make('th', title, {scope: 'row'}), make('td', point.threshold.toFixed(4)),
      make('td', share(point.sensitivity)), make('td', share(point.specificity)), make('td', says[name]));
    return row;
  });
  at('points').tBodies[0].replaceChildren(...rows);
  at('points').hidden = rows.length === 0;
  const lines = [...(rows.length ? [] : [`No operating points: ${reason}`]),
    ...Object.entries(refused).map(([name, why]) => `${name}: ${why}`)];
  at('nopoints').textContent = lines.join(' · ');
  at('nopoints').hidden = lines.length === 0;
}

const percents = (...values) => values.map(value => (100 * value).toFixed(0)).join('–');
const share = p => `${percents(p.value)} % (${percents(p.low, p.high)})`;

function showRegions(result) {
  const rows = (result.regions || []).map((region, index) => {
    const row = make('tr');
    const area = region.area_mm2 === null ? `${region.area_px} px` : `${region.area_px} px, ${region.area_mm2.toFixed(1)} mm²`;
    const button = make('button', 'show', {'aria-pressed': 'false', 'aria-label': `show region ${index + 1} on the image`});
    button.addEventListener('click', () => mark(button, region.box));
    const cell = make('td');
    cell.append(button);
    row.append(make('th', index + 1, {scope: 'row'}), make('td', area), make('td', region.box.join(', ')),
      make('td', region.mean_score.toFixed(3)), cell);
    return row;
  });
  at('regions').tBodies[0].replaceChildren(...rows);
  at('regions').hidden = rows.length === 0;
  at('noregions').hidden = rows.length > 0;
  at('noregions').textContent = result.regions === null
    ? 'Regions are not told: here the threshold says nothing of single pixels.'
    : 'No regions: the map stays below the threshold everywhere.';
}

function mark(button, [x, y, width, height]) {
  const on = button.getAttribute('aria-pressed') !== 'true';
  for (const other of at('regions').querySelectorAll('button')) other.setAttribute('aria-pressed', 'false');
  for (const old of at('lines').querySelectorAll('.box')) old.remove();
  if (!on) return;
  button.setAttribute('aria-pressed', 'true');
  at('lines').append(drawn('rect', 'box', {x, y, width, height}));
}

function showRest(result) {
  at('notes').replaceChildren(...result.notes.map(note => make('li', note)));
  at('remarks').hidden = result.notes.length === 0;
  const rows = Object.entries(result.times_ms).map(([stage, ms]) => {
    const row = make('tr');
    row.append(make('th', stage, {scope: 'row'}), make('td', `${ms.toFixed(1)} ms`));
    return row;
  });
  at('times').tBodies[0].replaceChildren(...rows);
}

function showCard() {
  const {encoder, engine} = card;
  const lines = [['bundle', `${card.model_id}, ${card.precision}`], ['digest', card.digest],
    ['engine', `${engine.name} (${engine.library}) on ${engine.device}`],
    ['encoder', `${encoder.name}, ${encoder.weights}${encoder.random ? '; random weights: it has learned nothing' : ''}`],
    ['input', `${card.input.size} × ${card.input.size} pixels`]];
  if (card.degraded) lines.push(['degraded', card.degraded]);
  for (const [name, head] of Object.entries(card.heads)) {
    const {data, calibration} = head;
    const shots = `${data.normal_shots} normal and ${data.abnormal_shots} abnormal images`;
    const synthetic = data.synthetic ? ', synthetic' : '';
    const window = data.window ? `; window ${data.window.name}` : '';
    lines.push([`head ${name}`, `learned from ${shots} of ${data.dataset}${synthetic}, masks ${data.masks ? 'used' : 'not used'}; ` +
      `score: ${head.image_score}${window}; thresholds: ${calibration.reason}`]);
  }
  for (const gate of card.gates) {
    const numbers = Object.entries(gate.measured).map(([what, value]) => `${what} ${Number(value.toPrecision(3))}`).join(', ');
    lines.push([`gate ${gate.name}`, `${gate.passed ? 'passed' : 'missed'} on ${gate.images} images: ${numbers}`]);
  }
  at('model').replaceChildren(...lines.flatMap(([term, text]) => [make('dt', term), make('dd', text)]));
}

function setOpacity() {
  at('heat').style.opacity = at('opacity').value / 100;
  at('shown').textContent = `${at('opacity').value} %`;
}

function setOutline() {
  for (const path of at('lines').querySelectorAll('.line, .halo')) path.style.display = at('outline').checked ? '' : 'none';
}

function listen() {
  at('file').addEventListener('change', () => { if (at('file').files.length) examine(at('file').files[0]); });
  at('file').addEventListener('click', () => { at('file').value = ''; });  // the same file may be chosen again
  at('opacity').addEventListener('input', setOpacity);
  at('outline').addEventListener('change', setOutline);
  at('ask').addEventListener('submit', event => {
    event.preventDefault();
    token = at('token').value.trim();
    at('token').value = '';
    const file = waiting;
    loadCard().then(() => { say('Ready.'); if (file) examine(file); }).catch(refuse);
  });
  document.addEventListener('dragover', event => { event.preventDefault(); at('drop').classList.add('over'); });
  document.addEventListener('dragleave', () => at('drop').classList.remove('over'));
  document.addEventListener('drop', event => {
    event.preventDefault();
    at('drop').classList.remove('over');
    if (event.dataTransfer.files.length) examine(event.dataTransfer.files[0]);
  });
}

listen();
loadCard().catch(refuse);
