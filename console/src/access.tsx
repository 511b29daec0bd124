// Who may ask: API tokens for programs, users with a certificate for people. A secret is shown once, and kept nowhere here.

import { useState } from 'preact/hooks';
import { api } from './api';
import type { Access, Role } from './api';
import { contextFile, makeUserKey } from './csr';
import { offer } from './export';
import { clean } from './format';
import { t } from './i18n';
import type { Key } from './i18n';
import { status } from './state';
import { Act, Age, Confirm, CopyBox, Failed, Panel, Rows, useLoaded } from './widgets';
import type { Question } from './widgets';

const ROLES: Role[] = ['viewer', 'operator', 'admin'];
const DAY = 86_400;
const API_TOKEN_DAYS = [1, 7, 30, 90, 365];
const USER_DAYS = [30, 90, 365, 1825];

export function AccessPage() {
  const [asked, setAsked] = useState<Question | null>(null);
  return (
    <div class="page">
      <div class="head">
        <h1>{t('access')}</h1>
      </div>
      <ApiTokens ask={setAsked} />
      <Users ask={setAsked} />
      {asked && <Confirm question={asked} close={() => setAsked(null)} />}
    </div>
  );
}

interface Asking {
  ask: (question: Question) => void;
}

function ApiTokens({ ask }: Asking) {
  const [made, setMade] = useState<{ token: string; name: string } | null>(null);
  const { value, error, again } = useLoaded(api.apiTokens, [made]);
  const make = async (name: string, role: Role, days: number) => {
    const { token } = await api.createApiToken({ name, role, ttl_seconds: days * DAY });
    setMade({ token, name });
  };
  const revoking = ({ id, name }: Access): Question => ({
    title: t('revoke'),
    ask: t('revokeApiTokenAsk', { name: clean(name) }),
    danger: true,
    act: () => api.revokeApiToken(id ?? name).then(() => (setMade(null), again())),
  });
  return (
    <Panel title={t('apiTokens')}>
      <p class="muted">{t('apiTokensHelp')}</p>
      <NewForm of="apiToken" days={API_TOKEN_DAYS} usual={30} make={make} />
      {made && (
        <div class="made" role="status">
          <p>{t('shownOnce', { name: clean(made.name) })}</p>
          <CopyBox label={t('tokenLabel')} text={made.token} />
        </div>
      )}
      {error && <Failed why={error} again={again} />}
      {value && <Table of={value.items} name="apiTokens" none="noApiTokens" revoke={(one) => ask(revoking(one))} />}
    </Panel>
  );
}

function Users({ ask }: Asking) {
  const [made, setMade] = useState<{ file: string; name: string } | null>(null);
  const { value, error, again } = useLoaded(api.users, [made]);
  const make = async (name: string, role: Role, days: number) => {
    const { key, request } = await makeUserKey(name);
    const wish = { name, role, ttl_seconds: days * DAY, certificate_signing_request: request };
    const { certificate, ca_certificate } = await api.createUser(wish);
    const { master_address: server = location.host, cluster_id: cluster = '' } = status.value ?? {};
    setMade({ name, file: contextFile({ server, cluster, ca: ca_certificate, certificate, key }) });
  };
  const revoking = ({ name }: Access): Question => ({
    title: t('revoke'),
    ask: t('revokeUserAsk', { name: clean(name) }),
    danger: true,
    act: () => api.revokeUser(name).then(() => (setMade(null), again())),
  });
  return (
    <Panel title={t('users')}>
      <p class="muted">{t('usersHelp')}</p>
      <NewForm of="user" days={USER_DAYS} usual={365} make={make} />
      {made && (
        <div class="made row" role="status">
          <p>{t('contextOnce', { name: clean(made.name) })}</p>
          <button type="button" class="main" onClick={() => offer(new Blob([made.file]), `${made.name}.context.yaml`)}>
            {t('saveContext', { name: clean(made.name) })}
          </button>
        </div>
      )}
      {error && <Failed why={error} again={again} />}
      {value && <Table of={value.items} name="users" none="noUsers" revoke={(one) => ask(revoking(one))} />}
    </Panel>
  );
}

interface NewProps {
  of: 'apiToken' | 'user';
  days: number[];
  usual: number;
  make: (name: string, role: Role, days: number) => Promise<void>;
}

function NewForm({ of, days, usual, make }: NewProps) {
  const [name, setName] = useState('');
  const [role, setRole] = useState<Role>('viewer');
  const [life, setLife] = useState(usual);
  const [working, setWorking] = useState(false);
  const [refused, setRefused] = useState('');
  const submit = async (event: Event) => {
    event.preventDefault();
    setWorking(true);
    setRefused('');
    try {
      await make(name.trim(), role, life);
      setName('');
    } catch (failure) {
      setRefused((failure as Error).message);
    }
    setWorking(false);
  };
  return (
    <form onSubmit={submit} data-new={of}>
      <div class="row">
        <label>
          {t('name')}
          <input value={name} required autocomplete="off" onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <label>
          {t('role')}
          <select value={role} onChange={(event) => setRole(event.currentTarget.value as Role)}>
            {ROLES.map((one) => (
              <option key={one} value={one}>
                {t(`role_${one}`)}
              </option>
            ))}
          </select>
        </label>
        <label>
          {t('joinTtl')}
          <select value={life} onChange={(event) => setLife(Number(event.currentTarget.value))}>
            {days.map((count) => (
              <option key={count} value={count}>
                {t('days', { count })}
              </option>
            ))}
          </select>
        </label>
        <button type="submit" class="main" disabled={working}>
          {t(`${of}Make`)}
        </button>
      </div>
      {refused && (
        <p class="note bad" role="alert">
          {t('refused', { why: clean(refused) })}
        </p>
      )}
    </form>
  );
}

function Table({ of, name, none, revoke }: { of: Access[]; name: Key; none: Key; revoke: (one: Access) => void }) {
  if (of.length === 0) return <p class="muted">{t(none)}</p>;
  return (
    <Rows name={name} heads={['name', 'role', 'expiresAt', 'createdBy']} acts>
      {of.map((one) => (
        <tr key={one.id ?? one.name} data-name={one.name}>
          <th scope="row">{clean(one.name)}</th>
          <td>{one.role}</td>
          <td>
            <Age at={one.expires_at} coming="inAge" />
          </td>
          <td>{clean(one.created_by)}</td>
          <td>
            <Act words="revoke" name={one.name} danger act={() => revoke(one)} />
          </td>
        </tr>
      ))}
    </Rows>
  );
}
