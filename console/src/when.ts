// Moments that somebody types, and those at which something happened: pure.

import type { ClusterEvent } from './api';

/** `2030-01-31 12:00:00Z`, with or without seconds and `Z`, always UTC; or null. */
export function parseMoment(text: string): number | null {
  const found = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(:\d{2}(?:\.\d{1,3})?)?Z?$/.exec(text.trim());
  if (!found) return null;
  const milliseconds = Date.parse(`${found[1]}T${found[2]}${found[3] ?? ':00'}Z`);
  return Number.isNaN(milliseconds) ? null : milliseconds;
}

const DAY_SECONDS = 86_400;

/** As it stands below a chart of so many seconds, in UTC. */
export function axisTime(at: number, seconds: number): string {
  const iso = new Date(at).toISOString();
  return seconds > DAY_SECONDS ? `${iso.slice(5, 10)} ${iso.slice(11, 16)}` : `${iso.slice(11, 16)} UTC`;
}

/** When the events before and after a moment happened, of those that are loaded. */
export function neighbours(events: readonly ClusterEvent[], at: number): { before: number | null; after: number | null } {
  let before: number | null = null;
  let after: number | null = null;
  for (const event of events) {
    const then = event.at ? Date.parse(event.at) : Number.NaN;
    if (then < at && (before === null || then > before)) before = then;
    if (then > at && (after === null || then < after)) after = then;
  }
  return { before, after };
}
