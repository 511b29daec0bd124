// The cluster as it was: what kept events and the present nodes tell of a moment. Nothing here is live, and nothing can be done.

import { useState } from 'preact/hooks';
import { api } from './api';
import type { PastContainer, PastNode } from './api';
import { clean, span, toneOf } from './format';
import { t } from './i18n';
import type { Key } from './i18n';
import { clockOffset, events, go, now, route, since } from './state';
import { Failed, Rows, Sign, moment, useLoaded } from './widgets';
import { neighbours, parseMoment } from './when';

const SECOND = 1000;

export function PastPage() {
  const newest = Math.floor((now.value + clockOffset.value) / SECOND) * SECOND - SECOND;
  const [opened] = useState(new Date(newest).toISOString());
  const at = route.value[2] || opened;
  const [text, setText] = useState<string | null>(null);
  const [dragged, setDragged] = useState<number | null>(null);
  const { value: past, error, again } = useLoaded(() => api.history(at), [at]);
  const show = (milliseconds: number) => {
    setText(null);
    setDragged(null);
    go('events', 'past', new Date(milliseconds).toISOString());
  };
  const shown = dragged ?? Date.parse(at);
  const oldest = past?.kept_since ? Date.parse(past.kept_since) : shown;
  const { before, after } = neighbours(events.value, Date.parse(at));
  const typed = parseMoment(text ?? '');
  const isWrong = text !== null && typed === null;
  const submit = (event: Event) => {
    event.preventDefault();
    if (typed !== null) show(Math.min(typed, newest));
  };
  return (
    <>
      <form class="row when-form" onSubmit={submit}>
        <label>
          {t('moment')}
          <input class="mono" value={text ?? moment(at)} autocomplete="off" aria-invalid={isWrong ? true : undefined} aria-describedby={isWrong ? 'no-moment' : undefined} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <button type="submit" disabled={typed === null}>
          {t('show')}
        </button>
        <button type="button" disabled={before === null} onClick={() => before !== null && show(before)}>
          {t('eventBefore')}
        </button>
        <button type="button" disabled={after === null} onClick={() => after !== null && show(after)}>
          {t('eventAfter')}
        </button>
        <label class="slide">
          {t('slide')}
          <input
            type="range"
            min={Math.min(oldest, shown)}
            max={Math.max(newest, shown)}
            step={SECOND}
            value={shown}
            aria-valuetext={moment(new Date(shown).toISOString())}
            onInput={(event) => setDragged(Number(event.currentTarget.value))}
            onChange={(event) => show(Number(event.currentTarget.value))}
          />
        </label>
      </form>
      {isWrong && (
        <p id="no-moment" class="note bad" role="alert">
          {t('noMoment')}
        </p>
      )}
      {error && <Failed why={clean(error)} again={again} />}
      {past && (
        <section class="past" data-at={past.at}>
          <p class="note warn" role="status">
            <b>{t('asItWas', { at: moment(past.at) })}</b> {t('notNow', { age: span(since(past.at) ?? 0) })}
          </p>
          {!past.whole && <p class="note">{past.kept_since ? t('beforeKept', { at: moment(past.kept_since) }) : t('noEvents')}</p>}
          {past.in_gap && <p class="note">{t('inGap')}</p>}
          <PastTable nodes={past.nodes} />
        </section>
      )}
    </>
  );
}

function PastTable({ nodes }: { nodes: PastNode[] }) {
  return (
    <Rows name="nodes" heads={['name', 'status', 'since', 'message', 'containers']} below={nodes.length === 0 && <p class="empty">{t('noNodesThen')}</p>}>
      {nodes.map((node) => (
        <tr key={node.id} data-past={node.name} data-status={node.status ?? 'unknown'}>
          <th scope="row">{clean(node.name)}</th>
          <td>
            <span class="status">
              <Sign tone={node.status ? toneOf({ status: node.status, conditions: node.conditions }) : 'idle'} size={14} />
              {node.status ?? t('unknown')}
            </span>
            {node.conditions.map(({ kind }) => (
              <div key={kind} class="image word">
                {kind}
              </div>
            ))}
          </td>
          <td class="mono">{moment(node.since)}</td>
          <td class="text">{clean(node.message ?? '')}</td>
          <td class="text containers-then">
            {node.containers.map((container) => (
              <ContainerThen key={container.name} container={container} />
            ))}
            {node.containers.length === 0 && '-'}
          </td>
        </tr>
      ))}
    </Rows>
  );
}

function ContainerThen({ container: { name, state, exit_code, since: at } }: { container: PastContainer }) {
  const tone = state === 'running' ? 'ok' : exit_code === 0 ? 'idle' : 'bad';
  return (
    <div class="status" title={moment(at)}>
      <Sign tone={tone} size={14} />
      {clean(name)} {state}
      {exit_code !== null && exit_code !== undefined ? ` (${exit_code})` : ''}
    </div>
  );
}

/** Beside the events: what the page is about. */
export const EVENT_PARTS: { path: string[]; name: Key }[] = [
  { path: ['events'], name: 'events' },
  { path: ['events', 'past'], name: 'past' },
];
