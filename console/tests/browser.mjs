// A browser for the stories, and what they have in common. The cluster belongs to whoever started us: what shall happen to it
// is asked for by a line on stdout, and done when a line comes back (tests/tests/console.rs).

import { mkdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];
export const URL = process.env.PICCOLO_CONSOLE;
export const PICTURES = process.env.PICCOLO_PICTURES;
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has something done to the cluster; its answer, once it is done. */
export async function ask(...words) {
  process.stdout.write(`> ${words.join(' ')}\n`);
  const { value, done } = await answers.next();
  if (done || value.startsWith('failed')) throw new Error(`${words[0]}: ${value}`);
  return value;
}

export function check(holds, sentence, told = '') {
  if (!holds) throw new Error(`not so: ${sentence} ${told}`);
}

let passed = 0;

export async function step(sentence, act) {
  try {
    await act();
    passed += 1;
  } catch (error) {
    error.message = `${sentence}: ${error.message}`;
    throw error;
  }
}

/** Everything that a page must not do is an error: throw, log one, break the policy, ask elsewhere. */
export async function open(browser, settings = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1360, height: 820 }, locale: 'en-GB', colorScheme: 'light', ...settings });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const problems = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    // the browser itself logs each answer that is no success, and each connection that breaks
    if (message.type() === 'error' && !/Failed to load resource|net::ERR_/.test(message.text())) problems.push(message.text());
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(URL) && !/^(data|blob):/.test(request.url())) problems.push(`asks ${request.url()}`);
  });
  return { context, page, problems };
}

export async function signIn(page, token) {
  await page.goto(URL);
  await page.getByRole('textbox').or(page.locator('input[name=token]')).first().fill(token);
  await page.locator('form button[type=submit]').click();
  await page.locator('.bar').waitFor();
}

/** WCAG 2.2 AA, as far as a program can tell. */
export async function accessible(page, where) {
  await page.evaluate(AXE);
  // what fades in has not its colours yet
  await page.evaluate(() => {
    const ending = document.getAnimations().filter((animation) => Number.isFinite(animation.effect.getComputedTiming().endTime));
    return Promise.all(ending.map((animation) => animation.finished.catch(() => undefined)));
  });
  const { violations } = await page.evaluate(() =>
    window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }),
  );
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html.slice(0, 160)} ${failureSummary}`).join('; ')}`);
  check(violations.length === 0, `axe finds nothing on ${where}`, told.join('\n'));
}

export async function picture(page, name) {
  await page.screenshot({ path: `${PICTURES}/${name}.png` });
}

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
}

export async function stories(tell) {
  mkdirSync(PICTURES, { recursive: true });
  const browser = await launch();
  try {
    await tell(browser);
    process.stdout.write(`${passed} steps\n`);
  } catch (error) {
    for (const context of browser.contexts()) for (const page of context.pages()) await picture(page, 'failed').catch(() => undefined);
    process.stderr.write(`${error.stack}\n`);
    process.exitCode = 1;
  } finally {
    await browser.close();
    process.stdin.destroy();
  }
}
