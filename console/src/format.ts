// Times, sizes and words that fit: pure, and the same in every language but for the words.

import type { Container, Node, Severity, Status } from './api';

/** `45s`, `5m30s`, `3h12m`, `2d4h`: as the command line writes it. */
export function span(milliseconds: number): string {
  const s = Math.max(0, Math.floor(milliseconds / 1000));
  const pair = (big: number, unit: string, small: number, less: string) => (small ? `${big}${unit}${small}${less}` : `${big}${unit}`);
  if (s < 60) return `${s}s`;
  if (s < 600) return pair(Math.floor(s / 60), 'm', s % 60, 's');
  if (s < 3600) return `${Math.floor(s / 60)}m`;
  if (s < 86_400) return pair(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'm');
  const days = Math.floor(s / 86_400);
  if (days >= 730) return pair(Math.floor(days / 365), 'y', days % 365, 'd');
  return days >= 10 ? `${days}d` : pair(days, 'd', Math.floor((s % 86_400) / 3600), 'h');
}

/** `300s`, as the master writes a length of time, as people do. */
export function spanOf(text: string): string {
  const seconds = /^(\d+)s$/.exec(text)?.[1];
  return seconds === undefined ? clean(text) : span(Number(seconds) * 1000);
}

export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export type Tone = 'ok' | 'warn' | 'bad' | 'wait' | 'care' | 'idle';

export function toneOf(node: Pick<Node, 'status' | 'conditions'>): Tone {
  const byStatus: Record<Status, Tone> = {
    Ready: node.conditions.length > 0 ? 'warn' : 'ok',
    NotReady: 'bad',
    Pending: 'wait',
    Initializing: 'wait',
    Maintenance: 'care',
    Terminating: 'idle',
  };
  return byStatus[node.status] ?? 'idle';
}

/** As the command line sees them: what should run and does not, or is sick. */
export function containerTone(container: Container): Tone {
  if (container.health === 'unhealthy' || container.state === 'dead') return 'bad';
  if (container.state === 'running') return container.health === 'starting' ? 'wait' : 'ok';
  if (container.exit_code !== null && container.exit_code !== 0) return 'bad';
  return container.state === 'paused' ? 'care' : 'idle';
}

export function severityTone(severity: Severity): Tone {
  return severity === 'critical' ? 'bad' : severity === 'warning' ? 'warn' : 'idle';
}

/** `text` cut to `width` pixels; `widthOf` measures, and there is one letter at least. */
export function fit(text: string, width: number, widthOf: (text: string) => number): string {
  if (widthOf(text) <= width) return text;
  const letters = [...text];
  let [fits, not] = [1, letters.length];
  while (not - fits > 1) {
    const middle = Math.floor((fits + not) / 2);
    if (widthOf(`${letters.slice(0, middle).join('')}…`) <= width) fits = middle;
    else not = middle;
  }
  return `${letters.slice(0, fits).join('')}…`;
}

/** Where nothing measures: a wide letter counts as two narrow ones. */
export function roughWidth(text: string, size: number): number {
  return [...text].reduce((sum, letter) => sum + letterWidth(letter) * size, 0);
}

function letterWidth(letter: string): number {
  const code = letter.codePointAt(0) ?? 0;
  if (code >= 0x1100) return 1;
  if ('iljtf.,:;|!\' '.includes(letter)) return 0.32;
  if ('mwMW@'.includes(letter)) return 0.88;
  return code < 0x61 ? 0.64 : 0.56;
}

/** Many programs colour what they print. */
export function withoutColours(text: string): string {
  return text.replace(/\u001b\[[\d;]*m/g, '');
}

/** A control character in a name or message must be seen, and do nothing; but `allowed`. */
export function clean(text: string, allowed = ''): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g, (c) => c === allowed ? c : `\\u{${c.charCodeAt(0).toString(16)}}`);
}

/** Bytes a second over the network, where the node tells them. */
export function traffic(metrics: Record<string, string>): number | null {
  const told = Object.entries(metrics).filter(([key]) => /^network_(rx|tx)/.test(key)).map(([, value]) => Number(value));
  return told.length > 0 && told.every(Number.isFinite) ? told.reduce((a, b) => a + b, 0) : null;
}

/** What is smaller than a minute, as the command line writes it. */
export function short(seconds: number): string {
  const ms = seconds * 1000;
  return ms >= 999.5 ? `${seconds.toFixed(2)} s` : `${ms >= 9.995 ? Math.round(ms) : ms.toFixed(2)} ms`;
}

/** From a beat of the node's session to the master's answer, where there is a session and it was measured. */
export function roundTrip(node: Pick<Node, 'metrics' | 'connected'>): string | null {
  const seconds = Number(node.metrics.round_trip_seconds ?? NaN);
  return node.connected && seconds >= 0 && seconds <= 60 ? short(seconds) : null;
}
