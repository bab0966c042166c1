import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';

/** `npm run types`: checks each room under its own settings, so that what a room may not touch is absent. */
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
const rooms = ['shared', 'edge', 'worker', '.'];

let isClean = true;
for (const room of rooms) {
  const { status } = spawnSync(process.execPath, [tsc, '-p', room], { stdio: 'inherit' });
  isClean &&= status === 0;
}
process.exit(isClean ? 0 : 1);
