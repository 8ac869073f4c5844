'use strict';
// draws the trace in #trace, whose schema README.md beside this file has. All text goes in as textContent,
// and only what is looked at is made: a text may have thousands of tokens, a memory thousands of texts
const trace = JSON.parse(document.getElementById('trace').textContent);
const { written, check } = trace;
const textOf = new Map(trace.texts.map(text => [text.number, text]));
const TEXTS_AT_ONCE = 3, PICKS_AT_ONCE = 12, SENTENCES_AT_ONCE = 40, FOUND_SHOWN = 5;
const $ = id => document.getElementById(id);
let chosen = -1;

function make(tag, text = '', name = '') {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

const sum = numbers => numbers.reduce((a, b) => a + b, 0);
const largest = (numbers, least = 0) => numbers.reduce((a, b) => Math.max(a, b), least);
const number = (value, digits = 2) => value.toFixed(digits).replace('-', '−');
const percent = value => value === 0 ? '0 %' : value < 0.0001 ? '< 0.01 %'
  : `${(100 * value).toPrecision(value >= 0.1 ? 3 : 2)} %`;
const quoted = text => `“${text.trim().replace(/\s+/g, ' ')}”`;
const named = source => source.replace(/^FILE:/, '') || 'a text given on the spot';
const chosenValue = name => document.querySelector(`input[name=${name}]:checked`).value;

function placeOf(text) {
  const place = text.place;
  return place ? `, window ${place.window + 1} of ${place.of}, characters ${place.start} to ${place.end}` : '';
}

// ---- the head of the page ----

function about() {
  const reading = trace.reading, { layers } = trace;
  const parts = [trace.model, `method ${reading.method}`,
    `reading in ${layers.length === 1 ? `layer ${layers[0]}` : `${layers.length} layers, ${layers[0]} to ${layers.at(-1)}`}`];
  if (trace.seed !== undefined) parts.push(`seed ${trace.seed}`);
  $('about').textContent = parts.join(' · ');
}

// sentences that were hidden in turn, and by how many nats the whole written text then is less likely
function sentencesTried() {
  return check.hidden.map(([text, first, end], at) => ({ text, first, end, at }))
    .filter(({ text, first, end }) => sentenceNumber(textOf.get(text), first, end) >= 0)
    .map(span => ({ ...span, drop: sum(check.memory.map((own, i) => own - check.without[span.at][i])) }))
    .sort((a, b) => b.drop - a.drop);
}

function sentenceNumber(text, first, end) {
  return text.sentences.findIndex(span => span[0] === first && span[1] === end);
}

function sentenceName(text, first, end) {
  return `${named(text.source)}${placeOf(text)}, sentence ${sentenceNumber(text, first, end) + 1} of ${text.sentences.length}`;
}

const raised = power => [...String(power)].map(digit => '⁰¹²³⁴⁵⁶⁷⁸⁹'[digit]).join('');
const times = nats => nats < 7 ? Math.exp(nats).toPrecision(2).replace('e+2', '00')
  : `10${raised(Math.floor(nats / Math.LN10))}`;

// -> the sentence that accounts for the text, if one does
function verdict() {
  const gain = sum(check.memory.map((own, i) => own - check.plain[i]));
  const [best, next] = sentencesTried();
  const said = $('verdict');
  if (!written.some(token => token.share > 0)) said.textContent = 'Nothing was drawn from the memory: this is the plain model’s text.';
  else if (best && best.drop >= Math.max(1, gain / 2, next ? 2 * next.drop : 0)) {
    const text = textOf.get(best.text);
    said.append('One sentence matters most: ', make('q', text.tokens.slice(best.first, best.end).join('').trim()),
      ` (${sentenceName(text, best.first, best.end)}). With it hidden, the written text is ${times(best.drop)} times less likely`
      + (gain > 0 ? `; with no memory at all, ${times(gain)} times.` : '.'));
    return best;
  } else if (gain >= 1) said.textContent = `The memory makes the written text ${times(gain)} times as likely as the plain model finds it`
    + (best ? ', and no one sentence accounts for it.' : '.');
  else said.textContent = 'The written text is no likelier with the memory than the plain model finds it.';
  return null;
}

// ---- the written text ----

const shadeOf = {
  gain: i => Math.max(0, check.memory[i] - check.plain[i]),
  share: i => written[i].share,
};

function writeTokens() {
  const all = document.createDocumentFragment();
  written.forEach((token, i) => {
    const made = make('span', token.text || '▯');
    made.id = `t${i}`;
    made.setAttribute('role', 'option');
    made.setAttribute('aria-selected', 'false');
    if (/^\s*\n\s*$/.test(token.text)) made.className = 'break';
    all.append(made);
  });
  $('written').append(all);
}

function shadeTokens() {
  const kind = chosenValue('shade'), shades = written.map((_, i) => shadeOf[kind](i));
  const most = largest(shades, kind === 'gain' ? 1 : 0.0001);
  [...$('written').children].forEach((made, i) => made.style.setProperty('--s', (shades[i] / most).toFixed(3)));
  $('scale').textContent = kind === 'gain' ? `0 to ${number(most, 1)} nats more likely than by the plain model`
    : `0 to ${percent(most)} of attention`;
}

function choose(i) {
  i = Math.min(written.length - 1, Math.max(0, i));
  if (i === chosen) return;
  if (chosen >= 0) $(`t${chosen}`).setAttribute('aria-selected', 'false');
  chosen = i;
  const made = $(`t${i}`);
  made.setAttribute('aria-selected', 'true');
  $('written').setAttribute('aria-activedescendant', made.id);
  within($('written').parentElement, made);
  showToken();
}

// ---- one token ----

function showToken() {
  const token = written[chosen];
  $('token-title').textContent = `${token.text.trim() ? quoted(token.text) : 'A blank'}, token ${chosen + 1} of ${written.length}`;
  showCheck();
  $('texts').replaceChildren();
  moreTexts();
  showMap(token);
  showVotes();
  $('picks').hidden = token.picks.length === 0;
  if (token.picks.length) showPicks(token);
  const first = token.draws[0];
  $('status').textContent = `${token.text}: ${percent(token.share)} of attention to the memory`
    + (first ? `, most to ${named(textOf.get(first.text).source)}` : '');
}

function showCheck() {
  const rows = [['with the memory', check.memory[chosen]]];
  const best = bestHidden(chosen);
  if (best) {
    const text = textOf.get(best.text), place = sentenceNumber(text, best.first, best.end);
    const file = named(text.source).split('/').at(-1);
    rows.push([`with ${place < 0 ? file : `sentence ${place + 1} of ${file}`} hidden`, check.without[best.at][chosen]]);
  }
  rows.push(['by the plain model', check.plain[chosen]]);
  $('check').tBodies[0].replaceChildren(...rows.map(([name, logP]) => {
    const row = make('tr');
    row.append(make('td', name), make('td', percent(Math.exp(logP))), barOf(Math.exp(logP)), make('td', number(logP)));
    return row;
  }));
}

function barOf(share) {
  const cell = make('td', '', 'bars'), bar = make('span', '', 'bar');
  bar.style.setProperty('--w', `${(100 * share).toFixed(2)}%`);
  cell.append(bar);
  return cell;
}

// of what was hidden in turn, texts and sentences or the sentences of one text, that without which the token
// is least likely
function bestHidden(i, number) {
  let best = null;
  check.hidden.forEach(([text, first, end], at) => {
    const drop = check.memory[i] - check.without[at][i];
    const counts = number === undefined || text === number && sentenceNumber(textOf.get(text), first, end) >= 0;
    if (counts && (best === null || drop > best.drop)) best = { text, first, end, at, drop };
  });
  return best;
}

// weights of a text's rows for a token, by row: all, or what is above the mean over all written tokens
function weightsOf(draw, text) {
  const weights = new Float64Array(text.tokens.length);
  const above = chosenValue('rows') === 'above' && written.length > 1;
  draw.rows.forEach((row, at) => { weights[row] = Math.max(0, draw.weights[at] - (above ? text.usual[row] : 0)); });
  return weights;
}

function moreTexts() {
  const { draws } = written[chosen], there = $('texts').children.length;
  const some = draws.slice(there, there + TEXTS_AT_ONCE);
  const weights = some.map(draw => weightsOf(draw, textOf.get(draw.text)));
  if (there === 0) showRowsScale.most = largest(weights.map(own => largest([...own])), 1e-6);
  showRowsScale();
  some.forEach((draw, at) => {
    const article = articleOf(draw, textOf.get(draw.text), weights[at], showRowsScale.most);
    $('texts').append(article);
    within(article.querySelector('.text'), article.querySelector('.best'));
  });
  const left = draws.length - there - some.length;
  $('more-texts').hidden = left <= 0;
  $('more-texts').textContent = `${left} more text${left === 1 ? '' : 's'} that got less`;
  $('rows').hidden = draws.length === 0;
}

// scrolls what holds a part so far that it is seen, and the page not at all
function within(whole, part) {
  const at = part.getBoundingClientRect(), outer = whole.getBoundingClientRect();
  if (at.top < outer.top || at.bottom > outer.bottom) whole.scrollTop += at.top - outer.top - outer.height / 3;
}

function showRowsScale() {
  $('rows-scale').textContent = `0 to ${percent(showRowsScale.most)} of attention for a word`;
}

function articleOf(draw, text, weights, most) {
  const article = make('article'), body = make('div', '', 'text'), best = bestSentence(draw, text, weights);
  article.append(make('h3', `${named(text.source)}${placeOf(text)} — ${percent(draw.share)} of attention`), body);
  let shownBefore = true;
  const shown = sentencesShown(text, weights, best);
  text.sentences.forEach(([first, end], at) => {
    if (shown.has(at)) body.append(sentenceOf(text, first, end, weights, most, at === best.at));
    else if (shownBefore) body.append(' … ');
    shownBefore = shown.has(at);
  });
  article.append(citationOf(text, weights, best));
  return article;
}

function sentencesShown(text, weights, best) {
  const all = text.sentences.map((_, at) => at);
  if (all.length <= SENTENCES_AT_ONCE) return new Set(all);
  const drawn = all.map(at => sum([...weights.slice(...text.sentences[at])]));
  return new Set([best.at, ...all.sort((a, b) => drawn[b] - drawn[a]).slice(0, SENTENCES_AT_ONCE)]);
}

function sentenceOf(text, first, end, weights, most, isBest) {
  const made = make(isBest ? 'mark' : 'span', '', isBest ? 'sentence best' : 'sentence');
  for (let row = first; row < end; row++) {
    const word = make('span', text.tokens[row], 'row');
    if (weights[row] > 0) {
      word.style.setProperty('--s', Math.min(1, weights[row] / most).toFixed(3));
      word.title = `${percent(weights[row])} of attention`;
    }
    made.append(word);
  }
  return made;
}

// the one that the token misses most, by the check; of a text that was not tried the one that drew most
function bestSentence(draw, text, weights) {
  const tried = bestHidden(chosen, draw.text);
  if (tried && tried.drop > 0) return { ...tried, at: sentenceNumber(text, tried.first, tried.end), tried: tried.at };
  const drawn = text.sentences.map(span => sum([...weights.slice(...span)]));
  const at = drawn.indexOf(largest(drawn));
  return { at, first: text.sentences[at][0], end: text.sentences[at][1] };
}

function citationOf(text, weights, best) {
  const said = make('p', '', 'citation'), whole = sum([...weights]);
  const share = whole > 0 ? sum([...weights.slice(best.first, best.end)]) / whole : 0;
  said.append(make('q', text.tokens.slice(best.first, best.end).join('').trim()),
    ` ${sentenceName(text, best.first, best.end)}; ${percent(share)} of the shading in this text. `);
  if (best.tried === undefined) said.append('Hiding it was not tried, or made the token no less likely.');
  else {
    said.append(`Log p of the token: ${number(check.memory[chosen])} with it, ${number(check.without[best.tried][chosen])} without `
      + `it, ${number(check.plain[chosen])} by the plain model (nats).`);
  }
  return said;
}

// ---- where, and how ----

function showMap(token) {
  const cells = [], most = largest(token.map.flat(), 1e-6);
  let strongest = [0, 0];
  token.map.forEach((heads, at) => {
    cells.push(make('b', trace.layers[at]));
    heads.forEach((share, head) => {
      const cell = make('i');
      cell.style.setProperty('--s', (0.9 * share / most).toFixed(3));
      cell.title = `layer ${trace.layers[at]}, head ${head}: ${percent(share)}`;
      if (share > token.map[strongest[0]][strongest[1]]) strongest = [at, head];
      cells.push(cell);
    });
  });
  $('map').style.gridTemplateColumns = `2rem repeat(${trace.heads}, 1fr)`;
  $('map').replaceChildren(...cells);
  const where = `layer ${trace.layers[strongest[0]]}, head ${strongest[1]}`;
  $('map').setAttribute('aria-label', `Share of attention to the memory, ${trace.layers.length} layers by ${trace.heads} heads: most in `
    + `${where}, ${percent(most)}`);
  $('map-scale').textContent = `0 to ${percent(most)} of a head’s attention (${where}). Rows are layers, columns heads.`;
}

function showVotes() {
  const recall = trace.recalls.findLast(one => one.step <= chosen);
  $('votes').hidden = !recall;
  if (!recall) return;
  const { votes, voters } = recall, most = largest(votes.map(vote => vote.votes), 1e-6);
  const recalled = new Set(recall.recalled);
  const last = votes.filter(vote => recalled.has(vote.text)).map(vote => vote.votes);
  const next = votes.find(vote => !recalled.has(vote.text));
  const margin = last.length ? `; the least that was recalled is ${number((Math.min(...last) - (next ? next.votes : 0)) / voters)} `
    + 'above the next, per token and head' : '; nothing was recalled';
  $('votes-about').textContent = `After ${recall.step} written tokens, by ${voters} token-heads${margin}.`;
  $('votes').querySelector('tbody').replaceChildren(...votes.map(vote => {
    const row = make('tr'), name = make('td', named(vote.source) + placeOf(vote));
    if (recalled.has(vote.text)) name.append(make('strong', ' recalled'));
    row.append(name, barOf(vote.votes / most), make('td', number(vote.votes, 1)));
    return row;
  }));
}

// ---- methods 1 to 3: the write-up's Table 2 ----

function showPicks(token) {
  const { reading } = trace, ordinary = token.threshold === null ? 'no ordinary token looks up (MF is 0)'
    : `a token is picked from ${token.threshold} on (1 / (MF t))`;
  $('picks-about').textContent = `${token.picks.length} token-heads picked, each with the attention of the newest row (Eq. 1); `
    + `${ordinary}, the bookkeeping token above ${reading.bookkeeping_fraction} (BF). The words found are those with the largest share (Eq. 5).`;
  const titles = ['layer', 'head', 'token', 'Eq. 1', 'found', 'squared distance', 'Eq. 5'];
  const head = make('tr');
  head.append(...titles.map(title => {
    const made = make('th', title);
    made.scope = 'col';
    return made;
  }));
  $('picks').querySelector('thead').replaceChildren(head);
  $('picks').querySelector('tbody').replaceChildren();
  morePicks();
}

function morePicks() {
  const body = $('picks').querySelector('tbody'), sorted = [...written[chosen].picks].sort((a, b) => b[1] - a[1]);
  const there = body.children.length, some = sorted.slice(there, there + PICKS_AT_ONCE);
  body.append(...some.map(([at, attention]) => pickRow(trace.look_ups[at], attention)));
  const left = sorted.length - there - some.length;
  $('more-picks').hidden = left <= 0;
  $('more-picks').textContent = `${left} more, with less attention`;
}

function pickRow(found, attention) {
  const row = make('tr'), context = [...trace.prompt, ...written.map(token => token.text)];
  const best = found.rows.map((_, at) => at).filter(at => found.rows[at] >= 0)
    .sort((a, b) => found.shares[b] - found.shares[a]).slice(0, FOUND_SHOWN);
  const columns = [found.layer, found.head, JSON.stringify(context[found.token]), attention.toFixed(4),
    best.map(at => JSON.stringify(wordOf(found.rows[at]))).join(' '), best.map(at => found.distances[at].toFixed(1)).join(' '),
    best.map(at => found.shares[at].toFixed(3)).join(' ')];
  row.append(...columns.map(cell => make('td', cell)));
  return row;
}

// by methods 1 to 4 rows are counted through all texts
function wordOf(row) {
  const text = trace.texts.findLast(one => one.first <= row);
  return text && text.tokens[row - text.first] || '?';
}

// ---- begin ----

function listen() {
  $('written').addEventListener('click', event => {
    const made = event.target.closest('[role=option]');
    if (made) choose(Number(made.id.slice(1)));
  });
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -1e9, End: 1e9 };
  $('written').addEventListener('keydown', event => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    choose(chosen + steps[event.key]);
  });
  $('shades').addEventListener('change', shadeTokens);
  $('rows').addEventListener('change', () => { $('texts').replaceChildren(); moreTexts(); });
  $('more-texts').addEventListener('click', moreTexts);
  $('more-picks').addEventListener('click', morePicks);
  const isDark = () => (document.documentElement.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
  const label = () => { $('theme').textContent = isDark() ? 'light' : 'dark'; };
  $('theme').addEventListener('click', () => { document.documentElement.dataset.theme = isDark() ? 'light' : 'dark'; label(); });
  label();
}

function begin() {
  about();
  $('plain').textContent = trace.plain?.trim() || 'It was not written.';
  $('prompt').textContent = trace.prompt.join('').replace(/^\s+/, '');
  writeTokens();
  shadeTokens();
  listen();
  const best = verdict();
  // to begin with, the first token that owes much to it, and that the plain model does not expect anyway
  const owes = written.map((_, i) => Math.min(check.memory[i] - check.plain[i],
    best ? check.memory[i] - check.without[best.at][i] : Infinity));
  const most = largest(owes, -Infinity);
  if (written.length) choose(owes.findIndex(own => own >= (most > 0 ? most / 2 : most)));
}

begin();
