// What the console knows, as signals: pages read them, and only this file changes them.
//
// One task keeps the stream of nodes open, one that of events, one that of alerts. When a stream ends they ask who they are (the session may be
// over), then begin again with a snapshot; meanwhile the page says that what it shows is old.

import { computed, signal } from '@preact/signals';
import { api, Problem } from './api';
import type { Alert, AlertChange, ClusterEvent, ClusterStatus, EventChange, Node, NodeChange, Session, Topology } from './api';
import { KnownAlerts, firingByNode, stateOf } from './alert';
import { KnownNodes } from './known';
import { language, t } from './i18n';
import type { Language } from './i18n';

export const EVENTS_MAX = 10_000;
const EVENTS_FIRST = 500;
const STATUS_EVERY_MS = 10_000;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 5_000;
/** Clocks that differ by less are not worth a word. */
const CLOCK_DIFFERS_MS = 30_000;

export type Theme = 'auto' | 'light' | 'dark';
export type Line = { state: 'connecting' | 'live' | 'lost'; since: number };

export const session = signal<Session | null | undefined>(undefined);
export const sessionEnded = signal(false);
/** Why the link did not open the console, in the master's words, until somebody is in. */
export const linkRefused = signal('');
export const nodes = signal<ReadonlyMap<string, Node>>(new Map());
export const isComplete = signal(false);
export const status = signal<ClusterStatus | null>(null);
export const topology = signal<Topology | null>(null);
export const events = signal<ClusterEvent[]>([]);
export const alerts = signal<ReadonlyMap<string, Alert>>(new Map());
export const alertsComplete = signal(false);
export const firstKept = signal(1);
export const eventsMissed = signal<{ first: number; last: number } | null>(null);
export const line = signal<Line>({ state: 'connecting', since: Date.now() });
export const now = signal(Date.now());
export const clockOffset = signal(0);
export const toasts = signal<{ id: number; tone: 'ok' | 'bad' | 'idle'; text: string }[]>([]);
export const route = signal(parseRoute());
export const theme = signal<Theme>(stored<Theme>('piccolo.theme', ['auto', 'light', 'dark'], 'auto'));

export const sorted = computed(() =>
  [...nodes.value.values()].sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true })),
);
export const firing = computed(() => [...alerts.value.values()].filter((alert) => stateOf(alert) === 'firing').length);
export const alertsOf = computed(() => firingByNode(alerts.value.values()));
export const clockDiffers = computed(() => Math.abs(clockOffset.value) > CLOCK_DIFFERS_MS);

/** Milliseconds since `at`, by the master's clock. */
export function since(at: string | null | undefined): number | null {
  const then = at ? Date.parse(at) : Number.NaN;
  return Number.isNaN(then) ? null : now.value + clockOffset.value - then;
}

export function may(role: 'operator' | 'admin'): boolean {
  const have = session.value?.role;
  return have === 'admin' || have === role;
}

function parseRoute(): string[] {
  const hash = location.hash.replace(/^#\/?/, '');
  return hash.startsWith('code=') ? [''] : hash.split('/').map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
}

export function go(...parts: string[]): void {
  location.hash = `/${parts.map(encodeURIComponent).join('/')}`;
}

export function link(...parts: string[]): string {
  return `#/${parts.map(encodeURIComponent).join('/')}`;
}

function stored<T extends string>(key: string, allowed: readonly T[], otherwise: T): T {
  const value = localStorage.getItem(key) as T | null;
  return value !== null && allowed.includes(value) ? value : otherwise;
}

export function setTheme(value: Theme): void {
  theme.value = value;
  localStorage.setItem('piccolo.theme', value);
  if (value === 'auto') document.documentElement.removeAttribute('data-theme');
  else document.documentElement.setAttribute('data-theme', value);
}

export function setLanguage(value: Language): void {
  language.value = value;
  localStorage.setItem('piccolo.language', value);
  document.documentElement.lang = value;
}

let toastCount = 0;

export function toast(tone: 'ok' | 'bad' | 'idle', text: string): void {
  const id = ++toastCount;
  toasts.value = [...toasts.value.slice(-3), { id, tone, text }];
  setTimeout(() => (toasts.value = toasts.value.filter((shown) => shown.id !== id)), 7_000);
}

export async function start(): Promise<void> {
  const preferred = navigator.language.startsWith('ko') ? 'ko' : 'en';
  setLanguage(stored('piccolo.language', ['en', 'ko'] as const, preferred));
  setTheme(theme.value);
  addEventListener('hashchange', () => (route.value = parseRoute()));
  setInterval(() => (now.value = Date.now()), 1000);
  const code = /^#\/?code=([\w-]+)$/.exec(location.hash)?.[1];
  if (code) {
    // used up at once, and not kept in the history
    history.replaceState(null, '', location.pathname);
    await signIn({ code }).catch((error: Error) => (linkRefused.value = error.message));
  }
  if (!session.value) await whoAmI();
}

async function whoAmI(): Promise<void> {
  try {
    entered(await api.session());
  } catch (error) {
    if (error instanceof Problem && error.status < 500) session.value = null;
    else setTimeout(() => void whoAmI(), 2_000);
  }
}

export async function signIn(by: { token: string } | { code: string }): Promise<void> {
  entered(await api.signIn(by));
}

/** Out is who the master has let out: as long as it does not answer, the session is as good as before. */
export async function signOut(): Promise<void> {
  try {
    await api.signOut();
  } catch (error) {
    if (!(error instanceof Problem)) return toast('bad', t('signOutFailed'));
    if (error.status !== 401) return toast('bad', t('refused', { why: error.message }));
  }
  left(false);
}

function left(ended: boolean): void {
  stop?.abort();
  stop = null;
  session.value = null;
  sessionEnded.value = ended;
  known = new KnownNodes();
  nodes.value = known.nodes;
  knownAlerts = new KnownAlerts();
  alerts.value = knownAlerts.alerts;
  alertsComplete.value = false;
  events.value = [];
  status.value = null;
  isComplete.value = false;
}

let stop: AbortController | null = null;
let known = new KnownNodes();
let knownAlerts = new KnownAlerts();

function entered(who: Session): void {
  session.value = who;
  sessionEnded.value = false;
  linkRefused.value = '';
  if (stop) return;
  stop = new AbortController();
  const { signal: until } = stop;
  void keep(until, (stopped) => api.watchNodes(tellNodes, stopped), lostLine);
  void followEvents(until);
  void keep(until, followAlerts);
  void pollStatus(until);
}

/** Opens a stream again and again until `until`. */
async function keep(until: AbortSignal, open: (until: AbortSignal) => Promise<void>, lost: () => void = () => undefined): Promise<void> {
  let wait = RETRY_FIRST_MS;
  while (!until.aborted) {
    const opened = Date.now();
    try {
      await open(until);
    } catch (error) {
      if (until.aborted) return;
      if (error instanceof Problem && error.status === 401) return left(true);
    }
    if (until.aborted) return;
    lost();
    if (Date.now() - opened > 5_000) wait = RETRY_FIRST_MS;
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 1.6, RETRY_MAX_MS);
  }
}

function tellNodes(changes: NodeChange[]): void {
  known.apply(changes);
  if (known.isWithinSnapshot) return;
  nodes.value = known.nodes;
  isComplete.value = true;
  if (line.value.state !== 'live') cameBack();
}

function followAlerts(until: AbortSignal): Promise<void> {
  knownAlerts.begin();
  return api.watchAlerts((changes: AlertChange[]) => {
    knownAlerts.apply(changes);
    if (!knownAlerts.isWhole) return;
    alerts.value = knownAlerts.alerts;
    alertsComplete.value = true;
  }, until);
}

/** When the master that was lost had begun to run: another moment afterwards is another process. */
let startedBefore: string | null = null;

function lostLine(): void {
  if (line.value.state === 'lost') return;
  startedBefore = status.value?.started_at ?? null;
  line.value = { state: 'lost', since: Date.now() };
}

function cameBack(): void {
  const wasLost = line.value.state === 'lost';
  line.value = { state: 'live', since: Date.now() };
  void refreshStatus().then(() => {
    const started = status.value?.started_at;
    if (wasLost) toast('ok', t(startedBefore && startedBefore !== started ? 'restarted' : 'back'));
  });
}

async function pollStatus(until: AbortSignal): Promise<void> {
  while (!until.aborted) {
    await refreshStatus();
    await new Promise((resolve) => setTimeout(resolve, STATUS_EVERY_MS));
  }
}

export async function refreshStatus(): Promise<void> {
  try {
    const asked = Date.now();
    const [told, shape] = await Promise.all([api.status(), api.topology()]);
    const at = told.now ? Date.parse(told.now) : Number.NaN;
    if (!Number.isNaN(at)) clockOffset.value = at - (asked + Date.now()) / 2;
    status.value = told;
    topology.value = shape;
  } catch {
    // the streams tell when the master is away
  }
}

async function followEvents(until: AbortSignal): Promise<void> {
  await keep(until, async (stopped) => {
    const newest = events.value.at(-1)?.id;
    if (newest === undefined) {
      const first = await api.events({ limit: EVENTS_FIRST });
      events.value = first.items;
      firstKept.value = first.first_kept_id;
    }
    await api.watchEvents(events.value.at(-1)?.id ?? 0, tellEvents, stopped);
  });
}

function tellEvents(changes: EventChange[]): void {
  const fresh: ClusterEvent[] = [];
  for (const change of changes) {
    if (change.type === 'event') fresh.push(change.event);
    else eventsMissed.value = { first: change.first_id, last: change.last_id };
  }
  const last = events.value.at(-1)?.id ?? 0;
  const news = fresh.filter((event) => event.id > last);
  if (news.length > 0) events.value = [...events.value, ...news].slice(-EVENTS_MAX);
}

/** The page before the oldest that is loaded; whether there may be more. */
export async function loadOlder(): Promise<void> {
  const oldest = events.value[0]?.id ?? 1;
  const after = Math.max(firstKept.value - 1, oldest - 1 - 1000);
  const page = await api.events({ after, limit: 1000 });
  const older = page.items.filter((event) => event.id < oldest);
  firstKept.value = page.first_kept_id;
  if (older.length === 0) firstKept.value = oldest;
  events.value = [...older, ...events.value].slice(-EVENTS_MAX);
}
