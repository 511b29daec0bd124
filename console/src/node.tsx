// One node: what it is, how it was, what is wrong, and what may be done.

import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { ActionsOf, restartQuestion } from './actions';
import { AlertsOf } from './alerts';
import { Charts } from './chart';
import { api } from './api';
import type { Node, SystemCheck } from './api';
import { bytes, clean, containerTone, roundTrip } from './format';
import { t } from './i18n';
import { EventList } from './events';
import { LogsPanel } from './logs';
import { events, isComplete, link, may, nodes, since, topology } from './state';
import { Act, Age, Confirm, Facts, LastKnown, Panel, Rows, Sign, StatusOf, breakable, moment, statusWords, useLoaded } from './widgets';
import type { Question } from './widgets';

const RECENT = 20;
const PAUSE_SECONDS = 3600;

export function NodePage({ name }: { name: string }) {
  const node = nodes.value.get(name) ?? [...nodes.value.values()].find((one) => one.name === name);
  if (!node) {
    return (
      <div class="page">
        <h1>{clean(name)}</h1>
        <p class="empty">{isComplete.value ? t('noSuchNode', { name: clean(name) }) : t('loading')}</p>
        <a href={link('nodes')}>{t('backToNodes')}</a>
      </div>
    );
  }
  const recent = events.value.filter((event) => event.node_id === node.id).slice(-RECENT);
  return (
    <div class="page node-page">
      <div class="head">
        <h1>{clean(node.name)}</h1>
        <StatusOf node={node} />
        <span class="muted">
          {statusWords(node)}, <Age at={node.status_since} words="forAge" />
        </span>
      </div>
      <div class="buttons">
        <ActionsOf node={node} />
      </div>
      {node.conditions.map((condition) => (
        <p key={condition.kind} class="note warn">
          <Sign tone="warn" size={14} /> <b>{condition.kind}</b> {clean(condition.message)} · <Age at={condition.since} words="forAge" />
        </p>
      ))}
      <div class="panels">
        <AlertsOf name={node.name} />
        <Overview node={node} />
        <Containers node={node} />
        <Charts node={node} />
        <Check title={t('systemCheck')} check={node.system_check} />
        <Check title={t('hardware')} check={node.hardware} />
        <RecoveryPanel node={node} />
        {(node.connected || may('operator')) && <LogsPanel node={node} />}
        <Panel title={t('recentEvents')} wide>
          <EventList events={[...recent].reverse()} rows={8} />
        </Panel>
      </div>
    </div>
  );
}

function Overview({ node }: { node: Node }) {
  const { cpu, memory, disk } = node.resources;
  const rows: [string, ComponentChildren][] = [
    [t('role'), `${node.role}, ${node.kind}`],
    [t('address'), <span class="mono">{clean(node.ip)}</span>],
    [t('heartbeat'), <Age at={node.last_heartbeat} words="ago" />],
    [t('roundTrip'), roundTrip(node) ?? '-'],
    [t('joined'), <Age at={node.created_at} words="ago" />],
    [t('generation'), t('generationOf', { applied: node.applied_generation, newest: topology.value?.generation ?? '?' })],
    [t('certificate'), <span title={moment(node.certificate_expires_at)}><Age at={node.certificate_expires_at} coming="expiresIn" /></span>],
    [t('system'), `${t('cores', { count: cpu })}, ${bytes(memory * 1048576)}, ${bytes(disk * 1073741824)}`],
    [t('os'), `${clean(node.os)}, ${clean(node.architecture)}`],
    [t('kernel'), clean(node.kernel)],
    [t('agent'), clean(node.agent_version)],
    [t('podman'), clean(node.runtime_version || '-')],
    [t('labels'), Object.entries(node.labels).map(([key, value]) => clean(`${key}=${value}`)).join(', ') || '-'],
  ];
  return (
    <Panel title={t('overview')}>
      <Facts of={rows} />
    </Panel>
  );
}

function Containers({ node }: { node: Node }) {
  const [asked, setAsked] = useState<Question | null>(null);
  const mayRestart = may('operator') && node.connected;
  return (
    <Panel title={t('containers')}>
      {node.containers.length === 0 && <p class="muted">-</p>}
      <LastKnown node={node} />
      {node.containers.length > 0 && (
        <Rows name="containers" heads={['name', 'state', 'cpu', 'memory', 'restarts']} acts={mayRestart}>
          {node.containers.map((container) => (
            <tr key={container.id}>
              <th scope="row">
                {clean(container.name)}
                <div class="image">{breakable(clean(container.image))}</div>
              </th>
              <td>
                <span class="status">
                  <Sign tone={containerTone(container)} size={14} />
                  {clean(container.state)}
                  {container.exit_code !== null && container.state !== 'running' ? ` (${container.exit_code})` : ''}
                  {container.health ? `, ${clean(container.health)}` : ''}
                </span>
              </td>
              <td class="number">{`${(container.cpu_basis_points / 100).toFixed(1)} %`}</td>
              <td class="number">{bytes(container.memory_bytes)}</td>
              <td class="number">{container.restarts}</td>
              {mayRestart && (
                <td>
                  <Act words="restart" name={container.name} act={() => setAsked(restartQuestion(node, container.name))} />
                </td>
              )}
            </tr>
          ))}
        </Rows>
      )}
      {asked && <Confirm question={asked} close={() => setAsked(null)} />}
    </Panel>
  );
}

const LEVEL_TONE = { ok: 'ok', warning: 'warn', error: 'bad' } as const;

function Check({ title, check }: { title: string; check: SystemCheck | null }) {
  return (
    <Panel title={title} aside={check && <span class="muted"><Age at={check.at} words="ago" /></span>}>
      {(!check || check.passed + check.findings.length === 0) && <p class="muted">{t('noCheck')}</p>}
      {check && check.passed > 0 && <p class="muted">{t('checkPassed', { count: check.passed })}</p>}
      {check && check.findings.length > 0 && (
        <ul class="findings">
          {check.findings.map((finding) => (
            <li key={finding.name}>
              <Sign tone={LEVEL_TONE[finding.level] ?? 'idle'} size={14} />
              <div>
                <b>{clean(finding.name)}</b> {clean(finding.value)} {finding.limit && <span class="muted">{clean(finding.limit)}</span>}
                {finding.remedy && <div class="muted">{clean(finding.remedy)}</div>}
              </div>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

function RecoveryPanel({ node }: { node: Node }) {
  const { value: told, again } = useLoaded(() => api.recovery(node.id), [node.id, node.status, node.revision]);
  const [asked, setAsked] = useState<Question | null>(null);
  if (!told) return null;
  const name = clean(node.name);
  const then = (done: Promise<unknown>) => done.then(again);
  const isPaused = (since(told.paused_until) ?? 0) < 0;
  const questions: Question[] = [
    isPaused
      ? { title: t('resume'), ask: t('resumeAsk', { name }), act: () => then(api.resumeRecovery(node.id)) }
      : { title: t('pause'), ask: t('pauseAsk', { name }), act: () => then(api.pauseRecovery(node.id, PAUSE_SECONDS)) },
    ...(node.connected ? [{ title: t('probe'), ask: t('probeAsk', { name }), act: () => then(api.probe(node.id)) }] : []),
  ];
  if (node.connected) questions.push(forcing(node, (step, container) => api.forceRecovery(node.id, step, container).then((told) => (again(), told))));
  return (
    <Panel title={t('recovery')} wide aside={<span class="muted">{t('recoverySpent', { spent: told.spent, max: told.spent_max })}</span>}>
      {isPaused && (
        <p class="note warn">
          {t('recoveryPaused')} <Age at={told.paused_until} coming="dueIn" />
        </p>
      )}
      {told.failures.length === 0 && <p class="muted">{t('noRecovery')}</p>}
      <ul class="findings">
        {told.failures.map((one) => (
          <li key={one.failure}>
            <Sign tone="warn" size={14} />
            <div>
              <b>{clean(one.failure)}</b> {t('attempt', { step: clean(one.step), attempts: one.attempts })}{' '}
              {one.next_at && <Age at={one.next_at} coming="dueIn" />}
              {one.why && <div class="muted">{clean(one.why)}</div>}
            </div>
          </li>
        ))}
        {told.probe?.parts.map((part) => (
          <li key={part.name}>
            <Sign tone={part.ok ? 'ok' : 'bad'} size={14} />
            <div>
              <b>{clean(part.name)}</b> {part.ok ? t('tookMs', { count: part.took_ms }) : clean(part.problem)}{' '}
              <span class="muted">
                {t('probed')} <Age at={told.probe?.at} words="ago" />
              </span>
            </div>
          </li>
        ))}
      </ul>
      {may('operator') && (
        <div class="buttons">
          {questions.map((question) => (
            <button key={question.title} type="button" class={question.danger ? 'danger' : ''} onClick={() => setAsked(question)}>
              {question.title}
            </button>
          ))}
        </div>
      )}
      {asked && <Confirm question={asked} close={() => setAsked(null)} />}
    </Panel>
  );
}

/** A step out of turn: the mildest is chosen, unless somebody chooses. */
function forcing(node: Node, act: (step: string, container: string) => Promise<unknown>): Question {
  const containers = node.containers.map(({ name }): [string, string] => [`restart-container ${name}`, t('stepContainer', { name: clean(name) })]);
  const steps: [string, string][] = [...containers, ['restart-podman', t('stepPodman')], ['reboot', t('stepReboot')]];
  return {
    title: t('force'),
    ask: t('forceAsk', { name: clean(node.name) }),
    choice: { label: t('step'), of: steps },
    danger: true,
    act: (_, choice) => {
      const [step = '', ...container] = choice.split(' ');
      return act(step, container.join(' '));
    },
  };
}
