// A headless Chromium, and the server of an app that is bundled from one of this
// folder's modules. CHROMIUM says where the browser is.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const types = { '.js': 'text/javascript', '.wasm': 'application/wasm', '.html': 'text/html' };
const workers = 'node_modules/@powersync/web/dist/worker';

/** @param {string} source of the app's module */
export async function openBrowser(source) {
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: import.meta.dirname },
    bundle: true,
    format: 'esm',
    target: 'es2022',
    write: false
  });
  const server = createServer(async ({ url }, response) => {
    const { pathname } = new URL(url, 'http://app');
    try {
      const body = pathname === '/'
        ? '<!doctype html><script type="module" src="/app.js"></script>'
        : pathname === '/app.js'
          ? outputFiles[0].text
          : await readFile(join(workers, pathname.replace('/worker/', '')));
      response.setHeader('Content-Type', types[extname(pathname)] ?? 'text/html');
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--no-sandbox'] // which root, as in CI's container, needs
  });
  const context = await browser.newContext();
  return {
    /** Opens a tab with the app. All tabs share their storage. */
    async tab() {
      const page = await context.newPage();
      page.setDefaultTimeout(60_000);
      page.on('console', (message) => console.error(message.text()));
      page.on('pageerror', (error) => console.error(error));
      await page.goto(`http://127.0.0.1:${server.address().port}/`);
      await page.waitForFunction('window.ready');
      return page;
    },
    async close() {
      await browser.close();
      server.close();
    }
  };
}
