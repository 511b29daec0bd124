// What people do with the console, done by a browser against a real cluster of three boards.

import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PICTURES, URL, accessible, ask, check, open, picture, signIn, step, stories } from './browser.mjs';

const PAGES = { topology: '', nodes: 'nodes', node: 'nodes/node-1', alerts: 'alerts', rules: 'alerts/rules', channels: 'alerts/channels', events: 'events', past: 'events/past', logs: 'logs', audit: 'audit', join: 'join', access: 'access', master: 'master' };

const tell = (sentence) => process.stdout.write(`${sentence}\n`);
const at = (page, path) => page.evaluate((hash) => (location.hash = hash), `#/${path}`);
const node = (page, name) => page.locator(`[data-node="${name}"]`);
const hasStatus = (page, name, status) => page.locator(`[data-node="${name}"][data-status="${status}"]`).waitFor();
const sources = (page) => page.getByRole('group', { name: 'From' });
/** Of the sources of logs these, and no other. */
const choose = async (page, names) => {
  for (const label of await sources(page).locator('label').all()) await label.locator('input').setChecked(names.includes(await label.textContent()));
};
const button = (page, name) => page.getByRole('button', { name, exact: true });

await stories(async (browser) => {
  const token = (role) => ask('piccolo', 'api-token', 'create', `${role}-in-a-story`, '--role', role);
  const [admin, viewerToken] = [await token('admin'), await token('viewer')];
  const { page, problems } = await open(browser);

  await step('who is not known sees the way in and nothing else', async () => {
    await page.goto(URL);
    await page.locator('.login').waitFor();
    await accessible(page, 'the way in');
    await picture(page, 'login');
  });

  await step('it is small and soon there', async () => {
    const { bytes, paint } = await page.evaluate(() => ({
      bytes: [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]
        .filter(({ name }) => !name.includes('/api/'))
        .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
      paint: Math.round(performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0),
    }));
    check(bytes <= 300 * 1024, 'it has at most 300 KiB', String(bytes));
    tell(`${bytes} bytes compressed, first paint after ${paint} ms`);
  });

  await step('a wrong token is refused, and said so', async () => {
    await page.locator('input[name=token]').fill('not-a-token');
    await page.locator('form button[type=submit]').click();
    await page.locator('.login [role=alert]').waitFor();
    await accessible(page, 'a refusal');
  });

  await step('with a token one sees the cluster as a picture', async () => {
    await signIn(page, admin);
    for (const name of ['node-1', 'node-2', 'node-3']) await hasStatus(page, name, 'Ready');
    await picture(page, 'topology-light');
  });

  for (const [theme, language] of [['light', 'en'], ['dark', 'ko'], ['dark', 'en'], ['light', 'ko']]) {
    await step(`every page is accessible, ${theme}, ${language}`, async () => {
      await page.locator('.bar select').nth(0).selectOption(language);
      await page.locator('.bar select').nth(1).selectOption(theme);
      for (const [name, path] of Object.entries(PAGES)) {
        await at(page, path);
        await page.locator('main h1').waitFor();
        await accessible(page, `${name}, ${theme}, ${language}`);
        await picture(page, `${name}-${theme}-${language}`);
      }
    });
  }
  await page.locator('.bar select').nth(0).selectOption('en');

  await step('it is said who is signed in, and pages have their words where there is room', async () => {
    await page.locator('.who', { hasText: 'admin-in-a-story' }).locator('b', { hasText: /^admin$/ }).waitFor();
    for (const language of ['ko', 'en']) {
      await page.locator('.bar select').nth(0).selectOption(language);
      for (const width of [1100, 1280, 1360]) {
        await page.setViewportSize({ width, height: 820 });
        const cut = await page.evaluate(() => {
          const ends = [...document.querySelectorAll('.bar nav a span, .bar button, .bar select, .bar .who')].map((part) => part.getBoundingClientRect());
          const over = ends.some((a, i) => ends.some((b, j) => i < j && a.right > b.left + 1 && b.right > a.left + 1));
          return { narrow: ends.some(({ width }) => width < 8), beyond: ends.some(({ right }) => right > innerWidth), over };
        });
        check(!cut.narrow && !cut.beyond && !cut.over, `the bar fits ${width}, ${language}`, JSON.stringify(cut));
        await picture(page, `bar-${width}-${language}`);
      }
    }
    await page.setViewportSize({ width: 1360, height: 820 });
  });

  await step('nothing of a table is cut off at 1280', async () => {
    await page.setViewportSize({ width: 1280, height: 820 });
    for (const path of [PAGES.node, PAGES.audit, PAGES.rules, PAGES.access]) {
      await at(page, path);
      await page.locator('main .rows tbody tr').first().waitFor();
      const cut = await page.evaluate(() =>
        [...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth).map((box) => `${box.ariaLabel} ${box.scrollWidth} in ${box.clientWidth}`),
      );
      check(cut.length === 0, `all columns of ${path} are in sight`, cut.join());
    }
    await page.setViewportSize({ width: 1360, height: 820 });
  });

  await step('the words of a row stand on one line', async () => {
    await at(page, 'nodes');
    const bottoms = () => [...document.querySelectorAll('main tbody tr:first-child > :is(th, td):nth-child(-n + 3)')].map((cell) => {
      const words = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT).nextNode();
      const range = document.createRange();
      range.selectNodeContents(words);
      return range.getBoundingClientRect().bottom;
    });
    await page.locator('main tbody tr').first().waitFor();
    const [name, status, role] = await page.evaluate(bottoms);
    check(Math.max(name, status, role) - Math.min(name, status, role) < 1, 'name, status and role', `${name} ${status} ${role}`);
  });

  await step('a node is looked into from the picture, with the keyboard alone', async () => {
    await at(page, '');
    await node(page, 'node-2').focus();
    await page.keyboard.press('Enter');
    await page.locator('.inspector').waitFor();
    await accessible(page, 'the inspector');
    await page.keyboard.press('Escape');
    await page.locator('.inspector').waitFor({ state: 'detached' });
    check((await page.evaluate(() => document.activeElement?.getAttribute('data-node'))) === 'node-2', 'the keyboard is at the node again');
  });

  await step('a link says how long a round trip takes, on the picture, under the pointer and beside the node', async () => {
    const words = /^\d+(\.\d+)? m?s$/;
    await page.locator('.world text.time', { hasText: words }).first().waitFor({ timeout: 40_000 });
    check((await page.locator('.grip title').allTextContents()).some((title) => /node-\d; Round trip to the master \d/.test(title)), 'the title of a link');
    await node(page, 'node-3').click();
    await page.locator('.inspector dd', { hasText: words }).waitFor();
    await page.keyboard.press('Escape');
  });

  await step('the filter dims what it does not name', async () => {
    await page.locator('.toolbar input').fill('node-3');
    await page.locator('.node.dim[data-node="node-1"]').waitFor();
    check((await page.locator('.node:not(.dim)').count()) === 1, 'one node is left');
    await page.locator('.toolbar input').fill('');
  });

  await step('the picture is zoomed by wheel and keyboard, and shown whole again', async () => {
    const transform = () => page.locator('.world').getAttribute('transform');
    const whole = await transform();
    await page.locator('.picture').hover();
    await page.mouse.wheel(0, -400);
    await page.waitForFunction((before) => document.querySelector('.world').getAttribute('transform') !== before, whole);
    await page.locator('.picture').focus();
    await page.keyboard.press('0');
    await page.waitForFunction((before) => document.querySelector('.world').getAttribute('transform') === before, whole);
  });

  for (const [kind, begin] of [['SVG', '<svg'], ['PNG', '\u0089PNG']]) {
    await step(`the picture is saved as ${kind}`, async () => {
      const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: `Save as ${kind}` }).click()]);
      const file = readFileSync(await download.path(), 'latin1');
      check(file.startsWith(begin), `the file is a ${kind}`, file.slice(0, 40));
      if (kind === 'SVG') check(file.includes('node-2') && !/<script|style=|class=/.test(file), 'it stands alone');
    });
  }

  await step('a board that dies is an alert at once, which somebody looks after', async () => {
    const applied = await page.evaluate(async () => {
      const rule = { name: 'BoardAway', when: 'node.status == "NotReady"', severity: 'critical', message: '{{ node.name }} is away' };
      const headers = { 'content-type': 'application/json', 'x-piccolo-csrf': '1' };
      return (await fetch('api/v1/alert-rules', { method: 'POST', headers, body: JSON.stringify({ rules: [rule] }) })).status;
    });
    check(applied === 200, 'a rule is applied by REST', String(applied));
    await ask('kill', 'node-2');
    await page.locator('.node[data-node="node-2"] .alarm').waitFor();
    await page.locator('.bar nav .firing').waitFor();
    await at(page, 'alerts');
    const row = (state) => page.locator(`tr[data-alert="BoardAway"][data-state="${state}"]`);
    await row('firing').waitFor();
    await at(page, 'nodes/node-2');
    await row('firing').waitFor();
    await accessible(page, 'a node with an alert');
    await at(page, 'alerts');
    await row('firing').waitFor();
    check(!/ in \d+s/.test((await row('firing').allInnerTexts()).join(' ').replace(/\s+/g, ' ')), 'what fires has begun to');
    await accessible(page, 'an alert');
    await picture(page, 'alerts-firing');
    await button(page, 'Acknowledge: node-2 is away').click();
    await page.locator('dialog input').fill('on my way');
    await accessible(page, 'an acknowledgement');
    await page.locator('dialog button[type=submit]').click();
    await row('acknowledged').filter({ hasText: 'on my way' }).waitFor();
    await button(page, 'Silence: node-2 is away').click();
    await page.locator('dialog select').selectOption('28800');
    await page.locator('dialog button[type=submit]').click();
    await page.locator('.silences li', { hasText: 'node=node-2' }).waitFor();
    await picture(page, 'alerts-acknowledged');
    await accessible(page, 'a silence');
    await page.locator('.silences button').click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('.silences').waitFor({ state: 'detached' });
    await at(page, '');
  });

  await step('a board that dies is drawn so while one looks, and so is its return', async () => {
    await hasStatus(page, 'node-2', 'NotReady');
    await page.locator('.node.bad[data-node="node-2"]').waitFor();
    await accessible(page, 'a lost node');
    await picture(page, 'topology-lost');
    await ask('start', 'node-2');
    await hasStatus(page, 'node-2', 'Ready');
  });

  await step('what is over is shown to those who ask for it', async () => {
    await at(page, 'alerts');
    await page.locator('.chip', { hasText: 'resolved' }).click();
    await page.locator('tr[data-alert="BoardAway"][data-state="resolved"]').waitFor();
    await at(page, '');
  });

  await step('a rule is refused where it is wrong, applied, switched off and deleted', async () => {
    await at(page, 'alerts/rules');
    await page.locator('tr[data-rule=NodeNotReady]', { hasText: 'built in' }).waitFor();
    await button(page, 'New rule').click();
    const field = (name) => page.locator(`dialog [name=${name}]`);
    await field('name').fill('Hot');
    await field('when').fill('node.metrics.load1 > > 4');
    await field('message').fill('{{ node.name }} is hot');
    await button(page, 'Check only').click();
    await page.locator('dialog [name=when][aria-invalid]').waitFor();
    await page.locator('#why-when').waitFor();
    await accessible(page, 'a rule that is refused');
    await picture(page, 'rule-refused');
    await field('when').fill('node.metrics.load1 > 4000');
    await button(page, 'Check only').click();
    await page.locator('dialog [role=status]').waitFor();
    check((await page.locator('tr[data-rule=Hot]').count()) === 0, 'a check changes nothing');
    await button(page, 'Apply').click();
    await page.locator('tr[data-rule=Hot][data-on=true]').waitFor();
    await button(page, 'Edit: Hot').click();
    await field('severity').selectOption('critical');
    await button(page, 'Apply').click();
    await page.locator('tr[data-rule=Hot]', { hasText: 'critical' }).waitFor();
    await button(page, 'Switch off: Hot').click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('tr[data-rule=Hot][data-on=false]').waitFor();
    await button(page, 'Delete: Hot').click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('tr[data-rule=Hot]').waitFor({ state: 'detached' });
  });

  await step('a channel is refused, made, tested, switched off and on, and deleted', async () => {
    const told = [];
    const receiver = createServer((request, answer) => request.on('data', (part) => told.push(String(part))).on('end', () => answer.end()));
    await new Promise((resolve) => receiver.listen(0, '127.0.0.1', resolve));
    await at(page, 'alerts/channels');
    await button(page, 'New channel').click();
    const field = (name) => page.locator(`dialog [name=${name}]`);
    for (const way of ['smtp', 'mqtt', 'command', 'webhook']) {
      await field('way').selectOption(way);
      if (way === 'smtp') check((await field('protection').inputValue()) === 'tls', 'what is sent is what is seen');
      await accessible(page, `the form of a channel by ${way}`);
    }
    await field('name').fill('collector');
    await field('url').fill('nonsense');
    await button(page, 'Apply').click();
    await page.locator('dialog [name=url][aria-invalid]').waitFor();
    await accessible(page, 'a channel that is refused');
    await field('url').fill(`http://127.0.0.1:${receiver.address().port}/`);
    await field('key').fill('a key that is secret');
    await button(page, 'Apply').click();
    await page.locator('tr[data-channel=collector]').waitFor();
    await button(page, 'Test: collector').click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('dialog').waitFor({ state: 'detached' });
    check(told.join('').includes('"test"'), 'the receiver was told', told.join(''));
    receiver.close();
    receiver.closeAllConnections();
    await button(page, 'Test: collector').click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('dialog [role=alert]').waitFor();
    await button(page, 'Cancel').click();
    await picture(page, 'channels');
    for (const [word, on] of [['off', false], ['on', true]]) {
      await button(page, `Switch ${word}: collector`).click();
      await page.locator('dialog button[type=submit]').click();
      await page.locator(`tr[data-channel=collector][data-on=${on}]`).waitFor();
    }
    await button(page, 'Replace: collector').click();
    check((await field('key').inputValue()) === '', 'no secret comes back');
    await button(page, 'Cancel').click();
    await button(page, 'Delete: collector').click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('tr[data-channel=collector]').waitFor({ state: 'detached' });
    await at(page, '');
  });

  await step('what a channel refused for good is sent again, or cleared', async () => {
    let status = 422;
    const told = [];
    const receiver = createServer((request, answer) => request.on('data', (part) => told.push(JSON.parse(part).key)).on('end', () => answer.writeHead(status).end()));
    await new Promise((resolve) => receiver.listen(0, '127.0.0.1', resolve));
    const file = join(mkdtempSync(join(tmpdir(), 'piccolo-story-')), 'alerts.json');
    const rules = [{ name: 'Few', on: 'cluster', when: 'cluster.nodes < 99', severity: 'warning', message: 'there are few nodes' }];
    const channels = [{ name: 'picky', only: 'rule=Few', webhook: { url: `http://127.0.0.1:${receiver.address().port}/` } }];
    writeFileSync(file, JSON.stringify({ rules, channels }));
    const dead = async (count) => {
      while (JSON.parse(await ask('piccolo', 'alert', 'dead-letters', 'list', '-o', 'json')).dead_letters.length !== count);
      await at(page, 'alerts');
      await at(page, 'alerts/channels');
      await page.locator('li[data-letter]').nth(count - 1).waitFor();
    };
    await ask('piccolo', 'alert', 'channel', 'apply', '-f', file);
    await ask('piccolo', 'alert', 'rules', 'apply', '-f', file);
    await dead(1);
    await accessible(page, 'what could not be delivered');
    await picture(page, 'dead-letters');
    status = 200;
    await page.locator('li[data-letter] button', { hasText: 'Send again' }).click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('li[data-letter]').waitFor({ state: 'detached' });
    while (told.length < 2) await ask('piccolo', 'alert', 'list');
    check(told[0] === told[1], 'under the key that it had', told.join(' '));
    status = 422;
    await ask('piccolo', 'alert', 'rules', 'delete', 'Few');
    await dead(1);
    await page.locator('li[data-letter] button', { hasText: 'Clear' }).click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('li[data-letter]').waitFor({ state: 'detached' });
    check(told.length === 3, 'nobody was told what was cleared', told.join(' '));
    await ask('piccolo', 'alert', 'channel', 'delete', 'picky');
    receiver.close();
    rmSync(dirname(file), { recursive: true });
    await at(page, '');
  });

  await step('a change is drawn at once', async () => {
    await page.evaluate(() => {
      const drawn = document.querySelector('[data-node="node-3"]');
      new MutationObserver(() => (window.drawnAt ??= Date.now())).observe(drawn, { attributeFilter: ['data-status'] });
    });
    await ask('piccolo', 'node', 'maintenance', 'on', 'node-3');
    await hasStatus(page, 'node-3', 'Maintenance');
    const late = await page.evaluate(async () => {
      const told = await (await fetch('api/v1/nodes/node-3')).json();
      return window.drawnAt - Date.parse(told.status_since);
    });
    await ask('piccolo', 'node', 'maintenance', 'off', 'node-3');
    await hasStatus(page, 'node-3', 'Ready');
    tell(`from the change to its picture: ${late} ms`);
  });

  await step('what happened is in the events, at once and filtered', async () => {
    await at(page, 'events');
    await page.locator('.event', { hasText: 'NodeNotReady' }).first().waitFor();
    await page.locator('.head input').fill('no-such-thing');
    await page.locator('.empty').waitFor();
    await page.locator('.head input').fill('');
  });

  await step('who reads older events goes on reading there when something happens', async () => {
    const scrolled = () => page.locator('.events').evaluate((box) => [box.scrollTop, box.scrollHeight]);
    await page.setViewportSize({ width: 1360, height: 420 });
    await page.locator('.events').evaluate((box) => (box.scrollTop = 190));
    const [before, height] = await scrolled();
    check(before === 190, 'there is something to scroll', `${before} of ${height}`);
    await ask('piccolo', 'node', 'maintenance', 'on', 'node-3');
    await ask('piccolo', 'node', 'maintenance', 'off', 'node-3');
    await page.waitForFunction((was) => document.querySelector('.events').scrollHeight > was, height);
    const [after, grown] = await scrolled();
    check(after - before === grown - height, 'the same events are in sight', `${after} of ${grown}, before ${before} of ${height}`);
    await page.setViewportSize({ width: 1360, height: 820 });
  });

  await step('the cluster is seen as it was when a board was lost, and nothing can be done there', async () => {
    const then = (name, status) => page.locator(`tr[data-past="${name}"][data-status="${status}"]`).waitFor();
    await page.locator('.head input').fill('NodeNotReady node-2');
    await page.locator('.event', { hasText: 'node node-2 is NotReady' }).first().locator('.when').click();
    await then('node-2', 'NotReady');
    await then('node-1', 'Ready');
    await page.locator('tr[data-past="node-1"] .status', { hasText: 'camera running' }).waitFor();
    check((await page.locator('.past button, .past a').count()) === 0, 'nothing can be done in the past');
    await accessible(page, 'the past');
    await picture(page, 'past');
    await button(page, 'Event before').click();
    await then('node-2', 'Ready');
    await page.getByLabel('Moment, UTC').fill('yesterday');
    await page.locator('.when-form [aria-invalid]').waitFor();
    await page.getByRole('alert').filter({ hasText: '2030-01-31 12:00' }).waitFor();
    check(await button(page, 'Show').isDisabled(), 'a moment that is none cannot be asked for');
    await page.getByLabel('Moment, UTC').fill('2020-01-31 12:00');
    await button(page, 'Show').click();
    await page.locator('.past .empty').waitFor();
    await page.locator('.past', { hasText: 'Events are kept since' }).waitFor();
    await accessible(page, 'a past that is not kept');
    await page.getByRole('slider').focus();
    await page.keyboard.press('End');
    await then('node-2', 'Ready');
    await at(page, 'events');
  });

  await step('maintenance begins and ends, each after a question', async () => {
    await at(page, 'nodes/node-1');
    await button(page, 'Maintenance on').click();
    await page.locator('dialog input').fill('a new fan');
    await accessible(page, 'a question');
    await page.locator('dialog button[type=submit]').click();
    await page.locator('.head .status', { hasText: 'Maintenance' }).waitFor();
    await page.locator('.event', { hasText: 'a new fan' }).first().waitFor();
    await button(page, 'Maintenance off').click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('.head .status', { hasText: 'Ready' }).waitFor();
  });

  await step('a container that dies is seen, and started again from the page', async () => {
    const camera = (state) => page.locator('tr', { hasText: 'camera' }).locator('.status', { hasText: state }).waitFor();
    await camera('running');
    await ask('kill', 'container', 'camera');
    await camera('exited');
    await at(page, '');
    await page.locator('[data-node="node-1"] .container.bad', { hasText: 'camera' }).waitFor();
    await picture(page, 'topology-container');
    await at(page, 'nodes/node-1');
    await page.getByRole('button', { name: 'Restart: camera' }).click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('dialog').waitFor({ state: 'detached' });
    await camera('running');
  });

  await step('what a container says is read on the page of its node', async () => {
    await choose(page, ['node-1/camera']);
    await button(page, 'Show the log').click();
    await page.locator('.log', { hasText: 'lens is clean' }).waitFor();
    await accessible(page, 'a log');
    await picture(page, 'log');
    await button(page, 'Hide the log').click();
    await page.locator('.log').waitFor({ state: 'detached' });
  });

  await step('several logs are read together, by their text, their time and their units', async () => {
    const lines = (text) => page.locator('.log > div', { hasText: text });
    await at(page, 'logs');
    await choose(page, ['node-1/camera', 'node-3']);
    await page.getByLabel('With this text').fill('lens');
    await page.getByLabel('Time').selectOption('1h');
    await button(page, 'Show the log').click();
    await lines('node-1/camera').first().waitFor();
    check((await lines('lens').count()) === (await page.locator('.log > div:not(.warn)').count()), 'no other line is shown');
    await accessible(page, 'several logs');
    await picture(page, 'logs-several');
    await page.getByLabel('With this text').fill('nobody says this');
    await page.getByLabel('Time').selectOption('between');
    check(await button(page, 'Show the log').isDisabled(), 'without a time there is nothing between');
    await page.getByLabel('and (UTC)').fill('2020-01-31 12:30');
    await page.getByLabel('Between (UTC)').fill('2020-01-31 12:00');
    await button(page, 'Show the log').click();
    await page.locator('.log', { hasText: 'No line is so.' }).waitFor();
    await page.getByLabel('Time').selectOption('newest');
    await choose(page, ['node-3']);
    await page.getByLabel('Units of systemd').fill('podman.service, ssh.service');
    await button(page, 'Show the log').click();
    await lines('node-3:ssh.service').first().waitFor();
    await lines('node-3:podman.service').first().waitFor();
    const colours = await page.locator('.log b').evaluateAll((names) => new Set(names.map((name) => getComputedStyle(name).color)).size);
    check(colours === 2, 'each source has a colour of its own', String(colours));
    await accessible(page, 'logs of units that may not be read');
    await at(page, 'nodes/node-1');
  });

  await step('what the master keeps of the nodes’ units is read beside their logs', async () => {
    await at(page, 'logs');
    await page.getByLabel('Kept by the master').check();
    check((await sources(page).locator('label').allTextContents()).join() === 'node-1,node-2,node-3', 'of nodes, and of nothing else');
    await choose(page, ['node-2', 'node-3']);
    await page.getByLabel('At least').selectOption('err');
    await button(page, 'Show the log').click();
    await page.locator('.log > div', { hasText: 'node-3:piccolo-nodeagent.service' }).filter({ hasText: 'the fan stands still' }).waitFor();
    await accessible(page, 'the kept log');
    await picture(page, 'logs-kept');
    await button(page, 'Hide the log').click();
    await page.getByLabel('With this text').fill('nobody says this');
    await button(page, 'Show the log').click();
    await page.locator('.log', { hasText: 'No line is so.' }).waitFor();
    await at(page, 'nodes/node-1');
  });

  await step('what a node cannot do is said in its own words', async () => {
    await button(page, 'Check the system').click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('dialog [role=alert]', { hasText: 'not installed from a release' }).waitFor();
    await accessible(page, 'a refused question');
    await button(page, 'Cancel').click();
    await page.locator('dialog').waitFor({ state: 'detached' });
  });

  await step('its recovery is paused and goes on, and it proves that it works', async () => {
    for (const action of ['Pause for an hour', 'Go on now', 'Probe']) {
      await button(page, action).click();
      await page.locator('dialog button[type=submit]').click();
      await page.locator('dialog').waitFor({ state: 'detached' });
    }
    await page.locator('.findings li', { hasText: 'loop' }).waitFor();
    await accessible(page, 'a node that was probed');
  });

  await step('a step of recovery is forced, and one that is not allowed is refused in the node’s words', async () => {
    await button(page, 'Force a step').click();
    await accessible(page, 'a question about a step');
    await page.locator('dialog select').selectOption('restart-container camera');
    await page.locator('dialog button[type=submit]').click();
    await page.locator('.toast.ok', { hasText: 'camera' }).waitFor();
    await page.locator('dialog').waitFor({ state: 'detached' });
    await page.locator('.event', { hasText: 'RecoveryAttempted' }).first().waitFor();
    await button(page, 'Force a step').click();
    await page.locator('dialog select').selectOption('reboot');
    await page.locator('dialog button[type=submit]').click();
    await page.locator('dialog [role=alert]').waitFor();
    await button(page, 'Cancel').click();
    await page.locator('dialog').waitFor({ state: 'detached' });
  });

  await step('its log level changes, once it is one', async () => {
    await button(page, 'Log level').click();
    await page.locator('dialog input').fill('nonsense==');
    const [refused] = await Promise.all([page.waitForResponse('**/log-level/*'), page.locator('dialog button[type=submit]').click()]);
    check(refused.status() === 400 && (await refused.json()).field === 'filter', 'what is no filter is refused before a node is asked', String(refused.status()));
    await page.locator('dialog [role=alert]').waitFor();
    await page.locator('dialog input').fill('debug');
    await page.locator('dialog select').selectOption('3600');
    const [asked] = await Promise.all([page.waitForRequest('**/log-level/*'), page.locator('dialog button[type=submit]').click()]);
    check(asked.postDataJSON().for_seconds === 3600, 'for an hour, and then as it was', asked.postData());
    await page.locator('dialog').waitFor({ state: 'detached' });
  });

  await step('a board joins as the page says, and is seen to arrive', async () => {
    await at(page, 'join');
    await page.locator('form.row input').fill('board-9');
    await button(page, 'Make the token').click();
    const told = async (label) => page.getByLabel(label, { exact: true }).textContent();
    check(/ --master \S+:\d+ /.test(await told('The command')), 'the command says the port', await told('The command'));
    check((await told('The command for its name')) === 'hostnamectl set-hostname board-9', 'and the name that the token wants');
    const token = await told('The token');
    check(/^PICCOLO1-/.test(token), 'there is a token');
    await accessible(page, 'a board joining');
    await ask('join', 'board-9', token);
    await page.locator('.arrived', { hasText: 'board-9' }).waitFor();
    await picture(page, 'joined');
  });

  await step('it is approved, and Ready', async () => {
    await at(page, 'nodes/board-9');
    await page.locator('.head .status', { hasText: 'Pending' }).waitFor();
    check((await button(page, 'Reject').count()) === 1, 'it could be rejected too');
    await button(page, 'Approve').click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('.head .status', { hasText: 'Ready' }).waitFor();
  });

  await step('a board is removed once its name is typed', async () => {
    await at(page, 'nodes/board-9');
    await button(page, 'Remove').click();
    check(await page.locator('dialog button[type=submit]').isDisabled(), 'nothing can be removed before');
    await page.locator('dialog input').fill('board-9');
    await page.locator('dialog button[type=submit]').click();
    await page.locator('table.rows').waitFor();
    await page.locator('tbody tr', { hasText: 'board-9' }).waitFor({ state: 'detached' });
  });

  await step('an API token is made, shown once, good, and revoked', async () => {
    await at(page, 'access');
    const form = page.locator('form[data-new=apiToken]');
    await form.locator('input').fill('dash board');
    await form.locator('button').click();
    await form.getByRole('alert').waitFor();
    await accessible(page, 'a refused API token');
    await form.locator('input').fill('dashboard');
    await form.locator('select').first().selectOption('operator');
    await form.locator('button').click();
    const token = await page.locator('.made code').textContent();
    await accessible(page, 'an API token that was made');
    await picture(page, 'api-token-made');
    const who = (bearer) => page.evaluate(async (of) => {
      const answer = await fetch('api/v1/session', { headers: { authorization: `Bearer ${of}` }, credentials: 'omit' });
      return answer.ok ? (await answer.json()).role : answer.status;
    }, bearer);
    check((await who(token)) === 'operator', 'the token speaks for an operator', String(await who(token)));
    await at(page, 'master');
    await at(page, 'access');
    await page.locator('tr[data-name=dashboard]', { hasText: 'operator' }).waitFor();
    check((await page.locator('.made').count()) === 0, 'it is shown this once');
    await button(page, 'Revoke: dashboard').click();
    await accessible(page, 'a question about an API token');
    await page.locator('dialog button[type=submit]').click();
    await page.locator('tr[data-name=dashboard]').waitFor({ state: 'detached' });
    check((await who(token)) === 401, 'nobody may do anything with it any more', String(await who(token)));
  });

  await step('a user is made whose key is this browser’s, reaches the cluster, and is revoked', async () => {
    const form = page.locator('form[data-new=user]');
    await form.locator('input').fill('minji');
    await form.locator('button').click();
    await page.locator('.made').waitFor();
    await accessible(page, 'a user who was made');
    const [download] = await Promise.all([page.waitForEvent('download'), button(page, 'Save minji.context.yaml').click()]);
    const file = `${PICTURES}/minji.context.yaml`;
    await download.saveAs(file);
    chmodSync(file, 0o600);
    try {
      const listed = await ask('piccolo', '--context', file, 'node', 'list', '-o', 'json').catch((error) => error.message);
      check(listed.includes('node-1'), 'the command line takes the file', listed);
    } finally {
      rmSync(file);
    }
    await button(page, 'Revoke: minji').click();
    await page.locator('dialog button[type=submit]').click();
    await page.locator('tr[data-name=minji]').waitFor({ state: 'detached' });
  });

  await step('what was done is in the audit log, and what somebody wrote stays text', async () => {
    const evil = '<img src=x onerror=alert(1)>';
    await page.evaluate(
      (name) => fetch(`api/v1/nodes/${encodeURIComponent(name)}/approve`, { method: 'POST', headers: { 'x-piccolo-csrf': '1' } }),
      evil,
    );
    await page.route('**/api/v1/audit?*', (route) => route.continue({ url: route.request().url().replace(/limit=\d+/, 'limit=5') }));
    await at(page, 'audit');
    await page.locator('main tbody tr').nth(4).waitFor();
    check((await page.locator('main tbody tr').count()) === 5, 'a page of the log');
    await button(page, 'Load older').click();
    await page.locator('main tbody tr').nth(9).waitFor();
    check((await page.locator('main tbody tr', { hasText: 'GetSession' }).count()) === 0, 'who only opens the page has tried nothing');
    await page.getByLabel('Only what was refused').check();
    await page.locator('main tbody tr', { hasNotText: 'refused' }).first().waitFor({ state: 'detached' });
    await page.locator('main tbody tr', { hasText: 'approve' }).or(page.locator('main tbody tr', { hasText: evil })).first().waitFor();
    await page.unroute('**/api/v1/audit?*');
    await at(page, 'master');
    await at(page, 'audit');
    for (const call of ['SetMaintenance', 'CreateToken', 'RemoveNode', 'CreateApiToken', 'RevokeUser', evil]) await page.locator('tr', { hasText: call }).first().waitFor();
    check((await page.locator('main img').count()) === 0, 'it became no element');
  });

  await step('the settings in force are told with who said so', async () => {
    await at(page, 'master');
    const setting = (key) => page.locator(`tr[data-setting="${key}"]`);
    await setting('approval').filter({ hasText: 'manual' }).filter({ hasText: '.yaml:' }).waitFor();
    await setting('limits.events').filter({ hasText: 'default' }).waitFor();
    await page.getByLabel('Only what somebody said').check();
    await setting('limits.events').waitFor({ state: 'detached' });
    await accessible(page, 'settings');
    await picture(page, 'settings');
  });

  await step('the master goes and comes, and the page says so', async () => {
    await at(page, '');
    await ask('stop', 'master');
    await page.locator('.banner.bad').waitFor();
    await accessible(page, 'a lost master');
    await button(page, 'Sign out').click();
    await page.locator('.toast.bad', { hasText: 'Not signed out' }).waitFor();
    check((await page.locator('.bar').count()) === 1, 'whose session is good is not shown as signed out');
    await picture(page, 'master-lost');
    await ask('start', 'master');
    await page.locator('.toast.ok', { hasText: 'restarted' }).waitFor({ timeout: 30_000 });
    await page.locator('.line.live').waitFor();
    for (const name of ['node-1', 'node-2', 'node-3']) await hasStatus(page, name, 'Ready');
  });

  await step('who signs out is out', async () => {
    await button(page, 'Sign out').click();
    await page.locator('.login').waitFor();
    await page.reload();
    await page.locator('.login').waitFor();
  });
  check(problems.length === 0, 'the browser had nothing to complain about', problems.join('\n'));

  await step('a link of piccolo console opens the console, once', async () => {
    const address = await ask('piccolo', 'console');
    const first = await open(browser);
    await first.page.goto(address);
    await hasStatus(first.page, 'node-1', 'Ready');
    check(!first.page.url().includes('code='), 'the code is gone from the address', first.page.url());
    check(first.problems.length === 0, 'no complaint', first.problems.join('\n'));
    await first.context.close();
    const second = await open(browser);
    await second.page.goto(address);
    await second.page.locator('.login [role=alert]').waitFor();
    await second.context.close();
    const third = await open(browser);
    const detail = 'this address is locked out for 60 s';
    await third.page.route('**/api/v1/session', (route) =>
      route.request().method() === 'POST' ? route.fulfill({ status: 429, contentType: 'application/problem+json', body: JSON.stringify({ status: 429, title: 'TooManyRequests', detail }) }) : route.continue(),
    );
    await third.page.goto(address);
    await third.page.locator('.login [role=alert]', { hasText: detail }).waitFor();
    await third.context.close();
  });

  await step('a viewer sees no button that is not for viewers', async () => {
    const viewer = await open(browser);
    await signIn(viewer.page, viewerToken);
    await hasStatus(viewer.page, 'node-1', 'Ready');
    const links = await viewer.page.locator('.bar nav a').allTextContents();
    check(!links.some((link) => /Audit|Add a node|Access/.test(link)), 'no page for administrators', links.join());
    await at(viewer.page, 'nodes/node-1');
    await viewer.page.locator('.panels').waitFor();
    check((await viewer.page.locator('.buttons button').count()) === 0, 'no action');
    check((await sources(viewer.page).count()) === 0, 'no log of a container, which may hold secrets');
    await at(viewer.page, 'alerts');
    await viewer.page.locator('.chip', { hasText: 'resolved' }).click();
    await viewer.page.locator('tr[data-state="resolved"]').first().waitFor();
    check((await viewer.page.locator('tbody button').count()) === 0, 'nothing to do about alerts');
    check((await viewer.page.locator('.head nav a', { hasText: 'Channels' }).count()) === 0, 'channels are not for viewers');
    await at(viewer.page, 'alerts/rules');
    await viewer.page.locator('tr[data-rule=NodeNotReady]').waitFor();
    check((await viewer.page.locator('main button').count()) === 0, 'no rule to change');
    await at(viewer.page, 'logs');
    const all = await sources(viewer.page).locator('label').allTextContents();
    check(all.join() === 'node-1,node-2,node-3', 'logs of agents, and of nothing else', all.join());
    check((await viewer.page.getByLabel('Units of systemd').count()) === 0, 'no log of a unit');
    await at(viewer.page, 'master');
    await viewer.page.locator('.facts').first().waitFor();
    check((await viewer.page.locator('[data-setting]').count()) === 0, 'no settings');
    check(viewer.problems.length === 0, 'no complaint', viewer.problems.join('\n'));
    await viewer.context.close();
  });

  await step('it fits a phone', async () => {
    const phone = await open(browser, { viewport: { width: 375, height: 800 }, hasTouch: true, isMobile: true, locale: 'ko-KR', colorScheme: 'dark' });
    await signIn(phone.page, admin);
    await hasStatus(phone.page, 'node-1', 'Ready');
    // of every table and every event, cells and buttons lie on the screen
    const beyond = () => {
      const parts = [...document.querySelectorAll('.rows td, .rows tbody th, .rows button, .panel p, .copy button, .event time, .event .text')];
      return parts.filter((part) => part.getBoundingClientRect().right > innerWidth || part.getBoundingClientRect().width === 0).map(({ outerHTML }) => outerHTML.slice(0, 120));
    };
    for (const [name, path] of Object.entries(PAGES)) {
      await at(phone.page, path);
      await phone.page.locator('main h1').waitFor();
      const wide = await phone.page.evaluate(() => document.documentElement.scrollWidth);
      check(wide <= 375, `${name} needs no scrolling to the side`, String(wide));
      if (['nodes', 'rules', 'audit', 'past'].includes(name)) await phone.page.locator('.rows tbody tr').first().waitFor();
      if (name === 'events') await phone.page.locator('.event .text').first().waitFor();
      if (name === 'logs') {
        await phone.page.locator('.choices label').first().waitFor();
        const small = () => [...document.querySelectorAll('label:has(input[type=checkbox])')].map((one) => one.getBoundingClientRect()).filter(({ height, left, right }) => height < 44 || left < 0 || right > innerWidth).length;
        check((await phone.page.evaluate(small)) === 0, 'what is chosen with a finger is high enough, and on the screen');
      }
      check(await phone.page.locator('.who span').isVisible(), 'who is signed in is said');
      const out = await phone.page.evaluate(beyond);
      check(out.length === 0, `all of the rows of ${name} is in sight`, out.join('\n'));
      if (['rules', 'audit', 'events', 'node'].includes(name)) await accessible(phone.page, `${name} on a phone`);
      await picture(phone.page, `phone-${name}`);
    }
    await at(phone.page, 'join');
    await phone.page.locator('form.row input').fill('board-7');
    await phone.page.locator('form.row button').click();
    await phone.page.locator('.copy').nth(2).waitFor();
    check((await phone.page.evaluate(beyond)).length === 0, 'what a board needs is in sight, with its buttons', (await phone.page.evaluate(beyond)).join('\n'));
    await picture(phone.page, 'phone-joining');
    await accessible(phone.page, 'a phone');
    await phone.context.close();
  });

  await step('a browser whose clock is an hour slow shows the master’s time, and says so', async () => {
    const slow = await open(browser);
    await slow.page.clock.install({ time: Date.now() - 3_600_000 });
    await signIn(slow.page, viewerToken);
    await slow.page.locator('.banner.warn', { hasText: '1h' }).or(slow.page.locator('.banner.warn', { hasText: '59m' })).waitFor();
    await at(slow.page, 'nodes/node-3');
    await slow.page.locator('.facts dd', { hasText: /^\d+m?\d*s ago$/ }).first().waitFor();
    await slow.context.close();
  });

  await step('a session whose token is revoked ends, while one looks', async () => {
    const revoked = await open(browser);
    await signIn(revoked.page, viewerToken);
    await hasStatus(revoked.page, 'node-1', 'Ready');
    await ask('piccolo', 'api-token', 'revoke', 'viewer-in-a-story');
    await revoked.page.locator('.login .note.warn').waitFor({ timeout: 40_000 });
    check((await revoked.page.locator('[data-node]').count()) === 0, 'nothing of the cluster is left');
    await revoked.context.close();
  });
});
