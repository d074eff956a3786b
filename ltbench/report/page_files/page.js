// The page's own script: theme, sorting, filtering, seeds of a number, runs of a method, the record of a run.
// Everything on the page is there without it, but for single runs. Nothing is fetched.
'use strict';
(() => {
  const root = document.documentElement;
  root.classList.add('js');
  const stored = {
    get: () => { try { return localStorage.getItem('ltbench-theme'); } catch { return null; } },
    set: (value) => { try { localStorage.setItem('ltbench-theme', value); } catch { /* works until the page is closed */ } },
  };
  if (['light', 'dark'].includes(stored.get())) root.dataset.theme = stored.get();

  const $ = (selector, inside = document) => inside.querySelector(selector);
  const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const NONE = '–';

  /** An element; strings among the children become text, so that no name can become markup. */
  function make(tag, attributes = {}, ...children) {
    const svg = ['svg', 'path', 'line', 'circle', 'text', 'title', 'g'].includes(tag);
    const element = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(name, value);
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }
  const button = (label, attributes = {}) => make('button', { type: 'button', ...attributes }, label);
  /** A name as nodes that may break where the tables' names do: after +, ( and a comma. */
  const breakable = (name) => name.split(/(?<=[+,])|(?<=\w\()/).flatMap((piece, i) => (i ? [make('wbr'), piece] : [piece]));
  const say = (text) => { $('#said').textContent = text; };

  document.addEventListener('DOMContentLoaded', () => {
    const data = JSON.parse($('#data').textContent);
    const runs = data.runs.map((values) => Object.fromEntries(values.map((value, i) => [data.fields[i], value])));
    const runsOf = Map.groupBy ? Map.groupBy(runs, (run) => run.row) : groupBy(runs);
    const metrics = data.metrics.map(([name, label, decimals, low]) =>
      ({ name, label, decimals, low, place: data.metric_names.indexOf(name) }));
    const metricNamed = Object.fromEntries(metrics.map((metric) => [metric.name, metric]));
    const valueOf = (run, metric) => run.metrics[metric.place];
    const written = (value, decimals) => (value === null || value === undefined ? NONE : value.toFixed(decimals));

    function groupBy(list) {
      const groups = new Map();
      for (const run of list) groups.set(run.row, [...(groups.get(run.row) || []), run]);
      return groups;
    }

    // ---- light and dark

    function theme() {
      const toggle = $('#theme'), system = matchMedia('(prefers-color-scheme: dark)');
      const isDark = () => (root.dataset.theme ? root.dataset.theme === 'dark' : system.matches);
      const show = () => { toggle.textContent = isDark() ? 'Light' : 'Dark'; toggle.setAttribute('aria-label', `Switch to ${isDark() ? 'light' : 'dark'} colours`); };
      toggle.addEventListener('click', () => { root.dataset.theme = isDark() ? 'light' : 'dark'; stored.set(root.dataset.theme); show(); });
      system.addEventListener('change', show);
      show();
    }

    // ---- sorting

    /** Sort the rows of a body: numbers as numbers, nothing last whichever way, equal ones as they were. */
    function sortRows(body, column, descending) {
      const key = (row) => {
        const cell = row.cells[column];
        if (!cell || cell.classList.contains('reason')) return null;
        if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
        const text = cell.textContent.trim();
        return text === '' || text.startsWith(NONE) ? null : cell.classList.contains('n') && !Number.isNaN(parseFloat(text)) ? parseFloat(text) : text;
      };
      const order = (a, b) => (typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), 'en', { numeric: true }));
      const rows = [...body.rows].filter((row) => !row.classList.contains('runs'));
      const opened = new Map(rows.map((row) => [row, row.nextElementSibling?.classList.contains('runs') ? row.nextElementSibling : null]));
      const sorted = rows.map((row) => [key(row), row]).sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return descending ? order(b, a) : order(a, b);
      });
      body.append(...sorted.flatMap(([, row]) => (opened.get(row) ? [row, opened.get(row)] : [row])));
    }

    function sortButtons(table, pressed) {
      $$('thead th', table).forEach((head, column) => {
        const label = head.textContent;
        head.replaceChildren(button(label, { title: head.title || undefined }));
        head.removeAttribute('title');
        head.firstChild.addEventListener('click', () => pressed(head, column, label));
      });
    }

    function markSorted(table, column, descending) {
      $$('thead th', table).forEach((head, i) => (i === column ? head.setAttribute('aria-sort', descending ? 'descending' : 'ascending') : head.removeAttribute('aria-sort')));
    }

    function plainTables() {
      for (const table of $$('table.plain')) {
        sortButtons(table, (head, column, label) => {
          const descending = head.hasAttribute('aria-sort') ? head.getAttribute('aria-sort') === 'ascending' : head.classList.contains('n');
          sortRows(table.tBodies[0], column, descending);
          markSorted(table, column, descending);
          say(`Sorted by ${label}, ${descending ? 'descending' : 'ascending'}`);
        });
      }
    }

    /** All leaderboards are sorted alike: the way is kept here. */
    function resultTables() {
      const state = { name: 'top1', descending: true };
      const tables = $$('table.results');
      const all = { state, tables, sort, draw };
      function sort(name, descending) {
        Object.assign(state, { name, descending });
        for (const table of tables) {
          const column = $$('thead th', table).findIndex((head) => head.dataset.name === name);
          if (column < 0) continue;
          sortRows(table.tBodies[0], column, descending);
          markSorted(table, column, descending);
        }
      }
      /** Seeds of the chosen metric as points on one scale a table, beside the number of seeds. */
      function draw() {
        const metric = metricNamed[$('[name=metric]').value];
        for (const table of tables) {
          const rows = $$('tr[data-row]', table).map((row) => [row, (runsOf.get(Number(row.dataset.row)) || []).map((run) => valueOf(run, metric)).filter((value) => value !== null)]);
          const values = rows.flatMap(([, own]) => own), low = Math.min(...values), span = Math.max(...values) - low || 1;
          for (const [row, own] of rows) {
            $('.seeds svg', row)?.remove();
            if (!own.length) continue;
            const strip = make('svg', { width: 64, height: 14, 'aria-hidden': 'true' }, make('line', { x1: 4, x2: 60, y1: 7, y2: 7, stroke: 'var(--line)' }),
              own.map((value) => make('circle', { cx: (5 + (54 * (value - low)) / span).toFixed(1), cy: 7, r: 3.5 })));
            row.cells[1].prepend(strip);
          }
        }
      }
      for (const table of tables) {
        table.setAttribute('role', 'grid');
        sortButtons(table, (head) => {
          const { name } = head.dataset, best = name !== 'method' && head.dataset.low === undefined;
          const descending = state.name === name ? !state.descending : best;
          sort(name, descending);
          if (metricNamed[name]) $('[name=metric]').value = name;
          draw();
          count();
        });
        for (const head of $$('th[scope=row]', table)) {
          if (!runsOf.has(Number(head.parentElement.dataset.row))) continue;
          const opener = make('button', { type: 'button', 'aria-expanded': 'false' }, make('span', {}, [...head.childNodes]));
          head.replaceChildren(opener);
          opener.addEventListener('click', () => openRuns(head.parentElement, opener));
        }
        $$('tbody td', table).forEach((cell) => { cell.tabIndex = -1; });
      }
      sort(state.name, state.descending);
      return all;
    }

    function openRuns(row, opener) {
      const open = opener.getAttribute('aria-expanded') === 'true';
      opener.setAttribute('aria-expanded', String(!open));
      if (open) { row.nextElementSibling.remove(); return; }
      const heads = ['run', ...metrics.map((metric) => metric.label), 'wall time', 'fingerprint'];
      const body = runsOf.get(Number(row.dataset.row)).map((run) => make('tr', {},
        make('th', { scope: 'row' }, button(`seed ${run.seed}`, { 'data-run': run.id, 'aria-haspopup': 'dialog' })),
        metrics.map((metric) => make('td', { class: 'n' }, written(valueOf(run, metric), 2))),
        make('td', { class: 'n' }, duration(run.cost[2])), make('td', {}, make('code', {}, run.fingerprint.slice(0, 12)))));
      const table = make('table', { 'aria-label': `Runs of ${opener.textContent}` },
        make('thead', {}, make('tr', {}, heads.map((label, i) => make('th', { scope: 'col', class: i && i < heads.length - 1 ? 'n' : undefined }, label)))), make('tbody', {}, body));
      row.after(make('tr', { class: 'runs' }, make('td', { colspan: row.closest('table').tHead.rows[0].cells.length }, table)));
    }

    // ---- filtering

    function filters() {
      const form = $('#filters');
      const apply = () => {
        const text = form.elements.method.value.trim().toLowerCase();
        const wanted = ['benchmark', 'factor', 'setting'].filter((name) => form.elements[name] && form.elements[name].value !== '*');
        for (const board of $$('.board')) {
          const fits = wanted.every((name) => board.dataset[name] === form.elements[name].value);
          for (const row of $$('tr[data-row]', board)) {
            row.hidden = !fits || !row.cells[0].textContent.toLowerCase().includes(text);
            if (row.nextElementSibling?.classList.contains('runs')) row.nextElementSibling.hidden = row.hidden;
          }
          board.hidden = !$('tr[data-row]:not([hidden])', board);
        }
        count();
      };
      const changed = (event) => {
        if (event.target.name === 'metric') {
          boards.sort(event.target.value, !metricNamed[event.target.value].low);
          boards.draw();
        }
        apply();
      };
      form.addEventListener('input', changed);
      form.addEventListener('change', changed); // some tools and browsers tell of a select only so
      form.addEventListener('submit', (event) => event.preventDefault());
      form.addEventListener('reset', () => setTimeout(() => { boards.sort('top1', true); boards.draw(); apply(); }));
      $('#all').addEventListener('click', () => { form.reset(); form.elements.method.focus(); });
      form.reset();
    }

    function count() {
      const shown = $$('tr[data-row]:not([hidden])').length, all = $$('tr[data-row]').length;
      const tables = $$('.board:not([hidden])').length, { name, descending } = boards.state;
      const head = $(`.results th[data-name="${name}"]`);
      $('#count').textContent = `Showing ${shown === all ? `all ${all}` : `${shown} of ${all}`} rows${tables > 1 ? ` in ${tables} tables` : ''}`
        + (head ? `, sorted by ${head.textContent}, ${descending ? 'highest' : 'lowest'} first.` : '.').replace(/by method, (\w+)/, (_, way) => `by method, ${way === 'lowest' ? 'A' : 'Z'}`);
      $('#empty').hidden = shown > 0;
    }

    // ---- the seeds of a number

    function tips() {
      const tip = $('#tip');
      let owner = null, timer = 0;
      const hide = () => { owner?.removeAttribute('aria-describedby'); owner = null; tip.hidden = true; };
      const show = (cell) => {
        clearTimeout(timer);
        const row = cell.closest('tr[data-row]'), table = cell.closest('table.results');
        const metric = row && table && metricNamed[table.tHead.rows[0].cells[cell.cellIndex]?.dataset.name];
        const own = metric ? runsOf.get(Number(row.dataset.row)) : null;
        if (!own || cell.classList.contains('reason')) return hide();
        owner?.removeAttribute('aria-describedby');
        owner = cell;
        tip.replaceChildren(make('strong', {}, `${metric.label}, ${own.length === 1 ? 'one seed: no deviation' : 'by seed'}`),
          make('ul', {}, own.map((run) => make('li', {}, make('span', {}, `seed ${run.seed} `), make('span', {}, written(valueOf(run, metric), 2))))));
        tip.hidden = false;
        const box = cell.getBoundingClientRect(), below = box.bottom + tip.offsetHeight + 8 < innerHeight;
        tip.style.left = `${Math.max(8, Math.min(box.right - tip.offsetWidth, root.clientWidth - tip.offsetWidth - 8)) + scrollX}px`;
        tip.style.top = `${(below ? box.bottom + 2 : box.top - tip.offsetHeight - 2) + scrollY}px`;
        cell.setAttribute('aria-describedby', 'tip');
      };
      const cellOf = (event) => event.target.closest?.('table.results > tbody > tr[data-row] > td');
      document.addEventListener('mouseover', (event) => {
        const cell = cellOf(event);
        if (cell) show(cell);
        else if (tip.contains(event.target)) clearTimeout(timer);
        else if (owner && owner !== document.activeElement) { clearTimeout(timer); timer = setTimeout(hide, 150); }
      });
      document.addEventListener('focusin', (event) => (cellOf(event) ? show(cellOf(event)) : hide()));
      document.addEventListener('focusout', (event) => { if (event.target === owner) hide(); });
      document.addEventListener('keydown', (event) => { if (event.key === 'Escape') hide(); });
      document.addEventListener('click', (event) => cellOf(event)?.focus({ preventScroll: true }));
    }

    /** Arrow keys, Home and End move among the cells of a leaderboard, over rows that are hidden or opened. */
    function gridKeys() {
      const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -99], End: [0, 99] };
      document.addEventListener('keydown', (event) => {
        const cell = event.target.closest?.('table.results > * > tr:not(.runs) > :is(td, th)'), step = steps[event.key];
        if (!cell || !step || event.ctrlKey || event.metaKey || event.altKey) return;
        const rows = $$('thead tr, tr[data-row]:not([hidden])', cell.closest('table'));
        const row = rows[Math.max(0, Math.min(rows.length - 1, rows.indexOf(cell.parentElement) + step[0]))];
        const next = row.cells[Math.max(0, Math.min(row.cells.length - 1, cell.cellIndex + step[1]))];
        event.preventDefault();
        ($('button', next) || next).focus();
        next.scrollIntoView({ block: 'nearest', inline: 'nearest' });
      });
    }

    // ---- the record of a run

    function dialogs() {
      const dialog = $('#run');
      const byId = new Map(runs.map((run) => [run.id, run]));
      const named = () => (location.hash.startsWith('#run=') ? byId.get(decodeURIComponent(location.hash.slice(5))) : null);
      const follow = () => {
        const run = named();
        if (run) {
          dialog.replaceChildren(...recordOf(run));
          if (!dialog.open) dialog.showModal();
          dialog.scrollTop = 0;
          $('h2', dialog).focus();
        } else {
          if (dialog.open) dialog.close();
          if (location.hash.startsWith('#run=')) say('The run that the address names is not on this page');
        }
      };
      document.addEventListener('click', (event) => {
        const asked = event.target.closest('[data-run]');
        if (asked) location.hash = `run=${encodeURIComponent(asked.dataset.run)}`;
        if (event.target.closest('[data-close]') || event.target === dialog) dialog.close();
      });
      dialog.addEventListener('close', () => { if (named()) history.replaceState(null, '', '#leaderboard'); });
      addEventListener('hashchange', follow);
      follow();
    }

    function recordOf(run) {
      const classes = data.classes[run.classes], images = data.images[run.images];
      const board = $(`tr[data-row="${run.row}"]`).closest('.board');
      const accuracy = run.hits.map((hits, c) => (hits === null ? null : (100 * hits) / images[c]));
      const [benchmark, stages] = run.config, sections = [];
      const add = (title, ...content) => sections.push(make('h3', {}, title), ...content);
      const file = `records/${run.id}.json`;
      const same = runsOf.get(run.row);
      add('Result', facts(data.metric_names.map((name, i) => [metricNamed[name]?.label || name.replaceAll('_', ' ').replace('ece', 'ECE'), written(run.metrics[i], 2)])));
      add('Training', trainingCharts(run), note(run));
      add('Classes', classChart(classes, accuracy), classTable(classes, images, run.hits, accuracy));
      if (data.warnings[run.warnings].length) add('Warnings', make('ul', {}, data.warnings[run.warnings].map((text) => make('li', {}, text))));
      if (run.chosen) add('Chosen on validation images', facts(Object.entries(run.chosen).map(([name, value]) => [name, plain(value)]), 'wide'));
      add('Cost', facts([['parameters', run.cost[0]?.toLocaleString('en')], ['FLOPs an image', run.cost[1]?.toLocaleString('en')], ['wall time', duration(run.cost[2])], ['CPU time', duration(run.cost[3])],
        ['images/s', run.cost[4]?.toLocaleString('en')], ['peak memory', run.cost[5] === null ? NONE : `${run.cost[5]} MB`]]),
        small(['stage', 'fingerprint', 'epochs', 'wall time'], run.stages.map((place) => data.stages[place]).map(([kind, print, epochs, wall]) => [kind, make('code', {}, print), plain(epochs), duration(wall)])));
      add('Configuration', folded('Method and options', data.methods[run.methods], true), folded('Benchmark', data.benchmarks[benchmark]),
        ...stages.map(([place, seed], i) => folded(`Stage ${i + 1}: ${data.stage_configs[place].kind}`, { ...data.stage_configs[place], ...(seed === null ? {} : { seed }) })));
      add('Environment', facts(Object.entries(data.environments[run.environment]).map(([name, value]) => [name.replaceAll('_', ' '), plain(value)]), 'wide'));
      add('Provenance', facts([['fingerprint', make('code', {}, run.fingerprint)], ['record', make('a', { href: encodeURI(file) }, file)],
        ...Object.entries(data.versions[run.versions]).map(([name, value]) => [name.replaceAll('_', ' ').replace(/^(?=schema|protocol)/, 'version of '), plain(value)])], 'wide'));
      const title = make('h2', { id: 'run-title', tabindex: '-1' }, breakable(`${run.method}, seed ${run.seed}`), make('small', {}, $('h3', board).textContent));
      const others = make('div', { class: 'switch' }, `${same.length} run${same.length > 1 ? 's' : ''}:`, same.map((other) => button(`seed ${other.seed}`, { 'data-run': other.id, 'aria-current': other === run ? 'true' : undefined })));
      return [make('div', { class: 'top' }, title, button('Close', { 'data-close': '' })), make('div', { class: 'body' }, others, ...sections)];
    }

    function note(run) {
      const [total, epochs] = data.curves[run.curve], kept = data.columns[epochs].length;
      return kept < total ? make('p', { class: 'about' }, `${kept} of ${total} epochs are drawn; the record holds all.`) : null;
    }

    const plain = (value) => (value === null || value === undefined || value === '' ? NONE : typeof value === 'object' ? JSON.stringify(value) : String(value));
    const facts = (pairs, kind = '') => make('dl', { class: `facts ${kind}` }, pairs.map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value ?? NONE))));
    const small = (heads, rows) => make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': heads.join(', ') }, make('table', {},
      make('thead', {}, make('tr', {}, heads.map((label) => make('th', { scope: 'col' }, label)))), make('tbody', {}, rows.map((cells) => make('tr', {}, cells.map((content) => make('td', {}, content)))))));
    const folded = (title, value, open) => make('details', open ? { open: '' } : {}, make('summary', {}, title), make('pre', { tabindex: '0' }, JSON.stringify(value, null, 2)));

    function duration(seconds) {
      if (seconds === null || seconds === undefined) return NONE;
      return seconds < 120 ? `${seconds.toFixed(1)} s` : seconds < 7200 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
    }

    function trainingCharts(run) {
      const [, place, columns] = data.curves[run.curve], epochs = data.columns[place];
      const labels = { loss: 'training loss', accuracy: 'training accuracy, %', lr: 'learning rate', bn_scale: 'scale of normalised BN', test_top1: 'test top-1 of the network so far, %' };
      const names = Object.keys(columns).sort((a, b) => (Object.keys(labels).indexOf(a) + 9) % 9 - (Object.keys(labels).indexOf(b) + 9) % 9);
      if (!epochs.length) return make('p', { class: 'about' }, 'No curve is recorded.');
      return make('div', { class: 'charts' }, names.map((name) => lineChart(labels[name] || name.replaceAll('_', ' '), epochs, data.columns[columns[name]])));
    }

    function lineChart(label, xs, values) {
      const known = values.map((y, i) => [xs[i], y]).filter(([, y]) => y !== null);
      if (!known.length) return null;
      const ys = known.map(([, y]) => y), low = Math.min(0, ...ys), high = Math.max(...ys) || 1;
      const x = (value) => 44 + (266 * (value - xs[0])) / (xs.at(-1) - xs[0] || 1), y = (value) => 142 - (112 * (value - low)) / (high - low || 1);
      const short = (value) => String(Number(value.toPrecision(3)));
      const said = `${label}: ${short(ys[0])} in epoch ${known[0][0]}, ${short(ys.at(-1))} in epoch ${known.at(-1)[0]}`;
      return make('svg', { class: 'chart', viewBox: '0 0 320 170', role: 'img', 'aria-label': said },
        make('text', { class: 'title', x: 0, y: 12 }, label),
        [low, (low + high) / 2, high].map((tick) => make('g', {}, make('line', { class: 'axis', x1: 44, x2: 310, y1: y(tick), y2: y(tick) }), make('text', { x: 38, y: y(tick) + 4, 'text-anchor': 'end' }, short(tick)))),
        make('path', { class: 'line', d: known.map(([a, b], i) => `${i ? 'L' : 'M'}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join('') }),
        known.length === 1 ? make('circle', { cx: x(known[0][0]), cy: y(known[0][1]), r: 3, class: 'many' }) : null,
        make('text', { x: 44, y: 160 }, `epoch ${xs[0]}`), make('text', { x: 310, y: 160, 'text-anchor': 'end' }, String(xs.at(-1))));
    }

    const groupOf = (images) => (images > 100 ? 'many' : images >= 20 ? 'medium' : 'few');

    function classChart({ names, counts }, accuracy) {
      const order = counts.map((_, c) => c).sort((a, b) => counts[b] - counts[a]), width = 860 / order.length, gap = width > 4 ? Math.min(width / 4, 6) : 0;
      const bars = { many: '', medium: '', few: '' }, first = {};
      order.forEach((c, i) => {
        const left = 40 + i * width, group = groupOf(counts[c]), top = 180 - 1.5 * (accuracy[c] ?? 0);
        first[group] ??= [left, i];
        if (accuracy[c] !== null) bars[group] += `M${(left + gap / 2).toFixed(2)} 180V${top.toFixed(2)}h${(width - gap).toFixed(2)}V180z`;
      });
      const present = Object.keys(bars).filter((group) => first[group]);
      return make('svg', { class: 'chart', viewBox: '0 0 900 226', role: 'img', 'aria-label': `Accuracy of ${order.length} classes, most training images first; the values are in the table below` },
        make('text', { class: 'title', x: 0, y: 12 }, 'accuracy of each class, %; most training images first'),
        [0, 50, 100].map((tick) => make('g', {}, make('line', { class: 'axis', x1: 40, x2: 900, y1: 180 - 1.5 * tick, y2: 180 - 1.5 * tick }), make('text', { x: 34, y: 184 - 1.5 * tick, 'text-anchor': 'end' }, String(tick)))),
        present.map((group) => make('path', { class: group, d: bars[group] })),
        width > 26 ? order.map((c, i) => make('text', { x: 40 + (i + 0.5) * width, y: 196, 'text-anchor': 'middle' }, [...names[c]].length * 6 < width ? names[c] : String(c))) : null,
        present.map((group) => make('text', { class: group, x: first[group][0] + gap / 2, y: 216, 'font-weight': 600 }, `${group} (${counts.filter((n) => groupOf(n) === group).length})`)));
    }

    function classTable({ names, counts }, images, hits, accuracy) {
      const box = make('details', {}, make('summary', {}, 'The same as a table'));
      box.addEventListener('toggle', () => box.children.length > 1 || box.append(small(['class', 'training images', 'test images', 'correct', 'accuracy, %'],
        names.map((name, c) => [name, String(counts[c]), String(images[c]), plain(hits[c]), written(accuracy[c], 2)]))));
      return box;
    }

    // ---- copying

    function copying() {
      document.addEventListener('click', async (event) => {
        const asked = event.target.closest('[data-copy]');
        if (!asked) return;
        const source = document.getElementById(asked.dataset.copy);
        try {
          await navigator.clipboard.writeText(source.textContent);
          asked.textContent = 'Copied';
        } catch {
          getSelection().selectAllChildren(source);
          asked.textContent = 'Selected: press Ctrl-C';
        }
        say(asked.textContent);
        setTimeout(() => { asked.textContent = 'Copy'; }, 2500);
      });
    }

    // last: what is called needs every constant above
    theme();
    plainTables();
    const boards = resultTables();
    filters();
    tips();
    gridKeys();
    dialogs();
    copying();
  });
})();
