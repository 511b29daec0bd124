// A node's history as small charts. Where nothing was told there is a gap, never a guess.

import { useState } from 'preact/hooks';
import { api } from './api';
import type { Node } from './api';
import { bytes, short } from './format';
import { t } from './i18n';
import type { Key } from './i18n';
import { linesOf } from './series';
import { now } from './state';
import { axisTime } from './when';
import { Panel, useLoaded } from './widgets';

const FIGURES: { figure: string; title: Key; show: (value: number) => string; least?: number }[] = [
  { figure: 'cpu_percent', title: 'cpu', show: (value) => `${value.toFixed(1)} %`, least: 10 },
  { figure: 'memory_available_bytes', title: 'memoryFree', show: bytes },
  { figure: 'disk_free_bytes', title: 'diskFree', show: bytes },
  { figure: 'network_rx_bytes_per_s', title: 'received', show: (value) => `${bytes(value)}/s`, least: 1024 },
  { figure: 'network_tx_bytes_per_s', title: 'sent', show: (value) => `${bytes(value)}/s`, least: 1024 },
  { figure: 'load1', title: 'load', show: (value) => value.toFixed(2), least: 1 },
  { figure: 'round_trip_seconds', title: 'roundTrip', show: short, least: 0.001 },
  { figure: 'temperature_celsius', title: 'temperature', show: (value) => `${value.toFixed(1)} °C`, least: 60 },
];

const RANGES: { name: Key; seconds: number }[] = [
  { name: 'lastHour', seconds: 3600 },
  { name: 'lastDay', seconds: 86_400 },
  { name: 'lastMonth', seconds: 2_592_000 },
];

const WIDTH = 320;
const HEIGHT = 84;
/** New points are asked for as often as there can be any. */
const REFRESH_MS = 10_000;

export function Charts({ node }: { node: Node }) {
  const [range, setRange] = useState(0);
  const seconds = (RANGES[range] ?? RANGES[0])!.seconds;
  const told = FIGURES.filter(({ figure }) => figure in node.metrics);
  const shown = told.length > 0 ? told : FIGURES.slice(0, 3);
  return (
    <Panel
      title={t('history')}
      wide
      aside={
        <div class="chips" role="group" aria-label={t('history')}>
          {RANGES.map(({ name }, i) => (
            <button key={name} type="button" class="chip" aria-pressed={i === range} onClick={() => setRange(i)}>
              {t(name)}
            </button>
          ))}
        </div>
      }
    >
      <div class="charts">
        {shown.map((figure) => (
          <Chart key={figure.figure} node={node} seconds={seconds} {...figure} />
        ))}
      </div>
    </Panel>
  );
}

type ChartProps = (typeof FIGURES)[0] & { node: Node; seconds: number };

function Chart({ node, figure, title, show, least, seconds }: ChartProps) {
  const tick = Math.floor(now.value / REFRESH_MS);
  const { value: series, error } = useLoaded(
    () => api.series(figure, { filter: `id=${node.id}`, since_seconds: seconds }),
    [node.id, figure, seconds, tick],
  );
  const [hover, setHover] = useState<number | null>(null);
  const points = series?.rows[0]?.points ?? [];
  const seen = points.filter((point): point is number => point !== null);
  const max = Math.max(least ?? 0, ...seen) || 1;
  const newest = seen.at(-1);
  const at = hover === null ? null : Math.min(points.length - 1, Math.max(0, Math.round(hover * (points.length - 1))));
  const pointed = at === null ? null : points[at];
  const begin = Date.parse(series?.from ?? '');
  const timeOf = (index: number) => (series && points.length > 0 ? axisTime(begin + index * series.step_seconds * 1000, seconds) : '');
  const when = at === null ? '' : timeOf(at);
  const words =
    newest === undefined
      ? t('noHistory')
      : t('chartOf', { figure: t(title), node: node.name, now: show(newest), min: show(Math.min(...seen)), max: show(Math.max(...seen)) });
  return (
    <figure class="chart">
      <figcaption>
        <span>{t(title)}</span>
        <b>{pointed !== null && pointed !== undefined ? show(pointed) : newest === undefined ? '-' : show(newest)}</b>
        <span class="muted when">{when}</span>
      </figcaption>
      <div class="axis y muted">
        <span>{seen.length > 0 ? show(max) : ''}</span>
        <span>0</span>
      </div>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={error || words}
        onPointerMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          setHover((event.clientX - box.left) / box.width);
        }}
        onPointerLeave={() => setHover(null)}
      >
        <path class="grid" d={`M0 .5H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT - 0.5}H${WIDTH}`} />
        {linesOf(points, max, WIDTH, HEIGHT).map(({ line, area }) => (
          <g key={line}>
            <path class="area" d={area} />
            <path class="curve" d={line} />
          </g>
        ))}
        {at !== null && <path class="cross" d={`M${(at / Math.max(1, points.length - 1)) * WIDTH} 0V${HEIGHT}`} />}
      </svg>
      <div class="axis x muted">
        <span>{timeOf(0)}</span>
        <span>{timeOf(points.length - 1)}</span>
      </div>
    </figure>
  );
}
