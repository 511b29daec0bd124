// A node looked into from the picture: what one wants first, and the way to the rest.

import { useEffect, useRef } from 'preact/hooks';
import type { Node } from './api';
import { clean, containerTone, roundTrip } from './format';
import { t } from './i18n';
import { ActionsOf } from './actions';
import { link } from './state';
import { Age, Facts, LastKnown, Sign, StatusOf, statusWords } from './widgets';

export function Inspector({ node, close }: { node: Node; close: () => void }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), [node.id]);
  const labels = Object.entries(node.labels).map(([key, value]) => clean(`${key}=${value}`));
  return (
    <aside class="inspector" aria-label={clean(node.name)} onKeyDown={(event) => event.key === 'Escape' && close()}>
      <header>
        <h2 ref={heading} tabindex={-1}>
          {clean(node.name)}
        </h2>
        <button type="button" class="plain" aria-label={t('close')} onClick={close}>
          <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
            <path class="mark" d="M4 4l8 8M12 4l-8 8" />
          </svg>
        </button>
      </header>
      <p class="lead">
        <StatusOf node={node} /> <Age at={node.status_since} words="forAge" />
        <br />
        <span class="muted">{statusWords(node)}</span>
      </p>
      {node.conditions.map((condition) => (
        <p key={condition.kind} class="note warn">
          <b>{condition.kind}</b> {clean(condition.message)}
        </p>
      ))}
      <Facts
        of={[
          [t('role'), `${node.role}, ${node.kind}`],
          [t('address'), clean(node.ip)],
          [t('heartbeat'), <Age at={node.last_heartbeat} words="ago" />],
          [t('roundTrip'), roundTrip(node) ?? '-'],
          ...(labels.length > 0 ? ([[t('labels'), labels.join(', ')]] as [string, string][]) : []),
        ]}
      />
      <LastKnown node={node} />
      {node.containers.length > 0 && (
        <ul class="containers-list" aria-label={t('containers')}>
          {node.containers.map((container) => (
            <li key={container.id}>
              <Sign tone={containerTone(container)} size={14} />
              <span>{clean(container.name)}</span>
              <span class="muted">{clean(container.state)}</span>
            </li>
          ))}
        </ul>
      )}
      <div class="buttons">
        <a class="button main" href={link('nodes', node.name)}>
          {t('details')}
        </a>
        <ActionsOf node={node} few />
      </div>
    </aside>
  );
}
