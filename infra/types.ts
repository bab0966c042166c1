import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';

/**
 * `npm run types`: checks each room under its own settings, so that what a room may not touch is
 * absent.
 */
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
const rooms = ['shared', 'edge', 'edge/tsconfig.workers.json', 'worker', '.'];

async function check(room: string): Promise<boolean> {
  const child = spawn(process.execPath, [tsc, '-p', room], { stdio: 'inherit' });
  const [status] = await once(child, 'exit');
  return status === 0;
}

const results = await Promise.all(rooms.map(check));
process.exit(results.every(Boolean) ? 0 : 1);
