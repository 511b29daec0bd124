// What happened, newest first. Ten thousand events are a list of thirty rows: only those in sight are in the page.

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { ClusterEvent, Severity } from './api';
import { clean, severityTone } from './format';
import { t } from './i18n';
import type { Key } from './i18n';
import { EVENT_PARTS, PastPage } from './past';
import { movedDown, rowsInSight } from './rows';
import { EVENTS_MAX, events, eventsMissed, firstKept, link, loadOlder, route, sorted, toast } from './state';
import { Parts, Sign, moment } from './widgets';

const ROW = 38;
/** On a phone: time and node, kind, and two lines of the message. */
const ROW_NARROW = 102;
const NARROW = matchMedia('(max-width: 800px)');
const LEVELS: Severity[] = ['info', 'warning', 'critical'];

export function EventsPage() {
  const name = route.value[1] === 'past' ? 'past' : 'events';
  return (
    <div class={name === 'past' ? 'page' : 'page fill'}>
      <div class="head">
        <h1>{t(name)}</h1>
        <Parts of={EVENT_PARTS} here={name} />
      </div>
      {name === 'past' ? <PastPage /> : <Events />}
    </div>
  );
}

function Events() {
  const [text, setText] = useState('');
  const [level, setLevel] = useState(0);
  const [node, setNode] = useState('');
  const [working, setWorking] = useState(false);
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = events.value
    .filter((event) => LEVELS.indexOf(event.severity) >= level && (node === '' || event.node_name === node))
    .filter((event) => words.every((word) => `${event.kind} ${event.node_name ?? ''} ${event.message}`.toLowerCase().includes(word)))
    .reverse();
  const hasOlder = (events.value[0]?.id ?? 0) > firstKept.value && events.value.length < EVENTS_MAX;
  const older = async () => {
    setWorking(true);
    await loadOlder().catch((error: Error) => toast('bad', t('failed', { why: error.message })));
    setWorking(false);
  };
  return (
    <>
      <div class="head">
        <input type="search" aria-label={t('filter')} placeholder={t('filter')} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <label class="inline">
          <span>{t('atLeast')}</span>
          <select value={level} onChange={(event) => setLevel(Number(event.currentTarget.value))}>
            {LEVELS.map((one, i) => (
              <option key={one} value={i}>
                {t(one as Key)}
              </option>
            ))}
          </select>
        </label>
        <label class="inline">
          <span>{t('node')}</span>
          <select value={node} onChange={(event) => setNode(event.currentTarget.value)}>
            <option value="">{t('all')}</option>
            {sorted.value.map(({ id, name }) => (
              <option key={id} value={name}>
                {clean(name)}
              </option>
            ))}
          </select>
        </label>
        <span class="count" role="status">
          {t('eventsKept', { shown: shown.length, loaded: events.value.length })}
        </span>
        {hasOlder && (
          <button type="button" disabled={working} onClick={() => void older()}>
            {t('loadOlder')}
          </button>
        )}
      </div>
      {eventsMissed.value && <p class="note warn">{t('missed', { ...eventsMissed.value })}</p>}
      <EventList events={shown} />
    </>
  );
}

/** `rows` at most in sight, or as many as there is room for. */
export function EventList({ events: all, rows }: { events: ClusterEvent[]; rows?: number }) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const [row, setRow] = useState(NARROW.matches ? ROW_NARROW : ROW);
  useEffect(() => {
    const settle = () => setRow(NARROW.matches ? ROW_NARROW : ROW);
    NARROW.addEventListener('change', settle);
    return () => NARROW.removeEventListener('change', settle);
  }, []);
  useEffect(() => {
    if (!box.current) return;
    const observer = new ResizeObserver(([entry]) => entry && setHeight(entry.contentRect.height));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  // who reads further down goes on reading there, whatever comes above
  const head = useRef<number | undefined>(undefined);
  useLayoutEffect(() => {
    const rowsAbove = movedDown(all, head.current);
    head.current = all[0]?.id;
    if (box.current && rowsAbove > 0 && box.current.scrollTop > row / 2) box.current.scrollTop += rowsAbove * row;
  }, [all[0]?.id]);
  if (all.length === 0) return <p class="empty">{t('noEvents')}</p>;
  const { first, last } = rowsInSight(top, height, row, all.length);
  return (
    <div
      ref={box}
      class="events"
      tabindex={0}
      role="list"
      aria-label={t('events')}
      style={rows ? { height: `${Math.min(rows, all.length) * row + 2}px` } : undefined}
      onScroll={(event) => setTop(event.currentTarget.scrollTop)}
    >
      <div class="events-all" style={{ height: `${all.length * row}px` }}>
        {all.slice(first, last).map((event, i) => (
          <EventRow key={event.id} event={event} isLinked={!rows} y={(first + i) * row} height={row} at={first + i + 1} of={all.length} />
        ))}
      </div>
    </div>
  );
}

function EventRow({ event, isLinked, y, height, at, of }: { event: ClusterEvent; isLinked: boolean; y: number; height: number; at: number; of: number }) {
  const time = (
    <time class="mono" dateTime={event.at ?? ''}>
      {moment(event.at)}
    </time>
  );
  return (
    <div class="event" role="listitem" aria-posinset={at} aria-setsize={of} style={{ transform: `translateY(${y}px)`, height: `${height}px` }}>
      <Sign tone={severityTone(event.severity)} size={14} />
      <span class="visually-hidden">{t(event.severity as Key)}</span>
      {isLinked ? (
        <a class="when" href={link('events', 'past', event.at ?? '')} title={t('seeThen')}>
          {time}
        </a>
      ) : (
        time
      )}
      {event.node_name ? <a href={link('nodes', event.node_name)}>{clean(event.node_name)}</a> : <span class="muted">{t('cluster')}</span>}
      <b>{clean(event.kind)}</b>
      <span class="text" title={clean(event.message)}>
        {event.delivered_late && <abbr title={t('late')}>⤓ </abbr>}
        {clean(event.message)}
      </span>
    </div>
  );
}
