// Bundles the phones' client and its workers where dev mode finds them. npm ci runs it.
import { cp, mkdir, rm } from 'node:fs/promises';

import { build } from 'esbuild';

const out = 'node_modules/.phone';
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await build({
  entryPoints: ['phone.mjs'],
  outfile: `${out}/phone.js`,
  bundle: true,
  format: 'esm',
  target: 'es2022',
  alias: { '@postern/connector': '../../service/connector/src/index.ts' },
  nodePaths: ['node_modules'] // for the connector, which is outside of this folder
});
await cp('node_modules/@powersync/web/dist/worker', `${out}/worker`, { recursive: true });
