import { describe, expect, test } from 'vitest';
import type { Alert, AlertRule, ClusterEvent, Container, Node, NodeChange } from './api';
import { KnownAlerts, firingByNode, isAbout, isMatched, scopeOf, stateOf } from './alert';
import { joinCommand, nameCommand } from './command';
import { contextFile, integer, makeUserKey } from './csr';
import { bytes, clean, containerTone, fit, roughWidth, roundTrip, span, spanOf, toneOf, traffic, withoutColours } from './format';
import { en, ko, language, t } from './i18n';
import { channelOf, placeOf, ruleOf, ruleValues } from './forms';
import { KnownNodes } from './known';
import { logQuery } from './logquery';
import type { LogWish } from './logquery';
import { matches } from './match';
import { movedDown, rowsInSight } from './rows';
import { linesOf } from './series';
import { SseParser } from './sse';
import { axisTime, neighbours, parseMoment } from './when';

const placeholders = (text: string) => (text.match(/\{\w+\}/g) ?? []).sort();

test('English and Korean have the same keys', () => {
  expect(Object.keys(ko).sort()).toEqual(Object.keys(en).sort());
});

test.each(Object.keys(en) as (keyof typeof en)[])('%s says the same in Korean', (key) => {
  expect(ko[key].trim()).not.toBe('');
  expect(placeholders(ko[key])).toEqual(placeholders(en[key]));
});

test('words take their values, in the language that is chosen', () => {
  expect(t('showing', { shown: 3, all: 9 })).toBe('3 of 9');
  language.value = 'ko';
  expect(t('showing', { shown: 3, all: 9 })).toBe('9개 중 3개');
  language.value = 'en';
});

test('a board is told where the master listens, and which name its token wants', () => {
  expect(joinCommand('192.0.2.10:38098')).toBe('./install.sh --role sub --master 192.0.2.10:38098 --token-file -');
  expect(joinCommand('[2001:db8::1]:47001')).toBe('./install.sh --role sub --master [2001:db8::1]:47001 --token-file -');
  expect(nameCommand('board-4')).toBe('hostnamectl set-hostname board-4');
});

test.each([
  [0, '0s'],
  [45_000, '45s'],
  [330_000, '5m30s'],
  [60 * 60_000, '1h'],
  [11_520_000, '3h12m'],
  [187_200_000, '2d4h'],
  [89.9 * 86_400_000, '89d'],
  [7299 * 86_400_000, '19y364d'],
  [-5, '0s'],
])('%d ms are %s', (milliseconds, text) => expect(span(milliseconds)).toBe(text));

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1536, '1.5 KiB'],
  [50_331_648, '48.0 MiB'],
])('%d bytes are %s', (count, text) => expect(bytes(count)).toBe(text));

test('below a chart stands the time, and of many days the day', () => {
  const at = Date.parse('2030-01-31T12:05:10Z');
  expect([axisTime(at, 3600), axisTime(at, 86_400), axisTime(at, 2_592_000)]).toEqual(['12:05 UTC', '12:05 UTC', '01-31 12:05']);
});

test('lengths of time that the master writes are read as people write them, and one thing is one', () => {
  expect(['300s', '90s', '5m'].map(spanOf)).toEqual(['5m', '1m30s', '5m']);
  expect([t('hours', { count: 1 }), t('hours', { count: 2 }), t('tookMs', { count: 1 })]).toEqual(['1 hour', '2 hours', '1 ms']);
});

test('colours of a log are left out, and nothing else', () => {
  expect(withoutColours('\u001b[1;31mred\u001b[0m \u001b[2J')).toBe('red \u001b[2J');
});

test('what a node is called cannot do anything', () => {
  expect(clean('evil\u001b[2Jname\u202e')).toBe('evil\\u{1b}[2Jname\\u{202e}');
});

test('a text that is too long ends in dots, and a Korean one sooner', () => {
  const rough = (text: string) => fit(text, 60, (part) => roughWidth(part, 12));
  expect(rough('short')).toBe('short');
  expect(rough('a-very-long-name-of-a-node')).toMatch(/^a-ver.*…$/);
  expect(rough('가나다라마바사아').length).toBeLessThan(rough('abcdefgh'.repeat(2)).length);
});

test.each([
  ['abcdef', 6, 'abcdef'],
  ['abcdef', 5, 'abcd…'],
  ['abcdef', 2, 'a…'],
  ['abcdef', 0, 'a…'],
  ['', 0, ''],
])('%s in %d letters is %s', (text, width, shown) => {
  expect(fit(text, width, (part) => [...part].length)).toBe(shown);
});

describe('alerts', () => {
  const about = (...names: string[]) => names.map((name) => ({ name, since: null, cleared_at: null }));
  const alert = (id: string, extra: Partial<Alert> = {}): Alert => ({
    id, rule: 'NodeNotReady', severity: 'critical', state: 'firing', message: 'node b1 is NotReady', labels: { site: 'north' }, group: null, subjects: about('b1'),
    since: null, fired_at: null, acknowledged_by: null, acknowledged_at: null, comment: null, escalated_at: null, resolved_at: null, resolved_why: null,
    silenced_by: null, ...extra,
  });

  test.each([
    [{}, 'firing'],
    [{ silenced_by: '1-1' }, 'silenced'],
    [{ state: 'acknowledged', silenced_by: '1-1' }, 'acknowledged'],
    [{ state: 'resolved', silenced_by: '1-1' }, 'resolved'],
  ])('%o is %s', (extra, state) => expect(stateOf(alert('1', extra))).toBe(state));

  test.each([
    [{}, 'rule=NodeNotReady,node=b1'],
    [{ subjects: about('b1/web') }, 'rule=NodeNotReady,node=b1,container=web'],
    [{ subjects: about('cluster') }, 'rule=NodeNotReady'],
    [{ subjects: about('b1', 'b2'), group: 'north' }, 'rule=NodeNotReady,group=north'],
  ])('a silence of %o is of %s', (extra, scope) => expect(scopeOf(alert('1', extra))).toBe(scope));

  test('all words of a filter are found, wherever they are', () => {
    expect(isMatched(alert('1'), 'north  notready B1')).toBe(true);
    expect(isMatched(alert('1'), 'north b2')).toBe(false);
  });

  test('a node is marked for what fires about it and its containers, once for each', () => {
    const cleared = { name: 'b2', since: null, cleared_at: '2030-01-01T00:00:00Z' };
    const all = [alert('1', { subjects: [...about('b1', 'b1/web'), cleared] }), alert('2'), alert('3', { state: 'acknowledged' })];
    expect([...firingByNode(all)]).toEqual([['b1', 2]]);
  });

  test('an alert is about a node as long as it, or a container on it, is among what it is about', () => {
    const subject = (name: string, cleared_at: string | null = null) => ({ name, since: null, cleared_at });
    const one = alert('1', { subjects: [subject('b1/web'), subject('b2', '2030-01-31T12:00:00Z'), subject('b3')] });
    expect(['b1', 'b2', 'b3', 'b'].filter((name) => isAbout(one, name))).toEqual(['b1', 'b3']);
  });

  test('what a new connection tells takes the place of what was known in one step', () => {
    const known = new KnownAlerts();
    known.apply([{ type: 'changed', alert: alert('1') }]);
    expect([known.isWhole, known.alerts.size]).toEqual([false, 0]);
    known.apply([{ type: 'told' }, { type: 'changed', alert: alert('2') }, { type: 'forgotten', id: '1' }]);
    expect([...known.alerts.keys()]).toEqual(['2']);
    known.begin();
    known.apply([{ type: 'changed', alert: alert('3') }]);
    expect([...known.alerts.keys()]).toEqual(['2']);
    known.apply([{ type: 'told' }]);
    expect([...known.alerts.keys()]).toEqual(['3']);
  });
});

describe('what a node looks like', () => {
  const condition = { kind: 'Suspect', reason: '', message: '', since: null };
  test.each([
    ['Ready', [], 'ok'],
    ['Ready', [condition], 'warn'],
    ['NotReady', [condition], 'bad'],
    ['Pending', [condition], 'wait'],
    ['Maintenance', [], 'care'],
    ['Terminating', [], 'idle'],
  ] as const)('%s with %j is %s', (status, conditions, tone) => {
    expect(toneOf({ status, conditions: [...conditions] })).toBe(tone);
  });
});

test.each([
  [{ state: 'running', health: 'healthy' }, 'ok'],
  [{ state: 'running', health: 'unhealthy' }, 'bad'],
  [{ state: 'exited', exit_code: 1 }, 'bad'],
  [{ state: 'exited', exit_code: 0 }, 'idle'],
  [{ state: 'paused' }, 'care'],
] as const)('a container %j is %s', (container, tone) => {
  expect(containerTone({ exit_code: null, health: null, ...container } as Container)).toBe(tone);
});

test('traffic is what is received and sent, where both are told', () => {
  expect(traffic({ network_rx_bytes_per_s: '10', network_tx_bytes_per_s: '5', load1: '1' })).toBe(15);
  expect(traffic({ load1: '1' })).toBeNull();
  expect(traffic({ network_rx_bytes_per_s: 'x' })).toBeNull();
});

test.each([
  [{ round_trip_seconds: '0.000314' }, true, '0.31 ms'],
  [{ round_trip_seconds: '0.0241' }, true, '24 ms'],
  [{ round_trip_seconds: '1.2' }, true, '1.20 s'],
  [{ round_trip_seconds: '0.0241' }, false, null],
  [{ round_trip_seconds: 'soon' }, true, null],
  [{}, true, null],
] as const)('the link of a node that tells %j, connected: %s, takes %s', (metrics, connected, expected) => {
  expect(roundTrip({ metrics, connected } as unknown as Node)).toBe(expected);
});

test('every word of a filter must be somewhere', () => {
  const node = { name: 'zone-a', id: '1', ip: '10.0.0.1', role: 'sub', status: 'Ready', labels: { site: 'seoul' }, conditions: [], containers: [{ name: 'camera', image: 'x' }] } as unknown as Node;
  expect(matches(node, '')).toBe(true);
  expect(matches(node, 'zone CAMERA site=seoul')).toBe(true);
  expect(matches(node, 'zone lidar')).toBe(false);
});

describe('a watch of nodes', () => {
  const changed = (id: string, status = 'Ready'): NodeChange => ({ type: 'changed', revision: 1, node: { id, status } as Node });
  const begin: NodeChange = { type: 'snapshot_begin', revision: 1, reason: '' };
  const end: NodeChange = { type: 'snapshot_end', revision: 1 };
  const ids = (known: KnownNodes) => [...known.nodes.keys()];

  test('replaces what was known by a snapshot, once it is whole', () => {
    const known = new KnownNodes();
    known.apply([begin, changed('a'), changed('b'), end]);
    known.apply([begin, changed('b')]);
    expect(ids(known)).toEqual(['a', 'b']);
    known.apply([changed('c'), end]);
    expect(ids(known)).toEqual(['b', 'c']);
  });

  test('changes and removes single nodes', () => {
    const known = new KnownNodes();
    known.apply([begin, changed('a'), changed('b'), end, changed('a', 'NotReady'), { type: 'removed', revision: 3, node_id: 'b' }]);
    expect(known.nodes.get('a')?.status).toBe('NotReady');
    expect(ids(known)).toEqual(['a']);
  });
});

describe('server-sent events', () => {
  test('are read whole, however they are cut', () => {
    const text = ': comment\n\nid: 7\nevent: change\ndata: {"a":\ndata: 1}\n\ndata:x\r\n\r\n';
    for (let cut = 0; cut <= text.length; cut++) {
      const parser = new SseParser();
      const messages = [...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))];
      expect(messages).toEqual([
        { id: '7', event: 'change', data: '{"a":\n1}' },
        { id: '7', event: '', data: 'x' },
      ]);
    }
  });
});

test('a gap in a series ends one line and begins the next', () => {
  const lines = linesOf([1, 2, null, 3, null, 4, 4], 4, 60, 40).map(({ line }) => line);
  expect(lines).toEqual(['M0 30L10 21', 'M30 12L35 12', 'M50 3L60 3']);
});

describe('of ten thousand rows', () => {
  test.each([
    [0, 0, 23],
    [5_000, 123, 155],
    [379_430, 9977, 10_000],
    [-50, 0, 23],
    [999_999, 9992, 10_000],
  ])('scrolled to %d only %d to %d are in the page', (top, first, last) => {
    expect(rowsInSight(top, 570, 38, 10_000)).toEqual({ first, last });
  });

  test.each([
    [[9, 8, 7], 8, 1],
    [[9, 8, 7], 9, 0],
    [[9, 8, 7], 6, 0],
    [[9, 8, 7], undefined, 0],
    [[], 9, 0],
  ])('those that have come above are counted: in %j above %d', (ids, first, count) => {
    expect(movedDown(ids.map((id) => ({ id })), first)).toBe(count);
  });

  test('no more are in the page, wherever one is', () => {
    for (let top = 0; top < 380_000; top += 997) {
      const { first, last } = rowsInSight(top, 570, 38, 10_000);
      expect(last - first).toBeLessThanOrEqual(33);
      expect(first * 38).toBeLessThanOrEqual(top);
      expect(last * 38).toBeGreaterThanOrEqual(Math.min(380_000, top + 570));
    }
  });
});

test.each([
  [[0x00], [0x02, 1, 0x00]],
  [[0x00, 0x00, 0x05], [0x02, 1, 0x05]],
  [[0x80, 0x01], [0x02, 3, 0x00, 0x80, 0x01]],
])('the octets %j are a positive integer in DER', (octets, written) => expect(integer(octets)).toEqual(written));

test('the key of a user is made here, and a request that is for it', async () => {
  const { key, request } = await makeUserKey('minji');
  expect(key).toMatch(/^-----BEGIN PRIVATE KEY-----\n[\w+/=\n]+-----END PRIVATE KEY-----\n$/);
  const octets = Uint8Array.from(atob(request.split('\n').slice(1, -2).join('')), (letter) => letter.charCodeAt(0));
  expect([octets[0], octets[1]]).toEqual([0x30, 0x81]);
  expect(octets.length).toBe(3 + (octets[2] as number));
  expect(new TextDecoder('latin1').decode(octets)).toContain('minji');
});

test('a context file is YAML in which texts of several lines are one', () => {
  const file = contextFile({ server: 'm:1', cluster: 'c', ca: 'a\nb\n', certificate: 'c', key: 'k' });
  expect(file).toBe('server: "m:1"\ncluster: "c"\nca: "a\\nb\\n"\ncertificate: "c"\nkey: "k"\n');
});

describe('forms', () => {
  const rule: AlertRule = {
    name: 'Hot', on: 'node', when: 'node.metrics.load1 > 4', severity: 'warning', message: 'hot', for: '300s', labels: { team: 'a=b' },
    group: { min: 3, by: 'site' }, disabled: true,
  };

  test('a rule is the same after it was in a form', () => expect(ruleOf(ruleValues(rule))).toEqual(rule));

  test('what is left empty in the form of a rule is not given', () => {
    const small = { name: 'A', on: 'node', when: 'true', severity: 'info', message: 'm' };
    expect(ruleOf({ ...small, clear: ' ', labels: ' , ', group_min: '' })).toEqual(small);
  });

  test('a number that is none is left for the master to refuse', () => {
    expect(ruleOf({ group_min: 'many' }).group).toEqual({ min: 'many' });
  });

  test('a channel has what its way has, and nothing that was typed for another', () => {
    const typed = { name: 'ops', way: 'smtp', severity: 'warning', host: 'mail', port: '25', from: 'a@b', to: 'c@d, e@f', url: 'http://x', escalations: 'true' };
    expect(channelOf(typed)).toEqual({
      name: 'ops', severity: 'warning', escalations: true, smtp: { host: 'mail', port: 25, protection: 'tls', from: 'a@b', to: ['c@d', 'e@f'] },
    });
    expect(channelOf({ name: 'run', way: 'command', command: 'tell\n--loud\n' })).toEqual({ name: 'run', severity: 'info', command: ['tell', '--loud'] });
  });

  test.each([
    ['rules[0].when', 'when'],
    ['rules[0].group.by', 'group_by'],
    ['channels[0].smtp.to[1]', null],
    ['channels[0].url', 'url'],
    ['channels[0].timeout', 'timeout'],
    ['rules[0]', null],
    [undefined, null],
  ])('what is said of %s stands at %s', (path, name) => {
    expect(placeOf(path, ['name', 'when', 'group_by', 'url', 'timeout'])).toBe(name);
  });
});

describe('moments', () => {
  test.each([
    ['2030-01-31 12:00:05Z', '2030-01-31T12:00:05.000Z'],
    [' 2030-01-31T12:00 ', '2030-01-31T12:00:00.000Z'],
    ['2030-01-31 12:00:05.5Z', '2030-01-31T12:00:05.500Z'],
    ['2030-13-31 12:00', null],
    ['yesterday', null],
    ['', null],
  ])('%j is %s', (text, at) => {
    const parsed = parseMoment(text);
    expect(parsed === null ? null : new Date(parsed).toISOString()).toBe(at);
  });

  test('the events before and after a moment are the nearest, whatever their order', () => {
    const events = [30, 10, 20, 40].map((at) => ({ at: new Date(at).toISOString() }) as ClusterEvent);
    expect(neighbours(events, 20)).toEqual({ before: 10, after: 30 });
    expect(neighbours(events, 5)).toEqual({ before: null, after: 10 });
    expect(neighbours([], 5)).toEqual({ before: null, after: null });
  });
});

describe('what is asked of logs', () => {
  const wish: LogWish = { targets: ['a', 'b/web'], units: '', level: 4, grep: '', range: 'newest', from: '', to: '' };
  const shared = { target: 'a,b/web', level: 4, grep: '' };

  test.each<[string, Partial<LogWish>, unknown]>([
    ['the newest, and what comes', {}, { ...shared, lines: 200, follow: true }],
    ['a text, looked for in more', { grep: ' lens ' }, { ...shared, grep: 'lens', lines: 10_000, follow: true }],
    ['of the last hour', { range: '1h' }, { ...shared, lines: 1000, since: '1970-01-01T00:00:00.000Z', follow: true }],
    ['units, on nodes alone', { units: 'x.service, y.service' }, { ...shared, target: 'a:x.service,a:y.service,b/web', lines: 200, follow: true }],
    ['between', { range: 'between', from: '2030-01-31 12:00', to: '2030-01-31 12:30' },
      { ...shared, lines: 1000, since: '2030-01-31T12:00:00.000Z', until: '2030-01-31T12:30:00.000Z', follow: false }],
    ['since then', { range: 'between', from: '2030-01-31 12:00' }, { ...shared, lines: 1000, since: '2030-01-31T12:00:00.000Z', follow: true }],
    ['what is kept, of units alone and so far', { kept: true, units: 'x.service' }, { ...shared, target: 'a:x.service', lines: 200, follow: false, kept: true }],
    ['nothing that is kept of a container', { kept: true, targets: ['b/web'] }, null],
    ['nothing without a source', { targets: [] }, null],
    ['nothing between no times', { range: 'between' }, null],
    ['nothing since a time that is none', { range: 'between', from: 'noon', to: '2030-01-31 12:30' }, null],
  ])('%s', (_, part, query) => expect(logQuery({ ...wish, ...part }, 3_600_000)).toEqual(query));
});
