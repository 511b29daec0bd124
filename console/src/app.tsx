// The frame around every page: who is signed in, where one can go, and whether what is seen is true now.

import type { Key } from './i18n';
import { language, t } from './i18n';
import { AccessPage } from './access';
import { AlertsPage } from './alerts';
import { AuditPage } from './audit';
import { EventsPage } from './events';
import { JoinPage } from './join';
import { Login } from './login';
import { LogsPage } from './logs';
import { MasterPage } from './master';
import { NodePage } from './node';
import { NodesPage } from './nodes';
import { TopologyPage } from './topology';
import { clockDiffers, clockOffset, firing, line, link, may, now, route, session, setLanguage, setTheme, signOut, status, theme, toasts } from './state';
import type { Theme } from './state';
import { clean, span } from './format';

const PAGES: { path: string; name: Key; icon: string; role?: 'operator' | 'admin' }[] = [
  { path: '', name: 'topology', icon: 'M8 2v4M8 6H3.5v4M8 6h4.5v4M8 6v4M6 1.5h4M2 11h3v3H2zM6.5 11h3v3h-3zM11 11h3v3h-3z' },
  { path: 'nodes', name: 'nodes', icon: 'M2 3h12v4H2zM2 9h12v4H2zM4.5 5h.1M4.5 11h.1' },
  { path: 'alerts', name: 'alerts', icon: 'M4 11.5V7a4 4 0 0 1 8 0v4.5M2.5 11.5h11M6.5 14h3M8 1.5V3' },
  { path: 'events', name: 'events', icon: 'M3 3.5h.1M3 8h.1M3 12.5h.1M6 3.5h8M6 8h8M6 12.5h8' },
  { path: 'logs', name: 'logs', icon: 'M2.5 2.5h11v11h-11zM5 6l2 2-2 2M8.5 10.5H11' },
  { path: 'audit', name: 'audit', icon: 'M8 1.5 13.5 4v4c0 3.5-2.5 5.5-5.5 6.5C5 13.5 2.5 11.5 2.5 8V4zM5.5 8l2 2 3-4', role: 'admin' },
  { path: 'join', name: 'join', icon: 'M8 3v10M3 8h10', role: 'admin' },
  { path: 'access', name: 'access', icon: 'M7.5 8a3 3 0 1 1-6 0 3 3 0 0 1 6 0M7.5 8h7v2.6M11.8 8v2', role: 'admin' },
  { path: 'master', name: 'master', icon: 'M2 9h3l2-5 2.5 9L11.5 7l1 2H14' },
];

export function App() {
  const who = session.value;
  if (who === undefined) return <p class="splash" role="status">PICCOLO</p>;
  if (who === null) return <Login />;
  const page = route.value[0] ?? '';
  const shown = PAGES.find(({ path }) => path === page) ?? PAGES[0];
  document.title = `${t((shown as (typeof PAGES)[0]).name)} · ${status.value?.cluster_name ?? 'PICCOLO'}`;
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById('main')?.focus())}>
        {t('skip')}
      </a>
      <header class="bar">
        <a class="brand" href={link('')}>
          <img src="./icon.svg" alt="" width="26" height="26" />
          <span>{status.value?.cluster_name ?? 'PICCOLO'}</span>
        </a>
        <nav aria-label={t('pages')}>
          {PAGES.filter(({ role }) => !role || may(role)).map(({ path, name, icon }) => (
            <a key={path} href={link(path)} title={t(name)} aria-current={path === page ? 'page' : undefined}>
              <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
                <path class="mark" d={icon} />
              </svg>
              <span>{t(name)}</span>
              {path === 'alerts' && firing.value > 0 && (
                <b class="firing">
                  {firing.value}
                  <i class="visually-hidden"> {t('a_firing')}</i>
                </b>
              )}
            </a>
          ))}
        </nav>
        <div class="me">
          <LineSign />
          <Preferences />
          <span class="who" title={`${clean(who.who)}; ${t(`role_${who.role}`)}`}>
            <span>{clean(who.who)}</span>
            <b>{who.role}</b>
          </span>
          <button type="button" class="plain" onClick={() => void signOut()}>
            {t('signOut')}
          </button>
        </div>
      </header>
      <Banner />
      <main id="main" tabindex={-1}>
        <Page />
      </main>
      <div class="toasts" role="status" aria-live="polite">
        {toasts.value.map(({ id, tone, text }) => (
          <p key={id} class={`toast ${tone}`}>
            {text}
          </p>
        ))}
      </div>
    </div>
  );
}

function Page() {
  const [page, name] = route.value;
  switch (page) {
    case 'nodes':
      return name ? <NodePage key={name} name={name} /> : <NodesPage />;
    case 'alerts':
      return <AlertsPage />;
    case 'events':
      return <EventsPage />;
    case 'logs':
      return <LogsPage />;
    case 'audit':
      return may('admin') ? <AuditPage /> : <TopologyPage />;
    case 'join':
      return may('admin') ? <JoinPage /> : <TopologyPage />;
    case 'access':
      return may('admin') ? <AccessPage /> : <TopologyPage />;
    case 'master':
      return <MasterPage />;
    default:
      return <TopologyPage />;
  }
}

function LineSign() {
  const { state } = line.value;
  const words: Key = state === 'live' ? 'live' : 'connecting';
  return <span class={`line ${state}`}>{t(words)}</span>;
}

function Banner() {
  const { state, since } = line.value;
  if (state === 'lost' && now.value - since > 1500) {
    return (
      <p class="banner bad" role="alert">
        {t('lost', { age: span(now.value - since) })}
      </p>
    );
  }
  if (clockDiffers.value) return <p class="banner warn">{t('clockDiffers', { by: span(Math.abs(clockOffset.value)) })}</p>;
  return null;
}

export function Preferences() {
  return (
    <>
      <select aria-label={t('language')} value={language.value} onChange={(event) => setLanguage(event.currentTarget.value as 'en' | 'ko')}>
        <option value="en">English</option>
        <option value="ko">한국어</option>
      </select>
      <select aria-label={t('theme')} value={theme.value} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
        <option value="auto">{t('themeAuto')}</option>
        <option value="light">{t('themeLight')}</option>
        <option value="dark">{t('themeDark')}</option>
      </select>
    </>
  );
}
