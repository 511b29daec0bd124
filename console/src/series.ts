// Points of a series as lines of an SVG: a gap ends one line and begins the next.

export function linesOf(points: (number | null)[], max: number, width: number, height: number): { line: string; area: string }[] {
  const step = width / Math.max(1, points.length - 1);
  const lines: { line: string; area: string }[] = [];
  let run: [number, number][] = [];
  const end = () => {
    const [first] = run;
    if (first) {
      // a single point is a short stroke, or it would not be seen
      if (run.length === 1) run.push([Math.min(width, first[0] + Math.max(1, step / 2)), first[1]]);
      const last = run[run.length - 1] as [number, number];
      const line = `M${run.map(([x, y]) => `${round(x)} ${round(y)}`).join('L')}`;
      lines.push({ line, area: `${line}L${round(last[0])} ${height}L${round(first[0])} ${height}Z` });
    }
    run = [];
  };
  points.forEach((point, i) => {
    if (point === null) end();
    else run.push([i * step, height - 1 - (Math.max(0, point) / max) * (height - 4)]);
  });
  end();
  return lines;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
