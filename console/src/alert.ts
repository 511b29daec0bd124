// An alert as the page needs it: pure.

import type { Alert, AlertChange } from './api';

export type AlertState = 'firing' | 'acknowledged' | 'silenced' | 'resolved';

export function stateOf(alert: Alert): AlertState {
  if (alert.state === 'resolved') return 'resolved';
  if (alert.state === 'acknowledged') return 'acknowledged';
  return alert.silenced_by ? 'silenced' : 'firing';
}

/** Whether all words of `text` are found. */
export function isMatched(alert: Alert, text: string): boolean {
  const labels = Object.entries(alert.labels).map(([key, value]) => `${key}=${value}`);
  const all = [alert.rule, alert.severity, alert.message, alert.group ?? '', ...alert.subjects.map(({ name }) => name), ...labels];
  const found = all.join(' ').toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => found.includes(word));
}

/** The filter of a silence that holds this alert and, as far as it can be said, no other. */
export function scopeOf(alert: Alert): string {
  const [only, more] = alert.subjects;
  if (alert.group) return `rule=${alert.rule},group=${alert.group}`;
  if (!only || more || only.name === 'cluster') return `rule=${alert.rule}`;
  const [node, container] = only.name.split('/');
  return [`rule=${alert.rule}`, `node=${node}`, ...(container ? [`container=${container}`] : [])].join();
}

/** Whether it is about a node, or a container on it, that is not over there. */
export function isAbout(alert: Alert, node: string): boolean {
  return alert.subjects.some(({ name, cleared_at }) => !cleared_at && name.split('/')[0] === node);
}

/** How many alerts that nobody looks after are about each node, by its name. */
export function firingByNode(alerts: Iterable<Alert>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const alert of alerts) {
    if (stateOf(alert) !== 'firing') continue;
    const names = alert.subjects.filter(({ cleared_at }) => !cleared_at).map(({ name }) => name.split('/')[0] ?? name);
    for (const name of new Set(names)) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

/** The alerts as a watch tells them: what came before `told` replaces what was known in one step. */
export class KnownAlerts {
  alerts: ReadonlyMap<string, Alert> = new Map();
  private first: Map<string, Alert> | null = new Map();

  /** A new connection begins with everything again. */
  begin(): void {
    this.first = new Map();
  }

  get isWhole(): boolean {
    return this.first === null;
  }

  apply(changes: AlertChange[]): void {
    let next: Map<string, Alert> | null = null;
    for (const change of changes) {
      if (change.type === 'told') {
        next = this.first ?? next;
        this.first = null;
        continue;
      }
      const into: Map<string, Alert> = this.first ?? (next ??= new Map(this.alerts));
      if (change.type === 'forgotten') into.delete(change.id);
      else if (change.alert.id) into.set(change.alert.id, change.alert);
    }
    if (next) this.alerts = next;
  }
}
