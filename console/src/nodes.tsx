// All nodes as a table, sorted by what its reader asks for.

import { useState } from 'preact/hooks';
import type { Node } from './api';
import { clean, toneOf } from './format';
import { t } from './i18n';
import type { Key } from './i18n';
import { matches } from './match';
import { isComplete, link, sorted } from './state';
import { Age, Rows, StatusOf } from './widgets';

const WORST_FIRST = ['bad', 'wait', 'warn', 'care', 'idle', 'ok'];

const COLUMNS: { name: Key; value: (node: Node) => string | number }[] = [
  { name: 'name', value: (node) => node.name },
  { name: 'status', value: (node) => WORST_FIRST.indexOf(toneOf(node)) },
  { name: 'role', value: (node) => node.role },
  { name: 'address', value: (node) => node.ip },
  { name: 'containers', value: (node) => -node.containers.length },
  { name: 'cpu', value: (node) => -Number(node.metrics.cpu_percent ?? -1) },
  { name: 'since', value: (node) => node.status_since ?? '' },
  { name: 'reason', value: (node) => node.conditions[0]?.kind ?? '~' },
];

export function NodesPage() {
  const [text, setText] = useState('');
  const [by, setBy] = useState(0);
  const [isDown, setDown] = useState(false);
  const value = (COLUMNS[by] ?? COLUMNS[0])!.value;
  const compare = (a: Node, b: Node) => {
    const [x, y] = [value(a), value(b)];
    return typeof x === 'number' ? x - Number(y) : x.localeCompare(String(y), 'en', { numeric: true });
  };
  const all = sorted.value.filter((node) => matches(node, text)).sort(compare);
  if (isDown) all.reverse();
  return (
    <div class="page">
      <div class="head">
        <h1>{t('nodes')}</h1>
        <input type="search" aria-label={t('filter')} placeholder={t('filterHint')} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <span class="count" role="status">
          {all.length < sorted.value.length ? t('showing', { shown: all.length, all: sorted.value.length }) : ''}
        </span>
      </div>
      <Rows
        name="nodes"
        heads={COLUMNS.map((column) => column.name)}
        sort={{ by, isDown, choose: (i) => (i === by ? setDown(!isDown) : (setBy(i), setDown(false))) }}
        below={isComplete.value && all.length === 0 && <p class="empty">{t(sorted.value.length === 0 ? 'noNodes' : 'noMatch')}</p>}
      >
        {all.map((node) => (
          <Row key={node.id} node={node} />
        ))}
      </Rows>
    </div>
  );
}

function Row({ node }: { node: Node }) {
  const running = node.containers.filter((container) => container.state === 'running').length;
  return (
    <tr>
      <th scope="row">
        <a href={link('nodes', node.name)}>{clean(node.name)}</a>
      </th>
      <td>
        <StatusOf node={node} />
      </td>
      <td>{node.role}</td>
      <td class="mono">{clean(node.ip)}</td>
      <td class="number">{`${running}/${node.containers.length}`}</td>
      <td class="number">{node.metrics.cpu_percent ? `${node.metrics.cpu_percent} %` : '-'}</td>
      <td>
        <Age at={node.status_since} />
      </td>
      <td>{node.conditions.map((condition) => condition.kind).join(', ') || '-'}</td>
    </tr>
  );
}
