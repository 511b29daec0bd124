// Rules and channels as forms have them, and as the master takes them: pure.

import type { AlertRule } from './api';

export type Values = Record<string, string>;

export interface Field {
  name: string;
  kind: 'text' | 'area' | 'number' | 'secret' | 'check' | 'choice';
  of?: string[];
  /** How it is written. */
  like?: string;
  required?: boolean;
  /** Says how expressions are written. */
  helps?: boolean;
}

const field = (name: string, kind: Field['kind'] = 'text', of?: string[]): Field => ({ name, kind, ...(of && { of }) });
const like = (of: Field, text: string): Field => ({ ...of, like: text });
const required = (of: Field): Field => ({ ...of, required: true });
const SEVERITIES = ['info', 'warning', 'critical'];

/** What a rule may say, by what it looks at; a test of the command line applies them. */
export const EXPRESSIONS: [on: string, expression: string][] = [
  ['node', 'node.metrics.cpu_percent > 90'],
  ['node', 'node.metrics.disk_free_bytes < 0.1 * node.metrics.disk_total_bytes'],
  ['node', 'node.status == "NotReady" && node.labels.site == "north"'],
  ['node', '"Suspect" in node.conditions'],
  ['container', 'container.state != "running" && container.name.startsWith("camera")'],
  ['cluster', 'cluster.nodes_ready < cluster.nodes'],
];

export const RULE_FIELDS: Field[] = [
  required(like(field('name'), 'DiskHot')),
  field('on', 'choice', ['node', 'container', 'cluster']),
  { ...required(like(field('when', 'area'), 'node.metrics.cpu_percent > 90')), helps: true },
  like(field('clear', 'area'), 'node.metrics.cpu_percent < 80'),
  like(field('for'), '5m'),
  like(field('keep_firing'), '2m'),
  field('severity', 'choice', SEVERITIES),
  like(field('labels'), 'team=night'),
  required(like(field('message', 'area'), '{{ node.name }}: {{ node.metrics.cpu_percent }} %')),
  like(field('group_min', 'number'), '2'),
  like(field('group_by'), 'site'),
  like(field('escalate'), '15m'),
  field('in_maintenance', 'check'),
  field('disabled', 'check'),
];

export const NEW_RULE: Values = { on: 'node', severity: 'warning' };

export function ruleValues(rule: AlertRule): Values {
  const { labels, group, in_maintenance, disabled, ...texts } = rule;
  const values: Values = {};
  for (const { name } of RULE_FIELDS) values[name] = String((texts as Record<string, unknown>)[name] ?? '');
  values.labels = Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`).join(', ');
  if (group) Object.assign(values, { group_min: String(group.min), group_by: group.by ?? '' });
  values.in_maintenance = in_maintenance ? 'true' : '';
  values.disabled = disabled ? 'true' : '';
  return values;
}

export function ruleOf(values: Values): AlertRule {
  const text = (name: string) => (values[name] ?? '').trim();
  const given = (...names: string[]) => Object.fromEntries(names.filter((name) => text(name)).map((name) => [name, text(name)]));
  const labels = Object.fromEntries(items(text('labels')).map((pair) => [pair.split('=')[0]?.trim() ?? '', pair.split('=').slice(1).join('=').trim()]));
  const by = text('group_by');
  return {
    name: text('name'),
    on: text('on'),
    when: text('when'),
    severity: text('severity'),
    message: text('message'),
    ...given('clear', 'for', 'keep_firing', 'escalate'),
    ...(Object.keys(labels).length > 0 && { labels }),
    ...((text('group_min') || by) && { group: { min: whole(text('group_min')), ...(by && { by }) } }),
    ...(text('in_maintenance') && { in_maintenance: true }),
    ...(text('disabled') && { disabled: true }),
  };
}

export const WAYS = ['webhook', 'smtp', 'mqtt', 'command'];

const LOGIN = [field('user'), field('password', 'secret'), field('ca_certificate', 'area')];
const WAY_FIELDS: Record<string, Field[]> = {
  webhook: [field('url'), field('body', 'choice', ['json', 'slack', 'mattermost']), field('key', 'secret'), field('ca_certificate', 'area')],
  smtp: [field('host'), field('port', 'number'), field('protection', 'choice', ['tls', 'starttls', 'none']), field('from'), field('to'), ...LOGIN],
  mqtt: [field('host'), field('port', 'number'), field('protection', 'choice', ['tls', 'none']), field('topic'), ...LOGIN],
  command: [field('command', 'area')],
};

export const NEW_CHANNEL: Values = { way: 'webhook', severity: 'warning' };

export function channelFields(values: Values): Field[] {
  return [
    field('name'),
    field('way', 'choice', WAYS),
    ...(WAY_FIELDS[values.way ?? ''] ?? []),
    field('severity', 'choice', SEVERITIES),
    field('only'),
    field('timeout'),
    field('per_minute', 'number'),
    field('escalations', 'check'),
    field('no_resolved', 'check'),
    field('disabled', 'check'),
  ];
}

export function channelOf(values: Values): Record<string, unknown> {
  const way = values.way ?? '';
  const own = new Set((WAY_FIELDS[way] ?? []).map(({ name }) => name));
  const channel: Record<string, unknown> = {};
  const details: Record<string, unknown> = {};
  for (const { name, kind, of } of channelFields(values)) {
    // an untouched choice is what is seen: the first
    const text = (values[name] ?? '').trim() || (kind === 'choice' ? (of?.[0] ?? '') : '');
    if (name === 'way' || text === '') continue;
    const value = kind === 'check' ? true : kind === 'number' ? whole(text) : name === 'to' ? items(text) : text;
    (own.has(name) ? details : channel)[name] = value;
  }
  channel[way] = way === 'command' ? (values.command ?? '').split('\n').map((line) => line.trim()).filter(Boolean) : details;
  return channel;
}

function items(text: string): string[] {
  return text.split(',').map((item) => item.trim()).filter(Boolean);
}

/** What is no number is left for the master to refuse. */
function whole(text: string): number {
  return /^\d+$/.test(text) ? Number(text) : (text as unknown as number);
}

/** The field of the form that a refusal of `rules[0].group.by` speaks of. */
export function placeOf(path: string | undefined, names: string[]): string | null {
  const [, ...parts] = (path ?? '').replace(/\[\d+\]/g, '').split('.');
  const candidates = [parts.join('_'), ...[...parts].reverse()];
  return candidates.find((name) => names.includes(name)) ?? null;
}
