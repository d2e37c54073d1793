#!/usr/bin/env node
// Runs the binary of this machine's platform, from the optional dependency that holds it.
'use strict';
const { spawn } = require('node:child_process');

const name = `@postern/${process.platform}-${process.arch}`;
const windows = process.platform === 'win32';

let binary;
try {
  binary = require.resolve(`${name}/bin/postern${windows ? '.exe' : ''}`);
} catch {
  console.error(`postern: the package ${name} is not installed. Install postern again, with optional dependencies and on this machine. If npm has no such package, build Postern with Go.`);
  process.exit(1);
}

const child = spawn(binary, process.argv.slice(2), { stdio: 'inherit' });
child.on('error', (error) => {
  console.error(`postern: ${binary} does not run: ${error.message}`);
  process.exit(1);
});
child.on('exit', (code) => process.exit(code ?? 1));

// The binary decides when to end, and this process after it. A terminal sends Ctrl-C to
// both of them; other signals, and those of scripts, are for this process alone.
process.on('SIGINT', () => {
  if (!windows && !process.stdin.isTTY) child.kill('SIGINT');
});
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));

// npm runs this process in a shell, and a signal to npm or npx may end that shell alone.
if (process.env.npm_command) {
  const shell = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === shell) return;
    clearInterval(watch);
    child.kill('SIGTERM');
  }, 250);
}
