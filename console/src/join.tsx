// A board joins, step by step: a token, the command for the board, and the board arriving.

import { useState } from 'preact/hooks';
import { api } from './api';
import type { Token } from './api';
import { joinCommand, nameCommand } from './command';
import { clean } from './format';
import { t } from './i18n';
import { link, nodes, sorted, status, toast } from './state';
import { Act, Age, Confirm, CopyBox, Failed, Panel, Rows, StatusOf, useLoaded } from './widgets';
import type { Question } from './widgets';

const LIFETIMES = [600, 3600, 86_400];

export function JoinPage() {
  const [name, setName] = useState('');
  const [lifetime, setLifetime] = useState(600);
  const [made, setMade] = useState<{ token: string; info: Token; known: ReadonlySet<string> } | null>(null);
  const [asked, setAsked] = useState<Question | null>(null);
  const { value: tokens, error, again } = useLoaded(api.tokens, [made]);
  const make = async (event: Event) => {
    event.preventDefault();
    try {
      const wish = { role: 'sub', ttl_seconds: lifetime, uses: 1, ...(name.trim() && { node_name: name.trim() }) };
      setMade({ ...(await api.createToken(wish)), known: new Set(nodes.value.keys()) });
    } catch (failure) {
      toast('bad', t('refused', { why: (failure as Error).message }));
    }
  };
  const master = status.value?.master_address || location.hostname;
  const arrived = made ? sorted.value.filter((node) => !made.known.has(node.id)) : [];
  return (
    <div class="page">
      <div class="head">
        <h1>{t('join')}</h1>
      </div>
      <Panel title={t('joinStep1')}>
        <p class="muted">{t('joinStep1Help')}</p>
        <form class="row" onSubmit={make}>
          <label>
            {t('joinName')}
            <input value={name} autocomplete="off" pattern="[a-z0-9.\-]*" title={t('nameFormat')} onInput={(event) => setName(event.currentTarget.value)} />
          </label>
          <label>
            {t('joinTtl')}
            <select value={lifetime} onChange={(event) => setLifetime(Number(event.currentTarget.value))}>
              {LIFETIMES.map((seconds) => (
                <option key={seconds} value={seconds}>
                  {seconds < 3600 ? t('minutes', { count: seconds / 60 }) : t('hours', { count: seconds / 3600 })}
                </option>
              ))}
            </select>
          </label>
          <button type="submit" class="main">
            {t('joinMake')}
          </button>
        </form>
      </Panel>
      {made && (
        <>
          <Panel title={t('joinStep2')}>
            <p class="muted">{t('joinStep2Help')}</p>
            {made.info.node_name && (
              <>
                <p class="muted">{t('joinBound', { name: clean(made.info.node_name) })}</p>
                <CopyBox label={t('theName')} text={nameCommand(made.info.node_name)} />
              </>
            )}
            <CopyBox label={t('theCommand')} text={joinCommand(master)} />
            <CopyBox label={t('theToken')} text={made.token} />
          </Panel>
          <Panel title={t('joinStep3')}>
            <div role="status">
              {arrived.length === 0 && <p class="waiting">{t('joinWaiting')}</p>}
              {arrived.map((node) => (
                <p key={node.id} class="arrived">
                  <StatusOf node={node} /> <a href={link('nodes', node.name)}>{t('joinArrived', { name: clean(node.name), status: node.status })}</a>
                </p>
              ))}
            </div>
          </Panel>
        </>
      )}
      <Panel title={t('tokens')}>
        {error && <Failed why={error} again={again} />}
        {tokens?.items.length === 0 && <p class="muted">{t('noTokens')}</p>}
        {tokens && tokens.items.length > 0 && (
          <Rows name="tokens" heads={['id', 'role', 'usesLeft', 'expiresAt', 'node', 'createdBy']} acts>
            {tokens.items.map((token) => (
              <tr key={token.id}>
                <th scope="row" class="mono">{token.id}</th>
                <td>{token.role}</td>
                <td class="number">{token.uses_left}</td>
                <td><Age at={token.expires_at} coming="inAge" /></td>
                <td>{clean(token.node_name ?? '-')}</td>
                <td>{clean(token.created_by)}</td>
                <td>
                  <Act words="revoke" name={token.id} danger act={() => setAsked(revoking(token, again))} />
                </td>
              </tr>
            ))}
          </Rows>
        )}
      </Panel>
      {asked && <Confirm question={asked} close={() => setAsked(null)} />}
    </div>
  );
}

function revoking(token: Token, again: () => void): Question {
  return {
    title: t('revoke'),
    ask: t('revokeAsk', { id: token.id }),
    danger: true,
    act: () => api.revokeToken(token.id).then(again),
  };
}
