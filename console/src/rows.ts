// Which rows of a long list are in sight: only those are in the page.

/** Rows kept above and below, so that scrolling shows no gap. */
const BEYOND = 8;

export function rowsInSight(top: number, height: number, row: number, count: number): { first: number; last: number } {
  const first = Math.max(0, Math.min(count, Math.floor(top / row)) - BEYOND);
  const last = Math.min(count, Math.ceil((Math.max(0, top) + height) / row) + BEYOND);
  return { first, last };
}

/** How many rows have come above the one that was the first. */
export function movedDown(all: { id: number }[], first: number | undefined): number {
  return first === undefined ? 0 : Math.max(0, all.findIndex(({ id }) => id === first));
}
