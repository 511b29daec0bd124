// The master's own health.

import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { logLevelQuestion } from './actions';
import { api } from './api';
import type { ClusterStatus } from './api';
import { bytes, clean } from './format';
import { t } from './i18n';
import { may, status } from './state';
import { Age, Confirm, Facts, Failed, Panel, Rows, Sign, useLoaded } from './widgets';
import type { Question } from './widgets';

export function MasterPage() {
  const [asked, setAsked] = useState<Question | null>(null);
  const told = status.value;
  if (!told) return <div class="page"><h1>{t('master')}</h1><p class="empty">{t('loading')}</p></div>;
  const isWell = told.store_health === 'ok';
  const rows: [string, ComponentChildren][] = [
    [t('cluster'), `${clean(told.cluster_name)} (${told.cluster_id})`],
    [t('address'), <span class="mono">{told.master_address}</span>],
    [t('version'), told.master_version],
    [t('uptime'), <Age at={told.started_at} />],
    [t('sessions'), told.sessions],
    [t('watchers'), told.watchers],
    [t('containers'), `${told.containers_running}/${told.containers_total}`],
    [t('approval'), told.approval],
    [t('caExpires'), <Age at={told.ca_expires_at} coming="expiresIn" />],
  ];
  const store: [string, ComponentChildren][] = [
    [t('store'), t('storeSize', { kind: told.store_kind, size: bytes(told.store_size_bytes) })],
    [
      t('health'),
      <span class="status">
        <Sign tone={isWell ? 'ok' : 'bad'} size={14} /> {isWell ? t('ok') : clean(told.store_health)}
      </span>,
    ],
    [t('revision'), told.revision],
    [t('kept'), told.events_kept],
  ];
  store.push([t('backup'), told.backup ? backupWords(told.backup) : t('noBackup')]);
  return (
    <div class="page">
      <div class="head">
        <h1>{t('master')}</h1>
        {may('operator') && (
          <button type="button" onClick={() => setAsked(logLevelQuestion('master', t('master')))}>
            {t('logLevel')}
          </button>
        )}
      </div>
      <div class="panels two">
        <Panel title={t('health')}>
          <Facts of={rows} />
        </Panel>
        <Panel title={t('store')}>
          <Facts of={store} />
        </Panel>
      </div>
      {may('operator') && <SettingsPanel />}
      {asked && <Confirm question={asked} close={() => setAsked(null)} />}
    </div>
  );
}

/** In force since the master has started; changed where they are said, not here. */
function SettingsPanel() {
  const { value, error, again } = useLoaded(api.settings, [status.value?.started_at]);
  const [text, setText] = useState('');
  const [onlySaid, setOnlySaid] = useState(false);
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = (value?.settings ?? [])
    .filter(({ said_by }) => !onlySaid || said_by)
    .filter(({ key, value: of, said_by }) => words.every((word) => `${key} ${of} ${said_by ?? ''}`.toLowerCase().includes(word)));
  return (
    <Panel title={t('settings')}>
      <p class="muted">{t('settingsHelp')}</p>
      <div class="row">
        <input type="search" aria-label={t('filter')} placeholder={t('filter')} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <label class="inline">
          <input type="checkbox" checked={onlySaid} onChange={(event) => setOnlySaid(event.currentTarget.checked)} />
          <span>{t('onlySaid')}</span>
        </label>
      </div>
      {error && <Failed why={clean(error)} again={again} />}
      <Rows name="settings" heads={['setting', 'value', 'saidBy']}>
        {shown.map(({ key, value: of, said_by }) => (
          <tr key={key} data-setting={key}>
            <th scope="row" class="mono">
              {key}
            </th>
            <td class="text mono">{clean(of) || '-'}</td>
            <td class="text">{said_by ? <span class="mono">{clean(said_by)}</span> : <span class="muted">{t('byDefault')}</span>}</td>
          </tr>
        ))}
      </Rows>
    </Panel>
  );
}

function backupWords(backup: NonNullable<ClusterStatus['backup']>): ComponentChildren {
  if (backup.problem) return <span class="status"><Sign tone="bad" size={14} /> {clean(backup.problem)}</span>;
  return (
    <>
      <Age at={backup.last_at} words="ago" /> <span class="muted">{clean(backup.last_file)}</span>
    </>
  );
}
