import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** `npm test`: everything that gates a change, in the order in which it is cheapest to fail. */
const require = createRequire(import.meta.url);

function binOf(name: string, script: string): string {
  return join(dirname(require.resolve(`${name}/package.json`)), script);
}

const vitest = binOf('vitest', 'vitest.mjs');
const stages = [
  ['types', ['infra/types.ts']],
  ['lint', [binOf('@biomejs/biome', 'bin/biome'), 'check', '.']],
  ['unit', [vitest, 'run', '--project', 'unit']],
  ['integration', [vitest, 'run', '--project', 'integration']],
  ['e2e', [vitest, 'run', '--project', 'e2e']],
  ['chaos', ['test/chaos/main.ts', '--kills', '60', '--jobs', '20', '--lines', '40']],
] as const;

/** A stage that hangs is a stage that failed. */
const STAGE_LIMIT_MS = 20 * 60_000;

const failed: string[] = [];
for (const [name, command] of stages) {
  const startMs = performance.now();
  console.log(`\n== ${name}`);
  const limit = { timeout: STAGE_LIMIT_MS, killSignal: 'SIGKILL' } as const;
  const { status } = spawnSync(process.execPath, command, { stdio: 'inherit', ...limit });
  if (status === null) console.error(`${name} was ended after ${seconds(startMs)} s`);
  if (status !== 0) failed.push(name);
  console.log(`== ${name} ${status === 0 ? 'ok' : 'FAILED'}, ${seconds(startMs)} s`);
}

function seconds(startMs: number): string {
  return ((performance.now() - startMs) / 1000).toFixed(0);
}

if (failed.length > 0) console.error(`\nfailed: ${failed.join(', ')}`);
console.log(`${stages.length - failed.length} passed, ${failed.length} failed`);
process.exit(failed.length === 0 ? 0 : 1);
