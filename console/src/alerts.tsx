// What people should know of: what fires, who looks after it, what is silenced and what is over.

import { useState } from 'preact/hooks';
import { api } from './api';
import type { Alert } from './api';
import { isAbout, isMatched, scopeOf, stateOf } from './alert';
import type { AlertState } from './alert';
import { clean, severityTone } from './format';
import { t } from './i18n';
import type { Key } from './i18n';
import { Channels, Rules } from './rules';
import { alerts, alertsComplete, link, may, route } from './state';
import { Act, Age, Confirm, Panel, Parts, Rows, Sign, useLoaded } from './widgets';
import type { Question } from './widgets';

const STATES: AlertState[] = ['firing', 'acknowledged', 'silenced', 'resolved'];
const HEADS: Key[] = ['severity', 'state', 'since', 'rule', 'subjects', 'message'];
/** Rows at most; there may be twelve hundred alerts. */
const SHOWN_MAX = 300;
const SPANS: [number, Key, number][] = [
  [3_600, 'hours', 1],
  [8 * 3_600, 'hours', 8],
  [86_400, 'hours', 24],
  [7 * 86_400, 'days', 7],
];

const PARTS: { path: string[]; name: Key; role?: 'operator' }[] = [
  { path: ['alerts'], name: 'alerts' },
  { path: ['alerts', 'rules'], name: 'rules' },
  { path: ['alerts', 'channels'], name: 'channels', role: 'operator' },
];

export function AlertsPage() {
  const part = route.value[1];
  const isFor = (path: string[]) => (path[1] ?? '') === (part ?? '');
  const name = PARTS.find(({ path, role }) => isFor(path) && (!role || may(role)))?.name ?? 'alerts';
  return (
    <div class="page">
      <div class="head">
        <h1>{t(name)}</h1>
        <Parts of={PARTS.filter(({ role }) => !role || may(role))} here={name} />
      </div>
      {name === 'rules' && <Rules />}
      {name === 'channels' && <Channels />}
      {name === 'alerts' && <Alerts />}
    </div>
  );
}

function Alerts() {
  const [text, setText] = useState('');
  const [chosen, setChosen] = useState<ReadonlySet<AlertState>>(new Set(['firing', 'acknowledged', 'silenced']));
  const [asked, setAsked] = useState<Question | null>(null);
  const all = [...alerts.value.values()];
  const found = all.filter((alert) => (chosen.size === 0 || chosen.has(stateOf(alert))) && isMatched(alert, text)).sort(newestFirst);
  const toggle = (state: AlertState) => {
    const next = new Set(chosen);
    if (!next.delete(state)) next.add(state);
    setChosen(next);
  };
  const silencedBy = [...new Set(all.map((alert) => alert.silenced_by ?? ''))].sort().join();
  const { value: listed, again } = useLoaded(() => api.alerts(), [silencedBy]);
  const refresh = (done: Promise<unknown>) => done.then(again);
  return (
    <>
      <div class="head">
        <input type="search" aria-label={t('filter')} placeholder={t('filter')} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <div class="chips" role="group" aria-label={t('state')}>
          {STATES.map((state) => (
            <button key={state} type="button" class="chip" aria-pressed={chosen.has(state)} onClick={() => toggle(state)}>
              <span>{t(`a_${state}`)}</span>
              <b>{all.filter((alert) => stateOf(alert) === state).length}</b>
            </button>
          ))}
        </div>
        <span class="count" role="status">
          {found.length > SHOWN_MAX ? t('showing', { shown: SHOWN_MAX, all: found.length }) : ''}
        </span>
      </div>
      <Rows
        name="alerts"
        heads={HEADS}
        acts={may('operator')}
        below={alertsComplete.value && found.length === 0 && <p class="empty">{t('noAlerts')}</p>}
      >
        {found.slice(0, SHOWN_MAX).map((alert) => (
          <Row key={alert.id} alert={alert} ask={setAsked} refresh={refresh} />
        ))}
      </Rows>
      {listed && listed.silences.length > 0 && (
        <Panel title={t('silences')}>
          <ul class="silences">
            {listed.silences.map((silence) => (
              <li key={silence.id}>
                <div>
                  <code>{clean(silence.only)}</code> <Age at={silence.until} coming="endsIn" />{' '}
                  <span class="muted">
                    {clean(silence.by)}
                    {silence.comment ? `: ${clean(silence.comment)}` : ''}
                  </span>
                </div>
                {may('operator') && (
                  <button
                    type="button"
                    class="small"
                    aria-label={`${t('unsilence')}: ${clean(silence.only)}`}
                    onClick={() =>
                      setAsked({ title: t('unsilence'), ask: t('unsilenceAsk', { only: clean(silence.only) }), act: () => refresh(api.unsilence(silence.id)) })
                    }
                  >
                    {t('unsilence')}
                  </button>
                )}
              </li>
            ))}
          </ul>
        </Panel>
      )}
      {asked && <Confirm question={asked} close={() => setAsked(null)} />}
    </>
  );
}

/** What fires about a node, with what may be done about it. */
export function AlertsOf({ name }: { name: string }) {
  const [asked, setAsked] = useState<Question | null>(null);
  const found = [...alerts.value.values()].filter((alert) => stateOf(alert) !== 'resolved' && isAbout(alert, name)).sort(newestFirst);
  if (found.length === 0) return null;
  return (
    <Panel title={t('alerts')} wide>
      <Rows name="alerts" heads={HEADS} acts={may('operator')}>
        {found.map((alert) => (
          <Row key={alert.id} alert={alert} ask={setAsked} refresh={(done) => done} />
        ))}
      </Rows>
      {asked && <Confirm question={asked} close={() => setAsked(null)} />}
    </Panel>
  );
}

function newestFirst(a: Alert, b: Alert): number {
  const when = (alert: Alert) => alert.resolved_at ?? alert.fired_at ?? '';
  return Number(a.state === 'resolved') - Number(b.state === 'resolved') || when(b).localeCompare(when(a));
}

interface RowProps {
  alert: Alert;
  ask: (question: Question) => void;
  refresh: (done: Promise<unknown>) => Promise<unknown>;
}

function Row({ alert, ask, refresh }: RowProps) {
  const state = stateOf(alert);
  const scope = scopeOf(alert);
  const acknowledge: Question = {
    title: t('acknowledge'),
    ask: t('acknowledgeAsk', { message: clean(alert.message) }),
    field: { label: t('commentLabel'), value: '' },
    act: (comment) => api.acknowledge(alert.id ?? '', comment).then(() => undefined),
  };
  const silence: Question = {
    title: t('silence'),
    ask: t('silenceAsk', { only: clean(scope) }),
    choice: { label: t('howLong'), of: SPANS.map(([seconds, unit, count]) => [String(seconds), t(unit, { count })]) },
    field: { label: t('commentLabel'), value: '' },
    act: (comment, seconds) => refresh(api.silence({ only: scope, seconds: Number(seconds), comment })).then(() => undefined),
  };
  return (
    <tr data-alert={alert.rule} data-state={state}>
      <td>
        <span class="status">
          <Sign tone={state === 'resolved' ? 'ok' : severityTone(alert.severity)} size={14} />
          {t(alert.severity as Key)}
        </span>
      </td>
      <td>
        {t(`a_${state}`)}
        {alert.escalated_at && state !== 'resolved' && <div class="image">{t('escalated')}</div>}
      </td>
      <td>
        <Age at={alert.resolved_at ?? alert.fired_at} />
      </td>
      <th scope="row">{clean(alert.rule)}</th>
      <td>
        <Subjects alert={alert} />
      </td>
      <td class="text">
        {clean(alert.message)}
        {alert.acknowledged_by && (
          <div class="image">
            {t('acknowledgedBy', { who: clean(alert.acknowledged_by) })}
            {alert.comment ? `: ${clean(alert.comment)}` : ''}
          </div>
        )}
        {alert.resolved_why && <div class="image">{clean(alert.resolved_why)}</div>}
      </td>
      {may('operator') && (
        <td>
          <div class="buttons">
            {(state === 'firing' || state === 'silenced') && <Act words="acknowledge" name={alert.message} act={() => ask(acknowledge)} />}
            {state !== 'resolved' && !alert.silenced_by && <Act words="silence" name={alert.message} act={() => ask(silence)} />}
          </div>
        </td>
      )}
    </tr>
  );
}

const SUBJECTS_MAX = 3;

function Subjects({ alert }: { alert: Alert }) {
  const shown = alert.subjects.slice(0, SUBJECTS_MAX);
  const more = alert.subjects.length - shown.length;
  return (
    <>
      {shown.map(({ name }, i) => (
        <span key={name}>
          {i > 0 && ', '}
          {name === 'cluster' ? t('cluster') : <a href={link('nodes', name.split('/')[0] ?? name)}>{clean(name)}</a>}
        </span>
      ))}
      {more > 0 && <span class="muted"> {t('more', { count: more })}</span>}
    </>
  );
}
