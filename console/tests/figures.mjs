// How soon the console is there, and how soon it shows a change: measured by a browser against a real cluster
// (crates/bench/src/groups/console.rs, which starts this). Figures go out as lines `= NAME VALUE`.

import { URL, ask, check, launch, open, signIn } from './browser.mjs';

const RUNS = Number(process.env.PICCOLO_RUNS);

const tell = (name, value) => process.stdout.write(`= ${name} ${value}\n`);
const drawn = (page, board, container, tone) => page.locator(`[data-node="${board}"] .container.${tone}`, { hasText: container });

/** A browser that has never been there. */
async function cold() {
  const browser = await launch();
  try {
    const { page } = await open(browser);
    await page.goto(URL);
    await page.locator('.login').waitFor();
    await page.waitForFunction(() => performance.getEntriesByName('first-contentful-paint').length > 0);
    const { bytes, paint } = await page.evaluate(() => ({
      bytes: [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')].reduce((sum, { transferSize }) => sum + transferSize, 0),
      paint: performance.getEntriesByName('first-contentful-paint')[0].startTime,
    }));
    check(bytes > 1024, 'something was transferred', String(bytes));
    tell('paint', paint);
    tell('bytes', bytes);
  } finally {
    await browser.close();
  }
}

/** When the browser has put on the screen what makes `tone` of a container; by the wall clock, ms. */
function until(page, board, container, tone) {
  return page.evaluate(
    ([board, container, tone]) =>
      new Promise((done) => {
        const is = () => [...document.querySelectorAll(`[data-node="${board}"] .container.${tone}`)].some(({ textContent }) => textContent.includes(container));
        const look = () => {
          if (!is()) return;
          observer.disconnect();
          // the first runs before the frame that has it is painted, the second after
          requestAnimationFrame(() => requestAnimationFrame(() => done(performance.timeOrigin + performance.now())));
        };
        const observer = new MutationObserver(look);
        observer.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
        look();
      }),
    [board, container, tone],
  );
}

const [, , token, board, container] = process.argv;
for (let run = 0; run < RUNS; run += 1) await cold();

const browser = await launch();
try {
  const { page } = await open(browser);
  await signIn(page, token);
  await drawn(page, board, container, 'ok').waitFor();
  for (let run = 0; run < RUNS; run += 1) {
    const seen = until(page, board, container, 'bad');
    const killed = Number(await ask('kill', container));
    tell('drawn', (await seen) - killed);
    await ask('start', container);
    await drawn(page, board, container, 'ok').waitFor();
  }
} finally {
  await browser.close();
  process.stdin.destroy();
}
