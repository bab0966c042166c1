import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { describeModel, toSize } from './hub/describe-model.ts';
import { pullModel } from './hub/pull-model.ts';

const USAGE = `npm run model -- pull <owner/name> [--revision main] [--to DIR]
npm run model -- inspect <DIR>`;

/** A line about a download that takes longer, so often. */
const TOLD_EVERY_MS = 5000;

/** `npm run model`: fetches a model from a hub, or shows what a directory holds. */
async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { revision: { type: 'string', default: 'main' }, to: { type: 'string' } },
  });
  const [command, name, ...others] = positionals;
  if (name === undefined || others.length > 0) throw new Error(USAGE);
  if (command === 'inspect') return console.log(describeModel(resolve(name)).join('\n'));
  if (command !== 'pull') throw new Error(USAGE);

  const cacheDir = process.env.CACHE_DIR ?? join(homedir(), '.cache/rivulet');
  const directory = resolve(values.to ?? join(cacheDir, 'models', name));
  await pull(name, values.revision, directory);
  console.log(`\n${describeModel(directory).join('\n')}`);
  console.log(`\nMODEL_DIR=${directory} npm start\n`);
}

async function pull(id: string, revision: string, directory: string): Promise<void> {
  const endpoint = (process.env.HF_ENDPOINT ?? 'https://huggingface.co').replace(/\/+$/, '');
  let toldMs = Date.now();
  await pullModel(
    { endpoint, token: process.env.HF_TOKEN ?? null },
    {
      id,
      revision,
      directory,
      onFetched: ({ name, numBytes }) => console.log(`${name.padEnd(34)} ${toSize(numBytes)}`),
      onProgress({ name, numBytes }, numFetched) {
        if (Date.now() - toldMs < TOLD_EVERY_MS) return;
        toldMs = Date.now();
        const percent = Math.floor((100 * numFetched) / numBytes);
        console.log(`${name.padEnd(34)} ${percent} % of ${toSize(numBytes)}`);
      },
    },
  );
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
