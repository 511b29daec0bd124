import { describe, expect, test } from 'vitest';
import type { Node } from './api';
import { aspectOf, place, wholeView, widestIn } from './layout';
import type { Box, Picture } from './layout';

function node(name: string, extra: Partial<Node> = {}): Node {
  return { id: `id-of-${name}`, name, role: 'sub', status: 'Ready', labels: {}, containers: [], conditions: [], ...extra } as unknown as Node;
}

const crowd = (count: number, extra: (i: number) => Partial<Node> = () => ({})) =>
  Array.from({ length: count }, (_, i) => node(`node-${i + 1}`, extra(i)));

const inSites = (count: number, sites: number) => crowd(count, (i) => ({ labels: { site: `site-${i % sites}` } }));

const placed = (picture: Picture) => [...picture.masters, ...picture.groups.flatMap((group) => group.nodes)];

function overlap(a: Box, b: Box): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

/** Points along a path of M, L, Q and C. */
function points(path: string): [number, number][] {
  const numbers = path.match(/-?[\d.]+/g)?.map(Number) ?? [];
  return numbers.flatMap((x, i) => (i % 2 === 0 ? [[x, numbers[i + 1] as number] as [number, number]] : []));
}

const WISH = { aspect: 1.6, groupBy: '', parent: null };

const SHAPES: [string, Node[], string][] = [
  ['no node', [], ''],
  ['one node', crowd(1), ''],
  ['2 nodes', crowd(2), ''],
  ['9 nodes', crowd(9), ''],
  ['10 nodes at 3 sites', inSites(10, 3), 'site'],
  ['a master and 3 subs', [node('hpc', { role: 'master' }), ...crowd(3)], ''],
  ['3 masters and 7 subs', [...crowd(3, () => ({ role: 'master' })), ...crowd(10).slice(3)], ''],
  ['40 nodes', crowd(40), ''],
  ['200 nodes', crowd(200), ''],
  ['200 nodes at 6 sites', inSites(200, 6), 'site'],
  ['200 nodes at 50 sites', inSites(200, 50), 'site'],
];

describe.each(SHAPES)('the picture of %s', (_, nodes, groupBy) => {
  describe.each([0.5, 1, 1.6, 2.4])('in a room of aspect %d', (aspect) => {
    const picture = place(nodes, { aspect, groupBy, parent: 'cloud' });

    test('has every node once, and a line to it', () => {
      const names = (of: { node: Node | null }[]) => of.map(({ node }) => node?.name).sort();
      expect(names(placed(picture))).toEqual(names(nodes.map((node) => ({ node }))));
      expect(names(picture.links)).toEqual(names(nodes.map((node) => ({ node }))));
    });

    test('lays nothing over anything else', () => {
      const boxes: Box[] = [picture.master, ...(picture.parent ? [picture.parent] : []), ...placed(picture)];
      for (const [i, a] of boxes.entries()) for (const b of boxes.slice(i + 1)) expect(overlap(a, b), JSON.stringify([a, b])).toBe(false);
      for (const [i, a] of picture.groups.entries()) for (const b of picture.groups.slice(i + 1)) expect(overlap(a, b)).toBe(false);
    });

    test('keeps nodes within their group and everything within its size', () => {
      const within = (inner: Box, outer: Box) =>
        inner.x >= outer.x && inner.y >= outer.y && inner.x + inner.width <= outer.x + outer.width + 0.01 && inner.y + inner.height <= outer.y + outer.height + 0.01;
      const whole = { x: 0, y: 0, width: picture.width, height: picture.height };
      for (const group of picture.groups) {
        expect(within(group, whole)).toBe(true);
        for (const one of group.nodes) expect(within(one, group)).toBe(true);
      }
      for (const one of picture.masters) expect(within(one, { ...whole, height: whole.height + 16 })).toBe(true);
    });

    test('runs no line below a node', () => {
      const boxes = placed(picture);
      for (const link of [...picture.trunks, ...picture.links]) {
        const own = link.node?.id;
        for (const [x, y] of points(link.path)) {
          const hit = boxes.find((box) => box.node.id !== own && x > box.x && x < box.x + box.width && y > box.y && y < box.y + box.height);
          expect(hit?.node.name, link.path).toBeUndefined();
        }
      }
    });

    test('ends each line at its node', () => {
      for (const link of picture.links) {
        const box = placed(picture).find((one) => one.node.id === link.node?.id) as Box;
        const [x, y] = points(link.path).at(-1) as [number, number];
        expect(x >= box.x - 0.1 && x <= box.x + box.width + 0.1 && y >= box.y - 0.1 && y <= box.y + box.height + 0.1).toBe(true);
        expect(points(link.route).at(-1)).toEqual([x, y]);
      }
    });
  });
});

test('the same nodes in another order give the same picture', () => {
  const nodes = inSites(30, 4);
  expect(place([...nodes].reverse(), { ...WISH, groupBy: 'site' })).toEqual(place(nodes, { ...WISH, groupBy: 'site' }));
});

test('a status that changes moves nothing', () => {
  const before = crowd(12);
  const after = before.map((one, i) => (i === 3 ? { ...one, status: 'NotReady' as const } : one));
  const boxes = (picture: Picture) => placed(picture).map(({ x, y }) => [x, y]);
  expect(boxes(place(after, WISH))).toEqual(boxes(place(before, WISH)));
});

test('numbers in names count: node-2 comes before node-10', () => {
  const names = place(crowd(10), WISH).groups[0]?.nodes.map(({ node }) => node.name);
  expect(names?.slice(0, 2)).toEqual(['node-1', 'node-2']);
});

test('nodes without the label that groups come last', () => {
  const nodes = [...inSites(2, 2), node('adrift')];
  expect(place(nodes, { ...WISH, groupBy: 'site' }).groups.map(({ name }) => name)).toEqual(['site-0', 'site-1', '']);
});

test.each([
  [10, 'card'],
  [60, 'compact'],
  [200, 'tile'],
])('%d nodes are drawn as %s', (count, detail) => {
  expect(place(crowd(count), WISH).detail).toBe(detail);
});

describe.each([[1360, 700], [1440, 800], [1920, 950]])('two hundred nodes in a room of %d by %d', (width, height) => {
  const room = { width, height };
  const picture = place(inSites(200, 6), { aspect: aspectOf(room), widest: widestIn(room, 200), groupBy: 'site', parent: null });
  const { x, y, k } = wholeView(picture, room);

  test('are all seen, with no button over them', () => {
    for (const box of placed(picture)) {
      expect(x + box.x * k).toBeGreaterThan(0);
      // the buttons begin there
      expect(x + (box.x + box.width) * k).toBeLessThan(width - 54);
      expect(y + (box.y + box.height) * k).toBeLessThan(height);
    }
  });

  test('have names that can be read', () => {
    // they are 14 px in the picture
    expect(14 * k).toBeGreaterThan(7);
  });
});

test.each([12, 60, 200])('on a phone the names of %d nodes can be read too, and all of its width is seen', (count) => {
  const room = { width: 375, height: 600 };
  const picture = place(inSites(count, 6), { aspect: aspectOf(room), widest: widestIn(room, count), groupBy: 'site', parent: null });
  const { x, k } = wholeView(picture, room);
  // the smallest of them are 13 px in the picture
  expect(13 * k).toBeGreaterThan(7);
  for (const box of placed(picture)) {
    expect(x + box.x * k).toBeGreaterThan(0);
    expect(x + (box.x + box.width) * k).toBeLessThan(375);
  }
});

test('a picture that has room stands in the middle', () => {
  const picture = place(crowd(2), WISH);
  const { x, k } = wholeView(picture, { width: 1360, height: 700 });
  expect(x + (picture.width * k) / 2).toBeCloseTo(680);
});
