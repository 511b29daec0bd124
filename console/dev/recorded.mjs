// For work on the console without a cluster: `npm run dev` answers /api/v1 with recorded shapes (those of the command
// line's `-o json`), for as many nodes as NODES says, and lets something happen every few seconds. Nothing of this is
// in the build.

const COUNT = Number(process.env.NODES ?? 9);
const STILL = process.env.STILL === '1';
const SITES = ['seoul', 'busan', 'ulsan', 'daegu', 'incheon', 'jeju'];

const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();

function container(node, name, state = 'running', extra = {}) {
  return {
    id: `${name}-${node}`, name, image: `registry.local/${name}:1.4`, state, exit_code: state === 'exited' ? 1 : null,
    health: state === 'running' ? 'healthy' : null, started_at: ago(7200), finished_at: null, memory_bytes: 50331648,
    cpu_basis_points: 325, restarts: 0, restart: null, ...extra,
  };
}

const KINDS = ['camera', 'lidar', 'planner', 'logger', 'gateway', 'can-bridge', 'dashboard'];

function node(i) {
  const name = COUNT <= 12 ? ['zone-front', 'zone-rear', 'zone-left', 'zone-right', 'adas', 'cockpit', 'telematics', 'battery', 'body'][i] ?? `node-${i}` : `node-${i + 1}`;
  const containers = KINDS.slice(0, 2 + ((i * 3) % 5)).map((kind) => container(i, kind));
  return {
    id: `6f1c2d3e-${String(i).padStart(4, '0')}`, name, ip: `192.168.7.${11 + i}`, role: 'sub', kind: 'embedded', status: 'Ready',
    status_since: ago(3600 + i * 400), connected: true, conditions: [], resources: { cpu: 4, memory: 3907, disk: 28 },
    created_at: ago(400000), last_heartbeat: ago(4), labels: COUNT > 12 ? { site: SITES[i % Math.min(6, Math.ceil(COUNT / 30) + 1)], soc: 'a78' } : { soc: 'a78' },
    containers, containers_at: ago(4), metrics: {
      cpu_percent: (10 + ((i * 17) % 60)).toFixed(1), load1: '0.52', memory_total_bytes: '4096000000', memory_available_bytes: '2400000000',
      disk_free_bytes: '19000000000', network_rx_bytes_per_s: String(900 * 3 ** (i % 7)), network_tx_bytes_per_s: '2000', temperature_celsius: '48.3', round_trip_seconds: String(0.0003 * (1 + i * 9)),
    },
    agent_version: '0.1.0', architecture: 'aarch64', os: 'Debian GNU/Linux 12 (bookworm)', kernel: '6.1.0-28-arm64', runtime_version: '4.3.1',
    applied_generation: 4, certificate_expires_at: ago(-2500000), revision: 100 + i,
    system_check: { at: ago(1990), passed: 19, findings: i % 4 ? [] : [{ name: 'cpu_load', level: 'warning', value: '2.61 per core (4)', limit: '<= 2', remedy: 'something keeps them busy: see top' }] },
    hardware: { at: ago(60), passed: 0, findings: [{ name: 'temperature of cpu-thermal', level: 'ok', value: '49 °C', limit: '<= 95 °C', remedy: '' }] },
  };
}

function lose(one) {
  Object.assign(one, { status: 'NotReady', status_since: ago(0), connected: false, conditions: [{ kind: 'SessionLost', reason: 'NoSession', message: 'the session broke and did not come back', since: ago(0) }] });
}

function heal(one) {
  Object.assign(one, { status: 'Ready', status_since: ago(0), connected: true, conditions: [] });
}

function world() {
  const nodes = Array.from({ length: COUNT }, (_, i) => node(i));
  const at = (i) => nodes[i % COUNT];
  if (COUNT > 3) lose(at(3)), (at(3).status_since = ago(332));
  if (COUNT > 5) Object.assign(at(5), { status: 'Maintenance', status_since: ago(900) });
  if (COUNT > 6) Object.assign(at(6), { status: 'Pending', status_since: ago(41), connected: false, containers: [], conditions: [{ kind: 'AwaitingApproval', reason: 'ManualApproval', message: 'an operator has to approve it', since: ago(41) }] });
  if (COUNT > 7) at(7).conditions = [{ kind: 'ResourcePressure', reason: 'Disk', message: 'disk 96 % used, over 95 %', since: ago(120) }];
  at(1).containers[0] = container(1, 'camera', 'exited', { finished_at: ago(95) });
  const events = Array.from({ length: 10_000 }, (_, i) => ({
    id: i + 1, at: ago((10_000 - i) * 37), severity: i % 97 === 0 ? 'critical' : i % 11 === 0 ? 'warning' : 'info',
    kind: ['NodeReady', 'ContainerDied', 'NodeNotReady', 'ContainerStarted'][i % 4], node_id: at(i).id, node_name: at(i).name,
    message: `container ${KINDS[i % KINDS.length]} ended with 1`, node_sequence: i, fields: {}, delivered_late: i % 50 === 0,
  }));
  return { nodes, events, revision: 1000, watchers: new Set(), eventWatchers: new Set() };
}

function recordedAlerts(state) {
  const alert = (i, severity, extra = {}) => ({
    id: `3-${i}`, rule: 'NodeNotReady', severity, state: 'firing', message: `node ${state.nodes[i % COUNT].name} is NotReady: SessionLost`, labels: {}, group: null,
    subjects: [{ name: state.nodes[i % COUNT].name, since: ago(362), cleared_at: null }], since: ago(362), fired_at: ago(332), acknowledged_by: null,
    acknowledged_at: null, comment: null, escalated_at: null, resolved_at: null, resolved_why: null, silenced_by: null, ...extra,
  });
  return [
    alert(3, 'critical'),
    alert(4, 'warning', { state: 'acknowledged', acknowledged_by: 'operator:otto', acknowledged_at: ago(60), comment: 'a new disk is ordered' }),
    alert(2, 'warning', { silenced_by: '3-15' }),
    alert(1, 'info', { state: 'resolved', resolved_at: ago(30) }),
  ];
}

const send = (answer, data) => answer.write(`data: ${JSON.stringify(data)}\n\n`);

function happen(state) {
  const one = state.nodes[Math.floor(Math.random() * state.nodes.length)];
  if (Math.random() < 0.08) one.status === 'Ready' ? lose(one) : heal(one);
  one.revision = ++state.revision;
  one.last_heartbeat = ago(0);
  for (const watcher of state.watchers) send(watcher, { type: 'changed', revision: one.revision, node: one });
}

function status(state) {
  return {
    cluster_id: 'c7f3a1', cluster_name: 'robot', master_version: '0.1.0', master_address: '192.168.7.10:47098', started_at: ago(86400), now: ago(0),
    store_kind: 'embedded', store_health: 'ok', store_size_bytes: 212992, revision: state.revision, generation: 4, nodes_by_status: {}, containers_running: 31,
    containers_total: 32, sessions: COUNT - 2, watchers: 1, approval: 'manual', ca_expires_at: ago(-300000000), events_kept: state.events.length,
    problems: [],
  };
}

function answers(state) {
  const series = (query, figure) => {
    const since = Number(query.get('since_seconds') ?? 3600);
    const scale = { memory_available_bytes: 5e7, disk_free_bytes: 4e8, network_rx_bytes_per_s: 4e3, network_tx_bytes_per_s: 1e3, load1: 0.05, temperature_celsius: 1.6 }[figure] ?? 1;
    const shape = (i) => 30 + [...figure].length + 9 * Math.sin(i / 5 + figure.length) + 4 * Math.sin(i * 1.7 * figure.length);
    const points = Array.from({ length: 60 }, (_, i) => (i > 20 && i < 26 ? null : scale * shape(i)));
    return { figure, from: ago(since), step_seconds: since / 60, rows: [{ labels: {}, points }], truncated: false };
  };
  return {
    series,
    'GET /session': () => ({ who: 'admin:first', role: 'admin', expires_at: ago(-3600) }),
    'POST /session': () => ({ who: 'admin:first', role: 'admin', expires_at: ago(-3600) }),
    'DELETE /session': () => undefined,
    'GET /status': () => status(state),
    'GET /topology': () => ({ id: 'c7f3a1', name: 'robot', type: 'BasicEmbedded', parent_cluster: process.env.PARENT ?? null, config: {}, generation: 4, applied_by: 2 }),
    'GET /events': (query) => {
      const limit = Number(query.get('limit') ?? 100);
      const after = Number(query.get('after') ?? 0);
      const items = !query.has('after') ? state.events.slice(-limit) : state.events.filter((event) => event.id > after).slice(0, limit);
      return { items, first_kept_id: 1, revision: state.events.length };
    },
    'GET /audit': () => ({ items: [{ id: 9, at: ago(60), who: 'admin:first', from: '192.168.7.2', call: 'CreateToken', target: '3f2a91c04b7d', outcome: 'ok' }, { id: 8, at: ago(600), who: 'viewer:alice', from: '192.168.7.40', call: 'RemoveNode', target: 'zone-a', outcome: 'refused: role viewer may not call RemoveNode' }] }),
    'GET /alerts': () => ({ alerts: [], silences: [{ id: '3-15', only: 'node=zone-left', until: ago(-5400), by: 'operator:otto', comment: 'it is being moved' }] }),
    'GET /tokens': () => ({ items: [{ id: '3f2a91c04b7d', role: 'sub', created_at: ago(600), expires_at: ago(-3000), uses_left: 2, node_name: null, created_by: 'admin:first', used_by: [] }] }),
    'GET /api-tokens': () => ({ items: [{ id: '91c0', name: 'dashboard', role: 'viewer', created_at: ago(600), expires_at: ago(-2592000), created_by: 'admin:first' }] }),
    'POST /api-tokens': () => ({ token: 'PICCOLO-API1-recorded' }),
    'GET /users': () => ({ items: [{ name: 'first', role: 'admin', created_at: ago(600), expires_at: ago(-31536000), serial: '01', created_by: 'master' }] }),
    'POST /users': () => ({ certificate: '', ca_certificate: '' }),
    'GET /alert-rules': () => ({ generation: 1, rules: [
      { name: 'NodeNotReady', on: 'node', when: 'node.status == "NotReady"', for: '30s', severity: 'critical', message: '{{ node.name }}', builtin: true, problem: null },
      { name: 'Hot', on: 'node', when: 'node.metrics.temperature_celsius > 90', severity: 'warning', message: 'hot', disabled: true, builtin: false, problem: null },
    ] }),
    'GET /alert-channels': () => ({
      channels: [{ name: 'collector', kind: 'webhook', target: 'https://collector.example/', severity: 'warning', only: '', escalations: false, disabled: false, per_minute: 30, waiting: 2, problem: 'connection refused', changed_at: ago(60) }],
      dead_letters: [{ id: '3-4', channel: 'collector', kind: 'firing', alert: '3-1', message: 'node zone-rear is NotReady', created_at: ago(90000), given_up_at: ago(3600), why: 'connection refused' }],
    }),
    'GET /settings': () => ({ settings: [{ key: 'approval', value: 'manual', said_by: '/etc/piccolo/master.yaml:3' }, { key: 'limits.events', value: '10000', said_by: null }] }),
    'GET /history': (query) => ({
      at: query.get('at'), kept_since: ago(370000), whole: true, in_gap: false,
      nodes: state.nodes.map(({ id, name, status: now, containers }, i) => ({
        id, name, status: i === 2 ? null : i === 4 ? 'NotReady' : now, since: ago(7200), message: `node ${name} is ${now}`, conditions: [],
        containers: containers.map(({ name: of }) => ({ name: of, state: 'running', exit_code: null, since: ago(7200) })),
      })),
    }),
    'POST /tokens': () => ({ token: 'PICCOLO1-0b6a…-recorded', info: { id: '91c04b7d3f2a' } }),
  };
}

function handler(state) {
  const table = answers(state);
  return (request, answer, next) => {
    const { pathname, searchParams } = new URL(request.url, 'http://localhost');
    if (!pathname.startsWith('/api/v1')) return next();
    const path = pathname.slice('/api/v1'.length);
    if (path.startsWith('/watch/')) {
      answer.writeHead(200, { 'content-type': 'text/event-stream' });
      const set = path === '/watch/nodes' ? state.watchers : state.eventWatchers;
      set.add(answer);
      request.on('close', () => set.delete(answer));
      if (path === '/watch/alerts') return recordedAlerts(state).forEach((alert) => send(answer, { type: 'changed', alert })), send(answer, { type: 'told' });
      if (path !== '/watch/nodes') return answer.write(':\n\n');
      send(answer, { type: 'snapshot_begin', revision: 0, reason: 'begin' });
      for (const one of state.nodes) send(answer, { type: 'changed', revision: one.revision, node: one });
      return send(answer, { type: 'snapshot_end', revision: state.revision });
    }
    const figure = /^\/metrics\/(\w+)$/.exec(path)?.[1];
    const recovery = /^\/nodes\/[^/]+\/recovery$/.test(path);
    const found = figure
      ? (query) => table.series(query, figure)
      : recovery
        ? () => ({ node: '', paused_until: null, spent: 0, spent_max: 6, failures: [], probe: null })
        : table[`${request.method} ${path}`];
    if (!found) {
      answer.writeHead(404, { 'content-type': 'application/problem+json' });
      return answer.end(JSON.stringify({ title: 'not recorded', detail: `there is no recording of ${request.method} ${path}`, status: 404 }));
    }
    const told = found(searchParams);
    answer.writeHead(told === undefined ? 204 : 200, { 'content-type': 'application/json' });
    answer.end(told === undefined ? '' : JSON.stringify(told));
  };
}

export function recorded() {
  const configure = (server) => {
    const state = world();
    if (!STILL) setInterval(() => happen(state), 700).unref();
    server.middlewares.use(handler(state));
  };
  return { name: 'recorded', configureServer: configure, configurePreviewServer: configure };
}
