// Runs on any Node from 20 on, before Node 24 is there: installs what package-lock.json names, if
// it is not.
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';

const lock = 'package-lock.json';
const marker = 'node_modules/.package-lock.json'; // npm writes it last

const isInstalled = existsSync(marker) && statSync(marker).mtimeMs >= statSync(lock).mtimeMs;
if (!isInstalled) {
  console.log('installing packages (once, about a minute)');
  const npm = process.env.npm_execpath;
  const command = npm === undefined ? ['npm'] : [process.execPath, npm];
  const [program = 'npm', ...first] = command;
  const { status } = spawnSync(
    program,
    [...first, 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
    { stdio: 'inherit', env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' } },
  );
  if (status !== 0) {
    console.error('npm ci failed; see above. Is the package registry reachable?');
    process.exit(status ?? 1);
  }
}
