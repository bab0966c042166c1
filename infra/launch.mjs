// Runs a script of ours on any Node from 20 on: installs the packages, then hands over to the Node
// 24 among them. npm's own hooks cannot do this: `ignore-scripts` turns them off.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import './install.mjs';

const [script = '', ...args] = process.argv.slice(2);
const isNew = (version) => Number(version.split('.')[0]) >= 24;

if (isNew(process.versions.node)) {
  process.argv.splice(1, 1);
  await import(pathToFileURL(resolve(script)).href);
} else {
  const node = 'node_modules/.bin/node';
  if (!existsSync(node)) {
    console.error(
      `Node 24 or later is needed here; this is ${process.version}. See https://nodejs.org`,
    );
    process.exit(1);
  }
  const child = spawn(node, [script, ...args], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  child.on('exit', (status) => process.exit(status ?? 1));
}
