// Where everything of the topology picture stands: a pure function of the nodes and of the room there is.
//
// Tiers from above: the parent cluster, the master with the boards that carry it, and below them the nodes, in groups by
// a label (a site, a board). Few nodes get cards with their containers' names, more get smaller ones, and a
// crowd gets tiles, so that 2 and 200 can both be read. Lines run in the gaps between cards and never below one.

import type { Node } from './api';

export type Detail = 'card' | 'compact' | 'tile';

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface PlacedNode extends Box {
  node: Node;
}

export interface PlacedGroup extends Box {
  name: string;
  nodes: PlacedNode[];
}

export interface Link {
  /** The node it ends at; of a trunk that several share, nothing. */
  node: Node | null;
  key: string;
  path: string;
  /** All the way from the master, for what runs along it. */
  route: string;
  /** Where there is room for a few words on it. */
  words?: Point;
}

export interface Picture {
  detail: Detail;
  width: number;
  height: number;
  parent: (Box & { name: string }) | null;
  master: Box;
  masters: PlacedNode[];
  groups: PlacedGroup[];
  trunks: Link[];
  links: Link[];
}

export interface Wish {
  /** Width over height of the room there is. */
  aspect: number;
  /** Where there is a way, it is no wider. */
  widest?: number;
  /** The key of the label that groups, or nothing. */
  groupBy: string;
  parent: string | null;
}

export const SIZES: Record<Detail, { width: number; height: number; gapX: number; gapY: number }> = {
  card: { width: 240, height: 116, gapX: 32, gapY: 44 },
  compact: { width: 156, height: 60, gapX: 26, gapY: 36 },
  tile: { width: 112, height: 36, gapX: 12, gapY: 24 },
};

/** What the picture is seen in, in pixels of the screen. */
export interface Room {
  width: number;
  height: number;
}

/** How the picture is seen: moved by `x` and `y`, larger by `k`. */
export interface View {
  x: number;
  y: number;
  k: number;
}

export const ZOOM_MIN = 0.1;
const MARGIN = 28;
const ZOOM_WHOLE_MAX = 1.25;
/** What the buttons over the picture take: a column on its right, on a phone a row below it. */
const TOOLS = 56;
const PHONE_WIDTH = 800;
/** With less, names could not be read; a phone is held as near as it needs, and its picture moved by a finger. */
const READABLE = 0.55;
const READABLE_TILE = 0.48;

const MASTER = { width: 264, height: 84 };
const PARENT = { width: 200, height: 44 };
const TIER_GAP = 64;
const GROUP_PAD = 20;
const GROUP_TITLE = 26;
const GROUP_GAP = 40;
/** How far above a row of nodes the rail runs that feeds it. */
const RAIL = 18;
const CORNER = 10;

type Point = [number, number];

export function detailFor(count: number): Detail {
  return count <= 24 ? 'card' : count <= 72 ? 'compact' : 'tile';
}

export function place(nodes: Node[], wish: Wish): Picture {
  const sorted = [...nodes].sort((a, b) => compare(a.name, b.name) || compare(a.id, b.id));
  const detail = detailFor(sorted.length);
  const subs = sorted.filter((node) => node.role !== 'master');
  const grouped = groupsOf(subs, wish.groupBy);
  const above = (wish.parent ? PARENT.height + TIER_GAP : 0) + MASTER.height + TIER_GAP;
  const shape = bestShape(grouped, detail, wish, above);
  const masters = mastersRow(sorted.filter((node) => node.role === 'master'));
  const width = Math.max(shape.width, masters.width);

  const masterTop = wish.parent ? PARENT.height + TIER_GAP : 0;
  const row = (width - masters.width) / 2;
  const master = { x: row + masters.masterX, y: masterTop, ...MASTER };
  const groups = shape.groups.map((group) => moved(group, (width - shape.width) / 2, above));
  const picture: Picture = {
    detail,
    width,
    height: groups.length > 0 ? above + shape.height : above - TIER_GAP,
    parent: wish.parent ? { name: wish.parent, x: middle(master) - PARENT.width / 2, y: 0, ...PARENT } : null,
    master,
    masters: masters.nodes.map(({ node, x }) => ({ node, x: x + row, y: masterTop - 16, ...SIZES.card })),
    groups,
    trunks: [],
    links: [],
  };
  connect(picture, shape.shelves.length > 1);
  return picture;
}

/** The part of the room where the picture has no button over it, without a margin. */
function freeOf({ width, height }: Room): Room {
  const isPhone = width <= PHONE_WIDTH;
  return { width: width - 2 * MARGIN - (isPhone ? 0 : TOOLS - MARGIN / 2), height: height - 2 * MARGIN - (isPhone ? TOOLS - MARGIN / 2 : 0) };
}

function readableIn({ width }: Room, detail: Detail): number {
  return detail === 'tile' && width > PHONE_WIDTH ? READABLE_TILE : READABLE;
}

/** No picture is wider whose names can be read in the room. */
export function widestIn(room: Room, count: number): number {
  return Math.max(0, freeOf(room).width) / readableIn(room, detailFor(count));
}

export function aspectOf(room: Room): number {
  const free = freeOf(room);
  return free.width / Math.max(1, free.height);
}

/** All of the picture; where that could not be read, the top of it, as wide as the room. */
export function wholeView({ width, height, detail }: Pick<Picture, 'width' | 'height' | 'detail'>, room: Room): View {
  const free = freeOf(room);
  const whole = Math.min(free.width / width, free.height / height, ZOOM_WHOLE_MAX);
  const readable = Math.min(free.width / width, readableIn(room, detail));
  const k = Math.max(ZOOM_MIN, whole || ZOOM_MIN, readable || ZOOM_MIN);
  return {
    k,
    // in the middle of the room, or else beside the buttons
    x: Math.min((room.width - width * k) / 2, MARGIN + free.width - width * k),
    y: Math.max(MARGIN, (room.height - height * k) / 2.4),
  };
}

function compare(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

function middle(box: Box): number {
  return box.x + box.width / 2;
}

function moved(group: PlacedGroup, dx: number, dy: number): PlacedGroup {
  const move = <B extends Box>(box: B): B => ({ ...box, x: box.x + dx, y: box.y + dy });
  return { ...move(group), nodes: group.nodes.map(move) };
}

interface Grouped {
  name: string;
  nodes: Node[];
}

function groupsOf(nodes: Node[], key: string): Grouped[] {
  const groups = new Map<string, Node[]>();
  for (const node of nodes) {
    const name = key ? (node.labels[key] ?? '') : '';
    groups.set(name, [...(groups.get(name) ?? []), node]);
  }
  const named = [...groups].map(([name, members]) => ({ name, nodes: members }));
  // those without the label come last
  return named.sort((a, b) => Number(a.name === '') - Number(b.name === '') || compare(a.name, b.name));
}

/** The master in the middle, the boards that carry it to its right and left. */
function mastersRow(nodes: Node[]): { width: number; masterX: number; nodes: { node: Node; x: number }[] } {
  const step = SIZES.card.width + 48;
  const left = Math.floor(nodes.length / 2);
  const masterX = left * step;
  return {
    width: MASTER.width + nodes.length * step,
    masterX,
    nodes: nodes.map((node, i) => ({ node, x: i < left ? i * step : masterX + MASTER.width + 48 + (i - left) * step })),
  };
}

interface Shape {
  groups: PlacedGroup[];
  shelves: PlacedGroup[][];
  width: number;
  height: number;
}

/** Of all widths that make sense, the one whose picture fills the room best: of those that can be read there, if any can. */
function bestShape(grouped: Grouped[], detail: Detail, { aspect, widest = Infinity }: Wish, above: number): Shape {
  const most = Math.max(1, ...grouped.map((group) => group.nodes.length));
  let best: Shape | null = null;
  let bestScale = 0;
  for (const columns of columnsFor(most)) {
    for (let across = 1; across <= Math.min(grouped.length, 8) || across === 1; across++) {
      const shape = shelves(grouped, detail, columns, across);
      const width = Math.max(shape.width, MASTER.width);
      // beyond that, the narrower the better
      const scale = width > widest ? -width : Math.min(aspect / width, 1 / (shape.height + above));
      if (!best || scale > bestScale + Math.abs(bestScale) * 0.001) [best, bestScale] = [shape, scale];
    }
  }
  return best as Shape;
}

/** Even, so that the line which feeds several rows runs down the middle; or all in one row. */
function columnsFor(most: number): number[] {
  const even = [2, 4, 6, 8, 10, 12, 16, 20, 24].filter((columns) => columns < most);
  return [1, ...even, Math.min(most, 24)].filter((columns) => columns === most || columns === 1 || columns % 2 === 0);
}

/** Groups side by side, `across` on each shelf. */
function shelves(grouped: Grouped[], detail: Detail, columns: number, across: number): Shape {
  const rows: PlacedGroup[][] = [];
  // with several shelves a line runs down their left side
  const left = grouped.length > across ? GROUP_GAP : 0;
  let y = 0;
  for (let first = 0; first < grouped.length; first += across) {
    let x = left;
    const shelf = grouped.slice(first, first + across).map((group) => {
      const placed = moved(grid(group, detail, columns), x, y);
      x += placed.width + GROUP_GAP;
      return placed;
    });
    rows.push(shelf);
    y += Math.max(...shelf.map((group) => group.height)) + GROUP_GAP;
  }
  const width = Math.max(0, ...rows.flat().map((group) => group.x + group.width));
  for (const shelf of left ? [] : rows) {
    const last = shelf[shelf.length - 1] as PlacedGroup;
    const shift = (width - last.x - last.width) / 2;
    shelf.splice(0, shelf.length, ...shelf.map((group) => moved(group, shift, 0)));
  }
  return { groups: rows.flat(), shelves: rows, width, height: Math.max(0, y - GROUP_GAP) };
}

function grid(group: Grouped, detail: Detail, wanted: number): PlacedGroup {
  const size = SIZES[detail];
  const title = group.name ? GROUP_TITLE : 0;
  const count = group.nodes.length;
  const columns = Math.min(count, wanted);
  const top = GROUP_PAD + title + RAIL;
  const left = GROUP_PAD + (isSpineLeft(columns, count) ? GROUP_PAD : 0);
  // what is left for the last row stands in its middle
  const indent = Math.floor((columns - (count % columns || columns)) / 2);
  const column = (i: number) => (i % columns) + (i >= count - (count % columns) ? indent : 0);
  const nodes = group.nodes.map((node, i) => ({
    node,
    x: left + column(i) * (size.width + size.gapX),
    y: top + Math.floor(i / columns) * (size.height + size.gapY),
    width: size.width,
    height: size.height,
  }));
  const rows = Math.ceil(count / columns);
  return {
    name: group.name,
    nodes,
    x: 0,
    y: 0,
    width: left + columns * (size.width + size.gapX) - size.gapX + GROUP_PAD,
    height: top + rows * (size.height + size.gapY) - size.gapY + GROUP_PAD,
  };
}

/** A single column has the line that feeds it on its left. */
function isSpineLeft(columns: number, count: number): boolean {
  return columns === 1 && count > 1;
}

function connect(picture: Picture, manyShelves: boolean): void {
  const { master, parent, masters, groups } = picture;
  const from: Point = [middle(master), master.y + master.height];
  const trunk = (key: string, path: string) => picture.trunks.push({ node: null, key, path, route: path });
  if (parent) trunk('parent', rounded([[middle(parent), parent.y + parent.height], [middle(parent), master.y]]));
  for (const placed of masters) {
    const y = master.y + master.height / 2;
    const isLeft = placed.x < master.x;
    const [a, b] = isLeft ? [master.x, placed.x + placed.width] : [master.x + master.width, placed.x];
    const path = rounded([[a, y], [b, y]]);
    picture.links.push({ node: placed.node, key: placed.node.id, path, route: path });
  }
  for (const group of groups) {
    const rows = new Map<number, PlacedNode[]>();
    for (const placed of group.nodes) rows.set(placed.y, [...(rows.get(placed.y) ?? []), placed]);
    if (rows.size === 1 && !manyShelves) {
      // one row: each node has a line of its own
      for (const placed of group.nodes) {
        const path = curve(from, [middle(placed), placed.y]);
        picture.links.push({ node: placed.node, key: placed.node.id, path, route: path, words: wordsAt(placed) });
      }
      continue;
    }
    const spine = spineOf(group, rows, picture.detail);
    const down = toGroup(from, group, spine, manyShelves);
    trunk(`to ${group.name}`, down);
    trunk(`in ${group.name}`, rounded([[spine, group.y], [spine, Math.max(...rows.keys()) - RAIL]]));
    for (const [y, row] of rows) {
      const rail = y - RAIL;
      const ends = row.map((placed) => middle(placed) + Math.sign(spine - middle(placed)) * CORNER);
      trunk(`${group.name} at ${y}`, rounded([[Math.min(spine, ...ends), rail], [Math.max(spine, ...ends), rail]]));
      for (const placed of row) {
        const [x, side] = [middle(placed), Math.sign(spine - middle(placed))];
        const path = rounded([[x + side * CORNER, rail], [x, rail], [x, y]]);
        const rest: Point[] = [[spine, group.y], [spine, rail], [x, rail], [x, y]];
        picture.links.push({ node: placed.node, key: placed.node.id, path, route: `${down}${rounded(rest).replace('M', 'L')}`, words: wordsAt(placed) });
      }
    }
  }
}

function wordsAt(placed: PlacedNode): Point {
  return [middle(placed) + 6, placed.y - 4];
}

/** Where the line runs that feeds all rows of a group: between its two middle columns, or left of a single one. */
function spineOf(group: PlacedGroup, rows: ReadonlyMap<number, PlacedNode[]>, detail: Detail): number {
  const first = group.nodes[0] as PlacedNode;
  const columns = rows.get(first.y)?.length ?? 1;
  const { width, gapX } = SIZES[detail];
  if (columns === 1) return rows.size === 1 ? middle(first) : first.x - GROUP_PAD;
  return first.x + Math.ceil(columns / 2) * (width + gapX) - gapX / 2;
}

function toGroup(from: Point, group: PlacedGroup, spine: number, manyShelves: boolean): string {
  if (!manyShelves) return curve(from, [spine, group.y]);
  const rail = group.y - GROUP_GAP / 2;
  const side = GROUP_GAP / 2;
  const turn = from[1] + TIER_GAP / 2;
  if (rail <= turn + GROUP_GAP) return rounded([from, [from[0], turn], [spine, turn], [spine, group.y]]);
  return rounded([from, [from[0], turn], [side, turn], [side, rail], [spine, rail], [spine, group.y]]);
}

function curve([ax, ay]: Point, [bx, by]: Point): string {
  const bend = (by - ay) / 2;
  return `M${n(ax)} ${n(ay)}C${n(ax)} ${n(ay + bend)} ${n(bx)} ${n(by - bend)} ${n(bx)} ${n(by)}`;
}

/** A line along the points, its corners rounded. */
function rounded(points: Point[]): string {
  const kept = points.filter(([x, y], i) => i === 0 || x !== points[i - 1]?.[0] || y !== points[i - 1]?.[1]);
  const [start, ...others] = kept as [Point, ...Point[]];
  let path = `M${n(start[0])} ${n(start[1])}`;
  let before = start;
  others.forEach((point, i) => {
    const next = others[i + 1];
    if (next) {
      const r = Math.min(CORNER, distance(before, point) / 2, distance(point, next) / 2);
      const a = toward(point, before, r);
      const b = toward(point, next, r);
      path += `L${n(a[0])} ${n(a[1])}Q${n(point[0])} ${n(point[1])} ${n(b[0])} ${n(b[1])}`;
    } else {
      path += `L${n(point[0])} ${n(point[1])}`;
    }
    before = point;
  });
  return path;
}

function distance(a: Point, b: Point): number {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}

function toward(from: Point, to: Point, by: number): Point {
  const all = distance(from, to) || 1;
  return [from[0] + ((to[0] - from[0]) * by) / all, from[1] + ((to[1] - from[1]) * by) / all];
}

function n(value: number): number {
  return Math.round(value * 10) / 10;
}
