// Who changed what, and who was refused.

import { useState } from 'preact/hooks';
import { api } from './api';
import type { AuditEntry } from './api';
import { clean } from './format';
import { t } from './i18n';
import { toast } from './state';
import { Failed, Rows, Sign, moment, useLoaded } from './widgets';

const PAGE = 500;

interface Older {
  /** The answer that these are behind. */
  of: unknown;
  items: AuditEntry[];
  before: number | undefined;
}

export function AuditPage() {
  const [text, setText] = useState('');
  const [onlyRefused, setOnlyRefused] = useState(false);
  const [older, setOlder] = useState<Older | null>(null);
  const which = { limit: PAGE, outcome: onlyRefused ? ('refused' as const) : undefined };
  const { value, error, again } = useLoaded(() => api.audit(which), [onlyRefused]);
  // what was loaded behind another answer is not behind this one
  const behind = older?.of === value ? older : null;
  const go_on = behind ? behind.before : value?.continue;
  const loadOlder = () =>
    api.audit({ ...which, before: go_on }).then(
      (page) => setOlder({ of: value, items: [...(behind?.items ?? []), ...page.items], before: page.continue }),
      (failure: Error) => toast('bad', t('failed', { why: clean(failure.message) })),
    );
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = [...(value?.items ?? []), ...(behind?.items ?? [])].filter((entry) =>
    words.every((word) => `${entry.who} ${entry.from} ${entry.call} ${entry.target} ${entry.outcome}`.toLowerCase().includes(word)),
  );
  return (
    <div class="page">
      <div class="head">
        <h1>{t('audit')}</h1>
        <input type="search" aria-label={t('filter')} placeholder={t('filter')} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <label class="inline">
          <input type="checkbox" checked={onlyRefused} onChange={(event) => setOnlyRefused(event.currentTarget.checked)} />
          <span>{t('onlyRefused')}</span>
        </label>
        <button type="button" onClick={again}>
          {t('reload')}
        </button>
      </div>
      {error && <Failed why={error} again={again} />}
      <Rows
        name="audit"
        heads={['time', 'who', 'from', 'call', 'target', 'outcome']}
        below={value && shown.length === 0 && <p class="empty">{t('noAudit')}</p>}
      >
        {shown.map((entry) => (
          <tr key={entry.id}>
            <td class="mono">{moment(entry.at)}</td>
            <td>{clean(entry.who)}</td>
            <td class="mono">{clean(entry.from)}</td>
            <th scope="row">{clean(entry.call)}</th>
            <td class="text">{clean(entry.target || '-')}</td>
            <td class="text">
              <span class="status">
                <Sign tone={entry.outcome === 'ok' ? 'ok' : 'bad'} size={14} />
                {clean(entry.outcome)}
              </span>
            </td>
          </tr>
        ))}
      </Rows>
      {go_on !== undefined && (
        <div class="buttons">
          <button type="button" onClick={() => void loadOlder()}>
            {t('loadOlder')}
          </button>
        </div>
      )}
    </div>
  );
}
