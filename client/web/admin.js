// The operators' page: asks for the figures once a second, and draws them. The token is kept for this tab and goes into a header only.

import { duration, Reading } from './figures.js';
import * as panels from './panels.js';

const KEY = 'roost.operator.v1';
const EVERY_MS = 1000;
/** Readings kept: two minutes of curves. */
const KEPT = 120;

const find = (id) => document.getElementById(id);
let token = sessionStorage.getItem(KEY);
let readings = [];
let curves = new Map();
let timer;

/** An answer to an operator's question. */
async function ask(path) {
  return fetch(path, { headers: { Authorization: `Bearer ${token}` }, cache: 'no-store' });
}

function showDoor(error = '') {
  clearTimeout(timer);
  sessionStorage.removeItem(KEY);
  token = null;
  find('board').hidden = true;
  find('door').hidden = false;
  find('door-error').textContent = error;
  find('door-error').hidden = error === '';
  find('token').focus();
}

function showBoard() {
  find('door').hidden = true;
  find('board').hidden = false;
  readings = [];
  curves = new Map();
  turn();
}

/** Once a second, from one answer to the next, so that a slow gateway is not asked twice at a time. */
async function turn() {
  const begun = performance.now();
  try {
    const answer = await ask('/admin/figures');
    if (answer.status === 401) return showDoor('This token is not taken.');
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    readings.push(new Reading(await answer.text(), performance.now()));
    readings = readings.slice(-KEPT);
    draw();
    status('connected', running(readings.at(-1)));
  } catch {
    status('reconnecting', 'The gateway does not answer; trying again');
  }
  if (token !== null) timer = setTimeout(turn, Math.max(0, EVERY_MS - (performance.now() - begun)));
}

function running(now) {
  const family = 'roost_admission_closed';
  const closed = now.values(family, 'reason').filter((reason) => now.sum(family, 'reason', reason) > 0);
  const since = `Running for ${duration(Date.now() / 1000 - now.sum('process_start_time_seconds'))}`;
  return closed.length > 0 ? `${since} · nobody new is let in: ${closed.join(', ')}` : since;
}

function status(state, text) {
  find('status').dataset.state = state;
  find('status').textContent = text;
}

function draw() {
  const now = readings.at(-1);
  find('version').textContent = now.values('roost_build_info', 'version')[0] ?? '';
  drawTiles(panels.tiles(readings));
  drawTable(find('shards'), panels.shards(readings));
  drawTable(find('threads'), panels.threads(readings));
  drawTable(find('ends'), panels.ends(readings), 'Nothing yet.');
  find('partitions').replaceChildren(...panels.partitions(readings).map(([number, sessions]) => {
    const cell = element('div', { className: 'partition', title: `partition ${number}` });
    cell.append(element('span', { textContent: number }), element('span', { textContent: sessions }));
    return cell;
  }));
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

function drawTiles(tiles) {
  for (const { id, name, value, more, number, level } of tiles) {
    let tile = find(`tile-${id}`);
    if (tile === null) {
      tile = element('dl', { id: `tile-${id}`, className: 'tile' });
      const curve = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
      curve.setAttribute('viewBox', `0 0 ${KEPT - 1} 30`);
      curve.setAttribute('preserveAspectRatio', 'none');
      curve.setAttribute('aria-hidden', 'true');
      for (const part of ['area', 'line']) {
        const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
        path.setAttribute('class', part);
        path.setAttribute('vector-effect', 'non-scaling-stroke');
        curve.append(path);
      }
      tile.append(element('dt', { textContent: name }), element('dd'), element('div', { className: 'more' }), curve);
      find('tiles').append(tile);
    }
    tile.dataset.level = level;
    tile.querySelector('dd').textContent = value;
    tile.querySelector('.more').textContent = more;
    const points = [...(curves.get(id) ?? []), number].slice(-KEPT);
    curves.set(id, points);
    drawCurve(tile.querySelector('svg'), points);
  }
}

function drawCurve(curve, points) {
  const top = Math.max(...points, 1e-9);
  const from = KEPT - points.length;
  const line = points.map((value, at) => `${at === 0 ? 'M' : 'L'}${from + at} ${(28 - (26 * value) / top).toFixed(2)}`).join('');
  curve.querySelector('.line').setAttribute('d', line);
  curve.querySelector('.area').setAttribute('d', `${line}L${KEPT - 1} 30L${from} 30Z`);
}

function drawTable(table, { head, rows }, empty = '') {
  const top = element('tr');
  top.append(...head.map((text) => element('th', { textContent: text, scope: 'col' })));
  const lines = rows.map((cells) => {
    const line = element('tr');
    line.append(...cells.map(drawCell));
    return line;
  });
  const none = element('tr');
  none.append(element('td', { textContent: empty, colSpan: head.length, className: 'zero' }));
  table.replaceChildren(top, ...(rows.length > 0 || empty === '' ? lines : [none]));
}

function drawCell(content) {
  const { text, share } = typeof content === 'string' ? { text: content } : content;
  const cell = element('td', { textContent: text });
  cell.classList.toggle('zero', text === '0' || text === '0 B');
  if (share !== undefined) cell.append(element('meter', { min: 0, max: 1, low: 0.7, high: 0.9, optimum: 0, value: share }));
  return cell;
}

async function lookUp(user) {
  const note = find('user-note');
  note.textContent = 'Looking…';
  try {
    const answer = await ask(`/debug/connections?user=${encodeURIComponent(user)}`);
    if (answer.status === 401) return showDoor('This token is not taken.');
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    const many = found.connections.length;
    note.textContent = many === 0 ? `User ${user} has no connection.` : `${many} ${many === 1 ? 'connection' : 'connections'}${found.more ? ', and more' : ''}.`;
    drawTable(find('connections'), panels.connections(found));
    find('connections').hidden = many === 0;
  } catch (error) {
    note.textContent = error instanceof TypeError ? 'The gateway does not answer.' : error.message;
    find('connections').hidden = true;
  }
}

find('door-form').addEventListener('submit', (event) => {
  event.preventDefault();
  token = find('token').value.trim();
  find('token').value = '';
  if (!/^[\x21-\x7e]+$/.test(token)) return showDoor('Enter the token as it stands in the file.');
  sessionStorage.setItem(KEY, token);
  showBoard();
});

find('user-form').addEventListener('submit', (event) => {
  event.preventDefault();
  lookUp(find('user').value.trim());
});

find('sign-out').addEventListener('click', () => showDoor());

if (token === null) showDoor();
else showBoard();
