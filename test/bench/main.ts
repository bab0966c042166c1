import { readdirSync } from 'node:fs';
import { availableParallelism, homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Benchmark } from './benchmark.ts';
import { describeRun, formatResult, record } from './report.ts';

/**
 * `npm run bench -- <name>... [--quick] [--rounds N] [--threads N] [--record] [--option X]...`:
 * measures, prints a table and, last, one line of JSON.
 */
async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      threads: { type: 'string' },
      record: { type: 'boolean', default: false },
      option: { type: 'string', multiple: true, default: [] },
    },
    allowPositionals: true,
  });
  const known = readdirSync(import.meta.dirname)
    .filter((file) => file.endsWith('.bench.ts'))
    .map((file) => file.slice(0, -'.bench.ts'.length));
  const unknown = positionals.find((name) => !known.includes(name));
  if (positionals.length === 0 || unknown !== undefined) {
    const fault = unknown === undefined ? 'which benchmark' : `no benchmark is called ${unknown}`;
    throw new Error(`${fault}; there are ${known.join(', ')}`);
  }
  const command = `npm run bench -- ${process.argv.slice(2).join(' ')}`;
  for (const name of positionals) {
    const benchmark: Benchmark = await import(`./${name}.bench.ts`);
    const result = await benchmark.run({
      isQuick: values.quick,
      rounds: values.rounds === undefined ? null : toCount('rounds', values.rounds),
      numThreads: toCount('threads', values.threads ?? `${Math.min(availableParallelism(), 16)}`),
      cacheDir: resolve(process.env.CACHE_DIR ?? join(homedir(), '.cache/rivulet')),
      rest: values.option,
    });
    const run = describeRun(command);
    const text = formatResult(run, result);
    console.log(`\n## ${name}\n\n${text}\n`);
    if (values.record) record(name, text);
    console.log(JSON.stringify({ benchmark: name, ...run, ...result }));
  }
}

function toCount(name: string, text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count > 0) return count;
  throw new Error(`--${name} must be a positive whole number, not ${text}`);
}

// By way of exit(), where children are ended.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
