// The page's script: the map, a table with its charts, the record of a run. Everything is drawn from the JSON within the
// page; nothing is fetched. An address names what is shown: #SUITE/TABLE?rank=few&show=nbn&chart=cost&run=ID.
'use strict';
(() => {
  const root = document.documentElement;
  const $ = (selector, inside = document) => inside.querySelector(selector);
  const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const NONE = '–';
  const GROUPS = ['many', 'medium', 'few'];
  const parse = (element) => JSON.parse(element.textContent);
  const SUITES = Object.fromEntries($$('[data-suite]').map((element) => [element.dataset.suite, parse(element)]));
  const TODO = parse($('#todo'));

  /** An element; strings among the children become text, so that no name can become markup. */
  function make(tag, attributes = {}, ...children) {
    const svg = ['svg', 'path', 'line', 'circle', 'rect', 'text', 'title', 'g'].includes(tag);
    const element = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== undefined && value !== null) element.setAttribute(name, value);
    element.append(...children.flat(9).filter((child) => child !== null && child !== undefined));
    return element;
  }
  const button = (label, attributes = {}) => make('button', { type: 'button', ...attributes }, label);
  /** One decimal as in the tables, where a tie goes to the even digit: 67.25 is 67.2. */
  const tenths = (value) => (Math.abs(4 * value) % 4 === 1 ? value - Math.sign(value) / 100 : value).toFixed(1);
  const fixed = (value, decimals = 1) => (value === null || value === undefined ? NONE : decimals === 1 ? tenths(value) : value.toFixed(decimals));
  const signed = (value) => (value === null || value === undefined ? NONE : `${value < -0.05 ? '−' : value > 0.05 ? '+' : '±'}${tenths(Math.abs(value))}`);
  const say = (text) => { $('#said').textContent = text; };
  const score = (row, name) => row.scores[name]?.[0] ?? null;
  const LABELS = { top1: 'overall', many: 'many', medium: 'medium', few: 'few' };

  // ---- families: a colour and a shape each, so that neither is needed to tell them apart

  const FAMILIES = new Map(TODO.families.map((family) => [family.name, family]));
  const look = (family) => FAMILIES.get(family) || FAMILIES.get('');
  const colours = (family) => `--light:${look(family).light};--dark:${look(family).dark}`;
  const shape = (family, attributes = { role: 'img', 'aria-label': look(family).title, 'data-tip': look(family).title }) =>
    make('svg', { class: 'family', viewBox: '0 0 10 10', width: 10, height: 10, style: colours(family), ...attributes }, make('path', { d: look(family).outline }));
  function familyLegend(families) {
    const found = [...FAMILIES.keys()].filter((name) => families.includes(name));
    return found.length > 1 ? make('p', { class: 'families' }, found.map((name) => make('span', {}, shape(name, { 'aria-hidden': 'true' }), look(name).title))) : null;
  }

  // ---- addresses

  const state = { suite: null, table: null, params: new URLSearchParams() };
  function read() {
    const [path, query = ''] = location.hash.slice(1).split('?');
    const [suite, slug] = path.split('/').map(decodeURIComponent);
    const tables = SUITES[suite]?.tables;
    state.suite = tables ? suite : null;
    state.table = tables ? tables.find((table) => table.slug === slug) || mainTable(tables) : null;
    state.params = new URLSearchParams(query);
    if (path && !tables) say(`${path} is not on this page`);
  }
  /** The table of a suite that is opened first: the one with most runs, and of these the most imbalanced. */
  const runsIn = (table) => table.rows.reduce((sum, row) => sum + row.n, 0);
  const mainTable = (tables) => tables.toSorted((a, b) => runsIn(b) - runsIn(a) || (b.factor || 0) - (a.factor || 0))[0];
  function address(suite, slug, params = {}) {
    const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value)).toString();
    return `#${encodeURIComponent(suite)}/${encodeURIComponent(slug)}${query ? `?${query}` : ''}`;
  }
  /** Change what the address says of the table that is shown. */
  function set(params) {
    history.replaceState(null, '', address(state.suite, state.table.slug, { ...Object.fromEntries(state.params), ...params }));
    read();
    current = here();
  }
  /** What is shown, whether a run is open or not. */
  const here = () => address(state.suite || '', state.table?.slug || '', { ...Object.fromEntries(state.params), run: '' });
  let current = '';

  // ---- the map

  /** A column a table, each with its suite, whose ERM all its cells are compared with; then the benchmarks without any. */
  function columns() {
    const measured = Object.entries(SUITES).flatMap(([suite, { tables }]) => tables.map((table) => ({ ...table, suite })));
    const alike = (one, other) => one.title === other.title && one.hash === other.hash;
    for (const column of measured) column.shared = measured.filter((other) => alike(column, other)).length > 1;
    const missing = TODO.tables.filter((todo) => !measured.some((table) => table.benchmark === todo.benchmark)).map((todo) => ({ ...todo, suite: null, setting: 'paper' }));
    const place = (table) => { const at = TODO.tables.findIndex((todo) => todo.benchmark === table.benchmark); return at < 0 ? 99 : at; };
    return [...measured, ...missing].sort((a, b) => !a.suite - !b.suite || place(a) - place(b) || a.benchmark.localeCompare(b.benchmark) || (b.factor || 0) - (a.factor || 0) || (b.suite ? b.rows.length - a.rows.length : 0));
  }

  /** A name without the marks of environments, which are explained under its table. */
  const unmarked = (name) => name.replace(/[†‡§¶‖]+$/u, '');

  /** The row of a method in a column. */
  const rowOf = (column, method) => (column.suite ? column.rows.find((row) => row.n && (row.method === method || method in row.also)) : undefined);

  function overview() {
    const rank = state.params.get('rank') || 'top1', all = state.params.get('all') === '1', every = columns();
    const compares = (column) => !column.suite || column.rows.filter((row) => row.n).length > 1, narrow = every.length > 6 && !all;
    const shown = narrow ? every.filter(compares) : every;
    const names = new Map(TODO.methods.map(({ method, name }) => [method, name])), families = new Map(TODO.methods.map(({ method, family }) => [method, family]));
    for (const column of shown) for (const row of (column.rows || []).filter((each) => each.n)) if (row.origin === 'trained' || !names.has(row.method)) { names.set(row.method, unmarked(row.name)); families.set(row.method, row.family); }
    const twins = equalMethods(shown, names);
    const ranks = new Map();
    for (const column of shown) {
      const cells = [...names.keys()].map((method) => [method, rowOf(column, method)]).filter(([, row]) => row && score(row, rank) !== null);
      cells.sort(([, a], [, b]) => score(b, rank) - score(a, rank));
      cells.forEach(([method], place) => ranks.set(method, [...(ranks.get(method) || []), cells.length > 1 ? place / (cells.length - 1) : 0.5]));
    }
    const mean = (method) => { const own = ranks.get(method); return own ? own.reduce((a, b) => a + b) / own.length : 2; };
    const wanted = (method) => all || names.size <= 24 || TODO.methods.some((todo) => todo.method === method) || (ranks.get(method) || []).length > 1;
    const rows = [...names].filter(([method]) => wanted(method) && !twins.has(method)).sort(([a], [b]) => mean(a) - mean(b) || a.localeCompare(b));
    const toggle = make('div', { class: 'switch', role: 'group', 'aria-label': 'Accuracy of' }, Object.entries(LABELS).map(([name, label]) =>
      button(label, { 'aria-pressed': String(name === rank), 'data-rank': name })));
    toggle.addEventListener('click', (event) => {
      const asked = event.target.closest('[data-rank]');
      if (asked) { const hash = `#?rank=${asked.dataset.rank}${all ? '&all=1' : ''}`; history.replaceState(null, '', hash); show(); $(`[data-rank=${asked.dataset.rank}]`).focus(); }
    });
    const more = names.size - twins.size > rows.length || every.length > shown.length || all ? button(all ? 'Show less' : `All ${names.size - twins.size} methods, ${every.length} tables`, { class: 'more' }) : null;
    more?.addEventListener('click', () => { history.replaceState(null, '', `#?rank=${rank}${all ? '' : '&all=1'}`); show(); });
    const table = make('table', { class: 'map' },
      make('caption', { class: 'hidden' }, 'Difference to ERM in points, by method and benchmark'),
      make('thead', {}, make('tr', {}, make('th', { scope: 'col' }, 'method'), shown.map((column) => make('th', { scope: 'col' }, columnHead(column, rank))))),
      make('tbody', {}, rows.map(([method, name]) => make('tr', {}, make('th', { scope: 'row' }, shape(families.get(method)), name, [...twins].filter(([, kept]) => kept === method).map(([twin]) => make('small', {}, ` = ${names.get(twin)}`))), shown.map((column) => mapCell(column, rowOf(column, method), rank))))));
    return [
      make('h1', {}, 'Which method helps, where?'),
      make('ul', { class: 'findings' }, largest(every).map(finding).filter(Boolean)),
      make('div', { class: 'maphead' }, make('h2', {}, 'Difference to ERM, in points of accuracy'), toggle, more),
      make('p', { class: 'note' }, 'Hatched: within noise of ERM, often for want of seeds. Empty: not run. IF: imbalance factor. The row of ERM has its accuracy in %. Sorted by mean rank. A cell opens its table.'),
      familyLegend(rows.map(([method]) => families.get(method))),
      make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Map of methods and benchmarks' }, table),
    ];
  }

  /** Methods that compute the same as another wherever they were run, with that other one. */
  function equalMethods(shown, names) {
    const twins = new Map(), rows = [...names.keys()].map((method) => [method, shown.map((column) => rowOf(column, method))]);
    for (const [one, own] of rows) {
      const same = rows.find(([other, its]) => other !== one && !twins.has(other) && own.some(Boolean) && own.every((row, i) => !row || (row === its[i] && row.method !== one)));
      if (same) twins.set(one, same[0]);
    }
    return twins;
  }

  function columnHead(column, rank) {
    const label = [column.benchmark.split(/(?<=_)/).flatMap((part, i) => (i ? [make('wbr'), part] : [part])), make('small', {}, [column.factor ? `IF ${column.factor}` : '', column.setting === 'paper' ? '' : column.setting, column.shared ? `suite ${column.suite}` : ''].filter(Boolean).join(', '))];
    if (!column.suite) return [...label, make('small', { class: 'empty' }, 'not run')];
    return make('a', { href: address(column.suite, column.slug, { rank: rank === 'top1' ? '' : rank }) }, label);
  }

  function mapCell(column, row, rank) {
    const value = row && score(row, rank);
    if (value === null || value === undefined) return make('td', { class: 'none' }, make('span', { class: 'hidden' }, 'not run'));
    const outcome = row.versus[rank], isErm = row.method === 'erm' || !outcome;
    const noise = outcome && outcome[2] >= 0.05;
    const link = make('a', { href: address(column.suite, column.slug, { rank: rank === 'top1' ? '' : rank }) }, isErm ? fixed(value) : signed(outcome[0]));
    const strength = isErm ? 0 : Math.min(1, Math.abs(outcome[0]) / 15) * 70 + 6;
    const outcomeText = isErm ? `${fixed(value)} %, ${row.n} seeds` : `${signed(outcome[0])} ± ${tenths(outcome[1])} points to ERM (${fixed(value)} %), p = ${outcome[2].toPrecision(2)}, ${row.n} seed${row.n === 1 ? '' : 's'}`;
    return make('td', { class: isErm ? 'base' : `${outcome[0] < 0 ? 'down' : 'up'}${noise ? ' noise' : ''}`, style: `--s:${strength.toFixed(0)}%`, 'data-tip': `${row.name}, ${column.title}: ${outcomeText}${noise ? '; within noise' : ''}` }, link);
  }

  /** Of each benchmark the table with most runs. */
  function largest(every) {
    const found = new Map();
    for (const column of every) if (column.suite && !(runsIn(found.get(column.benchmark) || column) > runsIn(column))) found.set(column.benchmark, column);
    return [...found.values()];
  }

  /** The finding of a table in one sentence. */
  function finding(table) {
    const rows = table.rows.filter((row) => row.n), [best] = rows;
    if (rows.length < 2 || !best) return null;
    const first = rows.filter((row) => row.standing === 'best'), winners = first.length ? first : [best];
    const erm = rows.find((row) => row.method === 'erm'), gain = best.versus.top1;
    const beside = erm && gain ? (gain[2] < 0.05 ? `, ERM has ${fixed(score(erm, 'top1'))} %` : ', within noise of ERM') : '';
    const alike = rows.filter((row) => row.standing === 'within noise' && row !== erm).length;
    return make('li', {}, make('a', { href: address(table.suite, table.slug) }, table.title), ': ', winners.map((row, i) => [i ? ' and ' : '', make('strong', {}, unmarked(row.name))]), ` ${winners.length > 1 ? 'are' : 'is'} best with ${fixed(score(best, 'top1'))} %`,
      beside, alike ? `; ${alike} other${alike === 1 ? '' : 's'} within noise of it` : '', '. ', make('small', {}, `${best.n} seed${best.n === 1 ? '' : 's'}`));
  }

  // ---- one table

  function tab() {
    const suite = SUITES[state.suite], table = state.table, rank = state.params.get('rank') || 'top1';
    const choose = make('select', { 'aria-label': 'Table' }, suite.tables.map((each) => make('option', { value: each.slug, ...(each === table ? { selected: '' } : {}) }, each.title)));
    choose.addEventListener('change', () => { location.hash = address(state.suite, choose.value, { rank: state.params.get('rank') }); });
    const search = make('input', { type: 'search', placeholder: 'part of a name or family', autocomplete: 'off', value: state.params.get('show') || '', 'aria-label': 'Methods' });
    search.addEventListener('input', () => { set({ show: search.value }); draw(); });
    const board = make('div', { class: 'board scroll', tabindex: '0', role: 'region', 'aria-label': 'Leaderboard' }), side = make('div', { class: 'side' });
    const draw = () => { board.replaceChildren(leaderboard(table, state.params.get('rank') || rank, (name) => { set({ rank: name === 'top1' ? '' : name }); draw(); })); side.replaceChildren(...charts(table)); };
    draw();
    const groups = GROUPS.filter((name) => table.groups[name]).map((name) => `${table.groups[name]} ${name}`).join(', ');
    return [
      make('h1', {}, table.title),
      table.caveat ? make('p', { class: 'caveat' }, table.caveat) : null,
      make('p', { class: 'note' }, table.resolution ? `${table.resolution} ` : '', `Classes: ${groups}. `, table.covered ? `Suite ${suite.suite}: ${table.covered}.` : ''),
      make('form', { class: 'controls' }, suite.tables.length > 1 ? make('label', {}, 'Table', choose) : null, make('label', {}, 'Methods', search),
        make('p', { class: 'key' }, make('span', {}, make('b', {}, 'bold'), ' best'), make('span', { class: 'within' }, 'within noise of the best'))),
      familyLegend(table.rows.filter((row) => row.n).map((row) => row.family)),
      make('div', { class: 'split' }, board, side),
      ...table.notes.map((note) => make('p', { class: 'note' }, note)),
      table.failures.length ? [make('h2', {}, 'Failed'), plainTable(['method', 'seed', 'stage', 'reason'], table.failures.map((row) => row.map(String)))] : null,
      table.beside.map((each) => make('details', { class: 'beside', ...(each.columns.includes('verdict') ? { open: '' } : {}) }, make('summary', {}, `${each.title} (${each.rows.length})`), plainTable(each.columns, each.rows))),
      make('section', { class: 'foot' }, provenance(suite).flat(9).filter(Boolean)),
    ];
  }

  const visible = (table) => {
    const words = (state.params.get('show') || '').toLowerCase().split(',').map((word) => word.trim()).filter(Boolean);
    return table.rows.filter((row) => !words.length || words.some((word) => row.method.toLowerCase().includes(word) || row.name.toLowerCase().includes(word) || look(row.family).title.toLowerCase().includes(word) || Object.entries(row.also).flat().some((name) => name.toLowerCase().includes(word))));
  };

  function leaderboard(table, rank, choose) {
    const groups = GROUPS.filter((name) => table.groups[name]);
    const names = ['top1', ...(groups.length > 1 ? groups : []), ...('macro' in table.scores ? ['macro'] : []), 'ece'];
    const heads = { ...LABELS, top1: 'top-1', macro: 'macro', ece: 'ECE' };
    const rows = visible(table).filter((row) => row.n).toSorted((a, b) => (score(b, rank) ?? -1) - (score(a, rank) ?? -1) || a.rank - b.rank);
    if (rank === 'ece') rows.reverse();
    const runs = runsOf(state.suite), values = rows.flatMap((row) => (runs.of.get(row.row) || []).map((run) => run.metrics[runs.place(rank)])).filter((value) => value !== null);
    const low = Math.min(...values), span = Math.max(...values) - low || 1;
    const head = (name) => make('th', { scope: 'col', class: 'n', 'aria-sort': name === rank ? (name === 'ece' ? 'ascending' : 'descending') : null }, button(heads[name], { 'data-sort': name }));
    const made = make('table', { class: 'results' },
      make('thead', {}, make('tr', {}, make('th', { scope: 'col' }, 'method'), make('th', { scope: 'col' }, 'seeds'), names.map(head), make('th', { scope: 'col', class: 'n' }, 'to ERM'), make('th', { scope: 'col', class: 'n', 'data-tip': 'CPU time of a run in that of ERM' }, 'cost'))),
      make('tbody', {}, rows.map((row) => {
        const own = (runs.of.get(row.row) || []).map((run) => run.metrics[runs.place(rank)]).filter((value) => value !== null);
        const outcome = row.versus[rank] || (rank in LABELS ? null : row.versus.top1);
        const opener = button([shape(row.family), row.name, Object.values(row.also).map((name) => make('small', {}, ` = ${name}`))], { 'aria-expanded': 'false' });
        opener.addEventListener('click', () => unfold(opener, row, names, heads));
        return make('tr', { class: row.standing === 'within noise' ? 'within' : row.standing },
          make('th', { scope: 'row' }, opener, row.origin === 'trained' ? null : make('span', { class: 'mark' }, row.origin)),
          make('td', { class: 'seeds' }, make('svg', { width: 64, height: 14, role: 'img', 'aria-label': `${row.n}` }, make('line', { x1: 4, x2: 60, y1: 7, y2: 7 }), own.map((value) => make('circle', { cx: (5 + (54 * (value - low)) / span).toFixed(1), cy: 7, r: 3.5 }))), row.failed ? make('span', { class: 'failed' }, ` ${row.failed} failed`) : null),
          names.map((name) => make('td', { class: `n${name === rank ? ' ranked' : ''}` }, value(row, name))),
          make('td', { class: 'n', 'data-tip': outcome ? `± ${tenths(outcome[1])} noise, p = ${outcome[2].toPrecision(2)}` : null }, outcome ? [signed(outcome[0]), make('small', {}, ` ± ${tenths(outcome[1])}`)] : NONE),
          make('td', { class: 'n' }, row.cost === null ? NONE : `${row.cost.toFixed(row.cost < 10 ? 1 : 0)}×`));
      })));
    $$('[data-sort]', made).forEach((each) => each.addEventListener('click', () => { choose(each.dataset.sort); say(`Sorted by ${each.textContent}`); $(`[data-sort=${each.dataset.sort}]`).focus(); }));
    return rows.length ? made : make('p', { class: 'note' }, 'No method fits.');
  }

  function value(row, name) {
    const [mean, std, low, high] = row.scores[name] || [];
    if (mean === null || mean === undefined) return NONE;
    const spread = std !== null ? ` ± ${tenths(std)}` : low !== null ? ` [${tenths(low)}, ${tenths(high)}]` : '';
    return [make('span', { class: 'mean' }, tenths(mean)), make('small', { class: std === null ? 'interval' : null }, spread)];
  }

  function unfold(opener, row, names, heads) {
    const line = opener.closest('tr'), open = opener.getAttribute('aria-expanded') === 'true', runs = runsOf(state.suite);
    opener.setAttribute('aria-expanded', String(!open));
    if (open) { line.nextElementSibling.remove(); return; }
    const body = (runs.of.get(row.row) || []).map((run) => make('tr', {}, make('th', { scope: 'row' }, button(`seed ${run.seed}`, { 'data-run': run.id, 'aria-haspopup': 'dialog' })),
      names.map((name) => make('td', { class: 'n' }, fixed(run.metrics[runs.place(name)], 2))), make('td', { class: 'n' }, duration(run.cost[2]))));
    line.after(make('tr', { class: 'runs' }, make('td', { colspan: line.cells.length }, make('table', { 'aria-label': `Runs of ${row.name}` },
      make('thead', {}, make('tr', {}, ['run', ...names.map((name) => heads[name]), 'wall time'].map((label, i) => make('th', { scope: 'col', class: i ? 'n' : null }, label)))), make('tbody', {}, body)))));
  }

  const plainTable = (heads, rows) => make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': heads.join(', ') }, make('table', { class: 'plain' },
    make('thead', {}, make('tr', {}, heads.map((label) => make('th', { scope: 'col' }, label)))), make('tbody', {}, rows.map((cells) => make('tr', {}, cells.map((content) => make('td', {}, content)))))));

  function provenance(suite) {
    const pre = make('pre', { tabindex: '0', id: 'commands' }, suite.commands.join('\n'));
    return [make('h2', {}, 'Reproduce'), make('div', { class: 'command' }, pre, button('Copy', { 'data-copy': 'commands' })),
      make('p', { class: 'note' }, 'CSV: ', ['leaderboard', 'runs', 'statistics'].map((name, i) => [i ? ', ' : '', make('a', { href: `${encodeURIComponent(suite.suite)}/${name}.csv` }, name)])),
      facts(suite.facts),
      suite.left_out.length ? [make('h2', {}, 'Files left out'), make('ul', {}, suite.left_out.map((text) => make('li', {}, text)))] : null];
  }

  // ---- charts: one at a time, of the methods that are shown

  const CHARTS = { groups: ['Groups', groupChart], classes: ['Classes', classesChart], cost: ['Cost', costChart], imbalance: ['Imbalance', imbalanceChart] };

  function charts(table) {
    const rows = visible(table).filter((row) => row.n), possible = Object.entries(CHARTS).map(([name, [label, draw]]) => [name, label, draw(table, rows)]).filter(([, , drawn]) => drawn);
    if (!possible.length) return [];
    const chosen = possible.find(([name]) => name === state.params.get('chart')) || possible[0];
    const strip = make('div', { class: 'switch', role: 'group', 'aria-label': 'Chart' }, possible.map(([name, label]) => button(label, { 'aria-pressed': String(name === chosen[0]), 'data-chart': name })));
    strip.addEventListener('click', (event) => {
      const asked = event.target.closest('[data-chart]');
      if (asked) { set({ chart: asked.dataset.chart }); strip.parentElement.replaceChildren(...charts(table)); $(`[data-chart=${asked.dataset.chart}]`).focus(); }
    });
    return [strip, chosen[2]].flat(9);
  }

  /** Round numbers over a range: at most six. */
  function ticks(low, high) {
    const raw = (high - low || 1) / 5, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
    const found = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) found.push(Number(tick.toPrecision(6)));
    return found;
  }
  const chart = (height, label, ...children) => drawing(480, height, label, children);
  const drawing = (width, height, label, ...children) => make('svg', { class: 'chart', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label }, children);
  const legend = (names) => make('p', { class: 'legend' }, names.map((name) => make('span', { class: name }, name)));

  function groupChart(table, rows) {
    const groups = GROUPS.filter((name) => table.groups[name]);
    if (groups.length < 2 || !rows.length) return null;
    const values = rows.flatMap((row) => groups.map((name) => score(row, name))).filter((value) => value !== null);
    const low = Math.min(...values), high = Math.max(...values);
    const above = new Set(rows.map((row) => short(row.name, 26))).size < rows.length, left = above ? 8 : 168, step = above ? 30 : 20; // names that would be cut to the same stand above their lines
    const x = (value) => left + ((466 - left) * (value - low)) / (high - low || 1), height = 34 + step * rows.length;
    return [legend(groups), chart(height, 'Accuracy of many, medium and few, by method',
      ticks(low, high).map((tick) => make('g', {}, make('line', { class: 'axis', x1: x(tick), x2: x(tick), y1: 4, y2: height - 22 }), make('text', { x: x(tick), y: height - 6, 'text-anchor': 'middle' }, String(tick)))),
      rows.map((row, i) => {
        const own = groups.map((name) => score(row, name)), y = (above ? 24 : 16) + step * i;
        return make('g', {}, make('text', above ? { class: 'name', x: 2, y: y - 9 } : { class: 'name', x: 160, y: y + 4, 'text-anchor': 'end' }, short(row.name, above ? 80 : 26)), make('line', { class: 'range', x1: x(Math.min(...own)), x2: x(Math.max(...own)), y1: y, y2: y }),
          groups.map((name, g) => make('circle', { class: name, cx: x(own[g]), cy: y, r: 4.5 }, make('title', {}, `${row.name}, ${name}: ${fixed(own[g])} %`))));
      }))];
  }

  function classesChart(table, rows) {
    const runs = runsOf(state.suite), erm = table.rows.find((row) => row.method === 'erm');
    const others = rows.filter((row) => row.method !== 'erm'), asked = state.params.get('of');
    const row = others.find((each) => each.method === asked) || others[0];
    const own = row && runs.of.get(row.row), base = erm && runs.of.get(erm.row);
    if (!own?.length || !base?.length) return null;
    const { names, counts } = runs.classes[own[0].classes];
    const mean = (list, c) => { const known = list.filter((run) => run.hits[c] !== null); return known.length ? known.reduce((sum, run) => sum + (100 * run.hits[c]) / runs.images[run.images][c], 0) / known.length : null; };
    const order = counts.map((_, c) => c).sort((a, b) => counts[b] - counts[a]), gains = order.map((c) => { const [a, b] = [mean(own, c), mean(base, c)]; return a === null || b === null ? null : a - b; });
    const high = Math.max(1, ...gains), low = Math.min(-1, ...gains), y = (value) => 16 + (214 * (high - value)) / (high - low), width = 410 / order.length;
    const choose = make('select', { 'aria-label': 'Method' }, others.map((each) => make('option', { value: each.method, ...(each === row ? { selected: '' } : {}) }, each.name)));
    choose.addEventListener('change', () => { set({ of: choose.value, chart: 'classes' }); $('.side').replaceChildren(...charts(table)); });
    return [make('p', { class: 'legend' }, choose, ' minus ERM, points a class; most training images first'), chart(300, `${row.name} minus ERM, by class`,
      ticks(low, high).map((tick) => make('g', {}, make('line', { class: tick ? 'axis' : 'zero', x1: 40, x2: 474, y1: y(tick), y2: y(tick) }), make('text', { x: 34, y: y(tick) + 4, 'text-anchor': 'end' }, String(tick)))),
      gains.map((gain, i) => (gain === null ? null : make('rect', { class: groupOf(counts[order[i]]), x: 42 + i * width, width: Math.max(0.8, width * 0.8), y: y(Math.max(0, gain)), height: Math.max(1, Math.abs(y(gain) - y(0))) }, make('title', {}, `${names[order[i]]} (${counts[order[i]]} training images): ${signed(gain)}`)))),
      width > 18 ? order.map((c, i) => make('text', { transform: `translate(${48 + (i + 0.4) * width},242) rotate(-35)`, class: 'name', 'text-anchor': 'end' }, short(names[c], 12))) : make('text', { x: 42, y: 250 }, `${order.length} classes`))];
  }

  function costChart(table, rows) {
    const known = rows.filter((row) => row.cost !== null && row.cost > 0);
    if (known.length < 3) return null;
    const costs = known.map((row) => Math.log2(row.cost)), tops = known.map((row) => score(row, 'top1'));
    const [left, right, low, high] = [Math.min(...costs) - 0.2, Math.max(...costs) + 0.2, Math.min(...tops), Math.max(...tops)];
    const x = (value) => 44 + (424 * (value - left)) / (right - left || 1), y = (value) => 250 - (228 * (value - low)) / (high - low || 1);
    const marks = [0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32].filter((cost) => Math.log2(cost) >= left && Math.log2(cost) <= right);
    return [make('p', { class: 'legend' }, 'top-1 in %, against cost: CPU time of training, relative to ERM in the same seeds on such a processor. Numbers are ranks.'), chart(290, 'Top-1 against relative cost',
      ticks(low, high).map((tick) => make('g', {}, make('line', { class: 'axis', x1: 44, x2: 470, y1: y(tick), y2: y(tick) }), make('text', { x: 38, y: y(tick) + 4, 'text-anchor': 'end' }, String(tick)))),
      marks.map((cost) => make('text', { x: x(Math.log2(cost)), y: 278, 'text-anchor': 'middle' }, `${cost}×`)),
      known.map((row, i) => make('g', { class: 'family', style: colours(row.family), transform: `translate(${x(costs[i]) - 6},${y(tops[i]) - 6}) scale(1.2)` }, make('title', {}, `${row.name}: ${fixed(tops[i])} %, ${row.cost}×`), make('path', { d: look(row.family).outline }))),
      apart(known.map((row, i) => [x(costs[i]) + 11, y(tops[i]) + 4])).map(([a, b], i) => make('g', {}, make('line', { class: 'range', x1: x(costs[i]), y1: y(tops[i]), x2: a - 1, y2: b - 4 }), make('text', { class: 'name', x: a, y: b }, String(known[i].rank)))))];
  }

  /** Places of short labels, moved down until none is on another. */
  function apart(places) {
    const taken = [];
    for (const [x, y] of places) {
      let down = y;
      while (taken.some(([a, b]) => Math.abs(a - x) < 16 && Math.abs(b - down) < 11)) down += 1;
      taken.push([x, down]);
    }
    return taken;
  }

  function imbalanceChart(table, rows) {
    const beside = SUITES[state.suite].tables.filter((each) => each.benchmark === table.benchmark && each.setting === table.setting && each.factor).sort((a, b) => a.factor - b.factor);
    if (beside.length < 2) return null;
    const lines = rows.map((row) => [row, beside.map((each) => each.rows.find((other) => other.method === row.method && other.n)).map((each) => (each ? score(each, 'top1') : null))]);
    const values = lines.flatMap(([, own]) => own).filter((value) => value !== null), low = Math.min(...values), high = Math.max(...values);
    const [first, last] = [beside[0].factor, beside.at(-1).factor].map(Math.log), x = (i) => 44 + (300 * (Math.log(beside[i].factor) - first)) / (last - first || 1), y = (value) => 250 - (228 * (value - low)) / (high - low || 1);
    return [make('p', { class: 'legend' }, 'top-1 in %, by imbalance factor (log scale). Point at a line for its method.'), chart(280, 'Top-1 by imbalance factor',
      ticks(low, high).map((tick) => make('g', {}, make('line', { class: 'axis', x1: 44, x2: 350, y1: y(tick), y2: y(tick) }), make('text', { x: 38, y: y(tick) + 4, 'text-anchor': 'end' }, String(tick)))),
      beside.map((each, i) => make('text', { x: x(i), y: 272, 'text-anchor': 'middle' }, String(each.factor))),
      lines.map(([row, own], place) => make('g', { class: `series${row.method === 'erm' ? ' erm' : ''}`, style: colours(row.family) }, make('title', {}, row.name),
        make('path', { d: own.map((value, i) => (value === null ? '' : `${i && own[i - 1] !== null ? 'L' : 'M'}${x(i)} ${y(value).toFixed(1)}`)).join('') }),
        place < 1 || row.method === 'erm' ? make('text', { x: 356, y: y(own.at(-1) ?? low) + 4 }, short(row.name, 18)) : null)))];
  }

  const short = (text, letters) => (text.length > letters ? `${text.slice(0, letters - 1)}…` : text);
  const groupOf = (images) => (images > 100 ? 'many' : images >= 20 ? 'medium' : 'few');

  // ---- runs: read when they are first asked for

  const known = {};
  function runsOf(suite) {
    if (!known[suite]) {
      const data = parse($(`[data-runs="${CSS.escape(suite)}"]`)), of = new Map();
      data.all = data.runs.map((values) => Object.fromEntries(values.map((each, i) => [data.fields[i], each])));
      for (const run of data.all) { if (!of.has(run.row)) of.set(run.row, []); of.get(run.row).push(run); }
      known[suite] = { ...data, of, place: (name) => data.metric_names.indexOf(name) };
    }
    return known[suite];
  }

  // ---- the record of a run

  function record(run) {
    const data = runsOf(state.suite), classes = data.classes[run.classes], images = data.images[run.images];
    const table = SUITES[state.suite].tables.find((each) => each.rows.some((row) => row.row === run.row)), same = data.of.get(run.row);
    const accuracy = run.hits.map((hits, c) => (hits === null ? null : (100 * hits) / images[c]));
    const [benchmark, stages] = run.config, sections = [], file = `${state.suite}/records/${run.id}.json`;
    const add = (title, ...content) => sections.push(make('h3', {}, title), ...content.filter(Boolean));
    add('Result', facts(data.metric_names.map((name, i) => [name.replaceAll('_', ' ').replace('ece', 'ECE').replace('top1', 'top-1').replace('nll', 'NLL'), run.metrics[i]]).filter(([, each]) => each !== null).map(([name, each]) => [name, fixed(each, 2)])));
    add('Training', trainingCharts(data, run));
    add('Classes', classChart(classes, accuracy), classTable(classes, images, run.hits, accuracy));
    if (data.warnings[run.warnings].length) add('Warnings', make('ul', {}, data.warnings[run.warnings].map((text) => make('li', {}, text))));
    if (run.chosen) add('Chosen on validation images', facts(Object.entries(run.chosen).map(([name, each]) => [name, plain(each)])));
    add('Cost', facts([['parameters', run.cost[0]?.toLocaleString('en')], ['FLOPs an image', run.cost[1]?.toLocaleString('en')], ['wall time', duration(run.cost[2])], ['CPU time', duration(run.cost[3])],
      ['images/s', run.cost[4]?.toLocaleString('en')], ['peak memory', run.cost[5] === null ? NONE : `${run.cost[5]} MB`]]),
    plainTable(['stage', 'fingerprint', 'epochs', 'wall time'], run.stages.map((place) => data.stages[place]).map(([kind, print, epochs, wall]) => [kind, make('code', {}, print), plain(epochs), duration(wall)])));
    add('Configuration', folded('Method and options', data.methods[run.methods], true), folded('Benchmark', data.benchmarks[benchmark]),
      ...stages.map(([place, seed], i) => folded(`Stage ${i + 1}: ${data.stage_configs[place].kind}`, { ...data.stage_configs[place], ...(seed === null ? {} : { seed }) })));
    add('Environment', facts(Object.entries(data.environments[run.environment]).map(([name, each]) => [name.replaceAll('_', ' '), plain(each)])));
    add('Provenance', facts([['fingerprint', make('code', {}, run.fingerprint)], ['record', make('a', { href: encodeURI(file) }, file)],
      ...Object.entries(data.versions[run.versions]).map(([name, each]) => [name.replaceAll('_', ' '), plain(each)])]));
    const row = table.rows.find((each) => each.row === run.row), name = row.also[run.method] || row.name;
    const title = make('h2', { id: 'run-title', tabindex: '-1' }, shape(row.family), `${name}, seed ${run.seed}`, make('small', {}, make('code', {}, run.method), `, ${table.title}`));
    const others = make('div', { class: 'switch' }, `${same.length} run${same.length > 1 ? 's' : ''}:`, same.map((other) => button(`seed ${other.seed}`, { 'data-run': other.id, 'aria-current': other === run ? 'true' : null })));
    return [make('div', { class: 'top' }, title, button('Close', { 'data-close': '' })), make('div', { class: 'body' }, others, ...sections)];
  }

  const plain = (each) => (each === null || each === undefined || each === '' ? NONE : typeof each === 'object' ? JSON.stringify(each) : String(each));
  const facts = (pairs) => make('dl', { class: 'facts' }, pairs.map(([name, each]) => make('div', {}, make('dt', {}, name), make('dd', {}, each ?? NONE))));
  const folded = (title, each, open) => make('details', open ? { open: '' } : {}, make('summary', {}, title), make('pre', { tabindex: '0' }, JSON.stringify(each, null, 2)));

  function duration(seconds) {
    if (seconds === null || seconds === undefined) return NONE;
    return seconds < 120 ? `${seconds.toFixed(1)} s` : seconds < 7200 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
  }

  function trainingCharts(data, run) {
    const [total, place, columns] = data.curves[run.curve], epochs = data.columns[place];
    const labels = { loss: 'training loss', accuracy: 'training accuracy, %', lr: 'learning rate', test_top1: 'test top-1 of the network so far, %' };
    const names = [...Object.keys(labels).filter((name) => name in columns), ...Object.keys(columns).filter((name) => !(name in labels))];
    if (!epochs.length) return make('p', { class: 'note' }, 'No curve is recorded.');
    const note = epochs.length < total ? make('p', { class: 'note' }, `${epochs.length} of ${total} epochs are drawn; the record holds all.`) : null;
    return make('div', {}, make('div', { class: 'charts' }, names.map((name) => lineChart(labels[name] || name.replaceAll('_', ' '), epochs, data.columns[columns[name]]))), note);
  }

  function lineChart(label, xs, values) {
    const points = values.map((y, i) => [xs[i], y]).filter(([, y]) => y !== null);
    if (!points.length) return null;
    const ys = points.map(([, y]) => y), low = Math.min(0, ...ys), high = Math.max(...ys) || 1;
    const x = (each) => 54 + (406 * (each - xs[0])) / (xs.at(-1) - xs[0] || 1), y = (each) => 196 - (164 * (each - low)) / (high - low || 1), near = (each) => String(Number(each.toPrecision(3)));
    return chart(222, `${label}: ${near(ys[0])} in epoch ${points[0][0]}, ${near(ys.at(-1))} in epoch ${points.at(-1)[0]}`,
      make('text', { class: 'title', x: 0, y: 14 }, label),
      ticks(low, high).map((tick) => make('g', {}, make('line', { class: 'axis', x1: 54, x2: 460, y1: y(tick), y2: y(tick) }), make('text', { x: 48, y: y(tick) + 4, 'text-anchor': 'end' }, String(tick)))),
      make('path', { class: 'line', d: points.map(([a, b], i) => `${i ? 'L' : 'M'}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join('') }),
      points.length === 1 ? make('circle', { cx: x(points[0][0]), cy: y(points[0][1]), r: 3, class: 'many' }) : null,
      make('text', { x: 54, y: 214 }, `epoch ${xs[0]}`), make('text', { x: 460, y: 214, 'text-anchor': 'end' }, String(xs.at(-1))));
  }

  function classChart({ names, counts }, accuracy) {
    const order = counts.map((_, c) => c).sort((a, b) => counts[b] - counts[a]), width = 920 / order.length;
    return make('div', {}, legend(GROUPS.filter((name) => counts.some((n) => groupOf(n) === name))), drawing(960, 150, `Accuracy of ${order.length} classes, most training images first`,
      ticks(0, 100).map((tick) => make('g', {}, make('line', { class: 'axis', x1: 34, x2: 956, y1: 130 - 1.2 * tick, y2: 130 - 1.2 * tick }), make('text', { x: 28, y: 134 - 1.2 * tick, 'text-anchor': 'end' }, String(tick)))),
      order.map((c, i) => (accuracy[c] === null ? null : make('rect', { class: groupOf(counts[c]), x: 35 + i * width, width: Math.max(0.6, width * 0.82), y: 130 - 1.2 * accuracy[c], height: 1.2 * accuracy[c] }, make('title', {}, `${names[c]} (${counts[c]} training images): ${fixed(accuracy[c])} %`))))));
  }

  function classTable({ names, counts }, images, hits, accuracy) {
    const box = make('details', {}, make('summary', {}, 'The same as a table'));
    box.addEventListener('toggle', () => box.children.length > 1 || box.append(plainTable(['class', 'training images', 'test images', 'correct', 'accuracy, %'],
      names.map((name, c) => [name, String(counts[c]), String(images[c]), plain(hits[c]), fixed(accuracy[c], 2)]))));
    return box;
  }

  // ---- what is shown, and what is pressed

  function show() {
    read();
    current = here();
    const suites = Object.entries(SUITES).map(([name, { tables }]) => make('a', { href: address(name, mainTable(tables)?.slug || ''), 'aria-current': state.suite === name ? 'page' : null }, name));
    $('#suites').replaceChildren(make('a', { href: '#', 'aria-current': state.suite ? null : 'page' }, 'Map'), ...suites);
    $('#main').replaceChildren(...(state.table ? tab() : overview()).flat(9).filter(Boolean));
    document.title = state.table ? `${state.table.title} · ltbench` : 'ltbench results';
    openRun();
  }

  function openRun() {
    const dialog = $('#run'), id = state.params.get('run'), run = state.table && id ? runsOf(state.suite).all.find((each) => each.id === id) : null;
    if (run) {
      dialog.replaceChildren(...record(run));
      if (!dialog.open) dialog.showModal();
      dialog.scrollTop = 0;
      $('h2', dialog).focus();
    } else if (dialog.open) dialog.close();
    else if (id) say('The run that the address names is not on this page');
  }

  addEventListener('hashchange', () => {
    read();
    if (here() === current) openRun(); else { show(); scrollTo(0, 0); }
  });

  document.addEventListener('click', async (event) => {
    const asked = event.target.closest?.('[data-run]'), dialog = $('#run'), copy = event.target.closest?.('[data-copy]');
    if (asked) { set({ run: asked.dataset.run }); openRun(); }
    if (event.target.closest?.('[data-close]') || event.target === dialog) dialog.close();
    if (copy) {
      const source = document.getElementById(copy.dataset.copy);
      try { await navigator.clipboard.writeText(source.textContent); copy.textContent = 'Copied'; } catch { getSelection().selectAllChildren(source); copy.textContent = 'Selected: press Ctrl-C'; }
      say(copy.textContent);
      setTimeout(() => { copy.textContent = 'Copy'; }, 2500);
    }
  });
  document.addEventListener('submit', (event) => event.preventDefault());
  $('#run').addEventListener('close', () => { if (state.params.get('run')) set({ run: '' }); });

  // what a cell says more, at the pointer or under the focus
  const tip = $('#tip');
  const showTip = (event) => {
    const cell = event.target.closest?.('[data-tip]');
    tip.hidden = !cell;
    if (!cell) return;
    tip.textContent = cell.dataset.tip;
    const box = cell.getBoundingClientRect(), below = box.bottom + tip.offsetHeight + 8 < innerHeight;
    tip.style.left = `${Math.max(8, Math.min(box.left, root.clientWidth - tip.offsetWidth - 8)) + scrollX}px`;
    tip.style.top = `${(below ? box.bottom + 4 : box.top - tip.offsetHeight - 4) + scrollY}px`;
  };
  document.addEventListener('mouseover', showTip);
  document.addEventListener('focusin', showTip);
  document.addEventListener('keydown', (event) => { if (event.key === 'Escape') tip.hidden = true; });

  const stored = {
    get: () => { try { return localStorage.getItem('ltbench-theme'); } catch { return null; } },
    set: (each) => { try { localStorage.setItem('ltbench-theme', each); } catch { /* holds until the page is closed */ } },
  };
  function theme() {
    const system = matchMedia('(prefers-color-scheme: dark)'), toggle = $('#theme');
    if (['light', 'dark'].includes(stored.get())) root.dataset.theme = stored.get();
    const isDark = () => (root.dataset.theme ? root.dataset.theme === 'dark' : system.matches);
    const name = () => { toggle.textContent = isDark() ? 'Light' : 'Dark'; toggle.setAttribute('aria-label', `Switch to ${isDark() ? 'light' : 'dark'} colours`); };
    toggle.addEventListener('click', () => { root.dataset.theme = isDark() ? 'light' : 'dark'; stored.set(root.dataset.theme); name(); });
    system.addEventListener('change', name);
    name();
  }
  theme();
  show();
})();
