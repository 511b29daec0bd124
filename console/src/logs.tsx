// What a node's agent or a container says, as it says it; read only while somebody looks.

import { useEffect, useRef, useState } from 'preact/hooks';
import { api } from './api';
import type { LogChange, Node } from './api';
import { clean } from './format';
import { t } from './i18n';
import { may } from './state';
import { Panel, moment } from './widgets';

const LINES_FIRST = 200;
const LINES_MAX = 1000;
const LEVELS = { debug: 7, info: 6, warning: 4, err: 3 };

interface Shown {
  id: number;
  tone: string;
  text: string;
}

export function LogsPanel({ node }: { node: Node }) {
  const [isOpen, setOpen] = useState(false);
  const [container, setContainer] = useState('');
  const [level, setLevel] = useState(LEVELS.debug);
  const target = container ? `${node.name}/${container}` : node.name;
  // whose log it is, containers may say secrets: those who may not see them are not offered them
  const containers = may('operator') ? node.containers : [];
  return (
    <Panel title={t('logs')} wide>
      <div class="row">
        {containers.length > 0 && (
          <label>
            {t('from')}
            <select value={container} onChange={(event) => setContainer(event.currentTarget.value)}>
              <option value="">{t('agent')}</option>
              {containers.map(({ id, name }) => (
                <option key={id} value={name}>
                  {clean(name)}
                </option>
              ))}
            </select>
          </label>
        )}
        <label>
          {t('atLeast')}
          <select value={level} onChange={(event) => setLevel(Number(event.currentTarget.value))}>
            {Object.entries(LEVELS).map(([name, number]) => (
              <option key={name} value={number}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <button type="button" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
          {t(isOpen ? 'hideLogs' : 'showLogs')}
        </button>
      </div>
      {isOpen && <Lines key={`${target} ${level}`} target={target} level={level} />}
    </Panel>
  );
}

function Lines({ target, level }: { target: string; level: number }) {
  const box = useRef<HTMLDivElement>(null);
  const [lines, setLines] = useState<Shown[]>([]);
  const [over, setOver] = useState('');
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
    api.watchLogs({ target, level, lines: LINES_FIRST }, tell, stop.signal).then(
      () => ended(t('logsOver')),
      (error: Error) => ended(t('failed', { why: clean(error.message) })),
    );
    return () => stop.abort();
  }, [target, level]);
  // who has scrolled up reads there
  const wasAtEnd = !box.current || box.current.scrollHeight - box.current.scrollTop - box.current.clientHeight < 40;
  useEffect(() => {
    if (wasAtEnd && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  return (
    <>
      <div ref={box} class="log mono" tabindex={0} role="region" aria-label={t('logs')}>
        {lines.map(({ id, tone, text }) => (
          <div key={id} class={tone}>
            {text}
          </div>
        ))}
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
    return [{ id: id(), tone: 'warn', text: clean(change.dropped > 0 ? `${change.reason}: ${change.dropped}` : `${change.reason}: ${change.message}`) }];
  }
  const { at, level, message, cut } = change.line;
  const tone = ['emerg', 'alert', 'crit', 'err'].includes(level) ? 'bad' : level === 'warning' ? 'warn' : '';
  return [{ id: id(), tone, text: `${moment(at)} ${clean(message)}${cut ? ' …' : ''}` }];
}
