// The topology as a live picture: what there is, how it is, and what changes while one looks.
//
// `layout.ts` says where everything stands; here it is drawn, moved, zoomed, filtered and looked into. A node that changes
// its status rings once; each report of a node runs up its line as a dot.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Node } from './api';
import { save } from './export';
import { bytes, clean, containerTone, fit, roughWidth, roundTrip, span, toneOf, traffic } from './format';
import type { Tone } from './format';
import { t } from './i18n';
import type { Key } from './i18n';
import { Inspector } from './inspector';
import { ZOOM_MIN, aspectOf, place, wholeView, widestIn } from './layout';
import type { Box, Link, Picture, PlacedNode, Room, View } from './layout';
import { matches } from './match';
import { alertsOf, isComplete, line, now, since, sorted, status, topology } from './state';
import { Sign, statusWords } from './widgets';

const pen = document.createElement('canvas').getContext('2d');
const cut = new Map<string, string>();
/** Texts that are kept as they were cut. */
const CUT_MAX = 4000;

/** Cut to what fits in the font that the page has. */
function fitted(text: string, width: number, size: number, weight = 400): string {
  const key = `${width} ${size} ${weight} ${text}`;
  const known = cut.get(key);
  if (known !== undefined) return known;
  if (pen) pen.font = `${weight} ${size}px ${getComputedStyle(document.documentElement).fontFamily}`;
  const shown = fit(text, width, (part) => pen?.measureText(part).width ?? roughWidth(part, size));
  if (cut.size >= CUT_MAX) cut.clear();
  cut.set(key, shown);
  return shown;
}

const ZOOM_MAX = 4;
const BORN = Date.now();

export function TopologyPage() {
  const [text, setText] = useState('');
  const [tones, setTones] = useState<ReadonlySet<Tone>>(new Set());
  const [groupBy, setGroupBy] = useState(() => localStorage.getItem('piccolo.group') ?? 'site');
  const [inspected, setInspected] = useState<string | null>(null);
  const all = sorted.value;
  const keys = [...new Set(all.flatMap((node) => Object.keys(node.labels)))].sort();
  const by = keys.includes(groupBy) ? groupBy : '';
  const shown = new Set(
    all.filter((node) => matches(node, text) && (tones.size === 0 || tones.has(toneOf(node)))).map((node) => node.id),
  );
  const node = all.find((one) => one.id === inspected);
  // whoever walks with the keyboard goes on where they were
  const close = (name: string) => {
    setInspected(null);
    document.querySelector<SVGElement>(`[data-node="${CSS.escape(name)}"]`)?.focus();
  };
  return (
    <div class="topology">
      <h1 class="visually-hidden">{t('topology')}</h1>
      <div class="toolbar">
        <input
          type="search"
          aria-label={t('filter')}
          placeholder={t('filterHint')}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <ToneChips all={all} chosen={tones} choose={setTones} />
        {keys.length > 0 && (
          <label class="inline">
            <span>{t('groupBy')}</span>
            <select
              value={by}
              onChange={(event) => {
                setGroupBy(event.currentTarget.value);
                localStorage.setItem('piccolo.group', event.currentTarget.value);
              }}
            >
              <option value="">{t('groupNone')}</option>
              {keys.map((key) => (
                <option key={key} value={key}>
                  {clean(key)}
                </option>
              ))}
            </select>
          </label>
        )}
        <span class="count" role="status">
          {shown.size < all.length ? t('showing', { shown: shown.size, all: all.length }) : ''}
        </span>
      </div>
      <div class="stage">
        <Canvas all={all} shown={shown} groupBy={by} inspected={inspected} inspect={setInspected} />
        {node && <Inspector node={node} close={() => close(node.name)} />}
      </div>
    </div>
  );
}

const TONE_WORDS: [Tone, string][] = [
  ['ok', 'Ready'],
  ['warn', 'Ready (!)'],
  ['bad', 'NotReady'],
  ['wait', 'Pending'],
  ['care', 'Maintenance'],
  ['idle', 'Terminating'],
];

const TONE_HELP: Record<Tone, Key> = {
  ok: 's_Ready',
  warn: 'readyBut',
  bad: 's_NotReady',
  wait: 's_Pending',
  care: 's_Maintenance',
  idle: 's_Terminating',
};

/** How many there are of each, which is the legend too; a press shows only these. */
function ToneChips({ all, chosen, choose }: { all: Node[]; chosen: ReadonlySet<Tone>; choose: (tones: ReadonlySet<Tone>) => void }) {
  const counts = new Map<Tone, number>();
  for (const node of all) counts.set(toneOf(node), (counts.get(toneOf(node)) ?? 0) + 1);
  const toggle = (tone: Tone) => {
    const next = new Set(chosen);
    if (!next.delete(tone)) next.add(tone);
    choose(next);
  };
  return (
    <div class="chips" role="group" aria-label={t('status')}>
      {TONE_WORDS.filter(([tone]) => counts.has(tone) || chosen.has(tone)).map(([tone, word]) => (
        <button key={tone} type="button" class="chip" aria-pressed={chosen.has(tone)} title={t(TONE_HELP[tone])} onClick={() => toggle(tone)}>
          <Sign tone={tone} size={14} />
          <span>{word}</span>
          <b>{counts.get(tone) ?? 0}</b>
        </button>
      ))}
    </div>
  );
}

interface CanvasProps {
  all: Node[];
  shown: ReadonlySet<string>;
  groupBy: string;
  inspected: string | null;
  inspect: (id: string | null) => void;
}

function Canvas({ all, shown, groupBy, inspected, inspect }: CanvasProps) {
  const svg = useRef<SVGSVGElement>(null);
  const room = useRoom(svg);
  // rounded, so that a scroll bar does not lay everything out anew
  const aspect = Math.round(aspectOf(room) * 5) / 5 || 1.6;
  const parent = topology.value?.parent_cluster ?? null;
  const widest = Math.floor(widestIn(room, all.length) / 20) * 20 || undefined;
  const picture = useMemo(() => place(all, { aspect, widest, groupBy, parent }), [all, aspect, widest, groupBy, parent]);
  const view = useView(svg, picture, room);
  const name = status.value?.cluster_name ?? '';
  const links = [...picture.links].sort((a, b) => Number(a.node?.connected ?? 0) - Number(b.node?.connected ?? 0));
  const dimmed = (node: Node) => !shown.has(node.id);
  return (
    <div class="canvas">
      <svg
        ref={svg}
        class={`picture ${picture.detail}${line.value.state === 'lost' ? ' old' : ''}`}
        tabindex={0}
        role="group"
        aria-label={t('pictureOf', { name, nodes: all.length })}
        aria-describedby="picture-help"
        onKeyDown={view.onKey}
        onPointerDown={view.onDown}
        onPointerMove={view.onMove}
        onPointerUp={view.onUp}
        onPointerCancel={view.onUp}
        onClick={(event) => event.target === event.currentTarget && inspect(null)}
      >
        <g class={view.isMoving ? 'world moving' : 'world'} transform={`translate(${view.at.x} ${view.at.y}) scale(${view.at.k})`}>
          {groupBy !== '' &&
            picture.groups.map((group) => (
              <g key={group.name} class="group">
                <rect x={group.x} y={group.y} width={group.width} height={group.height} rx="14" />
              </g>
            ))}
          {picture.trunks.map((trunk) => (
            <path key={trunk.key} class="trunk" d={trunk.path} />
          ))}
          {links.map((link) => (
            <LinkLine key={link.key} link={link} isDim={link.node !== null && dimmed(link.node)} hasDots={picture.detail !== 'tile'} />
          ))}
          {groupBy !== '' &&
            picture.groups.map((group) => <GroupName key={group.name} box={group} name={group.name || t('unlabelled', { label: groupBy })} />)}
          {picture.parent && <ParentBox box={picture.parent} name={picture.parent.name} />}
          <MasterBox box={picture.master} />
          {[...picture.masters, ...picture.groups.flatMap((group) => group.nodes)].map((placed) => (
            <NodeBox
              key={placed.node.id}
              placed={placed}
              detail={picture.masters.includes(placed) ? 'card' : picture.detail}
              isDim={dimmed(placed.node)}
              isInspected={inspected === placed.node.id}
              inspect={inspect}
            />
          ))}
        </g>
      </svg>
      <p id="picture-help" class="visually-hidden">
        {t('pictureHelp')}
      </p>
      {isComplete.value && all.length === 0 && <p class="empty">{t('noNodes')}</p>}
      {all.length > 0 && shown.size === 0 && <p class="empty">{t('noMatch')}</p>}
      <div class="tools" role="group">
        <Tool label={t('zoomIn')} path="M8 3v10M3 8h10" act={() => view.zoom(1.3)} />
        <Tool label={t('zoomOut')} path="M3 8h10" act={() => view.zoom(1 / 1.3)} />
        <Tool label={t('zoomFit')} path="M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10" act={view.fit} />
        <button type="button" class="tool wide" aria-label={t('saveSvg')} title={t('saveSvg')} onClick={() => save(svg.current, picture, name, 'svg')}>
          SVG
        </button>
        <button type="button" class="tool wide" aria-label={t('savePng')} title={t('savePng')} onClick={() => save(svg.current, picture, name, 'png')}>
          PNG
        </button>
      </div>
    </div>
  );
}

function Tool({ label, path, act }: { label: string; path: string; act: () => void }) {
  return (
    <button type="button" class="tool" aria-label={label} title={label} onClick={act}>
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
        <path class="mark" d={path} />
      </svg>
    </button>
  );
}

function useRoom(svg: { current: SVGSVGElement | null }): Room {
  const [room, setRoom] = useState<Room>({ width: 0, height: 0 });
  useEffect(() => {
    if (!svg.current) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setRoom({ width: entry.contentRect.width, height: entry.contentRect.height });
    });
    observer.observe(svg.current);
    return () => observer.disconnect();
  }, []);
  return room;
}

/** Where the picture is looked at: all of it, until somebody moves or zooms. */
function useView(svg: { current: SVGSVGElement | null }, picture: Picture, room: Room) {
  const [own, setOwn] = useState<View | null>(null);
  const [isMoving, setMoving] = useState(false);
  const pointers = useRef(new Map<number, { x: number; y: number }>());
  const moved = useRef(0);
  const all = wholeView(picture, room);
  const at = own ?? all;
  const current = useRef(at);
  current.current = at;

  const zoomAt = (factor: number, px: number, py: number) => {
    const { x, y, k: before } = current.current;
    const after = Math.min(ZOOM_MAX, Math.max(ZOOM_MIN, before * factor));
    setOwn({ k: after, x: px - ((px - x) * after) / before, y: py - ((py - y) * after) / before });
  };
  const zoom = (factor: number) => zoomAt(factor, room.width / 2, room.height / 2);
  const move = (dx: number, dy: number) => setOwn({ ...current.current, x: current.current.x + dx, y: current.current.y + dy });
  const fitAll = () => setOwn(null);

  useEffect(() => {
    const element = svg.current;
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const box = (element as SVGSVGElement).getBoundingClientRect();
      zoomAt(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
    };
    element?.addEventListener('wheel', onWheel, { passive: false });
    return () => element?.removeEventListener('wheel', onWheel);
  }, []);

  const onDown = (event: PointerEvent) => {
    pointers.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
    moved.current = 0;
  };
  const onMove = (event: PointerEvent) => {
    const before = pointers.current.get(event.pointerId);
    if (!before) return;
    const next = { x: event.clientX, y: event.clientY };
    moved.current += Math.abs(next.x - before.x) + Math.abs(next.y - before.y);
    // a press that trembles is still a press
    if (moved.current < 6) return;
    if (!isMoving) {
      setMoving(true);
      svg.current?.setPointerCapture(event.pointerId);
    }
    const [a, b] = [...pointers.current.values()];
    if (a && b) {
      const other = before === a ? b : a;
      const factor = Math.hypot(next.x - other.x, next.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
      const box = (svg.current as SVGSVGElement).getBoundingClientRect();
      zoomAt(factor, (next.x + other.x) / 2 - box.left, (next.y + other.y) / 2 - box.top);
    } else {
      move(next.x - before.x, next.y - before.y);
    }
    pointers.current.set(event.pointerId, next);
  };
  const onUp = (event: PointerEvent) => {
    pointers.current.delete(event.pointerId);
    setMoving(false);
  };
  const onKey = (event: KeyboardEvent) => {
    const step = 60;
    const keys: Record<string, () => void> = {
      ArrowLeft: () => move(step, 0),
      ArrowRight: () => move(-step, 0),
      ArrowUp: () => move(0, step),
      ArrowDown: () => move(0, -step),
      '+': () => zoom(1.25),
      '=': () => zoom(1.25),
      '-': () => zoom(0.8),
      '0': fitAll,
    };
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  };
  return { at, isMoving, zoom, fit: fitAll, onDown, onMove, onUp, onKey };
}

/** Over the lines, which may run where it stands. */
function GroupName({ box, name }: { box: Box; name: string }) {
  return (
    <g class="group">
      <title>{clean(name)}</title>
      <text x={box.x + 18} y={box.y + 27}>
        {fitted(clean(name), box.width - 36, 14, 650)}
      </text>
    </g>
  );
}

function ParentBox({ box, name }: { box: Box; name: string }) {
  return (
    <g class="parent" transform={`translate(${box.x} ${box.y})`}>
      <title>{clean(name)}</title>
      <rect width={box.width} height={box.height} rx="22" />
      <text x={box.width / 2} y="19" text-anchor="middle" class="small">
        {t('parentCluster')}
      </text>
      <text x={box.width / 2} y="35" text-anchor="middle" class="strong">
        {fitted(clean(name), box.width - 32, 13, 650)}
      </text>
    </g>
  );
}

function MasterBox({ box }: { box: Box }) {
  const told = status.value;
  const isWell = told?.store_health === 'ok' && line.value.state !== 'lost';
  const lines = told ? [`${t('master')} ${told.master_address}`, `${told.master_version}, ${told.store_kind}`] : [];
  return (
    <g class={`hub ${isWell || !told ? '' : 'unwell'}`} transform={`translate(${box.x} ${box.y})`}>
      <title>{[told?.cluster_name ?? '', ...lines].map((text) => clean(text)).join('; ')}</title>
      <rect width={box.width} height={box.height} rx="16" />
      <g class="crown" transform="translate(20 22)">
        <rect width="40" height="40" rx="10" />
        <path d="M20 10v8M20 18H9v5M20 18h11v5M20 18v5" />
        <rect x="14" y="6" width="12" height="8" rx="2" />
        <circle cx="9" cy="28" r="3.5" />
        <circle cx="20" cy="28" r="3.5" />
        <circle cx="31" cy="28" r="3.5" />
      </g>
      <text x="74" y="33" class="title">
        {fitted(clean(told?.cluster_name ?? ''), box.width - 110, 17, 680)}
      </text>
      {lines.map((text, i) => (
        <text key={i} x="74" y={52 + i * 17} class="small">
          {fitted(clean(text), box.width - 90, 12)}
        </text>
      ))}
      {told && <Sign tone={isWell ? 'ok' : 'bad'} x={box.width - 32} y={16} />}
    </g>
  );
}

function LinkLine({ link, isDim, hasDots }: { link: Link; isDim: boolean; hasDots: boolean }) {
  const { node } = link;
  if (!node) return null;
  const rate = traffic(node.metrics);
  // thicker with what runs over the node's network: a step for each factor of thirty
  const width = 1.6 + (rate && rate > 1024 ? Math.min(3, Math.log(rate / 1024) / 3.4) : 0);
  const time = roundTrip(node);
  const told = [clean(node.name), time && `${t('roundTrip')} ${time}`, rate !== null && `${bytes(rate)}/s`].filter(Boolean).join('; ');
  const tone = toneOf(node);
  const state = `${node.connected ? '' : 'down '}${tone === 'wait' || tone === 'care' ? tone : ''}`;
  return (
    <g class={isDim ? 'dim' : ''}>
      <path class={`link ${state}`} d={link.path} stroke-width={width} />
      <path class="grip" d={link.path}>
        <title>{told}</title>
      </path>
      {hasDots && time && link.words && (
        <text class="small time" x={link.words[0]} y={link.words[1]}>
          {time}
        </text>
      )}
      {hasDots && node.connected && Date.now() - BORN > 3000 && (
        <circle key={node.revision} class="beat" r="3.2" style={{ offsetPath: `path("${link.route}")` }} />
      )}
    </g>
  );
}

interface NodeBoxProps {
  placed: PlacedNode;
  detail: Picture['detail'];
  isDim: boolean;
  isInspected: boolean;
  inspect: (id: string) => void;
}

function NodeBox({ placed, detail, isDim, isInspected, inspect }: NodeBoxProps) {
  const { node, x, y, width, height } = placed;
  const tone = toneOf(node);
  const changed = node.status_since ? Date.parse(node.status_since) : 0;
  const age = since(node.status_since);
  const isFresh = age !== null && age < 4000 && now.value - BORN > 4000;
  const name = clean(node.name);
  const running = node.containers.filter((container) => container.state === 'running').length;
  const firing = alertsOf.value.get(node.name) ?? 0;
  const time = roundTrip(node);
  const told = `${time ? `; ${t('roundTrip')} ${time}` : ''}${firing > 0 ? `; ${t('alertsFiring', { count: firing })}` : ''}`;
  const label = `${name}: ${statusWords(node)}; ${t('containersOf', { running, all: node.containers.length })}${told}`;
  const onKey = (event: KeyboardEvent) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    inspect(node.id);
  };
  return (
    <g
      class={`node ${tone}${isDim ? ' dim' : ''}${isInspected ? ' inspected' : ''}`}
      style={{ transform: `translate(${x}px,${y}px)` }}
      tabindex={isDim ? -1 : 0}
      role="button"
      aria-description={label}
      data-node={node.name}
      data-status={node.status}
      onClick={() => inspect(node.id)}
      onKeyDown={onKey}
    >
      <title>{[label, ...node.conditions.map(({ kind }) => kind)].join('; ')}</title>
      {isFresh && <rect key={changed} class="ring-once" x="-4" y="-4" width={width + 8} height={height + 8} rx={detail === 'tile' ? 10 : 14} />}
      <rect class="card" width={width} height={height} rx={detail === 'tile' ? 8 : 12} />
      {detail === 'card' && <CardInside node={node} tone={tone} width={width} age={age} />}
      {detail === 'compact' && <CompactInside node={node} tone={tone} width={width} />}
      {detail === 'tile' && (
        <>
          <Sign tone={tone} x={8} y={10.5} size={15} />
          <text x="28" y="23" class="strong tiny">
            {fitted(name, width - 34, 14, 550)}
          </text>
        </>
      )}
      {firing > 0 && (
        <g class="alarm" transform={`translate(${width - 16} -9)`}>
          <rect width="24" height="18" rx="9" />
          <text x="12" y="13" text-anchor="middle">
            {firing}
          </text>
        </g>
      )}
    </g>
  );
}

function CardInside({ node, tone, width, age }: { node: Node; tone: Tone; width: number; age: number | null }) {
  const why = node.conditions[0]?.kind;
  const line = age === null ? node.status : `${node.status} · ${t('forAge', { age: span(age) })}`;
  const findings = [node.system_check, node.hardware].flatMap((check) => check?.findings ?? []);
  const sick = findings.filter(({ level }) => level !== 'ok').length + node.containers.filter((one) => containerTone(one) === 'bad').length;
  return (
    <>
      <Sign tone={tone} x={14} y={15} size={18} />
      <text x="42" y="28" class="strong">
        {fitted(clean(node.name), width - (sick ? 92 : 56), 14.5, 650)}
      </text>
      {sick > 0 && (
        <g class="badge" transform={`translate(${width - 46} 14)`}>
          <rect width="32" height="18" rx="9" />
          <text x="16" y="13" text-anchor="middle">
            !{sick}
          </text>
        </g>
      )}
      <text x="42" y="45" class="state">
        {fitted(why ? `${node.status}: ${why}` : line, width - 54, 12, 550)}
      </text>
      <text x="42" y="61" class="small">
        {fitted(clean(node.ip), width - 54, 12)}
      </text>
      <Containers node={node} width={width} />
    </>
  );
}

/** Up to four by name; more of them as a number. */
function Containers({ node, width }: { node: Node; width: number }) {
  const worstFirst = [...node.containers].sort((a, b) => Number(containerTone(a) === 'ok') - Number(containerTone(b) === 'ok') || a.name.localeCompare(b.name));
  const shown = worstFirst.slice(0, worstFirst.length > 4 ? 3 : 4);
  const half = (width - 36) / 2;
  return (
    <g class="containers" transform="translate(14 71)">
      {shown.map((container, i) => (
        <g key={container.id} class={`container ${containerTone(container)}`} transform={`translate(${(i % 2) * (half + 8)} ${Math.floor(i / 2) * 19})`}>
          <title>{`${clean(container.name)}: ${clean(container.state)}`}</title>
          <rect class="pill" width={half} height="16" rx="5" />
          <ContainerSign container={container} />
          <text x="18" y="12">
            {fitted(clean(container.name), half - 22, 11)}
          </text>
        </g>
      ))}
      {worstFirst.length > 4 && (
        <text class="small" x={half + 14} y="31">
          {t('more', { count: worstFirst.length - 3 })}
        </text>
      )}
    </g>
  );
}

function ContainerSign({ container }: { container: Node['containers'][number] }) {
  const tone = containerTone(container);
  if (tone === 'bad') return <path class="dot mark" d="M6 5l6 6M12 5l-6 6" />;
  return <rect class={tone === 'ok' ? 'dot' : 'dot hollow'} x="6" y="5" width="6" height="6" rx="1.5" />;
}

function CompactInside({ node, tone, width }: { node: Node; tone: Tone; width: number }) {
  const room = Math.floor((width - 40) / 11);
  return (
    <>
      <Sign tone={tone} x={11} y={12} size={16} />
      <text x="35" y="24.5" class="strong">
        {fitted(clean(node.name), width - 46, 13, 650)}
      </text>
      {node.containers.length === 0 && (
        <text x="35" y="44" class="small">
          {fitted(clean(node.ip), width - 46, 12)}
        </text>
      )}
      <g class="containers" transform="translate(30 31)">
        {node.containers.slice(0, room).map((container, i) => (
          <g key={container.id} class={`container ${containerTone(container)}`} transform={`translate(${i * 11} 0)`}>
            <title>{`${clean(container.name)}: ${clean(container.state)}`}</title>
            <ContainerSign container={container} />
          </g>
        ))}
      </g>
    </>
  );
}
