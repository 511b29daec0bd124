// What somebody wants to read of logs, as the master is asked for it: pure.

import type { LogQuery } from './api';
import { parseMoment } from './when';

export const RANGES = ['newest', '5m', '1h', '1d', 'between'] as const;

export interface LogWish {
  targets: string[];
  /** Of systemd, on each node among the targets; joined by commas. */
  units: string;
  level: number;
  grep: string;
  range: (typeof RANGES)[number];
  from: string;
  to: string;
  /** What the master keeps of them: of units alone, and so far. */
  kept?: boolean;
}

const SECONDS = { '5m': 300, '1h': 3_600, '1d': 86_400 };
const LINES_NEWEST = 200;
const LINES_OF_A_RANGE = 1000;
/** That are looked through for a text. */
const LINES_SEARCHED = 10_000;

/** Null where nothing can be asked for yet. */
export function logQuery(wish: LogWish, now: number): LogQuery | null {
  if (!wish.kept) return asked(wish, now);
  const query = asked({ ...wish, targets: wish.targets.filter((target) => !target.includes('/')) }, now);
  return query && { ...query, follow: false, kept: true };
}

function asked({ targets, units, level, grep, range, from, to }: LogWish, now: number): LogQuery | null {
  const names = units.split(',').map((unit) => unit.trim()).filter(Boolean);
  const nodes = targets.filter((target) => !target.includes('/'));
  const all = names.length > 0 ? [...nodes.flatMap((node) => names.map((unit) => `${node}:${unit}`)), ...targets.filter((one) => one.includes('/'))] : targets;
  if (all.length === 0) return null;
  const shared = { target: all.join(','), level, grep: grep.trim() };
  const lines = shared.grep ? LINES_SEARCHED : range === 'newest' ? LINES_NEWEST : LINES_OF_A_RANGE;
  if (range === 'newest') return { ...shared, lines, follow: true };
  if (range !== 'between') return { ...shared, lines, since: new Date(now - SECONDS[range] * 1000).toISOString(), follow: true };
  const [begin, end] = [parseMoment(from), parseMoment(to)];
  // a time that is none is not another one
  if ((from.trim() && begin === null) || (to.trim() && end === null) || (begin === null && end === null)) return null;
  const until = end === null ? {} : { until: new Date(end).toISOString() };
  return { ...shared, lines, ...(begin !== null && { since: new Date(begin).toISOString() }), ...until, follow: end === null };
}
