// What agents, units and containers say, as they say it; read only while somebody looks.

import { useEffect, useRef, useState } from 'preact/hooks';
import { api } from './api';
import type { LogChange, LogQuery, Node } from './api';
import { clean, withoutColours } from './format';
import { t } from './i18n';
import type { Key } from './i18n';
import { RANGES, logQuery } from './logquery';
import type { LogWish } from './logquery';
import { clockOffset, isComplete, may, now, sorted } from './state';
import { Panel, moment } from './widgets';

const LINES_MAX = 1000;
const LEVELS = { debug: 7, info: 6, warning: 4, err: 3 };

export function LogsPage() {
  return (
    <div class="page">
      <div class="head">
        <h1>{t('logs')}</h1>
      </div>
      <Panel title={t('sources')}>
        <p class="muted">{t('logsHelp')}</p>
        {isComplete.value && sorted.value.length === 0 && <p class="empty">{t('noNodes')}</p>}
        {sorted.value.length > 0 && <LogViewer nodes={sorted.value} />}
      </Panel>
    </div>
  );
}

export function LogsPanel({ node }: { node: Node }) {
  return (
    <Panel title={t('logs')} wide>
      <LogViewer nodes={[node]} />
    </Panel>
  );
}

function LogViewer({ nodes }: { nodes: Node[] }) {
  // what containers and units say may be secret: those who may not see it are not offered it
  const mayMore = may('operator');
  const [wish, setWish] = useState<LogWish>(() => {
    const first = nodes.find(({ connected }) => connected) ?? nodes[0];
    return { targets: first ? [first.name] : [], units: '', level: LEVELS.debug, grep: '', range: 'newest', from: '', to: '', kept: mayMore && !first?.connected };
  });
  const live = nodes.filter((node) => node.connected);
  const sources = wish.kept
    ? nodes.map(({ name }) => name)
    : live.flatMap((node) => [node.name, ...(mayMore ? node.containers.map(({ name }) => `${node.name}/${name}`) : [])]);
  const [shown, setShown] = useState<{ of: string; query: LogQuery } | null>(null);
  const change = (part: Partial<LogWish>) => setWish({ ...wish, ...part });
  const choose = (source: string, isChosen: boolean) =>
    change({ targets: [...wish.targets.filter((target) => target !== source), ...(isChosen ? [source] : [])] });
  const query = logQuery({ ...wish, targets: wish.targets.filter((target) => sources.includes(target)) }, now.value + clockOffset.value);
  const isSame = shown?.of === JSON.stringify(wish);
  const submit = (event: Event) => {
    event.preventDefault();
    setShown(isSame || query === null ? null : { of: JSON.stringify(wish), query });
  };
  return (
    <>
      <form class="log-form" onSubmit={submit}>
        {sources.length > 1 && (
          <fieldset class="choices">
            <legend>{t('from')}</legend>
            <div>
              {sources.map((source) => (
                <label key={source} class="inline">
                  <input type="checkbox" checked={wish.targets.includes(source)} onChange={(event) => choose(source, event.currentTarget.checked)} />
                  <span>{clean(source)}</span>
                </label>
              ))}
            </div>
          </fieldset>
        )}
        <div class="row">
          {mayMore && (
            <label>
              {t('units')}
              <input value={wish.units} autocomplete="off" placeholder="podman.service" onInput={(event) => change({ units: event.currentTarget.value })} />
            </label>
          )}
          <label>
            {t('atLeast')}
            <select value={wish.level} onChange={(event) => change({ level: Number(event.currentTarget.value) })}>
              {Object.entries(LEVELS).map(([name, number]) => (
                <option key={name} value={number}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <label>
            {t('logText')}
            <input type="search" value={wish.grep} onInput={(event) => change({ grep: event.currentTarget.value })} />
          </label>
          <label>
            {t('range')}
            <select value={wish.range} onChange={(event) => change({ range: event.currentTarget.value as LogWish['range'] })}>
              {RANGES.map((range) => (
                <option key={range} value={range}>
                  {t(`r_${range}` as Key)}
                </option>
              ))}
            </select>
          </label>
          {wish.range === 'between' && (
            <>
              <label>
                {t('between')}
                <input class="mono" placeholder="2030-01-31 12:00" value={wish.from} onInput={(event) => change({ from: event.currentTarget.value })} />
              </label>
              <label>
                {t('and')}
                <input class="mono" placeholder="2030-01-31 12:30" value={wish.to} onInput={(event) => change({ to: event.currentTarget.value })} />
              </label>
            </>
          )}
          {mayMore && (
            <label class="inline">
              <input type="checkbox" checked={wish.kept} onChange={(event) => change({ kept: event.currentTarget.checked })} />
              {t('keptLogs')}
            </label>
          )}
          <button type="submit" aria-expanded={shown !== null} disabled={query === null}>
            {t(isSame ? 'hideLogs' : 'showLogs')}
          </button>
        </div>
      </form>
      {shown && <Lines key={shown.of} query={shown.query} />}
    </>
  );
}

interface Shown {
  id: number;
  tone: string;
  source: string;
  text: string;
  /** And no notice. */
  isLine: boolean;
}

/** Sources one after another, each in a colour that the page has anyway: not those of warnings. */
const HUES = ['plain', 'care', 'ok', 'wait', 'idle'];

function Lines({ query }: { query: LogQuery }) {
  const box = useRef<HTMLDivElement>(null);
  const sources = useRef(new Map<string, number>());
  const [lines, setLines] = useState<Shown[]>([]);
  const [over, setOver] = useState('');
  const isMany = query.target.includes(',');
  const hueOf = (source: string) => {
    const known = sources.current;
    if (!known.has(source)) known.set(source, known.size);
    return HUES[(known.get(source) ?? 0) % HUES.length];
  };
  useEffect(() => {
    const stop = new AbortController();
    let count = 0;
    const tell = (changes: LogChange[]) => {
      const fresh = changes.flatMap((change) => shownOf(change, () => ++count));
      if (fresh.length > 0) setLines((before) => [...before, ...fresh].slice(-LINES_MAX));
    };
    const ended = (why: string) => {
      if (!stop.signal.aborted) setOver(why);
    };
    api.watchLogs(query, tell, stop.signal).then(
      () => ended(t('logsOver')),
      (error: Error) => ended(t('failed', { why: clean(error.message) })),
    );
    return () => stop.abort();
  }, []);
  // who has scrolled up reads there
  const wasAtEnd = !box.current || box.current.scrollHeight - box.current.scrollTop - box.current.clientHeight < 40;
  useEffect(() => {
    if (wasAtEnd && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  return (
    <>
      <div ref={box} class="log mono" tabindex={0} role="region" aria-label={t('logs')}>
        {lines.map(({ id, tone, source, text }) => (
          <div key={id} class={tone}>
            {isMany && source && <b class={hueOf(source)}>{source} </b>}
            {text}
          </div>
        ))}
        {over && !lines.some(({ isLine }) => isLine) && <div>{t('noLines')}</div>}
      </div>
      {over && (
        <p class="note warn" role="status">
          {over}
        </p>
      )}
    </>
  );
}

function shownOf(change: LogChange, id: () => number): Shown[] {
  if (change.type === 'over') return [];
  if (change.type === 'notice') {
    const { source, reason, message, dropped } = change;
    return [{ id: id(), tone: 'warn', source: clean(source), text: clean(dropped > 0 ? `${reason}: ${dropped}` : `${reason}: ${message}`), isLine: false }];
  }
  const { at, source, level, message, cut } = change.line;
  const tone = ['emerg', 'alert', 'crit', 'err'].includes(level) ? 'bad' : level === 'warning' ? 'warn' : '';
  return [{ id: id(), tone, source: clean(source), text: `${moment(at)} ${clean(withoutColours(message))}${cut ? ' …' : ''}`, isLine: true }];
}
