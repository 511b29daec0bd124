// All that the console asks of the master, and nothing else knows a path.
//
// Shapes are those of the command line's `-o json` (docs/operations/cli.md). What the master refuses arrives as a
// `Problem` (RFC 9457). Streams are read with `fetch`, not `EventSource`: so a 401 is seen as one, and silence too.

import { SseParser } from './sse';

export type Status = 'Pending' | 'Initializing' | 'Ready' | 'NotReady' | 'Maintenance' | 'Terminating';
export type Severity = 'info' | 'warning' | 'critical';
export type Role = 'viewer' | 'operator' | 'admin';

export interface Condition {
  kind: string;
  reason: string;
  message: string;
  since: string | null;
}

export interface Container {
  id: string;
  name: string;
  image: string;
  state: string;
  exit_code: number | null;
  health: string | null;
  started_at: string | null;
  finished_at: string | null;
  memory_bytes: number;
  cpu_basis_points: number;
  restarts: number;
  restart: string | null;
}

export interface Finding {
  name: string;
  level: 'ok' | 'warning' | 'error';
  value: string;
  limit: string;
  remedy: string;
}

export interface SystemCheck {
  at: string | null;
  passed: number;
  findings: Finding[];
}

export interface Node {
  id: string;
  name: string;
  ip: string;
  role: string;
  kind: string;
  status: Status;
  status_since: string | null;
  connected: boolean;
  conditions: Condition[];
  resources: { cpu: number; memory: number; disk: number };
  created_at: string | null;
  last_heartbeat: string | null;
  labels: Record<string, string>;
  containers: Container[];
  containers_at: string | null;
  metrics: Record<string, string>;
  agent_version: string;
  architecture: string;
  os: string;
  kernel: string;
  runtime_version: string;
  applied_generation: number;
  certificate_expires_at: string | null;
  revision: number;
  system_check: SystemCheck | null;
  hardware: SystemCheck | null;
}

export interface Recovery {
  paused_until: string | null;
  spent: number;
  spent_max: number;
  failures: { failure: string; step: string; attempts: number; next_at: string | null; why: string }[];
  probe: { at: string | null; parts: { name: string; ok: boolean; took_ms: number; problem: string }[] } | null;
}

export interface ClusterEvent {
  id: number;
  at: string | null;
  severity: Severity;
  kind: string;
  node_id: string | null;
  node_name: string | null;
  message: string;
  node_sequence: number;
  fields: Record<string, string>;
  delivered_late: boolean;
}

export interface ClusterStatus {
  cluster_id: string;
  cluster_name: string;
  master_version: string;
  master_address: string;
  started_at: string | null;
  now: string | null;
  store_kind: string;
  store_health: string;
  store_size_bytes: number;
  revision: number;
  generation: number;
  nodes_by_status: Record<string, number>;
  containers_running: number;
  containers_total: number;
  sessions: number;
  watchers: number;
  approval: string;
  ca_expires_at: string | null;
  events_kept: number;
  backup?: { last_at: string | null; last_file: string; problem: string; every_seconds: number };
}

export interface Topology {
  id: string;
  name: string;
  type: string;
  parent_cluster: string | null;
  config: Record<string, string>;
  generation: number;
  applied_by: number;
}

export interface Token {
  id: string;
  role: string;
  created_at: string | null;
  expires_at: string | null;
  uses_left: number;
  node_name: string | null;
  created_by: string;
  used_by: string[];
}

/** A user, or an API token, which has an id too. */
export interface Access {
  id?: string;
  name: string;
  role: string;
  created_at: string | null;
  expires_at: string | null;
  created_by: string;
}

export interface AuditEntry {
  id: number;
  at: string | null;
  who: string;
  from: string;
  call: string;
  target: string;
  outcome: string;
}

export interface Series {
  figure: string;
  from: string;
  step_seconds: number;
  rows: { labels: Record<string, string>; points: (number | null)[] }[];
  truncated: boolean;
}

export interface Alert {
  id: string | null;
  rule: string;
  severity: Severity;
  state: string;
  message: string;
  labels: Record<string, string>;
  group: string | null;
  subjects: { name: string; since: string | null; cleared_at: string | null }[];
  since: string | null;
  fired_at: string | null;
  acknowledged_by: string | null;
  acknowledged_at: string | null;
  comment: string | null;
  escalated_at: string | null;
  resolved_at: string | null;
  resolved_why: string | null;
  silenced_by: string | null;
}

export interface Silence {
  id: string;
  only: string;
  until: string | null;
  by: string;
  comment: string | null;
}

export interface AlertRule {
  name: string;
  on: string;
  when: string;
  clear?: string;
  for?: string;
  keep_firing?: string;
  severity: string;
  labels?: Record<string, string>;
  message: string;
  group?: { min: number; by?: string };
  escalate?: string;
  in_maintenance?: boolean;
  disabled?: boolean;
}

export type RuleTold = AlertRule & { builtin: boolean; problem: string | null };

export interface Channel {
  name: string;
  kind: string;
  target: string;
  severity: string;
  only: string;
  escalations: boolean;
  disabled: boolean;
  per_minute: number;
  waiting: number;
  problem: string | null;
  changed_at: string | null;
}

export interface DeadLetter {
  id: string;
  channel: string;
  alert: string;
  message: string;
  given_up_at: string | null;
  why: string;
}

export interface PastContainer {
  name: string;
  state: string;
  exit_code: number | null;
  since: string | null;
}

export interface PastNode {
  id: string;
  name: string;
  /** Null: nothing that is kept tells it. */
  status: Status | null;
  since: string | null;
  message: string | null;
  conditions: Condition[];
  containers: PastContainer[];
}

export interface Past {
  at: string;
  kept_since: string | null;
  whole: boolean;
  in_gap: boolean;
  nodes: PastNode[];
}

export interface MasterSetting {
  key: string;
  /** Empty: not set. */
  value: string;
  /** Null: its default. */
  said_by: string | null;
}

export interface Session {
  who: string;
  role: Role;
  expires_at: string | null;
}

export type NodeChange =
  | { type: 'changed'; revision: number; node: Node }
  | { type: 'removed'; revision: number; node_id: string }
  | { type: 'snapshot_begin'; revision: number; reason: string }
  | { type: 'snapshot_end'; revision: number };

export type EventChange =
  | { type: 'event'; event: ClusterEvent }
  | { type: 'missed'; first_id: number; last_id: number };

export type AlertChange = { type: 'changed'; alert: Alert } | { type: 'forgotten'; id: string } | { type: 'told' };

export interface LogLine {
  at: string | null;
  source: string;
  level: string;
  from: string;
  message: string;
  cut: boolean;
}

export interface LogQuery {
  /** Joined by commas: `NODE`, `NODE:UNIT`, `NODE/CONTAINER`. */
  target: string;
  level: number;
  grep: string;
  /** The newest of each source. */
  lines: number;
  since?: string;
  until?: string;
  follow: boolean;
  /** What the master keeps, instead of what is on the nodes. */
  kept?: boolean;
}

export type LogChange =
  | { type: 'line'; line: LogLine }
  | { type: 'notice'; source: string; reason: string; message: string; dropped: number }
  | { type: 'over' };

/** What the master refused, in its own words. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    /** The field that is wrong, where one is. */
    readonly field?: string,
  ) {
    super(detail || title);
  }
}

const ROOT = 'api/v1';
/** An answer that has not come after so long does not come. */
const ANSWER_WITHIN_MS = 30_000;
/** Of a page of a list. */
const LIST_MAX = 1000;
/** The master sends a comment more often than that. */
const SILENCE_MS = 35_000;

async function call<T>(method: string, path: string, body?: unknown, generation = 0): Promise<T> {
  const headers: Record<string, string> = { accept: 'application/json' };
  // a page of another origin cannot send it
  if (method !== 'GET') headers['x-piccolo-csrf'] = '1';
  // refused where somebody else has changed it meanwhile
  if (generation > 0) headers['if-match'] = `"${generation}"`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  const answer = await fetch(`${ROOT}/${path}`, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: 'same-origin',
    cache: 'no-store',
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
  });
  if (!answer.ok) throw await problem(answer);
  const text = await answer.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

interface Told {
  status: number;
  title: string;
  detail?: string;
  help?: string;
  field?: string;
}

function told({ status, title, detail, help, field }: Told): Problem {
  return new Problem(status, title, [detail, help].filter(Boolean).join('; '), field);
}

async function problem(answer: Response): Promise<Problem> {
  try {
    return told((await answer.json()) as Told);
  } catch {
    return new Problem(answer.status, answer.statusText || `HTTP ${answer.status}`, '');
  }
}

function query(parameters: Record<string, string | number | undefined>): string {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== '');
  const text = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
  return text && `?${text}`;
}

const id = encodeURIComponent;

export const api = {
  session: () => call<Session>('GET', 'session'),
  signIn: (by: { token: string } | { code: string }) => call<Session>('POST', 'session', by),
  signOut: () => call<void>('DELETE', 'session'),

  status: () => call<ClusterStatus>('GET', 'status'),
  settings: () => call<{ settings: MasterSetting[] }>('GET', 'settings'),
  topology: () => call<Topology>('GET', 'topology'),
  /** The oldest after one, or else the newest. */
  events: (q: { after?: number; limit: number }) =>
    call<{ items: ClusterEvent[]; first_kept_id: number }>('GET', `events${query(q)}`),
  history: (at: string) => call<Past>('GET', `history${query({ at })}`),
  series: (figure: string, q: { filter: string; since_seconds: number }) =>
    call<Series>('GET', `metrics/${id(figure)}${query(q)}`),
  recovery: (node: string) => call<Recovery>('GET', `nodes/${id(node)}/recovery`),
  pauseRecovery: (node: string, seconds: number) =>
    call<unknown>('PUT', `nodes/${id(node)}/recovery/pause`, { seconds }),
  resumeRecovery: (node: string) => call<unknown>('DELETE', `nodes/${id(node)}/recovery/pause`),
  forceRecovery: (node: string, step: string, container: string) =>
    call<{ message?: string }>('POST', `nodes/${id(node)}/recovery/force`, { step, container }),
  probe: (node: string) => call<unknown>('POST', `nodes/${id(node)}/probe`),
  /** The newest, or the newest before one; from the newest back. */
  audit: (q: { before?: number; outcome?: 'refused'; limit: number }) =>
    call<{ items: AuditEntry[]; continue?: number }>('GET', `audit${query({ ...q, order: 'desc' })}`),
  tokens: () => call<{ items: Token[] }>('GET', 'tokens'),

  approve: (node: string) => call<unknown>('POST', `nodes/${id(node)}/approve`),
  reject: (node: string, reason: string) => call<unknown>('POST', `nodes/${id(node)}/reject`, { reason }),
  maintenance: (node: string, on: boolean, reason = '') => call<unknown>('PUT', `nodes/${id(node)}/maintenance`, { on, reason }),
  remove: (node: string) => call<unknown>('DELETE', `nodes/${id(node)}`),
  restartContainer: (node: string, container: string) =>
    call<{ message?: string }>('POST', `nodes/${id(node)}/containers/${id(container)}/restart`),
  check: (node: string) => call<{ system_check: SystemCheck }>('POST', `nodes/${id(node)}/check`),
  /** For so many seconds, or with 0 until it restarts. */
  logLevel: (target: string, filter: string, for_seconds: number) =>
    call<{ message?: string }>('PUT', `log-level/${id(target)}`, { filter, for_seconds }),
  createToken: (wish: { role: string; ttl_seconds: number; uses: number; node_name?: string }) =>
    call<{ token: string; info: Token }>('POST', 'tokens', wish),
  revokeToken: (token: string) => call<void>('DELETE', `tokens/${id(token)}`),

  apiTokens: () => call<{ items: Access[] }>('GET', `api-tokens${query({ limit: LIST_MAX })}`),
  createApiToken: (wish: { name: string; role: Role; ttl_seconds: number }) => call<{ token: string }>('POST', 'api-tokens', wish),
  revokeApiToken: (token: string) => call<unknown>('DELETE', `api-tokens/${id(token)}`),
  users: () => call<{ items: Access[] }>('GET', `users${query({ limit: LIST_MAX })}`),
  createUser: (wish: { name: string; role: Role; ttl_seconds: number; certificate_signing_request: string }) =>
    call<{ certificate: string; ca_certificate: string }>('POST', 'users', wish),
  revokeUser: (name: string) => call<unknown>('DELETE', `users/${id(name)}`),

  alerts: () => call<{ alerts: Alert[]; silences: Silence[] }>('GET', 'alerts'),
  acknowledge: (alert: string, comment: string) => call<Alert>('POST', `alerts/${id(alert)}/acknowledge`, { comment }),
  silence: (wish: { only: string; seconds: number; comment: string }) => call<Silence>('POST', 'silences', wish),
  unsilence: (silence: string) => call<unknown>('DELETE', `silences/${id(silence)}`),

  alertRules: () => call<{ rules: RuleTold[]; generation: number }>('GET', 'alert-rules'),
  checkRules: (rules: AlertRule[]) => call<unknown>('POST', 'alert-rules/check', { rules }),
  applyRules: (rules: AlertRule[], generation: number) => call<unknown>('POST', 'alert-rules', { rules }, generation),
  deleteRule: (rule: string) => call<unknown>('DELETE', `alert-rules/${id(rule)}`),
  alertChannels: () => call<{ channels: Channel[]; dead_letters: DeadLetter[] }>('GET', 'alert-channels'),
  applyChannels: (channels: unknown[]) => call<unknown>('POST', 'alert-channels', { channels }),
  deleteChannel: (channel: string) => call<unknown>('DELETE', `alert-channels/${id(channel)}`),
  switchChannel: (channel: string, disabled: boolean) => call<unknown>('POST', `alert-channels/${id(channel)}/switch`, { disabled }),
  testChannel: (channel: string) => call<unknown>('POST', `alert-channels/${id(channel)}/test`),
  resendLetter: (letter: string) => call<unknown>('POST', 'dead-letters/resend', { ids: [letter] }),
  clearLetter: (letter: string) => call<unknown>('POST', 'dead-letters/clear', { ids: [letter] }),

  watchNodes: (tell: (changes: NodeChange[]) => void, stop: AbortSignal) =>
    stream<NodeChange>('watch/nodes', tell, stop),
  watchEvents: (after: number, tell: (changes: EventChange[]) => void, stop: AbortSignal) =>
    stream<EventChange>(`watch/events${query({ after })}`, tell, stop),
  watchAlerts: (tell: (changes: AlertChange[]) => void, stop: AbortSignal) =>
    stream<AlertChange>('watch/alerts', tell, stop),
  watchLogs: (q: LogQuery, tell: (changes: LogChange[]) => void, stop: AbortSignal) =>
    stream<LogChange>(`watch/logs${query({ ...q, follow: String(q.follow), kept: q.kept ? 'true' : undefined })}`, tell, stop),
};

/** Until the stream ends, breaks, is silent for too long, or `stop` says so; always throws or returns then. */
async function stream<T>(path: string, tell: (items: T[]) => void, stop: AbortSignal): Promise<void> {
  const silence = new AbortController();
  let alarm = setTimeout(() => silence.abort(), ANSWER_WITHIN_MS);
  try {
    const answer = await fetch(`${ROOT}/${path}`, {
      headers: { accept: 'text/event-stream' },
      credentials: 'same-origin',
      cache: 'no-store',
      signal: AbortSignal.any([stop, silence.signal]),
    });
    if (!answer.ok || !answer.body) throw await problem(answer);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new SseParser();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(alarm);
      alarm = setTimeout(() => silence.abort(), SILENCE_MS);
      const messages = parser.push(value);
      const items = messages.filter(({ event }) => event !== 'error').map(({ data }) => JSON.parse(data) as T);
      if (items.length > 0) tell(items);
      const over = messages.find(({ event }) => event === 'error');
      if (over) throw told(JSON.parse(over.data) as Told);
    }
  } finally {
    clearTimeout(alarm);
  }
}
